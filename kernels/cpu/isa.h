/* isa.h - which instruction set the CPU kernels use, decided once at open. */
#ifndef RADAR_CPU_ISA_H
#define RADAR_CPU_ISA_H

#include <stdbool.h>

typedef struct radar_isa {
    bool avx512; /* F, BW, DQ, VL, VNNI and what avx2 stands for: all of them or none */
    bool bf16;   /* AVX512_BF16 beside them */
    /* AVX2, FMA and F16C: kernels written for them may be used; false where "plain" was asked for or the machine lacks one
     * of them.  Kernels ask for avx512 first, which includes it. */
    bool avx2;
    /* AVX2 and FMA, also under "plain": the plain C twins compiled for them, with the same bits. */
    bool fma;
} radar_isa;

/* name NULL: the best this machine has.  "plain": C only.  "avx2", "avx512": false in *ok when the machine lacks it. */
radar_isa radar_cpu_isa(const char *name, bool *ok);

#define RADAR_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))
#define RADAR_AVX512_BF16 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,f16c,fma")))
#define RADAR_AVX2 __attribute__((target("avx2,fma,f16c")))
#define RADAR_FMA __attribute__((target("avx2,fma")))
#define RADAR_AVX2 __attribute__((target("avx2,fma,f16c")))

#endif
