/* The scorer `mean` on CUDA beside the CPU's: the same summaries and queries, scores of every range, level and number of queries. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/mean.cu"
#include "tests/simt/scoring.h"

static const int all_D[] = {16, 64, 80, 96, 112, 128, 144, 256};

struct scorer {
    radar_scorer *s;
    explicit scorer(int D) {
        radar_scorer_options opt = {};
        opt.D = D;
        assert_int_equal(radar_scorer_open(&s, "mean", &opt, nullptr), RADAR_OK);
    }
    ~scorer() { radar_scorer_close(s); }
};

/* ---- seal and unite ---- */

/* Blocks [begin, end) are sealed as the CPU does, all others left alone. */
static bool seals(const cache &c, int begin, int end, int most) {
    const int32_t blocks[2] = {begin, end};
    device_memory<char> out(c.summary.n);
    out.fill(0x5a);
    const radar_cuda_seal t = c.seal_task(out.p, blocks, most);
    if (radar_cuda_mean_seal(&t, nullptr)) return false;
    return sealed_alone(c, out.p, begin, end);
}

static void summaries_are_the_cpus(void **) {
    const radar_cuda_kv types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_F32,
                                   RADAR_CUDA_KV_FP8};
    for (int D : all_D)
        for (radar_cuda_kv type : types) {
            scorer mean(D);
            cache c(mean.s, type, 2, 12, 0, (uint64_t)D, 1.5f);
            assert_true(seals(c, 0, 3, 3));
            assert_true(seals(c, 1, 2, 1));
            assert_true(seals(c, 2, 2, 1)); /* none */
        }
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_F16, 2, 12, 0, 5, 1.5f);
    assert_true(
        right_always([&] { return seals(c, 0, 3, 1); }, 3)); /* more than the grid was made for */
}

/* The levels above blocks [begin, end), the others left alone. */
static bool unites(const cache &c, int begin, int end) {
    const int32_t blocks[2] = {begin, end};
    device_memory<char> out(c.merged.n);
    out.fill(0x5a);
    const radar_cuda_unite t = c.unite_task(c.summary.p, out.p, blocks);
    if (radar_cuda_mean_unite(&t, nullptr)) return false;
    /* what is merged may rest on levels of blocks before `begin`, which an earlier call has written: only whole calls compare */
    for (int head = 0; head < c.heads; head++)
        for (int level = 1; level <= c.levels; level++)
            for (int i = begin * 4 >> level; i < end * 4 >> level; i++)
                if (memcmp(out.p + c.merged_offset(head, level, i), c.at(head, level, i),
                           c.segment_bytes))
                    return false;
    return true;
}

static void levels_are_the_cpus(void **) {
    for (int D : all_D) {
        scorer mean(D);
        cache c(mean.s, RADAR_CUDA_KV_F16, 2, 32, 4, (uint64_t)D, 1.5f);
        assert_true(unites(c, 0, 8));
        assert_true(unites(c, 4, 8));
        assert_true(unites(c, 3, 3));
    }
}

static void levels_grow_block_by_block(void **) {
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_BF16, 2, 32, 5, 9, 1.5f);
    device_memory<char> out(c.merged.n);
    for (int b = 0; b < 8; b++) {
        const int32_t blocks[2] = {b, b + 1};
        const radar_cuda_unite t = c.unite_task(c.summary.p, out.p, blocks);
        assert_int_equal(radar_cuda_mean_unite(&t, nullptr), 0);
    }
    for (int head = 0; head < 2; head++)
        assert_memory_equal(out.p + c.merged_offset(head, 1, 0), c.at(head, 1, 0),
                            31 * c.segment_bytes);
}

static void every_barrier_of_unite_is_needed(void **) {
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_F16, 1, 64, 4, 3, 1.5f);
    assert_true(right_always([&] { return unites(c, 0, 16); }, 6));
    assert_true(idle_barriers([&] { return unites(c, 0, 16); }, 12).empty());
}

/* ---- queries ---- */

static void queries_are_the_cpus(void **) {
    for (int D : all_D) {
        scorer mean(D);
        const size_t stride = (size_t)D + 5;
        device_memory<float> q(7 * stride), out(7 * (size_t)D), want(7 * (size_t)D);
        for (size_t i = 0; i < q.n; i++) q[i] = draw(11, i);
        for (size_t j = 0; j < 7; j++)
            mean.s->kind->query(mean.s, &want[j * (size_t)D], &q[j * stride]);
        assert_int_equal(radar_cuda_mean_query(out.p, q.p, stride, 7, D, nullptr), 0);
        assert_memory_equal(out.p, want.p, out.n * sizeof(float));
        assert_int_equal(radar_cuda_mean_query(out.p, q.p, stride, 0, D, nullptr), 0);
    }
}

/* ---- scores ---- */

static double reference(const uint16_t *mean, const float *q, int D, int unit) {
    double dot = 0;
    for (int d = 0; d < D; d++) dot += (double)q[d] * (double)radar_f16_to_f32(mean[d]);
    return std::log(16.0 * unit) + dot / std::sqrt((double)D);
}

static size_t query_stride(int n, int D) { return (size_t)(n * D + 8); }

/* Scores of units [begin, end) of a level for n queries of each KV head, with room between the heads, D numbers each; what is
 * outside the range is left alone. */
static bool scores(const cache &c, const device_memory<float> &q, int n, int level, int begin,
                   int end, int most, double tol) {
    const int32_t units[2] = {begin, end};
    const size_t count = (size_t)(end - begin), stride = count + 3;
    device_memory<float> out((size_t)(c.heads * n) * stride);
    for (size_t i = 0; i < out.n; i++) out[i] = 77;
    radar_cuda_score t = {c.D,
                          c.heads,
                          n,
                          q.p,
                          query_stride(n, c.D),
                          c.at(0, level, 0),
                          level ? c.merged_bytes : (size_t)c.segments * c.segment_bytes,
                          1 << level,
                          units,
                          most,
                          out.p,
                          stride};
    if (radar_cuda_mean_score(&t, nullptr)) return false;
    for (int row = 0; row < c.heads * n; row++) {
        const int head = row / n;
        const float *query = &q[(size_t)head * query_stride(n, c.D) + (size_t)(row % n * c.D)];
        const auto cpu = cpu_scores(c, head, level, begin, end, (const char *)query, 1);
        for (size_t i = 0; i < stride; i++) {
            const float got = out[(size_t)row * stride + i];
            if (i >= count) {
                if (got != 77) return false;
                continue;
            }
            const double want = reference((const uint16_t *)c.at(head, level, begin + (int)i),
                                          query, c.D, 1 << level);
            if (!same_number(got, cpu[i], tol) || !same_number(got, (float)want, tol)) {
                if (!simt::opt.drop_barrier)
                    print_error("D %d n %d level %d: row %d unit %zu: %.9g, cpu %.9g, exact %.9g\n",
                                c.D, n, level, row, i, (double)got, (double)cpu[i], want);
                return false;
            }
        }
    }
    return true;
}

static void fill_queries(const device_memory<float> &q, float size) {
    for (size_t i = 0; i < q.n; i++) q[i] = size * draw(21, i);
}

static void scores_are_the_cpus(void **) {
    for (int D : all_D) {
        scorer mean(D);
        cache c(mean.s, RADAR_CUDA_KV_F16, 2, 40, 2, (uint64_t)D, 1.5f);
        device_memory<float> q(2 * query_stride(5, D));
        fill_queries(q, 2);
        assert_true(scores(c, q, 5, 0, 0, 40, 40, 1e-5));
        assert_true(scores(c, q, 1, 0, 7, 24, 17, 1e-5));
        assert_true(scores(c, q, 2, 1, 3, 20, 20, 1e-5));
        assert_true(scores(c, q, 3, 2, 9, 10, 1, 1e-5)); /* one */
        assert_true(scores(c, q, 3, 0, 4, 4, 40, 1e-5)); /* none */
    }
}

static void any_number_of_queries(void **) {
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_BF16, 2, 20, 0, 1, 1.5f);
    for (int n : {1, 4, 8, 9, 16, 17, 35}) {
        device_memory<float> q(2 * query_stride(n, 64));
        fill_queries(q, 1);
        assert_true(scores(c, q, n, 0, 1, 20, 20, 1e-5));
    }
}

static void the_grid_changes_nothing(void **) {
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_F16, 1, 300, 0, 2, 1.5f);
    device_memory<float> q(2 * 64);
    fill_queries(q, 1);
    assert_true(scores(c, q, 2, 0, 0, 300, 300, 1e-5));
    assert_true(scores(c, q, 2, 0, 0, 300, 1, 1e-5)); /* one block does them all */
    assert_true(scores(c, q, 2, 0, 0, 20, 3000, 1e-5));
}

/* Queries of any size: what f16 cannot hold is brought into its range and back. */
static void tiny_and_huge_queries(void **) {
    scorer mean(80);
    cache c(mean.s, RADAR_CUDA_KV_F16, 1, 16, 0, 4, 1.5f);
    device_memory<float> q(4 * 80);
    for (size_t i = 0; i < q.n; i++) {
        const float size[] = {1e-30f, 1e-6f, 1e6f, 0};
        q[i] = size[i / 80] * draw(8, i);
    }
    assert_true(scores(c, q, 4, 0, 0, 16, 16, 3));
    for (size_t j = 0; j < 4; j++)
        if (j != 2)
            for (size_t i = 0; i < 80; i++) q[2 * 80 + i] = q[j * 80 + i];
    assert_true(scores(c, q, 4, 0, 0, 16, 16, 1e-6));
}

static void a_query_that_is_no_number_spoils_itself_alone(void **) {
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_F16, 1, 16, 0, 4, 1.5f);
    device_memory<float> q(3 * 64);
    fill_queries(q, 1);
    q[64 + 9] = NAN;
    const int32_t units[2] = {0, 16};
    device_memory<float> out(3 * 16);
    const radar_cuda_score t = {64,          1, 3,     q.p, 0,     c.summary.p,
                                c.summary.n, 1, units, 16,  out.p, 16};
    assert_int_equal(radar_cuda_mean_score(&t, nullptr), 0);
    for (size_t i = 0; i < 48; i++) assert_true(std::isnan(out[i]) == (i / 16 == 1));
}

static void every_barrier_of_score_is_needed(void **) {
    scorer mean(64);
    cache c(mean.s, RADAR_CUDA_KV_F16, 1, 24, 0, 6, 1.5f);
    device_memory<float> q(5 * 64);
    fill_queries(q, 2);
    const auto run = [&] { return scores(c, q, 5, 0, 0, 24, 24, 1e-5); };
    assert_true(right_always(run, 6));
    assert_true(idle_barriers(run, 12).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summaries_are_the_cpus),
        cmocka_unit_test(levels_are_the_cpus),
        cmocka_unit_test(levels_grow_block_by_block),
        cmocka_unit_test(every_barrier_of_unite_is_needed),
        cmocka_unit_test(queries_are_the_cpus),
        cmocka_unit_test(scores_are_the_cpus),
        cmocka_unit_test(any_number_of_queries),
        cmocka_unit_test(the_grid_changes_nothing),
        cmocka_unit_test(tiny_and_huge_queries),
        cmocka_unit_test(a_query_that_is_no_number_spoils_itself_alone),
        cmocka_unit_test(every_barrier_of_score_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
