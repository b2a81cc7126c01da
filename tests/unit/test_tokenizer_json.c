/* tokenizer.json files of every family, small and written here; ids as HF tokenizers 0.23 gives them. */
#include "tests/unit/tokenizer_fixture.h"

static void whole_words_need_no_merges_when_the_model_says_so(void **state) {
    (void)state;
    radar_tokenizer *t = must_open(llama3_file());
    EXPECT(t, " Việt", 0, 278);
    EXPECT(t, "xyz the xyzz", 0, 279, 258, 32, 120, 121, 122, 122);
    EXPECT(t, "1234567 hello\n\n  world's e\xcc\x81 \xc3\xa9", 0, 266, 52, 53, 54, 55, 32, 261, 264,
           32, 270, 271, 272, 32, 101, 204, 129, 32, 267);
    EXPECT(t, "hello<|eot_id|>", RADAR_TOKENIZE_SPECIAL | RADAR_TOKENIZE_BOS, 280, 261, 281);
    EXPECT(t, "hello<|eot_id|>", RADAR_TOKENIZE_BOS, 280, 261, 60, 124, 101, 111, 116, 95, 105, 100,
           124, 62);
    EXPECT(t, "", RADAR_TOKENIZE_BOS, 280);
    EXPECT(t, " \xe1\xa0\x8ex", 0, 32, 225, 160, 142, 120);
    radar_tokenizer_close(t);
}

static void composed_and_decomposed_letters_give_the_same_ids_under_nfc(void **state) {
    (void)state;
    radar_tokenizer *t = must_open(qwen_file());
    EXPECT(t, "e\xcc\x81", 0, 267);
    EXPECT(t, "\xc3\xa9", 0, 267);
    EXPECT(t, "1234 \xe2\x84\xab \xec\xa0\x81\xe1\x86\xa8 q\xcc\x87\xcc\xa3", 0, 49, 50, 51, 52, 32,
           195, 133, 32, 236, 160, 129, 225, 134, 168, 32, 113, 204, 163, 204, 135);
    EXPECT(t, "<think>hello<|im_end|>", 0, 279, 261, 60, 124, 105, 109, 95, 101, 110, 100, 124, 62);
    EXPECT(t, "<think>hello<|im_end|>", RADAR_TOKENIZE_SPECIAL, 279, 261, 280);
    radar_tokenizer_close(t);
}

static void case_and_marks_cut_words_as_tekken_does(void **state) {
    (void)state;
    radar_tokenizer *t = must_open(tekken_file());
    EXPECT(t, "helloWorld THEthe 123 //\n/x e\xcc\x81", 0, 261, 87, 269, 271, 32, 84, 72, 69, 116,
           257, 32, 49, 50, 51, 32, 47, 47, 10, 47, 120, 32, 101, 204, 129);
    radar_tokenizer_close(t);
}

static void sentencepiece_marks_spaces_and_falls_back_to_bytes(void **state) {
    (void)state;
    radar_tokenizer *t = must_open(spm_file(true));
    EXPECT(t, "hello the  ab", 0, 278, 272, 275, 279);
    EXPECT(t, "the\xc3\xa9\nhello      ", RADAR_TOKENIZE_BOS, 1, 272, 198, 172, 13, 274, 268, 276,
           275);
    EXPECT(t, "<s> a</s>b", RADAR_TOKENIZE_SPECIAL | RADAR_TOKENIZE_BOS, 1, 1, 275, 260, 2, 259,
           261);
    EXPECT(t, "<s> a</s>b", 0, 259, 63, 118, 65, 259, 260, 63, 50, 118, 65, 261);
    EXPECT(t, "", RADAR_TOKENIZE_BOS, 1);
    radar_tokenizer_close(t);
}

static void unknown_characters_fuse_into_one_token(void **state) {
    (void)state;
    radar_tokenizer *t = must_open(spm_file(false));
    EXPECT(t, "a\xc3\xa9\xc3\xa9 \xc3\xa9z b", 0, 259, 260, 0, 259, 0, 259, 261);
    radar_tokenizer_close(t);
}

static void decoded(const radar_tokenizer *t, const char *text, const char *want) {
    radar_error err = {0};
    int32_t *ids;
    size_t n, bytes;
    char *got;
    assert_int_equal(radar_tokenizer_encode(t, text, strlen(text),
                                            RADAR_TOKENIZE_SPECIAL | RADAR_TOKENIZE_BOS, &ids, &n,
                                            &err),
                     RADAR_OK);
    assert_int_equal(radar_tokenizer_decode(t, ids, n, true, &got, &bytes, &err), RADAR_OK);
    assert_int_equal(bytes, strlen(want));
    assert_string_equal(got, want);
    radar_free(ids);
    radar_free(got);
}

static void decoding_takes_back_the_space_that_encoding_put_first(void **state) {
    (void)state;
    radar_tokenizer *t = must_open(spm_file(true));
    decoded(t, "hello the  ab", "hello the  ab");
    decoded(t, "  two spaces", "  two spaces");
    decoded(t, "\xe4\xb8\xad\xf0\x9f\x98\x80", "\xe4\xb8\xad\xf0\x9f\x98\x80");
    decoded(t, "<s> a</s>b", " a b");
    decoded(t, "", "");
    radar_tokenizer_close(t);
}

static json_t *metaspace_file(const char *scheme, bool split) {
    char part[200];
    snprintf(
        part, sizeof part,
        "{\"type\":\"Metaspace\",\"replacement\":\"▁\",\"prepend_scheme\":\"%s\",\"split\":%s}",
        scheme, split ? "true" : "false");
    return tokenizer_file(spm_model("▁abcdefhlot", SPM_MERGES, true), "null", part, "null", part,
                          "[" SPM_ADDED "]");
}

static void metaspace_prepends_where_its_scheme_says(void **state) {
    (void)state;
    static const char text[] = "the<s>hello  the";
    radar_tokenizer *t = must_open(metaspace_file("always", true));
    EXPECT(t, text, RADAR_TOKENIZE_SPECIAL, 272, 1, 278, 259, 272);
    radar_tokenizer_close(t);
    t = must_open(metaspace_file("first", false));
    EXPECT(t, text, RADAR_TOKENIZE_SPECIAL, 272, 1, 274, 268, 259, 272);
    radar_tokenizer_close(t);
    t = must_open(metaspace_file("never", true));
    EXPECT(t, text, RADAR_TOKENIZE_SPECIAL, 269, 271, 1, 274, 268, 259, 272);
    radar_tokenizer_close(t);
}

static json_t *cut_file(const char *pre_tokenizers) {
    char part[900];
    snprintf(part, sizeof part, "{\"type\":\"Sequence\",\"pretokenizers\":[%s%s" BYTE_LEVEL "]}",
             pre_tokenizers, *pre_tokenizers ? "," : "");
    return tokenizer_file(byte_level_model("a b|b a|aa b|a a|ab ab|1 1|11 1", "", false), "null",
                          part, "null", BYTE_LEVEL, "[]");
}

#define CUT(pattern, behavior, invert) \
    "{\"type\":\"Split\",\"pattern\":" pattern ",\"behavior\":\"" behavior "\",\"invert\":" invert \
    "}"

static void each_way_to_split_keeps_merges_inside_pieces(void **state) {
    (void)state;
    static const char text[] = "abab-aabb111";
    radar_tokenizer *t = must_open(cut_file(""));
    EXPECT(t, text, 0, 260, 45, 97, 256, 98, 262);
    radar_tokenizer_close(t);
    t = must_open(cut_file(CUT("{\"Regex\":\"a\"}", "MergedWithPrevious", "false")));
    EXPECT(t, text, 0, 97, 257, 98, 45, 97, 97, 98, 98, 262);
    radar_tokenizer_close(t);
    t = must_open(cut_file(CUT("{\"Regex\":\"a\"}", "MergedWithNext", "false")));
    EXPECT(t, text, 0, 256, 256, 45, 97, 256, 98, 262);
    radar_tokenizer_close(t);
    t = must_open(cut_file(CUT("{\"String\":\"-\"}", "Removed", "false")));
    EXPECT(t, text, 0, 260, 97, 256, 98, 262);
    radar_tokenizer_close(t);
    t = must_open(cut_file(CUT("{\"Regex\":\"[a1]+\"}", "Removed", "true")));
    EXPECT(t, text, 0, 97, 97, 259, 262);
    radar_tokenizer_close(t);
    t = must_open(cut_file("{\"type\":\"Digits\",\"individual_digits\":true}"));
    EXPECT(t, text, 0, 260, 45, 97, 256, 98, 49, 49, 49);
    radar_tokenizer_close(t);
    t = must_open(cut_file("{\"type\":\"Digits\",\"individual_digits\":false}"));
    EXPECT(t, text, 0, 260, 45, 97, 256, 98, 262);
    radar_tokenizer_close(t);
}

static void added_tokens_strip_and_stand_alone_as_they_ask(void **state) {
    (void)state;
    json_t *root =
        tokenizer_file(byte_level_model(MERGES, "", false), "null",
                       "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
                       "\"use_regex\":true}",
                       "null", BYTE_LEVEL,
                       "[{\"id\":278,\"content\":\"<l>\",\"single_word\":false,\"lstrip\":true,"
                       "\"rstrip\":false,\"normalized\":false,\"special\":true},"
                       "{\"id\":279,\"content\":\"<r>\",\"single_word\":false,\"lstrip\":false,"
                       "\"rstrip\":true,\"normalized\":false,\"special\":true},"
                       "{\"id\":280,\"content\":\"foo\",\"single_word\":true,\"lstrip\":false,"
                       "\"rstrip\":false,\"normalized\":false,\"special\":false},"
                       "{\"id\":281,\"content\":\"<l>long\",\"single_word\":false,\"lstrip\":false,"
                       "\"rstrip\":false,\"normalized\":false,\"special\":false}]");
    radar_tokenizer *t = must_open(root);
    EXPECT(t, "the  \xe3\x80\x80<l>  the", RADAR_TOKENIZE_SPECIAL, 258, 278, 32, 258);
    EXPECT(t, "the  <r> \n the", RADAR_TOKENIZE_SPECIAL, 258, 262, 279, 258);
    EXPECT(t, "foo foox xfoo f foo.", 0, 280, 32, 102, 111, 111, 120, 32, 120, 102, 111, 111, 32,
           102, 32, 280, 32, 46);
    EXPECT(t, "<l>long<l>lon", RADAR_TOKENIZE_SPECIAL, 281, 278, 32, 108, 111, 110);
    EXPECT(t, "<l>long<l>lon", 0, 281, 32, 60, 108, 62, 108, 111, 110);
    radar_tokenizer_close(t);
}

static void both_spellings_of_merges_are_read(void **state) {
    (void)state;
    json_t *root = qwen_file(), *merges = json_object_get(json_object_get(root, "model"), "merges");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const char *both = json_string_value(json_array_get(merges, i)), *space = strchr(both, ' ');
        json_array_set_new(merges, i,
                           json_pack("[s%, s]", both, (size_t)(space - both), space + 1));
    }
    radar_tokenizer *t = must_open(root);
    EXPECT(t, " the hello", 0, 258, 32, 261);
    radar_tokenizer_close(t);
}

/* ---- what is not known is refused by its name ---- */

static json_t *with(const char *key, const char *part) {
    json_t *root = qwen_file();
    json_object_set_new(root, key, parse(part));
    return root;
}

static json_t *with_model(const char *key, const char *part) {
    json_t *root = qwen_file();
    json_object_set_new(json_object_get(root, "model"), key, parse(part));
    return root;
}

static void unknown_parts_are_refused_by_name(void **state) {
    (void)state;
    must_refuse(with("pre_tokenizer", "{\"type\":\"BertPreTokenizer\"}"),
                "pre_tokenizer type 'BertPreTokenizer' is not known");
    must_refuse(with("pre_tokenizer", SEQUENCE(BYTE_LEVEL ",{\"type\":\"Digits\"}")),
                "'Digits' behind ByteLevel");
    must_refuse(with("pre_tokenizer", CUT("{\"Regex\":\"a\"}", "Contiguous", "false")), "behavior");
    must_refuse(with("pre_tokenizer", CUT("{\"Regex\":\"a\\\\w\"}", "Isolated", "false")), "'\\w'");
    must_refuse(with("pre_tokenizer", CUT("{\"Regex\":\"^a\"}", "Isolated", "false")), "'^a'");
    must_refuse(with("pre_tokenizer", CUT("{\"Regex\":\"[a&&[b]]\"}", "Isolated", "false")),
                "'&&[b]]'");
    must_refuse(with("pre_tokenizer", CUT("{\"Regex\":\"(a\"}", "Isolated", "false")),
                "refused at byte 2");
    must_refuse(with("pre_tokenizer", CUT("{\"Regex\":\"a\"}", "Isolated", "false,\"extra\":1")),
                "'extra'");
    must_refuse(with("normalizer", "{\"type\":\"NFKC\"}"), "normalizer type 'NFKC' is not known");
    must_refuse(with("normalizer",
                     "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"b\"}"),
                "Replace with this 'pattern'");
    must_refuse(with("post_processor", "{\"type\":\"BertProcessing\"}"),
                "post_processor type 'BertProcessing' is not known");
    must_refuse(with("decoder", "{\"type\":\"WordPiece\"}"),
                "decoder type 'WordPiece' is not known");
    must_refuse(with("decoder", "{\"type\":\"Strip\",\"content\":\" \",\"start\":2,\"stop\":0}"),
                "start or stop");
    must_refuse(with("surprise", "1"), "'surprise'");
    must_refuse(with_model("type", "\"Unigram\""), "model type 'Unigram' is not known");
    must_refuse(with_model("dropout", "0.1"), "dropout");
    must_refuse(with_model("end_of_word_suffix", "\"</w>\""), "end_of_word_suffix");
    must_refuse(with_model("unk_token", "\"<none>\""), "'<none>'");
    must_refuse(with_model("new_option", "true"), "'new_option'");
}

static void damaged_vocabularies_are_refused(void **state) {
    (void)state;
    must_refuse(with_model("vocab", "{\"a\":0,\"b\":0}"), "id 0 is given twice");
    must_refuse(with_model("vocab", "{\"a\":-1}"), "'a'");
    must_refuse(with_model("vocab", "{\"a\":4194304}"), "'a'");
    must_refuse(with_model("vocab", "{\"a\":1.5}"), "'a'");
    must_refuse(with_model("vocab", "[]"), "vocab is missing");
    must_refuse(with_model("merges", "{}"), "merges is missing");
    must_refuse(with_model("merges", "[\"h e\", \"no space no\"]"), "merges[1]");
    must_refuse(with_model("merges", "[\"q q\"]"), "merges[0]");
    must_refuse(with_model("merges", "[[\"h\"]]"), "merges[0]");
    must_refuse(with("added_tokens", "[" ADDED(5, "h", false, true) "]"),
                "has id 5, the vocabulary says 104");
    must_refuse(with("added_tokens", "[{\"id\":400}]"), "added_tokens[0]");
    must_refuse(with("model", "null"), "model type ''");
}

static void files_that_are_not_json_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"", "{", "[]", "{\"a\":1,\"a\":2}", "\xff\xfe"};
    radar_error err;
    radar_tokenizer *t;
    char path[64];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (radar_error){0};
        write_temporary(path, ".json", bad[i], strlen(bad[i]));
        assert_int_equal(radar_tokenizer_open(&t, NULL, path, &err), RADAR_ERR_DATA);
        assert_null(t);
        unlink(path);
    }
    err = (radar_error){0};
    assert_int_not_equal(radar_tokenizer_open(&t, NULL, "/dev/zero", &err), RADAR_OK);
    err = (radar_error){0};
    assert_int_equal(radar_tokenizer_open(&t, NULL, "/nowhere/tokenizer.json", &err),
                     RADAR_ERR_NO_INPUT);
}

static radar_sys real;
static long fail_at, calls;
static void *failing_alloc(size_t bytes) { return ++calls == fail_at ? NULL : real.alloc(bytes); }

/* The n-th allocation fails, for every n that there is: the error is reported and nothing is lost. */
static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    real = radar_sys_table;
    char path[64], *text;
    json_t *root = qwen_file();
    text = json_dumps(root, 0);
    json_decref(root);
    write_temporary(path, ".json", text, strlen(text));
    free(text);
    long live = radar_alloc_live();
    bool passed = false;
    for (fail_at = 1; !passed; fail_at++) {
        radar_error err = {0};
        radar_tokenizer *t;
        int32_t *ids = NULL;
        size_t n;
        assert_true(fail_at < 1000);
        calls = 0;
        radar_sys_table.alloc = failing_alloc;
        radar_status st = radar_tokenizer_open(&t, NULL, path, &err);
        if (st == RADAR_OK)
            st = radar_tokenizer_encode(t, "q\xcc\x87\xcc\xa3 hello<|im_end|>", 19,
                                        RADAR_TOKENIZE_SPECIAL, &ids, &n, &err);
        radar_sys_table = real;
        passed = calls < fail_at;
        assert_true(st == RADAR_OK || st == RADAR_ERR_MEMORY);
        assert_true(!passed || st == RADAR_OK);
        radar_free(ids);
        radar_tokenizer_close(t);
        assert_int_equal(radar_alloc_live(), live);
    }
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_words_need_no_merges_when_the_model_says_so),
        cmocka_unit_test(composed_and_decomposed_letters_give_the_same_ids_under_nfc),
        cmocka_unit_test(case_and_marks_cut_words_as_tekken_does),
        cmocka_unit_test(sentencepiece_marks_spaces_and_falls_back_to_bytes),
        cmocka_unit_test(unknown_characters_fuse_into_one_token),
        cmocka_unit_test(decoding_takes_back_the_space_that_encoding_put_first),
        cmocka_unit_test(metaspace_prepends_where_its_scheme_says),
        cmocka_unit_test(each_way_to_split_keeps_merges_inside_pieces),
        cmocka_unit_test(added_tokens_strip_and_stand_alone_as_they_ask),
        cmocka_unit_test(both_spellings_of_merges_are_read),
        cmocka_unit_test(unknown_parts_are_refused_by_name),
        cmocka_unit_test(damaged_vocabularies_are_refused),
        cmocka_unit_test(files_that_are_not_json_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
