/* figures.h - what eval recall, calibrate, stats and bound work out of observations, keys and queries: plain arithmetic in double,
 * on one rank, without a session.  Masses are ln sum exp(q . k / sqrt D), shares are of the mass of all tokens up to the row's own.
 *
 * open() gives RADAR_ERR_MEMORY; close() takes what open() left in any state. */
#ifndef RADAR_LAUNCH_FIGURES_H
#define RADAR_LAUNCH_FIGURES_H

#include <stdbool.h>

#include <jansson.h>

#include "runtime/base.h"
#include "runtime/radar.h"

/* ---- shared ---- */

json_t *eval_real(double x); /* six digits; null when it is not finite */
/* The value that a share p of x [n], sorted ascending, does not exceed, between neighbours by proportion; NaN when n = 0. */
double eval_quantile(const double *x, int64_t n, double p);
void eval_sort(double *x, int64_t n);

/* ---- recall: were the right segments chosen, and what did the wrong ones cost? ---- */

enum {
    EVAL_RECALL,    /* share of the k truly heaviest candidates that are in the list of the head */
    EVAL_HIT1,      /* the heaviest candidate has the best score */
    EVAL_HIT3,      /* ... is among the three best scores */
    EVAL_MASS_BEST, /* the share that would be attended had the lists been the truly heaviest k */
    EVAL_LIST,      /* share if the head read its own list alone: no scorer has more than ... */
    EVAL_LIST_BEST, /* ... the truly heaviest k */
    EVAL_SCORED,    /* figures before this one exist only where segments were scored */
    EVAL_MASS =
        EVAL_SCORED, /* share of the softmax mass that was attended, always-attended tokens and the group's union included */
    EVAL_ERROR,      /* |o - o_dense| / |o_dense| */
    EVAL_FIGURES
};
extern const char *const eval_figure_name[EVAL_FIGURES];

enum { EVAL_BINS = 8, EVAL_HEAT_ROWS = 32 };

/* Sums over rows. */
typedef struct eval_sums {
    double sum[EVAL_FIGURES];
    int64_t rows, scored;
} eval_sums;

/* Rows kept for the heat map: of every layer and head, as which one is shown is known at the end. */
typedef struct eval_heat {
    int rows, most_rows;   /* kept so far; there is room for */
    int64_t step;          /* every step-th observed row is kept */
    int pairs;             /* layers x heads that are kept: all, or the one that was asked for */
    int64_t *position;     /* [most_rows] */
    int64_t *n;            /* [most_rows] candidates */
    float *share;          /* [pairs, most_rows, most] */
    float *always;         /* [pairs, most_rows] */
    unsigned char *chosen; /* [pairs, most_rows, most] */
} eval_heat;

typedef struct eval_recall_figures {
    int layers, heads, layer, head; /* layer, head: of the heat map; -1: that of median recall */
    int64_t first, end, every;      /* observed positions */
    int64_t most;                   /* candidates of a row at most */
    bool share_head;                /* each head attends to its own list */
    int64_t segment, first_candidate, keep;
    int64_t chosen, n_lists;  /* segments in the lists of heads, and how many lists */
    int64_t unions, n_unions; /* segments in the unions of groups */
    eval_sums *pair;          /* [L, H] */
    eval_sums *
        bin; /* [L, EVAL_BINS] by position: each layer adds its rows in order, whatever the batch */
    double *share;       /* [H, most] of one observation */
    unsigned char *best; /* [H, most] the k truly heaviest */
    uint64_t *key;       /* [most] */
    eval_heat heat;
} eval_recall_figures;

/* layers, heads, layer, head, first, end, every, share_head set by the caller. */
radar_status eval_recall_open(eval_recall_figures *r, radar_error *err);
void eval_recall_add(eval_recall_figures *r, const radar_observation *o);
/* Figures, arrays and heat map into row. */
void eval_recall_write(const eval_recall_figures *r, json_t *row);
void eval_recall_close(eval_recall_figures *r);

/* ---- calibrate: does the estimated coverage say what was attended? ---- */

typedef struct eval_calibration {
    int64_t rows;
    int layers, heads;
    double *truth, *estimate; /* [rows, L, H] shares; NaN: a row that leaves nothing out */
    double *error;            /* [rows, L, H] |estimate - truth|, sorted in the end */
    int64_t n;                /* in the end: of those there are */
} eval_calibration;

/* rows, layers, heads set by the caller. */
radar_status eval_calibration_open(eval_calibration *c, radar_error *err);
void eval_calibration_add(eval_calibration *c, int64_t row, const radar_observation *o);
/* Leaves out what does not exist; returns how many there are. */
int64_t eval_calibration_end(eval_calibration *c);
void eval_calibration_write(const eval_calibration *c, json_t *row); /* after the end */
void eval_calibration_close(eval_calibration *c);

/* ---- stats: what a model's heads look like ---- */

enum {
    EVAL_Q2,       /* |q|^2 / sqrt D */
    EVAL_K2,       /* |k|^2 / sqrt D */
    EVAL_K2_MEAN,  /* |k - mean k|^2 / sqrt D */
    EVAL_LOGIT_SD, /* of one query's logits */
    EVAL_TOKENS,   /* exp of the entropy of the attention: tokens it is spread over */
    EVAL_FIRST,    /* share of the mass on token 0 */
    EVAL_WINDOW,   /* share on the latest `window` tokens */
    EVAL_STATS
};
extern const char *const eval_stats_name[EVAL_STATS];

enum {
    EVAL_LN_LOW = -30
}; /* bin i counts weights with ln in [low + i, low + i + 1), the first also all below */

typedef struct eval_head_stats {
    double mean[EVAL_STATS];
    double tokens[-EVAL_LN_LOW],
        mass[-EVAL_LN_LOW]; /* share of tokens, of mass, per bin of ln weight */
} eval_head_stats;

/* One query head: q [rows, D] (row i at q + i * stride) at position[rows], keys [n, D] of its KV head, n > the last position.
 * weight [n]: scratch. */
void eval_head_look(eval_head_stats *s, const float *q, size_t stride, const int64_t *position,
                    int rows, const float *key, int64_t n, int D, int64_t window, double *weight);

/* ---- bound: random features against their expectation; the sketch against |q| |k| 2^-b / sqrt D ---- */

enum { EVAL_SEGMENT = 16, EVAL_BLOCK = 64 };

/* ln mean over the segment's keys of exp(q . k / sqrt D), and s of its random-feature estimate: E[est^2] / E[est]^2 = e^s for one
 * feature, so that n of them have the relative standard deviation sqrt((e^s - 1) / n).  For one key s = |q + k|^2 / sqrt D. */
void eval_rf_truth(const float *q, const float *key, int n_keys, int D, double *ln_mean, double *s);
/* Directions [n, D] of seed. */
void eval_rf_directions(double *omega, int64_t n, int D, uint64_t seed);
/* ln of one vector's n features exp(w . u - |u|^2 / 2), u = x D^(-1/4): ln_phi [n]. */
void eval_rf_features(double *ln_phi, const float *x, const double *omega, int64_t n, int D);
/* ln of the segment's mean feature: ln_mean [n]; scratch [n_keys, n]. */
void eval_rf_segment(double *ln_mean, const float *key, int n_keys, const double *omega, int64_t n,
                     int D, double *scratch);
/* ln mean over features of phi(q) times the segment's mean phi(k). */
double eval_rf_estimate(const double *ln_query, const double *ln_segment, int64_t n);

/* The keys of a block as the sketch knows them at so many bits a dimension: zhat [64, D] rotated and centred; mean [D] as stored. */
void eval_sketch_block(double *zhat, double *mean, const float *key, int D, int bits,
                       uint64_t seed);
/* H x: random signs, then Hadamard over powers of two that add up to D; keeps lengths. */
void eval_rotate(double *x, int D, uint64_t seed);

#endif
