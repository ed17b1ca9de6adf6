# genarm train, then generate and score with what came of it: on a tiny model, and on the
# default model with a few pairs that any reward model must learn.
. "$(dirname "$0")/../support/cli.sh"
tiny=$golden/llama.gguf
python3 - >pairs.jsonl <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "chess", "tea", "glass", "maps"]
for i, thing in enumerate(things * 4):
    print(json.dumps({"prompt": f"{i}: what about {thing}?", "chosen": f"Wonderful! I love {thing}!", "rejected": f"Bad. I hate {thing}."}))
END
settings=(-m "$tiny" -d pairs.jsonl --lora-rank 4 --beta 0.5 -lr 1e-2 --batch-size 8 --epochs 3 -s 5)

# The result, on stdout and as a record; metrics in the log.
run 0 train "${settings[@]}" -o arm.gguf --log log.jsonl --json
json_true out 'r[0]["output"] == "arm.gguf" and r[0]["steps"] > 5 and r[0]["val_accuracy"] > 0.8'
json_true log.jsonl 'len(r) > 5'
json_true log.jsonl 'all(abs(x[v + "margin"] - (x[v + "chosen"] - x[v + "rejected"])) < 1e-9 and x[v + "chosen"] < 0 for x in r[1:] for v in ("", "val_") if v + "loss" in x)'
json_true log.jsonl 'r[0]["run"]["options"].items() >= {"max_grad_norm": 1, "val_split": 0.05, "lora_rank": 4, "learning_rate": 0.01, "no_shuffle": False}.items()'
check "the adapter is there" [ -s arm.gguf ]
check "the checkpoint is gone" [ ! -e arm.gguf.ckpt ]
says err "48 of 48 pairs are used"
run 0 train "${settings[@]}" -o again.gguf
same again.gguf arm.gguf
run 0 train "${settings[@]}" -o again.gguf --checkpoint-layers 1
same again.gguf arm.gguf
says out "again.gguf: "
says out "held-out pairs"
run 0 info arm.gguf --json
json_true out 'r[0]["rank"] == 4 and r[0]["targets"] == "q,k,v" and r[0]["loss"] == "arm" and r[0]["beta"] == 0.5'
fingerprint=$(json out 'r[0]["base_fingerprint"]')
run 0 info "$tiny" --json
json_true out "r[0]['fingerprint'] == '$fingerprint'"
run 0 score -m "$tiny" -d pairs.jsonl --arm arm.gguf --json
json_true out 'r[0]["arms"]["arm"]["accuracy"] > 0.8 and r[0]["arms"]["arm"]["minus_reference"]["accuracy"] > 0.8'

# Pairs that are dropped or cut are counted.
cp pairs.jsonl more.jsonl
python3 - >>more.jsonl <<'END'
import json
print(json.dumps({"prompt": "p", "chosen": "same", "rejected": "same"}))
print(json.dumps({"prompt": "p", "chosen": "", "rejected": "x"}))
print(json.dumps({"prompt": "p", "chosen": "word " * 200, "rejected": "x"}))
print(json.dumps({"prompt": "word " * 200, "chosen": "yes", "rejected": "no"}))
END
run 0 train -m "$tiny" -d more.jsonl -o more.gguf --max-length 128 --batch-size 16
says err "49 of 52 pairs are used"
says err "dropped: chosen equals rejected in 1"
says err "dropped: a response is empty in 1"
says err "dropped: responses leave no room for a prompt within --max-length in 1"
says err "cut: the prompt loses its beginning in 1"

# Where the model's context is less than --max-length, it is what is named.
run 0 train -m "$tiny" -d more.jsonl -o more.gguf --max-length 2048 --batch-size 16
says err "maximum length 2048 is cut to the model's context of 256 tokens"
says err "dropped: responses leave no room for a prompt within the model's context of 256 tokens in 1"
sed -n 51p more.jsonl >long.jsonl
run 1 train -m "$tiny" -d long.jsonl -o long.gguf
says err "the model's context of 256 tokens is the limit"

# A warm-up that is as long as the run is said.
run 0 train "${settings[@]}" -o warm.gguf --epochs 1 --warmup 6
says err "the warm-up of 6 updates is not shorter than the run, which has 6: the learning rate does not get to 0.01"
run 0 train "${settings[@]}" -o warm.gguf --epochs 1 --warmup 5
check "a shorter one is not" [ "$(grep -c warm-up err)" = 0 ]

# Where the adapter cannot be written no step is done.
ln -s missing/adapter.gguf dangling.gguf
for output in nowhere/ dangling.gguf; do
    run 1 train "${settings[@]}" -o $output --log never.jsonl
    says err "$output: "
    check "no step is logged" [ ! -e never.jsonl ]
done
check "no checkpoint is left" [ ! -e dangling.gguf.ckpt ]

# What cannot be used is said without what there is none of; a folder that is not there is not made.
run 1 train "${settings[@]}" -o w.gguf --max-length 4
check "only the reason is named" grep -qE "none of [0-9]+ pairs can be used: [0-9]+ longer than 4 tokens" err
run 1 train "${settings[@]}" -o nowhere/w.gguf
says err "nowhere/w.gguf"
check "the folder is not made" [ ! -e nowhere ]

# The log is not the adapter's file, whatever it is called.
ln -s w.gguf link.gguf
for log in w.gguf ./w.gguf "$PWD/w.gguf" link.gguf; do
    run 2 train "${settings[@]}" -o w.gguf --log "$log"
    says err "$log is the adapter's file"
done
run 2 train "${settings[@]}" -o new/w.gguf --log new/w.gguf
cp arm.gguf w.gguf
run 2 train "${settings[@]}" -o w.gguf --log link.gguf
same w.gguf arm.gguf

# Stopped and resumed is uninterrupted.
set -m
long=(train "${settings[@]}" --epochs 40 -o stopped.gguf --log stopped.jsonl)
"$genarm" "${long[@]}" >out 2>err </dev/null &
pid=$!
for _ in $(seq 600); do
    [ "$(cat stopped.jsonl 2>/dev/null | wc -l)" -lt 5 ] || break
    sleep 0.05
done
kill -s INT $pid
status=0
wait $pid || status=$?
set +m
check "training stops with 130 ($status)" [ "$status" = 130 ]
says err "--resume goes on from stopped.gguf.ckpt"
check "there is no adapter yet" [ ! -e stopped.gguf ]
run 0 "${long[@]}" --resume
run 0 train "${settings[@]}" --epochs 40 -o straight.gguf
same stopped.gguf straight.gguf

# Adapters of epochs: the last one's is the output; killed and resumed, none is missing, none is written again.
epochs=("${settings[@]}" --epochs 8 --save-epochs)
run 0 train "${epochs[@]}" -o whole.gguf
run 0 train "${settings[@]}" --epochs 8 -o plain.gguf
same whole.gguf plain.gguf
check "seven are kept" [ "$(echo whole.epoch?.gguf | wc -w)" = 7 ]
check "the last is the output itself" [ ! -e whole.epoch8.gguf ]
"$genarm" train "${epochs[@]}" -o killed.gguf --save-every 4 --log killed.jsonl >out 2>err </dev/null &
pid=$!
for _ in $(seq 600); do
    [ "$(cat killed.jsonl 2>/dev/null | grep -c '"loss"')" -lt 15 ] || break # in the third epoch
    sleep 0.02
done
kill -KILL $pid
wait $pid 2>/dev/null
inodes=$(stat -c %i killed.epoch1.gguf killed.epoch2.gguf)
run 0 train "${epochs[@]}" -o killed.gguf --log killed.jsonl --resume
check "what was there is as it was" [ "$(stat -c %i killed.epoch1.gguf killed.epoch2.gguf)" = "$inodes" ]
for name in "" .epoch1 .epoch2 .epoch3 .epoch4 .epoch5 .epoch6 .epoch7; do
    same killed$name.gguf whole$name.gguf
done
mkdir taken.epoch2.gguf
run 1 train "${epochs[@]}" -o taken.gguf
says err "taken.epoch2.gguf: "
check "no checkpoint is left" [ ! -e taken.gguf.ckpt ]
cp pairs.jsonl taken.epoch3.gguf
run 2 train "${epochs[@]}" -d taken.epoch3.gguf -o taken.gguf
says err "taken.epoch3.gguf is read as well"
run 2 train "${epochs[@]}" -o taken.gguf --log taken.epoch4.gguf
says err "taken.epoch4.gguf is the adapter's file"

# The default model: train, then steer. The reward of what it says must rise.
run 0 train -m "$model" -d pairs.jsonl -o joy.gguf --batch-size 8 --val-split 0 -lr 2e-3 --epochs 2
says out "joy.gguf: "
ask=(generate -m "$model" -p "50: what about cheese?" -n 24 --temp 0 --json)
run 0 "${ask[@]}" --arm joy.gguf:0
json out 'r[0]["response"]' >plain
run 0 "${ask[@]}" --arm joy.gguf:1
json out 'r[0]["response"]' >steered
! cmp -s plain steered || fail "the reward model changes nothing" plain
reward() { # a token's mean, above the reference's
    run 0 score -m "$model" -p "50: what about cheese?" -r "$(cat "$1")" --no-eos --arm joy.gguf --json
    json out '(r[0]["rewards"]["joy"] - r[0]["references"]["joy"]) / len(r[0]["tokens"])'
}
before=$(reward plain)
after=$(reward steered)
check "the reward rises from $before to $after" python3 -c "import sys; sys.exit(not $after > $before + 0.2)"
finish
