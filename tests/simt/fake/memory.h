/* memory.h - device memory of the fake: pages that nobody can touch but between open and close. */
#ifndef SIMT_FAKE_MEMORY_H
#define SIMT_FAKE_MEMORY_H

#include <cstddef>

namespace fake {

enum class place { device, pinned, pageable };

void *allocate(size_t bytes, place where); /* aligned to 256; NaN */
bool release(void *p, place where);
/* Where [p, p + bytes) lies; pageable too when it only begins in an allocation. */
place place_of(const void *p, size_t bytes);
size_t device_bytes(); /* allocated */

void open_all();
void open_at(const void *p); /* the allocation that p is in; none: nothing */
void close_all();
void kernel_runs(const char *name); /* for the line in which the program dies; NULL: the host */

} // namespace fake

#endif
