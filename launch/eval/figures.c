/* What the kinds that look inside attention share, and the calibration of coverage. */
#include "launch/eval/figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/sys.h"

json_t *eval_real(double x) {
    char text[32];
    if (!isfinite(x)) return json_null();
    snprintf(text, sizeof text, "%.6g", x);
    return json_real(strtod(text, NULL));
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void eval_sort(double *x, int64_t n) { qsort(x, (size_t)n, sizeof *x, ascending); }

double eval_quantile(const double *x, int64_t n, double p) {
    if (n == 0) return NAN;
    double at = p * (double)(n - 1);
    int64_t low = (int64_t)at;
    if (low >= n - 1) return x[n - 1];
    return x[low] + (at - (double)low) * (x[low + 1] - x[low]);
}

/* ---- calibration ---- */

radar_status eval_calibration_open(eval_calibration *c, int64_t most, radar_error *err) {
    *c = (eval_calibration){.most = most};
    c->truth = radar_alloc_array((size_t)most, sizeof *c->truth);
    c->estimate = radar_alloc_array((size_t)most, sizeof *c->estimate);
    c->error = radar_alloc_array((size_t)most, sizeof *c->error);
    if (c->truth && c->estimate && c->error) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY, "no memory for %lld shares; use a smaller --tail",
                      (long long)most);
}

void eval_calibration_close(eval_calibration *c) {
    radar_free(c->truth);
    radar_free(c->estimate);
    radar_free(c->error);
    *c = (eval_calibration){0};
}

/* A row that leaves nothing out has nothing to estimate. */
void eval_calibration_add(eval_calibration *c, const radar_observation *o) {
    if (o->candidates == 0) return;
    for (int h = 0; h < o->heads && c->n < c->most; h++, c->n++) {
        c->truth[c->n] = exp((double)o->mass[h] - (double)o->dense_mass[h]);
        c->estimate[c->n] = (double)o->coverage[h];
        c->error[c->n] = fabs(c->estimate[c->n] - c->truth[c->n]);
    }
}

static double mean(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

static json_t *pairs(const eval_calibration *c) {
    enum { PAIRS = 200 };
    int64_t n = radar_min64(c->n, PAIRS);
    json_t *all = json_array();
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i * c->n / n;
        json_array_append_new(
            all, json_pack("[o,o]", eval_real(c->truth[at]), eval_real(c->estimate[at])));
    }
    return all;
}

void eval_calibration_write(eval_calibration *c, json_t *row) {
    double truth = mean(c->truth, c->n), estimate = mean(c->estimate, c->n);
    eval_sort(c->error, c->n);
    json_object_set_new(row, "estimates", json_integer(c->n));
    json_object_set_new(row, "true_mean", eval_real(truth));
    json_object_set_new(row, "estimated_mean", eval_real(estimate));
    json_object_set_new(row, "bias", eval_real(estimate - truth));
    json_object_set_new(row, "error_median", eval_real(eval_quantile(c->error, c->n, .5)));
    json_object_set_new(row, "error_p95", eval_real(eval_quantile(c->error, c->n, .95)));
    json_object_set_new(row, "error_worst", eval_real(eval_quantile(c->error, c->n, 1)));
    json_object_set_new(row, "pairs", pairs(c));
}
