#include "launch/options.h"

#include <string.h>

#include "launch/report/page.h"
#include "runtime/radar.h"
#include "runtime/sys.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

const launch_command_row launch_command_table[] = {
    {LAUNCH_RUN, "run", NULL, "continue a prompt",
     "-m MODEL (-p TEXT | -f FILE | --ids FILE) [options]"},
    {LAUNCH_COMPARE, "compare", NULL,
     "prefill once, then measure --attention and dense side by side",
     "-m MODEL (-f FILE | -p TEXT | --ids FILE) [-q QUESTION] [options]"},
    {LAUNCH_EVAL, "eval", "ppl", "loss of every token of a text",
     "-m MODEL (-f FILE | -p TEXT | --ids FILE) [options]"},
    {LAUNCH_TOKENIZE, "tokenize", NULL, "text to token ids, a JSON array",
     "-m MODEL (-p TEXT | -f FILE) [options]"},
    {LAUNCH_DETOKENIZE, "detokenize", NULL, "token ids to the bytes they spell",
     "-m MODEL [--ids FILE]"},
    {LAUNCH_INSPECT, "inspect", NULL, "what is in a model file", "-m MODEL [--json]"},
    {LAUNCH_REPORT, "report", NULL, "one page of pictures from the rows of radar eval",
     "DIR [-o FILE] [--svg NAME]"},
};
const size_t launch_command_count = COUNT(launch_command_table);

enum {
    RUN = LAUNCH_RUN,
    EVAL = LAUNCH_EVAL,
    COMPARE = LAUNCH_COMPARE,
    TOKENIZE = LAUNCH_TOKENIZE,
    DETOKENIZE = LAUNCH_DETOKENIZE,
    INSPECT = LAUNCH_INSPECT,
    REPORT = LAUNCH_REPORT,
    DECODES = RUN | EVAL | COMPARE,
    READS = DECODES | TOKENIZE,
    ALL = READS | DETOKENIZE | INSPECT
};

#define ROW(kind, name, letter, member, in, value, low, high, choices, later, unset, help) \
    { \
        kind, name, letter, offsetof(launch_options, member), in, value, low, high, choices, \
            later, unset, help \
    }
#define HEADING(text) \
    { LAUNCH_HEADING, text, 0, 0, 0, NULL, 0, 0, NULL, NULL, NULL, NULL }
#define STRING(name, letter, member, in, value, unset, help) \
    ROW(LAUNCH_TEXT, name, letter, member, in, value, 0, 0, NULL, NULL, unset, help)
#define CHOICE(name, member, in, choices, later, unset, help) \
    ROW(LAUNCH_CHOICE, name, 0, member, in, choices, 0, 0, choices, later, unset, help)
#define SWITCH(name, member, in, help) \
    ROW(LAUNCH_SWITCH, name, 0, member, in, NULL, 0, 0, NULL, NULL, NULL, help)
#define NUMBER(name, letter, member, in, low, high, unset, help) \
    ROW(LAUNCH_NUMBER, name, letter, member, in, "N", low, high, NULL, NULL, unset, help)
#define OR_AUTO(name, member, in, low, help) \
    ROW(LAUNCH_NUMBER, name, 0, member, in, "auto|N", low, LAUNCH_MOST, "auto", NULL, NULL, help)
#define REAL(name, member, in, low, high, help) \
    ROW(LAUNCH_REAL, name, 0, member, in, "X", low, high, NULL, NULL, NULL, help)
#define SEED(name, letter, member, in, help) \
    ROW(LAUNCH_SEED, name, letter, member, in, "N", 0, 0, NULL, NULL, NULL, help)

const launch_option_row launch_option_table[] = {
    HEADING("Model and input"),
    STRING("model", 'm', model, ALL | LAUNCH_PER_RANK, "MODEL", NULL,
           "a .gguf file, its first shard, a directory with config.json and safetensors, or a repo "
           "id in the Hugging Face cache"),
    STRING("tokenizer", 0, tokenizer, ALL, "FILE", "the model's own", "a tokenizer.json"),
    STRING("prompt", 'p', prompt, READS, "TEXT", NULL, "the text"),
    STRING("file", 'f', file, READS, "FILE", NULL,
           "the text, from a file as it is; - is standard input"),
    STRING("ids", 0, ids, DECODES | DETOKENIZE, "FILE", NULL,
           "token ids: a JSON array, or raw little-endian u32 when the name ends in .u32; - is "
           "standard input"),
    STRING("question", 'q', question, COMPARE, "TEXT", NULL,
           "follows the text; then the answer is decoded"),
    SWITCH("no-special", no_special, READS, "special tokens spelled in the text are plain text"),
    SWITCH("chat", chat, RUN, "wrap the text in the model's chat template, as one user message"),
    STRING("chat-template", 0, chat_template, RUN, "NAME", "recognised",
           "the template: chatml, llama3, llama2, mistral, zephyr"),
    HEADING("Output"),
    SWITCH("json", json, DECODES | INSPECT, "one JSON object on standard output (seconds, bytes)"),
    STRING("logits", 0, logits, RUN | EVAL, "FILE", NULL,
           "f32 [tokens, vocab]: what each token was drawn from (run), of each scored position "
           "(eval)"),
    STRING("nll", 0, nll, EVAL, "FILE", NULL,
           "f32 per scored position: the loss of the token after it, in nats"),
    STRING("output", 'o', output, REPORT, "FILE", "report.html",
           "the page, or the picture; - is standard output"),
    STRING("svg", 0, svg, REPORT, "NAME", "the whole page",
           "one picture alone, as SVG on white: " REPORT_FIGURES),
    SWITCH("quiet", quiet, ALL | REPORT, "only errors on standard error"),
    HEADING("Generation"),
    NUMBER("predict", 'n', n, RUN | COMPARE, -1, LAUNCH_MOST, NULL,
           "tokens to generate; -1: until the context is full"),
    SWITCH("ignore-eos", ignore_eos, RUN, "go on behind an end-of-text token"),
    SEED("seed", 's', seed, RUN | COMPARE, "of the sampler"),
    REAL("temp", temperature, RUN | COMPARE, 0, 1000, "temperature; 0: greedy"),
    NUMBER("top-k", 0, top_k, RUN | COMPARE, 0, LAUNCH_MOST, NULL,
           "sample among the N likeliest tokens; 0: all"),
    REAL("top-p", top_p, RUN | COMPARE, 1e-9, 1,
         "among the likeliest that hold this share; 1: all"),
    REAL("min-p", min_p, RUN | COMPARE, 0, 1,
         "among those with at least this share of the likeliest; 0: all"),
    HEADING("Evaluation"),
    NUMBER("from", 0, from, EVAL, 0, LAUNCH_MOST, "0 for dense, 2048 for the others",
           "[0, N) is prefilled densely; positions N .. tokens-2 are computed under --attention, "
           "and the loss of the token after each is scored"),
    NUMBER("tail", 0, tail, COMPARE, 2, LAUNCH_MOST, NULL,
           "the last N tokens of the text are not prefilled but scored under each attention"),
    HEADING("Attention"),
    CHOICE("preset", preset, DECODES, "quest|paper|code", NULL, NULL,
           "settings of a publication: quest: --scorer minmax; paper, code: Radar as published and "
           "as its authors' code "
           "runs; options typed beside it win"),
    CHOICE("attention", attention, DECODES, "radar|dense|streaming|h2o|snapkv|subgen|paper|code",
           NULL, NULL, "which tokens a decode step reads"),
    CHOICE("scorer", scorer, DECODES, "sketch|mean|outlier|minmax|rf|exact", NULL, NULL,
           "radar: how segments are scored"),
    OR_AUTO(
        "budget", budget, DECODES, 1,
        "tokens of chosen segments per query head; auto: 512, from 65536 tokens of context 1024"),
    NUMBER("segments", 0, segments, DECODES, 1, LAUNCH_MOST, "max(8, budget / 16)",
           "chosen segments per query head, instead of --budget"),
    OR_AUTO("segment", segment, DECODES, 16,
            "tokens of a segment, a power of two up to the stripe (mean, rf); auto: nearest "
            "sqrt(t) / 4"),
    OR_AUTO("dense-below", dense_below, DECODES, 0,
            "tokens of context below which everything is read; auto: where choosing reads no less; "
            "0: never"),
    NUMBER("window", 0, window, DECODES, 1, LAUNCH_MOST, NULL, "latest tokens, always read"),
    NUMBER("sinks", 0, sinks, DECODES, 0, LAUNCH_MOST, NULL, "first tokens, always read"),
    CHOICE("share", share, DECODES, "group|head", NULL, NULL,
           "group: the heads of a KV head read the union of their lists; head: each its own"),
    CHOICE("pick", pick, DECODES, "top|bottom|random|last", NULL, NULL,
           "which segments of the ranking"),
    SWITCH("restream", restream, DECODES, "streaming: positions counted within what is kept"),
    NUMBER("observe", 0, observe, DECODES, 1, 64, NULL,
           "snapkv: last queries of the prompt that vote"),
    CHOICE("select", select, DECODES, "global|local", NULL, NULL,
           "global: the best of the context; local: the best of each shard"),
    NUMBER("rf-features", 0, rf_features, DECODES, 1, 1048576, "16 per dimension of a head",
           "random directions of --scorer rf"),
    CHOICE("rf-form", rf_form, DECODES, "plain|pair", NULL, NULL,
           "one feature per direction, or one each way"),
    SWITCH("rf-center", rf_center, DECODES,
           "features of the keys' distance from their block's mean"),
    REAL("rf-temper", rf_temper, DECODES, 1e-6, 1, "rank by the mass of X times the logits"),
    NUMBER("sketch-bits", 0, sketch_bits, DECODES, 1, 4, NULL,
           "bits a dimension of --scorer sketch: 1, 2 or 4"),
    NUMBER("outliers", 0, outliers, DECODES, 1, 7, NULL,
           "keys that --scorer outlier keeps beside the mean of the rest"),
    SEED("scorer-seed", 0, scorer_seed, DECODES,
         "of the scorer's signs and directions, of --pick random and of subgen's samples"),
    HEADING("Machine"),
    NUMBER("ctx", 'c', context, DECODES, 0, LAUNCH_MOST, "what the job needs",
           "tokens of KV capacity; 0: the model's context"),
    NUMBER("threads", 't', threads, ALL | LAUNCH_PER_RANK, 0, 4096, NULL,
           "threads per rank; 0: the cores the rank may use"),
    CHOICE("backend", backend, DECODES, "auto|cpu", "cuda", NULL, "where it is computed"),
    CHOICE("precision", precision, DECODES, "fast|exact", NULL, NULL,
           "fast: activations may be rounded per block; exact: f32 activations, exact weights"),
    CHOICE("kv-type", kv_type, DECODES, "f32|f16|bf16", "q8|fp8", NULL,
           "how keys and values are kept"),
    CHOICE("isa", isa, DECODES, "plain|avx512", NULL, "the best there is",
           "instruction set (diagnostics)"),
    NUMBER("shards", 0, shards, DECODES, 1, 64, NULL,
           "pieces the work is cut into, a power of two, at least the ranks"),
    NUMBER("stripe", 0, stripe, DECODES, 64, 1048576, NULL,
           "tokens dealt to a shard at a time, a multiple of 64"),
    NUMBER("chunk", 0, chunk, DECODES, 1, 4096, NULL, "tokens of one pass of prefill"),
    {LAUNCH_SWITCH, "help", 'h', 0, ALL | REPORT, NULL, 0, 0, NULL, NULL, NULL, "this text"},
};
const size_t launch_option_count = COUNT(launch_option_table);
_Static_assert(COUNT(launch_option_table) < LAUNCH_OPTIONS_MOST, "getopt's lists have room");

void launch_options_default(launch_options *o, launch_command command) {
    *o = (launch_options){.command = command,
                          .n = 128,
                          .temperature = 0.8,
                          .top_p = 0.95,
                          .min_p = 0.05,
                          .top_k = 40,
                          .seed = 1};
    o->backend = "auto", o->precision = "fast", o->kv_type = "f16";
    o->attention = "radar", o->scorer = "sketch", o->share = "group", o->pick = "top",
    o->select = "global", o->rf_form = "plain";
    o->budget = o->dense_below = LAUNCH_AUTO;
    o->segments = o->rf_features = o->from = o->context = LAUNCH_UNSET;
    o->window = 256, o->sinks = 4, o->scorer_seed = 1, o->segment = 16;
    o->sketch_bits = 2, o->outliers = 3, o->observe = 32, o->rf_temper = 1;
    o->shards = 8, o->stripe = 256, o->chunk = 512, o->tail = 256;
    if (command == LAUNCH_COMPARE) o->n = 64, o->temperature = 0;
}

const char *launch_command_name(launch_command command) {
    for (size_t i = 0; i < launch_command_count; i++)
        if (launch_command_table[i].command == command)
            return launch_command_table[i].second != NULL ? "eval ppl"
                                                          : launch_command_table[i].name;
    return "radar";
}

const char *launch_option_label(char label[LAUNCH_LABEL], const launch_option_row *row) {
    if (row->letter != 0)
        snprintf(label, LAUNCH_LABEL, "-%c", row->letter);
    else
        snprintf(label, LAUNCH_LABEL, "--%s", row->name);
    return label;
}

/* The value as it would be typed; "" when unset. */
static void value_text(const launch_options *opt, const launch_option_row *row, char *text,
                       size_t bytes) {
    const void *from = (const char *)opt + row->offset;
    text[0] = 0;
    switch (row->kind) {
    case LAUNCH_HEADING:
        break;
    case LAUNCH_TEXT:
    case LAUNCH_CHOICE:
        if (*(const char *const *)from != NULL)
            snprintf(text, bytes, "%s", *(const char *const *)from);
        break;
    case LAUNCH_SWITCH:
        snprintf(text, bytes, "%s", *(const bool *)from ? "on" : "");
        break;
    case LAUNCH_NUMBER:
        if (*(const int64_t *)from == LAUNCH_AUTO && row->choices != NULL)
            snprintf(text, bytes, "auto");
        else if (*(const int64_t *)from != LAUNCH_UNSET)
            snprintf(text, bytes, "%lld", (long long)*(const int64_t *)from);
        break;
    case LAUNCH_REAL:
        snprintf(text, bytes, "%.9g", *(const double *)from);
        break;
    case LAUNCH_SEED:
        snprintf(text, bytes, "%llu", (unsigned long long)*(const uint64_t *)from);
        break;
    }
}

static bool must_agree(const launch_options *opt, const launch_option_row *row) {
    return (row->in & (int)opt->command) != 0 && (row->in & LAUNCH_PER_RANK) == 0 &&
           row->letter != 'h';
}

static size_t entry_bytes(const launch_options *opt, const launch_option_row *row) {
    enum { NUMBER = 32 };
    const char *word = row->kind == LAUNCH_TEXT || row->kind == LAUNCH_CHOICE
                           ? *(const char *const *)((const char *)opt + row->offset)
                           : NULL;
    return strlen(row->name) + 2 + (word != NULL ? strlen(word) : NUMBER);
}

char *launch_args_text(const launch_options *opt, size_t *bytes) {
    size_t room = 64;
    for (size_t i = 0; i < launch_option_count; i++)
        if (must_agree(opt, &launch_option_table[i]))
            room += entry_bytes(opt, &launch_option_table[i]);
    char *text = radar_alloc(room);
    if (text == NULL) return NULL;
    size_t used = (size_t)snprintf(text, room, "radar " RADAR_VERSION "=%s",
                                   launch_command_name(opt->command)) +
                  1;
    for (size_t i = 0; i < launch_option_count; i++) {
        if (!must_agree(opt, &launch_option_table[i])) continue;
        char label[LAUNCH_LABEL];
        used += (size_t)snprintf(text + used, room - used,
                                 "%s=", launch_option_label(label, &launch_option_table[i]));
        value_text(opt, &launch_option_table[i], text + used, room - used);
        used += strlen(text + used) + 1;
    }
    *bytes = used;
    return text;
}

static void print_option(FILE *out, const launch_options *defaults, const launch_option_row *row) {
    char left[80], value[128] = "", letter[5] = "    ";
    if (row->letter != 0) snprintf(letter, sizeof letter, "-%c, ", row->letter);
    const char *what = row->kind == LAUNCH_CHOICE ? row->choices : row->value;
    snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, what != NULL ? " " : "",
             what != NULL ? what : "");
    if (row->kind != LAUNCH_SWITCH) value_text(defaults, row, value, sizeof value);
    const char *standard = value[0] != 0 ? value : row->unset;
    fprintf(out, "  %-38s %s", left, row->help);
    if (standard != NULL) fprintf(out, " (default %s)", standard);
    fputc('\n', out);
}

static void print_overview(FILE *out) {
    fputs(
        "radar " RADAR_VERSION
        ": decode Llama-family language models over a key/value cache sharded across MPI ranks.\n\n"
        "usage: radar COMMAND [options]            one rank\n"
        "       mpirun -np P radar COMMAND ...     P ranks (or srun --mpi=pmix)\n\n",
        out);
    for (size_t i = 0; i < launch_command_count; i++)
        fprintf(out, "  %-12s %s\n", launch_command_name(launch_command_table[i].command),
                launch_command_table[i].summary);
    fputs("\nradar COMMAND -h lists the options of a command; radar --version prints the version.\n"
          "Text goes to standard output, facts and progress to standard error.\n"
          "Exit codes, the same on every rank: 0 ok, 64 usage, 65 bad data, 66 no input, 69 a rank "
          "was lost, 70 internal error,\n"
          "71 out of memory, 73 cannot create output, 74 input/output error, 75 stopped by a "
          "signal, 76 ranks disagree,\n"
          "78 impossible configuration.\n",
          out);
}

void launch_args_help(FILE *out, const launch_options *opt) {
    launch_options defaults;
    for (size_t i = 0; i < launch_command_count; i++) {
        if (launch_command_table[i].command != opt->help_of) continue;
        launch_options_default(&defaults, opt->help_of);
        fprintf(out, "radar %s: %s\n\nusage: radar %s %s\n", launch_command_name(opt->help_of),
                launch_command_table[i].summary, launch_command_name(opt->help_of),
                launch_command_table[i].usage);
        const char *pending = NULL; /* a heading whose own row may be of another command */
        for (size_t k = 0; k < launch_option_count; k++) {
            if (launch_option_table[k].kind == LAUNCH_HEADING)
                pending = launch_option_table[k].name;
            if (!(launch_option_table[k].in & (int)opt->help_of)) continue;
            if (pending != NULL) fprintf(out, "\n%s\n", pending);
            pending = NULL;
            print_option(out, &defaults, &launch_option_table[k]);
        }
        return;
    }
    print_overview(out);
}
