/* Pictures by layer and head: recall, where attention goes and what was chosen, how weights are distributed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/report/figures.h"
#include "launch/report/tally.h"
#include "runtime/sys.h"

enum { MAPS = 12, HEATS = 3, HEAT_ROWS = 16, HISTOGRAMS = 4 };

typedef struct matrix {
    int rows, columns;
    double value[SVG_HEAT_ROWS * SVG_HEAT_COLUMNS];
} matrix;

/* The first row of each method at the length and budget that most have; returns how many. */
static int pick_rows(const eval_row **out, int most, const row_list *rows,
                     bool (*fits)(const eval_row *), char note[FIGURE_NOTE]) {
    const double length = common_length(rows, NULL), budget = common_budget(rows);
    char names[MAPS][METHOD_NAME];
    int n = 0;
    note[0] = 0;
    for (int i = 0; i < rows->n && n < most; i++) {
        char name[METHOD_NAME];
        const eval_row *row = &rows->row[i];
        const double b = method_budget(row);
        if (!fits(row) || (!isnan(length) && row_real(row, "length") != length)) continue;
        if (!isnan(b) && b != budget) continue;
        method_name(name, row, "|budget|segments|length|");
        int k = 0;
        while (k < n && strcmp(names[k], name) != 0) k++;
        if (k < n) continue;
        memcpy(names[n], name, sizeof name);
        out[n++] = row;
    }
    if (n > 0 && !isnan(length) && !isnan(budget))
        snprintf(note, FIGURE_NOTE, "At %.0f tokens of context and a budget of %.0f.", length,
                 budget);
    return n;
}

/* ---- recall ---- */

static const json_t *recall_of(const eval_row *row) {
    return json_object_get(row_value(row, "layer_head"), "recall");
}

/* [L][H] of a row as head rows and layer columns; false when it holds no number. */
static bool read_heads(matrix *x, const json_t *layers) {
    const size_t n_layers = json_array_size(layers),
                 n_heads = json_array_size(json_item(layers, 0));
    bool any = false;
    if (n_layers == 0 || n_layers > SVG_HEAT_COLUMNS) return false;
    if (n_heads == 0 || n_heads > SVG_HEAT_ROWS) return false;
    x->rows = (int)n_heads;
    x->columns = (int)n_layers;
    for (size_t l = 0; l < n_layers; l++)
        for (size_t h = 0; h < n_heads; h++) {
            const double v = json_number(json_item(json_item(layers, l), h));
            x->value[h * n_layers + l] = v;
            any |= !isnan(v);
        }
    return any;
}

static bool has_recall(const eval_row *row) {
    const json_t *layers = recall_of(row);
    for (size_t l = 0; l < json_array_size(layers); l++)
        for (size_t h = 0; h < json_array_size(json_item(layers, l)); h++)
            if (!isnan(json_number(json_item(json_item(layers, l), h)))) return true;
    return false;
}

static double draw_recall(markup *m, const matrix *x, const eval_row *row, double top) {
    char name[METHOD_NAME], title[METHOD_NAME + 32], number[SVG_NUMBER];
    const svg_heat heat = {x->rows, x->columns, x->value, 0, 1, false};
    const double height = fmax(36, fmin(8.0 * x->rows, 144)), left = 34;
    method_name(name, row, "|budget|segments|length|");
    snprintf(title, sizeof title, "%s: average %s", name,
             svg_number(number, row_real(row, "recall_mean")));
    svg_text(m, 4, top + 12, "start", 11.5, SVG_WIDTH - 8, title);
    svg_heat_draw(m, &heat, left, top + 19, SVG_WIDTH - left - 8, height);
    svg_text(m, left - 5, top + 28, "end", 11, left, "0");
    snprintf(number, sizeof number, "%d", x->rows - 1);
    if (x->rows > 1) svg_text(m, left - 5, top + 18 + height, "end", 11, left, number);
    return top + 19 + height + 6;
}

double figure_recall(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const eval_row *shown[MAPS];
    const int n = pick_rows(shown, MAPS, &all->of[ROW_RECALL], has_recall, note);
    const svg_heat colours = {.low = 0, .high = 1};
    matrix *x = radar_alloc(sizeof *x);
    double end = 0;
    m->failed |= x == NULL;
    for (int i = 0; x != NULL && i < n; i++)
        if (read_heads(x, recall_of(shown[i]))) end = draw_recall(m, x, shown[i], end);
    if (end > 0) {
        char layers[32];
        snprintf(layers, sizeof layers, "layers 0 to %d", x->columns - 1);
        svg_text(m, SVG_WIDTH / 2, end + 8, "middle", 11.5, SVG_WIDTH, layers);
        svg_text(m, 4, end + 8, "start", 11.5, 80, "heads");
        end = svg_heat_bar(m, &colours, end + 12, "recall of the true best segments");
    }
    radar_free(x);
    return end;
}

/* ---- where attention goes ---- */

static bool has_heat(const eval_row *row) {
    const json_t *heat = row_value(row, "heat");
    return json_array_size(json_item(json_object_get(heat, "mass"), 0)) > 0;
}

/* Mass of segments [bin] of a query's row: the largest, so that a narrow peak stays visible. */
static double bin_most(const json_t *mass, int segments, int bin, int bins) {
    double most = NAN;
    for (int s = (int)((int64_t)bin * segments / bins); s < (int64_t)(bin + 1) * segments / bins;
         s++)
        most = fmax(most, json_number(json_item(mass, (size_t)s)));
    return most;
}

static void draw_chosen(markup *m, const json_t *chosen, int segments, double left, double width,
                        double y) {
    const double wide = fmax(width / segments, 0.9);
    markup_add(m, "<path class=\"mark\" d=\"M0 0");
    for (size_t i = 0; i < json_array_size(chosen) && i < 4096; i++) {
        const double s = json_number(json_item(chosen, i));
        if (s >= 0 && s < segments)
            markup_format(m, "M%.2f %.1fh%.2fv3h%.2fz", left + width * s / segments, y, wide,
                          -wide);
    }
    markup_add(m, "\"/>");
}

/* One method's queries, a strip each: colour is the share of mass, the marks below it are what was chosen. */
static double draw_heat(markup *m, double *bin, const eval_row *row, svg_heat *colours,
                        double top) {
    const double left = 46, width = SVG_WIDTH - left - 8;
    const json_t *heat = row_value(row, "heat"), *mass = json_object_get(heat, "mass");
    const json_t *position = json_object_get(heat, "positions"),
                 *chosen = json_object_get(heat, "chosen");
    const int queries = (int)json_array_size(mass),
              shown = queries < HEAT_ROWS ? queries : HEAT_ROWS;
    int segments = 1;
    for (int i = 0; i < queries; i++) {
        const int n = (int)json_array_size(json_item(mass, (size_t)i));
        if (n > segments) segments = n;
    }
    char name[METHOD_NAME], title[METHOD_NAME + 64], number[SVG_NUMBER], layer[SVG_NUMBER];
    snprintf(title, sizeof title, "%s, layer %s, head %s",
             method_name(name, row, "|budget|segments|length|"),
             svg_number(layer, json_number(json_object_get(heat, "layer"))),
             svg_number(number, json_number(json_object_get(heat, "head"))));
    svg_text(m, 4, top + 12, "start", 11.5, SVG_WIDTH - 8, title);
    double y = top + 20;
    for (int i = 0; i < shown; i++, y += 15) {
        const size_t q = (size_t)i * (size_t)queries / (size_t)shown;
        const int columns = segments < SVG_HEAT_COLUMNS ? segments : SVG_HEAT_COLUMNS;
        for (int c = 0; c < columns; c++)
            bin[c] = bin_most(json_item(mass, q), segments, c, columns);
        colours->rows = 1, colours->columns = columns, colours->value = bin;
        svg_heat_draw(m, colours, left, y, width, 8);
        draw_chosen(m, json_item(chosen, q), segments, left, width, y + 9);
        const double at = json_number(json_item(position, q));
        if (i % 2 == 0 && !isnan(at))
            svg_text(m, left - 5, y + 8, "end", 11, left, svg_number(number, at));
    }
    const double from = fmax(json_number(json_object_get(heat, "first_candidate")), 0);
    snprintf(title, sizeof title, "segments %.0f to %.0f; marks: chosen", from,
             from + segments - 1);
    svg_text(m, left, y + 10, "start", 11, width, title);
    return y + 18;
}

double figure_heat(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const eval_row *shown[HEATS];
    const int n = pick_rows(shown, HEATS, &all->of[ROW_RECALL], has_heat, note);
    svg_heat colours = {.low = 1e-4, .high = 1, .log = true};
    double *bin = radar_alloc(SVG_HEAT_COLUMNS * sizeof *bin), end = 0;
    m->failed |= bin == NULL;
    for (int i = 0; bin != NULL && i < n; i++) end = draw_heat(m, bin, shown[i], &colours, end);
    if (end > 0)
        end = svg_heat_bar(m, &colours, end, "share of a query's softmax mass (log scale)");
    radar_free(bin);
    return end;
}

/* ---- distribution of weights ---- */

/* {"low", "width", "tokens": [shares], "mass": [shares]} over bins of ln weight. */
static void add_histogram(svg_chart *c, const json_t *histogram, const char *keys,
                          const char *mass) {
    const double low = json_number(json_object_get(histogram, "low")),
                 width = json_number(json_object_get(histogram, "width"));
    const json_t *of_keys = json_object_get(histogram, "tokens"),
                 *of_mass = json_object_get(histogram, "mass");
    for (size_t i = 0; i < json_array_size(of_keys) && i < SVG_POINTS; i++) {
        const double middle = low + ((double)i + 0.5) * width;
        svg_add(c, keys, middle, 100 * json_number(json_item(of_keys, i)), NAN);
        svg_add(c, mass, middle, 100 * json_number(json_item(of_mass, i)), NAN);
    }
}

double figure_scores(markup *m, const eval_rows *all, char note[FIGURE_NOTE]) {
    const row_list *rows = &all->of[ROW_STATS];
    svg_chart *c = radar_alloc(sizeof *c);
    note[0] = 0;
    m->failed |= c == NULL;
    if (c == NULL) return 0;
    c->x.label = "ln of the attention weight";
    c->y.label = "share, %";
    c->zero = true;
    for (int i = 0; i < rows->n && i < HISTOGRAMS; i++) {
        char keys[METHOD_NAME], mass[METHOD_NAME];
        const char *text = row_text(&rows->row[i], "text");
        const bool several = rows->n > 1 && text != NULL;
        const double length = row_real(&rows->row[i], "length");
        snprintf(keys, sizeof keys, several ? "keys, %.60s at %.0f" : "keys", text, length);
        snprintf(mass, sizeof mass, several ? "softmax mass, %.60s at %.0f" : "softmax mass", text,
                 length);
        add_histogram(c, row_value(&rows->row[i], "histogram"), keys, mass);
    }
    for (int i = 0; i < c->n; i++) c->series[i].plain = true;
    const double height = svg_chart_draw(m, c, 0);
    radar_free(c);
    return height;
}
