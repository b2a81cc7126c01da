/* Metadata of a GGUF file: found by key, converted where nothing is lost. */
#include <string.h>

#include "runtime/model/tensorfile_internal.h"

const radar_gguf_value *radar_gguf_find(const radar_gguf_table *t, const char *key) {
    int64_t i = radar_names_find(t->index, t->n, key, strlen(key));
    return i < 0 ? NULL : &t->value[i];
}

static bool int_at(int64_t *value, radar_gguf_type type, const unsigned char *at) {
    union {
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } x = {0};
    memcpy(&x, at, radar_gguf_type_bytes(type));
    switch (type) {
    case RADAR_GGUF_U8:
        *value = at[0];
        return true;
    case RADAR_GGUF_I8:
        *value = at[0] < 128 ? at[0] : at[0] - 256;
        return true;
    case RADAR_GGUF_U16:
        *value = x.u16;
        return true;
    case RADAR_GGUF_I16:
        *value = x.i16;
        return true;
    case RADAR_GGUF_U32:
        *value = x.u32;
        return true;
    case RADAR_GGUF_I32:
        *value = x.i32;
        return true;
    case RADAR_GGUF_U64:
        if (x.u64 > INT64_MAX) return false;
        *value = (int64_t)x.u64;
        return true;
    case RADAR_GGUF_I64:
        *value = x.i64;
        return true;
    default:
        return false;
    }
}

static bool real_at(double *value, radar_gguf_type type, const unsigned char *at) {
    if (type == RADAR_GGUF_F32) {
        float f;
        memcpy(&f, at, sizeof f);
        *value = f;
        return true;
    }
    if (type == RADAR_GGUF_F64) {
        memcpy(value, at, sizeof *value);
        return true;
    }
    int64_t n;
    if (!int_at(&n, type, at)) return false;
    *value = (double)n;
    return true;
}

bool radar_gguf_value_int(const radar_gguf_value *v, int64_t *value) {
    return radar_gguf_type_bytes(v->type) && int_at(value, v->type, v->at);
}

bool radar_gguf_int(const radar_tensorfile *tf, const char *key, int64_t *value) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    return v && radar_gguf_value_int(v, value);
}

bool radar_gguf_real(const radar_tensorfile *tf, const char *key, double *value) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    return v && radar_gguf_type_bytes(v->type) && real_at(value, v->type, v->at);
}

bool radar_gguf_bool(const radar_tensorfile *tf, const char *key, bool *value) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    if (!v || v->type != RADAR_GGUF_BOOL) return false;
    *value = v->at[0] != 0;
    return true;
}

bool radar_gguf_string(const radar_tensorfile *tf, const char *key, const char **text,
                       size_t *bytes) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    if (!v || v->type != RADAR_GGUF_STRING) return false;
    *text = (const char *)v->at;
    *bytes = v->bytes;
    return true;
}

/* Element i of an array; NULL when there is none or it is an array of strings. */
static const unsigned char *element(const radar_gguf_value *v, int64_t i) {
    if (!v || v->type != RADAR_GGUF_ARRAY || v->item == RADAR_GGUF_STRING) return NULL;
    if (i < 0 || (uint64_t)i >= v->count) return NULL;
    return v->at + (size_t)i * radar_gguf_type_bytes(v->item);
}

int64_t radar_gguf_array(const radar_tensorfile *tf, const char *key) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    return v && v->type == RADAR_GGUF_ARRAY ? (int64_t)v->count : -1;
}

bool radar_gguf_array_string(const radar_tensorfile *tf, const char *key, int64_t i,
                             const char **text, size_t *bytes) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    if (!v || v->type != RADAR_GGUF_ARRAY || v->item != RADAR_GGUF_STRING) return false;
    if (i < 0 || (uint64_t)i >= v->count) return false;
    const unsigned char *at = v->at + v->string_at[i];
    uint64_t n;
    memcpy(&n, at, sizeof n);
    *text = (const char *)at + sizeof n;
    *bytes = (size_t)n;
    return true;
}

bool radar_gguf_array_int(const radar_tensorfile *tf, const char *key, int64_t i, int64_t *value) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    const unsigned char *at = element(v, i);
    return at && int_at(value, v->item, at);
}

bool radar_gguf_array_real(const radar_tensorfile *tf, const char *key, int64_t i, double *value) {
    const radar_gguf_value *v = radar_gguf_find(&tf->meta, key);
    const unsigned char *at = element(v, i);
    return at && real_at(value, v->item, at);
}
