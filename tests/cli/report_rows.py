"""report_rows.py DIR: rows as radar eval writes them, of every kind, with figures made up to look like measured ones."""
import json
import math
import os
import random
import sys

LAYERS, HEADS = 30, 9
DEPTHS = [0, 0.25, 0.5, 0.75, 1]
METHODS = {  # scale of the loss above dense, bytes a token of summaries, recall
    "sketch": (6, 18, 0.93), "exact": (5, 256, 1.0), "mean": (38, 4, 0.55), "minmax": (45, 16, 0.62), "rf": (90, 256, 0.3)}
random.seed(4)


def row(what, attention, scorer, **more):
    settings = dict(what=what, key="k", part="", model="SmolLM2-135M-Instruct.Q4_1.gguf", fingerprint="5d41402abc4b2a76",
                    text="kjv-60k.txt", length=8192, attention=attention, scorer=scorer, preset="", budget=512, segments=0,
                    segment=16, window=256, sinks=4, share="group", pick="top", select="global", sketch_bits=2, outliers=3,
                    rf_features=1024, rf_form="plain", rf_center=False, rf_temper=1.0, restream=False, observe=16,
                    dense_below=0, kv_type="f16", precision="exact", seed=1, scorer_seed=1, shards=8, stripe=256, ranks=1,
                    threads=2, version="0.1.0",
                    command=f"radar eval {what} -m build/models/SmolLM2-135M-Instruct.Q4_1.gguf -f tests/golden/kjv-60k.txt "
                            f"--attention dense,radar --scorer sketch,exact,mean,minmax,rf --out report")
    settings.update(more)
    return settings


def above(scorer, budget, length):
    return METHODS[scorer][0] / budget * (length / 8192) ** 0.4


def ppl(attention, scorer, extra, length=8192, budget=512, **more):
    tokens = min(512, length // 4)
    random.seed(length)  # dense and the others score the same tokens
    base = [random.expovariate(1 / 2.5) for _ in range(tokens)]
    random.seed(f"{scorer}{budget}{extra}")
    nll = [round(b + random.gauss(extra, 0.15), 6) for b in base]
    read = length if attention == "dense" else budget * 1.6 + 260
    first = length - tokens
    bins = [[first + i, first + i + tokens // 8 - 1, sum(nll[i:i + tokens // 8]) / (tokens // 8)]
            for i in range(0, tokens, tokens // 8)]
    summary = 0 if attention == "dense" else METHODS.get(scorer, (0, 18, 0))[1] * length
    return row("ppl", attention, scorer, length=length, budget=budget, tokens=tokens, first=first, nll_mean=sum(nll) / tokens,
               nll_se=0.1, ppl=math.exp(sum(nll) / tokens), by_position=bins, nll=nll, prefill_s=12.5, seconds=4.2, batch=1,
               ms_per_token=4 + read * 0.003 + summary * 2e-6, rows_per_s=120.5, attended_tokens_mean=read,
               coverage_mean=0.9, coverage_min=0.4, bytes_per_step=int(90 * (256 * read + summary)), **more)


def make_ppl():
    for length in 2048, 4096, 8192, 16384:
        yield ppl("dense", "sketch", 0, length)
        for scorer in METHODS:
            for budget in (256, 512, 1024) if length == 8192 else (512,):
                yield ppl("radar", scorer, above(scorer, budget, length), length, budget)
    for n in 64, 256, 4096:
        yield ppl("radar", "rf", 60 / 512 * (1024 / n) ** 0.2, rf_features=n)
    for k in 16, 32, 64:
        yield ppl("radar", "sketch", above("sketch", 16 * k, 8192), segments=k)
    yield ppl("streaming", "sketch", 0.16, restream=True)
    yield ppl("h2o", "sketch", 0.08)


def by_head(value, spread=0.08):
    return [[round(min(max(random.gauss(value, spread), 0), 1), 4) for _ in range(HEADS)] for _ in range(LAYERS)]


def make_recall():
    for scorer, (_, _, recall) in METHODS.items():
        heat = {"layer": 12, "head": 4, "segment": 16, "positions": [], "mass": [], "chosen": [],
                "first_candidate": 1, "always": [0.1] * 12}
        for i in range(12):
            weights = [random.expovariate(1) ** 4 for _ in range(440 + i)]
            best = sorted(range(len(weights)), key=lambda s: -weights[s])
            heat["positions"].append(7600 + 40 * i)
            heat["mass"].append([round(w / sum(weights), 7) for w in weights])
            heat["chosen"].append(sorted(s for s in best[:32] if random.random() < recall))
        names = "recall", "hit1", "hit3", "mass", "mass_best", "error"
        yield row("recall", "radar", scorer, recall_mean=recall, hit1=recall, hit3=recall ** 2, mass=0.9 * recall,
                  mass_best=0.92, error=0.05 / recall, layer_head={n: by_head(recall) for n in names},
                  by_position=[[p, p + 511, recall, 0.9, 0.05] for p in range(2048, 8192, 512)], heat=heat)
    yield row("recall", "streaming", "sketch", recall_mean=None, hit1=None, hit3=None, mass=0.6, mass_best=0.92, error=0.4,
              layer_head={"recall": None, "mass": by_head(0.6)}, by_position=[], heat=None)


def make_needle():
    for attention, scorer in ("dense", "sketch"), ("radar", "sketch"), ("radar", "mean"), ("radar", "rf"), ("h2o", "sketch"):
        lost = 0 if attention == "dense" else 2.5 if attention == "h2o" else 2.3 * (1 - METHODS[scorer][2])
        for length in 1024, 2048, 4096, 8192:
            grid = [[d, round(1.2 + lost * (length / 8192) + 0.1 * random.random(), 3), round(max(0, 0.9 - lost / 3), 2)]
                    for d in DEPTHS]
            yield row("needle", attention, scorer, length=length, nll_per_digit=1.2 + lost, nll_se=0.1, exact=0.3, questions=30,
                      grid=grid)


def make_ruler():
    for task, hard in ("niah_single", 0.1), ("niah_multikey", 0.4), ("niah_multivalue", 0.5), ("niah_multiquery", 0.5), \
            ("vt", 0.7), ("cwe", 0.8), ("fwe", 0.6):
        for attention, scorer in ("dense", "sketch"), ("radar", "sketch"), ("radar", "mean"), ("streaming", "sketch"):
            good = 1 if attention == "dense" else 0.1 if attention == "streaming" else METHODS[scorer][2]
            yield row("ruler", attention, scorer, part=task, length=4096, nll_per_token=1 + hard, exact=round((1 - hard) * good, 2))


def make_generate():
    for attention, scorer in ("dense", "sketch"), ("radar", "sketch"), ("streaming", "sketch"):
        yield row("generate", attention, scorer, text="", distinct_1=0.31, distinct_2=0.72, distinct_3=0.88, distinct_4=0.93,
                  longest_repeat=12, repetition=0.07, nll_dense=2.1)


def make_calibrate():
    for length in 2048, 8192:
        pairs = []
        for _ in range(300):
            true = 1 - random.random() ** 2 * 0.6
            pairs.append([round(true, 4), round(min(1, max(0, true + random.gauss(0, 0.02))), 4)])
        yield row("calibrate", "radar", "sketch", length=length, bias=-0.002, error_median=0.004, error_p95=0.05,
                  error_worst=0.31, pairs=pairs)


def make_bound():
    for n in 16, 64, 256, 1024, 4096:
        def errors(s):
            return dict(pairs=100, s_median=s, bias_median=-0.1, error_median=min(s, math.exp(s / 2) / math.sqrt(n)) * 0.7,
                        error_p95=2 * min(s, math.exp(s / 2) / math.sqrt(n)), predicted_sd=math.sqrt(math.expm1(s) / n))
        groups = [dict(errors(s), s=[s - 2, s + 2 if s < 100 else None]) for s in (2, 4, 8, 15, 30, 60, 100)]
        sketch = [dict(bits=b, error=40 * e, predicted=40 * 2.0 ** -b, ratio=e * 2 ** b, logit_error=5 * e)
                  for b, e in ((1, 0.45), (2, 0.27), (4, 0.06))]
        yield row("bound", "radar", "rf", part=f"n {n}", rf_features=n, frozen=0.8, groups=groups, sketch=sketch, **errors(9))


def make_stats():
    keys = [math.exp(-((i - 9) / 5) ** 2) for i in range(24)]
    mass = [k * math.exp(i) for i, k in enumerate(keys)]
    quantities = "q_norm2", "k_norm2", "k_norm2_centred", "logit_sd", "effective_tokens", "first_token_mass", "window_mass"
    yield row("stats", "dense", "", layer_head={q: by_head(0.5, 0.2) for q in quantities},
              histogram=dict(low=-24, width=1, tokens=[k / sum(keys) for k in keys], mass=[m / sum(mass) for m in mass]))


def write(folder):
    os.makedirs(folder, exist_ok=True)
    for kind in "ppl", "recall", "needle", "ruler", "generate", "calibrate", "bound", "stats":
        with open(os.path.join(folder, kind + ".jsonl"), "w") as out:
            for one in globals()["make_" + kind]():
                out.write(json.dumps(one, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
