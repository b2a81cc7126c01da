/* ngram.h - how much a text repeats itself. */
#ifndef RADAR_LAUNCH_NGRAM_H
#define RADAR_LAUNCH_NGRAM_H

#include <stddef.h>
#include <stdint.h>

/* Different n-grams of token [count] over all count - n + 1 of them (Li et al., arXiv 1510.03055); NAN where there is none, or no memory. */
double ngram_distinct(const int32_t *token, int64_t count, int n);
/* Share of n-grams that were seen before: 1 - distinct. */
double ngram_repeated(const int32_t *token, int64_t count, int n);
/* Length of the longest run of tokens that stands in two places, which may overlap.  count^2 steps. */
int64_t ngram_longest_repeat(const int32_t *token, int64_t count);

#endif
