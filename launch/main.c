/* The command `radar`: finds out whether it is one rank of a job, lets a subcommand work, and ends all ranks with one exit code. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/launch.h"
#include "launch/profile.h"
#include "launch/world.h"

/* ---- signals: a flag that the library's progress callback reports, so that all ranks stop at the same step ---- */

static volatile sig_atomic_t caught;

static void on_signal(int number) {
    if (caught != 0 && number == SIGINT) _exit(128 + SIGINT);
    caught = number;
}

static void watch_signals(void) {
    struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&stop.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(
        SIGUSR1, &stop,
        NULL); /* what Slurm sends before the time limit; mpirun passes it on without killing */
    sigaction(SIGPIPE, &ignore, NULL); /* a closed pipe is an error of write */
    sigaction(SIGXFSZ, &ignore, NULL); /* so is a file at its size limit */
}

/* A closed standard descriptor would be given to the next file opened, and text written into it. */
static void hold_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", O_RDONLY) < 0) return;
}

/* ---- the job ---- */

static radar_status print_text(launch_job *job) {
    if (job->world->rank != 0) return RADAR_OK;
    if (job->opt->command == LAUNCH_VERSION)
        puts("radar " RADAR_VERSION);
    else
        launch_args_help(stdout, job->opt);
    if (fflush(stdout) == 0) return RADAR_OK;
    return radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed: %s", strerror(errno));
}

static radar_status run_command(launch_job *job) {
    const bool first = job->world->rank == 0;
    switch (job->opt->command) {
    case LAUNCH_RUN:
        return launch_run(job);
    case LAUNCH_EVAL:
        return launch_eval(job);
    case LAUNCH_COMPARE:
        return launch_compare(job);
    case LAUNCH_BENCH:
        return launch_bench(job);
    case LAUNCH_TOKENIZE:
        return first ? launch_tokenize(job) : RADAR_OK;
    case LAUNCH_DETOKENIZE:
        return first ? launch_detokenize(job) : RADAR_OK;
    case LAUNCH_INSPECT:
        return first ? launch_inspect(job) : RADAR_OK;
    case LAUNCH_PLAN:
        return first ? launch_plan(job) : RADAR_OK;
    case LAUNCH_REPORT:
        return first ? launch_report(job) : RADAR_OK;
    case LAUNCH_HELP:
    case LAUNCH_VERSION:
        return print_text(job);
    }
    return RADAR_OK;
}

int main(int argc, char **argv) {
    launch_world world;
    launch_options opt;
    launch_job job = {.world = &world, .opt = &opt};
    hold_standard_descriptors();
    launch_world_open(&world, &argc, &argv, &caught, &job.err);
    watch_signals();
    if (job.err.status == RADAR_OK) launch_args_parse(&opt, argc, argv, &job.err);
    launch_progress_open(&job.progress,
                         world.rank == 0 && job.err.status == RADAR_OK && !opt.quiet);
    if (launch_agree(&job) == RADAR_OK && launch_same_options(&job) == RADAR_OK &&
        launch_profile_apply(&job, &opt) == RADAR_OK) {
        launch_preset_apply(&opt);
        run_command(&job);
    }
    launch_agree(&job);
    launch_close(&job);
    launch_profile_free(&job);
    launch_print_error(
        &job); /* one line in the whole job: launch_agree left the words to one rank */
    const int code = radar_exit_code(job.err.status);
    launch_world_close(&world);
    return code;
}
