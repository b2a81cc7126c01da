/* Losses of given tokens, and what figures are made of them. */
#include <math.h>

#include "launch/eval/eval.h"
#include "launch/score.h"

typedef struct taken {
    double *loss;
    unsigned char *hit;
    int64_t n;
} taken;

static radar_status take(void *user, double loss, bool hit, const float *logits) {
    taken *t = user;
    (void)logits;
    t->loss[t->n] = loss;
    if (t->hit != NULL) t->hit[t->n] = hit;
    t->n++;
    return RADAR_OK;
}

radar_status eval_losses(eval_context *c, const int32_t *token, int64_t first, int64_t end,
                         double *loss, unsigned char *hit, double *seconds) {
    taken t = {loss, hit, 0};
    launch_score score;
    const radar_status st = launch_score_rows(c->job, token, first, end, take, &t, &score);
    if (seconds != NULL) *seconds = score.seconds;
    return st;
}

void eval_mean(const double *x, int64_t n, double *mean, double *se) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *se = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : NAN;
}

double eval_step_bytes(const eval_context *c, const radar_session_stats *stats) {
    const radar_model_info *m = &c->job->info;
    const double element = c->setting.kv_type[0] == 'f' && c->setting.kv_type[1] == '3' ? 4 : 2;
    const double kv =
        stats->attended_tokens_mean * 2 * m->head_dim * element * m->layers * m->kv_heads;
    double summaries = 0;
    for (int r = 0; r < stats->ranks; r++) summaries += (double)stats->summary_bytes[r];
    /* Reserved for the whole context; a segment's share of it. */
    const double segments = (double)stats->context / 16 * m->layers * m->kv_heads;
    if (stats->steps == 0) return kv;
    return kv + summaries / segments * (double)stats->segments_scored / (double)stats->steps;
}
