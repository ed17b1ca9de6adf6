#!/usr/bin/env python3
"""The reward `cheerful` of data/demo as a program for `cmd:`: VADER's sentiment, the mean over an answer's sentences, in [-1, 1].

    genarm score --answers answers.jsonl --reward "cmd:cheerful=python3 scripts/rewards/cheerful.py"
"""
import lines

lines.need("vaderSentiment")
import demo_reward  # noqa: E402

if __name__ == "__main__":
    lines.answer_lines(lambda request: demo_reward.cheerful(request["response"]))
