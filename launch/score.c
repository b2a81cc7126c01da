#include "launch/score.h"

#include <math.h>

#include "runtime/sys.h"

enum { ROWS = 64 };

double launch_loss(const float *logits, int vocab, int32_t token) {
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < vocab; i++)
        if (logits[i] > most) most = logits[i];
    for (int i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    return log(sum) + (most - (double)logits[token]);
}

/* [rank 0] */
static radar_status take_rows(launch_job *job, const float *logits, const int32_t *next,
                              int64_t position, int n, launch_row_fn *each, void *user,
                              launch_score *score) {
    const int vocab = job->info.vocab;
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * (size_t)vocab;
        const double loss = launch_loss(row, vocab, next[i]);
        if (!isfinite(loss))
            return radar_fail(&job->err, RADAR_ERR_INTERNAL,
                              "position %lld: the loss of token %d is not finite",
                              (long long)(position + i), next[i]);
        score->nll += loss;
        const radar_status st = each != NULL ? each(user, loss, row) : RADAR_OK;
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

radar_status launch_score_rows(launch_job *job, const int32_t *token, int64_t first, int64_t end,
                               launch_row_fn *each, void *user, launch_score *score) {
    *score = (launch_score){0};
    float *logits = radar_alloc_array((size_t)job->info.vocab, ROWS * sizeof *logits);
    if (logits == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %d rows of logits", ROWS);
    radar_status st = launch_agree(job);
    for (int64_t at = first; at < end && st == RADAR_OK; at += ROWS) {
        const int n = (int)radar_min64(ROWS, end - at);
        const double began = radar_clock();
        st = radar_score(job->session, token + at, (size_t)n, logits);
        score->seconds += radar_clock() - began;
        if (st != RADAR_OK) {
            launch_library_failed(job, st);
        } else if (job->world->rank == 0 && !job->stop) {
            if (take_rows(job, logits, token + at + 1, at, n, each, user, score) != RADAR_OK)
                job->stop = true;
            launch_report_progress(&job->report, "score", at + n - first, end - first);
        }
    }
    radar_free(logits);
    return launch_agree(job);
}
