/* Own weights packed at open: the logits are those of stored weights to the bit, and the memory is what was said. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu/isa.h"
#include "kernels/matmul.h"
#include "runtime/engine.h"
#include "runtime/sys.h"
#include "tests/unit/make_files.h"
#include "tests/unit/tokenizer_files.h"

enum { WIDTH = 256, KEY = 128, INNER = 512, VOCAB = 512, LAYERS = 2 };

/* A model whose down has two columns of K blocks, fewer than the shards; weights are small numbers of many kinds. */
static void write_model(char path[64], uint32_t type) {
    tiny t = {"llama", LAYERS, WIDTH, 4, 2, 64, INNER, VOCAB, type, true, false, false, false};
    gguf g = tiny_gguf(&t);
    for (size_t i = 0; i + 4 <= g.data.n; i += 4) {
        uint32_t at = (uint32_t)i * 2654435761u, zero = 0, some = (at >> 7 ^ at) & 0x1b1b1b1bu;
        if (memcmp(g.data.data + i, &zero, 4) == 0) memcpy(g.data.data + i, &some, 4);
    }
    blob b = gguf_bytes(&g, NULL);
    snprintf(path, 64, "/tmp/radar-weights-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.data, b.n), (ssize_t)b.n);
    close(fd);
    drop(&b);
}

static char tokenizer[64];

static int write_tokenizer(void **state) {
    (void)state;
    snprintf(tokenizer, sizeof tokenizer, "/tmp/radar-tokenizer-XXXXXX");
    int fd = mkstemp(tokenizer);
    json_t *file = tekken_file();
    int bad = fd < 0 || json_dumpfd(file, fd, 0);
    json_decref(file);
    close(fd);
    return bad;
}

static int remove_tokenizer(void **state) {
    (void)state;
    return unlink(tokenizer);
}

static radar_status open_engine(radar_engine **e, const char *path, const char *isa,
                                const char *precision, char error[512]) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    opt.model = path;
    opt.tokenizer = tokenizer;
    opt.isa = isa;
    opt.precision = precision;
    opt.threads = 2;
    return radar_engine_open(e, MPI_COMM_NULL, &opt, error, 512);
}

/* Logits of 12 tokens and of one more; the bytes that were packed. */
static size_t logits_of(float *out, const char *path, const char *isa, const char *precision) {
    static const int32_t ids[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9};
    char error[512] = "";
    radar_engine *e;
    radar_session *s;
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.attention = "dense";
    if (open_engine(&e, path, isa, precision, error) != RADAR_OK) fail_msg("%s", error);
    opt.context = 64;
    assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
    assert_int_equal(radar_score(s, ids, 12, out), RADAR_OK);
    assert_int_equal(radar_score(s, ids + 12, 1, out + 12 * VOCAB), RADAR_OK);
    size_t packed = e->packed_bytes;
    assert_int_equal(e->packed_end, packed);
    assert_null(e->model->embedding.packed);
    radar_session_close(s);
    radar_engine_close(e);
    return packed;
}

static bool have(const char *isa) {
    bool ok;
    radar_cpu_isa(isa, &ok);
    return ok;
}

static size_t expected(radar_dtype type) {
    size_t layer = 2 * radar_matmul_packed_bytes(type, WIDTH, WIDTH) +
                   2 * radar_matmul_packed_bytes(type, KEY, WIDTH) +
                   2 * radar_matmul_packed_bytes(type, INNER, WIDTH) +
                   radar_matmul_packed_bytes(type, WIDTH, INNER);
    return LAYERS * layer + radar_matmul_packed_bytes(type, VOCAB, WIDTH);
}

static void packed_models_give_the_bits_of_stored_ones(void **state) {
    static const struct {
        uint32_t number;
        radar_dtype type;
    } row[] = {{T_Q8_0, RADAR_Q8_0}, {T_Q5_0, RADAR_Q5_0}, {T_Q5_1, RADAR_Q5_1},
               {T_Q4_K, RADAR_Q4_K}, {T_Q5_K, RADAR_Q5_K}, {T_Q6_K, RADAR_Q6_K}};
    static float want[13 * VOCAB], got[13 * VOCAB];
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char path[64];
        write_model(path, row[i].number);
        assert_int_equal(logits_of(want, path, "plain", "fast"), 0);
        bool differ = false;
        for (int j = 0; j < VOCAB; j++) {
            assert_true(isfinite(want[j]));
            differ = differ || want[j] != want[0];
        }
        assert_true(differ);
        const char *const isa[] = {"avx2", "avx512"};
        for (int j = 0; j < 2; j++) {
            if (!have(isa[j])) continue;
            assert_int_equal(logits_of(got, path, isa[j], "fast"), expected(row[i].type));
            assert_memory_equal(got, want, sizeof want);
        }
        assert_int_equal(logits_of(got, path, NULL, "exact"), 0);
        unlink(path);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

static size_t little(void) { return 4096; }

static void weights_that_do_not_fit_are_refused_with_their_bytes(void **state) {
    (void)state;
    if (!have("avx2")) skip();
    char path[64], error[512] = "", want[64];
    radar_engine *e;
    size_t (*before)(void) = radar_sys_table.available;
    write_model(path, T_Q4_K);
    radar_sys_table.available = little;
    assert_int_equal(open_engine(&e, path, NULL, "fast", error), RADAR_ERR_MEMORY);
    radar_sys_table.available = before;
    snprintf(want, sizeof want, "weights: %zu bytes", expected(RADAR_Q4_K));
    assert_non_null(strstr(error, want));
    assert_null(e);
    assert_int_equal(radar_alloc_live(), 0);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_models_give_the_bits_of_stored_ones),
        cmocka_unit_test(weights_that_do_not_fit_are_refused_with_their_bytes),
    };
    return cmocka_run_group_tests(tests, write_tokenizer, remove_tokenizer);
}
