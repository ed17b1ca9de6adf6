#!/usr/bin/env python3
"""A table and a figure of what guiding did to the two ground-truth rewards.

    demo_report.py FOLDER [-o FOLDER] [--check]

FOLDER holds one file of answers per setting, named by the ARMs' weights: "cheerful=1,concise=0.jsonl". The
one whose weights are all 0 is the base. Records are what `genarm generate --json` writes; read are
"prompt", "response" and, where present, "finish_reason". Answers of two files are compared prompt by
prompt, so every file must hold the same prompts (a prompt may occur several times).

Written to -o (default FOLDER): report.md (the table, also printed), report.svg (the figure), report.json
(the numbers). Intervals are 95 % bootstrap intervals over prompts: of the mean, or of the mean difference
to the base on the same prompts. With --check the exit status is 1 unless each ARM alone, at its largest
weight up to 1, raises its own reward with an interval above zero, and the two trade one for the other.

Needs vaderSentiment (through demo_reward.py), nothing else.
"""
import argparse
import json
import random
import re
import sys
from pathlib import Path

import demo_reward
from demo_reward import OBJECTIVES

RESAMPLES = 5000


def mean(values):
    return sum(values) / len(values)


def interval(values):
    """(mean, low, high): the mean and its 95 % percentile bootstrap interval, the same on every run."""
    rng = random.Random(len(values))
    means = sorted(mean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return mean(values), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def weights_of(path):
    """{objective: weight} from the file's name; None where it is not such a name."""
    weights = dict.fromkeys(OBJECTIVES, 0.0)
    for part in path.name[:-len(".jsonl")].split(","):
        match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)", part)
        if not match or match[1] not in weights:
            return None
        weights[match[1]] = float(match[2])
    return weights


class Setting:
    """The answers under one choice of weights, with their rewards in the order of keys."""

    def __init__(self, path):
        self.weights = weights_of(path)
        answers = {}  # (prompt, how many times it came before) -> (rewards, ended)
        seen = {}
        for number, record in demo_reward.read_jsonl(str(path)):
            prompt = record.get("prompt")
            if not isinstance(prompt, str):
                raise SystemExit(f'{path}:{number}: no string "prompt"')
            seen[prompt] = seen.get(prompt, -1) + 1
            ended = record.get("finish_reason") in (None, "stop")
            response = demo_reward.response_of(path, number, record)
            answers[prompt, seen[prompt]] = (demo_reward.rewards(response), ended)
        if not answers:
            raise SystemExit(f"{path}: no answers")
        self.keys = sorted(answers)
        self.rewards = {name: [answers[k][0][name] for k in self.keys] for name in OBJECTIVES}
        self.ended = mean([answers[k][1] for k in self.keys])
        self.means = {name: interval(self.rewards[name]) for name in OBJECTIVES}

    def gain(self, other, objective):
        """(mean, low, high) of this setting's reward minus the other's, prompt by prompt."""
        pairs = zip(self.rewards[objective], other.rewards[objective])
        return interval([a - b for a, b in pairs])

    def is_alone(self, objective):
        """Whether the ARM of this objective is the only one with a weight."""
        return self.weights[objective] > 0 and sum(w > 0 for w in self.weights.values()) == 1

    def short_label(self):
        """label(), but a mixture only as its weights in the order of OBJECTIVES."""
        mixed = sum(w > 0 for w in self.weights.values()) > 1
        return " : ".join(f"{w:g}" for w in self.weights.values()) if mixed else self.label()

    def label(self):
        if not any(self.weights.values()):
            return "base"
        return ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items() if weight)


def read_settings(folder):
    """(base, guided settings from all cheerful to all concise)."""
    paths = [p for p in sorted(folder.glob("*.jsonl")) if weights_of(p)]
    settings = [Setting(p) for p in paths]
    base = [s for s in settings if not any(s.weights.values())]
    if len(base) != 1 or len(settings) < 2:
        raise SystemExit(f"{folder}: needs one file with all weights 0 and at least one other, "
                         f"named like {','.join(f'{name}=0' for name in OBJECTIVES)}.jsonl")
    for setting, path in zip(settings, paths):
        if setting.keys != base[0].keys:
            raise SystemExit(f"{path}: its prompts are not those of the base's answers")
    guided = [s for s in settings if s is not base[0]]
    first, last = OBJECTIVES
    guided.sort(key=lambda s: (s.weights[last] / (s.weights[first] + s.weights[last]), s.weights[first]))
    return base[0], guided


def strongest_alone(guided, objective):
    """The setting with only this ARM at its largest weight up to 1, or None."""
    alone = [s for s in guided if s.is_alone(objective) and s.weights[objective] <= 1]
    return max(alone, key=lambda s: s.weights[objective], default=None)


def table(base, guided):
    """The Markdown table: rewards of every setting and their gain over the base."""
    def number(name, triple, sign=""):
        digits = ".2f" if name == "cheerful" else ".1f"
        return f"{triple[0]:{sign}{digits}} [{triple[1]:{sign}{digits}}, {triple[2]:{sign}{digits}}]"

    head = ["ARM weights"]
    for name in OBJECTIVES:
        head += [f"{name} [95 %]", "against base [95 %]"]
    lines = ["| " + " | ".join(head + ["ended by itself"]) + " |", "|---" * (len(head) + 1) + "|"]
    for setting in [base] + guided:
        cells = [setting.label()]
        for name in OBJECTIVES:
            gain = "" if setting is base else number(name, setting.gain(base, name), "+")
            cells += [number(name, setting.means[name]), gain]
        lines.append("| " + " | ".join(cells + [f"{setting.ended:.0%}"]) + " |")
    lines += ["", f"{len(base.keys)} held-out prompts. cheerful: mean VADER sentiment of the sentences, from -1 to 1. "
              "concise: minus the number of words."]
    return "\n".join(lines) + "\n"


def findings(base, guided):
    """[(sentence, whether it holds)] of what the demo promises."""
    found = []
    alone = {name: strongest_alone(guided, name) for name in OBJECTIVES}
    for name, setting in alone.items():
        if setting is None:
            found.append((f"no answers under the {name} ARM alone", False))
            continue
        value, low, high = setting.gain(base, name)
        found.append((f"{setting.label()} alone: {name} {value:+.2f} [{low:+.2f}, {high:+.2f}] against the base",
                      low > 0))
    if all(alone.values()):
        first, last = OBJECTIVES
        up, down = alone[first].gain(alone[last], first), alone[first].gain(alone[last], last)
        found.append((f"from {alone[last].label()} to {alone[first].label()}: {first} {up[0]:+.2f} "
                      f"[{up[1]:+.2f}, {up[2]:+.2f}], {last} {down[0]:+.1f} [{down[1]:+.1f}, {down[2]:+.1f}]",
                      up[1] > 0 > down[2]))
    return found


# --- the figure ---------------------------------------------------------------------------------------

STYLE = """<style>
text { font: 12px sans-serif; fill: #57606a } .title { font-weight: bold; font-size: 13px }
.axis { stroke: #8c959f; stroke-width: 1; fill: none } .grid { stroke: #8c959f; stroke-opacity: .25 }
.point { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
.sweep { stroke: #8c959f; stroke-width: 1.5; stroke-dasharray: 4 3; fill: none } .bar { stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #adbac7 } .point { stroke: #0d1117 } }
</style>"""
BASE_COLOUR, COLOURS = "#8c959f", ((0xE8, 0x8A, 0x1A), (0x2F, 0x81, 0xD7))  # cheerful, concise


def colour(setting):
    """Grey for the base, else between the objectives' colours by the share of the weights."""
    total = sum(setting.weights.values())
    if not total:
        return BASE_COLOUR
    share = setting.weights[OBJECTIVES[1]] / total
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*COLOURS))


class Scale:
    """Maps values to pixels, with round numbers for the ticks."""

    def __init__(self, low, high, start, end):
        raw = (high - low) / 4 or 1.0
        power = 10.0 ** int(f"{raw:e}".split("e")[1])
        self.step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        self.low, self.high = (low // self.step) * self.step, -((-high) // self.step) * self.step
        self.start, self.end = start, end

    def __call__(self, value):
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self):
        n = round((self.high - self.low) / self.step)
        values = [self.low + i * self.step for i in range(n + 1)]
        return [(value, f"{value:.10g}".replace("-", "−")) for value in values]


def line(x1, y1, x2, y2, css, stroke=""):
    paint = f' stroke="{stroke}"' if stroke else ""
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{paint}/>'


def text(x, y, words, anchor="start", css="", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}"{extra}>{words}</text>'


def plane(base, guided):
    """The trade: one objective on each axis, a point with two intervals per setting."""
    horizontal, vertical = OBJECTIVES[1], OBJECTIVES[0]
    everything = [base] + guided
    x = Scale(min(s.means[horizontal][1] for s in everything), max(s.means[horizontal][2] for s in everything), 60, 400)
    y = Scale(min(s.means[vertical][1] for s in everything), max(s.means[vertical][2] for s in everything), 290, 40)
    out = [text(60, 22, "Two weights, cheerful : concise", css="title")]
    for value, label in x.ticks():
        out += [line(x(value), 40, x(value), 290, "grid"), text(x(value), 307, label, "middle")]
    for value, label in y.ticks():
        out += [line(60, y(value), 400, y(value), "grid"), text(54, y(value) + 4, label, "end")]
    out += [text(230, 326, "concise: −words of an answer →", "middle"),
            text(16, 165, "cheerful: sentiment of a sentence →", "middle", extra=' transform="rotate(-90 16 165)"')]
    points = " ".join(f"{x(s.means[horizontal][0]):.1f},{y(s.means[vertical][0]):.1f}" for s in guided)
    out.append(f'<polyline class="sweep" points="{points}"/>')
    for setting in everything:
        (cx, x1, x2), (cy, y1, y2), paint = setting.means[horizontal], setting.means[vertical], colour(setting)
        out += [line(x(x1), y(cy), x(x2), y(cy), "bar", paint), line(x(cx), y(y1), x(cx), y(y2), "bar", paint),
                f'<circle cx="{x(cx):.1f}" cy="{y(cy):.1f}" r="5" fill="{paint}"/>']
        left = x(cx) > 320
        out.append(text(x(cx) + (-8 if left else 8), y(cy) - 8, setting.short_label(), "end" if left else "start", "point"))
    return out


def bars(base, guided, objective, top, title):
    """Horizontal bars of one objective: the base and each ARM alone, with intervals."""
    shown = [base] + [s for s in (strongest_alone(guided, name) for name in OBJECTIVES) if s]
    lows, highs = [s.means[objective][1] for s in shown], [s.means[objective][2] for s in shown]
    x = Scale(min(0.0, *lows), max(0.0, *highs), 530, 750)
    out = [text(450, top, title, css="title")]
    bottom = top + 14 + 26 * len(shown)
    for value, label in x.ticks():
        out += [line(x(value), top + 10, x(value), bottom, "grid"), text(x(value), bottom + 15, label, "middle")]
    for i, setting in enumerate(shown):
        y, (value, low, high) = top + 16 + 26 * i, setting.means[objective]
        left, right = sorted((x(0.0), x(value)))
        out += [f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="16" fill="{colour(setting)}" '
                f'fill-opacity=".75"/>', line(x(low), y + 8, x(high), y + 8, "axis"),
                line(x(low), y + 4, x(low), y + 12, "axis"), line(x(high), y + 4, x(high), y + 12, "axis"),
                text(524, y + 12, setting.label(), "end")]
    return out + [line(x(0.0), top + 10, x(0.0), bottom, "axis")]


def figure(base, guided):
    """The figure as SVG text, readable on a light and on a dark page."""
    parts = plane(base, guided)
    parts += bars(base, guided, OBJECTIVES[0], 22, "cheerful: sentiment of a sentence, mean")
    parts += bars(base, guided, OBJECTIVES[1], 180, "concise: −words of an answer, mean")
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 340" width="780" height="340" role="img" '
            'aria-label="Ground-truth rewards of unguided and guided answers">\n'
            + STYLE + "\n" + "\n".join(parts) + "\n</svg>\n")


def numbers(base, guided):
    """What report.json holds."""
    def triples(make):
        return {name: [round(v, 4) for v in make(name)] for name in OBJECTIVES}

    return [{"weights": s.weights, "n": len(s.keys), "ended": round(s.ended, 4),
             "rewards": triples(lambda name, s=s: s.means[name]),
             "gain": triples(lambda name, s=s: s.gain(base, name))} for s in [base] + guided]


def main():
    parser = argparse.ArgumentParser(description="table and figure of guided answers' ground-truth rewards")
    parser.add_argument("folder", type=Path, help="answer files named like cheerful=1,concise=0.jsonl")
    parser.add_argument("-o", "--output", type=Path, help="where report.* go (default: the folder)")
    parser.add_argument("--check", action="store_true", help="exit 1 unless guiding did what it should")
    args = parser.parse_args()
    base, guided = read_settings(args.folder)
    output = args.output or args.folder
    output.mkdir(parents=True, exist_ok=True)
    found = findings(base, guided)
    report = table(base, guided) + "\n" + "".join(f"- {'yes' if ok else 'NO'}: {what}\n" for what, ok in found)
    print(report, end="")
    (output / "report.md").write_text(report, encoding="utf-8")
    (output / "report.svg").write_text(figure(base, guided), encoding="utf-8")
    (output / "report.json").write_text(json.dumps(numbers(base, guided), indent=1) + "\n", encoding="utf-8")
    if args.check and not all(ok for _, ok in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
