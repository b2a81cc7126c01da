#include "tests/gpu/twin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TWINS 256
#define MOST_READ 512

radar_backend *side[SIDES];
static twin all[MOST_TWINS];
static void *was_read[MOST_READ];
static int n_twins, n_read, n_bad;

static void stop(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(70);
}

/* ---- backends ---- */

static const radar_backend_ops *ops_of(const char *name) {
    for (const radar_backend_ops *const *ops = radar_backends; *ops; ops++)
        if (strcmp((*ops)->name, name) == 0) return *ops;
    return NULL;
}

bool open_sides(radar_precision precision, bool fp8_weights) {
    static const char *const name[SIDES] = {"cpu", "cuda"};
    const radar_backend_options opt = {.n_threads = 2,
                                       .precision = precision,
                                       .max_rows = 128,
                                       .max_cols = 4096,
                                       .graphs = true,
                                       .fp8_weights = fp8_weights};
    ON_BOTH(s) {
        radar_error err = {0};
        const radar_backend_ops *ops = ops_of(name[s]);
        if (ops && ops->open(&side[s], &opt, &err) == RADAR_OK) continue;
        printf("# skipped: %s\n", ops ? err.text : "this build has no CUDA");
        side[s] = NULL;
        close_sides();
        return false;
    }
    return true;
}

void close_sides(void) {
    ON_BOTH(s) {
        if (side[s]) side[s]->ops->close(side[s]);
        side[s] = NULL;
    }
}

/* ---- memory ---- */

twin twin_of(const void *host, size_t bytes) {
    twin t = {.bytes = bytes};
    if (n_twins == MOST_TWINS) stop("too many twins");
    ON_BOTH(s) {
        t.at[s] = side[s]->ops->alloc(side[s], bytes + 16);
        if (!t.at[s]) stop("no memory for a twin");
        if (host) side[s]->ops->upload(side[s], t.at[s], host, bytes);
    }
    return all[n_twins++] = t;
}

twin twin_random(size_t n, uint64_t stream) {
    float *x = malloc(n * sizeof *x);
    if (!x) stop("no memory");
    fill_normal(x, n, stream);
    const twin t = twin_of(x, n * sizeof *x);
    free(x);
    return t;
}

void drop_twins(void) {
    ON_BOTH(s) {
        side[s]->ops->wait(side[s], NULL);
        for (int i = 0; i < n_twins; i++) side[s]->ops->release(side[s], all[i].at[s]);
    }
    while (n_read > 0) free(was_read[--n_read]);
    n_twins = 0;
}

const void *read_twin(twin t, int s) {
    radar_error err = {0};
    char *host = malloc(t.bytes + 1);
    if (!host || n_read == MOST_READ) stop("no memory to read a twin");
    was_read[n_read++] = host;
    side[s]->ops->fetch(side[s], host, t.at[s], t.bytes);
    if (side[s]->ops->wait(side[s], &err) != RADAR_OK) stop(err.text);
    return host;
}

void write_twin(twin t, int s, const void *host) {
    side[s]->ops->upload(side[s], t.at[s], host, t.bytes);
}

void fill_normal(float *x, size_t n, uint64_t stream) {
    for (size_t i = 0; i < n; i++) x[i] = (float)radar_random_normal(stream, 1, i);
}

/* ---- verdicts ---- */

static void line(const char *name, double value, const char *unit, bool right) {
    n_bad += !right;
    printf("%s\t%.3g\t%s\t%s\n", name, value, unit, right ? "ok" : "bad");
    fflush(stdout);
}

static size_t differ(twin t, size_t bytes) {
    const char *a = read_twin(t, CPU), *b = read_twin(t, GPU);
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += a[i] != b[i];
    return n;
}

void expect_same(const char *name, twin t, size_t bytes) {
    const size_t n = differ(t, bytes ? bytes : t.bytes);
    line(name, (double)n, "bytes differ", n == 0);
}

void expect_alike(const char *name, twin t, double bound) {
    const double share = (double)differ(t, t.bytes) / (double)t.bytes;
    line(name, share, "of bytes differ", share <= bound);
}

void expect_close(const char *name, twin t, double bound) {
    const float *want = read_twin(t, CPU), *got = read_twin(t, GPU);
    double miss = 0, size = 0;
    for (size_t i = 0; i < t.bytes / sizeof *want; i++) {
        if (isinf(want[i]) && want[i] == got[i]) continue;
        const double apart = (double)got[i] - (double)want[i];
        miss += apart * apart;
        size += (double)want[i] * (double)want[i];
    }
    const double error = sqrt(miss / (size > 0 ? size : 1));
    line(name, error, "relative", error <= bound);
}

void expect_true(const char *name, bool right) { line(name, right, "of 1", right); }

int bad_lines(void) { return n_bad; }
