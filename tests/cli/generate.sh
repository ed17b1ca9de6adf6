# genarm generate: the same seed gives the same answer, a weight of 0 is no reward model,
# prompts at once are prompts one by one, records are JSON.
. "$(dirname "$0")/../support/cli.sh"
adapter kind.gguf 1
adapter terse.gguf 2
ask=(generate -m "$model" -p "Name three birds." -n 16)

# One answer.
run 0 "${ask[@]}" -s 7
cp out plain
check "an answer is printed" [ -s plain ]
check "only the answer is printed" [ ! -s err ]
run 0 "${ask[@]}" -s 7
same out plain
run 0 "${ask[@]}" -s 8
! cmp -s out plain || fail "another seed gives the same answer"
run 0 "${ask[@]}" -s 7 --arm kind.gguf:0
same out plain
run 0 "${ask[@]}" -s 7 --arm kind.gguf:0 --arm terse.gguf:0
same out plain
run 0 "${ask[@]}" -s 7 --arm kind.gguf:1
! cmp -s out plain || fail "a reward model changes nothing"
exact=(generate -m "$tiny" -p "Name three birds." -n 48 -s 7 -ctk f32 -ctv f32)
run 0 "${exact[@]}" --arm "$golden/llama.lora.gguf:1"
cp out steered
run 0 "${exact[@]}" --arm "a=$golden/llama.lora.gguf:0.5" --arm "b=$golden/llama.lora.gguf:0.5"
same out steered

# An adapter on the base, on the base named again, and on a copy of it are one reward model.
run 0 "${exact[@]}" --arm "$tiny+$golden/llama.lora.gguf:1"
same out steered
cp "$tiny" copy.gguf
run 0 "${exact[@]}" --arm "x=copy.gguf+$golden/llama.lora.gguf"
same out steered
run 0 "${exact[@]}" --arm "x=copy.gguf:2"
cp out whole
run 0 "${exact[@]}" --arm "x=$tiny:2"
same out whole
run 0 "${exact[@]}" --arm "$golden/llama-padded.gguf:2"
same out whole

# A reward model is asked in its own template when one is given.
run 0 "${exact[@]}" --arm "x=$golden/llama.lora.gguf:1" --arm-template x=chatml
same out steered
run 0 "${exact[@]}" --arm "x=$golden/llama.lora.gguf:1" --arm-template 'x=raw:{prompt}\n'
! cmp -s out steered || fail "the reward model's template changes nothing"

# Greedy, and by nucleus sampling without any mass.
run 0 "${ask[@]}" --temp 0
cp out greedy
run 0 "${ask[@]}" -s 3 --top-k 1
same out greedy
run 0 "${ask[@]}" -s 4 --top-p 1e-6
same out greedy

# Where the prompt comes from.
printf 'Name three birds.\n' >question.txt
run 0 generate -m "$model" -f question.txt -n 16 -s 7
same out plain
"$genarm" generate -m "$model" -f - -n 16 -s 7 <question.txt >out 2>err
same out plain
LLAMA_ARG_MODEL=$model LLAMA_ARG_N_PREDICT=16 run 0 generate -p "Name three birds." -s 7
same out plain
run 0 generate -p "Name three birds." -n 16 -s 7
same out plain
says err "using the default model"
run 0 "${ask[@]}" -s 7 -o answer.txt
same answer.txt plain
check "with -o nothing is on stdout" [ ! -s out ]
check "with -o no temporary file is left" [ "$(find . -name 'answer.txt?*')" = "" ]
run 0 "${ask[@]}" -s 7 -sys "You are a pirate."
! cmp -s out plain || fail "the system message changes nothing"
run 0 "${ask[@]}" -s 7 --chat-template "raw:{prompt}"
! cmp -s out plain || fail "the template changes nothing"
# Spaces that a raw template ends in are not part of the answer, and come before it where it is scored.
spaced=(generate -m "$tiny" -p Hi --grammar 'root ::= " so " [a-z] [a-z]' -n 8 -s 2)
run 0 "${spaced[@]}" --chat-template "raw:{prompt}:" --json
cp out with
run 0 "${spaced[@]}" --chat-template "raw:{prompt}: " --json
cp out without
check "one prompt, one answer" [ "$(json with 'r[0]["tokens"]')" = "$(json without 'r[0]["tokens"]')" ]
check "but its space" [ "$(json with 'r[0]["response"]')" = " $(json without 'r[0]["response"]')" ]
run 0 "${spaced[@]}" --chat-template "raw:{prompt}: "
check "printed without it" [ "$(cat out)" = "$(json without 'r[0]["response"]')" ]
run 0 "${spaced[@]}" --chat-template "raw:{prompt}: " --logit-bias 32-inf --grammar 'root ::= "so" [a-z]'
check "nothing else is taken off" grep -qE '^so[a-z]$' out
for answers in with without; do
    run 0 score -m "$tiny" --chat-template "raw:{prompt}: " --answers $answers --reward "arm:$golden/llama.lora.gguf" --json
    json out 'r[0]["rewards"]' >$answers.reward
done
same without.reward with.reward

# What an editor puts around a text is no part of it; bytes that are no text are refused.
run 0 "${exact[@]:0:3}" -p "$(printf 'One\r\ntwo.')" -n 4 --json
cp out typed
printf '\xef\xbb\xbfOne\r\ntwo.\r\n\n' >edited.txt
run 0 "${exact[@]:0:3}" -f edited.txt -n 4 --json
check "the prompt is the text alone" [ "$(json typed 'r[0]["prompt"]')" = "$(json out 'r[0]["prompt"]')" ]
printf 'caf\xe9' >latin.txt
run 1 "${exact[@]:0:3}" -f latin.txt
says err "latin.txt: this is not UTF-8 text"
run 2 "${exact[@]:0:3}" -p "$(cat latin.txt)"
says err "error: -p: this is not UTF-8 text"

# Records.
run 0 "${ask[@]}" -s 7 --json --arm kind.gguf:1.5 --arm x=terse.gguf:0.25
json_true out 'len(r) == 1'
json_true out 'list(r[0]) == ["prompt", "response", "tokens", "arms", "seed", "finish_reason", "logprob", "evaluated", "seconds", "model", "timings"]'
json_true out 'r[0]["prompt"] == "Name three birds." and r[0]["seed"] == 7'
json_true out 'r[0]["arms"] == {"kind": 1.5, "x": 0.25}'
json_true out 'r[0]["model"] == "SmolLM2-135M-Instruct-Q4_1.gguf"'
json_true out 'r[0]["finish_reason"] == "length" and len(r[0]["tokens"]) == 16'
json_true out 'r[0]["timings"]["predicted_tokens"] == 16 and r[0]["timings"]["prompt_tokens"] > 5'
json_true out 'r[0]["timings"]["prompt_ms"] > 0 and r[0]["timings"]["predicted_per_second"] > 0'
run 0 "${ask[@]}" -s 7 --json
check "the record has the text" [ "$(json out 'r[0]["response"]')" = "$(cat plain)" ]
run 0 "${ask[@]}" --json
seed=$(json out 'r[0]["seed"]')
json out 'r[0]["response"]' >random
run 0 "${ask[@]}" --json -s "$seed"
json out 'r[0]["response"]' >again
same again random
run 0 generate -m "$model" -p "Say only: yes" --temp 0 -n 200 --json
json_true out 'r[0]["finish_reason"] == "stop" and len(r[0]["tokens"]) < 200'
json_true out '"<|im_end|>" not in r[0]["response"]'
run 0 generate -m "$model" -p "Tell a long story." -c 64 --temp 0 --json
json_true out 'r[0]["finish_reason"] == "context"'
json_true out 'r[0]["timings"]["prompt_tokens"] + len(r[0]["tokens"]) == 64'
run 0 generate -m "$tiny" -p "" -n 0 --json
json_true out 'r[0]["response"] == "" and r[0]["tokens"] == [] and r[0]["finish_reason"] == "length"'

# Many prompts: each is answered as when asked alone, however many are answered at once. (With
# weights and cache in f32, where rounding is too small for text to show how sums were cut up.)
cat >prompts.jsonl <<'END'
{"prompt": "Name a fruit.", "id": "first"}
{"prompt": "What is rain?", "system": "Answer in one word.", "extra": true}

{"id": 3, "messages": [{"role": "user", "content": "Hi, I am Ada."}, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Who am I?"}]}
{"prompt": "Count to five."}
{"prompt": "Why is the sky blue?"}
{"prompt": "Sing a song."}
END
arms=(--arm kind="$golden/llama.lora.gguf:0.7" --arm terse="$golden/llama.lora2.gguf:0.3")
many=(generate -m "$tiny" --prompts prompts.jsonl -s 5 "${arms[@]}" -n 40 -ctk f32 -ctv f32)
answers='[[x.get("id"), x["response"], x["tokens"], x["seed"], x["finish_reason"], x["arms"]] for x in r]'
run 0 "${many[@]}"
json_true out '[x.get("id") for x in r] == ["first", None, 3, None, None, None]'
json_true out '"messages" in r[2] and "prompt" not in r[2] and len({x["seed"] for x in r}) == 6'
json out "$answers" >one
json out 'r[4]["seed"]' >seed
json out 'r[4]["response"]' >fifth
for n in 2 4 6; do
    run 0 "${many[@]}" -np $n
    json out "$answers" >several
    same several one
done
run 0 "${many[@]}" -np 16 -b 7 -t 2 -o records.jsonl
json records.jsonl "$answers" >several
same several one
run 0 generate -m "$tiny" -p "Why is the sky blue?" -s "$(cat seed)" "${arms[@]}" -n 40 -ctk f32 -ctv f32 --json
json out 'r[0]["response"]' >alone
same alone fifth
run 0 generate -m "$model" --prompts prompts.jsonl --arm kind.gguf -np 4 -n 8
json_true out '[x.get("id") for x in r] == ["first", None, 3, None, None, None]'
json_true out 'all(x["finish_reason"] in ("stop", "length") and x["tokens"] for x in r)'

# The same from an array, compressed, with lists of messages under the name that pairs have for them, as TRL and genarm data
# write them.
python3 - <<'END'
import gzip, json
records = [json.loads(line) for line in open("prompts.jsonl") if line.strip()]
for r in records:
    r["prompt"] = r.pop("messages", None) or [{"role": "user", "content": r["prompt"]}]
with gzip.open("array.json.gz", "wt") as f:
    json.dump(records, f, indent=1)
END
run 0 generate -m "$tiny" --prompts array.json.gz -s 5 "${arms[@]}" -n 40 -ctk f32 -ctv f32
json out "$answers" >several
same several one
json_true out '"messages" in r[2] and "prompt" not in r[2] and r[1]["system"] == "Answer in one word."'
echo '{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "chosen": "d", "rejected": "e"}' >pair.jsonl
run 0 data pair.jsonl -o turns.jsonl
run 0 generate -m "$tiny" --prompts turns.jsonl -n 1
json_true out 'len(r) == 1 and len(r[0]["messages"]) == 3'

# Dialogues are the turns that training sees, in each of their formats.
python3 - <<'END'
import json
talk = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
def write(name, *records):
    with open(name, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in records)
write("full.jsonl", {"prompt": talk, "response": " d", "chosen": " d", "rejected": " e", "id": 4})
write("hh.jsonl", {"chosen": talk + " d", "rejected": talk + " e", "id": 4})
write("asked.jsonl", {"prompt": talk, "id": 4})
write("text.jsonl", {"prompt": "Human: c", "id": 4})
write("apart.jsonl", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: b"})
write("implicit.jsonl", {"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": []})
write("other.jsonl", {"question": "a"})
END
run 0 generate -m "$tiny" --prompts turns.jsonl -n 8 -s 5
json out '[r[0]["messages"], r[0]["response"]]' >wanted
for dialogue in full hh asked; do
    run 0 generate -m "$tiny" --prompts $dialogue.jsonl -n 8 -s 5
    json out '[r[0]["messages"], r[0]["response"]]' >got
    same got wanted
    json_true out 'r[0]["id"] == 4 and "prompt" not in r[0]'
done
run 0 generate -m "$tiny" --prompts asked.jsonl -n 1 -sys Brief
json_true out 'r[0]["system"] == "Brief" and len(r[0]["messages"]) == 3'
run 0 generate -m "$tiny" --prompts text.jsonl -n 1
json_true out 'r[0]["prompt"] == "Human: c"'
for pairs in apart implicit; do
    run 1 generate -m "$tiny" --prompts $pairs.jsonl -n 1
    says err "$pairs.jsonl:1: \"prompt\" is missing"
    says err "hint: pairs have it in their texts; to take it out: genarm data FILE -o OUT.jsonl"
done
run 1 generate -m "$tiny" --prompts other.jsonl -n 1
says err "other.jsonl:1: \"prompt\" is missing"
check "no hint at pairs" [ "$(grep -c "genarm data" err)" = 0 ]

# One that does not fit is recorded and does not stop the others.
python3 -c 'import json; print(json.dumps({"prompt": "word " * 300})); print(json.dumps({"prompt": "Hi"}))' >long.jsonl
run 0 generate -m "$tiny" -p hi -n 2 -c 300
says err "was trained for 256 tokens, not for a context of 300"
run 0 generate -m "$tiny" -p hi -n 2 -c 256
! grep -q "was trained for" err || fail "a context that the model was trained for is warned of"
run 1 generate -m "$tiny" --prompts long.jsonl -c 128 -n 4
json_true out 'len(r) == 2 and r[0]["finish_reason"] == "error" and "context" in r[0]["error"]'
json_true out 'r[1]["finish_reason"] in ("length", "stop")'
says err "long.jsonl:1: "
says err "1 of 2 prompts could not be answered"

# What fails in the middle of an answer is that prompt's own: some of these begin what the grammar allows and the bias forbids.
for i in 1 2 3 4 5 6; do
    echo "{\"prompt\": \"word $i\", \"id\": $i}"
done >some.jsonl
some=(generate -m "$tiny" --prompts some.jsonl --grammar 'root ::= "a" | "b" "\U0001F600"' --logit-bias 243-inf -n 8 -s 3)
run 1 "${some[@]}"
json_true out '[x["id"] for x in r] == [1, 2, 3, 4, 5, 6]'
json_true out '{x["finish_reason"] for x in r} == {"stop", "error"}'
json_true out 'all("the grammar allows no token" in x["error"] for x in r if x["finish_reason"] == "error")'
json_true out 'all(x["response"] == "a" for x in r if x["finish_reason"] == "stop")'
json out '[[x["id"], x["finish_reason"], x.get("tokens")] for x in r]' >alone
run 1 "${some[@]}" -np 4
json out '[[x["id"], x["finish_reason"], x.get("tokens")] for x in r]' >together
same together alone
says err "of 6 prompts could not be answered"
run 1 generate -m "$tiny" -p "word" --grammar 'root ::= "b" "\U0001F600"' --logit-bias 243-inf
says err "the grammar allows no token"

# A prompt of many pieces is answered as one of one piece.
"$genarm" generate -m "$tiny" -p "$(printf 'one two three, %.0s' {1..12})" --json -n 12 -s 5 "${arms[@]}" -ctk f32 -ctv f32 \
    -b 512 2>err | python3 -c 'import json, sys; print(json.load(sys.stdin)["tokens"])' >whole
for b in 1 16 100; do
    run 0 generate -m "$tiny" -p "$(printf 'one two three, %.0s' {1..12})" --json -n 12 -s 5 "${arms[@]}" -ctk f32 -ctv f32 -b $b
    json out 'r[0]["tokens"]' >pieces
    same pieces whole
done
finish
