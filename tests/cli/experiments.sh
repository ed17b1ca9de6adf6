# The experiments of the repository: every option and file that they name exists, their data is what the scripts make of it,
# and the programs that measure answers say what they should.
. "$(dirname "$0")/../support/cli.sh"

for file in "$source_dir"/experiments/*.yaml "$source_dir"/experiments/small/*.yaml; do
    name=${file#"$source_dir"/}
    (cd "$source_dir" && "$genarm" eval "$name" -o "$folder/out" --dry-run) >plan 2>&1 || fail "$name is no experiment" plan
    says plan 'files are to be made'
done

check "experiments/data is up to date" python3 "$source_dir/scripts/make_experiment_data.py" --check

# Guarded against what it is there for: a prompt of the training data among those of the experiments.
mkdir -p copy/scripts copy/data copy/experiments
cp "$source_dir/scripts/make_experiment_data.py" copy/scripts/
cp -r "$source_dir/data/demo" copy/data/
cp -r "$source_dir/experiments/data" copy/experiments/
echo 'So how do I boil an egg, and how long?' >>copy/experiments/data/prompts.txt
python3 copy/scripts/make_experiment_data.py --check >out 2>err && fail "a prompt near a known one is taken" err
says err "'How long should I boil an egg?' of"

# The demo begins anew, but removes nothing that is not its own.
cp "$source_dir/scripts/demo.sh" copy/scripts/
printf '#!/bin/sh\n' >copy/scripts/deps.sh
chmod +x copy/scripts/deps.sh
mkdir mine
(cd mine && touch pairs.jsonl report.tex concise.log.jsonl report.md cheerful=2,concise=0.jsonl)
GENARM=/bin/true DEMO_OUT=$folder/mine copy/scripts/demo.sh >out 2>err </dev/null
check "the demo removes its own files alone ($(ls -x mine))" [ "$(cd mine && echo *)" = "pairs.jsonl report.tex" ]

rewards=$source_dir/scripts/rewards
if PYTHONPATH=$source_dir/deps/demo python3 -c 'import vaderSentiment' 2>/dev/null; then
    cat >answers.jsonl <<'END'
{"prompt": "x", "response": "What a lovely, happy day! I love it."}
{"prompt": "x", "response": "This is a table."}
{"prompt": "x", "response": "I hate this awful, ugly mess."}
END
    run 0 score --answers answers.jsonl --reward "cmd:cheerful=python3 '$rewards/cheerful.py'" \
        --reward "cmd:concise=python3 '$rewards/concise.py'" -o rewards.jsonl
    json_true rewards.jsonl '[x["rewards"]["concise"] for x in r] == [-8, -4, -6]'
    json_true rewards.jsonl 'r[0]["rewards"]["cheerful"] > 0.5 and r[1]["rewards"]["cheerful"] == 0 and r[2]["rewards"]["cheerful"] < -0.5'

    # The judge counts valence by word, so saying the same twice changes nothing.
    cat >requests.jsonl <<'END'
{"prompt": "x", "a": "What a lovely day!", "b": "An awful day."}
{"prompt": "x", "a": "An awful day.", "b": "What a lovely day!"}
{"prompt": "x", "a": "What a lovely day!", "b": "What a lovely day! What a lovely day!"}
{"prompt": "x", "a": "", "b": "A table."}
END
    check "the judge runs" python3 "$rewards/afinn_judge.py" <requests.jsonl >verdicts.jsonl
    json_true verdicts.jsonl '[x["verdict"] for x in r] == ["a", "b", "tie", "tie"]'
fi
finish
