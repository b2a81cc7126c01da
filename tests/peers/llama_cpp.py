#!/usr/bin/env python3
"""Speed beside llama.cpp: the same model file, the same threads, the same lengths and depths, in turn, on this machine.

usage: tests/peers/llama_cpp.py [--threads 2] [--repeats 5] [--deep-repeats 2] [--prompts 512,8000] [--depths 0,8000,32000]
                                [--beyond 131072] [--steps 64] [--budget SECONDS] [--json FILE] [--model GGUF]

Builds llama-cpp-python 0.3.36 from source under build/peers once (minutes), with the machine's own instructions.
  prefill   of each length in --prompts, from an empty cache
  decode    at each depth in --depths: our dense attention, our default (Radar), llama.cpp (dense), one after the other in every repeat
  beyond    at --beyond our default is measured; llama.cpp is extrapolated: milliseconds a token, linear in the depths it was measured at
Lengths and depths over 4096 are repeated --deep-repeats times.  Both sides keep keys and values as f16.  llama.cpp reaches a depth by
one prefill and goes back to it for every repeat; ours by radar bench --fill synth.  Every figure is the median over the repeats of one
run, every ratio the median of the pairs.  Quote ratios: the absolute figures move with the machine's load.
--budget: what is not begun when so many seconds have passed is left out, and named.
"""
import argparse, array, ctypes, json, os, statistics, subprocess, sys, tempfile, time

VERSION = "0.3.36"
SITE = f"build/peers/llama-cpp-python-{VERSION}"
TEXT = "tests/golden/ids-kjv-8192.u32"
DEEP = 4096


class OutOfTime(Exception):
    pass


def build_peer():
    if not os.path.isdir(f"{SITE}/llama_cpp"):
        print(f"building llama-cpp-python {VERSION} under build/peers (minutes) ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", SITE, "--no-binary",
                        "llama-cpp-python", f"llama-cpp-python=={VERSION}"], check=True)
    sys.path.insert(0, os.path.abspath(SITE))
    import llama_cpp
    return llama_cpp


class Peer:
    """llama.cpp through its C interface, as its own bench drives it: batches of 512, logits of the last token."""

    def __init__(self, lib, model, threads, context, ids, deadline):
        self.lib, self.ids, self.deadline, self.filled = lib, ids, deadline, 0
        self.log = lib.llama_log_callback(lambda level, text, user: None)
        lib.llama_log_set(self.log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(model.encode(), lib.llama_model_default_params())
        p = lib.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = context, 512, 512, threads, threads
        self.ctx = lib.llama_init_from_model(self.model, p)
        if not self.ctx:
            sys.exit(f"llama.cpp has no room for a context of {context}")
        self.memory = lib.llama_get_memory(self.ctx)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.system_info = lib.llama_print_system_info().decode()

    def token(self, i):
        """The text goes round: what a dense step costs does not depend on which tokens it reads."""
        return self.ids[i % len(self.ids)]

    def feed(self, ids):
        for i in range(0, len(ids), 512):
            if time.monotonic() > self.deadline:
                raise OutOfTime
            part = (ctypes.c_int32 * len(ids[i:i + 512]))(*ids[i:i + 512])
            if self.lib.llama_decode(self.ctx, self.lib.llama_batch_get_one(part, len(part))) != 0:
                raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.ctx)

    def reach(self, depth):
        """The cache holds the text's first `depth` tokens; what is there of them already stays."""
        self.filled = min(self.filled, depth)
        self.lib.llama_memory_seq_rm(self.memory, 0, self.filled, -1)
        missing, self.filled = [self.token(i) for i in range(self.filled, depth)], 0
        self.feed(missing)
        self.filled = depth

    def prefill(self, n):
        """Tokens a second of n tokens from an empty cache, which then holds them."""
        self.reach(0)
        start = time.monotonic()
        self.reach(n)
        return n / (time.monotonic() - start)

    def decode(self, depth, steps):
        """Tokens a second of single tokens after `depth` cached ones."""
        self.reach(depth)
        token, start = self.token(depth), time.monotonic()
        for _ in range(steps):
            self.feed([token])
            logits = self.lib.llama_get_logits_ith(self.ctx, -1)
            row = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocab)).contents
            token = max(range(0, self.vocab, 97), key=row.__getitem__)  # a token that depends on the logits, cheap in Python
        return steps / (time.monotonic() - start)


class Ours:
    def __init__(self, model, threads, ids):
        self.command = ["build/radar", "bench", "-m", model, "-t", str(threads), "-r", "1", "-o", "json", "--quiet", "--fill", "synth"]
        self.file = tempfile.NamedTemporaryFile(suffix=".u32")
        self.file.write(array.array("I", ids[:1024]).tobytes())
        self.file.flush()
        self.rows = []  # as radar bench wrote them

    def bench(self, *options):
        """One test in a process of its own, behind its own warm-up; tokens a second."""
        run = subprocess.run([*self.command, "--fill-from", self.file.name, *options], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{' '.join(run.args)}\n{run.stderr}")
        self.rows += json.loads(run.stdout)
        return self.rows[-1]["tokens_per_s"]

    def prefill(self, n):
        return self.bench("-p", str(n), "-n", "0")

    def decode(self, depth, steps, attention):
        return self.bench("-p", "0", "-n", str(steps), "-d", str(depth), "--attention", attention)


class Report:
    def __init__(self, deadline):
        self.rows, self.skipped, self.deadline = [], [], deadline
        print("| tokens/s | radar | llama.cpp | ratio |\n|---|---|---|---|", flush=True)

    def add(self, work, ours, peer, extrapolated=False):
        row = {"work": work, "radar": statistics.median(ours), "llama.cpp": statistics.median(peer),
               "ratio": statistics.median(x / y for x, y in zip(ours, peer)), "extrapolated": extrapolated,
               "radar_all": ours, "llama.cpp_all": peer}
        self.rows.append(row)
        mark = " (extrapolated)" if extrapolated else ""
        print(f"| {work} | {row['radar']:.1f} | {row['llama.cpp']:.1f}{mark} | {row['ratio']:.2f} |", flush=True)

    def skip(self, work):
        self.skipped.append(work)
        print(f"left out, no time: {work}", file=sys.stderr, flush=True)

    def in_turn(self, repeats, *once):
        """Each of `once` in turn, repeats + 1 times; the first round warms up and is dropped, unless time is short."""
        rounds = []
        for _ in range(repeats + 1):
            if time.monotonic() > self.deadline and rounds:
                break
            try:
                rounds.append([f() for f in once])
            except OutOfTime:
                break
        return list(zip(*(rounds[1:] or rounds)))


def fit_line(depths, values):
    """a + b depth with the least sum of squares of relative errors, through at least two depths."""
    w = [1 / v**2 for v in values]
    s, sx, sy = sum(w), sum(a * x for a, x in zip(w, depths)), sum(a * y for a, y in zip(w, values))
    sxx, sxy = sum(a * x * x for a, x in zip(w, depths)), sum(a * x * y for a, x, y in zip(w, depths, values))
    slope = (s * sxy - sx * sy) / (s * sxx - sx * sx)
    return (sy - slope * sx) / s, slope


def measure(o, report, ours, peer):
    ms = {}  # llama.cpp, milliseconds a token by depth
    times = lambda n: o.repeats if n <= DEEP else o.deep_repeats
    for n in o.prompts:
        got = report.in_turn(times(n), lambda: ours.prefill(n), lambda: peer.prefill(n))
        report.add(f"prefill of {n}", *got) if got else report.skip(f"prefill of {n}")
    for depth in o.depths:
        got = report.in_turn(times(depth), lambda: ours.decode(depth, o.steps, "dense"), lambda: ours.decode(depth, o.steps, "radar"),
                             lambda: peer.decode(depth, o.steps))
        if not got:
            report.skip(f"decode at depth {depth}")
            continue
        dense, radar, theirs = got
        report.add(f"dense decode at depth {depth}", dense, theirs)
        report.add(f"Radar (default) decode at depth {depth}, llama.cpp dense", radar, theirs)
        ms[depth] = 1e3 / statistics.median(theirs)
    for depth in o.beyond:
        work = f"Radar (default) decode at depth {depth}, llama.cpp dense"
        if len(ms) < 2 or time.monotonic() > report.deadline:
            report.skip(work)
            continue
        base, slope = fit_line(list(ms), list(ms.values()))
        got = report.in_turn(o.deep_repeats, lambda: ours.decode(depth, o.steps, "radar"))[0]
        report.add(work, got, [1e3 / (base + slope * depth)] * len(got), extrapolated=True)
    return ms


def numbers(text):
    return sorted({int(x) for x in text.split(",") if x})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--deep-repeats", type=int, default=2)
    p.add_argument("--prompts", type=numbers, default=[512, 8000])
    p.add_argument("--depths", type=numbers, default=[0, 8000, 32000])
    p.add_argument("--beyond", type=numbers, default=[131072])
    p.add_argument("--steps", type=int, default=64)
    p.add_argument("--budget", type=float, default=1500)
    p.add_argument("--json")
    o = p.parse_args()
    deadline = time.monotonic() + o.budget
    ids = list(array.array("I", open(TEXT, "rb").read()))
    context = max(o.prompts + [d + o.steps for d in o.depths], default=0) + 64
    lib = build_peer()
    peer = Peer(lib, o.model, o.threads, context, ids, deadline)
    print(f"llama.cpp system_info: {peer.system_info}\n{o.threads} threads, {o.model}\n")
    ours, report = Ours(o.model, o.threads, ids), Report(deadline)
    ms = measure(o, report, ours, peer)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"system_info": peer.system_info, "threads": o.threads, "model": o.model, "steps": o.steps, "rows": report.rows,
                       "llama.cpp_ms_by_depth": ms, "left_out": report.skipped, "bench_rows": ours.rows}, f, indent=1)


if __name__ == "__main__":
    main()
