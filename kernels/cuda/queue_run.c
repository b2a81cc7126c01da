/* queue.h: running what is listed. */
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/queue_internal.h"
#include "runtime/sys.h"

#define MOST_ARGS 32
#define WATCH_SECONDS 0.1

static cudaError_t launch(radar_cuda_queue *q, const radar_cuda_command *c, unsigned char *data) {
    void *args[MOST_ARGS];
    size_t bytes;
    size_t at = (size_t)c->args * sizeof bytes;
    if (c->args > MOST_ARGS) return cudaErrorInvalidValue;
    for (uint32_t i = 0; i < c->args; i++) {
        at = (at + 15) / 16 * 16;
        args[i] = data + at;
        memcpy(&bytes, data + i * sizeof bytes, sizeof bytes);
        at += bytes;
    }
    const unsigned *const g = c->shape.grid, *const b = c->shape.block;
    return cudaLaunchKernel(c->kernel, (dim3){g[0], g[1], g[2]}, (dim3){b[0], b[1], b[2]}, args,
                            c->shape.shared_bytes, q->stream);
}

static const char *name_of(const radar_cuda_command *c) {
    const char *name = "a kernel";
    switch ((enum radar_cuda_kind)c->kind) {
    case RADAR_CUDA_PARAMETERS:
        return "the copy of parameters";
    case RADAR_CUDA_KERNEL:
#if CUDART_VERSION >= 12030
        if (cudaFuncGetName(&name, c->kernel) != cudaSuccess) name = "a kernel";
#endif
        return name;
    case RADAR_CUDA_COPY:
        return "a copy";
    case RADAR_CUDA_LAND:
        return "a copy to the host";
    case RADAR_CUDA_CLEAR:
        return "clearing memory";
    case RADAR_CUDA_CALL:
        return c->what;
    case RADAR_CUDA_HOST:
        break;
    }
    return "work of the host";
}

static void note_command(radar_cuda_queue *q, size_t i, cudaError_t e) {
    char what[256];
    snprintf(what, sizeof what, "%s, command %zu of %zu", name_of(&q->command[i]), i, q->n - 1);
    radar_cuda_note(q, what, e);
}

/* A library's own number says nothing here; where CUDA has one too, that is it. */
static void note_call(radar_cuda_queue *q, size_t i, int failed) {
    const cudaError_t e = cudaGetLastError();
    if (e != cudaSuccess)
        note_command(q, i, e);
    else
        radar_fail(&q->err, RADAR_ERR_INTERNAL, "GPU %d: %s fails with error %d", q->device,
                   q->command[i].what, failed);
}

static cudaError_t issue_one(radar_cuda_queue *q, const radar_cuda_command *c,
                             unsigned char *data) {
    switch ((enum radar_cuda_kind)c->kind) {
    case RADAR_CUDA_KERNEL:
        return launch(q, c, data + c->at);
    case RADAR_CUDA_PARAMETERS:
        if (c->bytes == 0) return cudaSuccess;
        return cudaMemcpyAsync(c->to, c->from, c->bytes, cudaMemcpyHostToDevice, q->stream);
    case RADAR_CUDA_COPY:
        return cudaMemcpyAsync(c->to, c->from, c->bytes, cudaMemcpyDeviceToDevice, q->stream);
    case RADAR_CUDA_LAND:
        return cudaMemcpyAsync(c->to, c->from, c->bytes, cudaMemcpyDeviceToHost, q->stream);
    case RADAR_CUDA_CLEAR:
        return cudaMemsetAsync(c->to, 0, c->bytes, q->stream);
    case RADAR_CUDA_CALL:
    case RADAR_CUDA_HOST:
        break;
    }
    return cudaErrorInvalidValue;
}

bool radar_cuda_issue(radar_cuda_queue *q, size_t begin, size_t end, unsigned char *data,
                      bool note) {
    for (size_t i = begin; i < end; i++) {
        const radar_cuda_command *const c = &q->command[i];
        if (c->kind == RADAR_CUDA_CALL) {
            const int failed = c->work.call(data + c->at, q->stream);
            if (failed && note) note_call(q, i, failed);
            if (failed) return false;
            continue;
        }
        const cudaError_t e = issue_one(q, c, data);
        if (e == cudaSuccess) continue;
        cudaGetLastError(); /* it is in e */
        if (note) note_command(q, i, e);
        return false;
    }
    return true;
}

/* Fetches that wait for commands before `end`, from *next on. */
static void deliver(radar_cuda_queue *q, size_t end, size_t *next) {
    for (; *next < q->n_fetched && q->fetched[*next].command <= end; ++*next) {
        const radar_cuda_fetched *const f = &q->fetched[*next];
        if (f->bytes <= RADAR_CUDA_SMALL)
            memcpy(f->host, f->from, f->bytes);
        else
            radar_cuda_note(q, "a copy to the host",
                            (cudaError_t)radar_cuda_read_now(q, f->host, f->from, f->bytes));
        if (q->err.status != RADAR_OK) return;
    }
}

/* Until the stream is done, or the watcher says that it never will be. */
static cudaError_t finish(radar_cuda_queue *q) {
    if (!q->check) return cudaStreamSynchronize(q->stream);
    double asked = radar_clock();
    cudaError_t e;
    while ((e = cudaStreamQuery(q->stream)) == cudaErrorNotReady) {
        const double now = radar_clock();
        cudaGetLastError(); /* being busy is no error of anybody's */
        if (now - asked < WATCH_SECONDS) continue;
        asked = now;
        if (q->check(q->check_user, &q->err) != RADAR_OK) return cudaSuccess; /* it is in q->err */
    }
    return e;
}

static void run_piece(radar_cuda_queue *q, size_t begin, size_t end, unsigned char *data,
                      size_t data_bytes) {
    if (begin == end) return;
    if (!radar_cuda_replay(q, begin, end, data, data_bytes)) {
        if (radar_cuda_issue(q, begin, end, data, true))
            q->stats.direct += (int64_t)(end - begin) - (begin == 0);
    }
    char what[64];
    snprintf(what, sizeof what, "one of %zu commands", end - begin);
    radar_cuda_note(q, what, finish(q));
}

/* The parameters that were put; what is copied is a power of two, so that lists which differ in a few are the same. */
static void list_parameters(radar_cuda_queue *q) {
    const radar_cuda_block *const b = &q->block[q->turn];
    size_t bytes = 4096;
    if (q->block_used == 0 || !radar_cuda_begin(q)) return;
    while (bytes < q->block_used) bytes *= 2;
    if (bytes > b->bytes) bytes = b->bytes;
    q->command[0].to = b->device;
    q->command[0].from = b->host;
    q->command[0].bytes = bytes;
    q->stats.parameter_bytes += (int64_t)bytes;
}

static void run_host(radar_cuda_queue *q, const radar_cuda_command *c) {
    const radar_status st = c->work.host(q->data + c->at, &q->err);
    if (st != RADAR_OK) radar_fail(&q->err, st, "work of the host: %s", radar_strerror(st));
}

void radar_cuda_let_go(radar_cuda_queue *q, bool run) {
    if (run && q->n > 0) radar_cuda_run(q);
    radar_cuda_forget_graphs(q);
}

void radar_cuda_drop(radar_cuda_queue *q) {
    q->n = q->n_fetched = 0;
    q->data_bytes = q->piece = q->landing_used = 0;
}

void radar_cuda_run(radar_cuda_queue *q) {
    size_t next = 0, data = 0, begin = 0;
    list_parameters(q);
    while (q->err.status == RADAR_OK) {
        size_t end = begin;
        while (end < q->n && q->command[end].kind != RADAR_CUDA_HOST) end++;
        const size_t data_end = end < q->n ? q->command[end].at : q->data_bytes;
        run_piece(q, begin, end, q->data + data, data_end - data);
        if (q->err.status == RADAR_OK) deliver(q, end, &next);
        if (end == q->n || q->err.status != RADAR_OK) break;
        run_host(q, &q->command[end]);
        data = data_end + (q->command[end].bytes + 15) / 16 * 16;
        begin = end + 1;
    }
    q->stats.commands += q->n ? (int64_t)q->n - 1 : 0;
    radar_cuda_drop(q);
}

radar_status radar_cuda_wait(radar_cuda_queue *q, radar_error *err) {
    radar_cuda_run(q);
    q->stats.waits++;
    q->turn = 0; /* so that the same list has the same addresses */
    q->block_used = 0;
    const radar_error first = q->err;
    q->err.status = RADAR_OK;
    return first.status == RADAR_OK ? RADAR_OK : radar_fail(err, first.status, "%s", first.text);
}
