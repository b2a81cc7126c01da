/* sampler.h - from logits to a token: greedy, or temperature, top-k, top-p and min-p with a counter-based draw.
 *
 * The draw is a pure function of (seed, position, logits): the same on every rank, whatever was sampled before. */
#ifndef RADAR_SAMPLER_H
#define RADAR_SAMPLER_H

#include "kernels/sample.h"
#include "runtime/base.h"

/* [this rank] RADAR_ERR_USAGE names the option that is out of range. */
radar_status radar_sampler_check(const radar_sampler_options *opt, radar_error *err);
/* [this rank] Bytes of scratch for a vocabulary. */
size_t radar_sampler_scratch(int vocab);
/* [this rank] logit [vocab].  Filters in llama.cpp's order: top-k, top-p (of what top-k left, before temperature), min-p, temperature;
 * at least one token stays.  +infinity takes all the probability.  NaN anywhere, or -infinity everywhere: RADAR_ERR_INTERNAL with the
 * place.  opt has passed radar_sampler_check.  scratch: radar_sampler_scratch(vocab) bytes, 8-byte aligned. */
radar_status radar_sample(int32_t *token, const radar_sampler_options *opt, int64_t position,
                          const float *logit, int vocab, void *scratch, radar_error *err);

#endif
