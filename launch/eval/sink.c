/* Rows: kept in DIR/<kind>.jsonl as they come, or shown on stdout at the end; and which of them an earlier run made already. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/eval/eval.h"
#include "launch/eval/table.h"
#include "launch/output.h"
#include "runtime/sys.h"

enum { LINE_MOST = 1 << 24, PATH_MOST = 4096 };

struct eval_sink {
    uint64_t *key; /* [n], on every rank: rows that need not be made */
    size_t n, room;
    int64_t there, written;
    /* rank 0 */
    char path[PATH_MOST]; /* of the JSONL; "" without --out */
    int fd;               /* -1: none */
    json_t *rows;         /* for stdout */
    json_t *notes;        /* beside them in the object of --json; may be NULL */
};

/* ---- keys ---- */

static bool add_key(eval_sink *s, uint64_t key) {
    if (s->n == s->room) {
        const size_t room = s->room == 0 ? 256 : 2 * s->room;
        uint64_t *bigger = radar_alloc_array(room, sizeof *bigger);
        if (bigger == NULL) return false;
        if (s->n > 0) memcpy(bigger, s->key, s->n * sizeof *bigger);
        radar_free(s->key);
        s->key = bigger;
        s->room = room;
    }
    s->key[s->n++] = key;
    return true;
}

/* Rank 0 knows the files; all ranks leave out the same rows. */
static radar_status share_keys(eval_context *c) {
    const launch_world *w = c->job->world;
    eval_sink *s = c->sink;
    uint64_t n = s->n;
    w->broadcast(w, &n, sizeof n);
    if (w->rank != 0 && n > 0) {
        s->key = radar_alloc_array((size_t)n, sizeof *s->key);
        if (s->key == NULL) radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for keys");
        s->n = s->room = (size_t)n;
    }
    if (launch_agree(c->job) != RADAR_OK) return c->job->err.status;
    if (n > 0) w->broadcast(w, s->key, (size_t)n * sizeof *s->key);
    s->there = (int64_t)n;
    return RADAR_OK;
}

bool eval_wanted(eval_context *c, const char *part) {
    const uint64_t key = eval_key(c, part);
    for (size_t i = 0; i < c->sink->n; i++) {
        if (c->sink->key[i] != key) continue;
        c->done++;
        return false;
    }
    return true;
}

/* ---- the file ---- */

static radar_status take_line(eval_context *c, const char *line, size_t bytes, int64_t number,
                              bool *whole) {
    eval_sink *s = c->sink;
    json_error_t why;
    char *end = NULL;
    json_t *row = json_loadb(line, bytes, 0, &why);
    const char *hex = json_string_value(json_object_get(row, "key"));
    const uint64_t key = hex != NULL ? strtoull(hex, &end, 16) : 0;
    *whole = hex != NULL && end != hex && *end == 0;
    json_decref(row);
    if (*whole && !add_key(s, key))
        return radar_fail(&c->job->err, RADAR_ERR_MEMORY, "%s: no memory for its keys (line %lld)",
                          s->path, (long long)number);
    return RADAR_OK;
}

/* What an interrupted write left behind the last whole line goes. */
static radar_status drop_tail(eval_context *c, int64_t good) {
    eval_sink *s = c->sink;
    launch_progress_line(&c->job->progress,
                         "warning: %s: its last line was cut off in an earlier run; it is dropped",
                         s->path);
    if (ftruncate(s->fd, good) == 0) return RADAR_OK;
    return radar_fail(&c->job->err, RADAR_ERR_IO, "%s: cannot be cut: %s", s->path,
                      strerror(errno));
}

static radar_status read_rows(eval_context *c, FILE *f, char *line) {
    eval_sink *s = c->sink;
    int64_t good = 0, number = 0;
    while (fgets(line, LINE_MOST, f) != NULL) {
        const size_t bytes = strlen(line);
        const bool ended = bytes > 0 && line[bytes - 1] == '\n';
        bool whole = false;
        number++;
        if (ended && take_line(c, line, bytes, number, &whole) != RADAR_OK)
            return c->job->err.status;
        if (whole) {
            good += (int64_t)bytes;
            continue;
        }
        if (fgetc(f) == EOF) return drop_tail(c, good);
        return radar_fail(&c->job->err, RADAR_ERR_DATA,
                          "%s: line %lld is no row of an evaluation; repair or remove it", s->path,
                          (long long)number);
    }
    if (ferror(f)) return radar_fail(&c->job->err, RADAR_ERR_IO, "%s: cannot be read", s->path);
    return RADAR_OK;
}

static radar_status read_file(eval_context *c) {
    eval_sink *s = c->sink;
    char *line = radar_alloc(LINE_MOST);
    FILE *f = fopen(s->path, "rb");
    if (line == NULL || f == NULL)
        radar_fail(&c->job->err, line == NULL ? RADAR_ERR_MEMORY : RADAR_ERR_IO,
                   "%s: cannot be read", s->path);
    else
        read_rows(c, f, line);
    if (f != NULL) fclose(f);
    radar_free(line);
    return c->job->err.status;
}

/* [rank 0] */
static radar_status open_file(eval_context *c) {
    eval_sink *s = c->sink;
    radar_error *err = &c->job->err;
    const char *dir = c->setting.out;
    if (strlen(dir) > 4000) return radar_fail(err, RADAR_ERR_CREATE, "--out: the path is too long");
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return radar_fail(err, RADAR_ERR_CREATE,
                          "%s: cannot be created: %s; name a place that can be written", dir,
                          strerror(errno));
    snprintf(s->path, sizeof s->path, "%.4000s/%s.jsonl", dir, c->kind->name);
    s->fd = open(s->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (s->fd < 0)
        return radar_fail(err, RADAR_ERR_CREATE,
                          "%s: cannot be created: %s; name a place that can be written", s->path,
                          strerror(errno));
    if (flock(s->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return radar_fail(err, RADAR_ERR_CREATE,
                          "%s: another run is writing it; wait for its end or name another --out",
                          s->path);
    return read_file(c);
}

/* [rank 0] A file that is not ours to write stays as it is, and so does the table beside it. */
static void take_file(eval_context *c) {
    eval_sink *s = c->sink;
    if (open_file(c) == RADAR_OK || s->fd < 0) return;
    close(s->fd);
    s->fd = -1;
}

radar_status eval_sink_open(eval_context *c) {
    launch_job *job = c->job;
    c->sink = radar_alloc(sizeof *c->sink);
    if (c->sink == NULL) {
        radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for rows");
    } else {
        c->sink->fd = -1;
        if (job->world->rank == 0) {
            c->sink->rows = json_array();
            if (c->setting.out != NULL) take_file(c);
        }
    }
    return launch_agree(job) == RADAR_OK ? share_keys(c) : job->err.status;
}

/* ---- a row ---- */

static radar_status write_line(eval_sink *s, const char *text, size_t bytes, radar_error *err) {
    for (size_t done = 0; done < bytes;) {
        const long n = radar_sys_table.write(s->fd, text + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return radar_fail(err, RADAR_ERR_IO, "%s: write failed: %s", s->path,
                              n < 0 ? strerror(errno) : "nothing was taken");
        done += (size_t)n;
    }
    /* EINVAL: a pipe or a device, which has nothing to keep. */
    if (fsync(s->fd) != 0 && errno != EINVAL)
        return radar_fail(err, RADAR_ERR_IO, "%s: cannot be kept: %s", s->path, strerror(errno));
    return RADAR_OK;
}

/* [rank 0] One line, with its end, in one write. */
static radar_status write_row(eval_context *c, const launch_json *row) {
    radar_error *err = &c->job->err;
    char *text =
        row->failed
            ? NULL
            : json_dumps(row->object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
    if (text == NULL) return radar_fail(err, RADAR_ERR_MEMORY, "no memory for a row");
    const size_t bytes = strlen(text);
    text[bytes] = '\n'; /* in place of the zero byte: a line is written whole */
    const radar_status st = write_line(c->sink, text, bytes + 1, err);
    free(text);
    return st;
}

radar_status eval_emit(eval_context *c, launch_json *row) {
    launch_job *job = c->job;
    eval_sink *s = c->sink;
    if (job->world->rank == 0) {
        if (s->fd >= 0)
            write_row(c, row);
        else if (row->failed || json_array_append(s->rows, row->object) != 0)
            radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for a row");
        json_decref(row->object);
    }
    *row = (launch_json){0};
    c->done++;
    s->written++;
    c->made++;
    if (c->total > 1) launch_progress_sweep(&job->progress, c->done, c->total, c->made);
    return launch_agree(job);
}

void eval_note(eval_context *c, const char *key, json_t *value) {
    eval_sink *s = c->sink;
    if (s->notes == NULL) s->notes = json_object();
    json_t *list = json_object_get(s->notes, key);
    if (list == NULL && json_object_set_new(s->notes, key, json_array()) == 0)
        list = json_object_get(s->notes, key);
    if (json_array_append_new(list, value) != 0)
        radar_fail(&c->job->err, RADAR_ERR_MEMORY, "no memory for %s", key);
}

/* ---- the end ---- */

static void show_rows(eval_context *c) {
    launch_job *job = c->job;
    launch_progress_clear(&job->progress);
    if (!c->setting.json) {
        eval_table_print(job, c->sink->rows, c->kind->columns);
        return;
    }
    launch_json j = launch_json_open();
    launch_json_set(&j, "rows", json_incref(c->sink->rows));
    if (c->sink->notes != NULL && json_object_update(j.object, c->sink->notes) != 0)
        j.failed = true;
    launch_json_print(job, &j);
}

/* [rank 0] --json beside --out: where the rows are. */
static void tell_files(eval_context *c, const char *csv) {
    const eval_sink *s = c->sink;
    launch_json j = launch_json_open();
    launch_json_text(&j, "jsonl", s->path, strlen(s->path));
    launch_json_text(&j, "csv", csv, strlen(csv));
    launch_json_int(&j, "written", s->written);
    launch_json_int(&j, "there", s->there);
    if (s->notes != NULL && json_object_update(j.object, s->notes) != 0) j.failed = true;
    launch_json_print(c->job, &j);
}

/* [rank 0] Also after an error: what is written stays, and the table beside it is of all of it. */
static void close_files(eval_context *c) {
    eval_sink *s = c->sink;
    char csv[PATH_MOST];
    snprintf(csv, sizeof csv, "%.*s.csv", (int)strlen(s->path) - 6, s->path);
    radar_error err = {0};
    eval_table_csv(csv, s->path, &err);
    if (err.status != RADAR_OK) radar_fail(&c->job->err, err.status, "%s", err.text);
    close(s->fd);
    if (c->setting.json && c->job->err.status == RADAR_OK) tell_files(c, csv);
    launch_progress_line(&c->job->progress, "%lld rows written to %s, %lld were there",
                         (long long)s->written, s->path, (long long)s->there);
}

void eval_sink_close(eval_context *c) {
    eval_sink *s = c->sink;
    if (s == NULL) return;
    if (s->fd >= 0)
        close_files(c);
    else if (s->rows != NULL && s->written > 0 && c->job->err.status == RADAR_OK)
        show_rows(c);
    json_decref(s->rows);
    json_decref(s->notes);
    radar_free(s->key);
    radar_free(s);
    c->sink = NULL;
}
