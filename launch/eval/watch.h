/* watch.h - the kinds of eval that look inside attention: which positions, and what is asked of every observation. */
#ifndef RADAR_LAUNCH_WATCH_H
#define RADAR_LAUNCH_WATCH_H

#include "launch/eval/eval.h"

/* Positions [first, end) of the text are computed as decode steps; those that are multiples of `every` are observed: rows of them. */
typedef struct eval_span {
    int64_t first, end, every;
    int rows;
} eval_span;

/* [this rank] The last --tail positions of the text, `tail` where nothing was said, and at most its second half then; --layer and
 * --head are the model's.  RADAR_ERR_DATA, RADAR_ERR_USAGE. */
radar_status eval_span_open(eval_context *c, int64_t tail, eval_span *span);
/* Index of an observed position among the span's. */
static inline int eval_span_row(const eval_span *s, int64_t position) {
    return (int)(position / s->every - (s->first + s->every - 1) / s->every);
}

/* [all ranks] Prefills densely what is before the span and computes the span under job->opt's attention, or densely, batch by
 * batch; rank 0 sees every observation.  An attention that is not finite ends it: RADAR_ERR_INTERNAL with position and layer. */
radar_status eval_watch(eval_context *c, const eval_span *span, bool dense, radar_observer *each,
                        void *user);

#endif
