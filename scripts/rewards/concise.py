#!/usr/bin/env python3
"""The reward `concise` of data/demo as a program for `cmd:`: minus the number of words.

    genarm score --answers answers.jsonl --reward "cmd:concise=python3 scripts/rewards/concise.py"
"""
import lines

lines.need("vaderSentiment")
import demo_reward  # noqa: E402

if __name__ == "__main__":
    lines.answer_lines(lambda request: demo_reward.concise(request["response"]))
