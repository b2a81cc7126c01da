/* Lines, markers and points over two axes, with a legend below. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/report/svg.h"

enum { MARKERS = 6, DASHES = 5 };
static const char *const dash[DASHES] = {"none", "6 3", "2 3", "8 3 2 3", "12 4"};
static const double tick_size = 11, label_size = 11.5, right_margin = 14;

typedef struct frame {
    double left, top, width, height;
} frame;

/* ---- series ---- */

/* The place of a method in this list is its style, whatever else a picture shows; dense is drawn in the ink of the text. */
static const char *const usual[] = {"sketch", "exact",   "mean", "minmax",  "rf",       "streaming",
                                    "dense",  "outlier", "h2o",  "snapkv",  "subgen",   "quest",
                                    "paper",  "code",    "keys", "softmax", "measured", "median"};
enum { USUAL = sizeof usual / sizeof usual[0], STYLES = 2 * MARKERS * DASHES };

static bool is_taken(const svg_chart *c, int style) {
    for (int i = 0; i < c->n; i++)
        if (c->series[i].style == style) return true;
    return false;
}

/* A variant of a method whose style is taken gets the next that is free. */
static int style_of(const svg_chart *c, const char *name) {
    const size_t word = strcspn(name, " ,:");
    int style = 0;
    while (style < USUAL &&
           (strlen(usual[style]) != word || strncmp(usual[style], name, word) != 0))
        style++;
    if (style < USUAL && !is_taken(c, style)) return style;
    for (style = style < USUAL ? USUAL : 0; style < STYLES && is_taken(c, style);) style++;
    return style;
}

svg_series *svg_series_named(svg_chart *c, const char *name) {
    int i = 0;
    while (i < c->n && strncmp(c->series[i].name, name, SVG_NAME - 1) != 0) i++;
    if (i == SVG_SERIES) return NULL;
    if (i == c->n) {
        c->series[i] = (svg_series){.style = style_of(c, name)};
        snprintf(c->series[i].name, SVG_NAME, "%s", name);
        c->n++;
    }
    return &c->series[i];
}

void svg_add(svg_chart *c, const char *name, double x, double y, double error) {
    if (!isfinite(x) || !isfinite(y) || fabs(x) > 1e15 || fabs(y) > 1e15) return;
    if ((c->x.log && !(x > 1e-15)) || (c->y.log && c->y.floor == 0 && !(y > 1e-15))) return;
    svg_series *s = svg_series_named(c, name);
    if (s == NULL || s->n == SVG_POINTS) {
        c->left_out++;
        return;
    }
    s->point[s->n++] = (svg_point){x, y, isfinite(error) && error > 0 ? error : 0};
}

static int by_x(const void *a, const void *b) {
    const svg_point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

static void find_ranges(svg_chart *c) {
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->series[i].n; k++) {
            const svg_point *p = &c->series[i].point[k];
            const double below = c->y.log ? fmax(p->y, c->y.floor) : p->y - p->error;
            low[0] = fmin(low[0], p->x), high[0] = fmax(high[0], p->x);
            low[1] = fmin(low[1], below), high[1] = fmax(high[1], fmax(below, p->y + p->error));
        }
    svg_range(&c->x, low[0], high[0], false);
    svg_range(&c->y, low[1], high[1], c->zero);
    if (c->unit) c->x.low = c->y.low = 0, c->x.high = c->y.high = 1;
}

static double within(double at) { return at < 0 ? 0 : at > 1 ? 1 : at; }
static double at_x(const svg_chart *c, const frame *f, double x) {
    return f->left + f->width * within(svg_scale(&c->x, x));
}
static double at_y(const svg_chart *c, const frame *f, double y) {
    return f->top + f->height * (1 - within(svg_scale(&c->y, y)));
}

/* ---- axes ---- */

static int x_ticks(const svg_chart *c, double tick[SVG_TICKS]) {
    int n = 0;
    if (!c->at_points || !c->x.log) return svg_ticks(&c->x, tick);
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->series[i].n; k++) {
            const double x = c->series[i].point[k].x;
            int at = 0;
            while (at < n && tick[at] < x) at++;
            if (at < n && tick[at] == x) continue;
            if (n == 8) return svg_ticks(&c->x, tick);
            memmove(tick + at + 1, tick + at, (size_t)(n - at) * sizeof *tick);
            tick[at] = x;
            n++;
        }
    return n;
}

static void draw_x_axis(markup *m, const svg_chart *c, const frame *f) {
    double tick[SVG_TICKS], free_from = 0;
    const double bottom = f->top + f->height;
    const int n = x_ticks(c, tick);
    for (int i = 0; i < n; i++) {
        char text[SVG_NUMBER];
        const double x = at_x(c, f, tick[i]);
        double half = svg_text_width(svg_number(text, tick[i]), tick_size) / 2;
        markup_format(m, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>", x, bottom);
        if (x - half < free_from || x + half > SVG_WIDTH) continue;
        svg_text(m, x, bottom + 16, "middle", tick_size, 80, text);
        free_from = x + half + 4;
    }
    svg_text(m, f->left + f->width / 2, bottom + 32, "middle", label_size, f->width + 40,
             c->x.label);
}

static void draw_y_axis(markup *m, const svg_chart *c, const frame *f) {
    double tick[SVG_TICKS];
    const int n = svg_ticks(&c->y, tick);
    for (int i = 0; i < n; i++) {
        char text[SVG_NUMBER];
        const double y = at_y(c, f, tick[i]);
        markup_format(m, "<path class=\"grid\" d=\"M%.1f %.1fh%.1f\"/>", f->left, y, f->width);
        svg_text(m, f->left - 5, y + 4, "end", tick_size, 60, svg_number(text, tick[i]));
    }
    svg_text(m, 2, f->top - 9, "start", label_size, SVG_WIDTH - 4, c->y.label);
    markup_format(m, "<path class=\"axis\" d=\"M%.1f %.1fv%.1fh%.1f\"/>", f->left, f->top,
                  f->height, f->width);
}

static double left_margin(const svg_chart *c) {
    double tick[SVG_TICKS], most = 0;
    const int n = svg_ticks(&c->y, tick);
    for (int i = 0; i < n; i++) {
        char text[SVG_NUMBER];
        most = fmax(most, svg_text_width(svg_number(text, tick[i]), tick_size));
    }
    return most + 9;
}

/* ---- what is measured ---- */

void svg_marker(markup *m, int kind, double x, double y) {
    static const char *const shape[MARKERS] = {
        "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
        "m-3.2 -3.2h6.4v6.4h-6.4z",
        "m0 -4.2l4 7h-8z",
        "m0 -4.4l4.4 4.4l-4.4 4.4l-4.4 -4.4z",
        "m0 4.2l4 -7h-8z",
        "m-1.2 -4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z"};
    markup_format(m, "M%.1f %.1f%s", x, y, shape[kind % MARKERS]);
}

static void draw_errors(markup *m, const svg_chart *c, const frame *f, const svg_series *s) {
    for (int k = 0; k < s->n; k++) {
        const svg_point *p = &s->point[k];
        if (p->error == 0) continue;
        const double x = at_x(c, f, p->x);
        markup_format(m, "M%.1f %.1fV%.1f", x, at_y(c, f, p->y - p->error),
                      at_y(c, f, p->y + p->error));
    }
}

static void draw_line(markup *m, const svg_chart *c, const frame *f, const svg_series *s) {
    markup_format(m, "<path class=\"s%d line\" stroke-dasharray=\"%s\" d=\"",
                  s->style % SVG_COLOURS, dash[s->style % DASHES]);
    for (int k = 0; k < s->n; k++)
        markup_format(m, "%c%.1f %.1f", k == 0 ? 'M' : 'L', at_x(c, f, s->point[k].x),
                      at_y(c, f, s->point[k].y));
    markup_add(m, "\"/>");
}

/* Points of a cloud: small, every second style filled and the others hollow. */
static void draw_cloud(markup *m, const svg_chart *c, const frame *f, const svg_series *s) {
    markup_format(m, "<path class=\"s%d %s\" d=\"M0 0", s->style % SVG_COLOURS,
                  s->style % 2 == 0 ? "dot" : "line thin");
    for (int k = 0; k < s->n; k++)
        markup_format(m, "M%.1f %.1fm-1.5 -1.5h3v3h-3z", at_x(c, f, s->point[k].x),
                      at_y(c, f, s->point[k].y));
    markup_add(m, "\"/>");
}

static void draw_series(markup *m, const svg_chart *c, const frame *f, const svg_series *s) {
    if (s->n == 0) return;
    if (s->scattered) {
        draw_cloud(m, c, f, s);
        return;
    }
    draw_line(m, c, f, s);
    if (s->plain) return;
    markup_format(m, "<path class=\"s%d line thin\" d=\"M0 0", s->style % SVG_COLOURS);
    draw_errors(m, c, f, s);
    markup_format(m, "\"/><path class=\"s%d dot\" d=\"", s->style % SVG_COLOURS);
    for (int k = 0; k < s->n; k++)
        svg_marker(m, s->style, at_x(c, f, s->point[k].x), at_y(c, f, s->point[k].y));
    markup_add(m, "\"/>");
}

/* ---- legend ---- */

static void draw_key(markup *m, const svg_series *s, double x, double y, double width) {
    const int colour = s->style % SVG_COLOURS;
    if (s->scattered && s->n > 0)
        markup_format(m, "<path class=\"s%d %s\" d=\"M%.1f %.1fh7v7h-7z\"/>", colour,
                      s->style % 2 == 0 ? "dot" : "line thin", x + 9, y - 8);
    else {
        if (!s->scattered)
            markup_format(m,
                          "<path class=\"s%d line\" stroke-dasharray=\"%s\" d=\"M%.1f %.1fh26\"/>",
                          colour, dash[s->style % DASHES], x, y - 4);
        if (!s->plain) {
            markup_format(m, "<path class=\"s%d dot\" d=\"", colour);
            svg_marker(m, s->style, x + 13, y - 4);
            markup_add(m, "\"/>");
        }
    }
    svg_text(m, x + 32, y, "start", tick_size, width - 36, s->name);
}

double svg_legend(markup *m, const svg_chart *c, double top) {
    double widest = 0;
    if (c->n == 1 && c->series[0].name[0] == 0) return top;
    for (int i = 0; i < c->n; i++)
        widest = fmax(widest, svg_text_width(c->series[i].name, tick_size));
    const int columns = widest + 36 <= SVG_WIDTH / 2 && c->n > 1 ? 2 : 1;
    for (int i = 0; i < c->n; i++)
        draw_key(m, &c->series[i], 4 + i % columns * SVG_WIDTH / columns,
                 top + 12 + i / columns * 16, SVG_WIDTH / columns - 6);
    return top + 16 * ((c->n + columns - 1) / columns);
}

double svg_chart_draw(markup *m, svg_chart *c, double top) {
    int points = 0;
    for (int i = 0; i < c->n; i++) points += c->series[i].n;
    if (points == 0) return 0;
    for (int i = 0; i < c->n; i++)
        qsort(c->series[i].point, (size_t)c->series[i].n, sizeof *c->series[i].point, by_x);
    find_ranges(c);
    frame f = {left_margin(c), top + 24, 0, c->height > 0 ? c->height : 190};
    f.width = SVG_WIDTH - f.left - right_margin;
    draw_y_axis(m, c, &f);
    draw_x_axis(m, c, &f);
    if (c->unit)
        markup_format(m,
                      "<path class=\"axis\" stroke-dasharray=\"3 3\" d=\"M%.1f %.1fL%.1f %.1f\"/>",
                      f.left, f.top + f.height, f.left + f.width, f.top);
    for (int i = 0; i < c->n; i++) draw_series(m, c, &f, &c->series[i]);
    double end = svg_legend(m, c, f.top + f.height + 40);
    if (c->left_out > 0) {
        char text[64];
        snprintf(text, sizeof text, "%d more values are not drawn", c->left_out);
        svg_text(m, 4, end += 14, "start", tick_size, SVG_WIDTH - 8, text);
    }
    return end + 6;
}
