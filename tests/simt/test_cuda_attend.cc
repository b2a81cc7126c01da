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

static const radar_cuda_kv all_types[] = {RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16, RADAR_CUDA_KV_FP8};

/* q and the weights count with 22 bits, bf16 16; sums in f32. */
static double bound(radar_cuda_kv type) { return type == RADAR_CUDA_KV_BF16 ? 3e-5 : 2e-6; }

struct shape {
    radar_cuda_kv type;
    int D, shards, G, rows, group, span, splits, segments;
};

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
    std::vector<radar_cuda_view> view;
    std::vector<float> q;
    std::vector<int64_t> position;
    std::vector<radar_item> item;
    std::vector<int64_t> begin;
    std::vector<int32_t> count;
    float scale;
};

static uint64_t chance(uint64_t a, uint64_t b) { return radar_random(77, a, b); }

static int64_t first_of(const radar_cuda_view &w, int32_t segment) {
    return ((int64_t)(segment / w.stripe_segments * w.shards + w.phase) * w.stripe_segments +
            segment % w.stripe_segments) *
           16;
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
        fail_msg("attend has no f32 cache");
    }
    return dev_e4m3_to_f32(to.data()[i]) * scale;
}

static head random_head(const shape &s, uint64_t seed) {
    const size_t tokens = (size_t)s.segments * 16, D = (size_t)s.D;
    const size_t bytes = tokens * D * (s.type == RADAR_CUDA_KV_FP8 ? 1 : 2);
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
    const int bytes = s.type == RADAR_CUDA_KV_FP8 ? 1 : 2;
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
    const radar_cuda_view &w = p.view[(size_t)(shard * p.s.G + g)];
    for (int64_t i = p.begin[list]; i < p.begin[list] + p.count[list]; i++)
        for (int t = 0; t < 16; t++)
            if (p.item[(size_t)i].tokens >> t & 1 &&
                first_of(w, p.item[(size_t)i].segment) + t <= p.position[(size_t)query])
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
        head &h = p.heads[(size_t)view];
        p.view.push_back(
            {h.k.data(), h.v.data(), h.k_scale.data(), h.v_scale.data(), 4, s.shards, view / s.G});
        for (int l = 0; l < p.lists; l++) random_list(p, seed + (uint64_t)(view * p.lists + l));
    }
    for (int i = 0; i < s.G * p.queries * s.D; i++)
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

static radar_cuda_attend_args args_of(const problem &p, float *partial) {
    radar_cuda_attend_args a = {};
    a.type = p.s.type, a.D = p.s.D, a.shards = p.s.shards, a.G = p.s.G;
    a.view = p.view.data(), a.queries = p.queries, a.span = p.s.span;
    a.q = p.q.data(), a.position = p.position.data();
    a.item = p.item.data(), a.begin = p.begin.data(), a.count = p.count.data();
    a.scale = p.scale, a.splits = p.s.splits, a.partial = partial;
    return a;
}

/* [shards, splits, G, queries, PARTIAL(D)] */
static std::vector<float> run(const problem &p) {
    const shape &s = p.s;
    std::vector<float> out((size_t)(s.shards * s.splits * s.G * p.queries * RADAR_PARTIAL(s.D)), 7);
    const radar_cuda_attend_args a = args_of(p, out.data());
    assert_int_equal(radar_cuda_attend(&a, nullptr), 0);
    return out;
}

/* {l, o} of a query in one shard, by exp(s - m) in doubles; returns m. */
static double reference(const problem &p, int shard, int g, int query, std::vector<double> &lo) {
    const size_t D = (size_t)p.s.D;
    const head &h = p.heads[(size_t)(shard * p.s.G + g)];
    const float *q = &p.q[(size_t)(g * p.queries + query) * D];
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

/* The splits of one query in one shard as one {l, o} beside m, in doubles; the missed parts are the identity's. */
static bool gather(const problem &p, const std::vector<float> &out, int shard, int g, int query,
                   double m, std::vector<float> &lo) {
    const shape &s = p.s;
    std::vector<double> sum((size_t)s.D + 1);
    for (int split = 0; split < s.splits; split++) {
        const float *x =
            &out[(size_t)((((shard * s.splits + split) * s.G + g) * p.queries + query) *
                          RADAR_PARTIAL(s.D))];
        if (x[RADAR_PARTIAL_MISSED_M(s.D)] != -INFINITY || x[RADAR_PARTIAL_MISSED_L(s.D)] != 0)
            return false;
        if (x[RADAR_PARTIAL_M] > m + 1e-4 * (1 + fabs(m))) return false;
        for (int i = 0; i <= s.D; i++) {
            if (x[RADAR_PARTIAL_M] == -INFINITY && x[RADAR_PARTIAL_L + i] != 0) return false;
            sum[(size_t)i] += m == -INFINITY ? x[RADAR_PARTIAL_L + i]
                                             : x[RADAR_PARTIAL_L + i] * exp(x[RADAR_PARTIAL_M] - m);
        }
    }
    lo.assign(sum.begin(), sum.end());
    return true;
}

/* The largest error of a query's {l, o}; infinite where what should be exact is not. */
static double worst(const problem &p, const std::vector<float> &out) {
    double most = 0;
    std::vector<double> want;
    std::vector<float> got;
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

static bool right(const shape &s, uint64_t seed) {
    const problem p = make(s, seed);
    const double e = worst(p, run(p));
    if (!(e <= bound(s.type)))
        fprintf(stderr, "type %d D %d rows %d group %d span %d: error %g\n", s.type, s.D, s.rows,
                s.group, s.span, e);
    return e <= bound(s.type);
}

static void every_type_and_head_size_agrees_with_doubles(void **) {
    const int all_D[] = {64, 80, 96, 112, 128};
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

static void under_every_schedule(void **) {
    for (radar_cuda_kv type : all_types) {
        assert_true(right_always([&] { return right({type, 64, 1, 1, 1, 8, 8, 1, 30}, 2); }, 6));
        assert_true(right_always([&] { return right({type, 64, 1, 1, 3, 8, 24, 1, 20}, 3); }, 3));
    }
}

static void every_barrier_is_needed(void **) {
    const shape alone = {RADAR_CUDA_KV_F16, 64, 1, 1, 1, 8, 8, 1, 40};
    const shape together = {RADAR_CUDA_KV_FP8, 64, 1, 1, 2, 8, 16, 1, 40};
    bool found = true;
    for (const shape &s : {alone, together}) {
        const problem p = make(s, 2);
        const std::vector<float> want = run(p);
        const auto same = [&] {
            const std::vector<float> got = run(p);
            return !memcmp(got.data(), want.data(), want.size() * sizeof(float));
        };
        for (int site : idle_barriers(same, 60)) {
            fprintf(stderr, "barrier %d of %d queries is idle\n", site, p.queries);
            found = false;
        }
    }
    assert_true(found);
}

/* A query's bits follow from its list and the number of splits, whoever shares its block. */
static void bits_do_not_depend_on_neighbours(void **) {
    for (radar_cuda_kv type : all_types) {
        problem p = make({type, 64, 1, 2, 5, 8, 40, 2, 16}, 3), alone = p;
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
        assert_memory_equal(got.data(), want.data(), 4 * RADAR_PARTIAL(64) * sizeof(float));
        bool nan = false;
        for (size_t i = 4 * RADAR_PARTIAL(64); i < got.size(); i++) nan |= got[i] != got[i];
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

static void what_it_cannot_do_is_refused(void **) {
    const problem p = make({RADAR_CUDA_KV_F16, 64, 1, 1, 1, 4, 4, 2, 4}, 1);
    std::vector<float> out(8 * RADAR_PARTIAL(64));
    radar_cuda_attend_args a = args_of(p, out.data());
    a.D = 72;
    assert_int_not_equal(radar_cuda_attend(&a, nullptr), 0);
    a = args_of(p, out.data());
    a.splits = 3;
    assert_int_not_equal(radar_cuda_attend(&a, nullptr), 0);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_head_size_agrees_with_doubles),
        cmocka_unit_test(rows_heads_and_lists_in_every_arrangement),
        cmocka_unit_test(many_splits_of_few_items),
        cmocka_unit_test(under_every_schedule),
        cmocka_unit_test(every_barrier_is_needed),
        cmocka_unit_test(bits_do_not_depend_on_neighbours),
        cmocka_unit_test(what_is_not_attended_leaves_no_trace),
        cmocka_unit_test(queries_of_any_size),
        cmocka_unit_test(scales_far_apart),
        cmocka_unit_test(what_it_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
