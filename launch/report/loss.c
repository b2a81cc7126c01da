/* Loss above dense against what it costs, loss by position, and time per token: rows of `radar eval ppl`. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/report/figures.h"
#include "launch/report/tally.h"
#include "runtime/sys.h"

/* One picture of loss: which rows, and where they stand on the x axis. */
typedef struct loss_view {
    const char *label;             /* of the x axis */
    double (*x)(const eval_row *); /* NaN: the row is not part of this picture */
    double (*drawn_at)(
        const eval_row
            *); /* NULL: at x; else x keeps settings apart, and what they are drawn at is averaged */
    const char *ignored;         /* settings that are no part of a line's name */
    bool any_length, any_budget; /* else only those that most rows have */
    bool with_dense;             /* dense has a place on the x axis */
    bool sweep;                  /* two different x at least */
} loss_view;

typedef struct work {
    svg_chart chart;
    tally_map map;
} work;

/* length NaN: any. */
static void note_filter(char note[FIGURE_NOTE], const row_list *rows, double length, bool budget) {
    size_t used = 0;
    note[0] = 0;
    if (!isnan(length))
        used = (size_t)snprintf(note, FIGURE_NOTE, "At %.0f tokens of context. ", length);
    if (budget && !isnan(common_budget(rows)))
        snprintf(note + used, FIGURE_NOTE - used, "At a budget of %.0f tokens per query head.",
                 common_budget(rows));
}

static bool is_shown(const eval_row *row, double length, double budget) {
    const double b = method_budget(row);
    if (!isnan(length) && row_real(row, "length") != length) return false;
    return isnan(budget) || isnan(b) || b == budget;
}

static void gather_loss(tally_map *map, const row_list *rows, const loss_view *view) {
    const double length = view->any_length ? NAN : common_length(rows, view->x),
                 budget = view->any_budget ? NAN : common_budget(rows);
    for (int i = 0; i < rows->n; i++) {
        char name[METHOD_NAME];
        const eval_row *row = &rows->row[i];
        if (!is_shown(row, length, budget)) continue;
        if (method_is_dense(row) && !view->with_dense) continue;
        tally one = {0};
        if (!tally_above_dense(&one, rows, row)) continue;
        tally_place *p = tally_place_at(map, method_name(name, row, view->ignored), view->x(row));
        if (p == NULL) continue;
        p->t.n += one.n;
        p->t.sum += one.sum;
        p->t.squares += one.squares;
        if (view->drawn_at != NULL) tally_add(&p->at, view->drawn_at(row));
    }
}

static bool differ_in_x(const tally_map *map) {
    for (int i = 1; i < map->n; i++)
        if (map->place[i].x != map->place[0].x) return true;
    return false;
}

/* Methods differ by orders of magnitude; below a thousandth of a nat nothing is resolved. */
static const svg_axis above_dense = {
    .label = "nats per token above dense (bottom: 0.001 and less)", .log = true, .floor = 0.001};

static double draw_loss(markup *m, const eval_rows *all, char note[FIGURE_NOTE],
                        const loss_view *view) {
    const row_list *rows = &all->of[ROW_PPL];
    double height = 0;
    work *w = radar_alloc(sizeof *w);
    m->failed |= w == NULL;
    if (w == NULL) return 0;
    gather_loss(&w->map, rows, view);
    w->chart.x = (svg_axis){.label = view->label, .log = true};
    w->chart.y = above_dense;
    w->chart.at_points = !view->with_dense;
    tally_chart(&w->chart, &w->map, true);
    if (!view->sweep || differ_in_x(&w->map)) height = svg_chart_draw(m, &w->chart, 0);
    note_filter(note, rows, view->any_length ? NAN : common_length(rows, view->x),
                !view->any_budget);
    radar_free(w);
    return height;
}

static double bytes_of(const eval_row *row) { return row_real(row, "bytes_per_step"); }
static double length_of(const eval_row *row) { return row_real(row, "length"); }
static double features_of(const eval_row *row) {
    const bool random = row_says(row, "scorer", "rf") || row_says(row, "attention", "paper") ||
                        row_says(row, "attention", "code");
    const double n = row_real(row, "rf_features");
    return random && n > 0 ? n : NAN;
}
static double segments_of(const eval_row *row) {
    const double k = row_real(row, "segments");
    return k > 0 ? k : NAN;
}

double figure_loss_budget(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]) {
    const loss_view view = {.label = "budget, tokens per query head",
                            .x = method_budget,
                            .ignored = "|budget|segments|length|",
                            .any_budget = true};
    return draw_loss(m, rows, note, &view);
}

/* Texts differ a little in what is read under one setting: a budget is one point. */
static double setting_of(const eval_row *row) {
    const double budget = method_budget(row);
    return !isnan(budget) ? budget : method_is_dense(row) ? 0 : row_real(row, "window");
}

double figure_loss_bytes(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]) {
    const loss_view view = {.label = "bytes read per step",
                            .x = setting_of,
                            .drawn_at = bytes_of,
                            .ignored = "|budget|segments|length|reach|",
                            .any_budget = true,
                            .with_dense = true};
    return draw_loss(m, rows, note, &view);
}

double figure_loss_length(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]) {
    const loss_view view = {.label = "context, tokens",
                            .x = length_of,
                            .ignored = "|budget|segments|length|",
                            .any_length = true,
                            .sweep = true};
    return draw_loss(m, rows, note, &view);
}

double figure_loss_features(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]) {
    const loss_view view = {.label = "random features n",
                            .x = features_of,
                            .ignored = "|rf_features|budget|segments|length|",
                            .sweep = true};
    return draw_loss(m, rows, note, &view);
}

double figure_loss_segments(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]) {
    const loss_view view = {.label = "chosen segments k per query head",
                            .x = segments_of,
                            .ignored = "|budget|segments|length|",
                            .any_budget = true,
                            .sweep = true};
    return draw_loss(m, rows, note, &view);
}

/* ---- by position ---- */

/* The mean of the bin [first, last] of a row; NaN where it has no such bin. */
static double bin_mean(const eval_row *row, double first, double last) {
    const json_t *bins = row_value(row, "by_position");
    for (size_t i = 0; i < json_array_size(bins); i++) {
        const json_t *bin = json_item(bins, i);
        if (json_number(json_item(bin, 0)) == first && json_number(json_item(bin, 1)) == last)
            return json_number(json_item(bin, 2));
    }
    return NAN;
}

static void gather_positions(tally_map *map, const row_list *rows) {
    const double length = common_length(rows, NULL), budget = common_budget(rows);
    for (int i = 0; i < rows->n; i++) {
        char name[METHOD_NAME];
        const eval_row *row = &rows->row[i];
        const eval_row *dense = method_is_dense(row) ? NULL : dense_of(rows, row);
        const json_t *bins = row_value(row, "by_position");
        if (dense == NULL || !is_shown(row, length, budget)) continue;
        method_name(name, row, "|budget|segments|length|");
        for (size_t k = 0; k < json_array_size(bins) && k < SVG_POINTS; k++) {
            const double first = json_number(json_item(json_item(bins, k), 0)),
                         last = json_number(json_item(json_item(bins, k), 1)),
                         mean = json_number(json_item(json_item(bins, k), 2));
            tally *t = tally_at(map, name, (first + last) / 2);
            if (t != NULL) tally_add(t, mean - bin_mean(dense, first, last));
        }
    }
}

double figure_position(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_PPL];
    work *w = radar_alloc(sizeof *w);
    m->failed |= w == NULL;
    if (w == NULL) return 0;
    gather_positions(&w->map, rows);
    w->chart.x.label = "position, tokens";
    w->chart.y = above_dense;
    tally_chart(&w->chart, &w->map, false);
    const double height = svg_chart_draw(m, &w->chart, 0);
    note_filter(note, rows, common_length(rows, NULL), true);
    radar_free(w);
    return height;
}

/* ---- time ---- */

double figure_time(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_PPL];
    const double budget = common_budget(rows);
    work *w = radar_alloc(sizeof *w);
    m->failed |= w == NULL;
    if (w == NULL) return 0;
    for (int i = 0; i < rows->n; i++) {
        char name[METHOD_NAME];
        const eval_row *row = &rows->row[i];
        if (row_real(row, "batch") != 1 || !is_shown(row, NAN, budget)) continue;
        method_name(name, row, "|budget|segments|length|");
        tally *t = tally_at(&w->map, name, length_of(row));
        if (t != NULL) tally_add(t, row_real(row, "ms_per_token"));
    }
    w->chart.x = (svg_axis){.label = "context t, tokens", .log = true};
    w->chart.y = (svg_axis){.label = "time per token, ms", .log = true};
    w->chart.at_points = true;
    tally_chart(&w->chart, &w->map, false);
    for (int i = 0; i < w->chart.n; i++) {
        svg_series *s = &w->chart.series[i];
        const double slope = power_law(s->point, s->n);
        char name[SVG_NAME];
        if (isnan(slope)) continue;
        snprintf(name, sizeof name, "%.120s: t^%.2f", s->name, slope);
        memcpy(s->name, name, sizeof name);
    }
    const double height = svg_chart_draw(m, &w->chart, 0);
    note_filter(note, rows, NAN, true);
    radar_free(w);
    return height;
}
