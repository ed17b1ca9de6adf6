# genarm merge: a model or an adapter that answers as model and adapters do together.
. "$(dirname "$0")/../support/cli.sh"
lora=$golden/llama.lora.gguf
lora2=$golden/llama.lora2.gguf
answer() { # the log-probability of an answer under the base, ARGUMENTS…
    run 0 score "$@" -p "What?" -r "An answer of some tokens." --json
    json out '[round(t["base"], 3) for t in r[0]["tokens"]]'
}
reward() { # the same under the one ARM
    run 0 score "$@" -p "What?" -r "An answer of some tokens." --json
    json out '[round(list(t["arms"].values())[0], 3) for t in r[0]["tokens"]]'
}
near() { # two lists of numbers
    python3 -c 'import json, sys; a, b = (json.loads(x) for x in sys.argv[1:]); sys.exit(len(a) != len(b) or max(abs(x - y) for x, y in zip(a, b)) > 0.0025)' "$1" "$2"
}

# Into a model.
run 0 merge -m "$tiny" --adapter "$lora" -o merged.gguf
says out "merged.gguf: model, most weights of type F32"
f32=(-ctk f32 -ctv f32)
with=$(reward -m "$tiny" --arm "$lora" "${f32[@]}")
merged=$(answer -m merged.gguf --arm "$lora2" "${f32[@]}")
base=$(answer -m "$tiny" --arm "$lora2" "${f32[@]}")
check "merged answers as base with adapter: $merged, $with" near "$merged" "$with"
! near "$base" "$with" || fail "the adapter has no effect"
run 0 info merged.gguf "$tiny" --json
json_true out 'r[0]["fingerprint"] == r[1]["fingerprint"] and r[0]["parameters"] == r[1]["parameters"]'
run 0 merge -m "$tiny" --adapter "$lora:0.5" --adapter "$lora2:-1" -o two.gguf --type BF16 --json
json_true out 'r[0]["kind"] == "model" and r[0]["output"] == "two.gguf" and r[0]["file_type"] == "BF16"'
check "no temporary files" [ -z "$(find . -name '*.tmp*')" ]

# The default model, quantised.
adapter a.gguf 1
run 0 merge -m "$model" --adapter a.gguf -o default.gguf
run 0 info default.gguf "$model" --json
json_true out 'r[0]["bytes"] > r[1]["bytes"] and r[0]["file_type"] == "Q4_1"'
run 0 merge -m "$model" --adapter a.gguf -o kept.gguf --type keep
run 0 info kept.gguf "$model" --json
json_true out 'r[0]["bytes"] == r[1]["bytes"]'
run 0 generate -m default.gguf -p "Hello" -n 4 --temp 0
run 1 merge -m "$model" --adapter a.gguf -o x.gguf --type Q4_K
says err "rows of 576 weights cannot be of type q4_K"

# Without some layers: of the tiny model's two, and of the default one's thirty.
run 0 merge -m "$tiny" --prune-layers 1 -o half.gguf
says out "half.gguf: model, most weights of type F32, layers 1"
run 0 generate -m half.gguf -p "Hello" -n 4 --temp 0
run 1 generate -m half.gguf --arm "$lora" -p "Hello" -n 4
run 0 merge -m "$tiny" --prune-layers "" -o copy.gguf
same copy.gguf "$tiny"
run 0 merge -m "$model" --prune-layers 10-14,20,12 -o small.gguf --json
json_true out 'r[0]["layers"] == 24 and r[0]["file_type"] == "Q4_1"'
run 0 generate -m small.gguf -p "Hello" -n 4 --temp 0
run 0 merge -m "$model" --adapter a.gguf --prune-layers 0,29 --type keep -o small.gguf --json
json_true out 'r[0]["layers"] == 28'
run 0 generate -m "$model" --arm small.gguf -p "Hello" -n 4 --temp 0
rm -f half.gguf copy.gguf small.gguf

# Into an adapter: no model is needed.
run 0 merge --into adapter --adapter "$lora:0.3" --adapter "$lora2:0.7" -o soup.gguf
says out "soup.gguf: adapter, rank 6, alpha 6, targets q,k,v,o,gate,up,down"
run 0 merge -m "$tiny" --adapter "$lora:0.3" --adapter "$lora2:0.7" -o both.gguf
soup=$(reward -m "$tiny" --arm soup.gguf "${f32[@]}")
both=$(answer -m both.gguf --arm "$lora2" "${f32[@]}")
check "stacked answers as merged: $soup, $both" near "$soup" "$both"
run 0 merge --into adapter --adapter "$lora:0.5" --adapter "$lora:0.5" -o mean.gguf --average-factors --json
json_true out 'r[0]["kind"] == "adapter" and r[0]["rank"] == 4 and r[0]["alpha"] == 8'
mean=$(reward -m "$tiny" --arm mean.gguf "${f32[@]}")
check "the mean of an adapter with itself is itself: $mean, $with" near "$mean" "$with"
cp "$lora" "odd:1"
run 0 merge --into adapter --adapter "odd:1" --adapter "odd:1:2" -o odd.gguf
says out "rank 8"

# Wrong use, wrong files.
wrong() { # TEXT ARGUMENTS…
    local text=$1
    shift
    run 2 merge "$@"
    says err "$text"
}
wrong "the adapters to merge are missing" -m "$tiny" -o x.gguf
wrong "-o: the file to write is missing" -m "$tiny" --adapter "$lora"
wrong "--average-factors: this is for --into adapter" -m "$tiny" --adapter "$lora" -o x.gguf --average-factors
wrong "--type: adapters are F32" --into adapter --adapter "$lora" -o x.gguf --type F16
wrong "is no weight of" -m "$tiny" --adapter "$lora:much" -o x.gguf
wrong "not a finite number" -m "$tiny" --adapter "$lora:nan" -o x.gguf
wrong "\"Q3\" is none of auto|keep|F32" -m "$tiny" --adapter "$lora" -o x.gguf --type Q3
wrong "--prune-layers: this is for --into model" --into adapter --adapter "$lora" -o x.gguf --prune-layers 1
wrong "--type: no weights change without --adapter" -m "$tiny" --prune-layers 1 --type F16 -o x.gguf
for list in 1, ,1 1-0 -1 1- 1.5 one "1 2" 99999999999999999999 1,,2; do
    wrong "\"$list\" is no list of layers such as 3,10-19" -m "$tiny" --prune-layers="$list" -o x.gguf
done
bad() { # WHAT ARGUMENTS…
    local what=$1
    shift
    run 1 merge "$@" -o x.gguf
    says err "$what"
    check "nothing on stdout: $*" [ ! -s out ]
}
bad "nowhere.gguf" -m "$tiny" --adapter nowhere.gguf:1
bad "all weights are 0" -m "$tiny" --adapter "$lora:0"
bad "the adapter is for architecture qwen2" -m "$tiny" --adapter "$golden/qwen2.lora.gguf"
bad "the adapter is for architecture qwen2" --into adapter --adapter "$lora" --adapter "$golden/qwen2.lora.gguf"
bad "tensor blk.0.attn_q.weight.lora_b has outputs 128" --into adapter --adapter "$lora" --adapter "$golden/mistral.lora.gguf"
bad "blk.0.attn_q.weight.lora_a has rank 2" --into adapter --average-factors --adapter "$lora" --adapter "$lora2"
wrong "--prune-layers: there is no layer 2 to leave out" -m "$tiny" --prune-layers 2 -o x.gguf
says err "the model has the layers 0 to 1"
wrong "--prune-layers: all 2 layers would be left out" -m "$tiny" --prune-layers 0-1 -o x.gguf
bad "made for another model" -m "$golden/qwen2.gguf" --into adapter --adapter "$lora"
bad "not a LoRA adapter" --into adapter --adapter "$tiny"
check "nothing was written" [ ! -e x.gguf ]
finish
