/* radar eval advise: the cheapest setting of Radar whose loss on a text stays within a share of dense attention's, and that misses no
 * fact dense attention finds.
 *
 * Cheapest is in bytes read per step, which is what a step costs where the cache is long.  Of each kind of summary the smallest
 * budget that keeps the loss is found by halving a ladder of budgets (loss falls with the budget), then facts decide: the budget
 * goes up until none is missed, or another kind has been cheaper.  Every other option (--window, --share, ...) is as typed, in the
 * search and in the advice.  The whole search is made again where rows of it are there; they are not written twice. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval/eval.h"
#include "launch/eval/needle.h"
#include "launch/output.h"
#include "runtime/sys.h"

enum { TAIL = 256, QUESTIONS = 10 };

static const int64_t ladder[] = {128, 192, 256, 352, 512, 704, 1024, 1536, 2048, 3072, 4096};
enum { RUNGS = sizeof ladder / sizeof ladder[0] };

/* From the cheapest summary to the dearest. */
static const struct {
    const char *name, *scorer;
    int64_t sketch_bits, segment;
} family[] = {
    {"mean, segments of 32", "mean", 2, 32}, {"mean", "mean", 2, 16},
    {"sketch, 1 bit", "sketch", 1, 16},      {"sketch, 2 bits", "sketch", 2, 16},
    {"sketch, 4 bits", "sketch", 4, 16},
};
enum { FAMILIES = sizeof family / sizeof family[0] };

/* What one setting gave; the same on every rank. */
typedef struct advise_try {
    double above,
        se; /* loss above dense, nats a token, and the standard error of the paired differences */
    double bytes, tokens;  /* read per step */
    int64_t missed;        /* facts dense finds and this does not; -1: not asked */
    int32_t within, valid; /* within: above + se is not more than what was allowed */
} advise_try;

typedef struct advise_state {
    eval_context *c;
    int64_t first, n;    /* scored positions [first, first + n) */
    double *dense, *own; /* [n] losses; rank 0 */
    double dense_mean, allowed, dense_bytes;
    bool found[QUESTIONS]; /* by dense attention; rank 0 */
    int64_t found_all;     /* how many those are */
    advise_try best;
    int best_family, best_rung; /* -1: none */
    launch_options base;
} advise_state;

static void apply(advise_state *a, int f, int rung) {
    launch_options *o = &a->c->setting;
    *o = a->base;
    o->attention = "radar";
    o->scorer = family[f].scorer;
    o->sketch_bits = family[f].sketch_bits;
    o->segment = family[f].segment;
    o->budget = ladder[rung];
    o->segments = LAUNCH_UNSET;
}

/* ---- measuring ---- */

static radar_status losses(advise_state *a, double *loss, eval_figures *figures) {
    eval_context *c = a->c;
    *figures = (eval_figures){0};
    radar_status st = eval_prefilled(c, c->text.token, a->first, (int64_t)c->text.n);
    if (st == RADAR_OK)
        st = eval_losses(c, c->text.token, a->first, a->first + a->n, loss, NULL, NULL);
    return st == RADAR_OK ? eval_figures_add(c, figures) : st;
}

static eval_facts facts_of(const eval_context *c) {
    return (eval_facts){.length = (int64_t)c->text.n, .depths = QUESTIONS, .questions = QUESTIONS};
}

static radar_status measure_dense(advise_state *a) {
    eval_context *c = a->c;
    eval_figures figures;
    double se;
    c->setting = a->base;
    c->setting.attention = "dense";
    radar_status st = losses(a, a->dense, &figures);
    if (st != RADAR_OK) return st;
    if (c->job->world->rank == 0) {
        eval_mean(a->dense, a->n, &a->dense_mean, &se);
        a->allowed = c->setting.within / 100 * a->dense_mean;
    }
    a->dense_bytes = figures.bytes;
    eval_facts f = facts_of(c);
    st = eval_facts_ask(c, &f);
    for (int i = 0; st == RADAR_OK && i < f.asked; i++) {
        a->found[i] = f.fact[i].exact;
        a->found_all += a->found[i];
    }
    eval_facts_free(&f);
    return st;
}

/* Rank 0 has the losses and judges; all ranks go on with its verdict. */
static radar_status measure(advise_state *a, int f, int rung, advise_try *t) {
    eval_context *c = a->c;
    eval_figures figures;
    apply(a, f, rung);
    const radar_status st = losses(a, a->own, &figures);
    if (st != RADAR_OK) return st;
    *t = (advise_try){
        .bytes = figures.bytes, .tokens = figures.attended, .missed = -1, .valid = true};
    if (c->job->world->rank == 0) {
        for (int64_t i = 0; i < a->n; i++) a->own[i] -= a->dense[i];
        eval_mean(a->own, a->n, &t->above, &t->se);
        t->within = t->above + t->se <= a->allowed;
    }
    c->job->world->broadcast(c->job->world, t, sizeof *t);
    return RADAR_OK;
}

static radar_status ask(advise_state *a, int f, int rung, advise_try *t) {
    eval_context *c = a->c;
    apply(a, f, rung);
    eval_facts facts = facts_of(c);
    const radar_status st = eval_facts_ask(c, &facts);
    t->missed = 0;
    for (int i = 0; st == RADAR_OK && i < facts.asked; i++)
        t->missed += a->found[i] && !facts.fact[i].exact;
    eval_facts_free(&facts);
    if (st == RADAR_OK) c->job->world->broadcast(c->job->world, t, sizeof *t);
    return st;
}

/* ---- rows ---- */

static void describe(char *part, size_t room, int f, int rung) {
    snprintf(part, room, "%s, budget %lld", family[f].name, (long long)ladder[rung]);
}

static radar_status emit(advise_state *a, int f, int rung, const advise_try *t) {
    eval_context *c = a->c;
    char part[96];
    describe(part, sizeof part, f, rung);
    apply(a, f, rung);
    if (!eval_wanted(c, part)) return RADAR_OK;
    launch_json row = {0};
    if (c->job->world->rank == 0) {
        row = eval_row(c, part);
        launch_json_real(&row, "above_dense", t->above);
        launch_json_real(&row, "above_se", t->se);
        launch_json_real(&row, "allowed", a->allowed);
        launch_json_real(&row, "bytes_per_step", t->bytes);
        launch_json_real(&row, "attended_tokens_mean", t->tokens);
        launch_json_set(&row, "missed", t->missed < 0 ? json_null() : json_integer(t->missed));
        launch_json_set(&row, "within", json_boolean(t->within));
    }
    return eval_emit(c, &row);
}

/* ---- the search ---- */

/* The lowest rung that keeps the loss, RUNGS: none.  tried [RUNGS] keeps what was measured on the way. */
static radar_status lowest_rung(advise_state *a, int f, int rungs, advise_try *tried, int *rung) {
    int low = 0, high = rungs;
    while (low < high) {
        const int mid = (low + high) / 2;
        const radar_status st = measure(a, f, mid, &tried[mid]);
        if (st != RADAR_OK) return st;
        if (tried[mid].within)
            high = mid;
        else
            low = mid + 1;
    }
    *rung = low;
    return RADAR_OK;
}

/* From that rung up until no fact is missed, while it is cheaper than the best. */
static radar_status climb(advise_state *a, int f, int rung, int rungs, advise_try *tried) {
    radar_status st = RADAR_OK;
    for (; rung < rungs; rung++) {
        advise_try *t = &tried[rung];
        if (!t->valid) st = measure(a, f, rung, t);
        if (st != RADAR_OK || (a->best.valid && t->bytes >= a->best.bytes)) return st;
        if (!t->within) continue;
        if ((st = ask(a, f, rung, t)) != RADAR_OK) return st;
        if (t->missed > 0) continue;
        a->best = *t;
        a->best_family = f;
        a->best_rung = rung;
        return RADAR_OK;
    }
    return st;
}

static radar_status search(advise_state *a) {
    radar_status st = RADAR_OK;
    int rungs = 0;
    while (rungs < RUNGS && 2 * ladder[rungs] < a->first) rungs++;
    for (int f = 0; f < FAMILIES && st == RADAR_OK; f++) {
        advise_try tried[RUNGS] = {{0}};
        int rung = 0;
        st = lowest_rung(a, f, rungs, tried, &rung);
        if (st == RADAR_OK) st = climb(a, f, rung, rungs, tried);
        for (int i = 0; i < rungs && st == RADAR_OK; i++)
            if (tried[i].valid) st = emit(a, f, i, &tried[i]);
        launch_progress_show(&a->c->job->progress, "advise", f + 1, FAMILIES);
    }
    return st;
}

/* ---- what it comes to ---- */

/* As a profile holds it; NULL: "". */
static json_t *value_of(const launch_option_row *row, const char *text) {
    if (text[0] == 0) return NULL;
    if (row->kind == LAUNCH_SWITCH) return json_true();
    if (row->kind == LAUNCH_REAL) return json_real(strtod(text, NULL));
    if (row->kind == LAUNCH_CHOICE || strcmp(text, "auto") == 0) return json_string(text);
    return json_integer((json_int_t)strtoll(text, NULL, 10));
}

/* Options that say how to attend and compute, here as in every other command; where and how fast is not measured. */
static bool says_how(const launch_option_row *row) {
    return row->kind != LAUNCH_TEXT && (row->in & LAUNCH_ADVISE) && (row->in & LAUNCH_GENERATE) &&
           (row->in & LAUNCH_RUN) && !(row->in & LAUNCH_PLACE);
}

/* What was measured: what the search chose, and beside it what was typed or came from a preset or a profile. */
static json_t *options_of(const advise_state *a) {
    static const char *const always[] = {"attention", "scorer", "budget", "sketch-bits"};
    const launch_options *o = &a->c->setting;
    launch_options defaults = *o;
    json_t *options = json_object();
    for (size_t i = 0; i < launch_command_count; i++)
        if (launch_command_table[i].scope == o->scope)
            launch_options_default(&defaults, &launch_command_table[i]);
    for (size_t i = 0; i < launch_option_count; i++) {
        const launch_option_row *row = &launch_option_table[i];
        char text[64], standard[64];
        if (!says_how(row) || !eval_uses(o, row->name)) continue;
        launch_option_text(o, row, text, sizeof text);
        launch_option_text(&defaults, row, standard, sizeof standard);
        bool told = strcmp(text, standard) != 0;
        for (size_t k = 0; k < sizeof always / sizeof always[0]; k++)
            told = told || strcmp(row->name, always[k]) == 0;
        json_t *value = told ? value_of(row, text) : NULL;
        if (value != NULL) json_object_set_new(options, row->name, value);
    }
    return options;
}

/* "--scorer sketch --budget 352" as it would be typed. */
static void paste(char *text, size_t room, json_t *options) {
    const char *name;
    json_t *value;
    size_t used = 0;
    text[0] = 0;
    json_object_foreach(options, name, value) {
        if (used >= room) return;
        char word[64] = "";
        if (json_is_string(value)) snprintf(word, sizeof word, " %s", json_string_value(value));
        if (json_is_real(value)) snprintf(word, sizeof word, " %.9g", json_real_value(value));
        if (json_is_integer(value))
            snprintf(word, sizeof word, " %lld", (long long)json_integer_value(value));
        used += (size_t)snprintf(text + used, room - used, "%s--%s%s", used ? " " : "", name, word);
    }
}

/* In the object of --json. */
static void note_advice(const advise_state *a, const char *text, json_t *options) {
    const advise_try *t = &a->best;
    json_t *advice = json_object();
    json_object_set_new(advice, "paste", json_string(text));
    json_object_set(advice, "options", options);
    json_object_set_new(advice, "above_dense", json_real(t->above));
    json_object_set_new(advice, "above_se", json_real(t->se));
    json_object_set_new(advice, "allowed", json_real(a->allowed));
    json_object_set_new(advice, "bytes_per_step", json_real(t->bytes));
    json_object_set_new(advice, "bytes_per_step_dense", json_real(a->dense_bytes));
    json_object_set_new(advice, "facts", json_integer(a->found_all));
    json_object_set_new(advice, "missed", json_integer(t->missed));
    eval_note(a->c, "advice", advice);
}

static radar_status write_profile(const advise_state *a, const char *path, json_t *options) {
    launch_job *job = a->c->job;
    char hex[24];
    snprintf(hex, sizeof hex, "%016" PRIx64, job->info.fingerprint);
    json_t *profile =
        json_pack("{s:s, s:o, s:o, s:O}", "fingerprint", hex, "model",
                  launch_json_string(job->info.name, strlen(job->info.name)), "text",
                  launch_json_string(a->c->text_name, strlen(a->c->text_name)), "options", options);
    char *text = profile != NULL ? json_dumps(profile, JSON_INDENT(2)) : NULL;
    launch_output *out = radar_alloc(sizeof *out);
    if (text == NULL || out == NULL) {
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the profile");
    } else if (launch_output_open(out, path, &job->err) == RADAR_OK) {
        launch_output_write(out, text, strlen(text), &job->err);
        launch_output_write(out, "\n", 1, &job->err);
        launch_output_close(out, &job->err);
    }
    json_decref(profile);
    free(text);
    radar_free(out);
    return job->err.status;
}

static radar_status print_advice(const advise_state *a, const char *text) {
    launch_job *job = a->c->job;
    const advise_try *t = &a->best;
    launch_progress_clear(&job->progress);
    if (printf("%s\n", text) < 0 || fflush(stdout) != 0)
        return radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
    launch_progress_line(
        &job->progress,
        "loss %.4f +- %.4f above dense's %.4f (allowed %.4f), %lld of %lld facts that "
        "dense finds missed, %.1f MB read per step for dense's %.1f",
        t->above, t->se, a->dense_mean, a->allowed, (long long)t->missed, (long long)a->found_all,
        1e-6 * t->bytes, 1e-6 * a->dense_bytes);
    return RADAR_OK;
}

/* [rank 0] */
static radar_status conclude(advise_state *a) {
    launch_job *job = a->c->job;
    char text[1024];
    if (!a->best.valid)
        return radar_fail(&job->err, RADAR_ERR_REQUEST,
                          "no setting keeps the loss within %g %% of dense attention's %.4f and "
                          "every fact: allow more with --within, or use --attention dense",
                          a->base.within, a->dense_mean);
    apply(a, a->best_family, a->best_rung);
    json_t *options = options_of(a);
    paste(text, sizeof text, options);
    radar_status st = a->base.output != NULL ? write_profile(a, a->base.output, options) : RADAR_OK;
    if (st == RADAR_OK && a->base.json)
        note_advice(a, text, options);
    else if (st == RADAR_OK)
        st = print_advice(a, text);
    json_decref(options);
    return st;
}

/* ---- the kind ---- */

static radar_status open_all(advise_state *a) {
    launch_job *job = a->c->job;
    const int64_t tail = a->base.tail != LAUNCH_UNSET ? a->base.tail : TAIL;
    a->n = tail;
    a->first = (int64_t)a->c->text.n - 1 - tail;
    if (a->first < 2 * ladder[0] + 1)
        return radar_fail(&job->err, RADAR_ERR_DATA,
                          "the text has %zu tokens: advise wants a context where choosing pays; "
                          "give a text of thousands",
                          a->c->text.n);
    a->dense = radar_alloc_array((size_t)a->n, sizeof *a->dense);
    a->own = radar_alloc_array((size_t)a->n, sizeof *a->own);
    if (a->dense == NULL || a->own == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %lld losses", (long long)a->n);
    return launch_agree(job);
}

static radar_status run_advise(eval_context *c) {
    const int64_t part = c->done, made = c->made; /* its rows are one part of the sweep */
    advise_state a = {.c = c, .base = c->setting};
    radar_status st = open_all(&a);
    if (st == RADAR_OK) st = measure_dense(&a);
    if (st == RADAR_OK) st = search(&a);
    if (st == RADAR_OK && c->job->world->rank == 0) conclude(&a);
    if (st == RADAR_OK) st = launch_agree(c->job);
    c->setting = a.base;
    c->done = part + 1, c->made = made + 1;
    radar_free(a.dense);
    radar_free(a.own);
    return st;
}

static const char *const columns[] = {
    "above_dense", "above_se", "missed", "bytes_per_step", "attended_tokens_mean", NULL};

const eval_kind eval_advise = {
    .name = "advise", .needs_text = true, .run = run_advise, .columns = columns};
