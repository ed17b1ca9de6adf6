#!/usr/bin/env python3
"""Makes tests/golden/alpaca.json: annotations and the win rates that the package alpaca_eval computes of them.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/requirements-alpaca.txt
    VENV/bin/python scripts/make_alpaca_golden.py [--check]

The annotations are random numbers: preferences drawn from a logistic model with known strength, length bias and
difficulties of prompts, some of them draws, some missing. The package's own functions compute everything from them; only its
download of the table of gamed baselines is replaced by a random table of the same form. --check compares with the file
that is there instead of writing it. tests/golden/README.md describes the file.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import pandas as pd
from alpaca_eval.metrics import glm_winrate

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "alpaca.json"
N_PROMPTS = 120


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    glm: str  # of the package's GLM_INFO
    theta: float  # strength of the model over the baseline, log-odds
    phi: float  # how much the judge likes length
    psi: float  # by difficulty
    longer: float  # mean of log(length / baseline's length)
    spread: float  # its standard deviation
    sure: float = 1.0  # 1: preferences are probabilities; larger: closer to 0 and 1
    hard: bool = False  # preferences are 1, 2 or a draw
    missing: int = 0  # preferences that are NaN


CASES = (
    Case("weak, short, soft", "length_controlled_v1", -1.5, -1.5, 0.8, -0.4, 0.5),
    Case("strong, long, nearly sure", "length_controlled_v1", 1.0, -2.0, 0.5, 0.8, 0.6, sure=3),
    Case("even, hard verdicts, draws", "length_controlled_v1", 0.0, -1.0, 0.5, 0.2, 0.4, hard=True, missing=7),
    Case("hopeless", "length_controlled_v1", -6.0, 0.0, 0.0, 0.0, 0.3, sure=2),
    Case("without gamed baselines", "length_controlled_noreg", 0.7, -1.2, 1.0, 0.5, 0.5, hard=True),
    Case("without gamed baselines, missing", "length_controlled_noreg", -0.3, -0.6, 0.4, -0.3, 0.3, missing=11),
    Case("without difficulties", "length_controlled_minimal", 0.4, -1.4, 0.9, 0.6, 0.5, hard=True, missing=3),
    Case("without difficulties, soft", "length_controlled_minimal", -0.8, 1.0, 0.0, 0.1, 0.8, sure=2),
)


def sigma(z):
    return 1 / (1 + np.exp(-z))


def draw_gamed(rng, difficulty):
    """The table of the baseline told to be concise and to be verbose, in the package's columns."""
    tables = []
    for name, theta, delta in (("concise", -0.3, 1.2), ("verbose", 0.2, -0.9)):
        std_delta = rng.normal(delta, 0.7, N_PROMPTS)
        z = theta - 1.5 * np.tanh(std_delta) + 0.3 * difficulty + rng.normal(0, 1.5, N_PROMPTS)
        tables.append(pd.DataFrame({
            "model": name, "preference": sigma(z).round(6), "index": range(N_PROMPTS), "std_delta_len": std_delta.round(6),
            "instruction_difficulty": difficulty, "not_gamed_baseline": False}))
    return pd.concat(tables, axis=0, ignore_index=True)


def draw_annotations(rng, case, difficulty):
    baseline = np.exp(rng.normal(6, 0.6, N_PROMPTS)).astype(int) + 1
    length = (baseline * np.exp(rng.normal(case.longer, case.spread, N_PROMPTS))).astype(int) + 1
    delta = baseline - length
    z = case.theta + case.phi * np.tanh(delta / delta.std(ddof=1)) + case.psi * difficulty
    p = sigma(case.sure * (z + rng.normal(0, 0.7, N_PROMPTS)))
    if case.hard:
        p = (rng.random(N_PROMPTS) < p).astype(float)
        p[rng.choice(N_PROMPTS, 6, replace=False)] = 0.5
    preference = (1 + p).round(6)
    if case.hard:
        preference[np.flatnonzero(preference == 1.5)[:3]] = 0  # the older code of a draw
    preference[rng.choice(N_PROMPTS, case.missing, replace=False)] = np.nan
    return pd.DataFrame({"index": range(N_PROMPTS), "preference": preference, "length": length, "baseline_length": baseline})


def annotate(rows):
    """What the package reads: texts, of which only the lengths matter. Some characters take several bytes."""
    frame = pd.DataFrame({
        "preference": rows["preference"], "output_1": ["é" * n for n in rows["baseline_length"]],
        "output_2": ["x" * n for n in rows["length"]], "generator_1": "baseline", "generator_2": "model",
        "annotator": "none"})
    frame.index = rows["index"]
    frame.index.name = "index"
    return frame


def none_for_nan(values):
    return [None if isinstance(x, float) and np.isnan(x) else x for x in values]


def compute(case, rows, folder):
    weights = folder / case.name.replace(" ", "-")
    weights.mkdir()
    metrics = glm_winrate.get_length_controlled_winrate(
        annotate(rows), glm_name=case.glm, save_weights_dir=weights, is_warn_extreme_changes=False)
    coefficients = pd.read_csv(next(weights.glob("*/*.csv")), index_col=0).iloc[0]
    return {
        "name": case.name,
        "gamed": glm_winrate.GLM_INFO[case.glm]["regularize_to_baseline_lambda"] is not None,
        "difficulty": "instruction_difficulty" in glm_winrate.GLM_INFO[case.glm]["formula"],
        "win_rate": float(metrics["win_rate"]),
        "standard_error": float(metrics["standard_error"]),
        "n_wins": int(metrics["n_wins"]), "n_wins_base": int(metrics["n_wins_base"]), "n_draws": int(metrics["n_draws"]),
        "length_controlled_winrate": float(metrics["length_controlled_winrate"]),
        "lc_standard_error": float(metrics["lc_standard_error"]),
        "phi": float(coefficients["np.tanh(std_delta_len)"]),
        "psi": float(coefficients.get("instruction_difficulty", 0.0)),
        "theta": float(coefficients["not_gamed_baseline.astype(float)"]),
        "preference": none_for_nan(rows["preference"].tolist()),
        "length": rows["length"].tolist(), "baseline_length": rows["baseline_length"].tolist(),
    }


def make():
    rng = np.random.default_rng(2404_04475)
    difficulty = rng.normal(0.3, 1, N_PROMPTS).round(6)
    gamed = draw_gamed(rng, difficulty)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        gamed.to_csv(folder / "gamed.csv", index=False)
        glm_winrate.hf_hub_download = lambda **_: str(folder / "gamed.csv")
        cases = [compute(case, draw_annotations(rng, case, difficulty), folder) for case in CASES]
    return {
        "difficulty": difficulty.tolist(),
        "gamed": {"preference": gamed["preference"].tolist(), "std_delta": gamed["std_delta_len"].tolist(),
                  "difficulty": gamed["instruction_difficulty"].tolist()},
        "cases": cases,
    }


def differences(made, there):
    """Texts that say what is not as in the file."""
    for a, b in zip(made["cases"], there["cases"], strict=True):
        for key in a:
            close = a[key] == b[key] if not isinstance(a[key], float) else abs(a[key] - b[key]) < 0.01
            if not close:
                yield f"{a['name']}: {key} is {a[key]}, in the file {b[key]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the file that is there")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    made = make()
    if args.check:
        wrong = list(differences(made, json.loads(OUTPUT.read_text())))
        print("\n".join(wrong) or f"{OUTPUT.name} is what the package computes")
        sys.exit(bool(wrong))
    lines = [f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in made.items() if key != "cases"]
    cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in made["cases"])
    OUTPUT.write_text("{" + ",\n".join(lines) + ',\n"cases":[\n' + cases + "\n]}\n")


if __name__ == "__main__":
    main()
