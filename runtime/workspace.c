/* The device memory of forward passes: sized once, so that no pass allocates. */
#include "kernels/matmul.h"
#include "kernels/merge.h"
#include "runtime/engine.h"
#include "runtime/sys.h"

/* Pieces of the trees are the largest arrays (N of them for every row): this much for one exchange. */
#define PIECES_BYTES ((size_t)32 << 20)
#define LOGIT_BYTES ((size_t)16 << 20)

static int fit(size_t budget, size_t row_bytes, int most) {
    size_t n = budget / row_bytes;
    return n < 1 ? 1 : n > (size_t)most ? most : (int)n;
}

static void *take(radar_engine *e, size_t count, size_t size, bool *ok) {
    size_t bytes;
    void *p = radar_mul(count ? count : 1, size, &bytes) ? e->be->ops->alloc(e->be, bytes) : NULL;
    *ok = *ok && p;
    return p;
}

static size_t packet_bytes(const radar_engine *e) {
    const radar_model_config *c = &e->model->config;
    int64_t block = RADAR_ROW_BLOCK, q = (int64_t)c->n_heads * c->head_dim,
            kv = (int64_t)c->n_kv_heads * c->head_dim;
    const radar_piece qkv[] = {
        {.total = q, .block = block}, {.total = kv, .block = block}, {.total = kv, .block = block}};
    const radar_piece o = {.total = c->width, .block = block},
                      head = {.total = c->vocab, .block = block};
    size_t a = radar_packet_bytes(&e->layout, qkv, 3, e->ws.rows),
           b = radar_packet_bytes(&e->layout, &o, 1, e->ws.rows);
    size_t h = radar_packet_bytes(&e->layout, &head, 1, e->ws.logit_rows);
    return a > b ? (a > h ? a : h) : (b > h ? b : h);
}

radar_status radar_workspace_open(radar_engine *e, radar_error *err) {
    const radar_model_config *c = &e->model->config;
    radar_workspace *ws = &e->ws;
    size_t H = (size_t)c->n_heads, G = (size_t)c->n_kv_heads, D = (size_t)c->head_dim,
           W = (size_t)c->width, f = sizeof(float);
    size_t partials = H * (size_t)RADAR_PARTIAL(c->head_dim), piece = partials > W ? partials : W;
    bool ok = true;
    for (int i = 0; i < c->n_layers; i++)
        e->inner_block =
            radar_max64(e->inner_block, radar_matmul_column_block(e->model->layer[i].down.type));
    radar_rank_slice(&e->layout, e->comm->rank, c->inner, e->inner_block, &e->inner_begin,
                     &e->inner_end);
    size_t own = (size_t)(e->inner_end - e->inner_begin);
    ws->rows = radar_pass_rows(e);
    ws->block_rows = fit(PIECES_BYTES, (size_t)e->layout.shards * piece * f, ws->rows);
    ws->logit_rows = fit(LOGIT_BYTES, (size_t)c->vocab * f, 64);
    size_t M = (size_t)ws->rows, B = (size_t)ws->block_rows;
    ws->x = take(e, M * W, f, &ok);
    ws->normed = take(e, M * W, f, &ok);
    ws->q = take(e, M * H * D, f, &ok);
    ws->k = take(e, M * G * D, f, &ok);
    ws->v = take(e, M * G * D, f, &ok);
    ws->arranged = take(e, B * H * D, f, &ok);
    ws->attended = take(e, M * H * D, f, &ok);
    ws->projected = take(e, M * W, f, &ok);
    ws->gate = take(e, M * own, f, &ok);
    ws->up = take(e, M * own, f, &ok);
    ws->pieces = take(e, (size_t)e->layout.shards * B * piece, f, &ok);
    ws->coverage = take(e, B * H, f, &ok);
    ws->cos_sin = take(e, M * (size_t)c->rotary, f, &ok);
    ws->logits = take(e, (size_t)ws->logit_rows * (size_t)c->vocab, f, &ok);
    ws->packet = take(e, packet_bytes(e), 1, &ok);
    ws->token = take(e, M, sizeof *ws->token, &ok);
    ws->position = take(e, M, sizeof *ws->position, &ok);
    ws->query_position = take(e, B * (H / G), sizeof *ws->query_position, &ok);
    ws->slot = take(e, M, sizeof *ws->slot, &ok);
    if (ok) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "workspace: no memory for passes of %d rows; use a smaller --chunk",
                      ws->rows);
}

void radar_workspace_close(radar_engine *e) {
    radar_workspace *ws = &e->ws;
    void *const all[] = {
        ws->x,        ws->normed,    ws->q,      ws->k,     ws->v,        ws->arranged,
        ws->attended, ws->projected, ws->gate,   ws->up,    ws->pieces,   ws->coverage,
        ws->cos_sin,  ws->logits,    ws->packet, ws->token, ws->position, ws->query_position,
        ws->slot};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) e->be->ops->release(e->be, all[i]);
}
