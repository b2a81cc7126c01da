/* rows.h - the rows that radar eval wrote into a folder: read as untrusted input, asked for one figure at a time.
 *
 * DIR/<kind>.jsonl holds one JSON object a line.  A line that is no row is named (file:line: why), counted and left out. */
#ifndef RADAR_LAUNCH_REPORT_ROWS_H
#define RADAR_LAUNCH_REPORT_ROWS_H

#include <jansson.h>

#include "runtime/base.h"

typedef enum row_kind {
    ROW_PPL,
    ROW_RECALL,
    ROW_NEEDLE,
    ROW_RULER,
    ROW_GENERATE,
    ROW_CALIBRATE,
    ROW_BOUND,
    ROW_STATS,
    ROW_KINDS
} row_kind;

extern const char *const row_kind_name[ROW_KINDS]; /* "ppl", ..: of the file and of the command */

/* What is read at most; beyond it a line is left out. */
enum { ROWS_LINE_BYTES = 16 << 20, ROWS_PER_KIND = 4096, ROWS_DEPTH = 16 };
#define ROWS_LINE_VALUES ((size_t)1 << 20)
#define ROWS_VALUES ((size_t)1 << 22) /* of a folder, losses aside */

typedef struct eval_row {
    json_t *object;
    double *nll; /* [n_nll] losses per token, nats; NaN where the row has none.  NULL: no losses */
    int64_t n_nll;
    uint32_t varies; /* method.c: settings in which rows of the same method differ */
} eval_row;

typedef struct row_list {
    eval_row *row; /* [n] in the order of the file */
    int n;
} row_list;

/* Where a line that was left out is told: "DIR/ppl.jsonl:3: why". */
typedef void rows_warn_fn(void *user, const char *text);

typedef struct eval_rows {
    row_list of[ROW_KINDS];
    size_t values;
    int64_t skipped; /* lines that were left out */
    rows_warn_fn *warn;
    void *user;
} eval_rows;

/* [this rank] RADAR_ERR_NO_INPUT: no such folder, or no row in it.  rows_close also after a failure. */
radar_status rows_read(eval_rows *rows, const char *folder, rows_warn_fn *warn, void *user,
                       radar_error *err);
/* [this rank] One line of text without its end; false: it is no row, and why (or no memory: err). */
bool rows_add(eval_rows *rows, row_kind kind, const char *text, size_t bytes, const char **why,
              radar_error *err);
void rows_close(eval_rows *rows);
int rows_count(const eval_rows *rows);

/* ---- one row ---- */

/* NaN unless the value is a number of a size that can be drawn (below 1e15). */
double json_number(const json_t *value);
double row_real(const eval_row *row, const char *key);
/* NULL unless it is a string. */
const char *row_text(const eval_row *row, const char *key);
bool row_says(const eval_row *row, const char *key, const char *text);
/* Element i of an array, NULL where there is none. */
const json_t *json_item(const json_t *array, size_t i);
const json_t *row_value(const eval_row *row, const char *key);

#endif
