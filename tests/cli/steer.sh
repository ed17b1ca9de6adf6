# What steers beyond weights from 0 on, what ends an answer, and log-probabilities in records.
. "$(dirname "$0")/../support/cli.sh"
kind=$golden/llama.lora.gguf
ask=(generate -m "$tiny" -p "Name three birds." -n 40 -s 7 -ctk f32 -ctv f32)

run 0 "${ask[@]}"
cp out plain
run 0 "${ask[@]}" --arm "kind=$kind:1"
cp out steered

# An expert and an equal anti-expert are nothing; a reference is an anti-expert of the same weight.
run 0 "${ask[@]}" --arm "a=$kind:1" --arm "b=$kind:-1"
same out plain
run 0 "${ask[@]}" --arm "kind=$kind:0.8" --arm "small=$tiny:-0.8"
cp out relative
! cmp -s relative steered || fail "an anti-expert changes nothing"
for name in kind all; do
    run 0 "${ask[@]}" --arm "kind=$kind:0.8" --minus-reference $name
    same out relative
done
other=(--arm-template 'kind=raw:{prompt}\n')
run 0 "${ask[@]}" --arm "kind=$kind:0.8" --arm "small=$tiny:-0.8" "${other[@]}" --arm-template 'small=raw:{prompt}\n'
cp out elsewhere
run 0 "${ask[@]}" --arm "kind=$kind:0.8" "${other[@]}" --minus-reference all
same out elsewhere
run 0 "${ask[@]}" --arm "kind=$kind:0.8" "${other[@]}" --minus-reference all --json
json_true out 'r[0]["arms"] == {"kind": 0.8}'
run 1 "${ask[@]}" --arm "x=$tiny:1" --minus-reference x
says err "without an adapter"
run 0 score -m "$tiny" -p hello -r "good day" --arm "kind=$kind:0.8" "${other[@]}" --json
cp out scored
run 0 score -m "$tiny" -p hello -r "good day" --arm "kind=$kind:0.8" "${other[@]}" --minus-reference all --json
json scored 'r[0]["references"]' >references
json out 'r[0]["references"]' >hidden
same hidden references
json_true out 'list(r[0]["rewards"]) == ["kind"]'

# Schedules and the gate.
run 0 "${ask[@]}" --arm "kind=$kind:1" --arm-schedule kind=0:0
same out plain
run 0 "${ask[@]}" --arm "kind=$kind:0.5" --arm-schedule kind=9:2
same out steered
run 0 "${ask[@]}" --arm "kind=$kind:1" --arm-schedule kind=1000:1,1001:0
same out steered
run 0 "${ask[@]}" --arm "kind=$kind:1" --arm-schedule kind=0:1,12:0
! cmp -s out plain || fail "the schedule steers nowhere"
! cmp -s out steered || fail "the schedule changes nothing"
run 0 "${ask[@]}" --arm "kind=$kind:1" --min-entropy 1000
same out plain
run 0 "${ask[@]}" --arm "kind=$kind:1" --min-entropy 0
same out steered

# Biases.
run 0 "${ask[@]}" --json
first=$(json out 'r[0]["tokens"][0]')
run 0 "${ask[@]}" --json -l "$first-inf"
json_true out "$first not in r[0]['tokens']"
run 0 "${ask[@]}" --json --logit-bias 65+1000
json_true out 'set(r[0]["tokens"]) == {65}'

# Grammars: JSON that can be read, and an answer that ends where the grammar does.
cat >json.gbnf <<'END'
root   ::= "{" ws "\"name\":" ws string "," ws "\"age\":" ws [1-9] [0-9]? "}" # a person
string ::= "\"" [a-z]{1,8} "\""
ws     ::= " "?
END
for seed in 1 2 3; do
    run 0 generate -m "$tiny" -p "A person as JSON" -s $seed --grammar-file json.gbnf
    json_true out 'len(r) == 1 and set(r[0]) == {"name", "age"} and 0 < r[0]["age"] < 100'
done
run 0 generate -m "$tiny" -p x --arm "kind=$kind:1" --grammar 'root ::= "yes" | "no"' --json
json_true out 'r[0]["response"] in ("yes", "no") and r[0]["finish_reason"] == "stop" and "stop" not in r[0]'
run 1 generate -m "$tiny" -p x --grammar 'root ::= "yes'
says err 'genarm: error: --grammar: line 1, column 10 of the grammar: the literal has no end'
printf 'root ::= thing\n\n' >bad.gbnf
run 1 generate -m "$tiny" -p x --grammar-file bad.gbnf
says err 'bad.gbnf: line 1, column 10 of the grammar: no rule is called "thing"'
run 1 generate -m "$tiny" -p x --grammar-file nowhere.gbnf
says err nowhere.gbnf
run 0 generate -m "$tiny" -p x --grammar 'root ::= "A"' --json --logprobs 9 # all tokens that are an A
forbid=()
for id in $(json out '" ".join(str(t["id"]) for t in r[0]["logprobs"][0]["top"])'); do
    forbid+=(-l "$id-inf")
done
run 1 generate -m "$tiny" -p x --grammar 'root ::= "A"' "${forbid[@]}"
says err "token 1 of the answer: the grammar allows no token that the model can give"
printf '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n' >many.jsonl
run 0 generate -m "$tiny" --prompts many.jsonl -np 3 --grammar 'root ::= [xyz]{3,5}'
json_true out 'len(r) == 3 and all(3 <= len(x["response"]) <= 5 and set(x["response"]) <= set("xyz") for x in r)'

# A grammar serves answers that come to more states than there is room for, also several at once that share it.
palindromes='root ::= "."'
for c in {a..z}; do
    palindromes+=" | \"$c\" root \"$c\""
done
for i in {1..50}; do
    echo "{\"prompt\": \"word $i\"}"
done >words.jsonl
for slots in 1 3; do
    run 0 generate -m "$tiny" --prompts words.jsonl -np $slots -n 60 -s 3 --grammar "$palindromes"
    mv out "palindromes.$slots"
    json_true "palindromes.$slots" 'len(r) == 50 and not any("error" in x for x in r)'
    json_true "palindromes.$slots" 'all(set(x["response"]) <= set("abcdefghijklmnopqrstuvwxyz.") for x in r)'
    json_true "palindromes.$slots" 'all(x["response"] == x["response"][::-1] for x in r if x["finish_reason"] == "stop")'
done

# JSON schemas: what ends is JSON that satisfies the schema.
cat >person.json <<'END'
{"$defs": {"age": {"type": "integer", "minimum": 1, "maximum": 120}},
 "type": "object", "required": ["name", "age", "tags"], "additionalProperties": false,
 "properties": {"name": {"type": "string", "pattern": "^[A-Z][a-z]{1,8}$"}, "age": {"$ref": "#/$defs/age"},
                "score": {"type": "number", "minimum": -1, "exclusiveMaximum": 1},
                "tags": {"type": "array", "items": {"enum": ["old", "\u00e9t\u00e9", null]}, "maxItems": 2}}}
END
person='set(x) - {"score"} == {"name", "age", "tags"} and x["name"][0].isupper() and 0 < x["age"] < 121 and -1 <= x.get("score", 0) < 1'
person="$person and len(x['tags']) < 3 and set(x['tags']) <= {'old', 'été', None}"
for seed in 1 2 3 4; do
    run 0 generate -m "$tiny" -p "A person as JSON" -s $seed --json-schema-file person.json --json
    json_true out "[$person for x in [json.loads(r[0]['response'])]] == [True]"
done
run 0 generate -m "$tiny" -p "A person as JSON" -s 1 -jf person.json --arm "kind=$kind:1" --json
json_true out 'r[0]["finish_reason"] == "stop" and json.loads(r[0]["response"])["age"] > 0'
run 0 generate -m "$tiny" -p x -j '{"type": "string", "maxLength": 5000, "enum": ["yes", "no"]}'
json_true out 'r[0] in ("yes", "no")'
run 0 generate -m "$tiny" -p x -s 3 --json-schema '{}' -l 0-inf -n 400 --json
json_true out 'r[0]["finish_reason"] == "length" or json.loads(r[0]["response"]) is not Ellipsis'
run 1 generate -m "$tiny" -p x --json-schema '{"properties": {"a": {"not": {}}}}'
says err 'genarm: error: --json-schema: /properties/a/not: a grammar cannot enforce this keyword'
printf '{"type": "object",\n "properties"}' >bad.json
run 1 generate -m "$tiny" -p x --json-schema-file bad.json
says err 'bad.json: broken JSON'
printf '{"items": {"type": "text"}}' >bad.json
run 1 generate -m "$tiny" -p x -jf bad.json
says err 'bad.json: /items/type: expected null, boolean'

# Stop texts: found across tokens, left out, named; streaming shows no part of one.
count=(generate -m "$tiny" -p x -s 1 --grammar 'root ::= "one, two, three, four"')
run 0 "${count[@]}"
check "without a stop text all is there" [ "$(cat out)" = "one, two, three, four" ]
run 0 "${count[@]}" -r ", three"
check "the answer ends before the stop text" [ "$(cat out)" = "one, two" ]
run 0 "${count[@]}" --stop ", five" --reverse-prompt "our!" --stop "wo, t" --json
json_true out 'r[0]["response"] == "one, t" and r[0]["finish_reason"] == "stop" and r[0]["stop"] == "wo, t"'
run 0 "${count[@]}" --stop "four!"
check "what only began as a stop text is shown in the end" [ "$(cat out)" = "one, two, three, four" ]

# Log-probabilities: those that score gives.
run 0 "${ask[@]}" -n 8 --grammar 'root ::= "Good day."' --arm "kind=$kind:0.7" --json --logprobs 3
json_true out 'len(r[0]["logprobs"]) == len(r[0]["tokens"])'
json_true out 'all(list(t) == ["id", "text", "guided", "base", "arms", "top"] for t in r[0]["logprobs"])'
json_true out '[t["id"] for t in r[0]["logprobs"]] == r[0]["tokens"]'
json_true out '"".join(t["text"] for t in r[0]["logprobs"]).startswith("Good day")'
json out '[[round(t["base"], 3), round(t["arms"]["kind"], 3)] for t in r[0]["logprobs"][:8]]' >drawn
run 0 score -m "$tiny" -p "Name three birds." -r "Good day." -ctk f32 -ctv f32 --arm "kind=$kind:0.7" --json
json out '[[round(t["base"], 3), round(t["arms"]["kind"], 3)] for t in r[0]["tokens"][:8]]' >scored
python3 - <<'END' || fail "log-probabilities are not those of score" drawn scored
import json
a, b = json.load(open("drawn")), json.load(open("scored"))
assert len(a) == len(b) and all(abs(x - y) < 2e-3 for p, q in zip(a, b) for x, y in zip(p, q))
END
run 0 "${ask[@]}" -n 4 --json --logprobs 0
json_true out 'all("top" not in t for t in r[0]["logprobs"])'
run 0 "${ask[@]}" -n 4 --arm "kind=$kind:0.7" --json --logprobs 5
json_true out 'all(len(t["top"]) == 5 and [x["guided"] for x in t["top"]] == sorted((x["guided"] for x in t["top"]), reverse=True) for t in r[0]["logprobs"])'

# Wrong use.
wrong() { # WHAT ARGUMENTS…
    local what=$1
    shift
    run 2 "$@"
    says err "$what"
}
wrong 'no --arm is called "x"' "${ask[@]}" --arm-schedule x=0:1
wrong "is not NAME=POS:X" "${ask[@]}" --arm-schedule 0:1
wrong "is no list of POSITION:FACTOR" "${ask[@]}" --arm "kind=$kind" --arm-schedule kind=0
wrong "do not ascend" "${ask[@]}" --arm "kind=$kind" --arm-schedule kind=5:1,4:1
wrong "is not TOKEN_ID(+/-)BIAS" "${ask[@]}" -l x
wrong "outside the vocabulary" "${ask[@]}" -l 100000+1
wrong "a stop text is empty" "${ask[@]}" --stop ""
wrong "leave out --grammar-file" "${ask[@]}" --grammar 'root ::= "x"' --grammar-file json.gbnf
wrong "leave out --json-schema" "${ask[@]}" --grammar 'root ::= "x"' -j '{}'
wrong "leave out --json-schema-file" "${ask[@]}" -j '{}' -jf person.json
wrong "give --json or --prompts" "${ask[@]}" --logprobs 2
finish
