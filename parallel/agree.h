/* agree.h - no rank leaves a sequence of exchanges alone: errors are agreed on before anybody acts on them. */
#ifndef RADAR_AGREE_H
#define RADAR_AGREE_H

#include "parallel/comm.h"

/* [all ranks] Every rank brings the outcome of its local work in *err; all leave with the worst status of all, and *err holds the text
 * of the lowest rank that has it (with "rank r: " in front when there are several ranks).  Returns err->status. */
radar_status radar_agree(radar_comm *c, radar_error *err);

/* [all ranks] All ranks must bring the same value for what (options, model, build).  Else RADAR_ERR_DISAGREE on all, naming the odd
 * ranks: those that have not the value of the most (of equally many: of rank 0's side). */
radar_status radar_agree_same(radar_comm *c, const char *what, uint64_t value, radar_error *err);

#endif
