/* attend_fixture.h - caches, lists and queries for the tests of attention on CUDA, its launch, and softmax in doubles over the
 * numbers that lie in the cache.  Included after the kernels' sources. */
#ifndef RADAR_SIMT_ATTEND_FIXTURE_H
#define RADAR_SIMT_ATTEND_FIXTURE_H

#include "tests/simt/fixture.h"

static const radar_cuda_kv all_types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_FP8,
                                          RADAR_CUDA_KV_F32};

/* q and the weights count with 22 bits, bf16 16; sums in f32. */
static double bound(radar_cuda_kv type) { return type == RADAR_CUDA_KV_BF16 ? 3e-5 : 2e-6; }

/* `span` queries of a KV head share a list: a task. */
struct shape {
    radar_cuda_kv type;
    int D, shards, G, rows, group, span, splits, segments;
};

static int number_bytes(radar_cuda_kv type) {
    return type == RADAR_CUDA_KV_FP8 ? 1 : type == RADAR_CUDA_KV_F32 ? 4 : 2;
}

/* Memory whose blocks begin at multiples of 16, as the device's do. */
template <class T> struct buffer {
    std::vector<uint4> blocks;
    explicit buffer(size_t n = 0) : blocks((n * sizeof(T) + 15) / 16) {}
    T *data() { return reinterpret_cast<T *>(blocks.data()); }
    const T *data() const { return reinterpret_cast<const T *>(blocks.data()); }
};

/* One KV head of one shard: as stored, and what it means. */
struct head {
    buffer<uint8_t> k, v;
    buffer<float> k_scale, v_scale;
    std::vector<float> key, value; /* [S, 16, D] */
};

struct problem {
    shape s;
    int queries, lists;
    std::vector<head> heads; /* [shards, G] */
    std::vector<float> q;    /* [G, queries] of D + 3 */
    std::vector<int64_t> position;
    std::vector<radar_item> item;
    std::vector<int64_t> begin;
    std::vector<int32_t> count;
    float scale;
};

static size_t q_stride(const problem &p) { return (size_t)p.s.D + 3; }
static size_t partial_stride(const problem &p) { return (size_t)RADAR_PARTIAL(p.s.D) + 1; }

static uint64_t chance(uint64_t a, uint64_t b) { return radar_random(77, a, b); }

enum { STRIPE = 4 }; /* segments */

static int64_t first_of(const problem &p, int shard, int32_t segment) {
    return ((int64_t)(segment / STRIPE * p.s.shards + shard) * STRIPE + segment % STRIPE) * 16;
}

/* Stores x at element i and returns what it reads as; FP8: in units of scale. */
static float store(radar_cuda_kv type, buffer<uint8_t> &to, size_t i, float x, float scale) {
    uint16_t *const half = reinterpret_cast<uint16_t *>(to.data());
    switch (type) {
    case RADAR_CUDA_KV_F16:
        half[i] = dev_f32_to_f16(x);
        return dev_f16_to_f32(half[i]);
    case RADAR_CUDA_KV_BF16:
        half[i] = dev_f32_to_bf16(x);
        return dev_bf16_to_f32(half[i]);
    case RADAR_CUDA_KV_FP8:
        to.data()[i] = dev_f32_to_e4m3(x / scale);
        break;
    case RADAR_CUDA_KV_F32:
        reinterpret_cast<float *>(to.data())[i] = x;
        return x;
    }
    return dev_e4m3_to_f32(to.data()[i]) * scale;
}

static head random_head(const shape &s, uint64_t seed) {
    const size_t tokens = (size_t)s.segments * 16, D = (size_t)s.D;
    const size_t bytes = tokens * D * (size_t)number_bytes(s.type);
    head h = {buffer<uint8_t>(bytes),         buffer<uint8_t>(bytes),
              buffer<float>(tokens),          buffer<float>(tokens),
              std::vector<float>(tokens * D), std::vector<float>(tokens * D)};
    for (size_t t = 0; t < tokens; t++) {
        /* scales of tokens differ much */
        const float ks = ldexpf(1 + 0.3f * (float)(t % 3), (int)(chance(seed, t) % 3) - 7);
        const float vs = ldexpf(1 + 0.2f * (float)(t % 4), (int)(chance(seed + 1, t) % 5) - 9);
        h.k_scale.data()[t] = ks;
        h.v_scale.data()[t] = vs;
        for (size_t d = 0; d < D; d++) {
            h.key[t * D + d] =
                store(s.type, h.k, (t / 16 * D + d) * 16 + t % 16, draw(seed + 2, t * D + d), ks);
            h.value[t * D + d] = store(s.type, h.v, t * D + d, draw(seed + 3, t * D + d), vs);
        }
    }
    return h;
}

/* A token that reads as NaN, scales too. */
static void poison(const shape &s, head &h, size_t t) {
    const int bytes = number_bytes(s.type);
    for (size_t d = 0; d < (size_t)s.D; d++) {
        memset(h.k.data() + ((t / 16 * (size_t)s.D + d) * 16 + t % 16) * (size_t)bytes, 0xff,
               (size_t)bytes);
        memset(h.v.data() + (t * (size_t)s.D + d) * (size_t)bytes, 0xff, (size_t)bytes);
    }
    h.k_scale.data()[t] = h.v_scale.data()[t] = NAN;
}

/* Every other segment or so, all or some of its tokens; one list in six is empty, one has one token. */
static void random_list(problem &p, uint64_t seed) {
    const size_t before = p.item.size();
    p.begin.push_back((int64_t)before);
    for (int s = 0; s < p.s.segments && seed % 6 != 5; s++) {
        const uint64_t r = chance(seed, (uint64_t)s);
        if (r & 1) p.item.push_back({s, r & 6 ? 0xffffu : (uint32_t)(r >> 20 & 0xffff)});
        if (seed % 6 == 4 && p.item.size() > before) {
            p.item.back().tokens = 1u << (r >> 8 & 15);
            break;
        }
    }
    p.count.push_back((int32_t)(p.item.size() - before));
    p.item.push_back({-1, 0xffff}); /* not of any list */
}

/* Which lists a query has, and what it attends of their items. */
static int list_of(const problem &p, int shard, int g, int query) {
    return (shard * p.s.G + g) * p.lists + query / p.s.span;
}

template <class F> static void for_attended(const problem &p, int shard, int g, int query, F f) {
    const size_t list = (size_t)list_of(p, shard, g, query);
    for (int64_t i = p.begin[list]; i < p.begin[list] + p.count[list]; i++)
        for (int t = 0; t < 16; t++)
            if (p.item[(size_t)i].tokens >> t & 1 &&
                first_of(p, shard, p.item[(size_t)i].segment) + t <= p.position[(size_t)query])
                f((size_t)p.item[(size_t)i].segment * 16 + (size_t)t);
}

static void poison_unseen(problem &p) {
    for (int view = 0; view < p.s.shards * p.s.G; view++) {
        std::vector<bool> used((size_t)p.s.segments * 16);
        for (int query = 0; query < p.queries; query++)
            for_attended(p, view / p.s.G, view % p.s.G, query, [&](size_t t) { used[t] = true; });
        for (size_t t = 0; t < used.size(); t++)
            if (!used[t]) poison(p.s, p.heads[(size_t)view], t);
    }
}

static problem make(const shape &s, uint64_t seed) {
    problem p = {};
    p.s = s;
    p.queries = s.rows * s.group;
    p.lists = (p.queries + s.span - 1) / s.span;
    p.scale = 1 / sqrtf((float)s.D);
    for (int view = 0; view < s.shards * s.G; view++)
        p.heads.push_back(random_head(s, seed + 10 * (uint64_t)view));
    for (int view = 0; view < s.shards * s.G; view++) {
        for (int l = 0; l < p.lists; l++) random_list(p, seed + (uint64_t)(view * p.lists + l));
    }
    for (size_t i = 0; i < (size_t)(s.G * p.queries) * q_stride(p); i++)
        p.q.push_back(1.5f * draw(seed + 5, (uint64_t)i));
    const int64_t end = (int64_t)s.segments * 16 * s.shards;
    for (int i = 0; i < p.queries; i++)
        p.position.push_back(
            i / s.group == s.rows - 1
                ? end - 1
                : (int64_t)(chance(seed + 6, (uint64_t)(i / s.group)) % (uint64_t)end));
    poison_unseen(p);
    return p;
}

static std::vector<radar_cuda_attend_task> tasks_of(const problem &p, float *partial) {
    std::vector<radar_cuda_attend_task> tasks;
    for (int view = 0; view < p.s.shards * p.s.G; view++)
        for (int l = 0; l < p.lists; l++) {
            const head &h = p.heads[(size_t)view];
            const int first = l * p.s.span, left = p.queries - first, list = view * p.lists + l;
            const size_t row = (size_t)(view % p.s.G * p.queries + first);
            radar_cuda_attend_task t = {};
            t.k = h.k.data(), t.v = h.v.data();
            t.k_scale = h.k_scale.data(), t.v_scale = h.v_scale.data();
            t.stripe_segments = STRIPE, t.shards = p.s.shards, t.phase = view / p.s.G;
            t.n_query = left < p.s.span ? left : p.s.span;
            t.q = &p.q[row * q_stride(p)], t.q_stride = q_stride(p);
            t.position = &p.position[(size_t)first];
            t.item = p.item.data();
            t.begin = &p.begin[(size_t)list], t.count = &p.count[(size_t)list], t.n = -1;
            t.partial = partial + (size_t)(view * p.queries + first) * partial_stride(p);
            t.partial_stride = partial_stride(p);
            tasks.push_back(t);
        }
    return tasks;
}

/* What splits leave behind, NaN before: [tasks, queries, splits]. */
struct scratch {
    std::vector<float> work;
    std::vector<unsigned> turn;
    bool early; /* somebody announced a run before all of its partial was there */
};

/* Runs of a query whose partials have no NaN. */
static unsigned complete(const problem &p, const scratch &x, size_t query) {
    const size_t size = (size_t)RADAR_PARTIAL(p.s.D), splits = (size_t)p.s.splits;
    unsigned n = 0;
    for (size_t split = 0; split < splits; split++) {
        const float *partial = &x.work[(query * splits + split) * size];
        bool whole = true;
        for (size_t i = 0; i < size; i++) whole &= partial[i] == partial[i];
        n += whole;
    }
    return n;
}

typedef int launch_function(const radar_cuda_attend_args *, radar_cuda_queue *);

static int launch_tasks(const problem &p, const std::vector<radar_cuda_attend_task> &tasks,
                        scratch &x, launch_function *launch) {
    const int n = (int)tasks.size();
    x.work.assign(radar_cuda_attend_work(n, p.s.span, p.s.splits, p.s.D) / sizeof(float), NAN);
    x.turn.assign(radar_cuda_attend_turns(n, p.s.span) / sizeof(unsigned), 0);
    x.early = false;
    simt::before_add = [&](const void *turn) {
        const unsigned *at = static_cast<const unsigned *>(turn);
        x.early |= complete(p, x, (size_t)(at - x.turn.data())) != *at + 1;
    };
    const radar_cuda_attend_args a = {p.s.type,   p.s.D,         tasks.data(), n, p.s.span, p.scale,
                                      p.s.splits, x.work.data(), x.turn.data()};
    const int error = launch(&a, nullptr);
    simt::before_add = nullptr;
    for (unsigned turn : x.turn) assert_int_equal(turn, 0);
    return error;
}

/* [shards, G, queries] of partial_stride, the last number 7; none where a run was announced too early. */
static std::vector<float> run(const problem &p, launch_function *launch = radar_cuda_attend) {
    std::vector<float> out((size_t)(p.s.shards * p.s.G * p.queries) * partial_stride(p), 7);
    scratch x;
    assert_int_equal(launch_tasks(p, tasks_of(p, out.data()), x, launch), 0);
    if (x.early) out.clear();
    return out;
}

/* {l, o} of a query in one shard, by exp(s - m) in doubles; returns m. */
static double reference(const problem &p, int shard, int g, int query, std::vector<double> &lo) {
    const size_t D = (size_t)p.s.D;
    const head &h = p.heads[(size_t)(shard * p.s.G + g)];
    const float *q = &p.q[(size_t)(g * p.queries + query) * q_stride(p)];
    std::vector<size_t> token;
    std::vector<double> logit;
    double m = -INFINITY;
    for_attended(p, shard, g, query, [&](size_t t) {
        double dot = 0;
        for (size_t d = 0; d < D; d++) dot += (double)q[d] * h.key[t * D + d];
        token.push_back(t);
        logit.push_back(dot * p.scale);
        m = fmax(m, logit.back());
    });
    lo.assign(D + 1, 0.0);
    for (size_t i = 0; i < token.size(); i++) {
        const double e = exp(logit[i] - m);
        lo[0] += e;
        for (size_t d = 0; d < D; d++) lo[1 + d] += e * h.value[token[i] * D + d];
    }
    return m;
}

/* {l, o} of one query in one shard, as beside m; the missed parts are the identity's. */
static bool gather(const problem &p, const std::vector<float> &out, int shard, int g, int query,
                   double m, std::vector<float> &lo) {
    const int D = p.s.D;
    const float *x = &out[(size_t)((shard * p.s.G + g) * p.queries + query) * partial_stride(p)];
    if (x[RADAR_PARTIAL_MISSED_M(D)] != -INFINITY || x[RADAR_PARTIAL_MISSED_L(D)] != 0)
        return false;
    if (x[RADAR_PARTIAL(D)] != 7) return false;
    lo.clear();
    for (int i = 0; i <= D; i++)
        lo.push_back(m == -INFINITY
                         ? x[RADAR_PARTIAL_L + i]
                         : (float)(x[RADAR_PARTIAL_L + i] * exp(x[RADAR_PARTIAL_M] - m)));
    if (m > -INFINITY) return fabs(x[RADAR_PARTIAL_M] - m) <= 1e-4 * (1 + fabs(m));
    for (float number : lo)
        if (number != 0) return false;
    return x[RADAR_PARTIAL_M] == -INFINITY;
}

/* The largest error of a query's {l, o}; infinite where what should be exact is not. */
static double worst(const problem &p, const std::vector<float> &out) {
    double most = 0;
    std::vector<double> want;
    std::vector<float> got;
    if (out.empty()) return INFINITY;
    for (int view = 0; view < p.s.shards * p.s.G; view++)
        for (int query = 0; query < p.queries; query++) {
            const int shard = view / p.s.G, g = view % p.s.G;
            const double m = reference(p, shard, g, query, want);
            if (!gather(p, out, shard, g, query, m, got)) return INFINITY;
            most = fmax(most, relative_error(got.data(), want.data(), want.size()));
            most = fmax(most, relative_error(got.data(), want.data(), 1));
        }
    return most;
}

static bool right(const shape &s, uint64_t seed, launch_function *launch = radar_cuda_attend) {
    const problem p = make(s, seed);
    const double e = worst(p, run(p, launch));
    if (!(e <= bound(s.type)))
        fprintf(stderr, "type %d D %d rows %d group %d span %d: error %g\n", s.type, s.D, s.rows,
                s.group, s.span, e);
    return e <= bound(s.type);
}

#endif
