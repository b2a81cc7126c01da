/* options.h - the table of commands and the table of options, for args.c and options.c. */
#ifndef RADAR_LAUNCH_OPTIONS_H
#define RADAR_LAUNCH_OPTIONS_H

#include "launch/args.h"

typedef struct launch_command_row {
    launch_command command;
    int scope;
    const char *name, *second; /* "eval ppl" is two words */
    const char *title, *summary, *usage;
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

/* Flags beside the commands. */
enum {
    LAUNCH_PER_RANK = 1 << 16, /* may differ between ranks */
    LAUNCH_LISTED = 1 << 17,   /* eval, bench: several values, divided by commas */
    LAUNCH_PLACE = 1 << 18 /* where to, how shown or how fast: the figures do not depend on it */
};

extern const launch_command_row launch_command_table[];
extern const size_t launch_command_count;
extern const launch_option_row launch_option_table[];
extern const size_t launch_option_count;

#define LAUNCH_COMMAND_LIST "run, compare, eval, bench, plan, tokenize, detokenize, inspect, report"
#define LAUNCH_MOST 1e12 /* of counts and tokens; what they ask for is checked where it is known */

/* Whether options of a command may be typed as lists: its figures come in rows, one a setting. */
static inline bool launch_takes_lists(launch_command command) {
    return command == LAUNCH_EVAL || command == LAUNCH_BENCH;
}

/* How the option is typed: "-n" or "--top-k". */
#define LAUNCH_LABEL 32
const char *launch_option_label(char label[LAUNCH_LABEL], const launch_option_row *row);

/* Every option of a command as it stands when nothing is typed; kv_type, which follows the backend, is NULL. */
void launch_options_default(launch_options *opt, const launch_command_row *command);
/* How keys and values are kept where it is not typed. */
const char *launch_kv_type(const char *backend);

/* ---- values.c ---- */

/* NULL: commands of that scope know no such option. */
const launch_option_row *launch_option_find(const char *name, int scope);
/* The field becomes what word says; RADAR_ERR_USAGE (RADAR_ERR_CONFIG: known, not built) where it cannot.  Texts and choices point to word. */
radar_status launch_option_set(launch_options *opt, const launch_option_row *row, const char *word,
                               radar_error *err);
void launch_option_copy(launch_options *to, const launch_options *from,
                        const launch_option_row *row);
/* The value, or the list, as it would be typed; "" when unset. */
void launch_option_text(const launch_options *opt, const launch_option_row *row, char *text,
                        size_t bytes);
size_t launch_option_room(const launch_options *opt,
                          const launch_option_row *row); /* bytes that hold it */

#endif
