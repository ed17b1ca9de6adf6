# genarm serve with clients that others wrote: curl, OpenAI's Python package (clients.py), and schemathesis, which makes
# requests of /openapi.json, right and wrong ones. They come from `scripts/deps.sh clients`.
. "$(dirname "$0")/../support/cli.sh"
python=$source_dir/deps/clients/bin/python
[ -x "$python" ] && command -v curl >/dev/null || { echo "skipped: scripts/deps.sh clients installs the clients"; exit 77; }
unset OPENAI_API_KEY OPENAI_BASE_URL http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
servers=()
trap 'kill "${servers[@]}" 2>/dev/null; wait; rm -rf -- "$folder"' EXIT

serve() { # NAME ARGUMENTS…: starts a server; its address is put into the variable NAME
    local name=$1 url=
    shift
    "$genarm" serve --port 0 "$@" >"$name.out" 2>"$name.err" </dev/null &
    servers+=($!)
    for _ in $(seq 600); do
        url=$(sed -n 's,.* at \(http://127.0.0.1:[0-9]*\)$,\1,p' "$name.err")
        [ -z "$url" ] || ! curl -sf "$url/health" >health || break
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    [ -s health ] || { fail "genarm serve $* does not get ready" "$name.err"; finish; }
    rm health
    printf -v "$name" %s "$url"
}

get() { # STATUS PATH CURL-ARGUMENTS…: asks $tiny_url; fills out and head
    local expected=$1 path=$2 status
    shift 2
    status=$(curl -s -D head -o out -w '%{http_code}' "$@" "$tiny_url$path")
    [ "$status" = "$expected" ] || fail "status $status, not $expected: $path $*" out
}

post() { # STATUS PATH JSON CURL-ARGUMENTS…
    local status=$1 path=$2 body=$3
    shift 3
    get "$status" "$path" -H "Content-Type: application/json" -d "$body" "$@"
}

adapter one.gguf 1
adapter two.gguf 2
for i in $(seq 16); do
    printf '{"prompt": "%s: what of it?", "chosen": "Wonderful! I love it.", "rejected": "Bad. I hate it."}\n' "$i" >>praise.jsonl
    printf '{"prompt": "%s: what of it?", "chosen": "Bad. I hate it.", "rejected": "Wonderful! I love it."}\n' "$i" >>blame.jsonl
done
run 0 train -m "$tiny" --lora-rank 4 -lr 1e-2 --batch-size 8 --epochs 2 --beta 0.5 -s 5 --objective praise=praise.jsonl \
    --objective blame=blame.jsonl -o both.gguf
exact=(-ctk f32 -ctv f32) # answers are the same whatever else is computed beside them
serve tiny_url -m "$tiny" --arm kind="$golden/llama.lora.gguf:0" --arm short="$golden/llama.lora2.gguf:0" --arm both=both.gguf:0 \
    -np 4 --metrics "${exact[@]}" --no-cache-prompt
serve real_url -m "$model" --arm one=one.gguf:0 --arm two=two.gguf:0 -np 2 -c 2048
serve keyed_url -m "$tiny" --arm helpful="$golden/llama.lora.gguf:0" --arm harmless="$golden/llama.lora2.gguf:0" \
    -np 4 -n 8 -c 1024 --metrics --api-key first,second

serve quiet_url -m "$tiny" --no-slots --no-ui -np 1

# ---- curl: every path once ----------------------------------------------------------------------

ask='"messages": [{"role": "user", "content": "How do I bake bread?"}], "max_tokens": 8, "seed": 1'
said() { json_true out "len(r) == 1 and ($1)"; } # an expression of the one JSON answer, r[0]

for path in /health /v1/health; do
    get 200 $path
    said 'r[0] == {"status": "ok"}'
done
check "a request id" grep -qi '^x-request-id: [A-Za-z0-9._-]' head
get 200 /
check "the page is HTML" grep -qi '^content-type: text/html' head
get 200 /openapi.json
cmp -s out "$source_dir/src/serve/openapi.json" || fail "/openapi.json is not src/serve/openapi.json"
get 200 /metrics
says out genarm_requests_total
check "Prometheus' format" grep -q '^genarm_slots 4$' out
get 200 /props
said 'r[0]["total_slots"] == 4 and [a["name"] for a in r[0]["arms"]] == ["kind", "short", "both"]'
for path in /v1/models /models; do
    get 200 $path
    said 'r[0]["object"] == "list" and r[0]["data"][0]["meta"]["n_ctx"] > 0'
done
id=$(json out 'r[0]["data"][0]["id"]')
get 200 "/v1/models/$id"
said 'r[0]["id"] == "'"$id"'"'
get 404 /v1/models/another
get 200 /slots
said '[s["id"] for s in r[0]] == [0, 1, 2, 3] and not any(s["is_processing"] for s in r[0])'
for path in /v1/chat/completions /chat/completions; do
    post 200 $path "{$ask}"
    said 'r[0]["object"] == "chat.completion" and r[0]["seed"] == 1'
done
post 200 /v1/completions '{"prompt": "Once", "max_tokens": 4, "seed": 1}'
said 'r[0]["object"] == "text_completion"'
for path in /completion /completions; do
    post 200 $path '{"prompt": "Once", "n_predict": 4, "seed": 1}'
    said 'isinstance(r[0]["content"], str) and r[0]["tokens_predicted"] <= 4'
done
post 200 /tokenize '{"content": "Hi there", "with_pieces": true}'
said '"".join(t["piece"] for t in r[0]["tokens"]) == "Hi there"'
post 200 /tokenize '{"content": "Hi there"}'
post 200 /detokenize "$(cat out)"
said 'r[0] == {"content": "Hi there"}'
post 200 /apply-template "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi there\"}]}"
said '"Hi there" in r[0]["prompt"]'
post 200 /v1/score '{"prompt": "Hi", "response": "Hello.", "arms": {"kind": 1}}'
said 'abs(r[0]["rewards"]["kind"] - sum(t["arms"]["kind"] for t in r[0]["tokens"])) < 1e-3'
said '"".join(t["text"] for t in r[0]["tokens"]).startswith("Hello.")'

# Streams end as OpenAI's do.
for path in /v1/chat/completions /v1/completions; do
    body="{$ask, \"stream\": true}"
    [ $path = /v1/chat/completions ] || body='{"prompt": "Once", "max_tokens": 4, "stream": true}'
    post 200 $path "$body" -N
    check "an event stream" grep -qi '^content-type: text/event-stream' head
    check "[DONE] is the last event of $path" [ "$(grep . out | tail -n 1)" = "data: [DONE]" ]
    check "nothing but events" [ -z "$(grep -v '^data: ' out | grep .)" ]
done

# Default weights.
get 200 /arms
said '[a["weight"] for a in r[0]] == [0, 0, 0]'
post 200 /arms '{"kind": 0.5}'
said '[a["weight"] for a in r[0]] == [0.5, 0, 0]'
post 200 /arms '[{"id": 1, "weight": -0.25}, {"name": "both", "weight": 2}]'
cp out changed
get 200 /arms
said '[a["weight"] for a in r[0]] == [0.5, -0.25, 2]'
same out changed
post 200 /v1/chat/completions "{$ask, \"arms\": {\"short\": 1}}"
said 'r[0]["arms"] == {"kind": 0.5, "short": 1, "both": 2}'
post 400 /arms '{"kind": 1, "none": 1}'
post 400 /arms '[{"id": 0, "weight": 1}, {"id": 9, "weight": 1}]'
get 200 /arms
same out changed
post 200 /arms '{"kind": 0, "short": 0, "both": 0}'

# Weights of an answer that runs, and of one that does not.
curl -sN "$real_url/v1/chat/completions" -d "{${ask/\"max_tokens\": 8/\"max_tokens\": 300}, \"stream\": true, \"grammar\": \"root ::= [a-z ]{300}\"}" \
    -H "Content-Type: application/json" >stream &
streaming=$!
for _ in $(seq 100); do
    id=$(sed -n '1s/^data: {"id": *"\([^"]*\)".*/\1/p' stream)
    [ -z "$id" ] || break
    sleep 0.1
done
curl -s "$real_url/v1/requests/$id/arms" -d '{"one": 1.25, "two": -1}' -H "Content-Type: application/json" >out
said 'r[0]["id"] == "'"$id"'" and r[0]["arms"] == {"one": 1.25, "two": -1} and len(r[0]["n_tokens"]) == 1'
wait $streaming
sed -n 's/^data: \({.*\)/\1/p' stream >chunks
json_true chunks 'r[-1]["arms"] == {"one": 1.25, "two": -1} and r[-1]["choices"][0]["finish_reason"] in ("stop", "length")'
status=$(curl -s -o out -w '%{http_code}' "$real_url/v1/requests/$id/arms" -d '{"one": 1}' -H "Content-Type: application/json")
check "an answer that is over has no weights ($status)" [ "$status" = 404 ]

# What is switched off, and what is wrong.
tiny_address=$tiny_url tiny_url=$quiet_url
for path in /metrics /slots; do
    get 501 $path
    said 'r[0]["error"]["type"] == "not_supported_error"'
done
get 404 /
tiny_url=$tiny_address
head -c 5000000 /dev/zero | tr '\0' ' ' >large
get 413 /v1/chat/completions -H "Content-Type: application/json" -H Expect: --data-binary @large
get 404 /nothing
said 'r[0]["error"]["type"] == "not_found_error" and r[0]["error"]["code"] == 404'
says out "no such path: see /openapi.json"
get 405 /v1/chat/completions
check "Allow says what may be" grep -qi '^allow:.*POST' head
get 405 /health -X DELETE
post 400 /v1/chat/completions '{"messages": '
said 'r[0]["error"]["type"] == "invalid_request_error"'
post 400 /v1/chat/completions '["messages"]'
get 200 /health --head
check "HEAD says what GET would" grep -qi '^content-length: 15.$' head

# Keys.
tiny_address=$tiny_url tiny_url=$keyed_url
for path in / /health /v1/health /openapi.json; do get 200 $path; done
for path in /v1/models /props /slots /arms /metrics; do
    get 401 $path
    said 'r[0]["error"]["type"] == "authentication_error"'
    get 401 $path -H "Authorization: Bearer third"
    get 200 $path -H "X-Api-Key: first"
    get 200 $path -H "Authorization: Bearer second"
done
post 401 /v1/chat/completions "{$ask}"
post 200 /v1/chat/completions "{$ask}" -H "Authorization: Bearer first"
tiny_url=$tiny_address

# ---- the description ----------------------------------------------------------------------------

"$python" -m openapi_spec_validator "$source_dir/src/serve/openapi.json" >out 2>&1 || fail "openapi.json is not valid" out

# ---- OpenAI's client ----------------------------------------------------------------------------

answer() {
    "$genarm" generate -m "$tiny" "${exact[@]}" -p "How do I bake bread?" -n 40 --temp 0 --json "$@" 2>/dev/null >line
    json line 'r[0]["response"]'
}
CLIENTS_PLAIN=$(answer; echo .) CLIENTS_KIND=$(answer --arm kind="$golden/llama.lora.gguf:2"; echo .)
CLIENTS_TINY=$tiny_url CLIENTS_REAL=$real_url CLIENTS_KEYED=$keyed_url PYTHONDONTWRITEBYTECODE=1 \
    CLIENTS_PLAIN=${CLIENTS_PLAIN%??} CLIENTS_KIND=${CLIENTS_KIND%??} \
    "$python" -m pytest -q -p no:cacheprovider --tb=short --rootdir "$folder" "$source_dir/tests/http/clients.py" >out 2>&1 ||
    fail "clients.py" out

# ---- requests made of the description ------------------------------------------------------------

SCHEMATHESIS_HOOKS=$source_dir/tests/http/schemathesis_hooks.py PYTHONDONTWRITEBYTECODE=1 \
    "$python" -c 'import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())' \
    --config-file "$source_dir/tests/http/schemathesis.toml" run "$keyed_url/openapi.json" -H "Authorization: Bearer first" \
    >out 2>&1 || fail "schemathesis" out
finish
