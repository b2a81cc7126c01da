/* The ranks of a job that mpirun or srun started. */
#include <mpi.h>
#include <sched.h>
#include <stdio.h>

#include "launch/world.h"
#include "runtime/sys.h"

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

/* After the barrier, because mpirun kills the others when one rank ends with an error. */
static void mpi_close(launch_world *w) {
    MPI_Barrier(w->comm);
    MPI_Comm_free(&w->comm);
    MPI_Finalize();
}

radar_status launch_world_join(launch_world *w, int *argc, char ***argv, radar_error *err) {
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
    w->close = mpi_close;
    w->end = w->size > 1 ? end_job : NULL;
    w->cores = fair_cores(w->comm, &w->neighbours);
    if (level < MPI_THREAD_FUNNELED)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "this MPI offers no MPI_THREAD_FUNNELED; use one built with threads");
    return RADAR_OK;
}
