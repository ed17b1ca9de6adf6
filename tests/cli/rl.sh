# genarm rl: a policy learns what a reward wants, on a tiny model; stopped and resumed is uninterrupted; what is wrong is
# said; and the policy answers through --lora.
. "$(dirname "$0")/../support/cli.sh"
cat >reward.py <<'END'
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    print(json.dumps({"reward": record["response"].count("e") - record["response"].count("x")}), flush=True)
END
printf 'What about owls?\n\nTell me a story.\nWhy is the sky blue?\nHello\n' >prompts.txt
python3 - >prompts.jsonl <<'END'
import json
for line in filter(None, open("prompts.txt", encoding="utf-8").read().split("\n")):
    print(json.dumps({"prompt": [{"role": "user", "content": line}] if line == "Hello" else line}))
END
settings=(-m "$tiny" --reward "cmd:letters=python3 reward.py " --kl-coef 0 -n 12 --batch-size 2 --lora-rank 4
    --lora-targets q,v,o,down -lr 1e-2 --lr-schedule constant --max-length 128 -s 5)

# The result, on stdout and as a record; metrics in the log; both kinds of prompt files are the same prompts.
run 0 rl "${settings[@]}" --prompts prompts.jsonl -o policy.gguf --steps 30 --log log.jsonl --json
json_true out 'r[0]["output"] == "policy.gguf" and r[0]["steps"] == 30 and r[0]["rewards"]["letters"] == r[0]["reward"]'
json_true log.jsonl 'r[0]["run"]["command"] == "rl" and r[0]["run"]["options"]["method"] == "rloo" and len(r) == 31 and r[-1]["step"] == 30 and r[-1]["kl"] > 0 and r[-1]["learning_rate"] == 0.01'
json_true log.jsonl 'sum(x["reward"] for x in r[-5:]) > sum(x["reward"] for x in r[1:6]) + 5'
json_true log.jsonl 'all(0 <= x["finished"] <= 1 and 1 <= x["length"] <= 12 and x["reward_std"] >= 0 for x in r[1:])'
says err "4 of 4 prompts are used"
check "the checkpoint is gone" [ ! -e policy.gguf.ckpt ]
run 0 rl "${settings[@]}" --prompts prompts.txt -o again.gguf --steps 30
same again.gguf policy.gguf
says out "again.gguf: 30 steps, last step: reward "
run 0 info policy.gguf --json
json_true out 'r[0]["loss"] == "rloo" and r[0]["rank"] == 4 and r[0]["targets"] == "q,v,o,down"'

# So are the dialogues that full-hh-rlhf has for them.
python3 - >dialogues.jsonl <<'END'
import json
for line in filter(None, open("prompts.txt", encoding="utf-8").read().split("\n")):
    print(json.dumps({"prompt": f"\n\nHuman: {line}\n\nAssistant:", "chosen": " a", "rejected": " b"}))
END
run 0 rl "${settings[@]}" --prompts prompts.txt -o few.gguf --steps 2
run 0 rl "${settings[@]}" --prompts dialogues.jsonl -o dialogues.gguf --steps 2
same dialogues.gguf few.gguf

# The policy answers; a weight of 0 is the base.
ask=(generate -m "$tiny" --prompts prompts.txt -n 12 -s 1)
run 0 "${ask[@]}" --lora policy.gguf
json_true out 'len(r) == 4 and sum(x["response"].count("e") for x in r) > 12'
cp out policy
run 0 "${ask[@]}"
json_true out 'sum(x["response"].count("e") for x in r) < 12'
run 0 "${ask[@]}" --lora policy.gguf --arm "$golden/llama.lora.gguf:0"
json out '[x["response"] for x in r]' >guided
json policy '[x["response"] for x in r]' >plain
same plain guided
said=$(json policy 'r[3]["response"]')
run 0 score -m "$tiny" -p Hello -r "$said" --no-eos --json
base=$(json out 'r[0]["base"]')
run 0 score -m "$tiny" -p Hello -r "$said" --no-eos --lora policy.gguf --arm "$golden/llama.lora.gguf" --json
json_true out "r[0]['base'] > $base + 5 and abs(r[0]['references']['llama.lora'] - $base) < 0.01"

# GRPO, several updates a step, two weighted rewards that cancel: nothing is learnt.
run 0 rl "${settings[@]}" --reward "cmd:same=python3 reward.py :-1" --prompts prompts.txt -o none.gguf --method grpo --steps 2 \
    --num-iterations 2 --loss-type grpo --scale-rewards none --group-size 4 --json
json_true out 'r[0]["reward"] == 0 and r[0]["rewards"]["same"] == r[0]["rewards"]["letters"] and abs(r[0]["kl"]) < 1e-5'

# An adapter goes on, and the reference may be another.
run 0 rl "${settings[@]}" --prompts prompts.txt -o on.gguf --steps 1 --init-adapter policy.gguf --reference-adapter policy.gguf --json
json_true out 'abs(r[0]["kl"]) < 1e-3 and r[0]["reward"] > 3'
run 0 rl "${settings[@]}" --prompts prompts.txt -o on.gguf --steps 1 --init-adapter policy.gguf --json
json_true out 'r[0]["kl"] > 5'

# Stopped and resumed, by Ctrl-C and by kill -9, is uninterrupted.
set -m
long=(rl "${settings[@]}" --prompts prompts.txt --steps 150 --save-every 1 --num-iterations 2)
run 0 "${long[@]}" -o straight.gguf --log straight.jsonl
for signal in INT KILL; do
    "$genarm" "${long[@]}" -o stopped.gguf --log stopped.jsonl >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 600); do
        [ "$(cat stopped.jsonl 2>/dev/null | wc -l)" -lt 20 ] || break
        sleep 0.01
    done
    kill -s $signal $pid
    status=0
    wait $pid 2>/dev/null || status=$?
    [ $signal = KILL ] || check "training stops with 130 ($status)" [ "$status" = 130 ]
    [ $signal = KILL ] || says err "--resume goes on from stopped.gguf.ckpt"
    check "there is no adapter yet" [ ! -e stopped.gguf ]
    run 0 "${long[@]}" -o stopped.gguf --log stopped.jsonl --resume
    same stopped.gguf straight.gguf
    check "every step is logged once" [ "$(json stopped.jsonl '[x["step"] for x in r if "step" in x]')" = "$(json straight.jsonl '[x["step"] for x in r if "step" in x]')" ]
    rm -f stopped.gguf stopped.jsonl
done
set +m

# What is wrong is said before anything is computed, or names the place.
run 2 rl "${settings[@]}" -o x.gguf
says err "the prompts are missing"
run 2 rl -m "$tiny" --prompts prompts.txt -o x.gguf
says err "a reward is missing"
run 2 rl "${settings[@]}" --prompts prompts.txt
says err "the file to write is missing"
run 2 rl "${settings[@]}" --prompts prompts.txt -o x.gguf --group-size 3
says err "3 is odd"
run 2 rl "${settings[@]}" --prompts prompts.txt -o prompts.txt
says err "is read as well and would be lost"
run 2 rl "${settings[@]}" --prompts prompts.txt -o x.gguf --log ./x.gguf
says err "is the adapter's file"
ln -s missing/adapter.gguf dangling.gguf
for output in nowhere/ dangling.gguf; do
    run 1 rl "${settings[@]}" --prompts prompts.txt -o $output --log never.jsonl
    says err "$output: "
    check "no step is logged" [ ! -e never.jsonl ]
done
run 2 rl "${settings[@]}" --prompts prompts.txt -o x.gguf -n 128
says err "leaves no room for a prompt"
run 1 rl "${settings[@]}" --prompts prompts.txt -o x.gguf -n 127
says err "no prompt leaves room"
says err "within the maximum length of 128 tokens"
says err "raise the maximum length"
run 1 rl "${settings[@]}" --prompts prompts.txt -o x.gguf -n 255 --max-length 2048
says err "maximum length 2048 is cut to the model's context of 256 tokens"
says err "within the model's context of 256 tokens"
check "what would not help is not proposed" [ "$(grep -c "raise" err)" = 0 ]
{ cat prompts.txt; printf '%0500d\n' 1; } >some.txt
run 0 rl "${settings[@]}" --prompts some.txt -o some.gguf --steps 1 --max-length 2048
says err "dropped: no room for -n 12 within the model's context of 256 tokens in 1"
: >empty.txt
run 1 rl "${settings[@]}" --prompts empty.txt -o x.gguf
says err "empty.txt"
printf 'fine\nbad \xff\n' >bad.txt
run 1 rl "${settings[@]}" --prompts bad.txt -o x.gguf
says err "bad.txt:2: this is not UTF-8 text"
printf 'import sys\nfor line in sys.stdin: print(\x27{"reward": "high"}\x27, flush=True)\n' >odd.py
run 1 rl "${settings[@]}" --reward "cmd:odd=python3 odd.py " --prompts prompts.txt -o x.gguf
says err "odd"
run 1 generate -m "$tiny" -p Hello --lora reward.py
says err "reward.py: not a GGUF file"
check "no adapter came of it" [ ! -e x.gguf ]
finish
