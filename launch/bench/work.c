/* From the library's phases to kinds of work: which bytes were weights, which summaries, which keys and values. */
#include <math.h>
#include <string.h>

#include "launch/bench/bench.h"

static bool begins(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_attention(const char *name) {
    static const char *const parts[] = {"scan", "top-k", "attend", "seal", "append"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(name, parts[i]) == 0) return true;
    return false;
}

static void add_phase(bench_work *w, const radar_phase *p) {
    if (begins(p->name, "matmul")) w->weight_bytes += p->bytes, w->weight_s += p->seconds;
    if (strcmp(p->name, "scan") == 0) w->summary_bytes += p->bytes, w->scan_s += p->seconds;
    if (strcmp(p->name, "attend") == 0) w->kv_bytes += p->bytes, w->attend_s += p->seconds;
    if (is_attention(p->name)) w->attention_s += p->seconds;
    if (begins(p->name, "exchange")) w->exchange_s += p->seconds;
}

void bench_work_add(bench_work *w, const radar_phase *phase, size_t n, int64_t tokens) {
    w->phases = n > 0;
    if (n == 0) w->attention_s = NAN;
    if (n == 0) return;
    json_decref(w->list);
    w->list = json_array();
    for (size_t i = 0; i < n; i++) {
        add_phase(w, &phase[i]);
        const double each = 1.0 / (double)tokens;
        json_array_append_new(w->list, json_pack("{s:s, s:f, s:f, s:f}", "name", phase[i].name,
                                                 "ms", 1e3 * phase[i].seconds * each, "bytes",
                                                 phase[i].bytes * each, "calls",
                                                 (double)phase[i].calls * each));
    }
}
