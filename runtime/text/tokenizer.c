#include "runtime/text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"
#include "runtime/text/tokenizer_internal.h"

/* ---- what both sources do last ---- */

static void find_byte_ids(radar_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char name[8];
        int bytes = t->byte_level ? radar_byte_letter((uint8_t)b, name)
                                  : snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        int32_t id = radar_vocab_find(&t->vocab, name, (size_t)bytes);
        if (id >= 0 && !(t->vocab.flags[id] & RADAR_TOKEN_MODEL)) id = -1;
        t->byte_id[b] = id;
    }
    if (t->byte_level || !t->byte_fallback) return;
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] >= 0) t->vocab.flags[t->byte_id[b]] |= RADAR_TOKEN_BYTE;
}

#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

static bool begins_with_space(const char *text, size_t bytes) {
    return bytes >= 3 && !memcmp(text, SPACE, 3);
}
static bool ends_with_space(const char *text, size_t bytes) {
    return bytes >= 3 && !memcmp(text + bytes - 3, SPACE, 3);
}

/* Whether some merge joins a text that does not end with a space to one that begins with one. */
static bool merges_reach_over_spaces(const radar_tokenizer *t) {
    for (size_t i = 0; i <= t->bpe.mask; i++) {
        uint64_t pair = t->bpe.slot[i].pair;
        if (pair == UINT64_MAX) continue;
        const radar_span *left = &t->vocab.text[pair >> 32],
                         *right = &t->vocab.text[(uint32_t)pair];
        const char *data = t->vocab.text_data;
        if (begins_with_space(data + right->at, right->bytes) &&
            !ends_with_space(data + left->at, left->bytes))
            return true;
    }
    return false;
}

static void describe(radar_tokenizer *t) {
    int32_t used = 0, special = 0;
    for (int32_t id = 0; id < t->vocab.n; id++) {
        used += (t->vocab.flags[id] & RADAR_TOKEN_USED) != 0;
        special += (t->vocab.flags[id] & RADAR_TOKEN_SPECIAL) != 0;
    }
    snprintf(t->description, sizeof t->description, "%s BPE (%s), %d tokens, %d special",
             t->byte_level ? "byte-level" : "SentencePiece-style", t->pre_name, used, special);
}

static radar_status finish(radar_tokenizer *t, radar_error *err) {
    find_byte_ids(t);
    radar_specials_seal(&t->raw);
    radar_specials_seal(&t->normalized);
    int32_t space = radar_vocab_find(&t->vocab, SPACE, 3);
    t->spaces_cut = !t->byte_level && !t->ignore_merges && space >= 0 &&
                    (t->vocab.flags[space] & RADAR_TOKEN_MODEL) && !merges_reach_over_spaces(t);
    describe(t);
    return radar_vocab_make_pieces(&t->vocab, t->byte_level, t->spaces, err);
}

/* ---- opening ---- */

static radar_tokenizer *blank(void) {
    radar_tokenizer *t = radar_alloc(sizeof *t);
    if (!t) return NULL;
    t->unk = -1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    return t;
}

/* From root, or from the metadata of tf when root is NULL. */
static radar_status open_from(radar_tokenizer **out, const radar_tensorfile *tf, const json_t *root,
                              radar_error *err) {
    radar_tokenizer *t = blank();
    if (!t) return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory");
    radar_status st =
        root ? radar_tokenizer_from_json(t, root, err) : radar_tokenizer_from_gguf(t, tf, err);
    if (st == RADAR_OK) st = finish(t, err);
    if (st == RADAR_OK)
        *out = t;
    else
        radar_tokenizer_close(t);
    return st;
}

radar_status radar_tokenizer_open_json(radar_tokenizer **out, const json_t *root,
                                       radar_error *err) {
    *out = NULL;
    return open_from(out, NULL, root, err);
}

radar_status radar_tokenizer_open(radar_tokenizer **out, const radar_tensorfile *tf,
                                  const char *json_path, radar_error *err) {
    *out = NULL;
    if (!json_path && radar_tensorfile_is_gguf(tf)) return open_from(out, tf, NULL, err);
    json_t *root = NULL;
    radar_status st = json_path ? radar_json_read(&root, json_path, NULL, err)
                                : radar_tensorfile_json(&root, tf, "tokenizer.json", err);
    if (st == RADAR_OK && root) st = open_from(out, NULL, root, err);
    json_decref(root);
    return st;
}

void radar_tokenizer_close(radar_tokenizer *t) {
    if (!t) return;
    radar_vocab_free(&t->vocab);
    radar_bpe_free(&t->bpe);
    radar_pretokenizer_free(&t->pretokenizer);
    radar_specials_free(&t->raw);
    radar_specials_free(&t->normalized);
    radar_free(t);
}

/* ---- facts ---- */

const char *radar_tokenizer_describe(const radar_tokenizer *t) { return t->description; }
int32_t radar_tokenizer_vocab(const radar_tokenizer *t) { return t->vocab.n; }

const char *radar_tokenizer_piece(const radar_tokenizer *t, int32_t id, size_t *bytes) {
    *bytes = 0;
    if (id < 0 || id >= t->vocab.n) return NULL;
    *bytes = t->vocab.piece[id].bytes;
    return t->vocab.piece_data + t->vocab.piece[id].at;
}

bool radar_tokenizer_is_special(const radar_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.n && (t->vocab.flags[id] & RADAR_TOKEN_SPECIAL);
}

int32_t radar_tokenizer_find(const radar_tokenizer *t, const char *text, size_t bytes) {
    return radar_vocab_find(&t->vocab, text, bytes);
}
