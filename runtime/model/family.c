#include "runtime/model/family.h"

#include <stddef.h>

#define ADJACENT RADAR_ROPE_ADJACENT
#define HALF RADAR_ROPE_HALF

const radar_family radar_families[] = {
    /* name, GGUF, model_type, architecture, GGUF rope, qkv bias, qk norm, window, head_dim */
    {"llama", "llama", "llama", "LlamaForCausalLM", ADJACENT, false, false, false, 0},
    {"llama", NULL, "mistral", "MistralForCausalLM", ADJACENT, false, false, true, 0},
    {"qwen2", "qwen2", "qwen2", "Qwen2ForCausalLM", HALF, true, false, false, 0},
    {"qwen3", "qwen3", "qwen3", "Qwen3ForCausalLM", HALF, false, true, false, 128},
    {NULL, NULL, NULL, NULL, HALF, false, false, false, 0},
};
