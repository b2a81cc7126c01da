#include "kernels/cpu/dequantize.h"

#include <immintrin.h>
#include <string.h>

/* d (f16) of a block, in all lanes. */
RADAR_AVX512 static inline __m512 broadcast_f16(const uint8_t *p) {
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(u)));
}

RADAR_AVX512 static inline __m512 floats_of(__m128i byte) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(byte));
}

RADAR_AVX512 static void f16_avx512(float *out, const uint8_t *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        _mm512_mask_storeu_ps(out + i, k, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(k, p + 2 * i)));
    }
}

RADAR_AVX2 static void f16_avx2(float *out, const uint8_t *p, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 2 * i))));
    radar_dequantize(out + i, RADAR_F16, p, i, n);
}

RADAR_AVX512 static void bf16_avx512(float *out, const uint8_t *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(k, p + 2 * i));
        _mm512_mask_storeu_ps(out + i, k, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
    }
}

RADAR_AVX512 static void q8_0_avx512(float *out, const uint8_t *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 32, p += 34) {
        __m512 d = broadcast_f16(p);
        for (int half = 0; half < 32; half += 16) {
            __m128i q = _mm_loadu_si128((const __m128i *)(p + 2 + half));
            _mm512_storeu_ps(out + i + half, _mm512_mul_ps(d, floats_of(q)));
        }
    }
}

RADAR_AVX512 static void q4_avx512(float *out, const uint8_t *p, int64_t n, bool has_min) {
    const __m128i nibble = _mm_set1_epi8(15), offset = _mm_set1_epi8(has_min ? 0 : 8);
    int64_t head = has_min ? 4 : 2;
    for (int64_t i = 0; i < n; i += 32, p += head + 16) {
        __m512 d = broadcast_f16(p);
        __m128i q = _mm_loadu_si128((const __m128i *)(p + head));
        __m128i low = _mm_sub_epi8(_mm_and_si128(q, nibble), offset);
        __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(q, 4), nibble), offset);
        __m512 a = _mm512_mul_ps(d, floats_of(low)), b = _mm512_mul_ps(d, floats_of(high));
        if (has_min) {
            __m512 m = broadcast_f16(p + 2);
            a = _mm512_add_ps(a, m);
            b = _mm512_add_ps(b, m);
        }
        _mm512_storeu_ps(out + i, a);
        _mm512_storeu_ps(out + i + 16, b);
    }
}

void radar_cpu_dequantize(radar_isa isa, float *out, radar_dtype type, const void *row,
                          int64_t begin, int64_t end) {
    int64_t n = end - begin;
    const uint8_t *p = (const uint8_t *)row +
                       (size_t)(begin / radar_dtype_block(type)) * radar_dtype_block_bytes(type);
    bool vectors = isa.avx512 && (type == RADAR_F16 || type == RADAR_BF16 || type == RADAR_Q8_0 ||
                                  type == RADAR_Q4_0 || type == RADAR_Q4_1);
    if (isa.avx2 && !isa.avx512 && type == RADAR_F16)
        f16_avx2(out, p, n);
    else if (!vectors)
        radar_dequantize(out, type, row, begin, end);
    else if (type == RADAR_F16)
        f16_avx512(out, p, n);
    else if (type == RADAR_BF16)
        bf16_avx512(out, p, n);
    else if (type == RADAR_Q8_0)
        q8_0_avx512(out, p, n);
    else
        q4_avx512(out, p, n, type == RADAR_Q4_1);
}
