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
#include "runtime/text/tokenizer_internal.h"
#include "tests/unit/tokenizer_files.h"

/* Encodes text and compares with want[0 .. n-1]. */
static inline void expect_ids(const radar_tokenizer *t, const char *text, int flags,
                              const int *want, size_t n) {
    radar_error err = {0};
    int32_t *ids;
    size_t got;
    assert_int_equal(radar_tokenizer_encode(t, text, strlen(text), flags, &ids, &got, &err),
                     RADAR_OK);
    for (size_t i = 0; i < got || i < n; i++) {
        if (i < got && i < n && ids[i] == want[i]) continue;
        print_error("'%s': token %zu of %zu (%zu wanted):", text, i, got, n);
        for (size_t k = 0; k < got; k++) print_error(" %d", ids[k]);
        fail_msg("wrong ids");
    }
    radar_free(ids);
}
#define EXPECT(t, text, flags, ...) \
    expect_ids(t, text, flags, (int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))

/* Writes text to a file of its own, whose name goes to path[64]. */
static inline void write_temporary(char *path, const char *suffix, const void *data, size_t bytes) {
    snprintf(path, 64, "/tmp/radar-test-XXXXXX%s", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), (long)bytes);
    close(fd);
}

static inline radar_status open_json(radar_tokenizer **t, json_t *root, radar_error *err) {
    char path[64], *text = json_dumps(root, 0);
    write_temporary(path, ".json", text, strlen(text));
    radar_status st = radar_tokenizer_open(t, NULL, path, err);
    unlink(path);
    free(text);
    return st;
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
