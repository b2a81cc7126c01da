/* The scorer `rf` on CUDA beside the CPU's: the same summaries and queries, scores of every kind of features, range and level. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/rf.cu"
#include "tests/simt/scoring.h"

extern "C" {
#include "kernels/cpu/lse.h"
#include "kernels/cpu/rf.h"
}

/* ---- the CPU's functions ---- */

static void exp_and_ln_are_the_cpus(void **) {
    const float edge[] = {0,      -0.0f, 1,       -INFINITY, INFINITY,  88.7f,
                          88.73f, 89,    90,      -87.3f,    -88,       -103.97f,
                          -104,   -105,  -1000.f, 0x1p-126f, 0x1p-127f, 3e38f};
    for (float x : edge) {
        assert_int_equal(dev_bits(exp_as_cpu(x)), dev_bits(radar_expf1(x)));
        if (x >= 0) assert_int_equal(dev_bits(ln_as_cpu(x)), dev_bits(radar_logf1(x)));
    }
    for (uint64_t i = 0; i < 200000; i++) {
        const float x = 40 * draw(1, i), y = std::exp(2 * x);
        assert_int_equal(dev_bits(exp_as_cpu(x)), dev_bits(radar_expf1(x)));
        assert_int_equal(dev_bits(ln_as_cpu(y)), dev_bits(radar_logf1(y)));
    }
    assert_true(std::isnan(exp_as_cpu(NAN)) && std::isnan(ln_as_cpu(NAN)) &&
                std::isnan(ln_as_cpu(-1)));
}

/* ---- a scorer ---- */

struct kind {
    int D, n, pair, center;
    double temper;
};

static const kind kinds[] = {
    {64, 100, 0, 0, 0}, {64, 33, 1, 0, 0},   {80, 300, 0, 1, 0}, {96, 64, 1, 1, 0.5},
    {112, 16, 0, 0, 2}, {128, 130, 1, 1, 0}, {16, 1, 0, 0, 0},   {256, 70, 0, 1, 0.25},
};

struct scorer {
    radar_scorer *s;
    radar_cuda_rf x;
    explicit scorer(const kind &k) {
        radar_scorer_options opt = {};
        opt.D = k.D;
        opt.seed = 5;
        opt.rf_features = k.n;
        opt.rf_pair = k.pair;
        opt.rf_center = k.center;
        opt.rf_temper = k.temper;
        assert_int_equal(radar_scorer_open(&s, "rf", &opt, nullptr), RADAR_OK);
        const radar_rf *rf = (const radar_rf *)s->state;
        x = {k.D,        k.n,      rf->F,     rf->Fp, rf->map.omega, rf->log_weight,
             rf->temper, rf->cool, rf->center};
    }
    ~scorer() { radar_scorer_close(s); }
    size_t query_floats() const { return s->query_bytes / sizeof(float); }
};

/* ---- seal and unite ---- */

/* Blocks [begin, end) are sealed as the CPU does, all others left alone. */
static bool seals(const scorer &rf, const cache &c, int begin, int end, int most) {
    const int32_t blocks[2] = {begin, end};
    device_memory<char> out(c.summary.n);
    device_memory<float> work(radar_cuda_rf_work(&rf.x, (size_t)(c.heads * most * 64)));
    out.fill(0x5a), work.fill(0xff);
    const radar_cuda_seal t = c.seal_task(out.p, blocks, most);
    if (radar_cuda_rf_seal(&rf.x, &t, work.p, nullptr)) return false;
    return sealed_alone(c, out.p, begin, end);
}

static void summaries_are_the_cpus(void **) {
    const radar_cuda_kv types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_F32,
                                   RADAR_CUDA_KV_FP8};
    for (int i = 0; i < 8; i++) {
        scorer rf(kinds[i]);
        cache c(rf.s, types[i % 4], 2, 12, 0, (uint64_t)i, i % 2 ? 1 : 3);
        assert_true(seals(rf, c, 0, 3, 3));
        assert_true(seals(rf, c, 1, 2, 2));
        assert_true(seals(rf, c, 2, 2, 1)); /* none */
    }
}

static void every_barrier_of_seal_is_needed(void **) {
    scorer rf({80, 70, 0, 1, 0}); /* two slices of dimensions */
    cache c(rf.s, RADAR_CUDA_KV_F16, 1, 4, 0, 3, 2);
    const auto run = [&] { return seals(rf, c, 0, 1, 1); };
    assert_true(right_always(run, 5));
    const int32_t blocks[2] = {0, 1};
    device_memory<char> out(c.summary.n);
    device_memory<float> work(radar_cuda_rf_work(&rf.x, 64)), good(work.n);
    const radar_cuda_seal t = c.seal_task(out.p, blocks, 1);
    assert_int_equal(radar_cuda_rf_seal(&rf.x, &t, good.p, nullptr), 0);
    /* kernel by kernel: the sites that are counted are those of the latest launch */
    const auto project = [&] {
        work.fill(0xff);
        LAUNCH(radar_rf_project_keys, dim3(2, 1, 1), dim3(PROJECT_THREADS), 0, nullptr, rf.x, t,
               fourth_root_of(80), work.p, work.p + 64 * 70);
        return memcmp(work.p, good.p, work.n * sizeof(float)) == 0;
    };
    const auto features = [&] {
        out.fill(0);
        LAUNCH(radar_rf_centers, dim3(1, 1), dim3(128), 0, nullptr, rf.x, t);
        LAUNCH(radar_rf_features, dim3(4, 1), dim3(256), 0, nullptr, rf.x, t, good.p,
               good.p + 64 * 70);
        return memcmp(out.p, c.summary.p, out.n) == 0;
    };
    assert_true(project() && features());
    assert_true(idle_barriers(project, 12).empty());
    assert_true(idle_barriers(features, 12).empty());
}

/* The levels that end with blocks [begin, end). */
static bool unites(const scorer &rf, const cache &c, const device_memory<char> &out, int begin,
                   int end) {
    const int32_t blocks[2] = {begin, end};
    const radar_cuda_unite t = c.unite_task(c.summary.p, out.p, blocks);
    if (radar_cuda_rf_unite(&rf.x, &t, nullptr)) return false;
    for (int head = 0; head < c.heads; head++)
        for (int level = 1; level <= c.levels; level++)
            for (int i = begin * 4 >> level; i < end * 4 >> level; i++)
                if (memcmp(out.p + c.merged_offset(head, level, i), c.at(head, level, i),
                           c.segment_bytes))
                    return false;
    return true;
}

static void levels_are_the_cpus(void **) {
    for (int i = 0; i < 8; i++) {
        scorer rf(kinds[i]);
        cache c(rf.s, RADAR_CUDA_KV_F16, 2, 16, kinds[i].center ? 2 : 4, (uint64_t)i, 2);
        device_memory<char> out(c.merged.n);
        assert_true(unites(rf, c, out, 0, 4));
        out.fill(0x5a);
        for (int b = 0; b < 4; b++) assert_true(unites(rf, c, out, b, b + 1)); /* one by one */
        assert_true(unites(rf, c, out, 3, 3));
    }
}

static void every_barrier_of_unite_is_needed(void **) {
    scorer rf(kinds[0]);
    cache c(rf.s, RADAR_CUDA_KV_F16, 1, 32, 4, 3, 1);
    device_memory<char> out(c.merged.n);
    const auto run = [&] {
        out.fill(0x5a);
        return unites(rf, c, out, 0, 8);
    };
    assert_true(right_always(run, 3));
    assert_true(idle_barriers(run, 12).empty());
}

/* ---- queries ---- */

static void draw_queries(const device_memory<float> &q, size_t stride, float size) {
    for (size_t i = 0; i < q.n; i++) q[i] = size * draw(31, i / stride * 1000 + i % stride);
}

/* n queries, prepared as the CPU does. */
static bool prepares(const scorer &rf, int n) {
    const size_t stride = (size_t)rf.x.D + 3;
    device_memory<float> q((size_t)n * stride), out((size_t)n * rf.query_floats()), want(out.n),
        work(radar_cuda_rf_work(&rf.x, (size_t)n));
    draw_queries(q, stride, 2);
    out.fill(0xff), work.fill(0xff);
    for (size_t j = 0; j < (size_t)n; j++)
        rf.s->kind->query(rf.s, &want[j * rf.query_floats()], &q[j * stride]);
    if (radar_cuda_rf_query(&rf.x, out.p, q.p, stride, n, work.p, nullptr)) return false;
    return memcmp(out.p, want.p, out.n * sizeof(float)) == 0;
}

static void queries_are_the_cpus(void **) {
    for (const kind &k : kinds) assert_true(prepares(scorer(k), 5));
    for (int n : {1, 16, 17, 40}) assert_true(prepares(scorer(kinds[0]), n));
    scorer rf(kinds[0]);
    assert_int_equal(radar_cuda_rf_query(&rf.x, nullptr, nullptr, 0, 0, nullptr, nullptr), 0);
}

static void every_barrier_of_prepare_is_needed(void **) {
    scorer rf({64, 700, 0, 0,
               0}); /* only the last kernel's are counted; the first one's are those of the keys */
    const auto run = [&] { return prepares(rf, 2); };
    assert_true(right_always(run, 3));
    assert_true(idle_barriers(run, 12).empty());
}

/* ---- scores ---- */

static double reference(const scorer &rf, const char *segment, const float *q, int unit) {
    const uint16_t *phi = (const uint16_t *)segment;
    float lambda;
    double dot = 0, mu = 0;
    memcpy(&lambda, segment + 2 * rf.x.Fp, 4);
    for (int f = 0; f < rf.x.F; f++) dot += (double)q[4 + f] * (double)radar_bf16_to_f32(phi[f]);
    for (int d = 0; d < rf.x.D && rf.x.center; d++)
        mu += (double)q[4 + rf.x.Fp + d] * (double)radar_f16_to_f32(phi[rf.x.Fp + 2 + d]);
    /* smaller ones are none; those in between are as far off as f32 makes them, and not met here */
    if (dot < 0x1p-126) return -INFINITY;
    return std::log(16.0 * unit) + mu + q[0] + (std::log(dot) + (double)lambda) * (double)rf.x.cool;
}

/* Scores of units [begin, end) of a level for n queries; what is outside the range is left alone. */
static bool scores(const scorer &rf, const cache &c, int n, int level, int begin, int end, int most,
                   float size = 2) {
    const int32_t units[2] = {begin, end};
    const size_t D = (size_t)c.D, count = (size_t)(end - begin), stride = count + 3;
    const size_t query_stride = (size_t)n * rf.query_floats() + 4; /* room between the heads */
    const int rows = c.heads * n;
    device_memory<float> raw((size_t)rows * D), q((size_t)c.heads * query_stride),
        out((size_t)rows * stride);
    draw_queries(raw, D, size);
    const auto query_at = [&](int row) {
        return &q[(size_t)(row / n) * query_stride + (size_t)(row % n) * rf.query_floats()];
    };
    for (int row = 0; row < rows; row++)
        rf.s->kind->query(rf.s, query_at(row), &raw[(size_t)row * D]);
    for (size_t i = 0; i < out.n; i++) out[i] = 77;
    const radar_cuda_score t = {c.D,
                                c.heads,
                                n,
                                q.p,
                                query_stride,
                                c.at(0, level, 0),
                                level ? c.merged_bytes : (size_t)c.segments * c.segment_bytes,
                                1 << level,
                                units,
                                most,
                                out.p,
                                stride};
    if (radar_cuda_rf_score(&rf.x, &t, nullptr)) return false;
    for (int row = 0; row < rows; row++) {
        const float *query = query_at(row);
        const auto cpu = cpu_scores(c, row / n, level, begin, end, (const char *)query, 1);
        for (size_t i = 0; i < stride; i++) {
            const float got = out[(size_t)row * stride + i];
            if (i >= count) {
                if (got != 77) return false;
                continue;
            }
            const double want =
                reference(rf, c.at(row / n, level, begin + (int)i), query, 1 << level);
            /* and what f32 rounds of a large one */
            const double tol = 3e-5 * (1 + (double)rf.x.cool) +
                               (cpu[i] > -INFINITY ? 5e-7 * std::fabs((double)cpu[i]) : 0);
            if (same_number(got, cpu[i], tol) && same_number(got, (float)want, tol)) continue;
            if (!simt::opt.drop_barrier)
                print_error(
                    "D %d F %d n %d level %d: row %d unit %zu: %.9g, cpu %.9g, exact %.9g\n", c.D,
                    rf.x.F, n, level, row, i, (double)got, (double)cpu[i], want);
            return false;
        }
    }
    return true;
}

static void scores_are_the_cpus(void **) {
    for (int i = 0; i < 8; i++) {
        scorer rf(kinds[i]);
        cache c(rf.s, RADAR_CUDA_KV_F16, 2, 40, 2, (uint64_t)i, 1);
        assert_true(scores(rf, c, 3, 0, 0, 40, 40));
        assert_true(scores(rf, c, 1, 0, 7, 24, 17));
        assert_true(scores(rf, c, 2, 1, 3, 20, 20));
        assert_true(scores(rf, c, 2, 2, 9, 10, 1)); /* one */
        assert_true(scores(rf, c, 2, 0, 4, 4, 40)); /* none */
    }
}

static void any_number_of_queries(void **) {
    scorer rf(kinds[2]);
    cache c(rf.s, RADAR_CUDA_KV_BF16, 2, 20, 0, 1, 1);
    for (int n : {1, 4, 8, 9, 16, 17, 35}) assert_true(scores(rf, c, n, 0, 1, 20, 20));
}

static void the_grid_changes_nothing(void **) {
    scorer rf(kinds[0]);
    cache c(rf.s, RADAR_CUDA_KV_F16, 1, 300, 0, 2, 1);
    assert_true(scores(rf, c, 2, 0, 0, 300, 300));
    assert_true(scores(rf, c, 2, 0, 0, 300, 1)); /* one block does them all */
    assert_true(scores(rf, c, 2, 0, 0, 20, 3000));
}

/* Long vectors: features far apart, products that underflow to a score of -inf. */
static void long_vectors(void **) {
    scorer rf(kinds[0]);
    cache c(rf.s, RADAR_CUDA_KV_F16, 1, 16, 2, 2, 20);
    assert_true(scores(rf, c, 4, 0, 0, 16, 16, 40));
    assert_true(scores(rf, c, 4, 2, 0, 4, 16, 10));
}

static void a_query_that_is_no_number_spoils_itself_alone(void **) {
    scorer rf(kinds[2]);
    cache c(rf.s, RADAR_CUDA_KV_F16, 1, 16, 0, 4, 1);
    const size_t each = rf.query_floats();
    device_memory<float> q(3 * each), raw(80), out(3 * 16);
    draw_queries(raw, 80, 1);
    for (size_t j = 0; j < 3; j++) rf.s->kind->query(rf.s, &q[j * each], raw.p);
    q[each + 4 + 9] = NAN;
    const int32_t units[2] = {0, 16};
    const radar_cuda_score t = {80,          1, 3,     q.p, 0,     c.summary.p,
                                c.summary.n, 1, units, 16,  out.p, 16};
    assert_int_equal(radar_cuda_rf_score(&rf.x, &t, nullptr), 0);
    for (size_t i = 0; i < 48; i++) assert_true(std::isnan(out[i]) == (i / 16 == 1));
}

static void every_barrier_of_score_is_needed(void **) {
    scorer rf({64, 496, 0, 1, 0}); /* two strips, both long, and the centers */
    cache c(rf.s, RADAR_CUDA_KV_F16, 1, 48, 0, 6, 1);
    const auto run = [&] { return scores(rf, c, 3, 0, 0, 48, 48); };
    assert_true(right_always(run, 2));
    assert_true(idle_barriers(run, 12).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_and_ln_are_the_cpus),
        cmocka_unit_test(summaries_are_the_cpus),
        cmocka_unit_test(every_barrier_of_seal_is_needed),
        cmocka_unit_test(levels_are_the_cpus),
        cmocka_unit_test(every_barrier_of_unite_is_needed),
        cmocka_unit_test(queries_are_the_cpus),
        cmocka_unit_test(every_barrier_of_prepare_is_needed),
        cmocka_unit_test(scores_are_the_cpus),
        cmocka_unit_test(any_number_of_queries),
        cmocka_unit_test(the_grid_changes_nothing),
        cmocka_unit_test(long_vectors),
        cmocka_unit_test(a_query_that_is_no_number_spoils_itself_alone),
        cmocka_unit_test(every_barrier_of_score_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
