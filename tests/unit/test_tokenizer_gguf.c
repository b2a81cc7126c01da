/* Tokenizers from GGUF metadata that the tests write: SentencePiece by scores, names of pre-tokenizers, damaged files. */
#include "tests/unit/tokenizer_fixture.h"

#include "tests/unit/make_files.h"

#define KEY "tokenizer.ggml."

typedef struct token {
    const char *text;
    float score;
    int type;
} token;

static void put_tokens(gguf *g, const token *list, size_t n) {
    blob *b = key_array(g, KEY "tokens", STRING, n);
    for (size_t i = 0; i < n; i++) put_text(b, list[i].text);
    b = key_array(g, KEY "scores", F32, n);
    for (size_t i = 0; i < n; i++) put_f32(b, list[i].score);
    b = key_array(g, KEY "token_type", I32, n);
    for (size_t i = 0; i < n; i++) put_u32(b, (uint32_t)list[i].type);
}

/* Writes the file, opens it and its tokenizer; *tf is closed by the caller when it is not NULL. */
static radar_status open_gguf(gguf *g, radar_tensorfile **tf, radar_tokenizer **t,
                              radar_error *err) {
    char path[64];
    gguf_tensor(g, "x", 0, 8, T_F32);
    blob b = gguf_bytes(g, NULL);
    write_temporary(path, ".gguf", b.data, b.n);
    drop(&b);
    *t = NULL;
    radar_status st = radar_tensorfile_open(tf, path, err);
    unlink(path);
    return st == RADAR_OK ? radar_tokenizer_open(t, *tf, NULL, err) : st;
}

static void must_refuse_gguf(gguf *g, const char *what) {
    radar_tensorfile *tf;
    radar_tokenizer *t;
    radar_error err = {0};
    assert_int_equal(open_gguf(g, &tf, &t, &err), RADAR_ERR_DATA);
    assert_null(t);
    if (!strstr(err.text, what)) fail_msg("'%s' does not name '%s'", err.text, what);
    radar_tensorfile_close(tf);
}

/* ---- SentencePiece ---- */

#define BYTES 256
static token spm[400];
static size_t spm_tokens(void) {
    static char name[BYTES][8];
    static const token rest[] = {
        {"\xe2\x96\x81", -9, 1},
        {"a", -9, 1},
        {"b", -9, 1},
        {"c", -9, 1},
        {"ab", -3, 1},
        {"bc", -2, 1},
        {"abc", -5, 1},
        {"\xe2\x96\x81"
         "a",
         -4, 1},
        {"aa", -1, 1},
        {"aaa", -1, 1},
        {"cc", -1, 1},
        {"<u>", 0, 4},
        {"\xe2\x96\x81\xe2\x96\x81", -6, 1},
    };
    size_t n = 0;
    spm[n++] = (token){"<unk>", 0, 2};
    spm[n++] = (token){"<s>", 0, 3};
    spm[n++] = (token){"</s>", 0, 3};
    for (int b = 0; b < BYTES; b++) {
        snprintf(name[b], sizeof name[b], "<0x%02X>", (unsigned)b);
        spm[n++] = (token){name[b], 0, 6};
    }
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) spm[n++] = rest[i];
    return n;
}
enum { SPACE = 259, A, B, C, AB, BC, ABC, SPACE_A, AA, AAA, CC, USER, SPACES };

static gguf spm_gguf(void) {
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "llama");
    key_text(&g, KEY "model", "llama");
    put_tokens(&g, spm, spm_tokens());
    key_u32(&g, KEY "bos_token_id", 1);
    key_u32(&g, KEY "eos_token_id", 2);
    key_u32(&g, KEY "unknown_token_id", 0);
    return g;
}

static void better_scores_merge_first_and_equal_ones_from_the_left(void **state) {
    (void)state;
    gguf g = spm_gguf();
    radar_tensorfile *tf;
    radar_tokenizer *t;
    radar_error err = {0};
    assert_int_equal(open_gguf(&g, &tf, &t, &err), RADAR_OK);
    EXPECT(t, "abc", 0, SPACE_A, BC); /* bc first, then the space takes a before abc can form */
    EXPECT(t, "b abc", 0, SPACE, B, SPACE_A, BC);
    EXPECT(t, "aaacc", 0, SPACE, AAA, CC); /* aa, then aaa with the same score as cc */
    EXPECT(t, "aaaa", 0, SPACE, AAA, A);
    EXPECT(t, "", RADAR_TOKENIZE_BOS, 1);
    EXPECT(t, "<s>b<u> b</s>", RADAR_TOKENIZE_SPECIAL | RADAR_TOKENIZE_BOS, 1, 1, SPACE, B, USER,
           SPACES, B, 2);
    EXPECT(t, "<u>\xc3\xa9", 0, USER, SPACE, 3 + 0xc3, 3 + 0xa9);
    assert_string_equal(radar_tokenizer_describe(t),
                        "SentencePiece-style BPE (llama), 272 tokens, 3 special");
    radar_tokenizer_close(t);
    radar_tensorfile_close(tf);
}

static void a_text_of_sentencepiece_loses_one_space_at_its_beginning(void **state) {
    (void)state;
    gguf g = spm_gguf();
    radar_tensorfile *tf;
    radar_tokenizer *t;
    radar_error err = {0};
    assert_int_equal(open_gguf(&g, &tf, &t, &err), RADAR_OK);
    char out[64];
    assert_true(radar_detokenize_room(t) <= sizeof out);
    radar_detokenizer d = {.t = t, .skip_special = true};
    assert_int_equal(radar_detokenize_push(&d, 1, out), 0);
    assert_int_equal(radar_detokenize_push(&d, SPACE_A, out), 1);
    assert_int_equal(out[0], 'a');
    assert_int_equal(radar_detokenize_push(&d, SPACE_A, out), 2);
    assert_int_equal(radar_detokenize_push(&d, 3 + 0xc3, out), 0);
    assert_int_equal(radar_detokenize_push(&d, 3 + 0xa9, out), 2);
    assert_memory_equal(out, "\xc3\xa9", 2);
    assert_int_equal(radar_detokenize_end(&d, out), 0);
    radar_tokenizer_close(t);
    radar_tensorfile_close(tf);
}

static void no_space_is_put_first_when_the_file_says_so(void **state) {
    (void)state;
    gguf g = spm_gguf();
    key_bool(&g, KEY "add_space_prefix", false);
    key_bool(&g, KEY "add_bos_token", false);
    key_bool(&g, KEY "add_eos_token", true);
    radar_tensorfile *tf;
    radar_tokenizer *t;
    radar_error err = {0};
    assert_int_equal(open_gguf(&g, &tf, &t, &err), RADAR_OK);
    EXPECT(t, "abc a", RADAR_TOKENIZE_BOS, ABC, SPACE_A, 2);
    radar_tokenizer_close(t);
    radar_tensorfile_close(tf);
}

/* ---- byte-level ---- */

static gguf byte_gguf(const char *pre) {
    static char letter[256][3];
    token list[259];
    for (int b = 0; b < 256; b++) {
        radar_byte_letter((uint8_t)b, letter[b]);
        list[b] = (token){letter[b], 0, 1};
    }
    list[256] = (token){"11", 0, 1};
    list[257] = (token){"111", 0, 1};
    list[258] = (token){"<|end|>", 0, 3};
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "llama");
    key_text(&g, KEY "model", "gpt2");
    if (pre) key_text(&g, KEY "pre", pre);
    put_tokens(&g, list, 259);
    blob *b = key_array(&g, KEY "merges", STRING, 2);
    put_text(b, "1 1");
    put_text(b, "11 1");
    key_u32(&g, KEY "bos_token_id", 258);
    return g;
}

static void names_of_pre_tokenizers_stand_for_their_expressions(void **state) {
    (void)state;
    static const struct {
        const char *pre;
        bool bos;
        size_t n;
        int ids[8];
    } one[] = {
        {"gpt-2", false, 4, {256, 256, 32, 'a'}},
        {"smollm", false, 6, {49, 49, 49, 49, 32, 'a'}},
        {"llama-bpe", true, 4, {257, 49, 32, 'a'}},
        {"qwen2", false, 6, {49, 49, 49, 49, 32, 'a'}},
        {"tekken", true, 6, {49, 49, 49, 49, 32, 'a'}},
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        gguf g = byte_gguf(one[i].pre);
        radar_tensorfile *tf;
        radar_tokenizer *t;
        radar_error err = {0};
        assert_int_equal(open_gguf(&g, &tf, &t, &err), RADAR_OK);
        expect_ids(t, "1111 a", 0, one[i].ids, one[i].n);
        if (one[i].bos)
            EXPECT(t, "b", RADAR_TOKENIZE_BOS, 258, 'b');
        else
            EXPECT(t, "b", RADAR_TOKENIZE_BOS, 'b');
        EXPECT(t, "<|end|>", RADAR_TOKENIZE_SPECIAL, 258);
        radar_tokenizer_close(t);
        radar_tensorfile_close(tf);
    }
}

static void what_is_not_known_is_refused_by_name(void **state) {
    (void)state;
    gguf g = byte_gguf("deepseek-llm");
    must_refuse_gguf(&g, "pre 'deepseek-llm' is not known; give the original with --tokenizer");
    g = byte_gguf(NULL);
    must_refuse_gguf(&g, "pre is missing");
    g = byte_gguf("default");
    must_refuse_gguf(&g, "'default'");
    g = gguf_new();
    key_text(&g, "general.architecture", "llama");
    must_refuse_gguf(&g, "model is missing");
    g = gguf_new();
    key_text(&g, "general.architecture", "llama");
    key_text(&g, KEY "model", "t5");
    must_refuse_gguf(&g, "model 't5' is not known");
    g = spm_gguf();
    key_bool(&g, KEY "remove_extra_whitespaces", true);
    must_refuse_gguf(&g, "remove_extra_whitespaces");
}

static void damaged_vocabularies_are_refused(void **state) {
    (void)state;
    static const token twice[] = {{"a", 0, 1}, {"a", 0, 1}}, odd_type[] = {{"a", 0, 7}},
                       no_number[] = {{"a", 0, 1}, {"b", __builtin_nanf(""), 1}},
                       not_utf8[] = {{"\xff", 0, 1}};
    static const struct {
        const token *list;
        size_t n;
        const char *what;
    } one[] = {{twice, 2, "tokens 0 and 1 are both 'a'"},
               {odd_type, 1, "type 7"},
               {no_number, 2, "score of token 1"},
               {not_utf8, 1, "not UTF-8"}};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        gguf g = gguf_new();
        key_text(&g, "general.architecture", "llama");
        key_text(&g, KEY "model", "llama");
        put_tokens(&g, one[i].list, one[i].n);
        must_refuse_gguf(&g, one[i].what);
    }
    gguf g = byte_gguf("gpt-2");
    key_bool(&g, KEY "add_bos_token", true);
    key_bool(&g, KEY "add_eos_token", true);
    must_refuse_gguf(&g, "eos_token_id names no token");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(better_scores_merge_first_and_equal_ones_from_the_left),
        cmocka_unit_test(a_text_of_sentencepiece_loses_one_space_at_its_beginning),
        cmocka_unit_test(no_space_is_put_first_when_the_file_says_so),
        cmocka_unit_test(names_of_pre_tokenizers_stand_for_their_expressions),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(damaged_vocabularies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
