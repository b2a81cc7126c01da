/* svg.h - pictures without a library: scales, ticks, text that fits, lines with markers, heat maps.
 *
 * All pictures are SVG_WIDTH units wide and drawn downwards from y = 0; each drawing function returns where it ended.  A unit is
 * about a pixel on a phone, so that no text is below 11 pixels.  Colours are classes (s0.. of series, h0.. of heat), set once per
 * page by svg_style; series differ in marker and dash too, so that colour alone never tells them apart. */
#ifndef RADAR_LAUNCH_REPORT_SVG_H
#define RADAR_LAUNCH_REPORT_SVG_H

#include "launch/report/markup.h"

#define SVG_WIDTH 360.0
enum {
    SVG_SERIES = 24,
    SVG_POINTS = 512,
    SVG_NAME = 160,
    SVG_TICKS = 12,
    SVG_LEVELS = 32,
    SVG_COLOURS = 7
};

/* ---- scales and text (svg.c) ---- */

typedef struct svg_axis {
    const char *label;
    double low, high; /* low < high; both > 0 when log */
    bool log;
    double
        floor; /* of a logarithmic y axis: what is less, 0 and below too, stands at the bottom; 0: it is dropped */
} svg_axis;

/* 0 at low, 1 at high, kept within [-0.05, 1.05]. */
double svg_scale(const svg_axis *axis, double value);
/* A range around [low, high] that looks calm and is never empty.  zero: begins or ends at 0 (linear scales). */
void svg_range(svg_axis *axis, double low, double high, bool zero);
/* At most SVG_TICKS round values within the axis. */
int svg_ticks(const svg_axis *axis, double tick[SVG_TICKS]);
/* 512, 16.4k, 1.5M, 0.004: returns text. */
#define SVG_NUMBER 24
const char *svg_number(char text[SVG_NUMBER], double value);
/* Units that text takes at most at this size of letters. */
double svg_text_width(const char *text, double size);
/* Text at (x, y); anchor "start", "middle" or "end"; cut with an ellipsis at `most` units. */
void svg_text(markup *m, double x, double y, const char *anchor, double size, double most,
              const char *text);
/* Rules of colour; alone: for a picture of its own, on white. */
void svg_style(markup *m, bool alone);

/* ---- lines (chart.c) ---- */

typedef struct svg_point {
    double x, y, error; /* error: half the bar's height; NaN or 0: no bar */
} svg_point;

typedef struct svg_series {
    char name[SVG_NAME];
    int style; /* colour, marker and dash: the same method looks alike in every picture */
    bool plain, scattered; /* a line without markers; markers without a line */
    int n;
    svg_point point[SVG_POINTS];
} svg_series;

typedef struct svg_chart {
    svg_axis x, y;  /* label and log are given, the range is found */
    bool zero;      /* the y axis reaches to 0 */
    bool unit;      /* both axes are [0, 1], with the diagonal */
    int n;          /* series */
    int left_out;   /* points of series or numbers beyond the limits */
    bool at_points; /* few different x, as in a sweep, are the ticks of a logarithmic x axis */
    double height;  /* of the plot; 0: as usual */
    svg_series series[SVG_SERIES];
} svg_chart;

/* The series of this name, a new one where there is none; NULL when there are too many. */
svg_series *svg_series_named(svg_chart *c, const char *name);
/* Points that are not finite are dropped, and on a logarithmic scale without a floor what is not positive. */
void svg_add(svg_chart *c, const char *name, double x, double y, double error);
/* Path commands of a style's marker around (x, y), for the d of a path of class "s<style % SVG_COLOURS> dot". */
void svg_marker(markup *m, int style, double x, double y);
/* Lines and markers with their names; returns where it ends.  Nothing for one series without a name. */
double svg_legend(markup *m, const svg_chart *c, double top);
/* 0 when no point can be drawn. */
double svg_chart_draw(markup *m, svg_chart *c, double top);

/* ---- heat maps (heat.c) ---- */

typedef struct svg_heat {
    int rows, columns;
    const double *value; /* [rows, columns]; NaN: no value */
    double low,
        high; /* of the colours, dark to bright; low > high on a linear scale: small is bright */
    bool log;
} svg_heat;

enum { SVG_HEAT_ROWS = 256, SVG_HEAT_COLUMNS = 360 };
void svg_heat_draw(markup *m, const svg_heat *h, double x, double y, double width, double height);
/* Colour of a value, 0 .. SVG_LEVELS - 1; -1: no value. */
int svg_heat_level(const svg_heat *h, double value);
/* Text on a colour of this level: black or white, whichever has the better contrast. */
const char *svg_heat_ink(int level);
/* The colours' bar with its ends; returns where it ends. */
double svg_heat_bar(markup *m, const svg_heat *h, double top, const char *label);

#endif
