# genarm generate --method: Best-of-N is the best of what is sampled one by one, what a record
# says that an answer took is so, parts of a prompt file are the file, and a run that is killed
# goes on with the samples that it had.
. "$(dirname "$0")/../support/cli.sh"
python3 - >pairs.jsonl <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "chess", "tea", "glass", "maps"]
for i, thing in enumerate(things * 4):
    pair = {"prompt": f"{i}: what about {thing}?", "chosen": f"Wonderful! I love {thing}!", "rejected": f"Bad. I hate {thing}."}
    print(json.dumps(pair))
END
run 0 train -m "$tiny" -d pairs.jsonl --lora-rank 4 -lr 1e-2 --batch-size 8 --epochs 2 -s 5 --loss bt -o rm.gguf
exact=(-m "$tiny" -ctk f32 -ctv f32)
arm=(--arm kind="$golden/llama.lora.gguf:0.7")
one=(generate "${exact[@]}" "${arm[@]}" -p "Name three birds." -n 24 -s 7)
best=(--method best-of-n --reward rm.gguf)
chosen='[r[0]["response"], r[0]["tokens"], r[0]["seed"], r[0]["finish_reason"]]'

# A program that likes one of the samples of a prompt, and one that likes all alike.
cat >pick.py <<'END'
import sys
for i, line in enumerate(sys.stdin):
    print(1 if i % int(sys.argv[2]) == int(sys.argv[1]) else 0, flush=True)
END
cat >length.py <<'END'
import json, sys
for line in sys.stdin:
    print(len(json.loads(line)["response"]), flush=True)
END

# ---- which answer ----

# The best of one is the answer itself, and the first of equals is kept.
run 0 "${one[@]}"
cp out plain
run 0 "${one[@]}" "${best[@]}" --best-of 1
same out plain
run 0 "${one[@]}" --json
json out "$chosen" >plain.record
run 0 "${one[@]}" "${best[@]}" --best-of 1 --json
json out "$chosen" >record
same record plain.record
json_true out 'r[0]["best_of"] == 1 and len(r[0]["rewards_of_samples"]) == 1'
run 0 "${one[@]}" --method best-of-n --best-of 3 --reward "cmd:python3 pick.py 7 9" --json
json_true out 'r[0]["rewards_of_samples"] == [0, 0, 0]'
json out "$chosen" >record
same record plain.record

# Each of four samples is what its seed gives when it is asked for alone, ...
for k in 0 1 2 3; do
    run 0 "${one[@]}" --method best-of-n --best-of 4 --reward "cmd:pick=python3 pick.py $k 4" --json
    json_true out "r[0]['rewards_of_samples'] == [int(i == $k) for i in range(4)]"
    json out "$chosen" >picked
    json out 'r[0]["logprob"]' >logprob
    seed=$(json out 'r[0]["seed"]')
    run 0 "${one[@]}" -s "$seed" --json
    json out "$chosen" >alone
    same alone picked
    json_true out "abs(r[0]['logprob'] - $(cat logprob)) < 1e-3"
    json out 'json.dumps(r[0])' >>samples.jsonl
done
json_true samples.jsonl 'len({x["seed"] for x in r}) == 4 and len({x["response"] for x in r}) == 4'

# ... and the best of them, as genarm score sees it, is what is kept.
for k in 0 1 2 3; do
    json samples.jsonl "r[$k]['response']" | head -c -1 >response.txt
    eos=()
    [ "$(json samples.jsonl "r[$k]['finish_reason']")" = stop ] || eos=(--no-eos)
    run 0 score "${exact[@]}" -p "Name three birds." -r "$(cat response.txt)" "${eos[@]}" --reward rm.gguf --json
    json out 'json.dumps({"reward": r[0]["trajectory"]["rm"]})' >>scores.jsonl
done
scores=$(json scores.jsonl '[x["reward"] for x in r]')
lengths=$(json samples.jsonl '[len(x["response"]) for x in r]')
sampled() { json samples.jsonl "r[$scores.index($1($scores))]['tokens']"; } # max or min of the scores
rewards='r[0]["rewards_of_samples"]'
run 0 "${one[@]}" "${best[@]}" --best-of 4 --json
json_true out "max(abs(a - b) for a, b in zip($rewards, $scores, strict=True)) < 1e-4"
json_true out "r[0]['tokens'] == $(sampled max)"
json out "$chosen" >best.record
json out 'r[0]["response"]' >best.text
for np in 2 3 4 9; do
    run 0 "${one[@]}" "${best[@]}" --best-of 4 -np $np --json
    json out "$chosen" >record
    same record best.record
done
run 0 "${one[@]}" "${best[@]}" --best-of 4 -np 2
same out best.text
run 0 "${one[@]}" "${best[@]}" --best-of 4 -o best.out
same best.out best.text
run 0 "${one[@]}" "${best[@]}" --best-of 2 --json
json_true out "r[0]['best_of'] == 2 and max(abs(a - b) for a, b in zip($rewards, $scores[:2], strict=True)) < 1e-4"

# Rewards are added up with their weights; a negative one prefers the least.
run 0 "${one[@]}" --method best-of-n --best-of 4 --reward rm.gguf:2 --reward "cmd:n=python3 length.py:-0.5" --json
json_true out "max(abs(a - 2 * b + 0.5 * n) for a, b, n in zip($rewards, $scores, $lengths, strict=True)) < 1e-3"
run 0 "${one[@]}" --method best-of-n --best-of 4 --reward rm.gguf:-1 --json
json_true out "r[0]['tokens'] == $(sampled min)"

# ---- many prompts ----

python3 -c '
import json
for i in range(9): print(json.dumps({"prompt": f"{i}: what about {i * i}?" + " And then?" * (i % 4), "id": i}))' >prompts.jsonl
many=(generate "${exact[@]}" "${arm[@]}" --prompts prompts.jsonl -s 5 -n 24 "${best[@]}" --best-of 4)
same_answers='[{k: x[k] for k in x if k not in ("timings", "seconds", "evaluated", "logprob", "rewards_of_samples")} for x in r]'
run 0 "${many[@]}"
json out "$same_answers" >straight
cp out straight.jsonl
json_true out '[x["id"] for x in r] == list(range(9)) and all(x["best_of"] == 4 and len(x["rewards_of_samples"]) == 4 for x in r)'
for np in 3 7 40; do
    run 0 "${many[@]}" -np $np -o several.jsonl
    json several.jsonl "$same_answers" >several
    same several straight
    check "nothing but the output is left" [ "$(find . -name 'several.jsonl?*')" = "" ]
done

# Parts of a file: each prompt has the seed that it has in the whole.
run 0 "${many[@]}" --skip 2 --limit 3 -np 5
json out "$same_answers" >part
json straight.jsonl "${same_answers/%for x in r]/for x in r[2:5]]}" >whole
same part whole
run 0 "${many[@]}" --skip 7 --limit 100
json out "$same_answers" >part
json straight.jsonl "${same_answers/%for x in r]/for x in r[7:]]}" >whole
same part whole
plain_many=(generate "${exact[@]}" --prompts prompts.jsonl -s 5 -n 6)
run 0 "${plain_many[@]}"
json out '[x["tokens"] for x in r][4:6]' >whole
run 0 "${plain_many[@]}" --skip 4 --limit 2
json out '[x["tokens"] for x in r]' >part
same part whole

# ---- a run that ends early ----

# Kill -9 when some samples of a prompt are there: they are not made again.
cat >slow.py <<'END'
import json, sys, time
for line in sys.stdin:
    time.sleep(0.02)
    print(len(json.loads(line)["response"]), flush=True)
END
slow=(generate "${exact[@]}" --prompts prompts.jsonl -s 5 -n 40 --method best-of-n --best-of 6 --reward "cmd:n=python3 slow.py")
set -m # jobs get Ctrl-C as they do in an interactive shell
made() { sed -n 's/^genarm: \([0-9]*\) tokens, .*/\1/p' err; }
run 0 "${slow[@]}" -v
all_made=$(made)
json out "$same_answers" >straight
for lines in 2 9 30 50; do
    rm -f killed.jsonl*
    "$genarm" "${slow[@]}" -np 4 -o killed.jsonl >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 4000); do
        [ "$(cat killed.jsonl.partial 2>/dev/null | wc -l)" -lt $lines ] || break
        sleep 0.002
    done
    kill -KILL $pid
    wait $pid 2>/dev/null
    head -n $lines killed.jsonl.partial >kept.partial
    printf '{"index":7,"rec' >>kept.partial
    cp kept.partial killed.jsonl.partial
    run 0 "${slow[@]}" -np 3 -o killed.jsonl -v
    # What is generated now is exactly what was not kept.
    kept=$(head -n $lines kept.partial | python3 -c '
import json, sys
kept = [json.loads(line) for line in sys.stdin][1:]
print(sum(len(x["record"]["tokens"]) for x in kept if x["index"] >= 9))')
    check "samples that were there are not made again ($lines lines, $kept and $(made) of $all_made)" [ $((kept + $(made))) = "$all_made" ]
    json killed.jsonl "$same_answers" >killed
    same killed straight
    check "nothing but the output is left" [ "$(find . -name 'killed.jsonl?*')" = "" ]
done

# Other settings are said; other places of files and other numbers at once are none.
cp kept.partial other.jsonl.partial
other() { # SAYS ARGUMENTS…
    local text=$1
    shift
    run 1 "$@" -o other.jsonl
    says err "$text"
    says err "--restart"
    same other.jsonl.partial kept.partial
}
other "--best-of was 6, not 5" "${slow[@]}" --best-of 5
other "--best-of was 6, not 16" generate "${exact[@]}" --prompts prompts.jsonl -s 5 -n 40 --method best-of-n --reward "cmd:n=python3 slow.py"
other "--reward was" "${slow[@]}" --reward rm.gguf
other "--method was \"best-of-n\", not \"guided\"" generate "${exact[@]}" --prompts prompts.jsonl -s 5 -n 40
other "--limit was 0, not 4" "${slow[@]}" --limit 4

# Ctrl-C: what there is of a choice is not rewarded any more.
for signal in INT TERM; do
    rm -f cut.jsonl*
    "$genarm" "${slow[@]}" -np 4 -o cut.jsonl >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 4000); do
        [ "$(cat cut.jsonl.partial 2>/dev/null | wc -l)" -lt 9 ] || break
        sleep 0.002
    done
    kill -$signal $pid
    status=0
    wait $pid || status=$?
    check "the status tells of the signal ($status)" [ $status -gt 128 ]
    says err "the same command goes on"
    json_true cut.jsonl 'all((x["finish_reason"] == "interrupted") == (None in x["rewards_of_samples"]) for x in r)'
    json_true cut.jsonl '0 < len(r) < 9 and any(x["finish_reason"] == "interrupted" for x in r)'
    run 0 "${slow[@]}" -np 4 -o cut.jsonl
    json cut.jsonl "$same_answers" >cut
    same cut straight
done
"$genarm" generate "${exact[@]}" -p "Name three birds." -n 2000 -c 4000 --logit-bias 2-inf -s 1 --method best-of-n --reward "cmd:n=python3 length.py" --best-of 900 >out 2>err </dev/null &
pid=$!
sleep 0.7
kill -INT $pid
status=0
wait $pid || status=$?
check "the status tells of the signal ($status)" [ $status = 130 ]
check "the first sample is printed" [ -s out ]

# ---- what an answer took ----

# Every token of prompt and answer but the last goes through each policy that counts.
took() { # RECORDS EXPRESSION, of P prompt tokens, n answer tokens and e, what was evaluated
    json_true "$1" "[$2 for P, n, e in [(r[0]['timings']['prompt_tokens'], len(r[0]['tokens']), r[0]['evaluated'])]][0]"
}
ask=(generate "${exact[@]}" -p "Name three birds." -n 24 -s 7 --json)
run 0 "${ask[@]}"
took out 'e == {"base": P + n - 1, "arms": 0, "value": 0, "rollout": 0}'
run 0 "${ask[@]}" "${arm[@]}" --arm terse="$golden/llama.lora2.gguf:0.3" --arm none="$golden/llama.lora.gguf:0" --logprobs 0
took out 'e == {"base": P + n - 1, "arms": 3 * (P + n - 1), "value": 0, "rollout": 0}' # log-probabilities of all are wanted
json_true out 'abs(r[0]["logprob"] - sum(x["guided"] for x in r[0]["logprobs"])) < 1e-4'
run 0 "${ask[@]}" "${arm[@]}" --arm terse="$golden/llama.lora2.gguf:0.3" --arm none="$golden/llama.lora.gguf:0" --temp 0.7 --top-k 5
took out 'e == {"base": P + n - 1, "arms": 2 * (P + n - 1), "value": 0, "rollout": 0}'
json out 'r[0]["logprob"]' >logprob
run 0 "${ask[@]}" "${arm[@]}" --arm terse="$golden/llama.lora2.gguf:0.3" --temp 0.7 --top-k 5 --logprobs 2
json_true out "abs(sum(x['guided'] for x in r[0]['logprobs']) - $(cat logprob)) < 1e-4"

# Best-of-N: the prompt once, each sample but its last token; with a reward model its prompt once, and the one response whole.
python3 -c 'import json; print(sum(len(json.loads(l)["tokens"]) for l in open("samples.jsonl")))' >sampled
for np in 1 4; do
    run 0 "${one[@]}" --json "${best[@]}" --best-of 4 -np $np
    took out "e['base'] == e['arms'] == P + $(cat sampled) - 1 and e['value'] > P and e['rollout'] == 0"
    run 0 "${one[@]}" --json "${best[@]}" --best-of 4 -np $np --no-cache-prompt
    took out "e['base'] == e['arms'] == 4 * (P - 1) + $(cat sampled)"
done
run 0 "${one[@]}" --json "${best[@]}" --best-of 1
cp out record
json record 'r[0]["response"]' | head -c -1 >response.txt
run 0 score "${exact[@]}" "${arm[@]}" -p "Name three birds." -r "$(cat response.txt)" --no-eos --json
took record "e['value'] == P + $(json out 'len(r[0]["tokens"])')"
run 0 "${one[@]}" --json --method best-of-n --best-of 2 --reward "cmd:n=python3 length.py"
took out "e['value'] == 0"

# All that went through a model is in some record, and all the time that the run took is not less than theirs.
whole() { # ARGUMENTS…
    local started=$(date +%s%N)
    run 0 "$@" -v -o took.jsonl
    local seconds=$((($(date +%s%N) - started) / 1000))
    json_true took.jsonl "sum(sum(x['evaluated'].values()) for x in r) == $(sed -n 's/.* a second; \([0-9]*\) went through.*/\1/p' err)"
    json_true took.jsonl "0 < sum(x['seconds'] for x in r) < $seconds / 1e6"
}
whole "${plain_many[@]}" "${arm[@]}" -np 3
whole "${plain_many[@]}" "${arm[@]}" --spec-type ngram-simple --draft-min 3
whole "${plain_many[@]}" --method best-of-n --best-of 5 --reward "cmd:n=python3 length.py" -np 4

# ---- looking ahead ----

run 0 train -m "$tiny" -d pairs.jsonl --lora-rank 4 -lr 1e-2 --batch-size 8 --epochs 1 -s 5 --loss dpo -o dpo.gguf
ahead=(generate "${exact[@]}" "${arm[@]}" -p "Name three birds." -n 12 -s 7 --json)
tokens='r[0]["tokens"]'
run 0 "${ahead[@]}" --temp 0
json out "$tokens" >greedy
for method in args transfer-q; do # one candidate is the likeliest token, and no reward is none
    run 0 "${ahead[@]}" --method $method --reward rm.gguf --candidates 1
    json out "$tokens" >ahead
    same ahead greedy
    run 0 "${ahead[@]}" --method $method --reward rm.gguf:0 --temp 0
    json out "$tokens" >ahead
    same ahead greedy
    took out 'e["value"] == e["rollout"] == 0'
    run 0 "${ahead[@]}" --method $method --reward rm.gguf:20 --temp 0
    json out "$tokens" >ahead
    ! cmp -s ahead greedy || fail "a reward model of weight 20 changes nothing ($method)"
done
sorted=(--top-k 7 --top-p 0.9999999) # so that both draw from the likeliest on
run 0 "${ahead[@]}" "${sorted[@]}"
json out "$tokens" >sampled
run 0 "${ahead[@]}" "${sorted[@]}" --method args --reward rm.gguf:0 --candidates 7 # k candidates are top-k
json out "$tokens" >ahead
same ahead sampled

# A step costs k rows of the reward model, whose prompt is evaluated once, and as many of the baseline as it rolls out, which the
# reward model sees as well.
run 0 "${ahead[@]}" --method args --reward rm.gguf
took out 'e == {"base": P + n - 1, "arms": P + n - 1, "value": P + 10 * n, "rollout": 0}'
run 0 "${ahead[@]}" --method transfer-q --reward rm.gguf --candidates 5 --rollout 3
took out 'e["base"] == P + n - 1 and e["value"] - e["rollout"] == P + 5 * n and 0 < e["rollout"] <= 5 * n * 3'
json out "$tokens" >direct
run 0 "${ahead[@]}" --method transfer-q --reward rm.gguf --candidates 5
took out 'e["value"] - e["rollout"] == P + 5 * n and 5 * n * 3 < e["rollout"] <= 5 * n * 20'
run 0 "${ahead[@]}" --method transfer-q --reward rm.gguf --candidates 5 --rollout 3 --baseline dpo.gguf
took out 'e["value"] > P + 5 * n and e["rollout"] > P'
run 0 "${ahead[@]}" --method transfer-q --reward rm.gguf --candidates 5 --indirect --baseline dpo.gguf
json out "$tokens" >indirect
run 0 "${ahead[@]}" --method transfer-q --reward rm.gguf --candidates 5 --indirect --baseline dpo.gguf --rollout 5 --indirect-beta 2
json out "$tokens" >ahead
same ahead indirect
run 0 "${ahead[@]}" --method transfer-q --reward rm.gguf --candidates 5 --indirect --lora dpo.gguf
took out 'e["rollout"] > 0'

# The reward model may be on a model of its own, and many prompts at once are prompts one by one.
run 0 "${ahead[@]}" --method args --reward rm.gguf:3
json out "$tokens" >ahead
run 0 "${ahead[@]}" --method args --reward "rm:x=$tiny+rm.gguf:3"
json out "$tokens" >named
same named ahead
cp "$tiny" copy.gguf
run 0 "${ahead[@]}" --method args --reward "copy.gguf+rm.gguf:3"
json out "$tokens" >named
same named ahead
args=("${plain_many[@]}" "${arm[@]}" --method args --reward rm.gguf:3)
run 0 "${args[@]}"
json out '[x["tokens"] for x in r]' >singly
run 0 "${args[@]}" -np 4 -o args.jsonl
json args.jsonl '[x["tokens"] for x in r]' >together
same together singly
whole "${args[@]}" -np 3
whole "${plain_many[@]}" --method transfer-q --reward rm.gguf --candidates 3 --rollout 2 -np 3

# ---- what goes wrong ----

# A sample that fails is out of the choice; all of them are a prompt that failed.
for i in 1 2 3 4 5 6; do
    echo "{\"prompt\": \"word $i\", \"id\": $i}"
done >some.jsonl
some=(generate -m "$tiny" --prompts some.jsonl --grammar 'root ::= "a" | "b" "\U0001F600"' --logit-bias 243-inf -n 8 -s 3
    --method best-of-n --reward "cmd:n=python3 length.py")
run 0 "${some[@]}" --best-of 16 -np 5
json_true out 'all(x["finish_reason"] == "stop" and x["response"] == "a" for x in r)'
json_true out 'any(None in x["rewards_of_samples"] for x in r) and all(set(x["rewards_of_samples"]) <= {None, 1} for x in r)'
run 1 "${some[@]}" --best-of 1
json_true out '{x["finish_reason"] for x in r} == {"stop", "error"}'
json_true out 'all("the grammar allows no token" in x["error"] for x in r if x["finish_reason"] == "error")'
says err "of 6 prompts could not be answered"
run 1 generate -m "$tiny" -p "word" --grammar 'root ::= "b" "\U0001F600"' --logit-bias 243-inf --method best-of-n --best-of 2 --reward rm.gguf
says err "the grammar allows no token"

# A response that has no reward, here one without a token that is text, is out of the choice; a program that fails ends all.
odd=(generate "${exact[@]}" -p "word" -s 1 -n 1 --logit-bias 1+4 --method best-of-n --best-of 24 --json)
run 0 "${odd[@]}" --reward rm.gguf
json_true out "r[0]['response'] != '' and None in $rewards and sum(x is not None for x in $rewards) > 1"
json out "$rewards" >odd
run 0 "${odd[@]}" --reward rm.gguf:1 --reward "cmd:n=python3 length.py"
json_true out "[x is None for x in $rewards] == [x is None for x in $(sed 's/null/None/g' odd)]"
run 1 "${odd[@]}" --reward rm.gguf --reward "cmd:n=read x; echo 1; exit 7"
says err "exited with status 7"
run 1 generate "${exact[@]}" -p "word" -n 0 --method best-of-n --best-of 2 --reward rm.gguf
says err "a response without a token has no reward"
run 1 "${one[@]}" --method best-of-n --reward "cmd:bad=exit 3"
says err 'reward bad'
says err "exited with status 3"

# What was sampled before a program failed stays: the same command goes on when it works again.
bad=("${plain_many[@]}" --method best-of-n --best-of 3 -np 5 --reward "cmd:n=bash reward.sh")
echo 'exec python3 length.py' >reward.sh
run 0 "${bad[@]}" -v
json out "$same_answers" >straight
all_made=$(made)
echo 'exit 3' >reward.sh
for i in 1 2; do
    run 1 "${bad[@]}" -o bad.jsonl
    says err "prompts.jsonl:1: reward n, sample 0: "
    says err "exited with status 3"
    says err "the same command goes on from bad.jsonl.partial"
    check "there are only the samples that were under way" [ "$(wc -l <bad.jsonl.partial)" = 6 -a ! -e bad.jsonl ]
done
kept=$(sed 1d bad.jsonl.partial | json /dev/stdin 'sum(len(x["record"]["tokens"]) for x in r)')
echo 'exec python3 length.py' >reward.sh
run 0 "${bad[@]}" -o bad.jsonl -v --reward-timeout 90 --judge-retries 20 --judge-parallel 2 --judge-cache replies \
    --api-key-env KEY -b 99 -np 2 -t 1 --no-cache-prompt # which change nothing of it
check "they are not made again ($kept and $(made) of $all_made)" [ $((kept + $(made))) = "$all_made" ]
json bad.jsonl "$same_answers" >kept
same kept straight

# A program that says more than it was asked may have given each answer the reward of another.
printf 'while read -r line; do echo 1; done\necho 2\n' >surplus.sh
run 1 "${plain_many[@]}" --method best-of-n --best-of 2 --reward "cmd:sh surplus.sh" -o surplus.jsonl
says err "asked"
check "nothing is kept of it" [ ! -e surplus.jsonl ] && check "nor beside it" [ ! -e surplus.jsonl.partial ]

# Wrong use is explained.
wrong() { # SAYS ARGUMENTS…
    local text=$1
    shift
    run 2 generate "${exact[@]}" -p "Hi" -n 4 "$@"
    says err "$text"
}
wrong "error: --reward: it is for --method best-of-n, args or transfer-q, and this is guided" --reward rm.gguf
wrong "error: --best-of: it is for --method best-of-n, and this is guided" --best-of 4
wrong "error: --best-of: it is for --method best-of-n, and this is args" --best-of 4 --method args --reward rm.gguf
wrong "error: --candidates: it is for --method args or transfer-q, and this is best-of-n" --candidates 4 "${best[@]}"
wrong "error: --rollout: it is for --method transfer-q, and this is args" --rollout 4 --method args --reward rm.gguf
wrong "error: --indirect: it is for --method transfer-q" --indirect
wrong "error: --baseline: it is for --method transfer-q" --baseline rm.gguf
wrong "error: --indirect: the baseline is the base itself" --method transfer-q --reward rm.gguf --indirect
wrong "error: --indirect-beta: it is for --method transfer-q --indirect" --method transfer-q --reward rm.gguf --indirect-beta 1
wrong "error: --reward: --method best-of-n keeps the answer of the highest reward" --method best-of-n
wrong "error: --reward: --method args looks ahead with one reward model, not with 0" --method args
wrong "error: --reward: --method args looks ahead with one reward model, not with 2" --method args --reward rm.gguf --reward b=rm.gguf
wrong "which only a reward model (rm:) can answer, not cmd:" --method args --reward "cmd:cat"
wrong "which only a reward model (rm:) can answer, not arm:" --method transfer-q --reward arm:rm.gguf
wrong "tokens of args cannot be drafted" --method args --reward rm.gguf --spec-type ngram-simple
wrong "\"best\" is none of guided|best-of-n|args|transfer-q" --method best
wrong "\"0\" is not a whole number from 1" --method best-of-n --best-of 0 --reward rm.gguf
wrong "error: --limit: it is for the prompts of --prompts" --limit 3
wrong "error: --skip: it is for the prompts of --prompts" --skip 3
wrong 'two rewards are called "rm"' --method best-of-n --reward rm.gguf --reward rm.gguf
wrong "rm.gguf is read as well and would be lost" "${best[@]}" -o rm.gguf
run 2 "${plain_many[@]}" --skip 9
says err "prompts.jsonl has 9 prompts: none is left"
for method in best-of-n args; do
    run 1 "${one[@]}" --method $method --reward "$golden/llama.lora.gguf"
    says err "no head"
done
wrong "its adapter with a head is missing" --method args --reward "$tiny"
finish
