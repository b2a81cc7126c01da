#include "runtime/model/tensorfile_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/sys.h"

#define TAIL 160

const char *radar_path_tail(const char *path) {
    size_t n = strlen(path);
    return n > TAIL ? path + n - TAIL : path;
}

char *radar_path_join(const char *folder, const char *name) {
    size_t a = strlen(folder), b = strlen(name);
    while (a > 1 && folder[a - 1] == '/') a--;
    char *path = radar_alloc(a + b + 2);
    if (!path) return NULL;
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b);
    return path;
}

radar_shown radar_show(const char *text, size_t bytes) {
    radar_shown s;
    size_t room = sizeof s.text - 1, n = bytes < room ? bytes : room;
    for (size_t i = 0; i < n; i++)
        s.text[i] = text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]; /* char may be signed */
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s.text[i] >= 0x80) s.text[i] = '?';
    s.text[n] = 0;
    if (bytes > room) memcpy(s.text + room - 3, "...", 3);
    return s;
}

static radar_status open_failed(const char *path, int error, radar_error *err) {
    const char *tail = radar_path_tail(path);
    if (error == ENOENT || error == ENOTDIR)
        return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: no such file; check the path", tail);
    if (error == EACCES || error == EPERM)
        return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: %s; make it readable", tail,
                          strerror(error));
    return radar_fail(err, RADAR_ERR_NO_INPUT, "%s: cannot be opened: %s", tail, strerror(error));
}

/* The size of an open regular file that can be mapped. */
static radar_status check_file(size_t *bytes, int fd, const char *path, radar_error *err) {
    struct stat s;
    const char *tail = radar_path_tail(path);
    if (fstat(fd, &s)) return open_failed(path, errno, err);
    if (!S_ISREG(s.st_mode))
        return radar_fail(err, RADAR_ERR_DATA, "%s: is no regular file; name a model file", tail);
    if (s.st_size <= 0)
        return radar_fail(err, RADAR_ERR_DATA, "%s: is empty; fetch the file again", tail);
    if ((uintmax_t)s.st_size > SIZE_MAX / 2)
        return radar_fail(err, RADAR_ERR_DATA, "%s: %jd bytes are more than this machine can map",
                          tail, (intmax_t)s.st_size);
    *bytes = (size_t)s.st_size;
    return RADAR_OK;
}

radar_status radar_mapping_open(radar_mapping *m, const char *path, radar_error *err) {
    *m = (radar_mapping){0};
    /* without O_NONBLOCK a fifo would wait for a writer */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return open_failed(path, errno, err);
    size_t bytes = 0;
    radar_status st = check_file(&bytes, fd, path, err);
    if (st == RADAR_OK) {
        void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        if (data == MAP_FAILED)
            st = radar_fail(err, RADAR_ERR_MEMORY,
                            "%s: %zu bytes cannot be mapped: %s; check ulimit -v",
                            radar_path_tail(path), bytes, strerror(errno));
        else
            *m = (radar_mapping){data, bytes, true};
    }
    close(fd);
    return st;
}

void radar_mapping_close(radar_mapping *m) {
    if (m->mapped) munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (radar_mapping){0};
}

void radar_mapping_rest(const radar_mapping *m) {
    if (m->mapped) madvise((void *)(uintptr_t)m->data, m->bytes, MADV_DONTNEED);
}
