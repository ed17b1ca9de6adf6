#!/usr/bin/env python3
"""Makes experiments/data out of its prompts.txt and of data/demo.

    make_experiment_data.py [--check]
    make_experiment_data.py --own build/genarm [-m MODEL]     # about five minutes on two cores

prompts.jsonl          the prompts of prompts.txt, numbered: what methods are compared on. One is refused that is in data/demo
                       (training pairs, their test pairs, prompts for choosing settings, prompts of the demo) or in the file
                       twice, or is close to one that is: CLOSE of their words without the commonest ones are the same.
train-prompts.jsonl    the prompts of data/demo's training pairs: what reinforcement learning answers
cheerful.N.jsonl       N of the 640 training pairs, each file a part of the next larger one; concise.N.jsonl as well
own.jsonl              the base's own answers to some training prompts: what heals a model that lost layers.
                       Sampled at a temperature at which the default model makes sense, and ended after the last whole
                       sentence. As pairs, whose rejected side --loss sft ignores.

--check compares the files with what would be written, own.jsonl aside. Needs Python alone.
"""
import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO, DATA = ROOT / "data/demo", ROOT / "experiments/data"
MODEL = ROOT / "models/SmolLM2-135M-Instruct-Q4_1.gguf"
SIZES = {"cheerful": (40, 80, 160, 320), "concise": (80, 160)}
N_OWN, OWN_TOKENS, OWN_TEMPERATURE = 240, 64, 0.7
CLOSE = 0.75  # shared words / words of both
COMMON = set("a an and are as at be best by can could do does doing for from get give good has have how i i'm if in is it "
             "like make me my nice of on one or should so some tell that the there thing this to what what's when where "
             "which who why with would you your about describe write".split())


def read_lines(path):
    """The prompts of a file, without empty lines and those that begin with #."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def read_records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def rank_of(record):
    """Orders records in a way that has nothing to do with what they say, the same on every machine."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).digest()


# --- prompts ------------------------------------------------------------------------------------------

def known_prompts():
    """{prompt: file} of everything in data/demo."""
    known = {}
    for path in sorted(DEMO.iterdir()):
        if path.suffix == ".txt":
            known |= {prompt: path.name for prompt in read_lines(path)}
        elif path.suffix == ".jsonl":
            known |= {record["prompt"]: path.name for record in read_records(path)}
    return known


def words_of(text):
    words = re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower().replace("’", "'"))
    return frozenset(w for w in words if w not in COMMON) or frozenset(words)


def likeness(a, b):
    return len(a & b) / len(a | b)


def new_prompts():
    """The prompts of prompts.txt; ends the program when one is not new."""
    prompts, known, failures = read_lines(DATA / "prompts.txt"), known_prompts(), 0
    seen = {words_of(p): (p, name) for p, name in known.items()}
    for prompt in prompts:
        mine = words_of(prompt)
        close = next((found for words, found in seen.items() if likeness(mine, words) >= CLOSE), None)
        if close:
            print(f"prompts.txt: {prompt!r} is close to {close[0]!r} of {close[1]}", file=sys.stderr)
            failures += 1
        seen.setdefault(mine, (prompt, "prompts.txt"))
    if failures:
        raise SystemExit(f"{failures} of {len(prompts)} prompts are not new")
    print(f"{len(prompts)} prompts, none of them close to one of {len(known)}", file=sys.stderr)
    return prompts


def numbered(letter, prompts):
    return [{"id": f"{letter}{i:03d}", "prompt": prompt} for i, prompt in enumerate(prompts, 1)]


def train_prompts():
    """Every prompt of the training pairs once, in the order of the files."""
    return list(dict.fromkeys(r["prompt"] for name in SIZES for r in read_records(DEMO / f"{name}.train.jsonl")))


# --- files --------------------------------------------------------------------------------------------

def files():
    """{name: text} of what needs no model."""
    made = {"prompts.jsonl": jsonl(numbered("e", new_prompts())),
            "train-prompts.jsonl": jsonl(numbered("t", train_prompts()))}
    for objective, sizes in SIZES.items():
        pairs = read_records(DEMO / f"{objective}.train.jsonl")
        ranked = sorted(pairs, key=rank_of)
        for size in sizes:
            kept = {rank_of(pair) for pair in ranked[:size]}
            made[f"{objective}.{size}.jsonl"] = jsonl(pair for pair in pairs if rank_of(pair) in kept)
    return made


def own_answers(genarm, model):
    """The text of own.jsonl, sampled by the program."""
    prompts = sorted(train_prompts(), key=rank_of)[:N_OWN]
    with tempfile.TemporaryDirectory() as folder:
        source, answers = Path(folder) / "prompts.jsonl", Path(folder) / "answers.jsonl"
        source.write_text(jsonl({"prompt": p} for p in prompts), encoding="utf-8")
        subprocess.run([genarm, "generate", "-m", model, "--prompts", source, "-o", answers, "-c", "512", "-np", "16",
                        "-n", str(OWN_TOKENS), "--temp", str(OWN_TEMPERATURE), "--seed", "1"], check=True)
        records = read_records(answers)
    pairs = []
    for record in records:
        whole = re.match(r".*[.!?][\"')]*(?=\s|$)", record["response"], re.DOTALL)
        if whole:
            pairs.append({"prompt": record["prompt"], "chosen": whole[0].strip(), "rejected": "-"})
    print(f"{len(pairs)} of {len(records)} answers have a whole sentence", file=sys.stderr)
    return jsonl(pairs)


def main():
    parser = argparse.ArgumentParser(description="makes the data of the experiments")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless the files are up to date")
    parser.add_argument("--own", metavar="GENARM", help="sample own.jsonl with this program as well")
    parser.add_argument("-m", "--model", default=MODEL, help="the base model (default %(default)s)")
    args = parser.parse_args()
    made = files()
    if args.own:
        made["own.jsonl"] = own_answers(args.own, args.model)
    for name, text in made.items():
        path = DATA / name
        if not args.check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{path.relative_to(ROOT)} is not up to date: run scripts/make_experiment_data.py")


if __name__ == "__main__":
    main()
