/* args.h - the command line: one table of options gives the parsing, the checks, the help and what all ranks must agree on. */
#ifndef RADAR_LAUNCH_ARGS_H
#define RADAR_LAUNCH_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base.h"

typedef enum launch_command {
    LAUNCH_RUN = 1,
    LAUNCH_EVAL = 2,
    LAUNCH_COMPARE = 4,
    LAUNCH_TOKENIZE = 8,
    LAUNCH_DETOKENIZE = 16,
    LAUNCH_INSPECT = 32,
    LAUNCH_HELP = 64, /* text on stdout, of help_of (0: the overview) */
    LAUNCH_VERSION = 128,
    LAUNCH_REPORT = 1 << 19,
    LAUNCH_PLAN = 1 << 21,
    LAUNCH_BENCH = 1 << 22
} launch_command;

/* The kinds of eval are told apart by a bit of their own: an option's row says which of them know it. */
typedef enum launch_kind {
    LAUNCH_PPL = 1 << 8,
    LAUNCH_RECALL = 1 << 9,
    LAUNCH_NEEDLE = 1 << 10,
    LAUNCH_RULER = 1 << 11,
    LAUNCH_GENERATE = 1 << 12,
    LAUNCH_CALIBRATE = 1 << 13,
    LAUNCH_BOUND = 1 << 14,
    LAUNCH_STATS = 1 << 15,
    LAUNCH_ADVISE = 1 << 20
} launch_kind;

#define LAUNCH_AUTO (-1) /* numbers that may be "auto" */
#define LAUNCH_UNSET INT64_MIN

enum { LAUNCH_OPTIONS_MOST = 112 };

/* Values of one option typed as "a,b,c": the first word, each other behind the zero byte of the one before.  n = 0: no list. */
typedef struct launch_list {
    const char *first;
    int n;
} launch_list;

/* Where an option's value comes from; the higher wins. */
enum { LAUNCH_BY_DEFAULT, LAUNCH_BY_PRESET, LAUNCH_BY_PROFILE, LAUNCH_BY_HAND };

typedef struct launch_options {
    launch_command command, help_of;
    int scope; /* the bit by which rows of the table know the command: of eval, the kind's */
    const char *title; /* "run", "eval ppl" */
    const char *kind;  /* second word of eval; NULL otherwise */
    /* by row of the table */
    unsigned char origin[LAUNCH_OPTIONS_MOST];
    launch_list list[LAUNCH_OPTIONS_MOST];
    /* input */
    const char *model, *tokenizer, *prompt, *file, *ids, *question, *chat_template;
    bool chat, no_special;
    /* output */
    const char *logits, *nll;
    const char *folder, *output, *svg; /* report DIR -o FILE --svg NAME */
    bool json, quiet, profile_steps;
    /* generation */
    int64_t n;
    bool ignore_eos;
    double temperature, top_p, min_p;
    int64_t top_k;
    uint64_t seed;
    /* evaluation */
    int64_t from, tail, length, batch, every, layer, head, depths, questions;
    double within;
    const char *out;
    /* bench: lists of numbers as typed */
    const char *n_prompt, *n_gen, *n_depth, *extrapolate;
    const char *fill, *fill_from, *loss, *format;
    int64_t repetitions;
    /* machine */
    const char *backend, *isa, *precision, *kv_type, *exchange, *weights, *graphs;
    int64_t device;
    int64_t context, threads, shards, stripe, chunk;
    const char *rope_scaling;
    double rope_scale, rope_freq_base;
    int64_t rope_orig_ctx;
    /* plan */
    int64_t ranks;
    double memory, bandwidth; /* GB, GB a second; 0: this machine's */
    /* attention */
    const char *profile, *preset, *attention, *scorer, *share, *pick, *select, *rf_form, *scan,
        *prefill;
    int64_t budget, segments, segment, dense_below, window, sinks, rf_features;
    int64_t sketch_bits, outliers, observe, dense_prefill;
    bool rf_center, restream;
    double rf_temper;
    uint64_t scorer_seed;
} launch_options;

/* [this rank] argv is reordered (getopt), lists in it are cut at their commas; strings in *opt point into it. */
radar_status launch_args_parse(launch_options *opt, int argc, char **argv, radar_error *err);

/* [this rank] What does not go together, as parse checks it; again where a profile has brought options.  RADAR_ERR_USAGE. */
radar_status launch_args_check(const launch_options *opt, radar_error *err);

/* [this rank] The text of `radar -h`, or of `radar COMMAND -h`. */
void launch_args_help(FILE *out, const launch_options *opt);

/* [this rank] Every option that must be the same on all ranks as "name=value" with a zero byte behind each; freed with radar_free.
 * NULL: no memory. */
char *launch_args_text(const launch_options *opt, size_t *bytes);

#endif
