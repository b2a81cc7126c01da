#include "launch/options.h"

#include <string.h>

#include "launch/report/page.h"
#include "runtime/radar.h"
#include "runtime/sys.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define EVAL_ROW(bit, name, summary, usage) \
    { LAUNCH_EVAL, bit, "eval", name, "eval " name, summary, usage }
#define ONE(command, name, summary, usage) \
    { command, command, name, NULL, name, summary, usage }
#define WITH_TEXT "-m MODEL (-f FILE | -p TEXT | --ids FILE) [options]"

const launch_command_row launch_command_table[] = {
    ONE(LAUNCH_RUN, "run", "continue a prompt",
        "-m MODEL (-p TEXT | -f FILE | --ids FILE) [options]"),
    ONE(LAUNCH_COMPARE, "compare", "prefill once, then measure --attention and dense side by side",
        "-m MODEL (-f FILE | -p TEXT | --ids FILE) [-q QUESTION] [options]"),
    EVAL_ROW(LAUNCH_PPL, "ppl", "loss of every token of a text", WITH_TEXT),
    EVAL_ROW(LAUNCH_RECALL, "recall", "whether selection finds the segments that matter",
             WITH_TEXT),
    EVAL_ROW(LAUNCH_CALIBRATE, "calibrate", "estimated against true share of the softmax mass",
             WITH_TEXT),
    EVAL_ROW(LAUNCH_BOUND, "bound", "random features and sketch against what theory says of them",
             WITH_TEXT),
    EVAL_ROW(LAUNCH_STATS, "stats", "norms, logits and entropy of every head", WITH_TEXT),
    EVAL_ROW(LAUNCH_NEEDLE, "needle", "facts hidden in a text, asked for: by depth and length",
             WITH_TEXT),
    EVAL_ROW(LAUNCH_RULER, "ruler", "retrieval, tracing and counting tasks in a long text",
             WITH_TEXT),
    EVAL_ROW(LAUNCH_GENERATE, "generate", "free generation: repetition, and its loss under dense",
             "-m MODEL [options]"),
    EVAL_ROW(LAUNCH_ADVISE, "advise", "the cheapest setting that keeps the loss and misses no fact",
             WITH_TEXT),
    ONE(LAUNCH_BENCH, "bench", "speed: prefill and decode, by length, depth and setting",
        "-m MODEL [-p 512] [-n 128] [-d 0,8192] [options]"),
    ONE(LAUNCH_PLAN, "plan", "memory and speed of a context, before anything is loaded",
        "-m MODEL [-c CTX] [--ranks P] [options]"),
    ONE(LAUNCH_TOKENIZE, "tokenize", "text to token ids, a JSON array",
        "-m MODEL (-p TEXT | -f FILE) [options]"),
    ONE(LAUNCH_DETOKENIZE, "detokenize", "token ids to the bytes they spell",
        "-m MODEL [--ids FILE]"),
    ONE(LAUNCH_INSPECT, "inspect", "what is in a model file", "-m MODEL [--json]"),
    ONE(LAUNCH_REPORT, "report", "one page of pictures from the rows of radar eval",
        "DIR [-o FILE] [--svg NAME]"),
};
const size_t launch_command_count = COUNT(launch_command_table);

enum {
    RUN = LAUNCH_RUN,
    PPL = LAUNCH_PPL,
    RECALL = LAUNCH_RECALL,
    NEEDLE = LAUNCH_NEEDLE,
    RULER = LAUNCH_RULER,
    GENERATE = LAUNCH_GENERATE,
    CALIBRATE = LAUNCH_CALIBRATE,
    BOUND = LAUNCH_BOUND,
    STATS = LAUNCH_STATS,
    ADVISE = LAUNCH_ADVISE,
    EVAL = PPL | RECALL | NEEDLE | RULER | GENERATE | CALIBRATE | BOUND | STATS | ADVISE,
    PROBES = RECALL | CALIBRATE | BOUND | STATS,
    COMPARE = LAUNCH_COMPARE,
    TOKENIZE = LAUNCH_TOKENIZE,
    DETOKENIZE = LAUNCH_DETOKENIZE,
    INSPECT = LAUNCH_INSPECT,
    REPORT = LAUNCH_REPORT,
    BENCH = LAUNCH_BENCH,
    PLAN = LAUNCH_PLAN,
    DECODES = RUN | EVAL | COMPARE,
    ATTENDS = DECODES | BENCH | PLAN,
    SETTING = ATTENDS | LAUNCH_LISTED,
    READS = DECODES | TOKENIZE,
    TEXTS = READS & ~GENERATE,
    ALL = READS | DETOKENIZE | INSPECT | BENCH | PLAN
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
    STRING("model", 'm', model, ALL | LAUNCH_PER_RANK | LAUNCH_PLACE, "MODEL", NULL,
           "a .gguf file, its first shard, a directory with config.json and safetensors, or a repo "
           "id in the Hugging Face cache"),
    STRING("tokenizer", 0, tokenizer, ALL, "FILE", "the model's own", "a tokenizer.json"),
    STRING("prompt", 'p', prompt, TEXTS | LAUNCH_PLACE, "TEXT", NULL, "the text"),
    STRING("file", 'f', file, TEXTS | LAUNCH_PLACE, "FILE", NULL,
           "the text, from a file as it is; - is standard input"),
    STRING("ids", 0, ids, (TEXTS & DECODES) | DETOKENIZE | LAUNCH_PLACE, "FILE", NULL,
           "token ids: a JSON array, or raw little-endian u32 when the name ends in .u32; - is "
           "standard input"),
    STRING("question", 'q', question, COMPARE, "TEXT", NULL,
           "follows the text; then the answer is decoded"),
    SWITCH("no-special", no_special, TEXTS, "special tokens spelled in the text are plain text"),
    SWITCH("chat", chat, RUN, "wrap the text in the model's chat template, as one user message"),
    STRING("chat-template", 0, chat_template, RUN, "NAME", "recognised",
           "the template: chatml, llama3, llama2, mistral, zephyr"),
    HEADING("Output"),
    SWITCH("json", json, DECODES | INSPECT | PLAN | LAUNCH_PLACE,
           "one JSON object on standard output (seconds, bytes)"),
    STRING("logits", 0, logits, RUN | PPL | LAUNCH_PLACE, "FILE", NULL,
           "f32 [tokens, vocab]: what each token was drawn from (run), of each scored position "
           "(eval)"),
    STRING("nll", 0, nll, PPL | LAUNCH_PLACE, "FILE", NULL,
           "f32 per scored position: the loss of the token after it, in nats"),
    STRING("out", 0, out, EVAL | LAUNCH_PLACE, "DIR", NULL,
           "rows of figures go to DIR/KIND.jsonl and DIR/KIND.csv; what is there is not computed "
           "again"),
    STRING("output", 'o', output, ADVISE | LAUNCH_PLACE, "FILE", NULL,
           "writes the advice as a profile, which --profile FILE reads"),
    STRING("output", 'o', output, REPORT, "FILE", "report.html",
           "the page, or the picture; - is standard output"),
    STRING("svg", 0, svg, REPORT, "NAME", "the whole page",
           "one picture alone, as SVG on white: " REPORT_FIGURES),
    SWITCH(
        "profile-steps", profile_steps, RUN | LAUNCH_PLACE,
        "where the time of a decode step goes: a table on standard error, \"profile\" of --json"),
    SWITCH("quiet", quiet, ALL | REPORT | LAUNCH_PLACE, "only errors on standard error"),
    HEADING("Generation"),
    NUMBER("predict", 'n', n, RUN | COMPARE | GENERATE, -1, LAUNCH_MOST, NULL,
           "tokens to generate; -1: until the context is full"),
    SWITCH("ignore-eos", ignore_eos, RUN, "go on behind an end-of-text token"),
    SEED("seed", 's', seed, RUN | COMPARE | GENERATE | LAUNCH_LISTED, "of the sampler"),
    SEED("seed", 's', seed, NEEDLE | RULER | ADVISE | LAUNCH_LISTED,
         "of what is hidden in the text"),
    REAL("temp", temperature, RUN | COMPARE | GENERATE, 0, 1000, "temperature; 0: greedy"),
    NUMBER("top-k", 0, top_k, RUN | COMPARE | GENERATE, 0, LAUNCH_MOST, NULL,
           "sample among the N likeliest tokens; 0: all"),
    REAL("top-p", top_p, RUN | COMPARE | GENERATE, 1e-9, 1,
         "among the likeliest that hold this share; 1: all"),
    REAL("min-p", min_p, RUN | COMPARE | GENERATE, 0, 1,
         "among those with at least this share of the likeliest; 0: all"),
    HEADING("Evaluation"),
    NUMBER("from", 0, from, PPL, 0, LAUNCH_MOST, "0 for dense, 2048 for the others",
           "[0, N) is prefilled; positions N .. tokens-2 are computed under --attention, "
           "and the loss of the token after each is scored"),
    NUMBER("tail", 0, tail, PPL, 1, LAUNCH_MOST, "all from --from on",
           "only the last N positions are scored"),
    NUMBER("tail", 0, tail, ADVISE, 16, LAUNCH_MOST, "256", "only the last N positions are scored"),
    REAL("within", within, ADVISE, 0, 1000,
         "percent that the loss may be above dense attention's, its standard error included"),
    NUMBER("length", 0, length, (EVAL & ~GENERATE) | LAUNCH_LISTED, 2, LAUNCH_MOST,
           "the whole text",
           "tokens of the text used; of needle and ruler: of the text that is made"),
    NUMBER("batch", 0, batch, EVAL, 1, 64, NULL, "rows computed in one pass"),
    NUMBER("tail", 0, tail, PROBES, 1, LAUNCH_MOST, "recall, calibrate: 256; stats: 64; bound: 16",
           "the last N positions are computed under --attention (stats, bound: dense)"),
    NUMBER("every", 0, every, PROBES, 1, LAUNCH_MOST, NULL,
           "of those, the positions looked at: multiples of N"),
    NUMBER("layer", 0, layer, PROBES, 0, 4096, "all", "the layer looked at"),
    NUMBER("head", 0, head, PROBES, 0, 4096, "all", "the query head looked at"),
    NUMBER("depths", 0, depths, NEEDLE, 1, 1000, NULL, "facts in one text, at equal distances"),
    NUMBER("questions", 0, questions, NEEDLE, 1, 100000, "as --depths",
           "facts asked for, --depths of them in each text"),
    NUMBER("questions", 0, questions, RULER, 1, 100000, "4", "samples of each task"),
    NUMBER("tail", 0, tail, COMPARE, 2, LAUNCH_MOST, NULL,
           "the last N tokens of the text are not prefilled but scored under each attention"),
    HEADING("Bench"),
    STRING("n-prompt", 'p', n_prompt, BENCH, "N[,...]", NULL,
           "tokens of each pp test, prefilled behind the depth; 0: none"),
    STRING("n-gen", 'n', n_gen, BENCH, "N[,...]", NULL,
           "tokens of each tg test, decoded one by one behind the depth, greedily; 0: none"),
    STRING("n-depth", 'd', n_depth, BENCH, "N[,...]", NULL,
           "tokens in the cache when a test begins"),
    NUMBER("repetitions", 'r', repetitions, BENCH, 1, 1000, NULL,
           "of each test, behind a warm-up; median, least and most are reported"),
    ROW(LAUNCH_CHOICE, "output", 'o', format, BENCH | LAUNCH_PLACE, "md|csv|json|jsonl", 0, 0,
        "md|csv|json|jsonl", NULL, NULL, "how rows are written"),
    STRING("fill", 0, fill, BENCH, "auto|synth|FILE", NULL,
           "how a depth is reached; synth: made-up keys and values with mean, covariance and norms "
           "of real ones; FILE: a text, prefilled; auto: 2048 tokens of text, synth behind them"),
    STRING("fill-from", 0, fill_from, BENCH, "FILE", "a text of this program",
           "the text whose keys and values synth is like: as it is, or ids (.json, .u32)"),
    SEED("seed", 's', seed, BENCH, "of made-up keys and values, and of the tokens"),
    STRING("loss", 0, loss, BENCH, "DIR", "not measured",
           "rows of radar eval ppl --out DIR: a row's loss above dense is that of the same setting "
           "at the shortest length that is not below the depth"),
    STRING("extrapolate", 0, extrapolate, BENCH, "N[,...]", NULL,
           "also pp of N tokens, from a fit a + b n + c n^2 of three lengths or more, and tg at "
           "depth N, linear in two depths or more; such rows are marked"),
    HEADING("Attention"),
    STRING("profile", 0, profile, ATTENDS | LAUNCH_PLACE, "FILE", NULL,
           "JSON {\"fingerprint\": HEX, \"options\": {\"scorer\": \"sketch\", ...}}: options of "
           "this model where nothing was typed"),
    CHOICE("kv-type", kv_type, SETTING, "f32|f16|bf16|q8|fp8", NULL,
           "f16; bf16 with --backend cuda", "how keys and values are kept; q8: CPU, fp8: CUDA"),
    CHOICE("preset", preset, SETTING | LAUNCH_PLACE, "quest|paper|code", NULL, NULL,
           "settings of a publication: quest: --scorer minmax; paper, code: Radar as published and "
           "as its authors' code "
           "runs; options typed beside it win"),
    CHOICE("attention", attention, SETTING, "radar|dense|streaming|h2o|snapkv|subgen|paper|code",
           NULL, NULL, "which tokens a decode step reads"),
    CHOICE("scorer", scorer, SETTING, "sketch|mean|outlier|minmax|rf|exact|q8top", NULL, NULL,
           "radar: how segments are scored"),
    OR_AUTO(
        "budget", budget, SETTING, 1,
        "tokens of chosen segments per query head; auto: 512, from 65536 tokens of context 1024"),
    NUMBER("segments", 0, segments, SETTING, 1, LAUNCH_MOST, "max(8, budget / segment)",
           "chosen segments per query head, instead of --budget"),
    OR_AUTO("segment", segment, SETTING, 16,
            "tokens of a segment, a power of two up to the stripe (mean, rf); auto: nearest "
            "sqrt(t) / 4"),
    OR_AUTO("dense-below", dense_below, SETTING, 0,
            "tokens of context below which everything is read; auto: where choosing reads no less; "
            "0: never"),
    NUMBER("window", 0, window, SETTING, 1, LAUNCH_MOST, NULL, "latest tokens, always read"),
    NUMBER("sinks", 0, sinks, SETTING, 0, LAUNCH_MOST, NULL, "first tokens, always read"),
    CHOICE("share", share, SETTING, "group|head", NULL, NULL,
           "group: the heads of a KV head read the union of their lists; head: each its own"),
    CHOICE("pick", pick, SETTING, "top|bottom|random|last", NULL, NULL,
           "which segments of the ranking"),
    SWITCH("restream", restream, ATTENDS, "streaming: positions counted within what is kept"),
    NUMBER("observe", 0, observe, ATTENDS, 1, 64, NULL,
           "snapkv: last queries of the prompt that vote"),
    CHOICE("select", select, SETTING, "global|local", NULL, NULL,
           "global: the best of the context; local: the best of each shard"),
    NUMBER("rf-features", 0, rf_features, SETTING, 1, 8192, "16 per dimension of a head",
           "random directions of --scorer rf"),
    CHOICE("rf-form", rf_form, SETTING, "plain|pair", NULL, NULL,
           "one feature per direction, or one each way"),
    SWITCH("rf-center", rf_center, ATTENDS,
           "features of the keys' distance from their block's mean"),
    REAL("rf-temper", rf_temper, SETTING, 1e-6, 1, "rank by the mass of X times the logits"),
    NUMBER("sketch-bits", 0, sketch_bits, SETTING, 1, 4, NULL,
           "bits a dimension of --scorer sketch: 1, 2 or 4"),
    CHOICE("scan", scan, SETTING, "full|progressive", NULL, NULL,
           "full: all candidates by all their bits; progressive: by one bit first, the best of "
           "those by both, "
           "the best of these by their keys"),
    CHOICE("prefill", prefill, SETTING, "dense|radar", NULL, NULL,
           "how the prompt attends; radar: blocks of its tokens choose segments together"),
    OR_AUTO("dense-prefill", dense_prefill, SETTING, 0,
            "--prefill radar: the first tokens, which attend densely; auto: 4096"),
    NUMBER("outliers", 0, outliers, SETTING, 1, 7, NULL,
           "keys that --scorer outlier keeps beside the mean of the rest"),
    SEED("scorer-seed", 0, scorer_seed, SETTING,
         "of the scorer's signs and directions, of --pick random and of subgen's samples"),
    HEADING("Machine"),
    NUMBER("ctx", 'c', context, DECODES | PLAN | LAUNCH_PLACE, 0, LAUNCH_MOST, "what the job needs",
           "tokens of KV capacity; 0: the model's context"),
    CHOICE("rope-scaling", rope_scaling, ATTENDS, "none|linear|yarn|dynamic|llama3", NULL,
           "the model's",
           "contexts past training; dynamic stretches for the whole --ctx; what Llama 3 files say "
           "stays under it"),
    REAL("rope-scale", rope_scale, ATTENDS, 0, 1e6,
         "times the model's context that --rope-scaling makes of it, 1 or more; alone: of the "
         "model's own kind, else linear; 0: the model's"),
    REAL("rope-freq-base", rope_freq_base, ATTENDS, 0, 1e15, "theta; 0: the model's"),
    NUMBER("yarn-orig-ctx", 0, rope_orig_ctx, ATTENDS, 0, LAUNCH_MOST, NULL,
           "yarn, dynamic, llama3: tokens of context before scaling; 0: the model's"),
    NUMBER("ranks", 0, ranks, PLAN, 1, 64, "the ranks it is started with", "planned for"),
    REAL("memory", memory, PLAN, 0, 1e9, "GB of memory of each machine; 0: what is free here"),
    REAL("bandwidth", bandwidth, PLAN, 0, 1e9,
         "GB a second that each machine reads memory with; 0: measured here"),
    NUMBER("threads", 't', threads, ALL | LAUNCH_PER_RANK | LAUNCH_PLACE, 0, 4096, NULL,
           "threads per rank; 0: the cores the rank may use, shared evenly with ranks bound to the "
           "same"),
    CHOICE("backend", backend, ATTENDS | LAUNCH_PLACE, "auto|cpu|cuda", NULL, NULL,
           "where it is computed"),
    CHOICE("precision", precision, ATTENDS, "fast|exact", NULL, NULL,
           "fast: activations may be rounded per block; exact: f32 activations, exact weights"),
    CHOICE("isa", isa, ATTENDS | LAUNCH_PLACE, "plain|avx2|avx512", NULL, "the best there is",
           "instruction set (diagnostics)"),
    CHOICE("exchange", exchange, ATTENDS | LAUNCH_PLACE, "auto|nccl|staged", NULL, NULL,
           "CUDA: between GPUs; auto: NCCL where every rank has it, else through host memory"),
    CHOICE("weights", weights, ATTENDS, "stored|fp8", NULL, NULL,
           "CUDA: fp8: matrices of bf16 and f16 as e4m3 with a scale per row"),
    CHOICE("graphs", graphs, ATTENDS | LAUNCH_PLACE, "on|off", NULL, NULL,
           "CUDA: off: every kernel is launched by itself (diagnostics)"),
    NUMBER("device", 0, device, ATTENDS | LAUNCH_PER_RANK | LAUNCH_PLACE, -1, 1024, NULL,
           "CUDA: number of the GPU; -1: ranks of a machine take its GPUs in turn"),
    NUMBER("shards", 0, shards, ATTENDS, 1, 64, NULL,
           "pieces the work is cut into, a power of two, at least the ranks"),
    NUMBER("stripe", 0, stripe, ATTENDS, 64, 1048576, NULL,
           "tokens dealt to a shard at a time, a multiple of 64"),
    NUMBER("chunk", 0, chunk, ATTENDS, 1, 4096, NULL, "tokens of one pass of prefill"),
    {LAUNCH_SWITCH, "help", 'h', 0, ALL | REPORT | LAUNCH_PLACE, NULL, 0, 0, NULL, NULL, NULL,
     "this text"},
};
const size_t launch_option_count = COUNT(launch_option_table);
_Static_assert(COUNT(launch_option_table) < LAUNCH_OPTIONS_MOST, "lists by row have room");

const char *launch_kv_type(const char *backend) {
    return strcmp(backend, "cuda") == 0 ? "bf16" : "f16";
}

void launch_options_default(launch_options *o, const launch_command_row *command) {
    *o = (launch_options){.command = command->command,
                          .scope = command->scope,
                          .title = command->title,
                          .kind = command->second,
                          .n = 128,
                          .temperature = 0.8,
                          .top_p = 0.95,
                          .min_p = 0.05,
                          .top_k = 40,
                          .seed = 1};
    o->backend = "auto", o->precision = "fast", o->kv_type = NULL;
    o->exchange = "auto", o->weights = "stored", o->graphs = "on", o->device = -1;
    o->attention = "radar", o->scorer = "sketch", o->share = "group", o->pick = "top",
    o->select = "global", o->rf_form = "plain", o->scan = "full", o->prefill = "dense";
    o->budget = o->dense_below = o->dense_prefill = LAUNCH_AUTO;
    o->segments = o->rf_features = o->from = o->context = LAUNCH_UNSET;
    o->length = o->tail = o->layer = o->head = o->questions = LAUNCH_UNSET;
    o->within = 1;
    o->batch = 64, o->every = 4, o->depths = 10;
    o->window = 256, o->sinks = 4, o->scorer_seed = 1, o->segment = 16;
    o->sketch_bits = 2, o->outliers = 3, o->observe = 32, o->rf_temper = 1;
    o->shards = 8, o->stripe = 256, o->chunk = 512;
    o->ranks = LAUNCH_UNSET;
    if (command->command == LAUNCH_COMPARE) o->n = 64, o->temperature = 0, o->tail = 256;
    if (command->scope == LAUNCH_GENERATE) o->n = 512;
    if (command->command == LAUNCH_BENCH) {
        o->n_prompt = "512", o->n_gen = "128", o->n_depth = "0";
        o->fill = "auto", o->format = "md", o->repetitions = 5, o->temperature = 0;
    }
}

const char *launch_option_label(char label[LAUNCH_LABEL], const launch_option_row *row) {
    if (row->letter != 0)
        snprintf(label, LAUNCH_LABEL, "-%c", row->letter);
    else
        snprintf(label, LAUNCH_LABEL, "--%s", row->name);
    return label;
}

static bool must_agree(const launch_options *opt, const launch_option_row *row) {
    return (row->in & opt->scope) != 0 && (row->in & LAUNCH_PER_RANK) == 0 && row->letter != 'h';
}

char *launch_args_text(const launch_options *opt, size_t *bytes) {
    size_t room = 64;
    for (size_t i = 0; i < launch_option_count; i++)
        if (must_agree(opt, &launch_option_table[i]))
            room += LAUNCH_LABEL + 2 + launch_option_room(opt, &launch_option_table[i]);
    char *text = radar_alloc(room);
    if (text == NULL) return NULL;
    size_t used = (size_t)snprintf(text, room, "radar " RADAR_VERSION "=%s", opt->title) + 1;
    for (size_t i = 0; i < launch_option_count; i++) {
        if (!must_agree(opt, &launch_option_table[i])) continue;
        char label[LAUNCH_LABEL];
        used += (size_t)snprintf(text + used, room - used,
                                 "%s=", launch_option_label(label, &launch_option_table[i]));
        launch_option_text(opt, &launch_option_table[i], text + used, room - used);
        used += strlen(text + used) + 1;
    }
    *bytes = used;
    return text;
}

static void print_option(FILE *out, const launch_options *defaults, const launch_option_row *row) {
    char left[80], value[128] = "", letter[5] = "    ";
    const bool listed = launch_takes_lists(defaults->command) && (row->in & LAUNCH_LISTED) != 0;
    if (row->letter != 0) snprintf(letter, sizeof letter, "-%c, ", row->letter);
    const char *what = row->kind == LAUNCH_CHOICE ? row->choices : row->value;
    snprintf(left, sizeof left, "%s--%s%s%s%s", letter, row->name, what != NULL ? " " : "",
             what != NULL ? what : "", listed ? "[,...]" : "");
    if (row->kind != LAUNCH_SWITCH) launch_option_text(defaults, row, value, sizeof value);
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
        fprintf(out, "  %-15s %s\n", launch_command_table[i].title,
                launch_command_table[i].summary);
    fputs("\nradar COMMAND -h lists the options of a command; radar --version prints the version.\n"
          "Text goes to standard output, facts and progress to standard error.\n"
          "Exit codes, the same on every rank: 0 ok, 1 a request failed (eval advise: no setting "
          "does), 64 usage, 65 bad data,\n"
          "66 no input, 69 a rank was lost, 70 internal error, 71 out of memory, 73 cannot create "
          "output,\n"
          "74 input/output error, 75 stopped by a signal, 76 ranks disagree, 78 impossible "
          "configuration.\n",
          out);
}

static void print_command(FILE *out, const launch_command_row *command) {
    launch_options defaults;
    launch_options_default(&defaults, command);
    fprintf(out, "radar %s: %s\n\nusage: radar %s %s\n", command->title, command->summary,
            command->title, command->usage);
    if (launch_takes_lists(command->command))
        fputs("Options with several values divided by commas give a sweep: every combination, one "
              "row of figures each.\n",
              out);
    const char *pending = NULL; /* a heading whose own row may be of another command */
    for (size_t k = 0; k < launch_option_count; k++) {
        if (launch_option_table[k].kind == LAUNCH_HEADING) pending = launch_option_table[k].name;
        if (!(launch_option_table[k].in & command->scope)) continue;
        if (pending != NULL) fprintf(out, "\n%s\n", pending);
        pending = NULL;
        print_option(out, &defaults, &launch_option_table[k]);
    }
}

void launch_args_help(FILE *out, const launch_options *opt) {
    for (size_t i = 0; i < launch_command_count; i++) {
        if (launch_command_table[i].scope != opt->scope || opt->help_of == 0) continue;
        print_command(out, &launch_command_table[i]);
        return;
    }
    print_overview(out);
}
