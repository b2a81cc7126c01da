/* Sealing and queries.  Sealing is one C source for all instruction sets: 16 tokens side by side, no sum across them. */
#include "kernels/cpu/sketch.h"

#include <math.h>
#include <stdlib.h>
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
    x->avx2 = isa.avx2;
    x->vbmi = isa.avx512 && __builtin_cpu_supports("avx512vbmi");
    x->D = s->opt.D;
    x->bits = bits;
    x->Dp = bits == 1 ? (s->opt.D + 31) / 32 * 32 : (s->opt.D + 15) / 16 * 16;
    x->Dq = (s->opt.D + 31) / 32 * 32;
    x->words = bits == 2 ? x->Dq / 32 : x->Dp * bits / 32;
    x->low_words = bits == 2 ? x->Dp / 32 : 0;
    x->scale = (float)(1 / sqrt(s->opt.D));
    fill_tables(x, s->opt.seed);
    s->state = x;
    s->block_bytes = (8 * (size_t)bits + 1) * (size_t)x->Dp + 72;
    s->coarse_bytes = bits == 2 ? 256 * (size_t)x->words + 72 + (size_t)x->Dp : 0;
    s->query_bytes = 32 + (size_t)x->Dq + 4 * (size_t)x->Dp + (bits == 2 ? 4 * (size_t)x->Dq : 0);
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

/* Where the codes of 16 tokens go, as in sketch.h. */
typedef struct tile {
    uint32_t *code, *low;
    int low_words;
} tile;

RADAR_TEMPLATE void put_codes(const tile *to, const uint32_t code[LANES], int d, int bits) {
    const int dims = bits == 2 ? 32 : 32 / bits, wide = bits == 2 ? 1 : bits;
    int shift = 8 * (d % 4) + wide * (d % dims / 4);
    uint32_t *word = to->code + d / dims * LANES;
    if (bits != 2) {
        for (int l = 0; l < LANES; l++) word[l] |= code[l] << shift;
        return;
    }
    bool apart = d / 32 < to->low_words;
    uint32_t *low = apart ? to->low + d / 32 * LANES : word;
    for (int l = 0; l < LANES; l++) {
        word[l] |= code[l] >> 1 << shift;
        low[l] |= (code[l] & 1) << (apart ? shift : shift + 4);
    }
}

/* Codes of 16 tokens; step becomes the one of least squares for them. */
RADAR_TEMPLATE void encode(const tile *to, float step[LANES], const float *z, int D, int bits) {
    const float centre = RADAR_SKETCH_CENTRE(bits);
    float dot[LANES] = {0}, square[LANES] = {0};
    for (int d = 0; d < D; d++) {
        uint32_t code[LANES];
        for (int l = 0; l < LANES; l++) {
            float level = level_of(z[d * LANES + l], step[l], bits);
            dot[l] += z[d * LANES + l] * level;
            square[l] += level * level;
            code[l] = (uint32_t)(int32_t)(level + centre);
        }
        put_codes(to, code, d, bits);
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
    return radar_round_to_int8(mu, sum, x->D, 127);
}

RADAR_TEMPLATE void seal(const radar_sketch *x, void *summary, const float *key, int bits) {
    _Alignas(64) float z[RADAR_MAX_D * LANES];
    float step[RADAR_BLOCK], scale[2];
    uint8_t *steps = (uint8_t *)summary + 256 * x->words;
    int8_t *mu = (int8_t *)steps + RADAR_BLOCK;
    tile to = {summary, (uint32_t *)(mu + x->Dp + 8), x->low_words};
    memset(summary, 0, (8 * (size_t)bits + 1) * (size_t)x->Dp + 72);
    scale[0] = store_mean(mu, x, key);
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++) {
        for (int l = 0; l < LANES; l++)
            for (int d = 0; d < x->D; d++)
                z[d * LANES + l] = key[(s * LANES + l) * x->D + d] - scale[0] * (float)mu[d];
        radar_rotate(&x->rotation, z, LANES);
        if (bits > 1) choose_step(step + s * LANES, z, x->D, bits);
        encode(&to, step + s * LANES, z, x->D, bits);
        to.code += x->words * LANES;
        to.low += x->low_words * LANES;
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
RADAR_AVX2 static void seal_avx2(const radar_sketch *x, void *summary, const float *key) {
    seal_bits(x, summary, key);
}
RADAR_AVX512 static void seal_avx512(const radar_sketch *x, void *summary, const float *key) {
    seal_bits(x, summary, key);
}

static void sketch_seal(const radar_scorer *s, void *summary, const float *key) {
    const radar_sketch *x = s->state;
    (x->avx512 ? seal_avx512 : x->avx2 ? seal_avx2 : seal_plain)(x, summary, key);
}

/* ---- queries ---- */

/* gain, sum and reach for codes of `bits`, hq in units of `scale`. */
static void fill_head(float head[3], const radar_sketch *x, const int8_t *hq, float scale,
                      int bits) {
    int sum = 0, size = 0;
    head[0] = scale * x->scale * RADAR_MASS_LOG2E;
    for (int d = 0; d < x->D; d++) {
        sum += hq[d];
        size += abs(hq[d]);
    }
    if (bits < x->bits) head[0] *= 2 * RADAR_SKETCH_UPPER;
    head[1] = (float)sum;
    head[2] = head[0] * (RADAR_SKETCH_CENTRE(bits) * (float)size);
}

/* Each entry from the one without its highest bit. */
static void fill_table(uint8_t *table, const int8_t *hq, int Dq) {
    for (int half = 0; half < Dq / 16; half++, hq += 16) {
        for (int j = 0; j < 4; j++, table += 16) {
            table[0] = 124;
            for (int s = 0; s < 4; s++)
                for (int c = 0; c < 1 << s; c++)
                    table[c + (1 << s)] = (uint8_t)(table[c] + hq[4 * s + j]);
        }
    }
}

static void sketch_query(const radar_scorer *s, void *prepared, const float *q) {
    const radar_sketch *x = s->state;
    float h[RADAR_MAX_D], head[6] = {0};
    int8_t *hq = (int8_t *)prepared + 32;
    float *scaled = (float *)(hq + x->Dq);
    memset(prepared, 0, s->query_bytes);
    memcpy(h, q, (size_t)x->D * sizeof *q);
    radar_rotate(&x->rotation, h, 1);
    float scale = radar_round_to_int8(hq, h, x->D, x->bits == 2 ? 31 : 127);
    fill_head(head, x, hq, scale, x->bits);
    if (x->bits == 2) {
        fill_head(head + 3, x, hq, scale, 1);
        fill_table((uint8_t *)(scaled + x->Dp), hq, x->Dq);
    }
    for (int d = 0; d < x->D; d++) scaled[d] = q[d] * x->scale;
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
