/* dequantize.h - radar_dequantize with the CPU's vectors; the same bits. */
#ifndef RADAR_CPU_DEQUANTIZE_H
#define RADAR_CPU_DEQUANTIZE_H

#include "kernels/cpu/isa.h"
#include "kernels/dtype.h"

/* [this rank] As radar_dequantize. */
void radar_cpu_dequantize(radar_isa isa, float *out, radar_dtype type, const void *row,
                          int64_t begin, int64_t end);

#endif
