/* arena.h - memory for the texts of one call: pieces stay where they are and are freed together. */
#ifndef RADAR_ARENA_H
#define RADAR_ARENA_H

#include <stddef.h>

typedef struct radar_arena {
    struct radar_arena_block *last;
    size_t used, room; /* of the last block */
} radar_arena;

/* [this rank] NULL: no memory.  bytes may be 0. */
char *radar_arena_take(radar_arena *a, size_t bytes);
/* Gives back the end of the latest piece, of which only `used` bytes are needed. */
void radar_arena_trim(radar_arena *a, const char *piece, size_t used);
void radar_arena_free(radar_arena *a);

#endif
