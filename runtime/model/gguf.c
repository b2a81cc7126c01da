/* GGUF v2 and v3, little-endian: magic, version, counts, metadata, tensor list, padding, data.
 * Every number read is compared with the bytes that are left before it sizes or moves anything.  Source: ggml docs/gguf.md. */
#include <inttypes.h>
#include <string.h>

#include "runtime/model/ggml_types.h"
#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"

/* The least bytes an entry can take, which bounds counts by the file's size. */
#define LEAST_KEY (8 + 1 + 4 + 1)
#define LEAST_TENSOR (8 + 1 + 4 + 8 + 4 + 8)
#define MAX_KEY 65535
#define CURE "; convert or fetch the file again"
#define DEFAULT_ALIGNMENT 32
#define MAX_ALIGNMENT 65536

typedef struct cursor {
    const char *path;
    const unsigned char *data;
    size_t bytes, at;
    size_t strings; /* elements of arrays of strings so far */
    radar_error *err;
} cursor;

static const radar_ggml_type ggml_types[] = {
#define GGML_ROW(number, name, elements, bytes, ours) {number, #name, elements, bytes, ours},
    RADAR_GGML_LIST(GGML_ROW)
#undef GGML_ROW
};

static const radar_ggml_type *ggml_type(uint32_t number) {
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
        if (ggml_types[i].number == number) return &ggml_types[i];
    return NULL;
}

size_t radar_gguf_type_bytes(radar_gguf_type type) {
    static const size_t bytes[RADAR_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < RADAR_GGUF_TYPES ? bytes[type] : 0;
}

/* ---- reading ---- */

static radar_status need(const cursor *c, uint64_t bytes, const char *what) {
    if (bytes <= c->bytes - c->at) return RADAR_OK;
    return radar_fail(c->err, RADAR_ERR_DATA,
                      "%s: truncated: %s at byte %zu needs %" PRIu64
                      " bytes, %zu are there; fetch the file again",
                      c->path, what, c->at, bytes, c->bytes - c->at);
}

static radar_status read_u32(uint32_t *out, cursor *c, const char *what) {
    radar_status st = need(c, sizeof *out, what);
    if (st != RADAR_OK) return st;
    memcpy(out, c->data + c->at, sizeof *out);
    c->at += sizeof *out;
    return RADAR_OK;
}

static radar_status read_u64(uint64_t *out, cursor *c, const char *what) {
    radar_status st = need(c, sizeof *out, what);
    if (st != RADAR_OK) return st;
    memcpy(out, c->data + c->at, sizeof *out);
    c->at += sizeof *out;
    return RADAR_OK;
}

static radar_status read_string(const char **text, size_t *bytes, cursor *c, const char *what) {
    uint64_t n = 0;
    radar_status st = read_u64(&n, c, what);
    if (st != RADAR_OK) return st;
    if (n > RADAR_FILE_MAX_STRING)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: %s before byte %zu has %" PRIu64 " bytes, at most %zu are read" CURE,
                          c->path, what, c->at, n, RADAR_FILE_MAX_STRING);
    st = need(c, n, what);
    if (st != RADAR_OK) return st;
    *text = (const char *)c->data + c->at;
    *bytes = (size_t)n;
    c->at += (size_t)n;
    return RADAR_OK;
}

/* Names end up in messages and in C strings: no control characters, not empty. */
static radar_status check_name(const cursor *c, const char *text, size_t bytes, const char *what) {
    bool good = bytes > 0 && bytes <= MAX_KEY;
    for (size_t i = 0; good && i < bytes; i++)
        good = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
    if (good) return RADAR_OK;
    return radar_fail(c->err, RADAR_ERR_DATA,
                      "%s: %s before byte %zu is empty, too long or has control characters" CURE,
                      c->path, what, c->at);
}

/* ---- metadata ---- */

static radar_status read_type(radar_gguf_type *type, cursor *c, const radar_gguf_value *v) {
    uint32_t n = 0;
    radar_status st = read_u32(&n, c, "a value's type");
    if (st != RADAR_OK) return st;
    if (n >= RADAR_GGUF_TYPES)
        return radar_fail(c->err, RADAR_ERR_DATA, "%s: key %s has unknown type %" PRIu32 CURE,
                          c->path, radar_show(v->key, v->key_bytes).text, n);
    *type = (radar_gguf_type)n;
    return RADAR_OK;
}

static radar_status read_strings(radar_gguf_value *v, cursor *c) {
    if (v->count > RADAR_FILE_MAX_ARRAY_STRINGS - c->strings)
        return radar_fail(
            c->err, RADAR_ERR_DATA, "%s: key %s has %zu strings, at most %zu are read in all" CURE,
            c->path, radar_show(v->key, v->key_bytes).text, v->count, RADAR_FILE_MAX_ARRAY_STRINGS);
    radar_status st = need(c, (uint64_t)v->count * 8, "an array of strings");
    if (st != RADAR_OK || v->count == 0) return st;
    c->strings += v->count;
    v->string_at = radar_alloc_array(v->count, sizeof *v->string_at);
    if (!v->string_at)
        return radar_fail(c->err, RADAR_ERR_MEMORY, "%s: no memory for the index of %zu strings",
                          c->path, v->count);
    size_t first = c->at;
    for (size_t i = 0; i < v->count; i++) {
        const char *text;
        size_t bytes;
        v->string_at[i] = c->at - first;
        st = read_string(&text, &bytes, c, "a string of an array");
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

static radar_status read_array(radar_gguf_value *v, cursor *c) {
    uint64_t count = 0;
    radar_status st = read_type(&v->item, c, v);
    if (st == RADAR_OK) st = read_u64(&count, c, "an array's length");
    if (st != RADAR_OK) return st;
    if (v->item == RADAR_GGUF_ARRAY)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: key %s is an array of arrays: not supported" CURE, c->path,
                          radar_show(v->key, v->key_bytes).text);
    size_t item = radar_gguf_type_bytes(v->item), bytes;
    if (count > SIZE_MAX || !radar_mul((size_t)count, item, &bytes)) bytes = SIZE_MAX;
    st = need(c, bytes, "an array");
    if (st != RADAR_OK) return st;
    v->count = (size_t)count;
    v->at = c->data + c->at;
    c->at += bytes; /* 0 for strings */
    return v->item == RADAR_GGUF_STRING ? read_strings(v, c) : RADAR_OK;
}

static radar_status read_value(radar_gguf_value *v, cursor *c) {
    radar_status st = read_string(&v->key, &v->key_bytes, c, "a key");
    if (st == RADAR_OK) st = check_name(c, v->key, v->key_bytes, "a key");
    if (st == RADAR_OK) st = read_type(&v->type, c, v);
    if (st != RADAR_OK) return st;
    if (v->type == RADAR_GGUF_ARRAY) return read_array(v, c);
    if (v->type == RADAR_GGUF_STRING) {
        const char *text = NULL;
        st = read_string(&text, &v->bytes, c, "a string value");
        v->at = (const unsigned char *)text;
        return st;
    }
    size_t bytes = radar_gguf_type_bytes(v->type);
    st = need(c, bytes, "a value");
    if (st != RADAR_OK) return st;
    v->at = c->data + c->at;
    c->at += bytes;
    if (v->type == RADAR_GGUF_BOOL && v->at[0] > 1)
        return radar_fail(c->err, RADAR_ERR_DATA, "%s: key %s is a bool of value %d" CURE, c->path,
                          radar_show(v->key, v->key_bytes).text, v->at[0]);
    return RADAR_OK;
}

static radar_status read_table(radar_gguf_table *t, size_t n, cursor *c) {
    if (n == 0) return RADAR_OK;
    t->value = radar_alloc_array(n, sizeof *t->value);
    t->index = radar_alloc_array(n, sizeof *t->index);
    if (!t->value || !t->index)
        return radar_fail(c->err, RADAR_ERR_MEMORY, "%s: no memory for %zu keys", c->path, n);
    t->n = n;
    for (size_t i = 0; i < n; i++) {
        radar_status st = read_value(&t->value[i], c);
        if (st != RADAR_OK) return st;
        t->index[i] = (radar_name){t->value[i].key, t->value[i].key_bytes, i};
    }
    radar_names_sort(t->index, n);
    int64_t twice = radar_names_duplicate(t->index, n);
    if (twice < 0) return RADAR_OK;
    const radar_gguf_value *v = &t->value[twice];
    return radar_fail(c->err, RADAR_ERR_DATA, "%s: key %s is there twice" CURE, c->path,
                      radar_show(v->key, v->key_bytes).text);
}

void radar_gguf_table_free(radar_gguf_table *t) {
    for (size_t i = 0; i < t->n; i++) radar_free(t->value[i].string_at);
    radar_free(t->index);
    radar_free(t->value);
    *t = (radar_gguf_table){0};
}

/* ---- tensors ---- */

/* Dimensions come fastest first; radar_tensor has them slowest first. */
static radar_status read_dims(radar_tensor *t, cursor *c, radar_shown name) {
    uint32_t n = 0;
    radar_status st = read_u32(&n, c, "a tensor's number of dimensions");
    if (st != RADAR_OK) return st;
    if (n < 1 || n > 4)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: tensor %s has %" PRIu32 " dimensions, 1 to 4 are possible" CURE,
                          c->path, name.text, n);
    t->n_dims = (int)n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t dim = 0;
        st = read_u64(&dim, c, "a tensor's dimension");
        if (st != RADAR_OK) return st;
        if (dim < 1 || dim > INT64_MAX)
            return radar_fail(c->err, RADAR_ERR_DATA,
                              "%s: tensor %s: dimension %" PRIu32 " is %" PRIu64 CURE, c->path,
                              name.text, i, dim);
        t->dim[n - 1 - i] = (int64_t)dim;
    }
    return RADAR_OK;
}

static radar_status size_tensor(radar_tensor *t, const radar_ggml_type *type, const cursor *c,
                                radar_shown name) {
    size_t row = (size_t)t->dim[t->n_dims - 1], bytes;
    if (row % type->elements)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: tensor %s: rows of %zu elements are no multiple of the %" PRIu32
                          " in a block of %s" CURE,
                          c->path, name.text, row, type->elements, type->name);
    bool fits = radar_mul(row / type->elements, type->bytes, &bytes);
    for (int i = 0; i < t->n_dims - 1; i++)
        fits = fits && radar_mul(bytes, (size_t)t->dim[i], &bytes);
    if (!fits)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: tensor %s has more bytes than a size holds" CURE, c->path,
                          name.text);
    t->bytes = bytes;
    t->type_name = type->name;
    t->supported = type->ours != RADAR_GGML_NONE;
    t->type = t->supported ? type->ours : RADAR_F32;
    return RADAR_OK;
}

/* One entry of the list; names go to *names when it is not NULL.  offset: from the start of the data. */
static radar_status read_tensor(radar_tensor *t, uint64_t *offset, char **names, cursor *c) {
    const char *text = NULL;
    size_t bytes = 0;
    uint32_t number = 0;
    radar_status st = read_string(&text, &bytes, c, "a tensor's name");
    if (st == RADAR_OK) st = check_name(c, text, bytes, "a tensor's name");
    if (st != RADAR_OK) return st;
    radar_shown name = radar_show(text, bytes);
    st = read_dims(t, c, name);
    if (st == RADAR_OK) st = read_u32(&number, c, "a tensor's type");
    if (st == RADAR_OK) st = read_u64(offset, c, "a tensor's offset");
    if (st != RADAR_OK) return st;
    const radar_ggml_type *type = ggml_type(number);
    if (!type)
        return radar_fail(c->err, RADAR_ERR_DATA, "%s: tensor %s has unknown type %" PRIu32 CURE,
                          c->path, name.text, number);
    t->name = *names;
    memcpy(*names, text, bytes); /* the block is zeroed: the NUL is there */
    *names += bytes + 1;
    return size_tensor(t, type, c, name);
}

/* Bytes of all names with their NULs; leaves the cursor where it was. */
static radar_status measure_names(size_t *total, size_t n, cursor c) {
    *total = 0;
    for (size_t i = 0; i < n; i++) {
        const char *text;
        size_t bytes = 0;
        uint32_t dims = 0;
        radar_status st = read_string(&text, &bytes, &c, "a tensor's name");
        if (st == RADAR_OK) st = read_u32(&dims, &c, "a tensor's number of dimensions");
        if (st == RADAR_OK) st = need(&c, (uint64_t)dims * 8 + 12, "a tensor's shape");
        if (st != RADAR_OK) return st;
        c.at += (size_t)dims * 8 + 12;
        *total += bytes + 1; /* less than what the cursor moved */
    }
    return RADAR_OK;
}

/* offset[i] of each tensor, for place_tensors. */
static radar_status read_tensors(radar_part *p, uint64_t *offset, size_t n, cursor *c) {
    size_t bytes;
    radar_status st = measure_names(&bytes, n, *c);
    if (st != RADAR_OK) return st;
    p->tensor = radar_alloc_array(n, sizeof *p->tensor);
    p->names = radar_alloc(bytes);
    if (!p->tensor || !p->names)
        return radar_fail(c->err, RADAR_ERR_MEMORY, "%s: no memory for %zu tensors", c->path, n);
    p->n_tensors = n;
    char *names = p->names;
    for (size_t i = 0; i < n; i++) {
        st = read_tensor(&p->tensor[i], &offset[i], &names, c);
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

/* Offsets must be aligned, ascending, apart and inside the file. */
static radar_status place_tensors(radar_part *p, const uint64_t *offset, size_t begin,
                                  size_t alignment, radar_error *err) {
    const char *path = radar_path_tail(p->path);
    uint64_t room = p->map.bytes - begin, end = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        radar_tensor *t = &p->tensor[i];
        radar_shown name = radar_show(t->name, strlen(t->name));
        if (offset[i] % alignment)
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: tensor %s: offset %" PRIu64 " is no multiple of %zu" CURE, path,
                              name.text, offset[i], alignment);
        if (offset[i] < end)
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: tensor %s at offset %" PRIu64
                              " overlaps the one before it, which ends at %" PRIu64 CURE,
                              path, name.text, offset[i], end);
        if (offset[i] > room || t->bytes > room - offset[i])
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: truncated: tensor %s needs %zu bytes at offset %" PRIu64
                              " of the data, which has %" PRIu64 "; fetch the file again",
                              path, name.text, t->bytes, offset[i], room);
        t->data = p->map.data + begin + offset[i];
        end = offset[i] + t->bytes;
    }
    return RADAR_OK;
}

/* ---- the file ---- */

static radar_status read_version(cursor *c) {
    uint32_t version = 0;
    radar_status st = need(c, 4, "the magic number");
    if (st != RADAR_OK) return st;
    if (memcmp(c->data, "GGUF", 4))
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: is no GGUF file; name a .gguf or a folder with config.json",
                          c->path);
    c->at = 4;
    st = read_u32(&version, c, "the version");
    if (st != RADAR_OK) return st;
    if (version && !(version & 0xffff))
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: is a big-endian GGUF file; convert it to little-endian", c->path);
    if (version < 2 || version > 3)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: GGUF version %" PRIu32 ", 2 and 3 are known; convert it again",
                          c->path, version);
    return RADAR_OK;
}

static radar_status check_count(const cursor *c, uint64_t n, size_t most, size_t least,
                                const char *what) {
    if (n > most)
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: says it has %" PRIu64 " %s, at most %zu are read" CURE, c->path, n,
                          what, most);
    return need(c, n * least, what); /* no overflow: most * least is small */
}

static radar_status find_alignment(size_t *alignment, const radar_gguf_table *t, const cursor *c) {
    const radar_gguf_value *v = radar_gguf_find(t, "general.alignment");
    int64_t n = 0;
    *alignment = DEFAULT_ALIGNMENT;
    if (!v) return RADAR_OK;
    if (!radar_gguf_value_int(v, &n) || n < 8 || n > MAX_ALIGNMENT || (n & (n - 1)))
        return radar_fail(c->err, RADAR_ERR_DATA,
                          "%s: general.alignment is %" PRId64
                          ", must be a power of two from 8 to %d" CURE,
                          c->path, n, MAX_ALIGNMENT);
    *alignment = (size_t)n;
    return RADAR_OK;
}

static radar_status read_list(radar_part *p, const radar_gguf_table *t, size_t n, cursor *c) {
    size_t alignment;
    radar_status st = find_alignment(&alignment, t, c);
    if (st != RADAR_OK || n == 0) {
        p->header_bytes = c->at;
        return st;
    }
    uint64_t *offset = radar_alloc_array(n, sizeof *offset);
    if (!offset)
        return radar_fail(c->err, RADAR_ERR_MEMORY, "%s: no memory for %zu offsets", c->path, n);
    st = read_tensors(p, offset, n, c);
    if (st == RADAR_OK) {
        size_t padding = (alignment - c->at % alignment) % alignment;
        st = need(c, padding, "the padding before the data");
        p->header_bytes = c->at + padding;
    }
    if (st == RADAR_OK) st = place_tensors(p, offset, p->header_bytes, alignment, c->err);
    radar_free(offset);
    return st;
}

radar_status radar_gguf_read(radar_part *p, radar_gguf_table *t, radar_error *err) {
    cursor c = {radar_path_tail(p->path), p->map.data, p->map.bytes, 0, 0, err};
    uint64_t n_tensors = 0, n_keys = 0;
    radar_status st = read_version(&c);
    if (st == RADAR_OK) st = read_u64(&n_tensors, &c, "the number of tensors");
    if (st == RADAR_OK) st = read_u64(&n_keys, &c, "the number of keys");
    if (st == RADAR_OK) st = check_count(&c, n_keys, RADAR_FILE_MAX_KEYS, LEAST_KEY, "keys");
    if (st == RADAR_OK)
        st = check_count(&c, n_tensors, RADAR_FILE_MAX_TENSORS, LEAST_TENSOR, "tensors");
    if (st == RADAR_OK) st = read_table(t, (size_t)n_keys, &c);
    if (st == RADAR_OK) st = check_count(&c, n_tensors, n_tensors, LEAST_TENSOR, "tensors");
    if (st == RADAR_OK) st = read_list(p, t, (size_t)n_tensors, &c);
    return st;
}
