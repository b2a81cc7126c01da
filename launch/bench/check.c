/* What can be known before weights are read: hours of a sweep are not spent on what its last setting refuses. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "launch/bench/bench.h"

/* [rank 0] The text that a depth will need. */
static void check_text(bench *b) {
    const char *path = b->fill == BENCH_FILL_TEXT ? b->base.fill : b->base.fill_from;
    if (path == NULL || strcmp(path, "-") == 0 || b->depth.at[b->depth.n - 1] == 0) return;
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        radar_fail(&b->job->err, RADAR_ERR_NO_INPUT, "%s: cannot be opened: %s%s", path,
                   strerror(errno),
                   b->fill == BENCH_FILL_TEXT ? "; --fill is auto, synth or a text" : "");
    if (f != NULL) fclose(f);
}

static void check_prompts(bench *b) {
    const int64_t deepest = b->depth.at[b->depth.n - 1],
                  real = b->fill == BENCH_FILL_SYNTH ? 0 : BENCH_REAL_MOST;
    launch_options setting;
    if (b->fill == BENCH_FILL_TEXT || deepest <= real) return;
    for (int64_t i = 0; eval_setting(&setting, &b->base, i); i++) {
        if (!radar_sees_prompt(setting.attention)) continue;
        radar_fail(&b->job->err, RADAR_ERR_CONFIG,
                   "attention '%s' has to see the prompt: a depth of %lld tokens cannot be made "
                   "up for it; prefill a text with --fill FILE",
                   setting.attention, (long long)deepest);
        return;
    }
}

radar_status bench_check_text(bench *b, int64_t deepest) {
    if (deepest <= (int64_t)b->text.n) return RADAR_OK;
    return radar_fail(&b->job->err, RADAR_ERR_DATA,
                      "%s: the text has %zu tokens, a depth of %lld needs as many: give a longer "
                      "text, or --fill synth",
                      b->text_name, b->text.n, (long long)deepest);
}

radar_status bench_check(bench *b) {
    launch_job *job = b->job;
    check_prompts(b);
    if (job->world->rank == 0 && job->err.status == RADAR_OK) check_text(b);
    const radar_status st = launch_agree(job);
    return st == RADAR_OK ? eval_try_settings(job, &b->base, b->context, &b->room) : st;
}
