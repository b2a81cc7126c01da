/* cuda.h - the CUDA backend: its state, and its operations, a few files by what they are about. */
#ifndef RADAR_CUDA_H
#define RADAR_CUDA_H

#include "kernels/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/kv.h"
#include "kernels/cuda/queue.h"

struct radar_cuda_blas; /* blas.h */
struct radar_packed;    /* of ops_matmul.c */

typedef struct radar_cuda {
    radar_backend base;
    radar_backend_options opt;
    radar_cuda_device device;
    radar_cuda_queue *queue;
    struct radar_cuda_blas *blas; /* NULL: none */
    struct radar_packed *packed;  /* list of the matrices that lie on the device */
    void *table;                  /* host: where tables are made, before they are parameters */
    size_t table_bytes;
    char description[320];
} radar_cuda;

static inline radar_cuda *radar_cuda_of(radar_backend *be) { return (radar_cuda *)be; }

/* Memories of the device that operations share one after the other: radar_cuda_scratch(queue, slot, ...). */
enum {
    RADAR_CUDA_SPLITS_SLOT, /* attend: partials of splits */
    RADAR_CUDA_TURNS_SLOT,  /* attend: zero between launches */
    RADAR_CUDA_TOPK_SLOT,   /* topk: zero between launches */
    RADAR_CUDA_MISSED_SLOT,
    RADAR_CUDA_SCORER_SLOT,
    RADAR_CUDA_SAMPLE_SLOT,
    RADAR_CUDA_PRODUCT_SLOT /* matmul, blas */
};

/* The next power of two: bounds that shape a grid change with it alone, so that a graph serves many steps. */
static inline int64_t radar_cuda_bound(int64_t n) {
    int64_t bound = 1;
    while (bound < n) bound *= 2;
    return bound;
}

/* n of `size` bytes as parameters, with room for as many as their bound. */
void *radar_cuda_put_all(radar_cuda *cuda, const void *host, int64_t n, size_t size);

/* Room on the host for a table, until the next call; NULL: no memory, which is noted. */
void *radar_cuda_table(radar_cuda *cuda, size_t bytes);

/* The cache type of a view; RADAR_CUDA_KV_F32 for those that check() refuses. */
radar_cuda_kv radar_cuda_kv_of(radar_dtype type);

void radar_cuda_forget_weights(
    radar_cuda *cuda); /* frees the list of packed matrices, not their memory */

/* ---- the operations of kernels/backend.h ---- */

/* ops_layer.c */
void radar_cuda_op_embed(radar_backend *be, float *out, const radar_matrix *w, const int32_t *token,
                         int n);
void radar_cuda_op_norm(radar_backend *be, float *out, float *x, const float *y,
                        const float *weight, float eps, int64_t n, int width);
void radar_cuda_op_angles(radar_backend *be, float *cos_sin, const double *frequency, int rotary,
                          double magnitude, const int64_t *position, int n);
void radar_cuda_op_rotate(radar_backend *be, const radar_rotate_job *job);
void radar_cuda_op_gate(radar_backend *be, float *gate, const float *up, int64_t n);
void radar_cuda_op_add(radar_backend *be, float *x, const float *y, int64_t n);
void radar_cuda_op_sum(radar_backend *be, float *const *piece, int pieces, int64_t n);
void radar_cuda_op_odd(radar_backend *be, uint64_t *found, const float *x, int64_t n, int width);
void radar_cuda_op_append(radar_backend *be, const radar_kv_view *kv, int heads,
                          const int32_t *slot, const float *k, const float *v, size_t stride,
                          int n);

void radar_cuda_op_sample(radar_backend *be, radar_drawn *out, const radar_sampler_options *opt,
                          int64_t position, const float *logit, int vocab);

/* ops_matmul.c */
size_t radar_cuda_op_pack_bytes(radar_backend *be, const radar_matrix *w, const radar_region *part);
void radar_cuda_op_pack(radar_backend *be, void *memory, radar_matrix *w, const radar_region *part);
void radar_cuda_op_matmul(radar_backend *be, const radar_matmul_job *job, int n_jobs,
                          const float *x, size_t x_stride, int M);

/* ops_score.c */
radar_status radar_cuda_op_adopt(radar_backend *be, radar_scorer *scorer, radar_error *err);
void radar_cuda_op_forget(radar_backend *be, radar_scorer *scorer);
bool radar_cuda_has_scorer(const radar_scorer *scorer);
void radar_cuda_op_seal(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                        int heads, int32_t block, int n);
void radar_cuda_op_unite(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                         int heads, int levels, int32_t begin, int32_t end);
void radar_cuda_op_query(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                         size_t q_stride, int n);
void radar_cuda_op_score(radar_backend *be, const radar_scorer *scorer,
                         const radar_score_task *task, int n_tasks);

/* ops_select.c */
void radar_cuda_op_topk(radar_backend *be, const radar_topk_task *task, int n_tasks);
void radar_cuda_op_choose(radar_backend *be, const radar_choose_job *job);
void radar_cuda_op_missed(radar_backend *be, const radar_missed_task *task, int n_tasks);

/* ops_attend.c */
void radar_cuda_op_attend(radar_backend *be, const radar_attend_task *task, int n_tasks,
                          float scale, int rows);
void radar_cuda_op_merge(radar_backend *be, float *const *piece, int pieces, int64_t n, int D);
void radar_cuda_op_arrange(radar_backend *be, float *out, const float *q, int M, int G, int group,
                           int D);
void radar_cuda_op_take(radar_backend *be, float *out, const float *q, int M, int G, int group,
                        int D, const int32_t *row, int n);
void radar_cuda_op_finish(radar_backend *be, float *out, float *coverage, const float *partial,
                          int M, int G, int group, int D);
void radar_cuda_op_copy(radar_backend *be, const radar_copy *copy, int n);

#endif
