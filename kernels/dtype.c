#include "kernels/dtype.h"

#include <string.h>

#include "runtime/base.h"

const char *radar_dtype_name(radar_dtype type) {
    static const char *const name[] = {
#define RADAR_DTYPE_NAME(name, elements, bytes) #name,
        RADAR_DTYPE_LIST(RADAR_DTYPE_NAME)
#undef RADAR_DTYPE_NAME
    };
    return name[type];
}

int radar_dtype_block(radar_dtype type) {
    static const int block[] = {
#define RADAR_DTYPE_ELEMENTS(name, elements, bytes) elements,
        RADAR_DTYPE_LIST(RADAR_DTYPE_ELEMENTS)
#undef RADAR_DTYPE_ELEMENTS
    };
    return block[type];
}

size_t radar_dtype_block_bytes(radar_dtype type) {
    static const size_t size[] = {
#define RADAR_DTYPE_BYTES(name, elements, bytes) bytes,
        RADAR_DTYPE_LIST(RADAR_DTYPE_BYTES)
#undef RADAR_DTYPE_BYTES
    };
    return size[type];
}

static uint16_t load_u16(const uint8_t *p) {
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static float load_f16(const uint8_t *p) { return radar_f16_to_f32(load_u16(p)); }

static void q8_0(float *out, const uint8_t *block) {
    float d = load_f16(block);
    for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)block[2 + i];
}

/* w = d (q - 8): d has 11 bits and q - 8 has 4, the product is exact. */
static void q4_0(float *out, const uint8_t *block) {
    float d = load_f16(block);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((block[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

/* w = d q + m: the product is exact, so the sum is rounded once. */
static void q4_1(float *out, const uint8_t *block) {
    float d = load_f16(block), m = load_f16(block + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)(block[4 + i] & 15) + m;
        out[i + 16] = d * (float)(block[4 + i] >> 4) + m;
    }
}

void radar_dequantize(float *out, radar_dtype type, const void *row, int64_t begin, int64_t end) {
    int64_t block = radar_dtype_block(type), n = end - begin;
    size_t bytes = radar_dtype_block_bytes(type);
    const uint8_t *p = (const uint8_t *)row + (size_t)(begin / block) * bytes;
    switch (type) {
    case RADAR_F32:
        memcpy(out, p, (size_t)n * sizeof *out);
        break;
    case RADAR_F16:
        for (int64_t i = 0; i < n; i++) out[i] = load_f16(p + 2 * i);
        break;
    case RADAR_BF16:
        for (int64_t i = 0; i < n; i++) out[i] = radar_bf16_to_f32(load_u16(p + 2 * i));
        break;
    case RADAR_Q8_0:
        for (int64_t i = 0; i < n; i += 32, p += bytes) q8_0(out + i, p);
        break;
    case RADAR_Q4_0:
        for (int64_t i = 0; i < n; i += 32, p += bytes) q4_0(out + i, p);
        break;
    case RADAR_Q4_1:
        for (int64_t i = 0; i < n; i += 32, p += bytes) q4_1(out + i, p);
        break;
    case RADAR_Q8: /* scales lie elsewhere: radar_kv_read */
    case RADAR_DTYPE_COUNT:
        break;
    }
}
