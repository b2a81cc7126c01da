/* Heat maps: one path per colour, so that a map of thousands of cells stays small. */
#include <math.h>
#include <stdio.h>

#include "launch/report/svg.h"

int svg_heat_level(const svg_heat *h, double v) {
    if (!isfinite(v)) return -1;
    const svg_axis colours = {.low = h->low, .high = h->high, .log = h->log};
    const double at = h->high != h->low ? svg_scale(&colours, v) : 0.5;
    const int level = (int)(at * SVG_LEVELS);
    return level < 0 || at < 0 ? 0 : level < SVG_LEVELS ? level : SVG_LEVELS - 1;
}

/* Dark levels end where white on them falls below 4.5:1. */
const char *svg_heat_ink(int level) {
    enum { FIRST_LIGHT = 15 };
    return level < FIRST_LIGHT ? "#ffffff" : "#000000";
}

/* Cells of one level: neighbours in a row are one rectangle. */
static void draw_level(markup *m, const svg_heat *h, int level, double x, double y, double width,
                       double height) {
    const double w = width / h->columns, tall = height / h->rows;
    bool any = false;
    for (int r = 0; r < h->rows; r++)
        for (int c = 0; c < h->columns;) {
            int end = c;
            while (end < h->columns && svg_heat_level(h, h->value[r * h->columns + end]) == level)
                end++;
            if (end == c) {
                c++;
                continue;
            }
            if (!any && level < 0) markup_add(m, "<path class=\"none\" d=\"");
            if (!any && level >= 0) markup_format(m, "<path class=\"h%d\" d=\"", level);
            any = true;
            markup_format(m, "M%.2f %.2fh%.2fv%.2fh%.2fz", x + c * w, y + r * tall, (end - c) * w,
                          tall, -(end - c) * w);
            c = end;
        }
    if (any) markup_add(m, "\"/>");
}

void svg_heat_draw(markup *m, const svg_heat *h, double x, double y, double width, double height) {
    markup_add(m, "<g shape-rendering=\"crispEdges\">");
    for (int level = -1; level < SVG_LEVELS; level++) draw_level(m, h, level, x, y, width, height);
    markup_add(m, "</g>");
}

double svg_heat_bar(markup *m, const svg_heat *h, double top, const char *label) {
    enum { WIDTH = 160, LEFT = 100 };
    double ramp[SVG_LEVELS];
    char low[SVG_NUMBER], high[SVG_NUMBER];
    for (int i = 0; i < SVG_LEVELS; i++) ramp[i] = (i + 0.5) / SVG_LEVELS;
    const svg_heat bar = {1, SVG_LEVELS, ramp, 0, 1, false};
    svg_text(m, SVG_WIDTH / 2, top + 12, "middle", 11, SVG_WIDTH - 4, label);
    svg_heat_draw(m, &bar, LEFT, top + 18, WIDTH, 10);
    svg_text(m, LEFT - 5, top + 27, "end", 11, 80, svg_number(low, h->low));
    svg_text(m, LEFT + WIDTH + 5, top + 27, "start", 11, 80, svg_number(high, h->high));
    return top + 36;
}
