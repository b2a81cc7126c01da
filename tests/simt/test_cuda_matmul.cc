/* Prefill's products against sums in double of the dequantised weights, and the bits that must not change: with M, the other rows of x
 * and the cut into jobs. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>

#include "kernels/backend.h"
}
#include "tests/simt/dev.h"

#include "kernels/cuda/matmul.cu"
#include "kernels/cuda/round.cu"

#include "tests/simt/product_fixture.h"

/* Of the length of an output's terms, of which a thousand are met: 4 deviations of x rounded to 8 bits (BF16 weights) or 11, once; exact: to 16,
 * or 22. */
static double bound(int type, bool fast) {
    if (type == RADAR_BF16) return fast ? 0x1p-7 : 1e-5;
    return fast ? 0x1p-10 : 1e-6;
}

static int run(const std::vector<radar_matvec_job> &jobs, const input &x, int M, bool fast) {
    std::vector<uint4> work(radar_cuda_matmul_work(jobs.data(), (int)jobs.size(), M) / 16 + 1);
    memset((void *)work.data(), 0xff, work.size() * 16);
    return radar_cuda_matmul(jobs.data(), (int)jobs.size(), x.data(), x.stride, M,
                             fast ? RADAR_PRECISION_FAST : RADAR_PRECISION_EXACT, work.data(),
                             nullptr);
}

/* All rows, without bias: [M, rows]. */
static std::vector<float> whole(matrix &m, const input &x, int M, bool fast) {
    std::vector<float> out((size_t)M * (size_t)m.rows, NAN);
    assert_int_equal(run({job_of(m, 0, m.rows, out.data(), (size_t)m.rows, nullptr)}, x, M, fast),
                     0);
    return out;
}

/* The worst output's error, of the length of its terms; a NaN makes it infinite. */
static double miss_of(matrix &m, const input &x, int M, const std::vector<float> &out) {
    double worst = 0;
    for (int i = 0; i < M; i++) {
        const float *row = x.data() + (size_t)i * x.stride;
        const std::vector<double> own(row, row + m.cols);
        for (int r = 0; r < m.rows; r++) {
            const answer want = product_of_row(m, r, 0, own);
            const double miss =
                std::fabs((double)out[(size_t)(i * m.rows + r)] - want.sum) / want.size;
            worst = miss <= worst ? worst : miss == miss ? miss : INFINITY;
        }
    }
    return worst;
}

static void check(int type, int rows, int cols, int M, bool fast, size_t gap) {
    matrix m = make_matrix(type, rows, cols, 0, gap + (16 - bytes_of(type, cols) % 16) % 16);
    const input x = make_x(M, cols);
    const double miss = miss_of(m, x, M, whole(m, x, M, fast));
    if (!(miss < bound(type, fast)))
        print_message("type %d, %d x %d, M %d, fast %d: %g\n", type, rows, cols, M, fast, miss);
    assert_true(miss < bound(type, fast));
}

static void every_type_and_precision(void **) {
    for (int type : TYPES)
        for (int fast = 0; fast < 2; fast++) check(type, 70, 352, 67, fast, 0);
}

static void odd_sizes(void **) {
    for (int type : TYPES) {
        const bool q = quantised(type);
        check(type, 1, q ? 32 : 16, 1, true, 0);
        check(type, 3, q ? 64 : 48, 2, false, 32);
        check(type, 65, 160, 5, true, 16);
    }
    check(RADAR_BF16, 9, 80, 129, true, 0); /* one row in the second tile */
}

/* All skews of a row's blocks within 16-byte words, by the job's first column. */
static void any_first_column(void **) {
    for (int type : TYPES) {
        matrix m = make_matrix(type, 5, 352, 0, (16 - bytes_of(type, 352) % 16) % 16);
        const input x = make_x(3, 352);
        for (int begin = 0; begin < 320; begin += 32) {
            std::vector<float> out(15, NAN);
            radar_matvec_job j = job_of(m, 0, 5, out.data(), 5, nullptr);
            j.job.col_begin = begin, j.job.x_begin = 320 - begin;
            j.job.col_end = begin + 32;
            assert_int_equal(run({j}, x, 3, false), 0);
            for (int i = 0; i < 3; i++) {
                const float *row = x.data() + (size_t)i * x.stride + j.job.x_begin;
                for (int r = 0; r < 5; r++) {
                    const answer want =
                        product_of_row(m, r, begin, std::vector<double>(row, row + 32));
                    assert_true(std::fabs((double)out[(size_t)(i * 5 + r)] - want.sum) <=
                                1e-5 * want.size);
                }
            }
        }
    }
}

/* ---- bits ---- */

static void bits_do_not_depend_on_the_rows_beside(void **) {
    for (int type : TYPES)
        for (int fast = 0; fast < 2; fast++) {
            matrix m = make_matrix(type, 9, 128, 0, (16 - bytes_of(type, 128) % 16) % 16);
            input x = make_x(70, m.cols);
            const std::vector<float> all = whole(m, x, 70, fast);
            assert_memory_equal(whole(m, x, 3, fast).data(), all.data(), sizeof(float) * 27);
            float *v = (float *)x.memory.data();
            memmove(v, v + 69 * x.stride, x.stride * sizeof *v);
            v[x.stride] = INFINITY, v[2 * x.stride] = NAN, v[3 * x.stride] = 0x1p120f;
            const std::vector<float> other = whole(m, x, 5, fast);
            assert_memory_equal(other.data(), all.data() + 69 * 9, sizeof(float) * 9);
            assert_memory_equal(other.data() + 36, all.data() + 36, sizeof(float) * 9);
            for (int r = 9; r < 27; r++) assert_false(std::isfinite(other[(size_t)r]));
        }
}

static void bits_do_not_depend_on_the_cut(void **) {
    for (int type : TYPES) {
        matrix m = make_matrix(type, 70, 96, 0, (16 - bytes_of(type, 96) % 16) % 16);
        const input x = make_x(2, m.cols);
        const std::vector<float> want = whole(m, x, 2, false);
        std::vector<float> out(140, NAN);
        assert_int_equal(run({job_of(m, 0, 1, out.data(), 70, nullptr),
                              job_of(m, 1, 36, out.data() + 1, 70, nullptr),
                              job_of(m, 36, 70, out.data() + 36, 70, nullptr)},
                             x, 2, false),
                         0);
        assert_memory_equal(out.data(), want.data(), sizeof(float) * 140);
    }
}

/* ---- several jobs ---- */

static void jobs_of_different_kinds(void **) {
    matrix a = make_matrix(RADAR_Q4_0, 70, 256, 0, 0), b = make_matrix(RADAR_Q4_0, 6, 256, 0, 16);
    matrix c = make_matrix(RADAR_BF16, 7, 304, 0, 0), d = make_matrix(E4M3, 5, 304, 0, 0);
    const input x = make_x(2, 320);
    std::vector<float> bias;
    for (int i = 0; i < 70; i++) bias.push_back(draw(55, (uint64_t)i));
    std::vector<float> out(3 * 120, 77);
    std::vector<radar_matvec_job> jobs = {job_of(a, 2, 70, out.data(), 120, bias.data()),
                                          job_of(b, 0, 6, out.data() + 68, 120, bias.data()),
                                          job_of(b, 3, 3, out.data(), 120, nullptr),
                                          job_of(a, 0, 2, out.data() + 74, 120, nullptr),
                                          job_of(c, 1, 7, out.data() + 76, 120, bias.data()),
                                          job_of(d, 0, 5, out.data() + 82, 120, bias.data()),
                                          job_of(b, 0, 6, out.data() + 87, 120, bias.data())};
    for (size_t i = 0; i < 2; i++) jobs[i].job.x_begin = 64;
    jobs[3].job.col_begin = 128;
    jobs[4].job.x_begin = 4;
    jobs[5].job.x_begin = 8;
    jobs[6].job.col_begin = jobs[6].job.col_end = 32; /* no column: the bias */
    assert_int_equal(run(jobs, x, 2, false), 0);
    for (int m = 0; m < 3; m++) {
        for (size_t i = 0; m < 2 && i < jobs.size(); i++) {
            const radar_matmul_job &j = jobs[i].job;
            matrix &w = i == 0 || i == 3 ? a : i == 4 ? c : i == 5 ? d : b;
            const float *row = x.data() + (size_t)m * x.stride + j.x_begin;
            const std::vector<double> own(row, row + (j.col_end - j.col_begin));
            for (int64_t r = j.row_begin; r < j.row_end; r++) {
                const answer want = product_of_row(w, (int)r, (int)j.col_begin, own);
                const double sum = want.sum + (j.bias ? (double)j.bias[r] : 0);
                const double got = (double)j.out[m * 120 + (r - j.row_begin)];
                assert_true(std::fabs(got - sum) <= 1e-5 * (want.size + std::fabs(sum)));
            }
        }
        for (int i = m < 2 ? 93 : 0; i < 120; i++) assert_true(out[(size_t)(m * 120 + i)] == 77);
    }
}

static void many_jobs(void **) {
    matrix m = make_matrix(RADAR_Q4_1, 40, 64, 0, 8);
    const input x = make_x(1, 64);
    const std::vector<float> want = whole(m, x, 1, true);
    std::vector<float> out(40, NAN);
    std::vector<radar_matvec_job> jobs;
    for (int r = 0; r < 40; r += 2) jobs.push_back(job_of(m, r, r + 2, out.data() + r, 2, nullptr));
    assert_int_equal(run(jobs, x, 1, true), 0);
    assert_memory_equal(out.data(), want.data(), sizeof(float) * 40);
}

/* ---- numbers at the edge ---- */

/* Rows of tiny, huge and mixed numbers count with their own bits. */
static void rows_of_any_size(void **) {
    for (int type : TYPES)
        for (float size : {0x1p-100f, 0x1p-30f, 0x1p20f, 0x1p90f}) {
            matrix m = make_matrix(type, 4, 64, 0, (16 - bytes_of(type, 64) % 16) % 16);
            input x = make_x(2, 64);
            float *v = (float *)x.memory.data();
            for (int i = 0; i < 64; i++) v[i] *= i % 3 ? size : size * 0x1p-6f;
            for (int fast = 0; fast < 2; fast++)
                assert_true(miss_of(m, x, 2, whole(m, x, 2, fast)) < bound(type, fast));
            memset(v, 0, 64 * sizeof *v);
            const std::vector<float> zero = whole(m, x, 2, true);
            for (int r = 0; r < 4; r++) assert_true(zero[(size_t)r] == 0);
        }
}

static void nothing_to_do_and_refusals(void **) {
    matrix m = make_matrix(RADAR_Q4_0, 4, 64, 0, 12), f = make_matrix(RADAR_F32, 1, 64, 0, 0),
           odd = make_matrix(RADAR_BF16, 2, 40, 0, 0), skew = make_matrix(RADAR_BF16, 2, 64, 4, 0);
    const input x = make_x(2, 64);
    std::vector<float> out(8, 5);
    radar_matvec_job j = job_of(m, 0, 4, out.data(), 4, nullptr);
    assert_int_equal(run({j}, x, 0, true), 0);
    assert_int_equal(run({}, x, 1, true), 0);
    assert_int_equal(run({job_of(m, 2, 2, out.data(), 4, nullptr)}, x, 1, true), 0);
    for (matrix *w : {&f, &odd, &skew}) {
        const radar_matvec_job bad = job_of(*w, 0, 1, out.data(), 4, nullptr);
        assert_false(radar_cuda_matmul_takes(&bad));
        assert_int_equal(run({bad}, x, 1, true), cudaErrorInvalidValue);
    }
    j.job.col_begin = 8;
    assert_int_equal(run({j}, x, 1, true), cudaErrorInvalidValue);
    j.job.col_begin = 0, j.job.x_begin = 2;
    assert_int_equal(run({j}, x, 1, true), cudaErrorInvalidValue);
    for (float y : out) assert_true(y == 5);
}

/* ---- schedules ---- */

/* Enough chunks that the stages come round, and rows that other warps copy than multiply. */
static void right_under_all_schedules(void **) {
    for (int type : {(int)RADAR_Q4_1, (int)RADAR_BF16}) {
        matrix m = make_matrix(type, 18, 256, 0, 0);
        const input x = make_x(20, m.cols);
        auto right = [&] { return miss_of(m, x, 20, whole(m, x, 20, true)) < bound(type, true); };
        assert_true(right_always(right, 4));
        assert_true(idle_barriers(right, 6).empty());
    }
}

/* The row's largest number lies with the last warp, and what is lost with another's factor is half of it. */
static void rounding_waits_for_all_warps(void **) {
    input x = make_x(1, 1024);
    ((float *)x.memory.data())[1000] = 0x1p20f;
    std::vector<uint4> to(1024 * 4 / 16);
    std::vector<float> back(1), sums(32);
    radar_cuda_halves h = {};
    h.x = x.data(), h.x_stride = x.stride, h.M = 1, h.columns = 1024, h.rows = 1;
    h.to = (uint16_t *)to.data(), h.chunk_stride = 32, h.row_stride = 1024, h.part_stride = 1024;
    h.back = back.data(), h.sums = sums.data();
    auto right = [&] {
        memset((void *)to.data(), 0xff, to.size() * 16);
        if (radar_cuda_round(&h, true, 2, nullptr) != 0) return false;
        const uint16_t *part = (const uint16_t *)to.data();
        for (int c = 0; c < 1024; c++) {
            const double sum =
                (double)dev_f16_to_f32(part[c]) + (double)dev_f16_to_f32(part[1024 + c]);
            if (!(std::fabs(sum * (double)back[0] - (double)x.data()[c]) <= 0x1p-17)) return false;
        }
        for (int b = 0; b < 32; b++) {
            double sum = 0;
            for (int i = 0; i < 32; i++) sum += (double)x.data()[32 * b + i];
            if (!(std::fabs((double)sums[(size_t)b] * 0x1p24 * (double)back[0] - sum) <=
                  1e-3 + 1e-6 * std::fabs(sum)))
                return false;
        }
        return back[0] == 0x1p7f;
    };
    assert_true(right_always(right, 4));
    assert_true(idle_barriers(right, 8).empty());
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_precision),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(any_first_column),
        cmocka_unit_test(bits_do_not_depend_on_the_rows_beside),
        cmocka_unit_test(bits_do_not_depend_on_the_cut),
        cmocka_unit_test(jobs_of_different_kinds),
        cmocka_unit_test(many_jobs),
        cmocka_unit_test(rows_of_any_size),
        cmocka_unit_test(nothing_to_do_and_refusals),
        cmocka_unit_test(rounding_waits_for_all_warps),
        cmocka_unit_test(right_under_all_schedules),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
