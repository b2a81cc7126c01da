/* Rows as they come, in four formats: md for a person, csv, one json array, jsonl. */
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/output.h"
#include "runtime/sys.h"

enum { LINES = 8192, HEADER_MOST = 8192 };

typedef struct bench_format bench_format;

struct bench_printer {
    const bench_format *format;
    launch_output out;
    int64_t rows;
    bench_columns columns;
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

static radar_status md_row(bench_printer *p, const json_t *row, radar_error *err) {
    char text[LINES];
    radar_status st = RADAR_OK;
    if (p->rows == 0) {
        bench_md_header(text, sizeof text, &p->columns);
        st = put(p, text, err);
    }
    bench_md_row(text, sizeof text, &p->columns, row);
    return st == RADAR_OK ? put(p, text, err) : st;
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

radar_status bench_print_open(bench_printer **out, const char *format, const bench_columns *columns,
                              radar_error *err) {
    bench_printer *p = radar_alloc(sizeof *p);
    *out = p;
    if (p == NULL) return radar_fail(err, RADAR_ERR_MEMORY, "no memory for output");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, format) == 0) p->format = &formats[i];
    p->columns = *columns;
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
