#!/usr/bin/env bash
# Trains two reward models from the bundled preference pairs, guides the default model with
# them, and measures what came of it: the table, the figure and all answers are in demo-out/.
#
#   GENARM=build/genarm scripts/demo.sh
#
# DEMO_OUT=folder writes elsewhere, DEMO_MODEL=file.gguf takes another base model.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

genarm=${GENARM:-build/genarm}
out=${DEMO_OUT:-demo-out}
model=${DEMO_MODEL:-models/SmolLM2-135M-Instruct-Q4_1.gguf}
data=data/demo
start=$SECONDS

# How each reward model is trained, and how long answers may be. A sum of log-probabilities prefers short answers before
# anything is learnt, so concise is trained on means. Settings were chosen on pairs held out of the training files and on
# answers to dev.jsonl; prompts.jsonl was written afterwards.
declare -A train=(
    [cheerful]="--beta 0.05 -lr 2e-3"
    [concise]="--length-normalize --beta 2 -lr 5e-4"
)
train_both="--lora-targets q,k,v,o,gate,up,down --batch-size 8 --warmup 4 --val-split 0 --seed 1 --bf16"
n_predict=64
# Weights that are compared: cheerful concise.
settings=("0 0" "1 0" "0 1" "0.75 0.25" "0.5 0.5" "0.25 0.75")

say() { printf '\n== %s\n' "$*"; }
took() { printf '   (%d s)\n' $((SECONDS - $1)); }

[ -x "$genarm" ] || { echo "demo: there is no program $genarm; run make first" >&2; exit 1; }
scripts/deps.sh demo
mkdir -p "$out"
rm -f "$out"/{cheerful,concise}.log.jsonl "$out"/cheerful=*,concise=*.jsonl "$out"/report.{md,svg,json}

for objective in cheerful concise; do
    say "Training the $objective reward model on $(wc -l <$data/$objective.train.jsonl) preference pairs"
    from=$SECONDS
    "$genarm" train -m "$model" -d "$data/$objective.train.jsonl" -o "$out/$objective.gguf" \
        --log "$out/$objective.log.jsonl" ${train[$objective]} $train_both
    took $from
done
arms=(--arm "cheerful=$out/cheerful.gguf" --arm "concise=$out/concise.gguf")

say "Held-out pairs: how often does the reward prefer the better response?"
for objective in cheerful concise; do
    "$genarm" score -m "$model" -c 1024 --arm "$objective=$out/$objective.gguf" -d "$data/$objective.test.jsonl"
done

say "Answering $(wc -l <$data/prompts.jsonl) held-out prompts, unguided and guided"
from=$SECONDS
for weights in "${settings[@]}"; do
    read -r cheerful concise <<<"$weights"
    name="cheerful=$cheerful,concise=$concise"
    "$genarm" generate -m "$model" -c 512 -np 16 -n $n_predict --seed 1 --prompts $data/prompts.jsonl --json \
        --arm "cheerful=$out/cheerful.gguf:$cheerful" --arm "concise=$out/concise.gguf:$concise" \
        -o "$out/$name.jsonl"
    printf '   %s\n' "$name"
done
took $from

say "The same prompts, unguided and guided"
python3 - "$out" "${settings[@]:0:3}" <<'PY'
import json, sys, textwrap
out, settings = sys.argv[1], [s.split() for s in sys.argv[2:]]
files = [f"{out}/cheerful={a},concise={b}.jsonl" for a, b in settings]
answers = [[json.loads(line) for line in open(f, encoding="utf-8")] for f in files]
names = ["unguided", "cheerful", "concise"]
for i in (3, 7, 22):
    print(f"\n  > {answers[0][i]['prompt']}")
    for name, records in zip(names, answers):
        text = " ".join(records[i]["response"].split())
        print(textwrap.fill(text, 96, initial_indent=f"    {name:9} ", subsequent_indent=" " * 14))
PY

say "Measured ground-truth rewards"
PYTHONPATH=deps/demo python3 scripts/demo_report.py "$out"
printf '\nTable: %s/report.md   figure: %s/report.svg   in %d s\n' "$out" "$out" $((SECONDS - start))
printf 'Try it: %s chat -m %s %s\n' "$genarm" "$model" "${arms[*]}"
