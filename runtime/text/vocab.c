#include "runtime/text/vocab.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/sys.h"

/* ---- UTF-8 ---- */

/* Bytes of the valid character at s, 0 if there is none (Unicode 15, table 3-7). */
static int valid_char(const uint8_t *s, size_t left) {
    uint8_t a = s[0];
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4) return 0;
    int length = radar_utf8_length(a);
    if ((size_t)length > left) return 0;
    uint8_t low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    uint8_t high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (int i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return length;
}

size_t radar_utf8_valid(const char *text, size_t bytes) {
    const uint8_t *s = (const uint8_t *)text;
    size_t i = 0;
    while (i < bytes) {
        uint64_t eight;
        while (i + 8 <= bytes && (memcpy(&eight, s + i, 8), !(eight & 0x8080808080808080u))) i += 8;
        if (i == bytes) break;
        int length = valid_char(s + i, bytes - i);
        if (!length) return i;
        i += (size_t)length;
    }
    return bytes;
}

/* ---- GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up ---- */

static bool is_own_letter(unsigned b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

static unsigned letter_of(unsigned byte) {
    if (is_own_letter(byte)) return byte;
    if (byte < 0x21) return 0x100 + byte;
    if (byte < 0xa1) return 0x121 + (byte - 0x7f);
    return 0x143; /* 0xad */
}

int radar_byte_letter(uint8_t byte, char out[2]) {
    unsigned c = letter_of(byte);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
}

/* The byte a letter stands for, -1: not a letter. */
static int byte_of(uint32_t c) {
    if (c < 0x100) return is_own_letter(c) ? (int)c : -1;
    if (c < 0x121) return (int)(c - 0x100);
    if (c < 0x143) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

/* ---- text -> id ---- */

static uint32_t hash_of(const char *text, size_t bytes) {
    return (uint32_t)XXH3_64bits(text, bytes);
}

radar_status radar_vocab_init(radar_vocab *v, int64_t n, size_t text_bytes, radar_error *err) {
    if (n < 1 || n > RADAR_VOCAB_MAX)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: %lld tokens, 1 to %d are possible; the file is damaged",
                          (long long)n, RADAR_VOCAB_MAX);
    size_t slots = 16;
    while (slots < 2 * (size_t)n) slots *= 2;
    v->n = (int32_t)n;
    v->mask = slots - 1;
    v->text_room = text_bytes;
    v->flags = radar_alloc_array((size_t)n, sizeof *v->flags);
    v->text = radar_alloc_array((size_t)n, sizeof *v->text);
    v->piece = radar_alloc_array((size_t)n, sizeof *v->piece);
    v->slot = radar_alloc_array(slots, sizeof *v->slot);
    v->text_data = radar_alloc(text_bytes + 1);
    if (v->flags && v->text && v->piece && v->slot && v->text_data) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for a vocabulary of %lld tokens",
                      (long long)n);
}

void radar_vocab_free(radar_vocab *v) {
    radar_free(v->flags);
    radar_free(v->text);
    radar_free(v->piece);
    radar_free(v->slot);
    radar_free(v->text_data);
    radar_free(v->piece_data);
    memset(v, 0, sizeof *v);
}

/* The slot that holds text, or the empty one where it belongs. */
static radar_slot *slot_of(const radar_vocab *v, const char *text, size_t bytes, uint32_t hash) {
    for (size_t i = hash & v->mask;; i = (i + 1) & v->mask) {
        radar_slot *s = &v->slot[i];
        if (!s->id) return s;
        const radar_span *span = &v->text[s->id - 1];
        if (s->hash == hash && span->bytes == bytes &&
            !memcmp(v->text_data + span->at, text, bytes))
            return s;
    }
}

radar_status radar_vocab_set(radar_vocab *v, int64_t id, const char *text, size_t bytes, int flags,
                             radar_error *err) {
    int shown = (int)(bytes < 60 ? bytes : 60);
    if (id < 0 || id >= v->n)
        return radar_fail(err, RADAR_ERR_DATA, "tokenizer: token '%.*s' has id %lld, ids end at %d",
                          shown, text, (long long)id, v->n - 1);
    if (bytes > RADAR_TOKEN_MAX || bytes > v->text_room - v->text_used)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: token %lld has %zu bytes, at most %d are possible",
                          (long long)id, bytes, RADAR_TOKEN_MAX);
    if (radar_utf8_valid(text, bytes) != bytes)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: token %lld is not UTF-8; the file is damaged", (long long)id);
    if (v->flags[id])
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: id %lld is given twice, the second time to '%.*s'",
                          (long long)id, shown, text);
    uint32_t hash = hash_of(text, bytes);
    radar_slot *s = slot_of(v, text, bytes, hash);
    if (s->id)
        return radar_fail(err, RADAR_ERR_DATA, "tokenizer: tokens %d and %lld are both '%.*s'",
                          s->id - 1, (long long)id, shown, text);
    *s = (radar_slot){hash, (int32_t)id + 1};
    v->flags[id] = (uint8_t)(flags | RADAR_TOKEN_USED);
    v->text[id] = (radar_span){v->text_used, (uint32_t)bytes};
    if (bytes) memcpy(v->text_data + v->text_used, text, bytes);
    v->text_used += bytes;
    return RADAR_OK;
}

int32_t radar_vocab_find(const radar_vocab *v, const char *text, size_t bytes) {
    return slot_of(v, text, bytes, hash_of(text, bytes))->id - 1;
}

/* ---- pieces ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* <0xXX> */
static bool is_byte_name(const char *text, size_t bytes) {
    return bytes == 6 && !memcmp(text, "<0x", 3) && hex_digit(text[3]) >= 0 &&
           hex_digit(text[4]) >= 0 && text[5] == '>';
}

/* Writes the bytes for a text in GPT-2's alphabet; false when a character is not in it. */
static bool leave_alphabet(const char *text, size_t bytes, char *out, size_t *made) {
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        int length;
        int b = byte_of(radar_utf8_decode(text + i, &length));
        if (b < 0) return false;
        out[n++] = (char)b;
        i += (size_t)length;
    }
    *made = n;
    return true;
}

static size_t copy_spaces(const char *text, size_t bytes, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        if (i + 3 <= bytes && !memcmp(text + i, "\xe2\x96\x81", 3)) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text[i++];
        }
    }
    return n;
}

static size_t make_piece(const radar_vocab *v, int32_t id, bool byte_level, bool spaces,
                         char *out) {
    const char *text = v->text_data + v->text[id].at;
    size_t bytes = v->text[id].bytes, made;
    if ((v->flags[id] & RADAR_TOKEN_BYTE) && is_byte_name(text, bytes)) {
        out[0] = (char)(hex_digit(text[3]) << 4 | hex_digit(text[4]));
        return 1;
    }
    if (!(v->flags[id] & RADAR_TOKEN_ADDED)) {
        if (byte_level && leave_alphabet(text, bytes, out, &made)) return made;
        if (spaces) return copy_spaces(text, bytes, out);
    }
    memcpy(out, text, bytes);
    return bytes;
}

radar_status radar_vocab_make_pieces(radar_vocab *v, bool byte_level, bool spaces,
                                     radar_error *err) {
    v->piece_data = radar_alloc(v->text_used + 1);
    if (!v->piece_data)
        return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for the texts of %d tokens",
                          v->n);
    size_t used = 0;
    for (int32_t id = 0; id < v->n; id++) {
        if (!v->flags[id]) continue;
        size_t bytes = make_piece(v, id, byte_level, spaces, v->piece_data + used);
        v->piece[id] = (radar_span){used, (uint32_t)bytes};
        if (bytes > v->longest_piece) v->longest_piece = bytes;
        used += bytes;
    }
    return RADAR_OK;
}
