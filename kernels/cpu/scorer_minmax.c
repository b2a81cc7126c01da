/* minmax - the smallest and the largest coordinate of each segment's keys, dimension by dimension (Quest).
 *   score = ln 16 + sum_d max(q_d min_d, q_d max_d) / sqrt D,   and max(q min, q max) = q (q > 0 ? max : min)
 * The sum bounds the largest logit of the segment from above, so the score overrates the log-mass, and by more the wider the keys
 * spread: it ranks segments, but the coverage estimated from it is not to be trusted.
 * Block: f16 [4 segments][min, max][D]; 4 D / 16 bytes a token.  Rounded to the nearest f16: what an f16 cache holds, and bf16
 * within f16's range, stays exact; of an f32 cache the bound holds within 2^-11 of |q_d k_d|.  A NaN in a key makes its
 * segment's score NaN, which is never chosen.
 * Prepared query: f32 [D rounded up to 16], zeros at the end.
 * Order: 16 lanes d % 16, ascending, one fma each; lanes are folded by the tree of lse.h.
 * Source: Tang et al., Quest, arXiv 2406.10774, where the bound itself is the score; ln 16 puts it beside the log-masses of the
 * other kinds and changes no rank. */
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "runtime/sys.h"

#define LN_16 2.7725887f

typedef struct minmax {
    bool avx512;
    float scale; /* 1 / sqrt D */
} minmax;

static radar_status minmax_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", s->opt.isa);
    minmax *x = radar_alloc(sizeof *x);
    if (!x)
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer 'minmax': no memory for %zu bytes",
                          sizeof *x);
    *x = (minmax){isa.avx512, (float)(1 / sqrt(s->opt.D))};
    s->state = x;
    s->block_bytes = RADAR_BLOCK_SEGMENTS * 2 * (size_t)s->opt.D * 2;
    s->query_bytes = ((size_t)s->opt.D + 15) / 16 * 16 * sizeof(float);
    return RADAR_OK;
}

static void minmax_close(radar_scorer *s) { radar_free(s->state); }

/* Once NaN, always NaN: a key that cannot be compared must not pass unseen. */
static void minmax_seal(const radar_scorer *s, void *summary, const float *key) {
    int D = s->opt.D;
    uint16_t *out = summary;
    for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++, key += RADAR_SEGMENT * D, out += 2 * D) {
        float min[RADAR_MAX_D], max[RADAR_MAX_D];
        for (int d = 0; d < D; d++) min[d] = max[d] = key[d];
        for (int j = 1; j < RADAR_SEGMENT; j++)
            for (int d = 0; d < D; d++) {
                float k = key[j * D + d];
                min[d] = k < min[d] || k != k ? k : min[d];
                max[d] = k > max[d] || k != k ? k : max[d];
            }
        for (int d = 0; d < D; d++) {
            out[d] = radar_f32_to_f16(min[d]);
            out[D + d] = radar_f32_to_f16(max[d]);
        }
    }
}

static void minmax_query(const radar_scorer *s, void *prepared, const float *q) {
    memset(prepared, 0, s->query_bytes);
    memcpy(prepared, q, (size_t)s->opt.D * sizeof *q);
}

/* The minima of a segment; its maxima follow, D further. */
static const uint16_t *bounds_of(const radar_score_task *t, int32_t segment) {
    const char *block =
        (const char *)t->kv.summary + (size_t)(segment / RADAR_BLOCK_SEGMENTS) * t->kv.block_bytes;
    return (const uint16_t *)block + (size_t)(segment % RADAR_BLOCK_SEGMENTS * 2 * t->kv.D);
}

static float bound_plain(const uint16_t *k, const float *q, int D) {
    float lane[16] = {0};
    for (int d = 0; d < D; d++)
        lane[d % 16] = fmaf(q[d], radar_f16_to_f32(k[q[d] > 0 ? D + d : d]), lane[d % 16]);
    return radar_fold_sum1(lane);
}

static void score_plain(const minmax *x, const radar_score_task *t, const float *q,
                        size_t q_stride) {
    for (int32_t i = t->segment_begin; i < t->segment_end; i++)
        for (int j = 0; j < t->n_query; j++)
            t->score[(size_t)j * t->score_stride + (size_t)(i - t->segment_begin)] =
                bound_plain(bounds_of(t, i), q + (size_t)j * q_stride, t->kv.D) * x->scale + LN_16;
}

RADAR_TEMPLATE RADAR_AVX512 __m512 bound_lanes(const uint16_t *k, const float *q, int D) {
    __m512 sum = _mm512_setzero_ps();
    for (int d = 0; d < D; d += 16) {
        __mmask16 tail = radar_tail_mask(D - d);
        __m512 qd = _mm512_loadu_ps(q + d),
               min = radar_segment_load_tail(RADAR_F16, k, (size_t)d, tail),
               max = radar_segment_load_tail(RADAR_F16, k, (size_t)(D + d), tail);
        __mmask16 positive = _mm512_cmp_ps_mask(qd, _mm512_setzero_ps(), _CMP_GT_OQ);
        sum = _mm512_fmadd_ps(qd, _mm512_mask_mov_ps(min, positive, max), sum);
    }
    return sum;
}

/* One query, up to 16 segments from `first` on. */
RADAR_AVX512 static void score_16(const minmax *x, const radar_score_task *t, const float *q,
                                  int32_t first, float *out) {
    __m512 sum[16];
    int n = t->segment_end - first < 16 ? t->segment_end - first : 16;
    for (int i = 0; i < 16; i++)
        sum[i] = i < n ? bound_lanes(bounds_of(t, first + i), q, t->kv.D) : _mm512_setzero_ps();
    __m512 bound = _mm512_mul_ps(radar_fold16(false, sum, 4), _mm512_set1_ps(x->scale));
    _mm512_mask_storeu_ps(out, radar_tail_mask(n), _mm512_add_ps(bound, _mm512_set1_ps(LN_16)));
}

static void score_avx512(const minmax *x, const radar_score_task *t, const float *q,
                         size_t q_stride) {
    for (int32_t i = t->segment_begin; i < t->segment_end; i += 16)
        for (int j = 0; j < t->n_query; j++)
            score_16(x, t, q + (size_t)j * q_stride, i,
                     t->score + (size_t)j * t->score_stride + (i - t->segment_begin));
}

static void minmax_score(const radar_scorer *s, const radar_score_task *t) {
    const minmax *x = s->state;
    (x->avx512 ? score_avx512 : score_plain)(x, t, t->query, s->query_bytes / sizeof(float));
}

const radar_scorer_kind radar_scorer_minmax = {
    .name = "minmax",
    .open = minmax_open,
    .close = minmax_close,
    .seal = minmax_seal,
    .query = minmax_query,
    .score = minmax_score,
};
