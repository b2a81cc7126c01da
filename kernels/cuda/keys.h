/* keys.h - keys of every type of kv.h as f32: what is sealed.  FP8: e4m3 times the scale of its token, rounded on its own. */
#ifndef RADAR_CUDA_KEYS_H
#define RADAR_CUDA_KEYS_H

#include "kernels/cuda/dev.h"
#include "kernels/cuda/scoring.h"

/* Those of one KV head. */
struct head_keys {
    radar_cuda_kv type;
    int D;
    const char *key;
    const float *scale;
};

DEV head_keys keys_of(const radar_cuda_seal &t, unsigned head) {
    const bool scaled = t.type == RADAR_CUDA_KV_FP8;
    return {t.type, t.D, static_cast<const char *>(t.key) + head * t.key_stride,
            scaled ? t.key_scale + head * t.scale_stride : nullptr};
}

DEV float key_at(const head_keys &k, int64_t segment, int d, int token) {
    const int64_t i = (segment * k.D + d) * 16 + token;
    if (k.type == RADAR_CUDA_KV_F32) return reinterpret_cast<const float *>(k.key)[i];
    if (k.type == RADAR_CUDA_KV_FP8) {
        float two[2];
        dev_e4m3x2_to_f32(static_cast<uint8_t>(k.key[i]), two);
        return dev_mul(two[0], k.scale[segment * 16 + token]);
    }
    const uint16_t h = reinterpret_cast<const uint16_t *>(k.key)[i];
    return k.type == RADAR_CUDA_KV_F16 ? dev_f16_to_f32(h) : dev_bf16_to_f32(h);
}

DEV void eight_keys(float *key, const uint4 &v, bool f16) {
    const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint16_t h = static_cast<uint16_t>(word[i / 2] >> i % 2 * 16);
        key[i] = f16 ? dev_f16_to_f32(h) : dev_bf16_to_f32(h);
    }
}

DEV void four_scaled(float *key, uint32_t codes, const float4 &scale) {
    dev_e4m3x2_to_f32(static_cast<uint16_t>(codes), key);
    dev_e4m3x2_to_f32(static_cast<uint16_t>(codes >> 16), key + 2);
    key[0] = dev_mul(key[0], scale.x), key[1] = dev_mul(key[1], scale.y);
    key[2] = dev_mul(key[2], scale.z), key[3] = dev_mul(key[3], scale.w);
}

/* Dimension d of a segment's 16 tokens, which lie in a row. */
DEV void key_row(float key[16], const head_keys &k, int64_t segment, int d) {
    const int64_t row = segment * k.D + d;
    if (k.type == RADAR_CUDA_KV_F32) {
        const float4 *from = reinterpret_cast<const float4 *>(k.key) + row * 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float4 x = from[i];
            key[4 * i] = x.x, key[4 * i + 1] = x.y, key[4 * i + 2] = x.z, key[4 * i + 3] = x.w;
        }
    } else if (k.type == RADAR_CUDA_KV_FP8) {
        const uint4 codes = reinterpret_cast<const uint4 *>(k.key)[row];
        const float4 *scale = reinterpret_cast<const float4 *>(k.scale) + segment * 4;
        four_scaled(key, codes.x, scale[0]);
        four_scaled(key + 4, codes.y, scale[1]);
        four_scaled(key + 8, codes.z, scale[2]);
        four_scaled(key + 12, codes.w, scale[3]);
    } else {
        const uint4 *from = reinterpret_cast<const uint4 *>(k.key) + row * 2;
        const uint4 low = from[0], high = from[1];
        eight_keys(key, low, k.type == RADAR_CUDA_KV_F16);
        eight_keys(key + 8, high, k.type == RADAR_CUDA_KV_F16);
    }
}

#endif
