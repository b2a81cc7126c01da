/* radar plan: what a context takes and how fast it can be, from the model's metadata alone.
 *
 * Bytes are those that a session reserves, asked of the functions that reserve them.  Time is bytes read by a step over the
 * bandwidth of a machine: exchanges, choosing and sampling come on top. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/json_out.h"
#include "launch/launch.h"
#include "launch/profile.h"
#include "runtime/sys.h"

enum { RANKS = 64, ADVICE = 6, BANDWIDTH_BYTES = 1 << 28 };
#define LONGEST ((int64_t)1 << 34)

typedef struct totals {
    uint64_t sum, most;           /* bytes reserved: by all ranks, by the one that needs most */
    uint64_t step_sum, step_most; /* bytes read by a step */
} totals;

typedef struct plan {
    launch_job *job;
    radar_planner *planner;
    radar_session_options session;
    int ranks;
    radar_rank_memory rank[RANKS];
    totals all;
    double memory, bandwidth; /* bytes, bytes a second; 0: not known */
    int64_t together, apart;  /* largest context with all ranks on one machine, each on its own */
    char advice[ADVICE][160];
    int n_advice;
} plan;

/* ---- sizes ---- */

static uint64_t reserved(const radar_rank_memory *m) {
    return m->weights + m->workspace + m->kv + m->summaries + m->lists + m->state;
}

static uint64_t read_by_step(const radar_rank_memory *m) {
    return m->step_weights + m->step_scored + m->step_attended;
}

static radar_status measure(radar_planner *planner, const radar_session_options *s, int ranks,
                            radar_rank_memory *rank, totals *t) {
    *t = (totals){0};
    for (int r = 0; r < ranks; r++) {
        rank[r] = (radar_rank_memory){.size = sizeof rank[r]};
        const radar_status st = radar_planner_session(planner, s, r, &rank[r]);
        if (st != RADAR_OK) return st;
        const uint64_t bytes = reserved(&rank[r]), step = read_by_step(&rank[r]);
        t->sum += bytes, t->step_sum += step;
        if (bytes > t->most) t->most = bytes;
        if (step > t->step_most) t->step_most = step;
    }
    return RADAR_OK;
}

static bool fits(const plan *p, int64_t context, bool together) {
    radar_rank_memory rank[RANKS];
    radar_session_options s = p->session;
    totals t;
    s.context = context;
    if (measure(p->planner, &s, p->ranks, rank, &t) != RADAR_OK) return false;
    return (double)(together ? t.sum : t.most) <= p->memory;
}

/* In whole stripes of 256 tokens; 0: none. */
static int64_t largest(const plan *p, bool together) {
    int64_t low = 0, high = 1;
    if (p->memory <= 0) return 0;
    while (high * 256 <= LONGEST && fits(p, high * 256, together)) low = high, high *= 2;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (middle * 256 <= LONGEST && fits(p, middle * 256, together))
            low = middle;
        else
            high = middle;
    }
    return low * 256;
}

/* ---- time ---- */

static double seconds(const plan *p, uint64_t bytes) {
    return p->bandwidth > 0 ? (double)bytes / p->bandwidth : NAN;
}

/* ---- advice ---- */

#define ADVISE(p, ...) \
    snprintf((p)->advice[(p)->n_advice < ADVICE ? (p)->n_advice++ : ADVICE - 1], \
             sizeof(p)->advice[0], __VA_ARGS__)

static void advise_type(plan *p) {
    radar_rank_memory rank[RANKS];
    radar_session_options s = p->session;
    totals t;
    char now[LAUNCH_BYTES_TEXT], then[LAUNCH_BYTES_TEXT];
    s.kv_type = "q8";
    if (strcmp(p->session.kv_type, "q8") == 0 ||
        measure(p->planner, &s, p->ranks, rank, &t) != RADAR_OK || t.sum >= p->all.sum)
        return;
    ADVISE(p, "--kv-type q8 takes %s in place of %s", launch_bytes(then, (double)t.sum),
           launch_bytes(now, (double)p->all.sum));
}

/* More ranks, each on a machine like this. */
static radar_status advise_ranks(plan *p) {
    const radar_engine_options e = launch_engine_options(p->job);
    const bool short_of = p->memory > 0 && (double)p->all.most > p->memory;
    for (int ranks = p->ranks * 2; ranks <= e.shards && ranks <= RANKS; ranks *= 2) {
        radar_rank_memory rank[RANKS];
        radar_planner *more = NULL;
        char each[LAUNCH_BYTES_TEXT];
        totals t;
        if (radar_planner_open(&more, &e, ranks, NULL, 0) != RADAR_OK) return RADAR_OK;
        const radar_status st = measure(more, &p->session, ranks, rank, &t);
        radar_planner_close(more);
        if (st != RADAR_OK) return RADAR_OK;
        const bool roomy = p->memory <= 0 || (double)t.most <= p->memory;
        if (short_of && !roomy) continue;
        ADVISE(p, "%d ranks on %d machines like this take %s each and read %.2f of the bytes",
               ranks, ranks, launch_bytes(each, (double)t.most),
               (double)t.step_most / (double)p->all.step_most);
        return RADAR_OK;
    }
    if (short_of)
        ADVISE(p, "no number of ranks up to --shards %d has room for it: raise --shards", e.shards);
    return RADAR_OK;
}

static void advise(plan *p) {
    const radar_model_info *m = &p->job->info;
    const bool together = p->memory <= 0 || (double)p->all.sum <= p->memory;
    if (!together && p->together > 0)
        ADVISE(p, "it does not fit: --ctx %lld does", (long long)p->together);
    if (!together && p->together == 0) ADVISE(p, "it does not fit, nor does any context");
    advise_type(p);
    advise_ranks(p);
    if (p->session.context > m->context)
        ADVISE(p,
               "past the %lld tokens the model is made for: --rope-scaling yarn --rope-scale %lld",
               (long long)m->context, (long long)launch_rope_scale(m, p->session.context));
}

/* ---- output ---- */

static uint64_t field(const plan *p, int rank, size_t offset) {
    uint64_t value;
    memcpy(&value, (const char *)&p->rank[rank] + offset, sizeof value);
    return value;
}

static const struct {
    const char *name, *key;
    size_t offset;
} parts[] = {
    {"weights", "weights_bytes", offsetof(radar_rank_memory, weights)},
    {"workspace", "workspace_bytes", offsetof(radar_rank_memory, workspace)},
    {"keys and values", "kv_bytes", offsetof(radar_rank_memory, kv)},
    {"summaries", "summary_bytes", offsetof(radar_rank_memory, summaries)},
    {"lists and scratch", "lists_bytes", offsetof(radar_rank_memory, lists)},
    {"attention's memory", "state_bytes", offsetof(radar_rank_memory, state)},
    {"step: weights", "step_weights_bytes", offsetof(radar_rank_memory, step_weights)},
    {"step: scored", "step_scored_bytes", offsetof(radar_rank_memory, step_scored)},
    {"step: attended", "step_attended_bytes", offsetof(radar_rank_memory, step_attended)},
};

static void print_time(const plan *p) {
    if (p->bandwidth <= 0) return;
    printf("time of a step        %.2f ms at %.1f GB/s a machine",
           1e3 * seconds(p, p->all.step_most), 1e-9 * p->bandwidth);
    if (p->ranks > 1) printf(" (ranks on one machine: %.2f ms)", 1e3 * seconds(p, p->all.step_sum));
    printf("; exchanges and choosing not counted\n");
}

static void print_largest(const plan *p) {
    char memory[LAUNCH_BYTES_TEXT];
    if (p->memory <= 0) return;
    printf("largest context       %lld tokens in %s", (long long)p->together,
           launch_bytes(memory, p->memory));
    if (p->ranks > 1) printf(" (a machine for each rank: %lld)", (long long)p->apart);
    printf("\n");
}

static void print_lines(const plan *p) {
    char most[LAUNCH_BYTES_TEXT], sum[LAUNCH_BYTES_TEXT];
    printf("%s, %lld tokens, attention %s, KV %s, %d rank%s\n", p->job->info.name,
           (long long)p->session.context, p->session.attention, p->session.kv_type, p->ranks,
           p->ranks > 1 ? "s" : "");
    printf("%-22s%14s%14s\n", "bytes", "a rank", "all ranks");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint64_t high = 0, all = 0;
        for (int r = 0; r < p->ranks; r++) {
            const uint64_t bytes = field(p, r, parts[i].offset);
            all += bytes;
            if (bytes > high) high = bytes;
        }
        printf("  %-20s%14s%14s\n", parts[i].name, launch_bytes(most, (double)high),
               launch_bytes(sum, (double)all));
        if (parts[i].offset == offsetof(radar_rank_memory, state))
            printf("  %-20s%14s%14s\n", "together", launch_bytes(most, (double)p->all.most),
                   launch_bytes(sum, (double)p->all.sum));
    }
    print_time(p);
    print_largest(p);
    for (int i = 0; i < p->n_advice; i++) printf("- %s\n", p->advice[i]);
}

static radar_status print_json(launch_job *job, const plan *p) {
    launch_json j = launch_json_open();
    json_t *advice = json_array();
    launch_json_text(&j, "model", job->info.name, strlen(job->info.name));
    launch_json_int(&j, "context", p->session.context);
    launch_json_int(&j, "model_context", job->info.context);
    launch_json_int(&j, "ranks", p->ranks);
    launch_json_text(&j, "attention", p->session.attention, strlen(p->session.attention));
    launch_json_text(&j, "kv_type", p->session.kv_type, strlen(p->session.kv_type));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint64_t bytes[RANKS];
        for (int r = 0; r < p->ranks; r++) bytes[r] = field(p, r, parts[i].offset);
        launch_json_sizes(&j, parts[i].key, bytes, p->ranks);
    }
    launch_json_int(&j, "total_bytes", (int64_t)p->all.sum);
    launch_json_int(&j, "rank_bytes", (int64_t)p->all.most);
    launch_json_int(&j, "step_bytes", (int64_t)p->all.step_sum);
    launch_json_real(&j, "bandwidth", p->bandwidth > 0 ? p->bandwidth : NAN);
    launch_json_real(&j, "step_s", seconds(p, p->all.step_most));
    launch_json_real(&j, "step_one_machine_s", seconds(p, p->all.step_sum));
    launch_json_real(&j, "memory_bytes", p->memory > 0 ? p->memory : NAN);
    launch_json_set(&j, "fits",
                    p->memory > 0 ? json_boolean((double)p->all.sum <= p->memory) : json_null());
    launch_json_int(&j, "largest_context", p->together);
    launch_json_int(&j, "largest_context_own_machines", p->apart);
    for (int i = 0; i < p->n_advice; i++)
        if (json_array_append_new(advice, json_string(p->advice[i])) != 0) j.failed = true;
    launch_json_set(&j, "advice", advice);
    return launch_json_print(job, &j);
}

/* ---- the command ---- */

static radar_status planner_failed(plan *p, radar_status st) {
    return radar_fail(&p->job->err, st, "%s", radar_planner_error(p->planner));
}

static radar_status make(plan *p) {
    const launch_options *o = p->job->opt;
    const radar_engine_options e = launch_engine_options(p->job);
    char why[512] = "";
    p->ranks = o->ranks == LAUNCH_UNSET ? p->job->world->size : (int)o->ranks;
    radar_status st = radar_planner_open(&p->planner, &e, p->ranks, why, sizeof why);
    if (st != RADAR_OK) return radar_fail(&p->job->err, st, "%s", why);
    p->job->info = (radar_model_info){.size = sizeof p->job->info};
    radar_planner_info(p->planner, &p->job->info);
    if ((st = launch_profile_check(p->job)) != RADAR_OK) return st;
    const bool given = o->context != LAUNCH_UNSET && o->context != 0;
    p->session = launch_session_options(o, given ? o->context : p->job->info.context);
    st = measure(p->planner, &p->session, p->ranks, p->rank, &p->all);
    if (st != RADAR_OK) return planner_failed(p, st);
    p->memory = o->memory > 0 ? 1e9 * o->memory : (double)radar_memory_available();
    p->bandwidth = o->bandwidth > 0 ? 1e9 * o->bandwidth
                                    : radar_planner_bandwidth(p->planner, BANDWIDTH_BYTES);
    p->together = largest(p, true);
    p->apart = p->ranks > 1 ? largest(p, false) : p->together;
    advise(p);
    return RADAR_OK;
}

radar_status launch_plan(launch_job *job) {
    plan p = {.job = job};
    if (make(&p) == RADAR_OK) {
        if (job->opt->json) {
            print_json(job, &p);
        } else {
            print_lines(&p);
            if (fflush(stdout) != 0 || ferror(stdout))
                radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
        }
    }
    radar_planner_close(p.planner);
    return job->err.status;
}
