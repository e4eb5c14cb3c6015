/* ==== base.c: errors, memory, checked arithmetic, look-ups ==========================================================
 * What every other part stands on.
 *
 * Memory: each object (gguf, vocabulary, model, context, sampler) owns a heap, a list of what it has allocated through the host's
 * allocator.  Closing the object releases the list; a failed open does the same, so no error path frees anything by hand, and the
 * heap's counter is the truth about what an object costs.
 *
 * Growable tables of loading are stb_ds arrays.  stb_ds does not check for failed allocation, so its realloc takes the heap of the
 * load that is going on from a thread-local pointer and, when memory is out, leaves by longjmp to smolq__guarded. */
#pragma once
#include "backend.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#  define SMOLQ__PRINTF(at, first) __attribute__((format(gnu_printf, at, first), unused))
#elif defined(__GNUC__)
#  define SMOLQ__PRINTF(at, first) __attribute__((format(printf, at, first), unused))
#else
#  define SMOLQ__PRINTF(at, first)
#endif

/* ---- errors ---- */

static smolq_result smolq__fail(smolq_error *err, smolq_result code, const char *format, ...) SMOLQ__PRINTF(3, 4);
static smolq_result smolq__fail(smolq_error *err, smolq_result code, const char *format, ...)
{
    if (err) {
        va_list args;
        err->code = code;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}

/* Bytes from a file for use in a message: control bytes and non-ASCII are escaped, long ones cut.  Returns buf. */
typedef struct { char text[100]; } smolq__quoted;
static const char *smolq__quote(smolq__quoted *buf, const void *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = (const uint8_t *)bytes;
    size_t used = 0, i;
    for (i = 0; i < n; i++) {
        if (used + 8 > sizeof buf->text) {
            memcpy(buf->text + used, "...", 3);
            used += 3;
            break;
        }
        if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\') buf->text[used++] = (char)p[i];
        else {
            buf->text[used++] = '\\';
            buf->text[used++] = 'x';
            buf->text[used++] = hex[p[i] >> 4];
            buf->text[used++] = hex[p[i] & 15];
        }
    }
    buf->text[used] = 0;
    return buf->text;
}

#define SMOLQ__RESULT_NAME(name, value, when) case value: return "SMOLQ_" #name;
SMOLQ_API const char *smolq_result_name(smolq_result result)
{
    switch (result) { SMOLQ_RESULTS(SMOLQ__RESULT_NAME) default: return "unknown"; }
}
#undef SMOLQ__RESULT_NAME

SMOLQ_API const char *smolq_version(void) { return SMOLQ_VERSION_TEXT; }

/* ---- checked arithmetic: every size that comes from a file or a caller goes through these; 0 means it does not fit ---- */

static int smolq__mul(uint64_t a, uint64_t b, uint64_t *product)
{
    if (b != 0 && a > UINT64_MAX / b) return 0;
    *product = a * b;
    return 1;
}
static int smolq__add(uint64_t a, uint64_t b, uint64_t *sum)
{
    if (a > UINT64_MAX - b) return 0;
    *sum = a + b;
    return 1;
}
static int smolq__align_up(uint64_t a, uint64_t alignment, uint64_t *aligned) /* alignment: a power of two */
{
    if (!smolq__add(a, alignment - 1, aligned)) return 0;
    *aligned &= ~(alignment - 1);
    return 1;
}
static int smolq__fits_size(uint64_t a) { return a <= SIZE_MAX / 2; }

/* ---- little-endian bytes out: each returns where the next goes (smolq_u32_at and its kin read them) ---- */

static uint8_t *smolq__put_u16(uint8_t *p, uint16_t u)
{
    p[0] = (uint8_t)(u & 0xff);
    p[1] = (uint8_t)(u >> 8);
    return p + 2;
}
static uint8_t *smolq__put_u32(uint8_t *p, uint32_t u) { return smolq__put_u16(smolq__put_u16(p, (uint16_t)(u & 0xffff)), (uint16_t)(u >> 16)); }
static uint8_t *smolq__put_u64(uint8_t *p, uint64_t u) { return smolq__put_u32(smolq__put_u32(p, (uint32_t)u), (uint32_t)(u >> 32)); }
static uint8_t *smolq__put_bytes(uint8_t *p, const void *bytes, uint64_t n)
{
    if (n) memcpy(p, bytes, (size_t)n);
    return p + n;
}

/* ---- heaps ---- */

typedef struct smolq__block smolq__block;
struct smolq__block { /* stands before each piece of memory; 32 or 64 bytes keep the alignment of what follows */
    smolq__block *prev, *next;
    size_t bytes; /* with this header */
    size_t pad;
};

typedef struct smolq__heap {
    smolq_allocator allocator;
    smolq__block   *blocks;
    uint64_t        used, limit; /* bytes; limit 0: none */
    jmp_buf        *exit;        /* of smolq__guarded, while it runs */
    uint64_t        wanted;      /* by the allocation that failed */
} smolq__heap;

static void smolq__heap_init(smolq__heap *heap, const smolq_allocator *allocator, uint64_t limit)
{
    memset(heap, 0, sizeof *heap);
    if (allocator) heap->allocator = *allocator;
    heap->limit = limit;
}

/* The only place that calls the host's allocator.  16-byte aligned memory, or NULL. */
static void *smolq__alloc_raw(smolq__heap *heap, uint64_t bytes)
{
    uint64_t total;
    smolq__block *block = NULL;
    heap->wanted = bytes;
    if (smolq__add(bytes, sizeof *block, &total) && smolq__fits_size(total) && (heap->limit == 0 || (heap->used <= heap->limit && total <= heap->limit - heap->used)))
        block = (smolq__block *)(heap->allocator.alloc ? heap->allocator.alloc(heap->allocator.user, (size_t)total) : malloc((size_t)total));
    if (!block) return NULL;
    memset(block, 0, sizeof *block);
    block->bytes = (size_t)total;
    block->next = heap->blocks;
    if (heap->blocks) heap->blocks->prev = block;
    heap->blocks = block;
    heap->used += total;
    return block + 1;
}

static void *smolq__alloc(smolq__heap *heap, uint64_t bytes) /* zeroed */
{
    void *memory = smolq__alloc_raw(heap, bytes);
    if (memory) memset(memory, 0, (size_t)bytes);
    return memory;
}

static void smolq__free(smolq__heap *heap, void *memory)
{
    smolq__block *block;
    if (!memory) return;
    block = (smolq__block *)memory - 1;
    if (block->prev) block->prev->next = block->next;
    else heap->blocks = block->next;
    if (block->next) block->next->prev = block->prev;
    heap->used -= block->bytes;
    if (heap->allocator.alloc) {
        if (heap->allocator.release) heap->allocator.release(heap->allocator.user, block, block->bytes);
    } else {
        free(block);
    }
}

/* Releases all of it.  The heap itself may stand inside one of its blocks. */
static void smolq__heap_close(smolq__heap *heap)
{
    smolq__heap copy = *heap;
    if (copy.blocks) copy.blocks->prev = NULL;
    while (copy.blocks) smolq__free(&copy, copy.blocks + 1);
}

static smolq_result smolq__fail_memory(const smolq__heap *heap, smolq_error *err, const char *what)
{
    if (heap->limit)
        return smolq__fail(err, SMOLQ_E_MEMORY, "out of memory for %s: %llu bytes needed, %llu of the allowed %llu in use; raise the limit or ask for less", what,
                           (unsigned long long)heap->wanted, (unsigned long long)heap->used, (unsigned long long)heap->limit);
    return smolq__fail(err, SMOLQ_E_MEMORY, "out of memory for %s: the allocator gave no %llu bytes (%llu in use)", what, (unsigned long long)heap->wanted, (unsigned long long)heap->used);
}

/* ---- growable tables: stb_ds on the heap of the load that is going on ---- */

#if defined(_MSC_VER) && !defined(__clang__)
#  define SMOLQ__THREAD_LOCAL __declspec(thread)
#else
#  define SMOLQ__THREAD_LOCAL __thread
#endif
static SMOLQ__THREAD_LOCAL smolq__heap *smolq__loading;

static void *smolq__ds_realloc(void *old, size_t bytes)
{
    smolq__heap *heap = smolq__loading;
    void *memory = smolq__alloc(heap, bytes);
    if (!memory) longjmp(*heap->exit, 1);
    if (old) {
        size_t had = ((smolq__block *)old - 1)->bytes - sizeof(smolq__block);
        memcpy(memory, old, had < bytes ? had : bytes);
        smolq__free(heap, old);
    }
    return memory;
}
static void smolq__ds_free(void *memory) { smolq__free(smolq__loading, memory); }

#if defined(INCLUDE_STB_DS_H)
#  error "smolq.h: this file has included stb_ds.h already; put SMOLQ_IMPLEMENTATION in a file of its own, or use the standalone header (make standalone)"
#endif
#define STBDS_REALLOC(context, pointer, bytes) smolq__ds_realloc(pointer, bytes)
#define STBDS_FREE(context, pointer)           smolq__ds_free(pointer)
#define STBDS_NO_SHORT_NAMES
#define STB_DS_IMPLEMENTATION

/* stb_ds declares its functions extern.  A static declaration that comes first has the last word, so nothing of it leaves the object file,
 * and the optimizer drops its hash tables, which have a global seed and which nobody here uses. */
#if defined(__GNUC__)
#  define SMOLQ__DS static __attribute__((unused))
#else
#  define SMOLQ__DS static
#endif
#ifdef __cplusplus
extern "C" {
#endif
struct stbds_string_arena;
SMOLQ__DS void   stbds_rand_seed(size_t seed);
SMOLQ__DS size_t stbds_hash_bytes(void *p, size_t len, size_t seed);
SMOLQ__DS size_t stbds_hash_string(char *str, size_t seed);
SMOLQ__DS char  *stbds_stralloc(struct stbds_string_arena *a, char *str);
SMOLQ__DS void   stbds_strreset(struct stbds_string_arena *a);
SMOLQ__DS void  *stbds_arrgrowf(void *a, size_t elemsize, size_t addlen, size_t min_cap);
SMOLQ__DS void   stbds_arrfreef(void *a);
SMOLQ__DS void   stbds_hmfree_func(void *p, size_t elemsize);
SMOLQ__DS void  *stbds_hmget_key(void *a, size_t elemsize, void *key, size_t keysize, int mode);
SMOLQ__DS void  *stbds_hmget_key_ts(void *a, size_t elemsize, void *key, size_t keysize, ptrdiff_t *temp, int mode);
SMOLQ__DS void  *stbds_hmput_default(void *a, size_t elemsize);
SMOLQ__DS void  *stbds_hmput_key(void *a, size_t elemsize, void *key, size_t keysize, int mode);
SMOLQ__DS void  *stbds_hmdel_key(void *a, size_t elemsize, void *key, size_t keysize, size_t keyoffset, int mode);
SMOLQ__DS void  *stbds_shmode_func(size_t elemsize, int mode);
#ifdef __cplusplus
}
#endif

#if defined(__clang__)
#  pragma clang diagnostic push
#  pragma clang diagnostic ignored "-Weverything"
#elif defined(__GNUC__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wpragmas" /* some of these are for C or for C++ alone */
#  pragma GCC diagnostic ignored "-Wpedantic"
#  pragma GCC diagnostic ignored "-Wshadow"
#  pragma GCC diagnostic ignored "-Wconversion"
#  pragma GCC diagnostic ignored "-Wsign-conversion"
#  pragma GCC diagnostic ignored "-Wsign-compare"
#  pragma GCC diagnostic ignored "-Wcast-align"
#  pragma GCC diagnostic ignored "-Wcast-qual"
#  pragma GCC diagnostic ignored "-Wold-style-cast"
#  pragma GCC diagnostic ignored "-Wimplicit-fallthrough"
#  pragma GCC diagnostic ignored "-Wunused-function"
#  pragma GCC diagnostic ignored "-Wredundant-decls"
#  pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif
#if defined(__has_include) /* begin stb_ds.h */
#  if __has_include("stb_ds.h")
#    include "stb_ds.h"
#  elif __has_include(<stb/stb_ds.h>)
#    include <stb/stb_ds.h>
#  else
#    error "smolq.h: stb_ds.h is missing; install it (Debian: apt-get install libstb-dev), put it beside smolq.h, or use the standalone header (make standalone)"
#  endif
#else
#  include "stb_ds.h"
#endif /* end stb_ds.h */
#if defined(__clang__)
#  pragma clang diagnostic pop
#elif defined(__GNUC__)
#  pragma GCC diagnostic pop
#endif
#undef STBDS_ADDRESSOF
#define STBDS_ADDRESSOF(typevar, value) &(value) /* compound literals are neither C++ nor, with arrays, gcc -std=c99 */

/* Runs body(arg) with heap as the heap of its tables.  This function and its jump are all there is to running out of memory inside stb_ds:
 * what the load had allocated stays on the heap, which the caller closes. */
static smolq_result smolq__guarded(smolq__heap *heap, smolq_result (*body)(void *arg), void *arg, smolq_error *err)
{
    smolq__heap *volatile outer = smolq__loading;
    jmp_buf *volatile outer_exit = heap->exit;
    volatile smolq_result result;
    jmp_buf here;
    heap->exit = &here;
    smolq__loading = heap;
    if (setjmp(here) == 0) result = body(arg);
    else result = smolq__fail_memory(heap, err, "the tables of the file");
    heap->exit = outer_exit;
    smolq__loading = outer;
    return result;
}

/* ---- look-up by byte string: open addressing over 32-bit ids; the strings stay where they are ---- */

typedef struct smolq__text { const char *p; size_t n; } smolq__text;

static int smolq__text_is(smolq__text a, const char *s)
{
    size_t n = strlen(s);
    return a.n == n && memcmp(a.p, s, n) == 0;
}

typedef struct smolq__slot { uint32_t hash, id; } smolq__slot; /* id UINT32_MAX: empty */
typedef struct smolq__index {
    smolq__slot *slots;
    uint32_t     mask;
    uint32_t     limit;                                    /* look-ups give up after so many slots */
    uint64_t     seed;                                     /* so that a file can't aim at collisions */
    smolq__text (*text_of)(const void *table, uint32_t id);
    const void  *table;
} smolq__index;
#define SMOLQ__NONE UINT32_MAX
#define SMOLQ__FULL (UINT32_MAX - 1) /* the limit was reached */

/* Asks for memory that will be looked at soon: a large table's slots are in no near cache, and a look-up waits for each of them. */
#if defined(__GNUC__)
#  define SMOLQ__FETCH(p) __builtin_prefetch(p)
#else
#  define SMOLQ__FETCH(p) ((void)(p))
#endif

/* Eight bytes a step, mixed by a multiplication whose high half comes back down. */
static uint32_t smolq__hash(uint64_t seed, smolq__text text)
{
    const uint8_t *p = (const uint8_t *)text.p;
    uint64_t h = seed ^ ((uint64_t)text.n * 0x9e3779b97f4a7c15u);
    size_t n = text.n;
    for (; n >= 8; n -= 8, p += 8) {
        h = (h ^ smolq_u64_at(p)) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    if (n) {
        uint64_t tail = 0;
        memcpy(&tail, p, n);
        h = (h ^ tail) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    h *= 0xd6e8feb86659fd93u;
    return (uint32_t)(h >> 32);
}

/* Room for n ids at a load of at most one half; 0 when memory is out. */
static int smolq__index_open(smolq__index *index, smolq__heap *heap, uint32_t n, smolq__text (*text_of)(const void *, uint32_t), const void *table)
{
    uint64_t n_slots = 16;
    while (n_slots < (uint64_t)n * 2) n_slots *= 2;
    memset(index, 0, sizeof *index);
    index->slots = (smolq__slot *)smolq__alloc(heap, n_slots * sizeof *index->slots);
    if (!index->slots) return 0;
    memset(index->slots, 0xff, (size_t)n_slots * sizeof *index->slots);
    index->mask = (uint32_t)(n_slots - 1);
    index->limit = UINT32_MAX;
    index->seed = (uint64_t)(uintptr_t)index->slots * 0x9e3779b97f4a7c15u;
    index->text_of = text_of;
    index->table = table;
    return 1;
}

/* The slot of a text, or the empty one where it would go; NULL when the limit is reached. */
static smolq__slot *smolq__index_slot(const smolq__index *index, smolq__text text, uint32_t hash)
{
    uint32_t i = hash & index->mask, to_go;
    for (to_go = index->limit; to_go > 0; to_go--, i = (i + 1) & index->mask) {
        smolq__slot *slot = &index->slots[i];
        if (slot->id == SMOLQ__NONE) return slot;
        if (slot->hash == hash) {
            smolq__text other = index->text_of(index->table, slot->id);
            if (other.n == text.n && memcmp(other.p, text.p, text.n) == 0) return slot;
        }
    }
    return NULL;
}

/* Adds id under its text, whose hash this is; returns the id that had this text before, or SMOLQ__NONE; or SMOLQ__FULL, and nothing is added. */
static uint32_t smolq__index_add_hashed(smolq__index *index, uint32_t id, uint32_t hash)
{
    smolq__slot *slot = smolq__index_slot(index, index->text_of(index->table, id), hash);
    uint32_t had = slot ? slot->id : SMOLQ__FULL;
    if (had == SMOLQ__NONE) {
        slot->hash = hash;
        slot->id = id;
    }
    return had;
}
static uint32_t smolq__index_add(smolq__index *index, uint32_t id)
{
    return smolq__index_add_hashed(index, id, smolq__hash(index->seed, index->text_of(index->table, id)));
}

static uint32_t smolq__index_find_hashed(const smolq__index *index, smolq__text text, uint32_t hash)
{
    const smolq__slot *slot = smolq__index_slot(index, text, hash);
    return slot ? slot->id : SMOLQ__NONE;
}

static uint32_t smolq__index_find(const smolq__index *index, const char *p, size_t n)
{
    smolq__text text;
    text.p = p;
    text.n = n;
    if (!index->slots) return SMOLQ__NONE;
    return smolq__index_find_hashed(index, text, smolq__hash(index->seed, text));
}

/* ---- option structs: a smaller struct of an older caller reads as zeros beyond its end ---- */

static void smolq__options(void *mine, size_t my_size, const void *theirs, uint32_t first_release_size)
{
    memset(mine, 0, my_size);
    if (theirs) {
        uint32_t size;
        memcpy(&size, theirs, sizeof size);
        if (size == 0) size = first_release_size;
        memcpy(mine, theirs, size < my_size ? size : my_size);
    }
}

/* ---- float environment: the host may flush subnormals or round elsewhere; evaluation must not ---- */

#if defined(__GNUC__) && defined(__aarch64__)
#  define SMOLQ__FP_STATE uint64_t
#else
#  define SMOLQ__FP_STATE uint32_t
#endif
#if defined(__GNUC__) && defined(__SSE2__)
static SMOLQ__FP_STATE smolq__fp_enter(void)
{
    uint32_t saved, canonical = 0x1f80; /* all exceptions masked, to nearest, no FTZ, no DAZ */
    __asm__ volatile("stmxcsr %0" : "=m"(saved));
    __asm__ volatile("ldmxcsr %0" : : "m"(canonical));
    return saved;
}
static void smolq__fp_leave(SMOLQ__FP_STATE saved) { __asm__ volatile("ldmxcsr %0" : : "m"(saved)); }
#elif defined(__GNUC__) && defined(__aarch64__)
static SMOLQ__FP_STATE smolq__fp_enter(void)
{
    uint64_t saved, canonical = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(canonical));
    return saved;
}
static void smolq__fp_leave(SMOLQ__FP_STATE saved) { __asm__ volatile("msr fpcr, %0" : : "r"(saved)); }
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#  include <xmmintrin.h>
static SMOLQ__FP_STATE smolq__fp_enter(void)
{
    uint32_t saved = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return saved;
}
static void smolq__fp_leave(SMOLQ__FP_STATE saved) { _mm_setcsr(saved); }
#else
static SMOLQ__FP_STATE smolq__fp_enter(void) { return 0; }
static void smolq__fp_leave(SMOLQ__FP_STATE saved) { (void)saved; }
#endif

/* ---- a number that several threads read and write ---- */

#if defined(__GNUC__)
static int32_t smolq__shared_get(const int32_t *number) { return __atomic_load_n(number, __ATOMIC_ACQUIRE); }
static void    smolq__shared_set(int32_t *number, int32_t value) { __atomic_store_n(number, value, __ATOMIC_RELEASE); }
#else
static int32_t smolq__shared_get(const int32_t *number) { return *(const volatile int32_t *)number; }
static void    smolq__shared_set(int32_t *number, int32_t value) { *(volatile int32_t *)number = value; }
#endif

/* ---- clock, microseconds from some moment ---- */

#ifdef _WIN32
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
static int64_t smolq__now_us(void)
{
    LARGE_INTEGER now, per_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&per_second);
    return (int64_t)((double)now.QuadPart * 1e6 / (double)per_second.QuadPart);
}
#else
#  include <sys/time.h> /* clock_gettime is not declared under -std=c99, and feature macros come too late in a header */
static int64_t smolq__now_us(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return (int64_t)now.tv_sec * 1000000 + (int64_t)now.tv_usec;
}
#endif
