# Two servers behind nginx as share/nginx.conf has it, with TLS: pages, answers and streams, a server that is killed, servers that
# are restarted one after the other. The client is proxy.py; nginx comes from `scripts/deps.sh proxy`.
. "$(dirname "$0")/../support/cli.sh"
nginx=$(command -v nginx || echo /usr/sbin/nginx)
[ -x "$nginx" ] && command -v openssl >/dev/null && command -v curl >/dev/null ||
    { echo "skipped: scripts/deps.sh proxy installs nginx, openssl and curl"; exit 77; }
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
declare -A server=()
trap 'kill "${server[@]}" $proxy $load 2>/dev/null; wait; rm -rf -- "$folder"' EXIT
proxy='' load=''
export PYTHONDONTWRITEBYTECODE=1

# Four ports that are free and stay so: the system gives none of them to connections.
read -r PROXY_A PROXY_B plain PROXY_PORT < <(python3 -c '
import random, socket
free = []
while len(free) < 4:
    port = random.randrange(20000, 32768)
    with socket.socket() as s:
        if port not in free and s.connect_ex(("127.0.0.1", port)):
            free.append(port)
print(*free)')
export PROXY_A PROXY_B PROXY_PORT

start() { # PORT: a server, which is ready when this returns
    "$genarm" serve --port "$1" -m "$tiny" --arm kind="$golden/llama.lora.gguf:1" -np 2 -c 8192 --metrics --api-key first,second \
        --cors https://genarm.example.org --log-file "$1.log" --log-format json >"$1.out" 2>&1 </dev/null &
    server[$1]=$!
    for _ in $(seq 300); do
        ! curl -sf "http://127.0.0.1:$1/health" >health || return 0
        kill -0 "${server[$1]}" 2>/dev/null || break
        sleep 0.1
    done
    fail "genarm serve does not get ready" "$1.out" "$1.log"
    finish
}

answered() { # PORT: how many answers a server has given since it was started
    curl -s -H "Authorization: Bearer first" "http://127.0.0.1:$1/metrics" >metrics
    sed -n 's/^genarm_requests_total{route="\/v1\/chat\/completions",status="200"} //p' metrics | grep . || echo 0
}

used() { # PORT: waits until it has answered something
    for _ in $(seq 300); do
        [ "$(answered "$1")" = 0 ] || return 0
        sleep 0.1
    done
    fail "nginx does not use the server that is back"
}

busy() { # PORT: waits until all slots of a server are taken
    for _ in $(seq 300); do
        curl -s -H "Authorization: Bearer first" "http://127.0.0.1:$1/slots" >slots
        [ "$(json slots 'sum(slot["is_processing"] for slot in r[0])')" != 2 ] || return 0
    done
    fail "nginx does not use both servers" slots
}

start "$PROXY_A"
start "$PROXY_B"

# The example, with ports, certificate and all that a daemon of the system would write elsewhere.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=genarm.example.org \
    -addext subjectAltName=DNS:genarm.example.org -keyout key.pem -out cert.pem 2>err || fail "openssl" err
sed -e "s/127\.0\.0\.1:8080/127.0.0.1:$PROXY_A/; s/127\.0\.0\.1:8081/127.0.0.1:$PROXY_B/" \
    -e "s/listen 80;/listen 127.0.0.1:$plain;/; s/listen 443 /listen 127.0.0.1:$PROXY_PORT /; /listen \[::\]/d" \
    -e "s#/etc/ssl/genarm.example.org.pem#$folder/cert.pem#; s#/etc/ssl/genarm.example.org.key#$folder/key.pem#" \
    "$source_dir/share/nginx.conf" >site.conf
[ "$(id -u)" != 0 ] || user="user $(id -un) $(id -gn);" # its workers may see this folder
cat >nginx.conf <<END
${user:-}
daemon off;
worker_processes 2;
pid $folder/nginx.pid;
error_log $folder/nginx.log notice;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include $folder/site.conf;
}
END
"$nginx" -t -e nginx.log -p "$folder" -c "$folder/nginx.conf" >out 2>&1 || { fail "nginx does not like the example" out; finish; }
"$nginx" -e nginx.log -p "$folder" -c "$folder/nginx.conf" >out 2>&1 &
proxy=$!
for _ in $(seq 100); do
    ! curl -s "http://127.0.0.1:$plain/" >/dev/null || break
    sleep 0.1
done
check "HTTP leads to HTTPS" [ "$(curl -s -o out -w '%{http_code} %{redirect_url}' -H 'Host: genarm.example.org' \
    "http://127.0.0.1:$plain/x")" = "301 https://genarm.example.org/x" ]

python3 "$source_dir/tests/http/proxy.py" checks >out 2>&1 || fail "proxy.py checks" out
status=$(curl -s --http2 --cacert cert.pem --resolve "genarm.example.org:$PROXY_PORT:127.0.0.1" -o out \
    -w '%{http_code} %{http_version}' "https://genarm.example.org:$PROXY_PORT/v1/models" -H "Authorization: Bearer second")
check "HTTP/2 as well ($status)" [ "$status" = "200 2" ]
check "a request's id is in the server's log" grep -q '"id":"through-nginx"' "$PROXY_A.log" "$PROXY_B.log"

under_load() { # COMMAND…: what it does while clients ask; summary: what they got
    rm -f stop
    python3 "$source_dir/tests/http/proxy.py" load stop >summary 2>load.err &
    load=$!
    sleep 1
    "$@"
    sleep 1
    touch stop
    wait "$load" || fail "proxy.py load" load.err
    load=''
}

# A server that is gone from one moment to the next costs only what had begun to stream.
kill_one() {
    busy "$PROXY_A"
    kill -KILL "${server[$PROXY_A]}"
    wait "${server[$PROXY_A]}" 2>/dev/null
    sleep 1
    start "$PROXY_A"
    used "$PROXY_A"
}
under_load kill_one
json_true summary 'r[0]["failed"] == [] and r[0]["whole"] > 8 and r[0]["streams"] > 8'
json_true summary 'r[0]["cut"] <= 8'

# One that is told to end costs nothing.
restart_both() {
    local port
    for port in "$PROXY_A" "$PROXY_B"; do
        busy "$port"
        kill -TERM "${server[$port]}"
        wait "${server[$port]}" || fail "status $? after SIGTERM" "$port.log"
        start "$port"
        used "$port"
    done
}
cat summary
under_load restart_both
json_true summary 'r[0]["failed"] == [] and r[0]["cut"] == 0 and r[0]["whole"] > 8 and r[0]["streams"] > 8'
cat summary
noisy=$(grep -hE "\"level\": ?\"(warn|error)\"" "$PROXY_A.log" "$PROXY_B.log" | grep -v "was trained for 256 tokens")
check "the servers have nothing to complain about: $noisy" [ -z "$noisy" ]
finish
