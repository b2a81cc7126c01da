#include "runtime/attention.h"

#include <string.h>

#define DENSE_PREFILL 4096  /* auto */
#define PREFILL_BUDGET 1024 /* auto */

int32_t radar_attention_unit(const radar_attention *a, int64_t position) {
    int64_t segment = RADAR_SEGMENT, t = position + 1;
    if (a->segment >= 0) return (int32_t)(radar_max64(a->segment, segment) / RADAR_SEGMENT);
    while (segment < a->longest && t >= 32 * segment * segment) segment *= 2;
    return (int32_t)(segment / RADAR_SEGMENT);
}

int64_t radar_attention_budget(const radar_attention *a, int64_t position) {
    if (a->segments > 0) return a->segments * RADAR_SEGMENT;
    if (a->budget >= 0) return a->budget;
    return position + 1 >= RADAR_LONG_CONTEXT ? 1024 : 512;
}

int radar_attention_peaks(const radar_attention *a, int64_t context,
                          int64_t peak[RADAR_MOST_UNITS]) {
    int64_t segment = RADAR_SEGMENT;
    int n = 0;
    if (a->segment < 0)
        for (; segment < a->longest && context >= 32 * segment * segment; segment *= 2)
            peak[n++] = 32 * segment * segment - 2;
    peak[n++] = context - 1;
    return n;
}

static int64_t round_up(int64_t a, int64_t to) { return radar_ceil_div(a, to) * to; }

void radar_attention_candidates(const radar_attention *a, int64_t position, int64_t *begin,
                                int64_t *end) {
    int64_t unit = radar_attention_unit(a, position),
            sealed = radar_sealed_blocks(position + 1, a->window) * RADAR_BLOCK_SEGMENTS;
    *begin = round_up(radar_ceil_div(a->sinks, RADAR_SEGMENT), unit);
    *end = radar_max64(*begin, sealed / unit * unit);
}

/* What the options ask for, in units, whether or not there are as many candidates. */
static int64_t wanted(const radar_attention *a, int64_t position) {
    if (a->segments > 0) return a->segments;
    return radar_max64(8, radar_attention_budget(a, position) /
                              (RADAR_SEGMENT * radar_attention_unit(a, position)));
}

int64_t radar_attention_keep(const radar_attention *a, int64_t position) {
    int64_t begin, end;
    radar_attention_candidates(a, position, &begin, &end);
    return radar_min64(wanted(a, position), (end - begin) / radar_attention_unit(a, position));
}

int64_t radar_attention_most_keep(const radar_attention *a, int64_t context) {
    int64_t peak[RADAR_MOST_UNITS], most = 0;
    int n = radar_attention_peaks(a, context, peak);
    for (int i = 0; i < n; i++) most = radar_max64(most, radar_attention_keep(a, peak[i]));
    return most;
}

/* Dense while R t <= B t + (sinks + window + 1.6 budget) R, with R the bytes of a token's K and V, B the bytes of a token's
 * share in the summaries that are scored, the budget in whole segments, and 1.6 the measured size of a group's union over the
 * list of one of its heads. */
int64_t radar_attention_dense_limit(const radar_attention *a, const radar_kvcache *kv,
                                    int64_t position) {
    if (a->dense_below >= 0) return radar_max64(a->dense_below - 1, 0);
    int32_t unit = radar_attention_unit(a, position);
    double key = (double)radar_kvcache_key_bytes(kv, RADAR_BLOCK) / RADAR_BLOCK,
           both = key + (double)radar_kvcache_value_bytes(kv, RADAR_BLOCK) / RADAR_BLOCK;
    double scan = kv->block_bytes ? (double)kv->block_bytes / RADAR_BLOCK / unit : key;
    double budget = (double)wanted(a, position) * unit * RADAR_SEGMENT;
    double always = (double)(a->sinks + a->window) + 1.6 * budget;
    double limit = scan < both ? always * both / (both - scan) : (double)kv->context;
    return (int64_t)(limit < (double)kv->context ? limit : (double)kv->context);
}

/* ---- room: of all positions, those before a change of unit need most ---- */

int64_t radar_attention_most_scores(const radar_attention *a, const radar_kvcache *kv, int i) {
    int64_t peak[RADAR_MOST_UNITS], most = 0;
    int n = radar_attention_peaks(a, kv->context, peak);
    for (int p = 0; p < n; p++) {
        int64_t tokens = radar_shard_tokens(&kv->layout, kv->first_shard + i, peak[p] + 1);
        most = radar_max64(most, tokens / RADAR_SEGMENT / radar_attention_unit(a, peak[p]));
    }
    return most;
}

int64_t radar_attention_longest_list(const radar_attention *a, const radar_kvcache *kv, int heads) {
    int64_t peak[RADAR_MOST_UNITS], listed = 0;
    int n = radar_attention_peaks(a, kv->context, peak);
    for (int p = 0; p < n; p++) {
        int64_t unit = radar_attention_unit(a, peak[p]), keep = radar_attention_keep(a, peak[p]);
        /* sinks, window, an open block, and what is sealed beside the first and the last whole unit */
        int64_t always = radar_ceil_div(a->sinks, RADAR_SEGMENT) + 2 * (unit - 1) +
                         (a->window + RADAR_BLOCK) / RADAR_SEGMENT + 2;
        int64_t chosen = a->select_local ? 3 * keep / 2 + kv->layout.shards : keep;
        listed = radar_max64(listed, always + chosen * unit * heads);
    }
    return listed;
}

/* ---- options ---- */

static radar_status choose(int *out, const char *option, const char *value,
                           const char *const *names, radar_error *err) {
    char list[128] = "";
    for (int i = 0; names[i]; i++) {
        if (value && strcmp(value, names[i]) == 0) {
            *out = i;
            return RADAR_OK;
        }
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, names[i], sizeof list - strlen(list) - 1);
    }
    return radar_fail(err, RADAR_ERR_USAGE, "--%s '%s': not known; use one of: %s", option,
                      value ? value : "", list);
}

static radar_status check_range(const char *option, int64_t value, int64_t low, int64_t high,
                                radar_error *err) {
    if (value >= low && value <= high) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_USAGE, "--%s %lld: must be from %lld to %lld", option,
                      (long long)value, (long long)low, (long long)high);
}

radar_status radar_attention_policy(const radar_policy **out, const char *name, radar_error *err) {
    const char *names[16] = {0};
    int which = 0;
    for (int i = 0; radar_policies[i] && i < 15; i++) names[i] = radar_policies[i]->name;
    radar_status st = choose(&which, "attention", name, names, err);
    if (st == RADAR_OK) *out = radar_policies[which];
    return st;
}

/* What a policy remembers of the prompt is what its queries attended to: all of it. */
static radar_status check_prefill(const radar_attention *a, radar_error *err) {
    if (!a->sparse_prefill || !a->policy->open) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_CONFIG,
                      "--prefill radar: attention '%s' has to see a prompt that attends densely; "
                      "use --prefill dense, or attention radar, dense or streaming",
                      a->policy->name);
}

static radar_status open_scorer(radar_attention *a, const radar_session_options *opt, int D,
                                const char *isa, radar_error *err) {
    static const char *const forms[] = {"plain", "pair", NULL};
    int pair = 0;
    radar_status st = choose(&pair, "rf-form", opt->rf_form, forms, err);
    if (st != RADAR_OK) return st;
    radar_scorer_options scorer = {.D = D,
                                   .seed = opt->scorer_seed,
                                   .sketch_bits = (int)opt->sketch_bits,
                                   .outliers = (int)opt->outliers,
                                   .rf_center = opt->rf_center != 0,
                                   .rf_temper = opt->rf_temper,
                                   .rf_features = (int)opt->rf_features,
                                   .rf_pair = pair,
                                   .isa = isa};
    st = radar_scorer_open(&a->scorer, opt->scorer ? opt->scorer : "", &scorer, err);
    if (st != RADAR_OK || !a->progressive) return st;
    if (!a->scorer->coarse_bytes)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--scan progressive: scorer '%s' with these options has no first bit to "
                          "read alone; use --scorer sketch with --sketch-bits 2, or --scan full",
                          a->scorer->kind->name);
    if (a->pick != RADAR_PICK_TOP)
        return radar_fail(
            err, RADAR_ERR_USAGE,
            "--scan progressive: finds the best only; use --pick top, or --scan full");
    return radar_scorer_open(&a->exact, "exact", &scorer, err);
}

#define MOST_TOKENS ((int64_t)1 << 40)
#define MOST_SEGMENT 65536 /* tokens: the longest stripe */

static radar_status check_segment(const radar_attention *a, radar_error *err) {
    int64_t segment = a->segment;
    if (segment != -1 &&
        (segment < RADAR_SEGMENT || segment > MOST_SEGMENT || segment & (segment - 1)))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--segment %lld: must be auto or a power of two from %d to the stripe",
                          (long long)segment, RADAR_SEGMENT);
    if (!a->scorer || segment == RADAR_SEGMENT || a->scorer->kind->merge) return RADAR_OK;
    char names[128] = "";
    for (int i = 0; radar_scorers[i]; i++) {
        if (!radar_scorers[i]->merge) continue;
        strncat(names, *names ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, radar_scorers[i]->name, sizeof names - strlen(names) - 1);
    }
    return radar_fail(
        err, RADAR_ERR_USAGE,
        "--segment: summaries of scorer '%s' do not merge; use --segment %d, or one of "
        "the scorers that can: %s",
        a->scorer->kind->name, RADAR_SEGMENT, names);
}

radar_status radar_attention_fit(radar_attention *a, const radar_layout *l, radar_error *err) {
    a->longest = radar_min64(l->stripe & -l->stripe, MOST_SEGMENT);
    if (!a->scorer) return RADAR_OK;
    if (a->segment > a->longest)
        return radar_fail(
            err, RADAR_ERR_USAGE,
            "--segment %lld: --stripe %d is not a multiple of it; use a shorter segment "
            "or another stripe",
            (long long)a->segment, l->stripe);
    if (a->scorer->longest && a->segment > a->scorer->longest)
        return radar_fail(
            err, RADAR_ERR_USAGE,
            "--segment %lld: summaries of scorer '%s' with these options merge up to %d "
            "tokens; use that, or leave out --rf-center",
            (long long)a->segment, a->scorer->kind->name, a->scorer->longest);
    if (a->scorer->longest) a->longest = radar_min64(a->longest, a->scorer->longest);
    return RADAR_OK;
}

radar_status radar_attention_open(radar_attention *a, const radar_session_options *opt, int D,
                                  const char *isa, radar_error *err) {
    static const char *const shares[] = {"group", "head", NULL},
                             *const picks[] = {"top", "bottom", "random", "last", NULL},
                             *const selects[] = {"global", "local", NULL},
                             *const scans[] = {"full", "progressive", NULL},
                             *const prefills[] = {"dense", "radar", NULL};
    int share = 0, pick = 0, local = 0, scan = 0, prefill = 0;
    radar_status st;
    *a = (radar_attention){.window = opt->window,
                           .sinks = opt->sinks,
                           .budget = opt->budget,
                           .segments = opt->segments,
                           .segment = opt->segment,
                           .observe = opt->observe,
                           .exact_scores = opt->scorer && strcmp(opt->scorer, "exact") == 0,
                           .rf_features = opt->rf_features,
                           .restream = opt->restream != 0,
                           .dense_below = opt->dense_below,
                           .dense_prefill = opt->dense_prefill,
                           .pick_seed = opt->scorer_seed};
    RADAR_TRY(st, radar_attention_policy(&a->policy, opt->attention, err), fail);
    RADAR_TRY(st, choose(&share, "share", opt->share, shares, err), fail);
    RADAR_TRY(st, choose(&pick, "pick", opt->pick, picks, err), fail);
    RADAR_TRY(st, choose(&local, "select", opt->select, selects, err), fail);
    RADAR_TRY(st, choose(&scan, "scan", opt->scan, scans, err), fail);
    RADAR_TRY(st, choose(&prefill, "prefill", opt->prefill, prefills, err), fail);
    RADAR_TRY(st, check_range("dense-prefill", opt->dense_prefill, -1, MOST_TOKENS, err), fail);
    RADAR_TRY(st, check_range("window", opt->window, 1, MOST_TOKENS, err), fail);
    RADAR_TRY(st, check_range("sinks", opt->sinks, 0, MOST_TOKENS, err), fail);
    RADAR_TRY(st, check_range("budget", opt->budget, -1, MOST_TOKENS, err), fail);
    RADAR_TRY(st, check_range("segments", opt->segments, 0, MOST_TOKENS / RADAR_SEGMENT, err),
              fail);
    RADAR_TRY(st, check_range("dense-below", opt->dense_below, -1, MOST_TOKENS, err), fail);
    RADAR_TRY(st, check_range("rf-features", opt->rf_features, 0, 65536, err), fail);
    RADAR_TRY(st, check_range("sketch-bits", opt->sketch_bits, 1, 4, err), fail);
    RADAR_TRY(st, check_range("outliers", opt->outliers, 1, 7, err), fail);
    RADAR_TRY(st, check_range("observe", opt->observe, 1, 64, err), fail);
    if (!(opt->rf_temper > 0 && opt->rf_temper <= 1)) {
        st = radar_fail(err, RADAR_ERR_USAGE, "--rf-temper %g: must be above 0 and at most 1",
                        opt->rf_temper);
        goto fail;
    }
    a->share_head = share == 1;
    a->pick = (radar_pick)pick;
    a->select_local = local == 1;
    a->progressive = scan == 1;
    a->sparse_prefill = prefill == 1;
    RADAR_TRY(st, check_prefill(a, err), fail);
    if (a->policy->needs_summaries || a->sparse_prefill)
        RADAR_TRY(st, open_scorer(a, opt, D, isa, err), fail);
    RADAR_TRY(st, check_segment(a, err), fail);
    return RADAR_OK;
fail:
    radar_attention_close(a);
    return st;
}

void radar_attention_close(radar_attention *a) {
    radar_scorer_close(a->scorer);
    radar_scorer_close(a->exact);
    a->scorer = a->exact = NULL;
}

/* ---- what a policy and its observer must decide alike ---- */

bool radar_attention_dense(const radar_attention *a, const radar_kvcache *kv, int64_t position) {
    return position < radar_attention_dense_limit(a, kv, position);
}

radar_attention radar_attention_of_prefill(const radar_attention *a, int64_t context) {
    radar_attention own = *a;
    if (own.budget < 0) own.budget = PREFILL_BUDGET;
    own.max_keep = radar_attention_most_keep(&own, context);
    return own;
}

int64_t radar_attention_dense_prefill(const radar_attention *a) {
    return a->dense_prefill >= 0 ? a->dense_prefill : DENSE_PREFILL;
}

int radar_attention_keep_local(int64_t keep, int shards) {
    return (int)radar_ceil_div(3 * keep, 2 * (int64_t)shards);
}

uint64_t radar_attention_draw(const radar_attention *a, int64_t position, int layer, int layers,
                              int head, int heads) {
    uint64_t row = (uint64_t)position * (uint64_t)layers + (uint64_t)layer;
    return radar_random(a->pick_seed, RADAR_STREAM_PICK, row * (uint64_t)heads + (uint64_t)head);
}
