/* A repo id like "org/name" in the local Hugging Face cache: models--org--name/{refs/main, snapshots/HASH/}.  Nothing is downloaded.
 * Source: the huggingface_hub documentation of the cache. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/model/model_internal.h"
#include "runtime/sys.h"

#define MAX_ID 200
#define MAX_REF 128
#define MAX_PATH 4096

/* org/name of letters, digits, '-', '_' and '.'; no part begins with '.'. */
static bool is_repo_id(const char *id) {
    size_t n = strlen(id), slashes = 0;
    if (n < 3 || n > MAX_ID || id[0] == '.' || id[n - 1] == '/' || id[0] == '/') return false;
    for (size_t i = 0; i < n; i++) {
        if (id[i] == '/') {
            slashes++;
            if (id[i + 1] == '.') return false;
        } else if (!isalnum((unsigned char)id[i]) && !strchr("-_.", id[i]))
            return false;
    }
    return slashes == 1;
}

/* Where the cache is, in the order of huggingface_hub; false when the environment does not say. */
static bool find_cache(char *out, size_t room) {
    static const struct {
        const char *variable, *below;
    } place[] = {{"HF_HUB_CACHE", ""},
                 {"HF_HOME", "/hub"},
                 {"XDG_CACHE_HOME", "/huggingface/hub"},
                 {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        const char *value = getenv(place[i].variable);
        if (value && *value) {
            int n = snprintf(out, room, "%s%s", value, place[i].below);
            return n > 0 && (size_t)n < room;
        }
    }
    return false;
}

/* The hash in refs/main: one short word. */
static radar_status read_ref(char *out, const char *path, radar_error *err) {
    radar_mapping m;
    radar_status st = radar_mapping_open(&m, path, err);
    if (st != RADAR_OK) return st;
    size_t n = 0;
    while (n < m.bytes && n < MAX_REF && isalnum(m.data[n])) n++;
    bool whole = n == m.bytes || (n + 1 == m.bytes && m.data[n] == '\n');
    memcpy(out, m.data, n);
    out[n] = 0;
    radar_mapping_close(&m);
    if (n && whole) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DATA, "%s: is no commit hash; fetch the model again",
                      radar_path_tail(path));
}

static radar_status build_path(char **out, const char *root, const char *id, radar_error *err) {
    char path[MAX_PATH], ref[MAX_REF + 1];
    size_t org = (size_t)(strchr(id, '/') - id);
    int n = snprintf(path, sizeof path, "%s/models--%.*s--%s", root, (int)org, id, id + org + 1);
    if (n < 0 || (size_t)n + MAX_REF + 16 > sizeof path)
        return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: the path of the cache is too long", id);
    size_t base = (size_t)n;
    struct stat s;
    if (stat(path, &s))
        return radar_fail(err, RADAR_ERR_NO_INPUT,
                          "%s: no such file, and not in the cache %s; fetch it first", id,
                          radar_path_tail(root));
    snprintf(path + base, sizeof path - base, "/refs/main");
    radar_status st = read_ref(ref, path, err);
    if (st != RADAR_OK) return st;
    path[base] = 0;
    char *snapshots = radar_path_join(path, "snapshots");
    *out = snapshots ? radar_path_join(snapshots, ref) : NULL;
    radar_free(snapshots);
    return *out ? RADAR_OK : radar_fail(err, RADAR_ERR_MEMORY, "%s: no memory for its path", id);
}

radar_status radar_hfcache_find(char **out, const char *id, radar_error *err) {
    char root[MAX_PATH];
    *out = NULL;
    if (!is_repo_id(id)) return RADAR_OK;
    if (!find_cache(root, sizeof root))
        return radar_fail(err, RADAR_ERR_NO_INPUT,
                          "%s: no such file, and no cache: set HF_HUB_CACHE or HF_HOME", id);
    return build_path(out, root, id, err);
}
