/* radar run: continue a prompt. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch/input.h"
#include "launch/json_out.h"
#include "launch/launch.h"
#include "launch/output.h"
#include "launch/phases.h"
#include "launch/text.h"
#include "runtime/sys.h"

typedef struct run_state {
    launch_prompt prompt;
    launch_text text;
    launch_output *out, *logits; /* rank 0; logits NULL: not asked for */
    int32_t *token;              /* [made] */
    int64_t limit, made;         /* tokens to make at most, made so far */
    bool ended;                  /* by an end-of-text token */
    double start_s, prefill_s, decode_s, decode_exchange_s;
    launch_phases phases; /* of the decode steps; n 0: not asked for */
} run_state;

static radar_status open_output(launch_job *job, launch_output **out, const char *path) {
    *out = radar_alloc(sizeof **out);
    if (*out == NULL) return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for output");
    (*out)->fd = -1;
    return launch_output_open(*out, path, &job->err);
}

/* Everything that can be refused is refused here, before anything slow. */
static radar_status open_all(launch_job *job, run_state *r) {
    const int64_t n = job->opt->n;
    int64_t context = 0;
    radar_status st = launch_prompt_open(job, &r->prompt);
    if (st != RADAR_OK) return st;
    const int64_t prompt = (int64_t)r->prompt.n;
    /* "until the context is full" needs all of it */
    st = launch_context(job, prompt, n >= 0 ? n : radar_max64(job->info.context - prompt, 1),
                        &context);
    if (st != RADAR_OK) return st;
    r->limit = n >= 0 ? radar_min64(n, context - prompt) : context - prompt;
    r->token = radar_alloc_array((size_t)r->limit + 1, sizeof *r->token);
    if (r->token == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld tokens", (long long)r->limit);
    if (job->world->rank == 0) {
        open_output(job, &r->out, NULL);
        if (job->opt->logits != NULL) open_output(job, &r->logits, job->opt->logits);
        launch_text_open(job, &r->text, job->opt->chat ? -1 : r->prompt.token[r->prompt.n - 1]);
    }
    st = launch_agree(job);
    return st == RADAR_OK ? launch_open_session(job, context) : st;
}

static radar_status prefill(launch_job *job, run_state *r) {
    const double began = radar_clock();
    r->start_s = began - job->world->started;
    const radar_status st = radar_prefill(job->session, r->prompt.token, r->prompt.n);
    r->prefill_s = radar_clock() - began;
    return st == RADAR_OK ? st : launch_library_failed(job, st);
}

static radar_status show_text(launch_job *job, run_state *r, size_t fresh) {
    if (job->opt->json || fresh == 0) return RADAR_OK;
    launch_progress_clear(&job->progress);
    const radar_status st =
        launch_output_write(r->out, r->text.data + r->text.used - fresh, fresh, &job->err);
    return st == RADAR_OK ? launch_output_flush(r->out, &job->err) : st;
}

/* What rank 0 does with a token.  Its troubles stop all ranks at the next step. */
static void emit(launch_job *job, run_state *r, int32_t token) {
    size_t fresh = 0;
    radar_status st = launch_text_push(job, &r->text, token, &fresh);
    if (st == RADAR_OK) st = show_text(job, r, fresh);
    if (st == RADAR_OK && r->logits != NULL)
        st = launch_output_write(r->logits, radar_logits(job->session),
                                 (size_t)job->info.vocab * sizeof(float), &job->err);
    if (st != RADAR_OK) job->stop = true;
    /* Where the text scrolls by on the same screen it is its own progress. */
    if (job->opt->json || !isatty(STDOUT_FILENO))
        launch_progress_show(&job->progress, "decode", r->made, r->limit);
}

static radar_status decode(launch_job *job, run_state *r) {
    radar_session_stats before, after;
    radar_status st = launch_stats(job, &before);
    if (st != RADAR_OK) return st;
    if (job->opt->profile_steps) radar_profile_reset(job->engine);
    const double began = radar_clock();
    while (r->made < r->limit && !r->ended) {
        int32_t token = 0;
        st = radar_step(job->session, &token);
        if (st != RADAR_OK) return launch_library_failed(job, st);
        r->token[r->made++] = token;
        if (job->world->rank == 0) emit(job, r, token);
        r->ended = !job->opt->ignore_eos && radar_is_eos(job->engine, token);
    }
    r->decode_s = radar_clock() - began;
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    if (job->opt->profile_steps) r->phases = launch_phases_read(job);
    st = launch_stats(job, &after);
    r->decode_exchange_s = after.exchange_s - before.exchange_s;
    return st;
}

/* The first token is drawn from prefill's logits: n tokens took n - 1 passes. */
static double tokens_per_second(const run_state *r) {
    return r->made > 1 ? (double)(r->made - 1) / r->decode_s : 0;
}

static radar_status print_json(launch_job *job, const run_state *r,
                               const radar_session_stats *stats) {
    launch_json j = launch_json_open();
    launch_json_ids(&j, "tokens", r->token, (size_t)r->made);
    launch_json_text(&j, "text", r->text.data, r->text.used);
    launch_json_int(&j, "prompt_tokens", (int64_t)r->prompt.n);
    launch_json_text(&j, "finish", r->ended ? "stop" : "length", r->ended ? 4 : 6);
    launch_json_real(&j, "prefill_s", r->prefill_s);
    launch_json_real(&j, "decode_s", r->decode_s);
    launch_json_real(&j, "decode_tokens_per_s", tokens_per_second(r));
    launch_json_stats(&j, stats);
    launch_json_real(&j, "decode_exchange_s", r->decode_exchange_s);
    launch_json_real(&j, "start_s", r->start_s);
    if (job->opt->profile_steps) launch_json_phases(&j, &r->phases);
    return launch_json_print(job, &j);
}

static void report_end(launch_job *job, const run_state *r, const radar_session_stats *stats) {
    const double rate = tokens_per_second(r), tokens = (double)r->prompt.n,
                 attended = stats->prefill_attended_tokens_mean;
    launch_progress_line(&job->progress, "prefill: %zu tokens, %.2f s, %.1f tok/s", r->prompt.n,
                         r->prefill_s, tokens / r->prefill_s);
    if (strcmp(job->opt->prefill, "dense") != 0)
        launch_progress_line(&job->progress,
                             "prefill %s: %.0f tokens read a query, %.1f %% of a dense prefill's",
                             job->opt->prefill, attended, 200 * attended / (tokens + 1));
    if (rate > 0)
        launch_progress_line(
            &job->progress,
            "decode: %lld tokens, %.2f ms/token, %.1f tok/s, %.1f %% of the time in exchanges",
            (long long)r->made, 1000.0 / rate, rate, 100.0 * r->decode_exchange_s / r->decode_s);
    else
        launch_progress_line(&job->progress, "decode: %lld tokens", (long long)r->made);
    launch_phases_print(job, &r->phases);
}

/* [rank 0] The last bytes out. */
static void finish(launch_job *job, run_state *r, const radar_session_stats *stats) {
    size_t fresh = 0;
    if (launch_text_end(job, &r->text, &fresh) == RADAR_OK) show_text(job, r, fresh);
    if (!job->opt->json && r->text.used > 0 && r->text.data[r->text.used - 1] != '\n' &&
        isatty(STDOUT_FILENO))
        launch_output_write(r->out, "\n", 1, &job->err);
    if (r->logits != NULL) launch_output_close(r->logits, &job->err);
    if (job->err.status == RADAR_OK && job->opt->json) print_json(job, r, stats);
    launch_output_close(r->out, &job->err);
    if (job->err.status == RADAR_OK) report_end(job, r, stats);
}

radar_status launch_run(launch_job *job) {
    run_state r = {0};
    radar_session_stats stats;
    radar_status st;
    RADAR_TRY(st, open_all(job, &r), done);
    RADAR_TRY(st, prefill(job, &r), done);
    RADAR_TRY(st, decode(job, &r), done);
    RADAR_TRY(st, launch_stats(job, &stats), done);
    if (job->world->rank == 0) finish(job, &r, &stats);
done:
    if (r.logits != NULL) launch_output_close(r.logits, &job->err);
    radar_free(r.logits);
    radar_free(r.out);
    radar_free(r.token);
    launch_text_close(&r.text);
    launch_prompt_free(&r.prompt);
    return job->err.status;
}
