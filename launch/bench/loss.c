/* The loss beside the speed: rows that radar eval ppl has left in a folder, found by their settings. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "runtime/sys.h"

enum { LINE_MOST = 1 << 24 };

struct bench_losses {
    json_t *rows;
};

/* ---- reading ---- */

static radar_status read_lines(bench_losses *l, FILE *f, const char *path, radar_error *err) {
    char *line = radar_alloc(LINE_MOST);
    radar_status st = RADAR_OK;
    if (line == NULL) return radar_fail(err, RADAR_ERR_MEMORY, "%s: no memory to read it", path);
    for (int64_t number = 1; st == RADAR_OK && fgets(line, LINE_MOST, f) != NULL; number++) {
        json_t *row = json_loads(line, 0, NULL);
        if (!json_is_object(row) || json_array_append(l->rows, row) != 0)
            st = radar_fail(err, RADAR_ERR_DATA, "%s: line %lld is no row of radar eval ppl", path,
                            (long long)number);
        json_decref(row);
    }
    if (ferror(f)) st = radar_fail(err, RADAR_ERR_IO, "%s: cannot be read", path);
    radar_free(line);
    return st;
}

radar_status bench_losses_open(bench_losses **out, const char *dir, radar_error *err) {
    char path[4200];
    snprintf(path, sizeof path, "%.4096s/ppl.jsonl", dir);
    *out = NULL;
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return radar_fail(err, RADAR_ERR_NO_INPUT,
                          "%s: cannot be opened: %s; --loss is the folder of radar eval ppl --out",
                          path, strerror(errno));
    bench_losses *l = radar_alloc(sizeof *l);
    if (l != NULL) l->rows = json_array();
    const radar_status st = l != NULL && l->rows != NULL
                                ? read_lines(l, f, path, err)
                                : radar_fail(err, RADAR_ERR_MEMORY, "no memory for losses");
    fclose(f);
    if (st != RADAR_OK)
        bench_losses_close(l);
    else
        *out = l;
    return st;
}

void bench_losses_close(bench_losses *l) {
    if (l == NULL) return;
    json_decref(l->rows);
    radar_free(l);
}

/* ---- finding ---- */

static bool same(const json_t *a, const json_t *b, const char *const *key) {
    for (; *key != NULL; key++) {
        const json_t *x = json_object_get(a, *key), *y = json_object_get(b, *key);
        if (x != y && !json_equal(x, y)) return false;
    }
    return true;
}

static bool same_setting(const json_t *a, const json_t *b) {
    static const char *const keys[] = {
        "fingerprint",   "attention", "scorer",   "budget",      "segments",  "segment",
        "window",        "sinks",     "share",    "pick",        "select",    "sketch_bits",
        "scan",          "prefill",   "outliers", "rf_features", "rf_form",   "rf_center",
        "rf_temper",     "restream",  "observe",  "dense_below", "precision", "kv_type",
        "dense_prefill", NULL};
    return same(a, b, keys);
}

static int64_t length_of(const json_t *row) {
    return json_integer_value(json_object_get(row, "length"));
}

/* Dense attention over f16, or where that is not there over the row's own kind of cache, at the same positions of the same text. */
static const json_t *dense_beside(const bench_losses *l, const json_t *row) {
    static const char *const place[] = {"fingerprint", "text_hash", "length", "first",
                                        "last",        "precision", NULL};
    const json_t *found = NULL;
    for (size_t i = 0; i < json_array_size(l->rows); i++) {
        const json_t *other = json_array_get(l->rows, i);
        const char *attention = json_string_value(json_object_get(other, "attention"));
        const char *prefill = json_string_value(json_object_get(other, "prefill"));
        const json_t *type = json_object_get(other, "kv_type");
        if (attention == NULL || strcmp(attention, "dense") != 0 || !same(row, other, place))
            continue;
        if (prefill != NULL && strcmp(prefill, "dense") != 0) continue;
        const bool f16 = json_is_string(type) && strcmp(json_string_value(type), "f16") == 0;
        if (f16 || (found == NULL && json_equal(type, json_object_get(row, "kv_type"))))
            found = other;
        if (f16) break;
    }
    return found;
}

static double mean_of(const json_t *row) {
    return json_number_value(json_object_get(row, "nll_mean"));
}

bool bench_loss(const bench_losses *l, const json_t *row, int64_t depth, double *loss, char *from,
                size_t bytes) {
    int64_t length = INT64_MAX;
    int texts = 0;
    double sum = 0;
    for (size_t i = 0; i < json_array_size(l->rows); i++) {
        const json_t *other = json_array_get(l->rows, i);
        const int64_t n = length_of(other);
        if (n < depth || n > length || !same_setting(row, other)) continue;
        const json_t *dense = dense_beside(l, other);
        if (dense == NULL) continue;
        if (n < length) length = n, texts = 0, sum = 0;
        sum += mean_of(other) - mean_of(dense);
        texts++;
    }
    if (texts == 0) return false;
    *loss = sum / texts;
    snprintf(from, bytes, "%d text%s of %lld tokens", texts, texts == 1 ? "" : "s",
             (long long)length);
    return true;
}
