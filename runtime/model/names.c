#include <stdlib.h>
#include <string.h>

#include "runtime/model/tensorfile_internal.h"

static int compare(const char *a, size_t n_a, const char *b, size_t n_b) {
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    if (order) return order;
    return (n_a > n_b) - (n_a < n_b);
}

static int compare_names(const void *a, const void *b) {
    const radar_name *x = a, *y = b;
    return compare(x->text, x->bytes, y->text, y->bytes);
}

void radar_names_sort(radar_name *name, size_t n) {
    if (n) qsort(name, n, sizeof *name, compare_names);
}

int64_t radar_names_duplicate(const radar_name *name, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (!compare_names(&name[i - 1], &name[i])) return (int64_t)name[i].item;
    return -1;
}

int64_t radar_names_find(const radar_name *name, size_t n, const char *text, size_t bytes) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare(name[mid].text, name[mid].bytes, text, bytes);
        if (order == 0) return (int64_t)name[mid].item;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return -1;
}
