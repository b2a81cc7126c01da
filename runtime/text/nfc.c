#include "runtime/text/nfc.h"

#include <string.h>
#include <utf8proc.h>

#include "runtime/sys.h"
#include "runtime/text/vocab.h"

#define CHAR_PARTS 32 /* characters in one canonical decomposition: 4 is the most there are */
#define SORT_SIMPLE 24

static int class_of(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

/* A character that neither changes what stands before it nor is changed by it: text may be cut in front of it.  All that compose
 * with a character before them are marks or conjoining jamo. */
static bool begins_span(uint32_t c) {
    if (c < 0x300) return true;
    if (c >= 0x1160 && c <= 0x11ff) return false;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    if (k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME)
        return false;
    return class_of((utf8proc_int32_t)c) == 0;
}

/* Characters of a span; grows. */
typedef struct span {
    utf8proc_int32_t *c;
    size_t n, room;
    utf8proc_int32_t *spare; /* as large: the sort's other half */
} span;

static bool span_reserve(span *s, size_t more) {
    if (s->room - s->n >= more) return true;
    size_t room = 2 * s->room + more + 64;
    utf8proc_int32_t *c = radar_alloc_array(2 * room, sizeof *c);
    if (!c) return false;
    if (s->n) memcpy(c, s->c, s->n * sizeof *c);
    radar_free(s->c);
    *s = (span){c, s->n, room, c + room};
    return true;
}

static bool decompose(span *s, const char *text, size_t bytes) {
    s->n = 0;
    for (size_t i = 0; i < bytes;) {
        int length, last_class = 0;
        uint32_t c = radar_utf8_decode(text + i, &length);
        if (!span_reserve(s, CHAR_PARTS)) return false;
        utf8proc_ssize_t made =
            utf8proc_decompose_char((utf8proc_int32_t)c, s->c + s->n, CHAR_PARTS,
                                    UTF8PROC_STABLE | UTF8PROC_COMPOSE, &last_class);
        if (made < 0 || made > CHAR_PARTS) return false;
        s->n += (size_t)made;
        i += (size_t)length;
    }
    return true;
}

/* Stable, by class: a counting sort, so that a million marks on one letter take linear time. */
static void sort_many(utf8proc_int32_t *c, utf8proc_int32_t *spare, size_t n) {
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++) at[class_of(c[i]) + 1]++;
    for (int k = 0; k < 256; k++) at[k + 1] += at[k];
    for (size_t i = 0; i < n; i++) spare[at[class_of(c[i])]++] = c[i];
    memcpy(c, spare, n * sizeof *c);
}

static void sort_few(utf8proc_int32_t *c, size_t n) {
    for (size_t i = 1; i < n; i++) {
        utf8proc_int32_t x = c[i];
        size_t k = i;
        for (; k > 0 && class_of(c[k - 1]) > class_of(x); k--) c[k] = c[k - 1];
        c[k] = x;
    }
}

/* Runs of characters of class > 0 go into the order of their classes. */
static void order_marks(span *s) {
    for (size_t i = 0; i < s->n;) {
        if (!class_of(s->c[i])) {
            i++;
            continue;
        }
        size_t begin = i;
        while (i < s->n && class_of(s->c[i])) i++;
        if (i - begin > SORT_SIMPLE)
            sort_many(s->c + begin, s->spare, i - begin);
        else
            sort_few(s->c + begin, i - begin);
    }
}

static bool normalize_span(span *s, const char *text, size_t bytes) {
    if (!decompose(s, text, bytes)) return false;
    order_marks(s);
    utf8proc_ssize_t n =
        utf8proc_normalize_utf32(s->c, (utf8proc_ssize_t)s->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0) return false;
    s->n = (size_t)n;
    return true;
}

/* End of the span that begins at i. */
static size_t span_end(const char *text, size_t bytes, size_t i) {
    int length;
    i += (size_t)radar_utf8_length((uint8_t)text[i]);
    while (i < bytes && !begins_span(radar_utf8_decode(text + i, &length))) i += (size_t)length;
    return i;
}

/* A lone character below U+0300, or one without decomposition, stays as it is. */
static bool stays(const char *text, size_t bytes) {
    int length;
    uint32_t c = radar_utf8_decode(text, &length);
    if ((size_t)length != bytes) return false;
    return c < 0x300 ||
           (utf8proc_get_property((utf8proc_int32_t)c)->decomp_seqindex == UINT16_MAX &&
            (c < 0xac00 || c > 0xd7a3));
}

static size_t encoded_bytes(const span *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->c[i] < 0x80 ? 1 : s->c[i] < 0x800 ? 2 : s->c[i] < 0x10000 ? 3 : 4;
    return n;
}

static size_t put(char *out, const span *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += (size_t)utf8proc_encode_char(s->c[i], (utf8proc_uint8_t *)out + n);
    return n;
}

/* Begin of the first span that may change, from `from` on. */
static size_t first_span(const char *text, size_t bytes, size_t from, size_t *end) {
    size_t i = from;
    while (i < bytes) {
        if ((uint8_t)text[i] < 0x80 && (i + 1 == bytes || (uint8_t)text[i + 1] < 0x80)) {
            i++;
            continue;
        }
        *end = span_end(text, bytes, i);
        if (!stays(text + i, *end - i)) return i;
        i = *end;
    }
    return bytes;
}

/* The text so far, and how much of the source it covers. */
typedef struct copy {
    char *out;
    size_t used, room, done;
} copy;

/* Copies what is between the last span and text[begin], then the span text[begin, end) in its normal form. */
static bool copy_span(copy *c, span *s, const char *text, size_t begin, size_t end) {
    if (!c->out || !normalize_span(s, text + begin, end - begin)) return false;
    size_t between = begin - c->done;
    if (between + encoded_bytes(s) > c->room - c->used) return false;
    memcpy(c->out + c->used, text + c->done, between);
    c->used += between;
    c->used += put(c->out + c->used, s);
    c->done = end;
    return true;
}

radar_status radar_nfc(radar_arena *a, const char *text, size_t bytes, const char **out,
                       size_t *out_bytes, radar_error *err) {
    *out = text;
    *out_bytes = bytes;
    size_t end = 0, begin = first_span(text, bytes, 0, &end);
    if (begin == bytes) return RADAR_OK;
    span s = {0};
    copy c = {0};
    if (radar_mul(bytes, 3, &c.room))
        c.out = radar_arena_take(a, c.room); /* UAX 15: UTF-8 grows at most threefold */
    for (; begin < bytes; begin = first_span(text, bytes, end, &end)) {
        if (copy_span(&c, &s, text, begin, end)) continue;
        radar_free(s.c);
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "tokenizer: no memory to normalise a text of %zu bytes", bytes);
    }
    radar_free(s.c);
    memcpy(c.out + c.used, text + c.done, bytes - c.done);
    c.used += bytes - c.done;
    radar_arena_trim(a, c.out, c.used);
    *out = c.out;
    *out_bytes = c.used;
    return RADAR_OK;
}
