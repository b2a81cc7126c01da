/* radar eval stats: what a model's heads look like on a text, under dense attention: norms, spread of logits, entropy, and where
 * the mass lies. */
#include <string.h>

#include "launch/eval/figures.h"
#include "launch/eval/watch.h"
#include "runtime/sys.h"

enum { TAIL = 64 };

typedef struct looking {
    eval_span span;
    int L, H, G, D;
    float *q;              /* [rows, L, H, D], rank 0 */
    int64_t *position;     /* [rows], rank 0 */
    double *weight;        /* [end], rank 0 */
    eval_head_stats *head; /* [L, H], rank 0 */
    float *key;            /* [end, D] */
} looking;

static void note(void *user, const radar_observation *o) {
    looking *s = user;
    const size_t layer = (size_t)s->H * (size_t)s->D,
                 row = (size_t)eval_span_row(&s->span, o->position);
    s->position[row] = o->position;
    memcpy(s->q + (row * (size_t)s->L + (size_t)o->layer) * layer, o->q, layer * sizeof *s->q);
}

static radar_status reserve(looking *s, launch_job *job) {
    const size_t heads = (size_t)s->L * (size_t)s->H, rows = (size_t)s->span.rows;
    bool ok = true;
    s->key = radar_alloc_array((size_t)s->span.end, (size_t)s->D * sizeof *s->key);
    if (job->world->rank == 0) {
        s->q = radar_alloc_array(rows, heads * (size_t)s->D * sizeof *s->q);
        s->position = radar_alloc_array(rows, sizeof *s->position);
        s->weight = radar_alloc_array((size_t)s->span.end, sizeof *s->weight);
        s->head = radar_alloc_array(heads, sizeof *s->head);
        ok = s->q && s->position && s->weight && s->head;
    }
    if (!ok || !s->key)
        radar_fail(&job->err, RADAR_ERR_MEMORY,
                   "no memory for %d rows of %lld tokens; use a "
                   "smaller --tail or --length",
                   s->span.rows, (long long)s->span.end);
    return launch_agree(job);
}

static void release(looking *s) {
    radar_free(s->q);
    radar_free(s->position);
    radar_free(s->weight);
    radar_free(s->head);
    radar_free(s->key);
}

/* [all ranks] */
static radar_status look_at_keys(looking *s, launch_job *job) {
    const size_t stride = (size_t)s->L * (size_t)s->H * (size_t)s->D;
    const int group = s->H / s->G;
    for (int l = 0; l < s->L; l++) {
        for (int g = 0; g < s->G; g++) {
            const radar_status st =
                radar_session_read(job->session, l, g, 0, s->span.end, s->key, NULL);
            if (st != RADAR_OK) return launch_library_failed(job, st);
            for (int h = g * group; h < (g + 1) * group && job->world->rank == 0; h++) {
                const size_t head = (size_t)l * (size_t)s->H + (size_t)h;
                eval_head_look(&s->head[head], s->q + head * (size_t)s->D, stride, s->position,
                               s->span.rows, s->key, s->span.end, s->D, job->opt->window,
                               s->weight);
            }
        }
        launch_progress_show(&job->progress, "keys", l + 1, s->L);
    }
    return RADAR_OK;
}

/* ---- the row ---- */

static void write_means(const looking *s, json_t *row) {
    json_t *all = json_object();
    for (int f = 0; f < EVAL_STATS; f++) {
        json_t *layers = json_array();
        double sum = 0;
        for (int l = 0; l < s->L; l++) {
            json_t *heads = json_array();
            for (int h = 0; h < s->H; h++) {
                const double mean = s->head[l * s->H + h].mean[f];
                json_array_append_new(heads, eval_real(mean));
                sum += mean / ((double)s->L * s->H);
            }
            json_array_append_new(layers, heads);
        }
        json_object_set_new(row, eval_stats_name[f], eval_real(sum));
        json_object_set_new(all, eval_stats_name[f], layers);
    }
    json_object_set_new(row, "layer_head", all);
}

/* Over all layers and heads, or those that --layer and --head name. */
static void write_histogram(const looking *s, const launch_options *o, json_t *row) {
    enum { BINS = -EVAL_LN_LOW };
    double tokens[BINS] = {0}, mass[BINS] = {0};
    int n = 0;
    for (int i = 0; i < s->L * s->H; i++) {
        if (o->layer != LAUNCH_UNSET && i / s->H != o->layer) continue;
        if (o->head != LAUNCH_UNSET && i % s->H != o->head) continue;
        n++;
        for (int b = 0; b < BINS; b++)
            tokens[b] += s->head[i].tokens[b], mass[b] += s->head[i].mass[b];
    }
    json_t *of_tokens = json_array(), *of_mass = json_array();
    for (int b = 0; b < BINS; b++) {
        json_array_append_new(of_tokens, eval_real(tokens[b] / n));
        json_array_append_new(of_mass, eval_real(mass[b] / n));
    }
    json_object_set_new(row, "histogram",
                        json_pack("{s:i,s:i,s:o,s:o}", "low", EVAL_LN_LOW, "width", 1, "tokens",
                                  of_tokens, "mass", of_mass));
}

static radar_status emit(eval_context *c, const looking *s) {
    launch_json row = {0};
    if (c->job->world->rank == 0) {
        row = eval_row(c, "");
        launch_json_set(&row, "positions",
                        json_pack("[I,I]", (json_int_t)s->span.first, (json_int_t)s->span.end - 1));
        launch_json_int(&row, "rows", s->span.rows);
        write_means(s, row.object);
        write_histogram(s, c->job->opt, row.object);
    }
    return eval_emit(c, &row);
}

static radar_status run(eval_context *c) {
    const radar_model_info *m = &c->job->info;
    looking s = {.L = m->layers, .H = m->heads, .G = m->kv_heads, .D = m->head_dim};
    if (!eval_wanted(c, "")) return RADAR_OK;
    radar_status st = eval_span_open(c, TAIL, &s.span);
    if (st != RADAR_OK) return st;
    st = reserve(&s, c->job);
    if (st == RADAR_OK) st = eval_watch(c, &s.span, true, note, &s);
    if (st == RADAR_OK) st = look_at_keys(&s, c->job);
    if (st == RADAR_OK) st = emit(c, &s);
    release(&s);
    return st;
}

static const char *const columns[] = {
    "q_norm2",          "k_norm2",          "k_norm2_centred", "logit_sd",
    "effective_tokens", "first_token_mass", "window_mass",     NULL};

const eval_kind eval_stats = {.name = "stats", .needs_text = true, .run = run, .columns = columns};
