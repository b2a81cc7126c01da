/* sample.cu - sampling without a sort: each filter, and the draw, is "descend the order until a sum of weights is reached".
 *
 *   key(logit)    uint32, larger for a larger logit, -0 = 0, NaN lowest; (key descending, id ascending) is the order of tokens
 *   what is kept  key > cut, and of key = cut the first `ties` by id: what any filter keeps is a beginning of the order
 *   stages        RANK: weight 1, until k;   NUCLEUS: e^(x - top), until top_p of the sum;   DRAW: e^((x - top) / temperature) of those
 *                 with x >= top + log(min_p), until more than u of the sum: the token where it stops is the one drawn
 * Each stage finds its cut by a radix descent: 3 sweeps over the vocabulary add the weights of each value of an 11-bit digit (10 in
 * the last) among the keys whose higher digits are settled; the next kernel takes from these sums the digit in which the target
 * lies.  Keys that are equal have equal weights, so below the last digit a division tells how many of them it takes.
 *
 * Weights are integers, in units of 2^-43 of the largest: their sums have the same bits in any order, so atomics do, and a grid
 * of any size gives the same token.  2^20 tokens of weight 1 fit 63 bits.  Against sums in f64 this moves a border by at most
 * 2^-44 of the largest weight per token before it; tokens below 2^-44 of the largest are never drawn.
 *
 *   largest  grid: a block per 1024 tokens; their largest key and lowest NaN, and this block's share of the sums set to 0
 *   sweep    the same grid, one launch per digit and stage; every block first settles the digit before by itself (2048 sums of
 *            L2, which costs less than a launch of one block), then adds its tokens to sums in shared memory, then to the global ones
 *   count    the same grid: tokens of the drawn key per block
 *   emit     one block: the tie-th of them
 * A launch sees all of the one before, which is what orders blocks; 2 launches for greedy, 6 to 12 else.
 * Bytes: 4 * vocab per launch, out of L2 after the first.  Time is that of the launches. */
#include "kernels/cuda/dev.h"
#include "kernels/cuda/sample.h"

#include <cfloat>
#include <cmath>

extern "C" {
#include "runtime/base.h"
}

namespace {

typedef unsigned long long
    fixed; /* a weight or a sum of them: units of 2^-43, or tokens in the stage RANK */

constexpr int THREADS = 256, TILE = 1024, TILES = RADAR_CUDA_SAMPLE_VOCAB / TILE;
constexpr int DIGITS = 3, BINS = 2048, STAGES = 3;
constexpr int LIMB = 22; /* 1024 weights, of 2^43 at most, add up in two uint32 of 22 and 21 bits */
constexpr double ONE = 0x1p43;
constexpr uint32_t KEY_OF_MINUS_INFINITY = 0x007fffff;

enum stage { RANK, NUCLEUS, DRAW };

/* What is known before a sweep. */
struct step {
    fixed target;         /* of the keys with this prefix: the sum to reach */
    fixed ties;           /* kept of the keys that equal cut */
    uint32_t top;         /* largest key */
    uint32_t cut, prefix; /* prefix: the digits settled of the next cut */
};

struct scratch {
    fixed best[TILES];   /* key << 32 | ~id */
    uint32_t nan[TILES]; /* ~id, 0: none */
    uint32_t count[TILES];
    step at[DIGITS * STAGES + 1];
    fixed sum[DIGITS * STAGES][BINS];
};

struct sampling {
    scratch *s;
    const float *logit;
    const int64_t *position;
    int vocab, top_k;
    double cold, top_p, log_min_p; /* cold: 1 / temperature */
    uint64_t seed;
    int stages, stage[STAGES];
};

/* By constant indices: a variable one would copy the parameters to local memory. */
DEV int stage_of(const sampling &a, int pass) {
    return pass < DIGITS ? a.stage[0] : pass < 2 * DIGITS ? a.stage[1] : a.stage[2];
}

/* ---- keys and weights ---- */

DEV uint32_t key_of(float logit) {
    if (logit != logit) return 0;
    const uint32_t u = dev_bits(dev_add(logit, 0.0f)); /* -0 becomes 0 */
    return u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
}

DEV float logit_of(uint32_t key) {
    return dev_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

/* Of a key that is more than 0. */
DEV fixed weight(const sampling &a, int stage, uint32_t key, uint32_t top) {
    if (stage == RANK) return 1;
    if (key == top) return (fixed)ONE; /* also when both are +infinity */
    const double below = (double)logit_of(key) - (double)logit_of(top);
    return (fixed)(exp(below * (stage == DRAW ? a.cold : 1.0)) * ONE + 0.5);
}

DEV bool reaches_min_p(const sampling &a, uint32_t key, uint32_t top) {
    return (double)logit_of(key) >= (double)logit_of(top) + a.log_min_p;
}

DEV uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* radar_random of base.h */
DEV uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    return mix(mix(mix(seed + golden) ^ stream * golden) + counter * golden);
}

/* The sum at which a stage stops: at least 1, at most all. */
DEV fixed goal(const sampling &a, int stage, fixed all) {
    fixed target;
    if (stage == DRAW) { /* floor(u * all) + 1, exact: u is 53 bits of the 64 */
        const uint64_t bits = random_bits(a.seed, RADAR_STREAM_SAMPLER, (uint64_t)*a.position);
        return (fixed)((unsigned __int128)(bits >> 11 << 11) * all >> 64) + 1;
    }
    target = stage == RANK ? (fixed)a.top_k : (fixed)ceil(a.top_p * (double)all);
    if (target < 1) target = 1;
    return target < all ? target : all;
}

/* ---- a block together ---- */

struct extremes {
    fixed best;
    uint32_t nan;
};

DEV extremes larger(extremes x, fixed best, uint32_t nan) {
    return {x.best > best ? x.best : best, x.nan > nan ? x.nan : nan};
}

/* The largest of all threads' numbers, to all of them.  Once per kernel: its memory is not guarded for a second use. */
DEV extremes block_extremes(extremes x) {
    SHARED(extremes, of_warp, 32);
    for (int m = 16; m; m /= 2)
        x = larger(x, dev_shuffle_xor(x.best, m), dev_shuffle_xor(x.nan, m));
    if (dev_lane() == 0) of_warp[dev_warp()] = x;
    dev_block_sync();
    for (unsigned w = 0; w < blockDim.x / 32; w++) x = larger(x, of_warp[w].best, of_warp[w].nan);
    return x;
}

struct place {
    int index;
    fixed rest; /* of the target, from there on */
};

/* Where value(0) + value(1) + ... reaches target(sum of all n), which is from 1 to that sum.  A thread owns neighbours.  Once per
 * kernel and type of value: its memory is not guarded for a second use. */
template <class Value, class Target> DEV place block_find(int n, Value value, Target target) {
    SHARED(fixed, of_warp, 32);
    SHARED(place, found, 1);
    const int run = (n + (int)blockDim.x - 1) / (int)blockDim.x, first = run * (int)threadIdx.x;
    fixed own = 0;
    for (int i = first; i < first + run && i < n; i++) own += value(i);
    fixed sum = own;
    for (unsigned d = 1; d < 32; d *= 2) {
        const fixed below = dev_shuffle_up(sum, d);
        if (dev_lane() >= d) sum += below;
    }
    if (dev_lane() == 31) of_warp[dev_warp()] = sum;
    dev_block_sync();
    fixed all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        if (w < dev_warp()) sum += of_warp[w];
        all += of_warp[w];
    }
    const fixed stop = target(all);
    if (sum - own < stop && stop <= sum) {
        place p = {first, stop - (sum - own)};
        for (; p.rest > value(p.index); p.index++) p.rest -= value(p.index);
        found[0] = p;
    }
    dev_block_sync();
    return found[0];
}

/* ---- the descent ---- */

DEV int shift_of(int digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }
/* Bits above the digit. */
DEV uint32_t known_at(int digit) { return digit == 0 ? 0 : digit == 1 ? 0xffe00000u : 0xfffffc00u; }
DEV uint32_t bin_of(uint32_t key, int digit) {
    return key >> shift_of(digit) & (digit == 2 ? 0x3ffu : 0x7ffu);
}

/* What is known after `passes` sweeps, from what was before the last of them and its sums. */
DEV step settle(const sampling &a, int passes) {
    if (passes == 0) {
        extremes x = {0, 0};
        const int tiles = (a.vocab + TILE - 1) / TILE;
        for (int i = (int)threadIdx.x; i < tiles; i += (int)blockDim.x)
            x = larger(x, a.s->best[i], 0);
        return {0, 0, (uint32_t)(block_extremes(x).best >> 32), 0, 0};
    }
    const int digit = (passes - 1) % DIGITS, stage = stage_of(a, passes - 1);
    step now = a.s->at[passes - 1];
    if (now.top <= KEY_OF_MINUS_INFINITY) return now;
    const fixed *sum = a.s->sum[passes - 1];
    const place p = block_find(
        BINS, [&](int i) { return sum[BINS - 1 - i]; },
        [&](fixed all) { return digit == 0 ? goal(a, stage, all) : now.target; });
    now.prefix |= (uint32_t)(BINS - 1 - p.index) << shift_of(digit);
    now.target = p.rest;
    if (digit < DIGITS - 1) return now;
    const fixed each = weight(a, stage, now.prefix, now.top);
    return {0, (p.rest + each - 1) / each, now.top, now.prefix, 0};
}

/* Of a key at the cut or above: what it weighs in this sweep, 0 when it is not of it. */
DEV fixed weight_here(const sampling &a, const step &now, int pass, uint32_t key) {
    const int digit = pass % DIGITS, stage = stage_of(a, pass);
    if ((key & known_at(digit)) != now.prefix) return 0;
    if (stage == DRAW && !reaches_min_p(a, key, now.top)) return 0;
    return weight(a, stage, key, now.top);
}

} // namespace

/* ---- kernels: a power of two of threads, 32 to THREADS ---- */

KERNEL void __launch_bounds__(THREADS) radar_sample_largest(sampling a) {
    const int begin = (int)blockIdx.x * TILE;
    extremes x = {0, 0};
    for (int i = begin + (int)threadIdx.x; i < begin + TILE && i < a.vocab; i += (int)blockDim.x) {
        const uint32_t key = key_of(a.logit[i]);
        x = larger(x, (fixed)key << 32 | ~(uint32_t)i, key ? 0 : ~(uint32_t)i);
    }
    x = block_extremes(x);
    if (threadIdx.x == 0) {
        a.s->best[blockIdx.x] = x.best;
        a.s->nan[blockIdx.x] = x.nan;
    }
    const unsigned all = (unsigned)a.stages * DIGITS * BINS;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < all; i += gridDim.x * blockDim.x)
        a.s->sum[i / BINS][i % BINS] = 0;
}

KERNEL void __launch_bounds__(THREADS) radar_sample_sweep(sampling a, int pass) {
    SHARED(uint32_t, low, BINS);
    SHARED(uint32_t, high, BINS);
    const int begin = (int)blockIdx.x * TILE, digit = pass % DIGITS;
    for (unsigned i = threadIdx.x; i < BINS; i += blockDim.x) low[i] = high[i] = 0;
    const step now = settle(
        a, pass); /* has a barrier after the zeros above, unless there is nothing to choose */
    fixed *sum = a.s->sum[pass];
    if (blockIdx.x == 0 && threadIdx.x == 0) a.s->at[pass] = now;
    if (now.top <= KEY_OF_MINUS_INFINITY) return;
    for (int i = begin + (int)threadIdx.x; i < begin + TILE && i < a.vocab; i += (int)blockDim.x) {
        const uint32_t key = key_of(a.logit[i]);
        const fixed w = key > now.cut ? weight_here(a, now, pass, key) : 0;
        if (w == 0) continue;
        dev_atomic_add(&low[bin_of(key, digit)], (uint32_t)w & ((1u << LIMB) - 1));
        dev_atomic_add(&high[bin_of(key, digit)], (uint32_t)(w >> LIMB));
    }
    dev_block_sync();
    for (unsigned i = threadIdx.x; i < BINS; i += blockDim.x) {
        const fixed w = ((fixed)high[i] << LIMB) + low[i];
        if (w) dev_atomic_add(&sum[i], w);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0 && now.ties)
        dev_atomic_add(&sum[bin_of(now.cut, digit)], now.ties * weight_here(a, now, pass, now.cut));
}

KERNEL void __launch_bounds__(THREADS) radar_sample_count(sampling a) {
    const int begin = (int)blockIdx.x * TILE;
    const step drawn = settle(a, a.stages * DIGITS);
    int n = 0;
    for (int i = begin + (int)threadIdx.x; i < begin + TILE; i += (int)blockDim.x)
        n += dev_block_count(i < a.vocab && key_of(a.logit[i]) == drawn.cut);
    if (threadIdx.x != 0) return;
    a.s->count[blockIdx.x] = (uint32_t)n;
    if (blockIdx.x == 0) a.s->at[a.stages * DIGITS] = drawn;
}

/* One block. */
KERNEL void __launch_bounds__(THREADS) radar_sample_emit(sampling a, radar_drawn *out) {
    const int tiles = (a.vocab + TILE - 1) / TILE;
    extremes x = {0, 0};
    for (int i = (int)threadIdx.x; i < tiles; i += (int)blockDim.x)
        x = larger(x, a.s->best[i], a.s->nan[i]);
    x = block_extremes(x);
    const uint32_t top = (uint32_t)(x.best >> 32);
    int token = top <= KEY_OF_MINUS_INFINITY ? -1 : (int)~(uint32_t)x.best;
    if (token >= 0 && a.stages) {
        const step drawn = a.s->at[a.stages * DIGITS];
        const place tile = block_find(
            tiles, [&](int i) { return (fixed)a.s->count[i]; }, [&](fixed) { return drawn.ties; });
        const int begin = tile.index * TILE, n = a.vocab - begin < TILE ? a.vocab - begin : TILE;
        const place p = block_find(
            n, [&](int i) { return (fixed)(key_of(a.logit[begin + i]) == drawn.cut); },
            [&](fixed) { return tile.rest; });
        token = begin + p.index;
    }
    if (threadIdx.x == 0) *out = {token, x.nan ? (int)~x.nan : -1};
}

/* ---- the host ---- */

static sampling plan(const radar_sampler_options *opt, const int64_t *position, const float *logit,
                     int vocab, void *memory) {
    sampling a = {};
    a.s = static_cast<scratch *>(memory);
    a.logit = logit;
    a.position = position;
    a.vocab = vocab;
    a.top_k = opt->top_k;
    a.top_p = opt->top_p;
    a.log_min_p = opt->min_p > 0 ? std::log(opt->min_p) : -DBL_MAX; /* below every finite logit */
    a.seed = opt->seed;
    if (opt->temperature == 0) return a;
    a.cold = 1 / opt->temperature; /* a product's rounding is below the unit of a weight */
    if (opt->top_k > 0 && opt->top_k < vocab) a.stage[a.stages++] = RANK;
    if (opt->top_p < 1) a.stage[a.stages++] = NUCLEUS;
    a.stage[a.stages++] = DRAW;
    return a;
}

static int launches(const sampling &a) { return a.stages ? a.stages * DIGITS + 3 : 2; }

/* The n-th of them. */
static int launch(const sampling &a, int n, radar_drawn *out, unsigned threads,
                  radar_cuda_queue *queue) {
    const dim3 grid((unsigned)(a.vocab + TILE - 1) / TILE), block(threads);
    if (n == 0) return LAUNCH(radar_sample_largest, grid, block, 0, queue, a);
    if (n == launches(a) - 1) return LAUNCH(radar_sample_emit, dim3(1), block, 0, queue, a, out);
    if (n == launches(a) - 2) return LAUNCH(radar_sample_count, grid, block, 0, queue, a);
    return LAUNCH(radar_sample_sweep, grid, block, 0, queue, a, n - 1);
}

size_t radar_cuda_sample_scratch(void) { return sizeof(scratch); }

int radar_cuda_sample(radar_drawn *out, const radar_sampler_options *opt, const int64_t *position,
                      const float *logit, int vocab, void *memory, radar_cuda_queue *queue) {
    if (vocab < 1 || vocab > RADAR_CUDA_SAMPLE_VOCAB) return 1; /* cudaErrorInvalidValue */
    const sampling a = plan(opt, position, logit, vocab, memory);
    int failed = 0;
    for (int n = 0; n < launches(a) && !failed; n++) failed = launch(a, n, out, THREADS, queue);
    return failed;
}
