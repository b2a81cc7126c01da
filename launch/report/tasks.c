/* Pictures of retrieval: rows of `radar eval needle` and `radar eval ruler`. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/report/figures.h"
#include "launch/report/tally.h"
#include "runtime/sys.h"

/* ---- needle: depth x length ---- */

enum { GRIDS = 16, SIDE = 24 };

/* The methods, lengths and depths there are, and for each cell the mean over rows (texts, seeds). */
typedef struct needles {
    int methods, lengths, depths;
    char method[GRIDS][METHOD_NAME];
    double length[SIDE], depth[SIDE];
    tally loss[GRIDS][SIDE][SIDE], exact[GRIDS][SIDE][SIDE]; /* [method][depth][length] */
} needles;

/* Index of v in list, which grows up to SIDE; -1: full or no number. */
static int index_of(double *list, int *n, double v) {
    int i = 0;
    if (isnan(v)) return -1;
    while (i < *n && list[i] != v) i++;
    if (i == SIDE) return -1;
    if (i == *n) list[(*n)++] = v;
    return i;
}

static int method_of(needles *x, const eval_row *row) {
    char name[METHOD_NAME];
    int i = 0;
    method_name(name, row, "|length|");
    while (i < x->methods && strcmp(x->method[i], name) != 0) i++;
    if (i == GRIDS) return -1;
    if (i == x->methods) memcpy(x->method[x->methods++], name, sizeof name);
    return i;
}

static void add_grid(needles *x, const eval_row *row) {
    const json_t *grid = row_value(row, "grid");
    if (json_array_size(grid) == 0) return;
    const int l = index_of(x->length, &x->lengths, row_real(row, "length")), m = method_of(x, row);
    for (size_t i = 0; l >= 0 && m >= 0 && i < json_array_size(grid) && i < 4 * SIDE; i++) {
        const json_t *cell = json_item(grid, i);
        const int d = index_of(x->depth, &x->depths, json_number(json_item(cell, 0)));
        if (d < 0) continue;
        tally_add(&x->loss[m][d][l], json_number(json_item(cell, 1)));
        tally_add(&x->exact[m][d][l], json_number(json_item(cell, 2)));
    }
}

/* Places of the values in rising order. */
static void sort_places(int place[SIDE], const double *value, int n) {
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && value[place[at - 1]] > value[i]; at--) place[at] = place[at - 1];
        place[at] = i;
    }
}

static svg_heat common_colours(const needles *x) {
    double low = INFINITY, high = -INFINITY;
    for (int m = 0; m < x->methods; m++)
        for (int d = 0; d < x->depths; d++)
            for (int l = 0; l < x->lengths; l++) {
                const double v = tally_mean(&x->loss[m][d][l]);
                if (isnan(v)) continue;
                low = fmin(low, v), high = fmax(high, v);
            }
    return (svg_heat){.low = high, .high = low}; /* a small loss is bright */
}

/* The share of exact answers in a cell, where there is room to read it. */
static void draw_exact(markup *m, const svg_heat *h, const tally *loss, const tally *exact,
                       double x, double y) {
    const double share = tally_mean(exact);
    const int level = svg_heat_level(h, tally_mean(loss));
    if (isnan(share) || level < 0) return;
    markup_format(m,
                  "<text style=\"fill:%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
                  "font-size=\"11\">%.0f</text>",
                  svg_heat_ink(level), x, y, 100 * fmin(fmax(share, 0), 1));
}

static void draw_grid(markup *m, const needles *x, int method, const svg_heat *colours, double left,
                      double top, double width) {
    int column[SIDE], line[SIDE];
    double value[SIDE * SIDE];
    char number[SVG_NUMBER];
    const double inset = 34, w = (width - inset) / x->lengths, tall = 18;
    const svg_heat h = {x->depths, x->lengths, value, colours->low, colours->high, false};
    sort_places(column, x->length, x->lengths);
    sort_places(line, x->depth, x->depths);
    for (int d = 0; d < x->depths; d++)
        for (int l = 0; l < x->lengths; l++)
            value[d * x->lengths + l] = tally_mean(&x->loss[method][line[d]][column[l]]);
    svg_text(m, left, top + 12, "start", 11.5, width, x->method[method]);
    svg_heat_draw(m, &h, left + inset, top + 18, width - inset, tall * x->depths);
    for (int d = 0; d < x->depths; d++)
        svg_text(m, left + inset - 4, top + 31 + d * tall, "end", 11, inset,
                 svg_number(number, x->depth[line[d]]));
    for (int l = 0, last = -100; l < x->lengths; l++) {
        const double at = left + inset + (l + 0.5) * w;
        const double half = svg_text_width(svg_number(number, x->length[column[l]]), 11) / 2;
        if (at - half > last + 3 && at + half < left + width + 4) {
            svg_text(m, at, top + 32 + x->depths * tall, "middle", 11, 60, number);
            last = (int)(at + half);
        }
        for (int d = 0; w >= 22 && d < x->depths; d++)
            draw_exact(m, &h, &x->loss[method][line[d]][column[l]],
                       &x->exact[method][line[d]][column[l]], at, top + 31 + d * tall);
    }
}

double figure_needle(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_NEEDLE];
    needles *x = radar_alloc(sizeof *x);
    double end = 0;
    note[0] = 0;
    m->failed |= x == NULL;
    if (x == NULL) return 0;
    for (int i = 0; i < rows->n; i++) add_grid(x, &rows->row[i]);
    const svg_heat h = common_colours(x);
    if (h.low >= h.high) {
        const int wide = x->lengths > 5 ? 1 : 2;
        const double width = (SVG_WIDTH - 8) / wide - (wide - 1) * 6, tall = 18 * x->depths + 44;
        for (int i = 0; i < x->methods; i++)
            draw_grid(m, x, i, &h, 4 + i % wide * (width + 12), i / wide * tall, width);
        end = svg_heat_bar(m, &h, (x->methods + wide - 1) / wide * tall,
                           "loss per digit, nats; numbers: % answered exactly");
    }
    radar_free(x);
    return end;
}

/* ---- ruler: tasks ---- */

static const char *const tasks[] = {
    "niah_single", "niah_multikey", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe"};
enum { TASKS = sizeof tasks / sizeof tasks[0], TASK_METHODS = 12 };

typedef struct task_bars {
    svg_chart chart; /* names and legend only */
    tally exact[TASKS][TASK_METHODS];
} task_bars;

static void gather_tasks(task_bars *b, const row_list *rows, double length) {
    for (int i = 0; i < rows->n; i++) {
        char name[METHOD_NAME];
        const eval_row *row = &rows->row[i];
        if (!isnan(length) && row_real(row, "length") != length) continue;
        int task = 0;
        while (task < TASKS && !row_says(row, "part", tasks[task])) task++;
        const double exact = row_real(row, "exact");
        if (task == TASKS || isnan(exact)) continue;
        svg_series *s = svg_series_named(&b->chart, method_name(name, row, "|length|"));
        if (s == NULL || s - b->chart.series >= TASK_METHODS) continue;
        s->scattered = true;
        tally_add(&b->exact[task][s - b->chart.series], fmin(fmax(exact, 0), 1));
    }
    if (b->chart.n > TASK_METHODS) b->chart.n = TASK_METHODS;
}

static double draw_bars(markup *m, const task_bars *b) {
    const double left = 116, width = SVG_WIDTH - left - 40, bar = 11;
    double y = 8;
    for (int t = 0; t < TASKS; t++) {
        const double top = y;
        for (int i = 0; i < b->chart.n; i++) {
            const double share = tally_mean(&b->exact[t][i]);
            char text[16];
            if (isnan(share)) continue;
            const int style = b->chart.series[i].style, colour = style % SVG_COLOURS;
            markup_format(m,
                          "<path class=\"s%d dot\" d=\"M%.1f %.1fh%.1fv6h%.1fz\"/>"
                          "<path class=\"s%d dot\" d=\"",
                          colour, left, y + 2, share * width, -share * width, colour);
            svg_marker(m, style, left + share * width, y + 5);
            markup_add(m, "\"/>");
            snprintf(text, sizeof text, "%.0f", 100 * share);
            svg_text(m, left + share * width + 8, y + 9, "start", 11, 34, text);
            y += bar;
        }
        if (y == top) continue;
        svg_text(m, 4, top + 9, "start", 11, left - 8, tasks[t]);
        markup_format(m, "<path class=\"axis\" d=\"M%.1f %.1fV%.1f\"/>", left, top, y);
        y += 8;
    }
    svg_text(m, left, y + 8, "start", 11.5, width + 30, "% of answers that are exact");
    return svg_legend(m, &b->chart, y + 14) + 6;
}

double figure_ruler(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_RULER];
    const double length = common_length(rows, NULL);
    task_bars *b = radar_alloc(sizeof *b);
    double end = 0;
    note[0] = 0;
    m->failed |= b == NULL;
    if (b == NULL) return 0;
    gather_tasks(b, rows, length);
    if (b->chart.n > 0) end = draw_bars(m, b);
    if (end > 0 && !isnan(length))
        snprintf(note, FIGURE_NOTE, "At %.0f tokens of context.", length);
    radar_free(b);
    return end;
}
