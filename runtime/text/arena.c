#include "runtime/text/arena.h"

#include "runtime/base.h"
#include "runtime/sys.h"

#define BLOCK ((size_t)64 << 10)

typedef struct radar_arena_block {
    struct radar_arena_block *before;
    char data[];
} radar_arena_block;

char *radar_arena_take(radar_arena *a, size_t bytes) {
    if (!a->last || bytes > a->room - a->used) {
        size_t room = bytes > BLOCK ? bytes : BLOCK, total;
        if (!radar_add(room, sizeof(radar_arena_block), &total)) return NULL;
        radar_arena_block *b = radar_alloc(total);
        if (!b) return NULL;
        b->before = a->last;
        *a = (radar_arena){b, 0, room};
    }
    char *piece = a->last->data + a->used;
    a->used += bytes;
    return piece;
}

void radar_arena_trim(radar_arena *a, const char *piece, size_t used) {
    a->used = (size_t)(piece - a->last->data) + used;
}

void radar_arena_free(radar_arena *a) {
    while (a->last) {
        radar_arena_block *before = a->last->before;
        radar_free(a->last);
        a->last = before;
    }
    *a = (radar_arena){0};
}
