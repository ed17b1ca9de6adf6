# genarm convert: a trained adapter to PEFT and back, and what is refused.
. "$(dirname "$0")/../support/cli.sh"
tiny=$golden/llama.gguf
python3 - >pairs.jsonl <<'END'
import json
for i in range(16):
    print(json.dumps({"prompt": f"{i}?", "chosen": f"Good {i}!", "rejected": "Bad."}))
END
run 0 train -m "$tiny" -d pairs.jsonl -o arm.gguf --lora-rank 3 --lora-alpha 5 --lora-targets q,k,o,down --batch-size 8

# There and back, byte for byte, with everything that training wrote down.
run 0 convert -m "$tiny" arm.gguf -o arm-peft --base-model org/base
says out "arm-peft: PEFT adapter, rank 3, alpha 5, targets q,k,o,down"
json_true <(tr -d '\n' <arm-peft/adapter_config.json) 'r[0]["peft_type"] == "LORA" and r[0]["r"] == 3 and r[0]["lora_alpha"] == 5'
json_true <(tr -d '\n' <arm-peft/adapter_config.json) 'r[0]["base_model_name_or_path"] == "org/base"'
json_true <(tr -d '\n' <arm-peft/adapter_config.json) 'r[0]["target_modules"] == ["q_proj", "k_proj", "o_proj", "down_proj"]'
python3 - <<'END' || fail "the safetensors file is not what its header says"
import json, struct
data = open("arm-peft/adapter_model.safetensors", "rb").read()
(n,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + n])
assert header.pop("__metadata__")["format"] == "pt" and (8 + n) % 8 == 0
at = 0
for name, entry in header.items():
    assert entry["dtype"] == "F32" and entry["data_offsets"][0] == at, name
    at = entry["data_offsets"][1]
assert at == len(data) - 8 - n
assert header["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"]["shape"] == [32, 3]
END
for input in arm-peft arm-peft/ arm-peft/adapter_model.safetensors arm-peft/adapter_config.json; do
    run 0 convert -m "$tiny" $input -o back.gguf
    same back.gguf arm.gguf
    rm back.gguf
done
run 0 convert -m "$tiny" arm-peft -o back.gguf --json
json_true out 'r[0] == {"output": "back.gguf", "format": "GGUF", "rank": 3, "alpha": 5, "targets": "q,k,o,down", "parameters": r[0]["parameters"]}'
cd arm-peft
run 0 convert -m "$tiny" adapter_model.safetensors -o ../here.gguf
rm out err
cd ..
same here.gguf arm.gguf
check "no temporary files" [ -z "$(find . -name '*.tmp*')" ]

# What PEFT wrote guides as any adapter does.
run 0 convert -m "$golden/qwen2.gguf" "$golden/peft/qwen2" -o peft.gguf
run 0 info peft.gguf --json
json_true out 'r[0]["architecture"] == "qwen2" and r[0]["rank"] == 4 and abs(r[0]["alpha"] - 6) < 1e-6' # 3 sqrt(4)
run 0 generate -m "$golden/qwen2.gguf" --arm peft.gguf:1 -p x -n 4

# A reward model that PEFT saved as a sequence classifier rewards whole responses.
run 0 convert -m "$golden/qwen3.gguf" "$golden/peft/qwen3" -o rm.gguf
echo '{"prompt": "x", "response": "y"}' >answers.jsonl
run 0 score -m "$golden/qwen3.gguf" --reward rm.gguf --answers answers.jsonl
check "a reward" grep -q '"rm": *-\?[0-9]' out

# Wrong use, wrong files.
run 2 convert -m "$tiny" -o x
says err "the adapter to convert is missing"
run 2 convert -m "$tiny" arm.gguf
says err "-o: what to write is missing"
run 2 convert -m "$tiny" arm.gguf peft.gguf -o x
says err "one adapter at a time"
run 2 convert -m "$tiny" arm.gguf -o x.gguf
says err "becomes a PEFT adapter, which is a folder"
run 2 convert -m "$tiny" arm-peft -o x.gguf --base-model org/base
says err "--base-model: "
bad() { # WHAT ARGUMENTS…
    local what=$1
    shift
    run 1 convert "$@"
    says err "$what"
    check "nothing on stdout: $*" [ ! -s out ]
}
bad "nowhere" -m "$tiny" nowhere -o x
bad "not a LoRA adapter" -m "$tiny" "$tiny" -o x
bad "made for another model" -m "$golden/qwen2.gguf" arm.gguf -o x
bad "fingerprint" -m "$golden/llama-padded.gguf" arm-peft -o x.gguf
bad "the model has" -m "$golden/llama-mismatch.gguf" "$golden/peft/llama" -o x.gguf
bad "the model needs" -m "$golden/mistral.gguf" "$golden/peft/llama" -o x.gguf
mkdir model
echo '{}' >model/config.json
bad "a whole model, no adapter" -m "$tiny" model -o x.gguf
says err "convert_hf_to_gguf.py"
bad "model: is a folder with a Hugging Face model" -m model arm.gguf -o x
says err "convert_hf_to_gguf.py"
run 1 generate -m "$tiny" --arm arm-peft -p x -n 1
says err "arm-peft: is a folder with a PEFT adapter"
says err "genarm convert -m BASE.gguf arm-peft -o ARM.gguf"
mkdir empty
bad "adapter_config.json" -m "$tiny" empty -o x.gguf
: >file
bad "file" -m "$tiny" arm.gguf -o file
cp -r "$golden/peft/llama" dora
sed -i 's/"use_dora": false/"use_dora": true/' dora/adapter_config.json
bad "use_dora: DoRA" -m "$tiny" dora -o x.gguf
says err "dora/adapter_config.json"
cp -r "$golden/peft/llama" cut
size=$(stat -c %s cut/adapter_model.safetensors)
for n in 0 7 8 100 $((size - 1)); do
    head -c $n "$golden/peft/llama/adapter_model.safetensors" >cut/adapter_model.safetensors
    bad "cut/adapter_model.safetensors" -m "$tiny" cut -o x.gguf
done
cp -r "$golden/peft/llama" future
sed -i 's/"use_dora": false/"use_dora": false, "use_tomorrow": 1/' future/adapter_config.json
run 0 convert -m "$tiny" future -o future.gguf
says err "the option use_tomorrow is not known"

# An export goes over an earlier one, or leaves it as it is.
run 0 convert -m "$tiny" "$golden/llama.lora.gguf" -o twice
run 0 convert -m "$tiny" arm.gguf -o twice --base-model org/base
same twice/adapter_model.safetensors arm-peft/adapter_model.safetensors
same twice/adapter_config.json arm-peft/adapter_config.json
mkdir -p odd/adapter_config.json/x
cp arm-peft/adapter_model.safetensors odd
run 1 convert -m "$tiny" "$golden/llama.lora.gguf" -o odd
says err "odd/adapter_model.safetensors"
same odd/adapter_model.safetensors arm-peft/adapter_model.safetensors
check "nothing is left over" [ "$(ls odd)" = "$(printf 'adapter_config.json\nadapter_model.safetensors')" ]
check "nothing was written" [ ! -e x.gguf ] && check "no folder was made" [ ! -e x ]
finish
