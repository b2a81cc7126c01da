/* Products, and the weights on the device.
 *
 * A packed part lies as it is stored, rows and columns of it alone; K-quants and Q5 are expanded to bf16, as is F32 unless
 * precision is exact; with --weights fp8 F16 and BF16 become e4m3 with one scale a row, max|w| / 448.  Rows begin at multiples of 16 bytes, 16 bytes behind the last one
 * may be read.
 * Up to 64 rows of x go through the weights by matvec.h, in turns of 8: the same bits for each of them.  More of them go by cuBLAS
 * (blas.h) or by matmul.h, but for parts that these do not take; which way a part goes follows from its type and columns, so it is
 * the same on every rank. */
#include <math.h>
#include <string.h>

#include <cuda_runtime.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matvec.h"
#include "runtime/sys.h"

#define FP8_MOST 448.0f
#define FEW_ROWS 64 /* of x */

/* A part of a matrix on the device. */
struct radar_packed {
    struct radar_packed *next;
    radar_region part;
    radar_matrix w;         /* of the part's rows and columns: row 0 is row_begin */
    const float *row_scale; /* device [rows of the part]; e4m3 */
};

typedef enum form { AS_STORED, AS_BF16, AS_FP8 } form;

static form form_of(const radar_cuda *cuda, radar_dtype type) {
    switch (type) {
    case RADAR_F16:
    case RADAR_BF16:
        return cuda->opt.fp8_weights ? AS_FP8 : AS_STORED;
    case RADAR_Q8_0:
    case RADAR_Q4_0:
    case RADAR_Q4_1:
        return AS_STORED;
    case RADAR_F32:
        return cuda->opt.precision == RADAR_PRECISION_EXACT ? AS_STORED : AS_BF16;
    default:
        return AS_BF16;
    }
}

static size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

/* Bytes of `cols` columns of one row. */
static size_t row_bytes(form f, radar_dtype type, int64_t cols) {
    if (f == AS_BF16) return (size_t)cols * 2;
    if (f == AS_FP8) return (size_t)cols;
    return (size_t)(cols / radar_dtype_block(type)) * radar_dtype_block_bytes(type);
}

size_t radar_cuda_op_pack_bytes(radar_backend *be, const radar_matrix *w,
                                const radar_region *part) {
    const form f = form_of(radar_cuda_of(be), w->type);
    const int64_t rows = part->row_end - part->row_begin, cols = part->col_end - part->col_begin;
    size_t bytes, scales = f == AS_FP8 ? aligned((size_t)rows * sizeof(float)) : 0;
    if (rows <= 0 || cols <= 0) return 0;
    if (!radar_mul(aligned(row_bytes(f, w->type, cols)), (size_t)rows, &bytes) ||
        !radar_add(bytes, scales + 256, &bytes))
        return SIZE_MAX;
    return bytes / 256 * 256;
}

/* ---- rows as they will lie ---- */

static uint8_t to_e4m3(float x) {
    const uint8_t sign = signbit(x) ? 0x80 : 0;
    const float size = fminf(fabsf(x), FP8_MOST);
    int e = 0;
    frexpf(size, &e);
    if (size == 0 || e < -5) e = -5; /* subnormals share the least exponent */
    return (uint8_t)(sign | ((e + 5) * 8 + (int)nearbyintf(ldexpf(size, 4 - e))));
}

static void put_bf16(uint16_t *to, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = radar_f32_to_bf16(x[i]);
}

/* Columns [begin, end) of a row of n; returns the scale, which is the whole row's: the same on any number of ranks. */
static float put_fp8(uint8_t *to, const float *x, int64_t n, int64_t begin, int64_t end) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    const float scale = most / FP8_MOST, back = scale > 0 ? 1 / scale : 0;
    for (int64_t i = begin; i < end; i++) to[i - begin] = to_e4m3(x[i] * back);
    return scale;
}

/* Row `row` of the part; wide: room for all columns of w. */
static float put_row(void *to, form f, const radar_matrix *w, const radar_region *part, int64_t row,
                     float *wide) {
    const char *from = (const char *)w->data + (size_t)row * w->row_bytes;
    const int64_t cols = part->col_end - part->col_begin;
    if (f == AS_STORED) {
        memcpy(to, from + row_bytes(f, w->type, part->col_begin), row_bytes(f, w->type, cols));
        return 1;
    }
    const bool all = f == AS_FP8;
    radar_dequantize(wide, w->type, from, all ? 0 : part->col_begin, all ? w->cols : part->col_end);
    if (all) return put_fp8(to, wide, w->cols, part->col_begin, part->col_end);
    put_bf16(to, wide, cols);
    return 1;
}

#define CHUNK ((size_t)1 << 20) /* bytes that go to the device at once */

/* Room of the host for rows that go up together, one row in f32, and the part's scales. */
typedef struct stage {
    char *rows;
    float *wide, *scale;
    int64_t at_once;
} stage;

static bool open_stage(stage *s, size_t each, int64_t rows, int64_t cols) {
    s->at_once = radar_max64(1, (int64_t)(CHUNK / each));
    s->rows = radar_alloc((size_t)s->at_once * each);
    s->wide = radar_alloc_array((size_t)cols, sizeof *s->wide);
    s->scale = radar_alloc_array((size_t)rows, sizeof *s->scale);
    return s->rows && s->wide && s->scale;
}

static void close_stage(stage *s) {
    radar_free(s->rows);
    radar_free(s->wide);
    radar_free(s->scale);
}

static void send_rows(radar_cuda *cuda, char *memory, stage *s, form f, const radar_matrix *w,
                      const radar_region *part, size_t each) {
    const int64_t rows = part->row_end - part->row_begin;
    for (int64_t row = 0, n; row < rows; row += n) {
        n = radar_min64(s->at_once, rows - row);
        for (int64_t i = 0; i < n; i++)
            s->scale[row + i] =
                put_row(s->rows + (size_t)i * each, f, w, part, part->row_begin + row + i, s->wide);
        radar_cuda_upload(cuda->queue, memory + (size_t)row * each, s->rows, (size_t)n * each);
    }
}

void radar_cuda_op_pack(radar_backend *be, void *memory, radar_matrix *w,
                        const radar_region *part) {
    radar_cuda *cuda = radar_cuda_of(be);
    const form f = form_of(cuda, w->type);
    const int64_t rows = part->row_end - part->row_begin, cols = part->col_end - part->col_begin;
    const size_t each = aligned(row_bytes(f, w->type, cols));
    struct radar_packed *p = radar_alloc(sizeof *p);
    stage s = {0};
    if (!open_stage(&s, each, rows, w->cols) || !p) {
        radar_cuda_note(cuda->queue, "weights on their way", cudaErrorMemoryAllocation);
        close_stage(&s);
        radar_free(p);
        return;
    }
    send_rows(cuda, memory, &s, f, w, part, each);
    float *scale = f == AS_FP8 ? (float *)(void *)((char *)memory + (size_t)rows * each) : NULL;
    if (scale) radar_cuda_upload(cuda->queue, scale, s.scale, (size_t)rows * sizeof *scale);
    close_stage(&s);
    *p = (struct radar_packed){
        .next = cuda->packed,
        .part = *part,
        .w = {.type = f == AS_BF16 ? RADAR_BF16 : w->type,
              .rows = rows,
              .cols = cols,
              .data = memory,
              .row_bytes = each},
        .row_scale = scale,
    };
    cuda->packed = p;
    w->packed = p;
}

void radar_cuda_forget_weights(radar_cuda *cuda) {
    for (struct radar_packed *p = cuda->packed, *next; p; p = next) {
        next = p->next;
        radar_free(p);
    }
    cuda->packed = NULL;
}

/* ---- products ---- */

/* What stands for a part without columns, which is not packed: its sums are 0. */
static const struct radar_packed empty = {.w = {.type = RADAR_BF16}};

/* The job in terms of what lies on the device. */
static radar_matvec_job job_of(const radar_matmul_job *job) {
    const struct radar_packed *p = job->w->packed ? job->w->packed : &empty;
    radar_matvec_job out = {.job = *job, .row_scale = p->row_scale};
    out.job.w = &p->w;
    out.job.row_begin -= p->part.row_begin;
    out.job.row_end -= p->part.row_begin;
    out.job.col_begin -= job->w->packed ? p->part.col_begin : job->col_begin;
    out.job.col_end -= job->w->packed ? p->part.col_begin : job->col_begin;
    if (job->bias) out.job.bias = job->bias + p->part.row_begin;
    return out;
}

static bool has_rows(const radar_matmul_job *job) { return job->row_end > job->row_begin; }

typedef enum way { BY_MATVEC, BY_MATMUL, BY_CUBLAS } way;

static way way_of(const radar_cuda *cuda, const radar_matmul_job *job, int M) {
    const radar_matvec_job j = job_of(job);
    const bool whole = job->row_begin == 0 && job->row_end == job->w->rows;
    if (M <= FEW_ROWS || !radar_cuda_matmul_takes(&j)) return BY_MATVEC;
    if (cuda->blas && cuda->opt.precision == RADAR_PRECISION_FAST && radar_cuda_blas_takes(&j) &&
        (job->row_block > 0 || whole))
        return BY_CUBLAS;
    return BY_MATMUL;
}

/* Rows of x that jobs meet. */
typedef struct input {
    const float *x;
    size_t stride;
    int M;
} input;

/* job: changed. */
static int by_matvec(radar_cuda *cuda, radar_matvec_job *job, int n, const input *in) {
    const radar_matvec_device device = {cuda->device.multiprocessors, cuda->device.shared_bytes};
    int status = 0;
    for (int m = 0; m < in->M && !status; m += RADAR_MATVEC_ROWS) {
        status = radar_cuda_matvec(job, n, in->x + (size_t)m * in->stride, in->stride,
                                   (int)radar_min64(RADAR_MATVEC_ROWS, in->M - m),
                                   cuda->opt.precision, &device, cuda->queue);
        for (int i = 0; i < n; i++) job[i].job.out += RADAR_MATVEC_ROWS * job[i].job.out_stride;
    }
    return status;
}

/* NULL: there is not so much, which is noted. */
static void *scratch(radar_cuda *cuda, size_t bytes) {
    return radar_cuda_scratch(cuda->queue, RADAR_CUDA_PRODUCT_SLOT, bytes);
}

static int by_matmul(radar_cuda *cuda, const radar_matvec_job *job, int n, const input *in) {
    void *work = scratch(cuda, radar_cuda_matmul_work(job, n, in->M));
    if (!work) return 0;
    return radar_cuda_matmul(job, n, in->x, in->stride, in->M, cuda->opt.precision, work,
                             cuda->queue);
}

static int by_cublas(radar_cuda *cuda, const radar_matmul_job *job, const input *in) {
    const int64_t rows = job->w->rows;
    const radar_cuda_blas_job own = {
        .job = job_of(job),
        .slices = {.rows = rows,
                   .block = job->row_block ? job->row_block : rows,
                   .slices = job->row_block ? radar_max64(1, cuda->opt.slices) : 1},
        .row = job->w->packed->part.row_begin};
    void *work = scratch(cuda, radar_cuda_blas_work(&own, in->M));
    if (!work) return 0;
    return radar_cuda_blas_multiply(cuda->blas, &own, in->x, in->stride, in->M, work, cuda->queue);
}

/* Job *i, which has rows, and those behind it that go the same way; *i: behind them. */
static int multiply(radar_cuda *cuda, const radar_matmul_job *job, int n_jobs, int *i,
                    radar_matvec_job *to, const input *in) {
    const way w = way_of(cuda, &job[*i], in->M);
    int n = 0;
    if (w == BY_CUBLAS) return by_cublas(cuda, &job[(*i)++], in);
    for (; *i < n_jobs && way_of(cuda, &job[*i], in->M) == w; ++*i)
        if (has_rows(&job[*i])) to[n++] = job_of(&job[*i]);
    return w == BY_MATVEC ? by_matvec(cuda, to, n, in) : by_matmul(cuda, to, n, in);
}

void radar_cuda_op_matmul(radar_backend *be, const radar_matmul_job *job, int n_jobs,
                          const float *x, size_t x_stride, int M) {
    radar_cuda *cuda = radar_cuda_of(be);
    const input in = {x, x_stride, M};
    radar_matvec_job *to = radar_cuda_table(cuda, (size_t)n_jobs * sizeof *to);
    int status = 0;
    for (int i = 0; to && i < n_jobs && !status;)
        if (has_rows(&job[i]))
            status = multiply(cuda, job, n_jobs, &i, to, &in);
        else
            i++;
    radar_cuda_note(cuda->queue, "product", status);
}
