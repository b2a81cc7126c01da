/* radar eval recall: does selection find the segments that matter, and what does a miss cost?  One dense prefill, then the last
 * positions under the setting, each layer beside what dense attention would have made of the same cache. */
#include <string.h>

#include "launch/eval/figures.h"
#include "launch/eval/watch.h"

enum { TAIL = 256 };

static void add(void *user, const radar_observation *o) { eval_recall_add(user, o); }

static radar_status emit(eval_context *c, const eval_span *span, const eval_recall_figures *r) {
    eval_figures figures = {0};
    radar_status st = eval_figures_add(c, &figures);
    launch_json row = {0};
    if (st != RADAR_OK) return st;
    if (c->job->world->rank == 0) {
        row = eval_row(c, "");
        launch_json_set(&row, "positions",
                        json_pack("[I,I]", (json_int_t)span->first, (json_int_t)span->end - 1));
        eval_recall_write(r, row.object);
        eval_row_figures(&row, &figures);
    }
    return eval_emit(c, &row);
}

static radar_status run(eval_context *c) {
    const launch_options *o = c->job->opt;
    eval_span span;
    if (!eval_wanted(c, "")) return RADAR_OK;
    radar_status st = eval_span_open(c, TAIL, &span);
    if (st != RADAR_OK) return st;
    eval_recall_figures r = {.layers = c->job->info.layers,
                             .heads = c->job->info.heads,
                             .layer = o->layer != LAUNCH_UNSET ? (int)o->layer : -1,
                             .head = o->head != LAUNCH_UNSET ? (int)o->head : -1,
                             .first = span.first,
                             .end = span.end,
                             .every = span.every,
                             .share_head = strcmp(o->share, "head") == 0};
    if (c->job->world->rank == 0) eval_recall_open(&r, &c->job->err);
    st = launch_agree(c->job);
    if (st == RADAR_OK) st = eval_watch(c, &span, false, add, &r);
    if (st == RADAR_OK) st = emit(c, &span, &r);
    eval_recall_close(&r);
    return st;
}

static const char *const columns[] = {"recall_mean", "hit1",      "hit3",  "list_mass",
                                      "mass",        "mass_best", "error", "attended_tokens_mean",
                                      NULL};

const eval_kind eval_recall = {
    .name = "recall", .needs_text = true, .run = run, .columns = columns};
