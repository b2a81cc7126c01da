/* Scanning by the device beside the CPU's: ranges, lists, coarse ones; any number of queries; whatever the grid. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/sketch_scan.cu"
#include "tests/simt/sketch_fixture.h"

enum { BLOCKS = 9, UNITS = 4 * BLOCKS, QUERY_MAX = 19 };

/* Blocks of finite keys and queries, as the CPU seals and prepares them. */
struct cache {
    const sketch &s;
    std::vector<uint64_t> summary, query;

    cache(const sketch &s, float query_size)
        : s(s), summary(BLOCKS * s.x.block_bytes / 8), query(QUERY_MAX * s.x.query_bytes / 8) {
        const int D = s.x.D;
        const int kinds[BLOCKS] = {0, 0, 1, 2, 0, 3, 4, 7, 0};
        std::vector<float> key(64 * (size_t)D), q((size_t)D);
        for (int b = 0; b < BLOCKS; b++) {
            for (int i = 0; i < 64 * D; i++) {
                const int kind = query_size > 1 || kinds[b] != 3 ? kinds[b] : 0;
                key[(size_t)i] = key_of(kind, (uint64_t)b, D, i / D, i % D);
            }
            s.cpu->kind->seal(s.cpu, (char *)summary.data() + b * s.x.block_bytes, key.data());
        }
        for (int j = 0; j < QUERY_MAX; j++) {
            for (int d = 0; d < D; d++)
                q[(size_t)d] = (j == 3 ? 0 : query_size) * draw(9, (uint64_t)(j * D + d));
            s.cpu->kind->query(s.cpu, (char *)query.data() + (size_t)j * s.x.query_bytes, q.data());
        }
    }
};

/* A task of n queries and room for its scores; all that is not to be written holds 777. */
struct scan {
    const cache &c;
    std::vector<float> score;
    std::vector<int32_t> list;
    int32_t n_listed;
    radar_score_task t{};

    scan(const cache &c, int n, int begin, int end, std::vector<int32_t> listed = {},
         bool coarse = false)
        : c(c), score((size_t)(n * (UNITS + 3) + 1), 777.0f), list(listed) {
        t.kv.D = c.s.x.D;
        t.kv.summary = const_cast<uint64_t *>(c.summary.data());
        t.kv.block_bytes = c.s.x.block_bytes;
        t.n_query = n;
        t.query = c.query.data();
        t.unit = 1;
        t.segment_begin = begin;
        t.segment_end = end;
        t.score_stride = UNITS + 3;
        t.coarse = coarse;
        n_listed = (int32_t)list.size();
    }
    radar_score_task *task(bool listed) {
        t.score = score.data();
        t.list = listed ? list.data() : nullptr;
        t.n_listed = listed ? &n_listed : nullptr;
        return &t;
    }
};

static std::vector<float> on_cpu(scan w, bool listed) {
    w.c.s.cpu->kind->score(w.c.s.cpu, w.task(listed));
    return w.score;
}

static std::vector<float> on_device(scan w, bool listed, int ctas = 1) {
    assert_int_equal(radar_cuda_sketch_scan(&w.c.s.x, w.task(listed), 1, w.t.n_query, listed,
                                            w.t.coarse, ctas, nullptr),
                     0);
    return w.score;
}

/* What f32 may lose of q . mu of score number i: all its products count. */
static double rounding_of(const scan &w, size_t i) {
    const radar_cuda_sketch &x = w.c.s.x;
    const size_t unit = (size_t)w.t.segment_begin + i % w.t.score_stride;
    const char *block = (const char *)w.t.kv.summary + unit / 4 * x.block_bytes;
    const char *query = (const char *)w.t.query + i / w.t.score_stride * x.query_bytes;
    const int8_t *mu = (const int8_t *)block + 256 * x.words + 64;
    float scale, q;
    double size = 0;
    memcpy(&scale, mu + x.Dp, sizeof scale);
    for (int d = 0; d < x.Dp; d++) {
        memcpy(&q, query + 32 + x.Dq + 4 * d, sizeof q);
        size += fabs((double)q * mu[d]) * scale;
    }
    return size * 0x1p-22;
}

/* 8e-5 for the polynomial of mass.h, 2e-5 for the hardware's logarithm, and what rounding costs the largest logits. */
static void agree(const scan &w, bool listed, const char *what) {
    const auto got = on_device(w, listed), want = on_cpu(w, listed);
    for (size_t i = 0; i < want.size(); i++) {
        if (got[i] == want[i]) continue; /* also where neither wrote */
        const double miss = fabs((double)got[i] - want[i]);
        if (!(miss <= 1e-4 + rounding_of(w, i) + fabs(want[i]) * 0x1p-22))
            fail_msg("%s: %.9g where %.9g is right, at %zu", what, (double)got[i], (double)want[i],
                     i);
    }
}

static void ranges_score_as_on_the_cpu(void **) {
    for (int bits : {1, 2, 4}) {
        for (int D : {16, 48, 64, 80, 96, 112, 128}) {
            const sketch s(D, bits);
            const cache c(s, 1);
            const scan whole(c, D == 96 ? 19 : D == 48 ? 1 : D == 80 ? 4 : 8, 0, UNITS);
            char what[80];
            snprintf(what, sizeof what, "D %d, %d bits", D, bits);
            agree(whole, false, what);
        }
    }
}

static void coarse_ones_too(void **) {
    for (int D : {48, 64, 80, 128}) {
        const sketch s(D, 2);
        const cache c(s, 1);
        const scan whole(c, 5, 0, UNITS, {}, true), some(c, 9, 3, 30, {29, 3, 4, 17, 5}, true);
        agree(whole, false, "coarse");
        agree(some, true, "coarse, listed");
    }
}

static void large_logits_keep_their_maxima(void **) {
    for (int bits : {1, 2, 4}) {
        for (int D : {64, 128}) {
            const sketch s(D, bits);
            const cache c(s, 30);
            const scan whole(c, 8, 0, UNITS), rough(c, 8, 0, UNITS, {}, true),
                some(c, 8, 0, UNITS, {35, 20, 22, 9, 0, 33});
            agree(whole, false, "far");
            agree(some, true, "far, listed");
            if (bits == 2) agree(rough, false, "far, coarse");
        }
    }
}

static void only_the_range_is_written(void **) {
    const sketch s(64, 2);
    const cache c(s, 1);
    const int range[][2] = {{0, 1}, {3, 4}, {2, 11}, {7, 36}, {5, 5}, {4, 8}};
    for (auto &r : range) {
        const scan part(c, 3, r[0], r[1]);
        agree(part, false, "part");
    }
}

/* Bit for bit: a unit of a list is that of a range, and neither depends on who scores it. */
static void bits_do_not_depend_on_the_grid_or_the_list(void **) {
    for (int bits : {1, 2, 4}) {
        const sketch s(80, bits);
        for (float size : {1.0f, 30.0f}) {
            const cache c(s, size);
            const scan whole(c, 11, 1, UNITS), some(c, 11, 1, UNITS, {30, 2, 35, 1, 16, 17, 9});
            const auto want = on_device(whole, false);
            const auto wide = on_device(whole, false, 7), listed = on_device(some, true, 2),
                       narrow = on_device(some, true);
            assert_memory_equal(wide.data(), want.data(), want.size() * sizeof(float));
            assert_memory_equal(narrow.data(), listed.data(), listed.size() * sizeof(float));
            for (int j = 0; j < 11; j++)
                for (int32_t u : some.list)
                    assert_memory_equal(&listed[(size_t)(j * (UNITS + 3) + u - 1)],
                                        &want[(size_t)(j * (UNITS + 3) + u - 1)], sizeof(float));
        }
    }
}

/* Of a query's neighbours too: the same bits alone, and where they are far. */
static void bits_do_not_depend_on_other_queries(void **) {
    const sketch s(64, 2);
    const cache c(s, 30);
    const scan all(c, 8, 0, UNITS);
    const auto want = on_device(all, false);
    for (int j = 0; j < 8; j++) {
        scan one(c, 1, 0, UNITS);
        one.t.query = (const char *)one.t.query + (size_t)j * s.x.query_bytes;
        assert_memory_equal(on_device(one, false).data(), &want[(size_t)j * (UNITS + 3)],
                            UNITS * sizeof(float));
    }
}

static void tasks_side_by_side(void **) {
    const sketch s(128, 2);
    const cache c(s, 1);
    scan a(c, 9, 0, 8), b(c, 2, 6, 21), none(c, 4, 8, 8);
    const auto want_a = on_device(a, false), want_b = on_device(b, false);
    for (int ctas : {1, 20}) {
        scan x = a, y = b, z = none;
        const radar_score_task task[3] = {*x.task(false), *z.task(false), *y.task(false)};
        assert_int_equal(radar_cuda_sketch_scan(&s.x, task, 3, 9, false, false, ctas, nullptr), 0);
        assert_true(x.score == want_a && y.score == want_b && z.score == none.score);
    }
    scan empty(c, 4, 0, 8);
    assert_true(on_device(empty, true) == empty.score);
    const sketch wide(256, 2);
    assert_int_equal(radar_cuda_sketch_scan(&wide.x, &a.t, 1, 1, false, false, 1, nullptr),
                     cudaErrorInvalidValue);
}

static void a_query_without_numbers_has_no_score(void **) {
    const sketch s(64, 2);
    const cache c(s, 1);
    std::vector<float> q(64, 1.0f);
    q[7] = NAN;
    std::vector<uint64_t> prepared(s.x.query_bytes / 8);
    s.cpu->kind->query(s.cpu, prepared.data(), q.data());
    scan one(c, 1, 0, 8);
    one.t.query = prepared.data();
    const auto got = on_device(one, false);
    for (int i = 0; i < 8; i++) assert_true(std::isnan(got[(size_t)i]));
}

static void any_schedule_will_do(void **) {
    const sketch s(112, 2);
    const cache c(s, 30);
    const scan whole(c, 9, 2, UNITS), some(c, 3, 0, UNITS, {8, 30, 31, 2, 20});
    const auto want = on_device(whole, false), listed = on_device(some, true);
    assert_true(right_always([&] { return on_device(whole, false, 2) == want; }, 3));
    assert_true(right_always([&] { return on_device(some, true) == listed; }, 3));
}

static void no_barrier_is_idle(void **) {
    const sketch s(64, 2);
    const cache c(s, 1);
    const scan some(c, 3, 0, UNITS, {8, 30});
    const auto want = on_device(some, true);
    assert_true(idle_barriers([&] { return on_device(some, true) == want; }, 20).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_score_as_on_the_cpu),
        cmocka_unit_test(coarse_ones_too),
        cmocka_unit_test(large_logits_keep_their_maxima),
        cmocka_unit_test(only_the_range_is_written),
        cmocka_unit_test(bits_do_not_depend_on_the_grid_or_the_list),
        cmocka_unit_test(bits_do_not_depend_on_other_queries),
        cmocka_unit_test(tasks_side_by_side),
        cmocka_unit_test(a_query_without_numbers_has_no_score),
        cmocka_unit_test(any_schedule_will_do),
        cmocka_unit_test(no_barrier_is_idle),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
