/* All shards of a GGUF model: NAME-00001-of-0000N.gguf, which say split.no, split.count and split.tensors.count in their metadata. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"

#define SUFFIX "-00001-of-00001.gguf"

static int64_t split_int(const radar_gguf_table *t, const char *key, int64_t otherwise) {
    const radar_gguf_value *v = radar_gguf_find(t, key);
    int64_t n;
    return v && radar_gguf_value_int(v, &n) ? n : otherwise;
}

/* The path of shard i of n beside the first one; NULL without memory. */
static char *shard_path(const char *first, int64_t i, int64_t n) {
    size_t stem = strlen(first) - strlen(SUFFIX), room = stem + 40;
    char *path = radar_alloc(room);
    if (!path) return NULL;
    memcpy(path, first, stem);
    snprintf(path + stem, room - stem, "-%05d-of-%05d.gguf", (int)i + 1, (int)n);
    return path;
}

/* The name must be that of shard no of n. */
static radar_status check_name(const char *path, int64_t no, int64_t n, radar_error *err) {
    char want[sizeof SUFFIX + 16];
    snprintf(want, sizeof want, "-%05d-of-%05d.gguf", (int)no + 1, (int)n);
    size_t bytes = strlen(path), tail = strlen(want);
    if (bytes > tail && !strcmp(path + bytes - tail, want)) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DATA,
                      "%s: is part %d of %d of a split model, its name must end in %s",
                      radar_path_tail(path), (int)no + 1, (int)n, want);
}

static radar_status check_first(int64_t *n, const radar_tensorfile *tf, radar_error *err) {
    const char *path = tf->part[0].path;
    int64_t no = split_int(&tf->meta, "split.no", 0);
    *n = split_int(&tf->meta, "split.count", 1);
    if (*n == 0) *n = 1; /* a merged file may say so */
    if (*n < 1 || *n > RADAR_FILE_MAX_PARTS || no < 0 || no >= *n)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: split.no %" PRId64 " of split.count %" PRId64
                          "; split the model again",
                          radar_path_tail(path), no, *n);
    if (*n == 1) return RADAR_OK;
    radar_status st = check_name(path, no, *n, err);
    if (st == RADAR_OK && no)
        st = radar_fail(err, RADAR_ERR_DATA, "%s: is part %d of a split model; name its first part",
                        radar_path_tail(path), (int)no + 1);
    return st;
}

static radar_status add_shard(radar_tensorfile *tf, int64_t i, int64_t n, radar_error *err) {
    radar_part *p = &tf->part[i];
    radar_gguf_table t = {0};
    radar_status st = radar_part_open(p, shard_path(tf->part[0].path, i, n), err);
    if (st != RADAR_OK) return st;
    st = radar_gguf_read(p, &t, err);
    if (st == RADAR_OK &&
        (split_int(&t, "split.no", -1) != i || split_int(&t, "split.count", -1) != n))
        st = radar_fail(err, RADAR_ERR_DATA,
                        "%s: does not say it is part %d of %d of this model; fetch it again",
                        radar_path_tail(p->path), (int)i + 1, (int)n);
    radar_gguf_table_free(&t);
    return st;
}

static radar_status check_total(const radar_tensorfile *tf, radar_error *err) {
    int64_t said = split_int(&tf->meta, "split.tensors.count", -1);
    size_t n = 0;
    for (size_t i = 0; i < tf->n_parts; i++) n += tf->part[i].n_tensors;
    if (said < 0 || (uint64_t)said == n) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DATA,
                      "%s: split.tensors.count is %" PRId64
                      ", its parts have %zu tensors; fetch them again",
                      radar_path_tail(tf->path), said, n);
}

radar_status radar_gguf_open_all(radar_tensorfile *tf, radar_error *err) {
    int64_t n = 1;
    radar_status st = radar_gguf_read(&tf->part[0], &tf->meta, err);
    if (st == RADAR_OK) st = check_first(&n, tf, err);
    if (st != RADAR_OK || n == 1) return st;
    st = radar_tensorfile_add_parts(tf, (size_t)n, err);
    for (int64_t i = 1; st == RADAR_OK && i < n; i++) st = add_shard(tf, i, n, err);
    if (st == RADAR_OK) st = check_total(tf, err);
    return st;
}
