/* RULER's retrieval and tracing: numbers hidden in an essay, and a chain of variables. */
#include <string.h>

#include "launch/eval/ruler.h"
#include "runtime/sys.h"

enum { FEW = 4, HOPS = 4, TEXT = 256 };

/* ---- lines in an essay ---- */

typedef struct lines {
    eval_insert insert[FEW + HOPS];
    int n;
} lines;

static radar_status add_line(ruler_sample *s, lines *l, const char *line) {
    return eval_add_text(s->draft->job, &l->insert[l->n++].line, line);
}

/* Random depths in ascending order: the lines stay in the order in which they were added.  Frees them, also where st is no success. */
static radar_status hide(ruler_sample *s, lines *l, radar_status st) {
    for (int i = 0; i < l->n; i++) {
        const double depth = ruler_draw(s, 10000) / 10000.0;
        int at = i;
        for (; at > 0 && l->insert[at - 1].depth > depth; at--)
            l->insert[at].depth = l->insert[at - 1].depth;
        l->insert[at].depth = depth;
    }
    if (st == RADAR_OK)
        st = eval_fill(s->draft, s->wrap, s->filler, s->n_filler, s->start,
                       s->length - eval_draft_other(s->draft, s->wrap), l->insert, l->n);
    for (int i = 0; i < l->n; i++) radar_free(l->insert[i].line.token);
    return st;
}

/* ---- numbers of keys ---- */

static int number(ruler_sample *s) { return 1000000 + ruler_draw(s, 9000000); }

/* Line i: a value of the word with number key[i]. */
typedef struct needles {
    int key[FEW], value[FEW], n;
} needles;

static radar_status add_needles(ruler_sample *s, lines *l, const needles *all) {
    radar_status st = RADAR_OK;
    for (int i = 0; i < all->n && st == RADAR_OK; i++) {
        char word[RULER_WORD], line[TEXT];
        ruler_word(s, all->key[i], word);
        snprintf(line, sizeof line, "One of the special magic numbers for %s is %d.\n", word,
                 all->value[i]);
        st = add_line(s, l, line);
    }
    return st;
}

/* " v, v, ...": each a reference. */
static radar_status answer_numbers(ruler_sample *s, const int *value, int n) {
    radar_status st = RADAR_OK;
    for (int i = 0; i < n && st == RADAR_OK; i++) {
        char piece[16];
        snprintf(piece, sizeof piece, " %d", value[i]);
        if (i > 0) st = eval_answer(s->draft, ",", -1);
        if (st == RADAR_OK) st = eval_answer(s->draft, piece, i);
    }
    return st == RADAR_OK ? eval_end_probe(s->draft) : st;
}

/* Asks for `asked` values from needle `first` on, of the keys that `of` spells. */
static radar_status niah(ruler_sample *s, const needles *all, int first, int asked,
                         const char *of) {
    char question[TEXT], lead[TEXT];
    lines l = {0};
    const char *numbers = asked > 1 ? "numbers" : "number", *be = asked > 1 ? "are" : "is";
    snprintf(question, sizeof question, "What %s the special magic %s for %s?", be, numbers, of);
    snprintf(lead, sizeof lead, "The special magic %s for %s %s", numbers, of, be);
    radar_status st = eval_ask(s->draft, s->wrap, question, lead);
    if (st == RADAR_OK) st = answer_numbers(s, all->value + first, asked);
    if (st == RADAR_OK) st = add_needles(s, &l, all);
    return hide(s, &l, st);
}

static radar_status niah_single(ruler_sample *s) {
    needles all = {.n = 1, .value = {number(s)}};
    char word[RULER_WORD];
    ruler_word(s, 0, word);
    return niah(s, &all, 0, 1, word);
}

static radar_status niah_multikey(ruler_sample *s) {
    needles all = {.n = FEW};
    char word[RULER_WORD];
    for (int i = 0; i < FEW; i++) all.key[i] = i, all.value[i] = number(s);
    const int asked = ruler_draw(s, FEW);
    ruler_word(s, asked, word);
    return niah(s, &all, asked, 1, word);
}

static radar_status niah_multivalue(ruler_sample *s) {
    needles all = {.n = FEW};
    char word[RULER_WORD];
    for (int i = 0; i < FEW; i++) all.value[i] = number(s);
    ruler_word(s, 0, word);
    return niah(s, &all, 0, FEW, word);
}

static radar_status niah_multiquery(ruler_sample *s) {
    needles all = {.n = FEW};
    char word[FEW][RULER_WORD], list[TEXT];
    for (int i = 0; i < FEW; i++) {
        all.key[i] = i, all.value[i] = number(s);
        ruler_word(s, i, word[i]);
    }
    snprintf(list, sizeof list, "%s, %s, %s and %s", word[0], word[1], word[2], word[3]);
    return niah(s, &all, 0, FEW, list);
}

/* ---- variables ---- */

static void variable(const ruler_sample *s, int i, char name[RULER_WORD]) {
    ruler_word(s, i, name);
    for (int k = 0; name[k] != 0; k++) name[k] = (char)(name[k] - 'a' + 'A');
}

/* VAR A = 12345; VAR B = VAR A; ...: which variables have the value?  All of the chain, in its order. */
static radar_status tracking(ruler_sample *s) {
    char question[TEXT], lead[TEXT], line[TEXT], name[RULER_WORD], before[RULER_WORD];
    const int value = 10000 + ruler_draw(s, 90000);
    lines l = {0};
    snprintf(question, sizeof question,
             "Which variables are assigned the value %d, directly or by way of others?", value);
    snprintf(lead, sizeof lead, "The %d variables that are assigned the value %d are", HOPS + 1,
             value);
    radar_status st = eval_ask(s->draft, s->wrap, question, lead);
    for (int i = 0; i <= HOPS && st == RADAR_OK; i++) {
        variable(s, i, name);
        if (i == 0)
            snprintf(line, sizeof line, "VAR %s = %d\n", name, value);
        else
            snprintf(line, sizeof line, "VAR %s = VAR %s\n", name, before);
        st = add_line(s, &l, line);
        snprintf(line, sizeof line, " %s", name);
        if (i > 0 && st == RADAR_OK) st = eval_answer(s->draft, ",", -1);
        if (st == RADAR_OK) st = eval_answer(s->draft, line, i);
        memcpy(before, name, sizeof before);
    }
    if (st == RADAR_OK) st = eval_end_probe(s->draft);
    return hide(s, &l, st);
}

const ruler_task ruler_tasks[RULER_TASKS] = {
    {"niah_single", niah_single},
    {"niah_multikey", niah_multikey},
    {"niah_multivalue", niah_multivalue},
    {"niah_multiquery", niah_multiquery},
    {"vt", tracking},
    {"cwe", ruler_common_words},
    {"fwe", ruler_frequent_words},
};
