#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/q8.h"

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
static void put_column(radar_dtype type, void *tile, int D, size_t at, const void *key) {
    if (type == RADAR_F32)
        for (int d = 0; d < D; d++)
            ((float *)tile)[(size_t)d * RADAR_SEGMENT + at] = ((const float *)key)[d];
    else
        for (int d = 0; d < D; d++)
            ((uint16_t *)tile)[(size_t)d * RADAR_SEGMENT + at] = ((const uint16_t *)key)[d];
}

/* Where new tokens of a slot's segment go. */
static radar_place place_of_new(const radar_kv_view *kv, int32_t slot) {
    radar_kv_view all = *kv;
    all.tail_begin = 0;
    return radar_place_of(&all, slot / RADAR_SEGMENT);
}

/* The blocks whose last token is among the slots. */
static void pack_complete(const radar_cpu *cpu, const radar_kv_view *kv, const int32_t *slot,
                          int n) {
    radar_rotation r;
    int32_t begin = slot[0] / RADAR_BLOCK, end = (slot[n - 1] + 1) / RADAR_BLOCK;
    radar_rotation_of_q8(&r, kv->D);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static) if (end - begin >= 2)
    for (int32_t block = begin; block < end; block++) radar_q8_pack(cpu->isa, &r, kv, block);
}

static void append_head(const radar_cpu *cpu, const radar_kv_view *kv, const int32_t *slot,
                        const float *k, const float *v, size_t stride, int n) {
    void (*round_row)(void *, radar_dtype, const float *, int) =
        cpu->isa.avx512 ? round_avx512 : round_plain;
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static) if (n >= 64)
    for (int i = 0; i < n; i++) {
        _Alignas(64) float key[RADAR_MAX_D];
        radar_place to = place_of_new(kv, slot[i]);
        size_t row = radar_segment_bytes(to.type, kv->D) / RADAR_SEGMENT,
               at = (size_t)(slot[i] % RADAR_SEGMENT);
        round_row(key, to.type, k + (size_t)i * stride, kv->D);
        put_column(to.type, (void *)to.k, kv->D, at, key);
        round_row((char *)to.v + at * row, to.type, v + (size_t)i * stride, kv->D);
    }
    if (kv->type == RADAR_Q8) pack_complete(cpu, kv, slot, n);
}

void radar_cpu_append(radar_backend *be, const radar_kv_view *kv, int heads, const int32_t *slot,
                      const float *k, const float *v, size_t stride, int n) {
    for (int h = 0; h < heads; h++) {
        const size_t at = (size_t)h * (size_t)kv->D;
        append_head(radar_cpu_of(be), &kv[h], slot, k + at, v + at, stride, n);
    }
}

void radar_cpu_restore(radar_backend *be, const radar_kv_view *kv, int32_t begin, int32_t end) {
    const radar_cpu *cpu = radar_cpu_of(be);
    radar_rotation r;
    radar_rotation_of_q8(&r, kv->D);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static)
    for (int32_t segment = begin; segment < end; segment++) {
        _Alignas(64) float k[RADAR_SEGMENT * RADAR_MAX_D], v[RADAR_SEGMENT * RADAR_MAX_D];
        int tile = RADAR_SEGMENT * kv->D;
        radar_place to = place_of_new(kv, segment * RADAR_SEGMENT);
        radar_q8_keys(cpu->isa, &r, k, kv, segment);
        radar_q8_values(cpu->isa, v, kv, segment);
        round_plain((void *)to.k, RADAR_F16, k, tile);
        round_plain((void *)to.v, RADAR_F16, v, tile);
    }
}
