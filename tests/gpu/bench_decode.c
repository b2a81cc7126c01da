/* Decode steps of a whole model, whose weights and cache are random numbers made on the device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/sys.h"
#include "tests/gpu/bench.h"

#define WARM 6
#define STEPS 32

typedef struct setting {
    const char *name, *attention, *scorer, *scan;
    int64_t segment;
    double target; /* ms of a step of Llama-3.1-8B at a million tokens on an H200; 0: none */
} setting;

static const setting settings[] = {
    {"radar", "radar", "sketch", "full", 16, 8},
    {"progressive", "radar", "sketch", "progressive", 16, 7},
    {"mean", "radar", "mean", "full", -1, 5.2},
    {"dense", "dense", "sketch", "full", 16, 0},
};
#define SETTINGS ((int)(sizeof settings / sizeof settings[0]))
#define SPEEDUP 2.4 /* of radar over dense, there */

typedef struct figures {
    double seconds, launches, bytes, attended;
} figures;

static radar_session_options options_of(const setting *w, const bench_shape *shape) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = shape->longest + 1024;
    opt.kv_type = "fp8";
    opt.attention = w->attention;
    opt.scorer = w->scorer;
    opt.scan = w->scan;
    opt.segment = w->segment;
    return opt;
}

static void need(radar_status st, const radar_engine *e) {
    if (st != RADAR_OK) bench_stop(radar_last_error(e));
}

/* ---- the model ---- */

static void fill_weights(radar_engine *e) {
    const synth_table normal = bench_table(e->be, RADAR_BF16, 0.02);
    float *ones = malloc(e->vector_end * sizeof *ones);
    for (size_t i = 0; i < e->vector_end; i++) ones[i] = 1;
    e->be->ops->upload(e->be, e->vectors, ones, e->vector_end * sizeof *ones);
    radar_cuda_note(
        bench_queue(e->be), "filling",
        synth_fill(e->packed, e->packed_bytes / 16 * 16, &normal, 5, bench_queue(e->be)));
    need(e->be->ops->wait(e->be, &e->err), e);
    free(ones);
}

static radar_engine *open_model(const bench_shape *shape, const char *folder) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e = NULL;
    char path[1024], error[512] = "";
    const double began = radar_clock();
    snprintf(path, sizeof path, "%s/%s.gguf", folder, shape->name);
    bench_write_model(shape, path);
    opt.model = path;
    opt.backend = "cuda";
    opt.device = 0;
    const radar_status st = radar_engine_open(&e, RADAR_ONE_RANK, &opt, error, sizeof error);
    unlink(path); /* it stays mapped */
    if (st != RADAR_OK) bench_stop(error);
    fill_weights(e);
    bench_line("load and fill", radar_clock() - began, "s", 0, false);
    return e;
}

/* ---- steps ---- */

static void step(radar_session *s, int i) {
    const int32_t token = i % BENCH_TOKENS;
    need(radar_score(s, &token, 1, NULL), s->e);
}

/* Bytes that a step has to read: weights, what is scored, what is attended. */
static double bytes_of(radar_session *s, double *attended) {
    radar_session_stats stats = {.size = sizeof stats};
    need(radar_stats(s, &stats), s->e);
    *attended = stats.attended_tokens_mean;
    return (double)s->e->packed_bytes + (double)stats.scored_bytes / (double)stats.steps +
           2 * stats.attended_tokens_mean * (double)(s->kv.D + (int)sizeof(float)) * s->kv.layers *
               s->kv.kv_heads;
}

static figures measure(radar_session *s, int64_t tokens, int steps) {
    double took[STEPS], launches[STEPS];
    figures f = {0};
    need(radar_rewind(s, tokens - WARM - steps), s->e);
    for (int i = 0; i < WARM; i++) step(s, i);
    radar_session_count_anew(s, &s->counts); /* is queued: not part of a step */
    need(s->e->be->ops->wait(s->e->be, &s->e->err), s->e);
    for (int i = 0; i < steps; i++) {
        const radar_cuda_queue_stats before = radar_cuda_queue_stats_of(bench_queue(s->e->be));
        const double began = radar_clock();
        step(s, i);
        took[i] = radar_clock() - began;
        const radar_cuda_queue_stats after = radar_cuda_queue_stats_of(bench_queue(s->e->be));
        launches[i] = (double)(after.graph_launches - before.graph_launches) +
                      (double)(after.direct - before.direct);
    }
    f.seconds = radar_median(took, steps);
    f.launches = radar_median(launches, steps);
    f.bytes = bytes_of(s, &f.attended);
    return f;
}

static void print_step(const bench_shape *shape, const setting *w, int64_t tokens, const figures *f,
                       bool toy) {
    char name[128];
    const bool judged = !toy && tokens == shape->longest && !strcmp(shape->name, "llama-3.1-8b");
    const bool k = tokens >= 1024;
    const int at = snprintf(name, sizeof name, "%s, %lld%s tokens, %s", shape->name,
                            (long long)(k ? tokens / 1024 : tokens), k ? "k" : "", w->name);
    bench_line(name, f->seconds * 1e3, "ms a token", judged ? w->target : 0, false);
    snprintf(name + at, sizeof name - (size_t)at, ": read");
    bench_line(name, f->bytes / f->seconds / 1e9, "GB/s", 0, true);
    snprintf(name + at, sizeof name - (size_t)at, ": attended");
    bench_line(name, f->attended, "tokens a KV head", 0, true);
    snprintf(name + at, sizeof name - (size_t)at, ": launches by the host");
    bench_line(name, f->launches, "a step", 1, false);
}

/* The whole cache is there, whatever the session has computed. */
static void stand_at(radar_session *s, int64_t position) {
    s->position = s->state_position = position;
    s->pending = -1;
    s->logits_valid = false;
}

void bench_decode(const bench_shape *shape, const char *folder, bool toy) {
    radar_engine *e = open_model(shape, folder);
    radar_session *s = NULL;
    double first = 0;
    for (int i = 0; i < SETTINGS; i++) {
        const radar_session_options opt = options_of(&settings[i], shape);
        if (!s) {
            need(radar_session_open(&s, e, &opt), e);
            bench_fill_cache(&s->kv);
        }
        stand_at(s, shape->longest);
        need(radar_session_reconfigure(s, &opt), e);
        for (int64_t tokens = shape->longest; tokens >= shape->longest >> 5; tokens /= 2) {
            if (tokens == shape->longest >> 2 || tokens == shape->longest >> 4) continue;
            const figures f = measure(s, tokens, toy ? 3 : STEPS);
            print_step(shape, &settings[i], tokens, &f, toy);
            if (tokens != shape->longest) continue;
            if (i == 0) first = f.seconds;
            if (i == SETTINGS - 1) {
                char name[96];
                snprintf(name, sizeof name, "%s: radar over own dense", shape->name);
                bench_line(name, f.seconds / first, "times", toy ? 0 : SPEEDUP, true);
            }
        }
    }
    radar_session_close(s);
    radar_engine_close(e);
}
