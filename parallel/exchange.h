/* exchange.h - what a step sends: rows that were computed in slices, and pieces that are merged in the fixed tree.
 *
 * Rows: a matrix [M, total] whose columns were computed in slices (rank r has columns [begin_r, end_r) of every row, from
 * radar_rank_slice) is wanted whole on every rank.  Several matrices travel in one packet (q, k, v), behind a header that tells
 * all ranks how this rank fared, so that a failure costs no exchange of its own:
 *
 *   packet of rank r: header | piece 0 [M, width_0] | piece 1 [M, width_1] | ...      each part begins on 64 bytes
 *   buffer:           packet of rank 0 | packet of rank 1 | ...
 *
 * With one rank there is no packet: the slot of a piece is the full matrix itself, and nothing is copied.
 *
 * On a device everything is queued, and the host does not see what packets say: the place of the header stays empty there, and the
 * headers are exchanged by themselves, once a pass, before anything is queued (radar_exchange_headers). */
#ifndef RADAR_EXCHANGE_H
#define RADAR_EXCHANGE_H

#include "parallel/comm.h"

typedef struct radar_piece {
    int64_t total, block; /* columns, cut as radar_rank_slice does */
    float *full;          /* [M, total]: where the gathered matrix is wanted */
    size_t full_stride;   /* floats from row to row, >= total */
} radar_piece;

typedef struct radar_header {
    int64_t step;   /* must be the same on all ranks */
    int32_t status; /* a radar_status */
    int32_t flags;
} radar_header;

/* [this rank] Bytes of the buffer for the packets of all ranks; 0 with one rank, SIZE_MAX when the sizes overflow. */
size_t radar_packet_bytes(const radar_layout *l, const radar_piece *piece, int n, int max_rows);

/* [this rank] Where the rank writes its columns of all M rows of piece i; *stride = floats from row to row.
 * packet: 64-byte aligned, of radar_packet_bytes for at least M rows. */
float *radar_packet_slot(const radar_layout *l, int rank, void *packet, const radar_piece *piece,
                         int n, int i, int M, size_t *stride);

/* [all ranks] Gathers what the slots hold into the full matrices.  A rank that has failed comes too, with its status in mine.
 * worst: the flags of all ranks OR-ed, the worst status.  Returns RADAR_OK also when worst->status is not (then the matrices are
 * not written; radar_agree brings the text); RADAR_ERR_DISAGREE on all ranks when their steps differ.
 * In device memory: queued, and nobody is heard; worst is mine's step, RADAR_OK and no flags. */
radar_status radar_exchange_rows(radar_comm *c, const radar_layout *l, radar_exchange x,
                                 void *packet, const radar_piece *piece, int n, int M,
                                 const radar_header *mine, radar_header *worst, radar_error *err);

/* [all ranks] The same about headers alone, in host memory, at once. */
radar_status radar_exchange_headers(radar_comm *c, const radar_header *mine, radar_header *worst,
                                    radar_error *err);

/* [all ranks] Merges N pieces of `floats` floats, piece i at buffer + i * floats, in the fixed tree.  Before: radar_tree_of_rank has
 * merged this rank's own pieces.  After: piece 0 is the root, the same bits on every rank and for every number of ranks; the other
 * pieces are left in any state.  merge works on this buffer. */
radar_status radar_exchange_subtrees(radar_comm *c, const radar_layout *l, radar_exchange x,
                                     float *buffer, size_t floats, radar_merge merge, void *user,
                                     radar_error *err);

#endif
