/* attend.cu against softmax in doubles over the numbers that lie in the cache. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>
}
#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

#include "kernels/cuda/attend.cu"
#include "kernels/cuda/attend_plain.cu"
#include "tests/simt/merge_tree.h"

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

typedef int launch_function(const radar_cuda_attend_args *, void *);

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

static void every_type_and_head_size_agrees_with_doubles(void **) {
    const int all_D[] = {16, 48, 64, 80, 96, 112, 128, 144, 256};
    for (radar_cuda_kv type : all_types)
        for (int D : all_D) assert_true(right({type, D, 1, 1, 1, 4, 4, 2, 24}, 6 * (uint64_t)D));
}

/* rows, group, span: own lists, shared lists, heads with lists of their own, tiles that are not full. */
static void rows_heads_and_lists_in_every_arrangement(void **) {
    const int shapes[][3] = {{3, 4, 4},  {5, 4, 20}, {1, 16, 16}, {2, 3, 1},
                             {3, 7, 14}, {9, 5, 45}, {1, 1, 1}};
    for (radar_cuda_kv type : all_types)
        for (auto [rows, group, span] : shapes)
            assert_true(right({type, 64, 2, 1, rows, group, span, 2, 10}, (uint64_t)(rows + span)));
}

static void many_splits_of_few_items(void **) {
    for (radar_cuda_kv type : all_types)
        for (int splits = 1; splits <= 16; splits *= 4)
            for (int segments = 1; segments <= 9; segments += 4)
                assert_true(right({type, 64, 2, 3, 1, 2, 2, splits, segments}, (uint64_t)segments));
}

/* Runs of a list become one in the tree of merge.h, those that have no item being identities. */
static bool merges_like_a_tree(const shape &s, uint64_t seed) {
    const problem p = make(s, seed);
    const size_t size = (size_t)RADAR_PARTIAL(s.D), queries = (size_t)(s.shards * s.G * p.queries);
    std::vector<float> out(queries * partial_stride(p));
    std::vector<float> nothing(size);
    nothing[RADAR_PARTIAL_M] = nothing[(size_t)RADAR_PARTIAL_MISSED_M(s.D)] = -INFINITY;
    scratch x;
    if (launch_tasks(p, tasks_of(p, out.data()), x, radar_cuda_attend) || x.early) return false;
    for (size_t query = 0; query < queries; query++) {
        const unsigned used = complete(p, x, query);
        if (used == 0) continue; /* one run, which is the task's partial at once */
        std::vector<std::vector<float>> piece((size_t)s.splits, nothing);
        for (size_t i = 0; i < used; i++)
            memcpy(piece[i].data(), &x.work[(query * (size_t)s.splits + i) * size],
                   size * sizeof(float));
        merge_tree_of(piece, 1, s.D);
        for (size_t i = 0; i < size; i++)
            if (out[query * partial_stride(p) + i] != piece[0][i]) return false;
    }
    return true;
}

static void splits_are_merged_in_the_fixed_tree(void **) {
    for (int splits = 2; splits <= RADAR_CUDA_ATTEND_SPLITS; splits *= 2)
        for (int segments : {7, 40, 300})
            assert_true(merges_like_a_tree({RADAR_CUDA_KV_F16, 64, 1, 1, 2, 4, 8, splits, segments},
                                           (uint64_t)segments));
    assert_true(merges_like_a_tree({RADAR_CUDA_KV_FP8, 128, 2, 1, 1, 8, 8, 16, 140}, 1));
    assert_true(merges_like_a_tree({RADAR_CUDA_KV_F32, 256, 1, 1, 1, 4, 4, 32, 270}, 1));
}

/* Parts of a prompt: 64 rows of 16 heads. */
static void a_thousand_queries_of_a_list(void **) {
    assert_true(right({RADAR_CUDA_KV_F16, 64, 1, 1, 64, 16, 1024, 2, 6}, 1));
    assert_true(right({RADAR_CUDA_KV_F32, 16, 1, 1, 64, 16, 1024, 2, 6}, 1));
}

static void under_every_schedule(void **) {
    for (radar_cuda_kv type : all_types) {
        assert_true(right_always([&] { return right({type, 64, 1, 1, 1, 8, 8, 1, 30}, 2); }, 6));
        assert_true(right_always([&] { return right({type, 64, 1, 1, 3, 8, 24, 4, 30}, 3); }, 3));
    }
}

static void every_barrier_is_needed(void **) {
    const shape shapes[] = {{RADAR_CUDA_KV_F16, 64, 1, 1, 1, 8, 8, 1, 40},
                            {RADAR_CUDA_KV_FP8, 64, 1, 1, 2, 8, 16, 1, 40},
                            {RADAR_CUDA_KV_F16, 64, 1, 1, 1, 8, 8, 4, 40},
                            {RADAR_CUDA_KV_F32, 64, 1, 1, 1, 8, 8, 4, 40}};
    bool found = true;
    for (const shape &s : shapes) {
        const problem p = make(s, 2);
        const std::vector<float> want = run(p);
        const auto same = [&] {
            const std::vector<float> got = run(p);
            return got.size() == want.size() &&
                   !memcmp(got.data(), want.data(), want.size() * sizeof(float));
        };
        for (int site : idle_barriers(same, 60)) {
            fprintf(stderr, "barrier %d of type %d, %d queries, %d splits is idle\n", site, s.type,
                    p.queries, s.splits);
            found = false;
        }
    }
    assert_true(found);
}

/* A query's bits follow from its list and the number of splits, whoever shares its block. */
static void bits_do_not_depend_on_neighbours(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 2, 5, 8, 40, 2, 24}, 3), alone = p;
        const std::vector<float> together = run(p);
        alone.s.span = 8, alone.lists = 5;
        alone.begin.clear(), alone.count.clear();
        for (int list = 0; list < 10; list++) {
            alone.begin.push_back(p.begin[(size_t)(list / 5)]);
            alone.count.push_back(p.count[(size_t)(list / 5)]);
        }
        const std::vector<float> apart = run(alone);
        assert_memory_equal(together.data(), apart.data(), together.size() * sizeof(float));
    }
}

/* Tokens that others attend, or nobody: the former are numbers, the latter NaN. */
static void what_is_not_attended_leaves_no_trace(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 1, 2, 4, 4, 1, 16}, 1);
        const std::vector<float> want = run(p);
        for (int32_t c = 0; c < p.count[1]; c++) { /* the second row's own tokens become others */
            const size_t t = (size_t)p.item[(size_t)(p.begin[1] + c)].segment * 16;
            bool shared = false;
            for_attended(p, 0, 0, 0, [&](size_t u) { shared |= u == t; });
            if (!shared) poison(p.s, p.heads[0], t);
        }
        const std::vector<float> got = run(p);
        const size_t first_row = 4 * partial_stride(p);
        assert_memory_equal(got.data(), want.data(), first_row * sizeof(float));
        bool nan = false;
        for (size_t i = first_row; i < got.size(); i++) nan |= got[i] != got[i];
        assert_true(nan);
    }
}

/* Nothing overflows on the way, and small queries keep their digits. */
static void queries_of_any_size(void **) {
    for (radar_cuda_kv type : all_types) {
        const float sizes[] = {0, 1e-30f, 1e-5f, 100};
        for (float size : sizes) {
            problem p = make({type, 64, 1, 1, 1, 4, 4, 2, 10}, 1);
            for (float &x : p.q) x *= size;
            const double e = worst(p, run(p)), far = size > 1 ? size : 1;
            assert_true(e <= far * bound(type));
        }
        problem p = make({type, 64, 1, 1, 1, 4, 4, 2, 10}, 1);
        for (float &x : p.q) x *= 1e20f;
        for (float x : run(p)) assert_true(x == x);
    }
}

/* fp8: values from 2^-60 to 2^60 of the first. */
static void scales_far_apart(void **) {
    problem p = make({RADAR_CUDA_KV_FP8, 64, 1, 1, 1, 4, 4, 1, 16}, 1);
    for (int up = 0; up < 2; up++) {
        for (size_t t = 0; t < 256; t++) {
            const float scale = ldexpf(1, (up ? 1 : -1) * ((int)(t / 16) * 8 - 60));
            const float now = p.heads[0].v_scale.data()[t];
            if (now != now) continue;
            p.heads[0].v_scale.data()[t] = scale;
            for (size_t d = 0; d < 64; d++) p.heads[0].value[t * 64 + d] *= scale / now;
        }
        assert_true(worst(p, run(p)) <= bound(RADAR_CUDA_KV_FP8));
    }
}

/* Lists that need not be written down: NULL for items, for where they begin, for how many. */
static void all_segments_need_no_list(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 1, 1, 4, 4, 4, 24}, 1); /* values of all tokens */
        p.heads[0] = random_head(p.s, 5);
        p.item.clear();
        for (int32_t i = 0; i < 24; i++) p.item.push_back({i, 0xffff});
        p.begin[0] = 0, p.count[0] = 17;
        const std::vector<float> want = run(p);
        assert_true(worst(p, want) <= bound(type));
        std::vector<float> out(want.size(), 7);
        std::vector<radar_cuda_attend_task> task = tasks_of(p, out.data());
        task[0].item = nullptr, task[0].begin = nullptr, task[0].count = nullptr, task[0].n = 17;
        scratch x;
        assert_int_equal(launch_tasks(p, task, x, radar_cuda_attend), 0);
        assert_memory_equal(out.data(), want.data(), want.size() * sizeof(float));

        p.begin[0] = 3;
        const std::vector<float> later = run(p);
        task[0].begin = p.begin.data();
        assert_int_equal(launch_tasks(p, task, x, radar_cuda_attend), 0);
        assert_memory_equal(out.data(), later.data(), later.size() * sizeof(float));
    }
}

/* Tasks of other sizes beside it, or of none, and room for more queries change nothing. */
static void tasks_do_not_meet(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 2, 2, 3, 4, 4, 2, 24}, 1);
        const std::vector<float> want = run(p);
        std::vector<float> out(want.size(), 7);
        std::vector<radar_cuda_attend_task> tasks = tasks_of(p, out.data());
        radar_cuda_attend_task none = tasks[0];
        none.n_query = 0, none.partial = nullptr;
        tasks.insert(tasks.begin() + 2, none);
        p.s.span = 21;
        scratch x;
        assert_int_equal(launch_tasks(p, tasks, x, radar_cuda_attend), 0);
        assert_memory_equal(out.data(), want.data(), want.size() * sizeof(float));
    }
}

/* kernels/attend.h, number by number, one run. */
static std::vector<float> in_order_of_the_cpu(const problem &p, int shard, int g, int query) {
    const size_t D = (size_t)p.s.D, list = (size_t)list_of(p, shard, g, query);
    const head &h = p.heads[(size_t)(shard * p.s.G + g)];
    const float *q = &p.q[(size_t)(g * p.queries + query) * q_stride(p)];
    std::vector<float> x(D + 4);
    float *o = &x[RADAR_PARTIAL_O], &m = x[RADAR_PARTIAL_M], &l = x[RADAR_PARTIAL_L];
    m = x[D + 2] = -INFINITY;
    for (int64_t i = p.begin[list]; i < p.begin[list] + p.count[list]; i++) {
        const radar_item item = p.item[(size_t)i];
        const int64_t left = p.position[(size_t)query] - first_of(p, shard, item.segment);
        float s[16], top = m;
        bool any = false, on[16];
        for (int t = 0; t < 16; t++) {
            const float *k = &h.key[((size_t)item.segment * 16 + (size_t)t) * D];
            float chain[4] = {};
            any |= on[t] = (item.tokens >> t & 1) && t <= left;
            for (size_t d = 0; d < D; d++) chain[d % 4] = fmaf(q[d], k[d], chain[d % 4]);
            s[t] = on[t] ? ((chain[0] + chain[1]) + (chain[2] + chain[3])) * p.scale : -INFINITY;
            top = s[t] > top ? s[t] : top;
        }
        if (!any) continue;
        const float fade = exp_as_cpu(m - top);
        float r[4];
        for (int t = 0; t < 16; t++) s[t] = exp_as_cpu(s[t] - top);
        for (int j = 0; j < 4; j++)
            r[j] = (s[4 * j] + s[4 * j + 2]) + (s[4 * j + 1] + s[4 * j + 3]);
        l = l * fade + ((r[0] + r[2]) + (r[1] + r[3]));
        m = top;
        for (size_t d = 0; d < D; d++) o[d] *= fade;
        for (size_t t = 0; t < 16; t++)
            for (size_t d = 0; d < D && on[t]; d++)
                o[d] = fmaf(s[t], h.value[((size_t)item.segment * 16 + t) * D + d], o[d]);
    }
    return x;
}

static void plain_has_the_bits_of_the_cpu(void **) {
    for (radar_cuda_kv type : {RADAR_CUDA_KV_F32, RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16})
        for (int D : {16, 64, 96, 256}) {
            const problem p = make({type, D, 2, 1, 3, 2, 2, 1, 20}, 1);
            const std::vector<float> got = run(p, radar_cuda_attend_plain);
            for (int shard = 0; shard < 2; shard++)
                for (int query = 0; query < p.queries; query++) {
                    const std::vector<float> want = in_order_of_the_cpu(p, shard, 0, query);
                    assert_memory_equal(
                        &got[(size_t)(shard * p.queries + query) * partial_stride(p)], want.data(),
                        want.size() * sizeof(float));
                }
        }
}

static void what_it_cannot_do_is_refused(void **) {
    for (launch_function *launch : {radar_cuda_attend, radar_cuda_attend_plain}) {
        const radar_cuda_attend_args fits = {RADAR_CUDA_KV_F16, 64,     nullptr, 0, 4, 1, 2,
                                             nullptr,           nullptr};
        radar_cuda_attend_args a = fits;
        assert_int_equal(launch(&a, nullptr), 0); /* no tasks */
        a.D = 72, a.n_tasks = 1;
        assert_int_not_equal(launch(&a, nullptr), 0);
        a.D = 272;
        assert_int_not_equal(launch(&a, nullptr), 0);
        for (int splits : {0, 3, 64}) {
            a = fits, a.splits = splits;
            assert_int_not_equal(launch(&a, nullptr), 0);
        }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_head_size_agrees_with_doubles),
        cmocka_unit_test(rows_heads_and_lists_in_every_arrangement),
        cmocka_unit_test(many_splits_of_few_items),
        cmocka_unit_test(splits_are_merged_in_the_fixed_tree),
        cmocka_unit_test(a_thousand_queries_of_a_list),
        cmocka_unit_test(under_every_schedule),
        cmocka_unit_test(every_barrier_is_needed),
        cmocka_unit_test(bits_do_not_depend_on_neighbours),
        cmocka_unit_test(what_is_not_attended_leaves_no_trace),
        cmocka_unit_test(queries_of_any_size),
        cmocka_unit_test(scales_far_apart),
        cmocka_unit_test(all_segments_need_no_list),
        cmocka_unit_test(tasks_do_not_meet),
        cmocka_unit_test(plain_has_the_bits_of_the_cpu),
        cmocka_unit_test(what_it_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
