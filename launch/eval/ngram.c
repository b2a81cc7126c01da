#include "launch/eval/ngram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"

typedef struct gram {
    const int32_t *token;
    int n;
} gram;

static int compare(const void *a, const void *b) {
    const gram *x = a, *y = b;
    return memcmp(x->token, y->token, (size_t)x->n * sizeof *x->token);
}

double ngram_distinct(const int32_t *token, int64_t count, int n) {
    const int64_t total = count - n + 1;
    gram *all = total > 0 ? radar_alloc_array((size_t)total, sizeof *all) : NULL;
    if (all == NULL) return NAN;
    for (int64_t i = 0; i < total; i++) all[i] = (gram){token + i, n};
    qsort(all, (size_t)total, sizeof *all, compare);
    int64_t different = 1;
    for (int64_t i = 1; i < total; i++) different += compare(&all[i - 1], &all[i]) != 0;
    radar_free(all);
    return (double)different / (double)total;
}

double ngram_repeated(const int32_t *token, int64_t count, int n) {
    return 1 - ngram_distinct(token, count, n);
}

int64_t ngram_longest_repeat(const int32_t *token, int64_t count) {
    int64_t longest = 0;
    /* Runs of equal pairs (i, i + shift) along each diagonal. */
    for (int64_t shift = 1; shift < count; shift++) {
        int64_t run = 0;
        for (int64_t i = 0; i + shift < count; i++) {
            run = token[i] == token[i + shift] ? run + 1 : 0;
            if (run > longest) longest = run;
        }
    }
    return longest;
}
