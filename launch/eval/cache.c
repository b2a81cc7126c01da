/* Sessions of a sweep: what one has prefilled is kept from setting to setting, and a few texts side by side where there is room. */
#include <string.h>

#include "launch/eval/eval.h"
#include "runtime/sys.h"

enum { SLOTS = 32 };

typedef struct slot {
    radar_session *session;
    const char *kv_type;
    int64_t context;
    int32_t *token;   /* [context]: the first n of the cache are these */
    uint64_t prefill; /* eval_prefill_hash of the setting that they were prefilled under */
    int64_t n, used;  /* used: when, in calls */
} slot;

struct eval_cache {
    slot slot[SLOTS];
    slot *now; /* job->session is its session */
    int64_t calls;
};

static void close_slot(slot *s) {
    radar_session_close(s->session);
    radar_free(s->token);
    *s = (slot){0};
}

/* How much of token [0, n) can stay: all of it, or as many whole chunks as agree, so that the passes that fill the cache are those of
 * a prefill from the beginning. */
static int64_t agreeing(const eval_context *c, const slot *s, const int32_t *token, int64_t n) {
    const int64_t most = radar_min64(n, s->n), chunk = c->setting.chunk;
    int64_t same = 0;
    if (s->prefill != eval_prefill_hash(&c->setting)) return 0;
    while (same < most && token[same] == s->token[same]) same++;
    return same == n && same == s->n ? n : same / chunk * chunk;
}

/* A q8 cache goes back further than a chunk only nearly (radar_rewind), and a row is not to depend on those before it. */
static int64_t can_stay(const eval_context *c, const slot *s, int64_t n) {
    const bool far = radar_position(s->session) - n > c->setting.chunk;
    return far && strcmp(c->setting.kv_type, "q8") == 0 ? 0 : n;
}

/* ---- which slot ---- */

/* Another session beside those that are open takes at most an eighth of the memory that is free; rank 0 looks. */
static bool room_for_more(eval_context *c, int64_t room) {
    const radar_model_info *m = &c->job->info;
    const int64_t asked = c->setting.context;
    if (asked != LAUNCH_UNSET) room = radar_max64(room, asked > 0 ? asked : m->context);
    const double bytes = (double)room * 2 * m->head_dim * m->kv_heads * m->layers * 4;
    unsigned char fits = bytes < (double)radar_memory_available() / 8;
    c->job->world->broadcast(c->job->world, &fits, sizeof fits);
    return fits != 0;
}

/* The session that has most of the tokens, if that is half of them; else a free slot, else the one longest not used. */
static slot *choose_slot(eval_context *c, const int32_t *token, int64_t n, int64_t room) {
    slot *best = NULL, *empty = NULL, *oldest = NULL;
    int64_t most = -1;
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &c->cache->slot[i];
        if (s->session == NULL) {
            empty = empty != NULL ? empty : s;
            continue;
        }
        if (oldest == NULL || s->used < oldest->used) oldest = s;
        if (s->context < room || strcmp(s->kv_type, c->setting.kv_type) != 0) continue;
        const int64_t same = agreeing(c, s, token, n);
        if (same > most) most = same, best = s;
    }
    if (best != NULL && 2 * most >= n) return best;
    if (oldest == NULL || (empty != NULL && room_for_more(c, room))) return empty;
    return oldest;
}

/* ---- a session that is open and set ---- */

/* Where there is no room for another session on some rank, it takes the place of all others. */
static radar_status open_another(eval_context *c, int64_t context) {
    launch_job *job = c->job;
    const radar_session_options opt = launch_session_options(&c->setting, context);
    radar_status st = radar_session_open(&job->session, job->engine, &opt);
    if (st == RADAR_ERR_MEMORY) {
        for (int i = 0; i < SLOTS; i++)
            if (&c->cache->slot[i] != c->cache->now) close_slot(&c->cache->slot[i]);
        st = radar_session_open(&job->session, job->engine, &opt);
    }
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

static radar_status open_slot(eval_context *c, slot *s, int64_t room) {
    launch_job *job = c->job;
    const bool first = c->cache->now == NULL; /* it is told of once */
    int64_t context = 0;
    close_slot(s);
    job->session = NULL;
    c->cache->now = s;
    radar_status st = launch_context(job, room, 0, &context);
    if (st != RADAR_OK) return st;
    s->token = radar_alloc_array((size_t)context, sizeof *s->token);
    if (s->token == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the tokens");
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    if (first) st = launch_open_session(job, context);
    if (!first) st = open_another(c, context);
    if (st != RADAR_OK) return st;
    s->session = job->session;
    s->context = context;
    s->kv_type = c->setting.kv_type;
    return RADAR_OK;
}

/* The present setting on an open session.  An attention that has to see the prompt takes it only when the cache is empty. */
static radar_status configure(eval_context *c, slot *s) {
    const radar_session_options opt = launch_session_options(&c->setting, s->context);
    radar_status st = radar_session_reconfigure(s->session, &opt);
    if (st == RADAR_ERR_CONFIG && radar_position(s->session) > 0) {
        s->n = 0;
        st = radar_rewind(s->session, 0);
        if (st == RADAR_OK) st = radar_session_reconfigure(s->session, &opt);
    }
    return st == RADAR_OK ? st : launch_library_failed(c->job, st);
}

static radar_status find_session(eval_context *c, const int32_t *token, int64_t n, int64_t room) {
    if (c->cache == NULL) c->cache = radar_alloc(sizeof *c->cache);
    if (c->cache == NULL) radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for the cache");
    if (launch_agree(c->job) != RADAR_OK) return c->job->err.status;
    slot *s = choose_slot(c, token, n, room);
    s->used = ++c->cache->calls;
    if (s->session == NULL || s->context < room || strcmp(s->kv_type, c->setting.kv_type) != 0) {
        const radar_status st = open_slot(c, s, room);
        s->used = c->cache->calls;
        return st;
    }
    c->cache->now = s;
    c->job->session = s->session;
    return configure(c, s);
}

radar_status eval_prefilled(eval_context *c, const int32_t *token, int64_t n, int64_t room) {
    launch_job *job = c->job;
    radar_status st = find_session(c, token, n, room);
    if (st != RADAR_OK) return st;
    slot *s = c->cache->now;
    const int64_t keep = can_stay(c, s, agreeing(c, s, token, n));
    s->n = 0; /* until it is whole */
    if ((st = eval_back(c, keep)) != RADAR_OK) return st;
    const double began = radar_clock();
    if (keep < n) {
        st = radar_prefill(job->session, token + keep, (size_t)(n - keep));
        if (st != RADAR_OK) return launch_library_failed(job, st);
    }
    c->prefill_s = radar_clock() - began;
    if (n > 0) memcpy(s->token, token, (size_t)n * sizeof *token);
    s->n = n;
    s->prefill = eval_prefill_hash(&c->setting);
    return RADAR_OK;
}

radar_status eval_back(eval_context *c, int64_t n) {
    const radar_status st = radar_rewind(c->job->session, n);
    return st == RADAR_OK ? st : launch_library_failed(c->job, st);
}

void eval_forget(eval_context *c) { c->cache->now->n = 0; }

void eval_cache_close(eval_context *c) {
    for (int i = 0; c->cache != NULL && i < SLOTS; i++) close_slot(&c->cache->slot[i]);
    c->job->session = NULL;
    radar_free(c->cache);
    c->cache = NULL;
}
