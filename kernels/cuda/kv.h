/* kv.h - how the cache lies in device memory, for one layer and one KV head; kernels/kv.h in fewer forms.
 *   F16, BF16, F32   k [S, D, 16]   v [S, 16, D]
 *   FP8              k [S, D, 16]   v [S, 16, D]   e4m3, times k_scale [S, 16] and v_scale [S, 16] f32 of the token
 * FP8: scale = max_d |x| / 448, x ~ scale e4m3(x / scale): the error is at most 2^-4 of the number, 2^-10 scale for those below
 * 2^-6 scale.  A token of zeros has scale 0; infinities become the largest number of f32. */
#ifndef RADAR_CUDA_KV_H
#define RADAR_CUDA_KV_H

typedef enum radar_cuda_kv {
    RADAR_CUDA_KV_F16,
    RADAR_CUDA_KV_BF16,
    RADAR_CUDA_KV_FP8,
    RADAR_CUDA_KV_F32
} radar_cuda_kv;

#endif
