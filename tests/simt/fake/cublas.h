/* cublas.h - the fake cuBLAS's functions, and what it has counted.  Tests find fake_cublas in the library by dlsym. */
#ifndef RADAR_TEST_FAKE_CUBLAS_H
#define RADAR_TEST_FAKE_CUBLAS_H

#include <stddef.h>

#define FAKE_CUBLAS_SHAPES 64

typedef struct fake_cublas_shape {
    int m, n, k;
} fake_cublas_shape;

typedef struct fake_cublas_counts {
    int open, products;
    fake_cublas_shape shape[FAKE_CUBLAS_SHAPES]; /* of the first of them */
} fake_cublas_counts;

typedef struct fake_cublas_handle fake_cublas_handle;

extern fake_cublas_counts fake_cublas;
int cublasCreate_v2(fake_cublas_handle **h);
int cublasDestroy_v2(fake_cublas_handle *h);
int cublasSetStream_v2(fake_cublas_handle *h, void *stream);
int cublasSetWorkspace_v2(fake_cublas_handle *h, void *memory, size_t bytes);
int cublasSetMathMode(fake_cublas_handle *h, int mode);
int cublasGemmEx(fake_cublas_handle *h, int op_a, int op_b, int m, int n, int k, const void *alpha,
                 const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                 const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);

#endif
