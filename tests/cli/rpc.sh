# A model over two RPC servers on this machine: the answers, the scores and the training of the model on the CPU; and
# servers that are not there, or go away.
. "$(dirname "$0")/../support/cli.sh"
unset LLAMA_ARG_RPC
pids=()
stop_servers() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
    wait 2>/dev/null
    pids=()
}
trap 'stop_servers; rm -rf -- "$folder"' EXIT

# Starts a server at a port that was free a moment ago; sets port.
server() {
    local try
    for try in 1 2 3; do
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        "$genarm" rpc-server --port "$port" -t 1 >"server.$port" 2>&1 </dev/null &
        local pid=$!
        if wait_for_port "$port" "$pid"; then
            pids+=("$pid")
            return
        fi
    done
    fail "no server starts" "server.$port"
    finish
}

# Until something listens there, or the process has ended.
wait_for_port() {
    python3 -c '
import os, socket, sys, time
for _ in range(600):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()
        sys.exit(0)
    except OSError:
        time.sleep(0.05)
    try:
        os.kill(int(sys.argv[2]), 0)
    except OSError:
        break
sys.exit(1)' "$1" "$2"
}

server
first=$port
server
second=$port
servers=127.0.0.1:$first,127.0.0.1:$second
remote=(--rpc "$servers")

# Where layers lie: by memory, which is the same here, by shares, and as many as wanted.
run 0 info "$tiny" "${remote[@]}" --json
json_true out '[p["device"] for p in r[0]["parts"]] == ["CPU", "RPC0", "RPC1"]'
json_true out '[p["layers"] for p in r[0]["parts"]] == [0, 2, 0] and [p["head"] for p in r[0]["parts"]] == [False, False, True]'
json_true out "r[0]['parts'][2]['description'] == '127.0.0.1:$second' and all(p['bytes'] > 0 for p in r[0]['parts'])"
run 0 info "$model" "${remote[@]}" -ts 3,1
says out "RPC0           layers 0 to 23, "
says out "RPC1           layers 24 to 29, head, "
says out "(127.0.0.1:$first)"
run 0 info "$model" "${remote[@]}" -ts 1,1 -ngl 4 -v
says out "CPU            layers 0 to 25, embeddings, head, "
says out "RPC1           layers 28 to 29, "
says err "RPC0 (127.0.0.1:$first): 2 layers from 26 on"
run 0 info "$model" "${remote[@]}" -dev RPC1 -ngl 99
says out "RPC1           layers 0 to 29, head, "
run 0 info "$model" "${remote[@]}" -ngl 0
check "no layer, no device" [ "$(grep -c RPC out)" = 0 ]

# A guided answer, token by token, and scores.
ask=(generate -m "$tiny" --arm "$golden/llama.lora.gguf:1" -p "What about rain?" -n 24 --temp 0 --chat-template "raw:{prompt}"
     -c 64 -ctk f32 -ctv f32 --json)
run 0 "${ask[@]}"
cp out local
for more in "" "-ts 1,2" "-ngl 1"; do
    # shellcheck disable=SC2086  # two words
    run 0 "${ask[@]}" "${remote[@]}" $more
    check "the same answer $more" [ "$(json out 'r[0]["response"]')" = "$(json local 'r[0]["response"]')" ]
done
LLAMA_ARG_RPC=$servers run 0 "${ask[@]}"
check "the same answer" [ "$(json out 'r[0]["response"]')" = "$(json local 'r[0]["response"]')" ]
ask=(score -m "$tiny" --arm "$golden/llama.lora.gguf" -p "What about rain?" -r " It falls on us all." --json
     --chat-template "raw:{prompt}" -c 64 -ctk f32 -ctv f32)
run 0 "${ask[@]}"
cp out local
run 0 "${ask[@]}" "${remote[@]}"
cat local out >both
json_true both 'set(r[0]["rewards"]) == {"llama.lora"} and all(abs(r[0]["rewards"][a] - r[1]["rewards"][a]) < 1e-3 and abs(r[0]["references"][a] - r[1]["references"][a]) < 1e-3 for a in r[0]["rewards"])'

# A reward model that is a model of its own is divided as well, over the same connections.
ask=(generate -m "$tiny" --arm "x=$golden/llama-padded.gguf+$golden/llama.lora.gguf:1" -p "Rain" -n 12 --temp 0
     --chat-template "raw:{prompt}" -c 64 -ctk f32 -ctv f32 --json)
run 0 "${ask[@]}"
cp out local
run 0 "${ask[@]}" "${remote[@]}"
check "the same answer" [ "$(json out 'r[0]["response"]')" = "$(json local 'r[0]["response"]')" ]

# The default model, its weights quantised: an adapter of its own steers it.
adapter joy.gguf 3
run 0 generate -m "$model" --arm joy.gguf -p "What is rain?" -n 8 --temp 0 "${remote[@]}" -c 128 --json
json_true out 'len(r[0]["response"]) > 0'

# Training: the losses of a few steps.
python3 - >pairs.jsonl <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow"]
for i, thing in enumerate(things * 2):
    print(json.dumps({"prompt": f"{i}: what about {thing}?", "chosen": f"Wonderful! I love {thing}!", "rejected": f"Bad. I hate {thing}."}))
END
settings=(-m "$tiny" -d pairs.jsonl --lora-rank 4 --beta 0.5 -lr 1e-2 --batch-size 4 --epochs 2 -s 5 --val-split 0)
run 0 train "${settings[@]}" -o local.gguf --log local.jsonl
run 0 train "${settings[@]}" -o remote.gguf --log remote.jsonl "${remote[@]}"
python3 - local.jsonl remote.jsonl >steps <<'END' || fail "the losses of training differ" local.jsonl remote.jsonl
import json, sys
a, b = ([x for x in map(json.loads, open(name)) if "loss" in x] for name in sys.argv[1:])
assert len(a) == len(b) >= 6
for x, y in zip(a, b):
    assert abs(x["loss"] - y["loss"]) < 1e-3, (x, y)
assert a[-1]["loss"] < 0.8 * a[0]["loss"]
END

# A second client waits for the first, which is said in time; then the server is lost while training.
# (A server that is in use does not answer: 10 s.)
"$genarm" train "${settings[@]}" --epochs 4000 --save-every 5 -o lost.gguf --log lost.jsonl "${remote[@]}" >lost.out 2>lost.err </dev/null &
training=$!
for _ in $(seq 600); do
    [ "$(cat lost.jsonl 2>/dev/null | wc -l)" -lt 8 ] || break
    sleep 0.05
done
before=$SECONDS
run 1 info "$tiny" "${remote[@]}"
says err "127.0.0.1:$first: the RPC server does not answer within 10 s"
says err "hint: a server serves one program at a time"
check "an answer in time" [ $((SECONDS - before)) -lt 60 ]
kill "${pids[1]}"
status=0
wait $training || status=$?
check "training ends with 1 ($status)" [ "$status" = 1 ]
says lost.err "error: ggml gave up: Remote RPC server crashed"
says lost.err "--resume"
check "its checkpoint is there" [ -d lost.gguf.ckpt ]

# Servers that are not there.
run 1 generate -m "$tiny" -p x --rpc "127.0.0.1:$second"
says err "error: 127.0.0.1:$second: the RPC server cannot be reached: Connection refused"
says err "hint: start one there"
python3 -c '
import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
print(s.getsockname()[1], flush=True)
while True:
    c = s.accept()[0]
    c.recv(100)
    c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    c.close()' >wrong &
pids+=($!)
for _ in $(seq 200); do
    [ ! -s wrong ] || break
    sleep 0.05
done
run 1 generate -m "$tiny" -p x --rpc "127.0.0.1:$(cat wrong)"
says err "what listens there is no RPC server"
run 1 generate -m "$tiny" -p x --rpc 127.0.0.1
says err '"127.0.0.1" is no address of an RPC server'
run 1 generate -m "$tiny" -p x --rpc "127.0.0.1:$first" -ts 1,1
says err "a tensor split of 2 shares for 1 devices"
run 1 generate -m "$tiny" -p x --rpc "127.0.0.1:$first" -dev RPC5
says err "there is no device RPC5"
says err "RPC0"
run 1 generate -m "$tiny" -p x --rpc "127.0.0.1:$first,127.0.0.1:$first"
says err "device RPC0 is named twice"

# What a server says of itself.
run 1 rpc-server --port "$first"
says err "cannot listen at 127.0.0.1:$first: Address already in use"
run 2 rpc-server --host localhost
says err '"localhost" is no IPv4 address'
run 2 rpc-server -dev NoSuchDevice7
says err "there is no device NoSuchDevice7"
run 2 rpc-server --port 65536
timeout 2 "$genarm" rpc-server --host 0.0.0.0 --port "$second" -t 1 >out 2>err </dev/null
says err "warning: 0.0.0.0 can be reached from outside this machine"
timeout 2 "$genarm" rpc-server --port "$second" -t 1 >out 2>err </dev/null
check "no warning" [ ! -s err ]
finish
