/* The device memory of forward passes: sized once, so that no pass allocates. */
#include <string.h>

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

/* Rows of the passes and own columns of e, and every array that they need. */
enum { ARRAYS = 23 };
typedef struct array {
    void **memory;
    size_t count, size;
    enum { DEVICE, HOST, EXCHANGED } where;
} array;

static void shape(radar_engine *e, array out[ARRAYS]) {
    const radar_model_config *c = &e->model->config;
    radar_workspace *ws = &e->ws;
    size_t H = (size_t)c->n_heads, G = (size_t)c->n_kv_heads, D = (size_t)c->head_dim,
           W = (size_t)c->width, L = (size_t)c->n_layers, f = sizeof(float);
    size_t partials = H * (size_t)RADAR_PARTIAL(c->head_dim), piece = partials > W ? partials : W;
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
    const array all[ARRAYS] = {
        {(void **)&ws->x, M * W, f, DEVICE},
        {(void **)&ws->normed, M * W, f, DEVICE},
        {(void **)&ws->q, M * H * D, f, DEVICE},
        {(void **)&ws->k, M * G * D, f, DEVICE},
        {(void **)&ws->v, M * G * D, f, DEVICE},
        {(void **)&ws->arranged, B * H * D, f, DEVICE},
        {(void **)&ws->attended, M * H * D, f, DEVICE},
        {(void **)&ws->projected, M * W, f, DEVICE},
        {(void **)&ws->gate, M * own, f, DEVICE},
        {(void **)&ws->up, M * own, f, DEVICE},
        {(void **)&ws->pieces, (size_t)e->layout.shards * B * piece, f, EXCHANGED},
        {(void **)&ws->coverage, L * M * H, f, DEVICE},
        {(void **)&ws->odd, L + 1, sizeof *ws->odd, DEVICE},
        {(void **)&ws->cos_sin, M * (size_t)c->rotary, f, DEVICE},
        {(void **)&ws->logits, (size_t)ws->logit_rows * (size_t)c->vocab, f, DEVICE},
        {&ws->packet, packet_bytes(e), 1, EXCHANGED},
        {(void **)&ws->token, M, sizeof *ws->token, HOST},
        {(void **)&ws->position, M, sizeof *ws->position, HOST},
        {(void **)&ws->query_position, B * (H / G), sizeof *ws->query_position, HOST},
        {(void **)&ws->slot, M, sizeof *ws->slot, HOST},
        {(void **)&ws->seen_coverage, L * M * H, f, HOST},
        {(void **)&ws->seen_odd, L + 1, sizeof *ws->seen_odd, HOST},
        {(void **)&ws->seen_logits, (size_t)ws->logit_rows * (size_t)c->vocab, f, HOST}};
    memcpy(out, all, sizeof all);
}

uint64_t radar_workspace_bytes(radar_engine *e) {
    array all[ARRAYS];
    uint64_t bytes = 0;
    shape(e, all);
    for (int i = 0; i < ARRAYS; i++) bytes += all[i].count * all[i].size;
    return bytes;
}

static void *reserve(radar_engine *e, const array *a, size_t bytes) {
    if (a->where == HOST) return radar_alloc(bytes);
    if (a->where == EXCHANGED) return radar_comm_alloc(e->comm, bytes);
    return e->be->ops->alloc(e->be, bytes);
}

static void give_back(radar_engine *e, const array *a) {
    if (a->where == HOST)
        radar_free(*a->memory);
    else if (a->where == EXCHANGED)
        radar_comm_release(e->comm, *a->memory);
    else
        e->be->ops->release(e->be, *a->memory);
}

radar_status radar_workspace_open(radar_engine *e, radar_error *err) {
    array all[ARRAYS];
    bool ok = true;
    shape(e, all);
    for (int i = 0; i < ARRAYS; i++) {
        size_t count = all[i].count ? all[i].count : 1, bytes;
        if (radar_mul(count, all[i].size, &bytes)) *all[i].memory = reserve(e, &all[i], bytes);
        ok = ok && *all[i].memory;
    }
    if (ok) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "workspace: no memory for passes of %d rows; use a smaller --chunk",
                      e->ws.rows);
}

void radar_workspace_close(radar_engine *e) {
    array all[ARRAYS];
    shape(e, all);
    for (int i = 0; i < ARRAYS; i++) give_back(e, &all[i]);
}
