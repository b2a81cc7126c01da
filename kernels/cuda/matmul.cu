/* matmul.cu - prefill's products on tensor cores, matmul.h.
 *
 * First round.cu lays x into scratch, its columns in chunks of 32: panel [part][chunk][rows to a multiple of 128][32] of 16 bits.
 * Then a block of 4 warps makes a tile of 128 rows of x by 64 of weights, a warp 64 by 32 of it (m16n8k16, f32 sums), half as many
 * rows of x where scales or a second part of x take registers; a chunk at a time, in ascending order: its products, hi before
 * lo, make a sum of their own, which is then added, times the block's scale where there is one.  (Tensor cores cut off what
 * they add; over a whole row that would cost 2^-24 a product.  fast with weights that are no blocks adds inside them all the same: x has
 * far fewer bits.)
 *
 * Chunks come by 16-byte asynchronous copies, 3 or 4 stages of them.  Weights stay as they are stored until a lane reads them into
 * its registers (matmul_weights.h).  The products' columns are ordered so that a lane reads 16 bytes of a row at once: columns
 * 8 t .. 8 t + 7 for t = lane % 4, without bank conflicts in rows of 64 bytes.
 * Grid (tiles of x, tiles of weights): neighbours share weights, read from memory once; x comes out of the L2 cache.
 * Shared memory: 4 stages of 10 to 12 KB, 6 to 7 KB for blocks that meet one part of x.  Of it a warp reads 6 KB for 32 products,
 * 192 cycles of an SM for 4 warps, whose tensor cores take 256; exact 6 KB for 32; blocks 3 KB for 16. */
#include "kernels/cuda/matmul.h"

#include <type_traits>

#include "kernels/cuda/matmul_weights.h"

namespace {

constexpr int THREADS = 128, JOBS = 16;
constexpr int CHUNK = 32;               /* columns */
constexpr int W_ROWS = 64, W_TILES = 4; /* of a tile; of 8 rows, of a warp */
constexpr int PADDING = 128;            /* rows of x: a multiple of what any tile has */

/* Of the rows of x, and of a stage, in bytes. */
template <class W, int PARTS> struct shape {
    static constexpr int X_TILES = W::BLOCKS || PARTS == 2 ? 2 : 4; /* of 16 rows, of a warp */
    static constexpr int X_ROWS = 2 * 16 * X_TILES;
    static constexpr int X_BYTES = X_ROWS * CHUNK * 2; /* of a part */
    static constexpr int WEIGHTS = PARTS * X_BYTES, SUMS = WEIGHTS + W_ROWS * W::SLOT;
    static constexpr int BYTES = SUMS + (W::BLOCKS ? X_ROWS * 4 : 0);
    static constexpr int STAGES = 4;
};

/* ---- what is to be done ---- */

struct part {         /* a job */
    const uint8_t *w; /* first column of its first row */
    size_t row_bytes;
    const float *bias, *row_scale; /* of the first row, or NULL */
    float *out;
    size_t out_stride;
    int rows, first; /* first: tile of weights */
};

struct plan {
    part job[JOBS];
    int n_jobs;
    int tiles; /* of weights */
    int M, rows, columns, chunks;
    const uint8_t *panel; /* part p begins p * part_bytes behind it */
    size_t part_bytes;
    const float *back, *sums; /* of the panel's rows; NULL: none */
};
/* gcc 12 clears padding behind an array of structures in the wrong place (launch.h): there is none. */
static_assert(std::has_unique_object_representations<plan>::value, "an argument without padding");

/* A tile of weights. */
struct tile {
    const part *job;
    int row;  /* the first, of its job */
    int left; /* rows, 1 to W_ROWS of them */
};

DEV tile tile_of(const plan &p, int index) {
    int i = 0;
    while (i + 1 < p.n_jobs && index >= p.job[i + 1].first) i++;
    const int row = (index - p.job[i].first) * W_ROWS, left = p.job[i].rows - row;
    return {&p.job[i], row, left < W_ROWS ? left : W_ROWS};
}

/* ---- one chunk ---- */

template <class W> DEV int skew_of(const part &job, int chunk) {
    return (int)(((uintptr_t)job.w + (size_t)chunk * W::BYTES) % 16);
}

/* Rows past the last are copies of it. */
template <class W> DEV void copy_weights(uint8_t *to, const plan &p, const tile &t, int chunk) {
    constexpr int WORDS = W::SLOT / 16, PER_WORD = CHUNK * 16 / W::SLOT; /* columns, if no blocks */
    const uint8_t *from =
        t.job->w + (size_t)chunk * W::BYTES - skew_of<W>(*t.job, chunk); /* of the job's row 0 */
    for (int i = (int)threadIdx.x; i < W_ROWS * WORDS; i += THREADS) {
        const int row = i / WORDS, word = i % WORDS;
        const int own = t.row + (row < t.left ? row : t.left - 1);
        dev_copy16(to + 16 * i, from + (size_t)own * t.job->row_bytes + 16 * word,
                   W::BLOCKS || chunk * CHUNK + word * PER_WORD < p.columns);
    }
}

/* By the block, a group of its own in any case: chunk number `chunk`, if there is such. */
template <class W, int PARTS>
DEV void copy_chunk(uint8_t *stage, const plan &p, const tile &t, int chunk) {
    using S = shape<W, PARTS>;
    constexpr int WORDS = S::X_BYTES / 16;
    if (chunk < p.chunks) {
        const size_t row = (size_t)chunk * (size_t)p.rows + (size_t)blockIdx.x * S::X_ROWS;
        const uint8_t *const x = p.panel + row * (CHUNK * 2);
#pragma unroll
        for (int i = 0; i < PARTS * WORDS; i += THREADS) {
            const int word = i + (int)threadIdx.x;
            dev_copy16(stage + 16 * word,
                       x + (size_t)(i / WORDS) * p.part_bytes + 16 * (word % WORDS), true);
        }
        copy_weights<W>(stage + S::WEIGHTS, p, t, chunk);
        if (W::BLOCKS && threadIdx.x < S::X_ROWS / 4)
            dev_copy16(stage + S::SUMS + 16 * threadIdx.x, p.sums + row + 4 * threadIdx.x, true);
    }
    dev_copy_commit();
}

template <class W> DEV void multiply(float d[4], uint4 top, uint4 bottom, const uint32_t b[4]) {
    const uint32_t a[2][4] = {{top.x, bottom.x, top.y, bottom.y},
                              {top.z, bottom.z, top.w, bottom.w}};
    for (int i = 0; i < 2; i++) {
        if (W::F16)
            dev_mma_f16(d, a[i], b + 2 * i);
        else
            dev_mma_bf16(d, a[i], b + 2 * i);
    }
}

/* sum [16 rows of x, 8 of weights] += those of one chunk.  top, bottom: rows g and g + 8 of each part. */
template <class W, int PARTS>
DEV void add_products(float sum[4], const uint4 top[PARTS], const uint4 bottom[PARTS],
                      const uint32_t b[4], const float d[2], const float o[2], const float xs[2]) {
    if constexpr (!W::BLOCKS && PARTS == 1) {
        multiply<W>(sum, top[0], bottom[0], b);
    } else {
        float own[4] = {};
        for (int p = 0; p < PARTS; p++) multiply<W>(own, top[p], bottom[p], b);
        for (int i = 0; i < 4; i++) {
            if constexpr (W::BLOCKS)
                sum[i] = dev_fma(d[i % 2], own[i], dev_fma(o[i % 2], xs[i / 2], sum[i]));
            else
                sum[i] = dev_add(sum[i], own[i]);
        }
    }
}

/* Rows of x and of weights of the warp, in the tile. */
template <class S> DEV int warp_x() { return (int)dev_warp() / 2 * S::X_TILES * 16; }
DEV int warp_w() { return (int)dev_warp() % 2 * W_TILES * 8; }

template <class W, int PARTS, class S>
DEV void multiply_chunk(float (&sum)[S::X_TILES][W_TILES][4], const uint8_t *stage, int skew) {
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    const uint8_t *const weights = stage + S::WEIGHTS + warp_w() * W::SLOT;
    const float *const sums = reinterpret_cast<const float *>(stage + S::SUMS);
    uint32_t b[W_TILES][4];
    float d[W_TILES][2] = {}, o[W_TILES][2] = {};
#pragma unroll
    for (int j = 0; j < W_TILES; j++) {
        read_numbers(W(), b[j], weights + (8 * j + g) * W::SLOT, skew, t);
        if constexpr (W::BLOCKS)
            for (int e = 0; e < 2; e++)
                read_scale(W(), d[j][e], o[j][e], weights + (8 * j + 2 * t + e) * W::SLOT + skew);
    }
#pragma unroll
    for (int i = 0; i < S::X_TILES; i++) {
        const int row = warp_x<S>() + 16 * i + g;
        uint4 top[PARTS], bottom[PARTS];
        for (int p = 0; p < PARTS; p++) {
            const uint4 *x = reinterpret_cast<const uint4 *>(stage + p * S::X_BYTES) + row * 4 + t;
            top[p] = x[0], bottom[p] = x[8 * 4];
        }
        float xs[2] = {};
        if constexpr (W::BLOCKS) xs[0] = sums[row], xs[1] = sums[row + 8];
#pragma unroll
        for (int j = 0; j < W_TILES; j++)
            add_products<W, PARTS>(sum[i][j], top, bottom, b[j], d[j], o[j], xs);
    }
}

/* ---- the kernel ---- */

template <class W, class S>
DEV void store(const plan &p, const tile &t, const float (&sum)[S::X_TILES][W_TILES][4]) {
    const int first_m = (int)blockIdx.x * S::X_ROWS + warp_x<S>() + (int)dev_lane() / 4;
    const int first_w = warp_w() + (int)dev_lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < S::X_TILES * 2; i++) {
        const int m = first_m + 8 * i;
        if (m >= p.M) return;
        const float back = p.back ? p.back[m] : 1.0f;
#pragma unroll
        for (int j = 0; j < W_TILES * 2; j++) {
            const int own = first_w + j / 2 * 8 + j % 2, row = t.row + own;
            if (own >= t.left) continue;
            float y = sum[i / 2][j / 2][i % 2 * 2 + j % 2];
            if (W::BLOCKS) y = dev_mul(y, 0x1p24f);
            y = dev_mul(y, back);
            if (t.job->row_scale) y = dev_mul(y, t.job->row_scale[row]);
            if (t.job->bias) y = dev_add(y, t.job->bias[row]);
            t.job->out[(size_t)m * t.job->out_stride + (size_t)row] = y;
        }
    }
}

/* grid: (tiles of x, tiles of weights); block: 4 warps; dynamic shared memory: stages. */
template <class W, int PARTS>
__global__ void __launch_bounds__(THREADS, 4) multiply_tile(const plan p) {
    using S = shape<W, PARTS>;
    constexpr int STAGES = S::STAGES, BYTES = S::BYTES;
    DYNAMIC_SHARED(uint8_t, shared);
    const tile t = tile_of(p, (int)blockIdx.y);
    float sum[S::X_TILES][W_TILES][4] = {};
    for (int i = 0; i < STAGES - 1; i++) copy_chunk<W, PARTS>(shared + i * BYTES, p, t, i);
    int stage = 0, next = STAGES - 1;
    for (int chunk = 0; chunk < p.chunks; chunk++) {
        dev_copy_wait<STAGES - 2>();
        dev_block_sync(); /* this chunk is there, and that before it, whose stage is next, is read */
        copy_chunk<W, PARTS>(shared + next * BYTES, p, t, chunk + STAGES - 1);
        multiply_chunk<W, PARTS, S>(sum, shared + stage * BYTES, skew_of<W>(*t.job, chunk));
        if (++stage == STAGES) stage = 0;
        if (++next == STAGES) next = 0;
    }
    dev_copy_wait<0>();
    store<W, S>(p, t, sum);
}

/* ---- launching ---- */

/* A type and a precision. */
struct product {
    bool f16, blocks;
    int parts, bytes; /* of 32 columns */
    int (*launch)(const plan &p, radar_cuda_queue *queue);
};

template <class W, int PARTS> int launch(const plan &p, radar_cuda_queue *queue) {
    void (*const kernel)(const plan) = multiply_tile<W, PARTS>;
    using S = shape<W, PARTS>;
    constexpr size_t bytes = (size_t)S::STAGES * S::BYTES;
    const cudaError_t allowed = ALLOW_SHARED(kernel, bytes);
    if (allowed != cudaSuccess) return (int)allowed;
    return (int)LAUNCH(kernel, dim3((unsigned)(p.rows / S::X_ROWS), (unsigned)p.tiles),
                       dim3(THREADS), bytes, queue, p);
}

template <class W> product make(bool fast) {
    return {W::F16, W::BLOCKS, fast ? 1 : 2, W::BYTES, fast ? launch<W, 1> : launch<W, 2>};
}

/* launch NULL: there is none. */
product product_of(const radar_matvec_job *job, bool fast) {
    if (job->row_scale) return make<w_e4m3>(fast);
    switch (job->job.w->type) {
    case RADAR_BF16:
        return make<w_bf16>(fast);
    case RADAR_F16:
        return make<w_f16>(fast);
    case RADAR_Q8_0:
        return make<w_q8_0>(fast);
    case RADAR_Q4_0:
        return make<w_q4_0>(fast);
    case RADAR_Q4_1:
        return make<w_q4_1>(fast);
    default:
        return {};
    }
}

int64_t columns_of(const radar_matvec_job *job) { return job->job.col_end - job->job.col_begin; }

size_t padded(int M) { return ((size_t)M + PADDING - 1) / PADDING * PADDING; }

/* Where things lie in `work`, in bytes. */
struct layout {
    size_t rows, part, back, sums, end;
};
layout layout_of(int64_t columns, int M, int parts) {
    layout l = {};
    const size_t chunks = (size_t)((columns + CHUNK - 1) / CHUNK);
    l.rows = padded(M);
    l.part = chunks * l.rows * CHUNK * 2;
    l.back = (size_t)parts * l.part;
    l.sums = l.back + l.rows * sizeof(float);
    l.end = l.sums + chunks * l.rows * sizeof(float);
    return l;
}

bool share_x(const radar_matvec_job *a, const radar_matvec_job *b) {
    return a->job.x_begin == b->job.x_begin && columns_of(a) == columns_of(b);
}

/* Rounds the job's columns of x; the plan knows of them. */
int lay_x(plan *p, const radar_matvec_job *job, const product &k, const float *x, size_t x_stride,
          int M, void *work, radar_cuda_queue *queue) {
    const int64_t columns = columns_of(job);
    const layout l = layout_of(columns, M, k.parts);
    uint8_t *const to = static_cast<uint8_t *>(work);
    float *const back = reinterpret_cast<float *>(to + l.back);
    float *const sums = reinterpret_cast<float *>(to + l.sums);
    p->M = M, p->rows = (int)l.rows, p->columns = (int)columns;
    p->chunks = (int)((columns + CHUNK - 1) / CHUNK);
    p->panel = to, p->part_bytes = l.part;
    p->back = k.f16 ? back : nullptr, p->sums = k.blocks ? sums : nullptr;
    radar_cuda_halves h = {};
    h.x = x + job->job.x_begin, h.x_stride = x_stride, h.M = M, h.columns = (int)columns;
    h.rows = (int)l.rows, h.to = reinterpret_cast<uint16_t *>(to);
    h.row_stride = CHUNK, h.chunk_stride = l.rows * CHUNK, h.part_stride = l.part / 2;
    h.back = k.f16 ? back : nullptr, h.sums = k.blocks ? sums : nullptr;
    return radar_cuda_round(&h, k.f16, k.parts, queue);
}

void add_job(plan *p, const product &k, const radar_matvec_job *job) {
    const radar_matmul_job &j = job->job;
    if (j.row_end <= j.row_begin) return;
    const int rows = (int)(j.row_end - j.row_begin);
    const uint8_t *data = static_cast<const uint8_t *>(j.w->data);
    p->job[p->n_jobs++] = {
        data + (size_t)j.row_begin * j.w->row_bytes +
            (size_t)(j.col_begin / CHUNK * k.bytes + j.col_begin % CHUNK * k.bytes / CHUNK),
        j.w->row_bytes,
        j.bias ? j.bias + j.row_begin : nullptr,
        job->row_scale ? job->row_scale + j.row_begin : nullptr,
        j.out,
        j.out_stride,
        rows,
        p->tiles};
    p->tiles += (rows + W_ROWS - 1) / W_ROWS;
}

} // namespace

extern "C" bool radar_cuda_matmul_takes(const radar_matvec_job *job) {
    const product k = product_of(job, true);
    const radar_matmul_job &j = job->job;
    const int64_t columns = columns_of(job), rows = j.row_end - j.row_begin;
    const int unit = k.blocks ? CHUNK : 16;
    if (!k.launch || columns < 0 || columns > 1 << 24 || rows > 1 << 20 || j.x_begin % 4 ||
        columns % unit || j.col_begin % unit)
        return false;
    return (uintptr_t)j.w->data % 16 == 0 && j.w->row_bytes % 16 == 0;
}

extern "C" size_t radar_cuda_matmul_work(const radar_matvec_job *job, int n_jobs, int M) {
    size_t most = 0;
    for (int i = 0; i < n_jobs; i++) {
        const size_t bytes = layout_of(columns_of(job + i), M, 2).end;
        most = bytes > most ? bytes : most;
    }
    return most;
}

extern "C" int radar_cuda_matmul(const radar_matvec_job *job, int n_jobs, const float *x,
                                 size_t x_stride, int M, radar_precision precision, void *work,
                                 radar_cuda_queue *queue) {
    if (M < 0 || (uintptr_t)x % 16 || (M > 1 && x_stride % 4)) return cudaErrorInvalidValue;
    if (M == 0) return cudaSuccess;
    for (int i = 0; i < n_jobs;) {
        if (!radar_cuda_matmul_takes(job + i)) return cudaErrorInvalidValue;
        const product k = product_of(job + i, precision == RADAR_PRECISION_FAST);
        plan p = {};
        int status = lay_x(&p, job + i, k, x, x_stride, M, work, queue);
        const radar_matvec_job *const first = job + i;
        for (int n = 0; n < JOBS && i < n_jobs && share_x(first, job + i) &&
                        radar_cuda_matmul_takes(job + i) &&
                        product_of(job + i, k.parts == 1).launch == k.launch;
             n++)
            add_job(&p, k, job + i++);
        if (status == cudaSuccess && p.tiles) status = k.launch(p, queue);
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}
