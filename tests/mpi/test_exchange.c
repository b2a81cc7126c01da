/* Rows and subtrees over MPI: exact integers, and sums of floats that must have the same bits for every number of ranks. */
#include "tests/mpi/tap.h"

#include <string.h>

#include "parallel/exchange.h"
#include "runtime/sys.h"

static radar_comm *open_comm(void) {
    radar_comm *c = NULL;
    MPI_Comm world = MPI_COMM_WORLD;
    if (radar_comm_mpi(&c, &world, NULL) != RADAR_OK) PMPI_Abort(MPI_COMM_WORLD, 1);
    return c;
}

/* The smallest power of two that has a shard for every rank, and larger ones. */
static int fewest_shards(void) {
    int n = 1;
    while (n < tap_ranks) n *= 2;
    return n;
}

/* ---- rows ---- */

enum { PIECES = 4, MARGIN = 3 };
static const int64_t totals[PIECES] = {576, 192, 37, 3}, blocks[PIECES] = {64, 32, 1, 1};

static float cell(int i, int m, int64_t column, int round) {
    return (float)(i * 1000000 + m * 10000 + column * 10 + round);
}

typedef struct rows {
    radar_layout layout;
    radar_piece piece[PIECES];
    void *packet;
} rows;

static void open_rows(rows *t, int shards, int max_rows) {
    t->layout = (radar_layout){shards, 256, tap_ranks};
    for (int i = 0; i < PIECES; i++) {
        size_t stride = (size_t)totals[i] + MARGIN;
        t->piece[i] = (radar_piece){totals[i], blocks[i], NULL, stride};
        t->piece[i].full = radar_alloc_array(stride * (size_t)max_rows, sizeof(float));
    }
    t->packet = radar_alloc(radar_packet_bytes(&t->layout, t->piece, PIECES, max_rows));
}

static void close_rows(rows *t) {
    for (int i = 0; i < PIECES; i++) radar_free(t->piece[i].full);
    radar_free(t->packet);
}

static void write_slots(const rows *t, int M, int round) {
    for (int i = 0; i < PIECES; i++) {
        size_t stride;
        int64_t begin, end;
        float *slot =
            radar_packet_slot(&t->layout, tap_rank, t->packet, t->piece, PIECES, i, M, &stride);
        radar_rank_slice(&t->layout, tap_rank, totals[i], blocks[i], &begin, &end);
        for (int m = 0; m < M; m++)
            for (int64_t column = begin; column < end; column++)
                slot[(size_t)m * stride + (size_t)(column - begin)] = cell(i, m, column, round);
    }
}

static int wrong_cells(const rows *t, int M, int round) {
    int wrong = 0;
    for (int i = 0; i < PIECES; i++)
        for (int m = 0; m < M; m++) {
            const float *row = t->piece[i].full + (size_t)m * t->piece[i].full_stride;
            for (int64_t column = 0; column < totals[i]; column++)
                wrong += !(row[column] == cell(i, m, column, round));
            for (int64_t column = totals[i]; column < totals[i] + MARGIN; column++)
                wrong += !(row[column] == 0);
        }
    return wrong;
}

static void rows_arrive_whole(void) {
    static const int counts[] = {1, 5, 64, 2};
    radar_comm *c = open_comm();
    for (int shards = fewest_shards(); shards <= 64; shards *= 2) {
        rows t;
        open_rows(&t, shards, 64);
        for (int round = 0; round < 4; round++) {
            radar_header mine = {round, RADAR_OK, 1 << c->rank}, worst = {0};
            write_slots(&t, counts[round], round);
            CHECK(radar_exchange_rows(c, &t.layout, RADAR_X1_QKV, t.packet, t.piece, PIECES,
                                      counts[round], &mine, &worst, NULL) == RADAR_OK);
            CHECK(worst.step == round && worst.status == RADAR_OK);
            CHECK(worst.flags == (1 << c->size) - 1);
            CHECK(wrong_cells(&t, counts[round], round) == 0);
        }
        close_rows(&t);
    }
    CHECK((c->stats[RADAR_X1_QKV].bytes > 0) == (c->size > 1));
    radar_comm_close(c);
    CHECK(radar_alloc_live() == 0);
}

static void a_failing_rank_is_heard_by_all_at_the_same_step(void) {
    radar_comm *c = open_comm();
    rows t;
    open_rows(&t, fewest_shards(), 2);
    for (int bad = 0; bad < c->size; bad++) {
        int other = (bad + 1) % c->size;
        radar_header mine = {7, RADAR_OK, 0}, worst = {0};
        if (c->rank == other) mine.status = RADAR_ERR_STOPPED;
        if (c->rank == bad) mine.status = RADAR_ERR_INTERNAL;
        radar_error err = {0};
        CHECK(radar_exchange_rows(c, &t.layout, RADAR_X1_QKV, t.packet, t.piece, PIECES, 2, &mine,
                                  &worst, &err) == RADAR_OK);
        CHECK(worst.status == RADAR_ERR_INTERNAL);
        CHECK(err.status == RADAR_OK);
    }
    close_rows(&t);
    radar_comm_close(c);
}

static void ranks_out_of_step_are_named(void) {
    radar_comm *c = open_comm();
    rows t;
    open_rows(&t, fewest_shards(), 1);
    for (int odd = 1; odd < c->size; odd++) {
        radar_header mine = {c->rank == odd ? 9 : 7, RADAR_OK, 0}, worst = {0};
        radar_error err = {0};
        char want[64];
        CHECK(radar_exchange_rows(c, &t.layout, RADAR_X1_QKV, t.packet, t.piece, PIECES, 1, &mine,
                                  &worst, &err) == RADAR_ERR_DISAGREE);
        snprintf(want, sizeof want, "rank %d is at step 9, rank 0 at step 7;", odd);
        CHECK(strncmp(err.text, want, strlen(want)) == 0);
    }
    close_rows(&t);
    radar_comm_close(c);
}

static void headers_alone_say_the_same(void) {
    radar_comm *c = open_comm();
    for (int odd = 0; odd < c->size; odd++) {
        radar_header mine = {7, c->rank == odd ? RADAR_ERR_DATA : RADAR_OK, 1 << c->rank}, worst;
        radar_error err = {0};
        CHECK(radar_exchange_headers(c, &mine, &worst, &err) == RADAR_OK);
        CHECK(worst.step == 7 && worst.status == RADAR_ERR_DATA);
        CHECK(worst.flags == (1 << c->size) - 1);
        mine.step += c->rank == odd;
        CHECK(radar_exchange_headers(c, &mine, &worst, &err) ==
              (c->size > 1 ? RADAR_ERR_DISAGREE : RADAR_OK));
    }
    CHECK(c->stats[RADAR_X_SETUP].calls == 2 * c->size);
    radar_comm_close(c);
}

/* ---- subtrees ---- */

typedef struct pieces {
    float *buffer;
    size_t floats;
    int merges;
} pieces;

/* Neither associative nor commutative, and rounded at every step. */
static void merge_two(pieces *p, int a, int b) {
    float *x = p->buffer + (size_t)a * p->floats;
    const float *y = p->buffer + (size_t)b * p->floats;
    for (size_t i = 0; i < p->floats; i++) x[i] = x[i] * 0.7f + y[i];
    p->merges++;
}

static void merge_floats(void *user, int first, int count, int apart) {
    for (int half = 1; half < count; half *= 2)
        for (int i = 0; i < count; i += 2 * half)
            merge_two(user, first + i * apart, first + (i + half) * apart);
}

static void fill(pieces *p, int first, int end) {
    for (int s = first; s < end; s++)
        for (size_t i = 0; i < p->floats; i++)
            p->buffer[(size_t)s * p->floats + i] =
                (float)radar_random_normal(3, RADAR_STREAM_PICK, (uint64_t)s * 100000 + i);
}

/* The root over all pieces without any exchange: what every rank must find. */
static float *expected_root(int shards, size_t floats) {
    pieces p = {malloc((size_t)shards * floats * sizeof(float)), floats, 0};
    fill(&p, 0, shards);
    radar_tree(0, shards, merge_floats, &p);
    return p.buffer;
}

static void the_root_has_the_same_bits_for_every_number_of_ranks(void) {
    static const size_t sizes[] = {1, 66, 9 * 66, 20011};
    radar_comm *c = open_comm();
    for (int shards = fewest_shards(); shards <= 64; shards *= 2)
        for (int s = 0; s < 4; s++) {
            radar_layout l = {shards, 256, c->size};
            float *want = expected_root(shards, sizes[s]);
            pieces p = {malloc((size_t)shards * sizes[s] * sizeof(float)), sizes[s], 0};
            for (size_t i = 0; i < (size_t)shards * sizes[s]; i++) p.buffer[i] = 1e30f;
            fill(&p, radar_first_shard(&l, c->rank), radar_first_shard(&l, c->rank + 1));
            radar_tree_of_rank(&l, c->rank, merge_floats, &p);
            CHECK(radar_exchange_subtrees(c, &l, RADAR_X5_DOWN, p.buffer, p.floats, merge_floats,
                                          &p, NULL) == RADAR_OK);
            CHECK(memcmp(p.buffer, want, sizes[s] * sizeof(float)) == 0);
            free(p.buffer);
            free(want);
        }
    radar_comm_close(c);
}

/* A piece written down: where in the buffer the numbers of its leaves lie decides the text. */
enum { TEXT = 512 };

static void join_two(char *piece, int a, int b) {
    char *x = piece + (size_t)a * TEXT, *y = piece + (size_t)b * TEXT;
    char text[2 * TEXT + 8];
    snprintf(text, sizeof text, "(%s,%s)", x, y);
    CHECK(strlen(text) < TEXT);
    snprintf(x, TEXT, "%.*s", TEXT - 1, text);
    snprintf(y, TEXT, "used");
}

static void join(void *user, int first, int count, int apart) {
    for (int half = 1; half < count; half *= 2)
        for (int i = 0; i < count; i += 2 * half)
            join_two(user, first + i * apart, first + (i + half) * apart);
}

static void the_tree_reads_the_same_for_every_number_of_ranks(void) {
    static float want[64 * TEXT / sizeof(float)], got[64 * TEXT / sizeof(float)];
    radar_comm *c = open_comm();
    for (int shards = fewest_shards(); shards <= 64; shards *= 2) {
        radar_layout l = {shards, 256, c->size};
        for (int s = 0; s < shards; s++) {
            bool mine = radar_shard_owner(&l, s) == c->rank;
            snprintf((char *)want + (size_t)s * TEXT, TEXT, "%d", s);
            snprintf((char *)got + (size_t)s * TEXT, TEXT, mine ? "%d" : "foreign %d", s);
        }
        radar_tree(0, shards, join, want);
        radar_tree_of_rank(&l, c->rank, join, got);
        CHECK(radar_exchange_subtrees(c, &l, RADAR_X3_PARTIALS, got, TEXT / sizeof(float), join,
                                      got, NULL) == RADAR_OK);
        CHECK(strcmp((char *)got, (char *)want) == 0);
    }
    radar_comm_close(c);
}

static void a_rank_sends_its_subtrees_and_no_more(void) {
    radar_comm *c = open_comm();
    radar_layout l = {64, 256, c->size};
    float buffer[64] = {0};
    pieces p = {buffer, 1, 0};
    int64_t others = 0;
    for (int r = 0; r < c->size; r++) {
        radar_subtree tree[RADAR_MAX_SUBTREES];
        if (r != c->rank) others += radar_subtrees(&l, r, tree);
    }
    CHECK(radar_exchange_subtrees(c, &l, RADAR_X5_DOWN, buffer, 1, merge_floats, &p, NULL) ==
          RADAR_OK);
    CHECK(c->stats[RADAR_X5_DOWN].calls == 1);
    CHECK(c->stats[RADAR_X5_DOWN].bytes == others * (int64_t)sizeof(float));
    if (c->size == 8) CHECK(others == 7 && p.merges == 7);
    radar_comm_close(c);
}

int main(int argc, char **argv) {
    tap_begin(&argc, &argv);
    RUN(rows_arrive_whole);
    RUN(a_failing_rank_is_heard_by_all_at_the_same_step);
    RUN(ranks_out_of_step_are_named);
    RUN(headers_alone_say_the_same);
    RUN(the_root_has_the_same_bits_for_every_number_of_ranks);
    RUN(the_tree_reads_the_same_for_every_number_of_ranks);
    RUN(a_rank_sends_its_subtrees_and_no_more);
    return tap_end();
}
