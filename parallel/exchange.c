#include "parallel/exchange.h"

#include <string.h>

_Static_assert(sizeof(radar_header) == 16, "the header travels as it lies in memory");

enum { ALIGN = 64 };

/* ---- where things lie ---- */

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static size_t width_of(const radar_layout *l, int rank, const radar_piece *piece, int64_t *begin) {
    int64_t end;
    radar_rank_slice(l, rank, piece->total, piece->block, begin, &end);
    return (size_t)(end - *begin);
}

/* From the beginning of a rank's packet to piece i of n; i = n gives the size of the packet. */
static size_t piece_offset(const radar_layout *l, int rank, const radar_piece *piece, int i,
                           int M) {
    size_t at = aligned(sizeof(radar_header));
    int64_t begin;
    for (int j = 0; j < i; j++)
        at += aligned(width_of(l, rank, &piece[j], &begin) * (size_t)M * sizeof(float));
    return at;
}

/* Fills bytes and offset of every rank's packet. */
static void packets(const radar_layout *l, const radar_piece *piece, int n, int M,
                    size_t bytes[RADAR_MAX_RANKS], size_t offset[RADAR_MAX_RANKS]) {
    size_t at = 0;
    for (int r = 0; r < l->ranks; r++) {
        offset[r] = at;
        bytes[r] = piece_offset(l, r, piece, n, M);
        at += bytes[r];
    }
}

/* Every rank's parts are rounded up by less than ALIGN. */
size_t radar_packet_bytes(const radar_layout *l, const radar_piece *piece, int n, int max_rows) {
    if (l->ranks == 1) return 0;
    size_t sum = 0, part;
    for (int i = 0; i < n; i++)
        if (!radar_mul((size_t)piece[i].total, (size_t)max_rows, &part) ||
            !radar_mul(part, sizeof(float), &part) || !radar_add(sum, part, &sum))
            return SIZE_MAX;
    size_t parts = (size_t)l->ranks * (size_t)(n + 1);
    return radar_add(sum, parts * ALIGN, &sum) ? sum : SIZE_MAX;
}

float *radar_packet_slot(const radar_layout *l, int rank, void *packet, const radar_piece *piece,
                         int n, int i, int M, size_t *stride) {
    if (l->ranks == 1) {
        *stride = piece[i].full_stride;
        return piece[i].full;
    }
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    int64_t begin;
    packets(l, piece, n, M, bytes, offset);
    *stride = width_of(l, rank, &piece[i], &begin);
    return (float *)(void *)((char *)packet + offset[rank] + piece_offset(l, rank, piece, i, M));
}

/* ---- rectangles that move ---- */

enum { MOST_MOVES = 4 * RADAR_MAX_RANKS };

/* As many as fit go to the device in one call. */
typedef struct moves {
    const radar_device *device; /* NULL: host memory */
    int n;
    radar_move move[MOST_MOVES];
} moves;

static void begin_moves(moves *m, const radar_comm *c) {
    m->device = c->device;
    m->n = 0;
}

static void carry_out(moves *m) {
    if (m->device && m->n > 0) m->device->move(m->device->user, m->move, m->n);
    for (int i = 0; !m->device && i < m->n; i++)
        for (int64_t row = 0; row < m->move[i].rows; row++)
            memmove(m->move[i].to + (size_t)row * m->move[i].to_stride,
                    m->move[i].from + (size_t)row * m->move[i].from_stride,
                    (size_t)m->move[i].width * sizeof(float));
    m->n = 0;
}

static void add_move(moves *m, radar_move move) {
    if (move.rows == 0 || move.width == 0) return;
    if (m->n == MOST_MOVES) carry_out(m);
    m->move[m->n++] = move;
}

/* ---- rows ---- */

static radar_status read_headers(const radar_comm *c, const char *packet, const size_t *offset,
                                 radar_header *worst, radar_error *err) {
    for (int r = 0; r < c->size; r++) {
        radar_header h;
        memcpy(&h, packet + offset[r], sizeof h);
        if (r == 0) *worst = h;
        if (h.step != worst->step)
            return radar_fail(err, RADAR_ERR_DISAGREE,
                              "rank %d is at step %lld, rank 0 at step %lld; all ranks must make "
                              "the same calls in the same order",
                              r, (long long)h.step, (long long)worst->step);
        worst->status = h.status > worst->status ? h.status : worst->status;
        worst->flags |= h.flags;
    }
    return RADAR_OK;
}

radar_status radar_exchange_headers(radar_comm *c, const radar_header *mine, radar_header *worst,
                                    radar_error *err) {
    radar_header all[RADAR_MAX_RANKS];
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    for (int r = 0; r < c->size; r++) {
        bytes[r] = sizeof *all;
        offset[r] = (size_t)r * sizeof *all;
    }
    all[c->rank] = *mine;
    radar_status st = radar_gather(c, RADAR_X_SETUP, all, bytes, offset, err);
    return st == RADAR_OK ? read_headers(c, (const char *)all, offset, worst, err) : st;
}

static void unpack(moves *m, const radar_layout *l, int rank, const char *packet,
                   const radar_piece *piece, int i, int M) {
    int64_t begin;
    size_t width = width_of(l, rank, &piece[i], &begin);
    const char *from = packet + piece_offset(l, rank, piece, i, M);
    add_move(m, (radar_move){.to = piece[i].full + begin,
                             .from = (const float *)(const void *)from,
                             .to_stride = piece[i].full_stride,
                             .from_stride = width,
                             .rows = M,
                             .width = (int64_t)width});
}

radar_status radar_exchange_rows(radar_comm *c, const radar_layout *l, radar_exchange x,
                                 void *packet, const radar_piece *piece, int n, int M,
                                 const radar_header *mine, radar_header *worst, radar_error *err) {
    size_t bytes[RADAR_MAX_RANKS] = {0}, offset[RADAR_MAX_RANKS] = {0};
    char *base = packet;
    *worst = c->device ? (radar_header){.step = mine->step} : *mine;
    if (c->size == 1)
        return radar_gather(c, x, packet, bytes, offset, err); /* moves nothing, counts the call */
    packets(l, piece, n, M, bytes, offset);
    if (!c->device) memcpy(base + offset[c->rank], mine, sizeof *mine);
    radar_status st = radar_gather(c, x, packet, bytes, offset, err);
    if (st == RADAR_OK && !c->device) st = read_headers(c, base, offset, worst, err);
    if (st != RADAR_OK || worst->status != RADAR_OK) return st;
    moves m;
    begin_moves(&m, c);
    for (int r = 0; r < c->size; r++)
        for (int i = 0; i < n; i++) unpack(&m, l, r, base + offset[r], piece, i, M);
    carry_out(&m);
    return RADAR_OK;
}

/* ---- pieces ---- */

/* Moves of one call must not overlap: what waits goes first when this one would write what it reads, or read what it writes. */
static void move_root(moves *m, float *buffer, int to, int from, size_t floats) {
    float *target = buffer + (size_t)to * floats;
    const float *source = buffer + (size_t)from * floats;
    if (to == from) return;
    for (int i = 0; i < m->n; i++)
        if (m->move[i].from == target || m->move[i].to == source) carry_out(m);
    add_move(m, (radar_move){target, source, floats, floats, 1, (int64_t)floats});
}

/* The roots of a rank's subtrees stand at their first pieces; for the way they stand one after the other, from the rank's first
 * shard on.  The k-th subtree begins at least k pieces after the first, so going up (and back, going down) nothing is lost. */
static void pack_roots(radar_comm *c, const radar_layout *l, float *buffer, size_t floats) {
    radar_subtree tree[RADAR_MAX_SUBTREES];
    int n = radar_subtrees(l, c->rank, tree);
    moves m;
    begin_moves(&m, c);
    for (int k = 1; k < n; k++) move_root(&m, buffer, tree[0].first + k, tree[k].first, floats);
    carry_out(&m);
}

/* Those of all ranks side by side: few calls. */
static void unpack_roots(radar_comm *c, const radar_layout *l, float *buffer, size_t floats) {
    radar_subtree tree[RADAR_MAX_RANKS][RADAR_MAX_SUBTREES];
    int n[RADAR_MAX_RANKS], most = 0;
    moves m;
    for (int r = 0; r < c->size; r++) {
        n[r] = radar_subtrees(l, r, tree[r]);
        most = n[r] > most ? n[r] : most;
    }
    begin_moves(&m, c);
    for (int k = most - 1; k > 0; k--)
        for (int r = 0; r < c->size; r++)
            if (k < n[r]) move_root(&m, buffer, tree[r][k].first, tree[r][0].first + k, floats);
    carry_out(&m);
}

/* Where each rank has one subtree: roots that lie side by side are one collective of the device, and merged where they arrive. */
static radar_status gather_roots(radar_comm *c, const radar_layout *l, radar_exchange x,
                                 float *buffer, size_t floats, radar_merge merge, void *user,
                                 radar_error *err) {
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    moves m;
    for (int r = 0; r < c->size; r++) {
        bytes[r] = floats * sizeof(float);
        offset[r] = (size_t)r * bytes[r];
    }
    begin_moves(&m, c);
    move_root(&m, buffer, c->rank, radar_first_shard(l, c->rank), floats);
    carry_out(&m);
    radar_status st = radar_gather(c, x, buffer, bytes, offset, err);
    if (st == RADAR_OK && c->size > 1) merge(user, 0, c->size, 1);
    return st;
}

radar_status radar_exchange_subtrees(radar_comm *c, const radar_layout *l, radar_exchange x,
                                     float *buffer, size_t floats, radar_merge merge, void *user,
                                     radar_error *err) {
    if (c->device && (c->size & (c->size - 1)) == 0)
        return gather_roots(c, l, x, buffer, floats, merge, user, err);
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    radar_subtree tree[RADAR_MAX_SUBTREES];
    for (int r = 0; r < c->size; r++) {
        bytes[r] = (size_t)radar_subtrees(l, r, tree) * floats * sizeof(float);
        offset[r] = (size_t)radar_first_shard(l, r) * floats * sizeof(float);
    }
    pack_roots(c, l, buffer, floats);
    radar_status st = radar_gather(c, x, buffer, bytes, offset, err);
    if (st != RADAR_OK) return st;
    unpack_roots(c, l, buffer, floats);
    radar_tree_above_ranks(l, merge, user);
    return RADAR_OK;
}
