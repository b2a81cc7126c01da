#include "runtime/sys.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* From this size on memory comes as fresh pages: zero already, touched first by whoever uses it. */
#define PAGES_FROM ((size_t)1 << 20)
#define HUGE_PAGE ((size_t)2 << 20)
#define HEADER 64

/* Fresh pages, huge ones where the system allows it and they fit: a walk through page tables less for every scattered segment.
 * Room for one more is mapped and given back, so that they can begin at their own multiples.  Nothing is touched. */
static void *map_pages(size_t bytes) {
    size_t all, page = (size_t)sysconf(_SC_PAGESIZE);
    if (__builtin_add_overflow(bytes, HUGE_PAGE + page, &all)) return NULL;
    char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    size_t used = (bytes + page - 1) / page * page, behind = (all - before - used) / page * page;
    if (before) munmap(p, before);
    if (behind) munmap(p + before + used, behind);
    madvise(p + before, used, MADV_HUGEPAGE); /* a refusal changes nothing */
    return p + before;
}

static void *system_alloc(size_t bytes) {
    if (bytes >= PAGES_FROM) return map_pages(bytes);
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes)) return NULL;
    return memset(p, 0, bytes);
}

static void system_release(void *memory, size_t bytes) {
    if (bytes >= PAGES_FROM)
        munmap(memory, bytes);
    else
        free(memory);
}

static long system_write(int fd, const void *data, size_t bytes) { return write(fd, data, bytes); }

static double system_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t system_available(void) {
    char line[128];
    size_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %zu", &kib) == 1) break;
    fclose(f);
    return kib * 1024;
}

radar_sys radar_sys_table = {system_alloc, system_release, system_write, system_clock,
                             system_available};

static atomic_long live;

void *radar_alloc(size_t bytes) {
    size_t total;
    if (bytes == 0 || __builtin_add_overflow(bytes, (size_t)HEADER, &total)) return NULL;
    char *p = radar_sys_table.alloc(total);
    if (!p) return NULL;
    memcpy(p, &total, sizeof total);
    atomic_fetch_add(&live, 1);
    return p + HEADER;
}

void *radar_alloc_array(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return radar_alloc(bytes);
}

void radar_free(void *memory) {
    if (!memory) return;
    char *p = (char *)memory - HEADER;
    size_t total;
    memcpy(&total, p, sizeof total);
    atomic_fetch_sub(&live, 1);
    radar_sys_table.release(p, total);
}

long radar_alloc_live(void) { return atomic_load(&live); }

double radar_clock(void) { return radar_sys_table.clock(); }

size_t radar_memory_available(void) { return radar_sys_table.available(); }

void radar_host_name(char *out, size_t bytes) {
    if (gethostname(out, bytes) != 0) out[0] = 0;
    out[bytes - 1] = 0;
}

int radar_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}
