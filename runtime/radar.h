/* radar.h - decode Llama-family models over a key/value cache sharded across MPI ranks.
 *
 * Every function is marked [all ranks] (every rank of the engine's communicator calls it, in the same order, with the same options)
 * or [this rank].  One thread uses an engine at a time; MPI is initialised by the caller, MPI_THREAD_FUNNELED is enough; OpenMP
 * stays inside.  Nothing here prints, exits or keeps global state.  After an error other than RADAR_ERR_USAGE, RADAR_ERR_CONFIG,
 * RADAR_ERR_DATA and RADAR_ERR_STOPPED a session can only be closed; so can one opened for an attention that keeps a memory of its
 * own (all but "radar", "dense" and "streaming") after a pass that met values that are not finite.
 *
 * Strings and arrays passed in are copied or only used during the call.  Sizes are in the unit their name says. */
#ifndef RADAR_H
#define RADAR_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

#ifdef RADAR_NO_MPI
typedef const void *radar_mpi_comm;
#define RADAR_ONE_RANK NULL
#else
#include <mpi.h>
typedef MPI_Comm radar_mpi_comm;
#define RADAR_ONE_RANK MPI_COMM_NULL /* MPI need not be initialised */
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define RADAR_VERSION "0.1.0"

typedef struct radar_engine radar_engine;   /* a model on all ranks */
typedef struct radar_session radar_session; /* one sequence on an engine */

typedef struct radar_engine_options {
    size_t size;           /* sizeof(radar_engine_options); later versions append fields only */
    const char *model;     /* .gguf, its first shard, a directory, or a repo id in the HF cache */
    const char *tokenizer; /* a tokenizer.json to use instead; NULL = the model's own */
    const char *backend; /* "auto" (CUDA where this build and every rank have it), "cpu", "cuda" */
    const char *precision; /* "fast": activations may be rounded per block; "exact": all in f32 */
    const char *isa;       /* NULL = best; "plain", "avx2", "avx512" (diagnostics) */
    int threads;           /* per rank; 0 = the cores this process may use */
    int shards;            /* N, a power of two, >= ranks */
    int stripe;            /* tokens dealt to a shard at a time, a multiple of 64 */
    int chunk;             /* rows of one forward pass of prefill, 1..4096 */
    /* what = "load", "prefill", "score", "decode", "fill"; done of total.  Called on every rank; where it returns nonzero on any, all
     * ranks stop before their next pass with RADAR_ERR_STOPPED.  NULL = none. */
    int (*progress)(void *user, const char *what, int64_t done, int64_t total);
    void *user;
    /* instead of what the model's file says; NULL and 0 = as there.  "none", "linear", "yarn", "dynamic", "llama3"; Llama 3's own
     * scaling is part of such a model and stays under the others.  "dynamic" stretches for the session's capacity from its first token on. */
    const char *rope_scaling;
    double rope_scale;     /* times the model's context */
    double rope_freq_base; /* theta */
    int64_t rope_orig_ctx; /* tokens of context before scaling */
    /* the session that will be opened: RADAR_ERR_MEMORY before weights are loaded where there is no room for it; NULL = none */
    const struct radar_session_options *session;
    /* CUDA */
    const char *
        exchange; /* between devices: "auto" (NCCL where every rank has it), "nccl", "staged" (through host memory) */
    const char
        *weights; /* "stored"; "fp8": matrices of bf16 and f16 as e4m3 with a scale per row */
    int device; /* number of the GPU; -1: this rank's number among those of its machine, modulo the GPUs it sees */
    int no_graphs; /* launch every kernel by itself */
} radar_engine_options;
#define RADAR_ENGINE_OPTIONS_DEFAULT \
    { \
        sizeof(radar_engine_options), NULL, NULL, "auto", "fast", NULL, 0, 8, 256, 512, NULL, \
            NULL, NULL, 0, 0, 0, NULL, "auto", "stored", -1, 0 \
    }

typedef struct radar_session_options {
    size_t size;     /* sizeof(radar_session_options) */
    int64_t context; /* tokens of KV capacity, reserved at once; 0 = the model's maximum */
    /* "auto": f16, on CUDA bf16; "f16", "f32", "bf16"; "fp8" (CUDA): e4m3 with a scale per token; "q8" (CPU): int8 with a scale per token from some 256 tokens back (heads of a multiple of 16 numbers) */
    const char *kv_type;
    /* "radar", "dense", "streaming", "h2o", "snapkv", "subgen"; "paper", "code": Radar as published */
    const char *attention;
    /* "sketch", "mean", "outlier", "minmax", "rf", "exact"; "q8top", of kv_type "q8" only */
    const char *scorer;
    /* tokens of chosen segments per query head; -1 = auto: 512, from 65,536 tokens of context 1,024 */
    int64_t budget;
    int64_t segments; /* chosen segments per query head; 0 = max(8, budget / segment) */
    /* tokens of a segment, a power of two from 16 to the stripe, for scorers whose summaries merge (mean, rf); -1 = auto: the
     * power of two nearest sqrt(t) / 4, within [16, stripe] */
    int64_t segment;
    /* attend everything while the context is shorter; -1 = auto (break-even of bytes), 0 = never */
    int64_t dense_below;
    int64_t window; /* latest tokens, always attended */
    int64_t sinks;  /* first tokens, always attended */
    /* "group": the heads of a KV head attend to the union of their lists; "head": each to its own */
    const char *share;
    const char *pick; /* "top", "bottom", "random", "last" */
    /* "global": the k best of the context; "local": the ceil(1.5 k / N) best of each shard, one exchange less */
    const char *select;
    int64_t sketch_bits; /* sketch: bits a dimension; 1, 2 or 4 */
    /* "full": all candidates by all their bits; "progressive" (sketch of 2 bits): all by their high bit plane, the best of those by
     * both, the best of these by their keys */
    const char *scan;
    /* "dense", or "radar": blocks of 64 of the prompt's queries choose segments together, by the scorer, budget, pick, share and
     * select that steps of attention "radar" have (auto budget: 1,024); not with "h2o", "snapkv", "subgen", "paper" and "code" */
    const char *prefill;
    int64_t dense_prefill; /* prefill "radar": the first tokens, which attend densely; -1 = 4,096 */
    int64_t outliers;      /* outlier: keys kept beside the mean of the rest, 1 to 7 */
    int64_t rf_features;   /* rf: directions; 0 = 16 D */
    const char *rf_form;   /* rf: "plain", "pair" */
    int rf_center;         /* rf: features of the keys' distance from their block's mean */
    double rf_temper;      /* rf: rank by the mass of b times the logits, 0 < b <= 1 */
    int restream;    /* streaming: positions counted within what is kept, as StreamingLLM does */
    int64_t observe; /* snapkv: the last queries of the prompt that vote */
    uint64_t scorer_seed; /* signs, directions, random picks, samples */
    uint64_t seed;        /* sampler */
    double temperature;   /* 0 = greedy */
    int64_t top_k;        /* 0 = all */
    double top_p;         /* 1 = all */
    double min_p;         /* 0 = all */
} radar_session_options;
#define RADAR_SESSION_OPTIONS_DEFAULT \
    { \
        sizeof(radar_session_options), 0, "auto", "radar", "sketch", -1, 0, 16, -1, 256, 4, \
            "group", "top", "global", 2, "full", "dense", -1, 3, 0, "plain", 0, 1.0, 0, 32, 1, 1, \
            0.0, 40, 0.95, 0.05 \
    }

/* ---- engine ---- */

/* [all ranks] Opens model, backend and exchanges.  On failure *out is NULL, every rank returns the same status, and error (when not NULL,
 * error_bytes of room) holds the one line that says what, where and the cure. */
radar_status radar_engine_open(radar_engine **out, radar_mpi_comm comm,
                               const radar_engine_options *opt, char *error, size_t error_bytes);
void radar_engine_close(radar_engine *e); /* [all ranks] after its sessions; NULL is fine */
const char *radar_last_error(
    const radar_engine
        *e); /* [this rank] the last failure on e or its sessions; valid until the next call */
int radar_rank(const radar_engine *e);  /* [this rank] */
int radar_ranks(const radar_engine *e); /* [this rank] */

typedef struct radar_model_info {
    size_t size;
    const char *family, *name, *path, *backend,
        *tokenizer; /* owned by the engine; tokenizer NULL = none */
    int layers, width, heads, kv_heads, head_dim, inner, vocab;
    int64_t context; /* tokens the model is made for */
    uint64_t file_bytes;
    uint64_t fingerprint;
    int64_t unscaled_context; /* the same before rope scaling */
    const char *rope_scaling;
    int64_t parameters;      /* elements of all tensors of the file */
    const char *weight_type; /* the type that most of its bytes have, as the file calls it */
    const char *
        fallback; /* "backend cpu: ...": why "auto" means no better one; NULL: nothing was missed */
    const char *gpu; /* bus id of this rank's GPU, "0000:65:00.0"; "": none */
} radar_model_info;
void radar_engine_info(const radar_engine *e,
                       radar_model_info *info); /* [this rank] info->size set by the caller */

/* ---- text ---- */

enum {
    RADAR_TEXT_SPECIAL = 1,
    RADAR_TEXT_BOS = 2
}; /* special tokens spelled in the text are parsed; add the model's own beginning */
/* [this rank] *token is freed with radar_release. */
radar_status radar_tokenize(radar_engine *e, const char *text, size_t bytes, int flags,
                            int32_t **token, size_t *n);
/* [this rank] One user message in the model's own chat template; the contents never give special tokens.  template_name NULL = recognised. */
radar_status radar_chat(radar_engine *e, const char *template_name, const char *text, size_t bytes,
                        int32_t **token, size_t *n);
/* [this rank] *text is freed with radar_release; bytes as the tokens spell them, special tokens left out when skip_special. */
radar_status radar_detokenize(radar_engine *e, const int32_t *token, size_t n, int skip_special,
                              char **text, size_t *bytes);
/* Text as it is generated: what a token completes comes out, never half a UTF-8 character. */
typedef struct radar_text_stream radar_text_stream;
radar_status radar_text_stream_open(radar_text_stream **out, radar_engine *e,
                                    int skip_special); /* [this rank] */
/* [this rank] The bytes that can be shown after one more token; *text is valid until the next call. */
void radar_text_stream_push(radar_text_stream *ts, int32_t token, const char **text, size_t *bytes);
void radar_text_stream_end(radar_text_stream *ts, const char **text,
                           size_t *bytes);              /* [this rank] what is still held */
void radar_text_stream_close(radar_text_stream *ts);    /* [this rank] NULL is fine */
int radar_is_eos(const radar_engine *e, int32_t token); /* [this rank] */
void radar_release(void *memory);                       /* [this rank] */

/* ---- session ---- */

/* [all ranks] One sequence on engine e, which must outlive it.  Refuses a context that does not fit, with numbers.  On failure *out is NULL. */
radar_status radar_session_open(radar_session **out, radar_engine *e,
                                const radar_session_options *opt);
void radar_session_close(radar_session *s); /* [all ranks] NULL is fine */
/* [all ranks] Appends n tokens in chunks, attending densely or as `prefill` says: then what a block of 64 positions chooses
 * depends on where in it a call or a chunk ends. */
radar_status radar_prefill(radar_session *s, const int32_t *token, size_t n);
/* [all ranks] Samples the next token, the same on every rank, appends it (its own pass runs with the next call). */
radar_status radar_step(radar_session *s, int32_t *token);
/* [all ranks] Appends n given tokens, each computed under the session's attention exactly as a decode step would compute it.
 * logits, when not NULL: [n, vocab] f32, row i = the distribution after token i. */
radar_status radar_score(radar_session *s, const int32_t *token, size_t n, float *logits);
/* Rows of logits as they are computed: [n, vocab] f32, row i = the distribution after the token at `position` + i; valid during the call. */
typedef void radar_logits_reader(void *user, int64_t position, int n, const float *logits);
/* [all ranks] radar_score that hands its logits over where they lie, on every rank, instead of copying them. */
radar_status radar_score_each(radar_session *s, const int32_t *token, size_t n,
                              radar_logits_reader *each, void *user);
/* [this rank] [vocab] f32: the logits that the last radar_step sampled from, or of the last position after radar_prefill and radar_score.
 * On a GPU they come to the host when they are asked for; NULL: the GPU was lost meanwhile. */
const float *radar_logits(radar_session *s);
int64_t radar_position(const radar_session *s); /* [this rank] tokens in the cache */
/* [all ranks] Forgets everything from position on, also a token that was sampled and not computed yet, so that another continuation can
 * follow: give it with radar_score or radar_prefill, the logits are gone too.  0 <= position <= radar_position(s).  An attention that
 * has to see the prompt ("h2o", "snapkv", "subgen") goes back to where the prefill ended or to 0: elsewhere RADAR_ERR_CONFIG.
 * What follows is what would have followed then, bit for bit; but for a q8 cache after more than a chunk's tokens: it keeps the
 * latest tokens as f16, and further back the last 256 before `position` come from what they were rounded to. */
radar_status radar_rewind(radar_session *s, int64_t position);
/* [all ranks] From the next token on, attend as `attention` says: the one the session was opened with, "dense" or "streaming"; figures start anew. */
radar_status radar_session_set_attention(radar_session *s, const char *attention);
/* [this rank] Whether an attention of that name has to see the prompt ("h2o", "snapkv", "subgen"). */
int radar_sees_prompt(const char *attention);
/* [all ranks] From the next token on, attend as opt says; summaries are made anew from the keys in the cache, figures start anew.
 * context and kv_type stay as they are.  An attention that has to see the prompt ("h2o", "snapkv", "subgen") only at position 0:
 * RADAR_ERR_CONFIG otherwise.  After RADAR_ERR_USAGE or RADAR_ERR_CONFIG the session is as it was. */
radar_status radar_session_reconfigure(radar_session *s, const radar_session_options *opt);

/* What one layer made of one row, beside what dense attention would have made of it; masses are ln sum exp(q . k / sqrt D). */
typedef struct radar_observation {
    size_t size;
    int64_t position;
    int layer, layers, heads, kv_heads, head_dim;
    const float *q; /* [H, D] after RoPE */
    const float *output,
        *dense_output; /* [H, D] of this attention, and of dense attention over the same cache */
    const float *mass, *dense_mass; /* [H] of the attended tokens; of all */
    const float *coverage;          /* [H] the estimate that radar_stats averages */
    int64_t segment;                /* tokens of a scored segment */
    int64_t first_candidate;        /* position of the first candidate's first token */
    int64_t
        candidates; /* segments that could be chosen; 0: the attention scores none, or not here */
    int64_t keep;   /* of them, per query head */
    const float *exact;          /* [H, candidates] true masses */
    const float *estimate;       /* [H, candidates] what the scorer said */
    const unsigned char *chosen; /* [H, candidates] 1: in the list of that query head */
} radar_observation;
typedef void
radar_observer(void *user,
               const radar_observation *o); /* called on every rank with the same figures */
/* [all ranks] Calls `each` for every row and layer of radar_score and radar_step from now on, which costs a dense pass beside it;
 * NULL: no more.  every: rows at positions that are multiples of it; 1 = all. */
radar_status radar_session_observe(radar_session *s, radar_observer *each, void *user,
                                   int64_t every);
/* [all ranks] Keys (after RoPE) and values of positions [first, first + n) of one layer and KV head as the cache holds them, [n, D] each,
 * on every rank; value may be NULL. */
radar_status radar_session_read(radar_session *s, int layer, int kv_head, int64_t first, int64_t n,
                                float *key, float *value);

/* Keys (after RoPE) and values of positions [first, first + n) of one layer and KV head to be written, [n, D] each, all finite; what a
 * position gets must be the same on every rank and not depend on how the positions are cut into calls.  A rank is asked only for
 * positions it owns, by one thread; the function may use threads of its own. */
typedef void radar_filler(void *user, int layer, int kv_head, int64_t first, int64_t n, float *key,
                          float *value);
/* [all ranks] Appends n positions whose keys and values are made up, not computed: for measuring speed at depth.  What follows is
 * decoded from there like any other context; the logits are gone.  An attention that has to see the prompt ("h2o", "snapkv",
 * "subgen"): RADAR_ERR_CONFIG.  A wish to stop ends it between passes of a chunk, with RADAR_ERR_STOPPED and what is filled kept. */
radar_status radar_session_fill(radar_session *s, size_t n, radar_filler *each, void *user);

/* What forward passes, and the sampling after them, spent on one kind of work since radar_profile_reset. */
typedef struct radar_phase {
    /* "matmul Q4_1" (one for each type of weights), "small ops" (norms, rope, gates, sums), "append", "seal", "query" (prepared for the
     * scorer), "scan", "top-k", "attend", "weigh", "merge", "coverage" (mass of what was not chosen), "exchange X1 qkv", ...,
     * "sample", "other" */
    const char *name;
    double seconds; /* of this rank's clock; exchanges: waiting for the other ranks included */
    double
        bytes; /* weights, summaries, keys and values read; exchanges: received; 0: not counted */
    int64_t calls; /* of "other": forward passes */
} radar_phase;
/* [this rank] *phase is owned by the engine and valid until the next call of radar_profile or radar_profile_reset; *n is 0 before
 * the first pass after a reset.  Only phases that occurred are listed.  They and what lies between them, the last one, "other",
 * add up to the time of radar_prefill, radar_step and radar_score without the caller's own functions. */
void radar_profile(radar_engine *e, const radar_phase **phase, size_t *n);
/* [this rank] Starts a profile, or starts it anew.  It costs 1 to 2 % of a step of a small model; without this call nothing is timed. */
void radar_profile_reset(radar_engine *e);
/* [all ranks] Bytes a second that this rank's threads read memory that no cache holds with, while all ranks do so: the median of
 * some passes over `bytes` of it on each; 0 where a rank has no memory for it.  Ranks of one machine share what it has: its
 * bandwidth is the sum of theirs. */
double radar_read_bandwidth(radar_engine *e, size_t bytes);

/* What a session takes on one rank, in bytes. */
typedef struct radar_rank_memory {
    size_t size;
    uint64_t weights;   /* this rank's share of the model */
    uint64_t workspace; /* of forward passes */
    uint64_t kv, summaries;
    uint64_t lists; /* what rows attend to, and the scratch of choosing */
    uint64_t state; /* what the attention remembers beside the cache */
    /* read by one decode step at the last position: weights, what is scored, keys and values */
    uint64_t step_weights, step_scored, step_attended;
} radar_rank_memory;

/* ---- planning: from the model's metadata alone, before an engine ---- */

typedef struct radar_planner radar_planner;
/* [this rank] For `ranks` ranks, whoever calls.  On failure *out is NULL and error, when not NULL, holds the line that says why. */
radar_status radar_planner_open(radar_planner **out, const radar_engine_options *opt, int ranks,
                                char *error, size_t error_bytes);
void radar_planner_close(radar_planner *p); /* [this rank] NULL is fine */
void radar_planner_info(const radar_planner *p,
                        radar_model_info *info); /* [this rank] info->size set by the caller */
/* [this rank] What a session of rank `rank` would take; m->size set by the caller.  The text of an error is radar_planner_error's. */
radar_status radar_planner_session(radar_planner *p, const radar_session_options *opt, int rank,
                                   radar_rank_memory *m);
const char *radar_planner_error(const radar_planner *p); /* [this rank] */
/* [this rank] Bytes a second that the threads of opt read memory with, as radar_read_bandwidth measures it; 0: not known. */
double radar_planner_bandwidth(radar_planner *p, size_t bytes);

typedef struct radar_session_stats {
    size_t size;
    int64_t context, position;
    int64_t steps;               /* rows under the session's attention (radar_step, radar_score) */
    int64_t segments_scored;     /* over all layers, KV heads and steps */
    int64_t scored_bytes;        /* of summaries, or keys, read for that */
    double attended_tokens_mean; /* tokens read per step, mean over layers and KV heads */
    /* estimated share of the softmax mass attended, over steps, layers, query heads; 1 where nothing was left out and where the
     * attention makes no estimate (all but radar) */
    double coverage_mean, coverage_min;
    int candidate_shards; /* the most shards that had candidates in one selection */
    int ranks;
    const uint64_t *kv_bytes, *summary_bytes; /* [ranks] reserved; owned by the session */
    double exchange_s;     /* this rank's time in exchanges since the engine was opened */
    double exchange_bytes; /* received by this rank */
    /* tokens that a query of radar_prefill attended to, mean over queries, layers and KV heads since the cache was empty: half of
     * the prompt where it was dense */
    double prefill_attended_tokens_mean;
} radar_session_stats;
/* [all ranks] stats->size set by the caller. */
radar_status radar_stats(radar_session *s, radar_session_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
