/* tokenizer_fixture.h - small tokenizers that the tests write themselves, and comparing ids. */
#ifndef TOKENIZER_FIXTURE_H
#define TOKENIZER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/sys.h"
#include "runtime/tokenizer_internal.h"

/* Encodes text and compares with want[0 .. n-1]. */
static inline void expect_ids(const radar_tokenizer *t, const char *text, int flags, const int *want, size_t n) {
    radar_error err = {0};
    int32_t *ids;
    size_t got;
    assert_int_equal(radar_tokenizer_encode(t, text, strlen(text), flags, &ids, &got, &err), RADAR_OK);
    for (size_t i = 0; i < got || i < n; i++) {
        if (i < got && i < n && ids[i] == want[i]) continue;
        print_error("'%s': token %zu of %zu (%zu wanted):", text, i, got, n);
        for (size_t k = 0; k < got; k++) print_error(" %d", ids[k]);
        fail_msg("wrong ids");
    }
    radar_free(ids);
}
#define EXPECT(t, text, flags, ...)                                                                \
    expect_ids(t, text, flags, (int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))

/* Writes text to a file of its own, whose name goes to path[64]. */
static inline void write_file(char *path, const char *suffix, const void *data, size_t bytes) {
    snprintf(path, 64, "/tmp/radar-test-XXXXXX%s", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), (long)bytes);
    close(fd);
}

static inline radar_status open_json(radar_tokenizer **t, json_t *root, radar_error *err) {
    char path[64], *text = json_dumps(root, 0);
    write_file(path, ".json", text, strlen(text));
    radar_status st = radar_tokenizer_open(t, NULL, path, err);
    unlink(path);
    free(text);
    return st;
}

/* "a b|c d" -> ["a b", "c d"], and the vocabulary grows by the joint tokens. */
static inline json_t *grow_by_merges(json_t *vocab, const char *merges) {
    json_t *list = json_array();
    char *copy = strdup(merges), *rest = copy, *one;
    while ((one = strsep(&rest, "|"))) {
        char joint[64] = "", *space = strchr(one, ' ');
        json_array_append_new(list, json_string(one));
        memcpy(joint, one, (size_t)(space - one));
        strcat(joint, space + 1);
        if (!json_object_get(vocab, joint)) json_object_set_new(vocab, joint, json_integer((json_int_t)json_object_size(vocab)));
    }
    free(copy);
    return list;
}

/* Ids 0 .. 255 are the bytes, then come the results of the merges in their order, then `more` (separated by |). */
static inline json_t *byte_level_model(const char *merges, const char *more, bool ignore_merges) {
    json_t *vocab = json_object();
    for (int b = 0; b < 256; b++) {
        char letter[3] = {0};
        radar_byte_letter((uint8_t)b, letter);
        json_object_set_new(vocab, letter, json_integer(b));
    }
    json_t *list = grow_by_merges(vocab, merges);
    char *copy = strdup(more), *rest = copy, *one;
    while ((one = strsep(&rest, "|")))
        if (*one) json_object_set_new(vocab, one, json_integer((json_int_t)json_object_size(vocab)));
    free(copy);
    return json_pack("{s:s, s:b, s:o, s:o}", "type", "BPE", "ignore_merges", ignore_merges, "vocab", vocab, "merges", list);
}

/* Ids 0 1 2: <unk> <s> </s>; 3 .. 258: bytes; then characters; then the results of the merges. */
static inline json_t *spm_model(const char *characters, const char *merges, bool byte_fallback) {
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    json_t *vocab = json_object();
    for (int i = 0; i < 3; i++) json_object_set_new(vocab, first[i], json_integer(i));
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        json_object_set_new(vocab, name, json_integer(3 + b));
    }
    for (const char *c = characters; *c; c += radar_utf8_length((uint8_t)*c))
        json_object_set_new(vocab, (char[5]){c[0], radar_utf8_length((uint8_t)*c) > 1 ? c[1] : 0, radar_utf8_length((uint8_t)*c) > 2 ? c[2] : 0},
                            json_integer((json_int_t)json_object_size(vocab)));
    json_t *list = grow_by_merges(vocab, merges);
    return json_pack("{s:s, s:s, s:b, s:b, s:o, s:o}", "type", "BPE", "unk_token", "<unk>", "fuse_unk", 1, "byte_fallback", byte_fallback,
                     "vocab", vocab, "merges", list);
}

static inline json_t *parse(const char *text) {
    json_error_t e;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &e);
    if (!v) fail_msg("the test's own JSON: %s in %s", e.text, text);
    return v;
}

/* A whole file; parts are JSON texts. */
static inline json_t *tokenizer_file(json_t *model, const char *normalizer, const char *pre_tokenizer, const char *post_processor,
                                     const char *decoder, const char *added) {
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens", parse(added),
                     "normalizer", parse(normalizer), "pre_tokenizer", parse(pre_tokenizer), "post_processor", parse(post_processor),
                     "decoder", parse(decoder), "model", model);
}

static inline radar_tokenizer *must_open(json_t *root) {
    radar_error err = {0};
    radar_tokenizer *t;
    radar_status st = open_json(&t, root, &err);
    if (st != RADAR_OK) fail_msg("%s", err.text);
    json_decref(root);
    return t;
}

static inline void must_refuse(json_t *root, const char *what) {
    radar_error err = {0};
    radar_tokenizer *t;
    long live = radar_alloc_live();
    assert_int_equal(open_json(&t, root, &err), RADAR_ERR_DATA);
    assert_null(t);
    if (!strstr(err.text, what)) fail_msg("'%s' does not name '%s'", err.text, what);
    assert_int_equal(radar_alloc_live(), live);
    json_decref(root);
}

#endif
