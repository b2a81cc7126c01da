/* fixture.h - numbers for kernel tests, and what every kernel's test asks of it: right under many schedules, wrong without any of
 * its barriers. */
#ifndef RADAR_SIMT_FIXTURE_H
#define RADAR_SIMT_FIXTURE_H

#include <cstdlib>
#include <vector>

extern "C" {
#include "runtime/base.h"
}
#include "tests/simt/simt.h"

/* Normal numbers, the same on every machine. */
static inline float draw(uint64_t stream, uint64_t i) {
    return (float)radar_random_normal(stream, 1, i);
}

/* ||got - want|| / ||want||; a NaN makes it infinite. */
static inline double relative_error(const float *got, const double *want, size_t n) {
    double miss = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        miss += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    return miss == miss ? std::sqrt(miss / (size > 0 ? size : 1)) : INFINITY;
}

/* Schedules to try where a test asks for n: SIMT_TIMES as many, where that is set (make soak). */
static inline int schedules_of(int n) {
    const char *times = getenv("SIMT_TIMES");
    return times && atoi(times) > 0 ? n * atoi(times) : n;
}

/* Whether `run`, which launches a kernel on fresh outputs and says whether they are right, holds under `schedules` of them. */
template <class Run> static inline bool right_always(Run run, int schedules) {
    bool right = true;
    for (int seed = 0; seed < schedules_of(schedules) && right; seed++) {
        simt::opt = {(uint64_t)seed, 0};
        right = run();
    }
    simt::opt = {};
    return right;
}

/* The barrier sites (1, 2, ...) of run's kernel that it does as well without, under `schedules` of them. */
template <class Run> static inline std::vector<int> idle_barriers(Run run, int schedules) {
    std::vector<int> idle;
    simt::opt = {};
    run();
    const int sites = simt::sites;
    for (int site = 1; site <= sites; site++) {
        bool wrong = false;
        for (int seed = 1; seed <= schedules && !wrong; seed++) {
            simt::opt = {(uint64_t)seed, site};
            wrong = !run();
        }
        if (!wrong) idle.push_back(site);
    }
    simt::opt = {};
    return idle;
}

#endif
