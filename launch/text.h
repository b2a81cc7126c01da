/* text.h - generated text as it grows: whole UTF-8 characters only, what is no UTF-8 becomes U+FFFD. */
#ifndef RADAR_LAUNCH_TEXT_H
#define RADAR_LAUNCH_TEXT_H

#include "launch/launch.h"

typedef struct launch_text {
    radar_text_stream *stream; /* NULL: the model has no tokenizer */
    char *data;                /* [used] all that was shown */
    size_t used, room;
} launch_text;

/* [this rank] before: a token the text goes on from, -1: none.  Without a tokenizer the text stays empty. */
radar_status launch_text_open(launch_job *job, launch_text *t, int32_t before);
/* [this rank] Adds a token; *fresh bytes at the end of data are new. */
radar_status launch_text_push(launch_job *job, launch_text *t, int32_t token, size_t *fresh);
/* [this rank] The end: what was held back. */
radar_status launch_text_end(launch_job *job, launch_text *t, size_t *fresh);
void launch_text_close(launch_text *t);

#endif
