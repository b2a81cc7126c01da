#!/usr/bin/env python3
"""check_paper.py FOLDER: what the rows of paper.sh say, as tables; and whether they keep what README.md claims.

Loss above dense is paired: the mean of the differences token by token, and its standard error."""
import json
import math
import os
import sys

folder = sys.argv[1] if len(sys.argv) > 1 else "build/paper"
passed = failed = 0


def check(good, text):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED:", text)


def rows(kind):
    path = os.path.join(folder, kind + ".jsonl")
    if not os.path.exists(path):
        return []
    return [json.loads(line) for line in open(path)]


def pick(table, **want):
    return [r for r in table if all(r.get(k) == v for k, v in want.items())]


def one(table, **want):
    found = pick(table, **want)
    check(len(found) == 1, f"{len(found)} rows of {want}, not one")
    return found[0] if found else None


def mean_se(x):
    mean = sum(x) / len(x)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in x) / (len(x) - 1) / len(x))


ppl = [r for r in rows("ppl") if r["length"] == 8192 and r["tokens"] == 512]
texts = ["kjv.txt", "python.txt", "manual.txt"]
# name, settings of the row
methods = [
    ("sketch, 2 bits, union of 176", dict(attention="radar", scorer="sketch", sketch_bits=2, budget=176)),
    ("sketch, 2 bits, union of 352", dict(attention="radar", scorer="sketch", sketch_bits=2, budget=352)),
    ("sketch, 2 bits, union of 704", dict(attention="radar", scorer="sketch", sketch_bits=2, budget=704)),
    ("sketch, 1 bit, union of 352", dict(attention="radar", scorer="sketch", sketch_bits=1, budget=352)),
    ("sketch, 4 bits, union of 352", dict(attention="radar", scorer="sketch", sketch_bits=4, budget=352)),
    ("exact masses (oracle), union of 352", dict(attention="radar", scorer="exact", budget=352, share="group", pick="top")),
    ("exact masses (oracle), per head 512", dict(attention="radar", scorer="exact", budget=512, share="head")),
    ("mean + 3 outliers, per head 512", dict(attention="radar", scorer="outlier", budget=512, share="head")),
    ("mean, segments of 32, per head 512", dict(attention="radar", scorer="mean", segment=32, budget=512, share="head")),
    ("min/max (Quest), per head 512", dict(attention="radar", scorer="minmax", budget=512, share="head")),
    ("random features, pairs, 32 d, segments of 32, per head 512", dict(attention="radar", scorer="rf", segment=32, budget=512, share="head")),
    ("streaming, window 256", dict(attention="streaming", window=256)),
    ("streaming, window 768", dict(attention="streaming", window=768)),
    ("streaming, window 1024", dict(attention="streaming", window=1024)),
    ("h2o, 384 + 384", dict(attention="h2o", budget=512)),
    ("snapkv, 768 of the prompt", dict(attention="snapkv", budget=512)),
    ("subgen, 512 samples", dict(attention="subgen", budget=512)),
]
dense = {t: one(ppl, text=t, attention="dense") for t in texts}
above = {}
print("loss above dense, last 512 of 8,192 tokens, nats a token +- standard error (paired); dense",
      ", ".join(f"{t} {dense[t]['nll_mean']:.4f}" for t in texts if dense[t]))
print(f"{'':60s} {'tokens':>7s} {'MB/step':>8s} {'kjv':>8s} {'python':>8s} {'manual':>8s} {'all':>15s}")
for name, want in methods:
    per, all_, tokens, size = [], [], 0, 0
    for t in texts:
        r = one(ppl, text=t, **want)
        if r is None or dense[t] is None:
            continue
        d = [a - b for a, b in zip(r["nll"], dense[t]["nll"])]
        per.append(sum(d) / len(d))
        all_ += d
        tokens += r["attended_tokens_mean"] / len(texts)
        size += r["bytes_per_step"] / len(texts)
    if len(per) == len(texts):
        above[name] = mean_se(all_)
        print(f"{name:60s} {tokens:7.0f} {size / 1e6:8.1f} {per[0]:8.4f} {per[1]:8.4f} {per[2]:8.4f} {above[name][0]:8.4f} +-{above[name][1]:.4f}")



def beside(table, full, title):
    print("\n" + title)
    for r in table:
        d = [a - b for a, b in zip(r["nll"], full["nll"])]
        name = f"{r['scorer'] if r['attention'] == 'radar' else r['attention']}, k = {r['segments'] or 'auto'}"
        if r["scorer"] == "rf":
            name += f", n = {r['rf_features'] or 1024}{', centred' if r['rf_center'] else ''}, b = {r['rf_temper']:g}"
        if r["pick"] not in ("top", ""):
            name += f", {r['pick']} segments"
        mean, se = mean_se(d)
        print(f"{name:60s} {r['attended_tokens_mean']:7.0f} {r['bytes_per_step'] / 1e6:8.1f} {mean:8.4f} +-{se:.4f}")


short = [r for r in rows("ppl") if r["text"] == texts[2] and r["length"] == 4096 and r["tokens"] == 256]
whole = one(short, attention="dense")
if whole:
    beside([r for r in short if r is not whole], whole, "256 tokens behind 3,840 of the manual: Radar as published, strategies, n and k")

print("\ntime of a decode step (one row at a time), ms, and loss")
for r in rows("ppl"):
    if r["batch"] == 1:
        print(f"{r['attention']:8s} {r['scorer'] or '':8s} {r['length']:6d} {r['ms_per_token']:8.2f} ms {r['nll_mean']:8.4f}")

print("\nrecall")
recall = rows("recall")
for r in recall:
    known = r["recall_mean"] is not None
    print(f"{r['attention']:10s} {r['scorer'] or '':8s}", " ".join(
        f"{k} {r[k]:.3f}" for k in (("recall_mean", "hit1", "hit3", "list_mass") if known else ()) + ("mass", "error")))
scored = [r for r in recall if r["recall_mean"] is not None]
exact = one(scored, scorer="exact")
check(exact and exact["recall_mean"] == 1 and exact["hit1"] == 1, "exact scores recall everything")
check(exact and all(r["list_mass"] <= exact["list_mass"] for r in scored), "no scorer's list covers more mass than exact's")

print("\nestimated minus true share of the softmax mass, sketch")
for r in rows("calibrate"):
    print(f"{r['text']:12s} {r['length']:6d} bias {r['bias']:.4f} median {r['error_median']:.4f} p95 {r['error_p95']:.4f} worst {r['error_worst']:.3f}")

print("\nhidden facts: loss per digit +- se, share of facts with every digit right")
needle = [r for r in rows("needle") if r["questions"] == 30]
for r in needle:
    print(f"{r['attention']:10s} {r['scorer'] or '':8s} budget {r['budget']:5d} window {r['window']:5d} share {r['share'] or '-':5s} "
          f"tokens {r['attended_tokens_mean']:6.0f}  {r['nll_per_digit']:.3f} +-{r['nll_se']:.3f}  {r['exact']:.2f}")
sketch, oracle = (one(needle, scorer=s, budget=352) for s in ("sketch", "exact"))
full = one(needle, attention="dense")
check(sketch and oracle and sketch["nll_per_digit"] - oracle["nll_per_digit"] <= .1, "facts: sketch within .1 of the oracle")
check(sketch and full and sketch["nll_per_digit"] - full["nll_per_digit"] <= .1, "facts: sketch within .1 of dense")

print("\nruler: loss per answer token")
ruler = rows("ruler")
tasks = list(dict.fromkeys(r["part"] for r in ruler))
for key in dict.fromkeys((r["attention"], r["scorer"], r["window"]) for r in ruler):
    mine = {r["part"]: r for r in ruler if (r["attention"], r["scorer"], r["window"]) == key}
    print(f"{key[0]:10s} {key[1] or '':8s}", " ".join(f"{t.replace('niah_', '')} {mine[t]['nll_per_token']:.2f}/{mine[t]['exact']:.2f}" for t in tasks if t in mine))

print("\nfree generation, 1,024 tokens")
for r in rows("generate"):
    print(f"{r['attention']:10s} {r['scorer'] or '':8s}", " ".join(f"{k} {r[k]:.3f}" for k in ("distinct_1", "distinct_4", "repetition", "nll_dense") if k in r))


def order(*names):
    for a, b in zip(names, names[1:]):
        if a in above and b in above:
            check(above[a][0] <= above[b][0], f"{a} ({above[a][0]:.4f}) is to lose at most as much as {b} ({above[b][0]:.4f})")


order("sketch, 2 bits, union of 704", "sketch, 2 bits, union of 352", "mean + 3 outliers, per head 512",
      "mean, segments of 32, per head 512", "random features, pairs, 32 d, segments of 32, per head 512", "streaming, window 256")
print(f"\n{passed} passed, {failed} failed")
sys.exit(failed != 0)
