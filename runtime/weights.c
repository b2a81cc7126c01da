/* The weights that this rank multiplies with, packed once at open into one block of memory, in the order a pass reads them.
 *
 * Its size is that of the rank's share of the quantised matrices (radar_matmul_packed_bytes).  After it only rows of the
 * embedding are read from the file, whose other pages may leave memory again; a rank touches no page of another's share. */
#include "kernels/matmul.h"
#include "runtime/engine.h"
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
    each_part(e, count);
    if (e->packed_bytes == 0) return RADAR_OK;
    size_t available = radar_memory_available();
    e->packed = available == 0 || e->packed_bytes < available
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

void radar_weights_close(radar_engine *e) { e->be->ops->release(e->be, e->packed); }
