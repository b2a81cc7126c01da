/* What a session would take on each of some ranks: the functions that reserve it, asked without reserving.  Only the model's
 * metadata is read. */
#include <stdio.h>
#include <string.h>

#include "kernels/matmul.h"
#include "runtime/engine.h"
#include "runtime/policy/radar_work.h"
#include "runtime/sys.h"

struct radar_planner {
    radar_engine e; /* model, options and layout; no backend, no memory */
    radar_comm rank;
};

/* ---- weights ---- */

static uint64_t slice_bytes(const radar_engine *e, const radar_matrix *w, int64_t block) {
    int64_t begin, end;
    radar_rank_slice(&e->layout, e->comm->rank, w->rows, block, &begin, &end);
    return (uint64_t)(end - begin) * w->row_bytes;
}

static uint64_t layer_bytes(const radar_engine *e, const radar_layer *l) {
    const radar_matrix *const whole_rows[] = {&l->q, &l->k, &l->v, &l->o};
    const double share = (double)(e->inner_end - e->inner_begin) / (double)e->model->config.inner;
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof whole_rows / sizeof *whole_rows; i++)
        bytes += slice_bytes(e, whole_rows[i], RADAR_ROW_BLOCK);
    bytes += (uint64_t)(e->inner_end - e->inner_begin) * (l->gate.row_bytes + l->up.row_bytes);
    return bytes + (uint64_t)(share * (double)l->down.rows * (double)l->down.row_bytes);
}

/* What one step multiplies with. */
static uint64_t step_weights(const radar_engine *e) {
    uint64_t bytes = slice_bytes(e, &e->model->head, RADAR_ROW_BLOCK);
    for (int i = 0; i < e->model->config.n_layers; i++)
        bytes += layer_bytes(e, &e->model->layer[i]);
    return bytes;
}

/* Beside what is multiplied with, the rows of the embedding that a prompt asks for, in the end all of them: the same memory as
 * the head only where they are one matrix that is not packed (runtime/weights.c). */
uint64_t radar_weight_bytes(const radar_engine *e) {
    const radar_matrix *embedding = &e->model->embedding;
    uint64_t bytes = step_weights(e) + (uint64_t)embedding->rows * embedding->row_bytes;
    if (!e->model->config.tied ||
        radar_matmul_packed_bytes(embedding->type, embedding->rows, embedding->cols) != 0)
        return bytes;
    return bytes - slice_bytes(e, embedding, RADAR_ROW_BLOCK);
}

/* ---- bytes of a step ---- */

/* Tokens of the context that a row of the last position reads: for Radar what the break-even reckons with (attention.h), for
 * policies that keep tokens, those. */
static double attended_tokens(const radar_session *s, bool *scores) {
    const radar_attention *a = &s->attention;
    const int64_t last = s->kv.context - 1;
    const double budget = (double)radar_attention_budget(a, last), all = (double)s->kv.context;
    const double always = (double)(a->window + a->sinks);
    *scores = s->own_policy->needs_summaries && !radar_attention_dense(a, &s->kv, last);
    double tokens = all;
    if (*scores)
        tokens =
            always + (a->share_head ? 1.0 * s->e->model->config.n_heads / s->kv.kv_heads : 1.6) *
                         (double)(radar_attention_keep(a, last) * radar_attention_unit(a, last) *
                                  RADAR_SEGMENT);
    else if (s->own_policy->open)
        tokens = always + budget;
    else if (!s->own_policy->needs_summaries && s->own_policy != &radar_policy_dense)
        tokens = always; /* streaming */
    return tokens < all ? tokens : all;
}

/* Tokens of a full context that lie on this rank: capacity is reserved in whole stripes. */
static double own_tokens(const radar_kvcache *kv) {
    double tokens = 0;
    for (int i = 0; i < kv->n_shards; i++)
        tokens += (double)radar_shard_tokens(&kv->layout, kv->first_shard + i, kv->context);
    return tokens;
}

static void add_step(radar_rank_memory *m, const radar_session *s) {
    const radar_kvcache *kv = &s->kv;
    bool scores;
    const double part = attended_tokens(s, &scores) / (double)kv->context,
                 each = (double)(radar_kvcache_key_bytes(kv, RADAR_BLOCK) +
                                 radar_kvcache_value_bytes(kv, RADAR_BLOCK)) /
                        RADAR_BLOCK;
    m->step_weights = step_weights(s->e);
    m->step_attended = (uint64_t)(part * own_tokens(kv) * each * (double)kv->layers * kv->kv_heads);
    if (scores && s->attention.scorer)
        m->step_scored = (uint64_t)radar_score_bytes(&s->attention, kv, s->e->model->config.n_heads,
                                                     kv->context - 1);
}

/* ---- the planner ---- */

radar_status radar_planner_open(radar_planner **out, const radar_engine_options *opt, int ranks,
                                char *error, size_t error_bytes) {
    radar_planner *p = radar_alloc(sizeof *p);
    radar_error err = {0};
    *out = NULL;
    if (!p) radar_fail(&err, RADAR_ERR_MEMORY, "planner: no memory");
    if (p) {
        p->rank = (radar_comm){.size = ranks < 1 ? 1 : ranks};
        p->e.comm = &p->rank;
        radar_engine_describe(&p->e, opt, &err);
    }
    if (err.status == RADAR_OK) {
        *out = p;
        return RADAR_OK;
    }
    if (error && error_bytes) snprintf(error, error_bytes, "%s", err.text);
    radar_planner_close(p);
    return err.status;
}

void radar_planner_close(radar_planner *p) {
    if (!p) return;
    radar_model_close(p->e.model);
    radar_free(p->e.model_path);
    radar_free(p->e.tokenizer_path);
    radar_free(p);
}

void radar_planner_info(const radar_planner *p, radar_model_info *info) {
    radar_engine_info(&p->e, info);
}

const char *radar_planner_error(const radar_planner *p) { return p->e.err.text; }

radar_status radar_planner_session(radar_planner *p, const radar_session_options *opt, int rank,
                                   radar_rank_memory *m) {
    radar_session s = {.e = &p->e};
    p->e.err = (radar_error){0};
    p->rank.rank = rank;
    const uint64_t workspace = radar_workspace_bytes(&p->e);
    if (radar_session_shape(&s, opt, &p->e.err) == RADAR_OK) {
        radar_rank_memory all = radar_session_memory(&s);
        all.workspace = workspace;
        all.weights = radar_weight_bytes(&p->e);
        all.size = m->size;
        add_step(&all, &s);
        memcpy(m, &all, m->size < sizeof all ? m->size : sizeof all);
    }
    radar_session_unshape(&s);
    return p->e.err.status;
}

/* A backend of its own for the time of the measurement: the planner's engine has none. */
double radar_planner_bandwidth(radar_planner *p, size_t bytes) {
    const radar_backend_options opt = {
        .n_threads = p->e.opt.threads, .isa = p->e.opt.isa, .max_rows = 1, .max_cols = 256};
    radar_engine e = {0};
    radar_error err = {0};
    double rate = 0;
    if (radar_comm_self(&e.comm, &err) == RADAR_OK &&
        radar_backend_cpu->open(&e.be, &opt, &err) == RADAR_OK) {
        rate = radar_read_bandwidth(&e, bytes);
        e.be->ops->close(e.be);
    }
    radar_comm_close(e.comm);
    return rate;
}
