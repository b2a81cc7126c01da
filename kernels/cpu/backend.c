/* The CPU backend: opens, and lists its operations. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#include "runtime/sys.h"

static void cpu_close(radar_backend *be) {
    if (!be) return;
    radar_free(radar_cpu_of(be)->scratch);
    radar_free(be);
}

static radar_status cpu_open(radar_backend **out, const radar_backend_options *opt,
                             radar_error *err) {
    *out = NULL;
    bool ok;
    radar_isa isa = radar_cpu_isa(opt->isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", opt->isa);
    radar_cpu *cpu = radar_alloc(sizeof *cpu);
    size_t bytes = radar_cpu_matmul_scratch(opt);
    void *scratch = radar_alloc(bytes);
    if (!cpu || !scratch) {
        radar_free(scratch);
        radar_free(cpu);
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "backend scratch: no memory for %zu bytes; use a smaller --chunk", bytes);
    }
    extern const radar_backend_ops radar_cpu_backend;
    *cpu = (radar_cpu){.base = {&radar_cpu_backend},
                       .opt = *opt,
                       .isa = isa,
                       .scratch = scratch,
                       .scratch_bytes = bytes};
    snprintf(cpu->description, sizeof cpu->description, "cpu (%s%s), %d thread%s",
             isa.avx512 ? "avx512, vnni"
             : isa.avx2 ? "avx2"
                        : "plain C",
             isa.bf16 ? ", bf16" : "", opt->n_threads, opt->n_threads == 1 ? "" : "s");
    *out = &cpu->base;
    return RADAR_OK;
}

static const char *cpu_describe(const radar_backend *be) {
    return ((const radar_cpu *)be)->description;
}

/* All of it is done at once. */
static void cpu_clear(radar_backend *be, void *memory, size_t bytes) {
    (void)be;
    memset(memory, 0, bytes);
}

static void cpu_upload(radar_backend *be, void *device, const void *host, size_t bytes) {
    (void)be;
    memcpy(device, host, bytes);
}

static void cpu_fetch(radar_backend *be, void *host, const void *device, size_t bytes) {
    (void)be;
    memcpy(host, device, bytes);
}

static radar_status cpu_wait(radar_backend *be, radar_error *err) {
    (void)be, (void)err;
    return RADAR_OK;
}

static radar_device_facts cpu_facts(const radar_backend *be) {
    (void)be;
    return (radar_device_facts){.bus = ""};
}

static radar_status cpu_check(const radar_backend *be, const radar_needs *needs, radar_error *err) {
    (void)be;
    if (needs->kv_type != RADAR_FP8) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_CONFIG,
                      "--kv-type fp8: of the CUDA backend; use q8, which takes as much memory");
}

/* A scorer's tables are where they were made. */
static radar_status cpu_adopt(radar_backend *be, radar_scorer *scorer, radar_error *err) {
    (void)be, (void)scorer, (void)err;
    return RADAR_OK;
}

static void cpu_forget(radar_backend *be, radar_scorer *scorer) { (void)be, (void)scorer; }

static void *cpu_alloc(radar_backend *be, size_t bytes) {
    (void)be;
    return radar_alloc(bytes);
}

static void cpu_release(radar_backend *be, void *memory) {
    (void)be;
    radar_free(memory);
}

const radar_backend_ops radar_cpu_backend = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .facts = cpu_facts,
    .check = cpu_check,
    .adopt = cpu_adopt,
    .forget = cpu_forget,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .clear = cpu_clear,
    .upload = cpu_upload,
    .fetch = cpu_fetch,
    .wait = cpu_wait,
    .embed = radar_cpu_embed,
    .norm = radar_cpu_norm,
    .pack_bytes = radar_cpu_pack_bytes,
    .pack = radar_cpu_pack,
    .matmul = radar_cpu_matmul,
    .angles = radar_cpu_angles,
    .rotate = radar_cpu_rotate,
    .gate = radar_cpu_gate,
    .add = radar_cpu_add,
    .odd = radar_cpu_odd,
    .append = radar_cpu_append,
    .restore = radar_cpu_restore,
    .seal = radar_cpu_seal,
    .unite = radar_cpu_unite,
    .query = radar_cpu_query,
    .score = radar_cpu_score,
    .topk = radar_cpu_topk,
    .choose = radar_cpu_choose,
    .attend = radar_cpu_attend,
    .weigh = radar_cpu_weigh,
    .merge = radar_cpu_merge,
    .sum = radar_cpu_sum,
    .missed = radar_cpu_missed,
    .arrange = radar_cpu_arrange,
    .take = radar_cpu_take,
    .finish = radar_cpu_finish,
    .copy = radar_cpu_copy,
    .touch = radar_cpu_touch,
    .read = radar_cpu_read,
};
