#include "tests/gpu/cache_twin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Half of the context is another shard's. */
#define SHARDS 2
#define PHASE 1
#define STRIPE_SEGMENTS 4

static radar_dtype type_on(const cache_twin *c, int s) {
    return s == CPU && c->type == RADAR_FP8 ? RADAR_F32 : c->type;
}

static void set_views(cache_twin *c) {
    const size_t head = (size_t)c->segments * (size_t)c->D * RADAR_SEGMENT,
                 tokens = (size_t)c->segments * RADAR_SEGMENT;
    ON_BOTH(s) {
        const size_t bytes = head * radar_dtype_block_bytes(type_on(c, s));
        for (int h = 0; h < c->heads; h++) {
            radar_kv_view *v = &c->view[s][h];
            *v = (radar_kv_view){.type = type_on(c, s),
                                 .D = c->D,
                                 .k = (char *)c->k.at[s] + (size_t)h * bytes,
                                 .v = (char *)c->v.at[s] + (size_t)h * bytes,
                                 .segments = c->segments,
                                 .stripe_segments = STRIPE_SEGMENTS,
                                 .shards = SHARDS,
                                 .phase = PHASE};
            if (v->type != RADAR_FP8) continue;
            v->key_scale = (float *)c->key_scale.at[s] + (size_t)h * tokens;
            v->value_scale = (float *)c->value_scale.at[s] + (size_t)h * tokens;
        }
    }
}

static void append(cache_twin *c, uint64_t stream) {
    const int n = c->segments * RADAR_SEGMENT;
    const size_t row = (size_t)c->heads * (size_t)c->D;
    const twin k = twin_random((size_t)n * row, stream),
               v = twin_random((size_t)n * row, stream + 1);
    int32_t *slot = malloc((size_t)n * sizeof *slot);
    for (int i = 0; i < n; i++) slot[i] = i;
    ON_BOTH(s) {
        side[s]->ops->append(side[s], c->view[s], c->heads, slot, k.at[s], v.at[s], row, n);
        side[s]->ops->wait(side[s], NULL);
    }
    free(slot);
}

static float from_e4m3(uint8_t b) {
    const int e = b >> 3 & 15, m = b & 7;
    const float size = e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);
    return b & 0x80 ? -size : size;
}

/* What the GPU has rounded, to the CPU: keys have a token every 16 numbers, values every D. */
static void widen(twin t, twin scale, const cache_twin *c, bool keys) {
    const size_t n = t.bytes / sizeof(float);
    const uint8_t *byte = read_twin(t, GPU);
    const float *by = read_twin(scale, GPU);
    float *wide = malloc(n * sizeof *wide);
    for (size_t i = 0; i < n; i++) {
        const size_t tile = (size_t)c->D * RADAR_SEGMENT, in = i % tile,
                     token =
                         i / tile * RADAR_SEGMENT + (keys ? in % RADAR_SEGMENT : in / (size_t)c->D);
        wide[i] = by[token] * from_e4m3(byte[i]);
    }
    write_twin(t, CPU, wide);
    free(wide);
}

/* How far fp8 is from what it rounds: half a step of 3 bits. */
static void expect_near(const char *name, twin t, const float *before) {
    const float *after = read_twin(t, CPU);
    double miss = 0, size = 0;
    for (size_t i = 0; i < t.bytes / sizeof *after; i++) {
        miss += ((double)after[i] - (double)before[i]) * ((double)after[i] - (double)before[i]);
        size += (double)before[i] * (double)before[i];
    }
    expect_true(name, sqrt(miss / size) <= 0x1p-4);
}

cache_twin cache_twin_of(radar_dtype type, int heads, int D, int32_t segments, uint64_t stream) {
    cache_twin c = {.heads = heads, .D = D, .segments = segments, .type = type};
    const size_t tokens = (size_t)heads * (size_t)segments * RADAR_SEGMENT,
                 bytes = tokens * (size_t)D *
                         (type == RADAR_FP8 ? sizeof(float) : radar_dtype_block_bytes(type));
    char name[96];
    c.k = twin_of(NULL, bytes), c.v = twin_of(NULL, bytes);
    c.key_scale = twin_of(NULL, tokens * sizeof(float));
    c.value_scale = twin_of(NULL, tokens * sizeof(float));
    set_views(&c);
    append(&c, stream);
    snprintf(name, sizeof name, "append %s %d x %d", radar_dtype_name(type), heads, D);
    if (type != RADAR_FP8) {
        expect_same(name, c.k, 0);
        expect_same(name, c.v, 0);
        return c;
    }
    const float *k = read_twin(c.k, CPU), *v = read_twin(c.v, CPU);
    widen(c.k, c.key_scale, &c, true);
    widen(c.v, c.value_scale, &c, false);
    expect_near(name, c.k, k);
    expect_near(name, c.v, v);
    return c;
}

void cache_twin_summaries(cache_twin *c, const radar_scorer *scorer) {
    const size_t blocks = (size_t)c->segments / RADAR_BLOCK_SEGMENTS,
                 each = blocks * scorer->block_bytes;
    c->summary = twin_of(NULL, (size_t)c->heads * each);
    c->merged = twin_of(NULL, (size_t)c->heads * each); /* all longer ones take less */
    ON_BOTH(s) {
        for (int h = 0; h < c->heads; h++) {
            c->view[s][h].summary = (char *)c->summary.at[s] + (size_t)h * each;
            c->view[s][h].merged = (char *)c->merged.at[s] + (size_t)h * each;
            c->view[s][h].block_bytes = scorer->block_bytes;
        }
    }
}
