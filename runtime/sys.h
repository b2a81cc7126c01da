/* sys.h - everything the library asks of the operating system and that can fail or differ from run to run:
 * memory, file writes, the clock.  One table, so that a test can make the n-th call fail. */
#ifndef RADAR_SYS_H
#define RADAR_SYS_H

#include <stddef.h>

typedef struct radar_sys {
    /* 64-byte aligned, zeroed; NULL when there is no memory.  bytes > 0. */
    void *(*alloc)(size_t bytes);
    void (*release)(void *memory, size_t bytes);
    /* write(2): bytes written, or -1 with errno. */
    long (*write)(int fd, const void *data, size_t bytes);
    /* Seconds on a monotonic clock. */
    double (*clock)(void);
    /* Bytes of memory that could be had now; 0 = unknown. */
    size_t (*available)(void);
} radar_sys;

/* The table in use.  Tests replace its entries before they open anything; nothing else writes it. */
extern radar_sys radar_sys_table;

/* [this rank] Zeroed, 64-byte aligned memory through the table; NULL on failure or when bytes == 0. */
void *radar_alloc(size_t bytes);
/* [this rank] Zeroed memory for count objects of size bytes; NULL on failure, overflow or 0. */
void *radar_alloc_array(size_t count, size_t size);
/* [this rank] NULL is fine. */
void radar_free(void *memory);
/* [this rank] Blocks handed out by radar_alloc and not freed yet: 0 after a clean shutdown. */
long radar_alloc_live(void);
double radar_clock(void);
size_t radar_memory_available(void);
/* Name of this machine, cut to fit. */
void radar_host_name(char *out, size_t bytes);
/* Processors this process may run on, >= 1. */
int radar_cores(void);

#endif
