/* ruler.h - the tasks of RULER (Hsieh et al., arXiv 2404.06654), in our own words: what is hidden, what is asked, what is right. */
#ifndef RADAR_LAUNCH_RULER_H
#define RADAR_LAUNCH_RULER_H

#include "launch/eval/task.h"

typedef struct ruler_sample {
    eval_draft *draft;
    const eval_wrap *wrap;
    const int32_t *filler; /* [n_filler], an essay, read from `start` on */
    int64_t n_filler, start;
    int64_t length; /* tokens of context, question and answer together, at most */
    uint64_t seed;  /* of this sample */
    uint64_t drawn; /* random numbers so far */
} ruler_sample;

typedef struct ruler_task {
    const char *name;
    radar_status (*make)(ruler_sample *s); /* [rank 0] */
} ruler_task;

enum { RULER_TASKS = 7 };
extern const ruler_task ruler_tasks[RULER_TASKS];

/* ---- ruler_words.c ---- */

enum { RULER_WORD = 8 };
/* [this rank] Uniform in [0, below). */
int ruler_draw(ruler_sample *s, int below);
/* [this rank] The i-th of 512,000 different words of three syllables, from a place that the sample's seed gives. */
void ruler_word(const ruler_sample *s, int i, char word[RULER_WORD]);
/* [this rank] A random order of 0 .. n - 1. */
void ruler_shuffle(ruler_sample *s, int *order, int n);
radar_status ruler_common_words(ruler_sample *s);   /* cwe */
radar_status ruler_frequent_words(ruler_sample *s); /* fwe */

#endif
