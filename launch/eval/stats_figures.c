/* What one query head looks like, from its queries and the keys of its KV head. */
#include <math.h>
#include <string.h>

#include "launch/eval/figures.h"

const char *const eval_stats_name[EVAL_STATS] = {
    "q_norm2",          "k_norm2",          "k_norm2_centred", "logit_sd",
    "effective_tokens", "first_token_mass", "window_mass"};

static double dot(const float *a, const float *b, int D) {
    double sum = 0;
    for (int d = 0; d < D; d++) sum += (double)a[d] * (double)b[d];
    return sum;
}

static void look_at_keys(eval_head_stats *s, const float *key, int64_t n, int D) {
    double scale = 1 / (sqrt(D) * (double)n);
    for (int d = 0; d < D; d++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            double k = (double)key[(size_t)i * (size_t)D + (size_t)d];
            sum += k;
            squares += k * k;
        }
        s->mean[EVAL_K2] += squares * scale;
        s->mean[EVAL_K2_MEAN] += (squares - sum * sum / (double)n) * scale;
    }
}

static void count_weight(eval_head_stats *s, double ln_weight, double share_of_tokens) {
    int bin = ln_weight >= EVAL_LN_LOW ? (int)floor(ln_weight) - EVAL_LN_LOW : 0;
    if (bin >= -EVAL_LN_LOW) bin = -EVAL_LN_LOW - 1; /* a weight of 1 */
    s->tokens[bin] += share_of_tokens;
    s->mass[bin] += share_of_tokens * exp(ln_weight);
}

/* One query over tokens [0, n); everything is added with weight `part`. */
static void look_at_query(eval_head_stats *s, const float *q, const float *key, int64_t n, int D,
                          int64_t window, double *logit, double part) {
    double most = -INFINITY, sum = 0, squares = 0, mass = 0, entropy = 0, recent = 0;
    for (int64_t i = 0; i < n; i++) {
        logit[i] = dot(q, key + (size_t)i * (size_t)D, D) / sqrt(D);
        most = fmax(most, logit[i]);
        sum += logit[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double e = logit[i] - sum / (double)n;
        squares += e * e;
        mass += exp(logit[i] - most);
    }
    double ln_mass = most + log(mass);
    for (int64_t i = 0; i < n; i++) {
        double ln_weight = logit[i] - ln_mass, weight = exp(ln_weight);
        entropy -= weight * ln_weight;
        if (i >= n - window) recent += weight;
        count_weight(s, ln_weight, part);
    }
    s->mean[EVAL_Q2] += part * dot(q, q, D) / sqrt(D);
    s->mean[EVAL_LOGIT_SD] += part * sqrt(squares / (double)n);
    s->mean[EVAL_TOKENS] += part * exp(entropy);
    s->mean[EVAL_FIRST] += part * exp(logit[0] - ln_mass);
    s->mean[EVAL_WINDOW] += part * recent;
}

void eval_head_look(eval_head_stats *s, const float *q, size_t stride, const int64_t *position,
                    int rows, const float *key, int64_t n, int D, int64_t window, double *weight) {
    double tokens = 0;
    memset(s, 0, sizeof *s);
    look_at_keys(s, key, n, D);
    for (int i = 0; i < rows; i++) {
        look_at_query(s, q + (size_t)i * stride, key, position[i] + 1, D, window, weight,
                      1 / (double)rows);
        tokens += (double)(position[i] + 1);
    }
    /* tokens were counted whole: as shares of all that were looked at */
    for (int b = 0; b < -EVAL_LN_LOW; b++) s->tokens[b] /= tokens / (double)rows;
}
