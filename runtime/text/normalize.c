#include "runtime/text/normalize.h"

#include <string.h>

#include "runtime/text/nfc.h"

radar_status radar_normalizer_add(radar_normalizer *z, radar_normalizer_kind kind, const char *from,
                                  size_t from_bytes, const char *to, size_t to_bytes,
                                  radar_error *err) {
    if (z->n == RADAR_NORMALIZER_STEPS)
        return radar_fail(err, RADAR_ERR_DATA, "tokenizer: more than %d steps of normalisation",
                          RADAR_NORMALIZER_STEPS);
    if (from_bytes > RADAR_NORMALIZER_STRING || to_bytes > RADAR_NORMALIZER_STRING ||
        (kind == RADAR_NORMALIZE_REPLACE && !from_bytes))
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: a normaliser replaces a string of %zu bytes by one of %zu, 1 "
                          "to %d are possible",
                          from_bytes, to_bytes, RADAR_NORMALIZER_STRING);
    radar_normalizer_step *s = &z->step[z->n++];
    *s = (radar_normalizer_step){.kind = kind, .from_bytes = from_bytes, .to_bytes = to_bytes};
    if (from_bytes) memcpy(s->from, from, from_bytes);
    if (to_bytes) memcpy(s->to, to, to_bytes);
    return RADAR_OK;
}

static radar_status no_memory(size_t bytes, radar_error *err) {
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "tokenizer: no memory to normalise a text of %zu bytes", bytes);
}

static radar_status prepend(const radar_normalizer_step *s, radar_arena *a, const char **text,
                            size_t *bytes, radar_error *err) {
    size_t total;
    char *out = radar_add(*bytes, s->to_bytes, &total) ? radar_arena_take(a, total) : NULL;
    if (!out) return no_memory(*bytes, err);
    memcpy(out, s->to, s->to_bytes);
    memcpy(out + s->to_bytes, *text, *bytes);
    *text = out;
    *bytes = total;
    return RADAR_OK;
}

static bool is_at(const radar_normalizer_step *s, const char *text, size_t left) {
    return left >= s->from_bytes && *text == s->from[0] && !memcmp(text, s->from, s->from_bytes);
}

static radar_status replace(const radar_normalizer_step *s, radar_arena *a, const char **text,
                            size_t *bytes, radar_error *err) {
    size_t found = 0, grown, total, n = 0;
    for (size_t i = 0; i < *bytes;) {
        bool hit = is_at(s, *text + i, *bytes - i);
        found += hit;
        i += hit ? s->from_bytes : 1;
    }
    if (!found) return RADAR_OK;
    bool fits = radar_mul(found, s->to_bytes, &grown) && radar_add(*bytes, grown, &total);
    char *out = fits ? radar_arena_take(a, total - found * s->from_bytes) : NULL;
    if (!out) return no_memory(*bytes, err);
    for (size_t i = 0; i < *bytes;) {
        if (is_at(s, *text + i, *bytes - i)) {
            memcpy(out + n, s->to, s->to_bytes);
            n += s->to_bytes;
            i += s->from_bytes;
        } else {
            out[n++] = (*text)[i++];
        }
    }
    *text = out;
    *bytes = n;
    return RADAR_OK;
}

static bool begins_with(const char *text, size_t bytes, const radar_normalizer_step *s) {
    return bytes >= s->to_bytes && !memcmp(text, s->to, s->to_bytes);
}

radar_status radar_normalize(const radar_normalizer *z, int first, int last, radar_arena *a,
                             bool at_start, const char **text, size_t *bytes, radar_error *err) {
    radar_status st = RADAR_OK;
    for (int i = first; i < last && st == RADAR_OK && *bytes; i++) {
        const radar_normalizer_step *s = &z->step[i];
        switch (s->kind) {
        case RADAR_NORMALIZE_NFC:
            st = radar_nfc(a, *text, *bytes, text, bytes, err);
            break;
        case RADAR_NORMALIZE_PREPEND:
            st = prepend(s, a, text, bytes, err);
            break;
        case RADAR_NORMALIZE_PREPEND_FIRST:
            if (at_start && !begins_with(*text, *bytes, s)) st = prepend(s, a, text, bytes, err);
            break;
        case RADAR_NORMALIZE_PREPEND_MISSING:
            if (!begins_with(*text, *bytes, s)) st = prepend(s, a, text, bytes, err);
            break;
        case RADAR_NORMALIZE_REPLACE:
            st = replace(s, a, text, bytes, err);
        }
    }
    return st;
}
