/* plan_fixture.h - the memory of a plan, for tests that call a policy without a session. */
#ifndef RADAR_TEST_PLAN_FIXTURE_H
#define RADAR_TEST_PLAN_FIXTURE_H

#include "runtime/policy.h"
#include "tests/unit/kv_fixture.h"

static inline void *plan_array(size_t n, size_t size) {
    return must(radar_alloc_array(n + 1, size));
}

/* What p->max_... and p->..._bytes say that there is room for. */
static inline void plan_open(radar_plan *p, const radar_kvcache *kv) {
    const size_t segments = radar_most_segments(kv);
    p->task = plan_array((size_t)p->max_tasks, sizeof *p->task);
    p->item = plan_array(p->max_items, sizeof *p->item);
    p->missed = plan_array((size_t)p->max_missed, sizeof *p->missed);
    p->fold = plan_array((size_t)p->max_folds, sizeof *p->fold);
    p->scratch = plan_array(p->scratch_bytes, 1);
    p->memory = plan_array(p->memory_bytes, 1);
    p->packet = plan_array(p->packet_bytes, 1);
    p->every = plan_array(segments, sizeof *p->every);
    for (size_t i = 0; i < segments; i++) p->every[i] = (radar_item){(int32_t)i, 0xffff};
}

static inline void plan_close(radar_plan *p) {
    radar_free(p->task), radar_free(p->item), radar_free(p->missed), radar_free(p->fold);
    radar_free(p->scratch), radar_free(p->memory), radar_free(p->packet), radar_free(p->every);
}

/* As another policy may have left it. */
static inline void plan_litter(radar_plan *p) {
    memset(p->scratch, 0xa5, p->scratch_bytes);
    memset(p->memory, 0xa5, p->memory_bytes);
    memset(p->packet, 0xa5, p->packet_bytes);
}

static inline void plan_begin(radar_plan *p) {
    p->n_tasks = p->n_missed = p->n_folds = 0;
    p->n_items = 0;
}

static inline void plan_check_room(const radar_plan *p) {
    assert_true(p->n_tasks <= p->max_tasks && p->n_items <= p->max_items &&
                p->n_missed <= p->max_missed && p->n_folds <= p->max_folds);
}

/* The segments that a task attends to. */
static inline radar_items plan_items(const radar_attend_task *task) {
    return radar_items_now(task->items);
}

#endif
