/* Any bytes as a safetensors file beside a good config.json.  Build with clang -fsanitize=fuzzer,address,undefined. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/make_files.h"
#include "tests/unit/open_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    radar_error file, model = {0};
    open_bytes(data, n, TINY_CONFIG "}", &file, &model);
    if (radar_alloc_live()) abort();
    return 0;
}
