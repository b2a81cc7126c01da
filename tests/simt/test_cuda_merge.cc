/* merge.cu against the CPU's merge and finish, to the bit, and against doubles. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>

#include "kernels/backend.h"
}
#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

#include "kernels/cuda/merge.cu"

static radar_backend *cpu;

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

/* Pieces [first, first + count) through the CPU's merge, into the first. */
static void tree_of_cpu(std::vector<float> &p, int D, int n, int pieces) {
    const size_t stride = (size_t)(n * RADAR_PARTIAL(D));
    for (int half = 1; half < pieces; half *= 2)
        for (int a = 0; a < pieces; a += 2 * half)
            cpu->ops->merge(cpu, &p[(size_t)a * stride], &p[(size_t)(a + half) * stride], n, D);
}

static bool merges(int D, int n, int pieces, uint64_t seed) {
    const size_t stride = (size_t)(n * RADAR_PARTIAL(D));
    const std::vector<float> p = partials(D, n * pieces, seed);
    std::vector<float> want = p, in_place = p, out(stride, NAN);
    tree_of_cpu(want, D, n, pieces);
    if (radar_cuda_merge(out.data(), p.data(), stride, pieces, n, D, nullptr)) return false;
    if (radar_cuda_merge(in_place.data(), in_place.data(), stride, pieces, n, D, nullptr))
        return false;
    return !memcmp(out.data(), want.data(), stride * sizeof(float)) &&
           !memcmp(in_place.data(), want.data(), stride * sizeof(float));
}

static void a_tree_has_the_bits_of_the_cpu(void **) {
    for (int pieces = 1; pieces <= 64; pieces *= 2)
        assert_true(merges(64, 3, pieces, (uint64_t)pieces));
    const int all_D[] = {2, 28, 80, 96, 112, 128, 256};
    for (int D : all_D) assert_true(merges(D, 2, 8, (uint64_t)D));
    assert_true(merges(16, 1, 256, 5));
    assert_true(right_always([] { return merges(64, 2, 16, 9); }, 20));
}

static void every_barrier_is_needed(void **) {
    assert_true(idle_barriers([] { return merges(64, 2, 16, 9); }, 40).empty());
}

/* Splits first, then shards, or both at once. */
static void splits_and_shards_are_one_tree(void **) {
    const int D = 64, n = 3, splits = 4, shards = 8;
    const size_t size = (size_t)(n * RADAR_PARTIAL(D));
    const std::vector<float> p = partials(D, n * splits * shards, 11);
    std::vector<float> once(size), shard(size * shards), twice(size);
    radar_cuda_merge(once.data(), p.data(), size, splits * shards, n, D, nullptr);
    for (int s = 0; s < shards; s++)
        radar_cuda_merge(&shard[(size_t)s * size], &p[(size_t)(s * splits) * size], size, splits, n,
                         D, nullptr);
    radar_cuda_merge(twice.data(), shard.data(), size, shards, n, D, nullptr);
    assert_memory_equal(once.data(), twice.data(), size * sizeof(float));
}

static void without_keys_comes_the_identity(void **) {
    const int D = 64, size = RADAR_PARTIAL(D);
    std::vector<float> p((size_t)(8 * size)), out((size_t)size);
    for (int i = 0; i < 8; i++)
        p[(size_t)(i * size)] = p[(size_t)(i * size + RADAR_PARTIAL_MISSED_M(D))] = -INFINITY;
    radar_cuda_merge(out.data(), p.data(), (size_t)size, 8, 1, D, nullptr);
    assert_memory_equal(out.data(), p.data(), sizeof(float) * (size_t)size);
}

static void a_nan_is_not_lost(void **) {
    const int D = 64, size = RADAR_PARTIAL(D);
    std::vector<float> p = partials(D, 4, 2), out((size_t)size);
    p[(size_t)(2 * size)] = 1;
    p[(size_t)(2 * size + RADAR_PARTIAL_O + 7)] = NAN;
    radar_cuda_merge(out.data(), p.data(), (size_t)size, 4, 1, D, nullptr);
    for (int i = 0; i < size; i++)
        assert_int_equal(std::isnan(out[(size_t)i]), i == RADAR_PARTIAL_O + 7);
}

static void what_does_not_fit_is_refused(void **) {
    float x = 0;
    assert_int_not_equal(radar_cuda_merge(&x, &x, 1, 3, 1, 64, nullptr), 0);
    assert_int_not_equal(radar_cuda_merge(&x, &x, 1, 0, 1, 64, nullptr), 0);
    assert_int_not_equal(radar_cuda_merge(&x, &x, 1, 256, 1, 256, nullptr), 0);
    assert_int_equal(radar_cuda_merge(&x, &x, 1, 4, 0, 64, nullptr), 0);
}

static void the_end_is_that_of_the_cpu(void **) {
    const int shape[][4] = {{1, 1, 1, 64}, {5, 2, 3, 80}, {64, 1, 1, 128}, {3, 4, 4, 112}};
    for (auto [M, G, group, D] : shape) {
        const size_t heads = (size_t)(M * G * group);
        std::vector<float> p = partials(D, (int)heads, 17), out(heads * (size_t)D, 7), want = out;
        std::vector<float> coverage(heads, 7), share = coverage;
        for (size_t i = 0; i < heads; i++) { /* a query attends to something */
            float *a = &p[i * (size_t)RADAR_PARTIAL(D)];
            if (a[RADAR_PARTIAL_L] == 0) a[RADAR_PARTIAL_M] = a[RADAR_PARTIAL_L] = 1;
        }
        cpu->ops->finish(cpu, want.data(), share.data(), p.data(), M, G, group, D);
        assert_int_equal(
            radar_cuda_finish(out.data(), coverage.data(), p.data(), M, G, group, D, nullptr), 0);
        assert_memory_equal(out.data(), want.data(), out.size() * sizeof(float));
        for (size_t i = 0; i < heads; i++) assert_true(fabsf(coverage[i] - share[i]) <= 3e-7f);
    }
}

int main() {
    radar_backend_options opt = {};
    opt.n_threads = 1;
    opt.isa = "plain";
    opt.max_rows = opt.max_cols = 32;
    radar_error err = {};
    if (radar_backends[0]->open(&cpu, &opt, &err) != RADAR_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_has_the_bits_of_the_cpu),
        cmocka_unit_test(every_barrier_is_needed),
        cmocka_unit_test(splits_and_shards_are_one_tree),
        cmocka_unit_test(without_keys_comes_the_identity),
        cmocka_unit_test(a_nan_is_not_lost),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(the_end_is_that_of_the_cpu),
    };
    const int failed = cmocka_run_group_tests(tests, nullptr, nullptr);
    cpu->ops->close(cpu);
    return failed;
}
