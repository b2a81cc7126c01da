/* Whole decodes: CUDA beside the CPU, run to run, with graphs and without, over ranks that are threads of this process and share
 * its GPU.  local alone|ranks|all SETTING|all PROMPT STEPS MODEL...: tokens of the prompt, which are random, and behind it; "alone":
 * one rank, "ranks": several. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine.h"

#define MOST_RANKS 4
/* Logits, CUDA to CPU, relative; and where the GPU keeps weights as bf16 that are stored finer. */
#define CLOSE 2e-3
#define ROUNDED_CLOSE 2e-2

/* One decode; forced: tokens that are fed instead of the likeliest. */
typedef struct decode {
    const char *model, *backend, *precision, *kv_type, *weights, *scorer, *attention, *scan;
    int ranks, no_graphs;
    int64_t segment;
    int prompt, steps;
    const int32_t *forced; /* [steps] */
    int32_t *token;        /* [steps] rank 0's */
    float *logits;         /* [steps, vocab] rank 0's */
    int vocab;
    double close;
    char error[512];
} decode;

typedef struct rank_thread {
    pthread_t thread;
    decode *d;
    radar_comm *comm;
} rank_thread;

static int bad;

static const char *tail_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void line(const char *name, double value, const char *unit, const char *verdict) {
    bad += strcmp(verdict, "bad") == 0;
    printf("%s\t%.3g\t%s\t%s\n", name, value, unit, verdict);
    fflush(stdout);
}

/* ---- one decode ---- */

static int likeliest(const float *logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static radar_status prefill(radar_session *s, const decode *d, int vocab) {
    int32_t *token = calloc((size_t)d->prompt, sizeof *token);
    for (int i = 0; i < d->prompt; i++)
        token[i] = (int32_t)(radar_random(3, 1, (uint64_t)i) % (uint64_t)vocab);
    const radar_status st = radar_prefill(s, token, (size_t)d->prompt);
    free(token);
    return st;
}

/* Each step's logits and token; all ranks have the same. */
static radar_status steps(radar_session *s, decode *d, int vocab, bool keep) {
    radar_status st = prefill(s, d, vocab);
    for (int i = 0; i < d->steps && st == RADAR_OK; i++) {
        const float *logits = radar_logits(s);
        const int32_t token = d->forced ? d->forced[i] : likeliest(logits, vocab);
        if (keep) {
            d->token[i] = likeliest(logits, vocab);
            memcpy(d->logits + (size_t)i * (size_t)vocab, logits, (size_t)vocab * sizeof *logits);
        }
        st = radar_score(s, &token, 1, NULL);
    }
    return st;
}

static radar_session_options session_options(const decode *d) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = d->prompt + d->steps + 64;
    opt.kv_type = d->kv_type;
    opt.attention = d->attention;
    opt.scorer = d->scorer;
    opt.scan = d->scan;
    opt.segment = d->segment;
    opt.dense_below = 0;
    opt.window = 64;
    opt.budget = 64;
    return opt;
}

static bool rounded(radar_dtype type) {
    return type != RADAR_F16 && type != RADAR_BF16 && type != RADAR_Q8_0 && type != RADAR_Q4_0 &&
           type != RADAR_Q4_1;
}

static void *run_rank(void *data) {
    rank_thread *r = data;
    decode *d = r->d;
    radar_engine *e = NULL;
    radar_session *s = NULL;
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    const radar_session_options session = session_options(d);
    const bool first = r->comm->rank == 0;
    char error[512] = "";
    opt.model = d->model;
    opt.backend = d->backend;
    opt.precision = d->precision;
    opt.weights = d->weights;
    opt.exchange = "staged";
    opt.device = 0;
    opt.no_graphs = d->no_graphs;
    opt.threads = 1;
    opt.shards = MOST_RANKS;
    opt.stripe = 64;
    radar_status st = radar_engine_open_on(&e, r->comm, &opt, error, sizeof error);
    if (st == RADAR_OK) st = radar_session_open(&s, e, &session);
    if (st == RADAR_OK) {
        const int vocab = e->model->config.vocab;
        if (first) d->vocab = vocab;
        if (first) d->close = rounded(e->model->layer[0].q.type) ? ROUNDED_CLOSE : CLOSE;
        if (first) d->logits = calloc((size_t)d->steps * (size_t)vocab, sizeof *d->logits);
        if (first) d->token = calloc((size_t)d->steps, sizeof *d->token);
        st = steps(s, d, vocab, first);
    }
    if (st != RADAR_OK && first)
        snprintf(d->error, sizeof d->error, "%s", e ? radar_last_error(e) : error);
    radar_session_close(s);
    radar_engine_close(e);
    return NULL;
}

static bool run(decode *d) {
    radar_comm *comm[MOST_RANKS];
    rank_thread rank[MOST_RANKS];
    radar_error err = {0};
    if (radar_comm_local(comm, d->ranks, NULL, &err) != RADAR_OK) {
        snprintf(d->error, sizeof d->error, "%s", err.text);
        return false;
    }
    for (int r = 0; r < d->ranks; r++) {
        rank[r] = (rank_thread){.d = d, .comm = comm[r]};
        if (pthread_create(&rank[r].thread, NULL, run_rank, &rank[r]) != 0) exit(71);
    }
    for (int r = 0; r < d->ranks; r++) pthread_join(rank[r].thread, NULL);
    return d->error[0] == 0;
}

static void forget(decode *d) {
    free(d->token);
    free(d->logits);
}

/* ---- beside each other ---- */

static void expect_bits(const char *name, const decode *a, const decode *b) {
    const bool same =
        memcmp(a->logits, b->logits, (size_t)a->steps * (size_t)a->vocab * sizeof *a->logits) == 0;
    line(name, same, "same bits", same ? "ok" : "bad");
}

static double apart(const float *want, const float *got, int n) {
    double miss = 0, size = 0;
    for (int i = 0; i < n; i++) {
        miss += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    return sqrt(miss / size);
}

/* The other token is as likely, as near as the two sides agree. */
static bool near_tie(const float *want, int a, int b, double close) {
    return fabs((double)want[a] - (double)want[b]) <= 2 * close * fabs((double)want[a]);
}

static void expect_near(const char *name, const decode *cpu, const decode *cuda) {
    double worst = 0;
    bool same = true;
    for (int i = 0; i < cpu->steps; i++) {
        const float *want = cpu->logits + (size_t)i * (size_t)cpu->vocab;
        const double off = apart(want, cuda->logits + (size_t)i * (size_t)cpu->vocab, cpu->vocab);
        worst = off <= worst ? worst : off;
        same &= cpu->token[i] == cuda->token[i] ||
                near_tie(want, cpu->token[i], cuda->token[i], cpu->close);
    }
    line(name, worst, "relative", worst <= cpu->close && same ? "ok" : "bad");
    if (!same) printf("# %s: other tokens\n", name);
}

/* The CPU's ranks can be threads too. */
static void cpu_ranks(const char *what, const decode *one) {
    decode all = *one;
    char name[160];
    all.token = NULL, all.logits = NULL;
    all.forced = one->token;
    all.ranks = MOST_RANKS;
    snprintf(name, sizeof name, "%s: CPU, %d ranks", what, MOST_RANKS);
    if (run(&all))
        expect_bits(name, one, &all);
    else
        line(name, 0, "runs", "bad");
    forget(&all);
}

static const char *only; /* NULL: every setting */
static const char *runs; /* "alone", "ranks", "all" */

/* All runs of one setting. */
static void setting(const char *name_of, decode d) {
    static const struct {
        const char *name;
        int ranks, no_graphs;
    } again[] = {{"again", 1, 0}, {"without graphs", 1, 1}, {"2 ranks", 2, 0}, {"4 ranks", 4, 0}};
    decode cpu = d, cuda;
    char what[100], name[160];
    if (only && strcmp(only, name_of) != 0) return;
    snprintf(what, sizeof what, "%.60s, %s", tail_of(d.model), name_of);
    cpu.backend = "cpu";
    cpu.ranks = 1;
    if (!strcmp(d.kv_type, "fp8")) cpu.kv_type = "bf16";
    if (!run(&cpu)) {
        printf("# %s on the CPU: %s\n", what, cpu.error);
        line(what, 0, "runs", "bad");
        return;
    }
    if (strcmp(runs, "alone") != 0) cpu_ranks(what, &cpu);
    cuda = d;
    cuda.backend = "cuda";
    cuda.ranks = 1;
    cuda.forced = cpu.token;
    if (!run(&cuda)) {
        printf("# %s: %s\n", what, cuda.error);
        line(what, 0, "runs", "bad");
    } else {
        snprintf(name, sizeof name, "%s: CUDA beside CPU", what);
        if (!strcmp(d.precision, "exact") && strcmp(runs, "ranks") != 0)
            expect_near(name, &cpu, &cuda);
        for (size_t i = 0; i < sizeof again / sizeof again[0]; i++) {
            decode other = cuda;
            if (!strcmp(runs, again[i].ranks > 1 ? "alone" : "ranks")) continue;
            other.token = NULL, other.logits = NULL;
            other.ranks = again[i].ranks, other.no_graphs = again[i].no_graphs;
            snprintf(name, sizeof name, "%s: %s", what, again[i].name);
            if (run(&other))
                expect_bits(name, &cuda, &other);
            else {
                printf("# %s: %s\n", name, other.error);
                line(name, 0, "runs", "bad");
            }
            forget(&other);
        }
    }
    forget(&cuda);
    forget(&cpu);
}

static bool has_cuda(void) {
    const radar_backend_options opt = {.n_threads = 1, .max_rows = 1, .max_cols = 1};
    radar_error err = {0};
    radar_backend *be = NULL;
    if (strcmp(radar_backends[0]->name, "cuda") != 0) {
        printf("# skipped: this build has no CUDA\n");
        return false;
    }
    if (radar_backends[0]->open(&be, &opt, &err) != RADAR_OK) {
        printf("# skipped: %s\n", err.text);
        return false;
    }
    be->ops->close(be);
    return true;
}

static void settings(const decode *exact) {
    decode d = *exact;
    d.attention = "dense";
    setting("dense", d);
    setting("sketch", *exact);
    d = *exact, d.scan = "progressive";
    setting("progressive", d);
    d = *exact, d.scorer = "mean", d.segment = -1;
    setting("mean", d);
    d = *exact, d.precision = "fast", d.kv_type = "fp8";
    setting("fp8 cache", d);
    d = *exact, d.precision = "fast", d.weights = "fp8";
    setting("fp8 weights", d);
}

int main(int n, char **arg) {
    if (n < 6 || atoi(arg[3]) < 1 || atoi(arg[4]) < 1) {
        fprintf(stderr, "local alone|ranks|all SETTING|all PROMPT STEPS MODEL...\n");
        return 64;
    }
    if (!has_cuda()) return 0;
    runs = arg[1];
    only = strcmp(arg[2], "all") == 0 ? NULL : arg[2];
    for (int i = 5; i < n; i++) {
        const decode exact = {.model = arg[i],
                              .precision = "exact",
                              .kv_type = "bf16",
                              .weights = "stored",
                              .attention = "radar",
                              .scorer = "sketch",
                              .scan = "full",
                              .segment = 16,
                              .prompt = atoi(arg[3]),
                              .steps = atoi(arg[4])};
        settings(&exact);
    }
    return bad != 0;
}
