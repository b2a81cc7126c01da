#include "launch/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "runtime/sys.h"

radar_status launch_output_open(launch_output *out, const char *path, radar_error *err) {
    out->used = 0;
    out->written = 0;
    out->name = path != NULL ? path : "stdout";
    out->fd =
        path != NULL ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : STDOUT_FILENO;
    if (out->fd >= 0) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_CREATE,
                      "%s: cannot be created: %s; name a place that can be written", path,
                      strerror(errno));
}

static radar_status write_all(launch_output *out, const char *data, size_t bytes,
                              radar_error *err) {
    while (bytes > 0) {
        const long n = radar_sys_table.write(out->fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return radar_fail(err, RADAR_ERR_IO, "%s: write failed after %llu bytes: %s", out->name,
                              (unsigned long long)out->written,
                              n < 0 ? strerror(errno) : "nothing was taken");
        data += n;
        bytes -= (size_t)n;
        out->written += (uint64_t)n;
    }
    return RADAR_OK;
}

radar_status launch_output_flush(launch_output *out, radar_error *err) {
    const size_t n = out->used;
    out->used = 0;
    return write_all(out, out->buffer, n, err);
}

radar_status launch_output_write(launch_output *out, const void *data, size_t bytes,
                                 radar_error *err) {
    if (bytes > sizeof out->buffer - out->used) {
        const radar_status st = launch_output_flush(out, err);
        if (st != RADAR_OK) return st;
    }
    if (bytes > sizeof out->buffer) return write_all(out, data, bytes, err);
    memcpy(out->buffer + out->used, data, bytes);
    out->used += bytes;
    return RADAR_OK;
}

radar_status launch_output_close(launch_output *out, radar_error *err) {
    if (out->fd < 0) return RADAR_OK;
    radar_status st = RADAR_OK;
    if (err->status == RADAR_OK) st = launch_output_flush(out, err);
    /* stdout stays open for the C library; its errors showed in write. */
    if (out->fd != STDOUT_FILENO && close(out->fd) != 0 && st == RADAR_OK)
        st = radar_fail(err, RADAR_ERR_IO, "%s: close failed: %s", out->name, strerror(errno));
    out->fd = -1;
    return st;
}
