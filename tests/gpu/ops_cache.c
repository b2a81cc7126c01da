/* The cache and its summaries: append, seal, unite, query, score. */
#include <stdio.h>

#include "tests/gpu/cache_twin.h"

#define LEVELS 2
#define QUERIES 4

static char name[96];

static radar_scorer *scorer_of(const char *kind, const radar_scorer_options *opt) {
    radar_error err = {0};
    radar_scorer *s = NULL;
    if (radar_scorer_open(&s, kind, opt, &err) == RADAR_OK)
        side[GPU]->ops->adopt(side[GPU], s, &err);
    if (err.status != RADAR_OK) printf("# %s\n", err.text);
    expect_true(kind, err.status == RADAR_OK);
    return err.status == RADAR_OK ? s : NULL;
}

static void drop_scorer(radar_scorer *s) {
    side[GPU]->ops->forget(side[GPU], s);
    radar_scorer_close(s);
}

/* Scores of all units, or of a list of them, of every head; other places stay 0. */
static void scores(const cache_twin *c, const radar_scorer *scorer, twin query, int32_t unit,
                   bool listed, bool coarse, double bound) {
    const int32_t units = c->segments / unit, some[] = {units - 1, 0, 5, 3}, n_some = 4;
    const size_t stride = (size_t)units + 3;
    const twin out = twin_of(NULL, (size_t)c->heads * QUERIES * stride * sizeof(float)),
               list = twin_of(some, sizeof some), n = twin_of(&n_some, sizeof n_some);
    ON_BOTH(s) {
        radar_score_task task[MOST_HEADS];
        for (int h = 0; h < c->heads; h++)
            task[h] = (radar_score_task){
                .kv = c->view[s][h],
                .n_query = QUERIES,
                .query = (char *)query.at[s] + (size_t)(h * QUERIES) * scorer->query_bytes,
                .unit = unit,
                .segment_end = units,
                .score = (float *)out.at[s] + (size_t)(h * QUERIES) * stride,
                .score_stride = stride,
                .list = listed ? list.at[s] : NULL,
                .n_listed = listed ? n.at[s] : NULL,
                .coarse = coarse};
        side[s]->ops->score(side[s], scorer, task, c->heads);
    }
    snprintf(name, sizeof name, "score %s %d unit %d%s%s", scorer->kind->name, c->D, unit,
             listed ? " listed" : "", coarse ? " coarse" : "");
    expect_close(name, out, bound);
}

static twin queries(const cache_twin *c, const radar_scorer *scorer) {
    const int n = c->heads * QUERIES;
    const twin q = twin_random((size_t)(n * c->D), 40),
               out = twin_of(NULL, (size_t)n * scorer->query_bytes);
    ON_BOTH(s) side[s]->ops->query(side[s], scorer, out.at[s], q.at[s], (size_t)c->D, n);
    snprintf(name, sizeof name, "query %s %d", scorer->kind->name, c->D);
    expect_alike(name, out, 0.02);
    return out;
}

/* Both sides then score what the CPU has sealed: a level that rounding tips over is no error of the scan. */
static void seals(cache_twin *c, const radar_scorer *scorer) {
    cache_twin_summaries(c, scorer);
    const int blocks = c->segments / RADAR_BLOCK_SEGMENTS, half = blocks / 2;
    ON_BOTH(s) {
        const radar_backend_ops *ops = side[s]->ops;
        ops->seal(side[s], scorer, c->view[s], c->heads, 0, half);
        ops->seal(side[s], scorer, c->view[s], c->heads, half, blocks - half);
        if (scorer->kind->merge)
            ops->unite(side[s], scorer, c->view[s], c->heads, LEVELS, 0, blocks);
    }
    snprintf(name, sizeof name, "seal %s of %s %d", scorer->kind->name, radar_dtype_name(c->type),
             c->D);
    expect_alike(name, c->summary, 0.01);
    if (scorer->kind->merge) {
        snprintf(name, sizeof name, "unite %s %d", scorer->kind->name, c->D);
        expect_alike(name, c->merged, 0.01);
    }
    write_twin(c->summary, GPU, read_twin(c->summary, CPU));
    write_twin(c->merged, GPU, read_twin(c->merged, CPU));
}

static void scorer_cases(const char *kind, radar_dtype type, const radar_scorer_options *opt,
                         double bound) {
    cache_twin c = cache_twin_of(type, 2, opt->D, 48, 50);
    radar_scorer *scorer = scorer_of(kind, opt);
    if (!scorer) return;
    if (scorer->block_bytes) seals(&c, scorer);
    const twin query = queries(&c, scorer);
    scores(&c, scorer, query, 1, false, false, bound);
    if (scorer->kind->merge)
        for (int32_t unit = 2; unit <= 1 << LEVELS; unit *= 2)
            scores(&c, scorer, query, unit, false, false, bound);
    else
        scores(&c, scorer, query, 1, true, false, bound);
    if (scorer->coarse_bytes) scores(&c, scorer, query, 1, false, true, bound);
    drop_twins();
    drop_scorer(scorer);
}

void cache_cases(void) {
    static const radar_dtype types[] = {RADAR_F16, RADAR_BF16, RADAR_F32, RADAR_FP8};
    static const int bits[] = {1, 2, 4};
    for (int i = 0; i < 4; i++) {
        const radar_scorer_options opt = {.D = i % 2 ? 128 : 64, .seed = 1, .rf_features = 64};
        scorer_cases("sketch", types[i], &opt, 1e-4);
        scorer_cases("mean", types[i], &opt, 1e-4);
        scorer_cases("exact", types[i], &opt, 1e-4);
        scorer_cases("rf", types[i], &opt, 1e-3);
    }
    for (int i = 0; i < 3; i++) {
        const radar_scorer_options opt = {.D = 80, .seed = 2, .sketch_bits = bits[i]};
        scorer_cases("sketch", RADAR_BF16, &opt, 1e-4);
    }
}
