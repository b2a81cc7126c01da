#include "kernels/missed.h"

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/segment.h"
#include "kernels/cpu/sum16.h"
#include "kernels/cpu/vmath.h"

#define PARALLEL_FROM 8192 /* units; fewer are not worth waking the other threads */

/* The chosen units of [begin, begin + n) count nothing. */
static void cross_out(float *score, int n, const radar_missed_task *task) {
    for (int i = 0; i < task->items.n; i++) {
        int32_t at = task->items.item[i].segment / task->unit - task->segment_begin;
        if (at >= 0 && at < n) score[at] = -INFINITY;
    }
}

static void sum_missed(float *missed, const float *score, int n) {
    float m = -INFINITY, lane[16] = {0};
    for (int j = 0; j < n; j++) m = score[j] > m ? score[j] : m;
    missed[0] = m;
    missed[1] = 0;
    if (m == -INFINITY) return;
    for (int j = 0; j < n; j++) lane[j % 16] += radar_expf1(score[j] - m);
    missed[1] = radar_sum16(lane);
}

RADAR_AVX512 static void sum_missed_avx512(float *missed, const float *score, int n) {
    float lane[16];
    __m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int j = 0; j < n; j += 16) {
        __mmask16 tail = radar_tail_mask(n - j);
        max = _mm512_mask_max_ps(max, tail, max, _mm512_maskz_loadu_ps(tail, score + j));
    }
    float m = _mm512_reduce_max_ps(max);
    missed[0] = m;
    missed[1] = 0;
    if (m == -INFINITY) return;
    for (int j = 0; j < n; j += 16) {
        __mmask16 tail = radar_tail_mask(n - j);
        __m512 e =
            radar_expf16(_mm512_sub_ps(_mm512_maskz_loadu_ps(tail, score + j), _mm512_set1_ps(m)));
        sum = _mm512_mask_add_ps(sum, tail, sum, e);
    }
    _mm512_storeu_ps(lane, sum);
    missed[1] = radar_sum16(lane);
}

static void sum_task(bool avx512, const radar_missed_task *given) {
    radar_missed_task task = *given;
    task.items = radar_items_now(task.items);
    for (int j = 0; j < task.n_query; j++) {
        float *score = task.score + (size_t)j * task.score_stride,
              *missed = task.missed + (size_t)j * task.missed_stride;
        cross_out(score, task.n, &task);
        (avx512 ? sum_missed_avx512 : sum_missed)(missed, score, task.n);
    }
}

void radar_cpu_missed(radar_backend *be, const radar_missed_task *task, int n_tasks) {
    const radar_cpu *cpu = radar_cpu_of(be);
    int64_t units = 0;
    for (int i = 0; i < n_tasks; i++) units += (int64_t)task[i].n_query * task[i].n;
#pragma omp parallel for num_threads(cpu->opt.n_threads) \
    schedule(static) if (units >= PARALLEL_FROM)
    for (int i = 0; i < n_tasks; i++) sum_task(cpu->isa.avx512, &task[i]);
}
