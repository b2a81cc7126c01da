/* queue.h: lists that come again, as graphs. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/cuda/queue_internal.h"

#define FEWEST 8 /* commands of a graph: for less, launching it costs as much */
#define SEEN (sizeof((radar_cuda_queue *)0)->seen / sizeof(uint64_t))

static uint64_t hash_of(const radar_cuda_queue *q, size_t begin, size_t end,
                        const unsigned char *data, size_t data_bytes) {
    const uint64_t args = data_bytes ? XXH3_64bits(data, data_bytes) : 0;
    return XXH3_64bits_withSeed(q->command + begin, (end - begin) * sizeof *q->command, args);
}

static radar_cuda_graph *find(radar_cuda_queue *q, uint64_t hash) {
    for (int i = 0; i < q->n_graphs; i++)
        if (q->graph[i].hash == hash) return &q->graph[i];
    return NULL;
}

/* Whether a piece of that hash was here before; it was, from now on. */
static bool seen_before(radar_cuda_queue *q, uint64_t hash) {
    for (size_t i = 0; i < SEEN; i++)
        if (q->seen[i] == hash) return true;
    q->seen[q->seen_next++ % SEEN] = hash;
    return false;
}

/* A place for a graph: that of the one that was not used for longest, where all are taken. */
static radar_cuda_graph *place(radar_cuda_queue *q) {
    if (q->n_graphs < RADAR_CUDA_GRAPHS) return &q->graph[q->n_graphs++];
    radar_cuda_graph *oldest = &q->graph[0];
    for (int i = 1; i < RADAR_CUDA_GRAPHS; i++)
        if (q->graph[i].used < oldest->used) oldest = &q->graph[i];
    cudaGraphExecDestroy(oldest->exec);
    return oldest;
}

/* NULL: it cannot be captured. */
static cudaGraphExec_t capture(radar_cuda_queue *q, size_t begin, size_t end, unsigned char *data) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    if (cudaStreamBeginCapture(q->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
        return NULL;
    const bool whole = radar_cuda_issue(q, begin, end, data, false);
    const cudaError_t e = cudaStreamEndCapture(q->stream, &graph);
    if (whole && e == cudaSuccess && cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess)
        exec = NULL;
    if (graph) cudaGraphDestroy(graph);
    return exec;
}

bool radar_cuda_replay(radar_cuda_queue *q, size_t begin, size_t end, unsigned char *data,
                       size_t data_bytes) {
    if (!q->graphs || end - begin < FEWEST) return false;
    const uint64_t hash = hash_of(q, begin, end, data, data_bytes);
    radar_cuda_graph *g = find(q, hash);
    if (!g) {
        if (!seen_before(q, hash)) return false;
        const cudaGraphExec_t exec = capture(q, begin, end, data);
        if (!exec) { /* one by one then, from now on; what fails for another reason fails again and says so */
            cudaGetLastError();
            q->graphs = false;
            return false;
        }
        q->stats.captures++;
        g = place(q);
        g->hash = hash;
        g->exec = exec;
    }
    g->used = ++q->graph_clock;
    radar_cuda_note(q, "a graph", cudaGraphLaunch(g->exec, q->stream));
    q->stats.graph_launches++;
    return true;
}

void radar_cuda_forget_graphs(radar_cuda_queue *q) {
    for (int i = 0; i < q->n_graphs; i++) cudaGraphExecDestroy(q->graph[i].exec);
    q->n_graphs = 0;
}
