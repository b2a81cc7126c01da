#include "launch/eval/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/output.h"
#include "runtime/sys.h"

enum { CELL = 32, LINE_MOST = 1 << 24, COLUMNS_MOST = 24 };

static bool scalar(const json_t *value) { return !json_is_array(value) && !json_is_object(value); }

/* ---- for a person ---- */

static const char *cell(char text[CELL], const json_t *value) {
    if (json_is_string(value))
        snprintf(text, CELL, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, CELL, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, CELL, "%.5g", json_real_value(value));
    else
        snprintf(text, CELL, "%s", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-");
    return text;
}

/* Whether rows differ in a key.  Figures differ always: only what stands before "version" is a setting. */
static bool differs(const json_t *rows, const char *key) {
    const json_t *first = json_object_get(json_array_get(rows, 0), key);
    for (size_t i = 1; i < json_array_size(rows); i++)
        if (!json_equal(json_object_get(json_array_get(rows, i), key), first)) return true;
    return false;
}

static bool unsaid(const char *key) {
    static const char *const said_otherwise[] = {"key", "part", "budget_tokens", "text_hash"};
    for (size_t i = 0; i < sizeof said_otherwise / sizeof said_otherwise[0]; i++)
        if (strcmp(key, said_otherwise[i]) == 0) return true;
    return false;
}

/* attention always; other settings where they differ; then the figures. */
static int choose_columns(const char *name[COLUMNS_MOST], const json_t *rows,
                          const char *const *columns) {
    int n = 0;
    const char *key;
    json_t *value;
    json_object_foreach(json_array_get(rows, 0), key, value) {
        if (strcmp(key, "version") == 0 || n == COLUMNS_MOST / 2) break;
        if (unsaid(key)) continue;
        if (strcmp(key, "attention") == 0 || differs(rows, key)) name[n++] = key;
    }
    for (; *columns != NULL && n < COLUMNS_MOST; columns++) name[n++] = *columns;
    return n;
}

radar_status eval_table_print(launch_job *job, const json_t *rows, const char *const *columns) {
    const char *name[COLUMNS_MOST];
    int width[COLUMNS_MOST];
    char text[CELL];
    const int n = choose_columns(name, rows, columns);
    const size_t n_rows = json_array_size(rows);
    for (int k = 0; k < n; k++) {
        width[k] = (int)strlen(name[k]);
        for (size_t i = 0; i < n_rows; i++) {
            const json_t *value = json_object_get(json_array_get(rows, i), name[k]);
            const int wide = (int)strlen(cell(text, value));
            if (wide > width[k]) width[k] = wide;
        }
    }
    for (int k = 0; k < n; k++) printf("%*s%s", width[k], name[k], k + 1 < n ? "  " : "\n");
    for (size_t i = 0; i < n_rows; i++)
        for (int k = 0; k < n; k++)
            printf("%*s%s", width[k], cell(text, json_object_get(json_array_get(rows, i), name[k])),
                   k + 1 < n ? "  " : "\n");
    if (fflush(stdout) != 0 || ferror(stdout))
        return radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
    return RADAR_OK;
}

/* ---- CSV ---- */

/* Calls each for every row of the file; lines that are no rows are left out. */
static radar_status each_row(const char *jsonl, radar_error *err,
                             radar_status (*each)(void *user, const json_t *row), void *user) {
    FILE *f = fopen(jsonl, "rb");
    char *line = radar_alloc(LINE_MOST);
    radar_status st = RADAR_OK;
    if (f == NULL || line == NULL)
        st = radar_fail(err, line == NULL ? RADAR_ERR_MEMORY : RADAR_ERR_IO, "%s: cannot be read",
                        jsonl);
    while (st == RADAR_OK && fgets(line, LINE_MOST, f) != NULL) {
        json_t *row = json_loads(line, 0, NULL);
        if (json_is_object(row)) st = each(user, row);
        json_decref(row);
    }
    if (f != NULL) fclose(f);
    radar_free(line);
    return st;
}

typedef struct csv_state {
    json_t *header; /* an object: its keys, in order */
    launch_output *out;
    radar_error *err;
} csv_state;

static radar_status collect(void *user, const json_t *row) {
    csv_state *c = user;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row, key, value) {
        if (!scalar(value) || json_object_get(c->header, key) != NULL) continue;
        if (json_object_set_new(c->header, key, json_true()) != 0)
            return radar_fail(c->err, RADAR_ERR_MEMORY, "no memory for a table");
    }
    return RADAR_OK;
}

static radar_status write_text(csv_state *c, const char *text) {
    return launch_output_write(c->out, text, strlen(text), c->err);
}

/* In quotes where it needs them, quotes doubled (RFC 4180). */
static radar_status write_string(csv_state *c, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) return write_text(c, text);
    radar_status st = write_text(c, "\"");
    for (; *text != 0 && st == RADAR_OK; text++)
        st = *text == '"' ? write_text(c, "\"\"") : launch_output_write(c->out, text, 1, c->err);
    return st == RADAR_OK ? write_text(c, "\"") : st;
}

static radar_status write_value(csv_state *c, const json_t *value) {
    char number[48] = "";
    if (json_is_string(value)) return write_string(c, json_string_value(value));
    if (json_is_integer(value))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) snprintf(number, sizeof number, "%.12g", json_real_value(value));
    if (json_is_boolean(value))
        snprintf(number, sizeof number, "%s", json_is_true(value) ? "true" : "false");
    return write_text(c, number);
}

static radar_status write_row(void *user, const json_t *row) {
    csv_state *c = user;
    const char *key, *lead = "";
    json_t *unused;
    radar_status st = RADAR_OK;
    json_object_foreach(c->header, key, unused) {
        if (st == RADAR_OK) st = write_text(c, lead);
        if (st == RADAR_OK && row == NULL) st = write_string(c, key);
        if (st == RADAR_OK && row != NULL) st = write_value(c, json_object_get(row, key));
        lead = ",";
    }
    return st == RADAR_OK ? write_text(c, "\n") : st;
}

radar_status eval_table_csv(const char *csv, const char *jsonl, radar_error *err) {
    char fresh[4200];
    csv_state c = {json_object(), radar_alloc(sizeof(launch_output)), err};
    snprintf(fresh, sizeof fresh, "%.4096s.new", csv);
    radar_status st = RADAR_OK;
    if (c.header == NULL || c.out == NULL) {
        st = radar_fail(err, RADAR_ERR_MEMORY, "no memory for a table");
    } else {
        c.out->fd = -1;
        st = each_row(jsonl, err, collect, &c);
        if (st == RADAR_OK && json_object_size(c.header) > 0) {
            st = launch_output_open(c.out, fresh, err);
            if (st == RADAR_OK) st = write_row(&c, NULL);
            if (st == RADAR_OK) st = each_row(jsonl, err, write_row, &c);
            launch_output_close(c.out, err);
            if (err->status == RADAR_OK && rename(fresh, csv) != 0)
                radar_fail(err, RADAR_ERR_IO, "%s: cannot be replaced: %s", csv, strerror(errno));
            if (err->status != RADAR_OK) unlink(fresh);
        }
    }
    json_decref(c.header);
    radar_free(c.out);
    return err->status;
}
