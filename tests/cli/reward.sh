# genarm score --reward: programs, ARMs and reward models beside each other; what a program
# does wrong is said.
. "$(dirname "$0")/../support/cli.sh"
cp "$golden/llama.lora.gguf" kind.gguf
one=(score -m "$tiny" -ctk f32 -ctv f32 -p "Name a bird." -r "The owl, of course.")

# A program: the length of the response in characters.
cat >length.py <<'END_PY'
import json, sys
print("ready", file=sys.stderr)
for line in sys.stdin:
    request = json.loads(line)
    assert set(request) == {"prompt", "messages", "response", "finished"}
    assert request["messages"][-1] == {"role": "user", "content": request["prompt"]}
    print(json.dumps({"reward": len(request["response"]) + 100 * request["finished"]}))
END_PY
run 0 "${one[@]}" --reward "cmd:n=python3 -u length.py"
says out "n: reward of the response 119.0000"
says err "ready"
run 0 "${one[@]}" --no-eos --reward "cmd:n=python3 -u length.py" --json
json_true out 'r[0]["trajectory"] == {"n": 19} and "tokens" not in r[0]'

# Kinds beside each other, and the sums of --arm.
run 0 "${one[@]}" --arm kind.gguf --reward "cmd:n=python3 -u length.py" --reward arm:sum=kind.gguf \
    --reward arm-mean:mean=kind.gguf --reward ratio:ratio=kind.gguf --reward ratio-mean:rm=kind.gguf \
    --reward "ratio:own=$tiny+kind.gguf" --json
json_true out 'list(r[0]["trajectory"]) == ["n", "sum", "mean", "ratio", "rm", "own"] and r[0]["trajectory"]["n"] == 119'
json_true out 'abs(r[0]["trajectory"]["sum"] - r[0]["rewards"]["kind"]) < 1e-3'
json_true out 'abs(r[0]["trajectory"]["ratio"] - r[0]["rewards"]["kind"] + r[0]["references"]["kind"]) < 1e-3'
json_true out 'abs(r[0]["trajectory"]["own"] - r[0]["trajectory"]["ratio"]) < 1e-4'
json_true out 'abs(r[0]["trajectory"]["mean"] * len(r[0]["tokens"]) - r[0]["trajectory"]["sum"]) < 1e-3'
json_true out 'abs(r[0]["trajectory"]["rm"] * len(r[0]["tokens"]) - r[0]["trajectory"]["ratio"]) < 1e-3'

# Pairs.
cat >pairs.jsonl <<'END_PAIRS'
{"prompt": "Name a bird.", "chosen": "The owl, of course.", "rejected": "An owl."}
{"prompt": "Name a bird.", "chosen": "An owl.", "rejected": "The owl, of course.", "system": "Be terse."}
{"prompt": "Name a fish.", "chosen": "Cod", "rejected": "Eel"}
END_PAIRS
run 0 score -m "$tiny" -d pairs.jsonl --reward "cmd:n=python3 -u length.py" --reward arm:kind.gguf --json
json_true out 'r[0]["trajectory"]["n"] == {"accuracy": 0.5, "margin": 0} and set(r[0]["trajectory"]) == {"n", "kind"}'

# Pair by pair: numbered as in the file, and null where one is left out of the table.
cat >some.jsonl <<'END_PAIRS'
{"prompt": "Name a bird.", "chosen": "The owl, of course.", "rejected": "An owl."}
{"prompt": "Name a bird.", "chosen": "An owl.", "rejected": "An owl."}
{"prompt": "Name a fish.", "chosen": "Cod", "rejected": "Eels"}
END_PAIRS
run 0 score -m "$tiny" -d some.jsonl -d pairs.jsonl --reward "cmd:n=python3 -u length.py" --per-pair -o some.out
json_true some.out '[x["index"] for x in r] == [0, 2, 3, 4, 5] and r[1]["rejected"] == {"n": 104}'
python3 -c 'import json; print(json.dumps({"prompt": "word " * 300, "chosen": "a", "rejected": "b"}))' >>some.jsonl
run 0 score -m "$tiny" -c 128 -d some.jsonl --arm kind.gguf --reward "cmd:n=python3 -u length.py" --per-pair -o some.out --json
json_true out 'r[0]["pairs"] == 2 and r[0]["too_long"] == 1'
json_true some.out 'r[2] == {"index": 3, "chosen": {"n": None}, "rejected": {"n": None}} and r[0]["chosen"] == {"n": 119}'

# What goes wrong.
run 1 "${one[@]}" --reward "cmd:exit 3"
says err 'error: reward cmd: the program "exit 3" exited with status 3 before it answered'
run 1 "${one[@]}" --reward "cmd:x=no-such-program"
says err 'error: reward x: the program "no-such-program" exited with status 127'
says err "not found"
run 1 score -m "$tiny" -d pairs.jsonl --reward "cmd:bad=read l; echo 1; read l; echo nan; sleep 100"
says err 'pairs.jsonl:1: reward bad, sample 1: the program'
says err 'answered "nan": this is no finite number'
run 1 "${one[@]}" --reward "cmd:exec env -u PYTHONUNBUFFERED python3 length.py" --reward-timeout 0.2
says err "gave no answer within 0.2 seconds"
says err "flush"
run 2 "${one[@]}" --reward "cmd:"
says err "a command is missing"
run 2 "${one[@]}" --reward "cmd:cat:2"
says err "a weight has no meaning here"
run 2 "${one[@]}" --reward kind.gguf:x --reward-timeout 0
run 2 "${one[@]}" --reward arm:kind.gguf --reward ratio:kind.gguf
says err 'two rewards are called "kind"'
run 1 "${one[@]}" --reward kind.gguf
says err "no head"
run 1 "${one[@]}" --reward ratio:"$tiny"
says err "no reference"
run 1 "${one[@]}" --reward rank:"$tiny"
says err "no classifiers"

# A kind that there is not is taken for a part of the path, as it may be one.
for spec in "foo:$golden/llama.lora.gguf" foo; do
    run 1 "${one[@]}" --reward "$spec"
    says err "No such file"
    says err "hint: is the path right? a reward is [KIND:][NAME=]PATH[+ADAPTER][:WEIGHT], KIND being rm, arm, "
done
finish
