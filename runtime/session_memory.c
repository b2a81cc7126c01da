/* What a session takes, added up from the sizes it reserves by, and whether the machine has it. */
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "runtime/engine.h"
#include "runtime/sys.h"

radar_rank_memory radar_session_memory(const radar_session *s) {
    const radar_plan *p = &s->plan;
    const radar_policy_shape shape = {&s->kv, &s->attention, s->e->model->config.n_heads};
    const size_t vocab = (size_t)s->e->model->config.vocab;
    radar_rank_memory m = {.size = sizeof m, .kv = s->kv.bytes, .summaries = s->kv.summary_bytes};
    m.lists = (size_t)p->max_tasks * sizeof *p->task + p->max_items * sizeof *p->item +
              (size_t)p->max_missed * sizeof *p->missed + (size_t)p->max_folds * sizeof *p->fold +
              p->scratch_bytes + p->memory_bytes + p->packet_bytes +
              radar_most_segments(&s->kv) * sizeof *p->every + vocab * sizeof *s->logits +
              radar_sampler_scratch((int)vocab);
    if (s->own_policy->bytes) {
        double state = s->own_policy->bytes(&shape);
        m.state = state < 1e18 ? (uint64_t)state : (uint64_t)1e18; /* adds up without overflow */
    }
    return m;
}

uint64_t radar_memory_sum(const radar_rank_memory *m) {
    return m->weights + m->workspace + m->kv + m->summaries + m->lists + m->state;
}

/* What rank `rank` would take of a session like s with another context. */
static bool rank_wants(const radar_session *s, int rank, int64_t context, uint64_t *bytes) {
    radar_comm comm = {.rank = rank, .size = s->e->comm->size};
    radar_engine e = *s->e;
    radar_session t = *s;
    e.comm = &comm;
    t.e = &e;
    t.kv.rank = rank;
    t.kv.context = context;
    if (radar_session_reshape(&t, NULL) != RADAR_OK) return false;
    const radar_rank_memory m = radar_session_memory(&t);
    *bytes = radar_memory_sum(&m);
    return true;
}

typedef struct want {
    uint64_t host, session, beside, available; /* beside: what does not depend on the context */
} want;

static bool fits(const radar_session *s, const want *all, int64_t context) {
    const want *own = &all[s->e->comm->rank];
    uint64_t sum = 0, bytes;
    for (int r = 0; r < s->e->comm->size; r++) {
        if (all[r].host != own->host) continue;
        if (!rank_wants(s, r, context, &bytes)) return false;
        sum += bytes + all[r].beside;
    }
    return sum <= own->available;
}

/* In whole stripes of 256 tokens. */
static int64_t largest_context(const radar_session *s, const want *all) {
    int64_t low = 0, high = s->kv.context / 256 + 1;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (fits(s, all, middle * 256))
            low = middle;
        else
            high = middle;
    }
    return low * 256;
}

radar_status radar_session_check_memory(const radar_session *s, const radar_rank_memory *own,
                                        const radar_rank_memory *held, radar_error *err) {
    want all[RADAR_MAX_RANKS];
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    char host[256] = "";
    radar_comm *c = s->e->comm;
    uint64_t beside = own->weights + own->workspace, wanted = 0;
    const radar_device_facts device =
        s->e->be ? s->e->be->ops->facts(s->e->be) : (radar_device_facts){.bus = ""};
    radar_host_name(host, sizeof host);
    strncat(host, device.bus,
            sizeof host - strlen(host) - 1); /* ranks share a machine, or a GPU of it */
    all[c->rank] =
        (want){.host = XXH3_64bits(host, strlen(host)),
               .session = radar_memory_sum(own) - beside - radar_memory_sum(held),
               .beside = beside,
               .available = device.total_bytes ? device.free_bytes : radar_memory_available()};
    for (int r = 0; r < c->size; r++) bytes[r] = sizeof(want), offset[r] = (size_t)r * sizeof(want);
    radar_status st = radar_gather(c, RADAR_X_SETUP, all, bytes, offset, err);
    if (st != RADAR_OK) return st;
    uint64_t available = all[c->rank].available;
    for (int r = 0; r < c->size; r++)
        if (all[r].host == all[c->rank].host) wanted += all[r].session + all[r].beside;
    const bool known = device.total_bytes || available > 0;
    if (!known || wanted <= available) return RADAR_OK;
    int64_t least = held->kv ? 0 : largest_context(s, all);
    char cure[96] = "use a smaller --ctx, or more machines";
    if (least > 0)
        snprintf(cure, sizeof cure, "use --ctx %lld or less, or more machines", (long long)least);
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "%s of %lld tokens needs %.1f GB on this %s (%llu bytes), %.1f GB are "
                      "free: %s",
                      held->kv ? "another attention over the context" : "a context",
                      (long long)s->kv.context, (double)wanted * 1e-9,
                      device.total_bytes ? "GPU" : "machine", (unsigned long long)wanted,
                      (double)available * 1e-9, cure);
}
