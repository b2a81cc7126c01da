/* input.h - the prompt: read and made into token ids by rank 0, then known to all ranks. */
#ifndef RADAR_LAUNCH_INPUT_H
#define RADAR_LAUNCH_INPUT_H

#include "launch/launch.h"

/* What -p, -f or --ids gave, as rank 0 read it; the other ranks hold nothing. */
typedef struct launch_input {
    const char *name; /* for messages: "-p", the file's name, "standard input" */
    char *text;       /* [bytes] */
    size_t bytes;
    int32_t *ids; /* [n], instead of text */
    size_t n;
} launch_input;

/* [rank 0] Reads --ids when given, else -p or -f.  Errors go to job->err. */
radar_status launch_input_read(launch_job *job, launch_input *in);
/* [rank 0] The ids as given, or those of the text: special tokens, beginning and chat template as the options say. */
radar_status launch_input_tokenize(launch_job *job, launch_input *in);
void launch_input_free(launch_input *in);

typedef struct launch_prompt {
    int32_t *token; /* [n] */
    size_t n;
} launch_prompt;

/* [all ranks] Rank 0 brings token [n], everyone leaves with a copy; agrees on the status first. */
radar_status launch_prompt_share(launch_job *job, launch_prompt *p, const int32_t *token, size_t n);
/* [all ranks] From the command line to ids on all ranks: reads, opens the engine, tokenises, shares. */
radar_status launch_prompt_open(launch_job *job, launch_prompt *p);
void launch_prompt_free(launch_prompt *p);

#endif
