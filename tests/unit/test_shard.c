/* Who owns what, against closed forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "parallel/shard.h"

enum { TOKENS = 20000 };

static radar_layout layout(int shards, int stripe, int ranks) {
    return (radar_layout){.shards = shards, .stripe = stripe, .ranks = ranks};
}

static void valid_layouts_are_powers_of_two_with_a_shard_for_every_rank(void **state) {
    (void)state;
    for (int shards = -1; shards <= 130; shards++)
        for (int ranks = -1; ranks <= 130; ranks++) {
            radar_layout l = layout(shards, 256, ranks);
            bool power = shards == 1 || shards == 2 || shards == 4 || shards == 8 || shards == 16 ||
                         shards == 32 || shards == 64;
            assert_int_equal(radar_layout_valid(&l), power && ranks >= 1 && ranks <= shards);
        }
    static const int bad[] = {-64, 0, 1, 63, 65, 100, 65537, 65600, 1 << 30};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        radar_layout l = {8, bad[i], 2};
        assert_false(radar_layout_valid(&l));
    }
    for (int stripe = 64; stripe <= 65536; stripe += 64) {
        radar_layout l = {8, stripe, 2};
        assert_true(radar_layout_valid(&l));
    }
}

static void bits_are_reversed(void **state) {
    (void)state;
    static const int of8[] = {0, 4, 2, 6, 1, 5, 3, 7};
    for (int i = 0; i < 8; i++) assert_int_equal(radar_bit_reverse(i, 8), of8[i]);
    assert_int_equal(radar_bit_reverse(0, 1), 0);
    assert_int_equal(radar_bit_reverse(1, 2), 1);
    assert_int_equal(radar_bit_reverse(1, 64), 32);
    for (int n = 1; n <= 64; n *= 2)
        for (int i = 0; i < n; i++)
            assert_int_equal(radar_bit_reverse(radar_bit_reverse(i, n), n), i);
}

static void every_position_has_one_place(void **state) {
    (void)state;
    for (int n = 1; n <= 64; n *= 2)
        for (int stripe = 64; stripe <= 1024; stripe *= 4) {
            radar_layout l = layout(n, stripe, 1);
            int64_t held[64] = {0};
            for (int64_t p = 0; p < TOKENS; p++) {
                int shard = radar_shard_of(&l, p);
                assert_in_range(shard, 0, n - 1);
                /* the slots of a shard are 0, 1, 2, ... in the order of positions */
                assert_int_equal(radar_slot_of(&l, p), held[shard]);
                held[shard]++;
                assert_int_equal(radar_position_of(&l, shard, radar_slot_of(&l, p)), p);
            }
            for (int s = 0; s < n; s++)
                assert_int_equal(radar_shard_tokens(&l, s, TOKENS), held[s]);
        }
}

static void counts_follow_the_tokens_one_by_one(void **state) {
    (void)state;
    for (int n = 1; n <= 64; n *= 4)
        for (int stripe = 64; stripe <= 1024; stripe *= 4) {
            radar_layout l = layout(n, stripe, 1);
            int64_t held[64] = {0};
            for (int64_t t = 0; t < TOKENS; t++) {
                for (int s = 0; s < n; s++) {
                    assert_int_equal(radar_shard_tokens(&l, s, t), held[s]);
                    int64_t room = radar_shard_capacity(&l, s, t);
                    assert_int_equal(room, (held[s] + stripe - 1) / stripe * stripe);
                }
                held[radar_shard_of(&l, t)]++;
            }
        }
}

static void first_stripes_go_far_apart(void **state) {
    (void)state;
    radar_layout l = {8, 256, 8};
    static const int shard[] = {0, 4, 2, 6, 1, 5, 3, 7, 0};
    for (int i = 0; i < 9; i++) {
        assert_int_equal(radar_shard_of(&l, 256 * i), shard[i]);
        assert_int_equal(radar_shard_of(&l, 256 * i + 255), shard[i]);
    }
}

static void huge_positions_do_not_overflow(void **state) {
    (void)state;
    radar_layout l = {64, 65536, 1};
    int64_t p = INT64_MAX - 7, total = 0;
    int shard = radar_shard_of(&l, p);
    assert_int_equal(radar_position_of(&l, shard, radar_slot_of(&l, p)), p);
    for (int s = 0; s < 64; s++) total += radar_shard_tokens(&l, s, INT64_MAX);
    assert_int_equal(total, INT64_MAX);
    assert_int_equal(radar_shard_capacity(&l, 0, INT64_MAX), INT64_MAX / 64 + 1);
}

static void owners_are_the_ranks_whose_range_holds_the_shard(void **state) {
    (void)state;
    for (int n = 1; n <= 64; n *= 2)
        for (int p = 1; p <= n; p++) {
            radar_layout l = layout(n, 256, p);
            assert_int_equal(radar_first_shard(&l, 0), 0);
            assert_int_equal(radar_first_shard(&l, p), n);
            for (int r = 0; r < p; r++) {
                assert_true(radar_first_shard(&l, r) < radar_first_shard(&l, r + 1));
                for (int s = radar_first_shard(&l, r); s < radar_first_shard(&l, r + 1); s++)
                    assert_int_equal(radar_shard_owner(&l, s), r);
            }
        }
}

/* In units of 1/N stripes: how much a rank holds beyond ceil(N/P)/N of `count` stripes. */
static int64_t excess(const radar_layout *l, int rank, int64_t count) {
    int64_t held = 0, shards = (l->shards + l->ranks - 1) / l->ranks;
    for (int s = radar_first_shard(l, rank); s < radar_first_shard(l, rank + 1); s++)
        held += radar_shard_capacity(l, s, count * l->stripe) / l->stripe;
    return held * l->shards - shards * count;
}

static void a_rank_holds_its_share_and_a_stripe(void **state) {
    (void)state;
    for (int n = 1; n <= 64; n *= 2)
        for (int p = 1; p <= n; p++) {
            radar_layout l = layout(n, 256, p);
            bool dyadic = (p & (p - 1)) == 0;
            int64_t worst = 0;
            for (int r = 0; r < p; r++)
                for (int64_t count = 0; count <= 3 * n; count++)
                    if (excess(&l, r, count) > worst) worst = excess(&l, r, count);
            assert_true(worst <= n * (dyadic || n <= 8 ? 1 : 2));
        }
}

static void slices_tile_the_range_in_whole_blocks(void **state) {
    (void)state;
    static const int64_t totals[] = {0, 1, 31, 32, 33, 576, 1536, 49152, 151936, 1LL << 40};
    static const int64_t blocks[] = {1, 32, 256, 7};
    for (int n = 1; n <= 64; n *= 2)
        for (size_t t = 0; t < sizeof totals / sizeof *totals; t++)
            for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
                int64_t at = 0, total = totals[t], block = blocks[b];
                int64_t share = (total + block - 1) / block / n;
                for (int i = 0; i < n; i++) {
                    int64_t begin, end;
                    radar_slice(total, block, n, i, &begin, &end);
                    assert_int_equal(begin, at);
                    assert_true(begin <= end && end <= total);
                    assert_true(begin % block == 0 || begin == total);
                    assert_true(end - begin <= (share + 1) * block);
                    at = end;
                }
                assert_int_equal(at, total);
            }
}

static void a_rank_has_the_slices_of_its_shards(void **state) {
    (void)state;
    for (int n = 1; n <= 64; n *= 2)
        for (int p = 1; p <= n; p++) {
            radar_layout l = layout(n, 256, p);
            for (int r = 0; r < p; r++) {
                int64_t begin, end, first, last, ignored;
                radar_rank_slice(&l, r, 1000, 32, &begin, &end);
                radar_slice(1000, 32, n, radar_first_shard(&l, r), &first, &ignored);
                radar_slice(1000, 32, n, radar_first_shard(&l, r + 1) - 1, &ignored, &last);
                assert_int_equal(begin, first);
                assert_int_equal(end, last);
            }
        }
}

static void subtrees_tile_the_shards_in_aligned_powers_of_two(void **state) {
    (void)state;
    for (int n = 1; n <= 64; n *= 2)
        for (int p = 1; p <= n; p++) {
            radar_layout l = layout(n, 256, p);
            int at = 0;
            for (int r = 0; r < p; r++) {
                radar_subtree tree[RADAR_MAX_SUBTREES];
                int count = radar_subtrees(&l, r, tree);
                assert_in_range(count, 1, RADAR_MAX_SUBTREES);
                if ((p & (p - 1)) == 0) assert_int_equal(count, 1);
                assert_int_equal(tree[0].first, radar_first_shard(&l, r));
                for (int i = 0; i < count; i++) {
                    assert_int_equal(tree[i].first, at);
                    assert_int_equal(tree[i].count & (tree[i].count - 1), 0);
                    assert_int_equal(tree[i].first % tree[i].count, 0);
                    at += tree[i].count;
                }
                assert_int_equal(at, radar_first_shard(&l, r + 1));
            }
            assert_int_equal(at, n);
        }
}

/* ---- the tree, written down ---- */

enum { TEXT = 512 };
typedef struct words {
    char piece[64][TEXT];
    int merges, calls;
} words;

static void start(words *w, int n) {
    for (int i = 0; i < n; i++) snprintf(w->piece[i], TEXT, "%d", i);
    w->merges = w->calls = 0;
}

static void join_two(words *w, int a, int b) {
    char text[2 * TEXT + 8];
    assert_true(a < b);
    snprintf(text, sizeof text, "(%s,%s)", w->piece[a], w->piece[b]);
    assert_true(strlen(text) < TEXT);
    strcpy(w->piece[a], text);
    strcpy(w->piece[b], "used"); /* a piece merged twice would show */
    w->merges++;
}

static void join(void *user, int first, int count, int apart) {
    assert_true(count >= 2 && (count & (count - 1)) == 0);
    ((words *)user)->calls++;
    for (int half = 1; half < count; half *= 2)
        for (int i = 0; i < count; i += 2 * half)
            join_two(user, first + i * apart, first + (i + half) * apart);
}

static void the_tree_is_balanced_in_order(void **state) {
    (void)state;
    static words w;
    start(&w, 8);
    radar_tree(0, 8, join, &w);
    assert_string_equal(w.piece[0], "(((0,1),(2,3)),((4,5),(6,7)))");
    start(&w, 8);
    radar_tree(4, 2, join, &w);
    assert_string_equal(w.piece[4], "(4,5)");
    start(&w, 8);
    radar_tree(5, 1, join, &w);
    assert_int_equal(w.merges, 0);
    assert_int_equal(w.calls, 0);
}

static void any_number_of_ranks_makes_the_same_tree(void **state) {
    (void)state;
    static words want, got;
    for (int n = 1; n <= 64; n *= 2) {
        start(&want, n);
        radar_tree(0, n, join, &want);
        for (int p = 1; p <= n; p++) {
            radar_layout l = layout(n, 256, p);
            start(&got, n);
            for (int r = 0; r < p; r++) {
                int calls = got.calls;
                radar_tree_of_rank(&l, r, join, &got);
                if ((p & (p - 1)) == 0) assert_int_equal(got.calls - calls, p < n);
            }
            int calls = got.calls;
            radar_tree_above_ranks(&l, join, &got);
            if ((p & (p - 1)) == 0) assert_int_equal(got.calls - calls, p > 1);
            assert_string_equal(got.piece[0], want.piece[0]);
            assert_int_equal(got.merges, n - 1);
        }
    }
}

static void results_of_ranks_stand_where_their_subtrees_begin(void **state) {
    (void)state;
    static words w;
    radar_layout l = {8, 256, 3}; /* shards [0,2) [2,5) [5,8) */
    start(&w, 8);
    for (int r = 0; r < 3; r++) radar_tree_of_rank(&l, r, join, &w);
    assert_string_equal(w.piece[0], "(0,1)");
    assert_string_equal(w.piece[2], "(2,3)");
    assert_string_equal(w.piece[4], "4");
    assert_string_equal(w.piece[5], "5");
    assert_string_equal(w.piece[6], "(6,7)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_layouts_are_powers_of_two_with_a_shard_for_every_rank),
        cmocka_unit_test(bits_are_reversed),
        cmocka_unit_test(every_position_has_one_place),
        cmocka_unit_test(counts_follow_the_tokens_one_by_one),
        cmocka_unit_test(first_stripes_go_far_apart),
        cmocka_unit_test(huge_positions_do_not_overflow),
        cmocka_unit_test(owners_are_the_ranks_whose_range_holds_the_shard),
        cmocka_unit_test(a_rank_holds_its_share_and_a_stripe),
        cmocka_unit_test(slices_tile_the_range_in_whole_blocks),
        cmocka_unit_test(a_rank_has_the_slices_of_its_shards),
        cmocka_unit_test(subtrees_tile_the_shards_in_aligned_powers_of_two),
        cmocka_unit_test(the_tree_is_balanced_in_order),
        cmocka_unit_test(any_number_of_ranks_makes_the_same_tree),
        cmocka_unit_test(results_of_ranks_stand_where_their_subtrees_begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
