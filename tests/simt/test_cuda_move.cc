/* move.cu against loops written from layer.h, arrange.h and backend.h. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}
#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

#include "kernels/cuda/move.cu"

static std::vector<float> drawn(uint64_t stream, size_t n) {
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++) x[i] = draw(stream, i);
    return x;
}

static int64_t odd_of(const std::vector<float> &x, int64_t n, int width) {
    uint64_t found = 0;
    assert_int_equal(radar_cuda_odd(&found, x.data(), n, width, nullptr), 0);
    return found ? n - (int64_t)found : -1;
}

static void the_first_odd_row_is_found(void **) {
    const float odd[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int width : {1, 31, 4096, 9000}) {
        const int64_t n = 5;
        const std::vector<float> x = drawn((uint64_t)width, (size_t)(n * width));
        assert_int_equal(odd_of(x, n, width), -1);
        for (int64_t row = 0; row < n; row++)
            for (int column : {0, width / 2, width - 1}) {
                std::vector<float> y = x;
                y[(size_t)(row * width + column)] = odd[(row + column) % 4];
                assert_int_equal(odd_of(y, n, width), row);
                y[(size_t)(n * width - 1)] = NAN; /* a later one changes nothing */
                assert_true(right_always([&] { return odd_of(y, n, width) == row; }, 3));
            }
    }
    const std::vector<float> most(300, -3.4e38f); /* far, but a number */
    assert_int_equal(odd_of(most, 3, 100), -1);
    assert_int_equal(odd_of(most, 0, 100), -1);
}

static void arrange_puts_heads_side_by_side(void **) {
    const int shapes[][4] = {{1, 1, 1, 16}, {3, 2, 4, 80}, {5, 4, 7, 48}, {2, 8, 1, 256}};
    for (auto [M, G, group, D] : shapes) {
        const size_t part = (size_t)(group * D), all = (size_t)(M * G) * part;
        const std::vector<float> q = drawn(3, all);
        std::vector<float> out(all + 1, 7);
        assert_int_equal(radar_cuda_arrange(out.data(), q.data(), M, G, group, D, nullptr), 0);
        for (size_t g = 0; g < (size_t)G; g++)
            for (size_t m = 0; m < (size_t)M; m++)
                assert_memory_equal(&out[(g * (size_t)M + m) * part],
                                    &q[(m * (size_t)G + g) * part], part * sizeof(float));
        assert_true(out[all] == 7);
    }
}

static void take_takes_rows(void **) {
    const int M = 6, G = 3, group = 4, D = 80;
    const size_t part = (size_t)(group * D);
    const std::vector<float> q = drawn(3, (size_t)(M * G) * part);
    const std::vector<std::vector<int32_t>> lists = {{}, {5}, {0, 2, 3}, {4, 4, 1, 0, 5, 3, 2}};
    for (const std::vector<int32_t> &row : lists) {
        const size_t n = row.size(), all = (size_t)G * n * part;
        std::vector<float> out(all + 1, 7);
        assert_int_equal(
            radar_cuda_take(out.data(), q.data(), M, G, group, D, row.data(), (int)n, nullptr), 0);
        for (size_t g = 0; g < (size_t)G; g++)
            for (size_t i = 0; i < n; i++)
                assert_memory_equal(&out[(g * n + i) * part],
                                    &q[(g * (size_t)M + (size_t)row[i]) * part],
                                    part * sizeof(float));
        assert_true(out[all] == 7);
    }
}

static void sums_are_a_tree(void **) {
    for (int pieces = 1; pieces <= RADAR_CUDA_SUM_PIECES; pieces *= 2)
        for (int64_t n : {1, 255, 1000}) {
            std::vector<std::vector<float>> x, want;
            float *at[RADAR_CUDA_SUM_PIECES];
            for (int p = 0; p < pieces; p++) x.push_back(drawn((uint64_t)(40 + p), (size_t)n + 1));
            for (int p = 0; p < pieces; p++) at[p] = x[(size_t)p].data();
            want = x;
            for (size_t half = 1; half < x.size(); half *= 2)
                for (size_t a = 0; a < x.size(); a += 2 * half)
                    for (size_t i = 0; i < (size_t)n; i++) want[a][i] += want[a + half][i];
            assert_int_equal(radar_cuda_sum(at, pieces, n, nullptr), 0);
            assert_memory_equal(x[0].data(), want[0].data(), ((size_t)n + 1) * sizeof(float));
        }
    float number = 0, *at[128] = {};
    for (float *&p : at) p = &number;
    for (int pieces : {0, 3, 128}) assert_int_not_equal(radar_cuda_sum(at, pieces, 1, nullptr), 0);
    assert_int_equal(radar_cuda_sum(at, 2, 0, nullptr), 0);
}

/* Rectangles of every shape between two memories, under a grid that is right for the largest, too small or too large. */
static void rectangles_move(void **) {
    const int64_t shapes[][2] = {{1, 1}, {1, 5000}, {3000, 1}, {7, 100}, {0, 9}, {9, 0}, {33, 257}};
    for (int64_t most : {1, 8481, 2000000}) {
        std::vector<std::vector<float>> from, to, want;
        std::vector<radar_copy> copy;
        for (auto [rows, width] : shapes) {
            from.push_back(drawn(from.size(), (size_t)(rows * (width + 3) + 1)));
            to.push_back(std::vector<float>((size_t)(rows * (width + 5) + 1), 7));
        }
        want = to;
        for (size_t i = 0; i < from.size(); i++) {
            const int64_t rows = shapes[i][0], width = shapes[i][1];
            copy.push_back(
                {to[i].data(), from[i].data(), (size_t)width + 5, (size_t)width + 3, rows, width});
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < width; c++)
                    want[i][(size_t)(r * (width + 5) + c)] = from[i][(size_t)(r * (width + 3) + c)];
        }
        assert_int_equal(radar_cuda_copies(copy.data(), (int)copy.size(), most, nullptr), 0);
        assert_true(to == want);
        assert_int_equal(radar_cuda_copies(copy.data(), 0, most, nullptr), 0);
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_odd_row_is_found),
        cmocka_unit_test(arrange_puts_heads_side_by_side),
        cmocka_unit_test(take_takes_rows),
        cmocka_unit_test(sums_are_a_tree),
        cmocka_unit_test(rectangles_move),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
