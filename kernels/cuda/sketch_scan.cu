/* Scores of sealed blocks by the sketch: layout and formula in kernels/cpu/sketch.h.
 *   dot = code . hq, exact, on the tensor cores;  y = (2 dot - (2^b - 1) sum hq) step gain, bit for bit the CPU's
 *   score = q . mu + ln 2 (m + log2 sum_16 2^(y - m)),  m = 0 unless `reach` says that y may be far from it, then max y
 * 2^y is the hardware's here and a polynomial there: scores differ by 8e-5 at most; in a coarse scan both use the same rough one.
 *
 * A warp takes a block of 64 tokens at a time (or four listed units), all by itself, for 8 queries: the columns of the products.
 * Query tiles of 8 lie beside each other in the grid, so that a second one finds its codes in L2.
 *   rows      16 tokens of a segment: row g is token 2 g, row g + 8 token 2 g + 1, so that a lane reads both by one load of 8
 *   k         in any order that codes and hq share.  Lane t = l % 4 reads whole dwords: t (4 bits: t, t + 4, ...) of a token (up to 64
 *             dimensions, where there are only two: half a dword each), so that a dword is read by one lane and all its bits are used there;
 *             two bits: the planes meet in a word of even groups of four dimensions and one of odd ones, where a code
 *             stands at bit 0 or 2 of a byte: masked, not shifted, its hq times 4 or 1
 *   q . mu    lane l has dimensions D' l ..., D' = 2 or 4; f32
 * What is left of a block per query is folded so that lane l = 4 g + t ends with one score: segment g / 2, query 2 t + g % 2.
 * As soon as a segment's codes are used, those of the warp's next block are asked for into the same registers: each warp always
 * has a block under way, 16 warps a multiprocessor 36 KB (D = 128, 2 bits), and none waits for another.  Only for lists, whose four
 * units have a mean each, q lies in shared memory: registers are few.
 * Bytes: block_bytes a block (D = 128, 2 bits: 2248), coarse 256 W + 72 + Dp, and 16 n_query of scores. */
#include "kernels/cuda/sketch.h"

#include "kernels/cuda/dev.h"

namespace {

constexpr int THREADS = 256;
constexpr int QUERIES = 8; /* of a warp */
constexpr int SLOTS = RADAR_BLOCK_SEGMENTS;
constexpr float REACH = 118.0f, LN2 = 0x1.62e43p-1f; /* mass.h */
constexpr float ROUGH_ONE = 0x1p23f, ROUGH_BASE = 0x1.fbc516p+29f;

/* BITS: of a code as it is read.  MMAS: products of 32 dimensions, 2 or 4.  LISTED: units of a list, each of its own block. */
template <int BITS, int MMAS, bool ROUGH, bool LISTED> struct scan_kind {
    static constexpr int bits = BITS, mmas = MMAS;
    static constexpr bool rough = ROUGH, listed = LISTED;
    static constexpr bool halves = BITS != 4 && MMAS == 2; /* a lane has half a dword */
    static constexpr int loads = BITS == 4 ? MMAS : 1;     /* a plane, segment and lane */
    static constexpr int times = BITS == 2 ? 4 : 2;        /* what the products are multiples of */
    static constexpr int means = LISTED ? SLOTS : 1;
    /* of a multiprocessor; the compiler for sm_80 would spill the longest kind at 128 registers: there half the warps run */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    static constexpr int blocks = MMAS == 4 && BITS == 4 && !LISTED ? 1 : 2;
#else
    static constexpr int blocks = 2;
#endif
};

/* Bytes from the start of a block to what a lane reads of it. */
struct places {
    uint32_t high, low, low_segment, step, mu;
    int high_shift, low_shift;
};

/* Its two scales. */
DEV uint32_t scales_at(const radar_cuda_sketch &x) {
    return (uint32_t)(256 * x.words + RADAR_BLOCK + x.Dp);
}

template <class KIND> DEV places places_of(const radar_cuda_sketch &x) {
    const int lane = (int)dev_lane(), g = lane / 4, t = lane % 4;
    places p;
    int word = KIND::halves ? t / 2 : t;
    if (word >= x.words) word = x.words - 1; /* anything: hq is 0 there */
    const bool apart = word < x.low_words;
    p.high = (uint32_t)(64 * word + 8 * g);
    p.step = (uint32_t)(256 * x.words + 2 * (lane % 8));
    p.mu = (uint32_t)(256 * x.words + RADAR_BLOCK +
                      (KIND::mmas * lane < x.Dp ? KIND::mmas * lane : 0));
    p.low = apart ? scales_at(x) + 8 + p.high : p.high;
    p.low_segment = (uint32_t)(64 * (apart ? x.low_words : x.words));
    p.high_shift = KIND::halves ? 4 * (t % 2) : 0;
    p.low_shift = p.high_shift + (apart ? 0 : 4);
    return p;
}

/* Numbers of a lane under way; what they are of, see places. */
template <class KIND> struct fetched {
    uint2 high[SLOTS][KIND::loads], low[KIND::bits == 2 ? SLOTS : 1][KIND::loads];
    uint32_t mu[KIND::means];
    float mu_scale, step_scale;
    uint32_t step; /* codes of two tokens */
};

/* What a warp's turn is about: a block, or up to four listed units; lane l has the number of unit l / 8. */
struct turn {
    const char *summary;
    size_t block_bytes;
    int32_t unit; /* of the lane */
};

DEV const char *block_of(const turn &w, int32_t unit) {
    return w.summary + (size_t)(unit / SLOTS) * w.block_bytes;
}

template <class KIND>
DEV void fetch_codes(fetched<KIND> &f, const turn &w, const radar_cuda_sketch &x, const places &at,
                     int slot) {
    const int32_t unit = KIND::listed ? dev_shuffle(w.unit, 8 * slot) : w.unit;
    const uint32_t segment = KIND::listed ? (uint32_t)(unit % SLOTS) : (uint32_t)slot;
    const char *p = block_of(w, unit);
    const char *high = p + at.high + segment * (uint32_t)(64 * x.words);
    const char *low = p + at.low + segment * at.low_segment;
    const int t = (int)dev_lane() % 4;
#pragma unroll
    for (int n = 0; n < KIND::loads; n++) {
        /* past the last word: the first of the lane again */
        const uint32_t more = t + 4 * n < x.words ? (uint32_t)(256 * n) : 0;
        f.high[slot][n] = dev_stream8(high + more);
        if (KIND::bits == 2) f.low[slot][n] = dev_stream8(low + more);
    }
}

template <int MMAS> DEV uint32_t load_mu(const char *p) {
    return MMAS == 2 ? *(const uint16_t *)p : *(const uint32_t *)p;
}

template <class KIND>
DEV void fetch_rest(fetched<KIND> &f, const turn &w, const radar_cuda_sketch &x, const places &at) {
    const char *mine = block_of(w, w.unit);
    const uint32_t segment = KIND::listed ? (uint32_t)(w.unit % SLOTS) : dev_lane() / 8;
    const uint2 scales = dev_stream8(mine + scales_at(x));
    f.mu_scale = dev_float(scales.x);
    f.step_scale = dev_float(scales.y);
    f.step = *(const uint16_t *)(mine + at.step + segment * RADAR_SEGMENT);
#pragma unroll
    for (int i = 0; i < KIND::means; i++) {
        const int32_t unit = KIND::listed ? dev_shuffle(w.unit, 8 * i) : w.unit;
        f.mu[i] = load_mu<KIND::mmas>(block_of(w, unit) + at.mu);
    }
}

/* ---- queries ---- */

template <class KIND> struct queries {
    uint32_t hq[KIND::mmas][2];                      /* second factors of the products */
    float q[KIND::listed ? 1 : QUERIES][KIND::mmas]; /* of the lane's dimensions */
    const float *shared; /* the same of all dimensions: a list needs registers for four means */
    float gain[2];       /* queries 2 t, 2 t + 1 */
    int32_t centre[2];   /* what the sums of their products begin with */
    float reach;         /* query 2 t + g % 2 */
};

/* First of four dimensions that lane t has in half h of product m. */
template <class KIND> DEV int dims_of(int m, int h, int t) {
    if (KIND::bits == 4) return 8 * (4 * m + t) + 4 * h;
    if (KIND::halves) return 32 * (t / 2) + 16 * (t % 2) + 4 * (2 * m + h);
    return 32 * t + 4 * (2 * m + h);
}

/* q / sqrt D of dimension d of query j; 0 where there is none. */
DEV float q_at(const radar_cuda_sketch &x, const char *prepared, int n, int j, int d) {
    if (j >= n || d >= x.Dp) return 0;
    return ((const float *)(prepared + (size_t)j * x.query_bytes + 32 + x.Dq))[d];
}

/* All threads: q of the tile, [QUERIES, 32 MMAS]. */
template <int MMAS>
DEV const float *share_queries(const radar_cuda_sketch &x, const char *prepared, int n) {
    SHARED(float, q, QUERIES * 32 * MMAS);
    for (int i = (int)threadIdx.x; i < QUERIES * 32 * MMAS; i += THREADS)
        q[i] = q_at(x, prepared, n, i / (32 * MMAS), i % (32 * MMAS));
    dev_block_sync();
    return q;
}

template <class KIND>
DEV void load_queries(queries<KIND> &q, const radar_cuda_sketch &x, const char *prepared, int n) {
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
#pragma unroll
    for (int m = 0; m < KIND::mmas; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int d = dims_of<KIND>(m, h, t);
            uint32_t four = 0;
            if (g < n && d < x.Dq)
                four = *(const uint32_t *)(prepared + (size_t)g * x.query_bytes + 32 + d);
            if (KIND::bits == 2 && m % 2 == 0) four = (four & 0x3f3f3f3fu) << 2; /* |hq| <= 31 */
            q.hq[m][h] = four;
        }
    }
#pragma unroll
    for (int j = 0; j < (KIND::listed ? 0 : QUERIES); j++)
#pragma unroll
        for (int i = 0; i < KIND::mmas; i++)
            q.q[j][i] = q_at(x, prepared, n, j, KIND::mmas * (int)dev_lane() + i);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int j = 2 * t + i;
        const float *head =
            (const float *)(prepared + (size_t)j * x.query_bytes) + (KIND::bits < x.bits ? 3 : 0);
        q.gain[i] = j < n ? head[0] : 0.0f;
        q.centre[i] = j < n ? -KIND::times / 2 * ((1 << KIND::bits) - 1) * (int32_t)head[1] : 0;
        if (i == g % 2) q.reach = j < n ? head[2] : 0.0f;
    }
}

/* ---- one segment ---- */

/* First factors of product m: those codes of the two tokens, times 2 (or in place, see above). */
template <class KIND>
DEV void unpack(uint32_t a[4], uint32_t high, uint32_t low, const places &at, int m, int token) {
    if (KIND::bits == 4) {
        a[token] = high << 1 & 0x1e1e1e1eu;
        a[2 + token] = high >> 3 & 0x1e1e1e1eu;
        return;
    }
    if (KIND::halves) high >>= at.high_shift;
    const int first = 2 * m; /* bits first and first + 1 of every byte */
    if (KIND::bits == 1) {
        a[token] = (first ? high >> (first - 1) : high << 1) & 0x02020202u;
        a[2 + token] = high >> first & 0x02020202u;
        return;
    }
    low >>= at.low_shift;
    const uint32_t even = (high << 1 & 0xaaaaaaaau) | (low & 0x55555555u);
    const uint32_t odd = (high & 0xaaaaaaaau) | (low >> 1 & 0x55555555u);
    const uint32_t mask = m % 2 ? 0x0c0c0c0cu : 0x03030303u;
    const int shift = m / 2 * 4;
    a[token] = even >> shift & mask;
    a[2 + token] = odd >> shift & mask;
}

/* times / 2 (2 code . hq - (2^b - 1) sum hq): of token 2 g with queries 2 t, 2 t + 1, then of token 2 g + 1. */
template <class KIND>
DEV void dot_segment(int32_t dot[4], const fetched<KIND> &f, const queries<KIND> &q,
                     const places &at, int slot) {
    for (int i = 0; i < 4; i++) dot[i] = q.centre[i % 2];
#pragma unroll
    for (int m = 0; m < KIND::mmas; m++) {
        const int n = KIND::bits == 4 ? m : 0;
        const uint2 high = f.high[slot][n], low = f.low[KIND::bits == 2 ? slot : 0][n];
        uint32_t a[4];
        unpack<KIND>(a, high.x, low.x, at, m, 0);
        unpack<KIND>(a, high.y, low.y, at, m, 1);
        dev_mma_u8s8(dot, a, q.hq[m]);
    }
}

/* ---- folding ---- */

/* Of each pair of numbers the lane keeps one, by bit `mask` of its number, added to the same of lane ^ mask. */
template <int N> DEV void fold(float v[N], int mask) {
    const bool upper = dev_lane() & (unsigned)mask;
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        const float keep = upper ? v[i + N / 2] : v[i], give = upper ? v[i] : v[i + N / 2];
        v[i] = keep + dev_shuffle_xor(give, mask);
    }
}

/* q . mu / mu_scale of query 2 t + g % 2. */
template <class KIND> DEV float dot_mean(const queries<KIND> &q, uint32_t mu) {
    float m[KIND::mmas], sum[QUERIES];
#pragma unroll
    for (int i = 0; i < KIND::mmas; i++) m[i] = (float)(int8_t)(mu >> i * 8);
#pragma unroll
    for (int j = 0; j < QUERIES; j++) {
        const float *own =
            KIND::listed ? q.shared + (32 * j + (int)dev_lane()) * KIND::mmas : q.q[j];
        sum[j] = 0;
#pragma unroll
        for (int i = 0; i < KIND::mmas; i++) sum[j] = dev_fma(own[i], m[i], sum[j]);
    }
    fold<8>(sum, 2);
    fold<4>(sum, 1);
    fold<2>(sum, 4);
    sum[0] += dev_shuffle_xor(sum[0], 8);
    return sum[0] + dev_shuffle_xor(sum[0], 16);
}

DEV float larger(float a, float b) { return a > b ? a : b; }

/* Takes the maxima of a segment away from the y of those queries that may be far; returns, for them, the one of query 2 t + g % 2.
 * far: bit 4 (j % 2) + j / 2 is of query j. */
DEV float take_maxima(float y[4], unsigned far) {
    const int lane = (int)dev_lane();
    float mine = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float m = larger(y[i], y[2 + i]);
        for (int mask = 4; mask < 32; mask *= 2) m = larger(m, dev_shuffle_xor(m, mask));
        if (!(far >> (4 * i + lane % 4) & 1)) continue;
        y[i] = larger(y[i] - m, -REACH);
        y[2 + i] = larger(y[2 + i] - m, -REACH);
        if (lane / 4 % 2 == i) mine = m;
    }
    return mine;
}

template <bool ROUGH> DEV float power(float y) {
    if (!ROUGH) return dev_exp2(y);
    return dev_float((uint32_t)dev_round(dev_fma(y, ROUGH_ONE, ROUGH_BASE)));
}

/* ---- a turn ---- */

/* The step of code c in units of the largest, 2^((c - 255) / 16): c / 16 goes to the exponent, the rest is lane c % 16 of table. */
DEV float step_of(uint32_t c, uint32_t table) {
    const uint32_t bits = (c << 19) + dev_shuffle(table, c % 16);
    return c ? dev_float(bits) : 0.0f;
}

DEV uint32_t step_table(const float *step) {
    const uint32_t i = dev_lane() % 16;
    return dev_bits(step[240 + i]) - (15u << 23) - (i << 19);
}

/* The lane's score: of unit l / 8, query 2 t + g % 2.  What was fetched is replaced by that of the next turn. */
template <class KIND>
DEV float score_turn(fetched<KIND> &f, const turn &next, const queries<KIND> &q,
                     const radar_cuda_sketch &x, const places &at, uint32_t table) {
    const int lane = (int)dev_lane();
    const float unit = (1.0f / KIND::times) * f.step_scale;
    const float even = step_of(f.step & 255, table) * unit;
    const float odd = step_of(f.step >> 8, table) * unit;
    const unsigned far = dev_ballot(!(q.reach * f.step_scale <= REACH));
    float base = 0, sum[2 * SLOTS], m = 0;
    /* side by side, the sums of four means would need too many registers: each moves to the front in turn */
#pragma unroll 1
    for (int i = 0; i < KIND::means; i++) {
        const float b = dot_mean<KIND>(q, f.mu[0]);
        if (KIND::means == 1 || i == lane / 8) base = b;
#pragma unroll
        for (int k = 1; k < KIND::means; k++) f.mu[k - 1] = f.mu[k];
    }
    base *= f.mu_scale;
    fetch_rest<KIND>(f, next, x, at);
#pragma unroll
    for (int s = 0; s < SLOTS; s++) {
        int32_t dot[4];
        float y[4];
        dot_segment<KIND>(dot, f, q, at, s);
        fetch_codes<KIND>(f, next, x, at, s);
        const float step[2] = {dev_shuffle(even, 8 * s + lane / 4),
                               dev_shuffle(odd, 8 * s + lane / 4)};
#pragma unroll
        for (int i = 0; i < 4; i++)
            y[i] = dev_mul(dev_mul((float)dot[i], step[i / 2]), q.gain[i % 2]);
        if (far) {
            const float most = take_maxima(y, far >> 8 * s);
            if (s == lane / 8) m = most;
        }
#pragma unroll
        for (int i = 0; i < 2; i++)
            sum[2 * s + i] = power<KIND::rough>(y[i]) + power<KIND::rough>(y[2 + i]);
    }
    fold<8>(sum, 16);
    fold<4>(sum, 8);
    fold<2>(sum, 4);
    return base + LN2 * (m + dev_log2(sum[0]));
}

/* Where turns end: blocks of a range, units of a list, which are taken four at a time. */
template <class KIND> DEV int32_t end_of(const radar_score_task &t) {
    if (KIND::listed) return *t.n_listed;
    if (t.segment_end <= t.segment_begin) return 0;
    return (t.segment_end - 1) / SLOTS - t.segment_begin / SLOTS + 1;
}
template <class KIND> DEV bool is_turn(int32_t i, int32_t end) {
    return KIND::listed ? SLOTS * i < end : i < end;
}
/* The lane's unit in turn i: of a range the blocks from that of its first on, of a list the next four.  Past the end: the last. */
template <class KIND> DEV int32_t unit_at(const radar_score_task &t, int32_t i, int32_t end) {
    const int32_t slot = (int32_t)dev_lane() / 8;
    if (!KIND::listed) return (t.segment_begin / SLOTS + (i < end ? i : end - 1)) * SLOTS + slot;
    const int32_t k = SLOTS * i + slot;
    return t.list[k < end ? k : end - 1];
}

/* All turns of a warp, every stride-th from number i on, for n queries from number `first` on. */
template <class KIND>
DEV void scan_queries(const radar_cuda_sketch &x, const radar_score_task &t, int32_t i,
                      int32_t stride, int first, int n) {
    const char *prepared = (const char *)t.query + (size_t)first * x.query_bytes;
    const int32_t end = end_of<KIND>(t);
    queries<KIND> q;
    q.shared = KIND::listed ? share_queries<KIND::mmas>(x, prepared, n) : nullptr;
    if (!is_turn<KIND>(i, end)) return;
    load_queries<KIND>(q, x, prepared, n);
    const places at = places_of<KIND>(x);
    const uint32_t table = step_table(x.step);
    const int j = 2 * ((int)dev_lane() % 4) + (int)dev_lane() / 4 % 2, slot = (int)dev_lane() / 8;
    float *score = t.score + (size_t)(first + j) * t.score_stride;
    if (KIND::listed && j >= n) score = nullptr; /* one register less than comparing again */
    turn next = {(const char *)t.kv.summary, x.block_bytes, unit_at<KIND>(t, i, end)};
    /* a list is read a turn before its blocks */
    int32_t ahead = KIND::listed ? unit_at<KIND>(t, i + stride, end) : 0;
    fetched<KIND> f;
    fetch_rest<KIND>(f, next, x, at);
#pragma unroll
    for (int s = 0; s < SLOTS; s++) fetch_codes<KIND>(f, next, x, at, s);
    for (; is_turn<KIND>(i, end); i += stride) {
        const int32_t unit = next.unit;
        next.unit = KIND::listed ? ahead : unit_at<KIND>(t, i + stride, end);
        if (KIND::listed) ahead = unit_at<KIND>(t, i + 2 * stride, end);
        const float s = score_turn<KIND>(f, next, q, x, at, table);
        const bool wanted =
            KIND::listed ? SLOTS * i + slot < end : unit >= t.segment_begin && unit < t.segment_end;
        if (wanted && (KIND::listed ? score != nullptr : j < n)) score[unit - t.segment_begin] = s;
    }
}

/* Grid: query tiles times blocks of threads, tasks.  8 warps, each on its own. */
template <class KIND>
__global__ void __launch_bounds__(THREADS, KIND::blocks)
    sketch_scan(radar_cuda_sketch x, const radar_score_task *task, int tiles) {
    const radar_score_task t = task[blockIdx.y];
    const int first = (int)(blockIdx.x % (unsigned)tiles) * QUERIES;
    const int n = t.n_query - first < QUERIES ? t.n_query - first : QUERIES;
    const int32_t warps = THREADS / 32;
    if (n > 0)
        scan_queries<KIND>(x, t,
                           (int32_t)(blockIdx.x / (unsigned)tiles) * warps + (int32_t)dev_warp(),
                           (int32_t)(gridDim.x / (unsigned)tiles) * warps, first, n);
}

struct launch_of {
    const radar_cuda_sketch *x;
    const radar_score_task *task;
    int n, tiles, ctas;
    radar_cuda_queue *queue;
};

template <int BITS, int MMAS, bool ROUGH, bool LISTED> int launch_kind(const launch_of &l) {
    const int each = l.ctas / (l.n * l.tiles);
    return LAUNCH((sketch_scan<scan_kind<BITS, MMAS, ROUGH, LISTED>>),
                  dim3((unsigned)(l.tiles * (each > 1 ? each : 1)), (unsigned)l.n), dim3(THREADS),
                  0, l.queue, *l.x, l.task, l.tiles);
}

template <int BITS, bool ROUGH, bool LISTED> int launch_size(const launch_of &l) {
    return l.x->D <= 64 ? launch_kind<BITS, 2, ROUGH, LISTED>(l)
                        : launch_kind<BITS, 4, ROUGH, LISTED>(l);
}

template <bool LISTED> int launch_bits(const launch_of &l, bool coarse) {
    if (l.x->bits == 4) return launch_size<4, false, LISTED>(l);
    if (l.x->bits == 1) return launch_size<1, false, LISTED>(l);
    if (coarse) return launch_size<1, true, LISTED>(l);
    return launch_size<2, false, LISTED>(l);
}

} // namespace

extern "C" int radar_cuda_sketch_scan(const radar_cuda_sketch *x, const radar_score_task *task,
                                      int n, int max_query, bool listed, bool coarse, int ctas,
                                      radar_cuda_queue *queue) {
    if (n <= 0 || max_query <= 0) return 0;
    if (x->D > 128) return cudaErrorInvalidValue; /* more than registers hold */
    const launch_of l = {x, task, n, (max_query + QUERIES - 1) / QUERIES, ctas, queue};
    return listed ? launch_bits<true>(l, coarse) : launch_bits<false>(l, coarse);
}
