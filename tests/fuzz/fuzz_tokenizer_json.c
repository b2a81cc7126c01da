/* Any bytes as a tokenizer.json; what opens must encode and decode.  Build with clang -fsanitize=fuzzer,address,undefined. */
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/model/tensorfile_internal.h"
#include "runtime/text/tokenizer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char text[] = " the hello<s> aaab\n\n 12345 e\xcc\x81\xcc\xa7 "
                           "\xe4\xb8\xad\xf0\x9f\x98\x80 \xe2\x96\x81<think>don't <|im_end|>";

static void use(const radar_tokenizer *t, int flags) {
    radar_error err = {0};
    int32_t *ids;
    char *back;
    size_t count, bytes;
    if (radar_tokenizer_encode(t, text, sizeof text - 1, flags, &ids, &count, &err) != RADAR_OK)
        return;
    if (radar_tokenizer_decode(t, ids, count, flags & RADAR_TOKENIZE_SPECIAL, &back, &bytes,
                               &err) != RADAR_OK)
        abort();
    radar_free(back);
    radar_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    radar_error err = {0};
    json_t *root;
    radar_tokenizer *t;
    if (radar_json_parse(&root, "fuzz", data, n, &err) != RADAR_OK) return 0;
    radar_status st = radar_tokenizer_open_json(&t, root, &err);
    if ((st == RADAR_OK) != (t != NULL) || (st != RADAR_OK && !err.text[0])) abort();
    for (int flags = 0; t && flags < 4; flags++) use(t, flags);
    radar_tokenizer_close(t);
    json_decref(root);
    if (radar_alloc_live()) abort();
    return 0;
}
