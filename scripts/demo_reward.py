#!/usr/bin/env python3
"""The demo's two ground-truth rewards of an answer.

    demo_reward.py [FILE ...] <answers.jsonl        # one JSON object a line with "response"

prints one line {"cheerful": x, "concise": y} for every record, in order.

cheerful  mean over the answer's sentences of VADER's compound sentiment, in [-1, 1]. The mean, because
          the compound of a whole text grows with its length and saturates at 1.
concise   minus the number of words. An answer cut off at the length limit counts as long as it got.

Neither looks at the model: they are what the demo's reward models have to learn from pairs.
Needs vaderSentiment (scripts/requirements-demo.txt), nothing else.
"""
import argparse
import json
import re
import sys

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

OBJECTIVES = ("cheerful", "concise")

# A sentence ends with . ! or ? (and a closing quote or bracket) before white space, or with a line break.
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
# "1." and "-" at the start of a line are marks of a list, not sentences.
LIST_MARK = re.compile(r"(?m)^\s*(?:\d+[.)]|[-*•])\s+")

_analyzer = None


def sentences(text):
    """The sentences of text, those without a letter left out."""
    parts = SENTENCE_END.split(LIST_MARK.sub("", text))
    return [p.strip() for p in parts if any(c.isalpha() for c in p)]


def cheerful(text):
    """Mean VADER compound of the sentences, in [-1, 1]; 0 for an answer without a word."""
    global _analyzer
    if _analyzer is None:
        _analyzer = SentimentIntensityAnalyzer()
    found = sentences(text)
    if not found:
        return 0.0
    return sum(_analyzer.polarity_scores(s)["compound"] for s in found) / len(found)


def concise(text):
    """Minus the number of words, at most 0."""
    return -float(len(text.split()))


def rewards(text):
    """{objective: reward} of one answer."""
    return {"cheerful": cheerful(text), "concise": concise(text)}


def read_jsonl(path):
    """The objects of a JSONL file ("-": standard input); an error names the file and the line."""
    stream = sys.stdin if path == "-" else open(path, encoding="utf-8")
    with stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise SystemExit(f"{path}:{number}: not JSON: {error}")
            if not isinstance(record, dict):
                raise SystemExit(f"{path}:{number}: not a JSON object")
            yield number, record


def response_of(path, number, record):
    """The record's "response"; an error that says which record lacks it."""
    response = record.get("response")
    if not isinstance(response, str):
        raise SystemExit(f'{path}:{number}: no string "response"')
    return response


def main():
    parser = argparse.ArgumentParser(description="ground-truth rewards of answers, one line of JSON each")
    parser.add_argument("files", nargs="*", default=["-"], help='JSONL with "response" (default: standard input)')
    for path in parser.parse_args().files:
        for number, record in read_jsonl(path):
            scores = rewards(response_of(path, number, record))
            print(json.dumps({name: round(value, 4) for name, value in scores.items()}))


if __name__ == "__main__":
    main()
