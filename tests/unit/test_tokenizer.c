/* The demo model's tokenizer against golden data, and what must hold for any text. */
#include "tests/unit/tokenizer_fixture.h"

#include <xxhash.h>

#define MODEL "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"

typedef struct shared {
    radar_tensorfile *tf;
    radar_tokenizer *t;
    json_t *golden;
} shared;

static int open_model(void **state) {
    static shared s;
    radar_error err = {0};
    json_error_t e;
    s.golden = json_load_file("tests/golden/tokenizer-smollm2.json", JSON_ALLOW_NUL, &e);
    if (!s.golden) print_error("tests/golden/tokenizer-smollm2.json: %s\n", e.text);
    if (access(MODEL, R_OK) == 0 || !getenv("RADAR_NO_MODEL")) {
        if (radar_tensorfile_open(&s.tf, MODEL, &err) != RADAR_OK ||
            radar_tokenizer_open(&s.t, s.tf, NULL, &err) != RADAR_OK) {
            print_error("%s\n", err.text);
            return -1;
        }
    }
    *state = &s;
    return s.golden ? 0 : -1;
}

static int close_model(void **state) {
    shared *s = *state;
    json_decref(s->golden);
    radar_tokenizer_close(s->t);
    radar_tensorfile_close(s->tf);
    return radar_alloc_live() ? -1 : 0;
}

static const shared *need_model(void **state) {
    const shared *s = *state;
    if (!s->t) skip();
    return s;
}

/* ---- golden data ---- */

static size_t unhex(const json_t *hex, char *out, size_t room) {
    const char *h = json_string_value(hex);
    size_t n = json_string_length(hex) / 2;
    assert_true(n <= room);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(h + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    return n;
}

static size_t read_ids(const json_t *list, int32_t *out, size_t room) {
    size_t n = json_array_size(list);
    assert_true(n <= room);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* Whether text gives the ids of the list. */
static bool gives(const radar_tokenizer *t, const char *text, size_t bytes, int flags,
                  const json_t *list) {
    static int32_t want[1 << 16];
    radar_error err = {0};
    int32_t *ids;
    size_t n, n_want = read_ids(list, want, sizeof want / sizeof *want);
    assert_int_equal(radar_tokenizer_encode(t, text, bytes, flags, &ids, &n, &err), RADAR_OK);
    bool same = n == n_want && (n == 0 || !memcmp(ids, want, n * sizeof *ids));
    radar_free(ids);
    return same;
}

static void all_golden_texts_give_the_golden_ids(void **state) {
    static char text[1 << 17];
    const shared *s = need_model(state);
    const json_t *cases = json_object_get(s->golden, "cases"), *one, *plain;
    size_t i;
    int wrong = 0;
    assert_int_equal(json_array_size(cases), 415);
    json_array_foreach(cases, i,
                       one) { /* disputed ones too: `ids` is what the original definition gives */
        size_t bytes = unhex(json_object_get(one, "hex"), text, sizeof text);
        plain = json_object_get(one, "ids_no_special");
        if (!plain) plain = json_object_get(one, "ids");
        bool good =
            gives(s->t, text, bytes, RADAR_TOKENIZE_SPECIAL, json_object_get(one, "ids")) &&
            gives(s->t, text, bytes, 0, plain) &&
            gives(s->t, text, bytes, RADAR_TOKENIZE_BOS, plain); /* this model adds no BOS */
        if (!good) print_error("case %zu differs\n", i);
        wrong += !good;
    }
    assert_int_equal(wrong, 0);
}

static void all_golden_ids_give_the_golden_bytes(void **state) {
    static char want[1 << 16];
    static int32_t ids[1 << 12];
    const shared *s = need_model(state);
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(s->golden, "detokenise"), i, one) {
        size_t n = read_ids(json_object_get(one, "ids"), ids, sizeof ids / sizeof *ids);
        for (int skip_special = 0; skip_special < 2; skip_special++) {
            radar_error err = {0};
            char *text;
            size_t bytes,
                n_want = unhex(json_object_get(one, skip_special ? "hex_without_special" : "hex"),
                               want, sizeof want);
            assert_int_equal(
                radar_tokenizer_decode(s->t, ids, n, skip_special, &text, &bytes, &err), RADAR_OK);
            assert_int_equal(bytes, n_want);
            assert_memory_equal(text, want, bytes);
            assert_int_equal(text[bytes], 0);
            radar_free(text);
        }
    }
    assert_int_equal(i, 40);
}

static void special_tokens_and_missing_bytes_are_those_of_the_model(void **state) {
    const shared *s = need_model(state);
    const json_t *pieces = json_object_get(s->golden, "pieces");
    int32_t missing[256];
    size_t n = read_ids(json_object_get(pieces, "single_byte_token_missing_for"), missing, 256),
           k = 0;
    for (int b = 0; b < 256; b++) {
        bool listed = k < n && missing[k] == b;
        k += listed;
        assert_int_equal(s->t->byte_id[b] < 0, listed);
    }
    assert_int_equal(radar_tokenizer_vocab(s->t), 49152);
    for (int32_t id = 0; id < 49152; id++)
        assert_int_equal(radar_tokenizer_is_special(s->t, id), id < 17);
    assert_int_equal(radar_tokenizer_find(s->t, "<|im_end|>", 10), 2);
    assert_int_equal(radar_tokenizer_find(s->t, "<|im_gone|>", 11), -1);
    assert_string_equal(radar_tokenizer_describe(s->t),
                        "byte-level BPE (smollm), 49152 tokens, 17 special");
}

/* The pieces of all tokens, each after its length as u32.  The XXH3 was taken of bytes whose SHA-256 is the one in the golden file. */
static void pieces_of_all_tokens_are_the_golden_ones(void **state) {
    const shared *s = need_model(state);
    XXH3_state_t *h = XXH3_createState();
    XXH3_64bits_reset(h);
    for (int32_t id = 0; id < radar_tokenizer_vocab(s->t); id++) {
        size_t bytes;
        const char *piece = radar_tokenizer_piece(s->t, id, &bytes);
        uint32_t length = (uint32_t)bytes;
        XXH3_64bits_update(h, &length, sizeof length);
        XXH3_64bits_update(h, piece, bytes);
    }
    uint64_t hash = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    assert_int_equal(hash, UINT64_C(0xb03683e521a95a4c));
    size_t bytes = 1;
    assert_null(radar_tokenizer_piece(s->t, -1, &bytes));
    assert_int_equal(bytes, 0);
    assert_null(radar_tokenizer_piece(s->t, 49152, &bytes));
}

static char *read_file(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is missing", path);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*bytes + 1);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

static void begins_with_ids(const radar_tokenizer *t, const char *text_path, size_t offset,
                            const char *ids_path) {
    radar_error err = {0};
    size_t bytes, ids_bytes, n;
    int32_t *ids;
    char *text = read_file(text_path, &bytes), *want = read_file(ids_path, &ids_bytes);
    assert_int_equal(radar_tokenizer_encode(t, text + offset, bytes - offset,
                                            RADAR_TOKENIZE_SPECIAL, &ids, &n, &err),
                     RADAR_OK);
    assert_true(n * sizeof *ids >= ids_bytes);
    assert_memory_equal(ids, want, ids_bytes);
    radar_free(ids);
    free(text);
    free(want);
}

static void long_texts_give_the_ids_of_the_golden_runs(void **state) {
    const shared *s = need_model(state);
    begins_with_ids(s->t, "tests/golden/kjv-60k.txt", 36115, "tests/golden/ids-kjv-4096.u32");
    begins_with_ids(s->t, "tests/golden/code-heapq.txt", 0, "tests/golden/ids-code-4096.u32");
    begins_with_ids(s->t, "tests/golden/kjv-60k.txt", 0, "tests/golden/ids-kjv-8192.u32");
}

/* ---- what must hold for any text ---- */

static void text_that_is_not_utf8_is_refused_with_its_place(void **state) {
    const shared *s = need_model(state);
    static const struct {
        const char *text;
        size_t bytes, bad;
    } one[] = {
        {"\xff", 1, 0},
        {"a\xff"
         "b",
         3, 1},
        {"a\xc3", 2, 1},
        {"\xc3(", 2, 0},
        {"\xe2\x82\x81\xe2\x82", 5, 3},
        {"\xc0\x80", 2, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\x80", 1, 0},
        {"12345678\xf0\x90\x8d", 11, 8},
        {"\xe0\x9f\xbf", 3, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        radar_error err = {0};
        int32_t *ids;
        size_t n;
        char place[32];
        assert_int_equal(radar_tokenizer_encode(s->t, one[i].text, one[i].bytes, 0, &ids, &n, &err),
                         RADAR_ERR_DATA);
        snprintf(place, sizeof place, "byte %zu is 0x%02x;", one[i].bad,
                 (uint8_t)one[i].text[one[i].bad]);
        if (!strstr(err.text, place)) fail_msg("'%s' does not say '%s'", err.text, place);
        assert_null(ids);
        assert_int_equal(n, 0);
    }
}

static uint64_t counter;
static uint32_t below(uint32_t n) {
    return (uint32_t)(radar_random(1, RADAR_STREAM_PICK, counter++) % n);
}

static size_t put_char(uint32_t c, char *out) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)),
               out[2] = (char)(0x80 | (c & 63)), 3;
    out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)),
    out[2] = (char)(0x80 | (c >> 6 & 63)), out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* Letters, spaces and specials mixed with any characters whose bytes have tokens. */
static size_t random_text(const radar_tokenizer *t, char *out, int n) {
    static const char *const known[] = {" ",     "  ", "\n",       "\r\n",        "the",
                                        " the",  "'s", "1",        "23",          "<|im_end|>",
                                        "<|im_", "\t", "\xc2\xa0", "\xe2\x80\x83"};
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        char c[4];
        uint32_t kind = below(4);
        if (kind == 0) {
            const char *word = known[below(sizeof known / sizeof *known)];
            memcpy(out + bytes, word, strlen(word));
            bytes += strlen(word);
            continue;
        }
        uint32_t code = kind == 1 ? 'a' + below(26) : kind == 2 ? below(0x3000) : below(0x110000);
        if (code >= 0xd800 && code < 0xe000) code = 'x';
        size_t length = put_char(code, c);
        for (size_t k = 0; k < length; k++)
            if (t->byte_id[(uint8_t)c[k]] < 0) length = 0;
        memcpy(out + bytes, c, length);
        bytes += length;
    }
    return bytes;
}

static void texts_the_vocabulary_can_spell_come_back_as_they_were(void **state) {
    const shared *s = need_model(state);
    static char text[4096];
    counter = 0;
    for (int i = 0; i < 20000; i++) {
        size_t bytes = random_text(s->t, text, 1 + (int)below(60)), n, got;
        radar_error err = {0};
        int32_t *ids;
        char *back;
        assert_int_equal(radar_tokenizer_encode(s->t, text, bytes, i & 1, &ids, &n, &err),
                         RADAR_OK);
        assert_true(n <= bytes);
        assert_int_equal(radar_tokenizer_decode(s->t, ids, n, false, &back, &got, &err), RADAR_OK);
        assert_int_equal(got, bytes);
        assert_memory_equal(back, text, bytes);
        radar_free(back);
        radar_free(ids);
    }
}

/* What comes out is whole characters, or bytes that no further byte could complete. */
static void a_stream_gives_the_bytes_of_the_whole_and_no_half_characters(void **state) {
    const shared *s = need_model(state);
    size_t room = radar_detokenize_room(s->t);
    char *out = malloc(room), *pieces = malloc(64 * room), *whole = malloc(64 * room);
    counter = 0;
    for (int i = 0; i < 20000; i++) {
        radar_detokenizer d = {.t = s->t};
        size_t n = 1 + below(32), streamed = 0, all = 0;
        for (size_t k = 0; k < n; k++) {
            int32_t id =
                (int32_t)(below(3) ? 100 + below(150)
                                   : below(49152)); /* the first hundreds are bytes of UTF-8 */
            size_t bytes, came = radar_detokenize_push(&d, id, out);
            const char *piece = radar_tokenizer_piece(s->t, id, &bytes);
            assert_true(came <= room);
            memcpy(pieces + streamed, out, came);
            streamed += came;
            memcpy(whole + all, piece, bytes);
            all += bytes;
            assert_true(all - streamed <= 3);
            if (radar_utf8_valid(whole, all) == all) assert_int_equal(streamed, all);
        }
        size_t came = radar_detokenize_end(&d, out);
        memcpy(pieces + streamed, out, came);
        assert_int_equal(streamed + came, all);
        assert_memory_equal(pieces, whole, all);
    }
    free(out);
    free(pieces);
    free(whole);
}

static void bytes_that_cannot_become_a_character_come_out_at_once(void **state) {
    const shared *s = need_model(state);
    char *out = malloc(radar_detokenize_room(s->t));
    radar_detokenizer d = {.t = s->t};
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0xe2], out), 0);
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0x82], out), 0);
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0xac], out), 3);
    assert_memory_equal(out, "\xe2\x82\xac", 3);
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0xe2], out), 0);
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id['x'], out), 2);
    assert_memory_equal(out, "\xe2x", 2);
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0xed], out), 0);
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0xa0], out), 2); /* a surrogate */
    assert_int_equal(radar_detokenize_push(&d, s->t->byte_id[0x80], out), 1);
    assert_int_equal(radar_detokenize_push(&d, 1 << 30, out), 0);
    free(out);
}

static void ids_outside_the_vocabulary_are_refused(void **state) {
    const shared *s = need_model(state);
    static const int32_t bad[] = {5, 49152}, negative[] = {-1};
    radar_error err = {0};
    char *text;
    size_t bytes;
    assert_int_equal(radar_tokenizer_decode(s->t, bad, 2, false, &text, &bytes, &err),
                     RADAR_ERR_DATA);
    assert_non_null(strstr(err.text, "token 1 of 2 is 49152"));
    assert_int_equal(radar_tokenizer_decode(s->t, negative, 1, false, &text, &bytes, &err),
                     RADAR_ERR_DATA);
    assert_null(text);
}

/* One word of 300 kB each: quadratic merging would take minutes. */
static void endless_words_take_linear_time(void **state) {
    const shared *s = need_model(state);
    static const char *const unit[] = {" ",  "a", "\xe4\xb8\xad", "7",  "\xcc\x81", "A",
                                       "\n", ".", "\t ",          "ab", "<|im_"};
    size_t bytes = 300000;
    char *text = malloc(bytes);
    for (size_t u = 0; u < sizeof unit / sizeof *unit; u++) {
        size_t length = strlen(unit[u]), used = bytes / length * length, n, got;
        for (size_t i = 0; i < used; i++) text[i] = unit[u][i % length];
        radar_error err = {0};
        int32_t *ids;
        char *back;
        double begin = radar_clock();
        assert_int_equal(
            radar_tokenizer_encode(s->t, text, used, RADAR_TOKENIZE_SPECIAL, &ids, &n, &err),
            RADAR_OK);
        assert_true(radar_clock() - begin < 10);
        assert_int_equal(radar_tokenizer_decode(s->t, ids, n, false, &back, &got, &err), RADAR_OK);
        assert_int_equal(got, used);
        assert_memory_equal(back, text, used);
        radar_free(back);
        radar_free(ids);
    }
    free(text);
}

/* Long words go another way than short ones: both must merge alike. */
static void long_and_short_words_merge_in_the_same_order(void **state) {
    const shared *s = need_model(state);
    counter = 0;
    for (int i = 0; i < 3000; i++) {
        int32_t symbol[200], naive[200];
        size_t n = 1 + below(200), left = n;
        radar_bpe_scratch scratch = {0};
        radar_error err = {0};
        for (size_t k = 0; k < n; k++)
            naive[k] = symbol[k] = s->t->byte_id[(uint8_t) "etaoin shrdlu"[below(13)]];
        for (;;) {
            const radar_merge *best = NULL;
            size_t at = 0;
            for (size_t k = 0; k + 1 < left; k++) {
                const radar_merge *m = radar_bpe_find(&s->t->bpe, naive[k], naive[k + 1]);
                if (m && (!best || m->rank < best->rank)) best = m, at = k;
            }
            if (!best) break;
            naive[at] = best->made;
            memmove(naive + at + 1, naive + at + 2, (left - at - 2) * sizeof *naive);
            left--;
        }
        assert_int_equal(radar_bpe_merge(&s->t->bpe, &scratch, symbol, &n, &err), RADAR_OK);
        assert_int_equal(n, left);
        assert_memory_equal(symbol, naive, n * sizeof *symbol);
        radar_bpe_scratch_free(&scratch);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_golden_texts_give_the_golden_ids),
        cmocka_unit_test(all_golden_ids_give_the_golden_bytes),
        cmocka_unit_test(special_tokens_and_missing_bytes_are_those_of_the_model),
        cmocka_unit_test(pieces_of_all_tokens_are_the_golden_ones),
        cmocka_unit_test(long_texts_give_the_ids_of_the_golden_runs),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_with_its_place),
        cmocka_unit_test(texts_the_vocabulary_can_spell_come_back_as_they_were),
        cmocka_unit_test(a_stream_gives_the_bytes_of_the_whole_and_no_half_characters),
        cmocka_unit_test(bytes_that_cannot_become_a_character_come_out_at_once),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(endless_words_take_linear_time),
        cmocka_unit_test(long_and_short_words_merge_in_the_same_order),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
