# The experiment in maths: its reward program through genarm, and that the bundled pairs and prompts are what they are said to be.
. "$(dirname "$0")/../support/cli.sh"
export PYTHONDONTWRITEBYTECODE=1
reward="cmd:python3 '$source_dir/scripts/rewards/maths.py'"
solved() { # WANT PROBLEM RESPONSE
    run 0 score -m "$tiny" -p "$2" -r "$3" --reward "$reward" --json
    json_true out "list(r[0]['trajectory'].values()) == [$1]"
}
solved 1 "What is 6 + 7?" "6 + 7 = 13"
solved 0 "What is 6 + 7?" "6 + 7 = 14"
solved 1 "Mia has 15 pens and gives 6 away. How many pens are left?" "The answer is 9. That is 2 fewer than 11."
solved 0 "Mia has 4 pens and gets 5 more. How many pens does Mia have now?" "No idea"
run 1 score -m "$tiny" -p "What is love?" -r "42" --reward "$reward"
says err "no problem that can be checked: 'What is love?'"

python3 - "$source_dir" >out 2>&1 <<'END' || fail "maths.py or its data" out
import json, re, sys
sys.path[:0] = [f"{sys.argv[1]}/scripts/rewards"]
import maths

for response, number in [("13", 13), ("6 + 7 = 13.", 13), ("Answer: 1,300 pens", 1300), ("It is -5", -5), ("12 - 5 = 7", 7),
                         ("13 is the answer", 13), ("Answer: 12. Or 13?", 12), ("half of 7 is 3.5", 3.5), ("None.", None), ("", None)]:
    assert maths.final_number(response) == number, response
assert maths.solve("Mia has 4 pens and gets 5 more. How many cards does Mia have now?") is None
assert maths.solve("What is 6 + 7? Or 8?") is None

def records(name):
    with open(f"{sys.argv[1]}/experiments/data/maths.{name}.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

def key(text): # what is added or subtracted, in whatever words
    return maths.KINDS[maths.solve(text)[0]][0], *sorted(map(int, re.findall(r"\d+", text)))

seen = {}
for name in "train", "test":
    for r in records(name):
        question = r["prompt"][-1]["content"]
        assert maths.reward(question, r["chosen"][0]["content"]) == 1, r
        assert maths.reward(question, r["rejected"][0]["content"]) == 0, r
        seen.setdefault(name, set()).add(key(question))
prompts = records("prompts")
seen["prompts"] = {key(r["messages"][-1]["content"]) for r in prompts}
assert len(prompts) == 200 and len({r["messages"][-1]["content"] for r in prompts}) == 200
assert not (seen["train"] & seen["test"] or seen["train"] & seen["prompts"] or seen["test"] & seen["prompts"])
END
finish
