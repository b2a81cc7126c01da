/* Items of the own shards, against the rules of kernels/choose.h written out plainly. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <set>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"
#include "tests/simt/select_fixture.h"

#include "kernels/cuda/choose.cu"

struct setting {
    radar_layout layout;
    std::vector<test_row> rows;
    int heads, heads_per_list, room;
    score_kind kind;
    bool local;             /* each shard by itself: rank 0 of one */
    std::vector<int> group; /* of the rows; empty: each is its own */
};

static int group_of(const setting &s, int row) {
    return s.group.empty() ? row : s.group[(size_t)row];
}
static int groups_of(const setting &s) {
    return s.rows.empty() ? 0 : group_of(s, (int)s.rows.size() - 1) + 1;
}
static int first_row(const setting &s, int group) {
    int row = 0;
    while (group_of(s, row) < group) row++;
    return row;
}
static bool keeps(const setting &s, int group) {
    bool any = false;
    for (int row = 0; row < (int)s.rows.size(); row++)
        any |= group_of(s, row) == group && s.rows[(size_t)row].keep > 0;
    return any;
}

/* Some count nothing, and many items of a heavy group pass 32 bits. */
static int32_t weight_of(int group) { return group % 3 == 0 ? 1 : group % 3 == 1 ? 0 : 1 << 29; }

/* What a rank has found: the best of each row and head, then zeros. */
static std::vector<uint64_t> best_of_rank(const setting &s, int rank, int row, int head) {
    const test_row &r = s.rows[(size_t)row];
    std::vector<uint64_t> all;
    const int end = radar_first_shard(&s.layout, rank + 1);
    for (int shard = radar_first_shard(&s.layout, rank); shard < end; shard++) {
        const int32_t first = storage_segment(s.layout, shard, r.begin),
                      stop = storage_segment(s.layout, shard, r.end);
        std::vector<uint64_t> own;
        for (int32_t u = first / r.unit; u < stop / r.unit; u++) {
            const uint32_t number = number_of(s.layout, shard, u, r.unit);
            own.push_back(
                radar_topk_key(score_of(s.kind, (uint64_t)(row * s.heads + head), number), number));
        }
        if (s.local) own.resize((size_t)radar_topk_select(own.data(), (int)own.size(), r.keep));
        if (s.local) own.resize((size_t)s.room);
        all.insert(all.end(), own.begin(), own.end());
    }
    if (s.local) return all;
    all.resize((size_t)radar_topk_select(all.data(), (int)all.size(), r.keep));
    all.resize((size_t)s.room);
    return all;
}

/* [ranks, rows, heads, room] */
static std::vector<uint64_t> packet_of(const setting &s) {
    std::vector<uint64_t> packet;
    for (int rank = 0; rank < s.layout.ranks; rank++)
        for (int row = 0; row < (int)s.rows.size(); row++)
            for (int head = 0; head < s.heads; head++) {
                const auto best = best_of_rank(s, rank, row, head);
                packet.insert(packet.end(), best.begin(), best.end());
            }
    return packet;
}

/* To a list's numbers: what a row's heads chose. */
static void add_chosen(std::set<uint32_t> &chosen, const setting &s,
                       const std::vector<uint64_t> &packet, int row, int list) {
    const size_t heads = s.rows.size() * (size_t)s.heads,
                 room = packet.size() / heads / (size_t)s.layout.ranks;
    const int32_t keep = s.rows[(size_t)row].keep;
    for (int h = 0; h < s.heads_per_list && keep; h++) {
        const size_t head = (size_t)(row * s.heads + list * s.heads_per_list + h);
        std::vector<uint64_t> all;
        for (size_t at = head * room; at < packet.size(); at += heads * room)
            all.insert(all.end(), packet.begin() + (long)at, packet.begin() + (long)(at + room));
        std::sort(all.begin(), all.end(), std::greater<uint64_t>());
        for (size_t i = 0; i < all.size() && all[i]; i++)
            if (s.local || i < (size_t)keep) chosen.insert(radar_topk_segment(all[i]));
    }
}

static std::vector<int32_t> segments_of(const setting &s, int group,
                                        const std::set<uint32_t> &chosen, int shard) {
    const test_row &r = s.rows[(size_t)first_row(s, group)];
    std::vector<int32_t> items;
    auto range = [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; i++) items.push_back((int32_t)i);
    };
    if (!keeps(s, group)) return items;
    range(0, storage_segment(s.layout, shard, r.begin));
    for (uint32_t number : chosen) { /* ascends: so do its places */
        const int64_t position = (int64_t)number * r.unit * 16;
        if (radar_shard_of(&s.layout, position) != shard) continue;
        const int64_t segment = radar_slot_of(&s.layout, position) / 16;
        range(segment, segment + r.unit);
    }
    range(storage_segment(s.layout, shard, r.end), storage_segment(s.layout, shard, r.stop));
    return items;
}

#define LISTED 5 /* by calls before */

/* A call of one rank, and what it has to give, task by task. */
struct call {
    std::vector<radar_choose_row> row;
    std::vector<radar_choose_part> part;
    std::vector<uint64_t> packet;
    std::vector<uint32_t> bits;
    std::vector<int32_t> count;
    std::vector<int64_t> begin;
    std::vector<radar_item> item;
    std::vector<std::vector<int32_t>> want;
    size_t items = 0;
    int64_t listed = 0, want_listed = 0;
    radar_choose_job job = {};
};

static void want_items(call &c, const setting &s) {
    for (int group = 0; group < groups_of(s); group++)
        for (int list = 0; list < s.heads / s.heads_per_list; list++) {
            std::set<uint32_t> chosen;
            for (int row = 0; row < (int)s.rows.size(); row++)
                if (group_of(s, row) == group) add_chosen(chosen, s, c.packet, row, list);
            for (int i = 0; i < c.job.shards.n; i++) {
                c.want.push_back(segments_of(s, group, chosen, c.job.shards.first + i));
                c.items += c.want.back().size();
                c.want_listed += (int64_t)c.want.back().size() * weight_of(group);
            }
        }
}

static void tell_rows(call &c, const setting &s, int rank) {
    const radar_layout &l = s.layout;
    const int first = radar_first_shard(&l, rank), end = radar_first_shard(&l, rank + 1);
    c.job.shards = {l.stripe / 16, l.shards, first, end - first};
    for (int i = 0; i < (int)s.rows.size(); i++) {
        const test_row &r = s.rows[(size_t)i];
        c.row.push_back({s.local && r.keep ? INT32_MAX : r.keep, r.unit, group_of(s, i),
                         weight_of(group_of(s, i))});
    }
    for (int group = 0; group < groups_of(s); group++)
        for (int shard = first; shard < end; shard++) {
            const test_row &r = s.rows[(size_t)first_row(s, group)];
            c.part.push_back({storage_segment(l, shard, r.begin), storage_segment(l, shard, r.end),
                              storage_segment(l, shard, r.stop)});
        }
}

static call make_call(const setting &s, const std::vector<uint64_t> &packet, int rank) {
    call c;
    tell_rows(c, s, rank);
    c.packet = packet;
    want_items(c, s);
    int32_t most = 0;
    for (const radar_choose_part &p : c.part) most = std::max(most, p.stop);
    c.count.resize(c.want.size());
    c.begin.resize(c.want.size() + 1);
    c.item.resize(c.items);
    c.job.words = (most + 31) / 32;
    c.bits.resize(c.want.size() * (size_t)c.job.words);
    c.job.packet = c.packet.data();
    c.job.row = c.row.data();
    c.job.part = c.part.data();
    c.job.bits = c.bits.data();
    c.job.count = c.count.data();
    c.job.begin = c.begin.data();
    c.job.item = c.item.data();
    c.job.ranks = s.layout.ranks;
    c.job.rows = (int)s.rows.size();
    c.job.groups = groups_of(s);
    c.job.heads = s.heads;
    c.job.heads_per_list = s.heads_per_list;
    c.job.room = s.local ? s.room * c.job.shards.n : s.room;
    return c;
}

static void forget(call &c) {
    std::fill(c.item.begin(), c.item.end(), radar_item{-1, 1});
    std::fill(c.count.begin(), c.count.end(), -1);
    std::fill(c.begin.begin(), c.begin.end(), -1);
    c.listed = LISTED;
    c.job.listed = &c.listed;
}

/* Tasks follow each other without a gap. */
static bool as_wanted(const call &c) {
    int64_t at = 0;
    for (size_t task = 0; task < c.want.size(); task++) {
        const std::vector<int32_t> &want = c.want[task];
        if (c.begin[task] != at || c.count[task] != (int32_t)want.size()) return false;
        for (size_t i = 0; i < want.size(); i++) {
            const radar_item &item = c.item[(size_t)at + i];
            if (item.segment != want[i] || item.tokens != 0xffff) return false;
        }
        at += (int64_t)want.size();
    }
    for (uint32_t word : c.bits)
        if (word) return false;
    if (c.listed != LISTED + c.want_listed) return false;
    return c.begin.back() == at;
}

static void check_rank(const setting &s, const std::vector<uint64_t> &packet, int rank) {
    call c = make_call(s, packet, rank);
    assert_true(right_always(
        [&] {
            forget(c);
            assert_int_equal(radar_cuda_choose(&c.job, nullptr), 0);
            return as_wanted(c);
        },
        2));
}

static void check(const setting &s) {
    const std::vector<uint64_t> packet = packet_of(s);
    for (int rank = 0; rank < s.layout.ranks; rank++) check_rank(s, packet, rank);
}

/* ---- what is chosen ---- */

static void the_heads_of_a_kv_head_share(void **) {
    const std::vector<test_row> row = {{4, 600, 607, 1, 40}};
    for (int ranks = 1; ranks <= 4; ranks++)
        check({{8, 64, ranks}, row, 2, ranks == 4 ? 1 : 2, 40, NORMAL, false, {}});
    check({{4, 192, 2}, row, 3, 3, 41, SPECIAL, false, {}});
    check({{1, 64, 1}, row, 1, 1, 40, NORMAL, false, {}});
}

static void each_head_by_itself(void **) {
    check({{4, 64, 2}, {{4, 600, 607, 1, 30}}, 3, 1, 30, NORMAL, false, {}});
}

static void equal_scores_and_no_numbers(void **) {
    for (score_kind kind : {EQUAL, FEW, NO_NUMBER, NEAR})
        check({{4, 64, 2}, {{4, 500, 507, 1, 21}}, 2, 2, 25, kind, false, {}});
}

static void rows_differ(void **) { /* units, budgets, no candidates; two choose nothing */
    const std::vector<test_row> rows = {{0, 100, 107, 1, 0},    {4, 600, 607, 1, 33},
                                        {8, 1600, 1607, 4, 20}, {16, 880, 901, 16, 30},
                                        {4, 4, 9, 1, 5},        {0, 70, 77, 1, 0}};
    for (int ranks : {1, 3}) check({{4, 256, ranks}, rows, 4, 2, 33, NORMAL, false, {}});
}

static void more_wanted_than_there_is(void **) {
    check({{4, 64, 4}, {{4, 90, 93, 1, 300}}, 2, 2, 300, SPECIAL, false, {}});
    check({{4, 64, 1}, {{0, 64, 66, 1, 4096}}, 1, 1, 4096, NORMAL, false, {}});
}

static void shards_choose_by_themselves(void **) {
    check({{8, 64, 1}, {{4, 600, 607, 1, 9}, {0, 50, 57, 1, 0}}, 2, 2, 9, FEW, true, {}});
}

static void rows_of_a_group_share(void **) { /* each chooses; some nothing, some groups nothing */
    std::vector<test_row> rows;
    for (int keep : {9, 0, 30, 0, 0, 0, 17, 0}) rows.push_back({8, 600, 607, 2, keep});
    for (const std::vector<int> &group : {std::vector<int>{0, 0, 0, 1, 1, 2, 2, 3},
                                          {0, 0, 0, 0, 0, 0, 0, 0},
                                          {0, 1, 1, 1, 1, 1, 1, 2}})
        check({{4, 128, 2}, rows, 4, 2, 30, NORMAL, false, group});
}

static void more_tasks_than_threads(void **) {
    std::vector<test_row> rows;
    for (int i = 0; i < 9; i++) rows.push_back({4, 300 + 20 * i, 307 + 20 * i, 1, i % 4});
    const setting s = {{64, 64, 1}, rows, 4, 1, 3, NORMAL, false, {}};
    call c = make_call(s, packet_of(s), 0);
    assert_true(c.want.size() > 2 * BEGIN_THREADS);
    forget(c);
    assert_int_equal(radar_cuda_choose(&c.job, nullptr), 0);
    assert_true(as_wanted(c));
}

static void nobody_wants_to_know(void **) {
    const setting s = {{4, 64, 2}, {{4, 90, 93, 1, 7}}, 2, 2, 7, NORMAL, false, {}};
    call c = make_call(s, packet_of(s), 1);
    forget(c);
    c.job.listed = nullptr;
    assert_int_equal(radar_cuda_choose(&c.job, nullptr), 0);
    c.want_listed = 0;
    assert_true(as_wanted(c));
}

static void no_rows(void **) {
    const setting s = {{4, 64, 1}, {{0, 4, 5, 1, 0}}, 1, 1, 1, NORMAL, false, {}};
    call c = make_call(s, packet_of(s), 0);
    c.job.rows = c.job.groups = 0;
    assert_int_equal(radar_cuda_choose(&c.job, nullptr), 0);
}

/* ---- barriers ---- */

/* So many units that a warp has several times 32 words of them. */
static void every_barrier_is_needed(void **) {
    const setting s = {{2, 65536, 2},
                       {{4, 60, 66, 1, 5}, {4, 34000, 34006, 1, 250}},
                       2,
                       2,
                       250,
                       NORMAL,
                       false,
                       {}};
    call c = make_call(s, packet_of(s), 0);
    const std::vector<std::function<void()>> stages = {
        [&] { LAUNCH(radar_choose_mark, dim3(4), dim3(MARK_THREADS), 0, nullptr, c.job); },
        [&] { LAUNCH(radar_choose_count, dim3(1), dim3(COUNT_THREADS), 0, nullptr, c.job); },
        [&] { LAUNCH(radar_choose_begin, dim3(1), dim3(BEGIN_THREADS), 0, nullptr, c.job); },
        [&] { LAUNCH(radar_choose_list, dim3(2), dim3(LIST_THREADS), 0, nullptr, c.job); }};
    for (int only = 0; only < (int)stages.size(); only++) {
        auto run = [&] {
            return run_apart([&] {
                forget(c);
                run_stages(stages, only);
                return as_wanted(c);
            });
        };
        assert_true(run());
        assert_true(idle_barriers(run, 20).empty());
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heads_of_a_kv_head_share),
        cmocka_unit_test(each_head_by_itself),
        cmocka_unit_test(equal_scores_and_no_numbers),
        cmocka_unit_test(rows_differ),
        cmocka_unit_test(more_wanted_than_there_is),
        cmocka_unit_test(shards_choose_by_themselves),
        cmocka_unit_test(rows_of_a_group_share),
        cmocka_unit_test(more_tasks_than_threads),
        cmocka_unit_test(nobody_wants_to_know),
        cmocka_unit_test(no_rows),
        cmocka_unit_test(every_barrier_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
