#include "runtime/model/model.h"

#include <string.h>
#include <unistd.h>

#include "runtime/model/model_internal.h"
#include "runtime/sys.h"

static radar_status read_model(radar_model *m, radar_error *err) {
    radar_model_plan plan = {0};
    radar_status st = radar_tensorfile_is_gguf(m->file)
                          ? radar_model_read_gguf(&m->config, &plan, m->file, err)
                          : radar_model_read_hf(&m->config, &plan, m->file, err);
    if (st == RADAR_OK)
        st = radar_model_check_config(&m->config, &plan, radar_tensorfile_path(m->file), err);
    return st == RADAR_OK ? radar_model_load(m, &plan, err) : st;
}

radar_status radar_model_from_file(radar_model **out, radar_tensorfile *tf, radar_error *err) {
    *out = NULL;
    radar_model *m = radar_alloc(sizeof *m);
    if (!m) {
        radar_tensorfile_close(tf);
        return radar_fail(err, RADAR_ERR_MEMORY, "no memory for a model");
    }
    m->file = tf;
    radar_status st = read_model(m, err);
    if (st == RADAR_OK)
        *out = m;
    else
        radar_model_close(m);
    return st;
}

radar_status radar_model_open(radar_model **out, const char *path, radar_error *err) {
    radar_tensorfile *tf = NULL;
    char *cached = NULL;
    radar_status st = RADAR_OK;
    *out = NULL;
    if (access(path, F_OK)) st = radar_hfcache_find(&cached, path, err);
    if (st == RADAR_OK) st = radar_tensorfile_open(&tf, cached ? cached : path, err);
    if (st == RADAR_OK) st = radar_model_from_file(out, tf, err);
    if (st == RADAR_OK && cached) radar_model_set_name(&(*out)->config, path, strlen(path));
    radar_free(cached);
    return st;
}

static void free_layer(radar_layer *l) {
    float *const vectors[] = {l->attn_norm, l->ffn_norm, l->q_norm,   l->k_norm,
                              l->q_bias,    l->k_bias,   l->v_bias,   l->o_bias,
                              l->gate_bias, l->up_bias,  l->down_bias};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) radar_free(vectors[i]);
}

void radar_model_close(radar_model *m) {
    if (!m) return;
    for (int i = 0; m->layer && i < m->config.n_layers; i++) free_layer(&m->layer[i]);
    radar_free(m->layer);
    radar_free(m->rope_frequency);
    radar_free(m->rope_divisor);
    radar_free(m->final_norm);
    radar_tensorfile_close(m->file);
    radar_free(m);
}
