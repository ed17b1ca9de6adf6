#!/usr/bin/env python3
"""Numbers the prompts of experiments/data/prompts.txt, after a check that they are new.

    make_prompts.py [--check]

A prompt is refused that is one of data/demo (training pairs, their test pairs, prompts for choosing settings,
prompts of the demo) or of this file, or close to one: CLOSE of their words without the commonest ones are the same.
--check compares experiments/data/prompts.jsonl with what would be written. Needs Python alone.
"""
import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, OUTPUT = ROOT / "experiments/data/prompts.txt", ROOT / "experiments/data/prompts.jsonl"
CLOSE = 0.75  # shared words / words of both
COMMON = set("a an and are as at be best by can could do does doing for from get give good has have how i i'm if in is it "
             "like make me my nice of on one or should so some tell that the there thing this to what what's when where "
             "which who why with would you your about describe write".split())


def read_lines(path):
    """The prompts of a file, without empty lines and those that begin with #."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def known_prompts():
    """{prompt: file} of everything in data/demo."""
    known = {}
    for path in sorted((ROOT / "data/demo").iterdir()):
        if path.suffix == ".txt":
            known |= {prompt: path.name for prompt in read_lines(path)}
        elif path.suffix == ".jsonl":
            known |= {json.loads(line)["prompt"]: path.name for line in path.read_text(encoding="utf-8").splitlines()}
    return known


def words_of(text):
    words = re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower().replace("’", "'"))
    return frozenset(w for w in words if w not in COMMON) or frozenset(words)


def likeness(a, b):
    return len(a & b) / len(a | b)


def main():
    parser = argparse.ArgumentParser(description="numbers the prompts of the experiments")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless prompts.jsonl is up to date")
    args = parser.parse_args()
    prompts, known = read_lines(SOURCE), known_prompts()
    seen, failures = {words_of(p): (p, name) for p, name in known.items()}, 0
    for prompt in prompts:
        mine = words_of(prompt)
        for other, (text, name) in seen.items():
            if likeness(mine, other) >= CLOSE:
                print(f"{SOURCE.name}: {prompt!r} is close to {text!r} of {name}", file=sys.stderr)
                failures += 1
                break
        seen.setdefault(mine, (prompt, SOURCE.name))
    if failures:
        raise SystemExit(f"{failures} of {len(prompts)} prompts are not new")
    text = "".join(json.dumps({"id": f"e{i:03d}", "prompt": p}, ensure_ascii=False) + "\n" for i, p in enumerate(prompts, 1))
    if args.check:
        if not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{OUTPUT}: not what {SOURCE.name} gives: run {Path(__file__).name}")
    else:
        OUTPUT.write_text(text, encoding="utf-8")
    print(f"{len(prompts)} prompts, none of them close to one of {len(known)}", file=sys.stderr)


if __name__ == "__main__":
    main()
