/* tables.h - cells of the report's tables. */
#ifndef RADAR_LAUNCH_REPORT_TABLES_H
#define RADAR_LAUNCH_REPORT_TABLES_H

#include "launch/report/figures.h"

enum { TABLE_ROWS = 1000 }; /* drawn at most; the rest is counted in the last line */

/* Begins a table with its header row; heads: names, NULL at the end. */
void table_begin(markup *m, const char *label, const char *const *heads);
/* Ends it; shown of all rows were drawn. */
void table_end(markup *m, int shown, int all);
void table_cell(markup *m, const char *text); /* of others; NULL: empty */
void table_number(markup *m, double v,
                  int decimals); /* "-" for NaN; decimals -1: as short as can be */

#endif
