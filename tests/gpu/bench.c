/* How fast the device and the kernels are.
 *   bench ceilings             reads and copies of 4 GiB
 *   bench kernels              kernels of a decode step, each by itself, at a million tokens
 *   bench decode NAME FOLDER   steps of a model of that shape, whose empty file lies in FOLDER meanwhile
 *   bench model NAME FOLDER    only that file, FOLDER/NAME.gguf: enough for radar plan
 * --toy: all of it in small, to see that it runs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sys.h"
#include "tests/gpu/bench.h"

const bench_shape bench_shapes[] = {
    {"llama-3.1-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, false, 1 << 20},
    {"qwen3-8b", "qwen3", 36, 4096, 12288, 32, 8, 128, 151936, true, 1 << 20},
    {"toy", "qwen3", 2, 128, 256, 4, 2, 64, 320, true, 1024},
    {NULL, NULL, 0, 0, 0, 0, 0, 0, 0, false, 0}};

/* ---- lines ---- */

void bench_line(const char *name, double value, const char *unit, double target, bool at_least) {
    const bool met = at_least ? value >= target : value <= target;
    printf("%s\t%.4g\t%s\t%s", name, value, unit, target == 0 ? "-" : met ? "ok" : "missed");
    if (target != 0) printf("\t%s %g", at_least ? ">=" : "<=", target);
    printf("\n");
    fflush(stdout);
}

void bench_stop(const char *what) {
    printf("# %s\n", what);
    printf("bench\t0\truns\tbad\n");
    exit(1);
}

/* ---- time ---- */

static void wait(radar_backend *be) {
    radar_error err = {0};
    if (be->ops->wait(be, &err) != RADAR_OK) bench_stop(err.text);
}

static int samples = SAMPLES; /* fewer where it is but tried */

double bench_seconds(radar_backend *be, void (*queue_it)(void *data), void *data, int times) {
    double took[SAMPLES];
    for (int i = samples < SAMPLES ? -1 : -3; i < samples;
         i++) { /* the third is the first that is a graph */
        const double began = radar_clock();
        for (int j = 0; j < times; j++) queue_it(data);
        wait(be);
        if (i >= 0) took[i] = (radar_clock() - began) / times;
    }
    return radar_median(took, samples);
}

/* ---- numbers ---- */

static uint8_t to_e4m3(double x) {
    const double size = fmin(fabs(x), 448);
    int e = 0;
    frexp(size, &e);
    if (size == 0 || e < -5) e = -5; /* subnormals share the least exponent */
    return (uint8_t)((x < 0 ? 0x80 : 0) | ((e + 5) * 8 + (int)nearbyint(ldexp(size, 4 - e))));
}

#define FP8_REACH 12 /* the largest number that the scale is for */

static void put_number(char *to, radar_dtype type, double x) {
    const uint16_t half =
        type == RADAR_F16 ? radar_f32_to_f16((float)x) : radar_f32_to_bf16((float)x);
    const uint8_t byte = to_e4m3(x * 448 / FP8_REACH);
    const float f = (float)x;
    if (type == RADAR_FP8)
        memcpy(to, &byte, sizeof byte);
    else if (type == RADAR_F32)
        memcpy(to, &f, sizeof f);
    else
        memcpy(to, &half, sizeof half);
}

static const void *on_device(radar_backend *be, const void *host, size_t bytes) {
    void *there = be->ops->alloc(be, bytes);
    if (!there) bench_stop("no memory for a table");
    be->ops->upload(be, there, host, bytes);
    wait(be);
    return there;
}

synth_table bench_table(radar_backend *be, radar_dtype type, double size) {
    const int each = (int)radar_dtype_block_bytes(type);
    static char entry[2 * SYNTH_ENTRIES * 4];
    for (int i = 0; i < 2 * SYNTH_ENTRIES; i++)
        put_number(entry + i * each, type,
                   size * (i < SYNTH_ENTRIES ? 1 : 3) * radar_random_normal(9, 1, (uint64_t)i));
    return (synth_table){on_device(be, entry, 2 * SYNTH_ENTRIES * (size_t)each), each, 0};
}

void bench_fill_cache(radar_kvcache *kv) {
    radar_cuda_queue *q = bench_queue(kv->be);
    const size_t rows = (size_t)kv->layers * (size_t)kv->rank_tokens * (size_t)kv->kv_heads,
                 bytes = rows * (size_t)kv->D * radar_dtype_block_bytes(kv->type);
    synth_table values = bench_table(kv->be, kv->type, 1), keys = values;
    keys.dims = kv->D;
    int error = synth_fill(kv->k, bytes, &keys, 1, q);
    if (!error) error = synth_fill(kv->v, bytes, &values, (uint64_t)1 << 40, q);
    if (!error && kv->type == RADAR_FP8) {
        float scale[2 * SYNTH_ENTRIES];
        for (int i = 0; i < 2 * SYNTH_ENTRIES; i++)
            scale[i] = FP8_REACH / 448.0f * (0.9f + 0.2f * (float)i / (2 * SYNTH_ENTRIES));
        const synth_table scales = {on_device(kv->be, scale, sizeof scale), sizeof scale[0], 0};
        error = synth_fill(kv->scale, rows * 2 * sizeof(float), &scales, 2, q);
    }
    if (error) bench_stop("the cache cannot be filled");
    wait(kv->be);
}

/* ---- ceilings ---- */

typedef struct stretch {
    radar_backend *be;
    char *from, *to;
    size_t bytes;
    uint32_t *sum;
} stretch;

static void queue_read(void *data) {
    const stretch *s = data;
    radar_cuda_note(bench_queue(s->be), "reading",
                    synth_read(s->from, s->bytes, s->sum, bench_queue(s->be)));
}

static void queue_copy(void *data) {
    const stretch *s = data;
    radar_cuda_note(bench_queue(s->be), "copying",
                    synth_copy(s->to, s->from, s->bytes, bench_queue(s->be)));
}

static stretch open_stretch(radar_backend *be, bool toy) {
    stretch s = {.be = be, .bytes = toy ? (size_t)1 << 16 : (size_t)4 << 30};
    const synth_table table = bench_table(be, RADAR_F32, 1);
    s.from = be->ops->alloc(be, s.bytes);
    s.to = be->ops->alloc(be, s.bytes);
    s.sum = be->ops->alloc(be, 256);
    if (!s.from || !s.to || !s.sum) bench_stop("no memory for the ceilings");
    radar_cuda_note(bench_queue(be), "filling",
                    synth_fill(s.from, s.bytes, &table, 3, bench_queue(be)));
    wait(be);
    return s;
}

static void close_stretch(stretch *s) {
    s->be->ops->release(s->be, s->from);
    s->be->ops->release(s->be, s->to);
    s->be->ops->release(s->be, s->sum);
}

double bench_read_ceiling(radar_backend *be, bool toy) {
    stretch s = open_stretch(be, toy);
    const double rate = (double)s.bytes / bench_seconds(be, queue_read, &s, 8);
    close_stretch(&s);
    return rate;
}

void bench_ceilings(radar_backend *be, bool toy) {
    bench_line("read", bench_read_ceiling(be, toy) / 1e9, "GB/s", 0, true);
    stretch s = open_stretch(be, toy);
    bench_line("copy, both ways", 2 * (double)s.bytes / bench_seconds(be, queue_copy, &s, 8) / 1e9,
               "GB/s", 0, true);
    close_stretch(&s);
}

/* ---- the command ---- */

static radar_backend *open_device(void) {
    const radar_backend_options opt = {.n_threads = 1,
                                       .precision = RADAR_PRECISION_FAST,
                                       .max_rows = 8,
                                       .max_cols = 16384,
                                       .graphs = true};
    radar_error err = {0};
    radar_backend *be = NULL;
    if (strcmp(radar_backends[0]->name, "cuda") != 0)
        printf("# skipped: this build has no CUDA\n");
    else if (radar_backends[0]->open(&be, &opt, &err) != RADAR_OK)
        printf("# skipped: %s\n", err.text);
    return be;
}

static const bench_shape *shape_of(const char *name) {
    for (const bench_shape *s = bench_shapes; s->name; s++)
        if (strcmp(s->name, name) == 0) return s;
    return NULL;
}

static int write_only(const bench_shape *shape, const char *folder) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.gguf", folder, shape->name);
    bench_write_model(shape, path);
    return 0;
}

int main(int n, char **arg) {
    const bool toy = n > 1 && strcmp(arg[n - 1], "--toy") == 0;
    const char *what = n > 1 ? arg[1] : "";
    const bool shaped = n - toy == 4 && shape_of(arg[2]),
               decode = shaped && strcmp(what, "decode") == 0;
    if (shaped && strcmp(what, "model") == 0) return write_only(shape_of(arg[2]), arg[3]);
    if (!decode && strcmp(what, "ceilings") != 0 && strcmp(what, "kernels") != 0) {
        fprintf(stderr, "bench ceilings|kernels [--toy], bench decode|model NAME FOLDER [--toy]\n");
        return 64;
    }
    radar_backend *be = open_device();
    if (!be) return 0;
    if (toy) samples = 1;
    printf("# %s\n", be->ops->describe(be));
    if (strcmp(what, "ceilings") == 0) bench_ceilings(be, toy);
    if (strcmp(what, "kernels") == 0) bench_kernels(be, toy);
    be->ops->close(be);
    if (decode) bench_decode(shape_of(arg[2]), arg[3], toy);
    return 0;
}
