/* Every row with all its settings, and the commands that made them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/report/tables.h"
#include "launch/report/tally.h"

static const char *const setting_keys[] = {
    "attention", "scorer",    "preset",        "budget",   "segments",    "segment",
    "window",    "sinks",     "share",         "pick",     "select",      "sketch_bits",
    "scan",      "prefill",   "dense_prefill", "outliers", "rf_features", "rf_form",
    "rf_center", "rf_temper", "restream",      "observe",  "dense_below", "kv_type",
    "precision", "seed",      "scorer_seed",   "shards",   "stripe",      "ranks",
    "threads"};
enum { SETTING_KEYS = sizeof setting_keys / sizeof setting_keys[0] };

static void cell_of(markup *m, const json_t *v) {
    if (json_is_string(v))
        table_cell(m, json_string_value(v));
    else if (json_is_boolean(v))
        table_cell(m, json_is_true(v) ? "yes" : "no");
    else if (json_is_integer(v) && json_integer_value(v) == -1)
        table_cell(m, "auto");
    else if (json_is_integer(v))
        markup_format(m, "<td class=\"n\">%lld</td>", (long long)json_integer_value(v));
    else if (json_is_real(v))
        markup_format(m, "<td class=\"n\">%g</td>", json_real_value(v));
    else
        table_cell(m, NULL);
}

/* What a kind's row says first. */
typedef struct first_figure {
    const char *says, *key;
} first_figure;

static const first_figure first_figures[ROW_KINDS][3] = {
    [ROW_PPL] = {{"nll", "nll_mean"}, {"ppl", "ppl"}, {"ms a token", "ms_per_token"}},
    [ROW_RECALL] = {{"recall", "recall_mean"}, {"mass", "mass"}, {"of", "mass_best"}},
    [ROW_NEEDLE] = {{"nll per digit", "nll_per_digit"}, {"exact", "exact"}},
    [ROW_RULER] = {{"nll per token", "nll_per_token"}, {"exact", "exact"}},
    [ROW_GENERATE] = {{"repetition", "repetition"}, {"distinct 4", "distinct_4"}},
    [ROW_CALIBRATE] = {{"median error", "error_median"}, {"95 % below", "error_p95"}},
    [ROW_BOUND] = {{"median error", "error_median"}, {"95 % below", "error_p95"}},
    [ROW_STATS] = {{"effective tokens", "effective_tokens"}, {"logit sd", "logit_sd"}},
};

static void figures_cell(markup *m, row_kind kind, const eval_row *row, const row_list *rows) {
    tally above = {0};
    bool any = false;
    markup_add(m, "<td>");
    for (int k = 0; k < 3 && first_figures[kind][k].key != NULL; k++) {
        const double v = row_real(row, first_figures[kind][k].key);
        if (isnan(v)) continue;
        markup_format(m, "%s%s %.4g", any ? "; " : "", first_figures[kind][k].says, v);
        any = true;
    }
    if (kind == ROW_PPL && !method_is_dense(row) && tally_above_dense(&above, rows, row) &&
        above.n > 0) {
        markup_format(m, "%sabove dense %.4f", any ? "; " : "", tally_mean(&above));
        if (!isnan(tally_error(&above))) markup_format(m, " \xc2\xb1 %.4f", tally_error(&above));
    }
    markup_add(m, "</td>");
}

static void settings_row(markup *m, row_kind kind, const eval_row *row, const row_list *rows) {
    markup_add(m, "<tr>");
    table_cell(m, row_kind_name[kind]);
    table_cell(m, row_text(row, "part"));
    figures_cell(m, kind, row, rows);
    table_number(m, row_real(row, "length"), 0);
    table_cell(m, row_text(row, "text"));
    for (int k = 0; k < SETTING_KEYS; k++) cell_of(m, row_value(row, setting_keys[k]));
    table_cell(m, row_text(row, "version"));
    markup_add(m, "</tr>\n");
}

bool table_settings(markup *m, const eval_rows *rows) {
    enum { FIXED = 5 };
    const char *heads[FIXED + SETTING_KEYS + 2] = {"kind", "part", "figures", "tokens", "text"};
    int shown = 0;
    for (int k = 0; k < SETTING_KEYS; k++) heads[FIXED + k] = setting_keys[k];
    heads[FIXED + SETTING_KEYS] = "version";
    table_begin(m, "All rows with their settings", heads);
    for (int k = 0; k < ROW_KINDS; k++)
        for (int i = 0; i < rows->of[k].n && shown < TABLE_ROWS; i++, shown++)
            settings_row(m, (row_kind)k, &rows->of[k].row[i], &rows->of[k]);
    table_end(m, shown, rows_count(rows));
    return true;
}

/* ---- commands ---- */

static bool said_before(const row_list *rows, int i) {
    for (int k = 0; k < i; k++) {
        const char *other = row_text(&rows->row[k], "version");
        if (!row_says(&rows->row[i], "command", row_text(&rows->row[k], "command"))) continue;
        if (other == NULL || row_says(&rows->row[i], "version", other)) return true;
    }
    return false;
}

bool table_commands(markup *m, const eval_rows *rows) {
    enum { COMMANDS = 1000 };
    int n = 0;
    for (int k = 0; k < ROW_KINDS; k++)
        for (int i = 0; i < rows->of[k].n && n < COMMANDS; i++) {
            const eval_row *row = &rows->of[k].row[i];
            const char *command = row_text(row, "command"), *version = row_text(row, "version");
            if (command == NULL || said_before(&rows->of[k], i)) continue;
            if (n++ == 0)
                markup_add(m, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                              "aria-label=\"Commands\"><ul class=\"commands\">");
            markup_add(m, "<li><code>");
            markup_text(m, command);
            markup_add(m, "</code>");
            if (version != NULL) {
                markup_add(m, " <span class=\"absent\">radar ");
                markup_text(m, version);
                markup_add(m, "</span>");
            }
            markup_add(m, "</li>\n");
        }
    if (n > 0) markup_add(m, "</ul></div>\n");
    return n > 0;
}
