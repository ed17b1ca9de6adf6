# What is kept between runs and turns: --prompt-cache, /save and /load, --context-shift.
. "$(dirname "$0")/../support/cli.sh"
kind=$golden/llama.lora.gguf
exact=(-m "$tiny" -ctk f32 -ctv f32)

# A prompt cache changes nothing but the time, whatever else differs.
ask=(generate "${exact[@]}" --arm kind="$kind":1 -n 16 -s 3)
run 0 "${ask[@]}" -p "Name three birds."
cp out plain
run 0 "${ask[@]}" -p "Name three birds." --prompt-cache state
same out plain
check "the cache is written" [ -s state ]
run 0 "${ask[@]}" -p "Name three birds." --prompt-cache state
same out plain
fish=(generate "${exact[@]}" --arm kind="$kind":0.5 -n 16 -s 4 -p "Name three fish.")
run 0 "${fish[@]}"
cp out other
cp state before
run 0 "${fish[@]}" --prompt-cache state --prompt-cache-ro
same out other
same state before
run 0 "${fish[@]}" --prompt-cache state --json
check "the record has the same text" [ "$(json out 'r[0]["response"]')" = "$(cat other)" ]
! cmp -s state before || fail "the cache is not written again"

# Without an answer the file has the prompt.
run 0 "${ask[@]}" -p "Name three birds." -n 0 --prompt-cache prompt
check "the prompt is written" [ -s prompt ]
run 0 "${ask[@]}" -p "Name three birds." --prompt-cache prompt --prompt-cache-ro --json
check "the answer is the same" [ "$(json out 'r[0]["response"]')" = "$(cat plain)" ]
json_true out 'r[0]["evaluated"]["base"] == len(r[0]["tokens"])'

# Steering and drafts are of the run, the file is of the models.
steered=(generate "${exact[@]}" --arm kind="$kind":1 -n 16 -s 3 -p "Name three birds." --grammar 'root ::= [a-z ]+')
run 0 "${steered[@]}"
cp out letters
run 0 "${steered[@]}" --prompt-cache state
same out letters
run 0 "${steered[@]}" --prompt-cache state --spec-type ngram-simple --draft 4 --draft-min 4 --temp 0
cp out drafted
run 0 "${steered[@]}" --temp 0
same out drafted

# The same on libllama, and each engine for itself.
run 0 "${ask[@]}" -p "Name three birds." --engine llama
cp out other
for i in 1 2; do
    run 0 "${ask[@]}" -p "Name three birds." --engine llama --prompt-cache foreign
    same out other
done
run 1 "${ask[@]}" -p "Name three birds." --prompt-cache foreign
says err "foreign: the saved KV cache is of another kind of engine"
run 1 "${ask[@]}" -p "Name three birds." --engine llama --prompt-cache state
says err "state: the saved KV cache is of another kind of engine"
run 0 "${ask[@]}" -p "Tell me a story." --engine llama -c 64 -n 200 -s 1 --json --context-shift --keep 4
json_true out 'r[0]["finish_reason"] == "stop" or len(r[0]["tokens"]) == 200'

# Files of other models, damaged and missing ones.
run 1 generate "${exact[@]}" -p Hi -n 2 --prompt-cache state
says err "state: the session was saved with 2 policies"
run 1 generate -m "$tiny" --arm kind="$kind":1 -p Hi -n 2 --prompt-cache state
says err "keys in f32"
says err "hint: use the types that it was saved with (-ctk, -ctv)"
run 1 generate "${exact[@]}" --arm kind="$golden/llama.lora2.gguf":1 -p Hi -n 2 --prompt-cache state
says err "another adapter of the reward model kind"
head -c 3000 state >cut
run 1 "${ask[@]}" -p Hi --prompt-cache cut
says err "cut: the saved session is damaged"
cp "$tiny" copy.gguf
run 1 "${ask[@]}" -p Hi --prompt-cache copy.gguf
says err "is not a saved session"
says err "hint: name another file"
same copy.gguf "$tiny"
run 1 "${ask[@]}" -p Hi --prompt-cache nowhere --prompt-cache-ro
says err "nowhere: cannot open the file"
run 2 "${ask[@]}" -p Hi --prompt-cache-ro
run 2 "${ask[@]}" -p Hi --prompt-cache state --no-cache-prompt
run 2 "${ask[@]}" --prompts prompts.txt --prompt-cache state
run 2 "${ask[@]}" -p Hi --prompt-cache state -o state
run 2 "${ask[@]}" -p Hi --prompt-cache new -o ./new
says err "-o: ./new is read as well"
check "nothing is written" [ ! -e new ]
run 1 "${ask[@]}" -p Hi --prompt-cache nowhere/state
says err "nowhere/state: cannot create the file"
check "what cannot be kept is not computed" [ ! -s out ]

# An answer that outgrows its context ends, or goes on.
run 0 generate "${exact[@]}" -p "Tell me a story." -c 64 -n 200 -s 1 --json
json_true out 'r[0]["finish_reason"] in ("context", "stop")'
for keep in -1 0 4; do
    run 0 generate "${exact[@]}" --arm kind="$kind":1 -p "Tell me a story." -c 64 -n 200 -s 1 --json --context-shift --keep $keep
    json_true out 'r[0]["finish_reason"] == "stop" or len(r[0]["tokens"]) == 200'
done
run 1 generate "${exact[@]}" -p "$(printf 'word %.0s' $(seq 100))" -c 64 --context-shift
says err "the prompt has"
run 0 generate "${exact[@]}" -p "Tell me a story." -n 1 --json
room=$(($(json out 'r[0]["timings"]["prompt_tokens"]') + 1)) # a prompt that is all kept fills it
run 0 generate "${exact[@]}" -p "Tell me a story." -c $room -s 1 --json --context-shift
json_true out 'r[0]["finish_reason"] == "context" and len(r[0]["tokens"]) == 1'
run 0 generate "${exact[@]}" -p "Tell me a story." -c $room -n 50 -s 1 --json --context-shift --keep 4
json_true out 'r[0]["finish_reason"] == "stop" or len(r[0]["tokens"]) == 50'
run 0 generate "${exact[@]}" --arm kind="$kind":1 -p "Tell me a story." -c 64 -n 200 -s 1 --json --context-shift \
    --spec-type ngram-simple --grammar 'root ::= [a-z ]+' --arm-schedule kind=0:1,40:0
json_true out 'len(r[0]["tokens"]) in range(80, 201) and r[0]["response"].replace(" ", "").isalpha()'

# A chat that is saved goes on as if it had not ended, with its weight and random stream.
talk() { # TEXT ARGUMENTS…
    local text=$1 status=0
    shift
    printf "$text" | "$genarm" chat "${exact[@]}" -n 12 --arm kind="$kind":0 "$@" >out 2>err || status=$?
    [ "$status" = 0 ] || fail "status $status: genarm chat $*" out err
}
talk '/weight kind 0.7\nMy name is Ada.\n/save a chat\nWhat is my name?\n' -s 5
tail -c +1 out >whole
talk '/weight kind 0.7\nMy name is Ada.\n' -s 5
head_size=$(wc -c <out)
tail -c +$((head_size + 1)) whole >second
talk '/load a chat\nWhat is my name?\n/weight\n' -s 99 --temp 0
same out second
says err "kind 0.7"
talk 'Hi\n/save\n/load \n'
says err "name a file: /save FILE"
status=0
printf '/load nowhere\n' | "$genarm" chat "${exact[@]}" >out 2>err || status=$?
check "a chat that cannot be loaded is an error ($status)" [ "$status" = 1 ]
status=0
cp "$tiny" copy.gguf
printf 'Hi\n/save copy.gguf\n' | "$genarm" chat "${exact[@]}" -n 2 >out 2>err || status=$?
check "another file is not replaced ($status)" [ "$status" = 1 ]
says err "copy.gguf: is not a saved session"
same copy.gguf "$tiny"
status=0
printf '/load state\n' | "$genarm" chat "${exact[@]}" --arm kind="$kind" >out 2>err || status=$?
check "a prompt cache is no chat ($status)" [ "$status" = 1 ]
says err "was not saved by a chat"

# A conversation that outgrows the context: the way out is said, or the oldest turns go.
story='Tell me a story.\nGo on.\nGo on.\nGo on.\nGo on.\nGo on.\n'
status=0
printf "$story" | "$genarm" chat "${exact[@]}" -c 96 -n 20 -s 2 >out 2>err || status=$?
check "a full context is an error ($status)" [ "$status" = 1 ]
says err "with --context-shift the oldest turns are forgotten"
talk "$story" -c 96 -n 20 -s 2 --context-shift -sys "Be brief."
says err "the oldest "
! grep -q "1 turns" err || fail "1 turn is forgotten" err
talk "$story" -c 96 -n -1 -s 2 --context-shift -n 150
finish
