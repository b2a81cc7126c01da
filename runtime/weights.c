/* The model's vectors, on the device; and the weights that this rank multiplies with, packed once at open into one block of memory, in
 * the order a pass reads them.
 *
 * Its size is that of the rank's share of the quantised matrices (radar_matmul_packed_bytes).  After it only rows of the
 * embedding are read from the file, whose other pages may leave memory again; a rank touches no page of another's share. */
#include "kernels/matmul.h"
#include "runtime/device.h"
#include "runtime/sys.h"

/* Calls visit with every matrix of the model and the part of it that this rank multiplies with, in the order of a pass. */
static void each_part(radar_engine *e,
                      void (*visit)(radar_engine *, radar_matrix *, const radar_region *)) {
    radar_model *m = e->model;
    for (int i = 0; i <= m->config.n_layers; i++) {
        radar_layer *l = i < m->config.n_layers ? &m->layer[i] : NULL;
        radar_matrix *const by_rows[] = {l ? &l->q : &m->head, l ? &l->k : NULL, l ? &l->v : NULL,
                                         l ? &l->o : NULL};
        for (int j = 0; j < 4 && by_rows[j]; j++) {
            radar_region own = {.col_end = by_rows[j]->cols};
            radar_rank_slice(&e->layout, e->comm->rank, by_rows[j]->rows, RADAR_ROW_BLOCK,
                             &own.row_begin, &own.row_end);
            visit(e, by_rows[j], &own);
        }
        if (!l) continue;
        const radar_region rows = {e->inner_begin, e->inner_end, 0, m->config.width},
                           columns = {0, m->config.width, e->inner_begin, e->inner_end};
        visit(e, &l->gate, &rows);
        visit(e, &l->up, &rows);
        visit(e, &l->down, &columns);
    }
}

/* Calls visit with every norm and bias that the model has. */
static void each_vector(radar_engine *e, void (*visit)(radar_engine *, float **, int64_t n)) {
    radar_model *m = e->model;
    const int64_t W = m->config.width, D = m->config.head_dim;
    for (int i = 0; i < m->config.n_layers; i++) {
        radar_layer *l = &m->layer[i];
        const struct {
            float **vector;
            int64_t n;
        } all[] = {{&l->attn_norm, W},
                   {&l->ffn_norm, W},
                   {&l->q_norm, D},
                   {&l->k_norm, D},
                   {&l->q_bias, l->q.rows},
                   {&l->k_bias, l->k.rows},
                   {&l->v_bias, l->v.rows},
                   {&l->o_bias, l->o.rows},
                   {&l->gate_bias, l->gate.rows},
                   {&l->up_bias, l->up.rows},
                   {&l->down_bias, l->down.rows}};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            if (*all[j].vector) visit(e, all[j].vector, all[j].n);
    }
    visit(e, &m->final_norm, W);
}

/* Each begins at a multiple of 16 numbers. */
static size_t room_of_vector(int64_t n) { return ((size_t)n + 15) / 16 * 16; }

static void count_vector(radar_engine *e, float **vector, int64_t n) {
    (void)vector;
    e->vector_end += room_of_vector(n);
}

static void place_vector(radar_engine *e, float **vector, int64_t n) {
    e->be->ops->upload(e->be, e->vectors + e->vector_end, *vector, (size_t)n * sizeof **vector);
    radar_free(*vector);
    *vector = e->vectors + e->vector_end;
    e->vector_end += room_of_vector(n);
}

/* The model does not free what is the device's. */
static void forget_vector(radar_engine *e, float **vector, int64_t n) {
    (void)e, (void)n;
    *vector = NULL;
}

static radar_status place_vectors(radar_engine *e, radar_error *err) {
    e->vector_end = 0;
    each_vector(e, count_vector);
    e->vectors = e->be->ops->alloc(e->be, e->vector_end * sizeof *e->vectors);
    if (!e->vectors)
        return radar_fail(err, RADAR_ERR_MEMORY, "weights: no memory for norms and biases");
    e->vector_end = 0;
    each_vector(e, place_vector);
    return RADAR_OK;
}

static void count(radar_engine *e, radar_matrix *w, const radar_region *own) {
    size_t bytes = e->be->ops->pack_bytes(e->be, w, own);
    if (!radar_add(e->packed_bytes, bytes, &e->packed_bytes)) e->packed_bytes = SIZE_MAX;
}

static void pack(radar_engine *e, radar_matrix *w, const radar_region *own) {
    size_t bytes = e->be->ops->pack_bytes(e->be, w, own);
    if (bytes) e->be->ops->pack(e->be, (char *)e->packed + e->packed_end, w, own);
    e->packed_end += bytes;
    radar_tensorfile_rest(
        e->model->file); /* at once: memory never holds both forms of all of them */
}

radar_status radar_weights_open(radar_engine *e, radar_error *err) {
    radar_status st = place_vectors(e, err);
    if (st != RADAR_OK) return st;
    each_part(e, count);
    if (e->packed_bytes == 0) return RADAR_OK;
    const size_t available =
        radar_on_device(e) ? (size_t)e->be->ops->facts(e->be).free_bytes : radar_memory_available();
    e->packed = (available == 0 && !radar_on_device(e)) || e->packed_bytes < available
                    ? e->be->ops->alloc(e->be, e->packed_bytes)
                    : NULL;
    if (!e->packed)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "weights: %zu bytes are this rank's share, %zu are available; use more "
                          "ranks, or a smaller quantisation",
                          e->packed_bytes, available);
    each_part(e, pack);
    return RADAR_OK;
}

uint64_t radar_device_weight_bytes(const radar_engine *e) {
    radar_engine own = *e;
    own.packed_bytes = own.vector_end = 0;
    each_part(&own, count);
    each_vector(&own, count_vector);
    return own.packed_bytes + own.vector_end * sizeof *own.vectors;
}

void radar_weights_close(radar_engine *e) {
    if (e->vectors) each_vector(e, forget_vector);
    e->be->ops->release(e->be, e->packed);
    e->be->ops->release(e->be, e->vectors);
}
