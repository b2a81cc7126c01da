/* Ranks of one process, a thread each, of host and of device memory. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "parallel/agree.h"
#include "runtime/sys.h"
#include "tests/unit/device_cases.h"

enum { MOST = 8 };

typedef struct rank {
    radar_comm *c;
    lazy_device *d;
    int (*body)(radar_comm *c, lazy_device *d); /* how much was wrong */
    int wrong;
} rank;

static void *run_rank(void *data) {
    rank *r = data;
    r->wrong = r->body(r->c, r->d);
    radar_comm_close(r->c);
    return NULL;
}

/* body on n threads; each closes its own carrier when it is done. */
static void on_ranks(int n, bool device, int (*body)(radar_comm *, lazy_device *)) {
    pthread_t thread[MOST];
    rank r[MOST];
    radar_comm *c[MOST];
    const radar_device *devices[MOST] = {NULL};
    for (int i = 0; i < n; i++) {
        r[i] = (rank){.d = lazy_open(), .body = body};
        devices[i] = &r[i].d->device;
    }
    assert_int_equal(radar_comm_local(c, n, device ? devices : NULL, NULL), RADAR_OK);
    for (int i = 0; i < n; i++) {
        r[i].c = c[i];
        assert_int_equal(pthread_create(&thread[i], NULL, run_rank, &r[i]), 0);
    }
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < n; i++) {
        assert_int_equal(r[i].wrong, 0);
        lazy_close(r[i].d);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

static int host_gathers(radar_comm *c, lazy_device *d) {
    int wrong = 0;
    (void)d;
    EXPECT(c->device == NULL && c->base == NULL && strcmp(c->ops->name, "local") == 0);
    for (int round = 0; round < 50; round++) {
        int data[MOST * 3 + 1] = {0};
        size_t bytes[MOST], offset[MOST];
        for (int r = 0; r < c->size; r++) {
            bytes[r] = (size_t)((r + round) % 3) * sizeof(int);
            offset[r] = (size_t)r * 3 * sizeof(int);
        }
        for (size_t i = 0; i < bytes[c->rank] / sizeof(int); i++)
            data[c->rank * 3 + (int)i] = 100 * round + c->rank;
        EXPECT(radar_gather(c, RADAR_X1_QKV, data, bytes, offset, NULL) == RADAR_OK);
        for (int r = 0; r < c->size; r++)
            for (int i = 0; i < 3; i++)
                EXPECT(data[r * 3 + i] == (i < (r + round) % 3 ? 100 * round + r : 0));
        int64_t word = c->rank, root = round % c->size;
        EXPECT(radar_broadcast(c, &word, sizeof word, (int)root, NULL) == RADAR_OK);
        EXPECT(word == root);
    }
    return wrong;
}

static int host_agreements(radar_comm *c, lazy_device *d) {
    int wrong = 0;
    (void)d;
    for (int bad = 0; bad < c->size; bad++) {
        radar_error err = {0};
        EXPECT(radar_agree(c, &err) == RADAR_OK);
        if (c->rank >= bad) radar_fail(&err, RADAR_ERR_DATA, "number %d", c->rank);
        EXPECT(radar_agree(c, &err) == RADAR_ERR_DATA);
        EXPECT(strstr(err.text, "number ") && atoi(strstr(err.text, "number ") + 7) == bad);
        EXPECT(radar_agree_same(c, "options", 4, NULL) == RADAR_OK);
    }
    return wrong;
}

static void host_memory_is_gathered(void **state) {
    (void)state;
    for (int n = 1; n <= MOST; n++) on_ranks(n, false, host_gathers);
}

static void local_ranks_agree(void **state) {
    (void)state;
    for (int n = 1; n <= MOST; n++) on_ranks(n, false, host_agreements);
}

static void device_memory_is_exchanged(void **state) {
    (void)state;
    for (int n = 1; n <= MOST; n++) on_ranks(n, true, device_cases);
}

/* ---- ranks that leave ---- */

static radar_status gather_words(radar_comm *c, int *word, radar_error *err) {
    size_t bytes[MOST], offset[MOST];
    for (int r = 0; r < c->size; r++) {
        bytes[r] = sizeof(int);
        offset[r] = (size_t)r * sizeof(int);
    }
    return radar_gather(c, RADAR_X4_OUTPUT, word, bytes, offset, err);
}

static int rank_1_closes_early(radar_comm *c, lazy_device *d) {
    int wrong = 0, word[MOST] = {0};
    (void)d;
    EXPECT(gather_words(c, word, NULL) == RADAR_OK);
    if (c->rank == 1) return wrong;
    if (c->rank == 2) usleep(20000); /* comes when it is over */
    for (int i = 0; i < 2; i++) {
        radar_error err = {0};
        EXPECT(gather_words(c, word, &err) == RADAR_ERR_PEER);
        EXPECT(strstr(err.text, "X4 output: rank 1 of this process has left"));
    }
    radar_status worst = RADAR_OK;
    int who;
    EXPECT(radar_worst(c, &worst, &who, NULL) == RADAR_ERR_PEER);
    EXPECT(radar_broadcast(c, &who, sizeof who, 0, NULL) == RADAR_ERR_PEER);
    return wrong;
}

static void who_waits_for_a_rank_that_left_is_told(void **state) {
    (void)state;
    on_ranks(3, false, rank_1_closes_early);
}

/* Rank 0's device fails when its piece is read, rank 1 is told; neither waits for ever. */
static int rank_0_fails(radar_comm *c, lazy_device *d) {
    int wrong = 0;
    radar_error err = {0};
    int *word = radar_comm_alloc(c, MOST * sizeof *word);
    EXPECT(gather_words(c, word, NULL) == RADAR_OK);
    EXPECT(lazy_flush(d, NULL) == RADAR_OK);
    EXPECT(c->stats[RADAR_X4_OUTPUT].seconds > 0);
    d->copies_left = c->rank == 0;
    EXPECT(gather_words(c, word, NULL) == RADAR_OK);
    EXPECT(lazy_flush(d, &err) == RADAR_ERR_PEER);
    EXPECT(strstr(err.text, c->rank
                                ? "exchange X4 output: rank 0 of this process has left"
                                : "exchange X4 output: copy from the device failed (error 719)"));
    radar_comm_release(c, word);
    return wrong;
}

static int the_last_fails_to_write(radar_comm *c, lazy_device *d) {
    int wrong = 0;
    radar_error err = {0};
    int *word = radar_comm_alloc(c, MOST * sizeof *word);
    bool last = c->rank == c->size - 1;
    d->copies_left = last ? 2 : 0;
    EXPECT(gather_words(c, word, NULL) == RADAR_OK);
    EXPECT(lazy_flush(d, &err) == (last ? RADAR_ERR_PEER : RADAR_OK));
    EXPECT(!last || strstr(err.text, "copy to the device failed"));
    EXPECT(gather_words(c, word, NULL) == RADAR_OK);
    EXPECT(lazy_flush(d, NULL) == RADAR_ERR_PEER);
    radar_comm_release(c, word);
    return wrong;
}

static void a_device_that_fails_keeps_nobody_waiting(void **state) {
    (void)state;
    on_ranks(2, true, rank_0_fails);
    on_ranks(3, true, the_last_fails_to_write);
}

/* ---- opening ---- */

static int allocations_left;
static void *(*real_alloc)(size_t);
static void *few(size_t bytes) { return allocations_left-- > 0 ? real_alloc(bytes) : NULL; }

static void all_ranks_open_or_none(void **state) {
    (void)state;
    radar_comm *c[MOST];
    lazy_device *d = lazy_open();
    const radar_device *devices[] = {&d->device, &d->device};
    for (int device = 0; device < 2; device++) {
        int needed = device ? 5 : 3;
        for (int n = 0; n <= needed; n++) {
            radar_error err = {0};
            real_alloc = radar_sys_table.alloc;
            allocations_left = n;
            radar_sys_table.alloc = few;
            radar_status st = radar_comm_local(c, 2, device ? devices : NULL, &err);
            radar_sys_table.alloc = real_alloc;
            assert_int_equal(st, n < needed ? RADAR_ERR_MEMORY : RADAR_OK);
            assert_true(n == needed || (!c[0] && !c[1] && strstr(err.text, "2 ranks")));
            for (int r = 0; r < 2; r++) radar_comm_close(c[r]);
            assert_int_equal(radar_alloc_live(), 0);
        }
    }
    lazy_close(d);
}

static void impossible_numbers_of_ranks_are_refused(void **state) {
    (void)state;
    radar_comm *c[1];
    assert_int_equal(radar_comm_local(c, 0, NULL, NULL), RADAR_ERR_CONFIG);
    radar_comm **many = calloc(RADAR_MAX_RANKS + 1, sizeof *many);
    assert_int_equal(radar_comm_local(many, RADAR_MAX_RANKS + 1, NULL, NULL), RADAR_ERR_CONFIG);
    free(many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_memory_is_gathered),
        cmocka_unit_test(local_ranks_agree),
        cmocka_unit_test(device_memory_is_exchanged),
        cmocka_unit_test(who_waits_for_a_rank_that_left_is_told),
        cmocka_unit_test(a_device_that_fails_keeps_nobody_waiting),
        cmocka_unit_test(all_ranks_open_or_none),
        cmocka_unit_test(impossible_numbers_of_ranks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
