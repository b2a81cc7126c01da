/* JSON from files of others: the limits are checked on the text, before the parser builds anything. */
#include <xxhash.h>

#include "runtime/model/tensorfile_internal.h"

#include <string.h>

/* Depth and number of values, counted outside strings.  Broken JSON is left to the parser, which goes no deeper than this count. */
static radar_status check_limits(const char *label, const char *text, size_t bytes,
                                 radar_error *err) {
    size_t depth = 0, values = 0;
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        if (c == '"') quoted = true;
        if (c == ',' || c == '{' || c == '[') values++;
        if (c == '{' || c == '[') depth++;
        if ((c == '}' || c == ']') && depth) depth--;
        if (depth > RADAR_JSON_MAX_DEPTH)
            return radar_fail(err, RADAR_ERR_DATA, "%s: JSON is nested deeper than %d at byte %zu",
                              label, RADAR_JSON_MAX_DEPTH, i);
        if (values > RADAR_JSON_MAX_VALUES)
            return radar_fail(err, RADAR_ERR_DATA, "%s: more than %zu JSON values", label,
                              RADAR_JSON_MAX_VALUES);
    }
    return RADAR_OK;
}

radar_status radar_json_parse(json_t **out, const char *label, const void *text, size_t bytes,
                              radar_error *err) {
    *out = NULL;
    if (bytes > RADAR_JSON_MAX_BYTES)
        return radar_fail(err, RADAR_ERR_DATA, "%s: %zu bytes of JSON, at most %zu are read", label,
                          bytes, RADAR_JSON_MAX_BYTES);
    radar_status st = check_limits(label, text, bytes, err);
    if (st != RADAR_OK) return st;
    json_error_t e;
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &e);
    if (*out) return RADAR_OK;
    if (json_error_code(&e) == json_error_out_of_memory)
        return radar_fail(err, RADAR_ERR_MEMORY, "%s: no memory for %zu bytes of JSON", label,
                          bytes);
    return radar_fail(err, RADAR_ERR_DATA, "%s: bad JSON in line %d: %s; fetch the file again",
                      label, e.line, radar_show(e.text, strlen(e.text)).text);
}

radar_status radar_json_read(json_t **out, const char *path, uint64_t *hash, radar_error *err) {
    radar_mapping m;
    *out = NULL;
    radar_status st = radar_mapping_open(&m, path, err);
    if (st != RADAR_OK) return st;
    st = radar_json_parse(out, radar_path_tail(path), m.data, m.bytes, err);
    if (st == RADAR_OK && hash) *hash = XXH3_64bits(m.data, m.bytes);
    radar_mapping_close(&m);
    return st;
}
