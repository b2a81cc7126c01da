/* sketch - every key of a block in 2 bits a dimension, after a rotation that makes its coordinates look alike.
 *   mu = mean of the block's 64 keys, stored int8 with one scale
 *   z_i = H (k_i - mu),  H: normalised Hadamard matrix times seeded signs; D no power of two: one H per power of two, largest first
 *   zhat_i = step_i level(z_i),  levels -1.5 -.5 .5 1.5;  step_i: the best of max|z| / 2 {1, .8, .65, .5} by squared error,
 *            then, the levels kept, the one of least squares
 *   logit_i = (q . mu + (H q) . zhat_i) / sqrt D,  H q in int8 with one scale;   score = log-sum-exp of the segment's 16
 *
 * Block (Dp = D rounded up to 16; 17 Dp + 72 bytes, D = 64: 18.1 a token):
 *   u32 code[4 segments][Dp / 16][16 tokens]   dimension 16 z + 4 s + b of a token: bits 8 b + 2 s, 2 wide, of its dword z, so
 *                                              that (dword >> 2 s) & 0x03030303 has four dimensions in order, one a byte
 *   u8  step[64]     0: step 0;  c: 2^((c - 255) / 16) times the block's largest step
 *   i8  mu[Dp]       zeros at the end
 *   f32 mu_scale, step_scale
 * Prepared query: f32 factor (scale of hq / sqrt D), f32 centre (1.5 sum hq), 8 bytes 0, i8 hq[Dp], f32 q[Dp] / sqrt D.
 * Sealing is one C source for both instruction sets: 16 tokens side by side, no sum across them. */
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "runtime/sys.h"

#define LANES RADAR_SEGMENT

typedef struct sketch {
    bool avx512;
    int D, Dp;
    int n_part, part[8];       /* sizes of the Hadamard matrices */
    float norm[RADAR_MAX_D];   /* sign / sqrt(size of the part) */
    float scale;               /* 1 / sqrt D */
    float step[256];           /* of a code */
    float middle[16];          /* 2^((i + 1/2) / 16): where step codes change */
} sketch;

typedef struct block_view {
    const uint32_t *code;
    const uint8_t *step;
    const int8_t *mu;
    float mu_scale, step_scale;
} block_view;

typedef struct query_view {
    float factor, centre;
    const int8_t *hq;
    const float *q;
} query_view;

static void fill_tables(sketch *x, uint64_t seed) {
    int d = 0;
    for (int left = x->D, size = 256; left > 0; size /= 2) {
        if (size > left) continue;
        x->part[x->n_part++] = size;
        left -= size;
        for (int end = d + size; d < end; d++) {
            float norm = (float)(1 / sqrt(size));
            x->norm[d] = radar_random(seed, RADAR_STREAM_SIGNS, (uint64_t)d) & 1 ? -norm : norm;
        }
    }
    for (int c = 1; c < 256; c++) x->step[c] = (float)exp2((c - 255) / 16.0);
    for (int i = 0; i < 16; i++) x->middle[i] = (float)exp2((i + 0.5) / 16);
}

static radar_status sketch_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok) return radar_fail(err, RADAR_ERR_CONFIG, "instruction set '%s': not on this machine; use plain", s->opt.isa);
    sketch *x = radar_alloc(sizeof *x);
    if (!x) return radar_fail(err, RADAR_ERR_MEMORY, "scorer 'sketch': no memory for %zu bytes", sizeof *x);
    x->avx512 = isa.avx512;
    x->D = s->opt.D;
    x->Dp = (s->opt.D + 15) / 16 * 16;
    x->scale = (float)(1 / sqrt(s->opt.D));
    fill_tables(x, s->opt.seed);
    s->state = x;
    s->block_bytes = 17 * (size_t)x->Dp + 72;
    s->query_bytes = 16 + 5 * (size_t)x->Dp;
    return RADAR_OK;
}

static void sketch_close(radar_scorer *s) { radar_free(s->state); }

/* int8 with one scale; returns the scale.  Numbers that are not finite count as 0. */
static float quantise(int8_t *out, const float *v, int n) {
    float max = 0;
    for (int i = 0; i < n; i++) max = fabsf(v[i]) > max ? fabsf(v[i]) : max;
    if (!(max > 0 && max < INFINITY)) {
        memset(out, 0, (size_t)n);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        float u = v[i] / max * 127;
        out[i] = u == u ? (int8_t)(int)(u + (u < 0 ? -0.5f : 0.5f)) : 0;
    }
    return max / 127;
}

/* ---- sealing ---- */

/* z := H z, dimension by dimension of 16 tokens (or of one query, LANES = 1 of them used). */
RADAR_TEMPLATE void rotate(const sketch *x, float *z, int lanes) {
    for (int d = 0; d < x->D; d++)
        for (int l = 0; l < lanes; l++) z[d * lanes + l] *= x->norm[d];
    for (int p = 0; p < x->n_part; z += x->part[p++] * lanes) {
        for (int half = 1; half < x->part[p]; half *= 2) {
            for (int d = 0; d < x->part[p]; d++) {
                if (d & half) continue;
                float *a = z + d * lanes, *b = a + half * lanes;
                for (int l = 0; l < lanes; l++) {
                    float u = a[l], v = b[l];
                    a[l] = u + v;
                    b[l] = u - v;
                }
            }
        }
    }
}

RADAR_TEMPLATE float level_of(float z, float step) {
    return (z >= -step ? 1.0f : 0.0f) + (z >= 0 ? 1.0f : 0.0f) + (z >= step ? 1.0f : 0.0f) - 1.5f;
}

/* The step of each token that decides its levels. */
RADAR_TEMPLATE void choose_step(float step[LANES], const float *z, int D) {
    float max[LANES] = {0}, best[LANES];
    for (int d = 0; d < D; d++)
        for (int l = 0; l < LANES; l++) max[l] = fabsf(z[d * LANES + l]) > max[l] ? fabsf(z[d * LANES + l]) : max[l];
    for (int l = 0; l < LANES; l++) best[l] = INFINITY, step[l] = 0;
    for (int c = 0; c < 4; c++) {
        const float shrink[] = {0.5f, 0.4f, 0.325f, 0.25f};
        float error[LANES] = {0}, candidate[LANES];
        for (int l = 0; l < LANES; l++) candidate[l] = max[l] * shrink[c];
        for (int d = 0; d < D; d++) {
            for (int l = 0; l < LANES; l++) {
                float e = z[d * LANES + l] - level_of(z[d * LANES + l], candidate[l]) * candidate[l];
                error[l] += e * e;
            }
        }
        for (int l = 0; l < LANES; l++) {
            step[l] = error[l] < best[l] ? candidate[l] : step[l];
            best[l] = error[l] < best[l] ? error[l] : best[l];
        }
    }
}

/* Codes of 16 tokens; step becomes the one of least squares for them. */
RADAR_TEMPLATE void encode(uint32_t *code, float step[LANES], const float *z, int D) {
    float dot[LANES] = {0}, square[LANES] = {0};
    for (int d = 0; d < D; d++) {
        int shift = 8 * (d % 4) + 2 * (d % 16 / 4);
        uint32_t *word = code + d / 16 * LANES;
        for (int l = 0; l < LANES; l++) {
            float level = level_of(z[d * LANES + l], step[l]);
            dot[l] += z[d * LANES + l] * level;
            square[l] += level * level;
            word[l] |= (uint32_t)(int32_t)(level + 1.5f) << shift;
        }
    }
    for (int l = 0; l < LANES; l++) step[l] = dot[l] / square[l];
}

/* Nearest code, on the logarithmic scale, of a step in units of the largest. */
static uint8_t step_code(const sketch *x, float ratio) {
    if (!(ratio > 0)) return 0;
    int e, i = 0;
    float m = 2 * frexpf(ratio, &e); /* ratio = m 2^(e - 1), 1 <= m < 2 */
    while (i < 16 && m >= x->middle[i]) i++;
    int code = 16 * (e - 1) + i + 255;
    return (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code < 1 ? 1 : code);
}

static void store_steps(const sketch *x, uint8_t *out, float *step_scale, const float step[RADAR_BLOCK]) {
    float max = 0;
    for (int i = 0; i < RADAR_BLOCK; i++) max = step[i] > max ? step[i] : max;
    if (!(max < INFINITY)) max = 0;
    *step_scale = max;
    for (int i = 0; i < RADAR_BLOCK; i++) out[i] = max > 0 ? step_code(x, step[i] / max) : 0;
}

static float store_mean(int8_t *mu, const sketch *x, const float *key) {
    float sum[RADAR_MAX_D] = {0};
    for (int i = 0; i < RADAR_BLOCK; i++)
        for (int d = 0; d < x->D; d++) sum[d] += key[i * x->D + d];
    for (int d = 0; d < x->D; d++) sum[d] *= 1.0f / RADAR_BLOCK;
    return quantise(mu, sum, x->D);
}

RADAR_TEMPLATE void seal(const sketch *x, void *summary, const float *key) {
    _Alignas(64) float z[RADAR_MAX_D * LANES];
    float step[RADAR_BLOCK], scale[2];
    uint32_t *code = summary;
    uint8_t *steps = (uint8_t *)summary + 16 * x->Dp;
    int8_t *mu = (int8_t *)steps + RADAR_BLOCK;
    memset(summary, 0, 17 * (size_t)x->Dp + 72);
    scale[0] = store_mean(mu, x, key);
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++) {
        for (int l = 0; l < LANES; l++)
            for (int d = 0; d < x->D; d++)
                z[d * LANES + l] = key[(s * LANES + l) * x->D + d] - scale[0] * (float)mu[d];
        rotate(x, z, LANES);
        choose_step(step + s * LANES, z, x->D);
        encode(code + s * x->Dp, step + s * LANES, z, x->D);
    }
    store_steps(x, steps, &scale[1], step);
    memcpy(mu + x->Dp, scale, sizeof scale);
}

static void seal_plain(const sketch *x, void *summary, const float *key) { seal(x, summary, key); }
RADAR_AVX512 static void seal_avx512(const sketch *x, void *summary, const float *key) { seal(x, summary, key); }

static void sketch_seal(const radar_scorer *s, void *summary, const float *key) {
    const sketch *x = s->state;
    (x->avx512 ? seal_avx512 : seal_plain)(x, summary, key);
}

/* ---- scoring ---- */

static void sketch_query(const radar_scorer *s, void *prepared, const float *q) {
    const sketch *x = s->state;
    float h[RADAR_MAX_D], head[4] = {0};
    int8_t *hq = (int8_t *)prepared + 16;
    float *scaled = (float *)((char *)prepared + 16 + x->Dp);
    int sum = 0;
    memset(prepared, 0, s->query_bytes);
    memcpy(h, q, (size_t)x->D * sizeof *q);
    rotate(x, h, 1);
    head[0] = quantise(hq, h, x->D) * x->scale;
    for (int d = 0; d < x->D; d++) {
        sum += hq[d];
        scaled[d] = q[d] * x->scale;
    }
    head[1] = 1.5f * (float)sum;
    memcpy(prepared, head, sizeof head);
}

RADAR_TEMPLATE block_view view_block(const sketch *x, const radar_score_task *t, int32_t block) {
    const char *p = (const char *)t->kv.summary + (size_t)block * t->kv.block_bytes;
    block_view b = {.code = (const uint32_t *)p, .step = (const uint8_t *)p + 16 * x->Dp};
    b.mu = (const int8_t *)b.step + RADAR_BLOCK;
    memcpy(&b.mu_scale, b.mu + x->Dp, sizeof b.mu_scale);
    memcpy(&b.step_scale, b.mu + x->Dp + 4, sizeof b.step_scale);
    return b;
}

RADAR_TEMPLATE query_view view_query(const sketch *x, const char *prepared) {
    query_view q = {.hq = (const int8_t *)prepared + 16, .q = (const float *)(prepared + 16 + x->Dp)};
    memcpy(&q.factor, prepared, sizeof q.factor);
    memcpy(&q.centre, prepared + 4, sizeof q.centre);
    return q;
}

static int32_t dot_codes(const uint32_t *code, const int8_t *hq, int Dp, int token) {
    int32_t sum = 0;
    for (int d = 0; d < Dp; d++)
        sum += (int32_t)(code[d / 16 * LANES + token] >> (8 * (d % 4) + 2 * (d % 16 / 4)) & 3) * hq[d];
    return sum;
}

static float segment_plain(const sketch *x, const block_view *b, const query_view *q, int segment, float base) {
    const uint32_t *code = b->code + segment * x->Dp;
    const uint8_t *step = b->step + segment * LANES;
    float logit[LANES], gain = q->factor * b->step_scale;
    for (int i = 0; i < LANES; i++) {
        float dot = (float)dot_codes(code, q->hq, x->Dp, i) - q->centre;
        logit[i] = fmaf(dot * x->step[step[i]], gain, base);
    }
    return radar_lse1(logit);
}

static void score_plain(const sketch *x, const radar_score_task *t, size_t query_bytes) {
    for (int32_t i = t->segment_begin; i < t->segment_end; i++) {
        block_view b = view_block(x, t, i / RADAR_BLOCK_SEGMENTS);
        for (int j = 0; j < t->n_query; j++) {
            query_view q = view_query(x, (const char *)t->query + (size_t)j * query_bytes);
            float lane[16] = {0};
            for (int d = 0; d < x->Dp; d++) lane[d % 16] = fmaf(q.q[d], (float)b.mu[d], lane[d % 16]);
            t->score[(size_t)j * t->score_stride + (size_t)(i - t->segment_begin)] =
                segment_plain(x, &b, &q, i % RADAR_BLOCK_SEGMENTS, radar_fold_sum1(lane) * b.mu_scale);
        }
    }
}

/* Steps of 16 tokens in units of the largest: 2^(low 4 bits / 16) from a register, the rest goes to the exponent. */
RADAR_TEMPLATE RADAR_AVX512 __m512 steps_of(const uint8_t *code, __m512 table) {
    __m128i c8 = _mm_loadu_si128((const __m128i *)code);
    __m512i c = _mm512_add_epi32(_mm512_cvtepu8_epi32(c8), _mm512_set1_epi32(1));
    __m512i power = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_srli_epi32(c, 4), _mm512_set1_epi32(16)), 23);
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(_mm512_permutexvar_ps(c, table)), power);
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(_mm_test_epi8_mask(c8, c8), bits));
}

/* (q . mu) / sqrt D of Q queries. */
RADAR_TEMPLATE RADAR_AVX512 void bases(float *out, const sketch *x, const block_view *b, const query_view *q, int Q) {
    __m512 sum[4];
    for (int j = 0; j < 4; j++) sum[j] = _mm512_setzero_ps();
    for (int d = 0; d < x->Dp; d += 16) {
        __m512 mu = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(b->mu + d))));
        for (int j = 0; j < Q; j++) sum[j] = _mm512_fmadd_ps(_mm512_loadu_ps(q[j].q + d), mu, sum[j]);
    }
    __m512 r = radar_fold4(false, sum);
    __m128 lo = _mm_add_ps(_mm512_castps512_ps128(r), _mm512_extractf32x4_ps(r, 2));
    __m128 hi = _mm_add_ps(_mm512_extractf32x4_ps(r, 1), _mm512_extractf32x4_ps(r, 3));
    _mm_storeu_ps(out, _mm_mul_ps(_mm_add_ps(lo, hi), _mm_set1_ps(b->mu_scale)));
}

/* sum code hq of the block's 64 tokens: 16 lanes, segment i of query j in out[4 j + i]. */
RADAR_TEMPLATE RADAR_AVX512 void dot_block(__m512i *out, const sketch *x, const block_view *b, const query_view *q, int Q) {
    const __m512i two_bits = _mm512_set1_epi8(3);
    for (int i = 0; i < 4 * Q; i++) out[i] = _mm512_setzero_si512();
    for (int z = 0; z < x->Dp / 16; z++) {
        __m512i word[4];
        for (int i = 0; i < 4; i++) word[i] = _mm512_loadu_si512(b->code + i * x->Dp + z * LANES);
        for (int s = 0; s < 4; s++) {
            __m512i hq[RADAR_QUERY_BLOCK];
            for (int j = 0; j < Q; j++) {
                int32_t four;
                memcpy(&four, q[j].hq + 16 * z + 4 * s, sizeof four);
                hq[j] = _mm512_set1_epi32(four);
            }
            for (int i = 0; i < 4; i++) {
                __m512i code = _mm512_and_si512(_mm512_srli_epi32(word[i], 2 * (unsigned)s), two_bits);
                for (int j = 0; j < Q; j++) out[4 * j + i] = _mm512_dpbusd_epi32(out[4 * j + i], code, hq[j]);
            }
        }
    }
}

/* Scores of the block's four segments for Q queries: lane 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 score_block(const sketch *x, const block_view *b, const query_view *q, __m512 table, int Q) {
    __m512i dot[4 * RADAR_QUERY_BLOCK];
    __m512 logit[4 * RADAR_QUERY_BLOCK];
    float base[4];
    bases(base, x, b, q, Q);
    dot_block(dot, x, b, q, Q);
    for (int i = 0; i < 4; i++) {
        __m512 step = steps_of(b->step + i * LANES, table);
        for (int j = 0; j < Q; j++) {
            __m512 centred = _mm512_sub_ps(_mm512_cvtepi32_ps(dot[4 * j + i]), _mm512_set1_ps(q[j].centre));
            logit[4 * j + i] = _mm512_fmadd_ps(_mm512_mul_ps(centred, step), _mm512_set1_ps(q[j].factor * b->step_scale),
                                               _mm512_set1_ps(base[j]));
        }
    }
    return radar_lse16(logit, Q);
}

static inline void prefetch_block(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
}

/* Q queries over the task's segments. */
RADAR_TEMPLATE RADAR_AVX512 void score_queries(const sketch *x, const radar_score_task *t, const char *prepared,
                                               size_t query_bytes, float *score, int Q) {
    query_view q[RADAR_QUERY_BLOCK];
    __m512 table = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_loadu_si512(x->step + 239), _mm512_set1_epi32(1 << 23)));
    for (int j = 0; j < Q; j++) q[j] = view_query(x, prepared + (size_t)j * query_bytes);
    int32_t last = (t->segment_end - 1) / RADAR_BLOCK_SEGMENTS;
    for (int32_t k = t->segment_begin / RADAR_BLOCK_SEGMENTS; k <= last; k++) {
        block_view b = view_block(x, t, k);
        if (k + 4 <= last) prefetch_block((const char *)b.code + 4 * t->kv.block_bytes, t->kv.block_bytes);
        _Alignas(64) float lse[16];
        _mm512_store_ps(lse, score_block(x, &b, q, table, Q));
        int32_t first = k * RADAR_BLOCK_SEGMENTS - t->segment_begin, n = t->segment_end - t->segment_begin;
        for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++) {
            if (first + i < 0 || first + i >= n) continue;
            for (int j = 0; j < Q; j++) score[(ptrdiff_t)((size_t)j * t->score_stride) + first + i] = lse[4 * j + i];
        }
    }
}

RADAR_AVX512 static void score_avx512(const sketch *x, const radar_score_task *t, size_t query_bytes) {
    for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
        const char *prepared = (const char *)t->query + (size_t)j * query_bytes;
        float *score = t->score + (size_t)j * t->score_stride;
        switch (t->n_query - j) {
        case 1: score_queries(x, t, prepared, query_bytes, score, 1); break;
        case 2: score_queries(x, t, prepared, query_bytes, score, 2); break;
        case 3: score_queries(x, t, prepared, query_bytes, score, 3); break;
        default: score_queries(x, t, prepared, query_bytes, score, 4);
        }
    }
}

static void sketch_score(const radar_scorer *s, const radar_score_task *t) {
    const sketch *x = s->state;
    if (t->segment_end <= t->segment_begin) return;
    (x->avx512 ? score_avx512 : score_plain)(x, t, s->query_bytes);
}

const radar_scorer_kind radar_scorer_sketch = {
    .name = "sketch",
    .open = sketch_open,
    .close = sketch_close,
    .seal = sketch_seal,
    .query = sketch_query,
    .score = sketch_score,
};
