/* The best of each list, against the keys of kernels/topk.h and its selection. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"
#include "tests/simt/select_fixture.h"

#include "kernels/cuda/topk.cu"

struct setting {
    radar_layout layout;
    int rank;
    std::vector<test_row> rows;
    int heads, tasks, room;
    int64_t scores; /* at least so many of a row and head */
    score_kind kind;
};

/* A call, and what it has to give. */
struct call {
    rank_rows told;
    std::vector<int64_t> first;
    std::vector<float> score;
    std::vector<uint64_t> key, want;
    std::vector<char> scratch;
    radar_cuda_topk_job job = {};
};

/* Scores of row and head, and the keys of each of its lists. */
static void fill_list(call &c, const setting &s, int row, int head) {
    const radar_cuda_shards &own = c.told.shards;
    const int32_t unit = s.rows[(size_t)row].unit, keep = c.told.row[(size_t)row].take;
    const int64_t at = ((int64_t)row * s.heads + head) * c.job.scores;
    for (int task = 0; task < s.tasks; task++) {
        std::vector<uint64_t> all, best;
        for (int i = task * own.n / s.tasks; i < (task + 1) * own.n / s.tasks; i++) {
            const radar_cuda_part &p = c.told.part[(size_t)(row * own.n + i)];
            for (int32_t u = p.begin / unit; u < p.end / unit; u++) {
                const uint32_t number = number_of(s.layout, own.first + i, u, unit);
                const float x = score_of(s.kind, (uint64_t)(row * s.heads + head), number);
                c.score[(size_t)(at + c.first[(size_t)i] + u - p.begin / unit)] = x;
                all.push_back(radar_topk_key(x, number));
            }
        }
        best = all;
        best.resize((size_t)radar_topk_select(best.data(), (int)best.size(), keep));
        std::sort(best.begin(), best.end());
        size_t n = 0;
        for (uint64_t key : all)
            if (key && std::binary_search(best.begin(), best.end(), key))
                c.want.push_back(key), n++;
        assert_int_equal(n, best.size());
        c.want.resize(c.want.size() + (size_t)s.room - n);
    }
}

static call make_call(const setting &s) {
    call c;
    c.told = rows_of(s.layout, s.rank, s.rows);
    const int n = c.told.shards.n;
    for (int i = 0; i < n; i++) { /* with room to spare, and none for a vector's alignment */
        int64_t most = 0;
        for (size_t row = 0; row < s.rows.size(); row++) {
            const radar_cuda_part &p = c.told.part[row * (size_t)n + (size_t)i];
            most = std::max<int64_t>(most, (p.end - p.begin) / s.rows[row].unit);
        }
        c.first.push_back(c.job.scores + 1);
        c.job.scores += most + 3;
    }
    c.job.scores = std::max(c.job.scores, s.scores);
    const size_t lists = s.rows.size() * (size_t)s.heads;
    c.score.assign(lists * (size_t)c.job.scores, INFINITY);
    for (int row = 0; row < (int)s.rows.size(); row++)
        for (int head = 0; head < s.heads; head++) fill_list(c, s, row, head);
    c.key.resize(c.want.size());
    c.scratch.resize(radar_cuda_topk_scratch((int64_t)lists * s.tasks, c.job.scores));
    c.job.score = c.score.data();
    c.job.first = c.first.data();
    c.job.row = c.told.row.data();
    c.job.part = c.told.part.data();
    c.job.key = c.key.data();
    c.job.scratch = c.scratch.data();
    c.job.rows = (int)s.rows.size();
    c.job.heads = s.heads;
    c.job.tasks = s.tasks;
    c.job.room = s.room;
    c.job.shards = c.told.shards;
    return c;
}

static bool right(call &c) {
    std::fill(c.key.begin(), c.key.end(), 0x5555555555555555u);
    assert_int_equal(radar_cuda_topk(&c.job, nullptr), 0);
    return c.key == c.want;
}

/* More than once, because the scratch is used again. */
static void check(const setting &s, int schedules) {
    call c = make_call(s);
    assert_true(right_always([&] { return right(c); }, schedules));
}

/* ---- short lists ---- */

static const radar_layout FOUR = {8, 64, 4}; /* two shards each */

static void short_lists_take_the_best(void **) {
    for (int kind = 0; kind < SCORE_KINDS; kind++)
        check({FOUR, 1, {{4, 1400, 1410, 1, kind % 2 ? 33 : 100}}, 1, 1, 100, 0, (score_kind)kind},
              2);
    check({FOUR, 1, {{4, 1400, 1410, 1, 1}}, 2, 1, 1, 0, FEW}, 2);
}

static void rows_differ(void **) { /* units, budgets, lengths; one attends to everything */
    const std::vector<test_row> rows = {{4, 4, 5, 1, 8},       {4, 1000, 1003, 1, 17},
                                        {8, 1200, 1203, 4, 9}, {0, 300, 303, 1, 0},
                                        {4, 8, 11, 2, 30},     {16, 880, 901, 16, 30}};
    for (int rank = 0; rank < 2; rank++) check({{4, 256, 2}, rank, rows, 1, 1, 31, 0, FEW}, 2);
}

static void ranks_of_unequal_shards(void **) {
    for (int rank = 0; rank < 3; rank++)
        check({{8, 192, 3}, rank, {{4, 2000, 2002, 1, 40}}, 1, 1, 40, 0, NORMAL}, 2);
    check({{1, 64, 1}, 0, {{4, 500, 502, 1, 40}}, 1, 1, 40, 0, NORMAL}, 2);
    check({{64, 64, 1}, 0, {{4, 1500, 1502, 1, 40}}, 1, 1, 40, 0, FEW}, 2);
}

static void a_list_per_shard(void **) {
    const std::vector<test_row> rows = {{4, 900, 903, 1, 25}, {4, 90, 93, 1, 25}};
    check({{8, 64, 2}, 1, rows, 1, 4, 25, 0, FEW}, 2);
}

static void all_of_too_few(void **) {
    check({FOUR, 2, {{4, 200, 203, 1, 4096}}, 2, 1, 4096, 0, SPECIAL}, 2);
    check({FOUR, 2, {{4, 36, 39, 1, 1}}, 2, 1, 1, 0, NORMAL}, 2);
    call c = make_call({FOUR, 2, {}, 2, 1, 4, 0, NORMAL});
    assert_int_equal(radar_cuda_topk(&c.job, nullptr), 0);
}

/* ---- long lists ---- */

static setting long_setting(score_kind kind, int keep) {
    return {{4, 256, 2}, 1, {{4, 18000, 18010, 1, keep}}, 1, 1, keep + 3, 33000, kind};
}

static void long_lists_take_the_best(void **) {
    for (score_kind kind : {EQUAL, SPECIAL, NO_NUMBER, NEAR})
        check(long_setting(kind, 100), kind == NEAR ? 2 : 1);
    check(long_setting(NORMAL, 4096), 2);
    check(long_setting(NORMAL, 1), 2);
}

static void short_lists_in_long_rows(void **) {
    const std::vector<test_row> rows = {
        {4, 4, 5, 1, 8}, {4, 2000, 2003, 1, 17}, {0, 300, 303, 1, 0}, {8, 12000, 12003, 2, 200}};
    check({{4, 256, 2}, 0, rows, 1, 1, 200, 40000, NEAR}, 2);
    check({{4, 256, 2}, 0, {rows[1]}, 2, 2, 200, 40000, NORMAL}, 2);
}

/* How many scores the launches count, digit by digit. */
static std::vector<int> counted(score_kind kind) {
    call c = make_call(long_setting(kind, 100));
    const topk_scratch s = topk_lay_out(c.scratch.data(), 1, c.job.scores);
    std::vector<int> all;
    for (int digit = 0; digit < MANY_DIGITS; digit++) {
        LAUNCH(radar_topk_count, dim3(1, (unsigned)s.pieces), dim3(PIECE_THREADS), 0, nullptr,
               c.job, s, digit);
        all.push_back(0);
        for (int i = 0; i < RADIX_DIGITS; i++)
            all.back() += (int)s.counts[digit * RADIX_DIGITS + i];
    }
    return all;
}

static void few_that_are_left_are_counted_no_more(void **) {
    const std::vector<int> same = counted(NEAR), apart = counted(NORMAL);
    const int n = same[0];
    assert_true(n > 8000 && same[1] == n && same[2] == n && same[3] > n / 3 && same[3] < n);
    assert_true(apart[0] == n && apart[2] == 0 && apart[3] == 0);
}

/* ---- barriers ---- */

static std::vector<std::function<void()>> long_stages(call &c, const topk_scratch &s) {
    const dim3 grid((unsigned)c.job.rows, (unsigned)s.pieces);
    std::vector<std::function<void()>> stages;
    for (int digit = 0; digit < MANY_DIGITS; digit++)
        stages.push_back([=, &c] {
            LAUNCH(radar_topk_count, grid, dim3(PIECE_THREADS), 0, nullptr, c.job, s, digit);
        });
    stages.push_back(
        [=, &c] { LAUNCH(radar_topk_sift, grid, dim3(PIECE_THREADS), 0, nullptr, c.job, s); });
    stages.push_back([=, &c] {
        LAUNCH(radar_topk_finish, dim3((unsigned)c.job.rows), dim3(SHORT_THREADS), 0, nullptr,
               c.job, s);
    });
    return stages;
}

static void every_barrier_of_a_short_list_is_needed(void **) {
    call c = make_call({FOUR, 1, {{4, 3000, 3010, 1, 100}}, 1, 1, 100, 0, SPECIAL});
    assert_true(idle_barriers([&] { return run_apart([&] { return right(c); }); }, 20).empty());
}

static void every_barrier_of_a_long_list_is_needed(void **) {
    for (int only : {MANY_DIGITS - 1, MANY_DIGITS, MANY_DIGITS + 1}) {
        setting few_pieces = long_setting(NEAR, 100);
        few_pieces.scores = 0;
        call c = make_call(few_pieces);
        std::vector<uint64_t> scratch(100000);
        const topk_scratch s = topk_lay_out(scratch.data(), 1, c.job.scores);
        auto stages = long_stages(c, s);
        for (int i = 0; i < only; i++) stages[(size_t)i]();
        stages.erase(stages.begin(), stages.begin() + only);
        const std::vector<uint64_t> before = scratch;
        auto run = [&] {
            return run_apart([&] {
                std::copy(before.begin(), before.end(), scratch.begin());
                std::fill(c.key.begin(), c.key.end(), 0x5555555555555555u);
                run_stages(stages, 0);
                return c.key == c.want;
            });
        };
        assert_true(run());
        assert_true(idle_barriers(run, 20).empty());
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_lists_take_the_best),
        cmocka_unit_test(rows_differ),
        cmocka_unit_test(ranks_of_unequal_shards),
        cmocka_unit_test(a_list_per_shard),
        cmocka_unit_test(all_of_too_few),
        cmocka_unit_test(long_lists_take_the_best),
        cmocka_unit_test(short_lists_in_long_rows),
        cmocka_unit_test(few_that_are_left_are_counted_no_more),
        cmocka_unit_test(every_barrier_of_a_short_list_is_needed),
        cmocka_unit_test(every_barrier_of_a_long_list_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
