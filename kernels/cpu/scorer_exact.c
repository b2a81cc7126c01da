/* exact - the oracle: stores nothing, reads the keys.  score = ln sum over the segment's 16 tokens of exp(q . k / sqrt D)
 * Prepared query: q [D] f32.  Logits are those of attend.h, packed keys included.
 * Cost: the bytes of 16 keys a segment, half of what attending costs. */
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/attend_float.h"
#include "kernels/cpu/attend_q8.h"
#include "kernels/cpu/lse.h"
#include "kernels/cpu/q8_dot.h"
#include "runtime/sys.h"

#define LISTED_AHEAD 8 /* units between prefetching and reading */

typedef struct exact {
    radar_isa isa;
    radar_rotation rotation; /* H of a q8 cache */
    float scale;             /* 1 / sqrt D */
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
    *x = (exact){.isa = isa, .scale = (float)(1 / sqrt(s->opt.D))};
    if (s->opt.D % 16 == 0) radar_rotation_of_q8(&x->rotation, s->opt.D);
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

/* ---- plain C, and AVX2 where keys are packed ---- */

RADAR_TEMPLATE void score_units(const exact *x, const radar_score_task *t, int j, const float *q) {
    const radar_kv_view *kv = &t->kv;
    radar_rounded_query rounded;
    if (kv->type == RADAR_Q8) radar_round_query(&rounded, &x->rotation, q);
    for (int32_t i = 0; i < radar_score_count(t); i++) {
        const int32_t unit = radar_score_unit(t, i);
        float s[RADAR_SEGMENT];
        if (radar_kv_packed(kv, unit)) {
            radar_packed_keys keys = radar_packed_keys_at(x->isa, kv, unit);
            radar_packed_logits(s, x->isa.avx2, &keys, kv->D, &rounded, q, x->scale);
        } else {
            radar_place p = radar_place_of(kv, unit);
            radar_segment_logits(s, p.type, p.k, kv->D, q);
            for (int l = 0; l < RADAR_SEGMENT; l++) s[l] *= x->scale;
        }
        *radar_score_of(t, j, unit) = radar_lse1(s);
    }
}

static void score_plain(const exact *x, const radar_score_task *t, int j, const float *q) {
    score_units(x, t, j, q);
}
RADAR_FMA static void score_fma(const exact *x, const radar_score_task *t, int j, const float *q) {
    score_units(x, t, j, q);
}

/* ---- AVX-512: up to four queries share one read of a segment ---- */

/* Queries first .. first + Q - 1 of a task. */
typedef struct pass {
    const exact *x;
    const radar_score_task *task;
    int first, Q;
    const float *q; /* of the first */
    size_t q_stride;
    radar_q8_query split[RADAR_QUERY_BLOCK];
    int64_t block; /* whose centre's logits are in middle; -1: none */
    float middle[RADAR_QUERY_BLOCK];
} pass;

static void logits(pass *p, int32_t unit, const void *ahead, float (*s)[16]) {
    const radar_kv_view *kv = &p->task->kv;
    if (!radar_kv_packed(kv, unit)) {
        radar_place place = radar_place_of(kv, unit);
        radar_attend_logits[place.type][p->Q - 1](s, place.k, kv->D, p->q, p->q_stride, p->x->scale,
                                                  ahead);
        return;
    }
    if (unit / RADAR_BLOCK_SEGMENTS != p->block) {
        p->block = unit / RADAR_BLOCK_SEGMENTS;
        radar_q8_middles(p->middle, kv, unit, p->q, p->q_stride, p->x->scale, p->Q);
    }
    radar_q8_logits[p->Q - 1](s, kv, unit, p->split, p->middle, ahead);
}

/* The keys of number i of a list, what goes with them under way; NULL of a range, which the machine itself sees coming. */
RADAR_TEMPLATE const void *listed(const radar_score_task *t, int32_t i) {
    if (!t->list || i >= *t->n_listed) return NULL;
    const radar_kv_view *kv = &t->kv;
    const int64_t unit = t->list[i];
    if (radar_kv_packed(kv, unit)) {
        __builtin_prefetch(kv->k_scale + unit * RADAR_SEGMENT, 0, 3);
        __builtin_prefetch(radar_q8_centre(kv, unit), 0, 3);
        __builtin_prefetch(radar_q8_centre(kv, unit) + kv->D, 0, 3);
    }
    return radar_place_of(kv, unit).k;
}

/* Up to four units from number i on. */
RADAR_TEMPLATE RADAR_AVX512 void score_four(pass *p, int32_t i, int n, int Q) {
    _Alignas(64) float s[4][RADAR_QUERY_BLOCK][16], lse[16];
    __m512 x[4 * RADAR_QUERY_BLOCK];
    for (int u = 0; u < n; u++)
        logits(p, radar_score_unit(p->task, i + u), listed(p->task, i + u + LISTED_AHEAD), s[u]);
    for (int j = 0; j < Q; j++)
        for (int u = 0; u < 4; u++)
            x[4 * j + u] = u < n ? _mm512_load_ps(s[u][j]) : _mm512_setzero_ps();
    _mm512_store_ps(lse, radar_lse16(x, Q));
    for (int j = 0; j < Q; j++)
        for (int u = 0; u < n; u++)
            *radar_score_of(p->task, p->first + j, radar_score_unit(p->task, i + u)) =
                lse[4 * j + u];
}

RADAR_TEMPLATE RADAR_AVX512 void score_all(pass *p, int Q) {
    const radar_score_task *t = p->task;
    const int32_t all = radar_score_count(t);
    const size_t bytes = radar_segment_bytes(t->kv.type, t->kv.D);
    for (int32_t i = 0; i < LISTED_AHEAD; i++) radar_prefetch_like(listed(t, i), 0, bytes);
    for (int32_t i = 0; i < all; i += 4) score_four(p, i, (int)radar_min64(4, all - i), Q);
}

RADAR_AVX512 static void score_avx512(const exact *x, const radar_score_task *t, int first,
                                      const float *q, size_t q_stride) {
    pass p = {.x = x, .task = t, .first = first, .q = q, .q_stride = q_stride, .block = -1};
    p.Q = (int)radar_min64(t->n_query - first, RADAR_QUERY_BLOCK);
    for (int j = 0; j < p.Q && t->kv.type == RADAR_Q8; j++)
        radar_q8_split(&p.split[j], &x->rotation, q + (size_t)j * q_stride, x->scale);
    switch (p.Q) {
    case 1:
        score_all(&p, 1);
        break;
    case 2:
        score_all(&p, 2);
        break;
    case 3:
        score_all(&p, 3);
        break;
    default:
        score_all(&p, 4);
    }
}

static void exact_score(const radar_scorer *s, const radar_score_task *t) {
    const exact *x = s->state;
    const float *q = t->query;
    size_t q_stride = s->query_bytes / sizeof *q;
    if (x->isa.avx512)
        for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK)
            score_avx512(x, t, j, q + (size_t)j * q_stride, q_stride);
    else
        for (int j = 0; j < t->n_query; j++)
            (x->isa.fma ? score_fma : score_plain)(x, t, j, q + (size_t)j * q_stride);
}

const radar_scorer_kind radar_scorer_exact = {
    .name = "exact",
    .open = exact_open,
    .close = exact_close,
    .seal = exact_seal,
    .query = exact_query,
    .score = exact_score,
};
