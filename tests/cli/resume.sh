# Answers to many prompts that are killed at random moments: nothing that was finished is
# lost, and the same command ends with the file of a run that nobody killed.
. "$(dirname "$0")/../support/cli.sh"
python3 - >prompts.jsonl <<'END'
import json
for i in range(24):
    print(json.dumps({"prompt": f"{i}: what about {i * i}?" + " And then?" * (i % 5), "id": i}))
END
arms=(--arm kind="$golden/llama.lora.gguf:0.7" --arm terse="$golden/llama.lora2.gguf:0.3")
settings=(generate -m "$tiny" --prompts prompts.jsonl "${arms[@]}" -sys "Answer in one short sentence." -c 256 -ctk f32 -ctv f32)
# What may differ: times, what was computed once for several prompts, and rounding.
answers='[{k: x[k] for k in x if k not in ("timings", "seconds", "evaluated", "logprob")} for x in r]'
run 0 "${settings[@]}" -s 5 -n 96
json out "$answers" >straight
started=$(date +%s%N)
run 0 "${settings[@]}" -s 5 -n 96 -o timed.jsonl
whole=$((($(date +%s%N) - started) / 1000000))
json timed.jsonl "$answers" >timed
same timed straight
check "nothing but the output is left" [ "$(find . -name 'timed.jsonl?*')" = "" ]

# Kill -9, after a random part of what a whole run takes, several times before an end.
RANDOM=7
kills=0
kept=0
for round in $(seq 100); do
    [ $kills -lt 20 ] || break
    rm -f killed.jsonl*
    np=$((1 + round % 3 * 3))
    for _ in 1 2 3 4; do
        "$genarm" "${settings[@]}" -s 5 -n 96 -np $np -o killed.jsonl >out 2>err </dev/null &
        pid=$!
        sleep "$(printf '%d.%03d' 0 $((RANDOM % whole < 999 ? RANDOM % whole : 999)))"
        kill -KILL $pid 2>/dev/null
        status=0
        wait $pid 2>/dev/null || status=$?
        [ $status != 137 ] || kills=$((kills + 1))
        [ ! -e killed.jsonl ] || break
    done
    run 0 "${settings[@]}" -s 5 -n 96 -np $np -o killed.jsonl
    ! grep -q 'prompts are answered in killed.jsonl.partial' err || kept=$((kept + 1))
    json killed.jsonl "$answers" >killed
    same killed straight
    check "nothing but the output is left" [ "$(find . -name 'killed.jsonl?*')" = "" ]
done
check "it was killed 20 times ($kills)" [ $kills -ge 20 ]
check "answers were kept ($kept)" [ $kept -ge 1 ]

# What one process has done: its first answers in a file, with half a line behind them.
begun() { # LINES, with the head
    rm -f part.jsonl*
    "$genarm" "${settings[@]}" -s 5 -n 96 -np 4 -o whole.jsonl >out 2>err </dev/null &
    local pid=$!
    for _ in $(seq 2000); do
        [ "$(cat whole.jsonl.partial 2>/dev/null | wc -l)" -lt "$1" ] || break
        sleep 0.005
    done
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    head -n "$1" whole.jsonl.partial >part.jsonl.partial
    rm -f whole.jsonl*
}
begun 5
json_true part.jsonl.partial 'len(r) == 5 and r[0]["genarm generate --prompts"] == 1 and all("response" in x["record"] for x in r[1:])'
printf '{"index":7,"record":{"id":7,"prompt":"7: wh' >>part.jsonl.partial
cp part.jsonl.partial before
run 0 "${settings[@]}" -s 5 -n 96 -o part.jsonl
says err "4 of 24 prompts are answered in part.jsonl.partial"
json part.jsonl "$answers" >part
same part straight
json before 2>/dev/null '""' && fail "the half line is none"
json_true part.jsonl '[x["id"] for x in r] == list(range(24))'

# The seed is that of the answers that are there, when none is given.
cp before part.jsonl.partial
run 0 "${settings[@]}" -n 96 -o part.jsonl
json part.jsonl "$answers" >part
same part straight

# Damage: what is before it is kept. A file that is something else is not touched.
python3 -c 'import sys; d = open("before", "rb").read().split(b"\n"); d[2] = b"\0" * len(d[2]); open("part.jsonl.partial", "wb").write(b"\n".join(d))'
run 0 "${settings[@]}" -s 5 -n 96 -o part.jsonl
says err "1 of 24 prompts are answered"
says err "damaged"
json part.jsonl "$answers" >part
same part straight
echo "my notes" >part.jsonl.partial
run 1 "${settings[@]}" -s 5 -n 96 -o part.jsonl
says err "part.jsonl.partial"
echo '{"my": "notes"}' >part.jsonl.partial
run 1 "${settings[@]}" -s 5 -n 96 -o part.jsonl
says err "--restart"
same part.jsonl.partial - <<<'{"my": "notes"}'
printf 'my notes' >part.jsonl.partial
run 1 "${settings[@]}" -s 5 -n 96 -o part.jsonl
says err "part.jsonl.partial: this is not what genarm generate keeps"
check "no other file is begun anew unasked" [ "$(cat part.jsonl.partial)" = "my notes" ]
head -c 12 before >part.jsonl.partial # a head that was cut short
run 0 "${settings[@]}" -s 5 -n 96 -o part.jsonl

# Other settings are an error that names them; --restart begins anew.
cp before part.jsonl.partial
other() { # SAYS ARGUMENTS…
    local text=$1
    shift
    run 1 "$@" -o part.jsonl
    says err "$text"
    says err "--restart"
    same part.jsonl.partial before
}
other "--temp was" "${settings[@]}" -s 5 -n 96 --temp 0.5
other "--predict was 96, not 95" "${settings[@]}" -s 5 -n 95
other "--seed was 5, not 6" "${settings[@]}" -s 6 -n 96
other "--system-prompt was" "${settings[@]}" -s 5 -n 96 -sys "Sing."
other "--arm was" "${settings[@]}" -s 5 -n 96 --arm more="$golden/llama.lora.gguf:0.1"
other "--reverse-prompt was" "${settings[@]}" -s 5 -n 96 --stop "!"
other "--grammar was" "${settings[@]}" -s 5 -n 96 --grammar 'root ::= [a-z]+'
other "--arm-schedule was" "${settings[@]}" -s 5 -n 96 --arm-schedule kind=0:1,8:0
other "--logprobs was -1, not 2" "${settings[@]}" -s 5 -n 96 --logprobs 2
other "--spec-type was \"none\", not \"ngram-simple\"" "${settings[@]}" -s 5 -n 96 --spec-type ngram-simple
other "the model was" "${settings[@]}" -s 5 -n 96 -m "$golden/llama-padded.gguf"
python3 -c 'import json, sys; h, *rest = open("before"); h = json.loads(h); h["settings"]["--grammar"] = "x"; print(json.dumps(h)); sys.stdout.writelines(rest)' >part.jsonl.partial
run 1 "${settings[@]}" -s 5 -n 96 -o part.jsonl
says err '--grammar was "x", not nothing'
cp before part.jsonl.partial
cp prompts.jsonl kept
sed -i 's/^{"prompt": "3: /&Well, /' prompts.jsonl
other "--prompts was" "${settings[@]}" -s 5 -n 96
cp kept prompts.jsonl
run 0 "${settings[@]}" -s 6 -n 8 -o part.jsonl --restart
json_true part.jsonl 'len(r) == 24 and all(len(x["tokens"]) <= 8 for x in r)'
check "nothing but the output is left" [ "$(find . -name 'part.jsonl?*')" = "" ]
run 2 "${settings[@]}" --restart

cp prompts.jsonl mine.jsonl.partial
run 2 "${settings[@]}" --prompts mine.jsonl.partial -o mine.jsonl --restart
same mine.jsonl.partial prompts.jsonl

# Files at other places and other batches are no other settings.
cp before part.jsonl.partial
cp "$tiny" here.gguf
cp prompts.jsonl there.jsonl
run 0 "${settings[@]}" -m here.gguf --prompts there.jsonl -s 5 -n 96 -np 7 -b 16 -o part.jsonl
answers_of_any=${answers/'"timings"'/'"timings", "model"'}
json part.jsonl "$answers_of_any" >part
json timed.jsonl "$answers_of_any" >straight2
same part straight2

# A prompt that cannot be answered is tried again, and makes the exit status 1 again.
cp prompts.jsonl kept
python3 -c 'import json; print(json.dumps({"prompt": "word " * 300, "id": "long"}))' | cat - kept >prompts.jsonl
run 1 "${settings[@]}" -s 5 -n 4 -o long.jsonl
says err "1 of 25 prompts could not be answered"
json_true long.jsonl 'len(r) == 25 and r[0]["finish_reason"] == "error" and all(x["finish_reason"] != "error" for x in r[1:])'
"$genarm" "${settings[@]}" -s 5 -n 96 -o long.jsonl >out 2>err </dev/null &
pid=$!
for _ in $(seq 2000); do
    [ "$(cat long.jsonl.partial 2>/dev/null | wc -l)" -lt 4 ] || break
    sleep 0.005
done
kill -KILL $pid
wait $pid 2>/dev/null
run 1 "${settings[@]}" -s 5 -n 96 -o long.jsonl
says err "1 of 25 prompts could not be answered"
json_true long.jsonl 'len(r) == 25 and r[0]["finish_reason"] == "error"'

# Two at once do not write one file.
rm -f twice.jsonl*
cp kept prompts.jsonl
"$genarm" "${settings[@]}" -s 5 -n 96 -o twice.jsonl >out2 2>err2 </dev/null &
pid=$!
for _ in $(seq 2000); do
    [ ! -s twice.jsonl.partial ] || break
    sleep 0.005
done
kill -STOP $pid
run 1 "${settings[@]}" -s 5 -n 96 -o twice.jsonl
says err "another process is writing this file"
kill -CONT $pid
wait $pid
json twice.jsonl "$answers" >twice
same twice straight

# A disk that is full keeps what fitted.
rm -f full.jsonl*
status=0
(trap '' XFSZ; ulimit -f 8; exec "$genarm" "${settings[@]}" -s 5 -n 96 -o full.jsonl >out 2>err </dev/null) || status=$?
check "a full disk is an error ($status)" [ "$status" = 1 ]
says err "full.jsonl.partial"
run 0 "${settings[@]}" -s 5 -n 96 -o full.jsonl
says err "prompts are answered in full.jsonl.partial"
json full.jsonl "$answers" >full
same full straight

# Progress is shown on a terminal, also when the output goes to a file; piped, nothing is.
check "piped, it is quiet" [ "$(grep -c tokens/s err)" = 0 ]
cat >terminal.py <<'END'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
try:
    while chunk := os.read(fd, 65536):
        seen += chunk
except OSError:
    pass
open("seen", "wb").write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
TERM=xterm COLUMNS=200 check "it runs on a terminal" python3 terminal.py "$genarm" "${settings[@]}" -s 5 -n 96 -o shown.jsonl
says seen "24/24 prompts"
says seen "tokens/s"
json shown.jsonl "$answers" >shown
same shown straight

# The start that prompts share is computed once.
run 0 "${settings[@]}" -s 5 -n 1 -np 8 -v
grep -q ' of prompts were known already' err || fail "what was shared is not said" err
check "much was shared" [ "$(sed -n 's/.* went through a model, \([0-9]*\) of prompts.*/\1/p' err)" -gt 1000 ]
run 0 "${settings[@]}" -s 5 -n 1 -np 8 -v --no-cache-prompt
says err ", 0 of prompts were known already"
finish
