#include "kernels/dtype.h"

#include <string.h>

#include "kernels/quant.h"
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

/* d scale q is exact in f32, so a minimum costs the only rounding. */
static void quantised(float *out, radar_dtype type, const uint8_t *row, int64_t blocks) {
    bool has_min = radar_quant_has_min(type);
    for (int64_t b = 0; b < blocks; b++, out += RADAR_QUANT) {
        radar_quant w;
        radar_quant_read(&w, type, row, b);
        for (int i = 0; i < RADAR_QUANT; i++) {
            float exact = w.d * (float)w.scale[i / 16] * (float)w.q[i];
            out[i] = has_min ? exact + w.m * (float)w.min : exact;
        }
    }
}

void radar_dequantize(float *out, radar_dtype type, const void *row, int64_t begin, int64_t end) {
    int64_t block = radar_dtype_block(type), n = end - begin;
    size_t bytes = radar_dtype_block_bytes(type);
    const uint8_t *p = (const uint8_t *)row + (size_t)(begin / block) * bytes;
    if (radar_quantised(type))
        quantised(out, type, p, n / RADAR_QUANT);
    else if (type == RADAR_F16)
        for (int64_t i = 0; i < n; i++) out[i] = load_f16(p + 2 * i);
    else if (type == RADAR_BF16)
        for (int64_t i = 0; i < n; i++) out[i] = radar_bf16_to_f32(load_u16(p + 2 * i));
    else
        memcpy(out, p, (size_t)n * sizeof *out);
}
