/* Packets and subtrees with one rank, and the layout of packets with several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "parallel/exchange.h"
#include "runtime/sys.h"

static int open_comm(void **state) {
    return radar_comm_self((radar_comm **)state, NULL) == RADAR_OK ? 0 : -1;
}

static int close_comm(void **state) {
    radar_comm_close(*state);
    return radar_alloc_live() == 0 ? 0 : -1;
}

static void one_rank_writes_into_the_full_matrix(void **state) {
    radar_comm *c = *state;
    radar_layout l = {8, 256, 1};
    float q[3 * 20], k[3 * 5];
    radar_piece piece[] = {{20, 4, q, 20}, {4, 1, k, 5}};
    size_t stride = 0;
    assert_int_equal(radar_packet_bytes(&l, piece, 2, 3), 0);
    assert_ptr_equal(radar_packet_slot(&l, 0, NULL, piece, 2, 0, 3, &stride), q);
    assert_int_equal(stride, 20);
    assert_ptr_equal(radar_packet_slot(&l, 0, NULL, piece, 2, 1, 3, &stride), k);
    assert_int_equal(stride, 5);
    radar_header mine = {12, RADAR_ERR_MEMORY, 6}, worst = {0};
    assert_int_equal(
        radar_exchange_rows(c, &l, RADAR_X1_QKV, NULL, piece, 2, 3, &mine, &worst, NULL), RADAR_OK);
    assert_memory_equal(&worst, &mine, sizeof mine);
    assert_int_equal(c->stats[RADAR_X1_QKV].calls, 1);
    assert_int_equal(c->stats[RADAR_X1_QKV].bytes, 0);
}

/* The slots of all ranks, headers included, are apart, aligned and inside the buffer; and not much of it is unused. */
static void slots_of_all_ranks_are_apart_and_aligned(void **state) {
    (void)state;
    radar_piece piece[] = {
        {576, 64, NULL, 576}, {192, 64, NULL, 192}, {7, 1, NULL, 7}, {0, 1, NULL, 0}};
    for (int p = 2; p <= 8; p++)
        for (int m = 1; m <= 9; m += 4) {
            radar_layout l = {8, 256, p};
            size_t bytes = radar_packet_bytes(&l, piece, 4, m), slots = 0;
            char *packet = radar_alloc(bytes);
            char *after = packet;
            for (int r = 0; r < p; r++) {
                after += sizeof(radar_header);
                for (int i = 0; i < 4; i++) {
                    size_t stride;
                    int64_t begin, end;
                    char *slot = (char *)radar_packet_slot(&l, r, packet, piece, 4, i, m, &stride);
                    radar_rank_slice(&l, r, piece[i].total, piece[i].block, &begin, &end);
                    assert_int_equal(stride, end - begin);
                    assert_int_equal((slot - packet) % 64, 0);
                    assert_true(slot >= after);
                    after = slot + (size_t)m * stride * sizeof(float);
                    slots += (size_t)m * stride * sizeof(float);
                }
            }
            assert_int_equal(slots, (size_t)m * (576 + 192 + 7) * sizeof(float));
            assert_true(after <= packet + bytes);
            assert_true(bytes <= slots + (size_t)p * 5 * 64);
            radar_free(packet);
        }
}

static void fewer_rows_fit_where_more_do(void **state) {
    (void)state;
    radar_layout l = {64, 256, 5};
    radar_piece piece[] = {{100, 3, NULL, 100}};
    size_t before = 0;
    for (int m = 1; m < 50; m++) {
        size_t bytes = radar_packet_bytes(&l, piece, 1, m);
        assert_true(bytes >= before);
        before = bytes;
    }
}

static void sizes_that_overflow_are_told(void **state) {
    (void)state;
    radar_layout l = {8, 256, 2};
    radar_piece one[] = {{INT64_MAX, 1, NULL, 0}};
    radar_piece two[] = {{INT64_MAX / 4, 1, NULL, 0}, {INT64_MAX / 2, 1, NULL, 0}};
    assert_true(radar_packet_bytes(&l, one, 1, 1) == SIZE_MAX);
    assert_true(radar_packet_bytes(&l, one, 1, 512) == SIZE_MAX);
    assert_true(radar_packet_bytes(&l, two, 2, 1) == SIZE_MAX);
}

typedef struct sums {
    float *buffer;
    size_t floats;
    int merges;
} sums;

static void add_two(sums *s, int a, int b) {
    for (size_t i = 0; i < s->floats; i++)
        s->buffer[(size_t)a * s->floats + i] += s->buffer[(size_t)b * s->floats + i];
    s->merges++;
}

static void add(void *user, int first, int count, int apart) {
    for (int half = 1; half < count; half *= 2)
        for (int i = 0; i < count; i += 2 * half)
            add_two(user, first + i * apart, first + (i + half) * apart);
}

static void one_rank_has_nothing_left_to_merge(void **state) {
    radar_comm *c = *state;
    radar_layout l = {8, 256, 1};
    float buffer[8 * 3];
    for (int i = 0; i < 24; i++) buffer[i] = (float)i;
    sums s = {buffer, 3, 0};
    radar_tree_of_rank(&l, 0, add, &s);
    assert_int_equal(s.merges, 7);
    assert_int_equal(radar_exchange_subtrees(c, &l, RADAR_X5_DOWN, buffer, 3, add, &s, NULL),
                     RADAR_OK);
    assert_int_equal(s.merges, 7);
    assert_true(buffer[0] == 84 && buffer[1] == 92 && buffer[2] == 100);
    assert_int_equal(c->stats[RADAR_X5_DOWN].calls, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_rank_writes_into_the_full_matrix, open_comm,
                                        close_comm),
        cmocka_unit_test(slots_of_all_ranks_are_apart_and_aligned),
        cmocka_unit_test(fewer_rows_fit_where_more_do),
        cmocka_unit_test(sizes_that_overflow_are_told),
        cmocka_unit_test_setup_teardown(one_rank_has_nothing_left_to_merge, open_comm, close_comm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
