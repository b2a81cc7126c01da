/* The command `radar`: finds out whether it is one rank of a job, lets a subcommand work, and ends all ranks with one exit code. */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/launch.h"
#include "launch/profile.h"
#include "runtime/sys.h"

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

/* ---- the ranks ---- */

/* Each launcher leaves its mark in the environment of the ranks it starts.  A batch script's own shell has SLURM_PROCID too, but no
 * step of several tasks with an MPI type. */
static bool is_one_of_several(void) {
    static const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK",
                                        "PMI_SIZE"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (getenv(marks[i]) != NULL) return true;
    const char *type = getenv("SLURM_MPI_TYPE"), *tasks = getenv("SLURM_STEP_NUM_TASKS");
    return getenv("SLURM_PROCID") != NULL && type != NULL && strcmp(type, "none") != 0 &&
           tasks != NULL && atoi(tasks) > 1;
}

/* The other ranks wait in an exchange that will not come: the whole job ends. */
static void end_job(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

static void end_broken_job(const char *what) {
    fprintf(stderr, "radar: %s failed between the ranks: the job ends\n", what);
    end_job(radar_exit_code(RADAR_ERR_PEER));
}

static void mpi_broadcast(const launch_world *w, void *data, size_t bytes) {
    enum { PIECE = 1 << 30 };
    for (size_t done = 0; done < bytes; done += PIECE) {
        const size_t left = bytes - done;
        if (MPI_Bcast((char *)data + done, left < PIECE ? (int)left : PIECE, MPI_BYTE, 0,
                      w->comm) != MPI_SUCCESS)
            end_broken_job("a broadcast");
    }
}

static void mpi_largest(const launch_world *w, int *value, int *rank) {
    struct {
        int value, rank;
    } mine = {*value, w->rank}, all;
    if (MPI_Allreduce(&mine, &all, 1, MPI_2INT, MPI_MAXLOC, w->comm) != MPI_SUCCESS)
        end_broken_job("agreeing");
    *value = all.value;
    *rank = all.rank;
}

static void self_broadcast(const launch_world *w, void *data, size_t bytes) {
    (void)w, (void)data, (void)bytes;
}

static void self_largest(const launch_world *w, int *value, int *rank) {
    (void)value;
    *rank = w->rank;
}

/* Cores for each of the ranks that may use the same ones: more threads than cores wait for each other at every barrier. */
static int fair_cores(MPI_Comm all, int *neighbours) {
    enum { MOST = 1024 };
    static cpu_set_t set[MOST];
    cpu_set_t own;
    MPI_Comm machine;
    int n = 1, alike = 0;
    CPU_ZERO(&own);
    if (sched_getaffinity(0, sizeof own, &own) != 0) return radar_cores();
    MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &n);
    *neighbours = n;
    if (n <= MOST) MPI_Allgather(&own, sizeof own, MPI_BYTE, set, sizeof own, MPI_BYTE, machine);
    for (int i = 0; i < n && n <= MOST; i++) alike += CPU_EQUAL(&own, &set[i]) != 0;
    MPI_Comm_free(&machine);
    const int each = radar_cores() / (alike > 0 ? alike : 1);
    return each > 0 ? each : 1;
}

static radar_status world_open(launch_world *w, int *argc, char ***argv, radar_error *err) {
    *w =
        (launch_world){.size = 1, .comm = MPI_COMM_NULL, .alone = MPI_COMM_NULL, .signal = &caught};
    w->cores = radar_cores();
    w->neighbours = 1;
    w->started = radar_clock();
    w->broadcast = self_broadcast;
    w->largest = self_largest;
    if (!is_one_of_several()) return RADAR_OK;
    int level;
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return radar_fail(err, RADAR_ERR_PEER,
                          "MPI does not start; unset the launcher's variables to run alone");
    MPI_Comm_dup(MPI_COMM_WORLD, &w->comm);
    MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN);
    MPI_Comm_rank(w->comm, &w->rank);
    MPI_Comm_size(w->comm, &w->size);
    w->broadcast = mpi_broadcast;
    w->largest = mpi_largest;
    w->end = w->size > 1 ? end_job : NULL;
    w->cores = fair_cores(w->comm, &w->neighbours);
    if (level < MPI_THREAD_FUNNELED)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "this MPI offers no MPI_THREAD_FUNNELED; use one built with threads");
    return RADAR_OK;
}

/* After the barrier, because mpirun kills the others when one rank ends with an error. */
static void world_close(launch_world *w) {
    if (w->comm == MPI_COMM_NULL) return;
    MPI_Barrier(w->comm);
    MPI_Comm_free(&w->comm);
    MPI_Finalize();
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
    world_open(&world, &argc, &argv, &job.err);
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
    world_close(&world);
    return code;
}
