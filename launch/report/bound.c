/* Estimates against the truth: rows of `radar eval calibrate` and `radar eval bound`. */
#include <math.h>
#include <stdio.h>
#include <string.h>

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

typedef struct bound_work {
    svg_chart chart;
    tally_map map;
} bound_work;

static void add_value(tally_map *map, const char *name, double x, double y) {
    tally *t = tally_at(map, name, x);
    if (t != NULL) tally_add(t, y);
}

/* The spread that theory gives grows as e^(s/2): beyond this it says nothing of errors that are seen. */
static double predicted_of(const json_t *object) {
    enum { NATS = 100 };
    const double v = json_number(json_object_get(object, "predicted_sd"));
    return v <= NATS ? v : NAN;
}

/* Means over rows (texts, lengths) as lines; those whose name ends so are drawn without markers. */
static double draw_means(markup *m, bound_work *w, const char *plain, double top) {
    w->chart.at_points = true;
    tally_chart(&w->chart, &w->map, false);
    for (int i = 0; i < w->chart.n; i++)
        w->chart.series[i].plain = strstr(w->chart.series[i].name, plain) != NULL;
    return svg_chart_draw(m, &w->chart, top);
}

static double draw_over_n(markup *m, bound_work *w, const row_list *rows) {
    for (int i = 0; i < rows->n; i++) {
        const eval_row *row = &rows->row[i];
        const double n = row_real(row, "rf_features");
        add_value(&w->map, "median error", n, row_real(row, "error_median"));
        add_value(&w->map, "95 % of errors are below", n, row_real(row, "error_p95"));
        add_value(&w->map, "predicted", n, predicted_of(row->object));
    }
    w->chart.x = (svg_axis){.label = "random features n", .log = true};
    w->chart.y = (svg_axis){.label = "error of a segment's ln mass, nats", .log = true};
    return draw_means(m, w, "predicted", 0);
}

/* Over s = |q + k|^2 / sqrt d, a line for each n and one for what is predicted. */
static double draw_over_s(markup *m, bound_work *w, const row_list *rows, double top) {
    *w = (bound_work){.chart = {.n = 0}};
    for (int i = 0; i < rows->n; i++) {
        const json_t *groups = row_value(&rows->row[i], "groups");
        for (size_t k = 0; k < json_array_size(groups) && k < SVG_POINTS; k++) {
            char name[64];
            const json_t *group = json_item(groups, k);
            const double n = row_real(&rows->row[i], "rf_features"),
                         s = json_number(json_object_get(group, "s_median"));
            if (isnan(n)) continue;
            snprintf(name, sizeof name, "n = %.0f", n);
            add_value(&w->map, name, s, json_number(json_object_get(group, "error_median")));
            snprintf(name, sizeof name, "n = %.0f, predicted", n);
            add_value(&w->map, name, s, predicted_of(group));
        }
    }
    w->chart.x.label = "s = |q + k|\xc2\xb2 / \xe2\x88\x9a"
                       "d";
    w->chart.y = (svg_axis){.label = "median error of ln mass, nats", .log = true};
    return draw_means(m, w, "predicted", top);
}

/* What theory says of the most features there are: often too much to be drawn. */
static void note_theory(char note[FIGURE_NOTE], const row_list *rows) {
    double most = 0;
    note[0] = 0;
    for (int i = 0; i < rows->n; i++) {
        const double n = row_real(&rows->row[i], "rf_features"),
                     s = row_real(&rows->row[i], "s_median"),
                     spread = row_real(&rows->row[i], "predicted_sd");
        if (!(n > most) || isnan(s)) continue;
        most = n;
        const int used =
            snprintf(note, FIGURE_NOTE, "The median s is %.1f, 2 ln n for n = %.0f is %.1f", s, n,
                     2 * log(n));
        snprintf(note + used, FIGURE_NOTE - (size_t)used,
                 isnan(spread) ? "."
                               : ", and the predicted spread e^(s/2) / \xe2\x88\x9an is %.3g. "
                                 "Predictions above 100 are not drawn.",
                 spread);
    }
}

double figure_bound(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    bound_work *w = radar_alloc(sizeof *w);
    note_theory(note, &all->of[ROW_BOUND]);
    m->failed |= w == NULL;
    if (w == NULL) return 0;
    const double first = draw_over_n(m, w, &all->of[ROW_BOUND]);
    const double second = draw_over_s(m, w, &all->of[ROW_BOUND], first > 0 ? first + 14 : 0);
    radar_free(w);
    return second > 0 ? second : first;
}

double figure_sketch(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    static const char formula[] = "|q||k - m| 2^-b / \xe2\x88\x9a"
                                  "d";
    const row_list *rows = &all->of[ROW_BOUND];
    bound_work *w = radar_alloc(sizeof *w);
    note[0] = 0;
    m->failed |= w == NULL;
    if (w == NULL) return 0;
    for (int i = 0; i < rows->n; i++) {
        const json_t *table = row_value(&rows->row[i], "sketch");
        for (size_t k = 0; k < json_array_size(table) && k < SVG_POINTS; k++) {
            const json_t *line = json_item(table, k);
            const double bits = json_number(json_object_get(line, "bits"));
            add_value(&w->map, "measured", bits, json_number(json_object_get(line, "error")));
            add_value(&w->map, formula, bits, json_number(json_object_get(line, "predicted")));
        }
    }
    w->chart.x = (svg_axis){.label = "bits a dimension b", .log = true};
    w->chart.y = (svg_axis){.label = "error of q.k, root mean square", .log = true};
    const double height = draw_means(m, w, formula, 0);
    radar_free(w);
    return height;
}
