/* Operations of a layer beside its products and its attention. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/layer.h"
#include "kernels/cuda/move.h"
#include "kernels/cuda/sample.h"

/* A step reads single rows of the embedding: they stay in the file, and come as parameters. */
void radar_cuda_op_embed(radar_backend *be, float *out, const radar_matrix *w, const int32_t *token,
                         int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    const size_t bytes = (size_t)w->cols * sizeof(float);
    float *row = radar_cuda_table(cuda, bytes);
    for (int i = 0; row && i < n; i++) {
        radar_dequantize(row, w->type, (const char *)w->data + (size_t)token[i] * w->row_bytes, 0,
                         w->cols);
        radar_cuda_upload(cuda->queue, out + (size_t)i * (size_t)w->cols, row, bytes);
    }
}

void radar_cuda_op_norm(radar_backend *be, float *out, float *x, const float *y,
                        const float *weight, float eps, int64_t n, int width) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "norm",
                    radar_cuda_norm(out, x, y, weight, eps, (int)n, width, cuda->queue));
}

void radar_cuda_op_angles(radar_backend *be, float *cos_sin, const double *frequency, int rotary,
                          double magnitude, const int64_t *position, int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    const double *turns = radar_cuda_put_all(cuda, frequency, rotary / 2, sizeof *frequency);
    const int64_t *where = radar_cuda_put_all(cuda, position, n, sizeof *position);
    radar_cuda_note(cuda->queue, "angles",
                    radar_cuda_angles(cos_sin, turns, rotary, magnitude, where, n, cuda->queue));
}

void radar_cuda_op_rotate(radar_backend *be, const radar_rotate_job *job) {
    radar_cuda *cuda = radar_cuda_of(be);
    const radar_cuda_heads heads = {
        .M = job->M,
        .H = job->H,
        .G = job->G,
        .D = job->D,
        .q = job->q,
        .k = job->k,
        .q_stride = (size_t)job->H * (size_t)job->D,
        .kv_stride = (size_t)job->G * (size_t)job->D,
        .q_norm = job->q_norm,
        .k_norm = job->k_norm,
        .eps = job->eps,
        .cos_sin = job->cos_sin,
        .rotary = job->rotary,
        .style = job->style,
    };
    radar_cuda_note(cuda->queue, "rotation", radar_cuda_rotate_append(&heads, cuda->queue));
}

void radar_cuda_op_append(radar_backend *be, const radar_kv_view *kv, int heads,
                          const int32_t *slot, const float *k, const float *v, size_t stride,
                          int n) {
    radar_cuda *cuda = radar_cuda_of(be);
    const radar_cuda_heads job = {
        .M = n,
        .G = heads,
        .D = kv->D,
        .k = (float *)k,
        .v = v,
        .kv_stride = stride,
        .slot = radar_cuda_put_all(cuda, slot, n, sizeof *slot),
        .cache = {radar_cuda_kv_of(kv->type), kv->segments, kv->k, kv->v, kv->key_scale,
                  kv->value_scale},
    };
    radar_cuda_note(cuda->queue, "append", radar_cuda_rotate_append(&job, cuda->queue));
}

void radar_cuda_op_gate(radar_backend *be, float *gate, const float *up, int64_t n) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "gate", radar_cuda_gate(gate, up, n, cuda->queue));
}

void radar_cuda_op_add(radar_backend *be, float *x, const float *y, int64_t n) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "add", radar_cuda_add(x, y, n, cuda->queue));
}

void radar_cuda_op_sum(radar_backend *be, float *const *piece, int pieces, int64_t n) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "sum", radar_cuda_sum(piece, pieces, n, cuda->queue));
}

void radar_cuda_op_odd(radar_backend *be, uint64_t *found, const float *x, int64_t n, int width) {
    radar_cuda *cuda = radar_cuda_of(be);
    radar_cuda_note(cuda->queue, "check of numbers",
                    radar_cuda_odd(found, x, n, width, cuda->queue));
}

void radar_cuda_op_sample(radar_backend *be, radar_drawn *out, const radar_sampler_options *opt,
                          int64_t position, const float *logit, int vocab) {
    radar_cuda *cuda = radar_cuda_of(be);
    const int64_t *where = radar_cuda_put_all(cuda, &position, 1, sizeof position);
    void *scratch =
        radar_cuda_scratch(cuda->queue, RADAR_CUDA_SAMPLE_SLOT, radar_cuda_sample_scratch());
    radar_cuda_note(cuda->queue, "sampling",
                    radar_cuda_sample(out, opt, where, logit, vocab, scratch, cuda->queue));
}
