/* tokenizer.h - text to token ids and back, as the model's file says: byte-level BPE and SentencePiece-style BPE.
 *
 * Sources: tokenizer.json (a Hugging Face file) or GGUF metadata (tokenizer.ggml.*).  Anything in them that is not known is
 * refused by its name.  The text and the file are hostile: linear time, checked lengths, no recursion. */
#ifndef RADAR_TOKENIZER_H
#define RADAR_TOKENIZER_H

#include "runtime/base.h"
#include "runtime/model/tensorfile.h"

typedef struct radar_tokenizer radar_tokenizer;

/* [this rank] From json_path when it is not NULL, else from the model's file (GGUF metadata, or tokenizer.json beside safetensors).
 * A safetensors directory without tokenizer.json: RADAR_OK and *out NULL (such a model works with --ids). */
radar_status radar_tokenizer_open(radar_tokenizer **out, const radar_tensorfile *tf,
                                  const char *json_path, radar_error *err);
void radar_tokenizer_close(radar_tokenizer *t); /* [this rank] NULL is fine */

/* "byte-level BPE (smollm), 49152 tokens, 17 special" */
const char *radar_tokenizer_describe(const radar_tokenizer *t);
int32_t radar_tokenizer_vocab(const radar_tokenizer *t);

enum {
    RADAR_TOKENIZE_SPECIAL = 1, /* special tokens spelled in the text become their ids */
    RADAR_TOKENIZE_BOS = 2 /* add what the file says belongs at the beginning (and end) of a text */
};

/* [this rank] text [bytes], must be valid UTF-8 (else RADAR_ERR_DATA with the byte offset).  *ids is freed with radar_free; NULL when *n == 0. */
radar_status radar_tokenizer_encode(const radar_tokenizer *t, const char *text, size_t bytes,
                                    int flags, int32_t **ids, size_t *n, radar_error *err);

/* [this rank] The bytes of one token as it appears inside a text: valid until the tokenizer is closed.  id out of range: NULL and 0. */
const char *radar_tokenizer_piece(const radar_tokenizer *t, int32_t id, size_t *bytes);
bool radar_tokenizer_is_special(const radar_tokenizer *t, int32_t id);
/* Id of a token by its exact text (special tokens of chat templates); -1: none. */
int32_t radar_tokenizer_find(const radar_tokenizer *t, const char *text, size_t bytes);

/* Streaming: bytes come out as soon as they form whole UTF-8 characters. */
typedef struct radar_detokenizer {
    const radar_tokenizer *t;
    bool skip_special; /* special tokens give no bytes */
    bool started;      /* something was pushed: SentencePiece drops the first space of a text */
    int n_held;
    char held[8]; /* an unfinished character */
} radar_detokenizer;

/* Appends what can be printed after one more token to out (capacity bytes >= RADAR_DETOKENIZE_ROOM(t)); returns the number of bytes. */
size_t radar_detokenize_push(radar_detokenizer *d, int32_t id, char *out);
/* The end of the text: bytes still held come out as they are.  At most 8 bytes. */
size_t radar_detokenize_end(radar_detokenizer *d, char *out);
size_t radar_detokenize_room(const radar_tokenizer *t); /* longest piece + 8 */

/* [this rank] All of ids at once; *text (NUL-terminated beyond *bytes) is freed with radar_free. */
radar_status radar_tokenizer_decode(const radar_tokenizer *t, const int32_t *ids, size_t n,
                                    bool skip_special, char **text, size_t *bytes,
                                    radar_error *err);

#endif
