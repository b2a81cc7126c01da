/* What selection left out: sums of the scores of units that no item touches, in double; bits in every way of asking. */
#include "tests/unit/kv_fixture.h"

#include "kernels/missed.h"

enum { QUERIES = 5, MOST = 300, STRIDE = MOST + 3, PARTIAL = 6 };

typedef struct missed_case {
    float score[QUERIES * STRIDE], missed[QUERIES * PARTIAL];
    radar_item item[80];
    radar_missed_task task;
} missed_case;

/* Units from number 7 on; items lie before, among and behind them, several in some. */
static void make_case(missed_case *c, int n, int unit, float scale, uint64_t seed) {
    memset(c, 0, sizeof *c);
    for (int i = 0; i < QUERIES * STRIDE; i++)
        c->score[i] = scale * (float)radar_random_normal(seed, 1, (uint64_t)i);
    for (int i = 0; i < QUERIES * PARTIAL; i++) c->missed[i] = 99;
    int items = 0;
    for (int32_t s = 0; s < (7 + n + 2) * unit && items < COUNT(c->item); s++)
        if (radar_random(seed, 2, (uint64_t)s) % 7 == 0) c->item[items++] = (radar_item){s, 0xffff};
    c->task = (radar_missed_task){.n_query = QUERIES,
                                  .score = c->score,
                                  .score_stride = STRIDE,
                                  .n = n,
                                  .unit = unit,
                                  .segment_begin = 7,
                                  .items = {.item = c->item, .n = items},
                                  .missed = c->missed + 2,
                                  .missed_stride = PARTIAL};
}

static bool is_chosen(const missed_case *c, int number) {
    for (int i = 0; i < c->task.items.n; i++)
        if (c->item[i].segment / c->task.unit == 7 + number) return true;
    return false;
}

static void check_query(const missed_case *before, const missed_case *after, int query) {
    const float *score = before->score + query * STRIDE, *got = after->missed + query * PARTIAL;
    double m = -INFINITY, l = 0;
    for (int i = 0; i < STRIDE; i++) {
        const bool crossed = i < before->task.n && is_chosen(before, i);
        assert_true(after->score[query * STRIDE + i] == (crossed ? -INFINITY : score[i]));
        if (i < before->task.n && !crossed) m = fmax(m, score[i]);
    }
    for (int i = 0; i < before->task.n; i++)
        if (!is_chosen(before, i)) l += exp(score[i] - m);
    assert_true(got[2] == m);
    if (!(fabs(got[3] - l) <= 1e-6 * l)) fail_msg("%g, expected %g", (double)got[3], l);
    for (int i = 0; i < PARTIAL; i++)
        if (i != 2 && i != 3) assert_true(got[i] == 99);
}

static void adds_up_what_no_item_touches(void **state) {
    (void)state;
    static missed_case before, after, other;
    static const int sizes[] = {0, 1, 15, 16, 17, MOST}, units[] = {1, 2, 16};
    radar_cpu plain = cpu_with("plain", 1), best = cpu_with(NULL, 2);
    for (int s = 0; s < COUNT(sizes); s++)
        for (int u = 0; u < COUNT(units); u++)
            for (int k = 0; k < 3; k++) {
                make_case(&before, sizes[s], units[u], k == 2 ? 1e4f : 3, (uint64_t)(10 * s + u));
                make_case(&after, sizes[s], units[u], k == 2 ? 1e4f : 3, (uint64_t)(10 * s + u));
                make_case(&other, sizes[s], units[u], k == 2 ? 1e4f : 3, (uint64_t)(10 * s + u));
                radar_cpu_missed(&plain.base, &after.task, 1);
                radar_cpu_missed(&best.base, &other.task, 1);
                for (int j = 0; j < QUERIES; j++) check_query(&before, &after, j);
                assert_memory_equal(after.score, other.score, sizeof after.score);
                assert_memory_equal(after.missed, other.missed, sizeof after.missed);
            }
}

static void nothing_left_out_is_no_mass(void **state) {
    (void)state;
    static missed_case c;
    const char *isa[] = {"plain", NULL};
    for (int k = 0; k < 2; k++) {
        radar_cpu cpu = cpu_with(isa[k], 1);
        make_case(&c, 20, 1, 1, 3);
        c.task.items.n = 30;
        for (int i = 0; i < 30; i++) c.item[i] = (radar_item){i, 0xffff};
        radar_cpu_missed(&cpu.base, &c.task, 1);
        for (int j = 0; j < QUERIES; j++) {
            assert_true(c.task.missed[j * PARTIAL] == -INFINITY);
            assert_true(c.task.missed[j * PARTIAL + 1] == 0);
        }
    }
}

/* Where a list begins, and how long it is, is only known on the device. */
static void a_list_of_the_device_counts_like_one_of_the_host(void **state) {
    (void)state;
    static missed_case host, device;
    device_list list;
    radar_cpu cpu = cpu_with(NULL, 1);
    make_case(&host, 200, 2, 2, 4);
    make_case(&device, 200, 2, 2, 4);
    device.task.items = on_device(&list, device.item, device.task.items.n);
    radar_cpu_missed(&cpu.base, &host.task, 1);
    radar_cpu_missed(&cpu.base, &device.task, 1);
    assert_memory_equal(host.score, device.score, sizeof host.score);
    assert_memory_equal(host.missed, device.missed, sizeof host.missed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_up_what_no_item_touches),
        cmocka_unit_test(nothing_left_out_is_no_mass),
        cmocka_unit_test(a_list_of_the_device_counts_like_one_of_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
