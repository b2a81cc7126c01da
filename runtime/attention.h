/* attention.h - the rules that decide from options and position alone how a row attends: candidates, budget, break-even. */
#ifndef RADAR_ATTENTION_H
#define RADAR_ATTENTION_H

#include "runtime/policy.h"
#include "runtime/radar.h"

/* From which context on an automatic budget doubles (a design choice: not measured yet). */
#define RADAR_LONG_CONTEXT 65536

/* [this rank] Checks the attention options of a session and opens the scorer.  RADAR_ERR_USAGE names the option and its valid values. */
radar_status radar_attention_open(radar_attention *a, const radar_session_options *opt, int D,
                                  const char *isa, radar_error *err);
void radar_attention_close(radar_attention *a);
/* [this rank] The policy of that name; RADAR_ERR_USAGE with the names there are. */
radar_status radar_attention_policy(const radar_policy **out, const char *name, radar_error *err);

/* Candidates of a row at `position`: global segments [begin, end); begin == end: none. */
void radar_attention_candidates(const radar_attention *a, int64_t position, int64_t *begin,
                                int64_t *end);
/* How many of them a query head takes. */
int64_t radar_attention_keep(const radar_attention *a, int64_t position);
/* Whether a row at `position` of a policy that scores attends to everything all the same. */
bool radar_attention_dense(const radar_attention *a, const radar_kvcache *kv, int64_t position);
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
