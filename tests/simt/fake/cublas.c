/* cuBLAS's C interface for tests without a GPU: a product takes its turn on the fake stream, in f64.  Only what kernels/cuda/blas.c asks
 * for is right; anything else is refused.  RADAR_FAKE_CUBLAS=fail: every product fails;  =create: there is no handle. */
#include "tests/simt/fake/cublas.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID = 7, EXECUTION_FAILED = 13 };
enum { F32 = 0, F16 = 2, BF16 = 14, COMPUTE_F32 = 68, OP_N = 0, OP_T = 1 };

fake_cublas_counts fake_cublas;

struct fake_cublas_handle {
    void *stream, *workspace;
};

static int is_set(const char *word) {
    const char *said = getenv("RADAR_FAKE_CUBLAS");
    return said && strcmp(said, word) == 0;
}

int cublasCreate_v2(fake_cublas_handle **h) {
    if (is_set("create")) return NOT_INITIALIZED;
    *h = calloc(1, sizeof **h);
    fake_cublas.open++;
    return SUCCESS;
}

int cublasDestroy_v2(fake_cublas_handle *h) {
    free(h);
    fake_cublas.open--;
    return SUCCESS;
}

int cublasSetStream_v2(fake_cublas_handle *h, void *stream) {
    h->stream = stream;
    h->workspace = NULL;
    return SUCCESS;
}

int cublasSetWorkspace_v2(fake_cublas_handle *h, void *memory, size_t bytes) {
    h->workspace = memory;
    return memory && (uintptr_t)memory % 256 == 0 && bytes >= (size_t)32 << 20 ? SUCCESS : INVALID;
}

int cublasSetMathMode(fake_cublas_handle *h, int mode) {
    (void)h;
    return mode == 16 ? SUCCESS : INVALID;
}

/* c (i, j) = sum a (l, i) b (l, j), columns first. */
typedef struct product {
    const uint16_t *a, *b;
    float *c;
    int m, n, k, lda, ldb, ldc, type;
} product;

static double wide(uint16_t x, int type) {
    if (type == F16) {
        _Float16 h;
        memcpy(&h, &x, sizeof h);
        return (double)h;
    }
    const uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static void run(void *data) {
    const product *p = data;
    for (int j = 0; j < p->n; j++)
        for (int i = 0; i < p->m; i++) {
            double sum = 0;
            for (int l = 0; l < p->k; l++)
                sum += wide(p->a[(size_t)i * (size_t)p->lda + (size_t)l], p->type) *
                       wide(p->b[(size_t)j * (size_t)p->ldb + (size_t)l], p->type);
            p->c[(size_t)j * (size_t)p->ldc + (size_t)i] = (float)sum;
        }
}

int cublasGemmEx(fake_cublas_handle *h, int op_a, int op_b, int m, int n, int k, const void *alpha,
                 const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                 const void *beta, void *c, int c_type, int ldc, int compute, int algorithm) {
    const product p = {a, b, c, m, n, k, lda, ldb, ldc, a_type};
    int (*enqueue)(void *, void (*)(void *), const void *, size_t) =
        (int (*)(void *, void (*)(void *), const void *, size_t))dlsym(RTLD_DEFAULT,
                                                                       "fake_cuda_enqueue");
    if (!enqueue || !h->stream || !h->workspace) return NOT_INITIALIZED;
    if (is_set("fail")) return EXECUTION_FAILED;
    if (op_a != OP_T || op_b != OP_N || (a_type != F16 && a_type != BF16) || b_type != a_type ||
        c_type != F32 || compute != COMPUTE_F32 || algorithm != -1 || *(const float *)alpha != 1 ||
        *(const float *)beta != 0 || lda < k || ldb < k || ldc < m || m < 1 || n < 1 || k < 1)
        return INVALID;
    if ((uintptr_t)a % 16 || (uintptr_t)b % 16 || (uintptr_t)c % 16) return INVALID;
    if (fake_cublas.products < FAKE_CUBLAS_SHAPES)
        fake_cublas.shape[fake_cublas.products] = (fake_cublas_shape){m, n, k};
    fake_cublas.products++;
    return enqueue(h->stream, run, &p, sizeof p);
}
