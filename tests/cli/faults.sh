# Faults of training: stopped by a signal, diverged, on a full disk, resumed with what does not
# fit, fed with records that are wrong. Nothing is lost, and the message says what to do.
. "$(dirname "$0")/../support/cli.sh"
python3 - >pairs.jsonl <<'END_PYTHON'
import json
for i in range(48):
    print(json.dumps({"prompt": f"{i}: what about {i * i}?", "chosen": f"Wonderful! I love {i}!", "rejected": f"Bad. I hate {i}."}))
END_PYTHON
settings=(train -m "$tiny" -d pairs.jsonl --lora-rank 4 --batch-size 4 --lora-dropout 0.1 --epochs 12 --save-every 2 --val-split 0.1)
run 0 "${settings[@]}" -o straight.gguf --log straight.jsonl

# SIGTERM: a checkpoint, 143; resumed, it is the uninterrupted run, to the bit.
stop() { # SIGNAL STATUS LINES ARGUMENTS…: after so many lines of stopped.jsonl
    local signal=$1 expected=$2 lines=$3 pid status=0
    shift 3
    rm -rf stopped.*
    set -m
    "$genarm" "$@" -o stopped.gguf --log stopped.jsonl >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 1200); do
        [ "$(cat stopped.jsonl 2>/dev/null | wc -l)" -lt "$lines" ] || break
        sleep 0.02
    done
    kill -s "$signal" $pid
    wait $pid || status=$?
    set +m
    check "$signal ends training with $expected ($status)" [ "$status" = "$expected" ]
    check "a checkpoint is there" [ -s stopped.gguf.ckpt/checkpoint ]
}
stop TERM 143 9 "${settings[@]}" --epochs 60
says err "--resume goes on from stopped.gguf.ckpt"
run 0 "${settings[@]}" --epochs 60 -o stopped.gguf --log stopped.jsonl --resume
run 0 "${settings[@]}" --epochs 60 -o whole.gguf
same stopped.gguf whole.gguf

# Another model, other data, other options: named.
stop TERM 143 9 "${settings[@]}" --epochs 60
again=(-o stopped.gguf --epochs 60 --resume)
run 1 "${settings[@]}" "${again[@]}" --beta 0.2
says err "its beta is 0.05, not 0.2"
says err "start anew without resuming"
run 1 "${settings[@]}" "${again[@]}" -lr 1e-5
says err "its learning_rate is 0.0005, not 1e-05"
says err "--resume-changed"
head -n 47 pairs.jsonl >fewer.jsonl
run 1 train -m "$tiny" -d fewer.jsonl "${settings[@]:5}" "${again[@]}"
says err "its data is "
run 1 "${settings[@]}" "${again[@]}" -m "$golden/mistral.gguf"
says err "its model is "
run 1 "${settings[@]}" "${again[@]}" --resume-changed --lora-rank 8
says err "its lora_rank is 4, not 8"

# A run that diverges keeps its checkpoint, says which pair, and goes on with another learning rate.
cp -r stopped.gguf.ckpt kept
bad=(-lr 10 --weight-decay 10 --lr-schedule constant) # every step makes the adapter a hundred times as large
run 1 "${settings[@]}" "${again[@]}" --log stopped.jsonl --resume-changed "${bad[@]}" --save-every 0
says err "goes on with another learning_rate: 10, not 0.0005"
check "step and pair are named" grep -qE 'error: pairs.jsonl:[0-9]+, record [0-9]+: the (loss is -?(nan|inf)|gradient is not finite) in step [0-9]+' err
check "so is the way out" grep -qE 'hint: .*go on after step [0-9]+ from stopped.gguf.ckpt with a lower learning rate: --resume-changed -lr X' err
check "the checkpoint is as before" diff -r kept stopped.gguf.ckpt
check "there is no adapter" [ ! -e stopped.gguf ]
run 0 "${settings[@]}" "${again[@]}" --log stopped.jsonl --resume-changed -lr 1e-4
check "an adapter is there" [ -s stopped.gguf ]
json_true stopped.jsonl '[x["changed"] for x in r if "resumed" in x] == [{"learning_rate": [0.0005, 0.0001]}]'
run 0 report stopped.jsonl
run 1 "${settings[@]}" -o fresh.gguf "${bad[@]}" --save-every 0
says err "lower the learning rate"
check "no checkpoint is left where none was written" [ ! -e fresh.gguf.ckpt ]

# A log that cannot be written.
if [ -w /dev/full ]; then
    run 1 "${settings[@]}" -o full.gguf --log /dev/full
    says err "/dev/full: cannot write the log: No space left on device"
    check "no adapter is made up" [ ! -e full.gguf ]
fi

# A disk that fills up under log and checkpoint: where a small one can be mounted.
mkdir disk
room=$(($(stat -c %s kept/checkpoint) * 2 + 12288)) # for two checkpoints and a part of the log
if mount -t tmpfs -o size=$room none disk 2>/dev/null; then
    trap 'umount disk 2>/dev/null; umount "$folder/disk" 2>/dev/null; rm -rf -- "$folder"' EXIT
    run 1 "${settings[@]}" -o disk/arm.gguf --log disk/log.jsonl
    says err "No space left on device"
    check "what is half written is gone" [ -z "$(find disk -name '*.tmp*')" ]
    check "there is no adapter" [ ! -e disk/arm.gguf ]
    check "but a checkpoint" [ -s disk/arm.gguf.ckpt/checkpoint ]
    mount -o remount,size=4m disk
    run 0 "${settings[@]}" -o disk/arm.gguf --log disk/log.jsonl --resume
    same disk/arm.gguf straight.gguf
    json_true disk/log.jsonl '[x["step"] for x in r if "loss" in x] == list(range(1, r[0]["run"]["steps"] + 1))'
    umount disk
fi

# Records that are wrong: file and line, alike in data and in training.
good='{"prompt": "p", "chosen": "yes", "rejected": "no"}'
wrong() { # FILE LINE WHAT
    run 1 data "$1"
    says err "error: $1:$2: $3"
    run 1 train -m "$tiny" -d "$1" -o never.gguf
    says err "error: $1:$2: $3"
    check "nothing is left of it" [ ! -e never.gguf -a ! -e never.gguf.ckpt ]
}
printf '%s\n' "$good" "$good" '{"prompt": "p", "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}], "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "y"}]}' >mixed.jsonl
wrong mixed.jsonl 3 "the formats are mixed"
printf '%s\n{"prompt": "\377", "chosen": "a", "rejected": "b"}\n' "$good" >latin.jsonl
wrong latin.jsonl 2 "broken JSON: byte 13 of the record is not UTF-8"
printf '%s\n{"prompt": "p", "chosen": "a", "chosen": "c", "rejected": "b"}\n' "$good" >twice.jsonl
wrong twice.jsonl 2 "broken JSON: duplicate"
{
    printf '%s\n{"prompt": "' "$good"
    head -c 100000000 /dev/zero | tr '\0' x
    printf '", "chosen": "a", "rejected": "b"}\n'
} >long.jsonl
wrong long.jsonl 2 "the record is longer than the maximum of 16 MiB"
rm long.jsonl

# Records that are of no use are dropped or counted, and named by line.
printf '%s\n' "$good" "$good" '{"prompt": "p", "chosen": "same", "rejected": "same"}' \
    '{"prompt": "p", "chosen": "yes", "rejected": "yes, sure"}' >odd.jsonl
run 0 data odd.jsonl
check "equal ones by line" grep -qE 'chosen equals rejected +1 .* line 3$' out
check "prefixes by line" grep -qE 'the beginning of the other +1 .* line 4$' out
run 0 train -m "$tiny" -d odd.jsonl -o odd.gguf -v
says err "odd.jsonl:3: dropped: chosen equals rejected"
says err "odd.jsonl:4: one response is the beginning of the other"
run 0 train -m "$tiny" -d odd.jsonl -o odd.gguf
says err "dropped: chosen equals rejected in 1"
says err "kept: one response is the beginning of the other in 1"
says err "-v names"

# Merging and converting without the memory for it is an error. (Sanitizers reserve more than any limit here.)
cp "$golden/llama.lora.gguf" large.gguf
for _ in 1 2 3 4 5 6 7 8 9; do
    run 0 merge --into adapter --adapter large.gguf:0.5 --adapter large.gguf:0.5 -o larger.gguf
    mv larger.gguf large.gguf
done
run 0 convert -m "$tiny" large.gguf -o large
limited() { # ARGUMENTS…
    local limit status lacking=0
    for limit in $(seq 60000 10000 160000); do
        status=0
        (ulimit -v "$limit"; exec "$genarm" "$@" -o limited.gguf >out 2>err </dev/null) || status=$?
        [ "$status" = 0 ] || { [ "$status" = 1 ] && grep -qiE 'not enough memory|cannot allocate' err; } ||
            fail "status $status with $limit kB: genarm $*" err
        lacking=$((lacking + status))
    done
    check "there were limits that do not suffice" [ "$lacking" -gt 0 ]
}
if (ulimit -v 160000; exec "$genarm" --version >out 2>err); then
    limited merge --into adapter --adapter large.gguf:0.5 --adapter large.gguf:0.5
    limited convert -m "$tiny" large
fi
finish
