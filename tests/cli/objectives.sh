# One adapter for two objectives, from training to decoding: genarm train --objective, and --preference
# wherever it can be given.
. "$(dirname "$0")/../support/cli.sh"
python3 - <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "chess", "tea", "glass", "maps"]
with open("praise.jsonl", "w") as praise, open("blame.jsonl", "w") as blame, open("labels.jsonl", "w") as labels:
    for i, thing in enumerate(things * 4):
        prompt, good, bad = f"{i}: what about {thing}?", f"Wonderful! I love {thing}!", f"Bad. I hate {thing}."
        praise.write(json.dumps({"prompt": prompt, "chosen": good, "rejected": bad}) + "\n")
        if i < 20:
            blame.write(json.dumps({"prompt": prompt, "chosen": bad, "rejected": good}) + "\n")
        labels.write(json.dumps({"prompt": prompt, "response_0": good, "response_1": bad, "better_response_id": 0,
                                 "safer_response_id": 1, "is_response_0_safe": True, "is_response_1_safe": True}) + "\n")
END
settings=(-m "$tiny" --lora-rank 4 -lr 1e-2 --batch-size 8 --epochs 4 --beta 0.5 -s 5)
run 0 train "${settings[@]}" --objective praise=praise.jsonl --objective blame=blame.jsonl -o both.gguf --json
json_true out 'r[0]["pairs"] > 0 and r[0]["output"] == "both.gguf"'
run 0 info both.gguf
says out "praise, blame"
run 0 info both.gguf --json
json_true out 'r[0]["objectives"] == ["praise", "blame"] and r[0]["loss"] == "arm" and r[0]["rank"] == 6'
run 0 info "$golden/llama.lora.gguf" --json
json_true out 'r[0]["objectives"] == []'

# The preference moves what is rewarded, named or in order.
accuracy() {
    run 0 score -m "$tiny" --arm both.gguf --preference "$1" -d praise.jsonl --json
    json out 'r[0]["arms"]["both"]["accuracy"]'
}
check "all praise" [ "$(accuracy praise=1,blame=0)" = 1.0 ]
check "all blame" [ "$(accuracy 0,1)" = 0.0 ]
json_true out 'r[0]["preferences"] == {"both": {"praise": 0.0, "blame": 1.0}}'

# Records show it, and the same preference gives the same answer however it is written.
run 0 generate -m "$tiny" --arm p=both.gguf --preference p=3,1 -p Hello -n 12 -s 3 --json
json_true out 'r[0]["preferences"] == {"p": {"praise": 0.75, "blame": 0.25}}'
answer=$(json out 'r[0]["tokens"]')
run 0 generate -m "$tiny" --arm p=both.gguf --preference p=blame=0.25,praise=0.75 -p Hello -n 12 -s 3 --json
check "the same answer" [ "$(json out 'r[0]["tokens"]')" = "$answer" ]
run 0 generate -m "$tiny" --arm "$golden/llama.lora.gguf" -p Hello -n 2 -s 3 --json
json_true out '"preferences" not in r[0]'
run 0 score -m "$tiny" --arm both.gguf --preference 3,1 -p Hello -r there --json
json_true out 'r[0]["preferences"] == {"both": {"praise": 0.75, "blame": 0.25}}'

# A chat changes it; what cannot be read ends nothing.
printf '%s\n' /preference '/preference 1,3' '/preference both praise=1,blame=0' /preference '/preference 1' \
    '/preference x 1,2' '/preference both -1,2' /seed\ 3 /preference | "$genarm" chat -m "$tiny" --arm both.gguf >out 2>err
check "the chat goes on" [ $? = 0 ]
says err '{"both":{"praise":0.5,"blame":0.5}}'
says err "1 weights for 2 objectives"
says err 'no reward model is called "x"'
says err "weight -1 of objective praise"
check "the last one stays, also in a new session" [ "$(tail -n 1 err)" = '{"both":{"praise":1.0,"blame":0.0}}' ]

# What a preference is refused for.
wrong() {
    run 2 generate -m "$tiny" --arm both.gguf --preference "$1" -p x -n 1
    says err "$2"
}
wrong 1 "1 weights for 2 objectives"
wrong 1,2,3 "3 weights for 2 objectives"
wrong praise=1,x=2 'no objective is called "x"'
wrong praise=1 "objective blame has no weight"
wrong praise=-1,blame=2 "weight -1 of objective praise"
wrong nan,1 "not a finite number"
wrong inf,1 "not a finite number"
wrong 0,0 "0"
wrong much "no list of weights"
wrong other=1,2 'no --arm is called "other"'
run 2 generate -m "$tiny" --arm "$golden/llama.lora.gguf" --preference 1,2 -p x -n 1
says err "no reward model here has objectives"
run 2 generate -m "$tiny" --arm k="$golden/llama.lora.gguf" --arm both.gguf --preference k=1,2 -p x -n 1
says err "no objectives to prefer"
run 2 generate -m "$tiny" --arm a=both.gguf --arm b=both.gguf --preference 1,2 -p x -n 1
says err "several reward models"

# Merged at a preference it is plain; converted it keeps its objectives.
run 0 merge --into adapter --adapter both.gguf --preference praise=3,blame=1 -o fixed.gguf
run 0 info fixed.gguf --json
json_true out 'r[0]["objectives"] == []'
run 0 generate -m "$tiny" --arm fixed.gguf -p Hello -n 12 -s 3 --json
check "the same answer as under the preference" [ "$(json out 'r[0]["tokens"]')" = "$answer" ]
run 0 merge -m "$tiny" --adapter both.gguf --preference 3,1 -o merged.gguf
run 2 merge --into adapter --adapter "$golden/llama.lora.gguf" --preference 1,2 -o x.gguf
says err "none of the adapters has objectives"
run 2 merge --into adapter --adapter both.gguf --preference 1 -o x.gguf
says err "1 weights for 2 objectives"
run 1 merge --into adapter --adapter both.gguf --preference 1,-1 -o x.gguf
says err "objective blame"
run 0 convert -m "$tiny" both.gguf -o peft
run 0 convert -m "$tiny" peft -o back.gguf
same both.gguf back.gguf

# Both labels of one file; several files of an objective; the options that belong to it.
run 0 train "${settings[@]}" --objective help=labels.jsonl@better --objective safe=labels.jsonl@safer -o labels.gguf \
    --preference-rank 1 --preference-concentration 1 --preference-draws 2
run 0 score -m "$tiny" --arm labels.gguf --preference help=0,safe=1 -d praise.jsonl --json
json_true out 'r[0]["arms"]["labels"]["accuracy"] < 0.1'
run 0 train "${settings[@]}" --epochs 1 --objective a=praise.jsonl --objective b=blame.jsonl --objective a=labels.jsonl -o c.gguf
says err "116 of 116 pairs"
run 2 train "${settings[@]}" -d praise.jsonl --objective a=blame.jsonl -o x.gguf
says err "-d"
run 2 train "${settings[@]}" --objective praise.jsonl -o x.gguf
says err "NAME=PAIRS"
run 2 train "${settings[@]}" --objective a=praise.jsonl@nicer -o x.gguf
says err "a label is better or safer"
run 1 train "${settings[@]}" --objective a=missing.jsonl -o x.gguf
says err "missing.jsonl"
run 1 train "${settings[@]}" --objective a,b=praise.jsonl -o x.gguf
says err "no name of an objective"
run 2 train -m "$tiny" --loss bt --objective a=praise.jsonl -o x.gguf
says err "knows no objectives"
run 1 train "${settings[@]}" -d praise.jsonl --init-adapter both.gguf -o x.gguf
says err "cannot be trained further"
run 2 train "${settings[@]}" --objective a=praise.jsonl -o praise.jsonl
says err "is read as well"
check "nothing is written" [ ! -e x.gguf ]
finish
