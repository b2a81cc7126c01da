/* Losses of given tokens, and what figures are made of them. */
#include <math.h>
#include <string.h>

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

static double step_bytes(const eval_context *c, const radar_session_stats *stats) {
    const radar_model_info *m = &c->job->info;
    const double layer_heads = (double)m->layers * m->kv_heads;
    const char *type = c->setting.kv_type;
    const double D = m->head_dim, centre = (D + 4) / 64;
    const double token = strcmp(type, "f32") == 0  ? 8 * D
                         : strcmp(type, "q8") == 0 ? 2 * D + 4 + centre
                                                   : 4 * D;
    return stats->attended_tokens_mean * token * layer_heads +
           (double)stats->scored_bytes / (double)radar_max64(stats->steps, 1);
}

static double mean_of(double a, int64_t n_a, double b, int64_t n_b) {
    return n_a + n_b > 0 ? (a * (double)n_a + b * (double)n_b) / (double)(n_a + n_b) : b;
}

radar_status eval_figures_add(eval_context *c, eval_figures *f) {
    radar_session_stats s;
    const radar_status st = launch_stats(c->job, &s);
    if (st != RADAR_OK) return st;
    f->attended = mean_of(f->attended, f->steps, s.attended_tokens_mean, s.steps);
    f->coverage = mean_of(f->coverage, f->steps, s.coverage_mean, s.steps);
    f->bytes = mean_of(f->bytes, f->steps, step_bytes(c, &s), s.steps);
    f->coverage_min = f->steps == 0 ? s.coverage_min : fmin(f->coverage_min, s.coverage_min);
    f->segments_scored += s.segments_scored;
    f->steps += s.steps;
    return RADAR_OK;
}
