/* attend.cu and attend_plain.cu against softmax in doubles, and bit for bit where their headers promise it. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}
#include "tests/simt/dev.h"

#include "kernels/cuda/attend.cu"
#include "kernels/cuda/attend_plain.cu"
#include "tests/simt/attend_fixture.h"
#include "tests/simt/merge_tree.h"

static void every_type_and_head_size_agrees_with_doubles(void **) {
    const int all_D[] = {16, 48, 64, 80, 96, 112, 128, 144, 256};
    for (radar_cuda_kv type : all_types)
        for (int D : all_D) assert_true(right({type, D, 1, 1, 1, 4, 4, 2, 24}, 6 * (uint64_t)D));
}

/* rows, group, span: own lists, shared lists, heads with lists of their own, tiles that are not full. */
static void rows_heads_and_lists_in_every_arrangement(void **) {
    const int shapes[][3] = {{3, 4, 4},  {5, 4, 20}, {1, 16, 16}, {2, 3, 1},
                             {3, 7, 14}, {9, 5, 45}, {1, 1, 1}};
    for (radar_cuda_kv type : all_types)
        for (auto [rows, group, span] : shapes)
            assert_true(right({type, 64, 2, 1, rows, group, span, 2, 10}, (uint64_t)(rows + span)));
}

static void many_splits_of_few_items(void **) {
    for (radar_cuda_kv type : all_types)
        for (int splits = 1; splits <= 16; splits *= 4)
            for (int segments = 1; segments <= 9; segments += 4)
                assert_true(right({type, 64, 2, 3, 1, 2, 2, splits, segments}, (uint64_t)segments));
}

/* Runs of a list become one in the tree of merge.h, those that have no item being identities. */
static bool merges_like_a_tree(const shape &s, uint64_t seed) {
    const problem p = make(s, seed);
    const size_t size = (size_t)RADAR_PARTIAL(s.D), queries = (size_t)(s.shards * s.G * p.queries);
    std::vector<float> out(queries * partial_stride(p));
    std::vector<float> nothing(size);
    nothing[RADAR_PARTIAL_M] = nothing[(size_t)RADAR_PARTIAL_MISSED_M(s.D)] = -INFINITY;
    scratch x;
    if (launch_tasks(p, tasks_of(p, out.data()), x, radar_cuda_attend) || x.early) return false;
    for (size_t query = 0; query < queries; query++) {
        const unsigned used = complete(p, x, query);
        if (used == 0) continue; /* one run, which is the task's partial at once */
        std::vector<std::vector<float>> piece((size_t)s.splits, nothing);
        for (size_t i = 0; i < used; i++)
            memcpy(piece[i].data(), &x.work[(query * (size_t)s.splits + i) * size],
                   size * sizeof(float));
        merge_tree_of(piece, 1, s.D);
        for (size_t i = 0; i < size; i++)
            if (out[query * partial_stride(p) + i] != piece[0][i]) return false;
    }
    return true;
}

static void splits_are_merged_in_the_fixed_tree(void **) {
    for (int splits = 2; splits <= RADAR_CUDA_ATTEND_SPLITS; splits *= 2)
        for (int segments : {7, 40, 300})
            assert_true(merges_like_a_tree({RADAR_CUDA_KV_F16, 64, 1, 1, 2, 4, 8, splits, segments},
                                           (uint64_t)segments));
    assert_true(merges_like_a_tree({RADAR_CUDA_KV_FP8, 128, 2, 1, 1, 8, 8, 16, 140}, 1));
    assert_true(merges_like_a_tree({RADAR_CUDA_KV_F32, 256, 1, 1, 1, 4, 4, 32, 270}, 1));
}

/* Parts of a prompt: 64 rows of 16 heads. */
static void a_thousand_queries_of_a_list(void **) {
    assert_true(right({RADAR_CUDA_KV_F16, 64, 1, 1, 64, 16, 1024, 2, 6}, 1));
    assert_true(right({RADAR_CUDA_KV_F32, 16, 1, 1, 64, 16, 1024, 2, 6}, 1));
}

static void under_every_schedule(void **) {
    for (radar_cuda_kv type : all_types) {
        assert_true(right_always([&] { return right({type, 64, 1, 1, 1, 8, 8, 1, 30}, 2); }, 6));
        assert_true(right_always([&] { return right({type, 64, 1, 1, 3, 8, 24, 4, 30}, 3); }, 3));
    }
}

static void every_barrier_is_needed(void **) {
    const shape shapes[] = {{RADAR_CUDA_KV_F16, 64, 1, 1, 1, 8, 8, 1, 40},
                            {RADAR_CUDA_KV_FP8, 64, 1, 1, 2, 8, 16, 1, 40},
                            {RADAR_CUDA_KV_F16, 64, 1, 1, 1, 8, 8, 4, 40},
                            {RADAR_CUDA_KV_F32, 64, 1, 1, 1, 8, 8, 4, 40}};
    bool found = true;
    for (const shape &s : shapes) {
        const problem p = make(s, 2);
        const std::vector<float> want = run(p);
        const auto same = [&] {
            const std::vector<float> got = run(p);
            return got.size() == want.size() &&
                   !memcmp(got.data(), want.data(), want.size() * sizeof(float));
        };
        for (int site : idle_barriers(same, 60)) {
            fprintf(stderr, "barrier %d of type %d, %d queries, %d splits is idle\n", site, s.type,
                    p.queries, s.splits);
            found = false;
        }
    }
    assert_true(found);
}

/* A query's bits follow from its list and the number of splits, whoever shares its block. */
static void bits_do_not_depend_on_neighbours(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 2, 5, 8, 40, 2, 24}, 3), alone = p;
        const std::vector<float> together = run(p);
        alone.s.span = 8, alone.lists = 5;
        alone.begin.clear(), alone.count.clear();
        for (int list = 0; list < 10; list++) {
            alone.begin.push_back(p.begin[(size_t)(list / 5)]);
            alone.count.push_back(p.count[(size_t)(list / 5)]);
        }
        const std::vector<float> apart = run(alone);
        assert_memory_equal(together.data(), apart.data(), together.size() * sizeof(float));
    }
}

/* Tokens that others attend, or nobody: the former are numbers, the latter NaN. */
static void what_is_not_attended_leaves_no_trace(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 1, 2, 4, 4, 1, 16}, 1);
        const std::vector<float> want = run(p);
        for (int32_t c = 0; c < p.count[1]; c++) { /* the second row's own tokens become others */
            const size_t t = (size_t)p.item[(size_t)(p.begin[1] + c)].segment * 16;
            bool shared = false;
            for_attended(p, 0, 0, 0, [&](size_t u) { shared |= u == t; });
            if (!shared) poison(p.s, p.heads[0], t);
        }
        const std::vector<float> got = run(p);
        const size_t first_row = 4 * partial_stride(p);
        assert_memory_equal(got.data(), want.data(), first_row * sizeof(float));
        bool nan = false;
        for (size_t i = first_row; i < got.size(); i++) nan |= got[i] != got[i];
        assert_true(nan);
    }
}

/* Nothing overflows on the way, and small queries keep their digits. */
static void queries_of_any_size(void **) {
    for (radar_cuda_kv type : all_types) {
        const float sizes[] = {0, 1e-30f, 1e-5f, 100};
        for (float size : sizes) {
            problem p = make({type, 64, 1, 1, 1, 4, 4, 2, 10}, 1);
            for (float &x : p.q) x *= size;
            const double e = worst(p, run(p)), far = size > 1 ? size : 1;
            assert_true(e <= far * bound(type));
        }
        problem p = make({type, 64, 1, 1, 1, 4, 4, 2, 10}, 1);
        for (float &x : p.q) x *= 1e20f;
        for (float x : run(p)) assert_true(x == x);
    }
}

/* fp8: values from 2^-60 to 2^60 of the first. */
static void scales_far_apart(void **) {
    problem p = make({RADAR_CUDA_KV_FP8, 64, 1, 1, 1, 4, 4, 1, 16}, 1);
    for (int up = 0; up < 2; up++) {
        for (size_t t = 0; t < 256; t++) {
            const float scale = ldexpf(1, (up ? 1 : -1) * ((int)(t / 16) * 8 - 60));
            const float now = p.heads[0].v_scale.data()[t];
            if (now != now) continue;
            p.heads[0].v_scale.data()[t] = scale;
            for (size_t d = 0; d < 64; d++) p.heads[0].value[t * 64 + d] *= scale / now;
        }
        assert_true(worst(p, run(p)) <= bound(RADAR_CUDA_KV_FP8));
    }
}

/* Lists that need not be written down: NULL for items, for where they begin, for how many. */
static void all_segments_need_no_list(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 1, 1, 4, 4, 4, 24}, 1); /* values of all tokens */
        p.heads[0] = random_head(p.s, 5);
        p.item.clear();
        for (int32_t i = 0; i < 24; i++) p.item.push_back({i, 0xffff});
        p.begin[0] = 0, p.count[0] = 17;
        const std::vector<float> want = run(p);
        assert_true(worst(p, want) <= bound(type));
        std::vector<float> out(want.size(), 7);
        std::vector<radar_cuda_attend_task> task = tasks_of(p, out.data());
        task[0].item = nullptr, task[0].begin = nullptr, task[0].count = nullptr, task[0].n = 17;
        scratch x;
        assert_int_equal(launch_tasks(p, task, x, radar_cuda_attend), 0);
        assert_memory_equal(out.data(), want.data(), want.size() * sizeof(float));

        p.begin[0] = 3;
        const std::vector<float> later = run(p);
        task[0].begin = p.begin.data();
        assert_int_equal(launch_tasks(p, task, x, radar_cuda_attend), 0);
        assert_memory_equal(out.data(), later.data(), later.size() * sizeof(float));
    }
}

/* Tasks of other sizes beside it, or of none, and room for more queries change nothing. */
static void tasks_do_not_meet(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 2, 2, 3, 4, 4, 2, 24}, 1);
        const std::vector<float> want = run(p);
        std::vector<float> out(want.size(), 7);
        std::vector<radar_cuda_attend_task> tasks = tasks_of(p, out.data());
        radar_cuda_attend_task none = tasks[0];
        none.n_query = 0, none.partial = nullptr;
        tasks.insert(tasks.begin() + 2, none);
        p.s.span = 21;
        scratch x;
        assert_int_equal(launch_tasks(p, tasks, x, radar_cuda_attend), 0);
        assert_memory_equal(out.data(), want.data(), want.size() * sizeof(float));
    }
}

/* kernels/attend.h, number by number, one run. */
static std::vector<float> in_order_of_the_cpu(const problem &p, int shard, int g, int query) {
    const size_t D = (size_t)p.s.D, list = (size_t)list_of(p, shard, g, query);
    const head &h = p.heads[(size_t)(shard * p.s.G + g)];
    const float *q = &p.q[(size_t)(g * p.queries + query) * q_stride(p)];
    std::vector<float> x(D + 4);
    float *o = &x[RADAR_PARTIAL_O], &m = x[RADAR_PARTIAL_M], &l = x[RADAR_PARTIAL_L];
    m = x[D + 2] = -INFINITY;
    for (int64_t i = p.begin[list]; i < p.begin[list] + p.count[list]; i++) {
        const radar_item item = p.item[(size_t)i];
        const int64_t left = p.position[(size_t)query] - first_of(p, shard, item.segment);
        float s[16], top = m;
        bool any = false, on[16];
        for (int t = 0; t < 16; t++) {
            const float *k = &h.key[((size_t)item.segment * 16 + (size_t)t) * D];
            float chain[4] = {};
            any |= on[t] = (item.tokens >> t & 1) && t <= left;
            for (size_t d = 0; d < D; d++) chain[d % 4] = fmaf(q[d], k[d], chain[d % 4]);
            s[t] = on[t] ? ((chain[0] + chain[1]) + (chain[2] + chain[3])) * p.scale : -INFINITY;
            top = s[t] > top ? s[t] : top;
        }
        if (!any) continue;
        const float fade = exp_as_cpu(m - top);
        float r[4];
        for (int t = 0; t < 16; t++) s[t] = exp_as_cpu(s[t] - top);
        for (int j = 0; j < 4; j++)
            r[j] = (s[4 * j] + s[4 * j + 2]) + (s[4 * j + 1] + s[4 * j + 3]);
        l = l * fade + ((r[0] + r[2]) + (r[1] + r[3]));
        m = top;
        for (size_t d = 0; d < D; d++) o[d] *= fade;
        for (size_t t = 0; t < 16; t++)
            for (size_t d = 0; d < D && on[t]; d++)
                o[d] = fmaf(s[t], h.value[((size_t)item.segment * 16 + t) * D + d], o[d]);
    }
    return x;
}

static void plain_has_the_bits_of_the_cpu(void **) {
    for (radar_cuda_kv type : {RADAR_CUDA_KV_F32, RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16})
        for (int D : {16, 64, 96, 256}) {
            const problem p = make({type, D, 2, 1, 3, 2, 2, 1, 20}, 1);
            const std::vector<float> got = run(p, radar_cuda_attend_plain);
            for (int shard = 0; shard < 2; shard++)
                for (int query = 0; query < p.queries; query++) {
                    const std::vector<float> want = in_order_of_the_cpu(p, shard, 0, query);
                    assert_memory_equal(
                        &got[(size_t)(shard * p.queries + query) * partial_stride(p)], want.data(),
                        want.size() * sizeof(float));
                }
        }
}

static void what_it_cannot_do_is_refused(void **) {
    for (launch_function *launch : {radar_cuda_attend, radar_cuda_attend_plain}) {
        const radar_cuda_attend_args fits = {RADAR_CUDA_KV_F16, 64,     nullptr, 0, 4, 1, 2,
                                             nullptr,           nullptr};
        radar_cuda_attend_args a = fits;
        assert_int_equal(launch(&a, nullptr), 0); /* no tasks */
        a.D = 72, a.n_tasks = 1;
        assert_int_not_equal(launch(&a, nullptr), 0);
        a.D = 272;
        assert_int_not_equal(launch(&a, nullptr), 0);
        for (int splits : {0, 3, 64}) {
            a = fits, a.splits = splits;
            assert_int_not_equal(launch(&a, nullptr), 0);
        }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_head_size_agrees_with_doubles),
        cmocka_unit_test(rows_heads_and_lists_in_every_arrangement),
        cmocka_unit_test(many_splits_of_few_items),
        cmocka_unit_test(splits_are_merged_in_the_fixed_tree),
        cmocka_unit_test(a_thousand_queries_of_a_list),
        cmocka_unit_test(under_every_schedule),
        cmocka_unit_test(every_barrier_is_needed),
        cmocka_unit_test(bits_do_not_depend_on_neighbours),
        cmocka_unit_test(what_is_not_attended_leaves_no_trace),
        cmocka_unit_test(queries_of_any_size),
        cmocka_unit_test(scales_far_apart),
        cmocka_unit_test(all_segments_need_no_list),
        cmocka_unit_test(tasks_do_not_meet),
        cmocka_unit_test(plain_has_the_bits_of_the_cpu),
        cmocka_unit_test(what_it_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
