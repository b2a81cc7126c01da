/* radar eval needle: facts hidden in a text at equal distances, asked for one by one: loss of the answer's digits by depth and length. */
#include "launch/eval/needle.h"
#include "runtime/sys.h"

static json_t *grid_of(const eval_facts *f) {
    json_t *grid = json_array();
    for (int i = 0; i < f->asked; i++)
        json_array_append_new(
            grid, json_pack("[f,f,i]", f->fact[i].depth, f->fact[i].nll, (int)f->fact[i].exact));
    return grid;
}

static radar_status make_row(const eval_context *c, const eval_facts *f, launch_json *row) {
    double mean, se, *nll = radar_alloc_array((size_t)f->asked, sizeof *nll);
    int exact = 0;
    if (nll == NULL)
        return radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for %d answers", f->asked);
    for (int i = 0; i < f->asked; i++) {
        nll[i] = f->fact[i].nll;
        exact += f->fact[i].exact;
    }
    eval_mean(nll, f->asked, &mean, &se);
    radar_free(nll);
    *row = eval_row(c, "");
    launch_json_int(row, "tokens", f->length);
    launch_json_int(row, "questions", f->asked);
    launch_json_int(row, "depths", f->depths);
    launch_json_real(row, "nll_per_digit", mean);
    launch_json_real(row, "nll_se", se);
    launch_json_real(row, "exact", (double)exact / f->asked);
    launch_json_set(row, "chat", json_boolean(f->chat));
    eval_row_figures(row, &f->figures);
    launch_json_real(row, "prefill_s", f->prefill_s);
    launch_json_real(row, "seconds", f->seconds);
    launch_json_set(row, "grid", grid_of(f));
    return RADAR_OK;
}

static eval_facts wanted(eval_context *c) {
    const launch_options *o = &c->setting;
    eval_facts f = {.length = o->length != LAUNCH_UNSET
                                  ? o->length
                                  : radar_min64((int64_t)c->whole.n, c->job->info.context),
                    .depths = (int)o->depths};
    f.questions = o->questions != LAUNCH_UNSET ? (int)o->questions : f.depths;
    const int64_t tokens = radar_ceil_div(f.questions, f.depths) * f.length;
    if (tokens > (int64_t)c->whole.n)
        launch_progress_line(&c->job->progress,
                             "note: %s has %zu tokens, %lld are wanted: it is repeated",
                             c->text_name, c->whole.n, (long long)tokens);
    return f;
}

static radar_status run_needle(eval_context *c) {
    if (!eval_wanted(c, "")) return RADAR_OK;
    eval_facts f = wanted(c);
    launch_json row = {0};
    radar_status st = eval_facts_ask(c, &f);
    if (st == RADAR_OK && c->job->world->rank == 0) make_row(c, &f, &row);
    if (st == RADAR_OK) st = launch_agree(c->job);
    if (st == RADAR_OK) st = eval_emit(c, &row);
    eval_facts_free(&f);
    return st;
}

static const char *const columns[] = {
    "tokens", "questions", "nll_per_digit", "nll_se", "exact", "attended_tokens_mean", NULL};

const eval_kind eval_needle = {.name = "needle",
                               .needs_text = true,
                               .makes_text = true,
                               .run = run_needle,
                               .columns = columns};
