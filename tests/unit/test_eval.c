/* Sweeps and figures of radar eval: lists, their product, what an attention does not use, n-grams, words of the tasks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "launch/eval/eval.h"
#include "launch/eval/ngram.h"
#include "launch/eval/ruler.h"
#include "launch/profile.h"
#include "runtime/sys.h"

/* ---- lists ---- */

/* "eval ppl -m x -p y" and more words, divided by spaces; the line is cut up and options point into it. */
static radar_status parse(launch_options *opt, radar_error *err, char line[256], const char *more) {
    char *argv[64];
    int argc = 0;
    snprintf(line, 256, "radar eval ppl -m x -p y %s", more);
    for (char *word = strtok(line, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    *err = (radar_error){0};
    return launch_args_parse(opt, argc, argv, err);
}

static void lists_give_the_product_in_table_order(void **state) {
    (void)state;
    launch_options base, one;
    radar_error err;
    char line[256];
    assert_int_equal(
        parse(&base, &err, line, "--budget 128,256,auto --scorer sketch,exact --window 64"),
        RADAR_OK);
    assert_int_equal(eval_settings(&base), 6);
    static const char *const scorer[] = {"sketch", "sketch", "sketch", "exact", "exact", "exact"};
    static const int64_t budget[] = {128, 256, LAUNCH_AUTO, 128, 256, LAUNCH_AUTO};
    for (int i = 0; i < 6; i++) {
        assert_true(eval_setting(&one, &base, i));
        assert_string_equal(one.scorer, scorer[i]);
        assert_int_equal(one.budget, budget[i]);
        assert_int_equal(one.window, 64);
        assert_int_equal(eval_settings(&one), 1);
    }
    assert_false(eval_setting(&one, &base, 6));
}

static void every_element_of_a_list_is_checked(void **state) {
    (void)state;
    static const struct {
        const char *words, *named;
    } wrong[] = {{"--budget 128,x", "'x'"}, {"--budget 128,,256", "''"},
                 {"--budget ,128", "''"},   {"--scorer sketch,best", "'best'"},
                 {"--window 64,0", "'0'"},  {"--batch 1,2", "'1,2'"},
                 {"--from 3,4", "'3,4'"},   {"--kv-type f16,", "''"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        launch_options o;
        radar_error err;
        char line[256];
        assert_int_equal(parse(&o, &err, line, wrong[i].words), RADAR_ERR_USAGE);
        assert_non_null(strstr(err.text, wrong[i].named));
    }
}

static void elsewhere_a_comma_is_an_error(void **state) {
    (void)state;
    launch_options o;
    radar_error err = {0};
    char budget[] = "128,256";
    char *argv[] = {"radar", "run", "-m", "x", "-p", "y", "--budget", budget, NULL};
    assert_int_equal(launch_args_parse(&o, 8, argv, &err), RADAR_ERR_USAGE);
    assert_non_null(strstr(err.text, "'128,256'"));
}

static int different(const char *words) {
    launch_options base, one;
    radar_error err;
    char line[256];
    uint64_t seen[64];
    int n = 0;
    assert_int_equal(parse(&base, &err, line, words), RADAR_OK);
    for (int64_t i = 0; eval_setting(&one, &base, i); i++) {
        const uint64_t hash = eval_setting_hash(&one);
        bool fresh = true;
        for (int k = 0; k < n; k++) fresh = fresh && seen[k] != hash;
        if (fresh) seen[n++] = hash;
    }
    return n;
}

static void settings_that_come_to_the_same_run_once(void **state) {
    (void)state;
    assert_int_equal(different("--attention dense --budget 128,256 --scorer sketch,rf"), 1);
    assert_int_equal(different("--attention dense,radar --budget 128,256"), 3);
    assert_int_equal(different("--attention streaming --window 64,128 --budget 128,256"), 2);
    assert_int_equal(different("--scorer sketch,exact --sketch-bits 1,2,4"), 4);
    assert_int_equal(different("--scorer mean,rf,exact --rf-form plain,pair"), 4);
    assert_int_equal(different("--scorer exact --pick top,random --scorer-seed 1,2"), 3);
    assert_int_equal(different("--scorer exact,exact"), 1);
    assert_int_equal(different("--kv-type f16,f32 --attention dense"), 2);
    /* where rows go to, and on how many threads, is no setting; the batch is (its times differ) */
    assert_int_equal(different("--attention dense --length 100,200"), 2);
}

/* ---- presets ---- */

static void a_preset_holds_where_nothing_is_typed(void **state) {
    (void)state;
    launch_options o;
    radar_error err;
    char line[256];
    assert_int_equal(parse(&o, &err, line, "--preset code --window 77"), RADAR_OK);
    launch_preset_apply(&o);
    assert_string_equal(o.attention, "code");
    assert_string_equal(o.rf_form, "pair");
    assert_string_equal(o.share, "head");
    assert_int_equal(o.window, 77);
    assert_int_equal(o.sinks, 1);
    assert_int_equal(o.segments, 64);
    assert_int_equal(o.shards, 1);
    assert_int_equal(o.dense_below, 0);
    assert_int_equal(parse(&o, &err, line, "--preset paper --budget 640"), RADAR_OK);
    launch_preset_apply(&o);
    assert_int_equal(o.segments, LAUNCH_UNSET); /* one of the two words was typed */
    assert_int_equal(o.budget, 640);
    assert_string_equal(o.rf_form, "plain");
}

static void presets_may_be_swept(void **state) {
    (void)state;
    launch_options base, one;
    radar_error err;
    char line[256];
    assert_int_equal(parse(&base, &err, line, "--preset quest,paper"), RADAR_OK);
    launch_preset_apply(&base);
    assert_int_equal(base.shards, 1); /* the engine is opened once */
    assert_string_equal(base.attention, "radar");
    assert_true(eval_setting(&one, &base, 0));
    assert_string_equal(one.attention, "radar");
    assert_string_equal(one.scorer, "minmax");
    assert_true(eval_setting(&one, &base, 1));
    assert_string_equal(one.attention, "paper");
    assert_int_equal(one.window, 1024);
}

/* ---- the command of a row ---- */

static void a_command_gives_its_setting_again(void **state) {
    (void)state;
    launch_options base, one;
    radar_error err;
    char line[256];
    assert_int_equal(parse(&base, &err, line, "--scorer mean,rf --budget 99 --rf-center --json"),
                     RADAR_OK);
    base.prompt = "it's $5";
    assert_true(eval_setting(&one, &base, 1));
    char *command = eval_command(&one, 2);
    assert_string_equal(command, "mpirun -np 2 radar eval ppl -m x -p 'it'\\''s $5' --scorer rf "
                                 "--budget 99 --rf-center");
    radar_free(command);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- n-grams ---- */

static void repetition_is_counted_by_hand(void **state) {
    (void)state;
    const int32_t text[] = {1, 2, 3, 1, 2, 3, 1, 2, 4, 5};
    assert_true(ngram_distinct(text, 10, 1) == 5.0 / 10);
    assert_true(ngram_distinct(text, 10, 2) == 5.0 / 9); /* 12 23 31 24 45 */
    assert_true(ngram_distinct(text, 10, 4) == 5.0 / 7); /* 1231 2312 3123 1231 2312 3124 1245 */
    assert_true(isnan(ngram_distinct(text, 3, 4)));
    assert_int_equal(ngram_longest_repeat(text, 10), 5); /* 12312 at 0 and 3 */
    assert_int_equal(ngram_longest_repeat(text + 7, 3), 0);
    int32_t same[100] = {0};
    assert_true(ngram_repeated(same, 100, 4) == 96.0 / 97);
    assert_int_equal(ngram_longest_repeat(same, 100), 99);
}

static void mean_and_standard_error(void **state) {
    (void)state;
    const double x[] = {1, 2, 3, 6};
    double mean, se;
    eval_mean(x, 4, &mean, &se);
    assert_true(mean == 3);
    assert_true(fabs(se - sqrt(14.0 / 3 / 4)) < 1e-15);
    eval_mean(x, 1, &mean, &se);
    assert_true(mean == 1 && isnan(se));
}

/* ---- words of the tasks ---- */

static void words_are_all_different(void **state) {
    (void)state;
    enum { N = 2000 };
    static char word[N][RULER_WORD];
    const ruler_sample s = {.seed = 5}, other = {.seed = 6};
    for (int i = 0; i < N; i++) {
        ruler_word(&s, i, word[i]);
        assert_int_equal(strlen(word[i]), 6);
        for (int k = 0; k < i; k++) assert_string_not_equal(word[i], word[k]);
    }
    char again[RULER_WORD];
    ruler_word(&other, 0, again);
    assert_string_not_equal(again, word[0]);
}

static void a_shuffle_keeps_every_number(void **state) {
    (void)state;
    enum { N = 500 };
    int order[N], count[N] = {0}, moved = 0;
    ruler_sample s = {.seed = 3};
    ruler_shuffle(&s, order, N);
    for (int i = 0; i < N; i++) count[order[i]]++, moved += order[i] != i;
    for (int i = 0; i < N; i++) assert_int_equal(count[i], 1);
    assert_true(moved > N / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_give_the_product_in_table_order),
        cmocka_unit_test(every_element_of_a_list_is_checked),
        cmocka_unit_test(elsewhere_a_comma_is_an_error),
        cmocka_unit_test(settings_that_come_to_the_same_run_once),
        cmocka_unit_test(a_preset_holds_where_nothing_is_typed),
        cmocka_unit_test(presets_may_be_swept),
        cmocka_unit_test(a_command_gives_its_setting_again),
        cmocka_unit_test(repetition_is_counted_by_hand),
        cmocka_unit_test(mean_and_standard_error),
        cmocka_unit_test(words_are_all_different),
        cmocka_unit_test(a_shuffle_keeps_every_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
