/* radar eval ppl: the loss of every token of a text under an attention policy. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/input.h"
#include "launch/json_out.h"
#include "launch/launch.h"
#include "launch/output.h"
#include "launch/score.h"
#include "runtime/sys.h"

typedef struct eval_state {
    launch_job *job;
    launch_prompt text;
    int64_t first, last;         /* scored positions */
    launch_output *nll, *logits; /* rank 0; NULL: not asked for */
    double prefill_s;
    launch_score score;
    radar_session_stats stats;
} eval_state;

/* The rows: position i holds token i, and its logits are judged by token i + 1. */
static radar_status choose_positions(launch_job *job, eval_state *e) {
    const int64_t n = (int64_t)e->text.n, from = job->opt->from;
    e->first = from != LAUNCH_UNSET ? from : strcmp(job->opt->attention, "dense") == 0 ? 0 : 2048;
    e->last = n - 2;
    if (e->first <= e->last) return RADAR_OK;
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

static radar_status open_all(launch_job *job, eval_state *e) {
    int64_t context = 0;
    radar_status st = launch_prompt_open(job, &e->text);
    if (st == RADAR_OK) st = choose_positions(job, e);
    if (st == RADAR_OK) st = launch_context(job, (int64_t)e->text.n, 0, &context);
    if (st != RADAR_OK) return st;
    if (job->world->rank == 0 && open_file(job, &e->nll, job->opt->nll) == RADAR_OK)
        open_file(job, &e->logits, job->opt->logits);
    st = launch_agree(job);
    return st == RADAR_OK ? launch_open_session(job, context) : st;
}

static radar_status write_row(void *user, double loss, const float *logits) {
    eval_state *e = user;
    radar_error *err = &e->job->err;
    const float narrow = (float)loss;
    radar_status st = RADAR_OK;
    if (e->nll != NULL) st = launch_output_write(e->nll, &narrow, sizeof narrow, err);
    if (e->logits != NULL && st == RADAR_OK)
        st = launch_output_write(e->logits, logits, (size_t)e->job->info.vocab * sizeof *logits,
                                 err);
    return st;
}

static radar_status compute(launch_job *job, eval_state *e) {
    const double began = radar_clock();
    radar_status st =
        e->first > 0 ? radar_prefill(job->session, e->text.token, (size_t)e->first) : RADAR_OK;
    e->prefill_s = radar_clock() - began;
    if (st != RADAR_OK) return launch_library_failed(job, st);
    st = launch_score_rows(job, e->text.token, e->first, e->last + 1, write_row, e, &e->score);
    return st == RADAR_OK ? launch_stats(job, &e->stats) : st;
}

static void close_file(launch_job *job, launch_output **out) {
    if (*out != NULL) launch_output_close(*out, &job->err);
    radar_free(*out);
    *out = NULL;
}

static radar_status print_json(launch_job *job, const eval_state *e) {
    const int64_t rows = e->last - e->first + 1;
    const double mean = e->score.nll / (double)rows;
    launch_json j = launch_json_open();
    launch_json_int(&j, "tokens", rows);
    launch_json_real(&j, "nll", e->score.nll);
    launch_json_real(&j, "nll_mean", mean);
    launch_json_real(&j, "ppl", exp(mean));
    launch_json_set(&j, "positions", json_pack("[I,I]", (json_int_t)e->first, (json_int_t)e->last));
    launch_json_int(&j, "text_tokens", (int64_t)e->text.n);
    launch_json_text(&j, "attention", job->opt->attention, strlen(job->opt->attention));
    launch_json_stats(&j, &e->stats);
    launch_json_real(&j, "prefill_s", e->prefill_s);
    launch_json_real(&j, "seconds", e->score.seconds);
    launch_json_real(&j, "tokens_per_s", (double)rows / e->score.seconds);
    return launch_json_print(job, &j);
}

static radar_status print_line(launch_job *job, const eval_state *e) {
    const int64_t rows = e->last - e->first + 1;
    const double mean = e->score.nll / (double)rows;
    launch_report_clear(&job->report);
    if (printf("perplexity %.4f (%.5f nats a token over %lld tokens, positions %lld to %lld, %s "
               "attention)\n",
               exp(mean), mean, (long long)rows, (long long)e->first, (long long)e->last,
               job->opt->attention) < 0 ||
        fflush(stdout) != 0)
        return radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
    return RADAR_OK;
}

/* [rank 0] Files first: a result is only told when they are whole. */
static void finish(launch_job *job, eval_state *e) {
    close_file(job, &e->nll);
    close_file(job, &e->logits);
    if (job->err.status != RADAR_OK) return;
    if ((job->opt->json ? print_json(job, e) : print_line(job, e)) != RADAR_OK) return;
    const double rows = (double)(e->last - e->first + 1);
    launch_report_line(
        &job->report,
        "scored: %.0f tokens, %.2f ms/token, %.1f tok/s, %.0f tokens read a step, coverage %.4f",
        rows, 1000 * e->score.seconds / rows, rows / e->score.seconds,
        e->stats.attended_tokens_mean, e->stats.coverage_mean);
}

radar_status launch_eval(launch_job *job) {
    eval_state e = {.job = job};
    radar_status st = open_all(job, &e);
    if (st == RADAR_OK) st = compute(job, &e);
    if (st == RADAR_OK && job->world->rank == 0) finish(job, &e);
    close_file(job, &e.nll);
    close_file(job, &e.logits);
    launch_prompt_free(&e.text);
    return job->err.status;
}
