#include "runtime/policy/subgen_state.h"

#include <math.h>
#include <string.h>

/* ---- memory ---- */

static char *take(char *base, size_t *used, size_t bytes) {
    char *at = base + *used;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

/* Cuts base into the arrays of g; returns the bytes used. */
static size_t lay_out(radar_subgen *g, char *base) {
    const radar_subgen_shape *shape = &g->shape;
    size_t used = 0, clusters = (size_t)shape->clusters + 1, values = (size_t)shape->values,
           ring = (size_t)shape->ring, D = (size_t)shape->D;
    g->center = (float *)take(base, &used, clusters * D * sizeof *g->center);
    g->count = (int64_t *)take(base, &used, clusters * sizeof *g->count);
    g->sample = (int64_t *)take(base, &used, clusters * RADAR_SUBGEN_SAMPLES * sizeof *g->sample);
    g->value = (int64_t *)take(base, &used, values * sizeof *g->value);
    g->norm2 = (double *)take(base, &used, values * sizeof *g->norm2);
    g->recent_key = (float *)take(base, &used, ring * D * sizeof *g->recent_key);
    g->recent_norm2 = (double *)take(base, &used, ring * sizeof *g->recent_norm2);
    return used;
}

size_t radar_subgen_bytes(const radar_subgen_shape *shape) {
    radar_subgen g = {.shape = *shape};
    return lay_out(&g, NULL);
}

void radar_subgen_init(radar_subgen *g, const radar_subgen_shape *shape, uint64_t seed,
                       char *memory) {
    *g = (radar_subgen){.shape = *shape, .seed = seed, .memory = memory};
    lay_out(g, memory);
    radar_subgen_reset(g);
}

void radar_subgen_reset(radar_subgen *g) {
    g->n_clusters = 0;
    g->radius2 = g->mass = 0;
    for (int64_t j = 0; j < g->shape.values; j++) g->value[j] = -1;
}

void radar_subgen_copy(radar_subgen *to, const radar_subgen *from) {
    to->n_clusters = from->n_clusters;
    to->radius2 = from->radius2;
    to->mass = from->mass;
    memcpy(to->memory, from->memory, radar_subgen_bytes(&from->shape));
}

/* ---- clusters of keys ---- */

/* Eight sums side by side, so that compilers use vectors without changing the order. */
static double distance2(const float *a, const float *b, int D) {
    double sum[8] = {0};
    int d = 0;
    for (; d + 8 <= D; d += 8) {
        for (int c = 0; c < 8; c++) {
            double apart = (double)a[d + c] - (double)b[d + c];
            sum[c] += apart * apart;
        }
    }
    for (int c = 0; d + c < D; c++) {
        double apart = (double)a[d + c] - (double)b[d + c];
        sum[c] += apart * apart;
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static float *center_of(const radar_subgen *g, int64_t cluster) {
    return g->center + (size_t)cluster * (size_t)g->shape.D;
}

static int64_t *samples_of(const radar_subgen *g, int64_t cluster) {
    return g->sample + (size_t)cluster * RADAR_SUBGEN_SAMPLES;
}

static void open_cluster(radar_subgen *g, int64_t position, const float *key) {
    int64_t i = g->n_clusters++;
    memcpy(center_of(g, i), key, (size_t)g->shape.D * sizeof *key);
    g->count[i] = 1;
    for (int j = 0; j < RADAR_SUBGEN_SAMPLES; j++) samples_of(g, i)[j] = position;
}

static void join_cluster(radar_subgen *g, int64_t position, const float *key) {
    double best = INFINITY;
    int64_t nearest = 0;
    for (int64_t i = 0; i < g->n_clusters; i++) {
        double d = distance2(center_of(g, i), key, g->shape.D);
        if (d < best) best = d, nearest = i;
    }
    if (best > g->radius2) {
        open_cluster(g, position, key);
        return;
    }
    double chance = 1.0 / (double)++g->count[nearest];
    for (int j = 0; j < RADAR_SUBGEN_SAMPLES; j++)
        if (radar_subgen_draw(g, position, j) < chance) samples_of(g, nearest)[j] = position;
}

static double smallest_distance2(const radar_subgen *g) {
    double least = INFINITY;
    for (int64_t a = 0; a < g->n_clusters; a++)
        for (int64_t b = a + 1; b < g->n_clusters; b++)
            least = fmin(least, distance2(center_of(g, a), center_of(g, b), g->shape.D));
    return least;
}

static void merge_cluster(radar_subgen *g, int64_t a, int64_t b, int64_t position, int64_t round) {
    int64_t both = g->count[a] + g->count[b];
    double share = (double)g->count[a] / (double)both;
    for (int j = 0; j < RADAR_SUBGEN_SAMPLES; j++) {
        int64_t place = radar_subgen_merge_place(&g->shape, round, b, j);
        if (!(radar_subgen_draw(g, position, place) < share))
            samples_of(g, a)[j] = samples_of(g, b)[j];
    }
    g->count[a] = both;
}

static void move_cluster(radar_subgen *g, int64_t to, int64_t from) {
    if (to == from) return;
    memcpy(center_of(g, to), center_of(g, from), (size_t)g->shape.D * sizeof *g->center);
    memcpy(samples_of(g, to), samples_of(g, from), RADAR_SUBGEN_SAMPLES * sizeof *g->sample);
    g->count[to] = g->count[from];
}

/* A radius that some representatives lie within, and those merged.  "Not farther" rather than "within": keys that are no numbers
 * end in one cluster instead of never fitting. */
static void widen(radar_subgen *g, int64_t position, int64_t round) {
    int64_t kept = 0;
    g->radius2 = g->radius2 == 0 ? smallest_distance2(g) : 4 * g->radius2;
    for (int64_t b = 0; b < g->n_clusters; b++) {
        int64_t a = 0;
        while (a < kept && distance2(center_of(g, a), center_of(g, b), g->shape.D) > g->radius2)
            a++;
        if (a < kept)
            merge_cluster(g, a, b, position, round);
        else
            move_cluster(g, kept++, b);
    }
    g->n_clusters = kept;
}

/* ---- samples of values ---- */

static void sample_value(radar_subgen *g, int64_t position, double norm2) {
    g->mass += norm2;
    double chance = norm2 / g->mass;
    for (int64_t j = 0; j < g->shape.values; j++) {
        if (!(radar_subgen_draw(g, position, radar_subgen_value_place(j)) < chance)) continue;
        g->value[j] = position;
        g->norm2[j] = norm2;
    }
}

/* ---- the stream ---- */

void radar_subgen_push(radar_subgen *g, int64_t position, const float *key, double norm2) {
    const radar_subgen_shape *shape = &g->shape;
    size_t at = (size_t)(position % shape->ring), D = (size_t)shape->D;
    memcpy(g->recent_key + at * D, key, D * sizeof *key);
    g->recent_norm2[at] = norm2;
    int64_t leaves = position + 1 - shape->window;
    if (leaves < shape->sinks || leaves < 0) return;
    at = (size_t)(leaves % shape->ring);
    join_cluster(g, leaves, g->recent_key + at * D);
    for (int64_t round = 0; g->n_clusters > shape->clusters; round++) widen(g, leaves, round);
    sample_value(g, leaves, g->recent_norm2[at]);
}
