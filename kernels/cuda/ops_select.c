/* Operations of selection: tasks of the host become tables on the device. */
#include "kernels/cuda/choose.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/missed.h"
#include "kernels/cuda/topk.h"
#include "runtime/sys.h"

/* Ranges of all tasks, and then the tasks. */
static const radar_cuda_topk_task *put_tasks(radar_cuda *cuda, const radar_topk_task *task,
                                             int n_tasks, int64_t ranges) {
    radar_cuda_topk_range *range = radar_cuda_table(
        cuda, (size_t)ranges * sizeof *range + (size_t)n_tasks * sizeof(radar_cuda_topk_task));
    radar_cuda_topk_task *to = (radar_cuda_topk_task *)(void *)(range + ranges);
    if (!range) return NULL;
    for (int i = 0, at = 0; i < n_tasks; i++)
        for (int j = 0; j < task[i].n_ranges; j++) {
            const radar_topk_range *r = &task[i].range[j];
            range[at++] = (radar_cuda_topk_range){r->score, r->n,    r->segment_begin,
                                                  r->phase, r->list, r->n_listed};
        }
    const radar_cuda_topk_range *there = radar_cuda_put_all(cuda, range, ranges, sizeof *range);
    for (int i = 0; i < n_tasks; there += task[i++].n_ranges) {
        const radar_topk_task *t = &task[i];
        to[i] = (radar_cuda_topk_task){there,   t->n_ranges, t->stripe_segments, t->shards,
                                       t->keep, t->key,      t->segment,         t->n_kept};
    }
    return radar_cuda_put_all(cuda, to, n_tasks, sizeof *to);
}

void radar_cuda_op_topk(radar_backend *be, const radar_topk_task *task, int n_tasks) {
    radar_cuda *cuda = radar_cuda_of(be);
    int64_t ranges = 0, most = 0;
    if (n_tasks == 0) return;
    for (int i = 0; i < n_tasks; i++) {
        int64_t n = 0;
        for (int j = 0; j < task[i].n_ranges; j++) n += task[i].range[j].n;
        ranges += task[i].n_ranges;
        most = radar_max64(most, n);
    }
    const radar_cuda_topk_task *there = put_tasks(cuda, task, n_tasks, ranges);
    most = radar_cuda_bound(most);
    const radar_cuda_topk_args args = {
        .task = there,
        .n_tasks = n_tasks,
        .most = most,
        .scratch = radar_cuda_scratch(cuda->queue, RADAR_CUDA_TOPK_SLOT,
                                      radar_cuda_topk_scratch(n_tasks, most)),
    };
    if (there) radar_cuda_note(cuda->queue, "top-k", radar_cuda_topk(&args, cuda->queue));
}

void radar_cuda_op_choose(radar_backend *be, const radar_choose_job *job) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_choose_job there = *job;
    there.row = radar_cuda_put_all(cuda, job->row, job->rows, sizeof *job->row);
    there.part = radar_cuda_put_all(cuda, job->part, (int64_t)job->groups * job->shards.n,
                                    sizeof *job->part);
    radar_cuda_note(cuda->queue, "choice", radar_cuda_choose(&there, cuda->queue));
}

void radar_cuda_op_missed(radar_backend *be, const radar_missed_task *task, int n_tasks) {
    radar_cuda *cuda = radar_cuda_of(be);
    int most = 0, most_query = 0;
    radar_cuda_missed_task *to = radar_cuda_table(cuda, (size_t)n_tasks * sizeof *to);
    if (!to || n_tasks == 0) return;
    for (int i = 0; i < n_tasks; i++) {
        const radar_missed_task *t = &task[i];
        to[i] = (radar_cuda_missed_task){
            .n_query = t->n_query,
            .score = t->score,
            .score_stride = t->score_stride,
            .n = t->n,
            .unit = t->unit,
            .segment_begin = t->segment_begin,
            .item = t->items.item, /* lists that leave something out were made on the device */
            .begin = t->items.begin,
            .count = t->items.count,
            .n_items = t->items.n,
            .missed = t->missed,
            .missed_stride = t->missed_stride,
        };
        most = t->n > most ? t->n : most;
        most_query = t->n_query > most_query ? t->n_query : most_query;
    }
    most = (int)radar_cuda_bound(most);
    const radar_cuda_missed args = {
        .task = radar_cuda_put_all(cuda, to, n_tasks, sizeof *to),
        .n_tasks = n_tasks,
        .most_query = most_query,
        .most = most,
        .work = radar_cuda_scratch(cuda->queue, RADAR_CUDA_MISSED_SLOT,
                                   radar_cuda_missed_work(n_tasks, most_query, most)),
    };
    radar_cuda_note(cuda->queue, "coverage", radar_cuda_sum_missed(&args, cuda->queue));
}
