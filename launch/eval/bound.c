#include "launch/eval/bound.h"

#include <math.h>

#include "runtime/sys.h"

/* The heads of KV head g that are looked at: [*begin, *end). */
static void heads_of(const bound_samples *s, int g, int *begin, int *end) {
    const int group = s->H / s->G;
    *begin = (int)radar_max64(s->head_begin, g * group);
    *end = (int)radar_min64(s->head_end, (g + 1) * group);
}

/* ---- random features ---- */

/* Room for n features of everything that one KV head has to do with. */
typedef struct features {
    int64_t n;
    double *omega;   /* [n, D] */
    double *query;   /* [rows * group, n] ln phi */
    double *segment; /* [n] ln of the mean phi of 16 keys */
    double *key;     /* [16, n] ln phi */
} features;

static radar_status open_features(features *f, const bound_samples *s, int64_t n, uint64_t seed,
                                  radar_error *err) {
    const size_t queries = (size_t)s->rows * (size_t)(s->H / s->G);
    *f = (features){.n = n};
    f->omega = radar_alloc_array((size_t)n, (size_t)s->D * sizeof *f->omega);
    f->query = radar_alloc_array((size_t)n, queries * sizeof *f->query);
    f->segment = radar_alloc_array((size_t)n, sizeof *f->segment);
    f->key = radar_alloc_array((size_t)n, EVAL_SEGMENT * sizeof *f->key);
    if (!f->omega || !f->query || !f->segment || !f->key)
        return radar_fail(err, RADAR_ERR_MEMORY, "no memory for %lld random features",
                          (long long)n);
    eval_rf_directions(f->omega, n, s->D, seed);
    return RADAR_OK;
}

static void close_features(features *f) {
    radar_free(f->omega);
    radar_free(f->query);
    radar_free(f->segment);
    radar_free(f->key);
}

static double *query_features(const bound_samples *s, const features *f, int row, int head) {
    const int group = s->H / s->G;
    return f->query + (size_t)(row * group + head % group) * (size_t)f->n;
}

/* Queries of KV head g against one segment of each block, its places in a block by turns; returns the next pair. */
static bound_pair *estimate_head(const bound_samples *s, features *f, int l, int g, bound_pair *p) {
    int begin, end;
    heads_of(s, g, &begin, &end);
    for (int row = 0; row < s->rows; row++)
        for (int h = begin; h < end; h++)
            eval_rf_features(query_features(s, f, row, h), query_of(s, row, l, h), f->omega, f->n,
                             s->D);
    for (int b = 0; b < s->blocks && begin < end; b++) {
        const float *key = block_of(s, l, g, b) + b % 4 * EVAL_SEGMENT * s->D;
        eval_rf_segment(f->segment, key, EVAL_SEGMENT, f->omega, f->n, s->D, f->key);
        for (int row = 0; row < s->rows; row++)
            for (int h = begin; h < end; h++, p++) {
                eval_rf_truth(query_of(s, row, l, h), key, EVAL_SEGMENT, s->D, &p->ln_mean, &p->s);
                p->estimate = eval_rf_estimate(query_features(s, f, row, h), f->segment, f->n);
            }
    }
    return p;
}

radar_status bound_estimate(bound_samples *s, int64_t n, uint64_t seed, radar_error *err) {
    features f;
    bound_pair *p = s->pair;
    const radar_status st = open_features(&f, s, n, seed, err);
    for (int l = 0; l < s->layers && st == RADAR_OK; l++)
        for (int g = 0; g < s->G; g++) p = estimate_head(s, &f, l, g, p);
    close_features(&f);
    return st;
}

/* ---- the sketch ---- */

typedef struct coded {
    double *zhat, *mean, *rotated; /* [64, D] [D] [D] */
} coded;

/* Adds the squares over one query and the 64 keys of a block. */
static void add_squares(const coded *k, const float *q, const float *key, int D, int bits,
                        uint64_t seed, double *error, double *predicted) {
    double q_mean = 0, q2 = 0;
    for (int d = 0; d < D; d++) {
        k->rotated[d] = (double)q[d];
        q_mean += (double)q[d] * k->mean[d];
        q2 += (double)q[d] * (double)q[d];
    }
    eval_rotate(k->rotated, D, seed);
    for (int i = 0; i < EVAL_BLOCK; i++) {
        double truth = 0, estimate = q_mean, z2 = 0;
        for (int d = 0; d < D; d++) {
            const double x = (double)key[i * D + d], z = x - k->mean[d];
            truth += (double)q[d] * x;
            estimate += k->rotated[d] * k->zhat[i * D + d];
            z2 += z * z;
        }
        *error += (estimate - truth) * (estimate - truth);
        *predicted += q2 * z2 * pow(.25, bits) / D;
    }
}

static void measure(const bound_samples *s, const coded *k, bound_sketch *out, uint64_t seed) {
    double error = 0, predicted = 0;
    for (int l = 0; l < s->layers; l++)
        for (int g = 0; g < s->G; g++)
            for (int b = 0; b < s->blocks; b++) {
                const float *key = block_of(s, l, g, b);
                int begin, end;
                heads_of(s, g, &begin, &end);
                eval_sketch_block(k->zhat, k->mean, key, s->D, out->bits, seed);
                for (int row = 0; row < s->rows; row++)
                    for (int h = begin; h < end; h++)
                        add_squares(k, query_of(s, row, l, h), key, s->D, out->bits, seed, &error,
                                    &predicted);
            }
    const double n = (double)s->n_pairs * EVAL_BLOCK;
    out->error = sqrt(error / n);
    out->predicted = sqrt(predicted / n);
}

radar_status bound_sketch_errors(const bound_samples *s, bound_sketch *out, int n, uint64_t seed,
                                 radar_error *err) {
    const size_t D = (size_t)s->D;
    double *room = radar_alloc_array(EVAL_BLOCK + 2, D * sizeof *room);
    if (!room) return radar_fail(err, RADAR_ERR_MEMORY, "no memory for a block of keys");
    const coded k = {room, room + EVAL_BLOCK * D, room + (EVAL_BLOCK + 1) * D};
    for (int i = 0; i < n; i++) measure(s, &k, &out[i], seed);
    radar_free(room);
    return RADAR_OK;
}
