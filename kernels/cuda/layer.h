/* layer.h - the small operations of a layer on the device: norm, add, gate (kernels/layer.h, norm.h), and what lies between
 * the projections and the attention: norms of heads, rotary positions, append to the cache (norm.h, rope.h, kv.h).
 *
 * Pointers are of the device unless said otherwise, and nothing that changes from step to step is an argument: positions
 * and slots are read from device memory, so a captured graph can be replayed.  Every function queues one kernel
 * and returns 0 or the CUDA error; what an argument cannot be is cudaErrorInvalidValue.  Nothing to do is 0.
 * The result for one row depends on that row alone. */
#ifndef RADAR_CUDA_LAYER_H
#define RADAR_CUDA_LAYER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/kv.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */
#include "kernels/dtype.h"

#define RADAR_CUDA_NORM_WIDTH 16384 /* at most */
/* out [n, width] := RMSNorm of x [n, width].  With y: x := x + y first.  out may be x where y is NULL. */
int radar_cuda_norm(float *out, float *x, const float *y, const float *weight, float eps, int n,
                    int width, struct radar_cuda_queue *queue);

int radar_cuda_add(float *x, const float *y, int64_t n,
                   struct radar_cuda_queue *queue); /* x := x + y */
int radar_cuda_gate(float *gate, const float *up, int64_t n,
                    struct radar_cuda_queue *queue); /* silu(gate) * up */

/* cos_sin [M, 2, rotary / 2] f32 (rope.h) of position[m], from frequency [rotary / 2] in radians per position, all times magnitude.
 * The product of position and frequency is not rounded before it is reduced: right to 2^-24 up to position 2^34, where the
 * rounding to double alone would turn an angle by 2^-19. */
int radar_cuda_angles(float *cos_sin, const double *frequency, int rotary, double magnitude,
                      const int64_t *position, int M, struct radar_cuda_queue *queue);

/* One shard of one layer, KV head by KV head: k [G, S, D, 16], v [G, S, 16, D], and of FP8 k_scale, v_scale [G, S, 16]. */
typedef struct radar_cuda_cache {
    radar_cuda_kv type;
    int32_t segments; /* S */
    void *k, *v;      /* NULL: nothing is appended */
    float *k_scale, *v_scale;
} radar_cuda_cache;

/* What the projections of M rows gave.  In this order:
 *   q, k := RMSNorm of each head, where there is a weight
 *   q, k := rotated by cos_sin (rope.h)
 *   cache slot[m] := k, v, rounded to the nearest of its type; slot[m] < 0: row m belongs to another shard
 * Bit for bit what norm, rope and append of the CPU give; FP8, which they have not, as kernels/cuda/kv.h says. */
typedef struct radar_cuda_heads {
    int M, H, G, D; /* H query heads, G KV heads, either may be 0; D a multiple of 16 up to 256 */
    float *q;       /* [H, D] of row m at q + m * q_stride; read, written */
    float *k;       /* [G, D] at k + m * kv_stride; read, written */
    const float *v; /* [G, D] at v + m * kv_stride */
    size_t q_stride, kv_stride;   /* numbers */
    const float *q_norm, *k_norm; /* [D]; NULL: no norm */
    float eps;
    const float *cos_sin; /* [M, 2, rotary / 2] */
    int rotary;           /* even, at most D; 0: no rotation */
    radar_rope_style style;
    const int32_t *slot; /* [M], distinct but for those < 0 */
    radar_cuda_cache cache;
} radar_cuda_heads;

/* heads lies in host memory and is read before the call returns. */
int radar_cuda_rotate_append(const radar_cuda_heads *heads, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
