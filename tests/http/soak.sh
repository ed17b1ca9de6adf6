# Minutes of use and abuse of a server with two ARMs (soak.py says of what, and what must hold); then it ends, cleanly. First on a
# tiny model, where a thousand small things happen, then on the default one, where answers take their time.
#
#   GENARM_SOAK_SECONDS=1200   how long in all (90; 30 where the program is built with sanitizers, which must find nothing:
#                              then on the tiny model only)
#   SEED=N                     the order of an earlier run
. "$(dirname "$0")/../support/cli.sh"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; wait; rm -rf -- "$folder"' EXIT
slots=4 queue=8 max_body=1000000 idle=5 tokens=32 sanitized=

# The server's address is in port, its process in server.
start() { # MODEL CONTEXT ARM ARM
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$genarm" serve -m "$1" -c "$2" --arm "helpful=$3:1" --arm "harmless=$4:0.5" --port "$port" -np $slots --queue $queue \
        --timeout $idle --max-body $max_body --max-connections 500 --metrics --grace 60 >server.out 2>server.err </dev/null &
    server=$!
    for _ in $(seq 600); do
        ! curl -sf --noproxy '*' "http://127.0.0.1:$port/health" >/dev/null || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    fail "the server does not get ready" server.err
    finish
}

soak() { # SECONDS WORDS MODEL CONTEXT ARM ARM
    local seconds=$1 words=$2 found=0 status=0
    shift 2
    start "$@"
    printf '%s\n' "$(basename "$1")"
    python3 "$source_dir/tests/http/soak.py" --pid "$server" --port "$port" --seconds "$seconds" --slots $slots --queue $queue \
        --ctx "$2" --tokens $tokens --words "$words" --max-body $max_body --timeout $idle $sanitized helpful harmless >said ||
        found=$?
    cat said
    [ $found -le 1 ] || kill "$server" # it has sent that itself, unless it broke off
    for _ in $(seq 1200); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    ! kill -9 "$server" 2>/dev/null || fail "the server does not end within 120 s of SIGTERM"
    wait "$server" || status=$?
    server=
    { grep FAILED said | grep -oE 'soak-[0-9]+' | grep -wFf - server.err; grep -v '"GET /health"' server.err | tail -n 5; } >last
    [ $found = 0 ] || fail "the soak found something" last
    [ $status = 0 ] || fail "the server ends with $status" last
    for word in "runtime error" Sanitizer; do
        ! grep -q "$word" server.err || fail "the server's log says $word" server.err
    done
}

export MALLOC_ARENA_MAX=1 # as many as threads come and go grow for a long time, with nothing lost
command -v curl >/dev/null || { echo "skipped: scripts/deps.sh clients installs curl"; exit 77; }
all=${GENARM_SOAK_SECONDS:-90} first=$((${GENARM_SOAK_SECONDS:-90} / 3))
if grep -q __asan_init "$genarm"; then
    first=${GENARM_SOAK_SECONDS:-30}
    sanitized=--sanitized
    soak "$first" 15 "$tiny" 256 "$golden/llama.lora.gguf" "$golden/llama.lora2.gguf"
    finish
fi
adapter joy.gguf 3
adapter calm.gguf 4
soak "$first" 15 "$tiny" 256 "$golden/llama.lora.gguf" "$golden/llama.lora2.gguf"
soak $((all - first)) 250 "$model" 1024 joy.gguf calm.gguf
finish
