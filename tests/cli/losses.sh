# genarm train with the losses that have a reference or a head, and genarm score --reward with
# what came of the latter.
. "$(dirname "$0")/../support/cli.sh"
python3 - >pairs.jsonl <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "chess", "tea", "glass", "maps"]
for i, thing in enumerate(things * 4):
    print(json.dumps({"prompt": f"{i}: what about {thing}?", "chosen": f"Wonderful! I love {thing}!", "rejected": f"Bad. I hate {thing}."}))
END
settings=(-m "$tiny" -d pairs.jsonl --lora-rank 4 -lr 1e-2 --batch-size 8 --epochs 2 -s 5)

# DPO starts at log 2 and ends lower; beta is .1 unless it is given.
run 0 train "${settings[@]}" --loss dpo -o dpo.gguf --log log.jsonl --json
json_true out 'r[0]["val_accuracy"] > 0.8 and r[0]["val_loss"] < 0.6'
json_true log.jsonl 'abs(r[1]["val_loss"] - 0.6931471805599453) < 1e-12 and r[1]["val_margin"] == 0'
run 0 info dpo.gguf --json
json_true out 'r[0]["loss"] == "dpo" and r[0]["beta"] == 0.1 and not r[0]["reward_head"]'
run 0 train "${settings[@]}" --loss dpo --beta 0.3 --label-smoothing 0.1 --init-adapter dpo.gguf --reference-adapter dpo.gguf -o more.gguf --log log.jsonl
json_true log.jsonl 'abs(r[1]["val_loss"] - 0.6931471805599453) < 1e-12'
run 0 info more.gguf --json
json_true out 'r[0]["beta"] == 0.3'
run 0 train "${settings[@]}" --loss ipo -o ipo.gguf --log log.jsonl
json_true log.jsonl 'abs(r[1]["val_loss"] - 25) < 1e-5 and [x for x in r if "val_loss" in x][-1]["val_loss"] < 25'
run 2 train "${settings[@]}" --loss arm --reference-adapter dpo.gguf -o x.gguf
says err "the arm loss knows no reference"
run 2 train "${settings[@]}" --loss bt --beta 1 -o x.gguf
says err "the bt loss knows no beta"
run 2 train "${settings[@]}" --loss sft --beta 3 -o x.gguf
says err "the sft loss knows no beta"
run 1 train "${settings[@]}" --loss dpo --reference-adapter pairs.jsonl -o x.gguf
says err "pairs.jsonl"
check "nothing is written" [ ! -e x.gguf ]

run 0 train "${settings[@]}" --loss sft -o sft.gguf
run 0 info sft.gguf --json
json_true out 'r[0]["loss"] == "sft" and r[0]["beta"] is None'

# SFT depends on no rejected response, and none need be there. Where held-out pairs have one they are ranked, with beta 1.
sft=(-m "$tiny" "${settings[@]:4}" --loss sft)
run 0 train "${sft[@]}" -d pairs.jsonl -o sft.gguf --log sft.jsonl
json_true sft.jsonl '"beta" not in r[0]["run"]["options"]'
json_true sft.jsonl 'all(abs(x["val_chosen"] + x["val_loss"]) < 1e-9 and x["val_accuracy"] >= 0 for x in r if "val_loss" in x)'
json_true sft.jsonl 'not any(k in x for x in r for k in ("accuracy", "margin", "chosen", "rejected"))'
python3 - <<'END'
import json
def lines(name, records):
    with open(name, "w") as f:
        f.writelines(json.dumps(x) + "\n" for x in records)
def turn(role, text): return {"role": role, "content": text}
pairs = [json.loads(line) for line in open("pairs.jsonl")]
lines("completion.jsonl", [{"prompt": x["prompt"], "completion": x["chosen"]} for x in pairs])
lines("turns.jsonl", [{"prompt": [turn("user", x["prompt"])], "completion": [turn("assistant", x["chosen"])]} for x in pairs])
lines("messages.jsonl", [{"messages": [turn("user", x["prompt"]), turn("assistant", x["chosen"])]} for x in pairs])
lines("chosen.jsonl", [{"prompt": x["prompt"], "chosen": x["chosen"]} for x in pairs])
rejected = ["word " * 400, "", "Good.", None, "Bad."]
lines("five.jsonl", [{"prompt": f"{i}?", "chosen": "Good.", "rejected": x} for i, x in enumerate(rejected)])
END
losses='[x.get("loss", x.get("val_loss")) for x in r if "step" in x]'
for kind in completion turns messages chosen; do
    run 0 train "${sft[@]}" -d $kind.jsonl -o x.gguf --log x.jsonl
    check "sft learns the same from $kind" [ "$(json x.jsonl "$losses")" = "$(json sft.jsonl "$losses")" ]
    json_true x.jsonl 'not any("val_accuracy" in x for x in r) and "rejected" not in r[0]["run"]["tokens"]'
done
rm x.gguf
run 0 train "${sft[@]}" -d five.jsonl --max-length 256 --val-split 0.4 -o five.gguf --log x.jsonl
says err "5 of 5 pairs are used"
check "no prompt is cut" [ "$(grep -c cut err)" = 0 ]
run 0 train "${sft[@]}" -d five.jsonl --val-split 0 -o five.gguf
run 0 report x.jsonl
run 1 train -m "$tiny" -d messages.jsonl -o x.gguf
says err "messages.jsonl:1: a record of the format messages has one answer, and two are needed"
says err "hint: genarm train --loss sft"
run 1 train -m "$tiny" -d five.jsonl -o x.gguf
says err '"rejected" '
run 0 data messages.jsonl -o written.jsonl
says out "messages.jsonl: messages, JSON lines, 48 records, 48 usable"
check "no answer is compared with none" [ "$(grep -c -e rejected -e 'Which answer' out)" = 0 ]
check "it is written as completions" [ "$(json written.jsonl r)" = "$(json completion.jsonl r)" ]
run 0 data turns.jsonl pairs.jsonl -m "$tiny" --json
json_true out 'r[0]["records"] == 96 and r[0]["contradictions"] == 0 and r[0]["lengths"]["rejected"]["max"] > 0'

# A policy steers like any adapter; a reward model of whole responses does not.
run 0 score -m "$tiny" -d pairs.jsonl --arm dpo.gguf --json
json_true out 'r[0]["arms"]["dpo"]["minus_reference"]["accuracy"] > 0.8'
run 0 train "${settings[@]}" --loss bt -o rm.gguf --json
json_true out 'r[0]["val_accuracy"] > 0.8'
run 0 info rm.gguf --json
json_true out 'r[0]["loss"] == "bt" and r[0]["beta"] is None and r[0]["reward_head"]'
run 0 info rm.gguf
says out "whole responses"
run 1 generate -m "$tiny" --arm rm.gguf -p x -n 1
says err "ARM rm"
says err "reward model of whole responses"

# It ranks pairs by the numbers that it gives to their responses one by one.
run 0 score -m "$tiny" --reward rm.gguf -d pairs.jsonl --json
cp out ranked
json_true ranked 'set(r[0]) == {"pairs", "too_long", "dropped", "model", "trajectory"} and r[0]["pairs"] == 48'
json_true ranked 'r[0]["trajectory"]["rm"]["accuracy"] > 0.9 and r[0]["trajectory"]["rm"]["margin"] > 0'
head -n 1 pairs.jsonl >first.jsonl
run 0 score -m "$tiny" --reward a=rm.gguf --reward b="$tiny+rm.gguf" -d first.jsonl --json
margin=$(json out 'r[0]["trajectory"]["a"]["margin"]')
json_true out 'r[0]["trajectory"]["a"] == r[0]["trajectory"]["b"]'
one=(score -m "$tiny" --reward rm.gguf -p "0: what about rain?")
run 0 "${one[@]}" -r "Wonderful! I love rain!" --json
json_true out 'set(r[0]) == {"prompt", "response", "model", "trajectory"}'
chosen=$(json out 'r[0]["trajectory"]["rm"]')
run 0 "${one[@]}" -r "Bad. I hate rain." --json
json_true out "abs($chosen - r[0]['trajectory']['rm'] - $margin) < 1e-3"
run 0 "${one[@]}" -r "Wonderful! I love rain!" --no-eos --json
json_true out "abs($chosen - r[0]['trajectory']['rm']) > 1e-6"
run 0 "${one[@]}" -r "Bad. I hate rain."
says out "rm: reward of the response "
run 0 score -m "$tiny" --reward rm.gguf --arm dpo.gguf -d pairs.jsonl
says out "dpo - reference"
says out "whole responses"
run 1 score -m "$tiny" --reward rm.gguf -d pairs.jsonl -c 16 --json
says err "no pair fits into the context"
run 1 score -m "$tiny" --reward dpo.gguf -d pairs.jsonl
says err "the adapter has no head"
run 1 score -m "$golden/qwen2.gguf" --reward rm.gguf -d pairs.jsonl
says err "rm.gguf"
finish
