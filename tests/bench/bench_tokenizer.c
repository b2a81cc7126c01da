/* Tokenizer speed with the demo model's vocabulary, one thread: MB of text a second, best of 5, on text and on hostile input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/tokenizer.h"

#define MODEL "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define MB 1000000

static char *repeat(const char *unit, size_t unit_bytes, size_t bytes) {
    char *text = malloc(bytes);
    size_t whole = bytes / unit_bytes * unit_bytes;
    for (size_t at = 0; text && at < whole; at += unit_bytes) memcpy(text + at, unit, unit_bytes);
    for (size_t at = whole; text && at < bytes; at++) text[at] = ' ';
    return text;
}

static void time_text(const radar_tokenizer *t, const char *name, const char *unit, size_t n) {
    const size_t bytes = 4 * MB;
    char *text = repeat(unit, n, bytes);
    double best = 1e9;
    size_t tokens = 0;
    for (int i = 0; text && i < 5; i++) {
        int32_t *ids = NULL;
        radar_error err = {0};
        double start = radar_clock();
        if (radar_tokenizer_encode(t, text, bytes, 0, &ids, &tokens, &err) != RADAR_OK)
            fprintf(stderr, "%s: %s\n", name, err.text);
        double seconds = radar_clock() - start;
        best = seconds < best ? seconds : best;
        radar_free(ids);
    }
    printf("%-28s %6.1f MB/s  %8zu tokens\n", name, (double)bytes / best / MB, tokens);
    free(text);
}

int main(void) {
    static char text[65536];
    radar_error err = {0};
    radar_tensorfile *tf = NULL;
    radar_tokenizer *t = NULL;
    FILE *f = fopen("tests/golden/kjv-60k.txt", "rb");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f) fclose(f);
    if (n == 0 || radar_tensorfile_open(&tf, MODEL, &err) != RADAR_OK ||
        radar_tokenizer_open(&t, tf, NULL, &err) != RADAR_OK) {
        fprintf(stderr, "%s\n", n ? err.text : "tests/golden/kjv-60k.txt: missing");
        return 1;
    }
    time_text(t, "scripture", text, n);
    f = fopen("tests/golden/code-heapq.txt", "rb");
    n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f) fclose(f);
    if (n) time_text(t, "Python source", text, n);
    time_text(t, "spaces", " ", 1);
    time_text(t, "one letter", "a", 1);
    time_text(t, "one digit", "7", 1);
    time_text(t, "one Chinese character", "\xe4\xb8\xad", 3);
    time_text(t, "a combining mark", "\xcc\x81", 2);
    radar_tokenizer_close(t);
    radar_tensorfile_close(tf);
    return 0;
}
