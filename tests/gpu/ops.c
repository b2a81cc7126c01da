/* Every operation of the CUDA backend beside the CPU's, on random inputs of several shapes: on a GPU, or on the fake of one.
 * ops [GROUP...]: layer, cache, select, attend, matmul; none: all. */
#include <stdio.h>
#include <string.h>

#include "tests/gpu/twin.h"

static bool asked(int n, char **arg, const char *group) {
    for (int i = 1; i < n; i++)
        if (strcmp(arg[i], group) == 0) return true;
    return n == 1;
}

int main(int n, char **arg) {
    static const struct {
        const char *name;
        void (*run)(void);
    } group[] = {{"layer", layer_cases},
                 {"cache", cache_cases},
                 {"select", select_cases},
                 {"attend", attend_cases}};
    if (!open_sides(RADAR_PRECISION_EXACT, false)) return 0;
    printf("# %s beside %s\n", side[GPU]->ops->describe(side[GPU]),
           side[CPU]->ops->describe(side[CPU]));
    for (size_t i = 0; i < sizeof group / sizeof group[0]; i++)
        if (asked(n, arg, group[i].name)) group[i].run();
    close_sides();
    if (asked(n, arg, "matmul")) matmul_cases();
    return bad_lines() != 0;
}
