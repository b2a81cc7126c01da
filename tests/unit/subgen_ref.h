/* subgen_ref.h - a slow reference of SubGen, arXiv:2402.06082, written from the paper's algorithm: every token keeps the number of
 * its cluster, representatives are tokens, distances are not squared; it draws what subgen_state.h says is drawn. */
#ifndef RADAR_TEST_SUBGEN_REF_H
#define RADAR_TEST_SUBGEN_REF_H

#include <math.h>
#include <string.h>

#include "runtime/base.h"
#include "runtime/policy/subgen_state.h"

#define MOST 700 /* tokens */
#define T RADAR_SUBGEN_SAMPLES

typedef struct ref {
    int D, m, s, window, sinks;
    uint64_t seed;
    double key[MOST][64], norm2[MOST]; /* as the cache holds them */
    int cluster[MOST];                 /* of each token; -1: in none */
    int n, center[MOST];
    int sample[MOST][T], value[4 * MOST];
    double delta, mu;
} ref;

static inline double apart(const ref *r, int a, int b) {
    double sum = 0;
    for (int d = 0; d < r->D; d++) sum += pow(r->key[a][d] - r->key[b][d], 2);
    return sqrt(sum);
}

static inline int count_of(const ref *r, int cluster) {
    int n = 0;
    for (int p = 0; p < MOST; p++) n += r->cluster[p] == cluster;
    return n;
}

static inline void ref_reset(ref *r) {
    r->n = 0;
    r->delta = r->mu = 0;
    for (int p = 0; p < MOST; p++) r->cluster[p] = -1;
    for (int j = 0; j < r->s; j++) r->value[j] = -1;
}

/* Cluster `from` becomes cluster `to`, which is free. */
static inline void ref_rename(ref *r, int to, int from) {
    for (int p = 0; p < MOST; p++)
        if (r->cluster[p] == from) r->cluster[p] = to;
    r->center[to] = r->center[from];
    memcpy(r->sample[to], r->sample[from], sizeof r->sample[to]);
}

static inline void ref_widen(ref *r, int token, int round) {
    double least = INFINITY;
    int kept = 0;
    for (int a = 0; a < r->n; a++)
        for (int b = 0; b < a; b++) least = fmin(least, apart(r, r->center[a], r->center[b]));
    r->delta = r->delta == 0 ? least : 2 * r->delta;
    for (int b = 0; b < r->n; b++) {
        int a = 0;
        while (a < kept && apart(r, r->center[a], r->center[b]) > r->delta) a++;
        if (a == kept) {
            if (kept != b) ref_rename(r, kept, b);
            kept++;
            continue;
        }
        double of_a = count_of(r, a), of_b = count_of(r, b);
        for (int j = 0; j < T; j++) {
            uint64_t place = (uint64_t)(T + r->s + (round * (r->m + 1) + b) * T + j);
            if (radar_random_uniform(r->seed, (uint64_t)token, place) >= of_a / (of_a + of_b))
                r->sample[a][j] = r->sample[b][j];
        }
        for (int p = 0; p < MOST; p++)
            if (r->cluster[p] == b) r->cluster[p] = a;
    }
    r->n = kept;
}

static inline void ref_enter(ref *r, int token) {
    int best = -1;
    for (int i = 0; i < r->n; i++)
        if (best < 0 || apart(r, r->center[i], token) < apart(r, r->center[best], token)) best = i;
    if (best < 0 || apart(r, r->center[best], token) > r->delta) {
        best = r->n++;
        r->center[best] = token;
        r->cluster[token] = best;
        for (int j = 0; j < T; j++) r->sample[best][j] = token;
    } else {
        r->cluster[token] = best;
        for (int j = 0; j < T; j++)
            if (radar_random_uniform(r->seed, (uint64_t)token, (uint64_t)j) <
                1.0 / count_of(r, best))
                r->sample[best][j] = token;
    }
    for (int round = 0; r->n > r->m; round++) ref_widen(r, token, round);
    r->mu += r->norm2[token];
    for (int j = 0; j < r->s; j++)
        if (radar_random_uniform(r->seed, (uint64_t)token, (uint64_t)(T + j)) <
            r->norm2[token] / r->mu)
            r->value[j] = token;
}

/* What row `token` leaves behind. */
static inline void ref_push(ref *r, int token) {
    int leaves = token + 1 - r->window;
    if (leaves >= r->sinks && leaves >= 0) ref_enter(r, leaves);
}

/* e^(q . k / sqrt D) of the token's key. */
static inline double weight_of(const ref *r, const double *q, int token) {
    double x = 0;
    for (int d = 0; d < r->D; d++) x += q[d] * r->key[token][d];
    return exp(x / sqrt(r->D));
}

#endif
