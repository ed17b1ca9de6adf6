# The page of genarm serve in Chromium, driven by Selenium (page.py). Both come from `scripts/deps.sh browser`.
. "$(dirname "$0")/../support/cli.sh"
python=$source_dir/deps/page/bin/python
[ -x "$python" ] || { echo "skipped: scripts/deps.sh browser installs what drives a browser"; exit 77; }
PAGE_CHROMIUM=$(command -v chromium) && PAGE_DRIVER=$(command -v chromedriver) || { echo "skipped: no chromium"; exit 77; }
export PAGE_CHROMIUM PAGE_DRIVER
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
servers=()
trap 'kill "${servers[@]}" 2>/dev/null; wait; rm -rf -- "$folder"' EXIT

serve() { # NAME ARGUMENTS…: starts a server; its address is put into the variable NAME
    local name=$1 port
    shift
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$genarm" serve --port "$port" "$@" >"$name.out" 2>"$name.err" </dev/null &
    servers+=($!)
    for _ in $(seq 300); do
        ! python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/health')" 2>/dev/null || break
        kill -0 $! 2>/dev/null || { fail "genarm serve $* does not get ready" "$name.err"; finish; }
        sleep 0.1
    done
    export "$name=http://127.0.0.1:$port"
}

# A name that is markup can only come from a file's.
adapter one.gguf 1
adapter '<img src=x onerror=alert(1)>.gguf' 2
for i in $(seq 16); do
    printf '{"prompt": "%s: what of it?", "chosen": "Wonderful! I love it.", "rejected": "Bad. I hate it."}\n' "$i" >>praise.jsonl
    printf '{"prompt": "%s: what of it?", "chosen": "Bad. I hate it.", "rejected": "Wonderful! I love it."}\n' "$i" >>blame.jsonl
done
run 0 train -m "$tiny" --lora-rank 4 -lr 1e-2 --batch-size 8 --epochs 2 --beta 0.5 -s 5 --objective praise=praise.jsonl \
    --objective blame=blame.jsonl -o both.gguf
serve PAGE_REAL -m "$model" --arm one.gguf:0 --arm '<img src=x onerror=alert(1)>.gguf:0' -np 2 -c 4096
serve PAGE_TINY -m "$tiny" --arm both.gguf:0 --api-key "open-sesame"

PAGE_AXE=$(ls "$source_dir"/deps/page/lib/python*/site-packages/axe_playwright_python/axe.min.js)
PAGE_SERVE=$(printf '%q ' "$genarm" serve -m "$model" --arm one.gguf:0)
export PAGE_AXE PAGE_SERVE PYTHONDONTWRITEBYTECODE=1
"$python" "$source_dir/tests/http/page.py" "${@:3}" >out 2>&1 || { cat out; fail "page.py"; }
finish
