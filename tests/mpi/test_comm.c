/* Exchanges over MPI: every input has one exact answer.  Run on any number of ranks up to 8. */
#include "tests/mpi/tap.h"

#include <string.h>

#include "parallel/agree.h"
#include "runtime/sys.h"

/* ---- MPI that fails when told to: the call happens, its result is an error on this rank ---- */

static int allgatherv_left, bcast_left, allreduce_left,
    dup_left; /* the n-th call fails; 0 = none */
static int allgatherv_calls, bcast_calls, pretended_size;

static int outcome(int code, int *left) { return *left > 0 && --*left == 0 ? MPI_ERR_OTHER : code; }

int MPI_Allgatherv(const void *from, int n, MPI_Datatype type, void *to, const int *count,
                   const int *at, MPI_Datatype to_type, MPI_Comm comm) {
    allgatherv_calls++;
    return outcome(PMPI_Allgatherv(from, n, type, to, count, at, to_type, comm), &allgatherv_left);
}

int MPI_Bcast(void *data, int n, MPI_Datatype type, int root, MPI_Comm comm) {
    bcast_calls++;
    return outcome(PMPI_Bcast(data, n, type, root, comm), &bcast_left);
}

int MPI_Allreduce(const void *from, void *to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    return outcome(PMPI_Allreduce(from, to, n, type, op, comm), &allreduce_left);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *copy) {
    return outcome(PMPI_Comm_dup(comm, copy), &dup_left);
}

int MPI_Comm_size(MPI_Comm comm, int *size) {
    int code = PMPI_Comm_size(comm, size);
    if (pretended_size) *size = pretended_size;
    return code;
}

/* ---- helpers ---- */

static radar_comm *open_comm(void) {
    radar_comm *c = NULL;
    radar_error err = {0};
    MPI_Comm world = MPI_COMM_WORLD;
    CHECK(radar_comm_mpi(&c, &world, &err) == RADAR_OK);
    if (!c) {
        fprintf(stderr, "# %s\n", err.text);
        PMPI_Abort(MPI_COMM_WORLD, 1);
    }
    return c;
}

enum { GAP = 3 }; /* integers between pieces, which must stay as they are */

/* The piece of rank r in round `round`: some are empty, all differ. */
static size_t count_of(int r, int round) {
    return (size_t)((r * 7 + round * 5) % 4 * (r + 1) * 10);
}
static int value_of(int r, size_t i, int round) { return r * 100000 + (int)i * 10 + round; }

static void gather_round(radar_comm *c, radar_exchange x, int round) {
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS], total = GAP;
    for (int r = 0; r < c->size; r++) {
        bytes[r] = count_of(r, round) * sizeof(int);
        offset[r] = total * sizeof(int);
        total += count_of(r, round) + GAP;
    }
    int *data = malloc(total * sizeof *data);
    for (size_t i = 0; i < total; i++) data[i] = -1;
    int *mine = data + offset[c->rank] / sizeof(int);
    for (size_t i = 0; i < count_of(c->rank, round); i++) mine[i] = value_of(c->rank, i, round);
    CHECK(radar_gather(c, x, data, bytes, offset, NULL) == RADAR_OK);
    size_t wrong = 0, at = 0;
    for (int r = 0; r <= c->size; r++) {
        for (int i = 0; i < GAP; i++) wrong += data[at++] != -1;
        for (size_t i = 0; r < c->size && i < count_of(r, round); i++)
            wrong += data[at++] != value_of(r, i, round);
    }
    CHECK(at == total);
    CHECK(wrong == 0);
    free(data);
}

/* ---- cases ---- */

static void knows_its_rank_and_leaves_the_callers_communicator_alone(void) {
    MPI_Errhandler handler;
    radar_comm *c = open_comm();
    CHECK(c->rank == tap_rank && c->size == tap_ranks);
    CHECK(strcmp(c->ops->name, "mpi") == 0);
    PMPI_Comm_get_errhandler(MPI_COMM_WORLD, &handler);
    CHECK(handler == MPI_ERRORS_ARE_FATAL);
    radar_comm_close(c);
    CHECK(radar_alloc_live() == 0);
}

static void gathers_unequal_and_empty_pieces(void) {
    radar_comm *c = open_comm();
    for (int round = 0; round < 12; round++) gather_round(c, RADAR_X1_QKV, round);
    radar_comm_close(c);
}

static void gathers_when_nobody_has_anything(void) {
    radar_comm *c = open_comm();
    size_t zero[RADAR_MAX_RANKS] = {0};
    int data = 5;
    CHECK(radar_gather(c, RADAR_X2_TOPK, &data, zero, zero, NULL) == RADAR_OK);
    CHECK(data == 5);
    radar_comm_close(c);
}

static void long_pieces_go_in_several_messages(void) {
    radar_comm *c = open_comm();
    c->message_bytes = 100; /* no multiple of an int */
    for (int round = 0; round < 12; round++) gather_round(c, RADAR_X1_QKV, round);
    int data[301], calls = bcast_calls, wrong = 0;
    for (int i = 0; i < 301; i++) data[i] = c->rank == c->size - 1 ? i * i : 0;
    CHECK(radar_broadcast(c, data, sizeof data, c->size - 1, NULL) == RADAR_OK);
    for (int i = 0; i < 301; i++) wrong += data[i] != i * i;
    CHECK(wrong == 0);
    CHECK(bcast_calls - calls == 13);
    radar_comm_close(c);
}

static void pieces_may_lie_beyond_two_gigabytes(void) {
    radar_comm *c = open_comm();
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS], far = (size_t)3 << 30;
    for (int r = 0; r < c->size; r++) {
        bytes[r] = 1000 + (size_t)r;
        offset[r] = r % 2 ? far - (size_t)r * 4096 : (size_t)r * 4096;
    }
    unsigned char *data = radar_alloc(far); /* pages nobody touches cost nothing */
    CHECK(data != NULL);
    if (!data) PMPI_Abort(MPI_COMM_WORLD, 1);
    int calls = allgatherv_calls;
    memset(data + offset[c->rank], c->rank + 1, bytes[c->rank]);
    CHECK(radar_gather(c, RADAR_X_LOGITS, data, bytes, offset, NULL) == RADAR_OK);
    for (int r = 0; r < c->size; r++) {
        CHECK(data[offset[r]] == r + 1 && data[offset[r] + bytes[r] - 1] == r + 1);
        CHECK(data[offset[r] + bytes[r]] == 0);
    }
    CHECK(allgatherv_calls - calls == (c->size == 1));
    radar_free(data);
    radar_comm_close(c);
}

static void every_root_can_broadcast(void) {
    radar_comm *c = open_comm();
    for (int root = 0; root < c->size; root++) {
        int64_t data[3] = {c->rank, c->rank, c->rank};
        CHECK(radar_broadcast(c, data, 2 * sizeof *data, root, NULL) == RADAR_OK);
        CHECK(data[0] == root && data[1] == root && data[2] == c->rank);
    }
    CHECK(radar_broadcast(c, NULL, 0, 0, NULL) == RADAR_OK);
    radar_comm_close(c);
}

static void exchanges_are_counted(void) {
    radar_comm *c = open_comm();
    int64_t others = 0, data = 0;
    double began = radar_clock();
    for (int round = 0; round < 3; round++) {
        gather_round(c, RADAR_X4_OUTPUT, round);
        for (int r = 0; r < c->size; r++)
            if (r != c->rank) others += (int64_t)(count_of(r, round) * sizeof(int));
    }
    CHECK(radar_broadcast(c, &data, sizeof data, 0, NULL) == RADAR_OK);
    CHECK(c->stats[RADAR_X4_OUTPUT].calls == 3);
    CHECK(c->stats[RADAR_X4_OUTPUT].bytes == others);
    CHECK(c->stats[RADAR_X4_OUTPUT].seconds > 0);
    CHECK(c->stats[RADAR_X4_OUTPUT].seconds <= radar_clock() - began);
    CHECK(c->stats[RADAR_X_SETUP].calls == 1);
    CHECK(c->stats[RADAR_X_SETUP].bytes == (c->rank ? (int64_t)sizeof data : 0));
    CHECK(c->stats[RADAR_X1_QKV].calls == 0 && c->stats[RADAR_X1_QKV].bytes == 0);
    radar_comm_close(c);
}

/* What all ranks should read about the failure of rank r. */
static bool tells(const radar_error *err, int rank, const char *text) {
    char want[600];
    if (tap_ranks > 1)
        snprintf(want, sizeof want, "rank %d: %s", rank, text);
    else
        snprintf(want, sizeof want, "%s", text);
    return strcmp(err->text, want) == 0;
}

static void everybody_hears_of_one_failure(void) {
    radar_comm *c = open_comm();
    for (int bad = 0; bad < c->size; bad++) {
        radar_error err = {0};
        CHECK(radar_agree(c, &err) == RADAR_OK);
        CHECK(err.status == RADAR_OK && err.text[0] == '\0');
        if (c->rank == bad) radar_fail(&err, RADAR_ERR_NO_INPUT, "m.gguf: missing; fetch it");
        CHECK(radar_agree(c, &err) == RADAR_ERR_NO_INPUT);
        CHECK(err.status == RADAR_ERR_NO_INPUT);
        CHECK(tells(&err, bad, "m.gguf: missing; fetch it"));
    }
    radar_comm_close(c);
}

static void the_worst_of_two_failures_wins(void) {
    radar_comm *c = open_comm();
    for (int mild = 0; mild < c->size; mild++)
        for (int severe = 0; severe < c->size; severe++) {
            radar_error err = {0};
            if (mild == severe) continue;
            if (c->rank == severe) radar_fail(&err, RADAR_ERR_DISAGREE, "severe");
            if (c->rank == mild) radar_fail(&err, RADAR_ERR_USAGE, "mild");
            CHECK(radar_agree(c, &err) == RADAR_ERR_DISAGREE);
            CHECK(err.status == RADAR_ERR_DISAGREE);
            CHECK(tells(&err, severe, "severe"));
        }
    radar_comm_close(c);
}

static void the_lowest_of_equal_failures_speaks(void) {
    radar_comm *c = open_comm();
    for (int low = 0; low < c->size; low++) {
        radar_error err = {0};
        if (c->rank >= low) radar_fail(&err, RADAR_ERR_MEMORY, "number %d", c->rank);
        char text[32];
        snprintf(text, sizeof text, "number %d", low);
        CHECK(radar_agree(c, &err) == RADAR_ERR_MEMORY);
        CHECK(tells(&err, low, text));
        CHECK(radar_agree(c, &err) == RADAR_ERR_MEMORY); /* again, with what was agreed */
        CHECK(tells(&err, low, text));
    }
    radar_comm_close(c);
}

static void a_long_text_arrives_cut(void) {
    radar_comm *c = open_comm();
    radar_error err = {0};
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    radar_fail(&err, RADAR_ERR_DATA, "%s", text);
    CHECK(radar_agree(c, &err) == RADAR_ERR_DATA);
    size_t length = strlen(err.text);
    CHECK(length > 400 && length < sizeof err.text);
    CHECK(err.text[length - 1] == 'x');
    radar_comm_close(c);
}

static void equal_values_agree(void) {
    radar_comm *c = open_comm();
    radar_error err = {0};
    CHECK(radar_agree_same(c, "options", UINT64_MAX, &err) == RADAR_OK);
    CHECK(err.status == RADAR_OK);
    radar_comm_close(c);
}

static void the_odd_rank_is_named(void) {
    radar_comm *c = open_comm();
    for (int odd = 0; odd < c->size; odd++) {
        radar_error err = {0};
        char want[100];
        int named = c->size == 2 ? 1 : odd; /* one against one: rank 0 is right */
        snprintf(want, sizeof want, "model: rank %d differs from the other %d;", named,
                 c->size - 1);
        radar_status st = radar_agree_same(c, "model", c->rank == odd ? 2 : 1, &err);
        CHECK(st == (c->size > 1 ? RADAR_ERR_DISAGREE : RADAR_OK));
        CHECK(c->size == 1 || strncmp(err.text, want, strlen(want)) == 0);
    }
    radar_comm_close(c);
}

static void several_odd_ranks_are_named(void) {
    radar_comm *c = open_comm();
    radar_error err = {0};
    radar_status st = radar_agree_same(c, "options", c->rank % 2 ? (uint64_t)c->rank : 0, &err);
    CHECK(st == (c->size > 1 ? RADAR_ERR_DISAGREE : RADAR_OK));
    if (c->size == 4) CHECK(strstr(err.text, "options: ranks 1, 3 differ from the other 2;"));
    if (c->size == 8) CHECK(strstr(err.text, "options: ranks 1, 3, 5, 7 differ from the other 4;"));
    radar_comm_close(c);
}

static void the_majority_is_right_even_without_rank_0(void) {
    radar_comm *c = open_comm();
    radar_error err = {0};
    if (c->size >= 4) {
        CHECK(radar_agree_same(c, "build", c->rank < 1 ? 9 : 1, &err) == RADAR_ERR_DISAGREE);
        CHECK(strstr(err.text, "rank 0 differs"));
    }
    radar_comm_close(c);
}

static void an_mpi_error_is_a_lost_peer_on_that_rank(void) {
    for (int bad = 0; bad < tap_ranks; bad++)
        for (int n = 1; n <= 3; n++) {
            radar_comm *c = open_comm();
            size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
            int data[RADAR_MAX_RANKS] = {0};
            for (int r = 0; r < c->size; r++) {
                bytes[r] = sizeof(int);
                offset[r] = (size_t)r * sizeof(int);
            }
            allgatherv_left = c->rank == bad ? n : 0;
            for (int i = 1; i <= 3; i++) {
                radar_error err = {0};
                bool fails = c->rank == bad && i == n;
                radar_status st = radar_gather(c, RADAR_X5_DOWN, data, bytes, offset, &err);
                CHECK(st == (fails ? RADAR_ERR_PEER : RADAR_OK));
                CHECK(!fails ||
                      strncmp(err.text, "exchange X5 down: MPI_Allgatherv failed: ", 41) == 0);
            }
            CHECK(c->stats[RADAR_X5_DOWN].calls == 3);
            radar_comm_close(c);
        }
}

static void a_real_mpi_error_does_not_end_the_job(void) {
    radar_comm *c = open_comm();
    radar_error err = {0};
    int data = 0;
    CHECK(radar_broadcast(c, &data, sizeof data, c->size, &err) == RADAR_ERR_PEER);
    CHECK(strstr(err.text, "MPI_Bcast failed: MPI_ERR_ROOT"));
    radar_comm_close(c);
}

static void an_agreement_that_fails_is_an_error(void) {
    radar_comm *c = open_comm();
    radar_error err = {0};
    allreduce_left = 1;
    CHECK(radar_agree(c, &err) == RADAR_ERR_PEER);
    CHECK(strstr(err.text, "MPI_Allreduce failed"));
    err = (radar_error){0};
    radar_fail(&err, RADAR_ERR_DATA, "the cause");
    bcast_left = c->size > 1;
    CHECK(radar_agree(c, &err) == RADAR_ERR_DATA);
    CHECK(strstr(err.text, "the cause"));
    err = (radar_error){0};
    if (c->rank == 0) radar_fail(&err, RADAR_ERR_DATA, "the cause");
    bcast_left = c->rank == c->size - 1 && c->rank > 0;
    radar_status want = bcast_left ? RADAR_ERR_PEER : RADAR_ERR_DATA;
    CHECK(radar_agree(c, &err) == want && err.status == want);
    err = (radar_error){0};
    allgatherv_left = 1;
    CHECK(radar_agree_same(c, "build", 1, &err) == RADAR_ERR_PEER);
    radar_comm_close(c);
}

/* ---- opening ---- */

static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

/* All ranks must report `want`; nothing may leak. */
static void opening_fails(MPI_Comm comm, radar_status want, const char *text) {
    radar_error err = {0};
    radar_comm *c = (radar_comm *)&err;
    CHECK(radar_comm_mpi(&c, &comm, &err) == want);
    CHECK(c == NULL && err.status == want);
    CHECK(strstr(err.text, text));
    CHECK(radar_alloc_live() == 0);
}

static void if_one_rank_cannot_open_none_does(void) {
    radar_sys before = radar_sys_table;
    for (int bad = 0; bad < tap_ranks; bad++) {
        if (tap_rank == bad) radar_sys_table.alloc = no_memory;
        opening_fails(MPI_COMM_WORLD, RADAR_ERR_MEMORY, "no memory");
        radar_sys_table = before;
    }
}

static void unusable_communicators_are_refused(void) {
    opening_fails(MPI_COMM_NULL, RADAR_ERR_USAGE, "MPI_COMM_NULL");
    pretended_size = RADAR_MAX_RANKS + 1;
    opening_fails(MPI_COMM_WORLD, RADAR_ERR_CONFIG, "65 ranks");
    pretended_size = 0;
    if (tap_ranks == 1) return;
    MPI_Comm half, inter;
    PMPI_Comm_split(MPI_COMM_WORLD, tap_rank == 0, 0, &half);
    PMPI_Intercomm_create(half, 0, MPI_COMM_WORLD, tap_rank == 0, 1, &inter);
    opening_fails(inter, RADAR_ERR_USAGE, "intercommunicator");
    PMPI_Comm_free(&inter);
    PMPI_Comm_free(&half);
}

static void mpi_errors_while_opening_are_returned(void) {
    dup_left = 1;
    opening_fails(MPI_COMM_WORLD, RADAR_ERR_PEER, "MPI_Comm_dup failed");
    allreduce_left = 1;
    opening_fails(MPI_COMM_WORLD, RADAR_ERR_PEER, "MPI_Allreduce failed");
}

int main(int argc, char **argv) {
    tap_begin(&argc, &argv);
    RUN(knows_its_rank_and_leaves_the_callers_communicator_alone);
    RUN(gathers_unequal_and_empty_pieces);
    RUN(gathers_when_nobody_has_anything);
    RUN(long_pieces_go_in_several_messages);
    RUN(pieces_may_lie_beyond_two_gigabytes);
    RUN(every_root_can_broadcast);
    RUN(exchanges_are_counted);
    RUN(everybody_hears_of_one_failure);
    RUN(the_worst_of_two_failures_wins);
    RUN(the_lowest_of_equal_failures_speaks);
    RUN(a_long_text_arrives_cut);
    RUN(equal_values_agree);
    RUN(the_odd_rank_is_named);
    RUN(several_odd_ranks_are_named);
    RUN(the_majority_is_right_even_without_rank_0);
    RUN(an_mpi_error_is_a_lost_peer_on_that_rank);
    RUN(a_real_mpi_error_does_not_end_the_job);
    RUN(an_agreement_that_fails_is_an_error);
    RUN(if_one_rank_cannot_open_none_does);
    RUN(unusable_communicators_are_refused);
    RUN(mpi_errors_while_opening_are_returned);
    return tap_end();
}
