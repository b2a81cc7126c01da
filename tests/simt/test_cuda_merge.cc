/* merge.cu against merge.h and arrange.h, number by number in their order, to the bit. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}
#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

#include "kernels/cuda/merge.cu"
#include "tests/simt/merge_tree.h"

/* Partials as attend leaves them: some without keys, some with nothing missed. */
static std::vector<float> partials(int D, int n, uint64_t seed) {
    const int size = RADAR_PARTIAL(D);
    std::vector<float> p((size_t)(n * size));
    for (size_t i = 0; i < p.size(); i++) p[i] = draw(seed, i);
    for (int i = 0; i < n; i++) {
        float *a = &p[(size_t)(i * size)];
        const uint64_t r = radar_random(seed, 3, (uint64_t)i);
        a[RADAR_PARTIAL_M] *= 20;
        a[RADAR_PARTIAL_MISSED_M(D)] *= 20;
        a[RADAR_PARTIAL_L] = fabsf(a[RADAR_PARTIAL_L]) + 1;
        a[RADAR_PARTIAL_MISSED_L(D)] = fabsf(a[RADAR_PARTIAL_MISSED_L(D)]) + 1;
        if (r % 4 == 0) {
            memset(a, 0, sizeof *a * (size_t)(D + 2));
            a[RADAR_PARTIAL_M] = -INFINITY;
        }
        if (r / 4 % 4 == 0) {
            a[RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
            a[RADAR_PARTIAL_MISSED_L(D)] = 0;
        }
    }
    return p;
}

typedef std::vector<std::vector<float>> pieces_type;

static pieces_type pieces_of(int D, int n, int pieces, uint64_t seed) {
    pieces_type piece;
    for (int p = 0; p < pieces; p++) piece.push_back(partials(D, n, seed + (uint64_t)p * 100));
    return piece;
}

static int merge(pieces_type &piece, int n, int D) {
    float *at[RADAR_CUDA_MERGE_PIECES] = {};
    for (size_t p = 0; p < piece.size(); p++) at[p] = piece[p].data();
    return radar_cuda_merge(at, (int)piece.size(), n, D, nullptr);
}

static bool merges(int D, int n, int pieces, uint64_t seed) {
    pieces_type got = pieces_of(D, n, pieces, seed), want = got;
    merge_tree_of(want, n, D);
    return merge(got, n, D) == 0 &&
           !memcmp(got[0].data(), want[0].data(), want[0].size() * sizeof(float));
}

static void a_tree_has_the_bits_of_merges_two_by_two(void **) {
    for (int pieces = 1; pieces <= RADAR_CUDA_MERGE_PIECES; pieces *= 2)
        assert_true(merges(64, 3, pieces, (uint64_t)pieces));
    const int all_D[] = {2, 28, 80, 96, 112, 128, 256};
    for (int D : all_D) assert_true(merges(D, 2, 8, (uint64_t)D));
    assert_true(merges(256, 1, 64, 5));
    assert_true(right_always([] { return merges(64, 2, 16, 9); }, 20));
}

static void every_barrier_is_needed(void **) {
    assert_true(idle_barriers([] { return merges(64, 2, 16, 9); }, 40).empty());
}

/* Pieces of one memory, as they come from other ranks, and in parts: the same tree. */
static void a_tree_of_trees_is_one(void **) {
    const int D = 64, n = 3;
    pieces_type once = pieces_of(D, n, 32, 11), tops;
    std::vector<float> side_by_side;
    for (const std::vector<float> &p : once)
        side_by_side.insert(side_by_side.end(), p.begin(), p.end());
    for (int s = 0; s < 8; s++) {
        float *at[4];
        for (int i = 0; i < 4; i++) at[i] = &side_by_side[(size_t)(4 * s + i) * once[0].size()];
        assert_int_equal(radar_cuda_merge(at, 4, n, D, nullptr), 0);
        tops.push_back(std::vector<float>(at[0], at[0] + once[0].size()));
    }
    assert_int_equal(merge(once, n, D) | merge(tops, n, D), 0);
    assert_memory_equal(once[0].data(), tops[0].data(), once[0].size() * sizeof(float));
}

static void without_keys_comes_the_identity(void **) {
    const int D = 64, size = RADAR_PARTIAL(D);
    std::vector<float> none((size_t)size);
    none[RADAR_PARTIAL_M] = none[(size_t)RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
    pieces_type piece(8, none);
    assert_int_equal(merge(piece, 1, D), 0);
    assert_memory_equal(piece[0].data(), none.data(), sizeof(float) * (size_t)size);
}

static void a_nan_is_not_lost(void **) {
    const int D = 64, size = RADAR_PARTIAL(D);
    pieces_type piece = pieces_of(D, 1, 4, 2);
    piece[2][RADAR_PARTIAL_M] = 1;
    piece[2][RADAR_PARTIAL_O + 7] = NAN;
    assert_int_equal(merge(piece, 1, D), 0);
    for (int i = 0; i < size; i++)
        assert_int_equal(std::isnan(piece[0][(size_t)i]), i == RADAR_PARTIAL_O + 7);
}

static void what_does_not_fit_is_refused(void **) {
    float x = 0, *piece[128] = {};
    for (float *&p : piece) p = &x;
    assert_int_not_equal(radar_cuda_merge(piece, 3, 1, 64, nullptr), 0);
    assert_int_not_equal(radar_cuda_merge(piece, 0, 1, 64, nullptr), 0);
    assert_int_not_equal(radar_cuda_merge(piece, 128, 1, 64, nullptr), 0);
    assert_int_not_equal(radar_cuda_merge(piece, 4, 1, 272, nullptr), 0);
    assert_int_equal(radar_cuda_merge(piece, 4, 0, 64, nullptr), 0);
}

static void the_end_is_that_of_arrange(void **) {
    const int shape[][4] = {{1, 1, 1, 64}, {5, 2, 3, 80}, {64, 1, 1, 128}, {3, 4, 4, 112}};
    for (auto [M, G, group, D] : shape) {
        const int H = G * group, size = RADAR_PARTIAL(D);
        const size_t heads = (size_t)(M * H);
        std::vector<float> p = partials(D, (int)heads, 17), out(heads * (size_t)D, 7);
        std::vector<float> coverage(heads, 7);
        for (size_t i = 0; i < heads; i++) { /* a query attends to something */
            float *a = &p[i * (size_t)size];
            if (a[RADAR_PARTIAL_L] == 0) a[RADAR_PARTIAL_M] = a[RADAR_PARTIAL_L] = 1;
        }
        assert_int_equal(
            radar_cuda_finish(out.data(), coverage.data(), p.data(), M, G, group, D, nullptr), 0);
        for (int m = 0; m < M; m++)
            for (int h = 0; h < H; h++) {
                const float *a = &p[(size_t)(((h / group * M + m) * group + h % group) * size)];
                const size_t to = (size_t)(m * H + h);
                for (size_t d = 0; d < (size_t)D; d++)
                    assert_true(out[to * (size_t)D + d] ==
                                a[RADAR_PARTIAL_O + d] / a[RADAR_PARTIAL_L]);
                const double missed =
                    a[RADAR_PARTIAL_MISSED_L(D)] *
                    exp((double)a[RADAR_PARTIAL_MISSED_M(D)] - a[RADAR_PARTIAL_M]);
                assert_true(fabs(coverage[to] - 1 / (1 + missed / a[RADAR_PARTIAL_L])) <= 3e-7);
            }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_has_the_bits_of_merges_two_by_two),
        cmocka_unit_test(every_barrier_is_needed),
        cmocka_unit_test(a_tree_of_trees_is_one),
        cmocka_unit_test(without_keys_comes_the_identity),
        cmocka_unit_test(a_nan_is_not_lost),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(the_end_is_that_of_arrange),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
