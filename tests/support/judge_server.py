"""A chat-completion server whose model names say how it behaves; prints its port. Appends to the file that it is given a line
for each request: {"model", "key", "path", "body"}. GET /quiet answers when no other request is on its way: all that came from
clients which ended since are in the file.

    longer    prefers the longer response, [[C]] if both are as long; log-probabilities where they are asked for
    first     always [[A]]
    words     no verdict and no rating
    both      two verdicts
    odd       [[A]] after characters that JSON can say and a text cannot hold
    rate      [[N]], N being the number of words of the response, which may be more than 10
    flaky     the first attempts of each request are answered by 429, 500, half a body, a closed connection, an empty body
    busy      always 429, "Retry-After: 1"; after: the same, an hour
    slow      answers after a minute; steady: after 100 ms
    down      always 500
    broken    200, and an error instead of a completion; halting: a completion that ended by an error
    wordy     [[A]], cut at max_tokens
    denied    401, and an error that repeats the key, written as by parrot
    paid      as longer, twice; then 402
    guarded   403 for prompts that have the word "forbidden"; else as longer
    parrot    [[A]], and the key, where "\\/" is written for a slash
    picky     400 where log-probabilities are asked for
    strict    400 where "max_tokens" or "temperature" is there; else as choosy
    choosy    400 for prompts that have the word "forbidden"; else as longer, and as rate where a response is to be rated
    late      as choosy; but while there is a file "late" here it answers such a prompt after a minute
    huge      17 MiB
    null      a message without content
    other     a JSON object that is no completion
    moved     a redirect to /elsewhere
"""
import http.server
import json
import math
import os
import re
import sys
import threading
import time

LOCK = threading.Lock()
SEEN = {}
OPEN = threading.Condition()
connections = 0  # open ones, without those of requests that wait for long


def opened(number):
    global connections
    with OPEN:
        connections += number
        OPEN.notify_all()


def part(text, tag):
    found = re.search(f"<{tag}>\n(.*?)\n</{tag}>", text, re.S)
    return found.group(1) if found else ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def complete(self, text, logprobs=None):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if logprobs:
            choice["logprobs"] = {"content": logprobs}
        self.send(200, {"object": "chat.completion", "choices": [choice],
                        "usage": {"prompt_tokens": 100, "completion_tokens": 3}})

    def longer(self, request, text):
        a, b = len(part(text, "response_a")), len(part(text, "response_b"))
        verdict = "A" if a > b else "B" if b > a else "C"
        if not request.get("logprobs"):
            return self.complete(f"[[{verdict}]]")
        sure = {"A": {"A": 0.8, "B": 0.2}, "B": {"A": 0.1, "B": 0.9}, "C": {"C": 1.0}}[verdict]
        top = [{"token": token, "logprob": math.log(p)} for token, p in sure.items()]
        place = {"token": verdict, "logprob": math.log(sure[verdict]), "top_logprobs": top}
        plain = {"logprob": 0.0, "top_logprobs": []}
        return self.complete(f"[[{verdict}]]", [{"token": "[[", **plain}, place, {"token": "]]", **plain}])

    def flaky(self, request, text):
        with LOCK:
            attempt = SEEN[text] = SEEN.get(text, 0) + 1
        if attempt == 1:
            return self.send(429, {"error": {"message": "too many"}}, [("Retry-After", "0")])
        if attempt == 2:
            return self.send(500, b"<html>oops</html>")
        if attempt == 3:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
            return None
        if attempt == 4:
            self.close_connection = True
            return None
        return self.send(200, b"") if attempt == 5 else self.longer(request, text)

    def do_GET(self):
        with OPEN:
            quiet = OPEN.wait_for(lambda: connections == 1, timeout=30)
        self.close_connection = True
        self.send(200 if quiet else 500, b"")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text, model = request["messages"][-1]["content"], request["model"]
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with LOCK, open(sys.argv[1], "a", encoding="utf-8") as log:
            log.write(json.dumps({"model": model, "key": key, "path": self.path, "body": request}) + "\n")
        if self.path != "/v1/chat/completions":
            return self.send(404, {"error": {"message": "no such page"}})
        if model == "strict":
            refused = {"max_tokens", "temperature"} & request.keys()
            if refused:
                return self.send(400, {"error": {"message": f"Unsupported parameter: '{sorted(refused)[0]}'"}})
            model = "choosy"
        assert request.get("temperature", 0) == 0
        if model == "flaky":
            return self.flaky(request, text)
        if model == "steady":
            time.sleep(0.1)
            return self.longer(request, text)
        if model == "picky" and request.get("logprobs"):
            return self.send(400, {"error": {"message": "logprobs are not known here"}})
        if model == "late" and "forbidden" in text and os.path.exists("late"):
            model = "slow"
        if model == "paid":
            with LOCK:
                SEEN[model] = SEEN.get(model, 0) + 1
                if SEEN[model] > 2:
                    return self.send(402, {"error": {"message": "Insufficient Balance"}})
            return self.longer(request, text)
        if model == "guarded":
            flagged = "forbidden" in text
            return self.send(403, {"error": {"message": "flagged"}}) if flagged else self.longer(request, text)
        if model in ("choosy", "late"):
            if "forbidden" in text:
                return self.send(400, {"error": {"message": "not this one"}})
            model = "longer" if "<response_a>" in text else "rate"
        if model in ("picky", "longer"):
            return self.longer(request, text)
        if model == "slow":
            opened(-1)
            time.sleep(60)
            opened(1)
        if model == "broken":
            return self.send(200, {"error": {"message": "the provider is gone", "code": 502}})
        if model in ("wordy", "halting"):
            choice = {"message": {"role": "assistant", "content": "[[A]] as"}, "finish_reason": "length"}
            if model == "halting":
                choice |= {"finish_reason": "error", "error": {"message": "it was lost"}}
            return self.send(200, {"choices": [choice]})
        if model == "parrot":
            reply = {"choices": [{"message": {"role": "assistant", "content": f"{key} [[A]]"}, "finish_reason": "stop"}]}
            return self.send(200, json.dumps(reply).replace("/", "\\/").encode())
        fixed = {"first": "I prefer it: [[A]]", "words": "As a language model, I like 7 of them.", "both": "[[A]], or [[B]]",
                 "odd": "\0 \ud800 \udc00 \U0001f600 [[A]]",
                 "rate": f"[[{len(part(text, 'response').split())}]]", "slow": "[[A]]", "null": None,
                 "huge": "x" * (17 << 20)}
        if model in fixed:
            return self.complete(fixed[model])
        if model in ("busy", "after"):
            return self.send(429, {"error": "later"}, [("Retry-After", "1" if model == "busy" else "3600")])
        if model == "denied":
            error = {"error": {"message": f"Incorrect API key provided: {key}"}}
            return self.send(401, json.dumps(error).replace("/", "\\/").encode())
        if model == "moved":
            return self.send(302, b"", [("Location", "/elsewhere")])
        if model == "other":
            return self.send(200, {"hello": "world"})
        return self.send(500, {"error": {"message": "down"}})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def process_request(self, request, client_address):
        opened(1)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        super().shutdown_request(request)
        opened(-1)

    def handle_error(self, request, client_address):
        pass  # clients that are stopped


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
