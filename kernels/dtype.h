/* dtype.h - how numbers lie in memory: element types, matrices as stored in model files.
 *
 * Quantised types come in blocks of 32 along a row (GGUF layouts, little-endian):
 *   Q8_0  f16 d, int8 q[32]                                    w = d q              34 bytes
 *   Q4_0  f16 d, 16 bytes of nibbles                           w = d (q - 8)        18 bytes
 *   Q4_1  f16 d, f16 m, 16 bytes of nibbles                    w = d q + m          20 bytes
 *   Q5_0  f16 d, 4 bytes of high bits, 16 of nibbles           w = d (q - 16)       22 bytes
 *   Q5_1  f16 d, f16 m, 4 bytes of high bits, 16 of nibbles    w = d q + m          24 bytes
 * Byte i of the nibbles holds elements i (low) and i + 16 (high), bit i of the high bits belongs to element i.
 * or of 256, which are 8 blocks of 32 under a common scale (quant.c says where their bits lie):
 *   Q4_K  f16 d, f16 dmin, 8 scales and 8 minima of 6 bits, nibbles    w = d scale q - dmin min    144 bytes
 *   Q5_K  the same with 32 bytes of high bits before the nibbles                                   176 bytes
 *   Q6_K  low halves, upper two bits, an int8 scale per 16, f16 d      w = d scale (q - 32)        210 bytes
 * Q8 and FP8 (e4m3) are of the cache alone (kv.h): one byte a number, its scale beside it.
 * Source: ggml docs/gguf.md, ggml-common.h; golden/ holds hashes of dequantised tensors. */
#ifndef RADAR_DTYPE_H
#define RADAR_DTYPE_H

#include <stddef.h>
#include <stdint.h>

/*      name  elements per block, bytes per block; those of weights first, up to Q8 */
#define RADAR_DTYPE_LIST(X) \
    X(F32, 1, 4) \
    X(F16, 1, 2) \
    X(BF16, 1, 2) \
    X(Q8_0, 32, 34) \
    X(Q4_0, 32, 18) \
    X(Q4_1, 32, 20) \
    X(Q5_0, 32, 22) \
    X(Q5_1, 32, 24) \
    X(Q4_K, 256, 144) \
    X(Q5_K, 256, 176) \
    X(Q6_K, 256, 210) \
    X(Q8, 1, 1) \
    X(FP8, 1, 1)

typedef enum radar_dtype {
#define RADAR_DTYPE_ENUM(name, elements, bytes) RADAR_##name,
    RADAR_DTYPE_LIST(RADAR_DTYPE_ENUM)
#undef RADAR_DTYPE_ENUM
        RADAR_DTYPE_COUNT
} radar_dtype;

const char *radar_dtype_name(radar_dtype type);
int radar_dtype_block(radar_dtype type); /* elements per block */
size_t radar_dtype_block_bytes(radar_dtype type);

struct radar_packed; /* a backend's own form of some rows and columns; see matmul.h */

/* A matrix as stored: row r at data + r * row_bytes; y = W x has `rows` outputs.  data may have any alignment. */
typedef struct radar_matrix {
    radar_dtype type;
    int64_t rows, cols;
    const void *data;
    size_t row_bytes;
    const struct radar_packed *packed; /* NULL: matmul reads data */
} radar_matrix;

/* [this rank] Elements [begin, end) of one stored row as exact f32; begin a multiple of the block. */
void radar_dequantize(float *out, radar_dtype type, const void *row, int64_t begin, int64_t end);

/* Which pairs of a head rotate together: HALF = (i, i + rotary/2) as Hugging Face stores heads, ADJACENT = (2i, 2i + 1) as GGUF stores llama. */
typedef enum radar_rope_style { RADAR_ROPE_HALF, RADAR_ROPE_ADJACENT } radar_rope_style;

#endif
