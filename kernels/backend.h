/* backend.h - the table of operations a device offers, and the types they share.
 *
 * Letters, the same everywhere:
 *   T tokens   S segments   K chosen segments   H query heads   G KV heads   D head size   M rows of one forward pass
 *   P ranks    N shards     W model width
 *
 * Contract of every operation: it runs on the backend's threads and returns when its results can be read by the next
 * operation; it does not allocate; its result for one row does not depend on the rows beside it, on the number of
 * threads or on how the work was cut into jobs and tasks: bit for bit on one instruction set.
 * One header per operation has its formula; here is only the table. */
#ifndef RADAR_BACKEND_H
#define RADAR_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"
#include "kernels/kv.h"
#include "kernels/scorer.h"
#include "kernels/topk.h"
#include "runtime/base.h"

typedef struct radar_backend radar_backend;

typedef enum radar_precision {
    RADAR_PRECISION_FAST, /* activations rounded to int8 per 32 values (quantised weights) or to bf16 (BF16 weights) */
    RADAR_PRECISION_EXACT /* f32 activations times the weights' exact values, accumulated in f32 */
} radar_precision;

typedef struct radar_backend_options {
    int n_threads; /* >= 1 */
    radar_precision precision;
    const char
        *isa;     /* NULL = best the machine has; "avx512", "avx2" or "plain" force one (tests) */
    int max_rows; /* largest M of a matmul */
    int max_cols; /* largest number of columns of a matrix */
} radar_backend_options;

/* Rows and columns of a matrix. */
typedef struct radar_region {
    int64_t row_begin, row_end, col_begin, col_end;
} radar_region;

/* One product of the shared input x [M, cols] with rows and columns of a stored matrix; see matmul.h. */
typedef struct radar_matmul_job {
    const radar_matrix *w;
    int64_t row_begin, row_end; /* rows of w, = outputs */
    int64_t col_begin,
        col_end; /* columns of w; col_begin a multiple of the type's block.  Input element 0 of the job is x column x_begin */
    int64_t x_begin;
    const float *bias; /* [w->rows], added once per output; NULL = none */
    float *out;        /* out[m * out_stride + (row - row_begin)] */
    size_t out_stride;
} radar_matmul_job;

/* Exact attention of some queries of one KV head to listed segments of one shard; see attend.h. */
typedef struct radar_item {
    int32_t segment; /* index in the shard's storage */
    uint32_t
        tokens; /* bit i: token i of the segment is attended; causality is added by the kernel */
} radar_item;

typedef struct radar_attend_task {
    radar_kv_view kv;
    int n_query;
    const float *q; /* query j at q + j * q_stride, [D] */
    size_t q_stride;
    const int64_t *position; /* [n_query] tokens after this absolute position are not attended */
    const radar_item *item;  /* [n_items] ascending segments */
    int n_items;
    float *partial; /* partial j at partial + j * partial_stride: {m, l, o[D]} as in merge.h */
    size_t partial_stride;
    /* per slot of the shard, or NULL: all 1.  How much a token counts in the denominator and in the numerator. */
    const float *key_weight, *value_weight;
} radar_attend_task;

/* What attention gave the tokens of one shard, added up per token; see weigh.h. */
typedef struct radar_weigh_task {
    radar_kv_view kv;
    int n_query;
    const float *q; /* query j at q + j * q_stride, [D] */
    size_t q_stride;
    const int64_t *position; /* [n_query] */
    const radar_item *item;  /* [n_items] ascending segments */
    int n_items;
    const float *root; /* merged partial of query j at root + j * root_stride: its {m, l} */
    size_t root_stride;
    float *weight; /* [slots of the shard]; no two tasks of a call share one */
} radar_weigh_task;

/* Scores of some queries of one KV head for a range of sealed segments of one shard; see scorer.h. */
typedef struct radar_score_task {
    radar_kv_view kv;
    int n_query;
    const void *query; /* prepared queries, scorer->query_bytes each, back to back */
    int32_t
        unit; /* segments of 16 tokens that are scored as one: 1, or more for kinds that merge */
    int32_t segment_begin, segment_end; /* storage indices, in units */
    float *score; /* score[j * score_stride + (unit - segment_begin)] log-mass, natural log units */
    size_t score_stride;
    /* sketch, q8top and exact: NULL, or units of the range, in any order: they alone are scored */
    const int32_t *list;
    int32_t n_listed;
    bool coarse; /* sketch of 2 bits: the upper plane alone is read */
} radar_score_task;

/* How many units a task scores, number i of them, and where query j's score of a unit goes. */
static inline int32_t radar_score_count(const radar_score_task *t) {
    return t->list ? t->n_listed : t->segment_end - t->segment_begin;
}
static inline int32_t radar_score_unit(const radar_score_task *t, int32_t i) {
    return t->list ? t->list[i] : t->segment_begin + i;
}
static inline float *radar_score_of(const radar_score_task *t, int j, int32_t unit) {
    return t->score + (size_t)j * t->score_stride + (size_t)(unit - t->segment_begin);
}

/* What selection left out, of one query head in one shard; see missed.h. */
typedef struct radar_missed_task {
    float *
        score; /* [n] scores of units segment_begin ...; the chosen ones are overwritten with -inf */
    int n;
    int32_t unit, segment_begin; /* as in the score task */
    const radar_item *item; /* [n_items] what is attended; those outside the range are ignored */
    int n_items;
    float *missed; /* {m', l'} of merge.h */
} radar_missed_task;

struct radar_backend {
    const struct radar_backend_ops *ops;
};

typedef struct radar_backend_ops {
    const char *name;
    radar_status (*open)(radar_backend **out, const radar_backend_options *opt, radar_error *err);
    void (*close)(radar_backend *be);
    const char *(*describe)(const radar_backend *be); /* e.g. "cpu avx512 vnni bf16, 2 threads" */

    /* device memory, zeroed; and copies between it and the host (the CPU backend: plain memory) */
    void *(*alloc)(radar_backend *be, size_t bytes);
    void (*release)(radar_backend *be, void *memory);

    void (*embed)(radar_backend *be, float *out, const radar_matrix *w, const int32_t *token,
                  int n); /* layer.h */
    void (*norm)(radar_backend *be, float *out, const float *x, const float *weight, float eps,
                 int64_t n, int width); /* norm.h */
    /* matmul.h: bytes of a part of w as matmul reads it fastest, 0 where it is best as stored; and the copy */
    size_t (*pack_bytes)(radar_backend *be, const radar_matrix *w, const radar_region *part);
    void (*pack)(radar_backend *be, void *memory, radar_matrix *w, const radar_region *part);
    void (*matmul)(radar_backend *be, const radar_matmul_job *job, int n_jobs, const float *x,
                   size_t x_stride, int M); /* matmul.h */
    void (*rope)(radar_backend *be, float *x, const float *cos_sin, radar_rope_style style, int M,
                 int heads, int D, int rotary); /* rope.h */
    void (*gate)(radar_backend *be, float *gate, const float *up,
                 int64_t n); /* layer.h: gate := silu(gate) * up */
    void (*add)(radar_backend *be, float *x, const float *y, int64_t n); /* layer.h: x := x + y */
    int64_t (*odd)(radar_backend *be, const float *x, int64_t n, int width); /* layer.h */
    void (*append)(radar_backend *be, const radar_kv_view *kv, const int32_t *slot, const float *k,
                   const float *v, size_t stride, int n); /* kv.h */
    void (*restore)(radar_backend *be, const radar_kv_view *kv, int32_t begin,
                    int32_t end); /* kv.h */
    void (*seal)(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                 const int32_t *block, int n); /* scorer.h */
    /* scorer.h: summaries [begin, end) of segments of unit >= 2, each merged from two of unit / 2 */
    void (*unite)(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                  int32_t unit, int32_t begin, int32_t end);
    void (*query)(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                  size_t q_stride, int n); /* scorer.h */
    void (*score)(radar_backend *be, const radar_scorer *scorer, const radar_score_task *task,
                  int n_tasks);                                          /* scorer.h */
    void (*topk)(radar_backend *be, radar_topk_task *task, int n_tasks); /* topk.h */
    void (*attend)(radar_backend *be, const radar_attend_task *task, int n_tasks,
                   float scale); /* attend.h */
    void (*weigh)(radar_backend *be, const radar_weigh_task *task, int n_tasks,
                  float scale);                                                    /* weigh.h */
    void (*merge)(radar_backend *be, float *a, const float *b, int64_t n, int D);  /* merge.h */
    void (*missed)(radar_backend *be, const radar_missed_task *task, int n_tasks); /* missed.h */
    void (*arrange)(radar_backend *be, float *out, const float *q, int M, int G, int group,
                    int D); /* arrange.h */
    void (*take)(radar_backend *be, float *out, const float *q, int M, int G, int group, int D,
                 const int32_t *row, int n); /* arrange.h */
    void (*finish)(radar_backend *be, float *out, float *coverage, const float *partial, int M,
                   int G, int group, int D);                               /* arrange.h */
    void (*touch)(radar_backend *be, void *memory, size_t bytes);          /* read.h */
    uint64_t (*read)(radar_backend *be, const void *memory, size_t bytes); /* read.h */
} radar_backend_ops;

/* NULL-terminated; the first entry that opens is the default. */
extern const radar_backend_ops *const radar_backends[];

#endif
