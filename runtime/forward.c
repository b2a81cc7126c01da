/* One forward pass over M rows: prefill, decode, several sessions and verification are this function.
 *
 *   x -> norm -> q, k, v rows --X1--> rope -> append, seal -> select --X2--> attend own shards --X3--> merge in the tree
 *     -> output rows --X4--> + x -> norm -> gate, up -> down, own columns --X5--> sum in the tree -> + x        (x layers) */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/merge.h"
#include "parallel/agree.h"
#include "runtime/device.h"

#define HEADER_STOP 1

/* ---- products whose rows are spread over the ranks ---- */

typedef struct product {
    const radar_matrix *w;
    const float *bias;
    float *out; /* [M, w->rows], whole on every rank */
} product;

static radar_header header_of(const radar_engine *e) {
    return (radar_header){
        .step = e->step, .status = (int32_t)e->err.status, .flags = e->stop ? HEADER_STOP : 0};
}

/* What the headers of all ranks say. */
static radar_status heed(radar_engine *e, const radar_header *worst, bool may_stop) {
    if (worst->status != RADAR_OK) return radar_agree(e->comm, &e->err);
    if (!(worst->flags & HEADER_STOP) || !may_stop) return RADAR_OK;
    e->stop = false;
    return radar_fail(&e->err, RADAR_ERR_STOPPED, "stopped on request after %lld passes",
                      (long long)e->step);
}

/* On a device no header travels with the rows: ranks agree before anything is queued. */
static radar_status begin_pass(radar_engine *e) {
    const radar_header mine = header_of(e);
    radar_header worst;
    if (!radar_on_device(e)) return RADAR_OK;
    radar_status st = radar_exchange_headers(e->comm, &mine, &worst, &e->err);
    return st == RADAR_OK ? heed(e, &worst, true) : st;
}

static radar_status multiply_rows(radar_engine *e, radar_exchange x, const product *p, int n,
                                  const float *in, size_t in_stride, int M) {
    radar_piece piece[3];
    radar_matmul_job job[3];
    for (int i = 0; i < n; i++)
        piece[i] = (radar_piece){.total = p[i].w->rows,
                                 .block = RADAR_ROW_BLOCK,
                                 .full = p[i].out,
                                 .full_stride = (size_t)p[i].w->rows};
    for (int i = 0; i < n; i++) {
        job[i] = (radar_matmul_job){
            .w = p[i].w, .col_end = p[i].w->cols, .row_block = RADAR_ROW_BLOCK, .bias = p[i].bias};
        radar_rank_slice(&e->layout, e->comm->rank, piece[i].total, RADAR_ROW_BLOCK,
                         &job[i].row_begin, &job[i].row_end);
        job[i].out = radar_packet_slot(&e->layout, e->comm->rank, e->ws.packet, piece, n, i, M,
                                       &job[i].out_stride);
    }
    e->be->ops->matmul(e->be, job, n, in, in_stride, M);
    const radar_header mine = header_of(e);
    radar_header worst;
    radar_status st = radar_exchange_rows(e->comm, &e->layout, x, e->ws.packet, piece, n, M, &mine,
                                          &worst, &e->err);
    return st == RADAR_OK ? heed(e, &worst, x == RADAR_X1_QKV) : st;
}

/* ---- positions ---- */

static void rotate(radar_engine *e, const radar_layer *layer, int M) {
    const radar_model_config *c = &e->model->config;
    const radar_rotate_job job = {.q = e->ws.q,
                                  .k = e->ws.k,
                                  .M = M,
                                  .H = c->n_heads,
                                  .G = c->n_kv_heads,
                                  .D = c->head_dim,
                                  .q_norm = layer->q_norm,
                                  .k_norm = layer->k_norm,
                                  .eps = c->norm_eps,
                                  .cos_sin = e->ws.cos_sin,
                                  .style = c->rope_style,
                                  .rotary = c->rotary};
    e->be->ops->rotate(e->be, &job);
}

static void fill_positions(radar_engine *e, const radar_batch *batch, int n_batches) {
    const int rotary = e->model->config.rotary;
    radar_workspace *ws = &e->ws;
    for (int b = 0, row = 0; b < n_batches; row += batch[b++].n) {
        const radar_rope *rope = &batch[b].s->rope;
        for (int i = 0; i < batch[b].n; i++) {
            ws->token[row + i] = batch[b].token[i];
            ws->position[row + i] = batch[b].position + i;
        }
        e->be->ops->angles(e->be, ws->cos_sin + (size_t)row * (size_t)rotary, rope->frequency,
                           rotary, rope->magnitude, ws->position + row, batch[b].n);
    }
}

/* ---- attention ---- */

typedef struct tree_user {
    radar_engine *e;
    size_t floats; /* of one piece */
    int64_t items; /* partials, or sums, in one piece */
} tree_user;

static void list_pieces(const tree_user *t, float *piece[RADAR_MAX_SHARDS], int first, int count,
                        int apart) {
    for (int i = 0; i < count; i++)
        piece[i] = t->e->ws.pieces + (size_t)(first + i * apart) * t->floats;
}

static void merge_partials(void *user, int first, int count, int apart) {
    const tree_user *t = user;
    float *piece[RADAR_MAX_SHARDS];
    list_pieces(t, piece, first, count, apart);
    t->e->be->ops->merge(t->e->be, piece, count, t->items, t->e->model->config.head_dim);
}

static void add_pieces(void *user, int first, int count, int apart) {
    const tree_user *t = user;
    float *piece[RADAR_MAX_SHARDS];
    list_pieces(t, piece, first, count, apart);
    t->e->be->ops->sum(t->e->be, piece, count, t->items);
}

/* Merges the pieces of all shards, of this rank and then of all, into piece 0. */
static radar_status merge_tree(radar_engine *e, radar_exchange x, radar_merge merge, size_t floats,
                               int64_t items) {
    tree_user user = {e, floats, items};
    radar_tree_of_rank(&e->layout, e->comm->rank, merge, &user);
    return radar_exchange_subtrees(e->comm, &e->layout, x, e->ws.pieces, floats, merge, &user,
                                   &e->err);
}

radar_status radar_attend_plan(radar_engine *e, const radar_plan *plan, int n) {
    const radar_model_config *c = &e->model->config;
    const radar_backend_ops *ops = e->be->ops;
    int64_t partials = (int64_t)n * c->n_heads;
    ops->attend(e->be, plan->task, plan->n_tasks, 1.0f / sqrtf((float)c->head_dim),
                e->ws.pass_rows);
    for (int i = 0; i < plan->n_folds; i++)
        ops->merge(e->be, (float *[]){plan->fold[i].into, plan->fold[i].from}, 2, plan->fold[i].n,
                   c->head_dim);
    if (plan->n_missed) ops->missed(e->be, plan->missed, plan->n_missed);
    return merge_tree(e, RADAR_X3_PARTIALS, merge_partials,
                      (size_t)partials * (size_t)RADAR_PARTIAL(c->head_dim), partials);
}

static radar_counts *counts_of(const radar_batch *batch) {
    return batch->counts ? batch->counts : &batch->s->prefilled;
}

/* Attention of rows [first, first + n) of a batch; they are rows ws_row ... of the workspace. */
static radar_status attend_block(radar_engine *e, int layer, const radar_batch *batch, int ws_row,
                                 int n) {
    const radar_model_config *c = &e->model->config;
    const radar_backend_ops *ops = e->be->ops;
    radar_workspace *ws = &e->ws;
    radar_session *s = batch->s;
    int group = c->n_heads / c->n_kv_heads;
    size_t row = (size_t)c->n_heads * (size_t)c->head_dim,
           kv_row = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    for (int i = 0; i < n * group; i++) ws->query_position[i] = ws->position[ws_row + i / group];
    const float *q = ws->q + (size_t)ws_row * row; /* of one row, heads are side by side already */
    if (n > 1) {
        ops->arrange(e->be, ws->arranged, q, n, c->n_kv_heads, group, c->head_dim);
        q = ws->arranged;
    }
    s->plan.n_tasks = s->plan.n_missed = s->plan.n_folds = 0;
    s->plan.n_items = 0;
    radar_counts *counts = counts_of(batch);
    float *coverage = ws->coverage +
                      ((size_t)layer * (size_t)ws->pass_rows + (size_t)ws_row) * (size_t)c->n_heads;
    radar_select select = {.comm = e->comm,
                           .kv = &s->kv,
                           .attention = &s->attention,
                           .counts = counts,
                           .plan = &s->plan,
                           .layer = layer,
                           .n_rows = n,
                           .n_heads = c->n_heads,
                           .position = ws->position + ws_row,
                           .query_position = ws->query_position,
                           .q = q,
                           .k = ws->k + (size_t)ws_row * kv_row,
                           .v = ws->v + (size_t)ws_row * kv_row,
                           .partial = ws->pieces,
                           .rope = &s->rope,
                           .state = s->policy_state,
                           .prefill = batch->counts == NULL,
                           .err = &e->err};
    radar_status st;
    RADAR_TRY(st, batch->policy->select(&select), fail);
    RADAR_TRY(st, radar_attend_plan(e, &s->plan, n), fail);
    if (s->policy_state && (batch->policy == s->own_policy || batch->counts == NULL))
        RADAR_TRY(st, s->own_policy->attended(&select), fail);
    ops->finish(e->be, ws->attended + (size_t)ws_row * row, coverage, ws->pieces, n, c->n_kv_heads,
                group, c->head_dim);
    counts->rows += (int64_t)n * c->n_kv_heads;
    if (s->probe && batch->counts)
        st = radar_probe_rows(s->probe, &select, ws->attended + (size_t)ws_row * row, coverage);
fail:
    return st;
}

/* Rows of a batch that its policy takes in one call, from `first` on. */
static int rows_at_once(const radar_engine *e, const radar_batch *batch, int first) {
    const radar_policy *p = batch->policy;
    int64_t most = p->block ? batch->s->prefill_rows : p->most_rows,
            begin = batch->position + first;
    if (most == 0 || most > e->ws.block_rows) most = e->ws.block_rows;
    if (p->block && begin / p->block < (begin + most) / p->block)
        most = (begin + most) / p->block * p->block - begin;
    return (int)radar_min64(most, batch->n - first);
}

static radar_status attend_batch(radar_engine *e, int layer, const radar_batch *batch, int ws_row) {
    const radar_model_config *c = &e->model->config;
    radar_session *s = batch->s;
    size_t kv_row = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    /* a prefill's rows read what the first of their chunk would: kvcache.h */
    radar_kvcache_begin(&s->kv, batch->counts ? batch->position
                                              : batch->position - batch->position % e->opt.chunk);
    radar_kvcache_append(&s->kv, layer, batch->position, batch->n,
                         e->ws.k + (size_t)ws_row * kv_row, e->ws.v + (size_t)ws_row * kv_row,
                         e->ws.slot);
    if (s->attention.scorer) {
        int64_t t = batch->position + batch->n;
        radar_kvcache_seal(&s->kv, s->attention.scorer, layer, t, s->attention.window);
    }
    for (int first = 0, n; first < batch->n; first += n) {
        n = rows_at_once(e, batch, first);
        radar_status st = attend_block(e, layer, batch, ws_row + first, n);
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

/* ---- the two halves of a layer ---- */

static radar_status attention_half(radar_engine *e, int index, const radar_batch *batch,
                                   int n_batches, int M) {
    const radar_model_config *c = &e->model->config;
    const radar_layer *layer = &e->model->layer[index];
    const radar_backend_ops *ops = e->be->ops;
    radar_workspace *ws = &e->ws;
    const product qkv[] = {{&layer->q, layer->q_bias, ws->q},
                           {&layer->k, layer->k_bias, ws->k},
                           {&layer->v, layer->v_bias, ws->v}};
    const product o[] = {{&layer->o, layer->o_bias, ws->projected}};
    radar_status st;
    ops->norm(e->be, ws->normed, ws->x, NULL, layer->attn_norm, c->norm_eps, M, c->width);
    RADAR_TRY(st, multiply_rows(e, RADAR_X1_QKV, qkv, 3, ws->normed, (size_t)c->width, M), fail);
    rotate(e, layer, M);
    for (int b = 0, row = 0; b < n_batches; row += batch[b++].n)
        RADAR_TRY(st, attend_batch(e, index, &batch[b], row), fail);
    RADAR_TRY(st,
              multiply_rows(e, RADAR_X4_OUTPUT, o, 1, ws->attended,
                            (size_t)c->n_heads * (size_t)c->head_dim, M),
              fail);
fail:
    return st;
}

/* Own columns of down, one partial sum per own shard, for rows [row, row + n). */
static radar_status down_block(radar_engine *e, const radar_layer *layer, int row, int n) {
    const radar_model_config *c = &e->model->config;
    radar_workspace *ws = &e->ws;
    radar_matmul_job job[RADAR_MAX_SHARDS];
    int first = radar_first_shard(&e->layout, e->comm->rank),
        last = radar_first_shard(&e->layout, e->comm->rank + 1);
    size_t floats = (size_t)n * (size_t)c->width, own = (size_t)(e->inner_end - e->inner_begin);
    for (int shard = first; shard < last; shard++) {
        int64_t begin, end;
        radar_slice(c->inner, e->inner_block, e->layout.shards, shard, &begin, &end);
        job[shard - first] = (radar_matmul_job){.w = &layer->down,
                                                .row_end = layer->down.rows,
                                                .col_begin = begin,
                                                .col_end = end,
                                                .x_begin = begin - e->inner_begin,
                                                .bias = shard == 0 ? layer->down_bias : NULL,
                                                .out = ws->pieces + (size_t)shard * floats,
                                                .out_stride = (size_t)c->width};
    }
    e->be->ops->matmul(e->be, job, last - first, ws->gate + (size_t)row * own, own, n);
    radar_status st = merge_tree(e, RADAR_X5_DOWN, add_pieces, floats, (int64_t)floats);
    if (st == RADAR_OK)
        e->be->ops->add(e->be, ws->x + (size_t)row * (size_t)c->width, ws->pieces, (int64_t)floats);
    return st;
}

static radar_status ffn_half(radar_engine *e, int index, int M) {
    const radar_model_config *c = &e->model->config;
    const radar_layer *layer = &e->model->layer[index];
    const radar_backend_ops *ops = e->be->ops;
    radar_workspace *ws = &e->ws;
    size_t own = (size_t)(e->inner_end - e->inner_begin);
    const radar_matmul_job job[] = {{.w = &layer->gate,
                                     .row_begin = e->inner_begin,
                                     .row_end = e->inner_end,
                                     .col_end = c->width,
                                     .row_block = e->inner_block,
                                     .bias = layer->gate_bias,
                                     .out = ws->gate,
                                     .out_stride = own},
                                    {.w = &layer->up,
                                     .row_begin = e->inner_begin,
                                     .row_end = e->inner_end,
                                     .col_end = c->width,
                                     .row_block = e->inner_block,
                                     .bias = layer->up_bias,
                                     .out = ws->up,
                                     .out_stride = own}};
    ops->norm(e->be, ws->normed, ws->x, ws->projected, layer->ffn_norm, c->norm_eps, M, c->width);
    ops->matmul(e->be, job, 2, ws->normed, (size_t)c->width, M);
    ops->gate(e->be, ws->gate, ws->up, (int64_t)own * M);
    for (int row = 0; row < M; row += ws->block_rows) {
        radar_status st = down_block(e, layer, row, (int)radar_min64(ws->block_rows, M - row));
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

/* ---- the pass ---- */

/* The same on every rank: rows of the pass are, and so is the verdict. */
static radar_status odd_row(radar_engine *e, uint64_t found, int first, int n, const char *where) {
    const int64_t row = first + n - (int64_t)found;
    return radar_fail(&e->err, RADAR_ERR_DATA,
                      "position %lld: values that are not finite after %s; the model's weights "
                      "are damaged or not what its family expects",
                      (long long)e->ws.position[row], where);
}

static radar_status check_layer(radar_engine *e, int layer, uint64_t found) {
    char where[32];
    if (found == 0) return RADAR_OK;
    snprintf(where, sizeof where, "layer %d", layer);
    return odd_row(e, found, 0, e->ws.pass_rows, where);
}

radar_status radar_forward(radar_engine *e, const radar_batch *batch, int n_batches) {
    const int layers = e->model->config.n_layers;
    radar_workspace *ws = &e->ws;
    int M = 0;
    radar_status st = RADAR_OK;
    for (int b = 0; b < n_batches; b++) M += batch[b].n;
    ws->pass_rows = M;
    RADAR_TRY(st, begin_pass(e), fail);
    e->be->ops->clear(e->be, ws->odd, (size_t)(layers + 1) * sizeof *ws->odd);
    fill_positions(e, batch, n_batches);
    e->be->ops->embed(e->be, ws->x, &e->model->embedding, ws->token, M);
    for (int layer = 0; layer < layers; layer++) {
        RADAR_TRY(st, attention_half(e, layer, batch, n_batches, M), fail);
        RADAR_TRY(st, ffn_half(e, layer, M), fail);
        e->be->ops->odd(e->be, ws->odd + layer, ws->x, M, e->model->config.width);
        if (!radar_on_device(e)) RADAR_TRY(st, check_layer(e, layer, ws->odd[layer]), fail);
    }
    e->be->ops->fetch(e->be, ws->seen_odd, ws->odd, (size_t)layers * sizeof *ws->odd);
    e->be->ops->fetch(e->be, ws->seen_coverage, ws->coverage,
                      (size_t)layers * (size_t)M * (size_t)e->model->config.n_heads *
                          sizeof *ws->coverage);
    e->step++;
fail:
    return st;
}

radar_status radar_head(radar_engine *e, int first, int n, bool fetch) {
    const radar_model_config *c = &e->model->config;
    radar_workspace *ws = &e->ws;
    const product head[] = {{&e->model->head, NULL, ws->logits}};
    float *x = ws->x + (size_t)first * (size_t)c->width;
    e->be->ops->norm(e->be, ws->normed, x, NULL, e->model->final_norm, c->norm_eps, n, c->width);
    radar_status st = multiply_rows(e, RADAR_X_LOGITS, head, 1, ws->normed, (size_t)c->width, n);
    if (st != RADAR_OK) return st;
    e->be->ops->odd(e->be, ws->odd + c->n_layers, ws->logits, n, c->vocab);
    e->be->ops->fetch(e->be, ws->seen_odd + c->n_layers, ws->odd + c->n_layers, sizeof *ws->odd);
    if (fetch)
        e->be->ops->fetch(e->be, ws->seen_logits, ws->logits,
                          (size_t)n * (size_t)c->vocab * sizeof *ws->logits);
    return st;
}

/* ---- what the host learns ---- */

static void count_coverage(radar_counts *counts, const float *coverage, int n) {
    for (int i = 0; i < n; i++) {
        counts->coverage_sum += (double)coverage[i];
        if (counts->coverages++ == 0 || coverage[i] < counts->coverage_min)
            counts->coverage_min = (double)coverage[i];
    }
}

radar_status radar_await_pass(radar_engine *e, const radar_batch *batch, int n_batches) {
    const int layers = e->model->config.n_layers, heads = e->model->config.n_heads;
    radar_status st = radar_device_wait(e, &e->err);
    for (int layer = 0; st == RADAR_OK && layer < layers; layer++)
        st = check_layer(e, layer, e->ws.seen_odd[layer]);
    if (st != RADAR_OK) return st;
    for (int layer = 0; layer < layers; layer++)
        for (int b = 0, row = layer * e->ws.pass_rows; b < n_batches; row += batch[b++].n)
            count_coverage(counts_of(&batch[b]), e->ws.seen_coverage + (size_t)row * (size_t)heads,
                           batch[b].n * heads);
    return RADAR_OK;
}

radar_status radar_await_head(radar_engine *e, int first, int n) {
    const uint64_t *odd = e->ws.seen_odd + e->model->config.n_layers;
    radar_status st = radar_device_wait(e, &e->err);
    if (st != RADAR_OK || *odd == 0) return st;
    e->be->ops->clear(e->be, e->ws.odd + e->model->config.n_layers, sizeof *e->ws.odd);
    return odd_row(e, *odd, first, n, "the head");
}
