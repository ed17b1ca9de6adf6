# genarm score --answers and --per-pair: rewards of files, in order, the same as one by one; resumed after any end.
. "$(dirname "$0")/../support/cli.sh"
cp "$golden/llama.lora.gguf" kind.gguf
cat >length.py <<'END_PY'
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    with open("asked", "a") as f:
        f.write(json.dumps([request["messages"][0]["role"], request["prompt"], request["response"]]) + "\n")
    if os.path.exists("broken") and request["response"].startswith("12 "):
        sys.exit(3)
    print(json.dumps({"reward": len(request["response"]) + 1000 * request["finished"]}), flush=True)
END_PY
length="cmd:n=python3 length.py"

# Records of genarm generate, and of others.
cat >answers.jsonl <<'END'
{"prompt": "Name a bird.", "response": "The owl, of course.", "finish_reason": "stop", "id": "owl"}
{"messages": [{"role": "user", "content": "Name a fish."}], "response": "Cod", "finish_reason": "length", "id": 7}
{"prompt": "Name a fish.", "system": "Be terse.", "response": "", "tokens": 0}

{"prompt": "Name a tree.", "finish_reason": "error", "error": "it is too long"}
{"instruction": "Name a stone.", "output": "Öl", "generator": "x"}
END
run 0 score --answers answers.jsonl --reward "$length" -m no-such-model.gguf # a program needs none
cp out rewards
json_true rewards '[x["index"] for x in r] == [0, 1, 2, 3, 4]'
json_true rewards '[x["rewards"] for x in r] == [{"n": 1019}, {"n": 3}, {"n": 1000}, {"n": None}, {"n": 1002}]'
json_true rewards '[x.get("id") for x in r] == ["owl", 7, None, None, None] and "id" not in r[2]'
says err "1 prompts have no answer: their rewards are null"
run 0 score --answers answers.jsonl --reward "$length" --no-eos
json_true out '[x["rewards"]["n"] for x in r] == [19, 3, 0, None, 2]'
rm asked
run 0 score --answers answers.jsonl --reward "$length" -sys "Be kind."
json_true asked '[x[0] for x in r] == ["system"] * 4 and r[0][1:] == ["Name a bird.", "The owl, of course."]'

# What a model samples may hold zero characters.
printf '%s\n' '{"prompt": "a", "response": "a\u0000b\u0000", "tokens": [{"text": "\u0000"}]}' >zero.jsonl
rm asked
run 0 score --answers zero.jsonl --reward "$length"
json_true out 'r[0]["rewards"]["n"] == 1004'
json_true asked 'r[0][2] == "a\ufffdb\ufffd"'

# AlpacaEval's array.
cat >alpaca.json <<'END'
[{"instruction": "Name a bird.", "output": "Owl", "generator": "x", "dataset": "y"},
 {"instruction": "Name a fish.", "output": "Eel!"}]
END
run 0 score --answers alpaca.json --reward "$length"
json_true out '[x["rewards"]["n"] for x in r] == [1003, 1004]'

# The answers of genarm generate as texts, the rewards of one response at a time.
printf '{"prompt": "Name a bird."}\n{"prompt": "Name a fish."}\n{"prompt": "Say a word."}\n' >prompts.jsonl
run 0 generate -m "$tiny" -ctk f32 -ctv f32 --prompts prompts.jsonl -s 3 -n 12 -o generated.jsonl
sed 's/"tokens":\[[^]]*\],//' generated.jsonl >texts.jsonl
run 0 score -m "$tiny" --answers texts.jsonl --reward arm:sum=kind.gguf --reward ratio-mean:kind.gguf --reward "$length"
cp out rewards
for i in 0 1 2; do
    open=$(json generated.jsonl "'' if r[$i]['finish_reason'] == 'stop' else '--no-eos'")
    json generated.jsonl "r[$i]['response']" | head -c -1 >response
    # shellcheck disable=SC2086  # an option or none
    run 0 score -m "$tiny" -p "$(json generated.jsonl "r[$i]['prompt']")" -r "$(cat response)" $open --json \
        --reward arm:sum=kind.gguf --reward ratio-mean:kind.gguf
    cat out >>single
done
cat rewards single >both
json_true both 'all(abs(r[i]["rewards"][k] - r[i + 3]["trajectory"][k]) < 1e-4 for i in range(3) for k in ("sum", "kind"))'

# Tokens that were drawn count where they spell the response, so that log pi of an answer is what its own record says.
run 0 generate -m "$tiny" -ctk f32 -ctv f32 --prompts prompts.jsonl -s 5 -n 40 --temp 1.5 -o drawn.jsonl
run 0 score -m "$tiny" --answers drawn.jsonl --reward "arm:self=$tiny"
cat drawn.jsonl out >both
json_true both 'all(abs(r[i]["logprob"] - r[i + 3]["rewards"]["self"]) < 1e-3 for i in range(3))'
sed 's/"tokens":\[[^]]*\]/"tokens":[1,2,3]/' drawn.jsonl >others.jsonl
run 0 score -m "$tiny" --answers others.jsonl --reward "arm:self=$tiny"
cat drawn.jsonl out >both
json_true both 'any(abs(r[i]["logprob"] - r[i + 3]["rewards"]["self"]) > 1 for i in range(3))'

# A file: the means on stdout.
run 0 score --answers answers.jsonl --reward "$length" -o to.jsonl
says out "5 answers"
check "there is a mean" grep -qE '^n +756\.0000 +[0-9.]+ +[0-9.]+ +1$' out
run 0 score --answers answers.jsonl --reward "$length"
same out to.jsonl
check "nothing else is left" [ ! -e to.jsonl.partial ]
run 0 score --answers answers.jsonl --reward "$length" -o to.jsonl --json
json_true out 'r[0]["answers"] == 5 and r[0]["rewards"]["n"]["mean"] == 756 and r[0]["rewards"]["n"]["missing"] == 1'
json_true out 'r[0]["rewards"]["n"]["low"] < 756 < r[0]["rewards"]["n"]["high"]'

# What ended it is gone on from, and only with the same settings.
python3 -c '
import json
for i in range(20):
    print(json.dumps({"prompt": "Count.", "response": f"{i} words", "id": i}))' >many.jsonl
run 0 score --answers many.jsonl --reward "$length" -o whole.jsonl
touch broken
rm asked
run 1 score --answers many.jsonl --reward "$length" -o half.jsonl
says err 'from many.jsonl:9 on'
says err 'the program "python3 length.py" exited with status 3'
says err "8 of 20 answers are scored; the same command goes on from half.jsonl.partial"
check "no file yet" [ ! -e half.jsonl ]
rm broken asked
run 2 score --answers many.jsonl --reward "$length" --restart
run 1 score --answers many.jsonl --reward "cmd:n=python3 -u length.py" -o half.jsonl
says err "begun with other settings"
run 0 score --answers many.jsonl --reward "$length" -o half.jsonl
says err "8 of 20 answers are scored in half.jsonl.partial"
same half.jsonl whole.jsonl
check "only what was missing is asked" [ "$(wc -l <asked)" = 12 ]
touch broken
run 1 score --answers many.jsonl --reward "$length" -o half.jsonl
rm broken asked
cp half.jsonl.partial kept # a source that does not load costs nothing
run 1 score -m "$tiny" --answers many.jsonl --reward "$length" --reward arm:no-such.gguf -o half.jsonl --restart
same half.jsonl.partial kept
run 0 score --answers many.jsonl --reward "$length" -o half.jsonl --restart
check "anew" [ "$(wc -l <asked)" = 20 ]
# Another adapter under the same name is another reward.
cp many.jsonl more.jsonl
touch broken
run 1 score -m "$tiny" --answers more.jsonl --reward arm:kind.gguf --reward "$length" -o more.rewards
rm broken
cp "$golden/llama.lora2.gguf" kind.gguf
run 1 score -m "$tiny" --answers more.jsonl --reward arm:kind.gguf --reward "$length" -o more.rewards
says err "the file of kind"
cp "$golden/llama.lora.gguf" kind.gguf
run 0 score -m "$tiny" --answers more.jsonl --reward arm:kind.gguf --reward "$length" -o more.rewards

# What has no reward is null and counted: too long, or the judge abstained.
python3 -c '
import json
print(json.dumps({"prompt": "a", "response": "b"}))
print(json.dumps({"prompt": "a", "response": "word " * 300}))
print(json.dumps({"prompt": "a", "response": "c"}))' >long.jsonl
run 0 score -m "$tiny" --answers long.jsonl --reward arm:kind.gguf --reward "$length" -c 128
json_true out '[x["rewards"]["kind"] is None for x in r] == [False, True, False] and r[1]["rewards"]["n"] == 2500'
says err "1 rewards are null: the answer does not fit into the context"
cat >server.py <<'END_PY'
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        text = "I would rather not." if "Eel" in asked else "A fine answer. [[7]]"
        data = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                                        "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
END_PY
python3 server.py >port &
server=$!
trap 'kill $server; rm -rf -- "$folder"' EXIT
for _ in $(seq 100); do [ -s port ] && break; sleep 0.1; done
run 0 score --answers alpaca.json --reward "openai:judge=m@http://127.0.0.1:$(cat port)" --reward "$length"
json_true out '[x["rewards"]["judge"] for x in r] == [7, None] and r[1]["rewards"]["n"] == 1004'
says err "1 rewards are null: the judge abstained"

# Pairs, one by one: the margins are those of the summary.
cat >pairs.jsonl <<'END'
{"prompt": "Name a bird.", "chosen": "The owl, of course.", "rejected": "An owl."}
{"prompt": "Name a fish.", "chosen": "Cod", "rejected": "Bread and butter."}
{"prompt": "Name a fish.", "chosen": "Eel", "rejected": "Cod", "system": "Be terse."}
END
run 0 score -m "$tiny" -d pairs.jsonl --reward arm:kind.gguf --reward "$length" --per-pair -o pairs.rewards --json
json_true pairs.rewards '[list(x) for x in r] == [["index", "chosen", "rejected"]] * 3 and [x["index"] for x in r] == [0, 1, 2]'
json_true pairs.rewards '[(x["chosen"]["n"], x["rejected"]["n"]) for x in r] == [(1019, 1007), (1003, 1017), (1003, 1003)]'
cat out pairs.rewards >both
json_true both 'abs(sum(x["chosen"]["kind"] - x["rejected"]["kind"] for x in r[1:]) / 3 - r[0]["trajectory"]["kind"]["margin"]) < 1e-4'
json_true both 'r[0]["trajectory"]["n"]["accuracy"] == 0.5'
python3 -c 'import json; print(json.dumps({"prompt": "word " * 300, "chosen": "a", "rejected": "b"}))' >>pairs.jsonl
run 0 score -m "$tiny" -d pairs.jsonl --reward arm:kind.gguf -c 128 --per-pair -o pairs.rewards
json_true pairs.rewards 'len(r) == 4 and r[3] == {"index": 3, "chosen": {"kind": None}, "rejected": {"kind": None}}'
says out "3 pairs"

# Wrong use, wrong files.
run 2 score --answers answers.jsonl
says err "a reward is missing"
run 2 score --answers answers.jsonl --reward "$length" -p x
run 2 score --answers answers.jsonl --reward "$length" -o answers.jsonl
run 2 score -m "$tiny" -d pairs.jsonl --reward "$length" --per-pair
run 2 score -m "$tiny" -d pairs.jsonl --reward "$length" --per-pair -o pairs.jsonl
run 2 score -m "$tiny" -d pairs.jsonl --reward "$length" -o out.jsonl
run 2 score --answers answers.jsonl --reward "cmd:" -o out.jsonl
printf '{"prompt": "a"}\n' >wrong.jsonl
run 1 score --answers wrong.jsonl --reward "$length"
says err "wrong.jsonl:1"
says err '"response"'
run 1 score --answers no-such-file.jsonl --reward "$length"
: >empty.jsonl
run 1 score --answers empty.jsonl --reward "$length"
says err "the file has no records"
finish
