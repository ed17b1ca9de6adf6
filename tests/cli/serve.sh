# genarm serve as a program: what it says, refuses and returns; its log; its end. What it answers is tested in tests/http.
. "$(dirname "$0")/../support/cli.sh"
command -v curl >/dev/null || { echo "skipped: scripts/deps.sh clients installs curl"; exit 77; }
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY LLAMA_API_KEY
server=''
trap '[ -z "$server" ] || kill -KILL $server 2>/dev/null; wait; rm -rf -- "$folder"' EXIT

serve() { # ARGUMENTS…: starts a server at a free port and waits until it says which; log, url
    rm -f log
    "$genarm" serve --port 0 --log-file log "$@" >out 2>err </dev/null &
    server=$!
    for _ in $(seq 300); do
        url=$(sed -n 's#.*serving .* at \(http://[0-9.]*:[0-9]*\).*#\1#p' log 2>/dev/null)
        [ -z "$url" ] || return 0
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    fail "genarm serve $* does not get ready" err log
    finish
}

ended() { # STATUS WHAT
    local status=0
    wait $server || status=$?
    check "$2: status $status, not $1" [ "$status" = "$1" ]
    server=''
}

# What cannot be served ends with an error, and at once where no model is needed to see it.
run 1 serve --port 0 -m missing.gguf
says err "genarm: error: missing.gguf"
run 1 serve --port 0 -m "$tiny" --arm missing.gguf
says err "missing.gguf"
run 1 serve --port 0 -m "$tiny" --api-key-file missing
says err "genarm: error: missing"
: >keys
run 2 serve --port 0 -m "$tiny" --api-key-file keys
says err "--api-key-file: there is no key"
printf 'two words\n' >keys
run 1 serve --port 0 -m "$tiny" --api-key-file keys
says err "key 1 is not 1 to 512 visible ASCII characters"
run 1 serve --port 0 -m "$tiny" --log-file nowhere/log
says err "nowhere/log: cannot open the log"
run 1 serve --port 0 -m "$tiny" --host 192.0.2.1
says err "cannot listen"
run 1 serve --port 0 -m "$tiny" --cors "https://a.example, https://b.example"
says err "is not one origin"
run 2 serve --port 0 -m "$tiny" --cors '*'
says err "--cors: * lets every page in: it needs --api-key"
run 2 serve --port 65536
says err '--port: "65536" is not a whole number from 0 to 65535'
run 2 serve --log-format xml
says err '--log-format: "xml" is none of text|json'

# A port of its own, which it says; nobody else gets it.
serve -m "$tiny" --log-format json
port=${url##*:}
check "the port that is said is its own ($port)" [ "$(curl -s "$url/health")" = '{"status":"ok"}' ]
check "nothing on stdout" [ ! -s out ]
check "nothing on stderr when there is a log file" [ ! -s err ]
says log "listening at http://127.0.0.1:$port"
! grep -q "api-key" log || fail "a server that only this machine reaches is told to have keys" log
status=0
"$genarm" serve --port "$port" -m "$tiny" >second.out 2>second.err </dev/null || status=$?
check "a port that is in use: status $status" [ "$status" = 1 ]
says second.err "127.0.0.1:$port: cannot listen: Address already in use"
says second.err "hint: another server has the port"

# The log in JSON, whatever clients write into it; a rotated one goes on in a new file.
curl -s -o body -H "X-Request-Id: mine-1" "$url/v1/models"
curl -s -o body "$url/%22%5c%0a%00%ff?secret=1" -H "X-Request-Id: not \"mine\""
printf 'GET /\x1b[31m" HTTP/1.1\r\nHost: localhost\r\n\r\n' | timeout 5 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(sys.stdin.buffer.read())
s.recv(4096)' "$port"
mv log log.1
kill -HUP $server
for _ in $(seq 50); do
    curl -s -o body -H "X-Request-Id: mine-2" "$url/health"
    [ ! -s log ] || break
    sleep 0.1
done
kill -TERM $server
ended 0 SIGTERM
json_true log.1 'len(r) >= 5 and all({"time", "level"} <= set(line) for line in r)'
json_true log.1 '[line for line in r if line.get("id") == "mine-1"][0]["path"] == "/v1/models"'
json_true log.1 'all("secret" not in json.dumps(line) for line in r) and any("serving" in line.get("message", "") for line in r)'
json_true log 'r[0]["id"] == "mine-2" and r[0]["status"] == 200 and "shutting down" in r[-1]["message"]'

# The end: an answer that runs is finished, what is new is refused; Ctrl-C a second time ends it at once; so does one while it loads.
long='{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 15000, "grammar": "root ::= [ -~] root", "stream": true}'
running() { # waits until an answer runs
    for _ in $(seq 300); do
        ! curl -s "$url/slots" | grep -q '"is_processing":true' || return 0
        sleep 0.1
    done
    fail "no answer runs" log
}
serve -m "$tiny" -c 16000 --grace 300
curl -sN "$url/v1/chat/completions" -d "$long" >stream &
client=$!
running
kill -TERM $server
check "the answer that runs is finished" wait $client
ended 0 "SIGTERM while it answers"
check "to the end" [ "$(grep . stream | tail -n 1)" = "data: [DONE]" ]
check "as if nothing had been" [ "$(grep -c '"finish_reason":"length"' stream)" = 1 ]
! grep -q '"error"' stream || fail "an error in the stream" stream
says log "shutting down: answers that run have 300 s"

serve -m "$tiny" -c 16000 --grace 0
curl -sN "$url/v1/chat/completions" -d "$long" >stream &
client=$!
running
kill -TERM $server
wait $client
ended 0 "SIGTERM without grace"
says stream "the server is shutting down"
check "a cut stream says that it is over" [ "$(grep . stream | tail -n 1)" = "data: [DONE]" ]

serve -m "$tiny" -c 16000
curl -sN "$url/v1/chat/completions" -d "$long" >stream &
client=$!
running
kill -INT $server
for _ in $(seq 50); do
    ! grep -q "shutting down" log || break
    sleep 0.1
done
kill -INT $server
ended 130 "a second Ctrl-C"
check "which has cut the answer" [ "$(grep . stream | tail -n 1)" != "data: [DONE]" ]
wait $client

rm -f log
"$genarm" serve --port 0 --log-file log -m "$model" >out 2>err </dev/null &
server=$!
for _ in $(seq 300); do
    ! grep -q "listening at" log 2>/dev/null || break
    sleep 0.02
done
kill -TERM $server
grep -q "serving" log || ended 143 "SIGTERM while it loads" # a machine that loads as fast as it is told to end has no such moment
finish
