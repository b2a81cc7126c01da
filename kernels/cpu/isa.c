#include "kernels/cpu/isa.h"

#include <string.h>

/* F16C came years before AVX-512, and every machine with the latter has it; clang 14 cannot ask for it by name. */
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

radar_isa radar_cpu_isa(const char *name, bool *ok) {
    __builtin_cpu_init();
    radar_isa isa = {.fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
    bool best = !name, plain = name && strcmp(name, "plain") == 0;
    bool avx512 = name && strcmp(name, "avx512") == 0;
    isa.avx2 = isa.fma && !plain;
    if (best || avx512) isa.avx512 = has_avx512();
    isa.bf16 = isa.avx512 && __builtin_cpu_supports("avx512bf16");
    *ok = best || plain || (avx512 && isa.avx512);
    return isa;
}
