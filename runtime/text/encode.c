/* encode.c - text to ids: added tokens first, then segment by segment, word by word. */
#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/tokenizer_internal.h"

#define CACHED 16           /* bytes of the longest word that is remembered */
#define CACHE_MAX (1 << 14) /* words */

/* A word seen in this call and where its ids lie in the output. */
typedef struct word {
    uint64_t low, high; /* with the length they determine the bytes */
    size_t at;
    uint32_t n, bytes; /* bytes == 0: free */
} word;

typedef struct encoder {
    const radar_tokenizer *t;
    int32_t *ids;
    size_t n, room;
    word *cache;
    size_t cache_mask;
    radar_arena arena;
    radar_bpe_scratch scratch;
    radar_cutter cutter;
    radar_error *err;
} encoder;

static radar_status reserve(encoder *e, size_t more) {
    if (more <= e->room - e->n) return RADAR_OK;
    size_t room, bytes;
    bool fits = radar_add(e->n, more, &room) && radar_add(room, room / 2 + 64, &room) &&
                radar_mul(room, sizeof *e->ids, &bytes);
    int32_t *ids = fits ? radar_alloc(bytes) : NULL;
    if (!ids)
        return radar_fail(e->err, RADAR_ERR_MEMORY, "tokenizer: no memory for %zu token ids",
                          e->n + more);
    if (e->n) memcpy(ids, e->ids, e->n * sizeof *ids);
    radar_free(e->ids);
    e->ids = ids;
    e->room = room;
    return RADAR_OK;
}

static radar_status put_ids(encoder *e, const int32_t *ids, size_t n) {
    radar_status st = reserve(e, n);
    if (st != RADAR_OK || !n) return st;
    memcpy(e->ids + e->n, ids, n * sizeof *ids);
    e->n += n;
    return RADAR_OK;
}

/* ---- words to symbols ---- */

/* A character without token: one unknown token, or nothing when the vocabulary has none, as the reference does. */
static void unknown_symbol(encoder *e, bool after_unknown) {
    const radar_tokenizer *t = e->t;
    if (t->unk >= 0 && !(after_unknown && t->fuse_unk)) e->ids[e->n++] = t->unk;
}

static radar_status byte_symbols(encoder *e, const char *text, size_t bytes) {
    radar_status st = reserve(e, bytes);
    if (st != RADAR_OK) return st;
    bool unknown = false;
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = e->t->byte_id[(uint8_t)text[i]];
        if (id >= 0)
            e->ids[e->n++] = id;
        else
            unknown_symbol(e, unknown);
        unknown = id < 0;
    }
    return RADAR_OK;
}

static bool has_bytes(const radar_tokenizer *t, const char *text, int length) {
    for (int i = 0; i < length; i++)
        if (t->byte_id[(uint8_t)text[i]] < 0) return false;
    return true;
}

static radar_status char_symbols(encoder *e, const char *text, size_t bytes) {
    const radar_tokenizer *t = e->t;
    radar_status st = reserve(e, bytes);
    if (st != RADAR_OK) return st;
    bool after_unknown = false;
    for (size_t i = 0; i < bytes;) {
        int length = radar_utf8_length((uint8_t)text[i]);
        int32_t id = radar_vocab_find(&t->vocab, text + i, (size_t)length);
        bool unknown = false;
        if (id >= 0 && (t->vocab.flags[id] & RADAR_TOKEN_MODEL)) {
            e->ids[e->n++] = id;
        } else if (t->byte_fallback && has_bytes(t, text + i, length)) {
            for (int k = 0; k < length; k++)
                e->ids[e->n++] = t->byte_id[(uint8_t)text[i + (size_t)k]];
        } else {
            unknown_symbol(e, after_unknown);
            unknown = true;
        }
        after_unknown = unknown;
        i += (size_t)length;
    }
    return RADAR_OK;
}

/* ---- words ---- */

/* The token that is the word as a whole, -1: none. */
static int32_t whole_word(const radar_tokenizer *t, const char *text, size_t bytes) {
    char letters[2 * 256];
    size_t n = 0;
    int32_t id;
    if (t->byte_level) {
        if (bytes > 256) return -1; /* longer tokens are not looked for: there are none */
        for (size_t i = 0; i < bytes; i++)
            n += (size_t)radar_byte_letter((uint8_t)text[i], letters + n);
        id = radar_vocab_find(&t->vocab, letters, n);
    } else {
        id = radar_vocab_find(&t->vocab, text, bytes);
    }
    if (id < 0 || !(t->vocab.flags[id] & RADAR_TOKEN_MODEL) ||
        (t->vocab.flags[id] & RADAR_TOKEN_SPECIAL))
        return -1;
    return id;
}

static radar_status merge_word(encoder *e, const char *text, size_t bytes) {
    const radar_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int32_t id = whole_word(t, text, bytes);
        if (id >= 0) return put_ids(e, &id, 1);
    }
    size_t before = e->n;
    radar_status st = t->byte_level ? byte_symbols(e, text, bytes) : char_symbols(e, text, bytes);
    if (st != RADAR_OK) return st;
    size_t n = e->n - before;
    st = radar_bpe_merge(&t->bpe, &e->scratch, e->ids + before, &n, e->err);
    e->n = before + n;
    return st;
}

/* A word of 1 to 16 bytes as two numbers, without reading beyond it. */
static void key_of(const char *text, size_t bytes, uint64_t *low, uint64_t *high) {
    uint32_t a, b;
    *high = 0;
    if (bytes >= 8) {
        memcpy(low, text, 8);
        memcpy(high, text + bytes - 8, 8);
    } else if (bytes >= 4) {
        memcpy(&a, text, 4);
        memcpy(&b, text + bytes - 4, 4);
        *low = (uint64_t)b << 32 | a;
    } else {
        *low = (uint64_t)(uint8_t)text[0] | (uint64_t)(uint8_t)text[bytes / 2] << 8 |
               (uint64_t)(uint8_t)text[bytes - 1] << 16;
    }
}

static size_t cache_slot(const encoder *e, uint64_t low, uint64_t high, size_t bytes) {
    uint64_t h =
        (low ^ bytes) * 0x9e3779b97f4a7c15u ^ (high + 0x165667b19e3779f9u) * 0xc2b2ae3d27d4eb4fu;
    h ^= h >> 32;
    return (size_t)(h * 0xbf58476d1ce4e5b9u >> 40) & e->cache_mask;
}

static radar_status encode_word(encoder *e, const char *text, size_t bytes) {
    uint64_t low, high;
    if (bytes > CACHED || !e->cache) return merge_word(e, text, bytes);
    key_of(text, bytes, &low, &high);
    word *w = &e->cache[cache_slot(e, low, high, bytes)];
    if (w->low == low && w->high == high && w->bytes == bytes) {
        radar_status st = reserve(e, CACHED);
        if (st != RADAR_OK) return st;
        for (uint32_t i = 0; i < w->n; i++) e->ids[e->n + i] = e->ids[w->at + i];
        e->n += w->n;
        return RADAR_OK;
    }
    size_t at = e->n;
    radar_status st = merge_word(e, text, bytes);
    *w = (word){low, high, at, (uint32_t)(e->n - at), (uint32_t)bytes};
    return st;
}

/* Where no merge reaches over the beginning of a run of spaces, a text of SentencePiece is cut there. */
static size_t before_spaces(const char *text, size_t bytes) {
    size_t i = 0;
    while (i + 3 <= bytes && !memcmp(text + i, "\xe2\x96\x81", 3)) i += 3;
    for (; i < bytes; i++)
        if ((uint8_t)text[i] == 0xe2 && i + 3 <= bytes && !memcmp(text + i, "\xe2\x96\x81", 3))
            break;
    return i;
}

static radar_status encode_words(encoder *e, const char *text, size_t bytes) {
    radar_cutter_begin(&e->cutter, text, bytes);
    for (;;) {
        const char *w = NULL;
        radar_status st = radar_cutter_next(&e->cutter, &w, &bytes, e->err);
        if (st != RADAR_OK || !bytes) return st;
        for (size_t i = 0, n; i < bytes && st == RADAR_OK; i += n) {
            n = e->t->spaces_cut ? before_spaces(w + i, bytes - i) : bytes;
            st = encode_word(e, w + i, n);
        }
        if (st != RADAR_OK) return st;
    }
}

/* ---- segments ---- */

/* A segment between added tokens: normalised, cut at the added tokens that are matched in normalised text, cut into words. */
static radar_status encode_segment(encoder *e, const char *text, size_t bytes, bool at_start,
                                   bool trusted) {
    const radar_normalizer *z = &e->t->normalizer;
    radar_status st =
        radar_normalize(z, 0, z->n_before_added, &e->arena, at_start, &text, &bytes, e->err);
    radar_range all = {0, bytes};
    for (size_t i = 0; st == RADAR_OK && i < bytes;) {
        radar_special_match m =
            radar_specials_next(&e->t->normalized, text, bytes, i, &all, trusted);
        const char *segment = text + i;
        size_t n = m.begin - i;
        st = radar_normalize(z, z->n_before_added, z->n, &e->arena, at_start && i == 0, &segment,
                             &n, e->err);
        if (st == RADAR_OK && n) st = encode_words(e, segment, n);
        if (st == RADAR_OK && m.id >= 0) st = put_ids(e, &m.id, 1);
        i = m.end;
    }
    return st;
}

static bool is_inside(const radar_range *trusted, size_t n, size_t begin, size_t end) {
    for (size_t i = 0; i < n; i++)
        if (trusted[i].begin <= begin && end <= trusted[i].end) return true;
    return false;
}

static radar_status encode_text(encoder *e, const char *text, size_t bytes,
                                const radar_range *trusted, size_t n_trusted) {
    radar_status st = RADAR_OK;
    for (size_t i = 0; st == RADAR_OK && i < bytes;) {
        radar_special_match m = radar_specials_next(&e->t->raw, text, bytes, i, trusted, n_trusted);
        bool safe = e->t->normalized.n && is_inside(trusted, n_trusted, i, m.begin);
        if (m.begin > i) st = encode_segment(e, text + i, m.begin - i, i == 0, safe);
        if (st == RADAR_OK && m.id >= 0) st = put_ids(e, &m.id, 1);
        i = m.end;
    }
    return st;
}

/* ---- calls ---- */

static radar_status encoder_open(encoder *e, const radar_tokenizer *t, size_t bytes,
                                 radar_error *err) {
    *e = (encoder){.t = t, .err = err};
    size_t words = 64;
    while (words < CACHE_MAX && words < bytes / 16) words *= 2;
    e->cache = radar_alloc_array(words, sizeof *e->cache); /* without it: slower */
    e->cache_mask = words - 1;
    return radar_cutter_open(&e->cutter, &t->pretokenizer, err);
}

/* Frees all but the ids on success. */
static radar_status encoder_close(encoder *e, radar_status st, int32_t **ids, size_t *n) {
    radar_cutter_close(&e->cutter);
    radar_bpe_scratch_free(&e->scratch);
    radar_arena_free(&e->arena);
    radar_free(e->cache);
    if (st != RADAR_OK || !e->n) {
        radar_free(e->ids);
        e->ids = NULL;
        e->n = 0;
    }
    *ids = e->ids;
    *n = e->n;
    return st;
}

radar_status radar_tokenizer_encode(const radar_tokenizer *t, const char *text, size_t bytes,
                                    int flags, int32_t **ids, size_t *n, radar_error *err) {
    *ids = NULL;
    *n = 0;
    size_t good = radar_utf8_valid(text, bytes);
    if (good != bytes)
        return radar_fail(
            err, RADAR_ERR_DATA,
            "the text is not UTF-8: byte %zu is 0x%02x; convert it, or give token ids", good,
            (uint8_t)text[good]);
    encoder e;
    radar_range all = {0, bytes};
    radar_status st = encoder_open(&e, t, bytes, err);
    if (st == RADAR_OK && (flags & RADAR_TOKENIZE_BOS))
        st = put_ids(&e, t->before, (size_t)t->n_before);
    if (st == RADAR_OK)
        st = encode_text(&e, text, bytes, &all, (flags & RADAR_TOKENIZE_SPECIAL) != 0);
    if (st == RADAR_OK && (flags & RADAR_TOKENIZE_BOS))
        st = put_ids(&e, t->after, (size_t)t->n_after);
    return encoder_close(&e, st, ids, n);
}

/* All parts in one buffer, and the ranges that are trusted. */
static radar_status join_parts(const radar_text_part *part, size_t n_parts, char **text,
                               size_t *bytes, radar_range **trusted, size_t *n_trusted,
                               radar_error *err) {
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n_parts; i++)
        if (!radar_add(total, part[i].bytes, &total))
            return radar_fail(err, RADAR_ERR_MEMORY, "the conversation is too long");
    *text = radar_alloc(total + 1);
    *trusted = radar_alloc_array(n_parts + 1, sizeof **trusted);
    if (!*text || !*trusted)
        return radar_fail(err, RADAR_ERR_MEMORY, "no memory for a conversation of %zu bytes",
                          total);
    for (size_t i = 0; i < n_parts; i++) {
        size_t good = radar_utf8_valid(part[i].text, part[i].bytes);
        if (good != part[i].bytes)
            return radar_fail(err, RADAR_ERR_DATA,
                              "a message is not UTF-8: byte %zu is 0x%02x; convert it", good,
                              (uint8_t)part[i].text[good]);
        if (part[i].bytes) memcpy(*text + at, part[i].text, part[i].bytes);
        if (part[i].trusted) (*trusted)[(*n_trusted)++] = (radar_range){at, at + part[i].bytes};
        at += part[i].bytes;
    }
    *bytes = total;
    return RADAR_OK;
}

radar_status radar_tokenizer_encode_parts(const radar_tokenizer *t, const radar_text_part *part,
                                          size_t n_parts, int32_t **ids, size_t *n,
                                          radar_error *err) {
    *ids = NULL;
    *n = 0;
    char *text = NULL;
    radar_range *trusted = NULL;
    size_t bytes = 0, n_trusted = 0;
    radar_status st = join_parts(part, n_parts, &text, &bytes, &trusted, &n_trusted, err);
    if (st == RADAR_OK) {
        encoder e;
        st = encoder_open(&e, t, bytes, err);
        if (st == RADAR_OK) st = encode_text(&e, text, bytes, trusted, n_trusted);
        st = encoder_close(&e, st, ids, n);
    }
    radar_free(trusted);
    radar_free(text);
    return st;
}
