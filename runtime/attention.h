/* attention.h - the rules that decide from options and position alone how a row attends: candidates, budget, break-even. */
#ifndef RADAR_ATTENTION_H
#define RADAR_ATTENTION_H

#include "runtime/policy.h"
#include "runtime/radar.h"

/* From which context on an automatic budget doubles (a design choice: not measured yet). */
#define RADAR_LONG_CONTEXT 65536
#define RADAR_MOST_UNITS 13 /* segments of 16 to 65,536 tokens */

/* [this rank] Checks the attention options of a session and opens the scorer.  RADAR_ERR_USAGE names the option and its valid values. */
radar_status radar_attention_open(radar_attention *a, const radar_session_options *opt, int D,
                                  const char *isa, radar_error *err);
void radar_attention_close(radar_attention *a);
/* [this rank] The policy of that name; RADAR_ERR_USAGE with the names there are. */
radar_status radar_attention_policy(const radar_policy **out, const char *name, radar_error *err);

/* [this rank] Settles what depends on the layout: a segment lies within a stripe.  RADAR_ERR_USAGE where it cannot. */
radar_status radar_attention_fit(radar_attention *a, const radar_layout *l, radar_error *err);

/* Segments of 16 tokens that a row at `position` scores and chooses as one: a power of two.  Auto doubles where the next power of
 * two comes nearer to sqrt(t) / 4, in the logarithm: at t = 32 N^2 tokens, from N to 2 N. */
int32_t radar_attention_unit(const radar_attention *a, int64_t position);
/* The last position in a context of every unit that it uses: where a row with this unit has most to choose from. */
int radar_attention_peaks(const radar_attention *a, int64_t context,
                          int64_t peak[RADAR_MOST_UNITS]);
/* The most that a query head takes, in units, at any position of a context. */
int64_t radar_attention_most_keep(const radar_attention *a, int64_t context);

/* The most units of own shard i that one row scores. */
int64_t radar_attention_most_scores(const radar_attention *a, const radar_kvcache *kv, int i);
/* The most segments of 16 tokens of the whole context that one list of `heads` query heads has. */
int64_t radar_attention_longest_list(const radar_attention *a, const radar_kvcache *kv, int heads);

/* Candidates of a row at `position`: global segments [begin, end) of 16 tokens, both at multiples of the unit; begin == end: none.
 * What is sealed and in no whole unit is no candidate. */
void radar_attention_candidates(const radar_attention *a, int64_t position, int64_t *begin,
                                int64_t *end);
/* Tokens of the middle that a row at `position` may choose. */
int64_t radar_attention_budget(const radar_attention *a, int64_t position);
/* How many units of the candidates a query head takes. */
int64_t radar_attention_keep(const radar_attention *a, int64_t position);
/* Whether a row at `position` of a policy that scores attends to everything all the same. */
bool radar_attention_dense(const radar_attention *a, const radar_kvcache *kv, int64_t position);
/* ---- sparse prefill ---- */

/* Positions of a block, and of the queries that one stands for. */
#define RADAR_PREFILL_BLOCK 64
#define RADAR_PREFILL_RUN 16
/* The rules by which those choose: of a session's, with its own automatic budget, 1,024 tokens at any position. */
radar_attention radar_attention_of_prefill(const radar_attention *a, int64_t context);
/* The first tokens, which attend densely: auto is 4,096, to where sparse prefill would read about half of the tokens. */
int64_t radar_attention_dense_prefill(const radar_attention *a);

/* Of `keep` chosen segments, how many each shard may bring where shards choose by themselves (--select local). */
int radar_attention_keep_local(int64_t keep, int shards);
/* What --pick random draws by: one number for each query head of a layer of a row. */
uint64_t radar_attention_draw(const radar_attention *a, int64_t position, int layer, int layers,
                              int head, int heads);
/* Up to how many tokens of context a row with the budget of `position` attends everything, because that reads no more bytes
 * (or the option says so). */
int64_t radar_attention_dense_limit(const radar_attention *a, const radar_kvcache *kv,
                                    int64_t position);

#endif
