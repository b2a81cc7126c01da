/* What a run may cost, measured on the command as a whole process: memory of one rank, and the time to the first token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define OUT "build/test_limits.json"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs the command with its JSON in OUT; returns its seconds and, in *peak, its resident bytes at most. */
static double run(const char *const *argv, size_t *peak) {
    struct rusage use;
    int status;
    double start = now();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen(OUT, "w", stdout)) _exit(126);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    assert_int_equal(wait4(child, &status, 0, &use), child);
    double seconds = now() - start;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s %s: status %x", argv[0], argv[1], status);
    *peak = (size_t)use.ru_maxrss * 1024;
    return seconds;
}

static const char *program(void) {
    const char *given = getenv("RADAR");
    return given ? given : "build/cpu/radar";
}

static off_t model_bytes(void) {
    struct stat st;
    if (stat(DEMO, &st) == 0) return st.st_size;
    if (!getenv("RADAR_NO_MODEL")) fail_msg("%s is missing: make model fetches it", DEMO);
    return 0;
}

static void one_rank_needs_at_most_file_cache_summaries_and_300_mb(void **state) {
    (void)state;
    const char *const argv[] = {
        program(), "run",  "-m",      DEMO,     "--ids",  "tests/golden/ids-kjv-4096.u32",
        "-n",      "8",    "-t",      "2",      "--temp", "0",
        "--ctx",   "4352", "--quiet", "--json", NULL};
    size_t peak;
    off_t file = model_bytes();
    if (file == 0) skip();
    run(argv, &peak);
    json_t *facts = json_load_file(OUT, 0, NULL);
    assert_non_null(facts);
    json_int_t kv = json_integer_value(json_array_get(json_object_get(facts, "kv_bytes"), 0));
    json_int_t summaries =
        json_integer_value(json_array_get(json_object_get(facts, "summary_bytes"), 0));
    assert_true(kv == 4352LL * 30 * 3 * 64 * 2 * 2);
    assert_true(summaries > 0);
    double over = ((double)peak - (double)file - (double)kv - (double)summaries) * 1e-6;
    print_message("    peak %.0f MB: file %.0f + KV %.0f + summaries %.0f + %.0f MB\n",
                  (double)peak * 1e-6, (double)file * 1e-6, (double)kv * 1e-6,
                  (double)summaries * 1e-6, over);
    assert_true(over <= 300);
    json_decref(facts);
}

static void the_first_token_comes_within_half_a_second(void **state) {
    (void)state;
    const char *const argv[] = {program(),          "run",    "-m", DEMO,     "-p",
                                "In the beginning", "-n",     "1",  "--temp", "0",
                                "--quiet",          "--json", NULL};
    size_t peak;
    double best = 1e9;
    if (model_bytes() == 0) skip();
    for (
        int i = 0; i < 5;
        i++) { /* the first run warms the page cache; the best stands for a machine that does nothing else */
        double seconds = run(argv, &peak);
        best = seconds < best ? seconds : best;
    }
    print_message("    start to end of a one-token run: %.3f s\n", best);
    assert_true(best <= 0.5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_needs_at_most_file_cache_summaries_and_300_mb),
        cmocka_unit_test(the_first_token_comes_within_half_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
