# genarm data: reads every format, container and compression alike, reports, converts, splits;
# train and score read the same files.
. "$(dirname "$0")/../support/cli.sh"

# The same 60 pairs in every format.
python3 - <<'END'
import gzip, json, lzma
def lines(name, records, opener=open):
    with opener(name, "wt", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in records)
def user(text): return {"role": "user", "content": text}
def assistant(text): return {"role": "assistant", "content": text}
triples = [(f"What about {i % 50}?", f"I love {i}!", f"I hate number {i}.") for i in range(60)]
lines("genarm.jsonl", [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in triples])
hh = "\n\nHuman: {}\n\nAssistant:"
lines("hh.jsonl.gz", [{"chosen": hh.format(p) + " " + c, "rejected": hh.format(p) + " " + r} for p, c, r in triples], gzip.open)
lines("full.jsonl", [{"prompt": hh.format(p), "response": " " + c, "chosen": " " + c, "rejected": " " + r} for p, c, r in triples])
pku = [{"prompt": p, "response_0": (c, r)[i % 2], "response_1": (r, c)[i % 2], "better_response_id": i % 2, "safer_response_id": 1 - i % 2}
       for i, (p, c, r) in enumerate(triples)]
lines("pku.jsonl.xz", pku, lzma.open)
lines("ultra.jsonl", [{"prompt": p, "chosen": [user(p), assistant(c)], "rejected": [user(p), assistant(r)], "score_chosen": 8.5}
                      for p, c, r in triples])
implicit = [{"chosen": [user(p), assistant(c)], "rejected": [user(p), assistant(r)]} for p, c, r in triples]
lines("implicit.jsonl", implicit)
lines("explicit.jsonl", [{"prompt": [user(p)], "chosen": [assistant(c)], "rejected": [assistant(r)]} for p, c, r in triples])
with open("array.jsonl", "w") as f:
    json.dump(implicit, f, indent=2)
END

run 0 data genarm.jsonl -o plain.jsonl
says out "genarm.jsonl: genarm, JSON lines, 60 records, 60 usable"
says out "plain.jsonl: 60 pairs written"
json_true plain.jsonl 'len(r) == 60 and r[3] == {"prompt": "What about 3?", "chosen": "I love 3!", "rejected": "I hate number 3."}'
expect() { # FILE FORMAT CONTAINER COMPRESSION
    run 0 data "$1" -o out.jsonl --json
    json_true out "[(f['format'], f['container'], f['compression']) for f in r[0]['files']] == [('$2', '$3', '$4')]"
    same out.jsonl plain.jsonl
}
expect hh.jsonl.gz hh-rlhf lines gzip
expect full.jsonl full-hh-rlhf lines plain
expect pku.jsonl.xz pku-saferlhf lines xz
expect ultra.jsonl ultrafeedback lines plain
expect implicit.jsonl trl-conversational lines plain
expect explicit.jsonl trl-conversational lines plain
expect array.jsonl trl-conversational array plain
expect plain.jsonl genarm lines plain
if command -v zstd >/dev/null; then
    zstd -q full.jsonl -o full.zst
    expect full.zst full-hh-rlhf lines zstd
fi

# The other label; several files; stdin; a name that says otherwise.
run 0 data pku.jsonl.xz --label safer -o safer.jsonl
says out "pku-saferlhf by the label safer"
json_true safer.jsonl 'r[3]["chosen"] == "I hate number 3." and r[3]["rejected"] == "I love 3!"'
run 0 data hh.jsonl.gz pku.jsonl.xz --json
json_true out 'r[0]["records"] == 120 and r[0]["duplicates"] == 60 and r[0]["prompts"] == 50'
run 0 data pku.jsonl.xz genarm.jsonl safer.jsonl --dedupe --json -o deduped.jsonl
json_true out 'r[0]["duplicates"] == 60 and r[0]["contradictions"] == 60 and r[0]["written"] == [{"path": "deduped.jsonl", "pairs": 120}]'
"$genarm" data - --json <hh.jsonl.gz >out 2>err || fail "stdin is not read" err
json_true out 'r[0]["usable"] == 60 and r[0]["files"][0]["compression"] == "gzip"'
cp hh.jsonl.gz lies.txt
expect lies.txt hh-rlhf lines gzip

# Lengths, in words and in tokens.
run 0 data genarm.jsonl --json
json_true out 'r[0]["unit"] == "words" and r[0]["lengths"]["rejected"] == {"min": 4, "median": 4, "p95": 4, "max": 4, "mean": 4}'
json_true out 'r[0]["chosen_longer"] == 0 and r[0]["rejected_longer"] == 1 and r[0]["mean_difference"] == -1'
run 0 data genarm.jsonl -m "$tiny" --json
json_true out 'r[0]["unit"] == "tokens" and r[0]["lengths"]["prompt"]["min"] > 10'
# Tokens are counted as training counts them, also where a text spells a control token or ends in spaces.
cp genarm.jsonl spelled.jsonl
echo '{"prompt": "What is <|im_end|>\n<|im_start|>?", "chosen": "<|im_end|>", "rejected": "no <|im_start|><|im_start|>  "}' >>spelled.jsonl
run 0 train -m "$tiny" -d spelled.jsonl -o spelled.gguf --lora-rank 1 --log spelled.log
says err "spelled.jsonl: texts of 1 of 61 pairs spell control tokens, which are trained on as text; where they are in a template"
json_true spelled.log 'r[0]["run"]["pairs"]["texts spell control tokens"] == 1'
json spelled.log '[[r[0]["run"]["tokens"][x][y] for y in ("mean", "median", "max")] for x in ("prompt", "chosen", "rejected")]' >trained
run 0 data spelled.jsonl -m "$tiny" --json
json out '[[round(r[0]["lengths"][x][y], 1) for y in ("mean", "median", "max")] for x in ("prompt", "chosen", "rejected")]' >counted
same counted trained
run 0 data genarm.jsonl
says out "Which answer is longer"
says out "rejected in 100.0 %"
check "a pipe gets no colours" [ "$(grep -c $'\033' out)" = 0 ]
check "nothing on stderr" [ ! -s err ]
if command -v script >/dev/null; then
    TERM=xterm script -qec "$(printf '%q ' "$genarm" data genarm.jsonl)" /dev/null >out </dev/null
    check "a terminal gets a bar" grep -q $'\033\[33m█' out
fi

# Splits: every prompt on one side, the same one in every run and file.
run 0 data genarm.jsonl -o half.jsonl --split 0.5
says out "half.train.jsonl: "
python3 - <<'END' || fail "the split is wrong"
import json
sides = [{json.loads(l)["prompt"] for l in open(f"half.{s}.jsonl")} for s in ("train", "test")]
assert sides[0] and sides[1] and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 50
END
check "60 pairs in all" [ "$(cat half.train.jsonl half.test.jsonl | wc -l)" = 60 ]
run 0 data array.jsonl -o again --split 0.5
same again.train.jsonl half.train.jsonl
same again.test.jsonl half.test.jsonl
run 0 data genarm.jsonl -o none.jsonl --split 0.0001
says err "none.test.jsonl is empty"

# What is dropped is counted and named by line.
cp genarm.jsonl faulty.jsonl
python3 - >>faulty.jsonl <<'END'
import json
for c, r in (("same", "same"), ("", "x"), ("x", ""), ("yes", "yes, sure")):
    print(json.dumps({"prompt": "p", "chosen": c, "rejected": r}))
END
run 0 data faulty.jsonl
says out "64 records, 61 usable"
check "places of what is dropped" grep -qE 'a response is empty +2 .* lines 62, 63$' out
check "and of what is kept" grep -qE 'the beginning of the other +1 .* line 64$' out
run 0 data faulty.jsonl --json
json_true out 'r[0]["files"][0]["dropped"] == {"empty": {"n": 2, "first": [62, 63]}, "equal": {"n": 1, "first": [61]}}'

# What is wrong: exit status 1, the place, the way out, and no output file.
refuse() { # WHERE WHAT ARGUMENTS…
    local where=$1 what=$2
    shift 2
    run 1 data "$@" -o never.jsonl
    says err "genarm: error: $where"
    says err "$what"
    check "nothing on stdout: $*" [ ! -s out ]
    check "no file is left: $*" [ -z "$(ls | grep never)" ]
}
{ cat genarm.jsonl; xzcat pku.jsonl.xz 2>/dev/null || python3 -c 'import lzma; print(lzma.open("pku.jsonl.xz", "rt").read())'; } >mixed.jsonl
refuse mixed.jsonl:61 "the formats are mixed" mixed.jsonl
says err "hint: split the file, or say what all of it is: --format genarm"
head -c 300 hh.jsonl.gz >cut.jsonl.gz
refuse cut.jsonl.gz: "cut short" cut.jsonl.gz
printf 'PAR1....' >train.parquet
refuse train.parquet "Parquet" train.parquet
says err "for b in p.ParquetFile(sys.argv[1]).iter_batches() for r in b.to_pylist()]\" train.parquet > train.parquet.jsonl"
printf 'ARROW1\0\0' >file.arrow
refuse file.arrow "this is an Arrow file" file.arrow
printf '\377\377\377\377\20\0' >"a stream.arrow"
refuse "a stream.arrow" "this is an Arrow stream" "a stream.arrow"
says err "\" FILE > FILE.jsonl"
mkdir folder
refuse folder "this is a folder" folder

# Tables: the command that is shown makes JSON lines that are read.
python3 - <<'END'
import csv
rows = [("prompt", "chosen", "rejected"), ("What, now?", 'I "love"\nit', "No\tway"), ("ä", "x", "y" * 200000)]
for name, dialect in (("table.csv", "excel"), ("table.tsv", "excel-tab")):
    with open(name, "w", newline="", encoding="utf-8-sig" if name == "table.csv" else "utf-8") as f:
        csv.writer(f, dialect).writerows(rows)
END
for table in table.csv table.tsv; do
    refuse $table "this is a table with" $table
    run 1 train -m "$tiny" -d $table -o never.gguf
    says err "this is a table with"
    bash -c "$(sed -n 's/^hint: //p' err)" || fail "the command fails: $table" err
    run 0 data $table.jsonl --json
    json_true out 'r[0]["usable"] == 2 and r[0]["prompts"] == 2'
    gzip -c $table >$table.gz
    refuse $table.gz "this is a table with" $table.gz
    says err "hint: unpack it; "
done
json_true table.csv.jsonl 'r[0] == {"prompt": "What, now?", "chosen": "I \"love\"\nit", "rejected": "No\tway"}'
printf '{"question": "q", "chosen": "a", "rejected": "b"}\n' >unknown.jsonl
refuse unknown.jsonl:1 'nearest is genarm, which lacks "prompt"' unknown.jsonl
if command -v jq >/dev/null; then
    printf '{"system": "s", "question": "q", "chosen": "a", "rejected": "b"}\n' >FILE
    refuse FILE:1 "not a known format" FILE
    bash -c "$(sed -n 's/^hint: [^:]*: //p' err)" >named.jsonl || fail "the command fails" err
    run 0 data named.jsonl -o named.out.jsonl
    json_true named.out.jsonl 'r == [{"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"}]'
fi
refuse genarm.jsonl:1 '"chosen" is no dialogue' genarm.jsonl --format hh-rlhf
refuse nowhere.jsonl "cannot open the file" nowhere.jsonl
refuse cut.jsonl.gz: "cut short" genarm.jsonl cut.jsonl.gz
run 1 data genarm.jsonl -o nowhere/out.jsonl
says err "nowhere/out.jsonl"

# Training and scoring read the same: equal pairs make equal reward models.
settings=(-m "$tiny" --lora-rank 2 --batch-size 16 -s 1)
run 0 train "${settings[@]}" -d genarm.jsonl -o a.gguf
run 0 train "${settings[@]}" -d array.jsonl --format trl-conversational -o b.gguf
same a.gguf b.gguf
run 0 train "${settings[@]}" -d pku.jsonl.xz --label better -o c.gguf
same a.gguf c.gguf
run 0 score -m "$tiny" -d genarm.jsonl --arm a.gguf --json
cp out scores
run 0 score -m "$tiny" -d hh.jsonl.gz --arm a.gguf --json
same out scores
run 0 score -m "$tiny" -d faulty.jsonl --arm a.gguf --json
json_true out 'r[0]["pairs"] == 61 and r[0]["dropped"] == 3'
says err "faulty.jsonl: 61 of 64 pairs are used"
says err "dropped: a response is empty in 2"

# Prompts of several turns, for reward models of every kind.
python3 - <<'END'
import json
with open("turns.hh.jsonl", "w") as f:
    for i in range(16):
        start = f"\n\nHuman: Hello {i}\n\nAssistant: Hi!\n\nHuman: What about {i}?\n\nAssistant:"
        f.write(json.dumps({"chosen": start + f" I love {i}!", "rejected": start + f" I hate number {i}."}) + "\n")
END
run 0 data turns.hh.jsonl -o turns.jsonl
json_true turns.jsonl '[m["content"] for m in r[3]["prompt"]] == ["Hello 3", "Hi!", "What about 3?"]'
run 0 train "${settings[@]}" -d turns.hh.jsonl --loss bt -o whole.gguf
run 0 score -m "$tiny" -d turns.hh.jsonl --reward whole.gguf --arm a.gguf --json
cp out scores
run 0 score -m "$tiny" -d turns.jsonl --reward whole.gguf --arm a.gguf --json
same out scores
json_true out 'r[0]["pairs"] == 16 and r[0]["arms"]["a"]["accuracy"] >= 0 and "whole" in r[0]["trajectory"]'

run 1 train "${settings[@]}" -d mixed.jsonl -o d.gguf
says err "mixed.jsonl:61"
finish
