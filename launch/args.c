#include "launch/args.h"

#include <getopt.h>
#include <string.h>

#include "launch/options.h"

static const char *const planned[] = {"chat", "batch"};

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

/* NULL: none of them is near, half of the word would be another. */
static const char *nearest_option(const char *word, int scope) {
    const char *best = NULL;
    int least_edits = (int)strlen(word) / 2 + 1;
    for (size_t i = 0; i < launch_option_count; i++) {
        if (!(launch_option_table[i].in & scope)) continue;
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

/* ---- what does not go together ---- */

static bool typed(const launch_options *o, const char *name) {
    const launch_option_row *row = launch_option_find(name, o->scope);
    return row != NULL && o->origin[row - launch_option_table] == LAUNCH_BY_HAND;
}

static radar_status check_input(const launch_options *o, radar_error *err) {
    const int given = (o->prompt != NULL) + (o->file != NULL) + (o->ids != NULL);
    if (o->model == NULL)
        return radar_fail(err, RADAR_ERR_USAGE, "-m MODEL is missing: %s needs a model", o->title);
    if (given > 1)
        return radar_fail(err, RADAR_ERR_USAGE, "-p, -f and --ids exclude each other: give one");
    if (given == 0 && ((int)o->command & READS & ~LAUNCH_EVAL))
        return radar_fail(err, RADAR_ERR_USAGE, "%s has no input: give -p TEXT%s", o->title,
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

radar_status launch_args_check(const launch_options *o, radar_error *err) {
    if (o->command == LAUNCH_REPORT)
        return o->folder != NULL ? RADAR_OK
                                 : radar_fail(err, RADAR_ERR_USAGE,
                                              "report of what? radar report DIR: the folder that "
                                              "radar eval --out wrote");
    const radar_status st = check_input(o, err);
    if (st != RADAR_OK) return st;
    if (typed(o, "segments") && typed(o, "budget"))
        return radar_fail(
            err, RADAR_ERR_USAGE,
            "--segments and --budget exclude each other: a segment is 16 tokens of budget");
    if (o->command == LAUNCH_EVAL && typed(o, "from") && typed(o, "tail"))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--from and --tail exclude each other: both say where scoring begins");
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

/* "eval ppl, eval needle, ...": the commands of two words that begin with name. */
static void second_words(char *list, size_t bytes, const char *name) {
    size_t used = 0;
    list[0] = 0;
    for (size_t i = 0; i < launch_command_count; i++) {
        const launch_command_row *row = &launch_command_table[i];
        if (strcmp(row->name, name) != 0 || used >= bytes) continue;
        used +=
            (size_t)snprintf(list + used, bytes - used, "%s%s", used > 0 ? ", " : "", row->title);
    }
}

static const char *nearest_second(const char *name, const char *word) {
    const char *best = NULL;
    int least_edits = LONGEST_WORD + 1;
    for (size_t i = 0; i < launch_command_count; i++) {
        const launch_command_row *row = &launch_command_table[i];
        if (strcmp(row->name, name) != 0) continue;
        const int d = distance(word, row->second);
        if (d < least_edits) least_edits = d, best = row->second;
    }
    return best;
}

static bool asks_help(const char *word) {
    return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0;
}

static radar_status find_second(const launch_command_row **out, int argc, char **argv,
                                radar_error *err) {
    char list[256];
    const char *name = argv[1], *word = argc > 2 ? argv[2] : "";
    second_words(list, sizeof list, name);
    for (size_t i = 0; i < launch_command_count; i++) {
        const launch_command_row *row = &launch_command_table[i];
        if (strcmp(row->name, name) != 0 || strcmp(row->second, word) != 0) continue;
        *out = row;
        return RADAR_OK;
    }
    if (word[0] == 0 || word[0] == '-')
        return radar_fail(err, RADAR_ERR_USAGE, "%s what? There are %s", name, list);
    return radar_fail(err, RADAR_ERR_USAGE, "%s %s: not known; did you mean %s? There are %s", name,
                      word, nearest_second(name, word), list);
}

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
        *words = launch_command_table[i].second != NULL ? 2 : 1;
        if (*words == 2) return find_second(out, argc, argv, err);
        *out = &launch_command_table[i];
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

static void make_lists(getopt_lists *g, int scope) {
    char *at = g->short_list;
    size_t n = 0;
    *at++ = ':'; /* a missing value is told from an unknown option */
    for (size_t i = 0; i < launch_option_count; i++) {
        const launch_option_row *row = &launch_option_table[i];
        if (!(row->in & scope)) continue;
        const int has = row->kind == LAUNCH_SWITCH ? no_argument : required_argument;
        g->long_list[n++] = (struct option){row->name, has, NULL, 256 + (int)i};
        if (row->letter == 0) continue;
        *at++ = row->letter;
        if (row->kind != LAUNCH_SWITCH) *at++ = ':';
    }
    g->long_list[n] = (struct option){0};
    *at = 0;
}

static const launch_option_row *row_of(int got, int scope) {
    if (got >= 256) return &launch_option_table[got - 256];
    for (size_t i = 0; i < launch_option_count; i++)
        if (launch_option_table[i].letter == (char)got && (launch_option_table[i].in & scope) != 0)
            return &launch_option_table[i];
    return NULL;
}

static radar_status bad_option(int got, const char *word, const launch_options *o,
                               radar_error *err) {
    if (got == ':')
        return radar_fail(err, RADAR_ERR_USAGE, "%s: a value must follow; radar %s -h lists all",
                          word, o->title);
    if (word[0] != '-' || word[1] != '-')
        return radar_fail(err, RADAR_ERR_USAGE, "unknown option -%c; radar %s -h lists all", optopt,
                          o->title);
    char head[LONGEST_WORD + 1];
    snprintf(head, sizeof head, "%s", word + 2);
    head[strcspn(head, "=")] = 0;
    if (optopt >= 256) return radar_fail(err, RADAR_ERR_USAGE, "--%s takes no value", head);
    const char *near = nearest_option(head, o->scope);
    return radar_fail(err, RADAR_ERR_USAGE, "unknown option --%s%s%s%s radar %s -h lists all", head,
                      near != NULL ? ": did you mean --" : ";", near != NULL ? near : "",
                      near != NULL ? "?" : "", o->title);
}

/* One value, or where the option takes several in a sweep all of them: each is checked, the last is left in the field. */
static radar_status take_value(launch_options *opt, const launch_option_row *row, char *word,
                               radar_error *err) {
    launch_list *list = &opt->list[row - launch_option_table];
    *list = (launch_list){0};
    opt->origin[row - launch_option_table] = LAUNCH_BY_HAND;
    const bool listed = launch_takes_lists(opt->command) && (row->in & LAUNCH_LISTED) != 0;
    if (!listed || strchr(word, ',') == NULL) return launch_option_set(opt, row, word, err);
    list->first = word;
    for (char *comma; word != NULL; word = comma) {
        comma = strchr(word, ',');
        if (comma != NULL) *comma++ = 0;
        const radar_status st = launch_option_set(opt, row, word, err);
        if (st != RADAR_OK) return st;
        list->n++;
    }
    return RADAR_OK;
}

static radar_status parse_options(launch_options *opt, int argc, char **argv, radar_error *err) {
    getopt_lists lists;
    make_lists(&lists, opt->scope);
    opterr = 0;
    optind = 0; /* glibc: start afresh */
    for (int got; (got = getopt_long(argc, argv, lists.short_list, lists.long_list, NULL)) != -1;) {
        if (got == '?' || got == ':') return bad_option(got, argv[optind - 1], opt, err);
        const launch_option_row *row = row_of(got, opt->scope);
        if (row->letter == 'h') {
            opt->help_of = opt->command;
            opt->command = LAUNCH_HELP;
            return RADAR_OK;
        }
        const radar_status st = take_value(opt, row, optarg, err);
        if (st != RADAR_OK) return st;
    }
    if (optind < argc && opt->command == LAUNCH_REPORT) opt->folder = argv[optind++];
    if (optind < argc)
        return radar_fail(err, RADAR_ERR_USAGE, "unexpected '%s': a prompt is given with -p or -f",
                          argv[optind]);
    if (opt->kv_type == NULL) opt->kv_type = launch_kv_type(opt->backend);
    return launch_args_check(opt, err);
}

radar_status launch_args_parse(launch_options *opt, int argc, char **argv, radar_error *err) {
    *opt = (launch_options){.command = LAUNCH_HELP, .scope = LAUNCH_HELP, .title = "help"};
    if (argc > 1 && (asks_help(argv[1]) || strcmp(argv[1], "help") == 0)) return RADAR_OK;
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        opt->command = LAUNCH_VERSION;
        return RADAR_OK;
    }
    if (argc > 2 && strcmp(argv[1], "eval") == 0 && asks_help(argv[2])) return RADAR_OK;
    const launch_command_row *command;
    int words;
    const radar_status st = find_command(&command, &words, argc, argv, err);
    if (st != RADAR_OK) return st;
    launch_options_default(opt, command);
    return parse_options(opt, argc - words, argv + words, err);
}
