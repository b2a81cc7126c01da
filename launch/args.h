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
    LAUNCH_REPORT = 1 << 19
} launch_command;

#define LAUNCH_AUTO (-1) /* numbers that may be "auto" */
#define LAUNCH_UNSET INT64_MIN

typedef struct launch_options {
    launch_command command, help_of;
    /* input */
    const char *model, *tokenizer, *prompt, *file, *ids, *question, *chat_template;
    bool chat, no_special;
    /* output */
    const char *logits, *nll;
    const char *folder, *output, *svg; /* report DIR -o FILE --svg NAME */
    bool json, quiet;
    /* generation */
    int64_t n;
    bool ignore_eos;
    double temperature, top_p, min_p;
    int64_t top_k;
    uint64_t seed;
    /* evaluation */
    int64_t from, tail;
    /* machine */
    const char *backend, *isa, *precision, *kv_type;
    int64_t context, threads, shards, stripe, chunk;
    /* attention */
    const char *preset, *attention, *scorer, *share, *pick, *select, *rf_form;
    int64_t budget, segments, segment, dense_below, window, sinks, rf_features;
    int64_t sketch_bits, outliers, observe;
    bool rf_center, restream;
    double rf_temper;
    uint64_t scorer_seed;
} launch_options;

/* [this rank] argv is reordered (getopt); strings in *opt point into it. */
radar_status launch_args_parse(launch_options *opt, int argc, char **argv, radar_error *err);

/* [this rank] The text of `radar -h`, or of `radar COMMAND -h`. */
void launch_args_help(FILE *out, const launch_options *opt);

/* [this rank] Every option that must be the same on all ranks as "name=value" with a zero byte behind each; freed with radar_free.
 * NULL: no memory. */
char *launch_args_text(const launch_options *opt, size_t *bytes);

const char *launch_command_name(launch_command command);

#endif
