/* The CUDA shim: smolq_cuda.cu compiled as plain C++17 and run on the CPU, so that its kernels are proved where no GPU is.
 *
 *     g++ -std=gnu++17 -O2 -x c++ -Wno-unknown-pragmas -DSMOLQ_CUDA_SHIM -I. -include tests/cuda_shim.h -c smolq_cuda.cu
 *
 * Three parts, top to bottom.
 *
 * 1. Blocks.  A block's threads are fibers on one processor.  A fiber runs until it waits (a barrier, or an operation that a warp does
 *    together), then the next ready one of its warp runs, then another warp.  Which is next depends on the order that the test has
 *    chosen: forward, reverse or random; a missing barrier makes the results differ.  Threads that wait where others don't come are an
 *    error with the place.  Shared memory begins as 0xA5 and lies between red zones.
 * 2. Device built-ins: shuffles and votes, integer and float intrinsics, cp.async (copied at the wait and not before), s8 mma by PTX's
 *    lane map.
 * 3. The runtime.  Streams are queues that run as late as CUDA allows: at a synchronize, or when something that is waited for needs
 *    them.  Who forgets to synchronize reads poison.  Memory is exact heap blocks (AddressSanitizer sees an overrun), counted and
 *    limited, and any call can be made to fail.
 *
 * What a GPU does and the shim does not: run blocks at the same time, run a warp's lanes in lockstep, or fail for want of registers.
 * Everything is inline: any number of files may include this, and they share one machine.  A test in C sees the controls only. */
#ifndef CUDA_SHIM_H
#define CUDA_SHIM_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
enum { CUDA_SHIM_FORWARD, CUDA_SHIM_REVERSE, CUDA_SHIM_RANDOM };

/* The machine as new: forward order, one device of sm_90 with 4 multiprocessors and 1 GiB, no failure to come, no error.  Memory that
 * is still held stays, and stays counted. */
void cuda_shim_reset(void);
void cuda_shim_order(int mode, uint64_t seed);      /* of blocks, of the threads in a block, of the branches of a graph, of streams */
void cuda_shim_devices(int n);                      /* 0..8; -1: no driver; -2: a driver of CUDA 11 */
void cuda_shim_sm(int sm, int multiprocessors);     /* what the devices are: 75, 80, 86, 89, 90 */
void cuda_shim_memory(uint64_t bytes);              /* of each device */
void cuda_shim_dependent(int all);                  /* 1: every kernel must call smolq__cuda_begin; 0: those launched dependent */
uint64_t cuda_shim_bytes(void);                     /* device memory held now, all devices */
uint64_t cuda_shim_peak(void);                      /* the most since the last reset */
uint64_t cuda_shim_pinned(void);                    /* pinned host memory held now */
int cuda_shim_objects(void);                        /* streams, events and graphs that live */
uint64_t cuda_shim_calls(void);                     /* runtime calls and launches since the last reset */
uint64_t cuda_shim_kernels(void);                   /* kernels that ran since the last reset */
void cuda_shim_fail(int n);                         /* the n-th call from now returns cudaErrorUnknown and does nothing; 0: none */
void cuda_shim_lose(int n);                         /* it and all after it return cudaErrorLaunchFailure; 0: none */
const char *cuda_shim_error(void);                  /* what a kernel did wrong, as printed before the abort; "" if nothing */
#ifdef __cplusplus
}

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>
#include <type_traits>
#include <vector>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#  define CUDA_SHIM_ASAN 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define CUDA_SHIM_ASAN 1
#  endif
#endif
#ifdef CUDA_SHIM_ASAN
#  include <sanitizer/asan_interface.h>
#  include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__) && !defined(CUDA_SHIM_UCONTEXT)
#  define CUDA_SHIM_UCONTEXT
#endif
#ifdef CUDA_SHIM_UCONTEXT
#  include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)    __attribute__((aligned(n)))

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline uint3 threadIdx, blockIdx; /* of the fiber that runs: every switch sets them */
inline dim3 blockDim, gridDim;
enum { warpSize = 32 };

/* ==== 1. blocks ===================================================================================================== */

namespace cuda_shim {

enum { POISON = 0xa5, CANARY = 0xc9, ZONE = 64, MAX_THREADS = 1024, MAX_DEVICES = 8, STATIC_LIMIT = 48 << 10, ARENA = 512 << 10 };

/* ---- errors of kernels ---- */

inline char error_text[1024];
inline const char *kernel_name; /* that runs; NULL: none */

/* A kernel's mistake cannot be an error code: what follows it would be noise. */
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void die(const char *format, ...)
{
    va_list args;
    int n = snprintf(error_text, sizeof error_text, "cuda shim: ");
    if (kernel_name)
        n += snprintf(error_text + n, sizeof error_text / 2, "%.300s, block (%u, %u, %u), thread (%u, %u, %u): ", kernel_name, blockIdx.x, blockIdx.y,
                      blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    va_start(args, format);
    vsnprintf(error_text + n, sizeof error_text - (size_t)n, format, args);
    va_end(args);
    fprintf(stderr, "%s\n", error_text);
    fflush(stderr);
    abort();
}

/* ---- order ---- */

inline int order_mode;
inline bool all_dependent;
inline uint64_t order_state = 1;

inline uint32_t random32() /* xorshift64* of Vigna */
{
    order_state ^= order_state >> 12;
    order_state ^= order_state << 25;
    order_state ^= order_state >> 27;
    return (uint32_t)((order_state * 0x2545f4914f6cdd1du) >> 32);
}

inline int one_of(uint32_t set) /* not empty */
{
    if (order_mode == CUDA_SHIM_FORWARD) return __builtin_ctz(set);
    if (order_mode == CUDA_SHIM_REVERSE) return 31 - __builtin_clz(set);
    for (uint32_t skip = random32() % (uint32_t)__builtin_popcount(set); skip > 0; skip--) set &= set - 1;
    return __builtin_ctz(set);
}

inline std::vector<uint32_t> permutation(uint32_t n)
{
    std::vector<uint32_t> p(n);
    for (uint32_t i = 0; i < n; i++) p[i] = order_mode == CUDA_SHIM_REVERSE ? n - 1 - i : i;
    if (order_mode == CUDA_SHIM_RANDOM)
        for (uint32_t i = n; i > 1; i--) std::swap(p[i - 1], p[random32() % i]);
    return p;
}

/* ---- stacks ----
 * A stack outlives the threads that run on it.  One that is idle is parked in fiber_main, so giving it a new thread is a switch and
 * nothing else; a thread that ends hands its stack straight to the next one that has none yet.  So a kernel that never waits runs all
 * of its threads on one stack, in a loop. */

struct stack {
    char *low;          /* lowest usable byte, above a guard page */
    size_t size;
    stack *idle;        /* next in the list of idle ones */
    void *fake;         /* AddressSanitizer's stack of the fiber */
#ifdef CUDA_SHIM_UCONTEXT
    ucontext_t context;
#else
    void *sp;
#endif
};

inline stack host_stack;            /* where the launch came from */
inline stack *idle_stacks;
inline stack *left_stack;           /* the one that the latest switch left */

#ifndef CUDA_SHIM_UCONTEXT
/* Saves what the System V ABI has a callee save, changes stacks and returns on the other one.  No floating-point control words: all
 * fibers run under the same. */
__attribute__((naked, noinline)) inline void switch_stacks(void **, void *)
{
    __asm__("pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
            "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
            "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}
#endif

inline void arrived(void *fake)
{
    (void)fake;
#ifdef CUDA_SHIM_ASAN
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(fake, &low, &size);
    left_stack->low = (char *)const_cast<void *>(low); /* tells where the host's stack lies; of the others it is known */
    left_stack->size = size;
#endif
}

inline void switch_to(stack *from, stack *to)
{
    left_stack = from;
#ifdef CUDA_SHIM_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->low, to->size);
#endif
#ifdef CUDA_SHIM_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    switch_stacks(&from->sp, to->sp);
#endif
    arrived(from->fake);
}

void fiber_main();

inline stack *new_stack()
{
#ifdef CUDA_SHIM_ASAN
    const size_t size = 512 << 10, guard = 64 << 10;
#else
    const size_t size = 128 << 10, guard = 64 << 10;
#endif
    void *p = mmap(nullptr, guard + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, guard, PROT_NONE) != 0) die("no memory for the stacks of its threads");
    stack *s = new stack();
    s->low = (char *)p + guard;
    s->size = size;
#ifdef CUDA_SHIM_UCONTEXT
    getcontext(&s->context);
    s->context.uc_stack.ss_sp = s->low;
    s->context.uc_stack.ss_size = size;
    makecontext(&s->context, fiber_main, 0);
#else
    void **top = (void **)(void *)(s->low + size);
    *--top = nullptr;               /* where a function begins, rsp + 8 is a multiple of 16 */
    *--top = (void *)fiber_main;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    s->sp = top;
#endif
    return s;
}

inline stack *take_stack()
{
    stack *s = idle_stacks;
    if (!s) return new_stack();
    idle_stacks = s->idle;
    return s;
}

/* ---- threads ---- */

struct site { const char *what, *file; int line; };

inline bool same_site(const site &a, const site &b)
{
    return a.line == b.line && strcmp(a.what, b.what) == 0 && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

struct async_copy { void *to; const void *from; int group; };

struct warp {
    uint32_t all, ready, waiting;   /* sets of lanes: that exist; that can run; that wait in an operation of the warp */
    uint32_t turn;                  /* operations done: its parity chooses the slots */
    site at;                        /* of those that wait */
    unsigned char slot[2][32][32];  /* operands of the lanes.  Two sets: a lane that has its result may be in the next operation while
                                     * others still read this one's, but never two ahead */
};

struct block_state {
    unsigned n_threads, n_done, n_at_barrier, now;  /* now: the thread that runs */
    uint32_t ready_warps;
    site barrier;
    warp warps[32];
    stack *stacks[MAX_THREADS];                     /* null: not begun */
    uint3 index[MAX_THREADS];
    std::vector<async_copy> copies[MAX_THREADS];    /* under way */
    int group[MAX_THREADS];                         /* of copies, open now */
    bool must_begin, begun[MAX_THREADS];            /* smolq__cuda_begin: whether it must come first; has come */
    void (*body)(const void *args);
    const void *args;
};
inline block_state B;

[[noreturn]] inline void diverged()
{
    for (const warp &w : B.warps)
        if (w.waiting)
            die("divergence: %d of the %d lanes of warp %d wait in %s at %s:%d; of the block %u threads wait at a barrier and %u have exited",
                __builtin_popcount(w.waiting), __builtin_popcount(w.all), (int)(&w - B.warps), w.at.what, w.at.file, w.at.line, B.n_at_barrier, B.n_done);
    die("divergence: %u of %u threads wait in %s at %s:%d, the other %u have exited", B.n_at_barrier, B.n_threads, B.barrier.what, B.barrier.file,
        B.barrier.line, B.n_done);
}

/* The thread to run next; B.n_threads if all are done.  In random order any warp, else this one as long as it can. */
inline unsigned next_thread()
{
    unsigned w = B.now / 32;
    if (B.ready_warps == 0) {
        if (B.n_done < B.n_threads) diverged();
        return B.n_threads;
    }
    if (B.warps[w].ready == 0 || order_mode == CUDA_SHIM_RANDOM) w = (unsigned)one_of(B.ready_warps);
    return w * 32 + (unsigned)one_of(B.warps[w].ready);
}

/* Of the warp that begins where all are ready. */
inline unsigned first_thread() { return order_mode == CUDA_SHIM_REVERSE ? B.n_threads - 1 : 0; }

inline void not_ready(unsigned thread)
{
    warp &w = B.warps[thread / 32];
    w.ready &= ~(1u << (thread % 32));
    if (w.ready == 0) B.ready_warps &= ~(1u << (thread / 32));
}

inline void set_thread(unsigned thread)
{
    B.now = thread;
    threadIdx = B.index[thread];
}

/* A dependent kernel may do little before it waits for the one before. */
inline void check_begun(const char *what)
{
    if (B.must_begin && !B.begun[B.now]) die("%s before smolq__cuda_begin", what);
}

/* Lets the next thread run; comes back when it is this one's turn again. */
inline void yield_thread(unsigned me)
{
    unsigned next = next_thread();
    set_thread(next);
    if (next == me) return;
    if (!B.stacks[next]) B.stacks[next] = take_stack();
    switch_to(B.stacks[me], B.stacks[next]);
}

inline void fiber_main()
{
    arrived(nullptr);
    for (;;) {
        unsigned me = B.now, next;
        stack *mine = B.stacks[me];
        B.copies[me].clear();
        B.group[me] = 0;
        B.begun[me] = false;
        B.body(B.args);
        check_begun("ends");
        not_ready(me);
        B.n_done++;
        next = next_thread();
        if (next < B.n_threads) set_thread(next);
        if (next < B.n_threads && !B.stacks[next]) {
            B.stacks[next] = mine;
            continue;
        }
        mine->idle = idle_stacks;
        idle_stacks = mine;
        switch_to(mine, next < B.n_threads ? B.stacks[next] : &host_stack);
    }
}

inline void barrier(const site &at)
{
    unsigned me = B.now;
    check_begun(at.what);
    if (B.n_at_barrier++ == 0) B.barrier = at;
    else if (!same_site(B.barrier, at))
        die("divergence: waits in %s at %s:%d while others wait in %s at %s:%d", at.what, at.file, at.line, B.barrier.what, B.barrier.file, B.barrier.line);
    not_ready(me);
    if (B.n_at_barrier == B.n_threads) {
        B.n_at_barrier = 0;
        for (unsigned i = 0; i * 32 < B.n_threads; i++) {
            B.warps[i].ready = B.warps[i].all;
            B.ready_warps |= 1u << i;
        }
        B.now = first_thread();
    }
    yield_thread(me);
}

/* One operation of the warp: each lane brings n bytes and gets those of all lanes, 32 bytes apart. */
inline const unsigned char (*exchange(unsigned mask, const void *operand, size_t n, const site &at))[32]
{
    unsigned me = B.now;
    warp &w = B.warps[me / 32];
    unsigned char (*slots)[32] = w.slot[w.turn & 1];
    check_begun(at.what);
    if (mask != 0xffffffffu) die("%s at %s:%d with mask %08x: only full warps are done", at.what, at.file, at.line, mask);
    if (w.all != 0xffffffffu) die("%s at %s:%d in a warp of %d threads", at.what, at.file, at.line, __builtin_popcount(w.all));
    if (w.waiting == 0) w.at = at;
    else if (!same_site(w.at, at))
        die("divergence: waits in %s at %s:%d while lanes of its warp wait in %s at %s:%d", at.what, at.file, at.line, w.at.what, w.at.file, w.at.line);
    memcpy(slots[me % 32], operand, n);
    w.waiting |= 1u << (me % 32);
    not_ready(me);
    if (w.waiting == w.all) {
        w.waiting = 0;
        w.turn++;
        w.ready = w.all;
        B.ready_warps |= 1u << (me / 32);
    }
    yield_thread(me);
    return slots;
}

/* ---- shared memory ----
 * The arrays of a block are laid out as its threads come upon them, each between two zones:
 *
 *     | zone | array | zone | zone | array | zone | ...        a zone: 64 bytes of canary, poisoned for AddressSanitizer */

struct span { unsigned char *at; size_t bytes; };

alignas(128) inline unsigned char arena[ARENA];
inline size_t arena_used, static_used;
inline std::vector<span> arrays;
inline uint64_t block_serial;               /* of the block that runs: tells a site whether its array is laid out already */
inline unsigned char *dynamic_array;
inline size_t dynamic_bytes, shared_limit;  /* the limit is for static and dynamic arrays together */

inline void zone(unsigned char *at)
{
    memset(at, CANARY, ZONE);
#ifdef CUDA_SHIM_ASAN
    __asan_poison_memory_region(at, ZONE);
#endif
}

inline bool zone_is_whole(unsigned char *at)
{
#ifdef CUDA_SHIM_ASAN
    __asan_unpoison_memory_region(at, ZONE);
#endif
    for (int i = 0; i < ZONE; i++)
        if (at[i] != CANARY) return false;
    return true;
}

inline unsigned char *new_array(size_t bytes)
{
    size_t room = (bytes + 15) & ~(size_t)15;
    unsigned char *p = arena + arena_used + ZONE;
    if (arena_used + room + 2 * ZONE > ARENA) die("too much shared memory");
    arena_used += room + 2 * ZONE;
    memset(p, POISON, bytes);
    memset(p + bytes, CANARY, room - bytes);
    zone(p - ZONE);
    zone(p + room);
#ifdef CUDA_SHIM_ASAN
    if (room > bytes) __asan_poison_memory_region(p + bytes, room - bytes);
#endif
    arrays.push_back({ p, bytes });
    return p;
}

inline unsigned char *static_array(size_t bytes)
{
    static_used += (bytes + 15) & ~(size_t)15;
    if (static_used > STATIC_LIMIT) die("%zu bytes of static shared memory, CUDA has %d", static_used, STATIC_LIMIT);
    if (static_used + dynamic_bytes > shared_limit) die("%zu + %zu bytes of shared memory, allowed are %zu", static_used, dynamic_bytes, shared_limit);
    return new_array(bytes);
}

/* One for each place in the source, template instances apart. */
struct array_site {
    uint64_t serial;
    unsigned char *at;
    void *get(size_t bytes)
    {
        if (serial != block_serial) {
            serial = block_serial;
            at = static_array(bytes);
        }
        return at;
    }
};

inline void check_arrays()
{
    for (const span &a : arrays) {
        size_t room = (a.bytes + 15) & ~(size_t)15;
        bool whole = zone_is_whole(a.at - ZONE);
        if (!zone_is_whole(a.at + room)) whole = false;
#ifdef CUDA_SHIM_ASAN
        __asan_unpoison_memory_region(a.at, room);
#endif
        for (size_t i = a.bytes; i < room; i++)
            if (a.at[i] != CANARY) whole = false;
        if (!whole) die("red zone of shared memory overwritten, beside an array of %zu bytes", a.bytes);
    }
    arrays.clear();
    arena_used = static_used = 0;
}

inline bool is_shared(const void *p, size_t bytes)
{
    for (const span &a : arrays)
        if ((const unsigned char *)p >= a.at && (const unsigned char *)p + bytes <= a.at + a.bytes) return true;
    return false;
}

/* ---- a grid ---- */

inline void run_block()
{
    unsigned n = B.n_threads;
    B.n_done = B.n_at_barrier = 0;
    B.ready_warps = 0;
    for (unsigned i = 0; i < 32; i++) {
        unsigned lanes = n <= i * 32 ? 0 : n - i * 32 < 32 ? n - i * 32 : 32;
        B.warps[i].all = B.warps[i].ready = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
        B.warps[i].waiting = 0;
        if (lanes) B.ready_warps |= 1u << i;
    }
    memset(B.stacks, 0, n * sizeof B.stacks[0]);
    block_serial++;
    dynamic_array = dynamic_bytes ? new_array(dynamic_bytes) : nullptr;
    B.now = first_thread();
    set_thread(next_thread());
    B.stacks[B.now] = take_stack();
    switch_to(&host_stack, B.stacks[B.now]);
    check_arrays();
}

/* Floating point as on the device, whatever the host program has set: nearest even, subnormals kept. */
inline void run_grid(const char *name, bool dependent, dim3 grid, dim3 block, size_t shared, size_t limit, void (*body)(const void *), const void *args)
{
    std::fenv_t host;
    uint64_t n = (uint64_t)grid.x * grid.y * grid.z;
    std::vector<uint32_t> order;
    std::fegetenv(&host);
    std::fesetenv(FE_DFL_ENV);
    kernel_name = name;
    gridDim = grid;
    blockDim = block;
    dynamic_bytes = shared;
    shared_limit = limit;
    B.n_threads = block.x * block.y * block.z;
    B.must_begin = dependent || all_dependent;
    B.body = body;
    B.args = args;
    for (unsigned i = 0; i < B.n_threads; i++) B.index[i] = { i % block.x, i / block.x % block.y, i / block.x / block.y };
    if (order_mode != CUDA_SHIM_FORWARD) order = permutation((uint32_t)n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t b = order_mode == CUDA_SHIM_FORWARD ? i : order[i];
        blockIdx = { (unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y) };
        run_block();
    }
    kernel_name = nullptr;
    std::fesetenv(&host);
}

} /* namespace cuda_shim */

#define SMOLQ__CUDA_SHARED(type, name, count) \
    static cuda_shim::array_site name##_site; \
    type(&name)[count] = *(type(*)[count])name##_site.get(sizeof(type[count]))
#define SMOLQ__CUDA_DYNAMIC(type, name) type *name = (type *)(void *)cuda_shim::dynamic_array

/* ==== 2. device built-ins =========================================================================================== */

/* ---- barriers, shuffles, votes: the defaults of file and line are those of the caller ---- */

#define CUDA_SHIM_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_SHIM_SITE) { cuda_shim::barrier({ "__syncthreads", file, line }); }
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_SHIM_SITE) { cuda_shim::exchange(mask, "", 0, { "__syncwarp", file, line }); }
inline void __threadfence() {}

/* The end of the kernel before.  Here it has ended long ago; what can be seen is who forgets to wait. */
inline void smolq__cuda_begin()
{
    if (cuda_shim::B.begun[cuda_shim::B.now]) cuda_shim::die("calls smolq__cuda_begin twice");
    cuda_shim::B.begun[cuda_shim::B.now] = true;
}
inline void __threadfence_block() {}

namespace cuda_shim {
template <class T> inline T shuffle(unsigned mask, T v, int from, const site &at)
{
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
    memcpy(&v, exchange(mask, &v, sizeof v, at)[from], sizeof v);
    return v;
}
inline uint32_t vote(unsigned mask, int predicate, const site &at)
{
    unsigned char yes = predicate != 0;
    const unsigned char(*slots)[32] = exchange(mask, &yes, 1, at);
    uint32_t set = 0;
    for (int i = 0; i < 32; i++) set |= (uint32_t)slots[i][0] << i;
    return set;
}
inline int lane() { return (int)(B.now % 32); }
}

template <class T> inline T __shfl_sync(unsigned mask, T v, int lane, CUDA_SHIM_SITE)
{
    return cuda_shim::shuffle(mask, v, lane & 31, { "__shfl_sync", file, line });
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int lane_mask, CUDA_SHIM_SITE)
{
    return cuda_shim::shuffle(mask, v, (cuda_shim::lane() ^ lane_mask) & 31, { "__shfl_xor_sync", file, line });
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, CUDA_SHIM_SITE)
{
    unsigned from = (unsigned)cuda_shim::lane() + delta;
    return cuda_shim::shuffle(mask, v, from < 32 ? (int)from : cuda_shim::lane(), { "__shfl_down_sync", file, line });
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, CUDA_SHIM_SITE)
{
    return cuda_shim::shuffle(mask, v, cuda_shim::lane() - (delta <= (unsigned)cuda_shim::lane() ? (int)delta : 0), { "__shfl_up_sync", file, line });
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_SHIM_SITE) { return cuda_shim::vote(mask, predicate, { "__ballot_sync", file, line }); }
inline int __any_sync(unsigned mask, int predicate, CUDA_SHIM_SITE) { return cuda_shim::vote(mask, predicate, { "__any_sync", file, line }) != 0; }
inline int __all_sync(unsigned mask, int predicate, CUDA_SHIM_SITE) { return cuda_shim::vote(mask, predicate, { "__all_sync", file, line }) == 0xffffffffu; }

/* ---- vectors ---- */

struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline int2 make_int2(int x, int y) { return { x, y }; }
inline int4 make_int4(int x, int y, int z, int w) { return { x, y, z, w }; }
inline uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return { x, y, z, w }; }
inline float2 make_float2(float x, float y) { return { x, y }; }
inline float4 make_float4(float x, float y, float z, float w) { return { x, y, z, w }; }

inline uint4 smolq__cuda_load16(const void *p)
{
    uint4 v;
    if ((uintptr_t)p % 16) cuda_shim::die("load of 16 bytes at %p, no multiple of 16", p);
    memcpy(&v, p, 16);
    return v;
}

inline void smolq__cuda_prefetch(const void *p) { *(const volatile char *)p; } /* AddressSanitizer sees one that leads nowhere */

/* ---- scalars ---- */

template <class T> inline T __ldg(const T *p) { return *p; }

inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
inline unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
inline float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
inline float __uint_as_float(unsigned u) { float x; memcpy(&x, &u, 4); return x; }

/* One rounding each: the empty asm keeps a compiler with FMA instructions from fusing them. */
#if defined(__x86_64__)
#  define CUDA_SHIM_KEEP(x) __asm__("" : "+x"(x))
#elif defined(__aarch64__)
#  define CUDA_SHIM_KEEP(x) __asm__("" : "+w"(x))
#else
#  define CUDA_SHIM_KEEP(x) __asm__("" : "+m"(x))
#endif
inline float __fmul_rn(float a, float b) { float r = a * b; CUDA_SHIM_KEEP(r); return r; }
inline float __fadd_rn(float a, float b) { float r; CUDA_SHIM_KEEP(a); r = a + b; CUDA_SHIM_KEEP(r); return r; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline float __int2float_rn(int i) { return (float)i; }
inline int __float2int_rn(float x) /* NaN gives 0, too large the limits */
{
    if (x != x) return 0;
    if (x >= 2147483648.0f) return INT32_MAX;
    if (x <= -2147483648.0f) return INT32_MIN;
    return (int)__builtin_lrintf(x);
}

inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8) c = (int)((unsigned)c + (unsigned)((int8_t)(a >> i) * (int8_t)(b >> i)));
    return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 32; i += 8) c += (a >> i & 255u) * (b >> i & 255u);
    return c;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

/* Byte i of the result: byte s of the eight of b:a, s the low three bits of nibble i of the selector.  nvcc clears the fourth bit, which
 * PTX's prmt would take for "the sign eight times". */
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= ((unsigned)(both >> 8 * (selector >> 4 * i & 7u)) & 255u) << 8 * i;
    return r;
}
inline unsigned __vsub4(unsigned a, unsigned b)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i += 8) r |= (((a >> i) - (b >> i)) & 255u) << i;
    return r;
}
inline unsigned __vcmpeq4(unsigned a, unsigned b)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i += 8) r |= (((a ^ b) >> i) & 255u ? 0u : 255u) << i;
    return r;
}

/* Fibers change places at waits only, so these are whole. */
inline int atomicAdd(int *p, int v) { int old = *p; *p = (int)((unsigned)old + (unsigned)v); return old; }
inline unsigned atomicAdd(unsigned *p, unsigned v) { unsigned old = *p; *p = old + v; return old; }
inline int atomicOr(int *p, int v) { int old = *p; *p = old | v; return old; }
inline unsigned atomicOr(unsigned *p, unsigned v) { unsigned old = *p; *p = old | v; return old; }
inline int atomicMax(int *p, int v) { int old = *p; *p = old > v ? old : v; return old; }

/* ---- cp.async: the destination is poison until the wait ---- */

inline void smolq__cuda_cp_async16(void *shared, const void *global)
{
    using namespace cuda_shim;
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) die("cp.async from %p to %p, not both multiples of 16", global, shared);
    if (!is_shared(shared, 16)) die("cp.async to %p, which is not in shared memory", shared);
    memset(shared, POISON, 16);
    B.copies[B.now].push_back({ shared, global, B.group[B.now] });
}

inline void smolq__cuda_cp_async_commit() { cuda_shim::B.group[cuda_shim::B.now]++; }

/* Waits until all groups but the N latest have come. */
template <int N> inline void smolq__cuda_cp_async_wait()
{
    using namespace cuda_shim;
    std::vector<async_copy> &copies = B.copies[B.now];
    size_t n = 0;
    for (; n < copies.size() && copies[n].group < B.group[B.now] - N; n++) memcpy(copies[n].to, copies[n].from, 16);
    copies.erase(copies.begin(), copies.begin() + (std::ptrdiff_t)n);
}

/* ---- s8 mma, d = a * b + c.  PTX ISA, "Matrix Fragments for mma.m8n8k16 / mma.m16n8k16 / mma.m16n8k32 with .s8".
 *
 * With group = lane / 4, t = lane % 4; a register holds four bytes along k, the first in the low byte:
 *
 *              a: row, k                        b: k, column              c: row, column
 *   m8n8k16    a    group,     4 t ..           b    4 t .., group        c0 c1  group,     2 t, 2 t + 1
 *
 *   m16n8k16   a0   group,     4 t ..           b    4 t .., group        c0 c1  group,     2 t, 2 t + 1
 *              a1   group + 8, 4 t ..                                     c2 c3  group + 8, 2 t, 2 t + 1
 *
 *   m16n8k32   a0   group,     4 t ..           b0   4 t .., group        as m16n8k16
 *              a1   group + 8, 4 t ..           b1   4 t + 16 .., group
 *              a2   group,     4 t + 16 ..
 *              a3   group + 8, 4 t + 16 ..
 *
 * So row r of a lies in the lanes 4 (r % 8) + t, register r / 8 + 2 (k / 16); column n of b in the lanes 4 n + t, register k / 16. */
namespace cuda_shim {
template <int ROWS, int DEPTH> inline void mma_s8(int *c, const unsigned *a, const unsigned *b, const site &at)
{
    enum { N_A = ROWS / 8 * (DEPTH / 16), N_B = DEPTH / 16 };
    unsigned operand[N_A + N_B];
    memcpy(operand, a, sizeof(unsigned[N_A]));
    memcpy(operand + N_A, b, sizeof(unsigned[N_B]));
    const unsigned char(*slots)[32] = exchange(0xffffffffu, operand, sizeof operand, at);
    int group = lane() / 4, t = lane() % 4;
    for (int i = 0; i < ROWS / 4; i++) {
        int half = i / 2, column = 2 * t + i % 2;   /* row group + 8 half */
        for (int k = 0; k < DEPTH; k += 4) {
            int from = k / 4 % 4, x, y;
            memcpy(&x, slots[4 * group + from] + 4 * (half + ROWS / 8 * (k / 16)), 4);
            memcpy(&y, slots[4 * column + from] + 4 * (N_A + k / 16), 4);
            c[i] = __dp4a(x, y, c[i]);
        }
    }
}
}
inline void smolq__cuda_mma_s8(int c[4], const unsigned a[4], const unsigned b[2], CUDA_SHIM_SITE)
{
    cuda_shim::mma_s8<16, 32>(c, a, b, { "mma m16n8k32", file, line });
}
inline void smolq__cuda_mma_s8_k16(int c[4], const unsigned a[2], const unsigned b[1], CUDA_SHIM_SITE)
{
    cuda_shim::mma_s8<16, 16>(c, a, b, { "mma m16n8k16", file, line });
}
inline void smolq__cuda_mma_s8_m8(int c[2], unsigned a, unsigned b, CUDA_SHIM_SITE)
{
    cuda_shim::mma_s8<8, 16>(c, &a, &b, { "mma m8n8k16", file, line });
}

/* ==== 3. the runtime ================================================================================================ */

/* Names and numbers are CUDA's. */
#define CUDA_SHIM_ERRORS(X) \
    X(cudaSuccess, 0, "no error") \
    X(cudaErrorInvalidValue, 1, "invalid argument") \
    X(cudaErrorMemoryAllocation, 2, "out of memory") \
    X(cudaErrorInitializationError, 3, "initialization error") \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument") \
    X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy") \
    X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected") \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal") \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle") \
    X(cudaErrorNotReady, 600, "device not ready") \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered") \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure") \
    X(cudaErrorNotSupported, 801, "operation not supported") \
    X(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when stream is capturing") \
    X(cudaErrorStreamCaptureInvalidated, 901, "operation failed due to a previous error during capture") \
    X(cudaErrorStreamCaptureUnmatched, 903, "capture was not initiated in this stream") \
    X(cudaErrorStreamCaptureUnjoined, 904, "capturing stream has unjoined work") \
    X(cudaErrorStreamCaptureImplicit, 906, "operation would make the legacy stream depend on a capturing blocking stream") \
    X(cudaErrorStreamCaptureWrongThread, 908, "attempt to terminate a thread-local capture sequence from another thread") \
    X(cudaErrorUnknown, 999, "unknown error")
#define CUDA_SHIM_ENUM(name, number, text) name = number,
enum cudaError { CUDA_SHIM_ERRORS(CUDA_SHIM_ENUM) };
typedef enum cudaError cudaError_t;

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributePreferredSharedMemoryCarveout = 9 };
enum {
    cudaStreamDefault = 0, cudaStreamNonBlocking = 1,
    cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2, cudaHostAllocWriteCombined = 4
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1, cudaDevAttrMaxSharedMemoryPerBlock = 8, cudaDevAttrWarpSize = 10, cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrIntegrated = 18, cudaDevAttrL2CacheSize = 38, cudaDevAttrMaxThreadsPerMultiProcessor = 39, cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76, cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int major, minor, multiProcessorCount, l2CacheSize, warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, integrated;
};

/* ---- work, streams, graphs ---- */

namespace cuda_shim { struct work; struct capture; }

struct CUstream_st {
    int device = 0;
    bool blocking = true;                       /* takes turns with the legacy stream */
    std::deque<cuda_shim::work> queue;
    uint64_t issued = 0, done = 0;              /* works ever */
    bool after_kernel = false;                  /* the latest of them is a kernel */
    std::shared_ptr<cuda_shim::capture> into;   /* the graph that is captured */
    std::vector<size_t> front;                  /* nodes that the next one follows */
};

struct CUevent_st {
    int device = 0;
    std::shared_ptr<CUstream_st> stream;        /* where it was recorded last, and how many works had been issued there */
    uint64_t ticket = 0;
    std::shared_ptr<cuda_shim::capture> into;   /* or after which nodes of a graph */
    std::vector<size_t> front;
};

namespace cuda_shim {

struct work {
    enum { KERNEL, COPY, FILL, WAIT, GRAPH } what = KERNEL;
    std::function<void()> kernel;
    bool dependent = false;                     /* a kernel that follows another one, and may begin early */
    void *to = nullptr;
    const void *from = nullptr;
    size_t bytes = 0;
    int value = 0;                              /* of FILL */
    std::shared_ptr<CUstream_st> stream;        /* WAIT until it has done so many works */
    uint64_t ticket = 0;
    std::shared_ptr<const capture> graph;
};

struct node { work what; std::vector<size_t> after; };

struct capture {
    std::vector<node> nodes;
    CUstream_st *origin = nullptr;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    std::thread::id thread;
    bool broken = false;
};

} /* namespace cuda_shim */

struct CUgraph_st { std::shared_ptr<const cuda_shim::capture> nodes; };
struct CUgraphExec_st { std::shared_ptr<const cuda_shim::capture> nodes; int device; };

/* ---- the machine ---- */

namespace cuda_shim {

struct piece { size_t bytes; int device; };

struct machine {
    std::recursive_mutex lock;                  /* one runtime call at a time, kernels included */
    int devices = 1, sm = 90, multiprocessors = 4;
    uint64_t memory = 1 << 30, used[MAX_DEVICES] = {}, now = 0, peak = 0, pinned_bytes = 0, calls = 0, kernels = 0;
    int fail = 0, lose = 0;
    bool lost = false;
    std::map<uintptr_t, piece> heap, pinned;    /* by address */
    std::map<cudaStream_t, std::shared_ptr<CUstream_st>> streams;
    std::shared_ptr<CUstream_st> legacy[MAX_DEVICES];
    std::set<cudaEvent_t> events;
    std::set<cudaGraph_t> graphs;
    std::set<cudaGraphExec_t> execs;
    std::map<const void *, size_t> dynamic_limit; /* of kernels: cudaFuncSetAttribute */
};
inline machine &M = *new machine;               /* outlives all static objects */
inline thread_local int current_device;
inline thread_local cudaError_t last_error;

inline size_t optin_shared() { return (size_t)(M.sm == 75 ? 64 : M.sm == 80 ? 163 : M.sm < 90 ? 99 : 227) << 10; }

/* Every runtime call holds one: takes the lock, counts, and has an error if the test wants one here. */
struct call {
    std::lock_guard<std::recursive_mutex> hold{ M.lock };
    cudaError_t error = cudaSuccess;
    explicit call(bool needs_device = true)
    {
        M.calls++;
        if (M.lose > 0 && --M.lose == 0) M.lost = true;
        if (M.fail > 0 && --M.fail == 0) error = cudaErrorUnknown;
        else if (M.lost) error = cudaErrorLaunchFailure;
        else if (needs_device && M.devices < 0) error = cudaErrorInsufficientDriver;
        else if (needs_device && M.devices == 0) error = cudaErrorNoDevice;
        if (error) last_error = error;
    }
    cudaError_t result(cudaError_t e) /* an earlier error counts more */
    {
        if (error) return error;
        if (e && e != cudaErrorNotReady) last_error = e;
        return e;
    }
};

/* The live stream of a handle; null: none. */
inline std::shared_ptr<CUstream_st> stream_of(cudaStream_t s)
{
    if (!s) {
        std::shared_ptr<CUstream_st> &legacy = M.legacy[current_device];
        if (!legacy) {
            legacy = std::make_shared<CUstream_st>();
            legacy->device = current_device;
        }
        return legacy;
    }
    auto found = M.streams.find(s);
    return found == M.streams.end() ? nullptr : found->second;
}

/* The same for one that may be waited for: not while it captures.  Null: why not is in c.error. */
inline std::shared_ptr<CUstream_st> waitable(cudaStream_t handle, call &c)
{
    std::shared_ptr<CUstream_st> s = stream_of(handle);
    if (s && !s->into) return s;
    if (s) s->into->broken = true;
    c.error = c.result(s ? cudaErrorStreamCaptureUnsupported : cudaErrorInvalidResourceHandle);
    return nullptr;
}

inline bool is_device_range(const void *p, size_t n)
{
    auto after = M.heap.upper_bound((uintptr_t)p);
    if (after == M.heap.begin()) return false;
    --after;
    return (uintptr_t)p - after->first <= after->second.bytes && n <= after->second.bytes - ((uintptr_t)p - after->first);
}

/* The nodes of a graph in an order that their edges allow: as issued, the latest ready one first, or any ready one. */
inline std::vector<size_t> node_order(const capture &g)
{
    size_t n = g.nodes.size();
    std::vector<size_t> order, missing(n), ready;
    std::vector<std::vector<size_t>> next(n);
    for (size_t i = 0; i < n; i++) {
        missing[i] = g.nodes[i].after.size();
        if (missing[i] == 0) ready.push_back(i);
        for (size_t j : g.nodes[i].after) next[j].push_back(i);
    }
    while (!ready.empty()) {
        size_t best = 0;
        if (order_mode == CUDA_SHIM_RANDOM) best = random32() % ready.size();
        else
            for (size_t i = 1; i < ready.size(); i++)
                if (order_mode == CUDA_SHIM_FORWARD ? ready[i] < ready[best] : ready[i] > ready[best]) best = i;
        size_t done = ready[best];
        ready.erase(ready.begin() + (std::ptrdiff_t)best);
        order.push_back(done);
        for (size_t j : next[done])
            if (--missing[j] == 0) ready.push_back(j);
    }
    return order;
}

void run_until(CUstream_st &s, uint64_t ticket);

inline void do_work(const work &w)
{
    switch (w.what) {
    case work::KERNEL:
        w.kernel();
        M.kernels++;
        break;
    case work::COPY: memmove(w.to, w.from, w.bytes); break;
    case work::FILL: memset(w.to, w.value, w.bytes); break;
    case work::WAIT: run_until(*w.stream, w.ticket); break;
    case work::GRAPH:
        for (size_t i : node_order(*w.graph)) do_work(w.graph->nodes[i].what);
        break;
    }
}

/* A WAIT in the queue leads to other streams, and from there only to works issued earlier: it ends. */
inline void run_until(CUstream_st &s, uint64_t ticket)
{
    while (s.done < ticket) {
        work w = std::move(s.queue.front());
        s.queue.pop_front();
        do_work(w);
        s.done++;
    }
}

inline void run_all(CUstream_st &s) { run_until(s, s.issued); }

/* The legacy stream and the streams that take turns with it; or all of the device. */
inline void run_device(int device, bool all)
{
    std::vector<std::shared_ptr<CUstream_st>> streams;
    if (M.legacy[device]) streams.push_back(M.legacy[device]);
    for (auto &s : M.streams)
        if (s.second->device == device && (all || s.second->blocking)) streams.push_back(s.second);
    for (uint32_t i : permutation((uint32_t)streams.size())) run_all(*streams[i]);
}

/* What would wait for the device, or allocate, spoils a capture under way (of this thread, if that is how it was begun). */
inline bool breaks_capture(int device)
{
    bool broke = false;
    for (auto &s : M.streams) {
        capture *c = s.second->into.get();
        if (!c || s.second->device != device || c->mode == cudaStreamCaptureModeRelaxed) continue;
        if (c->mode == cudaStreamCaptureModeThreadLocal && c->thread != std::this_thread::get_id()) continue;
        broke = c->broken = true;
    }
    return broke;
}

/* Puts work at the end of a stream, or of the graph that it captures. */
inline cudaError_t put(cudaStream_t handle, work w, bool on_its_device = false)
{
    std::shared_ptr<CUstream_st> s = stream_of(handle);
    if (!s || (on_its_device && s->device != current_device)) return cudaErrorInvalidResourceHandle;
    if (s->into) {
        if (w.what == work::GRAPH) return cudaErrorNotSupported;
        if (w.dependent && (s->front.size() != 1 || s->into->nodes[s->front[0]].what.what != work::KERNEL)) die("a dependent launch in a graph, where no kernel goes before");
        s->into->nodes.push_back({ std::move(w), s->front });
        s->front.assign(1, s->into->nodes.size() - 1);
        return cudaSuccess;
    }
    if (!handle) { /* after all blocking streams; running them early is one of the orders that CUDA may choose */
        for (auto &other : M.streams)
            if (other.second->blocking && other.second->into) {
                other.second->into->broken = true;
                return cudaErrorStreamCaptureImplicit;
            }
        run_device(s->device, false);
    }
    else if (s->blocking && M.legacy[s->device]) run_all(*M.legacy[s->device]);
    if (w.dependent && !s->after_kernel) die("a dependent launch where no kernel goes before");
    s->after_kernel = w.what == work::KERNEL;
    s->queue.push_back(std::move(w));
    s->issued++;
    return cudaSuccess;
}

inline bool touches(const work &w, const unsigned char *p, size_t n)
{
    auto overlaps = [&](const void *q, size_t m) { return q && (const unsigned char *)q < p + n && p < (const unsigned char *)q + m; };
    if (w.what == work::GRAPH) {
        for (const node &inner : w.graph->nodes)
            if (touches(inner.what, p, n)) return true;
        return false;
    }
    return overlaps(w.to, w.bytes) || overlaps(w.from, w.bytes);
}

/* The host's destination of a copy to come holds poison until then, unless other work in a queue uses it. */
inline void poison_destination(void *to, size_t n)
{
    for (auto &s : M.streams)
        for (const work &w : s.second->queue)
            if (touches(w, (const unsigned char *)to, n)) return;
    for (auto &s : M.legacy)
        if (s)
            for (const work &w : s->queue)
                if (touches(w, (const unsigned char *)to, n)) return;
    memset(to, POISON, n);
}

/* Which side is the device's must be in one allocation of the device. */
inline cudaError_t check_copy(void *to, const void *from, size_t n, cudaMemcpyKind *kind)
{
    bool to_device = is_device_range(to, n), from_device = is_device_range(from, n);
    if (*kind == cudaMemcpyDefault) *kind = (cudaMemcpyKind)((from_device ? 2 : 0) + (to_device ? 1 : 0));
    if (*kind < cudaMemcpyHostToHost || *kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
    if (n == 0) return cudaSuccess;
    return to && from && to_device == ((*kind & 1) != 0) && from_device == ((*kind & 2) != 0) ? cudaSuccess : cudaErrorInvalidValue;
}

/* Blocks of the heap are exact for AddressSanitizer; without it a canary behind each shows writes past its end when it is freed. */
#ifdef CUDA_SHIM_ASAN
enum { BEHIND = 0 };
#else
enum { BEHIND = ZONE };
#endif

inline void *new_block(std::map<uintptr_t, piece> &blocks, size_t bytes)
{
    void *p;
    if (bytes > SIZE_MAX - BEHIND || posix_memalign(&p, 256, bytes + BEHIND)) return nullptr;
    memset(p, POISON, bytes);
    memset((char *)p + bytes, CANARY, BEHIND);
    blocks[(uintptr_t)p] = { bytes, current_device };
    return p;
}

inline void end_block(std::map<uintptr_t, piece> &blocks, std::map<uintptr_t, piece>::iterator block)
{
    unsigned char *p = (unsigned char *)block->first;
    size_t bytes = block->second.bytes;
    for (size_t i = 0; i < BEHIND; i++)
        if (p[bytes + i] != CANARY) die("a block of %zu bytes was overrun by %zu or more", bytes, i + 1);
    memset(p, POISON, bytes);
    blocks.erase(block);
    free(p);
}

/* ---- launches ---- */

template <class... P, class... A>
inline cudaError_t launch(const char *name, bool dependent, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A... args)
{
    typedef std::tuple<void (*)(P...), P...> call_of;
    static_assert((std::is_trivially_copyable<P>::value && ...), "arguments of kernels are copied as bytes");
    static_assert((sizeof(P) + ... + 0) <= 4096, "arguments of a kernel have at most 4096 bytes");
    call c;
    if (c.error) return c.error;
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return c.result(cudaErrorInvalidConfiguration);
    if (!block.x || !block.y || !block.z || block.x > 1024 || block.y > 1024 || block.z > 64) return c.result(cudaErrorInvalidConfiguration);
    if ((uint64_t)block.x * block.y * block.z > MAX_THREADS) return c.result(cudaErrorInvalidConfiguration);
    auto raised = M.dynamic_limit.find((const void *)kernel);
    if (shared > (raised == M.dynamic_limit.end() ? (size_t)STATIC_LIMIT : raised->second)) return c.result(cudaErrorInvalidValue);
    size_t limit = raised == M.dynamic_limit.end() ? (size_t)STATIC_LIMIT : optin_shared();
    if (dependent && M.sm < 90) return c.result(cudaErrorNotSupported);
    work w;
    call_of what(kernel, args...);
    w.dependent = dependent;
    w.kernel = [=] {
        run_grid(name, dependent, grid, block, shared, limit, [](const void *p) {
            std::apply([](void (*f)(P...), const P &...a) { f(a...); }, *(const call_of *)p);
        }, &what);
    };
    return c.result(put(stream, std::move(w), true));
}

} /* namespace cuda_shim */

#define SMOLQ__CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_shim::launch(#kernel, false, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)
#define SMOLQ__CUDA_LAUNCH_DEPENDENT(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_shim::launch(#kernel, true, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)

/* ---- errors and devices ---- */

inline const char *cudaGetErrorName(cudaError_t e)
{
#define CUDA_SHIM_NAME(name, number, text) case name: return #name;
    switch (e) { CUDA_SHIM_ERRORS(CUDA_SHIM_NAME) }
    return "unrecognized error code";
}

inline const char *cudaGetErrorString(cudaError_t e)
{
#define CUDA_SHIM_TEXT(name, number, text) case name: return text;
    switch (e) { CUDA_SHIM_ERRORS(CUDA_SHIM_TEXT) }
    return "unrecognized error code";
}

inline cudaError_t cudaPeekAtLastError() { return cuda_shim::last_error; }

inline cudaError_t cudaGetLastError() /* and forgets it, unless the device is lost */
{
    cudaError_t e = cuda_shim::last_error;
    cuda_shim::last_error = cuda_shim::M.lost ? cudaErrorLaunchFailure : cudaSuccess;
    return e;
}

inline cudaError_t cudaDriverGetVersion(int *version)
{
    cuda_shim::call c(false);
    if (c.error) return c.error;
    *version = cuda_shim::M.devices == -1 ? 0 : cuda_shim::M.devices == -2 ? 11080 : 13000;
    return cudaSuccess;
}

inline cudaError_t cudaRuntimeGetVersion(int *version)
{
    cuda_shim::call c(false);
    if (c.error) return c.error;
    *version = 13000;
    return cudaSuccess;
}

inline cudaError_t cudaGetDeviceCount(int *n)
{
    cuda_shim::call c;
    *n = 0;
    if (c.error) return c.error;
    *n = cuda_shim::M.devices;
    return cudaSuccess;
}

inline cudaError_t cudaSetDevice(int device)
{
    cuda_shim::call c;
    if (c.error) return c.error;
    if (device < 0 || device >= cuda_shim::M.devices) return c.result(cudaErrorInvalidDevice);
    cuda_shim::current_device = device;
    return cudaSuccess;
}

inline cudaError_t cudaGetDevice(int *device)
{
    cuda_shim::call c;
    if (c.error) return c.error;
    *device = cuda_shim::current_device;
    return cudaSuccess;
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    if (device < 0 || device >= M.devices) return c.result(cudaErrorInvalidDevice);
    *prop = cudaDeviceProp();
    snprintf(prop->name, sizeof prop->name, "shim %d", device);
    prop->totalGlobalMem = M.memory;
    prop->sharedMemPerBlock = STATIC_LIMIT;
    prop->sharedMemPerBlockOptin = optin_shared();
    prop->sharedMemPerMultiprocessor = optin_shared() + 1024;
    prop->major = M.sm / 10;
    prop->minor = M.sm % 10;
    prop->multiProcessorCount = M.multiprocessors;
    prop->l2CacheSize = 4 << 20;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = MAX_THREADS;
    prop->maxThreadsPerMultiProcessor = M.sm == 75 ? 1024 : M.sm == 86 || M.sm == 89 ? 1536 : 2048;
    return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp prop;
    cudaError_t e = cudaGetDeviceProperties(&prop, device);
    if (e) return e;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = prop.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)prop.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = prop.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = prop.multiProcessorCount; break;
    case cudaDevAttrIntegrated: *value = prop.integrated; break;
    case cudaDevAttrL2CacheSize: *value = prop.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = prop.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = prop.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = prop.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)prop.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)prop.sharedMemPerBlockOptin; break;
    }
    return cudaSuccess;
}

struct cudaFuncAttributes { int ptxVersion; };

template <class T> inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, T *kernel) /* compiled for what is there */
{
    cuda_shim::call c;
    (void)kernel;
    if (c.error) return c.error;
    attributes->ptxVersion = cuda_shim::M.sm;
    return cudaSuccess;
}

template <class T> inline cudaError_t cudaFuncSetAttribute(T *kernel, cudaFuncAttribute attribute, int value)
{
    cuda_shim::call c;
    if (c.error) return c.error;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > cuda_shim::optin_shared()) return c.result(cudaErrorInvalidValue);
    cuda_shim::M.dynamic_limit[(const void *)kernel] = (size_t)value;
    return cudaSuccess;
}

/* ---- memory ---- */

inline cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    *total = M.memory;
    *available = M.used[current_device] < M.memory ? M.memory - M.used[current_device] : 0;
    return cudaSuccess;
}

template <class T> inline cudaError_t cudaMalloc(T **p, size_t bytes)
{
    using namespace cuda_shim;
    call c;
    void *block;
    if (c.error) return c.error;
    if (breaks_capture(current_device)) return c.result(cudaErrorStreamCaptureUnsupported);
    *p = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (M.used[current_device] > M.memory || bytes > M.memory - M.used[current_device]) return c.result(cudaErrorMemoryAllocation);
    block = new_block(M.heap, bytes);
    if (!block) return c.result(cudaErrorMemoryAllocation);
    M.used[current_device] += bytes;
    M.now += bytes;
    if (M.now > M.peak) M.peak = M.now;
    *p = (T *)block;
    return cudaSuccess;
}

/* What releases does so even when it returns an error, which is then that of earlier work: so it is with CUDA. */
inline cudaError_t cudaFree(void *p)
{
    using namespace cuda_shim;
    call c;
    if (!p) return c.error;
    auto found = M.heap.find((uintptr_t)p);
    if (found == M.heap.end()) return c.result(cudaErrorInvalidValue);
    if (!c.error && breaks_capture(current_device)) return c.result(cudaErrorStreamCaptureUnsupported);
    run_device(found->second.device, true);
    M.used[found->second.device] -= found->second.bytes;
    M.now -= found->second.bytes;
    end_block(M.heap, found);
    return c.error;
}

template <class T> inline cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned)
{
    using namespace cuda_shim;
    call c;
    void *block;
    if (c.error) return c.error;
    if (breaks_capture(current_device)) return c.result(cudaErrorStreamCaptureUnsupported);
    *p = nullptr;
    if (bytes == 0) return cudaSuccess;
    block = new_block(M.pinned, bytes);
    if (!block) return c.result(cudaErrorMemoryAllocation);
    M.pinned_bytes += bytes;
    *p = (T *)block;
    return cudaSuccess;
}

template <class T> inline cudaError_t cudaMallocHost(T **p, size_t bytes, unsigned flags = 0) { return cudaHostAlloc(p, bytes, flags); }

inline cudaError_t cudaFreeHost(void *p)
{
    using namespace cuda_shim;
    call c;
    if (!p) return c.error;
    auto found = M.pinned.find((uintptr_t)p);
    if (found == M.pinned.end()) return c.result(cudaErrorInvalidValue);
    if (!c.error && breaks_capture(current_device)) return c.result(cudaErrorStreamCaptureUnsupported);
    run_device(found->second.device, true);
    M.pinned_bytes -= found->second.bytes;
    end_block(M.pinned, found);
    return c.error;
}

inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr)
{
    using namespace cuda_shim;
    call c;
    work w;
    if (c.error) return c.error;
    cudaError_t e = check_copy(to, from, bytes, &kind);
    if (e) return c.result(e);
    w.what = work::COPY;
    w.to = to;
    w.from = from;
    w.bytes = bytes;
    if ((kind & 1) == 0 && bytes && stream_of(stream) && !stream_of(stream)->into) poison_destination(to, bytes);
    return c.result(put(stream, std::move(w)));
}

inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    if (breaks_capture(current_device)) return c.result(cudaErrorStreamCaptureImplicit);
    cudaError_t e = check_copy(to, from, bytes, &kind);
    if (e) return c.result(e);
    run_device(current_device, false);
    memmove(to, from, bytes);
    return cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream = nullptr)
{
    using namespace cuda_shim;
    call c;
    work w;
    if (c.error) return c.error;
    if (bytes && !is_device_range(to, bytes)) return c.result(cudaErrorInvalidValue);
    w.what = work::FILL;
    w.to = to;
    w.bytes = bytes;
    w.value = value;
    return c.result(put(stream, std::move(w)));
}

inline cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

/* ---- streams and events ---- */

inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    auto s = std::make_shared<CUstream_st>();
    s->device = current_device;
    s->blocking = (flags & cudaStreamNonBlocking) == 0;
    M.streams[s.get()] = s;
    *stream = s.get();
    return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return cudaStreamCreateWithPriority(stream, flags, 0); }
inline cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

inline cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    cuda_shim::call c;
    if (c.error) return c.error;
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    using namespace cuda_shim;
    call c;
    if (!stream || !M.streams.count(stream)) return c.result(cudaErrorInvalidResourceHandle);
    run_all(*M.streams[stream]);
    M.streams.erase(stream);
    return c.error;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    auto s = waitable(stream, c);
    if (!s) return c.error;
    run_all(*s);
    return cudaSuccess;
}

/* One work is done at each query, so that whoever polls sees both answers. */
inline cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    auto s = waitable(stream, c);
    if (!s) return c.error;
    if (s->done == s->issued) return cudaSuccess;
    run_until(*s, s->done + 1);
    return cudaErrorNotReady;
}

inline cudaError_t cudaDeviceSynchronize()
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    if (breaks_capture(current_device)) return c.result(cudaErrorStreamCaptureUnsupported);
    run_device(current_device, true);
    return cudaSuccess;
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    *event = new CUevent_st();
    (*event)->device = current_device;
    M.events.insert(*event);
    return cudaSuccess;
}

inline cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

inline cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    using namespace cuda_shim;
    call c;
    if (!M.events.erase(event)) return c.result(cudaErrorInvalidResourceHandle);
    delete event;
    return c.error;
}

inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    auto s = stream_of(stream);
    if (!s || !M.events.count(event) || event->device != s->device) return c.result(cudaErrorInvalidResourceHandle);
    if (s->into) {
        event->into = s->into;
        event->front = s->front;
        event->stream = nullptr;
        return cudaSuccess;
    }
    if (!stream) run_device(s->device, false);
    event->into = nullptr;
    event->stream = s;
    event->ticket = s->issued;
    return cudaSuccess;
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    if (!M.events.count(event)) return c.result(cudaErrorInvalidResourceHandle);
    if (event->into) return c.result(cudaErrorStreamCaptureUnsupported);
    if (event->stream) run_until(*event->stream, event->ticket);
    return cudaSuccess;
}

inline cudaError_t cudaEventQuery(cudaEvent_t event)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    if (!M.events.count(event)) return c.result(cudaErrorInvalidResourceHandle);
    if (event->into) return c.result(cudaErrorStreamCaptureUnsupported);
    if (!event->stream || event->stream->done >= event->ticket) return cudaSuccess;
    run_until(*event->stream, event->stream->done + 1);
    return cudaErrorNotReady;
}

inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned = 0)
{
    using namespace cuda_shim;
    call c;
    work w;
    if (c.error) return c.error;
    auto s = stream_of(stream);
    if (!s || !M.events.count(event)) return c.result(cudaErrorInvalidResourceHandle);
    if (event->into) { /* the stream joins the capture, or waits for another branch of it */
        if (s->into && s->into != event->into) return c.result(cudaErrorStreamCaptureUnsupported);
        if (!s->into) s->front.clear();
        s->into = event->into;
        for (size_t i : event->front)
            if (std::find(s->front.begin(), s->front.end(), i) == s->front.end()) s->front.push_back(i);
        return cudaSuccess;
    }
    if (s->into) return c.result(cudaErrorStreamCaptureUnsupported);
    if (!event->stream) return cudaSuccess;
    w.what = work::WAIT;
    w.stream = event->stream;
    w.ticket = event->ticket;
    return c.result(put(stream, std::move(w)));
}

/* ---- graphs ---- */

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    auto s = stream_of(stream);
    if (!s) return c.result(cudaErrorInvalidResourceHandle);
    if (!stream || s->into) return c.result(cudaErrorStreamCaptureUnsupported);
    s->into = std::make_shared<capture>();
    s->into->origin = s.get();
    s->into->mode = mode;
    s->into->thread = std::this_thread::get_id();
    s->front.clear();
    return cudaSuccess;
}

/* Ends the capture in any case: an error leaves no graph. */
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    using namespace cuda_shim;
    call c;
    *graph = nullptr;
    auto s = stream_of(stream);
    if (!s) return c.result(cudaErrorInvalidResourceHandle);
    if (!s->into || s->into->origin != s.get()) return c.result(cudaErrorStreamCaptureUnmatched);
    std::shared_ptr<capture> g = s->into;
    if (g->mode != cudaStreamCaptureModeRelaxed && g->thread != std::this_thread::get_id()) return c.result(cudaErrorStreamCaptureWrongThread);
    std::vector<bool> joined(g->nodes.size());
    std::vector<size_t> todo = s->front;
    bool all_joined = true;
    while (!todo.empty()) {
        size_t i = todo.back();
        todo.pop_back();
        if (joined[i]) continue;
        joined[i] = true;
        todo.insert(todo.end(), g->nodes[i].after.begin(), g->nodes[i].after.end());
    }
    for (auto &other : M.streams)
        if (other.second->into == g) {
            for (size_t i : other.second->front) all_joined = all_joined && joined[i];
            other.second->into = nullptr;
        }
    if (c.error) return c.error;
    if (g->broken) return c.result(cudaErrorStreamCaptureInvalidated);
    if (!all_joined) return c.result(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{ g };
    M.graphs.insert(*graph);
    return cudaSuccess;
}

inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long = 0)
{
    using namespace cuda_shim;
    call c;
    if (c.error) return c.error;
    if (!M.graphs.count(graph)) return c.result(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{ graph->nodes, current_device };
    M.execs.insert(*exec);
    return cudaSuccess;
}

inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    using namespace cuda_shim;
    call c;
    work w;
    if (c.error) return c.error;
    if (!M.execs.count(exec)) return c.result(cudaErrorInvalidValue);
    w.what = work::GRAPH;
    w.graph = exec->nodes;
    auto s = stream_of(stream);
    if (s && !s->into)
        for (const node &n : w.graph->nodes) {
            auto uses = [&](const node &other) { return touches(other.what, (const unsigned char *)n.what.to, n.what.bytes); };
            bool to_host = n.what.what == work::COPY && n.what.bytes && !is_device_range(n.what.to, n.what.bytes);
            if (to_host && std::count_if(w.graph->nodes.begin(), w.graph->nodes.end(), uses) == 1) poison_destination(n.what.to, n.what.bytes);
        }
    return c.result(put(stream, std::move(w), true));
}

inline cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    using namespace cuda_shim;
    call c;
    if (!M.graphs.erase(graph)) return c.result(cudaErrorInvalidValue);
    delete graph;
    return c.error;
}

inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    using namespace cuda_shim;
    call c;
    if (!M.execs.erase(exec)) return c.result(cudaErrorInvalidValue);
    delete exec;
    return c.error;
}

/* ---- the controls: kept in every program, for tests in C ---- */

#define CUDA_SHIM_CONTROL extern "C" __attribute__((used)) inline
CUDA_SHIM_CONTROL void cuda_shim_order(int mode, uint64_t seed)
{
    cuda_shim::order_mode = mode;
    cuda_shim::order_state = (seed + 1) * 0x9e3779b97f4a7c15u; /* not 0 for any seed but 2^64 - 1 */
    if (!cuda_shim::order_state) cuda_shim::order_state = 1;
}
CUDA_SHIM_CONTROL void cuda_shim_devices(int n) { cuda_shim::M.devices = n < -2 ? -2 : n > cuda_shim::MAX_DEVICES ? (int)cuda_shim::MAX_DEVICES : n; }
CUDA_SHIM_CONTROL void cuda_shim_sm(int sm, int multiprocessors)
{
    cuda_shim::M.sm = sm;
    cuda_shim::M.multiprocessors = multiprocessors;
}
CUDA_SHIM_CONTROL void cuda_shim_memory(uint64_t bytes) { cuda_shim::M.memory = bytes; }
CUDA_SHIM_CONTROL void cuda_shim_dependent(int all) { cuda_shim::all_dependent = all != 0; }
CUDA_SHIM_CONTROL uint64_t cuda_shim_bytes(void) { return cuda_shim::M.now; }
CUDA_SHIM_CONTROL uint64_t cuda_shim_peak(void) { return cuda_shim::M.peak; }
CUDA_SHIM_CONTROL uint64_t cuda_shim_pinned(void) { return cuda_shim::M.pinned_bytes; }
CUDA_SHIM_CONTROL int cuda_shim_objects(void)
{
    return (int)(cuda_shim::M.streams.size() + cuda_shim::M.events.size() + cuda_shim::M.graphs.size() + cuda_shim::M.execs.size());
}
CUDA_SHIM_CONTROL uint64_t cuda_shim_calls(void) { return cuda_shim::M.calls; }
CUDA_SHIM_CONTROL uint64_t cuda_shim_kernels(void) { return cuda_shim::M.kernels; }
CUDA_SHIM_CONTROL void cuda_shim_fail(int n) { cuda_shim::M.fail = n; }
CUDA_SHIM_CONTROL void cuda_shim_lose(int n)
{
    cuda_shim::M.lose = n;
    cuda_shim::M.lost = false;
}
CUDA_SHIM_CONTROL const char *cuda_shim_error(void) { return cuda_shim::error_text; }
CUDA_SHIM_CONTROL void cuda_shim_reset(void)
{
    using namespace cuda_shim;
    cuda_shim_order(CUDA_SHIM_FORWARD, 0);
    cuda_shim_devices(1);
    cuda_shim_sm(90, 4);
    cuda_shim_memory(1 << 30);
    cuda_shim_dependent(0);
    cuda_shim_fail(0);
    cuda_shim_lose(0);
    M.peak = M.now;
    M.calls = M.kernels = 0;
    error_text[0] = 0;
    last_error = cudaSuccess;
    current_device = 0;
}

#endif /* __cplusplus */
#endif
