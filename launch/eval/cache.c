/* One session for a sweep: what it has prefilled is kept from setting to setting. */
#include <string.h>

#include "launch/eval/eval.h"
#include "runtime/sys.h"

static radar_status remember(eval_context *c, const int32_t *token, int64_t n) {
    memcpy(c->cached, token, (size_t)n * sizeof *token);
    c->n_cached = n;
    return RADAR_OK;
}

/* A session with room for `room` tokens, empty. */
static radar_status open_session(eval_context *c, int64_t room) {
    launch_job *job = c->job;
    int64_t context = 0;
    radar_status st = launch_context(job, room, 0, &context);
    if (st != RADAR_OK) return st;
    radar_session_close(job->session);
    job->session = NULL;
    radar_free(c->cached);
    c->n_cached = c->context = 0;
    c->cached = radar_alloc_array((size_t)context, sizeof *c->cached);
    if (c->cached == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the tokens");
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    st = launch_open_session(job, context);
    if (st != RADAR_OK) return st;
    c->context = context;
    c->kv_type = c->setting.kv_type;
    return RADAR_OK;
}

/* The present setting on the open session.  An attention that has to see the prompt takes it only when the cache is empty. */
static radar_status configure(eval_context *c) {
    launch_job *job = c->job;
    const radar_session_options opt = launch_session_options(&c->setting, c->context);
    radar_status st = radar_session_reconfigure(job->session, &opt);
    if (st == RADAR_ERR_CONFIG && radar_position(job->session) > 0) {
        c->n_cached = 0;
        st = radar_rewind(job->session, 0);
        if (st == RADAR_OK) st = radar_session_reconfigure(job->session, &opt);
    }
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

/* How much of token [0, n) can stay: all of it, or as many whole chunks as agree, so that the passes that fill the cache are those of
 * a prefill from the beginning. */
static int64_t agreeing(const eval_context *c, const int32_t *token, int64_t n) {
    const int64_t most = radar_min64(n, c->n_cached);
    int64_t same = 0;
    while (same < most && token[same] == c->cached[same]) same++;
    if (same == n && same == c->n_cached) return n;
    return same / c->setting.chunk * c->setting.chunk;
}

radar_status eval_prefilled(eval_context *c, const int32_t *token, int64_t n, int64_t room) {
    launch_job *job = c->job;
    const double began = radar_clock();
    radar_status st = RADAR_OK;
    const bool fits =
        job->session != NULL && room <= c->context && strcmp(c->kv_type, c->setting.kv_type) == 0;
    st = fits ? configure(c) : open_session(c, room);
    if (st != RADAR_OK) return st;
    const int64_t keep = agreeing(c, token, n);
    if ((st = eval_back(c, keep)) != RADAR_OK) return st;
    if (keep < n) {
        st = radar_prefill(job->session, token + keep, (size_t)(n - keep));
        if (st != RADAR_OK) return launch_library_failed(job, st);
    }
    c->prefill_s = radar_clock() - began;
    return remember(c, token, n);
}

radar_status eval_back(eval_context *c, int64_t n) {
    const radar_status st = radar_rewind(c->job->session, n);
    return st == RADAR_OK ? st : launch_library_failed(c->job, st);
}
