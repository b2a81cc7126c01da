/* The shim itself: what it computes, and that it notices what it is there to notice. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}
#include <sys/wait.h>
#include <unistd.h>

#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

/* ---- barriers ---- */

/* Sums of each block's part, through two barriers that both are needed. */
KERNEL void sum_blocks(const float *x, float *out, int n) {
    SHARED(float, part, 8);
    for (int round = 0; round < 2; round++) {
        float v = 0;
        for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
            v += x[(int)blockIdx.x * n + i] * (float)(round + 1);
        for (int m = 16; m; m /= 2) v += dev_shuffle_xor(v, m);
        if (dev_lane() == 0) part[dev_warp()] = v;
        dev_block_sync();
        float all = 0;
        for (int i = 0; i < (int)blockDim.x / 32; i++) all += part[i];
        if (threadIdx.x == 0) out[(int)blockIdx.x * 2 + round] = all;
        dev_block_sync(); /* part is written again */
    }
}

static bool sums_are_right(uint64_t seed, int dropped) {
    float x[4 * 300], out[8];
    for (int i = 0; i < 1200; i++) x[i] = (float)(i % 17);
    simt::opt = {seed, dropped};
    LAUNCH(sum_blocks, dim3(4), dim3(128), 0, nullptr, x, out, 300);
    simt::opt = {};
    for (int b = 0; b < 4; b++) {
        float want = 0;
        for (int i = 0; i < 300; i++) want += x[b * 300 + i];
        if (out[2 * b] != want || out[2 * b + 1] != 2 * want) return false;
    }
    return true;
}

static void a_block_sums(void **) {
    for (uint64_t seed = 0; seed < 20; seed++) assert_true(sums_are_right(seed, 0));
}

static void a_missing_barrier_shows(void **) {
    for (int site = 1; site <= 2; site++) {
        int wrong = 0;
        for (uint64_t seed = 1; seed <= 20; seed++) wrong += !sums_are_right(seed, site);
        assert_true(wrong > 0);
    }
}

KERNEL void half_of_them_waits() {
    if (threadIdx.x < 32) dev_block_sync();
    if (threadIdx.x >= 32) dev_warp_sync();
    if (threadIdx.x >= 32 && threadIdx.x < 48) dev_warp_sync();
}

KERNEL void waits_for_nobody() {
    if (threadIdx.x < 16) dev_warp_sync();
    dev_block_sync();
}

/* The status with which a kernel ends the program. */
static int ends_with(void (*kernel)()) {
    int status;
    const pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        simt::launch(dim3(1), dim3(64), 0, kernel);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static void a_deadlock_ends_the_program(void **) {
    assert_int_equal(ends_with(half_of_them_waits), 99);
    assert_int_equal(ends_with(waits_for_nobody), 99);
}

/* ---- copies ---- */

KERNEL void copies(const float *x, float *out, int late) {
    SHARED(float, s, 4 * 32);
    dev_copy16(s + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x < 31);
    dev_copy_commit();
    if (late) out[threadIdx.x] = s[4 * threadIdx.x];
    dev_copy_wait<0>();
    dev_warp_sync();
    if (!late) out[threadIdx.x] = s[4 * (31 - threadIdx.x) + 1];
}

static void a_copy_lands_when_waited_for(void **) {
    alignas(16) float x[128], out[32];
    for (int i = 0; i < 128; i++) x[i] = (float)i + 1;
    LAUNCH(copies, dim3(1), dim3(32), 0, nullptr, x, out, 0);
    assert_true(out[0] == 0);
    for (int i = 1; i < 32; i++) assert_true(out[i] == x[4 * (31 - i) + 1]);
    LAUNCH(copies, dim3(1), dim3(32), 0, nullptr, x, out, 1);
    for (int i = 0; i < 32; i++) assert_true(std::isnan(out[i]));
}

/* ---- numbers ---- */

static void e4m3_rounds_to_nearest(void **) {
    for (int b = 0; b < 256; b++) {
        const float f = dev_e4m3_to_f32((uint8_t)b);
        if (f == f) assert_int_equal(dev_f32_to_e4m3(f), b);
    }
    for (int b = 0; b < 126; b++) { /* halfway goes to the even code */
        const float low = dev_e4m3_to_f32((uint8_t)b), high = dev_e4m3_to_f32((uint8_t)(b + 1));
        assert_int_equal(dev_f32_to_e4m3((low + high) / 2), b + b % 2);
        assert_int_equal(dev_f32_to_e4m3(low + (high - low) * 0.49f), b);
    }
    assert_int_equal(dev_f32_to_e4m3(1e9f), 0x7e);
    assert_true(dev_e4m3_to_f32(0x08) == 0.015625f && dev_e4m3_to_f32(0x7e) == 448);
}

KERNEL void multiply_bf16(const uint16_t *a, const uint16_t *b, float *d) {
    const unsigned g = dev_lane() / 4, t = dev_lane() % 4;
    auto two = [](const uint16_t *p, int stride) { return p[0] | (uint32_t)p[stride] << 16; };
    uint32_t x[4] = {two(a + g * 16 + 2 * t, 1), two(a + (g + 8) * 16 + 2 * t, 1),
                     two(a + g * 16 + 2 * t + 8, 1), two(a + (g + 8) * 16 + 2 * t + 8, 1)};
    uint32_t y[2] = {two(b + 2 * t * 8 + g, 8), two(b + (2 * t + 8) * 8 + g, 8)};
    float sum[4] = {1, 1, 1, 1};
    dev_mma_bf16(sum, x, y);
    for (unsigned i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

KERNEL void multiply_u8s8(const uint8_t *a, const int8_t *b, int32_t *d) {
    const unsigned g = dev_lane() / 4, t = dev_lane() % 4;
    uint32_t x[4] = {}, y[2] = {};
    for (unsigned i = 0; i < 16; i++)
        x[i / 4] |= (uint32_t)a[(g + i / 4 % 2 * 8) * 32 + 4 * t + i / 8 * 16 + i % 4] << i % 4 * 8;
    for (unsigned i = 0; i < 8; i++)
        y[i / 4] |= (uint32_t)(uint8_t)b[(4 * t + i / 4 * 16 + i % 4) * 8 + g] << i % 4 * 8;
    int32_t sum[4] = {7, 7, 7, 7};
    dev_mma_u8s8(sum, x, y);
    for (unsigned i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

static void tensor_cores_multiply(void **) {
    uint16_t a[256], b[128];
    uint8_t u[512];
    int8_t s[256];
    float d[128];
    int32_t n[128];
    for (int i = 0; i < 256; i++) a[i] = dev_f32_to_bf16(draw(1, i));
    for (int i = 0; i < 128; i++) b[i] = dev_f32_to_bf16(draw(2, i));
    for (int i = 0; i < 512; i++) u[i] = (uint8_t)(i * 37);
    for (int i = 0; i < 256; i++) s[i] = (int8_t)(i * 53);
    LAUNCH(multiply_bf16, dim3(1), dim3(32), 0, nullptr, a, b, d);
    LAUNCH(multiply_u8s8, dim3(1), dim3(32), 0, nullptr, u, s, n);
    for (int row = 0; row < 16; row++) {
        for (int column = 0; column < 8; column++) {
            double want = 1;
            int32_t whole = 7;
            for (int k = 0; k < 16; k++)
                want +=
                    (double)dev_bf16_to_f32(a[row * 16 + k]) * dev_bf16_to_f32(b[k * 8 + column]);
            for (int k = 0; k < 32; k++) whole += u[row * 32 + k] * s[k * 8 + column];
            assert_true(d[row * 8 + column] == (float)want);
            assert_int_equal(n[row * 8 + column], whole);
        }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_sums),
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(a_deadlock_ends_the_program),
        cmocka_unit_test(a_copy_lands_when_waited_for),
        cmocka_unit_test(e4m3_rounds_to_nearest),
        cmocka_unit_test(tensor_cores_multiply),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
