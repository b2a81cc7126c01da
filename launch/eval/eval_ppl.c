/* radar eval ppl: the loss of every token of a text under an attention policy. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/eval/eval.h"
#include "launch/output.h"
#include "launch/score.h"
#include "runtime/sys.h"

enum { BUCKET = 256, LOSSES_MOST = 8192 };

typedef struct ppl_state {
    eval_context *c;
    bool wanted;            /* its row is not there yet */
    int64_t first, last, n; /* scored positions, their number */
    double *loss;           /* rank 0 */
    int64_t taken;
    launch_output *nll, *logits; /* rank 0; NULL: not asked for */
    double prefill_s;
    launch_score score;
    radar_session_stats stats;
    eval_figures figures;
} ppl_state;

/* The rows: position i holds token i, and its logits are judged by token i + 1. */
static radar_status choose_positions(ppl_state *e) {
    launch_job *job = e->c->job;
    const launch_options *o = job->opt;
    const int64_t n = (int64_t)e->c->text.n;
    e->first = o->tail != LAUNCH_UNSET ? n - 1 - o->tail : o->from;
    e->last = n - 2;
    e->n = e->last - e->first + 1;
    if (e->first < 0)
        return radar_fail(
            &job->err, RADAR_ERR_DATA,
            "nothing to score: the text has %lld tokens, and --tail %lld needs %lld or "
            "more",
            (long long)n, (long long)o->tail, (long long)o->tail + 1);
    if (e->n > 0) return RADAR_OK;
    return radar_fail(
        &job->err, RADAR_ERR_DATA,
        "nothing to score: the text has %lld tokens, and --from %lld needs %lld or more",
        (long long)n, (long long)e->first, (long long)e->first + 2);
}

static radar_status open_file(launch_job *job, launch_output **out, const char *path) {
    if (path == NULL) return RADAR_OK;
    *out = radar_alloc(sizeof **out);
    if (*out == NULL) return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for output");
    return launch_output_open(*out, path, &job->err);
}

static radar_status write_row(void *user, double loss, bool hit, const float *logits) {
    ppl_state *e = user;
    launch_job *job = e->c->job;
    const float narrow = (float)loss;
    radar_status st = RADAR_OK;
    (void)hit;
    e->loss[e->taken++] = loss;
    if (e->nll != NULL) st = launch_output_write(e->nll, &narrow, sizeof narrow, &job->err);
    if (e->logits != NULL && st == RADAR_OK)
        st = launch_output_write(e->logits, logits, (size_t)job->info.vocab * sizeof *logits,
                                 &job->err);
    return st;
}

static radar_status open_all(ppl_state *e) {
    launch_job *job = e->c->job;
    if (job->world->rank == 0 && open_file(job, &e->nll, job->opt->nll) == RADAR_OK)
        open_file(job, &e->logits, job->opt->logits);
    e->loss = radar_alloc_array((size_t)e->n, sizeof *e->loss);
    if (e->loss == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld losses", (long long)e->n);
    return launch_agree(job);
}

static radar_status compute(ppl_state *e) {
    eval_context *c = e->c;
    const int32_t *token = c->text.token;
    radar_status st = eval_prefilled(c, token, e->first, (int64_t)c->text.n);
    e->prefill_s = c->prefill_s;
    if (st == RADAR_OK)
        st = launch_score_rows(c->job, token, e->first, e->last + 1, write_row, e, &e->score);
    if (st == RADAR_OK) st = eval_figures_add(c, &e->figures);
    return st == RADAR_OK ? launch_stats(c->job, &e->stats) : st;
}

static void close_file(launch_job *job, launch_output **out) {
    if (*out != NULL) launch_output_close(*out, &job->err);
    radar_free(*out);
    *out = NULL;
}

/* ---- one setting on stdout ---- */

static radar_status print_json(launch_job *job, const ppl_state *e) {
    const double mean = e->score.nll / (double)e->n;
    launch_json j = launch_json_open();
    launch_json_int(&j, "tokens", e->n);
    launch_json_real(&j, "nll", e->score.nll);
    launch_json_real(&j, "nll_mean", mean);
    launch_json_real(&j, "ppl", exp(mean));
    launch_json_set(&j, "positions", json_pack("[I,I]", (json_int_t)e->first, (json_int_t)e->last));
    launch_json_int(&j, "text_tokens", (int64_t)e->c->text.n);
    launch_json_text(&j, "attention", job->opt->attention, strlen(job->opt->attention));
    launch_json_stats(&j, &e->stats);
    launch_json_real(&j, "prefill_s", e->prefill_s);
    launch_json_real(&j, "seconds", e->score.seconds);
    launch_json_real(&j, "tokens_per_s", (double)e->n / e->score.seconds);
    return launch_json_print(job, &j);
}

static radar_status print_line(launch_job *job, const ppl_state *e) {
    const double mean = e->score.nll / (double)e->n;
    launch_progress_clear(&job->progress);
    if (printf("perplexity %.4f (%.5f nats a token over %lld tokens, positions %lld to %lld, %s "
               "attention)\n",
               exp(mean), mean, (long long)e->n, (long long)e->first, (long long)e->last,
               job->opt->attention) < 0 ||
        fflush(stdout) != 0)
        return radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
    return RADAR_OK;
}

static void print_alone(launch_job *job, const ppl_state *e) {
    if ((job->opt->json ? print_json(job, e) : print_line(job, e)) != RADAR_OK) return;
    const double rows = (double)e->n;
    launch_progress_line(
        &job->progress,
        "scored: %.0f tokens, %.2f ms/token, %.1f tok/s, %.0f tokens read a step, coverage %.4f",
        rows, 1000 * e->score.seconds / rows, rows / e->score.seconds,
        e->stats.attended_tokens_mean, e->stats.coverage_mean);
}

/* ---- one setting as a row ---- */

/* [[first, last, mean], ...] of positions in buckets of 256. */
static json_t *by_position(const ppl_state *e) {
    json_t *buckets = json_array();
    for (int64_t first = e->first, last; first <= e->last; first = last + 1) {
        last = radar_min64(first / BUCKET * BUCKET + BUCKET - 1, e->last);
        double mean, se;
        eval_mean(e->loss + (first - e->first), last - first + 1, &mean, &se);
        json_array_append_new(buckets,
                              json_pack("[I,I,f]", (json_int_t)first, (json_int_t)last, mean));
    }
    return buckets;
}

static json_t *losses(const ppl_state *e) {
    json_t *list = json_array();
    for (int64_t i = 0; i < radar_min64(e->n, LOSSES_MOST); i++)
        json_array_append_new(list, json_real(round(1e5 * e->loss[i]) / 1e5));
    return list;
}

static launch_json make_row(const ppl_state *e) {
    const double rows = (double)e->n, seconds = e->score.seconds;
    double mean, se;
    eval_mean(e->loss, e->n, &mean, &se);
    launch_json j = eval_row(e->c, "");
    launch_json_int(&j, "tokens", e->n);
    launch_json_real(&j, "nll_mean", mean);
    launch_json_real(&j, "nll_se", se);
    launch_json_real(&j, "ppl", exp(mean));
    launch_json_int(&j, "first", e->first);
    launch_json_int(&j, "last", e->last);
    eval_row_figures(&j, &e->figures);
    launch_json_real(&j, "prefill_s", e->prefill_s);
    launch_json_real(&j, "prefill_attended_tokens_mean", e->stats.prefill_attended_tokens_mean);
    launch_json_real(&j, "seconds", seconds);
    launch_json_real(&j, "ms_per_token", 1000 * seconds / rows);
    launch_json_real(&j, "rows_per_s", rows / seconds);
    launch_json_set(&j, "by_position", by_position(e));
    launch_json_set(&j, "nll", losses(e));
    return j;
}

static radar_status finish(ppl_state *e) {
    launch_job *job = e->c->job;
    const bool first = job->world->rank == 0;
    if (first) {
        /* Files first: a result is only told when they are whole. */
        close_file(job, &e->nll);
        close_file(job, &e->logits);
    }
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    if (e->c->settings == 1 && job->opt->out == NULL) {
        if (first) print_alone(job, e);
        return launch_agree(job);
    }
    if (!e->wanted) return RADAR_OK;
    launch_json row = first ? make_row(e) : (launch_json){0};
    return eval_emit(e->c, &row);
}

static radar_status run_ppl(eval_context *c) {
    ppl_state e = {.c = c, .wanted = eval_wanted(c, "")};
    const bool files = c->setting.nll != NULL || c->setting.logits != NULL;
    if (!e.wanted && !files) return RADAR_OK;
    radar_status st = choose_positions(&e);
    if (st == RADAR_OK) st = open_all(&e);
    if (st == RADAR_OK) st = compute(&e);
    if (st == RADAR_OK) st = finish(&e);
    close_file(c->job, &e.nll);
    close_file(c->job, &e.logits);
    radar_free(e.loss);
    return st;
}

static const char *const columns[] = {
    "tokens",        "nll_mean",     "nll_se", "ppl", "attended_tokens_mean",
    "coverage_mean", "ms_per_token", NULL};

const eval_kind eval_ppl = {.name = "ppl", .needs_text = true, .run = run_ppl, .columns = columns};
