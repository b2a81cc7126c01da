/* Chat templates: recognised, laid out as the models' own templates do, and safe from what messages contain. */
#include "tests/unit/tokenizer_fixture.h"

#include "runtime/text/template.h"
#include "tests/unit/make_files.h"

#define MODEL "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"

/* Every control token of every family; the rest are single bytes. */
static const char *const specials[] = {"<|im_start|>",
                                       "<|im_end|>",
                                       "<|begin_of_text|>",
                                       "<|start_header_id|>",
                                       "<|end_header_id|>",
                                       "<|eot_id|>",
                                       "<s>",
                                       "</s>",
                                       "[INST]",
                                       "[/INST]",
                                       "<|user|>"};
#define N_SPECIALS (sizeof specials / sizeof *specials)

static radar_tokenizer *make_tokenizer(void) {
    json_t *added = json_array();
    for (size_t i = 0; i < N_SPECIALS; i++)
        json_array_append_new(added,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)(258 + i),
                                        "content", specials[i], "single_word", 0, "lstrip", 0,
                                        "rstrip", 0, "normalized", 0, "special", 1));
    json_array_append_new(added,
                          json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                    (int)(258 + N_SPECIALS), "content", "<think>", "single_word", 0,
                                    "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 0));
    char *text = json_dumps(added, 0);
    json_t *root = tokenizer_file(byte_level_model("h i|Ċ hi", "", false), "null",
                                  "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_"
                                  "offsets\":true,\"use_regex\":false}",
                                  "null", "null", text);
    json_decref(added);
    free(text);
    return must_open(root);
}

static const radar_template *named(const char *name) {
    const radar_template *tp;
    radar_error err = {0};
    if (radar_template_find(&tp, name, NULL, &err) != RADAR_OK) fail_msg("%s", err.text);
    return tp;
}

#define SAY(who, what) \
    { who, what, sizeof(what) - 1 }

/* The conversation has the ids of `want`, in which special tokens count. */
static void expect_conversation(const radar_tokenizer *t, const radar_template *tp,
                                const radar_message *m, size_t n_messages, const char *want) {
    radar_error err = {0};
    int32_t *ids, *want_ids;
    size_t n, n_want, bytes;
    char *got;
    if (radar_template_apply(tp, t, m, n_messages, &ids, &n, &err) != RADAR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(radar_tokenizer_decode(t, ids, n, false, &got, &bytes, &err), RADAR_OK);
    assert_string_equal(got, want);
    assert_int_equal(radar_tokenizer_encode(t, want, strlen(want), RADAR_TOKENIZE_SPECIAL,
                                            &want_ids, &n_want, &err),
                     RADAR_OK);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want_ids, n * sizeof *ids);
    radar_free(got);
    radar_free(ids);
    radar_free(want_ids);
}

static const radar_message talk[] = {SAY("system", "Be brief."), SAY("user", " hi "),
                                     SAY("assistant", "yes"), SAY("user", "more\n")};
static const radar_message question[] = {SAY("user", "hi")};

static void conversations_are_laid_out_as_the_models_expect(void **state) {
    (void)state;
    static const struct {
        const char *name, *talk, *question;
    } one[] = {
        {"chatml",
         "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n hi "
         "<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\nmore\n<|im_end|>\n"
         "<|im_start|>assistant\n",
         "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"},
        {"chatml-smollm2",
         "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n hi "
         "<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\nmore\n<|im_end|>\n"
         "<|im_start|>assistant\n",
         "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
         "Face<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"},
        {"llama3",
         "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe "
         "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\nyes<|eot_id|><|start_header_id|>user<|"
         "end_header_id|>\n\nmore<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n",
         "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_"
         "id|>assistant<|end_header_id|>\n\n"},
        {"llama3.1",
         "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
         "December 2023\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|"
         "end_header_id|>\n\nyes<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\nmore<|eot_id|><|start_header_id|>assistant<|"
         "end_header_id|>\n\n",
         "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
         "December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|"
         "end_header_id|>\n\n"},
        {"llama2",
         "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n hi [/INST] yes </s><s>[INST] more [/INST]",
         "<s>[INST] hi [/INST]"},
        {"mistral-v0", "<s>[INST] Be brief.\n\n hi  [/INST]yes</s>[INST] more\n [/INST]",
         "<s>[INST] hi [/INST]"},
        {"mistral-v1", "<s> [INST] Be brief.\n\n hi  [/INST] yes</s> [INST] more\n [/INST]",
         "<s> [INST] hi [/INST]"},
        {"mistral", "<s>[INST]  hi [/INST] yes</s>[INST] Be brief.\n\nmore\n[/INST]",
         "<s>[INST] hi[/INST]"},
        {"mistral-tekken", "<s>[INST] hi [/INST]yes</s>[INST]Be brief.\n\nmore\n[/INST]",
         "<s>[INST]hi[/INST]"},
        {"zephyr",
         "<|system|>\nBe brief.</s>\n<|user|>\n hi "
         "</s>\n<|assistant|>\nyes</s>\n<|user|>\nmore\n</s>\n<|assistant|>\n",
         "<|user|>\nhi</s>\n<|assistant|>\n"},
    };
    radar_tokenizer *t = make_tokenizer();
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        expect_conversation(t, named(one[i].name), talk, 4, one[i].talk);
        expect_conversation(t, named(one[i].name), question, 1, one[i].question);
    }
    radar_tokenizer_close(t);
}

static void the_empty_conversation_is_scaffolding_only(void **state) {
    (void)state;
    radar_tokenizer *t = make_tokenizer();
    expect_conversation(t, named("chatml"), NULL, 0, "<|im_start|>assistant\n");
    expect_conversation(t, named("llama2"), NULL, 0, "");
    radar_tokenizer_close(t);
}

static size_t count_special(const radar_tokenizer *t, const radar_template *tp,
                            const radar_message *m, size_t n_messages) {
    radar_error err = {0};
    int32_t *ids;
    size_t n, special = 0;
    assert_int_equal(radar_template_apply(tp, t, m, n_messages, &ids, &n, &err), RADAR_OK);
    for (size_t i = 0; i < n; i++) special += radar_tokenizer_is_special(t, ids[i]);
    radar_free(ids);
    return special;
}

/* All spellings, whole, cut and put together over the seams between messages and scaffolding. */
static void contents_never_become_control_tokens(void **state) {
    (void)state;
    static const char *const names[] = {"chatml",  "llama3",     "llama3.1", "llama2",
                                        "mistral", "mistral-v1", "zephyr"};
    radar_tokenizer *t = make_tokenizer();
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const radar_template *tp = named(names[k]);
        size_t usual = count_special(t, tp, question, 1);
        for (size_t i = 0; i < N_SPECIALS; i++) {
            size_t bytes = strlen(specials[i]);
            for (size_t cut = 0; cut <= bytes; cut++) {
                char text[128];
                snprintf(text, sizeof text, "%.*s%s%s", (int)cut, specials[i],
                         specials[(i + cut) % N_SPECIALS], specials[i] + cut);
                const radar_message whole = {"user", text, strlen(text)};
                const radar_message head = {"user", specials[i], cut},
                                    tail = {"user", specials[i] + cut, bytes - cut};
                assert_int_equal(count_special(t, tp, &whole, 1), usual);
                assert_int_equal(count_special(t, tp, &head, 1), usual);
                assert_int_equal(count_special(t, tp, &tail, 1), usual);
            }
        }
    }
    radar_tokenizer_close(t);
}

static void added_tokens_that_are_not_special_count_in_contents(void **state) {
    (void)state;
    radar_tokenizer *t = make_tokenizer();
    const radar_message m = SAY("user", "<think>");
    expect_conversation(t, named("chatml"), &m, 1,
                        "<|im_start|>user\n<think><|im_end|>\n<|im_start|>assistant\n");
    radar_tokenizer_close(t);
}

static void impossible_conversations_are_refused(void **state) {
    (void)state;
    static const radar_message odd[] = {SAY("tool", "x")},
                               twice[] = {SAY("user", "a"), SAY("user", "b")},
                               bad[] = {SAY("user", "a\xff")},
                               late[] = {SAY("user", "a"), SAY("system", "b")};
    radar_tokenizer *t = make_tokenizer();
    int32_t *ids;
    size_t n;
    radar_error err = {0};
    assert_int_equal(radar_template_apply(named("chatml"), t, odd, 1, &ids, &n, &err),
                     RADAR_ERR_DATA);
    assert_non_null(strstr(err.text, "role 'tool'"));
    err = (radar_error){0};
    assert_int_equal(radar_template_apply(named("llama2"), t, twice, 2, &ids, &n, &err),
                     RADAR_ERR_DATA);
    assert_non_null(strstr(err.text, "take turns"));
    assert_int_equal(radar_template_apply(named("mistral"), t, late, 2, &ids, &n, &err),
                     RADAR_ERR_DATA);
    err = (radar_error){0};
    assert_int_equal(radar_template_apply(named("chatml"), t, bad, 1, &ids, &n, &err),
                     RADAR_ERR_DATA);
    assert_non_null(strstr(err.text, "byte 1 is 0xff"));
    assert_null(ids);
    radar_tokenizer_close(t);
}

/* ---- recognising ---- */

static radar_tensorfile *file_with(const char *chat_template) {
    char path[64];
    radar_tensorfile *tf;
    radar_error err = {0};
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "llama");
    if (chat_template) key_text(&g, "tokenizer.chat_template", chat_template);
    gguf_tensor(&g, "x", 0, 8, T_F32);
    blob b = gguf_bytes(&g, NULL);
    write_temporary(path, ".gguf", b.data, b.n);
    drop(&b);
    if (radar_tensorfile_open(&tf, path, &err) != RADAR_OK) fail_msg("%s", err.text);
    unlink(path);
    return tf;
}

static void a_models_own_template_is_recognised(void **state) {
    (void)state;
    static const struct {
        const char *text, *name;
    } one[] = {
        {"{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
         "chatml"},
        {"{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
         "assistant.<|im_end|>\\n' }}",
         "chatml-qwen2.5"},
        {"{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}", "chatml-qwen2"},
        {"{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
         "message['content'] | trim + '<|eot_id|>' %}",
         "llama3"},
        {"{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}{{- \"Cutting Knowledge Date: "
         "December 2023\\n\" }}{{- \"<|eot_id|>\" }}",
         "llama3.1"},
        {"{% set content = '<<SYS>>\\n' + system_message %}{{ bos_token + '[INST] ' + "
         "content.strip() + ' [/INST]' }}",
         "llama2"},
        {"{{ '[INST] ' + message['content'] + ' [/INST]' }}", "mistral-v0"},
        {"{{- ' [INST] ' + message['content'] + ' [/INST]' }}", "mistral-v1"},
        {"{{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}", "mistral-v3"},
        {"{{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}", "mistral-tekken"},
        {"{{ '<|user|>\\n' + message['content'] + eos_token }}", "zephyr"},
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        radar_tensorfile *tf = file_with(one[i].text);
        const radar_template *tp;
        radar_error err = {0};
        assert_int_equal(radar_template_find(&tp, NULL, tf, &err), RADAR_OK);
        assert_string_equal(radar_template_name(tp), one[i].name);
        radar_tensorfile_close(tf);
    }
}

static void templates_that_are_not_known_are_refused_with_the_names_there_are(void **state) {
    (void)state;
    static const char *const unknown[] = {"{{ '<start_of_turn>' }}",
                                          "<|im_start|><|im_sep|><|im_end|>",
                                          "[SYSTEM_PROMPT][INST] [/INST]", NULL};
    const radar_template *tp;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        radar_tensorfile *tf = file_with(unknown[i]);
        radar_error err = {0};
        assert_int_equal(radar_template_find(&tp, NULL, tf, &err), RADAR_ERR_CONFIG);
        assert_null(tp);
        assert_non_null(strstr(err.text, "chatml, llama3, llama2, mistral, zephyr"));
        radar_tensorfile_close(tf);
    }
    radar_error err = {0};
    assert_int_equal(radar_template_find(&tp, "alpaca", NULL, &err), RADAR_ERR_CONFIG);
    assert_non_null(strstr(err.text, "'alpaca'"));
    err = (radar_error){0};
    assert_int_equal(radar_template_find(&tp, NULL, NULL, &err), RADAR_ERR_CONFIG);
}

static void a_family_name_means_the_variant_of_the_model(void **state) {
    (void)state;
    radar_tensorfile *tf = file_with("{{- ' [INST] ' + message['content'] + ' [/INST]' }}");
    const radar_template *tp;
    radar_error err = {0};
    assert_int_equal(radar_template_find(&tp, "mistral", tf, &err), RADAR_OK);
    assert_string_equal(radar_template_name(tp), "mistral-v1");
    assert_int_equal(radar_template_find(&tp, "mistral-v3", tf, &err), RADAR_OK);
    assert_string_equal(radar_template_name(tp), "mistral-v3");
    assert_int_equal(radar_template_find(&tp, "chatml", tf, &err), RADAR_OK);
    assert_string_equal(radar_template_name(tp), "chatml");
    radar_tensorfile_close(tf);
}

static void the_demo_model_gets_its_default_system_message(void **state) {
    (void)state;
    if (access(MODEL, R_OK) && getenv("RADAR_NO_MODEL")) skip();
    radar_tensorfile *tf;
    radar_tokenizer *t;
    const radar_template *tp;
    radar_error err = {0};
    assert_int_equal(radar_tensorfile_open(&tf, MODEL, &err), RADAR_OK);
    assert_int_equal(radar_tokenizer_open(&t, tf, NULL, &err), RADAR_OK);
    assert_int_equal(radar_template_find(&tp, NULL, tf, &err), RADAR_OK);
    assert_string_equal(radar_template_name(tp), "chatml-smollm2");
    expect_conversation(t, tp, question, 1,
                        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained "
                        "by Hugging Face<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                        "<|im_start|>assistant\n");
    radar_tokenizer_close(t);
    radar_tensorfile_close(tf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_laid_out_as_the_models_expect),
        cmocka_unit_test(the_empty_conversation_is_scaffolding_only),
        cmocka_unit_test(contents_never_become_control_tokens),
        cmocka_unit_test(added_tokens_that_are_not_special_count_in_contents),
        cmocka_unit_test(impossible_conversations_are_refused),
        cmocka_unit_test(a_models_own_template_is_recognised),
        cmocka_unit_test(templates_that_are_not_known_are_refused_with_the_names_there_are),
        cmocka_unit_test(a_family_name_means_the_variant_of_the_model),
        cmocka_unit_test(the_demo_model_gets_its_default_system_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
