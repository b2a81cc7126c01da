/* A model that has a shape and no weights. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/gpu/bench.h"
#include "tests/unit/make_files.h"

typedef struct listing {
    gguf file;
    uint64_t at; /* where the next tensor begins, behind the head */
    uint64_t embedding;
} listing;

static void list(listing *l, const char *name, uint64_t rows, uint64_t cols) {
    const uint64_t dim[2] = {cols, rows};
    gguf_entry(&l->file, name, rows ? 2 : 1, dim, rows ? T_BF16 : T_F32, l->at);
    l->at += rows ? rows * cols * 2 : cols * 4;
    l->at = (l->at + 31) / 32 * 32;
}

static void list_layer(listing *l, const bench_shape *s, int layer) {
    const uint64_t W = (uint64_t)s->W, q = (uint64_t)(s->H * s->D), kv = (uint64_t)(s->G * s->D),
                   inner = (uint64_t)s->inner, D = (uint64_t)s->D;
    const struct {
        const char *name;
        uint64_t rows, cols;
        bool absent;
    } all[] = {{"attn_norm", 0, W, false},         {"attn_q", q, W, false},
               {"attn_k", kv, W, false},           {"attn_v", kv, W, false},
               {"attn_q_norm", 0, D, !s->qk_norm}, {"attn_k_norm", 0, D, !s->qk_norm},
               {"attn_output", W, q, false},       {"ffn_norm", 0, W, false},
               {"ffn_gate", inner, W, false},      {"ffn_up", inner, W, false},
               {"ffn_down", W, inner, false}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, all[i].name);
        if (!all[i].absent) list(l, name, all[i].rows, all[i].cols);
    }
}

static void add_keys(gguf *g, const bench_shape *s) {
    const struct {
        const char *name;
        int value;
    } all[] = {{"block_count", s->layers},        {"embedding_length", s->W},
               {"feed_forward_length", s->inner}, {"context_length", (int)s->longest + 4096},
               {"attention.head_count", s->H},    {"attention.head_count_kv", s->G},
               {"attention.key_length", s->D},    {"attention.value_length", s->D}};
    char key[64];
    key_text(g, "general.architecture", s->family);
    key_text(g, "general.name", s->name);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", s->family, all[i].name);
        key_u32(g, key, (uint32_t)all[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", s->family);
    key_f32(g, key, 1e-5f);
    snprintf(key, sizeof key, "%s.rope.freq_base", s->family);
    key_f32(g, key, 500000);
}

/* The least that is a vocabulary: nothing is read or spelled. */
static void add_tokenizer(gguf *g) {
    key_text(g, "tokenizer.ggml.model", "gpt2");
    key_text(g, "tokenizer.ggml.pre", "gpt-2");
    blob *b = key_array(g, "tokenizer.ggml.tokens", STRING, 2);
    put_text(b, "a");
    put_text(b, "b");
    b = key_array(g, "tokenizer.ggml.token_type", I32, 2);
    put_u32(b, 1);
    put_u32(b, 1);
    key_array(g, "tokenizer.ggml.merges", STRING, 0);
}

static bool write_at(int fd, const void *data, size_t bytes, uint64_t at) {
    return pwrite(fd, data, bytes, (off_t)at) == (ssize_t)bytes;
}

static bool write_rows(int fd, const bench_shape *s, uint64_t at) {
    const size_t n = BENCH_TOKENS * (size_t)s->W;
    uint16_t *row = malloc(n * sizeof *row);
    for (size_t i = 0; i < n; i++) row[i] = radar_f32_to_bf16((float)radar_random_normal(4, 1, i));
    const bool written = write_at(fd, row, n * sizeof *row, at);
    free(row);
    return written;
}

void bench_write_model(const bench_shape *s, const char *path) {
    listing l = {.file = gguf_new()};
    add_keys(&l.file, s);
    add_tokenizer(&l.file);
    list(&l, "token_embd.weight", (uint64_t)s->vocab, (uint64_t)s->W);
    for (int i = 0; i < s->layers; i++) list_layer(&l, s, i);
    list(&l, "output_norm.weight", 0, (uint64_t)s->W);
    list(&l, "output.weight", (uint64_t)s->vocab, (uint64_t)s->W);
    put_zeros(&l.file.data, 1); /* so that the head is filled up to where data begins */
    size_t head = 0;
    blob b = gguf_bytes(&l.file, &head);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    const bool done = fd >= 0 && write_at(fd, b.data, head, 0) && write_rows(fd, s, head) &&
                      ftruncate(fd, (off_t)(head + l.at)) == 0;
    if (fd >= 0) close(fd);
    drop(&b);
    if (!done) bench_stop("the model's file cannot be written");
}
