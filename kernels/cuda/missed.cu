/* missed - the log-mass of scored units that no item lists.
 *   m' = max_j score_j,  l' = sum_j exp(score_j - m');  none: (-inf, 0)
 * chunks  a block per chunk of 4096 scores of a query: crosses out the chosen ones among them, then finds {m, l} of the rest.  Each
 *         block looks through the whole list, 8 bytes an item out of L2, so that it needs no order.  Thread t has scores t, t + 256,
 *         ..., which stay in registers; threads fold in a tree.
 * rows    a warp per query merges its chunks: lane i those of i, i + 32, ..., then lanes in a tree.
 * Chunks are cut from the range's begin, so the sums have one order for every grid.  Reads 4 bytes a score; all of it was just
 * written and is in L2. */
#include "kernels/cuda/missed.h"

#include "kernels/cuda/dev.h"
#include "kernels/cuda/vmath.h"

enum { MISSED_THREADS = 256, MISSED_EACH = RADAR_CUDA_MISSED_CHUNK / MISSED_THREADS };

DEV float minus_infinity() { return dev_float(0xff800000u); }

/* What x adds to a sum around m: nothing where it is -inf, even beside m = -inf; a NaN stays one. */
DEV float term(float x, float m) { return x == minus_infinity() ? 0.0f : exp_as_cpu(x - m); }

/* The greater; of a NaN and a number the number. */
DEV float greater(float a, float b) { return b > a ? b : a; }

DEV float fold_max(float x) {
    for (int i = 16; i; i /= 2) x = greater(x, dev_shuffle_xor(x, i));
    return x;
}
DEV float fold_sum(float x) {
    for (int i = 16; i; i /= 2) x += dev_shuffle_xor(x, i);
    return x;
}

/* Chosen units among [begin, begin + n) get the score -inf. */
DEV void cross_out(const radar_cuda_missed_task &t, float *score, int64_t begin, int64_t n) {
    const int64_t first = t.begin ? *t.begin : 0;
    const int n_items = t.count ? *t.count : t.n_items;
    for (int i = (int)threadIdx.x; i < n_items; i += (int)blockDim.x) {
        const int32_t segment = t.item ? t.item[first + i].segment : (int32_t)(first + i);
        const int64_t at = segment / t.unit - begin;
        if (segment >= 0 && at >= 0 && at < n) score[at] = minus_infinity();
    }
}

/* {m, l} of the chunks of a query of a task. */
DEV float *chunks_of(const radar_cuda_missed &a, int chunks, int task, int query) {
    return a.work + ((size_t)task * (size_t)a.most_query + (size_t)query) * (size_t)chunks * 2;
}

/* Grid (chunks, queries, tasks), 256 threads. */
KERNEL void radar_missed_chunks(radar_cuda_missed a, int chunks) {
    SHARED(float, warp_max, MISSED_THREADS / 32);
    SHARED(float, warp_sum, MISSED_THREADS / 32);
    const radar_cuda_missed_task &t = a.task[blockIdx.z];
    const int query = (int)blockIdx.y;
    const int64_t from = (int64_t)blockIdx.x * RADAR_CUDA_MISSED_CHUNK, all = t.n - from;
    const int64_t n = all < RADAR_CUDA_MISSED_CHUNK ? all : RADAR_CUDA_MISSED_CHUNK;
    if (n <= 0 || query >= t.n_query) return;
    float *score = t.score + (size_t)query * t.score_stride + from;
    float x[MISSED_EACH], m = minus_infinity(), sum = 0;
    cross_out(t, score, t.segment_begin + from, n);
    dev_block_sync(); /* scores of other threads are crossed out */
    for (int i = 0; i < MISSED_EACH; i++) {
        const int at = i * MISSED_THREADS + (int)threadIdx.x;
        x[i] = at < n ? score[at] : minus_infinity();
        m = greater(m, x[i]);
    }
    m = fold_max(m);
    if (dev_lane() == 0) warp_max[dev_warp()] = m;
    dev_block_sync();
    for (int w = 0; w < MISSED_THREADS / 32; w++) m = greater(m, warp_max[w]);
    for (int i = 0; i < MISSED_EACH; i++) sum += term(x[i], m);
    sum = fold_sum(sum);
    if (dev_lane() == 0) warp_sum[dev_warp()] = sum;
    dev_block_sync();
    if (threadIdx.x > 0) return;
    sum = 0;
    for (int w = 0; w < MISSED_THREADS / 32; w++) sum += warp_sum[w];
    float *out = chunks_of(a, chunks, (int)blockIdx.z, query) + blockIdx.x * 2;
    out[0] = m;
    out[1] = sum;
}

/* Grid (queries / 4, tasks), 128 threads. */
KERNEL void radar_missed_rows(radar_cuda_missed a, int chunks) {
    const radar_cuda_missed_task &t = a.task[blockIdx.y];
    const int query = (int)(blockIdx.x * 4 + dev_warp());
    if (query >= t.n_query) return;
    const int used = (int)(((int64_t)t.n + RADAR_CUDA_MISSED_CHUNK - 1) / RADAR_CUDA_MISSED_CHUNK);
    const float *part = chunks_of(a, chunks, (int)blockIdx.y, query);
    float m = minus_infinity(), sum = 0;
    for (int i = (int)dev_lane(); i < used; i += 32) m = greater(m, part[2 * i]);
    m = fold_max(m);
    for (int i = (int)dev_lane(); i < used; i += 32) {
        const float weight = term(part[2 * i], m);
        sum += part[2 * i + 1] * weight;
    }
    sum = fold_sum(sum);
    if (dev_lane() > 0) return;
    float *to = t.missed + (size_t)query * t.missed_stride;
    to[0] = m;
    to[1] = m == minus_infinity() ? 0.0f : sum;
}

int radar_cuda_sum_missed(const radar_cuda_missed *a, radar_cuda_queue *queue) {
    const int chunks = (a->most + RADAR_CUDA_MISSED_CHUNK - 1) / RADAR_CUDA_MISSED_CHUNK;
    const unsigned queries = (unsigned)a->most_query, tasks = (unsigned)a->n_tasks;
    int bad = 0;
    if (a->n_tasks < 1 || a->most_query < 1) return 0;
    if (chunks > 0)
        bad = LAUNCH(radar_missed_chunks, dim3((unsigned)chunks, queries, tasks),
                     dim3(MISSED_THREADS), 0, queue, *a, chunks);
    if (bad) return bad;
    return LAUNCH(radar_missed_rows, dim3((queries + 3) / 4, tasks), dim3(128), 0, queue, *a,
                  chunks);
}
