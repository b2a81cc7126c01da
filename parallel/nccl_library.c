#include "parallel/nccl_library.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    const char *name;
    size_t at; /* in nccl_library */
    bool needed;
} entry;

static const entry entries[] = {
    {"ncclGetVersion", offsetof(nccl_library, version), true},
    {"ncclGetErrorString", offsetof(nccl_library, error_string), true},
    {"ncclGetUniqueId", offsetof(nccl_library, unique_id), true},
    {"ncclCommInitRank", offsetof(nccl_library, init), true},
    {"ncclCommDestroy", offsetof(nccl_library, destroy), true},
    {"ncclCommAbort", offsetof(nccl_library, abort), true},
    {"ncclCommGetAsyncError", offsetof(nccl_library, async_error), true},
    {"ncclAllGather", offsetof(nccl_library, all_gather), true},
    {"ncclBroadcast", offsetof(nccl_library, broadcast), true},
    {"ncclGroupStart", offsetof(nccl_library, group_start), true},
    {"ncclGroupEnd", offsetof(nccl_library, group_end), true},
    {"ncclMemAlloc", offsetof(nccl_library, mem_alloc), false},
    {"ncclMemFree", offsetof(nccl_library, mem_free), false},
    {"ncclCommWindowRegister", offsetof(nccl_library, window_register), false},
    {"ncclCommWindowDeregister", offsetof(nccl_library, window_deregister), false},
};

radar_status nccl_library_load(nccl_library *out, radar_error *err) {
    const char *path = getenv("RADAR_NCCL");
    if (!path || !*path) path = "libnccl.so.2";
    /* A rank captures its graphs by itself, when its own list comes again: what NCCL does must not depend on whether it is captured. */
    setenv("NCCL_GRAPH_REGISTER", "0", 0);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return radar_fail(err, RADAR_ERR_CONFIG, "no NCCL (%.200s)", dlerror());
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        void *function = dlsym(library, entries[i].name);
        if (!function && entries[i].needed)
            return radar_fail(err, RADAR_ERR_CONFIG, "%.200s has no %s", path, entries[i].name);
        memcpy((char *)out + entries[i].at, &function, sizeof function);
    }
    return RADAR_OK;
}
