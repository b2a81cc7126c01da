#include "runtime/probe.h"

#include <math.h>
#include <string.h>

#include <xxhash.h>

#include "kernels/merge.h"
#include "parallel/agree.h"
#include "runtime/device.h"
#include "runtime/policy/radar_work.h"
#include "runtime/sys.h"

struct radar_probe {
    radar_engine *e;
    radar_observer *each;
    void *user;
    int64_t every;
    radar_scorer *exact;
    size_t segments;          /* of the whole context, with every shard in whole stripes */
    int64_t *query_position;  /* [group] */
    float *q, *output;        /* [H, D] of one row */
    float *mass, *dense_mass; /* [block_rows, H], [H] */
    float *coverage;          /* [H], of the dense pass */
    char *query;              /* [H, query_bytes] as a scorer prepares them */
    size_t query_bytes;       /* of one, at most */
    float *packet;            /* [3, H, segments], shard by shard */
    float *truth, *estimate;  /* [H, candidates] in the order of positions */
    unsigned char *chosen;    /* [H, candidates] */
    uint64_t *key;            /* [segments] */
    radar_topk_range *range;  /* [N] */
    radar_score_task *task;   /* [G, own shards] */
};

/* What one row could choose from, and where the masses of each shard lie in the packet. */
typedef struct candidates {
    int64_t begin, end; /* global segments of 16 tokens, whole units */
    int32_t unit;       /* of them that are scored and chosen as one */
    int64_t keep;       /* units */
    int64_t first[RADAR_MAX_SHARDS], n[RADAR_MAX_SHARDS]; /* storage segments of every shard */
    bool progressive;
    /* floats: true masses [H, n] of segments, then estimates [H, n / unit]; progressive: then those that decide, [H, n / unit] */
    size_t at[RADAR_MAX_SHARDS + 1];
} candidates;

/* ---- memory ---- */

radar_status radar_probe_reserve(radar_probe *p, const radar_attention *attention,
                                 radar_error *err) {
    size_t bytes = p->exact->query_bytes, H = (size_t)p->e->model->config.n_heads;
    if (attention->scorer && attention->scorer->query_bytes > bytes)
        bytes = attention->scorer->query_bytes;
    if (bytes <= p->query_bytes) return RADAR_OK;
    char *query = radar_alloc_array(H, bytes);
    if (!query) return radar_fail(err, RADAR_ERR_MEMORY, "observer: no memory for its queries");
    radar_free(p->query);
    p->query = query;
    p->query_bytes = bytes;
    return RADAR_OK;
}

static radar_status reserve(radar_probe *p, const radar_session *s, radar_error *err) {
    const radar_model_config *c = &p->e->model->config;
    size_t H = (size_t)c->n_heads, D = (size_t)c->head_dim, G = (size_t)c->n_kv_heads;
    const radar_scorer_options exact = {.D = c->head_dim, .isa = p->e->opt.isa};
    for (int i = 0; i < s->kv.layout.shards; i++)
        p->segments +=
            (size_t)(radar_shard_capacity(&s->kv.layout, i, s->kv.context) / RADAR_SEGMENT);
    p->query_position = radar_alloc_array(H / G, sizeof *p->query_position);
    p->q = radar_alloc_array(H * D, sizeof *p->q);
    p->output = radar_alloc_array(H * D, sizeof *p->output);
    p->mass = radar_alloc_array((size_t)p->e->ws.block_rows, H * sizeof *p->mass);
    p->dense_mass = radar_alloc_array(H, sizeof *p->dense_mass);
    p->coverage = radar_alloc_array(H, sizeof *p->coverage);
    p->packet = radar_alloc_array(p->segments, 3 * H * sizeof *p->packet);
    p->truth = radar_alloc_array(p->segments, H * sizeof *p->truth);
    p->estimate = radar_alloc_array(p->segments, H * sizeof *p->estimate);
    p->chosen = radar_alloc_array(p->segments, H);
    p->key = radar_alloc_array(p->segments, sizeof *p->key);
    p->range = radar_alloc_array((size_t)s->kv.layout.shards, sizeof *p->range);
    p->task = radar_alloc_array(G, (size_t)s->kv.n_shards * sizeof *p->task);
    if (!p->query_position || !p->q || !p->output || !p->mass || !p->dense_mass || !p->coverage ||
        !p->packet || !p->truth || !p->estimate || !p->chosen || !p->key || !p->range || !p->task)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "observer: no memory for the masses of %zu segments; use a smaller --ctx",
                          p->segments);
    radar_status st = radar_scorer_open(&p->exact, "exact", &exact, err);
    return st == RADAR_OK ? radar_probe_reserve(p, &s->attention, err) : st;
}

void radar_probe_close(radar_probe *p) {
    if (!p) return;
    void *const all[] = {p->query_position, p->q,     p->output, p->mass,  p->dense_mass,
                         p->coverage,       p->query, p->packet, p->truth, p->estimate,
                         p->chosen,         p->key,   p->range,  p->task};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) radar_free(all[i]);
    radar_scorer_close(p->exact);
    radar_free(p);
}

/* ---- dense attention of one row ---- */

static void take_masses(float *mass, const radar_select *s, int row) {
    int group = s->n_heads / s->kv->kv_heads;
    for (int h = 0; h < s->n_heads; h++) {
        const float *root = radar_select_root(s, h / group, row * group + h % group);
        mass[h] = root[RADAR_PARTIAL_M] + logf(root[RADAR_PARTIAL_L]);
    }
}

/* The row by itself, with its queries where a pass of one row has them. */
static radar_select single_row(radar_probe *p, const radar_select *s, int row) {
    size_t group = (size_t)(s->n_heads / s->kv->kv_heads), part = group * (size_t)s->kv->D;
    radar_select one = *s;
    for (size_t i = 0; i < group; i++) p->query_position[i] = s->position[row];
    for (size_t g = 0; g < (size_t)s->kv->kv_heads; g++)
        memcpy(p->q + g * part, s->q + (g * (size_t)s->n_rows + (size_t)row) * part,
               part * sizeof *p->q);
    one.n_rows = 1;
    one.position = s->position + row;
    one.query_position = p->query_position;
    one.q = p->q;
    return one;
}

static radar_status attend_densely(radar_probe *p, radar_select *one) {
    const radar_kvcache *kv = one->kv;
    radar_counts elsewhere = {0};
    radar_status st;
    one->counts = &elsewhere;
    one->plan->n_tasks = one->plan->n_missed = one->plan->n_folds = 0;
    one->plan->n_items = 0;
    RADAR_TRY(st, radar_policy_dense.select(one), fail);
    RADAR_TRY(st, radar_attend_plan(p->e, one->plan, 1), fail);
    take_masses(p->dense_mass, one, 0);
    kv->be->ops->finish(kv->be, p->output, p->coverage, one->partial, 1, kv->kv_heads,
                        one->n_heads / kv->kv_heads, kv->D);
fail:
    return st;
}

/* ---- masses of the candidates ---- */

static candidates find_candidates(const radar_select *one) {
    const radar_attention *a = one->attention;
    const radar_layout *l = &one->kv->layout;
    candidates c = {.unit = 1};
    if (!a->policy->needs_summaries || !a->scorer ||
        radar_attention_dense(a, one->kv, one->position[0]))
        return c;
    c.keep = radar_attention_keep(a, one->position[0]);
    if (c.keep == 0) return c;
    radar_attention_candidates(a, one->position[0], &c.begin, &c.end);
    c.unit = radar_attention_unit(a, one->position[0]);
    c.progressive = a->progressive;
    for (int i = 0; i < l->shards; i++) {
        c.first[i] = radar_shard_tokens(l, i, c.begin * RADAR_SEGMENT) / RADAR_SEGMENT;
        c.n[i] = radar_shard_tokens(l, i, c.end * RADAR_SEGMENT) / RADAR_SEGMENT - c.first[i];
        c.at[i + 1] = c.at[i] + (size_t)one->n_heads *
                                    (size_t)(c.n[i] + (1 + c.progressive) * c.n[i] / c.unit);
    }
    return c;
}

static int64_t units(const candidates *c) { return (c->end - c->begin) / c->unit; }

static float *estimates_of(const radar_probe *p, const radar_select *one, const candidates *c,
                           int shard) {
    return p->packet + c->at[shard] + (size_t)one->n_heads * (size_t)c->n[shard];
}

/* What the lists are made of: NaN for what a progressive scan has dropped. */
static float *deciding(const radar_probe *p, const radar_select *one, const candidates *c,
                       int shard) {
    return estimates_of(p, one, c, shard) +
           (c->progressive ? (size_t)one->n_heads * (size_t)(c->n[shard] / c->unit) : 0);
}

/* Of own shards, into this rank's part of the packet: segments one by one, or unit by unit as the policy scores them. */
static void score_own(radar_probe *p, const radar_select *one, const candidates *c,
                      const radar_scorer *scorer, int32_t unit, bool estimate) {
    const radar_kvcache *kv = one->kv;
    int n = 0, group = one->n_heads / kv->kv_heads;
    kv->be->ops->query(kv->be, scorer, p->query, p->q, (size_t)kv->D, one->n_heads);
    for (int i = 0; i < kv->n_shards; i++) {
        int shard = kv->first_shard + i;
        int32_t begin = (int32_t)(c->first[shard] / unit), all = (int32_t)(c->n[shard] / unit);
        float *score = estimate ? estimates_of(p, one, c, shard) : p->packet + c->at[shard];
        if (all == 0) continue;
        for (int g = 0; g < kv->kv_heads; g++) {
            size_t head = (size_t)g * (size_t)group;
            p->task[n++] = (radar_score_task){
                .kv = radar_kvcache_view(kv, one->layer, g, i),
                .n_query = group,
                .query = p->query + head * scorer->query_bytes,
                .unit = unit,
                .segment_begin = begin,
                .segment_end = begin + all,
                .score = score + head * (size_t)all,
                .score_stride = (size_t)all,
            };
        }
    }
    kv->be->ops->score(kv->be, scorer, p->task, n);
}

static void estimate_own(radar_probe *p, const radar_select *one, const candidates *c) {
    const radar_row_choice choice = {c->begin, c->end, c->unit, (int)c->keep};
    float *score[RADAR_MAX_SHARDS], *left[RADAR_MAX_SHARDS];
    for (int i = 0; i < one->kv->n_shards; i++) {
        score[i] = estimates_of(p, one, c, one->kv->first_shard + i);
        left[i] = deciding(p, one, c, one->kv->first_shard + i);
    }
    if (c->progressive)
        radar_score_stages(one, &choice, score, left);
    else
        score_own(p, one, c, one->attention->scorer, c->unit, true);
}

static radar_status gather_scores(radar_probe *p, const radar_select *one, const candidates *c) {
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    for (int r = 0; r < one->comm->size; r++) {
        size_t begin = c->at[radar_first_shard(&one->kv->layout, r)],
               end = c->at[radar_first_shard(&one->kv->layout, r + 1)];
        offset[r] = begin * sizeof *p->packet;
        bytes[r] = (end - begin) * sizeof *p->packet;
    }
    return radar_gather(one->comm, RADAR_X_PROBE, p->packet, bytes, offset, one->err);
}

static float log_sum(const float *mass, int n) {
    float m = mass[0], sum = 0;
    for (int i = 1; i < n; i++) m = mass[i] > m ? mass[i] : m;
    for (int i = 0; i < n; i++) sum += expf(mass[i] - m);
    return m + logf(sum);
}

/* From the order of shards to the order of positions. */
static void arrange_scores(radar_probe *p, const radar_select *one, const candidates *c) {
    const radar_layout *l = &one->kv->layout;
    size_t all = (size_t)units(c);
    for (size_t u = 0; u < all; u++) {
        int64_t position = (c->begin + (int64_t)u * c->unit) * RADAR_SEGMENT;
        int shard = radar_shard_of(l, position);
        int64_t segment = radar_slot_of(l, position) / RADAR_SEGMENT - c->first[shard];
        const float *truth = p->packet + c->at[shard] + segment,
                    *estimate = estimates_of(p, one, c, shard) + segment / c->unit;
        for (size_t h = 0; h < (size_t)one->n_heads; h++) {
            p->truth[h * all + u] = log_sum(truth + h * (size_t)c->n[shard], c->unit);
            p->estimate[h * all + u] = estimate[h * (size_t)(c->n[shard] / c->unit)];
        }
    }
}

/* ---- what was chosen ---- */

static void mark(radar_probe *p, const radar_select *one, const candidates *c, int head, int shard,
                 int n_shards, int keep) {
    const radar_kvcache *kv = one->kv;
    const radar_attention *a = one->attention;
    radar_topk_task t = {.range = p->range + shard,
                         .n_ranges = n_shards,
                         .stripe_segments = kv->layout.stripe / RADAR_SEGMENT / c->unit,
                         .shards = kv->layout.shards,
                         .pick = a->pick,
                         .seed = radar_attention_draw(a, one->position[0], one->layer, kv->layers,
                                                      head, one->n_heads),
                         .keep = keep,
                         .scratch = p->key,
                         .key = p->key};
    unsigned char *chosen = p->chosen + (size_t)head * (size_t)units(c);
    kv->be->ops->topk(kv->be, &t, 1);
    for (int i = 0; i < keep && t.key[i]; i++)
        chosen[radar_topk_segment(t.key[i]) - c->begin / c->unit] = 1;
}

/* The list of each query head, as the policy makes it of the same estimates (policy/radar.c). */
static void mark_chosen(radar_probe *p, const radar_select *one, const candidates *c) {
    int shards = one->kv->layout.shards;
    memset(p->chosen, 0, (size_t)one->n_heads * (size_t)units(c));
    for (int h = 0; h < one->n_heads; h++) {
        for (int i = 0; i < shards; i++) {
            size_t n = (size_t)(c->n[i] / c->unit);
            p->range[i] = (radar_topk_range){.score = deciding(p, one, c, i) + (size_t)h * n,
                                             .n = (int)n,
                                             .segment_begin = (int32_t)(c->first[i] / c->unit),
                                             .phase = radar_bit_reverse(i, shards)};
        }
        if (one->attention->select_local)
            for (int i = 0; i < shards; i++)
                mark(p, one, c, h, i, 1, radar_attention_keep_local(c->keep, shards));
        else
            mark(p, one, c, h, 0, shards, (int)c->keep);
    }
}

/* ---- one row, all rows ---- */

static radar_status observe_row(radar_probe *p, const radar_select *s, int row,
                                radar_observation *o) {
    radar_select one = single_row(p, s, row);
    radar_status st;
    RADAR_TRY(st, attend_densely(p, &one), fail);
    const candidates c = find_candidates(&one);
    if (c.keep) {
        score_own(p, &one, &c, p->exact, 1, false);
        estimate_own(p, &one, &c);
        RADAR_TRY(st, gather_scores(p, &one, &c), fail);
        arrange_scores(p, &one, &c);
        mark_chosen(p, &one, &c);
    }
    o->position = one.position[0];
    o->first_candidate = c.begin * RADAR_SEGMENT;
    o->segment = (int64_t)RADAR_SEGMENT * c.unit;
    o->candidates = units(&c);
    o->keep = c.keep;
fail:
    return st;
}

radar_status radar_probe_rows(radar_probe *p, const radar_select *s, const float *output,
                              const float *coverage) {
    size_t H = (size_t)s->n_heads, row_floats = H * (size_t)s->kv->D;
    radar_observation o = {.size = sizeof o,
                           .layer = s->layer,
                           .layers = s->kv->layers,
                           .heads = s->n_heads,
                           .kv_heads = s->kv->kv_heads,
                           .head_dim = s->kv->D,
                           .q = p->q,
                           .dense_output = p->output,
                           .dense_mass = p->dense_mass,
                           .exact = p->truth,
                           .estimate = p->estimate,
                           .chosen = p->chosen};
    /* the first dense pass overwrites the partials of all rows */
    for (int row = 0; row < s->n_rows; row++) take_masses(p->mass + (size_t)row * H, s, row);
    for (int row = 0; row < s->n_rows; row++) {
        if (s->position[row] % p->every != 0) continue;
        radar_status st = observe_row(p, s, row, &o);
        if (st != RADAR_OK) return st;
        o.output = output + (size_t)row * row_floats;
        o.coverage = coverage + (size_t)row * H;
        o.mass = p->mass + (size_t)row * H;
        p->each(p->user, &o);
    }
    return RADAR_OK;
}

/* ---- begin and end ---- */

radar_status radar_session_observe(radar_session *s, radar_observer *each, void *user,
                                   int64_t every) {
    radar_engine *e = s->e;
    radar_probe *p = NULL;
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    if (each && every < 1) {
        radar_fail(&e->err, RADAR_ERR_USAGE,
                   "radar_session_observe every %lld rows: must be 1 or more", (long long)every);
    } else if (each && radar_device_refuse(e, "an observer", &e->err) == RADAR_OK) {
        p = radar_alloc(sizeof *p);
        if (p) {
            *p = (radar_probe){.e = e, .each = each, .user = user, .every = every};
            reserve(p, s, &e->err);
        } else {
            radar_fail(&e->err, RADAR_ERR_MEMORY, "observer: no memory");
        }
    }
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    RADAR_TRY(st, radar_agree_same(e->comm, "observed rows", each ? (uint64_t)every : 0, &e->err),
              fail);
    radar_probe_close(s->probe);
    s->probe = p;
    return RADAR_OK;
fail:
    radar_probe_close(p);
    return st;
}
