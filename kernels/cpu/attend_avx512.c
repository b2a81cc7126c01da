/* One pass of some queries over the items of a task, with AVX-512. */
#include <string.h>

#include "kernels/cpu/attend_float.h"
#include "kernels/cpu/attend_q8.h"
#include "kernels/cpu/lse.h"
#include "kernels/merge.h"

#define MOST_QUERIES \
    64 /* of one pass; fewer for long heads, so that their states stay in the first-level cache */

/* Items whose loads are under way: enough to keep the memory busy, few enough for the first-level cache. */
#define AHEAD 8

/* Logits and masks of one segment, waiting for its values. */
typedef struct weights {
    _Alignas(64) float s[MOST_QUERIES][16];
    uint32_t mask[MOST_QUERIES];
} weights;

typedef struct pass {
    const radar_attend_task *task;
    float scale;
    int begin, n;        /* queries */
    int64_t first, last; /* least and greatest position */
    radar_isa isa;
    bool packed; /* packed segments are read as they are; else, with weights, as f32 */
    _Alignas(64) float m[MOST_QUERIES], l[MOST_QUERIES], fade[MOST_QUERIES];
    weights weight[2];
    _Alignas(64) float wide[RADAR_MAX_D * RADAR_SEGMENT]; /* one segment for all its queries */
    int64_t block; /* whose centre's logits are in middle; -1: none */
    float middle[MOST_QUERIES];
    radar_q8_query split[MOST_QUERIES];
} pass;

RADAR_AVX512 static void to_f32(float *out, radar_dtype type, const void *tile, int D,
                                const void *ahead) {
    for (int d = 0; d < D; d++) {
        size_t i = (size_t)d * RADAR_SEGMENT;
        if (d % 2 == 0) radar_prefetch_like(ahead, 2 * i, 2 * i + 64);
        _mm512_store_ps(out + i, type == RADAR_F16 ? radar_segment_load(RADAR_F16, tile, i)
                                                   : radar_segment_load(RADAR_BF16, tile, i));
    }
}

/* The first item from i on that some query attends; fills its masks. */
static int next_item(const pass *p, int i, uint32_t *mask) {
    const radar_attend_task *t = p->task;
    for (; i < t->items.n; i++) {
        int64_t first = radar_kv_position(&t->kv, t->items.item[i].segment);
        uint32_t any = 0;
        if (first > p->last) continue;
        for (int j = 0; j < p->n; j++) {
            mask[j] =
                first + RADAR_SEGMENT - 1 <= p->first
                    ? t->items.item[i].tokens & 0xffff
                    : radar_attended(t->items.item[i].tokens, first, t->position[p->begin + j]);
            any |= mask[j];
        }
        if (any) break;
    }
    return i;
}

/* Where item i lies, NULL behind the last one; with it comes what goes with a packed one, and is far from it. */
RADAR_TEMPLATE radar_place coming(const pass *p, int i) {
    const radar_attend_task *t = p->task;
    if (i >= t->items.n) return (radar_place){0};
    const int64_t segment = t->items.item[i].segment;
    if (p->n <= RADAR_QUERY_BLOCK && i > 0 && segment == t->items.item[i - 1].segment + 1)
        return (radar_place){0};
    radar_place place = radar_place_of(&t->kv, segment);
    if (place.type == RADAR_Q8) {
        const uint8_t *centre = radar_q8_centre(&t->kv, segment);
        __builtin_prefetch(t->kv.k_scale + segment * RADAR_SEGMENT, 0, 3);
        __builtin_prefetch(t->kv.v_scale + segment * RADAR_SEGMENT, 0, 3);
        __builtin_prefetch(centre, 0, 3);
        __builtin_prefetch(centre + t->kv.D, 0, 3);
    }
    return place;
}

/* Inlined by force: gcc 12 takes a function that only prefetches for one without effect, and drops the call. */
RADAR_TEMPLATE void prefetch_item(const pass *p, int i) {
    radar_place place = coming(p, i);
    const size_t bytes = radar_segment_bytes(place.type, p->task->kv.D);
    radar_prefetch_like(place.k, 0, bytes);
    radar_prefetch_like(place.v, 0, bytes);
}

static void look_at_packed(pass *p, int64_t segment, const void *ahead, weights *w) {
    const radar_attend_task *t = p->task;
    const float *q = t->q + (size_t)p->begin * t->q_stride;
    if (segment / RADAR_BLOCK_SEGMENTS != p->block) {
        p->block = segment / RADAR_BLOCK_SEGMENTS;
        radar_q8_middles(p->middle, &t->kv, segment, q, t->q_stride, p->scale, p->n);
    }
    for (int j = 0; j < p->n; j += RADAR_QUERY_BLOCK) {
        int Q = p->n - j < RADAR_QUERY_BLOCK ? p->n - j : RADAR_QUERY_BLOCK;
        radar_q8_logits[Q - 1](w->s + j, &t->kv, segment, p->split + j, p->middle + j,
                               j ? NULL : ahead);
    }
}

/* Keys of a segment that is not read packed, for all blocks of queries. */
static radar_tile_keys keys_for_all(pass *p, int64_t segment, const void *ahead) {
    const radar_kv_view *kv = &p->task->kv;
    if (radar_kv_packed(kv, segment)) return radar_keys_of(p->isa, kv, segment, p->wide);
    radar_place place = radar_place_of(kv, segment);
    if (p->n <= RADAR_QUERY_BLOCK || place.type == RADAR_F32)
        return (radar_tile_keys){place.type, place.k};
    to_f32(p->wide, place.type, place.k, kv->D, ahead);
    return (radar_tile_keys){RADAR_F32, p->wide};
}

/* ahead: the keys of an item that comes later; read on the way. */
static void look_at(pass *p, int i, const void *ahead, weights *w) {
    const radar_attend_task *t = p->task;
    int64_t segment = t->items.item[i].segment;
    if (p->packed && segment < t->kv.tail_begin) {
        look_at_packed(p, segment, ahead, w);
        return;
    }
    radar_tile_keys key = keys_for_all(p, segment, ahead);
    if (key.k == p->wide) ahead = NULL;
    for (int j = 0; j < p->n; j += RADAR_QUERY_BLOCK) {
        int Q = p->n - j < RADAR_QUERY_BLOCK ? p->n - j : RADAR_QUERY_BLOCK;
        radar_attend_logits[key.type][Q - 1](w->s + j, key.k, t->kv.D,
                                             t->q + (size_t)(p->begin + j) * t->q_stride,
                                             t->q_stride, p->scale, j ? NULL : ahead);
    }
}

/* What the 16 tokens of a segment count: 1 each without weights. */
RADAR_TEMPLATE RADAR_AVX512 __m512 counts_of(const float *weight, int32_t segment) {
    return weight ? _mm512_loadu_ps(weight + (size_t)segment * RADAR_SEGMENT)
                  : _mm512_set1_ps(1.0f);
}

/* Logits become weights, and m, l follow: N queries from j on, one lane each.  weighted: tokens of the item count as
 * the task says. */
RADAR_TEMPLATE RADAR_AVX512 void soften_some(pass *p, weights *w, int item, int j, int N,
                                             bool weighted) {
    const radar_attend_task *t = p->task;
    const int Q = (N + 3) / 4;
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 x[16], u = none, v = none;
    if (weighted) {
        u = counts_of(t->key_weight, t->items.item[item].segment);
        v = counts_of(t->value_weight, t->items.item[item].segment);
    }
    for (int i = 0; i < 4 * Q; i++)
        x[i] = i < N ? _mm512_mask_loadu_ps(none, (__mmask16)w->mask[j + i], w->s[j + i]) : none;
    __m512 before = _mm512_load_ps(p->m + j), m = _mm512_max_ps(radar_fold16(true, x, Q), before);
    /* no key yet: every weight is exp(-inf) = 0, not exp(-inf + inf) */
    __m512 base =
        _mm512_mask_mov_ps(m, _mm512_cmp_ps_mask(m, none, _CMP_EQ_OQ), _mm512_setzero_ps());
    for (int i = 0; i < N; i++) {
        x[i] = radar_expf16(_mm512_sub_ps(x[i], _mm512_permutexvar_ps(_mm512_set1_epi32(i), base)));
        _mm512_store_ps(w->s[j + i], weighted ? _mm512_mul_ps(x[i], v) : x[i]);
        if (weighted) x[i] = _mm512_mul_ps(x[i], u);
    }
    for (int i = N; i < 4 * Q; i++) x[i] = _mm512_setzero_ps();
    __m512 fade = radar_expf16(_mm512_sub_ps(before, base));
    __m512 l =
        _mm512_add_ps(_mm512_mul_ps(_mm512_load_ps(p->l + j), fade), radar_fold16(false, x, Q));
    _mm512_store_ps(p->m + j, m);
    _mm512_store_ps(p->l + j, l);
    _mm512_store_ps(p->fade + j, fade);
}

#define SOFTEN(N) \
    case N: \
        soften_some(p, w, item, j, N, weighted); \
        break;

RADAR_TEMPLATE RADAR_AVX512 void soften_all(pass *p, weights *w, int item, bool weighted) {
    for (int j = 0; j < p->n; j += 16) {
        int left = p->n - j;
        switch (left <= 4 ? left : left >= 16 ? 16 : (left + 3) / 4 * 4) {
            SOFTEN(1)
            SOFTEN(2)
            SOFTEN(3)
            SOFTEN(4)
            SOFTEN(8)
            SOFTEN(12)
            SOFTEN(16)
        }
    }
}

RADAR_AVX512 static void soften(pass *p, weights *w) { soften_all(p, w, 0, false); }
RADAR_AVX512 static void soften_weighted(pass *p, weights *w, int item) {
    soften_all(p, w, item, true);
}

static float *output_of(const pass *p, int j) {
    return p->task->partial + (size_t)(p->begin + j) * p->task->partial_stride + RADAR_PARTIAL_O;
}

/* Tokens that a query does not see have weight 0, which adds nothing. */
static void add_packed(pass *p, int64_t segment, const void *ahead, weights *w) {
    const radar_attend_task *t = p->task;
    for (int j = 0; j < p->n; j += RADAR_QUERY_BLOCK) {
        int Q = p->n - j < RADAR_QUERY_BLOCK ? p->n - j : RADAR_QUERY_BLOCK;
        uint32_t any = 0;
        for (int i = 0; i < Q; i++) any |= w->mask[j + i];
        if (any)
            radar_q8_values_of[Q - 1](output_of(p, j), t->partial_stride, &t->kv, segment, w->s + j,
                                      p->fade + j, j ? NULL : ahead);
    }
}

static radar_tile_keys values_for_all(pass *p, int64_t segment, const void *ahead) {
    const radar_kv_view *kv = &p->task->kv;
    if (radar_kv_packed(kv, segment)) {
        radar_q8_values(p->isa, p->wide, kv, segment);
        return (radar_tile_keys){RADAR_F32, p->wide};
    }
    radar_place place = radar_place_of(kv, segment);
    if (p->n <= RADAR_QUERY_BLOCK || place.type == RADAR_F32)
        return (radar_tile_keys){place.type, place.v};
    to_f32(p->wide, place.type, place.v, kv->D, ahead);
    return (radar_tile_keys){RADAR_F32, p->wide};
}

/* Queries that see different tokens of the segment (the diagonal) go one by one, so that each adds its own tokens only. */
static void add_values(pass *p, int i, const void *ahead, weights *w) {
    const radar_attend_task *t = p->task;
    int64_t segment = t->items.item[i].segment;
    if (p->packed && segment < t->kv.tail_begin) {
        add_packed(p, segment, ahead, w);
        return;
    }
    radar_tile_keys v = values_for_all(p, segment, ahead);
    if (v.k == p->wide) ahead = NULL;
    for (int j = 0, n; j < p->n; j += n) {
        uint32_t mask = w->mask[j];
        for (n = 1; n < RADAR_QUERY_BLOCK && j + n < p->n && w->mask[j + n] == mask;) n++;
        if (mask)
            radar_attend_values[v.type][n - 1](output_of(p, j), t->partial_stride, v.k, t->kv.D,
                                               mask, w->s + j, p->fade + j, j ? NULL : ahead);
    }
}

/* The logits of the next segment are worked out between the weights of one and its values: three chains that do not wait
 * for each other. */
static void run_pass(pass *p) {
    const radar_attend_task *t = p->task;
    const bool weighted = t->key_weight || t->value_weight;
    weights *now = &p->weight[0], *then = &p->weight[1];
    int i = next_item(p, 0, now->mask);
    for (int ahead = 0; ahead < AHEAD; ahead++) prefetch_item(p, i + ahead);
    if (i < t->items.n) look_at(p, i, NULL, now);
    while (i < t->items.n) {
        int next = next_item(p, i + 1, then->mask);
        const radar_place ahead = coming(p, next + AHEAD - 1);
        if (weighted)
            soften_weighted(p, now, i);
        else
            soften(p, now);
        if (next < t->items.n) look_at(p, next, ahead.k, then);
        add_values(p, i, ahead.v, now);
        weights *swap = now;
        now = then;
        then = swap;
        i = next;
    }
    for (int j = 0; j < p->n; j++) {
        float *partial = t->partial + (size_t)(p->begin + j) * t->partial_stride;
        partial[RADAR_PARTIAL_M] = p->m[j];
        partial[RADAR_PARTIAL_L] = p->l[j];
    }
}

static void begin_pass(pass *p, int begin, int most) {
    const radar_attend_task *t = p->task;
    p->begin = begin;
    p->n = t->n_query - begin < most ? t->n_query - begin : most;
    p->first = p->last = t->position[begin];
    for (int j = 0; j < MOST_QUERIES; j++) p->m[j] = -INFINITY, p->l[j] = 0;
    for (int j = begin + 1; j < begin + p->n; j++) {
        p->first = radar_min64(p->first, t->position[j]);
        p->last = radar_max64(p->last, t->position[j]);
    }
    p->block = -1;
    if (!p->packed) return;
    radar_rotation r;
    radar_rotation_of_q8(&r, t->kv.D);
    for (int j = 0; j < p->n; j++)
        radar_q8_split(&p->split[j], &r, t->q + (size_t)(begin + j) * t->q_stride, p->scale);
}

void radar_attend_avx512(radar_isa isa, const radar_attend_task *task, float scale) {
    pass p;
    int most = (int)radar_min64(radar_max64(4096 / task->kv.D, 16), MOST_QUERIES);
    p.task = task;
    p.isa = isa;
    p.scale = scale;
    p.packed = task->kv.type == RADAR_Q8 && !task->key_weight && !task->value_weight;
    memset(p.weight, 0,
           sizeof p.weight); /* lanes beyond the last query are worked on, never used */
    for (int begin = 0; begin < task->n_query; begin += p.n) {
        begin_pass(&p, begin, most);
        run_pass(&p);
    }
}
