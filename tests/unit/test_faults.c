/* Memory that runs out anywhere gives one status and one line, and nothing is leaked: the n-th allocation fails, for n = 1, 2, 3 ...
 * until everything passes untouched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/radar.h"
#include "runtime/sys.h"

static void *(*real_alloc)(size_t);
static long countdown; /* the call that fails; 0 = none */

static void *failing_alloc(size_t bytes) {
    if (countdown > 0 && --countdown == 0) return NULL;
    return real_alloc(bytes);
}

static void look_away(void *user, const radar_observation *o) { (void)user, (void)o; }

/* Opens, prefills, decodes while somebody watches, under two scorers, reads the cache; returns the first failure and its text. */
static radar_status whole_life(const char *model, char *text, size_t bytes) {
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
    radar_engine_options engine = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_session_options session = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_engine *e = NULL;
    radar_session *s = NULL;
    int32_t token;
    float key[4 * 64];
    engine.model = model, engine.threads = 1, engine.chunk = 64;
    session.context = 256;
    radar_status st = radar_engine_open(&e, MPI_COMM_NULL, &engine, text, bytes);
    if (st != RADAR_OK) {
        assert_null(e);
        return st;
    }
    st = radar_session_open(&s, e, &session);
    if (st == RADAR_OK) st = radar_prefill(s, ids, 8);
    if (st == RADAR_OK) st = radar_session_observe(s, look_away, NULL, 1);
    for (int i = 0; i < 3 && st == RADAR_OK; i++) st = radar_step(s, &token);
    session.scorer = "rf", session.rf_features = 1024;
    if (st == RADAR_OK) st = radar_session_reconfigure(s, &session);
    if (st == RADAR_OK) st = radar_step(s, &token);
    if (st == RADAR_OK) st = radar_session_read(s, 0, 0, 3, 4, key, NULL);
    if (st != RADAR_OK) snprintf(text, bytes, "%s", radar_last_error(e));
    radar_session_close(s);
    radar_engine_close(e);
    return st;
}

static void check_model(const char *model, long at_least) {
    long n = 1;
    real_alloc = radar_sys_table.alloc;
    radar_sys_table.alloc = failing_alloc;
    for (;; n++) {
        char text[512] = "";
        countdown = n;
        radar_status st = whole_life(model, text, sizeof text);
        bool reached = countdown == 0;
        countdown = 0;
        assert_int_equal(radar_alloc_live(), 0);
        if (!reached) {
            assert_int_equal(st, RADAR_OK);
            break;
        }
        if (st != RADAR_ERR_MEMORY || !strstr(text, "memory"))
            fail_msg("allocation %ld: status %s, text '%s'", n, radar_strerror(st), text);
    }
    radar_sys_table.alloc = real_alloc;
    print_message("    %s: %ld allocations failed in turn\n", model, n - 1);
    assert_true(n - 1 >= at_least);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    check_model("tests/golden/tiny/llama-bias-mha-f16", 60);
    check_model("tests/golden/tiny/llama-sharded-bf16", 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
