# genarm info: facts of models and adapters, for people and as JSON.
. "$(dirname "$0")/../support/cli.sh"

run 0 info "$model"
says out "type           model"
says out "architecture   llama"
says out "Q4_1"
says out 'its system message "You are a helpful AI assistant named SmolLM, trained by Hugging Face" is not added: -sys gives one'
run 0 info "$tiny"
check "others say nothing of a system message" [ "$(grep -c 'system message' out)" = 0 ]
run 0 info "$model" --json
json_true out 'r[0]["type"] == "model" and r[0]["layers"] == 30 and r[0]["embedding"] == 576 and r[0]["vocabulary"] == 49152'
json_true out 'r[0]["heads"] == 9 and r[0]["kv_heads"] == 3 and r[0]["feed_forward"] == 1536 and r[0]["context"] == 8192'
json_true out 'len(r[0]["fingerprint"]) == 16 and int(r[0]["fingerprint"], 16) > 0'
cp out named
run 0 info --json
json_true out 'r[0]["layers"] == 30'
run 0 info -m "$model" --json
same out named

run 0 info "$golden/qwen3.gguf" "$golden/qwen3.lora.gguf" "$golden/llama.lora2.gguf" --json
json_true out '[x["type"] for x in r] == ["model", "adapter", "adapter"]'
json_true out 'r[0]["architecture"] == "qwen3" and r[0]["layers"] == 3 and r[0]["vocabulary"] == 301'
json_true out 'r[1]["rank"] == 4 and r[1]["alpha"] == 8 and r[1]["layers"] == 3'
json_true out 'set(r[1]["targets"].split(",")) == set("q,k,v,o,gate,up,down".split(","))'
json_true out 'r[2]["rank"] == 2 and r[2]["alpha"] == 6 and set(r[2]["targets"].split(",")) == {"q", "v"}'
run 0 info "$golden/llama.lora2.gguf"
says out "LoRA adapter"
says out "rank           2, alpha 6"

# What a file says cannot drive the terminal; what is no adapter that can be used is said.
edit() { # FILE OLD NEW: bytes as printf understands them, of the same length
    python3 -c '
import sys
old, new = (x.encode().decode("unicode_escape").encode("latin-1") for x in sys.argv[3:])
data = open(sys.argv[1], "rb").read()
assert len(old) == len(new) and old in data
open(sys.argv[2], "wb").write(data.replace(old, new, 1))' "$golden/llama.lora2.gguf" "$@"
}
edit escape.gguf llama '\x1b[31m'
run 0 info escape.gguf
check "no escape sequence is printed" [ "$(grep -c $'\033' out)" = 0 ]
says out "architecture   ?[31m"
edit other.gguf '\x04\0\0\0\0\0\0\0lora' '\x04\0\0\0\0\0\0\0dora'
run 1 info other.gguf
says err 'adapter.type is "dora"'
edit infinite.gguf '\x00\x00\xc0\x40' '\x00\x00\x80\x7f'
run 1 info infinite.gguf
says err "adapter.lora.alpha is not a finite number"
edit huge.gguf blk.0.attn_q.weight.lora_a blk.2147483647.attn.lora_a
run 0 info huge.gguf
finish
