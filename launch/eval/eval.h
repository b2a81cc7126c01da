/* eval.h - radar eval: what the kinds of evaluation share.
 *
 * A sweep is the product of the options that were typed as lists (--budget 256,512 --scorer sketch,rf): one setting after the
 * other, on one engine and one session whose prefilled cache is kept from setting to setting wherever the tokens agree.
 * Every kind makes rows: flat objects of figures.  A row goes to DIR/<kind>.jsonl and DIR/<kind>.csv (--out DIR), at once and
 * whole, so that an interrupted sweep keeps what it has; the same command run again leaves out what is there.  Without --out,
 * rows go to stdout: as one JSON object {"rows": [...]} with --json, else as a table.
 *
 * A kind is one file eval_<name>.c, one line of the table in eval.c, and one of the commands in options.c. */
#ifndef RADAR_LAUNCH_EVAL_H
#define RADAR_LAUNCH_EVAL_H

#include "launch/input.h"
#include "launch/json_out.h"
#include "launch/launch.h"
#include "launch/options.h"

typedef struct eval_sink
    eval_sink; /* sink.c: rows on stdout and in files, and which are there already */

typedef struct eval_cache eval_cache; /* cache.c: prefilled sessions, job->session is one of them */
typedef struct eval_kind eval_kind;

typedef struct eval_context {
    launch_job *job; /* job->opt: the present setting, every list at one value */
    const eval_kind *kind;
    launch_options setting; /* what job->opt points to */
    /* What -p, -f or --ids gave, and its first --length tokens; n = 0 where there is none. */
    launch_prompt whole, text;
    const char *text_name; /* file name without its path, for rows */
    eval_sink *sink;
    int64_t settings; /* of the sweep */
    eval_cache *cache;
    double prefill_s; /* of the last eval_prefilled: what was not there yet */
    /* Parts of the sweep, for the bar and the time left; made: those of `done` that were not there from an earlier run. */
    int64_t done, total, made;
} eval_context;

struct eval_kind {
    const char *name;
    bool needs_text;
    bool makes_text; /* --length is of the text it makes, not of the one it is given */
    /* [all ranks] One setting: makes its rows with eval_row .. eval_emit. */
    radar_status (*run)(eval_context *c);
    /* [this rank] How many rows run will make, for the time left; NULL: one. */
    int64_t (*parts)(const eval_context *c);
    const char *const *columns; /* NULL-terminated: figures of the table on stdout, in order */
};

extern const eval_kind eval_ppl, eval_recall, eval_needle, eval_ruler, eval_generate,
    eval_calibrate, eval_bound, eval_stats, eval_advise;

/* ---- sweep.c ---- */

/* [this rank] Setting `index` of the product of base's lists, in table order, the last list turning fastest: one value each, preset
 * applied, and what its attention does not use as by default.  false: index is behind the last. */
bool eval_setting(launch_options *setting, const launch_options *base, int64_t index);
/* [this rank] Settings in the product; -1: more than a sweep may have. */
int64_t eval_settings(const launch_options *base);
/* [this rank] Whether the attention of a setting looks at the option. */
bool eval_uses(const launch_options *setting, const char *option);
/* [this rank] What tells prefilled caches apart beside their tokens; 0: attended densely. */
uint64_t eval_prefill_hash(const launch_options *setting);
/* [this rank] What tells settings apart: kind and every option the figures depend on. */
uint64_t eval_setting_hash(const launch_options *setting);

/* ---- room.c ---- */

typedef struct eval_room {
    radar_session_options largest; /* the session that takes most */
    bool scores;                   /* one of them chooses segments */
} eval_room;

/* [all ranks] Tries every setting of the sweep with so many tokens of context; from then on the engine is opened with room for the
 * largest, or refused.  *room outlives that. */
radar_status eval_try_settings(launch_job *job, const launch_options *base, int64_t context,
                               eval_room *room);

/* ---- cache.c ---- */

/* [all ranks] The session attends as job->opt says, has room for `room` tokens, and its cache holds token [0, n), prefilled as it
 * says (what is there already and agrees is kept).  The next call is radar_score or radar_step. */
radar_status eval_prefilled(eval_context *c, const int32_t *token, int64_t n, int64_t room);
/* [all ranks] The session was rewound below what eval_prefilled left, or given tokens there: nothing of it is to be kept. */
void eval_forget(eval_context *c);
void eval_cache_close(eval_context *c); /* [all ranks] */
/* [all ranks] Back to the n tokens prefilled last, to follow them with something else. */
radar_status eval_back(eval_context *c, int64_t n);

/* ---- losses.c ---- */

/* [all ranks] Losses of token [first + 1, end] under the present attention, given that token[first] is what comes next: loss [end - first]
 * and hit (may be NULL), whether no token was likelier, on rank 0; rows are computed --batch at a time.  *seconds (may be NULL): the
 * time of that, without rank 0's own arithmetic. */
radar_status eval_losses(eval_context *c, const int32_t *token, int64_t first, int64_t end,
                         double *loss, unsigned char *hit, double *seconds);
/* [this rank] Mean of x [n], and its standard error (NAN for n < 2). */
void eval_mean(const double *x, int64_t n, double *mean, double *se);
/* What the session says of its steps since eval_prefilled, added up over several of them: means over steps. */
typedef struct eval_figures {
    int64_t steps, segments_scored;
    double attended, coverage, coverage_min;
    /* Read in a step, over all layers and KV heads: K and V of the attended tokens, and the summaries that were scored, or with
     * scorer exact the keys.  What h2o, snapkv, subgen and Radar as published keep beside the cache is not in it. */
    double bytes;
} eval_figures;
/* [all ranks] f begins with {0}. */
radar_status eval_figures_add(eval_context *c, eval_figures *f);

/* ---- sink.c ---- */

/* [all ranks] Reads what DIR holds already; RADAR_ERR_CREATE where it cannot be written. */
radar_status eval_sink_open(eval_context *c);
/* [all ranks] false: the row of this setting and part ("" or e.g. "length 2048") is there from an earlier run; go on with the next. */
bool eval_wanted(eval_context *c, const char *part);
/* [all ranks] Writes it (rank 0 gives the row, others an empty one); a row that cannot be written ends the sweep with what is written
 * kept.  Takes the row. */
radar_status eval_emit(eval_context *c, launch_json *row);
/* [rank 0] Appends value to the array `key` beside the rows, or beside where they are, in the object of --json; takes value. */
void eval_note(eval_context *c, const char *key, json_t *value);
/* [rank 0] The rows on stdout, or the CSV beside the JSONL; what is written stays after an error too. */
void eval_sink_close(eval_context *c);

/* ---- row.c ---- */

/* [this rank] What names the row of this setting and part: the same for the same figures, whatever the ranks and threads. */
uint64_t eval_key(const eval_context *c, const char *part);
/* [rank 0] A row with its settings filled in: what, key, model, text, every option of attention, ranks, threads, version, command. */
launch_json eval_row(const eval_context *c, const char *part);
/* Every option of attention that a row has; length: of the text, for what it makes of "auto". */
void eval_row_attention(launch_json *row, const launch_options *setting, int64_t length);
/* attended_tokens_mean, coverage_mean, coverage_min, segments_scored, bytes_per_step. */
void eval_row_figures(launch_json *row, const eval_figures *f);
/* [this rank] The command line of a setting, quoted for a shell; freed with radar_free, NULL: no memory. */
char *eval_command(const launch_options *setting, int ranks);

#endif
