/* What an observer sees, and what is read from the cache, has the bits of one rank on any number of ranks. */
#include <string.h>

#include <xxhash.h>

#include "runtime/radar.h"
#include "tests/mpi/tap.h"

enum { N = 460, FROM = 420, VOCAB = 128, D = 32 };

typedef struct digest {
    XXH3_state_t *hash;
    int rows;
    int64_t candidates;
} digest;

static void add(digest *d, const void *data, size_t bytes) {
    XXH3_64bits_update(d->hash, data, bytes);
}

static void note(void *user, const radar_observation *o) {
    digest *d = user;
    size_t H = (size_t)o->heads, head = (size_t)o->head_dim, n = H * (size_t)o->candidates;
    const int64_t facts[] = {o->position, o->layer, o->first_candidate, o->candidates, o->keep};
    add(d, facts, sizeof facts);
    add(d, o->q, H * head * sizeof(float));
    add(d, o->output, H * head * sizeof(float));
    add(d, o->dense_output, H * head * sizeof(float));
    add(d, o->mass, H * sizeof(float));
    add(d, o->dense_mass, H * sizeof(float));
    add(d, o->coverage, H * sizeof(float));
    add(d, o->exact, n * sizeof(float));
    add(d, o->estimate, n * sizeof(float));
    add(d, o->chosen, n);
    d->rows++;
    d->candidates += o->candidates;
}

static void observe(radar_mpi_comm comm, const radar_session_options *opt, digest *d) {
    static float key[N * D], value[N * D];
    radar_engine_options eo = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e = NULL;
    radar_session *s = NULL;
    int32_t ids[N];
    char error[512] = "";
    for (int i = 0; i < N; i++) ids[i] = (int32_t)((unsigned)(i * 2654435761u >> 7) % VOCAB);
    eo.model = "tests/golden/tiny/qwen3-qknorm-bf16", eo.stripe = 64, eo.threads = 1;
    CHECK(radar_engine_open(&e, comm, &eo, error, sizeof error) == RADAR_OK);
    CHECK(radar_session_open(&s, e, opt) == RADAR_OK);
    CHECK(radar_prefill(s, ids, FROM) == RADAR_OK);
    CHECK(radar_session_observe(s, note, d, 5) == RADAR_OK);
    CHECK(radar_score(s, ids + FROM, N - FROM, NULL) == RADAR_OK);
    CHECK(radar_session_read(s, 1, 1, 50, N - 60, key, value) == RADAR_OK);
    add(d, key, (N - 60) * D * sizeof *key);
    add(d, value, (N - 60) * D * sizeof *value);
    CHECK(radar_session_read(s, 1, 1, N - 1, 2, key, value) == RADAR_ERR_USAGE);
    radar_session_close(s);
    radar_engine_close(e);
}

static void compare(const radar_session_options *opt) {
    digest together = {.hash = XXH3_createState()}, alone = {.hash = XXH3_createState()};
    XXH3_64bits_reset(together.hash);
    XXH3_64bits_reset(alone.hash);
    observe(MPI_COMM_WORLD, opt, &together);
    observe(MPI_COMM_NULL, opt, &alone);
    CHECK(together.rows == 16 && alone.rows == 16);
    CHECK(together.candidates == alone.candidates);
    CHECK((alone.candidates > 0) == (strcmp(opt->attention, "radar") == 0));
    CHECK(XXH3_64bits_digest(together.hash) == XXH3_64bits_digest(alone.hash));
    XXH3_freeState(together.hash);
    XXH3_freeState(alone.hash);
}

static radar_session_options options(void) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = N, opt.dense_below = 0, opt.window = 32, opt.segments = 3;
    return opt;
}

static void the_best_of_all(void) {
    radar_session_options opt = options();
    compare(&opt);
}

static void the_best_of_each_shard(void) {
    radar_session_options opt = options();
    opt.select = "local", opt.pick = "random", opt.scorer = "mean";
    compare(&opt);
}

static void what_a_progressive_scan_leaves(void) {
    radar_session_options opt = options();
    opt.scan = "progressive";
    compare(&opt);
}

static void attention_that_scores_nothing(void) {
    radar_session_options opt = options();
    opt.attention = "streaming";
    compare(&opt);
}

int main(int argc, char **argv) {
    tap_begin(&argc, &argv);
    RUN(the_best_of_all);
    RUN(the_best_of_each_shard);
    RUN(what_a_progressive_scan_leaves);
    RUN(attention_that_scores_nothing);
    return tap_end();
}
