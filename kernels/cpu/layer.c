#include <string.h>

#include "kernels/cpu/cpu.h"

#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/vmath.h"

/* Elements of one piece of work; fewer in all are not worth waking the other threads. */
#define PIECE 16384

void radar_cpu_embed(radar_backend *be, float *out, const radar_matrix *w, const int32_t *token,
                     int n) {
    radar_isa isa = radar_cpu_of(be)->isa;
    bool parallel = n * w->cols >= 2 * PIECE;
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads) if (parallel)
    for (int i = 0; i < n; i++)
        radar_cpu_dequantize(isa, out + i * w->cols, w->type,
                             (const char *)w->data + (size_t)token[i] * w->row_bytes, 0, w->cols);
}

static void gate_plain(float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + radar_expf1(-gate[i])) * up[i];
}

RADAR_AVX512 static void gate_avx512(float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512 g = _mm512_maskz_loadu_ps(k, gate + i), u = _mm512_maskz_loadu_ps(k, up + i);
        __m512 minus = _mm512_xor_ps(g, _mm512_set1_ps(-0.0f));
        __m512 below = _mm512_add_ps(_mm512_set1_ps(1.0f), radar_expf16(minus));
        _mm512_mask_storeu_ps(gate + i, k, _mm512_mul_ps(_mm512_div_ps(g, below), u));
    }
}

static void gate_piece(bool avx512, float *gate, const float *up, int64_t n) {
    if (avx512)
        gate_avx512(gate, up, n);
    else
        gate_plain(gate, up, n);
}

void radar_cpu_gate(radar_backend *be, float *gate, const float *up, int64_t n) {
    bool avx512 = radar_cpu_of(be)->isa.avx512;
    if (n < 2 * PIECE) {
        gate_piece(avx512, gate, up, n);
        return;
    }
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads)
    for (int64_t i = 0; i < n; i += PIECE)
        gate_piece(avx512, gate + i, up + i, radar_min64(PIECE, n - i));
}

static void add_piece(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

void radar_cpu_add(radar_backend *be, float *x, const float *y, int64_t n) {
    if (n < 4 * PIECE) {
        add_piece(x, y, n);
        return;
    }
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads)
    for (int64_t i = 0; i < n; i += PIECE) add_piece(x + i, y + i, radar_min64(PIECE, n - i));
}

/* Numbers [at, at + n) of all pieces, in the tree. */
static void sum_piece(float *const *piece, int pieces, int64_t at, int64_t n) {
    for (int half = 1; half < pieces; half *= 2)
        for (int a = 0; a < pieces; a += 2 * half)
            add_piece(piece[a] + at, piece[a + half] + at, n);
}

void radar_cpu_sum(radar_backend *be, float *const *piece, int pieces, int64_t n) {
    const bool parallel = n * (pieces - 1) >= 4 * PIECE;
    const int64_t each = PIECE / 8;
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads) if (parallel)
    for (int64_t at = 0; at < n; at += each)
        sum_piece(piece, pieces, at, radar_min64(each, n - at));
}

/* Exponents of all ones: compared as integers, so that a row is one branchless loop. */
void radar_cpu_odd(radar_backend *be, uint64_t *found, const float *x, int64_t n, int width) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        uint32_t odd = 0;
        for (int d = 0; d < width; d++) {
            uint32_t u;
            memcpy(&u, &x[i * width + d], sizeof u);
            odd |= (u & 0x7f800000u) == 0x7f800000u;
        }
        if (!odd) continue;
        *found = (uint64_t)(n - i);
        return;
    }
}
