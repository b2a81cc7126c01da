/* radar inspect: what is in a model file.  Reads headers only; no weight is touched and no engine opened. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "launch/json_out.h"
#include "launch/launch.h"
#include "runtime/model/model.h"
#include "runtime/text/tokenizer.h"

enum { TYPES = 40 };

/* Tensors of one type, in the order they are met. */
typedef struct type_sum {
    const char *name;
    int64_t tensors;
    uint64_t bytes;
} type_sum;

typedef struct inspected {
    radar_model *model;
    radar_tokenizer *tokenizer; /* NULL: none */
    type_sum type[TYPES];
    int n_types;
} inspected;

static void add_tensor(inspected *x, const radar_tensor *t) {
    int i = 0;
    while (i < x->n_types && strcmp(x->type[i].name, t->type_name) != 0) i++;
    if (i == TYPES) return;
    if (i == x->n_types) x->type[x->n_types++] = (type_sum){.name = t->type_name};
    x->type[i].tensors++;
    x->type[i].bytes += t->bytes;
}

static const char *tokenizer_name(const inspected *x) {
    return x->tokenizer != NULL ? radar_tokenizer_describe(x->tokenizer) : "none";
}

static void print_lines(const inspected *x) {
    const radar_model_config *c = &x->model->config;
    const radar_tensorfile *f = x->model->file;
    char size[LAUNCH_BYTES_TEXT];
    printf("name        %s\n", c->name);
    printf("path        %s\n", radar_tensorfile_path(f));
    printf("family      %s\n", c->family);
    printf("layers      %d, width %d, inner %d\n", c->n_layers, c->width, c->inner);
    printf("heads       %d query, %d key/value, %d wide\n", c->n_heads, c->n_kv_heads, c->head_dim);
    printf("vocabulary  %d, output %s\n", c->vocab,
           c->tied ? "tied to the embedding" : "of its own");
    printf("context     %" PRId64 " tokens\n", c->context);
    printf("rope        theta %.9g, %d of %d dimensions, scaling %s", c->rope_theta, c->rotary,
           c->head_dim, radar_rope_scaling_name(c->rope_scaling));
    if (c->rope_scaling != RADAR_ROPE_SCALING_NONE) printf(" by %.9g", c->rope_factor);
    printf("\ntokenizer   %s\n", tokenizer_name(x));
    printf("tensors     %zu, files %s\n", radar_tensorfile_count(f),
           launch_bytes(size, (double)radar_tensorfile_bytes(f)));
    for (int i = 0; i < x->n_types; i++)
        printf("  %-9s %" PRId64 " tensors, %s\n", x->type[i].name, x->type[i].tensors,
               launch_bytes(size, (double)x->type[i].bytes));
}

static json_t *types_array(launch_json *j, const inspected *x) {
    json_t *array = json_array();
    for (int i = 0; i < x->n_types; i++) {
        json_t *row =
            json_pack("{s:s, s:I, s:I}", "type", x->type[i].name, "tensors",
                      (json_int_t)x->type[i].tensors, "bytes", (json_int_t)x->type[i].bytes);
        if (json_array_append_new(array, row) != 0) j->failed = true;
    }
    return array;
}

static radar_status print_json(launch_job *job, const inspected *x) {
    const radar_model_config *c = &x->model->config;
    const radar_tensorfile *f = x->model->file;
    char mark[24];
    launch_json j = launch_json_open();
    launch_json_text(&j, "family", c->family, strlen(c->family));
    launch_json_text(&j, "name", c->name, strlen(c->name));
    launch_json_text(&j, "path", radar_tensorfile_path(f), strlen(radar_tensorfile_path(f)));
    launch_json_int(&j, "layers", c->n_layers);
    launch_json_int(&j, "width", c->width);
    launch_json_int(&j, "inner", c->inner);
    launch_json_int(&j, "heads", c->n_heads);
    launch_json_int(&j, "kv_heads", c->n_kv_heads);
    launch_json_int(&j, "head_dim", c->head_dim);
    launch_json_int(&j, "vocab", c->vocab);
    launch_json_set(&j, "tied", json_boolean(c->tied));
    launch_json_int(&j, "context", c->context);
    launch_json_set(&j, "rope",
                    json_pack("{s:f, s:i, s:s, s:f}", "theta", c->rope_theta, "dimensions",
                              c->rotary, "scaling", radar_rope_scaling_name(c->rope_scaling),
                              "factor", c->rope_factor));
    launch_json_text(&j, "tokenizer", tokenizer_name(x), strlen(tokenizer_name(x)));
    launch_json_int(&j, "tensors", (int64_t)radar_tensorfile_count(f));
    launch_json_set(&j, "tensor_types", types_array(&j, x));
    launch_json_int(&j, "file_bytes", (int64_t)radar_tensorfile_bytes(f));
    snprintf(mark, sizeof mark, "%016" PRIx64, radar_tensorfile_fingerprint(f));
    launch_json_text(&j, "fingerprint", mark, strlen(mark));
    return launch_json_print(job, &j);
}

radar_status launch_inspect(launch_job *job) {
    inspected x = {0};
    radar_status st = radar_model_open(&x.model, job->opt->model, &job->err);
    if (st == RADAR_OK)
        st = radar_tokenizer_open(&x.tokenizer, x.model->file, job->opt->tokenizer, &job->err);
    if (st == RADAR_OK) {
        for (size_t i = 0; i < radar_tensorfile_count(x.model->file); i++)
            add_tensor(&x, radar_tensorfile_at(x.model->file, i));
        if (job->opt->json) {
            print_json(job, &x);
        } else {
            print_lines(&x);
            if (fflush(stdout) != 0 || ferror(stdout))
                radar_fail(&job->err, RADAR_ERR_IO, "stdout: write failed");
        }
    }
    radar_tokenizer_close(x.tokenizer);
    radar_model_close(x.model);
    return job->err.status;
}
