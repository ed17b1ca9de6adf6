#!/usr/bin/env python3
"""Some minutes of everything at once against a server: those who use it, those who leave, those who send garbage.

    soak.py --pid PID --port PORT --seconds N --slots N --queue N --ctx N --tokens N --words N --max-body N --timeout N
            [--sanitized] ARM ...

The server (soak.sh starts it) must answer what it can answer, refuse the rest with an error that says why, keep no memory, no
connection and no slot, give the same scores before and after, and, at SIGTERM, finish what it streams and end with status 0
(soak.sh looks at that). Statistics go to stdout; the status is 1 when something was wrong. SEED in the environment repeats the
order of what each client does.
"""
import argparse
import concurrent.futures
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter

import soak_actors
from soak_client import Failure, Stream, Target, check

N_CLIENTS = 12
MAX_GROWTH, MAX_GROWTH_KB = 0.04, 2048  # of the memory of the second half over that of the first, after the warm-up
SHOWN = 20


class Soak:
    """What the actors know of the server, and what they found."""

    def __init__(self, args):
        self.target = Target("127.0.0.1", args.port)
        self.arms, self.n_ctx, self.max_body, self.idle_seconds = args.arms, args.ctx, args.max_body, args.timeout
        self.max_tokens, self.max_words, self.n_places = args.tokens, args.words, args.slots + args.queue
        self.counts, self.failures, self.lock = Counter(), [], threading.Lock()
        self.stop = threading.Event()

    def found(self, who, result):
        with self.lock:
            self.counts[who, result] += 1

    def failed(self, who, text):
        with self.lock:
            self.failures.append(f"{who}: {text}")
            if len(self.failures) <= SHOWN:
                print(f"FAILED: {who}: {text}", flush=True)


def client(soak, seed):
    rng = random.Random(seed)
    actors, chances = list(soak_actors.ACTORS), list(soak_actors.ACTORS.values())
    while not soak.stop.is_set():
        actor = rng.choices(actors, chances)[0]
        try:
            result = actor(soak, rng)
            soak.found(actor.__name__, result)
            if result == "busy":
                time.sleep(rng.uniform(0, 1))
        except Failure as e:
            soak.failed(actor.__name__, e)
        except Exception as e:  # what no actor foresaw is as bad
            soak.failed(actor.__name__, f"{type(e).__name__}: {e}")
            time.sleep(0.1)


def memory_kb(pid):
    """What the process itself holds; pages of mapped files come and go."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def watch(soak, pid, samples, health):
    while not soak.stop.is_set():
        try:
            samples.append(memory_kb(pid))
        except (OSError, StopIteration):
            soak.failed("server", "it is gone")
            soak.stop.set()
            return
        start = time.monotonic()
        try:
            soak.target.ask("GET", "/health", None, (200,))
            health.append(time.monotonic() - start)
        except Failure as e:
            soak.failed("health", e)
        soak.stop.wait(0.5)


def reference(soak):
    """Scores under given weights: what was kept of others must not change them."""
    body = {"messages": [{"role": "user", "content": "What about rain and bread?"}], "response": " The rain is warm.",
            "arms": {name: 0.5 for name in soak.arms}}
    r = soak.target.ask("POST", "/v1/score", body, (200,)).json()
    return [t["guided"] for t in r["tokens"]]


def fill(soak, args):
    """Writes the caches of all slots to their end once: they take memory as they are written, which is no leak."""
    body = {"prompt": [5 + i % 20 for i in range(args.ctx - 2)], "max_tokens": 1}
    with concurrent.futures.ThreadPoolExecutor(args.slots) as pool:
        for answer in [pool.submit(soak.target.ask, "POST", "/v1/completions", body, (200,)) for _ in range(args.slots)]:
            answer.result()


def wait_until(what, seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, what)
        time.sleep(0.2)


def metric(soak, name):
    for line in soak.target.ask("GET", "/metrics", None, (200,)).body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise Failure(f"no {name} in /metrics")


def n_open(pid):
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def look_at_rest(soak, pid, before, scores):
    """When all clients are gone nothing of them is left."""
    def idle():
        slots = soak.target.ask("GET", "/slots", None, (200,)).json()
        return not any(s["is_processing"] for s in slots)
    wait_until("slots that nobody uses are still processing after 60 s", 60, idle)
    wait_until("requests still count as running", 20, lambda: metric(soak, "genarm_requests_running") == 0)
    wait_until("requests still count as queued", 20, lambda: metric(soak, "genarm_requests_queued") == 0)
    wait_until(f"more files and threads than at the start: {n_open(pid)} after {before}", 3 * soak.idle_seconds + 30,
               lambda: n_open(pid)[0] <= before[0] + 2 and n_open(pid)[1] <= before[1] + 2)
    after = reference(soak)
    check(len(after) == len(scores) and all(abs(a - b) < 0.05 for a, b in zip(after, scores)),
          f"other scores than before: {after}, {scores}")


def look_at_memory(samples, sanitized):
    """The first third warms up: caches fill. Sanitizers keep what is freed, and find leaks better."""
    kept = samples[len(samples) // 3:]
    first, second = statistics.median(kept[:len(kept) // 2]), statistics.median(kept[len(kept) // 2:])
    n = len(samples)
    curve = [statistics.median(samples[n * i // 8:max(n * (i + 1) // 8, n * i // 8 + 1)]) for i in range(8)]
    print(f"memory, kB: {samples[0]} at the start, {max(samples)} at most, the eighths of the time: "
          + " ".join(f"{x:.0f}" for x in curve))
    check(sanitized or second <= first * (1 + MAX_GROWTH) + MAX_GROWTH_KB, f"memory grows: {first:.0f} kB, then {second:.0f} kB")


def last_streams(soak, pid):
    """SIGTERM while answers are being written: they are finished, nobody else is served."""
    body = {"messages": [{"role": "user", "content": "Tell me a story about rain."}], "max_tokens": soak.max_tokens,
            "stream": True, "temperature": 1}
    streams = [Stream(soak.target, soak_actors.CHAT, body | {"seed": i}) for i in range(3)]
    iterators = [iter(s) for s in streams]
    for i in iterators:
        next(i)
    os.kill(pid, signal.SIGTERM)
    for s, i in zip(streams, iterators):
        for _ in i:
            pass
        check(s.complete and not s.error and s.finish.get(0) in ("stop", "length"),
              f"SIGTERM cut a stream off: {s.error} {s.finish}")


def run_clients(soak, args):
    seed = os.environ.get("SEED") or str(random.randrange(1 << 30))
    print(f"SEED={seed}, {args.seconds:g} s, {N_CLIENTS} clients", flush=True)
    samples, health = [], []
    threads = [threading.Thread(target=client, args=(soak, f"{seed}.{i}"), daemon=True) for i in range(N_CLIENTS)]
    threads.append(threading.Thread(target=watch, args=(soak, args.pid, samples, health), daemon=True))
    for t in threads:
        t.start()
    soak.stop.wait(args.seconds)
    soak.stop.set()
    end = time.monotonic() + 300
    for t in threads:
        t.join(max(0, end - time.monotonic()))
        if t.is_alive():
            soak.failed("clients", "some still wait for the server, 300 s after the end")
            break
    return samples, health


def print_counts(soak, health):
    for who in dict.fromkeys(name for name, _ in sorted(soak.counts)):
        print(f"  {who:18}" + ", ".join(f"{n} {result}" for (name, result), n in sorted(soak.counts.items()) if name == who))
    if health:
        health.sort()
        print(f"/health: {1e3 * statistics.median(health):.1f} ms, at most {1e3 * health[-1]:.0f} ms")


def read_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--pid", "--port", "--slots", "--queue", "--ctx", "--tokens", "--words", "--max-body", "--timeout"):
        p.add_argument(name, type=int, required=True)
    p.add_argument("--seconds", type=float, required=True)
    p.add_argument("--sanitized", action="store_true")
    p.add_argument("arms", nargs="+")
    return p.parse_args()


def main():
    args = read_args()
    soak = Soak(args)
    scores = reference(soak)
    fill(soak, args)
    before = n_open(args.pid)
    samples, health = run_clients(soak, args)
    print_counts(soak, health)
    if os.path.exists(f"/proc/{args.pid}"):
        for step in (lambda: look_at_rest(soak, args.pid, before, scores), lambda: look_at_memory(samples, args.sanitized),
                     lambda: last_streams(soak, args.pid)):
            try:
                step()
            except Failure as e:
                soak.failed("at the end", e)
    unused = [a.__name__ for a in soak_actors.ACTORS if not any(name == a.__name__ for name, _ in soak.counts)]
    if unused:
        print("never got to it: " + ", ".join(unused))
    for result, what in (("busy", "nobody was ever told to come again"), ("moved", "no weight was ever changed in time")):
        if not any(found == result for _, found in soak.counts):
            soak.failed("at the end", what)
    print(f"{sum(soak.counts.values())} done, {len(soak.failures)} wrong")
    sys.exit(1 if soak.failures else 0)


if __name__ == "__main__":
    main()
