/* Opening an engine: carriers, files, backend and workspace, each stage agreed on by all ranks before the next. */
#include "runtime/engine.h"

#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/device.h"
#include "runtime/sys.h"

/* ---- options ---- */

static char *copy_string(const char *s) {
    size_t bytes = strlen(s) + 1;
    char *copy = radar_alloc(bytes);
    return copy ? memcpy(copy, s, bytes) : NULL;
}

static radar_status check_options(radar_engine *e, const radar_engine_options *opt,
                                  radar_error *err) {
    if (opt->size != sizeof *opt)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "radar_engine_options.size is %zu, not %zu: set it to sizeof", opt->size,
                          sizeof *opt);
    if (!opt->model || !*opt->model)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "no model given: use -m MODEL (a .gguf, a directory, or a repo id)");
    if (opt->threads < 0 || opt->threads > 1024)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--threads %d: must be from 1 to 1024, or 0 for the cores there are",
                          opt->threads);
    if (opt->chunk < 1 || opt->chunk > 4096)
        return radar_fail(err, RADAR_ERR_USAGE, "--chunk %d: must be from 1 to 4096 rows",
                          opt->chunk);
    if (opt->rope_scale != 0 && !(opt->rope_scale >= 1 && opt->rope_scale <= 1e6))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--rope-scale %g: must be from 1 to 1e6, or 0 for the model's",
                          opt->rope_scale);
    if (opt->rope_freq_base != 0 && !(opt->rope_freq_base >= 1 && opt->rope_freq_base <= 1e15))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--rope-freq-base %g: must be from 1 to 1e15, or 0 for the model's",
                          opt->rope_freq_base);
    if (opt->rope_orig_ctx < 0 || opt->rope_orig_ctx > (int64_t)1 << 34)
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--yarn-orig-ctx %lld: must be from 1 to 2^34, or 0 for the model's",
                          (long long)opt->rope_orig_ctx);
    e->layout =
        (radar_layout){.shards = opt->shards, .stripe = opt->stripe, .ranks = e->comm->size};
    if (opt->shards < 1 || opt->shards > RADAR_MAX_SHARDS || (opt->shards & (opt->shards - 1)))
        return radar_fail(err, RADAR_ERR_USAGE, "--shards %d: must be a power of two from 1 to %d",
                          opt->shards, RADAR_MAX_SHARDS);
    if (e->comm->size > opt->shards)
        return radar_fail(
            err, RADAR_ERR_CONFIG,
            "%d ranks, but only %d shards: start at most %d ranks, or raise --shards (at most %d)",
            e->comm->size, opt->shards, opt->shards, RADAR_MAX_SHARDS);
    if (!radar_layout_valid(&e->layout))
        return radar_fail(err, RADAR_ERR_USAGE,
                          "--stripe %d: must be a multiple of 64 from 64 to 65536 tokens",
                          opt->stripe);
    return RADAR_OK;
}

/* Copies one of a few known names, which the caller may free afterwards. */
static radar_status keep_name(char out[16], const char **kept, const char *option,
                              const char *value, const char *known, radar_error *err) {
    char pattern[24];
    snprintf(pattern, sizeof pattern, " %.15s ", value ? value : "");
    if (!value || !*value || strlen(value) > 15 || !strstr(known, pattern))
        return radar_fail(err, RADAR_ERR_USAGE, "--%s '%.40s': not known; use one of:%s", option,
                          value ? value : "", known);
    snprintf(out, 16, "%s", value);
    *kept = out;
    return RADAR_OK;
}

static radar_status keep_options(radar_engine *e, const radar_engine_options *opt,
                                 radar_error *err) {
    radar_status st = check_options(e, opt, err);
    if (st != RADAR_OK) return st;
    e->opt = *opt;
    e->opt.session = NULL; /* the caller's; looked at while the engine opens */
    RADAR_TRY(
        st, keep_name(e->backend, &e->opt.backend, "backend", opt->backend, " auto cpu cuda ", err),
        fail);
    RADAR_TRY(st,
              keep_name(e->precision, &e->opt.precision, "precision", opt->precision,
                        " fast exact ", err),
              fail);
    RADAR_TRY(st,
              keep_name(e->exchange, &e->opt.exchange, "exchange", opt->exchange,
                        " auto nccl staged ", err),
              fail);
    RADAR_TRY(st,
              keep_name(e->weights, &e->opt.weights, "weights", opt->weights, " stored fp8 ", err),
              fail);
    if (opt->rope_scaling)
        RADAR_TRY(st,
                  keep_name(e->rope_scaling, &e->opt.rope_scaling, "rope-scaling",
                            opt->rope_scaling, " none linear yarn dynamic llama3 ", err),
                  fail);
    if (opt->isa)
        RADAR_TRY(st, keep_name(e->isa, &e->opt.isa, "isa", opt->isa, " plain avx2 avx512 ", err),
                  fail);
    if (e->opt.threads == 0) e->opt.threads = radar_cores();
    e->model_path = copy_string(opt->model);
    e->tokenizer_path = opt->tokenizer ? copy_string(opt->tokenizer) : NULL;
    if (!e->model_path || (opt->tokenizer && !e->tokenizer_path))
        st = radar_fail(err, RADAR_ERR_MEMORY, "engine: no memory for its options");
fail:
    return st;
}

/* Everything that decides results, but not what may differ between ranks (threads, paths). */
static uint64_t options_hash(const radar_engine_options *opt) {
    char text[256];
    int n =
        snprintf(text, sizeof text, "%s|%d|%d|%d|%s|%s|%s|%s|%d|%s|%s|%a|%a|%lld|%d", RADAR_VERSION,
                 opt->shards, opt->stripe, opt->chunk, opt->precision, opt->backend, opt->exchange,
                 opt->weights, opt->no_graphs, opt->isa ? opt->isa : "",
                 opt->rope_scaling ? opt->rope_scaling : "", opt->rope_scale, opt->rope_freq_base,
                 (long long)opt->rope_orig_ctx, opt->session != NULL);
    return XXH3_64bits(text, (size_t)n);
}

/* ---- stages ---- */

static radar_status open_comm(radar_comm **out, radar_mpi_comm mpi, radar_error *err) {
#ifdef RADAR_NO_MPI
    (void)mpi;
    return radar_comm_self(out, err);
#else
    if (mpi == MPI_COMM_NULL) return radar_comm_self(out, err);
    return radar_comm_mpi(out, &mpi, err);
#endif
}

static radar_status open_model(radar_engine *e, radar_error *err) {
    const radar_rope_override rope = {e->opt.rope_scaling, e->opt.rope_scale, e->opt.rope_freq_base,
                                      e->opt.rope_orig_ctx};
    radar_status st = radar_model_open(&e->model, e->model_path, err);
    return st == RADAR_OK ? radar_model_set_rope(e->model, &rope, err) : st;
}

radar_status radar_engine_describe(radar_engine *e, const radar_engine_options *opt,
                                   radar_error *err) {
    radar_status st = keep_options(e, opt, err);
    return st == RADAR_OK ? open_model(e, err) : st;
}

static radar_status open_files(radar_engine *e, radar_error *err) {
    radar_status st = open_model(e, err);
    if (st == RADAR_OK && e->comm->rank == 0) st = radar_engine_tokenizer(e, err);
    return st;
}

/* [all ranks] Room for the session that will be opened, while no weight has been read. */
static radar_status check_room(radar_engine *e, const radar_session_options *opt) {
    radar_session s = {.e = e};
    radar_rank_memory own = {0}, none = {0};
    const uint64_t workspace = radar_workspace_bytes(e);
    radar_status st;
    radar_session_shape(&s, opt, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    own = radar_session_memory(&s);
    own.workspace = workspace;
    own.weights = radar_on_device(e) ? radar_device_weight_bytes(e) : radar_weight_bytes(e);
    radar_session_check_memory(&s, &own, &none, &e->err);
    st = radar_agree(e->comm, &e->err);
fail:
    radar_session_unshape(&s);
    return st;
}

/* [all ranks] */
static radar_status open_backend(radar_engine *e) {
    const radar_model_config *c = &e->model->config;
    int64_t cols = radar_max64(radar_max64(c->width, c->inner), (int64_t)c->n_heads * c->head_dim);
    const radar_backend_options opt = {.n_threads = e->opt.threads,
                                       .precision = strcmp(e->opt.precision, "exact") == 0
                                                        ? RADAR_PRECISION_EXACT
                                                        : RADAR_PRECISION_FAST,
                                       .isa = e->opt.isa,
                                       .max_rows = radar_pass_rows(e),
                                       .max_cols = (int)cols,
                                       .device = e->opt.device,
                                       .graphs = !e->opt.no_graphs,
                                       .fp8_weights = strcmp(e->opt.weights, "fp8") == 0,
                                       .slices = e->layout.shards};
    radar_status st = radar_device_open(e, &opt);
    return st == RADAR_OK ? radar_device_carrier(e) : st;
}

/* [this rank] */
static radar_status fill_backend(radar_engine *e, radar_error *err) {
    radar_status st = radar_workspace_open(e, err);
    if (st == RADAR_OK) st = radar_weights_open(e, err);
    return st == RADAR_OK ? e->be->ops->wait(e->be, err) : st;
}

static radar_status open_stages(radar_engine *e, const radar_engine_options *opt) {
    radar_status st;
    keep_options(e, opt, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    RADAR_TRY(st,
              radar_agree_same(e->comm,
                               "options (shards, stripe, chunk, precision, backend, rope) or build",
                               options_hash(opt), &e->err),
              fail);
    radar_report(e, "load", 0, 1);
    open_files(e, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    RADAR_TRY(st,
              radar_agree_same(e->comm, "model file", radar_tensorfile_fingerprint(e->model->file),
                               &e->err),
              fail);
    RADAR_TRY(st, open_backend(e), fail);
    if (opt->session) RADAR_TRY(st, check_room(e, opt->session), fail);
    fill_backend(e, &e->err);
    RADAR_TRY(st, radar_agree(e->comm, &e->err), fail);
    radar_report(e, "load", 1, 1);
fail:
    return st;
}

static void say(char *error, size_t error_bytes, const radar_error *err) {
    if (error && error_bytes) snprintf(error, error_bytes, "%s", err->text);
}

radar_status radar_engine_open_on(radar_engine **out, radar_comm *carrier,
                                  const radar_engine_options *opt, char *error,
                                  size_t error_bytes) {
    radar_error err = {0};
    radar_engine *e = radar_alloc(sizeof *e);
    *out = NULL;
    /* from here on every failure of one rank is known to all */
    if (!e) radar_fail(&err, RADAR_ERR_MEMORY, "engine: no memory");
    radar_status st = radar_agree(carrier, &err);
    if (st != RADAR_OK) {
        say(error, error_bytes, &err);
        radar_free(e);
        radar_comm_close(carrier);
        return st;
    }
    e->comm = carrier;
    st = open_stages(e, opt);
    if (st == RADAR_OK) {
        *out = e;
        return st;
    }
    say(error, error_bytes, &e->err);
    radar_engine_close(e);
    return st;
}

radar_status radar_engine_open(radar_engine **out, radar_mpi_comm comm,
                               const radar_engine_options *opt, char *error, size_t error_bytes) {
    radar_comm *carrier = NULL;
    radar_error err = {0};
    *out = NULL;
    radar_status st = open_comm(&carrier, comm, &err);
    if (st == RADAR_OK) return radar_engine_open_on(out, carrier, opt, error, error_bytes);
    say(error, error_bytes, &err);
    return st;
}

void radar_engine_close(radar_engine *e) {
    if (!e) return;
    if (e->be) {
        radar_weights_close(e);
        radar_workspace_close(e);
        radar_device_leave(e);
        e->be->ops->close(e->be);
    }
    radar_tokenizer_close(e->tokenizer);
    radar_model_close(e->model);
    radar_comm_close(e->comm);
    radar_free(e->model_path);
    radar_free(e->tokenizer_path);
    radar_free(e);
}

/* ---- facts ---- */

const char *radar_last_error(const radar_engine *e) { return e->err.text; }
int radar_rank(const radar_engine *e) { return e->comm->rank; }
int radar_ranks(const radar_engine *e) { return e->comm->size; }

static int64_t elements(const radar_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= t->dim[i];
    return n;
}

static void sum_tensors(const radar_tensorfile *f, radar_model_info *info) {
    uint64_t most = 0;
    for (size_t i = 0; i < radar_tensorfile_count(f); i++) {
        const radar_tensor *t = radar_tensorfile_at(f, i);
        uint64_t bytes = 0;
        info->parameters += elements(t);
        for (size_t j = 0; j < radar_tensorfile_count(f); j++) {
            const radar_tensor *u = radar_tensorfile_at(f, j);
            if (strcmp(u->type_name, t->type_name) == 0) bytes += u->bytes;
        }
        if (bytes > most) most = bytes, info->weight_type = t->type_name;
    }
}

void radar_engine_info(const radar_engine *e, radar_model_info *info) {
    const radar_model_config *c = &e->model->config;
    radar_model_info all = {.size = info->size,
                            .family = c->family,
                            .name = c->name,
                            .path = e->model_path,
                            .backend = e->be ? e->be->ops->describe(e->be) : NULL,
                            .tokenizer =
                                e->tokenizer ? radar_tokenizer_describe(e->tokenizer) : NULL,
                            .layers = c->n_layers,
                            .width = c->width,
                            .heads = c->n_heads,
                            .kv_heads = c->n_kv_heads,
                            .head_dim = c->head_dim,
                            .inner = c->inner,
                            .vocab = c->vocab,
                            .context = c->context,
                            .file_bytes = radar_tensorfile_bytes(e->model->file),
                            .fingerprint = radar_tensorfile_fingerprint(e->model->file),
                            .unscaled_context = c->unscaled,
                            .rope_scaling = radar_rope_scaling_name(c->rope_scaling),
                            .fallback = e->fallback[0] ? e->fallback : NULL,
                            .gpu = e->be ? e->be->ops->facts(e->be).bus : ""};
    sum_tensors(e->model->file, &all);
    memcpy(info, &all, info->size < sizeof all ? info->size : sizeof all);
}

void radar_report(radar_engine *e, const char *what, int64_t done, int64_t total) {
    if (e->opt.progress && e->opt.progress(e->opt.user, what, done, total)) e->stop = true;
}
