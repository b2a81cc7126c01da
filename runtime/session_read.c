/* What the cache holds of a range of positions, for whoever studies it: gathered from the ranks' shards, outside any step. */
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/device.h"
#include "runtime/sys.h"

#define MOST_D 256 /* of a scorer, too */

/* Positions [first, first + n) of one layer and KV head, and where each shard's tokens of them lie in the packet. */
typedef struct reading {
    const radar_kvcache *kv;
    int layer, head;
    int64_t begin[RADAR_MAX_SHARDS], end[RADAR_MAX_SHARDS]; /* slots */
    size_t at[RADAR_MAX_SHARDS + 1];                        /* tokens before the shard's */
    bool values;
    float *packet; /* [n, 1 or 2, D]: key, value of a token */
} reading;

static radar_status check(const radar_session *s, int layer, int kv_head, int64_t first, int64_t n,
                          const float *key, radar_error *err) {
    if (layer < 0 || layer >= s->kv.layers || kv_head < 0 || kv_head >= s->kv.kv_heads)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "radar_session_read of layer %d, KV head %d: there are %d layers of %d",
                          layer, kv_head, s->kv.layers, s->kv.kv_heads);
    if (first < 0 || n < 0 || first > s->position || n > s->position - first || !key)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "radar_session_read of %lld positions from %lld: the cache holds %lld",
                          (long long)n, (long long)first, (long long)s->position);
    return RADAR_OK;
}

static reading plan_reading(const radar_session *s, int layer, int head, int64_t first, int64_t n,
                            bool values) {
    reading r = {.kv = &s->kv, .layer = layer, .head = head, .values = values};
    for (int i = 0; i < s->kv.layout.shards; i++) {
        r.begin[i] = radar_shard_tokens(&s->kv.layout, i, first);
        r.end[i] = radar_shard_tokens(&s->kv.layout, i, first + n);
        r.at[i + 1] = r.at[i] + (size_t)(r.end[i] - r.begin[i]);
    }
    return r;
}

static size_t token_floats(const reading *r) { return (size_t)r->kv->D * (r->values ? 2 : 1); }

/* Own shard i: the layouts of kv.h undone, segment by segment. */
static void read_shard(const reading *r, int i) {
    const radar_kvcache *kv = r->kv;
    const radar_kv_view view = radar_kvcache_view(kv, r->layer, r->head, i);
    int shard = kv->first_shard + i, D = kv->D;
    _Alignas(64) float k[RADAR_SEGMENT * MOST_D], v[RADAR_SEGMENT * MOST_D];
    for (int64_t slot = r->begin[shard]; slot < r->end[shard]; slot++) {
        int64_t segment = slot / RADAR_SEGMENT, token = slot % RADAR_SEGMENT;
        if (slot == r->begin[shard] || token == 0) radar_kv_read(k, v, &view, (int32_t)segment);
        float *out =
            r->packet + (r->at[shard] + (size_t)(slot - r->begin[shard])) * token_floats(r);
        for (int d = 0; d < D; d++) out[d] = k[d * RADAR_SEGMENT + token];
        if (r->values) memcpy(out + D, v + token * D, (size_t)D * sizeof *out);
    }
}

static radar_status exchange(const reading *r, radar_comm *c, radar_error *err) {
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    size_t token = token_floats(r) * sizeof *r->packet;
    for (int rank = 0; rank < c->size; rank++) {
        size_t begin = r->at[radar_first_shard(&r->kv->layout, rank)],
               end = r->at[radar_first_shard(&r->kv->layout, rank + 1)];
        offset[rank] = begin * token;
        bytes[rank] = (end - begin) * token;
    }
    return radar_gather(c, RADAR_X_SETUP, r->packet, bytes, offset, err);
}

static void deal_out(const reading *r, int64_t first, int64_t n, float *key, float *value) {
    size_t D = (size_t)r->kv->D;
    for (int64_t i = 0; i < n; i++) {
        int shard = radar_shard_of(&r->kv->layout, first + i);
        int64_t slot = radar_slot_of(&r->kv->layout, first + i);
        const float *from =
            r->packet + (r->at[shard] + (size_t)(slot - r->begin[shard])) * token_floats(r);
        memcpy(key + (size_t)i * D, from, D * sizeof *key);
        if (value) memcpy(value + (size_t)i * D, from + D, D * sizeof *value);
    }
}

radar_status radar_session_read(radar_session *s, int layer, int kv_head, int64_t first, int64_t n,
                                float *key, float *value) {
    radar_error *err = &s->e->err;
    const int64_t what[] = {layer, kv_head, first, n, value != NULL};
    reading r = {0};
    radar_status st = radar_session_begin(s);
    if (st != RADAR_OK) return st;
    if (radar_device_refuse(s->e, "radar_session_read", err) == RADAR_OK &&
        check(s, layer, kv_head, first, n, key, err) == RADAR_OK) {
        r = plan_reading(s, layer, kv_head, first, n, value != NULL);
        r.packet = radar_alloc_array((size_t)n + 1, token_floats(&r) * sizeof *r.packet);
        if (!r.packet)
            radar_fail(err, RADAR_ERR_MEMORY, "radar_session_read: no memory for %lld positions",
                       (long long)n);
    }
    RADAR_TRY(st, radar_agree(s->e->comm, err), fail);
    RADAR_TRY(st,
              radar_agree_same(s->e->comm, "range to read", XXH3_64bits(what, sizeof what), err),
              fail);
    radar_kvcache_begin(&s->kv, s->position);
    for (int i = 0; i < s->kv.n_shards; i++) read_shard(&r, i);
    RADAR_TRY(st, exchange(&r, s->e->comm, err), fail);
    deal_out(&r, first, n, key, value);
fail:
    radar_free(r.packet);
    return st;
}
