/* choose - which segments each list of query heads of a group of rows attends to in the own shards.
 *
 *   mark    grid [rows * heads]  the keep best of all ranks' keys (radix.h), each a bit of its list, by shard and place in it;
 *                                those of other ranks are left out
 *   count   a warp per task      its items
 *   begin   one block            where the items of each task begin: sums of the counts before
 *   list    grid [tasks]         the items
 *
 * A bit is set once or by several rows and heads: the union of their choices.  Bits are read in order of their places, so that
 * items ascend without a sort, and put back to zero.  Bytes: those of kernels/choose.h. */
#include "kernels/cuda/choose.h"

#include "kernels/cuda/dev.h"
#include "kernels/cuda/radix.h"

extern "C" {
#include "kernels/backend.h"
}

#define MARK_THREADS 512
#define MARK_CHUNK 256 /* keys */
#define COUNT_THREADS 256
#define BEGIN_THREADS 1024
#define LIST_THREADS 256
#define LIST_WARPS (LIST_THREADS / 32)

/* ---- the table of rows ---- */

/* Lists of a group of rows. */
__host__ DEV int choose_lists(const radar_choose_job &job) {
    return job.heads / job.heads_per_list;
}

__host__ DEV int64_t choose_tasks(const radar_choose_job &job) {
    return (int64_t)job.groups * choose_lists(job) * job.shards.n;
}

/* What the rows of a group have in common. */
struct choose_group {
    int32_t unit, weight;
    bool keeps; /* any of them */
};

DEV choose_group choose_group_of(const radar_choose_job &job, int group) {
    int first = 0;
    for (int end = job.rows; first < end;) {
        const int middle = (first + end) / 2;
        if (job.row[middle].group < group)
            first = middle + 1;
        else
            end = middle;
    }
    choose_group g = {job.row[first].unit, job.row[first].weight, false};
    for (int i = first; i < job.rows && job.row[i].group == group && !g.keeps; i++)
        g.keeps = job.row[i].keep > 0;
    return g;
}

/* A task, by its number. */
struct choose_task {
    choose_group group;
    radar_choose_part part;
    uint32_t *bits;
};

DEV choose_task choose_task_of(const radar_choose_job &job, int64_t task) {
    const int n = job.shards.n, group = (int)(task / n / choose_lists(job));
    return {choose_group_of(job, group), job.part[(int64_t)group * n + task % n],
            job.bits + task * job.words};
}

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

/* Sets the bit of unit `number` of the context, if its shard is an own one.  bits: of the list. */
DEV void choose_mark(const radar_choose_job &job, uint32_t *bits, uint32_t number,
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
KERNEL void __launch_bounds__(MARK_THREADS) radar_choose_mark(radar_choose_job job) {
    const int row = (int)blockIdx.x / job.heads, head = (int)blockIdx.x % job.heads;
    const radar_choose_row r = job.row[row];
    if (r.keep <= 0) return;
    const choose_keys keys = {job.packet + (int64_t)blockIdx.x * job.room,
                              (int64_t)job.rows * job.heads * job.room, job.ranks, job.room,
                              (job.room + MARK_CHUNK - 1) / MARK_CHUNK};
    const uint64_t floor = radix_floor(keys, radix_start(job.ranks * job.room), r.keep);
    const int64_t list = (int64_t)r.group * choose_lists(job) + head / job.heads_per_list;
    uint32_t *const bits = job.bits + list * job.shards.n * job.words;
    const uint32_t stripe_units = (uint32_t)(job.shards.stripe_segments / r.unit);
    for (int chunk = (int)dev_warp(); chunk < keys.chunks(); chunk += MARK_THREADS / 32)
        keys.each(chunk, [&](uint32_t high, auto low) {
            if (radix_wins(floor, high, low)) choose_mark(job, bits, ~low(), stripe_units);
        });
}

/* ---- how many ---- */

/* Words [begin, end) that have the bits of a group's candidates in a shard. */
struct choose_words {
    int32_t begin, end;
};
DEV choose_words choose_words_of(const radar_choose_part &part, int32_t unit) {
    if (part.begin == part.end) return {0, 0};
    return {part.begin / unit / 32, (part.end / unit + 31) / 32};
}

/* Grid [tasks / 8], COUNT_THREADS threads. */
KERNEL void __launch_bounds__(COUNT_THREADS) radar_choose_count(radar_choose_job job) {
    const int64_t task = (int64_t)blockIdx.x * (COUNT_THREADS / 32) + dev_warp();
    if (task >= choose_tasks(job)) return;
    const choose_task t = choose_task_of(job, task);
    int items = 0;
    if (t.group.keeps) {
        const choose_words w = choose_words_of(t.part, t.group.unit);
        for (int32_t at = w.begin + (int32_t)dev_lane(); at < w.end; at += 32)
            items += dev_popcount(t.bits[at]);
        for (int m = 16; m; m /= 2) items += dev_shuffle_xor(items, m);
        items = t.part.begin + items * t.group.unit + t.part.stop - t.part.end;
    }
    if (dev_lane()) return;
    job.count[task] = items;
    if (job.listed) /* a sum of integers: its order changes nothing */
        dev_atomic_add(reinterpret_cast<unsigned long long *>(job.listed),
                       (unsigned long long)items * (unsigned long long)t.group.weight);
}

/* One block of BEGIN_THREADS threads.  Two buffers take turns, so that one barrier keeps what is read apart from what is written
 * next. */
KERNEL void __launch_bounds__(BEGIN_THREADS, 1) radar_choose_begin(radar_choose_job job) {
    SHARED(int, sums, 2 * 32);
    const int64_t tasks = choose_tasks(job);
    int64_t before = 0;
    int *sum = sums;
    for (int64_t base = 0; base < tasks; base += BEGIN_THREADS, sum = sums + (sum == sums) * 32) {
        const int64_t task = base + threadIdx.x;
        const int own = task < tasks ? job.count[task] : 0, through = radix_through(own);
        if (dev_lane() == 31) sum[dev_warp()] = through;
        dev_block_sync();
        const int64_t at = before + radix_sum(sum, (int)dev_warp()) + through - own;
        if (task < tasks) job.begin[task] = at;
        before += radix_sum(sum, 32);
    }
    if (threadIdx.x == 0) job.begin[tasks] = before;
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

/* Grid [tasks], LIST_THREADS threads. */
KERNEL void __launch_bounds__(LIST_THREADS) radar_choose_list(radar_choose_job job) {
    const int64_t task = blockIdx.x;
    const choose_task t = choose_task_of(job, task);
    const radar_choose_part part = t.part;
    if (!t.group.keeps) return;
    radar_item *item = choose_range(job.item + job.begin[task], 0, part.begin);
    choose_range(item + job.count[task] - part.begin - (part.stop - part.end), part.end, part.stop);
    choose_chosen(item, t.bits, choose_words_of(part, t.group.unit), t.group.unit);
}

int radar_cuda_choose(const radar_choose_job *job, radar_cuda_queue *queue) {
    const unsigned tasks = (unsigned)choose_tasks(*job), warps = COUNT_THREADS / 32;
    if (tasks == 0) return 0;
    int error = (int)LAUNCH(radar_choose_mark, dim3((unsigned)(job->rows * job->heads)),
                            dim3(MARK_THREADS), 0, queue, *job);
    if (error == 0)
        error = (int)LAUNCH(radar_choose_count, dim3((tasks + warps - 1) / warps),
                            dim3(COUNT_THREADS), 0, queue, *job);
    if (error == 0)
        error = (int)LAUNCH(radar_choose_begin, dim3(1), dim3(BEGIN_THREADS), 0, queue, *job);
    if (error == 0)
        error = (int)LAUNCH(radar_choose_list, dim3(tasks), dim3(LIST_THREADS), 0, queue, *job);
    return error;
}
