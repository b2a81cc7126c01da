/* A row: what was measured, under which setting, and how it stands against the machine.  Bytes, times of phases and bandwidth are
 * rank 0's own, each rank having as much of the work; tokens a second are the job's. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/eval/eval.h"

static void set_word(launch_json *j, const char *key, const char *word) {
    launch_json_text(j, key, word, word != NULL ? strlen(word) : 0);
}

/* "pp512", "tg128 @ d8192" */
static void test_name(char *name, size_t bytes, const bench_test *t) {
    const int used =
        snprintf(name, bytes, "%s%lld", t->kind == BENCH_PP ? "pp" : "tg", (long long)t->n);
    if (t->depth > 0) snprintf(name + used, bytes - (size_t)used, " @ d%lld", (long long)t->depth);
}

static void set_test(launch_json *j, const bench *b, const bench_test *t, const char *from) {
    char name[64];
    test_name(name, sizeof name, t);
    set_word(j, "test", name);
    launch_json_set(j, "extrapolated", json_boolean(from != NULL));
    set_word(j, "extrapolated_from", from);
    launch_json_int(j, "n_prompt", t->kind == BENCH_PP ? t->n : 0);
    launch_json_int(j, "n_gen", t->kind == BENCH_TG ? t->n : 0);
    launch_json_int(j, "n_depth", t->depth);
    set_word(j, "fill", from != NULL ? "" : b->fill_name);
    launch_json_int(j, "seed", (int64_t)b->base.seed);
}

static void set_machine(launch_json *j, const bench *b) {
    const launch_job *job = b->job;
    const radar_model_info *m = &job->info;
    char type[96], hex[20];
    set_word(j, "model", m->name);
    snprintf(type, sizeof type, "%s %s", m->family, m->weight_type);
    set_word(j, "model_type", type);
    launch_json_int(j, "model_parameters", m->parameters);
    launch_json_int(j, "model_bytes", (int64_t)m->file_bytes);
    snprintf(hex, sizeof hex, "%016" PRIx64, m->fingerprint);
    set_word(j, "fingerprint", hex);
    set_word(j, "backend", m->backend);
    launch_json_int(j, "threads",
                    b->base.threads > 0 ? b->base.threads : (int64_t)job->world->cores);
    launch_json_int(j, "ranks", job->world->size);
    launch_json_int(j, "shards", b->setting.shards);
    set_word(j, "precision", b->setting.precision);
    set_word(j, "kv_type", b->setting.kv_type);
}

static void set_times(launch_json *j, const bench_test *t, const bench_times *times) {
    const double n = (double)t->n;
    const bool spread = times->n > 0;
    json_t *samples = json_array();
    launch_json_int(j, "repetitions", times->n);
    launch_json_real(j, "tokens_per_s", n / times->median);
    launch_json_real(j, "tokens_per_s_min", spread ? n / times->most : NAN);
    launch_json_real(j, "tokens_per_s_max", spread ? n / times->least : NAN);
    /* to first order, as the deviation of the seconds */
    launch_json_real(j, "tokens_per_s_sd",
                     times->n > 1 ? n / times->median * times->deviation / times->median : NAN);
    launch_json_real(j, "ms_per_token", 1e3 * times->median / n);
    launch_json_real(j, "seconds", times->median);
    for (int i = 0; i < times->n; i++)
        if (json_array_append_new(samples, json_real(times->seconds[i])) != 0) j->failed = true;
    launch_json_set(j, "samples_s", samples);
}

static double per(bool known, double x, double by) { return known && by > 0 ? x / by : NAN; }

/* How fast bytes were read, as a share of what the machine can. */
static double read_share(const bench *b, const bench_work *w, double bytes, double seconds) {
    return per(w->phases && bytes > 0 && seconds > 0, bytes / seconds, b->bandwidth);
}

/* Bytes and exchanges of a token, seconds of attention of a whole test. */
static void set_work(launch_json *j, const bench *b, const bench_test *t, const bench_work *w) {
    const double tokens = (double)w->tokens,
                 bytes = w->weight_bytes + w->summary_bytes + w->kv_bytes;
    const bool known = w->phases;
    launch_json_real(j, "bytes_per_token", per(known, bytes, tokens));
    launch_json_real(j, "weight_bytes_per_token", per(known, w->weight_bytes, tokens));
    launch_json_real(j, "summary_bytes_per_token", per(known, w->summary_bytes, tokens));
    launch_json_real(j, "kv_bytes_per_token", per(known, w->kv_bytes, tokens));
    launch_json_real(j, "read_bandwidth", per(true, b->bandwidth, b->bandwidth > 0));
    launch_json_real(j, "read_share", read_share(b, w, bytes, w->seconds));
    launch_json_real(j, "weight_read_share", read_share(b, w, w->weight_bytes, w->weight_s));
    launch_json_real(j, "scan_read_share", read_share(b, w, w->summary_bytes, w->scan_s));
    launch_json_real(j, "attend_read_share", read_share(b, w, w->kv_bytes, w->attend_s));
    launch_json_real(j, "attention_s",
                     known ? per(true, w->attention_s * (double)t->n, tokens) : w->attention_s);
    launch_json_real(j, "exchange_ms_per_token", per(known, 1e3 * w->exchange_s, tokens));
    launch_json_real(j, "exchange_share", per(known, w->exchange_s, w->seconds));
    launch_json_set(j, "phases", w->list != NULL ? json_incref(w->list) : json_array());
}

static void set_stats(launch_json *j, const radar_session_stats *s, const bench_test *t) {
    const bool steps = s != NULL && t->kind == BENCH_TG && s->steps > 0;
    launch_json_real(j, "coverage_mean", steps ? s->coverage_mean : NAN);
    launch_json_real(j, "attended_tokens_mean", steps ? s->attended_tokens_mean : NAN);
    launch_json_real(j, "segments_scored_per_token",
                     steps ? (double)s->segments_scored / (double)s->steps : NAN);
}

/* The loss is of decoding under the setting; of prefill, where that leaves something out. */
static void set_loss(launch_json *j, const bench *b, const bench_test *t) {
    char from[160] = "not measured";
    double loss = NAN;
    const int64_t length = t->kind == BENCH_TG ? t->depth : t->depth + t->n;
    if (b->losses == NULL || !bench_loss(b->losses, j->object, length, &loss, from, sizeof from))
        loss = NAN;
    launch_json_real(j, "loss", loss);
    set_word(j, "loss_from", from);
}

launch_json bench_row(const bench *b, const bench_test *t, const bench_times *times,
                      const bench_work *work, const radar_session_stats *stats, const char *from) {
    launch_json j = launch_json_open();
    set_test(&j, b, t, from);
    set_machine(&j, b);
    eval_row_attention(&j, &b->setting, t->depth + t->n);
    set_times(&j, t, times);
    set_work(&j, b, t, work);
    set_stats(&j, stats, t);
    set_loss(&j, b, t);
    set_word(&j, "version", RADAR_VERSION);
    return j;
}
