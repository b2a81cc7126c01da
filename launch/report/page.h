/* page.h - radar report: one page, or one picture, from the rows of a folder. */
#ifndef RADAR_LAUNCH_REPORT_PAGE_H
#define RADAR_LAUNCH_REPORT_PAGE_H

#include "launch/report/figures.h"

/* What --svg takes, for the help. */
#define REPORT_FIGURES \
    "loss-budget, loss-bytes, loss-length, position, time, recall, heat, scores, needle, ruler, " \
    "n-sweep, k-sweep, calibrate, bound, sketch"

/* [this rank] The whole page into m; folder: its name for the reader. */
radar_status report_page(markup *m, const eval_rows *rows, const char *folder, radar_error *err);
/* [this rank] One picture by the name that --svg takes; RADAR_ERR_NO_INPUT: the rows hold nothing for it. */
radar_status report_svg(markup *m, const eval_rows *rows, const char *name, radar_error *err);
/* [this rank] To a file beside path, which then takes its place: path holds the old content or all of the new one.  A path that is
 * no ordinary file (a device, a pipe) is written as it is; "-" is stdout. */
radar_status report_write(const markup *m, const char *path, radar_error *err);

#endif
