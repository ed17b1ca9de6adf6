# genarm report: a page of a real run, found by its log, its adapter or its checkpoint; several
# runs with what differs; logs that are torn, old, broken, hostile or long.
. "$(dirname "$0")/../support/cli.sh"

# Everything in a page is closed, nothing is fetched or run, every chart has a label and a table;
# the charts are XML of their own.
cat >page.py <<'END_PYTHON'
import html.parser, re, sys
import xml.etree.ElementTree as tree
text = open(sys.argv[1], encoding="utf-8").read()
class Page(html.parser.HTMLParser):
    void = {"meta", "br", "rect", "path", "circle"}
    stack, seen = [], {}
    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        for name, value in attrs:
            assert not name.startswith("on") and name not in ("src", "href"), (tag, name)
        if tag not in self.void:
            self.stack.append(tag)
    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.stack.pop() == tag, tag
page = Page()
page.feed(text)
page.close()
assert not page.stack, page.stack
assert "script" not in page.seen and "img" not in page.seen and "link" not in page.seen, page.seen
assert "url(" not in text and "@import" not in text
charts = re.findall(r"<figure.*?</figure>", text, re.S)
assert len(charts) == int(sys.argv[2]), len(charts)
for chart in charts:
    svg = tree.fromstring(chart[chart.index("<svg"):chart.index("</svg>") + 6])
    ns = "{http://www.w3.org/2000/svg}"
    assert svg.find(ns + "title").text and svg.find(ns + "desc").text and svg.get("role") == "img"
    assert "<table" in chart
ids = re.findall(r' id="([^"]*)"', text)
assert len(ids) == len(set(ids))
END_PYTHON
page() { check "the page is whole: $1" python3 page.py "$@"; }

# A run, named by its log, by its adapter, and by its checkpoint.
python3 - >pairs.jsonl <<'END_PYTHON'
import json
for i in range(40):
    print(json.dumps({"prompt": f"{i}: what about {i * i}?", "chosen": f"Wonderful! I love {i}!", "rejected": f"Bad. I hate {i}."}))
print(json.dumps({"prompt": "p", "chosen": "same", "rejected": "same"}))
END_PYTHON
settings=(train -m "$tiny" -d pairs.jsonl --lora-rank 2 --batch-size 4 --save-every 1 --val-split 0.2)
run 0 "${settings[@]}" -o arm.gguf --log first.jsonl --epochs 3
json_true first.jsonl 'r[0]["run"]["options"]["loss"] == "arm" and r[0]["run"]["options"]["lora_rank"] == 2'
json_true first.jsonl 'r[0]["run"]["pairs"]["read"] == 41 and r[0]["run"]["pairs"]["dropped: chosen equals rejected"] == 1'
json_true first.jsonl 'r[0]["run"]["data"] == [{"path": "pairs.jsonl", "pairs": 40}] and r[0]["run"]["output"] == "arm.gguf"'
json_true first.jsonl '0 < r[0]["run"]["tokens"]["chosen"]["mean"] <= r[0]["run"]["tokens"]["chosen"]["max"]'
run 0 info "$tiny" --json
fingerprint=$(json out 'r[0]["fingerprint"]')
json_true first.jsonl "r[0]['run']['model']['fingerprint'] == '$fingerprint'"
run 0 report first.jsonl
says out "first.html: 1 run, 7 curves"
page first.html 7
says first.html "Loss, held out"
says first.html "Rewards of the responses"
says first.html "rejected, held out"
says first.html "pairs.jsonl"
cp first.html kept.html
run 0 report arm.gguf -o by_adapter.html --svg curves.svg
says err "the log of arm.gguf is first.jsonl"
same first.html kept.html
page by_adapter.html 7
check "the picture is XML" python3 -c 'import xml.etree.ElementTree as t; t.parse("curves.svg")'
says curves.svg prefers-color-scheme

# Stopped and resumed: the page says where; the checkpoint names the run.
set -m
"$genarm" "${settings[@]}" -o stopped.gguf --log second.jsonl --epochs 60 >out 2>err </dev/null &
pid=$!
for _ in $(seq 600); do
    [ "$(cat second.jsonl 2>/dev/null | wc -l)" -lt 8 ] || break
    sleep 0.05
done
kill -s TERM $pid
status=0
wait $pid || status=$?
set +m
check "stopped with 143 ($status)" [ "$status" = 143 ]
run 0 report stopped.gguf.ckpt/
says out "stopped.html"
says err "is second.jsonl"
page stopped.html 7
run 0 "${settings[@]}" -o stopped.gguf --log second.jsonl --epochs 60 --resume
json_true second.jsonl '[x["step"] for x in r if "loss" in x] == list(range(1, r[0]["run"]["steps"] + 1))'
json_true second.jsonl 'sum("run" in x for x in r) == 1 and sum("resumed" in x for x in r) == 1'
run 0 report second.jsonl
says second.html "the run was stopped and went on after step"

# Several runs: one chart for each curve, and what differs.
run 0 "${settings[@]}" -o other.gguf --log other.jsonl --epochs 2 --beta 0.1
run 0 report first.jsonl other.jsonl -o both.html --title '<b>Two & more</b>'
says out "2 runs, 7 curves"
page both.html 7
says both.html "What differs"
says both.html "Options: beta"
says both.html "&lt;b&gt;Two &amp; more&lt;/b&gt;"
mkdir a b
cp first.jsonl a/log.jsonl
cp other.jsonl b/log.jsonl
run 0 report a/log.jsonl b/log.jsonl -o folders.html
says folders.html ">a/log<"

# Adapters without a log.
"$(dirname "$genarm")/tests/write_adapter" "$model" alone.gguf 1
run 1 report alone.gguf
says err "alone.gguf: no log beside it"
says err "hint: name the file that genarm train --log wrote"
run 1 report a
says err "no checkpoint"
run 1 report nowhere.jsonl
says err "nowhere.jsonl"
run 2 report
run 2 report first.jsonl -o first.jsonl
says err "is read as well"
run 2 report first.jsonl -o x.html --svg x.html

# Torn, old, empty and broken logs.
cp first.jsonl torn.jsonl
printf '{"step": 99, "lo' >>torn.jsonl
run 0 report torn.jsonl
says err "torn.jsonl:$(wc -l <first.jsonl | awk '{print $1 + 1}'): the last line is cut off"
says torn.html "is cut off"
page torn.html 7
grep -v '"run"' first.jsonl >old.jsonl
run 0 report old.jsonl
says old.html "does not say how the run was configured"
page old.html 7
refuse() { # WHERE WHAT FILE
    run 1 report "$3" -o never.html
    says err "genarm: error: $1"
    says err "$2"
    check "no page is left" [ ! -e never.html ]
}
: >empty.jsonl
refuse empty.jsonl "no numbers yet" empty.jsonl
printf '{"step": 1, "loss": 1}\n{"step": 2, "lo\n{"step": 3, "loss": 1}\n' >broken.jsonl
refuse broken.jsonl:2 "broken JSON" broken.jsonl
printf '{"step": 1, "loss": 1}\n{"step": 2, "lo\n' >broken.jsonl
refuse broken.jsonl:2 "broken JSON" broken.jsonl
printf '{"step": 1, "loss": 1}\n[1]\n' >list.jsonl
refuse list.jsonl:2 "no JSON object" list.jsonl
printf '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1}\n' >nan.jsonl
refuse nan.jsonl:1 "broken JSON" nan.jsonl
refuse pairs.jsonl:1 'has no "step"' pairs.jsonl
cat first.jsonl first.jsonl >twice.jsonl
refuse "twice.jsonl:$(wc -l <first.jsonl | awk '{print $1 + 1}')" "a second run begins" twice.jsonl
cat old.jsonl old.jsonl >twice.jsonl
refuse "twice.jsonl:" "comes after step" twice.jsonl

# A log of reinforcement learning, with keys that nobody knows, some of them hostile.
python3 - <<'END_PYTHON'
import json
evil = '</title></svg><script>alert(1)</script>" onload="x'
with open("rl.jsonl", "w") as f:
    f.write(json.dumps({"run": {"command": "rl", evil: evil, "model": {"name": evil}, "data": [{"path": evil, "pairs": 3}]}}) + "\n")
    for i in range(1, 201):
        f.write(json.dumps({"step": i, "reward": i / 200, "rewards": {"joy": i / 100, evil: -i}, "kl": i / 50, "reward_std": 1,
                            "length": 90, "finished": 0.5, "entropy": 2, evil: 1, "text": "not a number"}) + "\n")
END_PYTHON
run 0 report rl.jsonl
page rl.html 9
says rl.html "Reward against KL"
says rl.html "Rewards by source"
says rl.html ">entropy<"
cp rl.jsonl "<i>&.jsonl"
run 0 report "<i>&.jsonl" -o hostile.html
page hostile.html 9
says hostile.html "&lt;i&gt;&amp;"

# Long logs make no long pages; peaks stay.
python3 - >long.jsonl <<'END_PYTHON'
for i in range(1, 200001):
    print(f'{{"step":{i},"loss":{1000 if i == 77777 else i % 7},"grad_norm":{1 + i % 5}}}')
END_PYTHON
run 0 report long.jsonl
page long.html 2
check "the page is small ($(wc -c <long.html) bytes)" [ "$(wc -c <long.html)" -lt 200000 ]
says long.html ">1000</text>"
finish
