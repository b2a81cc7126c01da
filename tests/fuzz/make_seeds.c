/* Writes the first inputs of the fuzzers of model files: make_seeds FOLDER (with gguf/, safetensors/ and config/ in it). */
#include <stdio.h>

#include "tests/unit/make_files.h"

static bool write_seed(const char *folder, const char *name, blob b) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool good = write_file(path, b.data, b.n);
    drop(&b);
    return good;
}

static blob seed_gguf(const char *arch, uint32_t type) {
    tiny t = tiny_llama();
    t.arch = arch;
    t.matrix_type = type;
    t.qkv_bias = t.untied = type == T_Q4_1;
    t.qk_norm = t.rope_freqs = type == T_Q8_0;
    gguf g = tiny_gguf(&t);
    key_u32(&g, "general.alignment", 32);
    key_bool(&g, "tokenizer.ggml.add_bos_token", true);
    key_text(&g, "llama.rope.scaling.type", "linear");
    put_text(key_array(&g, "tokenizer.ggml.tokens", STRING, 2), "a");
    put_text(&g.keys, "bc");
    put_f32(key_array(&g, "tokenizer.ggml.scores", F32, 1), 0.5f);
    return gguf_bytes(&g, NULL);
}

static blob seed_config(const char *more) {
    blob b = {0};
    put(&b, TINY_CONFIG, strlen(TINY_CONFIG));
    put(&b, more, strlen(more));
    put(&b, "}", 1);
    return b;
}

int main(int argc, char **argv) {
    if (argc != 2) return 64;
    const char *f = argv[1];
    bool good =
        write_seed(f, "gguf/llama", seed_gguf("llama", T_F32)) &&
        write_seed(f, "gguf/qwen2", seed_gguf("qwen2", T_Q4_1)) &&
        write_seed(f, "gguf/qwen3", seed_gguf("qwen3", T_Q8_0)) &&
        write_seed(f, "safetensors/llama", tiny_safetensors()) &&
        write_seed(f, "config/plain", seed_config("")) &&
        write_seed(f, "config/llama3",
                   seed_config(",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
                               "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                               "\"original_max_position_embeddings\":32}")) &&
        write_seed(f, "config/now",
                   seed_config(",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2.0,"
                               "\"rope_theta\":1e4},\"layer_types\":[\"full_attention\"],"
                               "\"sliding_window\":64,\"attention_bias\":false"));
    return good ? 0 : 73;
}
