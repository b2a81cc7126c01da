/* Every operation of the CUDA backend beside the CPU's, on random inputs of several shapes: on a GPU, or on the fake of one. */
#include <stdio.h>

#include "tests/gpu/twin.h"

int main(void) {
    if (!open_sides(RADAR_PRECISION_EXACT, false)) return 0;
    printf("# %s beside %s\n", side[GPU]->ops->describe(side[GPU]),
           side[CPU]->ops->describe(side[CPU]));
    layer_cases();
    cache_cases();
    select_cases();
    attend_cases();
    close_sides();
    matmul_cases();
    return bad_lines() != 0;
}
