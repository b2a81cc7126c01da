/* The twin of the AVX-512 kernels in C, and where the machine has it with AVX2 in the inner loops: the same operations in the
 * same order, so the same bits. */
#include <string.h>

#include "kernels/cpu/attend_avx2.h"
#include "kernels/cpu/lse.h"
#include "kernels/merge.h"

#define LANES RADAR_SEGMENT
#define PASS_QUERIES 16 /* their rounded copies wait here */

/* One segment as all queries of a pass read it. */
typedef struct segment_view {
    bool packed;
    _Alignas(32) float k[RADAR_MAX_D * LANES], v[RADAR_MAX_D * LANES]; /* when not packed */
    radar_packed_keys keys;                                            /* when packed */
    const int8_t *packed_v;
    float v_scale[LANES];
} segment_view;

typedef struct pass {
    const radar_attend_task *task;
    radar_isa isa;
    float scale;
    int begin, n;
    radar_rounded_query rounded[PASS_QUERIES];
    segment_view segment;
} pass;

/* ---- reading ---- */

static void widen(radar_isa isa, float *out, radar_dtype type, const void *from, int n) {
    if (type == RADAR_F16)
        radar_widen_f16(isa, out, from, n);
    else
        for (int i = 0; i < n; i++) out[i] = radar_segment_at(type, from, (size_t)i);
}

/* Weights are the same for packed segments and others only as f32. */
static void read_segment(pass *p, int32_t segment) {
    const radar_kv_view *kv = &p->task->kv;
    segment_view *s = &p->segment;
    int tile = kv->D * LANES;
    bool weighted = p->task->key_weight || p->task->value_weight;
    s->packed = radar_kv_packed(kv, segment) && !weighted;
    if (s->packed) {
        s->keys = radar_packed_keys_at(p->isa, kv, segment);
        s->packed_v =
            (const int8_t *)kv->v + (size_t)segment * radar_segment_bytes(RADAR_Q8, kv->D);
        widen(p->isa, s->v_scale, RADAR_F16, kv->v_scale + (size_t)segment * LANES, LANES);
    } else if (radar_kv_packed(kv, segment)) {
        radar_rotation r;
        radar_rotation_of_q8(&r, kv->D);
        radar_q8_keys(p->isa, &r, s->k, kv, segment);
        radar_q8_values(p->isa, s->v, kv, segment);
    } else {
        radar_place place = radar_place_of(kv, segment);
        widen(p->isa, s->k, place.type, place.k, tile);
        widen(p->isa, s->v, place.type, place.v, tile);
    }
}

/* ---- one query, one segment ---- */

RADAR_TEMPLATE void logits_plain(float s[LANES], const float *k, int D, const float *q,
                                 float scale) {
    for (int i = 0; i < LANES; i++) {
        float chain[4] = {0};
        for (int d = 0; d < D; d++) chain[d % 4] = fmaf(q[d], k[d * LANES + i], chain[d % 4]);
        s[i] = ((chain[0] + chain[1]) + (chain[2] + chain[3])) * scale;
    }
}

RADAR_TEMPLATE void add_values_plain(float *o, const float *v, int D, const float p[LANES],
                                     uint32_t mask, float fade) {
    for (int d = 0; d < D; d++) o[d] *= fade;
    for (; mask; mask &= mask - 1) {
        int i = __builtin_ctz(mask);
        for (int d = 0; d < D; d++) o[d] = fmaf(p[i], v[i * D + d], o[d]);
    }
}

RADAR_TEMPLATE void add_products_of_values_plain(float *o, const int8_t *v, const int16_t *u, int D,
                                                 float step, float fade) {
    int32_t sum[RADAR_MAX_D] = {0};
    for (int i = 0; i < LANES; i += 4)
        for (int d = 0; d < D; d++)
            for (int c = 0; c < 4; c++) sum[d] += u[i + c] * v[i * D + 4 * d + c];
    for (int d = 0; d < D; d++) o[d] = fmaf((float)sum[d], step, o[d] * fade);
}

RADAR_TEMPLATE void add_values_packed(const pass *p, float *o, const float weight[LANES],
                                      float fade) {
    const segment_view *x = &p->segment;
    float w[LANES], largest = 0;
    int16_t u[LANES];
    for (int i = 0; i < LANES; i++) w[i] = weight[i] * x->v_scale[i];
    for (int i = 0; i < LANES; i++) largest = w[i] > largest ? w[i] : largest;
    float steps = largest >= RADAR_Q8_NOTHING ? RADAR_Q8_WEIGHT / largest : 0;
    for (int i = 0; i < LANES; i++) {
        float r = rintf(w[i] * steps);
        u[i] = (int16_t)(int32_t)(r < RADAR_Q8_WEIGHT ? r : RADAR_Q8_WEIGHT);
    }
    float step = largest / RADAR_Q8_WEIGHT;
    if (p->isa.avx2)
        add_products_of_values_avx2(o, x->packed_v, u, p->task->kv.D, step, fade);
    else
        add_products_of_values_plain(o, x->packed_v, u, p->task->kv.D, step, fade);
}

/* out may be s. */
RADAR_TEMPLATE void weigh(float *out, const float *s, const float *weight, int32_t segment) {
    for (int i = 0; i < LANES; i++)
        out[i] = weight ? s[i] * weight[(size_t)segment * LANES + (size_t)i] : s[i];
}

RADAR_TEMPLATE void soften_plain(float s[LANES], float m) {
    for (int i = 0; i < LANES; i++) s[i] = radar_expf1(s[i] - m);
}

RADAR_TEMPLATE void update(const pass *p, const radar_item *item, int j) {
    const radar_attend_task *task = p->task;
    const radar_kv_view *kv = &task->kv;
    const segment_view *x = &p->segment;
    const float *q = task->q + (size_t)(p->begin + j) * task->q_stride;
    float *partial = task->partial + (size_t)(p->begin + j) * task->partial_stride,
          *o = partial + RADAR_PARTIAL_O, s[LANES];
    uint32_t mask = radar_attended(item->tokens, radar_kv_position(kv, item->segment),
                                   task->position[p->begin + j]);
    if (!mask) return;
    if (x->packed)
        radar_packed_logits(s, p->isa.avx2, &x->keys, kv->D, &p->rounded[j], q, p->scale);
    else if (p->isa.avx2)
        logits_avx2(s, x->k, kv->D, q, p->scale);
    else
        logits_plain(s, x->k, kv->D, q, p->scale);
    for (int i = 0; i < LANES; i++) s[i] = mask >> i & 1 ? s[i] : -INFINITY;
    float m = radar_fold_max(radar_fold_max1(s), partial[RADAR_PARTIAL_M]);
    if (m == -INFINITY) return;
    if (p->isa.avx2)
        soften_avx2(s, m);
    else
        soften_plain(s, m);
    float fade = radar_expf1(partial[RADAR_PARTIAL_M] - m), counted[LANES];
    weigh(counted, s, task->key_weight, item->segment);
    partial[RADAR_PARTIAL_L] = partial[RADAR_PARTIAL_L] * fade + radar_fold_sum1(counted);
    weigh(s, s, task->value_weight, item->segment);
    partial[RADAR_PARTIAL_M] = m;
    if (x->packed)
        add_values_packed(p, o, s, fade);
    else if (p->isa.avx2)
        add_values_avx2(o, x->v, kv->D, s, mask, fade);
    else
        add_values_plain(o, x->v, kv->D, s, mask, fade);
}

/* ---- a pass ---- */

RADAR_TEMPLATE void run_pass(pass *p) {
    const radar_attend_task *task = p->task;
    if (task->kv.type == RADAR_Q8) {
        radar_rotation r;
        radar_rotation_of_q8(&r, task->kv.D);
        for (int j = 0; j < p->n; j++)
            radar_round_query(&p->rounded[j], &r,
                              task->q + (size_t)(p->begin + j) * task->q_stride);
    }
    for (int i = 0; i < task->items.n; i++) {
        read_segment(p, task->items.item[i].segment);
        for (int j = 0; j < p->n; j++) update(p, &task->items.item[i], j);
    }
}

static void pass_plain(pass *p) { run_pass(p); }
RADAR_FMA static void pass_fma(pass *p) { run_pass(p); }

void radar_attend_portable(radar_isa isa, const radar_attend_task *task, float scale) {
    pass p;
    p.task = task;
    p.isa = isa;
    p.scale = scale;
    for (p.begin = 0; p.begin < task->n_query; p.begin += p.n) {
        p.n = (int)radar_min64(PASS_QUERIES, task->n_query - p.begin);
        (isa.fma ? pass_fma : pass_plain)(&p);
    }
}
