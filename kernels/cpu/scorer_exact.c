/* exact - the oracle: stores nothing, reads the keys.  score = ln sum over the segment's 16 tokens of exp(q . k / sqrt D)
 * Prepared query: q [D] f32.  Cost: 2 * 16 * D bytes a segment, half of what attending costs. */
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "kernels/cpu/q8.h"
#include "runtime/sys.h"

typedef struct exact {
    radar_isa isa;
    float scale; /* 1 / sqrt D */
} exact;

static radar_status exact_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", s->opt.isa);
    exact *x = radar_alloc(sizeof *x);
    if (!x)
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer 'exact': no memory for %zu bytes",
                          sizeof *x);
    *x = (exact){isa, (float)(1 / sqrt(s->opt.D))};
    s->state = x;
    s->block_bytes = 0;
    s->query_bytes = ((size_t)s->opt.D * sizeof(float) + 15) / 16 * 16;
    return RADAR_OK;
}

static void exact_close(radar_scorer *s) { radar_free(s->state); }

static void exact_seal(const radar_scorer *s, void *summary, const float *key) {
    (void)s, (void)summary, (void)key;
}

static void exact_query(const radar_scorer *s, void *prepared, const float *q) {
    memset(prepared, 0, s->query_bytes);
    memcpy(prepared, q, (size_t)s->opt.D * sizeof *q);
}

static void score_plain(const exact *x, const radar_score_task *t, const float *q,
                        size_t q_stride) {
    _Alignas(64) float room[RADAR_SEGMENT * RADAR_MAX_D];
    for (int32_t i = 0; i < t->segment_end - t->segment_begin; i++) {
        radar_tile_keys tile = radar_keys_of(x->isa, &t->kv, radar_score_unit(t, i), room);
        for (int j = 0; j < t->n_query; j++) {
            float s[RADAR_SEGMENT];
            radar_segment_logits(s, tile.type, tile.k, t->kv.D, q + (size_t)j * q_stride);
            for (int l = 0; l < RADAR_SEGMENT; l++) s[l] *= x->scale;
            t->score[(size_t)j * t->score_stride + (size_t)i] = radar_lse1(s);
        }
    }
}

/* Keys of one segment of a q8 cache, as f32. */
RADAR_AVX512 static void read_keys(const exact *x, const radar_kv_view *kv, int32_t segment,
                                   float *out) {
    radar_tile_keys tile = radar_keys_of(x->isa, kv, segment, out);
    for (int i = 0; tile.k != out && i < RADAR_SEGMENT * kv->D; i += 16)
        _mm512_store_ps(out + i, radar_segment_load(RADAR_F16, tile.k, (size_t)i));
}

/* Q queries, up to four of the task's segments from number `first` on, at once. */
RADAR_TEMPLATE RADAR_AVX512 void score_four(const exact *x, const radar_score_task *t,
                                            radar_dtype type, const float *q, size_t q_stride,
                                            int32_t first, float *out, int Q) {
    __m512 s[4 * RADAR_QUERY_BLOCK], logit[RADAR_QUERY_BLOCK];
    int32_t left = t->segment_end - t->segment_begin - first;
    int n = left < 4 ? left : 4;
    for (int i = 0; i < 4; i++) {
        if (i < n)
            radar_segment_logits_avx512(logit, type,
                                        radar_place_of(&t->kv, radar_score_unit(t, first + i)).k,
                                        t->kv.D, q, q_stride, Q);
        for (int j = 0; j < Q; j++)
            s[4 * j + i] =
                i < n ? _mm512_mul_ps(logit[j], _mm512_set1_ps(x->scale)) : _mm512_setzero_ps();
    }
    _Alignas(64) float lse[16];
    _mm512_store_ps(lse, radar_lse16(s, Q));
    for (int j = 0; j < Q; j++)
        for (int i = 0; i < n; i++) out[(size_t)j * t->score_stride + (size_t)i] = lse[4 * j + i];
}

RADAR_TEMPLATE RADAR_AVX512 void score_type(const exact *x, const radar_score_task *t,
                                            radar_dtype type, const float *q, size_t q_stride) {
    for (int32_t i = 0; i < t->segment_end - t->segment_begin; i += 4) {
        float *out = t->score + i;
        for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
            const float *qj = q + (size_t)j * q_stride;
            float *to = out + (size_t)j * t->score_stride;
            switch (t->n_query - j) {
            case 1:
                score_four(x, t, type, qj, q_stride, i, to, 1);
                break;
            case 2:
                score_four(x, t, type, qj, q_stride, i, to, 2);
                break;
            case 3:
                score_four(x, t, type, qj, q_stride, i, to, 3);
                break;
            default:
                score_four(x, t, type, qj, q_stride, i, to, 4);
            }
        }
    }
}

RADAR_AVX512 static void score_avx512(const exact *x, const radar_score_task *t, const float *q,
                                      size_t q_stride) {
    if (t->kv.type == RADAR_F32)
        score_type(x, t, RADAR_F32, q, q_stride);
    else if (t->kv.type == RADAR_F16)
        score_type(x, t, RADAR_F16, q, q_stride);
    else
        score_type(x, t, RADAR_BF16, q, q_stride);
}

/* Four segments at a time as f32, so that all types go the same way. */
RADAR_AVX512 static void score_q8(const exact *x, const radar_score_task *t, const float *q,
                                  size_t q_stride) {
    _Alignas(64) float room[4 * RADAR_SEGMENT * RADAR_MAX_D];
    int tile = RADAR_SEGMENT * t->kv.D;
    const int32_t all = t->segment_end - t->segment_begin;
    for (int32_t i = 0; i < all; i += 4) {
        int n = (int)radar_min64(4, all - i);
        radar_score_task four = *t;
        for (int s = 0; s < n; s++)
            read_keys(x, &t->kv, radar_score_unit(t, i + s), room + s * tile);
        four.kv.type = RADAR_F32;
        four.kv.k = room;
        four.list = NULL;
        four.segment_begin = 0;
        four.segment_end = n;
        four.score = t->score + i;
        score_type(x, &four, RADAR_F32, q, q_stride);
    }
}

static void exact_score(const radar_scorer *s, const radar_score_task *t) {
    const exact *x = s->state;
    size_t q_stride = s->query_bytes / sizeof(float);
    if (!x->isa.avx512)
        score_plain(x, t, t->query, q_stride);
    else if (t->kv.type == RADAR_Q8)
        score_q8(x, t, t->query, q_stride);
    else
        score_avx512(x, t, t->query, q_stride);
}

const radar_scorer_kind radar_scorer_exact = {
    .name = "exact",
    .open = exact_open,
    .close = exact_close,
    .seal = exact_seal,
    .query = exact_query,
    .score = exact_score,
};
