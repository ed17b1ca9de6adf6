"""A server under test as clients see it: requests that are checked, sockets for those that are none. See soak.py."""
import http.client
import itertools
import json
import socket
import struct
import time

ANSWER_SECONDS = 180  # longer than this nobody waits: it counts as a server that hangs


request_numbers = itertools.count(1)


class Failure(Exception):
    """The server did what it must not do."""


def check(condition, text):
    if not condition:
        raise Failure(text)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failure(f"no JSON in {self.body[:200]!r}") from None


class Target:
    """Where the server is. Its requests raise Failure for whatever no server may answer."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def connect(self):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)
        connection.connect()
        return connection

    def ask(self, method, path, body=None, expected=None, connection=None):
        """A whole answer. expected: the only statuses that are fine."""
        request_id = f"soak-{next(request_numbers)}"
        what = f"{method} {path} ({request_id})"
        own = connection or self.connect()
        try:
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            headers = {"X-Request-Id": request_id} | ({"Content-Type": "application/json"} if body is not None else {})
            own.request(method, path, body, headers)
            response = own.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        except TimeoutError:
            raise Failure(f"{what}: no answer within {ANSWER_SECONDS} s") from None
        except (OSError, http.client.HTTPException) as e:
            raise Failure(f"{what}: {type(e).__name__}: {e}") from None
        finally:
            if connection is None:
                own.close()
        check_reply(reply, what)
        check(expected is None or reply.status in expected,
              f"{what}: {reply.status}, not {expected}: {reply.body[:300]!r}")
        return reply

    def socket(self, receive_buffer=None):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(ANSWER_SECONDS)
        s.connect((self.host, self.port))
        return s


def check_reply(reply, what):
    """What holds for every answer."""
    check(reply.headers.get("X-Request-Id"), f"{what}: {reply.status} without X-Request-Id")
    check(reply.status < 500 or reply.status in (501, 503), f"{what}: {reply.status}: {reply.body[:300]!r}")
    if reply.status == 503:
        check(reply.headers.get("Retry-After", "").isdigit(), f"{what}: 503 without Retry-After")
    if reply.status >= 400 and reply.body:
        error = reply.json().get("error")
        check(isinstance(error, dict), f"{what}: {reply.status} without an error: {reply.body[:200]!r}")
        check(error.get("code") == reply.status, f"{what}: {reply.status}, but code {error.get('code')}")
        check(error.get("message") and error.get("type"), f"{what}: an error that says nothing: {reply.body[:200]!r}")


def raw_request(path, body, length=None):
    """The bytes of a POST; length: a Content-Length that may be wrong."""
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n").encode() + body


def reset(s):
    """Closes a socket so that the other side gets a reset and not an end."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def drain(s, seconds):
    """What comes until the other side closes; b"" also when it resets. None: it has not closed in time."""
    got, end = [], time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return None
        s.settimeout(left)
        try:
            bytes_read = s.recv(65536)
        except TimeoutError:
            return None
        except OSError:
            return b"".join(got)
        if not bytes_read:
            return b"".join(got)
        got.append(bytes_read)


class Stream:
    """An answer that is streamed: iterate over its chunks, each checked. `complete` once [DONE] was read."""

    def __init__(self, target, path, body):
        self.connection = target.connect()
        self.id, self.text, self.finish, self.n_chunks, self.usage = None, "", {}, 0, None
        self.error, self.complete = None, False
        self.request_id = f"soak-{next(request_numbers)}"
        what = f"a stream of {path} ({self.request_id})"
        try:
            headers = {"Content-Type": "application/json", "X-Request-Id": self.request_id}
            self.connection.request("POST", path, json.dumps(body), headers)
            self.response = self.connection.getresponse()
        except TimeoutError:
            raise Failure(f"{what}: no head within {ANSWER_SECONDS} s") from None
        except (OSError, http.client.HTTPException) as e:
            raise Failure(f"{what}: {type(e).__name__}: {e}") from None
        self.status = self.response.status
        if self.status != 200:
            check_reply(Reply(self.status, self.response.headers, self.response.read()), what)
        else:
            kind = self.response.headers.get("Content-Type", "")
            check(kind.startswith("text/event-stream"), f"a stream of type {kind}")

    def __iter__(self):
        while self.status == 200:
            try:
                line = self.response.readline()
            except TimeoutError:
                raise Failure(f"{self.request_id} stands still for {ANSWER_SECONDS} s after {self.n_chunks} chunks") from None
            except (OSError, http.client.HTTPException, ValueError) as e:
                raise Failure(f"{self.request_id} breaks after {self.n_chunks} chunks: {type(e).__name__}: {e}") from None
            if not line:
                check(self.complete, f"{self.request_id} ends after {self.n_chunks} chunks without [DONE]")
                return
            line = line.strip()
            if line in (b"", b"data: [DONE]"):
                self.complete = self.complete or line != b""
            elif not line.startswith(b":"):
                yield self._chunk(line)

    def _chunk(self, line):
        check(line.startswith(b"data: "), f"a line of a stream: {line[:200]!r}")
        check(not self.complete, "a chunk after [DONE]")
        try:
            chunk = json.loads(line[6:])
        except ValueError:
            raise Failure(f"a chunk that is no JSON: {line[:200]!r}") from None
        self.n_chunks += 1
        if "error" in chunk:
            self.error = chunk["error"]
            return chunk
        if "id" in chunk:
            check(self.id in (None, chunk["id"]), f"an id that changes: {self.id}, {chunk['id']}")
            self.id = chunk["id"]
        for choice in chunk.get("choices", []):
            check(choice["index"] not in self.finish, "a chunk after the last one of its choice")
            self.text += choice["delta"].get("content") or "" if "delta" in choice else choice.get("text") or ""
            if choice.get("finish_reason"):
                self.finish[choice["index"]] = choice["finish_reason"]
        self.usage = chunk.get("usage") or self.usage
        return chunk

    def close(self):
        self.connection.close()
