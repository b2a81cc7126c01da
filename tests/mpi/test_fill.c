/* A cache that is made up has the bits of one rank on any number of ranks, and each rank makes up what it owns. */
#include <math.h>
#include <string.h>

#include "runtime/radar.h"
#include "tests/mpi/tap.h"

enum { FILL = 700, VOCAB = 128, TOKENS = 3 };

typedef struct asked {
    int D;
    long positions;
} asked;

static void fill(void *user, int layer, int head, int64_t first, int64_t n, float *key,
                 float *value) {
    asked *a = user;
    a->positions += n;
    for (int64_t i = 0; i < n * a->D; i++) {
        const double at = 0.37 * (double)(first * a->D + i) + 5 * layer + 7 * head;
        key[i] = (float)sin(at);
        value[i] = (float)cos(1.7 * at);
    }
}

static radar_engine *engine_of(radar_mpi_comm comm) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e = NULL;
    opt.model = "tests/golden/tiny/qwen3-qknorm-bf16";
    opt.threads = 1;
    opt.stripe = 64;
    CHECK(radar_engine_open(&e, comm, &opt, NULL, 0) == RADAR_OK);
    return e;
}

static void decode_behind(radar_mpi_comm comm, float *logits, asked *a, radar_model_info *info) {
    static const int32_t token[TOKENS] = {7, 3, 11};
    radar_engine *e = engine_of(comm);
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session *s = NULL;
    radar_session_stats stats = {.size = sizeof stats};
    *info = (radar_model_info){.size = sizeof *info};
    radar_engine_info(e, info);
    CHECK(info->vocab == VOCAB);
    a->D = info->head_dim;
    opt.context = FILL + TOKENS;
    opt.dense_below = 0;
    opt.window = 64;
    CHECK(radar_session_open(&s, e, &opt) == RADAR_OK);
    CHECK(radar_session_fill(s, FILL, fill, a) == RADAR_OK);
    CHECK(radar_score(s, token, TOKENS, logits) == RADAR_OK);
    CHECK(radar_stats(s, &stats) == RADAR_OK);
    CHECK(stats.segments_scored > 0);
    radar_session_close(s);
    radar_engine_close(e);
}

static void made_up_positions_have_the_bits_of_one_rank(void) {
    static float alone[TOKENS * VOCAB], together[TOKENS * VOCAB];
    radar_model_info info;
    asked all = {0}, own = {0};
    long sum = 0;
    decode_behind(MPI_COMM_NULL, alone, &all, &info);
    decode_behind(MPI_COMM_WORLD, together, &own, &info);
    CHECK(memcmp(alone, together, sizeof alone) == 0);
    MPI_Allreduce(&own.positions, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    CHECK(all.positions == (long)FILL * info.layers * info.kv_heads);
    CHECK(sum == all.positions);
}

static void ranks_that_ask_for_different_lengths_are_told(void) {
    radar_engine *e = engine_of(MPI_COMM_WORLD);
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session *s = NULL;
    asked a = {.D = 32};
    opt.context = FILL;
    CHECK(radar_session_open(&s, e, &opt) == RADAR_OK);
    const radar_status st = radar_session_fill(s, tap_rank == 0 ? 100 : 101, fill, &a);
    CHECK(st == (tap_ranks > 1 ? RADAR_ERR_DISAGREE : RADAR_OK));
    CHECK(radar_session_fill(s, tap_rank == tap_ranks - 1 ? FILL + 1 : 100, fill, &a) ==
          RADAR_ERR_CONFIG);
    CHECK(tap_ranks == 1 || a.positions == 0);
    radar_session_close(s);
    radar_engine_close(e);
}

static void every_rank_measures_its_bandwidth(void) {
    radar_engine *e = engine_of(MPI_COMM_WORLD);
    CHECK(radar_read_bandwidth(e, 8 << 20) > 0);
    /* one that has no memory for it: all know, and nobody waits */
    CHECK(radar_read_bandwidth(e, tap_rank == 0 ? (size_t)1 << 62 : 8 << 20) == 0);
    radar_engine_close(e);
}

int main(int argc, char **argv) {
    tap_begin(&argc, &argv);
    RUN(made_up_positions_have_the_bits_of_one_rank);
    RUN(ranks_that_ask_for_different_lengths_are_told);
    RUN(every_rank_measures_its_bandwidth);
    return tap_end();
}
