#include "runtime/text/regex.h"

#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/vocab.h"

/* White_Space without U+180E, which PCRE2 10.42 has in \s, and what is not in it. */
#define SPACES \
    "\\t-\\r " \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES \
    "\\x00-\\x08\\x0e-\\x1f!-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{" \
    "10ffff}"
#define GROWTH 256 /* bytes that one construct can become, at most */

typedef struct reader {
    const char *in;
    size_t n, i;
    char *out;
    size_t used;
    bool in_class;
} reader;

static void put(reader *r, const char *s) {
    size_t n = strlen(s);
    memcpy(r->out + r->used, s, n);
    r->used += n;
}

static void copy(reader *r, size_t n) {
    memcpy(r->out + r->used, r->in + r->i, n);
    r->used += n;
    r->i += n;
}

static char peek(const reader *r, size_t k) { return r->i + k < r->n ? r->in[r->i + k] : 0; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \p{Name} or \p{^Name}: its length, 0 if it is something else. */
static size_t property_length(const reader *r) {
    size_t k = 2;
    if (peek(r, k++) != '{') return 0;
    if (peek(r, k) == '^') k++;
    size_t first = k;
    while (is_letter(peek(r, k)) || peek(r, k) == '_') k++;
    return k > first && k - first <= 32 && peek(r, k) == '}' ? k + 1 : 0;
}

/* \uHHHH becomes \x{HHHH}; \x{...} and \xHH stay. */
static bool code_point(reader *r) {
    if (peek(r, 1) == 'u') {
        for (size_t k = 2; k < 6; k++)
            if (!is_hex(peek(r, k))) return false;
        put(r, "\\x{");
        r->i += 2;
        copy(r, 4);
        put(r, "}");
        return true;
    }
    size_t k = 2;
    if (peek(r, 2) == '{') {
        for (k = 3; is_hex(peek(r, k)); k++) {
        }
        if (k == 3 || k > 9 || peek(r, k) != '}') return false;
        copy(r, k + 1);
        return true;
    }
    if (!is_hex(peek(r, 2)) || !is_hex(peek(r, 3))) return false;
    copy(r, 4);
    return true;
}

static bool escape(reader *r) {
    char c = peek(r, 1);
    size_t n;
    switch (c) {
    case 's':
    case 'S':
        put(r, r->in_class ? "" : "[");
        put(r, c == 's' ? SPACES : NOT_SPACES);
        put(r, r->in_class ? "" : "]");
        r->i += 2;
        return true;
    case 'p':
    case 'P':
        n = property_length(r);
        if (n) copy(r, n);
        return n > 0;
    case 'd':
    case 'D':
    case 'r':
    case 'n':
    case 't':
    case 'f':
        copy(r, 2);
        return true;
    case 'x':
    case 'u':
        return code_point(r);
    default: /* punctuation stands for itself */
        if (c < ' ' || c > '~' || is_letter(c) || is_digit(c)) return false;
        copy(r, 2);
        return true;
    }
}

static bool group(reader *r) {
    static const char *const known[] = {"(?:", "(?i:", "(?!", "(?=", "(?<!", "(?<=", "(?>"};
    if (peek(r, 1) != '?') {
        bool plain = peek(r, 1) != '*'; /* (*VERB) */
        if (plain) copy(r, 1);
        return plain;
    }
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        size_t n = strlen(known[k]);
        if (r->n - r->i >= n && !memcmp(r->in + r->i, known[k], n)) {
            copy(r, n);
            return true;
        }
    }
    return false;
}

/* {n}, {n,} or {n,m}, of which Oniguruma has no possessive form. */
static bool repeat(reader *r) {
    size_t k = 1;
    while (is_digit(peek(r, k))) k++;
    if (k == 1) return false;
    if (peek(r, k) == ',')
        for (k++; is_digit(peek(r, k)); k++) {
        }
    if (peek(r, k) != '}' || peek(r, k + 1) == '+') return false;
    copy(r, k + 1);
    return true;
}

static bool inside_class(reader *r) {
    char c = peek(r, 0);
    if (c == '\\') return escape(r);
    if (c == '[' || (c == '&' && peek(r, 1) == '&')) return false; /* sets of sets */
    if (c == ']') r->in_class = false;
    copy(r, 1);
    return true;
}

static bool outside_class(reader *r) {
    switch (peek(r, 0)) {
    case '\\':
        return escape(r);
    case '(':
        return group(r);
    case '{':
        return repeat(r);
    case '^': /* of lines there, of the text here */
    case '$':
    case 0:
        return false;
    case '[':
        r->in_class = true;
        copy(r, peek(r, 1) == '^' ? 2 : 1);
        return peek(r, 0) != ']';
    default:
        copy(r, 1);
        return true;
    }
}

radar_status radar_regex_translate(const char *pattern, size_t bytes, char **out, size_t *out_bytes,
                                   radar_error *err) {
    *out = NULL;
    if (bytes > RADAR_REGEX_MAX)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: a regular expression of %zu bytes, at most %d are possible",
                          bytes, RADAR_REGEX_MAX);
    reader r = {pattern, bytes, 0, radar_alloc(bytes * GROWTH + 1), 0, false};
    if (!r.out)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "tokenizer: no memory for a regular expression of %zu bytes", bytes);
    while (r.i < r.n) {
        if (r.in_class ? inside_class(&r) : outside_class(&r)) continue;
        int all = (int)(bytes < 60 ? bytes : 60),
            shown = (int)(bytes - r.i < 12 ? bytes - r.i : 12);
        radar_fail(err, RADAR_ERR_DATA,
                   "tokenizer: the regular expression '%.*s' has '%.*s' at byte %zu, whose meaning "
                   "here is not known",
                   all, pattern, shown, pattern + r.i, r.i);
        radar_free(r.out);
        return RADAR_ERR_DATA;
    }
    r.out[r.used] = 0;
    *out = r.out;
    *out_bytes = r.used;
    return RADAR_OK;
}
