/* progress.h - what a person sees on stderr: progress, facts at the start, one line at the end.  Rank 0 speaks. */
#ifndef RADAR_LAUNCH_PROGRESS_H
#define RADAR_LAUNCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct launch_progress {
    bool speaks;               /* rank 0 without --quiet */
    bool terminal;             /* stderr is one: a bar; else a line every 5 s */
    bool bar;                  /* a bar stands on the current line */
    double began;              /* when the present phase began */
    double shown;              /* when it was last shown */
    int64_t done;              /* of the present phase */
    char what[16];             /* its name */
    int64_t part, parts, made; /* of a sweep; parts 0: none goes on */
    double sweep_began;
} launch_progress;

void launch_progress_open(launch_progress *r, bool speaks);
/* total 0: unknown.  A phase begins when `what` changes or `done` falls. */
void launch_progress_show(launch_progress *r, const char *what, int64_t done, int64_t total);
/* Part `part` of a sweep of `parts` is next, `made` parts took the time since its first call: the time left is that of the sweep. */
void launch_progress_sweep(launch_progress *r, int64_t part, int64_t parts, int64_t made);
/* One line of fact, after taking the bar away. */
void launch_progress_line(launch_progress *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes the bar away, so that other output starts on an empty line. */
void launch_progress_clear(launch_progress *r);
/* "1.5 MB" into text; returns text. */
#define LAUNCH_BYTES_TEXT 24
const char *launch_bytes(char text[LAUNCH_BYTES_TEXT], double bytes);

#endif
