#include "tests/unit/kv_fixture.h"

#include "kernels/attend.h"

#define MAX_QUERIES 40

typedef struct attend_case {
    radar_kv_view kv;
    int n_query, n_items;
    float *q;
    int64_t position[MAX_QUERIES];
    radar_item item[64];
    float scale;
    const float *key_weight, *value_weight;
    bool on_device; /* where the list is */
} attend_case;

/* Every other segment or so, some tokens of it; positions spread over the list. */
static attend_case make_case(radar_dtype type, int D, int n_query, int segments, uint64_t seed) {
    attend_case c = {.kv = kv_random(type, D, segments, seed, 1.5f),
                     .n_query = n_query,
                     .scale = (float)(1 / sqrt(D))};
    c.q = normals((size_t)(n_query * D), seed + 7, 1.5f);
    for (int s = 0; s < segments; s++) {
        uint64_t r = radar_random(seed, 5, (uint64_t)s);
        if (r & 1)
            c.item[c.n_items++] = (radar_item){s, r & 2 ? 0xffff : (uint32_t)(r >> 20 & 0xffff)};
    }
    for (int j = 0; j < n_query; j++)
        c.position[j] = (int64_t)(radar_random(seed, 6, (uint64_t)j) % (uint64_t)(segments * 20));
    return c;
}

static void free_case(attend_case *c) {
    kv_free(&c->kv);
    radar_free(c->q);
}

static float *run_case(const attend_case *c, const char *isa, int threads, int per_task) {
    radar_cpu cpu = cpu_with(isa, threads);
    size_t size = (size_t)RADAR_PARTIAL(c->kv.D);
    float *out = must(radar_alloc((size_t)c->n_query * size * sizeof *out));
    radar_attend_task task[MAX_QUERIES];
    device_list list;
    const radar_items items = c->on_device ? on_device(&list, c->item, c->n_items)
                                           : (radar_items){.item = c->item, .n = c->n_items};
    int n = 0;
    for (int j = 0; j < c->n_query; j += per_task)
        task[n++] =
            (radar_attend_task){.kv = c->kv,
                                .n_query = c->n_query - j < per_task ? c->n_query - j : per_task,
                                .q = c->q + j * c->kv.D,
                                .q_stride = (size_t)c->kv.D,
                                .position = c->position + j,
                                .items = items,
                                .partial = out + (size_t)j * size,
                                .partial_stride = size,
                                .key_weight = c->key_weight,
                                .value_weight = c->value_weight};
    radar_cpu_attend(&cpu.base, task, n, c->scale, c->n_query);
    return out;
}

static bool sees(const attend_case *c, int j, int item, int i) {
    return (c->item[item].tokens >> i & 1) &&
           radar_kv_position(&c->kv, c->item[item].segment) + i <= c->position[j];
}

/* {m, l, o} of query j in double. */
static void reference(const attend_case *c, int j, double *m, double *l, double *o) {
    *m = -INFINITY;
    *l = 0;
    memset(o, 0, (size_t)c->kv.D * sizeof *o);
    for (int pass = 0; pass < 2; pass++) {
        for (int item = 0; item < c->n_items; item++) {
            for (int i = 0; i < 16; i++) {
                if (!sees(c, j, item, i)) continue;
                int slot = c->item[item].segment * 16 + i;
                double s = logit_ref(&c->kv, c->q + j * c->kv.D, slot);
                if (pass == 0) {
                    *m = fmax(*m, s);
                    continue;
                }
                double u = c->key_weight ? c->key_weight[slot] : 1,
                       w = c->value_weight ? c->value_weight[slot] : 1;
                *l += u * exp(s - *m);
                for (int d = 0; d < c->kv.D; d++)
                    o[d] += w * exp(s - *m) * value_at(&c->kv, slot, d);
            }
        }
    }
}

/* Largest of |m error|, |l error| / l and |o / l error| over all queries. */
static double worst_error(const attend_case *c, const float *out) {
    double worst = 0, m, l, o[256];
    for (int j = 0; j < c->n_query; j++) {
        const float *p = out + (size_t)j * (size_t)RADAR_PARTIAL(c->kv.D);
        reference(c, j, &m, &l, o);
        assert_true(p[RADAR_PARTIAL_MISSED_M(c->kv.D)] == -INFINITY &&
                    p[RADAR_PARTIAL_MISSED_L(c->kv.D)] == 0);
        if (l == 0) {
            assert_true(p[RADAR_PARTIAL_M] == -INFINITY && p[RADAR_PARTIAL_L] == 0);
            for (int d = 0; d < c->kv.D; d++) assert_true(p[RADAR_PARTIAL_O + d] == 0);
            continue;
        }
        double e[2] = {fabs(p[RADAR_PARTIAL_M] - m), fabs(p[RADAR_PARTIAL_L] - l) / l};
        for (int i = 0; i < 2; i++) worst = !(e[i] <= worst) ? e[i] : worst;
        for (int d = 0; d < c->kv.D; d++) {
            double x = fabs((double)p[RADAR_PARTIAL_O + d] / (double)p[RADAR_PARTIAL_L] - o[d] / l);
            worst = !(x <= worst) ? x : worst;
        }
    }
    return worst;
}

/* Largest error of m, and of l and o against the largest sum that their terms could give. */
static double worst_weighted_error(const attend_case *c, const float *out) {
    double worst = 0, m, l, o[256];
    for (int j = 0; j < c->n_query; j++) {
        const float *p = out + (size_t)j * (size_t)RADAR_PARTIAL(c->kv.D);
        reference(c, j, &m, &l, o);
        if (m == -INFINITY) continue;
        double most = 0;
        for (int d = 0; d < c->kv.D; d++) most = fmax(most, fabs(o[d]));
        worst = worse(worst, fabs(p[RADAR_PARTIAL_M] - m));
        worst = worse(worst, fabs(p[RADAR_PARTIAL_L] - l) / fmax(l, 1e-9));
        for (int d = 0; d < c->kv.D; d++)
            worst = worse(worst, fabs(p[RADAR_PARTIAL_O + d] - o[d]) / fmax(most, 1e-9));
    }
    return worst;
}

static void agrees_with_softmax_in_double(void **state) {
    (void)state;
    double worst = 0;
    for (int t = 0; t < COUNT(all_types); t++) {
        for (int d = 0; d < COUNT(all_D); d++) {
            for (int isa = 0; isa < 2; isa++) {
                if (isa && !has_avx512()) continue;
                attend_case c = make_case(all_types[t], all_D[d], 13, 24, (uint64_t)(100 * t + d));
                float *out = run_case(&c, isa ? "avx512" : "plain", 1, 13);
                double e = worst_error(&c, out);
                if (!(e <= 5e-6))
                    fail_msg("type %d D %d isa %d: error %g", all_types[t], all_D[d], isa, e);
                worst = fmax(worst, e);
                radar_free(out);
                free_case(&c);
            }
        }
    }
    print_message("worst error of m, l and o / l: %.2g\n", worst);
}

/* Weights of the slots of 24 segments: a third 0, the others from 1e-3 to 1e3. */
static float *some_weights(uint64_t seed) {
    float *w = must(radar_alloc(24 * 16 * sizeof *w));
    for (int i = 0; i < 24 * 16; i++) {
        double u = radar_random_uniform(seed, 8, (uint64_t)i);
        w[i] = u < 1.0 / 3 ? 0 : (float)pow(10, 9 * u - 6);
    }
    return w;
}

/* Each side alone and both: sums with weights in double; and both instruction sets and every cut into tasks give one answer. */
static void weights_count_tokens_on_their_side(void **state) {
    (void)state;
    double worst = 0;
    for (int t = 0; t < COUNT(all_types); t++) {
        for (int sides = 1; sides < 4; sides++) {
            attend_case c = make_case(all_types[t], t == 1 ? 64 : 96, 21, 24, (uint64_t)(50 + t));
            float *u = some_weights(1), *w = some_weights(2);
            if (sides & 1) c.key_weight = u;
            if (sides & 2) c.value_weight = w;
            float *plain = run_case(&c, "plain", 1, 21);
            worst = worse(worst, worst_weighted_error(&c, plain));
            for (int per = 1; per <= 21 && has_avx512(); per += 4) {
                float *vector = run_case(&c, "avx512", 2, per);
                assert_memory_equal(plain, vector,
                                    21 * (size_t)RADAR_PARTIAL(c.kv.D) * sizeof *plain);
                radar_free(vector);
            }
            radar_free(plain), radar_free(u), radar_free(w);
            free_case(&c);
        }
    }
    print_message("worst error of m, l and o with weights: %.2g\n", worst);
    assert_true(worst <= 5e-6);
}

static void weights_of_one_change_no_bit(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    for (int i = 0; i < 2; i++) {
        attend_case c = make_case(RADAR_F16, 64, 9, 24, 60);
        float one[24 * 16], *without = run_case(&c, isa[i], 1, 9);
        for (int j = 0; j < 24 * 16; j++) one[j] = 1;
        c.key_weight = c.value_weight = one;
        float *with = run_case(&c, isa[i], 1, 9);
        assert_memory_equal(with, without, 9 * (size_t)RADAR_PARTIAL(64) * sizeof *with);
        radar_free(with), radar_free(without);
        free_case(&c);
    }
}

static void plain_and_avx512_give_the_same_bits(void **state) {
    (void)state;
    if (!has_avx512()) skip();
    for (int t = 0; t < COUNT(all_types); t++) {
        for (int d = 0; d < COUNT(all_D); d++) {
            attend_case c = make_case(all_types[t], all_D[d], 11, 20, (uint64_t)(7 * t + d));
            float *a = run_case(&c, "plain", 1, 11), *b = run_case(&c, "avx512", 1, 11);
            assert_memory_equal(a, b, 11 * (size_t)RADAR_PARTIAL(all_D[d]) * sizeof *a);
            radar_free(a);
            radar_free(b);
            free_case(&c);
        }
    }
}

/* The C twin compiled for AVX2 and F16C, with its own e^x. */
static void avx2_gives_the_bits_of_plain(void **state) {
    (void)state;
    const radar_isa best = cpu_with(NULL, 1).isa;
    if (!best.avx2) return;
    for (int t = 0; t < COUNT(all_types); t++) {
        for (int d = 0; d < COUNT(all_D); d++) {
            attend_case c =
                make_case(all_types[t], all_D[d], 13, 24, (uint64_t)(900 + 100 * t + d));
            size_t size = (size_t)RADAR_PARTIAL(all_D[d]);
            float *want = run_case(&c, "plain", 1, 13), *got = normals(13 * size, 1, 1);
            radar_cpu cpu = cpu_with("plain", 1);
            cpu.isa.avx2 = true;
            radar_attend_task task = {.kv = c.kv,
                                      .n_query = 13,
                                      .q = c.q,
                                      .q_stride = (size_t)c.kv.D,
                                      .position = c.position,
                                      .items = {.item = c.item, .n = c.n_items},
                                      .partial = got,
                                      .partial_stride = size};
            radar_cpu_attend(&cpu.base, &task, 1, c.scale, 13);
            assert_memory_equal(want, got, 13 * size * sizeof *got);
            radar_free(want), radar_free(got);
            free_case(&c);
        }
    }
}

static void bits_do_not_depend_on_neighbours_or_threads(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    const int D[] = {64, 80, 256};
    for (int i = 0; i < 2; i++) {
        for (int t = 0; t < COUNT(all_types); t++) {
            for (int d = 0; d < COUNT(D); d++) {
                attend_case c =
                    make_case(all_types[t], D[d], MAX_QUERIES, 16, (uint64_t)(3 * t + d));
                for (int j = 0; j < MAX_QUERIES; j++)
                    c.position[j] = j * 7; /* the diagonal goes through every segment */
                float *one = run_case(&c, isa[i], 1, 1);
                for (int per = 2; per <= MAX_QUERIES; per += per < 6 ? 1 : 17) {
                    float *many = run_case(&c, isa[i], per % 3 + 1, per);
                    assert_memory_equal(one, many,
                                        MAX_QUERIES * (size_t)RADAR_PARTIAL(D[d]) * sizeof *one);
                    radar_free(many);
                }
                radar_free(one);
                free_case(&c);
            }
        }
    }
}

/* Slots that nobody may look at hold NaN. */
static void masked_tokens_are_never_touched(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    for (int i = 0; i < 2; i++) {
        for (int t = 0; t < COUNT(all_types); t++) {
            attend_case c = make_case(all_types[t], 96, 9, 8, 4);
            float poison[96];
            int32_t slot[8 * 16];
            int n = 0;
            c.n_items = 8;
            for (int s = 0; s < 8; s++) c.item[s] = (radar_item){s, s == 5 ? 0 : 0x7ffe};
            for (int j = 0; j < 9; j++) c.position[j] = 70 + (j % 3);
            for (int s = 0; s < 8; s++)
                for (int k = 0; k < 16; k++)
                    if (!(c.item[s].tokens >> k & 1) || s * 16 + k > 72) slot[n++] = s * 16 + k;
            for (int d = 0; d < 96; d++) poison[d] = NAN;
            radar_cpu cpu = cpu_with(isa[i], 1);
            radar_cpu_append(&cpu.base, &c.kv, 1, slot, poison, poison, 0, n);
            for (int j = 0; j < 9; j += 3) c.position[j] = 72;
            float *out = run_case(&c, isa[i], 1, 9);
            double e = worst_error(&c, out);
            assert_true(e <= 5e-6);
            radar_free(out);
            free_case(&c);
        }
    }
}

static void no_key_gives_the_identity(void **state) {
    (void)state;
    attend_case c = make_case(RADAR_F16, 64, 5, 8, 1);
    c.n_items = 0;
    float *out = run_case(&c, NULL, 2, 2);
    assert_true(worst_error(&c, out) == 0);
    radar_free(out);
    c.n_items = 8;
    for (int s = 0; s < 8; s++) c.item[s] = (radar_item){s, 0xffff};
    for (int j = 0; j < 5; j++) c.position[j] = -1; /* all of it lies in the future */
    out = run_case(&c, NULL, 2, 5);
    assert_true(worst_error(&c, out) == 0);
    radar_free(out);
    free_case(&c);
}

static void one_key_gives_its_value(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    for (int i = 0; i < 2; i++) {
        attend_case c = make_case(RADAR_F32, 64, 6, 4, 2);
        c.n_items = 1;
        c.item[0] = (radar_item){2, 1u << 5};
        for (int j = 0; j < 6; j++) c.position[j] = 37;
        float *out = run_case(&c, isa[i], 1, 6);
        for (int j = 0; j < 6; j++) {
            float *p = out + (size_t)j * RADAR_PARTIAL(64);
            assert_true(p[RADAR_PARTIAL_L] == 1);
            assert_true(fabs(p[RADAR_PARTIAL_M] - logit_ref(&c.kv, c.q + j * 64, 37)) <= 2e-6);
            for (int d = 0; d < 64; d++)
                assert_true(p[RADAR_PARTIAL_O + d] == (float)value_at(&c.kv, 37, d));
        }
        radar_free(out);
        free_case(&c);
    }
}

static void huge_and_tiny_logits_stay_finite(void **state) {
    (void)state;
    const float scales[] = {1e-30f, 1e-3f, 1e3f, 1e15f};
    const char *isa[] = {"plain", NULL};
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < COUNT(scales); k++) {
            attend_case c = make_case(RADAR_F32, 64, 5, 8, 3);
            for (int j = 0; j < 5 * 64; j++) c.q[j] *= scales[k];
            for (int j = 0; j < 5; j++) c.position[j] = 1000;
            float *out = run_case(&c, isa[i], 1, 5);
            for (int j = 0; j < 5; j++) {
                double m, l, o[64];
                float *p = out + (size_t)j * RADAR_PARTIAL(64);
                reference(&c, j, &m, &l, o);
                assert_true(fabs(p[RADAR_PARTIAL_M] - m) <= 1e-6 * fmax(fabs(m), 1));
                /* one key leads by far, or all weigh the same */
                for (int d = 0; d < 64; d++)
                    assert_true(fabs((double)p[RADAR_PARTIAL_O + d] / (double)p[RADAR_PARTIAL_L] -
                                     o[d] / l) <= 2e-3);
            }
            radar_free(out);
            free_case(&c);
        }
    }
}

static void lists_of_the_device_give_the_bits_of_the_hosts(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    for (int i = 0; i < 2; i++)
        for (int n = 0; n < 24; n += 7) {
            attend_case c = make_case(RADAR_F16, 64, 13, 40, 70);
            c.n_items = n < c.n_items ? n : c.n_items;
            float *host = run_case(&c, isa[i], 1, 5);
            c.on_device = true;
            float *device = run_case(&c, isa[i], 2, 5);
            assert_memory_equal(host, device, 13 * (size_t)RADAR_PARTIAL(64) * sizeof *host);
            radar_free(host), radar_free(device);
            free_case(&c);
        }
}

/* Positions of a shard's segments follow its stripes. */
static void causality_follows_the_stripes_of_a_shard(void **state) {
    (void)state;
    attend_case c = make_case(RADAR_F16, 32, 8, 40, 9);
    c.kv.stripe_segments = 4;
    c.kv.shards = 3;
    c.kv.phase = 1;
    for (int j = 0; j < 8; j++) c.position[j] = 64 + 16 * j + j * 97;
    float *out = run_case(&c, NULL, 1, 8);
    assert_true(worst_error(&c, out) <= 5e-6);
    radar_free(out);
    free_case(&c);
}

static void appending_one_by_one_equals_appending_many(void **state) {
    (void)state;
    for (int t = 0; t < COUNT(all_types); t++) {
        for (int d = 0; d < COUNT(all_D); d++) {
            int D = all_D[d], n = 100;
            size_t bytes = kv_bytes(all_types[t], D, 8);
            float *k = normals((size_t)(n * D), 1, 3), *v = normals((size_t)(n * D), 2, 3);
            radar_kv_view many = kv_empty(all_types[t], D, 8),
                          single = kv_empty(all_types[t], D, 8);
            radar_cpu plain = cpu_with("plain", 1), best = cpu_with(NULL, 3);
            int32_t slot[100];
            k[0] = NAN;
            k[1] = 1e30f; /* beyond f16 */
            v[0] = 1e-41f;
            v[1] = -INFINITY;
            for (int i = 0; i < n; i++) slot[i] = i + 7;
            radar_cpu_append(&best.base, &many, 1, slot, k, v, (size_t)D, n);
            for (int i = 0; i < n; i++)
                radar_cpu_append(&plain.base, &single, 1, slot + i, k + i * D, v + i * D, (size_t)D,
                                 1);
            if (all_types[t] == RADAR_F16) { /* which NaN is the machine's choice */
                ((uint16_t *)many.k)[7] = ((uint16_t *)single.k)[7] = 0;
            }
            assert_memory_equal(many.k, single.k, bytes);
            assert_memory_equal(many.v, single.v, bytes);
            radar_free(k);
            radar_free(v);
            kv_free(&many);
            kv_free(&single);
        }
    }
}

/* ---- golden: dense attention of SmolLM2 at three positions ---- */

static double golden_layer(int layer, const char *isa, double *worst_lse) {
    char name[64];
    const int positions[] = {100, 311, 511};
    double worst = 0;
    float *file[2], *q;
    snprintf(name, sizeof name, "attn-L%02d-q.f32", layer);
    q = golden(name, sizeof(float) * 3 * 9 * 64);
    snprintf(name, sizeof name, "attn-L%02d-out.f64", layer);
    double *want = golden(name, sizeof(double) * 3 * 9 * 64);
    snprintf(name, sizeof name, "attn-L%02d-lse.f64", layer);
    double *lse = golden(name, sizeof(double) * 3 * 9);
    for (int f = 0; f < 2; f++) {
        snprintf(name, sizeof name, "attn-L%02d-%c.f16", layer, f ? 'v' : 'k');
        uint16_t *h = golden(name, 512 * 3 * 64 * 2);
        file[f] = must(radar_alloc(sizeof(float) * 512 * 3 * 64));
        for (int i = 0; i < 512 * 3 * 64; i++) file[f][i] = radar_f16_to_f32(h[i]);
        radar_free(h);
    }
    for (int g = 0; g < 3; g++) {
        attend_case c = {
            .kv = kv_empty(RADAR_F16, 64, 32), .n_query = 9, .n_items = 32, .scale = 0.125f};
        kv_put(&c.kv, file[0] + g * 64, file[1] + g * 64, 3 * 64, 512);
        c.q = must(radar_alloc(sizeof(float) * 9 * 64));
        for (int s = 0; s < 32; s++) c.item[s] = (radar_item){s, 0xffff};
        for (int j = 0; j < 9; j++) {
            memcpy(c.q + j * 64, q + ((j / 3) * 9 + g * 3 + j % 3) * 64, 64 * sizeof *q);
            c.position[j] = positions[j / 3];
        }
        float *out = run_case(&c, isa, 1, 9);
        for (int j = 0; j < 9; j++) {
            int at = (j / 3) * 9 + g * 3 + j % 3;
            const float *p = out + (size_t)j * RADAR_PARTIAL(64);
            double e = fabs(p[RADAR_PARTIAL_M] + log(p[RADAR_PARTIAL_L]) - lse[at]);
            *worst_lse = !(e <= *worst_lse) ? e : *worst_lse;
            for (int d = 0; d < 64; d++) {
                e = fabs(p[RADAR_PARTIAL_O + d] / p[RADAR_PARTIAL_L] - want[at * 64 + d]);
                worst = !(e <= worst) ? e : worst;
            }
        }
        radar_free(out);
        free_case(&c);
    }
    radar_free(q), radar_free(want), radar_free(lse), radar_free(file[0]), radar_free(file[1]);
    return worst;
}

static void matches_a_real_models_dense_attention(void **state) {
    (void)state;
    const int layers[] = {0, 5, 15, 29};
    const char *isa[] = {"plain", NULL};
    for (int i = 0; i < 2; i++) {
        for (int l = 0; l < COUNT(layers); l++) {
            double lse = 0, e = golden_layer(layers[l], isa[i], &lse);
            print_message("layer %d: output within %.2g, logsumexp within %.2g\n", layers[l], e,
                          lse);
            assert_true(e <= 1e-5);
            assert_true(lse <= 1e-4);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_softmax_in_double),
        cmocka_unit_test(weights_count_tokens_on_their_side),
        cmocka_unit_test(weights_of_one_change_no_bit),
        cmocka_unit_test(plain_and_avx512_give_the_same_bits),
        cmocka_unit_test(avx2_gives_the_bits_of_plain),
        cmocka_unit_test(bits_do_not_depend_on_neighbours_or_threads),
        cmocka_unit_test(masked_tokens_are_never_touched),
        cmocka_unit_test(no_key_gives_the_identity),
        cmocka_unit_test(one_key_gives_its_value),
        cmocka_unit_test(huge_and_tiny_logits_stay_finite),
        cmocka_unit_test(lists_of_the_device_give_the_bits_of_the_hosts),
        cmocka_unit_test(causality_follows_the_stripes_of_a_shard),
        cmocka_unit_test(appending_one_by_one_equals_appending_many),
        cmocka_unit_test(matches_a_real_models_dense_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
