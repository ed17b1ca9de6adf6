# Help, version, and wrong use: exit status 2, one line that says what is wrong, one that
# says where help is, and nothing on stdout.
. "$(dirname "$0")/../support/cli.sh"

wrong() { # TEXT ARGUMENTS…
    local text=$1
    shift
    run 2 "$@"
    says err "genarm: error: $text"
    says err "see genarm"
    check "one line of error: $*" [ "$(grep -vc "^hint: " err)" = 2 ]
    check "nothing on stdout: $*" [ ! -s out ]
}

run 0 --version
check "version" grep -qE '^genarm [0-9]+\.[0-9]+\.[0-9]+$' out
run 0 --help
for command in generate chat serve score train rl data merge convert info bench; do
    says out "  $command"
done
cp out help
run 0 help
same out help
run 0 version
check "version" grep -qE '^genarm [0-9]' out
run 0 train --help
cp out help
run 0 help train
same out help
wrong "frob: unknown command" help frob
run 2
says err "usage: genarm"
check "help that was not asked for is not on stdout" [ ! -s out ]

for command in generate chat serve score train rl data merge convert info bench; do
    run 0 $command --help
    says out "usage: genarm $command"
    says out "Examples:"
    check "nothing on stderr" [ ! -s err ]
    check "$command: examples use known options" [ -z "$(
        sed -n '/^Examples:/,$s/mpirun .* genarm /genarm /; /^Examples:/,$p' out | grep -v '^ *curl ' | grep -oE ' --?[a-z][a-z0-9-]*' | sort -u | while read -r option; do
            sed '/^Examples:/,$d' out | grep -qE "(^| )$option([ ,]|\$)" || echo "$option"
        done)" ]
done

wrong "generat: unknown command; did you mean generate?" generat
wrong "xyzzy: unknown command" xyzzy
wrong "--frob: unknown option" --frob
wrong "--topk: unknown option; did you mean --top-k?" generate --topk 3 -p x
wrong "--top-p: \"2\" is not a number from 1e-06 to 1" generate --top-p 2 -p x
wrong "-n: \"ten\" is not a whole number" generate -n ten -p x
wrong "-m: a value is missing" generate -p x -m
wrong "x.gguf: not an option, and generate takes nothing else" generate x.gguf -p x
wrong "-p: a prompt is missing" generate
wrong "-f: -p gives the prompt already" generate -p x -f y
wrong "--prompts: -p and -f cannot be given as well" generate -p x --prompts y
wrong "--arm a.gguf:inf: the weight must be a finite number" generate -p x --arm a.gguf:inf
wrong '--minus-reference: no --arm is called "x"' generate -p x --minus-reference x
wrong "--arm: two reward models are called \"a\"" generate -p x --arm a.gguf --arm b/a.gguf
wrong "--arm-template: no --arm is called \"b\"" generate -p x --arm a.gguf --arm-template b=chatml
wrong "--arm-template: \"chatml\" is not NAME=TEMPLATE" generate -p x --arm a.gguf --arm-template chatml
wrong "-ctk: keys and values are stored alike" generate -p x -ctk f32 -ctv f16
LLAMA_ARG_CACHE_TYPE_K=q8_0 wrong "-ctk: keys and values are stored alike" generate -p x -ctv f16
says err "LLAMA_ARG_CACHE_TYPE_K"
wrong "-r: a response is missing" score -p x
wrong "-p: a prompt is missing" score -r x
wrong "-d: -p, -f and -r cannot be given as well" score -d x -r y
wrong "-d: training pairs are missing" train -o x.gguf
wrong "--loss: \"ppo\" is none of arm|hinge|simpo|sft|dpo|ipo|bt" train --loss ppo
wrong "-o: the file to write is missing" train -d x.jsonl
wrong '--lora-targets: unknown LoRA target "x"' train -d x.jsonl -o y.gguf --lora-targets q,x
wrong '--lora-targets: unknown LoRA target "x"' rl --prompts x --reward y -o z.gguf --lora-targets q,x
wrong "the bt loss knows no beta" train -d x.jsonl -o y.gguf --loss bt --beta .1
wrong "--format: \"hh\" is none of auto|genarm|hh-rlhf|" train --format hh
wrong "--label: \"worse\" is none of better|safer" score --label worse
wrong "FILE: a file is missing" data
wrong "--split: the file to write is missing" data x.jsonl --split 0.1
wrong "--split: the share must be below 1" data x.jsonl --split 1 -o y.jsonl
wrong "--chat-template: it is of use with -m only" data x.jsonl --chat-template chatml
wrong "--beta: \"nan\" is not a number" train --beta nan
wrong "-s: \"-2\" is not a whole number from -1 to 9007199254740991" generate -s -2 -p x
wrong "-t: \"513\" is not a whole number from -1 to 512" generate -t 513 -p x
wrong "--temp: \"0\" is not a number from 0.01 to 100" rl --temp 0
run 0 rl --help
check "rl has a temperature of its own" [ "$(tr -s ' \n' ' ' <out | grep -c "temperature, 0.01 at least: responses must differ")" = 1 ]
check "and none of 0" [ "$(grep -c "0: always" out)" = 0 ]
wrong "--min-p: \"1\" is not a number from 0 to 0.999999" generate --min-p 1 -p x
# What llama.cpp's own commands take.
tiny=$golden/llama.gguf
for words in "-ngl auto" "-ngl all" "-ngl all -dev none" "-np -1"; do
    run 0 generate -m "$tiny" -p x -n 1 $words
done
LLAMA_ARG_N_GPU_LAYERS=auto LLAMA_ARG_N_PARALLEL=-1 run 0 generate -m "$tiny" -p x -n 1
wrong "-np: \"0\" is not a whole number from 1 to 1024" generate -p x -np 0
wrong "-ub: unknown option: there is one batch size, -b" generate -p x -ub 512
wrong "--threads-batch: unknown option: there is one number of threads, -t" bench --threads-batch 4
wrong "-fa: unknown option: flash attention is used wherever it can be" generate -p x -fa on
run 2 info -fa on
check "nothing to do with this command, nor near to anything" grep -q "error: -fa: unknown option$" err
run 0 generate -m "$tiny" -p x -n 8 -s 1 -ctk f32 -ctv f32
cp out f32
for words in "-ctk f32" "-ctv f32"; do # the other one is the same
    run 0 generate -m "$tiny" -p x -n 8 -s 1 $words
    same out f32
done
LLAMA_ARG_CACHE_TYPE_V=f32 run 0 generate -m "$tiny" -p x -n 8 -s 1
same out f32
LLAMA_ARG_CACHE_TYPE_V=f16 run 0 generate -m "$tiny" -p x -n 8 -s 1 --cache-type-v f32
same out f32
LLAMA_ARG_THREADS=many wrong "LLAMA_ARG_THREADS: \"many\" is not a whole number" generate -p x

for shell in bash zsh fish; do
    run 0 --completion=$shell
    cp out completion
    run 0 --completion $shell
    same out completion
    says out "genarm"
    ! command -v $shell >/dev/null || check "completion for $shell parses" $shell -n out
done
wrong "--completion: takes the name of a shell" --completion tcsh
wrong "--completion: takes the name of a shell" --completion
wrong "--completion: takes the name of a shell" --completion=tcsh
wrong "-p: a value is missing" generate -p -n 3
says err "hint: a value that looks like an option goes behind an equals sign: --prompt=-n"
run 0 --completion bash
. ./out
COMP_WORDS=(genarm train --loss "s") COMP_CWORD=3
_genarm
check "bash completes the values of an option" [ "${COMPREPLY[*]}" = "simpo sft" ]
COMP_WORDS=(genarm generate --top) COMP_CWORD=2
_genarm
check "bash completes options" [ "${COMPREPLY[*]}" = "--top-k --top-p" ]
COMP_WORDS=(genarm s) COMP_CWORD=1
_genarm
check "bash completes commands" [ "${COMPREPLY[*]}" = "serve score" ]

run 0 --man
says out ".TH GENARM 1"
! command -v man >/dev/null || check "the man page has no errors" [ -z "$(man --warnings -l out 2>&1 >/dev/null)" ]

if [ -w /dev/full ]; then
    for option in --help --version --man "--completion bash"; do
        status=0
        "$genarm" $option >/dev/full 2>err || status=$?
        check "$option on a full disk fails" [ "$status" = 1 ]
        says err "genarm: error: stdout: the output could not be written"
    done
    status=0
    "$genarm" train --help >/dev/full 2>err || status=$?
    check "a command's help on a full disk fails" [ "$status" = 1 ]
fi
finish
