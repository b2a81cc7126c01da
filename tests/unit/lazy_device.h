/* lazy_device.h - a radar_device whose memory is the host's and whose queue runs when it is flushed.  Its memory can be touched by the
 * device's own functions alone: who looks into it otherwise, crashes.  Moves of one call that overlap are counted. */
#ifndef RADAR_TEST_LAZY_DEVICE_H
#define RADAR_TEST_LAZY_DEVICE_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "parallel/comm.h"

#define LAZY_BYTES ((size_t)16 << 20)

typedef struct lazy_command {
    const char *what;
    int (*call)(void *data, void *stream);
    radar_status (*host)(void *data, radar_error *err);
    void *data; /* without call and host: moves */
    int n_moves;
} lazy_command;

typedef struct lazy_device {
    radar_device device;
    char *memory;
    size_t used;
    int live; /* blocks */
    lazy_command command[4096];
    int n;
    int calls, hosts, moves; /* commands done */
    int overlaps;
    int copies_left; /* the n-th read or write fails; 0 = none */
    int stamp,
        *stamped; /* by number of the device's memory: the last call of moves that wrote it */
} lazy_device;

static inline void lazy_open_memory(lazy_device *d, bool open) {
    if (mprotect(d->memory, LAZY_BYTES, open ? PROT_READ | PROT_WRITE : PROT_NONE)) abort();
}

static inline void lazy_add(lazy_device *d, lazy_command command, const void *data, size_t bytes) {
    if (d->n == (int)(sizeof d->command / sizeof *d->command)) abort();
    command.data = memcpy(malloc(bytes + 1), data, bytes);
    d->command[d->n++] = command;
}

static void lazy_call(void *user, const char *what, int (*work)(void *, void *), const void *data,
                      size_t bytes) {
    lazy_add(user, (lazy_command){.what = what, .call = work}, data, bytes);
}

static void lazy_host(void *user, radar_status (*work)(void *, radar_error *), const void *data,
                      size_t bytes) {
    lazy_add(user, (lazy_command){.host = work}, data, bytes);
}

static void lazy_move(void *user, const radar_move *move, int n) {
    if (n > 0) lazy_add(user, (lazy_command){.n_moves = n}, move, (size_t)n * sizeof *move);
}

static int lazy_copy(lazy_device *d, void *to, const void *from, size_t bytes) {
    if (d->copies_left > 0 && --d->copies_left == 0) return 719;
    lazy_open_memory(d, true);
    memcpy(to, from, bytes);
    lazy_open_memory(d, false);
    return 0;
}

static int lazy_read(void *user, void *host, const void *device, size_t bytes) {
    return lazy_copy(user, host, device, bytes);
}

static int lazy_write(void *user, void *device, const void *host, size_t bytes) {
    return lazy_copy(user, device, host, bytes);
}

static void *lazy_alloc(void *user, size_t bytes) {
    lazy_device *d = user;
    if (bytes == 0 || bytes > LAZY_BYTES - d->used) return NULL;
    void *memory = d->memory + d->used;
    d->used += (bytes + 255) / 256 * 256;
    d->live++;
    lazy_open_memory(d, true);
    memset(memory, 0, bytes);
    lazy_open_memory(d, false);
    return memory;
}

static void lazy_release(void *user, void *memory) {
    lazy_device *d = user;
    if (memory && --d->live == 0) d->used = 0;
}

static inline lazy_device *lazy_open(void) {
    lazy_device *d = calloc(1, sizeof *d);
    d->memory = mmap(NULL, LAZY_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    d->stamped = calloc(LAZY_BYTES / sizeof(float), sizeof *d->stamped);
    if (d->memory == MAP_FAILED || !d->stamped) abort();
    d->device = (radar_device){.user = d,
                               .call = lazy_call,
                               .host = lazy_host,
                               .move = lazy_move,
                               .read = lazy_read,
                               .write = lazy_write,
                               .alloc = lazy_alloc,
                               .release = lazy_release};
    return d;
}

static inline void lazy_close(lazy_device *d) {
    for (int i = 0; i < d->n; i++) free(d->command[i].data);
    munmap(d->memory, LAZY_BYTES);
    free(d->stamped);
    free(d);
}

/* The stamp of a number, or NULL where it is not the device's own memory. */
static inline int *lazy_stamp(lazy_device *d, const float *number) {
    ptrdiff_t at = (const char *)number - d->memory;
    return at >= 0 && at < (ptrdiff_t)LAZY_BYTES ? &d->stamped[at / (ptrdiff_t)sizeof *number]
                                                 : NULL;
}

/* What is written must be written once, and read by nobody. */
static inline void lazy_check_moves(lazy_device *d, const radar_move *move, int n) {
    d->stamp++;
    for (int reading = 0; reading < 2; reading++)
        for (int i = 0; i < n; i++)
            for (int64_t j = 0; j < move[i].rows * move[i].width; j++) {
                size_t row = (size_t)(j / move[i].width), column = (size_t)(j % move[i].width);
                int *stamp = reading
                                 ? lazy_stamp(d, move[i].from + row * move[i].from_stride + column)
                                 : lazy_stamp(d, move[i].to + row * move[i].to_stride + column);
                if (!stamp) continue;
                d->overlaps += *stamp == d->stamp;
                if (!reading) *stamp = d->stamp;
            }
}

static inline void lazy_run_moves(lazy_device *d, const radar_move *move, int n) {
    lazy_check_moves(d, move, n);
    d->moves++;
    lazy_open_memory(d, true);
    for (int i = n - 1; i >= 0; i--) /* any order will do */
        for (int64_t row = 0; row < move[i].rows; row++)
            memcpy(move[i].to + (size_t)row * move[i].to_stride,
                   move[i].from + (size_t)row * move[i].from_stride,
                   (size_t)move[i].width * sizeof(float));
    lazy_open_memory(d, false);
}

static inline radar_status lazy_run(lazy_device *d, const lazy_command *c, radar_error *err) {
    if (c->host) {
        d->hosts++;
        return c->host(c->data, err);
    }
    if (!c->call) {
        lazy_run_moves(d, c->data, c->n_moves);
        return RADAR_OK;
    }
    d->calls++;
    lazy_open_memory(d, true);
    const int code = c->call(c->data, NULL);
    lazy_open_memory(d, false);
    return code ? radar_fail(err, RADAR_ERR_PEER, "%s: error %d", c->what, code) : RADAR_OK;
}

/* All that is queued, up to the first failure. */
static inline radar_status lazy_flush(lazy_device *d, radar_error *err) {
    radar_status st = RADAR_OK;
    for (int i = 0; i < d->n; i++) {
        if (st == RADAR_OK) st = lazy_run(d, &d->command[i], err);
        free(d->command[i].data);
    }
    d->n = 0;
    return st;
}

#endif
