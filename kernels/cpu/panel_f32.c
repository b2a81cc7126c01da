/* The f32 path of matmul.h for many rows of x. */
#include "kernels/cpu/isa.h"

#define TARGET RADAR_AVX512
#include <immintrin.h>

TARGET static inline __attribute__((always_inline)) __m512 step(__m512 acc, __m512 w, __m512 x) {
    return _mm512_fmadd_ps(w, x, acc);
}

#include "kernels/cpu/panel_multiply.h"

void radar_panel_f32(radar_isa isa, const radar_tile *t, const radar_panel_x *x, void *scratch) {
    int width = radar_panel_w_f32(isa, scratch, t);
    size_t bytes =
        (size_t)(t->cols / radar_dtype_block(t->type)) * radar_dtype_block_bytes(t->type);
    multiply_all(t, scratch, width, x, t->cols, bytes);
}
