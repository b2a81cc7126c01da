#include "launch/json_out.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "launch/output.h"
#include "runtime/sys.h"

launch_json launch_json_open(void) { return (launch_json){.object = json_object()}; }

void launch_json_set(launch_json *j, const char *key, json_t *value) {
    if (json_object_set_new(j->object, key, value) != 0) j->failed = true;
}

void launch_json_int(launch_json *j, const char *key, int64_t value) {
    launch_json_set(j, key, json_integer(value));
}

void launch_json_real(launch_json *j, const char *key, double value) {
    launch_json_set(j, key, isfinite(value) ? json_real(value) : json_null());
}

json_t *launch_json_string(const char *text, size_t bytes) {
    json_t *string = json_stringn(text != NULL ? text : "", bytes);
    char *whole = string == NULL ? radar_alloc_array(bytes + 1, 3) : NULL;
    size_t used = 0;
    if (whole == NULL) return string;
    for (size_t at = 0; at < bytes;) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                    (utf8proc_ssize_t)(bytes - at), &c);
        memcpy(whole + used, n > 0 ? text + at : "\xef\xbf\xbd", n > 0 ? (size_t)n : 3);
        used += n > 0 ? (size_t)n : 3;
        at += n > 0 ? (size_t)n : 1;
    }
    string = json_stringn(whole, used);
    radar_free(whole);
    return string;
}

void launch_json_text(launch_json *j, const char *key, const char *text, size_t bytes) {
    launch_json_set(j, key, launch_json_string(text, bytes));
}

void launch_json_ids(launch_json *j, const char *key, const int32_t *token, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(array, json_integer(token[i])) != 0) j->failed = true;
    launch_json_set(j, key, array);
}

void launch_json_sizes(launch_json *j, const char *key, const uint64_t *bytes, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n; i++)
        if (json_array_append_new(array, json_integer((json_int_t)bytes[i])) != 0) j->failed = true;
    launch_json_set(j, key, array);
}

void launch_json_stats(launch_json *j, const radar_session_stats *stats) {
    launch_json_int(j, "ranks", stats->ranks);
    launch_json_int(j, "context", stats->context);
    launch_json_int(j, "segments_scored", stats->segments_scored);
    launch_json_int(j, "candidate_shards", stats->candidate_shards);
    launch_json_real(j, "attended_tokens_mean", stats->attended_tokens_mean);
    launch_json_real(j, "prefill_attended_tokens_mean", stats->prefill_attended_tokens_mean);
    launch_json_real(j, "coverage_mean", stats->coverage_mean);
    launch_json_real(j, "coverage_min", stats->coverage_min);
    launch_json_sizes(j, "kv_bytes", stats->kv_bytes, stats->ranks);
    launch_json_sizes(j, "summary_bytes", stats->summary_bytes, stats->ranks);
    launch_json_real(j, "exchange_s", stats->exchange_s);
}

radar_status launch_json_print(launch_job *job, launch_json *j) {
    char *text =
        j->failed
            ? NULL
            : json_dumps(j->object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
    launch_output *out = radar_alloc(sizeof *out);
    radar_status st = RADAR_OK;
    if (text == NULL || out == NULL)
        st = radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for the JSON object");
    else {
        launch_output_open(out, NULL, &job->err);
        st = launch_output_write(out, text, strlen(text), &job->err);
        if (st == RADAR_OK) st = launch_output_write(out, "\n", 1, &job->err);
        if (st == RADAR_OK) st = launch_output_close(out, &job->err);
    }
    free(text);
    radar_free(out);
    json_decref(j->object);
    *j = (launch_json){0};
    return st;
}
