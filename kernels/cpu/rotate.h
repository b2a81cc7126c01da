/* rotate.h - the rotation that makes the coordinates of a key look alike: H = normalised Hadamard matrix times signs.
 * D no power of two: one matrix per power of two, largest first, each over its own coordinates.  H is orthogonal: its
 * inverse is the matrix first, the signs after.
 * The order of additions is fixed, and the same for any number of lanes. */
#ifndef RADAR_CPU_ROTATE_H
#define RADAR_CPU_ROTATE_H

#include "kernels/cpu/segment.h"

typedef struct radar_rotation {
    int D;
    int n_part, part[8];     /* sizes of the matrices */
    float norm[RADAR_MAX_D]; /* sign / sqrt(size of the part) */
} radar_rotation;

/* [this rank] Signs from `seed`. */
void radar_rotation_seeded(radar_rotation *r, int D, uint64_t seed);
/* [this rank] The signs of the q8 cache: fixed, for every model and run. */
void radar_rotation_of_q8(radar_rotation *r, int D);

/* The matrices without signs and norm, dimension by dimension of `lanes` vectors side by side: z [D, lanes]. */
RADAR_TEMPLATE void radar_hadamard(const radar_rotation *r, float *z, int lanes) {
    for (int p = 0; p < r->n_part; z += r->part[p++] * lanes) {
        for (int half = 1; half < r->part[p]; half *= 2) {
            for (int d = 0; d < r->part[p]; d++) {
                if (d & half) continue;
                float *a = z + d * lanes, *b = a + half * lanes;
#pragma omp simd
                for (int l = 0; l < lanes; l++) {
                    float u = a[l], v = b[l];
                    a[l] = u + v;
                    b[l] = u - v;
                }
            }
        }
    }
}

RADAR_TEMPLATE void radar_norm_lanes(const radar_rotation *r, float *z, int lanes) {
    for (int d = 0; d < r->D; d++) {
        const float norm = r->norm[d];
#pragma omp simd
        for (int l = 0; l < lanes; l++) z[d * lanes + l] *= norm;
    }
}

/* z := H z */
RADAR_TEMPLATE void radar_rotate(const radar_rotation *r, float *z, int lanes) {
    radar_norm_lanes(r, z, lanes);
    radar_hadamard(r, z, lanes);
}

/* z := H' z, back to where it was */
RADAR_TEMPLATE void radar_rotate_back(const radar_rotation *r, float *z, int lanes) {
    radar_hadamard(r, z, lanes);
    radar_norm_lanes(r, z, lanes);
}

/* int8 with one scale, the largest becomes `largest`; returns the scale.  Numbers that are not finite count as 0. */
float radar_round_to_int8(int8_t *out, const float *v, int n, float largest);

#endif
