#include "launch/phases.h"

#include <string.h>

/* Microseconds, so that they fit what the ranks can compare: 35 minutes of exchanges, or what is longer as that. */
static int microseconds(double s) { return s < 2147 ? (int)(s * 1e6) : INT32_MAX; }

launch_phases launch_phases_read(launch_job *job) {
    launch_phases p = {.longest_rank = job->world->rank};
    radar_profile(job->engine, &p.phase, &p.n);
    for (size_t i = 0; i < p.n; i++)
        if (strncmp(p.phase[i].name, "exchange ", 9) == 0) p.own_exchange_s += p.phase[i].seconds;
    int longest = microseconds(p.own_exchange_s);
    job->world->largest(job->world, &longest, &p.longest_rank);
    p.longest_s = 1e-6 * longest;
    if (p.n > 0) p.steps = p.phase[p.n - 1].calls; /* "other" counts the passes */
    if (p.steps == 0) p.n = 0;
    return p;
}

static double all_seconds(const launch_phases *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) sum += p->phase[i].seconds;
    return sum;
}

void launch_phases_print(launch_job *job, const launch_phases *p) {
    const double all = all_seconds(p), steps = (double)p->steps;
    if (p->n == 0) return;
    launch_progress_line(&job->progress, "%-24s %10s %7s %8s %10s", "phase", "ms/step", "share",
                         "GB/s", "calls/step");
    for (size_t i = 0; i < p->n; i++) {
        const radar_phase *f = &p->phase[i];
        char rate[16] = "";
        if (f->bytes > 0) snprintf(rate, sizeof rate, "%.2f", 1e-9 * f->bytes / f->seconds);
        launch_progress_line(&job->progress, "%-24s %10.4f %5.1f %% %8s %10.1f", f->name,
                             1e3 * f->seconds / steps, 100 * f->seconds / all, rate,
                             (double)f->calls / steps);
    }
    launch_progress_line(&job->progress, "%-24s %10.4f %5.1f %%", "all", 1e3 * all / steps, 100.0);
    if (job->world->size > 1)
        launch_progress_line(
            &job->progress, "exchanges: rank 0 %.4f ms/step, most on rank %d: %.4f ms/step",
            1e3 * p->own_exchange_s / steps, p->longest_rank, 1e3 * p->longest_s / steps);
}

static void set_real(launch_json *j, json_t *object, const char *key, double value) {
    if (json_object_set_new(object, key, json_real(value)) != 0) j->failed = true;
}

void launch_json_phases(launch_json *j, const launch_phases *p) {
    const double all = all_seconds(p), steps = (double)p->steps;
    json_t *array = json_array();
    for (size_t i = 0; i < p->n; i++) {
        const radar_phase *f = &p->phase[i];
        json_t *row = json_object();
        if (json_object_set_new(row, "phase", json_string(f->name)) != 0) j->failed = true;
        set_real(j, row, "ms_per_step", 1e3 * f->seconds / steps);
        set_real(j, row, "share", all > 0 ? f->seconds / all : 0);
        set_real(j, row, "bytes_per_step", f->bytes / steps);
        set_real(j, row, "bytes_per_s", f->seconds > 0 ? f->bytes / f->seconds : 0);
        set_real(j, row, "calls_per_step", (double)f->calls / steps);
        if (json_array_append_new(array, row) != 0) j->failed = true;
    }
    launch_json_set(j, "profile", array);
    launch_json_int(j, "profile_steps", p->steps);
    launch_json_real(j, "exchange_longest_s", p->longest_s);
}
