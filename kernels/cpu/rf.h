/* rf.h - the published Radar's random features of one key or query u [D].
 *   u' = u D^(-1/4);  a_i = w_i . u' - |u'|^2 / 2,  b_i = -w_i . u' - |u'|^2 / 2
 *   plain  phi_i = n^(-1/2) exp(a_i)          pair  the 2n features (2n)^(-1/2) [exp(a_i) ; exp(b_i)]
 *   E phi(u) . phi(v) = exp(u . v / sqrt D) when w_i ~ N(0, I)
 * Omega is stored [D, n]; sums over d ascending, products and sums rounded apart: the same bits on every machine. */
#ifndef RADAR_CPU_RF_H
#define RADAR_CPU_RF_H

#include <stdbool.h>
#include <string.h>

#include "kernels/backend.h"

typedef struct radar_rf_map {
    int D, n;
    const float *omega; /* [D, n] */
    bool avx512;
} radar_rf_map;

/* [this rank] a [n] and b [n]; b NULL: not wanted. */
void radar_rf_exponents(const radar_rf_map *map, float *a, float *b, const float *u);

/* [this rank] The 2n features as the authors' code has them, out [2n]:
 *   (2n)^(-1/2) [exp(a_i - m_plus) + epsilon ; exp(b_i - m_minus) + epsilon] */
void radar_rf_reference(const radar_rf_map *map, float *out, const float *u, float m_plus,
                        float m_minus, float epsilon);

/* The scorer `rf`: the mean random feature of each segment, with a log scale of its own, so that nothing over- or underflows.
 *   phi(u) = F^(-1/2) exp(a - l(u)) e^l(u),  F features;  segment: lambda = max over its keys and features of a
 *   score = ln c + q . mu / sqrt D + (lambda_j + lambda_q + ln(phi~(q) . phi~_j)) / b,  c tokens of the segment
 * Centred (rf_center): features of k - mu, mu the mean of the block's 64 keys rounded to f16: q . k = q . mu + q . (k - mu), so
 * mu's part is exact and the features carry a shorter vector.  Without: mu = 0, and nothing of it is stored or computed.
 * Tempered (rf_temper, b): features of b q, whose product with phi_j estimates the mean of exp(b logit).  Its logarithm is
 * divided by b: ln c + (1/b) ln mean exp(b logit), the logits' power mean of exponent b, is between the mean key's estimate
 * (b -> 0) and the log-mass (b = 1), never above it, and in its units; the order is that of the mass of b times the logits.
 * Segment: bf16 phi~[Fp] (Fp = F rounded up to 16, zeros at the end), f32 lambda, centred: f16 mu[D].  Block: its four segments.
 * Merging: lambda = max(l1, l2), phi~ = (e^(l1 - lambda) p1 + e^(l2 - lambda) p2) / 2 in f32 from the stored bf16, rounded to
 * bf16 again at every level.  Features around different mu have no common mean: centred segments end with their block.
 * Prepared query: f32 lambda_q / b, 12 bytes 0, f32 phi~[Fp], centred: f32 q / sqrt D [Dp] (Dp = D rounded up to 16).
 * The keys of a segment are added in order; when one raises lambda, what is there is scaled down. */
typedef struct radar_rf {
    radar_rf_map map;
    int F, Fp;
    float log_weight; /* of one feature in a product of two: -ln F / 2 for each side */
    bool center;
    float temper, cool; /* b, 1 / b */
    float scale;        /* 1 / sqrt D */
    size_t bytes;       /* of a segment */
    float omega[];
} radar_rf;

/* Of one stored segment. */
static inline float radar_rf_lambda(const radar_rf *x, const char *segment) {
    float lambda;
    memcpy(&lambda, segment + (size_t)x->Fp * 2, sizeof lambda);
    return lambda;
}

static inline const uint16_t *radar_rf_mu(const radar_rf *x, const char *segment) {
    return (const uint16_t *)(segment + (size_t)x->Fp * 2 + sizeof(float));
}

/* [this rank] One task; query_bytes as in the scorer.  rf_scan.c */
void radar_rf_scan(const radar_rf *x, const radar_score_task *t, size_t query_bytes);

#endif
