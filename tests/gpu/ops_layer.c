/* Operations of a layer beside its products and its attention. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "runtime/sampler.h"
#include "tests/gpu/twin.h"

static char name[96];
#define NAME(...) (snprintf(name, sizeof name, __VA_ARGS__), name)
/* op of the table of the side that the loop is at. */
#define DO(op, ...) side[s]->ops->op(side[s], __VA_ARGS__)

static void norms(int n, int width) {
    const size_t all = (size_t)n * (size_t)width;
    const twin x = twin_random(all, 1), y = twin_random(all, 13), w = twin_random((size_t)width, 2),
               out = twin_of(NULL, x.bytes);
    ON_BOTH(s) DO(norm, out.at[s], x.at[s], NULL, w.at[s], 1e-5f, n, width);
    expect_close(NAME("norm %d x %d", n, width), out, 2e-6);
    ON_BOTH(s) DO(norm, out.at[s], x.at[s], y.at[s], w.at[s], 1e-5f, n, width);
    expect_close(NAME("norm of a sum %d x %d", n, width), out, 2e-6);
    expect_same("sum of a norm", x, 0);
    drop_twins();
}

static void gates(int64_t n) {
    const twin g = twin_random((size_t)n, 3), u = twin_random((size_t)n, 4);
    ON_BOTH(s) DO(gate, g.at[s], u.at[s], n);
    expect_close(NAME("gate %lld", (long long)n), g, 1e-6);
    ON_BOTH(s) DO(add, u.at[s], u.at[s], n);
    expect_same(NAME("add %lld", (long long)n), u, 0);
    drop_twins();
}

static void sums(int pieces, int64_t n) {
    const twin x = twin_random((size_t)pieces * (size_t)n, 5);
    ON_BOTH(s) {
        float *piece[8];
        for (int i = 0; i < pieces; i++) piece[i] = (float *)x.at[s] + i * n;
        DO(sum, piece, pieces, n);
    }
    expect_same(NAME("sum %d pieces of %lld", pieces, (long long)n), x, (size_t)n * sizeof(float));
    drop_twins();
}

static void odds(int n, int width, int at) {
    float *x = malloc((size_t)n * (size_t)width * sizeof *x);
    fill_normal(x, (size_t)n * (size_t)width, 6);
    if (at >= 0) x[at] = at % 2 ? INFINITY : NAN;
    const twin v = twin_of(x, (size_t)n * (size_t)width * sizeof *x),
               row = twin_of(NULL, sizeof(uint64_t));
    ON_BOTH(s) DO(odd, row.at[s], v.at[s], n, width);
    expect_same(NAME("odd %d x %d, number %d", n, width, at), row, 0);
    free(x);
    drop_twins();
}

static void rotations(int M, int H, int G, int D, radar_rope_style style, bool norm) {
    const twin q = twin_random((size_t)(M * H * D), 7), k = twin_random((size_t)(M * G * D), 8),
               w = twin_random((size_t)D, 9), turn = twin_of(NULL, (size_t)(M * D) * sizeof(float));
    double frequency[128];
    int64_t position[128];
    for (int i = 0; i < D / 2; i++) frequency[i] = 1.0 / (1 + 7 * i);
    for (int i = 0; i < M; i++) position[i] = 1000003LL * i + 5;
    ON_BOTH(s) {
        DO(angles, turn.at[s], frequency, D, 1.0, position, M);
        const radar_rotate_job job = {.q = q.at[s],
                                      .k = k.at[s],
                                      .M = M,
                                      .H = H,
                                      .G = G,
                                      .D = D,
                                      .q_norm = norm ? w.at[s] : NULL,
                                      .k_norm = norm ? w.at[s] : NULL,
                                      .eps = 1e-6f,
                                      .cos_sin = turn.at[s],
                                      .style = style,
                                      .rotary = D};
        DO(rotate, &job);
    }
    expect_close(NAME("angles %d x %d", M, D), turn, 1e-6);
    expect_close(NAME("rotate q %d x %d x %d", M, H, D), q, 2e-6);
    expect_close(NAME("rotate k %d x %d x %d", M, G, D), k, 2e-6);
    drop_twins();
}

static void copies(void) {
    const twin from = twin_random(4096, 10), to = twin_of(NULL, from.bytes);
    ON_BOTH(s) {
        const float *f = from.at[s];
        float *t = to.at[s];
        const radar_copy copy[] = {{t, f + 7, 33, 40, 20, 31},
                                   {t + 2000, f + 1000, 128, 128, 9, 128},
                                   {t + 3500, f, 1, 1, 1, 1}};
        DO(copy, copy, 3);
    }
    expect_same("copy", to, 0);
    drop_twins();
}

static void embeddings(void) {
    const int W = 96;
    float *x = malloc(64 * (size_t)W * sizeof *x);
    const int32_t token[] = {5, 63, 0, 5};
    fill_normal(x, 64 * (size_t)W, 11);
    const radar_matrix w = {
        .type = RADAR_F32, .rows = 64, .cols = W, .data = x, .row_bytes = (size_t)W * sizeof *x};
    const twin out = twin_of(NULL, 4 * w.row_bytes);
    ON_BOTH(s) DO(embed, out.at[s], &w, token, 4);
    expect_same("embed", out, 0);
    drop_twins();
    free(x);
}

static void orders(int M, int G, int group, int D) {
    const size_t n = (size_t)(M * G * group * D);
    const int32_t row[] = {M - 1, 0};
    const twin q = twin_random(n, 12), a = twin_of(NULL, q.bytes), t = twin_of(NULL, 2 * q.bytes);
    ON_BOTH(s) {
        DO(arrange, a.at[s], q.at[s], M, G, group, D);
        DO(take, t.at[s], a.at[s], M, G, group, D, row, 2);
    }
    expect_same(NAME("arrange %d %d %d %d", M, G, group, D), a, 0);
    expect_same(NAME("take %d %d %d %d", M, G, group, D), t, 0);
    drop_twins();
}

/* What the GPU draws, and the host from the same logits. */
static void samples(int vocab, double temperature) {
    const radar_sampler_options opt = {
        .temperature = temperature, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .seed = 3};
    const twin x = twin_random((size_t)vocab, 14), drawn = twin_of(NULL, sizeof(radar_drawn));
    const float *logit = read_twin(x, CPU);
    void *scratch = malloc(radar_sampler_scratch(vocab));
    bool same = true;
    for (int64_t position = 0; position < 20; position++) {
        int32_t token = -2;
        radar_sample(&token, &opt, position, logit, vocab, scratch, NULL);
        side[GPU]->ops->sample(side[GPU], drawn.at[GPU], &opt, position, x.at[GPU], vocab);
        const radar_drawn *d = read_twin(drawn, GPU);
        same = same && d->token == token && d->nan == -1;
    }
    expect_true(NAME("sample of %d at %g", vocab, temperature), same);
    free(scratch);
    drop_twins();
}

void layer_cases(void) {
    norms(1, 4096), norms(5, 576), norms(3, 33);
    gates(14336), gates(37);
    sums(2, 4096), sums(8, 333);
    odds(3, 130, -1), odds(3, 130, 131), odds(9, 7, 40);
    rotations(1, 32, 8, 128, RADAR_ROPE_HALF, false);
    rotations(5, 8, 2, 64, RADAR_ROPE_ADJACENT, false);
    rotations(2, 16, 4, 128, RADAR_ROPE_HALF, true);
    copies(), embeddings();
    samples(320, 0), samples(49152, 0.8);
    orders(3, 2, 4, 64), orders(1, 8, 4, 128);
}
