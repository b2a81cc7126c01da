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
    int heads, tasks; /* tasks of a row and head: 1 over all own shards, or as many as there are */
    int64_t most;     /* at least */
    score_kind kind;
    bool listed; /* some of the candidates, in no order */
};

/* A call, and what it has to give. */
struct call {
    std::vector<std::vector<float>> score;
    std::vector<std::vector<int32_t>> list;
    std::vector<int32_t> listed;
    std::vector<radar_cuda_topk_range> range;
    std::vector<radar_cuda_topk_task> task;
    std::vector<std::vector<uint64_t>> key, want; /* [tasks] of keep, then one that stays */
    std::vector<std::vector<int32_t>> segment;
    std::vector<int32_t> kept, want_kept;
    std::vector<char> scratch;
    radar_cuda_topk_args args = {};
};

static const uint64_t UNTOUCHED = 0x5555555555555555u;

/* Which units of [0, n) of a range are candidates. */
static std::vector<int32_t> candidates_of(bool listed, int n) {
    std::vector<int32_t> all;
    for (int i = 0; i < n; i++)
        if (!listed || i % 5) all.push_back(i);
    for (size_t i = 1; i < all.size() && listed; i++) /* the same on every machine */
        std::swap(all[i], all[radar_random(3, 1, i) % (i + 1)]);
    return all;
}

/* One range; its keys go to all. */
static void add_range(call &c, const setting &s, int row, uint64_t stream, int shard,
                      std::vector<uint64_t> &all) {
    const test_row &r = s.rows[(size_t)row];
    const int32_t begin = storage_segment(s.layout, shard, r.begin) / r.unit,
                  end = storage_segment(s.layout, shard, r.end) / r.unit;
    const auto chosen = candidates_of(s.listed, end - begin);
    std::vector<float> score((size_t)(end - begin), INFINITY);
    std::vector<int32_t> list;
    for (int32_t i : chosen) {
        const uint32_t number = number_of(s.layout, shard, begin + i, r.unit);
        score[(size_t)i] = score_of(s.kind, stream, number);
        list.push_back(begin + i);
        all.push_back(radar_topk_key(score[(size_t)i], number));
    }
    const int phase = radar_bit_reverse(shard, s.layout.shards);
    c.range.push_back({nullptr, end - begin, begin, phase, nullptr, nullptr});
    c.score.push_back(score);
    c.list.push_back(list);
    c.listed.push_back((int32_t)list.size());
}

static void add_task(call &c, const setting &s, int row, int head, int task) {
    const int first = radar_first_shard(&s.layout, s.rank),
              own = radar_first_shard(&s.layout, s.rank + 1) - first;
    const test_row &r = s.rows[(size_t)row];
    std::vector<uint64_t> all, best, want;
    for (int i = task * own / s.tasks; i < (task + 1) * own / s.tasks; i++)
        add_range(c, s, row, (uint64_t)(row * s.heads + head), first + i, all);
    best = all;
    best.resize((size_t)radar_topk_select(best.data(), (int)best.size(), r.keep));
    std::sort(best.begin(), best.end());
    for (uint64_t key : all)
        if (key && std::binary_search(best.begin(), best.end(), key)) want.push_back(key);
    assert_int_equal(want.size(), best.size());
    c.want_kept.push_back((int32_t)want.size());
    want.resize((size_t)r.keep);
    want.push_back(UNTOUCHED);
    c.want.push_back(want);
    c.task.push_back({nullptr, own / s.tasks, s.layout.stripe / 16 / r.unit, s.layout.shards,
                      r.keep, nullptr, nullptr, nullptr});
    c.args.most = std::max(c.args.most, (int64_t)all.size());
}

static call make_call(const setting &s) {
    call c;
    c.args.most = s.most;
    for (int row = 0; row < (int)s.rows.size(); row++)
        for (int head = 0; head < s.heads; head++)
            for (int task = 0; task < s.tasks; task++) add_task(c, s, row, head, task);
    c.key = c.want;
    c.kept = c.want_kept;
    for (size_t i = 0; i < c.range.size(); i++) {
        c.range[i].score = c.score[i].data();
        if (s.listed) c.range[i].list = c.list[i].data(), c.range[i].n_listed = &c.listed[i];
    }
    size_t range = 0;
    for (size_t i = 0; i < c.task.size(); i++) {
        c.segment.emplace_back(c.want[i].size());
        c.task[i].range = c.range.data() + range;
        c.task[i].key = c.key[i].data();
        c.task[i].segment = c.segment[i].data();
        c.task[i].n_kept = &c.kept[i];
        range += (size_t)c.task[i].n_ranges;
    }
    c.args.task = c.task.data();
    c.args.n_tasks = (int)c.task.size();
    c.scratch.resize(radar_cuda_topk_scratch(c.args.n_tasks, c.args.most));
    c.args.scratch = c.scratch.data();
    return c;
}

static void forget(call &c) {
    for (auto &key : c.key) std::fill(key.begin(), key.end(), UNTOUCHED);
    for (auto &segment : c.segment) std::fill(segment.begin(), segment.end(), -1);
    std::fill(c.kept.begin(), c.kept.end(), -1);
}

static bool as_wanted(const call &c) {
    if (c.key != c.want || c.kept != c.want_kept) return false;
    for (size_t i = 0; i < c.task.size(); i++)
        for (size_t j = 0; j < c.segment[i].size(); j++) {
            const bool kept = (int32_t)j < c.kept[i];
            if (c.segment[i][j] != (kept ? (int32_t)radar_topk_segment(c.key[i][j]) : -1))
                return false;
        }
    return std::count(c.scratch.begin(), c.scratch.end(), 0) == (long)c.scratch.size();
}

static bool right(call &c) {
    forget(c);
    assert_int_equal(radar_cuda_topk(&c.args, nullptr), 0);
    return as_wanted(c);
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
        check({FOUR,
               1,
               {{4, 1400, 1410, 1, kind % 2 ? 33 : 100}},
               1,
               1,
               0,
               (score_kind)kind,
               kind % 3 == 0},
              2);
    check({FOUR, 1, {{4, 1400, 1410, 1, 1}}, 2, 1, 0, FEW, false}, 2);
}

static void rows_differ(void **) { /* units, budgets, lengths; one wants nothing */
    const std::vector<test_row> rows = {{4, 4, 5, 1, 8},       {4, 1000, 1003, 1, 17},
                                        {8, 1200, 1203, 4, 9}, {0, 300, 303, 1, 0},
                                        {4, 8, 11, 2, 30},     {16, 880, 901, 16, 30}};
    for (int rank = 0; rank < 2; rank++)
        for (bool listed : {false, true}) check({{4, 256, 2}, rank, rows, 1, 1, 0, FEW, listed}, 1);
}

static void ranks_of_unequal_shards(void **) {
    for (int rank = 0; rank < 3; rank++)
        check({{8, 192, 3}, rank, {{4, 2000, 2002, 1, 40}}, 1, 1, 0, NORMAL, false}, 2);
    check({{1, 64, 1}, 0, {{4, 500, 502, 1, 40}}, 1, 1, 0, NORMAL, false}, 2);
    for (bool listed : {false, true})
        check({{64, 64, 1}, 0, {{4, 1500, 1502, 1, 40}}, 1, 1, 0, FEW, listed}, 2);
}

static void a_list_per_shard(void **) {
    const std::vector<test_row> rows = {{4, 900, 903, 1, 25}, {4, 90, 93, 1, 25}};
    check({{8, 64, 2}, 1, rows, 1, 4, 0, FEW, false}, 2);
}

static void all_of_too_few(void **) {
    check({FOUR, 2, {{4, 200, 203, 1, 4096}}, 2, 1, 0, SPECIAL, true}, 2);
    check({FOUR, 2, {{4, 36, 39, 1, 1}}, 2, 1, 0, NORMAL, false}, 2);
    call c = make_call({FOUR, 2, {}, 2, 1, 0, NORMAL, false});
    assert_int_equal(radar_cuda_topk(&c.args, nullptr), 0);
}

static void outputs_that_nobody_wants(void **) {
    for (int64_t most : {0, 33000}) {
        call c = make_call({FOUR, 1, {{4, 1400, 1410, 1, 33}}, 1, 1, most, NORMAL, false});
        const radar_cuda_topk_task all = c.task[0];
        assert_true(right(c));
        const auto segment = c.segment;
        forget(c);
        c.task[0].key = nullptr, c.task[0].n_kept = nullptr;
        assert_int_equal(radar_cuda_topk(&c.args, nullptr), 0);
        assert_true(c.segment == segment && c.key[0][0] == UNTOUCHED && c.kept[0] == -1);
        c.task[0] = all, c.task[0].segment = nullptr;
        forget(c);
        assert_int_equal(radar_cuda_topk(&c.args, nullptr), 0);
        assert_true(c.key == c.want && c.kept == c.want_kept && c.segment[0][0] == -1);
    }
}

/* ---- long lists ---- */

static setting long_setting(score_kind kind, int keep) {
    return {{4, 256, 2}, 1, {{4, 18000, 18010, 1, keep}}, 1, 1, 33000, kind, false};
}

static void long_lists_take_the_best(void **) {
    for (score_kind kind : {EQUAL, SPECIAL, NO_NUMBER, NEAR})
        check(long_setting(kind, 100), kind == NEAR ? 2 : 1);
    check(long_setting(NORMAL, 4096), 2);
    check(long_setting(NORMAL, 1), 2);
    setting listed = long_setting(EQUAL, 1000);
    listed.listed = true;
    check(listed, 2);
}

static void short_lists_in_long_rows(void **) {
    const std::vector<test_row> rows = {
        {4, 4, 5, 1, 8}, {4, 2000, 2003, 1, 17}, {0, 300, 303, 1, 0}, {8, 12000, 12003, 2, 200}};
    check({{4, 256, 2}, 0, rows, 1, 1, 40000, NEAR, false}, 2);
    check({{4, 256, 2}, 0, {rows[1]}, 2, 2, 40000, NORMAL, true}, 2);
}

static std::vector<std::function<void()>> long_stages(call &c, const topk_scratch &s) {
    const dim3 lists((unsigned)c.task.size()), grid(lists.x, (unsigned)s.pieces);
    std::vector<std::function<void()>> stages;
    for (int digit = 0; digit < MANY_DIGITS; digit++)
        stages.push_back([=, &c] {
            LAUNCH(radar_topk_count, grid, dim3(PIECE_THREADS), 0, nullptr, c.task.data(), s,
                   digit);
        });
    stages.push_back([=, &c] {
        LAUNCH(radar_topk_sift, grid, dim3(PIECE_THREADS), 0, nullptr, c.task.data(), s);
    });
    stages.push_back([=, &c] {
        LAUNCH(radar_topk_finish, lists, dim3(SHORT_THREADS), 0, nullptr, c.task.data(), s);
    });
    return stages;
}

/* Keys of the first list that are left to the last step. */
static int left_of(const topk_scratch &s) {
    int left = 0;
    for (int i = 0; i < s.pieces; i++) left += s.found[i];
    return left;
}

/* How many scores the launches count, digit by digit, and how many are left to the last. */
static std::vector<int> counted(score_kind kind) {
    call c = make_call(long_setting(kind, 100));
    const topk_scratch s = topk_lay_out(c.scratch.data(), 1, c.args.most);
    const auto stages = long_stages(c, s);
    std::vector<int> all;
    for (int digit = 0; digit < MANY_DIGITS; digit++) {
        stages[(size_t)digit]();
        all.push_back(0);
        for (int i = 0; i < RADIX_DIGITS; i++)
            all.back() += (int)s.counts[digit * RADIX_DIGITS + i];
    }
    stages[MANY_DIGITS]();
    all.push_back(left_of(s));
    return all;
}

static void few_that_are_left_are_counted_no_more(void **) {
    const std::vector<int> same = counted(NEAR), apart = counted(NORMAL);
    const int n = same[0];
    assert_true(n > 8000 && same[1] == n && same[2] == n && same[3] > n / 3 && same[3] < n);
    assert_true(apart[0] == n && apart[2] == 0 && apart[3] == 0);
}

static void pieces_of_equal_scores_leave_their_best(void **) {
    const std::vector<int> equal = counted(EQUAL);
    assert_true(equal[3] > 8000 && equal[4] == (equal[3] + PIECE - 1) / PIECE * 100);
}

/* ---- barriers ---- */

static void every_barrier_of_a_short_list_is_needed(void **) {
    call c = make_call({FOUR, 1, {{4, 3000, 3010, 1, 100}}, 1, 1, 0, SPECIAL, false});
    assert_true(idle_barriers([&] { return run_apart([&] { return right(c); }); }, 20).empty());
}

static void every_barrier_of_a_long_list_is_needed(void **) {
    for (int only : {MANY_DIGITS - 1, MANY_DIGITS, MANY_DIGITS + 1}) {
        const bool sifts = only == MANY_DIGITS; /* and more than what is few, to 100 a piece */
        setting few_pieces = long_setting(sifts ? MOSTLY_EQUAL : NEAR, 100);
        few_pieces.most = 0;
        call c = make_call(few_pieces);
        c.scratch.resize(1000000);
        const topk_scratch s = topk_lay_out(c.scratch.data(), 1, c.args.most);
        auto stages = long_stages(c, s);
        for (int i = 0; i < only; i++) stages[(size_t)i]();
        stages.erase(stages.begin(), stages.begin() + only);
        int left = s.pieces * 100;
        if (sifts) stages.insert(stages.end() - 1, [&] { left = left_of(s); });
        const std::vector<char> before = c.scratch;
        auto run = [&] {
            return run_apart([&] {
                std::copy(before.begin(), before.end(), c.scratch.begin());
                forget(c);
                run_stages(stages, 0);
                return as_wanted(c) && left == s.pieces * 100;
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
        cmocka_unit_test(outputs_that_nobody_wants),
        cmocka_unit_test(long_lists_take_the_best),
        cmocka_unit_test(short_lists_in_long_rows),
        cmocka_unit_test(few_that_are_left_are_counted_no_more),
        cmocka_unit_test(pieces_of_equal_scores_leave_their_best),
        cmocka_unit_test(every_barrier_of_a_short_list_is_needed),
        cmocka_unit_test(every_barrier_of_a_long_list_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
