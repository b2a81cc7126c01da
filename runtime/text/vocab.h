/* vocab.h - the tokens of a model: texts as the file spells them, the bytes they stand for, text -> id. */
#ifndef RADAR_VOCAB_H
#define RADAR_VOCAB_H

#include "runtime/base.h"

#define RADAR_VOCAB_MAX (1 << 22) /* ids; the largest vocabularies there are have 2^18 */
#define RADAR_TOKEN_MAX (1 << 16) /* bytes of one token */

enum {
    RADAR_TOKEN_USED = 1,    /* the id has a token */
    RADAR_TOKEN_MODEL = 2,   /* merges may make it */
    RADAR_TOKEN_ADDED = 4,   /* matched in the text as a whole */
    RADAR_TOKEN_SPECIAL = 8, /* added, and only from trusted text */
    RADAR_TOKEN_BYTE = 16    /* <0xXX> of a vocabulary with byte fallback */
};

typedef struct radar_span {
    size_t at;
    uint32_t bytes;
} radar_span;

typedef struct radar_slot {
    uint32_t hash;
    int32_t id; /* id + 1; 0: empty */
} radar_slot;

typedef struct radar_vocab {
    int32_t n;                /* ids are 0 .. n-1 */
    uint8_t *flags;           /* [n] */
    radar_span *text, *piece; /* [n] */
    char *text_data, *piece_data;
    size_t text_used, text_room;
    size_t longest_piece;
    radar_slot *slot; /* open addressing, a power of two, at most half full */
    size_t mask;
} radar_vocab;

/* Room for ids 0 .. n-1 whose texts have text_bytes together. */
radar_status radar_vocab_init(radar_vocab *v, int64_t n, size_t text_bytes, radar_error *err);
void radar_vocab_free(radar_vocab *v);
/* Refuses an id or a text that is there already. */
radar_status radar_vocab_set(radar_vocab *v, int64_t id, const char *text, size_t bytes, int flags,
                             radar_error *err);
int32_t radar_vocab_find(const radar_vocab *v, const char *text, size_t bytes); /* -1: none */

/* The bytes of every token: model tokens of a byte-level vocabulary leave GPT-2's alphabet, of another one turn U+2581 into a
 * space and <0xXX> into a byte; added tokens are as spelled. */
radar_status radar_vocab_make_pieces(radar_vocab *v, bool byte_level, bool spaces,
                                     radar_error *err);

/* GPT-2's alphabet: the character that stands for a byte, as UTF-8 (1 or 2 bytes). */
int radar_byte_letter(uint8_t byte, char out[2]);

/* Offset of the first byte that is not UTF-8, or bytes. */
size_t radar_utf8_valid(const char *text, size_t bytes);
/* Bytes of the character that begins with this byte of valid UTF-8. */
static inline int radar_utf8_length(uint8_t first) {
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
/* The character at text, which is valid UTF-8. */
static inline uint32_t radar_utf8_decode(const char *text, int *length) {
    const uint8_t *s = (const uint8_t *)text;
    *length = radar_utf8_length(s[0]);
    switch (*length) {
    case 1:
        return s[0];
    case 2:
        return (s[0] & 31u) << 6 | (s[1] & 63u);
    case 3:
        return (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u);
    default:
        return (s[0] & 7u) << 18 | (s[1] & 63u) << 12 | (s[2] & 63u) << 6 | (s[3] & 63u);
    }
}

#endif
