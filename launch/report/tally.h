/* tally.h - arithmetic of the report: differences paired token by token, sums by method and place, the exponent of a power law. */
#ifndef RADAR_LAUNCH_REPORT_TALLY_H
#define RADAR_LAUNCH_REPORT_TALLY_H

#include "launch/report/method.h"
#include "launch/report/svg.h"

/* Numbers seen one by one, or many at once. */
typedef struct tally {
    int64_t n;
    double sum, squares; /* squares NaN: the spread is not known */
} tally;

void tally_add(tally *t, double value);
double tally_mean(const tally *t);
/* Standard error of the mean: sqrt(variance / n), the variance with n - 1; NaN below two numbers. */
double tally_error(const tally *t);

/* The dense row with the same model, text, length, part and first position; NULL when there is none. */
const eval_row *dense_of(const row_list *rows, const eval_row *row);
/* Adds loss - dense loss of each token to t: from the losses of both rows, else from their means.  false: no dense row fits. */
bool tally_above_dense(tally *t, const row_list *rows, const eval_row *row);

/* Slope of ln y over ln x by least squares: y ~ x^slope.  NaN without two different positive x. */
double power_law(const svg_point *point, int n);

/* The length, and the budget, that most rows beside dense have, of those to which `of` gives a number (NULL: all); among equals the
 * larger.  NaN when there is none. */
double common_length(const row_list *rows, double (*of)(const eval_row *));
double common_budget(const row_list *rows);

/* ---- tallies by series and x ---- */

enum { PLACES = 2048 };

typedef struct tally_place {
    char name[METHOD_NAME];
    double x;    /* what keeps places of a name apart */
    tally t, at; /* at: where it is drawn, if not at x */
} tally_place;

typedef struct tally_map {
    int n, left_out;
    tally_place place[PLACES];
} tally_map;

/* The place of (name, x); NULL for an x that is no number and when there are too many. */
tally_place *tally_place_at(tally_map *map, const char *name, double x);
tally *tally_at(tally_map *map, const char *name, double x); /* its tally */
/* Every tally with a number in it as a point, with its standard error when errors is true. */
void tally_chart(svg_chart *c, const tally_map *map, bool errors);

#endif
