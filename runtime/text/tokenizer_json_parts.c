/* tokenizer_json_parts.c - normaliser, pre-tokeniser, post-processor and decoder of a tokenizer.json.
 * Each kind that is not known is refused by its name: a guess would give wrong ids without anyone noticing. */
#include <string.h>

#include "runtime/text/tokenizer_json.h"

#define PARTS 16 /* in one Sequence, nested ones counted in */
#define CURE "convert the tokenizer, or use another model"
#define SPACE "\xe2\x96\x81"

/* A part, or the parts of a Sequence, of Sequences in it, and so on. */
typedef struct parts {
    const json_t *part[PARTS];
    size_t n;
} parts;

static radar_status unknown_type(const char *where, const json_t *part, radar_error *err) {
    return radar_fail(err, RADAR_ERR_DATA, "tokenizer.json: %s type '%.60s' is not known; " CURE,
                      where, radar_json_type(part));
}

static radar_status unknown_setting(const char *where, const json_t *part, const char *setting,
                                    radar_error *err) {
    return radar_fail(err, RADAR_ERR_DATA,
                      "tokenizer.json: %s %.60s with this '%s' is not known; " CURE, where,
                      radar_json_type(part), setting);
}

/* Puts the parts of the Sequence p->part[i] in its place. */
static radar_status open_sequence(parts *p, size_t i, const char *where, const char *list,
                                  radar_error *err) {
    const json_t *inner = json_object_get(p->part[i], list);
    size_t n = json_array_size(inner);
    if (!json_is_array(inner)) return unknown_setting(where, p->part[i], list, err);
    if (p->n - 1 + n > PARTS)
        return radar_fail(err, RADAR_ERR_DATA, "tokenizer.json: %s has more than %d parts; " CURE,
                          where, PARTS);
    memmove(p->part + i + n, p->part + i + 1, (p->n - i - 1) * sizeof *p->part);
    for (size_t k = 0; k < n; k++) p->part[i + k] = json_array_get(inner, k);
    p->n = p->n - 1 + n;
    return RADAR_OK;
}

static radar_status flatten(parts *p, const json_t *part, const char *where, const char *list,
                            radar_error *err) {
    p->n = 0;
    if (!part || json_is_null(part)) return RADAR_OK;
    p->part[p->n++] = part;
    int opened = 0;
    for (size_t i = 0; i < p->n;) {
        if (!json_is_object(p->part[i]))
            return radar_fail(err, RADAR_ERR_DATA,
                              "tokenizer.json: %s is not an object; the file is damaged", where);
        if (!radar_json_is(p->part[i], "type", "Sequence")) {
            i++;
            continue;
        }
        if (++opened > PARTS)
            return radar_fail(err, RADAR_ERR_DATA,
                              "tokenizer.json: %s has more than %d Sequences; " CURE, where, PARTS);
        radar_status st = open_sequence(p, i, where, list, err);
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

/* {"String": text} or {"Regex": text}; NULL: neither. */
static const char *pattern_of(const json_t *part, bool *literal) {
    const json_t *pattern = json_object_get(part, "pattern");
    const char *text = json_string_value(json_object_get(pattern, "String"));
    *literal = text != NULL;
    if (json_object_size(pattern) != 1) return NULL;
    return text ? text : json_string_value(json_object_get(pattern, "Regex"));
}

/* ---- normaliser ---- */

static radar_status add_prepend(radar_tokenizer *t, const json_t *part, radar_error *err) {
    static const char *const known[] = {"type", "prepend", NULL};
    const char *text = json_string_value(json_object_get(part, "prepend"));
    radar_status st = radar_json_only(part, "tokenizer.json: normalizer Prepend", known, err);
    if (st != RADAR_OK) return st;
    if (!text) return unknown_setting("normalizer", part, "prepend", err);
    return radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_PREPEND, NULL, 0, text,
                                strlen(text), err);
}

static radar_status add_replace(radar_tokenizer *t, const json_t *part, radar_error *err) {
    static const char *const known[] = {"type", "pattern", "content", NULL};
    bool literal;
    const char *from = pattern_of(part, &literal),
               *to = json_string_value(json_object_get(part, "content"));
    radar_status st = radar_json_only(part, "tokenizer.json: normalizer Replace", known, err);
    if (st != RADAR_OK) return st;
    if (!from || !literal) return unknown_setting("normalizer", part, "pattern", err);
    if (!to) return unknown_setting("normalizer", part, "content", err);
    return radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_REPLACE, from, strlen(from), to,
                                strlen(to), err);
}

radar_status radar_json_normalizer(radar_tokenizer *t, const json_t *part, radar_error *err) {
    parts p;
    radar_status st = flatten(&p, part, "normalizer", "normalizers", err);
    for (size_t i = 0; i < p.n && st == RADAR_OK; i++) {
        const char *type = radar_json_type(p.part[i]);
        if (!strcmp(type, "NFC"))
            st = radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_NFC, NULL, 0, NULL, 0, err);
        else if (!strcmp(type, "Prepend"))
            st = add_prepend(t, p.part[i], err);
        else if (!strcmp(type, "Replace"))
            st = add_replace(t, p.part[i], err);
        else
            st = unknown_type("normalizer", p.part[i], err);
    }
    t->normalizer.n_before_added = t->normalizer.n;
    return st;
}

/* ---- pre-tokeniser ---- */

static radar_status add_stage(radar_tokenizer *t, const char *pattern, radar_error *err) {
    return radar_pretokenizer_add(&t->pretokenizer, pattern, strlen(pattern), false,
                                  RADAR_SPLIT_ISOLATED, false, err);
}

static radar_status add_split(radar_tokenizer *t, const json_t *part, radar_error *err) {
    static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
    static const char *const behaviour[] = {"Isolated", "MergedWithPrevious", "MergedWithNext",
                                            "Removed"};
    static const radar_split split[] = {RADAR_SPLIT_ISOLATED, RADAR_SPLIT_WITH_PREVIOUS,
                                        RADAR_SPLIT_WITH_NEXT, RADAR_SPLIT_REMOVED};
    bool literal;
    const char *pattern = pattern_of(part, &literal);
    radar_status st = radar_json_only(part, "tokenizer.json: pre_tokenizer Split", known, err);
    if (st != RADAR_OK) return st;
    if (!pattern) return unknown_setting("pre_tokenizer", part, "pattern", err);
    for (size_t i = 0; i < 4; i++)
        if (radar_json_is(part, "behavior", behaviour[i]))
            return radar_pretokenizer_add(&t->pretokenizer, pattern, strlen(pattern), literal,
                                          split[i], radar_json_flag(part, "invert", false), err);
    return unknown_setting("pre_tokenizer", part, "behavior", err);
}

static radar_status add_byte_level(radar_tokenizer *t, const json_t *part, bool first,
                                   radar_error *err) {
    static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                        NULL};
    radar_status st = radar_json_only(part, "tokenizer.json: pre_tokenizer ByteLevel", known, err);
    if (st != RADAR_OK) return st;
    t->byte_level = true;
    if (radar_json_flag(part, "add_prefix_space", true)) {
        if (!first)
            return unknown_setting("pre_tokenizer", part, "add_prefix_space",
                                   err); /* it would change every piece */
        st = radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_PREPEND_MISSING, NULL, 0, " ", 1,
                                  err);
    }
    if (st == RADAR_OK && radar_json_flag(part, "use_regex", true))
        st = add_stage(t, radar_regex_gpt2, err);
    return st;
}

static bool is_metaspace(const json_t *part) { return radar_json_is(part, "replacement", SPACE); }

/* When U+2581 goes before a text that does not begin with it. */
typedef enum scheme { SCHEME_UNKNOWN, SCHEME_ALWAYS, SCHEME_FIRST, SCHEME_NEVER } scheme;

static scheme scheme_of(const json_t *part) {
    const char *s = json_string_value(json_object_get(part, "prepend_scheme"));
    if (!s) return radar_json_flag(part, "add_prefix_space", true) ? SCHEME_ALWAYS : SCHEME_NEVER;
    if (!strcmp(s, "always")) return SCHEME_ALWAYS;
    if (!strcmp(s, "first")) return SCHEME_FIRST;
    return !strcmp(s, "never") ? SCHEME_NEVER : SCHEME_UNKNOWN;
}

static const char *const metaspace_keys[] = {
    "type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep", NULL};

static radar_status add_metaspace(radar_tokenizer *t, const json_t *part, bool first,
                                  radar_error *err) {
    scheme s = scheme_of(part);
    radar_status st =
        radar_json_only(part, "tokenizer.json: pre_tokenizer Metaspace", metaspace_keys, err);
    if (st != RADAR_OK) return st;
    if (!is_metaspace(part)) return unknown_setting("pre_tokenizer", part, "replacement", err);
    if (!first)
        return radar_fail(
            err, RADAR_ERR_DATA,
            "tokenizer.json: pre_tokenizer Metaspace behind another one is not known; " CURE);
    if (s == SCHEME_UNKNOWN) return unknown_setting("pre_tokenizer", part, "prepend_scheme", err);
    st = radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_REPLACE, " ", 1, SPACE, 3, err);
    if (st == RADAR_OK && s != SCHEME_NEVER)
        st = radar_normalizer_add(&t->normalizer,
                                  s == SCHEME_FIRST ? RADAR_NORMALIZE_PREPEND_FIRST
                                                    : RADAR_NORMALIZE_PREPEND_MISSING,
                                  NULL, 0, SPACE, 3, err);
    if (st == RADAR_OK && radar_json_flag(part, "split", true))
        st = radar_pretokenizer_add(&t->pretokenizer, SPACE, 3, true, RADAR_SPLIT_WITH_NEXT, false,
                                    err);
    return st;
}

static radar_status add_digits(radar_tokenizer *t, const json_t *part, radar_error *err) {
    static const char *const known[] = {"type", "individual_digits", NULL};
    radar_status st = radar_json_only(part, "tokenizer.json: pre_tokenizer Digits", known, err);
    if (st != RADAR_OK) return st;
    return add_stage(t,
                     radar_json_flag(part, "individual_digits", false) ? radar_regex_digit
                                                                       : radar_regex_digits,
                     err);
}

radar_status radar_json_pre_tokenizer(radar_tokenizer *t, const json_t *part, radar_error *err) {
    parts p;
    radar_status st = flatten(&p, part, "pre_tokenizer", "pretokenizers", err);
    for (size_t i = 0; i < p.n && st == RADAR_OK; i++) {
        const char *type = radar_json_type(p.part[i]);
        if (t->byte_level)
            st = radar_fail(
                err, RADAR_ERR_DATA,
                "tokenizer.json: pre_tokenizer '%.60s' behind ByteLevel is not known; " CURE, type);
        else if (!strcmp(type, "Split"))
            st = add_split(t, p.part[i], err);
        else if (!strcmp(type, "ByteLevel"))
            st = add_byte_level(t, p.part[i], i == 0, err);
        else if (!strcmp(type, "Digits"))
            st = add_digits(t, p.part[i], err);
        else if (!strcmp(type, "Metaspace"))
            st = add_metaspace(t, p.part[i], i == 0, err);
        else
            st = unknown_type("pre_tokenizer", p.part[i], err);
    }
    return st;
}

/* ---- post-processor: which ids go before and after a text ---- */

static radar_status put_end(radar_tokenizer *t, const json_t *ids, bool after, radar_error *err) {
    int32_t *end = after ? t->after : t->before;
    int *n = after ? &t->n_after : &t->n_before;
    const json_t *id;
    size_t i;
    json_array_foreach(ids, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= t->vocab.n || *n == RADAR_TOKENIZER_ENDS)
            return radar_fail(err, RADAR_ERR_DATA,
                              "tokenizer.json: post_processor TemplateProcessing: an id is not in "
                              "the vocabulary, or more than %d are added",
                              RADAR_TOKENIZER_ENDS);
        end[(*n)++] = (int32_t)json_integer_value(id);
    }
    return RADAR_OK;
}

static radar_status add_template(radar_tokenizer *t, const json_t *part, radar_error *err) {
    static const char *const known[] = {"type", "single", "pair", "special_tokens", NULL};
    const json_t *single = json_object_get(part, "single"),
                 *tokens = json_object_get(part, "special_tokens"), *piece;
    size_t i;
    int texts = 0;
    radar_status st =
        radar_json_only(part, "tokenizer.json: post_processor TemplateProcessing", known, err);
    json_array_foreach(single, i, piece) {
        if (st != RADAR_OK) return st;
        const char *name =
            json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        if (name)
            st = put_end(t, json_object_get(json_object_get(tokens, name), "ids"), texts > 0, err);
        else if (json_object_get(piece, "Sequence"))
            texts++;
        else
            return unknown_setting("post_processor", part, "single", err);
    }
    return st != RADAR_OK || texts == 1 ? st
                                        : unknown_setting("post_processor", part, "single", err);
}

radar_status radar_json_post_processor(radar_tokenizer *t, const json_t *part, radar_error *err) {
    parts p;
    bool templated = false;
    radar_status st = flatten(&p, part, "post_processor", "processors", err);
    for (size_t i = 0; i < p.n && st == RADAR_OK; i++) {
        const char *type = radar_json_type(p.part[i]);
        if (!strcmp(type, "TemplateProcessing") && !templated)
            st = add_template(t, p.part[i], err);
        else if (strcmp(type, "ByteLevel") != 0) /* it moves offsets, not ids */
            st = unknown_type("post_processor", p.part[i], err);
        templated = templated || !strcmp(type, "TemplateProcessing");
    }
    return st;
}

/* ---- decoder ---- */

static radar_status decode_replace(radar_tokenizer *t, const json_t *part, radar_error *err) {
    bool literal;
    const char *from = pattern_of(part, &literal);
    if (!from || !literal || strcmp(from, SPACE) != 0)
        return unknown_setting("decoder", part, "pattern", err);
    if (!radar_json_is(part, "content", " "))
        return unknown_setting("decoder", part, "content", err);
    t->spaces = true;
    return RADAR_OK;
}

static radar_status decode_strip(radar_tokenizer *t, const json_t *part, radar_error *err) {
    json_int_t start = json_integer_value(json_object_get(part, "start")),
               stop = json_integer_value(json_object_get(part, "stop"));
    if (!radar_json_is(part, "content", " "))
        return unknown_setting("decoder", part, "content", err);
    if (start < 0 || start > 1 || stop != 0)
        return unknown_setting("decoder", part, "start or stop", err);
    t->strip_space = start == 1;
    return RADAR_OK;
}

static radar_status decode_metaspace(radar_tokenizer *t, const json_t *part, radar_error *err) {
    scheme s = scheme_of(part);
    if (!is_metaspace(part)) return unknown_setting("decoder", part, "replacement", err);
    if (s == SCHEME_UNKNOWN) return unknown_setting("decoder", part, "prepend_scheme", err);
    t->spaces = true;
    t->strip_space = s != SCHEME_NEVER;
    return RADAR_OK;
}

radar_status radar_json_decoder(radar_tokenizer *t, const json_t *part, radar_error *err) {
    parts p;
    radar_status st = flatten(&p, part, "decoder", "decoders", err);
    for (size_t i = 0; i < p.n && st == RADAR_OK; i++) {
        const char *type = radar_json_type(p.part[i]);
        if (!strcmp(type, "Fuse") || !strcmp(type, "ByteFallback") ||
            (!strcmp(type, "ByteLevel") && t->byte_level))
            continue; /* pieces are bytes already, and are put together as they come */
        if (!strcmp(type, "Replace"))
            st = decode_replace(t, p.part[i], err);
        else if (!strcmp(type, "Strip"))
            st = decode_strip(t, p.part[i], err);
        else if (!strcmp(type, "Metaspace"))
            st = decode_metaspace(t, p.part[i], err);
        else
            st = unknown_type("decoder", p.part[i], err);
    }
    return st;
}
