/* Sealing and queries.  Sealing is one C source for both instruction sets: 16 tokens side by side, no sum across them. */
#include "kernels/cpu/sketch.h"

#include <math.h>
#include <string.h>

#include "runtime/sys.h"

#define LANES RADAR_SEGMENT

static void fill_tables(radar_sketch *x, uint64_t seed) {
    radar_rotation_seeded(&x->rotation, x->D, seed);
    for (int c = 1; c < 256; c++) x->step[c] = (float)exp2((c - 255) / 16.0);
    for (int i = 0; i < 16; i++) x->middle[i] = (float)exp2((i + 0.5) / 16);
}

static radar_status sketch_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", s->opt.isa);
    int bits = s->opt.sketch_bits ? s->opt.sketch_bits : 2;
    if (bits != 1 && bits != 2 && bits != 4)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "scorer 'sketch': %d bits a dimension; use 1, 2 or 4", bits);
    radar_sketch *x = radar_alloc(sizeof *x);
    if (!x)
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer 'sketch': no memory for %zu bytes",
                          sizeof *x);
    x->avx512 = isa.avx512;
    x->D = s->opt.D;
    x->bits = bits;
    x->Dp = bits == 1 ? (s->opt.D + 31) / 32 * 32 : (s->opt.D + 15) / 16 * 16;
    x->scale = (float)(1 / sqrt(s->opt.D));
    fill_tables(x, s->opt.seed);
    s->state = x;
    s->block_bytes = (8 * (size_t)bits + 1) * (size_t)x->Dp + 72;
    s->query_bytes = 16 + 5 * (size_t)x->Dp;
    return RADAR_OK;
}

static void sketch_close(radar_scorer *s) { radar_free(s->state); }

/* ---- sealing ---- */

/* The level next to z. */
RADAR_TEMPLATE float level_of(float z, float step, int bits) {
    if (bits == 1) return (z >= 0 ? 1.0f : 0.0f) - 0.5f;
    if (bits == 2)
        return (z >= -step ? 1.0f : 0.0f) + (z >= 0 ? 1.0f : 0.0f) + (z >= step ? 1.0f : 0.0f) -
               1.5f;
    float code = z / step + 8.0f;
    code = code > 0 ? code : 0; /* NaN too: what follows must fit an integer */
    return (float)(int32_t)(code < 15 ? code : 15) - 7.5f;
}

/* The step of each token that decides its levels; one bit has no use for it. */
RADAR_TEMPLATE void choose_step(float step[LANES], const float *z, int D, int bits) {
    const float most = 4.0f / (float)(1 << bits); /* the largest candidate takes in the maximum */
    float max[LANES] = {0}, best[LANES];
    for (int d = 0; d < D; d++)
        for (int l = 0; l < LANES; l++)
            max[l] = fabsf(z[d * LANES + l]) > max[l] ? fabsf(z[d * LANES + l]) : max[l];
    for (int l = 0; l < LANES; l++) best[l] = INFINITY, step[l] = 0;
    for (int c = 0; c < 4; c++) {
        const float shrink[] = {0.5f, 0.4f, 0.325f, 0.25f};
        float error[LANES] = {0}, candidate[LANES];
        for (int l = 0; l < LANES; l++) candidate[l] = max[l] * (shrink[c] * most);
        for (int d = 0; d < D; d++) {
            for (int l = 0; l < LANES; l++) {
                float level = level_of(z[d * LANES + l], candidate[l], bits);
                float e = z[d * LANES + l] - level * candidate[l];
                error[l] += e * e;
            }
        }
        for (int l = 0; l < LANES; l++) {
            step[l] = error[l] < best[l] ? candidate[l] : step[l];
            best[l] = error[l] < best[l] ? error[l] : best[l];
        }
    }
}

/* Codes of 16 tokens; step becomes the one of least squares for them. */
RADAR_TEMPLATE void encode(uint32_t *code, float step[LANES], const float *z, int D, int bits) {
    const int dims = 32 / bits; /* of a dword */
    const float centre = RADAR_SKETCH_CENTRE(bits);
    float dot[LANES] = {0}, square[LANES] = {0};
    for (int d = 0; d < D; d++) {
        int shift = 8 * (d % 4) + bits * (d % dims / 4);
        uint32_t *word = code + d / dims * LANES;
        for (int l = 0; l < LANES; l++) {
            float level = level_of(z[d * LANES + l], step[l], bits);
            dot[l] += z[d * LANES + l] * level;
            square[l] += level * level;
            word[l] |= (uint32_t)(int32_t)(level + centre) << shift;
        }
    }
    for (int l = 0; l < LANES; l++) step[l] = dot[l] / square[l];
}

/* Nearest code, on the logarithmic scale, of a step in units of the largest. */
static uint8_t step_code(const radar_sketch *x, float ratio) {
    if (!(ratio > 0)) return 0;
    int e, i = 0;
    float m = 2 * frexpf(ratio, &e); /* ratio = m 2^(e - 1), 1 <= m < 2 */
    while (i < 16 && m >= x->middle[i]) i++;
    int code = 16 * (e - 1) + i + 255;
    return (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code < 1 ? 1 : code);
}

static void store_steps(const radar_sketch *x, uint8_t *out, float *step_scale,
                        const float step[RADAR_BLOCK]) {
    float max = 0;
    for (int i = 0; i < RADAR_BLOCK; i++) max = step[i] > max ? step[i] : max;
    if (!(max < INFINITY)) max = 0;
    *step_scale = max;
    for (int i = 0; i < RADAR_BLOCK; i++) out[i] = max > 0 ? step_code(x, step[i] / max) : 0;
}

static float store_mean(int8_t *mu, const radar_sketch *x, const float *key) {
    float sum[RADAR_MAX_D] = {0};
    for (int i = 0; i < RADAR_BLOCK; i++)
        for (int d = 0; d < x->D; d++) sum[d] += key[i * x->D + d];
    for (int d = 0; d < x->D; d++) sum[d] *= 1.0f / RADAR_BLOCK;
    return radar_round_to_int8(mu, sum, x->D);
}

RADAR_TEMPLATE void seal(const radar_sketch *x, void *summary, const float *key, int bits) {
    _Alignas(64) float z[RADAR_MAX_D * LANES];
    float step[RADAR_BLOCK], scale[2];
    uint32_t *code = summary;
    uint8_t *steps = (uint8_t *)summary + 8 * bits * x->Dp;
    int8_t *mu = (int8_t *)steps + RADAR_BLOCK;
    memset(summary, 0, (8 * (size_t)bits + 1) * (size_t)x->Dp + 72);
    scale[0] = store_mean(mu, x, key);
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++) {
        for (int l = 0; l < LANES; l++)
            for (int d = 0; d < x->D; d++)
                z[d * LANES + l] = key[(s * LANES + l) * x->D + d] - scale[0] * (float)mu[d];
        radar_rotate(&x->rotation, z, LANES);
        if (bits > 1) choose_step(step + s * LANES, z, x->D, bits);
        encode(code + s * (x->Dp * bits / 2), step + s * LANES, z, x->D, bits);
    }
    store_steps(x, steps, &scale[1], step);
    memcpy(mu + x->Dp, scale, sizeof scale);
}

RADAR_TEMPLATE void seal_bits(const radar_sketch *x, void *summary, const float *key) {
    switch (x->bits) {
    case 1:
        seal(x, summary, key, 1);
        break;
    case 2:
        seal(x, summary, key, 2);
        break;
    default:
        seal(x, summary, key, 4);
    }
}

static void seal_plain(const radar_sketch *x, void *summary, const float *key) {
    seal_bits(x, summary, key);
}
RADAR_AVX512 static void seal_avx512(const radar_sketch *x, void *summary, const float *key) {
    seal_bits(x, summary, key);
}

static void sketch_seal(const radar_scorer *s, void *summary, const float *key) {
    const radar_sketch *x = s->state;
    (x->avx512 ? seal_avx512 : seal_plain)(x, summary, key);
}

/* ---- queries ---- */

static void sketch_query(const radar_scorer *s, void *prepared, const float *q) {
    const radar_sketch *x = s->state;
    float h[RADAR_MAX_D], head[4] = {0};
    int8_t *hq = (int8_t *)prepared + 16;
    float *scaled = (float *)((char *)prepared + 16 + x->Dp);
    int sum = 0;
    memset(prepared, 0, s->query_bytes);
    memcpy(h, q, (size_t)x->D * sizeof *q);
    radar_rotate(&x->rotation, h, 1);
    head[0] = radar_round_to_int8(hq, h, x->D) * x->scale;
    for (int d = 0; d < x->D; d++) {
        sum += hq[d];
        scaled[d] = q[d] * x->scale;
    }
    head[1] = RADAR_SKETCH_CENTRE(x->bits) * (float)sum;
    memcpy(prepared, head, sizeof head);
}

static void sketch_score(const radar_scorer *s, const radar_score_task *t) {
    radar_sketch_scan(s->state, t, s->query_bytes);
}

const radar_scorer_kind radar_scorer_sketch = {
    .name = "sketch",
    .open = sketch_open,
    .close = sketch_close,
    .seal = sketch_seal,
    .query = sketch_query,
    .score = sketch_score,
};
