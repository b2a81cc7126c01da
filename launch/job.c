#include "launch/launch.h"

#include <stdio.h>
#include <string.h>

#include "launch/place.h"
#include "launch/profile.h"
#include "runtime/sys.h"

/* ---- one status for all ranks ---- */

void launch_print_error(launch_job *job) {
    if (job->err.text[0] == 0) return;
    char place[32] = "";
    const bool named = job->world->rank == 0 || strncmp(job->err.text, "rank ", 5) == 0;
    if (!named) snprintf(place, sizeof place, "rank %d: ", job->world->rank);
    for (char *at = job->err.text; *at != 0; at++)
        if ((unsigned char)*at < ' ' || *at == 127) *at = '?'; /* of names in a file */
    launch_progress_clear(&job->progress);
    fprintf(stderr, "radar: %s%s\n", place, job->err.text);
}

radar_status launch_agree(launch_job *job) {
    const launch_world *w = job->world;
    if (job->err.status == RADAR_ERR_PEER && w->end) {
        launch_print_error(job);
        w->end(radar_exit_code(job->err.status));
    }
    /* Of ranks with equal status, one that has the words is named. */
    int value = 2 * (int)job->err.status + (job->err.text[0] != 0), rank = w->rank;
    w->largest(w, &value, &rank);
    if (rank != w->rank && value / 2 != (int)RADAR_OK) {
        job->err.status = (radar_status)(value / 2);
        job->err.text[0] = 0;
    }
    return job->err.status;
}

/* The next "name=value" of a text of launch_args_text, NULL at the end. */
static const char *next_entry(const char *text, size_t bytes, const char *entry) {
    const char *next = entry + strlen(entry) + 1;
    return next < text + bytes ? next : NULL;
}

static radar_status name_difference(launch_job *job, const char *mine, size_t my_bytes,
                                    const char *theirs, size_t bytes) {
    const char *a = mine, *b = theirs;
    while (a != NULL && b != NULL && strcmp(a, b) == 0) {
        a = next_entry(mine, my_bytes, a);
        b = next_entry(theirs, bytes, b);
    }
    if (a == NULL && b == NULL) return RADAR_OK;
    return radar_fail(&job->err, RADAR_ERR_DISAGREE,
                      "started with %.80s, rank 0 with %.80s; give all ranks the same options",
                      a != NULL ? a : "fewer options", b != NULL ? b : "fewer options");
}

radar_status launch_same_options(launch_job *job) {
    const launch_world *w = job->world;
    size_t bytes = 0;
    char *mine = launch_args_text(job->opt, &bytes), *theirs = NULL;
    uint64_t length = bytes;
    if (mine == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the options");
    if (launch_agree(job) == RADAR_OK) {
        w->broadcast(w, &length, sizeof length);
        theirs = radar_alloc((size_t)length);
        if (theirs == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the options");
        if (launch_agree(job) == RADAR_OK) {
            if (w->rank == 0) memcpy(theirs, mine, bytes);
            w->broadcast(w, theirs, (size_t)length);
            name_difference(job, mine, bytes, theirs, (size_t)length);
            launch_agree(job);
        }
    }
    radar_free(mine);
    radar_free(theirs);
    return job->err.status;
}

radar_status launch_library_failed(launch_job *job, radar_status st) {
    job->stop = true;
    if (st == RADAR_ERR_STOPPED && *job->world->signal != 0)
        return radar_fail(&job->err, st, "stopped by signal %d; nothing was saved: run it again",
                          (int)*job->world->signal);
    return radar_fail(&job->err, st, "%s", radar_last_error(job->engine));
}

/* ---- the engine ---- */

static int on_progress(void *user, const char *what, int64_t done, int64_t total) {
    launch_job *job = user;
    /* How far decoding and scoring have come, the commands know better. */
    if (strcmp(what, "load") == 0 || strcmp(what, "prefill") == 0 || strcmp(what, "fill") == 0)
        launch_progress_show(&job->progress, what, done, total);
    return job->stop || *job->world->signal != 0;
}

radar_engine_options launch_engine_options(launch_job *job) {
    const launch_options *o = job->opt;
    radar_engine_options e = RADAR_ENGINE_OPTIONS_DEFAULT;
    e.model = o->model, e.tokenizer = o->tokenizer;
    e.backend = o->backend, e.precision = o->precision, e.isa = o->isa;
    e.threads = o->threads > 0 ? (int)o->threads : job->world->cores, e.shards = (int)o->shards,
    e.stripe = (int)o->stripe, e.chunk = (int)o->chunk;
    e.rope_scaling = o->rope_scaling, e.rope_scale = o->rope_scale;
    e.rope_freq_base = o->rope_freq_base, e.rope_orig_ctx = o->rope_orig_ctx;
    e.exchange = o->exchange, e.weights = o->weights, e.device = (int)o->device;
    e.no_graphs = strcmp(o->graphs, "off") == 0;
    e.progress = on_progress, e.user = job;
    return e;
}

radar_status launch_open_engine(launch_job *job, bool alone) {
    const launch_options *o = job->opt;
    const bool one = o->command == LAUNCH_RUN || o->command == LAUNCH_COMPARE;
    const radar_session_options session = launch_session_options(o, o->context);
    radar_engine_options e = launch_engine_options(job);
    /* where the context is known, what does not fit is refused before the weights are read */
    if (one && !alone && o->context != LAUNCH_UNSET) e.session = &session;
    if (job->room != NULL) e.session = job->room;
    char why[512] = "";
    const radar_status st = radar_engine_open(
        &job->engine, alone ? job->world->alone : job->world->comm, &e, why, sizeof why);
    if (st == RADAR_ERR_STOPPED) return launch_library_failed(job, st);
    if (st != RADAR_OK) return radar_fail(&job->err, st, "%s", why);
    job->info = (radar_model_info){.size = sizeof job->info};
    radar_engine_info(job->engine, &job->info);
    if (o->profile_steps && *job->info.gpu)
        return radar_fail(&job->err, RADAR_ERR_CONFIG,
                          "--profile-steps: operations are queued on a GPU, their calls take no "
                          "time; use --backend cpu, or NVIDIA's nsys");
    launch_bind_near(job->info.gpu);
    if (job->info.fallback) launch_progress_line(&job->progress, "%s", job->info.fallback);
    if (!alone) launch_warn_threads(job, e.threads);
    return launch_profile_check(job);
}

/* ---- the session ---- */

radar_status launch_context(launch_job *job, int64_t prompt, int64_t more, int64_t *context) {
    const int64_t asked = job->opt->context, trained = job->info.context;
    const bool given = asked != LAUNCH_UNSET && asked != 0;
    const int64_t limit = given ? asked : trained;
    const int64_t least = prompt + (more > 0 ? 1 : 0);
    if (least > limit)
        return radar_fail(&job->err, RADAR_ERR_CONFIG,
                          "the prompt has %lld tokens, %s %lld%s: no room%s; give --ctx %lld or "
                          "more, or a shorter prompt",
                          (long long)prompt, given ? "--ctx is" : "the model's context is",
                          (long long)limit, given ? "" : " tokens",
                          prompt <= limit ? " for an answer" : "", (long long)(prompt + more));
    *context = asked == LAUNCH_UNSET ? radar_min64(prompt + more, limit) : limit;
    return RADAR_OK;
}

/* Where the session's memory stands, as a person wants to see it before waiting. */
static radar_status report_session(launch_job *job, const radar_session_options *s) {
    radar_session_stats stats;
    const radar_status st = launch_stats(job, &stats);
    if (st != RADAR_OK) return st;
    char file[LAUNCH_BYTES_TEXT], kv[LAUNCH_BYTES_TEXT], summary[LAUNCH_BYTES_TEXT];
    const radar_model_info *m = &job->info;
    uint64_t kv_most = 0, summary_most = 0;
    for (int r = 0; r < stats.ranks; r++) {
        if (stats.kv_bytes[r] > kv_most) kv_most = stats.kv_bytes[r];
        if (stats.summary_bytes[r] > summary_most) summary_most = stats.summary_bytes[r];
    }
    launch_progress_line(&job->progress, "model: %s (%s, %d layers, %s)", m->name, m->family,
                         m->layers, launch_bytes(file, (double)m->file_bytes));
    launch_progress_line(&job->progress, "ranks: %d, backend %s, %d shards", stats.ranks,
                         m->backend, (int)job->opt->shards);
    launch_progress_line(
        &job->progress,
        "context: %lld tokens in %lld segments; KV (%s) %s a rank, summaries %s a rank",
        (long long)stats.context, (long long)radar_ceil_div(stats.context, 16), s->kv_type,
        launch_bytes(kv, (double)kv_most), launch_bytes(summary, (double)summary_most));
    return RADAR_OK;
}

radar_session_options launch_session_options(const launch_options *o, int64_t context) {
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    s.context = context;
    s.kv_type = o->kv_type;
    s.attention = o->attention;
    s.scorer = o->scorer, s.share = o->share, s.pick = o->pick, s.select = o->select,
    s.rf_form = o->rf_form;
    s.budget = o->budget, s.dense_below = o->dense_below, s.window = o->window, s.sinks = o->sinks;
    s.segment = o->segment, s.sketch_bits = o->sketch_bits, s.outliers = o->outliers;
    s.scan = o->scan, s.prefill = o->prefill, s.dense_prefill = o->dense_prefill;
    s.rf_center = o->rf_center, s.rf_temper = o->rf_temper;
    s.restream = o->restream, s.observe = o->observe;
    s.segments = o->segments == LAUNCH_UNSET ? 0 : o->segments;
    s.rf_features = o->rf_features == LAUNCH_UNSET ? 0 : o->rf_features;
    s.scorer_seed = o->scorer_seed, s.seed = o->seed;
    s.temperature = o->temperature, s.top_k = o->top_k, s.top_p = o->top_p, s.min_p = o->min_p;
    return s;
}

radar_status launch_open_session(launch_job *job, int64_t context) {
    const radar_session_options s = launch_session_options(job->opt, context);
    launch_warn_context(job, context);
    const radar_status st = radar_session_open(&job->session, job->engine, &s);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    return report_session(job, &s);
}

radar_status launch_stats(launch_job *job, radar_session_stats *stats) {
    *stats = (radar_session_stats){.size = sizeof *stats};
    const radar_status st = radar_stats(job->session, stats);
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

void launch_close(launch_job *job) {
    radar_session_close(job->session);
    radar_engine_close(job->engine);
    job->session = NULL;
    job->engine = NULL;
}
