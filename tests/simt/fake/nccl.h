/* nccl.h - the fake NCCL's functions, and what it has counted.  Tests find fake_nccl in the library by dlsym. */
#ifndef RADAR_TEST_FAKE_NCCL_H
#define RADAR_TEST_FAKE_NCCL_H

#include <stdbool.h>
#include <stddef.h>

typedef struct fake_nccl_counts {
    int open, aborts;              /* communicators */
    int all_gathers, broadcasts;   /* done */
    int groups, memories, windows; /* open */
    int since_failing;
} fake_nccl_counts;

struct fake_comm;
struct fake_id {
    char bytes[128];
};

extern fake_nccl_counts fake_nccl;
int ncclGetVersion(int *version);
const char *ncclGetErrorString(int result);
int ncclGetUniqueId(struct fake_id *id);
int ncclCommInitRank(struct fake_comm **out, int n, struct fake_id id, int rank);
int ncclCommDestroy(struct fake_comm *c);
int ncclCommAbort(struct fake_comm *c);
int ncclCommGetAsyncError(struct fake_comm *c, int *result);
int ncclAllGather(const void *send, void *receive, size_t count, int type, struct fake_comm *c,
                  void *stream);
int ncclBroadcast(const void *send, void *receive, size_t count, int type, int root,
                  struct fake_comm *c, void *stream);
int ncclGroupStart(void);
int ncclGroupEnd(void);
int ncclMemAlloc(void **memory, size_t bytes);
int ncclMemFree(void *memory);
int ncclCommWindowRegister(struct fake_comm *c, void *memory, size_t bytes, void **window,
                           int flags);
int ncclCommWindowDeregister(struct fake_comm *c, void *window);

#endif
