#include "kernels/topk.h"

static inline void swap(uint64_t *a, uint64_t *b) {
    uint64_t t = *a;
    *a = *b;
    *b = t;
}

static int drop_zeros(uint64_t *key, int n) {
    int m = 0;
    for (int i = 0; i < n; i++)
        if (key[i]) key[m++] = key[i];
    return m;
}

static inline uint64_t median(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Brings the keep largest of [0, n) to the front, in any order: Hoare's quickselect.  Pivots come from a fixed sequence, so
 * that no arrangement met in practice is the bad one and every run does the same. */
static void select_front(uint64_t *key, int n, int keep) {
    uint32_t state = 2463534242u;
    int low = 0, high = n - 1;
    while (low < high) {
        uint64_t pick[3];
        for (int i = 0; i < 3; i++) {
            state = state * 1664525u + 1013904223u;
            pick[i] = key[low + (int)((uint64_t)state * (uint32_t)(high - low + 1) >> 32)];
        }
        uint64_t pivot = median(pick[0], pick[1], pick[2]);
        int i = low, j = high;
        while (i <= j) {
            while (key[i] > pivot) i++;
            while (key[j] < pivot) j--;
            if (i <= j) swap(&key[i++], &key[j--]);
        }
        if (keep <= j + 1)
            high = j;
        else if (keep > i)
            low = i;
        else
            return;
    }
}

int radar_topk_select(uint64_t *key, int n, int keep) {
    int m = drop_zeros(key, n);
    if (keep <= 0) return 0;
    if (m <= keep) return m;
    select_front(key, m, keep);
    return keep;
}
