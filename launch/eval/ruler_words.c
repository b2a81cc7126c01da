/* RULER's aggregation: the words that are commonest in a list, and the most frequent ones of a text whose words follow a power law.
 * No single place holds the answer: this is what a choice of segments is bad at. */
#include <math.h>
#include <string.h>

#include "launch/eval/ruler.h"
#include "runtime/sys.h"

enum { STREAM = 70, COMMON = 10, COMMON_TIMES = 30, RARE_TIMES = 3, FREQUENT = 3, ENTRY = 24 };

int ruler_draw(ruler_sample *s, int below) {
    return (int)(radar_random(s->seed, STREAM, s->drawn++) % (uint64_t)below);
}

void ruler_word(const ruler_sample *s, int i, char word[RULER_WORD]) {
    static const char consonant[] = "bdfghklmnprstvwz", vowel[] = "aeiou";
    enum { SYLLABLES = 80, WORDS = SYLLABLES * SYLLABLES * SYLLABLES, STEP = 98897 };
    /* STEP has no divisor in common with WORDS: the first WORDS words are all different. */
    const uint64_t from = radar_random(s->seed, STREAM + 1, 0) % WORDS;
    uint64_t which = (from + (uint64_t)i * STEP) % WORDS;
    for (int k = 0; k < 3; k++, which /= SYLLABLES) {
        word[2 * k] = consonant[which % SYLLABLES / 5];
        word[2 * k + 1] = vowel[which % 5];
    }
    word[6] = 0;
}

void ruler_shuffle(ruler_sample *s, int *order, int n) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        const int j = ruler_draw(s, i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* ---- texts made of words ---- */

/* times[w] of word w, in random order, "1. word 2. word ..." or "word word ...". */
typedef struct word_list {
    int words, entries;
    int *of; /* [entries] its word */
    bool numbered;
} word_list;

static char *list_text(ruler_sample *s, const word_list *l) {
    char *text = radar_alloc_array((size_t)l->entries + 1, ENTRY);
    int *order = radar_alloc_array((size_t)l->entries, sizeof *order);
    if (text != NULL && order != NULL) {
        size_t used = 0;
        ruler_shuffle(s, order, l->entries);
        for (int i = 0; i < l->entries; i++) {
            char word[RULER_WORD];
            ruler_word(s, l->of[order[i]], word);
            used += l->numbered ? (size_t)snprintf(text + used, ENTRY, "%d. %s ", i + 1, word)
                                : (size_t)snprintf(text + used, ENTRY, "%s ", word);
        }
    } else {
        radar_free(text);
        text = NULL;
    }
    radar_free(order);
    return text;
}

/* Makes the list of a number of entries: fills words and of [entries]; false: too few for the task. */
typedef bool list_fn(word_list *l);

/* As many entries as the length has room for: tried, and made shorter by what was too much. */
static radar_status fill_list(ruler_sample *s, list_fn *make, bool numbered) {
    launch_job *job = s->draft->job;
    const int64_t room = s->length - eval_draft_other(s->draft, s->wrap);
    const uint64_t drawn = s->drawn;
    int64_t entries = room / 3;
    radar_status st = RADAR_OK;
    for (bool fits = false; !fits && st == RADAR_OK;) {
        word_list l = {.entries = (int)entries, .numbered = numbered};
        eval_tokens list = {0};
        l.of = entries > 0 ? radar_alloc_array((size_t)entries, sizeof *l.of) : NULL;
        s->drawn = drawn;
        const bool enough = l.of != NULL && make(&l);
        char *text = enough ? list_text(s, &l) : NULL;
        if (!enough)
            st = radar_fail(&job->err, RADAR_ERR_DATA,
                            "a list of words does not fit %lld tokens: raise --length",
                            (long long)s->length);
        else if (text == NULL)
            st = radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for a list of words");
        else
            st = eval_add_text(job, &list, text);
        fits = st == RADAR_OK && (int64_t)list.n <= room;
        if (fits)
            st = eval_add_tokens(job, &s->draft->context, s->wrap->before.token, s->wrap->before.n);
        if (fits && st == RADAR_OK)
            st = eval_add_tokens(job, &s->draft->context, list.token, list.n);
        if (!fits && st == RADAR_OK)
            entries = radar_min64(entries - 1, entries * room / (int64_t)list.n);
        radar_free(list.token);
        radar_free(text);
        radar_free(l.of);
    }
    return st;
}

/* "w1, w2, ...": the first n words. */
static radar_status answer_words(ruler_sample *s, int n) {
    radar_status st = RADAR_OK;
    for (int i = 0; i < n && st == RADAR_OK; i++) {
        char word[RULER_WORD], piece[RULER_WORD + 1];
        ruler_word(s, i, word);
        snprintf(piece, sizeof piece, " %s", word);
        if (i > 0) st = eval_answer(s->draft, ",", -1);
        if (st == RADAR_OK) st = eval_answer(s->draft, piece, i);
    }
    return st == RADAR_OK ? eval_end_probe(s->draft) : st;
}

/* Ten words 30 times each, all others three times; in a short list fewer times in about that proportion, the common ones half of it. */
static bool common_list(word_list *l) {
    int times = l->entries / 2 / COMMON, at = 0;
    if (times > COMMON_TIMES) times = COMMON_TIMES;
    const int rare = times > COMMON_TIMES / RARE_TIMES ? times * RARE_TIMES / COMMON_TIMES : 1;
    if (times < RARE_TIMES) return false;
    for (int w = 0; w < COMMON; w++)
        for (int i = 0; i < times; i++) l->of[at++] = w;
    for (int i = 0; at < l->entries; i++) l->of[at++] = COMMON + i / rare;
    return true;
}

radar_status ruler_common_words(ruler_sample *s) {
    radar_status st =
        eval_ask(s->draft, s->wrap, "What are the 10 most common words in the list above?",
                 "The 10 most common words in the list are");
    if (st == RADAR_OK) st = answer_words(s, COMMON);
    return st == RADAR_OK ? fill_list(s, common_list, true) : st;
}

/* Word w takes a share of 1 / w^2 of the text, w = 1, 2, ... */
static bool frequent_list(word_list *l) {
    const double zeta = 1.6449340668482264; /* sum of 1 / w^2 */
    int at = 0, word = 0;
    if (l->entries < 60) return false;
    while (at < l->entries) {
        int times = (int)round(l->entries / zeta / ((word + 1.0) * (word + 1.0)));
        if (times < 1) times = 1;
        for (int i = 0; i < times && at < l->entries; i++) l->of[at++] = word;
        word++;
    }
    return true;
}

radar_status ruler_frequent_words(ruler_sample *s) {
    radar_status st = eval_ask(s->draft, s->wrap,
                               "What are the three most frequent words in the coded text above?",
                               "The three most frequent words in the coded text are");
    if (st == RADAR_OK) st = answer_words(s, FREQUENT);
    return st == RADAR_OK ? fill_list(s, frequent_list, false) : st;
}
