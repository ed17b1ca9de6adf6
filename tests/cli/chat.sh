# genarm chat with lines as turns: it remembers, forgets, changes weights and seeds.
. "$(dirname "$0")/../support/cli.sh"
kind=$golden/llama.lora.gguf

talk() { # TEXT ARGUMENTS…: the lines of TEXT are typed
    local text=$1 status=0
    shift
    printf "$text" | "$genarm" chat -m "$tiny" -n 16 -ctk f32 -ctv f32 "$@" >out 2>err || status=$?
    [ "$status" = 0 ] || fail "status $status: genarm chat $*" out err
}

talk 'Hello there.\n' -s 3
cp out first
run 0 generate -m "$tiny" -ctk f32 -ctv f32 -p "Hello there." -n 16 -s 3
same out first
check "only answers are printed" [ ! -s err ]

# The second answer sees the first turn; after /reset it does not.
talk 'My name is Ada.\nWhat is my name?\n' --temp 0
cp out remembered
talk 'My name is Ada.\n/reset\nWhat is my name?\n' --temp 0
cp out forgotten
! cmp -s remembered forgotten || fail "/reset changes nothing"
talk 'What is my name?\n' --temp 0
cp out fresh
run 0 generate -m "$tiny" -ctk f32 -ctv f32 -p "What is my name?" -n 16 --temp 0
same fresh out
tail -c "$(wc -c <fresh)" forgotten >tail
same tail fresh

# Weights: 0 is none, a change counts from the next answer on.
talk 'Hello there.\n' -s 3 --arm kind="$kind":0
same out first
talk 'Hello there.\n' -s 3 --arm kind="$kind":1
cp out steered
! cmp -s steered first || fail "the weight changes nothing"
talk '/weight kind 1\nHello there.\n' -s 3 --arm kind="$kind":0
same out steered
talk '/weight kind 0\nHello there.\n' -s 3 --arm kind="$kind":1
same out first

talk '/weight a kind one 1\nHello there.\n' -s 3 --arm "a kind one=$kind:0"
same out steered
talk '/weight  a kind one \t 1 \n\n \t\nHello there.\n' -s 3 --arm "a kind one=$kind:0" # blank lines are no turns
same out steered

talk '/weight kind -1\nHello there.\n' -s 3 --arm kind="$kind":0
! cmp -s out first || fail "a negative weight changes nothing"
! cmp -s out steered || fail "a negative weight is a positive one"

# A stop text ends an answer, and is not part of the conversation.
talk 'Hello there.\n' -s 3 --grammar 'root ::= "one two three"' -r "two"
check "the answer stops before the text" [ "$(cat out)" = "one " ]
talk 'Hello there.\nAgain.\n' -s 3 --grammar 'root ::= "one " [t] "wo"'
check "each answer follows the grammar" [ "$(cat out)" = "$(printf 'one two\none two')" ]

# Seeds.
talk '/seed 3\nHello there.\n' -s 99
same out first
talk '/weight kind 1\n/seed 3\nHello there.\n' -s 99 --arm kind="$kind":0
same out steered

# Commands, wrong ones and the end.
talk '/weight\n/weight nobody 1\n/weight kind x\n/weight kind\n/seed x\n/frob\n/help\n\n/quit\nnot read\n' --arm kind="$kind":0.5
check "commands answer on stderr only" [ ! -s out ]
says err "kind 0.5"
says err 'no reward model is called "nobody"'
says err "a weight is a number: /weight kind 1.5"
says err "a seed is a whole number from 0 on"
says err "unknown command /frob"
says err "/reset"

# The default model, as a user starts it.
status=0
echo "Say hello." | "$genarm" chat -n 8 >out 2>err || status=$?
check "the default model chats ($status)" [ "$status" = 0 ]
check "and answers" [ -s out ]

# A conversation that outgrows the context is an error that says so.
status=0
printf 'Tell me a story.\nGo on.\nGo on.\nGo on.\n' | "$genarm" chat -m "$tiny" -c 96 --temp 0 >out 2>err || status=$?
check "a full context is an error ($status)" [ "$status" = 1 ]
says err "context"

# At a terminal what goes wrong with a question leaves the conversation as it was before.
typed() { # TEXT ARGUMENTS…: talk at a terminal
    local text=$1 status=0
    shift
    printf "$text" | python3 -c '
import os, subprocess, sys
terminal, typed = os.openpty()
os.write(terminal, sys.stdin.buffer.read() + b"\4")
sys.exit(subprocess.call(sys.argv[1:], stdin=typed))' \
        "$genarm" chat -m "$tiny" -n 16 -ctk f32 -ctv f32 "$@" >out 2>err || status=$?
    [ "$status" = 0 ] || fail "status $status: genarm chat $*" out err
}
typed 'My name is Ada.\nWhat is my name?\n' --temp 0
same out remembered
long=$(printf 'word %.0s' $(seq 200))
typed "My name is Ada.\n$long\nWhat is my name?\n" --temp 0 -c 256 --context-shift
says err "shorten it"
same out remembered
typed 'My name is Ada.\n/weight kind 1e38\nHello?\n/weight kind 0\nWhat is my name?\n' --temp 0 --arm kind="$kind":0
says err "the mixture is not finite"
grep . out >lines # a failed answer is an empty line
grep . remembered >expected
same lines expected
finish
