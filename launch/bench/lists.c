/* What is typed for bench beside the settings: lists of numbers, and how a depth is reached. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/eval/eval.h"

static void insert(bench_list *list, int64_t value) {
    int at = 0;
    while (at < list->n && list->at[at] < value) at++;
    if (at < list->n && list->at[at] == value) return;
    memmove(list->at + at + 1, list->at + at, (size_t)(list->n - at) * sizeof *list->at);
    list->at[at] = value;
    list->n++;
}

radar_status bench_numbers(bench_list *list, const char *option, const char *text, int64_t low,
                           radar_error *err) {
    *list = (bench_list){.n = 0};
    for (const char *at = text; at != NULL;) {
        char *end;
        errno = 0;
        const long long value = strtoll(at, &end, 10);
        if (end == at || (*end != 0 && *end != ',') || errno != 0 || value < low ||
            value > ((int64_t)1 << 34))
            return radar_fail(err, RADAR_ERR_USAGE,
                              "%s '%.60s': must be whole numbers from %lld to 2^34, divided by "
                              "commas",
                              option, text, (long long)low);
        if (list->n == BENCH_LIST_MOST)
            return radar_fail(err, RADAR_ERR_USAGE, "%s: more than %d numbers", option,
                              BENCH_LIST_MOST);
        insert(list, value);
        at = *end == ',' ? end + 1 : NULL;
    }
    return RADAR_OK;
}

/* "-p 0": no such test. */
static void drop_zero(bench_list *list) {
    if (list->n == 0 || list->at[0] != 0) return;
    list->n--;
    memmove(list->at, list->at + 1, (size_t)list->n * sizeof *list->at);
}

static int64_t most(const bench_list *list) { return list->n > 0 ? list->at[list->n - 1] : 0; }

static radar_status take_lists(bench *b, radar_error *err) {
    const launch_options *o = &b->base;
    radar_status st;
    RADAR_TRY(st, bench_numbers(&b->prompt, "-p", o->n_prompt, 0, err), fail);
    RADAR_TRY(st, bench_numbers(&b->gen, "-n", o->n_gen, 0, err), fail);
    RADAR_TRY(st, bench_numbers(&b->depth, "-d", o->n_depth, 0, err), fail);
    if (o->extrapolate != NULL)
        RADAR_TRY(st, bench_numbers(&b->beyond, "--extrapolate", o->extrapolate, 1, err), fail);
    drop_zero(&b->prompt);
    drop_zero(&b->gen);
fail:
    return st;
}

static radar_status check_lists(bench *b, radar_error *err) {
    if (b->settings < 0)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "the lists make more than 16384 settings; shorten them");
    if (b->prompt.n == 0 && b->gen.n == 0)
        return radar_fail(err, RADAR_ERR_USAGE, "-p 0 -n 0: nothing to measure");
    if (b->beyond.n > 0 && b->prompt.n < 3 && (b->gen.n == 0 || b->depth.n < 2))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--extrapolate needs three lengths in -p, or two depths in -d");
    return RADAR_OK;
}

radar_status bench_options(bench *b) {
    radar_error *err = &b->job->err;
    const char *fill = b->base.fill;
    radar_status st;
    b->settings = eval_settings(&b->base);
    RADAR_TRY(st, take_lists(b, err), fail);
    RADAR_TRY(st, check_lists(b, err), fail);
    b->fill = strcmp(fill, "auto") == 0    ? BENCH_FILL_AUTO
              : strcmp(fill, "synth") == 0 ? BENCH_FILL_SYNTH
                                           : BENCH_FILL_TEXT;
    b->context = most(&b->depth) + radar_max64(most(&b->prompt), most(&b->gen));
fail:
    return st;
}
