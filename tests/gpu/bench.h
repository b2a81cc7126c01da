/* bench.h - measurements on one device: how a measured line is written, and what the parts share. */
#ifndef RADAR_GPU_BENCH_H
#define RADAR_GPU_BENCH_H

#include "kernels/cuda/cuda.h"
#include "runtime/engine.h"
#include "tests/gpu/synth.h"

#define SAMPLES 20

typedef struct bench_shape {
    const char *name, *family;
    int layers, W, inner, H, G, D, vocab;
    bool qk_norm;
    int64_t longest; /* tokens of context */
} bench_shape;

extern const bench_shape bench_shapes[]; /* name NULL: the end */

/* target 0: none.  at_least: a figure below it is missed, else one above it. */
void bench_line(const char *name, double value, const char *unit, double target, bool at_least);
void bench_stop(const char *what); /* ends the program: nothing more can be measured */

/* Median seconds, of SAMPLES, of `times` runs of queue_it(data) that are one list. */
double bench_seconds(radar_backend *be, void (*queue_it)(void *data), void *data, int times);
static inline radar_cuda_queue *bench_queue(radar_backend *be) { return radar_cuda_of(be)->queue; }

/* Normal numbers of that size in `type` (FP8: scales are for numbers up to 12), on the device until the backend closes. */
synth_table bench_table(radar_backend *be, radar_dtype type, double size);
/* All of a planned and opened cache. */
void bench_fill_cache(radar_kvcache *kv);

double bench_read_ceiling(radar_backend *be, bool toy); /* bytes a second */
void bench_ceilings(radar_backend *be, bool toy);
void bench_kernels(radar_backend *be, bool toy);
void bench_decode(const bench_shape *shape, const char *folder, bool toy);

/* A GGUF of that shape, all holes but for its head and a few rows of the embedding. */
void bench_write_model(const bench_shape *shape, const char *path);
#define BENCH_TOKENS 16 /* tokens that have such a row */

#endif
