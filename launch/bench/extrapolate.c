/* Rows of lengths and depths that would take too long to measure, each marked as what it is. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/bench/fit.h"

typedef struct series {
    double x[BENCH_LIST_MOST], seconds[BENCH_LIST_MOST], attention[BENCH_LIST_MOST];
    int n;
    bool attention_known;
    char from[160]; /* the points by name */
} series;

/* The points of a setting that differ only in what is extrapolated: pp at one depth by length, tg of one length by depth. */
static series gather(const bench *b, int setting, bench_kind kind, int64_t fixed) {
    series s = {.attention_known = true};
    size_t used = 0;
    for (int i = 0; i < b->n_points && s.n < BENCH_LIST_MOST; i++) {
        const bench_point *p = &b->point[i];
        const int64_t held = kind == BENCH_PP ? p->test.depth : p->test.n,
                      x = kind == BENCH_PP ? p->test.n : p->test.depth;
        if (p->setting != setting || p->test.kind != kind || held != fixed) continue;
        s.x[s.n] = (double)x;
        s.seconds[s.n] = p->seconds;
        s.attention[s.n++] = p->attention_s;
        s.attention_known = s.attention_known && p->attention_s > 0;
        if (used < sizeof s.from)
            used +=
                (size_t)snprintf(s.from + used, sizeof s.from - used, "%s%s%lld",
                                 used > 0 ? "," : "", kind == BENCH_PP ? "pp" : "d", (long long)x);
    }
    return s;
}

static double farthest(const series *s) {
    double most = 0;
    for (int i = 0; i < s->n; i++) most = fmax(most, s->x[i]);
    return most;
}

/* A time that grows ever more slowly is no cost of this work but noise of the points: then a straight line. */
static bool fit(bench_curve *c, const series *s, const double *y, int terms) {
    if (!bench_fit_curve(c, s->x, y, s->n, terms)) return false;
    if (terms == 3 && c->factor[2] < 0) return bench_fit_curve(c, s->x, y, s->n, 2);
    return true;
}

static radar_status emit(bench *b, const bench_test *t, const series *s, int terms) {
    launch_job *job = b->job;
    const double x = (double)(t->kind == BENCH_PP ? t->n : t->depth);
    bench_curve whole, attention;
    if (s->n < terms || x <= farthest(s) || job->world->rank != 0) return RADAR_OK;
    if (!fit(&whole, s, s->seconds, terms) || bench_curve_at(&whole, x) <= 0) {
        launch_progress_line(&job->progress, "no extrapolation to %.0f: %s do not determine it", x,
                             s->from);
        return RADAR_OK;
    }
    bench_times times = {.median = bench_curve_at(&whole, x)};
    bench_work work = {.attention_s = NAN};
    if (s->attention_known && fit(&attention, s, s->attention, terms))
        work.attention_s = bench_curve_at(&attention, x);
    launch_progress_line(&job->progress,
                         "extrapolated: %.0f from %s, which the fit meets within %.1f %%", x,
                         s->from, 100 * whole.worst);
    launch_json row = bench_row(b, t, &times, &work, NULL, s->from);
    return bench_print_row(b->printer, &row, &job->err);
}

radar_status bench_extrapolate(bench *b, int index) {
    enum { LINEAR = 2, QUADRATIC = 3 };
    for (int i = 0; i < b->beyond.n; i++) {
        const bench_test pp = {BENCH_PP, b->beyond.at[i], b->depth.at[0]};
        const series lengths = gather(b, index, BENCH_PP, pp.depth);
        emit(b, &pp, &lengths, QUADRATIC);
        for (int g = 0; g < b->gen.n; g++) {
            const bench_test tg = {BENCH_TG, b->gen.at[g], b->beyond.at[i]};
            const series depths = gather(b, index, BENCH_TG, tg.n);
            emit(b, &tg, &depths, LINEAR);
        }
    }
    return launch_agree(b->job);
}
