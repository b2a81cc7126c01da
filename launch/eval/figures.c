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

radar_status eval_calibration_open(eval_calibration *c, radar_error *err) {
    size_t heads = (size_t)c->layers * (size_t)c->heads, n = (size_t)c->rows * heads;
    c->truth = radar_alloc_array(n, sizeof *c->truth);
    c->estimate = radar_alloc_array(n, sizeof *c->estimate);
    c->error = radar_alloc_array(n, sizeof *c->error);
    if (!c->truth || !c->estimate || !c->error)
        return radar_fail(err, RADAR_ERR_MEMORY, "no memory for %zu shares; use a smaller --tail",
                          n);
    for (size_t i = 0; i < n; i++) c->truth[i] = NAN;
    return RADAR_OK;
}

void eval_calibration_close(eval_calibration *c) {
    radar_free(c->truth);
    radar_free(c->estimate);
    radar_free(c->error);
    *c = (eval_calibration){0};
}

void eval_calibration_add(eval_calibration *c, int64_t row, const radar_observation *o) {
    int64_t at = (row * c->layers + o->layer) * c->heads;
    if (o->candidates == 0) return;
    for (int h = 0; h < o->heads; h++, at++) {
        c->truth[at] = exp((double)o->mass[h] - (double)o->dense_mass[h]);
        c->estimate[at] = (double)o->coverage[h];
    }
}

int64_t eval_calibration_end(eval_calibration *c) {
    for (int64_t i = 0; i < c->rows * c->layers * c->heads; i++) {
        if (isnan(c->truth[i])) continue;
        c->truth[c->n] = c->truth[i];
        c->estimate[c->n] = c->estimate[i];
        c->error[c->n] = fabs(c->estimate[i] - c->truth[i]);
        c->n++;
    }
    eval_sort(c->error, c->n);
    return c->n;
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

void eval_calibration_write(const eval_calibration *c, json_t *row) {
    double truth = mean(c->truth, c->n), estimate = mean(c->estimate, c->n);
    json_object_set_new(row, "estimates", json_integer(c->n));
    json_object_set_new(row, "true_mean", eval_real(truth));
    json_object_set_new(row, "estimated_mean", eval_real(estimate));
    json_object_set_new(row, "bias", eval_real(estimate - truth));
    json_object_set_new(row, "error_median", eval_real(eval_quantile(c->error, c->n, .5)));
    json_object_set_new(row, "error_p95", eval_real(eval_quantile(c->error, c->n, .95)));
    json_object_set_new(row, "error_worst", eval_real(eval_quantile(c->error, c->n, 1)));
    json_object_set_new(row, "pairs", pairs(c));
}
