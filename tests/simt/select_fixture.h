/* select_fixture.h - what ranks have to choose from; kernels in turn. */
#ifndef RADAR_SIMT_SELECT_FIXTURE_H
#define RADAR_SIMT_SELECT_FIXTURE_H

#include <algorithm>
#include <functional>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "kernels/topk.h"
#include "parallel/shard.h"
}
#include "tests/simt/fixture.h"

/* ---- scores ---- */

enum score_kind {
    NORMAL,
    EQUAL,
    FEW,
    SPECIAL,
    NO_NUMBER,
    NEAR,
    ASCENDING,
    MOSTLY_EQUAL,
    SCORE_KINDS
};

/* Of a unit, by its number: what a rank has does not depend on who the ranks are. */
static inline float score_of(score_kind kind, uint64_t stream, uint32_t unit) {
    const float x = draw(stream, unit);
    const float special[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e38f, -1e-38f};
    switch (kind) {
    case EQUAL:
        return -1.5f;
    case FEW:
        return (float)(int)(2 * x);
    case SPECIAL:
        return unit % 3 ? x : special[(unit * 2654435761u + (uint32_t)stream) >> 29];
    case NO_NUMBER:
        return unit % 97 == 5 ? -3.0f : NAN;
    case NEAR:
        return 10000 + x / 64;
    case ASCENDING:
        return (float)unit / 16 - 300;
    case MOSTLY_EQUAL:
        return unit % 101 ? -1.5f : x;
    default:
        return x;
    }
}

/* ---- who has what ---- */

/* A row's candidates, in segments of 16 tokens of the context; `last`: what it attends to ends there. */
struct test_row {
    int64_t begin, end, stop;
    int32_t unit, keep;
};

static inline int32_t storage_segment(const radar_layout &l, int shard, int64_t segment) {
    return (int32_t)(radar_shard_tokens(&l, shard, segment * 16) / 16);
}

/* The number of a storage unit in the context. */
static inline uint32_t number_of(const radar_layout &l, int shard, int64_t unit, int32_t size) {
    return (uint32_t)(radar_position_of(&l, shard, unit * size * 16) / (16 * size));
}

/* ---- kernels in turn ---- */

/* Runs them; of kernel `only`, if any, one barrier may be without effect, as idle_barriers() asks. */
static inline void run_stages(const std::vector<std::function<void()>> &stages, int only) {
    const simt::options asked = simt::opt;
    int sites = 0;
    for (int i = 0; i < (int)stages.size(); i++) {
        simt::opt = {asked.seed, i == only ? asked.drop_barrier : 0};
        stages[(size_t)i]();
        if (i == only) sites = simt::sites;
    }
    simt::opt = asked;
    simt::sites = sites;
}

/* run(), in a process of its own where a barrier is missing: what comes then may be the end of it. */
template <class Run> static inline bool run_apart(Run run) {
    if (simt::opt.drop_barrier == 0) return run();
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        alarm(30);
        _exit(run() ? 0 : 1);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#endif
