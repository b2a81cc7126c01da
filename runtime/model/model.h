/* model.h - a Llama-like model as the forward pass wants it: shapes, and where each weight lies.
 *
 * Weights stay as stored and mapped; only vectors (norms, biases) are widened to f32 here.
 * A family is one entry of a table: which architecture names it answers to, and what its layers have. */
#ifndef RADAR_MODEL_H
#define RADAR_MODEL_H

#include "kernels/dtype.h"
#include "runtime/base.h"
#include "runtime/model/tensorfile.h"

typedef enum radar_rope_scaling {
    RADAR_ROPE_SCALING_NONE,
    RADAR_ROPE_SCALING_LINEAR,
    RADAR_ROPE_SCALING_LLAMA3,
    RADAR_ROPE_SCALING_YARN,
    RADAR_ROPE_SCALING_DYNAMIC
} radar_rope_scaling;

#define RADAR_MODEL_MAX_EOS 8

typedef struct radar_model_config {
    const char *family; /* "llama", "qwen2", "qwen3" */
    char name[128];     /* what the file calls itself; printable ASCII or UTF-8 */
    int n_layers;
    int width;      /* W */
    int n_heads;    /* H */
    int n_kv_heads; /* G; divides H */
    int head_dim;   /* D, given on its own */
    int inner;      /* columns of down */
    int vocab;      /* rows of the embedding and of the head */
    int64_t
        context; /* tokens the model was trained for (after rope scaling); for sliding-window models at most the window */
    int64_t
        unscaled; /* the same before linear, yarn or dynamic scaling: what their factor multiplies */
    int64_t window; /* of sliding-window models: what bounds context under any scaling; 0: none */
    float norm_eps;
    radar_rope_style rope_style;
    int rotary; /* elements of a head that rotate, <= D */
    double rope_theta;
    radar_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq, rope_high_freq,
        rope_original_context; /* llama3 uses all (0 where a GGUF stores the result instead), linear the first,
                                * yarn and dynamic the first and the last (0 there: `unscaled`) */
    /* yarn: turns within the original context from which on a frequency stays, and up to which it is divided; what cos and sin
     * are multiplied by, 0 = 0.1 ln s + 1; whether the bounds between the two are taken to whole dimensions */
    double rope_beta_fast, rope_beta_slow, rope_magnitude;
    bool rope_fractional;
    bool tied; /* the head is the embedding */
    int n_eos;
    int32_t eos
        [RADAR_MODEL_MAX_EOS]; /* end-of-text tokens, from the model's metadata and generation_config.json */
    int32_t bos;               /* -1: none */
} radar_model_config;

/* NULL members: the model has none. */
typedef struct radar_layer {
    float *attn_norm, *ffn_norm; /* [W] */
    float *q_norm, *k_norm;      /* [D], Qwen 3 */
    radar_matrix q, k, v, o;     /* [H D, W] [G D, W] [G D, W] [W, H D] */
    float *q_bias, *k_bias, *v_bias, *o_bias;
    radar_matrix gate, up, down; /* [inner, W] [inner, W] [W, inner] */
    float *gate_bias, *up_bias, *down_bias;
} radar_layer;

typedef struct radar_model {
    radar_model_config config;
    radar_matrix embedding, head; /* [vocab, W] */
    float *final_norm;            /* [W] */
    /* [rotary / 2] radians per position, Llama 3's scaling applied, the others not; in double for positions in the millions */
    double *rope_frequency;
    float *
        rope_divisor; /* [rotary / 2] what divides them, as GGUF stores Llama 3's scaling; NULL: none */
    radar_layer *layer;     /* [n_layers] */
    radar_tensorfile *file; /* owned */
} radar_model;

/* [this rank] Opens path (a .gguf, a directory, or a repo id like "org/name" found in the local Hugging Face cache), checks every
 * shape against the configuration and refuses by name what is not known.  No weight page is touched.  On failure *out is NULL. */
radar_status radar_model_open(radar_model **out, const char *path, radar_error *err);
void radar_model_close(radar_model *m); /* [this rank] NULL is fine */

/* ---- rope_table.c, rope_options.c ---- */

/* Frequencies of a session with room for `context` tokens, [rotary / 2] radians per position; returns what cos and sin are
 * multiplied by. */
double radar_rope_session(double *frequency, const radar_model *m, int64_t context);
const char *radar_rope_scaling_name(radar_rope_scaling s);

/* What an option says instead of the file; zero members: as the file says. */
typedef struct radar_rope_override {
    const char *scaling; /* "none", "linear", "yarn", "dynamic", "llama3" */
    double factor, theta;
    int64_t original_context;
} radar_rope_override;
/* [this rank] Llama 3's scaling in a file is part of how the model was trained: it stays under any other. */
radar_status radar_model_set_rope(radar_model *m, const radar_rope_override *o, radar_error *err);

#endif
