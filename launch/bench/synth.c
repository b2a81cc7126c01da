#include "launch/bench/synth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"

enum { LANES = 16, TILE = 8, SYNTH_STREAM = 1 << 20 };

/* The same arithmetic, lane by lane, for every instruction set. */
#define FOR_EACH_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
typedef float lanes
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

/* ---- memory ---- */

radar_status bench_synth_open(bench_synth **out, int layers, int heads, int D, int threads,
                              uint64_t seed, radar_error *err) {
    const int W = (D + LANES - 1) / LANES * LANES;
    const size_t sources = 2 * (size_t)layers * (size_t)heads,
                 floats = (size_t)W + (size_t)D * (size_t)W + SYNTH_SINKS * (size_t)D;
    bench_synth *s = radar_alloc(sizeof *s);
    *out = s;
    if (s != NULL) {
        *s = (bench_synth){layers, heads, D, W, threads, seed, NULL, NULL};
        s->source = radar_alloc_array(sources, sizeof *s->source);
        s->memory = radar_alloc_array(sources, floats * sizeof(float));
    }
    if (s == NULL || s->source == NULL || s->memory == NULL || D > SYNTH_MOST_D) {
        bench_synth_close(s);
        *out = NULL;
        return radar_fail(err, RADAR_ERR_MEMORY, "no memory for the covariances of %zu heads",
                          sources / 2);
    }
    for (size_t i = 0; i < sources; i++) {
        float *at = s->memory + i * floats;
        s->source[i].mean = at;
        s->source[i].factor = at + W;
        s->source[i].sinks = at + W + (size_t)D * (size_t)W;
    }
    return RADAR_OK;
}

void bench_synth_close(bench_synth *s) {
    if (s == NULL) return;
    radar_free(s->memory);
    radar_free(s->source);
    radar_free(s);
}

static synth_source *source_of(const bench_synth *s, int layer, int head, int value) {
    return &s->source[(layer * s->heads + head) * 2 + value];
}

/* ---- measuring ---- */

/* centred [n, D] := x - mean; x is what lies behind the sinks. */
static void centre(synth_source *to, double *centred, const float *x, int64_t n, int D) {
    for (int d = 0; d < D; d++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += (double)x[i * D + d];
        const double mean = sum / (double)n;
        to->mean[d] = (float)mean;
        for (int64_t i = 0; i < n; i++) centred[i * D + d] = (double)x[i * D + d] - mean;
    }
}

/* The lower triangle of the covariance, with a thousandth of a thousandth of its mean variance on the diagonal: directions in which
 * the vectors do not differ at all stay invertible. */
static void covariance(double *c, const double *centred, int64_t n, int D, int threads) {
    double trace = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int a = 0; a < D; a++) {
        double *row = c + a * D;
        for (int b = 0; b <= a; b++) row[b] = 0;
        for (int64_t i = 0; i < n; i++) {
            const double *x = centred + i * D;
            for (int b = 0; b <= a; b++) row[b] += x[a] * x[b];
        }
        for (int b = 0; b <= a; b++) row[b] /= (double)n;
    }
    for (int d = 0; d < D; d++) trace += c[d * D + d];
    for (int d = 0; d < D; d++) c[d * D + d] += 1e-6 * trace / D + 1e-30;
}

/* c := L, in place (Cholesky-Banachiewicz). */
static void cholesky(double *c, int D) {
    for (int a = 0; a < D; a++)
        for (int b = 0; b <= a; b++) {
            double sum = c[a * D + b];
            for (int k = 0; k < b; k++) sum -= c[a * D + k] * c[b * D + k];
            c[a * D + b] = a == b ? sqrt(sum > 0 ? sum : 1e-30) : sum / c[b * D + b];
        }
}

/* |L^-1 x| / sqrt D of every row; the rows become L^-1 x. */
static void radii(double *radius, double *centred, const double *L, int64_t n, int D, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double *x = centred + i * D, squares = 0;
        for (int a = 0; a < D; a++) {
            for (int k = 0; k < a; k++) x[a] -= L[a * D + k] * x[k];
            x[a] /= L[a * D + a];
            squares += x[a] * x[a];
        }
        radius[i] = sqrt(squares / D);
    }
}

/* The squared length of the sum of a segment's directions. */
static double sum_of_directions(const double *x, int D) {
    double sum[SYNTH_MOST_D] = {0}, squares = 0;
    for (int i = 0; i < SYNTH_SINKS; i++, x += D) {
        double length = 1e-30;
        for (int d = 0; d < D; d++) length += x[d] * x[d];
        for (int d = 0; d < D; d++) sum[d] += x[d] / sqrt(length);
    }
    for (int d = 0; d < D; d++) squares += sum[d] * sum[d];
    return squares;
}

/* a and b: the mean cosine between two vectors of a segment, over all segments. */
static void likeness(synth_source *to, const double *centred, int64_t n, int D) {
    double cosines = 0, segments = 0;
    for (int64_t i = 0; i + SYNTH_SINKS <= n; i += SYNTH_SINKS, segments++)
        cosines += (sum_of_directions(centred + i * D, D) - SYNTH_SINKS) /
                   (SYNTH_SINKS * (SYNTH_SINKS - 1));
    const double mean = segments > 0 ? cosines / segments : 0, common = mean < 0   ? 0
                                                                        : mean > 1 ? 1
                                                                                   : mean;
    to->common = (int32_t)lround(256 * sqrt(common));
    to->own = (int32_t)lround(256 * sqrt(1 - common));
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantiles of the radii, scaled to a mean square of 1. */
static void quantiles(synth_source *to, double *radius, int64_t n) {
    double squares = 0;
    qsort(radius, (size_t)n, sizeof *radius, ascending);
    for (int q = 0; q < SYNTH_RADII; q++) {
        const double r = radius[(2 * q + 1) * n / (2 * SYNTH_RADII)];
        to->radius[q] = (float)r;
        squares += r * r;
    }
    for (int q = 0; q < SYNTH_RADII; q++)
        to->radius[q] = (float)((double)to->radius[q] / sqrt(squares / SYNTH_RADII));
}

void bench_synth_measure(bench_synth *s, int layer, int head, int value, const float *x, int64_t n,
                         double *scratch) {
    const int D = s->D;
    const int64_t behind = n - SYNTH_SINKS;
    synth_source *to = source_of(s, layer, head, value);
    double *centred = scratch, *radius = centred + n * D, *L = radius + n;
    memcpy(to->sinks, x, SYNTH_SINKS * (size_t)D * sizeof *x);
    centre(to, centred, x + SYNTH_SINKS * D, behind, D);
    likeness(to, centred, behind, D);
    covariance(L, centred, behind, D, s->threads);
    cholesky(L, D);
    radii(radius, centred, L, behind, D, s->threads);
    quantiles(to, radius, behind);
    for (int j = 0; j < D; j++)
        for (int d = j; d < D; d++)
            to->factor[(size_t)j * (size_t)s->W + (size_t)d] = (float)L[d * D + j];
}

/* ---- making ---- */

/* Number j of the stream that a 64-bit key opens: near normal, the sum of four random bytes less its mean. */
static inline __attribute__((always_inline)) int32_t normal(uint64_t key, int j) {
    uint32_t x =
        (uint32_t)key + (uint32_t)j * 0x9e3779b9u; /* a finaliser of 32 bits, keyed in its middle */
    x = (x ^ x >> 16) * 0x85ebca6bu + (uint32_t)(key >> 32);
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    x ^= x >> 16;
    const uint32_t pairs = (x & 0x00ff00ffu) + (x >> 8 & 0x00ff00ffu);
    return (int32_t)((pairs + (pairs >> 16)) & 0xffffu) - 510;
}

/* z := a s + b t in whole numbers, whose squares can be added in any order; returns their sum. */
static inline __attribute__((always_inline)) int32_t
direction(float *z, int D, const synth_source *from, uint64_t segment, uint64_t own) {
    const int32_t a = from->common, b = from->own;
    int32_t squares = 0;
    for (int j = 0; j < D; j++) {
        const int32_t sum = (a * normal(segment, j) + b * normal(own, j)) / 256;
        z[j] = (float)sum;
        squares += sum * sum;
    }
    return squares;
}

/* TILE vectors of one source; `n` of them are wanted, [n, D]. */
FOR_EACH_ISA static void make_tile(float *out, const synth_source *from, int D, int W,
                                   const uint64_t *segment, const uint64_t *own, int n) {
    float z[TILE][SYNTH_MOST_D], scale[TILE];
    for (int p = 0; p < TILE; p++) {
        const int32_t squares = direction(z[p], D, from, segment[p], own[p]);
        scale[p] = from->radius[own[p] % SYNTH_RADII] * sqrtf((float)D / (float)(squares + 1));
    }
    for (int d = 0; d < D; d += LANES) {
        const int last = d + LANES < D ? d + LANES : D, wide = last - d;
        lanes sum[TILE] = {{0}};
        for (int j = 0; j < last; j++) {
            const lanes column = *(const lanes *)(from->factor + (size_t)j * (size_t)W + d);
            for (int p = 0; p < TILE; p++) sum[p] += column * z[p][j];
        }
        const lanes mean = *(const lanes *)(from->mean + d);
        for (int p = 0; p < n; p++) {
            const lanes x = mean + sum[p] * scale[p];
            memcpy(out + (size_t)p * (size_t)D + d, &x, (size_t)wide * sizeof *out);
        }
    }
}

/* Positions first + i ... of one source, TILE of them at most; what of the sinks is among them is as measured. */
static void make_some(const bench_synth *s, const synth_source *from, int64_t first, int n,
                      float *out) {
    const uint64_t stream = SYNTH_STREAM + (uint64_t)(from - s->source);
    uint64_t segment[TILE], own[TILE];
    for (int p = 0; p < TILE; p++) {
        const uint64_t at = (uint64_t)(first + p);
        segment[p] = radar_random(s->seed, 2 * stream, at / SYNTH_SINKS);
        own[p] = radar_random(s->seed, 2 * stream + 1, at);
    }
    make_tile(out, from, s->D, s->W, segment, own, n);
    for (int64_t at = first; at < first + n && at < SYNTH_SINKS; at++)
        memcpy(out + (at - first) * s->D, from->sinks + at * s->D, (size_t)s->D * sizeof *out);
}

void bench_synth_fill(void *user, int layer, int head, int64_t first, int64_t n, float *key,
                      float *value) {
    const bench_synth *s = user;
    const int64_t tiles = radar_ceil_div(n, TILE);
#pragma omp parallel for num_threads(s->threads) schedule(static) if (n >= 4 * TILE)
    for (int64_t i = 0; i < 2 * tiles; i++) {
        const int64_t at = i / 2 * TILE;
        make_some(s, source_of(s, layer, head, (int)(i % 2)), first + at,
                  (int)radar_min64(TILE, n - at), (i % 2 == 0 ? key : value) + at * s->D);
    }
}
