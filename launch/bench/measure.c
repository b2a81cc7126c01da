/* One test: the cache at its depth, a warm-up, and the same work as often as asked for, timed by the clock. */
#include <math.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "runtime/sys.h"

enum { WARM_TOKENS = 16, TOKEN_STREAM = 1 << 19, CEILING_BYTES = 256 << 20 };

/* ---- depth ---- */

static radar_status prefill(bench *b, int64_t from, int64_t to) {
    launch_job *job = b->job;
    const radar_status st = radar_prefill(job->session, b->text.token + from, (size_t)(to - from));
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

static radar_status make_up(bench *b, int64_t from, int64_t to) {
    launch_job *job = b->job;
    const double began = radar_clock();
    const radar_status st =
        radar_session_fill(job->session, (size_t)(to - from), bench_synth_fill, b->synth);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    launch_progress_line(&job->progress, "filled: %lld positions made up in %.1f s",
                         (long long)(to - from), radar_clock() - began);
    return RADAR_OK;
}

static const char *name_of_fill(const bench *b, int64_t depth) {
    if (depth == 0) return "none";
    if (b->fill == BENCH_FILL_TEXT) return b->text_name;
    return b->fill == BENCH_FILL_AUTO && depth <= b->real_most ? "text" : "synth";
}

radar_status bench_reach(bench *b, int64_t depth) {
    launch_job *job = b->job;
    int64_t at = radar_min64(radar_position(job->session), b->reached), text = 0;
    radar_status st = radar_rewind(job->session, at); /* what the tests left goes */
    if (st == RADAR_ERR_CONFIG && at > 0) { /* not under every attention: from the start */
        at = 0;
        st = radar_rewind(job->session, at);
    }
    if (st != RADAR_OK) return launch_library_failed(job, st);
    b->fill_name = name_of_fill(b, depth);
    if (b->fill == BENCH_FILL_TEXT) text = depth;
    if (b->fill == BENCH_FILL_AUTO) text = radar_min64(depth, b->real_most);
    if (at < text) st = prefill(b, at, text);
    at = radar_max64(at, text);
    if (st == RADAR_OK && at < depth) st = make_up(b, at, depth);
    b->reached = depth;
    return st;
}

/* ---- the work ---- */

/* What is computed does not depend on which tokens they are; drawn, as they are not all alike. */
static void draw_tokens(const bench *b, int32_t *token, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        token[i] = (int32_t)(radar_random(b->base.seed, TOKEN_STREAM, (uint64_t)i) %
                             (uint64_t)b->job->info.vocab);
}

/* n passes of one token each, and n draws: the last one's own pass belongs to whoever goes on. */
static radar_status decode(launch_job *job, const int32_t *token, int64_t n) {
    radar_status st = radar_score(job->session, token, 1, NULL);
    for (int64_t i = 0; i < n && st == RADAR_OK; i++) {
        int32_t next;
        st = radar_step(job->session, &next);
    }
    return st;
}

static radar_status once(bench *b, const bench_test *t, const int32_t *token, int64_t n,
                         double *seconds) {
    launch_job *job = b->job;
    radar_status st = bench_reach(b, t->depth);
    if (st != RADAR_OK) return st;
    radar_profile_reset(job->engine); /* reaching the depth may have computed something */
    const double began = radar_clock();
    if (n > 0)
        st = t->kind == BENCH_PP ? radar_prefill(job->session, token, (size_t)n)
                                 : decode(job, token, n);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    *seconds = radar_clock() - began;
    return RADAR_OK;
}

/* Figures begin anew behind the warm-up. */
static radar_status warm_up(bench *b, const bench_test *t, const int32_t *token) {
    launch_job *job = b->job;
    const int64_t n = radar_min64(t->n, t->kind == BENCH_PP ? b->setting.chunk : WARM_TOKENS);
    double seconds;
    radar_status st = once(b, t, token, n, &seconds);
    if (st == RADAR_OK) st = once(b, t, token, 0, &seconds);
    if (st != RADAR_OK) return st;
    st = radar_session_set_attention(job->session, b->setting.attention);
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

/* [this rank] Takes what the library counted in a repetition. */
static void take_phases(bench *b, bench_work *work, int64_t tokens) {
    const radar_phase *phase = NULL;
    size_t n = 0;
    radar_profile(b->job->engine, &phase, &n);
    bench_work_add(work, phase, n, tokens);
}

/* [all ranks] The ceiling drifts with what else a machine does, so it is measured on both sides of a test: the mean of the two. */
static void measure_ceiling(bench *b, const double before) {
    const double now = radar_read_bandwidth(b->job->engine, CEILING_BYTES);
    b->bandwidth = before > 0 ? (before + now) / 2 : now;
}

static radar_status repeat(bench *b, const bench_test *t, const int32_t *token, bench_times *times,
                           bench_work *work) {
    for (int i = 0; i < (int)b->base.repetitions; i++) {
        const radar_status st = once(b, t, token, t->n, &times->seconds[i]);
        if (st != RADAR_OK) return st;
        take_phases(b, work, t->n);
        work->seconds += times->seconds[i];
        work->tokens += t->n;
        times->n++;
    }
    return RADAR_OK;
}

radar_status bench_measure(bench *b, const bench_test *t, bench_times *times, bench_work *work,
                           radar_session_stats *stats) {
    launch_job *job = b->job;
    *times = (bench_times){0};
    *work = (bench_work){0};
    int32_t *token = radar_alloc_array((size_t)t->n, sizeof *token);
    if (token == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld tokens", (long long)t->n);
    else
        draw_tokens(b, token, t->n);
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = warm_up(b, t, token);
    if (st == RADAR_OK) measure_ceiling(b, 0);
    if (st == RADAR_OK) st = repeat(b, t, token, times, work);
    if (st == RADAR_OK) measure_ceiling(b, b->bandwidth);
    if (st == RADAR_OK) st = launch_stats(job, stats);
    if (st == RADAR_OK) bench_spread(times);
    radar_free(token);
    return st;
}

/* ---- spread ---- */

void bench_spread(bench_times *t) {
    double x[BENCH_REPETITIONS_MOST], sum = 0, squares = 0;
    memcpy(x, t->seconds, (size_t)t->n * sizeof *x);
    t->median = radar_median(x, t->n);
    t->least = x[0], t->most = x[t->n - 1];
    for (int i = 0; i < t->n; i++) sum += x[i];
    for (int i = 0; i < t->n; i++) squares += (x[i] - sum / t->n) * (x[i] - sum / t->n);
    t->deviation = t->n > 1 ? sqrt(squares / (t->n - 1)) : 0;
}
