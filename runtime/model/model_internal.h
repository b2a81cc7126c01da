/* model_internal.h - between model.c, the two readers of configurations and the loader of weights. */
#ifndef RADAR_MODEL_INTERNAL_H
#define RADAR_MODEL_INTERNAL_H

#include "runtime/model/family.h"
#include "runtime/model/model.h"
#include "runtime/model/tensorfile_internal.h"

/* Whether the layers have a vector. */
typedef enum radar_presence { RADAR_ABSENT, RADAR_OPTIONAL, RADAR_REQUIRED } radar_presence;

/* Groups of vectors that come and go together. */
typedef enum radar_group {
    RADAR_GROUP_NORM,     /* before attention and feed-forward */
    RADAR_GROUP_QK_NORM,  /* of single heads */
    RADAR_GROUP_QKV_BIAS, /* of q, k and v */
    RADAR_GROUP_O_BIAS,
    RADAR_GROUP_MLP_BIAS,
    RADAR_GROUPS
} radar_group;

/* What a reader finds out beside the configuration. */
typedef struct radar_model_plan {
    const radar_family *family;
    radar_presence group[RADAR_GROUPS];
    const radar_tensor *rope_factors; /* GGUF: divide the frequencies; NULL: none */
} radar_model_plan;

/* model_hf.c, model_gguf.c: configuration and plan from the file; ranges are checked by the caller. */
radar_status radar_model_read_hf(radar_model_config *c, radar_model_plan *plan,
                                 const radar_tensorfile *tf, radar_error *err);
radar_status radar_model_read_gguf(radar_model_config *c, radar_model_plan *plan,
                                   const radar_tensorfile *tf, radar_error *err);

/* model_config.c */
radar_status radar_model_check_config(const radar_model_config *c, const radar_model_plan *plan,
                                      const char *path, radar_error *err);
/* An end-of-text token; one that is there already is no error. */
radar_status radar_model_add_eos(radar_model_config *c, int64_t id, const char *path,
                                 radar_error *err);
/* Names for people: control characters and broken UTF-8 become '?', cut to fit. */
void radar_model_set_name(radar_model_config *c, const char *text, size_t bytes);

/* model_weights.c: finds, checks and points at every tensor; none may be left over. */
radar_status radar_model_load(radar_model *m, const radar_model_plan *plan, radar_error *err);

/* rope_table.c: rotary / 2 frequencies before linear, yarn and dynamic scaling.  divisor (may be NULL): as GGUF stores Llama 3's
 * scaling. */
void radar_rope_frequencies(double *out, const radar_model_config *c, const float *divisor);
/* Sets `unscaled`, and `context` to what it becomes by scaling, from `context` as the file has it. */
void radar_rope_extend(radar_model_config *c);
/* model_config.c: ranges of what rope_scaling uses. */
radar_status radar_rope_check(const radar_model_config *c, bool divided, const char *path,
                              radar_error *err);

/* hfcache.c: *out is the folder of a repo id, or NULL with RADAR_OK when id has not the form of one.  The caller frees. */
radar_status radar_hfcache_find(char **out, const char *id, radar_error *err);

/* model.c: takes the file, also on failure. */
radar_status radar_model_from_file(radar_model **out, radar_tensorfile *tf, radar_error *err);

#endif
