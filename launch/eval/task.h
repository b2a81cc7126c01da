/* task.h - a text and questions about it: made by rank 0, known to all, answered with given tokens.
 *
 *   context, prefilled densely | question 0, answer 0     '---- computed under the present attention, then back to the context ----'
 *                              | question 1, answer 1 ... */
#ifndef RADAR_LAUNCH_TASK_H
#define RADAR_LAUNCH_TASK_H

#include "launch/eval/eval.h"

/* ---- making one [rank 0] ---- */

typedef struct eval_tokens {
    int32_t *token; /* [n] */
    size_t n, room;
} eval_tokens;

/* Tokens that come before and after what a user says: of the model's chat template, else what begins a text, and nothing. */
typedef struct eval_wrap {
    bool chat;
    eval_tokens before, after;
    eval_tokens newline;
    int32_t beginning; /* the token that begins every text of the model; -1: none */
} eval_wrap;

typedef struct eval_draft {
    launch_job *job;
    eval_tokens context;
    eval_tokens question, answer, reference; /* of the probe that is being made */
    eval_tokens probes;                      /* those that are done */
    int n_probes;
    int64_t longest;
} eval_draft;

radar_status eval_wrap_open(launch_job *job, eval_wrap *w);
void eval_wrap_close(eval_wrap *w);

radar_status eval_add_tokens(launch_job *job, eval_tokens *t, const int32_t *token, size_t n);
radar_status eval_add_text(launch_job *job, eval_tokens *t, const char *text);
/* Whether the token's text ends a line. */
bool eval_ends_line(launch_job *job, int32_t token);

/* Tokens that stand in the text at given places, in ascending order. */
typedef struct eval_insert {
    double depth; /* 0 to 1, of the text around */
    eval_tokens line;
} eval_insert;
/* The context: the wrap's beginning, then `room` tokens: of the filler [n_filler], from `start` on and round again, with the lines
 * behind the next end of a line, or where there is none soon, on a line of their own.  RADAR_ERR_DATA where they do not fit. */
radar_status eval_fill(eval_draft *d, const eval_wrap *w, const int32_t *filler, int64_t n_filler,
                       int64_t start, int64_t room, eval_insert *insert, int n);
/* Tokens of the longest probe so far, and of the wrap's beginning: what a context has to leave free. */
int64_t eval_draft_other(const eval_draft *d, const eval_wrap *w);

/* What is asked, from behind the context to the beginning of the answer: in a chat `question` ends the user's message and `lead`
 * begins the answer; elsewhere lead alone, on its own line. */
radar_status eval_ask(eval_draft *d, const eval_wrap *w, const char *question, const char *lead);
/* A piece of the answer; reference >= 0: it is one of the things asked for, judged but for white space before it. */
radar_status eval_answer(eval_draft *d, const char *text, int reference);
radar_status eval_end_probe(eval_draft *d);
void eval_draft_close(eval_draft *d);

/* ---- answering it [all ranks] ---- */

typedef struct eval_probe {
    const int32_t *token;     /* [question + answer] */
    const int32_t *reference; /* [answer] */
    int64_t question, answer;
} eval_probe;

typedef struct eval_task {
    launch_prompt packed;
    const int32_t *context;     /* [n_context] */
    int64_t n_context, longest; /* tokens of the longest probe */
    int n_probes;
    eval_probe *probe;
} eval_task;

/* Over the tokens of references; on rank 0. */
typedef struct eval_result {
    double nll; /* sum */
    int64_t tokens, likeliest;
    int references, found; /* found: all of its tokens were the likeliest */
} eval_result;

/* [all ranks] Rank 0's draft, NULL elsewhere; agrees on the status first. */
radar_status eval_task_share(launch_job *job, eval_task *t, const eval_draft *d);
void eval_task_free(eval_task *t);
/* [all ranks] The context is in the cache, under the present setting. */
radar_status eval_task_prefill(eval_context *c, const eval_task *t);
/* [all ranks] */
radar_status eval_task_ask(eval_context *c, const eval_task *t, int probe, eval_result *result);

#endif
