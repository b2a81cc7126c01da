/* queue.h: opening and closing, and commands as they are listed. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/queue_internal.h"

#define MOST_KERNELS 4096 /* that ask for shared memory; a power of two */

static radar_status open_memory(radar_cuda_queue *q, size_t bytes, radar_error *err) {
    cudaError_t e = cudaHostAlloc((void **)&q->landing, RADAR_CUDA_LANDING, cudaHostAllocDefault);
    for (int i = 0; i < 2 && e == cudaSuccess; i++) {
        radar_cuda_block *const b = &q->block[i];
        b->bytes = bytes;
        e = cudaHostAlloc((void **)&b->host, bytes, cudaHostAllocDefault);
        if (e == cudaSuccess) e = cudaMalloc((void **)&b->device, bytes);
    }
    return e == cudaSuccess ? RADAR_OK
                            : radar_cuda_fail(err, q->device, "memory for parameters", (int)e);
}

radar_status radar_cuda_queue_open(radar_cuda_queue **out, const radar_cuda_queue_options *opt,
                                   radar_error *err) {
    const size_t bytes = opt->parameter_bytes ? opt->parameter_bytes : (size_t)8 << 20;
    radar_cuda_device device;
    *out = NULL;
    radar_status st = radar_cuda_device_of(&device, opt->device, err);
    if (st != RADAR_OK) return st;
    radar_cuda_queue *const q = calloc(1, sizeof *q);
    if (!q) return radar_fail(err, RADAR_ERR_MEMORY, "a queue of commands: out of memory");
    q->device = opt->device;
    q->graphs = opt->graphs;
    const cudaError_t e = cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking);
    st = e == cudaSuccess ? open_memory(q, (bytes + 255) / 256 * 256, err)
                          : radar_cuda_fail(err, q->device, "a stream", (int)e);
    if (st != RADAR_OK) {
        radar_cuda_queue_close(q);
        return st;
    }
    *out = q;
    return RADAR_OK;
}

void radar_cuda_queue_close(radar_cuda_queue *q) {
    if (!q) return;
    radar_cuda_forget_graphs(q);
    for (int i = 0; i < RADAR_CUDA_SCRATCHES; i++) cudaFree(q->scratch[i].memory);
    for (int i = 0; i < 2; i++) {
        cudaFree(q->block[i].device);
        cudaFreeHost(q->block[i].host);
    }
    cudaFreeHost(q->landing);
    if (q->stream) cudaStreamDestroy(q->stream);
    free(q->command);
    free(q->data);
    free(q->fetched);
    free(q);
}

radar_cuda_queue_stats radar_cuda_queue_stats_of(const radar_cuda_queue *q) { return q->stats; }

void radar_cuda_watch(radar_cuda_queue *q, radar_status (*check)(void *user, radar_error *err),
                      void *user) {
    q->check = check;
    q->check_user = user;
}

void radar_cuda_note(radar_cuda_queue *q, const char *what, int error) {
    if (error) radar_cuda_fail(&q->err, q->device, what, error);
}

void *radar_cuda_grow(radar_cuda_queue *q, void *array, size_t n, size_t *room, size_t size) {
    if (n <= *room) return array;
    const size_t more = n < 64 ? 64 : 2 * n;
    void *const grown = realloc(array, more * size);
    if (grown)
        *room = more;
    else
        radar_fail(&q->err, RADAR_ERR_MEMORY, "a list of %zu commands: out of memory", q->n);
    return grown;
}

static radar_cuda_command *push(radar_cuda_queue *q, enum radar_cuda_kind kind, size_t bytes,
                                unsigned char **data) {
    const size_t whole = (bytes + 15) / 16 * 16;
    void *const list = radar_cuda_grow(q, q->command, q->n + 1, &q->room, sizeof *q->command);
    if (!list) return NULL;
    q->command = list;
    if (whole) {
        void *const grown = radar_cuda_grow(q, q->data, q->data_bytes + whole, &q->data_room, 1);
        if (!grown) return NULL;
        q->data = grown;
        *data = q->data + q->data_bytes;
        memset(*data, 0, whole);
    }
    radar_cuda_command *const c = &q->command[q->n++];
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->bytes = bytes;
    c->at = q->data_bytes - q->piece;
    q->data_bytes += whole;
    return c;
}

bool radar_cuda_begin(radar_cuda_queue *q) {
    return q->n > 0 || push(q, RADAR_CUDA_PARAMETERS, 0, NULL);
}

radar_cuda_command *radar_cuda_push(radar_cuda_queue *q, enum radar_cuda_kind kind, size_t bytes,
                                    unsigned char **data) {
    return radar_cuda_begin(q) ? push(q, kind, bytes, data) : NULL;
}

int radar_cuda_launch(radar_cuda_queue *q, const void *kernel, const radar_cuda_shape *shape,
                      void *const *args, const size_t *bytes, int n) {
    if (!q)
        return (int)cudaLaunchKernel(kernel, (dim3){shape->grid[0], shape->grid[1], shape->grid[2]},
                                     (dim3){shape->block[0], shape->block[1], shape->block[2]},
                                     (void **)args, shape->shared_bytes, NULL);
    size_t all = (size_t)n * sizeof *bytes;
    for (int i = 0; i < n; i++) all = (all + 15) / 16 * 16 + bytes[i];
    unsigned char *data = NULL;
    radar_cuda_command *const c = radar_cuda_push(q, RADAR_CUDA_KERNEL, all, &data);
    if (!c) return 0; /* wait says so */
    c->kernel = kernel;
    c->args = (uint32_t)n;
    c->shape = *shape;
    if (n) memcpy(data, bytes, (size_t)n * sizeof *bytes);
    size_t at = (size_t)n * sizeof *bytes;
    for (int i = 0; i < n; i++) {
        at = (at + 15) / 16 * 16;
        memcpy(data + at, args[i], bytes[i]);
        at += bytes[i];
    }
    return 0;
}

/* Launches come later than what allows them: what one of them was allowed is never lowered for another. */
static int allow_shared(const void *kernel, int device, size_t bytes) {
    static struct {
        const void *kernel;
        int device;
        size_t bytes;
    } known[MOST_KERNELS];
    size_t i = (((uintptr_t)kernel >> 4) + (size_t)device) % MOST_KERNELS;
    for (int n = 0; known[i].kernel && (known[i].kernel != kernel || known[i].device != device);
         n++) {
        if (n == MOST_KERNELS) return cudaErrorMemoryAllocation;
        i = (i + 1) % MOST_KERNELS;
    }
    if (known[i].kernel && bytes <= known[i].bytes) return cudaSuccess;
    const cudaError_t e =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (e != cudaSuccess) {
        cudaGetLastError(); /* the caller has it */
        return (int)e;
    }
    known[i].kernel = kernel;
    known[i].device = device;
    known[i].bytes = bytes;
    return cudaSuccess;
}

/* Ranks that are threads share what the process knows; what is allowed is so on one device. */
int radar_cuda_allow_shared(const void *kernel, size_t bytes) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int device = 0;
    cudaError_t e = cudaGetDevice(&device);
    if (e != cudaSuccess) return (int)e;
    pthread_mutex_lock(&lock);
    const int status = allow_shared(kernel, device, bytes);
    pthread_mutex_unlock(&lock);
    return status;
}

void radar_cuda_copy(radar_cuda_queue *q, void *to, const void *from, size_t bytes) {
    radar_cuda_command *const c = bytes ? radar_cuda_push(q, RADAR_CUDA_COPY, 0, NULL) : NULL;
    if (!c) return;
    c->to = to;
    c->from = from;
    c->bytes = bytes;
}

void radar_cuda_clear(radar_cuda_queue *q, void *device, size_t bytes) {
    radar_cuda_command *const c = bytes ? radar_cuda_push(q, RADAR_CUDA_CLEAR, 0, NULL) : NULL;
    if (!c) return;
    c->to = device;
    c->bytes = bytes;
}

void radar_cuda_call(radar_cuda_queue *q, const char *what, int (*work)(void *data, void *stream),
                     const void *data, size_t bytes) {
    unsigned char *copy = NULL;
    radar_cuda_command *const c = radar_cuda_push(q, RADAR_CUDA_CALL, bytes, &copy);
    if (!c) return;
    c->what = what;
    c->work.call = work;
    if (bytes) memcpy(copy, data, bytes);
}

void radar_cuda_host(radar_cuda_queue *q, radar_status (*work)(void *data, radar_error *err),
                     const void *data, size_t bytes) {
    unsigned char *copy = NULL;
    radar_cuda_command *const c = radar_cuda_push(q, RADAR_CUDA_HOST, bytes, &copy);
    if (!c) return;
    c->work.host = work;
    c->at += q->piece;
    q->piece = q->data_bytes;
    if (bytes) memcpy(copy, data, bytes);
}
