/* Any bytes as text, for one tokenizer of every family; the first byte chooses family and flags.
 * Byte-level tokenizers that know all bytes must give the text back.  Build with clang -fsanitize=fuzzer,address,undefined. */
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/tokenizer_internal.h"
#include "tests/unit/tokenizer_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FAMILIES 5

static radar_tokenizer *open_one(json_t *root) {
    radar_error err = {0};
    radar_tokenizer *t;
    if (radar_tokenizer_open_json(&t, root, &err) != RADAR_OK) abort();
    json_decref(root);
    return t;
}

/* Opened once; the same for all inputs. */
static radar_tokenizer *family(int k) {
    static radar_tokenizer *all[FAMILIES];
    if (!all[0]) {
        all[0] = open_one(llama3_file());
        all[1] = open_one(tekken_file());
        all[2] = open_one(qwen_file());
        all[3] = open_one(spm_file(true));
        all[4] = open_one(spm_file(false));
    }
    return all[k];
}

static void check(const radar_tokenizer *t, const char *text, size_t bytes, const int32_t *ids,
                  size_t n, bool exact) {
    radar_error err = {0};
    char *back;
    size_t got, streamed = 0;
    if (radar_tokenizer_decode(t, ids, n, false, &back, &got, &err) != RADAR_OK) abort();
    if (exact && (got != bytes || memcmp(back, text, bytes))) abort();
    radar_detokenizer d = {.t = t};
    char *out = malloc(radar_detokenize_room(t));
    for (size_t i = 0; i < n; i++) {
        size_t came = radar_detokenize_push(&d, ids[i], out);
        if (streamed + came > got || memcmp(back + streamed, out, came)) abort();
        streamed += came;
    }
    streamed += radar_detokenize_end(&d, out);
    if (streamed != got) abort();
    free(out);
    radar_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
    const radar_tokenizer *t = family(data[0] % FAMILIES);
    int flags = data[0] / FAMILIES & 1;
    long live = radar_alloc_live();
    const char *text = (const char *)data + 1;
    size_t bytes = n - 1, count;
    radar_error err = {0};
    int32_t *ids;
    radar_status st = radar_tokenizer_encode(t, text, bytes, flags, &ids, &count, &err);
    if ((st == RADAR_OK) != (radar_utf8_valid(text, bytes) == bytes)) abort();
    if (st == RADAR_OK) check(t, text, bytes, ids, count, data[0] % FAMILIES < 2);
    radar_free(ids);
    if (radar_alloc_live() != live) abort();
    return 0;
}
