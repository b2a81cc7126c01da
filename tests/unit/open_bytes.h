/* open_bytes.h - opens bytes as a model file and touches all that the file offers, so that a sanitizer sees any bad pointer. */
#ifndef OPEN_BYTES_H
#define OPEN_BYTES_H

#include "runtime/model/model_internal.h"
#include "runtime/sys.h"

/* A sum over everything a caller can reach, so that nothing is optimised away. */
static inline uint64_t touch_tensors(const radar_tensorfile *tf) {
    uint64_t sum = radar_tensorfile_fingerprint(tf) + radar_tensorfile_bytes(tf);
    for (size_t i = 0; i < radar_tensorfile_count(tf); i++) {
        const radar_tensor *t = radar_tensorfile_at(tf, i);
        sum += strlen(t->name) + strlen(t->type_name) + (uint64_t)t->dim[t->n_dims - 1];
        sum += radar_tensorfile_find(tf, t->name) == t;
        const unsigned char *data = t->data;
        if (t->bytes) sum += (uint64_t)data[0] + data[t->bytes - 1];
    }
    return sum;
}

static inline uint64_t touch_value(const radar_tensorfile *tf, const radar_gguf_value *v) {
    char key[128];
    const char *text;
    size_t bytes;
    int64_t n = 0;
    double x = 0;
    bool b = false;
    uint64_t sum = 0;
    if (v->key_bytes >= sizeof key) return 0;
    memcpy(key, v->key, v->key_bytes);
    key[v->key_bytes] = 0;
    sum +=
        radar_gguf_int(tf, key, &n) + radar_gguf_real(tf, key, &x) + radar_gguf_bool(tf, key, &b);
    if (radar_gguf_string(tf, key, &text, &bytes) && bytes) sum += (uint64_t)text[bytes - 1];
    int64_t count = radar_gguf_array(tf, key);
    for (int64_t i = -1; i <= count && i < 100; i++) {
        sum += radar_gguf_array_int(tf, key, i, &n) + radar_gguf_array_real(tf, key, i, &x);
        if (radar_gguf_array_string(tf, key, i, &text, &bytes) && bytes)
            sum += (uint64_t)text[bytes - 1];
    }
    return sum + (uint64_t)n;
}

/* Opens a copy of exactly these bytes as a file and as a model; the status of the file.  model (may be NULL): the status of the model. */
static inline radar_status open_bytes(const void *data, size_t bytes, const char *config,
                                      radar_error *file, radar_error *model) {
    radar_tensorfile *tf = NULL;
    unsigned char *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, data, bytes);
    *file = (radar_error){0};
    radar_status st = radar_tensorfile_open_memory(&tf, copy, bytes, config, file);
    volatile uint64_t sum = 0; /* nothing read for it is optimised away */
    (void)sum;
    if (tf) {
        radar_model *m = NULL;
        radar_error e = {0};
        sum += touch_tensors(tf);
        for (size_t i = 0; i < tf->meta.n; i++) sum += touch_value(tf, &tf->meta.value[i]);
        radar_model_from_file(&m, tf, &e);
        radar_model_close(m);
        if (model) *model = e;
    }
    free(copy);
    return st;
}

#endif
