/* choose - bits of marked units, list by list; items come out of them in order, and the bits are put back to zero. */
#include "kernels/choose.h"

#include <string.h>

#include "kernels/cpu/cpu.h"

static int lists_of(const radar_choose_job *job) { return job->heads / job->heads_per_list; }

static size_t task_of(const radar_choose_job *job, int group, int list, int shard) {
    return ((size_t)group * (size_t)lists_of(job) + (size_t)list) * (size_t)job->shards.n +
           (size_t)shard;
}

/* ---- the best of all ranks ---- */

/* Sets the bit of unit `number` of the context, where its shard is an own one. */
static void mark(const radar_choose_job *job, int group, int list, uint32_t number, int32_t unit) {
    const radar_choose_shards *s = &job->shards;
    const uint32_t stripe_units = (uint32_t)(s->stripe_segments / unit);
    uint32_t stripe = number / stripe_units, shard = 0;
    for (uint32_t n = (uint32_t)s->shards, rest = stripe; n > 1; n /= 2, rest /= 2)
        shard = shard << 1 | (rest & 1);
    const int own = (int)shard - s->first;
    if (own < 0 || own >= s->n) return;
    const uint32_t place = stripe / (uint32_t)s->shards * stripe_units + number % stripe_units;
    uint32_t *bits = job->bits + task_of(job, group, list, own) * (size_t)job->words;
    bits[place / 32] |= 1u << place % 32;
}

static void mark_best(const radar_choose_job *job, int row, int head) {
    const radar_choose_row *r = &job->row[row];
    const size_t lists = (size_t)job->rows * (size_t)job->heads,
                 at = (size_t)row * (size_t)job->heads + (size_t)head;
    int n = job->ranks * job->room;
    for (int rank = 0; rank < job->ranks; rank++)
        memcpy(job->merged + (size_t)rank * (size_t)job->room,
               job->packet + ((size_t)rank * lists + at) * (size_t)job->room,
               (size_t)job->room * sizeof *job->merged);
    n = radar_topk_select(job->merged, n, r->keep);
    for (int i = 0; i < n; i++)
        mark(job, r->group, head / job->heads_per_list, radar_topk_segment(job->merged[i]),
             r->unit);
}

/* ---- items ---- */

static radar_item *put_range(radar_item *item, int32_t begin, int32_t end) {
    for (int32_t at = begin; at < end; at++) *item++ = (radar_item){at, 0xffff};
    return item;
}

/* Units of the words that candidates [begin, end) lie in. */
static radar_item *put_marked(radar_item *item, uint32_t *bits, int32_t begin, int32_t end,
                              int32_t unit) {
    for (int32_t word = begin / unit / 32; begin < end && word <= (end / unit - 1) / 32; word++) {
        for (uint32_t rest = bits[word]; rest; rest &= rest - 1) {
            const int32_t first = (word * 32 + __builtin_ctz(rest)) * unit;
            item = put_range(item, first, first + unit);
        }
        bits[word] = 0;
    }
    return item;
}

static void list_group(const radar_choose_job *job, int group, const radar_choose_row *row,
                       bool keeps, radar_item **next) {
    for (int list = 0; list < lists_of(job); list++) {
        for (int i = 0; i < job->shards.n; i++) {
            const radar_choose_part *p =
                &job->part[(size_t)group * (size_t)job->shards.n + (size_t)i];
            const size_t task = task_of(job, group, list, i);
            radar_item *item = *next;
            if (keeps) {
                item = put_range(item, 0, p->begin);
                item = put_marked(item, job->bits + task * (size_t)job->words, p->begin, p->end,
                                  row->unit);
                item = put_range(item, p->end, p->stop);
            }
            job->begin[task] = *next - job->item;
            job->count[task] = (int32_t)(item - *next);
            if (job->listed) *job->listed += (int64_t)job->count[task] * row->weight;
            *next = item;
        }
    }
}

void radar_cpu_choose(radar_backend *be, const radar_choose_job *job) {
    radar_item *next = job->item;
    (void)be;
    for (int row = 0, first; row < job->rows;) {
        bool keeps = false;
        for (first = row; row < job->rows && job->row[row].group == job->row[first].group; row++) {
            if (job->row[row].keep <= 0) continue;
            keeps = true;
            for (int head = 0; head < job->heads; head++) mark_best(job, row, head);
        }
        list_group(job, job->row[first].group, &job->row[first], keeps, &next);
    }
    job->begin[task_of(job, job->groups, 0, 0)] = next - job->item;
}
