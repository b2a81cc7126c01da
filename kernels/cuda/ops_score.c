/* Operations of scorers: which of the device's there are, their tables, and what becomes of tasks. */
#include <string.h>

#include "kernels/cpu/rf.h"
#include "kernels/cpu/sketch.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/exact.h"
#include "kernels/cuda/mean.h"
#include "kernels/cuda/rf.h"
#include "kernels/cuda/sketch.h"
#include "runtime/sys.h"

/* What a scorer of the CPU has, with its tables on the device. */
typedef struct mirror {
    const struct kind *kind;
    void *memory; /* device: all tables */
    union {
        radar_cuda_sketch sketch;
        radar_cuda_rf rf;
    };
} mirror;

/* One kind of the device's. */
typedef struct kind {
    const char *name; /* the CPU's, whose bytes it writes and reads */
    /* Tables of s into `memory`, device, of table_bytes; NULL: it has none. */
    size_t (*table_bytes)(const radar_scorer *s);
    void (*fill)(radar_cuda *cuda, mirror *m, const radar_scorer *s);
    int (*seal)(radar_cuda *cuda, const mirror *m, const radar_cuda_seal *task);
    int (*unite)(radar_cuda *cuda, const mirror *m, const radar_cuda_unite *task);
    int (*query)(radar_cuda *cuda, const mirror *m, const radar_scorer *s, void *out,
                 const float *q, size_t q_stride, int n);
    int (*score)(radar_cuda *cuda, const mirror *m, const radar_scorer *s,
                 const radar_score_task *task, int n);
} kind;

static const mirror *mirror_of(const radar_scorer *s) { return s->mirror; }

/* ---- sketch ---- */

static size_t sketch_table_bytes(const radar_scorer *s) {
    const radar_sketch *x = s->state;
    return (size_t)x->D * sizeof(float) + sizeof x->step + sizeof x->middle + 512;
}

static float *place(radar_cuda *cuda, char **at, const float *table, size_t n) {
    float *there = (float *)(void *)*at;
    radar_cuda_upload(cuda->queue, there, table, n * sizeof *table);
    *at += (n * sizeof *table + 255) / 256 * 256;
    return there;
}

static void fill_sketch(radar_cuda *cuda, mirror *m, const radar_scorer *s) {
    const radar_sketch *x = s->state;
    char *at = m->memory;
    m->sketch = (radar_cuda_sketch){.D = x->D,
                                    .Dp = x->Dp,
                                    .Dq = x->Dq,
                                    .bits = x->bits,
                                    .words = x->words,
                                    .low_words = x->low_words,
                                    .block_bytes = s->block_bytes,
                                    .query_bytes = s->query_bytes,
                                    .scale = x->scale};
    m->sketch.norm = place(cuda, &at, x->rotation.norm, (size_t)x->D);
    m->sketch.step = place(cuda, &at, x->step, 256);
    m->sketch.middle = place(cuda, &at, x->middle, 16);
}

static int seal_sketch(radar_cuda *cuda, const mirror *m, const radar_cuda_seal *task) {
    return radar_cuda_sketch_seal(&m->sketch, task, cuda->queue);
}

static int query_sketch(radar_cuda *cuda, const mirror *m, const radar_scorer *s, void *out,
                        const float *q, size_t q_stride, int n) {
    (void)s;
    return radar_cuda_sketch_query(&m->sketch, out, q, q_stride, n, cuda->queue);
}

/* Tasks are alike in what they read: all of a range or a list, all of a code or its upper plane. */
static int score_sketch(radar_cuda *cuda, const mirror *m, const radar_scorer *s,
                        const radar_score_task *task, int n) {
    int most = 0;
    (void)s;
    for (int i = 0; i < n; i++) most = task[i].n_query > most ? task[i].n_query : most;
    const radar_score_task *there = radar_cuda_put_all(cuda, task, n, sizeof *task);
    return radar_cuda_sketch_scan(&m->sketch, there, n, most, task->list != NULL, task->coarse,
                                  2 * cuda->device.multiprocessors, cuda->queue);
}

/* ---- mean and rf: all KV heads of a shard in one launch ---- */

/* Tasks [0, n) are KV heads of one shard, each as far behind the one before. */
static radar_cuda_score score_of(radar_cuda *cuda, const radar_scorer *s, const radar_score_task *t,
                                 int n) {
    const int32_t units[2] = {t->segment_begin, t->segment_end};
    const char *first = radar_kv_summaries(&t->kv, t->unit);
    const radar_score_task *next = t + (n > 1);
    return (radar_cuda_score){
        .D = t->kv.D,
        .kv_heads = n,
        .n_query = t->n_query,
        .query = t->query,
        .query_stride =
            (size_t)((const char *)next->query - (const char *)t->query) / sizeof(float),
        .summary = first,
        .summary_stride = (size_t)(radar_kv_summaries(&next->kv, t->unit) - first),
        .unit = t->unit,
        .units = radar_cuda_put_all(cuda, units, 2, sizeof *units),
        .most = (int)radar_cuda_bound(t->segment_end - t->segment_begin),
        .score = t->score,
        .score_stride = t->score_stride,
    };
    (void)s;
}

/* How many tasks from t on are KV heads of t's shard and row. */
static int heads_of(const radar_score_task *t, int n) {
    int heads = 1;
    while (heads < n && t[heads].segment_begin == t->segment_begin &&
           t[heads].segment_end == t->segment_end && t[heads].kv.phase == t->kv.phase &&
           t[heads].score == t->score + (size_t)heads * (size_t)t->n_query * t->score_stride)
        heads++;
    return heads;
}

static int score_mean(radar_cuda *cuda, const mirror *m, const radar_scorer *s,
                      const radar_score_task *task, int n) {
    int error = 0;
    (void)m;
    for (int i = 0, heads; i < n && !error; i += heads) {
        heads = heads_of(task + i, n - i);
        const radar_cuda_score job = score_of(cuda, s, task + i, heads);
        error = radar_cuda_mean_score(&job, cuda->queue);
    }
    return error;
}

static int seal_mean(radar_cuda *cuda, const mirror *m, const radar_cuda_seal *task) {
    (void)m;
    return radar_cuda_mean_seal(task, cuda->queue);
}

static int unite_mean(radar_cuda *cuda, const mirror *m, const radar_cuda_unite *task) {
    (void)m;
    return radar_cuda_mean_unite(task, cuda->queue);
}

static int query_plain(radar_cuda *cuda, const mirror *m, const radar_scorer *s, void *out,
                       const float *q, size_t q_stride, int n) {
    (void)m;
    return radar_cuda_mean_query(out, q, q_stride, n, s->opt.D, cuda->queue);
}

static size_t rf_table_bytes(const radar_scorer *s) {
    const radar_rf *x = s->state;
    return (size_t)x->map.D * (size_t)x->map.n * sizeof(float);
}

static void fill_rf(radar_cuda *cuda, mirror *m, const radar_scorer *s) {
    const radar_rf *x = s->state;
    m->rf = (radar_cuda_rf){.D = x->map.D,
                            .n = x->map.n,
                            .F = x->F,
                            .Fp = x->Fp,
                            .omega = m->memory,
                            .log_weight = x->log_weight,
                            .temper = x->temper,
                            .cool = x->cool,
                            .center = x->center};
    radar_cuda_upload(cuda->queue, m->memory, x->omega, rf_table_bytes(s));
}

static float *rf_work(radar_cuda *cuda, const mirror *m, size_t rows) {
    return radar_cuda_scratch(cuda->queue, RADAR_CUDA_SCORER_SLOT,
                              radar_cuda_rf_work(&m->rf, rows) * sizeof(float));
}

static int seal_rf(radar_cuda *cuda, const mirror *m, const radar_cuda_seal *task) {
    float *work = rf_work(cuda, m, (size_t)task->kv_heads * (size_t)task->most * RADAR_BLOCK);
    return radar_cuda_rf_seal(&m->rf, task, work, cuda->queue);
}

static int unite_rf(radar_cuda *cuda, const mirror *m, const radar_cuda_unite *task) {
    return radar_cuda_rf_unite(&m->rf, task, cuda->queue);
}

static int query_rf(radar_cuda *cuda, const mirror *m, const radar_scorer *s, void *out,
                    const float *q, size_t q_stride, int n) {
    (void)s;
    return radar_cuda_rf_query(&m->rf, out, q, q_stride, n, rf_work(cuda, m, (size_t)n),
                               cuda->queue);
}

static int score_rf(radar_cuda *cuda, const mirror *m, const radar_scorer *s,
                    const radar_score_task *task, int n) {
    int error = 0;
    for (int i = 0, heads; i < n && !error; i += heads) {
        heads = heads_of(task + i, n - i);
        const radar_cuda_score job = score_of(cuda, s, task + i, heads);
        error = radar_cuda_rf_score(&m->rf, &job, cuda->queue);
    }
    return error;
}

/* ---- exact ---- */

static int score_exact(radar_cuda *cuda, const mirror *m, const radar_scorer *s,
                       const radar_score_task *task, int n) {
    radar_cuda_exact_task *to = radar_cuda_table(cuda, (size_t)n * sizeof *to);
    int most = 0, most_query = 0;
    (void)m, (void)s;
    for (int i = 0; to && i < n; i++) {
        const radar_score_task *t = &task[i];
        to[i] = (radar_cuda_exact_task){t->kv.k,          t->kv.key_scale, t->query, t->n_query,
                                        t->segment_begin, t->segment_end,  t->list,  t->n_listed,
                                        t->score,         t->score_stride};
        most = (int)radar_max64(most, t->segment_end - t->segment_begin);
        most_query = t->n_query > most_query ? t->n_query : most_query;
    }
    if (!to) return 0;
    const radar_cuda_exact_args args = {
        .type = radar_cuda_kv_of(task->kv.type),
        .D = task->kv.D,
        .most_queries = most_query,
        .most = (int)radar_cuda_bound(most),
        .task = radar_cuda_put_all(cuda, to, n, sizeof *to),
        .n_tasks = n,
    };
    return radar_cuda_exact_score(&args, cuda->queue);
}

/* ---- the table ---- */

static const kind kinds[] = {
    {"sketch", sketch_table_bytes, fill_sketch, seal_sketch, NULL, query_sketch, score_sketch},
    {"mean", NULL, NULL, seal_mean, unite_mean, query_plain, score_mean},
    {"rf", rf_table_bytes, fill_rf, seal_rf, unite_rf, query_rf, score_rf},
    {"exact", NULL, NULL, NULL, NULL, query_plain, score_exact},
};

static const kind *kind_of(const radar_scorer *s) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, s->kind->name) == 0) return &kinds[i];
    return NULL;
}

bool radar_cuda_has_scorer(const radar_scorer *scorer) { return kind_of(scorer) != NULL; }

radar_status radar_cuda_op_adopt(radar_backend *be, radar_scorer *scorer, radar_error *err) {
    radar_cuda *cuda = radar_cuda_of(be);
    const kind *k = kind_of(scorer);
    mirror *m = radar_alloc(sizeof *m);
    const size_t bytes = k && k->table_bytes ? k->table_bytes(scorer) : 0;
    if (m) *m = (mirror){.kind = k, .memory = bytes ? radar_cuda_alloc(cuda->queue, bytes) : NULL};
    if (!m || !k || (bytes && !m->memory)) {
        radar_free(m);
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer '%s': no memory for its tables",
                          scorer->kind->name);
    }
    if (k->fill) k->fill(cuda, m, scorer);
    scorer->mirror = m;
    return RADAR_OK;
}

void radar_cuda_op_forget(radar_backend *be, radar_scorer *scorer) {
    mirror *m = scorer->mirror;
    if (!m) return;
    radar_cuda_release(radar_cuda_of(be)->queue, m->memory);
    radar_free(m);
    scorer->mirror = NULL;
}

/* ---- the operations ---- */

void radar_cuda_op_seal(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                        int heads, int32_t block, int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    const mirror *m = mirror_of(scorer);
    const int32_t blocks[2] = {block, block + n};
    const radar_kv_view *next = kv + (heads > 1);
    if (!m->kind->seal) return;
    const radar_cuda_seal task = {
        .type = radar_cuda_kv_of(kv->type),
        .D = kv->D,
        .kv_heads = heads,
        .key = kv->k,
        .key_stride = (size_t)((const char *)next->k - (const char *)kv->k),
        .key_scale = kv->key_scale,
        .scale_stride = kv->key_scale ? (size_t)(next->key_scale - kv->key_scale) : 0,
        .summary = kv->summary,
        .summary_stride = (size_t)((const char *)next->summary - (const char *)kv->summary),
        .blocks = radar_cuda_put_all(cuda, blocks, 2, sizeof *blocks),
        .most = (int)radar_cuda_bound(n),
    };
    radar_cuda_note(cuda->queue, "seal", m->kind->seal(cuda, m, &task));
}

void radar_cuda_op_unite(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                         int heads, int levels, int32_t begin, int32_t end) {
    radar_cuda *cuda = radar_cuda_of(be);
    const mirror *m = mirror_of(scorer);
    const int32_t blocks[2] = {begin, end};
    const radar_kv_view *next = kv + (heads > 1);
    const radar_cuda_unite task = {
        .D = kv->D,
        .kv_heads = heads,
        .levels = levels,
        .segments = kv->segments,
        .summary = kv->summary,
        .merged = kv->merged,
        .summary_stride = (size_t)((const char *)next->summary - (const char *)kv->summary),
        .merged_stride = (size_t)((const char *)next->merged - (const char *)kv->merged),
        .blocks = radar_cuda_put_all(cuda, blocks, 2, sizeof *blocks),
    };
    radar_cuda_note(cuda->queue, "longer segments", m->kind->unite(cuda, m, &task));
}

void radar_cuda_op_query(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                         size_t q_stride, int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    const mirror *m = mirror_of(scorer);
    radar_cuda_note(cuda->queue, "queries", m->kind->query(cuda, m, scorer, out, q, q_stride, n));
}

void radar_cuda_op_score(radar_backend *be, const radar_scorer *scorer,
                         const radar_score_task *task, int n_tasks) {
    radar_cuda *cuda = radar_cuda_of(be);
    const mirror *m = mirror_of(scorer);
    if (n_tasks == 0) return;
    radar_cuda_note(cuda->queue, "scores", m->kind->score(cuda, m, scorer, task, n_tasks));
}
