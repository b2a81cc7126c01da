/* comm_mpi.c - exchanges of host memory through MPI.  The only file of parallel/ that includes mpi.h. */
#include "parallel/comm.h"

#include <limits.h>
#include <mpi.h>

#include "runtime/sys.h"

typedef struct mpi_carrier {
    radar_comm base;
    MPI_Comm comm; /* our own duplicate */
} mpi_carrier;

static MPI_Comm comm_of(const radar_comm *c) { return ((const mpi_carrier *)c)->comm; }

static radar_status check(int code, const char *call, radar_error *err) {
    if (code == MPI_SUCCESS) return RADAR_OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown MPI error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return radar_fail(err, RADAR_ERR_PEER,
                      "%s failed: %.256s; see the other ranks' messages and start again", call,
                      text);
}

/* MPI counts in int: what is longer goes in several messages. */
static radar_status mpi_broadcast(radar_comm *c, void *buffer, size_t bytes, int root,
                                  radar_error *err) {
    char *at = buffer;
    while (bytes > 0) {
        size_t part = bytes < c->message_bytes ? bytes : c->message_bytes;
        radar_status st =
            check(MPI_Bcast(at, (int)part, MPI_BYTE, root, comm_of(c)), "MPI_Bcast", err);
        if (st != RADAR_OK) return st;
        at += part;
        bytes -= part;
    }
    return RADAR_OK;
}

static radar_status gather_in_pieces(radar_comm *c, void *buffer, const size_t *bytes,
                                     const size_t *offset, radar_error *err) {
    for (int r = 0; r < c->size; r++) {
        radar_status st = mpi_broadcast(c, (char *)buffer + offset[r], bytes[r], r, err);
        if (st != RADAR_OK) return st;
    }
    return RADAR_OK;
}

static radar_status mpi_gather(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                               const size_t *offset, radar_error *err) {
    (void)x;
    int count[RADAR_MAX_RANKS], displacement[RADAR_MAX_RANKS];
    for (int r = 0; r < c->size; r++) {
        if (bytes[r] > c->message_bytes || offset[r] > c->message_bytes)
            return gather_in_pieces(c, buffer, bytes, offset, err);
        count[r] = (int)bytes[r];
        displacement[r] = (int)offset[r];
    }
    int code = MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buffer, count, displacement,
                              MPI_BYTE, comm_of(c));
    return check(code, "MPI_Allgatherv", err);
}

static radar_status mpi_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err) {
    struct {
        int status, rank;
    } mine = {(int)*status, c->rank}, worst = mine;
    int code = MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MAXLOC, comm_of(c));
    *status = (radar_status)worst.status;
    *rank = worst.rank;
    return check(code, "MPI_Allreduce", err);
}

static void mpi_close(radar_comm *c) {
    int over = 0;
    MPI_Finalized(&over);
    if (!over) MPI_Comm_free(&((mpi_carrier *)c)->comm);
    radar_free(c);
}

static const radar_comm_ops mpi_ops = {.name = "mpi",
                                       .gather = mpi_gather,
                                       .broadcast = mpi_broadcast,
                                       .worst = mpi_worst,
                                       .close = mpi_close};

static radar_status usable(const void *mpi_comm, int *size, radar_error *err) {
    int started = 0, over = 0, inter = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&over);
    if (!started || over)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "exchanges: MPI is not running; call MPI_Init_thread before and "
                          "MPI_Finalize after");
    MPI_Comm comm = *(const MPI_Comm *)mpi_comm;
    if (comm == MPI_COMM_NULL)
        return radar_fail(err, RADAR_ERR_USAGE, "exchanges: the communicator is MPI_COMM_NULL");
    MPI_Comm_test_inter(comm, &inter);
    if (inter)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "exchanges: an intercommunicator; merge it (MPI_Intercomm_merge) first");
    MPI_Comm_size(comm, size);
    if (*size > RADAR_MAX_RANKS)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "%d ranks, but at most %d can own a shard; start fewer", *size,
                          RADAR_MAX_RANKS);
    return RADAR_OK;
}

/* All ranks have memory, or none keeps it. */
static radar_status all_have(mpi_carrier *m, MPI_Comm comm, radar_error *err) {
    int mine = m != NULL, all = 0;
    radar_status st = check(MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, comm),
                            "exchanges: MPI_Allreduce", err);
    if (st == RADAR_OK && !all)
        st = radar_fail(err, RADAR_ERR_MEMORY, "exchanges: no memory for %zu bytes%s", sizeof *m,
                        mine ? " on another rank" : "");
    return st;
}

radar_status radar_comm_mpi(radar_comm **out, const void *mpi_comm, radar_error *err) {
    MPI_Comm comm = MPI_COMM_NULL;
    int size = 0;
    *out = NULL;
    radar_status st = usable(mpi_comm, &size, err);
    if (st != RADAR_OK) return st;
    mpi_carrier *m = radar_alloc(sizeof *m);
    RADAR_TRY(
        st, check(MPI_Comm_dup(*(const MPI_Comm *)mpi_comm, &comm), "exchanges: MPI_Comm_dup", err),
        fail);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    RADAR_TRY(st, all_have(m, comm, err), fail);
    m->comm = comm;
    m->base = (radar_comm){.ops = &mpi_ops, .size = size, .message_bytes = INT_MAX};
    MPI_Comm_rank(comm, &m->base.rank);
    *out = &m->base;
    return RADAR_OK;
fail:
    if (comm != MPI_COMM_NULL) MPI_Comm_free(&comm);
    radar_free(m);
    return st;
}
