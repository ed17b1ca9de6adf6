# Ctrl-C: what was generated is kept and printed, the exit status is 130; output that goes
# to a file is there; a signal that was ignored from the start stays ignored.
. "$(dirname "$0")/../support/cli.sh"
set -m # jobs get Ctrl-C as they do in an interactive shell

# Waits until a file has something, or so many lines.
await() { # FILE [LINES]
    for _ in $(seq 1200); do
        if [ -s "$1" ] && [ "$(wc -l <"$1")" -ge "${2:-0}" ]; then return; fi
        sleep 0.05
    done
    fail "nothing came: $1" err
}

# Runs the program, sends the signal soon after the file has something, and checks the status.
pause=0.5
interrupted() { # STATUS SIGNAL FILE[:LINES] ARGUMENTS…
    local expected=$1 signal=$2 file=$3 pid status=0
    shift 3
    rm -f out err
    "$genarm" "$@" >out 2>err </dev/null &
    pid=$!
    case $file in
    *:*) await "${file%:*}" "${file#*:}" ;;
    *) await "$file" ;;
    esac
    sleep "$pause"
    kill -s "$signal" $pid
    wait $pid || status=$?
    [ "$status" = "$expected" ] || fail "status $status, not $expected: genarm $*" out err
}

story=(generate -m "$model" -p "Tell me a very long story about the sea." --temp 0)
interrupted 130 INT out "${story[@]}"
check "the text ends with a newline" [ "$(tail -c 1 out | od -An -c | tr -d ' ')" = '\n' ]
part=$(cat out)
run 0 "${story[@]}" -n 400
check "the text is the start of the whole" [ "$(head -c "${#part}" out)" = "$part" ]
check "it is not the whole" [ "$part" != "$(cat out)" ]
interrupted 143 TERM out "${story[@]}"

# A benchmark prints the tests that are complete, as whole records.
interrupted 130 INT err bench -m "$tiny" -p 0 -n 64 -d 0,1,2,3 -r 10000 -o json
says err "stopped; the tests that are complete are printed"
check "an array of whole tests" python3 -c 'import json; assert len(json.load(open("out"))) % 5 == 0'

# Nor does it wait for a test to end, be it that its prompt is evaluated for the first time or that tokens are generated.
soon() { # STATUS SIGNAL ARGUMENTS…
    local started=$SECONDS
    interrupted "$1" "$2" err bench -m "$tiny" -r 1 "${@:3}"
    check "it ends within seconds: bench ${*:3}" [ $((SECONDS - started)) -lt 60 ]
    says err "stopped"
}
soon 130 INT -p 200000 -n 0
soon 143 TERM -p 0 -n 200000

# A prompt that is never done in time, after one that cannot be answered.
endless="1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,"
python3 -c '
import json, sys
for i, text in enumerate(["word " * 6000, sys.argv[1], sys.argv[1]]):
    print(json.dumps({"prompt": text, "id": i}))' "$endless" >prompts.jsonl
many=(generate -m "$model" --prompts prompts.jsonl --chat-template "raw:{prompt}" --temp 0 -c 4096)
interrupted 130 INT out "${many[@]}"
json_true out '[[x["id"], x["finish_reason"]] for x in r] == [[0, "error"], [1, "interrupted"]]'
interrupted 130 INT out "${many[@]}" -np 2
json_true out '[[x["id"], x["finish_reason"]] for x in r] == [[0, "error"], [1, "interrupted"], [2, "interrupted"]]'
interrupted 130 INT records.jsonl.partial:2 "${many[@]}" -o records.jsonl
json_true records.jsonl '[[x["id"], x["finish_reason"]] for x in r] == [[0, "error"], [1, "interrupted"]]'
says err "the same command goes on from records.jsonl.partial"

# The evaluation of a long prompt ends between two pieces of it: no token is there, as there would be after all of it.
python3 -c '
import json
for text in ["Hi.", "The sea is wide and the wind is strong. " * 700]:
    print(json.dumps({"prompt": text}))' >long.jsonl
interrupted 130 INT out generate -m "$model" --prompts long.jsonl -n 1 -c 8192 -b 64
json_true out '[x["finish_reason"] for x in r] == ["length", "interrupted"] and r[1]["tokens"] == []'
python3 -c 'print("The sea is wide and the wind is strong. " * 700)' >long.txt
pause=1 # the model is being loaded
interrupted 130 INT err score -m "$model" -f long.txt -r Yes -c 8192 -b 64 -v
pause=0.5
check "no score is printed" [ ! -s out ]
(echo "Hello."; cat long.txt; echo "Not asked.") >turns
rm -f out
"$genarm" chat -m "$model" --temp 0 -n 4 -c 8192 -b 64 <turns >out 2>err &
pid=$!
await out 1
sleep 0.5
kill -s INT $pid
status=0
wait $pid || status=$?
check "the chat ends with 130 ($status)" [ "$status" = 130 ]
check "with one answer" [ "$(grep -c . out)" = 1 ]
says err "the question is taken back"

# A reward program that does not answer is stopped as well, and is gone; what was ranked
# before is shown.
slow='cmd:slow=read l; echo $$ >asked; exec sleep 1000'
rm -f asked
interrupted 130 INT asked score -m "$tiny" -p x -r y --reward "$slow"
check "nothing is printed" [ ! -s out ]
check "the program is gone" [ ! -e "/proc/$(cat asked)" ]
for _ in 1 2; do
    echo '{"prompt": "x", "chosen": "y", "rejected": "z"}'
done >pairs.jsonl
rm -f asked
slow='cmd:slow=read l; echo 2; read l; echo 1; read l; echo $$ >asked; exec sleep 1000'
interrupted 143 TERM asked score -m "$tiny" -d pairs.jsonl --reward "$slow" --json
json_true out 'r[0]["pairs"] == 1 and r[0]["trajectory"]["slow"] == {"accuracy": 1, "margin": 1}'

# A chat that waits for its next line ends as well.
mkfifo lines
rm -f out
"$genarm" chat -m "$model" --temp 0 -n 4 <lines >out 2>err &
pid=$!
exec 3>lines
echo "Hello." >&3
await out 1
sleep 0.5
kill -s INT $pid
status=0
wait $pid || status=$?
exec 3>&-
check "a waiting chat ends with 130 ($status)" [ "$status" = 130 ]

# Ignored signals stay ignored.
rm -f out
(trap '' INT; exec "$genarm" "${story[@]}" -n 60 >out 2>err </dev/null) &
pid=$!
await out
kill -s INT $pid
status=0
wait $pid || status=$?
check "an ignored signal does nothing ($status)" [ "$status" = 0 ]
finish
