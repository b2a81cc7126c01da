#include "launch/report/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/sys.h"

const char *const row_kind_name[ROW_KINDS] = {"ppl",      "recall",    "needle", "ruler",
                                              "generate", "calibrate", "bound",  "stats"};

enum { TOLD = 5, PATH = 4096 }; /* lines of a file that are named; bytes of a path */

/* ---- values ---- */

double json_number(const json_t *value) {
    if (!json_is_number(value)) return NAN;
    const double v = json_number_value(value);
    return fabs(v) < 1e15 ? v : NAN;
}

const json_t *row_value(const eval_row *row, const char *key) {
    return json_object_get(row->object, key);
}

double row_real(const eval_row *row, const char *key) { return json_number(row_value(row, key)); }

const char *row_text(const eval_row *row, const char *key) {
    return json_string_value(row_value(row, key));
}

bool row_says(const eval_row *row, const char *key, const char *text) {
    const char *is = row_text(row, key);
    return is != NULL && text != NULL && strcmp(is, text) == 0;
}

const json_t *json_item(const json_t *array, size_t i) { return json_array_get(array, i); }

/* ---- one line ---- */

/* Values and depth, counted on the text before the parser builds anything; what stands in strings counts too, which only makes the
 * limit tighter. */
static bool within_limits(const char *text, size_t bytes, size_t *values) {
    size_t depth = 0, most = 0;
    *values = 1;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == ',' || text[i] == '{' || text[i] == '[') ++*values;
        if (text[i] == '{' || text[i] == '[') depth++;
        if ((text[i] == '}' || text[i] == ']') && depth > 0) depth--;
        if (depth > most) most = depth;
    }
    return *values <= ROWS_LINE_VALUES && most <= ROWS_DEPTH;
}

/* Losses are most of a row: kept as numbers, the JSON values are freed. */
static bool take_losses(eval_row *row) {
    const json_t *nll = row_value(row, "nll");
    const size_t n = json_array_size(nll);
    if (n > 0) {
        row->nll = radar_alloc_array(n, sizeof *row->nll);
        if (row->nll == NULL) return false;
        row->n_nll = (int64_t)n;
        for (size_t i = 0; i < n; i++) row->nll[i] = json_number(json_item(nll, i));
    }
    json_object_del(row->object, "nll");
    return true;
}

static bool make_room(row_list *list) {
    if (list->n > 0 && (list->n & (list->n - 1)) != 0) return true; /* full at powers of two */
    eval_row *more = radar_alloc_array((size_t)(list->n > 0 ? 2 * list->n : 1), sizeof *more);
    if (more == NULL) return false;
    if (list->n > 0) memcpy(more, list->row, (size_t)list->n * sizeof *more);
    radar_free(list->row);
    list->row = more;
    return true;
}

bool rows_add(eval_rows *rows, row_kind kind, const char *text, size_t bytes, const char **why,
              radar_error *err) {
    static const char *const no_memory = "no memory for a row";
    row_list *list = &rows->of[kind];
    eval_row row = {0};
    size_t values;
    json_error_t parser;
    *why = "too many rows in this file";
    if (list->n >= ROWS_PER_KIND) return false;
    *why = "too long, too deeply nested or too many values";
    if (bytes > ROWS_LINE_BYTES || !within_limits(text, bytes, &values)) return false;
    *why = "no JSON object";
    row.object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &parser);
    if (row.object == NULL && json_error_code(&parser) == json_error_out_of_memory)
        radar_fail(err, RADAR_ERR_MEMORY, "%s", no_memory);
    if (!json_is_object(row.object)) {
        json_decref(row.object);
        return false;
    }
    if (!take_losses(&row) || !make_room(list)) {
        radar_fail(err, RADAR_ERR_MEMORY, "%s", no_memory);
        goto drop;
    }
    *why = "too many values in this folder";
    values -= (size_t)radar_min64(row.n_nll, (int64_t)values);
    if (values > ROWS_VALUES - rows->values) goto drop;
    rows->values += values;
    list->row[list->n++] = row;
    return true;
drop:
    radar_free(row.nll);
    json_decref(row.object);
    return false;
}

/* ---- one file ---- */

static void warn(eval_rows *rows, const char *path, int64_t line, const char *why) {
    char text[PATH + 128];
    snprintf(text, sizeof text, "%s:%lld: left out: %s", path, (long long)line, why);
    if (rows->warn != NULL) rows->warn(rows->user, text);
}

static radar_status read_lines(eval_rows *rows, row_kind kind, const char *path, FILE *file,
                               radar_error *err) {
    char *text = NULL;
    size_t room = 0;
    int64_t line = 0, bad = 0;
    for (ssize_t n; err->status == RADAR_OK && (n = getline(&text, &room, file)) >= 0;) {
        const char *why;
        line++;
        if (n > 0 && text[n - 1] == '\n') n--;
        if (n == 0 || rows_add(rows, kind, text, (size_t)n, &why, err)) continue;
        if (err->status == RADAR_OK && bad++ < TOLD) warn(rows, path, line, why);
    }
    if (ferror(file)) radar_fail(err, RADAR_ERR_IO, "%s: read failed: %s", path, strerror(errno));
    if (bad > TOLD) {
        char more[48];
        snprintf(more, sizeof more, "and %lld more lines", (long long)(bad - TOLD));
        warn(rows, path, line, more);
    }
    rows->skipped += bad;
    free(text);
    return err->status;
}

/* The file of one kind; that it is not there is no error. */
static radar_status read_file(eval_rows *rows, row_kind kind, const char *folder,
                              radar_error *err) {
    char path[PATH];
    const int n = snprintf(path, sizeof path, "%s/%s.jsonl", folder, row_kind_name[kind]);
    if (n < 0 || n >= PATH)
        return radar_fail(err, RADAR_ERR_NO_INPUT, "%.64s..: the path is too long", folder);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for ever */
    if (fd < 0 && errno == ENOENT) return RADAR_OK;
    struct stat about;
    if (fd >= 0 && (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode))) {
        close(fd);
        return radar_fail(err, RADAR_ERR_DATA, "%s: not a file of rows", path);
    }
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (file == NULL) {
        if (fd >= 0) close(fd);
        return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    }
    read_lines(rows, kind, path, file, err);
    fclose(file);
    return err->status;
}

radar_status rows_read(eval_rows *rows, const char *folder, rows_warn_fn *warn_fn, void *user,
                       radar_error *err) {
    *rows = (eval_rows){.warn = warn_fn, .user = user};
    struct stat about;
    if (stat(folder, &about) != 0)
        return radar_fail(err, RADAR_ERR_NO_INPUT,
                          "%s: %s; give the folder that radar eval --out wrote", folder,
                          strerror(errno));
    if (!S_ISDIR(about.st_mode))
        return radar_fail(err, RADAR_ERR_NO_INPUT,
                          "%s: not a folder; give the one that radar eval --out wrote", folder);
    for (int k = 0; k < ROW_KINDS; k++)
        if (read_file(rows, (row_kind)k, folder, err) != RADAR_OK) return err->status;
    if (rows_count(rows) == 0)
        return radar_fail(err, RADAR_ERR_NO_INPUT,
                          "%s: no rows in it; make some: radar eval ppl -m MODEL -f TEXT --out %s",
                          folder, folder);
    return RADAR_OK;
}

void rows_close(eval_rows *rows) {
    for (int k = 0; k < ROW_KINDS; k++) {
        for (int i = 0; i < rows->of[k].n; i++) {
            radar_free(rows->of[k].row[i].nll);
            json_decref(rows->of[k].row[i].object);
        }
        radar_free(rows->of[k].row);
    }
    *rows = (eval_rows){0};
}

int rows_count(const eval_rows *rows) {
    int n = 0;
    for (int k = 0; k < ROW_KINDS; k++) n += rows->of[k].n;
    return n;
}
