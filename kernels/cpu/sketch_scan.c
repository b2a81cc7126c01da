/* Scoring in plain C, and the choice among its twins. */
#include "kernels/cpu/sketch.h"

#include <string.h>

#define LANES RADAR_SEGMENT

/* One segment of a block; bits as read: 1 of a block of 2 is its upper plane. */
RADAR_TEMPLATE int32_t code_of(const radar_sketch *x, const radar_sketch_block *b, int token, int d,
                               int bits) {
    const int dims = bits == 4 ? 8 : 32, wide = bits == 4 ? 4 : 1;
    int shift = 8 * (d % 4) + wide * (d % dims / 4), segment = token / LANES;
    uint32_t word = b->code[(segment * x->words + d / dims) * LANES + token % LANES];
    uint32_t code = word >> shift & ((1u << wide) - 1);
    if (bits != 2) return (int32_t)code;
    uint32_t low = d / 32 < x->low_words
                       ? b->low[(segment * x->low_words + d / 32) * LANES + token % LANES] >> shift
                       : word >> (shift + 4);
    return (int32_t)(2 * code + (low & 1));
}

RADAR_TEMPLATE float segment_score(const radar_sketch *x, const radar_sketch_block *b,
                                   const radar_sketch_query *q, int segment, int bits) {
    float y[LANES], lane[16] = {0};
    for (int d = 0; d < x->Dp; d++) lane[d % 16] = fmaf(q->q[d], (float)b->mu[d], lane[d % 16]);
    for (int i = 0; i < LANES; i++) {
        int token = segment * LANES + i;
        int32_t dot = 0;
        for (int d = 0; d < x->Dp; d++) dot += code_of(x, b, token, d, bits) * q->hq[d];
        y[i] = (float)(2 * dot - q->twice_centre) *
               (x->step[b->step[token]] * (0.5f * b->step_scale)) * q->gain;
    }
    bool far = !(q->reach * b->step_scale <= RADAR_MASS_REACH);
    return radar_fold_sum1(lane) * b->mu_scale + radar_mass1(y, far, bits < x->bits);
}

RADAR_TEMPLATE void score_bits(const radar_sketch *x, const radar_score_task *t, size_t query_bytes,
                               int bits) {
    for (int32_t i = 0; i < radar_score_count(t); i++) {
        int32_t unit = radar_score_unit(t, i);
        radar_sketch_block b = radar_sketch_block_at(x, &t->kv, unit / RADAR_BLOCK_SEGMENTS);
        for (int j = 0; j < t->n_query; j++) {
            radar_sketch_query q =
                radar_sketch_query_of(x, (const char *)t->query + (size_t)j * query_bytes, bits);
            *radar_score_of(t, j, unit) =
                segment_score(x, &b, &q, unit % RADAR_BLOCK_SEGMENTS, bits);
        }
    }
}

static void scan_plain(const radar_sketch *x, const radar_score_task *t, size_t query_bytes) {
    switch (t->coarse ? 1 : x->bits) {
    case 1:
        score_bits(x, t, query_bytes, 1);
        break;
    case 2:
        score_bits(x, t, query_bytes, 2);
        break;
    default:
        score_bits(x, t, query_bytes, 4);
    }
}

void radar_sketch_scan(const radar_sketch *x, const radar_score_task *t, size_t query_bytes) {
    if (radar_score_count(t) <= 0) return;
    if (x->avx512)
        radar_sketch_scan_avx512(x, t, query_bytes);
    else if (x->avx2)
        radar_sketch_scan_avx2(x, t, query_bytes);
    else
        scan_plain(x, t, query_bytes);
}
