/* Models that open: the demo, the tiny ones of every kind, and the rotary frequencies. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/model_fixture.h"
#include "tests/unit/open_bytes.h"

#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define TINY "tests/golden/tiny/"

static radar_model *open_model(const char *path) {
    radar_model *m = NULL;
    radar_error err = {0};
    if (radar_model_open(&m, path, &err)) fail_msg("%s", err.text);
    return m;
}

/* ---- the demo ---- */

static void the_demo_model_opens_with_its_configuration(void **state) {
    (void)state;
    const char *allowed = getenv("RADAR_NO_MODEL");
    if (access(DEMO, F_OK) && allowed && !strcmp(allowed, "1")) skip();
    radar_model *m = open_model(DEMO);
    const radar_model_config *c = &m->config;
    assert_string_equal(c->family, "llama");
    assert_string_equal(c->name, "Smollm2 135M 8k Lc100K Mix1 Ep2");
    assert_int_equal(c->n_layers, 30);
    assert_int_equal(c->width, 576);
    assert_int_equal(c->n_heads, 9);
    assert_int_equal(c->n_kv_heads, 3);
    assert_int_equal(c->head_dim, 64);
    assert_int_equal(c->inner, 1536);
    assert_int_equal(c->vocab, 49152);
    assert_int_equal(c->context, 8192);
    assert_true(c->norm_eps == 1e-5f);
    assert_int_equal(c->rope_style, RADAR_ROPE_ADJACENT);
    assert_int_equal(c->rotary, 64);
    assert_true(c->rope_theta == 100000.0);
    assert_int_equal(c->rope_scaling, RADAR_ROPE_SCALING_NONE);
    assert_true(c->tied);
    assert_int_equal(c->n_eos, 1);
    assert_int_equal(c->eos[0], 2);
    assert_int_equal(c->bos, 1);
    assert_int_equal(m->embedding.type, RADAR_Q8_0);
    assert_ptr_equal(m->embedding.data, m->head.data);
    assert_int_equal(m->embedding.row_bytes, 576 / 32 * 34);
    assert_int_equal(m->layer[29].down.rows, 576);
    assert_int_equal(m->layer[29].down.cols, 1536);
    assert_null(m->layer[0].q_bias);
    assert_null(m->layer[0].q_norm);
    radar_model_close(m);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- the tiny models ---- */

static const struct {
    const char *folder, *family;
    int kv_heads, head_dim;
    radar_dtype type;
    bool tied, qkv_bias, o_bias, mlp_bias, qk_norm;
} kinds[] = {
    {"llama-tied-f32", "llama", 2, 16, RADAR_F32, true, false, false, false, false},
    {"llama-untied-f32", "llama", 2, 16, RADAR_F32, false, false, false, false, false},
    {"llama-headdim-bf16", "llama", 2, 32, RADAR_BF16, false, false, false, false, false},
    {"llama-bias-mha-f16", "llama", 4, 16, RADAR_F16, true, true, true, true, false},
    {"llama-llama3rope-f16", "llama", 2, 16, RADAR_F16, false, false, false, false, false},
    {"llama-sharded-bf16", "llama", 1, 16, RADAR_BF16, false, false, false, false, false},
    {"qwen2-qkvbias-bf16", "qwen2", 2, 16, RADAR_BF16, false, true, false, false, false},
    {"qwen3-qknorm-bf16", "qwen3", 2, 32, RADAR_BF16, true, false, false, false, true},
};

static void every_tiny_model_opens_with_what_its_kind_has(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[128];
        snprintf(path, sizeof path, TINY "%s", kinds[i].folder);
        radar_model *m = open_model(path);
        const radar_model_config *c = &m->config;
        const radar_layer *l = &m->layer[1];
        assert_string_equal(c->family, kinds[i].family);
        assert_string_equal(c->name, kinds[i].folder);
        assert_int_equal(c->n_layers, 2);
        assert_int_equal(c->n_heads, 4);
        assert_int_equal(c->n_kv_heads, kinds[i].kv_heads);
        assert_int_equal(c->head_dim, kinds[i].head_dim);
        assert_int_equal(c->rotary, c->head_dim);
        assert_int_equal(c->rope_style, RADAR_ROPE_HALF);
        assert_int_equal(c->context, 512);
        assert_int_equal(c->tied, kinds[i].tied);
        assert_int_equal(m->head.data == m->embedding.data, kinds[i].tied);
        assert_int_equal(c->n_eos == 1 && c->eos[0] == 2 && c->bos == 1, 1);
        assert_int_equal(l->q.type, kinds[i].type);
        assert_int_equal(l->q.rows, 4 * c->head_dim);
        assert_int_equal(l->v.rows, kinds[i].kv_heads * c->head_dim);
        assert_int_equal(l->o.cols, 4 * c->head_dim);
        assert_int_equal(l->gate.rows, 80);
        assert_int_equal(l->down.cols, 80);
        assert_int_equal(l->q_bias && l->k_bias && l->v_bias, kinds[i].qkv_bias);
        assert_int_equal(l->o_bias != NULL, kinds[i].o_bias);
        assert_int_equal(l->gate_bias && l->up_bias && l->down_bias, kinds[i].mlp_bias);
        assert_int_equal(l->q_norm && l->k_norm, kinds[i].qk_norm);
        assert_non_null(l->attn_norm);
        assert_non_null(l->ffn_norm);
        radar_model_close(m);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- GGUF in the three families ---- */

static radar_model *from_gguf(gguf *g, blob *b) {
    radar_tensorfile *tf = NULL;
    radar_model *m = NULL;
    radar_error err = {0};
    *b = gguf_bytes(g, NULL);
    if (radar_tensorfile_open_memory(&tf, b->data, b->n, NULL, &err) ||
        radar_model_from_file(&m, tf, &err))
        fail_msg("%s", err.text);
    return m;
}

static void gguf_of_each_family_opens_with_its_pairs(void **state) {
    (void)state;
    static const struct {
        const char *arch;
        radar_rope_style style;
    } rows[] = {
        {"llama", RADAR_ROPE_ADJACENT}, {"qwen2", RADAR_ROPE_HALF}, {"qwen3", RADAR_ROPE_HALF}};
    for (size_t i = 0; i < 3; i++) {
        tiny t = tiny_llama();
        blob b;
        t.arch = rows[i].arch;
        t.untied = i == 1;
        t.qkv_bias = i == 1;
        t.qk_norm = i == 2;
        t.matrix_type = T_Q8_0;
        gguf g = tiny_gguf(&t);
        radar_model *m = from_gguf(&g, &b);
        assert_string_equal(m->config.family, rows[i].arch);
        assert_int_equal(m->config.rope_style, rows[i].style);
        assert_int_equal(m->config.tied, i != 1);
        assert_int_equal(m->layer[0].q_bias != NULL, i == 1);
        assert_int_equal(m->layer[0].k_norm != NULL, i == 2);
        assert_int_equal(m->layer[0].q.type, RADAR_Q8_0);
        assert_true(m->layer[0].attn_norm[1] == 0.02f);
        radar_model_close(m);
        drop(&b);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

static void end_tokens_of_gguf_are_collected_once(void **state) {
    (void)state;
    tiny t = tiny_llama();
    blob b;
    gguf g = tiny_gguf(&t);
    key_u32(&g, "tokenizer.ggml.eot_token_id", 5);
    key_u32(&g, "tokenizer.ggml.eom_token_id", 2);
    radar_model *m = from_gguf(&g, &b);
    assert_int_equal(m->config.n_eos, 2);
    assert_int_equal(m->config.eos[0], 2);
    assert_int_equal(m->config.eos[1], 5);
    radar_model_close(m);
    drop(&b);
}

static void names_of_files_cannot_steer_a_terminal(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {{"plain", "plain"},
                {"a\033[31mb\n\177", "a?[31mb??"},
                {"\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8d",
                 "\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8d"},
                {"\xc2\x9b"
                 "1m",
                 "??1m"},
                {"\xff\xc3", "??"},
                {"\xed\xa0\x80", "???"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        radar_model_config c = {0};
        radar_model_set_name(&c, rows[i].text, strlen(rows[i].text));
        assert_string_equal(c.name, rows[i].want);
    }
    radar_model_config c = {0};
    char longest[400];
    memset(longest, 'x', sizeof longest);
    memcpy(longest + 126, "\xc3\xa9", 2); /* would be cut in the middle */
    radar_model_set_name(&c, longest, sizeof longest);
    assert_int_equal(strlen(c.name), 126);
}

/* ---- Hugging Face configurations ---- */

static void context_follows_scaling_and_windows(void **state) {
    (void)state;
    static const struct {
        const char *more;
        int64_t context;
    } rows[] = {
        {"", 128},
        {",\"sliding_window\":null", 128},
        {",\"sliding_window\":64,\"use_sliding_window\":false", 128},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}", 512},
        {",\"rope_scaling\":{\"rope_type\":\"default\"}", 128},
        {",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
         "\"high_freq_factor\":4,\"original_max_position_embeddings\":16}",
         128},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        blob b;
        radar_model *m = from_config(rows[i].more, &b);
        assert_int_equal(m->config.context, rows[i].context);
        radar_model_close(m);
        drop(&b);
    }
}

static char *replaced(const char *text, const char *from, const char *to) {
    static char out[4096];
    const char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void a_window_limits_the_context_of_mistral(void **state) {
    (void)state;
    radar_tensorfile *tf = NULL;
    radar_model *m = NULL;
    radar_error err = {0};
    char config[8192];
    snprintf(config, sizeof config, "%s",
             replaced(TINY_CONFIG, "LlamaForCausalLM", "MistralForCausalLM"));
    snprintf(config, sizeof config, "%s,\"sliding_window\":64}",
             replaced(config, "\"llama\"", "\"mistral\""));
    blob b = tiny_safetensors();
    assert_int_equal(radar_tensorfile_open_memory(&tf, b.data, b.n, config, &err), RADAR_OK);
    if (radar_model_from_file(&m, tf, &err)) fail_msg("%s", err.text);
    assert_string_equal(m->config.family, "llama");
    assert_int_equal(m->config.context, 64);
    radar_model_close(m);
    drop(&b);
}

/* ---- a folder with generation_config.json, and the cache ---- */

static void run(const char *command) { assert_int_equal(system(command), 0); }

static void lists_of_end_tokens_come_from_both_files(void **state) {
    (void)state;
    char folder[64] = "/tmp/radar-test-XXXXXX", path[128], command[256];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "cp " TINY "llama-tied-f32/* %s && chmod -R u+w %s", folder,
             folder);
    run(command);
    snprintf(path, sizeof path, "%s/generation_config.json", folder);
    const char *text = "{\"eos_token_id\":[7,2,9,7]}";
    assert_true(write_file(path, text, strlen(text)));
    radar_model *m = open_model(folder);
    assert_int_equal(m->config.n_eos, 3);
    assert_int_equal(m->config.eos[0], 7);
    assert_int_equal(m->config.eos[1], 2);
    assert_int_equal(m->config.eos[2], 9);
    radar_model_close(m);
    static const char *const bad[] = {"{\"eos_token_id\":128}",
                                      "{\"eos_token_id\":-1}",
                                      "{\"eos_token_id\":\"2\"}",
                                      "{\"eos_token_id\":[2.5]}",
                                      "{\"eos_token_id\":[10,11,12,13,14,15,16,17,18]}",
                                      "{"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        radar_error err = {0};
        assert_true(write_file(path, bad[i], strlen(bad[i])));
        assert_int_equal(radar_model_open(&m, folder, &err), RADAR_ERR_DATA);
        assert_null(m);
        assert_non_null(strstr(err.text, "generation_config.json"));
    }
    snprintf(command, sizeof command, "rm -rf %s", folder);
    run(command);
    assert_int_equal(radar_alloc_live(), 0);
}

static void repo_ids_are_found_in_the_cache(void **state) {
    (void)state;
    char root[64] = "/tmp/radar-test-XXXXXX", command[640], hub[96];
    assert_non_null(mkdtemp(root));
    snprintf(hub, sizeof hub, "%s/hub", root);
    snprintf(
        command, sizeof command,
        "d=%s/models--org--tiny-1.0; mkdir -p $d/refs $d/snapshots && printf abc123 >$d/refs/main"
        " && ln -s $PWD/" TINY "llama-tied-f32 $d/snapshots/abc123"
        " && mkdir -p %s/models--org--bad/refs && printf ../../etc >%s/models--org--bad/refs/main",
        hub, hub, hub);
    run(command);
    assert_int_equal(setenv("HF_HUB_CACHE", "", 1) | setenv("HF_HOME", root, 1), 0);
    radar_model *m = open_model("org/tiny-1.0");
    assert_string_equal(m->config.name, "org/tiny-1.0");
    radar_model_close(m);
    static const struct {
        const char *id;
        radar_status st;
    } rows[] = {{"org/none", RADAR_ERR_NO_INPUT},     {"org/bad", RADAR_ERR_DATA},
                {"org", RADAR_ERR_NO_INPUT},          {"../org", RADAR_ERR_NO_INPUT},
                {"org/..", RADAR_ERR_NO_INPUT},       {"a/b/c", RADAR_ERR_NO_INPUT},
                {"org/tiny 1.0", RADAR_ERR_NO_INPUT}, {"", RADAR_ERR_NO_INPUT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        radar_error err = {0};
        assert_int_equal(radar_model_open(&m, rows[i].id, &err), rows[i].st);
        assert_null(m);
        assert_true(err.text[0] != 0);
    }
    assert_int_equal(setenv("HF_HUB_CACHE", hub, 1) | setenv("HF_HOME", "/nonexistent", 1), 0);
    m = open_model("org/tiny-1.0");
    radar_model_close(m);
    snprintf(command, sizeof command, "rm -rf %s", root);
    run(command);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- memory ---- */

static int allocations_left;
static void *(*real_alloc)(size_t bytes);
static void *failing_alloc(size_t bytes) {
    return allocations_left-- > 0 ? real_alloc(bytes) : NULL;
}

static void every_failed_allocation_is_out_of_memory(void **state) {
    (void)state;
    real_alloc = radar_sys_table.alloc;
    radar_sys_table.alloc = failing_alloc;
    int n = 0;
    for (bool done = false; !done; n++) {
        radar_model *m = NULL;
        radar_error err = {0};
        allocations_left = n;
        radar_status st = radar_model_open(&m, TINY "llama-sharded-bf16", &err);
        done = st == RADAR_OK;
        if (!done) assert_int_equal(st, RADAR_ERR_MEMORY);
        radar_model_close(m);
        assert_int_equal(radar_alloc_live(), 0);
    }
    radar_sys_table.alloc = real_alloc;
    assert_true(n > 30);
}

/* ---- rotary frequencies ---- */

static double worst; /* relative */

static void near(double got, double want, int i) {
    double error = fabs(got - want) / want;
    if (error > worst) worst = error;
    if (!(error <= 1e-14)) fail_msg("frequency %d is %.17g, should be %.17g", i, got, want);
}

/* Llama 3.1 8B: D 128, theta 500000, factor 8, low 1, high 4, old context 8192.  Bands by hand: the wavelength of pair i is
 * 2 pi 500000^(i/64); it passes 8192/4 between pairs 28 and 29 and 8192 between pairs 34 and 35. */
static void llama3_frequencies_have_three_bands(void **state) {
    (void)state;
    radar_model_config c = {.rotary = 128,
                            .head_dim = 128,
                            .rope_theta = 500000,
                            .rope_scaling = RADAR_ROPE_SCALING_LLAMA3,
                            .rope_factor = 8,
                            .rope_low_freq = 1,
                            .rope_high_freq = 4,
                            .rope_original_context = 8192};
    double f[64];
    radar_rope_frequencies(f, &c, NULL);
    for (int i = 0; i < 64; i++) {
        double base = exp(-log(500000.0) * i / 64.0), turns = 8192 * base / (2 * acos(-1.0));
        double smooth =
            (turns - 1) /
            3; /* turns within the old context: 4 and more stay, 1 and less are scaled */
        double want = i <= 28 ? base : i >= 35 ? base / 8 : base * (smooth + (1 - smooth) / 8);
        assert_int_equal(turns > 4, i <= 28);
        assert_int_equal(turns < 1, i >= 35);
        near(f[i], want, i);
    }
    print_message("worst relative error %.2g\n", worst);
}

static void linear_and_partial_frequencies(void **state) {
    (void)state;
    double f[10], own[10];
    radar_model m = {.rope_frequency = own};
    radar_model_config c = {.rotary = 20,
                            .head_dim = 32,
                            .rope_theta = 10000,
                            .rope_scaling = RADAR_ROPE_SCALING_LINEAR,
                            .rope_factor = 4};
    m.config = c;
    radar_rope_frequencies(own, &c, NULL);
    assert_true(radar_rope_session(f, &m, 8192) == 1);
    for (int i = 0; i < 10; i++) near(f[i], exp(-log(10000.0) * i / 10.0) / 4, i);
    c.rope_scaling = RADAR_ROPE_SCALING_NONE;
    radar_rope_frequencies(f, &c, NULL);
    assert_true(f[0] == 1.0);
    for (int i = 0; i < 10; i++) near(f[i], exp(-log(10000.0) * i / 10.0), i);
}

static void stored_factors_divide_the_frequencies(void **state) {
    (void)state;
    tiny t = tiny_llama();
    blob b;
    t.rope_freqs = true;
    gguf g = tiny_gguf(&t);
    radar_model *m = from_gguf(&g, &b); /* factors 0.01, 0.02, 0.03, 0.04 */
    for (int i = 0; i < 4; i++) {
        float factor = 0.01f * (float)(i + 1);
        near(m->rope_frequency[i], exp(-log(10000.0) * i / 4.0) / factor, i);
    }
    assert_int_equal(m->config.rope_scaling, RADAR_ROPE_SCALING_LLAMA3);
    radar_model_close(m);
    drop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_demo_model_opens_with_its_configuration),
        cmocka_unit_test(every_tiny_model_opens_with_what_its_kind_has),
        cmocka_unit_test(gguf_of_each_family_opens_with_its_pairs),
        cmocka_unit_test(end_tokens_of_gguf_are_collected_once),
        cmocka_unit_test(names_of_files_cannot_steer_a_terminal),
        cmocka_unit_test(context_follows_scaling_and_windows),
        cmocka_unit_test(a_window_limits_the_context_of_mistral),
        cmocka_unit_test(lists_of_end_tokens_come_from_both_files),
        cmocka_unit_test(repo_ids_are_found_in_the_cache),
        cmocka_unit_test(every_failed_allocation_is_out_of_memory),
        cmocka_unit_test(llama3_frequencies_have_three_bands),
        cmocka_unit_test(linear_and_partial_frequencies),
        cmocka_unit_test(stored_factors_divide_the_frequencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
