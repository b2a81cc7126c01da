/* engine_fixture.h - an engine of one rank on a model file. */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include "runtime/radar.h"

/* threads 0: as many as there are. */
static inline radar_engine *engine_of(const char *model, int threads) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = model;
    opt.stripe = 64;
    opt.threads = threads;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

#endif
