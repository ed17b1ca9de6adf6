#!/usr/bin/env python3
"""Makes experiments/data/maths.*: problems of arithmetic, and right solutions of the model against its wrong ones.

    make_maths_data.py -m models/SmolLM2-135M-Instruct-Q4_1.gguf --genarm build/genarm

1. Draws problems (scripts/rewards/maths.py) and splits them by a hash of operation and numbers: what one split adds or
   subtracts, no other does, in whatever words. `prompts` are the held-out problems that an experiment answers.
2. Samples solutions to those of train and test with `genarm generate --prompts --json` after worked examples
   (EXAMPLES), which are part of every prompt here: with them the model solves some problems sometimes, without nearly none.
3. Checks every solution by computing what is right, and pairs right with wrong ones of the same problem. Only answers that
   end by themselves are kept, each wrong one at most once.

Samples are kept in the folder --samples, where genarm goes on with what is missing. The same model, library, kernels and
number of --parallel give the same data; other kernels round otherwise, and a sampled solution may then differ. Needs
nothing but Python and the program. About ten minutes on two cores.
"""
import argparse
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "rewards"))
import maths  # noqa: E402

SIZES = {"train": 240, "test": 60, "prompts": 200}  # problems
SHARES = (("train", 0.55), ("test", 0.7), ("prompts", 1.0))  # of the hash
SEEDS, SAMPLES = (1, 2), 4  # solutions to each problem, with each seed
PAIRS = 5             # at most, of each problem
TEMPERATURE, MAX_TOKENS = 0.7, 16
LARGE, SMALL = range(3, 31), range(2, 10)  # a and b; a - b is at least 1
NAMES = "Anna Ben Clara David Emma Finn Greta Hugo Ida Jonas Kim Lea Max Nora Otto Paula".split()
THINGS = "apples books coins stamps shells marbles cards pencils buttons plums".split()
EXAMPLES = [("What is 8 + 5?", "8 + 5 = 13"),
            ("Mia has 15 pens and gives 6 away. How many pens are left?", "15 - 6 = 9"),
            ("What is 12 - 4?", "12 - 4 = 8"),
            ("Leo has 14 balls and gets 3 more. How many balls does Leo have now?", "14 + 3 = 17")]
SYSTEM = "Solve the problem."


def fraction(text):
    """A number in [0, 1) that depends on text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def key(operation, a, b):
    """What is the same problem in other words."""
    return f"{max(a, b)} {operation} {min(a, b)}"


def split_of(operation, a, b):
    where = fraction(key(operation, a, b))
    return next(name for name, end in SHARES if where < end)


def problems():
    """{split: [text]}: as many as SIZES says, every kind and every pair of numbers about equally often."""
    rng = random.Random(1)
    kinds = list(maths.KINDS)
    shown = {key(*worked(answer)) for _, answer in EXAMPLES}
    pool = {name: {kind: [] for kind in kinds} for name in SIZES}
    for kind in kinds:
        operation, text = maths.KINDS[kind]
        for a in LARGE:
            for b in SMALL:
                if a > b and key(operation, a, b) not in shown:
                    pool[split_of(operation, a, b)][kind].append(text.format(
                        a=a, b=b, name=rng.choice(NAMES), things=rng.choice(THINGS)))
    drawn = {}
    for name, size in SIZES.items():
        for texts in pool[name].values():
            rng.shuffle(texts)
        turns = [pool[name][kind][i] for i in range(size) for kind in kinds if i < len(pool[name][kind])]
        drawn[name] = turns[:size]
        rng.shuffle(drawn[name])
    return drawn


def worked(answer):
    """(operation, a, b) of "8 + 5 = 13"."""
    a, operation, b = answer.split()[:3]
    return operation, int(a), int(b)


def messages(problem):
    turns = [{"role": "system", "content": SYSTEM}]
    for question, answer in EXAMPLES:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns + [{"role": "user", "content": problem}]


def write_jsonl(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def sample(args, name, texts, seed):
    """[(problem, response, finished)], SAMPLES of each problem."""
    asked, answers = args.samples / f"{name}.prompts.jsonl", args.samples / f"{name}.{seed}.jsonl"
    repeated = [text for text in texts for _ in range(SAMPLES)]
    write_jsonl(asked, [{"messages": messages(text)} for text in repeated])
    if not answers.exists():
        subprocess.run([args.genarm, "generate", "-m", args.model, "-c", "256", "-np", str(args.parallel), "-t",
                        str(args.threads), "-n", str(MAX_TOKENS), "--temp", str(TEMPERATURE), "--seed", str(seed),
                        "--prompts", str(asked), "--json", "-o", str(answers)], check=True)
    records = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    if len(records) != len(repeated):
        sys.exit(f"{answers}: {len(records)} answers to {len(repeated)} prompts")
    return [(text, r["response"].strip(), r["finish_reason"] == "stop") for text, r in zip(repeated, records)]


def pairs(samples):
    """Records of preference data: right against wrong, of each problem at most PAIRS, no response twice."""
    by_problem = {}
    for text, response, finished in samples:
        right, wrong = by_problem.setdefault(text, ([], []))
        kept = right if maths.reward(text, response) else wrong
        if finished and response and response not in kept:
            kept.append(response)
    for text, (right, wrong) in by_problem.items():
        for i in range(min(PAIRS, max(len(right), len(wrong)))):
            if right and wrong:
                yield {"prompt": messages(text),
                       "chosen": [{"role": "assistant", "content": right[i % len(right)]}],
                       "rejected": [{"role": "assistant", "content": wrong[i % len(wrong)]}]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default=str(ROOT / "models/SmolLM2-135M-Instruct-Q4_1.gguf"))
    parser.add_argument("--genarm", default=str(ROOT / "build/genarm"))
    parser.add_argument("--parallel", type=int, default=16, help="solutions sampled at once (default 16)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=Path, default=ROOT / "build/maths-samples", help="folder of the sampled solutions")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "experiments/data", help="folder of the data")
    args = parser.parse_args()

    drawn = problems()
    write_jsonl(args.output / "maths.prompts.jsonl",
                [{"id": f"m{i + 1:03}", "messages": messages(text)} for i, text in enumerate(drawn["prompts"])])
    for name in ("train", "test"):
        samples = [s for seed in SEEDS for s in sample(args, name, drawn[name], seed)]
        made = list(pairs(samples))
        write_jsonl(args.output / f"maths.{name}.jsonl", made)
        right = sum(maths.reward(text, response) for text, response, _ in samples) / len(samples)
        print(f"{name}: {len(drawn[name])} problems, {right:.3f} of {len(samples)} solutions right, {len(made)} pairs")


if __name__ == "__main__":
    main()
