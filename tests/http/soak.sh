# Minutes of use and abuse of a server with two ARMs (soak.py says of what, and what must hold); then it ends, cleanly.
#
#   GENARM_SOAK_SECONDS=1200   how long (180; 30 where the program is built with sanitizers, which must find nothing)
#   GENARM_SOAK_MODEL=FILE     on another model than the default one (a tiny one with sanitizers)
#   SEED=N                     the order of an earlier run
. "$(dirname "$0")/../support/cli.sh"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; wait; rm -rf -- "$folder"' EXIT

seconds=180 soaked=$model arms=(helpful=joy.gguf:1 harmless=calm.gguf:0.5) ctx=1024 tokens=48 words=250 idle=3
if grep -q __asan_init "$genarm"; then
    seconds=30 soaked=$tiny arms=("helpful=$golden/llama.lora.gguf:1" "harmless=$golden/llama.lora2.gguf:0.5")
    ctx=256 words=15
    export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=8 # what is freed must not look like a leak
fi
if [ -n "${GENARM_SOAK_MODEL:-}" ]; then
    soaked=$GENARM_SOAK_MODEL
fi
if [ "${arms[0]}" = helpful=joy.gguf:1 ]; then
    write=$(dirname "$genarm")/tests/write_adapter
    "$write" "$soaked" joy.gguf 3 && "$write" "$soaked" calm.gguf 4 || exit 1
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
max_body=1000000 slots=4 queue=8
"$genarm" serve -m "$soaked" --arm "${arms[0]}" --arm "${arms[1]}" -c $ctx --host 127.0.0.1 --port "$port" -np $slots \
    --queue $queue --timeout $idle --max-body $max_body --max-connections 500 --metrics --grace 60 >server.out 2>server.err </dev/null &
server=$!
python3 - "$port" "$server" <<'PY' || fail "the server does not get ready" server.out server.err
import http.client, os, sys, time
for _ in range(1200):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
        connection.request("GET", "/health")
        if connection.getresponse().status == 200:
            sys.exit(0)
    except OSError:
        pass
    time.sleep(0.05)
    os.kill(int(sys.argv[2]), 0)
sys.exit(1)
PY
[ "$failures" = 0 ] || finish

python3 "$source_dir/tests/http/soak.py" --pid $server --port "$port" --seconds "${GENARM_SOAK_SECONDS:-$seconds}" \
    --slots $slots --queue $queue --ctx $ctx --tokens $tokens --words $words --max-body $max_body --timeout $idle helpful harmless ||
    fail "the soak found something" server.err
kill "$server" 2>/dev/null # it got that already, unless the soak broke off
status=0
wait "$server" || status=$?
server=
check "the server ends with 0, not $status" [ $status = 0 ]
for word in "runtime error" Sanitizer; do
    ! grep -q "$word" server.err || fail "the server's log says $word" server.err
done
finish
