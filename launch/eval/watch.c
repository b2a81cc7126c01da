#include "launch/eval/watch.h"

#include <math.h>

radar_status eval_span_open(eval_context *c, int64_t tail, eval_span *span) {
    launch_job *job = c->job;
    const launch_options *o = job->opt;
    const int64_t n = (int64_t)c->text.n, given = o->tail;
    *span = (eval_span){.end = n, .every = o->every};
    span->first = given != LAUNCH_UNSET ? n - given : radar_max64(n - tail, n / 2);
    if (span->first < 1)
        return radar_fail(
            &job->err, RADAR_ERR_DATA,
            "nothing to look at: the text has %lld tokens, --tail %lld needs one more "
            "at least",
            (long long)n, (long long)(given != LAUNCH_UNSET ? given : 1));
    if (o->layer >= job->info.layers || o->head >= job->info.heads)
        return radar_fail(&job->err, RADAR_ERR_USAGE,
                          "--layer and --head: the model has layers 0 to %d and heads 0 to %d",
                          job->info.layers - 1, job->info.heads - 1);
    span->rows = eval_span_row(span, n - 1) + 1;
    if (span->rows > 0) return RADAR_OK;
    return radar_fail(&job->err, RADAR_ERR_USAGE,
                      "--every %lld: no multiple of it among positions %lld to %lld",
                      (long long)span->every, (long long)span->first, (long long)n - 1);
}

typedef struct watcher {
    launch_job *job;
    radar_observer *each;
    void *user;
} watcher;

/* All ranks see the same and stop alike. */
static void look(void *user, const radar_observation *o) {
    watcher *w = user;
    bool finite = !w->job->stop;
    for (int h = 0; finite && h < o->heads; h++) {
        finite = isfinite(o->mass[h]) && isfinite(o->dense_mass[h]);
        for (int d = 0; d < o->head_dim; d++)
            finite = finite && isfinite(o->output[(size_t)h * (size_t)o->head_dim + (size_t)d]);
    }
    if (!finite && !w->job->stop) {
        radar_fail(&w->job->err, RADAR_ERR_INTERNAL,
                   "position %lld, layer %d: what attention makes is not finite; look for NaN in "
                   "the model's weights",
                   (long long)o->position, o->layer);
        w->job->stop = true;
    }
    if (finite && w->job->world->rank == 0) w->each(w->user, o);
}

static radar_status compute(eval_context *c, const eval_span *span) {
    launch_job *job = c->job;
    const int64_t batch = job->opt->batch;
    for (int64_t at = span->first; at < span->end; at += batch) {
        const size_t n = (size_t)radar_min64(batch, span->end - at);
        const radar_status st = radar_score(job->session, c->text.token + at, n, NULL);
        if (st != RADAR_OK) return launch_library_failed(job, st);
        launch_progress_show(&job->progress, "observe", at + (int64_t)n - span->first,
                             span->end - span->first);
    }
    return launch_agree(job);
}

radar_status eval_watch(eval_context *c, const eval_span *span, bool dense, radar_observer *each,
                        void *user) {
    launch_job *job = c->job;
    watcher w = {job, each, user};
    radar_status st = eval_prefilled(c, c->text.token, span->first, span->end);
    if (st != RADAR_OK) return st;
    if (dense) st = radar_session_set_attention(job->session, "dense");
    if (st == RADAR_OK) st = radar_session_observe(job->session, look, &w, span->every);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    st = compute(c, span);
    if (st != RADAR_OK) return st;
    st = radar_session_observe(job->session, NULL, NULL, 0);
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}
