# --engine: the same answers by libllama, and a model of an architecture that our own graph does not have.
. "$(dirname "$0")/../support/cli.sh"

# On F32 weights and caches both engines answer alike, guided and scored.
arm="help=$golden/llama.lora.gguf"
for engine in genarm llama; do
    run 0 generate -m "$tiny" --engine $engine --arm "$arm:0.8" -p "Hello there" -n 24 -s 3 -ctk f32 -ctv f32
    cp out "$engine.txt"
    run 0 score -m "$tiny" --engine $engine --arm "$arm" -p "Hello there" -r "I am fine" --json -ctk f32 -ctv f32
    cp out "$engine.json"
done
check "guided answers are not empty" [ -s genarm.txt ]
same genarm.txt llama.txt
cat genarm.json llama.json >both.json
json_true both.json 'all(abs(r[0][k] - r[1][k]) < 1e-3 for k in ("base", "guided"))'
json_true both.json 'abs(r[0]["rewards"]["help"] - r[1]["rewards"]["help"]) < 1e-3'
run 0 info "$tiny" --json
json_true out 'r[0]["engine"] == "genarm"'
run 0 info "$tiny" --engine llama --json
json_true out 'r[0]["engine"] == "llama" and r[0]["architecture"] == "llama"'
printf '{"prompt":"a","chosen":"b","rejected":"c"}\n' >pairs.jsonl
run 1 train -m "$tiny" --engine llama -d pairs.jsonl -o arm.gguf
says err "training needs genarm's own graph"
says err "leave out --engine llama"
run 2 generate -m "$tiny" --engine fast -p Hello
check "nothing was written" [ ! -e arm.gguf ]

# Gemma 3, where `scripts/deps.sh gemma` has fetched it.
gemma=$source_dir/models/gemma-3-270m-Q4_K_M.gguf
[ -f "$gemma" ] || finish
run 0 info "$gemma" --json
json_true out 'r[0]["architecture"] == "gemma3" and r[0]["engine"] == "llama" and r[0]["layers"] == 18'
run 1 info "$gemma" --engine genarm
says err '"gemma3" is not supported'
plain=(generate -m "$gemma" --chat-template 'raw:{prompt}' -c 512 -p "The capital of France is" -n 24)
run 0 "${plain[@]}" --temp 0
says out "France"
cp out greedy.txt
run 0 "${plain[@]}" --temp 0 --arm "$gemma:0"
same out greedy.txt
run 0 "${plain[@]}" --temp 0 --arm "$gemma:1" # twice the logits: the same greedy answer
same out greedy.txt
run 0 score -m "$gemma" --arm "self=$gemma" --chat-template 'raw:{prompt}' -c 512 -p Hello -r " world" --no-eos --json
json_true out 'r[0]["base"] == r[0]["rewards"]["self"] and r[0]["base"] < 0'
run 0 score -m "$gemma" --chat-template 'raw:{prompt}' -c 512 -p "The capital of France is" --no-eos -r " Paris" --json
cp out paris.json
run 0 score -m "$gemma" --chat-template 'raw:{prompt}' -c 512 -p "The capital of France is" --no-eos -r " banana" --json
cat paris.json out >both.json
json_true both.json 'r[0]["base"] > r[1]["base"]'

# An adapter on it: as the base, as an ARM, relative to its reference, drafting; in a chat.
"$(dirname "$genarm")/tests/write_adapter" "$gemma" kind.gguf 1 0.003 || fail "no adapter"
run 0 "${plain[@]}" --temp 0 --lora kind.gguf
cp out adapted.txt
! cmp -s greedy.txt adapted.txt || fail "the adapter changes nothing"
run 0 "${plain[@]}" --temp 0 --arm kind.gguf:0
same out greedy.txt
run 0 "${plain[@]}" --temp 0 --arm kind.gguf:1 --minus-reference all
same out adapted.txt
for draft in "--draft-arm kind --draft-min 3" "--spec-type ngram-simple --spec-ngram-size-n 1 --draft-min 3"; do
    run 0 "${plain[@]}" --temp 0 --arm kind.gguf:1 $draft -v # to the rounding of another batch the answer without
    says err "tokens drafted"
    says out "France"
done
printf 'What is the capital of France?\n/weight kind 2\nAnd of Italy?\n' |
    "$genarm" chat -m "$gemma" --arm kind.gguf:1 -c 512 -n 8 --temp 0 >out 2>err || fail "chat" err
check "both turns are answered" [ "$(wc -c <out)" -gt 10 ]
run 1 merge -m "$gemma" --adapter kind.gguf -o merged.gguf
says err "merging adapters into a model needs genarm's own graph"
run 1 merge --adapter kind.gguf --adapter kind.gguf --into adapter -o merged.gguf
says err "architecture gemma3, which is not known"
run 1 convert -m "$gemma" kind.gguf -o peft
says err "converting an adapter needs genarm's own graph"
run 1 train -m "$gemma" -d pairs.jsonl -o arm.gguf
says err "training needs genarm's own graph"
says err '"gemma3" is not supported'
says err "supported are llama"
finish
