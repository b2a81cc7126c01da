/* The CUDA backend: opens, lists its operations, and what is neither a kernel nor a table of one: memory, waiting, carriers' work. */
#include <stdio.h>
#include <string.h>

#include <cuda_runtime.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "runtime/sys.h"

/* ---- open and close ---- */

static void cuda_close(radar_backend *be) {
    if (!be) return;
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_forget_weights(cuda);
    radar_cuda_blas_close(cuda->blas);
    radar_cuda_queue_close(cuda->queue);
    radar_free(cuda->table);
    radar_free(cuda);
}

static void describe(radar_cuda *cuda) {
    const radar_cuda_device *d = &cuda->device;
    snprintf(cuda->description, sizeof cuda->description,
             "cuda %d (%s, sm_%d%d, %.0f GiB, graphs %s%s)", cuda->opt.device, d->name, d->major,
             d->minor, (double)d->total_bytes / (1024.0 * 1024 * 1024),
             cuda->opt.graphs ? "on" : "off", cuda->blas ? ", cuBLAS" : "");
}

static radar_status cuda_open(radar_backend **out, const radar_backend_options *opt,
                              radar_error *err) {
    extern const radar_backend_ops radar_cuda_backend;
    radar_cuda *cuda = NULL;
    radar_status st;
    int n = 0;
    *out = NULL;
    RADAR_TRY(st, radar_cuda_devices(&n, err), fail);
    cuda = radar_alloc(sizeof *cuda);
    if (!cuda) {
        st = radar_fail(err, RADAR_ERR_MEMORY, "backend: no memory");
        goto fail;
    }
    *cuda = (radar_cuda){.base = {&radar_cuda_backend}, .opt = *opt};
    if (opt->device < 0) cuda->opt.device = opt->turn % n;
    RADAR_TRY(st, radar_cuda_device_of(&cuda->device, cuda->opt.device, err), fail);
    const radar_cuda_queue_options queue = {.device = cuda->opt.device, .graphs = opt->graphs};
    RADAR_TRY(st, radar_cuda_queue_open(&cuda->queue, &queue, err), fail);
    cuda->blas = radar_cuda_blas_open(cuda->queue);
    describe(cuda);
    *out = &cuda->base;
    return RADAR_OK;
fail:
    cuda_close(cuda ? &cuda->base : NULL);
    return st;
}

static const char *cuda_describe(const radar_backend *be) {
    return ((const radar_cuda *)be)->description;
}

/* What comes later: scratch of operations, graphs, code of kernels that is loaded when they are first launched. */
static size_t kept_back(const radar_cuda_device *d) {
    return ((size_t)64 << 20) + d->total_bytes / 64;
}

static radar_device_facts cuda_facts(const radar_backend *be) {
    const radar_cuda *cuda = (const radar_cuda *)be;
    radar_cuda_device now = cuda->device;
    radar_cuda_device_of(&now, cuda->opt.device, NULL);
    const size_t kept = kept_back(&now);
    return (radar_device_facts){now.total_bytes, now.free_bytes > kept ? now.free_bytes - kept : 0,
                                cuda->device.bus};
}

/* ---- what it has not ---- */

static radar_status refuse(radar_error *err, const char *what, const char *name, const char *cure) {
    return radar_fail(err, RADAR_ERR_CONFIG, "%s%s%s%s: not on the CUDA backend; use %s", what,
                      *name ? " '" : "", name, *name ? "'" : "", cure);
}

static radar_status check_scorer(const radar_scorer *s, radar_error *err) {
    if (!s || radar_cuda_has_scorer(s)) return RADAR_OK;
    return refuse(err, "scorer", s->kind->name,
                  "--scorer sketch, mean or rf, or --backend cpu for the others");
}

static radar_status cuda_check(const radar_backend *be, const radar_needs *needs,
                               radar_error *err) {
    radar_status st;
    (void)be;
    if (needs->kv_type == RADAR_Q8)
        return refuse(err, "--kv-type", "q8", "fp8, which takes as much memory");
    if (needs->D % 16 || needs->D > 256)
        return radar_fail(
            err, RADAR_ERR_CONFIG,
            "heads of %d numbers: not on the CUDA backend, which wants multiples of 16 "
            "up to 256; use --backend cpu",
            needs->D);
    if (needs->inside) return refuse(err, needs->inside, "", "--backend cpu");
    if (needs->pick != RADAR_PICK_TOP)
        return refuse(err, "a --pick other than top", "", "--pick top, or --backend cpu");
    if (needs->scorer && needs->D > 128 && strcmp(needs->scorer->kind->name, "sketch") == 0)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "scorer 'sketch' with heads of %d numbers: the CUDA backend scans 128 at "
                          "most; use --scorer mean or rf, or --backend cpu",
                          needs->D);
    RADAR_TRY(st, check_scorer(needs->scorer, err), fail);
    RADAR_TRY(st, check_scorer(needs->finest, err), fail);
fail:
    return st;
}

/* ---- memory and waiting ---- */

void *radar_cuda_table(radar_cuda *cuda, size_t bytes) {
    if (bytes <= cuda->table_bytes) return cuda->table;
    radar_free(cuda->table);
    cuda->table_bytes = (size_t)radar_cuda_bound((int64_t)bytes);
    cuda->table = radar_alloc(cuda->table_bytes);
    if (cuda->table) return cuda->table;
    radar_cuda_note(cuda->queue, "room for tasks", cudaErrorMemoryAllocation);
    cuda->table_bytes = 0;
    return NULL;
}

void *radar_cuda_put_all(radar_cuda *cuda, const void *host, int64_t n, size_t size) {
    return radar_cuda_put(cuda->queue, host, (size_t)n * size, (size_t)radar_cuda_bound(n) * size);
}

radar_cuda_kv radar_cuda_kv_of(radar_dtype type) {
    switch (type) {
    case RADAR_F16:
        return RADAR_CUDA_KV_F16;
    case RADAR_BF16:
        return RADAR_CUDA_KV_BF16;
    case RADAR_FP8:
        return RADAR_CUDA_KV_FP8;
    default:
        return RADAR_CUDA_KV_F32;
    }
}

static void *cuda_alloc(radar_backend *be, size_t bytes) {
    return radar_cuda_alloc(radar_cuda_of(be)->queue, bytes);
}

static void cuda_release(radar_backend *be, void *memory) {
    radar_cuda_release(radar_cuda_of(be)->queue, memory);
}

static void cuda_clear(radar_backend *be, void *memory, size_t bytes) {
    radar_cuda_clear(radar_cuda_of(be)->queue, memory, bytes);
}

static void cuda_upload(radar_backend *be, void *device, const void *host, size_t bytes) {
    radar_cuda_upload(radar_cuda_of(be)->queue, device, host, bytes);
}

static void cuda_fetch(radar_backend *be, void *host, const void *device, size_t bytes) {
    radar_cuda_fetch(radar_cuda_of(be)->queue, host, device, bytes);
}

static radar_status cuda_wait(radar_backend *be, radar_error *err) {
    return radar_cuda_wait(radar_cuda_of(be)->queue, err);
}

static void cuda_drop(radar_backend *be) { radar_cuda_drop(radar_cuda_of(be)->queue); }

/* ---- for carriers ---- */

static void cuda_let_go(radar_backend *be, bool run) {
    radar_cuda_let_go(radar_cuda_of(be)->queue, run);
}

static void cuda_call(radar_backend *be, const char *what, int (*work)(void *data, void *stream),
                      const void *data, size_t bytes) {
    radar_cuda_call(radar_cuda_of(be)->queue, what, work, data, bytes);
}

static void cuda_watch(radar_backend *be, radar_status (*check)(void *user, radar_error *err),
                       void *user) {
    radar_cuda_watch(radar_cuda_of(be)->queue, check, user);
}

static void cuda_host(radar_backend *be, radar_status (*work)(void *data, radar_error *err),
                      const void *data, size_t bytes) {
    radar_cuda_host(radar_cuda_of(be)->queue, work, data, bytes);
}

static int cuda_read_now(radar_backend *be, void *host, const void *device, size_t bytes) {
    return radar_cuda_read_now(radar_cuda_of(be)->queue, host, device, bytes);
}

static int cuda_write_now(radar_backend *be, void *device, const void *host, size_t bytes) {
    return radar_cuda_write_now(radar_cuda_of(be)->queue, device, host, bytes);
}

const radar_backend_ops radar_cuda_backend = {
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .facts = cuda_facts,
    .check = cuda_check,
    .adopt = radar_cuda_op_adopt,
    .forget = radar_cuda_op_forget,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .clear = cuda_clear,
    .upload = cuda_upload,
    .fetch = cuda_fetch,
    .wait = cuda_wait,
    .drop = cuda_drop,
    .let_go = cuda_let_go,
    .call = cuda_call,
    .watch = cuda_watch,
    .host = cuda_host,
    .read_now = cuda_read_now,
    .write_now = cuda_write_now,
    .embed = radar_cuda_op_embed,
    .sample = radar_cuda_op_sample,
    .norm = radar_cuda_op_norm,
    .pack_bytes = radar_cuda_op_pack_bytes,
    .pack = radar_cuda_op_pack,
    .matmul = radar_cuda_op_matmul,
    .angles = radar_cuda_op_angles,
    .rotate = radar_cuda_op_rotate,
    .gate = radar_cuda_op_gate,
    .add = radar_cuda_op_add,
    .sum = radar_cuda_op_sum,
    .odd = radar_cuda_op_odd,
    .append = radar_cuda_op_append,
    .seal = radar_cuda_op_seal,
    .unite = radar_cuda_op_unite,
    .query = radar_cuda_op_query,
    .score = radar_cuda_op_score,
    .topk = radar_cuda_op_topk,
    .choose = radar_cuda_op_choose,
    .attend = radar_cuda_op_attend,
    .merge = radar_cuda_op_merge,
    .missed = radar_cuda_op_missed,
    .arrange = radar_cuda_op_arrange,
    .take = radar_cuda_op_take,
    .finish = radar_cuda_op_finish,
    .copy = radar_cuda_op_copy,
};
