/* Models that must not open: what is not known is refused by its name, and shapes must be what the configuration says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>

#include "tests/unit/make_files.h"
#include "tests/unit/open_bytes.h"

/* ---- config.json ---- */

static const struct {
    const char *from, *to; /* replaced in the good configuration; from NULL: appended */
    const char *says;
} configs[] = {
    {NULL, ",\"rope_scaling\":{\"rope_type\":\"yarn\"}", "factor is missing"},
    {NULL, ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"beta_fast\":0.5}",
     "beta_fast is 0.5"},
    {NULL, ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"beta_slow\":0}", "beta_slow is 0"},
    {NULL, ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"truncate\":1}",
     "truncate is neither"},
    {NULL, ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"attention_factor\":-1}",
     "attention_factor is not above 0"},
    {NULL, ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":0.5}", "factor is 0.5"},
    {NULL, ",\"rope_scaling\":{\"type\":\"dynamic\"}", "factor is missing"},
    {NULL, ",\"rope_scaling\":{\"type\":\"su\",\"long_factor\":[1]}", "rope_type su"},
    {NULL, ",\"rope_scaling\":{\"rope_type\":\"longrope\"}", "rope_type longrope"},
    {NULL, ",\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[2,1,1]}", "rope_type mrope"},
    {NULL, ",\"rope_scaling\":{\"type\":7}", "rope_type ?"},
    {NULL, ",\"rope_scaling\":{\"factor\":4}", "rope_scaling has no rope_type"},
    {NULL, ",\"rope_scaling\":4", "rope_scaling is no object"},
    {NULL, ",\"rope_scaling\":{\"type\":\"linear\"}", "factor is missing"},
    {NULL, ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"4\"}", "factor is no number"},
    {NULL, ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", "factor is 0"},
    {NULL, ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":-2}", "factor is -2"},
    {NULL, ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}",
     "low_freq_factor is missing"},
    {NULL,
     ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
     "\"high_freq_factor\":4,\"original_max_position_embeddings\":8}",
     "high_freq_factor is 4"},
    {NULL,
     ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
     "\"high_freq_factor\":4,\"original_max_position_embeddings\":0}",
     "original context is 0"},
    {NULL,
     ",\"rope_scaling\":{\"rope_type\":\"default\"},\"rope_parameters\":{\"rope_type\":\"linear\"}",
     "rope_parameters and rope_scaling differ"},
    {NULL, ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1}}",
     "single kinds of layers"},
    {NULL, ",\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}",
     "partial_rotary_factor"},
    {NULL, ",\"partial_rotary_factor\":0.5", "partial_rotary_factor"},
    {NULL, ",\"use_sliding_window\":true", "use_sliding_window"},
    {NULL, ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]", "sliding_attention"},
    {NULL, ",\"quantization_config\":{\"quant_method\":\"gptq\"}", "quantization_config"},
    {NULL, ",\"num_local_experts\":8", "num_local_experts"},
    {NULL, ",\"num_experts\":128", "num_experts"},
    {NULL, ",\"logits_scaling\":8.0", "logits_scaling"},
    {NULL, ",\"final_logit_softcapping\":30.0", "final_logit_softcapping"},
    {NULL, ",\"attention_bias\":1", "attention_bias is neither true nor false"},
    {NULL, ",\"attention_bias\":true", "self_attn.q_proj.bias is missing"},
    {NULL, ",\"mlp_bias\":true", "mlp.gate_proj.bias is missing"},
    {"\"silu\"", "\"gelu\"", "hidden_act gelu"},
    {"\"silu\"", "true", "hidden_act ?"},
    {"\"llama\"", "\"gemma2\"", "model_type gemma2"},
    {"\"llama\"", "\"mixtral\"", "model_type mixtral"},
    {"\"llama\"", "\"qwen2\"", "with architecture LlamaForCausalLM"},
    {"LlamaForCausalLM", "LlamaForSequenceClassification", "LlamaForSequenceClassification"},
    {"LlamaForCausalLM", "x\\u001b[2J", "x?[2J"},
    {"\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"", "\"x\":1",
     "model_type is missing"},
    {"\"hidden_size\":32", "\"x\":1", "hidden_size is missing"},
    {"\"hidden_size\":32", "\"hidden_size\":\"32\"", "hidden_size is no integer"},
    {"\"hidden_size\":32", "\"hidden_size\":32.0", "hidden_size is no integer"},
    {"\"hidden_size\":32", "\"hidden_size\":0", "width is 0"},
    {"\"hidden_size\":32", "\"hidden_size\":-32", "hidden_size is -32"},
    {"\"hidden_size\":32", "\"hidden_size\":4294967328", "hidden_size is 4294967328"},
    {"\"hidden_size\":32", "\"hidden_size\":2147483647", "width is 2147483647"},
    {"\"hidden_size\":32", "\"hidden_size\":64",
     "model.embed_tokens.weight is [16,32], config says [16,64]"},
    {"\"num_hidden_layers\":1", "\"num_hidden_layers\":0", "number of layers is 0"},
    {"\"num_hidden_layers\":1", "\"num_hidden_layers\":1025", "number of layers is 1025"},
    {"\"num_hidden_layers\":1", "\"num_hidden_layers\":2",
     "model.layers.1.self_attn.q_proj.weight is missing"},
    {"\"num_attention_heads\":4", "\"num_attention_heads\":0", "number of heads is 0"},
    {"\"num_attention_heads\":4", "\"num_attention_heads\":65537", "number of heads is 65537"},
    {"\"num_attention_heads\":4", "\"num_attention_heads\":8",
     "self_attn.q_proj.weight is [32,32], config says [64,32]"},
    {"\"num_key_value_heads\":2", "\"num_key_value_heads\":0", "0 KV heads do not divide"},
    {"\"num_key_value_heads\":2", "\"num_key_value_heads\":3", "3 KV heads do not divide 4"},
    {"\"num_key_value_heads\":2", "\"num_key_value_heads\":1",
     "self_attn.k_proj.weight is [16,32], config says [8,32]"},
    {"\"head_dim\":8", "\"head_dim\":7", "head size is 7"},
    {"\"head_dim\":8", "\"head_dim\":0", "head size is 0"},
    {"\"head_dim\":8", "\"head_dim\":258", "head size is 258"},
    {"\"intermediate_size\":64", "\"intermediate_size\":0", "feed-forward width is 0"},
    {"\"intermediate_size\":64", "\"intermediate_size\":96", "config says [96,32]"},
    {"\"vocab_size\":16", "\"vocab_size\":0", "not in the vocabulary of 0"},
    {"\"vocab_size\":16", "\"vocab_size\":16777217", "vocabulary is 16777217"},
    {"\"vocab_size\":16", "\"vocab_size\":15", "config says [15,32]"},
    {"\"max_position_embeddings\":128", "\"x\":1", "max_position_embeddings is missing"},
    {"\"max_position_embeddings\":128", "\"max_position_embeddings\":0", "context is 0"},
    {"\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":0", "epsilon is 0"},
    {"\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":-1.0", "epsilon is -1"},
    {"\"rope_theta\":10000.0", "\"rope_theta\":0.5", "base is 0.5"},
    {"\"rope_theta\":10000.0", "\"rope_theta\":1e300", "base is 1e+300"},
    {"\"eos_token_id\":2", "\"eos_token_id\":16", "end-of-text token 16"},
    {"\"eos_token_id\":2", "\"eos_token_id\":4294967298", "end-of-text token 4294967298"},
    {"\"bos_token_id\":1", "\"bos_token_id\":-1", "bos_token_id is no token"},
    {"\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false", "lm_head.weight is missing"},
};

static void edit(char *out, size_t room, size_t i) {
    const char *good = TINY_CONFIG;
    if (!configs[i].from) {
        snprintf(out, room, "%s%s}", good, configs[i].to);
        return;
    }
    const char *at = strstr(good, configs[i].from);
    assert_non_null(at);
    snprintf(out, room, "%.*s%s%s}", (int)(at - good), good, configs[i].to,
             at + strlen(configs[i].from));
}

static void every_unknown_configuration_is_refused_by_name(void **state) {
    (void)state;
    blob b = tiny_safetensors();
    int wrong = 0;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        char config[2048];
        radar_error err, model = {0};
        edit(config, sizeof config, i);
        radar_status st = open_bytes(b.data, b.n, config, &err, &model);
        if (st != RADAR_OK || model.status != RADAR_ERR_DATA ||
            !strstr(model.text, configs[i].says)) {
            print_error("%s: %d \"%s\" \"%s\"\n", configs[i].to, model.status, err.text,
                        model.text);
            wrong++;
        }
    }
    drop(&b);
    assert_int_equal(wrong, 0);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- GGUF metadata ---- */

static void expect(gguf *g, const char *says) {
    radar_error err, model = {0};
    blob b = gguf_bytes(g, NULL);
    radar_status st = open_bytes(b.data, b.n, NULL, &err, &model);
    drop(&b);
    if (st != RADAR_OK || model.status != RADAR_ERR_DATA || !strstr(model.text, says))
        fail_msg("\"%s\": %d \"%s\" \"%s\"", says, model.status, err.text, model.text);
}

static void gguf_keys_that_change_the_arithmetic_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint32_t type;
        float real;
        uint32_t whole;
        const char *text, *says;
    } rows[] = {
        {"llama.rope.scaling.type", STRING, 0, 0, "dynamic", "rope scaling dynamic"},
        {"llama.rope.scaling.type", STRING, 0, 0, "longrope", "rope scaling longrope"},
        {"llama.rope.scaling.type", STRING, 0, 0, "linea", "rope scaling linea"},
        {"llama.rope.scaling.type", U32, 0, 1, NULL, "rope scaling"},
        {"llama.rope.scaling.factor", F32, -1, 0, NULL, "factor is -1"},
        {"llama.rope.scaling.factor", F32, NAN, 0, NULL, "factor is nan"},
        {"llama.rope.scaling.attn_factor", F32, 2, 0, NULL, "attn_factor is 2"},
        {"llama.rope.dimension_count", U32, 0, 7, NULL, "rotary size is 7"},
        {"llama.rope.dimension_count", U32, 0, 10, NULL, "rotary size is 10"},
        {"llama.rope.dimension_count", U32, 0, 0, NULL, "rotary size is 0"},
        {"llama.rope.dimension_sections", U32, 0, 1, NULL, "dimension_sections"},
        {"llama.expert_count", U32, 0, 8, NULL, "expert_count is 8"},
        {"llama.logit_scale", F32, 0.5f, 0, NULL, "logit_scale is 0.5"},
        {"llama.attention.scale", F32, 0.5f, 0, NULL, "attention.scale is 0.5"},
        {"llama.attention.causal", BOOL, 0, 0, NULL, "not causal"},
        {"llama.vocab_size", U32, 0, 17, NULL, "has 16 rows, llama.vocab_size is 17"},
        {"general.type", STRING, 0, 0, "adapter", "is a adapter"},
        {"tokenizer.ggml.eot_token_id", U32, 0, 16, NULL, "end-of-text token 16"},
        {"tokenizer.ggml.eom_token_id", U32, 0, 0xffffffffu, NULL, "token 4294967295"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tiny t = tiny_llama();
        gguf g = tiny_gguf(&t);
        if (rows[i].text)
            key_text(&g, rows[i].key, rows[i].text);
        else if (rows[i].type == F32)
            key_f32(&g, rows[i].key, rows[i].real);
        else if (rows[i].type == BOOL)
            key_bool(&g, rows[i].key, rows[i].whole);
        else
            key_u32(&g, rows[i].key, rows[i].whole);
        expect(&g, rows[i].says);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

static void gguf_shapes_out_of_range_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t member;
        uint32_t value;
        const char *says;
    } rows[] = {
        {offsetof(tiny, layers), 0, "number of layers is 0"}, /* division by zero in one parser */
        {offsetof(tiny, heads), 0, "number of heads is 0"},
        {offsetof(tiny, kv_heads), 0, "0 KV heads"},
        {offsetof(tiny, kv_heads), 3, "3 KV heads do not divide 4"},
        {offsetof(tiny, kv_heads), 0xffffffffu, "head_count_kv is 4294967295"},
        {offsetof(tiny, head_dim), 0, "head size is 0"},
        {offsetof(tiny, width), 0, "width is 0"},
        {offsetof(tiny, inner), 0x7fffffffu, "feed-forward width is 2147483647"},
        {offsetof(tiny, layers), 0x80000000u, "block_count is 2147483648"},
        {offsetof(tiny, width), 64, "token_embd.weight is [16,32], config says [16,64]"},
        {offsetof(tiny, inner), 32, "blk.0.ffn_gate.weight is [64,32], config says [32,32]"},
        {offsetof(tiny, layers), 2, "blk.1.attn_q.weight is missing"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tiny t = tiny_llama(), claimed = t;
        memcpy((char *)&claimed + rows[i].member, &rows[i].value, sizeof rows[i].value);
        gguf g = gguf_new();
        tiny_keys(&g, &claimed);
        tiny_tensors(&g, &t);
        expect(&g, rows[i].says);
    }
}

static void gguf_of_unknown_architecture_is_refused(void **state) {
    (void)state;
    static const char *const archs[] = {"gemma2", "llama4", "qwen3moe", "phi3", "lla", ""};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        tiny t = tiny_llama();
        char says[64];
        t.arch = archs[i];
        gguf g = tiny_gguf(&t);
        snprintf(says, sizeof says, "architecture %s is not supported", archs[i]);
        expect(&g, says);
    }
    gguf none = gguf_new();
    gguf_tensor(&none, "a", 1, 1, T_F32);
    expect(&none, "general.architecture is missing");
}

static void gguf_with_a_list_for_each_layer_is_refused(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "llama");
    blob *b = key_array(&g, "llama.feed_forward_length", U32, 1);
    put_u32(b, 64);
    tiny_key(&g, &t, "block_count", 1);
    tiny_key(&g, &t, "embedding_length", 32);
    tiny_tensors(&g, &t);
    expect(&g, "llama.feed_forward_length is no integer (a list");
}

/* ---- tensors ---- */

static void quantised_types_without_code_are_refused_by_name(void **state) {
    (void)state;
    tiny t = tiny_llama();
    t.width = 256;
    t.head_dim = 64;
    t.inner = 256;
    t.matrix_type = T_Q3_K;
    gguf g = tiny_gguf(&t);
    expect(&g, "memory: tensor token_embd.weight is Q3_K: not supported yet; use a file in F32, "
               "F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K");
}

static void missing_and_surplus_tensors_are_refused(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = tiny_gguf(&t);
    gguf_tensor(&g, "blk.0.ffn_gate_exps.weight", 2, 32, T_F32);
    expect(&g, "tensor blk.0.ffn_gate_exps.weight: a llama model of this configuration");
    g = tiny_gguf(&t);
    gguf_tensor(&g, "rope_factors_long.weight", 0, 4, T_F32);
    expect(&g, "rope_factors_long.weight");
    t.qk_norm = true; /* of Qwen 3 */
    g = tiny_gguf(&t);
    expect(&g, "attn_q_norm.weight: a llama model");
    t = tiny_llama();
    t.arch = "qwen2";
    g = tiny_gguf(&t);
    expect(&g, "blk.0.attn_q.bias is missing");
    t.arch = "qwen3";
    g = tiny_gguf(&t);
    expect(&g, "blk.0.attn_q_norm.weight is missing");
}

static void rope_factors_must_be_positive_and_alone(void **state) {
    (void)state;
    tiny t = tiny_llama();
    gguf g = tiny_gguf(&t);
    gguf_tensor(&g, "rope_freqs.weight", 0, 4, T_F16); /* zeros */
    expect(&g, "rope_freqs.weight: element 0 is 0");
    g = tiny_gguf(&t);
    gguf_tensor(&g, "rope_freqs.weight", 0, 5, T_F32);
    expect(&g, "rope_freqs.weight is [5], config says [4]");
    t.rope_freqs = true;
    g = tiny_gguf(&t);
    key_f32(&g, "llama.rope.scaling.factor", 2);
    expect(&g, "together: not supported");
}

/* A file that opens has not all been read: the weights stay untouched, so a header is enough to refuse. */
static void changed_bytes_of_the_configuration_never_crash(void **state) {
    (void)state;
    blob b = tiny_safetensors();
    char config[2048];
    static const char other[] = "0129-.{}[]\",:eatn\\\x80 ";
    snprintf(config, sizeof config,
             TINY_CONFIG ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
                         "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                         "\"original_max_position_embeddings\":32}}");
    for (size_t i = 0; config[i]; i++)
        for (size_t j = 0; j + 1 < sizeof other; j++) {
            radar_error err, model = {0};
            char kept = config[i];
            config[i] = other[j];
            radar_status st = open_bytes(b.data, b.n, config, &err, &model);
            config[i] = kept;
            assert_true(st == RADAR_OK || st == RADAR_ERR_DATA);
            assert_true(model.status == RADAR_OK || model.status == RADAR_ERR_DATA);
        }
    drop(&b);
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unknown_configuration_is_refused_by_name),
        cmocka_unit_test(gguf_keys_that_change_the_arithmetic_are_refused),
        cmocka_unit_test(gguf_shapes_out_of_range_are_refused),
        cmocka_unit_test(gguf_of_unknown_architecture_is_refused),
        cmocka_unit_test(gguf_with_a_list_for_each_layer_is_refused),
        cmocka_unit_test(quantised_types_without_code_are_refused_by_name),
        cmocka_unit_test(missing_and_surplus_tensors_are_refused),
        cmocka_unit_test(rope_factors_must_be_positive_and_alone),
        cmocka_unit_test(changed_bytes_of_the_configuration_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
