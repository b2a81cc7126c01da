/* queue.h: parameters, what goes to the device and comes from it, and memory. */
#include <string.h>

#include "kernels/cuda/queue_internal.h"

static cudaError_t wait_for(radar_cuda_queue *q, cudaError_t e) {
    return e == cudaSuccess ? cudaStreamSynchronize(q->stream) : e;
}

/* A block of at least `bytes`; on failure it is as it was. */
static bool grow_block(radar_cuda_queue *q, radar_cuda_block *b, size_t bytes) {
    radar_cuda_block more = {.bytes = bytes};
    cudaError_t e = cudaHostAlloc((void **)&more.host, bytes, cudaHostAllocDefault);
    if (e == cudaSuccess) e = cudaMalloc((void **)&more.device, bytes);
    if (e != cudaSuccess) {
        cudaGetLastError(); /* of this call alone */
        cudaFreeHost(more.host);
        radar_cuda_note(q, "memory for parameters", e);
        return false;
    }
    cudaFreeHost(b->host);
    cudaFree(b->device);
    *b = more;
    radar_cuda_forget_graphs(q); /* they copy from where it was */
    return true;
}

void *radar_cuda_put(radar_cuda_queue *q, const void *host, size_t bytes, size_t room) {
    const size_t need = ((room > bytes ? room : bytes) + 255) / 256 * 256;
    if (need > q->block[q->turn].bytes - q->block_used) {
        radar_cuda_run(q);
        q->turn ^= 1;
        q->block_used = 0;
        radar_cuda_block *const next = &q->block[q->turn];
        if (need > next->bytes && !grow_block(q, next, need)) return next->device;
    }
    radar_cuda_block *const b = &q->block[q->turn];
    const size_t at = q->block_used;
    if (bytes) memcpy(b->host + at, host, bytes);
    q->block_used += need;
    return b->device + at;
}

void radar_cuda_upload(radar_cuda_queue *q, void *device, const void *host, size_t bytes) {
    if (bytes <= RADAR_CUDA_SMALL && bytes <= q->block[q->turn].bytes) {
        radar_cuda_copy(q, device, radar_cuda_put(q, host, bytes, bytes), bytes);
        return;
    }
    radar_cuda_run(q);
    if (q->err.status != RADAR_OK) return;
    const int e = radar_cuda_write_now(q, device, host, bytes);
    radar_cuda_note(q, "a copy to the device", (cudaError_t)e);
}

/* What does not land in the block is copied when the piece is done. */
void radar_cuda_fetch(radar_cuda_queue *q, void *host, const void *device, size_t bytes) {
    const bool small = bytes <= RADAR_CUDA_SMALL;
    if (bytes == 0) return;
    if (small && bytes > RADAR_CUDA_LANDING - q->landing_used) radar_cuda_run(q);
    void *const list =
        radar_cuda_grow(q, q->fetched, q->n_fetched + 1, &q->fetched_room, sizeof *q->fetched);
    if (!list) return;
    q->fetched = list;
    radar_cuda_fetched f = {.host = host, .from = device, .bytes = bytes};
    if (small) {
        radar_cuda_command *const c = radar_cuda_push(q, RADAR_CUDA_LAND, 0, NULL);
        if (!c) return;
        f.from = c->to = q->landing + q->landing_used;
        c->from = device;
        c->bytes = bytes;
        q->landing_used += (bytes + 63) / 64 * 64;
    }
    f.command = q->n;
    q->fetched[q->n_fetched++] = f;
}

int radar_cuda_read_now(radar_cuda_queue *q, void *host, const void *device, size_t bytes) {
    return (int)wait_for(q,
                         cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, q->stream));
}

int radar_cuda_write_now(radar_cuda_queue *q, void *device, const void *host, size_t bytes) {
    return (int)wait_for(q,
                         cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, q->stream));
}

/* Zero ahead of all commands, which are on the same stream. */
static cudaError_t allocate(radar_cuda_queue *q, void **memory, size_t bytes) {
    cudaError_t e = cudaMalloc(memory, bytes ? bytes : 1);
    if (e == cudaSuccess) e = cudaMemsetAsync(*memory, 0, bytes ? bytes : 1, q->stream);
    if (e == cudaSuccess) return e;
    cudaGetLastError(); /* the caller has it */
    cudaFree(*memory);
    *memory = NULL;
    return e;
}

void *radar_cuda_alloc(radar_cuda_queue *q, size_t bytes) {
    void *memory = NULL;
    const cudaError_t e = allocate(q, &memory, bytes);
    if (e != cudaErrorMemoryAllocation) radar_cuda_note(q, "taking memory", e);
    return memory;
}

void radar_cuda_release(radar_cuda_queue *q, void *memory) {
    if (memory && q->n > 0) radar_cuda_run(q); /* it may be what is queued for */
    radar_cuda_note(q, "giving memory back", cudaFree(memory));
}

void *radar_cuda_scratch(radar_cuda_queue *q, int slot, size_t bytes) {
    if (bytes <= q->scratch[slot].bytes) return q->scratch[slot].memory;
    radar_cuda_run(q);
    radar_cuda_release(q, q->scratch[slot].memory);
    q->scratch[slot].memory = NULL;
    q->scratch[slot].bytes = 0;
    const cudaError_t e = allocate(q, &q->scratch[slot].memory, bytes);
    radar_cuda_note(q, "scratch memory", e);
    if (e == cudaSuccess) q->scratch[slot].bytes = bytes;
    return q->scratch[slot].memory;
}
