/* Recall and what it is worth, by layer, head and position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval/figures.h"
#include "runtime/sys.h"

const char *const eval_figure_name[EVAL_FIGURES] = {
    "recall", "hit1", "hit3", "mass_best", "list_mass", "list_mass_best", "mass", "error"};

/* The rows of the heat map, of all layers and heads, may take this much. */
#define HEAT_BYTES ((size_t)96 << 20)

/* ---- memory ---- */

static int heat_rows(size_t pairs, size_t most, int64_t rows) {
    size_t row = pairs * most * (sizeof(float) + 1) + 1, fit = HEAT_BYTES / row;
    return (int)radar_max64(1, radar_min64(radar_min64((int64_t)fit, EVAL_HEAT_ROWS), rows));
}

static bool open_heat(eval_recall_figures *r, int64_t rows) {
    eval_heat *h = &r->heat;
    size_t most = (size_t)r->most, pairs = (size_t)r->layers * (size_t)r->heads;
    if (r->layer >= 0 && r->head >= 0) pairs = 1;
    h->pairs = (int)pairs;
    h->most_rows = heat_rows(pairs, most, rows);
    h->step = radar_ceil_div(rows, h->most_rows);
    size_t kept = pairs * (size_t)h->most_rows;
    h->position = radar_alloc_array((size_t)h->most_rows, sizeof *h->position);
    h->n = radar_alloc_array((size_t)h->most_rows, sizeof *h->n);
    h->share = radar_alloc_array(kept, most * sizeof *h->share);
    h->always = radar_alloc_array(kept, sizeof *h->always);
    h->chosen = radar_alloc_array(kept, most);
    return h->position && h->n && h->share && h->always && h->chosen;
}

radar_status eval_recall_open(eval_recall_figures *r, radar_error *err) {
    size_t heads = (size_t)r->heads;
    r->most = r->end / 16 + 1;
    r->pair = radar_alloc_array((size_t)r->layers * heads, sizeof *r->pair);
    r->bin = radar_alloc_array((size_t)r->layers, EVAL_BINS * sizeof *r->bin);
    r->share = radar_alloc_array((size_t)r->most, heads * sizeof *r->share);
    r->best = radar_alloc_array((size_t)r->most, heads);
    r->key = radar_alloc_array((size_t)r->most, sizeof *r->key);
    bool ok = open_heat(r, radar_max64(1, (r->end - 1) / r->every - (r->first - 1) / r->every));
    if (ok && r->pair && r->bin && r->share && r->best && r->key) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "no memory for the masses of %lld segments; use a shorter text",
                      (long long)r->most);
}

void eval_recall_close(eval_recall_figures *r) {
    void *const all[] = {r->pair,        r->bin,           r->share,  r->best,
                         r->key,         r->heat.position, r->heat.n, r->heat.share,
                         r->heat.always, r->heat.chosen};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) radar_free(all[i]);
    *r = (eval_recall_figures){0};
}

/* ---- one observation ---- */

/* Integers in the order of f, which is no NaN. */
static uint32_t ordered(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

static int descending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Marks the k largest of mass[n], of equal ones the first. */
static void mark_best(unsigned char *best, const float *mass, int64_t n, int64_t k, uint64_t *key) {
    for (int64_t i = 0; i < n; i++)
        key[i] = (uint64_t)ordered(mass[i]) << 32 | (0xffffffffu - (uint32_t)i);
    qsort(key, (size_t)n, sizeof *key, descending);
    memset(best, 0, (size_t)n);
    for (int64_t i = 0; i < k && i < n; i++) best[0xffffffffu - (uint32_t)key[i]] = 1;
}

/* How many of x come before x[at]: larger ones, and equal ones in front of it.  NaN comes last. */
static int64_t rank_of(const float *x, int64_t n, int64_t at) {
    int64_t rank = 0;
    if (isnan(x[at])) return n;
    for (int64_t i = 0; i < n; i++) rank += x[i] > x[at] || (x[i] == x[at] && i < at);
    return rank;
}

static double relative_error(const float *got, const float *want, int D) {
    double difference = 0, length = 0;
    for (int d = 0; d < D; d++) {
        double e = (double)got[d] - (double)want[d];
        difference += e * e;
        length += (double)want[d] * (double)want[d];
    }
    return length > 0 ? sqrt(difference / length) : 0;
}

/* The share of the mass that is in no candidate or in those that are flagged: for the head, or for any head of its group. */
static double share_of(const eval_recall_figures *r, const radar_observation *o, int head,
                       const unsigned char *flags, bool own) {
    int group = o->heads / o->kv_heads, from = own ? head : head / group * group,
        to = own ? head + 1 : from + group;
    const double *share = r->share + (size_t)head * (size_t)r->most;
    double left_out = 0;
    for (int64_t c = 0; c < o->candidates; c++) {
        int in = 0;
        for (int h = from; h < to; h++) in |= flags[(size_t)h * (size_t)o->candidates + (size_t)c];
        if (!in) left_out += share[c];
    }
    return 1 - left_out;
}

static void judge_scored(eval_recall_figures *r, const radar_observation *o, int head,
                         double out[EVAL_FIGURES]) {
    size_t at = (size_t)head * (size_t)o->candidates;
    int64_t found = 0, heaviest = 0;
    for (int64_t c = 1; c < o->candidates; c++)
        if (o->exact[at + (size_t)c] > o->exact[at + (size_t)heaviest]) heaviest = c;
    int64_t rank = rank_of(o->estimate + at, o->candidates, heaviest);
    for (int64_t c = 0; c < o->candidates; c++)
        found += r->best[at + (size_t)c] && o->chosen[at + (size_t)c];
    out[EVAL_RECALL] = (double)found / (double)radar_min64(o->keep, o->candidates);
    out[EVAL_HIT1] = rank < 1;
    out[EVAL_HIT3] = rank < 3;
    out[EVAL_MASS_BEST] = share_of(r, o, head, r->best, r->share_head);
    out[EVAL_LIST] = share_of(r, o, head, o->chosen, true);
    out[EVAL_LIST_BEST] = share_of(r, o, head, r->best, true);
}

static void add_to(eval_sums *s, const double figure[EVAL_FIGURES], bool scored) {
    for (int f = scored ? 0 : EVAL_SCORED; f < EVAL_FIGURES; f++) s->sum[f] += figure[f];
    s->rows++;
    s->scored += scored;
}

static void count_unions(eval_recall_figures *r, const radar_observation *o) {
    int group = o->heads / o->kv_heads;
    for (int g = 0; g < o->kv_heads; g++) {
        for (int64_t c = 0; c < o->candidates; c++) {
            int64_t heads = 0;
            for (int h = g * group; h < (g + 1) * group; h++)
                heads += o->chosen[(size_t)h * (size_t)o->candidates + (size_t)c];
            r->chosen += heads;
            r->unions += heads > 0;
        }
        r->n_unions++;
        r->n_lists += group;
    }
}

static void keep_heat(eval_recall_figures *r, const radar_observation *o) {
    eval_heat *heat = &r->heat;
    int64_t row = o->position / r->every - (r->first - 1 + r->every) / r->every;
    if (row % heat->step || row / heat->step >= heat->most_rows) return;
    int at = (int)(row / heat->step);
    heat->rows = at + 1 > heat->rows ? at + 1 : heat->rows;
    heat->position[at] = o->position;
    heat->n[at] = o->candidates;
    for (int h = 0; h < o->heads; h++) {
        if (heat->pairs == 1 && (o->layer != r->layer || h != r->head)) continue;
        size_t pair = heat->pairs == 1 ? 0 : (size_t)o->layer * (size_t)o->heads + (size_t)h;
        size_t kept = pair * (size_t)heat->most_rows + (size_t)at;
        const double *share = r->share + (size_t)h * (size_t)r->most;
        double all = 0;
        for (int64_t c = 0; c < o->candidates; c++) {
            heat->share[kept * (size_t)r->most + (size_t)c] = (float)share[c];
            all += share[c];
        }
        heat->always[kept] = (float)(1 - all);
        memcpy(heat->chosen + kept * (size_t)r->most, o->chosen + (size_t)h * (size_t)o->candidates,
               (size_t)o->candidates);
    }
}

void eval_recall_add(eval_recall_figures *r, const radar_observation *o) {
    const bool scored = o->candidates > 0;
    int64_t span = r->end - r->first, bin = (o->position - r->first) * EVAL_BINS / span;
    for (int h = 0; scored && h < o->heads; h++) {
        size_t at = (size_t)h * (size_t)o->candidates;
        mark_best(r->best + at, o->exact + at, o->candidates, o->keep, r->key);
        for (int64_t c = 0; c < o->candidates; c++)
            r->share[(size_t)h * (size_t)r->most + (size_t)c] =
                exp((double)o->exact[at + (size_t)c] - (double)o->dense_mass[h]);
    }
    for (int h = 0; h < o->heads; h++) {
        double figure[EVAL_FIGURES] = {0};
        size_t at = (size_t)h * (size_t)o->head_dim;
        if (scored) judge_scored(r, o, h, figure);
        figure[EVAL_MASS] = exp((double)o->mass[h] - (double)o->dense_mass[h]);
        figure[EVAL_ERROR] = relative_error(o->output + at, o->dense_output + at, o->head_dim);
        add_to(&r->pair[o->layer * r->heads + h], figure, scored);
        add_to(&r->bin[o->layer * EVAL_BINS + bin], figure, scored);
    }
    if (!scored) return;
    r->segment = o->segment, r->first_candidate = o->first_candidate, r->keep = o->keep;
    count_unions(r, o);
    keep_heat(r, o);
}

/* ---- the row ---- */

static double mean_of(const eval_sums *s, int figure) {
    return s->sum[figure] / (double)(figure < EVAL_SCORED ? s->scored : s->rows);
}

static void write_layers(const eval_recall_figures *r, bool scored, json_t *row) {
    json_t *all = json_object();
    for (int f = scored ? 0 : EVAL_SCORED; f < EVAL_FIGURES; f++) {
        json_t *layers = json_array();
        for (int l = 0; l < r->layers; l++) {
            json_t *heads = json_array();
            for (int h = 0; h < r->heads; h++)
                json_array_append_new(heads, eval_real(mean_of(&r->pair[l * r->heads + h], f)));
            json_array_append_new(layers, heads);
        }
        json_object_set_new(all, eval_figure_name[f], layers);
    }
    json_object_set_new(row, "layer_head", all);
}

static void join(eval_sums *all, const eval_sums *part) {
    for (int f = 0; f < EVAL_FIGURES; f++) all->sum[f] += part->sum[f];
    all->rows += part->rows;
    all->scored += part->scored;
}

/* [first, last, recall, mass, error] of equal parts of the positions. */
static void write_positions(const eval_recall_figures *r, json_t *row) {
    json_t *all = json_array();
    int64_t span = r->end - r->first;
    for (int64_t b = 0; b < EVAL_BINS; b++) {
        int64_t first = r->first + radar_ceil_div(b * span, EVAL_BINS),
                last = r->first + radar_ceil_div((b + 1) * span, EVAL_BINS) - 1;
        eval_sums all_layers = {0};
        for (int l = 0; l < r->layers; l++) join(&all_layers, &r->bin[l * EVAL_BINS + b]);
        if (all_layers.rows == 0) continue;
        json_array_append_new(all, json_pack("[I,I,o,o,o]", (json_int_t)first, (json_int_t)last,
                                             eval_real(mean_of(&all_layers, EVAL_RECALL)),
                                             eval_real(mean_of(&all_layers, EVAL_MASS)),
                                             eval_real(mean_of(&all_layers, EVAL_ERROR))));
    }
    json_object_set_new(row, "by_position", all);
}

static bool asked_for(const eval_recall_figures *r, int pair) {
    return (r->layer < 0 || pair / r->heads == r->layer) &&
           (r->head < 0 || pair % r->heads == r->head);
}

/* The layer and head in the middle when they are ordered by recall: of those that were asked for. */
static int median_pair(const eval_recall_figures *r) {
    int all = r->layers * r->heads, n = 0;
    for (int i = 0; i < all; i++) n += asked_for(r, i);
    for (int i = 0; i < all; i++) {
        int before = 0;
        double mine = r->pair[i].sum[EVAL_RECALL];
        for (int j = 0; j < all; j++) {
            double other = r->pair[j].sum[EVAL_RECALL];
            before += asked_for(r, j) && (other < mine || (other == mine && j < i));
        }
        if (asked_for(r, i) && before == n / 2) return i;
    }
    return 0;
}

static json_t *heat_row(const eval_recall_figures *r, size_t kept, int64_t n, json_t *chosen) {
    json_t *mass = json_array(), *list = json_array();
    for (int64_t c = 0; c < n; c++) {
        size_t at = kept * (size_t)r->most + (size_t)c;
        json_array_append_new(mass, eval_real((double)r->heat.share[at]));
        if (r->heat.chosen[at]) json_array_append_new(list, json_integer(c));
    }
    json_array_append_new(chosen, list);
    return mass;
}

static void write_heat(const eval_recall_figures *r, json_t *row) {
    const eval_heat *heat = &r->heat;
    int pair = median_pair(r);
    size_t first = heat->pairs == 1 ? 0 : (size_t)pair * (size_t)heat->most_rows;
    if (heat->rows == 0) {
        json_object_set_new(row, "heat", json_null());
        return;
    }
    json_t *positions = json_array(), *mass = json_array(), *chosen = json_array(),
           *always = json_array(), *all = json_object();
    for (int i = 0; i < heat->rows; i++) {
        if (heat->n[i] == 0) continue;
        json_array_append_new(positions, json_integer(heat->position[i]));
        json_array_append_new(mass, heat_row(r, first + (size_t)i, heat->n[i], chosen));
        json_array_append_new(always, eval_real((double)heat->always[first + (size_t)i]));
    }
    json_object_set_new(all, "layer", json_integer(pair / r->heads));
    json_object_set_new(all, "head", json_integer(pair % r->heads));
    json_object_set_new(all, "segment", json_integer(r->segment));
    json_object_set_new(all, "first_candidate", json_integer(r->first_candidate));
    json_object_set_new(all, "positions", positions);
    json_object_set_new(all, "mass", mass);
    json_object_set_new(all, "chosen", chosen);
    json_object_set_new(all, "always", always);
    json_object_set_new(row, "heat", all);
}

void eval_recall_write(const eval_recall_figures *r, json_t *row) {
    eval_sums all = {0};
    for (int i = 0; i < r->layers * r->heads; i++) join(&all, &r->pair[i]);
    int64_t pairs = (int64_t)r->layers * r->heads;
    json_object_set_new(row, "rows", json_integer(all.rows / pairs));
    json_object_set_new(row, "rows_scored", json_integer(all.scored / pairs));
    json_object_set_new(row, "recall_mean", eval_real(mean_of(&all, EVAL_RECALL)));
    for (int f = EVAL_HIT1; f < EVAL_FIGURES; f++)
        json_object_set_new(row, eval_figure_name[f], eval_real(mean_of(&all, f)));
    json_object_set_new(row, "keep", r->keep ? json_integer(r->keep) : json_null());
    json_object_set_new(row, "list_tokens",
                        eval_real((double)(r->chosen * r->segment) / (double)r->n_lists));
    json_object_set_new(row, "union_tokens",
                        eval_real((double)(r->unions * r->segment) / (double)r->n_unions));
    write_layers(r, all.scored > 0, row);
    write_positions(r, row);
    write_heat(r, row);
}
