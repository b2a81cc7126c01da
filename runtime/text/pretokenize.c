#include "runtime/text/pretokenize.h"

#include <string.h>

#include "runtime/text/regex.h"
#include "runtime/sys.h"
#include "runtime/text/vocab.h"

#define MATCH_LIMIT \
    50000000 /* steps of one search; ordinary words need none, since their loops do not backtrack */
#define HEAP_LIMIT 65536 /* KiB, where there is no JIT */
#define JIT_STACK ((size_t)256 << 10)

const char radar_regex_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char radar_regex_llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{"
                                  "N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char radar_regex_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                                 "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                 "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char radar_regex_tekken[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{"
    "N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* Digits of Unicode 15 to 17, which PCRE2 10.42 does not class as N. */
#define NEW_DIGITS \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11de0}-\\x{11de9}" \
    "\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{16ff4}-\\x{16ff6}" \
    "\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"
const char radar_regex_digit[] = "[\\p{N}" NEW_DIGITS "]";
const char radar_regex_digits[] = "[\\p{N}" NEW_DIGITS "]+";

/* ---- compiling ---- */

static void *pcre_alloc(PCRE2_SIZE bytes, void *unused) {
    (void)unused;
    return radar_alloc(bytes);
}

static void pcre_free(void *memory, void *unused) {
    (void)unused;
    radar_free(memory);
}

static radar_status no_memory(radar_error *err) {
    return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for regular expressions");
}

static radar_status compile(radar_stage *s, const char *pattern, size_t bytes, uint32_t options,
                            radar_error *err) {
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE at = 0;
    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pcre2_set_parens_nest_limit(context, 64);
        s->code =
            pcre2_compile((PCRE2_SPTR)pattern, bytes, options | PCRE2_UTF, &code, &at, context);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (s->code) {
        s->jit = pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) ==
                 0; /* not allowed everywhere; slower without */
        return RADAR_OK;
    }
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED) return no_memory(err);
    PCRE2_UCHAR reason[120] = "";
    pcre2_get_error_message(code, reason, sizeof reason);
    return radar_fail(err, RADAR_ERR_DATA,
                      "tokenizer: the regular expression '%.*s' is refused at byte %zu: %s",
                      (int)(bytes < 60 ? bytes : 60), pattern, (size_t)at, (const char *)reason);
}

radar_status radar_pretokenizer_add(radar_pretokenizer *p, const char *pattern, size_t bytes,
                                    bool literal, radar_split split, bool invert,
                                    radar_error *err) {
    if (p->n == RADAR_STAGES)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: more than %d stages of cutting into words", RADAR_STAGES);
    radar_stage *s = &p->stage[p->n];
    *s = (radar_stage){.invert = invert, .split = split};
    radar_status st;
    if (literal) {
        st = compile(s, pattern, bytes, PCRE2_LITERAL, err);
    } else {
        char *own;
        size_t own_bytes;
        st = radar_regex_translate(pattern, bytes, &own, &own_bytes, err);
        if (st == RADAR_OK) st = compile(s, own, own_bytes, PCRE2_UCP, err);
        radar_free(own);
    }
    if (st == RADAR_OK) p->n++;
    return st;
}

void radar_pretokenizer_free(radar_pretokenizer *p) {
    for (int i = 0; i < p->n; i++) pcre2_code_free(p->stage[i].code);
    p->n = 0;
}

/* ---- cutting ---- */

radar_status radar_cutter_open(radar_cutter *c, const radar_pretokenizer *p, radar_error *err) {
    *c = (radar_cutter){.p = p, .depth = -1};
    if (!p->n) return RADAR_OK;
    c->general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (c->general) c->context = pcre2_match_context_create(c->general);
    if (c->general) c->data = pcre2_match_data_create(1, c->general);
    if (!c->context || !c->data) {
        radar_cutter_close(c);
        return no_memory(err);
    }
    pcre2_set_match_limit(c->context, MATCH_LIMIT);
    pcre2_set_heap_limit(c->context, HEAP_LIMIT);
    return RADAR_OK;
}

void radar_cutter_close(radar_cutter *c) {
    pcre2_jit_stack_free(c->stack);
    pcre2_match_data_free(c->data);
    pcre2_match_context_free(c->context);
    pcre2_general_context_free(c->general);
    *c = (radar_cutter){.depth = -1};
}

static void begin_cut(radar_cut *k, size_t begin, size_t end) {
    *k = (radar_cut){begin, end, 0, SIZE_MAX, 0, {{0, 0, false}}};
}

void radar_cutter_begin(radar_cutter *c, const char *text, size_t bytes) {
    c->text = text;
    c->depth = bytes ? 0 : -1;
    begin_cut(&c->cut[0], 0, bytes);
}

static int search(radar_cutter *c, const radar_stage *s, const char *text, size_t bytes,
                  size_t from) {
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    if (!s->jit)
        return pcre2_match(s->code, subject, bytes, from, PCRE2_NO_UTF_CHECK, c->data, c->context);
    int found = pcre2_jit_match(s->code, subject, bytes, from, 0, c->data, c->context);
    if (found != PCRE2_ERROR_JIT_STACKLIMIT || c->stack) return found;
    c->stack = pcre2_jit_stack_create(JIT_STACK, JIT_STACK,
                                      c->general); /* the machine's own 32 KiB were not enough */
    if (!c->stack) return PCRE2_ERROR_NOMEMORY;
    pcre2_jit_stack_assign(c->context, NULL, c->stack);
    return pcre2_jit_match(s->code, subject, bytes, from, 0, c->data, c->context);
}

/* The next match at or after k->at, offsets within the piece; *found = false: none.  An empty match just behind the last one
 * does not count; the search goes on one character later. */
static radar_status find_match(radar_cutter *c, const radar_stage *s, radar_cut *k, size_t *begin,
                               size_t *end, bool *found, radar_error *err) {
    const char *text = c->text + k->begin;
    size_t bytes = k->end - k->begin;
    *found = false;
    for (;;) {
        if (k->at > bytes) return RADAR_OK;
        int rc = search(c, s, text, bytes, k->at);
        if (rc == PCRE2_ERROR_NOMATCH) return RADAR_OK;
        if (rc == PCRE2_ERROR_NOMEMORY) return no_memory(err);
        if (rc < 0)
            return radar_fail(err, RADAR_ERR_DATA,
                              "tokenizer: a regular expression of the pre-tokenizer gave up (PCRE2 "
                              "error %d) on a text of %zu bytes; cut the text",
                              rc, bytes);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(c->data);
        *begin = at[0];
        *end = at[1];
        if (*end > *begin || *end != k->last_end) break;
        k->at = *end + (*end < bytes ? (size_t)radar_utf8_length((uint8_t)text[*end]) : 1);
    }
    *found = true;
    k->at = k->last_end = *end;
    return RADAR_OK;
}

/* The next match or gap between matches; begin == end == SIZE_MAX at the end. */
static radar_status next_raw(radar_cutter *c, const radar_stage *s, radar_cut *k, radar_piece *out,
                             radar_error *err) {
    size_t begin, end, from = k->begin + (k->last_end == SIZE_MAX ? 0 : k->last_end);
    bool found = false;
    if (k->n_held) {
        *out = k->held[--k->n_held];
        return RADAR_OK;
    }
    *out = (radar_piece){SIZE_MAX, SIZE_MAX, false};
    if (from == k->end && k->last_end != SIZE_MAX) return RADAR_OK;
    radar_status st = find_match(c, s, k, &begin, &end, &found, err);
    if (st != RADAR_OK) return st;
    if (!found) { /* the rest is a gap, and the next call finds the end */
        *out = (radar_piece){from, k->end, s->invert};
        k->last_end = k->end - k->begin;
        return RADAR_OK;
    }
    *out = (radar_piece){k->begin + begin, k->begin + end, !s->invert};
    if (out->begin > from) {
        k->held[k->n_held++] = *out;
        *out = (radar_piece){from, out->begin, s->invert};
    }
    return RADAR_OK;
}

/* Whether a piece and the one behind it are one word. */
static bool joins(const radar_stage *s, bool match, bool next_match) {
    if (s->split == RADAR_SPLIT_WITH_PREVIOUS) return !match && next_match;
    return s->split == RADAR_SPLIT_WITH_NEXT && match && !next_match;
}

/* The next piece of a stage; begin == SIZE_MAX at the end. */
static radar_status next_piece(radar_cutter *c, const radar_stage *s, radar_cut *k,
                               radar_piece *out, radar_error *err) {
    radar_status st;
    do {
        st = next_raw(c, s, k, out, err);
        if (st != RADAR_OK || out->begin == SIZE_MAX) return st;
    } while (s->split == RADAR_SPLIT_REMOVED && out->match);
    if (s->split == RADAR_SPLIT_ISOLATED || s->split == RADAR_SPLIT_REMOVED) return RADAR_OK;
    radar_piece behind;
    st = next_raw(c, s, k, &behind, err);
    if (st != RADAR_OK || behind.begin == SIZE_MAX) return st;
    if (joins(s, out->match, behind.match)) {
        out->end = behind.end;
        out->match = true;
        return RADAR_OK;
    }
    k->held[k->n_held++] = behind;
    return RADAR_OK;
}

radar_status radar_cutter_next(radar_cutter *c, const char **word, size_t *bytes,
                               radar_error *err) {
    *bytes = 0;
    if (c->p->n == 0 && c->depth == 0) { /* the whole segment is one word */
        *word = c->text;
        *bytes = c->cut[0].end;
        c->depth = -1;
        return RADAR_OK;
    }
    while (c->depth >= 0) {
        radar_piece piece;
        radar_status st = next_piece(c, &c->p->stage[c->depth], &c->cut[c->depth], &piece, err);
        if (st != RADAR_OK) return st;
        if (piece.begin == SIZE_MAX) {
            c->depth--;
        } else if (piece.end > piece.begin && c->depth + 1 == c->p->n) {
            *word = c->text + piece.begin;
            *bytes = piece.end - piece.begin;
            return RADAR_OK;
        } else if (piece.end > piece.begin) {
            c->depth++;
            begin_cut(&c->cut[c->depth], piece.begin, piece.end);
        }
    }
    return RADAR_OK;
}
