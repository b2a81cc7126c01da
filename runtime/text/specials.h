/* specials.h - added tokens: those that are found in a text as a whole, before anything else looks at it.
 *
 * Leftmost, then longest.  Special ones count only inside trusted ranges of the text; the others everywhere. */
#ifndef RADAR_SPECIALS_H
#define RADAR_SPECIALS_H

#include "runtime/base.h"

#define RADAR_SPECIAL_BYTES 1024 /* the longest spelling */

enum {
    RADAR_ADDED_SPECIAL = 1,
    RADAR_ADDED_LSTRIP = 2,     /* takes the white space before it */
    RADAR_ADDED_RSTRIP = 4,     /* takes the white space after it */
    RADAR_ADDED_SINGLE_WORD = 8 /* only between characters that are not of words */
};

typedef struct radar_special {
    const char *text; /* owned by the set */
    uint32_t bytes;
    int32_t id;
    int flags;
} radar_special;

typedef struct radar_specials {
    radar_special *token; /* [n], sorted by spelling once sealed */
    size_t n, room;
    uint32_t first[257]; /* tokens that begin with byte b: first[b] .. first[b + 1] - 1 */
} radar_specials;

/* Copies the spelling. */
radar_status radar_specials_add(radar_specials *s, const char *text, size_t bytes, int32_t id,
                                int flags, radar_error *err);
/* After the last addition.  Of equal spellings one stays. */
void radar_specials_seal(radar_specials *s);
void radar_specials_free(radar_specials *s);

bool radar_is_white_space(uint32_t c); /* White_Space of Unicode */

typedef struct radar_range {
    size_t begin, end;
} radar_range;

typedef struct radar_special_match {
    size_t begin, end; /* with the white space it takes */
    int32_t id;        /* -1: no more */
} radar_special_match;

/* The first match in text[from, bytes) that begins at or after from; trusted ranges are in order and do not touch. */
radar_special_match radar_specials_next(const radar_specials *s, const char *text, size_t bytes,
                                        size_t from, const radar_range *trusted, size_t n_trusted);

#endif
