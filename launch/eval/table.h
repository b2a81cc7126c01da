/* table.h - rows as tables: on stdout for a person, as CSV beside a JSONL. */
#ifndef RADAR_LAUNCH_TABLE_H
#define RADAR_LAUNCH_TABLE_H

#include <jansson.h>

#include "launch/launch.h"

/* [this rank] On stdout: part, the settings in which the rows differ, and the columns (NULL-terminated). */
radar_status eval_table_print(launch_job *job, const json_t *rows, const char *const *columns);
/* [this rank] Makes the CSV anew from the JSONL: a column for every key with a plain value, in the order they are first met. */
radar_status eval_table_csv(const char *csv, const char *jsonl, radar_error *err);

#endif
