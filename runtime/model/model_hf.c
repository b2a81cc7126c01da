/* The configuration of a Hugging Face model: config.json and generation_config.json.
 * What would change the result and is not known is refused by its name. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/model_internal.h"

/* Getters note the first failure and go on, so that the fields read as a list. */
typedef struct reader {
    const json_t *config;
    char path[192];
    radar_status st;
    radar_error *err;
} reader;

#define REQUIRED (-1)

static void refuse(reader *r, const char *key, const char *fact) {
    r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s %s", r->path, key, fact);
}

/* The member, NULL when it is absent or null. */
static const json_t *get(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_null(v) ? NULL : v;
}

static int64_t get_int(reader *r, const char *key, int64_t otherwise) {
    const json_t *v = get(r->config, key);
    if (json_is_integer(v)) return json_integer_value(v);
    if (v)
        refuse(r, key, "is no integer");
    else if (otherwise == REQUIRED)
        refuse(r, key, "is missing");
    return otherwise;
}

static int get_count(reader *r, const char *key, int64_t otherwise) {
    int64_t value = get_int(r, key, otherwise);
    if (value >= 0 && value <= INT_MAX) return (int)value;
    if (r->st == RADAR_OK)
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s is %" PRId64, r->path, key, value);
    return 0;
}

static double get_real(reader *r, const json_t *object, const char *key, double otherwise) {
    const json_t *v = get(object, key);
    if (json_is_number(v)) return json_number_value(v);
    if (v)
        refuse(r, key, "is no number");
    else if (otherwise == REQUIRED)
        refuse(r, key, "is missing");
    return otherwise;
}

static bool get_bool(reader *r, const char *key, bool otherwise) {
    const json_t *v = get(r->config, key);
    if (v && !json_is_boolean(v)) refuse(r, key, "is neither true nor false");
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static void refuse_text(reader *r, const char *key, const char *text) {
    r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s %s is not supported", r->path, key,
                       radar_show(text, strlen(text)).text);
}

/* ---- family ---- */

static void find_family(radar_model_plan *plan, reader *r) {
    const char *type = json_string_value(get(r->config, "model_type"));
    const json_t *list = get(r->config, "architectures");
    const char *arch = json_string_value(json_array_get(list, 0));
    if (!type && !arch) {
        refuse(r, "model_type", "is missing");
        return;
    }
    for (const radar_family *f = radar_families; f->name; f++) {
        bool match =
            (!type || !strcmp(type, f->model_type)) && (!arch || !strcmp(arch, f->architecture));
        if (match && !plan->family) plan->family = f;
    }
    if (plan->family) return;
    r->st = radar_fail(r->err, RADAR_ERR_DATA,
                       "%s: model_type %s with architecture %s is not supported; llama, mistral, "
                       "qwen2 and qwen3 for causal language modelling are",
                       r->path, type ? radar_show(type, strlen(type)).text : "(none)",
                       arch ? radar_show(arch, strlen(arch)).text : "(none)");
}

static void set_groups(radar_model_plan *plan, reader *r) {
    bool attention = get_bool(r, "attention_bias", false), mlp = get_bool(r, "mlp_bias", false);
    const radar_family *f = plan->family;
    plan->group[RADAR_GROUP_NORM] = RADAR_REQUIRED;
    plan->group[RADAR_GROUP_QK_NORM] = f->qk_norm ? RADAR_REQUIRED : RADAR_ABSENT;
    plan->group[RADAR_GROUP_QKV_BIAS] = f->qkv_bias || attention ? RADAR_REQUIRED : RADAR_ABSENT;
    plan->group[RADAR_GROUP_O_BIAS] = attention ? RADAR_REQUIRED : RADAR_ABSENT;
    plan->group[RADAR_GROUP_MLP_BIAS] = mlp ? RADAR_REQUIRED : RADAR_ABSENT;
}

/* ---- what is not supported ---- */

static void refuse_scales(reader *r) {
    static const char *const ones[] = {"attention_multiplier", "embedding_multiplier",
                                       "residual_multiplier",  "logits_scaling",
                                       "logit_scale",          "partial_rotary_factor"};
    static const char *const never[] = {
        "quantization_config",     "compression_config",    "attn_logit_softcapping",
        "final_logit_softcapping", "query_pre_attn_scalar", "num_experts",
        "num_local_experts",       "n_routed_experts",      "kv_lora_rank",
        "no_rope_layers",          "vision_config",         "text_config"};
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
        if (get_real(r, r->config, ones[i], 1) != 1)
            refuse(r, ones[i], "other than 1 is not supported");
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (get(r->config, never[i])) refuse(r, never[i], "is not supported");
}

static void refuse_others(reader *r) {
    const json_t *act = get(r->config, "hidden_act");
    const char *text = json_string_value(act);
    if (act && (!text || strcmp(text, "silu"))) refuse_text(r, "hidden_act", text ? text : "?");
    if (get_bool(r, "use_sliding_window", false))
        refuse(r, "use_sliding_window", "is not supported");
    if (get_bool(r, "is_encoder_decoder", false))
        refuse(r, "is_encoder_decoder", "is not supported");
    const json_t *types = get(r->config, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        text = json_string_value(json_array_get(types, i));
        if (!text || strcmp(text, "full_attention"))
            refuse_text(r, "layer_types", text ? text : "?");
    }
    refuse_scales(r);
}

/* ---- rope: transformers 5 has one object rope_parameters, before it were rope_theta and rope_scaling ---- */

static double magnitude(double factor, double weight) {
    return factor > 1 ? 0.1 * weight * log(factor) + 1 : 1;
}

/* mscale and mscale_all_dim, where both are there, weigh the attention factor. */
static void read_yarn(radar_model_config *c, reader *r, const json_t *rope) {
    double all = get_real(r, rope, "mscale_all_dim", 0), one = get_real(r, rope, "mscale", 0);
    c->rope_beta_fast = get_real(r, rope, "beta_fast", 32);
    c->rope_beta_slow = get_real(r, rope, "beta_slow", 1);
    c->rope_magnitude = get_real(r, rope, "attention_factor", 0);
    if (get(rope, "attention_factor") && !(c->rope_magnitude > 0))
        refuse(r, "attention_factor", "is not above 0");
    if (c->rope_magnitude == 0 && one != 0 && all != 0)
        c->rope_magnitude = magnitude(c->rope_factor, one) / magnitude(c->rope_factor, all);
    const json_t *truncate = get(rope, "truncate");
    if (truncate && !json_is_boolean(truncate)) refuse(r, "truncate", "is neither true nor false");
    c->rope_fractional = json_is_false(truncate);
}

/* What the file calls the context before scaling; 0: it does not say. */
static double read_original(reader *r, const json_t *rope, double otherwise) {
    const json_t *holder = get(rope, "original_max_position_embeddings") ? rope : r->config;
    return get_real(r, holder, "original_max_position_embeddings", otherwise);
}

static void read_scaling(radar_model_config *c, reader *r, const json_t *rope) {
    static const radar_rope_scaling known[] = {RADAR_ROPE_SCALING_LINEAR, RADAR_ROPE_SCALING_LLAMA3,
                                               RADAR_ROPE_SCALING_YARN, RADAR_ROPE_SCALING_DYNAMIC};
    const json_t *type = get(rope, "rope_type");
    if (!type) type = get(rope, "type");
    const char *text = json_string_value(type);
    if (get_real(r, rope, "partial_rotary_factor", 1) != 1)
        refuse(r, "partial_rotary_factor", "other than 1 is not supported");
    if (!type || (text && !strcmp(text, "default"))) {
        if (!type && get(rope, "factor")) refuse(r, "rope_scaling", "has no rope_type");
        return;
    }
    for (size_t i = 0; text && i < sizeof known / sizeof *known; i++)
        if (!strcmp(text, radar_rope_scaling_name(known[i]))) c->rope_scaling = known[i];
    if (c->rope_scaling == RADAR_ROPE_SCALING_NONE) {
        refuse_text(r, "rope_type", text ? text : "?");
        return;
    }
    c->rope_factor = get_real(r, rope, "factor", REQUIRED);
    if (c->rope_scaling == RADAR_ROPE_SCALING_LINEAR) return;
    bool llama3 = c->rope_scaling == RADAR_ROPE_SCALING_LLAMA3;
    if (c->rope_scaling == RADAR_ROPE_SCALING_YARN) read_yarn(c, r, rope);
    if (llama3) c->rope_low_freq = get_real(r, rope, "low_freq_factor", REQUIRED);
    if (llama3) c->rope_high_freq = get_real(r, rope, "high_freq_factor", REQUIRED);
    c->rope_original_context = read_original(r, rope, llama3 ? REQUIRED : 0);
}

static void read_rope(radar_model_config *c, reader *r) {
    const json_t *now = get(r->config, "rope_parameters"), *old = get(r->config, "rope_scaling");
    const json_t *rope = now ? now : old;
    c->rope_style = RADAR_ROPE_HALF;
    c->rotary = c->head_dim;
    c->rope_theta = get_real(r, r->config, "rope_theta", 10000);
    c->rope_factor = 1;
    if (!rope) return;
    if (now && old && !json_equal(now, old))
        refuse(r, "rope_parameters", "and rope_scaling differ; remove the wrong one");
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)rope, key, v) {
        if (json_is_object(v))
            refuse(r, "rope_parameters", "of single kinds of layers are not supported");
    }
    if (!json_is_object(rope)) refuse(r, now ? "rope_parameters" : "rope_scaling", "is no object");
    c->rope_theta = get_real(r, rope, "rope_theta", c->rope_theta);
    read_scaling(c, r, rope);
}

/* ---- shape, context, tokens ---- */

static void read_shape(radar_model_config *c, const radar_model_plan *plan, reader *r) {
    int by_family = plan->family->head_dim;
    c->n_layers = get_count(r, "num_hidden_layers", REQUIRED);
    c->width = get_count(r, "hidden_size", REQUIRED);
    c->inner = get_count(r, "intermediate_size", REQUIRED);
    c->vocab = get_count(r, "vocab_size", REQUIRED);
    c->n_heads = get_count(r, "num_attention_heads", REQUIRED);
    c->n_kv_heads = get_count(r, "num_key_value_heads", c->n_heads);
    c->head_dim = get_count(r, "head_dim",
                            by_family    ? by_family
                            : c->n_heads ? c->width / c->n_heads
                                         : 0);
    c->norm_eps = (float)get_real(r, r->config, "rms_norm_eps", 1e-6);
    c->context = get_int(r, "max_position_embeddings", REQUIRED);
    c->tied = get_bool(r, "tie_word_embeddings", false);
}

static void limit_context(radar_model_config *c, const radar_model_plan *plan, reader *r) {
    radar_rope_extend(c);
    if (!plan->family->window || get(r->config, "use_sliding_window")) return;
    int64_t window = get_int(r, "sliding_window", 0);
    if (window < 0) refuse(r, "sliding_window", "is negative");
    if (window > 0) c->window = window, c->context = radar_min64(c->context, window);
}

/* eos_token_id: absent, one number or a list. */
static void read_eos(radar_model_config *c, reader *r, const json_t *object, const char *file) {
    const json_t *v = get(object, "eos_token_id");
    size_t n = json_is_array(v) ? json_array_size(v) : v ? 1 : 0;
    for (size_t i = 0; i < n && r->st == RADAR_OK; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_integer(id))
            r->st = radar_model_add_eos(c, json_integer_value(id), file, r->err);
        else
            r->st = radar_fail(r->err, RADAR_ERR_DATA,
                               "%s: eos_token_id is neither a number nor a list of them", file);
    }
}

static void read_tokens(radar_model_config *c, reader *r, const radar_tensorfile *tf) {
    json_t *generation = NULL;
    r->st = radar_tensorfile_json(&generation, tf, "generation_config.json", r->err);
    if (r->st == RADAR_OK) read_eos(c, r, generation, "generation_config.json");
    if (r->st == RADAR_OK) read_eos(c, r, r->config, r->path);
    json_decref(generation);
    const json_t *bos = get(r->config, "bos_token_id");
    c->bos = -1;
    if (!bos || r->st != RADAR_OK) return;
    int64_t id = json_integer_value(bos);
    if (!json_is_integer(bos) || id < 0 || id >= c->vocab)
        refuse(r, "bos_token_id", "is no token of the vocabulary");
    else
        c->bos = (int32_t)id;
}

static void read_name(radar_model_config *c, const radar_tensorfile *tf) {
    size_t end = strlen(tf->path);
    while (end > 1 && tf->path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && tf->path[begin - 1] != '/') begin--;
    radar_model_set_name(c, tf->path + begin, end - begin);
}

radar_status radar_model_read_hf(radar_model_config *c, radar_model_plan *plan,
                                 const radar_tensorfile *tf, radar_error *err) {
    reader r = {.config = tf->config, .err = err};
    snprintf(r.path, sizeof r.path, "%s/config.json", radar_path_tail(tf->path));
    find_family(plan, &r);
    if (r.st != RADAR_OK) return r.st;
    c->family = plan->family->name;
    set_groups(plan, &r);
    read_name(c, tf);
    read_shape(c, plan, &r);
    refuse_others(&r);
    read_rope(c, &r);
    limit_context(c, plan, &r);
    if (r.st == RADAR_OK) read_tokens(c, &r, tf);
    return r.st;
}
