/* figures.h - the pictures and tables of the report, each one row of a table: what it shows, what to see in it, what makes its data. */
#ifndef RADAR_LAUNCH_REPORT_FIGURES_H
#define RADAR_LAUNCH_REPORT_FIGURES_H

#include "launch/report/markup.h"
#include "launch/report/rows.h"
#include "launch/report/svg.h"

enum { FIGURE_NOTE = 256 };

typedef struct report_figure {
    const char *name; /* of --svg; NULL: a table */
    const char *title, *see;
    const char *made_by; /* the command that makes its rows */
    /* A picture: draws from y = 0 down, returns its height, 0 without data; note: which of the rows it shows.
     * Without memory it marks m as failed. */
    double (*draw)(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
    /* A table; false without data. */
    bool (*table)(markup *m, const eval_rows *rows);
} report_figure;

extern const report_figure report_figure_list[];
extern const int report_figure_count;
/* NULL: none of that name. */
const report_figure *report_figure_named(const char *name);

/* One picture, 0 < height, as an <svg> element with title and description; alone: a file of its own. */
void report_picture(markup *m, const report_figure *f, const markup *body, double height,
                    const char *note, bool alone);

/* ---- drawing functions by file ---- */

double figure_loss_budget(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]); /* loss.c */
double figure_loss_bytes(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_loss_length(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_loss_features(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_loss_segments(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_position(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_time(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_recall(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]); /* heads.c */
double figure_heat(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_scores(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_needle(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]); /* tasks.c */
double figure_ruler(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_calibrate(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]); /* bound.c */
double figure_bound(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);
double figure_sketch(markup *m, const eval_rows *rows, char note[FIGURE_NOTE]);

bool table_hits(markup *m, const eval_rows *rows); /* tables.c */
bool table_ruler(markup *m, const eval_rows *rows);
bool table_calibrate(markup *m, const eval_rows *rows);
bool table_generate(markup *m, const eval_rows *rows);
bool table_stats(markup *m, const eval_rows *rows);
bool table_settings(markup *m, const eval_rows *rows); /* settings.c */
bool table_commands(markup *m, const eval_rows *rows);

#endif
