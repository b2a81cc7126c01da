#!/usr/bin/env python3
"""near.py BOUND LOGITS TOKENS OTHER_LOGITS OTHER_TOKENS: whether two greedy continuations of one prompt are the same but for ties.

Logits are rows of f32 for the tokens that were drawn, tokens a list as JSON.  Rows are compared up to the first token that differs:
no number is off by more than BOUND times the largest of its row, and where tokens differ, the two best of the first continuation are
as near as twice that, so that either is right.  Prints what it found; exit 1 where they are not."""
import array
import json
import math
import sys


def rows(logits, tokens):
    with open(logits, "rb") as f:
        numbers = array.array("f", f.read())
    ids = json.loads(tokens)
    width = len(numbers) // len(ids)
    return ids, [numbers[i * width : (i + 1) * width] for i in range(len(ids))]


def main():
    bound = float(sys.argv[1])
    ids, first = rows(sys.argv[2], sys.argv[3])
    others, second = rows(sys.argv[4], sys.argv[5])
    if len(ids) != len(others) or len(first[0]) != len(second[0]):
        return f"{len(ids)} tokens against {len(others)}", 1
    worst = 0.0
    for i, (a, b) in enumerate(zip(first, second)):
        most = max(map(abs, a))
        off = max(abs(x - y) if math.isfinite(y) else math.inf for x, y in zip(a, b)) / most
        worst = max(worst, off)
        if not off <= bound:
            return f"logits of token {i} are off by {off:.2g} of the largest, more than {bound:g}", 1
        if ids[i] != others[i]:
            best, next_best = sorted(a, reverse=True)[:2]
            gap = (best - next_best) / most
            said = f"logits off by {worst:.2g}, a tie at token {i}: {gap:.2g} apart"
            return said, 0 if gap <= 2 * bound else 1
    return f"logits off by {worst:.2g}", 0


text, code = main()
print(text)
sys.exit(code)
