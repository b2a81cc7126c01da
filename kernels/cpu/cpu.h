/* cpu.h - the CPU backend: its state, and its operations, one file each. */
#ifndef RADAR_CPU_H
#define RADAR_CPU_H

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"

typedef struct radar_cpu {
    radar_backend base;
    radar_backend_options opt;
    radar_isa isa;
    void *
        scratch; /* activations rounded for the integer and bf16 paths, and one panel per thread: matmul.c lays it out */
    size_t scratch_bytes;
    char description[96];
} radar_cpu;

static inline radar_cpu *radar_cpu_of(radar_backend *be) { return (radar_cpu *)be; }

/* Scratch that matmul needs for these options. */
size_t radar_cpu_matmul_scratch(const radar_backend_options *opt);

void radar_cpu_embed(radar_backend *be, float *out, const radar_matrix *w, const int32_t *token,
                     int n);
void radar_cpu_norm(radar_backend *be, float *out, float *x, const float *y, const float *weight,
                    float eps, int64_t n, int width);
size_t radar_cpu_pack_bytes(radar_backend *be, const radar_matrix *w, const radar_region *part);
void radar_cpu_pack(radar_backend *be, void *memory, radar_matrix *w, const radar_region *part);
void radar_cpu_matmul(radar_backend *be, const radar_matmul_job *job, int n_jobs, const float *x,
                      size_t x_stride, int M);
void radar_cpu_angles(radar_backend *be, float *cos_sin, const double *frequency, int rotary,
                      double magnitude, const int64_t *position, int n);
void radar_cpu_rotate(radar_backend *be, const radar_rotate_job *job);
void radar_cpu_gate(radar_backend *be, float *gate, const float *up, int64_t n);
void radar_cpu_add(radar_backend *be, float *x, const float *y, int64_t n);
void radar_cpu_sum(radar_backend *be, float *const *piece, int pieces, int64_t n);
void radar_cpu_odd(radar_backend *be, uint64_t *found, const float *x, int64_t n, int width);
void radar_cpu_append(radar_backend *be, const radar_kv_view *kv, int heads, const int32_t *slot,
                      const float *k, const float *v, size_t stride, int n);
void radar_cpu_restore(radar_backend *be, const radar_kv_view *kv, int32_t begin, int32_t end);
void radar_cpu_seal(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                    int heads, int32_t block, int n);
void radar_cpu_unite(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                     int heads, int levels, int32_t begin, int32_t end);
void radar_cpu_query(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                     size_t q_stride, int n);
void radar_cpu_score(radar_backend *be, const radar_scorer *scorer, const radar_score_task *task,
                     int n_tasks);
void radar_cpu_topk(radar_backend *be, const radar_topk_task *task, int n_tasks);
void radar_cpu_choose(radar_backend *be, const radar_choose_job *job);
void radar_cpu_attend(radar_backend *be, const radar_attend_task *task, int n_tasks, float scale,
                      int rows);
void radar_cpu_weigh(radar_backend *be, const radar_weigh_task *task, int n_tasks, float scale);
void radar_cpu_merge(radar_backend *be, float *const *piece, int pieces, int64_t n, int D);
void radar_cpu_missed(radar_backend *be, const radar_missed_task *task, int n_tasks);
void radar_cpu_arrange(radar_backend *be, float *out, const float *q, int M, int G, int group,
                       int D);
void radar_cpu_take(radar_backend *be, float *out, const float *q, int M, int G, int group, int D,
                    const int32_t *row, int n);
void radar_cpu_finish(radar_backend *be, float *out, float *coverage, const float *partial, int M,
                      int G, int group, int D);
void radar_cpu_copy(radar_backend *be, const radar_copy *copy, int n);
void radar_cpu_touch(radar_backend *be, void *memory, size_t bytes);
uint64_t radar_cpu_read(radar_backend *be, const void *memory, size_t bytes);

#endif
