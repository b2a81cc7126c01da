/* attend_block.cu against softmax in doubles, and the bits that must not change. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}
#include "tests/simt/dev.h"

#include "kernels/cuda/attend.cu"
#include "kernels/cuda/attend_block.cu"
#include "kernels/cuda/attend_plain.cu"
#include "tests/simt/attend_fixture.h"

static const radar_cuda_kv types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_FP8};

static bool right_by_blocks(const shape &s, uint64_t seed) {
    return right(s, seed, radar_cuda_attend_block);
}

static void every_type_and_head_size_agrees_with_doubles(void **) {
    for (radar_cuda_kv type : types)
        for (int D : {64, 80, 96, 112, 128})
            assert_true(right_by_blocks({type, D, 1, 1, 9, 4, 36, 1, 24}, 6 * (uint64_t)D));
}

/* What it hands on: other head sizes, and f32. */
static void the_rest_goes_to_the_other_kernels(void **) {
    assert_true(right_by_blocks({RADAR_CUDA_KV_F16, 48, 1, 1, 9, 4, 36, 1, 9}, 3));
    assert_true(right_by_blocks({RADAR_CUDA_KV_FP8, 128, 1, 1, 9, 4, 36, 1, 9}, 3));
    assert_true(right_by_blocks({RADAR_CUDA_KV_F32, 64, 1, 1, 9, 4, 36, 1, 9}, 3));
}

/* rows, group, span: tiles that are not full, several of them, lists of a few queries. */
static void rows_heads_and_lists_in_every_arrangement(void **) {
    const int shapes[][3] = {{16, 4, 64}, {33, 4, 132}, {1, 1, 1}, {5, 3, 15}, {40, 2, 40}};
    for (radar_cuda_kv type : types)
        for (auto [rows, group, span] : shapes)
            assert_true(right_by_blocks({type, 64, 2, 1, rows, group, span, 1, 11},
                                        (uint64_t)(rows + span)));
}

static void lists_of_any_length(void **) {
    for (radar_cuda_kv type : types)
        for (int segments = 1; segments <= 9; segments += 2)
            for (uint64_t seed = 0; seed < 6; seed++)
                assert_true(right_by_blocks({type, 64, 1, 1, 4, 2, 8, 1, segments}, seed));
}

/* A prompt's rows, each a token behind the one before, and the whole list: tokens behind a row change nothing in it. */
static void bits_do_not_depend_on_neighbours(void **) {
    for (radar_cuda_kv type : types) {
        problem p = make({type, 64, 1, 1, 24, 3, 72, 1, 12}, 4);
        for (int i = 0; i < 72; i++) p.position[(size_t)i] = 60 + i / 3;
        for (int32_t i = 0; i < 12; i++) {
            if ((size_t)i >= p.item.size()) p.item.push_back({});
            p.item[(size_t)i] = {i, 0xffff};
        }
        p.begin[0] = 0, p.count[0] = 12;
        p.heads = {random_head(p.s, 4)}; /* nothing of it is poisoned */
        problem q = p;
        const std::vector<float> together = run(p, radar_cuda_attend_block);
        assert_true(worst(p, together) <= bound(type));
        q.s.span = 5, q.lists = 15; /* tiles of 5, and shorter lists */
        q.begin.assign(15, 0), q.count.assign(15, 12);
        for (size_t l = 0; l < 15; l++) {
            int64_t latest = 0;
            for (size_t i = 5 * l; i < 5 * l + 5 && i < 72; i++)
                latest = p.position[i] > latest ? p.position[i] : latest;
            q.count[l] = (int32_t)(latest / 16 + 1);
        }
        const std::vector<float> apart = run(q, radar_cuda_attend_block);
        assert_memory_equal(together.data(), apart.data(), together.size() * sizeof(float));
    }
}

static void what_nobody_attends_leaves_no_trace(void **) {
    for (radar_cuda_kv type : types) { /* make() poisons it */
        assert_true(right_by_blocks({type, 64, 1, 1, 16, 4, 64, 1, 16}, 1));
        assert_true(right_by_blocks({type, 80, 2, 2, 12, 4, 48, 1, 10}, 9));
    }
}

static void refuses_splits(void **) {
    radar_cuda_attend_args a = {};
    a.splits = 2;
    assert_int_equal(radar_cuda_attend_block(&a, nullptr), cudaErrorInvalidValue);
    a.splits = 1;
    assert_int_equal(radar_cuda_attend_block(&a, nullptr), 0);
}

static void under_every_schedule(void **) {
    for (radar_cuda_kv type : types) {
        const shape s = {type, 64, 1, 1, 10, 4, 40, 1, 20};
        assert_true(right_always([&] { return right_by_blocks(s, 2); }, 4));
        const problem p = make(s, 2);
        const std::vector<float> want = run(p, radar_cuda_attend_block);
        const auto same = [&] {
            const std::vector<float> got = run(p, radar_cuda_attend_block);
            return got.size() == want.size() &&
                   !memcmp(got.data(), want.data(), want.size() * sizeof(float));
        };
        assert_true(idle_barriers(same, 20).empty());
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_head_size_agrees_with_doubles),
        cmocka_unit_test(the_rest_goes_to_the_other_kernels),
        cmocka_unit_test(rows_heads_and_lists_in_every_arrangement),
        cmocka_unit_test(lists_of_any_length),
        cmocka_unit_test(bits_do_not_depend_on_neighbours),
        cmocka_unit_test(what_nobody_attends_leaves_no_trace),
        cmocka_unit_test(refuses_splits),
        cmocka_unit_test(under_every_schedule),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
