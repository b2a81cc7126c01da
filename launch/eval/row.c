/* A row of figures: what names it, the settings in it, and the command that makes it again. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <xxhash.h>

#include "launch/eval/eval.h"
#include "runtime/sys.h"

/* ---- the key ---- */

static uint64_t text_hash(const eval_context *c) {
    return XXH3_64bits(c->text.n > 0 ? c->text.token : (const int32_t *)"",
                       c->text.n * sizeof *c->text.token);
}

uint64_t eval_key(const eval_context *c, const char *part) {
    const uint64_t text = text_hash(c);
    char all[512];
    const int n = snprintf(all, sizeof all, "%s|%016" PRIx64 "|%016" PRIx64 "|%016" PRIx64 "|%s|%s",
                           c->kind->name, c->job->info.fingerprint, text,
                           eval_setting_hash(&c->setting), part, RADAR_VERSION);
    return XXH3_64bits(all, (size_t)radar_min64(n, sizeof all - 1));
}

/* ---- the command ---- */

static bool plain(const char *word) {
    if (word[0] == 0) return false;
    for (const char *at = word; *at != 0; at++)
        if (!isalnum((unsigned char)*at) && strchr("_-+./,:=@%", *at) == NULL) return false;
    return true;
}

/* Appends " word", in single quotes where a shell would read something else in it.  room suffices: four bytes for one. */
static char *append_word(char *at, const char *word) {
    *at++ = ' ';
    if (plain(word)) return stpcpy(at, word);
    *at++ = '\'';
    for (; *word != 0; word++) {
        if (*word == '\'')
            at = stpcpy(at, "'\\''");
        else
            *at++ = *word;
    }
    *at++ = '\'';
    *at = 0;
    return at;
}

static char *append_option(char *at, const launch_options *o, const launch_options *defaults,
                           const launch_option_row *row, char *value, size_t room) {
    char label[LAUNCH_LABEL], standard[64] = "";
    launch_option_text(o, row, value, room);
    if (row->kind != LAUNCH_TEXT) launch_option_text(defaults, row, standard, sizeof standard);
    if (value[0] == 0 || strcmp(value, standard) == 0) return at;
    at = append_word(at, launch_option_label(label, row));
    return row->kind == LAUNCH_SWITCH ? at : append_word(at, value);
}

/* Where rows go to and how a person is spoken to does not make them. */
static bool makes_figures(const launch_option_row *row, const launch_options *o) {
    static const char *const beside[] = {"out",     "json",   "quiet", "help",
                                         "profile", "preset", "nll",   "logits"};
    if (!(row->in & o->scope)) return false;
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++)
        if (strcmp(row->name, beside[i]) == 0) return false;
    return true;
}

char *eval_command(const launch_options *o, int ranks) {
    launch_options defaults;
    size_t room = 128, widest = 64;
    for (size_t i = 0; i < launch_command_count; i++)
        if (launch_command_table[i].scope == o->scope)
            launch_options_default(&defaults, &launch_command_table[i]);
    defaults.kv_type = launch_kv_type(o->backend);
    for (size_t i = 0; i < launch_option_count; i++) {
        const size_t bytes = launch_option_room(o, &launch_option_table[i]);
        room += LAUNCH_LABEL + 4 * bytes + 8;
        if (bytes > widest) widest = bytes;
    }
    char *text = radar_alloc(room), *value = radar_alloc(widest);
    if (text != NULL && value != NULL) {
        char *at = text;
        if (ranks > 1) at += sprintf(at, "mpirun -np %d ", ranks);
        at += sprintf(at, "radar %s", o->title);
        for (size_t i = 0; i < launch_option_count; i++)
            if (makes_figures(&launch_option_table[i], o))
                at = append_option(at, o, &defaults, &launch_option_table[i], value, widest);
    }
    const bool failed = value == NULL;
    radar_free(value);
    if (!failed) return text;
    radar_free(text);
    return NULL;
}

/* ---- the row ---- */

static void set_word(launch_json *j, const char *key, const char *word) {
    launch_json_text(j, key, word, word != NULL ? strlen(word) : 0);
}

/* "" where the attention does not look at it. */
static void set_used(launch_json *j, const launch_options *o, const char *key, const char *option,
                     const char *word) {
    set_word(j, key, eval_uses(o, option) ? word : "");
}

static bool is_attention(const launch_options *o, const char *name) {
    return strcmp(o->attention, name) == 0;
}
static bool is_published(const launch_options *o) {
    return is_attention(o, "paper") || is_attention(o, "code");
}

/* Tokens of one chosen segment at the end of a text of that length; of `code`, whose segments stay until the context has doubled,
 * the most they can be. */
static int64_t segment_tokens(const launch_options *o, int64_t length) {
    if (is_published(o)) {
        const int64_t stored = length - o->window - o->sinks;
        return radar_max64(1, (int64_t)sqrt((double)radar_max64(stored, 1)) /
                                  (is_attention(o, "code") ? 4 : 1));
    }
    if (!eval_uses(o, "segment")) return 16;
    if (o->segment != LAUNCH_AUTO) return o->segment;
    const int64_t longest = o->stripe & -o->stripe; /* a segment lies in one stripe */
    int64_t tokens = 16;
    while (tokens < longest && length >= 32 * tokens * tokens) tokens *= 2;
    return tokens;
}

/* Tokens of chosen segments per query head that the options come to, at this length. */
static int64_t budget_tokens(const launch_options *o, int64_t length) {
    enum { LEAST = 8, PUBLISHED = 64 }; /* segments */
    const int64_t segment = segment_tokens(o, length);
    if (o->segments != LAUNCH_UNSET) return o->segments * segment;
    if (is_published(o) && o->budget == LAUNCH_AUTO) return PUBLISHED * segment;
    const int64_t budget = o->budget != LAUNCH_AUTO
                               ? o->budget
                               : (length >= 65536 && !is_attention(o, "subgen") ? 1024 : 512);
    if (!is_attention(o, "radar")) return budget;
    return radar_max64(LEAST, budget / segment) * segment;
}

static int64_t or_none(int64_t value) { return value == LAUNCH_UNSET ? 0 : value; }

void eval_row_attention(launch_json *j, const launch_options *o, int64_t length) {
    set_word(j, "attention", o->attention);
    set_used(j, o, "scorer", "scorer", o->scorer);
    set_word(j, "preset", o->preset);
    launch_json_int(j, "budget", o->budget);
    launch_json_int(j, "budget_tokens", budget_tokens(o, length));
    launch_json_int(j, "segments", or_none(o->segments));
    launch_json_int(j, "segment", o->segment);
    launch_json_int(j, "window", o->window);
    launch_json_int(j, "sinks", o->sinks);
    set_used(j, o, "share", "share", o->share);
    set_used(j, o, "pick", "pick", o->pick);
    set_used(j, o, "select", "select", o->select);
    launch_json_int(j, "sketch_bits", o->sketch_bits);
    set_used(j, o, "scan", "scan", o->scan);
    set_word(j, "prefill", o->prefill);
    launch_json_int(j, "dense_prefill", o->dense_prefill);
    launch_json_int(j, "outliers", o->outliers);
    launch_json_int(j, "rf_features", or_none(o->rf_features));
    set_used(j, o, "rf_form", "rf-form", o->rf_form);
    launch_json_set(j, "rf_center", json_boolean(o->rf_center));
    launch_json_real(j, "rf_temper", o->rf_temper);
    launch_json_set(j, "restream", json_boolean(o->restream));
    launch_json_int(j, "observe", o->observe);
    launch_json_int(j, "dense_below", o->dense_below);
}

static void set_machine(launch_json *j, const launch_job *job) {
    const launch_options *o = job->opt;
    set_word(j, "kv_type", o->kv_type);
    set_word(j, "precision", o->precision);
    launch_json_int(j, "seed", (int64_t)o->seed);
    launch_json_int(j, "scorer_seed", (int64_t)o->scorer_seed);
    launch_json_int(j, "shards", o->shards);
    launch_json_int(j, "stripe", o->stripe);
    launch_json_int(j, "batch", o->batch);
    launch_json_int(j, "ranks", job->world->size);
    launch_json_int(j, "threads", o->threads > 0 ? o->threads : job->world->cores);
    set_word(j, "version", RADAR_VERSION);
    char *command = eval_command(o, job->world->size);
    if (command == NULL) j->failed = true;
    set_word(j, "command", command);
    radar_free(command);
}

launch_json eval_row(const eval_context *c, const char *part) {
    const launch_job *job = c->job;
    char hex[20];
    launch_json j = launch_json_open();
    set_word(&j, "what", c->kind->name);
    snprintf(hex, sizeof hex, "%016" PRIx64, eval_key(c, part));
    set_word(&j, "key", hex);
    set_word(&j, "part", part);
    set_word(&j, "model", job->info.name);
    snprintf(hex, sizeof hex, "%016" PRIx64, job->info.fingerprint);
    set_word(&j, "fingerprint", hex);
    set_word(&j, "text", c->text_name);
    snprintf(hex, sizeof hex, "%016" PRIx64, text_hash(c));
    set_word(&j, "text_hash", hex);
    const int64_t whole = (int64_t)c->text.n,
                  most = c->kind->makes_text ? radar_min64(whole, job->info.context) : whole,
                  length = c->setting.length != LAUNCH_UNSET ? c->setting.length : most;
    launch_json_int(&j, "length", length);
    eval_row_attention(&j, job->opt, length);
    set_machine(&j, job);
    return j;
}

void eval_row_figures(launch_json *row, const eval_figures *f) {
    launch_json_real(row, "attended_tokens_mean", f->attended);
    launch_json_real(row, "coverage_mean", f->coverage);
    launch_json_real(row, "coverage_min", f->coverage_min);
    launch_json_int(row, "segments_scored", f->segments_scored);
    launch_json_real(row, "bytes_per_step", f->bytes);
}
