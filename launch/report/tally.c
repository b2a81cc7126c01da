#include "launch/report/tally.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void tally_add(tally *t, double value) {
    if (!isfinite(value)) return;
    t->n++;
    t->sum += value;
    t->squares += value * value;
}

double tally_mean(const tally *t) { return t->n > 0 ? t->sum / (double)t->n : NAN; }

double tally_error(const tally *t) {
    if (t->n < 2) return NAN;
    const double n = (double)t->n, variance = (t->squares - t->sum * t->sum / n) / (n - 1);
    return isnan(variance) ? NAN : sqrt(fmax(variance, 0) / n);
}

/* ---- beside dense ---- */

static bool same(const eval_row *a, const eval_row *b, const char *key) {
    const json_t *x = row_value(a, key), *y = row_value(b, key);
    return x == y || (x != NULL && y != NULL && json_equal(x, y));
}

/* Both say it, and not the same. */
static bool other(const eval_row *a, const eval_row *b, const char *key) {
    return row_value(a, key) != NULL && row_value(b, key) != NULL && !same(a, b, key);
}

/* First scored position: "first", else where the first of the bins by position begins. */
static double first_position(const eval_row *row) {
    const double first = row_real(row, "first");
    if (!isnan(first)) return first;
    return json_number(json_item(json_item(row_value(row, "by_position"), 0), 0));
}

const eval_row *dense_of(const row_list *rows, const eval_row *row) {
    const double first = first_position(row);
    for (int i = 0; i < rows->n; i++) {
        const eval_row *dense = &rows->row[i];
        if (!method_is_dense(dense) || !same(dense, row, "text") || !same(dense, row, "length"))
            continue;
        const double its = first_position(dense);
        const bool here = its == first || (isnan(its) && isnan(first));
        if (here && same(dense, row, "fingerprint") && same(dense, row, "part") &&
            !other(dense, row, "text_hash") && !other(dense, row, "kv_type") &&
            !other(dense, row, "precision"))
            return dense;
    }
    return NULL;
}

static double mean_above(const eval_row *row, const eval_row *dense) {
    return row_real(row, "nll_mean") - row_real(dense, "nll_mean");
}

bool tally_above_dense(tally *t, const row_list *rows, const eval_row *row) {
    const eval_row *dense = dense_of(rows, row);
    if (dense == NULL) return false;
    const double above = mean_above(row, dense), tokens = row_real(row, "tokens");
    tally pairs = {.squares = 0};
    const bool paired = row->n_nll > 0 && row->n_nll == dense->n_nll;
    for (int64_t i = 0; paired && i < row->n_nll; i++)
        tally_add(&pairs, row->nll[i] - dense->nll[i]);
    const bool all = paired && !(tokens > (double)row->n_nll);
    if (!all && !isnan(above)) {
        /* The mean is of more tokens than there are losses of: theirs is the spread. */
        const double n = tokens >= 1 ? floor(tokens) : 1, spread = tally_error(&pairs);
        const double variance = spread * spread * (double)pairs.n * (n > 1 ? (n - 1) / n : 1);
        pairs = (tally){(int64_t)n, n * above, n * (variance + above * above)};
    } else if (!paired)
        return false;
    t->n += pairs.n;
    t->sum += pairs.sum;
    t->squares += pairs.squares;
    return true;
}

double power_law(const svg_point *point, int n) {
    double x = 0, y = 0, xx = 0, xy = 0, count = 0;
    for (int i = 0; i < n; i++) {
        if (!(point[i].x > 0) || !(point[i].y > 0)) continue;
        count++;
        x += log(point[i].x);
        y += log(point[i].y);
    }
    for (int i = 0; i < n; i++) {
        if (!(point[i].x > 0) || !(point[i].y > 0)) continue;
        const double dx = log(point[i].x) - x / count;
        xx += dx * dx;
        xy += dx * (log(point[i].y) - y / count);
    }
    return xx > 1e-12 ? xy / xx : NAN;
}

/* ---- what most rows have ---- */

static double length_of(const eval_row *row) { return row_real(row, "length"); }

static double commonest(const row_list *rows, double (*of)(const eval_row *),
                        double (*among)(const eval_row *)) {
    enum { VALUES = 256 };
    struct {
        double value;
        int n;
    } seen[VALUES];
    int n = 0;
    double best = NAN;
    for (int i = 0; i < rows->n; i++) {
        const eval_row *row = &rows->row[i];
        const bool counts = !method_is_dense(row) && (among == NULL || !isnan(among(row)));
        const double v = counts ? of(row) : NAN;
        int k = 0;
        while (k < n && seen[k].value != v) k++;
        if (isnan(v) || k == VALUES) continue;
        if (k == n) seen[n].value = v, seen[n++].n = 0;
        seen[k].n++;
    }
    for (int most = 0, k = 0; k < n; k++)
        if (seen[k].n > most || (seen[k].n == most && seen[k].value > best))
            most = seen[k].n, best = seen[k].value;
    return best;
}

double common_length(const row_list *rows, double (*of)(const eval_row *)) {
    return commonest(rows, length_of, of);
}
double common_budget(const row_list *rows) { return commonest(rows, method_budget, NULL); }

/* ---- by series and x ---- */

tally_place *tally_place_at(tally_map *map, const char *name, double x) {
    if (!isfinite(x)) return NULL;
    for (int i = 0; i < map->n; i++)
        if (map->place[i].x == x && strncmp(map->place[i].name, name, METHOD_NAME - 1) == 0)
            return &map->place[i];
    if (map->n == PLACES) {
        map->left_out++;
        return NULL;
    }
    tally_place *p = &map->place[map->n++];
    *p = (tally_place){.x = x};
    snprintf(p->name, sizeof p->name, "%s", name);
    return p;
}

tally *tally_at(tally_map *map, const char *name, double x) {
    tally_place *p = tally_place_at(map, name, x);
    return p != NULL ? &p->t : NULL;
}

void tally_chart(svg_chart *c, const tally_map *map, bool errors) {
    for (int i = 0; i < map->n; i++) {
        const tally_place *p = &map->place[i];
        const double x = p->at.n > 0 ? tally_mean(&p->at) : p->x;
        svg_add(c, p->name, x, tally_mean(&p->t), errors ? tally_error(&p->t) : NAN);
    }
    c->left_out += map->left_out;
}
