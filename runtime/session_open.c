/* Opens a session, and gives an open one another attention: options are checked, agreed on and paid for in memory before
 * anything is kept. */
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/device.h"
#include "runtime/sys.h"

/* Scratch and lists of one pass under the session's own attention: as many rows at once as fit here, at most MOST_ROWS. */
#define PLAN_BYTES ((size_t)48 << 20)
#define MOST_ROWS 64

/* ---- options ---- */

static radar_status parse_kv_type(radar_dtype *type, const char *name, const radar_engine *e,
                                  radar_error *err) {
    if (name && strcmp(name, "auto") == 0) name = radar_on_device(e) ? "bf16" : "f16";
    static const struct {
        const char *name;
        radar_dtype type;
    } known[] = {{"f16", RADAR_F16},
                 {"f32", RADAR_F32},
                 {"bf16", RADAR_BF16},
                 {"q8", RADAR_Q8},
                 {"fp8", RADAR_FP8}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (name && strcmp(name, known[i].name) == 0) {
            *type = known[i].type;
            return RADAR_OK;
        }
    return radar_fail(err, RADAR_ERR_USAGE,
                      "--kv-type '%s': not known; use auto, f16, f32, bf16, q8 (CPU) or fp8 (CUDA)",
                      name ? name : "");
}

static void size_plan(radar_session *s);

/* A planner has no backend to ask. */
static radar_status check_backend(const radar_session *s, radar_error *err) {
    const radar_attention *a = &s->attention;
    const radar_model_config *c = &s->e->model->config;
    char inside[32];
    radar_needs needs = {.kv_type = s->kv.type,
                         .D = s->kv.D,
                         .group = c->n_heads / c->n_kv_heads,
                         .scorer = a->scorer,
                         .finest = a->exact,
                         .pick = a->pick};
    if (!s->e->be) return RADAR_OK;
    snprintf(inside, sizeof inside, "attention '%s'", s->own_policy->name);
    if (s->own_policy->open) needs.inside = inside;
    return s->e->be->ops->check(s->e->be, &needs, err);
}

/* The cache and the lists that the session's attention asks for, in shape and bytes; nothing is reserved. */
radar_status radar_session_reshape(radar_session *s, radar_error *err) {
    const radar_scorer *scorer = s->attention.scorer;
    radar_status st = radar_attention_fit(&s->attention, &s->kv.layout, err);
    if (st != RADAR_OK) return st;
    if (scorer && scorer->kind->reads_packed && s->kv.type != RADAR_Q8)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "scorer '%s': reads the packed keys of a q8 cache; use --kv-type q8",
                          scorer->kind->name);
    s->kv.block_bytes = scorer ? scorer->block_bytes : 0;
    s->kv.levels = 0;
    if (scorer && scorer->kind->merge)
        s->kv.levels =
            __builtin_ctz((unsigned)radar_attention_unit(&s->attention, s->kv.context - 1));
    s->attention.max_keep = radar_attention_most_keep(&s->attention, s->kv.context);
    s->plan = (radar_plan){0};
    /* the best of all ranks are merged in lists that are counted in 32 bits */
    if (s->attention.max_keep > INT32_MAX / s->kv.layout.ranks)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "--budget: %lld segments of each of %d ranks; use a --budget of %lld "
                          "tokens or less",
                          (long long)s->attention.max_keep, s->kv.layout.ranks,
                          (long long)INT32_MAX / s->kv.layout.ranks * RADAR_SEGMENT);
    const radar_policy_shape shape = {&s->kv, &s->attention, s->e->model->config.n_heads};
    if (s->own_policy->check) st = s->own_policy->check(&shape, err);
    if (st == RADAR_OK) st = check_backend(s, err);
    if (st == RADAR_OK) st = radar_kvcache_plan(&s->kv, err);
    if (st == RADAR_OK) size_plan(s);
    return st;
}

static radar_status shape_cache(radar_session *s, const radar_session_options *opt,
                                radar_error *err) {
    const radar_model_config *c = &s->e->model->config;
    int64_t context = opt->context == 0 ? c->context : opt->context;
    if (context < 1 || context > ((int64_t)1 << 34))
        return radar_fail(err, RADAR_ERR_USAGE, "--ctx %lld: must be from 1 to 2^34 tokens",
                          (long long)context);
    s->kv = (radar_kvcache){.be = s->e->be,
                            .layout = s->e->layout,
                            .rank = s->e->comm->rank,
                            .layers = c->n_layers,
                            .kv_heads = c->n_kv_heads,
                            .D = c->head_dim,
                            .context = context,
                            .pass_rows = radar_pass_rows(s->e)};
    radar_status st = parse_kv_type(&s->kv.type, opt->kv_type, s->e, err);
    if (st == RADAR_OK && s->kv.type == RADAR_Q8 && s->kv.D % RADAR_SEGMENT)
        st =
            radar_fail(err, RADAR_ERR_CONFIG,
                       "--kv-type q8: heads of %d numbers, not a multiple of %d; use --kv-type f16",
                       s->kv.D, RADAR_SEGMENT);
    return st;
}

/* Sampler and attention as opt says. */
static radar_status take_options(radar_session *s, const radar_session_options *opt,
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
    s->own_policy = s->attention.policy;
fail:
    return st;
}

static uint64_t session_hash(const radar_session_options *opt) {
    char text[640];
    int n = snprintf(text, sizeof text,
                     "%lld|%s|%s|%s|%lld|%lld|%lld|%lld|%lld|%lld|%s|%s|%s|%lld|%s|%s|%lld|%lld|%"
                     "lld|%s|%d|%a|%d|%lld|%llu|"
                     "%llu|%a|%lld|%a|%a",
                     (long long)opt->context, opt->kv_type, opt->attention, opt->scorer,
                     (long long)opt->budget, (long long)opt->segments, (long long)opt->segment,
                     (long long)opt->dense_below, (long long)opt->window, (long long)opt->sinks,
                     opt->share, opt->pick, opt->select, (long long)opt->sketch_bits, opt->scan,
                     opt->prefill, (long long)opt->dense_prefill, (long long)opt->outliers,
                     (long long)opt->rf_features, opt->rf_form, opt->rf_center, opt->rf_temper,
                     opt->restream, (long long)opt->observe, (unsigned long long)opt->scorer_seed,
                     (unsigned long long)opt->seed, opt->temperature, (long long)opt->top_k,
                     opt->top_p, opt->min_p);
    return XXH3_64bits(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* ---- memory ---- */

static size_t plan_bytes(const radar_plan *p) {
    return (size_t)p->max_tasks * sizeof *p->task + p->max_items * sizeof *p->item +
           (size_t)p->max_missed * sizeof *p->missed + (size_t)p->max_folds * sizeof *p->fold +
           p->scratch_bytes + p->memory_bytes + p->packet_bytes;
}

static void enlarge(radar_plan *plan, const radar_plan *need) {
    if (need->max_tasks > plan->max_tasks) plan->max_tasks = need->max_tasks;
    if (need->max_items > plan->max_items) plan->max_items = need->max_items;
    if (need->max_missed > plan->max_missed) plan->max_missed = need->max_missed;
    if (need->max_folds > plan->max_folds) plan->max_folds = need->max_folds;
    if (need->scratch_bytes > plan->scratch_bytes) plan->scratch_bytes = need->scratch_bytes;
    if (need->memory_bytes > plan->memory_bytes) plan->memory_bytes = need->memory_bytes;
    if (need->packet_bytes > plan->packet_bytes) plan->packet_bytes = need->packet_bytes;
}

/* What a policy needs for `rows` rows of a batch, of which it sees at most its own number at once. */
static radar_plan room_of(const radar_policy *p, const radar_session *s, const radar_kvcache *kv,
                          int rows) {
    radar_plan need = {0};
    if (p->most_rows && rows > p->most_rows) rows = p->most_rows;
    p->room(kv, &s->attention, s->e->model->config.n_heads, rows, &need);
    return need;
}

/* Ranks own different shares of the context, but all must cut their passes alike: what counts is the rank that needs most. */
static bool fits_every_rank(const radar_session *s, const radar_policy *p, int rows) {
    for (int rank = 0; rank < s->e->comm->size; rank++) {
        radar_kvcache shape = s->kv;
        shape.rank = rank;
        if (radar_kvcache_plan(&shape, NULL) != RADAR_OK) return false;
        radar_plan need = room_of(p, s, &shape, rows);
        if (plan_bytes(&need) > PLAN_BYTES) return false;
    }
    return true;
}

/* Rows of one select of sparse prefill: as many whole blocks as fit; one block always does. */
static void size_prefill(radar_session *s) {
    int blocks = s->e->ws.block_rows / RADAR_PREFILL_BLOCK;
    s->prefill_rows = 0;
    if (!s->attention.sparse_prefill) return;
    while (blocks > 1 && !fits_every_rank(s, &radar_policy_prefill, blocks * RADAR_PREFILL_BLOCK))
        blocks /= 2;
    s->prefill_rows = (blocks > 1 ? blocks : 1) * RADAR_PREFILL_BLOCK;
    radar_plan need = room_of(&radar_policy_prefill, s, &s->kv, s->prefill_rows);
    enlarge(&s->plan, &need);
}

/* Room for every policy this session can be set to: its own and those that need nothing but the cache. */
static void size_plan(radar_session *s) {
    int block_rows = s->e->ws.block_rows;
    s->policy_rows = MOST_ROWS < block_rows ? MOST_ROWS : block_rows;
    while (s->policy_rows > 1 && !fits_every_rank(s, s->own_policy, s->policy_rows))
        s->policy_rows /= 2;
    for (const radar_policy *const *p = radar_policies; *p; p++) {
        if (*p != s->own_policy && ((*p)->needs_summaries || (*p)->open)) continue;
        radar_plan need =
            room_of(*p, s, &s->kv, *p == &radar_policy_dense ? block_rows : s->policy_rows);
        enlarge(&s->plan, &need);
    }
    size_prefill(s);
}

/* Items of all segments of the longest own shard, on the device; NULL: no memory. */
static radar_item *list_every(const radar_session *s) {
    radar_backend *be = s->e->be;
    const size_t n = radar_most_segments(&s->kv);
    radar_item *list = radar_alloc_array(n + 1, sizeof *list),
               *device = list ? be->ops->alloc(be, (n + 1) * sizeof *list) : NULL;
    for (size_t i = 0; device && i < n; i++) list[i] = (radar_item){(int32_t)i, 0xffff};
    if (device) be->ops->upload(be, device, list, n * sizeof *list);
    radar_free(list);
    return device;
}

static radar_status adopt_scorers(radar_session *s, radar_error *err) {
    radar_backend *be = s->e->be;
    radar_scorer *const all[] = {s->attention.scorer, s->attention.exact};
    radar_status st = RADAR_OK;
    for (int i = 0; i < 2 && st == RADAR_OK; i++)
        if (all[i]) st = be->ops->adopt(be, all[i], err);
    return st;
}

static void forget_scorers(radar_session *s) {
    radar_backend *be = s->e->be;
    radar_scorer *const all[] = {s->attention.scorer, s->attention.exact};
    for (int i = 0; i < 2; i++)
        if (all[i]) be->ops->forget(be, all[i]);
}

/* What the attention needs beside the cache: lists, scratch and the policy's memory. */
static radar_status reserve_attention(radar_session *s, radar_error *err) {
    radar_backend *be = s->e->be;
    radar_plan *p = &s->plan;
    p->task = radar_alloc_array((size_t)p->max_tasks, sizeof *p->task);
    p->item = radar_alloc_array(p->max_items, sizeof *p->item);
    p->missed = radar_alloc_array((size_t)p->max_missed + 1, sizeof *p->missed);
    p->fold = radar_alloc_array((size_t)p->max_folds + 1, sizeof *p->fold);
    p->scratch = radar_alloc(p->scratch_bytes + 64);
    p->memory = be->ops->alloc(be, p->memory_bytes + 64);
    p->packet = radar_comm_alloc(s->e->comm, p->packet_bytes + 64);
    p->every = list_every(s);
    if (!p->task || !p->item || !p->missed || !p->fold || !p->scratch || !p->memory || !p->packet ||
        !p->every)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "session: no memory for its lists; use a smaller --ctx");
    radar_status st = adopt_scorers(s, err);
    if (st != RADAR_OK || !s->own_policy->open) return st;
    const radar_policy_shape shape = {&s->kv, &s->attention, s->e->model->config.n_heads};
    return s->own_policy->open(&s->policy_state, &shape, err);
}

static radar_status reserve(radar_session *s, radar_error *err) {
    const radar_model_config *c = &s->e->model->config;
    /* first, whatever comes of the rest: all ranks take what is exchanged together */
    radar_status st = reserve_attention(s, err);
    s->listed = s->e->be->ops->alloc(s->e->be, 2 * sizeof *s->listed);
    s->draw = s->e->be->ops->alloc(s->e->be, sizeof *s->draw);
    s->logits = radar_alloc_array((size_t)s->e->model->config.vocab, sizeof *s->logits);
    s->sampler_scratch = radar_alloc(radar_sampler_scratch(s->e->model->config.vocab));
    s->rank_bytes = radar_alloc_array(2 * RADAR_MAX_SHARDS, sizeof *s->rank_bytes);
    s->rope_frequency = radar_alloc_array((size_t)c->rotary / 2, sizeof *s->rope_frequency);
    if (!s->listed || !s->draw || !s->logits || !s->sampler_scratch || !s->rank_bytes ||
        !s->rope_frequency)
        st = radar_fail(err, RADAR_ERR_MEMORY, "session: no memory");
    if (st != RADAR_OK) return st;
    s->rope = (radar_rope){s->rope_frequency, c->rotary, c->rope_style,
                           radar_rope_session(s->rope_frequency, s->e->model, s->kv.context)};
    RADAR_TRY(st, radar_kvcache_open(&s->kv, err), fail);
    radar_session_count_anew(s, &s->counts);
    radar_session_count_anew(s, &s->prefilled);
fail:
    return st;
}

/* ---- a session ---- */

static void release_attention(radar_session *s) {
    if (s->own_policy && s->own_policy->close) s->own_policy->close(s->policy_state);
    forget_scorers(s);
    radar_attention_close(&s->attention);
    radar_free(s->plan.task);
    radar_free(s->plan.item);
    radar_free(s->plan.missed);
    radar_free(s->plan.fold);
    radar_free(s->plan.scratch);
    s->e->be->ops->release(s->e->be, s->plan.memory);
    s->e->be->ops->release(s->e->be, s->plan.every);
    radar_comm_release(s->e->comm, s->plan.packet);
    s->plan = (radar_plan){0};
    s->policy_state = NULL;
}

radar_status radar_session_shape(radar_session *s, const radar_session_options *opt,
                                 radar_error *err) {
    radar_status st;
    RADAR_TRY(st, take_options(s, opt, err), fail);
    RADAR_TRY(st, shape_cache(s, opt, err), fail);
    RADAR_TRY(st, radar_session_reshape(s, err), fail);
fail:
    return st;
}

void radar_session_unshape(radar_session *s) { radar_attention_close(&s->attention); }

radar_status radar_session_open(radar_session **out, radar_engine *e,
                                const radar_session_options *opt) {
    radar_status st;
    radar_rank_memory own, none = {0};
    radar_session *s = radar_alloc(sizeof *s);
    *out = NULL;
    e->err = (radar_error){0};
    if (s) {
        s->e = e;
        s->pending = -1;
        radar_session_shape(s, opt, &e->err);
    } else {
        radar_fail(&e->err, RADAR_ERR_MEMORY, "session: no memory");
    }
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    RADAR_TRY(st, radar_agree_same(e->comm, "session options", session_hash(opt), &e->err), fail);
    own = radar_session_memory(s);
    radar_session_check_memory(s, &own, &none, &e->err);
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
    if (s->e->logits_of == s) s->e->logits_of = NULL;
    radar_probe_close(s->probe);
    release_attention(s);
    radar_kvcache_close(&s->kv);
    s->e->be->ops->release(s->e->be, s->listed);
    s->e->be->ops->release(s->e->be, s->draw);
    radar_free(s->logits);
    radar_free(s->sampler_scratch);
    radar_free(s->rank_bytes);
    radar_free(s->rope_frequency);
    radar_free(s);
}

/* ---- another attention ---- */

/* What `next`, which shares the cache of s, wants; nothing is reserved yet. */
static radar_status prepare(radar_session *next, const radar_session_options *opt,
                            radar_error *err) {
    radar_status st;
    RADAR_TRY(st, take_options(next, opt, err), fail);
    if (next->own_policy->sees_prompt && next->position > 0) {
        st = radar_fail(err, RADAR_ERR_CONFIG,
                        "attention '%s' has to see the prompt: rewind to 0 before, or open a "
                        "session with it",
                        opt->attention);
        goto fail;
    }
    RADAR_TRY(st, radar_session_reshape(next, err), fail);
fail:
    return st;
}

static radar_status reserve_next(radar_session *next, radar_error *err) {
    radar_status st;
    RADAR_TRY(st, reserve_attention(next, err), fail);
    if (next->probe) RADAR_TRY(st, radar_probe_reserve(next->probe, &next->attention, err), fail);
    RADAR_TRY(st, radar_kvcache_open_summaries(&next->kv, err), fail);
fail:
    return st;
}

static void seal_all(radar_session *s) {
    for (int layer = 0; layer < s->kv.layers; layer++) {
        s->kv.sealed[layer] = 0;
        if (s->attention.scorer)
            radar_kvcache_seal(&s->kv, s->attention.scorer, layer, s->position,
                               s->attention.window);
    }
}

radar_status radar_session_reconfigure(radar_session *s, const radar_session_options *opt) {
    radar_engine *e = s->e;
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    radar_rank_memory own, held = {0};
    radar_session next = *s;
    next.plan = (radar_plan){0};
    next.attention = (radar_attention){0};
    next.own_policy = NULL;
    next.policy_state = NULL;
    next.kv.summary = NULL;
    prepare(&next, opt, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    RADAR_TRY(st, radar_agree_same(e->comm, "session options", session_hash(opt), &e->err), fail);
    own = radar_session_memory(&next);
    held.kv = own.kv;
    radar_session_check_memory(&next, &own, &held, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    reserve_next(&next, &e->err); /* s stays as it is until all ranks have what they need */
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    release_attention(s);
    radar_kvcache_close_summaries(&s->kv);
    *s = next;
    s->drawn.token = -1; /* by another sampler */
    radar_session_count_anew(s, &s->counts);
    s->state_position = s->own_policy->sees_prompt ? 0 : s->position;
    seal_all(s);
    return RADAR_OK;
fail:
    release_attention(&next);
    radar_kvcache_close_summaries(&next.kv);
    return st;
}
