/* rf.h - the published Radar's random features of one key or query u [D].
 *   u' = u D^(-1/4);  a_i = w_i . u' - |u'|^2 / 2,  b_i = -w_i . u' - |u'|^2 / 2
 *   plain  phi_i = n^(-1/2) exp(a_i)          pair  the 2n features (2n)^(-1/2) [exp(a_i) ; exp(b_i)]
 *   E phi(u) . phi(v) = exp(u . v / sqrt D) when w_i ~ N(0, I)
 * Omega is stored [D, n]; sums over d ascending, products and sums rounded apart: the same bits on every machine. */
#ifndef RADAR_CPU_RF_H
#define RADAR_CPU_RF_H

#include <stdbool.h>

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

#endif
