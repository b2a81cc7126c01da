/* options.h - the table of commands and the table of options, for args.c and options.c. */
#ifndef RADAR_LAUNCH_OPTIONS_H
#define RADAR_LAUNCH_OPTIONS_H

#include "launch/args.h"

typedef struct launch_command_row {
    launch_command command;
    const char *name, *second; /* "eval ppl" is two words */
    const char *summary, *usage;
} launch_command_row;

typedef enum launch_option_kind {
    LAUNCH_HEADING, /* of the help, known to no command */
    LAUNCH_TEXT,
    LAUNCH_CHOICE,
    LAUNCH_SWITCH,
    LAUNCH_NUMBER,
    LAUNCH_REAL,
    LAUNCH_SEED
} launch_option_kind;

typedef struct launch_option_row {
    launch_option_kind kind;
    const char *name;
    char letter;         /* 0: none */
    size_t offset;       /* in launch_options */
    int in;              /* commands that know it, and LAUNCH_PER_RANK */
    const char *value;   /* what stands for it in the help */
    double low, high;    /* of numbers */
    const char *choices; /* "a|b" of a choice; "auto" of a number that may be it */
    const char *later;   /* choices that are known but not built: RADAR_ERR_CONFIG */
    const char *unset;   /* what the help says of a default that is no value */
    const char *help;
} launch_option_row;

enum { LAUNCH_PER_RANK = 1 << 16 }; /* may differ between ranks */

extern const launch_command_row launch_command_table[];
extern const size_t launch_command_count;
extern const launch_option_row launch_option_table[];
extern const size_t launch_option_count;
enum { LAUNCH_OPTIONS_MOST = 64 };

#define LAUNCH_COMMAND_LIST "run, compare, eval ppl, tokenize, detokenize, inspect, report"
#define LAUNCH_MOST 1e12 /* of counts and tokens; what they ask for is checked where it is known */

/* How the option is typed: "-n" or "--top-k". */
#define LAUNCH_LABEL 32
const char *launch_option_label(char label[LAUNCH_LABEL], const launch_option_row *row);

void launch_options_default(launch_options *opt, launch_command command);

#endif
