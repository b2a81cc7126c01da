/* Values of options: from a word to a field that is in its range, and back to how it is typed. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/options.h"

/* Whether "a|b|c" holds word. */
static bool listed(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list; at != NULL && n > 0;) {
        const char *end = strchr(at, '|');
        const size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
        if (length == n && memcmp(at, word, n) == 0) return true;
        at = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static radar_status set_choice(const launch_option_row *row, const char **to, const char *word,
                               radar_error *err) {
    char label[LAUNCH_LABEL];
    if (listed(row->later, word))
        return radar_fail(err, RADAR_ERR_CONFIG, "%s %s: not built in this version; use one of %s",
                          launch_option_label(label, row), word, row->choices);
    if (!listed(row->choices, word))
        return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': not known; use one of %s",
                          launch_option_label(label, row), word, row->choices);
    *to = word;
    return RADAR_OK;
}

static radar_status bad_number(const launch_option_row *row, const char *word, radar_error *err) {
    char label[LAUNCH_LABEL];
    const char *lead = row->choices != NULL ? "auto or " : "";
    if (row->high < LAUNCH_MOST || row->kind == LAUNCH_REAL)
        return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': must be %sa number from %g to %g",
                          launch_option_label(label, row), word, lead, row->low, row->high);
    return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': must be %sa whole number from %g up",
                      launch_option_label(label, row), word, lead, row->low);
}

static radar_status set_integer(const launch_option_row *row, int64_t *to, const char *word,
                                radar_error *err) {
    if (row->choices != NULL && strcmp(word, row->choices) == 0) {
        *to = LAUNCH_AUTO;
        return RADAR_OK;
    }
    char *end;
    errno = 0;
    const long long v = strtoll(word, &end, 10);
    if (end == word || *end != 0 || errno != 0 || (double)v < row->low || (double)v > row->high)
        return bad_number(row, word, err);
    *to = v;
    return RADAR_OK;
}

static radar_status set_real(const launch_option_row *row, double *to, const char *word,
                             radar_error *err) {
    char *end;
    errno = 0;
    const double v = strtod(word, &end);
    if (end == word || *end != 0 || !isfinite(v) || v < row->low || v > row->high)
        return bad_number(row, word, err);
    *to = v;
    return RADAR_OK;
}

static radar_status set_seed(const launch_option_row *row, uint64_t *to, const char *word,
                             radar_error *err) {
    char label[LAUNCH_LABEL];
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(word, &end, 10);
    if (end == word || *end != 0 || errno != 0 || word[0] == '-' || word[0] == '+')
        return radar_fail(err, RADAR_ERR_USAGE, "%s '%s': must be a whole number from 0 to 2^64-1",
                          launch_option_label(label, row), word);
    *to = v;
    return RADAR_OK;
}

radar_status launch_option_set(launch_options *opt, const launch_option_row *row, const char *word,
                               radar_error *err) {
    void *to = (char *)opt + row->offset;
    switch (row->kind) {
    case LAUNCH_HEADING:
        break;
    case LAUNCH_TEXT:
        *(const char **)to = word;
        return RADAR_OK;
    case LAUNCH_CHOICE:
        return set_choice(row, to, word, err);
    case LAUNCH_SWITCH:
        *(bool *)to = true;
        return RADAR_OK;
    case LAUNCH_NUMBER:
        return set_integer(row, to, word, err);
    case LAUNCH_REAL:
        return set_real(row, to, word, err);
    case LAUNCH_SEED:
        return set_seed(row, to, word, err);
    }
    return RADAR_OK;
}

/* The value as it would be typed; "" when unset. */
static void value_text(const launch_options *opt, const launch_option_row *row, char *text,
                       size_t bytes) {
    const void *from = (const char *)opt + row->offset;
    text[0] = 0;
    switch (row->kind) {
    case LAUNCH_HEADING:
        break;
    case LAUNCH_TEXT:
    case LAUNCH_CHOICE:
        if (*(const char *const *)from != NULL)
            snprintf(text, bytes, "%s", *(const char *const *)from);
        break;
    case LAUNCH_SWITCH:
        snprintf(text, bytes, "%s", *(const bool *)from ? "on" : "");
        break;
    case LAUNCH_NUMBER:
        if (*(const int64_t *)from == LAUNCH_AUTO && row->choices != NULL)
            snprintf(text, bytes, "auto");
        else if (*(const int64_t *)from != LAUNCH_UNSET)
            snprintf(text, bytes, "%lld", (long long)*(const int64_t *)from);
        break;
    case LAUNCH_REAL:
        snprintf(text, bytes, "%.9g", *(const double *)from);
        break;
    case LAUNCH_SEED:
        snprintf(text, bytes, "%llu", (unsigned long long)*(const uint64_t *)from);
        break;
    }
}

static size_t field_bytes(const launch_option_row *row) {
    switch (row->kind) {
    case LAUNCH_HEADING:
        return 0;
    case LAUNCH_TEXT:
    case LAUNCH_CHOICE:
        return sizeof(const char *);
    case LAUNCH_SWITCH:
        return sizeof(bool);
    case LAUNCH_NUMBER:
        return sizeof(int64_t);
    case LAUNCH_REAL:
        return sizeof(double);
    case LAUNCH_SEED:
        return sizeof(uint64_t);
    }
    return 0;
}

void launch_option_copy(launch_options *to, const launch_options *from,
                        const launch_option_row *row) {
    memcpy((char *)to + row->offset, (const char *)from + row->offset, field_bytes(row));
}

void launch_option_text(const launch_options *opt, const launch_option_row *row, char *text,
                        size_t bytes) {
    const launch_list *list = &opt->list[row - launch_option_table];
    if (list->n == 0) {
        value_text(opt, row, text, bytes);
        return;
    }
    size_t used = 0;
    const char *word = list->first;
    for (int i = 0; i < list->n && used < bytes; i++, word += strlen(word) + 1)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i > 0 ? "," : "", word);
}

size_t launch_option_room(const launch_options *opt, const launch_option_row *row) {
    enum { NUMBER = 32 };
    const launch_list *list = &opt->list[row - launch_option_table];
    const char *word = list->first;
    size_t bytes = NUMBER;
    for (int i = 0; i < list->n; i++, word += strlen(word) + 1) bytes += strlen(word) + 1;
    if (row->kind == LAUNCH_TEXT || row->kind == LAUNCH_CHOICE) {
        word = *(const char *const *)((const char *)opt + row->offset);
        bytes += word != NULL ? strlen(word) : 0;
    }
    return bytes;
}

const launch_option_row *launch_option_find(const char *name, int scope) {
    for (size_t i = 0; i < launch_option_count; i++)
        if ((launch_option_table[i].in & scope) != 0 &&
            strcmp(launch_option_table[i].name, name) == 0)
            return &launch_option_table[i];
    return NULL;
}
