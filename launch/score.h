/* score.h - the loss of given tokens, each computed as a decode step would compute it. */
#ifndef RADAR_LAUNCH_SCORE_H
#define RADAR_LAUNCH_SCORE_H

#include "launch/launch.h"

/* [this rank] -ln of the probability that logits [vocab] give to token, within 1e-6 of log-softmax in double (and 1e-6 of its size): each
 * e^x in f32, summed in blocks into a double.  Not finite where a logit is not. */
double launch_loss(const float *logits, int vocab, int32_t token);
/* [this rank] n rows at once, on `threads` threads: loss [n], and hit [n] (may be NULL): whether no token is likelier.  logits [n, vocab]. */
void launch_losses(const float *logits, int n, int vocab, const int32_t *token, int threads,
                   double *loss, unsigned char *hit);

/* [rank 0] Called for every row, in order: the loss of the token after it, and its logits [vocab]. */
typedef radar_status launch_row_fn(void *user, double loss, bool hit, const float *logits);

typedef struct launch_score {
    double nll;     /* sum over the rows, nats; on rank 0 */
    double seconds; /* without rank 0's own arithmetic */
} launch_score;

/* [all ranks] Appends token [first, end), which no radar_step may have sampled ahead of, under the session's attention; row i gives the
 * loss of token[i + 1], so token[end] must exist.
 * each may be NULL. */
radar_status launch_score_rows(launch_job *job, const int32_t *token, int64_t first, int64_t end,
                               launch_row_fn *each, void *user, launch_score *score);

#endif
