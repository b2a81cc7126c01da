/* tensorfile.h - a model's files, opened read-only and mapped: named tensors and metadata.
 *
 * Two formats behind one type: GGUF v2/v3 (one file, or its shards -00001-of-000NN.gguf) and safetensors (a directory with
 * config.json and model.safetensors or model.safetensors.index.json).  Nothing is copied: tensor data points into the map.
 * Files are hostile: every count, length, offset and shape is checked against the bytes there before it is used. */
#ifndef RADAR_TENSORFILE_H
#define RADAR_TENSORFILE_H

#include <jansson.h>

#include "kernels/dtype.h"
#include "runtime/base.h"

typedef struct radar_tensor {
    const char *name;      /* NUL-terminated, owned by the file */
    const char *type_name; /* as the file calls it: "Q4_1", "Q6_K", "BF16" ... */
    bool
        supported; /* whether `type` holds it; unsupported tensors are refused by name when a model needs them */
    radar_dtype type;
    int n_dims;       /* 1..4 */
    int64_t dim[4];   /* row-major, slowest first: a matrix is [rows, cols] */
    const void *data; /* in the map */
    size_t bytes;
} radar_tensor;

typedef struct radar_tensorfile radar_tensorfile;

/* [this rank] path: a .gguf file (first shard of several), or a directory with config.json and safetensors.  On failure *out is NULL. */
radar_status radar_tensorfile_open(radar_tensorfile **out, const char *path, radar_error *err);
void radar_tensorfile_close(radar_tensorfile *tf); /* [this rank] NULL is fine */

/* [this rank] Lets the pages of the map leave this process's memory; reading them again brings them back from the file. */
void radar_tensorfile_rest(const radar_tensorfile *tf);

bool radar_tensorfile_is_gguf(const radar_tensorfile *tf);
const char *radar_tensorfile_path(const radar_tensorfile *tf); /* as opened */
uint64_t radar_tensorfile_bytes(const radar_tensorfile *tf);   /* of all files together */
/* XXH3 over headers, metadata, file sizes and a sample of the data: equal on ranks that see the same model. */
uint64_t radar_tensorfile_fingerprint(const radar_tensorfile *tf);

size_t radar_tensorfile_count(const radar_tensorfile *tf);
const radar_tensor *radar_tensorfile_at(const radar_tensorfile *tf, size_t i);
const radar_tensor *radar_tensorfile_find(const radar_tensorfile *tf,
                                          const char *name); /* NULL: none */

/* GGUF metadata as stored.  Each returns false when the key is absent or has another type (integers of any width convert when they fit). */
bool radar_gguf_string(const radar_tensorfile *tf, const char *key, const char **text,
                       size_t *bytes); /* not NUL-terminated */
bool radar_gguf_int(const radar_tensorfile *tf, const char *key, int64_t *value);
bool radar_gguf_real(const radar_tensorfile *tf, const char *key,
                     double *value); /* also from integers */
bool radar_gguf_bool(const radar_tensorfile *tf, const char *key, bool *value);
/* Arrays: number of elements, -1 when absent; then one element at a time (strings are indexed at open, so this is O(1)). */
int64_t radar_gguf_array(const radar_tensorfile *tf, const char *key);
bool radar_gguf_array_string(const radar_tensorfile *tf, const char *key, int64_t i,
                             const char **text, size_t *bytes);
bool radar_gguf_array_int(const radar_tensorfile *tf, const char *key, int64_t i, int64_t *value);
bool radar_gguf_array_real(const radar_tensorfile *tf, const char *key, int64_t i, double *value);

/* config.json of a safetensors directory, parsed; NULL for GGUF.  Owned by the file. */
const json_t *radar_tensorfile_config(const radar_tensorfile *tf);
/* Reads a JSON file of the directory ("tokenizer.json", "generation_config.json"); *out is NULL with RADAR_OK when it is absent.  The caller decrefs. */
radar_status radar_tensorfile_json(json_t **out, const radar_tensorfile *tf, const char *name,
                                   radar_error *err);

#endif
