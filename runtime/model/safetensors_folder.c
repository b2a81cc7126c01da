/* A folder as Hugging Face lays it out: config.json, and model.safetensors or model.safetensors.index.json with its parts. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

static radar_status no_memory(radar_error *err) {
    return radar_fail(err, RADAR_ERR_MEMORY, "no memory for the path of a model's file");
}

static radar_status look_for(bool *there, const char *folder, const char *name, radar_error *err) {
    char *path = radar_path_join(folder, name);
    if (!path) return no_memory(err);
    *there = !access(path, F_OK);
    radar_free(path);
    return RADAR_OK;
}

static radar_status read_json(json_t **out, uint64_t *hash, const char *folder, const char *name,
                              radar_error *err) {
    char *path = radar_path_join(folder, name);
    if (!path) return no_memory(err);
    radar_status st = radar_json_read(out, path, hash, err);
    radar_free(path);
    return st;
}

static radar_status open_part(radar_part *p, const char *folder, const char *name,
                              radar_error *err) {
    radar_status st = radar_part_open(p, radar_path_join(folder, name), err);
    return st == RADAR_OK ? radar_safetensors_read(p, err) : st;
}

/* Names in the index stay inside the folder. */
static bool is_plain(const char *name) {
    return *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* The names of all parts, each once, sorted; they point into the index. */
static radar_status list_parts(radar_name **out, size_t *n_parts, json_t *map, const char *label,
                               radar_error *err) {
    size_t n = json_object_size(map), i = 0, kept = 0;
    const char *key;
    json_t *file;
    radar_name *name = radar_alloc_array(n, sizeof *name);
    *out = name;
    if (!name) return radar_fail(err, RADAR_ERR_MEMORY, "%s: no memory for %zu names", label, n);
    json_object_foreach(map, key, file) {
        const char *text = json_string_value(file);
        if (!text || !is_plain(text))
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: weight_map: %s is in no plain file name of this folder", label,
                              radar_show(key, strlen(key)).text);
        name[i++] = (radar_name){text, strlen(text), 0};
    }
    radar_names_sort(name, n);
    for (i = 0; i < n; i++)
        if (!kept || strcmp(name[i].text, name[kept - 1].text)) name[kept++] = name[i];
    *n_parts = kept;
    if (kept > RADAR_FILE_MAX_PARTS)
        return radar_fail(err, RADAR_ERR_DATA, "%s: names %zu files, at most %d are read", label,
                          kept, RADAR_FILE_MAX_PARTS);
    return RADAR_OK;
}

static radar_status open_parts(radar_tensorfile *tf, const radar_name *name, size_t n,
                               radar_error *err) {
    radar_status st = radar_tensorfile_add_parts(tf, n, err);
    for (size_t i = 0; st == RADAR_OK && i < n; i++)
        st = open_part(&tf->part[i], tf->path, name[i].text, err);
    return st;
}

/* Every tensor lies where the index says, and the index knows all of them. */
static radar_status check_map(radar_tensorfile *tf, json_t *map, const char *label,
                              radar_error *err) {
    radar_status st = radar_tensorfile_join(tf, err);
    if (st != RADAR_OK) return st;
    const char *key;
    json_t *file;
    json_object_foreach(map, key, file) {
        const radar_tensor *t = radar_tensorfile_find(tf, key);
        const char *where = t ? strrchr(radar_tensorfile_where(tf, t), '/') : NULL;
        if (!where || strcmp(where + 1, json_string_value(file)))
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: weight_map: tensor %s is not in %s; fetch the files again",
                              label, radar_show(key, strlen(key)).text,
                              radar_show(json_string_value(file), json_string_length(file)).text);
    }
    if (json_object_size(map) == tf->n_tensors) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DATA, "%s: weight_map has %zu tensors, its files have %zu",
                      label, json_object_size(map), tf->n_tensors);
}

static radar_status open_index(radar_tensorfile *tf, radar_error *err) {
    json_t *index = NULL;
    radar_name *name = NULL;
    size_t n = 0;
    uint64_t hash = 0;
    char label[224];
    snprintf(label, sizeof label, "%s/%s", radar_path_tail(tf->path), INDEX);
    radar_status st = read_json(&index, &hash, tf->path, INDEX, err);
    if (st != RADAR_OK) return st;
    tf->json_hash = tf->json_hash * 31 + hash;
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || !json_object_size(map))
        st = radar_fail(err, RADAR_ERR_DATA, "%s: has no weight_map", label);
    if (st == RADAR_OK) st = list_parts(&name, &n, map, label, err);
    if (st == RADAR_OK) st = open_parts(tf, name, n, err);
    if (st == RADAR_OK) st = check_map(tf, map, label, err);
    radar_free(name);
    json_decref(index);
    return st;
}

static radar_status open_weights(radar_tensorfile *tf, radar_error *err) {
    bool single = false, index = false;
    radar_status st = look_for(&single, tf->path, SINGLE, err);
    if (st == RADAR_OK) st = look_for(&index, tf->path, INDEX, err);
    if (st != RADAR_OK) return st;
    if (single) {
        st = radar_tensorfile_add_parts(tf, 1, err);
        return st == RADAR_OK ? open_part(&tf->part[0], tf->path, SINGLE, err) : st;
    }
    if (index) return open_index(tf, err);
    return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: has neither %s nor %s; fetch the weights",
                      radar_path_tail(tf->path), SINGLE, INDEX);
}

radar_status radar_safetensors_open_all(radar_tensorfile *tf, radar_error *err) {
    bool there = false;
    radar_status st = look_for(&there, tf->path, "config.json", err);
    if (st == RADAR_OK && !there)
        st = radar_fail(err, RADAR_ERR_NO_INPUT,
                        "%s: has no config.json; name a .gguf file or a model's folder",
                        radar_path_tail(tf->path));
    if (st == RADAR_OK) st = read_json(&tf->config, &tf->json_hash, tf->path, "config.json", err);
    if (st == RADAR_OK && !json_is_object(tf->config))
        st = radar_fail(err, RADAR_ERR_DATA, "%s: config.json is no JSON object",
                        radar_path_tail(tf->path));
    return st == RADAR_OK ? open_weights(tf, err) : st;
}
