/* Rope scaling: frequencies against tables of an independent implementation, what files and options say, precision far out. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>

#include "kernels/rope.h"
#include "tests/unit/model_fixture.h"
#include "tests/unit/open_bytes.h"

#define GOLDEN "tests/golden/rope-scaling.json"
#define MOST 64

static double real(const json_t *row, const char *key, double otherwise) {
    const json_t *v = json_object_get(row, key);
    return v ? json_number_value(v) : otherwise;
}

static void take_row(radar_model *m, const json_t *row) {
    radar_model_config *c = &m->config;
    const char *name = json_string_value(json_object_get(row, "scaling"));
    for (int k = 0; k <= RADAR_ROPE_SCALING_DYNAMIC; k++)
        if (!strcmp(name, radar_rope_scaling_name((radar_rope_scaling)k)))
            c->rope_scaling = (radar_rope_scaling)k;
    c->rotary = c->head_dim = (int)real(row, "rotary", 0);
    c->rope_theta = real(row, "theta", 0);
    c->context = (int64_t)real(row, "context", 0);
    c->rope_factor = real(row, "factor", 0);
    c->rope_low_freq = real(row, "low_freq_factor", 0);
    c->rope_high_freq = real(row, "high_freq_factor", 0);
    c->rope_original_context = real(row, "original_max_position_embeddings", 0);
    c->rope_beta_fast = real(row, "beta_fast", 32);
    c->rope_beta_slow = real(row, "beta_slow", 1);
    c->rope_magnitude = real(row, "attention_factor", 0);
    c->rope_fractional = json_is_false(json_object_get(row, "truncate"));
    if (json_object_get(row, "mscale")) { /* (0.1 a ln s + 1) / (0.1 b ln s + 1) */
        double ln = log(c->rope_factor);
        c->rope_magnitude = (0.1 * real(row, "mscale", 0) * ln + 1) /
                            (0.1 * real(row, "mscale_all_dim", 0) * ln + 1);
    }
    radar_rope_extend(c);
}

static void frequencies_are_those_of_the_reference(void **state) {
    (void)state;
    json_error_t why;
    json_t *rows = json_load_file(GOLDEN, 0, &why);
    if (!rows) fail_msg("%s: %s", GOLDEN, why.text);
    double worst = 0;
    assert_int_equal(json_array_size(rows), 12);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        double own[MOST], f[MOST];
        radar_model m = {.rope_frequency = own};
        take_row(&m, row);
        radar_rope_frequencies(own, &m.config, NULL);
        double magnitude = radar_rope_session(f, &m, (int64_t)real(row, "session", 0));
        const json_t *want = json_object_get(row, "frequency");
        assert_int_equal(json_array_size(want), m.config.rotary / 2);
        for (size_t i = 0; i < json_array_size(want); i++) {
            double w = json_number_value(json_array_get(want, i)), error = fabs(f[i] / w - 1);
            if (!(error <= 1e-14)) fail_msg("row %zu, pair %zu: %.17g, not %.17g", r, i, f[i], w);
            worst = fmax(worst, error);
        }
        assert_true(fabs(magnitude / real(row, "magnitude", 0) - 1) <= 1e-14);
    }
    print_message("worst relative error %.2g\n", worst);
    json_decref(rows);
}

/* Angles in double, rounded once: against long double.  Half a step of f32 at 1, and what 53 bits leave of the angle. */
static void positions_in_the_millions_keep_their_angle(void **state) {
    (void)state;
    static const int64_t position[] = {1 << 20, (1 << 20) + 1, 1 << 21, (int64_t)1 << 34};
    enum { D = 64 };
    double f[D / 2], by_float = 0;
    float angle[D];
    radar_model m = {.rope_frequency = f};
    m.config = (radar_model_config){.rotary = D, .rope_theta = 100000};
    radar_rope_frequencies(f, &m.config, NULL);
    for (size_t p = 0; p < sizeof position / sizeof *position; p++) {
        double bound = ldexp(1, -25) + (double)position[p] * 4e-16, worst = 0;
        radar_rope_angles(angle, f, D, 1, position[p]);
        for (int i = 0; i < D / 2; i++) {
            long double radians = (long double)position[p] * powl(100000.0L, -2.0L * i / D);
            double c = fabs((double)(angle[i] - cosl(radians))),
                   s = fabs((double)(angle[D / 2 + i] - sinl(radians)));
            worst = fmax(worst, fmax(c, s));
            float single = (float)position[p] * (float)f[i];
            by_float = fmax(by_float, fabs((double)(cosf(single) - cosl(radians))));
        }
        print_message("position %lld: worst error %.2g, bound %.2g\n", (long long)position[p],
                      worst, bound);
        assert_true(worst <= bound);
    }
    assert_true(by_float > 1e-2); /* what angles in single precision would be off by */
}

static void magnitude_multiplies_cos_and_sin(void **state) {
    (void)state;
    const double f[2] = {1, 0.25};
    float angle[4];
    radar_rope_angles(angle, f, 4, 1.5, 3);
    for (int i = 0; i < 2; i++) {
        assert_true(angle[i] == (float)(1.5 * cos(3 * f[i])));
        assert_true(angle[2 + i] == (float)(1.5 * sin(3 * f[i])));
    }
}

/* ---- what files say ---- */

static void configurations_give_scaling_and_context(void **state) {
    (void)state;
    static const struct {
        const char *more;
        radar_rope_scaling scaling;
        int64_t unscaled, context;
        double magnitude;
    } rows[] = {
        {"", RADAR_ROPE_SCALING_NONE, 128, 128, 1},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}", RADAR_ROPE_SCALING_LINEAR, 128,
         512, 1},
        {",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}", RADAR_ROPE_SCALING_DYNAMIC, 128,
         256, 1},
        {",\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":4}", RADAR_ROPE_SCALING_YARN, 128,
         512, 1.138629436111989},
        /* the context is stored after scaling, or before: the same */
        {",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
         "\"original_max_position_embeddings\":32}",
         RADAR_ROPE_SCALING_YARN, 32, 128, 1.138629436111989},
        {",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"mscale\":0.707,"
         "\"mscale_all_dim\":1.0}",
         RADAR_ROPE_SCALING_YARN, 128, 5120, 0.9210423553163399},
        {",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"attention_factor\":2}",
         RADAR_ROPE_SCALING_YARN, 128, 512, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        blob b;
        double f[4];
        radar_model *m = from_config(rows[i].more, &b);
        assert_int_equal(m->config.rope_scaling, rows[i].scaling);
        assert_int_equal(m->config.unscaled, rows[i].unscaled);
        assert_int_equal(m->config.context, rows[i].context);
        assert_true(fabs(radar_rope_session(f, m, 128) - rows[i].magnitude) <= 1e-14);
        radar_model_close(m);
        drop(&b);
    }
}

static void gguf_yarn_is_read(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = tiny_gguf(&t);
    key_text(&g, "llama.rope.scaling.type", "yarn");
    key_f32(&g, "llama.rope.scaling.factor", 4);
    key_u32(&g, "llama.rope.scaling.original_context_length", 64);
    key_f32(&g, "llama.rope.scaling.attn_factor", 0.5);
    key_f32(&g, "llama.rope.scaling.yarn_beta_fast", 16);
    blob b = gguf_bytes(&g, NULL);
    radar_tensorfile *tf = NULL;
    radar_model *m = NULL;
    radar_error err = {0};
    double f[4];
    assert_int_equal(radar_tensorfile_open_memory(&tf, b.data, b.n, NULL, &err), RADAR_OK);
    if (radar_model_from_file(&m, tf, &err)) fail_msg("%s", err.text);
    assert_int_equal(m->config.rope_scaling, RADAR_ROPE_SCALING_YARN);
    assert_int_equal(m->config.unscaled, 64);
    assert_true(m->config.rope_beta_fast == 16 && m->config.rope_beta_slow == 1);
    assert_true(fabs(radar_rope_session(f, m, 64) - 0.5 * (0.1 * log(4) + 1)) <= 1e-14);
    assert_true(f[0] == 1); /* turns often: stays */
    assert_true(fabs(f[3] / (m->rope_frequency[3] / 4) - 1) <= 1e-14);
    radar_model_close(m);
    drop(&b);
}

/* ---- what options say ---- */

#define LLAMA3 \
    ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1," \
    "\"high_freq_factor\":4,\"original_max_position_embeddings\":16}"

static void options_replace_what_files_say(void **state) {
    (void)state;
    static const struct {
        const char *more;
        radar_rope_override o;
        radar_rope_scaling scaling;
        int64_t context;
        double last; /* of the last frequency of four, 10000^(-3/4) = 1e-3 in the file */
    } rows[] = {
        {"", {NULL, 4, 0, 0}, RADAR_ROPE_SCALING_LINEAR, 512, 2.5e-4},
        {"", {"linear", 2, 0, 0}, RADAR_ROPE_SCALING_LINEAR, 256, 5e-4},
        {"", {"yarn", 10, 0, 0}, RADAR_ROPE_SCALING_YARN, 1280, 1e-4},
        {"", {"none", 0, 0, 0}, RADAR_ROPE_SCALING_NONE, 128, 1e-3},
        {"", {NULL, 0, 1e8, 0}, RADAR_ROPE_SCALING_NONE, 128, 1e-6},
        {"", {"yarn", 10, 0, 1000}, RADAR_ROPE_SCALING_YARN, 10000, 1e-4},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}",
         {"none", 0, 0, 0},
         RADAR_ROPE_SCALING_NONE,
         128,
         1e-3},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}",
         {NULL, 8, 0, 0},
         RADAR_ROPE_SCALING_LINEAR,
         1024,
         1.25e-4},
        {LLAMA3, {"none", 0, 0, 0}, RADAR_ROPE_SCALING_LLAMA3, 128, 1.25e-4},
        {LLAMA3, {NULL, 0, 1e8, 0}, RADAR_ROPE_SCALING_LLAMA3, 128, 1.25e-7},
        {LLAMA3, {"yarn", 10, 0, 0}, RADAR_ROPE_SCALING_YARN, 1280, 1.25e-5},
        {LLAMA3, {"llama3", 4, 0, 0}, RADAR_ROPE_SCALING_LLAMA3, 64, 2.5e-4},
        {"", {"llama3", 4, 0, 0}, RADAR_ROPE_SCALING_LLAMA3, 512, 2.5e-4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        blob b;
        double f[4];
        radar_error err = {0};
        radar_model *m = from_config(rows[i].more, &b);
        if (radar_model_set_rope(m, &rows[i].o, &err)) fail_msg("row %zu: %s", i, err.text);
        radar_rope_session(f, m, 128);
        assert_int_equal(m->config.rope_scaling, rows[i].scaling);
        assert_int_equal(m->config.context, rows[i].context);
        if (!(fabs(f[3] / rows[i].last - 1) <= 1e-13)) fail_msg("row %zu: %.17g", i, f[3]);
        radar_model_close(m);
        drop(&b);
    }
}

/* s t / L - (s - 1) = 2 * 4 - 1 = 7, d = 8: theta times 7^(8/6), the last frequency times 7^(-8/6 * 6/8) = 1/7. */
static void dynamic_stretches_for_the_session(void **state) {
    (void)state;
    const radar_rope_override o = {"dynamic", 2, 0, 0};
    radar_error err = {0};
    double f[4];
    blob b;
    radar_model *m = from_config("", &b);
    assert_int_equal(radar_model_set_rope(m, &o, &err), RADAR_OK);
    radar_rope_session(f, m, 128);
    assert_true(f[3] == m->rope_frequency[3]);
    radar_rope_session(f, m, 512);
    assert_true(fabs(f[3] / 1e-3 * 7 - 1) <= 1e-13);
    radar_model_close(m);
    drop(&b);
}

static void options_that_make_no_sense_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *more;
        radar_rope_override o;
        radar_status st;
        const char *says;
    } rows[] = {
        {"", {"longrope", 2, 0, 0}, RADAR_ERR_USAGE, "'longrope': not known; use none, linear"},
        {"", {"none", 2, 0, 0}, RADAR_ERR_USAGE, "of no use"},
        {"", {NULL, 0, 0, 4096}, RADAR_ERR_USAGE, "of no use"},
        {"", {"yarn", 0, 0, 0}, RADAR_ERR_USAGE, "needs --rope-scale N: N times the model's 128"},
        {"", {"dynamic", 0.5, 0, 0}, RADAR_ERR_DATA, "factor is 0.5"},
        {"", {NULL, 0, 0.5, 0}, RADAR_ERR_DATA, "base is 0.5"},
        {"", {"yarn", 2, 1, 0}, RADAR_ERR_DATA, "base is 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        blob b;
        radar_error err = {0};
        radar_model *m = from_config(rows[i].more, &b);
        radar_status st = radar_model_set_rope(m, &rows[i].o, &err);
        if (st != rows[i].st || !strstr(err.text, rows[i].says))
            fail_msg("row %zu: %d \"%s\"", i, st, err.text);
        assert_int_equal(m->config.rope_scaling, RADAR_ROPE_SCALING_NONE);
        assert_true(fabs(m->rope_frequency[3] - 1e-3) <= 1e-16);
        radar_model_close(m);
        drop(&b);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_those_of_the_reference),
        cmocka_unit_test(positions_in_the_millions_keep_their_angle),
        cmocka_unit_test(magnitude_multiplies_cos_and_sin),
        cmocka_unit_test(configurations_give_scaling_and_context),
        cmocka_unit_test(gguf_yarn_is_read),
        cmocka_unit_test(options_replace_what_files_say),
        cmocka_unit_test(dynamic_stretches_for_the_session),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
