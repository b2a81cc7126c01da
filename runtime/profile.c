#include "runtime/profile.h"

#include <stdio.h>

#include "runtime/device.h"
#include "runtime/sys.h"

static radar_profiler *of(radar_backend *be) { return (radar_profiler *)(void *)be->ops; }

static void book(radar_backend *be, radar_phase_index phase, double began, double bytes) {
    radar_profiler *p = of(be);
    if (!p->within) return;
    p->phase[phase].seconds += radar_clock() - began;
    p->phase[phase].bytes += bytes;
    p->phase[phase].calls++;
}

/* ---- bytes ---- */

/* As stored: each weight once, however many rows of x it meets. */
static double job_bytes(const radar_matmul_job *job) {
    double rows = (double)radar_max64(job->row_end - job->row_begin, 0),
           cols = (double)radar_max64(job->col_end - job->col_begin, 0);
    return rows * cols / radar_dtype_block(job->w->type) *
           (double)radar_dtype_block_bytes(job->w->type);
}

/* Key or value of one token in storage segment `segment`. */
static int64_t token_bytes(const radar_kv_view *kv, int32_t segment) {
    int64_t D = kv->D;
    if (!kv->k_scale) return D * (int64_t)radar_dtype_block_bytes(kv->type);
    return segment >= kv->tail_begin ? D * (int64_t)sizeof *kv->tail_k
                                     : D + (int64_t)sizeof *kv->k_scale;
}

/* What is read to score a task's units: their summaries, of a coarse scan in part, or their keys. */
static double score_bytes(const radar_scorer *scorer, const radar_score_task *t) {
    const int32_t units = radar_score_count(t) > 0 ? radar_score_count(t) : 0;
    const size_t block = t->coarse ? scorer->coarse_bytes : scorer->block_bytes;
    if (block) return (double)units * (double)block / RADAR_BLOCK_SEGMENTS;
    int64_t bytes = 0;
    for (int32_t i = 0; i < units; i++)
        bytes += t->unit * RADAR_SEGMENT * token_bytes(&t->kv, radar_score_unit(t, i) * t->unit);
    return (double)bytes;
}

/* Keys and values of the tokens that a query of the task sees, read once for all its queries.  Items ascend, so only the last of
 * them can lie behind the latest query. */
static double attend_bytes(const radar_attend_task *t) {
    const radar_items list = radar_items_now(t->items);
    int64_t latest = 0, bytes = 0;
    int n = list.n;
    for (int j = 0; j < t->n_query; j++) latest = radar_max64(latest, t->position[j]);
    for (; n > 0; n--) {
        int32_t segment = list.item[n - 1].segment;
        int64_t first = radar_kv_position(&t->kv, segment);
        if (first + RADAR_SEGMENT - 1 <= latest) break;
        bytes += __builtin_popcount(radar_attended(list.item[n - 1].tokens, first, latest)) *
                 token_bytes(&t->kv, segment);
    }
    for (int i = 0; i < n; i++) {
        uint32_t tokens = list.item[i].tokens & 0xffff;
        bytes += (tokens == 0xffff ? RADAR_SEGMENT : __builtin_popcount(tokens)) *
                 token_bytes(&t->kv, list.item[i].segment);
    }
    return 2.0 * (double)bytes;
}

/* ---- the operations ---- */

static void profile_embed(radar_backend *be, float *out, const radar_matrix *w,
                          const int32_t *token, int n) {
    double began = radar_clock();
    of(be)->inner->embed(be, out, w, token, n);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_norm(radar_backend *be, float *out, float *x, const float *y,
                         const float *weight, float eps, int64_t n, int width) {
    double began = radar_clock();
    of(be)->inner->norm(be, out, x, y, weight, eps, n, width);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

/* Jobs of several types run side by side: their time is shared out as their bytes are. */
static void profile_matmul(radar_backend *be, const radar_matmul_job *job, int n_jobs,
                           const float *x, size_t x_stride, int M) {
    radar_profiler *p = of(be);
    double bytes[RADAR_DTYPE_COUNT] = {0}, all = 0, began = radar_clock();
    p->inner->matmul(be, job, n_jobs, x, x_stride, M);
    double seconds = radar_clock() - began;
    if (!p->within) return;
    for (int i = 0; i < n_jobs; i++) {
        double own = job_bytes(&job[i]);
        bytes[job[i].w->type] += own;
        all += own;
    }
    for (int type = 0; type < RADAR_DTYPE_COUNT; type++) {
        if (bytes[type] == 0) continue;
        radar_phase *phase = &p->phase[RADAR_PHASE_MATMUL + type];
        phase->seconds += seconds * bytes[type] / all;
        phase->bytes += bytes[type];
        phase->calls++;
    }
}

static void profile_angles(radar_backend *be, float *cos_sin, const double *frequency, int rotary,
                           double magnitude, const int64_t *position, int n) {
    double began = radar_clock();
    of(be)->inner->angles(be, cos_sin, frequency, rotary, magnitude, position, n);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_rotate(radar_backend *be, const radar_rotate_job *job) {
    double began = radar_clock();
    of(be)->inner->rotate(be, job);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_gate(radar_backend *be, float *gate, const float *up, int64_t n) {
    double began = radar_clock();
    of(be)->inner->gate(be, gate, up, n);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_add(radar_backend *be, float *x, const float *y, int64_t n) {
    double began = radar_clock();
    of(be)->inner->add(be, x, y, n);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_sum(radar_backend *be, float *const *piece, int pieces, int64_t n) {
    double began = radar_clock();
    of(be)->inner->sum(be, piece, pieces, n);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_odd(radar_backend *be, uint64_t *found, const float *x, int64_t n, int width) {
    double began = radar_clock();
    of(be)->inner->odd(be, found, x, n, width);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_append(radar_backend *be, const radar_kv_view *kv, int heads,
                           const int32_t *slot, const float *k, const float *v, size_t stride,
                           int n) {
    double began = radar_clock();
    of(be)->inner->append(be, kv, heads, slot, k, v, stride, n);
    book(be, RADAR_PHASE_APPEND, began, 0);
}

static void profile_seal(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                         int heads, int32_t block, int n) {
    double began = radar_clock();
    of(be)->inner->seal(be, scorer, kv, heads, block, n);
    book(be, RADAR_PHASE_SEAL, began, 0);
}

static void profile_unite(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                          int heads, int levels, int32_t begin, int32_t end) {
    double began = radar_clock();
    of(be)->inner->unite(be, scorer, kv, heads, levels, begin, end);
    book(be, RADAR_PHASE_SEAL, began, 0);
}

static void profile_query(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                          size_t q_stride, int n) {
    double began = radar_clock();
    of(be)->inner->query(be, scorer, out, q, q_stride, n);
    book(be, RADAR_PHASE_QUERY, began, 0);
}

static void profile_score(radar_backend *be, const radar_scorer *scorer,
                          const radar_score_task *task, int n_tasks) {
    double bytes = 0;
    for (int i = 0; i < n_tasks; i++) bytes += score_bytes(scorer, &task[i]);
    double began = radar_clock();
    of(be)->inner->score(be, scorer, task, n_tasks);
    book(be, RADAR_PHASE_SCAN, began, bytes);
}

static void profile_topk(radar_backend *be, const radar_topk_task *task, int n_tasks) {
    double began = radar_clock();
    of(be)->inner->topk(be, task, n_tasks);
    book(be, RADAR_PHASE_TOPK, began, 0);
}

static void profile_choose(radar_backend *be, const radar_choose_job *job) {
    double began = radar_clock();
    of(be)->inner->choose(be, job);
    book(be, RADAR_PHASE_TOPK, began, 0);
}

static void profile_attend(radar_backend *be, const radar_attend_task *task, int n_tasks,
                           float scale, int rows) {
    double bytes = 0;
    for (int i = 0; i < n_tasks; i++) bytes += attend_bytes(&task[i]);
    double began = radar_clock();
    of(be)->inner->attend(be, task, n_tasks, scale, rows);
    book(be, RADAR_PHASE_ATTEND, began, bytes);
}

static void profile_weigh(radar_backend *be, const radar_weigh_task *task, int n_tasks,
                          float scale) {
    double began = radar_clock();
    of(be)->inner->weigh(be, task, n_tasks, scale);
    book(be, RADAR_PHASE_WEIGH, began, 0);
}

static void profile_merge(radar_backend *be, float *const *piece, int pieces, int64_t n, int D) {
    double began = radar_clock();
    of(be)->inner->merge(be, piece, pieces, n, D);
    book(be, RADAR_PHASE_MERGE, began, 0);
}

static void profile_missed(radar_backend *be, const radar_missed_task *task, int n_tasks) {
    double began = radar_clock();
    of(be)->inner->missed(be, task, n_tasks);
    book(be, RADAR_PHASE_COVERAGE, began, 0);
}

static void profile_arrange(radar_backend *be, float *out, const float *q, int M, int G, int group,
                            int D) {
    double began = radar_clock();
    of(be)->inner->arrange(be, out, q, M, G, group, D);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

static void profile_finish(radar_backend *be, float *out, float *coverage, const float *partial,
                           int M, int G, int group, int D) {
    double began = radar_clock();
    of(be)->inner->finish(be, out, coverage, partial, M, G, group, D);
    book(be, RADAR_PHASE_SMALL, began, 0);
}

/* What is not listed here stays the backend's own, and its time is part of "other". */
static void cover(radar_backend_ops *ops) {
    ops->embed = profile_embed;
    ops->norm = profile_norm;
    ops->matmul = profile_matmul;
    ops->angles = profile_angles;
    ops->rotate = profile_rotate;
    ops->gate = profile_gate;
    ops->add = profile_add;
    ops->sum = profile_sum;
    ops->odd = profile_odd;
    ops->append = profile_append;
    ops->seal = profile_seal;
    ops->unite = profile_unite;
    ops->query = profile_query;
    ops->score = profile_score;
    ops->topk = profile_topk;
    ops->choose = profile_choose;
    ops->attend = profile_attend;
    ops->weigh = profile_weigh;
    ops->merge = profile_merge;
    ops->missed = profile_missed;
    ops->arrange = profile_arrange;
    ops->finish = profile_finish;
}

/* ---- passes ---- */

void radar_profile_begin(radar_profiler *p) {
    if (!p->inner) return;
    for (int x = 0; x < RADAR_X_COUNT; x++) p->before[x] = p->comm->stats[x];
    p->within = true;
    p->began = radar_clock();
}

void radar_profile_end(radar_profiler *p, int passes) {
    if (!p->inner) return;
    radar_phase *all = &p->phase[RADAR_PHASE_OTHER];
    all->seconds += radar_clock() - p->began;
    all->calls += passes;
    p->within = false;
    for (int x = 0; x < RADAR_X_COUNT && p->comm->size > 1; x++) {
        radar_phase *phase = &p->phase[RADAR_PHASE_EXCHANGE + x];
        phase->seconds += p->comm->stats[x].seconds - p->before[x].seconds;
        phase->bytes += (double)(p->comm->stats[x].bytes - p->before[x].bytes);
        phase->calls += p->comm->stats[x].calls - p->before[x].calls;
    }
}

void radar_profile_note(radar_profiler *p, radar_phase_index phase, double began) {
    if (!p->inner) return;
    p->phase[phase].seconds += radar_clock() - began;
    p->phase[phase].calls++;
}

/* ---- what the caller sees ---- */

static const char *name_of(const radar_profiler *p, int phase) {
    static const char *const name[RADAR_PHASE_COUNT] = {
#define MATMUL_NAME(type, elements, bytes) [RADAR_PHASE_MATMUL + RADAR_##type] = "matmul " #type,
        RADAR_DTYPE_LIST(MATMUL_NAME)
#undef MATMUL_NAME
            [RADAR_PHASE_SMALL] = "small ops",
        [RADAR_PHASE_APPEND] = "append",
        [RADAR_PHASE_SEAL] = "seal",
        [RADAR_PHASE_QUERY] = "query",
        [RADAR_PHASE_SCAN] = "scan",
        [RADAR_PHASE_TOPK] = "top-k",
        [RADAR_PHASE_ATTEND] = "attend",
        [RADAR_PHASE_WEIGH] = "weigh",
        [RADAR_PHASE_MERGE] = "merge",
        [RADAR_PHASE_COVERAGE] = "coverage",
        [RADAR_PHASE_SAMPLE] = "sample",
        [RADAR_PHASE_OTHER] = "other"};
    int x = phase - RADAR_PHASE_EXCHANGE;
    return x >= 0 && x < RADAR_X_COUNT ? p->exchange[x] : name[phase];
}

void radar_profile(radar_engine *e, const radar_phase **phase, size_t *n) {
    radar_profiler *p = &e->profiler;
    radar_phase other = p->phase[RADAR_PHASE_OTHER];
    *n = 0;
    *phase = p->list;
    for (int i = 0; i < RADAR_PHASE_OTHER; i++) {
        if (p->phase[i].calls == 0) continue;
        other.seconds -= p->phase[i].seconds;
        p->list[*n] = p->phase[i];
        p->list[(*n)++].name = name_of(p, i);
    }
    if (p->phase[RADAR_PHASE_OTHER].seconds == 0) return;
    other.name = name_of(p, RADAR_PHASE_OTHER);
    p->list[(*n)++] = other;
}

void radar_profile_reset(radar_engine *e) {
    radar_profiler *p = &e->profiler;
    if (radar_on_device(e)) return; /* operations are queued: their calls take no time */
    const radar_backend_ops *inner = p->inner ? p->inner : e->be->ops;
    *p = (radar_profiler){.ops = *inner, .inner = inner, .comm = e->comm};
    cover(&p->ops);
    for (int x = 0; x < RADAR_X_COUNT; x++)
        snprintf(p->exchange[x], sizeof p->exchange[x], "exchange %s",
                 radar_exchange_name((radar_exchange)x));
    e->be->ops = &p->ops;
}
