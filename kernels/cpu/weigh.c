/* weigh - the 16 weights of a segment stay in one register while the queries pass, ascending: one addition of a query to a
 * token, so that cutting the queries into passes or calls changes no bit.
 * exp(s - m) / l is exp(s - m) times the rounded 1 / l: beside the error of the logit a share is within 2^-22 relative; the sum
 * of n shares within n 2^-24 more, mostly sqrt(n) 2^-24. */
#include "kernels/weigh.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/q8.h"
#include "kernels/cpu/vmath.h"
#include "kernels/merge.h"

#define PASS_QUERIES 64 /* they stay in the first-level cache while the items pass */

typedef struct pass {
    const radar_weigh_task *task;
    radar_isa isa;
    float scale;
    int begin, n; /* queries */
    float m[PASS_QUERIES], inverse[PASS_QUERIES];
} pass;

/* A query that attended nothing gives nothing: exp(x - inf) 0 = 0. */
static void begin_pass(pass *p, int begin) {
    const radar_weigh_task *t = p->task;
    p->begin = begin;
    p->n = (int)radar_min64(PASS_QUERIES, t->n_query - begin);
    for (int j = 0; j < p->n; j++) {
        const float *root = t->root + (size_t)(begin + j) * t->root_stride;
        bool any = root[RADAR_PARTIAL_L] > 0;
        p->m[j] = any ? root[RADAR_PARTIAL_M] : INFINITY;
        p->inverse[j] = any ? 1.0f / root[RADAR_PARTIAL_L] : 0;
    }
}

/* ---- plain C ---- */

static void plain_add(const pass *p, const radar_item *item, radar_tile_keys key, int j) {
    const radar_weigh_task *t = p->task;
    float s[RADAR_SEGMENT], *weight = t->weight + (size_t)item->segment * RADAR_SEGMENT;
    uint32_t mask = radar_attended(item->tokens, radar_kv_position(&t->kv, item->segment),
                                   t->position[p->begin + j]);
    if (!mask) return;
    radar_segment_logits(s, key.type, key.k, t->kv.D, t->q + (size_t)(p->begin + j) * t->q_stride);
    for (int i = 0; i < RADAR_SEGMENT; i++)
        if (mask >> i & 1) weight[i] += radar_expf1(s[i] * p->scale - p->m[j]) * p->inverse[j];
}

static void plain_pass(const pass *p) {
    _Alignas(64) float room[RADAR_SEGMENT * RADAR_MAX_D];
    for (int i = 0; i < p->task->items.n; i++) {
        const radar_item *item = &p->task->items.item[i];
        radar_tile_keys key = radar_keys_of(p->isa, &p->task->kv, item->segment, room);
        for (int j = 0; j < p->n; j++) plain_add(p, item, key, j);
    }
}

/* ---- AVX-512 ---- */

/* Adds what queries j .. j + Q of the pass give to the segment at position `first`. */
RADAR_TEMPLATE RADAR_AVX512 __m512 add_some(__m512 weight, const pass *p, radar_tile_keys key,
                                            const radar_item *item, int64_t first, int j, int Q) {
    const radar_weigh_task *t = p->task;
    const float *q = t->q + (size_t)(p->begin + j) * t->q_stride;
    uint32_t mask[RADAR_QUERY_BLOCK], any = 0;
    __m512 x[RADAR_QUERY_BLOCK];
    for (int i = 0; i < Q; i++)
        any |= mask[i] = radar_attended(item->tokens, first, t->position[p->begin + j + i]);
    if (!any) return weight;
    radar_segment_logits_avx512(x, key.type, key.k, t->kv.D, q, t->q_stride, NULL, Q);
    for (int i = 0; i < Q; i++) {
        __m512 s = _mm512_mul_ps(x[i], _mm512_set1_ps(p->scale));
        __m512 share = _mm512_mul_ps(radar_expf16(_mm512_sub_ps(s, _mm512_set1_ps(p->m[j + i]))),
                                     _mm512_set1_ps(p->inverse[j + i]));
        weight = _mm512_mask_add_ps(weight, (__mmask16)mask[i], weight, share);
    }
    return weight;
}

RADAR_TEMPLATE RADAR_AVX512 void add_type(const pass *p, radar_dtype type, const void *k,
                                          const radar_item *item) {
    const radar_weigh_task *t = p->task;
    const radar_tile_keys key = {type, k};
    float *at = t->weight + (size_t)item->segment * RADAR_SEGMENT;
    int64_t first = radar_kv_position(&t->kv, item->segment);
    __m512 weight = _mm512_loadu_ps(at);
    int j = 0;
    for (; j + RADAR_QUERY_BLOCK <= p->n; j += RADAR_QUERY_BLOCK)
        weight = add_some(weight, p, key, item, first, j, RADAR_QUERY_BLOCK);
    for (; j < p->n; j++) weight = add_some(weight, p, key, item, first, j, 1);
    _mm512_storeu_ps(at, weight);
}

RADAR_AVX512 static void avx512_pass(const pass *p) {
    _Alignas(64) float room[RADAR_SEGMENT * RADAR_MAX_D];
    for (int i = 0; i < p->task->items.n; i++) {
        const radar_item *item = &p->task->items.item[i];
        radar_tile_keys key = radar_keys_of(p->isa, &p->task->kv, item->segment, room);
        if (key.type == RADAR_F32)
            add_type(p, RADAR_F32, key.k, item);
        else if (key.type == RADAR_F16)
            add_type(p, RADAR_F16, key.k, item);
        else
            add_type(p, RADAR_BF16, key.k, item);
    }
}

void radar_cpu_weigh(radar_backend *be, const radar_weigh_task *task, int n_tasks, float scale) {
    const radar_cpu *cpu = radar_cpu_of(be);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(dynamic, 1)
    for (int i = 0; i < n_tasks; i++) {
        radar_weigh_task now = task[i];
        now.items = radar_items_now(now.items);
        pass p = {.task = &now, .isa = cpu->isa, .scale = scale};
        for (int begin = 0; begin < now.n_query; begin += p.n) {
            begin_pass(&p, begin);
            (cpu->isa.avx512 ? avx512_pass : plain_pass)(&p);
        }
    }
}
