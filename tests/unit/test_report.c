/* The report's arithmetic (scales, ticks, pairing, exponents), its text (escaping, fitting) and rows that mean harm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launch/report/page.h"
#include "launch/report/tally.h"
#include "runtime/sys.h"

static void assert_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g, not %.17g", got, want);
}

/* ---- scales and ticks ---- */

static void scales_are_linear_and_logarithmic(void **state) {
    (void)state;
    const svg_axis linear = {.low = -1, .high = 3},
                   decades = {.low = 10, .high = 1000, .log = true};
    assert_near(svg_scale(&linear, -1), 0, 0);
    assert_near(svg_scale(&linear, 0), 0.25, 1e-15);
    assert_near(svg_scale(&linear, 3), 1, 0);
    assert_near(svg_scale(&decades, 100), 0.5, 1e-15);
    assert_near(svg_scale(&decades, 20), log10(2) / 2, 1e-15);
    assert_near(svg_scale(&linear, 1e300), 1.05, 0); /* kept near the picture */
    assert_near(svg_scale(&decades, 0), -0.05, 0);
    assert_near(svg_scale(&decades, -3), -0.05, 0);
    assert_near(svg_scale(&linear, NAN), -0.05, 0);
}

static void assert_ticks(const svg_axis *axis, const double *want, int n) {
    double tick[SVG_TICKS];
    assert_int_equal(svg_ticks(axis, tick), n);
    for (int i = 0; i < n; i++) assert_near(tick[i], want[i], 1e-12 * (1 + fabs(want[i])));
}

static void ticks_are_round_values_within_the_axis(void **state) {
    (void)state;
    const svg_axis small = {.low = 0, .high = 0.37}, around = {.low = -2.1, .high = 9.9},
                   octaves = {.low = 250, .high = 17000, .log = true},
                   wide = {.low = 1e-3, .high = 1e6, .log = true},
                   narrow = {.low = 101, .high = 119, .log = true};
    assert_ticks(&small, (const double[]){0, .1, .2, .3}, 4);
    assert_ticks(&around, (const double[]){-2, 0, 2, 4, 6, 8}, 6);
    assert_ticks(&octaves, (const double[]){500, 1e3, 2e3, 5e3, 1e4}, 5);
    assert_ticks(&wide, (const double[]){1e-3, 1e-1, 1e1, 1e3, 1e5}, 5);
    assert_ticks(&narrow, (const double[]){105, 110, 115}, 3);
}

static void ranges_are_never_empty(void **state) {
    (void)state;
    double tick[SVG_TICKS];
    static const double value[] = {0, 1, -7, 1e-300, 1e14, -1e14};
    for (size_t i = 0; i < sizeof value / sizeof *value; i++)
        for (int zero = 0; zero < 2; zero++) {
            svg_axis axis = {.log = false};
            svg_range(&axis, value[i], value[i], zero);
            assert_true(axis.low < axis.high);
            assert_true(svg_ticks(&axis, tick) >= 1);
        }
    svg_axis decades = {.log = true};
    svg_range(&decades, 512, 512, false);
    assert_true(decades.low < 512 && decades.high > 512 && decades.low > 0);
}

static void numbers_are_short(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},        {512, "512"},    {8192, "8192"},   {16384, "16.4k"},
                 {1e6, "1M"},     {2.5e9, "2.5G"}, {0.004, "0.004"}, {-0.25, "-0.25"},
                 {999.7, "1000"}, {NAN, "-"},      {INFINITY, "-"},  {1e-15, "0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[SVG_NUMBER];
        assert_string_equal(svg_number(text, cases[i].value), cases[i].text);
    }
}

/* ---- text ---- */

static void assert_markup(markup *m, const char *want) {
    markup_append(m, &(markup){.data = (char[]){0}, .used = 1});
    assert_false(m->failed);
    assert_string_equal(m->data, want);
    markup_close(m);
}

static void text_of_others_is_harmless(void **state) {
    (void)state;
    markup m = {0};
    markup_text(&m, "</title><script>alert(\"1\" & '2')</script>");
    assert_markup(
        &m, "&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;");
    markup_text(&m, "a\x01\x1b"
                    "b\tc\nd");
    assert_markup(&m, "a\xef\xbf\xbd\xef\xbf\xbd"
                      "b\tc\nd");
    markup_text(&m,
                "\xff\xc3(\xed\xa0\x80"); /* no UTF-8: a stray byte, a cut letter, a surrogate */
    assert_markup(&m, "\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    markup_text(&m, "\xe2\x80\xae"
                    "x\xef\xbf\xbf\xc3\xa9"); /* right-to-left override, a non-character, e acute */
    assert_markup(&m, "\xef\xbf\xbd"
                      "x\xef\xbf\xbd\xc3\xa9");
}

static void long_text_is_cut_between_letters(void **state) {
    (void)state;
    markup m = {0};
    char name[4001];
    for (int i = 0; i < 4000; i += 2) memcpy(name + i, "\xc3\xa9", 3);
    svg_text(&m, 1, 2, "start", 10, 100, name);
    markup_append(&m, &(markup){.data = (char[]){0}, .used = 1});
    const char *from = strchr(m.data, '>') + 1, *end = strstr(from, "\xe2\x80\xa6</text>");
    assert_non_null(end);
    assert_int_equal((end - from) % 2, 0);
    assert_true(end - from >= 16 &&
                end - from <= 24); /* 100 units, less one letter for the ellipsis */
    assert_null(strstr(m.data, "\xef\xbf\xbd"));
    markup_close(&m);
    assert_true(svg_text_width("WWWW", 10) >= 40);
}

/* ---- arithmetic ---- */

static void exponent_of_a_power_law(void **state) {
    (void)state;
    svg_point p[6];
    for (int i = 0; i < 6; i++) p[i] = (svg_point){512 << i, 3 * pow(512 << i, 0.37), 0};
    assert_near(power_law(p, 6), 0.37, 1e-12);
    p[5].y = -1; /* no logarithm: left out */
    assert_near(power_law(p, 6), 0.37, 1e-12);
    assert_true(isnan(power_law(p, 1)));
    p[1].x = p[0].x;
    assert_true(isnan(power_law(p, 2)));
    /* (1, 1), (2, 4), (4, 4): ln y / ln 2 = 0, 2, 2 over 0, 1, 2: slope 1 */
    const svg_point q[3] = {{1, 1, 0}, {2, 4, 0}, {4, 4, 0}};
    assert_near(power_law(q, 3), 1, 1e-12);
}

static void add_row(eval_rows *rows, row_kind kind, const char *text) {
    const char *why;
    radar_error err = {0};
    if (!rows_add(rows, kind, text, strlen(text), &why, &err)) fail_msg("%s: %.200s", why, text);
}

#define PPL(more, losses) \
    "{\"attention\":\"radar\",\"scorer\":\"sketch\",\"text\":\"t\",\"length\":8,\"first\":4," more \
    "\"nll\":" losses "}"
#define DENSE(losses) \
    "{\"attention\":\"dense\",\"scorer\":\"sketch\",\"text\":\"t\",\"length\":8,\"first\":4," \
    "\"nll\":" losses "}"

static void losses_are_paired_with_dense(void **state) {
    (void)state;
    eval_rows rows = {0};
    const row_list *ppl = &rows.of[ROW_PPL];
    tally t = {0};
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"dense\",\"text\":\"t\",\"length\":8,\"first\":2,\"nll\":[9,9,9,9]}");
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"dense\",\"text\":\"u\",\"length\":8,\"first\":4,\"nll\":[9,9,9,9]}");
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"dense\",\"text\":\"t\",\"length\":9,\"first\":4,\"nll\":[9,9,9,9]}");
    add_row(&rows, ROW_PPL, PPL("", "[1,2,3,4]"));
    assert_false(tally_above_dense(
        &t, ppl, &ppl->row[3])); /* none fits: text, length or first position differ */
    add_row(&rows, ROW_PPL, DENSE("[0.5,2.5,2,3]"));
    assert_true(tally_above_dense(&t, ppl, &ppl->row[3]));
    /* differences .5 -.5 1 1: mean .5, variance 1.5 / 3, error sqrt(.5 / 4) */
    assert_int_equal(t.n, 4);
    assert_near(tally_mean(&t), 0.5, 1e-15);
    assert_near(tally_error(&t), 0.35355339059327379, 1e-15);
    add_row(&rows, ROW_PPL, PPL("", "[1,null,3,\"4\"]")); /* what is no number is left out: .5 1 */
    t = (tally){0};
    assert_true(tally_above_dense(&t, ppl, &ppl->row[5]));
    assert_int_equal(t.n, 2);
    assert_near(tally_mean(&t), 0.75, 1e-15);
    rows_close(&rows);
}

/* Files of one name, caches of two types: each with its own dense. */
static void dense_is_of_the_same_tokens_and_cache(void **state) {
    (void)state;
    eval_rows rows = {0};
    const row_list *ppl = &rows.of[ROW_PPL];
    tally t = {0};
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"dense\",\"text\":\"t\",\"length\":8,\"first\":4,\"text_hash\":\"a\","
            "\"kv_type\":\"f16\",\"nll\":[1,1]}");
    add_row(&rows, ROW_PPL, PPL("\"text_hash\":\"b\",\"kv_type\":\"f16\",", "[2,2]"));
    add_row(&rows, ROW_PPL, PPL("\"text_hash\":\"a\",\"kv_type\":\"f32\",", "[2,2]"));
    add_row(&rows, ROW_PPL, PPL("\"text_hash\":\"a\",\"kv_type\":\"f16\",", "[2,2]"));
    assert_false(tally_above_dense(&t, ppl, &ppl->row[1]));
    assert_false(tally_above_dense(&t, ppl, &ppl->row[2]));
    assert_true(tally_above_dense(&t, ppl, &ppl->row[3]));
    rows_close(&rows);
}

static void losses_without_tokens_are_paired_by_their_means(void **state) {
    (void)state;
    eval_rows rows = {0};
    tally t = {0};
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"dense\",\"text\":\"t\",\"nll_mean\":2.5,\"tokens\":10}");
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"h2o\",\"text\":\"t\",\"nll_mean\":2.625,\"tokens\":10}");
    assert_true(tally_above_dense(&t, &rows.of[ROW_PPL], &rows.of[ROW_PPL].row[1]));
    assert_near(tally_mean(&t), 0.125, 1e-12);
    assert_true(isnan(tally_error(&t)));
    rows_close(&rows);
}

/* A row keeps so many losses; its mean is of all its tokens: 8 of mean 1.25 above, of which 4 are kept with a variance of 1/2. */
static void the_mean_is_of_all_tokens_where_losses_are_cut(void **state) {
    (void)state;
    eval_rows rows = {0};
    tally t = {0};
    add_row(&rows, ROW_PPL, PPL("\"tokens\":8,\"nll_mean\":4.25,", "[1,2,3,4]"));
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"dense\",\"text\":\"t\",\"length\":8,\"first\":4,\"tokens\":8,"
            "\"nll_mean\":3,\"nll\":[0.5,2.5,2,3]}");
    assert_true(tally_above_dense(&t, &rows.of[ROW_PPL], &rows.of[ROW_PPL].row[0]));
    assert_int_equal(t.n, 8);
    assert_near(tally_mean(&t), 1.25, 1e-14);
    assert_near(tally_error(&t), sqrt(0.5 / 8), 1e-14);
    rows_close(&rows);
}

static void names_say_what_differs(void **state) {
    (void)state;
    eval_rows rows = {0};
    row_list *list = &rows.of[ROW_PPL];
    char name[METHOD_NAME];
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"radar\",\"scorer\":\"sketch\",\"sketch_bits\":2,\"budget\":256,\"rf_"
            "form\":\"plain\"}");
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"radar\",\"scorer\":\"sketch\",\"sketch_bits\":1,\"budget\":512,\"rf_"
            "form\":\"pair\"}");
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"radar\",\"scorer\":\"rf\",\"sketch_bits\":2,\"budget\":512,\"rf_"
            "form\":\"pair\",\"rf_center\":false}");
    add_row(&rows, ROW_PPL,
            "{\"attention\":\"radar\",\"scorer\":\"rf\",\"sketch_bits\":1,\"budget\":512,\"rf_"
            "form\":\"pair\",\"rf_center\":true}");
    add_row(&rows, ROW_PPL, "{\"attention\":\"h2o\",\"scorer\":\"sketch\",\"budget\":512}");
    method_compare(list);
    assert_string_equal(method_name(name, &list->row[0], "|budget|"), "sketch 2 bits");
    assert_string_equal(method_name(name, &list->row[1], "|budget|"), "sketch 1 bits");
    assert_string_equal(method_name(name, &list->row[1], "|length|"), "sketch 1 bits, budget 512");
    assert_string_equal(method_name(name, &list->row[2], "|budget|"), "rf");
    assert_string_equal(method_name(name, &list->row[3], "|budget|"), "rf centred");
    assert_string_equal(method_name(name, &list->row[4], "|budget|"), "h2o");
    rows_close(&rows);
}

static void budget_is_what_the_options_mean(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double budget;
    } cases[] = {{"{\"budget\":256,\"length\":8192}", 256},
                 {"{\"budget\":-1,\"length\":8192}", 512},
                 {"{\"budget\":-1,\"length\":65536}", 1024},
                 {"{\"budget\":-1,\"segments\":40,\"segment\":null}", 640},
                 {"{\"budget\":-1,\"segments\":40,\"segment\":64}", 2560},
                 {"{\"budget\":-1,\"budget_tokens\":640,\"length\":65536}", 640}};
    eval_rows rows = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        add_row(&rows, ROW_PPL, cases[i].text);
        assert_near(method_budget(&rows.of[ROW_PPL].row[i]), cases[i].budget, 0);
    }
    add_row(&rows, ROW_STATS, "{\"attention\":\"dense\",\"budget_tokens\":512}");
    add_row(&rows, ROW_STATS, "{\"attention\":\"streaming\",\"budget_tokens\":512}");
    assert_true(isnan(method_budget(&rows.of[ROW_STATS].row[0])));
    assert_true(isnan(method_budget(&rows.of[ROW_STATS].row[1])));
    rows_close(&rows);
}

/* ---- series and colours ---- */

static void a_method_looks_alike_in_every_picture(void **state) {
    (void)state;
    svg_chart *a = radar_alloc(sizeof *a), *b = radar_alloc(sizeof *b);
    assert_true(a != NULL && b != NULL);
    const int rf = svg_series_named(a, "rf n 64")->style,
              more = svg_series_named(a, "rf n 256")->style,
              dense = svg_series_named(a, "dense")->style,
              sketch = svg_series_named(a, "sketch")->style;
    assert_int_equal(svg_series_named(b, "sketch 2 bits")->style, sketch);
    assert_int_equal(svg_series_named(b, "dense: t^1.00")->style, dense);
    assert_int_equal(svg_series_named(b, "rf")->style, rf);
    assert_true(rf != more && rf != dense && rf != sketch && more != dense && more != sketch);
    char name[32];
    for (int i = b->n; i < SVG_SERIES; i++) {
        snprintf(name, sizeof name, "other %d", i);
        svg_add(b, name, 1, 1, NAN);
    }
    for (int i = 0; i < SVG_SERIES; i++)
        for (int k = 0; k < i; k++) assert_int_not_equal(b->series[i].style, b->series[k].style);
    svg_add(b, "one too many", 1, 1, NAN);
    svg_add(b, "dense: t^1.00", INFINITY, 1, NAN); /* no point */
    assert_int_equal(b->left_out, 1);
    assert_int_equal(svg_series_named(b, "dense: t^1.00")->n, 0);
    radar_free(a);
    radar_free(b);
}

static double luminance(const int c[3]) {
    double y = 0;
    static const double weight[3] = {0.2126, 0.7152, 0.0722};
    for (int i = 0; i < 3; i++) {
        const double v = c[i] / 255.0;
        y += weight[i] * (v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
    }
    return y;
}

/* The colours as the page has them: brighter from level to level, and text on each at 4.5:1 or better. */
static void heat_colours_rise_and_carry_text(void **state) {
    (void)state;
    markup m = {0};
    double before = -1;
    svg_style(&m, true);
    markup_append(&m, &(markup){.data = (char[]){0}, .used = 1});
    for (int i = 0; i < SVG_LEVELS; i++) {
        char rule[32];
        unsigned rgb;
        snprintf(rule, sizeof rule, ".h%d{fill:#", i);
        const char *at = strstr(m.data, rule);
        assert_non_null(at);
        assert_int_equal(sscanf(at + strlen(rule), "%6x", &rgb), 1);
        const double y = luminance((const int[]){(int)(rgb >> 16), rgb >> 8 & 255, rgb & 255});
        const double contrast =
            strcmp(svg_heat_ink(i), "#ffffff") == 0 ? 1.05 / (y + 0.05) : (y + 0.05) / 0.05;
        if (!(y > before)) fail_msg("level %d is no brighter than the one before", i);
        if (!(contrast >= 4.5)) fail_msg("level %d: contrast %.2f", i, contrast);
        before = y;
    }
    markup_close(&m);
}

/* ---- rows that mean harm ---- */

static bool page_holds(const markup *m, const char *text) {
    return memmem(m->data, m->used, text, strlen(text)) != NULL;
}

/* The page of these rows: made without a fault, no markup of others, no number that is none. */
static void assert_page(eval_rows *rows) {
    markup m = {0};
    radar_error err = {0};
    for (int k = 0; k < ROW_KINDS; k++) method_compare(&rows->of[k]);
    assert_int_equal(report_page(&m, rows, "<script>", &err), RADAR_OK);
    assert_true(page_holds(&m, "</html>"));
    assert_false(page_holds(&m, "<script"));
    assert_false(page_holds(&m, "nan"));
    assert_false(page_holds(&m, "inf\""));
    assert_false(page_holds(&m, "inf "));
    markup_close(&m);
    rows_close(rows);
    assert_int_equal(radar_alloc_live(), 0);
}

/* Every key of every kind, with a value of every wrong type. */
static void values_of_the_wrong_type_are_left_out(void **state) {
    (void)state;
    static const char *const keys[] = {
        "attention",      "scorer",        "preset",        "text",      "length",
        "budget",         "segments",      "segment",       "nll",       "first",
        "tokens",         "nll_mean",      "by_position",   "batch",     "ms_per_token",
        "bytes_per_step", "recall_mean",   "layer_head",    "heat",      "grid",
        "part",           "exact",         "nll_per_token", "pairs",     "groups",
        "predicted_sd",   "budget_tokens", "sketch",        "histogram", "command",
        "version",        "fingerprint",   "rf_features",   "model"};
    static const char *const values[] = {
        "null",
        "true",
        "-1",
        "0",
        "1e308",
        "-1e-308",
        "9223372036854775807",
        "\"<script>alert(1)</script>\"",
        "\"\"",
        "[]",
        "{}",
        "[[]]",
        "[[[]]]",
        "[null]",
        "[[null,null,null]]",
        "[[1,1,1,1,1],[1,1,1,1,1]]",
        "[[\"<script>\",1e300,-5]]",
        ("{\"recall\":[[1,2],[3]],\"mass\":[[0.5,null],[]],\"chosen\":[[-1,1e9,\"x\"],7],"
         "\"positions\":{},\"q_norm\":3}"),
        "[[1e15,1e15,1e15,1e15,1e15],[-1e14,0,1,2,3]]",
        "[-1e14,1e14,0,\"x\",null]"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        eval_rows rows = {0};
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            char text[512];
            snprintf(text, sizeof text,
                     "{\"attention\":\"radar\",\"batch\":1,\"length\":512,\"%s\":%s}",
                     strcmp(keys[k], "attention") == 0 || strcmp(keys[k], "batch") == 0 ||
                             strcmp(keys[k], "length") == 0
                         ? "x"
                         : keys[k],
                     values[v]);
            for (int kind = 0; kind < ROW_KINDS; kind++) add_row(&rows, (row_kind)kind, text);
            snprintf(text, sizeof text, "{\"%s\":%s}", keys[k], values[v]);
            for (int kind = 0; kind < ROW_KINDS; kind++) add_row(&rows, (row_kind)kind, text);
        }
        assert_page(&rows);
    }
}

static void assert_refused(const char *text, size_t bytes) {
    eval_rows rows = {0};
    radar_error err = {0};
    const char *why = NULL;
    assert_false(rows_add(&rows, ROW_PPL, text, bytes, &why, &err));
    assert_non_null(why);
    assert_int_equal(err.status, RADAR_OK);
    assert_int_equal(rows_count(&rows), 0);
    rows_close(&rows);
    assert_int_equal(radar_alloc_live(), 0);
}

static void lines_that_are_no_rows_are_refused(void **state) {
    (void)state;
    static const char *const lines[] = {"",
                                        "x",
                                        "[1]",
                                        "7",
                                        "{",
                                        "{\"a\":1}}",
                                        "{\"a\":NaN}",
                                        "{\"a\":1e999}",
                                        "{\"a\":1,\"a\":2}",
                                        "{\"a\":\"\xff\"}",
                                        "{\"a\":99999999999999999999}",
                                        "{\"nll\":[1,2}"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_refused(lines[i], strlen(lines[i]));
    assert_refused("{\"a\":\"\0\"}", 9);
}

/* Deep, wide and long lines end at the limits, before the parser builds anything. */
static void lines_beyond_the_limits_are_refused(void **state) {
    (void)state;
    const size_t room = (size_t)ROWS_LINE_BYTES + 2;
    char *text = malloc(room);
    assert_non_null(text);
    memset(text, '[', room);
    assert_refused(text, 100000);
    memset(text, ' ', room);
    assert_refused(text, room);
    memcpy(text, "{\"nll\":[", 8);
    for (size_t i = 8; i < 8 + 2 * (ROWS_LINE_VALUES + 1); i++) text[i] = i % 2 == 0 ? '0' : ',';
    memcpy(text + 8 + 2 * (ROWS_LINE_VALUES + 1), "0]}", 3);
    assert_refused(text, 8 + 2 * (ROWS_LINE_VALUES + 1) + 3);
    free(text);
}

static void a_kind_holds_so_many_rows(void **state) {
    (void)state;
    eval_rows rows = {0};
    radar_error err = {0};
    const char *why;
    for (int i = 0; i < ROWS_PER_KIND; i++) add_row(&rows, ROW_STATS, "{}");
    assert_false(rows_add(&rows, ROW_STATS, "{}", 2, &why, &err));
    assert_int_equal(rows_count(&rows), ROWS_PER_KIND);
    assert_page(&rows);
}

/* ---- pictures and files ---- */

static void names_of_pictures_are_those_of_the_option(void **state) {
    (void)state;
    char list[512] = "";
    for (int i = 0; i < report_figure_count; i++) {
        const report_figure *f = &report_figure_list[i];
        assert_int_equal(f->name != NULL, f->draw != NULL);
        assert_int_equal(f->table != NULL, f->draw == NULL);
        if (f->name == NULL) continue;
        if (list[0] != 0) strcat(list, ", ");
        strcat(list, f->name);
        assert_ptr_equal(report_figure_named(f->name), f);
    }
    assert_string_equal(list, REPORT_FIGURES);
}

static void a_picture_without_rows_names_its_command(void **state) {
    (void)state;
    eval_rows rows = {0};
    markup m = {0};
    radar_error err = {0};
    add_row(&rows, ROW_PPL, "{}");
    assert_int_equal(report_svg(&m, &rows, "needle", &err), RADAR_ERR_NO_INPUT);
    assert_non_null(strstr(err.text, "radar eval needle"));
    markup_close(&m);
    rows_close(&rows);
}

static long no_space(int fd, const void *data, size_t bytes) {
    (void)fd, (void)data, (void)bytes;
    return 0;
}

static void a_full_disk_keeps_the_old_file(void **state) {
    (void)state;
    char folder[] = "/tmp/radar-report-XXXXXX", path[64], line[16] = "";
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/r.html", folder);
    markup old = {0}, new = {0};
    radar_error err = {0};
    markup_add(&old, "old");
    markup_add(&new, "new");
    assert_int_equal(report_write(&old, path, &err), RADAR_OK);
    long (*real)(int, const void *, size_t) = radar_sys_table.write;
    radar_sys_table.write = no_space;
    assert_int_equal(report_write(&new, path, &err), RADAR_ERR_IO);
    radar_sys_table.write = real;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_string_equal(line, "old");
    err = (radar_error){0};
    assert_int_equal(report_write(&new, path, &err), RADAR_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left in it */
    markup_close(&old);
    markup_close(&new);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_are_linear_and_logarithmic),
        cmocka_unit_test(ticks_are_round_values_within_the_axis),
        cmocka_unit_test(ranges_are_never_empty),
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(text_of_others_is_harmless),
        cmocka_unit_test(long_text_is_cut_between_letters),
        cmocka_unit_test(exponent_of_a_power_law),
        cmocka_unit_test(losses_are_paired_with_dense),
        cmocka_unit_test(dense_is_of_the_same_tokens_and_cache),
        cmocka_unit_test(losses_without_tokens_are_paired_by_their_means),
        cmocka_unit_test(the_mean_is_of_all_tokens_where_losses_are_cut),
        cmocka_unit_test(names_say_what_differs),
        cmocka_unit_test(budget_is_what_the_options_mean),
        cmocka_unit_test(a_method_looks_alike_in_every_picture),
        cmocka_unit_test(heat_colours_rise_and_carry_text),
        cmocka_unit_test(values_of_the_wrong_type_are_left_out),
        cmocka_unit_test(lines_that_are_no_rows_are_refused),
        cmocka_unit_test(lines_beyond_the_limits_are_refused),
        cmocka_unit_test(a_kind_holds_so_many_rows),
        cmocka_unit_test(names_of_pictures_are_those_of_the_option),
        cmocka_unit_test(a_picture_without_rows_names_its_command),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
