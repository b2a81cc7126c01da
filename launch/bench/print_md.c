/* Rows as a table for a person, in the shape of llama-bench: what was measured, then the speed, then what it comes to a token and
 * of the machine's read bandwidth.  All other figures are in the formats for programs. */
#include <stdio.h>
#include <string.h>

#include "launch/bench/bench.h"

enum { CELL = 128 };

/* One cell: text, aligned to the right where it is a number. */
typedef struct column {
    const char *head, *key;
    int width;
    bool right;
    double scale;
    const char *form; /* of a number; NULL: as it is */
} column;

static const column before[] = {
    {"model", "model_type", 12, false, 1, NULL},
    {"size", "model_bytes", 9, true, 1, NULL},
    {"params", "model_parameters", 9, true, 1e-6, "%.2f M"},
    {"backend", "backend", 7, false, 1, NULL},
    {"threads", "threads", 7, true, 1, NULL},
    {"ranks", "ranks", 5, true, 1, NULL},
};
static const column after[] = {
    {"test", "test", 16, true, 1, NULL},
    {"t/s", "tokens_per_s", 16, true, 1, "%.2f"},
    {"ms/token", "ms_per_token", 8, true, 1, "%.3f"},
    {"MB/token", "bytes_per_token", 8, true, 1e-6, "%.2f"},
    {"% of read", "read_share", 9, true, 100, "%.0f"},
    {"% weights", "weight_read_share", 9, true, 100, "%.0f"},
    {"% scan", "scan_read_share", 6, true, 100, "%.0f"},
    {"% attend", "attend_read_share", 8, true, 100, "%.0f"},
    {"% exchange", "exchange_share", 10, true, 100, "%.1f"},
    {"loss", "loss", 12, true, 1, "%.4f"},
};
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* Columns without a figure in any row are left out. */
static bool shown(const bench_columns *c, const column *which) {
    if (strcmp(which->key, "ranks") == 0 || strcmp(which->key, "exchange_share") == 0)
        return c->ranks;
    if (strcmp(which->key, "scan_read_share") == 0) return c->scan;
    return strcmp(which->key, "loss") != 0 || c->loss;
}

/* ---- a cell ---- */

static void number_text(char text[CELL], const json_t *value, const column *c) {
    const double x = c->scale * json_number_value(value);
    if (json_is_integer(value) && c->form == NULL)
        snprintf(text, CELL, "%lld", (long long)json_integer_value(value));
    else
        snprintf(text, CELL, c->form != NULL ? c->form : "%.6g", x);
}

static void value_text(char text[CELL], const json_t *value, const column *c) {
    snprintf(text, CELL, "-");
    if (json_is_string(value)) snprintf(text, CELL, "%s", json_string_value(value));
    if (json_is_boolean(value)) snprintf(text, CELL, json_is_true(value) ? "yes" : "no");
    if (json_is_number(value)) number_text(text, value, c);
    if (text[0] == 0) snprintf(text, CELL, "-");
}

/* What has a form of its own: a size, a name without what is behind it, a spread, a mark. */
static void cell_text(char text[CELL], const json_t *row, const column *c) {
    const json_t *value = json_object_get(row, c->key),
                 *spread = json_object_get(row, "tokens_per_s_sd");
    value_text(text, value, c);
    const size_t used = strlen(text);
    if (strcmp(c->key, "model_bytes") == 0) launch_bytes(text, json_number_value(value));
    if (strcmp(c->key, "backend") == 0) text[strcspn(text, " ")] = 0;
    if (strcmp(c->key, "tokens_per_s") == 0 && json_is_real(spread))
        snprintf(text + used, CELL - used, " ± %.2f", json_real_value(spread));
    if (strcmp(c->key, "test") == 0 && json_is_true(json_object_get(row, "extrapolated")))
        snprintf(text + used, CELL - used, " (extrapolated)");
    if (strcmp(c->key, "loss") == 0 && !json_is_real(value)) snprintf(text, CELL, "not measured");
}

/* Of a swept option: -1 is how "auto" is kept. */
static void setting_text(char text[CELL], const json_t *row, const char *key) {
    const column plain = {key, key, 0, false, 1, NULL};
    const json_t *value = json_object_get(row, key);
    value_text(text, value, &plain);
    if (json_is_integer(value) && json_integer_value(value) == -1) snprintf(text, CELL, "auto");
}

/* ---- a line ---- */

typedef struct line {
    char *text;
    size_t used, room;
} line;

static void add(line *l, const char *text, int width, bool right) {
    int characters = 0;
    for (const char *at = text; *at != 0; at++) characters += ((unsigned char)*at & 0xc0) != 0x80;
    const int pad = characters < width ? width - characters : 0;
    if (l->used >= l->room) return;
    l->used += (size_t)snprintf(l->text + l->used, l->room - l->used, " %*s%s%*s |",
                                right ? pad : 0, "", text, right ? 0 : pad, "");
}

static void add_rule(line *l, int width, bool right) {
    char dashes[CELL] = "";
    memset(dashes, '-', (size_t)width);
    if (right) dashes[width - 1] = ':';
    add(l, dashes, width, right);
}

static int setting_width(const char *key) {
    const int n = (int)strlen(key);
    return n > 8 ? n : 8;
}

static void add_column(line *l, const column *c, const json_t *row, bool rule) {
    char text[CELL];
    if (rule) {
        add_rule(l, c->width, c->right);
    } else {
        if (row != NULL) cell_text(text, row, c);
        add(l, row != NULL ? text : c->head, c->width, c->right);
    }
}

static void add_setting(line *l, const char *key, const json_t *row, bool rule) {
    char text[CELL];
    if (rule) {
        add_rule(l, setting_width(key), false);
    } else {
        if (row != NULL) setting_text(text, row, key);
        add(l, row != NULL ? text : key, setting_width(key), false);
    }
}

/* A row; NULL: the names of the columns, or the rule below them. */
static void add_line(line *l, const bench_columns *c, const json_t *row, bool rule) {
    if (l->used + 2 < l->room) l->used += (size_t)sprintf(l->text + l->used, "|");
    for (int i = 0; i < COUNT(before); i++)
        if (shown(c, &before[i])) add_column(l, &before[i], row, rule);
    for (int i = 0; i < c->n_varied; i++) add_setting(l, c->varied[i], row, rule);
    for (int i = 0; i < COUNT(after); i++)
        if (shown(c, &after[i])) add_column(l, &after[i], row, rule);
    if (l->used + 2 < l->room) l->used += (size_t)sprintf(l->text + l->used, "\n");
}

void bench_md_header(char *text, size_t bytes, const bench_columns *c) {
    line l = {text, 0, bytes};
    add_line(&l, c, NULL, false);
    add_line(&l, c, NULL, true);
}

void bench_md_row(char *text, size_t bytes, const bench_columns *c, const json_t *row) {
    line l = {text, 0, bytes};
    add_line(&l, c, row, false);
}
