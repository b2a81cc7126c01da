/* Sealing by the device: every byte of a block as the CPU makes it. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/sketch_seal.cu"
#include "tests/simt/scoring.h"
#include "tests/simt/sketch_fixture.h"

enum { HEADS = 2, BLOCKS = 6 }; /* of every kind of keys */

static const radar_cuda_kv all_types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_F32,
                                          RADAR_CUDA_KV_FP8};

/* Tiles of all heads and blocks as the cache has them, the summaries that the CPU makes of those of a range, 0xa5 elsewhere. */
struct blocks {
    const sketch &s;
    radar_cuda_kv type;
    int32_t range[2];
    device_memory<char> k;
    device_memory<float> scale;
    std::vector<char> want;

    blocks(const sketch &of, radar_cuda_kv kv, int begin, int end)
        : s(of), type(kv), range{begin, end}, k(HEADS * head_bytes()),
          scale((size_t)(HEADS * BLOCKS * 64)), want(HEADS * BLOCKS * s.x.block_bytes, (char)0xa5) {
        for (int h = 0; h < HEADS; h++)
            for (int b = begin; b < end; b++) make((size_t)(h * BLOCKS + b));
    }
    size_t head_bytes() const { return (size_t)(BLOCKS * 64 * s.x.D) * number_bytes(type); }
    void make(size_t n) {
        const int D = s.x.D;
        std::vector<float> key((size_t)(64 * D));
        for (int i = 0; i < 64; i++) {
            float *x = &key[(size_t)(i * D)];
            for (int d = 0; d < D; d++) x[d] = key_of((int)(n % KEY_KINDS), n, D, i, d);
            store_key(type, k.p, scale.p, n * 64 + (size_t)i, x, D);
        }
        s.cpu->kind->seal(s.cpu, want.data() + n * s.x.block_bytes, key.data());
    }
    bool sealed(int most) const {
        device_memory<char> got(want.size());
        const radar_cuda_seal t = {
            type,        s.x.D,        HEADS,
            k.p,         head_bytes(), type == RADAR_CUDA_KV_FP8 ? scale.p : nullptr,
            BLOCKS * 64, got.p,        BLOCKS * s.x.block_bytes,
            range,       most};
        got.fill(0xa5);
        return radar_cuda_sketch_seal(&s.x, &t, nullptr) == 0 &&
               memcmp(got.p, want.data(), want.size()) == 0;
    }
};

static void bytes_are_those_of_the_cpu(void **) {
    int n = 0;
    for (int bits : {1, 2, 4})
        for (int D : {16, 48, 64, 80, 96, 112, 128, 240, 256}) {
            if (bits != 2 && (D == 64 || D == 112 || D == 256)) continue;
            const sketch s(D, bits);
            const radar_cuda_kv type = all_types[n++ % 4];
            const int begin = n % 3;
            if (!blocks(s, type, begin, begin + 4).sealed(4))
                fail_msg("D %d, %d bits, type %d", D, bits, type);
        }
}

static void every_kind_of_key_of_every_type(void **) {
    for (radar_cuda_kv type : all_types) {
        const sketch s(80, 2);
        if (!blocks(s, type, 0, BLOCKS).sealed(BLOCKS)) fail_msg("type %d", type);
    }
}

static void only_blocks_of_the_range_are_written(void **) {
    const sketch s(64, 2);
    assert_true(blocks(s, RADAR_CUDA_KV_F16, 1, 3).sealed(5));
    assert_true(blocks(s, RADAR_CUDA_KV_F16, 2, 2).sealed(1));
    assert_true(blocks(s, RADAR_CUDA_KV_F16, 2, 2).sealed(0));
}

static void any_schedule_will_do(void **) {
    for (int bits : {1, 2}) {
        const sketch s(48, bits);
        const blocks b(s, RADAR_CUDA_KV_BF16, 5, 6);
        assert_true(right_always([&] { return b.sealed(1); }, 6));
    }
}

static void no_barrier_is_idle(void **) {
    for (int bits : {1, 2}) {
        const sketch s(48, bits);
        const blocks b(s, RADAR_CUDA_KV_F16, 5, 6);
        const auto idle = idle_barriers([&] { return b.sealed(1); }, 20);
        for (int site : idle) print_message("%d bits: barrier %d is idle\n", bits, site);
        assert_true(idle.empty());
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_the_cpu),
        cmocka_unit_test(every_kind_of_key_of_every_type),
        cmocka_unit_test(only_blocks_of_the_range_are_written),
        cmocka_unit_test(any_schedule_will_do),
        cmocka_unit_test(no_barrier_is_idle),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
