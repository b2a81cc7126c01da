/* fit.h - what lies beyond the measured, as a polynomial says it. */
#ifndef RADAR_BENCH_FIT_H
#define RADAR_BENCH_FIT_H

#include <stdbool.h>

enum { FIT_TERMS_MOST = 3 };

typedef struct bench_curve {
    int terms;
    double scale;                  /* of x */
    double factor[FIT_TERMS_MOST]; /* y = sum of factor[k] (x / scale)^k */
    double worst;                  /* largest |y - fit| / y over the points */
} bench_curve;

/* The curve of `terms` terms with the least sum of ((y - fit) / y)^2 over n >= terms points, y > 0: a point counts by its relative
 * error, as times spread over orders of magnitude.  false: the points do not determine it. */
bool bench_fit_curve(bench_curve *c, const double *x, const double *y, int n, int terms);
double bench_curve_at(const bench_curve *c, double x);

#endif
