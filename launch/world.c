/* The ranks of a job of one; several are world_mpi.c's. */
#include "launch/world.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"

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

static void self_broadcast(const launch_world *w, void *data, size_t bytes) {
    (void)w, (void)data, (void)bytes;
}

static void self_largest(const launch_world *w, int *value, int *rank) {
    (void)value;
    *rank = w->rank;
}

static void self_close(launch_world *w) { (void)w; }

radar_status launch_world_open(launch_world *w, int *argc, char ***argv,
                               volatile const sig_atomic_t *signal, radar_error *err) {
    *w = (launch_world){.size = 1,
                        .comm = RADAR_ONE_RANK,
                        .alone = RADAR_ONE_RANK,
                        .signal = signal,
                        .started = radar_clock(),
                        .neighbours = 1,
                        .cores = radar_cores(),
                        .broadcast = self_broadcast,
                        .largest = self_largest,
                        .close = self_close};
    if (!is_one_of_several()) return RADAR_OK;
#ifdef RADAR_NO_MPI
    (void)argc, (void)argv;
    return radar_fail(err, RADAR_ERR_CONFIG,
                      "this radar is built without MPI and runs one rank; start it without mpirun "
                      "or srun");
#else
    return launch_world_join(w, argc, argv, err);
#endif
}

void launch_world_close(launch_world *w) { w->close(w); }
