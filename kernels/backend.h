/* backend.h - the table of operations a device offers, and the types they share.
 *
 * Letters, the same everywhere:
 *   T tokens   S segments   K chosen segments   H query heads   G KV heads   D head size   M rows of one forward pass
 *   P ranks    N shards     W model width
 *
 * Memory: what alloc gives is the device's - tensors, the cache, scratch - and only operations look into it.  Everything else that
 * an operation is given is the host's - tasks, jobs, positions, slots, tokens, blocks - and is read before the call returns.
 * "device" and "host" stand beside the pointers that one could take for the other.
 *
 * Contract of every operation: it is queued, behind those before it; the host finds its results after fetch and wait.  (The
 * CPU does all of it at once.)  It does not allocate; its result for one row does not depend on the rows beside it, on the number
 * of threads or on how the work was cut into jobs and tasks: bit for bit on one instruction set.
 * One header per operation has its formula; here is only the table. */
#ifndef RADAR_BACKEND_H
#define RADAR_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/choose.h"
#include "kernels/dtype.h"
#include "kernels/kv.h"
#include "kernels/sample.h"
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
    /* of GPUs */
    int device;       /* number, of those that the process sees; -1: they are taken in turn */
    int turn;         /* of the process among those of its machine, from 0 */
    bool graphs;      /* what is queued again alike is launched as one */
    bool fp8_weights; /* matrices of BF16 and F16 are multiplied as e4m3 with a scale per row */
    int slices;       /* of rows, that a rank has one or several of; 0: 1 */
} radar_backend_options;

/* What a session asks of a backend. */
typedef struct radar_needs {
    radar_dtype kv_type;
    int D;
    int group; /* query heads per KV head */
    const radar_scorer *scorer,
        *finest; /* NULL: none; finest: of the last stage of a progressive scan */
    radar_pick pick;
    const char
        *inside; /* who of the host looks into device memory ("attention 'h2o'"); NULL: nobody */
} radar_needs;

typedef struct radar_device_facts {
    uint64_t total_bytes; /* of memory that is the device's own; 0: it is the host's */
    uint64_t free_bytes;  /* of it, that may still be asked for */
    const char *bus;      /* "0000:65:00.0", or "" */
} radar_device_facts;

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
    /* On another number of ranks its rows may be cut, between slices: number i of options.slices, N, ends with row
     * ceil(w->rows / row_block) (i + 1) / N row_block.  0: nowhere */
    int64_t row_block;
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

/* A list of items, ascending. */
typedef struct radar_items {
    const radar_item *item;
    int n;                /* of them; with count: at most */
    bool on_device;       /* item */
    const int64_t *begin; /* device, NULL: 0; the list begins with item[*begin] */
    const int32_t *count; /* device, NULL: n */
} radar_items;

/* For backends whose device memory is the host's: the list as it is now. */
static inline radar_items radar_items_now(radar_items list) {
    if (list.begin) list.item += *list.begin;
    if (list.count) list.n = *list.count;
    list.begin = NULL;
    list.count = NULL;
    return list;
}

typedef struct radar_attend_task {
    radar_kv_view kv;
    int n_query;
    const float *q; /* query j at q + j * q_stride, [D] */
    size_t q_stride;
    const int64_t *position; /* [n_query] tokens after this absolute position are not attended */
    radar_items items;
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
    radar_items items;
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
    const int32_t *list;     /* device */
    const int32_t *n_listed; /* device: one number */
    bool coarse;             /* sketch of 2 bits: the upper plane alone is read */
} radar_score_task;

/* How many units a task scores, number i of them, and where query j's score of a unit goes. */
static inline int32_t radar_score_count(const radar_score_task *t) {
    return t->list ? *t->n_listed : t->segment_end - t->segment_begin;
}
static inline int32_t radar_score_unit(const radar_score_task *t, int32_t i) {
    return t->list ? t->list[i] : t->segment_begin + i;
}
static inline float *radar_score_of(const radar_score_task *t, int j, int32_t unit) {
    return t->score + (size_t)j * t->score_stride + (size_t)(unit - t->segment_begin);
}

/* What selection left out, of query heads that attend to one list of one shard; see missed.h. */
typedef struct radar_missed_task {
    int n_query;
    float *
        score; /* query j: [n] scores of units segment_begin ... at score + j * score_stride; the chosen ones become -inf */
    size_t score_stride;
    int n;
    int32_t unit, segment_begin; /* as in the score task */
    radar_items items;           /* what is attended; those outside the range are ignored */
    float *missed;               /* query j: {m', l'} of merge.h at missed + j * missed_stride */
    size_t missed_stride;
} radar_missed_task;

/* What lies between the projections and the cache: norms of heads (norm.h), where there is a weight, and rotation (rope.h). */
typedef struct radar_rotate_job {
    float *q, *k; /* [M, H, D], [M, G, D], in place */
    int M, H, G, D;
    const float *q_norm, *k_norm; /* host or device as the model's weights; [D]; NULL: no norm */
    float eps;
    const float *cos_sin; /* device [M, 2, rotary / 2] */
    radar_rope_style style;
    int rotary;
} radar_rotate_job;

/* A rectangle of numbers that moves, from one place of the device to another. */
typedef struct radar_copy {
    float *to;
    const float *from;
    size_t to_stride, from_stride; /* numbers from row to row */
    int64_t rows, width;
} radar_copy;

struct radar_backend {
    const struct radar_backend_ops *ops;
};

typedef struct radar_backend_ops {
    const char *name;
    radar_status (*open)(radar_backend **out, const radar_backend_options *opt, radar_error *err);
    void (*close)(radar_backend *be);
    const char *(*describe)(const radar_backend *be); /* e.g. "cpu avx512 vnni bf16, 2 threads" */
    radar_device_facts (*facts)(const radar_backend *be);
    /* RADAR_ERR_CONFIG with the cure where it cannot give what is asked for */
    radar_status (*check)(const radar_backend *be, const radar_needs *needs, radar_error *err);
    /* The tables of a scorer go to the device, and away from it. */
    radar_status (*adopt)(radar_backend *be, radar_scorer *scorer, radar_error *err);
    void (*forget)(radar_backend *be, radar_scorer *scorer);

    /* Device memory, zeroed; NULL: there is not so much.  At once, not queued; what is released is not in use. */
    void *(*alloc)(radar_backend *be, size_t bytes);
    void (*release)(radar_backend *be, void *memory);
    void (*clear)(radar_backend *be, void *memory, size_t bytes); /* device := zeros */
    void (*upload)(radar_backend *be, void *device, const void *host, size_t bytes);
    /* The host has the numbers after wait.  Until then `host` is not touched by anyone else. */
    void (*fetch)(radar_backend *be, void *host, const void *device, size_t bytes);
    /* [this rank] Until all that is queued is done.  The first failure since the last wait: RADAR_ERR_PEER where the device is lost. */
    radar_status (*wait)(radar_backend *be, radar_error *err);
    /* Forgets what is queued: the pass has failed.  NULL, as are the next ones, where nothing ever is: the device's memory is the
     * host's */
    void (*drop)(radar_backend *be);
    /* For carriers, before what a library has goes: no graph refers to it any more; with `run`, what is queued is done before. */
    void (*let_go)(radar_backend *be, bool run);
    /* Queued, for carriers (parallel/comm.h): calls of a library on the device's stream, and work of the host; data is copied.  NULL,
     * as are the next four, where the device's memory is the host's. */
    void (*call)(radar_backend *be, const char *what, int (*work)(void *data, void *stream),
                 const void *data, size_t bytes);
    /* From now on wait asks check(user, err) every now and then whether what is queued can still end; where not, that is its error. */
    void (*watch)(radar_backend *be, radar_status (*check)(void *user, radar_error *err),
                  void *user);
    void (*host)(radar_backend *be, radar_status (*work)(void *data, radar_error *err),
                 const void *data, size_t bytes);
    /* Within work of the host, at once; 0 or an error. */
    int (*read_now)(radar_backend *be, void *host, const void *device, size_t bytes);
    int (*write_now)(radar_backend *be, void *device, const void *host, size_t bytes);

    void (*embed)(radar_backend *be, float *out, const radar_matrix *w, const int32_t *token,
                  int n); /* layer.h */
    /* norm.h; with y, NULL or [n, width]: x := x + y before */
    void (*norm)(radar_backend *be, float *out, float *x, const float *y, const float *weight,
                 float eps, int64_t n, int width);
    /* matmul.h: bytes of a part of w as matmul reads it fastest, 0 where it is best as stored; and the copy */
    size_t (*pack_bytes)(radar_backend *be, const radar_matrix *w, const radar_region *part);
    void (*pack)(radar_backend *be, void *memory, radar_matrix *w, const radar_region *part);
    void (*matmul)(radar_backend *be, const radar_matmul_job *job, int n_jobs, const float *x,
                   size_t x_stride, int M); /* matmul.h */
    /* rope.h: cos and sin of positions, [n, 2, rotary / 2] */
    void (*angles)(radar_backend *be, float *cos_sin, const double *frequency, int rotary,
                   double magnitude, const int64_t *position, int n);
    void (*rotate)(radar_backend *be, const radar_rotate_job *job); /* norm.h, then rope.h */
    void (*gate)(radar_backend *be, float *gate, const float *up,
                 int64_t n); /* layer.h: gate := silu(gate) * up */
    void (*add)(radar_backend *be, float *x, const float *y, int64_t n); /* layer.h: x := x + y */
    /* layer.h: *found, device, 0 before := n - the first of n rows that has a number that is not finite; none: it stays */
    void (*odd)(radar_backend *be, uint64_t *found, const float *x, int64_t n, int width);
    /* kv.h: all `heads` of one shard and layer; kv [heads], head h of a row begins h * D behind k and v */
    void (*append)(radar_backend *be, const radar_kv_view *kv, int heads, const int32_t *slot,
                   const float *k, const float *v, size_t stride, int n);
    void (*restore)(radar_backend *be, const radar_kv_view *kv, int32_t begin,
                    int32_t end); /* kv.h */
    /* scorer.h: n consecutive blocks from `block` on of all `heads`, kv [heads] */
    void (*seal)(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv, int heads,
                 int32_t block, int n);
    /* scorer.h: blocks [begin, end) are sealed: all longer segments that end with one of them, of 2, 4, ... 2^levels times 16 tokens,
     * each merged from its halves */
    void (*unite)(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv, int heads,
                  int levels, int32_t begin, int32_t end);
    void (*query)(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                  size_t q_stride, int n); /* scorer.h */
    void (*score)(radar_backend *be, const radar_scorer *scorer, const radar_score_task *task,
                  int n_tasks);                                                /* scorer.h */
    void (*topk)(radar_backend *be, const radar_topk_task *task, int n_tasks); /* topk.h */
    void (*choose)(radar_backend *be, const radar_choose_job *job);            /* choose.h */
    /* attend.h; rows: M of the pass, by whether more than 64 of which a backend may cut lists in its own way */
    void (*attend)(radar_backend *be, const radar_attend_task *task, int n_tasks, float scale,
                   int rows);
    void (*weigh)(radar_backend *be, const radar_weigh_task *task, int n_tasks,
                  float scale); /* weigh.h */
    /* merge.h: a power of two of pieces of n partials, in the tree ((0, 1), (2, 3)), into the first; the others are left in any
     * state */
    void (*merge)(radar_backend *be, float *const *piece, int pieces, int64_t n, int D);
    void (*sum)(radar_backend *be, float *const *piece, int pieces,
                int64_t n); /* layer.h: the same tree, of vectors [n] */
    void (*missed)(radar_backend *be, const radar_missed_task *task, int n_tasks); /* missed.h */
    void (*arrange)(radar_backend *be, float *out, const float *q, int M, int G, int group,
                    int D); /* arrange.h */
    void (*take)(radar_backend *be, float *out, const float *q, int M, int G, int group, int D,
                 const int32_t *row, int n); /* arrange.h */
    void (*finish)(radar_backend *be, float *out, float *coverage, const float *partial, int M,
                   int G, int group, int D);                        /* arrange.h */
    void (*copy)(radar_backend *be, const radar_copy *copy, int n); /* no two overlap */
    /* runtime/sampler.h, on the device: one token from logit [vocab] as for `position`; NULL: the host draws from what it fetches */
    void (*sample)(radar_backend *be, radar_drawn *out, const radar_sampler_options *opt,
                   int64_t position, const float *logit, int vocab);
    void (*touch)(radar_backend *be, void *memory, size_t bytes);          /* read.h */
    uint64_t (*read)(radar_backend *be, const void *memory, size_t bytes); /* read.h */
} radar_backend_ops;

/* NULL-terminated; the first entry that opens is the default.  The CPU is always there, and last. */
extern const radar_backend_ops *const radar_backends[];
extern const radar_backend_ops *const radar_backend_cpu;

#endif
