"""The client of proxy.sh: talks to nginx by TLS, with http.client alone, which never tries again by itself.

    proxy.py checks       what passes through, one by one
    proxy.py load FILE    8 threads that ask until FILE exists; prints what they got as JSON
"""

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.request

NAME = "genarm.example.org"
PORT = int(os.environ["PROXY_PORT"])
SERVERS = [int(os.environ["PROXY_A"]), int(os.environ["PROXY_B"])]
TLS = ssl.create_default_context(cafile="cert.pem")
KEY = {"Authorization": "Bearer first"}


class Connection(http.client.HTTPSConnection):
    """To the proxy, under its name, which no resolver knows."""

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", PORT), timeout=120)
        self.sock = TLS.wrap_socket(plain, server_hostname=NAME)


def connect():
    return Connection(NAME, context=TLS)


def chat(max_tokens, **fields):
    """A request for an answer of exactly so many tokens: a grammar without an end."""
    messages = [{"role": "user", "content": "How do I bake bread?"}]
    return json.dumps({"messages": messages, "max_tokens": max_tokens, "grammar": "root ::= [ -~] root", **fields})


def ask(method, path, body=None, headers=None, connection=None):
    """Status, headers and text of a reply."""
    c = connection or connect()
    c.request(method, path, body, {**KEY, **(headers or {})})
    reply = c.getresponse()
    return reply.status, reply.headers, reply.read().decode()


def events(reply):
    """The events of a stream, as they come: the text behind "data: "."""
    while line := reply.readline():
        if line.startswith(b"data: "):
            yield line[6:].decode().strip()


def busy():
    """Ids of the answers that the servers give now, by themselves."""
    ids = []
    for port in SERVERS:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/slots", headers=KEY)
        with urllib.request.urlopen(request) as reply:
            ids.append([slot["id_task"] for slot in json.load(reply) if slot["is_processing"]])
    return ids


# ---- what passes through ----


def check(what, holds):
    if not holds:
        print(f"not true: {what}")
        check.failures += 1


check.failures = 0


def check_pages():
    status, headers, text = ask("GET", "/")
    check("the page comes", status == 200 and headers["Content-Type"].startswith("text/html") and "<script" in text)
    check("its policy comes along", "default-src 'none'" in headers["Content-Security-Policy"])
    check("the ARMs come", json.loads(ask("GET", "/arms")[2])[0]["name"] == "kind")
    check("defaults are not changed through the proxy", ask("POST", "/arms", '{"kind": 0}')[0] == 403)
    for path in "/metrics", "/slots":
        check(f"{path} is not for everybody", ask("GET", path)[0] == 404)


def check_answers():
    status, headers, text = ask("POST", "/v1/chat/completions", chat(4), {"X-Request-Id": "through-nginx"})
    check("an answer comes", status == 200 and json.loads(text)["object"] == "chat.completion")
    check("with the id of its request", headers["X-Request-Id"] == "through-nginx")
    check("without a key it does not", ask("POST", "/v1/chat/completions", chat(4), {"Authorization": ""})[0] == 401)
    for origin, expected in (f"https://{NAME}", 200), ("https://elsewhere.example", 403):
        status = ask("POST", "/v1/chat/completions", chat(1), {"Origin": origin})[0]
        check(f"a page of {origin} gets {expected}, not {status}", status == expected)
    check("5 MB are too much", ask("POST", "/v1/chat/completions", " " * 5_000_000)[0] == 413)


def check_streams():
    """Three at once, of which one at least is each server's: their first events come while they run, and weights reach them."""
    replies = []
    for _ in range(3):
        c = connect()
        c.request("POST", "/v1/chat/completions", chat(6000, stream=True), KEY)
        replies.append(c.getresponse())
    streams = [events(reply) for reply in replies]
    ids = [json.loads(next(stream))["id"] for stream in streams]
    running = busy()
    check("first events come before the last", sorted(sum(running, [])) == sorted(ids))
    check("both servers answer", all(running))
    for name in ids:
        status, _, text = ask("POST", f"/v1/requests/{name}/arms", '{"kind": -0.5}')
        check(f"weights reach the server that answers ({status})", status == 200 and json.loads(text)["arms"] == {"kind": -0.5})
    for stream in streams:
        rest = list(stream)
        check("streams end as they should", rest[-1] == "[DONE]" and json.loads(rest[-2])["arms"] == {"kind": -0.5})
    check("an answer that is over has no weights", ask("POST", f"/v1/requests/{ids[0]}/arms", '{"kind": 1}')[0] == 404)


# ---- load ----


class Load:
    def __init__(self, stop):
        self.stop, self.lock = stop, threading.Lock()
        self.counts = {"whole": 0, "streams": 0, "cut": 0, "failed": []}

    def count(self, what, failure=None):
        with self.lock:
            if failure:
                self.counts[what].append(failure)
            else:
                self.counts[what] += 1

    def whole(self, connection, key, n):
        status, _, text = ask("POST", "/v1/chat/completions", chat(n), key, connection)
        if status != 200:
            raise RuntimeError(f"{status} {text[:200]}")
        json.loads(text)["choices"][0]["message"]
        self.count("whole")

    def stream(self, connection, key, n):
        connection.request("POST", "/v1/chat/completions", chat(n, stream=True), {**KEY, **key})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {reply.read().decode()[:200]}")
        try:
            got = list(events(reply))
        except (http.client.HTTPException, OSError):
            got = []
        if got and got[-1] == "[DONE]" and "error" not in json.loads(got[-2]):
            self.count("streams")
            return
        self.count("cut")
        connection.close()

    def run(self, i):
        key = {"Authorization": f"Bearer {'first' if i < 4 else 'second'}"}
        connection = connect()
        n = 0
        while not os.path.exists(self.stop):
            n += 1
            try:
                (self.stream if (i + n) % 2 else self.whole)(connection, key, 400 if n % 3 else 5)
            except Exception as problem:  # whatever it is, the client got no answer
                self.count("failed", f"{type(problem).__name__}: {problem}")
                connection.close()
                connection = connect()
                time.sleep(0.1)


def main():
    if sys.argv[1] == "load":
        load = Load(sys.argv[2])
        threads = [threading.Thread(target=load.run, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(load.counts))
        return 0
    check_pages()
    check_answers()
    check_streams()
    return check.failures > 0


if __name__ == "__main__":
    sys.exit(main())
