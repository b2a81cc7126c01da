#include "kernels/attend.h"

#include <string.h>

#include "kernels/cpu/attend_cpu.h"
#include "kernels/cpu/cpu.h"
#include "kernels/merge.h"

static void reset(const radar_attend_task *task) {
    int D = task->kv.D;
    for (int j = 0; j < task->n_query; j++) {
        float *p = task->partial + (size_t)j * task->partial_stride;
        memset(p, 0, sizeof *p * (size_t)RADAR_PARTIAL(D));
        p[RADAR_PARTIAL_M] = p[RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
    }
}

void radar_cpu_attend(radar_backend *be, const radar_attend_task *task, int n_tasks, float scale,
                      int rows) {
    (void)rows;
    const radar_cpu *cpu = radar_cpu_of(be);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(dynamic, 1)
    for (int i = 0; i < n_tasks; i++) {
        radar_attend_task now = task[i];
        now.items = radar_items_now(now.items);
        reset(&now);
        if (cpu->isa.avx512)
            radar_attend_avx512(cpu->isa, &now, scale);
        else
            radar_attend_portable(cpu->isa, &now, scale);
    }
}
