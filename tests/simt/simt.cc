/* Fibers, barriers and copies of simt.h. */
#include "tests/simt/simt.h"
#include "tests/simt/switch.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif

thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

options opt;
int sites;
std::function<void(const void *)> before_add;

namespace {

constexpr size_t STACK = 256 << 10;
constexpr unsigned char UNWRITTEN = 0xff; /* NaN in every float format */

struct copy {
    void *to;
    std::vector<char> bytes;
};

struct fiber {
    stack_place place;
    std::unique_ptr<char[]> stack{new char[STACK]};
    dim3 index;
    bool done = false;
    const void *waits = nullptr; /* site */
    std::vector<copy> open;
    std::vector<std::vector<copy>> group;
    void *fake = nullptr;
};

/* Where some threads meet: who came last lets all go on. */
struct meeting {
    unsigned arrived = 0;
    uint64_t generation = 0;
    int sum = 0, total = 0;
    uint64_t value[2][32];
};

struct mbarrier {
    unsigned count, arrived = 0;
    int64_t bytes = 0; /* expected and not there yet */
    unsigned phase = 0;
    std::vector<copy> landing; /* until somebody waits */
};

struct block_state {
    std::vector<fiber> fibers; /* those of larger blocks are kept */
    unsigned n = 0, now = 0, live = 0;
    uint64_t progress = 0;
    std::map<const void *, std::unique_ptr<char[]>> shared;
    std::unique_ptr<char[]> dynamic;
    meeting all;
    std::map<int, meeting> named;
    std::map<std::pair<unsigned, unsigned>, meeting> warps; /* warp, mask */
    std::map<uint64_t *, mbarrier> mbarriers;
};

block_state block;
stack_place scheduler;
const std::function<void()> *body;
std::map<const void *, int> site_number;
uint64_t state;
#if SIMT_ASAN
void *scheduler_fake;
const void *scheduler_stack;
size_t scheduler_bytes;
#endif

unsigned draw(unsigned n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((state >> 33) % n);
}

fiber &self() { return block.fibers[block.now]; }

void to_scheduler() {
    fiber &f = self();
#if SIMT_ASAN
    __sanitizer_start_switch_fiber(f.done ? nullptr : &f.fake, scheduler_stack, scheduler_bytes);
#endif
    stack_switch(f.place, scheduler);
#if SIMT_ASAN
    __sanitizer_finish_switch_fiber(f.fake, &scheduler_stack, &scheduler_bytes);
#endif
    threadIdx = f.index;
}

void to_fiber(unsigned i) {
    fiber &f = block.fibers[i];
    block.now = i;
#if SIMT_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake, f.stack.get(), STACK);
#endif
    stack_switch(scheduler, f.place);
#if SIMT_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

void leave_meetings() {
    meeting &m = block.all; /* threads that are gone count as there */
    if (block.live && m.arrived == block.live) {
        m.arrived = 0;
        m.total = m.sum;
        m.sum = 0;
        m.generation++;
    }
}

void run_fiber() {
#if SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
    threadIdx = self().index;
    (*body)();
    if (!self().open.empty() || !self().group.empty())
        die("thread %u ends with async copies under way", block.now);
    self().done = true;
    block.live--;
    block.progress++;
    leave_meetings();
#if SIMT_ASAN
    __asan_handle_no_return(); /* the next fiber on this stack finds nothing of this one's frames */
#endif
    to_scheduler();
}

/* Whether the site counts; a mutant's does not. */
bool counts(const void *site) {
    auto found = site_number.find(site);
    if (found == site_number.end()) found = site_number.emplace(site, ++sites).first;
    return found->second != opt.drop_barrier;
}

/* Returns when `n` have come. */
void meet(meeting &m, unsigned n, const void *site) {
    const uint64_t generation = m.generation;
    block.progress++;
    if (++m.arrived >= n) {
        m.arrived = 0;
        m.total = m.sum;
        m.sum = 0;
        m.generation++;
        return;
    }
    self().waits = site;
    while (m.generation == generation) to_scheduler();
    self().waits = nullptr;
    block.progress++;
}

void land(std::vector<copy> &copies) {
    for (copy &c : copies) memcpy(c.to, c.bytes.data(), c.bytes.size());
    copies.clear();
}

void tell_deadlock() {
    fprintf(stderr, "simt: deadlock in block (%u, %u, %u):", blockIdx.x, blockIdx.y, blockIdx.z);
    for (unsigned i = 0; i < block.n; i++)
        if (!block.fibers[i].done)
            fprintf(stderr, " %u at site %d", i, site_number[block.fibers[i].waits]);
    die(" - not all of its threads reach the same barrier");
}

/* Fair rounds hide races: now and then a warp, or a lane, stays where it is while the others run on. */
void put_to_sleep(std::vector<unsigned> &sleeps) {
    if (draw(4)) return;
    const unsigned n = (unsigned)sleeps.size(), first = draw(n), rounds = 1 + draw(64);
    if (draw(4) == 0) {
        sleeps[first] = rounds;
        return;
    }
    for (unsigned i = first / 32 * 32; i < n && i < first / 32 * 32 + 32; i++) sleeps[i] = rounds;
}

void run_block(dim3 shape, size_t dynamic_bytes) {
    const unsigned n = shape.x * shape.y * shape.z;
    block.shared.clear();
    block.named.clear();
    block.warps.clear();
    block.mbarriers.clear();
    block.all = meeting();
    block.n = block.live = n;
    block.dynamic.reset(new char[dynamic_bytes ? dynamic_bytes : 1]);
    memset(block.dynamic.get(), UNWRITTEN, dynamic_bytes);
    while (block.fibers.size() < n) block.fibers.emplace_back();
    for (unsigned i = 0; i < n; i++) {
        fiber &f = block.fibers[i];
        f.done = false;
        f.waits = nullptr;
        f.index = dim3(i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y));
        stack_make(f.place, f.stack.get(), STACK, run_fiber);
    }
    std::vector<unsigned> sleeps(n); /* rounds that a fiber is passed over */
    while (block.live) {
        const uint64_t before = block.progress;
        const unsigned offset = opt.seed ? draw(n) : 0;
        const bool down = opt.seed && draw(2);
        if (opt.seed) put_to_sleep(sleeps);
        bool slept = false;
        for (unsigned j = 0; j < n; j++) {
            const unsigned i = ((down ? n - 1 - j : j) + offset) % n;
            if (sleeps[i]) {
                sleeps[i]--;
                slept = true;
            } else if (!block.fibers[i].done) {
                to_fiber(i);
            }
        }
        if (block.progress != before) continue;
        if (!slept) tell_deadlock();
        std::fill(sleeps.begin(), sleeps.end(), 0u);
    }
}

} // namespace

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    _Exit(99);
}

void launch(dim3 grid, dim3 shape, size_t dynamic_bytes, const std::function<void()> &kernel) {
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    if (blocks == 0 || shape.x * shape.y * shape.z == 0 || shape.x * shape.y * shape.z > 1024)
        die("simt: launch of %llu blocks of %u threads", (unsigned long long)blocks,
            shape.x * shape.y * shape.z);
    if (dynamic_bytes > 227 << 10) die("simt: %zu bytes of shared memory", dynamic_bytes);
    state = opt.seed;
    body = &kernel;
    gridDim = grid;
    blockDim = shape;
    site_number.clear();
    sites = 0;
    const uint64_t first = opt.seed ? draw((unsigned)(blocks < 1000000 ? blocks : 1000000)) : 0;
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = (first + i) % blocks;
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                        (unsigned)(b / grid.x / grid.y));
        run_block(shape, dynamic_bytes);
    }
}

static std::unordered_map<const void *, known> &kernels() {
    static std::unordered_map<const void *, known> all;
    return all;
}

/* Hosts may be threads. */
static std::mutex kernels_lock;

void know(const void *kernel, known what) {
    const std::lock_guard<std::mutex> alone(kernels_lock);
    kernels().emplace(kernel, std::move(what));
}

const known *known_of(const void *kernel) {
    const std::lock_guard<std::mutex> alone(kernels_lock);
    const auto found = kernels().find(kernel);
    return found == kernels().end() ? nullptr : &found->second;
}

/* ---- the block ---- */

void barrier(const void *site) {
    if (counts(site)) meet(block.all, block.live, site);
}

int barrier_sum(const void *site, int value) {
    block.all.sum += value;
    meet(block.all, block.live, site);
    return block.all.total;
}

void named_barrier(const void *site, int id, int n) {
    if (counts(site)) meet(block.named[id], (unsigned)n, site);
}

void *shared(const void *site, size_t bytes) {
    std::unique_ptr<char[]> &memory = block.shared[site];
    if (!memory) {
        memory.reset(new char[bytes]);
        memset(memory.get(), UNWRITTEN, bytes);
    }
    return memory.get();
}

void *dynamic() { return block.dynamic.get(); }

/* ---- the warp ---- */

unsigned lane() { return block.now % 32; }

static meeting &warp_meeting(unsigned mask) {
    if (!(mask >> lane() & 1)) die("simt: lane %u is not of its mask %08x", lane(), mask);
    return block.warps[{block.now / 32, mask}];
}

/* Lanes of the mask that the block has. */
static unsigned present(unsigned mask) {
    const unsigned first = block.now / 32 * 32, n = block.n - first;
    return (unsigned)__builtin_popcount(n >= 32 ? mask : mask & ((1u << n) - 1));
}

uint64_t exchange(const void *site, unsigned mask, uint64_t value, int from) {
    meeting &m = warp_meeting(mask);
    if (from < 0 && !counts(site)) return value;
    const int half = (int)(m.generation & 1);
    m.value[half][lane()] = value;
    meet(m, present(mask), site);
    return from >= 0 && mask >> from & 1 ? m.value[half][from] : value;
}

void gather(const void *site, unsigned mask, uint64_t value, uint64_t all[32]) {
    meeting &m = warp_meeting(mask);
    const int half = (int)(m.generation & 1);
    m.value[half][lane()] = value;
    meet(m, present(mask), site);
    for (int i = 0; i < 32; i++) all[i] = mask >> i & 1 ? m.value[half][i] : 0;
}

/* ---- copies ---- */

static copy copy_of(void *to, const void *from, size_t bytes, size_t zeros) {
    copy c = {to, std::vector<char>(bytes + zeros)};
    if (bytes) memcpy(c.bytes.data(), from, bytes);
    memset(to, UNWRITTEN, bytes + zeros);
    return c;
}

void copy_async(void *to, const void *from, size_t bytes, size_t zeros) {
    if ((uintptr_t)to % (bytes + zeros) || (bytes && (uintptr_t)from % (bytes + zeros)))
        die("simt: async copy of %zu bytes, not aligned", bytes + zeros);
    self().open.push_back(copy_of(to, from, bytes, zeros));
}

void copy_commit() {
    self().group.push_back(std::move(self().open));
    self().open.clear();
}

void copy_wait(int pending) {
    auto &group = self().group;
    while ((int)group.size() > pending) {
        land(group.front());
        group.erase(group.begin());
    }
}

static mbarrier &mbarrier_at(uint64_t *bar) {
    auto found = block.mbarriers.find(bar);
    if (found == block.mbarriers.end()) die("simt: an mbarrier that was not initialised");
    return found->second;
}

static void mbarrier_check(mbarrier &m) {
    if (m.arrived < m.count || m.bytes > 0) return;
    m.arrived = 0;
    m.phase ^= 1;
    land(m.landing);
    block.progress++;
}

void mbarrier_init(uint64_t *bar, unsigned count) {
    mbarrier m;
    m.count = count;
    block.mbarriers[bar] = std::move(m);
}

void mbarrier_expect(uint64_t *bar, unsigned bytes) {
    mbarrier &m = mbarrier_at(bar);
    m.bytes += bytes;
    m.arrived++;
    mbarrier_check(m);
}

void mbarrier_arrive(uint64_t *bar) {
    mbarrier &m = mbarrier_at(bar);
    m.arrived++;
    mbarrier_check(m);
}

void mbarrier_wait(uint64_t *bar, unsigned parity) {
    static const char site = 0;
    self().waits = &site;
    while (mbarrier_at(bar).phase == parity) to_scheduler();
    self().waits = nullptr;
    block.progress++;
}

void bulk_copy(void *to, const void *from, unsigned bytes, uint64_t *bar) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16 || bytes % 16)
        die("simt: bulk copy of %u bytes, not aligned", bytes);
    mbarrier &m = mbarrier_at(bar);
    m.landing.push_back(copy_of(to, from, bytes, 0));
    m.bytes -= bytes;
    mbarrier_check(m);
}

} // namespace simt
