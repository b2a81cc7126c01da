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

static void unpack(const radar_layout *l, int rank, const char *packet, const radar_piece *piece,
                   int i, int M) {
    int64_t begin;
    size_t width = width_of(l, rank, &piece[i], &begin);
    const char *from = packet + piece_offset(l, rank, piece, i, M);
    for (int m = 0; m < M; m++)
        memcpy(piece[i].full + (size_t)m * piece[i].full_stride + begin,
               from + (size_t)m * width * sizeof(float), width * sizeof(float));
}

radar_status radar_exchange_rows(radar_comm *c, const radar_layout *l, radar_exchange x,
                                 void *packet, const radar_piece *piece, int n, int M,
                                 const radar_header *mine, radar_header *worst, radar_error *err) {
    size_t bytes[RADAR_MAX_RANKS] = {0}, offset[RADAR_MAX_RANKS] = {0};
    char *base = packet;
    if (c->size == 1) {
        *worst = *mine;
        return radar_gather(c, x, packet, bytes, offset, err); /* moves nothing, counts the call */
    }
    packets(l, piece, n, M, bytes, offset);
    memcpy(base + offset[c->rank], mine, sizeof *mine);
    radar_status st = radar_gather(c, x, packet, bytes, offset, err);
    if (st == RADAR_OK) st = read_headers(c, base, offset, worst, err);
    if (st != RADAR_OK || worst->status != RADAR_OK) return st;
    for (int r = 0; r < c->size; r++)
        for (int i = 0; i < n; i++) unpack(l, r, base + offset[r], piece, i, M);
    return RADAR_OK;
}

/* ---- pieces ---- */

/* The roots of a rank's subtrees stand at their first pieces; for the way they stand one after the other, from the rank's first
 * shard on.  The k-th subtree begins at least k pieces after the first, so going up (and back, going down) nothing is lost. */
static void pack_roots(const radar_layout *l, int rank, float *buffer, size_t floats) {
    radar_subtree tree[RADAR_MAX_SUBTREES];
    int n = radar_subtrees(l, rank, tree);
    float *packed = buffer + (size_t)tree[0].first * floats;
    for (int k = 1; k < n; k++)
        memmove(packed + (size_t)k * floats, buffer + (size_t)tree[k].first * floats,
                floats * sizeof *buffer);
}

static void unpack_roots(const radar_layout *l, int rank, float *buffer, size_t floats) {
    radar_subtree tree[RADAR_MAX_SUBTREES];
    int n = radar_subtrees(l, rank, tree);
    const float *packed = buffer + (size_t)tree[0].first * floats;
    for (int k = n - 1; k > 0; k--)
        memmove(buffer + (size_t)tree[k].first * floats, packed + (size_t)k * floats,
                floats * sizeof *buffer);
}

radar_status radar_exchange_subtrees(radar_comm *c, const radar_layout *l, radar_exchange x,
                                     float *buffer, size_t floats, radar_merge merge, void *user,
                                     radar_error *err) {
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    radar_subtree tree[RADAR_MAX_SUBTREES];
    for (int r = 0; r < c->size; r++) {
        bytes[r] = (size_t)radar_subtrees(l, r, tree) * floats * sizeof(float);
        offset[r] = (size_t)radar_first_shard(l, r) * floats * sizeof(float);
    }
    pack_roots(l, c->rank, buffer, floats);
    radar_status st = radar_gather(c, x, buffer, bytes, offset, err);
    if (st != RADAR_OK) return st;
    for (int r = 0; r < c->size; r++) unpack_roots(l, r, buffer, floats);
    radar_tree_above_ranks(l, merge, user);
    return RADAR_OK;
}
