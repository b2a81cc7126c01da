/* Any lines as rows of radar eval: the page is made, and nothing in them becomes markup.  The first byte chooses the kind.  Build with
 * clang -fsanitize=fuzzer,address,undefined. */
#include <stdlib.h>
#include <string.h>

#include "launch/report/method.h"
#include "launch/report/page.h"
#include "runtime/sys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void add_lines(eval_rows *rows, row_kind kind, const char *text, size_t n) {
    const char *why;
    radar_error err = {0};
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t bytes = end != NULL ? (size_t)(end - text) - at : n - at;
        rows_add(rows, kind, text + at, bytes, &why, &err);
        at += bytes + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n == 0) return 0;
    eval_rows rows = {0};
    markup m = {0};
    radar_error err = {0};
    add_lines(&rows, (row_kind)(data[0] % ROW_KINDS), (const char *)data + 1, n - 1);
    for (int k = 0; k < ROW_KINDS; k++) method_compare(&rows.of[k]);
    const radar_status st = report_page(&m, &rows, "folder", &err);
    if (st == RADAR_OK && memmem(m.data, m.used, "<script", 7) != NULL) abort();
    markup_close(&m);
    rows_close(&rows);
    if (radar_alloc_live()) abort();
    return 0;
}
