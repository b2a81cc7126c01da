/* needle.h - facts hidden in a text at equal distances, asked for one by one. */
#ifndef RADAR_LAUNCH_NEEDLE_H
#define RADAR_LAUNCH_NEEDLE_H

#include "launch/eval/eval.h"

typedef struct eval_fact {
    double depth, nll; /* 0 to 1 of the text; loss per digit */
    bool exact;        /* every digit was the likeliest token */
} eval_fact;

typedef struct eval_facts {
    int64_t length;        /* tokens of a text, of the filler that -f, -p or --ids gave */
    int depths, questions; /* facts in one text, in all texts together */
    eval_fact *fact;       /* [asked]; on rank 0 what was measured */
    int asked;
    bool chat; /* asked in the model's chat template; rank 0 */
    eval_figures figures;
    double prefill_s, seconds;
} eval_facts;

/* [all ranks] Hides and asks under the present setting; length, depths and questions are set, the rest is 0.  The same --seed gives the
 * same facts.  Freed also after an error. */
radar_status eval_facts_ask(eval_context *c, eval_facts *f);
void eval_facts_free(eval_facts *f);

#endif
