/* topk - the scores stream past a threshold: only what beats the best found so far is kept, in a buffer that is cut back to the
 * `keep` best when full.  Over n scores in no particular order some keep ln(n / keep) pass; in the worst order, ascending,
 * each cut halves the buffer or better, so the work stays O(n).
 * Keys decide, not scores, so the order in which the shards come changes nothing.  Of many scores a threshold is known before:
 * what the `keep` best of disjoint groups' maxima reach, at least `keep` scores reach. */
#include "kernels/topk.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/segment.h"

/* ---- the largest keys ---- */

/* keys[i .. i + 8), 0 where there is none. */
RADAR_TEMPLATE RADAR_AVX512 __m512i load_keys(const uint64_t *key, int n, int i) {
    return _mm512_maskz_loadu_epi64((__mmask8)radar_tail_mask(n - i), key + i);
}

RADAR_AVX512 static int count_from(const uint64_t *key, int n, uint64_t bar) {
    const __m512i from = _mm512_set1_epi64((int64_t)bar);
    int count = 0;
    for (int i = 0; i < n; i += 8)
        count += __builtin_popcount(_mm512_cmpge_epu64_mask(load_keys(key, n, i), from));
    return count;
}

/* To the front: all above bar, and as many that equal it as make `keep` of them. */
RADAR_AVX512 static int gather_from(uint64_t *key, int n, uint64_t bar, int keep) {
    const __m512i at = _mm512_set1_epi64((int64_t)bar);
    int m = 0;
    for (int i = 0; i < n; i += 8) {
        __m512i x = load_keys(key, n, i);
        __mmask8 above = _mm512_cmpgt_epu64_mask(x, at);
        int some = __builtin_popcount(above);
        _mm512_mask_storeu_epi64(key + m, (__mmask8)((1u << some) - 1),
                                 _mm512_maskz_compress_epi64(above, x));
        m += some;
    }
    while (m < keep) key[m++] = bar;
    return m;
}

/* radar_topk_select by halving the interval in which the least of the best lies: a pass takes n / 8 steps without a branch to be
 * foreseen, and some twenty do, 64 for sure. */
RADAR_AVX512 static int select_avx512(uint64_t *key, int n, int keep) {
    __m512i least = _mm512_set1_epi64(-1), most = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 8) {
        __m512i x = load_keys(key, n, i);
        least = _mm512_mask_min_epu64(least, _mm512_test_epi64_mask(x, x), least, x);
        most = _mm512_max_epu64(most, x);
    }
    uint64_t low = _mm512_reduce_min_epu64(least), high = _mm512_reduce_max_epu64(most);
    if (keep <= 0 || high == 0 || count_from(key, n, low) <= keep)
        return radar_topk_select(key, n, keep);
    while (low < high) { /* at least keep from low on, fewer above high */
        const uint64_t middle = high - (high - low) / 2;
        const int count = count_from(key, n, middle);
        if (count >= keep) low = middle;
        if (count == keep) break;
        if (count < keep) high = middle - 1;
    }
    return gather_from(key, n, low, keep);
}

static int select_best(bool avx512, uint64_t *key, int n, int keep) {
    return avx512 ? select_avx512(key, n, keep) : radar_topk_select(key, n, keep);
}

/* ---- scores past a threshold ---- */

typedef struct sieve {
    const radar_topk_task *task;
    uint64_t *key;
    int n, room;
    uint64_t bar; /* only larger keys enter */
    bool avx512;
} sieve;

static uint32_t segment_number(const radar_topk_task *t, const radar_topk_range *r, int32_t at) {
    radar_kv_view kv = {
        .stripe_segments = t->stripe_segments, .shards = t->shards, .phase = r->phase};
    return (uint32_t)(radar_kv_position(&kv, at) / RADAR_SEGMENT);
}

static uint64_t key_of(const radar_topk_task *t, const radar_topk_range *r, int i) {
    const int32_t at = r->list ? r->list[i] : r->segment_begin + i;
    const float score = r->score[at - r->segment_begin];
    uint32_t segment = segment_number(t, r, at);
    uint64_t low = 0xffffffffu - segment;
    if (isnan(score)) return 0;
    switch (t->pick) {
    case RADAR_PICK_TOP:
        return radar_topk_key(score, segment);
    case RADAR_PICK_BOTTOM:
        return radar_topk_key(-score, segment);
    case RADAR_PICK_RANDOM:
        return radar_random(t->seed, RADAR_STREAM_PICK, segment) >> 32 << 32 | low;
    case RADAR_PICK_LAST:
        return (uint64_t)segment << 32 | low;
    }
    return 0;
}

static void offer(sieve *s, const radar_topk_range *r, int i) {
    uint64_t key = key_of(s->task, r, i);
    if (key <= s->bar) return;
    s->key[s->n++] = key;
    if (s->n < s->room) return;
    s->n = select_best(s->avx512, s->key, s->n, s->task->keep);
    s->bar = s->key[0];
    for (int j = 1; j < s->n; j++) s->bar = s->key[j] < s->bar ? s->key[j] : s->bar;
}

static void sift_plain(sieve *s, const radar_topk_range *r) {
    for (int i = 0; i < radar_topk_range_count(r); i++) offer(s, r, i);
}

/* The score part of keys. */
RADAR_TEMPLATE RADAR_AVX512 __m512i ordered(__m512i score) {
    const __m512i top = _mm512_set1_epi32((int)0x80000000u);
    return _mm512_xor_si512(score, _mm512_or_si512(_mm512_srai_epi32(score, 31), top));
}

/* TOP and BOTTOM: 16 scores at a time against the score part of the threshold, as ordered integers. */
RADAR_AVX512 static void sift_avx512(sieve *s, const radar_topk_range *r) {
    const __m512i sign =
        _mm512_set1_epi32(s->task->pick == RADAR_PICK_BOTTOM ? (int)0x80000000u : 0);
    for (int i = 0; i < r->n; i += 16) {
        __mmask16 tail = radar_tail_mask(r->n - i);
        __m512i u = _mm512_xor_si512(_mm512_maskz_loadu_epi32(tail, r->score + i), sign);
        unsigned beat = _mm512_mask_cmpge_epu32_mask(
            tail, ordered(u), _mm512_set1_epi32((int)(uint32_t)(s->bar >> 32)));
        for (; beat; beat &= beat - 1) offer(s, r, i + __builtin_ctz(beat));
    }
}

#define GROUPS \
    8 /* times keep: so many maxima that few more than keep scores pass what the best of them reach */

/* Scores in groups of every 16th of `length` neighbours: keys[] := the maxima; returns how many. */
RADAR_AVX512 static int group_maxima(const radar_topk_task *t, int64_t length) {
    const __m512 none = _mm512_set1_ps(-INFINITY);
    int n = 0;
    for (int k = 0; k < t->n_ranges; k++) {
        const radar_topk_range *r = &t->range[k];
        for (int64_t at = 0; at < r->n; at += length) {
            __m512 max = none;
            for (int64_t i = at; i < at + length && i < r->n;
                 i += 16) /* of a NaN and a number the number comes out */
                max = _mm512_max_ps(
                    _mm512_mask_loadu_ps(none, radar_tail_mask((int)(r->n - i)), r->score + i),
                    max);
            __m512i order = ordered(_mm512_castps_si512(max));
            for (int half = 0; half < 2; half++, n += 8)
                _mm512_storeu_si512(t->scratch + n,
                                    _mm512_slli_epi64(_mm512_cvtepu32_epi64(
                                                          half ? _mm512_extracti32x8_epi32(order, 1)
                                                               : _mm512_castsi512_si256(order)),
                                                      32));
        }
    }
    return n;
}

/* Keys below it are of scores that `keep` others of the n are above. */
static uint64_t known_bar(const radar_topk_task *t, int64_t n) {
    int64_t blocks = radar_ceil_div(GROUPS * (int64_t)t->keep, 16);
    if (n < 4 * GROUPS * (int64_t)t->keep + 16 * (blocks + t->n_ranges)) return 0;
    int maxima = group_maxima(t, radar_ceil_div(n, 16 * blocks) * 16);
    uint64_t bar = UINT64_MAX;
    maxima = select_avx512(t->scratch, maxima, t->keep);
    for (int i = 0; i < maxima; i++) bar = t->scratch[i] < bar ? t->scratch[i] : bar;
    return maxima < t->keep ? 0 : bar - 1;
}

/* The best of a task's scores to the front of its scratch; returns how many. */
static int pick_best(const radar_topk_task *t, bool avx512) {
    int64_t room = 4 * (int64_t)t->keep + 64, n = 0;
    if (t->keep <= 0) return 0;
    for (int i = 0; i < t->n_ranges; i++) n += radar_topk_range_count(&t->range[i]);
    sieve s = {
        .task = t, .key = t->scratch, .room = (int)(room < n ? room : n + 1), .avx512 = avx512};
    bool wide = avx512 && (t->pick == RADAR_PICK_TOP || t->pick == RADAR_PICK_BOTTOM);
    for (int i = 0; i < t->n_ranges; i++) wide = wide && !t->range[i].list;
    if (wide && t->pick == RADAR_PICK_TOP) s.bar = known_bar(t, n);
    for (int i = 0; i < t->n_ranges; i++) {
        if (wide)
            sift_avx512(&s, &t->range[i]);
        else
            sift_plain(&s, &t->range[i]);
    }
    return select_best(avx512, s.key, s.n, t->keep);
}

static void give_out(const radar_topk_task *t, int n) {
    if (t->n_kept) *t->n_kept = n;
    for (int i = 0; i < n && t->segment; i++)
        t->segment[i] = (int32_t)radar_topk_segment(t->scratch[i]);
    if (!t->key) return;
    memmove(t->key, t->scratch, (size_t)n * sizeof *t->key);
    memset(t->key + n, 0, (size_t)(t->keep - n) * sizeof *t->key);
}

void radar_cpu_topk(radar_backend *be, const radar_topk_task *task, int n_tasks) {
    const radar_cpu *cpu = radar_cpu_of(be);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(dynamic, 1)
    for (int i = 0; i < n_tasks; i++) give_out(&task[i], pick_best(&task[i], cpu->isa.avx512));
}
