/* Settings tried on the model's metadata: what no session can be, or has no room, is refused before weights are read. */
#include <string.h>

#include "launch/eval/eval.h"

static uint64_t bytes_of(const radar_rank_memory *m) {
    return m->kv + m->summaries + m->lists + m->state;
}

/* Of all settings, as rank 0's share says: the same choice on every rank. */
static radar_status try_settings(launch_job *job, radar_planner *planner,
                                 const launch_options *base, int64_t context, eval_room *room) {
    launch_options setting;
    uint64_t most = 0;
    for (int64_t i = 0; eval_setting(&setting, base, i); i++) {
        const radar_session_options s = launch_session_options(&setting, context);
        radar_rank_memory m = {.size = sizeof m};
        const radar_status st = radar_planner_session(planner, &s, 0, &m);
        if (st != RADAR_OK) return radar_fail(&job->err, st, "%s", radar_planner_error(planner));
        if (m.step_scored > 0 || strcmp(setting.prefill, "radar") == 0) room->scores = true;
        if (bytes_of(&m) < most) continue;
        most = bytes_of(&m);
        room->largest = s;
    }
    job->room = &room->largest;
    return RADAR_OK;
}

radar_status eval_try_settings(launch_job *job, const launch_options *base, int64_t context,
                               eval_room *room) {
    const radar_engine_options e = launch_engine_options(job);
    radar_planner *planner = NULL;
    char why[512] = "";
    const radar_status st = radar_planner_open(&planner, &e, job->world->size, why, sizeof why);
    if (st != RADAR_OK)
        radar_fail(&job->err, st, "%s", why);
    else
        try_settings(job, planner, base, context, room);
    radar_planner_close(planner);
    return launch_agree(job);
}
