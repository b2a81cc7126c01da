/* The configuration of a GGUF model, from its metadata.  What would change the result and is not known is refused. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/model_internal.h"

/* Getters note the first failure and go on, so that the fields read as a list. */
typedef struct reader {
    const radar_tensorfile *tf;
    const char *path, *arch;
    radar_status st;
    radar_error *err;
} reader;

typedef struct key {
    char text[96];
} key;

static key full_key(const reader *r, const char *name) {
    key k;
    snprintf(k.text, sizeof k.text, "%s.%s", r->arch, name);
    return k;
}

static bool has(const reader *r, const char *name) {
    return radar_gguf_find(&r->tf->meta, full_key(r, name).text);
}

/* otherwise: when the key is absent; negative: it must be there. */
static int64_t get_int(reader *r, const char *name, int64_t otherwise) {
    key k = full_key(r, name);
    int64_t value = otherwise;
    if (radar_gguf_int(r->tf, k.text, &value)) return value;
    if (has(r, name))
        r->st =
            radar_fail(r->err, RADAR_ERR_DATA,
                       "%s: %s is no integer (a list would be one value a layer: not supported)",
                       r->path, k.text);
    else if (otherwise < 0)
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s is missing; convert the model again",
                           r->path, k.text);
    return otherwise;
}

static int get_count(reader *r, const char *name, int64_t otherwise) {
    int64_t value = get_int(r, name, otherwise);
    if (value >= 0 && value <= INT_MAX) return (int)value;
    if (r->st == RADAR_OK)
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s is %" PRId64, r->path,
                           full_key(r, name).text, value);
    return 0;
}

static double get_real(reader *r, const char *name, double otherwise) {
    key k = full_key(r, name);
    double value = otherwise;
    if (radar_gguf_real(r->tf, k.text, &value)) return value;
    if (has(r, name) || otherwise < 0)
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s is %s", r->path, k.text,
                           has(r, name) ? "no number" : "missing; convert the model again");
    return otherwise;
}

/* Keys that change the arithmetic: only the value that changes nothing is taken. */
static void refuse_others(reader *r) {
    static const struct {
        const char *name;
        double harmless;
    } known[] = {
        {"expert_count", 0},
        {"nextn_predict_layers", 0},
        {"logit_scale", 1},
        {"embedding_scale", 1},
        {"residual_scale", 1},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attention.temperature_length", 0},
    };
    static const char *const never[] = {"rope.dimension_sections",
                                        "attention.sliding_window_pattern",
                                        "attention.key_length_mla", "attention.kv_lora_rank"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double value = get_real(r, known[i].name, known[i].harmless);
        if (value != known[i].harmless && value != 0)
            r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s is %g: not supported", r->path,
                               full_key(r, known[i].name).text, value);
    }
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (has(r, never[i]))
            r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: %s is set: not supported", r->path,
                               full_key(r, never[i]).text);
    bool causal = true;
    if (radar_gguf_bool(r->tf, full_key(r, "attention.causal").text, &causal) && !causal)
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: attention is not causal: not supported",
                           r->path);
}

/* Yarn as llama.cpp's converter writes it: both attention factors multiply 0.1 ln s + 1. */
static void read_yarn(radar_model_config *c, reader *r) {
    double times = get_real(r, "rope.scaling.attn_factor", 1) *
                   get_real(r, "rope.scaling.yarn_attn_factor", 1);
    double extrapolation = get_real(r, "rope.scaling.yarn_ext_factor", 1);
    c->rope_beta_fast = get_real(r, "rope.scaling.yarn_beta_fast", 32);
    c->rope_beta_slow = get_real(r, "rope.scaling.yarn_beta_slow", 1);
    c->rope_original_context = get_real(r, "rope.scaling.original_context_length", 0);
    if (times != 1) c->rope_magnitude = times * (0.1 * log(fmax(c->rope_factor, 1)) + 1);
    if (!(times > 0))
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: rope.scaling.attn_factor is %g", r->path,
                           times);
    if (extrapolation != 1)
        r->st = radar_fail(r->err, RADAR_ERR_DATA,
                           "%s: rope.scaling.yarn_ext_factor is %g: not supported", r->path,
                           extrapolation);
}

static void read_scaling(radar_model_config *c, radar_model_plan *plan, reader *r) {
    const char *type = "";
    size_t bytes = 0;
    bool typed = radar_gguf_string(r->tf, full_key(r, "rope.scaling.type").text, &type, &bytes);
    bool none = typed && bytes == 4 && !memcmp(type, "none", 4);
    bool linear = typed && bytes == 6 && !memcmp(type, "linear", 6);
    bool yarn = typed && bytes == 4 && !memcmp(type, "yarn", 4);
    if (has(r, "rope.scaling.type") && !none && !linear && !yarn)
        r->st = radar_fail(r->err, RADAR_ERR_DATA,
                           "%s: rope scaling %s: not supported; linear and yarn are", r->path,
                           radar_show(type, bytes).text);
    double factor = get_real(r, "rope.scaling.factor", get_real(r, "rope.scale_linear", 0));
    plan->rope_factors = radar_tensorfile_find(r->tf, "rope_freqs.weight");
    c->rope_factor = factor != 0 ? factor : 1;
    if (!none && c->rope_factor != 1)
        c->rope_scaling = yarn ? RADAR_ROPE_SCALING_YARN : RADAR_ROPE_SCALING_LINEAR;
    if (c->rope_scaling == RADAR_ROPE_SCALING_YARN)
        read_yarn(c, r);
    else if (get_real(r, "rope.scaling.attn_factor", 1) != 1)
        r->st = radar_fail(r->err, RADAR_ERR_DATA,
                           "%s: rope.scaling.attn_factor is %g: not supported without yarn",
                           r->path, get_real(r, "rope.scaling.attn_factor", 1));
    if (!plan->rope_factors) return;
    if (c->rope_scaling != RADAR_ROPE_SCALING_NONE)
        r->st =
            radar_fail(r->err, RADAR_ERR_DATA,
                       "%s: rope_freqs.weight and rope.scaling.factor %g together: not supported",
                       r->path, c->rope_factor);
    c->rope_scaling = RADAR_ROPE_SCALING_LLAMA3;
}

static void read_shape(radar_model_config *c, reader *r) {
    c->n_layers = get_count(r, "block_count", -1);
    c->width = get_count(r, "embedding_length", -1);
    c->inner = get_count(r, "feed_forward_length", -1);
    c->n_heads = get_count(r, "attention.head_count", -1);
    c->n_kv_heads = get_count(r, "attention.head_count_kv", c->n_heads);
    c->head_dim = get_count(r, "attention.key_length", c->n_heads ? c->width / c->n_heads : 0);
    c->rotary = get_count(r, "rope.dimension_count", c->head_dim);
    c->context = get_int(r, "context_length", -1);
    c->norm_eps = (float)get_real(r, "attention.layer_norm_rms_epsilon", -1);
    c->rope_theta = get_real(r, "rope.freq_base", 10000);
    int values = get_count(r, "attention.value_length", c->head_dim);
    if (r->st == RADAR_OK && values != c->head_dim)
        r->st = radar_fail(r->err, RADAR_ERR_DATA,
                           "%s: keys of %d and values of %d elements: not supported", r->path,
                           c->head_dim, values);
    double scale = get_real(r, "attention.scale", 0);
    if (scale != 0 && !(fabs(scale * sqrt(c->head_dim) - 1) <= 1e-5))
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: attention.scale is %g: not supported",
                           r->path, scale);
}

static void limit_context(radar_model_config *c, reader *r) {
    int64_t window = get_int(r, "attention.sliding_window", 0);
    radar_rope_extend(c);
    if (window > 0) c->window = window, c->context = radar_min64(c->context, window);
}

/* The vocabulary is what the embedding has rows for. */
static void read_vocab(radar_model_config *c, reader *r) {
    const radar_tensor *t = radar_tensorfile_find(r->tf, "token_embd.weight");
    if (!t || t->n_dims != 2 || t->dim[0] > INT_MAX) {
        r->st = radar_fail(r->err, RADAR_ERR_DATA, "%s: tensor token_embd.weight %s", r->path,
                           t ? "is no matrix" : "is missing");
        return;
    }
    c->vocab = (int)t->dim[0];
    int64_t said = get_int(r, "vocab_size", c->vocab);
    if (said != c->vocab)
        r->st = radar_fail(r->err, RADAR_ERR_DATA,
                           "%s: tensor token_embd.weight has %d rows, %s.vocab_size is %" PRId64,
                           r->path, c->vocab, r->arch, said);
    c->tied = !radar_tensorfile_find(r->tf, "output.weight");
}

static void read_tokens(radar_model_config *c, reader *r) {
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && r->st == RADAR_OK; i++)
        if (radar_gguf_int(r->tf, ends[i], &id))
            r->st = radar_model_add_eos(c, id, r->path, r->err);
    c->bos = -1;
    if (!radar_gguf_int(r->tf, "tokenizer.ggml.bos_token_id", &id)) return;
    if (id < 0 || id >= c->vocab)
        r->st =
            radar_fail(r->err, RADAR_ERR_DATA,
                       "%s: tokenizer.ggml.bos_token_id %" PRId64 " is not in the vocabulary of %d",
                       r->path, id, c->vocab);
    else
        c->bos = (int32_t)id;
}

static radar_status find_family(radar_model_plan *plan, reader *r) {
    const char *text, *type;
    size_t bytes, type_bytes;
    if (!radar_gguf_string(r->tf, "general.architecture", &text, &bytes))
        return radar_fail(r->err, RADAR_ERR_DATA, "%s: general.architecture is missing", r->path);
    if (radar_gguf_string(r->tf, "general.type", &type, &type_bytes) &&
        (type_bytes != 5 || memcmp(type, "model", 5)))
        return radar_fail(r->err, RADAR_ERR_DATA, "%s: is a %s, no model", r->path,
                          radar_show(type, type_bytes).text);
    for (const radar_family *f = radar_families; f->name; f++)
        if (f->gguf && strlen(f->gguf) == bytes && !memcmp(f->gguf, text, bytes)) plan->family = f;
    if (!plan->family)
        return radar_fail(r->err, RADAR_ERR_DATA,
                          "%s: architecture %s is not supported; llama, qwen2 and qwen3 are",
                          r->path, radar_show(text, bytes).text);
    r->arch = plan->family->gguf;
    return RADAR_OK;
}

static void set_groups(radar_model_plan *plan) {
    const radar_family *f = plan->family;
    plan->group[RADAR_GROUP_NORM] = RADAR_REQUIRED;
    plan->group[RADAR_GROUP_QK_NORM] = f->qk_norm ? RADAR_REQUIRED : RADAR_ABSENT;
    plan->group[RADAR_GROUP_QKV_BIAS] = f->qkv_bias ? RADAR_REQUIRED : RADAR_OPTIONAL;
    plan->group[RADAR_GROUP_O_BIAS] = RADAR_OPTIONAL;
    plan->group[RADAR_GROUP_MLP_BIAS] = RADAR_OPTIONAL;
}

static void read_name(radar_model_config *c, const reader *r) {
    const char *text;
    size_t bytes;
    if (!radar_gguf_string(r->tf, "general.name", &text, &bytes) || !bytes) {
        const char *slash = strrchr(r->tf->path, '/');
        text = slash ? slash + 1 : r->tf->path;
        bytes = strlen(text);
    }
    radar_model_set_name(c, text, bytes);
}

radar_status radar_model_read_gguf(radar_model_config *c, radar_model_plan *plan,
                                   const radar_tensorfile *tf, radar_error *err) {
    reader r = {tf, radar_path_tail(tf->path), "", RADAR_OK, err};
    r.st = find_family(plan, &r);
    if (r.st != RADAR_OK) return r.st;
    c->family = plan->family->name;
    c->rope_style = plan->family->gguf_rope;
    set_groups(plan);
    read_name(c, &r);
    read_shape(c, &r);
    refuse_others(&r);
    read_scaling(c, plan, &r);
    limit_context(c, &r);
    if (r.st == RADAR_OK) read_vocab(c, &r);
    if (r.st == RADAR_OK) read_tokens(c, &r);
    return r.st;
}
