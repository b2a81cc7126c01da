/* bench.h - radar bench: speed of prefill (pp) and decode (tg) by length, depth and setting.
 *
 *   for every kv-type: one session; for every depth, ascending: the cache grows to it; for every setting: its tests
 *
 * so that a depth is reached once.  A test is timed `repetitions` times behind a warm-up, each time from the same depth, and makes one
 * row: a flat object of figures that is written at once, in the format asked for. */
#ifndef RADAR_LAUNCH_BENCH_H
#define RADAR_LAUNCH_BENCH_H

#include "launch/bench/synth.h"
#include "launch/eval/eval.h"
#include "launch/input.h"
#include "launch/json_out.h"
#include "launch/launch.h"
#include "launch/options.h"

enum {
    BENCH_LIST_MOST = 64,
    BENCH_REPETITIONS_MOST = 1000,
    BENCH_REAL_MOST = 2048 /* auto: tokens of text, before those that are made up */
};

typedef struct bench_list {
    int64_t at[BENCH_LIST_MOST]; /* ascending, each once */
    int n;
} bench_list;

typedef enum bench_fill { BENCH_FILL_AUTO, BENCH_FILL_SYNTH, BENCH_FILL_TEXT } bench_fill;

/* What one test took. */
typedef struct bench_times {
    int n;
    double seconds[BENCH_REPETITIONS_MOST];
    double median, least, most, deviation; /* of the seconds */
} bench_times;

/* What the passes of one test did, of this rank, added up over its repetitions. */
typedef struct bench_work {
    double seconds; /* of all repetitions */
    int64_t tokens; /* of all repetitions */
    double weight_bytes, summary_bytes, kv_bytes;
    double weight_s, scan_s, attend_s, attention_s, exchange_s;
    bool phases;  /* whether the library told of phases; false: no work is known */
    json_t *list; /* phases of the last repetition, for rows; may be NULL */
} bench_work;

typedef enum bench_kind { BENCH_PP, BENCH_TG } bench_kind;

typedef struct bench_test {
    bench_kind kind;
    int64_t n, depth;
} bench_test;

/* A test as it was measured, for fits. */
typedef struct bench_point {
    bench_test test;
    int setting;
    double seconds, attention_s; /* of the median; attention_s < 0: not known */
} bench_point;

typedef struct bench_printer bench_printer; /* print.c */
typedef struct bench_losses bench_losses;   /* loss.c */

typedef struct bench {
    launch_job *job; /* job->opt: the present setting */
    launch_options base, setting;
    bench_list prompt, gen, depth, beyond;
    int64_t settings; /* of the sweep; those alike are left out */
    uint64_t *hash;   /* [settings] */
    bench_fill fill;
    const char *fill_name; /* of the present depth: "none", "text", "synth" or the text's name */
    launch_prompt text;    /* what is prefilled, or measured for synth */
    const char *text_name;
    bench_synth *synth; /* NULL: not needed */
    int64_t real_most;  /* auto: positions below are text */
    int64_t context;    /* of a session */
    eval_room room;     /* what settings come to, from the model's metadata */
    int64_t reached;    /* tokens of its cache that are no test's */
    double
        bandwidth; /* bytes a second of this rank's threads, beside the latest test; 0: not known */
    bench_printer *printer; /* rank 0 */
    bench_losses *losses;   /* rank 0; NULL: none given */
    bench_point *point;     /* [n_points] */
    int n_points, most_points;
    int64_t done, total; /* tests */
} bench;

/* ---- lists.c ---- */

/* [this rank] "512,1024" into ascending numbers of at least `low`; RADAR_ERR_USAGE names the option. */
radar_status bench_numbers(bench_list *list, const char *option, const char *text, int64_t low,
                           radar_error *err);
/* [this rank] Fills the lists, fill and context from base. */
radar_status bench_options(bench *b);

/* ---- check.c ---- */

/* [all ranks] Refuses what would fail later, before weights are read: settings that cannot be, a context without room, a cache
 * that cannot be made up for an attention, a text that is not there. */
radar_status bench_check(bench *b);
/* [all ranks] RADAR_ERR_DATA: --fill FILE has fewer tokens than that. */
radar_status bench_check_text(bench *b, int64_t deepest);

/* ---- text.c ---- */

/* [all ranks] b->text: of --fill FILE, of --fill-from, or the program's own. */
radar_status bench_text(bench *b);

/* ---- moments.c ---- */

/* [all ranks] b->synth, from the keys and values that the text's first tokens have in a session of its own. */
radar_status bench_measure_moments(bench *b);

/* ---- measure.c ---- */

/* [all ranks] The session's cache holds exactly `depth` tokens. */
radar_status bench_reach(bench *b, int64_t depth);
/* [all ranks] Runs one test from the present depth. */
radar_status bench_measure(bench *b, const bench_test *t, bench_times *times, bench_work *work,
                           radar_session_stats *stats);
/* [this rank] Median, least, most and standard deviation of seconds [n]. */
void bench_spread(bench_times *t);

/* ---- work.c ---- */

/* [this rank] Adds what phases [n] of one repetition of so many tokens come to; w->list becomes that repetition's, a token. */
void bench_work_add(bench_work *w, const radar_phase *phase, size_t n, int64_t tokens);

/* ---- row.c ---- */

/* [rank 0] from: what an extrapolated row comes from; NULL: a measured one.  Of an extrapolated one, stats is NULL, times holds the
 * median alone, and work the attention_s alone (NAN: not known). */
launch_json bench_row(const bench *b, const bench_test *t, const bench_times *times,
                      const bench_work *work, const radar_session_stats *stats, const char *from);

/* ---- print.c ---- */

/* The columns of md beside those that every table has. */
typedef struct bench_columns {
    char
        varied[LAUNCH_OPTIONS_MOST]
              [LAUNCH_LABEL]; /* [n_varied] keys of settings that are swept, or not as by default */
    int n_varied;
    bool ranks, scan, loss; /* more than one; some setting chooses segments; losses are given */
} bench_columns;

/* [rank 0] Rows of that format on stdout. */
radar_status bench_print_open(bench_printer **out, const char *format, const bench_columns *columns,
                              radar_error *err);
/* [rank 0] Takes the row. */
radar_status bench_print_row(bench_printer *p, launch_json *row, radar_error *err);
/* [rank 0] Also after an error: what was written is made whole.  NULL is fine. */
void bench_print_close(bench_printer *p, radar_error *err);

/* ---- print_md.c: lines, ended, into text [bytes] ---- */

void bench_md_header(char *text, size_t bytes, const bench_columns *c);
void bench_md_row(char *text, size_t bytes, const bench_columns *c, const json_t *row);

/* ---- loss.c ---- */

/* [rank 0] Reads DIR/ppl.jsonl. */
radar_status bench_losses_open(bench_losses **out, const char *dir, radar_error *err);
/* [rank 0] Loss above dense in nats a token of the setting in `row`, for a depth: mean over the texts that were evaluated at the
 * shortest length >= depth.  false: not measured.  from: what it was measured on. */
bool bench_loss(const bench_losses *l, const json_t *row, int64_t depth, double *loss, char *from,
                size_t bytes);
void bench_losses_close(bench_losses *l);

/* ---- extrapolate.c ---- */

/* [all ranks] Rows of --extrapolate for setting `index` of the sweep, from the points measured so far. */
radar_status bench_extrapolate(bench *b, int index);

#endif
