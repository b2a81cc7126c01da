/* detokenize.c - ids to text, in a stream: a character comes out when it is whole. */
#include <string.h>

#include "runtime/sys.h"
#include "runtime/text/tokenizer_internal.h"

/* Bytes at the end of text that begin a character which the next bytes can still complete: 0 to 3. */
static size_t unfinished(const uint8_t *s, size_t bytes) {
    for (size_t k = 1; k <= 3 && k <= bytes; k++) {
        const uint8_t *c = s + bytes - k;
        if ((c[0] & 0xc0) == 0x80) continue;
        if (c[0] < 0xc2 || c[0] > 0xf4 || (size_t)radar_utf8_length(c[0]) <= k) return 0;
        if (k == 1) return 1;
        uint8_t low = c[0] == 0xe0 ? 0xa0 : c[0] == 0xf0 ? 0x90 : 0x80;
        uint8_t high = c[0] == 0xed ? 0x9f : c[0] == 0xf4 ? 0x8f : 0xbf;
        return c[1] >= low && c[1] <= high ? k : 0;
    }
    return 0;
}

size_t radar_detokenize_push(radar_detokenizer *d, int32_t id, char *out) {
    size_t bytes;
    const char *piece = radar_tokenizer_piece(d->t, id, &bytes);
    if (!piece || (d->skip_special && radar_tokenizer_is_special(d->t, id))) return 0;
    if (!d->started && bytes && d->t->strip_space && piece[0] == ' ') {
        piece++;
        bytes--;
    }
    d->started = true;
    size_t n = (size_t)d->n_held;
    memcpy(out, d->held, n);
    memcpy(out + n, piece, bytes);
    n += bytes;
    size_t held = unfinished((const uint8_t *)out, n);
    memcpy(d->held, out + n - held, held);
    d->n_held = (int)held;
    return n - held;
}

size_t radar_detokenize_end(radar_detokenizer *d, char *out) {
    size_t n = (size_t)d->n_held;
    memcpy(out, d->held, n);
    d->n_held = 0;
    return n;
}

size_t radar_detokenize_room(const radar_tokenizer *t) { return t->vocab.longest_piece + 8; }

radar_status radar_tokenizer_decode(const radar_tokenizer *t, const int32_t *ids, size_t n,
                                    bool skip_special, char **text, size_t *bytes,
                                    radar_error *err) {
    *text = NULL;
    *bytes = 0;
    size_t total = radar_detokenize_room(t), one;
    for (size_t i = 0; i < n; i++) {
        if (!radar_tokenizer_piece(t, ids[i], &one))
            return radar_fail(err, RADAR_ERR_DATA,
                              "token %zu of %zu is %d, the vocabulary ends at %d", i, n, ids[i],
                              t->vocab.n - 1);
        if (!radar_add(total, one, &total))
            return radar_fail(err, RADAR_ERR_MEMORY, "no memory for the text of %zu tokens", n);
    }
    char *out = radar_alloc(total);
    if (!out) return radar_fail(err, RADAR_ERR_MEMORY, "no memory for the text of %zu tokens", n);
    radar_detokenizer d = {.t = t, .skip_special = skip_special};
    size_t used = 0;
    for (size_t i = 0; i < n; i++) used += radar_detokenize_push(&d, ids[i], out + used);
    used += radar_detokenize_end(&d, out + used);
    out[used] = 0;
    *text = out;
    *bytes = used;
    return RADAR_OK;
}
