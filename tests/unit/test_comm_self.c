/* One rank without MPI: nothing moves, everything is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "parallel/agree.h"
#include "runtime/sys.h"

static int open_comm(void **state) {
    return radar_comm_self((radar_comm **)state, NULL) == RADAR_OK ? 0 : -1;
}

static int close_comm(void **state) {
    radar_comm_close(*state);
    return radar_alloc_live() == 0 ? 0 : -1;
}

static void is_rank_0_of_1(void **state) {
    const radar_comm *c = *state;
    assert_int_equal(c->rank, 0);
    assert_int_equal(c->size, 1);
    assert_string_equal(c->ops->name, "self");
}

static void a_gather_leaves_the_buffer_alone(void **state) {
    radar_comm *c = *state;
    unsigned char buffer[16], before[16];
    size_t bytes = 8, offset = 4;
    for (int i = 0; i < 16; i++) buffer[i] = before[i] = (unsigned char)(i * 17);
    assert_int_equal(radar_gather(c, RADAR_X2_TOPK, buffer, &bytes, &offset, NULL), RADAR_OK);
    assert_int_equal(radar_broadcast(c, buffer, 16, 0, NULL), RADAR_OK);
    assert_memory_equal(buffer, before, 16);
}

static void exchanges_are_counted_by_name(void **state) {
    radar_comm *c = *state;
    size_t bytes = 8, offset = 0;
    double data = 0;
    for (int x = 0; x < RADAR_X_COUNT; x++)
        for (int i = 0; i <= x; i++)
            assert_int_equal(radar_gather(c, (radar_exchange)x, &data, &bytes, &offset, NULL),
                             RADAR_OK);
    for (int x = 0; x < RADAR_X_COUNT; x++) {
        assert_int_equal(c->stats[x].calls, x + 1);
        assert_int_equal(c->stats[x].bytes, 0);
        assert_true(c->stats[x].seconds >= 0);
    }
}

static void exchanges_have_different_names(void **state) {
    (void)state;
    for (int x = 0; x < RADAR_X_COUNT; x++)
        for (int y = 0; y < x; y++)
            assert_string_not_equal(radar_exchange_name((radar_exchange)x),
                                    radar_exchange_name((radar_exchange)y));
}

static void agreement_keeps_the_own_error(void **state) {
    radar_comm *c = *state;
    radar_error err = {0};
    assert_int_equal(radar_agree(c, &err), RADAR_OK);
    radar_fail(&err, RADAR_ERR_DATA, "model.gguf: cut short; fetch it again");
    assert_int_equal(radar_agree(c, &err), RADAR_ERR_DATA);
    assert_int_equal(err.status, RADAR_ERR_DATA);
    assert_string_equal(err.text, "model.gguf: cut short; fetch it again");
    assert_int_equal(radar_agree_same(c, "options", 42, NULL), RADAR_OK);
}

static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

static void without_memory_nothing_opens(void **state) {
    (void)state;
    radar_sys before = radar_sys_table;
    radar_comm *c = (radar_comm *)&before;
    radar_error err = {0};
    radar_sys_table.alloc = no_memory;
    radar_status st = radar_comm_self(&c, &err);
    radar_sys_table = before;
    assert_int_equal(st, RADAR_ERR_MEMORY);
    assert_null(c);
    assert_true(err.text[0] != '\0');
    radar_comm_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_rank_0_of_1, open_comm, close_comm),
        cmocka_unit_test_setup_teardown(a_gather_leaves_the_buffer_alone, open_comm, close_comm),
        cmocka_unit_test_setup_teardown(exchanges_are_counted_by_name, open_comm, close_comm),
        cmocka_unit_test(exchanges_have_different_names),
        cmocka_unit_test_setup_teardown(agreement_keeps_the_own_error, open_comm, close_comm),
        cmocka_unit_test(without_memory_nothing_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
