#include "launch/score.h"

#include <math.h>
#include <string.h>

#include "runtime/sys.h"

enum { LANES = 16, BLOCK = 256, ROWS = 64 };

/* The loops below are the same for every instruction set, lane by lane, so that a loss has the same bits everywhere. */
#define FOR_EACH_ISA __attribute__((target_clones("avx512f", "avx2", "default")))

/* e^x for x <= 0; NaN stays NaN.  x = n ln 2 + r, |r| <= ln 2 / 2: 2^n times the series of e^r to r^7. */
static inline float exp_of_negative(float x) {
    const float shift = 0x1.8p23f; /* adding it rounds to a whole number, left in the low bits */
    x = x < -87.0f ? -87.0f : x;
    const float t = x * 0x1.715476p+0f + shift, n = t - shift;
    const float r = (x - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f; /* ln 2 in two parts */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + (127u << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

FOR_EACH_ISA static float largest(const float *x, int n) {
    float top[LANES];
    int i = 0;
    for (int l = 0; l < LANES; l++) top[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) top[l] = x[i + l] > top[l] ? x[i + l] : top[l];
    for (; i < n; i++) top[0] = x[i] > top[0] ? x[i] : top[0];
    for (int l = 1; l < LANES; l++) top[0] = top[l] > top[0] ? top[l] : top[0];
    return top[0];
}

/* Sum of e^(x - most): 16 lanes of at most 16 terms in f32, then in double. */
FOR_EACH_ISA static double sum_of_exps(const float *x, int n, float most) {
    double sum = 0;
    int i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        float lane[LANES] = {0};
        for (int j = i; j < i + BLOCK; j += LANES)
            for (int l = 0; l < LANES; l++) lane[l] += exp_of_negative(x[j + l] - most);
        for (int l = 0; l < LANES; l++) sum += (double)lane[l];
    }
    for (; i < n; i++) sum += (double)exp_of_negative(x[i] - most);
    return sum;
}

double launch_loss(const float *logits, int vocab, int32_t token) {
    const float most = largest(logits, vocab);
    return log(sum_of_exps(logits, vocab, most)) + ((double)most - (double)logits[token]);
}

void launch_losses(const float *logits, int n, int vocab, const int32_t *token, int threads,
                   double *loss, unsigned char *hit) {
#pragma omp parallel for num_threads(threads) schedule(static) if (n > 1)
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * (size_t)vocab;
        loss[i] = launch_loss(row, vocab, token[i]);
        if (hit != NULL) hit[i] = row[token[i]] >= largest(row, vocab);
    }
}

/* ---- rows of a session ---- */

typedef struct reader {
    launch_job *job;
    const int32_t *next; /* next[p]: the token that row p is judged by */
    int64_t begin;       /* position of row 0 */
    launch_row_fn *each;
    void *user;
    launch_score *score;
    double own_s; /* spent here */
} reader;

/* [rank 0] */
static radar_status take_rows(reader *r, int64_t position, int n, const float *logits) {
    launch_job *job = r->job;
    const int vocab = job->info.vocab;
    const int threads = job->opt->threads > 0 ? (int)job->opt->threads : radar_cores();
    const int32_t *next = r->next + (position - r->begin);
    double loss[ROWS];
    unsigned char hit[ROWS];
    launch_losses(logits, n, vocab, next, threads, loss, hit);
    for (int i = 0; i < n; i++) {
        if (!isfinite(loss[i]))
            return radar_fail(&job->err, RADAR_ERR_INTERNAL,
                              "position %lld: the loss of token %d is not finite",
                              (long long)(position + i), next[i]);
        r->score->nll += loss[i];
        const float *row = logits + (size_t)i * (size_t)vocab;
        const radar_status st =
            r->each != NULL ? r->each(r->user, loss[i], hit[i] != 0, row) : RADAR_OK;
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

static void read_rows(void *user, int64_t position, int n, const float *logits) {
    reader *r = user;
    if (r->job->world->rank != 0 || r->job->stop) return;
    const double began = radar_clock();
    for (int i = 0; i < n && !r->job->stop; i += ROWS)
        if (take_rows(r, position + i, (int)radar_min64(ROWS, n - i),
                      logits + (size_t)i * (size_t)r->job->info.vocab) != RADAR_OK)
            r->job->stop = true;
    r->own_s += radar_clock() - began;
}

radar_status launch_score_rows(launch_job *job, const int32_t *token, int64_t first, int64_t end,
                               launch_row_fn *each, void *user, launch_score *score) {
    *score = (launch_score){0};
    reader r = {job, token + first + 1, radar_position(job->session), each, user, score, 0};
    const int64_t rows = job->opt->batch;
    radar_status st = launch_agree(job);
    for (int64_t at = first; at < end && st == RADAR_OK; at += rows) {
        const int64_t n = radar_min64(rows, end - at);
        const double began = radar_clock();
        st = radar_score_each(job->session, token + at, (size_t)n, read_rows, &r);
        score->seconds += radar_clock() - began;
        if (st != RADAR_OK)
            launch_library_failed(job, st);
        else
            launch_progress_show(&job->progress, "score", at + n - first, end - first);
    }
    score->seconds -= r.own_s;
    return launch_agree(job);
}
