#include "runtime/sampler.h"

#include <math.h>
#include <string.h>

/* ---- options ---- */

static bool in_range(double x, double low, double high) { return x >= low && x <= high; }

radar_status radar_sampler_check(const radar_sampler_options *opt, radar_error *err) {
    if (!(opt->temperature >= 0) || isinf(opt->temperature))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "temperature %g is out of range; give 0 (greedy) or a positive number",
                          opt->temperature);
    if (opt->top_k < 0)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "top-k %d is out of range; give 0 (all) or a positive number",
                          opt->top_k);
    if (!in_range(opt->top_p, 0, 1))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "top-p %g is out of range; give a number from 0 to 1 (all)", opt->top_p);
    if (!in_range(opt->min_p, 0, 1))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "min-p %g is out of range; give a number from 0 (all) to 1", opt->min_p);
    return RADAR_OK;
}

/* ---- keys: integers in the order of the logits ---- */

typedef struct entry {
    uint32_t key; /* larger for a larger logit; equal for -0 and 0 */
    int32_t id;
} entry;

static const uint32_t KEY_OF_MINUS_INFINITY = 0x007fffffu; /* ~bits of -inf */

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static uint32_t key_of(float logit) {
    uint32_t u = bits_of(logit + 0.0f); /* -0 becomes 0 */
    return u ^ ((u >> 31) ? 0xffffffffu : 0x80000000u);
}

static float logit_of(uint32_t key) {
    uint32_t u = key ^ ((key >> 31) ? 0x80000000u : 0xffffffffu);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Writes all keys and the largest of them.  Plain integer loops: the compiler makes them wide. */
static radar_status make_keys(uint32_t *key, uint32_t *largest, const float *logit, int vocab,
                              radar_error *err) {
    uint32_t magnitude = 0, top = 0;
    for (int i = 0; i < vocab; i++) {
        uint32_t a = bits_of(logit[i]) & 0x7fffffffu, k = key_of(logit[i]);
        magnitude = a > magnitude ? a : magnitude;
        top = k > top ? k : top;
        key[i] = k;
    }
    if (magnitude > 0x7f800000u) {
        int bad = 0;
        while ((bits_of(logit[bad]) & 0x7fffffffu) <= 0x7f800000u) bad++;
        return radar_fail(err, RADAR_ERR_INTERNAL,
                          "the logit of token %d of %d is not a number; check the model's weights, "
                          "or use --kv-type bf16",
                          bad, vocab);
    }
    if (top <= KEY_OF_MINUS_INFINITY)
        return radar_fail(err, RADAR_ERR_INTERNAL,
                          "all %d logits are minus infinity: there is no token to choose", vocab);
    *largest = top;
    return RADAR_OK;
}

/* ---- order ---- */

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)

/* The k-th largest key, found digit by digit from the top; *ties = how many of the equal keys belong to the k largest. */
static uint32_t kth_largest(const uint32_t *key, int vocab, int k, int *ties) {
    static const int shift[3] = {21, 10, 0}, bits[3] = {11, 11, 10};
    uint32_t prefix = 0, known = 0;
    int left = k;
    for (int pass = 0; pass < 3; pass++) {
        int count[DIGITS] = {0};
        uint32_t mask = (1u << bits[pass]) - 1;
        for (int i = 0; i < vocab; i++)
            if ((key[i] & known) == prefix) count[key[i] >> shift[pass] & mask]++;
        uint32_t digit = mask;
        while (count[digit] < left) left -= count[digit--];
        prefix |= digit << shift[pass];
        known |= mask << shift[pass];
    }
    *ties = left;
    return prefix;
}

/* Fills e with the k largest by ascending id (of equal keys the lower ids). */
static int collect(entry *e, const uint32_t *key, int vocab, int k) {
    int ties = 0, n = 0;
    uint32_t least = kth_largest(key, vocab, k, &ties);
    for (int i = 0; i < vocab; i++)
        if (key[i] > least || (key[i] == least && ties-- > 0)) e[n++] = (entry){key[i], i};
    return n;
}

/* One stable pass of a radix sort, largest digit first. */
static void sort_by_digit(entry *to, const entry *from, int n, int shift) {
    int place[DIGITS] = {0};
    for (int i = 0; i < n; i++) place[from[i].key >> shift & (DIGITS - 1)]++;
    for (int digit = DIGITS - 1, sum = 0; digit >= 0; digit--) {
        int count = place[digit];
        place[digit] = sum;
        sum += count;
    }
    for (int i = 0; i < n; i++) to[place[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
}

/* Descending keys, equal keys in the order they came (ascending ids).  The result is in e. */
static void sort_descending(entry *e, entry *spare, int n) {
    sort_by_digit(spare, e, n, 0);
    sort_by_digit(e, spare, n, DIGIT_BITS);
    sort_by_digit(spare, e, n, 2 * DIGIT_BITS);
    memcpy(e, spare, (size_t)n * sizeof *e);
}

/* ---- filters and draw: e in descending order ---- */

/* e^((logit - top) / temperature), also when both are +infinity. */
static double weight(float logit, float top, double temperature) {
    return logit == top ? 1.0 : exp(((double)logit - (double)top) / temperature);
}

/* Fills w with the weights of the n entries; returns their sum. */
static double weigh(double *w, const entry *e, int n, double temperature) {
    float top = logit_of(e[0].key);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += w[i] = weight(logit_of(e[i].key), top, temperature);
    return sum;
}

/* How many of the first entries are needed before their sum is more than bound (or reaches it). */
static int reach(const double *w, int n, double bound, bool more) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += w[i];
        if (more ? sum > bound : sum >= bound) return i + 1;
    }
    return n;
}

static int keep_top_p(double *w, const entry *e, int n, double top_p) {
    if (top_p >= 1) return n;
    double sum = weigh(w, e, n, 1.0);
    return reach(w, n, top_p * sum, false);
}

static int keep_min_p(const entry *e, int n, double min_p) {
    if (min_p <= 0) return n;
    double top = logit_of(e[0].key), least = top + log(min_p);
    int kept = 1;
    while (kept < n && logit_of(e[kept].key) >= least) kept++;
    return kept;
}

static int32_t draw(double *w, const entry *e, int n, double temperature, double u) {
    double sum = weigh(w, e, n, temperature);
    int last = reach(w, n, u * sum, true) - 1;
    while (last > 0 && w[last] == 0) last--; /* u * sum rounded up to sum */
    return e[last].id;
}

/* ---- the whole ---- */

size_t radar_sampler_scratch(int vocab) {
    return vocab > 0 ? (size_t)vocab * (2 * sizeof(entry) + sizeof(uint32_t)) : 0;
}

radar_status radar_sample(int32_t *token, const radar_sampler_options *opt, int64_t position,
                          const float *logit, int vocab, void *scratch, radar_error *err) {
    if (vocab < 1) return radar_fail(err, RADAR_ERR_INTERNAL, "no logits to sample from");
    entry *e = scratch, *spare = e + vocab;
    double *w = (double *)(void *)spare; /* the sort's spare room, when the sort is done */
    uint32_t *key = (uint32_t *)(void *)(spare + vocab), largest = 0;
    radar_status st = make_keys(key, &largest, logit, vocab, err);
    if (st != RADAR_OK) return st;
    if (opt->temperature == 0) {
        int best = 0;
        while (key[best] != largest) best++;
        *token = best;
        return RADAR_OK;
    }
    int k = opt->top_k > 0 && opt->top_k < vocab ? opt->top_k : vocab;
    int n = collect(e, key, vocab, k);
    sort_descending(e, spare, n);
    n = keep_top_p(w, e, n, opt->top_p);
    n = keep_min_p(e, n, opt->min_p);
    double u = radar_random_uniform(opt->seed, RADAR_STREAM_SAMPLER, (uint64_t)position);
    *token = draw(w, e, n, opt->temperature, u);
    return RADAR_OK;
}
