/* matvec.cu - decode products, matvec.h.
 *
 * A unit is what one lane takes of a row at a time: a block of 32 columns of a quantised type, 16 bytes of another.  Lane l of a
 * warp takes units l, l + 32, ... of a row, ascending, counted from the job's first column, and adds in a fixed order within the unit
 * (by column; int8: one fma per block and minimum); lanes are summed in the tree of lane numbers' bits, 16 first.  So an output has
 * one order of sums, whatever else the warp computes.
 *
 *   task    4 neighbouring rows of one job (2 of Q8_0 and where many rows of x meet blocks), times all rows of x, by one warp; one row
 *           where M = 1 and there is a warp for every row; a step of it is 32 units of each row
 *   grid    one block per multiprocessor, 16 warps; tasks are dealt block by block, so that each has the same number, or one more
 *   ring    each warp has its own stages of shared memory, a step each, and copies ahead into them by 16-byte asynchronous copies
 *   x       rounded by each block into shared memory, once; where it does not fit, in tiles of columns, once per round of tasks
 *
 * Blocks of 18, 20 or 34 bytes are not aligned to what is wide, so a step's bytes, which lie together, are copied in the aligned
 * 16-byte words that cover them, 512 bytes of a warp in one instruction; the lanes then read their blocks from shared memory as
 * the aligned 32-bit words that cover them, shifted into place (2-way bank conflicts at 18 and 34 bytes, none at 16 and 20).
 * dev_stream16 would need a register for every 4 bytes in flight and the same way through shared memory after it.
 * x lies in planes of 16 bytes (bf16: 8) per unit, so that the lanes' reads lie together; they serve all rows of the task.
 *
 * Bytes in flight: 4.3 TB/s for 0.7 us are 23 KB per multiprocessor.  16 warps with 3 stages, of which 2 are under way while the
 * third is multiplied: bf16, f16, e4m3 2048 bytes a stage: 64 KB; Q8_0 2176: 68 KB; Q4_0 2304: 72 KB; Q4_1 2560: 80 KB; tasks of 2
 * rows of Q4_*: half.  4096 rows give a multiprocessor 8 tasks, with half of that.  Tasks of one row have 12 stages (Q8_0: 6) in the
 * same ring: all of a row of 4096 columns of Q4_*, 5.5 KB of other rows, is under way at once.  They read x for each row (9 shared
 * accesses of a warp beside 15 for the row's own bytes), which bandwidth still allows.
 * The ring takes 101 to 126 KB, x of 14336 columns 18 KB a row as int8, 28 KB as bf16, 56 KB as f32: 8 rows of int8 fit on H200
 * (227 KB) up to 10k columns and more; beyond it is tiles, and x is read again per round.
 * Instructions, M = 1, Q4_0: about 240 of a warp per step of 2304 bytes, 60 cycles; memory takes 115.  M = 8 is bound by the integer
 * products and the reads of x, not by memory. */
#include "kernels/cuda/matvec.h"

#include "kernels/cuda/matvec_x.h"

static constexpr int WARPS = 16, THREADS = 512, JOBS = 16;

DEV int least(int a, int b) { return a < b ? a : b; }

/* ---- what is to be done ---- */

struct part {         /* a job */
    const uint8_t *w; /* first column of its first row */
    size_t row_bytes;
    const float *bias, *row_scale; /* of the first row, or NULL */
    float *out;
    size_t out_stride;
    int rows, first;     /* first: task */
    int columns, x_unit; /* where its columns begin in what the kernel has of x */
};

struct plan {
    part job[JOBS];
    int n_jobs;
    int tasks;
    const float *x;
    size_t x_stride;
    int M, x_columns;
    /* Units of x in shared memory at a time, a multiple of 32; with several tiles all jobs have the same columns. */
    int tile, tiles;
};

/* The rows of a task; where there are fewer the last one is repeated. */
struct rows {
    const uint8_t *w;
    int job, last;
};

/* The first of them, of its job. */
template <int R> DEV int first_row(const plan &p, int task, int job) {
    return (task - p.job[job].first) * R;
}

template <int R> DEV rows rows_of(const plan &p, int task) {
    int i = 0;
    while (i + 1 < p.n_jobs && task >= p.job[i + 1].first) i++;
    const int first = first_row<R>(p, task, i);
    return {p.job[i].w + (size_t)first * p.job[i].row_bytes, i,
            least(p.job[i].rows - first, R) - 1};
}

template <class U> DEV int units_of(const plan &p, const rows &t) {
    return (p.job[t.job].columns + U::COLUMNS - 1) / U::COLUMNS;
}
DEV const uint8_t *row_at(const plan &p, const rows &t, int r) {
    return t.w + (size_t)least(r, t.last) * p.job[t.job].row_bytes;
}

/* ---- the ring of a warp ---- */

/* A row's bytes of a step, in the aligned words that cover them; of all rows of a task; of all warps.  Tasks of fewer rows than
 * ROWS have as many more stages. */
template <class U> constexpr int slot_bytes = int(U::BYTES) * LANES + 16;
template <class U, int R> constexpr int stage_bytes = int(slot_bytes<U>) * R;
template <int ROWS, int R> constexpr int stages = 3 * ROWS / R;
template <class U, int ROWS> constexpr int ring_bytes = WARPS * 3 * int(stage_bytes<U, ROWS>);

struct feed { /* what is copied next */
    int task, step, stage;
    rows t;
};

template <class U, int R>
DEV void copy_step(uint8_t *stage, const plan &p, const rows &t, int step) {
    const int begin = step * LANES * U::BYTES;
    const int row = (int)((int64_t)p.job[t.job].columns * U::BYTES / U::COLUMNS);
    const int bytes = least(row - begin, LANES * U::BYTES);
    if (bytes <= 0) return;
#pragma unroll
    for (int r = 0; r < R; r++) {
        const uint8_t *from = row_at(p, t, r) + begin;
        const int skew = (int)((uintptr_t)from % 16);
        for (int i = (int)dev_lane() * 16; i < skew + bytes; i += LANES * 16)
            dev_copy16(stage + r * slot_bytes<U> + i, from - skew + i, true);
    }
}

/* A step of this warp's tasks, or, after the last, nothing; a group of its own in any case. */
template <class U, int R, int STAGES> DEV void copy_next(feed &f, const plan &p, uint8_t *ring) {
    if (f.task < p.tasks) {
        copy_step<U, R>(ring + f.stage * stage_bytes<U, R>, p, f.t, f.step);
        if (++f.step * LANES >= units_of<U>(p, f.t)) {
            f.step = 0;
            f.task += (int)gridDim.x * WARPS;
            if (f.task < p.tasks) f.t = rows_of<R>(p, f.task);
        }
    }
    dev_copy_commit();
    if (++f.stage == STAGES) f.stage = 0;
}

/* ---- the kernel ---- */

DEV float4 load4(const float *x, int column, int columns) {
    float4 v = {0, 0, 0, 0};
    if (column + 4 <= columns) {
        const uint4 u = dev_stream16(x + column);
        v = {dev_float(u.x), dev_float(u.y), dev_float(u.z), dev_float(u.w)};
    } else if (column < columns) {
        v.x = x[column];
        if (column + 1 < columns) v.y = x[column + 1];
        if (column + 2 < columns) v.z = x[column + 2];
    }
    return v;
}

/* By the block: tile number `tile` of x, with zeros up to a whole unit; rows of x past the last repeat it. */
template <class U, class X, int M> DEV void stage_x(const plan &p, uint8_t *x, int tile) {
    constexpr int BATCH = 4; /* loads of a thread under way */
    const int begin = tile * p.tile * U::COLUMNS;
    const int columns = least(p.x_columns - begin, p.tile * U::COLUMNS);
    const int fours = (columns + U::COLUMNS - 1) / U::COLUMNS * (U::COLUMNS / 4);
#pragma unroll 1
    for (int m = 0; m < M; m++) {
        const float *from = p.x + (size_t)least(m, p.M - 1) * p.x_stride + begin;
#pragma unroll 1
        for (int at = (int)dev_warp() * LANES; at < fours; at += BATCH * THREADS) {
            float4 v[BATCH];
            const int first = at + (int)dev_lane();
#pragma unroll
            for (int i = 0; i < BATCH; i++) v[i] = load4(from, (first + i * THREADS) * 4, columns);
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                const int four = first + i * THREADS;
                keep<U, M>(X(), x, m, four, v[i], four < fours);
            }
        }
    }
}

/* Units [32 step, 32 step + 32) of the rows, from their stage; they meet x at `unit` of its tile. */
template <class U, class X, int M, int R>
DEV void multiply_step(float (&sum)[M * R], const uint8_t *stage, const plan &p, const rows &t,
                       int step, uint8_t *x, int unit) {
    const int own = p.job[t.job].columns - (step * LANES + (int)dev_lane()) * U::COLUMNS;
    if (own <= 0) return;
    U u[R];
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int skew = (int)((uintptr_t)row_at(p, t, r) % 16); /* a step is whole 16-byte words */
        read(u[r], stage + r * slot_bytes<U> + skew + (int)dev_lane() * U::BYTES);
        if (own < U::COLUMNS) trim(u[r], own);
    }
    if constexpr (X::BLOCKS)
        multiply_blocks<U, M, R>(sum, u, x, unit + (int)dev_lane());
    else
        multiply_floats<U, X, M, R>(sum, u, x, unit + (int)dev_lane());
}

/* Sums over the lanes of N values, N a power of two; lane l gets value l / (32 / N).  Halves of the values are exchanged for halves
 * of the lanes while there is more than one; each value's tree is the same. */
template <int N> DEV float sum_lanes(float (&v)[N]) {
    int n = N;
#pragma unroll
    for (int mask = LANES / 2; mask; mask /= 2) {
        const bool upper = dev_lane() & (unsigned)mask;
        if (n > 1) {
            n /= 2;
#pragma unroll
            for (int i = 0; i < N / 2; i++) {
                if (i >= n) break;
                const float kept = upper ? v[i + n] : v[i], sent = upper ? v[i] : v[i + n];
                v[i] = dev_add(kept, dev_shuffle_xor(sent, mask));
            }
        } else {
            v[0] = dev_add(v[0], dev_shuffle_xor(v[0], mask));
        }
    }
    return v[0];
}

/* Where the rows lie is found again: kept, it would take registers from the sums. */
template <int M, int R> DEV void store(const plan &p, int task, float (&sum)[M * R]) {
    constexpr int SHARE = LANES / (M * R);
    const rows t = rows_of<R>(p, task);
    const part &job = p.job[t.job];
    float y = sum_lanes(sum);
    const int value = (int)dev_lane() / SHARE, m = value / R, r = value % R;
    if ((int)dev_lane() % SHARE || m >= p.M || r > t.last) return;
    const int row = first_row<R>(p, task, t.job) + r;
    if (job.row_scale) y = dev_mul(y, job.row_scale[row]);
    if (job.bias) y = dev_add(y, job.bias[row]);
    job.out[(size_t)m * job.out_stride + (size_t)row] = y;
}

/* grid: any number of blocks; block: 16 warps; dynamic shared memory: ring_bytes, then a tile of x.
 * All warps go through all rounds of tasks, as they stage x together. */
template <class U, class X, int M, int R>
__global__ void __launch_bounds__(THREADS, 1) multiply_rows(const plan p) {
    constexpr int ROWS = rows_each<U, X, M>, STAGES = stages<ROWS, R>;
    DYNAMIC_SHARED(uint8_t, shared);
    const int each = (int)gridDim.x * WARPS, mine = (int)(blockIdx.x + gridDim.x * dev_warp());
    uint8_t *const x = shared + ring_bytes<U, ROWS>;
    uint8_t *const ring = shared + (int)dev_warp() * STAGES * stage_bytes<U, R>;
    feed f = {mine, 0, 0, {}};
    if (f.task < p.tasks) f.t = rows_of<R>(p, f.task);
    for (int i = 0; i < STAGES - 1; i++) copy_next<U, R, STAGES>(f, p, ring);
    for (int base = 0; base < p.tasks; base += each) {
        const bool busy = base + mine < p.tasks;
        rows t = {};
        if (busy) t = rows_of<R>(p, base + mine);
        float sum[M * R] = {};
        for (int tile = 0; tile < p.tiles; tile++) {
            if (base == 0 || p.tiles > 1) {
                dev_block_sync(); /* the tile before has been read */
                stage_x<U, X, M>(p, x, tile);
                dev_block_sync();
            }
            if (!busy) continue;
            const int begin = tile * p.tile / LANES;
            const int end = tile + 1 < p.tiles ? begin + p.tile / LANES
                                               : (units_of<U>(p, t) + LANES - 1) / LANES;
            for (int step = begin; step < end || step == 0; step++) {
                dev_copy_wait<STAGES - 2>();
                dev_warp_sync(); /* this stage is there, and that of the step before has been read */
                copy_next<U, R, STAGES>(f, p, ring); /* the next to be filled is now this step's */
                multiply_step<U, X, M, R>(sum, ring + f.stage * stage_bytes<U, R>, p, t, step, x,
                                          p.job[t.job].x_unit + (step - begin) * LANES);
            }
        }
        if (busy) store<M, R>(p, base + mine, sum);
    }
    dev_copy_wait<0>();
}

/* ---- launching ---- */

typedef int launch_function(const plan &p, unsigned grid, size_t shared, radar_cuda_queue *queue);

/* A type, a precision and a number of rows of x, as the launcher sees them. */
struct product {
    int columns, bytes, rows, alignment; /* of a unit; of a task */
    size_t ring, x_unit;
    launch_function *launch, *launch_single; /* the latter: tasks of one row; NULL: there is none */
};

template <class U, class X, int M, int R>
static int launch_for(const plan &p, unsigned grid, size_t shared, radar_cuda_queue *queue) {
    void (*const kernel)(const plan) = multiply_rows<U, X, M, R>;
    const cudaError_t allowed = ALLOW_SHARED(kernel, shared);
    if (allowed != cudaSuccess) return (int)allowed;
    return (int)LAUNCH(kernel, dim3(grid), dim3(THREADS), shared, queue, p);
}

/* Rows of x that the kernel is made for. */
static int kernel_rows(int M) { return M <= 2 ? M : M <= 4 ? 4 : 8; }

template <class U, class X, int M> static product make_for(int alignment) {
    constexpr int R = rows_each<U, X, M>;
    product k = {U::COLUMNS,
                 U::BYTES,
                 R,
                 alignment,
                 (size_t)ring_bytes<U, R>,
                 (size_t)M * unit_bytes<U, X>,
                 launch_for<U, X, M, R>,
                 nullptr};
    if constexpr (M == 1) k.launch_single = launch_for<U, X, M, 1>;
    return k;
}
template <class U, class X> static product make(int alignment, int M) {
    switch (kernel_rows(M)) {
    case 1:
        return make_for<U, X, 1>(alignment);
    case 2:
        return make_for<U, X, 2>(alignment);
    case 4:
        return make_for<U, X, 4>(alignment);
    default:
        return make_for<U, X, 8>(alignment);
    }
}

/* launch NULL: there is none. */
static product product_of(const radar_matvec_job *job, radar_precision precision, int M) {
    const bool fast = precision == RADAR_PRECISION_FAST;
    if (job->row_scale) return make<unit_e4m3, x_f32>(1, M);
    switch (job->job.w->type) {
    case RADAR_F32:
        return make<unit_f32, x_f32>(4, M);
    case RADAR_F16:
        return make<unit_f16, x_f32>(2, M);
    case RADAR_BF16:
        return fast ? make<unit_bf16, x_bf16>(2, M) : make<unit_bf16, x_f32>(2, M);
    case RADAR_Q8_0:
        return fast ? make<unit_q8_0, x_int8>(2, M) : make<unit_q8_0, x_f32>(2, M);
    case RADAR_Q4_0:
        return fast ? make<unit_q4_0, x_int8>(2, M) : make<unit_q4_0, x_f32>(2, M);
    case RADAR_Q4_1:
        return fast ? make<unit_q4_1, x_int8>(4, M) : make<unit_q4_1, x_f32>(4, M);
    default:
        return {};
    }
}

struct range {
    int64_t begin, end;
};
static range x_of(const radar_matmul_job &j) {
    return {j.x_begin, j.x_begin + j.col_end - j.col_begin};
}
static int64_t units_in(const product &k, range r) {
    return (r.end - r.begin + k.columns - 1) / k.columns;
}

static bool fits(const product &k, const radar_matvec_job *job) {
    const radar_matmul_job &j = job->job;
    const bool quantised = k.columns == 32;
    const int64_t columns = j.col_end - j.col_begin;
    if (!k.launch || columns < 0 || columns > 1 << 24 || j.row_end - j.row_begin > 1 << 26 ||
        j.x_begin % 4)
        return false;
    if (quantised && (j.col_begin % 32 || columns % 32 || j.x_begin % 32)) return false;
    return (uintptr_t)j.w->data % (size_t)k.alignment == 0 &&
           j.w->row_bytes % (size_t)k.alignment == 0;
}

/* Units of x that there is room for. */
static int64_t room(const product &k, const radar_matvec_device *device) {
    if (device->shared_bytes <= k.ring) return 0;
    return (int64_t)((device->shared_bytes - k.ring) / (LANES * k.x_unit)) * LANES;
}

/* How many jobs from the first on go into one launch: of one type, with the same columns of x, or in whole units of x that fit
 * into shared memory together, which range `all` then is. */
static int together(range *all, const product &k, const radar_matvec_job *job, int n_jobs,
                    radar_precision precision, int M, int64_t fit) {
    const range first = x_of(job[0].job);
    bool same = true, whole = true;
    int n = 0;
    *all = first;
    for (; n < n_jobs && n < JOBS; n++) {
        const range r = x_of(job[n].job);
        if (product_of(job + n, precision, M).launch != k.launch || !fits(k, job + n)) break;
        const range both = {r.begin < all->begin ? r.begin : all->begin,
                            r.end > all->end ? r.end : all->end};
        const bool still_same = same && r.begin == first.begin && r.end == first.end;
        const bool still_whole =
            whole && r.begin % k.columns == 0 && r.end % k.columns == 0 && units_in(k, both) <= fit;
        if (!still_same && !still_whole) break;
        same = still_same, whole = still_whole, *all = both;
    }
    return n;
}

static void add_job(plan *p, const product &k, const radar_matvec_job *job, range all) {
    const radar_matmul_job &j = job->job;
    if (j.row_end <= j.row_begin) return;
    const uint8_t *data = static_cast<const uint8_t *>(j.w->data);
    p->job[p->n_jobs++] = {data + (size_t)j.row_begin * j.w->row_bytes +
                               (size_t)(j.col_begin * k.bytes / k.columns),
                           j.w->row_bytes,
                           j.bias ? j.bias + j.row_begin : nullptr,
                           job->row_scale ? job->row_scale + j.row_begin : nullptr,
                           j.out,
                           j.out_stride,
                           (int)(j.row_end - j.row_begin),
                           0,
                           (int)(j.col_end - j.col_begin),
                           (int)((j.x_begin - all.begin) / k.columns)};
}

/* Cuts the jobs into tasks.  Where there is a warp for every row, tasks of one row: fewer would leave warps without any. */
static launch_function *cut(plan *p, const product &k, int multiprocessors) {
    int64_t rows = 0;
    for (int i = 0; i < p->n_jobs; i++) rows += p->job[i].rows;
    const bool single = k.launch_single && rows <= (int64_t)multiprocessors * WARPS;
    const int each = single ? 1 : k.rows;
    for (int i = 0; i < p->n_jobs; i++) {
        p->job[i].first = p->tasks;
        p->tasks += (p->job[i].rows + each - 1) / each;
    }
    return single ? k.launch_single : k.launch;
}

/* The rest of the plan, and the launch. */
static int run(plan *p, const product &k, range all, int64_t fit, const radar_matvec_device *device,
               radar_cuda_queue *queue) {
    const int64_t units = units_in(k, all);
    launch_function *const launch = cut(p, k, device->multiprocessors);
    if (p->tasks == 0) return cudaSuccess;
    p->x += all.begin;
    p->x_columns = (int)(all.end - all.begin);
    p->tile = (int)(units <= fit ? (units + LANES - 1) / LANES * LANES : fit);
    if (units && p->tile == 0) return cudaErrorInvalidValue;
    p->tiles = units ? (int)((units + p->tile - 1) / p->tile) : 1;
    const int blocks = p->tasks < device->multiprocessors ? p->tasks : device->multiprocessors;
    return launch(*p, (unsigned)blocks, k.ring + k.x_unit * (size_t)p->tile, queue);
}

extern "C" int radar_cuda_matvec(const radar_matvec_job *job, int n_jobs, const float *x,
                                 size_t x_stride, int M, radar_precision precision,
                                 const radar_matvec_device *device, radar_cuda_queue *queue) {
    if (M < 0 || M > RADAR_MATVEC_ROWS || (uintptr_t)x % 16 || (M > 1 && x_stride % 4))
        return cudaErrorInvalidValue;
    if (M == 0) return cudaSuccess;
    for (int i = 0; i < n_jobs;) {
        const product k = product_of(job + i, precision, M);
        if (!fits(k, job + i)) return cudaErrorInvalidValue;
        const int64_t fit = room(k, device);
        range all;
        const int n = together(&all, k, job + i, n_jobs - i, precision, M, fit);
        plan p = {};
        p.x = x, p.x_stride = x_stride, p.M = M;
        for (int j = 0; j < n; j++) add_job(&p, k, job + i + j, all);
        const int status = run(&p, k, all, fit, device, queue);
        if (status != cudaSuccess) return status;
        i += n;
    }
    return cudaSuccess;
}
