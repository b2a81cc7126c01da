#include "launch/args.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/options.h"

static const char *const planned[] = {"chat", "bench", "batch", "plan"};

enum { DECODES = LAUNCH_RUN | LAUNCH_EVAL | LAUNCH_COMPARE, READS = DECODES | LAUNCH_TOKENIZE };

/* ---- words that were not found: the nearest that exists ---- */

enum { LONGEST_WORD = 40 };

static int least(int a, int b) { return a < b ? a : b; }

/* Edits (insert, delete, replace) between two words; long ones count as far apart. */
static int distance(const char *a, const char *b) {
    const int n = (int)strlen(a), m = (int)strlen(b);
    int row[LONGEST_WORD + 1];
    if (n > LONGEST_WORD || m > LONGEST_WORD) return LONGEST_WORD;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            const int replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

static const char *nearest_option(const char *word, launch_command command) {
    const char *best = "help";
    int least_edits = LONGEST_WORD;
    for (size_t i = 0; i < launch_option_count; i++) {
        if (!(launch_option_table[i].in & (int)command)) continue;
        int d = distance(word, launch_option_table[i].name);
        if (strncmp(word, launch_option_table[i].name, strlen(launch_option_table[i].name)) == 0)
            d = 1; /* --ctx-size means --ctx */
        if (d < least_edits) least_edits = d, best = launch_option_table[i].name;
    }
    return best;
}

static const char *nearest_command(const char *word) {
    const char *best = launch_command_table[0].name;
    int least_edits = LONGEST_WORD;
    for (size_t i = 0; i < launch_command_count; i++) {
        const int d = distance(word, launch_command_table[i].name);
        if (d < least_edits) least_edits = d, best = launch_command_table[i].name;
    }
    return best;
}

/* ---- values ---- */

/* Whether "a|b|c" holds word. */
static bool listed(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list; at != NULL && n > 0;) {
        const char *end = strchr(at, '|');
        const size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
        if (length == n && memcmp(at, word, n) == 0) return true;
        at = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static radar_status set_choice(const launch_option_row *row, const char **to, const char *word,
                               radar_error *err) {
    char label[LAUNCH_LABEL];
    if (listed(row->later, word))
        return radar_fail(err, RADAR_ERR_CONFIG, "%s %s: not built in this version; use one of %s",
                          launch_option_label(label, row), word, row->choices);
    if (!listed(row->choices, word))
        return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': not known; use one of %s",
                          launch_option_label(label, row), word, row->choices);
    *to = word;
    return RADAR_OK;
}

static radar_status bad_number(const launch_option_row *row, const char *word, radar_error *err) {
    char label[LAUNCH_LABEL];
    const char *lead = row->choices != NULL ? "auto or " : "";
    if (row->high < LAUNCH_MOST)
        return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': must be %sa number from %g to %g",
                          launch_option_label(label, row), word, lead, row->low, row->high);
    return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': must be %sa whole number from %g up",
                      launch_option_label(label, row), word, lead, row->low);
}

static radar_status set_integer(const launch_option_row *row, int64_t *to, const char *word,
                                radar_error *err) {
    if (row->choices != NULL && strcmp(word, row->choices) == 0) {
        *to = LAUNCH_AUTO;
        return RADAR_OK;
    }
    char *end;
    errno = 0;
    const long long v = strtoll(word, &end, 10);
    if (end == word || *end != 0 || errno != 0 || (double)v < row->low || (double)v > row->high)
        return bad_number(row, word, err);
    *to = v;
    return RADAR_OK;
}

static radar_status set_real(const launch_option_row *row, double *to, const char *word,
                             radar_error *err) {
    char *end;
    errno = 0;
    const double v = strtod(word, &end);
    if (end == word || *end != 0 || !isfinite(v) || v < row->low || v > row->high)
        return bad_number(row, word, err);
    *to = v;
    return RADAR_OK;
}

static radar_status set_seed(const launch_option_row *row, uint64_t *to, const char *word,
                             radar_error *err) {
    char label[LAUNCH_LABEL];
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(word, &end, 10);
    if (end == word || *end != 0 || errno != 0 || word[0] == '-' || word[0] == '+')
        return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': must be a whole number from 0 to 2^64-1",
                          launch_option_label(label, row), word);
    *to = v;
    return RADAR_OK;
}

static radar_status set_value(launch_options *opt, const launch_option_row *row, const char *word,
                              radar_error *err) {
    void *to = (char *)opt + row->offset;
    switch (row->kind) {
    case LAUNCH_HEADING:
        break;
    case LAUNCH_TEXT:
        *(const char **)to = word;
        return RADAR_OK;
    case LAUNCH_CHOICE:
        return set_choice(row, to, word, err);
    case LAUNCH_SWITCH:
        *(bool *)to = true;
        return RADAR_OK;
    case LAUNCH_NUMBER:
        return set_integer(row, to, word, err);
    case LAUNCH_REAL:
        return set_real(row, to, word, err);
    case LAUNCH_SEED:
        return set_seed(row, to, word, err);
    }
    return RADAR_OK;
}

/* ---- what does not go together ---- */

static radar_status check_input(const launch_options *o, radar_error *err) {
    const int given = (o->prompt != NULL) + (o->file != NULL) + (o->ids != NULL);
    if (o->model == NULL)
        return radar_fail(err, RADAR_ERR_USAGE, "-m MODEL is missing: %s needs a model",
                          launch_command_name(o->command));
    if (given > 1)
        return radar_fail(err, RADAR_ERR_USAGE, "-p, -f and --ids exclude each other: give one");
    if (given == 0 && ((int)o->command & READS))
        return radar_fail(err, RADAR_ERR_USAGE, "%s has no input: give -p TEXT%s",
                          launch_command_name(o->command),
                          (int)o->command & DECODES ? ", -f FILE or --ids FILE" : " or -f FILE");
    if (o->prompt != NULL && o->prompt[0] == 0)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "-p: the prompt is empty; give at least one character");
    if (o->ids != NULL && (o->chat || o->no_special))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--ids and %s exclude each other: ids are taken as they are",
                          o->chat ? "--chat" : "--no-special");
    if (o->chat_template != NULL && !o->chat)
        return radar_fail(err, RADAR_ERR_USAGE, "--chat-template is of no use without --chat");
    return RADAR_OK;
}

static radar_status check_together(const launch_options *o, radar_error *err) {
    if (o->command == LAUNCH_REPORT)
        return o->folder != NULL ? RADAR_OK
                                 : radar_fail(err, RADAR_ERR_USAGE,
                                              "report of what? radar report DIR: the folder that "
                                              "radar eval --out wrote");
    const radar_status st = check_input(o, err);
    if (st != RADAR_OK) return st;
    if (o->segments != LAUNCH_UNSET && o->budget != LAUNCH_AUTO)
        return radar_fail(
            err, RADAR_ERR_USAGE,
            "--segments and --budget exclude each other: a segment is 16 tokens of budget");
    if ((o->shards & (o->shards - 1)) != 0)
        return radar_fail(err, RADAR_ERR_USAGE, "--shards %lld: must be a power of two up to 64",
                          (long long)o->shards);
    if (o->stripe % 64 != 0)
        return radar_fail(err, RADAR_ERR_USAGE, "--stripe %lld: must be a multiple of 64, say %lld",
                          (long long)o->stripe, (long long)(o->stripe / 64 * 64 + 64));
    if (o->command == LAUNCH_COMPARE && o->n < 1)
        return radar_fail(err, RADAR_ERR_USAGE, "-n %lld: compare decodes at least one token",
                          (long long)o->n);
    if (o->command == LAUNCH_COMPARE && strcmp(o->attention, "dense") == 0)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--attention dense: compare sets another attention beside dense");
    if (o->logits != NULL && o->nll != NULL && strcmp(o->logits, o->nll) == 0)
        return radar_fail(err, RADAR_ERR_USAGE, "--logits and --nll name the same file: %s",
                          o->nll);
    return RADAR_OK;
}

/* ---- parsing ---- */

/* *words: how many of argv name the command. */
static radar_status find_command(const launch_command_row **out, int *words, int argc, char **argv,
                                 radar_error *err) {
    *out = NULL;
    *words = 1;
    if (argc < 2)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "no command: one of " LAUNCH_COMMAND_LIST "; radar -h explains");
    const char *word = argv[1];
    for (size_t i = 0; i < sizeof planned / sizeof planned[0]; i++)
        if (strcmp(word, planned[i]) == 0)
            return radar_fail(err, RADAR_ERR_USAGE,
                              "%s is not built in this version; there are " LAUNCH_COMMAND_LIST,
                              word);
    for (size_t i = 0; i < launch_command_count; i++) {
        if (strcmp(word, launch_command_table[i].name) != 0) continue;
        const bool asks_help =
            argc > 2 && (strcmp(argv[2], "-h") == 0 || strcmp(argv[2], "--help") == 0);
        const bool second = argc > 2 && launch_command_table[i].second != NULL &&
                            strcmp(argv[2], launch_command_table[i].second) == 0;
        if (launch_command_table[i].second != NULL && !second && !asks_help)
            return radar_fail(err, RADAR_ERR_USAGE, "%s what? There is: radar %s %s", word, word,
                              launch_command_table[i].second);
        *out = &launch_command_table[i];
        *words = second ? 2 : 1;
        return RADAR_OK;
    }
    return radar_fail(err, RADAR_ERR_USAGE,
                      "unknown command '%s': did you mean %s? There are " LAUNCH_COMMAND_LIST, word,
                      nearest_command(word));
}

/* getopt's two lists, for one command.  val of a long option = its row + 256. */
typedef struct getopt_lists {
    struct option long_list[LAUNCH_OPTIONS_MOST];
    char short_list[3 * LAUNCH_OPTIONS_MOST];
} getopt_lists;

static void make_lists(getopt_lists *g, launch_command command) {
    char *at = g->short_list;
    size_t n = 0;
    *at++ = ':'; /* a missing value is told from an unknown option */
    for (size_t i = 0; i < launch_option_count; i++) {
        const launch_option_row *row = &launch_option_table[i];
        if (!(row->in & (int)command)) continue;
        const int has = row->kind == LAUNCH_SWITCH ? no_argument : required_argument;
        g->long_list[n++] = (struct option){row->name, has, NULL, 256 + (int)i};
        if (row->letter == 0) continue;
        *at++ = row->letter;
        if (row->kind != LAUNCH_SWITCH) *at++ = ':';
    }
    g->long_list[n] = (struct option){0};
    *at = 0;
}

static const launch_option_row *row_of(int got) {
    if (got >= 256) return &launch_option_table[got - 256];
    for (size_t i = 0; i < launch_option_count; i++)
        if (launch_option_table[i].letter == (char)got) return &launch_option_table[i];
    return NULL;
}

static radar_status bad_option(int got, const char *word, launch_command command,
                               radar_error *err) {
    const char *name = launch_command_name(command);
    if (got == ':')
        return radar_fail(err, RADAR_ERR_USAGE, "%s: a value must follow; radar %s -h lists all",
                          word, name);
    if (word[0] != '-' || word[1] != '-')
        return radar_fail(err, RADAR_ERR_USAGE, "unknown option -%c; radar %s -h lists all", optopt,
                          name);
    char head[LONGEST_WORD + 1];
    snprintf(head, sizeof head, "%s", word + 2);
    head[strcspn(head, "=")] = 0;
    if (optopt >= 256) return radar_fail(err, RADAR_ERR_USAGE, "--%s takes no value", head);
    return radar_fail(err, RADAR_ERR_USAGE,
                      "unknown option --%s: did you mean --%s? radar %s -h lists all", head,
                      nearest_option(head, command), name);
}

static radar_status parse_options(launch_options *opt, int argc, char **argv, radar_error *err) {
    getopt_lists lists;
    make_lists(&lists, opt->command);
    opterr = 0;
    optind = 0; /* glibc: start afresh */
    for (int got; (got = getopt_long(argc, argv, lists.short_list, lists.long_list, NULL)) != -1;) {
        if (got == '?' || got == ':') return bad_option(got, argv[optind - 1], opt->command, err);
        const launch_option_row *row = row_of(got);
        if (row->letter == 'h') {
            opt->help_of = opt->command;
            opt->command = LAUNCH_HELP;
            return RADAR_OK;
        }
        const radar_status st = set_value(opt, row, optarg, err);
        if (st != RADAR_OK) return st;
    }
    if (optind < argc && opt->command == LAUNCH_REPORT) opt->folder = argv[optind++];
    if (optind < argc)
        return radar_fail(err, RADAR_ERR_USAGE, "unexpected '%s': a prompt is given with -p or -f",
                          argv[optind]);
    return check_together(opt, err);
}

radar_status launch_args_parse(launch_options *opt, int argc, char **argv, radar_error *err) {
    launch_options_default(opt, LAUNCH_HELP);
    opt->help_of = 0;
    if (argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0 ||
                     strcmp(argv[1], "help") == 0))
        return RADAR_OK;
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        opt->command = LAUNCH_VERSION;
        return RADAR_OK;
    }
    const launch_command_row *command;
    int words;
    const radar_status st = find_command(&command, &words, argc, argv, err);
    if (st != RADAR_OK) return st;
    launch_options_default(opt, command->command);
    return parse_options(opt, argc - words, argv + words, err);
}
