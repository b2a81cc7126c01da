#include "launch/bench/fit.h"

#include <math.h>

typedef struct normal_equations {
    double a[FIT_TERMS_MOST][FIT_TERMS_MOST + 1]; /* the last column: right-hand side */
} normal_equations;

static normal_equations gather(const bench_curve *c, const double *x, const double *y, int n) {
    normal_equations e = {{{0}}};
    for (int i = 0; i < n; i++) {
        double term[FIT_TERMS_MOST + 1], power = 1;
        for (int k = 0; k < c->terms; k++, power *= x[i] / c->scale) term[k] = power / y[i];
        term[c->terms] = 1; /* y / y */
        for (int a = 0; a < c->terms; a++)
            for (int b = 0; b <= c->terms; b++) e.a[a][b] += term[a] * term[b];
    }
    return e;
}

/* Gauss-Jordan with the largest pivot. */
static bool solve(normal_equations *e, int terms, double *factor) {
    for (int k = 0; k < terms; k++) {
        int best = k;
        for (int r = k + 1; r < terms; r++)
            if (fabs(e->a[r][k]) > fabs(e->a[best][k])) best = r;
        if (!(fabs(e->a[best][k]) > 1e-12 * (1 + fabs(e->a[0][0])))) return false;
        for (int c = 0; c <= terms; c++) {
            const double swap = e->a[k][c];
            e->a[k][c] = e->a[best][c];
            e->a[best][c] = swap;
        }
        for (int r = 0; r < terms; r++) {
            const double by = r != k ? e->a[r][k] / e->a[k][k] : 0;
            for (int c = k; c <= terms; c++) e->a[r][c] -= by * e->a[k][c];
        }
    }
    for (int k = 0; k < terms; k++) factor[k] = e->a[k][terms] / e->a[k][k];
    return true;
}

double bench_curve_at(const bench_curve *c, double x) {
    double y = 0;
    for (int k = c->terms - 1; k >= 0; k--) y = y * (x / c->scale) + c->factor[k];
    return y;
}

bool bench_fit_curve(bench_curve *c, const double *x, const double *y, int n, int terms) {
    *c = (bench_curve){.terms = terms, .scale = 1};
    if (n < terms) return false;
    for (int i = 0; i < n; i++) {
        if (!(y[i] > 0) || !isfinite(x[i])) return false;
        if (x[i] > c->scale) c->scale = x[i];
    }
    normal_equations e = gather(c, x, y, n);
    if (!solve(&e, terms, c->factor)) return false;
    for (int i = 0; i < n; i++)
        c->worst = fmax(c->worst, fabs(y[i] - bench_curve_at(c, x[i])) / y[i]);
    return true;
}
