/* sample.h - how a token is drawn from logits, and what was drawn; runtime/sampler.h has the rules. */
#ifndef RADAR_SAMPLE_H
#define RADAR_SAMPLE_H

#include <stdint.h>

typedef struct radar_sampler_options {
    double temperature; /* 0 = greedy (ties to the lower id) */
    int top_k;          /* 0 = all */
    double top_p;       /* 1 = all */
    double min_p;       /* 0 = all; relative to the most likely token */
    uint64_t seed;
} radar_sampler_options;

/* What a device drew. */
typedef struct radar_drawn {
    int32_t token; /* -1: no logit is more than -infinity */
    int32_t nan;   /* the lowest id whose logit is not a number, or -1 */
} radar_drawn;

#endif
