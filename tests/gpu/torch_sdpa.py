"""PyTorch's attention of one query over a long cache, by each of its backends, for the shapes of tests/gpu/bench_kernels.c.

Microseconds a layer, CUDA graphs, as many buffers in turn as do not fit the chip's cache.  Lines as of tests/gpu/twin.h.
"""
import statistics
import sys

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as e:
    print("# skipped: python3 has no torch (%s)" % e)
    sys.exit(0)

HEADS, KV_HEADS, D = 32, 8, 128
COLD = 512 << 20
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION}


def once(q, kv):
    for k, v in kv:
        torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def microseconds(q, kv):
    """Median of 20 launches of a graph over all buffers."""
    once(q, kv)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        once(q, kv)
    took = []
    for i in range(23):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            took.append(begin.elapsed_time(end) * 1e3 / len(kv))
    return statistics.median(took)


def measure(tokens):
    each = 2 * tokens * KV_HEADS * D * 2
    count = max(1, -(-COLD // each))
    q = torch.randn(1, HEADS, 1, D, device="cuda", dtype=torch.bfloat16)
    kv = [tuple(torch.randn(1, KV_HEADS, tokens, D, device="cuda", dtype=torch.bfloat16) for _ in range(2))
          for _ in range(count)]
    best = None
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                us = microseconds(q, kv)
        except RuntimeError as e:
            print("# %s at %d tokens: %s" % (name, tokens, str(e).splitlines()[0][:100]))
            continue
        print("torch %s, %dk tokens, bf16\t%.4g\tus a layer\t-" % (name, tokens >> 10, us), flush=True)
        best = us if best is None else min(best, us)
    if best is not None:
        print("torch best, %dk tokens, bf16\t%.4g\tGB/s\t-" % (tokens >> 10, each / best / 1e3), flush=True)


def main():
    if not torch.cuda.is_available():
        print("# skipped: torch sees no GPU")
        return
    print("# torch %s on %s" % (torch.__version__, torch.cuda.get_device_name()))
    for tokens in (1 << 15, 1 << 17, 1 << 19, 1 << 20):
        measure(tokens)
        torch.cuda.empty_cache()


main()
