/* NCCL's C interface for tests without a GPU: ranks are those of MPI_COMM_WORLD.  In a program with the fake CUDA runtime a
 * collective takes its turn on the stream, and memory is that of the device; elsewhere "device memory" is the host's, and it is done
 * when it is called.  Environment RADAR_FAKE_NCCL, words apart by blanks, read at each use:
 *   version=N     what ncclGetVersion says
 *   fail=N        the N-th collective from now on fails on this rank
 *   last          broadcasts of the last rank's data do
 *   async         the communicator has an asynchronous error;   busy     it has not, but is not done either
 *   id, init, memory, window      these calls fail
 * Everything done is counted in fake_nccl. */
#include "tests/simt/fake/nccl.h"

#include <dlfcn.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNHANDLED = 1, SYSTEM = 2, INVALID = 4, REMOTE = 6, IN_PROGRESS = 7 };

fake_nccl_counts fake_nccl;

typedef struct fake_comm {
    MPI_Comm comm;
    int rank;
} fake_comm;

/* The number behind `word=`, 1 behind a bare word, 0 without it. */
static int setting(const char *word) {
    const char *at = getenv("RADAR_FAKE_NCCL");
    const size_t length = strlen(word);
    for (at = at ? strstr(at, word) : NULL; at; at = strstr(at + 1, word)) {
        if (at[length] == '=') return atoi(at + length + 1);
        if (at[length] == '\0' || at[length] == ' ') return 1;
    }
    return 0;
}

int ncclGetVersion(int *version) {
    *version = setting("version") ? setting("version") : 22809;
    return SUCCESS;
}

const char *ncclGetErrorString(int result) {
    return result == SUCCESS  ? "no error"
           : result == REMOTE ? "remote process exited"
                              : "fake error";
}

int ncclGetUniqueId(struct fake_id *id) {
    memset(id, 7, sizeof *id);
    return setting("id") ? SYSTEM : SUCCESS;
}

int ncclCommInitRank(fake_comm **out, int n, struct fake_id id, int rank) {
    static MPI_Comm world = MPI_COMM_NULL; /* one for all, so that closing meets nobody */
    int ranks;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (n != ranks || id.bytes[0] != 7 || id.bytes[127] != 7) return INVALID;
    if (world == MPI_COMM_NULL) PMPI_Comm_dup(MPI_COMM_WORLD, &world);
    if (setting("init")) return SYSTEM;
    fake_comm *c = malloc(sizeof *c);
    *c = (fake_comm){world, rank};
    fake_nccl.open++;
    *out = c;
    return SUCCESS;
}

/* The real one would wait for ever. */
static void no_graph_is_left(void) {
    long (*held)(void) = (long (*)(void))dlsym(RTLD_DEFAULT, "fake_cuda_held");
    if (!held || held() == 0) return;
    fprintf(stderr, "fake NCCL: a graph still refers to the communicator that is destroyed\n");
    _exit(98);
}

static int end(fake_comm *c) {
    free(c);
    fake_nccl.open--;
    return SUCCESS;
}

int ncclCommDestroy(fake_comm *c) {
    no_graph_is_left();
    return end(c);
}

int ncclCommAbort(fake_comm *c) {
    fake_nccl.aborts++;
    return end(c);
}

int ncclCommGetAsyncError(fake_comm *c, int *result) {
    (void)c;
    *result = setting("async") ? REMOTE : setting("busy") ? IN_PROGRESS : SUCCESS;
    return SUCCESS;
}

/* The collective takes place all the same, so that the other ranks come back. */
static int outcome(int code) {
    const bool fails = setting("fail") && ++fake_nccl.since_failing == setting("fail");
    if (!setting("fail")) fake_nccl.since_failing = 0;
    return fails || code != MPI_SUCCESS ? UNHANDLED : SUCCESS;
}

/* A collective that has been called. */
typedef struct collective {
    void *buffer;
    int count, root; /* root -1: all gather */
    MPI_Comm comm;
} collective;

static int run(const collective *c) {
    if (c->root >= 0) return PMPI_Bcast(c->buffer, c->count, MPI_BYTE, c->root, c->comm);
    return PMPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, c->buffer, c->count, MPI_BYTE,
                          c->comm);
}

static void run_in_turn(void *data) {
    if (run(data) != MPI_SUCCESS) abort();
}

static int queue(const collective *c, void *stream) {
    int (*enqueue)(void *, void (*)(void *), const void *, size_t) =
        (int (*)(void *, void (*)(void *), const void *, size_t))dlsym(RTLD_DEFAULT,
                                                                       "fake_cuda_enqueue");
    if (!enqueue || !stream) return run(c);
    return enqueue(stream, run_in_turn, c, sizeof *c);
}

int ncclAllGather(const void *send, void *receive, size_t count, int type, fake_comm *c,
                  void *stream) {
    const collective all = {receive, (int)count, -1, c->comm};
    if (type != 1 || (const char *)send != (char *)receive + (size_t)c->rank * count)
        return INVALID;
    fake_nccl.all_gathers++;
    return outcome(queue(&all, stream));
}

int ncclBroadcast(const void *send, void *receive, size_t count, int type, int root, fake_comm *c,
                  void *stream) {
    const collective one = {receive, (int)count, root, c->comm};
    if (type != 1 || send != receive || count == 0 || fake_nccl.groups != 1) return INVALID;
    fake_nccl.broadcasts++;
    int ranks, st = outcome(queue(&one, stream));
    PMPI_Comm_size(c->comm, &ranks);
    return setting("last") && root == ranks - 1 ? UNHANDLED : st;
}

int ncclGroupStart(void) { return fake_nccl.groups++ ? INVALID : SUCCESS; }
int ncclGroupEnd(void) { return --fake_nccl.groups ? INVALID : SUCCESS; }

/* NaN, where somebody trusts it to be zero. */
static int host_alloc(void **memory, size_t bytes) {
    if (posix_memalign(memory, 4096, bytes)) return UNHANDLED;
    memset(*memory, 0xff, bytes);
    return SUCCESS;
}

static int host_free(void *memory) {
    free(memory);
    return SUCCESS;
}

/* The fake CUDA's function of that name, ours where the program has none. */
static void *either(const char *name, void *ours) {
    void *theirs = dlsym(RTLD_DEFAULT, name);
    return theirs ? theirs : ours;
}

int ncclMemAlloc(void **memory, size_t bytes) {
    int (*alloc)(void **, size_t) =
        (int (*)(void **, size_t))either("cudaMalloc", (void *)host_alloc);
    if (setting("memory") || alloc(memory, bytes)) return UNHANDLED;
    fake_nccl.memories++;
    return SUCCESS;
}

int ncclMemFree(void *memory) {
    int (*release)(void *) = (int (*)(void *))either("cudaFree", (void *)host_free);
    fake_nccl.memories--;
    return release(memory) ? UNHANDLED : SUCCESS;
}

int ncclCommWindowRegister(fake_comm *c, void *memory, size_t bytes, void **window, int flags) {
    (void)bytes;
    PMPI_Barrier(c->comm);
    if (setting("window") || flags != 1) return INVALID;
    *window = memory;
    fake_nccl.windows++;
    return SUCCESS;
}

int ncclCommWindowDeregister(fake_comm *c, void *window) {
    (void)c, (void)window;
    fake_nccl.windows--;
    return SUCCESS;
}
