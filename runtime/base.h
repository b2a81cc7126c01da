/* base.h - the floor under everything: errors that say what, where and the cure; checked arithmetic on sizes;
 * counter-based random numbers; number formats.  May be included from runtime/, kernels/ and parallel/. */
#ifndef RADAR_BASE_H
#define RADAR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

/* ---- errors ---- */

/* Where a failing call leaves its one line: fact, place, cure.  The first error stays; later ones of the clean-up do not replace it. */
typedef struct radar_error {
    radar_status status;
    char text[512];
} radar_error;

/* Notes the error (unless one is there already) and returns status, so that callers write `return radar_fail(err, ...)`.  err may be NULL. */
radar_status radar_fail(radar_error *err, radar_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* st = call; on failure goto label. */
#define RADAR_TRY(st, call, label) \
    do { \
        (st) = (call); \
        if ((st) != RADAR_OK) goto label; \
    } while (0)

/* ---- sizes from files and options: every sum and product is checked ---- */

static inline bool radar_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool radar_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static inline int64_t radar_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t radar_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t radar_max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* The median of a few numbers, which are sorted. */
static inline double radar_median(double *x, int n) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && x[j - 1] > x[j]; j--) {
            const double swap = x[j];
            x[j] = x[j - 1];
            x[j - 1] = swap;
        }
    return (x[(n - 1) / 2] + x[n / 2]) / 2;
}

/* ---- random numbers: a pure function of (seed, stream, counter), the same on every rank and platform ---- */

/* Streams: what the numbers are for, so that no two uses share a sequence. */
enum radar_stream {
    RADAR_STREAM_SAMPLER = 1,
    RADAR_STREAM_SIGNS,
    RADAR_STREAM_OMEGA,
    RADAR_STREAM_PICK,
    RADAR_STREAM_SUBGEN
};

/* 64 uniform bits: three rounds of the SplitMix64 finaliser (Steele, Lea, Flood 2014) over seed, stream and counter. */
uint64_t radar_random(uint64_t seed, uint64_t stream, uint64_t counter);
/* Uniform in [0, 1), 53 bits. */
double radar_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter);
/* Standard normal: Box-Muller on counters 2c and 2c + 1. */
double radar_random_normal(uint64_t seed, uint64_t stream, uint64_t counter);

/* ---- number formats ---- */

float radar_f16_to_f32(uint16_t h);
uint16_t radar_f32_to_f16(float f); /* round to nearest even; overflow gives infinity */
static inline float radar_bf16_to_f32(uint16_t b) {
    union {
        uint32_t u;
        float f;
    } x = {(uint32_t)b << 16};
    return x.f;
}
uint16_t radar_f32_to_bf16(float f); /* round to nearest even; NaN stays NaN */

#endif
