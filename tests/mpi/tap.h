/* tap.h - cases that all ranks run together: a case holds when it holds on every rank; rank 0 prints the result. */
#ifndef RADAR_TEST_TAP_H
#define RADAR_TEST_TAP_H

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_rank, tap_ranks, tap_cases, tap_failed;
static bool tap_holds; /* the running case, on this rank */

/* Notes a failure and goes on, so that no rank leaves the exchanges of a case early. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            tap_holds = false; \
            fprintf(stderr, "# rank %d of %d: %s:%d: %s\n", tap_rank, tap_ranks, __FILE__, \
                    __LINE__, #condition); \
        } \
    } while (0)

/* PMPI: the tests put their own functions before some of MPI's. */
static void tap_run(const char *name, void (*test)(void)) {
    tap_holds = true;
    test();
    int mine = tap_holds, all = 0;
    PMPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    tap_cases++;
    tap_failed += !all;
    if (tap_rank == 0) printf("%s %d - %s\n", all ? "ok" : "not ok", tap_cases, name);
}
#define RUN(test) tap_run(#test, test)

static void tap_begin(int *argc, char ***argv) {
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    PMPI_Comm_rank(MPI_COMM_WORLD, &tap_rank);
    PMPI_Comm_size(MPI_COMM_WORLD, &tap_ranks);
}

static int tap_end(void) {
    if (tap_rank == 0) printf("1..%d\n", tap_cases);
    MPI_Finalize();
    return tap_failed ? 1 : 0;
}

#endif
