/* The bf16 path of matmul.h for many rows of x. */
#include "kernels/cpu/isa.h"

#define TARGET RADAR_AVX512_BF16
#include <immintrin.h>

TARGET static inline __attribute__((always_inline)) __m512 step(__m512 acc, __m512 w, __m512 x) {
    return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)x);
}

#include "kernels/cpu/panel_multiply.h"

void radar_panel_bf16(const radar_tile *t, const radar_panel_x *x, void *scratch) {
    int width = radar_panel_w_bf16(scratch, t);
    multiply_all(t, scratch, width, x, t->cols / 2, (size_t)t->cols * 2);
}
