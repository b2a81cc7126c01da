#include "launch/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "runtime/sys.h"

static const size_t text_most = (size_t)1
                                << 30; /* a gigabyte of text is a quarter of a billion tokens */
static const size_t ids_most = (size_t)1 << 28;

/* ---- bytes ---- */

typedef struct bytes_read {
    char *data;
    size_t used, room;
} bytes_read;

static bool grow(bytes_read *b) {
    const size_t room = b->room == 0 ? (size_t)1 << 16 : 2 * b->room;
    char *bigger = radar_alloc(room);
    if (bigger == NULL) return false;
    if (b->used > 0) memcpy(bigger, b->data, b->used);
    radar_free(b->data);
    b->data = bigger;
    b->room = room;
    return true;
}

static radar_status read_all(launch_job *job, int fd, const char *name, size_t limit,
                             bytes_read *b) {
    for (;;) {
        if (*job->world->signal != 0)
            return radar_fail(&job->err, RADAR_ERR_STOPPED, "%s: stopped while reading", name);
        if (b->used == b->room && !grow(b))
            return radar_fail(&job->err, RADAR_ERR_MEMORY, "%s: no memory for more than %zu bytes",
                              name, b->room);
        const ssize_t n = read(fd, b->data + b->used, b->room - b->used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const radar_status st = errno == EISDIR ? RADAR_ERR_NO_INPUT : RADAR_ERR_IO;
            return radar_fail(&job->err, st, "%s: cannot be read: %s", name, strerror(errno));
        }
        if (n == 0) return RADAR_OK;
        b->used += (size_t)n;
        if (b->used > limit)
            return radar_fail(&job->err, RADAR_ERR_DATA, "%s: longer than %zu bytes; split it",
                              name, limit);
    }
}

static radar_status read_file(launch_job *job, const char *path, const char **name, size_t limit,
                              bytes_read *b) {
    const bool standard = strcmp(path, "-") == 0;
    *name = standard ? "standard input" : path;
    const int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return radar_fail(&job->err, RADAR_ERR_NO_INPUT, "%s: cannot be opened: %s", path,
                          strerror(errno));
    radar_status st = read_all(job, fd, *name, limit, b);
    if (!standard) close(fd);
    if (st == RADAR_OK && b->used == 0)
        st = radar_fail(&job->err, RADAR_ERR_DATA, "%s: empty; it must hold at least one byte",
                        *name);
    return st;
}

/* ---- ids ---- */

static radar_status ids_of_u32(launch_job *job, launch_input *in, const bytes_read *b) {
    if (b->used % 4 != 0)
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: %zu bytes are no whole number of u32 ids",
                          in->name, b->used);
    in->n = b->used / 4;
    in->ids = radar_alloc(b->used);
    if (in->ids == NULL)
        return radar_fail(&job->err, RADAR_ERR_MEMORY, "%s: no memory for %zu ids", in->name,
                          in->n);
    for (size_t i = 0; i < in->n; i++) {
        const unsigned char *at = (const unsigned char *)b->data + 4 * i;
        const uint32_t v =
            at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        if (v > INT32_MAX)
            return radar_fail(&job->err, RADAR_ERR_DATA, "%s: entry %zu is %u: no token id",
                              in->name, i, v);
        in->ids[i] = (int32_t)v;
    }
    return RADAR_OK;
}

static radar_status ids_of_array(launch_job *job, launch_input *in, const json_t *array) {
    if (!json_is_array(array))
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: must be a JSON array of token ids",
                          in->name);
    in->n = json_array_size(array);
    if (in->n == 0)
        return radar_fail(&job->err, RADAR_ERR_DATA, "%s: no token ids in it", in->name);
    in->ids = radar_alloc_array(in->n, sizeof *in->ids);
    if (in->ids == NULL)
        return radar_fail(&job->err, RADAR_ERR_MEMORY, "%s: no memory for %zu ids", in->name,
                          in->n);
    for (size_t i = 0; i < in->n; i++) {
        const json_t *v = json_array_get(array, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return radar_fail(&job->err, RADAR_ERR_DATA, "%s: entry %zu is no token id", in->name,
                              i);
        in->ids[i] = (int32_t)json_integer_value(v);
    }
    return RADAR_OK;
}

static radar_status ids_of_json(launch_job *job, launch_input *in, const bytes_read *b) {
    json_error_t why;
    json_t *array = json_loadb(b->data, b->used, 0, &why);
    if (array == NULL)
        return radar_fail(&job->err, RADAR_ERR_DATA,
                          "%s: line %d column %d: %s; a JSON array of token ids is expected",
                          in->name, why.line, why.column, why.text);
    const radar_status st = ids_of_array(job, in, array);
    json_decref(array);
    return st;
}

static bool ends_in(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static radar_status read_ids(launch_job *job, launch_input *in, const char *path) {
    bytes_read b = {0};
    radar_status st = read_file(job, path, &in->name, ids_most, &b);
    if (st == RADAR_OK)
        st = ends_in(path, ".u32") ? ids_of_u32(job, in, &b) : ids_of_json(job, in, &b);
    radar_free(b.data);
    return st;
}

/* ---- the prompt ---- */

radar_status launch_input_read(launch_job *job, launch_input *in) {
    const launch_options *opt = job->opt;
    *in = (launch_input){.name = "-p"};
    if (opt->prompt != NULL) {
        in->bytes = strlen(opt->prompt);
        in->text = radar_alloc(in->bytes);
        if (in->text == NULL)
            return radar_fail(&job->err, RADAR_ERR_MEMORY, "-p: no memory for %zu bytes",
                              in->bytes);
        memcpy(in->text, opt->prompt, in->bytes);
        return RADAR_OK;
    }
    if (opt->file == NULL) return read_ids(job, in, opt->ids != NULL ? opt->ids : "-");
    bytes_read b = {0};
    const radar_status st = read_file(job, opt->file, &in->name, text_most, &b);
    in->text = b.data;
    in->bytes = b.used;
    return st;
}

static radar_status check_ids(launch_job *job, const launch_input *in) {
    for (size_t i = 0; i < in->n; i++)
        if (in->ids[i] >= job->info.vocab)
            return radar_fail(&job->err, RADAR_ERR_DATA,
                              "%s: entry %zu is %d, the model's tokens are 0 to %d", in->name, i,
                              in->ids[i], job->info.vocab - 1);
    return RADAR_OK;
}

radar_status launch_input_tokenize(launch_job *job, launch_input *in) {
    if (in->ids != NULL) return check_ids(job, in);
    const launch_options *opt = job->opt;
    const int flags = RADAR_TEXT_BOS | (opt->no_special ? 0 : RADAR_TEXT_SPECIAL);
    const radar_status st =
        opt->chat
            ? radar_chat(job->engine, opt->chat_template, in->text, in->bytes, &in->ids, &in->n)
            : radar_tokenize(job->engine, in->text, in->bytes, flags, &in->ids, &in->n);
    if (st != RADAR_OK) {
        const char *why = radar_last_error(job->engine);
        const bool named = opt->prompt == NULL && strncmp(why, in->name, strlen(in->name)) != 0;
        return radar_fail(&job->err, st, "%s%s%s", named ? in->name : "", named ? ": " : "", why);
    }
    if (in->n == 0) return radar_fail(&job->err, RADAR_ERR_DATA, "%s: gives no token", in->name);
    return RADAR_OK;
}

void launch_input_free(launch_input *in) {
    radar_free(in->text);
    radar_release(in->ids);
    *in = (launch_input){0};
}

radar_status launch_prompt_share(launch_job *job, launch_prompt *p, const int32_t *token,
                                 size_t n) {
    const launch_world *w = job->world;
    *p = (launch_prompt){0};
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    uint64_t count = n;
    w->broadcast(w, &count, sizeof count);
    p->n = (size_t)count;
    p->token = radar_alloc_array(p->n, sizeof *p->token);
    if (p->token == NULL)
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for a prompt of %zu tokens", p->n);
    if (launch_agree(job) != RADAR_OK) return job->err.status;
    if (w->rank == 0) memcpy(p->token, token, p->n * sizeof *token);
    w->broadcast(w, p->token, p->n * sizeof *p->token);
    return RADAR_OK;
}

radar_status launch_prompt_open(launch_job *job, launch_prompt *p) {
    launch_input in = {0};
    *p = (launch_prompt){0};
    const bool reads = job->world->rank == 0;
    if (reads) launch_input_read(job, &in);
    radar_status st = launch_agree(job); /* a missing prompt is told before a model is opened */
    if (st == RADAR_OK) st = launch_open_engine(job, false);
    if (st == RADAR_OK) {
        if (reads) launch_input_tokenize(job, &in);
        st = launch_prompt_share(job, p, in.ids, in.n);
    }
    launch_input_free(&in);
    return st;
}

void launch_prompt_free(launch_prompt *p) {
    radar_free(p->token);
    *p = (launch_prompt){0};
}
