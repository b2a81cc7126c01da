/* radar eval bound: the random-feature estimate of a segment's mass against its expectation, over the number of features: the
 * paper's theorem on a model's own queries and keys; beside it the error of the sketch against |q| |k - mu| 2^-b / sqrt D. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval/bound.h"
#include "runtime/sys.h"

enum { TAIL = 16, GROUPS = 7 };

/* Upper ends of the groups of s. */
static const double group_end[GROUPS] = {2, 5, 10, 20, 40, 80, INFINITY};

/* ---- what is looked at ---- */

static int64_t spread(int64_t i, int64_t n, int64_t all) { return (2 * i + 1) * all / (2 * n); }

static radar_status choose(bound_samples *s, eval_context *c) {
    const radar_model_info *m = &c->job->info;
    const launch_options *o = c->job->opt;
    const int64_t blocks =
        s->span.first / EVAL_BLOCK - 1; /* without the first, which holds the sinks */
    if (blocks < 1)
        return radar_fail(&c->job->err, RADAR_ERR_DATA,
                          "%lld tokens before the queries are too few: %d are needed",
                          (long long)s->span.first, 2 * EVAL_BLOCK);
    s->H = m->heads, s->G = m->kv_heads, s->D = m->head_dim;
    s->rows = (int)radar_min64(BOUND_ROWS, s->span.rows);
    s->layers = o->layer != LAUNCH_UNSET ? 1 : (int)radar_min64(BOUND_LAYERS, m->layers);
    s->head_begin = o->head != LAUNCH_UNSET ? (int)o->head : 0;
    s->head_end = o->head != LAUNCH_UNSET ? (int)o->head + 1 : s->H;
    s->blocks = (int)radar_min64(BOUND_BLOCKS, blocks);
    for (int i = 0; i < s->layers; i++)
        s->layer[i] =
            o->layer != LAUNCH_UNSET ? (int)o->layer : (int)spread(i, s->layers, m->layers);
    for (int i = 0; i < s->blocks; i++) s->block[i] = 1 + spread(i, s->blocks, blocks);
    s->n_pairs = (int64_t)s->rows * s->layers * (s->head_end - s->head_begin) * s->blocks;
    return RADAR_OK;
}

static radar_status reserve(bound_samples *s, launch_job *job) {
    const size_t floats = (size_t)s->layers * (size_t)s->D;
    const bool first = job->world->rank == 0;
    s->key =
        radar_alloc_array((size_t)s->G * (size_t)s->blocks * EVAL_BLOCK, floats * sizeof *s->key);
    if (first) s->q = radar_alloc_array((size_t)s->rows * (size_t)s->H, floats * sizeof *s->q);
    if (first) s->pair = radar_alloc_array((size_t)s->n_pairs, sizeof *s->pair);
    if (!s->key || (first && (!s->q || !s->pair)))
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %d layers' queries and keys",
                   s->layers);
    return launch_agree(job);
}

static void release(bound_samples *s) {
    radar_free(s->key);
    radar_free(s->q);
    radar_free(s->pair);
}

static void note(void *user, const radar_observation *o) {
    bound_samples *s = user;
    const int row = eval_span_row(&s->span, o->position);
    const size_t layer = (size_t)s->H * (size_t)s->D;
    if (row >= s->rows) return;
    for (int i = 0; i < s->layers; i++)
        if (s->layer[i] == o->layer)
            memcpy(s->q + ((size_t)row * (size_t)s->layers + (size_t)i) * layer, o->q,
                   layer * sizeof *s->q);
}

/* [all ranks] */
static radar_status read_keys(bound_samples *s, launch_job *job) {
    float *to = s->key;
    for (int l = 0; l < s->layers; l++)
        for (int g = 0; g < s->G; g++)
            for (int b = 0; b < s->blocks; b++, to += EVAL_BLOCK * s->D) {
                const radar_status st = radar_session_read(
                    job->session, s->layer[l], g, s->block[b] * EVAL_BLOCK, EVAL_BLOCK, to, NULL);
                if (st != RADAR_OK) return launch_library_failed(job, st);
            }
    return RADAR_OK;
}

/* ---- the row of one number of features ---- */

static int by_s(const void *a, const void *b) {
    const bound_pair *x = a, *y = b;
    return (x->s > y->s) - (x->s < y->s);
}

/* Errors of ln mass over pairs [0, n), which are sorted by s; scratch [n].  For the middle s: what the theorem says. */
static void write_errors(json_t *to, const bound_pair *p, int64_t n, int64_t features,
                         double *scratch) {
    const double s = n > 0 ? (p[(n - 1) / 2].s + p[n / 2].s) / 2 : NAN;
    for (int64_t i = 0; i < n; i++) scratch[i] = p[i].estimate - p[i].ln_mean;
    eval_sort(scratch, n);
    json_object_set_new(to, "pairs", json_integer(n));
    json_object_set_new(to, "s_median", eval_real(s));
    json_object_set_new(to, "bias_median", eval_real(eval_quantile(scratch, n, .5)));
    for (int64_t i = 0; i < n; i++) scratch[i] = fabs(scratch[i]);
    eval_sort(scratch, n);
    json_object_set_new(to, "error_median", eval_real(eval_quantile(scratch, n, .5)));
    json_object_set_new(to, "error_p95", eval_real(eval_quantile(scratch, n, .95)));
    json_object_set_new(to, "predicted_sd", eval_real(sqrt(expm1(s) / (double)features)));
}

static void write_groups(json_t *row, const bound_samples *s, int64_t features, double *scratch) {
    json_t *all = json_array();
    int64_t at = 0;
    for (int g = 0; g < GROUPS; g++) {
        int64_t n = 0;
        while (at + n < s->n_pairs && s->pair[at + n].s < group_end[g]) n++;
        if (n > 0) {
            json_t *group = json_object();
            json_object_set_new(group, "s",
                                json_pack("[o,o]", eval_real(g > 0 ? group_end[g - 1] : 0),
                                          eval_real(group_end[g])));
            write_errors(group, s->pair + at, n, features, scratch);
            json_array_append_new(all, group);
        }
        at += n;
    }
    json_object_set_new(row, "groups", all);
}

static void write_sketch(json_t *row, const bound_sketch *sketch, int n, int D) {
    json_t *all = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(all, json_pack("{s:i,s:o,s:o,s:o,s:o}", "bits", sketch[i].bits,
                                             "error", eval_real(sketch[i].error), "predicted",
                                             eval_real(sketch[i].predicted), "ratio",
                                             eval_real(sketch[i].error / sketch[i].predicted),
                                             "logit_error", eval_real(sketch[i].error / sqrt(D))));
    json_object_set_new(row, "sketch", all);
}

/* A feature estimate with s above 2 ln n hangs on one or a few features (facts of the random energy model): frozen. */
static double frozen_share(const bound_samples *s, int64_t features) {
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_pairs; i++) n += s->pair[i].s > 2 * log((double)features);
    return (double)n / (double)s->n_pairs;
}

enum { SKETCHES = 3 };

/* [rank 0] */
static launch_json make_row(eval_context *c, bound_samples *s, const char *part, int64_t n,
                            const bound_sketch sketch[SKETCHES]) {
    launch_json row = {0};
    double *scratch = radar_alloc_array((size_t)s->n_pairs, sizeof *scratch);
    if (!scratch)
        radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for %lld pairs",
                   (long long)s->n_pairs);
    else if (bound_estimate(s, n, c->job->opt->scorer_seed, &c->job->err) == RADAR_OK) {
        qsort(s->pair, (size_t)s->n_pairs, sizeof *s->pair, by_s);
        row = eval_row(c, part);
        launch_json_int(&row, "rf_features", n);
        write_errors(row.object, s->pair, s->n_pairs, n, scratch);
        launch_json_real(&row, "frozen", frozen_share(s, n));
        write_groups(row.object, s, n, scratch);
        write_sketch(row.object, sketch, SKETCHES, s->D);
    }
    radar_free(scratch);
    return row;
}

/* ---- one setting ---- */

static const int64_t standard_n[] = {16, 64, 256, 1024, 4096};
enum { STANDARD = sizeof standard_n / sizeof standard_n[0] };

static int numbers(const eval_context *c) {
    return c->setting.rf_features != LAUNCH_UNSET ? 1 : STANDARD;
}

static int64_t parts(const eval_context *c) { return numbers(c); }

/* Of the i-th row, and what tells it from the others of its setting. */
static int64_t number_of(const eval_context *c, int i, char part[32]) {
    part[0] = 0;
    if (c->setting.rf_features != LAUNCH_UNSET) return c->setting.rf_features;
    snprintf(part, 32, "n %lld", (long long)standard_n[i]);
    return standard_n[i];
}

static radar_status emit_all(eval_context *c, bound_samples *s, const bool wanted[STANDARD]) {
    launch_job *job = c->job;
    bound_sketch sketch[SKETCHES] = {{.bits = 1}, {.bits = 2}, {.bits = 4}};
    if (job->world->rank == 0)
        bound_sketch_errors(s, sketch, SKETCHES, job->opt->scorer_seed, &job->err);
    radar_status st = launch_agree(job);
    for (int i = 0; i < numbers(c) && st == RADAR_OK; i++) {
        char part[32];
        launch_json row = {0};
        const int64_t n = number_of(c, i, part);
        if (!wanted[i]) continue;
        if (job->world->rank == 0) row = make_row(c, s, part, n, sketch);
        st = launch_agree(job);
        if (st == RADAR_OK) st = eval_emit(c, &row);
    }
    return st;
}

static radar_status run(eval_context *c) {
    bound_samples s = {0};
    bool wanted[STANDARD], any = false;
    for (int i = 0; i < numbers(c); i++) {
        char part[32];
        number_of(c, i, part);
        wanted[i] = eval_wanted(c, part);
        any = any || wanted[i];
    }
    if (!any) return RADAR_OK;
    radar_status st = eval_span_open(c, TAIL, &s.span);
    if (st == RADAR_OK) st = choose(&s, c);
    if (st != RADAR_OK) return st;
    st = reserve(&s, c->job);
    if (st == RADAR_OK) st = eval_watch(c, &s.span, true, note, &s);
    if (st == RADAR_OK) st = read_keys(&s, c->job);
    if (st == RADAR_OK) st = emit_all(c, &s, wanted);
    release(&s);
    return st;
}

static const char *const columns[] = {"pairs",       "s_median",     "error_median", "error_p95",
                                      "bias_median", "predicted_sd", "frozen",       NULL};

const eval_kind eval_bound = {
    .name = "bound", .needs_text = true, .run = run, .parts = parts, .columns = columns};
