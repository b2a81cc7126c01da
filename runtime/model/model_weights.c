/* Every tensor of a model: found by the file's name for it, checked against the configuration, pointed at.
 * Tables say what there is; a tensor of the file that no table asks for is refused, since leaving it out would change the result. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/model_internal.h"
#include "runtime/sys.h"

typedef enum size { WIDTH, QUERY, KEY, INNER, HEAD, VOCAB } size;

typedef struct matrix_row {
    size_t member; /* of radar_layer */
    const char *gguf, *hf;
    size rows, cols;
} matrix_row;

typedef struct vector_row {
    size_t member;
    const char *gguf, *hf;
    size n;
    radar_group group;
} vector_row;

#define AT(name) offsetof(radar_layer, name)

static const matrix_row matrices[] = {
    {AT(q), "attn_q.weight", "self_attn.q_proj.weight", QUERY, WIDTH},
    {AT(k), "attn_k.weight", "self_attn.k_proj.weight", KEY, WIDTH},
    {AT(v), "attn_v.weight", "self_attn.v_proj.weight", KEY, WIDTH},
    {AT(o), "attn_output.weight", "self_attn.o_proj.weight", WIDTH, QUERY},
    {AT(gate), "ffn_gate.weight", "mlp.gate_proj.weight", INNER, WIDTH},
    {AT(up), "ffn_up.weight", "mlp.up_proj.weight", INNER, WIDTH},
    {AT(down), "ffn_down.weight", "mlp.down_proj.weight", WIDTH, INNER},
};

static const vector_row vectors[] = {
    {AT(attn_norm), "attn_norm.weight", "input_layernorm.weight", WIDTH, RADAR_GROUP_NORM},
    {AT(ffn_norm), "ffn_norm.weight", "post_attention_layernorm.weight", WIDTH, RADAR_GROUP_NORM},
    {AT(q_norm), "attn_q_norm.weight", "self_attn.q_norm.weight", HEAD, RADAR_GROUP_QK_NORM},
    {AT(k_norm), "attn_k_norm.weight", "self_attn.k_norm.weight", HEAD, RADAR_GROUP_QK_NORM},
    {AT(q_bias), "attn_q.bias", "self_attn.q_proj.bias", QUERY, RADAR_GROUP_QKV_BIAS},
    {AT(k_bias), "attn_k.bias", "self_attn.k_proj.bias", KEY, RADAR_GROUP_QKV_BIAS},
    {AT(v_bias), "attn_v.bias", "self_attn.v_proj.bias", KEY, RADAR_GROUP_QKV_BIAS},
    {AT(o_bias), "attn_output.bias", "self_attn.o_proj.bias", WIDTH, RADAR_GROUP_O_BIAS},
    {AT(gate_bias), "ffn_gate.bias", "mlp.gate_proj.bias", INNER, RADAR_GROUP_MLP_BIAS},
    {AT(up_bias), "ffn_up.bias", "mlp.up_proj.bias", INNER, RADAR_GROUP_MLP_BIAS},
    {AT(down_bias), "ffn_down.bias", "mlp.down_proj.bias", WIDTH, RADAR_GROUP_MLP_BIAS},
};

typedef struct loader {
    radar_model *m;
    const radar_model_plan *plan;
    const radar_tensorfile *tf;
    bool *used; /* [tensors] */
    radar_error *err;
} loader;

static int64_t size_of(const radar_model_config *c, size s) {
    switch (s) {
    case WIDTH:
        return c->width;
    case QUERY:
        return (int64_t)c->n_heads * c->head_dim;
    case KEY:
        return (int64_t)c->n_kv_heads * c->head_dim;
    case INNER:
        return c->inner;
    case HEAD:
        return c->head_dim;
    case VOCAB:
        return c->vocab;
    }
    return 0;
}

/* The file's own name in messages; of a path only its last part. */
static const char *file_of(const loader *l, const radar_tensor *t) {
    const char *path = t ? radar_tensorfile_where(l->tf, t) : l->tf->path;
    const char *slash = t ? strrchr(path, '/') : NULL;
    return radar_path_tail(slash ? slash + 1 : path);
}

static void write_shape(char *out, size_t room, const int64_t *dim, int n) {
    size_t at = 0;
    for (int i = 0; i < n && at < room; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%" PRId64, i ? "," : "[", dim[i]);
    if (at < room) snprintf(out + at, room - at, "]");
}

/* *out stays NULL when an optional tensor is absent. */
static radar_status find(const radar_tensor **out, loader *l, const char *name,
                         radar_presence presence, const int64_t *dim, int n_dims) {
    const radar_tensor *t = radar_tensorfile_find(l->tf, name);
    *out = NULL;
    if (presence == RADAR_ABSENT || (!t && presence == RADAR_OPTIONAL)) return RADAR_OK;
    if (!t)
        return radar_fail(l->err, RADAR_ERR_DATA,
                          "%s: tensor %s is missing; fetch or convert the model again",
                          file_of(l, NULL), name);
    bool same = t->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++) same = t->dim[i] == dim[i];
    if (!same) {
        char have[96], want[96];
        write_shape(have, sizeof have, t->dim, t->n_dims);
        write_shape(want, sizeof want, dim, n_dims);
        return radar_fail(l->err, RADAR_ERR_DATA, "%s: tensor %s is %s, config says %s",
                          file_of(l, t), name, have, want);
    }
    if (!t->supported)
        return radar_fail(l->err, RADAR_ERR_DATA,
                          "%s: tensor %s is %s: not supported yet; use a file in F32, F16, BF16, "
                          "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
                          file_of(l, t), name, t->type_name);
    l->used[t - radar_tensorfile_at(l->tf, 0)] = true;
    *out = t;
    return RADAR_OK;
}

static radar_status load_matrix(radar_matrix *out, loader *l, const char *name, size rows,
                                size cols) {
    const radar_tensor *t;
    int64_t dim[2] = {size_of(&l->m->config, rows), size_of(&l->m->config, cols)};
    radar_status st = find(&t, l, name, RADAR_REQUIRED, dim, 2);
    if (st != RADAR_OK) return st;
    *out = (radar_matrix){.type = t->type,
                          .rows = dim[0],
                          .cols = dim[1],
                          .data = t->data,
                          .row_bytes = t->bytes / (size_t)dim[0]};
    return RADAR_OK;
}

static radar_status load_vector(float **out, loader *l, const char *name, radar_presence presence,
                                int64_t n) {
    const radar_tensor *t;
    radar_status st = find(&t, l, name, presence, &n, 1);
    if (st != RADAR_OK || !t) return st;
    *out = radar_alloc_array((size_t)n, sizeof **out);
    if (!*out)
        return radar_fail(l->err, RADAR_ERR_MEMORY, "%s: no memory for %s", file_of(l, t), name);
    radar_dequantize(*out, t->type, t->data, 0, n);
    return RADAR_OK;
}

static radar_status load_layer(loader *l, int i) {
    radar_layer *layer = &l->m->layer[i];
    const char *prefix = l->tf->gguf ? "blk" : "model.layers";
    char name[128];
    radar_status st = RADAR_OK;
    for (size_t j = 0; st == RADAR_OK && j < sizeof matrices / sizeof *matrices; j++) {
        const matrix_row *row = &matrices[j];
        snprintf(name, sizeof name, "%s.%d.%s", prefix, i, l->tf->gguf ? row->gguf : row->hf);
        radar_matrix *out = (radar_matrix *)((char *)layer + row->member);
        st = load_matrix(out, l, name, row->rows, row->cols);
    }
    for (size_t j = 0; st == RADAR_OK && j < sizeof vectors / sizeof *vectors; j++) {
        const vector_row *row = &vectors[j];
        snprintf(name, sizeof name, "%s.%d.%s", prefix, i, l->tf->gguf ? row->gguf : row->hf);
        float **out = (float **)((char *)layer + row->member);
        st = load_vector(out, l, name, l->plan->group[row->group], size_of(&l->m->config, row->n));
    }
    return st;
}

static radar_status load_ends(loader *l) {
    radar_model *m = l->m;
    bool gguf = l->tf->gguf;
    radar_status st = load_matrix(
        &m->embedding, l, gguf ? "token_embd.weight" : "model.embed_tokens.weight", VOCAB, WIDTH);
    if (st == RADAR_OK && !m->config.tied)
        st = load_matrix(&m->head, l, gguf ? "output.weight" : "lm_head.weight", VOCAB, WIDTH);
    if (st == RADAR_OK && m->config.tied) m->head = m->embedding;
    if (st == RADAR_OK)
        st = load_vector(&m->final_norm, l, gguf ? "output_norm.weight" : "model.norm.weight",
                         RADAR_REQUIRED, m->config.width);
    return st;
}

static radar_status load_rope(loader *l) {
    radar_model *m = l->m;
    int n = m->config.rotary / 2;
    radar_status st = RADAR_OK;
    if (l->plan->rope_factors)
        st = load_vector(&m->rope_divisor, l, l->plan->rope_factors->name, RADAR_REQUIRED, n);
    for (int i = 0; st == RADAR_OK && m->rope_divisor && i < n; i++)
        if (!(m->rope_divisor[i] > 0 && isfinite(m->rope_divisor[i])))
            st = radar_fail(l->err, RADAR_ERR_DATA, "%s: tensor %s: element %d is %g",
                            file_of(l, l->plan->rope_factors), l->plan->rope_factors->name, i,
                            (double)m->rope_divisor[i]);
    if (st != RADAR_OK) return st;
    m->rope_frequency = radar_alloc_array((size_t)n, sizeof *m->rope_frequency);
    if (!m->rope_frequency)
        return radar_fail(l->err, RADAR_ERR_MEMORY, "no memory for %d rotary frequencies", n);
    radar_rope_frequencies(m->rope_frequency, &m->config, m->rope_divisor);
    return RADAR_OK;
}

/* What files carry beside a model's weights and what follows from the configuration. */
static bool is_redundant(const loader *l, const char *name) {
    static const char tail[] = ".rotary_emb.inv_freq";
    size_t n = strlen(name), n_tail = sizeof tail - 1;
    if (l->tf->gguf) return false;
    if (n > n_tail && !strcmp(name + n - n_tail, tail)) return true;
    return l->m->config.tied && !strcmp(name, "lm_head.weight");
}

static radar_status check_all_used(const loader *l) {
    for (size_t i = 0; i < radar_tensorfile_count(l->tf); i++) {
        const radar_tensor *t = radar_tensorfile_at(l->tf, i);
        if (!l->used[i] && !is_redundant(l, t->name))
            return radar_fail(l->err, RADAR_ERR_DATA,
                              "%s: tensor %s: a %s model of this configuration has no such tensor",
                              file_of(l, t), radar_show(t->name, strlen(t->name)).text,
                              l->m->config.family);
    }
    return RADAR_OK;
}

radar_status radar_model_load(radar_model *m, const radar_model_plan *plan, radar_error *err) {
    loader l = {m, plan, m->file, NULL, err};
    l.used = radar_alloc_array(radar_tensorfile_count(m->file), sizeof *l.used);
    m->layer = radar_alloc_array((size_t)m->config.n_layers, sizeof *m->layer);
    radar_status st = l.used && m->layer
                          ? load_ends(&l)
                          : radar_fail(err, RADAR_ERR_MEMORY, "no memory for the list of weights");
    for (int i = 0; st == RADAR_OK && i < m->config.n_layers; i++) st = load_layer(&l, i);
    if (st == RADAR_OK) st = load_rope(&l);
    if (st == RADAR_OK) st = check_all_used(&l);
    radar_free(l.used);
    return st;
}
