#include "launch/report/markup.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/sys.h"

static bool make_room(markup *m, size_t bytes) {
    if (m->failed) return false;
    if (bytes <= m->room - m->used) return true;
    size_t room = m->room > 0 ? m->room : 4096;
    while (room - m->used < bytes && room <= MARKUP_MOST) room *= 2;
    char *data = room <= MARKUP_MOST ? radar_alloc(room) : NULL;
    m->failed = data == NULL;
    if (data == NULL) return false;
    if (m->used > 0) memcpy(data, m->data, m->used);
    radar_free(m->data);
    m->data = data;
    m->room = room;
    return true;
}

static void add_bytes(markup *m, const char *text, size_t bytes) {
    if (!make_room(m, bytes)) return;
    if (bytes > 0) memcpy(m->data + m->used, text, bytes);
    m->used += bytes;
}

void markup_add(markup *m, const char *text) { add_bytes(m, text, strlen(text)); }

void markup_append(markup *m, const markup *other) {
    if (other->failed) m->failed = true;
    add_bytes(m, other->data, other->used);
}

void markup_format(markup *m, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        m->failed = true;
    else
        add_bytes(m, text, (size_t)n);
}

static const char *entity(utf8proc_int32_t c) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static bool is_forbidden(utf8proc_int32_t c) {
    if (c == '\t' || c == '\n') return false;
    const bool turns = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    return utf8proc_category(c) == UTF8PROC_CATEGORY_CC || turns || (c & 0xfffe) == 0xfffe;
}

void markup_text(markup *m, const char *text) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    for (utf8proc_ssize_t left = (utf8proc_ssize_t)strlen(text); left > 0;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(at, left, &c);
        const bool broken = n <= 0 || is_forbidden(c);
        if (n <= 0) n = 1;
        const char *name = broken ? "\xef\xbf\xbd" : entity(c);
        if (name != NULL)
            markup_add(m, name);
        else
            add_bytes(m, (const char *)at, (size_t)n);
        at += n;
        left -= n;
    }
}

void markup_close(markup *m) {
    radar_free(m->data);
    *m = (markup){0};
}
