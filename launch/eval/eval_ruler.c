/* radar eval ruler: retrieval, tracing and counting in a long text: loss of the answer's tokens and what of it is found, by task. */
#include <math.h>
#include <string.h>

#include "launch/eval/ruler.h"
#include "runtime/sys.h"

enum { SAMPLES = 4, STREAM = 69 };

typedef struct ruler_state {
    eval_context *c;
    const ruler_task *task;
    int64_t length;
    int samples, made;
    eval_wrap wrap; /* rank 0 */
    double *nll;    /* [samples] per answer token */
    int64_t tokens, likeliest, references, found;
    eval_figures figures;
    double prefill_s, seconds;
} ruler_state;

static void make_sample(const ruler_state *e, eval_draft *d, int sample) {
    const launch_prompt *whole = &e->c->whole;
    const int task = (int)(e->task - ruler_tasks), skip = whole->token[0] == e->wrap.beginning;
    const int64_t n = (int64_t)whole->n - skip;
    ruler_sample s = {
        .draft = d,
        .wrap = &e->wrap,
        .filler = whole->token + skip,
        .n_filler = n,
        .start = sample * e->length % radar_max64(n, 1),
        .length = e->length,
        .seed = radar_random(e->c->setting.seed, STREAM, (uint64_t)task << 32 | (uint64_t)sample)};
    e->task->make(&s);
}

static radar_status run_sample(ruler_state *e, int sample) {
    eval_context *c = e->c;
    eval_draft d = {.job = c->job};
    eval_task t;
    eval_result r = {0};
    if (c->job->world->rank == 0) make_sample(e, &d, sample);
    radar_status st = eval_task_share(c->job, &t, &d);
    eval_draft_close(&d);
    if (st == RADAR_OK) st = eval_task_prefill(c, &t);
    e->prefill_s += c->prefill_s;
    const double began = radar_clock();
    if (st == RADAR_OK) st = eval_task_ask(c, &t, 0, &r);
    if (st == RADAR_OK) st = eval_figures_add(c, &e->figures);
    e->seconds += radar_clock() - began;
    eval_task_free(&t);
    e->nll[e->made++] = r.nll / (double)radar_max64(r.tokens, 1);
    e->tokens += r.tokens, e->likeliest += r.likeliest;
    e->references += r.references, e->found += r.found;
    return st;
}

static launch_json make_row(const ruler_state *e) {
    double mean, se;
    eval_mean(e->nll, e->made, &mean, &se);
    launch_json j = eval_row(e->c, e->task->name);
    launch_json_text(&j, "task", e->task->name, strlen(e->task->name));
    launch_json_int(&j, "tokens", e->length);
    launch_json_int(&j, "samples", e->made);
    launch_json_int(&j, "references", e->references);
    launch_json_real(&j, "nll_per_token", mean);
    launch_json_real(&j, "nll_se", se);
    launch_json_real(&j, "tokens_exact", (double)e->likeliest / (double)e->tokens);
    launch_json_real(&j, "exact", (double)e->found / (double)e->references);
    eval_row_figures(&j, &e->figures);
    launch_json_real(&j, "prefill_s", e->prefill_s);
    launch_json_real(&j, "seconds", e->seconds);
    return j;
}

static radar_status run_task(ruler_state *e) {
    eval_context *c = e->c;
    if (!eval_wanted(c, e->task->name)) return RADAR_OK;
    radar_status st = RADAR_OK;
    e->made = 0;
    e->tokens = e->likeliest = e->references = e->found = 0;
    e->figures = (eval_figures){0};
    e->prefill_s = e->seconds = 0;
    for (int i = 0; i < e->samples && st == RADAR_OK; i++) {
        st = run_sample(e, i);
        launch_progress_show(&c->job->progress, e->task->name, i + 1, e->samples);
    }
    if (st != RADAR_OK) return st;
    launch_json row = c->job->world->rank == 0 ? make_row(e) : (launch_json){0};
    return eval_emit(c, &row);
}

static radar_status open_all(ruler_state *e) {
    eval_context *c = e->c;
    const launch_options *o = &c->setting;
    e->length = o->length != LAUNCH_UNSET ? o->length
                                          : radar_min64((int64_t)c->whole.n, c->job->info.context);
    e->samples = o->questions != LAUNCH_UNSET ? (int)o->questions : SAMPLES;
    e->nll = radar_alloc_array((size_t)e->samples, sizeof *e->nll);
    if (e->nll == NULL)
        radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for %d samples", e->samples);
    if (c->job->world->rank == 0 && c->job->err.status == RADAR_OK)
        eval_wrap_open(c->job, &e->wrap);
    return launch_agree(c->job);
}

static radar_status run_ruler(eval_context *c) {
    ruler_state e = {.c = c};
    radar_status st = open_all(&e);
    for (int i = 0; i < RULER_TASKS && st == RADAR_OK; i++) {
        e.task = &ruler_tasks[i];
        st = run_task(&e);
    }
    eval_wrap_close(&e.wrap);
    radar_free(e.nll);
    return st;
}

static int64_t parts(const eval_context *c) {
    (void)c;
    return RULER_TASKS;
}

static const char *const columns[] = {"task",         "samples", "nll_per_token",        "nll_se",
                                      "tokens_exact", "exact",   "attended_tokens_mean", NULL};

const eval_kind eval_ruler = {.name = "ruler",
                              .needs_text = true,
                              .makes_text = true,
                              .run = run_ruler,
                              .parts = parts,
                              .columns = columns};
