/* ggml_types.h - the tensor types of GGUF: number in the file, name, elements and bytes of a block, and ours where there is one.
 * Types without ours can be listed and measured, not computed with.  Source: ggml docs/gguf.md and gguf-py's constants. */
#ifndef RADAR_GGML_TYPES_H
#define RADAR_GGML_TYPES_H

#include <stdint.h>

#include "kernels/dtype.h"

#define RADAR_GGML_NONE RADAR_DTYPE_COUNT

/*      number, name, elements, bytes, ours */
#define RADAR_GGML_LIST(X) \
    X(0, F32, 1, 4, RADAR_F32) \
    X(1, F16, 1, 2, RADAR_F16) \
    X(2, Q4_0, 32, 18, RADAR_Q4_0) \
    X(3, Q4_1, 32, 20, RADAR_Q4_1) \
    X(6, Q5_0, 32, 22, RADAR_Q5_0) \
    X(7, Q5_1, 32, 24, RADAR_Q5_1) \
    X(8, Q8_0, 32, 34, RADAR_Q8_0) \
    X(9, Q8_1, 32, 36, RADAR_GGML_NONE) \
    X(10, Q2_K, 256, 84, RADAR_GGML_NONE) \
    X(11, Q3_K, 256, 110, RADAR_GGML_NONE) \
    X(12, Q4_K, 256, 144, RADAR_Q4_K) \
    X(13, Q5_K, 256, 176, RADAR_Q5_K) \
    X(14, Q6_K, 256, 210, RADAR_Q6_K) \
    X(15, Q8_K, 256, 292, RADAR_GGML_NONE) \
    X(16, IQ2_XXS, 256, 66, RADAR_GGML_NONE) \
    X(17, IQ2_XS, 256, 74, RADAR_GGML_NONE) \
    X(18, IQ3_XXS, 256, 98, RADAR_GGML_NONE) \
    X(19, IQ1_S, 256, 50, RADAR_GGML_NONE) \
    X(20, IQ4_NL, 32, 18, RADAR_GGML_NONE) \
    X(21, IQ3_S, 256, 110, RADAR_GGML_NONE) \
    X(22, IQ2_S, 256, 82, RADAR_GGML_NONE) \
    X(23, IQ4_XS, 256, 136, RADAR_GGML_NONE) \
    X(24, I8, 1, 1, RADAR_GGML_NONE) \
    X(25, I16, 1, 2, RADAR_GGML_NONE) \
    X(26, I32, 1, 4, RADAR_GGML_NONE) \
    X(27, I64, 1, 8, RADAR_GGML_NONE) \
    X(28, F64, 1, 8, RADAR_GGML_NONE) \
    X(29, IQ1_M, 256, 56, RADAR_GGML_NONE) \
    X(30, BF16, 1, 2, RADAR_BF16) \
    X(34, TQ1_0, 256, 54, RADAR_GGML_NONE) \
    X(35, TQ2_0, 256, 66, RADAR_GGML_NONE) \
    X(39, MXFP4, 32, 17, RADAR_GGML_NONE) \
    X(40, NVFP4, 64, 36, RADAR_GGML_NONE) \
    X(41, Q1_0, 128, 18, RADAR_GGML_NONE)

typedef struct radar_ggml_type {
    uint32_t number;
    const char *name;
    uint32_t elements, bytes;
    radar_dtype ours;
} radar_ggml_type;

#endif
