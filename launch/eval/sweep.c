/* A sweep: the product of the options typed as lists, and which options a setting's attention looks at. */
#include <string.h>

#include <xxhash.h>

#include "launch/eval/eval.h"
#include "launch/profile.h"
#include "runtime/sys.h"

enum { SETTINGS_MOST = 1 << 14, TEXT_MOST = 1 << 13 };

/* ---- what an attention uses ---- */

/* Words of `in` are divided by spaces; NULL holds every word. */
static bool among(const char *in, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = in; at != NULL && (at = strstr(at, word)) != NULL; at += n)
        if ((at == in || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)) return true;
    return in == NULL;
}

/* Options that only some attentions look at, and where that is radar, only with some scorers. */
static const struct {
    const char *option, *attentions, *scorers;
} uses[] = {
    {"scorer", "radar", NULL},
    {"budget", "radar h2o snapkv subgen paper code", NULL},
    {"segments", "radar h2o snapkv subgen paper code", NULL},
    {"segment", "radar", "mean rf"},
    {"dense-below", "radar paper code", NULL},
    {"window", "radar streaming h2o snapkv subgen paper code", NULL},
    {"sinks", "radar streaming subgen paper code", NULL},
    {"share", "radar h2o snapkv paper code", NULL},
    {"pick", "radar paper code", NULL},
    {"select", "radar", NULL},
    {"restream", "streaming", NULL},
    {"observe", "snapkv", NULL},
    {"rf-features", "radar paper code", "rf"},
    {"rf-form", "radar paper code", "rf"},
    {"rf-center", "radar", "rf"},
    {"rf-temper", "radar", "rf"},
    {"sketch-bits", "radar", "sketch"},
    {"outliers", "radar", "outlier"},
    {"scan", "radar", "sketch"},
    {"scorer-seed", "radar subgen paper code", "sketch rf"},
    {"dense-prefill", "radar", NULL},
};

/* What the kind itself looks at, whatever the attention: what draws bound's features and signs, the window of stats. */
static bool kind_uses(int scope, const char *option) {
    if (scope == LAUNCH_STATS) return strcmp(option, "window") == 0;
    return scope == LAUNCH_BOUND &&
           (strcmp(option, "rf-features") == 0 || strcmp(option, "scorer-seed") == 0);
}

/* Radar as published scores by its features, or as an oracle: no other scorer is known to it. */
static bool is_oracle(const launch_options *setting) {
    return among("paper code", setting->attention) && strcmp(setting->scorer, "exact") == 0;
}

/* Blocks of the prompt choose as radar's steps do, whatever the attention of the steps; two options are of one of them only. */
static bool chooses(const launch_options *setting, const char *option) {
    const bool prefill = strcmp(setting->prefill, "radar") == 0;
    if (strcmp(option, "dense-prefill") == 0) return prefill;
    if (strcmp(option, "dense-below") == 0) return strcmp(setting->attention, "radar") == 0;
    return prefill || strcmp(setting->attention, "radar") == 0;
}

bool eval_uses(const launch_options *setting, const char *option) {
    const bool steps_choose = strcmp(setting->attention, "radar") == 0;
    if (kind_uses(setting->scope, option)) return true;
    if (strcmp(option, "scorer") == 0 && is_oracle(setting)) return true;
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        if (strcmp(uses[i].option, option) != 0) continue;
        if (!steps_choose && among(uses[i].attentions, setting->attention)) return true;
        if (!among(uses[i].attentions, "radar") || !chooses(setting, option)) return false;
        if (strcmp(option, "scorer-seed") == 0 && strcmp(setting->pick, "random") == 0) return true;
        return among(uses[i].scorers, setting->scorer);
    }
    return true;
}

/* What is not looked at does not tell settings apart. */
static void normalise(launch_options *setting) {
    launch_options defaults;
    for (size_t i = 0; i < launch_command_count; i++)
        if (launch_command_table[i].scope == setting->scope)
            launch_options_default(&defaults, &launch_command_table[i]);
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++)
        if (!eval_uses(setting, uses[i].option))
            launch_option_copy(setting, &defaults,
                               launch_option_find(uses[i].option, setting->scope));
}

/* ---- the product ---- */

int64_t eval_settings(const launch_options *base) {
    int64_t n = 1;
    for (size_t i = 0; i < launch_option_count; i++) {
        if (base->list[i].n > 0) n *= base->list[i].n;
        if (n > SETTINGS_MOST) return -1;
    }
    return n;
}

static const char *word_of(const launch_list *list, int64_t which) {
    const char *word = list->first;
    while (which-- > 0) word += strlen(word) + 1;
    return word;
}

bool eval_setting(launch_options *setting, const launch_options *base, int64_t index) {
    *setting = *base;
    if (index >= eval_settings(base)) return false;
    for (size_t i = launch_option_count; i-- > 0;) {
        const launch_list *list = &base->list[i];
        if (list->n == 0) continue;
        /* It was checked when it was typed. */
        launch_option_set(setting, &launch_option_table[i], word_of(list, index % list->n), NULL);
        setting->list[i] = (launch_list){0};
        index /= list->n;
    }
    launch_preset_apply(setting);
    normalise(setting);
    return true;
}

uint64_t eval_prefill_hash(const launch_options *setting) {
    launch_options prompt = *setting;
    char text[TEXT_MOST];
    size_t used = 0;
    if (strcmp(setting->prefill, "radar") != 0) return 0;
    prompt.attention = "dense"; /* that of the steps leaves no trace in the cache */
    normalise(&prompt);
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        const launch_option_row *row = launch_option_find(uses[i].option, prompt.scope);
        if (used + LAUNCH_LABEL + 2 >= sizeof text) break;
        launch_option_text(&prompt, row, text + used, sizeof text - used - 1);
        used += strlen(text + used);
        text[used++] = '|';
    }
    return XXH3_64bits(text, used);
}

uint64_t eval_setting_hash(const launch_options *setting) {
    char text[TEXT_MOST];
    size_t used = (size_t)snprintf(text, sizeof text, "%s\n", setting->title);
    for (size_t i = 0; i < launch_option_count; i++) {
        const launch_option_row *row = &launch_option_table[i];
        if (!(row->in & setting->scope) || (row->in & LAUNCH_PLACE)) continue;
        if (used + LAUNCH_LABEL + 64 >= sizeof text) break;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s=", row->name);
        launch_option_text(setting, row, text + used, sizeof text - used);
        used += strlen(text + used);
    }
    return XXH3_64bits(text, used);
}
