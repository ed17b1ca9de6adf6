# Training that is killed at random moments, and one whose disk is full, loses nothing that
# was saved: resumed, it ends with the adapter of an uninterrupted run, to the bit.
. "$(dirname "$0")/../support/cli.sh"
python3 - >pairs.jsonl <<'END'
import json
for i in range(64):
    print(json.dumps({"prompt": f"{i}: what about {i * i}?", "chosen": f"Wonderful! I love {i}!", "rejected": f"Bad. I hate {i}."}))
END
settings=(train -m "$tiny" -d pairs.jsonl --lora-rank 4 --batch-size 4 --epochs 12 --lora-dropout 0.1 --save-every 1)
run 0 "${settings[@]}" -o straight.gguf --log straight.jsonl
steps=$(json straight.jsonl '[x["step"] for x in r if "step" in x]')

# Five times kill -9, after a random part of what a whole run takes.
started=$(date +%s%N)
run 0 "${settings[@]}" -o timed.gguf
whole=$((($(date +%s%N) - started) / 1000000))
RANDOM=7
kills=0
for _ in $(seq 100); do
    [ $kills -lt 5 ] || break
    rm -rf killed.gguf killed.gguf.ckpt killed.jsonl
    for _ in 1 2 3 4; do
        "$genarm" "${settings[@]}" -o killed.gguf --log killed.jsonl --resume >out 2>err </dev/null &
        pid=$!
        sleep "$(printf '%d.%03d' 0 $((RANDOM % whole < 999 ? RANDOM % whole : 999)))"
        kill -KILL $pid 2>/dev/null
        status=0
        wait $pid 2>/dev/null || status=$?
        [ $status != 137 ] || kills=$((kills + 1))
        [ ! -e killed.gguf ] || break
    done
    run 0 "${settings[@]}" -o killed.gguf --log killed.jsonl --resume
    same killed.gguf straight.gguf
    check "every step is logged once" [ "$(json killed.jsonl '[x["step"] for x in r if "step" in x]')" = "$steps" ]
done
check "it was killed 5 times ($kills)" [ $kills -ge 5 ]
check "no temporary file is left" [ "$(find . -name '*.tmp*')" = "" ]

# A disk that is full: files may not grow beyond some blocks.
status=0
(trap '' XFSZ; ulimit -f 8; exec "$genarm" "${settings[@]}" -o full.gguf >out 2>err </dev/null) || status=$?
check "a full disk is an error ($status)" [ "$status" = 1 ]
says err "full.gguf"
check "nothing half-written is left" [ "$(find . -name '*.tmp*')" = "" ]

# The same after some steps were saved: they are still there.
for _ in $(seq 20); do
    rm -rf full.gguf*
    "$genarm" "${settings[@]}" -o full.gguf >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 2000); do
        [ "$(find full.gguf.ckpt -type f -size +0 ! -name '*.tmp*' 2>/dev/null)" = "" ] || break
        sleep 0.005
    done
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ -e full.gguf ] || break
done
rm -f full.gguf.ckpt/*.tmp.* # of the kill: the next run removes it
cp -r full.gguf.ckpt before
status=0
(trap '' XFSZ; ulimit -f 8; exec "$genarm" "${settings[@]}" -o full.gguf --resume >out 2>err </dev/null) || status=$?
check "resuming on a full disk is an error ($status)" [ "$status" = 1 ]
check "the checkpoint is as before" diff -r before full.gguf.ckpt
run 0 "${settings[@]}" -o full.gguf --resume
same full.gguf straight.gguf

# A second run with the output of one that goes on is refused, and takes nothing away from it.
printf 'What about owls?\n' >prompts.txt
settings=(rl -m "$tiny" --prompts prompts.txt --reward "cmd:none=while read -r _; do echo '{\"reward\": 0}'; done " -n 4
    --group-size 2 --batch-size 1 --lora-rank 4 --steps 1000000 -o policy.gguf)
"$genarm" "${settings[@]}" --log first.jsonl >out 2>err </dev/null &
pid=$!
for _ in $(seq 2000); do
    [ "$(cat first.jsonl 2>/dev/null | wc -l)" -lt 2 ] || break
    sleep 0.01
done
run 1 "${settings[@]}" --log second.jsonl
says err "policy.gguf: another process is writing this file"
check "the second run does not begin" [ ! -e second.jsonl ]
check "the first one goes on" kill -KILL $pid
wait $pid 2>/dev/null
check "its folder is there" [ -d policy.gguf.ckpt ]
finish
