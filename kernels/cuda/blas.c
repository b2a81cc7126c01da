#include "kernels/cuda/blas.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime.h>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/queue.h"
#include "runtime/sys.h"

#define WORKSPACE ((size_t)32 << 20) /* what cuBLAS asks for on sm_90 */

/* Values of cuBLAS's enumerations, and of the runtime's cudaDataType; results are int, 0 = success. */
enum {
    OP_N = 0,
    OP_T = 1,
    TYPE_F32 = 0,
    TYPE_F16 = 2,
    TYPE_BF16 = 14,
    COMPUTE_F32 = 68,
    GEMM_DEFAULT = -1,
    MATH_F32_REDUCTIONS = 16
};

typedef struct handle handle; /* cublasHandle_t points to it */

struct radar_cuda_blas {
    int (*create)(handle **h);
    int (*destroy)(handle *h);
    int (*set_stream)(handle *h, void *stream);
    int (*set_workspace)(handle *h, void *memory, size_t bytes);
    int (*set_math)(handle *h, int mode);
    int (*gemm)(handle *h, int op_a, int op_b, int m, int n, int k, const void *alpha,
                const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);
    handle *handle;
    radar_cuda_queue *queue;
    void *workspace; /* cuBLAS's own could lie elsewhere in each graph */
};

static const struct entry {
    const char *name;
    size_t at;
} entries[] = {
    {"cublasCreate_v2", offsetof(radar_cuda_blas, create)},
    {"cublasDestroy_v2", offsetof(radar_cuda_blas, destroy)},
    {"cublasSetStream_v2", offsetof(radar_cuda_blas, set_stream)},
    {"cublasSetWorkspace_v2", offsetof(radar_cuda_blas, set_workspace)},
    {"cublasSetMathMode", offsetof(radar_cuda_blas, set_math)},
    {"cublasGemmEx", offsetof(radar_cuda_blas, gemm)},
};

/* ---- the library ---- */

static void *find_library(void) {
    const char *path = getenv("RADAR_CUBLAS");
    if (path && *path)
        return strcmp(path, "none") == 0 ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *library = dlopen("libcublas.so.13", RTLD_NOW | RTLD_LOCAL);
    return library ? library : dlopen("libcublas.so.12", RTLD_NOW | RTLD_LOCAL);
}

static bool load(radar_cuda_blas *b) {
    void *library = find_library();
    for (size_t i = 0; library && i < sizeof entries / sizeof *entries; i++) {
        void *function = dlsym(library, entries[i].name);
        if (!function) return false;
        memcpy((char *)b + entries[i].at, &function, sizeof function);
    }
    return library != NULL;
}

radar_cuda_blas *radar_cuda_blas_open(radar_cuda_queue *queue) {
    radar_cuda_blas *b = radar_alloc(sizeof *b);
    if (!b) return NULL;
    *b = (radar_cuda_blas){.queue = queue};
    if (!load(b)) goto fail;
    if (b->create(&b->handle) != 0) {
        b->handle = NULL;
        goto fail;
    }
    b->workspace = radar_cuda_alloc(queue, WORKSPACE);
    if (!b->workspace || b->set_math(b->handle, MATH_F32_REDUCTIONS) != 0) goto fail;
    return b;
fail:
    radar_cuda_blas_close(b);
    return NULL;
}

void radar_cuda_blas_close(radar_cuda_blas *b) {
    if (!b) return;
    if (b->handle) b->destroy(b->handle);
    if (b->workspace) radar_cuda_release(b->queue, b->workspace);
    radar_free(b);
}

/* ---- products ---- */

/* out [M, rows] = x [M, columns] w [rows, columns]^T, of 16 bits each; out f32. */
typedef struct gemm {
    const radar_cuda_blas *blas;
    const void *w, *x;
    float *out;
    int64_t rows, M, columns, type, w_stride, x_stride,
        out_stride; /* no padding: a list is known by its bytes */
} gemm;

/* cuBLAS counts columns first: it is told of out^T = w x^T. */
static int run_gemm(void *data, void *stream) {
    const gemm *g = data;
    const radar_cuda_blas *b = g->blas;
    const float one = 1, zero = 0;
    int st = b->set_stream(b->handle, stream); /* which forgets the workspace */
    if (st == 0) st = b->set_workspace(b->handle, b->workspace, WORKSPACE);
    if (st) return st;
    return b->gemm(b->handle, OP_T, OP_N, (int)g->rows, (int)g->M, (int)g->columns, &one, g->w,
                   (int)g->type, (int)g->w_stride, g->x, (int)g->type, (int)g->x_stride, &zero,
                   g->out, TYPE_F32, (int)g->out_stride, COMPUTE_F32, GEMM_DEFAULT);
}

bool radar_cuda_blas_takes(const radar_matvec_job *job) {
    const radar_dtype type = job->job.w->type;
    return !job->row_scale && (type == RADAR_F16 || type == RADAR_BF16) &&
           job->job.col_end > job->job.col_begin && radar_cuda_matmul_takes(job);
}

/* Where things lie in `work`: x in 16 bits, factors of its rows, slices of the output. */
typedef struct layout {
    size_t stride, back, slices, width,
        end; /* stride of x in numbers, the others but width in bytes */
} layout;

static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

static layout layout_of(const radar_cuda_blas_job *job, int M) {
    const radar_matmul_job *j = &job->job.job;
    const radar_cuda_slices *s = &job->slices;
    const int64_t blocks = radar_ceil_div(s->rows, s->block);
    layout l = {.stride = (size_t)radar_ceil_div(j->col_end - j->col_begin, 32) * 32,
                .width = (size_t)(radar_ceil_div(blocks, s->slices) * s->block + 63) / 64 * 64};
    l.back = aligned((size_t)M * l.stride * 2);
    l.slices = l.back + aligned((size_t)M * sizeof(float));
    l.end = l.slices + (size_t)s->slices * (size_t)M * l.width * sizeof(float);
    return l;
}

size_t radar_cuda_blas_work(const radar_cuda_blas_job *job, int M) { return layout_of(job, M).end; }

/* Each slice of the job; their results lie one after the other. */
static void queue_slices(const radar_cuda_blas_job *job, gemm g, radar_cuda_queue *queue) {
    const radar_matmul_job *j = &job->job.job;
    for (int64_t i = 0, begin = 0, end; i < job->slices.slices; i++, begin = end) {
        end = radar_cuda_slice_end(&job->slices, i);
        if (end <= begin || begin < job->row + j->row_begin || end > job->row + j->row_end)
            continue;
        g.w = (const char *)j->w->data + (size_t)(begin - job->row) * j->w->row_bytes +
              (size_t)j->col_begin * 2;
        g.rows = end - begin;
        radar_cuda_call(queue, "cuBLAS", run_gemm, &g, sizeof g);
        g.out += g.M * g.out_stride;
    }
}

int radar_cuda_blas_multiply(radar_cuda_blas *b, const radar_cuda_blas_job *job, const float *x,
                             size_t x_stride, int M, void *work, radar_cuda_queue *queue) {
    const radar_matmul_job *j = &job->job.job;
    const layout l = layout_of(job, M);
    const bool f16 = j->w->type == RADAR_F16;
    char *to = work;
    float *back = f16 ? (float *)(void *)(to + l.back) : NULL;
    float *slices = (float *)(void *)(to + l.slices);
    if (!radar_cuda_blas_takes(&job->job)) return cudaErrorInvalidValue;
    const radar_cuda_halves halves = {.x = x + j->x_begin,
                                      .x_stride = x_stride,
                                      .M = M,
                                      .columns = (int)(j->col_end - j->col_begin),
                                      .rows = M,
                                      .to = (uint16_t *)work,
                                      .row_stride = l.stride,
                                      .chunk_stride = 32,
                                      .back = back};
    const gemm g = {.blas = b,
                    .x = work,
                    .out = slices,
                    .M = M,
                    .columns = halves.columns,
                    .type = f16 ? TYPE_F16 : TYPE_BF16,
                    .w_stride = (int64_t)(j->w->row_bytes / 2),
                    .x_stride = (int64_t)l.stride,
                    .out_stride = (int64_t)l.width};
    const radar_cuda_unite unite = {.slice = slices,
                                    .back = back,
                                    .bias = j->bias ? j->bias + j->row_begin : NULL,
                                    .width = l.width,
                                    .slices = job->slices,
                                    .begin = job->row + j->row_begin,
                                    .rows = (int32_t)(j->row_end - j->row_begin),
                                    .M = M,
                                    .out = j->out,
                                    .out_stride = j->out_stride};
    const int status = radar_cuda_round(&halves, f16, 1, queue);
    if (status) return status;
    queue_slices(job, g, queue);
    return radar_cuda_unite_slices(&unite, queue);
}
