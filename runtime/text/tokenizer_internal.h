/* tokenizer_internal.h - what a tokenizer is made of.  Only runtime/tokenizer*.c, detokenize.c and template.c include it.
 *
 * text -> cut at added tokens -> normalise each segment -> cut into words -> symbols -> merges -> ids */
#ifndef RADAR_TOKENIZER_INTERNAL_H
#define RADAR_TOKENIZER_INTERNAL_H

#include "runtime/text/bpe.h"
#include "runtime/text/normalize.h"
#include "runtime/text/pretokenize.h"
#include "runtime/text/specials.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocab.h"

#define RADAR_TOKENIZER_ENDS 16 /* ids added before or after a text, at most */

struct radar_tokenizer {
    radar_vocab vocab;
    radar_bpe bpe;
    radar_normalizer normalizer;
    radar_pretokenizer pretokenizer;
    radar_specials raw;        /* added tokens matched in the text as given */
    radar_specials normalized; /* added tokens matched after normalisation, spelled as normalised */

    bool byte_level;    /* words are bytes, texts of tokens are in GPT-2's byte alphabet */
    bool ignore_merges; /* a word that is a token is that token */
    bool byte_fallback; /* a character without token becomes <0xXX> tokens */
    bool fuse_unk;      /* neighbouring unknown characters give one unknown token */
    bool
        spaces_cut; /* no merge reaches over the beginning of a run of spaces: words may be merged one by one */
    bool spaces;          /* U+2581 in the text of a token is a space */
    bool strip_space;     /* a decoded text loses one leading space */
    int32_t unk;          /* -1: characters without token are dropped */
    int32_t byte_id[256]; /* the token of each byte, -1: none */

    int n_before, n_after; /* RADAR_TOKENIZE_BOS */
    int32_t before[RADAR_TOKENIZER_ENDS], after[RADAR_TOKENIZER_ENDS];

    char pre_name[32]; /* "smollm", "tokenizer.json" */
    char description[160];
};

/* [this rank] The two sources: fill *t, which is zeroed (byte_id and unk: -1). */
radar_status radar_tokenizer_from_gguf(radar_tokenizer *t, const radar_tensorfile *tf,
                                       radar_error *err);
radar_status radar_tokenizer_from_json(radar_tokenizer *t, const json_t *root, radar_error *err);

/* [this rank] A tokenizer from JSON that is parsed already. */
radar_status radar_tokenizer_open_json(radar_tokenizer **out, const json_t *root, radar_error *err);

/* A text made of parts: special tokens are looked for only inside trusted parts, words may reach over the seams. */
typedef struct radar_text_part {
    const char *text;
    size_t bytes;
    bool trusted;
} radar_text_part;

radar_status radar_tokenizer_encode_parts(const radar_tokenizer *t, const radar_text_part *part,
                                          size_t n_parts, int32_t **ids, size_t *n,
                                          radar_error *err);

#endif
