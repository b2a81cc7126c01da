/* device_cases.h - what every carrier of device memory must do, as one rank does it; wrong answers are counted, so that ranks may be
 * threads.  All inputs have one exact answer, or must have the bits of one rank. */
#ifndef RADAR_TEST_DEVICE_CASES_H
#define RADAR_TEST_DEVICE_CASES_H

#include <stdio.h>

#include "parallel/exchange.h"
#include "tests/unit/lazy_device.h"

#define EXPECT(condition) \
    do { \
        if (!(condition)) { \
            wrong++; \
            fprintf(stderr, "# rank %d of %d: %s:%d: %s\n", c->rank, c->size, __FILE__, __LINE__, \
                    #condition); \
        } \
    } while (0)

/* Device memory, whichever it is: the carrier's own need not be the device's. */
static inline void device_get(lazy_device *d, void *host, const void *device, size_t bytes) {
    lazy_open_memory(d, true);
    memcpy(host, device, bytes);
    lazy_open_memory(d, false);
}
static inline void device_put(lazy_device *d, void *device, const void *host, size_t bytes) {
    lazy_open_memory(d, true);
    memcpy(device, host, bytes);
    lazy_open_memory(d, false);
}

/* ---- gathers ---- */

/* Bytes of rank r: round 0 none, 1 equal ones side by side, 2 equal ones apart, 3 side by side but not all equal, else unequal,
 * some empty. */
static inline size_t gather_bytes(int r, int round) {
    if (round == 0) return 0;
    if (round == 3) return r % 3 == 2 ? 40 : 96;
    return round <= 2 ? 96 : (size_t)((r * 7 + round * 5) % 4 * (r + 1) * 13);
}
static inline unsigned char gather_value(int r, size_t i, int round) {
    return (unsigned char)(1 + (r * 37 + (int)i * 3 + round) % 250);
}

static inline int gather_round(radar_comm *c, lazy_device *d, radar_exchange x, int round) {
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS], total = 0, gap = round % 2 ? 0 : 5;
    int wrong = 0;
    for (int r = 0; r < c->size; r++) {
        bytes[r] = gather_bytes(r, round);
        offset[r] = total;
        total += bytes[r] + gap;
    }
    total += 8;
    unsigned char *host = calloc(total, 1), *device = radar_comm_alloc(c, total);
    EXPECT(device != NULL);
    for (size_t i = 0; i < bytes[c->rank]; i++)
        host[offset[c->rank] + i] = gather_value(c->rank, i, round);
    device_put(d, device, host, total);
    const int64_t had = c->stats[x].bytes, calls = c->stats[x].calls;
    EXPECT(radar_gather(c, x, device, bytes, offset, NULL) == RADAR_OK);
    device_get(d, host, device, total);
    for (int r = 0; r < c->size; r++) /* nothing has happened yet */
        if (r != c->rank && bytes[r]) EXPECT(host[offset[r]] == 0);
    EXPECT(lazy_flush(d, NULL) == RADAR_OK);
    device_get(d, host, device, total);
    size_t at = 0, received = 0;
    for (int r = 0; r < c->size; r++) {
        for (size_t i = 0; i < bytes[r]; i++) wrong += host[at++] != gather_value(r, i, round);
        for (size_t i = 0; i < gap; i++) wrong += host[at++] != 0;
        if (r != c->rank) received += bytes[r];
    }
    EXPECT(wrong == 0);
    EXPECT(c->stats[x].bytes - had == (int64_t)received && c->stats[x].calls - calls == 1);
    radar_comm_release(c, device);
    free(host);
    return wrong;
}

/* Set-up is of host memory, and at once; it is counted here and not at base. */
static inline int set_up(radar_comm *c, lazy_device *d) {
    int wrong = 0, value[RADAR_MAX_RANKS] = {0}, worst_rank = -1;
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    const int64_t calls = c->stats[RADAR_X_SETUP].calls;
    const int64_t base_calls = c->base->stats[RADAR_X_SETUP].calls;
    for (int r = 0; r < c->size; r++) {
        bytes[r] = sizeof(int);
        offset[r] = (size_t)r * sizeof(int);
    }
    value[c->rank] = c->rank + 5;
    EXPECT(radar_gather(c, RADAR_X_SETUP, value, bytes, offset, NULL) == RADAR_OK);
    for (int r = 0; r < c->size; r++) EXPECT(value[r] == r + 5);
    value[0] = c->rank;
    EXPECT(radar_broadcast(c, value, sizeof *value, c->size - 1, NULL) == RADAR_OK);
    EXPECT(value[0] == c->size - 1);
    radar_status worst = c->rank >= c->size / 2 ? RADAR_ERR_DATA : RADAR_OK;
    EXPECT(radar_worst(c, &worst, &worst_rank, NULL) == RADAR_OK);
    EXPECT(worst == RADAR_ERR_DATA && worst_rank == c->size / 2);
    radar_header mine = {3, c->rank == 0 ? RADAR_ERR_MEMORY : RADAR_OK, 1}, all;
    EXPECT(radar_exchange_headers(c, &mine, &all, NULL) == RADAR_OK);
    EXPECT(all.step == 3 && all.status == RADAR_ERR_MEMORY && all.flags == 1);
    EXPECT(c->stats[RADAR_X_SETUP].calls - calls == 4);
    EXPECT(c->base->stats[RADAR_X_SETUP].calls == base_calls);
    EXPECT(d->n == 0);
    return wrong;
}

/* ---- rows ---- */

enum { ROW_PIECES = 3, ROW_COUNT = 5, ROW_MARGIN = 3 };

static inline int exchange_rows(radar_comm *c, lazy_device *d, int shards) {
    static const int64_t totals[ROW_PIECES] = {576, 192, 37}, blocks[ROW_PIECES] = {64, 32, 1};
    radar_layout l = {shards, 256, c->size};
    radar_piece piece[ROW_PIECES];
    int wrong = 0;
    for (int i = 0; i < ROW_PIECES; i++) {
        piece[i] = (radar_piece){totals[i], blocks[i], NULL, (size_t)totals[i] + ROW_MARGIN};
        piece[i].full = lazy_alloc(d, piece[i].full_stride * ROW_COUNT * sizeof(float));
    }
    void *packet = radar_comm_alloc(c, radar_packet_bytes(&l, piece, ROW_PIECES, ROW_COUNT) + 1);
    EXPECT(packet != NULL);
    for (int i = 0; i < ROW_PIECES; i++) {
        int64_t begin, end;
        size_t stride;
        float *slot =
            radar_packet_slot(&l, c->rank, packet, piece, ROW_PIECES, i, ROW_COUNT, &stride);
        radar_rank_slice(&l, c->rank, totals[i], blocks[i], &begin, &end);
        for (int m = 0; m < ROW_COUNT; m++)
            for (int64_t column = begin; column < end; column++) {
                float cell = (float)(i * 100000 + m * 1000 + column);
                device_put(d, slot + (size_t)m * stride + (column - begin), &cell, sizeof cell);
            }
    }
    radar_header mine = {9, RADAR_ERR_DATA, 1}, worst; /* headers alone tell how ranks fare */
    const int moves = d->moves;
    EXPECT(radar_exchange_rows(c, &l, RADAR_X1_QKV, packet, piece, ROW_PIECES, ROW_COUNT, &mine,
                               &worst, NULL) == RADAR_OK);
    EXPECT(worst.step == 9 && worst.status == RADAR_OK && worst.flags == 0);
    EXPECT(lazy_flush(d, NULL) == RADAR_OK);
    EXPECT(d->moves - moves == (c->size > 1));
    for (int i = 0; i < ROW_PIECES; i++)
        for (int m = 0; m < ROW_COUNT; m++) {
            float row[1024];
            device_get(d, row, piece[i].full + (size_t)m * piece[i].full_stride,
                       piece[i].full_stride * sizeof *row);
            for (int64_t column = 0; column < totals[i] + ROW_MARGIN; column++)
                wrong += !(row[column] ==
                           (column < totals[i] ? (float)(i * 100000 + m * 1000 + column) : 0));
        }
    EXPECT(wrong == 0);
    radar_comm_release(c, packet);
    for (int i = 0; i < ROW_PIECES; i++) lazy_release(d, piece[i].full);
    return wrong;
}

/* ---- trees ---- */

enum { TREE_FLOATS = 66 };

typedef struct tree_job {
    float *buffer;
    int first, count, apart;
} tree_job;

/* Neither associative nor commutative, and rounded at every step. */
static int run_merge(void *data, void *stream) {
    const tree_job *t = data;
    (void)stream;
    for (int half = 1; half < t->count; half *= 2)
        for (int i = 0; i < t->count; i += 2 * half) {
            float *x = t->buffer + (size_t)(t->first + i * t->apart) * TREE_FLOATS;
            const float *y = x + (size_t)(half * t->apart) * TREE_FLOATS;
            for (int j = 0; j < TREE_FLOATS; j++) x[j] = x[j] * 0.7f + y[j];
        }
    return 0;
}

typedef struct tree_user {
    lazy_device *d; /* NULL: at once */
    float *buffer;
    int calls;
} tree_user;

static void queue_merge(void *user, int first, int count, int apart) {
    tree_user *t = user;
    tree_job job = {t->buffer, first, count, apart};
    t->calls++;
    if (t->d)
        lazy_call(t->d, "merge", run_merge, &job, sizeof job);
    else
        run_merge(&job, NULL);
}

static inline int exchange_tree(radar_comm *c, lazy_device *d, int shards) {
    float want[RADAR_MAX_SHARDS * TREE_FLOATS], mine[RADAR_MAX_SHARDS * TREE_FLOATS];
    const size_t piece = TREE_FLOATS * sizeof(float), bytes = (size_t)shards * piece;
    radar_layout l = {shards, 256, c->size};
    int wrong = 0;
    for (int i = 0; i < shards * TREE_FLOATS; i++) {
        int owner = radar_shard_owner(&l, i / TREE_FLOATS);
        want[i] = (float)radar_random_normal(3, RADAR_STREAM_PICK, (uint64_t)i);
        mine[i] = owner == c->rank ? want[i] : 1e30f;
    }
    tree_user one = {NULL, want, 0}, user = {d, radar_comm_alloc(c, bytes), 0};
    radar_tree(0, shards, queue_merge, &one);
    EXPECT(user.buffer != NULL);
    device_put(d, user.buffer, mine, bytes);
    const int moves = d->moves;
    radar_tree_of_rank(&l, c->rank, queue_merge, &user);
    EXPECT(radar_exchange_subtrees(c, &l, RADAR_X3_PARTIALS, user.buffer, TREE_FLOATS, queue_merge,
                                   &user, NULL) == RADAR_OK);
    EXPECT(lazy_flush(d, NULL) == RADAR_OK);
    device_get(d, mine, user.buffer, piece);
    EXPECT(memcmp(mine, want, piece) == 0);
    EXPECT(d->overlaps == 0);
    if ((c->size & (c->size - 1)) == 0) {
        EXPECT(d->moves - moves <= 1);
        EXPECT(user.calls == (c->size < shards) + (c->size > 1));
    }
    radar_comm_release(c, user.buffer);
    return wrong;
}

/* ---- all of it ---- */

static inline int device_cases(radar_comm *c, lazy_device *d) {
    int wrong = 0, fewest = 1;
    while (fewest < c->size) fewest *= 2;
    for (int round = 0; round < 12; round++) wrong += gather_round(c, d, RADAR_X2_TOPK, round);
    wrong += set_up(c, d);
    for (int shards = fewest; shards <= RADAR_MAX_SHARDS; shards *= 2) {
        wrong += exchange_rows(c, d, shards);
        wrong += exchange_tree(c, d, shards);
    }
    EXPECT(d->live == 0 && d->n == 0);
    return wrong;
}

#endif
