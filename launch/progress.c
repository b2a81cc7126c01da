#include "launch/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/sys.h"

enum { BAR_WIDTH = 30 };
static const double bar_period = 0.1, line_period = 5.0; /* seconds */

void launch_progress_open(launch_progress *r, bool speaks) {
    *r = (launch_progress){.speaks = speaks, .terminal = isatty(STDERR_FILENO) == 1};
    r->began = r->shown = radar_clock();
}

/* ", part 3 of 12, 4:05 left": of the sweep if there is one, else of the present phase. */
static void print_left(const launch_progress *r, int64_t total, double now) {
    double began = r->began, done = (double)r->done, all = (double)total;
    if (r->parts > 1) {
        fprintf(stderr, ", part %lld of %lld", (long long)r->part + 1, (long long)r->parts);
        began = r->sweep_began, done = (double)r->made;
        all = done + (double)(r->parts - r->part);
    }
    if (done <= 0 || done >= all) return;
    const int64_t left = (int64_t)((now - began) * (all - done) / done);
    fprintf(stderr, ", %lld:%02lld left", (long long)left / 60, (long long)left % 60);
}

static void show(launch_progress *r, int64_t total, double now) {
    const double seconds = now - r->began;
    const double rate = seconds > 0 ? (double)r->done / seconds : 0;
    if (!r->terminal) {
        fprintf(stderr, "%s: %lld of %lld", r->what, (long long)r->done, (long long)total);
        fprintf(stderr, " (%.0f %%), %.0f a second", 100.0 * (double)r->done / (double)total, rate);
        print_left(r, total, now);
        fputc('\n', stderr);
        return;
    }
    char bar[BAR_WIDTH + 1];
    const int full = (int)((double)BAR_WIDTH * (double)r->done / (double)total);
    for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < full ? '=' : ' ';
    bar[BAR_WIDTH] = 0;
    fprintf(stderr, "\r\033[K%-8s [%s] %lld/%lld  %.0f/s", r->what, bar, (long long)r->done,
            (long long)total, rate);
    print_left(r, total, now);
    r->bar = true;
}

void launch_progress_show(launch_progress *r, const char *what, int64_t done, int64_t total) {
    if (!r->speaks) return;
    const double now = radar_clock();
    if (done < r->done || strncmp(r->what, what, sizeof r->what - 1) != 0) {
        launch_progress_clear(r);
        snprintf(r->what, sizeof r->what, "%s", what);
        r->began = now;
        /* A bar shows at once that something goes on; a log hears only of what takes long. */
        r->shown = r->terminal ? now - bar_period : now;
    }
    r->done = done;
    if (total <= 0 || done > total) return;
    if (now - r->shown < (r->terminal ? bar_period : line_period)) return;
    r->shown = now;
    show(r, total, now);
}

void launch_progress_sweep(launch_progress *r, int64_t part, int64_t parts, int64_t made) {
    if (r->parts == 0) r->sweep_began = radar_clock();
    r->part = part < parts ? part : parts - 1;
    r->made = made;
    r->parts = parts;
}

void launch_progress_clear(launch_progress *r) {
    if (r->bar) fputs("\r\033[K", stderr);
    r->bar = false;
}

void launch_progress_line(launch_progress *r, const char *format, ...) {
    if (!r->speaks) return;
    launch_progress_clear(r);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

const char *launch_bytes(char text[LAUNCH_BYTES_TEXT], double bytes) {
    static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB"};
    int i = 0;
    while (bytes >= 999.95 && i < 4) bytes /= 1000, i++;
    snprintf(text, LAUNCH_BYTES_TEXT, i == 0 ? "%.0f %s" : "%.1f %s", bytes, unit[i]);
    return text;
}
