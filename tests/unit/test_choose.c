/* From the best keys of all ranks to lists of segments: against a sort of all keys and a walk over every segment. */
#include "tests/unit/kv_fixture.h"

#include "parallel/shard.h"

enum { HEADS = 6, MOST_GROUPS = 6, MOST_SEGMENTS = 640, MOST_KEYS = 8 * 64 };

/* What jobs of a test are like. */
typedef struct shape {
    int stripe; /* segments */
    int shards, ranks, rank;
    int groups, rows_each, heads_per_list;
    int unit; /* 0: groups draw theirs */
    int room, keep;
    bool local;   /* own shards have chosen by themselves: room is cut into their parts */
    bool holding; /* some rows, and all of the second group, keep nothing */
} shape;

/* A job, and what lies behind its pointers. */
typedef struct choose_case {
    radar_choose_job job;
    radar_layout layout;
    size_t tasks;
    uint64_t *packet;
    radar_choose_row *row;
    radar_choose_part *part;
} choose_case;

static int draw(uint64_t seed, uint64_t i, int n) {
    return (int)(radar_random(seed, 3, i) % (uint64_t)n);
}

/* Candidates [begin, end) of a group in whole units, and where its rows end: segments of the context. */
static void draw_group(choose_case *c, const shape *s, int g, uint64_t seed) {
    const uint64_t at = (uint64_t)g * 8;
    int unit = s->unit ? s->unit : 1 << draw(seed, at, 3);
    int begin = unit * draw(seed, at + 1, 5), room = (MOST_SEGMENTS - begin) / unit,
        end = begin + unit * draw(seed, at + 2, room),
        stop = end + draw(seed, at + 3, MOST_SEGMENTS - end + 1);
    for (int i = 0; i < c->job.shards.n; i++) {
        const int shard = c->job.shards.first + i;
        c->part[g * c->job.shards.n + i] =
            (radar_choose_part){(int32_t)(radar_shard_tokens(&c->layout, shard, begin * 16) / 16),
                                (int32_t)(radar_shard_tokens(&c->layout, shard, end * 16) / 16),
                                (int32_t)(radar_shard_tokens(&c->layout, shard, stop * 16) / 16)};
    }
    for (int r = g * s->rows_each; r < (g + 1) * s->rows_each; r++) {
        const bool holds = s->holding && (g == 1 || draw(seed, 100 + (uint64_t)r, 3) == 0);
        c->row[r] = (radar_choose_row){holds ? 0 : s->keep, unit, g, 1 + g};
        for (int h = 0; h < HEADS && !holds && begin < end; h++) {
            bool taken[MOST_SEGMENTS] = {false};
            for (int k = 0; k < c->job.ranks * s->room; k++) {
                const int rank = k / s->room, slot = k % s->room;
                const uint64_t key = (uint64_t)((r * HEADS + h) * MOST_KEYS + k);
                const int number = begin / unit + draw(seed + 1, key, (end - begin) / unit),
                          shard = radar_shard_of(&c->layout, (int64_t)number * unit * 16),
                          wanted = c->job.shards.first + slot / (s->room / c->job.shards.n);
                if (s->local ? shard != wanted : radar_shard_owner(&c->layout, shard) != rank)
                    continue;
                if (taken[number]) continue;
                taken[number] = true;
                const int score = draw(seed + 2, key, 9) - 4; /* many are equal */
                c->packet[((rank * c->job.rows + r) * HEADS + h) * s->room + slot] =
                    radar_topk_key(score == -4 ? -INFINITY : (float)score, (uint32_t)number);
            }
        }
    }
}

static choose_case make_case(const shape *s, uint64_t seed) {
    choose_case c = {.layout = {.shards = s->shards, .stripe = s->stripe * 16, .ranks = s->ranks}};
    const int first = radar_first_shard(&c.layout, s->rank),
              n = radar_first_shard(&c.layout, s->rank + 1) - first,
              rows = s->groups * s->rows_each, ranks = s->local ? 1 : s->ranks;
    c.tasks = (size_t)(s->groups * (HEADS / s->heads_per_list) * n);
    assert_true(s->groups <= MOST_GROUPS && s->ranks * s->room <= MOST_KEYS);
    c.packet = must(radar_alloc_array((size_t)(ranks * rows * HEADS * s->room), 8));
    c.row = must(radar_alloc_array((size_t)rows, sizeof *c.row));
    c.part = must(radar_alloc_array((size_t)(s->groups * n), sizeof *c.part));
    c.job = (radar_choose_job){.packet = c.packet,
                               .row = c.row,
                               .part = c.part,
                               .ranks = ranks,
                               .rows = rows,
                               .groups = s->groups,
                               .heads = HEADS,
                               .heads_per_list = s->heads_per_list,
                               .room = s->room,
                               .words = MOST_SEGMENTS / s->shards / 32 + s->stripe / 32 + 1,
                               .shards = {s->stripe, s->shards, first, n}};
    c.job.bits = must(radar_alloc_array(c.tasks * (size_t)c.job.words, sizeof *c.job.bits));
    c.job.merged = must(radar_alloc_array((size_t)(ranks * s->room), sizeof *c.job.merged));
    c.job.item = must(radar_alloc_array(c.tasks * MOST_SEGMENTS, sizeof *c.job.item));
    c.job.begin = must(radar_alloc_array(c.tasks + 1, sizeof *c.job.begin));
    c.job.count = must(radar_alloc_array(c.tasks, sizeof *c.job.count));
    for (int g = 0; g < s->groups; g++) draw_group(&c, s, g, seed + 10 * (uint64_t)g);
    return c;
}

static void free_case(choose_case *c) {
    radar_free(c->packet), radar_free(c->row), radar_free(c->part);
    radar_free(c->job.bits), radar_free(c->job.merged), radar_free(c->job.item);
    radar_free(c->job.begin), radar_free(c->job.count);
}

/* ---- reference ---- */

static int descending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Units of the context that a row and head choose. */
static void add_chosen(const choose_case *c, bool *chosen, int row, int head) {
    const radar_choose_job *j = &c->job;
    uint64_t key[MOST_KEYS];
    int n = 0;
    for (int rank = 0; rank < j->ranks; rank++)
        for (int k = 0; k < j->room; k++)
            key[n++] = c->packet[((rank * j->rows + row) * j->heads + head) * j->room + k];
    qsort(key, (size_t)n, sizeof *key, descending);
    for (int k = 0; k < n && k < c->row[row].keep && key[k]; k++)
        chosen[radar_topk_segment(key[k])] = true;
}

/* Items of a list in own shard i; returns how many. */
static int list_ref(const choose_case *c, radar_item *item, int group, int list, int i) {
    const radar_choose_job *j = &c->job;
    const radar_choose_part *p = &c->part[group * j->shards.n + i];
    bool chosen[MOST_SEGMENTS] = {false}, keeps = false;
    int n = 0, unit = 1;
    for (int row = 0; row < j->rows; row++) {
        if (c->row[row].group != group) continue;
        unit = c->row[row].unit;
        keeps = keeps || c->row[row].keep > 0;
        for (int h = 0; h < j->heads_per_list; h++)
            add_chosen(c, chosen, row, list * j->heads_per_list + h);
    }
    for (int32_t at = 0; keeps && at < p->stop; at++) {
        int64_t segment = radar_position_of(&c->layout, j->shards.first + i, at * 16) / 16;
        if (at < p->begin || at >= p->end || chosen[segment / unit])
            item[n++] = (radar_item){at, 0xffff};
    }
    return n;
}

/* Twice over the same bits, which are zero afterwards; returns the items of all lists. */
static int64_t check_case(const choose_case *c, bool counted) {
    static radar_item want[MOST_SEGMENTS];
    radar_cpu cpu = cpu_with(NULL, 2);
    radar_choose_job job = c->job;
    const radar_choose_job *j = &job;
    int64_t next = 0, listed, weighted;
    job.listed = counted ? &listed : NULL;
    for (int twice = 0; twice < 2; twice++) {
        memset(j->merged, 0xa5, (size_t)(j->ranks * j->room) * sizeof *j->merged);
        memset(j->item, 0xa5, c->tasks * MOST_SEGMENTS * sizeof *j->item);
        next = weighted = 0;
        listed = 1000;
        radar_cpu_choose(&cpu.base, j);
        for (size_t task = 0; task < c->tasks; task++) {
            const int lists = j->heads / j->heads_per_list, i = (int)task % j->shards.n,
                      list = (int)task / j->shards.n % lists,
                      group = (int)task / j->shards.n / lists,
                      n = list_ref(c, want, group, list, i);
            assert_int_equal(j->count[task], n);
            assert_int_equal(j->begin[task], next);
            assert_memory_equal(j->item + next, want, (size_t)n * sizeof *want);
            next += n;
            weighted += n * (1 + group);
        }
        assert_int_equal(j->begin[c->tasks], next);
        for (size_t w = 0; w < c->tasks * (size_t)j->words; w++) assert_int_equal(j->bits[w], 0);
        assert_int_equal(listed, counted ? 1000 + weighted : 1000);
    }
    return next;
}

static int64_t check(const shape *s) {
    int64_t items = 0;
    for (uint64_t seed = 0; seed < 12; seed++) {
        choose_case c = make_case(s, 1000 * seed);
        items += check_case(&c, true);
        free_case(&c);
    }
    return items;
}

/* ---- tests ---- */

/* As in decode: a group is a row. */
static void a_row_lists_the_best_of_all_ranks(void **state) {
    (void)state;
    for (int ranks = 1; ranks <= 8; ranks += ranks > 2 ? 5 : 1)
        for (int per_list = 1; per_list <= 3; per_list += 2)
            for (int rank = 0; rank < ranks; rank += 1 + ranks / 2)
                assert_true(check(&(shape){.stripe = 4,
                                           .shards = 8,
                                           .ranks = ranks,
                                           .rank = rank,
                                           .groups = 3,
                                           .rows_each = 1,
                                           .heads_per_list = per_list,
                                           .unit = 1,
                                           .room = 12,
                                           .keep = 9}) > 0);
}

/* As in sparse prefill. */
static void rows_of_a_group_list_the_union_of_their_choices(void **state) {
    (void)state;
    for (int rows = 2; rows <= 4; rows++)
        for (int per_list = 1; per_list <= HEADS; per_list = per_list == 3 ? HEADS : per_list + 2)
            assert_true(check(&(shape){.stripe = 16,
                                       .shards = 4,
                                       .ranks = 2,
                                       .rank = rows % 2,
                                       .groups = 4,
                                       .rows_each = rows,
                                       .heads_per_list = per_list,
                                       .unit = 1,
                                       .room = 10,
                                       .keep = 10}) > 0);
}

static void units_are_listed_segment_by_segment(void **state) {
    (void)state;
    for (int unit = 2; unit <= 16; unit *= 2)
        for (int ranks = 1; ranks <= 3; ranks += 2) /* three: shards that are no power of two */
            assert_true(check(&(shape){.stripe = 16,
                                       .shards = 4,
                                       .ranks = ranks,
                                       .rank = ranks - 1,
                                       .groups = 3,
                                       .rows_each = 2,
                                       .heads_per_list = 3,
                                       .unit = unit,
                                       .room = 5,
                                       .keep = 4}) > 0);
}

static void groups_have_units_of_their_own(void **state) {
    (void)state;
    assert_true(check(&(shape){.stripe = 8,
                               .shards = 2,
                               .ranks = 2,
                               .rank = 1,
                               .groups = 6,
                               .rows_each = 2,
                               .heads_per_list = 3,
                               .room = 16,
                               .keep = 7}) > 0);
}

/* A row that keeps nothing adds nothing to its group; a group of them has no items. */
static void rows_that_keep_nothing_list_nothing(void **state) {
    (void)state;
    for (int rows = 1; rows <= 3; rows++) {
        shape s = {.stripe = 4,
                   .shards = 4,
                   .ranks = 1,
                   .groups = 4,
                   .rows_each = rows,
                   .heads_per_list = 3,
                   .unit = 1,
                   .room = 8,
                   .keep = 8,
                   .holding = true};
        choose_case c = make_case(&s, 5);
        assert_true(check_case(&c, true) > 0);
        for (size_t task = c.tasks / 4; task < c.tasks / 2; task++)
            assert_int_equal(c.job.count[task], 0);
        free_case(&c);
        assert_true(check(&s) > 0);
    }
}

/* Keys of one rank alone, with zeros between those of its shards; all of them are taken. */
static void shards_that_chose_by_themselves_list_all_of_it(void **state) {
    (void)state;
    for (int ranks = 1; ranks <= 2; ranks++)
        assert_true(check(&(shape){.stripe = 4,
                                   .shards = 8,
                                   .ranks = ranks,
                                   .rank = ranks - 1,
                                   .groups = 3,
                                   .rows_each = 2,
                                   .heads_per_list = 1,
                                   .unit = 2,
                                   .room = 40,
                                   .keep = 40,
                                   .local = true}) > 0);
}

static void nobody_need_count(void **state) {
    (void)state;
    const shape s = {.stripe = 4,
                     .shards = 1,
                     .ranks = 1,
                     .groups = 2,
                     .rows_each = 1,
                     .heads_per_list = 3,
                     .unit = 4,
                     .room = 3,
                     .keep = 3};
    choose_case c = make_case(&s, 9);
    check_case(&c, false);
    free_case(&c);
}

/* Two ranks offer scores that are equal: the lower units win, whoever has them. */
static void equal_scores_take_the_lower_unit_of_any_rank(void **state) {
    (void)state;
    const shape s = {.stripe = 4,
                     .shards = 2,
                     .ranks = 2,
                     .groups = 1,
                     .rows_each = 1,
                     .heads_per_list = HEADS,
                     .unit = 1,
                     .room = 4,
                     .keep = 4};
    static const uint32_t unit[2][4] = {{40, 2, 8, 1}, {5, 4, 46, 7}};
    choose_case c = make_case(&s, 0);
    radar_cpu cpu = cpu_with(NULL, 1);
    c.part[0] = (radar_choose_part){0, 32, 32};
    for (int rank = 0; rank < 2; rank++)
        for (int h = 0; h < HEADS; h++)
            for (int k = 0; k < 4; k++)
                c.packet[(rank * HEADS + h) * 4 + k] = radar_topk_key(0.5f, unit[rank][k]);
    radar_cpu_choose(&cpu.base, &c.job);
    assert_int_equal(c.job.count[0], 2); /* of 1, 2, 4 and 5, the last two are the other rank's */
    assert_int_equal(c.job.item[0].segment, 1);
    assert_int_equal(c.job.item[1].segment, 2);
    free_case(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_lists_the_best_of_all_ranks),
        cmocka_unit_test(rows_of_a_group_list_the_union_of_their_choices),
        cmocka_unit_test(units_are_listed_segment_by_segment),
        cmocka_unit_test(groups_have_units_of_their_own),
        cmocka_unit_test(rows_that_keep_nothing_list_nothing),
        cmocka_unit_test(shards_that_chose_by_themselves_list_all_of_it),
        cmocka_unit_test(nobody_need_count),
        cmocka_unit_test(equal_scores_take_the_lower_unit_of_any_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
