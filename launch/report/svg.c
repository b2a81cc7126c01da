#include "launch/report/svg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* ---- scales ---- */

double svg_scale(const svg_axis *axis, double value) {
    const double low = axis->log ? log(axis->low) : axis->low,
                 high = axis->log ? log(axis->high) : axis->high;
    const double at = ((axis->log ? log(value) : value) - low) / (high - low);
    if (!(at > -0.05)) return -0.05; /* NaN and the log of 0 too */
    return at < 1.05 ? at : 1.05;
}

void svg_range(svg_axis *axis, double low, double high, bool zero) {
    if (axis->log) {
        const double pad = high > low ? pow(high / low, 0.04) : 1.5;
        axis->low = low / pad;
        axis->high = high * pad;
        return;
    }
    if (zero && low > 0) low = 0;
    if (zero && high < 0) high = 0;
    const double span = high - low > 1e-12 * fabs(high) ? high - low : fabs(high) * 0.2 + 1e-6;
    axis->low = zero && low == 0 ? 0 : low - 0.05 * span;
    axis->high = zero && high == 0 && low < 0 ? 0 : high + 0.05 * span;
}

/* 1, 2 or 5 times a power of ten, at least `least`. */
static double round_step(double least) {
    const double ten = pow(10, floor(log10(least)));
    const double times = least / ten;
    return ten * (times <= 1.0000001 ? 1 : times <= 2.0000001 ? 2 : times <= 5.0000001 ? 5 : 10);
}

static int linear_ticks(const svg_axis *axis, double tick[SVG_TICKS]) {
    const double step = round_step((axis->high - axis->low) / 6);
    const double first = ceil(axis->low / step - 1e-9);
    int n = 0;
    while (n < SVG_TICKS && (first + n) * step <= axis->high + 1e-9 * step) {
        tick[n] = (first + n) * step;
        n++;
    }
    return n;
}

/* Powers of ten, with 2 and 5 times them where there is room. */
static int log_ticks(const svg_axis *axis, double tick[SVG_TICKS]) {
    static const double times[] = {1, 2, 5};
    const int first = (int)floor(log10(axis->low)), last = (int)ceil(log10(axis->high));
    const int fine = last - first <= 3 ? 3 : 1, stride = 1 + (last - first) / 8;
    int n = 0;
    for (int e = first; e <= last; e += stride)
        for (int k = 0; k < fine && n < SVG_TICKS; k++) {
            const double v = times[k] * pow(10, e);
            if (v >= axis->low * (1 - 1e-9) && v <= axis->high * (1 + 1e-9)) tick[n++] = v;
        }
    return n;
}

int svg_ticks(const svg_axis *axis, double tick[SVG_TICKS]) {
    const int n = axis->log ? log_ticks(axis, tick) : 0;
    return n >= 2 ? n : linear_ticks(axis, tick);
}

/* ---- text ---- */

const char *svg_number(char text[SVG_NUMBER], double value) {
    const double size = fabs(value);
    if (!isfinite(value))
        snprintf(text, SVG_NUMBER, "-");
    else if (size < 1e-12)
        snprintf(text, SVG_NUMBER, "0");
    else if (size >= 1e9)
        snprintf(text, SVG_NUMBER, "%.3gG", value / 1e9);
    else if (size >= 999500)
        snprintf(text, SVG_NUMBER, "%.3gM", value / 1e6);
    else if (size >= 9999.5)
        snprintf(text, SVG_NUMBER, "%.3gk", value / 1e3);
    else if (size >= 100)
        snprintf(text, SVG_NUMBER, "%.0f", value);
    else
        snprintf(text, SVG_NUMBER, "%.3g", value);
    return text;
}

/* Fonts differ; these are the widths of a wide one, so that text fits in every one. */
static double letter_width(utf8proc_int32_t c) {
    if (c >= 0x1100) return 1.1;
    if (strchr("mwMW@%", (int)c) != NULL && c < 128) return 1.0;
    if (strchr("fijlrt.,;:'|!()[] -", (int)c) != NULL && c < 128) return 0.42;
    return (c >= 'A' && c <= 'Z') || c >= 128 ? 0.78 : 0.64;
}

/* Bytes of text that fit into `most` units. */
static size_t fitting(const char *text, double size, double most, double *width) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    const utf8proc_ssize_t all = (utf8proc_ssize_t)strlen(text);
    utf8proc_ssize_t used = 0;
    *width = 0;
    while (used < all) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t n = utf8proc_iterate(at + used, all - used, &c);
        const double more = size * (n > 0 ? letter_width(c) : 1);
        if (*width + more > most) break;
        *width += more;
        used += n > 0 ? n : 1;
    }
    return (size_t)used;
}

double svg_text_width(const char *text, double size) {
    double width;
    fitting(text, size, INFINITY, &width);
    return width;
}

void svg_text(markup *m, double x, double y, const char *anchor, double size, double most,
              const char *text) {
    double width;
    char part[1024];
    size_t n = fitting(text, size, most, &width);
    const bool cut = n < strlen(text) || n >= sizeof part;
    if (cut) n = fitting(text, size, most - size, &width);
    if (n >= sizeof part) n = sizeof part - 1;
    memcpy(part, text, n);
    part[n] = 0;
    markup_format(m, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%g\">", x, y,
                  anchor, size);
    markup_text(m, part);
    markup_add(m, cut ? "\xe2\x80\xa6</text>" : "</text>");
}

/* ---- colours ---- */

/* Okabe and Ito's palette, orange and sky blue darker on white so that each stands out at 3:1 or better. */
static const char *const light[SVG_COLOURS] = {"#0072b2", "#d55e00", "#009e73", "#b8558f",
                                               "#b27a00", "#2b8ac6", "#333333"};
static const char *const dark[SVG_COLOURS] = {"#4aa3df", "#f0762a", "#1fbf92", "#d998bb",
                                              "#e69f00", "#8fd0f5", "#e8e8e8"};

/* Even steps of lightness and hue in OKLab, dark violet to light yellow: order shows without colour too. */
static const unsigned char stop[9][3] = {{39, 1, 84},    {28, 33, 132},   {2, 77, 129},
                                         {3, 108, 136},  {4, 139, 145},   {1, 172, 145},
                                         {76, 202, 123}, {169, 221, 100}, {245, 234, 92}};

static void series_rules(markup *m, const char *const colour[SVG_COLOURS]) {
    for (int i = 0; i < SVG_COLOURS; i++)
        markup_format(m, "svg .s%d{stroke:%s;fill:%s}", i, colour[i], colour[i]);
}

static void ink_rules(markup *m, const char *text, const char *grid, const char *paper) {
    markup_format(m,
                  "svg text{fill:%s}svg .axis{stroke:%s;fill:none}svg .mark{fill:%s}"
                  "svg .grid{stroke:%s;fill:none}svg .none{fill:%s}svg .paper{fill:%s}",
                  text, text, text, grid, grid, paper);
}

void svg_style(markup *m, bool alone) {
    markup_add(m, "svg text{font-family:system-ui,sans-serif}");
    ink_rules(m, "#1a1a1a", "#d9d9d9", "#ffffff");
    series_rules(m, light);
    markup_add(m, "svg .line{fill:none;stroke-width:1.6;stroke-linejoin:round}"
                  "svg .thin{stroke-width:1}svg .dot{stroke:none}");
    for (int i = 0; i < SVG_LEVELS; i++) {
        const double at = 8.0 * i / (SVG_LEVELS - 1);
        const int k = at < 7 ? (int)at : 7;
        int c[3];
        for (int j = 0; j < 3; j++)
            c[j] = (int)lround(stop[k][j] + (at - k) * (stop[k + 1][j] - stop[k][j]));
        markup_format(m, "svg .h%d{fill:#%02x%02x%02x}", i, c[0], c[1], c[2]);
    }
    if (alone) return;
    markup_add(m, "@media(prefers-color-scheme:dark){");
    ink_rules(m, "#e8e8e8", "#3a4046", "#14171a");
    series_rules(m, dark);
    markup_add(m, "svg .line{fill:none}svg .dot{stroke:none}}");
}
