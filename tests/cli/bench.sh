# genarm bench: every format holds every test of every contestant, and figures that agree with one another.
. "$(dirname "$0")/../support/cli.sh"

array() { # FILE EXPRESSION: as json_true, of a file that is one JSON array
    python3 -c '
import json, sys
r = json.load(open(sys.argv[1], encoding="utf-8"))
sys.exit(not eval(sys.argv[2]))' "$1" "$2" || fail "$1: not true: $2" "$1"
}

small=(bench -m "$tiny" -r 3)
both=("${small[@]}" -p 16 -n 8)

# Records: one for each contestant of each test, libllama first.
run 0 "${both[@]}" -d 0,4 -o jsonl
cp out lines
says err "no --arm is given: 3 adapters of rank 8 made of random numbers"
check "no progress where stderr is no terminal" [ "$(grep -c $'\r' err)" = 0 ]
json_true lines 'len(r) == 4 * 5 and [x["contestant"] for x in r[:5]] == ["libllama"] + ["genarm"] * 4'
json_true lines '[x["n_arms"] for x in r[5:10]] == [0, 0, 1, 2, 3] and r[9]["arms"] == ["random1", "random2", "random3"]'
json_true lines '[(x["n_prompt"], x["n_gen"], x["n_depth"]) for x in r[::5]] == [(16, 0, 0), (16, 0, 4), (0, 8, 0), (0, 8, 4)]'
json_true lines 'all(x["time_ratio"] == 1 for x in r if x["contestant"] == "libllama")'
json_true lines 'all(len(x["samples_ns"]) == len(x["samples_ts"]) == 3 and min(x["samples_ns"]) > 0 for x in r)'
json_true lines 'all(x["median_ns"] == sorted(x["samples_ns"])[1] for x in r)'
json_true lines 'all(abs(x["median_ts"] * x["median_ns"] / 1e9 / (x["n_prompt"] + x["n_gen"]) - 1) < 1e-3 for x in r)'
json_true lines 'all(abs(x["time_ratio"] * y["median_ns"] / x["median_ns"] - 1) < 1e-3 for y in r[::5] for x in r if
                 (x["n_prompt"], x["n_gen"], x["n_depth"]) == (y["n_prompt"], y["n_gen"], y["n_depth"]))'
json_true lines 'all((x["bytes_per_token"] is None) == (x["n_gen"] == 0) for x in r)'
json_true lines 'r[10]["bytes_per_token"] == r[11]["bytes_per_token"] < r[12]["bytes_per_token"] < r[13]["bytes_per_token"]'
json_true lines 'r[10]["bytes_per_token"] < r[15]["bytes_per_token"]'
json_true lines 'all(x["model_size"] > 0 and x["resident_bytes"] > 0 and x["n_threads"] == 1 and x["cpu_info"] for x in r)'
json_true lines 'all(x["engine"] == "genarm" for x in r)'
json_true lines 'all(x["random_arms"] == (x["n_arms"] > 0) for x in r)'

run 0 "${both[@]}" -d 0,4 -o json
array out 'len(r) == 20 and set(r[0]) == set(json.loads(open("lines").readline()))'
run 0 "${both[@]}" -d 0,4 -o csv
python3 -c '
import csv, json
rows = list(csv.DictReader(open("out", encoding="utf-8")))
want = json.loads(open("lines").readline())
assert len(rows) == 20 and list(rows[0]) == [k for k in want if not k.startswith("samples_")], rows[0]
assert rows[4]["arms"] == "random1+random2+random3" and rows[0]["bytes_per_token"] == "" and rows[19]["n_depth"] == "4"
assert all(float(r["median_ts"]) > 0 and None not in r.values() for r in rows)' || fail "CSV that cannot be read" out

# The table.
run 0 "${both[@]}"
cp out table
check "a row for each" [ "$(grep -c '^| llama F32 ' table)" = 10 ]
check "as many cells in each row" [ "$(grep '^|' table | tr -dc '|\n' | sort -u | wc -l)" = 1 ]
says table "| pp16 | libllama |"
says table "| tg8 | genarm + 3 ARMs |"
says table "None was given, so these are random numbers"

# One's own ARMs, in their order; another model as one; none at all.
run 0 "${small[@]}" -n 8 --arm kind="$golden/llama.lora.gguf:0.5" --arm short="$golden/llama.lora2.gguf" -p 0 -o jsonl
json_true out '[x["arms"] for x in r] == [[], [], ["kind"], ["kind", "short"]] and not any(x["random_arms"] for x in r)'
run 0 "${small[@]}" -n 8 --arm "$golden/llama-padded.gguf" -p 0 -o jsonl
json_true out 'len(r) == 3 and r[2]["bytes_per_token"] > 1.9 * r[1]["bytes_per_token"]'
run 0 "${small[@]}" -p 16 --random-arms 0 -n 0 -ctk f32 -ctv f32 -o jsonl
json_true out 'len(r) == 2 and r[0]["type_k"] == "f32" and r[1]["n_arms"] == 0'
run 0 bench -m "$model" -p 0 -n 2 -r 1 --random-arms 1 -ctk q8_0 -o jsonl
json_true out 'len(r) == 3 and r[0]["type_v"] == "q8_0"'
run 0 bench -m "$tiny" --no-warmup -p 4,0 -p 8 -n 0 -n 3 -r 1 -o jsonl
json_true out '[(x["n_prompt"], x["n_gen"]) for x in r[::5]] == [(4, 0), (8, 0), (0, 3)]'
json_true out 'all(x["stddev_ts"] == 0 for x in r)'
run 0 "${small[@]}" --engine llama -p 4 -n 2 -d 2 -r 1 -o jsonl
json_true out 'len(r) == 10 and all(x["engine"] == "llama" and x["bytes_per_token"] is None for x in r)'
run 0 bench -m "$tiny" -p 0 -n 4 -d 300 -r 1
says err "the largest test has 306 tokens, more than the 256 that the model was trained for"

# What is wrong is said before anything is loaded.
wrong() { # TEXT ARGUMENTS…
    local text=$1
    shift
    run 2 bench -m none.gguf "$@"
    says err "genarm: error: $text"
    check "nothing on stdout: $*" [ ! -s out ]
}
wrong '-p: "ten" is no list of whole numbers' -p ten
wrong '-p: "16," is no list of whole numbers' -p 16,
wrong '-n: "" is no list of whole numbers' -n ""
wrong '-d: "-1" is no list of whole numbers' -d -1
wrong '-n: "99999999" is no list of whole numbers' -n 99999999
wrong '-n: "1;2" is no list of whole numbers' -n "1;2"
wrong "-p: with -p 0 and -n 0 nothing is left to measure" -p 0 -n 0
wrong '-o: "xml" is none of md|json|jsonl|csv' -o xml
wrong '-r: "0" is not a whole number from 1' -r 0
wrong "-ctk: keys and values are stored alike" -ctk f32 -ctv f16
run 1 bench -m none.gguf
says err "none.gguf"
check "nothing on stdout" [ ! -s out ]
TMPDIR=$folder/none run 1 "${both[@]}"
says err "cannot make a folder"
mkdir temporary
TMPDIR=$folder/temporary run 0 "${both[@]}" -r 1
check "nothing is left behind" [ -z "$(ls temporary)" ]
finish
