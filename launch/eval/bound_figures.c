/* The two estimators of a segment's mass, in plain double: random features, which the paper bounds, and the sketch.
 * Sources: Hao et al., arXiv 2503.10571 (features: Performer, arXiv 2009.14794). */
#include <math.h>
#include <string.h>

#include "launch/eval/figures.h"
#include "runtime/base.h"

/* ---- random features ---- */

static double dot(const float *a, const float *b, int D) {
    double sum = 0;
    for (int d = 0; d < D; d++) sum += (double)a[d] * (double)b[d];
    return sum;
}

/* With x = q D^(-1/4), y likewise, features z_j of key j: E z_j = e^(x.y_j), E z_j z_l = e^(x.y_j + x.y_l + (x + y_j).(x + y_l)),
 * so  e^s = sum_jl of the second / (sum_j of the first)^2. */
void eval_rf_truth(const float *q, const float *key, int n_keys, int D, double *ln_mean,
                   double *s) {
    double logit[EVAL_SEGMENT], most = -INFINITY, sum = 0, top = -INFINITY, squares = 0;
    double pair[EVAL_SEGMENT][EVAL_SEGMENT], scale = 1 / sqrt(D), q2 = dot(q, q, D) * scale;
    for (int j = 0; j < n_keys; j++) {
        logit[j] = dot(q, key + (size_t)j * (size_t)D, D) * scale;
        most = fmax(most, logit[j]);
    }
    for (int j = 0; j < n_keys; j++) sum += exp(logit[j] - most);
    *ln_mean = most + log(sum / n_keys);
    for (int j = 0; j < n_keys; j++)
        for (int l = 0; l < n_keys; l++) {
            double yy = dot(key + (size_t)j * (size_t)D, key + (size_t)l * (size_t)D, D) * scale;
            pair[j][l] = 2 * (logit[j] + logit[l]) + q2 + yy;
            top = fmax(top, pair[j][l]);
        }
    for (int j = 0; j < n_keys; j++)
        for (int l = 0; l < n_keys; l++) squares += exp(pair[j][l] - top);
    *s = top + log(squares) - 2 * (most + log(sum));
}

void eval_rf_directions(double *omega, int64_t n, int D, uint64_t seed) {
    for (int64_t i = 0; i < n * D; i++)
        omega[i] = radar_random_normal(seed, RADAR_STREAM_OMEGA, (uint64_t)i);
}

void eval_rf_features(double *ln_phi, const float *x, const double *omega, int64_t n, int D) {
    double scale = pow(D, -.25), half = dot(x, x, D) * scale * scale / 2;
    for (int64_t i = 0; i < n; i++) {
        const double *w = omega + (size_t)i * (size_t)D;
        double sum = 0;
        for (int d = 0; d < D; d++) sum += w[d] * (double)x[d];
        ln_phi[i] = sum * scale - half;
    }
}

void eval_rf_segment(double *ln_mean, const float *key, int n_keys, const double *omega, int64_t n,
                     int D, double *scratch) {
    for (int j = 0; j < n_keys; j++)
        eval_rf_features(scratch + j * n, key + (size_t)j * (size_t)D, omega, n, D);
    for (int64_t i = 0; i < n; i++) {
        double most = -INFINITY, sum = 0;
        for (int j = 0; j < n_keys; j++) most = fmax(most, scratch[j * n + i]);
        for (int j = 0; j < n_keys; j++) sum += exp(scratch[j * n + i] - most);
        ln_mean[i] = most + log(sum / n_keys);
    }
}

double eval_rf_estimate(const double *ln_query, const double *ln_segment, int64_t n) {
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, ln_query[i] + ln_segment[i]);
    for (int64_t i = 0; i < n; i++) sum += exp(ln_query[i] + ln_segment[i] - most);
    return most + log(sum / (double)n);
}

/* ---- the sketch ---- */

void eval_rotate(double *x, int D, uint64_t seed) {
    for (int d = 0; d < D; d++)
        if (radar_random(seed, RADAR_STREAM_SIGNS, (uint64_t)d) & 1) x[d] = -x[d];
    for (int first = 0; first < D;) {
        int n = 1;
        while (2 * n <= D - first) n *= 2;
        double *part = x + first, norm = 1 / sqrt(n);
        for (int half = 1; half < n; half *= 2)
            for (int a = 0; a < n; a += 2 * half)
                for (int i = a; i < a + half; i++) {
                    double u = part[i], v = part[i + half];
                    part[i] = u + v;
                    part[i + half] = u - v;
                }
        for (int i = 0; i < n; i++) part[i] *= norm;
        first += n;
    }
}

/* z in 2^bits levels +-(i + 1/2) step; out: the levels in units of the step. */
static void quantise(double *out, const double *z, int D, int bits, double step) {
    double most = (double)(1 << bits) / 2 - .5;
    for (int d = 0; d < D; d++) {
        double level = step > 0 ? floor(z[d] / step) + .5 : .5;
        out[d] = fmax(-most, fmin(most, level));
    }
}

/* The best of a few steps, then the scale that fits best in squares. */
static void code(double *zhat, const double *z, int D, int bits) {
    static const double shrink[] = {1, .8, .65, .5};
    double most = 0, least = INFINITY, best_step = 0, zl = 0, ll = 0;
    for (int d = 0; d < D; d++) most = fmax(most, fabs(z[d]));
    for (int i = 0; i < 4; i++) {
        double step = 2 * most / (double)(1 << bits) * shrink[i], error = 0;
        quantise(zhat, z, D, bits, step);
        for (int d = 0; d < D; d++) error += (z[d] - step * zhat[d]) * (z[d] - step * zhat[d]);
        if (error < least) least = error, best_step = step;
    }
    quantise(zhat, z, D, bits, best_step);
    for (int d = 0; d < D; d++) zl += z[d] * zhat[d], ll += zhat[d] * zhat[d];
    for (int d = 0; d < D; d++) zhat[d] *= zl / ll;
}

/* As stored: 8 bits a dimension and one scale. */
static void store_mean(double *mean, int D) {
    double most = 0;
    for (int d = 0; d < D; d++) most = fmax(most, fabs(mean[d]));
    if (most == 0) return;
    for (int d = 0; d < D; d++) mean[d] = nearbyint(mean[d] / most * 127) * most / 127;
}

void eval_sketch_block(double *zhat, double *mean, const float *key, int D, int bits,
                       uint64_t seed) {
    double z[256];
    memset(mean, 0, (size_t)D * sizeof *mean);
    for (int i = 0; i < EVAL_BLOCK; i++)
        for (int d = 0; d < D; d++) mean[d] += (double)key[i * D + d] / EVAL_BLOCK;
    store_mean(mean, D);
    for (int i = 0; i < EVAL_BLOCK; i++) {
        for (int d = 0; d < D; d++) z[d] = (double)key[i * D + d] - mean[d];
        eval_rotate(z, D, seed);
        code(zhat + (size_t)i * (size_t)D, z, D, bits);
    }
}
