/* The q8 cache: packing and attention against the formulas of kv.h in double, and what rows read in a session. */
#include "tests/unit/q8_fixture.h"

#include "kernels/attend.h"
#include "runtime/kvcache.h"
#include "runtime/radar.h"

/* Every number is within half a scale of what f16 made of it, z in the rotated space; a scale is max / 127, rounded up; and
 * radar_kv_read says the same. */
static void packing_rounds_to_half_a_step(void **state) {
    (void)state;
    for (int n = 0; n < COUNT(q8_D); n++) {
        int D = q8_D[n];
        float *k = floats((size_t)(128 * D)), *v = floats((size_t)(128 * D)),
              *tile = floats((size_t)(32 * D));
        radar_kv_view kv = q8_random(D, 8, 8, 3, k, v);
        radar_rotation r;
        radar_rotation_of_q8(&r, D);
        double worst = 0, read = 0, above = 0;
        for (int slot = 0; slot < 128; slot++) {
            double most_z = 0, most_v = 0;
            if (slot % 16 == 0) radar_kv_read(tile, tile + 16 * D, &kv, slot / 16);
            for (int d = 0; d < D; d++) {
                double z = 0, exact = radar_f16_to_f32(radar_f32_to_f16(v[slot * D + d]));
                for (int j = 0; j < D; j++)
                    z += rotation_at(&r, d, j) *
                         ((double)radar_f16_to_f32(radar_f32_to_f16(k[slot * D + j])) -
                          packed_mean(&kv, slot, j));
                most_z = fmax(most_z, fabs(z)), most_v = fmax(most_v, fabs(exact));
                worst = worse(worst, fabs(z - packed_z(&kv, slot, d)) / half(kv.k_scale, slot));
                worst =
                    worse(worst, fabs(exact - packed_value(&kv, slot, d)) / half(kv.v_scale, slot));
                read = worse(read, fabs(tile[d * 16 + slot % 16] - packed_key(&kv, &r, slot, d)));
                read =
                    worse(read, fabs(tile[(16 + slot % 16) * D + d] - packed_value(&kv, slot, d)));
            }
            above = worse(above, half(kv.k_scale, slot) * 127 / most_z - 1);
            above = worse(above, half(kv.v_scale, slot) * 127 / most_v - 1);
        }
        printf("D %3d: worst %.4f of a step, read within %.1e, scales up to %.1e too large\n", D,
               worst, read, above);
        assert_true(worst <= 0.5 + 1e-3 && read <= 4e-6 && above <= 0x1p-10);
        q8_free(&kv), radar_free(k), radar_free(v), radar_free(tile);
    }
}

/* What is put back into the tail is f16 of what was packed, bit for bit, and packs as near as before. */
static void restoring_gives_f16_of_what_is_packed(void **state) {
    (void)state;
    int D = 64;
    float *k = floats((size_t)(128 * D)), *v = floats((size_t)(128 * D)), packed[2 * 16 * 64],
          tail[2 * 16 * 64];
    radar_kv_view kv = q8_random(D, 8, 8, 5, k, v), all_tail = kv;
    radar_cpu cpu = cpu_with(NULL, 2);
    all_tail.tail_begin = 0;
    memset(kv.tail_k, 0xff, 128 * 64 * 2), memset(kv.tail_v, 0xff, 128 * 64 * 2);
    radar_cpu_restore(&cpu.base, &kv, 2, 6);
    for (int s = 2; s < 6; s++) {
        radar_kv_read(packed, packed + 16 * D, &kv, s);
        radar_kv_read(tail, tail + 16 * D, &all_tail, s);
        for (int i = 0; i < 2 * 16 * D; i++)
            assert_true(tail[i] == radar_f16_to_f32(radar_f32_to_f16(packed[i])));
    }
    radar_kv_read(tail, NULL, &all_tail, 6);
    assert_true(isnan(tail[0])); /* beyond the range nothing is written */
    q8_free(&kv), radar_free(k), radar_free(v);
}

/* ---- attention ---- */

enum { QUERIES = 13, SEGMENTS = 24, TAIL_BEGIN = 20 };

typedef struct q8_case {
    radar_kv_view kv;
    float *k, *v, *q;
    int64_t position[QUERIES];
    radar_item item[SEGMENTS];
    int n_items;
} q8_case;

static q8_case make_case(int D, uint64_t seed, float q_scale) {
    size_t n = (size_t)(SEGMENTS * 16 * D);
    q8_case c = {.k = floats(n), .v = floats(n), .q = normals((size_t)(QUERIES * D), 9, q_scale)};
    c.kv = q8_random(D, SEGMENTS, TAIL_BEGIN, seed, c.k, c.v);
    for (int s = 0; s < SEGMENTS; s++)
        if (s % 3 != 1) c.item[c.n_items++] = (radar_item){s, s % 4 == 2 ? 0x9d2f : 0xffff};
    for (int j = 0; j < QUERIES; j++) c.position[j] = j < 4 ? SEGMENTS * 16 : 100 + 17 * j;
    return c;
}

static void free_case(q8_case *c) {
    q8_free(&c->kv), radar_free(c->k), radar_free(c->v), radar_free(c->q);
}

static float *run_case(const q8_case *c, radar_isa isa, int threads, int per_task) {
    radar_cpu cpu = {.opt = {.n_threads = threads}, .isa = isa};
    size_t size = (size_t)RADAR_PARTIAL(c->kv.D);
    float *out = floats(QUERIES * size);
    radar_attend_task task[QUERIES];
    int n = 0;
    for (int j = 0; j < QUERIES; j += per_task)
        task[n++] = (radar_attend_task){.kv = c->kv,
                                        .n_query = QUERIES - j < per_task ? QUERIES - j : per_task,
                                        .q = c->q + j * c->kv.D,
                                        .q_stride = (size_t)c->kv.D,
                                        .position = c->position + j,
                                        .items = {.item = c->item, .n = c->n_items},
                                        .partial = out + (size_t)j * size,
                                        .partial_stride = size};
    radar_cpu_attend(&cpu.base, task, n, (float)(1 / sqrt(c->kv.D)), QUERIES);
    return out;
}

/* Keys and values of all slots as a query reads them, in double; z_size: the largest sum over |z|. */
static void decode(const q8_case *c, double *key, double *value, double *z_size) {
    int D = c->kv.D;
    radar_rotation r;
    radar_rotation_of_q8(&r, D);
    *z_size = 0;
    for (int slot = 0; slot < SEGMENTS * 16; slot++) {
        bool packed = slot < TAIL_BEGIN * 16;
        double size = 0;
        for (int d = 0; d < D; d++) {
            int at = slot * D + d;
            key[at] = packed ? packed_key(&c->kv, &r, slot, d)
                             : radar_f16_to_f32(radar_f32_to_f16(c->k[at]));
            value[at] = packed ? packed_value(&c->kv, slot, d)
                               : radar_f16_to_f32(radar_f32_to_f16(c->v[at]));
            size += packed ? fabs(packed_z(&c->kv, slot, d)) : 0;
        }
        *z_size = fmax(*z_size, size);
    }
}

static bool sees(const q8_case *c, int j, int slot) {
    for (int i = 0; i < c->n_items; i++)
        if (c->item[i].segment == slot / 16)
            return (c->item[i].tokens >> slot % 16 & 1) && slot <= c->position[j];
    return false;
}

/* Errors of ln l + m, and of o / l in units of the largest |v|. */
static void errors(const q8_case *c, const float *out, const double *key, const double *value,
                   double *mass, double *mean) {
    int D = c->kv.D;
    *mass = *mean = 0;
    for (int j = 0; j < QUERIES; j++) {
        double s[SEGMENTS * 16], m = -INFINITY, l = 0, o[256] = {0}, most = 0;
        const float *p = out + j * RADAR_PARTIAL(D);
        for (int slot = 0; slot < SEGMENTS * 16; slot++) {
            s[slot] = 0;
            for (int d = 0; d < D; d++) s[slot] += c->q[j * D + d] * key[slot * D + d] / sqrt(D);
            if (sees(c, j, slot)) m = fmax(m, s[slot]);
        }
        for (int slot = 0; slot < SEGMENTS * 16; slot++) {
            if (!sees(c, j, slot)) continue;
            l += exp(s[slot] - m);
            for (int d = 0; d < D; d++) {
                o[d] += exp(s[slot] - m) * value[slot * D + d];
                most = fmax(most, fabs(value[slot * D + d]));
            }
        }
        *mass =
            worse(*mass, fabs(p[RADAR_PARTIAL_M] + log((double)p[RADAR_PARTIAL_L]) - m - log(l)));
        for (int d = 0; d < D; d++)
            *mean = worse(*mean, fabs((double)p[RADAR_PARTIAL_O + d] / (double)p[RADAR_PARTIAL_L] -
                                      o[d] / l) /
                                     most);
    }
}

/* Within the bounds of attend_cpu.h, and as near as its roundings mostly are: measured 5e-5, 3e-5, and 9e-7 where all logits are
 * equal.  Without the query's low part the first would be 64 times that, without that of the weights the last 256 times. */
static void attends_as_the_stored_numbers_say(void **state) {
    (void)state;
    for (int n = 0; n < COUNT(q8_D); n++) {
        for (int even = 0; even < 2; even++) {
            int D = q8_D[n];
            q8_case c = make_case(D, (uint64_t)(40 + n), even ? 0 : 1.0f);
            double *key = must(radar_alloc(SEGMENTS * 16 * (size_t)D * 8)),
                   *value = must(radar_alloc(SEGMENTS * 16 * (size_t)D * 8)), z, mass, mean;
            decode(&c, key, value, &z);
            double bound = z * 4.5 / 16256 / 2 / sqrt(D); /* |H q| stays below 4.5 */
            for (int avx512 = 0; avx512 < 2; avx512++) {
                if (avx512 && !has_avx512()) continue;
                float *out = run_case(&c, cpu_with(avx512 ? "avx512" : "plain", 1).isa, 1, QUERIES);
                errors(&c, out, key, value, &mass, &mean);
                if (!avx512)
                    printf("D %3d: log-mass within %.1e (bound %.1e), mean value within %.1e\n", D,
                           mass, bound, mean);
                assert_true(mass <= (even ? 1e-6 : 2e-4) && mass <= bound + 1e-5);
                assert_true(mean <= (even ? 5e-6 : 1e-4));
                radar_free(out);
            }
            radar_free(key), radar_free(value);
            free_case(&c);
        }
    }
}

static void every_way_of_asking_gives_the_same_bits(void **state) {
    (void)state;
    for (int n = 0; n < COUNT(q8_D); n++) {
        q8_case c = make_case(q8_D[n], (uint64_t)(60 + n), 1.5f);
        size_t bytes = QUERIES * (size_t)RADAR_PARTIAL(q8_D[n]) * sizeof(float);
        const radar_isa plain = {0}, best = cpu_with(NULL, 1).isa,
                        avx2 = {.avx2 = best.avx2, .fma = best.fma};
        float *want = run_case(&c, plain, 1, QUERIES);
        const radar_isa isa[] = {plain, avx2, best, best, best, best, avx2};
        const int per_task[] = {1, QUERIES, QUERIES, 1, 3, 4, 2}, threads[] = {1, 1, 1, 2, 2, 1, 2};
        for (int i = 0; i < COUNT(per_task); i++) {
            float *got = run_case(&c, isa[i], threads[i], per_task[i]);
            if (memcmp(want, got, bytes)) fail_msg("D %d: way %d differs", q8_D[n], i);
            radar_free(got);
        }
        radar_free(want);
        free_case(&c);
    }
}

/* ---- sessions ---- */

#define TINY "tests/golden/tiny/qwen3-qknorm-bf16"
enum { TOKENS = 700, VOCAB_MOST = 4096 };

static radar_engine *engine_of(int shards, int stripe, int chunk) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = TINY;
    opt.threads = 1, opt.shards = shards, opt.stripe = stripe, opt.chunk = chunk;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static size_t vocab_of(const radar_engine *e) {
    radar_model_info info = {.size = sizeof info};
    radar_engine_info(e, &info);
    assert_true(info.vocab <= VOCAB_MOST);
    return (size_t)info.vocab;
}

static radar_session_options options(const char *attention, int64_t context) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = context, opt.kv_type = "q8", opt.attention = attention;
    opt.dense_below = 0, opt.window = 32, opt.segments = 3;
    return opt;
}

static radar_session *session_of(radar_engine *e, const radar_session_options *opt) {
    radar_session *s;
    if (radar_session_open(&s, e, opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

static int32_t *tokens(size_t n, size_t vocab) {
    int32_t *t = must(radar_alloc(n * sizeof *t));
    for (size_t i = 0; i < n; i++) t[i] = (int32_t)(radar_random(5, 5, i) % vocab);
    return t;
}

#define OK(call) assert_int_equal(call, RADAR_OK)

/* Logits of [from, to), in calls of `step` tokens. */
static float *scored(radar_engine *e, radar_session *s, const int32_t *t, size_t from, size_t to,
                     size_t step) {
    size_t vocab = vocab_of(e);
    float *logits = floats((to - from) * vocab);
    for (size_t i = from; i < to; i += step) {
        size_t n = to - i < step ? to - i : step;
        OK(radar_score(s, t + i, n, logits + (i - from) * vocab));
    }
    return logits;
}

/* Batches, pieces of a prompt, and going back within the tail change no bit; chunks are whole blocks, or not. */
static void a_row_reads_the_same_in_any_pass(void **state) {
    (void)state;
    static const char *const attention[] = {"radar", "dense", "streaming"};
    static const int chunk[] = {512, 100};
    for (int n = 0; n < 2; n++) {
        radar_engine *e = engine_of(8, 64, chunk[n]);
        size_t vocab = vocab_of(e), rows = TOKENS - 560;
        int32_t *t = tokens(TOKENS, vocab);
        for (int a = 0; a < COUNT(attention); a++) {
            radar_session_options opt = options(attention[a], TOKENS);
            radar_session *s = session_of(e, &opt), *other = session_of(e, &opt);
            OK(radar_prefill(s, t, 560));
            for (size_t i = 0; i < 560; i += 70) OK(radar_prefill(other, t + i, 70));
            float *want = scored(e, s, t, 560, TOKENS, rows),
                  *one = scored(e, other, t, 560, TOKENS, 1);
            assert_memory_equal(want, one, rows * vocab * sizeof(float));
            OK(radar_rewind(s, 610));
            float *again = scored(e, s, t, 610, TOKENS, 7);
            assert_memory_equal(want + 50 * vocab, again, (rows - 50) * vocab * sizeof(float));
            radar_free(want), radar_free(one), radar_free(again);
            radar_session_close(s), radar_session_close(other);
        }
        radar_free(t);
        radar_engine_close(e);
    }
}

/* A chunk's tokens back, into the middle of a chunk: a prompt that goes on there reads what the chunk's first pass read. */
static void going_back_a_chunk_changes_no_bit_of_a_prefill(void **state) {
    (void)state;
    enum { END = 1500, BACK = END - 500, MORE = 20 };
    radar_engine *e = engine_of(8, 64, 512);
    size_t vocab = vocab_of(e);
    int32_t *t = tokens(END, vocab);
    radar_session_options opt = options("dense", END);
    radar_session *s = session_of(e, &opt), *fresh = session_of(e, &opt);
    OK(radar_prefill(s, t, END));
    OK(radar_rewind(s, BACK));
    OK(radar_prefill(fresh, t, BACK));
    OK(radar_prefill(s, t + BACK, MORE));
    OK(radar_prefill(fresh, t + BACK, MORE));
    assert_memory_equal(radar_logits(s), radar_logits(fresh), vocab * sizeof(float));
    radar_session_close(s), radar_session_close(fresh), radar_free(t);
    radar_engine_close(e);
}

/* Another scorer, window or policy over the same cache is what a session opened with it computes. */
static void a_reconfigured_session_equals_a_fresh_one(void **state) {
    (void)state;
    static const char *const setting[][2] = {{"radar", "mean"},
                                             {"radar", "exact"},
                                             {"radar", "q8top"},
                                             {"dense", "sketch"},
                                             {"radar", "sketch"}};
    radar_engine *e = engine_of(8, 64, 512);
    size_t vocab = vocab_of(e), rows = 30;
    int32_t *t = tokens(TOKENS, vocab);
    radar_session_options first = options("radar", TOKENS);
    radar_session *kept = session_of(e, &first);
    OK(radar_prefill(kept, t, 600));
    for (int i = 0; i < COUNT(setting); i++) {
        radar_session_options opt = options(setting[i][0], TOKENS);
        opt.scorer = setting[i][1], opt.window = 32 + 64 * i;
        radar_session *fresh = session_of(e, &opt);
        OK(radar_prefill(fresh, t, 600));
        OK(radar_rewind(kept, 600));
        OK(radar_session_reconfigure(kept, &opt));
        float *a = scored(e, fresh, t, 600, 600 + rows, 16),
              *b = scored(e, kept, t, 600, 600 + rows, 16);
        assert_memory_equal(a, b, rows * vocab * sizeof(float));
        radar_free(a), radar_free(b);
        radar_session_close(fresh);
    }
    radar_session_close(kept), radar_free(t);
    radar_engine_close(e);
}

static double largest_difference(const float *a, const float *b, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = worse(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* Further back than the tail reaches, tokens come back from what was packed: near what a fresh session has, not equal. */
static void a_deep_rewind_comes_near_a_fresh_session(void **state) {
    (void)state;
    enum { LONG = 1400, BACK = 500, ROWS = 40 };
    radar_engine *e = engine_of(2, 64, 64);
    size_t vocab = vocab_of(e);
    int32_t *t = tokens(LONG, vocab);
    radar_session_options opt = options("dense", LONG);
    radar_session *s = session_of(e, &opt), *fresh = session_of(e, &opt);
    OK(radar_prefill(s, t, LONG));
    OK(radar_rewind(s, BACK));
    OK(radar_prefill(fresh, t, BACK));
    float *a = scored(e, s, t, BACK, BACK + ROWS, ROWS),
          *b = scored(e, fresh, t, BACK, BACK + ROWS, ROWS);
    double worst = largest_difference(a, b, ROWS * vocab);
    printf("logits within %.1e of a fresh session's\n", worst);
    assert_true(worst > 0 && worst < 0.5);
    radar_free(a), radar_free(b), radar_free(t);
    radar_session_close(s), radar_session_close(fresh);
    radar_engine_close(e);
}

/* What can be read back of layer 0, whose keys and values no cache has touched before: near the f32 cache's, exact as f16 in
 * the tail. */
static void reading_gives_what_was_packed(void **state) {
    (void)state;
    radar_engine *e = engine_of(8, 64, 512);
    int32_t *t = tokens(TOKENS, vocab_of(e));
    radar_session_options opt = options("dense", TOKENS);
    radar_session *s = session_of(e, &opt);
    opt.kv_type = "f32";
    radar_session *exact = session_of(e, &opt);
    enum { D = 32 };
    static float k[2][TOKENS * D], v[2][TOKENS * D];
    OK(radar_prefill(s, t, TOKENS)), OK(radar_prefill(exact, t, TOKENS));
    OK(radar_session_read(s, 0, 1, 0, TOKENS, k[0], v[0]));
    OK(radar_session_read(exact, 0, 1, 0, TOKENS, k[1], v[1]));
    int begin = (TOKENS / 64 * 64 - 256) / 64 * 64, rounded = 0;
    double size = 0, worst = 0;
    for (int i = 0; i < TOKENS * D; i++) size = fmax(size, fmax(fabs(k[1][i]), fabs(v[1][i])));
    for (int i = 0; i < TOKENS * D; i++) {
        if (i < begin * D) {
            worst = worse(worst, fmax(fabs(k[0][i] - k[1][i]), fabs(v[0][i] - v[1][i])));
            rounded += k[0][i] != radar_f16_to_f32(radar_f32_to_f16(k[1][i]));
        } else {
            assert_true(k[0][i] == radar_f16_to_f32(radar_f32_to_f16(k[1][i])));
            assert_true(v[0][i] == radar_f16_to_f32(radar_f32_to_f16(v[1][i])));
        }
    }
    printf("largest %.2f, packed within %.1e\n", size, worst);
    assert_true(worst < size / 50 && rounded > begin * D / 2);
    radar_session_close(s), radar_session_close(exact), radar_free(t);
    radar_engine_close(e);
}

/* Other attentions work on it, or refuse it by name. */
static void other_attentions_work_or_refuse(void **state) {
    (void)state;
    static const char *const works[] = {"h2o", "snapkv", "subgen", "streaming"};
    radar_engine *e = engine_of(8, 64, 128);
    size_t vocab = vocab_of(e), rows = 20;
    int32_t *t = tokens(TOKENS, vocab);
    for (int i = 0; i < COUNT(works); i++) {
        radar_session_options opt = options(works[i], TOKENS);
        opt.budget = 96, opt.restream = 1;
        radar_session *s = session_of(e, &opt);
        opt.kv_type = "f16";
        radar_session *f16 = session_of(e, &opt);
        OK(radar_prefill(s, t, 600)), OK(radar_prefill(f16, t, 600));
        float *a = scored(e, s, t, 600, 600 + rows, 16),
              *b = scored(e, f16, t, 600, 600 + rows, 16);
        double worst = largest_difference(a, b, vocab); /* the first row: choices may part later */
        printf("%s: logits within %.1e of the f16 cache's\n", works[i], worst);
        assert_true(worst > 0 && worst < 0.3);
        radar_free(a), radar_free(b);
        radar_session_close(s), radar_session_close(f16);
    }
    radar_free(t);
    radar_engine_close(e);
    e = engine_of(1, 64, 128);
    radar_session_options opt = options("paper", TOKENS);
    radar_session *s;
    assert_int_equal(radar_session_open(&s, e, &opt), RADAR_ERR_CONFIG);
    assert_non_null(strstr(radar_last_error(e), "--kv-type f16"));
    opt = options("radar", TOKENS), opt.scorer = "q8top", opt.kv_type = "f16";
    assert_int_equal(radar_session_open(&s, e, &opt), RADAR_ERR_CONFIG);
    assert_non_null(strstr(radar_last_error(e), "use --kv-type q8"));
    opt.kv_type = "q8";
    s = session_of(e, &opt);
    opt.scorer = "exact";
    OK(radar_session_reconfigure(s, &opt));
    radar_session_close(s);
    radar_engine_close(e);
}

/* By bytes, per token and KV head at D = 64: 64 + 2 for a key and for a value, (64 + 4) / 64 for the block's centre; and a tail
 * that does not grow with the context.  A million tokens of 30 layers and 3 KV heads take 12.6 GB on one rank, half on two. */
static void a_million_tokens_take_what_they_should(void **state) {
    (void)state;
    for (int ranks = 1; ranks <= 2; ranks++) {
        radar_kvcache kv = {.layout = {.shards = 8, .stripe = 256, .ranks = ranks},
                            .layers = 30,
                            .kv_heads = 3,
                            .D = 64,
                            .type = RADAR_Q8,
                            .context = 1 << 20,
                            .pass_rows = 512};
        assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
        size_t blocks = (size_t)90 * ((size_t)1 << 20) / 64 / (size_t)ranks,
               tail = (size_t)90 * 2048 * 256 / (size_t)ranks;
        assert_int_equal(kv.ring, 2048);
        assert_int_equal(kv.bytes, blocks * (64 * 132 + 68) + tail);
        assert_int_equal(radar_kvcache_key_bytes(&kv, 64), 64 * 66 + 68);
        assert_int_equal(radar_kvcache_value_bytes(&kv, 64), 64 * 66);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_rounds_to_half_a_step),
        cmocka_unit_test(restoring_gives_f16_of_what_is_packed),
        cmocka_unit_test(attends_as_the_stored_numbers_say),
        cmocka_unit_test(every_way_of_asking_gives_the_same_bits),
        cmocka_unit_test(a_row_reads_the_same_in_any_pass),
        cmocka_unit_test(going_back_a_chunk_changes_no_bit_of_a_prefill),
        cmocka_unit_test(a_reconfigured_session_equals_a_fresh_one),
        cmocka_unit_test(a_deep_rewind_comes_near_a_fresh_session),
        cmocka_unit_test(reading_gives_what_was_packed),
        cmocka_unit_test(a_million_tokens_take_what_they_should),
        cmocka_unit_test(other_attentions_work_or_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
