/* Estimates against the truth: rows of `radar eval calibrate` and `radar eval bound`. */
#include <math.h>
#include <stdio.h>

#include "launch/report/figures.h"
#include "launch/report/tally.h"
#include "runtime/sys.h"

/* ---- coverage ---- */

double figure_calibrate(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_CALIBRATE];
    svg_chart *c = radar_alloc(sizeof *c);
    note[0] = 0;
    m->failed |= c == NULL;
    if (c == NULL) return 0;
    c->x.label = "true coverage";
    c->y.label = "estimated coverage";
    c->unit = true;
    c->height = 280;
    for (int i = 0; i < rows->n; i++) {
        char name[METHOD_NAME];
        const json_t *pairs = row_value(&rows->row[i], "pairs");
        const size_t n = json_array_size(pairs), stride = 1 + n / SVG_POINTS;
        method_name(name, &rows->row[i], "|budget|segments|");
        for (size_t k = 0; k < n; k += stride) {
            const json_t *pair = json_item(pairs, k);
            svg_add(c, name, json_number(json_item(pair, 0)), json_number(json_item(pair, 1)), NAN);
        }
    }
    for (int i = 0; i < c->n; i++) c->series[i].scattered = true;
    c->left_out = 0; /* a sample is drawn */
    const double height = svg_chart_draw(m, c, 0);
    radar_free(c);
    return height;
}

/* ---- random features and sketch ---- */

/* Column y of table over column x, as the line `name`. */
static void add_column(svg_chart *c, const char *name, bool plain, const json_t *table, size_t x,
                       size_t y) {
    for (size_t i = 0; i < json_array_size(table) && i < SVG_POINTS; i++) {
        const json_t *line = json_item(table, i);
        svg_add(c, name, json_number(json_item(line, x)), json_number(json_item(line, y)), NAN);
    }
    for (int i = 0; i < c->n; i++)
        if (plain && c->series[i].n > 0 && svg_series_named(c, name) == &c->series[i])
            c->series[i].plain = true;
}

/* Error over s = |q + k|^2 / sqrt d, a line for each n and one for what is predicted. */
static void add_by_s(svg_chart *c, const json_t *table) {
    for (size_t i = 0; i < json_array_size(table) && i < SVG_POINTS; i++) {
        char name[64];
        const json_t *line = json_item(table, i);
        const double s = (json_number(json_item(line, 0)) + json_number(json_item(line, 1))) / 2,
                     n = json_number(json_item(line, 2));
        snprintf(name, sizeof name, "n = %.0f", n);
        svg_add(c, name, s, json_number(json_item(line, 3)), NAN);
        snprintf(name, sizeof name, "n = %.0f, predicted", n);
        const int before = c->n;
        svg_add(c, name, s, json_number(json_item(line, 4)), NAN);
        if (c->n > before) c->series[before].plain = true;
    }
}

static const json_t *table_of(const row_list *rows, const char *key) {
    for (int i = 0; i < rows->n; i++) {
        const json_t *table = row_value(&rows->row[i], key);
        if (json_array_size(table) > 0) return table;
    }
    return NULL;
}

double figure_bound(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_BOUND];
    const json_t *over_n = table_of(rows, "random_features"), *over_s = table_of(rows, "by_s");
    svg_chart *c = radar_alloc(sizeof *c);
    note[0] = 0;
    m->failed |= c == NULL;
    if (c == NULL) return 0;
    c->x = (svg_axis){.label = "random features n", .log = true};
    c->y = (svg_axis){.label = "error of the estimate of e^logit, relative", .log = true};
    add_column(c, "median error", false, over_n, 0, 1);
    add_column(c, "95 % of errors are below", false, over_n, 0, 2);
    add_column(c, "predicted", true, over_n, 0, 3);
    double end = svg_chart_draw(m, c, 0);
    *c = (svg_chart){.y = {.label = "median error of the estimate, relative", .log = true}};
    c->x.label = "s = |q + k|\xc2\xb2 / \xe2\x88\x9a"
                 "d";
    add_by_s(c, over_s);
    const double second = svg_chart_draw(m, c, end > 0 ? end + 14 : 0);
    radar_free(c);
    return second > 0 ? second : end;
}

double figure_sketch(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const json_t *table = table_of(&all->of[ROW_BOUND], "sketch");
    svg_chart *c = radar_alloc(sizeof *c);
    note[0] = 0;
    m->failed |= c == NULL;
    if (c == NULL) return 0;
    c->x = (svg_axis){.label = "bits a dimension b", .log = true};
    c->y = (svg_axis){.label = "error of a logit, root mean square", .log = true};
    add_column(c, "measured", false, table, 0, 1);
    add_column(c,
               "|q||k| 2^-b / \xe2\x88\x9a"
               "d",
               true, table, 0, 2);
    const double height = svg_chart_draw(m, c, 0);
    radar_free(c);
    return height;
}
