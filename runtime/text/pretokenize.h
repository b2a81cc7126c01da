/* pretokenize.h - cutting a segment into words with the model's own regular expressions, run by PCRE2.
 *
 * A list of stages; each cuts the pieces of the one before it, seeing only the piece.  Expressions are those of the tokenizer's
 * file, which are written for Oniguruma: the part of its syntax that means the same in PCRE2 is let through, \s and \S are
 * spelled out (they differ at U+180E), anything else is refused. */
#ifndef RADAR_PRETOKENIZE_H
#define RADAR_PRETOKENIZE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/base.h"

#define RADAR_STAGES 8

/* What becomes of a match: its own word, joined to the text before or after it, or left out. */
typedef enum radar_split {
    RADAR_SPLIT_ISOLATED,
    RADAR_SPLIT_WITH_PREVIOUS,
    RADAR_SPLIT_WITH_NEXT,
    RADAR_SPLIT_REMOVED
} radar_split;

typedef struct radar_stage {
    pcre2_code *code;
    bool jit;
    bool invert; /* what is between matches counts as match, and the other way round */
    radar_split split;
} radar_stage;

typedef struct radar_pretokenizer {
    int n;
    radar_stage stage[RADAR_STAGES];
} radar_pretokenizer;

extern const char radar_regex_gpt2[], radar_regex_llama3[], radar_regex_qwen2[],
    radar_regex_tekken[];
/* What the Digits pre-tokenizer takes for a digit, and runs of them. */
extern const char radar_regex_digit[], radar_regex_digits[];

/* Adds a stage.  literal: pattern is a string to find, not an expression. */
radar_status radar_pretokenizer_add(radar_pretokenizer *p, const char *pattern, size_t bytes,
                                    bool literal, radar_split split, bool invert, radar_error *err);
void radar_pretokenizer_free(radar_pretokenizer *p);

typedef struct radar_piece {
    size_t begin, end;
    bool match;
} radar_piece;

/* Where one stage stands in the piece it is cutting. */
typedef struct radar_cut {
    size_t begin, end; /* the piece */
    size_t at;         /* searched up to here */
    size_t last_end;   /* of the last match; SIZE_MAX: none yet */
    int n_held;
    radar_piece held[2]; /* found already; the last is handed out next */
} radar_cut;

/* Cuts one segment after another; made once for a call. */
typedef struct radar_cutter {
    const radar_pretokenizer *p;
    pcre2_general_context *general;
    pcre2_match_context *context;
    pcre2_match_data *data;
    pcre2_jit_stack *stack; /* NULL until 32 KiB are not enough */
    const char *text;
    int depth; /* the stage to go on with; -1: the segment is done */
    radar_cut cut[RADAR_STAGES];
} radar_cutter;

radar_status radar_cutter_open(radar_cutter *c, const radar_pretokenizer *p, radar_error *err);
void radar_cutter_close(radar_cutter *c);
void radar_cutter_begin(radar_cutter *c, const char *text, size_t bytes);
/* The next word; *bytes == 0 at the end. */
radar_status radar_cutter_next(radar_cutter *c, const char **word, size_t *bytes, radar_error *err);

#endif
