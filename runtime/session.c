/* A sequence on an engine: prefill, steps and scoring are calls of one forward pass; and what its state is. */
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/device.h"
#include "runtime/sys.h"

/* ---- tokens in ---- */

radar_status radar_session_begin(radar_session *s) {
    s->e->err = (radar_error){0};
    if (s->broken)
        return radar_fail(&s->e->err, RADAR_ERR_INTERNAL,
                          "session: an earlier error left it unusable; close it");
    return RADAR_OK;
}

/* Ends the local checks of a call: all ranks go on, or none; and all with the same value of `what`. */
static radar_status agree_call(radar_session *s, const char *what, uint64_t value) {
    radar_status st = radar_agree(s->e->comm, &s->e->err);
    return st == RADAR_OK ? radar_agree_same(s->e->comm, what, value, &s->e->err) : st;
}

/* n more tokens, behind `pending` that are not in the cache yet. */
static radar_status check_tokens(radar_session *s, const int32_t *token, size_t n, int pending) {
    int vocab = s->e->model->config.vocab;
    int64_t used = s->position + pending;
    if (n > (size_t)(s->kv.context - used))
        return radar_fail(&s->e->err, RADAR_ERR_CONFIG,
                          "%lld tokens in the cache and %zu more, but --ctx is %lld: raise --ctx "
                          "or shorten the prompt",
                          (long long)used, n, (long long)s->kv.context);
    for (size_t i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= vocab)
            return radar_fail(&s->e->err, RADAR_ERR_DATA,
                              "token %zu of the input is %d: the vocabulary has ids 0 to %d", i,
                              token[i], vocab - 1);
    return RADAR_OK;
}

/* What every call that brings tokens begins with. */
static radar_status take_tokens(radar_session *s, const int32_t *token, size_t n) {
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    check_tokens(s, token, n, s->pending >= 0);
    const uint64_t state[] = {(uint64_t)s->position, (uint64_t)s->pending, n,
                              XXH3_64bits(n ? token : (const int32_t *)"", n * sizeof *token)};
    return agree_call(s, "tokens, or their position", XXH3_64bits(state, sizeof state));
}

/* Whatever follows, a prefill's pass begins earliest. */
static void forget_from(radar_session *s, int64_t position) {
    radar_kvcache_truncate(&s->kv, position, s->attention.window);
    radar_kvcache_restore(&s->kv, position - position % s->e->opt.chunk, position);
}

/* What a pass that ended so leaves. */
static void settle_pass(radar_session *s, radar_status st, int n, bool seen) {
    if (st == RADAR_OK) {
        if (seen && s->state_position == s->position) s->state_position += n;
        s->position += n;
    } else if (st == RADAR_ERR_DATA && !s->policy_state) {
        forget_from(s, s->position);
    } else if (st != RADAR_ERR_STOPPED) {
        s->broken = true;
        radar_device_give_up(s->e);
    }
    s->logits_valid = false;
}

/* The logits come here, while they are still there. */
static radar_status bring_logits(radar_session *s) {
    radar_engine *e = s->e;
    if (!s->logits_elsewhere) return RADAR_OK;
    e->be->ops->fetch(e->be, s->logits, e->ws.logits,
                      (size_t)e->model->config.vocab * sizeof *s->logits);
    s->logits_elsewhere = false;
    return radar_device_wait(e, &e->err);
}

/* ws.logits will be this session's: what another still has there goes to it first. */
static radar_status take_logits(radar_session *s) {
    radar_session *other = s->e->logits_of;
    s->e->logits_of = s;
    return other && other != s ? bring_logits(other) : RADAR_OK;
}

/* Logits of the last of n rows of a pass; where the backend samples, a token of them and not themselves goes to the host. */
static radar_status queue_logits(radar_session *s, int n) {
    radar_engine *e = s->e;
    const radar_backend_ops *ops = e->be->ops;
    radar_status st = take_logits(s);
    if (st == RADAR_OK) st = radar_head(e, n - 1, 1, !ops->sample);
    if (st != RADAR_OK || !ops->sample) return st;
    ops->sample(e->be, s->draw, &s->sampler, s->position + n, e->ws.logits, e->model->config.vocab);
    ops->fetch(e->be, &s->drawn, s->draw, sizeof s->drawn);
    return st;
}

/* One pass, and with `head` the logits of its last row; the cache counts its tokens only when every rank has finished it. */
static radar_status run_pass(radar_session *s, const int32_t *token, int n,
                             const radar_policy *policy, radar_counts *counts, bool head) {
    radar_engine *e = s->e;
    const radar_batch batch = {s, token, s->position, n, policy, counts};
    radar_profile_begin(&e->profiler);
    radar_status st = radar_forward(e, &batch, 1), end = RADAR_OK;
    if (st == RADAR_OK && head) end = queue_logits(s, n);
    if (st == RADAR_OK && end == RADAR_OK) st = radar_await_pass(e, &batch, 1);
    radar_profile_end(&e->profiler, 1);
    settle_pass(s, st == RADAR_OK ? end : st, n, policy == s->own_policy || counts == NULL);
    if (st != RADAR_OK || end != RADAR_OK || !head) return st == RADAR_OK ? end : st;
    st = radar_await_head(e, n - 1, 1);
    s->logits_valid = st == RADAR_OK;
    s->logits_elsewhere = s->logits_valid && e->be->ops->sample;
    if (s->logits_valid && !s->logits_elsewhere)
        memcpy(s->logits, e->ws.seen_logits, (size_t)e->model->config.vocab * sizeof *s->logits);
    return st;
}

/* Logits of rows [first, first + n) of the last pass into ws.seen_logits. */
static radar_status head(radar_session *s, int first, int n) {
    radar_profile_begin(&s->e->profiler);
    radar_status st = take_logits(s);
    if (st == RADAR_OK) st = radar_head(s->e, first, n, true);
    if (st == RADAR_OK) st = radar_await_head(s->e, first, n);
    radar_profile_end(&s->e->profiler, 0);
    if (st != RADAR_OK && st != RADAR_ERR_DATA) s->broken = true;
    return st;
}

/* A sampled token that no pass has seen yet is computed before anything that follows it. */
static radar_status settle(radar_session *s) {
    if (s->pending < 0) return RADAR_OK;
    int32_t token = s->pending;
    radar_status st = check_tokens(s, &token, 1, 0);
    if (st == RADAR_OK) {
        const int64_t before = s->position;
        st = run_pass(s, &token, 1, s->attention.policy, &s->counts, true);
        if (s->position > before) s->pending = -1;
    }
    return st;
}

/* Prefill's chunks end at absolute multiples of the chunk size, also after a resume: the same passes whatever was there before. */
static int chunk_at(const radar_session *s, size_t left) {
    int64_t chunk = s->e->opt.chunk;
    return (int)radar_min64((int64_t)left, chunk - s->position % chunk);
}

radar_status radar_prefill(radar_session *s, const int32_t *token, size_t n) {
    const radar_policy *policy =
        s->attention.sparse_prefill ? &radar_policy_prefill : &radar_policy_dense;
    radar_status st;
    int rows = 0;
    RADAR_TRY(st, take_tokens(s, token, n), fail);
    RADAR_TRY(st, settle(s), fail);
    if (s->position == 0) radar_session_count_anew(s, &s->prefilled);
    for (size_t done = 0; done < n; done += (size_t)rows) {
        rows = chunk_at(s, n - done);
        const bool last = done + (size_t)rows == n;
        RADAR_TRY(st, run_pass(s, token + done, rows, policy, NULL, last), fail);
        radar_report(s->e, "prefill", (int64_t)done + rows, (int64_t)n);
    }
fail:
    return st;
}

static radar_status sample(radar_session *s, int32_t *token) {
    radar_profiler *p = &s->e->profiler;
    radar_profile_begin(p);
    double began = radar_clock();
    const bool drawn = s->logits_elsewhere && s->drawn.token >= 0 && s->drawn.nan < 0;
    radar_status st = drawn ? RADAR_OK : bring_logits(s);
    if (drawn)
        *token = s->drawn.token;
    else if (st == RADAR_OK)
        st = radar_sample(token, &s->sampler, s->position, s->logits, s->e->model->config.vocab,
                          s->sampler_scratch, &s->e->err);
    radar_profile_note(p, RADAR_PHASE_SAMPLE, began);
    radar_profile_end(p, 0);
    return st;
}

radar_status radar_step(radar_session *s, int32_t *token) {
    radar_status st;
    RADAR_TRY(st, radar_session_begin(s), fail);
    RADAR_TRY(st, settle(s), fail);
    if (!s->logits_valid) {
        st = radar_fail(&s->e->err, RADAR_ERR_USAGE,
                        "radar_step: nothing to continue; give a prompt of at least one token");
        goto fail;
    }
    RADAR_TRY(st, sample(s, token), fail);
    s->pending = *token;
    radar_report(s->e, "decode", s->position, s->kv.context);
fail:
    return st;
}

/* The logits of the last pass, as many rows at a time as the workspace holds; the last row is kept. */
static radar_status read_logits(radar_session *s, int rows, radar_logits_reader *each, void *user) {
    size_t vocab = (size_t)s->e->model->config.vocab;
    for (int first = 0, n; first < rows; first += n) {
        n = (int)radar_min64(s->e->ws.logit_rows, rows - first);
        radar_status st = head(s, first, n);
        if (st != RADAR_OK) return st;
        each(user, s->position - rows + first, n, s->e->ws.seen_logits);
        memcpy(s->logits, s->e->ws.seen_logits + (size_t)(n - 1) * vocab,
               vocab * sizeof *s->logits);
    }
    s->logits_valid = true;
    s->logits_elsewhere = false;
    return RADAR_OK;
}

/* Rows of one pass under the session's attention: in a q8 cache they begin within one block, where they read the same. */
static int rows_at(const radar_session *s, size_t left) {
    int64_t rows = radar_min64((int64_t)left, s->policy_rows);
    if (s->kv.type == RADAR_Q8) rows = radar_min64(rows, RADAR_BLOCK - s->position % RADAR_BLOCK);
    return (int)rows;
}

radar_status radar_score_each(radar_session *s, const int32_t *token, size_t n,
                              radar_logits_reader *each, void *user) {
    radar_status st;
    int rows = 0;
    RADAR_TRY(st, take_tokens(s, token, n), fail);
    RADAR_TRY(st, settle(s), fail);
    for (size_t done = 0; done < n; done += (size_t)rows) {
        rows = rows_at(s, n - done);
        const bool last = !each && done + (size_t)rows == n;
        RADAR_TRY(st, run_pass(s, token + done, rows, s->attention.policy, &s->counts, last), fail);
        if (each) RADAR_TRY(st, read_logits(s, rows, each, user), fail);
        radar_report(s->e, "score", (int64_t)done + rows, (int64_t)n);
    }
fail:
    return st;
}

typedef struct logits_copy {
    float *next;
    size_t vocab;
} logits_copy;

static void copy_logits(void *user, int64_t position, int n, const float *logits) {
    logits_copy *to = user;
    (void)position;
    memcpy(to->next, logits, (size_t)n * to->vocab * sizeof *logits);
    to->next += (size_t)n * to->vocab;
}

radar_status radar_score(radar_session *s, const int32_t *token, size_t n, float *logits) {
    logits_copy to = {logits, (size_t)s->e->model->config.vocab};
    return radar_score_each(s, token, n, logits ? copy_logits : NULL, &to);
}

/* ---- state ---- */

const float *radar_logits(radar_session *s) {
    return bring_logits(s) == RADAR_OK ? s->logits : NULL;
}
int64_t radar_position(const radar_session *s) { return s->position; }

/* Whether what the policy remembers can go back too.  What comes from the cache may reach beyond rows of another attention, so
 * state_position bounds it only where every row had to be seen. */
static bool rewind_state(radar_session *s, int64_t position) {
    if (!s->policy_state) return true;
    if (s->own_policy->sees_prompt && position >= s->state_position) return true;
    return s->own_policy->rewind(s->policy_state, position);
}

radar_status radar_rewind(radar_session *s, int64_t position) {
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    if (position < 0 || position > s->position)
        radar_fail(&s->e->err, RADAR_ERR_USAGE, "radar_rewind to %lld: must be from 0 to %lld",
                   (long long)position, (long long)s->position);
    else if (!rewind_state(s, position))
        radar_fail(&s->e->err, RADAR_ERR_CONFIG,
                   "radar_rewind to %lld: attention '%s' can only go back to where the prefill "
                   "ended, or to 0",
                   (long long)position, s->own_policy->name);
    st = agree_call(s, "position to rewind to", (uint64_t)position);
    if (st != RADAR_OK) return st;
    forget_from(s, position);
    s->position = position;
    s->state_position = radar_min64(s->state_position, position);
    s->pending = -1;
    s->logits_valid = false;
    return RADAR_OK;
}

radar_status radar_session_set_attention(radar_session *s, const char *attention) {
    const radar_policy *policy = NULL;
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    radar_attention_policy(&policy, attention, &s->e->err);
    if (policy && policy != s->own_policy && (policy->needs_summaries || policy->open))
        radar_fail(&s->e->err, RADAR_ERR_CONFIG,
                   "attention '%s': the session was opened for '%s'; open or reconfigure it with "
                   "this attention",
                   attention, s->own_policy->name);
    else if (policy && policy->sees_prompt && s->state_position != s->position)
        radar_fail(&s->e->err, RADAR_ERR_CONFIG,
                   "attention '%s' has not seen positions %lld to %lld; rewind to before them",
                   attention, (long long)s->state_position, (long long)s->position - 1);
    st = agree_call(s, "attention", policy ? XXH3_64bits(policy->name, strlen(policy->name)) : 0);
    if (st != RADAR_OK) return st;
    s->attention.policy = policy;
    radar_session_count_anew(s, &s->counts);
    /* another policy finds no traces of this one */
    memset(s->plan.scratch, 0, s->plan.scratch_bytes);
    s->e->be->ops->clear(s->e->be, s->plan.memory, s->plan.memory_bytes);
    s->plan.cut = 0;
    return RADAR_OK;
}

/* ---- figures ---- */

void radar_session_count_anew(radar_session *s, radar_counts *counts) {
    *counts = (radar_counts){.listed = s->listed + (counts == &s->prefilled)};
    s->e->be->ops->clear(s->e->be, counts->listed, sizeof *counts->listed);
}

typedef struct rank_figures {
    uint64_t kv_bytes, summary_bytes;
    int64_t segments_scored, scored_bytes, attended_tokens, prefill_attended;
} rank_figures;

radar_status radar_stats(radar_session *s, radar_session_stats *stats) {
    rank_figures all[RADAR_MAX_SHARDS];
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    radar_comm *c = s->e->comm;
    const radar_counts *own = &s->counts;
    int64_t listed[2];
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    s->e->be->ops->fetch(s->e->be, listed, s->listed, sizeof listed);
    st = radar_device_wait(s->e, &s->e->err);
    if (st != RADAR_OK) return st;
    all[c->rank] = (rank_figures){s->kv.bytes,
                                  s->kv.summary_bytes,
                                  own->segments_scored,
                                  own->scored_bytes,
                                  own->attended_tokens + listed[0] * RADAR_SEGMENT,
                                  s->prefilled.attended_tokens + listed[1] * RADAR_SEGMENT};
    for (int r = 0; r < c->size; r++)
        bytes[r] = sizeof all[0], offset[r] = (size_t)r * sizeof all[0];
    st = radar_gather(c, RADAR_X_SETUP, all, bytes, offset, &s->e->err);
    if (st != RADAR_OK) return st;
    radar_session_stats sum = {
        .size = stats->size, .context = s->kv.context, .position = s->position, .ranks = c->size};
    int64_t attended = 0, prefill_attended = 0,
            layer_heads = (int64_t)s->kv.layers * s->kv.kv_heads;
    for (int r = 0; r < c->size; r++) {
        s->rank_bytes[r] = all[r].kv_bytes;
        s->rank_bytes[RADAR_MAX_SHARDS + r] = all[r].summary_bytes;
        sum.segments_scored += all[r].segments_scored;
        sum.scored_bytes += all[r].scored_bytes;
        attended += all[r].attended_tokens;
        prefill_attended += all[r].prefill_attended;
    }
    sum.kv_bytes = s->rank_bytes;
    sum.summary_bytes = s->rank_bytes + RADAR_MAX_SHARDS;
    sum.steps = own->rows / layer_heads;
    sum.attended_tokens_mean = own->rows ? (double)attended / (double)own->rows : 0;
    if (s->prefilled.rows)
        sum.prefill_attended_tokens_mean = (double)prefill_attended / (double)s->prefilled.rows;
    sum.coverage_mean = own->coverages ? own->coverage_sum / (double)own->coverages : 1;
    sum.coverage_min = own->coverages ? own->coverage_min : 1;
    sum.candidate_shards = own->candidate_shards;
    for (int x = 0; x < RADAR_X_COUNT; x++) {
        sum.exchange_s += c->stats[x].seconds;
        sum.exchange_bytes += (double)c->stats[x].bytes;
    }
    memcpy(stats, &sum, stats->size < sizeof sum ? stats->size : sizeof sum);
    return RADAR_OK;
}
