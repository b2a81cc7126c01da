/* Carriers of device memory between processes: staged, and NCCL with the fake library of tests/simt/fake. */
#include "tests/mpi/tap.h"

#include <dlfcn.h>
#include <string.h>

#include "runtime/sys.h"
#include "tests/simt/fake/nccl.h"
#include "tests/unit/device_cases.h"

static char fake_path[4096];
static fake_nccl_counts *fake; /* of this rank */

/* ---- helpers ---- */

static radar_comm *open_base(void) {
    radar_comm *c = NULL;
    MPI_Comm world = MPI_COMM_WORLD;
    if (radar_comm_mpi(&c, &world, NULL) != RADAR_OK) PMPI_Abort(MPI_COMM_WORLD, 1);
    return c;
}

/* A setting of the environment on the rank `only` (-1: on all); NULL takes it away everywhere. */
static void set(const char *name, const char *value, int only) {
    unsetenv(name);
    if (value && (only < 0 || only == tap_rank)) setenv(name, value, 1);
}

typedef struct rig {
    radar_comm *base, *c;
    lazy_device *d;
    radar_error err;
} rig;

/* gpu: of this rank. */
static radar_status open_nccl(rig *r, int gpu) {
    char name[32];
    *r = (rig){.base = open_base(), .d = lazy_open()};
    snprintf(name, sizeof name, "0000:%02x:00.0", (unsigned)gpu);
    return radar_comm_nccl(&r->c, r->base, &r->d->device, name, &r->err);
}

static void close_rig(rig *r) {
    radar_comm_close(r->c);
    radar_comm_close(r->base);
    lazy_close(r->d);
    CHECK(radar_alloc_live() == 0);
    CHECK(fake->open == 0 && fake->groups == 0 && fake->memories == 0);
    set("RADAR_FAKE_NCCL", NULL, -1);
}

/* Nobody opens, and all say the same. */
static void opening_fails(int gpu, radar_status want, const char *text) {
    rig r;
    CHECK(open_nccl(&r, gpu) == want);
    CHECK(r.c == NULL && r.err.status == want);
    CHECK(strstr(r.err.text, text));
    if (!strstr(r.err.text, text)) fprintf(stderr, "# %s\n", r.err.text);
    char first[sizeof r.err.text];
    memcpy(first, r.err.text, sizeof first);
    PMPI_Bcast(first, sizeof first, MPI_CHAR, 0, MPI_COMM_WORLD);
    CHECK(strcmp(first, r.err.text) == 0);
    close_rig(&r);
}

static void opens(int gpu) {
    rig r;
    CHECK(open_nccl(&r, gpu) == RADAR_OK);
    CHECK(r.c && strcmp(r.c->ops->name, "nccl") == 0 && r.c->base == r.base);
    if (r.c) CHECK(radar_comm_check(r.c, NULL) == RADAR_OK);
    close_rig(&r);
}

/* Words, side by side or not, queued and run. */
static radar_status gather_words(rig *r, int *words, int apart, radar_error *err) {
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    for (int i = 0; i < tap_ranks; i++) {
        bytes[i] = sizeof(int);
        offset[i] = (size_t)(i * apart) * sizeof(int);
    }
    radar_status st = radar_gather(r->c, RADAR_X4_OUTPUT, words, bytes, offset, err);
    return st == RADAR_OK ? lazy_flush(r->d, err) : st;
}

/* ---- carriers ---- */

static void staged_memory_is_exchanged(void) {
    rig r = {.base = open_base(), .d = lazy_open()};
    CHECK(radar_comm_staged(&r.c, r.base, &r.d->device, NULL) == RADAR_OK);
    CHECK(device_cases(r.c, r.d) == 0);
    CHECK(r.base->stats[RADAR_X2_TOPK].calls == 0);
    CHECK((r.d->hosts > 0) == (tap_ranks > 1) && r.d->calls > 0);
    close_rig(&r);
}

static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

static void if_one_rank_has_no_memory_none_opens(void) {
    radar_sys before = radar_sys_table;
    for (int bad = 0; bad < tap_ranks; bad++)
        for (int nccl = 0; nccl < 2; nccl++) {
            rig r = {.base = open_base(), .d = lazy_open()};
            char gpu[16];
            snprintf(gpu, sizeof gpu, "%d", tap_rank);
            if (tap_rank == bad) radar_sys_table.alloc = no_memory;
            radar_status st = nccl ? radar_comm_nccl(&r.c, r.base, &r.d->device, gpu, &r.err)
                                   : radar_comm_staged(&r.c, r.base, &r.d->device, &r.err);
            radar_sys_table = before;
            CHECK(st == RADAR_ERR_MEMORY && r.c == NULL && strstr(r.err.text, "no memory"));
            close_rig(&r);
        }
}

static void nccl_memory_is_exchanged(void) {
    rig r;
    const fake_nccl_counts before = *fake;
    CHECK(open_nccl(&r, tap_rank) == RADAR_OK);
    CHECK(device_cases(r.c, r.d) == 0);
    CHECK(r.d->hosts == 0);
    CHECK((fake->all_gathers > before.all_gathers) == (tap_ranks > 1));
    CHECK((fake->broadcasts > before.broadcasts) == (tap_ranks > 1));
    CHECK(fake->windows == 0);
    close_rig(&r);
    CHECK(fake->aborts == before.aborts);
}

/* Equal pieces side by side, and equal subtrees, are one collective. */
static void equal_pieces_are_one_all_gather(void) {
    rig r;
    CHECK(open_nccl(&r, tap_rank) == RADAR_OK);
    const fake_nccl_counts before = *fake;
    const int gathers = tap_ranks > 1;
    CHECK(gather_round(r.c, r.d, RADAR_X4_OUTPUT, 1) == 0);
    CHECK(fake->all_gathers - before.all_gathers == gathers);
    if ((tap_ranks & (tap_ranks - 1)) == 0) {
        CHECK(exchange_tree(r.c, r.d, 64) == 0);
        CHECK(fake->all_gathers - before.all_gathers == 2 * gathers);
    }
    CHECK(fake->broadcasts == before.broadcasts);
    CHECK(gather_round(r.c, r.d, RADAR_X4_OUTPUT, 2) == 0);
    CHECK(fake->broadcasts - before.broadcasts == gathers * tap_ranks);
    close_rig(&r);
}

static void memory_is_symmetric_on_all_ranks_or_on_none(void) {
    static const char *const settings[] = {"", "memory", "window"};
    for (int i = 0; i < 3; i++)
        for (int bad = 0; bad < tap_ranks; bad++) {
            rig r;
            CHECK(open_nccl(&r, tap_rank) == RADAR_OK);
            set("RADAR_FAKE_NCCL", settings[i], bad);
            void *memory = radar_comm_alloc(r.c, 10000);
            CHECK(memory != NULL);
            CHECK(fake->windows == (i == 0) && fake->memories == (i == 0) && r.d->live == (i > 0));
            radar_comm_release(r.c, memory);
            radar_comm_release(r.c, NULL);
            CHECK(fake->windows == 0 && r.d->live == 0);
            CHECK(device_cases(r.c, r.d) == 0);
            close_rig(&r);
        }
}

static void more_buffers_than_windows_are_fine(void) {
    rig r;
    void *memory[20];
    CHECK(open_nccl(&r, tap_rank) == RADAR_OK);
    for (int i = 0; i < 20; i++) CHECK((memory[i] = radar_comm_alloc(r.c, 100)) != NULL);
    CHECK(fake->windows == 16 && r.d->live == 4);
    for (int i = 0; i < 20; i++) radar_comm_release(r.c, memory[i]);
    CHECK(fake->windows == 0 && r.d->live == 0);
    close_rig(&r);
}

/* ---- opening ---- */

static void a_rank_without_nccl_is_named(void) {
    for (int bad = 0; bad < tap_ranks; bad++) {
        char want[100];
        set("RADAR_NCCL", fake_path, -1);
        if (tap_rank == bad) set("RADAR_NCCL", "/nowhere/libnccl.so", -1);
        snprintf(want, sizeof want, "rank %d: no NCCL (/nowhere/libnccl.so: ", bad);
        opening_fails(tap_rank, RADAR_ERR_CONFIG, want);
        if (tap_rank == bad) set("RADAR_NCCL", "libm.so.6", -1);
        snprintf(want, sizeof want, "rank %d: libm.so.6 has no ncclGetVersion; install", bad);
        opening_fails(tap_rank, RADAR_ERR_CONFIG, want);
    }
    set("RADAR_NCCL", fake_path, -1);
}

static void other_versions_are_refused_by_all(void) {
    if (tap_ranks == 1) return;
    for (int odd = 1; odd < tap_ranks; odd++) {
        char want[100];
        set("RADAR_FAKE_NCCL", "version=21805", odd);
        snprintf(want, sizeof want, "rank %d: NCCL 2.18.5, but rank 0 has 2.28.9;", odd);
        opening_fails(tap_rank, RADAR_ERR_CONFIG, want);
    }
    set("RADAR_FAKE_NCCL", "version=21805", 0);
    opening_fails(tap_rank, RADAR_ERR_CONFIG, "rank 1: NCCL 2.28.9, but rank 0 has 2.18.5;");
    CHECK(radar_exit_code(RADAR_ERR_CONFIG) == 78);
}

static void ranks_on_one_gpu_need_leave(void) {
    char id[16];
    if (tap_ranks == 1) return;
    opening_fails(tap_rank / 2, RADAR_ERR_CONFIG, "rank 1: shares GPU 0000:00:00.0 of ");
    set("NCCL_MULTI_RANK_GPU_ENABLE", "1", -1);
    opens(tap_rank / 2);
    set("NCCL_MULTI_RANK_GPU_ENABLE", "1", 0);
    opening_fails(tap_rank / 2, RADAR_ERR_CONFIG, "with rank 0, which NCCL refuses;");
    set("NCCL_MULTI_RANK_GPU_ENABLE", NULL, -1);
    set("NCCL_HOSTID", "all the same", -1);
    opening_fails(0, RADAR_ERR_CONFIG, "rank 1: shares GPU");
    snprintf(id, sizeof id, "host%d", tap_rank);
    set("NCCL_HOSTID", id, -1);
    opens(0);
    set("NCCL_HOSTID", NULL, -1);
}

static void what_fails_while_opening_fails_on_all(void) {
    set("RADAR_FAKE_NCCL", "id", 0);
    opening_fails(tap_rank, RADAR_ERR_CONFIG, "exchanges: ncclGetUniqueId: fake error;");
    for (int bad = 0; bad < tap_ranks; bad++) {
        set("RADAR_FAKE_NCCL", "init", bad);
        opening_fails(tap_rank, RADAR_ERR_CONFIG, "exchanges: ncclCommInitRank: fake error;");
    }
}

/* ---- failures in a step ---- */

static void fail_in_a_gather(int bad, int apart, const char *text) {
    rig r;
    radar_error err = {0};
    CHECK(open_nccl(&r, tap_rank) == RADAR_OK);
    int *words = radar_comm_alloc(r.c, 2 * (size_t)tap_ranks * sizeof *words);
    CHECK(gather_words(&r, words, apart, NULL) == RADAR_OK);
    set("RADAR_FAKE_NCCL", apart == 1 ? "fail=1" : "last", bad);
    radar_status want = tap_rank == bad ? RADAR_ERR_PEER : RADAR_OK;
    CHECK(gather_words(&r, words, apart, NULL) == want);
    const int aborts = fake->aborts;
    CHECK(fake->groups == 0);
    CHECK(radar_comm_check(r.c, &err) == want);
    CHECK(want == RADAR_OK || strstr(err.text, text));
    CHECK(fake->aborts - aborts == (tap_rank == bad));
    if (tap_rank == bad) CHECK(gather_words(&r, words, apart, NULL) == RADAR_ERR_PEER);
    radar_comm_release(r.c, words);
    close_rig(&r);
    CHECK(fake->aborts - aborts == (tap_rank == bad));
}

static void a_collective_that_fails_is_a_lost_peer(void) {
    if (tap_ranks == 1) return;
    for (int bad = 0; bad < tap_ranks; bad++) {
        fail_in_a_gather(bad, 1, "exchange X4 output: ncclAllGather: fake error;");
        fail_in_a_gather(bad, 2, "exchange X4 output: ncclBroadcast: fake error;");
    }
}

static void an_error_on_the_device_is_seen_while_waiting(void) {
    for (int bad = 0; bad < tap_ranks; bad++) {
        rig r;
        radar_error err = {0};
        CHECK(open_nccl(&r, tap_rank) == RADAR_OK);
        const int aborts = fake->aborts;
        set("RADAR_FAKE_NCCL", "busy", -1);
        CHECK(radar_comm_check(r.c, NULL) == RADAR_OK);
        set("RADAR_FAKE_NCCL", "async", bad);
        CHECK(radar_comm_check(r.c, &err) == (tap_rank == bad ? RADAR_ERR_PEER : RADAR_OK));
        CHECK(tap_rank != bad || strstr(err.text, "NCCL: remote process exited;"));
        CHECK(fake->aborts - aborts == (tap_rank == bad));
        radar_comm_abandon(r.c); /* what a rank does that has waited too long */
        CHECK(fake->aborts - aborts == 1);
        CHECK(radar_comm_check(r.c, NULL) == RADAR_ERR_PEER);
        close_rig(&r);
    }
}

static void host_memory_needs_no_check(void) {
    radar_comm *c = open_base();
    void *memory = radar_comm_alloc(c, 100);
    CHECK(memory != NULL && radar_alloc_live() == 2);
    radar_comm_release(c, memory);
    radar_comm_release(c, NULL);
    CHECK(radar_comm_check(c, NULL) == RADAR_OK);
    radar_comm_abandon(c);
    radar_comm_close(c);
    CHECK(radar_alloc_live() == 0);
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/');
    snprintf(fake_path, sizeof fake_path, "%.*s/../fake/libnccl.so.2",
             slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    tap_begin(&argc, &argv);
    set("RADAR_NCCL", fake_path, -1);
    set("RADAR_FAKE_NCCL", NULL, -1);
    void *library = dlopen(fake_path, RTLD_NOW | RTLD_LOCAL);
    fake = library ? dlsym(library, "fake_nccl") : NULL;
    if (!fake) {
        fprintf(stderr, "# %s\n", dlerror());
        PMPI_Abort(MPI_COMM_WORLD, 1);
    }
    RUN(staged_memory_is_exchanged);
    RUN(if_one_rank_has_no_memory_none_opens);
    RUN(nccl_memory_is_exchanged);
    RUN(equal_pieces_are_one_all_gather);
    RUN(memory_is_symmetric_on_all_ranks_or_on_none);
    RUN(more_buffers_than_windows_are_fine);
    RUN(a_rank_without_nccl_is_named);
    RUN(other_versions_are_refused_by_all);
    RUN(ranks_on_one_gpu_need_leave);
    RUN(what_fails_while_opening_fails_on_all);
    RUN(a_collective_that_fails_is_a_lost_peer);
    RUN(an_error_on_the_device_is_seen_while_waiting);
    RUN(host_memory_needs_no_check);
    return tap_end();
}
