/* Decode products against sums in double of the dequantised weights, against the CPU's matmul, and the bits that must not change: with
 * M, the cut into jobs, the device's size and where the weights lie. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/matmul.h"
}
#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

#include "kernels/cuda/matvec.cu"

#include "tests/simt/product_fixture.h"

static constexpr size_t H200 = 227 << 10;

/* ---- references ---- */

/* x as the fast path rounds it, in double; per 32 columns from the first on. */
static std::vector<double> rounded_x(int type, const float *x, int cols, bool fast) {
    std::vector<double> y(x, x + cols);
    if (!fast || type == RADAR_F16 || type == E4M3) return y;
    for (int c = 0; c < cols; c++)
        if (type == RADAR_BF16) y[(size_t)c] = dev_bf16_to_f32(dev_f32_to_bf16(x[c]));
    if (type == RADAR_BF16) return y;
    for (int b = 0; b < cols; b += 32) {
        float max = 0;
        for (int i = 0; i < 32; i++) max = std::fmax(max, std::fabs(x[b + i]));
        const float dx = max / 127;
        for (int i = 0; i < 32; i++)
            y[(size_t)(b + i)] =
                max < 0x1p-100f ? 0 : (double)dx * std::nearbyint(x[b + i] * (127 / max));
    }
    return y;
}

/* ---- one product ---- */

struct device_of {
    int multiprocessors;
    size_t shared;
};

static int run(const std::vector<radar_matvec_job> &jobs, const input &x, int M, bool fast,
               device_of d) {
    const radar_matvec_device device = {d.multiprocessors, d.shared};
    return radar_cuda_matvec(jobs.data(), (int)jobs.size(), x.data(), x.stride, M,
                             fast ? RADAR_PRECISION_FAST : RADAR_PRECISION_EXACT, &device, nullptr);
}

/* All rows, without bias: [M, rows]. */
static std::vector<float> whole(matrix &m, const input &x, int M, bool fast, device_of d) {
    std::vector<float> out((size_t)M * (size_t)m.rows, NAN);
    assert_int_equal(
        run({job_of(m, 0, m.rows, out.data(), (size_t)m.rows, nullptr)}, x, M, fast, d), 0);
    return out;
}

/* The worst output's error; a NaN makes it infinite. */
static double miss_of(matrix &m, const input &x, int M, bool fast, const std::vector<float> &out) {
    double worst = 0;
    for (int i = 0; i < M; i++) {
        const std::vector<double> rounded =
            rounded_x(m.type, x.data() + (size_t)i * x.stride, m.cols, fast);
        for (int r = 0; r < m.rows; r++) {
            const answer want = product_of_row(m, r, 0, rounded);
            const double miss =
                std::fabs((double)out[(size_t)(i * m.rows + r)] - want.sum) / want.size;
            worst = miss <= worst ? worst : miss == miss ? miss : INFINITY;
        }
    }
    return worst;
}

/* Sums of f32 in 32 lanes and a tree: a few half steps of 2^-24 of the length of the terms. */
static constexpr double CLOSE = 1e-6;

static void check(int type, int rows, int cols, int M, bool fast, size_t skew, size_t gap,
                  device_of d) {
    matrix m = make_matrix(type, rows, cols, skew, gap);
    const input x = make_x(M, cols);
    const double miss = miss_of(m, x, M, fast, whole(m, x, M, fast, d));
    if (!(miss < CLOSE))
        print_message("type %d, %d x %d, M %d, fast %d: %g\n", type, rows, cols, M, fast, miss);
    assert_true(miss < CLOSE);
}

static void every_type_and_number_of_rows(void **) {
    for (int type : TYPES)
        for (int fast = 0; fast < 2; fast++)
            for (int M : {1, 2, 3, 5, 8}) check(type, 5, 1056, M, fast, 0, 0, {1, H200});
}

static void odd_sizes(void **) {
    for (int type : TYPES) {
        const bool q = quantised(type);
        for (int cols : {1, 5, 32, 250, 1027, 2080}) {
            if (!q && cols != 32) check(type, 3, cols, 1, true, 0, 0, {2, H200});
            if (q && cols % 32 == 0) check(type, 3, cols, 2, true, 0, 0, {2, H200});
        }
        check(type, 1, q ? 96 : 99, 1, true, 0, 0, {3, H200});
        check(type, 70, 64, 1, true, 0, 0,
              {1, H200}); /* several rounds of tasks, and all 16 warps */
    }
}

static void any_alignment(void **) {
    for (int type : TYPES)
        for (size_t skew = 0; skew < 16; skew++) {
            const size_t step = type == E4M3 ? 1 : type == RADAR_Q4_1 ? 4 : 2;
            if (skew % step == 0)
                check(type, skew % 8 < 4 ? 5 : 19, 544, 1, skew % 4 < 2, skew, step * (skew % 3),
                      {1, H200});
        }
}

/* ---- the CPU ---- */

static std::vector<float> cpu_product(matrix &m, const input &x, int M, bool fast) {
    const radar_backend_options opt = {
        1,    fast ? RADAR_PRECISION_FAST : RADAR_PRECISION_EXACT, nullptr, 8, 4096, 0, 0, false,
        false};
    radar_backend *be = nullptr;
    radar_error err = {};
    assert_int_equal(radar_backend_cpu->open(&be, &opt, &err), RADAR_OK);
    std::vector<float> out((size_t)M * (size_t)m.rows);
    const radar_matvec_job j = job_of(m, 0, m.rows, out.data(), (size_t)m.rows, nullptr);
    be->ops->matmul(be, &j.job, 1, x.data(), x.stride, M);
    be->ops->close(be);
    return out;
}

static void the_cpu_agrees(void **) {
    for (int type : TYPES)
        for (int fast = 0; fast < 2; fast++) {
            if (type == E4M3) continue;
            if (type == RADAR_BF16 && fast)
                continue; /* there x is rounded where the processor can */
            matrix m = make_matrix(type, 19, 1344, 0, 0);
            const input x = make_x(4, m.cols);
            const std::vector<float> cpu = cpu_product(m, x, 4, fast);
            const std::vector<double> want(cpu.begin(), cpu.end());
            const std::vector<float> got = whole(m, x, 4, fast, {2, H200});
            assert_true(relative_error(got.data(), want.data(), want.size()) < CLOSE);
        }
}

/* ---- bits ---- */

static size_t ring_of(int type) {
    return type == RADAR_Q8_0   ? ring_bytes<unit_q8_0, 2>
           : type == RADAR_Q4_0 ? ring_bytes<unit_q4_0, 4>
           : type == RADAR_Q4_1 ? ring_bytes<unit_q4_1, 4>
                                : ring_bytes<unit_bf16, 4>;
}

static void bits_do_not_depend_on_the_rows_of_x(void **) {
    for (int type : TYPES)
        for (int fast = 0; fast < 2; fast++) {
            matrix m = make_matrix(type, 9, 1120, 0, 0);
            const input x = make_x(8, m.cols);
            const std::vector<float> alone = whole(m, x, 1, fast, {2, H200});
            for (int M : {2, 4, 8}) {
                const std::vector<float> all = whole(m, x, M, fast, {2, H200});
                assert_memory_equal(all.data(), alone.data(), sizeof(float) * 9);
            }
        }
}

static void bits_do_not_depend_on_place_device_and_cut(void **) {
    for (int type : TYPES) {
        matrix m = make_matrix(type, 70, 2112, 0, 0), moved = make_matrix(type, 70, 2112, 4, 8);
        const input x = make_x(1, m.cols);
        const std::vector<float> want = whole(m, x, 1, true, {7, H200});
        auto same = [&](const std::vector<float> &got) {
            assert_memory_equal(got.data(), want.data(), sizeof(float) * 70);
        };
        same(whole(m, x, 1, true, {1, H200}));
        same(whole(moved, x, 1, true, {2, H200}));
        same(whole(m, x, 1, true, {2, ring_of(type) + (8 << 10)})); /* x in tiles */
        std::vector<float> cut(70, NAN);
        same((assert_int_equal(run({job_of(m, 0, 1, cut.data(), 1, nullptr),
                                    job_of(m, 1, 36, cut.data() + 1, 1, nullptr),
                                    job_of(m, 36, 70, cut.data() + 36, 1, nullptr)},
                                   x, 1, true, {2, H200}),
                               0),
              cut));
    }
}

static void x_in_tiles_is_right(void **) {
    for (int type : TYPES)
        for (int M : {1, 3}) {
            const size_t room = (size_t)kernel_rows(M) * (type == RADAR_BF16 ? 512
                                                          : type == E4M3     ? 2048
                                                          : quantised(type)  ? 1280
                                                                             : 1024);
            const size_t ring = ring_of(type);
            check(type, 70, 2112, M, true, 0, 0, {1, ring + 2 * room + 100});
        }
}

/* ---- several jobs ---- */

static void jobs_of_different_kinds(void **) {
    matrix a = make_matrix(RADAR_Q4_0, 13, 256, 0, 0), b = make_matrix(RADAR_Q4_0, 6, 256, 2, 0);
    matrix c = make_matrix(RADAR_BF16, 7, 300, 0, 0), d = make_matrix(E4M3, 5, 300, 0, 0);
    const input x = make_x(2, 320);
    std::vector<float> bias;
    for (int i = 0; i < 16; i++) bias.push_back(draw(55, (uint64_t)i));
    std::vector<float> out(4 * 40, 77);
    std::vector<radar_matvec_job> jobs = {job_of(a, 2, 13, out.data(), 40, bias.data()),
                                          job_of(a, 0, 2, out.data() + 11, 40, nullptr),
                                          job_of(b, 0, 6, out.data() + 13, 40, bias.data()),
                                          job_of(c, 1, 7, out.data() + 19, 40, bias.data()),
                                          job_of(d, 0, 5, out.data() + 25, 40, bias.data()),
                                          job_of(b, 3, 3, out.data(), 40, nullptr),
                                          job_of(b, 0, 6, out.data() + 30, 40, bias.data())};
    jobs[0].job.col_begin = 64, jobs[0].job.x_begin = 96; /* 192 columns */
    jobs[1].job.col_end = 128;
    jobs[2].job.x_begin = 64;
    jobs[3].job.x_begin = 4; /* 300 columns, which the next shares from elsewhere */
    jobs[4].job.x_begin = 8;
    jobs[6].job.col_begin = jobs[6].job.col_end = 32; /* no column: the bias */
    assert_int_equal(run(jobs, x, 2, true, {2, H200}), 0);
    for (int m = 0; m < 2; m++) {
        for (size_t i = 0; i < jobs.size(); i++) {
            const radar_matmul_job &j = jobs[i].job;
            matrix &w = i < 2 ? a : i == 3 ? c : i == 4 ? d : b;
            const int columns = (int)(j.col_end - j.col_begin);
            const std::vector<double> xs =
                rounded_x(w.type, x.data() + (size_t)m * x.stride + j.x_begin, columns, true);
            for (int64_t r = j.row_begin; r < j.row_end; r++) {
                const double want = product_of_row(w, (int)r, (int)j.col_begin, xs).sum +
                                    (j.bias ? (double)j.bias[r] : 0);
                const double got = (double)j.out[m * 40 + (r - j.row_begin)];
                assert_true(std::fabs(got - want) <= 2e-5);
            }
        }
        for (int i = 36; i < 40; i++) assert_true(out[(size_t)(m * 40 + i)] == 77);
    }
    for (size_t i = 80; i < out.size(); i++) assert_true(out[i] == 77);
}

static void many_jobs(void **) {
    matrix m = make_matrix(RADAR_Q4_1, 40, 64, 0, 0);
    const input x = make_x(1, 64);
    const std::vector<float> want = whole(m, x, 1, true, {2, H200});
    std::vector<float> out(40, NAN);
    std::vector<radar_matvec_job> jobs;
    for (int r = 0; r < 40; r += 2) jobs.push_back(job_of(m, r, r + 2, out.data() + r, 2, nullptr));
    assert_int_equal(run(jobs, x, 1, true, {2, H200}), 0);
    assert_memory_equal(out.data(), want.data(), sizeof(float) * 40);
}

/* ---- numbers at the edge ---- */

static void odd_numbers_in_x(void **) {
    for (int type : TYPES) {
        matrix m = make_matrix(type, 3, 128, 0, 0);
        input x = make_x(1, 128);
        float *v = (float *)x.memory.data();
        for (int i = 32; i < 64; i++) v[i] = (float)i * 0x1p-110f; /* less than counts */
        for (int i = 64; i < 96; i++) v[i] = 0;
        assert_true(miss_of(m, x, 1, true, whole(m, x, 1, true, {1, H200})) < CLOSE);
        for (float bad : {(float)NAN, (float)INFINITY, (float)-INFINITY}) {
            v[40] = bad;
            for (float y : whole(m, x, 1, true, {1, H200}))
                assert_true(quantised(type) || bad != bad ? y != y : !std::isfinite(y));
        }
    }
}

static void nothing_to_do_and_refusals(void **) {
    matrix m = make_matrix(RADAR_Q4_0, 4, 64, 0, 0), f = make_matrix(RADAR_F32, 1, 64, 0, 0);
    const input x = make_x(2, 64);
    std::vector<float> out(8, 5);
    radar_matvec_job j = job_of(m, 0, 4, out.data(), 4, nullptr);
    assert_int_equal(run({j}, x, 0, true, {1, H200}), 0);
    assert_int_equal(run({}, x, 1, true, {1, H200}), 0);
    assert_int_equal(run({job_of(m, 2, 2, out.data(), 4, nullptr)}, x, 1, true, {1, H200}), 0);
    assert_int_equal(run({j}, x, 9, true, {1, H200}), cudaErrorInvalidValue);
    assert_int_equal(run({j}, x, 1, true, {1, 48 << 10}), cudaErrorInvalidValue);
    assert_int_equal(run({job_of(f, 0, 1, out.data(), 4, nullptr)}, x, 1, true, {1, H200}),
                     cudaErrorInvalidValue);
    j.job.col_begin = 8;
    assert_int_equal(run({j}, x, 1, true, {1, H200}), cudaErrorInvalidValue);
    j.job.col_begin = 0, j.job.x_begin = 2;
    assert_int_equal(run({j}, x, 1, true, {1, H200}), cudaErrorInvalidValue);
    for (float y : out) assert_true(y == 5);
}

/* ---- schedules ---- */

/* The rows begin beside 16-byte words, or a lane of the float types would read what it copied itself. */
static void right_under_all_schedules(void **) {
    for (int type : {(int)RADAR_Q4_1, (int)RADAR_BF16}) {
        matrix m = make_matrix(type, 70, 2112, 4, 0);
        const input x = make_x(1, m.cols);
        const device_of small = {1, ring_of(type) + (2 << 10)}; /* x in tiles */
        auto right = [&] { return miss_of(m, x, 1, true, whole(m, x, 1, true, small)) < CLOSE; };
        assert_true(right_always(right, 4));
        assert_true(idle_barriers(right, 6).empty());
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_number_of_rows),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(any_alignment),
        cmocka_unit_test(the_cpu_agrees),
        cmocka_unit_test(bits_do_not_depend_on_the_rows_of_x),
        cmocka_unit_test(bits_do_not_depend_on_place_device_and_cut),
        cmocka_unit_test(x_in_tiles_is_right),
        cmocka_unit_test(jobs_of_different_kinds),
        cmocka_unit_test(many_jobs),
        cmocka_unit_test(odd_numbers_in_x),
        cmocka_unit_test(nothing_to_do_and_refusals),
        cmocka_unit_test(right_under_all_schedules),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
