/* vmath.h - e^x of kernels/cpu/vmath.h and ln x of kernels/cpu/lse.h: the same operations, so the same bits.  What is sealed on a
 * GPU is what is sealed on a CPU. */
#ifndef RADAR_CUDA_VMATH_H
#define RADAR_CUDA_VMATH_H

#include "kernels/cuda/dev.h"

/* 2^n for n from -126 to 127. */
DEV float power_of_two(int n) { return dev_float((uint32_t)(n + 127) << 23); }

DEV float exp_as_cpu(float x) {
    const float round = 0x1.8p23f;
    if (x != x) return x;
    x = x < -105.0f ? -105.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const float n = dev_add(dev_fma(x, 0x1.715476p+0f, round), -round);
    float r = dev_fma(n, -0x1.62e43p-1f, x);
    r = dev_fma(n, 0x1.05c61p-29f, r);
    float q = dev_fma(0x1.6a2352p-10f, r, 0x1.123a6cp-7f);
    q = dev_fma(q, r, 0x1.5558f4p-5f);
    q = dev_fma(q, r, 0x1.55549p-3f);
    q = dev_fma(q, r, 0x1.fffffcp-2f);
    const float p = dev_add(1.0f, dev_fma(q, dev_mul(r, r), r));
    const int whole = (int)n, half = whole >> 1; /* two steps, of which only the last can round */
    return dev_mul(dev_mul(p, power_of_two(half)), power_of_two(whole - half));
}

/* 0 and what is subnormal give -inf, inf gives inf, below 0 and NaN give NaN. */
DEV float ln_as_cpu(float x) {
    const int32_t split = 0x3f3504f3; /* sqrt(1/2) */
    if (!(x >= 0x1p-126f)) return dev_float(x >= 0 ? 0xff800000u : 0x7fc00000u);
    if (dev_bits(x) == 0x7f800000u) return x;
    const int32_t shifted = (int32_t)dev_bits(x) - split;
    const float e = (float)(shifted >> 23);
    const float m = dev_float((uint32_t)((shifted & 0x7fffff) + split));
    const float s = dev_div(m - 1.0f, m + 1.0f), z = dev_mul(s, s), t = dev_add(s, s);
    float p = dev_add(dev_mul(z, 1.0f / 9), 1.0f / 7);
    p = dev_add(dev_mul(p, z), 1.0f / 5);
    p = dev_add(dev_mul(p, z), 1.0f / 3);
    const float small = dev_add(dev_mul(dev_mul(t, z), p), dev_mul(e, 0x1.7f7d1cp-20f));
    return dev_add(dev_mul(e, 0x1.62e4p-1f), dev_add(t, small));
}

#endif
