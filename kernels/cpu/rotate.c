#include "kernels/cpu/rotate.h"

#include <string.h>

/* Bit d: coordinate d of a q8 cache changes its sign.  Any fixed bits do: these are of the fraction of pi. */
static const uint64_t q8_signs[RADAR_MAX_D / 64] = {0x243f6a8885a308d3u, 0x13198a2e03707344u,
                                                    0xa4093822299f31d0u, 0x082efa98ec4e6c89u};

static void fill_parts(radar_rotation *r, int D) {
    *r = (radar_rotation){.D = D};
    int d = 0;
    for (int left = D, size = 256; left > 0; size /= 2) {
        if (size > left) continue;
        r->part[r->n_part++] = size;
        left -= size;
        float norm = (float)(1 / sqrt(size));
        for (int end = d + size; d < end; d++) r->norm[d] = norm;
    }
}

void radar_rotation_seeded(radar_rotation *r, int D, uint64_t seed) {
    fill_parts(r, D);
    for (int d = 0; d < D; d++)
        if (radar_random(seed, RADAR_STREAM_SIGNS, (uint64_t)d) & 1) r->norm[d] = -r->norm[d];
}

void radar_rotation_of_q8(radar_rotation *r, int D) {
    fill_parts(r, D);
    for (int d = 0; d < D; d++)
        if (q8_signs[d / 64] >> d % 64 & 1) r->norm[d] = -r->norm[d];
}

float radar_round_to_int8(int8_t *out, const float *v, int n, float largest) {
    float max = 0;
    for (int i = 0; i < n; i++) max = fabsf(v[i]) > max ? fabsf(v[i]) : max;
    if (!(max > 0 && max < INFINITY)) {
        memset(out, 0, (size_t)n);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        float u = v[i] / max * largest;
        out[i] = u == u ? (int8_t)(int)(u + (u < 0 ? -0.5f : 0.5f)) : 0;
    }
    return max / largest;
}
