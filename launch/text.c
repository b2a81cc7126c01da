#include "launch/text.h"

#include <string.h>

#include <utf8proc.h>

#include "runtime/sys.h"

/* U+FFFD for each byte that belongs to no character. */
static const char replacement[] = "\xEF\xBF\xBD";
enum { REPLACEMENT = sizeof replacement - 1 };

static bool reserve(launch_text *t, size_t more) {
    if (more <= t->room - t->used) return true;
    size_t room = t->room == 0 ? 4096 : t->room;
    while (room - t->used < more) room *= 2;
    char *bigger = radar_alloc(room);
    if (bigger == NULL) return false;
    if (t->used > 0) memcpy(bigger, t->data, t->used);
    radar_free(t->data);
    t->data = bigger;
    t->room = room;
    return true;
}

static radar_status append(launch_job *job, launch_text *t, const char *text, size_t bytes,
                           size_t *fresh) {
    *fresh = 0;
    if (!reserve(t, REPLACEMENT * bytes))
        return radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the generated text");
    const size_t before = t->used;
    for (size_t i = 0; i < bytes;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                              (utf8proc_ssize_t)(bytes - i), &point);
        const char *from = n > 0 ? text + i : replacement;
        const size_t length = n > 0 ? (size_t)n : REPLACEMENT;
        memcpy(t->data + t->used, from, length);
        t->used += length;
        i += n > 0 ? (size_t)n : 1;
    }
    *fresh = t->used - before;
    return RADAR_OK;
}

radar_status launch_text_open(launch_job *job, launch_text *t, int32_t before) {
    *t = (launch_text){0};
    if (job->info.tokenizer == NULL) return RADAR_OK;
    const radar_status st = radar_text_stream_open(&t->stream, job->engine, 1);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    const char *text;
    size_t bytes;
    if (before >= 0) radar_text_stream_push(t->stream, before, &text, &bytes);
    return RADAR_OK;
}

radar_status launch_text_push(launch_job *job, launch_text *t, int32_t token, size_t *fresh) {
    const char *text;
    size_t bytes;
    *fresh = 0;
    if (t->stream == NULL) return RADAR_OK;
    radar_text_stream_push(t->stream, token, &text, &bytes);
    return append(job, t, text, bytes, fresh);
}

radar_status launch_text_end(launch_job *job, launch_text *t, size_t *fresh) {
    const char *text;
    size_t bytes;
    *fresh = 0;
    if (t->stream == NULL) return RADAR_OK;
    radar_text_stream_end(t->stream, &text, &bytes);
    return append(job, t, text, bytes, fresh);
}

void launch_text_close(launch_text *t) {
    radar_text_stream_close(t->stream);
    radar_free(t->data);
    *t = (launch_text){0};
}
