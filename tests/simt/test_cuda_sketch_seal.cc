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
#include "tests/simt/sketch_fixture.h"

enum { HEADS = 2, BLOCKS = 6 }; /* of every kind of keys */

/* Tiles of all heads and blocks as the cache has them, the summaries that the CPU makes of the listed ones, 0xa5 elsewhere. */
struct blocks {
    std::vector<uint16_t> k;
    std::vector<int32_t> list;
    std::vector<char> want;

    blocks(const sketch &s, bool bf16, std::vector<int32_t> listed)
        : k((size_t)(HEADS * BLOCKS * 64 * s.x.D) + 8), list(listed),
          want(HEADS * BLOCKS * s.x.block_bytes, (char)0xa5) {
        const int D = s.x.D;
        for (int h = 0; h < HEADS; h++) {
            for (int32_t b : list) {
                const uint64_t n = (uint64_t)(h * BLOCKS + b);
                std::vector<float> key(64 * (size_t)D);
                for (int i = 0; i < 64 * D; i++) {
                    const int token = i / D, d = i % D;
                    const float f = key_of((int)(n % KEY_KINDS), n, D, token, d);
                    const uint16_t bits = bf16 ? dev_f32_to_bf16(f) : dev_f32_to_f16(f);
                    tiles()[((n * 4 + (uint64_t)(token / 16)) * (uint64_t)D + (uint64_t)d) * 16 +
                            (uint64_t)(token % 16)] = bits;
                    key[(size_t)i] = bf16 ? dev_bf16_to_f32(bits) : dev_f16_to_f32(bits);
                }
                s.cpu->kind->seal(s.cpu, want.data() + n * s.x.block_bytes, key.data());
            }
        }
    }
    uint16_t *tiles() { /* aligned to 16 */
        return k.data() + (16 - (uintptr_t)k.data() % 16) % 16 / 2;
    }
};

static bool seals(const sketch &s, blocks &b, bool bf16) {
    std::vector<char> got(b.want.size(), (char)0xa5);
    std::vector<uint64_t> room(got.size() / 8);
    memcpy(room.data(), got.data(), got.size());
    const int failed = radar_cuda_sketch_seal(&s.x, room.data(), BLOCKS * s.x.block_bytes,
                                              b.tiles(), (size_t)(BLOCKS * 64 * s.x.D), bf16,
                                              b.list.data(), (int)b.list.size(), HEADS, nullptr);
    return !failed && memcmp(room.data(), b.want.data(), got.size()) == 0;
}

static void bytes_are_those_of_the_cpu(void **) {
    for (int bits : {1, 2, 4}) {
        for (int D : {16, 48, 64, 80, 96, 112, 128, 240, 256}) {
            if (bits != 2 && (D == 64 || D == 112 || D == 256)) continue;
            const sketch s(D, bits);
            const bool bf16 = D / 16 % 2 != 0;
            blocks b(s, bf16, {D < 200 ? 0 : 4, 1, D == 80 ? 2 : 5, 3});
            if (!seals(s, b, bf16)) fail_msg("D %d, %d bits, bf16 %d", D, bits, bf16);
        }
    }
}

static void only_listed_blocks_are_written(void **) {
    const sketch s(64, 2);
    blocks b(s, false, {4, 0});
    assert_true(seals(s, b, false));
    b.list.clear();
    std::fill(b.want.begin(), b.want.end(), (char)0xa5);
    assert_true(seals(s, b, false));
}

static void any_schedule_will_do(void **) {
    for (int bits : {1, 2}) {
        const sketch s(48, bits);
        blocks b(s, true, {5});
        assert_true(right_always([&] { return seals(s, b, true); }, 6));
    }
}

static void no_barrier_is_idle(void **) {
    for (int bits : {1, 2}) {
        const sketch s(48, bits);
        blocks b(s, false, {5});
        const auto idle = idle_barriers([&] { return seals(s, b, false); }, 20);
        for (int site : idle) print_message("%d bits: barrier %d is idle\n", bits, site);
        assert_true(idle.empty());
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_the_cpu),
        cmocka_unit_test(only_listed_blocks_are_written),
        cmocka_unit_test(any_schedule_will_do),
        cmocka_unit_test(no_barrier_is_idle),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
