# genarm judge, and openai: as a reward: against a server that behaves in every way that servers do, against genarm serve,
# programs and rewards; both orders, retries, the cache, the key, an end at any time.
. "$(dirname "$0")/../support/cli.sh"
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY OPENAI_API_KEY
servers=()
trap 'for s in "${servers[@]}"; do kill -KILL "$s" 2>/dev/null; done; wait 2>/dev/null; rm -rf -- "$folder"' EXIT

python3 "$source_dir/tests/support/judge_server.py" asked >port &
servers+=($!)
for _ in $(seq 100); do
    [ ! -s port ] || break
    sleep 0.1
done
port=$(cat port)
url=http://127.0.0.1:$port
: >asked

quiet() { # waits for the requests of programs that ended while some were on their way
    local status
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'GET /quiet HTTP/1.0\r\n\r\n' >&3
    read -r -t 60 _ status _ <&3
    exec 3>&-
    [ "$status" = 200 ] || fail "the server is not quiet: $status"
}

forget() { # the requests up to here
    quiet
    : >asked
}

asks() { # NUMBER WHAT: how many requests came since the last call
    local n
    quiet
    n=$(wc -l <asked)
    [ "$n" = "$1" ] || fail "$2: $n requests, not $1"
    : >asked
}

python3 - <<'END_PY'
import json
answers = {"a": ["A longer answer.", "x", "same", "It is an owl."], "b": ["short", "A longer answer.", "even", "No."]}
for name, texts in answers.items():
    with open(name + ".jsonl", "w") as f:
        for i, text in enumerate(texts):
            f.write(json.dumps({"prompt": f"Question {i}?", "response": text, "finish_reason": "stop"}) + "\n")
    with open(name + ".json", "w") as f:
        json.dump([{"instruction": f"Question {i}?", "output": t, "generator": name} for i, t in enumerate(texts)], f, indent=1)
for name, order in ("ida", range(4)), ("idb", (2, 0, 3, 1)):
    with open(name + ".jsonl", "w") as f:
        for i in order:
            f.write(json.dumps({"id": f"q{i}", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Question {i}?"}],
                                "response": answers[name[-1]][i]}) + "\n")
END_PY

# A judge that compares, in both orders; with log-probabilities, and without.
run 0 judge --judge openai:longer@$url a.jsonl b.jsonl
asks 8 "two orders of four pairs"
json_true out '[x["verdict"] for x in r] == ["a", "b", "tie", "a"] and [x["index"] for x in r] == [0, 1, 2, 3]'
json_true out '[x["preference"] for x in r] == [1.85, 1.15, 1.5, 1.85]'
json_true out 'r[0]["orders"] == [{"first": "a", "reply": "[[A]]", "verdict": "a", "preference": 1.8}, {"first": "b", "reply": "[[B]]", "verdict": "a", "preference": 1.9}]'
json_true out 'r[0]["usage"] == {"prompt_tokens": 200, "completion_tokens": 6} and "rewards" not in r[0]'
says err "a.jsonl against b.jsonl: 2 won (50.0 %), 1 tied (25.0 %), 1 lost (25.0 %), 0 invalid"
says err "4 of 4 verdicts are the same in both orders"
run 0 judge --judge openai:longer@$url/v1/ --logprobs 0 --order given b.jsonl a.jsonl --judge-parallel 1
json_true asked 'len(r) == 4 and all("logprobs" not in x["body"] and x["body"]["max_tokens"] == 512 for x in r)'
json_true asked '[m["role"] for m in r[0]["body"]["messages"]] == ["system", "user"] and "Question 0?" in r[0]["body"]["messages"][1]["content"]'
json_true asked 'all("# " not in m["content"] and "{" not in m["content"] for x in r for m in x["body"]["messages"])'
asks 4 "one order"
json_true out '[x["verdict"] for x in r] == ["b", "a", "tie", "b"] and [x["preference"] for x in r] == [1, 2, 1.5, 1]'

# One that prefers a place: what the other order does not confirm is a tie; a random order is the seed's.
run 0 judge --judge openai:first@$url a.jsonl b.jsonl
json_true out 'all(x["verdict"] == "tie" and x["preference"] == 1.5 for x in r)'
says err "0 of 4 verdicts are the same in both orders"
run 0 judge --judge openai:first@$url --order given a.jsonl b.jsonl
json_true out 'all(x["verdict"] == "a" and len(x["orders"]) == 1 for x in r)'
for i in $(seq 64); do cat a.jsonl; done >many.jsonl
for i in $(seq 64); do cat b.jsonl; done >many_other.jsonl
run 0 judge --judge openai:first@$url --order random --seed 5 many.jsonl many_other.jsonl
cp out random
json_true out '80 < sum(x["verdict"] == "a" for x in r) < 176 and all(x["verdict"] == x["orders"][0]["first"] for x in r)'
run 0 judge --judge openai:first@$url --order random --seed 5 --judge-parallel 16 many.jsonl many_other.jsonl
same out random
run 0 judge --judge openai:first@$url --order random --seed 6 many.jsonl many_other.jsonl
! cmp -s out random || fail "another seed gives the same orders"
forget

# The same answer twice is a tie that nobody is asked about, unless one of them was cut.
run 0 judge --judge openai:first@$url a.jsonl a.jsonl
asks 0 "the same answers"
usage='{"prompt_tokens": 0, "completion_tokens": 0}'
json_true out "r == [{'index': i, 'verdict': 'tie', 'preference': 1.5, 'orders': [], 'usage': $usage} for i in range(4)]"
sed '2s/"stop"/"length"/' a.jsonl >cut.jsonl
run 0 judge --judge openai:first@$url --order given a.jsonl cut.jsonl
asks 1 "a cut answer"
json_true out '[x["verdict"] for x in r] == ["tie", "a", "tie", "tie"]'
run 0 judge --judge "cmd:exit 3" a.jsonl a.jsonl
json_true out 'all(x["verdict"] == "tie" and "rewards" not in x for x in r)'

# A verdict is one whatever characters are around it.
run 0 judge --judge openai:odd@$url --order given a.jsonl b.jsonl
json_true out 'all(x["verdict"] == "a" and x["orders"][0]["reply"] == "\ufffd \ufffd \ufffd \U0001f600 [[A]]" for x in r)'
forget

# What is no verdict is invalid.
for kind in words both null; do
    run 0 judge --judge openai:$kind@$url a.jsonl b.jsonl -o v.jsonl --json
    json_true v.jsonl 'len(r) == 4 and all(x["verdict"] == "invalid" and x["preference"] is None for x in r)'
    json_true out 'r[0]["invalid"] == 4 and r[0]["win_rate"] is None and r[0]["requests"] == 8 and "cost" not in r[0]'
done
forget

# AlpacaEval's files, ids, and answers that do not belong together.
run 0 judge --judge openai:longer@$url a.json b.jsonl
json_true out '[x["verdict"] for x in r] == ["a", "b", "tie", "a"]'
run 0 judge --judge openai:longer@$url ida.jsonl idb.jsonl
json_true out '[x["verdict"] for x in r] == ["a", "b", "tie", "a"] and [x["id"] for x in r] == ["q0", "q1", "q2", "q3"]'
json_true asked 'any("[system]\nBe kind.\n\n[user]\nQuestion 3?" in x["body"]["messages"][1]["content"] for x in r)'
forget
head -n 3 b.jsonl >short.jsonl
run 1 judge --judge openai:longer@$url a.jsonl short.jsonl
says err "error: a.jsonl:4: there is no answer to the same prompt in the other file, short.jsonl"
sed 's/Question 2/Question two/' b.jsonl >other.jsonl
run 1 judge --judge openai:longer@$url a.jsonl other.jsonl
says err "error: a.jsonl:3: the prompt is not that of other.jsonl:3"
sed 's/q3/q1/' idb.jsonl >twice.jsonl
run 1 judge --judge openai:longer@$url ida.jsonl twice.jsonl
says err 'error: twice.jsonl:4: the id "q1" was there before'
sed 's/q3/q4/' idb.jsonl >strange.jsonl
run 1 judge --judge openai:longer@$url ida.jsonl strange.jsonl
says err "error: ida.jsonl:4: there is no answer to the same prompt in the other file, strange.jsonl"
echo '[{"instruction": "Question 0?"}]' >broken.json
run 1 judge --judge openai:longer@$url broken.json b.jsonl
says err 'error: broken.json, record 1: "response" is missing'
asks 0 "files that cannot be judged"

# A prompt without an answer: its pair is invalid, and nobody is asked about it; the others have their verdicts.
sed '2s/"response".*/"finish_reason": "error", "error": "too long"}/' a.jsonl >failed.jsonl
run 0 judge --judge openai:longer@$url failed.jsonl b.jsonl
asks 6 "two orders of three pairs"
json_true out '[x["verdict"] for x in r] == ["a", "invalid", "tie", "a"] and r[1]["error"] == "a prompt without an answer"'
says err "2 won (66.7 %), 1 tied (33.3 %), 0 lost (0.0 %), 1 invalid"
says err "1 pairs are invalid: a prompt has no answer"
run 0 judge --judge openai:longer@$url b.jsonl failed.jsonl -o v.jsonl --json
json_true v.jsonl '[x["verdict"] for x in r] == ["b", "invalid", "tie", "b"] and r[1]["preference"] is None'
json_true out 'r[0]["invalid"] == 1'
forget


# Servers that fail: again, with pauses, until it works, or there is no hope.
run 0 judge --judge openai:flaky@$url --judge-retries 5 --judge-parallel 8 a.jsonl b.jsonl -o v.jsonl --json -v
json_true v.jsonl '[x["verdict"] for x in r] == ["a", "b", "tie", "a"]'
json_true out 'r[0]["requests"] - r[0]["retries"] == 8 and r[0]["retries"] >= 25'
says err "status 429: too many; asked again in"
asks 48 "five failures of each request"
start=$(date +%s%N)
run 1 judge --judge openai:busy@$url --judge-retries 1 --judge-parallel 1 a.jsonl b.jsonl
says err "error: $url/v1/chat/completions: status 429: later (attempt 2)"
[ $((($(date +%s%N) - start) / 1000000)) -ge 1000 ] || fail "Retry-After is not kept"
asks 2 "one retry"
run 1 judge --judge openai:after@$url --judge-parallel 1 a.jsonl b.jsonl
says err "it asks to wait 3600 seconds"
asks 1 "an hour is not waited for"
run 1 judge --judge openai:down@$url --judge-retries 0 a.jsonl b.jsonl
says err "status 500: down"
run 1 judge --judge openai:other@$url --judge-retries 0 a.jsonl b.jsonl
says err "there is no text of an assistant in the reply"
for kind in "broken the provider is gone" "halting it was lost"; do
    run 1 judge --judge openai:${kind%% *}@$url --judge-retries 1 --judge-cache lost a.jsonl b.jsonl
    says err "error: $url/v1/chat/completions: ${kind#* } (attempt 2)"
    check "it is not kept" [ "$(find lost -type f | wc -l)" = 0 ]
done
run 0 judge --judge openai:wordy@$url --judge-max-tokens 5 --order given a.jsonl b.jsonl -o v.jsonl --json
json_true out 'r[0]["cut"] == 4 and r[0]["win"] == 4'
says err "4 replies of wordy were cut at --judge-max-tokens 5"
run 0 score --answers a.jsonl --reward openai:wordy@$url --judge-max-tokens 5
says err "4 replies of wordy were cut at --judge-max-tokens 5"
run 1 judge --judge openai:huge@$url a.jsonl b.jsonl --judge-parallel 1
says err "a reply of more than 16 MiB"
run 1 judge --judge openai:slow@$url --judge-timeout 0.2 --judge-retries 0 a.jsonl b.jsonl
says err "error: $url/v1/chat/completions: Timeout was reached"
forget
run 1 judge --judge openai:moved@$url --judge-parallel 1 a.jsonl b.jsonl
says err "status 302"
asks 1 "a redirect is not followed"
run 1 judge --judge openai:longer@$url/elsewhere --judge-parallel 1 a.jsonl b.jsonl
says err "status 404: no such page"
says err "it mostly ends in /v1"
asks 1 "a status 4xx is not asked again"
run 1 judge --judge openai:longer@http://127.0.0.1:1 --judge-retries 1 a.jsonl b.jsonl
says err "Couldn't connect to server (attempt 2)"
run 1 judge --judge openai:picky@$url a.jsonl b.jsonl -o v2.jsonl
says err "the server refuses requests: status 400: logprobs are not known here"
check "nothing is kept of what the settings are to blame for" [ "$(wc -l <v2.jsonl.partial)" = 1 ]
rm v2.jsonl.partial
run 0 judge --judge openai:picky@$url --logprobs 0 a.jsonl b.jsonl
sed 's/Question 1/A forbidden question/' a.jsonl >fa.jsonl
sed 's/Question 1/A forbidden question/' b.jsonl >fb.jsonl
run 0 judge --judge openai:choosy@$url fa.jsonl fb.jsonl -o v.jsonl --json
json_true v.jsonl '[x["verdict"] for x in r] == ["a", "invalid", "tie", "a"] and r[1]["orders"][0]["error"] == "status 400: not this one"'
json_true out 'r[0]["refused"] == 2 and r[0]["win"] == 2 and r[0]["lose"] == 0 and abs(r[0]["win_rate"] - 2.5 / 3) < 1e-5'
# One prompt may be forbidden, also the first one; without credit nothing is answered any more.
sed 's/Question 0/A forbidden question/' a.jsonl >ga.jsonl
sed 's/Question 0/A forbidden question/' b.jsonl >gb.jsonl
run 0 judge --judge openai:guarded@$url --judge-parallel 1 ga.jsonl gb.jsonl
json_true out '[x["verdict"] for x in r] == ["invalid", "b", "tie", "a"] and r[0]["orders"][0]["error"] == "status 403: flagged"'
sed 's/Question/A forbidden question/' a.jsonl >na.jsonl
sed 's/Question/A forbidden question/' b.jsonl >nb.jsonl
run 1 judge --judge openai:guarded@$url na.jsonl nb.jsonl
says err "the server refuses requests: status 403: flagged"
says err "are the key and the model's name right"
run 1 judge --judge openai:paid@$url --judge-parallel 1 a.jsonl b.jsonl -o paid.jsonl
says err "status 402: Insufficient Balance"
says err "is there credit left?"
check "the verdict is kept" [ "$(wc -l <paid.jsonl.partial)" = 2 ]
rm paid.jsonl.partial
killed_at() { # LINES FILE ARGUMENTS…: runs genarm until the file has as many lines
    local lines=$1 file=$2 pid
    shift 2
    "$genarm" "$@" >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 600); do
        [ ! -e "$file" ] || [ "$(wc -l <"$file")" -lt "$lines" ] || break
        sleep 0.05
    done
    kill -KILL $pid
    wait $pid 2>/dev/null
}
# What was answered before the run was killed is no reason to blame the settings when all that is left is refused.
{ cat a.jsonl; sed 's/Question/A forbidden question/' a.jsonl; } >la.jsonl
{ cat b.jsonl; sed 's/Question/A forbidden question/' b.jsonl; } >lb.jsonl
touch late
killed_at 5 l.jsonl.partial judge --judge openai:late@$url la.jsonl lb.jsonl -o l.jsonl
rm late
check "four verdicts are kept" [ "$(wc -l <l.jsonl.partial)" = 5 ]
run 0 judge --judge openai:late@$url la.jsonl lb.jsonl -o l.jsonl --json
json_true l.jsonl '[x["verdict"] for x in r] == ["a", "b", "tie", "a"] + ["invalid"] * 4'
json_true out 'r[0]["refused"] == 8'
# The same of rewards.
python3 -c 'import json
for i in range(20):
    print(json.dumps({"prompt": "A forbidden bird." if i > 7 else "Name a bird.", "response": "An owl"}))' >late_birds.jsonl
touch late
killed_at 9 r.out.partial score --answers late_birds.jsonl --reward openai:late@$url -o r.out --judge-parallel 2
rm late
check "eight rewards are kept" [ "$(wc -l <r.out.partial)" = 9 ]
run 0 score --answers late_birds.jsonl --reward openai:late@$url -o r.out --judge-parallel 2
json_true r.out '[x["rewards"]["late"] for x in r] == [2] * 8 + [None] * 12'
run 1 score --answers late_birds.jsonl --reward rm:no-such.gguf -o r2.out
check "nothing is kept of a run that does not start" [ ! -e r2.out.partial ]
# But a run that is refused all of a few requests has made nothing.
head -n 3 a.jsonl >few_a.jsonl
head -n 3 b.jsonl >few_b.jsonl
run 1 judge --judge openai:picky@$url few_a.jsonl few_b.jsonl -o few.jsonl
says err "error: picky: the server has refused all of 6 requests"
check "nothing is there" [ ! -e few.jsonl ] && check "nothing is kept" [ ! -e few.jsonl.partial ]

# The cache: the second time nothing is asked; another request is.
forget
run 0 judge --judge openai:longer@$url --judge-parallel 1 --judge-cache replies a.jsonl b.jsonl -o v.jsonl --json --price-in 10 --price-out 1000
cp v.jsonl first.jsonl
json_true out 'r[0]["requests"] == 8 and r[0]["cached"] == 0 and abs(r[0]["cost"] - (800 * 10 + 24 * 1000) / 1e6) < 1e-9'
asks 8 "an empty cache"
run 0 judge --judge openai:longer@$url --judge-cache replies a.jsonl b.jsonl -o v.jsonl --json --price-in 10
json_true out 'r[0]["requests"] == 0 and r[0]["cached"] == 8 and r[0]["cost"] == 0 and r[0]["win"] == 2'
same v.jsonl first.jsonl
asks 0 "a full cache"
run 0 judge --judge openai:longer@$url --judge-cache replies a.jsonl b.jsonl --judge-parallel 1 --judge-max-tokens 9
asks 8 "other requests"
mapfile -t entries < <(find replies -type f)
printf 'damaged' >"${entries[0]}"
cp "${entries[1]}" "${entries[2]}" # an entry of another request
run 0 judge --judge openai:longer@$url --judge-cache replies a.jsonl b.jsonl -o v.jsonl
run 0 judge --judge openai:longer@$url --judge-cache replies a.jsonl b.jsonl --judge-max-tokens 9
same v.jsonl first.jsonl
asks 2 "damaged and foreign entries"
run 1 judge --judge openai:down@$url --judge-retries 0 --judge-cache replies/x a.jsonl b.jsonl
check "failures are not cached" [ "$(find replies/x -type f | wc -l)" = 0 ]

# Models that take no max_tokens and no temperature: the body is what one says, for the cache as well.
run 1 judge --judge openai:strict@$url a.jsonl b.jsonl
says err "the server refuses requests: status 400: Unsupported parameter: 'max_tokens'"
says err "--judge-body"
body='{"max_tokens": null, "temperature": null, "no such": null, "max_completion_tokens": 64, "reasoning": {"effort": "low"}}'
forget
run 0 judge --judge openai:strict@$url --judge-body "$body" --judge-cache replies a.jsonl b.jsonl --judge-parallel 1
json_true out '[x["verdict"] for x in r] == ["a", "b", "tie", "a"]'
names='["logprobs", "max_completion_tokens", "messages", "model", "reasoning", "top_logprobs"]'
json_true asked "all(sorted(x['body']) == $names for x in r)"
json_true asked 'r[0]["body"]["reasoning"] == {"effort": "low"} and r[0]["body"]["max_completion_tokens"] == 64'
forget
run 0 judge --judge openai:strict@$url --judge-body "$body" --judge-cache replies a.jsonl b.jsonl
asks 0 "the same body"
run 0 judge --judge openai:strict@$url --judge-body "${body/64/65}" --judge-cache replies a.jsonl b.jsonl --judge-parallel 1
asks 8 "another body"
run 0 score --answers a.jsonl --reward openai:strict@$url --judge-body "$body"
json_true out '[x["rewards"]["strict"] for x in r] == [3, 1, 1, 4]'
run 1 judge --judge openai:down@$url --judge-retries 0 --judge-body "$body" a.jsonl b.jsonl -o body.jsonl
run 1 judge --judge openai:down@$url --judge-retries 0 a.jsonl b.jsonl -o body.jsonl
says err "body.jsonl.partial: these answers were begun with other settings: --judge-body was"
for body in '[1]' '{"a":' '{"a": 1, "a": 2}'; do
    run 1 judge --judge openai:strict@$url --judge-body "$body" a.jsonl b.jsonl
    says err "error: members of requests (--judge-body): "
done

# The key: sent, and nowhere else.
export OPENAI_API_KEY=sk-very/secret-42 MY_KEY=other-key-43
forget
run 0 judge --judge openai:parrot@$url -v --judge-cache kept --order given a.jsonl b.jsonl -o v.jsonl --json
json_true asked 'all(x["key"] == "sk-very/secret-42" for x in r)'
json_true v.jsonl 'r[0]["orders"][0]["reply"] == "***************** [[A]]"'
cat out err v.jsonl $(find kept -type f) >everything
run 1 judge --judge openai:denied@$url -v --judge-cache kept a.jsonl b.jsonl -o w.jsonl
says err "status 401: Incorrect API key provided: *****************"
says err "is the key right?"
cat out err w.jsonl.partial $(find kept -type f) >>everything
forget
run 0 judge --judge openai:parrot@$url --api-key-env MY_KEY a.jsonl b.jsonl
json_true asked 'all(x["key"] == "other-key-43" for x in r)'
cat out err >>everything
run 1 judge --judge openai:longer@$url --api-key-env NO_KEY a.jsonl b.jsonl
says err "the variable NO_KEY has no key"
OPENAI_API_KEY='two words' run 1 judge --judge openai:longer@$url a.jsonl b.jsonl
says err "the key in OPENAI_API_KEY is not"
! grep -q "two words" err || fail "a wrong key is shown" err
run 1 judge --judge openai:longer@http://me:word@127.0.0.1:1 a.jsonl b.jsonl
says err "no user's name and no password"
run 1 judge --judge "openai:longer@$url?key=1" a.jsonl b.jsonl
! grep -qE "very.?.?secret|other-key" everything || fail "a key gets out" everything
for key in null 1 a; do # what local servers are given is no secret, and is in every reply
    OPENAI_API_KEY=$key run 0 judge --judge openai:longer@$url a.jsonl b.jsonl
    json_true out '[x["preference"] for x in r] == [1.85, 1.15, 1.5, 1.85]'
done
unset OPENAI_API_KEY MY_KEY
rm w.jsonl.partial

# Killed and interrupted at any time, it goes on with what is not judged.
for i in $(seq 16); do cat a.jsonl; done >many_a.jsonl
for i in $(seq 16); do cat b.jsonl; done >many_b.jsonl
set -m # jobs get Ctrl-C as they do in an interactive shell
many=(judge --judge "openai:steady@$url" many_a.jsonl many_b.jsonl -o r.jsonl)
run 0 judge --judge "openai:steady@$url" many_a.jsonl many_b.jsonl -o whole.jsonl
lines=0
: >r.jsonl.partial
for signal in KILL INT KILL; do
    "$genarm" "${many[@]}" >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 600); do
        [ "$(wc -l <r.jsonl.partial)" -lt $((lines + 3)) ] || break
        sleep 0.05
    done
    kill -$signal $pid
    wait $pid 2>/dev/null
    check "nothing is written before all is judged ($signal)" [ ! -e r.jsonl ]
    lines=$(wc -l <r.jsonl.partial)
done
kept=$(($(wc -l <r.jsonl.partial) - 1))
check "verdicts are kept ($kept)" [ "$kept" -ge 6 ]
run 1 "${many[@]}" --order given
says err "r.jsonl.partial: these answers were begun with other settings: --order was \"both\", not \"given\""
printf '{"index":5,"rec' >>r.jsonl.partial
forget
run 0 "${many[@]}" --json --judge-parallel 2
says err "of 64 pairs are judged in r.jsonl.partial"
asks $((2 * (64 - kept))) "what was not judged"
same r.jsonl whole.jsonl
json_true out 'r[0]["pairs"] == 64 and r[0]["win"] == 32 and r[0]["tie"] == 16 and r[0]["lose"] == 16'
check "the partial file is gone" [ ! -e r.jsonl.partial ]
forget
"$genarm" judge --judge "openai:slow@$url" a.jsonl b.jsonl >out 2>err </dev/null &
pid=$!
for _ in $(seq 600); do
    [ ! -s asked ] || break
    sleep 0.05
done
start=$(date +%s)
kill -INT $pid
status=0
wait $pid || status=$?
check "Ctrl-C while a server is waited for: status $status" [ "$status" = 130 ]
check "at once" [ $(($(date +%s) - start)) -le 5 ]
set +m

# Programs that compare, and rewards.
cat >pairwise.py <<'END_PY'
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    assert set(q) == {"prompt", "messages", "a", "b"} and q["messages"][-1]["content"] == q["prompt"]
    a, b = len(q["a"]), len(q["b"])
    print(json.dumps({"verdict": "a" if a > b else "b" if b > a else "tie", "preference": 1.75 if a > b else 1.25 if b > a else 1.5}), flush=True)
END_PY
run 0 judge --judge "pairwise:mine=python3 pairwise.py" a.jsonl b.jsonl -o v.jsonl --json
json_true v.jsonl '[x["verdict"] for x in r] == ["a", "b", "tie", "a"] and [x["preference"] for x in r] == [1.75, 1.25, 1.5, 1.75]'
json_true out 'r[0]["judge"] == "mine" and r[0]["consistency"] == 1 and r[0]["requests"] == 0'
run 0 judge --judge 'pairwise:while read -r l; do echo "\"a\""; done' a.jsonl b.jsonl
json_true out 'all(x["verdict"] == "tie" for x in r)'
run 0 judge --judge 'pairwise:while read -r l; do echo "{\"verdict\": \"perhaps\"}"; done' a.jsonl b.jsonl
json_true out 'all(x["verdict"] == "invalid" for x in r)'
run 1 judge --judge 'pairwise:while read -r l; do echo hello; done' a.jsonl b.jsonl
says err 'answered "hello"'
says err 'an answer is one line, {"verdict": "a"}'
# One line too many: all verdicts may be those of other questions, and nothing is made of them.
run 1 judge --judge 'pairwise:sleep 0.2; echo tie; while read -r l; do echo a; done' a.jsonl b.jsonl -o many.out
says err 'answered "a": it was not asked'
check "nothing is there" [ ! -e many.out ] && check "nothing is kept" [ ! -e many.out.partial ]
run 1 judge --judge 'cmd:sleep 0.2; echo 1; while read -r l; do echo 2; done' a.jsonl b.jsonl -o many.out
says err 'answered "2": it was not asked'
check "nothing is kept" [ ! -e many.out.partial ]
run 1 score --answers a.jsonl --reward 'cmd:sleep 0.2; echo 1; while read -r l; do echo 2; done' -o many.out
says err 'answered "2": it was not asked'
check "nothing is there" [ ! -e many.out ] && check "nothing is kept" [ ! -e many.out.partial ]
run 0 judge --judge "cmd:n=python3 -u -c 'import json,sys
for l in sys.stdin: print(len(json.loads(l)[\"response\"]), flush=True)'" --tie-margin 10.5 a.jsonl b.jsonl
json_true out '[x["verdict"] for x in r] == ["a", "b", "tie", "tie"] and r[0]["rewards"] == {"a": 16, "b": 5} and r[0]["orders"] == []'
run 0 judge --judge "arm:$golden/llama.lora.gguf" -m "$tiny" a.jsonl b.jsonl
json_true out 'len(r) == 4 and all(x["rewards"]["a"] < 0 for x in r) '
json_true out 'all((x["verdict"] == "a") == (x["rewards"]["a"] > x["rewards"]["b"]) for x in r)'
sed "2s/longer/$(printf 'long %.0s' $(seq 200))/" b.jsonl >longer.jsonl
run 0 judge --judge "arm:$golden/llama.lora.gguf" -m "$tiny" -c 128 a.jsonl longer.jsonl
json_true out '[x["verdict"] == "invalid" for x in r] == [False, True, False, False]'
json_true out 'r[1]["rewards"] == {"a": None, "b": None} and r[1]["error"] == "an answer that does not fit into the context"'
says err "1 pairs are invalid: an answer does not fit into the context (-c)"

cp "$golden/llama.lora.gguf" kind.gguf
run 1 judge --judge rm:kind.gguf -m "$tiny" a.jsonl b.jsonl -o k.jsonl
says err "no head"
cp "$golden/llama.lora2.gguf" kind.gguf
run 1 judge --judge rm:kind.gguf -m "$tiny" a.jsonl b.jsonl -o k.jsonl
says err "k.jsonl.partial: these answers were begun with other settings: the file of kind was"

# A prompt of one's own.
printf '# mine\nQ: {prompt}\n1: {a}\n2: {b} {c}\nSay [[A]] or [[B]].\n' >mine.txt
forget
run 0 judge --judge openai:first@$url --judge-prompt mine.txt --order given --judge-parallel 1 a.jsonl b.jsonl
json_true asked 'r[0]["body"]["messages"] == [{"role": "user", "content": "Q: Question 0?\n1: A longer answer.\n2: short {c}\nSay [[A]] or [[B]].\n"}]'
printf '{prompt} {a}' >wrong.txt
run 1 judge --judge openai:first@$url --judge-prompt wrong.txt a.jsonl b.jsonl
says err "error: wrong.txt: the prompt of a judge has no {b}"

# Wrong use.
run 2 judge a.jsonl b.jsonl
says err "the judge is missing"
run 2 judge --judge openai:first@$url a.jsonl
run 2 judge --judge openai:first@$url a.jsonl b.jsonl --json
run 2 judge --judge openai:first@$url a.jsonl b.jsonl -o a.jsonl
run 2 judge --judge openai:first a.jsonl b.jsonl
says err "error: --judge: a model or its base URL is missing"
says err "hint: a judge is openai:[NAME=]MODEL@BASE_URL, pairwise:[NAME=]COMMAND or a reward, [KIND:][NAME=]PATH[+ADAPTER]"
run 2 judge --judge openai:first@example.org none.jsonl b.jsonl # before files are read
says err "error: --judge: the base URL must begin with http:// or https://"
run 2 judge --judge "" a.jsonl b.jsonl
says err "error: --judge: a path is missing"
run 2 judge --judge openai:first@$url:0.5 a.jsonl b.jsonl
says err "error: --judge: a weight has no meaning here"

# As a reward: a rating or nothing.
one=(score -m "$tiny" -p "Name a bird.")
run 0 "${one[@]}" -r "The owl, of course." --reward openai:rate@$url --reward openai:w=words@$url --json
json_true out 'r[0]["trajectory"] == {"rate": 4, "w": None}'
says err "reward w: no rating, which may happen again"
run 0 "${one[@]}" -r "The owl" --reward openai:words@$url
says out "words: no reward of the response, the judge abstained"
run 0 "${one[@]}" -r "1 2 3 4 5 6 7 8 9 10 11" --reward openai:rate@$url --json # [[11]] of 10
json_true out 'r[0]["trajectory"] == {"rate": None}'
cat >pairs.jsonl <<'END_PAIRS'
{"prompt": "Name a bird.", "chosen": "The owl, of course.", "rejected": "An owl."}
{"prompt": "Name a bird.", "chosen": "1 2 3 4 5 6 7 8 9 10 11", "rejected": "Owl"}
END_PAIRS
run 0 score -m "$tiny" -d pairs.jsonl --reward openai:rate@$url --judge-cache ratings --json
json_true out 'r[0]["trajectory"]["rate"] == {"accuracy": 1, "margin": 2, "abstained": 1}'
forget
run 0 score -m "$tiny" -d pairs.jsonl --reward openai:rate@$url --judge-cache ratings
says out "without 1 pairs in which it abstained"
asks 0 "ratings from the cache"
run 0 score -m "$tiny" -d pairs.jsonl --reward openai:words@$url
check "no number of nothing" grep -qE '^words +- +-  without 2 pairs in which it abstained$' out
# A first pair that the server refuses says nothing of the others; all that are refused say that something is wrong.
sed '1s/Name a bird/A forbidden bird/' pairs.jsonl >forbidden.jsonl
sed 's/1 2 3 4 5 6 7 8 9 10 11/A large owl/' forbidden.jsonl >choosy.jsonl
run 0 score -m "$tiny" -d choosy.jsonl --reward openai:choosy@$url --json
json_true out 'r[0]["trajectory"]["choosy"] == {"accuracy": 1, "margin": 2, "abstained": 1}'
says err "all 2 requests so far were refused: status 400: not this one"
head -n 1 choosy.jsonl >none.jsonl
run 1 score -d none.jsonl -m "$tiny" --reward openai:choosy@$url --per-pair -o none.out
says err "error: choosy: the server has refused all of 2 requests"
check "no file" [ ! -e none.out ]
for i in 1 2 3 4; do head -n 1 choosy.jsonl; done >four.jsonl
run 1 score -m "$tiny" -d four.jsonl --reward openai:choosy@$url
says err "the server refuses requests: status 400: not this one"
run 1 score -m "$tiny" -p "A forbidden bird." -r Owl --reward openai:choosy@$url
says err "error: choosy: the server has refused all of 1 requests"
# The same of answers, which are asked about in parts.
python3 -c 'import json
for i in range(10): print(json.dumps({"prompt": "A forbidden bird." if i < 6 else "Name a bird.", "response": "An owl"}))' >birds.jsonl
run 0 score --answers birds.jsonl --reward openai:choosy@$url --judge-parallel 1 -o birds.out
json_true birds.out '[x["rewards"]["choosy"] for x in r] == [None] * 6 + [2] * 4'
sed 's/Name a/A forbidden/' birds.jsonl >no.jsonl
run 1 score --answers no.jsonl --reward openai:choosy@$url --judge-parallel 1 -o no.out
says err "the server refuses requests: status 400: not this one"
check "nothing is kept" [ ! -e no.out.partial ]
head -n 5 no.jsonl >five.jsonl
run 1 score --answers five.jsonl --reward openai:choosy@$url --judge-parallel 1 -o five.out
says err "error: choosy: the server has refused all of 5 requests"
check "nothing is there" [ ! -e five.out ] && check "nothing is kept" [ ! -e five.out.partial ]
echo "Name a bird." >q.txt
run 1 rl -m "$tiny" --prompts q.txt --reward openai:words@$url -o p.gguf -n 4 --group-size 2 --steps 1
says err "the judge words abstained: it gave a response no rating"
run 1 generate -m "$tiny" -p "Name a bird." -n 4 --method best-of-n --best-of 2 --reward openai:words@$url
says err "no answer has a reward: the judge abstained"

# Our own server: a small model says what it likes, and that is a verdict or none.
"$genarm" serve --port 0 --log-file log -m "$model" -c 4096 -np 2 >serve.out 2>&1 </dev/null &
servers+=($!)
for _ in $(seq 300); do
    own=$(sed -n 's#.*serving .* at \(http://[0-9.]*:[0-9]*\).*#\1#p' log 2>/dev/null)
    [ -z "$own" ] || break
    sleep 0.1
done
head -n 2 a.jsonl >a2.jsonl
head -n 2 b.jsonl >b2.jsonl
run 0 judge --judge "openai:small@$own" a2.jsonl b2.jsonl --judge-max-tokens 8 -o v.jsonl --json
json_true v.jsonl 'len(r) == 2 and all(x["verdict"] in ("a", "b", "tie", "invalid") and len(x["orders"]) == 2 for x in r)'
json_true out 'r[0]["requests"] - r[0]["retries"] == 4 and r[0]["refused"] == 0 and r[0]["prompt_tokens"] > 0 and r[0]["completion_tokens"] > 0'
finish
