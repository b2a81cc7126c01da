/* scorer_fixture.h - what the tests of scorers share: sealing and scoring a random cache, twins compared, a real model's keys. */
#ifndef RADAR_TEST_SCORER_FIXTURE_H
#define RADAR_TEST_SCORER_FIXTURE_H

#include "tests/unit/kv_fixture.h"

static inline radar_scorer *scorer_with(const char *name, radar_scorer_options opt) {
    radar_scorer *s;
    assert_int_equal(radar_scorer_open(&s, name, &opt, NULL), RADAR_OK);
    return s;
}

/* Summaries of all blocks of kv. */
static inline void seal_all(const radar_scorer *s, radar_kv_view *kv, int segments, const char *isa,
                            int threads) {
    radar_cpu cpu = cpu_with(isa, threads);
    kv->block_bytes = s->block_bytes;
    kv->summary = s->block_bytes ? must(radar_alloc((size_t)segments / 4 * s->block_bytes)) : NULL;
    radar_cpu_seal(&cpu.base, s, kv, 1, 0, segments / 4);
}

/* Scores of n queries for segments [begin, end): [n][end - begin]. */
static inline float *score_range(const radar_scorer *s, const radar_kv_view *kv, const float *q,
                                 int n, int begin, int end, const char *isa) {
    radar_cpu cpu = cpu_with(isa, 2);
    char *query = must(radar_alloc((size_t)n * s->query_bytes));
    float *score = must(radar_alloc((size_t)n * (size_t)(end - begin) * sizeof *score));
    radar_score_task t = {.kv = *kv,
                          .n_query = n,
                          .query = query,
                          .unit = 1,
                          .segment_begin = begin,
                          .segment_end = end,
                          .score = score,
                          .score_stride = (size_t)(end - begin)};
    radar_cpu_query(&cpu.base, s, query, q, (size_t)kv->D, n);
    radar_cpu_score(&cpu.base, s, &t, 1);
    radar_free(query);
    return score;
}

static inline double lse_ref(const radar_kv_view *kv, const float *q, int segment, int n_segments) {
    double m = -INFINITY, l = 0;
    for (int i = segment * 16; i < (segment + n_segments) * 16; i++)
        m = fmax(m, logit_ref(kv, q, i));
    for (int i = segment * 16; i < (segment + n_segments) * 16; i++)
        l += exp(logit_ref(kv, q, i) - m);
    return m + log(l);
}

static inline bool has_isa(const char *isa) {
    bool ok;
    radar_cpu_isa(isa, &ok);
    return ok;
}

/* Summaries and scores: plain C against an instruction set, threads, neighbouring queries and ranges of segments. */
static inline void check_twin(const char *isa, const char *name, radar_dtype type,
                              radar_scorer_options opt) {
    enum { SEGMENTS = 12, QUERIES = 7 };
    int D = opt.D;
    radar_kv_view a = kv_random(type, D, SEGMENTS, (uint64_t)D, 1.5f), b = a;
    float *q = normals((size_t)(QUERIES * D), 3, 1.5f);
    opt.isa = "plain";
    radar_scorer *plain = scorer_with(name, opt);
    opt.isa = isa;
    radar_scorer *fast = scorer_with(name, opt);
    seal_all(plain, &a, SEGMENTS, "plain", 1);
    seal_all(fast, &b, SEGMENTS, isa, 3);
    if (plain->block_bytes)
        assert_memory_equal(a.summary, b.summary, SEGMENTS / 4 * plain->block_bytes);
    float *x = score_range(plain, &a, q, QUERIES, 0, SEGMENTS, "plain");
    float *y = score_range(fast, &b, q, QUERIES, 0, SEGMENTS, isa);
    assert_memory_equal(x, y, QUERIES * SEGMENTS * sizeof *x);
    for (int j = 0; j < QUERIES; j++) {
        for (int begin = 0; begin < SEGMENTS; begin += 3) {
            int end = begin + 1 + (j + begin) % (SEGMENTS - begin), n = 1 + j % 2;
            if (j + n > QUERIES) n = 1;
            float *part = score_range(fast, &b, q + j * D, n, begin, end, isa);
            for (int i = 0; i < n; i++)
                assert_memory_equal(part + i * (end - begin), x + (j + i) * SEGMENTS + begin,
                                    (size_t)(end - begin) * sizeof *x);
            radar_free(part);
        }
    }
    radar_scorer_close(plain), radar_scorer_close(fast);
    radar_free(x), radar_free(y), radar_free(q), radar_free(b.summary);
    kv_free(&a);
}

static inline void check_same_bits(const char *name, radar_dtype type, radar_scorer_options opt) {
    check_twin(NULL, name, type, opt);
}

/* ---- a real model's keys ---- */

enum { REAL_TOKENS = 1280, REAL_SEGMENTS = 80, REAL_QUERIES = 17 };

typedef struct real {
    radar_kv_view kv[3];
    float *q; /* [17][9][64] */
} real;

static inline real load_real(void) {
    real r;
    uint16_t *h = golden("radar-real-k.f16", REAL_TOKENS * 3 * 64 * 2);
    float *k = must(radar_alloc(REAL_TOKENS * 3 * 64 * sizeof *k));
    for (int i = 0; i < REAL_TOKENS * 3 * 64; i++) k[i] = radar_f16_to_f32(h[i]);
    for (int g = 0; g < 3; g++) {
        r.kv[g] = kv_empty(RADAR_F16, 64, REAL_SEGMENTS);
        kv_put(&r.kv[g], k + g * 64, k + g * 64, 3 * 64, REAL_TOKENS);
    }
    r.q = golden("radar-real-q.f32", REAL_QUERIES * 9 * 64 * 4);
    radar_free(h), radar_free(k);
    return r;
}

static inline void free_real(real *r) {
    for (int g = 0; g < 3; g++) kv_free(&r->kv[g]);
    radar_free(r->q);
}

/* Query j of the 51 that read KV head g. */
static inline const float *real_query(const real *r, int g, int j) {
    return r->q + (j / 3 * 9 + g * 3 + j % 3) * 64;
}

/* Share of the exact best `keep` segments (of all but the first) that the scores find, over all queries. */
static inline double recall(const char *name, radar_scorer_options opt, const real *r, int keep) {
    int hits = 0, all = 0;
    radar_scorer *s = scorer_with(name, opt), *exact = scorer_with("exact", opt);
    for (int g = 0; g < 3; g++) {
        radar_kv_view kv = r->kv[g];
        seal_all(s, &kv, REAL_SEGMENTS, NULL, 2);
        for (int j = 0; j < REAL_QUERIES * 3; j++) {
            const float *q = real_query(r, g, j);
            float *score[2] = {score_range(s, &kv, q, 1, 1, REAL_SEGMENTS, NULL),
                               score_range(exact, &kv, q, 1, 1, REAL_SEGMENTS, NULL)};
            uint64_t key[2][REAL_SEGMENTS];
            for (int i = 0; i < 2; i++) {
                for (int k = 0; k < REAL_SEGMENTS - 1; k++)
                    key[i][k] = radar_topk_key(score[i][k], (uint32_t)k);
                radar_topk_select(key[i], REAL_SEGMENTS - 1, keep);
                radar_free(score[i]);
            }
            for (int a = 0; a < keep; a++)
                for (int b = 0; b < keep; b++)
                    hits += radar_topk_segment(key[0][a]) == radar_topk_segment(key[1][b]);
            all += keep;
        }
        radar_free(kv.summary);
    }
    radar_scorer_close(s), radar_scorer_close(exact);
    return (double)hits / all;
}

#endif
