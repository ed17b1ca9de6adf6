"""Those who use the server in soak.py: each is a function of the soak and a random generator that does one thing, checks what
it gets, and returns a word for the statistics. They raise Failure where the server did wrong."""
import json
import random
import socket
import threading
import time

from soak_client import Failure, Stream, check, drain, raw_request, reset

WORDS = ("rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "why", "how", "the", "of", "a", "is", "are",
         "warm", "old", "Größe", "日本", "🙂", "1999", "\"quoted\"", "new\nline", "tell", "me", "about", "story", "short")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
          "required": ["n"]}
CHAT, TEXT, LLAMA = "/v1/chat/completions", "/v1/completions", "/completion"


def words(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def messages(rng, soak):
    """Mostly short, sometimes as long as the context lets them be."""
    n = rng.randint(3, 12) if rng.random() < 0.8 else rng.randint(12, soak.max_words)
    result = [{"role": "user", "content": words(rng, n)}]
    if rng.random() < 0.3:
        result.insert(0, {"role": "system", "content": "You answer in few words."})
    if rng.random() < 0.2:
        result += [{"role": "assistant", "content": words(rng, 5)}, {"role": "user", "content": words(rng, 4)}]
    return result


def weights(rng, soak):
    chosen = [name for name in soak.arms if rng.random() < 0.8]
    return {name: rng.choice((0, 0, 0.25, 0.5, 1, 1.5, -0.5)) for name in chosen}


def chat_body(rng, soak, stream=False):
    body = {"messages": messages(rng, soak), "max_tokens": rng.randint(1, soak.max_tokens), "seed": rng.randint(0, 1 << 30),
            "temperature": rng.choice((0, 0.7, 1, 1.5))}
    if rng.random() < 0.8:
        body["arms"] = weights(rng, soak)
    if rng.random() < 0.3:
        body |= {"top_p": 0.9, "top_k": 30, "min_p": 0.02}
    if rng.random() < 0.3:
        body |= {"logprobs": True, "top_logprobs": rng.randint(0, 5)}
    if rng.random() < 0.2:
        body["stop"] = rng.choice(("e", ["zzz", "\n\n"]))
    if rng.random() < 0.1:
        body["n"] = 2
    if rng.random() < 0.2:
        body |= rng.choice(({"response_format": {"type": "json_object"}}, {"grammar": "root ::= [a-z ]+"}, {"min_entropy": 0.5},
                            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
                            {"arm_schedules": {soak.arms[0]: [[0, 1], [4, 0]]}}, {"logit_bias": {"20": -100, "21": 3.5}}))
    if stream:
        body["stream"] = True
        if rng.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    return body


def check_usage(usage, body):
    n = body.get("n", 1) * body["max_tokens"]
    check(usage["prompt_tokens"] > 0 and 0 <= usage["completion_tokens"] <= n, f"usage {usage} for max_tokens {n}")
    check(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], f"usage does not add up: {usage}")


def outcome(reply):
    return "busy" if reply.status == 503 else str(reply.status)


# ---- those who behave ----

def chat(soak, rng):
    body = chat_body(rng, soak)
    reply = soak.target.ask("POST", CHAT, body, (200, 503))
    if reply.status == 200:
        r = reply.json()
        check(len(r["choices"]) == body.get("n", 1), f"{len(r['choices'])} choices")
        check(all(c["finish_reason"] in ("stop", "length") for c in r["choices"]), f"finish reasons in {r['choices']}")
        check(all(isinstance(c["message"]["content"], str) for c in r["choices"]), "content that is no text")
        check_usage(r["usage"], body)
        for c in r["choices"] if body.get("logprobs") and "stop" not in body else ():
            spelt = b"".join(bytes(t["bytes"]) for t in c["logprobs"]["content"]).decode(errors="ignore")
            content = c["message"]["content"]
            check(spelt == content.replace("\ufffd", ""), f"{spelt!r} are the tokens of {content!r}")
    return outcome(reply)


def completions(soak, rng):
    body = {"prompt": words(rng, rng.randint(2, 10)), "max_tokens": rng.randint(1, soak.max_tokens), "arms": weights(rng, soak)}
    kind = rng.random()
    if kind < 0.3:
        body |= {"echo": True, "logprobs": 2}
    elif kind < 0.4:
        body["prompt"] = [rng.randint(3, 250) for _ in range(10)]
    reply = soak.target.ask("POST", TEXT, body, (200, 503))
    if reply.status == 200:
        check_usage(reply.json()["usage"], body)
        texts = [c["text"] for c in reply.json()["choices"]]
        check(len(texts) == 1 and isinstance(texts[0], str), f"texts {texts}")
        check(not body.get("echo") or texts[0].startswith(body["prompt"]), f"no echo in {texts[0]!r}")
    return outcome(reply)


def llama_completion(soak, rng):
    body = {"prompt": words(rng, rng.randint(2, 10)), "n_predict": rng.randint(1, soak.max_tokens), "temperature": 0}
    reply = soak.target.ask("POST", LLAMA, body, (200, 503))
    check(reply.status != 200 or isinstance(reply.json()["content"], str), "no content")
    return outcome(reply)


def read_stream(stream, body):
    for _ in stream:
        pass
    if stream.status == 503:
        return "busy"
    check(stream.status == 200, f"a stream with status {stream.status}")
    check(not stream.error, f"a stream with an error: {stream.error}")
    check(set(stream.finish) == set(range(body.get("n", 1))), f"choices that ended: {stream.finish}")
    check(set(stream.finish.values()) <= {"stop", "length"}, f"finish reasons {stream.finish}")
    if "stream_options" in body:
        check(stream.usage, "include_usage without usage")
        check_usage(stream.usage, body)
    return "200"


def chat_stream(soak, rng):
    body = chat_body(rng, soak, stream=True)
    stream = Stream(soak.target, CHAT, body)
    try:
        return read_stream(stream, body)
    finally:
        stream.close()


def slider(soak, rng):
    """Moves the weights of an answer while it is being written, also past its end."""
    body = chat_body(rng, soak, stream=True) | {"max_tokens": soak.max_tokens}
    body.pop("n", None)
    stream = Stream(soak.target, CHAT, body)
    moved = 0
    try:
        for chunk in stream:
            if stream.id and rng.random() < 0.3:
                new = weights(rng, soak)
                reply = soak.target.ask("POST", f"/v1/requests/{stream.id}/arms", new, (200, 404))
                if reply.status == 200:
                    moved += 1
                    got = reply.json()
                    check(got["id"] == stream.id, f"weights of {got['id']}")
                    check(all(abs(got["arms"][k] - v) < 1e-5 for k, v in new.items()), f"{got['arms']} after {new}")
        if stream.status == 503:
            return "busy"
        check(stream.complete and not stream.error, f"no end: {stream.error}")
        soak.target.ask("POST", f"/v1/requests/{stream.id}/arms", {}, (200, 404))
        return "moved" if moved else "too late"
    finally:
        stream.close()


def defaults(soak, rng):
    """New default weights; other requests run meanwhile."""
    new = [{"name": name, "weight": rng.choice((0.5, 1, 0))} for name in soak.arms]
    reply = soak.target.ask("POST", "/arms", new, (200,))
    check({a["name"] for a in reply.json()} == set(soak.arms), f"ARMs {reply.body[:200]!r}")
    return "200"


def score(soak, rng):
    body = {"messages": [{"role": "user", "content": words(rng, 6)}], "response": " " + words(rng, rng.randint(1, 8))}
    reply = soak.target.ask("POST", "/v1/score", body, (200, 503))
    if reply.status == 200:
        r = reply.json()
        check(r["tokens"] and set(r["rewards"]) == set(soak.arms), f"a score without rewards: {reply.body[:200]!r}")
        check(all(t["base"] <= 1e-4 for t in r["tokens"]), "a log-probability above 0")
    return outcome(reply)


def look(soak, rng):
    """Small things, over one connection that is kept."""
    connection = soak.target.connect()
    try:
        for _ in range(rng.randint(1, 5)):
            path = rng.choice(("/health", "/v1/health", "/metrics", "/slots", "/props", "/v1/models", "/arms", "/"))
            soak.target.ask("GET", path, None, (200,), connection)
        soak.target.ask("POST", "/tokenize", {"content": words(rng, 9)}, (200,), connection)
    finally:
        connection.close()
    return "200"


# ---- those who leave ----

def leave_stream(soak, rng):
    body = chat_body(rng, soak, stream=True) | {"max_tokens": soak.max_tokens}
    s = soak.target.socket()
    s.sendall(raw_request(CHAT, json.dumps(body).encode()))
    try:
        for _ in range(rng.randint(1, 4)):
            s.recv(rng.choice((1, 100, 1000)))
    except OSError:
        pass
    reset(s) if rng.random() < 0.5 else s.close()
    return "left"


def leave_prompt(soak, rng):
    """Goes before there can be a first token."""
    body = chat_body(rng, soak, stream=rng.random() < 0.5)
    body["messages"] = [{"role": "user", "content": words(rng, soak.max_words)}]
    s = soak.target.socket()
    s.sendall(raw_request(CHAT, json.dumps(body).encode()))
    time.sleep(rng.choice((0, 0.02, 0.2, 0.5)))
    reset(s) if rng.random() < 0.5 else s.close()
    return "left"


def leave_body(soak, rng):
    """Announces a body, sends a part of it and goes, or only stops sending (shutdown) and waits for an answer."""
    body = json.dumps(chat_body(rng, soak)).encode()
    s = soak.target.socket()
    s.sendall(raw_request(CHAT, body[:rng.randint(0, len(body) - 1)], len(body)))
    if rng.random() < 0.5:
        s.shutdown(socket.SHUT_WR)
        got = drain(s, soak.idle_seconds + 60)
        check(got is not None, "half a body, then the end: the server keeps the connection")
        check(not got.startswith(b"HTTP/1.1 200"), "200 for half a body")
    reset(s) if rng.random() < 0.5 else s.close()
    return "left"


def slow_reader(soak, rng):
    """Takes a few bytes at a time out of a small buffer; then all the rest, or goes."""
    body = chat_body(rng, soak, stream=True) | {"max_tokens": soak.max_tokens, "logprobs": True, "top_logprobs": 20}
    s = soak.target.socket(receive_buffer=2048)
    s.sendall(raw_request(CHAT, json.dumps(body).encode()))
    end, n = time.monotonic() + rng.uniform(0, 4), rng.choice((1, 16, 200))
    while time.monotonic() < end:
        try:
            if not s.recv(n):
                break
        except OSError:
            break
        time.sleep(0.05)
    if rng.random() < 0.3:
        reset(s)
        return "left"
    if rng.random() < 0.2:
        s.shutdown(socket.SHUT_WR)
    check(drain(s, 600) is not None, "a stream that does not end")
    s.close()
    return "read"


def half_open(soak, rng):
    """Says nothing, or not enough: the server ends that after its timeout."""
    begun = rng.choice((b"", b"GET", b"GET /health HTTP/1.1\r\nHo", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                        b"Content-Length: 50\r\n\r\n{\"messages\":"))
    s = soak.target.socket()
    s.sendall(begun)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, 1))
        s.close()
        return "left"
    check(drain(s, 3 * soak.idle_seconds + 60) is not None, f"a connection that says only {begun!r} stays open")
    s.close()
    return "ended"


def trickle(soak, rng):
    """A byte of a head now and then: it must be cut off, however alive it looks."""
    s = soak.target.socket()
    start = time.monotonic()
    try:
        for c in b"GET /health HTTP/1.1\r\nX-Slow: " + b"a" * 100000:
            s.sendall(bytes([c]))
            s.settimeout(0.25)
            try:
                if not s.recv(4096):
                    break
            except TimeoutError:
                pass
            check(time.monotonic() - start < 10 * soak.idle_seconds + 60, "a head that trickles in is waited for for ever")
            if rng.random() < 0.05:
                break
    except OSError:
        pass
    s.close()
    return "ended"


# ---- those who send what is none of it ----

def status_of(got, what):
    """The status line of raw bytes; 0 for a connection that was closed without one."""
    check(got is not None, f"{what}: the connection stays open")
    if not got:
        return 0
    check(got.startswith(b"HTTP/1."), f"{what}: answered by {got[:100]!r}")
    return int(got.split(None, 2)[1])


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
GARBAGE = (b"\r\n" * 50 + b"\0" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n",
           b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
           b"GET " + b"/%00%ff%2e%2e" * 20 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
           POST + b"Content-Length: -5\r\n\r\n", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
           POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n")


def garbage(soak, rng):
    s = soak.target.socket()
    try:
        s.sendall(rng.choice((rng.randbytes(rng.randint(1, 20000)), *GARBAGE)))
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    status = status_of(drain(s, 3 * soak.idle_seconds + 60), "garbage")
    check(status == 0 or 400 <= status < 500 or status in (501, 505), f"status {status} for garbage")
    s.close()
    return "refused"


def huge_head(soak, rng):
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    head += (b"X-Big: " + b"a" * rng.choice((70000, 1 << 20)) if rng.random() < 0.5 else
             b"".join(b"X-%d: y\r\n" % i for i in range(rng.choice((3000, 60000))))) + b"\r\n\r\n"
    s = soak.target.socket()
    try:
        s.sendall(head)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it need not read all of it
    status = status_of(drain(s, 3 * soak.idle_seconds + 60), "a huge head")
    check(status in (0, 400, 413, 431, 200), f"status {status} for a huge head")
    s.close()
    return str(status or "closed")


def huge_body(soak, rng):
    """More than --max-body: announced, or in chunks that do not say how many there are."""
    n = soak.max_body + rng.choice((1, 1000, 4 << 20))
    s = soak.target.socket()
    try:
        if rng.random() < 0.5:
            s.sendall(raw_request(CHAT, b"", n))
            for _ in range(n // 65536 + 1):
                s.sendall(b" " * 65536)
        else:
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(n // 65536 + 1):
                s.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            s.sendall(b"0\r\n\r\n")
    except OSError:
        pass
    try:
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    status = status_of(drain(s, 3 * soak.idle_seconds + 60), "a huge body")
    check(status in (0, 413), f"status {status} for a body of more than {soak.max_body} bytes")
    s.close()
    return str(status or "closed")


BAD_BODIES = (b"", b"{", b"[]", b"null", b"{\"messages\":[]}", b"{\"messages\":\"x\"}", b"{\"messages\":[{\"role\":\"user\"}]}",
              b"{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", b"\xff\xfe{}", b"[" * 100000, b"{\"a\":" * 5000,
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"temprature\":1}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"max_tokens\":\"7\"}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"temperature\":1e999}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"arms\":{\"nobody\":1}}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"n\":100000}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"top_logprobs\":3}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"grammar\":\"root ::= (\"}",
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"logit_bias\":{\"x\":1}}")


def bad_request(soak, rng):
    kind = rng.randint(0, 4)
    if kind == 0:
        soak.target.ask(rng.choice(("GET", "DELETE", "PUT")), CHAT, None, (404, 405, 501))
    elif kind == 1:
        soak.target.ask("GET", "/" + words(random.Random(1), 1) * rng.randint(1, 200), None, (404, 414))
    elif kind == 2:
        body = {"messages": [{"role": "user", "content": words(rng, 4 * soak.n_ctx)}]}
        reply = soak.target.ask("POST", CHAT, body, (400, 503))
        check(reply.status == 503 or reply.json()["error"]["type"] == "exceed_context_size_error", f"{reply.body[:200]!r}")
    elif kind == 3:
        soak.target.ask("POST", f"/v1/requests/chatcmpl-{rng.randint(0, 1 << 60):032x}/arms", {soak.arms[0]: 1}, (404,))
    else:
        soak.target.ask("POST", rng.choice((CHAT, CHAT, "/v1/score", "/tokenize", TEXT)), rng.choice(BAD_BODIES), (400,))
    return "refused"


def crowd(soak, rng):
    """More at once than there are slots and places in the queue: each is answered or told to come again."""
    body = {"messages": [{"role": "user", "content": words(rng, 5)}], "max_tokens": 8}
    results = []

    def one():
        try:
            results.append(soak.target.ask("POST", CHAT, body, (200, 503)).status)
        except Failure as e:
            results.append(e)

    threads = [threading.Thread(target=one) for _ in range(soak.n_places + 8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results:
        if isinstance(r, Failure):
            raise r
    return "busy" if 503 in results else "200"


# How often each is chosen.
ACTORS = {chat: 12, chat_stream: 14, slider: 10, completions: 5, llama_completion: 4, defaults: 2, score: 6, look: 10,
          leave_stream: 10, leave_prompt: 8, leave_body: 4, slow_reader: 4, half_open: 3, trickle: 1, garbage: 6, huge_head: 3,
          huge_body: 3, bad_request: 8, crowd: 1}
