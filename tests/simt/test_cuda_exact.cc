/* The scorer `exact` on CUDA: every kind of key, range, list and number of queries, against double. */
#include <algorithm>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}

#include "tests/simt/dev.h"

#include "kernels/cuda/exact.cu"
#include "tests/simt/scoring.h"

static const radar_cuda_kv all_types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_FP8,
                                          RADAR_CUDA_KV_F32};

/* Keys of one KV head, as they are stored and as they are meant. */
struct keys {
    radar_cuda_kv type;
    int D, segments;
    device_memory<char> stored;
    device_memory<float> scale; /* of tokens */
    std::vector<double> value;

    keys(radar_cuda_kv kv, int size, int S, float spread)
        : type(kv), D(size), segments(S), stored((size_t)(S * size * 16) * number_bytes(kv)),
          scale((size_t)(S * 16)), value((size_t)(S * size * 16)) {
        for (size_t i = 0; i < scale.n; i++) scale[i] = 0.01f * (1 + std::fabs(draw(6, i)));
        for (size_t i = 0; i < value.size(); i++)
            value[i] = (double)store_number(type, stored.p, i, spread * draw(5, i),
                                            scale[i / (size_t)(16 * D) * 16 + i % 16]);
    }
    double reference(const float *q, int segment) const {
        double s[16], m = -INFINITY, sum = 0;
        for (int t = 0; t < 16; t++) {
            s[t] = 0;
            for (int d = 0; d < D; d++)
                s[t] += (double)q[d] * value[(size_t)((segment * D + d) * 16 + t)];
            s[t] /= std::sqrt((double)D);
            m = std::fmax(m, s[t]);
        }
        for (int t = 0; t < 16; t++) sum += std::exp(s[t] - m);
        return m + std::log(sum);
    }
};

/* What a task scores: of a range, those of the list, if it has one. */
struct part {
    int n_query, begin, end;
    std::vector<int32_t> listed;
    bool has_list;
};

/* A call: its tasks' queries and scores, with room beside them. */
struct call {
    const keys &k;
    std::vector<part> parts;
    std::vector<std::vector<float>> query, score;
    std::vector<int32_t> n_listed;
    std::vector<radar_cuda_exact_task> task;
    radar_cuda_exact_args args;

    call(const keys &of, const std::vector<part> &p, int most, float size) : k(of), parts(p) {
        int queries = 0;
        for (size_t i = 0; i < parts.size(); i++) {
            queries = std::max(queries, parts[i].n_query);
            query.emplace_back((size_t)(parts[i].n_query * k.D));
            score.emplace_back((size_t)parts[i].n_query * stride(i));
            n_listed.push_back((int32_t)parts[i].listed.size());
            parts[i].listed.push_back(1 << 30); /* behind the list: read by nobody */
            for (size_t d = 0; d < query[i].size(); d++) query[i][d] = size * draw(70 + i, d);
        }
        for (size_t i = 0; i < parts.size(); i++)
            task.push_back({k.stored.p, k.type == RADAR_CUDA_KV_FP8 ? k.scale.p : nullptr,
                            query[i].data(), parts[i].n_query, parts[i].begin, parts[i].end,
                            parts[i].has_list ? parts[i].listed.data() : nullptr,
                            parts[i].has_list ? &n_listed[i] : nullptr, score[i].data(),
                            stride(i)});
        args = {k.type, k.D, queries, most, task.data(), (int)task.size()};
    }
    size_t stride(size_t i) const { return (size_t)(parts[i].end - parts[i].begin) + 3; }
    bool wants(size_t i, int segment) const {
        const part &p = parts[i];
        if (!p.has_list) return segment < p.end;
        return std::find(p.listed.begin(), p.listed.end(), segment) != p.listed.end();
    }
    bool task_right(size_t i, double tol) const {
        for (int j = 0; j < parts[i].n_query; j++)
            for (size_t at = 0; at < stride(i); at++) {
                const int segment = parts[i].begin + (int)at;
                const float got = score[i][(size_t)j * stride(i) + at];
                const double want =
                    wants(i, segment) ? k.reference(&query[i][(size_t)(j * k.D)], segment) : 77;
                if (same_number(got, (float)want, want == 77 ? 0 : tol)) continue;
                if (!simt::opt.drop_barrier)
                    print_error("type %d D %d: task %zu query %d segment %d: %.9g, exact %.9g\n",
                                k.type, k.D, i, j, segment, (double)got, want);
                return false;
            }
        return true;
    }
    bool right(double tol) {
        for (auto &s : score) std::fill(s.begin(), s.end(), 77.0f);
        if (radar_cuda_exact_score(&args, nullptr)) return false;
        for (size_t i = 0; i < parts.size(); i++)
            if (!task_right(i, tol)) return false;
        return true;
    }
};

static part range(int n_query, int begin, int end) { return {n_query, begin, end, {}, false}; }

/* ---- scores ---- */

static void every_type_and_size(void **) {
    for (radar_cuda_kv type : all_types)
        for (int D : {16, 64, 80, 112, 128, 144, 256}) {
            keys k(type, D, 12, 1.5f);
            assert_true(call(k, {range(8, 0, 12), range(3, 2, 7)}, 12, 1).right(1e-5));
            assert_true(call(k, {range(4, 0, 12)}, 12, 1).right(1e-5));
        }
}

static void any_number_of_queries(void **) {
    keys k(RADAR_CUDA_KV_F16, 64, 9, 1.5f);
    for (int n = 1; n <= RADAR_CUDA_EXACT_QUERIES; n++)
        assert_true(call(k, {range(n, 0, 9)}, 9, 1).right(1e-5));
}

static void listed_segments_alone(void **) {
    for (radar_cuda_kv type : all_types) {
        keys k(type, 80, 40, 1.5f);
        const part some = {5, 3, 40, {39, 4, 3, 17, 20, 8, 33, 5, 6, 30, 38}, true},
                   none = {2, 3, 40, {}, true};
        assert_true(call(k, {some, none, range(1, 7, 7)}, 40, 1).right(1e-5));
    }
}

/* The same bits, whatever is beside a query and however many blocks there are. */
static void the_grid_and_the_neighbours_change_nothing(void **) {
    keys k(RADAR_CUDA_KV_BF16, 128, 60, 1.5f);
    call one(k, {range(3, 0, 60)}, 1, 1), all(k, {range(3, 0, 60), range(8, 4, 9)}, 6000, 1);
    assert_true(right_always([&] { return one.right(1e-5); }, 3));
    assert_true(all.right(1e-5));
    assert_memory_equal(one.score[0].data(), all.score[0].data(),
                        one.score[0].size() * sizeof(float));
}

static void huge_logits(void **) {
    keys k(RADAR_CUDA_KV_F32, 64, 6, 40);
    assert_true(call(k, {range(4, 0, 6)}, 6, 100).right(0.05)); /* 2^-24 of sums of 10^5 */
    store_number(k.type, k.stored.p, 5, INFINITY, 1);
    call c(k, {range(2, 0, 6)}, 6, 1);
    c.query[0][0] = 1, c.query[0][64] = -1;
    assert_int_equal(radar_cuda_exact_score(&c.args, nullptr), 0);
    assert_true(c.score[0][0] != c.score[0][0] && std::isfinite(c.score[0][1]));
    assert_true(std::isfinite(c.score[0][c.stride(0)])); /* -inf: a token that counts nothing */
}

static void a_query_that_is_no_number_spoils_itself_alone(void **) {
    keys k(RADAR_CUDA_KV_F16, 64, 6, 1);
    call c(k, {range(3, 0, 6)}, 6, 1);
    c.query[0][64 + 9] = NAN;
    assert_int_equal(radar_cuda_exact_score(&c.args, nullptr), 0);
    for (size_t j = 0; j < 3; j++)
        for (size_t i = 0; i < 6; i++)
            assert_true(std::isnan(c.score[0][j * c.stride(0) + i]) == (j == 1));
}

static void no_tasks_and_wrong_ones(void **) {
    const radar_cuda_exact_args none = {RADAR_CUDA_KV_F16, 64, 1, 10, nullptr, 0},
                                size = {RADAR_CUDA_KV_F16, 72, 1, 10, nullptr, 1},
                                many = {RADAR_CUDA_KV_F16, 64, 9, 10, nullptr, 1};
    assert_int_equal(radar_cuda_exact_score(&none, nullptr), 0);
    assert_int_equal(radar_cuda_exact_score(&size, nullptr), cudaErrorInvalidValue);
    assert_int_equal(radar_cuda_exact_score(&many, nullptr), cudaErrorInvalidValue);
}

static void every_barrier_is_needed(void **) {
    keys k(RADAR_CUDA_KV_F16, 64, 24, 1.5f);
    call c(k, {range(5, 0, 24)}, 24, 1);
    const auto run = [&] { return c.right(1e-5); };
    assert_true(right_always(run, 6));
    assert_true(idle_barriers(run, 12).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_size),
        cmocka_unit_test(any_number_of_queries),
        cmocka_unit_test(listed_segments_alone),
        cmocka_unit_test(the_grid_and_the_neighbours_change_nothing),
        cmocka_unit_test(huge_logits),
        cmocka_unit_test(a_query_that_is_no_number_spoils_itself_alone),
        cmocka_unit_test(no_tasks_and_wrong_ones),
        cmocka_unit_test(every_barrier_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
