/* The sketch at 1, 2 and 4 bits: sealing and scanning against the formulas of sketch.h in double, its error, its edges. */
#include "tests/unit/scorer_fixture.h"

#include "kernels/cpu/sketch.h"

enum { SEED = 11 };
static const int all_bits[] = {1, 2, 4};

static radar_scorer_options bits_of(int D, int bits) {
    return (radar_scorer_options){.D = D, .seed = SEED, .sketch_bits = bits};
}

/* ---- a block as sketch.h lays it out ---- */

typedef struct layout {
    int bits, D, Dp;
    const char *block;
} layout;

static layout layout_at(const radar_kv_view *kv, int bits, int slot) {
    int pad = bits == 1 ? 32 : 16;
    return (layout){bits, kv->D, (kv->D + pad - 1) / pad * pad,
                    (const char *)kv->summary + (size_t)(slot / 64) * kv->block_bytes};
}

static size_t layout_bytes(const layout *b) { return (size_t)((8 * b->bits + 1) * b->Dp + 72); }

/* Dwords a token before the steps. */
static int words(const layout *b) { return (b->bits * b->Dp / (b->bits == 2 ? 2 : 1) + 31) / 32; }

static int bit_at(const layout *b, size_t offset, int per_token, int slot, int d, int shift) {
    uint32_t word;
    size_t at = (size_t)((slot % 64 / 16 * per_token + d) * 16 + slot % 16);
    memcpy(&word, b->block + offset + at * sizeof word, sizeof word);
    return (int)(word >> shift) & ((1 << (b->bits == 2 ? 1 : b->bits)) - 1);
}

static double level_at(const layout *b, int slot, int d) {
    int dims = b->bits == 4 ? 8 : 32, wide = b->bits == 4 ? 4 : 1;
    int shift = 8 * (d % 4) + wide * (d % dims / 4);
    int code = bit_at(b, 0, words(b), slot, d / dims, shift);
    if (b->bits == 2) { /* the lower plane, or the free half of the last dword of the upper one */
        size_t low = (size_t)(256 * words(b) + 64 + b->Dp + 8);
        code = 2 * code + (d / 32 < b->Dp / 32 ? bit_at(b, low, b->Dp / 32, slot, d / 32, shift)
                                               : bit_at(b, 0, words(b), slot, d / 32, shift + 4));
    }
    return code - ((1 << b->bits) - 1) / 2.0;
}

/* Where the steps begin. */
static int steps_at(const layout *b) { return 256 * words(b); }

static double float_at(const layout *b, int i) {
    float f;
    memcpy(&f, b->block + steps_at(b) + 64 + b->Dp + 4 * i, sizeof f);
    return f;
}

static double step_at(const layout *b, int slot) {
    int code = (uint8_t)b->block[steps_at(b) + slot % 64];
    return code ? exp2((code - 255) / 16.0) * float_at(b, 1) : 0;
}

static double mu_at(const layout *b, int d) {
    return ((const int8_t *)b->block)[steps_at(b) + 64 + d] * float_at(b, 0);
}

/* H u by its definition: entry (i, j) of a part is (-1)^(bits that i and j share). */
static void hadamard_ref(double *out, const double *u, int D) {
    for (int begin = 0, size = 256; begin < D; size /= 2) {
        if (size > D - begin) continue;
        for (int i = 0; i < size; i++) out[begin + i] = 0;
        for (int j = begin; j < begin + size; j++) {
            int flip = (int)(radar_random(SEED, RADAR_STREAM_SIGNS, (uint64_t)j) & 1);
            for (int i = 0; i < size; i++)
                out[begin + i] += (flip ^ __builtin_parity((unsigned)(i & (j - begin))) ? -1 : 1) *
                                  u[j] / sqrt(size);
        }
        begin += size;
    }
}

/* ---- sealing ---- */

/* The level of b bits next to z, and how far z is from where another would be, in steps. */
static double level_ref(double z, double step, int bits, double *margin) {
    double last = (1 << bits) / 2 - 1, u = z / step, middle = fmax(-last, fmin(nearbyint(u), last));
    *margin = fabs(u - middle);
    return fmax(-last - 0.5, fmin(floor(u) + 0.5, last + 0.5));
}

/* The candidate of least squared error; NAN where two come too close to tell. */
static double candidate_ref(const double *z, int D, int bits) {
    const double shrink[] = {1, 0.8, 0.65, 0.5};
    double max = 0, best = INFINITY, second = INFINITY, step = 0;
    if (bits == 1) return 1; /* signs need no step */
    for (int d = 0; d < D; d++) max = fmax(max, fabs(z[d]));
    for (int c = 0; c < 4; c++) {
        double s = 2 * max / (1 << bits) * shrink[c], error = 0, margin;
        for (int d = 0; d < D; d++) error += pow(z[d] - s * level_ref(z[d], s, bits, &margin), 2);
        if (error < best) {
            second = best, best = error, step = s;
        } else {
            second = fmin(second, error);
        }
    }
    return second - best > 1e-5 * best ? step : NAN;
}

typedef struct tally {
    long codes, close, tokens, ties;
    double worst_step; /* largest |log2 of stored / least squares| of a step */
} tally;

static void check_token(tally *n, const radar_kv_view *kv, int bits, int slot) {
    layout b = layout_at(kv, bits, slot);
    double u[256], z[256], dot = 0, square = 0;
    for (int d = 0; d < kv->D; d++) u[d] = key_at(kv, slot, d) - mu_at(&b, d);
    hadamard_ref(z, u, kv->D);
    double step = candidate_ref(z, kv->D, bits);
    n->tokens++;
    if (step != step) {
        n->ties++;
        return;
    }
    for (int d = 0; d < kv->D; d++) {
        double margin, level = level_ref(z[d], step, bits, &margin), got = level_at(&b, slot, d);
        n->codes++;
        if (margin < 2e-5)
            n->close++;
        else
            assert_true(got == level);
        dot += z[d] * got;
        square += got * got;
    }
    double off = fabs(log2(step_at(&b, slot) / (dot / square)));
    n->worst_step = !(off <= n->worst_step) ? off : n->worst_step;
}

static void seals_the_nearest_levels_of_the_best_step(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(all_bits); i++) {
        tally n = {0};
        for (int k = 0; k < COUNT(all_D); k++) {
            radar_kv_view kv = kv_random(RADAR_F16, all_D[k], 4, 31, 2);
            radar_scorer *s = scorer_with("sketch", bits_of(all_D[k], all_bits[i]));
            seal_all(s, &kv, 4, NULL, 1);
            layout b = layout_at(&kv, all_bits[i], 0);
            assert_int_equal(s->block_bytes, layout_bytes(&b));
            for (int slot = 0; slot < 64; slot++) check_token(&n, &kv, all_bits[i], slot);
            radar_scorer_close(s);
            kv_free(&kv);
        }
        print_message(
            "sketch, %d bits: %ld codes of %ld tokens as in double; %ld too close to tell, "
            "%ld tokens with equal candidates; steps within 2^%.4f\n",
            all_bits[i], n.codes, n.tokens, n.close, n.ties, n.worst_step);
        assert_true(n.close <= n.codes / 500 && n.ties <= n.tokens / 100);
        assert_true(n.worst_step <= 1.0 / 32 + 1e-4); /* sixteen step codes an octave, nearest */
    }
}

static void bytes_a_block_are_as_documented(void **state) {
    (void)state;
    const size_t bytes[] = {9 * 64 + 72, 17 * 64 + 72, 33 * 64 + 72};
    for (int i = 0; i < COUNT(all_bits); i++) {
        radar_scorer *s = scorer_with("sketch", bits_of(64, all_bits[i]));
        assert_int_equal(s->block_bytes, bytes[i]);
        radar_scorer_close(s);
    }
    radar_scorer *s = scorer_with("sketch", bits_of(64, 0));
    assert_int_equal(s->block_bytes, bytes[1]);
    radar_scorer_close(s);
}

static void refuses_other_numbers_of_bits(void **state) {
    (void)state;
    const int bad[] = {-1, 3, 5, 8};
    for (int i = 0; i < COUNT(bad); i++) {
        radar_scorer *s = (radar_scorer *)1;
        radar_error err = {0};
        radar_scorer_options opt = bits_of(64, bad[i]);
        assert_int_equal(radar_scorer_open(&s, "sketch", &opt, &err), RADAR_ERR_USAGE);
        assert_null(s);
        assert_non_null(strstr(err.text, "use 1, 2 or 4"));
    }
}

/* ---- scanning ---- */

/* H q as the prepared query has it: within half a unit of its largest coordinate / 127, for 2 bits / 31, read from its place. */
static double stored_query(double *hq, const radar_scorer *s, const float *q, int Dp) {
    double u[256], exact[256], max = 0, largest = s->opt.sketch_bits == 2 ? 31 : 127;
    char *prepared = must(radar_alloc(s->query_bytes));
    s->kind->query(s, prepared, q);
    for (int d = 0; d < s->opt.D; d++) u[d] = q[d];
    hadamard_ref(exact, u, s->opt.D);
    for (int d = 0; d < s->opt.D; d++) max = fmax(max, fabs(exact[d]));
    for (int d = 0; d < s->opt.D; d++) {
        hq[d] = ((const int8_t *)prepared)[32 + d] * max / largest;
        assert_true(fabs(hq[d] - exact[d]) <= max / largest * 0.501);
    }
    int Dq = (Dp + 31) / 32 * 32;
    assert_int_equal(s->query_bytes, 32 + Dq + 4 * Dp + (s->opt.sketch_bits == 2 ? 4 * Dq : 0));
    radar_free(prepared);
    return max;
}

static double sketch_logit(const radar_kv_view *kv, int bits, const float *q, const double *hq,
                           int slot, double *size) {
    layout b = layout_at(kv, bits, slot);
    double sum = 0, step = step_at(&b, slot);
    for (int d = 0; d < kv->D; d++) {
        double base = (double)q[d] * mu_at(&b, d), rest = hq[d] * step * level_at(&b, slot, d);
        sum += base + rest;
        *size += (fabs(base) + fabs(rest)) / sqrt(kv->D);
    }
    return sum / sqrt(kv->D);
}

static void scores_what_its_layout_says(void **state) {
    (void)state;
    for (int b = 0; b < COUNT(all_bits); b++) {
        double worst = 0;
        for (int k = 0; k < COUNT(all_D); k++) {
            int D = all_D[k];
            radar_kv_view kv = kv_random(RADAR_F16, D, 8, 21, 1);
            radar_scorer *s = scorer_with("sketch", bits_of(D, all_bits[b]));
            seal_all(s, &kv, 8, NULL, 2);
            float *q = normals((size_t)(2 * D), 22, 1),
                  *score = score_range(s, &kv, q, 2, 0, 8, NULL);
            for (int j = 0; j < 2; j++) {
                double hq[256];
                stored_query(hq, s, q + j * D, layout_at(&kv, all_bits[b], 0).Dp);
                for (int i = 0; i < 8; i++) {
                    double l = 0, size = 0;
                    for (int t = i * 16; t < i * 16 + 16; t++)
                        l += exp(sketch_logit(&kv, all_bits[b], q + j * D, hq, t, &size));
                    double e = fabs(score[j * 8 + i] - log(l)) / (8 + size / 16);
                    worst = !(e <= worst) ? e : worst;
                }
            }
            radar_free(q), radar_free(score);
            radar_scorer_close(s);
            kv_free(&kv);
        }
        print_message("sketch, %d bits: scan against the layout in double %.2g of the logits\n",
                      all_bits[b], worst);
        assert_true(worst <= 1e-5);
    }
}

/* ---- the upper plane alone, and lists ---- */

static float *score_coarse(const radar_scorer *s, const radar_kv_view *kv, const float *q, int n,
                           int begin, int end) {
    radar_cpu cpu = cpu_with(NULL, 2);
    char *query = must(radar_alloc((size_t)n * s->query_bytes));
    float *score = must(radar_alloc((size_t)(n * (end - begin)) * sizeof *score));
    radar_score_task t = {.kv = *kv,
                          .n_query = n,
                          .query = query,
                          .unit = 1,
                          .segment_begin = begin,
                          .segment_end = end,
                          .score = score,
                          .score_stride = (size_t)(end - begin),
                          .coarse = true};
    radar_cpu_query(&cpu.base, s, query, q, (size_t)kv->D, n);
    radar_cpu_score(&cpu.base, s, &t, 1);
    radar_free(query);
    return score;
}

/* mass.h's rough 2^y. */
static double rough_exp2(double y) {
    double below = floor(y -= log2(0.5 / (M_LN2 * M_LN2)));
    return exp2(below) * (1 + y - below);
}

/* Log-mass of a segment of which only the signs of the levels are known; exact: without the scan's rough powers of two. */
static double coarse_ref(const radar_kv_view *kv, const float *q, const double *hq, int segment,
                         double *size, double *exact) {
    double l = 0, rough = 0, centre = 0;
    for (int t = segment * 16; t < segment * 16 + 16; t++) {
        layout b = layout_at(kv, 2, t);
        double sum = 0, step = step_at(&b, t);
        centre = 0;
        for (int d = 0; d < kv->D; d++) {
            double base = (double)q[d] * mu_at(&b, d),
                   rest = 0.8 * hq[d] * step * (level_at(&b, t, d) > 0 ? 1 : -1);
            sum += rest;
            centre += base;
            *size += (fabs(base) + fabs(rest)) / sqrt(kv->D);
        }
        l += exp(sum / sqrt(kv->D));
        rough += rough_exp2(sum / sqrt(kv->D) / M_LN2);
    }
    *exact = log(l) + centre / sqrt(kv->D);
    return log(rough) + centre / sqrt(kv->D);
}

static void a_coarse_scan_knows_the_signs_of_the_levels(void **state) {
    (void)state;
    double worst = 0, roughest = 0;
    for (int k = 0; k < COUNT(all_D); k++) {
        int D = all_D[k];
        radar_kv_view kv = kv_random(RADAR_F16, D, 8, 21, 1);
        radar_scorer *s = scorer_with("sketch", bits_of(D, 2));
        radar_scorer_options plain_opt = bits_of(D, 2);
        plain_opt.isa = "plain";
        radar_scorer *plain = scorer_with("sketch", plain_opt);
        seal_all(s, &kv, 8, NULL, 2);
        float *q = normals((size_t)(3 * D), 22, 1), *score = score_coarse(s, &kv, q, 3, 1, 8),
              *twin = score_coarse(plain, &kv, q, 3, 1, 8);
        assert_memory_equal(score, twin, 3 * 7 * sizeof *score);
        bool vbmi = ((radar_sketch *)s->state)->vbmi;
        ((radar_sketch *)s->state)->vbmi = false;
        float *third = score_coarse(s, &kv, q, 3, 1, 8),
              *both = score_range(s, &kv, q, 3, 1, 8, NULL);
        assert_memory_equal(score, third, 3 * 7 * sizeof *score);
        ((radar_sketch *)s->state)->vbmi = vbmi;
        float *tables = score_range(s, &kv, q, 3, 1, 8, NULL);
        assert_memory_equal(both, tables, 3 * 7 * sizeof *score);
        radar_free(third), radar_free(both), radar_free(tables);
        ((radar_sketch *)s->state)->avx512 = false;
        float *halves = score_coarse(s, &kv, q, 3, 1, 8);
        assert_memory_equal(score, halves, 3 * 7 * sizeof *score);
        radar_free(halves);
        for (int j = 0; j < 3; j++) {
            double hq[256];
            stored_query(hq, s, q + j * D, (D + 15) / 16 * 16);
            for (int i = 1; i < 8; i++) {
                double size = 0, exact, want = coarse_ref(&kv, q + j * D, hq, i, &size, &exact);
                roughest = worse(roughest, fabs(want - exact));
                worst = worse(worst, fabs(score[j * 7 + i - 1] - want) / (8 + size / 16));
            }
        }
        assert_int_equal(s->coarse_bytes,
                         s->block_bytes - (size_t)(D / 16 * 16 + (D % 16 ? 16 : 0)) / 32 * 256);
        radar_free(q), radar_free(score), radar_free(twin);
        radar_scorer_close(s), radar_scorer_close(plain);
        kv_free(&kv);
    }
    print_message(
        "upper plane alone: scan against its formula in double %.2g, which is within %.2g "
        "of the mass\n",
        worst, roughest);
    assert_true(worst <= 1e-5);
    assert_true(roughest <= 0.045);
}

/* Steps at the lower end of the range, and logits beyond the upper one. */
static void twins_agree_where_numbers_end(void **state) {
    (void)state;
    static const int key_power[] = {-129, -126, 118, 124}, query_power[] = {123, 121, -118, -124};
    static const char *const isa[] = {NULL, "avx2"};
    for (int n = 0; n < COUNT(key_power); n++) {
        radar_kv_view kv = kv_random(RADAR_F32, 64, 256, 31, ldexpf(1, key_power[n]));
        radar_scorer_options opt = bits_of(64, 2);
        opt.isa = "plain";
        radar_scorer *plain = scorer_with("sketch", opt);
        seal_all(plain, &kv, 256, "plain", 1);
        float *q = normals(3 * 64, 32, ldexpf(1, query_power[n])),
              *want = score_range(plain, &kv, q, 3, 0, 256, "plain"),
              *coarse = score_coarse(plain, &kv, q, 3, 0, 256);
        for (int i = 0; i < COUNT(isa); i++) {
            opt.isa = isa[i];
            if (opt.isa && !has_isa(opt.isa)) continue;
            radar_scorer *s = scorer_with("sketch", opt);
            float *got = score_range(s, &kv, q, 3, 0, 256, isa[i]),
                  *rough = score_coarse(s, &kv, q, 3, 0, 256);
            for (int k = 0; k < 3 * 256; k++) {
                assert_true(got[k] == want[k] || (isnan(got[k]) && isnan(want[k])));
                assert_true(rough[k] == coarse[k] || (isnan(rough[k]) && isnan(coarse[k])));
            }
            radar_free(got), radar_free(rough);
            radar_scorer_close(s);
        }
        radar_free(q), radar_free(want), radar_free(coarse);
        radar_scorer_close(plain);
        kv_free(&kv);
    }
}

static void a_list_scores_as_its_range_does(void **state) {
    (void)state;
    const int32_t list[] = {9, 0, 3, 3, 11, 7, 6};
    const char *const names[] = {"sketch", "exact"}, *const isa[] = {NULL, "plain", "avx2"};
    for (int n = 0; n < 6 * COUNT(all_D); n++) {
        radar_scorer_options opt = bits_of(all_D[n / 6], 2);
        opt.isa = isa[n % 3];
        if (opt.isa && !has_isa(opt.isa)) continue;
        radar_kv_view kv = kv_random(RADAR_F16, opt.D, 12, 5, 1);
        radar_scorer *s = scorer_with(names[n / 3 % 2], opt);
        radar_cpu cpu = cpu_with(NULL, 1);
        seal_all(s, &kv, 12, NULL, 1);
        float *q = normals((size_t)(2 * opt.D), 8, 1),
              *all = score_range(s, &kv, q, 2, 0, 12, NULL), got[2 * 12];
        char *query = must(radar_alloc(2 * s->query_bytes));
        radar_score_task t = {.kv = kv,
                              .n_query = 2,
                              .query = query,
                              .unit = 1,
                              .segment_end = 12,
                              .score = got,
                              .score_stride = 12,
                              .list = list,
                              .n_listed = &(int32_t){COUNT(list)}};
        radar_cpu_query(&cpu.base, s, query, q, (size_t)opt.D, 2);
        radar_cpu_score(&cpu.base, s, &t, 1);
        for (int i = 0; i < 2 * COUNT(list); i++)
            assert_memory_equal(radar_score_of(&t, i / COUNT(list), list[i % COUNT(list)]),
                                &all[i / COUNT(list) * 12 + list[i % COUNT(list)]], sizeof *got);
        radar_free(q), radar_free(all), radar_free(query);
        radar_scorer_close(s);
        kv_free(&kv);
    }
}

/* Coordinates of a real head after the rotation: what a sign stands for by least squares. */
static void an_upper_bit_stands_for_its_least_squares_level(void **state) {
    (void)state;
    real r = load_real();
    radar_scorer *s = scorer_with("sketch", bits_of(64, 2));
    double dot = 0, square = 0;
    for (int g = 0; g < 3; g++) {
        radar_kv_view kv = r.kv[g];
        seal_all(s, &kv, REAL_SEGMENTS, NULL, 2);
        for (int t = 0; t < REAL_TOKENS; t++) {
            layout b = layout_at(&kv, 2, t);
            double u[256], z[256], step = step_at(&b, t);
            for (int d = 0; d < 64; d++) u[d] = key_at(&kv, t, d) - mu_at(&b, d);
            hadamard_ref(z, u, 64);
            for (int d = 0; d < 64; d++) {
                dot += z[d] * step * (level_at(&b, t, d) > 0 ? 1 : -1);
                square += step * step;
            }
        }
        radar_free(kv.summary);
    }
    print_message("real head: an upper bit stands for +-%.3f steps\n", dot / square);
    assert_true(fabs(dot / square - 0.8) <= 0.04);
    radar_scorer_close(s);
    free_real(&r);
}

static int best_numbers(uint32_t *out, const float *score, const uint32_t *number, int n,
                        int keep) {
    uint64_t key[REAL_SEGMENTS];
    for (int i = 0; i < n; i++) key[i] = radar_topk_key(score[i], number[i]);
    int m = radar_topk_select(key, n, keep);
    for (int i = 0; i < m; i++) out[i] = radar_topk_segment(key[i]);
    return m;
}

/* One ranking over the real head: the best 32 by the upper plane, of these the best 8 by both, and the best 4 by their keys. */
static void three_stages_find_the_best_segments_of_a_real_head(void **state) {
    (void)state;
    real r = load_real();
    radar_scorer *s = scorer_with("sketch", bits_of(64, 2)),
                 *exact = scorer_with("exact", bits_of(64, 2));
    int hits = 0, all = 0;
    for (int g = 0; g < 3; g++) {
        radar_kv_view kv = r.kv[g];
        seal_all(s, &kv, REAL_SEGMENTS, NULL, 2);
        for (int j = 0; j < REAL_QUERIES * 3; j++) {
            const float *q = real_query(&r, g, j);
            float *coarse = score_coarse(s, &kv, q, 1, 1, REAL_SEGMENTS),
                  *both = score_range(s, &kv, q, 1, 1, REAL_SEGMENTS, NULL),
                  *mass = score_range(exact, &kv, q, 1, 1, REAL_SEGMENTS, NULL), left[32];
            uint32_t id[REAL_SEGMENTS], first[32], second[8], found[4], best[4];
            for (uint32_t i = 0; i < REAL_SEGMENTS - 1; i++) id[i] = i;
            best_numbers(best, mass, id, REAL_SEGMENTS - 1, 4);
            best_numbers(first, coarse, id, REAL_SEGMENTS - 1, 32);
            for (int i = 0; i < 32; i++) left[i] = both[first[i]];
            best_numbers(second, left, first, 32, 8);
            for (int i = 0; i < 8; i++) left[i] = mass[second[i]];
            best_numbers(found, left, second, 8, 4);
            for (int i = 0; i < 16; i++) hits += found[i / 4] == best[i % 4];
            all += 4;
            radar_free(coarse), radar_free(both), radar_free(mass);
        }
        radar_free(kv.summary);
    }
    print_message("three stages: %.3f of the exact best 4 of 79 segments\n", (double)hits / all);
    assert_true(hits >= 0.97 * all);
    radar_scorer_close(s), radar_scorer_close(exact);
    free_real(&r);
}

static void bits_of_scores_do_not_depend_on_isa_neighbours_threads_or_range(void **state) {
    (void)state;
    for (int b = 0; b < COUNT(all_bits); b++)
        for (int k = 0; k < COUNT(all_D); k++)
            for (int i = 0; i < 2; i++)
                if (i == 0 || has_isa("avx2"))
                    check_twin(i ? "avx2" : NULL, "sketch", all_types[k % 3],
                               bits_of(all_D[k], all_bits[b]));
}

/* ---- edges ---- */

static void equal_keys_are_exact_up_to_the_mean(void **state) {
    (void)state;
    const float scales[] = {0, 1e-4f, 1, 3000};
    for (int n = 0; n < COUNT(all_bits) * COUNT(scales); n++) {
        int bits = all_bits[n / COUNT(scales)];
        float scale = scales[n % COUNT(scales)];
        radar_kv_view kv = kv_empty(RADAR_F32, 96, 4);
        float *key = normals(96, 1, scale), *q = normals(96, 2, 1);
        kv_put(&kv, key, key, 0, 64);
        radar_scorer *s = scorer_with("sketch", bits_of(96, bits));
        seal_all(s, &kv, 4, NULL, 1);
        float *score = score_range(s, &kv, q, 1, 0, 4, NULL);
        double size = 0;
        for (int d = 0; d < 96; d++) size = fmax(size, fabs(key[d]));
        for (int i = 0; i < 4; i++)
            assert_true(fabs(score[i] - lse_ref(&kv, q, i, 1)) <= 1e-4 + size * 0.01);
        radar_free(key), radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
}

/* Logits of hundreds: sums that no float holds without their maximum. */
static void huge_logits_keep_their_scores(void **state) {
    (void)state;
    const float sizes[] = {10, 100, 1000};
    for (int n = 0; n < COUNT(all_bits) * COUNT(sizes); n++) {
        int bits = all_bits[n / COUNT(sizes)];
        radar_kv_view kv = kv_random(RADAR_F32, 64, 4, 9, sizes[n % COUNT(sizes)]);
        radar_scorer *s = scorer_with("sketch", bits_of(64, bits));
        radar_scorer_options opt = bits_of(64, bits);
        opt.isa = "plain";
        radar_scorer *plain = scorer_with("sketch", opt);
        seal_all(s, &kv, 4, NULL, 1);
        float *q = normals(128, 10, 10), *score = score_range(s, &kv, q, 2, 0, 4, NULL),
              *twin = score_range(plain, &kv, q, 2, 0, 4, NULL);
        assert_memory_equal(score, twin, 8 * sizeof *score);
        ((radar_sketch *)s->state)->avx512 = false;
        float *third = score_range(s, &kv, q, 2, 0, 4, NULL);
        assert_memory_equal(score, third, 8 * sizeof *score);
        radar_free(third);
        for (int i = 0; i < 8; i++) {
            double hq[256], logit[16], m = -INFINITY, l = 0, size = 0;
            stored_query(hq, s, q + i / 4 * 64, layout_at(&kv, bits, 0).Dp);
            for (int t = 0; t < 16; t++) {
                logit[t] = sketch_logit(&kv, bits, q + i / 4 * 64, hq, i % 4 * 16 + t, &size);
                m = fmax(m, logit[t]);
            }
            for (int t = 0; t < 16; t++) l += exp(logit[t] - m);
            assert_true(fabs(score[i] - (m + log(l))) <= 1e-4 + 1e-6 * size);
        }
        radar_free(q), radar_free(score), radar_free(twin);
        radar_scorer_close(s), radar_scorer_close(plain);
        kv_free(&kv);
    }
}

static void keys_that_are_not_finite_harm_only_their_block(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int n = 0; n < COUNT(all_bits) * COUNT(bad); n++) {
        int bits = all_bits[n / COUNT(bad)];
        radar_kv_view kv = kv_random(RADAR_F32, 64, 8, 2, 1), other = kv;
        ((float *)kv.k)[5 * 16 + 3] = bad[n % COUNT(bad)]; /* token 3, dimension 5 */
        radar_scorer_options opt = bits_of(64, bits);
        radar_scorer *fast = scorer_with("sketch", opt);
        opt.isa = "plain";
        radar_scorer *plain = scorer_with("sketch", opt);
        seal_all(fast, &kv, 8, NULL, 1);
        seal_all(plain, &other, 8, "plain", 1);
        assert_memory_equal(kv.summary, other.summary, 2 * fast->block_bytes);
        float *q = normals(64, 3, 1), *score = score_range(fast, &kv, q, 1, 0, 8, NULL);
        for (int j = 4; j < 8; j++) assert_true(isfinite(score[j]));
        ((radar_sketch *)fast->state)->avx512 = false;
        float *twin = score_range(fast, &kv, q, 1, 0, 8, NULL);
        assert_memory_equal(score + 4, twin + 4, 4 * sizeof *score);
        radar_free(q), radar_free(score), radar_free(twin), radar_free(other.summary);
        radar_scorer_close(fast), radar_scorer_close(plain);
        kv_free(&kv);
    }
}

/* ---- error ---- */

/* Root mean square error of a logit, exact H q, in units of |q| |k - mu| 2^-bits / D. */
static double logit_error(const radar_kv_view *kv, int bits, const float *q, int tokens,
                          double *bias) {
    double u[256], hq[256], nq = 0, square = 0;
    *bias = 0;
    for (int d = 0; d < kv->D; d++) {
        u[d] = q[d];
        nq += u[d] * u[d];
    }
    hadamard_ref(hq, u, kv->D);
    for (int t = 0; t < tokens; t++) {
        layout b = layout_at(kv, bits, t);
        double nk = 0, size = 0;
        for (int d = 0; d < kv->D; d++) nk += pow(key_at(kv, t, d) - mu_at(&b, d), 2);
        double e = (sketch_logit(kv, bits, q, hq, t, &size) - logit_ref(kv, q, t)) /
                   (sqrt(nq * nk) * exp2(-bits) / kv->D);
        square += e * e / tokens;
        *bias += e / tokens;
    }
    return sqrt(square);
}

/* Normal coordinates through the best uniform quantiser of 1, 2, 4 bits keep an error of .603, .345, .107 of their deviation (Max,
 * 1960).  A stored step is off by up to 2^(1/32), .0125 rms, which adds that share of the coordinate in quadrature: in units of
 * 2^-bits 1.206, 1.380, 1.73.  Short keys have less at 4 bits: the step follows the largest of their few coordinates. */
static const double expected_error[] = {1.206, 1.380, 1.73};

static void error_is_that_of_its_bits(void **state) {
    (void)state;
    const int sizes[] = {64, 128, 256};
    for (int k = 0; k < COUNT(sizes); k++) {
        double rms[3];
        for (int b = 0; b < COUNT(all_bits); b++) {
            double square = 0, mean = 0;
            radar_kv_view kv = kv_random(RADAR_F32, sizes[k], 64, 77, 1.5f);
            radar_scorer *s = scorer_with("sketch", bits_of(sizes[k], all_bits[b]));
            seal_all(s, &kv, 64, NULL, 2);
            float *q = normals((size_t)(8 * sizes[k]), 78, 2);
            for (int j = 0; j < 8; j++) {
                double bias;
                square += pow(logit_error(&kv, all_bits[b], q + j * sizes[k], 1024, &bias), 2) / 8;
                mean += bias / 8;
            }
            rms[b] = sqrt(square);
            print_message("D %d, %d bits: logit error in units of |q| |k - mu| 2^-bits / D: rms "
                          "%.3f (expected %.3f), mean %.3f\n",
                          sizes[k], all_bits[b], rms[b], expected_error[b], mean);
            assert_true(rms[b] >= expected_error[b] * (all_bits[b] == 4 ? 0.85 : 0.95));
            assert_true(rms[b] <= expected_error[b] * 1.05);
            assert_true(fabs(mean) <= 0.1);
            radar_free(q);
            radar_scorer_close(s);
            kv_free(&kv);
        }
        double first = 2 * rms[0] / rms[1], second = 4 * rms[1] / rms[2];
        print_message("D %d: error falls by %.2f from 1 bit to 2, by %.2f from 2 to 4\n", sizes[k],
                      first, second);
        assert_true(first >= 1.6 && first <= 2);
        assert_true(second >= 3.1 && second <= 4);
    }
}

/* A real head's coordinates are not normal before the rotation; after it they must look so. */
static void error_on_a_real_head_is_that_of_its_bits(void **state) {
    (void)state;
    real r = load_real();
    for (int b = 0; b < COUNT(all_bits); b++) {
        double square = 0, mean = 0;
        radar_scorer *s = scorer_with("sketch", bits_of(64, all_bits[b]));
        for (int g = 0; g < 3; g++) {
            radar_kv_view kv = r.kv[g];
            seal_all(s, &kv, REAL_SEGMENTS, NULL, 2);
            for (int j = 0; j < REAL_QUERIES * 3; j += 10) {
                double bias;
                square +=
                    pow(logit_error(&kv, all_bits[b], real_query(&r, g, j), REAL_TOKENS, &bias),
                        2) /
                    18;
                mean += bias / 18;
            }
            radar_free(kv.summary);
        }
        print_message("real head, %d bits: rms %.3f, mean %.3f\n", all_bits[b], sqrt(square), mean);
        assert_true(sqrt(square) >= 0.85 * expected_error[b]);
        assert_true(sqrt(square) <= 1.05 * expected_error[b]);
        assert_true(fabs(mean) <= 0.1);
        radar_scorer_close(s);
    }
    free_real(&r);
}

static void more_bits_find_more_of_the_best_segments(void **state) {
    (void)state;
    real r = load_real();
    double found[3];
    for (int b = 0; b < COUNT(all_bits); b++)
        found[b] = recall("sketch", bits_of(64, all_bits[b]), &r, 8);
    print_message("recall of the best 8 of 79 segments: 1 bit %.3f, 2 bits %.3f, 4 bits %.3f\n",
                  found[0], found[1], found[2]);
    assert_true(found[0] >= 0.78 && found[1] >= 0.86 && found[2] >= 0.95);
    assert_true(found[0] < found[1] && found[1] < found[2]);
    free_real(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seals_the_nearest_levels_of_the_best_step),
        cmocka_unit_test(bytes_a_block_are_as_documented),
        cmocka_unit_test(refuses_other_numbers_of_bits),
        cmocka_unit_test(scores_what_its_layout_says),
        cmocka_unit_test(a_coarse_scan_knows_the_signs_of_the_levels),
        cmocka_unit_test(twins_agree_where_numbers_end),
        cmocka_unit_test(a_list_scores_as_its_range_does),
        cmocka_unit_test(an_upper_bit_stands_for_its_least_squares_level),
        cmocka_unit_test(three_stages_find_the_best_segments_of_a_real_head),
        cmocka_unit_test(bits_of_scores_do_not_depend_on_isa_neighbours_threads_or_range),
        cmocka_unit_test(equal_keys_are_exact_up_to_the_mean),
        cmocka_unit_test(huge_logits_keep_their_scores),
        cmocka_unit_test(keys_that_are_not_finite_harm_only_their_block),
        cmocka_unit_test(error_is_that_of_its_bits),
        cmocka_unit_test(error_on_a_real_head_is_that_of_its_bits),
        cmocka_unit_test(more_bits_find_more_of_the_best_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
