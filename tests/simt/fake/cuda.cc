/* Streams, kernels and graphs of fake.h. */
#include "tests/simt/fake/fake.h"
#include "tests/simt/fake/memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using fake::place;

constexpr size_t MOST_QUEUED = 4096; /* a stream does what it has when more comes */
constexpr size_t SHARED_PLAIN = 48 << 10, SHARED_MOST = 227 << 10;

/* What a stream, or a graph, does next; it opens the memory that it needs. */
typedef std::function<cudaError_t()> node;
typedef std::vector<node> nodes;

struct faults {
    bool no_driver = false, old_driver = false;
    int devices = 1, sm = 90, multiprocessors = 4;
    long lost = 0, hung = 0;
    size_t memory = (size_t)1 << 30;
};

/* One call at a time: ranks may be threads.  What a call captures and the error it leaves are its thread's. */
std::recursive_mutex lock;
#define ALONE const std::lock_guard<std::recursive_mutex> alone(lock)

faults fault;
fake_cuda_counts counts;
cudaError_t sticky = cudaSuccess;
thread_local cudaError_t last = cudaSuccess;
std::map<const void *, size_t> allowed; /* dynamic shared memory of kernels that asked */
uint64_t seed;
bool hung; /* a kernel never ends */

cudaError_t said(cudaError_t e) {
    if (sticky) e = sticky;
    if (e) last = e;
    return e;
}

long number(const std::string &word, size_t from) { return atol(word.c_str() + from); }

void set_faults(const char *text) {
    fault = faults();
    std::string rest = text ? text : "";
    while (!rest.empty()) {
        const size_t comma = rest.find(',');
        const std::string word = rest.substr(0, comma);
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
        if (word == "no-driver")
            fault.no_driver = true;
        else if (word == "old-driver")
            fault.old_driver = true;
        else if (word.rfind("devices=", 0) == 0)
            fault.devices = (int)number(word, 8);
        else if (word.rfind("sm=", 0) == 0)
            fault.sm = (int)number(word, 3);
        else if (word.rfind("sms=", 0) == 0)
            fault.multiprocessors = (int)number(word, 4);
        else if (word.rfind("memory=", 0) == 0)
            fault.memory = (size_t)number(word, 7);
        else if (word.rfind("lost=", 0) == 0)
            fault.lost = number(word, 5);
        else if (word.rfind("hung=", 0) == 0)
            fault.hung = number(word, 5);
        else
            simt::die("RADAR_FAKE_CUDA: '%s' is none of its faults", word.c_str());
    }
}

/* Where RADAR_FAKE_REPORT names a file, a line of counts of each process that ends. */
struct from_environment {
    ~from_environment() {
        const char *const path = getenv("RADAR_FAKE_REPORT");
        FILE *const f = path ? fopen(path, "a") : nullptr;
        if (!f) return;
        fprintf(f, "kernels=%ld launches=%ld graph_launches=%ld captures=%ld waits=%ld\n",
                counts.kernels, counts.launches, counts.graph_launches, counts.captures,
                counts.waits);
        fclose(f);
    }
    from_environment() {
        const char *const order = getenv("RADAR_SIMT_SEED");
        seed = order ? strtoull(order, nullptr, 10) : 0;
        set_faults(getenv("RADAR_FAKE_CUDA"));
    }
} at_start;

cudaError_t run_all(const nodes &list) {
    for (const node &n : list) {
        if (sticky || hung) break;
        const cudaError_t e = n();
        hung = e == cudaErrorNotReady;
        if (e && !hung) sticky = e;
    }
    return sticky;
}

} // namespace

struct CUgraph_st {
    nodes list;
};
struct CUgraphExec_st {
    std::shared_ptr<const nodes> list;
};
struct CUstream_st {
    nodes waiting;
    std::unique_ptr<CUgraph_st> capture;
    std::thread::id captured_by;
    bool invalid = false; /* what is captured */
};

namespace {

CUstream_st default_stream;
std::vector<CUstream_st *> streams;

CUstream_st *of(cudaStream_t stream) { return stream ? stream : &default_stream; }

cudaError_t drain(CUstream_st *s) {
    nodes list;
    list.swap(s->waiting);
    run_all(list);
    fake::close_all();
    return said(cudaSuccess);
}

cudaError_t enqueue(cudaStream_t stream, node n) {
    CUstream_st *const s = of(stream);
    if (s->capture) {
        s->capture->list.push_back(std::move(n));
        return said(cudaSuccess);
    }
    s->waiting.push_back(std::move(n));
    return s->waiting.size() > MOST_QUEUED ? drain(s) : said(cudaSuccess);
}

/* Calls that may not come while the thread captures a stream spoil what it has. */
bool while_capturing() {
    bool any = false;
    for (CUstream_st *s : streams)
        if (s->capture && s->captured_by == std::this_thread::get_id()) any = s->invalid = true;
    return any;
}

struct launch {
    const simt::known *kernel;
    dim3 grid, block;
    size_t shared_bytes;
    std::vector<std::vector<unsigned char>> bytes; /* of the arguments; malloc aligns them */

    cudaError_t run() {
        if (++counts.kernels == fault.lost) return cudaErrorLaunchFailure;
        if (counts.kernels == fault.hung) return cudaErrorNotReady;
        std::vector<void *> args;
        for (auto &b : bytes) args.push_back(b.data());
        fake::open_all();
        fake::kernel_runs(kernel->name);
        simt::opt.seed = seed ? seed + (uint64_t)counts.kernels : 0;
        simt::launch(grid, block, shared_bytes, [&] { kernel->call(args.data()); });
        fake::kernel_runs(nullptr);
        return cudaSuccess;
    }
};

bool shape_fits(dim3 grid, dim3 block) {
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    return grid.x && grid.y && grid.z && grid.x < 1u << 31 && grid.y < 1u << 16 &&
           grid.z < 1u << 16 && threads > 0 && threads <= 1024 && block.z <= 64;
}

bool device_side(enum cudaMemcpyKind kind, bool to, place where) {
    const bool device = where == place::device;
    if (kind == cudaMemcpyDefault) return true;
    const bool want = to ? kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice
                         : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return device == want;
}

cudaError_t copy_now(void *to, const void *from, size_t bytes) {
    fake::open_at(to);
    fake::open_at(from);
    memmove(to, from, bytes);
    counts.copies++;
    return cudaSuccess;
}

} // namespace

/* ---- the test's ---- */

fake_cuda_counts fake_cuda_count(void) {
    ALONE;
    counts.bytes = (long)fake::device_bytes();
    return counts;
}

void fake_cuda_reset(const char *text) {
    ALONE;
    set_faults(text);
    counts = fake_cuda_counts();
    sticky = last = cudaSuccess;
    hung = false;
}

/* Of libraries, that wait or are part of a graph. */
static long held;

long fake_cuda_held(void) { return held; }

cudaError_t fake_cuda_enqueue(cudaStream_t stream, void (*work)(void *data), const void *data,
                              size_t bytes) {
    ALONE;
    const char *const b = static_cast<const char *>(data);
    std::vector<char> copy(b, b + bytes);
    const std::shared_ptr<long> mark(&held, [](long *n) { --*n; });
    held++;
    return enqueue(stream, [=]() mutable {
        (void)mark;
        fake::open_all();
        fake::kernel_runs("a library");
        work(copy.data());
        fake::kernel_runs(nullptr);
        return cudaSuccess;
    });
}

/* ---- the device ---- */

const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidDeviceFunction:
        return "invalid device function";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    default:
        return "some error";
    }
}

cudaError_t cudaGetLastError(void) {
    ALONE;
    const cudaError_t e = last;
    last = sticky;
    return e;
}

cudaError_t cudaDriverGetVersion(int *version) {
    ALONE;
    *version = fault.no_driver ? 0 : fault.old_driver ? 11040 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    ALONE;
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
    ALONE;
    *n = 0;
    if (fault.no_driver || fault.old_driver) return said(cudaErrorInsufficientDriver);
    if (fault.devices < 1) return said(cudaErrorNoDevice);
    *n = fault.devices;
    return said(cudaSuccess);
}

static cudaError_t is_there(int device) {
    int n;
    const cudaError_t e = cudaGetDeviceCount(&n);
    return e ? e : said(device >= 0 && device < n ? cudaSuccess : cudaErrorInvalidDevice);
}

static thread_local int current; /* device */

cudaError_t cudaSetDevice(int device) {
    ALONE;
    const cudaError_t e = is_there(device);
    if (e == cudaSuccess) current = device;
    return e;
}

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    ALONE;
    if (const cudaError_t e = is_there(device)) return e;
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof p->name, "NVIDIA Fake");
    p->totalGlobalMem = fault.memory;
    p->sharedMemPerBlockOptin = SHARED_MOST;
    p->major = fault.sm / 10;
    p->minor = fault.sm % 10;
    p->multiProcessorCount = fault.multiprocessors;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int device) {
    ALONE;
    if (const cudaError_t e = is_there(device)) return e;
    snprintf(id, (size_t)bytes, "0000:%02X:00.0", 0x65 + device);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    ALONE;
    *total = fault.memory;
    *left = fault.memory > fake::device_bytes() ? fault.memory - fake::device_bytes() : 0;
    return said(cudaSuccess);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t bytes) {
    ALONE;
    *p = nullptr;
    if (while_capturing()) return said(cudaErrorStreamCaptureUnsupported);
    if (sticky) return said(sticky);
    if (bytes > fault.memory || fake::device_bytes() > fault.memory - bytes)
        return said(cudaErrorMemoryAllocation);
    if (bytes) *p = fake::allocate(bytes, place::device);
    counts.allocations++;
    return said(*p || !bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}

/* Waits for all that is queued, as the real one does. */
cudaError_t cudaFree(void *p) {
    ALONE;
    if (!p) return said(cudaSuccess);
    if (while_capturing()) return said(cudaErrorStreamCaptureUnsupported);
    cudaDeviceSynchronize();
    return said(fake::release(p, place::device) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) {
    ALONE;
    *p = nullptr;
    if (while_capturing()) return said(cudaErrorStreamCaptureUnsupported);
    if (sticky) return said(sticky);
    *p = fake::allocate(bytes, place::pinned);
    return said(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p) {
    ALONE;
    if (!p) return said(cudaSuccess);
    return said(fake::release(p, place::pinned) ? cudaSuccess : cudaErrorInvalidValue);
}

/* Pinned memory is read when the copy runs, pageable memory at once. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    ALONE;
    if (!bytes) return said(cudaSuccess);
    const place target = fake::place_of(to, bytes), source = fake::place_of(from, bytes);
    if (!device_side(kind, true, target) || !device_side(kind, false, source))
        return said(cudaErrorInvalidValue);
    if (source != place::pageable)
        return enqueue(stream, [=] { return copy_now(to, from, bytes); });
    if (of(stream)->capture) {
        of(stream)->invalid = true;
        return said(cudaErrorStreamCaptureUnsupported);
    }
    const char *const b = static_cast<const char *>(from);
    const std::vector<char> copy(b, b + bytes);
    return enqueue(stream, [=] { return copy_now(to, copy.data(), bytes); });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    ALONE;
    if (while_capturing()) return said(cudaErrorStreamCaptureUnsupported);
    const cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return e ? e : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    ALONE;
    if (!bytes) return said(cudaSuccess);
    if (fake::place_of(p, bytes) == place::pageable) return said(cudaErrorInvalidValue);
    return enqueue(stream, [=] {
        fake::open_at(p);
        memset(p, value, bytes);
        counts.clears++;
        return cudaSuccess;
    });
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    ALONE;
    *stream = nullptr;
    if (sticky) return said(sticky);
    streams.push_back(*stream = new CUstream_st);
    return said(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    ALONE;
    drain(stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (long)i);
    delete stream;
    return said(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    ALONE;
    if (of(stream)->capture) {
        of(stream)->invalid = true;
        return said(cudaErrorStreamCaptureUnsupported);
    }
    counts.waits++;
    const cudaError_t e = drain(of(stream));
    if (hung) simt::die("a wait for a kernel that never ends");
    return e;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    if (of(stream)->capture) {
        of(stream)->invalid = true;
        return said(cudaErrorStreamCaptureUnsupported);
    }
    const cudaError_t e = drain(of(stream));
    if (hung) return said(cudaErrorNotReady);
    counts.waits++; /* this one has come to its end */
    return e;
}

cudaError_t cudaDeviceSynchronize(void) {
    ALONE;
    if (while_capturing()) return said(cudaErrorStreamCaptureUnsupported);
    drain(&default_stream);
    for (CUstream_st *s : streams) drain(s);
    return said(cudaSuccess);
}

/* ---- kernels ---- */

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **args,
                             size_t shared_bytes, cudaStream_t stream) {
    ALONE;
    launch l = {simt::known_of(kernel), grid, block, shared_bytes, {}};
    if (!l.kernel) return said(cudaErrorInvalidDeviceFunction);
    if (!shape_fits(grid, block)) return said(cudaErrorInvalidConfiguration);
    const auto asked = allowed.find(kernel);
    if (shared_bytes > (asked == allowed.end() ? SHARED_PLAIN : asked->second))
        return said(cudaErrorInvalidValue);
    for (size_t i = 0; i < l.kernel->bytes.size(); i++) {
        const unsigned char *const b = static_cast<const unsigned char *>(args[i]);
        l.bytes.emplace_back(b, b + l.kernel->bytes[i]);
    }
    if (!of(stream)->capture) counts.launches++;
    return enqueue(stream, [l]() mutable { return l.run(); });
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute, int value) {
    ALONE;
    if (value < 0 || (size_t)value > SHARED_MOST) return said(cudaErrorInvalidValue);
    allowed[kernel] = (size_t)value > SHARED_PLAIN ? (size_t)value : SHARED_PLAIN;
    return said(cudaSuccess);
}

cudaError_t cudaFuncGetName(const char **name, const void *kernel) {
    ALONE;
    const simt::known *const k = simt::known_of(kernel);
    if (!k) return said(cudaErrorInvalidDeviceFunction);
    *name = k->name;
    return said(cudaSuccess);
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    ALONE;
    if (!stream || stream->capture) return said(cudaErrorInvalidValue);
    stream->capture = std::make_unique<CUgraph_st>();
    stream->captured_by = std::this_thread::get_id();
    stream->invalid = false;
    return said(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    ALONE;
    *graph = nullptr;
    if (!stream || !stream->capture) return said(cudaErrorInvalidValue);
    std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
    if (stream->invalid) return said(cudaErrorStreamCaptureInvalidated);
    *graph = captured.release();
    counts.captures++;
    return said(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    ALONE;
    *exec = new CUgraphExec_st{std::make_shared<const nodes>(graph->list)};
    return said(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    ALONE;
    counts.graph_launches++;
    const std::shared_ptr<const nodes> list = exec->list;
    return enqueue(stream, [list] { return run_all(*list); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    ALONE;
    delete graph;
    return said(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    ALONE;
    delete exec;
    return said(cudaSuccess);
}
