/* output.h - bytes that must arrive: files and stdout through one checked, buffered writer.
 *
 * Short writes are continued, a full disk or a closed pipe is RADAR_ERR_IO, a file that cannot be made RADAR_ERR_CREATE. */
#ifndef RADAR_LAUNCH_OUTPUT_H
#define RADAR_LAUNCH_OUTPUT_H

#include "runtime/base.h"

typedef struct launch_output {
    int fd; /* -1: closed */
    const char *name;
    size_t used;
    uint64_t written;
    char buffer[1 << 16];
} launch_output;

/* [this rank] path NULL: stdout.  An existing file is emptied. */
radar_status launch_output_open(launch_output *out, const char *path, radar_error *err);
radar_status launch_output_write(launch_output *out, const void *data, size_t bytes,
                                 radar_error *err);
radar_status launch_output_flush(launch_output *out, radar_error *err);
/* [this rank] Flushes unless err holds an error already, closes and checks that too.  A closed one is fine. */
radar_status launch_output_close(launch_output *out, radar_error *err);

#endif
