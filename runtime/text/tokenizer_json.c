/* tokenizer_json.c - a tokenizer from a Hugging Face tokenizer.json: the model, its vocabulary, added tokens.
 * The parts around the model are in tokenizer_json_parts.c. */
#include <stdio.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/tokenizer_internal.h"
#include "runtime/text/tokenizer_json.h"

#define MODEL "tokenizer.json: model"

/* ---- reading objects ---- */

bool radar_json_is(const json_t *object, const char *key, const char *value) {
    const char *s = json_string_value(json_object_get(object, key));
    return s && !strcmp(s, value);
}

const char *radar_json_type(const json_t *object) {
    const char *s = json_string_value(json_object_get(object, "type"));
    return s ? s : "";
}

bool radar_json_flag(const json_t *object, const char *key, bool otherwise) {
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static bool is_listed(const char *key, const char *const *known) {
    for (; *known; known++)
        if (!strcmp(key, *known)) return true;
    return false;
}

radar_status radar_json_only(const json_t *object, const char *where, const char *const *known,
                             radar_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return radar_fail(err, RADAR_ERR_DATA, "%s is not an object; the file is damaged", where);
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (!is_listed(key, known))
            return radar_fail(
                err, RADAR_ERR_DATA,
                "%s has '%.60s', which is not known; the tokenizer needs a newer radar", where,
                key);
    }
    return RADAR_OK;
}

/* ---- vocabulary ---- */

/* One past the largest id, and the bytes of all texts. */
static radar_status measure(json_t *vocab, json_t *added, int64_t *n, size_t *bytes,
                            radar_error *err) {
    const char *key;
    json_t *value;
    size_t i;
    *n = 0;
    *bytes = 0;
    json_object_foreach(vocab, key, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) >= RADAR_VOCAB_MAX)
            return radar_fail(err, RADAR_ERR_DATA,
                              MODEL ".vocab: the id of '%.60s' is not an integer from 0 to %d", key,
                              RADAR_VOCAB_MAX - 1);
        *n = radar_max64(*n, json_integer_value(value) + 1);
        *bytes += strlen(key);
    }
    json_array_foreach(added, i, value) {
        const json_t *id = json_object_get(value, "id"), *text = json_object_get(value, "content");
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= RADAR_VOCAB_MAX || !json_is_string(text))
            return radar_fail(
                err, RADAR_ERR_DATA,
                "tokenizer.json: added_tokens[%zu] has no content or no id from 0 to %d", i,
                RADAR_VOCAB_MAX - 1);
        *n = radar_max64(*n, json_integer_value(id) + 1);
        *bytes += json_string_length(text);
    }
    return RADAR_OK;
}

static radar_status read_vocab(radar_tokenizer *t, json_t *model, json_t *added, radar_error *err) {
    json_t *vocab = json_object_get(model, "vocab"), *value;
    const char *key;
    int64_t n;
    size_t bytes;
    if (!json_is_object(vocab))
        return radar_fail(err, RADAR_ERR_DATA, MODEL ".vocab is missing; the file is damaged");
    radar_status st = measure(vocab, added, &n, &bytes, err);
    if (st == RADAR_OK) st = radar_vocab_init(&t->vocab, n, bytes, err);
    if (st != RADAR_OK) return st;
    json_object_foreach(vocab, key, value) {
        st = radar_vocab_set(&t->vocab, json_integer_value(value), key, strlen(key),
                             RADAR_TOKEN_MODEL, err);
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

/* ---- added tokens ---- */

static int added_flags(const json_t *token) {
    int flags = radar_json_flag(token, "special", false) ? RADAR_ADDED_SPECIAL : 0;
    if (radar_json_flag(token, "lstrip", false)) flags |= RADAR_ADDED_LSTRIP;
    if (radar_json_flag(token, "rstrip", false)) flags |= RADAR_ADDED_RSTRIP;
    if (radar_json_flag(token, "single_word", false)) flags |= RADAR_ADDED_SINGLE_WORD;
    return flags;
}

/* The text of an added token may be in the vocabulary already, with the same id. */
static radar_status name_added(radar_tokenizer *t, const char *text, size_t bytes, int64_t id,
                               bool special, radar_error *err) {
    int kind = RADAR_TOKEN_ADDED | (special ? RADAR_TOKEN_SPECIAL : 0);
    int32_t there = radar_vocab_find(&t->vocab, text, bytes);
    if (there < 0) return radar_vocab_set(&t->vocab, id, text, bytes, kind, err);
    if (there != id)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer.json: added token '%.60s' has id %lld, the vocabulary says %d",
                          text, (long long)id, there);
    t->vocab.flags[id] |= (uint8_t)kind;
    return RADAR_OK;
}

/* Tokens matched in normalised text are spelled as the normaliser makes them. */
static radar_status add_normalized(radar_tokenizer *t, const char *text, size_t bytes, int32_t id,
                                   int flags, radar_error *err) {
    radar_arena a = {0};
    radar_status st = radar_normalize(&t->normalizer, 0, t->normalizer.n_before_added, &a, true,
                                      &text, &bytes, err);
    if (st == RADAR_OK) st = radar_specials_add(&t->normalized, text, bytes, id, flags, err);
    radar_arena_free(&a);
    return st;
}

static radar_status read_added(radar_tokenizer *t, const json_t *token, radar_error *err) {
    static const char *const known[] = {"id",     "content",    "single_word", "lstrip",
                                        "rstrip", "normalized", "special",     NULL};
    const json_t *content = json_object_get(token, "content");
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    int64_t id = json_integer_value(json_object_get(token, "id"));
    int flags = added_flags(token);
    radar_status st = radar_json_only(token, "tokenizer.json: an added token", known, err);
    if (st == RADAR_OK) st = name_added(t, text, bytes, id, flags & RADAR_ADDED_SPECIAL, err);
    if (st != RADAR_OK || !bytes) return st;
    if (radar_json_flag(token, "normalized", !(flags & RADAR_ADDED_SPECIAL)))
        return add_normalized(t, text, bytes, (int32_t)id, flags, err);
    return radar_specials_add(&t->raw, text, bytes, (int32_t)id, flags, err);
}

/* ---- merges: "a b" or ["a", "b"] ---- */

typedef struct joint {
    const char *left, *right;
    size_t left_bytes, right_bytes;
} joint;

static bool split_merge(const json_t *merge, joint *j) {
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge);
        size_t bytes = json_string_length(merge);
        const char *space = memchr(text, ' ', bytes);
        if (!space || memchr(space + 1, ' ', bytes - (size_t)(space + 1 - text))) return false;
        *j = (joint){text, space + 1, (size_t)(space - text), bytes - (size_t)(space + 1 - text)};
    } else {
        const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
        if (json_array_size(merge) != 2 || !json_is_string(a) || !json_is_string(b)) return false;
        *j = (joint){json_string_value(a), json_string_value(b), json_string_length(a),
                     json_string_length(b)};
    }
    return j->left_bytes + j->right_bytes <= RADAR_TOKEN_MAX;
}

static radar_status add_merge(radar_tokenizer *t, const joint *j, size_t i, char *both,
                              radar_error *err) {
    memcpy(both, j->left, j->left_bytes);
    memcpy(both + j->left_bytes, j->right, j->right_bytes);
    int32_t left = radar_vocab_find(&t->vocab, j->left, j->left_bytes),
            right = radar_vocab_find(&t->vocab, j->right, j->right_bytes);
    int32_t made = radar_vocab_find(&t->vocab, both, j->left_bytes + j->right_bytes);
    if (left < 0 || right < 0 || made < 0)
        return radar_fail(
            err, RADAR_ERR_DATA,
            MODEL
            ".merges[%zu]: '%.40s' and '%.40s': the vocabulary lacks one of them, or both together",
            i, j->left, j->right);
    radar_bpe_add(&t->bpe, left, right, (uint32_t)i, made);
    return RADAR_OK;
}

static radar_status read_merges(radar_tokenizer *t, const json_t *model, radar_error *err) {
    const json_t *merges = json_object_get(model, "merges");
    size_t n = json_array_size(merges);
    if (!json_is_array(merges))
        return radar_fail(err, RADAR_ERR_DATA, MODEL ".merges is missing; the file is damaged");
    radar_status st = radar_bpe_init(&t->bpe, n, err);
    char *both = st == RADAR_OK ? radar_alloc(RADAR_TOKEN_MAX) : NULL;
    if (st == RADAR_OK && !both)
        st = radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for merges");
    for (size_t i = 0; i < n && st == RADAR_OK; i++) {
        joint j;
        if (split_merge(json_array_get(merges, i), &j))
            st = add_merge(t, &j, i, both, err);
        else
            st = radar_fail(err, RADAR_ERR_DATA,
                            MODEL ".merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]", i);
    }
    radar_free(both);
    return st;
}

/* ---- model ---- */

static bool is_off(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_number(v) && json_number_value(v) == 0) ||
           (json_is_string(v) && json_string_length(v) == 0);
}

static radar_status check_model(const json_t *model, radar_error *err) {
    static const char *const known[] = {"type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL};
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = radar_json_type(model);
    if (*type ? strcmp(type, "BPE") != 0 : !json_object_get(model, "merges"))
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer.json: model type '%.60s' is not known (BPE is); use a model "
                          "with a BPE tokenizer",
                          type);
    radar_status st = radar_json_only(model, MODEL, known, err);
    for (size_t i = 0; i < 3 && st == RADAR_OK; i++)
        if (!is_off(json_object_get(model, off[i])))
            st = radar_fail(
                err, RADAR_ERR_DATA,
                MODEL ".%s is set, which is not known; use the tokenizer of another model", off[i]);
    return st;
}

static radar_status read_options(radar_tokenizer *t, const json_t *model, radar_error *err) {
    const json_t *unk = json_object_get(model, "unk_token");
    t->fuse_unk = radar_json_flag(model, "fuse_unk", false);
    t->byte_fallback = radar_json_flag(model, "byte_fallback", false);
    t->ignore_merges = radar_json_flag(model, "ignore_merges", false);
    if (t->byte_level && t->byte_fallback)
        return radar_fail(err, RADAR_ERR_DATA,
                          MODEL ".byte_fallback together with ByteLevel is not known; use the "
                                "tokenizer of another model");
    if (!json_is_string(unk)) return RADAR_OK;
    t->unk = radar_vocab_find(&t->vocab, json_string_value(unk), json_string_length(unk));
    if (t->unk >= 0) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_DATA, MODEL ".unk_token '%.60s' is not in the vocabulary",
                      json_string_value(unk));
}

radar_status radar_tokenizer_from_json(radar_tokenizer *t, const json_t *root, radar_error *err) {
    static const char *const known[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens"),
           *token;
    size_t i;
    radar_status st;
    snprintf(t->pre_name, sizeof t->pre_name, "tokenizer.json");
    RADAR_TRY(st, radar_json_only(root, "tokenizer.json", known, err), done);
    RADAR_TRY(st, check_model(model, err), done);
    RADAR_TRY(st, radar_json_normalizer(t, json_object_get(root, "normalizer"), err), done);
    RADAR_TRY(st, radar_json_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), err), done);
    RADAR_TRY(st, radar_json_decoder(t, json_object_get(root, "decoder"), err), done);
    RADAR_TRY(st, read_vocab(t, model, added, err), done);
    json_array_foreach(added, i, token) RADAR_TRY(st, read_added(t, token, err), done);
    RADAR_TRY(st, read_options(t, model, err), done);
    RADAR_TRY(st, read_merges(t, model, err), done);
    st = radar_json_post_processor(t, json_object_get(root, "post_processor"), err);
done:
    return st;
}
