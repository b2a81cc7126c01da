/* attend_plain.cu - attention in f32, number by number in the order of kernels/attend.h: where answers shall be the CPU's, and for
 * head sizes that attend.cu has not.
 *   s_i = scale q . k_i over the attended tokens i;  m = max s_i;  l = sum exp(s_i - m);  o = sum exp(s_i - m) v_i
 * A warp per query and run (attend_runs.h), which reads all of the run's segments by itself.  Lane 16 h + t: logits of token t, from
 * dimensions d with d % 2 = h; and numbers lane, lane + 32, ... of the output.
 * Bytes: 2 * 16 * D * bytes(type) an item and query. */
#include "kernels/cuda/attend_runs.h"

namespace {

constexpr int PLAIN_WARPS = 4;
constexpr int PLAIN_D = 256; /* at most */
constexpr int PLAIN_PARTS = PLAIN_D / 32;

template <radar_cuda_kv KV> DEV float stored(const void *p, size_t i) {
    if constexpr (KV == RADAR_CUDA_KV_F32) return static_cast<const float *>(p)[i];
    if constexpr (KV == RADAR_CUDA_KV_F16)
        return dev_f16_to_f32(static_cast<const uint16_t *>(p)[i]);
    if constexpr (KV == RADAR_CUDA_KV_BF16)
        return dev_bf16_to_f32(static_cast<const uint16_t *>(p)[i]);
    float two[2];
    dev_e4m3x2_to_f32(static_cast<const uint8_t *>(p)[i], two);
    return two[0];
}

/* Of token lane % 16 of a segment. */
template <radar_cuda_kv KV>
DEV float logit(const radar_cuda_attend_task &t, int32_t segment, const float *q, int D,
                float scale) {
    const int token = (int)dev_lane() % 16, half = (int)dev_lane() / 16;
    const size_t from = (size_t)segment * (size_t)D * RADAR_SEGMENT + (size_t)token;
    float near = 0, far = 0; /* chains half and half + 2 of the four over d % 4 */
    for (int d = half; d < D; d += 4) {
        near = dev_fma(q[d], stored<KV>(t.k, from + (size_t)d * RADAR_SEGMENT), near);
        far = dev_fma(q[d + 2], stored<KV>(t.k, from + (size_t)(d + 2) * RADAR_SEGMENT), far);
    }
    near = dev_add(near, dev_shuffle_xor(near, 16));
    far = dev_add(far, dev_shuffle_xor(far, 16));
    float s = dev_add(near, far);
    if constexpr (KV == RADAR_CUDA_KV_FP8)
        s = dev_mul(s, t.k_scale[(size_t)segment * RADAR_SEGMENT + (size_t)token]);
    return dev_mul(s, scale);
}

struct softmax {
    float m, l, o[PLAIN_PARTS];
};

/* One segment, tokens of `mask`. */
template <radar_cuda_kv KV>
DEV void take_in_plain(softmax &x, const radar_cuda_attend_task &t, int32_t segment, uint32_t mask,
                       float s, int D) {
    const int token = (int)dev_lane() % 16;
    const bool counts = mask >> token & 1;
    s = counts ? s : -INFINITY;
    float m = s;
    for (int i = 8; i; i /= 2) {
        const float other = dev_shuffle_xor(m, i);
        m = other > m ? other : m;
    }
    m = x.m > m ? x.m : m;
    if (m == -INFINITY) return;
    const float p = exp_as_cpu(s - m), fade = exp_as_cpu(x.m - m);
    float sum = p;
    sum = dev_add(sum, dev_shuffle_xor(sum, 2));
    sum = dev_add(sum, dev_shuffle_xor(sum, 1));
    sum = dev_add(sum, dev_shuffle_xor(sum, 8));
    sum = dev_add(sum, dev_shuffle_xor(sum, 4));
    x.l = dev_add(dev_mul(x.l, fade), sum);
    x.m = m;
    float weight = p;
    if constexpr (KV == RADAR_CUDA_KV_FP8)
        if (counts) weight = dev_mul(p, t.v_scale[(size_t)segment * RADAR_SEGMENT + (size_t)token]);
    for (int i = 0; i < PLAIN_PARTS; i++) x.o[i] = dev_mul(x.o[i], fade);
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        const int next = dev_first(rest);
        const float w = dev_shuffle(weight, next);
        const size_t row = ((size_t)segment * RADAR_SEGMENT + (size_t)next) * (size_t)D;
        for (int i = 0; i < PLAIN_PARTS; i++) {
            const int d = (int)dev_lane() + 32 * i;
            if (d < D) x.o[i] = dev_fma(w, stored<KV>(t.v, row + (size_t)d), x.o[i]);
        }
    }
}

DEV void write_plain(float *to, const softmax &x, int D) {
    for (int i = 0; i < PLAIN_PARTS; i++) {
        const int d = (int)dev_lane() + 32 * i;
        if (d < D) to[RADAR_PARTIAL_O + d] = x.o[i];
    }
    if (dev_lane() > 0) return;
    to[RADAR_PARTIAL_M] = x.m;
    to[RADAR_PARTIAL_L] = x.l;
    to[RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
    to[RADAR_PARTIAL_MISSED_L(D)] = 0;
}

/* Grid (splits, queries / 4, tasks), 128 threads. */
template <radar_cuda_kv KV>
__global__ void __launch_bounds__(PLAIN_WARPS * 32) attend_plain(radar_cuda_attend_args a) {
    SHARED(float, factor, PLAIN_WARPS * 2 * RADAR_CUDA_ATTEND_SPLITS);
    const radar_cuda_attend_task &t = a.task[blockIdx.z];
    const int query = (int)(blockIdx.y * PLAIN_WARPS + dev_warp());
    const piece r = run_of(t, a.splits);
    if (query >= t.n_query || (int)blockIdx.x >= r.used) return;
    const float *const q = t.q + (size_t)query * t.q_stride;
    const int64_t position = t.position[query];
    softmax x = {};
    x.m = -INFINITY;
    for (int i = 0; i < r.n; i++) {
        const work w = fetch(t, r, i);
        const uint32_t mask = seen(w.tokens, w.first, position);
        if (!mask) continue;
        const float s = logit<KV>(t, w.segment, q, a.D, a.scale);
        take_in_plain<KV>(x, t, w.segment, mask, s, a.D);
    }
    write_plain(partial_of(a, t, r, query), x, a.D);
    if (r.used > 1)
        unite_if_last<PLAIN_PARTS + 1>(a, t, r, query,
                                       factor + dev_warp() * 2 * RADAR_CUDA_ATTEND_SPLITS);
}

template <radar_cuda_kv KV>
int launch_plain(const radar_cuda_attend_args &a, radar_cuda_queue *queue) {
    const unsigned blocks = (unsigned)(a.most_query + PLAIN_WARPS - 1) / PLAIN_WARPS;
    auto *const kernel = attend_plain<KV>;
    return LAUNCH(kernel, dim3((unsigned)a.splits, blocks, (unsigned)a.n_tasks),
                  dim3(PLAIN_WARPS * 32), 0, queue, a);
}

} // namespace

extern "C" int radar_cuda_attend_plain(const radar_cuda_attend_args *a, radar_cuda_queue *queue) {
    if (a->D < 16 || a->D > PLAIN_D || a->D % 16) return cudaErrorInvalidValue;
    if (a->splits < 1 || a->splits > RADAR_CUDA_ATTEND_SPLITS || a->splits & (a->splits - 1))
        return cudaErrorInvalidValue;
    if (a->n_tasks < 1 || a->most_query < 1) return cudaSuccess;
    switch (a->type) {
    case RADAR_CUDA_KV_F16:
        return launch_plain<RADAR_CUDA_KV_F16>(*a, queue);
    case RADAR_CUDA_KV_BF16:
        return launch_plain<RADAR_CUDA_KV_BF16>(*a, queue);
    case RADAR_CUDA_KV_FP8:
        return launch_plain<RADAR_CUDA_KV_FP8>(*a, queue);
    case RADAR_CUDA_KV_F32:
        return launch_plain<RADAR_CUDA_KV_F32>(*a, queue);
    }
    return cudaErrorInvalidValue;
}
