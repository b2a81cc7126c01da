/* topk - radix selection over the scores of each list, a task each.  Digits, and why the result does not depend on who comes
 * first: radix.h.
 *
 * Short lists (as the caller's limit says, lengths are known on the device alone): one block of 32 warps per list reads its scores
 * once per digit, 4 or 5 times, and twice to write the best in their order; all but the first time from L1 or L2.
 * Long ones: grid [lists, pieces], in three steps between which only sums of integers pass:
 *   count (four times)  histograms of the pieces in shared memory, added up in global memory; who comes later works out the
 *                       digits from them, each block for itself, and does nothing where few enough are left already
 *   sift                a piece's keys from there on, in their order, to its own part of the scratch.  Where too many are left,
 *                       because their scores are equal, no more of a piece than its own best: keep of them
 *   finish              one block per list: the digits that are left, over what is left
 * Bytes: 4 a score and pass, 4 more where it is listed; of a long list some three passes, and 24 a key that is left. */
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

/* [a block] Candidates [begin, end) of a list, numbered through its ranges; each warp has a chunk of them. */
struct topk_scores {
    const radar_cuda_topk_range *range;
    const int32_t *before; /* [ranges + 1] candidates of the ranges before */
    int ranges;
    uint32_t stripe, shards;
    int32_t begin, end, length;

    __device__ int chunks() const { return (int)blockDim.x / 32; }

    /* ~ of the number that a range's segment has among those of all shards. */
    __device__ uint32_t low(uint32_t phase, int32_t segment) const {
        const uint32_t u = (uint32_t)segment;
        return ~((u / stripe * shards + phase) * stripe + u % stripe);
    }

    template <class F>
    __device__ void each_of_range(radar_cuda_topk_range r, int32_t from, int32_t to, F f) const {
        for (int32_t base = from; base < to; base += 128) {
            int32_t segment[4];
            float x[4];
            for (int j = 0; j < 4; j++) {
                const int32_t i = base + 32 * j + (int32_t)dev_lane();
                segment[j] = r.list && i < to ? r.list[i] : r.segment_begin + i;
                x[j] = i < to ? r.score[segment[j] - r.segment_begin] : NAN;
            }
            for (int j = 0; j < 4; j++) {
                if (base + 32 * j >= to) continue;
                const uint32_t bits = dev_bits(x[j]);
                const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
                f(x[j] == x[j] ? order : 0, [&] { return low((uint32_t)r.phase, segment[j]); });
            }
        }
    }

    template <class F> __device__ void each(int chunk, F f) const {
        const int32_t from = begin + chunk * length, to = from + length < end ? from + length : end;
        for (int r = 0; r < ranges && before[r] < to; r++) {
            if (before[r + 1] <= from) continue;
            const int32_t first = before[r];
            each_of_range(range[r], from > first ? from - first : 0,
                          (to < before[r + 1] ? to : before[r + 1]) - first, f);
        }
    }
};

/* [a block] Keys of a list; before[]: for all threads after a barrier. */
DEV topk_scores topk_keys(const radar_cuda_topk_task &task, int32_t *before) {
    topk_scores keys = {};
    keys.range = task.range;
    keys.before = before;
    keys.ranges = task.n_ranges;
    keys.stripe = (uint32_t)task.stripe_segments;
    keys.shards = (uint32_t)task.shards;
    if (dev_warp() > 0) return keys;
    int sum = 0;
    for (int base = 0; base < keys.ranges; base += 32) {
        const int r = base + (int)dev_lane();
        int n = 0;
        if (r < keys.ranges) n = task.range[r].list ? *task.range[r].n_listed : task.range[r].n;
        const int through = sum + radix_through(n);
        if (r < keys.ranges) before[r + 1] = through;
        sum = dev_shuffle(through, 31);
    }
    if (dev_lane() == 0) before[0] = 0;
    return keys;
}

/* Candidates of a piece where `all` of a list are cut into n. */
__host__ DEV int64_t topk_piece(int64_t all, int n) {
    const int64_t fair = ((all + n - 1) / n + 127) / 128 * 128;
    return n == 1 || fair > PIECE ? fair : PIECE;
}

/* [a block] Cuts the list: piece i of n, in chunks of whole loads of a warp. */
DEV void topk_cut(topk_scores &keys, int i, int n) {
    const int64_t all = keys.before[keys.ranges], piece = topk_piece(all, n), begin = i * piece,
                  end = begin + piece;
    keys.begin = (int32_t)(begin < all ? begin : all);
    keys.end = (int32_t)(end < all ? end : all);
    keys.length = ((keys.end - keys.begin + keys.chunks() - 1) / keys.chunks() + 31) & ~31;
}

/* ---- results ---- */

/* [a block] Writes the keys from the floor on. */
template <class Keys>
DEV void topk_give(const radar_cuda_topk_task &task, const Keys &keys, uint64_t floor) {
    const int n = radix_emit(keys, floor, [&](int at, uint32_t high, uint32_t low) {
        if (task.key) task.key[at] = (uint64_t)high << 32 | low;
        if (task.segment) task.segment[at] = (int32_t)~low;
    });
    for (int i = n + (int)threadIdx.x; task.key && i < task.keep; i += (int)blockDim.x)
        task.key[i] = 0;
    if (task.n_kept && threadIdx.x == 0) *task.n_kept = n;
}

DEV void topk_give_none(const radar_cuda_topk_task &task) {
    if (task.n_kept && threadIdx.x == 0) *task.n_kept = 0;
}

/* ---- short lists ---- */

/* Grid [lists], SHORT_THREADS threads. */
KERNEL void __launch_bounds__(SHORT_THREADS, 1)
    radar_topk_short(const radar_cuda_topk_task *tasks) {
    SHARED(int32_t, before, RADAR_CUDA_TOPK_RANGES + 1);
    const radar_cuda_topk_task task = tasks[blockIdx.x];
    if (task.keep <= 0) return topk_give_none(task);
    topk_scores keys = topk_keys(task, before);
    dev_block_sync();
    topk_cut(keys, 0, 1);
    topk_give(task, keys, radix_floor(keys, radix_start(keys.end), task.keep));
}

/* ---- long lists ---- */

/* What the steps leave each other; zero before the first and after the last. */
struct topk_scratch {
    uint64_t *left;   /* [lists, pieces, room] */
    uint32_t *counts; /* [lists, MANY_DIGITS, 256] */
    int32_t *found;   /* [lists, pieces] keys that are left of a piece */
    int64_t room;
    int pieces;
};

static topk_scratch topk_lay_out(void *base, int64_t lists, int64_t most) {
    topk_scratch s = {};
    s.pieces = (int)(most < (int64_t)PIECE * PIECES ? (most + PIECE - 1) / PIECE : PIECES);
    s.room = topk_piece(most, s.pieces);
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
    radar_topk_count(const radar_cuda_topk_task *tasks, topk_scratch scratch, int digit) {
    SHARED(int32_t, before, RADAR_CUDA_TOPK_RANGES + 1);
    SHARED(uint32_t, known, MANY_DIGITS * RADIX_DIGITS);
    const radar_cuda_topk_task task = tasks[blockIdx.x];
    uint32_t *const counts = scratch.counts + (int64_t)blockIdx.x * MANY_DIGITS * RADIX_DIGITS,
                    *const count = known + digit * RADIX_DIGITS;
    if (task.keep <= 0) return;
    topk_scores keys = topk_keys(task, before);
    for (int i = (int)threadIdx.x; i < (digit + 1) * RADIX_DIGITS; i += PIECE_THREADS)
        known[i] = i < digit * RADIX_DIGITS ? counts[i] : 0;
    dev_block_sync();
    topk_cut(keys, (int)blockIdx.y, scratch.pieces);
    const radix_state s = topk_known(known, digit, task.keep, before[keys.ranges]);
    if (topk_few(s, task.keep) || keys.begin == keys.end) return;
    radix_count(keys, s, count);
    dev_block_sync();
    for (int i = (int)threadIdx.x; i < RADIX_DIGITS; i += PIECE_THREADS)
        if (count[i]) dev_atomic_add(&counts[digit * RADIX_DIGITS + i], count[i]);
}

/* Grid and block as above: what is left of a piece, in its order. */
KERNEL void __launch_bounds__(PIECE_THREADS, 4)
    radar_topk_sift(const radar_cuda_topk_task *tasks, topk_scratch scratch) {
    SHARED(int32_t, before, RADAR_CUDA_TOPK_RANGES + 1);
    SHARED(uint32_t, known, MANY_DIGITS * RADIX_DIGITS);
    const int64_t list = blockIdx.x, piece = list * scratch.pieces + blockIdx.y;
    const radar_cuda_topk_task task = tasks[list];
    if (task.keep <= 0) return;
    topk_scores keys = topk_keys(task, before);
    for (int i = (int)threadIdx.x; i < MANY_DIGITS * RADIX_DIGITS; i += PIECE_THREADS)
        known[i] = scratch.counts[list * MANY_DIGITS * RADIX_DIGITS + i];
    dev_block_sync();
    topk_cut(keys, (int)blockIdx.y, scratch.pieces);
    const radix_state s = topk_known(known, MANY_DIGITS, task.keep, before[keys.ranges]);
    uint64_t floor = s.floor;
    if (!topk_few(s, task.keep)) {
        const uint64_t own = radix_floor(keys, radix_start(keys.end - keys.begin), task.keep);
        floor = own > floor ? own : floor;
    }
    uint64_t *const left = scratch.left + piece * scratch.room;
    const int n = radix_emit(keys, floor, [&](int at, uint32_t high, uint32_t low) {
        left[at] = (uint64_t)high << 32 | low;
    });
    if (threadIdx.x == 0) scratch.found[piece] = n;
}

/* What is left of a list, a chunk of each piece. */
struct topk_left {
    uint64_t *key;
    int32_t *found;
    int64_t room;
    int pieces;

    __device__ int chunks() const { return pieces; }
    template <class F> __device__ void each(int chunk, F f) const {
        radix_each(key + chunk * room, found[chunk], f);
    }
    /* [a block] Each warp what it alone has walked over. */
    __device__ void clear() const {
        for (int chunk = (int)dev_warp(); chunk < pieces; chunk += (int)blockDim.x / 32) {
            for (int i = (int)dev_lane(); i < found[chunk]; i += 32) key[chunk * room + i] = 0;
            dev_warp_sync(); /* all lanes know how many */
            if (dev_lane() == 0) found[chunk] = 0;
        }
    }
};

/* Grid [lists], SHORT_THREADS threads. */
KERNEL void __launch_bounds__(SHORT_THREADS, 1)
    radar_topk_finish(const radar_cuda_topk_task *tasks, topk_scratch scratch) {
    SHARED(int32_t, before, RADAR_CUDA_TOPK_RANGES + 1);
    SHARED(uint32_t, known, MANY_DIGITS * RADIX_DIGITS);
    const int64_t list = blockIdx.x;
    const radar_cuda_topk_task task = tasks[list];
    if (task.keep <= 0) return topk_give_none(task);
    const topk_scores scores = topk_keys(task, before);
    for (int i = (int)threadIdx.x; i < MANY_DIGITS * RADIX_DIGITS; i += SHORT_THREADS) {
        uint32_t *const count = &scratch.counts[list * MANY_DIGITS * RADIX_DIGITS + i];
        known[i] = *count;
        *count = 0;
    }
    dev_block_sync();
    const radix_state s = topk_known(known, MANY_DIGITS, task.keep, before[scores.ranges]);
    const topk_left keys = {scratch.left + list * scratch.pieces * scratch.room,
                            scratch.found + list * scratch.pieces, scratch.room, scratch.pieces};
    topk_give(task, keys, radix_floor(keys, s, task.keep));
    keys.clear();
}

size_t radar_cuda_topk_scratch(int n_tasks, int64_t most) {
    if (most <= SHORT) return 0;
    const topk_scratch s = topk_lay_out(nullptr, n_tasks, most);
    return (size_t)n_tasks *
           ((size_t)s.pieces * ((size_t)s.room * sizeof *s.left + sizeof *s.found) +
            MANY_DIGITS * RADIX_DIGITS * sizeof *s.counts);
}

int radar_cuda_topk(const radar_cuda_topk_args *args, radar_cuda_queue *queue) {
    const unsigned lists = (unsigned)args->n_tasks;
    if (lists == 0) return 0;
    if (args->most <= SHORT)
        return (int)LAUNCH(radar_topk_short, dim3(lists), dim3(SHORT_THREADS), 0, queue,
                           args->task);
    const topk_scratch s = topk_lay_out(args->scratch, args->n_tasks, args->most);
    const dim3 grid(lists, (unsigned)s.pieces);
    for (int digit = 0; digit < MANY_DIGITS; digit++) {
        const int error = (int)LAUNCH(radar_topk_count, grid, dim3(PIECE_THREADS), 0, queue,
                                      args->task, s, digit);
        if (error) return error;
    }
    const int error =
        (int)LAUNCH(radar_topk_sift, grid, dim3(PIECE_THREADS), 0, queue, args->task, s);
    if (error) return error;
    return (int)LAUNCH(radar_topk_finish, dim3(lists), dim3(SHORT_THREADS), 0, queue, args->task,
                       s);
}
