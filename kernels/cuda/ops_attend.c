/* Operations around attention. */
#include "kernels/cuda/attend.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/merge.h"
#include "kernels/cuda/move.h"
#include "runtime/sys.h"

/* Pieces of a list, of passes of few rows: enough blocks for a GPU where a rank has one shard of a few KV heads. */
#define SPLITS 8
#define FEW_ROWS 64
#define MANY_QUERIES 32 /* of a task: more go by attend_block, which has tiles of 64 */

/* Parameters that tasks one after the other share: positions of rows, lists of the host. */
typedef struct shared_put {
    const void *host, *device;
    int64_t n;
} shared_put;

static const void *put_once(radar_cuda *cuda, shared_put *last, const void *host, int64_t n,
                            size_t size) {
    if (last->device && last->host == host && last->n == n) return last->device;
    *last = (shared_put){host, radar_cuda_put_all(cuda, host, n, size), n};
    return last->device;
}

static radar_cuda_attend_task task_of(radar_cuda *cuda, const radar_attend_task *t,
                                      shared_put *position, shared_put *item) {
    const radar_items *list = &t->items;
    return (radar_cuda_attend_task){
        .k = t->kv.k,
        .v = t->kv.v,
        .k_scale = t->kv.key_scale,
        .v_scale = t->kv.value_scale,
        .stripe_segments = t->kv.stripe_segments,
        .shards = t->kv.shards,
        .phase = t->kv.phase,
        .n_query = t->n_query,
        .q = t->q,
        .q_stride = t->q_stride,
        .position = put_once(cuda, position, t->position, t->n_query, sizeof *t->position),
        .item = list->on_device ? list->item
                                : put_once(cuda, item, list->item, list->n, sizeof *list->item),
        .begin = list->begin,
        .count = list->count,
        .n = list->n,
        .partial = t->partial,
        .partial_stride = t->partial_stride,
    };
}

void radar_cuda_op_attend(radar_backend *be, const radar_attend_task *task, int n_tasks,
                          float scale, int rows) {
    radar_cuda *cuda = radar_cuda_of(be);
    shared_put position = {0}, item = {0};
    int most_query = 0;
    radar_cuda_attend_task *to = radar_cuda_table(cuda, (size_t)n_tasks * sizeof *to);
    if (!to || n_tasks == 0) return;
    for (int i = 0; i < n_tasks; i++) {
        to[i] = task_of(cuda, &task[i], &position, &item);
        most_query = task[i].n_query > most_query ? task[i].n_query : most_query;
    }
    const int splits = rows <= FEW_ROWS ? SPLITS : 1, D = task->kv.D;
    const radar_cuda_attend_args args = {
        .type = radar_cuda_kv_of(task->kv.type),
        .D = D,
        .task = radar_cuda_put_all(cuda, to, n_tasks, sizeof *to),
        .n_tasks = n_tasks,
        .most_query = most_query,
        .scale = scale,
        .splits = splits,
        .work = radar_cuda_scratch(cuda->queue, RADAR_CUDA_SPLITS_SLOT,
                                   radar_cuda_attend_work(n_tasks, most_query, splits, D)),
        .turn = radar_cuda_scratch(cuda->queue, RADAR_CUDA_TURNS_SLOT,
                                   radar_cuda_attend_turns(n_tasks, most_query)),
    };
    const bool block = splits == 1 && most_query > MANY_QUERIES;
    radar_cuda_note(cuda->queue, "attention",
                    (block ? radar_cuda_attend_block : radar_cuda_attend)(&args, cuda->queue));
}

void radar_cuda_op_merge(radar_backend *be, float *const *piece, int pieces, int64_t n, int D) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "merge", radar_cuda_merge(piece, pieces, n, D, cuda->queue));
}

void radar_cuda_op_arrange(radar_backend *be, float *out, const float *q, int M, int G, int group,
                           int D) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "arrange",
                    radar_cuda_arrange(out, q, M, G, group, D, cuda->queue));
}

void radar_cuda_op_take(radar_backend *be, float *out, const float *q, int M, int G, int group,
                        int D, const int32_t *row, int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    const int32_t *there = radar_cuda_put_all(cuda, row, n, sizeof *row);
    radar_cuda_note(cuda->queue, "take",
                    radar_cuda_take(out, q, M, G, group, D, there, n, cuda->queue));
}

void radar_cuda_op_finish(radar_backend *be, float *out, float *coverage, const float *partial,
                          int M, int G, int group, int D) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "finish",
                    radar_cuda_finish(out, coverage, partial, M, G, group, D, cuda->queue));
}

void radar_cuda_op_copy(radar_backend *be, const radar_copy *copy, int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    int64_t most = 0;
    if (n == 0) return;
    for (int i = 0; i < n; i++) most = radar_max64(most, copy[i].rows * copy[i].width);
    const radar_copy *there = radar_cuda_put_all(cuda, copy, n, sizeof *copy);
    radar_cuda_note(cuda->queue, "copies",
                    radar_cuda_copies(there, n, radar_cuda_bound(most), cuda->queue));
}
