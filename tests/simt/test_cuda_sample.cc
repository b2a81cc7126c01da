/* Sampling on the device against runtime/sampler.c: the same token, and the same complaint.  Sums differ by rounding (units of
 * 2^-43 there, f64 here): u would have to fall within 1e-10 of a border to show it, and in these cases it does not. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <memory>
#include <vector>

extern "C" {
#include <cmocka.h>
#include "runtime/sampler.h"
}
#include <sys/wait.h>
#include <unistd.h>

#include "tests/simt/dev.h"
#include "tests/simt/fixture.h"

#include "kernels/cuda/sample.cu"

namespace {

uint64_t random_state;

uint64_t bits() { return radar_random(99, 7, random_state++); }
int below(int n) { return (int)(bits() % (uint64_t)n); }
template <class T, int N> T one_of(const T (&list)[N]) { return list[below(N)]; }

/* Which launch of a call runs under simt::opt as it is; -1: all. */
int watched = -1;
/* Of the latest call: all sums, which no order of blocks or threads may change in a bit. */
std::vector<fixed> sums;

radar_drawn sample(const radar_sampler_options &opt, int64_t position,
                   const std::vector<float> &logit, unsigned threads) {
    /* Freed exactly at its end, and full of what a call before may have left. */
    std::unique_ptr<char, void (*)(void *)> memory((char *)malloc(radar_cuda_sample_scratch()),
                                                   free);
    memset(memory.get(), 0xa5, radar_cuda_sample_scratch());
    const sampling a = plan(&opt, &position, logit.data(), (int)logit.size(), memory.get());
    const simt::options wanted = simt::opt;
    radar_drawn out = {-2, -2};
    int met = 0;
    for (int n = 0; n < launches(a); n++) {
        simt::opt = watched < 0 || n == watched ? wanted : simt::options();
        assert_int_equal(launch(a, n, &out, threads, nullptr), 0);
        if (n == watched) met = simt::sites;
    }
    const scratch *left = reinterpret_cast<scratch *>(memory.get());
    sums.assign(left->sum[0], left->sum[a.stages * DIGITS]);
    simt::opt = wanted;
    if (watched >= 0) simt::sites = met;
    return out;
}

/* ---- the sampler of the runtime, to which NaN is an error ---- */

radar_drawn reference(const radar_sampler_options &opt, int64_t position,
                      std::vector<float> logit) {
    const radar_sampler_options o = {opt.temperature, opt.top_k, opt.top_p, opt.min_p, opt.seed};
    const int vocab = (int)logit.size();
    std::vector<uint64_t> memory(radar_sampler_scratch(vocab) / 8 + 1);
    radar_drawn want = {-1, -1};
    for (int i = 0; i < vocab; i++) {
        if (logit[(size_t)i] == logit[(size_t)i]) continue;
        if (want.nan < 0) want.nan = i;
        logit[(size_t)i] = -INFINITY;
    }
    radar_error err = {};
    radar_sample(&want.token, &o, position, logit.data(), vocab, memory.data(), &err);
    return want;
}

bool agrees(const radar_sampler_options &opt, int64_t position, const std::vector<float> &logit,
            unsigned threads) {
    const radar_drawn want = reference(opt, position, logit),
                      got = sample(opt, position, logit, threads);
    return got.token == want.token && got.nan == want.nan;
}

void must_agree(const radar_sampler_options &opt, int64_t position, const std::vector<float> &logit,
                unsigned threads) {
    if (agrees(opt, position, logit, threads)) return;
    const radar_drawn want = reference(opt, position, logit),
                      got = sample(opt, position, logit, threads);
    fail_msg("vocab %zu, temperature %g, top-k %d, top-p %g, min-p %g, seed %llu, position %lld: "
             "token %d, "
             "not %d; NaN at %d, not %d",
             logit.size(), opt.temperature, opt.top_k, opt.top_p, opt.min_p,
             (unsigned long long)opt.seed, (long long)position, got.token, want.token, got.nan,
             want.nan);
}

/* ---- cases ---- */

/* Normal numbers; in some cases few different ones, or some that are infinite or none. */
std::vector<float> some_logits(int vocab) {
    static const float spreads[] = {0, 0.001f, 1, 3, 3, 30, 1e37f};
    std::vector<float> logit((size_t)vocab);
    const float spread = one_of(spreads), offset = (float)below(3) * 20 - 20;
    const int coarse = below(3) == 0, minus = below(4) == 0, plus = below(12) == 0,
              nan = below(8) == 0;
    for (float &x : logit) {
        x = spread * draw(3, random_state++) + offset;
        if (coarse) x = roundf(x);
        if (minus && below(3) == 0) x = -INFINITY;
        if (plus && below(40) == 0) x = INFINITY;
        if (nan && below(20) == 0) x = below(2) ? NAN : -NAN;
        if (below(50) == 0) x = below(2) ? 0.0f : -0.0f;
    }
    return logit;
}

radar_sampler_options some_options(int vocab) {
    static const double temperatures[] = {0, 1e-300, 0.1, 0.7, 1, 1, 2.5, 1e300},
                        shares[] = {0, 1e-6, 0.3, 0.9, 0.95, 0.999999, 1, 1, 1},
                        least[] = {0, 0, 0, 0.001, 0.05, 0.5, 1};
    const int ks[] = {0, 0, 1, 2, 3, 40, vocab - 1, vocab, 10 * vocab};
    radar_sampler_options o = {};
    o.temperature = one_of(temperatures);
    o.top_k = one_of(ks);
    o.top_p = one_of(shares);
    o.min_p = one_of(least);
    o.seed = bits();
    return o;
}

void random_cases_agree(void **) {
    static const int vocabs[] = {1, 2, 3, 31, 33, 64, 100, 257, 500, 1000};
    for (int i = 0; i < 1800; i++) {
        const int vocab = one_of(vocabs);
        const std::vector<float> logit = some_logits(vocab);
        must_agree(some_options(vocab), (int64_t)(bits() >> below(63)), logit, i % 8 ? 32 : 64);
    }
}

void several_blocks_agree(void **) {
    static const int vocabs[] = {1023, 1024, 1025, 2048, 2049, 5000};
    for (int i = 0; i < 60; i++) {
        const int vocab = one_of(vocabs);
        const std::vector<float> logit = some_logits(vocab);
        must_agree(some_options(vocab), i, logit, 32u << i % 3);
    }
}

/* As launched: 256 threads. */
void the_launch_agrees(void **) {
    for (int i = 0; i < 12; i++) {
        const std::vector<float> logit = some_logits(1500);
        const radar_sampler_options o = some_options(1500);
        const int64_t position = i;
        std::vector<char> memory(radar_cuda_sample_scratch());
        radar_drawn out = {-2, -2};
        assert_int_equal(
            radar_cuda_sample(&out, &o, &position, logit.data(), 1500, memory.data(), nullptr), 0);
        const radar_drawn want = reference(o, position, logit);
        assert_int_equal(out.token, want.token);
        assert_int_equal(out.nan, want.nan);
    }
}

void a_large_vocabulary_agrees(void **) {
    std::vector<float> logit(262144);
    for (size_t i = 0; i < logit.size(); i++) logit[i] = 3 * draw(5, i);
    must_agree({1, 0, 0.95, 0.0001, 3}, 11, logit, 32);
    must_agree({2, 0, 1, 0, 4}, 12, logit, 32);
    for (float &x : logit) x = -7; /* the largest sum, of equal keys */
    must_agree({1, 0, 1, 0, 8}, 13, logit, 32);
}

void sizes_out_of_range_are_refused(void **) {
    const radar_sampler_options o = {0, 0, 1, 0, 1};
    assert_int_equal(radar_cuda_sample(nullptr, &o, nullptr, nullptr, 0, nullptr, nullptr), 1);
    assert_int_equal(radar_cuda_sample(nullptr, &o, nullptr, nullptr, RADAR_CUDA_SAMPLE_VOCAB + 1,
                                       nullptr, nullptr),
                     1);
}

/* ---- edges ---- */

void equal_logits_go_by_id(void **) {
    std::vector<float> logit(1100);
    for (size_t i = 0; i < logit.size(); i++) logit[i] = i % 3 == 1 ? 2.0f : 1.0f;
    assert_int_equal(sample({0, 0, 1, 0, 1}, 0, logit, 64).token, 1);
    bool seen[3] = {};
    for (int position = 0; position < 30; position++) { /* three of 367 equal ones */
        const int token = sample({1, 3, 1, 0, 1}, position, logit, 32).token;
        assert_true(token == 1 || token == 4 || token == 7);
        seen[token / 3] = true;
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    for (int n = 1; n <= 12; n++) /* shares that end between equal tokens: k of n equal ones */
        for (int k = 1; k <= n; k++)
            must_agree({1, 0, (double)k / n, 0, 1}, n * k, std::vector<float>((size_t)n, 5.0f), 32);
}

void the_ends_of_the_numbers(void **) {
    const float inf = INFINITY;
    const std::vector<std::vector<float>> cases = {{-inf, -inf},
                                                   {NAN, -NAN},
                                                   {NAN, -inf, NAN},
                                                   {inf, 3, inf, -inf, 3.4e38f},
                                                   {-1, -0.0f, 0.0f},
                                                   {NAN, -3.4e38f},
                                                   {inf},
                                                   {-inf},
                                                   {NAN},
                                                   {-0.0f},
                                                   {-inf, 1, -inf, NAN},
                                                   {1e-45f, 0, -1e-45f},
                                                   {inf, NAN, inf},
                                                   {3.4e38f, -3.4e38f, 0}};
    const radar_sampler_options options[] = {
        {0, 0, 1, 0, 1},      {1, 0, 1, 0, 1},       {1, 1, 1, 0, 2},
        {1, 2, 0.5, 0.5, 3},  {1e300, 0, 0.9, 1, 4}, {1e300, 0, 1, 0, 5},
        {1e-300, 0, 1, 0, 6}, {0.5, 0, 0, 0, 7},     {1, 0, 1, 5e-324, 8}};
    for (const auto &logit : cases)
        for (const auto &o : options)
            for (int position = 0; position < 3; position++) must_agree(o, position, logit, 32);
}

/* Draws follow u: the token of each u, among four of known weight. */
void draws_follow_their_number(void **) {
    const std::vector<float> logit = {logf(1), logf(4), logf(2), logf(3)};
    int seen[4] = {};
    for (int position = 0; position < 150; position++) {
        const double u = radar_random_uniform(21, RADAR_STREAM_SAMPLER, (uint64_t)position) * 10;
        const int token = sample({1, 0, 1, 0, 21}, position, logit, 32).token;
        assert_int_equal(token, u < 4 ? 1 : u < 7 ? 3 : u < 9 ? 2 : 0);
        seen[token]++;
    }
    for (int i = 0; i < 4; i++) assert_true(seen[i] > 5);
}

/* ---- whole numbers ---- */

/* floor(u all) + 1, to the unit: u all is exact in the 64 bits of a long double. */
void goals_are_exact(void **) {
    const radar_sampler_options o = {1, 0, 1, 0, 33};
    for (int64_t position = 0; position < 500; position++) {
        const sampling a = plan(&o, &position, nullptr, 10, nullptr);
        const double u = radar_random_uniform(33, RADAR_STREAM_SAMPLER, (uint64_t)position);
        for (int all = 1; all < 2000; all += 333)
            assert_int_equal(goal(a, DRAW, (fixed)all), (fixed)((long double)u * all) + 1);
    }
}

/* No sum of a block loses a carry, whatever the low bits of a thousand equal weights. */
void sums_are_whole(void **) {
    const radar_sampler_options o = {1, 0, 1, 0, 34};
    for (int i = 0; i < 12; i++) {
        std::vector<float> logit(2500, -(float)i * 0.37f);
        logit[9] = 0;
        sample(o, i, logit, 32);
        const sampling a = plan(&o, nullptr, nullptr, 2500, nullptr);
        fixed got = 0;
        for (int bin = 0; bin < BINS; bin++) got += sums[(size_t)bin];
        assert_true(got == weight(a, DRAW, key_of(0), key_of(0)) +
                               2499 * weight(a, DRAW, key_of(logit[0]), key_of(0)));
    }
}

/* ---- schedules and barriers ---- */

/* Ties across two blocks, all stages, cuts at different digits. */
bool calls_are_right() {
    static const std::vector<float> logit = [] {
        std::vector<float> x(1400);
        for (size_t i = 0; i < x.size(); i++)
            x[i] = roundf(16 * draw(8, i)) / 8 + (float)(i % 2) * 1e-3f;
        x[77] = NAN;
        return x;
    }();
    static const radar_sampler_options options[] = {
        {1.5, 900, 0.9, 0.0005, 17}, {0.8, 600, 0.7, 0.001, 18}, {1.2, 450, 0.8, 0, 19}};
    static std::vector<fixed> first[3];
    for (int i = 0; i < 3; i++) {
        if (!agrees(options[i], i, logit, 64)) return false;
        if (first[i].empty()) first[i] = sums;
        if (sums != first[i]) return false;
    }
    return true;
}

/* Whether emit finds any of the tokens with the drawn key, in the first tiles and past those that one warp adds up. */
bool emit_is_right() {
    enum { TOKENS = 50000 };
    static const std::unique_ptr<scratch> s(new scratch());
    static std::vector<float> logit(TOKENS);
    static std::vector<int> chosen;
    if (chosen.empty()) {
        for (int i = 0; i < TOKENS; i++) {
            logit[(size_t)i] = i % 7 == 0 ? 2.0f : (float)(i % 5) - 5;
            s->count[i / TILE] += i % 7 == 0;
            s->best[i / TILE] = (fixed)key_of(3) << 32 | ~(uint32_t)i;
            if (i % 7 == 0) chosen.push_back(i);
        }
        s->nan[TOKENS / TILE] = ~(uint32_t)(TOKENS - 2);
    }
    const radar_sampler_options warm = {1, 0, 1, 0, 1};
    const sampling a = plan(&warm, nullptr, logit.data(), TOKENS, s.get());
    for (size_t j = 70; j < chosen.size(); j += 1377) {
        s->at[DIGITS].cut = key_of(2);
        s->at[DIGITS].ties = j + 1;
        radar_drawn out = {-2, -2};
        launch(a, launches(a) - 1, &out, 64, nullptr);
        if (out.token != chosen[j] || out.nan != TOKENS - 2) return false;
    }
    return true;
}

void any_schedule_agrees(void **) {
    assert_true(right_always(calls_are_right, 12));
    assert_true(right_always(emit_is_right, 12));
}

/* A kernel that lacks a barrier may read anywhere: in a process of its own, whose end is as wrong as another token. */
bool lives(bool (*is_right)()) {
    if (!simt::opt.drop_barrier) return is_right();
    int status;
    const pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        _exit(is_right() ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status == 0;
}

int tell(const std::vector<int> &idle, int n) {
    for (int site : idle) print_message("launch %d: barrier %d is idle\n", n, site);
    return (int)idle.size();
}

void every_barrier_is_needed(void **) {
    assert_true(emit_is_right() &&
                calls_are_right()); /* else a mutant would be wrong for nothing */
    int idle = tell(idle_barriers([] { return lives(emit_is_right); }, 60), 11);
    for (watched = 0; watched < 11; watched++)
        idle += tell(idle_barriers([] { return lives(calls_are_right); }, 60), watched);
    watched = -1;
    assert_int_equal(idle, 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_cases_agree),
        cmocka_unit_test(several_blocks_agree),
        cmocka_unit_test(the_launch_agrees),
        cmocka_unit_test(a_large_vocabulary_agrees),
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(equal_logits_go_by_id),
        cmocka_unit_test(the_ends_of_the_numbers),
        cmocka_unit_test(draws_follow_their_number),
        cmocka_unit_test(goals_are_exact),
        cmocka_unit_test(sums_are_whole),
        cmocka_unit_test(any_schedule_agrees),
        cmocka_unit_test(every_barrier_is_needed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
