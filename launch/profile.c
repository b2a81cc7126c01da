#include "launch/profile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "launch/options.h"
#include "runtime/sys.h"

enum { PROFILE_MOST = 1 << 20 };

/* ---- presets ---- */

static const struct {
    const char *preset, *option, *value;
} preset_table[] = {
    {"quest", "scorer", "minmax"}, /* Tang et al., arXiv 2406.10774 */
    /* Hao et al., arXiv 2503.10571, and the code its authors published */
    {"paper", "attention", "paper"},
    {"paper", "window", "1024"},
    {"paper", "sinks", "1"},
    {"paper", "segments", "64"},
    {"paper", "shards", "1"},
    {"paper", "share", "head"},
    {"paper", "dense-below", "0"},
    {"code", "attention", "code"},
    {"code", "window", "1024"},
    {"code", "sinks", "1"},
    {"code", "segments", "64"},
    {"code", "shards", "1"},
    {"code", "share", "head"},
    {"code", "dense-below", "0"},
    {"code", "rf-form", "pair"},
};

static unsigned char *origin_of(launch_options *opt, const char *option) {
    const launch_option_row *row = launch_option_find(option, opt->scope);
    return row != NULL ? &opt->origin[row - launch_option_table] : NULL;
}

/* --segments and --budget are two words for one thing: either one, where it comes from, stands for both. */
static unsigned char rank_of(launch_options *opt, const char *option) {
    const bool segments = strcmp(option, "segments") == 0, budget = strcmp(option, "budget") == 0;
    const unsigned char own = *origin_of(opt, option);
    if (!segments && !budget) return own;
    const unsigned char other = *origin_of(opt, segments ? "budget" : "segments");
    return own > other ? own : other;
}

/* The value was checked; the other of the two words loses what it had. */
static radar_status set_by(launch_options *opt, const char *option, const char *value,
                           unsigned char origin, radar_error *err) {
    const launch_option_row *row = launch_option_find(option, opt->scope);
    const radar_status st = launch_option_set(opt, row, value, err);
    if (st != RADAR_OK) return st;
    *origin_of(opt, option) = origin;
    if (strcmp(option, "segments") == 0) opt->budget = LAUNCH_AUTO;
    if (strcmp(option, "budget") == 0) opt->segments = LAUNCH_UNSET;
    return RADAR_OK;
}

static void apply_preset(launch_options *opt, const char *preset, unsigned char limit,
                         const char *only) {
    for (size_t i = 0; i < sizeof preset_table / sizeof preset_table[0]; i++) {
        const char *option = preset_table[i].option;
        if (strcmp(preset_table[i].preset, preset) != 0 || rank_of(opt, option) >= limit) continue;
        if (only == NULL || strcmp(only, option) == 0)
            set_by(opt, option, preset_table[i].value, LAUNCH_BY_PRESET, NULL);
    }
}

void launch_preset_apply(launch_options *opt) {
    const launch_option_row *row = launch_option_find("preset", opt->scope);
    if (row == NULL || opt->preset == NULL) return;
    const size_t at = (size_t)(row - launch_option_table);
    const char *word = opt->list[at].first;
    if (opt->list[at].n == 0) apply_preset(opt, opt->preset, opt->origin[at], NULL);
    for (int i = 0; i < opt->list[at].n; i++, word += strlen(word) + 1)
        apply_preset(opt, word, opt->origin[at], "shards");
}

/* ---- profiles ---- */

/* [rank 0] */
static radar_status read_profile(launch_job *job, const char *path, char **text, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return radar_fail(&job->err, RADAR_ERR_NO_INPUT, "%s: cannot be opened: %s", path,
                          strerror(errno));
    *text = radar_alloc(PROFILE_MOST);
    if (*text != NULL) *bytes = fread(*text, 1, PROFILE_MOST, f);
    const bool failed = ferror(f) != 0;
    fclose(f);
    if (*text == NULL) return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for %s", path);
    if (failed) return radar_fail(&job->err, RADAR_ERR_IO, "%s: cannot be read", path);
    if (*bytes == PROFILE_MOST)
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: too long for a profile", path);
    return RADAR_OK;
}

/* A profile may hold what says how to attend and compute; where text comes from and goes to is typed. */
static bool may_hold(const launch_option_row *row) {
    return row != NULL && row->kind != LAUNCH_TEXT &&
           ((row->in & LAUNCH_LISTED) != 0 || (row->in & LAUNCH_PLACE) == 0);
}

/* The value as it would be typed; NULL: not of the option's type. */
static const char *typed_as(const launch_option_row *row, const json_t *value, char number[40]) {
    if (row->kind == LAUNCH_SWITCH) return json_is_boolean(value) ? "" : NULL;
    if (json_is_string(value) && row->choices != NULL) return json_string_value(value);
    if (row->kind == LAUNCH_CHOICE) return NULL;
    if (json_is_integer(value))
        snprintf(number, 40, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value) && row->kind == LAUNCH_REAL)
        snprintf(number, 40, "%.17g", json_real_value(value));
    else
        return NULL;
    return number;
}

static radar_status take_option(launch_job *job, launch_options *opt, const char *name,
                                const json_t *value) {
    const launch_option_row *row = launch_option_find(name, opt->scope),
                            *any = row != NULL ? row : launch_option_find(name, ~LAUNCH_PER_RANK);
    char number[40];
    radar_error why = {0};
    if (!may_hold(any))
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: option '%s' is not known", opt->profile,
                          name);
    const char *word = typed_as(any, value, number);
    if (word == NULL)
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: option '%s' has a value of another type",
                          opt->profile, name);
    if (row == NULL || rank_of(opt, name) == LAUNCH_BY_HAND || json_is_false(value))
        return RADAR_OK;
    if (set_by(opt, name, word, LAUNCH_BY_PROFILE, &why) != RADAR_OK)
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: %s", opt->profile, why.text);
    return RADAR_OK;
}

static radar_status take_profile(launch_job *job, launch_options *opt) {
    const json_t *options = json_object_get(job->profile, "options");
    const char *hex = json_string_value(json_object_get(job->profile, "fingerprint")), *name;
    char *end = NULL;
    json_t *value;
    if (hex != NULL) job->profile_model = strtoull(hex, &end, 16);
    if (hex == NULL || end == hex || *end != 0 || !json_is_object(options))
        return radar_fail(&job->err, RADAR_ERR_DATA,
                          "%s: a profile is {\"fingerprint\": \"HEX\", \"options\": {...}}",
                          opt->profile);
    json_object_foreach((json_t *)options, name, value) {
        const radar_status st = take_option(job, opt, name, value);
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

radar_status launch_profile_apply(launch_job *job, launch_options *opt) {
    const launch_world *w = job->world;
    char *text = NULL;
    size_t used = 0;
    uint64_t bytes;
    if (opt->profile == NULL) return RADAR_OK;
    if (w->rank == 0) read_profile(job, opt->profile, &text, &used);
    if (w->rank != 0) text = radar_alloc(PROFILE_MOST);
    if (text == NULL) radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the profile");
    if (launch_agree(job) == RADAR_OK) {
        bytes = used;
        w->broadcast(w, &bytes, sizeof bytes);
        w->broadcast(w, text, (size_t)bytes);
        json_error_t why;
        job->profile = json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES, &why);
        if (job->profile == NULL)
            radar_fail(&job->err, RADAR_ERR_DATA, "%s: line %d: %s", opt->profile, why.line,
                       why.text);
        else if (take_profile(job, opt) == RADAR_OK)
            launch_args_check(opt, &job->err);
    }
    radar_free(text);
    return launch_agree(job);
}

radar_status launch_profile_check(launch_job *job) {
    if (job->profile == NULL || job->profile_model == job->info.fingerprint) return RADAR_OK;
    return radar_fail(&job->err, RADAR_ERR_CONFIG,
                      "%s: made for a model with fingerprint %016" PRIx64
                      ", this one has %016" PRIx64 "; make a profile for this model",
                      job->opt->profile, job->profile_model, job->info.fingerprint);
}

void launch_profile_free(launch_job *job) {
    json_decref(job->profile);
    job->profile = NULL;
}
