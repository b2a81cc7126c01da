/* What selection leaves out, on CUDA: against sums in double over scores, lists and ranges of every kind. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/missed.cu"
#include "tests/simt/fixture.h"

/* Rows of scores, of which `share` in a row attend one list: a task. */
struct setting {
    int rows, share, begin, end, most, unit, n_items;
    uint64_t seed;
    float scale;
};

static int tasks_of(const setting &s) { return (s.rows + s.share - 1) / s.share; }

/* A chosen unit is listed with all its segments; some lie outside the range. */
static std::vector<radar_item> lists(const setting &s) {
    std::vector<radar_item> item;
    for (int i = 0; i < tasks_of(s) * s.n_items; i++) {
        const double u =
            (double)radar_random(s.seed, 7, (uint64_t)(i / s.unit)) / 18446744073709551616.0;
        const int span = s.end - s.begin + 8;
        item.push_back({(s.begin - 4 + (int)(u * span)) * s.unit + i % s.unit, 0xffff});
    }
    return item;
}

static void reference(const setting &s, const float *score, const radar_item *item, int n_items,
                      double out[2]) {
    std::vector<char> chosen((size_t)(s.end - s.begin), 0);
    for (int i = 0; i < n_items; i++)
        for (int at = 0; at < s.end - s.begin; at++)
            if (item[i].segment >= (s.begin + at) * s.unit &&
                item[i].segment < (s.begin + at + 1) * s.unit)
                chosen[(size_t)at] = 1;
    out[0] = -INFINITY, out[1] = 0;
    for (size_t i = 0; i < chosen.size(); i++)
        if (!chosen[i] && score[i] > out[0]) out[0] = score[i];
    for (size_t i = 0; i < chosen.size(); i++)
        if (!chosen[i] && out[0] > -INFINITY) out[1] += std::exp(score[i] - out[0]);
}

/* Outputs of a setting and its tasks, ahead of the first of which lies one without queries. */
struct problem {
    std::vector<float> score, missed;
    std::vector<radar_item> item;
    std::vector<int64_t> begin;
    std::vector<int32_t> count;
    std::vector<radar_cuda_missed_task> task;
    size_t stride;
};

template <class Number> static void make(problem &p, const setting &s, Number number) {
    p.stride = (size_t)(s.end - s.begin) + 3;
    p.score.resize((size_t)s.rows * p.stride);
    for (size_t i = 0; i < p.score.size(); i++)
        p.score[i] = number((int)(i / p.stride), (int)(i % p.stride));
    p.missed.assign((size_t)s.rows * 5, 9.0f);
    p.item = lists(s);
    p.count.assign((size_t)tasks_of(s), s.n_items);
    for (int i = 0; i < tasks_of(s); i++) p.begin.push_back((int64_t)i * s.n_items);
    p.task.assign(1, radar_cuda_missed_task{});
    for (int i = 0; i < tasks_of(s); i++) {
        const int row = i * s.share, left = s.rows - row;
        p.task.push_back({left < s.share ? left : s.share, &p.score[(size_t)row * p.stride],
                          p.stride, s.end - s.begin, s.unit, s.begin, p.item.data(),
                          &p.begin[(size_t)i], &p.count[(size_t)i], -1,
                          &p.missed[(size_t)row * 5 + 1], 5});
    }
}

static int launch(const setting &s, const problem &p) {
    const int n = (int)p.task.size();
    std::vector<float> work(radar_cuda_missed_work(n, s.share, s.most) / sizeof(float), NAN);
    const radar_cuda_missed args = {p.task.data(), n, s.share, s.most, work.data()};
    return radar_cuda_sum_missed(&args, nullptr);
}

/* Fills rows of scores by `number`, sums, compares; NaN where the reference has it. */
template <class Number> static bool sums(const setting &s, Number number) {
    problem p;
    make(p, s, number);
    const std::vector<float> before = p.score;
    const size_t n = (size_t)(s.end - s.begin);
    if (launch(s, p)) return false;
    for (int row = 0; row < s.rows; row++) {
        const float *got = &p.missed[(size_t)row * 5 + 1];
        double want[2];
        reference(s, &before[(size_t)row * p.stride], p.item.data() + row / s.share * s.n_items,
                  s.n_items, want);
        if (got[-1] != 9 || got[2] != 9 || got[0] != (float)want[0]) return false;
        if (want[1] != want[1] ? got[1] == got[1]
                               : !(std::fabs(got[1] - want[1]) <= 1e-6 * want[1]))
            return false;
        const size_t end = (size_t)row * p.stride + n; /* beyond the range nothing changes */
        if (memcmp(&p.score[end], &before[end], (p.stride - n) * sizeof(float))) return false;
    }
    return true;
}

static bool sums_normals(const setting &s) {
    return sums(s, [&](int row, int i) {
        return s.scale * draw(s.seed, (uint64_t)row << 32 | (unsigned)i);
    });
}

static void sums_are_right(void **) {
    assert_true(sums_normals({6, 3, 0, 300, 300, 1, 20, 1, 3}));
    assert_true(sums_normals({4, 1, 17, 5000, 5000, 1, 300, 2, 5}));
    assert_true(sums_normals({2, 2, 100, 4196, 4096, 1, 9, 3, 1}));
    assert_true(sums_normals({3, 3, 5, 4102, 9000, 1, 5, 4, 30}));
    assert_true(sums_normals({4, 2, 3, 250, 4096, 4, 40, 5, 3})); /* longer units */
    assert_true(sums_normals({4, 2, 0, 40, 4096, 4, 40, 5, 3}));  /* beside them, numbers below 0 */
    assert_true(sums_normals({7, 3, 2, 90, 100, 1, 10, 5, 3}));   /* a task of fewer queries */
    assert_true(sums_normals({1, 1, 0, 1, 1, 1, 0, 6, 1}));       /* one, not chosen */
    assert_true(right_always([] { return sums_normals({2, 1, 3, 4700, 5000, 1, 60, 7, 4}); }, 6));
}

/* Segments 0, 1, ... and 3, 4, ... , written down or not. */
static void lists_that_need_no_items(void **) {
    const setting s = {2, 2, 5, 305, 300, 1, 40, 1, 3};
    for (int64_t first : {0, 3}) {
        problem listed, plain;
        const auto number = [](int row, int i) { return draw(5, (uint64_t)(row * 1000 + i)); };
        make(listed, s, number);
        make(plain, s, number);
        for (int i = 0; i < s.n_items; i++) listed.item[(size_t)i].segment = (int32_t)first + i;
        plain.begin[0] = first;
        plain.task[1].item = nullptr, plain.task[1].count = nullptr;
        plain.task[1].n_items = s.n_items;
        if (first == 0) plain.task[1].begin = nullptr;
        assert_int_equal(launch(s, listed) | launch(s, plain), 0);
        assert_memory_equal(plain.missed.data(), listed.missed.data(), 10 * sizeof(float));
        int crossed = 0;
        for (size_t i = 0; i < 300; i++) crossed += plain.score[i] == -INFINITY;
        assert_int_equal(crossed, first + s.n_items - s.begin);
    }
}

static void many_chunks(void **) {
    assert_true(sums_normals({1, 1, 0, 34 * 4096 + 5, 40 * 4096, 1, 100, 8, 2}));
}

static void nothing_missed(void **) {
    assert_true(sums_normals({2, 1, 9, 9, 100, 1, 4, 1, 1})); /* nothing scored */
    assert_true(sums_normals({2, 1, 9, 9, 0, 1, 0, 1, 1}));
    const setting all = {2, 1, 0, 3, 3, 1, 64, 3, 1}; /* three units, all listed */
    bool seen[3] = {};
    for (const radar_item &item : lists(all))
        if (item.segment >= 0 && item.segment < 3) seen[item.segment] = true;
    assert_true(seen[0] && seen[1] && seen[2]);
    assert_true(sums_normals(all));
    assert_true(sums({1, 1, 0, 50, 50, 1, 0, 3, 1}, [](int, int) { return -INFINITY; }));
}

static void scores_that_are_no_numbers(void **) {
    const setting s = {2, 1, 0, 9000, 9000, 1, 0, 3, 1};
    for (int bad : {0, 77, 4095, 4096, 8999}) {
        assert_true(
            sums(s, [&](int row, int i) { return row && i == bad ? NAN : (float)(i % 7); }));
        assert_true(sums(s, [&](int, int i) { return i == bad ? -INFINITY : (float)(i % 7); }));
    }
    /* a chunk of nothing else */
    assert_true(sums(s, [](int row, int i) { return i < 4096 ? (row ? NAN : -INFINITY) : 1.0f; }));
    assert_true(sums(s, [](int, int) { return NAN; }));
    /* one beyond all others, and sums that leave f32's range but for the maximum */
    assert_true(sums(s, [](int, int i) { return i == 5000 ? 3e38f : -3e38f; }));
    assert_true(sums(s, [](int, int) { return 200.0f; }));
}

static void every_barrier_is_needed(void **) {
    const auto run = [] { return sums_normals({2, 1, 3, 4000, 4096, 1, 600, 7, 20}); };
    assert_true(right_always(run, 4));
    assert_true(idle_barriers(run, 12).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_right),
        cmocka_unit_test(lists_that_need_no_items),
        cmocka_unit_test(many_chunks),
        cmocka_unit_test(nothing_missed),
        cmocka_unit_test(scores_that_are_no_numbers),
        cmocka_unit_test(every_barrier_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
