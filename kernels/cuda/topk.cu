/* topk - radix selection over the scores of each list; a list is the candidates of a query head of a row in all own shards, or
 * in one.  Digits, and why the result does not depend on who comes first: radix.h.
 *
 * Short rows of scores (as the caller's room says, lengths are known on the device alone): one block of 32 warps per list reads
 * its scores once per digit, 4 or 5 times, and twice to write the best in their order; all but the first time from L1 or L2.
 * Long ones: grid [lists, pieces], in three steps between which only sums of integers pass:
 *   count (four times)  histograms of the pieces in shared memory, added up in global memory; who comes later works out the
 *                       digits from them, each block for itself, and does nothing where few enough are left already
 *   sift                a piece's keys from there on, in their order, to its own part of the scratch
 *   finish              one block per list: the digits that are left, over what is left
 * Scores of which all have the same top 32 bits, equal ones, are all left to the one block: right, and slow.
 * Bytes: 4 a score and pass; of a long list some three passes, and 16 a key that is left. */
#include "kernels/cuda/topk.h"

#include "kernels/cuda/dev.h"
#include "kernels/cuda/radix.h"

#define SHORT 32768 /* an estimate: one block reads them about as fast as six launches follow */
#define SHORT_THREADS 1024
#define PIECE 4096 /* scores at least */
#define PIECES 64  /* at most: chunks of radix_emit() */
#define PIECE_THREADS 256
#define MANY_DIGITS 4 /* counted by many blocks */

/* ---- keys of scores ---- */

/* [a block] Candidates [begin, end) of a list, numbered through its shards; each warp has a chunk of them. */
struct topk_scores {
    const float *score; /* of the row and query head */
    const int64_t *first;
    const radar_cuda_part *part; /* of the list's first shard, as is first */
    const int32_t *before;       /* [shards + 1] candidates of the shards before */
    int shards, shard, all_shards;
    int32_t unit, stripe; /* stripe: units */
    int32_t begin, end, length;

    __device__ int chunks() const { return (int)blockDim.x / 32; }

    __device__ uint32_t phase(int r) const { /* the bits of the shard's number, reversed */
        uint32_t reversed = 0;
        for (int n = all_shards, i = shard + r; n > 1; n /= 2, i /= 2)
            reversed = reversed << 1 | (uint32_t)(i & 1);
        return reversed;
    }

    template <class F> __device__ void each_of_shard(int r, int32_t from, int32_t to, F f) const {
        const int64_t at = first[r] - before[r];
        const uint32_t skip = (uint32_t)(part[r].begin / unit - before[r]), turn = phase(r);
        for (int32_t base = from; base < to; base += 128) {
            float x[4];
            for (int j = 0; j < 4; j++) {
                const int32_t i = base + 32 * j + (int32_t)dev_lane();
                x[j] = i < to ? score[at + i] : NAN;
            }
            for (int j = 0; j < 4; j++) {
                if (base + 32 * j >= to) continue;
                const uint32_t bits = dev_bits(x[j]);
                const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
                f(x[j] == x[j] ? order : 0, [&] {
                    const uint32_t n = (uint32_t)stripe,
                                   u = skip + (uint32_t)base + 32u * (uint32_t)j + dev_lane();
                    return ~((u / n * (uint32_t)all_shards + turn) * n + u % n);
                });
            }
        }
    }

    template <class F> __device__ void each(int chunk, F f) const {
        const int32_t from = begin + chunk * length, to = from + length < end ? from + length : end;
        for (int r = 0; r < shards; r++)
            each_of_shard(r, from > before[r] ? from : before[r],
                          to < before[r + 1] ? to : before[r + 1], f);
    }
};

DEV int topk_row(const radar_cuda_topk_job &job, int64_t list) {
    return (int)(list / job.tasks / job.heads);
}

/* [a block] Keys of a list; before[]: for all threads after a barrier. */
DEV topk_scores topk_keys(const radar_cuda_topk_job &job, int64_t list, int32_t *before) {
    const int row = topk_row(job, list), shards = job.shards.n / job.tasks,
              own = (int)(list % job.tasks) * shards;
    topk_scores keys = {};
    keys.score = job.score + list / job.tasks * job.scores;
    keys.first = job.first + own;
    keys.part = job.part + (int64_t)row * job.shards.n + own;
    keys.before = before;
    keys.shards = shards;
    keys.shard = job.shards.first + own;
    keys.all_shards = job.shards.shards;
    keys.unit = job.row[row].unit;
    keys.stripe = job.shards.stripe_segments / keys.unit;
    for (int r = (int)threadIdx.x; r <= shards; r += (int)blockDim.x) {
        int32_t n = 0;
        for (int i = 0; i < r; i++)
            n += keys.part[i].end / keys.unit - keys.part[i].begin / keys.unit;
        before[r] = n;
    }
    return keys;
}

/* Candidates of a piece where `all` of a list are cut into n. */
__host__ DEV int64_t topk_piece(int64_t all, int n) {
    const int64_t fair = ((all + n - 1) / n + 127) / 128 * 128;
    return n == 1 || fair > PIECE ? fair : PIECE;
}

/* [a block] Cuts the list: piece i of n, in chunks of whole loads of a warp. */
DEV void topk_cut(topk_scores &keys, int i, int n) {
    const int64_t all = keys.before[keys.shards], piece = topk_piece(all, n), begin = i * piece,
                  end = begin + piece;
    keys.begin = (int32_t)(begin < all ? begin : all);
    keys.end = (int32_t)(end < all ? end : all);
    keys.length = ((keys.end - keys.begin + keys.chunks() - 1) / keys.chunks() + 31) & ~31;
}

DEV void topk_fill(const radar_cuda_topk_job &job, int64_t list, int n) {
    for (int i = n + (int)threadIdx.x; i < job.room; i += (int)blockDim.x)
        job.key[list * job.room + i] = 0;
}

/* ---- short lists ---- */

/* Grid [lists], SHORT_THREADS threads. */
KERNEL void __launch_bounds__(SHORT_THREADS, 1) radar_topk_short(radar_cuda_topk_job job) {
    SHARED(int32_t, before, RADAR_CUDA_MOST_SHARDS + 1);
    const int64_t list = blockIdx.x;
    const int keep = job.row[topk_row(job, list)].take;
    int n = 0;
    if (keep > 0) {
        topk_scores keys = topk_keys(job, list, before);
        dev_block_sync();
        topk_cut(keys, 0, 1);
        const uint64_t floor = radix_floor(keys, radix_start(keys.end), keep);
        n = radix_emit(keys, floor, job.key + list * job.room);
    }
    topk_fill(job, list, n);
}

/* ---- long lists ---- */

/* What the steps leave each other. */
struct topk_scratch {
    uint32_t *counts; /* [lists, MANY_DIGITS, 256] zero before the first step and after the last */
    int32_t *found;   /* [lists, pieces] keys that are left of a piece */
    uint64_t *left;   /* [lists, pieces, room] */
    int64_t room;
    int pieces;
};

__host__ DEV topk_scratch topk_lay_out(void *base, int64_t lists, int64_t scores) {
    topk_scratch s = {};
    s.pieces = (int)(scores < (int64_t)PIECE * PIECES ? (scores + PIECE - 1) / PIECE : PIECES);
    s.room = topk_piece(scores, s.pieces);
    s.left = (uint64_t *)base;
    s.counts = (uint32_t *)(s.left + lists * s.pieces * s.room);
    s.found = (int32_t *)(s.counts + lists * MANY_DIGITS * RADIX_DIGITS);
    return s;
}

/* So few that one block does the rest sooner. */
DEV bool topk_few(const radix_state &s, int keep) {
    return (int64_t)s.above + s.level <= 2 * (int64_t)keep + PIECE;
}

/* [a block] What the first `digits` counts of a list say, as far as anybody counted, for `keep` of `most` keys. */
DEV radix_state topk_known(const uint32_t *counts, int digits, int keep, int most) {
    SHARED(radix_state, known, 1);
    if (dev_warp() == 0) {
        radix_state s = radix_start(most);
        for (int i = 0; i < digits && !topk_few(s, keep); i++)
            s = radix_choose(s, counts + i * RADIX_DIGITS, keep);
        radix_leave(known, s);
    }
    dev_block_sync();
    return *known;
}

/* Grid [lists, pieces], PIECE_THREADS threads.  Counts digit 0, 1, ..., MANY_DIGITS - 1, one launch each. */
KERNEL void __launch_bounds__(PIECE_THREADS)
    radar_topk_count(radar_cuda_topk_job job, topk_scratch scratch, int digit) {
    SHARED(int32_t, before, RADAR_CUDA_MOST_SHARDS + 1);
    SHARED(uint32_t, known, MANY_DIGITS * RADIX_DIGITS);
    const int64_t list = blockIdx.x;
    const int keep = job.row[topk_row(job, list)].take;
    uint32_t *const counts = scratch.counts + list * MANY_DIGITS * RADIX_DIGITS,
                    *const count = known + digit * RADIX_DIGITS;
    if (keep <= 0) return;
    topk_scores keys = topk_keys(job, list, before);
    for (int i = (int)threadIdx.x; i < (digit + 1) * RADIX_DIGITS; i += PIECE_THREADS)
        known[i] = i < digit * RADIX_DIGITS ? counts[i] : 0;
    dev_block_sync();
    topk_cut(keys, (int)blockIdx.y, scratch.pieces);
    const radix_state s = topk_known(known, digit, keep, before[keys.shards]);
    if (topk_few(s, keep) || keys.begin == keys.end) return;
    radix_count(keys, s, count);
    dev_block_sync();
    for (int i = (int)threadIdx.x; i < RADIX_DIGITS; i += PIECE_THREADS)
        if (count[i]) dev_atomic_add(&counts[digit * RADIX_DIGITS + i], count[i]);
}

/* Grid and block as above: what is left of a piece, in its order. */
KERNEL void __launch_bounds__(PIECE_THREADS)
    radar_topk_sift(radar_cuda_topk_job job, topk_scratch scratch) {
    SHARED(int32_t, before, RADAR_CUDA_MOST_SHARDS + 1);
    SHARED(uint32_t, known, MANY_DIGITS * RADIX_DIGITS);
    const int64_t list = blockIdx.x, piece = list * scratch.pieces + blockIdx.y;
    const int keep = job.row[topk_row(job, list)].take;
    if (keep <= 0) return;
    topk_scores keys = topk_keys(job, list, before);
    for (int i = (int)threadIdx.x; i < MANY_DIGITS * RADIX_DIGITS; i += PIECE_THREADS)
        known[i] = scratch.counts[list * MANY_DIGITS * RADIX_DIGITS + i];
    dev_block_sync();
    topk_cut(keys, (int)blockIdx.y, scratch.pieces);
    const radix_state s = topk_known(known, MANY_DIGITS, keep, before[keys.shards]);
    const int n = radix_emit(keys, s.floor, scratch.left + piece * scratch.room);
    if (threadIdx.x == 0) scratch.found[piece] = n;
}

/* What is left of a list, a chunk of each piece. */
struct topk_left {
    const uint64_t *key;
    const int32_t *found;
    int64_t room;
    int pieces;

    __device__ int chunks() const { return pieces; }
    template <class F> __device__ void each(int chunk, F f) const {
        radix_each(key + chunk * room, found[chunk], f);
    }
};

/* Grid [lists], SHORT_THREADS threads. */
KERNEL void __launch_bounds__(SHORT_THREADS, 1)
    radar_topk_finish(radar_cuda_topk_job job, topk_scratch scratch) {
    SHARED(int32_t, before, RADAR_CUDA_MOST_SHARDS + 1);
    SHARED(uint32_t, known, MANY_DIGITS * RADIX_DIGITS);
    const int64_t list = blockIdx.x;
    const int keep = job.row[topk_row(job, list)].take;
    int n = 0;
    if (keep > 0) {
        const topk_scores scores = topk_keys(job, list, before);
        for (int i = (int)threadIdx.x; i < MANY_DIGITS * RADIX_DIGITS; i += SHORT_THREADS) {
            uint32_t *const count = &scratch.counts[list * MANY_DIGITS * RADIX_DIGITS + i];
            known[i] = *count;
            *count = 0;
        }
        dev_block_sync();
        const radix_state s = topk_known(known, MANY_DIGITS, keep, before[scores.shards]);
        const topk_left keys = {scratch.left + list * scratch.pieces * scratch.room,
                                scratch.found + list * scratch.pieces, scratch.room,
                                scratch.pieces};
        n = radix_emit(keys, radix_floor(keys, s, keep), job.key + list * job.room);
    }
    topk_fill(job, list, n);
}

size_t radar_cuda_topk_scratch(int64_t lists, int64_t scores) {
    if (scores <= SHORT) return 0;
    const topk_scratch s = topk_lay_out(nullptr, lists, scores);
    return (size_t)lists * ((size_t)s.pieces * ((size_t)s.room * sizeof *s.left + sizeof *s.found) +
                            MANY_DIGITS * RADIX_DIGITS * sizeof *s.counts);
}

int radar_cuda_topk(const radar_cuda_topk_job *job, radar_cuda_queue *queue) {
    const int64_t lists = (int64_t)job->rows * job->heads * job->tasks;
    if (lists == 0) return 0;
    if (job->scores <= SHORT)
        return (int)LAUNCH(radar_topk_short, dim3((unsigned)lists), dim3(SHORT_THREADS), 0, queue,
                           *job);
    const topk_scratch s = topk_lay_out(job->scratch, lists, job->scores);
    const dim3 grid((unsigned)lists, (unsigned)s.pieces);
    for (int digit = 0; digit < MANY_DIGITS; digit++) {
        const int error =
            (int)LAUNCH(radar_topk_count, grid, dim3(PIECE_THREADS), 0, queue, *job, s, digit);
        if (error) return error;
    }
    const int error = (int)LAUNCH(radar_topk_sift, grid, dim3(PIECE_THREADS), 0, queue, *job, s);
    if (error) return error;
    return (int)LAUNCH(radar_topk_finish, dim3((unsigned)lists), dim3(SHORT_THREADS), 0, queue,
                       *job, s);
}
