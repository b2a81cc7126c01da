#include "kernels/cpu/isa.h"

#include <cpuid.h>
#include <string.h>

/* clang 14 cannot ask for F16C by name. */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

radar_isa radar_cpu_isa(const char *name, bool *ok) {
    __builtin_cpu_init();
    radar_isa isa = {.fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
    /* F16C came before AVX2 and FMA, as for AVX-512 above */
    bool best = !name, plain = name && strcmp(name, "plain") == 0;
    bool avx512 = name && strcmp(name, "avx512") == 0, avx2 = name && strcmp(name, "avx2") == 0;
    isa.avx2 = !plain && isa.fma && has_f16c();
    isa.avx512 = (best || avx512) && isa.avx2 && has_avx512();
    isa.bf16 = isa.avx512 && __builtin_cpu_supports("avx512bf16");
    *ok = best || plain || (avx2 && isa.avx2) || (avx512 && isa.avx512);
    return isa;
}
