/* Any text as the config.json beside a good safetensors file.  Build with clang -fsanitize=fuzzer,address,undefined. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/make_files.h"
#include "tests/unit/open_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    radar_error file, model = {0};
    char *text = malloc(n + 1);
    if (n) memcpy(text, data, n);
    text[n] = 0;
    static blob good; /* made once */
    if (!good.n) good = tiny_safetensors();
    open_bytes(good.data, good.n, text, &file, &model);
    free(text);
    if (radar_alloc_live()) abort();
    return 0;
}
