#include "launch/report/method.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A setting that may be part of a name, and the methods that it concerns (NULL: all but dense, "*": all). */
typedef struct setting {
    const char *key, *of, *says; /* %s: the value */
} setting;

static const setting settings[] = {
    {"model", "*", "%s"},
    {"scorer", "|quest|paper|code|", "%s"},
    {"sketch_bits", "|sketch|", "%s bits"},
    {"outliers", "|outlier|", "%s outliers"},
    {"rf_form", "|rf|paper|code|", "%s"},
    {"rf_features", "|rf|paper|code|", "n %s"},
    {"rf_center", "|rf|", "centred"},
    {"rf_temper", "|rf|", "temper %s"},
    {"restream", "|streaming|", "re-indexed"},
    {"observe", "|snapkv|", "observing %s"},
    {"segment", "|mean|rf|", "segment %s"},
    {"share", NULL, "per %s"},
    {"pick", NULL, "%s"},
    {"select", NULL, "%s"},
    {"window", NULL, "window %s"},
    {"sinks", NULL, "sinks %s"},
    {"dense_below", NULL, "dense below %s"},
    {"budget", NULL, "budget %s"},
    {"segments", NULL, "%s segments"},
    {"scorer_seed", NULL, "scorer seed %s"},
    {"seed", "*", "seed %s"},
    {"kv_type", "*", "%s"},
    {"precision", "*", "%s"},
    {"length", "*", "%s tokens"},
};
enum { SETTINGS = sizeof settings / sizeof settings[0], METHODS = 64 };

static const char *base_of(const eval_row *row) {
    const char *preset = row_text(row, "preset"), *attention = row_text(row, "attention"),
               *scorer = row_text(row, "scorer");
    if (preset != NULL && preset[0] != 0 && strcmp(preset, "none") != 0) return preset;
    if (attention != NULL && strcmp(attention, "radar") != 0) return attention;
    return scorer != NULL ? scorer : "unnamed";
}

bool method_is_dense(const eval_row *row) { return row_says(row, "attention", "dense"); }

/* Whether "|a|b|" holds word. */
static bool listed(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at++)
        if (at > list && at[-1] == '|' && at[n] == '|' && n > 0) return true;
    return false;
}

static bool concerns(const setting *s, const eval_row *row, const char *base) {
    if (s->of == NULL) return !method_is_dense(row);
    return s->of[0] == '*' || listed(s->of, base);
}

/* ---- what differs ---- */

static bool equal(const eval_row *a, const eval_row *b, const char *key) {
    const json_t *x = row_value(a, key), *y = row_value(b, key);
    if (json_is_number(x) && json_is_number(y)) return json_number_value(x) == json_number_value(y);
    return x == y || (x != NULL && y != NULL && json_equal(x, y));
}

void method_compare(row_list *rows) {
    struct {
        const eval_row *first;
        uint32_t varies;
    } of[METHODS];
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < rows->n; i++) {
            eval_row *row = &rows->row[i];
            const char *base = base_of(row);
            int m = 0;
            while (m < n && strcmp(base_of(of[m].first), base) != 0) m++;
            if (m == METHODS) continue; /* more methods than that keep their short names */
            if (m == n) of[n].first = row, of[n++].varies = 0;
            if (pass == 1) row->varies = of[m].varies;
            for (int s = 0; s < SETTINGS; s++)
                if (!equal(of[m].first, row, settings[s].key)) of[m].varies |= (uint32_t)1 << s;
        }
}

/* ---- names ---- */

/* The window is to streaming what the budget is to the others. */
static bool is_reach(const eval_row *row, const char *key) {
    return strcmp(key, "window") == 0 && row_says(row, "attention", "streaming");
}

/* A setting's value in words; "" when there is nothing to say. */
static const char *value_text(char text[64], const json_t *value) {
    text[0] = 0;
    if (json_is_string(value)) snprintf(text, 64, "%s", json_string_value(value));
    if (json_is_integer(value)) snprintf(text, 64, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) snprintf(text, 64, "%.6g", json_real_value(value));
    if (json_is_integer(value) && json_integer_value(value) == -1) snprintf(text, 64, "auto");
    return text;
}

const char *method_name(char name[METHOD_NAME], const eval_row *row, const char *ignored) {
    const char *base = base_of(row);
    size_t used = (size_t)snprintf(name, METHOD_NAME, "%.60s", base);
    for (int s = 0; s < SETTINGS; s++) {
        char text[64], value[64];
        if (!((row->varies >> s) & 1) || listed(ignored, settings[s].key)) continue;
        if (!concerns(&settings[s], row, base)) continue;
        if (is_reach(row, settings[s].key) && listed(ignored, "reach")) continue;
        const json_t *v = row_value(row, settings[s].key);
        const char *says = settings[s].says, *hole = strstr(says, "%s");
        if (hole == NULL ? !json_is_true(v) : value_text(value, v)[0] == 0) continue;
        if (hole == NULL)
            snprintf(text, sizeof text, "%s", says);
        else
            snprintf(text, sizeof text, "%.*s%.40s%s", (int)(hole - says), says, value, hole + 2);
        const int n = snprintf(name + used, METHOD_NAME - used, "%s %s",
                               used > strlen(base) ? "," : "", text);
        if (n < 0 || used + (size_t)n >= METHOD_NAME) break;
        used += (size_t)n;
    }
    return name;
}

double method_budget(const eval_row *row) {
    enum { SEGMENT = 16, LONG = 65536 };
    if (method_is_dense(row) || row_says(row, "attention", "streaming")) return NAN;
    const double budget = row_real(row, "budget"), k = row_real(row, "segments"),
                 says = row_real(row, "budget_tokens");
    if (says > 0) return says;
    const double segment = row_real(row, "segment");
    if (k > 0) return k * (segment >= SEGMENT ? segment : SEGMENT);
    if (budget > 0) return budget;
    return row_real(row, "length") >= LONG ? 1024 : 512;
}
