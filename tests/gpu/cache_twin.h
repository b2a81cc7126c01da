/* cache_twin.h - a shard of the cache of a few KV heads on both backends, random keys and values in it. */
#ifndef RADAR_GPU_CACHE_TWIN_H
#define RADAR_GPU_CACHE_TWIN_H

#include "tests/gpu/twin.h"

#define MOST_HEADS 8

typedef struct cache_twin {
    int heads, D;
    int32_t segments;
    radar_dtype type; /* of the GPU's; the CPU's has f32 instead of fp8, the same numbers */
    twin k, v, key_scale, value_scale, summary, merged;
    radar_kv_view view[SIDES][MOST_HEADS];
} cache_twin;

/* Filled by `append`, which is a case of its own. */
cache_twin cache_twin_of(radar_dtype type, int heads, int D, int32_t segments, uint64_t stream);
/* Room for summaries of the scorer, and of longer segments. */
void cache_twin_summaries(cache_twin *c, const radar_scorer *scorer);

#endif
