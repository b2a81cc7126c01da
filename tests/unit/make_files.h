/* make_files.h - writes GGUF and safetensors files in memory, good ones and broken ones; for tests and fuzzing seeds. */
#ifndef MAKE_FILES_H
#define MAKE_FILES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes that grow ---- */

typedef struct blob {
    unsigned char *data;
    size_t n, room;
} blob;

static inline void put(blob *b, const void *data, size_t n) {
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n) + 64;
        b->data = realloc(b->data, b->room);
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
}
static inline void put_u8(blob *b, uint8_t x) { put(b, &x, sizeof x); }
static inline void put_u32(blob *b, uint32_t x) { put(b, &x, sizeof x); }
static inline void put_u64(blob *b, uint64_t x) { put(b, &x, sizeof x); }
static inline void put_f32(blob *b, float x) { put(b, &x, sizeof x); }
static inline void put_f64(blob *b, double x) { put(b, &x, sizeof x); }
static inline void put_zeros(blob *b, size_t n) {
    static const unsigned char zeros[4096];
    for (; n > sizeof zeros; n -= sizeof zeros) put(b, zeros, sizeof zeros);
    put(b, zeros, n);
}
static inline void put_text(blob *b, const char *text) {
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}
static inline void drop(blob *b) {
    free(b->data);
    *b = (blob){0};
}

/* ---- GGUF ---- */

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 }; /* value types */
enum {
    T_F32 = 0,
    T_F16 = 1,
    T_Q4_0 = 2,
    T_Q4_1 = 3,
    T_Q5_0 = 6,
    T_Q5_1 = 7,
    T_Q8_0 = 8,
    T_Q3_K = 11,
    T_Q4_K = 12,
    T_Q5_K = 13,
    T_Q6_K = 14,
    T_BF16 = 30
};

/* A file in its parts; a test may bend any of them before gguf_bytes puts them together. */
typedef struct gguf {
    char magic[5];
    uint32_t version;
    uint64_t n_tensors, n_keys;
    blob keys, list, data;
    size_t alignment;
} gguf;

static inline gguf gguf_new(void) { return (gguf){.magic = "GGUF", .version = 3, .alignment = 32}; }

/* The head of a key; its value follows. */
static inline blob *gguf_key(gguf *g, const char *key, uint32_t type) {
    put_text(&g->keys, key);
    put_u32(&g->keys, type);
    g->n_keys++;
    return &g->keys;
}
static inline void key_u32(gguf *g, const char *key, uint32_t x) {
    put_u32(gguf_key(g, key, U32), x);
}
static inline void key_f32(gguf *g, const char *key, float x) { put_f32(gguf_key(g, key, F32), x); }
static inline void key_bool(gguf *g, const char *key, bool x) { put_u8(gguf_key(g, key, BOOL), x); }
static inline void key_text(gguf *g, const char *key, const char *x) {
    put_text(gguf_key(g, key, STRING), x);
}
static inline blob *key_array(gguf *g, const char *key, uint32_t item, uint64_t n) {
    blob *b = gguf_key(g, key, ARRAY);
    put_u32(b, item);
    put_u64(b, n);
    return b;
}

static inline void gguf_entry(gguf *g, const char *name, uint32_t n_dims, const uint64_t *dim,
                              uint32_t type, uint64_t offset) {
    put_text(&g->list, name);
    put_u32(&g->list, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) put_u64(&g->list, dim[i]);
    put_u32(&g->list, type);
    put_u64(&g->list, offset);
    g->n_tensors++;
}

/* Small values that differ: F32 gets numbers, other types get bytes that are small in any of them. */
static inline void put_values(blob *b, uint32_t type, size_t bytes) {
    if (type == T_F32)
        for (size_t i = 0; i < bytes / 4; i++) put_f32(b, 0.01f * (float)(i % 7 + 1));
    else
        put_zeros(b, bytes);
}

/* A tensor with its data; rows 0: a vector. */
static inline void gguf_tensor(gguf *g, const char *name, uint64_t rows, uint64_t cols,
                               uint32_t type) {
    static const size_t block[31] = {
        [T_Q4_0] = 32,  [T_Q4_1] = 32,  [T_Q5_0] = 32,  [T_Q5_1] = 32, [T_Q8_0] = 32,
        [T_Q3_K] = 256, [T_Q4_K] = 256, [T_Q5_K] = 256, [T_Q6_K] = 256};
    static const size_t size[31] = {[T_F32] = 4,    [T_F16] = 2,    [T_BF16] = 2,   [T_Q4_0] = 18,
                                    [T_Q4_1] = 20,  [T_Q5_0] = 22,  [T_Q5_1] = 24,  [T_Q8_0] = 34,
                                    [T_Q3_K] = 110, [T_Q4_K] = 144, [T_Q5_K] = 176, [T_Q6_K] = 210};
    uint64_t dim[2] = {cols, rows};
    size_t per = block[type] ? block[type] : 1;
    put_zeros(&g->data, (g->alignment - g->data.n % g->alignment) % g->alignment);
    gguf_entry(g, name, rows ? 2 : 1, dim, type, g->data.n);
    put_values(&g->data, type, (rows ? rows : 1) * (cols / per) * size[type]);
}

/* The file; *header (may be NULL) is where its data begins.  Frees the parts. */
static inline blob gguf_bytes(gguf *g, size_t *header) {
    blob b = {0};
    put(&b, g->magic, 4);
    put_u32(&b, g->version);
    put_u64(&b, g->n_tensors);
    put_u64(&b, g->n_keys);
    put(&b, g->keys.data, g->keys.n);
    put(&b, g->list.data, g->list.n);
    if (g->data.n) put_zeros(&b, (g->alignment - b.n % g->alignment) % g->alignment);
    if (header) *header = b.n;
    put(&b, g->data.data, g->data.n);
    drop(&g->keys);
    drop(&g->list);
    drop(&g->data);
    return b;
}

/* ---- a tiny model: what differs from it is told in a struct ---- */

typedef struct tiny {
    const char *arch;
    uint32_t layers, width, heads, kv_heads, head_dim, inner, vocab;
    uint32_t matrix_type;
    bool untied, qkv_bias, qk_norm, rope_freqs;
} tiny;

static inline tiny tiny_llama(void) {
    return (tiny){"llama", 1, 32, 4, 2, 8, 64, 16, T_F32, false, false, false, false};
}

static inline void tiny_key(gguf *g, const tiny *t, const char *name, uint32_t x) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", t->arch, name);
    key_u32(g, key, x);
}

static inline void tiny_keys(gguf *g, const tiny *t) {
    char key[96];
    key_text(g, "general.architecture", t->arch);
    key_text(g, "general.name", "tiny");
    tiny_key(g, t, "block_count", t->layers);
    tiny_key(g, t, "context_length", 128);
    tiny_key(g, t, "embedding_length", t->width);
    tiny_key(g, t, "feed_forward_length", t->inner);
    tiny_key(g, t, "attention.head_count", t->heads);
    tiny_key(g, t, "attention.head_count_kv", t->kv_heads);
    tiny_key(g, t, "attention.key_length", t->head_dim);
    tiny_key(g, t, "attention.value_length", t->head_dim);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", t->arch);
    key_f32(g, key, 1e-5f);
    snprintf(key, sizeof key, "%s.rope.freq_base", t->arch);
    key_f32(g, key, 10000.0f);
    key_u32(g, "tokenizer.ggml.eos_token_id", 2);
    key_u32(g, "tokenizer.ggml.bos_token_id", 1);
}

static inline void tiny_tensor(gguf *g, uint32_t layer, const char *name, uint64_t rows,
                               uint64_t cols, uint32_t type) {
    char full[96];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    gguf_tensor(g, full, rows, cols, type);
}

static inline void tiny_layer(gguf *g, const tiny *t, uint32_t i) {
    uint32_t q = t->heads * t->head_dim, kv = t->kv_heads * t->head_dim, type = t->matrix_type;
    tiny_tensor(g, i, "attn_norm.weight", 0, t->width, T_F32);
    tiny_tensor(g, i, "attn_q.weight", q, t->width, type);
    tiny_tensor(g, i, "attn_k.weight", kv, t->width, type);
    tiny_tensor(g, i, "attn_v.weight", kv, t->width, type);
    tiny_tensor(g, i, "attn_output.weight", t->width, q, type);
    tiny_tensor(g, i, "ffn_norm.weight", 0, t->width, T_F32);
    tiny_tensor(g, i, "ffn_gate.weight", t->inner, t->width, type);
    tiny_tensor(g, i, "ffn_up.weight", t->inner, t->width, type);
    tiny_tensor(g, i, "ffn_down.weight", t->width, t->inner, type);
    if (t->qkv_bias) {
        tiny_tensor(g, i, "attn_q.bias", 0, q, T_F32);
        tiny_tensor(g, i, "attn_k.bias", 0, kv, T_F32);
        tiny_tensor(g, i, "attn_v.bias", 0, kv, T_F32);
    }
    if (t->qk_norm) {
        tiny_tensor(g, i, "attn_q_norm.weight", 0, t->head_dim, T_F32);
        tiny_tensor(g, i, "attn_k_norm.weight", 0, t->head_dim, T_F32);
    }
}

static inline void tiny_tensors(gguf *g, const tiny *t) {
    gguf_tensor(g, "token_embd.weight", t->vocab, t->width, t->matrix_type);
    gguf_tensor(g, "output_norm.weight", 0, t->width, T_F32);
    if (t->untied) gguf_tensor(g, "output.weight", t->vocab, t->width, t->matrix_type);
    if (t->rope_freqs) gguf_tensor(g, "rope_freqs.weight", 0, t->head_dim / 2, T_F32);
    for (uint32_t i = 0; i < t->layers; i++) tiny_layer(g, t, i);
}

static inline gguf tiny_gguf(const tiny *t) {
    gguf g = gguf_new();
    tiny_keys(&g, t);
    tiny_tensors(&g, t);
    return g;
}

/* ---- safetensors ---- */

typedef struct safetensors {
    blob header; /* without the closing brace */
    size_t bytes;
} safetensors;

/* shape as JSON, "[2,3]". */
static inline void st_tensor(safetensors *s, const char *name, const char *dtype, const char *shape,
                             size_t bytes) {
    char entry[512];
    snprintf(entry, sizeof entry,
             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
             s->header.n ? "," : "{", name, dtype, shape, s->bytes, s->bytes + bytes);
    put(&s->header, entry, strlen(entry));
    s->bytes += bytes;
}

static inline blob st_raw(const void *header, size_t n, size_t data) {
    blob b = {0};
    put_u64(&b, n);
    put(&b, header, n);
    put_zeros(&b, data);
    return b;
}

static inline blob st_bytes(safetensors *s) {
    put(&s->header, "}", 1);
    blob b = st_raw(s->header.data, s->header.n, s->bytes);
    drop(&s->header);
    return b;
}

/* The tiny model again, one layer, tied, F32. */
#define TINY_CONFIG \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":32," \
    "\"intermediate_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":8,\"vocab_size\":16,\"rms_norm_eps\":1e-5," \
    "\"max_position_embeddings\":128,\"rope_theta\":10000.0,\"tie_word_embeddings\":true," \
    "\"hidden_act\":\"silu\",\"bos_token_id\":1,\"eos_token_id\":2"

static inline blob tiny_safetensors(void) {
    safetensors s = {0};
    static const struct {
        const char *name, *shape;
        size_t elements;
    } t[] = {{"embed_tokens.weight", "[16,32]", 512},
             {"norm.weight", "[32]", 32},
             {"layers.0.input_layernorm.weight", "[32]", 32},
             {"layers.0.post_attention_layernorm.weight", "[32]", 32},
             {"layers.0.self_attn.q_proj.weight", "[32,32]", 1024},
             {"layers.0.self_attn.k_proj.weight", "[16,32]", 512},
             {"layers.0.self_attn.v_proj.weight", "[16,32]", 512},
             {"layers.0.self_attn.o_proj.weight", "[32,32]", 1024},
             {"layers.0.mlp.gate_proj.weight", "[64,32]", 2048},
             {"layers.0.mlp.up_proj.weight", "[64,32]", 2048},
             {"layers.0.mlp.down_proj.weight", "[32,64]", 2048}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.%s", t[i].name);
        st_tensor(&s, name, "F32", t[i].shape, 4 * t[i].elements);
    }
    return st_bytes(&s);
}

/* ---- files ---- */

static inline bool write_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    bool good = fwrite(data, 1, n, f) == n;
    return fclose(f) == 0 && good;
}

#endif
