#!/usr/bin/env python3
"""Speed beside llama.cpp: the same model file, the same tokens, the same threads, in turn, on this machine.

usage: tests/peers/llama_cpp.py [--threads 2] [--repeats 5] [--deep 8000] [--deep-repeats 3] [--json FILE]

Builds llama-cpp-python 0.3.36 from source under build/peers once (minutes), with the machine's own instructions.
Every figure is the median over the repeats of one run; the ratio is the median of the pairs.  Both sides use an f16
KV cache.  Quote ratios: the absolute figures move with the machine's load.
"""
import argparse, array, ctypes, json, os, statistics, subprocess, sys, tempfile, time

VERSION = "0.3.36"
SITE = f"build/peers/llama-cpp-python-{VERSION}"
MODEL = "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "tests/golden/ids-kjv-8192.u32"


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

    def __init__(self, lib, threads, context):
        self.lib = lib
        self.log = lib.llama_log_callback(lambda level, text, user: None)
        lib.llama_log_set(self.log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(MODEL.encode(), lib.llama_model_default_params())
        p = lib.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = context, 512, 512, threads, threads
        self.ctx = lib.llama_init_from_model(self.model, p)
        self.memory = lib.llama_get_memory(self.ctx)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.system_info = lib.llama_print_system_info().decode()

    def feed(self, ids):
        for i in range(0, len(ids), 512):
            part = (ctypes.c_int32 * len(ids[i:i + 512]))(*ids[i:i + 512])
            if self.lib.llama_decode(self.ctx, self.lib.llama_batch_get_one(part, len(part))) != 0:
                raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.ctx)

    def keep(self, tokens):
        self.lib.llama_memory_seq_rm(self.memory, 0, tokens, -1)

    def prefill(self, ids):
        self.keep(0)
        start = time.monotonic()
        self.feed(ids)
        return len(ids) / (time.monotonic() - start)

    def decode(self, depth, steps, first):
        """steps greedy tokens after `depth` cached ones."""
        self.keep(depth)
        token, start = first, time.monotonic()
        for _ in range(steps):
            self.feed([token])
            logits = self.lib.llama_get_logits_ith(self.ctx, -1)
            row = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocab)).contents
            token = max(range(0, self.vocab, 97), key=row.__getitem__)  # a token that depends on the logits, cheap in Python
        return steps / (time.monotonic() - start)


def ours(ids, steps, threads, *options):
    """One run of the command; prefill and decode in tokens a second, by its own clock."""
    with tempfile.NamedTemporaryFile(suffix=".u32") as f:
        f.write(array.array("I", ids).tobytes())
        f.flush()
        out = subprocess.run(["build/radar", "run", "-m", MODEL, "--ids", f.name, "-n", str(steps), "-t", str(threads), "--temp", "0",
                              "--ignore-eos", "--json", "--quiet", *options], check=True, capture_output=True, text=True).stdout
    facts = json.loads(out)
    return facts["prompt_tokens"] / facts["prefill_s"], facts["decode_tokens_per_s"]


def compare(name, repeats, ours_once, peer_once, rows):
    a, b = [], []
    for _ in range(repeats + 1):  # the first pair warms up and is dropped
        a.append(ours_once())
        b.append(peer_once())
    a, b = a[1:], b[1:]
    row = {"work": name, "radar": statistics.median(a), "llama.cpp": statistics.median(b),
           "ratio": statistics.median(x / y for x, y in zip(a, b)), "radar_all": a, "llama.cpp_all": b}
    rows.append(row)
    print(f"| {name} | {row['radar']:.1f} | {row['llama.cpp']:.1f} | {row['ratio']:.2f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--deep", type=int, default=8000)
    p.add_argument("--deep-repeats", type=int, default=2)
    p.add_argument("--json")
    o = p.parse_args()
    ids = list(array.array("I", open(TEXT, "rb").read()))
    peer = Peer(build_peer(), o.threads, o.deep + 128)
    print(f"llama.cpp system_info: {peer.system_info}\n{o.threads} threads, {MODEL}\n")
    print("| tokens/s | radar | llama.cpp | ratio |\n|---|---|---|---|")
    rows, t, n = [], o.threads, 64
    compare("prefill of 512", o.repeats, lambda: ours(ids[:512], 1, t)[0], lambda: peer.prefill(ids[:512]), rows)
    compare("dense decode at depth 1", o.repeats, lambda: ours(ids[:1], n, t, "--attention", "dense")[1],
            lambda: (peer.prefill(ids[:1]), peer.decode(1, n, ids[1]))[1], rows)
    peer.prefill(ids[:o.deep])
    deep = lambda: peer.decode(o.deep, n, ids[o.deep])
    compare(f"Radar (default) decode at depth {o.deep}, llama.cpp dense", o.deep_repeats, lambda: ours(ids[:o.deep], n, t)[1], deep, rows)
    compare(f"dense decode at depth {o.deep}", o.deep_repeats, lambda: ours(ids[:o.deep], n, t, "--attention", "dense")[1], deep, rows)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"system_info": peer.system_info, "threads": t, "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()
