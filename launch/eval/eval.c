/* radar eval: one setting after the other. */
#include "launch/eval/eval.h"

#include <stdio.h>
#include <string.h>

#include "runtime/sys.h"

static const eval_kind *const kinds[] = {&eval_ppl,   &eval_recall,   &eval_calibrate,
                                         &eval_bound, &eval_stats,    &eval_needle,
                                         &eval_ruler, &eval_generate, &eval_advise};

static const eval_kind *kind_of(const launch_options *opt) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i]->name, opt->kind) == 0) return kinds[i];
    return NULL;
}

static const char *text_name(const launch_options *opt) {
    const char *path = opt->file != NULL ? opt->file : opt->ids;
    if (path == NULL) return opt->prompt != NULL ? "-p" : "";
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static radar_status open_all(eval_context *c, const launch_options *base) {
    launch_job *job = c->job;
    const bool given = base->prompt != NULL || base->file != NULL || base->ids != NULL;
    if (c->settings < 0)
        return radar_fail(&job->err, RADAR_ERR_USAGE,
                          "the lists make more than 16384 settings; shorten them");
    if (c->kind->needs_text && !given)
        return radar_fail(&job->err, RADAR_ERR_USAGE,
                          "%s has no input: give -p TEXT, -f FILE or --ids FILE", base->title);
    if (c->settings > 1 && (base->nll != NULL || base->logits != NULL))
        return radar_fail(&job->err, RADAR_ERR_USAGE,
                          "%s is of one setting: give no lists beside it",
                          base->nll != NULL ? "--nll" : "--logits");
    eval_room room = {0};
    if (base->context > 0 && eval_try_settings(job, base, base->context, &room) != RADAR_OK)
        return job->err.status;
    const radar_status st =
        given ? launch_prompt_open(job, &c->whole) : launch_open_engine(job, false);
    job->room = NULL;
    return st == RADAR_OK ? eval_sink_open(c) : st;
}

/* The setting of that index; false: it is the same as an earlier one.  hash [settings]. */
static bool fresh_setting(eval_context *c, const launch_options *base, int64_t index,
                          uint64_t *hash) {
    eval_setting(&c->setting, base, index);
    hash[index] = eval_setting_hash(&c->setting);
    for (int64_t i = 0; i < index; i++)
        if (hash[i] == hash[index]) return false;
    return true;
}

/* What is made is made in memory first: never more than a session may hold. */
static radar_status check_made(eval_context *c, int64_t length) {
    const int64_t asked = c->setting.context, limit = asked > 0 ? asked : c->job->info.context;
    if (length <= radar_min64(limit, INT32_MAX)) return RADAR_OK;
    return radar_fail(&c->job->err, RADAR_ERR_CONFIG,
                      "--length %lld: the context has room for %lld tokens; make it shorter, or "
                      "give --ctx",
                      (long long)length, (long long)radar_min64(limit, INT32_MAX));
}

static radar_status cut_text(eval_context *c) {
    const int64_t length = c->setting.length, whole = (int64_t)c->whole.n;
    c->text = c->whole;
    if (length == LAUNCH_UNSET || whole == 0) return RADAR_OK;
    if (c->kind->makes_text) return check_made(c, length);
    if (length > whole)
        return radar_fail(&c->job->err, RADAR_ERR_DATA,
                          "the text has %lld tokens, --length asks for %lld: give a longer text",
                          (long long)whole, (long long)length);
    c->text.n = (size_t)length;
    return RADAR_OK;
}

/* What is wrong with the last setting is told before the first is computed. */
static radar_status count_parts(eval_context *c, const launch_options *base, uint64_t *hash) {
    radar_status st = RADAR_OK;
    for (int64_t i = 0; i < c->settings && st == RADAR_OK; i++) {
        if (!fresh_setting(c, base, i, hash)) continue;
        c->total += c->kind->parts != NULL ? c->kind->parts(c) : 1;
        st = cut_text(c);
    }
    return st;
}

static radar_status run_all(eval_context *c, const launch_options *base, uint64_t *hash) {
    radar_status st = count_parts(c, base, hash);
    for (int64_t i = 0; i < c->settings && st == RADAR_OK; i++) {
        if (!fresh_setting(c, base, i, hash)) continue;
        if (c->total > 1) launch_progress_sweep(&c->job->progress, c->done, c->total, c->made);
        st = cut_text(c);
        if (st == RADAR_OK) st = c->kind->run(c);
    }
    return st;
}

/* A signal is no loss where there are files: what was said of it ("nothing was saved") does not hold. */
static void reword_stop(eval_context *c, const launch_options *base) {
    launch_job *job = c->job;
    if (job->err.status != RADAR_ERR_STOPPED || base->out == NULL || job->err.text[0] == 0) return;
    char by[32] = "";
    const int number = (int)*job->world->signal; /* 0: another rank's */
    if (number != 0) snprintf(by, sizeof by, " by signal %d", number);
    snprintf(job->err.text, sizeof job->err.text,
             "stopped%s; the rows so far are in %.300s: run it again to go on", by, base->out);
}

/* Settings side by side are judged at the same positions: where any of them leaves something out, all begin late. */
static bool all_dense(const launch_options *base) {
    launch_options setting;
    for (int64_t i = 0; eval_setting(&setting, base, i); i++)
        if (strcmp(setting.attention, "dense") != 0) return false;
    return true;
}

radar_status launch_eval(launch_job *job) {
    launch_options base = *job->opt;
    eval_context c = {.job = job,
                      .kind = kind_of(&base),
                      .text_name = text_name(&base),
                      .settings = eval_settings(&base)};
    if (base.from == LAUNCH_UNSET && base.tail == LAUNCH_UNSET)
        base.from = all_dense(&base) ? 0 : 2048;
    uint64_t *hash = radar_alloc_array((size_t)radar_max64(c.settings, 1), sizeof *hash);
    if (hash == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the sweep");
    const launch_options *given = job->opt;
    c.setting = base;
    job->opt = &c.setting;
    radar_status st = launch_agree(job);
    if (st == RADAR_OK) st = open_all(&c, &base);
    if (st == RADAR_OK) run_all(&c, &base, hash);
    launch_agree(job);
    reword_stop(&c, &base);
    eval_sink_close(&c);
    eval_cache_close(&c);
    job->opt = given;
    radar_free(hash);
    launch_prompt_free(&c.whole);
    return job->err.status;
}
