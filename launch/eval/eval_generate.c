/* radar eval generate: a text made from nothing under the present attention: how much it repeats itself, and what dense attention
 * thinks of it. */
#include <math.h>
#include <string.h>

#include "launch/eval/eval.h"
#include "launch/eval/ngram.h"
#include "runtime/sys.h"

typedef struct generate_state {
    eval_context *c;
    int64_t n;
    int32_t *token; /* [1 + n]: the beginning, then what was made */
    double *loss;   /* [n] under dense attention; rank 0 */
    double seconds;
    eval_figures figures;
} generate_state;

/* What the model begins a text with; its first token where it has nothing for that. */
static int32_t beginning(launch_job *job) {
    int32_t *with = NULL, *without = NULL, first = 0;
    size_t n_with = 0, n_without = 0;
    if (job->info.tokenizer == NULL) return 0;
    if (radar_tokenize(job->engine, "a", 1, RADAR_TEXT_BOS, &with, &n_with) == RADAR_OK &&
        radar_tokenize(job->engine, "a", 1, 0, &without, &n_without) == RADAR_OK &&
        n_with > n_without)
        first = with[0];
    radar_release(with);
    radar_release(without);
    return first;
}

static radar_status open_all(generate_state *e) {
    launch_job *job = e->c->job;
    const int64_t asked = job->opt->context;
    e->n = job->opt->n;
    if (e->n < 0) e->n = (asked > 0 ? asked : job->info.context) - 1; /* one begins the text */
    if (e->n < 4)
        return radar_fail(&job->err, RADAR_ERR_USAGE, "-n %lld: make at least 4 tokens",
                          (long long)e->n);
    e->token = radar_alloc_array((size_t)e->n + 1, sizeof *e->token);
    e->loss = radar_alloc_array((size_t)e->n, sizeof *e->loss);
    if (e->token == NULL || e->loss == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld tokens", (long long)e->n);
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    if (job->world->rank == 0) e->token[0] = beginning(job);
    job->world->broadcast(job->world, e->token, sizeof *e->token);
    return RADAR_OK;
}

static radar_status generate(generate_state *e) {
    launch_job *job = e->c->job;
    const radar_status st = eval_prefilled(e->c, e->token, 1, e->n + 1);
    if (st != RADAR_OK) return st;
    const double began = radar_clock();
    for (int64_t i = 1; i <= e->n; i++) {
        const radar_status step = radar_step(job->session, &e->token[i]);
        if (step != RADAR_OK) return launch_library_failed(job, step);
        launch_progress_show(&job->progress, "generate", i, e->n);
    }
    e->seconds = radar_clock() - began;
    return eval_figures_add(e->c, &e->figures);
}

/* All of it again, in one go, as dense attention would have it. */
static radar_status judge(generate_state *e) {
    launch_job *job = e->c->job;
    radar_status st = eval_back(e->c, 0);
    eval_forget(e->c);
    if (st != RADAR_OK) return st;
    st = radar_session_set_attention(job->session, "dense");
    if (st != RADAR_OK) return launch_library_failed(job, st);
    return eval_losses(e->c, e->token, 0, e->n, e->loss, NULL, NULL);
}

static json_t *ids(const generate_state *e) {
    json_t *list = json_array();
    for (int64_t i = 1; i <= e->n; i++) json_array_append_new(list, json_integer(e->token[i]));
    return list;
}

static launch_json make_row(const generate_state *e) {
    const int32_t *made = e->token + 1;
    double mean, se;
    eval_mean(e->loss, e->n, &mean, &se);
    launch_json j = eval_row(e->c, "");
    launch_json_int(&j, "tokens", e->n);
    launch_json_real(&j, "temperature", e->c->setting.temperature);
    for (int n = 1; n <= 4; n++) {
        char key[16];
        snprintf(key, sizeof key, "distinct_%d", n);
        launch_json_real(&j, key, ngram_distinct(made, e->n, n));
    }
    launch_json_real(&j, "repetition", ngram_repeated(made, e->n, 4));
    launch_json_int(&j, "longest_repeat", ngram_longest_repeat(made, e->n));
    launch_json_real(&j, "nll_dense", mean);
    launch_json_real(&j, "nll_se", se);
    launch_json_real(&j, "ppl_dense", exp(mean));
    eval_row_figures(&j, &e->figures);
    launch_json_real(&j, "seconds", e->seconds);
    launch_json_real(&j, "ms_per_token", 1000 * e->seconds / (double)e->n);
    launch_json_set(&j, "ids", ids(e));
    return j;
}

static radar_status run_generate(eval_context *c) {
    generate_state e = {.c = c};
    if (!eval_wanted(c, "")) return RADAR_OK;
    radar_status st = open_all(&e);
    if (st == RADAR_OK) st = generate(&e);
    if (st == RADAR_OK) st = judge(&e);
    if (st == RADAR_OK) {
        launch_json row = c->job->world->rank == 0 ? make_row(&e) : (launch_json){0};
        st = eval_emit(c, &row);
    }
    radar_free(e.token);
    radar_free(e.loss);
    return st;
}

static const char *const columns[] = {"tokens",         "distinct_1", "distinct_4",   "repetition",
                                      "longest_repeat", "nll_dense",  "ms_per_token", NULL};

const eval_kind eval_generate = {.name = "generate", .run = run_generate, .columns = columns};
