/* radar eval calibrate: the share of the softmax mass that selection says it attends to, beside the share it does. */
#include "launch/eval/figures.h"
#include "launch/eval/watch.h"

enum { TAIL = 256 };

typedef struct calibrating {
    eval_span span;
    eval_calibration figures;
} calibrating;

static void add(void *user, const radar_observation *o) {
    calibrating *k = user;
    eval_calibration_add(&k->figures, eval_span_row(&k->span, o->position), o);
}

static radar_status emit(eval_context *c, calibrating *k) {
    launch_job *job = c->job;
    launch_json row = {0};
    if (job->world->rank == 0 && eval_calibration_end(&k->figures) == 0)
        radar_fail(&job->err, RADAR_ERR_DATA,
                   "nothing to calibrate at %lld tokens: no row scored segments; use --attention "
                   "radar, and a longer text or --dense-below 0",
                   (long long)k->span.end);
    const radar_status st = launch_agree(job);
    if (st != RADAR_OK) return st;
    if (job->world->rank == 0) {
        row = eval_row(c, "");
        launch_json_set(&row, "positions",
                        json_pack("[I,I]", (json_int_t)k->span.first, (json_int_t)k->span.end - 1));
        launch_json_int(&row, "rows", k->span.rows);
        eval_calibration_write(&k->figures, row.object);
    }
    return eval_emit(c, &row);
}

static radar_status run(eval_context *c) {
    launch_job *job = c->job;
    calibrating k = {.figures = {.layers = job->info.layers, .heads = job->info.heads}};
    if (!eval_wanted(c, "")) return RADAR_OK;
    radar_status st = eval_span_open(c, TAIL, &k.span);
    if (st != RADAR_OK) return st;
    k.figures.rows = k.span.rows;
    if (job->world->rank == 0) eval_calibration_open(&k.figures, &job->err);
    st = launch_agree(job);
    if (st == RADAR_OK) st = eval_watch(c, &k.span, false, add, &k);
    if (st == RADAR_OK) st = emit(c, &k);
    eval_calibration_close(&k.figures);
    return st;
}

static const char *const columns[] = {"true_mean", "bias",        "error_median",
                                      "error_p95", "error_worst", NULL};

const eval_kind eval_calibrate = {
    .name = "calibrate", .needs_text = true, .run = run, .columns = columns};
