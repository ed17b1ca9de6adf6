#!/usr/bin/env python3
"""1 for a right answer to a small problem of arithmetic, 0 for a wrong one.

A program for --reward "cmd:python3 scripts/rewards/maths.py" (docs/reward.md): reads requests, one JSON object a line,
and answers each with a number. What is right is computed from the prompt, which has to be one of the problems below
(make_maths_data.py writes them); any other ends the program. Needs nothing but Python.

    maths.py --check FILE.jsonl ...   the share of right answers in records of `genarm generate`, by kind of problem
"""
import argparse
import json
import operator
import re
import sys
from collections import defaultdict

OPERATIONS = {"+": operator.add, "-": operator.sub}

# kind -> (operation on a and b, how the problem reads)
KINDS = {
    "sum": ("+", "What is {a} + {b}?"),
    "difference": ("-", "What is {a} - {b}?"),
    "more": ("+", "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?"),
    "left": ("-", "{name} has {a} {things} and gives {b} away. How many {things} are left?"),
}
FIELDS = {"a": r"\d+", "b": r"\d+", "name": "[A-Z][a-z]+", "things": "[a-z]+"}


def _pattern(text):
    """The regular expression of a problem; a field that comes again has to be the same."""
    seen = set()

    def field(match):
        name = match[1]
        again = name in seen
        seen.add(name)
        return f"(?P={name})" if again else f"(?P<{name}>{FIELDS[name]})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", field, re.escape(text)))


PATTERNS = {kind: _pattern(text) for kind, (_, text) in KINDS.items()}
NUMBER = re.compile(r"[-−]?\d+(?:,\d{3})*(?:\.\d+)?")


def solve(prompt):
    """(kind, solution) of a problem; None when it is none of ours."""
    for kind, pattern in PATTERNS.items():
        match = pattern.fullmatch(prompt.strip())
        if match:
            return kind, OPERATIONS[KINDS[kind][0]](int(match["a"]), int(match["b"]))
    return None


def final_number(response):
    """The first number behind the last "answer", else the last number of all; None: there is none."""
    head, word, tail = response.lower().rpartition("answer")
    behind = NUMBER.search(tail) if word else None
    numbers = [behind[0]] if behind else NUMBER.findall(response)
    return float(numbers[-1].replace("−", "-").replace(",", "")) if numbers else None


def reward(prompt, response):
    """1.0: the final number is the solution."""
    known = solve(prompt)
    if known is None:
        raise ValueError(f"no problem that can be checked: {prompt!r}")
    return float(final_number(response) == known[1])


def last_question(record):
    """The problem in a record: its prompt, or the user's last message."""
    if isinstance(record.get("prompt"), str):
        return record["prompt"]
    return [m["content"] for m in record["messages"] if m["role"] == "user"][-1]


def check(paths):
    for path in paths:
        right = defaultdict(list)
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                question = last_question(record)
                right[solve(question)[0]].append(reward(question, record["response"]))
        every = sum(right.values(), [])
        print(f"{path}: {sum(every) / len(every):.3f} of {len(every)} right;",
              ", ".join(f"{kind} {sum(r) / len(r):.2f} of {len(r)}" for kind, r in sorted(right.items())))


def serve():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            print(reward(request["prompt"] or "", request["response"]), flush=True)
        except ValueError as error:
            sys.exit(f"maths.py: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="+", metavar="FILE.jsonl", help="records of genarm generate")
    args = parser.parse_args()
    check(args.check) if args.check else serve()


if __name__ == "__main__":
    main()
