#!/usr/bin/env python3
"""A judge of cheerfulness for `pairwise:` that shares nothing with the reward: another lexicon, and another way to count.

    genarm judge --judge "pairwise:afinn=python3 scripts/rewards/afinn_judge.py" guided.jsonl base.jsonl

AFINN (Nielsen, 2011) gives about 3400 English words a valence from -5 to 5. Compared is the valence per word of the whole
answer, so that neither length nor the number of sentences helps; answers closer than --tie are equal.
"""
import argparse

import lines

afinn = lines.need("afinn")
TIE = 0.02  # valence per word: one friendly word (2) in a hundred


def valence(lexicon, text):
    """AFINN's valence per word; 0 for an answer without a word."""
    n_words = len(text.split())
    return lexicon.score(text) / n_words if n_words else 0.0


def main():
    parser = argparse.ArgumentParser(description="which of two answers has the higher AFINN valence per word")
    parser.add_argument("--tie", type=float, default=TIE, help="difference up to which two answers are equal")
    args = parser.parse_args()
    lexicon = afinn.Afinn()

    def verdict(request):
        gap = valence(lexicon, request["a"]) - valence(lexicon, request["b"])
        return {"verdict": "tie" if abs(gap) <= args.tie else "a" if gap > 0 else "b"}

    lines.answer_lines(verdict)


if __name__ == "__main__":
    main()
