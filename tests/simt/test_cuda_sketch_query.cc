/* Queries prepared by the device: every byte as the CPU makes it. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/sketch_query.cu"
#include "tests/simt/sketch_fixture.h"

/* Queries `stride` apart: normal ones, one of zeros, one with NaN, one with infinity, a huge and a tiny one. */
static std::vector<float> some_queries(int D, int n, size_t stride) {
    std::vector<float> q((size_t)n * stride, -7.0f);
    for (int i = 0; i < n; i++) {
        const float size = i % 7 == 1 ? 0.0f : i % 7 == 4 ? 1e30f : i % 7 == 5 ? 1e-30f : 1.0f;
        for (int d = 0; d < D; d++)
            q[(size_t)i * stride + (size_t)d] = size * draw(7, (uint64_t)(i * D + d));
        if (i % 7 == 2) q[(size_t)i * stride + 3] = NAN;
        if (i % 7 == 3) q[(size_t)i * stride + 3] = INFINITY;
    }
    return q;
}

/* Bytes that NaN makes differ in sign and payload: floats are compared as numbers. */
static bool same_query(const sketch &s, const char *a, const char *b) {
    const size_t floats = 32 + (size_t)s.x.Dq, end = floats + 4 * (size_t)s.x.Dp;
    for (size_t i = 0; i < end; i += i == 28 ? 4 + (size_t)s.x.Dq : 4) {
        float x, y;
        memcpy(&x, a + i, 4);
        memcpy(&y, b + i, 4);
        if (memcmp(&x, &y, 4) && !(x != x && y != y)) return false;
    }
    return memcmp(a + 32, b + 32, floats - 32) == 0 &&
           memcmp(a + end, b + end, s.x.query_bytes - end) == 0;
}

static bool prepares(const sketch &s, int n) {
    const size_t stride = (size_t)s.x.D + 5, bytes = s.x.query_bytes;
    const std::vector<float> q = some_queries(s.x.D, n, stride);
    std::vector<uint64_t> got((size_t)(n + 1) * bytes / 8, 0xa5a5a5a5a5a5a5a5u), want(bytes / 8);
    if (radar_cuda_sketch_query(&s.x, got.data(), q.data(), stride, n, nullptr)) return false;
    for (int i = 0; i < n; i++) {
        s.cpu->kind->query(s.cpu, want.data(), q.data() + (size_t)i * stride);
        if (!same_query(s, (const char *)(got.data() + (size_t)i * bytes / 8),
                        (const char *)want.data()))
            return false;
    }
    for (size_t i = (size_t)n * bytes / 8; i < got.size(); i++)
        if (got[i] != 0xa5a5a5a5a5a5a5a5u) return false;
    return true;
}

static void bytes_are_those_of_the_cpu(void **) {
    for (int D : {16, 48, 64, 80, 96, 112, 128, 208, 256}) {
        for (int bits : {1, 2, 4}) {
            const sketch s(D, bits);
            for (int n : {0, 1, 9})
                if (!prepares(s, n)) fail_msg("D %d, %d bits, %d queries", D, bits, n);
        }
    }
}

static void any_schedule_will_do(void **) {
    const sketch s(112, 2);
    assert_true(right_always([&] { return prepares(s, 5); }, 12));
}

static void no_barrier_is_idle(void **) {
    const sketch s(112, 2);
    assert_true(idle_barriers([&] { return prepares(s, 5); }, 20).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_the_cpu),
        cmocka_unit_test(any_schedule_will_do),
        cmocka_unit_test(no_barrier_is_idle),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
