/* One safetensors file: u64 length, a JSON header of that length, then the data, of which every byte belongs to one tensor.
 * Source: the format's README (huggingface/safetensors). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"

#define PREFIX 8

/* Element types of the format; those without ours can be listed, not computed with. */
static const struct {
    const char *name;
    unsigned bits;
    radar_dtype ours;
} dtypes[] = {
    {"F32", 32, RADAR_F32},
    {"F16", 16, RADAR_F16},
    {"BF16", 16, RADAR_BF16},
    {"F64", 64, RADAR_DTYPE_COUNT},
    {"I64", 64, RADAR_DTYPE_COUNT},
    {"U64", 64, RADAR_DTYPE_COUNT},
    {"I32", 32, RADAR_DTYPE_COUNT},
    {"U32", 32, RADAR_DTYPE_COUNT},
    {"I16", 16, RADAR_DTYPE_COUNT},
    {"U16", 16, RADAR_DTYPE_COUNT},
    {"I8", 8, RADAR_DTYPE_COUNT},
    {"U8", 8, RADAR_DTYPE_COUNT},
    {"BOOL", 8, RADAR_DTYPE_COUNT},
    {"C64", 64, RADAR_DTYPE_COUNT},
    {"F8_E5M2", 8, RADAR_DTYPE_COUNT},
    {"F8_E4M3", 8, RADAR_DTYPE_COUNT},
    {"F8_E8M0", 8, RADAR_DTYPE_COUNT},
    {"F6_E2M3", 6, RADAR_DTYPE_COUNT},
    {"F6_E3M2", 6, RADAR_DTYPE_COUNT},
    {"F4", 4, RADAR_DTYPE_COUNT},
};

typedef struct entry {
    const char *name; /* the header's key */
    size_t name_bytes;
    uint64_t begin, end; /* in the data */
    radar_tensor tensor;
} entry;

static radar_status bad(const char *path, const entry *e, const char *fact, radar_error *err) {
    return radar_fail(err, RADAR_ERR_DATA, "%s: tensor %s: %s; fetch the file again", path,
                      radar_show(e->name, e->name_bytes).text, fact);
}

static radar_status read_dtype(unsigned *bits, entry *e, const json_t *info, const char *path,
                               radar_error *err) {
    const char *name = json_string_value(json_object_get(info, "dtype"));
    for (size_t i = 0; name && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name)) continue;
        *bits = dtypes[i].bits;
        e->tensor.type_name = dtypes[i].name;
        e->tensor.supported = dtypes[i].ours != RADAR_DTYPE_COUNT;
        e->tensor.type = e->tensor.supported ? dtypes[i].ours : RADAR_F32;
        return RADAR_OK;
    }
    return bad(path, e, name ? "unknown dtype" : "no dtype", err);
}

static radar_status read_shape(size_t *elements, entry *e, const json_t *info, const char *path,
                               radar_error *err) {
    const json_t *shape = json_object_get(info, "shape");
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > 4)
        return bad(path, e, "its shape is no list of at most 4 numbers", err);
    *elements = 1;
    e->tensor.n_dims = n ? (int)n : 1;
    e->tensor.dim[0] = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(shape, i);
        int64_t value = json_integer_value(dim);
        if (!json_is_integer(dim) || value < 0)
            return bad(path, e, "its shape is no list of at most 4 numbers", err);
        e->tensor.dim[i] = value;
        if (!radar_mul(*elements, (size_t)value, elements))
            return bad(path, e, "its shape has more elements than a size holds", err);
    }
    return RADAR_OK;
}

static radar_status read_offsets(entry *e, const json_t *info, const char *path, radar_error *err) {
    const json_t *pair = json_object_get(info, "data_offsets");
    const json_t *begin = json_array_get(pair, 0), *end = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return bad(path, e, "its data_offsets are no ascending pair", err);
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    return RADAR_OK;
}

static radar_status read_entry(entry *e, const json_t *info, const char *path, radar_error *err) {
    unsigned bits = 0;
    size_t elements = 0, total;
    for (size_t i = 0; i < e->name_bytes; i++)
        if ((unsigned char)e->name[i] < 0x20 || e->name[i] == 0x7f)
            return bad(path, e, "its name has control characters", err);
    if (e->name_bytes == 0 || json_object_size(info) != 3)
        return bad(path, e, "needs a name, and just dtype, shape and data_offsets", err);
    radar_status st = read_dtype(&bits, e, info, path, err);
    if (st == RADAR_OK) st = read_shape(&elements, e, info, path, err);
    if (st == RADAR_OK) st = read_offsets(e, info, path, err);
    if (st != RADAR_OK) return st;
    if (!radar_mul(elements, bits, &total) || total % 8)
        return bad(path, e, "its size is no number of bytes", err);
    if (e->end - e->begin != total / 8)
        return radar_fail(
            err, RADAR_ERR_DATA,
            "%s: tensor %s: its shape needs %zu bytes, its data_offsets span %" PRIu64, path,
            radar_show(e->name, e->name_bytes).text, total / 8, e->end - e->begin);
    e->tensor.bytes = total / 8;
    return RADAR_OK;
}

static int compare_entries(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Sorted entries must tile the data. */
static radar_status place(radar_part *p, entry *e, size_t n, radar_error *err) {
    const char *path = radar_path_tail(p->path);
    uint64_t room = p->map.bytes - p->header_bytes, end = 0;
    for (size_t i = 0; i < n; i++) {
        if (e[i].begin < end) return bad(path, &e[i], "overlaps the one before it", err);
        if (e[i].begin > end) return bad(path, &e[i], "leaves a hole before it", err);
        if (e[i].end > room)
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: truncated: tensor %s ends at byte %" PRIu64
                              " of the data, which has %" PRIu64 "; fetch the file again",
                              path, radar_show(e[i].name, e[i].name_bytes).text, e[i].end, room);
        e[i].tensor.data = p->map.data + p->header_bytes + e[i].begin;
        end = e[i].end;
    }
    if (end == room) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DATA,
                      "%s: %" PRIu64
                      " bytes after the last tensor belong to none; fetch the file again",
                      path, room - end);
}

static radar_status collect(entry *e, json_t *header, const char *path, radar_error *err) {
    const char *key;
    json_t *info;
    size_t i = 0;
    json_object_foreach(header, key, info) {
        if (!strcmp(key, "__metadata__")) continue;
        e[i].name = key;
        e[i].name_bytes = strlen(key);
        radar_status st = read_entry(&e[i], info, path, err);
        if (st != RADAR_OK) return st;
        i++;
    }
    return RADAR_OK;
}

/* The tensors with names of their own: the header is given up after this. */
static radar_status keep(radar_part *p, const entry *e, size_t n, radar_error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += e[i].name_bytes + 1;
    p->tensor = radar_alloc_array(n, sizeof *p->tensor);
    p->names = radar_alloc(bytes);
    if (!p->tensor || !p->names)
        return radar_fail(err, RADAR_ERR_MEMORY, "%s: no memory for %zu tensors",
                          radar_path_tail(p->path), n);
    p->n_tensors = n;
    char *names = p->names;
    for (size_t i = 0; i < n; i++) {
        memcpy(names, e[i].name, e[i].name_bytes);
        p->tensor[i] = e[i].tensor;
        p->tensor[i].name = names;
        names += e[i].name_bytes + 1;
    }
    return RADAR_OK;
}

static radar_status read_header(radar_part *p, json_t *header, radar_error *err) {
    const char *path = radar_path_tail(p->path);
    const json_t *metadata = json_object_get(header, "__metadata__");
    size_t n = json_object_size(header) - (metadata ? 1 : 0);
    if (metadata && !json_is_object(metadata))
        return radar_fail(err, RADAR_ERR_DATA, "%s: __metadata__ is no object", path);
    if (n == 0 || n > RADAR_FILE_MAX_TENSORS)
        return radar_fail(err, RADAR_ERR_DATA, "%s: has %zu tensors, 1 to %zu are possible", path,
                          n, RADAR_FILE_MAX_TENSORS);
    entry *e = radar_alloc_array(n, sizeof *e);
    if (!e) return radar_fail(err, RADAR_ERR_MEMORY, "%s: no memory for %zu tensors", path, n);
    radar_status st = collect(e, header, path, err);
    if (st == RADAR_OK) {
        qsort(e, n, sizeof *e, compare_entries);
        st = place(p, e, n, err);
    }
    if (st == RADAR_OK) st = keep(p, e, n, err);
    radar_free(e);
    return st;
}

radar_status radar_safetensors_read(radar_part *p, radar_error *err) {
    const char *path = radar_path_tail(p->path);
    uint64_t n = 0;
    if (p->map.bytes < PREFIX + 2)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: truncated: a header needs %d bytes, %zu are there", path, PREFIX + 2,
                          p->map.bytes);
    memcpy(&n, p->map.data, sizeof n);
    if (n > RADAR_JSON_MAX_BYTES)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: is no safetensors file: a header of %" PRIu64
                          " bytes, at most %zu are read",
                          path, n, RADAR_JSON_MAX_BYTES);
    if (n > p->map.bytes - PREFIX)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: truncated: the header needs %" PRIu64
                          " bytes, %zu are there; fetch the file again",
                          path, n, p->map.bytes - PREFIX);
    if (n < 2 || p->map.data[PREFIX] != '{')
        return radar_fail(err, RADAR_ERR_DATA, "%s: is no safetensors file: no JSON object", path);
    p->header_bytes = PREFIX + (size_t)n;
    json_t *header = NULL;
    radar_status st = radar_json_parse(&header, path, p->map.data + PREFIX, (size_t)n, err);
    if (st == RADAR_OK) st = read_header(p, header, err);
    json_decref(header);
    return st;
}
