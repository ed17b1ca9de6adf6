# What is wrong with files: exit status 1, a message that names the file (and line), nothing
# on stdout, no crash.
. "$(dirname "$0")/../support/cli.sh"

bad() { # WHERE WHAT ARGUMENTS…
    local where=$1 what=$2
    shift 2
    run 1 "$@"
    says err "genarm: error: "
    says err "$where"
    says err "$what"
    check "nothing on stdout: $*" [ ! -s out ]
}
tiny=$golden/llama.gguf

# Models.
bad nowhere.gguf "" info nowhere.gguf
bad nowhere.gguf "" generate -m nowhere.gguf -p x
echo "no model" >text.gguf
bad text.gguf "" info text.gguf
bad text.gguf "" generate -m text.gguf -p x
: >empty.gguf
bad empty.gguf "" info empty.gguf
mkdir folder.gguf
bad folder.gguf "" info folder.gguf
size=$(stat -c %s "$tiny")
for i in $(seq 1 50); do
    head -c $((size * i / 51)) "$tiny" >cut.gguf
    bad cut.gguf "" info cut.gguf
done
bad llama.lora.gguf "" generate -m "$golden/llama.lora.gguf" -p x

mkfifo waiting.gguf
bad waiting.gguf "not a regular file" info waiting.gguf

# The last weight is no number: nothing is made up from what that computes.
patch_file() { # FROM TO OLD NEW: the last place where the bytes OLD are
    python3 -c '
import sys
data = open(sys.argv[1], "rb").read()
old, new = (bytes.fromhex(x) for x in sys.argv[3:])
at = data.rindex(old) if old else len(data) - len(new)
open(sys.argv[2], "wb").write(data[:at] + new + data[at + len(new):])' "$@"
}
patch_file "$tiny" nan.gguf "" 0000c07f
bad nan.gguf "not finite" generate -m nan.gguf -p x
bad nan.gguf "not finite" score -m nan.gguf -p x -r y
bad nan.gguf "not finite" generate -m "$tiny" -p x --arm nan.gguf:1
bad "" "weights of the reward models" generate -m "$tiny" -p x --arm "$golden/llama.lora.gguf:3e38"

# Reward models.
bad nowhere.gguf "" generate -m "$tiny" -p x --arm nowhere.gguf:1
for weight in abc 1:2; do
    bad "llama.lora.gguf:${weight%:2}: " "No such file" generate -m "$tiny" -p x --arm "$golden/llama.lora.gguf:$weight"
    says err "hint: is the path right? --arm takes [NAME=]PATH[+ADAPTER][:WEIGHT]"
done
bad nowhere.gguf "" generate -m "$tiny" -p x --arm "$tiny+nowhere.gguf"
bad qwen2.lora.gguf "" generate -m "$tiny" -p x --arm "$golden/qwen2.lora.gguf"
bad llama-mismatch.gguf "the vocabularies differ: token 2" generate -m "$tiny" -p x --arm "$golden/llama-mismatch.gguf"
run 2 generate -m "$tiny" -p x --arm "$golden/llama.lora.gguf+$golden/llama.lora.gguf"
says err "before '+' there must be a model"

# Templates: the message lists what there is.
bad "" "chatml" generate -m "$tiny" -p x --chat-template chattml
bad "ARM a: " "chattml" generate -m "$tiny" -p x --arm "a=$golden/llama.lora.gguf" --arm-template a=chattml

# Prompts.
bad nowhere.txt "" generate -m "$tiny" -f nowhere.txt
printf 'a\0b' >zero.txt
bad zero.txt "not text" generate -m "$tiny" -f zero.txt
bad "" "context" generate -m "$tiny" -c 16 -p "a prompt that is longer than sixteen tokens of one byte"
printf '{"prompt": "fine"}\n{"prompt": "broken\n' >broken.jsonl
bad broken.jsonl:2 "JSON" generate -m "$tiny" --prompts broken.jsonl
printf '{"text": "no prompt"}\n' >missing.jsonl
bad missing.jsonl:1 '"prompt"' generate -m "$tiny" --prompts missing.jsonl
printf '{"prompt": 7}\n' >number.jsonl
bad number.jsonl:1 '"prompt" must be a string' generate -m "$tiny" --prompts number.jsonl
printf '["prompt"]\n' >list.jsonl
bad list.jsonl:1 "a record must be a JSON object" generate -m "$tiny" --prompts list.jsonl
printf '{"messages": []}\n' >none.jsonl
bad none.jsonl:1 '"messages"' generate -m "$tiny" --prompts none.jsonl
printf '{"messages": [{"role": "robot", "content": "x"}]}\n' >role.jsonl
bad role.jsonl:1 'role "robot"' generate -m "$tiny" --prompts role.jsonl
printf '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n' >last.jsonl
bad last.jsonl:1 "the last message" generate -m "$tiny" --prompts last.jsonl
printf '\n \n' >blank.jsonl
bad blank.jsonl "no records" generate -m "$tiny" --prompts blank.jsonl

# Pairs.
printf '{"prompt": "x", "chosen": "y", "rejected": "z"}\n' >half_ok.jsonl
printf '{"prompt": "x", "chosen": "y"}\n' >half.jsonl
bad half.jsonl:1 '"rejected"' score -m "$tiny" -d half.jsonl
bad half.jsonl:1 '"rejected"' train -m "$tiny" -d half.jsonl -o arm.gguf
bad broken.jsonl "" train -m "$tiny" -d broken.jsonl -o arm.gguf
bad nowhere.jsonl "" train -m "$tiny" -d nowhere.jsonl -o arm.gguf
printf '{"prompt": "x", "chosen": "", "rejected": "y"}\n' >empty.jsonl
bad "" "" train -m "$tiny" -d empty.jsonl -o arm.gguf
check "no adapter is left behind" [ ! -e arm.gguf ]
bad folder.gguf "" train -m "$tiny" -d half_ok.jsonl -o arm.gguf --log folder.gguf
check "nor a folder without a checkpoint" [ ! -e arm.gguf.ckpt ]

# Output over what is read, by whatever name: refused, and all is as before.
printf '{"prompt": "x", "chosen": "y", "rejected": "z"}\n' >one.jsonl
cp one.jsonl kept.jsonl
cp "$tiny" own.gguf
cp "$golden/llama.lora.gguf" arm.gguf
ln -s own.gguf link.gguf
ln one.jsonl hard.jsonl
lost() { # FILE ARGUMENTS…
    local file=$1
    shift
    run 2 "$@"
    says err "$file is read as well"
}
lost own.gguf train -m own.gguf -d one.jsonl -o own.gguf
lost link.gguf train -m own.gguf -d one.jsonl -o link.gguf
lost hard.jsonl train -m own.gguf -d one.jsonl -o hard.jsonl
lost one.jsonl train -m own.gguf -d one.jsonl -o x.gguf --log one.jsonl
lost own.gguf train -m own.gguf -d one.jsonl -o x.gguf --log own.gguf
run 2 train -m own.gguf -d one.jsonl -o x.gguf --log x.gguf
lost one.jsonl generate -m own.gguf --prompts one.jsonl -o one.jsonl
lost own.gguf generate -m own.gguf -p x -o own.gguf
lost arm.gguf generate -m own.gguf -p x --arm arm.gguf -o arm.gguf
lost link.gguf merge -m own.gguf --adapter arm.gguf -o link.gguf
lost arm.gguf merge -m own.gguf --adapter arm.gguf -o arm.gguf
lost arm.gguf merge --adapter arm.gguf --into adapter -o arm.gguf
lost hard.jsonl data one.jsonl -o hard.jsonl
cp one.jsonl all.train.jsonl
lost all.train.jsonl data all.train.jsonl -o all.jsonl --split 0.5
same one.jsonl kept.jsonl
same own.gguf "$tiny"
same arm.gguf "$golden/llama.lora.gguf"
rm arm.gguf

# Output that cannot be written.
for option in -o -f -m -md --prompts --grammar-file --prompt-cache; do
    run 2 generate -m "$tiny" -p x -n 4 $option ""
    says err "genarm: error: $option: the name of a file is empty"
done
# "-" is no name of a file that a command would make or miss.
dashed() { # OPTION TEXT ARGUMENTS…
    run 2 "${@:3}"
    says err "genarm: error: $1: \"-\" does not work here: $2"
    check "no file is made: ${*:3}" [ ! -e - ]
}
dashed -o "without the option all goes to stdout" generate -m "$tiny" -p x -n 4 -o -
dashed -o "without the option all goes to stdout" score -m "$tiny" --answers answers.jsonl -o - --reward cmd:cat
dashed -o "a file is needed" merge -m "$tiny" --adapter "$golden/llama.lora.gguf" -o -
dashed -o "a file is needed" train -m "$tiny" -d pair.jsonl -o -
dashed -d "a file is needed" train -m "$tiny" -d - -o x.gguf
dashed FILE "a file is needed" info -
echo '{"prompt": "x"}' | "$genarm" generate -m "$tiny" --prompts - -n 4 --temp 0 >out 2>err
json_true out 'len(r) == 1 and r[0]["prompt"] == "x"'
seq 200 | sed 's/.*/{"prompt": "&"}/' >many.jsonl
seq 9 | sed 's/.*/{"prompt": "&", "chosen": "yes", "rejected": "no"}/' >many_pairs.jsonl
echo before >answers.jsonl
(ulimit -f 8 && run 1 generate -m "$tiny" --prompts many.jsonl -n 4 -o answers.jsonl; finish) || failures=$((failures + 1))
says err "answers.jsonl.partial: cannot write the file: File too large"
rm -f answers.jsonl.partial
says answers.jsonl before
check "no temporary file is left" [ -z "$(ls answers.jsonl.tmp* 2>/dev/null)" ]
bad nowhere/out.txt "" generate -m "$tiny" -p x -n 4 -o nowhere/out.txt
if [ -w /dev/full ]; then
    for arguments in "generate -p x -n 4" "generate -p x -n 4 --json" "info" "score -p x -r y"; do
        status=0
        "$genarm" $arguments -m "$tiny" >/dev/full 2>err || status=$?
        check "a full disk is an error: $arguments ($status)" [ "$status" = 1 ]
        says err "stdout"
    done
fi

# With stderr closed, messages are nowhere, least of all in a file that would have its number.
status=0
"$genarm" train -m "$tiny" -d many_pairs.jsonl -o quiet.gguf --log quiet.jsonl 2>&- >out || status=$?
check "a closed stderr does no harm ($status)" [ "$status" = 0 ]
json_true quiet.jsonl '"run" in r[0] and all("step" in x for x in r[1:])'
for arguments in "generate -p x -n 4" "info" "--help" "train --help"; do
    status=0
    "$genarm" $arguments -m "$tiny" >&- 2>err || status=$?
    check "a closed stdout is an error: $arguments ($status)" [ "$status" = 1 ]
done

# A file that a command reads is never one that it writes.
cp "$tiny" m.gguf
cp "$golden/llama.lora.gguf" l.gguf
cp m.gguf model_before
cp l.gguf adapter_before
echo '{"prompt": "a", "chosen": "b", "rejected": "c"}' >pair.jsonl
echo '{"prompt": "a", "response": "b", "finish_reason": "stop"}' >answers.jsonl
echo "Why?" >prompt.txt
run 0 convert -m m.gguf l.gguf -o peft
keeps() { # ARGUMENTS…
    run 2 "$@"
    says err "is read as well and would be lost"
    same m.gguf model_before
    same l.gguf adapter_before
    check "the folder is as before" diff -r peft peft_before
}
cp -r peft peft_before
keeps convert -m m.gguf peft -o m.gguf
keeps convert -m m.gguf peft -o peft/adapter_model.safetensors
keeps convert -m m.gguf peft -o peft/adapter_config.json
keeps merge --into adapter -m m.gguf --adapter l.gguf:1 -o m.gguf
LLAMA_ARG_MODEL=m.gguf keeps merge --into adapter --adapter l.gguf:1 -o m.gguf
keeps merge --into model -m m.gguf --adapter l.gguf:1 -o m.gguf
keeps train -m m.gguf -d pair.jsonl --loss dpo --reference-adapter l.gguf -o l.gguf
keeps train -m m.gguf -d pair.jsonl --loss dpo --reference-adapter l.gguf -o x.gguf --log l.gguf
keeps rl -m m.gguf --prompts prompt.txt -n 8 --group-size 2 --reward arm:l.gguf -o l.gguf
keeps rl -m m.gguf --prompts prompt.txt -n 8 --group-size 2 --reward "arm:m.gguf+l.gguf:0.5" -o x.gguf --log l.gguf
keeps score -m m.gguf --answers answers.jsonl --reward arm:l.gguf -o l.gguf
keeps judge -m m.gguf --judge arm:l.gguf answers.jsonl answers.jsonl -o l.gguf

# Random bytes come out as valid UTF-8, whatever the model samples.
for seed in 1 2 3 4 5 6; do
    run 0 generate -m "$tiny" -p x -n 60 -s $seed
    check "seed $seed: valid UTF-8" iconv -f UTF-8 -t UTF-8 -o /dev/null out
    run 0 generate -m "$tiny" -p x -n 60 -s $seed --json
    json_true out 'len(r) == 1'
done
finish
