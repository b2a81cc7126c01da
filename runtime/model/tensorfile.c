#include "runtime/model/tensorfile.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"

#define SAMPLES 8
#define SAMPLE_BYTES 4096

static radar_status no_memory(radar_error *err) {
    return radar_fail(err, RADAR_ERR_MEMORY, "no memory for the list of a model's tensors");
}

static char *copy_text(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = radar_alloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

/* ---- parts ---- */

radar_status radar_tensorfile_add_parts(radar_tensorfile *tf, size_t n, radar_error *err) {
    radar_part *part = radar_alloc_array(n, sizeof *part);
    if (!part) return no_memory(err);
    if (tf->n_parts) memcpy(part, tf->part, tf->n_parts * sizeof *part);
    radar_free(tf->part);
    tf->part = part;
    tf->n_parts = n;
    return RADAR_OK;
}

radar_status radar_part_open(radar_part *p, char *path, radar_error *err) {
    if (!path) return no_memory(err);
    p->path = path;
    return radar_mapping_open(&p->map, path, err);
}

radar_status radar_tensorfile_join(radar_tensorfile *tf, radar_error *err) {
    if (tf->tensor) return RADAR_OK;
    size_t n = 0, at = 0;
    for (size_t i = 0; i < tf->n_parts; i++) n += tf->part[i].n_tensors;
    if (n == 0)
        return radar_fail(err, RADAR_ERR_DATA, "%s: has no tensors", radar_path_tail(tf->path));
    tf->tensor = radar_alloc_array(n, sizeof *tf->tensor);
    tf->index = radar_alloc_array(n, sizeof *tf->index);
    if (!tf->tensor || !tf->index) return no_memory(err);
    tf->n_tensors = n;
    for (size_t i = 0; i < tf->n_parts; i++) {
        radar_part *p = &tf->part[i];
        if (!p->n_tensors) continue;
        memcpy(tf->tensor + at, p->tensor, p->n_tensors * sizeof *p->tensor);
        at += p->n_tensors;
        radar_free(p->tensor);
        p->tensor = NULL;
    }
    for (size_t i = 0; i < n; i++)
        tf->index[i] = (radar_name){tf->tensor[i].name, strlen(tf->tensor[i].name), i};
    radar_names_sort(tf->index, n);
    int64_t twice = radar_names_duplicate(tf->index, n);
    if (twice < 0) return RADAR_OK;
    const char *name = tf->tensor[twice].name;
    return radar_fail(err, RADAR_ERR_DATA, "%s: tensor %s is there twice",
                      radar_path_tail(tf->path), radar_show(name, strlen(name)).text);
}

const char *radar_tensorfile_where(const radar_tensorfile *tf, const radar_tensor *t) {
    for (size_t i = 0; i < tf->n_parts; i++) {
        const radar_part *p = &tf->part[i];
        uintptr_t begin = (uintptr_t)p->map.data, at = (uintptr_t)t->data;
        if (at >= begin && at - begin <= p->map.bytes) return p->path;
    }
    return tf->path;
}

/* ---- open and close ---- */

static radar_status open_one(radar_tensorfile *tf, radar_error *err) {
    struct stat s;
    const char *path = radar_path_tail(tf->path);
    if (stat(tf->path, &s))
        return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: %s; check the path", path, strerror(errno));
    if (S_ISDIR(s.st_mode)) return radar_safetensors_open_all(tf, err);
    size_t n = strlen(path);
    if (n > 12 && !strcmp(path + n - 12, ".safetensors"))
        return radar_fail(err, RADAR_ERR_DATA, "%s: name the folder with its config.json instead",
                          path);
    tf->gguf = true;
    radar_status st = radar_tensorfile_add_parts(tf, 1, err);
    if (st == RADAR_OK) st = radar_part_open(&tf->part[0], copy_text(tf->path), err);
    return st == RADAR_OK ? radar_gguf_open_all(tf, err) : st;
}

radar_status radar_tensorfile_open(radar_tensorfile **out, const char *path, radar_error *err) {
    *out = NULL;
    radar_tensorfile *tf = radar_alloc(sizeof *tf);
    if (!tf) return no_memory(err);
    tf->path = copy_text(path);
    radar_status st = tf->path ? open_one(tf, err) : no_memory(err);
    if (st == RADAR_OK) st = radar_tensorfile_join(tf, err);
    if (st == RADAR_OK)
        *out = tf;
    else
        radar_tensorfile_close(tf);
    return st;
}

radar_status radar_tensorfile_open_memory(radar_tensorfile **out, const void *data, size_t bytes,
                                          const char *config, radar_error *err) {
    *out = NULL;
    radar_tensorfile *tf = radar_alloc(sizeof *tf);
    if (!tf) return no_memory(err);
    tf->path = copy_text("memory");
    tf->gguf = !config;
    radar_status st = tf->path ? radar_tensorfile_add_parts(tf, 1, err) : no_memory(err);
    if (st == RADAR_OK) {
        tf->part[0].path = copy_text("memory");
        tf->part[0].map = (radar_mapping){data, bytes, false};
        if (!tf->part[0].path) st = no_memory(err);
    }
    if (st == RADAR_OK && config)
        st = radar_json_parse(&tf->config, "config.json", config, strlen(config), err);
    if (st == RADAR_OK)
        st = tf->gguf ? radar_gguf_open_all(tf, err) : radar_safetensors_read(&tf->part[0], err);
    if (st == RADAR_OK) st = radar_tensorfile_join(tf, err);
    if (st == RADAR_OK)
        *out = tf;
    else
        radar_tensorfile_close(tf);
    return st;
}

void radar_tensorfile_close(radar_tensorfile *tf) {
    if (!tf) return;
    json_decref(tf->config);
    radar_gguf_table_free(&tf->meta);
    radar_free(tf->index);
    radar_free(tf->tensor);
    for (size_t i = 0; i < tf->n_parts; i++) {
        radar_free(tf->part[i].names);
        radar_free(tf->part[i].tensor);
        radar_mapping_close(&tf->part[i].map);
        radar_free(tf->part[i].path);
    }
    radar_free(tf->part);
    radar_free(tf->path);
    radar_free(tf);
}

void radar_tensorfile_rest(const radar_tensorfile *tf) {
    for (size_t i = 0; i < tf->n_parts; i++) radar_mapping_rest(&tf->part[i].map);
}

/* ---- facts ---- */

bool radar_tensorfile_is_gguf(const radar_tensorfile *tf) { return tf->gguf; }

const char *radar_tensorfile_path(const radar_tensorfile *tf) { return tf->path; }

size_t radar_tensorfile_count(const radar_tensorfile *tf) { return tf->n_tensors; }

const radar_tensor *radar_tensorfile_at(const radar_tensorfile *tf, size_t i) {
    return i < tf->n_tensors ? &tf->tensor[i] : NULL;
}

const radar_tensor *radar_tensorfile_find(const radar_tensorfile *tf, const char *name) {
    int64_t i = radar_names_find(tf->index, tf->n_tensors, name, strlen(name));
    return i < 0 ? NULL : &tf->tensor[i];
}

uint64_t radar_tensorfile_bytes(const radar_tensorfile *tf) {
    uint64_t total = 0;
    for (size_t i = 0; i < tf->n_parts; i++) total += tf->part[i].map.bytes;
    return total;
}

/* The header, the size, and pages spread over the data up to its end. */
static uint64_t hash_part(const radar_part *p, uint64_t seed) {
    uint64_t size = p->map.bytes, hash = XXH3_64bits_withSeed(&size, sizeof size, seed);
    hash = XXH3_64bits_withSeed(p->map.data, p->header_bytes, hash);
    size_t data = p->map.bytes - p->header_bytes;
    size_t n = data < SAMPLE_BYTES ? data : SAMPLE_BYTES;
    for (size_t i = 0; n && i < SAMPLES; i++) {
        size_t at = (data - n) / (SAMPLES - 1) * i;
        if (i == SAMPLES - 1) at = data - n;
        hash = XXH3_64bits_withSeed(p->map.data + p->header_bytes + at, n, hash);
    }
    return hash;
}

uint64_t radar_tensorfile_fingerprint(const radar_tensorfile *tf) {
    uint64_t hash = tf->json_hash;
    for (size_t i = 0; i < tf->n_parts; i++) hash = hash_part(&tf->part[i], hash);
    return hash;
}

const json_t *radar_tensorfile_config(const radar_tensorfile *tf) { return tf->config; }

radar_status radar_tensorfile_json(json_t **out, const radar_tensorfile *tf, const char *name,
                                   radar_error *err) {
    *out = NULL;
    struct stat s;
    if (tf->gguf || strchr(name, '/')) return RADAR_OK;
    char *path = radar_path_join(tf->path, name);
    if (!path) return no_memory(err);
    radar_status st = RADAR_OK;
    if (!stat(path, &s) || errno != ENOENT) st = radar_json_read(out, path, NULL, err);
    radar_free(path);
    return st;
}
