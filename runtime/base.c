#include "runtime/base.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

radar_status radar_fail(radar_error *err, radar_status status, const char *format, ...) {
    if (err && err->status == RADAR_OK) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->status = status;
    }
    return status;
}

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t radar_random(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint64_t z = mix(seed + 0x9e3779b97f4a7c15u);
    z = mix(z ^ (stream * 0x9e3779b97f4a7c15u));
    return mix(z + counter * 0x9e3779b97f4a7c15u);
}

double radar_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
    return (double)(radar_random(seed, stream, counter) >> 11) * 0x1p-53;
}

double radar_random_normal(uint64_t seed, uint64_t stream, uint64_t counter) {
    double u = 1.0 - radar_random_uniform(seed, stream, 2 * counter); /* (0, 1] */
    double v = radar_random_uniform(seed, stream, 2 * counter + 1);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float radar_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 1023u;
    if (e == 31) return float_of(sign | 0x7f800000u | (m << 13));
    if (e) return float_of(sign | ((e + 112) << 23) | (m << 13));
    float subnormal = (float)m * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

uint16_t radar_f32_to_f16(float f) {
    uint32_t u = bits_of(f), a = u & 0x7fffffffu;
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds beyond 65504 */
    if (a < 0x38800000u) { /* below 2^-14: subnormal, one exact addition rounds it */
        return (uint16_t)(sign | (uint16_t)(bits_of(float_of(a) + 0.5f) - 0x3f000000u));
    }
    uint32_t rounded = a + 0xfffu + ((a >> 13) & 1u);
    return (uint16_t)(sign | (uint16_t)((rounded - 0x38000000u) >> 13));
}

uint16_t radar_f32_to_bf16(float f) {
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
