/* Mean, covariance and norms of a model's keys and values, from a text it has read. */
#include "launch/bench/bench.h"
#include "runtime/sys.h"

enum { TOKENS = 2048 }; /* of the text, at most */

/* A small session of its own, whatever the settings are: f16, dense. */
static radar_status read_into_cache(bench *b, int64_t n) {
    launch_job *job = b->job;
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = n;
    opt.attention = "dense";
    radar_status st = radar_session_open(&job->session, job->engine, &opt);
    if (st == RADAR_OK) st = radar_prefill(job->session, b->text.token, (size_t)n);
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

static radar_status measure_heads(bench *b, int64_t n, float *key, double *scratch) {
    launch_job *job = b->job;
    const radar_model_info *m = &job->info;
    float *value = key + n * m->head_dim;
    for (int layer = 0; layer < m->layers; layer++) {
        for (int head = 0; head < m->kv_heads; head++) {
            const radar_status st = radar_session_read(job->session, layer, head, 0, n, key, value);
            if (st != RADAR_OK) return launch_library_failed(job, st);
            bench_synth_measure(b->synth, layer, head, 0, key, n, scratch);
            bench_synth_measure(b->synth, layer, head, 1, value, n, scratch);
        }
        launch_progress_show(&job->progress, "moments", layer + 1, m->layers);
    }
    return RADAR_OK;
}

radar_status bench_measure_moments(bench *b) {
    launch_job *job = b->job;
    const radar_model_info *m = &job->info;
    const int64_t n = radar_min64((int64_t)b->text.n, TOKENS),
                  least = SYNTH_SINKS + 2 * m->head_dim;
    const int threads = b->base.threads > 0 ? (int)b->base.threads : job->world->cores;
    float *key = radar_alloc_array((size_t)(2 * n), (size_t)m->head_dim * sizeof *key);
    double *scratch = radar_alloc_array(bench_synth_scratch(n, m->head_dim), sizeof *scratch);
    if (n < least)
        radar_fail(&job->err, RADAR_ERR_DATA,
                   "%s: %lld tokens, and a covariance of %d dimensions needs %lld or more: give a "
                   "longer text",
                   b->text_name, (long long)n, m->head_dim, (long long)least);
    else if (key == NULL || scratch == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld keys", (long long)n);
    else
        bench_synth_open(&b->synth, m->layers, m->kv_heads, m->head_dim, threads, b->base.seed,
                         &job->err);
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = read_into_cache(b, n);
    if (st == RADAR_OK) st = measure_heads(b, n, key, scratch);
    radar_session_close(job->session);
    job->session = NULL;
    radar_free(scratch);
    radar_free(key);
    if (st == RADAR_OK)
        launch_progress_line(&job->progress,
                             "synth: like the keys and values of %lld tokens of %s, seed %llu",
                             (long long)n, b->text_name, (unsigned long long)b->base.seed);
    return st;
}
