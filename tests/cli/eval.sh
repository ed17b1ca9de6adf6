# genarm eval: a whole small experiment; what is done is not done again, what changed is, and
# neither kill -9 nor a second process at the same folder changes what comes of it.
. "$(dirname "$0")/../support/cli.sh"
cp "$tiny" base.gguf
python3 - <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "chess", "tea"]
with open("pairs.jsonl", "w") as f:
    for i, x in enumerate(things):
        print(json.dumps({"prompt": f"{i}: what about {x}?", "chosen": f"Wonderful! I love {x}!", "rejected": f"Bad. I hate {x}."}), file=f)
with open("prompts.jsonl", "w") as f:
    for x in things:
        print(json.dumps({"prompt": f"Tell me about {x}."}), file=f)
END
cat >length.py <<'END'
import json, sys
for line in sys.stdin:
    print(json.dumps({"reward": len(json.loads(line)["response"])}), flush=True)
END
cat >e.yaml <<'END'
title: A small experiment
model: base.gguf
seed: 1
options:
  train: {lora-rank: 2, batch-size: 2, val-split: 0, epochs: 2, save-every: 1}
  generate: {c: 256, n: 24, logit-bias: 3-inf, cache-type-k: f32, cache-type-v: f32}
sweeps:
  trade: [{h: 0, s: 1}, {h: 0.5, s: 0.5}]
models:
  kind: {train: {data: pairs.jsonl}}
  dpo: {train: {data: pairs.jsonl, loss: dpo, lr: 1e-3}}
  soup: {sweep: trade, merge: {into: adapter, adapter: ["$kind:{h}", "$dpo:{s}"]}}
prompts: prompts.jsonl
methods:
  base:
  genarm: {label: GenARM, sweep: trade, arm: ["kind=$kind:{h}"]}
  soup: {label: Rewarded Soups, sweep: trade, lora: $soup}
  best: {method: best-of-n, best-of: 3, reward: "cmd:python3 length.py"}
rewards:
  length: "cmd:python3 length.py"
  base: "arm:$model"
judges:
  longer: {judge: "cmd:python3 length.py", against: base, methods: [genarm, best]}
accuracy:
  kind: {data: pairs.jsonl, reward: "arm:$kind"}
report: {objectives: {length: h, base: s}, reference: base, kl: base}
END
n_files=26 # 2 adapters and 2 soups, 6 files of answers, 2 rewards of each, 3 of verdicts, 1 of pairs

# Both files hold the same but for times, and for tokens of prompts: what two have in common is counted once where both are
# answered by one process.
same_results() {
    python3 - "$1" "$2" <<'END' || fail "the results $1 and $2 differ" "$1" "$2"
import json, sys
def strip(x):
    return {k: strip(v) for k, v in x.items() if k not in ("seconds", "evaluated")} if isinstance(x, dict) else x
a, b = ([strip(json.loads(line)) for line in open(name, encoding="utf-8")] for name in sys.argv[1:])
assert len(a) == len(b), (len(a), len(b))
for x, y in zip(a, b):
    assert x == y, (x, y)
END
}

# ---- all of it, and nothing a second time ----

run 0 eval e.yaml -o dry --dry-run
says out "[to do] answers of soup, h=0.5,s=0.5"
says out "genarm merge --into=adapter --adapter=dry/models/kind.gguf:0.5"
says out "$n_files of $n_files files are to be made"
check "nothing is written" [ ! -e dry ]
run 0 eval e.yaml -o whole
says err "[1/$n_files] model kind"
says err "$n_files of $n_files files are done, $n_files made now"
says out "Rewarded Soups h=0.5, s=0.5"
check "there is a report" [ -s whole/report.html ] && check "tables" [ -s whole/tables.md ]
check "commands are written down" [ "$(wc -l <whole/commands.txt)" = $n_files ]
json_true whole/results.jsonl 'len([x for x in r if x["kind"] == "answer"]) == 60 and r[0]["n_prompts"] == 10'
json_true whole/results.jsonl 'all(x["rewards"]["length"] == len(x["response"]) for x in r if x["kind"] == "answer")'
json_true whole/results.jsonl 'all(list(x["rewards"]) == ["length", "base"] and x["rewards"]["base"] < 0 for x in r if x["kind"] == "answer")'
json_true whole/results.jsonl 'all(x["prompt"].startswith("Tell me about") for x in r if x["kind"] == "answer")'
json_true whole/results.jsonl 'len([x for x in r if x["kind"] == "verdict"]) == 30 and len([x for x in r if x["kind"] == "pair"]) == 10'
json_true whole/results.jsonl '{x["name"]: x["command"] for x in r if x["kind"] == "model"} == {"kind": "train", "dpo": "train", "soup": "merge"}'
# wins are those of the longer answer, and a guide of weight 0 is the base
json_true whole/results.jsonl '(lambda n: all(x["verdict"] == ("win" if n[x["method"], str(x["point"]), x["index"]] > n["base", "{}", x["index"]] else "lose" if n[x["method"], str(x["point"]), x["index"]] < n["base", "{}", x["index"]] else "tie") for x in r if x["kind"] == "verdict"))({(x["method"], str(x["point"]), x["index"]): len(x["response"]) for x in r if x["kind"] == "answer"})'
json_true whole/results.jsonl '(lambda a: a["base"] == a["genarm"])({m: [x["response"] for x in r if x["kind"] == "answer" and x["method"] == m and x["point"].get("h", 0) == 0] for m in ("base", "genarm")})'
cp whole/results.jsonl straight.jsonl
ls -l --time-style=full-iso whole/models whole/answers whole/rewards >before
run 0 eval e.yaml -o whole
says err "$n_files of $n_files files are done, 0 made now"
run 0 eval e.yaml -o whole --limit 10 # as many as there are
says err " 0 made now"
ls -l --time-style=full-iso whole/models whole/answers whole/rewards >after
same before after
same_results whole/results.jsonl straight.jsonl
mv whole elsewhere
run 0 eval e.yaml -o elsewhere
says err " 0 made now"
mv elsewhere whole

# ---- what changed, and what depends on it ----

sed 's/lr: 1e-3/lr: 2e-3/' e.yaml >other.yaml
run 0 eval other.yaml -o whole --dry-run
says out "9 of $n_files files are to be made" # dpo, two soups, their answers, two rewards of each
says out "[anew] answers of soup, h=0.5,s=0.5"
run 0 eval other.yaml -o whole
says err "9 finished files belong to other settings or inputs and are made anew; --dry-run lists them"
says err " 9 made now"
run 0 eval other.yaml -o whole -v
says err " 0 made now"
run 0 eval e.yaml -o whole
says err " 9 made now"
same_results whole/results.jsonl straight.jsonl
echo "# another program" >>length.py
run 0 eval e.yaml -o whole --dry-run
says out "11 of $n_files files are to be made" # best and what is of it, a reward and a judge of all
sed -i '$d' length.py
run 0 eval e.yaml -o whole --dry-run
says out "0 of $n_files files are to be made"

# What a program imports counts where it is named.
echo 'count = len' >counting.py
sed 's/^import json, sys/&, counting/; s/len(json/counting.count(json/' length.py >imports.py
cat >imports.yaml <<'END'
{model: base.gguf, seed: 1, prompts: prompts.jsonl, options: {generate: {c: 256, n: 4, logit-bias: 3-inf}},
 methods: {base: , genarm: {temp: 0.5}},
 rewards: {named: {reward: "cmd:python3 imports.py", files: [counting.py, length.py]}, not: "cmd:python3 imports.py"},
 judges: {longer: {judge: "cmd:python3 imports.py", files: counting.py}}}
END
run 0 eval imports.yaml -o imports
says err "7 of 7 files are done"
! grep -q counting imports/commands.txt || fail "files is passed on" imports/commands.txt
echo 'count = lambda text: len(text) + 1' >counting.py
run 0 eval imports.yaml -o imports --dry-run
says out "3 of 7 files are to be made"
run 0 eval imports.yaml -o imports
json_true imports/results.jsonl 'all(x["rewards"]["named"] == x["rewards"]["not"] + 1 for x in r if x["kind"] == "answer")'
sed -i 's/files: counting.py/files: [counted.py]/' imports.yaml
run 1 eval imports.yaml -o imports
says err 'error: imports.yaml:4:61: files: counted.py: '

# The same as JSON.
cat >e.json <<'END'
{"model": "base.gguf", "seed": 1, "prompts": "prompts.jsonl",
 "options": {"generate": {"c": 256, "n": 24, "logit-bias": ["3-inf"], "cache-type-k": "f32", "cache-type-v": "f32"}}, "methods": {"base": null}}
END
run 0 eval e.json -o json
cmp -s <(json json/answers/base.jsonl '[x["response"] for x in r]') <(json whole/answers/base.jsonl '[x["response"] for x in r]') ||
    fail "YAML and JSON are not the same"

# ---- files of another folder ----

sed -e 's/kind: {train/polite: {train/; s/\$kind/$polite/g; s/lr: 1e-3/lr: 2e-3/' e.yaml >renamed.yaml
run 1 eval renamed.yaml -o renamed --reuse nowhere
says err "nowhere: there is no such folder"
run 2 eval renamed.yaml -o whole --reuse ./whole/
says err "--reuse: this is the folder of -o"
run 0 eval renamed.yaml -o renamed --reuse whole --only models.polite,methods.base,models.dpo --dry-run
says out "[elsewhere] model polite"
says out "[to do] model dpo"
run 0 eval renamed.yaml -o renamed --reuse whole --only models.polite,methods.base,models.dpo
says err "5 of 5 files are done, 1 made now, 4 taken from other folders" # polite, and base with its two rewards
same renamed/models/polite.gguf whole/models/kind.gguf
same renamed/logs/models.polite.jsonl whole/logs/models.kind.jsonl
check "there are curves" [ -s renamed/logs/models.polite.jsonl ]
! cmp -s renamed/models/dpo.gguf whole/models/dpo.gguf || fail "a model of other options was taken"
check "a copy is a file of its own" [ "$(stat -c %h renamed/models/polite.gguf)" = 1 ]
run 0 eval renamed.yaml -o renamed --only models.polite,methods.base,models.dpo
says err " 0 made now;"
rm renamed/models/polite.gguf
cp -p whole/answers/base.jsonl base.jsonl
truncate -s -1 whole/answers/base.jsonl
run 0 eval renamed.yaml -o renamed2 --reuse whole --reuse renamed --only methods.base
says err " 0 made now, 3 taken from other folders"
same renamed2/answers/base.jsonl base.jsonl # not the answers that are not whole
cp -p base.jsonl whole/answers/base.jsonl

# ---- parts of it ----

run 0 eval e.yaml -o part --only methods.base,models.kind --limit 4
check "only what is wanted" [ "$(find part/models part/answers part/rewards -type f | sort | tr '\n' ' ')" = \
    "part/answers/base.jsonl part/models/kind.gguf part/rewards/base.base.jsonl part/rewards/base.length.jsonl " ]
json_true part/answers/base.jsonl 'len(r) == 4'
run 1 eval e.yaml -o part --only methods.base
says err "error: part: answers of base are there for --limit 4, and would be made anew"
says err "-o OTHER --reuse part"
json_true part/answers/base.jsonl 'len(r) == 4'
run 1 eval e.yaml -o whole --limit 4
says err "error: whole: answers of base are there for all prompts, and would be made anew"
same_results whole/results.jsonl straight.jsonl
run 1 eval e.yaml -o part --only bas
says err 'nothing of the experiment is called "bas"; did you mean "base"?'
run 0 eval e.yaml -o part --report-only --limit 4
json_true part/results.jsonl 'len([x for x in r if x["kind"] == "answer"]) == 4'
cp part/results.jsonl part.jsonl
run 0 eval e.yaml -o part --report-only
says err "3 files are there that belong to other settings (limit, options or inputs)" # the model is not of them
cp part.jsonl part/results.jsonl
run 1 eval e.yaml -o part --report-only -m length.py
says err "error: part: all of the 4 files that are there belong to other settings"
says err "or the experiment, or a file that it reads, has changed since; --dry-run says what"
same part.jsonl part/results.jsonl
run 1 eval e.yaml -o nowhere --report-only
says err "error: nowhere: no such folder"
check "no folder is made" [ ! -e nowhere ]
mkdir -p empty
run 1 eval e.yaml -o empty --report-only
says err "error: empty: nothing of the experiment is there yet"

# ---- mistakes ----

mistake() { # SED-EXPRESSION WHERE TEXT
    sed "$1" e.yaml >bad.yaml
    run 1 eval bad.yaml -o bad
    says err "error: bad.yaml:$2: $3"
    check "nothing is begun" [ ! -e bad ]
}
mistake 's/lora-rank/lora-ranc/' 5:11 'lora-ranc: unknown option; did you mean "lora-rank"?'
mistake 's/save-every: 1/save-every: often/' 5:77 'save-every: "often" is not a whole number'
mistake 's/best-of: 3/best-of: -1/' 18:38 'best-of: "-1" is not a whole number from 1'
mistake 's/\$soup}/$sopu}/' 17:53 'there is no model "sopu"'
mistake 's/sweep: trade, lora/sweep: trades, lora/' 17:40 'there is no sweep "trades"; did you mean "trade"?'
mistake 's/kind:{h}"\]}$/kind:{hh}"]}/' 16:47 'there is no variable {hh} here'
mistake 's/^judges/judgs/' 22:1 'unknown key "judgs"; did you mean "judges"?'
mistake 's/against: base, //; s/reference: base/reference: bass/' 26:55 'there is no method "bass"; did you mean "base"?'
mistake 's/^prompts: .*/prompts: no.jsonl/' 13:10 'prompts: there is no file "no.jsonl"'
mistake 's/^model: .*/model: no.gguf/' 2:8 'model: there is no file "no.gguf"'
mistake 's/kind=\$kind:{h}/kind=kind.gguf:{h}/' 16:47 'arm: there is no file "kind.gguf"'
mistake 's/"arm:\$kind"/"arm:a=kind.gguf"/' 25:37 'reward: there is no file "kind.gguf"'
mistake 's/\$dpo:{s}/dpo.gguf:{s}/' 12:70 'adapter: there is no file "dpo.gguf"'
mistake 's/^  length: .*/  length: "rm:no.gguf"/' 20:11 'length: there is no file "no.gguf"'
mistake 's/c: 256/c: 256, ctx-size: 512/' 6:22 'ctx-size and c are the same option'
mistake 's/{data: pairs.jsonl, reward: "arm:$kind"}/{data: pairs.jsonl, reward: ["arm:$kind", "arm:$dpo"]}/' 25:37 'reward: one reward is needed here, not 2'
run 1 eval e.yaml -o bad -m no.gguf
says err "error: no.gguf: there is no such file"
check "nothing is begun" [ ! -e bad ]

# ---- a base that nothing names ----

printf 'prompts: prompts.jsonl\noptions: {generate: {c: 256, n: 4, logit-bias: 3-inf}}\nmethods: {base: }\nrewards: {base: "arm:$model"}\n' >bare.yaml
if [ -r "$model" ]; then # the default
    run 0 eval bare.yaml -o bare --dry-run
    says out "SmolLM2-135M-Instruct-Q4_1.gguf"
fi
cp base.gguf unnamed.gguf
LLAMA_ARG_MODEL=unnamed.gguf run 0 eval bare.yaml -o bare
json_true bare/results.jsonl 'r[0]["model"] == "unnamed.gguf" and r[0]["methods"][0]["plain"] == [True]'
LLAMA_ARG_MODEL=unnamed.gguf run 0 eval bare.yaml -o bare --dry-run
says out "0 of 2 files are to be made"
printf x >>unnamed.gguf
LLAMA_ARG_MODEL=unnamed.gguf run 0 eval bare.yaml -o bare --dry-run
says out "2 of 2 files are to be made" # another base

# Other variables are not of the experiment.
sed 's/ n: 4,//; s/bias: 3-inf/&, seed: 1/' bare.yaml >variables.yaml
LLAMA_ARG_MODEL=base.gguf run 0 eval variables.yaml -o without
LLAMA_ARG_N_PREDICT=3 LLAMA_ARG_TEMPERATURE=0 LLAMA_ARG_TOP_K=no LLAMA_ARG_MODEL=base.gguf run 0 eval variables.yaml -o with
same_results with/results.jsonl without/results.jsonl

# ---- names that are none for all: a folder that looks like an option, a model that is not UTF-8; a mark of bytes ----

odd=$(printf 'b\xff.gguf')
cp base.gguf "$odd"
{ printf '\xEF\xBB\xBF' && sed '/^accuracy/,$d; /^  base: "arm/d; s/methods: .genarm, best./methods: [best]/' e.yaml; } >mark.yaml
run 0 eval mark.yaml -o -dash -m "$odd" --only methods.base,best,longer --limit 2
says err "the report is ./-dash/report.html"
check "verdicts are there" [ -s ./-dash/verdicts/best.longer.jsonl ]
json_true ./-dash/results.jsonl 'r[0]["model"] == "b\ufffd.gguf"'

run 2 eval e.yaml
says err "the folder for the experiment's files is missing"
run 1 eval no.yaml -o bad
says err "no.yaml"

# ---- commands that fail ----

cat >small.yaml <<'END'
model: base.gguf
seed: 1
options:
  train: {lora-rank: 2, batch-size: 2, val-split: 0}
  generate: {c: 256, n: 24, logit-bias: 3-inf, cache-type-k: f32, cache-type-v: f32}
models:
  kind: {train: {data: pairs.jsonl}}
prompts: prompts.jsonl
methods:
  base:
  genarm: {sweep: {h: [0.5, 1]}, arm: ["kind=$kind:{h}"]}
rewards:
  length: "cmd:python3 length.py"
judges:
  longer: {judge: "cmd:python3 length.py"}
END
n_small=9 # an adapter, 3 files of answers with a reward each, 2 of verdicts
run 0 eval small.yaml -o small
cp small/results.jsonl small.jsonl
sed '/^rewards/,/length/s/length: .*/length: "cmd:echo broken >\&2; exit 3"/' small.yaml >fails.yaml
run 1 eval fails.yaml -o fails
says err "error: reward length of base: genarm score failed with status 1; the last lines of fails/logs/rewards.base.length.log"
says err "broken"
check "it has stopped" [ ! -e fails/verdicts/genarm@h=1.longer.jsonl ]
run 1 eval fails.yaml -o fails --keep-going
check "all else is made" [ "$(find fails/models fails/answers fails/rewards fails/verdicts -name '*.jsonl' -o -name '*.gguf' | wc -l)" = 6 ]
run 0 eval small.yaml -o fails
says err " 3 made now"
same_results fails/results.jsonl small.jsonl

# How a reward is asked may change on the way: what was sampled for it stays.
cat >down.yaml <<'END'
model: base.gguf
prompts: prompts.jsonl
options: {generate: {c: 256, n: 4, logit-bias: 3-inf, seed: 1}}
methods:
  best: {method: best-of-n, best-of: 2, reward: "cmd:printenv UP >/dev/null && exec python3 length.py"}
END
run 1 eval down.yaml -o down
check "samples are kept" [ "$(wc -l <down/answers/best.jsonl.partial)" = 3 ]
sed 's/best-of: 2/&, judge-retries: 20, reward-timeout: 99/' down.yaml >up.yaml
UP=1 run 0 eval up.yaml -o down

# ---- prompts that cannot be answered, which block nothing ----

sed '3s/about/about the '"$(printf 'long %.0s' $(seq 400))"'/' prompts.jsonl >long.jsonl
sed 's/prompts.jsonl/long.jsonl/' small.yaml >long.yaml
run 0 eval long.yaml -o long
says err "answers of base: 1 of 10 prompts could not be answered; long/logs/answers.base.log says why"
says err "$n_small of $n_small files are done, $n_small made now"
json_true long/answers/base.jsonl '[x["finish_reason"] == "error" for x in r] == [i == 2 for i in range(10)]'
json_true long/rewards/base.length.jsonl '[list(x["rewards"].values()) == [None] for x in r] == [i == 2 for i in range(10)]'
json_true long/results.jsonl '[x["verdict"] for x in r if x["kind"] == "verdict" and x["index"] == 2] == ["invalid"] * 2'
run 0 eval long.yaml -o long
says err " 0 made now"
head -n 3 long.jsonl | tail -n 1 >all-long.jsonl
sed 's/prompts.jsonl/all-long.jsonl/' small.yaml >long.yaml
run 1 eval long.yaml -o all-long
says err "error: answers of base: genarm generate failed with status 1"

# ---- kill -9, again and again ----

RANDOM=5
kills=0
for _ in 1 2 3 4 5 6 7 8; do
    "$genarm" eval e.yaml -o killed >out.txt 2>err.txt </dev/null &
    pid=$!
    sleep "0.$((RANDOM % 9))$((RANDOM % 9))"
    kill -KILL $pid 2>/dev/null
    status=0
    wait $pid 2>/dev/null || status=$?
    [ $status != 137 ] || kills=$((kills + 1))
done
run 0 eval e.yaml -o killed
same_results killed/results.jsonl straight.jsonl
check "nothing is left beside the files" [ "$(find killed -name '*.partial' -o -name '*.ckpt')" = "" ]
check "it was killed ($kills)" [ $kills -ge 6 ]

# ---- Ctrl-C ----

for moment in 0.2 0.5 0.9; do
    "$genarm" eval small.yaml -o stopped >out 2>err </dev/null &
    pid=$!
    sleep $moment
    kill -INT $pid 2>/dev/null
    status=0
    wait $pid || status=$?
    [ $status = 0 ] || check "status 130 after Ctrl-C ($status)" [ $status = 130 ]
    [ $status = 0 ] || says err "stopped; the same command goes on from here"
done
run 0 eval small.yaml -o stopped
same_results stopped/results.jsonl small.jsonl

# ---- two at once ----

"$genarm" eval small.yaml -o shared >first.out 2>first.err </dev/null &
first=$!
"$genarm" eval small.yaml -o shared >second.out 2>second.err </dev/null || fail "the second process" second.err
wait $first || fail "the first process" first.err
same_results shared/results.jsonl small.jsonl
made() { sed -n 's/.*files are done, \([0-9]*\) made now.*/\1/p' "$1"; }
check "each file is made once" [ $(($(made first.err) + $(made second.err))) = $n_small ]
check "both have worked" [ "$(made first.err)" -gt 0 ] && check "both have worked" [ "$(made second.err)" -gt 0 ]

# One of two is killed: the other does the rest.
"$genarm" eval small.yaml -o rest >first.out 2>first.err </dev/null &
first=$!
"$genarm" eval small.yaml -o rest >second.out 2>second.err </dev/null &
second=$!
sleep 0.4
kill -KILL $first
wait $first 2>/dev/null
wait $second || fail "the one that was left" second.err
same_results rest/results.jsonl small.jsonl

# ---- ranks ----

PMI_SIZE=2 PMI_RANK=0 run 0 eval small.yaml -o first --only models.kind
says err "1 of 1 files are done"
SLURM_STEP_NUM_TASKS=2 PMIX_RANK=1 run 0 eval small.yaml -o second --only models.kind
check "the second rank is quiet" [ ! -s err ]
same first/models/kind.gguf second/models/kind.gguf
if command -v mpirun >/dev/null; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
        OMPI_MCA_hwloc_base_binding_policy=none MPIEXEC_TIMEOUT=300
    mpirun -n 2 "$genarm" eval small.yaml -o ranks >out 2>err </dev/null || fail "mpirun -n 2 genarm eval" err
    same_results ranks/results.jsonl small.jsonl
    check "one rank speaks" [ "$(grep -c 'files are done' err)" = 1 ]
fi
finish
