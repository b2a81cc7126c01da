/* engine.h - what stands behind radar_engine and radar_session; private to runtime/. */
#ifndef RADAR_ENGINE_H
#define RADAR_ENGINE_H

#include "kernels/backend.h"
#include "parallel/comm.h"
#include "parallel/exchange.h"
#include "parallel/shard.h"
#include "runtime/attention.h"
#include "runtime/kvcache.h"
#include "runtime/model/model.h"
#include "runtime/policy.h"
#include "runtime/probe.h"
#include "runtime/profile.h"
#include "runtime/radar.h"
#include "runtime/sampler.h"
#include "runtime/text/tokenizer.h"

/* Rows of q, k, v, the output projection and the vocabulary are cut at multiples of this: a panel of the matmul kernels. */
#define RADAR_ROW_BLOCK 16

/* Device memory of one forward pass of up to `rows` rows; made once, sized by the model and the layout. */
typedef struct radar_workspace {
    int rows;      /* M at most */
    int pass_rows; /* M of the pass */
    int block_rows; /* rows whose pieces (attention partials, FFN partial sums) travel in one exchange */
    int logit_rows;    /* rows of logits computed at once */
    float *x, *normed; /* [M, W] */
    float *q, *k, *v;  /* [M, H D] [M, G D] [M, G D] */
    float *arranged;   /* [G, block_rows, group, D] */
    float *attended;   /* [M, H D] */
    float *projected;  /* [M, W] */
    float *gate, *up;  /* [M, own inner columns] */
    float *pieces;     /* [N, block_rows, max(H PARTIAL(D), W)] */
    float *coverage;   /* [layers, M, H] */
    uint64_t *odd;     /* [layers + 1] after each layer, and of the logits: `found` of odd */
    float *cos_sin;    /* [M, 2, rotary / 2] */
    void *packet;      /* of exchanges of rows */
    float *logits;     /* [logit_rows, vocab] */
    /* of the host */
    int32_t *token;                     /* [M] */
    int64_t *position, *query_position; /* [M] and [block_rows, group] */
    int32_t *slot;                      /* [M] */
    float *seen_coverage, *seen_logits; /* what was there at the end of the last pass */
    uint64_t *seen_odd;
} radar_workspace;

struct radar_engine {
    radar_engine_options opt;
    char *model_path, *tokenizer_path; /* own copies, as are the short names that opt points to */
    char backend[16], precision[16], isa[16], rope_scaling[16], exchange[16], weights[16];
    radar_comm *comm;    /* on a device: the carrier of its memory, over the host's */
    radar_device device; /* the backend, as the carrier sees it; device.c */
    char
        fallback[640]; /* which backend or carrier "auto" fell back to, and why; "" if it did not */
    radar_layout layout;
    radar_model *model;
    radar_tokenizer *tokenizer; /* rank 0: opened with the engine; other ranks: when asked for */
    bool tokenizer_missing;     /* the model brings none */
    radar_backend *be;
    radar_profiler profiler;
    radar_workspace ws;
    void *
        packed; /* own part of the weights, in the order of the kernels; NULL: they are read as stored */
    size_t packed_bytes, packed_end; /* of all of it, and of what is filled */
    float *vectors;                 /* device: norms and biases of the model, one after the other */
    size_t vector_end;              /* numbers of them that are there */
    int64_t inner_block;            /* columns at which every layer's down may be cut */
    int64_t inner_begin, inner_end; /* own columns of down */
    int64_t step;                   /* forward passes so far: ranks out of order are noticed */
    radar_session *logits_of;       /* whose logits ws.logits has, or NULL */
    bool stop;                      /* the progress callback asked for it */
    radar_error err;
};

struct radar_session {
    radar_engine *e;
    radar_attention attention;
    const radar_policy *
        own_policy; /* as opened or reconfigured; attention.policy may be set to a simpler one meanwhile */
    void *policy_state;     /* of own_policy */
    int64_t state_position; /* rows [0, state_position) are known to it */
    radar_kvcache kv;
    radar_rope rope;
    double *rope_frequency; /* [rotary / 2], rope's */
    radar_plan plan;
    radar_probe *probe; /* NULL: nobody observes */
    int policy_rows;    /* rows of one pass under the session's own attention */
    int prefill_rows; /* rows of one select of sparse prefill: whole blocks where they fit an exchange; 0: dense */
    int64_t *listed; /* device [2]: what counts and prefilled point to */
    radar_sampler_options sampler;
    void *sampler_scratch;
    float *logits;         /* [vocab] of the last position, or what the last token was drawn from */
    bool logits_valid;     /* they are somewhere: */
    bool logits_elsewhere; /* not here, but still in ws.logits */
    radar_drawn *draw, drawn; /* device; what the backend drew from them, where it does */
    int32_t pending;          /* sampled, not yet computed; -1: none */
    int64_t position;         /* tokens in the cache */
    radar_counts counts;
    radar_counts prefilled; /* by prefill, since the cache was empty */
    uint64_t *rank_bytes;   /* [2, P]: KV, summaries */
    bool broken;            /* an error left the ranks' state unknown */
};

/* Consecutive tokens of one session, under one policy. */
typedef struct radar_batch {
    radar_session *s;
    const int32_t *token;
    int64_t position; /* of token[0] */
    int n;
    const radar_policy *policy;
    radar_counts
        *counts; /* where the pass is counted; NULL: prefill, not part of a session's figures */
} radar_batch;

/* [all ranks] Queues one pass of the model over the rows of all batches together (at most ws.rows): keys and values are appended,
 * the last hidden states are left in ws.x [M, W]. */
radar_status radar_forward(radar_engine *e, const radar_batch *batch, int n_batches);
/* [all ranks] What the plan lists for n rows, attended, folded and merged over all shards into the root of the tree: ws.pieces
 * begins with it. */
radar_status radar_attend_plan(radar_engine *e, const radar_plan *plan, int n);
/* [all ranks] Queues the logits of rows [first, first + n) of the last pass, n <= ws.logit_rows, into ws.logits; with `fetch` the host
 * will have them too. */
radar_status radar_head(radar_engine *e, int first, int n, bool fetch);
/* [this rank] Waits; then what the pass did is counted, and checked: RADAR_ERR_DATA on all ranks where numbers are not finite. */
radar_status radar_await_pass(radar_engine *e, const radar_batch *batch, int n_batches);
/* [this rank] Waits; then ws.seen_logits has what radar_head was asked to fetch, checked likewise. */
radar_status radar_await_head(radar_engine *e, int first, int n);

/* [this rank] Zeros, for s->counts or s->prefilled. */
void radar_session_count_anew(radar_session *s, radar_counts *counts);
/* [this rank] What every call on a session begins with: an unusable one is refused. */
radar_status radar_session_begin(radar_session *s);

/* [all ranks] radar_engine_open over a carrier of host memory, which is the engine's from then on, and closed where it fails. */
radar_status radar_engine_open_on(radar_engine **out, radar_comm *carrier,
                                  const radar_engine_options *opt, char *error, size_t error_bytes);

/* ---- how much, before anything is reserved ---- */

/* [this rank] Needs model, layout, and of comm rank and size alone; sets the rows of e's passes too. */
uint64_t radar_workspace_bytes(radar_engine *e);
/* [this rank] engine.c: options and the model's metadata of e, of which comm's rank and size are set; no tokenizer, no backend. */
radar_status radar_engine_describe(radar_engine *e, const radar_engine_options *opt,
                                   radar_error *err);
/* [this rank] Own shares of the weights' rows and columns; the embedding, of which a step reads single rows, is not cut. */
uint64_t radar_weight_bytes(const radar_engine *e);
/* [this rank] session_open.c: s, of which only e is set, as opt wants it; its cache and lists have their sizes, nothing is reserved but
 * the scorer's tables.  Needs of e what radar_workspace_bytes needs, after it.  radar_session_unshape also after a failure. */
radar_status radar_session_shape(radar_session *s, const radar_session_options *opt,
                                 radar_error *err);
/* [this rank] The same session with another context or on another rank. */
radar_status radar_session_reshape(radar_session *s, radar_error *err);
void radar_session_unshape(radar_session *s);
/* session_memory.c: what a shaped session reserves on its rank; weights and workspace are left 0. */
radar_rank_memory radar_session_memory(const radar_session *s);
uint64_t radar_memory_sum(const radar_rank_memory *m);
/* [all ranks] What the ranks of one machine want together, against what that machine has free.  own: what this rank wants, of
 * s and beside it; held: what it has of s already.  RADAR_ERR_MEMORY with the largest context that fits. */
radar_status radar_session_check_memory(const radar_session *s, const radar_rank_memory *own,
                                        const radar_rank_memory *held, radar_error *err);

radar_status radar_workspace_open(radar_engine *e, radar_error *err);
void radar_workspace_close(radar_engine *e);
/* [this rank] Packs own weights (weights.c); the workspace, which cuts them, is there already. */
radar_status radar_weights_open(radar_engine *e, radar_error *err);
void radar_weights_close(radar_engine *e);
/* [this rank] What they will take of the device, whose backend is open; the embedding stays in the file. */
uint64_t radar_device_weight_bytes(const radar_engine *e);

/* Rows of a pass at most: a chunk of prefill, or a batch under the session's own attention. */
static inline int radar_pass_rows(const radar_engine *e) {
    return e->opt.chunk > 64 ? e->opt.chunk : 64;
}

/* Asks the caller's progress callback; remembers a wish to stop, which all ranks learn with the next X1. */
void radar_report(radar_engine *e, const char *what, int64_t done, int64_t total);
/* [this rank] The tokenizer, opened when needed. */
radar_status radar_engine_tokenizer(radar_engine *e, radar_error *err);

#endif
