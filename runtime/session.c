/* A sequence on an engine: its cache, its attention, its sampler; prefill, steps and scoring are calls of one forward pass. */
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/engine.h"
#include "runtime/sys.h"

/* Scratch and lists of one pass under the session's own attention: as many rows at once as fit here, at most MOST_ROWS. */
#define PLAN_BYTES ((size_t)48 << 20)
#define MOST_ROWS 64

/* ---- opening ---- */

static radar_status parse_kv_type(radar_dtype *type, const char *name, radar_error *err) {
    static const struct {
        const char *name;
        radar_dtype type;
    } known[] = {{"f16", RADAR_F16}, {"f32", RADAR_F32}, {"bf16", RADAR_BF16}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (name && strcmp(name, known[i].name) == 0) {
            *type = known[i].type;
            return RADAR_OK;
        }
    bool later = name && (strcmp(name, "q8") == 0 || strcmp(name, "fp8") == 0);
    return radar_fail(err, later ? RADAR_ERR_CONFIG : RADAR_ERR_USAGE,
                      "--kv-type '%s': %s; use f16, f32 or bf16", name ? name : "",
                      later ? "not in this build" : "not known");
}

static radar_status plan_cache(radar_session *s, const radar_session_options *opt,
                               radar_error *err) {
    const radar_model_config *c = &s->e->model->config;
    int64_t context = opt->context == 0 ? c->context : opt->context;
    if (context < 1 || context > ((int64_t)1 << 34))
        return radar_fail(err, RADAR_ERR_USAGE, "--ctx %lld: must be from 1 to 2^34 tokens",
                          (long long)context);
    s->kv =
        (radar_kvcache){.be = s->e->be,
                        .layout = s->e->layout,
                        .rank = s->e->comm->rank,
                        .layers = c->n_layers,
                        .kv_heads = c->n_kv_heads,
                        .D = c->head_dim,
                        .block_bytes = s->attention.scorer ? s->attention.scorer->block_bytes : 0,
                        .context = context};
    radar_status st = parse_kv_type(&s->kv.type, opt->kv_type, err);
    if (st == RADAR_OK) st = radar_kvcache_plan(&s->kv, err);
    if (st == RADAR_OK) s->attention.max_keep = radar_attention_keep(&s->attention, context - 1);
    return st;
}

static radar_status check_session(radar_session *s, const radar_session_options *opt,
                                  radar_error *err) {
    radar_status st;
    if (opt->size != sizeof *opt)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "radar_session_options.size is %zu, not %zu: set it to sizeof", opt->size,
                          sizeof *opt);
    if (opt->top_k < 0 || opt->top_k > INT32_MAX)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--top-k %lld: must be 0 (all) or a positive number",
                          (long long)opt->top_k);
    s->sampler = (radar_sampler_options){.temperature = opt->temperature,
                                         .top_k = (int)opt->top_k,
                                         .top_p = opt->top_p,
                                         .min_p = opt->min_p,
                                         .seed = opt->seed};
    RADAR_TRY(st, radar_sampler_check(&s->sampler, err), fail);
    RADAR_TRY(
        st,
        radar_attention_open(&s->attention, opt, s->e->model->config.head_dim, s->e->opt.isa, err),
        fail);
    RADAR_TRY(st, plan_cache(s, opt, err), fail);
fail:
    return st;
}

static uint64_t session_hash(const radar_session_options *opt) {
    char text[512];
    int n = snprintf(
        text, sizeof text,
        "%lld|%s|%s|%s|%lld|%lld|%lld|%lld|%lld|%s|%s|%s|%lld|%s|%llu|%llu|%a|%lld|%a|%a",
        (long long)opt->context, opt->kv_type, opt->attention, opt->scorer, (long long)opt->budget,
        (long long)opt->segments, (long long)opt->dense_below, (long long)opt->window,
        (long long)opt->sinks, opt->share, opt->pick, opt->select, (long long)opt->rf_features,
        opt->rf_form, (unsigned long long)opt->scorer_seed, (unsigned long long)opt->seed,
        opt->temperature, (long long)opt->top_k, opt->top_p, opt->min_p);
    return XXH3_64bits(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* What the ranks of one machine want together, against what that machine has: refused before anything is reserved. */
static radar_status check_memory(radar_session *s, radar_error *err) {
    typedef struct want {
        uint64_t host, bytes, available;
    } want;
    want all[RADAR_MAX_SHARDS];
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    char host[256] = "";
    radar_comm *c = s->e->comm;
    radar_host_name(host, sizeof host);
    all[c->rank] = (want){XXH3_64bits(host, strlen(host)), s->kv.bytes + s->kv.summary_bytes,
                          radar_memory_available()};
    for (int r = 0; r < c->size; r++) bytes[r] = sizeof(want), offset[r] = (size_t)r * sizeof(want);
    radar_status st = radar_gather(c, RADAR_X_SETUP, all, bytes, offset, err);
    if (st != RADAR_OK) return st;
    uint64_t wanted = 0, available = all[c->rank].available;
    for (int r = 0; r < c->size; r++) wanted += all[r].host == all[c->rank].host ? all[r].bytes : 0;
    if (available == 0 || wanted <= available) return RADAR_OK;
    double per_token = (double)wanted / (double)s->kv.context;
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "KV cache of %lld tokens needs %.1f GB on this machine, %.1f GB are free: "
                      "use --ctx %lld or less, or more machines",
                      (long long)s->kv.context, (double)wanted * 1e-9, (double)available * 1e-9,
                      (long long)((double)available * 0.9 / per_token));
}

static size_t plan_bytes(const radar_plan *p) {
    return (size_t)p->max_tasks * sizeof *p->task + p->max_items * sizeof *p->item +
           (size_t)p->max_missed * sizeof *p->missed + p->scratch_bytes;
}

static void enlarge(radar_plan *plan, const radar_plan *need) {
    if (need->max_tasks > plan->max_tasks) plan->max_tasks = need->max_tasks;
    if (need->max_items > plan->max_items) plan->max_items = need->max_items;
    if (need->max_missed > plan->max_missed) plan->max_missed = need->max_missed;
    if (need->scratch_bytes > plan->scratch_bytes) plan->scratch_bytes = need->scratch_bytes;
}

/* Ranks own different shares of the context, but all must cut their passes alike: what counts is the rank that needs most. */
static bool fits_every_rank(const radar_session *s, int rows) {
    for (int rank = 0; rank < s->e->comm->size; rank++) {
        radar_kvcache shape = s->kv;
        radar_plan need;
        shape.rank = rank;
        if (radar_kvcache_plan(&shape, NULL) != RADAR_OK) return false;
        s->attention.policy->room(&shape, &s->attention, s->e->model->config.n_heads, rows, &need);
        if (plan_bytes(&need) > PLAN_BYTES) return false;
    }
    return true;
}

/* Room for every policy this session can be set to: its own and those without summaries. */
static void size_plan(radar_session *s) {
    radar_plan need;
    int n_heads = s->e->model->config.n_heads, block_rows = s->e->ws.block_rows;
    s->policy_rows = MOST_ROWS < block_rows ? MOST_ROWS : block_rows;
    while (s->policy_rows > 1 && !fits_every_rank(s, s->policy_rows)) s->policy_rows /= 2;
    for (const radar_policy *const *p = radar_policies; *p; p++) {
        if ((*p)->needs_summaries && *p != s->attention.policy) continue;
        (*p)->room(&s->kv, &s->attention, n_heads,
                   *p == &radar_policy_dense ? block_rows : s->policy_rows, &need);
        enlarge(&s->plan, &need);
    }
}

static radar_status reserve(radar_session *s, radar_error *err) {
    radar_plan *p = &s->plan;
    size_plan(s);
    p->task = radar_alloc_array((size_t)p->max_tasks, sizeof *p->task);
    p->item = radar_alloc_array(p->max_items, sizeof *p->item);
    p->missed = radar_alloc_array((size_t)p->max_missed + 1, sizeof *p->missed);
    p->scratch = radar_alloc(p->scratch_bytes + 64);
    s->blocks = radar_alloc_array((size_t)(s->kv.rank_tokens / RADAR_BLOCK) + 1, sizeof *s->blocks);
    s->logits = radar_alloc_array((size_t)s->e->model->config.vocab, sizeof *s->logits);
    s->sampler_scratch = radar_alloc(radar_sampler_scratch(s->e->model->config.vocab));
    s->rank_bytes = radar_alloc_array(2 * RADAR_MAX_SHARDS, sizeof *s->rank_bytes);
    if (!p->task || !p->item || !p->missed || !p->scratch || !s->blocks || !s->logits ||
        !s->sampler_scratch || !s->rank_bytes)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "session: no memory for its lists; use a smaller --ctx");
    return radar_kvcache_open(&s->kv, err);
}

radar_status radar_session_open(radar_session **out, radar_engine *e,
                                const radar_session_options *opt) {
    radar_status st;
    radar_session *s = radar_alloc(sizeof *s);
    *out = NULL;
    e->err = (radar_error){0};
    if (s) {
        s->e = e;
        s->pending = -1;
        check_session(s, opt, &e->err);
    } else {
        radar_fail(&e->err, RADAR_ERR_MEMORY, "session: no memory");
    }
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    RADAR_TRY(st, radar_agree_same(e->comm, "session options", session_hash(opt), &e->err), fail);
    check_memory(s, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    reserve(s, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    *out = s;
    return RADAR_OK;
fail:
    radar_session_close(s);
    return st;
}

void radar_session_close(radar_session *s) {
    if (!s) return;
    radar_kvcache_close(&s->kv);
    radar_attention_close(&s->attention);
    radar_free(s->plan.task);
    radar_free(s->plan.item);
    radar_free(s->plan.missed);
    radar_free(s->plan.scratch);
    radar_free(s->blocks);
    radar_free(s->logits);
    radar_free(s->sampler_scratch);
    radar_free(s->rank_bytes);
    radar_free(s);
}

/* ---- tokens in ---- */

static radar_status begin_call(radar_session *s) {
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
    radar_status st = begin_call(s);
    if (st != RADAR_OK) return st;
    check_tokens(s, token, n, s->pending >= 0);
    const uint64_t state[] = {(uint64_t)s->position, (uint64_t)s->pending, n,
                              XXH3_64bits(n ? token : (const int32_t *)"", n * sizeof *token)};
    return agree_call(s, "tokens, or their position", XXH3_64bits(state, sizeof state));
}

/* One pass; the cache counts its tokens only when every rank has finished it. */
static radar_status run_pass(radar_session *s, const int32_t *token, int n,
                             const radar_policy *policy, radar_counts *counts) {
    const radar_batch batch = {s, token, s->position, n, policy, counts};
    radar_status st = radar_forward(s->e, &batch, 1);
    if (st == RADAR_OK)
        s->position += n;
    else if (st != RADAR_ERR_STOPPED)
        s->broken = true;
    s->logits_valid = false;
    return st;
}

static radar_status last_logits(radar_session *s, int row) {
    radar_status st = radar_head(s->e, row, 1);
    if (st != RADAR_OK) {
        s->broken = true;
        return st;
    }
    memcpy(s->logits, s->e->ws.logits, (size_t)s->e->model->config.vocab * sizeof *s->logits);
    s->logits_valid = true;
    return RADAR_OK;
}

/* A sampled token that no pass has seen yet is computed before anything that follows it. */
static radar_status settle(radar_session *s) {
    if (s->pending < 0) return RADAR_OK;
    int32_t token = s->pending;
    radar_status st = check_tokens(s, &token, 1, 0);
    if (st == RADAR_OK) st = run_pass(s, &token, 1, s->attention.policy, &s->counts);
    if (st == RADAR_OK) {
        s->pending = -1;
        st = last_logits(s, 0);
    }
    return st;
}

/* Prefill's chunks end at absolute multiples of the chunk size, also after a resume: the same passes whatever was there before. */
static int chunk_at(const radar_session *s, size_t left) {
    int64_t chunk = s->e->opt.chunk;
    return (int)radar_min64((int64_t)left, chunk - s->position % chunk);
}

radar_status radar_prefill(radar_session *s, const int32_t *token, size_t n) {
    radar_status st;
    int rows = 0;
    RADAR_TRY(st, take_tokens(s, token, n), fail);
    RADAR_TRY(st, settle(s), fail);
    for (size_t done = 0; done < n; done += (size_t)rows) {
        rows = chunk_at(s, n - done);
        RADAR_TRY(st, run_pass(s, token + done, rows, &radar_policy_dense, NULL), fail);
        radar_report(s->e, "prefill", (int64_t)done + rows, (int64_t)n);
    }
    if (n > 0) st = last_logits(s, rows - 1);
fail:
    return st;
}

radar_status radar_step(radar_session *s, int32_t *token) {
    radar_status st;
    RADAR_TRY(st, begin_call(s), fail);
    RADAR_TRY(st, settle(s), fail);
    if (!s->logits_valid) {
        st = radar_fail(&s->e->err, RADAR_ERR_USAGE,
                        "radar_step: nothing to continue; give a prompt of at least one token");
        goto fail;
    }
    RADAR_TRY(st,
              radar_sample(token, &s->sampler, s->position, s->logits, s->e->model->config.vocab,
                           s->sampler_scratch, &s->e->err),
              fail);
    s->pending = *token;
    radar_report(s->e, "decode", s->position, s->kv.context);
fail:
    return st;
}

static radar_status copy_logits(radar_session *s, int rows, float *out) {
    size_t vocab = (size_t)s->e->model->config.vocab;
    for (int first = 0; first < rows; first += s->e->ws.logit_rows) {
        int n = (int)radar_min64(s->e->ws.logit_rows, rows - first);
        radar_status st = radar_head(s->e, first, n);
        if (st != RADAR_OK) {
            s->broken = true;
            return st;
        }
        memcpy(out + (size_t)first * vocab, s->e->ws.logits, (size_t)n * vocab * sizeof *out);
    }
    return RADAR_OK;
}

radar_status radar_score(radar_session *s, const int32_t *token, size_t n, float *logits) {
    radar_status st;
    size_t vocab = (size_t)s->e->model->config.vocab;
    int rows = 0;
    RADAR_TRY(st, take_tokens(s, token, n), fail);
    RADAR_TRY(st, settle(s), fail);
    for (size_t done = 0; done < n; done += (size_t)rows) {
        rows = (int)radar_min64((int64_t)(n - done), s->policy_rows);
        RADAR_TRY(st, run_pass(s, token + done, rows, s->attention.policy, &s->counts), fail);
        if (logits) RADAR_TRY(st, copy_logits(s, rows, logits + done * vocab), fail);
        radar_report(s->e, "score", (int64_t)done + rows, (int64_t)n);
    }
    if (n > 0 && !logits) st = last_logits(s, rows - 1);
    if (n > 0 && logits) {
        memcpy(s->logits, logits + (n - 1) * vocab, vocab * sizeof *logits);
        s->logits_valid = true;
    }
fail:
    return st;
}

/* ---- state ---- */

const float *radar_logits(const radar_session *s) { return s->logits; }
int64_t radar_position(const radar_session *s) { return s->position; }

radar_status radar_rewind(radar_session *s, int64_t position) {
    radar_status st = begin_call(s);
    if (st != RADAR_OK) return st;
    if (position < 0 || position > s->position)
        radar_fail(&s->e->err, RADAR_ERR_USAGE, "radar_rewind to %lld: must be from 0 to %lld",
                   (long long)position, (long long)s->position);
    st = agree_call(s, "position to rewind to", (uint64_t)position);
    if (st != RADAR_OK) return st;
    radar_kvcache_truncate(&s->kv, position, s->attention.window);
    s->position = position;
    s->pending = -1;
    s->logits_valid = false;
    return RADAR_OK;
}

radar_status radar_session_set_attention(radar_session *s, const char *attention) {
    const radar_policy *policy = NULL;
    radar_status st = begin_call(s);
    if (st != RADAR_OK) return st;
    radar_attention_policy(&policy, attention, &s->e->err);
    if (policy && policy->needs_summaries && !s->attention.scorer)
        radar_fail(
            &s->e->err, RADAR_ERR_CONFIG,
            "attention '%s': the session was opened without summaries; open it with this attention",
            attention);
    st = agree_call(s, "attention", policy ? XXH3_64bits(policy->name, strlen(policy->name)) : 0);
    if (st != RADAR_OK) return st;
    s->attention.policy = policy;
    s->counts = (radar_counts){0};
    return RADAR_OK;
}

/* ---- figures ---- */

typedef struct rank_figures {
    uint64_t kv_bytes, summary_bytes;
    int64_t segments_scored, attended_tokens;
} rank_figures;

radar_status radar_stats(radar_session *s, radar_session_stats *stats) {
    rank_figures all[RADAR_MAX_SHARDS];
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    radar_comm *c = s->e->comm;
    const radar_counts *own = &s->counts;
    radar_status st = begin_call(s);
    if (st != RADAR_OK) return st;
    all[c->rank] = (rank_figures){s->kv.bytes, s->kv.summary_bytes, own->segments_scored,
                                  own->attended_tokens};
    for (int r = 0; r < c->size; r++)
        bytes[r] = sizeof all[0], offset[r] = (size_t)r * sizeof all[0];
    st = radar_gather(c, RADAR_X_SETUP, all, bytes, offset, &s->e->err);
    if (st != RADAR_OK) return st;
    radar_session_stats sum = {
        .size = stats->size, .context = s->kv.context, .position = s->position, .ranks = c->size};
    int64_t attended = 0, layer_heads = (int64_t)s->kv.layers * s->kv.kv_heads;
    for (int r = 0; r < c->size; r++) {
        s->rank_bytes[r] = all[r].kv_bytes;
        s->rank_bytes[RADAR_MAX_SHARDS + r] = all[r].summary_bytes;
        sum.segments_scored += all[r].segments_scored;
        attended += all[r].attended_tokens;
    }
    sum.kv_bytes = s->rank_bytes;
    sum.summary_bytes = s->rank_bytes + RADAR_MAX_SHARDS;
    sum.steps = own->rows / layer_heads;
    sum.attended_tokens_mean = own->rows ? (double)attended / (double)own->rows : 0;
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
