/* Rows as they come, in four formats: md for a person, csv, one json array, jsonl. */
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/output.h"
#include "runtime/sys.h"

enum { CELL = 96, VARIED_MOST = 16, HEADER_MOST = 8192 };

typedef struct bench_format bench_format;

struct bench_printer {
    const bench_format *format;
    launch_output out;
    int64_t rows;
    char varied[VARIED_MOST][LAUNCH_LABEL]; /* n_varied keys */
    int n_varied;
    char header
        [HEADER_MOST]; /* csv: keys of the first row, each with a zero byte behind; "" ends it */
};

struct bench_format {
    const char *name;
    radar_status (*row)(bench_printer *p, const json_t *row, radar_error *err);
    radar_status (*end)(bench_printer *p, radar_error *err);
};

static radar_status put(bench_printer *p, const char *text, radar_error *err) {
    return launch_output_write(&p->out, text, strlen(text), err);
}

/* ---- md ---- */

typedef struct column {
    const char *head, *key;
    double scale;
    const char *form; /* of a number; NULL: as it is */
} column;

static const column columns[] = {
    {"test", "test", 1, NULL},
    {"fill", "fill", 1, NULL},
    {"t/s", "tokens_per_s", 1, "%.2f"},
    {"±", "tokens_per_s_sd", 1, "%.2f"},
    {"ms/token", "ms_per_token", 1, "%.3f"},
    {"MB/token", "bytes_per_token", 1e-6, "%.2f"},
    {"weights", "weight_bytes_per_token", 1e-6, "%.2f"},
    {"summaries", "summary_bytes_per_token", 1e-6, "%.2f"},
    {"k+v", "kv_bytes_per_token", 1e-6, "%.2f"},
    {"% of read", "read_share", 100, "%.0f"},
    {"% weights", "weight_read_share", 100, "%.0f"},
    {"% scan", "scan_read_share", 100, "%.0f"},
    {"% attend", "attend_read_share", 100, "%.0f"},
    {"attention s", "attention_s", 1, "%.4g"},
    {"% exchange", "exchange_share", 100, "%.1f"},
    {"coverage", "coverage_mean", 1, "%.4f"},
    {"loss", "loss", 1, "%.4f"},
};

static const char *cell(char text[CELL], const json_t *value, double scale, const char *form) {
    if (json_is_string(value))
        snprintf(text, CELL, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, CELL, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, CELL, form != NULL ? form : "%.6g", scale * json_real_value(value));
    else
        snprintf(text, CELL, "-");
    return text;
}

/* What the figures stand for where there is none: a loss nobody measured is not zero; an extrapolated test is named so. */
static const char *column_cell(char text[CELL], const column *c, const json_t *row) {
    const json_t *value = json_object_get(row, c->key);
    if (strcmp(c->key, "loss") == 0 && !json_is_real(value)) return "not measured";
    cell(text, value, c->scale, c->form);
    if (strcmp(c->key, "test") == 0 && json_is_true(json_object_get(row, "extrapolated")))
        strncat(text, " (extrapolated)", CELL - strlen(text) - 1);
    return text;
}

static radar_status md_header(bench_printer *p, radar_error *err) {
    char line[4096];
    int n = snprintf(line, sizeof line, "| model | size | params | threads | ranks |");
    radar_status st;
    for (int i = 0; i < p->n_varied; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, " %s |", p->varied[i]);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, " %s |", columns[i].head);
    RADAR_TRY(st, put(p, line, err), fail);
    RADAR_TRY(st, put(p, "\n|---|---|---|---|---|", err), fail);
    for (int i = 0; i < p->n_varied; i++) RADAR_TRY(st, put(p, "---|", err), fail);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        RADAR_TRY(st, put(p, i < 2 ? "---|" : "--:|", err), fail);
    RADAR_TRY(st, put(p, "\n", err), fail);
fail:
    return st;
}

static radar_status md_row(bench_printer *p, const json_t *row, radar_error *err) {
    char text[CELL], line[4096], size[LAUNCH_BYTES_TEXT];
    radar_status st = p->rows == 0 ? md_header(p, err) : RADAR_OK;
    if (st != RADAR_OK) return st;
    int n = snprintf(
        line, sizeof line, "| %s | %s | %.2f M | %lld | %lld |",
        json_string_value(json_object_get(row, "model_type")),
        launch_bytes(size, (double)json_integer_value(json_object_get(row, "model_bytes"))),
        1e-6 * (double)json_integer_value(json_object_get(row, "model_parameters")),
        (long long)json_integer_value(json_object_get(row, "threads")),
        (long long)json_integer_value(json_object_get(row, "ranks")));
    for (int i = 0; i < p->n_varied; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, " %s |",
                      cell(text, json_object_get(row, p->varied[i]), 1, NULL));
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, " %s |",
                      column_cell(text, &columns[i], row));
    st = put(p, line, err);
    return st == RADAR_OK ? put(p, "\n", err) : st;
}

static radar_status no_end(bench_printer *p, radar_error *err) {
    (void)p, (void)err;
    return RADAR_OK;
}

/* ---- csv: keys with plain values ---- */

static bool plain(const json_t *value) { return !json_is_array(value) && !json_is_object(value); }

/* In quotes, quotes doubled (RFC 4180). */
static radar_status put_quoted(bench_printer *p, const char *text, radar_error *err) {
    radar_status st = put(p, "\"", err);
    for (; *text != 0 && st == RADAR_OK; text++)
        st = *text == '"' ? put(p, "\"\"", err) : launch_output_write(&p->out, text, 1, err);
    return st == RADAR_OK ? put(p, "\"", err) : st;
}

static radar_status put_value(bench_printer *p, const json_t *value, radar_error *err) {
    char number[40] = "";
    if (json_is_string(value)) return put_quoted(p, json_string_value(value), err);
    if (json_is_integer(value))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) snprintf(number, sizeof number, "%.12g", json_real_value(value));
    if (json_is_boolean(value))
        snprintf(number, sizeof number, "%s", json_is_true(value) ? "true" : "false");
    return put(p, number, err);
}

static radar_status csv_header(bench_printer *p, const json_t *row, radar_error *err) {
    const char *key, *lead = "";
    const json_t *value;
    size_t used = 0;
    radar_status st = RADAR_OK;
    json_object_foreach((json_t *)row, key, value) {
        if (!plain(value) || used + strlen(key) + 2 > sizeof p->header) continue;
        used += strlen(strcpy(p->header + used, key)) + 1;
        if (st == RADAR_OK) st = put(p, lead, err);
        if (st == RADAR_OK) st = put(p, key, err);
        lead = ",";
    }
    return st == RADAR_OK ? put(p, "\n", err) : st;
}

static radar_status csv_row(bench_printer *p, const json_t *row, radar_error *err) {
    const char *lead = "";
    radar_status st = p->rows == 0 ? csv_header(p, row, err) : RADAR_OK;
    for (const char *key = p->header; *key != 0 && st == RADAR_OK; key += strlen(key) + 1) {
        st = put(p, lead, err);
        if (st == RADAR_OK) st = put_value(p, json_object_get(row, key), err);
        lead = ",";
    }
    return st == RADAR_OK ? put(p, "\n", err) : st;
}

/* ---- json, jsonl ---- */

static radar_status put_object(bench_printer *p, const json_t *row, radar_error *err) {
    char *text = json_dumps(row, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
    if (text == NULL) return radar_fail(err, RADAR_ERR_MEMORY, "no memory for a row");
    const radar_status st = put(p, text, err);
    free(text);
    return st;
}

static radar_status json_row(bench_printer *p, const json_t *row, radar_error *err) {
    const radar_status st = put(p, p->rows == 0 ? "[\n" : ",\n", err);
    return st == RADAR_OK ? put_object(p, row, err) : st;
}

static radar_status json_end(bench_printer *p, radar_error *err) {
    return put(p, p->rows == 0 ? "[]\n" : "\n]\n", err);
}

static radar_status jsonl_row(bench_printer *p, const json_t *row, radar_error *err) {
    const radar_status st = put_object(p, row, err);
    return st == RADAR_OK ? put(p, "\n", err) : st;
}

/* ---- the printer ---- */

static const bench_format formats[] = {{"md", md_row, no_end},
                                       {"csv", csv_row, no_end},
                                       {"json", json_row, json_end},
                                       {"jsonl", jsonl_row, no_end}};

radar_status bench_print_open(bench_printer **out, const char *format, const char *const *varied,
                              radar_error *err) {
    bench_printer *p = radar_alloc(sizeof *p);
    *out = p;
    if (p == NULL) return radar_fail(err, RADAR_ERR_MEMORY, "no memory for output");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, format) == 0) p->format = &formats[i];
    for (int i = 0; i < VARIED_MOST && varied[i] != NULL; i++)
        snprintf(p->varied[p->n_varied++], LAUNCH_LABEL, "%s", varied[i]);
    return launch_output_open(&p->out, NULL, err);
}

radar_status bench_print_row(bench_printer *p, launch_json *row, radar_error *err) {
    radar_status st = RADAR_OK;
    if (row->failed || row->object == NULL)
        st = radar_fail(err, RADAR_ERR_MEMORY, "no memory for a row");
    if (st == RADAR_OK) st = p->format->row(p, row->object, err);
    if (st == RADAR_OK) st = launch_output_flush(&p->out, err);
    if (st == RADAR_OK) p->rows++;
    json_decref(row->object);
    *row = (launch_json){0};
    return st;
}

void bench_print_close(bench_printer *p, radar_error *err) {
    radar_error late = {0}; /* the array is ended after an error elsewhere too */
    if (p == NULL) return;
    if (p->format->end(p, &late) == RADAR_OK) launch_output_close(&p->out, &late);
    if (late.status != RADAR_OK) radar_fail(err, late.status, "%s", late.text);
    radar_free(p);
}
