/* family.h - the table of model families: what they are called in files, and what their layers have.
 * A family that differs only in this is one more line in family.c. */
#ifndef RADAR_FAMILY_H
#define RADAR_FAMILY_H

#include <stdbool.h>

#include "kernels/dtype.h"

typedef struct radar_family {
    const char *name;           /* radar_model_config.family */
    const char *gguf;           /* general.architecture; NULL: none of its own */
    const char *model_type;     /* in config.json */
    const char *architecture;   /* in config.json */
    radar_rope_style gguf_rope; /* Hugging Face files are always HALF */
    bool qkv_bias;              /* q, k and v have biases whatever the configuration says */
    bool qk_norm;               /* q and k are normalised per head */
    bool window;                /* sliding_window in config.json holds without use_sliding_window */
    int head_dim;               /* when config.json does not say; 0: width / heads */
} radar_family;

extern const radar_family radar_families[]; /* ends with name NULL */

#endif
