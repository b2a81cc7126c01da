/* Products by cuBLAS, which is the fake one, on the queue with the fake runtime: what it is asked for, and what comes of it. */
#include "tests/simt/fake/fake.h"
#include "tests/simt/dev.h"

#include <csetjmp> /* what cmocka.h needs */
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <string>

extern "C" {
#include <cmocka.h>

#include "kernels/backend.h"
#include "tests/simt/fake/cublas.h"
}
#include "kernels/cuda/blas_unite.cu"
#include "kernels/cuda/matmul.cu"
#include "kernels/cuda/round.cu"

#include "tests/simt/product_fixture.h"

static constexpr int ROWS = 83, COLUMNS = 80, M = 5,
                     WIDE = 96; /* WIDE: numbers of an output's row */

static std::string library; /* path */

static fake_cublas_counts &counts() {
    void *there = dlopen(library.c_str(), RTLD_NOW);
    return *static_cast<fake_cublas_counts *>(dlsym(there, "fake_cublas"));
}

/* A queue, its cuBLAS, and a matrix and x on the device. */
struct world {
    radar_cuda_queue *q = nullptr;
    radar_cuda_blas *blas = nullptr;
    matrix m;
    input x;
    radar_matrix w; /* on the device */
    float *x_there = nullptr, *out = nullptr, *bias = nullptr;
    std::vector<float> bias_here;

    explicit world(int type) : m(make_matrix(type, ROWS, COLUMNS, 0, 0)), x(make_x(M, COLUMNS)) {
        const radar_cuda_queue_options opt = {0, true, 0};
        radar_error err = {};
        assert_int_equal(radar_cuda_queue_open(&q, &opt, &err), RADAR_OK);
        blas = radar_cuda_blas_open(q);
        w = m.w;
        w.data = there(m.w.data, ROWS * m.w.row_bytes);
        x_there = static_cast<float *>(there(x.data(), M * x.stride * sizeof(float)));
        out = static_cast<float *>(radar_cuda_alloc(q, M * WIDE * sizeof *out));
        for (int i = 0; i < ROWS; i++) bias_here.push_back(draw(55, (uint64_t)i));
        bias = static_cast<float *>(there(bias_here.data(), ROWS * sizeof(float)));
        counts().products = 0;
    }
    ~world() {
        radar_cuda_blas_close(blas);
        radar_cuda_queue_close(q);
    }
    world(const world &) = delete;
    void *there(const void *from, size_t bytes) {
        void *to = radar_cuda_alloc(q, bytes);
        radar_cuda_upload(q, to, from, bytes);
        return to;
    }
    radar_status wait() {
        radar_error err = {};
        return radar_cuda_wait(q, &err);
    }
    radar_cuda_blas_job job(int64_t begin, int64_t end, int64_t slices) {
        radar_cuda_blas_job j = {};
        j.slices = {ROWS, 16, slices};
        j.job.job.w = &w;
        j.job.job.row_begin = begin, j.job.job.row_end = end;
        j.job.job.col_end = COLUMNS;
        j.job.job.bias = bias;
        j.job.job.out = out + begin, j.job.job.out_stride = WIDE;
        return j;
    }
    int multiply(const radar_cuda_blas_job &j) {
        void *work = radar_cuda_scratch(q, 0, radar_cuda_blas_work(&j, M));
        return radar_cuda_blas_multiply(blas, &j, x_there, x.stride, M, work, q);
    }
    std::vector<float> result() {
        std::vector<float> y(M * WIDE);
        radar_cuda_fetch(q, y.data(), out, y.size() * sizeof(float));
        assert_int_equal(wait(), RADAR_OK);
        return y;
    }
};

static void check(world &w, const std::vector<float> &got) {
    const double bound = w.m.type == RADAR_BF16 ? 0x1p-7 : 0x1p-10;
    for (int i = 0; i < M; i++) {
        const float *row = w.x.data() + (size_t)i * w.x.stride;
        const std::vector<double> own(row, row + COLUMNS);
        for (int r = 0; r < ROWS; r++) {
            const answer want = product_of_row(w.m, r, 0, own);
            const double sum = want.sum + (double)w.bias_here[(size_t)r];
            const double miss = std::fabs((double)got[(size_t)(i * WIDE + r)] - sum);
            if (!(miss <= bound * want.size)) fail_msg("row %d of x, %d of w: %g", i, r, miss);
        }
        for (int r = ROWS; r < WIDE; r++) assert_true(got[(size_t)(i * WIDE + r)] == 0);
    }
}

static void both_types_are_right(void **) {
    for (int type : {(int)RADAR_BF16, (int)RADAR_F16}) {
        world w(type);
        assert_non_null(w.blas);
        assert_int_equal(w.multiply(w.job(0, ROWS, 1)), 0);
        check(w, w.result());
        assert_int_equal(counts().products, 1);
    }
}

/* 6 blocks of 16 rows in 4 slices: they end with rows 16, 48, 64 and 83. */
static void shapes_do_not_follow_from_the_rank(void **) {
    world w(RADAR_BF16);
    assert_int_equal(w.multiply(w.job(0, ROWS, 4)), 0);
    const std::vector<float> alone = w.result();
    check(w, alone);
    assert_int_equal(counts().products, 4);
    radar_cuda_clear(w.q, w.out, M * WIDE * sizeof(float));
    for (int64_t begin = 0, end; begin < ROWS; begin = end) {
        end = begin == 0 ? 48 : ROWS; /* two ranks */
        assert_int_equal(w.multiply(w.job(begin, end, 4)), 0);
    }
    const std::vector<float> two = w.result();
    assert_int_equal(counts().products, 8);
    const int rows[] = {16, 32, 16, 19};
    for (int i = 0; i < 8; i++) {
        const fake_cublas_shape s = counts().shape[i];
        assert_true(s.m == rows[i % 4] && s.n == M && s.k == COLUMNS);
    }
    assert_memory_equal(alone.data(), two.data(), alone.size() * sizeof(float));
}

/* More slices than blocks: some are empty. */
static void empty_slices(void **) {
    world w(RADAR_F16);
    assert_int_equal(w.multiply(w.job(0, ROWS, 11)), 0);
    check(w, w.result());
    assert_int_equal(counts().products, 6);
}

/* A part of the matrix lies on the device; columns of it, x from elsewhere. */
static void a_part_of_the_matrix(void **) {
    world w(RADAR_BF16);
    radar_cuda_blas_job j = w.job(16, 64, 4);
    w.w.data = static_cast<const uint8_t *>(w.w.data) + 16 * w.w.row_bytes;
    j.row = 16, j.job.job.row_begin = 0, j.job.job.row_end = 48, j.job.job.bias = w.bias + 16;
    assert_int_equal(w.multiply(j), 0);
    const std::vector<float> part = w.result();
    w.w.data = static_cast<const uint8_t *>(w.w.data) - 16 * w.w.row_bytes;
    assert_int_equal(w.multiply(w.job(0, ROWS, 4)), 0);
    const std::vector<float> all = w.result();
    for (int i = 0; i < M; i++)
        assert_memory_equal(&part[(size_t)(i * WIDE + 16)], &all[(size_t)(i * WIDE + 16)],
                            48 * sizeof(float));
}

/* The first list has the uploads too; the second is seen, the third is captured. */
static void is_replayed_as_a_graph(void **) {
    world w(RADAR_BF16);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(w.multiply(w.job(0, ROWS, 6)), 0);
        check(w, w.result());
    }
    assert_int_equal(radar_cuda_queue_stats_of(w.q).graph_launches, 3);
    assert_int_equal(counts().products, 3 * 6);
}

static void failures_are_told(void **) {
    setenv("RADAR_FAKE_CUBLAS", "fail", 1);
    {
        world w(RADAR_BF16);
        assert_int_equal(w.multiply(w.job(0, ROWS, 2)), 0);
        assert_int_equal(w.wait(), RADAR_ERR_INTERNAL);
    }
    setenv("RADAR_FAKE_CUBLAS", "create", 1);
    {
        world w(RADAR_BF16);
        assert_null(w.blas);
    }
    unsetenv("RADAR_FAKE_CUBLAS");
    assert_int_equal(counts().open, 0);
}

static void without_a_library_there_is_none(void **) {
    for (const char *name : {"none", "/no/such/library.so", "libm.so.6"}) {
        setenv("RADAR_CUBLAS", name, 1);
        world w(RADAR_BF16);
        assert_null(w.blas);
    }
    setenv("RADAR_CUBLAS", library.c_str(), 1);
}

static void takes_what_it_can(void **) {
    matrix bf16 = make_matrix(RADAR_BF16, 4, 64, 0, 0), q8 = make_matrix(RADAR_Q8_0, 4, 64, 0, 12);
    radar_matvec_job j = job_of(bf16, 0, 4, nullptr, 4, nullptr);
    assert_true(radar_cuda_blas_takes(&j));
    j.job.col_end = 0;
    assert_false(radar_cuda_blas_takes(&j));
    j.job.col_end = 64, j.row_scale = bf16.scale.data();
    assert_false(radar_cuda_blas_takes(&j));
    j = job_of(q8, 0, 4, nullptr, 4, nullptr);
    assert_false(radar_cuda_blas_takes(&j));
}

int main(int, char **argv) {
    const std::string self = argv[0];
    library = self.substr(0, self.rfind('/')) + "/../fake/libcublas.so.13";
    setenv("RADAR_CUBLAS", library.c_str(), 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_types_are_right),
        cmocka_unit_test(shapes_do_not_follow_from_the_rank),
        cmocka_unit_test(empty_slices),
        cmocka_unit_test(a_part_of_the_matrix),
        cmocka_unit_test(is_replayed_as_a_graph),
        cmocka_unit_test(failures_are_told),
        cmocka_unit_test(without_a_library_there_is_none),
        cmocka_unit_test(takes_what_it_can),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
