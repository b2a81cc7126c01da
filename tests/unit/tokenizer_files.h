/* tokenizer_files.h - small tokenizer.json files of every family, as jansson values; for tests and fuzzing. */
#ifndef TOKENIZER_FILES_H
#define TOKENIZER_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/vocab.h"

/* "a b|c d" -> ["a b", "c d"], and the vocabulary grows by the joint tokens. */
static inline json_t *grow_by_merges(json_t *vocab, const char *merges) {
    json_t *list = json_array();
    char *copy = strdup(merges), *rest = copy, *one;
    while ((one = strsep(&rest, "|"))) {
        char joint[64] = "", *space = strchr(one, ' ');
        json_array_append_new(list, json_string(one));
        memcpy(joint, one, (size_t)(space - one));
        strcat(joint, space + 1);
        if (!json_object_get(vocab, joint))
            json_object_set_new(vocab, joint, json_integer((json_int_t)json_object_size(vocab)));
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
        if (*one)
            json_object_set_new(vocab, one, json_integer((json_int_t)json_object_size(vocab)));
    free(copy);
    return json_pack("{s:s, s:b, s:o, s:o}", "type", "BPE", "ignore_merges", ignore_merges, "vocab",
                     vocab, "merges", list);
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
        json_object_set_new(vocab,
                            (char[5]){c[0], radar_utf8_length((uint8_t)*c) > 1 ? c[1] : 0,
                                      radar_utf8_length((uint8_t)*c) > 2 ? c[2] : 0},
                            json_integer((json_int_t)json_object_size(vocab)));
    json_t *list = grow_by_merges(vocab, merges);
    return json_pack("{s:s, s:s, s:b, s:b, s:o, s:o}", "type", "BPE", "unk_token", "<unk>",
                     "fuse_unk", 1, "byte_fallback", byte_fallback, "vocab", vocab, "merges", list);
}

static inline json_t *parse(const char *text) {
    json_error_t e;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &e);
    if (!v) {
        fprintf(stderr, "the test's own JSON: %s in %s\n", e.text, text);
        abort();
    }
    return v;
}

/* A whole file; parts are JSON texts. */
static inline json_t *tokenizer_file(json_t *model, const char *normalizer,
                                     const char *pre_tokenizer, const char *post_processor,
                                     const char *decoder, const char *added) {
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", parse(added), "normalizer",
                     parse(normalizer), "pre_tokenizer", parse(pre_tokenizer), "post_processor",
                     parse(post_processor), "decoder", parse(decoder), "model", model);
}

/* ---- families ---- */

#define MERGES \
    "Ġ t|h e|Ġt he|l l|he ll|hell o|Ġ Ġ|ĠĠ ĠĠ|Ċ Ċ|1 2|12 3|Ã ©|Ġ w|o r|Ġw or|l d|' s|á »|ĩ t|Ġ " \
    "V|ĠV i|m n"
#define SPLIT(regex) \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTE_LEVEL \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" \
    "false}"
#define GPT2 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define SEQUENCE(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define LLAMA3 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN2 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define TEKKEN \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*[\\\\p{Ll}" \
    "\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}" \
    "\\\\p{Lo}\\\\p{M}]+[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*|\\\\p{N}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define ADDED(id, text, normalized, special) \
    "{\"id\":" #id ",\"content\":\"" text \
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":" #normalized \
    ",\"special\":" #special "}"
#define BOS(name, id) \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"" name \
    "\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]," \
    "\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_" \
    "id\":1}}]," \
    "\"special_tokens\":{\"" name "\":{\"id\":\"" name "\",\"ids\":[" #id "],\"tokens\":[\"" name \
    "\"]}}}"
#define SPM_NORMALIZER \
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},{\"type\":" \
    "\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]}"
#define SPM_DECODER \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"}," \
    "\"content\":\" \"},{\"type\":\"ByteFallback\"}," \
    "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
#define SPM_ADDED \
    ADDED(0, "<unk>", false, true) \
    "," ADDED(1, "<s>", false, true) "," ADDED(2, "</s>", false, true)

static inline json_t *llama3_file(void) {
    return tokenizer_file(byte_level_model(MERGES, "ĠViá»ĩt|xyz", true), "null",
                          SEQUENCE(SPLIT(LLAMA3) "," BYTE_LEVEL),
                          "{\"type\":\"Sequence\",\"processors\":[" BYTE_LEVEL
                          "," BOS("<|begin_of_text|>", 280) "]}",
                          BYTE_LEVEL,
                          "[" ADDED(280, "<|begin_of_text|>", false,
                                    true) "," ADDED(281, "<|eot_id|>", false, true) "]");
}

static inline json_t *qwen_file(void) {
    return tokenizer_file(
        byte_level_model(MERGES, "", false), "{\"type\":\"NFC\"}",
        SEQUENCE(SPLIT(QWEN2) "," BYTE_LEVEL), BYTE_LEVEL, BYTE_LEVEL,
        "[" ADDED(278, "<|im_start|>", false, true) "," ADDED(
            279, "<think>", false, false) "," ADDED(280, "<|im_end|>", false, true) "]");
}

static inline json_t *tekken_file(void) {
    return tokenizer_file(byte_level_model(MERGES, "", true), "null",
                          SEQUENCE(SPLIT(TEKKEN) "," BYTE_LEVEL), "null", BYTE_LEVEL, "[]");
}

#define SPM_MERGES "▁ t|h e|▁t he|l l|he ll|▁ ▁|▁▁ ▁▁|▁ hell|▁hell o|a b"
static inline json_t *spm_file(bool fallback) {
    return tokenizer_file(spm_model("▁abcdefhlot", SPM_MERGES, fallback), SPM_NORMALIZER, "null",
                          BOS("<s>", 1), SPM_DECODER, "[" SPM_ADDED "]");
}

#endif
