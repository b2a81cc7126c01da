/* Pages of memory.h, and the line that a program dies with. */
#include "tests/simt/fake/memory.h"

#include <cinttypes>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace fake {
namespace {

constexpr size_t PAGE = 4096, ALIGN = 256;

struct allocation {
    char *map;        /* a page that stays closed, the pages, another */
    size_t map_bytes; /* all of it */
    size_t bytes;
    place where;
    bool open;
};

std::map<uintptr_t, allocation> all; /* by the address given out */
std::vector<uintptr_t> opened;
size_t in_use;
const char *kernel;
struct sigaction before;

void protect(allocation &a, bool open) {
    mprotect(a.map + PAGE, a.map_bytes - 2 * PAGE, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    a.open = open;
}

std::map<uintptr_t, allocation>::iterator find(uintptr_t p) {
    auto at = all.upper_bound(p);
    if (at == all.begin()) return all.end();
    --at;
    return p < at->first + at->second.bytes || p == at->first ? at : all.end();
}

void on_fault(int, siginfo_t *info, void *) {
    const uintptr_t p = reinterpret_cast<uintptr_t>(info->si_addr);
    for (auto &i : all) {
        const allocation &a = i.second;
        const uintptr_t map = reinterpret_cast<uintptr_t>(a.map);
        if (a.where != place::device || p < map || p >= map + a.map_bytes) continue;
        char line[256];
        const long long offset = (long long)p - (long long)i.first;
        const int n =
            kernel ? snprintf(line, sizeof line,
                              "fake cuda: %s touched byte %lld of an allocation of %zu\n", kernel,
                              offset, a.bytes)
                   : snprintf(line, sizeof line,
                              "fake cuda: the host touched device memory: byte %lld of %zu\n",
                              offset, a.bytes);
        if (write(2, line, (size_t)n) < 0) _exit(98);
        _exit(99);
    }
    sigaction(SIGSEGV, &before, nullptr); /* none of ours: tried again, it is theirs */
}

/* Each time that memory is taken: test frameworks put handlers of their own in this one's place. */
void watch() {
    struct sigaction action = {}, old;
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &old);
    if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != on_fault) before = old;
}

} // namespace

void *allocate(size_t bytes, place where) {
    watch();
    const size_t kept = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    const size_t pages = (kept + PAGE - 1) / PAGE * PAGE;
    void *map = mmap(nullptr, pages + 2 * PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return nullptr;
    allocation a = {static_cast<char *>(map), pages + 2 * PAGE, bytes, where, false};
    char *const p = a.map + PAGE + (pages - kept); /* what follows it is closed */
    protect(a, true);
    memset(p, 0xff, kept);
    if (where == place::device) {
        protect(a, false);
        in_use += bytes;
    }
    all[reinterpret_cast<uintptr_t>(p)] = a;
    return p;
}

bool release(void *p, place where) {
    const auto at = all.find(reinterpret_cast<uintptr_t>(p));
    if (at == all.end() || at->second.where != where) return false;
    if (where == place::device) in_use -= at->second.bytes;
    munmap(at->second.map, at->second.map_bytes);
    all.erase(at);
    return true;
}

place place_of(const void *p, size_t bytes) {
    const uintptr_t from = reinterpret_cast<uintptr_t>(p);
    const auto at = find(from);
    if (at == all.end() || from + bytes > at->first + at->second.bytes) return place::pageable;
    return at->second.where;
}

size_t device_bytes() { return in_use; }

void open_all() {
    for (auto &i : all)
        if (i.second.where == place::device && !i.second.open) {
            protect(i.second, true);
            opened.push_back(i.first);
        }
}

void open_at(const void *p) {
    const auto at = find(reinterpret_cast<uintptr_t>(p));
    if (at == all.end() || at->second.where != place::device || at->second.open) return;
    protect(at->second, true);
    opened.push_back(at->first);
}

void close_all() {
    for (uintptr_t p : opened) {
        const auto at = all.find(p);
        if (at != all.end()) protect(at->second, false);
    }
    opened.clear();
}

void kernel_runs(const char *name) { kernel = name; }

} // namespace fake
