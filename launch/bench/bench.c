/* radar bench: sessions, depths, settings and tests, in the order that fills a cache once. */
#include "launch/bench/bench.h"

#include <string.h>

#include "runtime/sys.h"

/* ---- opening ---- */

/* Whether a reader of the table has to be told the option: it is swept, or not as by default. */
static bool varied(const bench *b, size_t option) {
    const launch_option_row *row = &launch_option_table[option];
    if (!(row->in & LAUNCH_BENCH) || !(row->in & LAUNCH_LISTED)) return false;
    return b->base.list[option].n > 0 || b->base.origin[option] != LAUNCH_BY_DEFAULT;
}

static bench_columns columns_of(const bench *b) {
    bench_columns c = {
        .ranks = b->job->world->size > 1, .scan = b->room.scores, .loss = b->base.loss != NULL};
    for (size_t i = 0; i < launch_option_count; i++) {
        if (!varied(b, i)) continue;
        char *key = c.varied[c.n_varied++];
        snprintf(key, LAUNCH_LABEL, "%s", launch_option_table[i].name);
        for (; *key != 0; key++)
            if (*key == '-') *key = '_';
    }
    return c;
}

/* [rank 0] */
static radar_status open_output(bench *b) {
    const bench_columns columns = columns_of(b);
    return bench_print_open(&b->printer, b->base.format, &columns, &b->job->err);
}

static void tell(const bench *b) {
    const radar_model_info *m = &b->job->info;
    char size[LAUNCH_BYTES_TEXT];
    launch_progress_line(&b->job->progress, "model: %s (%s, %d layers, %s)", m->name, m->family,
                         m->layers, launch_bytes(size, (double)m->file_bytes));
    launch_progress_line(&b->job->progress, "ranks: %d, backend %s, %d shards", b->job->world->size,
                         m->backend, (int)b->base.shards);
    if (b->context > m->context)
        launch_progress_line(
            &b->job->progress,
            "note: the model was trained for %lld tokens; beyond them only speed is meant",
            (long long)m->context);
}

/* Whether some depth has made-up tokens in it, or any text. */
static radar_status open_fill(bench *b) {
    const int64_t deepest = b->depth.at[b->depth.n - 1];
    if (deepest == 0) return RADAR_OK;
    radar_status st = bench_text(b);
    if (st == RADAR_OK && b->fill == BENCH_FILL_TEXT) st = bench_check_text(b, deepest);
    if (st != RADAR_OK || b->fill == BENCH_FILL_TEXT) return st;
    b->real_most = radar_min64((int64_t)b->text.n, BENCH_REAL_MOST);
    if (b->fill == BENCH_FILL_AUTO && deepest <= b->real_most) return RADAR_OK;
    return bench_measure_moments(b);
}

static radar_status open_all(bench *b) {
    launch_job *job = b->job;
    const size_t tests = (size_t)(b->prompt.n + b->gen.n) * (size_t)b->depth.n;
    b->most_points = (int)tests * (int)b->settings;
    b->point = radar_alloc_array((size_t)b->most_points, sizeof *b->point);
    b->hash = radar_alloc_array((size_t)b->settings, sizeof *b->hash);
    if (b->point == NULL || b->hash == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the tests");
    if (job->world->rank == 0 && job->err.status == RADAR_OK && b->base.loss != NULL)
        bench_losses_open(&b->losses, b->base.loss, &job->err);
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = bench_check(b);
    if (st != RADAR_OK) return st;
    if (job->world->rank == 0) open_output(b);
    st = launch_agree(job);
    if (st == RADAR_OK) st = launch_open_engine(job, false);
    if (st != RADAR_OK) return st;
    tell(b);
    return open_fill(b);
}

/* ---- one test ---- */

static radar_status run_test(bench *b, int index, const bench_test *t) {
    launch_job *job = b->job;
    bench_times *times = radar_alloc(sizeof *times);
    bench_work work = {0};
    radar_session_stats stats;
    if (times == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the times");
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = bench_measure(b, t, times, &work, &stats);
    if (st == RADAR_OK) {
        const double part = work.tokens > 0 ? (double)t->n / (double)work.tokens : 0;
        b->point[b->n_points++] =
            (bench_point){*t, index, times->median, work.phases ? work.attention_s * part : -1};
        if (job->world->rank == 0) {
            launch_json row = bench_row(b, t, times, &work, &stats, NULL);
            bench_print_row(b->printer, &row, &job->err);
        }
        st = launch_agree(job);
    }
    json_decref(work.list);
    radar_free(times);
    b->done++;
    return st;
}

static radar_status run_tests(bench *b, int index, int64_t depth) {
    radar_status st = RADAR_OK;
    for (int i = 0; i < b->prompt.n + b->gen.n && st == RADAR_OK; i++) {
        const bool pp = i < b->prompt.n;
        const bench_test t = {pp ? BENCH_PP : BENCH_TG,
                              pp ? b->prompt.at[i] : b->gen.at[i - b->prompt.n], depth};
        launch_progress_sweep(&b->job->progress, b->done, b->total, b->done);
        st = run_test(b, index, &t);
    }
    return st;
}

/* ---- settings ---- */

static void hash_settings(bench *b) {
    launch_options setting;
    for (int64_t i = 0; eval_setting(&setting, &b->base, i); i++)
        b->hash[i] = eval_setting_hash(&setting);
}

/* The setting of that index, into b->setting; false: one like it came before. */
static bool take_setting(bench *b, int64_t index) {
    eval_setting(&b->setting, &b->base, index);
    for (int64_t i = 0; i < index; i++)
        if (b->hash[i] == b->hash[index]) return false;
    return true;
}

/* The cache is kept wherever the attention can take it up; one that has to see the prompt begins with an empty one. */
static radar_status set_session(bench *b) {
    launch_job *job = b->job;
    const radar_session_options opt = launch_session_options(&b->setting, b->context);
    radar_status st;
    if (job->session == NULL) {
        b->reached = 0;
        st = radar_session_open(&job->session, job->engine, &opt);
    } else {
        st = radar_session_reconfigure(job->session, &opt);
        if (st == RADAR_ERR_CONFIG && radar_position(job->session) > 0) {
            st = radar_rewind(job->session, 0);
            if (st == RADAR_OK) st = radar_session_reconfigure(job->session, &opt);
        }
    }
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

/* Settings [0, settings) of one kv-type. */
static radar_status run_kv_type(bench *b, const char *kv_type) {
    radar_status st = RADAR_OK;
    for (int d = 0; d < b->depth.n && st == RADAR_OK; d++)
        for (int64_t i = 0; i < b->settings && st == RADAR_OK; i++) {
            if (!take_setting(b, i) || strcmp(b->setting.kv_type, kv_type) != 0) continue;
            if (b->settings > 1 || b->job->session == NULL) st = set_session(b);
            if (st == RADAR_OK) st = bench_reach(b, b->depth.at[d]);
            if (st == RADAR_OK) st = run_tests(b, (int)i, b->depth.at[d]);
        }
    radar_session_close(b->job->session);
    b->job->session = NULL;
    return st;
}

static bool seen(const bench *b, const char *kv_type, int64_t before) {
    launch_options setting;
    for (int64_t i = 0; i < before; i++)
        if (eval_setting(&setting, &b->base, i) && strcmp(setting.kv_type, kv_type) == 0)
            return true;
    return false;
}

static radar_status run_all(bench *b) {
    radar_status st = RADAR_OK;
    hash_settings(b);
    for (int64_t i = 0; i < b->settings; i++)
        if (take_setting(b, i)) b->total += (b->prompt.n + b->gen.n) * b->depth.n;
    for (int64_t i = 0; i < b->settings && st == RADAR_OK; i++) {
        launch_options setting;
        eval_setting(&setting, &b->base, i);
        if (!seen(b, setting.kv_type, i)) st = run_kv_type(b, setting.kv_type);
    }
    for (int64_t i = 0; i < b->settings && st == RADAR_OK; i++)
        if (take_setting(b, i)) st = bench_extrapolate(b, (int)i);
    return st;
}

/* What the library says of a job without rows, and of an option that bench has not. */
static void reword(launch_job *job) {
    char *text = job->err.text;
    const size_t used = strlen(text), room = sizeof job->err.text;
    if (used == 0) return;
    if (job->err.status == RADAR_ERR_STOPPED)
        snprintf(text, room, "stopped by signal %d; the rows above are whole",
                 (int)*job->world->signal);
    if (strstr(text, "--ctx") != NULL)
        snprintf(text + used, room - used,
                 "; --ctx of bench is the deepest -d and the longest of -p and -n");
}

radar_status launch_bench(launch_job *job) {
    bench b = {.job = job, .base = *job->opt, .setting = *job->opt};
    const launch_options *given = job->opt;
    job->opt = &b.setting;
    bench_options(&b);
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = open_all(&b);
    if (st == RADAR_OK) st = run_all(&b);
    launch_agree(job);
    reword(job);
    job->room = NULL;
    bench_print_close(b.printer, &job->err);
    job->opt = given;
    bench_losses_close(b.losses);
    bench_synth_close(b.synth);
    launch_prompt_free(&b.text);
    radar_free(b.point);
    radar_free(b.hash);
    return job->err.status;
}
