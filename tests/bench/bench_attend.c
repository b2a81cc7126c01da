/* bench_attend - speed of attend, score, seal and topk on one thread and on all, beside what they are bound by.
 * Usage: bench_attend [threads] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/merge.h"
#include "runtime/sys.h"

#define HEAD 64
#define SEGMENTS 40960 /* K and V of 655,360 tokens: 168 MB, beyond every cache */

static radar_cpu cpu;
static radar_kv_view kv = {.type = RADAR_F16, .D = HEAD, .stripe_segments = 16, .shards = 1};

static radar_kv_view q8;

static double best_of(int runs, void (*run)(void)) {
    double best = 1e30;
    for (int i = 0; i < runs; i++) { /* the best: others may use the machine */
        double start = radar_clock();
        run();
        double took = radar_clock() - start;
        best = took < best ? took : best;
    }
    return best;
}

static float *random_floats(size_t n, uint64_t seed) {
    float *x = radar_alloc(n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) x[i] = (float)radar_random_normal(seed, 1, i);
    return x;
}

/* Random bytes are as good as any for a packed cache; its scales are all 1. */
static void fill_q8(void) {
    size_t n = (size_t)SEGMENTS * 16;
    uint16_t *scale = radar_alloc(n * 2);
    void *centre = radar_alloc(n / 64 * radar_kv_centre_bytes(HEAD));
    if (!scale || !centre) exit(71);
    for (size_t i = 0; i < n; i++) scale[i] = 0x3c00;
    q8 = kv;
    q8.type = RADAR_Q8;
    q8.k_scale = q8.v_scale = scale;
    q8.centre = centre;
    q8.tail_begin = SEGMENTS;
}

static void fill(void) {
    size_t n = (size_t)SEGMENTS * 16 * HEAD;
    uint16_t *k = radar_alloc(n * 2), *v = radar_alloc(n * 2);
    if (!k || !v) exit(71);
    for (size_t i = 0; i < n; i++) {
        k[i] = radar_f32_to_f16((float)(radar_random(1, 1, i) >> 40) * 0x1p-22f - 2);
        v[i] = k[i] ^ 0x8000;
    }
    kv.k = k;
    kv.v = v;
    fill_q8();
}

/* ---- attend ---- */

static radar_attend_task task[64];
static int n_tasks;

static void run_attend(void) { radar_cpu_attend(&cpu.base, task, n_tasks, 0.125f, 1); }

/* Each task: n_query queries, every step-th segment of its share. */
static void bench_attend(const radar_kv_view *view, const char *what, int tasks, int n_query,
                         int step, int n_items) {
    radar_item *item = radar_alloc_array((size_t)tasks * (size_t)n_items, sizeof *item);
    int64_t *position = radar_alloc_array((size_t)n_query, sizeof *position);
    float *q = random_floats((size_t)n_query * HEAD, 2),
          *partial = random_floats((size_t)(tasks * n_query) * RADAR_PARTIAL(HEAD), 3);
    if (!item || !position || !q || !partial) exit(71);
    for (int j = 0; j < n_query; j++) position[j] = INT64_MAX / 2;
    for (int i = 0; i < tasks * n_items; i++)
        item[i] = (radar_item){(int32_t)((int64_t)i * step % SEGMENTS), 0xffff};
    for (int i = 0; i < tasks; i++)
        task[i] =
            (radar_attend_task){.kv = *view,
                                .n_query = n_query,
                                .q = q,
                                .q_stride = HEAD,
                                .position = position,
                                .items = {.item = item + (size_t)i * (size_t)n_items, .n = n_items},
                                .partial = partial + (size_t)(i * n_query) * RADAR_PARTIAL(HEAD),
                                .partial_stride = RADAR_PARTIAL(HEAD)};
    n_tasks = tasks;
    double s = best_of(7, run_attend), segments = (double)tasks * n_items;
    double bytes = view->type == RADAR_Q8 ? 2 * HEAD + 4 + (HEAD + 4) / 64.0 : 4 * HEAD;
    printf("%-5s%-39s %6.1f GB/s of K and V  %6.1f GFLOP/s\n",
           view->type == RADAR_Q8     ? "q8"
           : view->type == RADAR_BF16 ? "bf16"
                                      : "f16",
           what, segments * 16 * bytes / s / 1e9, segments * 16 * n_query * 4 * HEAD / s / 1e9);
    radar_free(item), radar_free(position), radar_free(q), radar_free(partial);
}

/* ---- scorers ---- */

static radar_scorer *scorer;
static radar_score_task score_task[8];
static int n_blocks;
static float *raw_query;
static void *prepared;

static void run_score(void) { radar_cpu_score(&cpu.base, scorer, score_task, n_tasks); }
static void run_seal(void) { radar_cpu_seal(&cpu.base, scorer, &kv, 1, 0, n_blocks); }
static void run_query(void) {
    for (int i = 0; i < 100; i++) radar_cpu_query(&cpu.base, scorer, prepared, raw_query, HEAD, 3);
}

static void bench_scorer(const char *name, int n_query, int n_segments) {
    radar_scorer_options opt = {.D = HEAD, .seed = 1, .rf_pair = 1, .isa = cpu.opt.isa};
    if (radar_scorer_open(&scorer, name, &opt, NULL) != RADAR_OK) exit(70);
    kv.block_bytes = scorer->block_bytes;
    kv.summary =
        scorer->block_bytes ? radar_alloc((size_t)n_segments / 4 * scorer->block_bytes) : NULL;
    float *score = radar_alloc((size_t)n_segments * (size_t)n_query * sizeof *score);
    raw_query = random_floats(4 * HEAD, 4);
    prepared = radar_alloc(scorer->query_bytes * 4);
    if (!score || !prepared) exit(71);
    n_blocks = n_segments / 4;
    double seal = best_of(2, run_seal), query = best_of(3, run_query) / 100;
    radar_cpu_query(&cpu.base, scorer, prepared, raw_query, HEAD, n_query);
    n_tasks = 8;
    for (int i = 0; i < n_tasks; i++) {
        int32_t begin = (int32_t)((int64_t)n_segments / 4 * i / n_tasks * 4),
                end = (int32_t)((int64_t)n_segments / 4 * (i + 1) / n_tasks * 4);
        score_task[i] = (radar_score_task){.kv = kv,
                                           .n_query = n_query,
                                           .query = prepared,
                                           .unit = 1,
                                           .segment_begin = begin,
                                           .segment_end = end,
                                           .score = score + begin,
                                           .score_stride = (size_t)n_segments};
    }
    double s = best_of(7, run_score), bytes = scorer->block_bytes
                                                  ? (double)n_blocks * (double)scorer->block_bytes
                                                  : (double)n_segments * 32 * HEAD;
    printf("score %-7s %d queries, %5.1f bytes a token      %6.1f GB/s  %7.1f M tokens/s   seal "
           "%7.3f us a token   3 queries %6.2f us\n",
           name, n_query, bytes / n_segments / 16, bytes / s / 1e9, n_segments * 16 / s / 1e6,
           seal / n_segments / 16 * 1e6, query * 1e6);
    radar_free(kv.summary), radar_free(score), radar_free(raw_query), radar_free(prepared);
    radar_scorer_close(scorer);
}

/* ---- topk ---- */

static radar_topk_task topk_task;
static void run_topk(void) { radar_cpu_topk(&cpu.base, &topk_task, 1); }

static void bench_topk(int n, int keep, int rising) {
    float *score = random_floats((size_t)n, 5);
    uint64_t *key = radar_alloc_array((size_t)n, sizeof *key);
    if (!score || !key) exit(71);
    for (int i = 0; rising && i < n; i++) score[i] = (float)i;
    const radar_topk_range range = {.score = score, .n = n};
    topk_task = (radar_topk_task){.range = &range,
                                  .n_ranges = 1,
                                  .stripe_segments = 16,
                                  .shards = 1,
                                  .keep = keep,
                                  .scratch = key,
                                  .key = key};
    printf("topk %6d scores%s, keep %3d                 %6.1f us\n", n, rising ? " rising" : "",
           keep, best_of(9, run_topk) * 1e6);
    radar_free(score), radar_free(key);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    bool ok;
    cpu.opt.n_threads = threads > 0 ? threads : 1;
    cpu.opt.isa = argc > 2 ? argv[2] : NULL;
    cpu.isa = radar_cpu_isa(cpu.opt.isa, &ok);
    if (!ok) return 78;
    printf("%s, %d threads\n", cpu.isa.avx512 ? "avx512" : "plain", cpu.opt.n_threads);
    fill();
    radar_kv_view bf16 = kv;
    bf16.type = RADAR_BF16;
    const radar_kv_view *const views[] = {&kv, &bf16, &q8};
    for (int i = 0; i < 3; i++) {
        bench_attend(views[i], "3 queries, every segment", 8, 3, 1, 4096);
        bench_attend(views[i], "3 queries, every 7th segment", 8, 3, 7, 4096);
        bench_attend(views[i], "3 queries, in cache", 8, 3, 0, 4096);
        bench_attend(views[i], "1 query, every segment", 8, 1, 1, 4096);
        bench_attend(views[i], "8 queries, every segment", 8, 8, 1, 4096);
        bench_attend(views[i], "48 queries, every segment", 8, 48, 1, 512);
        bench_attend(views[i], "48 queries, in cache", 8, 48, 0, 512);
        bench_attend(views[i], "512 queries, every segment", 4, 512, 1, 128);
    }
    bench_scorer("sketch", 3, SEGMENTS);
    bench_scorer("sketch", 1, SEGMENTS);
    bench_scorer("sketch", 4, SEGMENTS);
    bench_scorer("mean", 3, SEGMENTS);
    bench_scorer("exact", 3, SEGMENTS);
    bench_scorer("rf", 3, 2048);
    bench_topk(65536, 64, 0);
    bench_topk(65536, 64, 1);
    bench_topk(1024, 32, 0);
    radar_free(kv.k), radar_free(kv.v), radar_free(q8.k_scale), radar_free(q8.centre);
    return 0;
}
