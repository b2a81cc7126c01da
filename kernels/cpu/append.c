#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/segment.h"

static void round_plain(void *out, radar_dtype type, const float *x, int D) {
    uint16_t *h = out;
    if (type == RADAR_F32) memcpy(out, x, (size_t)D * sizeof *x);
    if (type == RADAR_F16)
        for (int d = 0; d < D; d++) h[d] = radar_f32_to_f16(x[d]);
    if (type == RADAR_BF16)
        for (int d = 0; d < D; d++) h[d] = radar_f32_to_bf16(x[d]);
}

/* As radar_f32_to_bf16: the machine's own conversion flushes subnormal numbers. */
RADAR_TEMPLATE RADAR_AVX512 __m256i to_bf16(__m512 x) {
    __m512i u = _mm512_castps_si512(x),
            odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(
        _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(r, nan, quiet));
}

RADAR_AVX512 static void round_avx512(void *out, radar_dtype type, const float *x, int D) {
    if (type == RADAR_F32) {
        memcpy(out, x, (size_t)D * sizeof *x);
        return;
    }
    for (int d = 0; d < D; d += 16) {
        __mmask16 tail = radar_tail_mask(D - d);
        __m512 v = _mm512_maskz_loadu_ps(tail, x + d);
        __m256i h = type == RADAR_F16
                        ? _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                        : to_bf16(v);
        _mm256_mask_storeu_epi16((uint16_t *)out + d, tail, h);
    }
}

/* A key goes down a column of its tile [D, 16]. */
static void put_column(const radar_kv_view *kv, int32_t slot, const void *key) {
    void *tile =
        (char *)kv->k + (size_t)(slot / RADAR_SEGMENT) * radar_segment_bytes(kv->type, kv->D);
    size_t at = (size_t)(slot % RADAR_SEGMENT);
    if (kv->type == RADAR_F32)
        for (int d = 0; d < kv->D; d++)
            ((float *)tile)[(size_t)d * RADAR_SEGMENT + at] = ((const float *)key)[d];
    else
        for (int d = 0; d < kv->D; d++)
            ((uint16_t *)tile)[(size_t)d * RADAR_SEGMENT + at] = ((const uint16_t *)key)[d];
}

void radar_cpu_append(radar_backend *be, const radar_kv_view *kv, const int32_t *slot,
                      const float *k, const float *v, size_t stride, int n) {
    const radar_cpu *cpu = radar_cpu_of(be);
    size_t row = radar_segment_bytes(kv->type, kv->D) / RADAR_SEGMENT;
    void (*round_row)(void *, radar_dtype, const float *, int) =
        cpu->isa.avx512 ? round_avx512 : round_plain;
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static) if (n >= 64)
    for (int i = 0; i < n; i++) {
        _Alignas(64) float key[RADAR_MAX_D];
        round_row(key, kv->type, k + (size_t)i * stride, kv->D);
        put_column(kv, slot[i], key);
        round_row((char *)kv->v + (size_t)slot[i] * row, kv->type, v + (size_t)i * stride, kv->D);
    }
}
