/* Kernels of a decode step, each by itself, over more memory than a cache of the chip holds; as a share of the read ceiling. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/merge.h"
#include "tests/gpu/bench.h"

#define GROUP 4
#define LISTS 4 /* of attended segments, taken in turn, where not all are */

/* A cache of a few layers. */
typedef struct rig {
    radar_backend *be;
    radar_kvcache kv;
    radar_scorer *scorer;
    void *query;
    float *score, *q, *partial;
    int tasks;        /* of a layer */
    int32_t segments; /* of a shard */
    bool coarse;
    int32_t unit;
    radar_item *item; /* device [LISTS, tasks, per] */
    int per;          /* items of a task */
    int lists;        /* of a layer */
} rig;

static void *device_memory(radar_backend *be, size_t bytes) {
    void *p = be->ops->alloc(be, bytes);
    if (!p) bench_stop("no memory on the device");
    return p;
}

static void upload_normal(radar_backend *be, float *to, size_t n) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)radar_random_normal(6, 1, i);
    be->ops->upload(be, to, x, n * sizeof *x);
    be->ops->wait(be, NULL);
    free(x);
}

/* target: per cent of the read ceiling; 0: none. */
static void print_share(const char *name, double bytes, double seconds, double ceiling,
                        double target) {
    char what[128];
    snprintf(what, sizeof what, "%s: time", name);
    bench_line(what, seconds * 1e6, "us", 0, false);
    bench_line(name, 100 * bytes / seconds / ceiling, "% of reading", target, true);
}

/* ---- scans ---- */

static rig open_rig(radar_backend *be, const char *kind, radar_dtype type, bool toy) {
    rig r = {.be = be, .unit = 1};
    const radar_scorer_options opt = {.D = 128, .seed = 1};
    radar_error err = {0};
    if (radar_scorer_open(&r.scorer, kind, &opt, &err) != RADAR_OK ||
        be->ops->adopt(be, r.scorer, &err) != RADAR_OK)
        bench_stop(err.text);
    const bool merges = r.scorer->kind->merge != NULL;
    r.kv = (radar_kvcache){.be = be,
                           .layout = {.shards = 8, .stripe = 256, .ranks = 1},
                           .layers = toy ? 1 : 4,
                           .kv_heads = toy ? 2 : 8,
                           .D = 128,
                           .type = type,
                           .block_bytes = r.scorer->block_bytes,
                           .levels = merges ? 4 : 0,
                           .context = toy ? 2048 : 1 << 20};
    if (radar_kvcache_plan(&r.kv, &err) != RADAR_OK || radar_kvcache_open(&r.kv, &err) != RADAR_OK)
        bench_stop(err.text);
    bench_fill_cache(&r.kv);
    for (int layer = 0; layer < r.kv.layers; layer++)
        radar_kvcache_seal(&r.kv, r.scorer, layer, r.kv.context, 0);
    if (be->ops->wait(be, &err) != RADAR_OK) bench_stop(err.text);
    r.tasks = r.kv.kv_heads * r.kv.n_shards;
    r.segments = (int32_t)(r.kv.capacity[0] / RADAR_SEGMENT);
    const size_t queries = (size_t)(r.kv.kv_heads * GROUP);
    r.q = device_memory(be, queries * 128 * sizeof(float));
    upload_normal(be, r.q, queries * 128);
    r.query = device_memory(be, queries * r.scorer->query_bytes);
    be->ops->query(be, r.scorer, r.query, r.q, 128, (int)queries);
    r.score = device_memory(be, (size_t)(r.tasks * GROUP) * (size_t)r.segments * sizeof(float));
    r.partial = device_memory(be, (size_t)(r.tasks * GROUP * RADAR_PARTIAL(128)) * sizeof(float));
    return r;
}

static void close_rig(rig *r) {
    void *const all[] = {r->q, r->query, r->score, r->partial, r->item};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) r->be->ops->release(r->be, all[i]);
    r->be->ops->forget(r->be, r->scorer);
    radar_scorer_close(r->scorer);
    radar_kvcache_close(&r->kv);
}

/* All layers; tasks as the policy makes them: shards outermost, the KV heads of each side by side. */
static void queue_scan(void *data) {
    const rig *r = data;
    radar_score_task task[64];
    const int32_t units = r->segments / r->unit;
    for (int layer = 0; layer < r->kv.layers; layer++) {
        for (int t = 0; t < r->tasks; t++) {
            const int shard = t / r->kv.kv_heads, head = t % r->kv.kv_heads;
            task[t] = (radar_score_task){.kv = radar_kvcache_view(&r->kv, layer, head, shard),
                                         .n_query = GROUP,
                                         .query = (char *)r->query +
                                                  (size_t)(head * GROUP) * r->scorer->query_bytes,
                                         .unit = r->unit,
                                         .segment_end = units,
                                         .score = r->score + (size_t)(t * GROUP) * (size_t)units,
                                         .score_stride = (size_t)units,
                                         .coarse = r->coarse};
        }
        r->be->ops->score(r->be, r->scorer, task, r->tasks);
    }
}

static void scans(radar_backend *be, double ceiling, bool toy) {
    rig r = open_rig(be, "sketch", RADAR_FP8, toy);
    const double blocks = (double)r.kv.layers * r.tasks * r.segments / RADAR_BLOCK_SEGMENTS;
    print_share("sketch scan of 1M tokens", blocks * (double)r.scorer->block_bytes,
                bench_seconds(be, queue_scan, &r, 2), ceiling, toy ? 0 : 70);
    r.coarse = true;
    print_share("coarse sketch scan of 1M tokens", blocks * (double)r.scorer->coarse_bytes,
                bench_seconds(be, queue_scan, &r, 2), ceiling, 0);
    close_rig(&r);
    r = open_rig(be, "mean", RADAR_FP8, toy);
    for (r.unit = 1; r.unit <= 16; r.unit *= 16) {
        char name[64];
        snprintf(name, sizeof name, "mean scan of 1M tokens by %d", 16 * r.unit);
        print_share(name, blocks * (double)r.scorer->block_bytes / (double)r.unit,
                    bench_seconds(be, queue_scan, &r, 4), ceiling, 0);
    }
    close_rig(&r);
}

/* ---- attention of listed segments ---- */

static int ascending(const void *a, const void *b) {
    return ((const radar_item *)a)->segment - ((const radar_item *)b)->segment;
}

/* Distinct segments of every task: one from each of as many equal ranges as it has items. */
static void list_items(rig *r, int attended) {
    const size_t n = (size_t)(r->lists * r->tasks);
    r->per = attended / RADAR_SEGMENT / r->kv.n_shards;
    radar_item *item = malloc(n * (size_t)r->per * sizeof *item);
    for (size_t t = 0; t < n; t++) {
        for (int i = 0; i < r->per; i++) {
            const uint64_t range = (uint64_t)(r->segments / r->per),
                           at = radar_random(7, t, (uint64_t)i) % range;
            item[t * (size_t)r->per + (size_t)i] =
                (radar_item){(int32_t)((uint64_t)i * range + at), 0xffff};
        }
        qsort(item + t * (size_t)r->per, (size_t)r->per, sizeof *item, ascending);
    }
    r->item = device_memory(r->be, n * (size_t)r->per * sizeof *item);
    r->be->ops->upload(r->be, r->item, item, n * (size_t)r->per * sizeof *item);
    r->be->ops->wait(r->be, NULL);
    free(item);
}

static void queue_attention(void *data) {
    const rig *r = data;
    radar_attend_task task[64];
    int64_t position[GROUP];
    for (int i = 0; i < GROUP; i++) position[i] = r->kv.context;
    for (int i = 0; i < r->lists * r->kv.layers; i++) {
        for (int t = 0; t < r->tasks; t++) {
            const int shard = t / r->kv.kv_heads, head = t % r->kv.kv_heads;
            const size_t list = (size_t)(i % r->lists * r->tasks + t);
            task[t] = (radar_attend_task){
                .kv = radar_kvcache_view(&r->kv, i / r->lists, head, shard),
                .n_query = GROUP,
                .q = r->q + (size_t)(head * GROUP) * 128,
                .q_stride = 128,
                .position = position,
                .items = {.item = r->item + list * (size_t)r->per, .n = r->per, .on_device = true},
                .partial = r->partial + (size_t)(t * GROUP) * RADAR_PARTIAL(128),
                .partial_stride = RADAR_PARTIAL(128)};
        }
        r->be->ops->attend(r->be, task, r->tasks, 1 / sqrtf(128), 1);
    }
}

/* bytes: of a number, with its share of a scale. */
static void attention(radar_backend *be, const char *name, radar_dtype type, int attended,
                      double ceiling, double target, bool toy) {
    rig r = open_rig(be, "exact", type, toy);
    r.lists = attended == r.kv.context ? 1 : LISTS;
    list_items(&r, attended);
    const double number = type == RADAR_FP8 ? 1 + sizeof(float) / 128.0 : 2,
                 runs = (double)r.lists * r.kv.layers,
                 bytes = (double)r.kv.kv_heads * attended * 2 * 128 * number,
                 seconds = bench_seconds(be, queue_attention, &r, 1) / runs;
    print_share(name, bytes, seconds, ceiling, target);
    close_rig(&r);
}

static void attentions(radar_backend *be, double ceiling, bool toy) {
    const int all = toy ? 2048 : 1 << 20;
    attention(be, "attention of 16k of 1M tokens, fp8", RADAR_FP8, toy ? all / 2 : all / 64,
              ceiling, toy ? 0 : 65, toy);
    attention(be, "dense attention of 1M tokens, fp8", RADAR_FP8, all, ceiling, 0, toy);
    attention(be, "dense attention of 1M tokens, bf16", RADAR_BF16, all, ceiling, 0, toy);
}

/* ---- products ---- */

#define COPIES 8 /* of a matrix, taken in turn */

typedef struct product {
    radar_backend *be;
    radar_matrix w[COPIES];
    float *x, *out;
    int copies;
} product;

static void queue_product(void *data) {
    const product *p = data;
    for (int i = 0; i < p->copies; i++) {
        const radar_matmul_job job = {.w = &p->w[i],
                                      .row_end = p->w[i].rows,
                                      .col_end = p->w[i].cols,
                                      .out = p->out,
                                      .out_stride = (size_t)p->w[i].rows};
        p->be->ops->matmul(p->be, &job, 1, p->x, (size_t)p->w[i].cols, 1);
    }
}

/* Random rows: of quantised types, blocks with a scale in front. */
static void *stored_rows(radar_matrix *w) {
    const size_t each = radar_dtype_block_bytes(w->type),
                 n = (size_t)w->rows * (size_t)(w->cols / radar_dtype_block(w->type));
    uint8_t *data = malloc(n * each);
    w->row_bytes = (size_t)(w->cols / radar_dtype_block(w->type)) * each;
    w->data = data;
    for (size_t i = 0; i < n * each / 8; i++) {
        const uint64_t bits = radar_random(8, 1, i % 65536);
        memcpy(data + 8 * i, &bits, sizeof bits);
    }
    const uint16_t scale = radar_f32_to_f16(0.002f);
    for (size_t i = 0; i < n; i++) {
        const uint16_t x = radar_f32_to_bf16(0.02f * (float)(data[i * each] - 128) / 64);
        memcpy(data + i * each, each == 2 ? &x : &scale, sizeof x);
    }
    return data;
}

static void multiply(radar_backend *be, const char *name, radar_dtype type, int64_t rows,
                     int64_t cols, double ceiling, bool toy) {
    product p = {.be = be, .copies = toy ? 2 : COPIES};
    radar_matrix stored = {.type = type, .rows = toy ? 64 : rows, .cols = toy ? 128 : cols};
    const radar_region whole = {0, stored.rows, 0, stored.cols};
    void *data = stored_rows(&stored), *memory[COPIES] = {NULL};
    const size_t bytes = be->ops->pack_bytes(be, &stored, &whole);
    char what[96];
    for (int i = 0; i < p.copies; i++) {
        memory[i] = device_memory(be, bytes);
        p.w[i] = stored;
        be->ops->pack(be, memory[i], &p.w[i], &whole);
    }
    p.x = device_memory(be, (size_t)stored.cols * sizeof(float));
    p.out = device_memory(be, (size_t)stored.rows * sizeof(float));
    upload_normal(be, p.x, (size_t)stored.cols);
    snprintf(what, sizeof what, "product %s %lld x %lld", name, (long long)rows, (long long)cols);
    print_share(what, (double)bytes * p.copies, bench_seconds(be, queue_product, &p, 1), ceiling,
                toy ? 0 : 85);
    for (int i = 0; i < p.copies; i++) be->ops->release(be, memory[i]);
    be->ops->release(be, p.x);
    be->ops->release(be, p.out);
    free(data);
}

static void products(double ceiling, bool toy) {
    static const struct {
        const char *name;
        radar_dtype type;
        bool fp8;
    } all[] = {{"bf16", RADAR_BF16, false},
               {"fp8", RADAR_BF16, true},
               {"q8_0", RADAR_Q8_0, false},
               {"q4_0", RADAR_Q4_0, false}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const radar_backend_options opt = {
            .max_rows = 8, .max_cols = 16384, .graphs = true, .fp8_weights = all[i].fp8};
        radar_backend *be = NULL;
        radar_error err = {0};
        if (radar_backends[0]->open(&be, &opt, &err) != RADAR_OK) bench_stop(err.text);
        multiply(be, all[i].name, all[i].type, 14336, 4096, ceiling, toy);
        multiply(be, all[i].name, all[i].type, 4096, 14336, ceiling, toy);
        be->ops->close(be);
    }
}

/* ---- small ones ---- */

typedef struct small {
    radar_backend *be;
    float *score, *x, *weight;
    uint64_t *key, *scratch;
    int n, keep;
} small;

#define HEADS 32

static void queue_topk(void *data) {
    const small *s = data;
    radar_topk_range range[HEADS];
    radar_topk_task task[HEADS];
    for (int h = 0; h < HEADS; h++) {
        range[h] = (radar_topk_range){.score = s->score + (size_t)h * (size_t)s->n, .n = s->n};
        task[h] = (radar_topk_task){.range = &range[h],
                                    .n_ranges = 1,
                                    .stripe_segments = 16,
                                    .shards = 1,
                                    .keep = s->keep,
                                    .scratch = s->scratch + (size_t)h * (size_t)s->n,
                                    .key = s->key + h * s->keep};
    }
    s->be->ops->topk(s->be, task, HEADS);
}

static void queue_norm(void *data) {
    const small *s = data;
    s->be->ops->norm(s->be, s->x, s->x, NULL, s->weight, 1e-5f, 1, 4096);
}

static void small_ones(radar_backend *be, bool toy) {
    small s = {.be = be, .n = toy ? 1024 : 65536, .keep = 64};
    const size_t all = (size_t)HEADS * (size_t)s.n;
    s.score = device_memory(be, all * sizeof *s.score);
    s.scratch = device_memory(be, all * sizeof *s.scratch);
    s.key = device_memory(be, (size_t)(HEADS * s.keep) * sizeof *s.key);
    s.x = device_memory(be, 4096 * sizeof *s.x);
    s.weight = device_memory(be, 4096 * sizeof *s.weight);
    upload_normal(be, s.score, all);
    upload_normal(be, s.x, 4096);
    upload_normal(be, s.weight, 4096);
    bench_line("top 64 of 64k scores, 32 heads", bench_seconds(be, queue_topk, &s, 10) * 1e6, "us",
               0, false);
    bench_line("norm of 4096", bench_seconds(be, queue_norm, &s, 50) * 1e6, "us", 0, false);
    void *const memory[] = {s.score, s.scratch, s.key, s.x, s.weight};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) be->ops->release(be, memory[i]);
}

void bench_kernels(radar_backend *be, bool toy) {
    const double ceiling = bench_read_ceiling(be, toy);
    bench_line("read", ceiling / 1e9, "GB/s", 0, true);
    scans(be, ceiling, toy);
    attentions(be, ceiling, toy);
    products(ceiling, toy);
    small_ones(be, toy);
}
