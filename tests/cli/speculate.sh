# Speculation: greedy answers are those without it, records say what was drafted, wrong options are refused.
. "$(dirname "$0")/../support/cli.sh"
arm=$golden/llama.lora.gguf
cp "$tiny" small.gguf
ask=(generate -m "$tiny" -p "one two three, one two three, one two" -n 48 -ctk f32 -ctv f32)
guided=("${ask[@]}" --arm "kind=small.gguf+$arm:0.8")

# Whatever drafts, a greedy answer is the same (weights and cache in f32).
cp "$golden/llama-padded.gguf" padded.gguf
cp "$tiny" tiny.gguf
run 0 "${guided[@]}" --temp 0
cp out plain
for draft in "-md small.gguf" "-md padded.gguf --draft-max 3" "--draft-arm kind" "--draft-arm kind:1.5 --draft 1" \
    "-md small.gguf --draft-arm kind" "-md small.gguf --draft-arm kind:0.8 --draft-min 4 --draft-max 4" \
    "-md tiny.gguf --draft-min 5" "--spec-type ngram-simple" "--spec-type ngram-simple --spec-ngram-size-n 1 --draft-min 8" ; do
    run 0 "${guided[@]}" --temp 0 $draft
    same out plain
done
run 0 "${ask[@]}" --temp 0
cp out unguided
run 0 "${ask[@]}" --temp 0 -md small.gguf --draft-min 3
same out unguided

# With a fixed length a seed gives the same answer again.
run 0 "${guided[@]}" -s 5 -md small.gguf --draft-min 4 --draft-max 4
cp out first
run 0 "${guided[@]}" -s 5 -md small.gguf --draft-min 4 --draft-max 4
same out first

# Weights that are not given make a draft as sharp as the mixture: an ARM relative to its reference adds nothing.
drafted() { # OPTIONS…: what was drafted and what was answered
    run 0 "${guided[@]}" -s 5 --draft-min 4 --draft-max 4 --json "$@"
    json out '[r[0]["tokens"], r[0]["timings"]["drafted_tokens"], r[0]["timings"]["accepted_tokens"]]'
}
check "the draft is a policy squared, about" [ "$(drafted --draft-arm kind)" = "$(drafted --draft-arm kind:1.8)" ]
check "or a policy" [ "$(drafted --draft-arm kind --minus-reference all)" = "$(drafted --draft-arm kind:1 --minus-reference kind)" ]

# What came of it.
run 0 "${guided[@]}" --temp 0 -md small.gguf --draft-arm kind:0.8 --draft-min 4 --draft-max 4 --json
json_true out 'r[0]["timings"]["drafted_tokens"] >= r[0]["timings"]["accepted_tokens"] > 0'
json_true out 'r[0]["arms"] == {"kind": 0.8}'
run 0 "${guided[@]}" --temp 0 --json
json_true out '"drafted_tokens" not in r[0]["timings"]'
run 0 "${guided[@]}" --temp 0 -md small.gguf --draft-min 4 -v
says err "tokens drafted"
says err "tokens a pass"
run 0 "${guided[@]}" -n 0 --temp 0 -md small.gguf -v
says err "nothing was drafted"

# Several prompts at once.
printf '%s\n' '{"prompt": "one two one two"}' '{"prompt": "How are you?"}' '{"prompt": "three"}' >prompts.jsonl
many=(generate -m "$tiny" --prompts prompts.jsonl --arm "kind=small.gguf+$arm" -n 24 --temp 0 -ctk f32 -ctv f32)
run 0 "${many[@]}"
json out '[x["response"] for x in r]' >one_by_one
for draft in "-md small.gguf --draft-min 2" "--draft-arm kind" "--spec-type ngram-simple --spec-ngram-size-n 1"; do
    run 0 "${many[@]}" -np 3 $draft
    json out '[x["response"] for x in r]' >together
    same together one_by_one
done

# A chat, whose weights change.
turns='one two three one two\n/weight kind 2\nGo on\n/weight kind 0\nGo on\n/seed 3\nGo on\n'
chat=(chat -m "$tiny" -n 16 --temp 0 -ctk f32 -ctv f32 --arm "kind=small.gguf+$arm")
printf "$turns" | "$genarm" "${chat[@]}" >plain_chat 2>err || fail "chat" err
for draft in "-md small.gguf --draft-min 3" "--draft-arm kind" "--spec-type ngram-simple --spec-ngram-size-n 1 --draft-min 4"; do
    printf "$turns" | "$genarm" "${chat[@]}" $draft >drafted_chat 2>err || fail "chat $draft" err
    same drafted_chat plain_chat
done

# Wrong use.
run 2 "${guided[@]}" --draft-arm terse
says err 'no --arm is called "terse"'
run 2 "${guided[@]}" --draft-arm kind:x
says err '"x" is not a finite weight above 0'
run 2 "${guided[@]}" --draft-arm kind:0
run 2 "${guided[@]}" --draft-arm kind --spec-type ngram-simple
says err "--spec-type"
run 2 "${guided[@]}" --draft-arm kind --draft-min 8 --draft-max 4
says err "--draft-min"
run 2 "${guided[@]}" --draft-arm kind --draft-max 65
run 2 "${guided[@]}" -md "$arm"
says err "is an adapter, not a model"
run 1 "${guided[@]}" -md nowhere.gguf
says err "nowhere.gguf"
run 1 "${guided[@]}" -md "$golden/llama-mismatch.gguf"
says err "--model-draft: the vocabularies differ: token 290"
run 2 "${guided[@]}" -md small.gguf -o small.gguf
says err "would be lost"
finish
