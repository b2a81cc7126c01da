/* radar report DIR: the command, and how its file is written. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/launch.h"
#include "launch/output.h"
#include "launch/report/method.h"
#include "launch/report/page.h"
#include "runtime/sys.h"

static radar_status write_file(const markup *m, const char *path, radar_error *err) {
    launch_output *out = radar_alloc(sizeof *out);
    if (out == NULL) return radar_fail(err, RADAR_ERR_MEMORY, "no memory to write the report");
    if (launch_output_open(out, path, err) == RADAR_OK) {
        launch_output_write(out, m->data, m->used, err);
        launch_output_close(out, err);
    }
    radar_free(out);
    return err->status;
}

/* A new file takes the old one's place in one step; a full disk leaves the old one. */
static radar_status replace_file(const markup *m, const char *path, radar_error *err) {
    char beside[PATH_MAX];
    const int n = snprintf(beside, sizeof beside, "%s.%ld.part", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof beside)
        return radar_fail(err, RADAR_ERR_CREATE, "%.64s..: the path is too long", path);
    const radar_status st = write_file(m, beside, err);
    if (st == RADAR_ERR_CREATE) return st;
    if (st == RADAR_OK && rename(beside, path) != 0)
        radar_fail(err, RADAR_ERR_CREATE, "%s: cannot be replaced: %s; name another with -o", path,
                   strerror(errno));
    if (err->status != RADAR_OK) unlink(beside);
    return err->status;
}

radar_status report_write(const markup *m, const char *path, radar_error *err) {
    struct stat about;
    if (strcmp(path, "-") == 0) return write_file(m, NULL, err);
    if (stat(path, &about) != 0) return replace_file(m, path, err);
    if (!S_ISREG(about.st_mode)) return write_file(m, path, err);
    char *real = realpath(path, NULL); /* what a link points to is replaced, not the link */
    const radar_status st = replace_file(m, real != NULL ? real : path, err);
    free(real);
    return st;
}

static void warn(void *user, const char *text) { launch_progress_line(user, "warning: %s", text); }

radar_status launch_report(launch_job *job) {
    const launch_options *o = job->opt;
    const char *path = o->output != NULL ? o->output : "report.html";
    eval_rows rows;
    markup m = {0};
    if (o->svg != NULL && report_figure_named(o->svg) == NULL)
        return radar_fail(&job->err, RADAR_ERR_USAGE,
                          "--svg '%.40s': not known; use one of " REPORT_FIGURES, o->svg);
    radar_status st = rows_read(&rows, o->folder, warn, &job->progress, &job->err);
    for (int k = 0; k < ROW_KINDS && st == RADAR_OK; k++) method_compare(&rows.of[k]);
    if (st == RADAR_OK)
        st = o->svg != NULL ? report_svg(&m, &rows, o->svg, &job->err)
                            : report_page(&m, &rows, o->folder, &job->err);
    if (st == RADAR_OK) st = report_write(&m, path, &job->err);
    if (st == RADAR_OK && strcmp(path, "-") != 0)
        launch_progress_line(&job->progress, "%s: %d rows, %zu bytes", path, rows_count(&rows),
                             m.used);
    markup_close(&m);
    rows_close(&rows);
    return st;
}
