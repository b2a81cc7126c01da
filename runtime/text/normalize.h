/* normalize.h - what happens to a segment of text before it is cut into words: a short list of steps. */
#ifndef RADAR_NORMALIZE_H
#define RADAR_NORMALIZE_H

#include "runtime/text/arena.h"
#include "runtime/base.h"

#define RADAR_NORMALIZER_STEPS 8
#define RADAR_NORMALIZER_STRING 64

typedef enum radar_normalizer_kind {
    RADAR_NORMALIZE_NFC,
    RADAR_NORMALIZE_PREPEND,         /* `to` before a text that is not empty */
    RADAR_NORMALIZE_PREPEND_MISSING, /* the same, unless it begins with `to` */
    RADAR_NORMALIZE_PREPEND_FIRST,   /* the same, only at the beginning of the whole text */
    RADAR_NORMALIZE_REPLACE          /* every `from` becomes `to` */
} radar_normalizer_kind;

typedef struct radar_normalizer_step {
    radar_normalizer_kind kind;
    char from[RADAR_NORMALIZER_STRING], to[RADAR_NORMALIZER_STRING];
    size_t from_bytes, to_bytes;
} radar_normalizer_step;

/* Added tokens that ask for it are matched after step n_before_added; the rest belongs to the pre-tokeniser. */
typedef struct radar_normalizer {
    int n, n_before_added;
    radar_normalizer_step step[RADAR_NORMALIZER_STEPS];
} radar_normalizer;

/* Refuses a ninth step and strings that do not fit. */
radar_status radar_normalizer_add(radar_normalizer *z, radar_normalizer_kind kind, const char *from,
                                  size_t from_bytes, const char *to, size_t to_bytes,
                                  radar_error *err);

/* [this rank] Steps first .. last - 1 on a segment; the result is the segment itself or taken from the arena.
 * at_start: the segment begins the whole text. */
radar_status radar_normalize(const radar_normalizer *z, int first, int last, radar_arena *a,
                             bool at_start, const char **text, size_t *bytes, radar_error *err);

#endif
