/* read.h - the machine's read bandwidth, as the other operations could have it at best.
 *
 * memory [bytes], 64-byte aligned, is cut into one range for each of the backend's threads, the same in both calls:
 *   touch: every thread writes its own range, so that its pages lie where that thread reads fastest
 *   read:  every thread reads its own range once; the sum of all 64-bit words comes back, so that no read can be left out
 * Cost: bytes read, nothing else worth counting. */
#ifndef RADAR_READ_H
#define RADAR_READ_H
#include "kernels/backend.h"
#endif
