/* The command's own arithmetic and parsing: losses, options, output that fails. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "launch/place.h"
#include "launch/args.h"
#include "launch/output.h"
#include "launch/progress.h"
#include "launch/score.h"
#include "runtime/sys.h"

enum { VOCAB = 1000 };

/* ---- losses ---- */

static void loss_is_the_log_softmax_of_the_formula(void **state) {
    (void)state;
    float logits[VOCAB];
    double sum = 0;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)(8.0 * radar_random_normal(3, 0, (uint64_t)i));
    for (int i = 0; i < VOCAB; i++) sum += exp((double)logits[i]);
    for (int i = 0; i < VOCAB; i += 37) {
        const double want = -log(exp((double)logits[i]) / sum);
        assert_true(fabs(launch_loss(logits, VOCAB, i) - want) <= 1e-6);
    }
}

/* Log-softmax in double. */
static double loss_ref(const float *logits, int vocab, int32_t token) {
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < vocab; i++) most = fmax(most, (double)logits[i]);
    for (int i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    return log(sum) + most - (double)logits[token];
}

static void losses_of_a_vocabulary_are_those_in_double(void **state) {
    (void)state;
    enum { WIDE = 49155, ROWS = 5 }; /* no multiple of the lanes */
    static float logits[ROWS * WIDE];
    static const double spread[ROWS] = {0.01, 1, 4, 30, 500};
    int32_t token[ROWS];
    double loss[ROWS], again[ROWS], worst = 0;
    unsigned char hit[ROWS];
    for (int r = 0; r < ROWS; r++) {
        float *row = logits + (size_t)r * WIDE;
        int best = 0;
        for (int i = 0; i < WIDE; i++) {
            row[i] = (float)(20 + spread[r] * radar_random_normal(5, (uint64_t)r, (uint64_t)i));
            if (row[i] > row[best]) best = i;
        }
        token[r] = r % 2 == 0 ? best : WIDE - 1;
        assert_int_not_equal(best, WIDE - 1);
    }
    launch_losses(logits, ROWS, WIDE, token, 2, loss, hit);
    launch_losses(logits, ROWS, WIDE, token, 1, again, NULL);
    assert_memory_equal(loss, again, sizeof loss); /* any number of threads */
    for (int r = 0; r < ROWS; r++) {
        worst = fmax(worst, fabs(loss[r] - loss_ref(logits + (size_t)r * WIDE, WIDE, token[r])));
        assert_int_equal(hit[r], r % 2 == 0);
    }
    print_message("    worst error %.2g nats\n", worst);
    assert_true(worst <= 1e-6);
}

static void loss_of_equal_logits_is_the_log_of_their_number(void **state) {
    (void)state;
    float logits[VOCAB];
    for (int i = 0; i < VOCAB; i++) logits[i] = -3.25f;
    assert_true(fabs(launch_loss(logits, VOCAB, 999) - log(VOCAB)) <= 1e-13);
}

static void loss_survives_huge_logits(void **state) {
    (void)state;
    const float logits[3] = {3e38f, -3e38f, 3e38f};
    assert_true(fabs(launch_loss(logits, 3, 0) - log(2)) <= 1e-13);
    assert_true(launch_loss(logits, 3, 1) > 5e38);
}

static void loss_of_nan_is_not_finite(void **state) {
    (void)state;
    const float logits[3] = {1, NAN, 2};
    assert_false(isfinite(launch_loss(logits, 3, 0)));
}

/* ---- options ---- */

#define WORDS(...) ((char *[]){"radar", __VA_ARGS__, NULL})
static radar_status parse(launch_options *opt, radar_error *err, char **argv) {
    int argc = 0;
    while (argv[argc] != NULL) argc++;
    *err = (radar_error){0};
    return launch_args_parse(opt, argc, argv, err);
}

static void options_reach_their_fields(void **state) {
    (void)state;
    launch_options o;
    radar_error err;
    char **argv = WORDS("eval", "ppl", "-m", "x.gguf", "--file=-", "--from", "7", "--dense-below",
                        "auto", "--budget", "99", "--seed", "18446744073709551615");
    assert_int_equal(parse(&o, &err, argv), RADAR_ERR_USAGE); /* eval draws nothing */
    argv[12] = NULL;
    assert_int_equal(parse(&o, &err, argv), RADAR_OK);
    assert_int_equal(o.command, LAUNCH_EVAL);
    assert_string_equal(o.model, "x.gguf");
    assert_string_equal(o.file, "-");
    assert_int_equal(o.from, 7);
    assert_int_equal(o.dense_below, LAUNCH_AUTO);
    assert_int_equal(o.budget, 99);
}

static void defaults_are_those_of_the_library_and_llama_cpp(void **state) {
    (void)state;
    launch_options o;
    radar_error err;
    const radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    const radar_engine_options e = RADAR_ENGINE_OPTIONS_DEFAULT;
    assert_int_equal(parse(&o, &err, WORDS("run", "-m", "x", "-p", "y")), RADAR_OK);
    assert_string_equal(o.attention, s.attention);
    assert_string_equal(o.scorer, s.scorer);
    assert_string_equal(o.kv_type, "f16"); /* what the library makes of it on the CPU: */
    assert_string_equal(s.kv_type, "auto");
    assert_string_equal(o.share, s.share);
    assert_string_equal(o.pick, s.pick);
    assert_string_equal(o.select, s.select);
    assert_string_equal(o.rf_form, s.rf_form);
    assert_int_equal(o.budget, s.budget);
    assert_int_equal(o.dense_below, s.dense_below);
    assert_int_equal(o.window, s.window);
    assert_int_equal(o.sinks, s.sinks);
    assert_int_equal(o.scorer_seed, s.scorer_seed);
    assert_string_equal(o.precision, e.precision);
    assert_int_equal(o.shards, e.shards);
    assert_int_equal(o.stripe, e.stripe);
    assert_int_equal(o.chunk, e.chunk);
    assert_true(o.temperature == 0.8 && o.top_k == 40 && o.top_p == 0.95 && o.min_p == 0.05);
    assert_int_equal(parse(&o, &err, WORDS("run", "-m", "x", "-p", "y", "--backend", "cuda")),
                     RADAR_OK);
    assert_string_equal(o.kv_type, "bf16");
    assert_int_equal(o.n, 128);
}

static void every_difference_shows_in_the_text_ranks_compare(void **state) {
    (void)state;
    launch_options o;
    radar_error err;
    size_t a_bytes, b_bytes;
    assert_int_equal(parse(&o, &err, WORDS("run", "-m", "x", "-p", "y")), RADAR_OK);
    char *a = launch_args_text(&o, &a_bytes);
    o.window = 257;
    char *b = launch_args_text(&o, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_true(memcmp(a, b, a_bytes) != 0);
    radar_free(b);
    o.window = 256, o.model = "another path", o.threads = 3; /* may differ */
    b = launch_args_text(&o, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a, b, a_bytes);
    radar_free(a);
    radar_free(b);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- output ---- */

static int calls, fails_at;
static long write_few(int fd, const void *data, size_t bytes) {
    (void)fd, (void)data;
    if (++calls == fails_at) return -1;
    return bytes < 1000 ? (long)bytes : 1000;
}

static void every_write_that_fails_is_told(void **state) {
    (void)state;
    static launch_output out;
    static char data[200000];
    const radar_sys saved = radar_sys_table;
    radar_sys_table.write = write_few;
    bool finished = false;
    for (fails_at = 1; !finished && fails_at < 1000; fails_at++) {
        radar_error err = {0};
        calls = 0;
        launch_output_open(&out, NULL, &err);
        for (int i = 0; i < 3; i++)
            launch_output_write(&out, data, sizeof data / (size_t)(1 + 99 * i), &err);
        launch_output_close(&out, &err);
        finished = calls < fails_at;
        assert_int_equal(err.status, finished ? RADAR_OK : RADAR_ERR_IO);
        if (finished) assert_int_equal(out.written, 200000 + 2000 + 1005);
    }
    radar_sys_table = saved;
    assert_true(finished);
    assert_int_equal(fails_at - 1, 204 + 1); /* short writes were continued, one by one */
}

static void bytes_read_like_a_person_says_them(void **state) {
    (void)state;
    char text[LAUNCH_BYTES_TEXT];
    assert_string_equal(launch_bytes(text, 0), "0 bytes");
    assert_string_equal(launch_bytes(text, 999), "999 bytes");
    assert_string_equal(launch_bytes(text, 1000), "1.0 kB");
    assert_string_equal(launch_bytes(text, 98362432), "98.4 MB");
    assert_string_equal(launch_bytes(text, 999999), "1.0 MB");
    assert_string_equal(launch_bytes(text, 2e15), "2000.0 TB");
}

static void core_lists_are_read_as_the_kernel_writes_them(void **state) {
    static const char *const bad[] = {"", "\n", "a", "3-1", "0-99999", "1,,2", "1;2", "-3"};
    cpu_set_t set;
    (void)state;
    assert_true(launch_core_list(&set, "0-3,8,10-11\n"));
    for (int core = 0; core < 16; core++)
        assert_int_equal(CPU_ISSET(core, &set) != 0,
                         core < 4 || core == 8 || core == 10 || core == 11);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(launch_core_list(&set, bad[i]));
    assert_int_equal(launch_bind_near(""), 0);
    assert_int_equal(launch_bind_near("0000:ff:1f.7"), 0); /* there is no such device */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(core_lists_are_read_as_the_kernel_writes_them),
        cmocka_unit_test(loss_is_the_log_softmax_of_the_formula),
        cmocka_unit_test(losses_of_a_vocabulary_are_those_in_double),
        cmocka_unit_test(loss_of_equal_logits_is_the_log_of_their_number),
        cmocka_unit_test(loss_survives_huge_logits),
        cmocka_unit_test(loss_of_nan_is_not_finite),
        cmocka_unit_test(options_reach_their_fields),
        cmocka_unit_test(defaults_are_those_of_the_library_and_llama_cpp),
        cmocka_unit_test(every_difference_shows_in_the_text_ranks_compare),
        cmocka_unit_test(every_write_that_fails_is_told),
        cmocka_unit_test(bytes_read_like_a_person_says_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
