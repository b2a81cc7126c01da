/* radar tokenize, radar detokenize: text to ids and back, on rank 0 alone. */
#include <inttypes.h>
#include <stdio.h>

#include "launch/input.h"
#include "launch/launch.h"
#include "launch/output.h"
#include "runtime/sys.h"

static radar_status write_ids(launch_job *job, launch_output *out, const launch_input *in) {
    radar_status st = launch_output_open(out, NULL, &job->err);
    for (size_t i = 0; i < in->n && st == RADAR_OK; i++) {
        char text[16];
        const int bytes = snprintf(text, sizeof text, "%c%" PRId32, i == 0 ? '[' : ',', in->ids[i]);
        st = launch_output_write(out, text, (size_t)bytes, &job->err);
    }
    if (st == RADAR_OK) st = launch_output_write(out, "]\n", 2, &job->err);
    return st == RADAR_OK ? launch_output_close(out, &job->err) : st;
}

static radar_status write_bytes(launch_job *job, launch_output *out, const launch_input *in) {
    char *text = NULL;
    size_t bytes = 0;
    radar_status st = radar_detokenize(job->engine, in->ids, in->n, 0, &text, &bytes);
    if (st != RADAR_OK) return launch_library_failed(job, st);
    st = launch_output_open(out, NULL, &job->err);
    if (st == RADAR_OK) st = launch_output_write(out, text, bytes, &job->err);
    if (st == RADAR_OK) st = launch_output_close(out, &job->err);
    radar_release(text);
    return st;
}

/* Both ways: text or ids in (ids are checked against the vocabulary), the other out. */
static radar_status convert(launch_job *job, radar_status (*write)(launch_job *, launch_output *,
                                                                   const launch_input *)) {
    launch_input in = {0};
    launch_output *out = radar_alloc(sizeof *out);
    radar_status st =
        out != NULL ? RADAR_OK : radar_fail(&job->err, RADAR_ERR_MEMORY, "no memory for output");
    if (st == RADAR_OK) st = launch_input_read(job, &in);
    if (st == RADAR_OK) st = launch_open_engine(job, true);
    if (st == RADAR_OK) st = launch_input_tokenize(job, &in);
    if (st == RADAR_OK) st = write(job, out, &in);
    launch_input_free(&in);
    radar_free(out);
    return st;
}

radar_status launch_tokenize(launch_job *job) { return convert(job, write_ids); }

radar_status launch_detokenize(launch_job *job) { return convert(job, write_bytes); }
