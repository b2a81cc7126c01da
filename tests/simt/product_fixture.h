/* product_fixture.h - matrices, rows of x and sums in double for the tests of products on CUDA.  Included after the kernels' sources. */
#ifndef RADAR_SIMT_PRODUCT_FIXTURE_H
#define RADAR_SIMT_PRODUCT_FIXTURE_H

#include "tests/simt/fixture.h"

static constexpr int E4M3 = -1; /* among radar_dtype */
static constexpr int TYPES[] = {RADAR_BF16, RADAR_F16, E4M3, RADAR_Q8_0, RADAR_Q4_0, RADAR_Q4_1};

static bool quantised(int type) { return type != E4M3 && radar_dtype_block((radar_dtype)type) > 1; }

/* ---- matrices: stored rows in memory that is NaN in every format elsewhere ---- */

struct matrix {
    int type, rows, cols;
    std::vector<uint4> memory;
    std::vector<float> scale; /* e4m3 */
    radar_matrix w;

    uint8_t *row(int r) { return (uint8_t *)w.data + (size_t)r * w.row_bytes; }
};

static size_t bytes_of(int type, int64_t cols) {
    if (type == E4M3) return (size_t)cols;
    return (size_t)(cols / radar_dtype_block((radar_dtype)type)) *
           radar_dtype_block_bytes((radar_dtype)type);
}

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }

static void fill_row(uint8_t *p, int type, int cols, uint64_t row) {
    const uint64_t stream = 100 + row;
    if (quantised(type)) {
        const size_t each = radar_dtype_block_bytes((radar_dtype)type);
        for (int b = 0; b < cols / 32; b++, p += each) {
            for (size_t i = 0; i < each; i++)
                p[i] = (uint8_t)radar_random(stream, 2, (uint64_t)b * 64 + i);
            put16(p, dev_f32_to_f16(0.05f * draw(stream, (uint64_t)b)));
            if (type == RADAR_Q4_1)
                put16(p + 2, dev_f32_to_f16(0.4f * draw(stream, 1000 + (uint64_t)b)));
        }
        return;
    }
    for (int c = 0; c < cols; c++) {
        const float v = draw(stream, (uint64_t)c);
        if (type == RADAR_BF16) put16(p + 2 * c, dev_f32_to_bf16(v));
        if (type == RADAR_F16) put16(p + 2 * c, dev_f32_to_f16(v));
        if (type == E4M3) p[c] = dev_f32_to_e4m3(16 * v);
    }
}

/* data begins `skew` bytes behind a 16-byte word, rows lie `gap` bytes apart. */
static matrix make_matrix(int type, int rows, int cols, size_t skew, size_t gap) {
    matrix m = {};
    const size_t row = bytes_of(type, cols) + gap;
    m.type = type, m.rows = rows, m.cols = cols;
    m.memory.resize((skew + row * (size_t)rows + 15) / 16);
    memset(m.memory.data(), 0xff, m.memory.size() * 16);
    m.w.type = type == E4M3 ? RADAR_F32 : (radar_dtype)type;
    m.w.rows = rows, m.w.cols = cols, m.w.row_bytes = row;
    m.w.data = (uint8_t *)m.memory.data() + skew;
    for (int r = 0; r < rows; r++) fill_row(m.row(r), type, cols, (uint64_t)r);
    for (int r = 0; r < rows; r++) m.scale.push_back(0.1f + 0.01f * (float)(r % 7));
    return m;
}

/* ---- references ---- */

static std::vector<float> weights_of(matrix &m, int row) {
    std::vector<float> w((size_t)m.cols);
    if (m.type == E4M3)
        for (int c = 0; c < m.cols; c++) w[(size_t)c] = dev_e4m3_to_f32(m.row(row)[c]);
    else
        radar_dequantize(w.data(), (radar_dtype)m.type, m.row(row), 0, m.cols);
    return w;
}

/* A sum, and the length of its terms, which is what its rounding is measured by. */
struct answer {
    double sum, size;
};

static answer product_of_row(matrix &m, int row, int begin, const std::vector<double> &x) {
    const std::vector<float> w = weights_of(m, row);
    const double scale = m.type == E4M3 ? (double)m.scale[(size_t)row] : 1;
    double sum = 0, squares = 0;
    for (size_t c = 0; c < x.size(); c++) {
        const double term = scale * (double)w[(size_t)begin + c] * x[c];
        sum += term, squares += term * term;
    }
    return {sum, std::sqrt(squares)};
}

/* ---- one product ---- */

struct input {
    std::vector<float4> memory;
    size_t stride;
    const float *data() const { return (const float *)memory.data(); }
};

static input make_x(int rows, int cols) {
    input x;
    x.stride = ((size_t)cols + 3) / 4 * 4 + 4;
    x.memory.resize(x.stride / 4 * (size_t)rows);
    memset((void *)x.memory.data(), 0xff, x.memory.size() * 16);
    for (int m = 0; m < rows; m++)
        for (int c = 0; c < cols; c++)
            ((float *)x.memory.data())[(size_t)m * x.stride + (size_t)c] =
                draw(7 + (uint64_t)m, (uint64_t)c);
    return x;
}

static radar_matvec_job job_of(matrix &m, int row_begin, int row_end, float *out, size_t stride,
                               const float *bias) {
    radar_matvec_job j = {};
    j.job.w = &m.w;
    j.job.row_begin = row_begin, j.job.row_end = row_end;
    j.job.col_end = m.cols;
    j.job.bias = bias;
    j.job.out = out, j.job.out_stride = stride;
    j.row_scale = m.type == E4M3 ? m.scale.data() : nullptr;
    return j;
}

#endif
