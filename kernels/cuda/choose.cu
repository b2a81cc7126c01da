/* choose - which segments each KV head (share head: each query head) of a row attends to in the own shards, as a flat list.
 *
 *   mark    grid [rows * heads]          the keep best of all ranks' keys (radix.h), each a bit of its list, by shard and place
 *                                        in it; those of other ranks are left out
 *   count   grid [rows * lists]          items of each of its tasks, and of all of them
 *   list    grid [rows * lists, shards]  where the task's items begin, by the sums of all before it, and the items
 *
 * A bit is set once or by several heads: the union of their lists.  Bits are read in order of their places, so that items ascend
 * without a sort, and put back to zero.  Bytes: ranks * room * 8 a head, twice; an eighth of a byte a segment and list, twice;
 * 8 an item. */
#include "kernels/cuda/choose.h"

#include "kernels/cuda/dev.h"
#include "kernels/cuda/radix.h"

extern "C" {
#include "kernels/backend.h"
}

#define MARK_THREADS 512
#define MARK_CHUNK 256 /* keys */
#define LIST_THREADS 256
#define LIST_WARPS (LIST_THREADS / 32)

/* ---- the best of all ranks ---- */

/* Lists of the same row and query head, one from each rank. */
struct choose_keys {
    const uint64_t *key;
    int64_t stride;
    int ranks, room, parts; /* of a rank's list */

    __device__ int chunks() const { return ranks * parts; }
    template <class F> __device__ void each(int chunk, F f) const {
        const int from = chunk % parts * MARK_CHUNK, left = room - from;
        radix_each(key + chunk / parts * stride + from, left < MARK_CHUNK ? left : MARK_CHUNK, f);
    }
};

DEV int choose_lists(const radar_cuda_choose_job &job) { return job.heads / job.heads_per_list; }

/* Sets the bit of unit `number` of the context, if its shard is an own one.  bits: of the list. */
DEV void choose_mark(const radar_cuda_choose_job &job, uint32_t *bits, uint32_t number,
                     uint32_t stripe_units) {
    const uint32_t stripe = number / stripe_units, n = (uint32_t)job.shards.shards;
    uint32_t shard = 0;
    for (uint32_t m = n, rest = stripe; m > 1; m /= 2, rest /= 2) shard = shard << 1 | (rest & 1);
    const int own = (int)shard - job.shards.first;
    if (own < 0 || own >= job.shards.n) return;
    const uint32_t place = stripe / n * stripe_units + number % stripe_units;
    dev_atomic_or(&bits[(int64_t)own * job.words + place / 32], 1u << place % 32);
}

/* MARK_THREADS threads. */
KERNEL void __launch_bounds__(MARK_THREADS) radar_choose_mark(radar_cuda_choose_job job) {
    const int row = (int)blockIdx.x / job.heads, head = (int)blockIdx.x % job.heads;
    const radar_cuda_row r = job.row[row];
    if (r.keep <= 0) return;
    const choose_keys keys = {job.packet + (int64_t)blockIdx.x * job.room,
                              (int64_t)job.rows * job.heads * job.room, job.ranks, job.room,
                              (job.room + MARK_CHUNK - 1) / MARK_CHUNK};
    const uint64_t floor = radix_floor(keys, radix_start(job.ranks * job.room), r.keep);
    const int64_t list = (int64_t)row * choose_lists(job) + head / job.heads_per_list;
    uint32_t *const bits = job.bits + list * job.shards.n * job.words;
    const uint32_t stripe_units = (uint32_t)(job.shards.stripe_segments / r.unit);
    for (int chunk = (int)dev_warp(); chunk < keys.chunks(); chunk += MARK_THREADS / 32)
        keys.each(chunk, [&](uint32_t high, auto low) {
            if (radix_wins(floor, high, low)) choose_mark(job, bits, ~low(), stripe_units);
        });
}

/* ---- how many ---- */

/* Words [begin, end) that have the bits of a row's candidates in a shard. */
struct choose_words {
    int32_t begin, end;
};
DEV choose_words choose_words_of(const radar_cuda_part &part, int32_t unit) {
    if (part.begin == part.end) return {0, 0};
    return {part.begin / unit / 32, (part.end / unit + 31) / 32};
}

/* LIST_THREADS threads. */
KERNEL void __launch_bounds__(LIST_THREADS) radar_choose_count(radar_cuda_choose_job job) {
    SHARED(int, chosen, RADAR_CUDA_MOST_SHARDS);
    const int n = job.shards.n, lists = choose_lists(job), row = (int)blockIdx.x / lists;
    const radar_cuda_row r = job.row[row];
    const radar_cuda_part *const part = job.part + (int64_t)row * n;
    const uint32_t *const bits = job.bits + (int64_t)blockIdx.x * n * job.words;
    if (threadIdx.x < RADAR_CUDA_MOST_SHARDS) chosen[threadIdx.x] = 0;
    dev_block_sync();
    for (int i = 0; i < n && r.keep > 0; i++) {
        const choose_words w = choose_words_of(part[i], r.unit);
        int sum = 0;
        for (int32_t at = w.begin + (int32_t)threadIdx.x; at < w.end; at += LIST_THREADS)
            sum += dev_popcount(bits[(int64_t)i * job.words + at]);
        if (sum) dev_atomic_add(&chosen[i], sum);
    }
    dev_block_sync();
    if (dev_warp()) return;
    int64_t all = 0;
    for (int i = (int)dev_lane(); i < n; i += 32) {
        const radar_cuda_part p = part[i];
        const int items = r.keep > 0 ? p.begin + chosen[i] * r.unit + p.stop - p.end : p.stop;
        job.count[(int64_t)blockIdx.x * n + i] = items;
        all += items;
    }
    for (int m = 16; m; m /= 2) all += dev_shuffle_xor(all, m);
    const bool shares = r.keep <= 0 && (int)blockIdx.x % lists > 0; /* the row's first list */
    if (dev_lane() == 0) job.listed[blockIdx.x] = shares ? 0 : all;
}

/* ---- which ---- */

/* Storage segments [begin, end); returns where the next item goes. */
DEV radar_item *choose_range(radar_item *item, int32_t begin, int32_t end) {
    for (int32_t i = (int32_t)threadIdx.x; i < end - begin; i += LIST_THREADS)
        item[i] = {begin + i, 0xffff};
    return item + (end - begin);
}

/* [a warp] Puts the bits of words [begin, end) back to zero and their units to item, `unit` segments each.  Two buffers take turns,
 * so that one barrier keeps what is read apart from what is written next. */
DEV void choose_units(radar_item *item, uint32_t *bits, int32_t begin, int32_t end, int32_t unit) {
    SHARED(uint16_t, places, LIST_WARPS * 2 * 1024);
    uint16_t *place = places + dev_warp() * 2 * 1024; /* of 32 words, those that are set */
    const int shift = dev_first((uint32_t)unit);
    int used = 0;
    for (int32_t base = begin; base < end; base += 32) {
        const int32_t at = base + (int32_t)dev_lane();
        const uint32_t word = at < end ? bits[at] : 0;
        const int through = radix_through(dev_popcount(word)), items = dev_shuffle(through, 31)
                                                                       << shift;
        if (items == 0) continue;
        if (word) bits[at] = 0;
        int n = through - dev_popcount(word);
        for (uint32_t rest = word; rest; rest &= rest - 1)
            place[n++] = (uint16_t)(32 * dev_lane() + (unsigned)dev_first(rest));
        dev_warp_sync();
        for (int i = (int)dev_lane(); i < items; i += 32)
            item[i] = {((base * 32 + place[i >> shift]) << shift) + (i & (unit - 1)), 0xffff};
        item += items;
        place = used++ % 2 ? place - 1024 : place + 1024;
    }
}

/* [a block] Chosen units of a task, cut evenly among the warps. */
DEV void choose_chosen(radar_item *item, uint32_t *bits, choose_words w, int32_t unit) {
    SHARED(int, chosen, LIST_WARPS);
    const int32_t each = ((w.end - w.begin + LIST_WARPS - 1) / LIST_WARPS + 31) & ~31,
                  begin = w.begin + (int32_t)dev_warp() * each,
                  end = begin + each < w.end ? begin + each : w.end;
    int own = 0;
    for (int32_t at = begin + (int32_t)dev_lane(); at < end; at += 32)
        own += dev_popcount(bits[at]);
    for (int m = 16; m; m /= 2) own += dev_shuffle_xor(own, m);
    if (dev_lane() == 0) chosen[dev_warp()] = own;
    dev_block_sync();
    choose_units(item + (int64_t)radix_sum(chosen, (int)dev_warp()) * unit, bits, begin, end, unit);
}

/* [a block] Where the tasks of a list begin. */
DEV int64_t choose_before(const int64_t *listed, int64_t list) {
    SHARED(int64_t, part, LIST_WARPS);
    int64_t own = 0, sum = 0;
    for (int64_t i = threadIdx.x; i < list; i += LIST_THREADS) own += listed[i];
    for (int m = 16; m; m /= 2) own += dev_shuffle_xor(own, m);
    if (dev_lane() == 0) part[dev_warp()] = own;
    dev_block_sync();
    for (int i = 0; i < LIST_WARPS; i++) sum += part[i];
    return sum;
}

/* LIST_THREADS threads. */
KERNEL void __launch_bounds__(LIST_THREADS) radar_choose_list(radar_cuda_choose_job job) {
    const int lists = choose_lists(job), row = (int)blockIdx.x / lists, n = job.shards.n,
              i = (int)blockIdx.y;
    const radar_cuda_row r = job.row[row];
    const int64_t list = blockIdx.x, task = list * n + i,
                  owner = r.keep > 0 ? list : (int64_t)row * lists;
    const int64_t before = choose_before(job.listed, owner);
    const int64_t at = before + radix_sum(job.count + owner * n, i);
    const radar_cuda_part part = job.part[(int64_t)row * n + i];
    if (threadIdx.x == 0) {
        job.offset[task] = at;
        if (task + 1 == (int64_t)gridDim.x * n) job.offset[task + 1] = before + job.listed[owner];
    }
    if (list != owner) return;
    radar_item *item = job.item + at;
    if (r.keep <= 0) {
        choose_range(item, 0, part.stop);
        return;
    }
    item = choose_range(item, 0, part.begin);
    choose_range(item + job.count[task] - part.begin - (part.stop - part.end), part.end, part.stop);
    choose_chosen(item, job.bits + task * job.words, choose_words_of(part, r.unit), r.unit);
}

int radar_cuda_choose(const radar_cuda_choose_job *job, radar_cuda_queue *queue) {
    const unsigned lists = (unsigned)(job->rows * (job->heads / job->heads_per_list));
    if (lists == 0) return 0;
    int error = (int)LAUNCH(radar_choose_mark, dim3((unsigned)(job->rows * job->heads)),
                            dim3(MARK_THREADS), 0, queue, *job);
    if (error == 0)
        error = (int)LAUNCH(radar_choose_count, dim3(lists), dim3(LIST_THREADS), 0, queue, *job);
    if (error == 0)
        error = (int)LAUNCH(radar_choose_list, dim3(lists, (unsigned)job->shards.n),
                            dim3(LIST_THREADS), 0, queue, *job);
    return error;
}
