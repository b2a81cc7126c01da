/* tokenizer_gguf.c - a tokenizer from GGUF metadata (tokenizer.ggml.*).
 *
 * The file has tokens, types, merges or scores, but no regular expression: only a name (`pre`) that stands for one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"
#include "runtime/text/tokenizer_internal.h"

#define KEY "tokenizer.ggml."
#define CURE "give the original with --tokenizer tokenizer.json"
#define SPM_TOKEN_MAX 256 /* bytes of a token that merges can make */

enum {
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN = 2,
    TYPE_CONTROL = 3,
    TYPE_USER = 4,
    TYPE_UNUSED = 5,
    TYPE_BYTE = 6
};

/* ---- names of pre-tokenizers ---- */

typedef struct pre {
    const char *name;
    bool digits_first, nfc, ignore_merges, adds_bos;
    const char *regex;
} pre;

static const pre known_pre[] = {
    {"gpt-2", false, false, false, false, radar_regex_gpt2},
    {"smollm", true, false, false, false, radar_regex_gpt2},
    {"llama-bpe", false, false, true, true, radar_regex_llama3},
    {"llama3", false, false, true, true, radar_regex_llama3},
    {"llama-v3", false, false, true, true, radar_regex_llama3},
    {"qwen2", false, true, false, false, radar_regex_qwen2},
    {"tekken", false, false, true, true, radar_regex_tekken},
};

static radar_status find_pre(const pre **out, const radar_tensorfile *tf, radar_error *err) {
    const char *name;
    size_t bytes;
    if (!radar_gguf_string(tf, KEY "pre", &name, &bytes))
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: " KEY "pre is missing, so how words are cut is not known; " CURE,
                          radar_tensorfile_path(tf));
    for (size_t i = 0; i < sizeof known_pre / sizeof *known_pre; i++) {
        *out = &known_pre[i];
        if (strlen((*out)->name) == bytes && !memcmp((*out)->name, name, bytes)) return RADAR_OK;
    }
    return radar_fail(err, RADAR_ERR_DATA, "%s: " KEY "pre '%.*s' is not known; " CURE,
                      radar_tensorfile_path(tf), (int)(bytes < 40 ? bytes : 40), name);
}

static radar_status apply_pre(radar_tokenizer *t, const pre *p, radar_error *err) {
    radar_status st = RADAR_OK;
    snprintf(t->pre_name, sizeof t->pre_name, "%s", p->name);
    t->ignore_merges = p->ignore_merges;
    if (p->nfc)
        st = radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_NFC, NULL, 0, NULL, 0, err);
    t->normalizer.n_before_added = t->normalizer.n;
    if (st == RADAR_OK && p->digits_first)
        st = radar_pretokenizer_add(&t->pretokenizer, radar_regex_digit, strlen(radar_regex_digit),
                                    false, RADAR_SPLIT_ISOLATED, false, err);
    if (st == RADAR_OK)
        st = radar_pretokenizer_add(&t->pretokenizer, p->regex, strlen(p->regex), false,
                                    RADAR_SPLIT_ISOLATED, false, err);
    return st;
}

/* ---- tokens ---- */

static radar_status missing(const radar_tensorfile *tf, const char *key, radar_error *err) {
    return radar_fail(err, RADAR_ERR_DATA, "%s: " KEY "%s is missing or of another type; " CURE,
                      radar_tensorfile_path(tf), key);
}

static int flags_of(int64_t type) {
    switch (type) {
    case TYPE_NORMAL:
        return RADAR_TOKEN_MODEL;
    case TYPE_BYTE:
        return RADAR_TOKEN_MODEL | RADAR_TOKEN_BYTE;
    case TYPE_UNKNOWN:
    case TYPE_CONTROL:
        return RADAR_TOKEN_ADDED | RADAR_TOKEN_SPECIAL;
    case TYPE_USER:
        return RADAR_TOKEN_ADDED;
    default:
        return 0;
    }
}

static radar_status read_token(radar_tokenizer *t, const radar_tensorfile *tf, int64_t id,
                               bool typed, radar_error *err) {
    const char *text;
    size_t bytes;
    int64_t type = TYPE_NORMAL;
    if (!radar_gguf_array_string(tf, KEY "tokens", id, &text, &bytes))
        return missing(tf, "tokens", err);
    if (typed && !radar_gguf_array_int(tf, KEY "token_type", id, &type))
        return missing(tf, "token_type", err);
    if (type < TYPE_NORMAL || type > TYPE_BYTE)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: token %lld is of type %lld, which is not known; " CURE,
                          radar_tensorfile_path(tf), (long long)id, (long long)type);
    int flags = flags_of(type);
    radar_status st = radar_vocab_set(&t->vocab, id, text, bytes, flags, err);
    if (st != RADAR_OK || !(flags & RADAR_TOKEN_ADDED) || !bytes) return st;
    return radar_specials_add(&t->raw, text, bytes, (int32_t)id,
                              flags & RADAR_TOKEN_SPECIAL ? RADAR_ADDED_SPECIAL : 0, err);
}

static radar_status read_tokens(radar_tokenizer *t, const radar_tensorfile *tf, radar_error *err) {
    int64_t n = radar_gguf_array(tf, KEY "tokens"), types = radar_gguf_array(tf, KEY "token_type");
    size_t total = 0, bytes;
    const char *text;
    if (n < 1) return missing(tf, "tokens", err);
    if (types >= 0 && types != n)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: %lld tokens but %lld types; the file is damaged",
                          radar_tensorfile_path(tf), (long long)n, (long long)types);
    for (int64_t i = 0; i < n && i < RADAR_VOCAB_MAX; i++)
        if (!radar_gguf_array_string(tf, KEY "tokens", i, &text, &bytes) ||
            !radar_add(total, bytes, &total))
            return missing(tf, "tokens", err);
    radar_status st = radar_vocab_init(&t->vocab, n, total, err);
    for (int64_t i = 0; i < n && st == RADAR_OK; i++) st = read_token(t, tf, i, types >= 0, err);
    return st;
}

/* ---- byte-level: merges in order ---- */

static radar_status read_merge(radar_tokenizer *t, const radar_tensorfile *tf, int64_t i,
                               char *both, radar_error *err) {
    const char *text;
    size_t bytes;
    if (!radar_gguf_array_string(tf, KEY "merges", i, &text, &bytes))
        return missing(tf, "merges", err);
    const char *space = bytes > 1 ? memchr(text + 1, ' ', bytes - 1) : NULL;
    size_t left = space ? (size_t)(space - text) : 0;
    if (!left || bytes > RADAR_TOKEN_MAX)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: merge %lld is not two tokens with a space between; " CURE,
                          radar_tensorfile_path(tf), (long long)i);
    memcpy(both, text, left);
    memcpy(both + left, space + 1, bytes - left - 1);
    int32_t a = radar_vocab_find(&t->vocab, both, left),
            b = radar_vocab_find(&t->vocab, both + left, bytes - left - 1);
    int32_t made = radar_vocab_find(&t->vocab, both, bytes - 1);
    if (a < 0 || b < 0 || made < 0)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: merge %lld '%.*s' has a token that the vocabulary lacks; " CURE,
                          radar_tensorfile_path(tf), (long long)i, (int)(bytes < 60 ? bytes : 60),
                          text);
    radar_bpe_add(&t->bpe, a, b, (uint32_t)i, made);
    return RADAR_OK;
}

static radar_status read_merges(radar_tokenizer *t, const radar_tensorfile *tf, radar_error *err) {
    int64_t n = radar_gguf_array(tf, KEY "merges");
    if (n < 0) return missing(tf, "merges", err);
    radar_status st = radar_bpe_init(&t->bpe, (size_t)n, err);
    char *both = st == RADAR_OK ? radar_alloc(RADAR_TOKEN_MAX) : NULL;
    if (st == RADAR_OK && !both)
        st = radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for merges");
    for (int64_t i = 0; i < n && st == RADAR_OK; i++) st = read_merge(t, tf, i, both, err);
    radar_free(both);
    return st;
}

static radar_status fill_byte_level(radar_tokenizer *t, const radar_tensorfile *tf, bool *adds_bos,
                                    radar_error *err) {
    const pre *p;
    radar_status st;
    t->byte_level = true;
    RADAR_TRY(st, find_pre(&p, tf, err), done);
    *adds_bos = p->adds_bos;
    RADAR_TRY(st, apply_pre(t, p, err), done);
    RADAR_TRY(st, read_tokens(t, tf, err), done);
    st = read_merges(t, tf, err);
done:
    return st;
}

/* ---- SentencePiece: two tokens merge when their joint text is a token; the better score goes first ---- */

typedef struct scored {
    double score;
    int32_t id;
    uint32_t rank; /* equal scores have equal ranks, and then the leftmost pair goes first */
} scored;

typedef struct merge {
    int32_t left, right, made;
    uint32_t rank;
} merge;

static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b) {
    const scored *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* A token that merges may make or take. */
static bool is_plain(const radar_tokenizer *t, int32_t id) {
    int kind = id < 0 ? 0 : t->vocab.flags[id] & (RADAR_TOKEN_MODEL | RADAR_TOKEN_BYTE);
    return kind == RADAR_TOKEN_MODEL && t->vocab.text[id].bytes <= SPM_TOKEN_MAX;
}

static radar_status read_ranks(scored *s, const radar_tokenizer *t, const radar_tensorfile *tf,
                               radar_error *err) {
    if (radar_gguf_array(tf, KEY "scores") != t->vocab.n) return missing(tf, "scores", err);
    for (int32_t id = 0; id < t->vocab.n; id++) {
        double score;
        if (!radar_gguf_array_real(tf, KEY "scores", id, &score)) return missing(tf, "scores", err);
        if (isnan(score))
            return radar_fail(err, RADAR_ERR_DATA,
                              "%s: the score of token %d is not a number; " CURE,
                              radar_tensorfile_path(tf), id);
        s[id] = (scored){score, id, 0};
    }
    qsort(s, (size_t)t->vocab.n, sizeof *s, by_score);
    for (int32_t i = 1; i < t->vocab.n; i++)
        s[i].rank = s[i - 1].rank + (s[i].score != s[i - 1].score);
    qsort(s, (size_t)t->vocab.n, sizeof *s, by_id);
    return RADAR_OK;
}

/* All ways to cut the text of a token into two tokens. */
static size_t cuts_of(const radar_tokenizer *t, int32_t id, uint32_t rank, merge *out) {
    const char *text = t->vocab.text_data + t->vocab.text[id].at;
    size_t bytes = t->vocab.text[id].bytes, n = 0;
    if (!is_plain(t, id) || !bytes) return 0;
    for (size_t i = (size_t)radar_utf8_length((uint8_t)text[0]); i < bytes;
         i += (size_t)radar_utf8_length((uint8_t)text[i])) {
        int32_t left = radar_vocab_find(&t->vocab, text, i);
        int32_t right = is_plain(t, left) ? radar_vocab_find(&t->vocab, text + i, bytes - i) : -1;
        if (is_plain(t, right)) out[n++] = (merge){left, right, id, rank};
    }
    return n;
}

static radar_status make_merges(radar_tokenizer *t, const scored *s, merge *m, radar_error *err) {
    size_t n = 0;
    for (int32_t id = 0; id < t->vocab.n; id++) n += cuts_of(t, id, s[id].rank, m + n);
    radar_status st = radar_bpe_init(&t->bpe, n, err);
    for (size_t i = 0; i < n && st == RADAR_OK; i++)
        radar_bpe_add(&t->bpe, m[i].left, m[i].right, m[i].rank, m[i].made);
    return st;
}

static radar_status read_scores(radar_tokenizer *t, const radar_tensorfile *tf, radar_error *err) {
    scored *s = radar_alloc_array((size_t)t->vocab.n, sizeof *s);
    merge *m =
        radar_alloc_array(t->vocab.text_used + 1, sizeof *m); /* a cut for each byte, at most */
    radar_status st = s && m ? read_ranks(s, t, tf, err)
                             : radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for scores");
    if (st == RADAR_OK) st = make_merges(t, s, m, err);
    radar_free(m);
    radar_free(s);
    return st;
}

static radar_status refuse_extras(const radar_tensorfile *tf, radar_error *err) {
    bool on;
    if (radar_gguf_bool(tf, KEY "remove_extra_whitespaces", &on) && on)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: " KEY "remove_extra_whitespaces is not known here; " CURE,
                          radar_tensorfile_path(tf));
    if (radar_gguf_array(tf, KEY "precompiled_charsmap") > 0)
        return radar_fail(err, RADAR_ERR_DATA,
                          "%s: " KEY "precompiled_charsmap is not known here; " CURE,
                          radar_tensorfile_path(tf));
    return RADAR_OK;
}

static radar_status fill_sentencepiece(radar_tokenizer *t, const radar_tensorfile *tf,
                                       radar_error *err) {
    static const char space[] = "\xe2\x96\x81";
    radar_status st;
    bool prefix = true;
    int64_t unk = 0;
    snprintf(t->pre_name, sizeof t->pre_name, "llama");
    t->byte_fallback = t->fuse_unk = t->spaces = true;
    radar_gguf_bool(tf, KEY "add_space_prefix", &prefix);
    t->strip_space = prefix;
    RADAR_TRY(st, refuse_extras(tf, err), done);
    RADAR_TRY(st, read_tokens(t, tf, err), done);
    radar_gguf_int(tf, KEY "unknown_token_id", &unk);
    t->unk = unk >= 0 && unk < t->vocab.n ? (int32_t)unk : -1;
    if (prefix)
        RADAR_TRY(
            st,
            radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_PREPEND, NULL, 0, space, 3, err),
            done);
    RADAR_TRY(st,
              radar_normalizer_add(&t->normalizer, RADAR_NORMALIZE_REPLACE, " ", 1, space, 3, err),
              done);
    t->normalizer.n_before_added = t->normalizer.n;
    st = read_scores(t, tf, err);
done:
    return st;
}

/* ---- what belongs around a text ---- */

static radar_status read_end(const radar_tokenizer *t, const radar_tensorfile *tf, const char *flag,
                             bool wanted, const char *id_key, int32_t *ids, int *n,
                             radar_error *err) {
    int64_t id = -1;
    radar_gguf_bool(tf, flag, &wanted);
    if (!wanted) return RADAR_OK;
    if (!radar_gguf_int(tf, id_key, &id) || id < 0 || id >= t->vocab.n)
        return radar_fail(err, RADAR_ERR_DATA, "%s: %s is set, but %s names no token; " CURE,
                          radar_tensorfile_path(tf), flag, id_key);
    ids[0] = (int32_t)id;
    *n = 1;
    return RADAR_OK;
}

static radar_status fill_by_model(radar_tokenizer *t, const radar_tensorfile *tf,
                                  radar_error *err) {
    const char *model;
    size_t bytes;
    bool adds_bos = true;
    if (!radar_gguf_string(tf, KEY "model", &model, &bytes)) return missing(tf, "model", err);
    radar_status st;
    if (bytes == 4 && !memcmp(model, "gpt2", 4))
        st = fill_byte_level(t, tf, &adds_bos, err);
    else if (bytes == 5 && !memcmp(model, "llama", 5))
        st = fill_sentencepiece(t, tf, err);
    else
        st = radar_fail(err, RADAR_ERR_DATA,
                        "%s: " KEY "model '%.*s' is not known (gpt2, llama are); " CURE,
                        radar_tensorfile_path(tf), (int)(bytes < 40 ? bytes : 40), model);
    if (st == RADAR_OK)
        st = read_end(t, tf, KEY "add_bos_token", adds_bos, KEY "bos_token_id", t->before,
                      &t->n_before, err);
    if (st == RADAR_OK)
        st = read_end(t, tf, KEY "add_eos_token", false, KEY "eos_token_id", t->after, &t->n_after,
                      err);
    return st;
}

radar_status radar_tokenizer_from_gguf(radar_tokenizer *t, const radar_tensorfile *tf,
                                       radar_error *err) {
    const char *text;
    size_t bytes;
    if (!radar_gguf_string(tf, "tokenizer.huggingface.json", &text, &bytes))
        return fill_by_model(t, tf, err);
    json_t *root;
    radar_status st = radar_json_parse(&root, "tokenizer.huggingface.json", text, bytes, err);
    if (st == RADAR_OK) st = radar_tokenizer_from_json(t, root, err);
    json_decref(root);
    return st;
}
