/* Positions that are made up instead of computed: the cache as deep as a measurement wants it, without the hours of a prefill. */
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/engine.h"
#include "runtime/sys.h"

/* Keys and values of one pass as the filler writes them, one KV head after the other. */
typedef struct filling {
    radar_session *s;
    radar_filler *each;
    void *user;
    int64_t first; /* of the pass */
    int n;
    float *key, *value; /* [n, D] */
    float *k, *v;       /* [n, KV heads, D] of one layer; all four in one block */
} filling;

/* What must hold before anything is written; the same on all ranks, whose text differs at most by their own memory. */
static radar_status check_fill(filling *f, size_t n, int rows, int D) {
    const radar_session *s = f->s;
    radar_error *err = &s->e->err;
    if (!f->each)
        return radar_fail(err, RADAR_ERR_USAGE, "radar_session_fill: no function to fill with");
    if (s->own_policy->sees_prompt)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "attention '%s' has to see the prompt: its cache cannot be made up; "
                          "prefill a text",
                          s->own_policy->name);
    if (n > (size_t)(s->kv.context - s->position))
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "%lld tokens in the cache and %zu more, but --ctx is %lld: raise --ctx",
                          (long long)s->position, n, (long long)s->kv.context);
    const size_t one = (size_t)rows * (size_t)D, all = one * (size_t)s->kv.kv_heads;
    f->key = radar_alloc_array(2 * (one + all), sizeof *f->key);
    if (!f->key)
        return radar_fail(err, RADAR_ERR_MEMORY, "radar_session_fill: no memory for %d rows", rows);
    f->value = f->key + one;
    f->k = f->value + one;
    f->v = f->k + all;
    return RADAR_OK;
}

static bool owned(const radar_kvcache *kv, int64_t position) {
    int shard = radar_shard_of(&kv->layout, position);
    return shard >= kv->first_shard && shard < kv->first_shard + kv->n_shards;
}

/* The end of the run of positions from `first` on that this rank owns, or does not own, all of them. */
static int64_t run_end(const radar_kvcache *kv, int64_t first, int64_t end) {
    const bool own = owned(kv, first);
    int64_t stripe = kv->layout.stripe, at = first;
    while (at < end && owned(kv, at) == own) at = (at / stripe + 1) * stripe;
    return radar_min64(at, end);
}

/* One layer of one pass: the filler is asked for what this rank owns, in runs of whole stripes, and no other position is written. */
static void fill_layer(const filling *f, int layer) {
    radar_session *s = f->s;
    radar_workspace *ws = &s->e->ws;
    radar_kvcache *kv = &s->kv;
    const size_t D = (size_t)kv->D, row = (size_t)kv->kv_heads * D;
    const int64_t end = f->first + f->n;
    for (int64_t at = f->first, next; at < end; at = next) {
        next = run_end(kv, at, end);
        if (!owned(kv, at)) continue;
        for (int head = 0; head < kv->kv_heads; head++) {
            f->each(f->user, layer, head, at, next - at, f->key, f->value);
            for (int64_t i = 0; i < next - at; i++) {
                const size_t to = (size_t)(at - f->first + i) * row + (size_t)head * D;
                memcpy(f->k + to, f->key + (size_t)i * D, D * sizeof(float));
                memcpy(f->v + to, f->value + (size_t)i * D, D * sizeof(float));
            }
        }
    }
    kv->be->ops->upload(kv->be, ws->k, f->k, (size_t)f->n * row * sizeof *f->k);
    kv->be->ops->upload(kv->be, ws->v, f->v, (size_t)f->n * row * sizeof *f->v);
    radar_kvcache_append(kv, layer, f->first, f->n, ws->k, ws->v, ws->slot);
    if (s->attention.scorer)
        radar_kvcache_seal(kv, s->attention.scorer, layer, end, s->attention.window);
}

/* A wish to stop, of any rank, is known to all before the pass: no position of it is written anywhere. */
static radar_status agree_to_go_on(radar_engine *e, int64_t done, size_t n) {
    if (e->stop)
        radar_fail(&e->err, RADAR_ERR_STOPPED, "stopped on request after %lld of %zu positions",
                   (long long)done, n);
    radar_status st = radar_agree(e->comm, &e->err);
    if (st == RADAR_ERR_STOPPED) e->stop = false;
    return st;
}

radar_status radar_session_fill(radar_session *s, size_t n, radar_filler *each, void *user) {
    radar_engine *e = s->e;
    filling f = {.s = s, .each = each, .user = user};
    const int rows = radar_pass_rows(e);
    radar_status st;
    RADAR_TRY(st, radar_score(s, NULL, 0, NULL), fail); /* a sampled token comes first */
    check_fill(&f, n, rows, s->kv.D);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    const uint64_t what[] = {(uint64_t)s->position, n};
    RADAR_TRY(
        st, radar_agree_same(e->comm, "positions to fill", XXH3_64bits(what, sizeof what), &e->err),
        fail);
    for (size_t done = 0; done < n; done += (size_t)f.n) {
        f.first = s->position;
        f.n = (int)radar_min64((int64_t)(n - done), rows - s->position % rows);
        RADAR_TRY(st, agree_to_go_on(e, (int64_t)done, n), fail);
        for (int layer = 0; layer < s->kv.layers; layer++) fill_layer(&f, layer);
        if (s->state_position == s->position) s->state_position += f.n;
        s->position += f.n;
        s->logits_valid = false;
        radar_report(e, "fill", (int64_t)done + f.n, (int64_t)n);
    }
fail:
    radar_free(f.key);
    return st;
}
