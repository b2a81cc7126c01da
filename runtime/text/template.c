#include "runtime/text/template.h"

#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/tokenizer_internal.h"

#define PARTS_OF_MESSAGE 8

enum { SYSTEM, USER, ASSISTANT, ROLES };

/* Tagged: each message between a head and a tail.  Inside: the system message has no place of its own but a question, the first
 * or the last one. */
typedef enum system_place { SYSTEM_TAGGED, SYSTEM_IN_FIRST, SYSTEM_IN_LAST } system_place;

struct radar_template {
    const char *name, *family; /* --chat-template takes either */
    /* The model's own template has all of mark and not `without`; no mark: only by name. */
    const char *mark[3], *without;
    system_place system;
    bool trim;         /* white space around contents goes */
    const char *begin; /* of the conversation */
    const char *
        default_system; /* for a conversation that does not begin with a system message; NULL: none */
    const char *system_lead; /* before the text of a system message; NULL: nothing */
    const char *head[ROLES], *tail[ROLES];
    const char *answer; /* where the assistant begins */
};

#define CHATML \
    .family = "chatml", .without = "<|im_sep|>", .begin = "", \
    .head = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"}, \
    .tail = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"}, .answer = "<|im_start|>assistant\n"
#define SMOLLM2 "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN25 "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
#define QWEN2 "You are a helpful assistant."

#define LLAMA3_HEAD(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define LLAMA3 \
    .family = "llama3", .trim = true, .begin = "<|begin_of_text|>", \
    .head = {LLAMA3_HEAD("system"), LLAMA3_HEAD("user"), LLAMA3_HEAD("assistant")}, \
    .tail = {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"}, .answer = LLAMA3_HEAD("assistant")
/* The date is the one the template itself falls back to. */
#define LLAMA3_DATES "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

#define MISTRAL .family = "mistral", .without = "[SYSTEM_PROMPT]", .begin = "<s>", .answer = ""

/* The first that is recognised counts; the first of a family is what its name stands for. */
static const radar_template known[] = {
    {.name = "chatml", CHATML},
    {.name = "chatml-smollm2",
     CHATML,
     .mark = {"<|im_start|>", SMOLLM2},
     .default_system = SMOLLM2},
    {.name = "chatml-qwen2.5", CHATML, .mark = {"<|im_start|>", QWEN25}, .default_system = QWEN25},
    {.name = "chatml-qwen2",
     CHATML,
     .mark = {"<|im_start|>system\\n" QWEN2 "<|im_end|>"},
     .default_system = QWEN2},
    {.name = "chatml-qwen2",
     CHATML,
     .mark = {"<|im_start|>system\n" QWEN2 "<|im_end|>"},
     .default_system = QWEN2},
    {.name = "chatml", CHATML, .mark = {"<|im_start|>", "<|im_end|>"}},
    {.name = "llama3",
     LLAMA3,
     .mark = {"<|start_header_id|>", "<|eot_id|>"},
     .without = "Cutting Knowledge Date"},
    {.name = "llama3.1",
     LLAMA3,
     .mark = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date"},
     .default_system = "",
     .system_lead = LLAMA3_DATES},
    {.name = "llama2",
     .family = "llama2",
     .mark = {"[INST]", "<<SYS>>"},
     .system = SYSTEM_IN_FIRST,
     .trim = true,
     .begin = "",
     .head = {"<<SYS>>\n", "<s>[INST] ", " "},
     .tail = {"\n<</SYS>>\n\n", " [/INST]", " </s>"},
     .answer = ""},
    {.name = "mistral-v3",
     MISTRAL,
     .system = SYSTEM_IN_LAST,
     .head = {"", "[INST] ", " "},
     .tail = {"\n\n", "[/INST]", "</s>"}},
    {.name = "mistral-v1",
     MISTRAL,
     .mark = {" [INST] ", " [/INST]"},
     .system = SYSTEM_IN_FIRST,
     .head = {"", " [INST] ", " "},
     .tail = {"\n\n", " [/INST]", "</s>"}},
    {.name = "mistral-v0",
     MISTRAL,
     .mark = {"[INST] ", " [/INST]"},
     .system = SYSTEM_IN_FIRST,
     .head = {"", "[INST] ", ""},
     .tail = {"\n\n", " [/INST]", "</s>"}},
    {.name = "mistral-v3",
     MISTRAL,
     .mark = {"[INST] ", "[/INST]"},
     .system = SYSTEM_IN_LAST,
     .head = {"", "[INST] ", " "},
     .tail = {"\n\n", "[/INST]", "</s>"}},
    {.name = "mistral-tekken",
     MISTRAL,
     .mark = {"[INST]", "[/INST]"},
     .system = SYSTEM_IN_LAST,
     .head = {"", "[INST]", ""},
     .tail = {"\n\n", "[/INST]", "</s>"}},
    {.name = "zephyr",
     .family = "zephyr",
     .mark = {"'<|user|>\\n' + message['content'] + eos_token"},
     .begin = "",
     .head = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     .tail = {"</s>\n", "</s>\n", "</s>\n"},
     .answer = "<|assistant|>\n"},
};
#define N_KNOWN (sizeof known / sizeof *known)
#define NAMES "chatml, llama3, llama2, mistral, zephyr"

/* ---- finding ---- */

static bool has(const char *text, size_t bytes, const char *what) {
    return memmem(text, bytes, what, strlen(what)) != NULL;
}

static const radar_template *recognise(const char *text, size_t bytes) {
    for (size_t i = 0; i < N_KNOWN; i++) {
        const radar_template *tp = &known[i];
        bool all = tp->mark[0] && !(tp->without && has(text, bytes, tp->without));
        for (int k = 0; k < 3 && all && tp->mark[k]; k++) all = has(text, bytes, tp->mark[k]);
        if (all) return tp;
    }
    return NULL;
}

/* The template's text in tokenizer_config.json: a string, or a list of named ones of which "default" counts. */
static const json_t *text_in(const json_t *config) {
    const json_t *all = json_object_get(config, "chat_template"), *one;
    size_t i;
    if (json_is_string(all)) return all;
    json_array_foreach(all, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, "default")) return json_object_get(one, "template");
    }
    return NULL;
}

/* What the model's files say; *there: they have a template at all. */
static radar_status model_template(const radar_template **out, const radar_tensorfile *tf,
                                   bool *there, radar_error *err) {
    const char *text;
    size_t bytes;
    *out = NULL;
    *there = false;
    if (!tf) return RADAR_OK;
    if (radar_tensorfile_is_gguf(tf)) {
        *there = radar_gguf_string(tf, "tokenizer.chat_template", &text, &bytes);
        if (*there) *out = recognise(text, bytes);
        return RADAR_OK;
    }
    json_t *config;
    radar_status st = radar_tensorfile_json(&config, tf, "tokenizer_config.json", err);
    if (st != RADAR_OK) return st;
    const json_t *own = text_in(config);
    *there = json_is_string(own);
    if (*there) *out = recognise(json_string_value(own), json_string_length(own));
    json_decref(config);
    return RADAR_OK;
}

static const radar_template *by_name(const char *name) {
    for (size_t i = 0; i < N_KNOWN; i++)
        if (!strcmp(known[i].name, name) || !strcmp(known[i].family, name)) return &known[i];
    return NULL;
}

radar_status radar_template_find(const radar_template **out, const char *name,
                                 const radar_tensorfile *tf, radar_error *err) {
    const radar_template *own;
    bool there;
    *out = NULL;
    radar_status st = model_template(&own, tf, &there, err);
    if (st != RADAR_OK) return st;
    if (!name) {
        *out = own;
        if (own) return RADAR_OK;
        return radar_fail(
            err, RADAR_ERR_CONFIG, "%s: %s; choose one with --chat-template (" NAMES ")",
            tf ? radar_tensorfile_path(tf) : "model",
            there ? "its chat template is not one of those built in" : "it has no chat template");
    }
    *out = own && !strcmp(own->family, name)
               ? own
               : by_name(name); /* the family's variant that the model was made with */
    if (*out) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_CONFIG, "chat template '%.60s' is not known; there are " NAMES,
                      name);
}

const char *radar_template_name(const radar_template *tp) { return tp->name; }

/* ---- applying ---- */

typedef struct script {
    radar_text_part *part;
    size_t n;
} script;

static void say(script *s, const char *text) {
    if (text && *text) s->part[s->n++] = (radar_text_part){text, strlen(text), true};
}

static void quote(script *s, const char *text, size_t bytes) {
    if (bytes) s->part[s->n++] = (radar_text_part){text, bytes, false};
}

/* As Python's strip: White_Space and the separators U+001C to U+001F. */
static bool is_blank(const char *text, size_t bytes, size_t i) {
    int length;
    if ((size_t)radar_utf8_length((uint8_t)text[i]) > bytes - i) return false;
    uint32_t c = radar_utf8_decode(text + i, &length);
    return radar_is_white_space(c) || (c >= 0x1c && c <= 0x1f);
}

static void quote_trimmed(script *s, const char *text, size_t bytes, bool begin, bool end) {
    size_t i = 0;
    while (begin && i < bytes && is_blank(text, bytes, i))
        i += (size_t)radar_utf8_length((uint8_t)text[i]);
    while (end && bytes > i) {
        size_t k = bytes - 1;
        while (k > i && ((uint8_t)text[k] & 0xc0) == 0x80) k--;
        if (!is_blank(text, bytes, k)) break;
        bytes = k;
    }
    quote(s, text + i, bytes - i);
}

static int role_of(const radar_message *m) {
    static const char *const names[] = {"system", "user", "assistant"};
    for (int i = 0; i < ROLES; i++)
        if (!strcmp(m->role, names[i])) return i;
    return -1;
}

static void write_tagged(script *s, const radar_template *tp, const radar_message *message,
                         size_t n) {
    if (tp->default_system && (!n || role_of(&message[0]) != SYSTEM)) {
        say(s, tp->head[SYSTEM]);
        say(s, tp->system_lead);
        say(s, tp->default_system);
        say(s, tp->tail[SYSTEM]);
    }
    for (size_t i = 0; i < n; i++) {
        int role = role_of(&message[i]);
        if (role < 0) continue; /* check_roles refused it */
        say(s, tp->head[role]);
        if (role == SYSTEM) say(s, tp->system_lead);
        quote_trimmed(s, message[i].content, message[i].bytes, tp->trim, tp->trim);
        say(s, tp->tail[role]);
    }
}

static void write_inside(script *s, const radar_template *tp, const radar_message *message,
                         size_t n) {
    const radar_message *system = n && role_of(&message[0]) == SYSTEM ? &message[0] : NULL;
    size_t first = system ? 1 : 0, last = n ? n - 1 : 0;
    size_t place = tp->system == SYSTEM_IN_FIRST ? first : last;
    for (size_t i = first; i < n; i++) {
        int role = role_of(&message[i]);
        if (role < 0) continue; /* check_roles refused it */
        bool opens = system && i == place && role == USER;
        say(s, tp->head[role]);
        if (opens) {
            say(s, tp->head[SYSTEM]);
            quote(s, system->content, system->bytes);
            say(s, tp->tail[SYSTEM]);
        }
        quote_trimmed(s, message[i].content, message[i].bytes, tp->trim && !opens, tp->trim);
        say(s, tp->tail[role]);
    }
}

static radar_status check_roles(const radar_template *tp, const radar_message *message, size_t n,
                                radar_error *err) {
    bool alternate = tp->system != SYSTEM_TAGGED;
    size_t first = n && role_of(&message[0]) == SYSTEM ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        int role = role_of(&message[i]);
        if (role < 0)
            return radar_fail(
                err, RADAR_ERR_DATA,
                "message %zu: role '%.40s' is not known; there are system, user, assistant", i,
                message[i].role);
        if (alternate && i >= first && role != ((i - first) % 2 ? ASSISTANT : USER))
            return radar_fail(err, RADAR_ERR_DATA,
                              "message %zu is of the %s: with template %s user and assistant take "
                              "turns, the user first",
                              i, message[i].role, tp->name);
    }
    return RADAR_OK;
}

radar_status radar_template_apply(const radar_template *tp, const radar_tokenizer *t,
                                  const radar_message *message, size_t n_messages, int32_t **ids,
                                  size_t *n, radar_error *err) {
    *ids = NULL;
    *n = 0;
    radar_status st = check_roles(tp, message, n_messages, err);
    if (st != RADAR_OK) return st;
    size_t room;
    script s = {0};
    if (radar_add(n_messages, 2, &room) && radar_mul(room, PARTS_OF_MESSAGE, &room))
        s.part = radar_alloc_array(room, sizeof *s.part);
    if (!s.part)
        return radar_fail(err, RADAR_ERR_MEMORY, "no memory for a conversation of %zu messages",
                          n_messages);
    say(&s, tp->begin);
    if (tp->system == SYSTEM_TAGGED)
        write_tagged(&s, tp, message, n_messages);
    else
        write_inside(&s, tp, message, n_messages);
    say(&s, tp->answer);
    st = radar_tokenizer_encode_parts(t, s.part, s.n, ids, n, err);
    radar_free(s.part);
    return st;
}
