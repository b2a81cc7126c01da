/* model_fixture.h - the tiny model with a configuration of one's own. */
#ifndef MODEL_FIXTURE_H
#define MODEL_FIXTURE_H

#include "runtime/model/model_internal.h"
#include "tests/unit/make_files.h"

/* `more` stands at the end of its configuration; b keeps its file. */
static inline radar_model *from_config(const char *more, blob *b) {
    radar_tensorfile *tf = NULL;
    radar_model *m = NULL;
    radar_error err = {0};
    char config[2048];
    snprintf(config, sizeof config, TINY_CONFIG "%s}", more);
    *b = tiny_safetensors();
    if (radar_tensorfile_open_memory(&tf, b->data, b->n, config, &err) ||
        radar_model_from_file(&m, tf, &err))
        fail_msg("%s: %s", more, err.text);
    return m;
}

#endif
