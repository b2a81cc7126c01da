#include "runtime/text/specials.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/sys.h"
#include "runtime/text/vocab.h"

static radar_status grow(radar_specials *s, radar_error *err) {
    size_t room = s->room ? 2 * s->room : 64;
    radar_special *token = radar_alloc_array(room, sizeof *token);
    if (!token)
        return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for %zu added tokens", room);
    if (s->n) memcpy(token, s->token, s->n * sizeof *token);
    radar_free(s->token);
    s->token = token;
    s->room = room;
    return RADAR_OK;
}

radar_status radar_specials_add(radar_specials *s, const char *text, size_t bytes, int32_t id,
                                int flags, radar_error *err) {
    if (bytes == 0 || bytes > RADAR_SPECIAL_BYTES)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: added token %d has %zu bytes, 1 to %d are possible", id,
                          bytes, RADAR_SPECIAL_BYTES);
    if (s->n == s->room) {
        radar_status st = grow(s, err);
        if (st != RADAR_OK) return st;
    }
    char *copy = radar_alloc(bytes);
    if (!copy)
        return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for added token %d", id);
    memcpy(copy, text, bytes);
    s->token[s->n++] = (radar_special){copy, (uint32_t)bytes, id, flags};
    return RADAR_OK;
}

static int by_spelling(const void *a, const void *b) {
    const radar_special *x = a, *y = b;
    int c = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);
    if (c) return c;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

void radar_specials_seal(radar_specials *s) {
    if (s->n) qsort(s->token, s->n, sizeof *s->token, by_spelling);
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        radar_special *t = &s->token[i], *last = kept ? &s->token[kept - 1] : NULL;
        if (last && last->bytes == t->bytes && !memcmp(last->text, t->text, t->bytes))
            radar_free((void *)(uintptr_t)t->text);
        else
            s->token[kept++] = *t;
    }
    s->n = kept;
    for (size_t b = 0, i = 0; b <= 256; b++) {
        while (i < kept && (uint8_t)s->token[i].text[0] < b) i++;
        s->first[b] = (uint32_t)i;
    }
}

void radar_specials_free(radar_specials *s) {
    for (size_t i = 0; i < s->n; i++) radar_free((void *)(uintptr_t)s->token[i].text);
    radar_free(s->token);
    memset(s, 0, sizeof *s);
}

/* ---- characters ---- */

bool radar_is_white_space(uint32_t c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* \w of UTS 18: Alphabetic, marks, decimal digits, connectors, joiners. */
static bool is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* joiners, and the symbols that are alphabetic: letters in circles and squares */
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
               (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
               (c >= 0x1f170 && c <= 0x1f189);
    }
}

/* Where the character before i begins; i > 0. */
static size_t char_before(const char *text, size_t i) {
    do i--;
    while (i > 0 && ((uint8_t)text[i] & 0xc0) == 0x80);
    return i;
}

static uint32_t char_at(const char *text, size_t i) {
    int length;
    return radar_utf8_decode(text + i, &length);
}

/* ---- matching ---- */

static bool is_trusted(const radar_range *trusted, size_t n, size_t begin, size_t end) {
    size_t low = 0, high = n; /* the last range that begins at or before `begin` */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (trusted[mid].begin <= begin)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && trusted[low - 1].end >= end;
}

/* First token of [low, high) whose byte at depth is above b (or, with above = false, not below). */
static uint32_t bound(const radar_specials *s, uint32_t low, uint32_t high, size_t depth, uint8_t b,
                      bool above) {
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        uint8_t c = (uint8_t)s->token[mid].text[depth];
        if (c < b || (above && c == b))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The longest token that begins at i and counts there; NULL: none. */
static const radar_special *longest_at(const radar_specials *s, const char *text, size_t bytes,
                                       size_t i, const radar_range *trusted, size_t n_trusted) {
    uint32_t low = s->first[(uint8_t)text[i]], high = s->first[(uint8_t)text[i] + 1];
    const radar_special *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        const radar_special *t = &s->token[low]; /* the shortest of those that agree so far */
        if (t->bytes == depth) {
            if (!(t->flags & RADAR_ADDED_SPECIAL) || is_trusted(trusted, n_trusted, i, i + depth))
                best = t;
            low++;
        }
        if (i + depth == bytes) break;
        uint8_t b = (uint8_t)text[i + depth];
        low = bound(s, low, high, depth, b, false);
        high = bound(s, low, high, depth, b, true);
    }
    return best;
}

static bool stands_alone(const char *text, size_t bytes, size_t begin, size_t end) {
    if (begin > 0 && is_word(char_at(text, char_before(text, begin)))) return false;
    return end == bytes || !is_word(char_at(text, end));
}

static radar_special_match with_spaces(const radar_special *t, const char *text, size_t bytes,
                                       size_t from, size_t begin) {
    radar_special_match m = {begin, begin + t->bytes, t->id};
    if (t->flags & RADAR_ADDED_LSTRIP) {
        while (m.begin > from && radar_is_white_space(char_at(text, char_before(text, m.begin))))
            m.begin = char_before(text, m.begin);
    }
    if (t->flags & RADAR_ADDED_RSTRIP) {
        while (m.end < bytes && radar_is_white_space(char_at(text, m.end)))
            m.end += (size_t)radar_utf8_length((uint8_t)text[m.end]);
    }
    return m;
}

radar_special_match radar_specials_next(const radar_specials *s, const char *text, size_t bytes,
                                        size_t from, const radar_range *trusted, size_t n_trusted) {
    for (size_t i = from; s->n && i < bytes; i++) {
        uint8_t b = (uint8_t)text[i];
        if (s->first[b] == s->first[b + 1]) continue;
        const radar_special *t = longest_at(s, text, bytes, i, trusted, n_trusted);
        if (!t) continue;
        if (!(t->flags & RADAR_ADDED_SINGLE_WORD) || stands_alone(text, bytes, i, i + t->bytes))
            return with_spaces(t, text, bytes, from, i);
        i += t->bytes - 1;
    }
    return (radar_special_match){bytes, bytes, -1};
}
