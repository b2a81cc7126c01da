/* eval.h - radar eval: what the kinds of evaluation share.
 *
 * A sweep is the product of the options that were typed as lists (--budget 256,512 --scorer sketch,rf): one setting after the
 * other, on one engine and one session whose prefilled cache is kept from setting to setting wherever the tokens agree.
 * Every kind makes rows: flat objects of figures.  A row goes to DIR/<kind>.jsonl and DIR/<kind>.csv (--out DIR), at once and
 * whole, so that an interrupted sweep keeps what it has; the same command run again leaves out what is there.  Without --out,
 * rows go to stdout: as one JSON object {"rows": [...]} with --json, else as a table.
 *
 * A kind is one file eval_<name>.c and one line of the table in eval.c. */
#ifndef RADAR_LAUNCH_EVAL_H
#define RADAR_LAUNCH_EVAL_H

#include "launch/input.h"
#include "launch/json_out.h"
#include "launch/launch.h"

typedef struct eval_sink
    eval_sink; /* sink.c: rows on stdout and in files, and which are there already */

typedef struct eval_context {
    launch_job *job;       /* job->opt: the present setting, every list at one value */
    launch_prompt text;    /* -p, -f or --ids; n = 0 for kinds that need none */
    const char *text_name; /* file name without its path, for rows */
    eval_sink *sink;       /* rank 0 */
    int32_t *cached; /* what the session's cache holds, prefilled densely, and how much of it */
    int64_t n_cached, context;
    int64_t done, total; /* parts of the sweep, for the bar and the time left */
} eval_context;

typedef struct eval_kind {
    const char *name, *summary;
    bool needs_text;
    /* [all ranks] One setting: makes its rows with eval_begin_row .. eval_end_row. */
    radar_status (*run)(eval_context *c);
    /* [this rank] How many rows run will make, for the time left. */
    int64_t (*parts)(const eval_context *c);
    const char *const *columns; /* NULL-terminated: figures of the table on stdout, in order */
} eval_kind;

extern const eval_kind eval_ppl, eval_recall, eval_needle, eval_ruler, eval_generate,
    eval_calibrate, eval_bound, eval_stats;

/* ---- cache.c ---- */

/* [all ranks] The session attends as job->opt says, has room for `room` tokens, and its cache holds token [0, n), prefilled densely
 * (what is there already and agrees is kept).  The next call is radar_score or radar_step. */
radar_status eval_prefilled(eval_context *c, const int32_t *token, int64_t n, int64_t room);
/* [all ranks] Back to the n tokens prefilled last, to follow them with something else. */
radar_status eval_back(eval_context *c, int64_t n);

/* ---- scoring ---- */

/* [all ranks] Losses of token [first + 1, end] under the present attention, given that the cache holds [0, first); loss [end - first],
 * and hit (may be NULL): whether the token was the likeliest.  Rows are computed --batch at a time. */
radar_status eval_losses(eval_context *c, const int32_t *token, int64_t first, int64_t end,
                         double *loss, unsigned char *hit);

/* ---- sink.c ---- */

/* [all ranks] false: the row of this setting and part ("" or e.g. "length 2048") is there from an earlier run; go on with the next. */
bool eval_wanted(eval_context *c, const char *part);
/* [rank 0] A row with its settings filled in: what, key, model, text, every option of attention, ranks, threads, version, command. */
launch_json eval_row(const eval_context *c, const char *part);
/* [all ranks] Writes it (rank 0 gives the row, others an empty one); a row that cannot be written ends the sweep with what is written kept. */
radar_status eval_emit(eval_context *c, launch_json *row);

#endif
