/* json_out.h - the one JSON object of --json, its keys in the order they are set. */
#ifndef RADAR_LAUNCH_JSON_OUT_H
#define RADAR_LAUNCH_JSON_OUT_H

#include <jansson.h>

#include "launch/launch.h"

/* Missing memory shows at the end: setting a key in a NULL object, or NULL as its value, leaves `failed`. */
typedef struct launch_json {
    json_t *object;
    bool failed;
} launch_json;

/* Bytes that are no UTF-8 become U+FFFD: a name in another encoding is no reason to lose figures.  NULL: no memory. */
json_t *launch_json_string(const char *text, size_t bytes);
launch_json launch_json_open(void);
void launch_json_set(launch_json *j, const char *key, json_t *value); /* takes value */
void launch_json_int(launch_json *j, const char *key, int64_t value);
void launch_json_real(launch_json *j, const char *key,
                      double value); /* null when it is not finite */
void launch_json_text(launch_json *j, const char *key, const char *text, size_t bytes);
void launch_json_ids(launch_json *j, const char *key, const int32_t *token, size_t n);
void launch_json_sizes(launch_json *j, const char *key, const uint64_t *bytes, int n);
/* What the session says of itself: attended tokens, coverage, segments, bytes per rank. */
void launch_json_stats(launch_json *j, const radar_session_stats *stats);
/* [this rank] One line on stdout; frees j. */
radar_status launch_json_print(launch_job *job, launch_json *j);

#endif
