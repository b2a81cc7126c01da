/* tokenizer_json.h - what the two files that read tokenizer.json share. */
#ifndef RADAR_TOKENIZER_JSON_H
#define RADAR_TOKENIZER_JSON_H

#include <jansson.h>

#include "runtime/text/tokenizer_internal.h"

bool radar_json_is(const json_t *object, const char *key, const char *value);
const char *radar_json_type(const json_t *object); /* "" when there is none */
bool radar_json_flag(const json_t *object, const char *key, bool otherwise);
/* Refuses an object that has a key which is not in the list (NULL-terminated). */
radar_status radar_json_only(const json_t *object, const char *where, const char *const *known,
                             radar_error *err);

/* The parts around the model; absent or null is fine. */
radar_status radar_json_normalizer(radar_tokenizer *t, const json_t *part, radar_error *err);
radar_status radar_json_pre_tokenizer(radar_tokenizer *t, const json_t *part, radar_error *err);
radar_status radar_json_post_processor(radar_tokenizer *t, const json_t *part, radar_error *err);
radar_status radar_json_decoder(radar_tokenizer *t, const json_t *part, radar_error *err);

#endif
