#include "kernels/missed.h"

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/sum16.h"
#include "kernels/cpu/vmath.h"

#define PARALLEL_FROM 8192 /* units; fewer are not worth waking the other threads */

static void sum_missed(const radar_missed_task *task) {
    float m = -INFINITY, lane[16] = {0};
    for (int i = 0; i < task->n_items; i++) {
        int32_t at = task->item[i].segment / task->unit - task->segment_begin;
        if (at >= 0 && at < task->n) task->score[at] = -INFINITY;
    }
    for (int j = 0; j < task->n; j++) m = task->score[j] > m ? task->score[j] : m;
    task->missed[0] = m;
    task->missed[1] = 0;
    if (m == -INFINITY) return;
    for (int j = 0; j < task->n; j++) lane[j % 16] += radar_expf1(task->score[j] - m);
    task->missed[1] = radar_sum16(lane);
}

RADAR_AVX512 static void sum_missed_avx512(const radar_missed_task *task) {
    float lane[16];
    for (int i = 0; i < task->n_items; i++) {
        int32_t at = task->item[i].segment / task->unit - task->segment_begin;
        if (at >= 0 && at < task->n) task->score[at] = -INFINITY;
    }
    __m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int j = 0; j < task->n; j += 16) {
        __mmask16 tail = task->n - j >= 16 ? 0xffff : (__mmask16)((1u << (task->n - j)) - 1);
        max = _mm512_mask_max_ps(max, tail, max, _mm512_maskz_loadu_ps(tail, task->score + j));
    }
    float m = _mm512_reduce_max_ps(max);
    task->missed[0] = m;
    task->missed[1] = 0;
    if (m == -INFINITY) return;
    for (int j = 0; j < task->n; j += 16) {
        __mmask16 tail = task->n - j >= 16 ? 0xffff : (__mmask16)((1u << (task->n - j)) - 1);
        __m512 e = radar_expf16(
            _mm512_sub_ps(_mm512_maskz_loadu_ps(tail, task->score + j), _mm512_set1_ps(m)));
        sum = _mm512_mask_add_ps(sum, tail, sum, e);
    }
    _mm512_storeu_ps(lane, sum);
    task->missed[1] = radar_sum16(lane);
}

void radar_cpu_missed(radar_backend *be, const radar_missed_task *task, int n_tasks) {
    const radar_cpu *cpu = radar_cpu_of(be);
    void (*sum)(const radar_missed_task *) = cpu->isa.avx512 ? sum_missed_avx512 : sum_missed;
    int64_t units = 0;
    for (int i = 0; i < n_tasks; i++) units += task[i].n;
    if (units < PARALLEL_FROM) {
        for (int i = 0; i < n_tasks; i++) sum(&task[i]);
        return;
    }
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static)
    for (int i = 0; i < n_tasks; i++) sum(&task[i]);
}
