/* Any bytes as a GGUF file, opened as a file and as a model.  Build with clang -fsanitize=fuzzer,address,undefined. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/open_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    radar_error file, model = {0};
    open_bytes(data, n, NULL, &file, &model);
    if (radar_alloc_live()) abort();
    return 0;
}
