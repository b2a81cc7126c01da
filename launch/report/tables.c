#include "launch/report/tables.h"

#include <math.h>
#include <string.h>

#include "launch/report/tally.h"
#include "runtime/sys.h"

/* ---- cells ---- */

void table_begin(markup *m, const char *label, const char *const *heads) {
    markup_add(m, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"");
    markup_text(m, label);
    markup_add(m, "\"><table><thead><tr>");
    for (; *heads != NULL; heads++) {
        markup_add(m, "<th scope=\"col\">");
        markup_text(m, *heads);
        markup_add(m, "</th>");
    }
    markup_add(m, "</tr></thead><tbody>\n");
}

void table_end(markup *m, int shown, int all) {
    markup_add(m, "</tbody></table></div>\n");
    if (shown < all) markup_format(m, "<p class=\"absent\">%d of %d rows.</p>\n", shown, all);
}

void table_cell(markup *m, const char *text) {
    markup_add(m, "<td>");
    if (text != NULL) markup_text(m, text);
    markup_add(m, "</td>");
}

void table_number(markup *m, double v, int decimals) {
    char text[SVG_NUMBER];
    if (isnan(v))
        markup_add(m, "<td class=\"n\">-</td>");
    else if (decimals < 0)
        markup_format(m, "<td class=\"n\">%s</td>", svg_number(text, v));
    else
        markup_format(m, "<td class=\"n\">%.*f</td>", decimals, v);
}

/* ---- one row of figures per row of a kind ---- */

typedef struct column {
    const char *head, *key;
    int decimals;
} column;

/* Method and part, the columns, then what was read. */
static bool plain_table(markup *m, const char *label, const row_list *rows, const column *columns,
                        int n) {
    enum { MOST = 12 };
    const char *heads[MOST + 5] = {"method", "part"};
    if (rows->n == 0) return false;
    for (int k = 0; k < n; k++) heads[2 + k] = columns[k].head;
    heads[2 + n] = "tokens";
    heads[3 + n] = "text";
    table_begin(m, label, heads);
    const int shown = rows->n < TABLE_ROWS ? rows->n : TABLE_ROWS;
    for (int i = 0; i < shown; i++) {
        char name[METHOD_NAME];
        const eval_row *row = &rows->row[i];
        markup_add(m, "<tr>");
        table_cell(m, method_name(name, row, "|length|"));
        table_cell(m, row_text(row, "part"));
        for (int k = 0; k < n; k++)
            table_number(m, row_real(row, columns[k].key), columns[k].decimals);
        table_number(m, row_real(row, "length"), 0);
        table_cell(m, row_text(row, "text"));
        markup_add(m, "</tr>\n");
    }
    table_end(m, shown, rows->n);
    return true;
}

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

bool table_hits(markup *m, const eval_rows *rows) {
    static const column columns[] = {{"recall", "recall_mean", 3},
                                     {"hit@1", "hit1", 3},
                                     {"hit@3", "hit3", 3},
                                     {"mass covered", "mass", 3},
                                     {"best possible", "mass_best", 3},
                                     {"output error", "error", 4}};
    return plain_table(m, "Hit rates", &rows->of[ROW_RECALL], columns, COUNT(columns));
}

bool table_ruler(markup *m, const eval_rows *rows) {
    static const column columns[] = {{"exact", "exact", 2},
                                     {"loss per token, nats", "nll_per_token", 3}};
    return plain_table(m, "Tasks", &rows->of[ROW_RULER], columns, COUNT(columns));
}

bool table_calibrate(markup *m, const eval_rows *rows) {
    static const column columns[] = {{"bias", "bias", 4},
                                     {"median error", "error_median", 4},
                                     {"95 % below", "error_p95", 4},
                                     {"worst", "error_worst", 4}};
    return plain_table(m, "Errors of the coverage", &rows->of[ROW_CALIBRATE], columns,
                       COUNT(columns));
}

bool table_generate(markup *m, const eval_rows *rows) {
    static const column columns[] = {
        {"distinct 1", "distinct_1", 3},           {"distinct 2", "distinct_2", 3},
        {"distinct 3", "distinct_3", 3},           {"distinct 4", "distinct_4", 3},
        {"longest repeat", "longest_repeat", 0},   {"repetition", "repetition", 3},
        {"loss under dense, nats", "nll_dense", 3}};
    return plain_table(m, "Generation", &rows->of[ROW_GENERATE], columns, COUNT(columns));
}

/* ---- statistics over layers and heads ---- */

static void over_heads(const json_t *layers, tally *all, double *low, double *high) {
    *low = INFINITY, *high = -INFINITY;
    for (size_t l = 0; l < json_array_size(layers); l++)
        for (size_t h = 0; h < json_array_size(json_item(layers, l)); h++) {
            const double v = json_number(json_item(json_item(layers, l), h));
            if (isnan(v)) continue;
            tally_add(all, v);
            *low = fmin(*low, v), *high = fmax(*high, v);
        }
}

bool table_stats(markup *m, const eval_rows *all) {
    static const char *const heads[] = {"text", "tokens", "quantity", "least",
                                        "mean", "most",   NULL};
    static const char *const key[] = {"q_norm2",    "k_norm2",          "k_norm2_centred",
                                      "logit_sd",   "effective_tokens", "first_token_mass",
                                      "window_mass"};
    static const char *const says[] = {"|q|\xc2\xb2 / \xe2\x88\x9a"
                                       "d",
                                       "|k|\xc2\xb2 / \xe2\x88\x9a"
                                       "d",
                                       "|k|\xc2\xb2 / \xe2\x88\x9a"
                                       "d, centred on the mean",
                                       "spread of a query's logits (sd)",
                                       "effective tokens",
                                       "mass on the first token",
                                       "mass on the window"};
    const row_list *rows = &all->of[ROW_STATS];
    if (rows->n == 0) return false;
    table_begin(m, "Statistics over layers and heads", heads);
    const int shown = rows->n < TABLE_ROWS / COUNT(key) ? rows->n : TABLE_ROWS / COUNT(key);
    for (int i = 0; i < shown; i++)
        for (int k = 0; k < COUNT(key); k++) {
            const json_t *layers = json_object_get(row_value(&rows->row[i], "layer_head"), key[k]);
            tally t = {0};
            double low, high;
            over_heads(layers, &t, &low, &high);
            if (t.n == 0) continue;
            markup_add(m, "<tr>");
            table_cell(m, row_text(&rows->row[i], "text"));
            table_number(m, row_real(&rows->row[i], "length"), 0);
            table_cell(m, says[k]);
            table_number(m, low, -1);
            table_number(m, tally_mean(&t), -1);
            table_number(m, high, -1);
            markup_add(m, "</tr>\n");
        }
    table_end(m, shown, rows->n);
    return true;
}
