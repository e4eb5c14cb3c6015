/* smolq_cpu.c: the CPU backend of smolq: threads and vector instructions, with the bits of the reference backend.
 *
 *     cc -O2 app.c smolq_cpu.c -lm -lpthread          and pass smolq_backend_cpu() in smolq_open_options.backend
 *
 * The file has two halves.  The first, read once, is about the machine: which instructions it has, a pool of threads, the functions that smolq.h calls.
 * The second is the body, the kernels.  It is written once against a small shim of vector operations, and this file includes itself once per instruction set,
 * under that set's target, so no compiler flags are needed and each loop exists once.
 *
 * HOW WORK IS SPLIT.  An operation of the program is a number of units (rows of a matrix, heads, tokens).  Each thread takes a fixed share of them and all meet at the end of
 * the operation.  A unit's result does not depend on who computes it, so neither do the bits (docs/arithmetic.md).
 *
 * HOW A PRODUCT IS COMPUTED.  Weights are read where the file mapping put them.
 *     few tokens    a matrix row is read once for all of them.  Four or eight rows go side by side, far apart in memory, so that it sees as many streams;
 *                   blocks are unpacked in registers.
 *     many tokens   sixteen rows of 256 weights are unpacked into a panel of bytes that stays in the cache, four neighboring weights of each row side by side, and all
 *                   tokens pass over it; with AMX thirty-two rows go as tiles.
 *
 * NEON comes three times: as all 64-bit processors have it, with dot products of bytes (most since 2018), and with products of matrices of bytes (most since 2021).
 * Both end in the same float steps: integers are exact, so only the order of one multiply-add per 256 (or 32) weights matters.
 *
 * Four sets of kernels take a compiler half a minute.  SMOLQ_CPU_NO_AVX512 leaves those of AVX-512 (and AMX) out: a third of the time, and AVX2 at most.
 *
 * Forking a process with an open device leaves the child without its threads: open another device there. */
#ifndef SMOLQ__CPU_BODY /* ======== the first half: the machine ======== */
#ifndef SMOLQ__CPU_ONCE
#define SMOLQ__CPU_ONCE

#if !defined(_GNU_SOURCE) && !defined(_WIN32)
#  define _GNU_SOURCE
#endif
#ifndef SMOLQ_BACKEND
#  define SMOLQ_BACKEND
#endif
#include "smolq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#  define SMOLQ__CPU_X86
#  include <immintrin.h>
#  if defined(_MSC_VER)
#    include <intrin.h>
#  else
#    include <cpuid.h>
#  endif
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#  define SMOLQ__CPU_ARM
#  include <arm_neon.h>
#  if defined(__linux__)
#    include <sys/auxv.h>
#  elif defined(__APPLE__)
#    include <sys/sysctl.h>
#  endif
#endif
#ifdef _WIN32
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
#else
#  include <pthread.h>
#  include <sched.h>
#  include <unistd.h>
#  ifdef __linux__
#    include <sys/syscall.h>
#  endif
#endif

/* ---- what a kernel is given ---- */

enum { SMOLQ__CPU_FEW = 8,        /* up to so many tokens a matrix is read once, row by row; more go over panels */
       SMOLQ__CPU_MAX_THREADS = 256,
       SMOLQ__CPU_KEYS = 64,      /* keys per block of attention, docs/arithmetic.md rule 9 */
       SMOLQ__CPU_HEAD = 512 };   /* numbers of a head in attention; longer ones go by the reference */

/* Products over panels want activations in an order of their own.  It lies in the context's scratch: for each group of tokens a record for each block of A256, then
 * one for each block of A32 (counted in fours).  What a record holds is the instruction set's affair. */
typedef struct smolq__cpu_layout {
    int32_t tokens, record_256, record_32; /* per group; bytes */
} smolq__cpu_layout;

static uint64_t smolq__cpu_records(const smolq__cpu_layout *layout, const smolq_program *program, int32_t buffer) /* bytes: a block of 256 takes 292 of a row, one of 32 takes 40 */
{
    return buffer == SMOLQ_BUF_A256 ? program->row_bytes[buffer] / 292 * (uint64_t)layout->record_256 : (program->row_bytes[buffer] / 40 + 3) / 4 * 4 * (uint64_t)layout->record_32;
}
SMOLQ_INLINE uint8_t *smolq__cpu_record(const smolq__cpu_layout *layout, const smolq_run *run, int32_t buffer, int32_t group) /* the first */
{
    uint64_t before = smolq__cpu_records(layout, run->program, SMOLQ_BUF_A256), stride = before + smolq__cpu_records(layout, run->program, SMOLQ_BUF_A32);
    return run->scratch + (uint64_t)group * stride + (buffer == SMOLQ_BUF_A32 ? before : 0);
}

/* One operation, or a part of it: units [begin, end), in shares. */
typedef struct smolq__cpu_job {
    const struct smolq__cpu_isa *isa;
    smolq_run      *run;
    const smolq_op *op;
    int32_t         n_rows;      /* tokens */
    uint64_t        begin, end;  /* units */
    int32_t         n_shares;
} smolq__cpu_job;

typedef struct smolq__cpu_isa {
    const char *name;
    int       (*available)(void);
    uint64_t  (*units)(const smolq_run *run, const smolq_op *op, int32_t n_rows);
    void      (*share)(const smolq__cpu_job *job, int32_t index); /* units of share `index` */
    const smolq__cpu_layout *layout;
    int32_t     by_name;  /* nonzero: only where options.isa asks for it */
} smolq__cpu_isa;

/* Codebooks and scales as bytes and floats, which is what kernels load: 36 KB, computed from smolq.h's at the first open.  IQ1's are eight times code 0 1 2, the others
 * magnitudes. */
static struct smolq__cpu_tables {
    uint64_t iq1[2048], iq2_xxs[256], iq2_xs[512], iq2_s[1024];
    uint32_t iq3_xxs[256], iq3_s[512];
    uint16_t iq3_xxs_nibbles[256], iq3_s_nibbles[512]; /* 2k + 1 for the k of three bits that smolq.h has: of IQ3_S the magnitude */
    float    ue4m3_half[256];
} smolq__cpu_tables;

static uint16_t smolq__cpu_odd_nibbles(uint32_t entry)
{
    return (uint16_t)((entry & 7) << 1 | (entry >> 3 & 7) << 5 | (entry >> 6 & 7) << 9 | (entry >> 9 & 7) << 13 | 0x1111);
}

static void smolq__cpu_compute_tables(void)
{
    struct smolq__cpu_tables *t = &smolq__cpu_tables;
    int32_t i, j;
    for (i = 0; i < 2048; i++) {
        smolq_expand_iq1(smolq_grid_iq1[i], 0, (int8_t *)&t->iq1[i]);
        for (j = 0; j < 8; j++) ((int8_t *)&t->iq1[i])[j] += 8;
    }
    for (i = 0; i < 256; i++) smolq_expand_iq2(smolq_grid_iq2_xxs[i], 0, (int8_t *)&t->iq2_xxs[i]);
    for (i = 0; i < 512; i++) smolq_expand_iq2(smolq_grid_iq2_xs[i], 0, (int8_t *)&t->iq2_xs[i]);
    for (i = 0; i < 1024; i++) smolq_expand_iq2(smolq_grid_iq2_s[i], 0, (int8_t *)&t->iq2_s[i]);
    for (i = 0; i < 256; i++) smolq_expand_iq3_xxs(smolq_grid_iq3_xxs[i], 0, (int8_t *)&t->iq3_xxs[i]);
    for (i = 0; i < 512; i++) smolq_expand_iq3_s(smolq_grid_iq3_s[i], 0, (int8_t *)&t->iq3_s[i]);
    for (i = 0; i < 256; i++) t->iq3_xxs_nibbles[i] = smolq__cpu_odd_nibbles(smolq_grid_iq3_xxs[i]);
    for (i = 0; i < 512; i++) t->iq3_s_nibbles[i] = smolq__cpu_odd_nibbles(smolq_grid_iq3_s[i]);
    for (i = 0; i < 256; i++) t->ue4m3_half[i] = smolq_ue4m3_to_f32((uint8_t)i) * 0.5f;
}

/* A loop of few and known turns, whose arrays shall live in registers. */
#if defined(__clang__)
#  define SMOLQ__CPU_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#  define SMOLQ__CPU_UNROLL _Pragma("GCC unroll 16")
#else
#  define SMOLQ__CPU_UNROLL
#endif

/* The host's float settings are put aside while a share is computed: rounding to nearest, subnormals kept, nothing trapped. */
#if defined(SMOLQ__CPU_X86)
typedef unsigned smolq__cpu_floats;
static smolq__cpu_floats smolq__cpu_floats_enter(void)
{
    unsigned saved = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return saved;
}
static void smolq__cpu_floats_leave(smolq__cpu_floats saved) { _mm_setcsr(saved); }
#elif defined(SMOLQ__CPU_ARM)
typedef uint64_t smolq__cpu_floats;
static void smolq__cpu_floats_leave(smolq__cpu_floats saved)
{
    if (saved) __asm__ volatile("msr fpcr, %0" : : "r"(saved) : "memory"); /* writing it is slow, and it is 0 already almost everywhere */
}
static smolq__cpu_floats smolq__cpu_floats_enter(void)
{
    uint64_t saved, canonical = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved) : : "memory");
    if (saved) __asm__ volatile("msr fpcr, %0" : : "r"(canonical) : "memory");
    return saved;
}
#endif

/* GCC for Windows aligns the stack of a function for vectors of 32 bytes only where it need not describe it to the system (its bug 54412).  So there are no stack traces
 * through the kernels there; nothing is thrown through them. */
#if defined(__GNUC__) && !defined(__clang__) && (defined(_WIN32) || defined(__CYGWIN__))
#  define SMOLQ__CPU_ALIGN_STACK _Pragma("GCC optimize(\"no-unwind-tables,no-asynchronous-unwind-tables\")")
#  pragma GCC diagnostic ignored "-Wpsabi" /* it warns of functions that are inlined everywhere */
#else
#  define SMOLQ__CPU_ALIGN_STACK
#endif

/* ---- the body, once per instruction set ----
 * SUFFIX goes behind the names of its functions; TARGET, where there is one, says what their code may use.  The body undefines both. */

#define SMOLQ__CPU_PRAGMA2(text) _Pragma(#text)
#define SMOLQ__CPU_PRAGMA(text)  SMOLQ__CPU_PRAGMA2(text)
#define SMOLQ__CPU_JOIN2(a, b) a##_##b
#define SMOLQ__CPU_JOIN(a, b)  SMOLQ__CPU_JOIN2(a, b)
#define SMOLQ__CPU(name)       SMOLQ__CPU_JOIN(smolq__cpu_##name, SMOLQ__CPU_SUFFIX)

#if defined(SMOLQ__CPU_X86)

static void smolq__cpu_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
#if defined(_MSC_VER) && !defined(__clang__)
    __cpuidex((int *)r, (int)leaf, (int)sub);
#else
    __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
#endif
}

/* Which register states the system saves: bit 1 xmm, 2 ymm, 5-7 zmm, 17-18 tiles. */
static uint64_t smolq__cpu_xcr0(void)
{
    uint32_t r[4];
    smolq__cpu_cpuid(1, 0, r);
    if (!(r[2] >> 27 & 1)) return 0;
#if defined(_MSC_VER) && !defined(__clang__)
    return _xgetbv(0);
#else
    {
        uint32_t lo, hi;
        __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(lo), "=d"(hi) : "c"(0)); /* xgetbv */
        return (uint64_t)hi << 32 | lo;
    }
#endif
}

static int smolq__cpu_has_avx2(void)
{
    uint32_t basic[4], leaf1[4], leaf7[4];
    smolq__cpu_cpuid(0, 0, basic);
    if (basic[0] < 7 || (smolq__cpu_xcr0() & 6) != 6) return 0;
    smolq__cpu_cpuid(1, 0, leaf1);
    smolq__cpu_cpuid(7, 0, leaf7);
    return (leaf1[2] >> 12 & 1) && (leaf1[2] >> 29 & 1) && (leaf7[1] >> 5 & 1); /* FMA, F16C, AVX2 */
}

/* Products of four bytes, as AVX-512 has them, in 256 bits: on Intel's processors that have no AVX-512.  Apple counts versions of clang otherwise. */
#  if (defined(__clang__) && __clang_major__ >= 12 + defined(__apple_build_version__)) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 11)
#    define SMOLQ__CPU_HAS_VNNI 1
#  else
#    define SMOLQ__CPU_HAS_VNNI 0
#  endif
static int smolq__cpu_has_avxvnni(void)
{
    uint32_t leaf7[4];
    if (!SMOLQ__CPU_HAS_VNNI || !smolq__cpu_has_avx2()) return 0;
    smolq__cpu_cpuid(7, 0, leaf7);
    if (leaf7[0] < 1) return 0; /* subleaves */
    smolq__cpu_cpuid(7, 1, leaf7);
    return leaf7[0] >> 4 & 1;
}

#  if !defined(SMOLQ_CPU_NO_AVX512)
#    define SMOLQ__CPU_HAS_AVX512 1
#  else
#    define SMOLQ__CPU_HAS_AVX512 0
#  endif
static int smolq__cpu_has_avx512(void)
{
    uint32_t leaf7[4];
    if (!SMOLQ__CPU_HAS_AVX512 || !smolq__cpu_has_avx2() || (smolq__cpu_xcr0() & 0xe6) != 0xe6) return 0;
    smolq__cpu_cpuid(7, 0, leaf7);
    return (leaf7[1] >> 16 & 1) && (leaf7[1] >> 17 & 1) && (leaf7[1] >> 30 & 1) && (leaf7[1] >> 31 & 1) && (leaf7[2] >> 11 & 1); /* F, DQ, BW, VL, VNNI */
}

/* Tile instructions, by number and not as compiler intrinsics: GCC 12 believes that loading a tile reads no memory and loading a configuration eight bytes, and drops
 * stores that it takes for dead.  tests/soft_tiles.h has them in C, for machines without. */
#  if SMOLQ__CPU_HAS_AVX512 && !defined(SMOLQ__TILE_LOAD) && ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 11))
#    define SMOLQ__TILE_CONFIG(p)     __asm__ volatile("ldtilecfg %0" : : "m"(*(p)))
#    define SMOLQ__TILE_RELEASE()     __asm__ volatile("tilerelease" : : : "memory")
#    define SMOLQ__TILE_ZERO(t)       __asm__ volatile("tilezero %%tmm" #t : :)
#    define SMOLQ__TILE_LOAD(t, p)    __asm__ volatile("{tileloadd (%0,%1,1), %%tmm" #t "|tileloadd tmm" #t ", [%0+%1*1]}" : : "r"(p), "r"((int64_t)64) : "memory")
#    define SMOLQ__TILE_STORE(t, p)   __asm__ volatile("{tilestored %%tmm" #t ", (%0,%1,1)|tilestored [%0+%1*1], tmm" #t "}" : : "r"(p), "r"((int64_t)64) : "memory")
#    define SMOLQ__TILE_3(name, c, a, b) __asm__ volatile("{" name " %%tmm" #b ", %%tmm" #a ", %%tmm" #c "|" name " tmm" #c ", tmm" #a ", tmm" #b "}" : :)
#    define SMOLQ__TILE_SS(c, a, b)   SMOLQ__TILE_3("tdpbssd", c, a, b)   /* int32 c += int8 a * int8 b */
#    define SMOLQ__TILE_SU(c, a, b)   SMOLQ__TILE_3("tdpbsud", c, a, b)   /* int32 c += int8 a * uint8 b */
#    define SMOLQ__TILE_BF16(c, a, b) SMOLQ__TILE_3("tdpbf16ps", c, a, b) /* f32 c += bf16 a * bf16 b */
#    define SMOLQ__TILE_BITS 3         /* of XCR0 bits 17 and 18 */
#  endif

#  if defined(SMOLQ__TILE_LOAD)
/* Eight tiles of 16 rows of 64 bytes. */
static const struct smolq__cpu_tile_config { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } smolq__cpu_tile_config = {
    1, 0, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 }, { 16, 16, 16, 16, 16, 16, 16, 16 }
};

static int smolq__cpu_has_amx(void)
{
    uint32_t leaf7[4];
    if (!smolq__cpu_has_avx512()) return 0;
    smolq__cpu_cpuid(7, 0, leaf7);
    if (!(leaf7[2] >> 1 & 1)) return 0; /* VBMI */
    if (!SMOLQ__TILE_BITS) return 1;
    if ((smolq__cpu_xcr0() >> 17 & 3) != 3 || !(leaf7[3] >> 22 & 1) || !(leaf7[3] >> 24 & 1) || !(leaf7[3] >> 25 & 1)) return 0; /* AMX-BF16, TILE, INT8 */
#    if defined(__linux__)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0; /* ARCH_REQ_XCOMP_PERM, for the whole process: Linux gives out tiles on request, since 5.16 */
#    else
    return 1;
#    endif
}
#  else
static int smolq__cpu_has_amx(void) { return 0; }
#  endif

/* Shuffles within 16 bytes, twice: everywhere word j; word 2j in the first half and word 2j + 1 in the second.  Tables, since GCC would compute them anew. */
#  define SMOLQ__CPU_FOUR(j) 2 * (j), 2 * (j) + 1, 2 * (j), 2 * (j) + 1, 2 * (j), 2 * (j) + 1, 2 * (j), 2 * (j) + 1
#  define SMOLQ__CPU_WORDS(i, j) { SMOLQ__CPU_FOUR(i), SMOLQ__CPU_FOUR(i), SMOLQ__CPU_FOUR(j), SMOLQ__CPU_FOUR(j) }
static const uint8_t smolq__cpu_word_twice[8][32] = {
    SMOLQ__CPU_WORDS(0, 0), SMOLQ__CPU_WORDS(1, 1), SMOLQ__CPU_WORDS(2, 2), SMOLQ__CPU_WORDS(3, 3),
    SMOLQ__CPU_WORDS(4, 4), SMOLQ__CPU_WORDS(5, 5), SMOLQ__CPU_WORDS(6, 6), SMOLQ__CPU_WORDS(7, 7)
};
static const uint8_t smolq__cpu_word_pair[4][32] = { SMOLQ__CPU_WORDS(0, 1), SMOLQ__CPU_WORDS(2, 3), SMOLQ__CPU_WORDS(4, 5), SMOLQ__CPU_WORDS(6, 7) };

#  define SMOLQ__CPU_BODY
#  define SMOLQ__CPU_SUFFIX avx2
#  define SMOLQ__CPU_AVX2
#  define SMOLQ__CPU_TARGET "avx2,fma,f16c"
#  include "smolq_cpu.c"
#  undef SMOLQ__CPU_AVX2
#  if SMOLQ__CPU_HAS_VNNI
#    define SMOLQ__CPU_SUFFIX avxvnni
#    define SMOLQ__CPU_VNNI
#    define SMOLQ__CPU_TARGET "avx2,fma,f16c,avxvnni"
#    include "smolq_cpu.c"
#    undef SMOLQ__CPU_VNNI
#  endif
#  if SMOLQ__CPU_HAS_AVX512
#    define SMOLQ__CPU_SUFFIX avx512
#    define SMOLQ__CPU_AVX512
#    define SMOLQ__CPU_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#    include "smolq_cpu.c"
#    if defined(SMOLQ__TILE_LOAD)
#      define SMOLQ__CPU_SUFFIX amx
#      define SMOLQ__CPU_AMX
#      define SMOLQ__CPU_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,amx-tile,amx-int8,amx-bf16"
#      include "smolq_cpu.c"
#      undef SMOLQ__CPU_AMX
#    endif
#    undef SMOLQ__CPU_AVX512
#  endif
#  undef SMOLQ__CPU_BODY

#elif defined(SMOLQ__CPU_ARM)

/* What the compiler was told that it may use needs no question, nor do vectors as such: 64-bit code has them everywhere. */
static int smolq__cpu_has_neon(void) { return 1; }
static int smolq__cpu_has_dotprod(void)
{
#  if defined(__ARM_FEATURE_DOTPROD)
    return 1;
#  elif defined(__linux__)
    return (int)(getauxval(AT_HWCAP) >> 20 & 1);  /* HWCAP_ASIMDDP */
#  elif defined(__APPLE__)
    int32_t has = 0;
    size_t bytes = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &bytes, NULL, 0) == 0 && has;
#  elif defined(_WIN32)
    return IsProcessorFeaturePresent(43) != 0;    /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
#  else
    return 0;
#  endif
}
static int smolq__cpu_has_i8mm(void)
{
    if (!smolq__cpu_has_dotprod()) return 0;
#  if defined(__ARM_FEATURE_MATMUL_INT8)
    return 1;
#  elif defined(__linux__)
    return (int)(getauxval(AT_HWCAP2) >> 13 & 1); /* HWCAP2_I8MM */
#  elif defined(__APPLE__)
    {
        int32_t has = 0;
        size_t bytes = sizeof has;
        return sysctlbyname("hw.optional.arm.FEAT_I8MM", &has, &bytes, NULL, 0) == 0 && has;
    }
#  elif defined(_WIN32)
    return IsProcessorFeaturePresent(66) != 0;    /* PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE */
#  else
    return 0;
#  endif
}

/* GCC's arch= would take away what the flags allow beyond it, so it is told only what it would not do of itself. */
#  define SMOLQ__CPU_BODY
#  define SMOLQ__CPU_NEON
#  define SMOLQ__CPU_SUFFIX neon
#  include "smolq_cpu.c"
#  define SMOLQ__CPU_SUFFIX dotprod
#  define SMOLQ__CPU_DOTPROD
#  if defined(__clang__)
#    define SMOLQ__CPU_TARGET "dotprod"
#  elif !defined(__ARM_FEATURE_DOTPROD)
#    define SMOLQ__CPU_TARGET "arch=armv8.2-a+dotprod"
#  endif
#  include "smolq_cpu.c"
#  define SMOLQ__CPU_SUFFIX i8mm
#  define SMOLQ__CPU_I8MM
#  if defined(__clang__)
#    define SMOLQ__CPU_TARGET "dotprod,i8mm"
#  elif !defined(__ARM_FEATURE_MATMUL_INT8)
#    define SMOLQ__CPU_TARGET "arch=armv8.2-a+dotprod+i8mm"
#  endif
#  include "smolq_cpu.c"
#  undef SMOLQ__CPU_I8MM
#  undef SMOLQ__CPU_DOTPROD
#  undef SMOLQ__CPU_NEON
#  undef SMOLQ__CPU_BODY
#endif

/* The best first; the last row ends the list.  Tiles are proved against their definition in C (tests/soft_tiles.h) and have not run on a processor that
 * has them: until they have, they must be asked for.
 *    name      if                    kernels                                          activations                by name */
static const smolq__cpu_isa smolq__cpu_isas[] = {
#if defined(SMOLQ__CPU_X86)
#  if defined(SMOLQ__TILE_LOAD)
    { "amx",    smolq__cpu_has_amx,    smolq__cpu_units_amx,    smolq__cpu_share_amx,    &smolq__cpu_layout_amx,    1 },
#  else
    { "amx",    smolq__cpu_has_amx,    NULL, NULL, NULL, 1 }, /* not compiled: as a cap it means what comes below, here and in the next rows */
#  endif
#  if SMOLQ__CPU_HAS_AVX512
    { "avx512", smolq__cpu_has_avx512, smolq__cpu_units_avx512, smolq__cpu_share_avx512, &smolq__cpu_layout_avx512, 0 },
#  else
    { "avx512", smolq__cpu_has_avx512, NULL, NULL, NULL, 0 },
#  endif
#  if SMOLQ__CPU_HAS_VNNI
    { "avxvnni", smolq__cpu_has_avxvnni, smolq__cpu_units_avxvnni, smolq__cpu_share_avxvnni, &smolq__cpu_layout_avxvnni, 0 },
#  else
    { "avxvnni", smolq__cpu_has_avxvnni, NULL, NULL, NULL, 0 },
#  endif
    { "avx2",   smolq__cpu_has_avx2,   smolq__cpu_units_avx2,   smolq__cpu_share_avx2,   &smolq__cpu_layout_avx2,   0 },
#elif defined(SMOLQ__CPU_ARM)
    { "neon-i8mm",    smolq__cpu_has_i8mm,    smolq__cpu_units_i8mm,    smolq__cpu_share_i8mm,    &smolq__cpu_layout_i8mm,    0 },
    { "neon-dotprod", smolq__cpu_has_dotprod, smolq__cpu_units_dotprod, smolq__cpu_share_dotprod, &smolq__cpu_layout_dotprod, 0 },
    { "neon-base",    smolq__cpu_has_neon,    smolq__cpu_units_neon,    smolq__cpu_share_neon,    &smolq__cpu_layout_neon,    0 },
#endif
    { NULL, NULL, NULL, NULL, NULL, 0 }
};

/* Caps that options.isa may name, here or on another machine.  "neon" is the best row of its name. */
static int smolq__cpu_is_cap(const char *name)
{
    static const char *const caps[] = { "ref", "avx2", "avxvnni", "avx512", "amx", "neon", "neon-base", "neon-dotprod", "neon-i8mm" };
    size_t i;
    for (i = 0; i < sizeof caps / sizeof *caps; i++)
        if (strcmp(name, caps[i]) == 0) return 1;
    return 0;
}
static int smolq__cpu_is_capped(const smolq__cpu_isa *isa, const char *cap) { return strcmp(isa->name, cap) == 0 || (strcmp(cap, "neon") == 0 && strncmp(isa->name, "neon-", 5) == 0); }

/* ---- atomics and naps ---- */

#if defined(_MSC_VER) && !defined(__clang__)
static int32_t smolq__cpu_get(volatile int32_t *p) { return InterlockedCompareExchange((volatile LONG *)p, 0, 0); }
static int32_t smolq__cpu_add(volatile int32_t *p, int32_t n) { return InterlockedExchangeAdd((volatile LONG *)p, n) + n; }
#else
static int32_t smolq__cpu_get(volatile int32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static int32_t smolq__cpu_add(volatile int32_t *p, int32_t n) { return __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST); }
#endif
static void smolq__cpu_relax(void)
{
#if defined(SMOLQ__CPU_X86)
    _mm_pause();
#elif defined(__GNUC__) && defined(SMOLQ__CPU_ARM)
    __asm__ volatile("yield");
#endif
}
static void smolq__cpu_yield(void)
{
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

/* Several threads may open devices at once: one computes the tables, the others wait. */
static void smolq__cpu_need_tables(void)
{
    static volatile int32_t asked, ready;
    if (smolq__cpu_get(&ready)) return;
    if (smolq__cpu_add(&asked, 1) == 1) {
        smolq__cpu_compute_tables();
        smolq__cpu_add(&ready, 1);
    }
    while (!smolq__cpu_get(&ready)) smolq__cpu_yield();
}

/* ---- the pool ----
 * The caller publishes a job by raising `round`; the workers see it, take their shares and count `left` down.  A worker that has waited for some tens of
 * microseconds sleeps on the condition, so that an idle device costs nothing. */

typedef struct smolq__cpu_device smolq__cpu_device;
typedef struct smolq__cpu_worker {
    smolq__cpu_device *device;
    int32_t            index;        /* share; 0 is the caller's */
#ifdef _WIN32
    HANDLE             thread;
#else
    pthread_t          thread;
#endif
} smolq__cpu_worker;

struct smolq__cpu_device {
    const smolq__cpu_isa *isa;
    smolq_allocator       allocator;
    smolq_parallel_for_fn parallel_for; /* the host's job system, instead of the pool */
    void                 *parallel_user;
    int32_t               n_threads;    /* the caller's included */
    int32_t               n_started;
    smolq__cpu_worker    *workers;      /* [n_threads - 1], behind this struct */
    const smolq__cpu_job *job;
    volatile int32_t      round, left, asleep, stop;
    int32_t               taken;        /* by an evaluation */
#ifdef _WIN32
    SRWLOCK               lock;
    CONDITION_VARIABLE    wake, released;
#else
    pthread_mutex_t       lock;
    pthread_cond_t        wake, released;
#endif
};

#ifdef _WIN32
static void smolq__cpu_lock(smolq__cpu_device *d) { AcquireSRWLockExclusive(&d->lock); }
static void smolq__cpu_unlock(smolq__cpu_device *d) { ReleaseSRWLockExclusive(&d->lock); }
static void smolq__cpu_wait(smolq__cpu_device *d, CONDITION_VARIABLE *c) { SleepConditionVariableSRW(c, &d->lock, INFINITE, 0); }
static void smolq__cpu_wake_all(CONDITION_VARIABLE *c) { WakeAllConditionVariable(c); }
#else
static void smolq__cpu_lock(smolq__cpu_device *d) { pthread_mutex_lock(&d->lock); }
static void smolq__cpu_unlock(smolq__cpu_device *d) { pthread_mutex_unlock(&d->lock); }
static void smolq__cpu_wait(smolq__cpu_device *d, pthread_cond_t *c) { pthread_cond_wait(c, &d->lock); }
static void smolq__cpu_wake_all(pthread_cond_t *c) { pthread_cond_broadcast(c); }
#endif

enum { SMOLQ__CPU_SPINS = 2000 }; /* some tens of microseconds */

static void smolq__cpu_work(smolq__cpu_worker *worker)
{
    smolq__cpu_device *d = worker->device;
    int32_t seen = 0, spins;
    for (;;) {
        for (spins = 0; smolq__cpu_get(&d->round) == seen && spins < SMOLQ__CPU_SPINS; spins++) smolq__cpu_relax();
        if (smolq__cpu_get(&d->round) == seen) {
            smolq__cpu_lock(d);
            smolq__cpu_add(&d->asleep, 1); /* before the last look: who publishes after it sees a sleeper */
            while (smolq__cpu_get(&d->round) == seen) smolq__cpu_wait(d, &d->wake);
            smolq__cpu_add(&d->asleep, -1);
            smolq__cpu_unlock(d);
        }
        seen = smolq__cpu_get(&d->round);
        if (smolq__cpu_get(&d->stop)) return;
        d->job->isa->share(d->job, worker->index);
        smolq__cpu_add(&d->left, -1);
    }
}

static void smolq__cpu_publish(smolq__cpu_device *d)
{
    smolq__cpu_add(&d->round, 1);
    if (smolq__cpu_get(&d->asleep) > 0) {
        smolq__cpu_lock(d);
        smolq__cpu_wake_all(&d->wake);
        smolq__cpu_unlock(d);
    }
}

static void smolq__cpu_host_task(void *arg, int32_t index)
{
    const smolq__cpu_job *job = (const smolq__cpu_job *)arg;
    job->isa->share(job, index);
}

/* Runs all shares of a job and returns when they are done. */
static void smolq__cpu_run_job(smolq__cpu_device *d, smolq__cpu_job *job)
{
    int32_t spins = 0;
    if (job->n_shares == 1) job->isa->share(job, 0);
    else if (d->parallel_for) d->parallel_for(d->parallel_user, smolq__cpu_host_task, job, job->n_shares);
    else {
        d->job = job;
        smolq__cpu_add(&d->left, d->n_threads - 1);
        smolq__cpu_publish(d);
        job->isa->share(job, 0);
        while (smolq__cpu_get(&d->left) > 0) {
            if (++spins > SMOLQ__CPU_SPINS) smolq__cpu_yield(); /* more threads than free cores */
            else smolq__cpu_relax();
        }
    }
}

#ifdef _WIN32
static DWORD WINAPI smolq__cpu_thread(void *arg) { smolq__cpu_work((smolq__cpu_worker *)arg); return 0; }
static int smolq__cpu_start(smolq__cpu_worker *w) { w->thread = CreateThread(NULL, 0, smolq__cpu_thread, w, 0, NULL); return w->thread != NULL; }
static void smolq__cpu_join(smolq__cpu_worker *w) { WaitForSingleObject(w->thread, INFINITE); CloseHandle(w->thread); }
static int32_t smolq__cpu_cores(void) { SYSTEM_INFO info; GetSystemInfo(&info); return (int32_t)info.dwNumberOfProcessors; }
#else
static void *smolq__cpu_thread(void *arg) { smolq__cpu_work((smolq__cpu_worker *)arg); return NULL; }
static int smolq__cpu_start(smolq__cpu_worker *w) { return pthread_create(&w->thread, NULL, smolq__cpu_thread, w) == 0; }
static void smolq__cpu_join(smolq__cpu_worker *w) { pthread_join(w->thread, NULL); }

/* Physical cores: Linux names for each processor the first of those that share its core. */
static int32_t smolq__cpu_cores(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int32_t cores = 0, i;
    for (i = 0; i < online && i < SMOLQ__CPU_MAX_THREADS; i++) {
        char path[96];
        int first = -1;
        FILE *f;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", (int)i);
        f = fopen(path, "r");
        if (!f) continue;
        if (fscanf(f, "%d", &first) == 1 && first == i) cores++;
        fclose(f);
    }
    return cores > 0 ? cores : online > 0 ? (int32_t)online : 1;
}
#endif

/* ---- the functions of the backend ---- */

static void smolq__cpu_close(void *state)
{
    smolq__cpu_device *d = (smolq__cpu_device *)state;
    smolq_allocator allocator = d->allocator;
    size_t bytes = sizeof *d + (size_t)(d->n_threads - 1) * sizeof *d->workers;
    int32_t i;
    if (d->n_started) {
        smolq__cpu_add(&d->stop, 1);
        smolq__cpu_publish(d);
        for (i = 0; i < d->n_started; i++) smolq__cpu_join(&d->workers[i]);
    }
#ifndef _WIN32
    pthread_cond_destroy(&d->released);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
#endif
    if (!allocator.alloc) free(d);
    else if (allocator.release) allocator.release(allocator.user, d, bytes);
}

static smolq_result smolq__cpu_fail(smolq_error *err, smolq_result code, const char *text, const char *what)
{
    if (err) {
        err->code = code;
        snprintf(err->text, sizeof err->text, text, what);
    }
    return code;
}

static smolq_result smolq__cpu_open(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err)
{
    int32_t n = options->n_threads, i;
    const smolq__cpu_isa *isa = smolq__cpu_isas;
    smolq__cpu_device *d;
    size_t bytes;
    if (n < 0 || n > SMOLQ__CPU_MAX_THREADS) return smolq__cpu_fail(err, SMOLQ_E_ARGUMENT, "n_threads is out of range, expected 0..256%s", "");
    if (options->isa) { /* a cap: the named one or the next lower that this machine has */
        if (!smolq__cpu_is_cap(options->isa))
            return smolq__cpu_fail(err, SMOLQ_E_ARGUMENT, "unknown isa '%.32s', expected ref, avx2, avxvnni, avx512, amx, neon or neon-base, -dotprod, -i8mm", options->isa);
        while (isa->name && !smolq__cpu_is_capped(isa, options->isa)) isa++;
    }
    while (isa->name && (!isa->available() || (isa->by_name && !options->isa))) isa++;
    if (!isa->name) n = 1; /* the reference kernels know one thread */
    if (n == 0) n = smolq__cpu_cores();
    if (n > SMOLQ__CPU_MAX_THREADS) n = SMOLQ__CPU_MAX_THREADS;
    bytes = sizeof *d + (size_t)(n - 1) * sizeof *d->workers;
    d = (smolq__cpu_device *)(options->allocator.alloc ? options->allocator.alloc(options->allocator.user, bytes) : malloc(bytes));
    if (!d) return smolq__cpu_fail(err, SMOLQ_E_MEMORY, "out of memory for the CPU device%s", "");
    memset(d, 0, bytes);
    if (isa->name) smolq__cpu_need_tables();
    d->isa = isa;
    d->allocator = options->allocator;
    d->parallel_for = options->parallel_for;
    d->parallel_user = options->parallel_user;
    d->n_threads = n;
    d->workers = (smolq__cpu_worker *)(void *)(d + 1);
#ifdef _WIN32
    InitializeSRWLock(&d->lock);
    InitializeConditionVariable(&d->wake);
    InitializeConditionVariable(&d->released);
#else
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->wake, NULL);
    pthread_cond_init(&d->released, NULL);
#endif
    for (i = 0; i < n - 1 && !d->parallel_for; i++) {
        d->workers[i].device = d;
        d->workers[i].index = i + 1;
        if (!smolq__cpu_start(&d->workers[i])) {
            smolq__cpu_close(d);
            return smolq__cpu_fail(err, SMOLQ_E_DEVICE, "the CPU device can't start its threads%s", "");
        }
        d->n_started++;
    }
    snprintf(report, report_bytes, "cpu: %s, %d thread%s%s", isa->name ? isa->name : "ref", (int)n, n == 1 ? "" : "s", d->parallel_for ? " of the host" : "");
    *state = d;
    return SMOLQ_OK;
}

static smolq_result smolq__cpu_acquire(void *state, int32_t no_wait, smolq_error *err)
{
    smolq__cpu_device *d = (smolq__cpu_device *)state;
    smolq_result result = SMOLQ_OK;
    if (d->n_threads == 1 && !d->parallel_for) return SMOLQ_OK; /* the caller's thread alone: nothing is shared */
    smolq__cpu_lock(d);
    while (d->taken && !no_wait) smolq__cpu_wait(d, &d->released);
    if (d->taken) result = smolq__cpu_fail(err, SMOLQ_E_BUSY, "the CPU device is in use by another evaluation%s", "");
    else d->taken = 1;
    smolq__cpu_unlock(d);
    return result;
}

static void smolq__cpu_release(void *state)
{
    smolq__cpu_device *d = (smolq__cpu_device *)state;
    if (d->n_threads == 1 && !d->parallel_for) return;
    smolq__cpu_lock(d);
    d->taken = 0;
    smolq__cpu_wake_all(&d->released);
    smolq__cpu_unlock(d);
}

static uint64_t smolq__cpu_scratch(void *state, const smolq_program *program, int32_t n_batch)
{
    const smolq__cpu_device *d = (const smolq__cpu_device *)state;
    if (!d->isa->name) return 0;
    return (smolq__cpu_records(d->isa->layout, program, SMOLQ_BUF_A256) + smolq__cpu_records(d->isa->layout, program, SMOLQ_BUF_A32)) *
           (uint64_t)((n_batch - 1) / d->isa->layout->tokens + 2); /* one group more: tiles go in pairs */
}

/* How many units go between two questions whether to pause: about twenty microseconds of work. */
static uint64_t smolq__cpu_slice(const smolq__cpu_device *d, const smolq_run *run, const smolq_op *op, int32_t n_rows, uint64_t n_units)
{
    uint64_t weights = 1, slice;
    if (op->kind == SMOLQ_OP_MATMUL || op->kind == SMOLQ_OP_MATMUL_EXPERTS) weights = (uint64_t)op->part[0].w->n_cols * (uint64_t)(op->kind == SMOLQ_OP_MATMUL ? n_rows : 1);
    else if (op->kind == SMOLQ_OP_ATTENTION) weights = (uint64_t)op->n * 64 * (uint64_t)(run->position[n_rows - 1] + 1);
    else weights = (uint64_t)(op->n > 0 ? op->n : 1) * 16;
    slice = ((uint64_t)d->n_threads << 18) / weights;
    return slice < 1 ? 1 : slice > n_units ? n_units : slice;
}

/* Small operations are done before other threads would have noticed. */
static int smolq__cpu_is_small(const smolq_op *op, int32_t n_rows)
{
    if (op->kind == SMOLQ_OP_MATMUL || op->kind == SMOLQ_OP_MATMUL_EXPERTS || op->kind == SMOLQ_OP_ATTENTION) return 0;
    return n_rows < 4;
}

static smolq_result smolq__cpu_run(void *state, smolq_run *run, smolq_error *err)
{
    smolq__cpu_device *d = (smolq__cpu_device *)state;
    if (!d->isa->name) return smolq_backend_ref()->run(NULL, run, err);
    for (; run->op < run->end_op; run->op++, run->unit = 0) {
        const smolq_op *op = &run->program->ops[run->op];
        int32_t n_rows = op->selected ? run->n_out : run->n_rows;
        uint64_t n_units = d->isa->units(run, op, n_rows);
        while (run->unit < n_units) {
            smolq__cpu_job job;
            if (run->pause && run->pause(run->user)) return SMOLQ_OK;
            job.isa = d->isa;
            job.run = run;
            job.op = op;
            job.n_rows = n_rows;
            job.begin = run->unit;
            job.end = run->pause ? run->unit + smolq__cpu_slice(d, run, op, n_rows, n_units) : n_units;
            if (job.end > n_units) job.end = n_units;
            job.n_shares = smolq__cpu_is_small(op, n_rows) ? 1 : d->n_threads;
            smolq__cpu_run_job(d, &job);
            run->unit = job.end;
        }
    }
    return SMOLQ_OK;
}

static const smolq_backend smolq__cpu_backend = {
    SMOLQ_CONTRACT, SMOLQ_CONTRACT_SIZES, SMOLQ_CANONICAL, "cpu", smolq__cpu_open, smolq__cpu_close, smolq__cpu_acquire, smolq__cpu_release, smolq__cpu_scratch, smolq__cpu_run, NULL
};
SMOLQ_API const smolq_backend *smolq_backend_cpu(void) { return &smolq__cpu_backend; }

#endif /* SMOLQ__CPU_ONCE */

#else /* ======== the second half: the body, for one instruction set ======== */

#if defined(SMOLQ__CPU_TARGET) && defined(__clang__)
SMOLQ__CPU_PRAGMA(clang attribute push(__attribute__((target(SMOLQ__CPU_TARGET))), apply_to = function))
#elif defined(SMOLQ__CPU_TARGET) && defined(__GNUC__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wmaybe-uninitialized" /* GCC 12 means its own avx512fintrin.h (bug 105593) */
#  pragma GCC push_options
SMOLQ__CPU_PRAGMA(GCC target(SMOLQ__CPU_TARGET))
SMOLQ__CPU_ALIGN_STACK
#endif
/* ---- the shim: sixteen floats, 32 bytes, and what products of them are made of ----
 *
 * lanes          sixteen floats, the unit of canonical sums (rule 5); all operations are lane by lane
 *   lanes_fma    a * b + c, one rounding          lanes_mul   kept apart from any sum
 *   lanes_half   sixteen f16 at p, lanes_brain    sixteen bf16 at p
 *   lanes_fold   8, 4, 2, 1 apart, as smolq_fold; lanes_folds does so for FOLDS vectors
 *   lanes_pow2   x * 2^n by adding to the exponent bits, n whole
 *   lanes_min    b where b is a NaN, and lanes_max; what a NaN in a gives is open
 * int16s         sixteen of them
 *   words        those at p                        widen_codes the first 16 of 32 bytes, signed
 *   pairs        eight bytes, each twice           times       each times a number
 * int32s         as many as it likes, of which the sum over the whole vector is what counts
 *   dot_words    acc + the products of words, mul_words without acc
 *   dot_codes    of 32 bytes each, the first ones below 128, signed where is_signed; dot_halves has in its first half the sums of the first 16
 *   sum4         the sums of four as floats; sum8 of eight, less a number, as floats; halves8 two sums of each
 * four, eight    so many floats, one for each row
 *
 * codes          32 bytes, as blocks are unpacked in; where sixteen are asked for they are the first ones, and what is behind them does not matter
 *   code_load    32 bytes at p                     code_twice  16 bytes at p, then the same again
 *   code_join    four times eight bytes            code_all    one byte 32 times
 *   code_left    x << n in each byte; what comes from the neighbor is undefined, so mask it; code_right likewise
 *   code_nibbles the low nibbles of 16 bytes at p, then the high ones
 *   code_nibbles_8 the same for the first 8 bytes, then for the other 8
 *   code_turns   the low nibble of each of sixteen bytes and its high one, in turn
 *   code_pairs   32 pairs of bits, the lowest first
 *   code_bits    0xff where a bit of 32 is set, the lowest first
 *   code_spread  each of four bytes eight times, the lowest first
 *   code_tops    32 words at p, each shifted right by n >= 8
 *   code_pick    values[x], 16 bytes at values, x < 16
 *   code_halves  the first half of a, the second half of b
 *   code_thrice  3 * x in each byte, and code_carried what falls out of it: 0, 1 or 2
 *   code_zip     32 words to p from their low bytes and their high ones
 *   dword_       the same 32 bytes as eight dwords: dword_odd every other one of 16 at p; dword_words eight words at p; dword_bytes the low byte of each
 * flips          which of 32 bytes shall change their sign: flip_bits by the bits of a number, lowest first; code_flip does it, to bytes above -128 */

#define INLINE  static inline __attribute__((always_inline, unused))
#define lanes   SMOLQ__CPU(lanes)
#define codes   SMOLQ__CPU(codes)
#define flips   SMOLQ__CPU(flips)
#define int16s  SMOLQ__CPU(int16s)
#define int32s  SMOLQ__CPU(int32s)
#define four    SMOLQ__CPU(four)
#define eight   SMOLQ__CPU(eight)
#define CALL(x) SMOLQ__CPU(x)
#define UNROLL  SMOLQ__CPU_UNROLL
#if defined(SMOLQ__CPU_NEON)
#  define UNROLL_ROWS /* a row of blocks of 256 fills the registers, and clang declines */
#else
#  define UNROLL_ROWS UNROLL
#endif

#if defined(SMOLQ__CPU_NEON)
typedef struct lanes { float32x4_t a, b, c, d; } lanes;
#define BYTES(p) vld1q_u8((const uint8_t *)(const void *)(p)) /* at any address */
#define LANES_1(name, f) INLINE lanes CALL(name)(lanes x) { lanes y = { f(x.a), f(x.b), f(x.c), f(x.d) }; return y; }
#define LANES_2(name, f) INLINE lanes CALL(name)(lanes x, lanes y) { lanes z = { f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d) }; return z; }
LANES_1(abs, vabsq_f32)
LANES_1(nearest, vrndnq_f32)
LANES_2(add, vaddq_f32)
LANES_2(sub, vsubq_f32)
LANES_2(div, vdivq_f32)
LANES_2(max, vmaxq_f32)
LANES_2(min, vminq_f32)
INLINE float32x4_t CALL(pow2_4)(float32x4_t x, float32x4_t n) { return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(vcvtnq_s32_f32(n), 23))); }
LANES_2(pow2, CALL(pow2_4))
#undef LANES_1
#undef LANES_2
INLINE lanes CALL(all)(float x) { lanes y = { vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x) }; return y; }
INLINE lanes CALL(zero)(void) { return CALL(all)(0); }
INLINE float32x4_t CALL(load4)(const float *p) { return vld1q_f32(p); }
INLINE lanes CALL(load)(const float *p) { lanes y = { CALL(load4)(p), CALL(load4)(p + 4), CALL(load4)(p + 8), CALL(load4)(p + 12) }; return y; }
INLINE void  CALL(store)(float *p, lanes x) { vst1q_f32(p, x.a); vst1q_f32(p + 4, x.b); vst1q_f32(p + 8, x.c); vst1q_f32(p + 12, x.d); }
INLINE lanes CALL(fma)(lanes a, lanes b, lanes c)
{
    lanes y = { vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b), vfmaq_f32(c.c, a.c, b.c), vfmaq_f32(c.d, a.d, b.d) };
    return y;
}
INLINE lanes CALL(mul)(lanes a, lanes b)
{
    lanes y = { vmulq_f32(a.a, b.a), vmulq_f32(a.b, b.b), vmulq_f32(a.c, b.c), vmulq_f32(a.d, b.d) };
    __asm__("" : "+w"(y.a), "+w"(y.b), "+w"(y.c), "+w"(y.d));
    return y;
}
INLINE lanes CALL(half)(const uint8_t *p)
{
    float16x8_t x = vreinterpretq_f16_u8(BYTES(p)), y = vreinterpretq_f16_u8(BYTES(p + 16));
    lanes z = { vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x), vcvt_f32_f16(vget_low_f16(y)), vcvt_high_f32_f16(y) };
    return z;
}
INLINE float32x4_t CALL(brain4)(uint16x4_t x) { return vreinterpretq_f32_u32(vshll_n_u16(x, 16)); }
INLINE lanes CALL(brain)(const uint8_t *p)
{
    uint16x8_t x = vreinterpretq_u16_u8(BYTES(p)), y = vreinterpretq_u16_u8(BYTES(p + 16));
    lanes z = { CALL(brain4)(vget_low_u16(x)), CALL(brain4)(vget_high_u16(x)), CALL(brain4)(vget_low_u16(y)), CALL(brain4)(vget_high_u16(y)) };
    return z;
}
INLINE float32x4_t CALL(floats4)(int16x4_t x) { return vcvtq_f32_s32(vmovl_s16(x)); }
INLINE lanes CALL(bytes)(const int8_t *p)
{
    int8x16_t v = vld1q_s8(p);
    int16x8_t x = vmovl_s8(vget_low_s8(v)), y = vmovl_high_s8(v);
    lanes z = { CALL(floats4)(vget_low_s16(x)), CALL(floats4)(vget_high_s16(x)), CALL(floats4)(vget_low_s16(y)), CALL(floats4)(vget_high_s16(y)) };
    return z;
}
INLINE void CALL(put_half)(uint8_t *p, lanes x)
{
    vst1q_u8(p, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)));
    vst1q_u8(p + 16, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)));
}
INLINE void CALL(put_bytes)(int8_t *p, lanes x) /* to nearest even */
{
    int16x8_t a = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.a)), vmovn_s32(vcvtnq_s32_f32(x.b))), b = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.c)), vmovn_s32(vcvtnq_s32_f32(x.d)));
    vst1q_s8(p, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
}
INLINE lanes CALL(where_less)(lanes a, lanes b, lanes yes, lanes no)
{
    lanes y = { vbslq_f32(vcltq_f32(a.a, b.a), yes.a, no.a), vbslq_f32(vcltq_f32(a.b, b.b), yes.b, no.b), vbslq_f32(vcltq_f32(a.c, b.c), yes.c, no.c), vbslq_f32(vcltq_f32(a.d, b.d), yes.d, no.d) };
    return y;
}
INLINE float CALL(most)(lanes x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d))); }
INLINE float CALL(fold)(lanes x)
{
    float32x4_t a = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    return vpadds_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a)));
}
enum { CALL(FOLDS) = 4, CALL(VECTORS) = 1 };
INLINE float64x2_t CALL(half_folded)(lanes x) { return vreinterpretq_f64_f32(vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d))); }
INLINE void CALL(folds)(const lanes *x, float *y)
{
    float64x2_t a = CALL(half_folded)(x[0]), b = CALL(half_folded)(x[1]), c = CALL(half_folded)(x[2]), d = CALL(half_folded)(x[3]);
    float32x4_t e = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)));
    float32x4_t f = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(c, d)), vreinterpretq_f32_f64(vzip2q_f64(c, d)));
    vst1q_f32(y, vpaddq_f32(e, f));
}
INLINE float CALL(half1)(const uint8_t *p)
{
    __fp16 x;
    memcpy(&x, p, sizeof x);
    return (float)x;
}

typedef struct codes { uint8x16_t a, b; } codes;
INLINE codes CALL(code_2)(uint8x16_t a, uint8x16_t b) { codes x = { a, b }; return x; }
INLINE codes CALL(code_load)(const uint8_t *p) { return CALL(code_2)(vld1q_u8(p), vld1q_u8(p + 16)); }
INLINE void  CALL(code_store)(uint8_t *p, codes x) { vst1q_u8(p, x.a); vst1q_u8(p + 16, x.b); }
INLINE codes CALL(code_twice)(const uint8_t *p) { return CALL(code_2)(vld1q_u8(p), vld1q_u8(p)); }
INLINE codes CALL(code_join)(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return CALL(code_2)(vcombine_u8(vcreate_u8(a), vcreate_u8(b)), vcombine_u8(vcreate_u8(c), vcreate_u8(d)));
}
INLINE codes CALL(code_all)(int32_t x) { return CALL(code_2)(vdupq_n_u8((uint8_t)x), vdupq_n_u8((uint8_t)x)); }
INLINE codes CALL(code_and)(codes x, codes y) { return CALL(code_2)(vandq_u8(x.a, y.a), vandq_u8(x.b, y.b)); }
INLINE codes CALL(code_or)(codes x, codes y) { return CALL(code_2)(vorrq_u8(x.a, y.a), vorrq_u8(x.b, y.b)); }
INLINE codes CALL(code_xor)(codes x, codes y) { return CALL(code_2)(veorq_u8(x.a, y.a), veorq_u8(x.b, y.b)); }
INLINE codes CALL(code_add)(codes x, codes y) { return CALL(code_2)(vaddq_u8(x.a, y.a), vaddq_u8(x.b, y.b)); }
INLINE codes CALL(code_sub)(codes x, codes y) { return CALL(code_2)(vsubq_u8(x.a, y.a), vsubq_u8(x.b, y.b)); }
INLINE codes CALL(code_left)(codes x, int32_t n) { return CALL(code_2)(x.a << n, x.b << n); }
INLINE codes CALL(code_right)(codes x, int32_t n) { return CALL(code_2)(x.a >> n, x.b >> n); }
INLINE codes CALL(code_nibbles)(const uint8_t *p)
{
    uint8x16_t v = vld1q_u8(p);
    return CALL(code_2)(vandq_u8(v, vdupq_n_u8(15)), vshrq_n_u8(v, 4));
}
INLINE codes CALL(code_nibbles_8)(const uint8_t *p)
{
    uint8x16_t v = vld1q_u8(p), low = vandq_u8(v, vdupq_n_u8(15)), high = vshrq_n_u8(v, 4);
    return CALL(code_2)(vcombine_u8(vget_low_u8(low), vget_low_u8(high)), vcombine_u8(vget_high_u8(low), vget_high_u8(high)));
}
INLINE codes CALL(code_turns)(codes x)
{
    uint8x16_t low = vandq_u8(x.a, vdupq_n_u8(15)), high = vshrq_n_u8(x.a, 4);
    return CALL(code_2)(vzip1q_u8(low, high), vzip2q_u8(low, high));
}
INLINE codes CALL(code_pairs)(uint64_t pairs)
{
    uint8x16_t x = vreinterpretq_u8_u64(vdupq_n_u64(pairs)), four_times = vreinterpretq_u8_u32(vmulq_n_u32(vmovl_u16(vcreate_u16(0x0003000200010000u)), 0x01010101));
    int8x16_t down = vreinterpretq_s8_u32(vdupq_n_u32(0xfafcfe00)); /* by 0, 2, 4, 6 bits */
    uint8x16_t a = vshlq_u8(vqtbl1q_u8(x, four_times), down), b = vshlq_u8(vqtbl1q_u8(x, vaddq_u8(four_times, vdupq_n_u8(4))), down);
    return CALL(code_2)(vandq_u8(a, vdupq_n_u8(3)), vandq_u8(b, vdupq_n_u8(3)));
}
INLINE codes CALL(code_spread)(uint32_t x)
{
    return CALL(code_2)(vcombine_u8(vdup_n_u8((uint8_t)x), vdup_n_u8((uint8_t)(x >> 8))), vcombine_u8(vdup_n_u8((uint8_t)(x >> 16)), vdup_n_u8((uint8_t)(x >> 24))));
}
INLINE codes CALL(code_tops)(const uint8_t *p, int32_t n)
{
    return CALL(code_2)(vuzp2q_u8(vld1q_u8(p), vld1q_u8(p + 16)) >> (n - 8), vuzp2q_u8(vld1q_u8(p + 32), vld1q_u8(p + 48)) >> (n - 8));
}
INLINE codes CALL(code_halves)(codes x, codes y) { return CALL(code_2)(x.a, y.b); }
INLINE codes CALL(code_thrice)(codes x) { return CALL(code_2)(x.a + x.a + x.a, x.b + x.b + x.b); }
INLINE codes CALL(code_carried)(codes x) { return CALL(code_2)(vhaddq_u8(x.a, x.a >> 1) >> 6, vhaddq_u8(x.b, x.b >> 1) >> 6); } /* 3x / 4, then / 64 */
INLINE void CALL(code_zip)(uint16_t *p, codes low, codes high)
{
    vst1q_u16(p, vreinterpretq_u16_u8(vzip1q_u8(low.a, high.a)));
    vst1q_u16(p + 8, vreinterpretq_u16_u8(vzip2q_u8(low.a, high.a)));
    vst1q_u16(p + 16, vreinterpretq_u16_u8(vzip1q_u8(low.b, high.b)));
    vst1q_u16(p + 24, vreinterpretq_u16_u8(vzip2q_u8(low.b, high.b)));
}
INLINE codes CALL(code_4x2)(uint32x4_t a, uint32x4_t b) { return CALL(code_2)(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)); }
INLINE codes CALL(dword_all)(uint32_t x) { return CALL(code_4x2)(vdupq_n_u32(x), vdupq_n_u32(x)); }
INLINE codes CALL(dword_join)(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f, uint32_t g, uint32_t h)
{
    return CALL(code_join)(a | (uint64_t)b << 32, c | (uint64_t)d << 32, e | (uint64_t)f << 32, g | (uint64_t)h << 32);
}
INLINE codes CALL(dword_left)(codes x, int32_t n) { return CALL(code_4x2)(vreinterpretq_u32_u8(x.a) << n, vreinterpretq_u32_u8(x.b) << n); }
INLINE codes CALL(dword_right)(codes x, int32_t n) { return CALL(code_4x2)(vreinterpretq_u32_u8(x.a) >> n, vreinterpretq_u32_u8(x.b) >> n); }
INLINE codes CALL(dword_words)(const uint8_t *p)
{
    uint16x8_t x = vreinterpretq_u16_u8(vld1q_u8(p));
    return CALL(code_4x2)(vmovl_u16(vget_low_u16(x)), vmovl_high_u16(x));
}
INLINE codes CALL(dword_odd)(const uint8_t *p)
{
    return CALL(code_4x2)(vuzp2q_u32(vreinterpretq_u32_u8(vld1q_u8(p)), vreinterpretq_u32_u8(vld1q_u8(p + 16))),
                          vuzp2q_u32(vreinterpretq_u32_u8(vld1q_u8(p + 32)), vreinterpretq_u32_u8(vld1q_u8(p + 48))));
}
INLINE uint64_t CALL(dword_bytes)(codes x)
{
    uint16x8_t w = vcombine_u16(vmovn_u32(vreinterpretq_u32_u8(x.a)), vmovn_u32(vreinterpretq_u32_u8(x.b)));
    return vget_lane_u64(vreinterpret_u64_u8(vmovn_u16(w)), 0);
}
INLINE codes CALL(code_pick)(const int8_t *values, codes x) { return CALL(code_2)(vqtbl1q_u8(BYTES(values), x.a), vqtbl1q_u8(BYTES(values), x.b)); }
INLINE codes CALL(code_bits)(uint32_t bits)
{
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    codes x = CALL(code_spread)(bits);
    return CALL(code_2)(vtstq_u8(x.a, bit), vtstq_u8(x.b, bit));
}
typedef codes flips;
INLINE flips CALL(flip_bits)(uint32_t bits) { return CALL(code_bits)(bits); }
INLINE codes CALL(code_flip)(codes x, flips f) { return CALL(code_sub)(CALL(code_xor)(x, f), f); }

typedef struct int16s { int16x8_t a, b; } int16s;
typedef int32x4_t int32s;
INLINE int16s CALL(words)(const void *p) { int16s x = { vreinterpretq_s16_u8(BYTES(p)), vreinterpretq_s16_u8(BYTES((const uint8_t *)p + 16)) }; return x; }
INLINE void   CALL(put_words)(int16_t *p, int16s x) { vst1q_s16(p, x.a); vst1q_s16(p + 8, x.b); }
INLINE int16s CALL(widen_codes)(codes x) { int8x16_t v = vreinterpretq_s8_u8(x.a); int16s y = { vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v) }; return y; }
INLINE int16s CALL(pairs)(uint64_t bytes) { int16x8_t w = vmovl_s8(vcreate_s8(bytes)); int16s x = { vzip1q_s16(w, w), vzip2q_s16(w, w) }; return x; }
INLINE int32s CALL(none)(void) { return vdupq_n_s32(0); }
INLINE int32s CALL(dot_words)(int32s acc, int16s x, int16s y)
{
    acc = vmlal_high_s16(vmlal_s16(acc, vget_low_s16(x.a), vget_low_s16(y.a)), x.a, y.a);
    return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(x.b), vget_low_s16(y.b)), x.b, y.b);
}
INLINE int32s CALL(mul_words)(int16s x, int16s y) { return CALL(dot_words)(CALL(none)(), x, y); }
INLINE int16s CALL(times)(int16s x, int32_t n) { int16s y = { vmulq_n_s16(x.a, (int16_t)n), vmulq_n_s16(x.b, (int16_t)n) }; return y; }
INLINE int32s CALL(less)(int32s a, int32s b) { return vsubq_s32(a, b); }
INLINE int32x4_t CALL(sums4)(int32s a, int32s b, int32s c, int32s d) { return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
INLINE int16_t CALL(sum_bytes)(const int8_t *p) { return vaddlvq_s8(vld1q_s8(p)); }

/* Sums of four products each of signed bytes, of which two are less than 2^15.  The instruction by its name: clang before 16 shows the intrinsic only under flags. */
INLINE int32x4_t CALL(dot_16)(int32x4_t acc, uint8x16_t x, uint8x16_t y)
{
#if defined(SMOLQ__CPU_DOTPROD)
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(x), "w"(y));
    return acc;
#else
    int8x16_t a = vreinterpretq_s8_u8(x), b = vreinterpretq_s8_u8(y);
    return vpadalq_s16(acc, vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b));
#endif
}
INLINE int32s CALL(dot_codes)(codes x, codes y, int is_signed) { (void)is_signed; return CALL(dot_16)(CALL(dot_16)(CALL(none)(), x.a, y.a), x.b, y.b); }
INLINE int32s CALL(dot_halves)(codes x, codes y, int is_signed) { (void)is_signed; return vpaddq_s32(CALL(dot_16)(CALL(none)(), x.a, y.a), CALL(dot_16)(CALL(none)(), x.b, y.b)); }

typedef float32x4_t four;
typedef struct eight { float32x4_t a, b; } eight;
INLINE four CALL(all4)(float x) { return vdupq_n_f32(x); }
INLINE void CALL(store4)(float *p, four x) { vst1q_f32(p, x); }
INLINE four CALL(mul4)(four x, four y) { return vmulq_f32(x, y); }
INLINE four CALL(fma4)(four x, four y, four z) { return vfmaq_f32(z, x, y); }
INLINE four CALL(sum4)(int32s a, int32s b, int32s c, int32s d) { return vcvtq_f32_s32(CALL(sums4)(a, b, c, d)); }
INLINE eight CALL(both)(four a, four b) { eight x = { a, b }; return x; }
INLINE eight CALL(all8)(float x) { return CALL(both)(vdupq_n_f32(x), vdupq_n_f32(x)); }
INLINE eight CALL(load8)(const float *p) { return CALL(both)(CALL(load4)(p), CALL(load4)(p + 4)); }
INLINE void  CALL(store8)(float *p, eight x) { vst1q_f32(p, x.a); vst1q_f32(p + 4, x.b); }
INLINE eight CALL(mul8)(eight x, eight y) { return CALL(both)(vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)); }
INLINE eight CALL(fma8)(eight x, eight y, eight z) { return CALL(both)(vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)); }
INLINE eight CALL(sum8)(const int32s *s, int32_t n)
{
    int32x4_t less = vdupq_n_s32(n);
    return CALL(both)(vcvtq_f32_s32(vsubq_s32(CALL(sums4)(s[0], s[1], s[2], s[3]), less)), vcvtq_f32_s32(vsubq_s32(CALL(sums4)(s[4], s[5], s[6], s[7]), less)));
}
INLINE eight CALL(halves8)(const int32s *s, eight *second)
{
    int32x4_t a = vpaddq_s32(s[0], s[1]), b = vpaddq_s32(s[2], s[3]), c = vpaddq_s32(s[4], s[5]), d = vpaddq_s32(s[6], s[7]);
    *second = CALL(both)(vcvtq_f32_s32(vuzp2q_s32(a, b)), vcvtq_f32_s32(vuzp2q_s32(c, d)));
    return CALL(both)(vcvtq_f32_s32(vuzp1q_s32(a, b)), vcvtq_f32_s32(vuzp1q_s32(c, d)));
}
#elif defined(SMOLQ__CPU_AVX512)
typedef __m512 lanes;
INLINE lanes CALL(zero)(void) { return _mm512_setzero_ps(); }
INLINE lanes CALL(all)(float x) { return _mm512_set1_ps(x); }
INLINE lanes CALL(load)(const float *p) { return _mm512_loadu_ps(p); }
INLINE void  CALL(store)(float *p, lanes x) { _mm512_storeu_ps(p, x); }
INLINE lanes CALL(fma)(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
INLINE lanes CALL(mul)(lanes a, lanes b) { lanes x = _mm512_mul_ps(a, b); __asm__("" : "+v"(x)); return x; }
INLINE lanes CALL(add)(lanes a, lanes b) { return _mm512_add_ps(a, b); }
INLINE lanes CALL(sub)(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
INLINE lanes CALL(div)(lanes a, lanes b) { return _mm512_div_ps(a, b); }
INLINE lanes CALL(max)(lanes a, lanes b) { return _mm512_max_ps(a, b); }
INLINE lanes CALL(min)(lanes a, lanes b) { return _mm512_min_ps(a, b); }
INLINE lanes CALL(abs)(lanes a) { return _mm512_abs_ps(a); }
INLINE lanes CALL(half)(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
INLINE lanes CALL(brain)(const uint8_t *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16)); }
INLINE lanes CALL(bytes)(const int8_t *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p))); }
INLINE void  CALL(put_half)(uint8_t *p, lanes x) { _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
INLINE void  CALL(put_bytes)(int8_t *p, lanes x) { _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))); } /* to nearest even */
INLINE lanes CALL(where_less)(lanes a, lanes b, lanes yes, lanes no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
INLINE lanes CALL(pow2)(lanes x, lanes n) { return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23))); }
INLINE lanes CALL(nearest)(lanes x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE float CALL(most)(lanes x) { return _mm512_reduce_max_ps(x); }
INLINE float CALL(fold)(lanes x)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
enum { CALL(FOLDS) = 16, CALL(VECTORS) = 4 };
INLINE void CALL(folds)(const lanes *x, float *y) /* each step adds what is 8, 4, 2, 1 apart and halves the number of vectors */
{
    lanes b[4], c[2];
    int32_t i;
    UNROLL for (i = 0; i < 4; i++) {
        lanes a = _mm512_add_ps(_mm512_shuffle_f32x4(x[i], x[i + 4], 0x44), _mm512_shuffle_f32x4(x[i], x[i + 4], 0xee));
        lanes d = _mm512_add_ps(_mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x44), _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xee));
        b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, d, 0x88), _mm512_shuffle_f32x4(a, d, 0xdd));
    }
    UNROLL for (i = 0; i < 2; i++) {
        __m512d even = _mm512_castps_pd(b[2 * i]), odd = _mm512_castps_pd(b[2 * i + 1]);
        c[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(even, odd)), _mm512_castpd_ps(_mm512_unpackhi_pd(even, odd)));
    }
    _mm512_storeu_ps(y, _mm512_add_ps(_mm512_shuffle_ps(c[0], c[1], 0x88), _mm512_shuffle_ps(c[0], c[1], 0xdd)));
}
#else
typedef struct lanes { __m256 a, b; } lanes;
INLINE lanes CALL(both)(__m256 a, __m256 b) { lanes x; x.a = a; x.b = b; return x; }
INLINE lanes CALL(zero)(void) { return CALL(both)(_mm256_setzero_ps(), _mm256_setzero_ps()); }
INLINE lanes CALL(all)(float x) { return CALL(both)(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
INLINE lanes CALL(load)(const float *p) { return CALL(both)(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE void  CALL(store)(float *p, lanes x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
INLINE lanes CALL(fma)(lanes a, lanes b, lanes c) { return CALL(both)(_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)); }
INLINE lanes CALL(mul)(lanes a, lanes b)
{
    lanes x = CALL(both)(_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b));
    __asm__("" : "+x"(x.a), "+x"(x.b));
    return x;
}
INLINE lanes CALL(add)(lanes a, lanes b) { return CALL(both)(_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)); }
INLINE lanes CALL(sub)(lanes a, lanes b) { return CALL(both)(_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)); }
INLINE lanes CALL(div)(lanes a, lanes b) { return CALL(both)(_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)); }
INLINE lanes CALL(max)(lanes a, lanes b) { return CALL(both)(_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)); }
INLINE lanes CALL(min)(lanes a, lanes b) { return CALL(both)(_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)); }
INLINE lanes CALL(abs)(lanes x)
{
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return CALL(both)(_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m));
}
INLINE lanes CALL(half)(const uint8_t *p) { return CALL(both)(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 16)))); }
INLINE __m256 CALL(brain8)(const uint8_t *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16)); }
INLINE lanes CALL(brain)(const uint8_t *p) { return CALL(both)(CALL(brain8)(p), CALL(brain8)(p + 16)); }
INLINE lanes CALL(bytes)(const int8_t *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    return CALL(both)(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))));
}
INLINE void CALL(put_half)(uint8_t *p, lanes x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 16), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void CALL(put_bytes)(int8_t *p, lanes x)
{
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
INLINE lanes CALL(where_less)(lanes a, lanes b, lanes yes, lanes no)
{
    return CALL(both)(_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)), _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ)));
}
INLINE __m256 CALL(pow2_8)(__m256 x, __m256 n) { return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23))); }
INLINE lanes CALL(pow2)(lanes x, lanes n) { return CALL(both)(CALL(pow2_8)(x.a, n.a), CALL(pow2_8)(x.b, n.b)); }
INLINE lanes CALL(nearest)(lanes x)
{
    return CALL(both)(_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE float CALL(fold8)(__m256 a)
{
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float CALL(fold)(lanes x) { return CALL(fold8)(_mm256_add_ps(x.a, x.b)); }
INLINE float CALL(most)(lanes x)
{
    __m256 a = _mm256_max_ps(x.a, x.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
enum { CALL(FOLDS) = 4, CALL(VECTORS) = 1 };
INLINE void CALL(folds)(const lanes *x, float *y) /* each step adds what is 8, 4, 2, 1 apart */
{
    __m256 a[4], b[2];
    __m256d even, odd;
    int32_t i;
    UNROLL for (i = 0; i < 4; i++) a[i] = _mm256_add_ps(x[i].a, x[i].b);
    UNROLL for (i = 0; i < 2; i++) b[i] = _mm256_add_ps(_mm256_permute2f128_ps(a[2 * i], a[2 * i + 1], 0x20), _mm256_permute2f128_ps(a[2 * i], a[2 * i + 1], 0x31));
    even = _mm256_castps_pd(b[0]);
    odd = _mm256_castps_pd(b[1]);
    a[0] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(even, odd)), _mm256_castpd_ps(_mm256_unpackhi_pd(even, odd))); /* pairs of 0 and 2, of 1 and 3 */
    a[0] = _mm256_add_ps(_mm256_shuffle_ps(a[0], a[0], 0x88), _mm256_shuffle_ps(a[0], a[0], 0xdd));
    _mm_storeu_ps(y, _mm_unpacklo_ps(_mm256_castps256_ps128(a[0]), _mm256_extractf128_ps(a[0], 1)));
}
#endif

#if !defined(SMOLQ__CPU_NEON) /* the same for all of x86, but flips */
typedef __m256i codes, int16s, int32s;
#define BLEND(mask, a, b) _mm512_ternarylogic_epi32(mask, a, b, 0xca) /* mask ? a : b */
#define LOAD128(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LOAD256(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define TWICE(x)   _mm256_broadcastsi128_si256(x)
INLINE codes CALL(code_load)(const uint8_t *p) { return LOAD256(p); }
INLINE codes CALL(code_twice)(const uint8_t *p) { return TWICE(LOAD128(p)); }
INLINE codes CALL(code_join)(uint64_t a, uint64_t b, uint64_t c, uint64_t d) { return _mm256_setr_epi64x((int64_t)a, (int64_t)b, (int64_t)c, (int64_t)d); }
INLINE codes CALL(code_all)(int32_t x) { return _mm256_set1_epi8((int8_t)x); }
INLINE codes CALL(code_and)(codes a, codes b) { return _mm256_and_si256(a, b); }
INLINE codes CALL(code_or)(codes a, codes b) { return _mm256_or_si256(a, b); }
INLINE codes CALL(code_xor)(codes a, codes b) { return _mm256_xor_si256(a, b); }
INLINE codes CALL(code_add)(codes a, codes b) { return _mm256_add_epi8(a, b); }
INLINE codes CALL(code_sub)(codes a, codes b) { return _mm256_sub_epi8(a, b); }
INLINE codes CALL(code_left)(codes x, int32_t n) { return _mm256_slli_epi16(x, n); }
INLINE codes CALL(code_right)(codes x, int32_t n) { return _mm256_srli_epi16(x, n); }
INLINE codes CALL(code_nibbles)(const uint8_t *p)
{
    __m128i v = LOAD128(p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}
INLINE codes CALL(code_turns)(codes bytes)
{
    __m256i words = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes));
    return _mm256_and_si256(_mm256_or_si256(words, _mm256_slli_epi16(words, 4)), _mm256_set1_epi8(15));
}
INLINE codes CALL(code_pairs)(uint64_t pairs)
{
    const __m256i spread = _mm256_setr_epi64x(0x0101010100000000, 0x0303030302020202, 0x0505050504040404, 0x0707070706060606);
    const __m256i low = _mm256_setr_epi8(0, 1, 2, 3, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 2, 3, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0); /* also of x << 2 */
    __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)pairs), spread);
    x = _mm256_and_si256(_mm256_blend_epi16(x, _mm256_srli_epi16(x, 4), 0xaa), _mm256_set1_epi16(0x0c03));
    return _mm256_shuffle_epi8(low, x);
}
INLINE codes CALL(code_spread)(uint32_t bytes)
{
    return _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bytes), _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
}
INLINE codes CALL(code_tops)(const uint8_t *p, int32_t n)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(_mm256_srli_epi16(LOAD256(p), n), _mm256_srli_epi16(LOAD256(p + 32), n)), 0xd8);
}
INLINE codes CALL(code_halves)(codes a, codes b) { return _mm256_blend_epi32(a, b, 0xf0); }
INLINE codes CALL(code_thrice)(codes x) { return _mm256_add_epi8(x, _mm256_add_epi8(x, x)); }
INLINE codes CALL(code_carried)(codes x) /* 3x / 256 by averages that round up, so of the complement, down: of x and 0 it is x/2, of x and that 3x/4 */
{
    __m256i no = _mm256_xor_si256(x, _mm256_set1_epi8(-1)), half = _mm256_avg_epu8(no, _mm256_set1_epi8(-1));
    return _mm256_and_si256(_mm256_srli_epi16(_mm256_xor_si256(_mm256_avg_epu8(no, half), _mm256_set1_epi8(-1)), 6), _mm256_set1_epi8(3));
}
#if defined(__GNUC__)
#  define IN_MEMORY(x) __asm__("" : "+m"(x)) /* or GCC takes what is loaded from there piece by piece out of the register, at twice the time */
#else
#  define IN_MEMORY(x)
#endif
INLINE void CALL(code_store)(uint8_t *p, codes x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, x);
    IN_MEMORY(*(uint8_t (*)[32])p);
}
INLINE void CALL(code_zip)(uint16_t *p, codes low, codes high)
{
    __m256i a = _mm256_unpacklo_epi8(low, high), b = _mm256_unpackhi_epi8(low, high);
    CALL(code_store)((uint8_t *)p, _mm256_permute2x128_si256(a, b, 0x20));
    CALL(code_store)((uint8_t *)(p + 16), _mm256_permute2x128_si256(a, b, 0x31));
}
INLINE codes CALL(dword_all)(uint32_t x) { return _mm256_set1_epi32((int32_t)x); }
INLINE codes CALL(dword_join)(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f, uint32_t g, uint32_t h)
{
    return _mm256_setr_epi32((int32_t)a, (int32_t)b, (int32_t)c, (int32_t)d, (int32_t)e, (int32_t)f, (int32_t)g, (int32_t)h);
}
INLINE codes CALL(dword_left)(codes x, int32_t n) { return _mm256_slli_epi32(x, n); }
INLINE codes CALL(dword_right)(codes x, int32_t n) { return _mm256_srli_epi32(x, n); }
INLINE codes CALL(dword_words)(const uint8_t *p) { return _mm256_cvtepu16_epi32(LOAD128(p)); }
INLINE codes CALL(dword_odd)(const uint8_t *p)
{
    __m256 x = _mm256_shuffle_ps(_mm256_castsi256_ps(LOAD256(p)), _mm256_castsi256_ps(LOAD256(p + 32)), 0xdd);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(x), 0xd8);
}
INLINE uint64_t CALL(dword_bytes)(codes x)
{
    __m256i each = _mm256_shuffle_epi8(x, _mm256_set1_epi32(0x0c080400));
    return (uint64_t)_mm_cvtsi128_si64(_mm_unpacklo_epi32(_mm256_castsi256_si128(each), _mm256_extracti128_si256(each, 1)));
}
INLINE codes CALL(code_nibbles_8)(const uint8_t *p)
{
    __m128i v = LOAD128(p), high = _mm_srli_epi16(v, 4);
    return _mm256_and_si256(_mm256_set_m128i(_mm_unpackhi_epi64(v, high), _mm_unpacklo_epi64(v, high)), _mm256_set1_epi8(15));
}
INLINE codes CALL(code_pick)(const int8_t *values, codes x) { return _mm256_shuffle_epi8(TWICE(LOAD128(values)), x); }
INLINE codes CALL(code_bits)(uint32_t bits)
{
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    return _mm256_cmpeq_epi8(_mm256_and_si256(CALL(code_spread)(bits), bit), bit);
}
#if defined(SMOLQ__CPU_AVX512)
typedef __mmask32 flips;
INLINE flips CALL(flip_bits)(uint32_t bits) { return bits; }
INLINE codes CALL(code_flip)(codes x, flips f) { return _mm256_mask_sub_epi8(x, f, _mm256_setzero_si256(), x); }
#else
typedef __m256i flips;
INLINE flips CALL(flip_bits)(uint32_t bits) { return _mm256_or_si256(CALL(code_bits)(bits), _mm256_set1_epi8(1)); }
INLINE codes CALL(code_flip)(codes x, flips f) { return _mm256_sign_epi8(x, f); }
#endif

INLINE int16s CALL(widen_codes)(codes x) { return _mm256_cvtepi8_epi16(_mm256_castsi256_si128(x)); }
INLINE int16s CALL(pairs)(uint64_t bytes)
{
    __m128i w = _mm_cvtepi8_epi16(_mm_cvtsi64_si128((int64_t)bytes));
    return _mm256_set_m128i(_mm_unpackhi_epi16(w, w), _mm_unpacklo_epi16(w, w));
}
/* Sums of the four first halves, then of the second ones. */
INLINE __m256i CALL(halves4)(int32s a, int32s b, int32s c, int32s d) { return _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d)); }
INLINE int16_t CALL(sum_bytes)(const int8_t *p)
{
    __m128i v = _mm_madd_epi16(_mm_maddubs_epi16(_mm_set1_epi8(1), LOAD128(p)), _mm_set1_epi16(1));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    return (int16_t)_mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}
INLINE int16s CALL(mul_codes)(codes x, codes y, int is_signed) /* sixteen sums of two products */
{
    return is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x)) : _mm256_maddubs_epi16(x, y);
}

typedef __m128 four;
typedef __m256 eight;
INLINE four CALL(sum4)(int32s a, int32s b, int32s c, int32s d)
{
    __m256i x = CALL(halves4)(a, b, c, d);
    return _mm_cvtepi32_ps(_mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}
INLINE float CALL(half1)(const uint8_t *p) { return _cvtsh_ss(smolq_u16_at(p)); }

#  if !defined(SMOLQ__CPU_AVX512) /* whose decode kernels are made of dwords */
INLINE int16s CALL(words)(const void *p) { return LOAD256(p); }
INLINE int32s CALL(none)(void) { return _mm256_setzero_si256(); }
INLINE int32s CALL(dot_words)(int32s acc, int16s a, int16s b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); } /* AVX-VNNI's instruction makes chains slower: Q4_K by a third */
INLINE int32s CALL(mul_words)(int16s a, int16s b) { return _mm256_madd_epi16(a, b); }
INLINE int16s CALL(times)(int16s a, int32_t n) { return _mm256_mullo_epi16(a, _mm256_set1_epi16((int16_t)n)); }
INLINE int32s CALL(less)(int32s a, int32s b) { return _mm256_sub_epi32(a, b); }
INLINE int32s CALL(dot_codes)(codes x, codes y, int is_signed) { return _mm256_madd_epi16(CALL(mul_codes)(x, y, is_signed), _mm256_set1_epi16(1)); }
INLINE int32s CALL(dot_halves)(codes x, codes y, int is_signed) { return CALL(dot_codes)(x, y, is_signed); }
INLINE four CALL(all4)(float x) { return _mm_set1_ps(x); }
INLINE four CALL(load4)(const float *p) { return _mm_loadu_ps(p); }
INLINE void CALL(store4)(float *p, four x) { _mm_storeu_ps(p, x); }
INLINE four CALL(mul4)(four x, four y) { return _mm_mul_ps(x, y); }
INLINE four CALL(fma4)(four x, four y, four z) { return _mm_fmadd_ps(x, y, z); }
INLINE eight CALL(all8)(float x) { return _mm256_set1_ps(x); }
INLINE eight CALL(load8)(const float *p) { return _mm256_loadu_ps(p); }
INLINE void  CALL(store8)(float *p, eight x) { _mm256_storeu_ps(p, x); }
INLINE eight CALL(mul8)(eight x, eight y) { return _mm256_mul_ps(x, y); }
INLINE eight CALL(fma8)(eight x, eight y, eight z) { return _mm256_fmadd_ps(x, y, z); }
INLINE eight CALL(sum8)(const int32s *s, int32_t n)
{
    __m256i low = CALL(halves4)(s[0], s[1], s[2], s[3]), high = CALL(halves4)(s[4], s[5], s[6], s[7]);
    low = _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(low, _mm256_set1_epi32(n)));
}
INLINE eight CALL(halves8)(const int32s *s, eight *second)
{
    __m256i low = CALL(halves4)(s[0], s[1], s[2], s[3]), high = CALL(halves4)(s[4], s[5], s[6], s[7]);
    *second = _mm256_cvtepi32_ps(_mm256_permute2x128_si256(low, high, 0x31));
    return _mm256_cvtepi32_ps(_mm256_permute2x128_si256(low, high, 0x20));
}
#  endif
#endif

/* n <= 16 floats, +0 behind them */
INLINE lanes CALL(load_some)(const float *p, int32_t n)
{
    float x[16] = { 0 };
    memcpy(x, p, (size_t)n * sizeof *x);
    return CALL(load)(x);
}

/* Rule 6: the steps of smolq_exp in its order. */
INLINE lanes CALL(exp)(lanes x)
{
    lanes n, r, p, clamped = CALL(min)(CALL(all)(88.0f), x); /* in this order a NaN stays */
    n = CALL(nearest)(CALL(mul)(clamped, CALL(all)(1.44269504f)));
    r = CALL(fma)(n, CALL(all)(-0.693359375f), clamped);
    r = CALL(fma)(n, CALL(all)(2.12194440e-4f), r);
    p = CALL(all)(1.38211693e-3f);
    p = CALL(fma)(p, r, CALL(all)(8.36866535e-3f));
    p = CALL(fma)(p, r, CALL(all)(4.16682586e-2f));
    p = CALL(fma)(p, r, CALL(all)(1.66665211e-1f));
    p = CALL(fma)(p, r, CALL(all)(0.49999994f));
    p = CALL(fma)(p, r, CALL(all)(1.0f));
    p = CALL(fma)(p, r, CALL(all)(1.0f));
    return CALL(where_less)(x, CALL(all)(-87.3f), CALL(zero)(), CALL(pow2)(p, n));
}

INLINE lanes CALL(sigmoid_times)(lanes x, lanes scaled) { return CALL(div)(x, CALL(add)(CALL(all)(1.0f), CALL(exp)(scaled))); } /* x / (1 + e^scaled) */

INLINE void CALL(store_some)(float *p, lanes x, int32_t n)
{
    float y[16];
    CALL(store)(y, x);
    memcpy(p, y, (size_t)n * sizeof *y);
}

INLINE float CALL(fma1)(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE int CALL(is_number)(lanes zeros) { float s = CALL(fold)(zeros); return s == 0; } /* of products with 0: NaN if a factor was NaN or infinite */

/* Another thread may say the same. */
INLINE void CALL(flag)(smolq_run *run)
{
#if defined(__GNUC__)
    __atomic_store_n(&run->numeric, 1, __ATOMIC_RELAXED);
#else
    run->numeric = 1;
#endif
}

/* ---- float products (rule 5), few tokens ---- */

INLINE lanes CALL(weights)(int32_t type, const uint8_t *p)
{
    return type == SMOLQ_TYPE_F16 ? CALL(half)(p) : type == SMOLQ_TYPE_BF16 ? CALL(brain)(p) : CALL(load)((const float *)(const void *)p);
}

/* Four rows times n_x tokens: y[t][r]. */
INLINE void CALL(float_rows)(int32_t type, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float (*y)[8])
{
    int32_t bytes = type == SMOLQ_TYPE_F32 ? 4 : 2, i, r, t;
    for (t = 0; t < n_x; t++) {
        const float *xt = (const float *)(const void *)x[t];
        lanes acc[4] = { CALL(zero)(), CALL(zero)(), CALL(zero)(), CALL(zero)() };
        for (i = 0; i + 16 <= n_cols; i += 16) {
            lanes v = CALL(load)(xt + i);
            UNROLL for (r = 0; r < 4; r++) acc[r] = CALL(fma)(CALL(weights)(type, w[r] + (size_t)i * (size_t)bytes), v, acc[r]);
        }
        if (i < n_cols) {
            lanes v = CALL(load_some)(xt + i, n_cols - i);
            UNROLL for (r = 0; r < 4; r++) {
                uint8_t tail[64] = { 0 };
                memcpy(tail, w[r] + (size_t)i * (size_t)bytes, (size_t)(n_cols - i) * (size_t)bytes);
                acc[r] = CALL(fma)(CALL(weights)(type, tail), v, acc[r]);
            }
        }
        UNROLL for (r = 0; r < 4; r++) y[t][r] = CALL(fold)(acc[r]);
    }
}

/* ---- blocks in registers: what each format contributes ----
 *
 * code[j] holds 32 weights: levels plus `offset` as unsigned bytes, or, where is_signed, the levels themselves, or, where has_flips, their magnitudes, and flip[j] says
 * which are negative.  Unsigned bytes stay below 128, so they may be taken for signed ones, and two products with activations fit in 16 bits.  Blocks of 256 have in
 * scales the scale of each run of 16, in their order (of a run of 32 twice), and in mins its minimum.  Formats state scales as signed bytes, one for each run:
 * runs_32 and least_32 take eight, lowest first, runs_16 and least_16 sixteen. */
typedef struct CALL(block) {
    codes  code[8];
    flips  flip[8];
    int16s scales, mins;
#if defined(SMOLQ__CPU_NEON)
    int16x8_t scale_32; /* from runs_32: each once */
#else
    int16s scale[8];    /* scale[j] has them where the products of code[j] fall, pair by pair */
#endif
} CALL(block);

#if defined(SMOLQ__CPU_NEON)
INLINE void CALL(runs_32)(CALL(block) *b, uint64_t bytes)
{
    b->scale_32 = vmovl_s8(vcreate_s8(bytes));
    b->scales = CALL(pairs)(bytes);
}
INLINE void CALL(runs_16)(CALL(block) *b, codes bytes) { b->scales = CALL(widen_codes)(bytes); }
#else
INLINE void CALL(runs_32)(CALL(block) *b, uint64_t bytes)
{
    __m256i both = TWICE(_mm_cvtepi8_epi16(_mm_cvtsi64_si128((int64_t)bytes)));
    int32_t j;
    UNROLL for (j = 0; j < 8; j++) b->scale[j] = _mm256_shuffle_epi8(both, LOAD256(smolq__cpu_word_twice[j]));
    b->scales = CALL(pairs)(bytes);
}
INLINE void CALL(runs_16)(CALL(block) *b, codes bytes)
{
    __m256i low, high;
    int32_t j;
    b->scales = CALL(widen_codes)(bytes);
    low = TWICE(_mm256_castsi256_si128(b->scales));
    high = TWICE(_mm256_extracti128_si256(b->scales, 1));
    UNROLL for (j = 0; j < 8; j++) b->scale[j] = _mm256_shuffle_epi8(j < 4 ? low : high, LOAD256(smolq__cpu_word_pair[j % 4]));
}
#endif
INLINE void CALL(least_32)(CALL(block) *b, uint64_t bytes) { b->mins = CALL(pairs)(bytes); }
INLINE void CALL(least_16)(CALL(block) *b, codes bytes) { b->mins = CALL(widen_codes)(bytes); }

/* Q4_K and Q5_K: eight 6-bit scales and minimums (see smolq__scales_6_bit). */
INLINE void CALL(scales_6_bit)(CALL(block) *b, const uint8_t *s)
{
    uint32_t a = smolq_u32_at(s), m = smolq_u32_at(s + 4), high = smolq_u32_at(s + 8);
    CALL(runs_32)(b, (a & 0x3f3f3f3fu) | (uint64_t)((high & 0x0f0f0f0fu) | (a >> 6 & 0x03030303u) << 4) << 32);
    CALL(least_32)(b, (m & 0x3f3f3f3fu) | (uint64_t)((high >> 4 & 0x0f0f0f0fu) | (m >> 6 & 0x03030303u) << 4) << 32);
}

INLINE void CALL(block_q4_k)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_q4_k *q = (const smolq_block_q4_k *)p;
    const codes nibble = CALL(code_all)(15);
    int32_t k;
    *d = CALL(half1)(q->d);
    *dmin = -CALL(half1)(q->dmin);
    CALL(scales_6_bit)(b, q->scales);
    UNROLL for (k = 0; k < 4; k++) {
        codes v = CALL(code_load)(q->qs + 32 * k);
        b->code[2 * k] = CALL(code_and)(v, nibble);
        b->code[2 * k + 1] = CALL(code_and)(CALL(code_right)(v, 4), nibble);
    }
}

INLINE void CALL(block_q5_k)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_q5_k *q = (const smolq_block_q5_k *)p;
    const codes nibble = CALL(code_all)(15), fifth = CALL(code_all)(16), high = CALL(code_load)(q->qh);
    int32_t k;
    *d = CALL(half1)(q->d);
    *dmin = -CALL(half1)(q->dmin);
    CALL(scales_6_bit)(b, q->scales);
    UNROLL for (k = 0; k < 4; k++) {
        codes v = CALL(code_load)(q->qs + 32 * k);
        codes h0 = k < 2 ? CALL(code_left)(high, 4 - 2 * k) : CALL(code_right)(high, 2 * k - 4);         /* bit 2k to bit 4 */
        codes h1 = 2 * k + 1 < 4 ? CALL(code_left)(high, 3 - 2 * k) : CALL(code_right)(high, 2 * k - 3); /* bit 2k + 1 */
        b->code[2 * k] = CALL(code_or)(CALL(code_and)(v, nibble), CALL(code_and)(h0, fifth));
        b->code[2 * k + 1] = CALL(code_or)(CALL(code_and)(CALL(code_right)(v, 4), nibble), CALL(code_and)(h1, fifth));
    }
}

INLINE void CALL(block_q6_k)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_q6_k *q = (const smolq_block_q6_k *)p;
    const codes nibble = CALL(code_all)(15), top = CALL(code_all)(48);
    int32_t h;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    CALL(runs_16)(b, CALL(code_twice)(q->scales));
    CALL(least_16)(b, CALL(code_all)(0));
    UNROLL for (h = 0; h < 2; h++) {
        codes l0 = CALL(code_load)(q->ql + 64 * h), l1 = CALL(code_load)(q->ql + 64 * h + 32), high = CALL(code_load)(q->qh + 32 * h);
        b->code[4 * h] = CALL(code_or)(CALL(code_and)(l0, nibble), CALL(code_and)(CALL(code_left)(high, 4), top));
        b->code[4 * h + 1] = CALL(code_or)(CALL(code_and)(l1, nibble), CALL(code_and)(CALL(code_left)(high, 2), top));
        b->code[4 * h + 2] = CALL(code_or)(CALL(code_and)(CALL(code_right)(l0, 4), nibble), CALL(code_and)(high, top));
        b->code[4 * h + 3] = CALL(code_or)(CALL(code_and)(CALL(code_right)(l1, 4), nibble), CALL(code_and)(CALL(code_right)(high, 2), top));
    }
}

INLINE void CALL(block_q2_k)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_q2_k *q = (const smolq_block_q2_k *)p;
    const codes nibble = CALL(code_all)(15), pair = CALL(code_all)(3), scales = CALL(code_twice)(q->scales);
    int32_t j;
    *d = CALL(half1)(q->d);
    *dmin = -CALL(half1)(q->dmin);
    CALL(runs_16)(b, CALL(code_and)(scales, nibble));
    CALL(least_16)(b, CALL(code_and)(CALL(code_right)(scales, 4), nibble));
    UNROLL for (j = 0; j < 8; j++) b->code[j] = CALL(code_and)(CALL(code_right)(CALL(code_load)(q->qs + j / 4 * 32), j % 4 * 2), pair);
}

INLINE codes CALL(scales_q3_k)(const uint8_t *p) /* sixteen */
{
    uint64_t low = smolq_u64_at(p), top = smolq_u32_at(p + 8);
    top |= top << 30; /* two bits of each byte are the high ones of scales 0-3; those of 4-7 are two bits above, and move to the upper dword; 8-15 follow four bits above */
    return CALL(code_sub)(CALL(code_join)((low & 0x0f0f0f0f0f0f0f0fu) | (top & 0x0303030303030303u) << 4, (low >> 4 & 0x0f0f0f0f0f0f0f0fu) | (top >> 4 & 0x0303030303030303u) << 4, 0, 0),
                          CALL(code_all)(32));
}

/* A bit of hmask more makes levels of 0 .. 7, for -4 .. 3. */
INLINE void CALL(block_q3_k)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_q3_k *q = (const smolq_block_q3_k *)p;
    const codes pair = CALL(code_all)(3), third = CALL(code_all)(4), high = CALL(code_load)(q->hmask);
    int32_t j;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    CALL(runs_16)(b, CALL(scales_q3_k)(q->scales));
    UNROLL for (j = 0; j < 8; j++) {
        codes bit = CALL(code_and)(j < 2 ? CALL(code_left)(high, 2 - j) : CALL(code_right)(high, j - 2), third);
        b->code[j] = CALL(code_or)(CALL(code_and)(CALL(code_right)(CALL(code_load)(q->qs + j / 4 * 32), j % 4 * 2), pair), bit);
    }
}

INLINE void CALL(block_tq2_0)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_tq2_0 *q = (const smolq_block_tq2_0 *)p;
    int32_t j;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    CALL(runs_32)(b, 0x0101010101010101u);
    UNROLL for (j = 0; j < 8; j++) b->code[j] = CALL(code_and)(CALL(code_right)(CALL(code_load)(q->qs + j / 4 * 32), j % 4 * 2), CALL(code_all)(3));
}

/* Bytes are fractions in base three (see smolq__trits): thirty-two give five digits each; sixteen five; four give four. */
INLINE void CALL(block_tq1_0)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_tq1_0 *q = (const smolq_block_tq1_0 *)p;
    const uint64_t upper = 0xffffffff00000000u;
    const codes odd = CALL(code_join)(upper, upper, upper, upper), second = CALL(code_join)(0, ~(uint64_t)0, 0, ~(uint64_t)0);
    codes x = CALL(code_load)(q->qs), last = CALL(dword_all)(smolq_u32_at(q->qh));
    int32_t j;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    CALL(runs_32)(b, 0x0101010101010101u);
    UNROLL for (j = 0; j < 5; j++, x = CALL(code_thrice)(x)) b->code[j] = CALL(code_carried)(x);
    x = CALL(code_twice)(q->qs + 32);
    x = CALL(code_halves)(x, CALL(code_thrice)(x)); /* digits 0 and 1 */
    UNROLL for (; j < 7; j++, x = CALL(code_thrice)(CALL(code_thrice)(x))) b->code[j] = CALL(code_carried)(x);
    last = CALL(code_xor)(last, CALL(code_and)(CALL(code_xor)(last, CALL(code_thrice)(last)), odd));
    last = CALL(code_xor)(last, CALL(code_and)(CALL(code_xor)(last, CALL(code_thrice)(CALL(code_thrice)(last))), second));
    b->code[7] = CALL(code_carried)(CALL(code_halves)(x, last));
}

/* Nibbles of a dword as bytes, the lowest first. */
INLINE uint64_t CALL(nibbles_of)(uint32_t x)
{
    uint64_t y = (x | (uint64_t)x << 16) & 0x0000ffff0000ffffu;
    y = (y | y << 8) & 0x00ff00ff00ff00ffu;
    return (y | y << 4) & 0x0f0f0f0f0f0f0f0fu;
}

INLINE void CALL(block_iq4_xs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq4_xs *q = (const smolq_block_iq4_xs *)p;
    uint64_t top = smolq_u16_at(q->scales_h);
    int32_t j;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    top = (top | top << 24) & 0x000000ff000000ffu; /* pairs to bytes */
    top = (top | top << 12) & 0x000f000f000f000fu;
    top = (top | top << 6) & 0x0303030303030303u;
    top = (CALL(nibbles_of)(smolq_u32_at(q->scales_l)) | top << 4 | 0x8080808080808080u) - 0x2020202020202020u; /* less 32, no byte borrows from the next */
    CALL(runs_32)(b, top ^ 0x8080808080808080u);
    UNROLL for (j = 0; j < 8; j++) b->code[j] = CALL(code_pick)(smolq_iq4_values, CALL(code_nibbles)(q->qs + 16 * j));
}

/* Seven signs in each byte; the eighth makes the number of minuses even. */
INLINE codes CALL(even_signs)(codes x)
{
    static const int8_t odd[16] = { 0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0 };
    codes low = CALL(code_pick)(odd, CALL(code_and)(x, CALL(code_all)(15))), high = CALL(code_pick)(odd, CALL(code_and)(CALL(code_right)(x, 4), CALL(code_all)(15)));
    return CALL(code_xor)(x, CALL(code_xor)(low, high));
}

/* IQ2_XXS and IQ3_XXS: a dword for 32 weights, four times seven signs and a scale of four bits.  The signs go to `signs`, which flips are then taken from. */
INLINE void CALL(signs_and_scales)(CALL(block) *b, codes x, uint8_t *signs)
{
    codes s = CALL(code_or)(CALL(code_and)(x, CALL(dword_all)(0x3fff)), CALL(code_and)(CALL(dword_left)(x, 2), CALL(dword_all)(0x3fff0000)));
    s = CALL(code_or)(CALL(code_and)(s, CALL(dword_all)(0x007f007f)), CALL(code_and)(CALL(dword_left)(s, 1), CALL(dword_all)(0x7f007f00)));
    CALL(code_store)(signs, CALL(even_signs)(s));
    CALL(runs_32)(b, CALL(dword_bytes)(CALL(code_or)(CALL(code_and)(CALL(dword_right)(x, 27), CALL(dword_all)(30)), CALL(dword_all)(1))));
}
INLINE void CALL(flip_by)(CALL(block) *b, const uint8_t *signs)
{
    int32_t j;
    UNROLL for (j = 0; j < 8; j++) b->flip[j] = CALL(flip_bits)(smolq_u32_at(signs + 4 * j));
}

/* Sixteen scales of four bits that mean 2s + 1. */
INLINE void CALL(odd_scales)(CALL(block) *b, const uint8_t *p)
{
    codes s = CALL(code_turns)(CALL(code_join)(smolq_u64_at(p), 0, 0, 0));
    CALL(runs_16)(b, CALL(code_or)(CALL(code_add)(s, s), CALL(code_all)(1)));
}

/* Entries of codebooks.  Indices in words go as integers of four: loads are what there is too little of. */
INLINE codes CALL(four_entries)(const uint64_t *grid, const uint16_t *index)
{
    uint64_t i;
    memcpy(&i, index, sizeof i);
    return CALL(code_join)(grid[i & 0xffff], grid[i >> 16 & 0xffff], grid[i >> 32 & 0xffff], grid[i >> 48]);
}

#if !defined(SMOLQ__CPU_AVX512)
INLINE codes CALL(eight_entries)(const uint32_t *grid, const uint16_t *index)
{
    uint64_t i, k;
    memcpy(&i, index, sizeof i);
    memcpy(&k, index + 4, sizeof k);
    return CALL(dword_join)(grid[i & 0xffff], grid[i >> 16 & 0xffff], grid[i >> 32 & 0xffff], grid[i >> 48],
                            grid[k & 0xffff], grid[k >> 16 & 0xffff], grid[k >> 32 & 0xffff], grid[k >> 48]);
}

INLINE void CALL(block_iq2_xxs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq2_xxs *q = (const smolq_block_iq2_xxs *)p;
    const uint64_t *grid = smolq__cpu_tables.iq2_xxs;
    const uint8_t *at = q->qs;
    uint8_t signs[32];
    int32_t j;
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(signs_and_scales)(b, CALL(dword_odd)(q->qs), signs);
    UNROLL for (j = 0; j < 8; j++, at += 8) b->code[j] = CALL(code_join)(grid[at[0]], grid[at[1]], grid[at[2]], grid[at[3]]);
    CALL(flip_by)(b, signs);
}

INLINE void CALL(block_iq2_xs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq2_xs *q = (const smolq_block_iq2_xs *)p;
    const uint64_t *grid = smolq__cpu_tables.iq2_xs;
    const uint8_t *at = q->qs;
    uint8_t signs[32];
    int32_t j;
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(odd_scales)(b, q->scales);
    CALL(code_store)(signs, CALL(even_signs)(CALL(code_tops)(q->qs, 9)));
    UNROLL for (j = 0; j < 8; j++, at += 8)
        b->code[j] = CALL(code_join)(grid[smolq_u16_at(at) & 511], grid[smolq_u16_at(at + 2) & 511], grid[smolq_u16_at(at + 4) & 511], grid[smolq_u16_at(at + 6) & 511]);
    CALL(flip_by)(b, signs);
}

INLINE void CALL(block_iq2_s)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq2_s *q = (const smolq_block_iq2_s *)p;
    const uint64_t *grid = smolq__cpu_tables.iq2_s;
    uint16_t index[32];
    int32_t j;
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(odd_scales)(b, q->scales);
    CALL(code_zip)(index, CALL(code_load)(q->qs), CALL(code_pairs)(smolq_u64_at(q->qh)));
    UNROLL for (j = 0; j < 8; j++) b->code[j] = CALL(four_entries)(grid, index + 4 * j);
    CALL(flip_by)(b, q->signs);
}

INLINE void CALL(block_iq3_xxs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq3_xxs *q = (const smolq_block_iq3_xxs *)p;
    const uint32_t *grid = smolq__cpu_tables.iq3_xxs;
    const uint8_t *at = q->qs;
    uint8_t signs[32];
    int32_t j;
    *d = CALL(half1)(q->d) * 0.25f;
    *dmin = 0;
    CALL(signs_and_scales)(b, CALL(code_load)(q->signs), signs);
    UNROLL for (j = 0; j < 8; j++, at += 8)
        b->code[j] = CALL(dword_join)(grid[at[0]], grid[at[1]], grid[at[2]], grid[at[3]], grid[at[4]], grid[at[5]], grid[at[6]], grid[at[7]]);
    CALL(flip_by)(b, signs);
}

INLINE void CALL(block_iq3_s)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq3_s *q = (const smolq_block_iq3_s *)p;
    const uint32_t *grid = smolq__cpu_tables.iq3_s;
    const codes one = CALL(code_all)(1);
    uint16_t index[64];
    int32_t j;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    CALL(runs_32)(b, CALL(nibbles_of)(smolq_u32_at(q->scales)) * 2 + 0x0101010101010101u);
    CALL(code_zip)(index, CALL(code_load)(q->qs), CALL(code_and)(CALL(code_bits)(smolq_u32_at(q->qh)), one));
    CALL(code_zip)(index + 32, CALL(code_load)(q->qs + 32), CALL(code_and)(CALL(code_bits)(smolq_u32_at(q->qh + 4)), one));
    UNROLL for (j = 0; j < 8; j++) b->code[j] = CALL(eight_entries)(grid, index + 8 * j);
    CALL(flip_by)(b, q->signs);
}
#else
/* AVX-512 has codebooks of up to 1024 entries in registers, as smolq.h has them: all 32 entries of a block of IQ2 with 4 to 16 permutations of 64 words, of
 * which the higher bits of the indices choose.  On a Zen 5, 32 of 1024 entries take a third of the time that loads by way of integer registers take, and 0.4 of
 * that of gathers. */
INLINE __m512i CALL(grid_words)(const uint16_t *grid, int32_t n, __m512i index)
{
    __m512i x[4], y = index;
    __mmask32 odd[4];
    int32_t i, bit;
    UNROLL for (bit = 0; bit < 4; bit++) odd[bit] = _mm512_test_epi16_mask(index, _mm512_set1_epi16((int16_t)(64 << bit)));
    UNROLL for (i = 0; i < n / 64; i++) { /* x[k] waits for its neighbor of 64 << k words: never more than four wait */
        y = _mm512_permutex2var_epi16(_mm512_loadu_si512(grid + 64 * i), index, _mm512_loadu_si512(grid + 64 * i + 32));
        UNROLL for (bit = 0; bit < 4; bit++) {
            if ((i + 1) % (2 << bit) == 0) y = _mm512_mask_blend_epi16(odd[bit], x[bit], y);
            else if ((i + 1) % (1 << bit) == 0) x[bit] = y;
        }
    }
    return y;
}

/* Eight pairs of bits in each word: 8, 25, 43. */
INLINE void CALL(levels_iq2)(CALL(block) *b, __m512i words)
{
    const __m512i spread = _mm512_broadcast_i64x4(_mm256_setr_epi64x(0x0101010100000000, 0x0303030302020202, 0x0505050504040404, 0x0707070706060606));
    const __m512i values = _mm512_broadcast_i32x4(_mm_setr_epi8(8, 25, 43, 0, 25, 0, 0, 0, 43, 0, 0, 0, 0, 0, 0, 0)); /* by the pair, or four times that */
    int32_t h;
    UNROLL for (h = 0; h < 4; h++) {
        __m512i x = _mm512_permutexvar_epi64(_mm512_set_epi64(2 * h + 1, 2 * h + 1, 2 * h + 1, 2 * h + 1, 2 * h, 2 * h, 2 * h, 2 * h), words);
        x = _mm512_shuffle_epi8(x, spread);
        x = _mm512_and_si512(_mm512_mask_srli_epi16(x, 0xaaaaaaaa, x, 4), _mm512_set1_epi16(0x0c03));
        x = _mm512_shuffle_epi8(values, x);
        b->code[2 * h] = _mm512_castsi512_si256(x);
        b->code[2 * h + 1] = _mm512_extracti64x4_epi64(x, 1);
    }
}

/* Four nibbles in each word of two registers, as `values` says. */
INLINE void CALL(levels_iq3)(CALL(block) *b, const __m512i *words, __m128i values)
{
    int32_t h;
    UNROLL for (h = 0; h < 4; h++) {
        __m512i x = _mm512_cvtepu16_epi32(h % 2 ? _mm512_extracti64x4_epi64(words[h / 2], 1) : _mm512_castsi512_si256(words[h / 2]));
        x = BLEND(_mm512_set1_epi32(0xffff), x, _mm512_slli_epi32(x, 8));
        x = BLEND(_mm512_set1_epi16(0xff), x, _mm512_slli_epi32(x, 4));
        x = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), _mm512_and_si512(x, _mm512_set1_epi8(15)));
        b->code[2 * h] = _mm512_castsi512_si256(x);
        b->code[2 * h + 1] = _mm512_extracti64x4_epi64(x, 1);
    }
}

INLINE void CALL(block_iq2_xxs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq2_xxs *q = (const smolq_block_iq2_xxs *)p;
    const __m512i all = _mm512_loadu_si512(q->qs);
    uint8_t signs[32];
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(signs_and_scales)(b, _mm512_cvtepi64_epi32(_mm512_srli_epi64(all, 32)), signs);
    CALL(levels_iq2)(b, CALL(grid_words)(smolq_grid_iq2_xxs, 256, _mm512_cvtepu8_epi16(_mm512_cvtepi64_epi32(all))));
    CALL(flip_by)(b, signs);
}

INLINE void CALL(block_iq2_xs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq2_xs *q = (const smolq_block_iq2_xs *)p;
    uint8_t signs[32];
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(odd_scales)(b, q->scales);
    CALL(code_store)(signs, CALL(even_signs)(CALL(code_tops)(q->qs, 9)));
    CALL(levels_iq2)(b, CALL(grid_words)(smolq_grid_iq2_xs, 512, _mm512_loadu_si512(q->qs)));
    CALL(flip_by)(b, signs);
}

INLINE void CALL(block_iq2_s)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq2_s *q = (const smolq_block_iq2_s *)p;
    __m512i high = _mm512_slli_epi16(_mm512_cvtepu8_epi16(CALL(code_pairs)(smolq_u64_at(q->qh))), 8);
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(odd_scales)(b, q->scales);
    CALL(levels_iq2)(b, CALL(grid_words)(smolq_grid_iq2_s, 1024, _mm512_or_si512(high, _mm512_cvtepu8_epi16(CALL(code_load)(q->qs)))));
    CALL(flip_by)(b, q->signs);
}

INLINE void CALL(block_iq3_xxs)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq3_xxs *q = (const smolq_block_iq3_xxs *)p;
    uint8_t signs[32];
    __m512i words[2];
    int32_t h;
    *d = CALL(half1)(q->d) * 0.25f;
    *dmin = 0;
    CALL(signs_and_scales)(b, CALL(code_load)(q->signs), signs);
    UNROLL for (h = 0; h < 2; h++) words[h] = CALL(grid_words)(smolq__cpu_tables.iq3_xxs_nibbles, 256, _mm512_cvtepu8_epi16(CALL(code_load)(q->qs + 32 * h)));
    CALL(levels_iq3)(b, words, _mm_setr_epi8(0, 4, 0, 12, 0, 20, 0, 28, 0, 36, 0, 44, 0, 52, 0, 62));
    CALL(flip_by)(b, signs);
}

INLINE void CALL(block_iq3_s)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq3_s *q = (const smolq_block_iq3_s *)p;
    __m512i words[2];
    int32_t h;
    *d = CALL(half1)(q->d);
    *dmin = 0;
    CALL(runs_32)(b, CALL(nibbles_of)(smolq_u32_at(q->scales)) * 2 + 0x0101010101010101u);
    UNROLL for (h = 0; h < 2; h++) {
        __m512i index = _mm512_cvtepu8_epi16(CALL(code_load)(q->qs + 32 * h));
        words[h] = CALL(grid_words)(smolq__cpu_tables.iq3_s_nibbles, 512, _mm512_mask_add_epi16(index, smolq_u32_at(q->qh + 4 * h), index, _mm512_set1_epi16(256)));
    }
    CALL(levels_iq3)(b, words, _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    CALL(flip_by)(b, q->signs);
}
#endif

/* IQ1: 8 * code + shift + 1, where code is 0 .. 2 and the shift is 1, or -1 if its bit is set; so it is 9 more than the level. */
INLINE void CALL(block_iq1_s)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq1_s *q = (const smolq_block_iq1_s *)p;
    const uint64_t *grid = smolq__cpu_tables.iq1;
    codes words = CALL(dword_words)(q->qh), high, shift;
    uint16_t index[32];
    uint8_t shifts[32];
    int32_t j;
    *d = CALL(half1)(q->d) * 0.125f;
    *dmin = 0;
    CALL(runs_32)(b, CALL(dword_bytes)(CALL(code_or)(CALL(code_and)(CALL(dword_right)(words, 11), CALL(dword_all)(14)), CALL(dword_all)(1))));
    high = CALL(code_or)(CALL(code_and)(words, CALL(dword_all)(0x3f)), CALL(code_and)(CALL(dword_left)(words, 10), CALL(dword_all)(0x3f0000)));
    high = CALL(code_or)(CALL(code_and)(high, CALL(dword_all)(0x70007)), CALL(code_and)(CALL(dword_left)(high, 5), CALL(dword_all)(0x07000700)));
    CALL(code_zip)(index, CALL(code_load)(q->qs), high);
    shift = CALL(code_xor)(CALL(code_and)(CALL(dword_right)(words, 14), CALL(dword_all)(2)), CALL(dword_all)(2));
    shift = CALL(code_or)(shift, CALL(dword_left)(shift, 8));
    CALL(code_store)(shifts, CALL(code_or)(shift, CALL(dword_left)(shift, 16)));
    UNROLL for (j = 0; j < 8; j++)
        b->code[j] = CALL(code_add)(CALL(four_entries)(grid, index + 4 * j), CALL(dword_all)(smolq_u32_at(shifts + 4 * j)));
}

INLINE void CALL(block_iq1_m)(CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    const smolq_block_iq1_m *q = (const smolq_block_iq1_m *)p;
    const uint64_t *grid = smolq__cpu_tables.iq1;
    const codes high = CALL(code_turns)(CALL(code_twice)(q->qh)); /* of eight weights: three bits of an index and the shift's */
    uint64_t words = smolq_u64_at(q->scales), lo, hi;
    const uint8_t half[2] = { (uint8_t)((words >> 12 & 0x0f) | (words >> 24 & 0xf0)), (uint8_t)((words >> 44 & 0x0f) | (words >> 56 & 0xf0)) };
    uint16_t index[32];
    uint8_t shifts[32];
    int32_t j;
    *d = CALL(half1)(half) * 0.125f;
    *dmin = 0;
    lo = words & 0x0fff0fff; /* twelve bits in each of two dwords, four scales each; then in each word two, then in each byte one */
    hi = words >> 32 & 0x0fff0fff;
    lo = (lo | lo << 16) & 0x00000fff00000fffu;
    hi = (hi | hi << 16) & 0x00000fff00000fffu;
    lo = (lo | lo << 10) & 0x003f003f003f003fu;
    hi = (hi | hi << 10) & 0x003f003f003f003fu;
    lo = (lo | lo << 5) & 0x0707070707070707u;
    hi = (hi | hi << 5) & 0x0707070707070707u;
    CALL(runs_16)(b, CALL(code_join)(lo * 2 + 0x0101010101010101u, hi * 2 + 0x0101010101010101u, 0, 0));
    CALL(code_zip)(index, CALL(code_load)(q->qs), CALL(code_and)(high, CALL(code_all)(7)));
    CALL(code_store)(shifts, CALL(code_xor)(CALL(code_and)(CALL(code_right)(high, 2), CALL(code_all)(2)), CALL(code_all)(2)));
    UNROLL for (j = 0; j < 8; j++)
        b->code[j] = CALL(code_add)(CALL(four_entries)(grid, index + 4 * j), CALL(code_spread)(smolq_u32_at(shifts + 4 * j)));
}

INLINE void CALL(block_256)(int32_t id, CALL(block) *b, const uint8_t *p, float *d, float *dmin)
{
    switch (id) {
    case SMOLQ_TYPE_Q4_K:    CALL(block_q4_k)(b, p, d, dmin); break;
    case SMOLQ_TYPE_Q5_K:    CALL(block_q5_k)(b, p, d, dmin); break;
    case SMOLQ_TYPE_Q6_K:    CALL(block_q6_k)(b, p, d, dmin); break;
    case SMOLQ_TYPE_Q2_K:    CALL(block_q2_k)(b, p, d, dmin); break;
    case SMOLQ_TYPE_Q3_K:    CALL(block_q3_k)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ2_XXS: CALL(block_iq2_xxs)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ2_XS:  CALL(block_iq2_xs)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ2_S:   CALL(block_iq2_s)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ3_XXS: CALL(block_iq3_xxs)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ3_S:   CALL(block_iq3_s)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ1_S:   CALL(block_iq1_s)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ1_M:   CALL(block_iq1_m)(b, p, d, dmin); break;
    case SMOLQ_TYPE_IQ4_XS:  CALL(block_iq4_xs)(b, p, d, dmin); break;
    case SMOLQ_TYPE_TQ1_0:   CALL(block_tq1_0)(b, p, d, dmin); break;
    default:                 CALL(block_tq2_0)(b, p, d, dmin); break;
    }
}
/* The same by way of memory, one copy for all types. */
static void CALL(block_any)(CALL(block) *b, int32_t id, const uint8_t *p, float *d, float *dmin) { CALL(block_256)(id, b, p, d, dmin); }

INLINE int32_t CALL(offset_256)(int32_t type)
{
    switch (type) {
    case SMOLQ_TYPE_Q6_K:                            return 32;
    case SMOLQ_TYPE_Q3_K:                            return 4;
    case SMOLQ_TYPE_IQ1_S: case SMOLQ_TYPE_IQ1_M:    return 9;
    case SMOLQ_TYPE_TQ1_0: case SMOLQ_TYPE_TQ2_0:    return 1;
    default:                                         return 0;
    }
}
INLINE int CALL(is_short)(int32_t type) /* to unpack: worth a copy for each row */
{
    return type == SMOLQ_TYPE_Q4_K || type == SMOLQ_TYPE_Q5_K || type == SMOLQ_TYPE_Q6_K || type == SMOLQ_TYPE_Q2_K || type == SMOLQ_TYPE_Q3_K;
}
INLINE int CALL(signed_256)(int32_t type) { return type == SMOLQ_TYPE_IQ4_XS; }
INLINE int CALL(flips_256)(int32_t type)
{
    return type == SMOLQ_TYPE_IQ2_XXS || type == SMOLQ_TYPE_IQ2_XS || type == SMOLQ_TYPE_IQ2_S || type == SMOLQ_TYPE_IQ3_XXS || type == SMOLQ_TYPE_IQ3_S;
}
INLINE int32_t CALL(runs_256)(int32_t type)
{
    switch (type) {
    case SMOLQ_TYPE_Q6_K: case SMOLQ_TYPE_Q2_K: case SMOLQ_TYPE_Q3_K: case SMOLQ_TYPE_IQ2_XS: case SMOLQ_TYPE_IQ2_S: case SMOLQ_TYPE_IQ1_M: return 16;
    default: return 8;
    }
}
INLINE int CALL(mins_256)(int32_t type) { return type == SMOLQ_TYPE_Q4_K || type == SMOLQ_TYPE_Q5_K || type == SMOLQ_TYPE_Q2_K; }

/* ---- quantized products, few tokens: four rows with blocks of 256 ---- */

/* A block times 256 activations: codes times q times the scale of their run.  n_runs: 16 is right for all, as a run of 32 is two; 8 spares a few steps.  NEON folds
 * the sums of four runs into one register before they meet their scales. */
#if defined(SMOLQ__CPU_NEON)
INLINE int32s CALL(dot_block)(int32_t id, int32_t n_runs, const CALL(block) *b, const int8_t *q)
{
    int32s sum = CALL(none)();
    int32_t half, j;
    UNROLL for (half = 0; half < 2; half++) {
        int32x4_t s[8];
        UNROLL for (j = 0; j < 4; j++) {
            codes c = b->code[4 * half + j], v = CALL(code_load)((const uint8_t *)q + 128 * half + 32 * j);
            if (CALL(flips_256)(id)) c = CALL(code_flip)(c, b->flip[4 * half + j]);
            s[2 * j] = CALL(dot_16)(CALL(none)(), c.a, v.a);
            s[2 * j + 1] = CALL(dot_16)(n_runs == 8 ? s[2 * j] : CALL(none)(), c.b, v.b);
        }
        if (n_runs == 8) {
            sum = vmlaq_s32(sum, CALL(sums4)(s[1], s[3], s[5], s[7]), vmovl_s16(half ? vget_high_s16(b->scale_32) : vget_low_s16(b->scale_32)));
        } else {
            int16x8_t scales = half ? b->scales.b : b->scales.a;
            sum = vmlaq_s32(sum, CALL(sums4)(s[0], s[1], s[2], s[3]), vmovl_s16(vget_low_s16(scales)));
            sum = vmlaq_s32(sum, CALL(sums4)(s[4], s[5], s[6], s[7]), vmovl_high_s16(scales));
        }
    }
    return sum;
}
#elif !defined(SMOLQ__CPU_AVX512)
INLINE int32s CALL(dot_block)(int32_t id, int32_t n_runs, const CALL(block) *b, const int8_t *q)
{
    int32s sum = CALL(none)();
    int32_t j;
    (void)n_runs;
    UNROLL for (j = 0; j < 8; j++) {
        codes v = CALL(flips_256)(id) ? CALL(code_flip)(LOAD256(q + 32 * j), b->flip[j]) : LOAD256(q + 32 * j);
        sum = CALL(dot_words)(sum, CALL(mul_codes)(b->code[j], v, CALL(signed_256)(id)), b->scale[j]);
    }
    return sum;
}
#endif

/* Asks for the block of a row that comes 2 KB on.  Into the second-level cache: the first-level one has not as many requests on their way as memory answers at once. */
INLINE void CALL(fetch_block)(const uint8_t *p, size_t bytes)
{
    size_t at;
    UNROLL for (at = 0; at < bytes; at += 64) __builtin_prefetch(p + 2048 + at, 0, 2);
}

#if !defined(SMOLQ__CPU_AVX512) /* which has wide_256, and wide_32 below */
/* What a block of row r adds for each token, and its scales. */
INLINE void CALL(row_256)(int32_t id, const smolq__type *type, const uint8_t *p, const uint8_t *const *x, size_t at, size_t at_sums, int32_t n_x, int32_t r,
                          int32s (*isum)[4], int32s (*msum)[4], float *d, float *dmin)
{
    int32_t offset = CALL(offset_256)(id == SMOLQ_TYPE_TQ2_0 ? type->id : id), is_own = n_x == 1 || CALL(is_short)(id), t;
    CALL(block) block;
    CALL(fetch_block)(p, 256);
    if (is_own) CALL(block_256)(id, &block, p, d + r, dmin + r);
    else CALL(block_any)(&block, type->id, p, d + r, dmin + r);
    for (t = 0; t < n_x; t++) {
        int16s sums = CALL(words)(x[t] + at_sums + at / 8);
        isum[t][r] = CALL(dot_block)(id, is_own ? CALL(runs_256)(id) : 16, &block, (const int8_t *)x[t] + at);
        if (CALL(offset_256)(id)) isum[t][r] = CALL(less)(isum[t][r], CALL(mul_words)(CALL(times)(block.scales, offset), sums));
        if (CALL(mins_256)(id)) msum[t][r] = CALL(mul_words)(block.mins, sums);
    }
}

/* Four rows times n_x tokens: y[t][r].  `id` is type->id as a constant, or for several tokens that of a type with the same way of signs: IQ2_XXS for flips, TQ2_0
 * for an offset. */
INLINE void CALL(rows_256)(int32_t id, const smolq__type *type, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float (*y)[8])
{
    int32_t n_blocks = n_cols / 256, b, r, t;
    size_t at_d = (size_t)smolq_a8_d(n_cols), at_sums = (size_t)smolq_a8_sums(n_cols, 256), bytes = (size_t)type->facts.block_bytes;
    four acc[SMOLQ__CPU_FEW];
    for (t = 0; t < n_x; t++) acc[t] = CALL(all4)(0);
    for (b = 0; b < n_blocks; b++) {
        int32s isum[SMOLQ__CPU_FEW][4], msum[SMOLQ__CPU_FEW][4];
        float d[4], dmin[4];
        if (CALL(is_short)(id)) { UNROLL_ROWS for (r = 0; r < 4; r++) CALL(row_256)(id, type, w[r] + (size_t)b * bytes, x, (size_t)b * 256, at_sums, n_x, r, isum, msum, d, dmin); }
        else for (r = 0; r < 4; r++) CALL(row_256)(id, type, w[r] + (size_t)b * bytes, x, (size_t)b * 256, at_sums, n_x, r, isum, msum, d, dmin);
        for (t = 0; t < n_x; t++) {
            four dx = CALL(all4)(((const float *)(const void *)(x[t] + at_d))[b]);
            acc[t] = CALL(fma4)(CALL(mul4)(CALL(load4)(d), dx), CALL(sum4)(isum[t][0], isum[t][1], isum[t][2], isum[t][3]), acc[t]);
            if (CALL(mins_256)(id)) acc[t] = CALL(fma4)(CALL(mul4)(CALL(load4)(dmin), dx), CALL(sum4)(msum[t][0], msum[t][1], msum[t][2], msum[t][3]), acc[t]);
        }
    }
    for (t = 0; t < n_x; t++) CALL(store4)(y[t], acc[t]);
}
#endif

/* ---- blocks of 32 ---- */

INLINE codes CALL(fifth)(codes nibbles, const uint8_t *qh) { return CALL(code_or)(nibbles, CALL(code_and)(CALL(code_bits)(smolq_u32_at(qh)), CALL(code_all)(16))); }

/* 32 levels (plus offset_32), their scale and minimum; of NVFP4, where each half has a scale, the second one.  `part` counts them in blocks of more. */
INLINE codes CALL(block_32)(int32_t id, const uint8_t *p, int32_t part, float *d, float *m)
{
    const float *e4m3 = smolq__cpu_tables.ue4m3_half;
    *m = 0;
    switch (id) {
    case SMOLQ_TYPE_Q4_0:   *d = CALL(half1)(p); return CALL(code_nibbles)(p + 2);
    case SMOLQ_TYPE_Q4_1:   *d = CALL(half1)(p); *m = CALL(half1)(p + 2); return CALL(code_nibbles)(p + 4);
    case SMOLQ_TYPE_Q5_0:   *d = CALL(half1)(p); return CALL(fifth)(CALL(code_nibbles)(p + 6), p + 2);
    case SMOLQ_TYPE_Q5_1:   *d = CALL(half1)(p); *m = CALL(half1)(p + 2); return CALL(fifth)(CALL(code_nibbles)(p + 8), p + 4);
    case SMOLQ_TYPE_Q8_0:   *d = CALL(half1)(p); return CALL(code_load)(p + 2);
    case SMOLQ_TYPE_IQ4_NL: *d = CALL(half1)(p); return CALL(code_pick)(smolq_iq4_values, CALL(code_nibbles)(p + 2));
    case SMOLQ_TYPE_Q1_0:   *d = CALL(half1)(p); return CALL(code_and)(CALL(code_bits)(smolq_u32_at(p + 2 + 4 * part)), CALL(code_all)(2));
    case SMOLQ_TYPE_Q2_0:   *d = CALL(half1)(p); return CALL(code_pairs)(smolq_u64_at(p + 2 + 8 * part));
    case SMOLQ_TYPE_NVFP4:  *d = e4m3[p[2 * part]]; *m = e4m3[p[2 * part + 1]]; return CALL(code_pick)(smolq_fp4_values, CALL(code_nibbles_8)(p + 4 + 16 * part));
    default:                *d = smolq_e8m0_half(p[0]); return CALL(code_pick)(smolq_fp4_values, CALL(code_nibbles)(p + 1)); /* MXFP4 */
    }
}
INLINE int32_t CALL(offset_32)(int32_t id) { return id == SMOLQ_TYPE_Q4_0 ? 8 : id == SMOLQ_TYPE_Q5_0 ? 16 : id == SMOLQ_TYPE_Q1_0 || id == SMOLQ_TYPE_Q2_0 ? 1 : 0; }
INLINE int CALL(signed_32)(int32_t id) { return id == SMOLQ_TYPE_Q8_0 || id == SMOLQ_TYPE_IQ4_NL || id == SMOLQ_TYPE_MXFP4 || id == SMOLQ_TYPE_NVFP4; }
INLINE int CALL(mins_32)(int32_t id) { return id == SMOLQ_TYPE_Q4_1 || id == SMOLQ_TYPE_Q5_1; }
INLINE int CALL(halves_32)(int32_t id) { return id == SMOLQ_TYPE_NVFP4; }
INLINE int32_t CALL(parts_32)(int32_t id) { return id == SMOLQ_TYPE_Q1_0 ? 4 : id == SMOLQ_TYPE_Q2_0 || id == SMOLQ_TYPE_NVFP4 ? 2 : 1; } /* of 32 in a block */

/* The same as signed bytes. */
INLINE codes CALL(levels_32)(int32_t id, const uint8_t *p, int32_t part, float *d, float *m)
{
    return CALL(code_sub)(CALL(block_32)(id, p, part, d, m), CALL(code_all)(CALL(offset_32)(id)));
}

#if !defined(SMOLQ__CPU_AVX512)
/* Eight rows times n_x tokens: y[t][r]. */
INLINE void CALL(rows_32)(int32_t id, const smolq__type *type, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float (*y)[8])
{
    int32_t n_blocks = n_cols / 32, b, r, t;
    size_t at_d = (size_t)smolq_a8_d(n_cols), at_sums = (size_t)smolq_a8_sums(n_cols, 32), bytes = (size_t)type->facts.block_bytes;
    eight acc[SMOLQ__CPU_FEW];
    for (t = 0; t < n_x; t++) acc[t] = CALL(all8)(0);
    for (b = 0; b < n_blocks; b++) {
        int32s s[SMOLQ__CPU_FEW][8];
        float d[8], m[8];
        UNROLL for (r = 0; r < 8; r++) {
            const uint8_t *p = w[r] + (size_t)(b / CALL(parts_32)(id)) * bytes;
            codes code;
            __builtin_prefetch(p + 1024);
            code = CALL(block_32)(id, p, b % CALL(parts_32)(id), &d[r], &m[r]);
            for (t = 0; t < n_x; t++) s[t][r] = (CALL(halves_32)(id) ? CALL(dot_halves) : CALL(dot_codes))(code, CALL(code_load)(x[t] + 32 * (size_t)b), CALL(signed_32)(id));
        }
        for (t = 0; t < n_x; t++) {
            const int16_t *sums = (const int16_t *)(const void *)(x[t] + at_sums) + 2 * b;
            int32_t sum_x = sums[0] + sums[1];
            eight dx = CALL(all8)(((const float *)(const void *)(x[t] + at_d))[b]), second;
            if (CALL(halves_32)(id)) {
                acc[t] = CALL(fma8)(CALL(mul8)(CALL(load8)(d), dx), CALL(halves8)(s[t], &second), acc[t]);
                acc[t] = CALL(fma8)(CALL(mul8)(CALL(load8)(m), dx), second, acc[t]);
                continue;
            }
            acc[t] = CALL(fma8)(CALL(mul8)(CALL(load8)(d), dx), CALL(sum8)(s[t], CALL(offset_32)(id) * sum_x), acc[t]);
            if (CALL(mins_32)(id)) acc[t] = CALL(fma8)(CALL(mul8)(CALL(load8)(m), dx), CALL(all8)((float)sum_x), acc[t]);
        }
    }
    for (t = 0; t < n_x; t++) CALL(store8)(y[t], acc[t]);
}
#else
/* ---- the same in 512 bits: two blocks of 32 to a register, or two parts of one, or two runs of a block of 256 ----
 *
 * Levels are unsigned bytes, level + wide_offset; what the offset adds to a sum is known from the activations alone. */

INLINE int32_t CALL(wide_offset)(int32_t id) { return CALL(signed_32)(id) ? 128 : CALL(offset_32)(id); }

INLINE __m512i CALL(two_128)(const uint8_t *p, size_t next) /* each twice */
{
    return _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(LOAD128(p)), 0xff00, LOAD128(p + next));
}
INLINE __m512i CALL(two_nibbles)(const uint8_t *p, size_t next)
{
    const __m512i shift = _mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi16(CALL(two_128)(p, next), shift), _mm512_set1_epi8(15));
}
INLINE __m512i CALL(two_fifths)(__m512i x, const uint8_t *p, size_t next)
{
    __mmask64 bits = _cvtu64_mask64((uint64_t)smolq_u32_at(p + next) << 32 | smolq_u32_at(p));
    return _mm512_mask_add_epi8(x, bits, x, _mm512_set1_epi8(16));
}
INLINE __m512i CALL(two_looked_up)(const int8_t *values, __m512i x)
{
    __m128i table = _mm_xor_si128(LOAD128(values), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), x);
}
INLINE __m512i CALL(two_blocks)(int32_t id, const uint8_t *p, size_t next, size_t part) /* those at p and p + next, or parts `part` and the next of the block at p */
{
    switch (id) {
    case SMOLQ_TYPE_Q1_0:   return _mm512_maskz_mov_epi8(_cvtu64_mask64(smolq_u64_at(p + 2 + 4 * part)), _mm512_set1_epi8(2));
    case SMOLQ_TYPE_Q2_0: { /* in the order of two_of_x */
        __m512i pairs = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1), _mm512_castsi128_si512(LOAD128(p + 2)));
        return _mm512_and_si512(_mm512_srlv_epi64(pairs, _mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6)), _mm512_set1_epi8(3));
    }
    case SMOLQ_TYPE_NVFP4: {
        __m512i eights = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), _mm512_castsi256_si512(LOAD256(p + 4)));
        eights = _mm512_and_si512(_mm512_srlv_epi64(eights, _mm512_setr_epi64(0, 4, 0, 4, 0, 4, 0, 4)), _mm512_set1_epi8(15));
        return CALL(two_looked_up)(smolq_fp4_values, eights);
    }
    case SMOLQ_TYPE_Q4_0:   return CALL(two_nibbles)(p + 2, next);
    case SMOLQ_TYPE_Q4_1:   return CALL(two_nibbles)(p + 4, next);
    case SMOLQ_TYPE_Q5_0:   return CALL(two_fifths)(CALL(two_nibbles)(p + 6, next), p + 2, next);
    case SMOLQ_TYPE_Q5_1:   return CALL(two_fifths)(CALL(two_nibbles)(p + 8, next), p + 4, next);
    case SMOLQ_TYPE_Q8_0:   return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(LOAD256(p + 2)), LOAD256(p + next + 2), 1), _mm512_set1_epi8(-128));
    case SMOLQ_TYPE_IQ4_NL: return CALL(two_looked_up)(smolq_iq4_values, CALL(two_nibbles)(p + 2, next));
    default:                return CALL(two_looked_up)(smolq_fp4_values, CALL(two_nibbles)(p + 1, next)); /* MXFP4 */
    }
}

/* Activations in the order of levels: each fourth of 32 side by side, where pairs of bits lie so. */
INLINE __m512i CALL(two_of_x)(int32_t id, __m512i v)
{
    const __m512i fourths = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    if (id != SMOLQ_TYPE_Q2_0) return v;
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15), _mm512_shuffle_epi8(v, fourths));
}

/* The words at byte `at` of eight rows, and of their next blocks; as f16; their low bytes as the exponents of MXFP4 (smolq_e8m0_half). */
INLINE __m256i CALL(two_words)(const uint8_t *const *w, size_t at, size_t next)
{
    __m128i a = _mm_setr_epi16((int16_t)smolq_u16_at(w[0] + at), (int16_t)smolq_u16_at(w[1] + at), (int16_t)smolq_u16_at(w[2] + at), (int16_t)smolq_u16_at(w[3] + at),
                               (int16_t)smolq_u16_at(w[4] + at), (int16_t)smolq_u16_at(w[5] + at), (int16_t)smolq_u16_at(w[6] + at), (int16_t)smolq_u16_at(w[7] + at));
    __m128i b;
    at += next;
    b = _mm_setr_epi16((int16_t)smolq_u16_at(w[0] + at), (int16_t)smolq_u16_at(w[1] + at), (int16_t)smolq_u16_at(w[2] + at), (int16_t)smolq_u16_at(w[3] + at),
                       (int16_t)smolq_u16_at(w[4] + at), (int16_t)smolq_u16_at(w[5] + at), (int16_t)smolq_u16_at(w[6] + at), (int16_t)smolq_u16_at(w[7] + at));
    return _mm256_set_m128i(b, a);
}
INLINE lanes CALL(two_scales)(const uint8_t *const *w, size_t at, size_t next) { return _mm512_cvtph_ps(CALL(two_words)(w, at, next)); }
INLINE lanes CALL(two_exponents)(const uint8_t *const *w, size_t at, size_t next)
{
    __m512i e = _mm512_and_si512(_mm512_cvtepu16_epi32(CALL(two_words)(w, at, next)), _mm512_set1_epi32(255)), normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), _mm512_set1_epi32(0x00200000), e));
}
/* NVFP4: bytes `which` and which + 2 of the four at `at` of eight rows.  An e4m3 shifted to the place of an f16's bits is 2^-8 of itself; 0x7f counts as 0. */
INLINE lanes CALL(two_e4m3)(const uint8_t *const *w, size_t at, int32_t which)
{
    const __m512i of_rows = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    __m256i x = CALL(dword_join)(smolq_u32_at(w[0] + at), smolq_u32_at(w[1] + at), smolq_u32_at(w[2] + at), smolq_u32_at(w[3] + at),
                                 smolq_u32_at(w[4] + at), smolq_u32_at(w[5] + at), smolq_u32_at(w[6] + at), smolq_u32_at(w[7] + at));
    x = _mm256_and_si256(_mm256_srli_epi16(x, 8 * which), _mm256_set1_epi16(0x7f));
    x = _mm256_maskz_slli_epi16(_mm256_cmpneq_epi16_mask(x, _mm256_set1_epi16(0x7f)), x, 7);
    return _mm512_mul_ps(_mm512_permutexvar_ps(of_rows, _mm512_cvtph_ps(x)), _mm512_set1_ps(128.0f)); /* half of it */
}

/* Eight rows' partial sums: of the first and the third sixteen weights, [third][row], and of the second and the fourth; of two blocks, [block][row]. */
INLINE __m512i CALL(add_pairs)(__m512i a, __m512i b) { return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); }
INLINE __m512i CALL(add_fours)(__m512i a, __m512i b, __m512i c, __m512i d) /* within 128 bits */
{
    __m512i x = CALL(add_pairs)(a, b), y = CALL(add_pairs)(c, d);
    return _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
}
INLINE void CALL(sums_of_four)(const __m512i *s, __m512i *even, __m512i *odd)
{
    __m512i a = CALL(add_fours)(s[0], s[1], s[2], s[3]), b = CALL(add_fours)(s[4], s[5], s[6], s[7]);
    *even = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), b);
    *odd = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), b);
}
INLINE __m512i CALL(sums_of_two)(const __m512i *s)
{
    __m512i even, odd;
    CALL(sums_of_four)(s, &even, &odd);
    return _mm512_add_epi32(even, odd);
}
INLINE __m256 CALL(first)(lanes x) { return _mm512_castps512_ps256(x); }
INLINE __m256 CALL(second)(lanes x) { return _mm512_extractf32x8_ps(x, 1); }

INLINE size_t CALL(bytes_32)(int32_t id) /* as a constant, where id is one */
{
    switch (id) {
    case SMOLQ_TYPE_Q4_0:   return sizeof(smolq_block_q4_0);
    case SMOLQ_TYPE_Q4_1:   return sizeof(smolq_block_q4_1);
    case SMOLQ_TYPE_Q5_0:   return sizeof(smolq_block_q5_0);
    case SMOLQ_TYPE_Q5_1:   return sizeof(smolq_block_q5_1);
    case SMOLQ_TYPE_Q8_0:   return sizeof(smolq_block_q8_0);
    case SMOLQ_TYPE_IQ4_NL: return sizeof(smolq_block_iq4_nl);
    case SMOLQ_TYPE_Q1_0:   return sizeof(smolq_block_q1_0);
    case SMOLQ_TYPE_Q2_0:   return sizeof(smolq_block_q2_0);
    case SMOLQ_TYPE_NVFP4:  return sizeof(smolq_block_nvfp4);
    default:                return sizeof(smolq_block_mxfp4);
    }
}

/* Groups of 32 number b of eight rows, in blocks at `at`, and the next ones if there are two, times those of n_x tokens. */
INLINE void CALL(wide_step_32)(int32_t id, const uint8_t *const *w, size_t at, size_t b, int two, const uint8_t *const *x, size_t at_d, size_t at_sums, int32_t n_x, __m256 *acc)
{
    const size_t parts = (size_t)CALL(parts_32)(id), next = two && parts == 1 ? CALL(bytes_32)(id) : 0;
    const __m512i each = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0), offset = _mm512_set1_epi8((int8_t)CALL(wide_offset)(id));
    __m512i code[8];
    lanes d, m = CALL(zero)();
    int32_t r, t;
    UNROLL for (r = 0; r < 8; r++) {
        _mm_prefetch((const char *)w[r] + at + 1024, _MM_HINT_T0);
        code[r] = CALL(two_blocks)(id, w[r] + at, next, b % parts);
    }
    d = id == SMOLQ_TYPE_NVFP4 ? CALL(two_e4m3)(w, at, 0) : id == SMOLQ_TYPE_MXFP4 ? CALL(two_exponents)(w, at, next) : CALL(two_scales)(w, at, next);
    if (CALL(halves_32)(id)) m = CALL(two_e4m3)(w, at, 1);
    if (CALL(mins_32)(id)) m = CALL(two_scales)(w, at + 2, next);
    for (t = 0; t < n_x; t++) {
        const uint8_t *q = x[t] + 32 * b, *xd = x[t] + at_d + 4 * b, *sums = x[t] + at_sums + 4 * b;
        __m512i v = two ? _mm512_loadu_si512(q) : _mm512_zextsi256_si512(LOAD256(q)), start = _mm512_setzero_si512(), s[8];
        lanes dx = _mm512_permutexvar_ps(each, _mm512_castps128_ps512(_mm_castsi128_ps(two ? _mm_loadl_epi64((const __m128i *)(const void *)xd) : _mm_cvtsi32_si128((int32_t)smolq_u32_at(xd))))), scale, sum;
        if (CALL(wide_offset)(id)) start = _mm512_sub_epi32(start, _mm512_dpbusd_epi32(start, offset, v));
        v = CALL(two_of_x)(id, v);
        UNROLL for (r = 0; r < 8; r++) s[r] = _mm512_dpbusd_epi32(start, code[r], v);
        scale = _mm512_mul_ps(d, dx);
        if (CALL(halves_32)(id)) {
            __m512i even, odd;
            lanes rest = _mm512_mul_ps(m, dx);
            CALL(sums_of_four)(s, &even, &odd);
            acc[t] = _mm256_fmadd_ps(CALL(first)(scale), CALL(first)(_mm512_cvtepi32_ps(even)), acc[t]);
            acc[t] = _mm256_fmadd_ps(CALL(first)(rest), CALL(first)(_mm512_cvtepi32_ps(odd)), acc[t]);
            acc[t] = _mm256_fmadd_ps(CALL(second)(scale), CALL(second)(_mm512_cvtepi32_ps(even)), acc[t]);
            acc[t] = _mm256_fmadd_ps(CALL(second)(rest), CALL(second)(_mm512_cvtepi32_ps(odd)), acc[t]);
            continue;
        }
        sum = _mm512_cvtepi32_ps(CALL(sums_of_two)(s));
        acc[t] = _mm256_fmadd_ps(CALL(first)(scale), CALL(first)(sum), acc[t]);
        if (CALL(mins_32)(id)) {
            __m128i of_runs = two ? _mm_loadl_epi64((const __m128i *)(const void *)sums) : _mm_cvtsi32_si128((int32_t)smolq_u32_at(sums));
            lanes least = _mm512_mul_ps(m, dx), sum_x = _mm512_permutexvar_ps(each, _mm512_castps128_ps512(_mm_cvtepi32_ps(_mm_madd_epi16(of_runs, _mm_set1_epi16(1)))));
            acc[t] = _mm256_fmadd_ps(CALL(first)(least), CALL(first)(sum_x), acc[t]);
            if (two) {
                acc[t] = _mm256_fmadd_ps(CALL(second)(scale), CALL(second)(sum), acc[t]);
                acc[t] = _mm256_fmadd_ps(CALL(second)(least), CALL(second)(sum_x), acc[t]);
            }
        } else if (two) acc[t] = _mm256_fmadd_ps(CALL(second)(scale), CALL(second)(sum), acc[t]);
    }
}

/* Eight rows times n_x tokens: y[t][r]. */
INLINE void CALL(wide_32)(int32_t id, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float (*y)[8])
{
    size_t at_d = (size_t)smolq_a8_d(n_cols), at_sums = (size_t)smolq_a8_sums(n_cols, 32), n_blocks = (size_t)n_cols / 32, parts = (size_t)CALL(parts_32)(id), b, at = 0;
    __m256 acc[SMOLQ__CPU_FEW];
    int32_t t;
    for (t = 0; t < n_x; t++) acc[t] = _mm256_setzero_ps();
    for (b = 0; b + 2 <= n_blocks; b += 2) {
        CALL(wide_step_32)(id, w, at, b, 1, x, at_d, at_sums, n_x, acc);
        at += parts == 1 ? 2 * CALL(bytes_32)(id) : (b + 2) % parts ? 0 : CALL(bytes_32)(id);
    }
    if (parts == 1 && b < n_blocks) CALL(wide_step_32)(id, w, at, b, 0, x, at_d, at_sums, n_x, acc);
    for (t = 0; t < n_x; t++) _mm256_storeu_ps(y[t], acc[t]);
}

/* A block of 256: its levels in four registers, in the order in which wide_x takes the activations.  Scales go one of two ways.  Where in_turn is 0, products of
 * bytes are added in pairs and scale[c] has words for those of code[c].  Else so many registers are added up in dwords before one multiplication: a dword meets
 * weights of one run alone, whose scale is there in scale[c], of the c-th register of sums.  Four are two chains of two. */
typedef struct CALL(wide_block) {
    __m512i   code[4], scale[4];
    __mmask64 flip[4];       /* flips_256: of which weights the sign changes */
    __m256i   scales, mins;  /* of the 16 runs, where in_turn is 0 */
} CALL(wide_block);

INLINE int32_t CALL(in_turn)(int32_t id)
{
    switch (id) {
    case SMOLQ_TYPE_Q4_K: case SMOLQ_TYPE_Q5_K: case SMOLQ_TYPE_Q6_K: case SMOLQ_TYPE_Q2_K: case SMOLQ_TYPE_Q3_K: return 0;
    case SMOLQ_TYPE_IQ4_XS: return 2;
    default: return 4;
    }
}
INLINE int     CALL(no_scales)(int32_t id)       { return id == SMOLQ_TYPE_TQ1_0 || id == SMOLQ_TYPE_TQ2_0; }
INLINE int     CALL(codebook)(int32_t id)        { return CALL(flips_256)(id) || id == SMOLQ_TYPE_IQ1_S || id == SMOLQ_TYPE_IQ1_M; }
INLINE int32_t CALL(wide_offset_256)(int32_t id) { return CALL(signed_256)(id) ? 128 : CALL(offset_256)(id); }

#define HALVES(x, a, b) _mm512_inserti64x4(_mm512_set1_##x(a), _mm256_set1_##x(b), 1)
#define LANES(a, b, c, d) _mm512_set_epi64((d) * 0x0001000100010001, (d) * 0x0001000100010001, (c) * 0x0001000100010001, (c) * 0x0001000100010001, \
                                           (b) * 0x0001000100010001, (b) * 0x0001000100010001, (a) * 0x0001000100010001, (a) * 0x0001000100010001)
#define EIGHTS(a)         LANES(a, (a) + 1, (a) + 2, (a) + 3)

/* Q4_K and Q5_K (see smolq__scales_6_bit): 64 bytes hold runs 4h and 4h + 2 in their low nibbles, 4h + 1 and 4h + 3 in the high ones. */
INLINE void CALL(wide_q45_k)(CALL(wide_block) *b, const uint8_t *p, int fifth)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m128i s = LOAD128(p), top; /* d and dmin, four bytes of scales, of minimums, of both */
    int32_t c, h;
    top = _mm_and_si128(_mm_srli_epi32(_mm_shuffle_epi32(s, 0x95), 2), _mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    s = _mm_and_si128(_mm_srlv_epi32(_mm_shuffle_epi32(s, 0xed), _mm_setr_epi32(0, 0, 0, 4)), _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
    b->scales = _mm256_cvtepu8_epi16(_mm_or_si128(s, top));
    b->mins = _mm256_permutexvar_epi16(_mm256_setr_epi16(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15), b->scales);
    UNROLL for (h = 0; h < 2; h++) {
        __m512i v = _mm512_loadu_si512(p + (fifth ? 48 : 16) + 64 * h), words = _mm512_castsi256_si512(b->scales);
        b->code[2 * h] = _mm512_and_si512(v, nibble);
        b->code[2 * h + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
        b->scale[2 * h] = _mm512_permutexvar_epi16(HALVES(epi16, (int16_t)(4 * h), (int16_t)(4 * h + 2)), words);
        b->scale[2 * h + 1] = _mm512_permutexvar_epi16(HALVES(epi16, (int16_t)(4 * h + 1), (int16_t)(4 * h + 3)), words);
    }
    if (fifth) {
        __m512i high = _mm512_broadcast_i64x4(LOAD256(p + 16));
        UNROLL for (c = 0; c < 4; c++) {
            int32_t run = c / 2 * 4 + c % 2;
            __mmask64 bits = _mm512_test_epi8_mask(high, HALVES(epi8, (int8_t)(1 << run), (int8_t)(1 << (run + 2))));
            b->code[c] = _mm512_mask_add_epi8(b->code[c], bits, b->code[c], _mm512_set1_epi8(16));
        }
    }
}

INLINE void CALL(wide_q6_k)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i nibble = _mm512_set1_epi8(15), six = _mm512_set1_epi8(63);
    int32_t h;
    b->scales = _mm256_cvtepi8_epi16(LOAD128(p + 192));
    b->mins = _mm256_setzero_si256();
    UNROLL for (h = 0; h < 2; h++) { /* 128 weights: 64 in the low nibbles, 64 in the high ones */
        __m512i v = _mm512_loadu_si512(p + 64 * h), high = _mm512_broadcast_i64x4(LOAD256(p + 128 + 32 * h)), words = _mm512_castsi256_si512(b->scales);
        b->code[2 * h] = _mm512_and_si512(BLEND(nibble, v, _mm512_sllv_epi16(high, HALVES(epi16, 4, 2))), six);
        b->code[2 * h + 1] = _mm512_and_si512(BLEND(nibble, _mm512_srli_epi16(v, 4), _mm512_srlv_epi16(high, HALVES(epi16, 0, 2))), six);
        b->scale[2 * h] = _mm512_permutexvar_epi16(EIGHTS(8 * h), words);
        b->scale[2 * h + 1] = _mm512_permutexvar_epi16(EIGHTS(8 * h + 4), words);
    }
}

/* 64 bytes hold pairs of bits: runs j of 32 weights and, in the other half, j + 4. */
INLINE void CALL(wide_pairs)(CALL(wide_block) *b, const uint8_t *p)
{
    int32_t j;
    UNROLL for (j = 0; j < 4; j++) b->code[j] = _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(p), (unsigned)(2 * j)), _mm512_set1_epi8(3));
}
INLINE void CALL(wide_pair_scales)(CALL(wide_block) *b)
{
    int32_t j;
    UNROLL for (j = 0; j < 4; j++) b->scale[j] = _mm512_permutexvar_epi16(LANES(2 * j, 2 * j + 1, 2 * j + 8, 2 * j + 9), _mm512_castsi256_si512(b->scales));
}
INLINE void CALL(wide_q2_k)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m128i nibble = _mm_set1_epi8(15), s = LOAD128(p);
    b->scales = _mm256_cvtepu8_epi16(_mm_and_si128(s, nibble));
    b->mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(s, 4), nibble));
    CALL(wide_pair_scales)(b);
    CALL(wide_pairs)(b, p + 16);
}
INLINE void CALL(wide_q3_k)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i high = _mm512_broadcast_i64x4(LOAD256(p));
    int32_t j;
    b->scales = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(CALL(scales_q3_k)(p + 96)));
    b->mins = _mm256_setzero_si256();
    CALL(wide_pair_scales)(b);
    CALL(wide_pairs)(b, p + 32);
    UNROLL for (j = 0; j < 4; j++)
        b->code[j] = _mm512_mask_add_epi8(b->code[j], _mm512_test_epi8_mask(high, HALVES(epi8, (int8_t)(1 << j), (int8_t)(1 << (j + 4)))), b->code[j], _mm512_set1_epi8(4));
}

/* Bytes are fractions in base three, whose next digit is what 3x carries out of the byte (see block_tq1_0). */
INLINE __m512i CALL(wide_digit)(__m512i x)
{
    const __m512i one = _mm512_set1_epi8(1);
    __m512i y = _mm512_maskz_mov_epi8(_mm512_cmpge_epu8_mask(x, _mm512_set1_epi8(86)), one);
    return _mm512_mask_add_epi8(y, _mm512_cmpge_epu8_mask(x, _mm512_set1_epi8((int8_t)171)), y, one);
}
INLINE __m512i CALL(wide_times)(__m512i x, __m512i words) /* bytes times the word that they lie in, modulo 256 */
{
    const __m512i low = _mm512_set1_epi16(0xff);
    return BLEND(low, _mm512_mullo_epi16(x, words), _mm512_mullo_epi16(_mm512_andnot_si512(low, x), words));
}
INLINE void CALL(wide_tq1_0)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i rest = _mm512_broadcast_i32x4(LOAD128(p + 32)), three = HALVES(epi16, 1, 3), words_2 = LANES(81, 81, 1, 3);
    const __m512i words_3 = _mm512_set_epi64(0x001b001b00090009, 0x0003000300010001, 0x0051005100510051, 0x0051005100510051, 0x001b001b001b001b, 0x001b001b001b001b, 0x0009000900090009, 0x0009000900090009);
    __m256i x = LOAD256(p);
    __m512i y = CALL(wide_times)(_mm512_broadcast_i64x4(x), three);
    b->code[0] = CALL(wide_digit)(y);
    y = _mm512_add_epi8(y, _mm512_and_si512(_mm512_slli_epi16(y, 3), _mm512_set1_epi8(-8))); /* times 9 */
    b->code[1] = CALL(wide_digit)(y);
    b->code[2] = CALL(wide_digit)(CALL(wide_times)(_mm512_inserti64x4(rest, x, 0), words_2));
    b->code[3] = CALL(wide_digit)(CALL(wide_times)(_mm512_mask_set1_epi32(rest, 0xf000, (int32_t)smolq_u32_at(p + 48)), words_3));
}

INLINE void CALL(wide_iq4_xs)(CALL(wide_block) *b, const uint8_t *p)
{
    __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int32_t)smolq_u32_at(p + 4)), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    __m256i high = _mm256_rolv_epi32(_mm256_set1_epi32((int32_t)smolq_u16_at(p + 2)), _mm256_setr_epi32(4, 2, 0, 30, 28, 26, 24, 22));
    __m512i scales = _mm512_castsi256_si512(_mm256_sub_epi32(_mm256_and_si256(_mm256_ternarylogic_epi32(_mm256_set1_epi32(15), low, high, 0xca), _mm256_set1_epi32(63)), _mm256_set1_epi32(32)));
    int32_t h;
    UNROLL for (h = 0; h < 2; h++) { /* four runs: the first halves of them in the low nibbles, the second ones in the high nibbles */
        const __m512i v = _mm512_loadu_si512(p + 8 + 64 * h), nibble = _mm512_set1_epi8(15);
        b->code[2 * h] = CALL(two_looked_up)(smolq_iq4_values, _mm512_and_si512(v, nibble));
        b->code[2 * h + 1] = CALL(two_looked_up)(smolq_iq4_values, _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble));
        b->scale[h] = _mm512_permutexvar_epi32(_mm512_setr_epi32(4 * h, 4 * h, 4 * h, 4 * h, 4 * h + 1, 4 * h + 1, 4 * h + 1, 4 * h + 1,
                                                                 4 * h + 2, 4 * h + 2, 4 * h + 2, 4 * h + 2, 4 * h + 3, 4 * h + 3, 4 * h + 3, 4 * h + 3), scales);
    }
}

/* Codebooks: dword i of each register is of run i of 16 weights.  An entry of eight weights is a word of pairs of bits, one of four weights a word of nibbles;
 * words 2i and 2i + 1 are of run i, and a shift for each register leaves a pair, or a nibble, in each byte.  See grid_words. */

/* Where the dwords of x have the bits that mean 2s + 1 at n and on. */
INLINE __m512i CALL(odd_dwords)(__m512i x, int32_t mask) { return _mm512_ternarylogic_epi32(x, _mm512_set1_epi32(mask), _mm512_set1_epi32(1), 0xea); } /* x & mask | 1 */

/* Sixteen nibbles, one in each dword, and twice them plus one. */
INLINE __m512i CALL(sixteen_nibbles)(const uint8_t *p) { return _mm512_mask_set1_epi32(_mm512_set1_epi32((int32_t)smolq_u32_at(p)), 0xff00, (int32_t)smolq_u32_at(p + 4)); }
INLINE __m512i CALL(sixteen_scales)(const uint8_t *p)
{
    const __m512i turn = _mm512_setr_epi32(1, 29, 25, 21, 17, 13, 9, 5, 1, 29, 25, 21, 17, 13, 9, 5);
    return CALL(odd_dwords)(_mm512_rolv_epi32(CALL(sixteen_nibbles)(p), turn), 30);
}

/* Words of seven signs, whose eighth makes the number of minuses even. */
INLINE __m512i CALL(even_words)(__m512i x)
{
    const __m512i odd = _mm512_broadcast_i32x4(_mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    __m512i low = _mm512_ternarylogic_epi32(x, _mm512_srli_epi16(x, 4), _mm512_set1_epi16(15), 0x28); /* (x ^ x >> 4) & 15 */
    return _mm512_or_si512(x, _mm512_shuffle_epi8(odd, low));
}
/* From dwords of 32 weights, each there twice: two words of seven signs for each half. */
INLINE __m512i CALL(even_words_of)(__m512i x)
{
    x = _mm512_srlv_epi32(x, _mm512_set1_epi64((int64_t)14 << 32));
    x = BLEND(_mm512_set1_epi32(0xffff), x, _mm512_slli_epi32(x, 9));
    return CALL(even_words)(_mm512_and_si512(x, _mm512_set1_epi16(0x7f)));
}

/* Words of eight pairs, and of eight signs in their low bytes. */
INLINE void CALL(wide_iq2)(CALL(wide_block) *b, __m512i words, __m512i signs)
{
    const __m512i values = _mm512_broadcast_i32x4(_mm_setr_epi8(8, 25, 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    __m512i turns[2];
    int32_t c;
    signs = _mm512_shuffle_epi8(signs, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14)));
    turns[0] = _mm512_and_si512(words, _mm512_set1_epi8(0x33));
    turns[1] = _mm512_and_si512(_mm512_srli_epi16(words, 2), _mm512_set1_epi8(0x33));
    UNROLL for (c = 0; c < 4; c++) { /* a look-up ignores bits 4 to 6 */
        b->code[c] = _mm512_shuffle_epi8(values, c < 2 ? turns[c] : _mm512_srli_epi16(turns[c - 2], 4));
        b->flip[c] = _mm512_test_epi8_mask(signs, _mm512_set1_epi16((int16_t)(0x1001 << c)));
    }
}
/* Two registers of words of four nibbles: of the first and the second eight weights of each run. */
INLINE void CALL(wide_iq3)(CALL(wide_block) *b, const __m512i *words, __m512i signs)
{
    int32_t c, h;
    UNROLL for (h = 0; h < 2; h++) {
        const __m128i dwords = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
        __m512i eight = _mm512_shuffle_epi8(signs, _mm512_broadcast_i32x4(_mm_add_epi8(dwords, _mm_set1_epi8((int8_t)(2 * h)))));
        UNROLL for (c = 0; c < 2; c++) {
            b->code[2 * h + c] = _mm512_and_si512(_mm512_srli_epi16(words[h], (unsigned)(4 * c)), _mm512_set1_epi8(15));
            b->flip[2 * h + c] = _mm512_test_epi8_mask(eight, _mm512_set1_epi32((int32_t)(0x40100401u << c)));
        }
    }
}
/* Words from bytes 2h and 2h + 1 of each dword. */
INLINE __m512i CALL(two_of_four)(__m512i x, int32_t h)
{
    const __m128i first = _mm_setr_epi8(0, -128, 1, -128, 4, -128, 5, -128, 8, -128, 9, -128, 12, -128, 13, -128);
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_add_epi8(first, _mm_set1_epi8((int8_t)(2 * h)))));
}

INLINE void CALL(wide_iq2_xxs)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i all = _mm512_loadu_si512(p + 2), rest = _mm512_shuffle_epi32(all, (_MM_PERM_ENUM)0xf5);
    const __m128i bytes = _mm_setr_epi8(0, -128, 1, -128, 2, -128, 3, -128, 8, -128, 9, -128, 10, -128, 11, -128);
    b->scale[0] = CALL(odd_dwords)(_mm512_srli_epi32(rest, 27), 30);
    CALL(wide_iq2)(b, CALL(grid_words)(smolq_grid_iq2_xxs, 256, _mm512_shuffle_epi8(all, _mm512_broadcast_i32x4(bytes))), CALL(even_words_of)(rest));
}
INLINE void CALL(wide_iq2_xs)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i all = _mm512_loadu_si512(p + 2);
    b->scale[0] = CALL(sixteen_scales)(p + 66);
    CALL(wide_iq2)(b, CALL(grid_words)(smolq_grid_iq2_xs, 512, all), CALL(even_words)(_mm512_srli_epi16(all, 9)));
}
INLINE void CALL(wide_iq2_s)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i bytes = _mm512_setr_epi64(0, 0x0001000100010001, 0x0002000200020002, 0x0003000300030003, 0x0004000400040004, 0x0005000500050005, 0x0006000600060006, 0x0007000700070007);
    __m512i high = _mm512_sllv_epi16(_mm512_shuffle_epi8(_mm512_set1_epi64((int64_t)smolq_u64_at(p + 66)), bytes), _mm512_set1_epi64(0x0002000400060008));
    b->scale[0] = CALL(sixteen_scales)(p + 74);
    CALL(wide_iq2)(b, CALL(grid_words)(smolq_grid_iq2_s, 1024, BLEND(_mm512_set1_epi16(0xff), _mm512_cvtepu8_epi16(LOAD256(p + 2)), high)), _mm512_cvtepu8_epi16(LOAD256(p + 34)));
}
INLINE void CALL(wide_iq3_xxs)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i values = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 0, 12, 0, 20, 0, 28, 0, 36, 0, 44, 0, 52, 0, 62)), all = _mm512_loadu_si512(p + 2);
    const __m512i rest = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), _mm512_castsi256_si512(LOAD256(p + 66)));
    __m512i words[2];
    int32_t h, c;
    UNROLL for (h = 0; h < 2; h++) words[h] = CALL(grid_words)(smolq__cpu_tables.iq3_xxs_nibbles, 256, CALL(two_of_four)(all, h));
    b->scale[0] = CALL(odd_dwords)(_mm512_srli_epi32(rest, 27), 30);
    CALL(wide_iq3)(b, words, CALL(even_words_of)(rest));
    UNROLL for (c = 0; c < 4; c++) b->code[c] = _mm512_shuffle_epi8(values, b->code[c]);
}
INLINE void CALL(wide_iq3_s)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i all = _mm512_loadu_si512(p + 2), ninth = _mm512_set1_epi16(0x100);
    __m512i words[2], high = _mm512_srlv_epi32(CALL(sixteen_nibbles)(p + 66), _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28));
    int32_t h;
    high = _mm512_shuffle_epi8(high, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12)));
    UNROLL for (h = 0; h < 2; h++) {
        __m512i bit = _mm512_sllv_epi16(high, _mm512_set1_epi32(h ? 0x00050006 : 0x00070008));
        words[h] = CALL(grid_words)(smolq__cpu_tables.iq3_s_nibbles, 512, BLEND(ninth, bit, CALL(two_of_four)(all, h)));
    }
    b->scale[0] = CALL(odd_dwords)(_mm512_rolv_epi32(_mm512_set1_epi32((int32_t)smolq_u32_at(p + 106)), _mm512_setr_epi32(1, 1, 29, 29, 25, 25, 21, 21, 17, 17, 13, 13, 9, 9, 5, 5)), 30);
    CALL(wide_iq3)(b, words, _mm512_cvtepu8_epi16(LOAD256(p + 74)));
}

/* IQ1: 8 * pair + shift + 1, as in block_iq1_s. */
INLINE void CALL(wide_iq1)(CALL(wide_block) *b, __m512i index, __mmask32 minus)
{
    const __m512i shifts = _mm512_maskz_mov_epi16(_knot_mask32(minus), _mm512_set1_epi8(2));
    const __mmask32 second = _mm512_test_epi16_mask(index, _mm512_set1_epi16(1024));
    const __m512i x = _mm512_mask_blend_epi16(second, CALL(grid_words)(smolq_grid_iq1, 1024, index), CALL(grid_words)(smolq_grid_iq1 + 1024, 1024, index));
    int32_t c;
    UNROLL for (c = 0; c < 4; c++) {
        __m512i y = c < 2 ? _mm512_slli_epi16(x, (unsigned)(3 - 2 * c)) : _mm512_srli_epi16(x, (unsigned)(2 * c - 3));
        b->code[c] = _mm512_ternarylogic_epi32(y, _mm512_set1_epi8(24), shifts, 0xea); /* y & 24 | shifts */
    }
}
INLINE void CALL(wide_iq1_s)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i fours = _mm512_setr_epi64(0, 0x0001000100010001, 0x0002000200020002, 0x0003000300030003, 0x0004000400040004, 0x0005000500050005, 0x0006000600060006, 0x0007000700070007);
    __m512i rest = _mm512_permutexvar_epi16(fours, _mm512_castsi128_si512(LOAD128(p + 34)));
    __m512i high = _mm512_slli_epi16(_mm512_srlv_epi16(rest, _mm512_set1_epi64(0x0009000600030000)), 8);
    b->scale[0] = CALL(odd_dwords)(_mm512_srli_epi32(rest, 11), 14);
    CALL(wide_iq1)(b, _mm512_ternarylogic_epi32(high, _mm512_set1_epi16(0x700), _mm512_cvtepu8_epi16(LOAD256(p + 2)), 0xea), _mm512_movepi16_mask(rest));
}
INLINE void CALL(wide_iq1_m)(CALL(wide_block) *b, const uint8_t *p)
{
    const __m512i words = _mm512_set_epi64(0x0706070607060706, 0x0706070607060706, 0x0504050405040504, 0x0504050405040504, 0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
    __m512i rest = _mm512_cvtepu8_epi32(LOAD128(p + 32)), scales = _mm512_shuffle_epi8(_mm512_set1_epi64((int64_t)smolq_u64_at(p + 48)), words);
    rest = _mm512_or_si512(rest, _mm512_slli_epi32(rest, 12)); /* a nibble at the bottom of each word */
    b->scale[0] = CALL(odd_dwords)(_mm512_rolv_epi32(scales, _mm512_broadcast_i32x4(_mm_setr_epi32(1, 30, 27, 24))), 14);
    CALL(wide_iq1)(b, _mm512_ternarylogic_epi32(_mm512_slli_epi16(rest, 8), _mm512_set1_epi16(0x700), _mm512_cvtepu8_epi16(LOAD256(p)), 0xea),
                   _mm512_test_epi16_mask(rest, _mm512_set1_epi16(8)));
}

INLINE void CALL(wide_unpack)(int32_t id, CALL(wide_block) *b, const uint8_t *p)
{
    switch (id) {
    case SMOLQ_TYPE_Q4_K:    CALL(wide_q45_k)(b, p, 0); break;
    case SMOLQ_TYPE_Q5_K:    CALL(wide_q45_k)(b, p, 1); break;
    case SMOLQ_TYPE_Q6_K:    CALL(wide_q6_k)(b, p); break;
    case SMOLQ_TYPE_Q2_K:    CALL(wide_q2_k)(b, p); break;
    case SMOLQ_TYPE_Q3_K:    CALL(wide_q3_k)(b, p); break;
    case SMOLQ_TYPE_IQ2_XXS: CALL(wide_iq2_xxs)(b, p); break;
    case SMOLQ_TYPE_IQ2_XS:  CALL(wide_iq2_xs)(b, p); break;
    case SMOLQ_TYPE_IQ2_S:   CALL(wide_iq2_s)(b, p); break;
    case SMOLQ_TYPE_IQ3_XXS: CALL(wide_iq3_xxs)(b, p); break;
    case SMOLQ_TYPE_IQ3_S:   CALL(wide_iq3_s)(b, p); break;
    case SMOLQ_TYPE_IQ1_S:   CALL(wide_iq1_s)(b, p); break;
    case SMOLQ_TYPE_IQ1_M:   CALL(wide_iq1_m)(b, p); break;
    case SMOLQ_TYPE_IQ4_XS:  CALL(wide_iq4_xs)(b, p); break;
    case SMOLQ_TYPE_TQ1_0:   CALL(wide_tq1_0)(b, p); break;
    default:                 CALL(wide_pairs)(b, p); break; /* TQ2_0 */
    }
}

INLINE void CALL(wide_x)(int32_t id, const uint8_t *x, __m512i *v)
{
    __m512i a = _mm512_loadu_si512(x), b = _mm512_loadu_si512(x + 64), c = _mm512_loadu_si512(x + 128), d = _mm512_loadu_si512(x + 192);
    switch (id) {
    case SMOLQ_TYPE_Q6_K: case SMOLQ_TYPE_TQ1_0: /* as they are */
        v[0] = a, v[1] = b, v[2] = c, v[3] = d;
        break;
    case SMOLQ_TYPE_Q4_K: case SMOLQ_TYPE_Q5_K: /* every other 32 */
        v[0] = _mm512_shuffle_i64x2(a, b, 0x44), v[1] = _mm512_shuffle_i64x2(a, b, 0xee);
        v[2] = _mm512_shuffle_i64x2(c, d, 0x44), v[3] = _mm512_shuffle_i64x2(c, d, 0xee);
        break;
    case SMOLQ_TYPE_Q2_K: case SMOLQ_TYPE_Q3_K: case SMOLQ_TYPE_TQ2_0: /* every fourth 32 */
        v[0] = _mm512_shuffle_i64x2(a, c, 0x44), v[1] = _mm512_shuffle_i64x2(a, c, 0xee);
        v[2] = _mm512_shuffle_i64x2(b, d, 0x44), v[3] = _mm512_shuffle_i64x2(b, d, 0xee);
        break;
    case SMOLQ_TYPE_IQ4_XS: /* every other sixteen */
        v[0] = _mm512_shuffle_i32x4(a, b, 0x88), v[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
        v[2] = _mm512_shuffle_i32x4(c, d, 0x88), v[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
        break;
    default: { /* codebooks: a dword of each sixteen to each register */
        const __m128i by_8 = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), by_4 = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
        const __m512i order = _mm512_broadcast_i32x4(id == SMOLQ_TYPE_IQ3_XXS || id == SMOLQ_TYPE_IQ3_S ? by_4 : by_8);
        const __m512i low = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29), high = _mm512_add_epi32(low, _mm512_set1_epi32(2));
        __m512i first, second;
        a = _mm512_shuffle_epi8(a, order), b = _mm512_shuffle_epi8(b, order), c = _mm512_shuffle_epi8(c, order), d = _mm512_shuffle_epi8(d, order);
        first = _mm512_permutex2var_epi32(a, low, b), second = _mm512_permutex2var_epi32(c, low, d);
        v[0] = _mm512_shuffle_i64x2(first, second, 0x44), v[1] = _mm512_shuffle_i64x2(first, second, 0xee);
        first = _mm512_permutex2var_epi32(a, high, b), second = _mm512_permutex2var_epi32(c, high, d);
        v[2] = _mm512_shuffle_i64x2(first, second, 0x44), v[3] = _mm512_shuffle_i64x2(first, second, 0xee);
    }
    }
}

INLINE __m128i CALL(wide_sum4)(const __m512i *s)
{
    __m512i x = CALL(add_fours)(s[0], s[1], s[2], s[3]);
    __m256i y = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}

/* The f16 at `at` of four rows, and the one behind it. */
INLINE __m256 CALL(four_scales)(const uint8_t *const *w, size_t at)
{
    return _mm256_cvtph_ps(_mm_setr_epi32((int32_t)smolq_u32_at(w[0] + at), (int32_t)smolq_u32_at(w[1] + at), (int32_t)smolq_u32_at(w[2] + at), (int32_t)smolq_u32_at(w[3] + at)));
}

INLINE size_t CALL(bytes_256)(int32_t id)
{
    switch (id) {
    case SMOLQ_TYPE_Q4_K:    return sizeof(smolq_block_q4_k);
    case SMOLQ_TYPE_Q5_K:    return sizeof(smolq_block_q5_k);
    case SMOLQ_TYPE_Q6_K:    return sizeof(smolq_block_q6_k);
    case SMOLQ_TYPE_Q2_K:    return sizeof(smolq_block_q2_k);
    case SMOLQ_TYPE_Q3_K:    return sizeof(smolq_block_q3_k);
    case SMOLQ_TYPE_IQ2_XXS: return sizeof(smolq_block_iq2_xxs);
    case SMOLQ_TYPE_IQ2_XS:  return sizeof(smolq_block_iq2_xs);
    case SMOLQ_TYPE_IQ2_S:   return sizeof(smolq_block_iq2_s);
    case SMOLQ_TYPE_IQ3_XXS: return sizeof(smolq_block_iq3_xxs);
    case SMOLQ_TYPE_IQ3_S:   return sizeof(smolq_block_iq3_s);
    case SMOLQ_TYPE_IQ1_S:   return sizeof(smolq_block_iq1_s);
    case SMOLQ_TYPE_IQ1_M:   return sizeof(smolq_block_iq1_m);
    case SMOLQ_TYPE_IQ4_XS:  return sizeof(smolq_block_iq4_xs);
    case SMOLQ_TYPE_TQ1_0:   return sizeof(smolq_block_tq1_0);
    default:                 return sizeof(smolq_block_tq2_0);
    }
}
/* Four rows' d, and minus their dmin. */
INLINE __m128 CALL(wide_d)(int32_t id, const uint8_t *const *w, size_t at, __m128 *dmin)
{
    int32_t last = id == SMOLQ_TYPE_Q6_K || id == SMOLQ_TYPE_Q3_K || CALL(no_scales)(id); /* d is the last two bytes of a block */
    __m256 scales;
    __m128 low, high, d;
    *dmin = _mm_setzero_ps();
    if (id == SMOLQ_TYPE_IQ1_M) { /* four bits at the top of each of four words, the lowest first */
        __m256i x = _mm256_setr_epi64x((int64_t)smolq_u64_at(w[0] + at + 48), (int64_t)smolq_u64_at(w[1] + at + 48), (int64_t)smolq_u64_at(w[2] + at + 48), (int64_t)smolq_u64_at(w[3] + at + 48));
        x = _mm256_srlv_epi16(_mm256_and_si256(x, _mm256_set1_epi16((int16_t)0xf000)), _mm256_set1_epi64x(0x000000040008000c));
        x = _mm256_or_si256(x, _mm256_srli_epi64(x, 32));
        return _mm_mul_ps(_mm_cvtph_ps(_mm256_cvtepi64_epi16(_mm256_or_si256(x, _mm256_srli_epi64(x, 16)))), _mm_set1_ps(0.125f));
    }
    scales = CALL(four_scales)(w, at + (last ? CALL(bytes_256)(id) - 4 : id == SMOLQ_TYPE_Q2_K ? 80 : 0));
    low = _mm256_castps256_ps128(scales), high = _mm256_extractf128_ps(scales, 1);
    if (last) return _mm_shuffle_ps(low, high, 0xdd);
    d = _mm_shuffle_ps(low, high, 0x88);
    if (CALL(mins_256)(id)) *dmin = _mm_xor_ps(_mm_shuffle_ps(low, high, 0xdd), _mm_set1_ps(-0.0f));
    if (!CALL(codebook)(id) || id == SMOLQ_TYPE_IQ3_S) return d;
    return _mm_mul_ps(d, _mm_set1_ps(id == SMOLQ_TYPE_IQ3_XXS ? 0.25f : 0.125f));
}

/* What a block adds for each token, of row r. */
INLINE void CALL(wide_row)(int32_t id, const uint8_t *p, __m512i (*v)[4], __m512i (*minus)[4], __m512i (*start)[2], const __m256i *sums, int32_t n_x, int32_t r, __m512i (*isum)[4], __m256i (*msum)[4])
{
    int32_t in_turn = CALL(in_turn)(id), t, c;
    CALL(wide_block) block;
    CALL(fetch_block)(p, CALL(bytes_256)(id));
    CALL(wide_unpack)(id, &block, p);
    for (t = 0; t < n_x; t++) {
        __m512i sum = _mm512_setzero_si512(), part[2];
        UNROLL for (c = 0; c < 2; c++) part[c] = in_turn && CALL(wide_offset_256)(id) ? start[t][c] : _mm512_setzero_si512();
        if (!in_turn && CALL(offset_256)(id)) {
            __m256i less = _mm256_madd_epi16(block.scales, _mm256_sub_epi16(_mm256_setzero_si256(), sums[t]));
            sum = _mm512_zextsi256_si512(_mm256_slli_epi32(less, CALL(offset_256)(id) == 32 ? 5 : 2));
        }
        if (CALL(mins_256)(id)) msum[t][r] = _mm256_madd_epi16(block.mins, sums[t]);
        UNROLL for (c = 0; c < 4; c++) {
            __m512i x = CALL(flips_256)(id) ? _mm512_mask_blend_epi8(block.flip[c], v[t][c], minus[t][c]) : v[t][c];
            if (in_turn) part[c / 2] = _mm512_dpbusd_epi32(part[c / 2], block.code[c], x);
            else sum = _mm512_dpwssd_epi32(sum, _mm512_maddubs_epi16(block.code[c], x), block.scale[c]);
        }
        if (in_turn == 2) sum = _mm512_add_epi32(_mm512_mullo_epi32(part[0], block.scale[0]), _mm512_mullo_epi32(part[1], block.scale[1]));
        if (in_turn == 4) {
            sum = _mm512_add_epi32(part[0], part[1]);
            if (!CALL(no_scales)(id)) sum = _mm512_mullo_epi32(sum, block.scale[0]);
        }
        isum[t][r] = sum;
    }
}

/* Four rows times n_x tokens: y[t][r]. */
INLINE void CALL(wide_256)(int32_t id, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float (*y)[8])
{
    const __m512i offset = _mm512_set1_epi8((int8_t)CALL(wide_offset_256)(id));
    int32_t n_blocks = n_cols / 256, in_turn = CALL(in_turn)(id), b, r, t, c;
    size_t at_d = (size_t)smolq_a8_d(n_cols), at_sums = (size_t)smolq_a8_sums(n_cols, 256), at = 0;
    __m128 acc[SMOLQ__CPU_FEW];
    for (t = 0; t < n_x; t++) acc[t] = _mm_setzero_ps();
    for (b = 0; b < n_blocks; b++, at += CALL(bytes_256)(id)) {
        __m512i isum[SMOLQ__CPU_FEW][4], v[SMOLQ__CPU_FEW][4], minus[SMOLQ__CPU_FEW][4], start[SMOLQ__CPU_FEW][2];
        __m256i msum[SMOLQ__CPU_FEW][4], sums[SMOLQ__CPU_FEW];
        __m128 dmin, d = CALL(wide_d)(id, w, at, &dmin);
        for (t = 0; t < n_x; t++) {
            CALL(wide_x)(id, x[t] + 256 * (size_t)b, v[t]);
            if (CALL(flips_256)(id)) { UNROLL for (c = 0; c < 4; c++) minus[t][c] = _mm512_sub_epi8(_mm512_setzero_si512(), v[t][c]); }
            sums[t] = LOAD256(x[t] + at_sums + (size_t)b * 32);
            if (in_turn && CALL(wide_offset_256)(id)) { /* what the offset adds, to be taken away */
                start[t][0] = start[t][1] = _mm512_setzero_si512();
                UNROLL for (c = 0; c < 4; c++) start[t][c / 2] = _mm512_dpbusd_epi32(start[t][c / 2], offset, v[t][c]);
                UNROLL for (c = 0; c < 2; c++) start[t][c] = _mm512_sub_epi32(_mm512_setzero_si512(), start[t][c]);
            }
        }
        if (CALL(codebook)(id)) for (r = 0; r < 4; r++) CALL(wide_row)(id, w[r] + at, v, minus, start, sums, n_x, r, isum, msum);
        else { UNROLL for (r = 0; r < 4; r++) CALL(wide_row)(id, w[r] + at, v, minus, start, sums, n_x, r, isum, msum); }
        for (t = 0; t < n_x; t++) {
            __m128 dx = _mm_set1_ps(((const float *)(const void *)(x[t] + at_d))[b]);
            acc[t] = _mm_fmadd_ps(_mm_mul_ps(d, dx), _mm_cvtepi32_ps(CALL(wide_sum4)(isum[t])), acc[t]);
            if (CALL(mins_256)(id))
                acc[t] = _mm_fmadd_ps(_mm_mul_ps(dmin, dx), CALL(sum4)(msum[t][0], msum[t][1], msum[t][2], msum[t][3]), acc[t]);
        }
    }
    for (t = 0; t < n_x; t++) _mm_storeu_ps(y[t], acc[t]);
}
#undef LANES
#undef EIGHTS
#undef HALVES
#endif

/* ---- rows of a matrix times few tokens ---- */

#if defined(SMOLQ__CPU_AVX512)
#  define ROWS_32(id, n_x)  CALL(wide_32)(id, w, n_cols, x, n_x, y)
#  define ROWS_256(id, n_x) CALL(wide_256)(id, w, n_cols, x, n_x, y)
#else
#  define ROWS_32(id, n_x)  CALL(rows_32)(id, type, w, n_cols, x, n_x, y)
#  define ROWS_256(id, n_x) CALL(rows_256)(id, type, w, n_cols, x, n_x, y)
#endif

/* Rows w[0..n) go side by side: eight or four of them, as the type likes. */
INLINE int32_t CALL(side_by_side)(const smolq__type *type) { return type->facts.group == 32 ? 8 : 4; }

#define ROWS_OF(n_x) \
    switch (type->id) { \
    case SMOLQ_TYPE_F32:    CALL(float_rows)(SMOLQ_TYPE_F32, w, n_cols, x, n_x, y); break; \
    case SMOLQ_TYPE_F16:    CALL(float_rows)(SMOLQ_TYPE_F16, w, n_cols, x, n_x, y); break; \
    case SMOLQ_TYPE_BF16:   CALL(float_rows)(SMOLQ_TYPE_BF16, w, n_cols, x, n_x, y); break; \
    case SMOLQ_TYPE_Q4_0:   ROWS_32(SMOLQ_TYPE_Q4_0, n_x); break; \
    case SMOLQ_TYPE_Q4_1:   ROWS_32(SMOLQ_TYPE_Q4_1, n_x); break; \
    case SMOLQ_TYPE_Q5_0:   ROWS_32(SMOLQ_TYPE_Q5_0, n_x); break; \
    case SMOLQ_TYPE_Q5_1:   ROWS_32(SMOLQ_TYPE_Q5_1, n_x); break; \
    case SMOLQ_TYPE_Q8_0:   ROWS_32(SMOLQ_TYPE_Q8_0, n_x); break; \
    case SMOLQ_TYPE_IQ4_NL: ROWS_32(SMOLQ_TYPE_IQ4_NL, n_x); break; \
    case SMOLQ_TYPE_MXFP4:  ROWS_32(SMOLQ_TYPE_MXFP4, n_x); break; \
    case SMOLQ_TYPE_Q4_K:   ROWS_256(SMOLQ_TYPE_Q4_K, n_x); break; \
    case SMOLQ_TYPE_Q5_K:   ROWS_256(SMOLQ_TYPE_Q5_K, n_x); break; \
    case SMOLQ_TYPE_Q6_K:   ROWS_256(SMOLQ_TYPE_Q6_K, n_x); break; \
    case SMOLQ_TYPE_Q2_K:   ROWS_256(SMOLQ_TYPE_Q2_K, n_x); break; \
    case SMOLQ_TYPE_Q3_K:   ROWS_256(SMOLQ_TYPE_Q3_K, n_x); break; \
    case SMOLQ_TYPE_IQ4_XS: ROWS_256(SMOLQ_TYPE_IQ4_XS, n_x); break; \
    case SMOLQ_TYPE_NVFP4:  ROWS_32(SMOLQ_TYPE_NVFP4, n_x); break; \
    case SMOLQ_TYPE_Q1_0:   ROWS_32(SMOLQ_TYPE_Q1_0, n_x); break; \
    case SMOLQ_TYPE_Q2_0:   ROWS_32(SMOLQ_TYPE_Q2_0, n_x); break; \
    OTHERS(n_x) \
    }

/* One token is the case that counts: its own copy keeps all in registers.  For more the rest shares two, but with AVX-512. */
#define ROWS(NAME, n_x) case SMOLQ_TYPE_##NAME: ROWS_256(SMOLQ_TYPE_##NAME, n_x); break;
#define OTHERS(n_x) ROWS(IQ2_XXS, n_x) ROWS(IQ2_XS, n_x) ROWS(IQ2_S, n_x) ROWS(IQ3_XXS, n_x) ROWS(IQ3_S, n_x) ROWS(IQ1_S, n_x) ROWS(IQ1_M, n_x) ROWS(TQ1_0, n_x) ROWS(TQ2_0, n_x)
static void CALL(rows_1)(const smolq__type *type, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, float (*y)[8])
{
    ROWS_OF(1)
}
#if !defined(SMOLQ__CPU_AVX512)
#  undef OTHERS
#  define OTHERS(n_x) \
    default: \
        if (CALL(flips_256)(type->id)) CALL(rows_256)(SMOLQ_TYPE_IQ2_XXS, type, w, n_cols, x, n_x, y); \
        else CALL(rows_256)(SMOLQ_TYPE_TQ2_0, type, w, n_cols, x, n_x, y);
#endif
static void CALL(rows_few)(const smolq__type *type, const uint8_t *const *w, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float (*y)[8])
{
    ROWS_OF(n_x)
}
#undef OTHERS
#undef ROWS
#undef ROWS_OF
#undef ROWS_32
#undef ROWS_256

/* ---- where products go ---- */

INLINE lanes CALL(gate)(int32_t kind, lanes g, lanes up)
{
    if (kind == SMOLQ_GATE_SILU) return CALL(mul)(CALL(sigmoid_times)(g, CALL(sub)(CALL(zero)(), g)), up);
    if (kind == SMOLQ_GATE_GELU) {
        lanes u = CALL(mul)(CALL(mul)(CALL(all)(0.797884561f), g), CALL(fma)(CALL(mul)(CALL(all)(0.044715f), g), g, CALL(all)(1.0f)));
        return CALL(mul)(CALL(sigmoid_times)(g, CALL(mul)(CALL(all)(-2.0f), u)), up);
    }
    g = CALL(min)(CALL(all)(7.0f), g); /* in this order a NaN stays */
    up = CALL(max)(CALL(all)(-7.0f), CALL(min)(CALL(all)(7.0f), up));
    return CALL(mul)(CALL(sigmoid_times)(g, CALL(mul)(CALL(all)(-1.702f), g)), CALL(add)(up, CALL(all)(1.0f)));
}

INLINE lanes CALL(joined)(const smolq_op_part *part, lanes v, lanes out) /* the product, bias added, and what out holds */
{
    if (part->gate) return CALL(gate)(part->gate, out, v);
    return part->add != 0 ? CALL(fma)(CALL(all)(part->add), v, out) : v;
}

/* n <= 16 rows. */
INLINE void CALL(put_rows)(const smolq_op_part *part, float *out, int32_t row, const float *y, int32_t n)
{
    lanes v = n < 16 ? CALL(load_some)(y, n) : CALL(load)(y), old = CALL(zero)();
    out += row;
    if (part->bias) v = CALL(add)(v, n < 16 ? CALL(load_some)(part->bias + row, n) : CALL(load)(part->bias + row));
    if (part->gate || part->add != 0) old = n < 16 ? CALL(load_some)(out, n) : CALL(load)(out);
    v = CALL(joined)(part, v, old);
    if (n < 16) CALL(store_some)(out, v, n);
    else CALL(store)(out, v);
}

/* Rows [begin, end) of a part for up to SMOLQ__CPU_FEW tokens: several streams of neighboring rows, far apart from each other.  Of each stream sixteen results are kept
 * and put where they belong together. */
static void CALL(few)(const smolq_run *run, const smolq_op_part *part, int32_t first_token, int32_t n_x, int32_t begin, int32_t end)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    int32_t side = CALL(side_by_side)(type), m = (end - begin) / side, first, n, i, r, t;
    const uint8_t *x[SMOLQ__CPU_FEW], *w[8];
    float y[SMOLQ__CPU_FEW][8], kept[SMOLQ__CPU_FEW][8][16], *out[SMOLQ__CPU_FEW];
    for (t = 0; t < n_x; t++) {
        x[t] = smolq_row(run, part->in, first_token + t);
        out[t] = (float *)(void *)smolq_row(run, part->out, first_token + t);
    }
    for (r = 0; r < side; r++) w[r] = part->w->data + (uint64_t)(begin + r * m) * part->w->row_bytes;
    for (first = 0; first < m; first += n) {
        n = m - first < 16 ? m - first : 16;
        for (i = 0; i < n; i++) {
            if (n_x == 1) CALL(rows_1)(type, w, part->w->n_cols, x, y);
            else CALL(rows_few)(type, w, part->w->n_cols, x, n_x, y);
            for (r = 0; r < side; r++) w[r] += part->w->row_bytes;
            for (t = 0; t < n_x; t++)
                for (r = 0; r < side; r++) kept[t][r][i] = y[t][r];
        }
        for (t = 0; t < n_x; t++)
            for (r = 0; r < side; r++) CALL(put_rows)(part, out[t], begin + r * m + first, kept[t][r], n);
    }
    begin += m * side; /* the few that are left over, the last one again and again behind them */
    if (begin == end) return;
    for (r = 0; r < side; r++) w[r] = part->w->data + (uint64_t)(begin + r < end ? begin + r : end - 1) * part->w->row_bytes;
    if (n_x == 1) CALL(rows_1)(type, w, part->w->n_cols, x, y);
    else CALL(rows_few)(type, w, part->w->n_cols, x, n_x, y);
    for (t = 0; t < n_x; t++) CALL(put_rows)(part, out[t], begin, y[t], end - begin);
}

/* ---- products over panels, many tokens ---- */

/* 32 levels as signed bytes. */
INLINE codes CALL(levels)(int32_t id, const CALL(block) *b, int32_t j)
{
    return CALL(flips_256)(id) ? CALL(code_flip)(b->code[j], b->flip[j]) : CALL(offset_256)(id) ? CALL(code_sub)(b->code[j], CALL(code_all)(CALL(offset_256)(id))) : b->code[j];
}

/* Float tensors over panels: lanes run along the row, so sixteen rows are unpacked to floats and each token takes them four at a time. */
static void CALL(many_floats)(const smolq_run *run, const smolq_op_part *part, int32_t n_tokens, int32_t row, int32_t n_rows)
{
    int32_t t, r, i;
    for (t = 0; t < n_tokens; t += SMOLQ__CPU_FEW) {
        int32_t n_x = n_tokens - t < SMOLQ__CPU_FEW ? n_tokens - t : SMOLQ__CPU_FEW;
        const smolq__type *type = smolq__type_of(part->w->type);
        const uint8_t *x[SMOLQ__CPU_FEW], *w[8];
        float y[SMOLQ__CPU_FEW][8];
        for (i = 0; i < n_x; i++) x[i] = smolq_row(run, part->in, t + i);
        for (r = 0; r < n_rows; r += 4) {
            for (i = 0; i < 4; i++) w[i] = part->w->data + (uint64_t)(row + (r + i < n_rows ? r + i : n_rows - 1)) * part->w->row_bytes;
            CALL(rows_few)(type, w, part->w->n_cols, x, n_x, y);
            for (i = 0; i < n_x; i++) CALL(put_rows)(part, (float *)(void *)smolq_row(run, part->out, t + i), row + r, y[i], n_rows - r < 4 ? n_rows - r : 4);
        }
    }
}

#if defined(SMOLQ__CPU_NEON)
enum { CALL(AT_ONCE) = 1,  /* panels */
       CALL(TOKENS) = 4,   /* that pass over a panel together */
       CALL(TILE) = 256 }; /* tokens that pass over it before it is unpacked again */

/* With NEON a panel holds signed bytes.  A register has four weights of each of four rows, or eight of two rows for the instruction that multiplies matrices, so that
 * the sums of several rows arise side by side.  A run of a block of 256 is summed on its own and multiplied by its scale.  Half the rows and four tokens
 * at a time fit in the registers: eight for sums, eight for sums with scales.  Activations are read as they lie. */
#if defined(SMOLQ__CPU_I8MM)
enum { CALL(BYTES) = 2, CALL(SCALES) = 4 }; /* of a panel for each weight along the rows, in each sequence; registers for the scales of eight rows */
#else
enum { CALL(BYTES) = 4, CALL(SCALES) = 2 };
#endif
static const smolq__cpu_layout CALL(layout) = { 1, 0, 0 };
static void CALL(arrange)(const smolq_run *run, const smolq_op *op, int32_t row) { (void)run; (void)op; (void)row; }

typedef struct CALL(panel) {
    int8_t  w[2][8 * 256];  /* [eight rows]: [four rows][four weights][row][4], or [two rows][eight weights][row][8] */
    int32_t scale[16][16];  /* [run][row] */
    int16_t mins[16][16];
    float   d[16][16];      /* [group][row] */
    float   dmin[8][16];    /* [block][row] */
    int32_t n_groups, n_runs;
} CALL(panel);

/* Row r: its levels, and what belongs to them. */
static void CALL(panel_row)(CALL(panel) *panel, int32_t r, const smolq__type *type, const uint8_t *p, int32_t n, uint8_t *levels)
{
    int32_t b, i, parts = CALL(parts_32)(type->id), halves = CALL(halves_32)(type->id);
    if (type->facts.group == 256) {
        CALL(block) block;
        int16_t scales[16], mins[16];
        CALL(block_any)(&block, type->id, p, &panel->d[0][r], &panel->dmin[0][r]);
        for (i = 0; i < 8; i++) CALL(code_store)(levels + 32 * i, CALL(levels)(type->id, &block, i));
        CALL(put_words)(scales, block.scales);
        if (CALL(mins_256)(type->id)) CALL(put_words)(mins, block.mins);
        panel->n_runs = CALL(runs_256)(type->id);
        for (i = 0; i < panel->n_runs; i++) {
            panel->scale[i][r] = scales[16 / panel->n_runs * i];
            if (CALL(mins_256)(type->id)) panel->mins[i][r] = mins[16 / panel->n_runs * i];
        }
        return;
    }
    for (b = 0; b < n / 32; b++) {
        float first, second;
        CALL(code_store)(levels + 32 * b, CALL(levels_32)(type->id, p + (size_t)(b / parts) * (size_t)type->facts.block_bytes, b % parts, &first, &second));
        panel->d[halves ? 2 * b : b][r] = first;
        if (halves) panel->d[2 * b + 1][r] = second;
        else panel->dmin[b][r] = second;
    }
    panel->n_groups = halves ? n / 16 : n / 32;
}

/* The next 256 (or what is left) of 16 rows. */
static void CALL(fill_panel)(CALL(panel) *panel, const smolq__type *type, const uint8_t *const *w, int32_t n)
{
    uint8_t levels[4][256];
    int32_t row, r, i;
    for (row = 0; row < 16; row += 4) {
        int8_t *to = panel->w[row / 8] + row % 8 * 256;
        for (r = 0; r < 4; r++) CALL(panel_row)(panel, row + r, type, w[row + r], n, levels[r]);
        for (i = 0; i < n; i += 16) {
#if defined(SMOLQ__CPU_I8MM)
            int64x2x2_t x, y;
            x.val[0] = vreinterpretq_s64_u8(vld1q_u8(levels[0] + i));
            x.val[1] = vreinterpretq_s64_u8(vld1q_u8(levels[1] + i));
            y.val[0] = vreinterpretq_s64_u8(vld1q_u8(levels[2] + i));
            y.val[1] = vreinterpretq_s64_u8(vld1q_u8(levels[3] + i));
            vst2q_s64((int64_t *)(void *)(to + 2 * i), x);
            vst2q_s64((int64_t *)(void *)(to + 2 * 256 + 2 * i), y);
#else
            int32x4x4_t x;
            UNROLL for (r = 0; r < 4; r++) x.val[r] = vreinterpretq_s32_u8(vld1q_u8(levels[r] + i));
            vst4q_s32((int32_t *)(void *)(to + 4 * i), x);
#endif
        }
    }
}

/* Eight rows of a panel from w on times n weights of four tokens: exact sums.  Their order in acc: [token][four rows], or [two tokens][two rows] with row 0 of both
 * tokens, then row 1. */
#if defined(SMOLQ__CPU_I8MM)
INLINE int32x4_t CALL(dot_2x2)(int32x4_t acc, int8x16_t w, int64x2_t x)
{
    __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
}
INLINE void CALL(panel_dot)(const int8_t *w, int32_t n, const int8_t *const *x, int32x4_t *acc)
{
    int32_t i, p, t;
    UNROLL for (i = 0; i < 8; i++) acc[i] = CALL(none)();
    for (i = 0; i < n; i += 16)
        UNROLL for (t = 0; t < 2; t++) {
            int64x2_t x0 = vreinterpretq_s64_u8(BYTES(x[2 * t] + i)), x1 = vreinterpretq_s64_u8(BYTES(x[2 * t + 1] + i));
            UNROLL for (p = 0; p < 4; p++) {
                acc[4 * t + p] = CALL(dot_2x2)(acc[4 * t + p], vld1q_s8(w + 2 * 256 * p + 2 * i), vzip1q_s64(x0, x1));
                acc[4 * t + p] = CALL(dot_2x2)(acc[4 * t + p], vld1q_s8(w + 2 * 256 * p + 2 * i + 16), vzip2q_s64(x0, x1));
            }
        }
}
INLINE void CALL(panel_scales)(const int32_t *scale, int32x4_t *v)
{
    int32x4_t a = vld1q_s32(scale), b = vld1q_s32(scale + 4);
    v[0] = vzip1q_s32(a, a);
    v[1] = vzip2q_s32(a, a);
    v[2] = vzip1q_s32(b, b);
    v[3] = vzip2q_s32(b, b);
}
INLINE void CALL(panel_order)(int32x4_t *acc) /* to [token][four rows] */
{
    int32_t t;
    UNROLL for (t = 0; t < 2; t++) {
        int32x4_t a = acc[4 * t], b = acc[4 * t + 1], c = acc[4 * t + 2], d = acc[4 * t + 3];
        acc[4 * t] = vuzp1q_s32(a, b);
        acc[4 * t + 1] = vuzp1q_s32(c, d);
        acc[4 * t + 2] = vuzp2q_s32(a, b);
        acc[4 * t + 3] = vuzp2q_s32(c, d);
    }
}
#else
/* Lane i of x has four activations for four weights of each of four rows. */
#if defined(SMOLQ__CPU_DOTPROD)
#define DOT_LANE(acc, w, x, i) __asm__("sdot %0.4s, %1.16b, %2.4b[" #i "]" : "+w"(acc) : "w"(w), "w"(x))
#else
INLINE int32x4_t CALL(dot_4)(int32x4_t acc, int8x16_t w, int8x16_t x) { return vpadalq_s16(acc, vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x))); }
#define DOT_LANE(acc, w, x, i) acc = CALL(dot_4)(acc, w, vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), i)))
#endif
#define DOT_LANES(i) \
    w0 = vld1q_s8(w + 4 * k + 16 * i); \
    w1 = vld1q_s8(w + 4 * 256 + 4 * k + 16 * i); \
    UNROLL for (t = 0; t < 4; t++) { \
        DOT_LANE(acc[2 * t], w0, v[t], i); \
        DOT_LANE(acc[2 * t + 1], w1, v[t], i); \
    }
INLINE void CALL(panel_dot)(const int8_t *w, int32_t n, const int8_t *const *x, int32x4_t *acc)
{
    int8x16_t v[4], w0, w1;
    int32_t k, t;
    UNROLL for (k = 0; k < 8; k++) acc[k] = CALL(none)();
    for (k = 0; k < n; k += 16) {
        UNROLL for (t = 0; t < 4; t++) v[t] = vld1q_s8(x[t] + k);
        DOT_LANES(0)
        DOT_LANES(1)
        DOT_LANES(2)
        DOT_LANES(3)
    }
}
#undef DOT_LANES
#undef DOT_LANE
INLINE void CALL(panel_scales)(const int32_t *scale, int32x4_t *v)
{
    v[0] = vld1q_s32(scale);
    v[1] = vld1q_s32(scale + 4);
}
INLINE void CALL(panel_order)(int32x4_t *acc) { (void)acc; }
#endif

INLINE eight CALL(floats8)(const int32x4_t *acc) { return CALL(both)(vcvtq_f32_s32(acc[0]), vcvtq_f32_s32(acc[1])); }

/* A block of 256: x are its activations, sums their sums. */
INLINE void CALL(step_256)(const CALL(panel) *panel, int32_t n_runs, int mins, const int8_t *const *x, const int16_t *const *sums, const float *dx, float (*c)[16])
{
    int32_t half, run, i, t;
    for (half = 0; half < 2; half++) {
        int32x4_t acc[8], total[8], v[4];
        const int8_t *at[4];
        eight d = CALL(load8)(panel->d[0] + 8 * half);
        UNROLL for (i = 0; i < 8; i++) total[i] = CALL(none)();
        for (run = 0; run < n_runs; run++) {
            int32_t first = run * (256 / n_runs);
            UNROLL for (t = 0; t < 4; t++) at[t] = x[t] + first;
            CALL(panel_dot)(panel->w[half] + CALL(BYTES) * first, 256 / n_runs, at, acc);
            CALL(panel_scales)(panel->scale[run] + 8 * half, v);
            UNROLL for (i = 0; i < 8; i++) total[i] = vmlaq_s32(total[i], acc[i], v[i % CALL(SCALES)]);
        }
        CALL(panel_order)(total);
        UNROLL for (t = 0; t < 4; t++) CALL(store8)(c[t] + 8 * half, CALL(fma8)(CALL(mul8)(d, CALL(all8)(dx[t])), CALL(floats8)(total + 2 * t), CALL(load8)(c[t] + 8 * half)));
        if (!mins) continue;
        d = CALL(load8)(panel->dmin[0] + 8 * half);
        UNROLL for (i = 0; i < 8; i++) total[i] = CALL(none)();
        for (run = 0; run < n_runs; run++) {
            int16x8_t m = vld1q_s16(panel->mins[run] + 8 * half);
            UNROLL for (t = 0; t < 4; t++) {
                int16_t sum = n_runs == 8 ? (int16_t)(sums[t][2 * run] + sums[t][2 * run + 1]) : sums[t][run];
                total[2 * t] = vmlal_n_s16(total[2 * t], vget_low_s16(m), sum);
                total[2 * t + 1] = vmlal_high_n_s16(total[2 * t + 1], m, sum);
            }
        }
        UNROLL for (t = 0; t < 4; t++) CALL(store8)(c[t] + 8 * half, CALL(fma8)(CALL(mul8)(d, CALL(all8)(dx[t])), CALL(floats8)(total + 2 * t), CALL(load8)(c[t] + 8 * half)));
    }
}

/* Groups of `per` weights, each a float step of its own. */
INLINE void CALL(step_32)(const CALL(panel) *panel, int32_t per, int mins, const int8_t *const *x, const int16_t *const *sums, const float *const *dx, float (*c)[16])
{
    int32_t half, g, t;
    for (half = 0; half < 2; half++) {
        eight y[4];
        UNROLL for (t = 0; t < 4; t++) y[t] = CALL(load8)(c[t] + 8 * half);
        for (g = 0; g < panel->n_groups; g++) {
            int32x4_t acc[8];
            const int8_t *at[4];
            eight d = CALL(load8)(panel->d[g] + 8 * half);
            UNROLL for (t = 0; t < 4; t++) at[t] = x[t] + g * per;
            CALL(panel_dot)(panel->w[half] + CALL(BYTES) * g * per, per, at, acc);
            CALL(panel_order)(acc);
            UNROLL for (t = 0; t < 4; t++) {
                eight of_x = CALL(all8)(dx[t][g * per / 32]);
                y[t] = CALL(fma8)(CALL(mul8)(d, of_x), CALL(floats8)(acc + 2 * t), y[t]);
                if (mins) y[t] = CALL(fma8)(CALL(mul8)(CALL(load8)(panel->dmin[g] + 8 * half), of_x), CALL(all8)((float)(sums[t][2 * g] + sums[t][2 * g + 1])), y[t]);
            }
        }
        UNROLL for (t = 0; t < 4; t++) CALL(store8)(c[t] + 8 * half, y[t]);
    }
}

/* A panel's step for TOKENS tokens. */
static void CALL(panel_step)(const CALL(panel) *panel, const smolq__type *type, const uint8_t *const *x, size_t at_d, size_t at_sums, int32_t first, float (*c)[16])
{
    const int8_t *q[CALL(TOKENS)];
    const int16_t *sums[CALL(TOKENS)];
    const float *d[CALL(TOKENS)];
    int32_t t;
    for (t = 0; t < CALL(TOKENS); t++) {
        q[t] = (const int8_t *)x[t] + first;
        sums[t] = (const int16_t *)(const void *)(x[t] + at_sums) + first / 16;
        d[t] = (const float *)(const void *)(x[t] + at_d) + first / type->facts.group;
    }
    if (type->facts.group == 32) {
        if (CALL(mins_32)(type->id)) CALL(step_32)(panel, 32, 1, q, sums, d, c);
        else if (!CALL(halves_32)(type->id)) CALL(step_32)(panel, 32, 0, q, sums, d, c);
        else CALL(step_32)(panel, 16, 0, q, sums, d, c);
    } else {
        float dx[CALL(TOKENS)];
        for (t = 0; t < CALL(TOKENS); t++) dx[t] = d[t][0];
        if (CALL(mins_256)(type->id)) {
            if (panel->n_runs == 8) CALL(step_256)(panel, 8, 1, q, sums, dx, c);
            else CALL(step_256)(panel, 16, 1, q, sums, dx, c);
        } else {
            if (panel->n_runs == 8) CALL(step_256)(panel, 8, 0, q, sums, dx, c);
            else CALL(step_256)(panel, 16, 0, q, sums, dx, c);
        }
    }
}

/* Sixteen rows (or the n_rows that are left) for all tokens. */
static void CALL(many)(const smolq_run *run, const smolq_op_part *part, int32_t n_tokens, int32_t row, int32_t n_rows)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    int32_t n_cols = part->w->n_cols, tile, first, t, r, n_tile;
    size_t at_d = (size_t)smolq_a8_d(n_cols), at_sums = (size_t)smolq_a8_sums(n_cols, type->facts.group ? type->facts.group : 32);
    const uint8_t *w[16];
    CALL(panel) panel;
    float c[CALL(TILE) + CALL(TOKENS)][16];
    if (!type->ints) {
        CALL(many_floats)(run, part, n_tokens, row, n_rows);
        return;
    }
    for (tile = 0; tile < n_tokens; tile += n_tile) {
        n_tile = n_tokens - tile < CALL(TILE) ? n_tokens - tile : CALL(TILE);
        memset(c, 0, sizeof c);
        for (first = 0; first < n_cols; first += 256) {
            int32_t length = n_cols - first < 256 ? n_cols - first : 256;
            for (r = 0; r < 16; r++)
                w[r] = part->w->data + (uint64_t)(row + (r < n_rows ? r : n_rows - 1)) * part->w->row_bytes + (size_t)(first / type->facts.block_weights) * (size_t)type->facts.block_bytes;
            CALL(fill_panel)(&panel, type, w, length);
            for (t = 0; t < n_tile; t += CALL(TOKENS)) {
                const uint8_t *x[CALL(TOKENS)];
                int32_t i;
                for (i = 0; i < CALL(TOKENS); i++) { /* beyond the last token the last one again, for rows of c that nobody reads */
                    int32_t token = tile + (t + i < n_tile ? t + i : n_tile - 1);
                    x[i] = smolq_row(run, part->in, token);
                }
                CALL(panel_step)(&panel, type, x, at_d, at_sums, first, c + t);
            }
        }
        for (t = 0; t < n_tile; t++) {
            float *out = (float *)(void *)smolq_row(run, part->out, tile + t);
            CALL(put_rows)(part, out, row, c[t], n_rows);
        }
    }
}

#else /* x86 */
#define STORE256(p, x) _mm256_storeu_si256((__m256i *)(void *)(p), x)

/* Sixteen rows: those behind the last are the last again, and their results unread. */
typedef struct CALL(sixteen) {
    const uint8_t *p;           /* where the next blocks of the first row lie */
    int32_t        at[16];      /* rows from there, bytes */
} CALL(sixteen);

/* A dword of each of them.  each_ does the same with every one: each_top shifts right by n and keeps the sign;
 * each_bytes adds the bytes; each_blend takes a where mask has ones, b elsewhere; low_halves are the f16 in the low words. */
#define dwords SMOLQ__CPU(dwords)
#if defined(SMOLQ__CPU_AVX512)
typedef __m512i dwords;
#define DWORDS(x) _mm512_set1_epi32((int32_t)(x))
INLINE void   CALL(each_store)(void *p, dwords x) { _mm512_storeu_si512(p, x); }
INLINE dwords CALL(each_and)(dwords x, dwords y) { return _mm512_and_si512(x, y); }
INLINE dwords CALL(each_or)(dwords x, dwords y) { return _mm512_or_si512(x, y); }
INLINE dwords CALL(each_left)(dwords x, int32_t n) { return _mm512_slli_epi32(x, (unsigned)n); }
INLINE dwords CALL(each_right)(dwords x, int32_t n) { return _mm512_srli_epi32(x, (unsigned)n); }
INLINE dwords CALL(each_top)(dwords x, int32_t n) { return _mm512_srai_epi32(x, (unsigned)n); }
INLINE dwords CALL(each_times)(dwords x, dwords y) { return _mm512_mullo_epi32(x, y); }
INLINE dwords CALL(each_bytes)(dwords x, dwords y) { return _mm512_add_epi8(x, y); }
INLINE dwords CALL(each_blend)(dwords mask, dwords a, dwords b) { return BLEND(mask, a, b); }
INLINE lanes  CALL(low_halves)(dwords x) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)); }
#else
typedef struct dwords { __m256i a, b; } dwords;
INLINE dwords CALL(eights)(__m256i a, __m256i b) { dwords x; x.a = a; x.b = b; return x; }
INLINE dwords CALL(each_all)(int32_t x) { return CALL(eights)(_mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
#define DWORDS(x) CALL(each_all)((int32_t)(x))
INLINE void   CALL(each_store)(void *p, dwords x) { STORE256(p, x.a); STORE256((uint8_t *)p + 32, x.b); }
INLINE dwords CALL(each_and)(dwords x, dwords y) { return CALL(eights)(_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)); }
INLINE dwords CALL(each_or)(dwords x, dwords y) { return CALL(eights)(_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)); }
INLINE dwords CALL(each_left)(dwords x, int32_t n) { return CALL(eights)(_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)); }
INLINE dwords CALL(each_right)(dwords x, int32_t n) { return CALL(eights)(_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)); }
INLINE dwords CALL(each_top)(dwords x, int32_t n) { return CALL(eights)(_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)); }
INLINE dwords CALL(each_times)(dwords x, dwords y) { return CALL(eights)(_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)); }
INLINE dwords CALL(each_bytes)(dwords x, dwords y) { return CALL(eights)(_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)); }
INLINE dwords CALL(each_blend)(dwords mask, dwords a, dwords b) { return CALL(each_or)(CALL(each_and)(mask, a), CALL(eights)(_mm256_andnot_si256(mask.a, b.a), _mm256_andnot_si256(mask.b, b.b))); }
INLINE __m128i CALL(low_words)(__m256i x)
{
    x = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}
INLINE lanes  CALL(low_halves)(dwords x) { return CALL(both)(_mm256_cvtph_ps(CALL(low_words)(x.a)), _mm256_cvtph_ps(CALL(low_words)(x.b))); }
#endif

/* 16 bytes of each row as four dwords: lane r of c[i] is dword i of row r.  Packed bytes are transposed, after that all goes lane by lane. */
#if defined(SMOLQ__CPU_AVX512)
INLINE void CALL(columns)(const CALL(sixteen) *rows, int32_t at, dwords *c)
{
    __m512i x[4], a, b, d, e;
    const uint8_t *p = rows->p + at;
    int32_t i;
    UNROLL for (i = 0; i < 4; i++) {
        x[i] = _mm512_castsi128_si512(LOAD128(p + rows->at[i]));
        x[i] = _mm512_inserti32x4(x[i], LOAD128(p + rows->at[i + 4]), 1);
        x[i] = _mm512_inserti32x4(x[i], LOAD128(p + rows->at[i + 8]), 2);
        x[i] = _mm512_inserti32x4(x[i], LOAD128(p + rows->at[i + 12]), 3);
    }
    a = _mm512_unpacklo_epi32(x[0], x[1]);
    b = _mm512_unpacklo_epi32(x[2], x[3]);
    d = _mm512_unpackhi_epi32(x[0], x[1]);
    e = _mm512_unpackhi_epi32(x[2], x[3]);
    c[0] = _mm512_unpacklo_epi64(a, b);
    c[1] = _mm512_unpackhi_epi64(a, b);
    c[2] = _mm512_unpacklo_epi64(d, e);
    c[3] = _mm512_unpackhi_epi64(d, e);
}
#else
INLINE void CALL(columns_8)(const uint8_t *p, const int32_t *at, __m256i *c)
{
    __m256i x[4], a, b, d, e;
    int32_t i;
    UNROLL for (i = 0; i < 4; i++) x[i] = _mm256_set_m128i(LOAD128(p + at[i + 4]), LOAD128(p + at[i]));
    a = _mm256_unpacklo_epi32(x[0], x[1]);
    b = _mm256_unpacklo_epi32(x[2], x[3]);
    d = _mm256_unpackhi_epi32(x[0], x[1]);
    e = _mm256_unpackhi_epi32(x[2], x[3]);
    c[0] = _mm256_unpacklo_epi64(a, b);
    c[1] = _mm256_unpackhi_epi64(a, b);
    c[2] = _mm256_unpacklo_epi64(d, e);
    c[3] = _mm256_unpackhi_epi64(d, e);
}
INLINE void CALL(columns)(const CALL(sixteen) *rows, int32_t at, dwords *c)
{
    __m256i a[4], b[4];
    int32_t i;
    CALL(columns_8)(rows->p + at, rows->at, a);
    CALL(columns_8)(rows->p + at, rows->at + 8, b);
    UNROLL for (i = 0; i < 4; i++) c[i] = CALL(eights)(a[i], b[i]);
}
#endif
INLINE __m128i CALL(eight_words)(const uint8_t *p, const int32_t *at)
{
    return _mm_setr_epi16((int16_t)smolq_u16_at(p + at[0]), (int16_t)smolq_u16_at(p + at[1]), (int16_t)smolq_u16_at(p + at[2]), (int16_t)smolq_u16_at(p + at[3]),
                          (int16_t)smolq_u16_at(p + at[4]), (int16_t)smolq_u16_at(p + at[5]), (int16_t)smolq_u16_at(p + at[6]), (int16_t)smolq_u16_at(p + at[7]));
}
INLINE lanes CALL(halves)(const CALL(sixteen) *rows, int32_t at) /* an f16 of each */
{
    int16_t words[16];
    _mm_storeu_si128((__m128i *)(void *)words, CALL(eight_words)(rows->p + at, rows->at));
    _mm_storeu_si128((__m128i *)(void *)(words + 8), CALL(eight_words)(rows->p + at, rows->at + 8));
    return CALL(half)((const uint8_t *)words);
}
/* What the next step reads: the next blocks of these rows, at their end the first ones of the next rows. */
INLINE void CALL(fetch_ahead)(const CALL(sixteen) *rows, const smolq_op_part *part, int32_t n_rows, int32_t first)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    int32_t bytes = 256 / type->facts.block_weights * type->facts.block_bytes, r, b;
    const char *p = (const char *)rows->p + (first + 256 < part->w->n_cols ? (uint64_t)bytes : (uint64_t)n_rows * part->w->row_bytes - (uint64_t)first / 256 * (uint64_t)bytes);
    for (r = 0; r < 16; r++)
        for (b = 0; b < bytes + 63; b += 64) _mm_prefetch(p + rows->at[r] + b, _MM_HINT_T0);
}
INLINE lanes CALL(d_and_fifths)(const CALL(sixteen) *rows, int fifth, dwords *bits) /* of Q5_0, or d of Q4_0 */
{
    dwords x[4];
    *bits = DWORDS(0);
    if (!fifth) return CALL(halves)(rows, 0);
    CALL(columns)(rows, 0, x);
    *bits = CALL(each_or)(CALL(each_right)(x[0], 16), CALL(each_left)(x[1], 16));
    return CALL(low_halves)(x[0]);
}

#if !defined(SMOLQ__CPU_AMX)
/* A panel has four weights of each row side by side, and activations come four at a time in the same order, those of a few tokens after each other.  A run of a block of
 * 256 is summed on its own and multiplied by its scale: 64 products of bytes and 8 or 16 of integers instead of 128 of words.  One factor of a product of
 * bytes is unsigned:
 *     AVX-512   the activations, which get 128 added; so each sum starts at -128 times the sum of its weights, a number of the panel.
 *     AVX2      the weights, as codes, level + panel_offset; what the offset adds to a sum is known from the sums of the activations.  Products arrive two by two in 16
 *               bits, and where codes are small some are added there before they are widened.  Levels of 8 bits stay signed: their magnitudes are multiplied, and
 *               activations take their signs.
 *     AVX-VNNI  as AVX2, but any product fits, so all levels become codes. */
enum { CALL(AT_ONCE) = 1 };  /* panels */
#if defined(SMOLQ__CPU_AVX512)
enum { CALL(TOKENS) = 13,    /* two accumulators each fit in 32 registers, and five times 13 are a default batch */
       CALL(TILE) = 20 * 13 }; /* tokens that pass over a panel before it is unpacked again */
#else
enum { CALL(TOKENS) = 4,     /* their sums fit in 16 registers; six are no faster */
       CALL(TILE) = 256 };
#endif
enum { CALL(DWORDS_256) = 64 + 8 + 1, CALL(DWORDS_32) = 8 + 1 + 1 }; /* of each token: bytes, pairs of sums (AVX-512's blocks of 32: their sum as float), scale */
static const smolq__cpu_layout CALL(layout) = { CALL(TOKENS), CALL(DWORDS_256) * CALL(TOKENS) * 4, CALL(DWORDS_32) * CALL(TOKENS) * 4 };

typedef struct CALL(panel) {
    int8_t  w[64][64];     /* [four weights][row][4] */
    int32_t start[16][16]; /* [run or block of 32][row], of AVX-512 */
    int32_t scale[16][16]; /* [run][row] */
    int16_t mins[8][32];   /* two of each row; AVX2: or what an offset takes away */
    float   d[8][16], dmin[8][16];
    int32_t n_runs;        /* 8, 16; of blocks of 32 their number */
} __attribute__((aligned(64))) CALL(panel);

#if defined(SMOLQ__CPU_VNNI)
enum { CALL(ANY_BYTE) = 1 };
#else
enum { CALL(ANY_BYTE) = 0 };
#endif
INLINE int32_t CALL(panel_offset)(int32_t id) /* what codes are above their levels */
{
#if defined(SMOLQ__CPU_AVX512)
    (void)id;
    return 0;
#else
    if (id == SMOLQ_TYPE_MXFP4 || id == SMOLQ_TYPE_NVFP4) return 12;
    if (CALL(signed_256)(id) || CALL(flips_256)(id) || CALL(signed_32)(id)) return CALL(ANY_BYTE) ? 128 : 0;
    return CALL(offset_256)(id) + CALL(offset_32)(id);
#endif
}

INLINE void CALL(put_dwords)(CALL(panel) *panel, int32_t k, dwords w, int32_t add) { CALL(each_store)(panel->w[k], add ? CALL(each_bytes)(w, DWORDS((uint32_t)(add & 255) * 0x01010101u)) : w); }

/* Q4_K and Q5_K: see smolq__scales_6_bit. */
INLINE void CALL(panel_q45_k)(CALL(panel) *panel, const CALL(sixteen) *rows, int fifth)
{
    const dwords m6 = DWORDS(0x3f3f3f3f), m4 = DWORDS(0x0f0f0f0f), m2 = DWORDS(0x03030303), m16 = DWORDS(0x10101010), m8 = DWORDS(255);
    dwords h[4], sc[2], mn[2], x[8], high[8];
    int32_t i, k;
    CALL(columns)(rows, 0, h);
    CALL(store)(panel->d[0], CALL(low_halves)(h[0]));
    CALL(store)(panel->dmin[0], CALL(sub)(CALL(all)(-0.0f), CALL(low_halves)(CALL(each_right)(h[0], 16))));
    sc[0] = CALL(each_and)(h[1], m6);
    mn[0] = CALL(each_and)(h[2], m6);
    sc[1] = CALL(each_or)(CALL(each_and)(h[3], m4), CALL(each_left)(CALL(each_and)(CALL(each_right)(h[1], 6), m2), 4));
    mn[1] = CALL(each_or)(CALL(each_and)(CALL(each_right)(h[3], 4), m4), CALL(each_left)(CALL(each_and)(CALL(each_right)(h[2], 6), m2), 4));
    UNROLL for (i = 0; i < 8; i++) { /* a minimum serves two runs of 16 */
        dwords m = CALL(each_and)(CALL(each_right)(mn[i / 4], 8 * (i % 4)), m8);
        CALL(each_store)(panel->mins[i], CALL(each_or)(m, CALL(each_left)(m, 16)));
        CALL(each_store)(panel->scale[i], CALL(each_and)(CALL(each_right)(sc[i / 4], 8 * (i % 4)), m8));
    }
    if (fifth) {
        CALL(columns)(rows, 16, high);
        CALL(columns)(rows, 32, high + 4);
    }
    UNROLL for (k = 0; k < 4; k++) { /* 64 weights: run 2k in the low nibbles, 2k + 1 in the high ones */
        CALL(columns)(rows, (fifth ? 48 : 16) + 32 * k, x);
        CALL(columns)(rows, (fifth ? 64 : 32) + 32 * k, x + 4);
        UNROLL for (i = 0; i < 8; i++) {
            dwords a = CALL(each_and)(x[i], m4), b = CALL(each_and)(CALL(each_right)(x[i], 4), m4);
            if (fifth) {
                a = CALL(each_or)(a, CALL(each_and)(k < 2 ? CALL(each_left)(high[i], 4 - 2 * k) : CALL(each_right)(high[i], 2 * k - 4), m16));
                b = CALL(each_or)(b, CALL(each_and)(k < 2 ? CALL(each_left)(high[i], 3 - 2 * k) : CALL(each_right)(high[i], 2 * k - 3), m16));
            }
            CALL(put_dwords)(panel, 16 * k + i, a, 0);
            CALL(put_dwords)(panel, 16 * k + 8 + i, b, 0);
        }
    }
    panel->n_runs = 8;
}

INLINE void CALL(panel_q6_k)(CALL(panel) *panel, const CALL(sixteen) *rows)
{
    const dwords m4 = DWORDS(0x0f0f0f0f), m6 = DWORDS(0x3f3f3f3f);
    dwords sc[4], a[4], b[4], h[4];
    int32_t part, g, i;
    CALL(columns)(rows, 192, sc);
    CALL(store)(panel->d[0], CALL(halves)(rows, 208));
    UNROLL for (i = 0; i < 16; i++) CALL(each_store)(panel->scale[i], CALL(each_top)(CALL(each_left)(sc[i / 4], 24 - 8 * (i % 4)), 24));
    UNROLL for (part = 0; part < 4; part++) { /* half n of the block, half s of each 32 */
        int32_t n = part >> 1, s = part & 1;
        CALL(columns)(rows, n * 64 + s * 16, a);
        CALL(columns)(rows, n * 64 + 32 + s * 16, b);
        CALL(columns)(rows, 128 + n * 32 + s * 16, h);
        UNROLL for (g = 0; g < 4; g++) { /* weights n * 128 + g * 32 + s * 16 and on */
            UNROLL for (i = 0; i < 4; i++) {
                dwords q = g & 1 ? b[i] : a[i], top = g < 2 ? CALL(each_left)(h[i], 4 - 2 * g) : CALL(each_right)(h[i], 2 * g - 4);
                q = CALL(each_blend)(m4, g < 2 ? q : CALL(each_right)(q, 4), top); /* 6 bits, rubbish above */
                CALL(put_dwords)(panel, n * 32 + g * 8 + s * 4 + i, CALL(each_and)(q, m6), CALL(panel_offset)(SMOLQ_TYPE_Q6_K) - 32);
            }
        }
    }
    panel->n_runs = 16;
}

/* Any type in blocks of 256, row by row. */
INLINE void CALL(panel_256)(CALL(panel) *panel, const CALL(sixteen) *rows, const smolq__type *type)
{
    const codes offset = CALL(code_all)(CALL(panel_offset)(type->id));
    int8_t levels[16][256];
    CALL(sixteen) from;
    int32_t r, i;
    for (r = 0; r < 16; r++) {
        CALL(block) block;
        int16_t scales[16], mins[16];
        CALL(block_any)(&block, type->id, rows->p + rows->at[r], &panel->d[0][r], &panel->dmin[0][r]);
        STORE256(scales, block.scales);
        UNROLL for (i = 0; i < 8; i++) STORE256(levels[r] + 32 * i, CALL(code_add)(CALL(levels)(type->id, &block, i), offset));
        for (i = 0; i < 16; i++) panel->scale[i][r] = scales[i];
        if (CALL(mins_256)(type->id)) {
            STORE256(mins, block.mins);
            for (i = 0; i < 16; i++) panel->mins[i / 2][2 * r + i % 2] = mins[i];
        }
        from.at[r] = r * 256;
    }
    from.p = (const uint8_t *)levels[0];
    for (i = 0; i < 64; i += 4) {
        dwords x[4];
        CALL(columns)(&from, 4 * i, x);
        for (r = 0; r < 4; r++) CALL(put_dwords)(panel, i + r, x[r], 0);
    }
    panel->n_runs = 16;
}

/* Block b of Q8_0; of Q4_0 and Q5_0; of the other types in blocks of 32. */
INLINE void CALL(panel_q8_0)(CALL(panel) *panel, int32_t b, const CALL(sixteen) *rows)
{
    dwords x[8];
    int32_t i;
    CALL(store)(panel->d[b], CALL(halves)(rows, 0));
    CALL(columns)(rows, 2, x);
    CALL(columns)(rows, 18, x + 4);
    UNROLL for (i = 0; i < 8; i++) CALL(put_dwords)(panel, 8 * b + i, x[i], CALL(panel_offset)(SMOLQ_TYPE_Q8_0));
}
INLINE void CALL(panel_q45_0)(CALL(panel) *panel, int32_t b, const CALL(sixteen) *rows, int fifth)
{
    const dwords m4 = DWORDS(0x0f0f0f0f);
    dwords x[4], qh;
    int32_t i, high, id = fifth ? SMOLQ_TYPE_Q5_0 : SMOLQ_TYPE_Q4_0;
    CALL(store)(panel->d[b], CALL(d_and_fifths)(rows, fifth, &qh));
    CALL(columns)(rows, fifth ? 6 : 2, x);
    UNROLL for (i = 0; i < 4; i++)
        UNROLL for (high = 0; high < 2; high++) { /* weights 16 * high + 4 * i and on */
            dwords q = CALL(each_and)(high ? CALL(each_right)(x[i], 4) : x[i], m4);
            if (fifth) { /* four bits to bit 4 of four bytes: 1 + 2^7 + 2^14 + 2^21 moves bit k to 8k, and nothing else there */
                dwords bits = CALL(each_times)(CALL(each_and)(CALL(each_right)(qh, 16 * high + 4 * i), DWORDS(15)), DWORDS(0x00204081));
                q = CALL(each_or)(q, CALL(each_left)(CALL(each_and)(bits, DWORDS(0x01010101)), 4));
            }
            CALL(put_dwords)(panel, 8 * b + 4 * high + i, q, CALL(panel_offset)(id) - CALL(offset_32)(id));
        }
}
INLINE void CALL(panel_32)(CALL(panel) *panel, int32_t b, const CALL(sixteen) *rows, int32_t id, int32_t part)
{
    const codes offset = CALL(code_all)(CALL(panel_offset)(id));
    uint8_t levels[16][32];
    CALL(sixteen) from;
    dwords x[8];
    int32_t r, i;
    for (r = 0; r < 16; r++) {
        STORE256(levels[r], CALL(code_add)(CALL(levels_32)(id, rows->p + rows->at[r], part, &panel->d[b][r], &panel->dmin[b][r]), offset));
        from.at[r] = r * 32;
    }
    from.p = levels[0];
    CALL(columns)(&from, 0, x);
    CALL(columns)(&from, 16, x + 4);
    UNROLL for (i = 0; i < 8; i++) CALL(put_dwords)(panel, 8 * b + i, x[i], 0);
}

/* The next n weights of 16 rows. */
static void CALL(fill_panel)(CALL(panel) *panel, const CALL(sixteen) *rows, const smolq__type *type, int32_t n)
{
    CALL(sixteen) at = *rows;
    int32_t b, bytes = type->facts.block_bytes, parts = CALL(parts_32)(type->id);
    if (type->facts.group == 256) {
        switch (type->id) {
        case SMOLQ_TYPE_Q4_K: CALL(panel_q45_k)(panel, rows, 0); break;
        case SMOLQ_TYPE_Q5_K: CALL(panel_q45_k)(panel, rows, 1); break;
        case SMOLQ_TYPE_Q6_K: CALL(panel_q6_k)(panel, rows); break;
        default:              CALL(panel_256)(panel, rows, type); break;
        }
    } else {
        for (b = 0; b < n / 32; b++, at.p += b % parts ? 0 : bytes)
            switch (type->id) {
            case SMOLQ_TYPE_Q4_0: CALL(panel_q45_0)(panel, b, &at, 0); break;
            case SMOLQ_TYPE_Q5_0: CALL(panel_q45_0)(panel, b, &at, 1); break;
            case SMOLQ_TYPE_Q8_0: CALL(panel_q8_0)(panel, b, &at); break;
            default:              CALL(panel_32)(panel, b, &at, type->id, b % parts); break;
            }
        panel->n_runs = CALL(halves_32)(type->id) ? n / 16 : n / 32;
    }
#if defined(SMOLQ__CPU_AVX512)
    for (b = 0; b < panel->n_runs; b++) {
        __m512i sum = _mm512_setzero_si512();
        int32_t per_run = n / 4 / panel->n_runs, k;
        for (k = 0; k < per_run; k++) sum = _mm512_dpbusd_epi32(sum, DWORDS(0x80808080), _mm512_loadu_si512(panel->w[b * per_run + k]));
        _mm512_storeu_si512(panel->start[b], _mm512_sub_epi32(_mm512_setzero_si512(), sum));
    }
#else
    if (type->facts.group == 256 && !CALL(mins_256)(type->id))
        for (b = 0; b < 16; b++) {
            const __m256i take = _mm256_set1_epi16((int16_t)-CALL(panel_offset)(type->id));
            __m256i low = LOAD256(panel->scale[b / 2 * 2] + b % 2 * 8), high = LOAD256(panel->scale[b / 2 * 2 + 1] + b % 2 * 8);
            STORE256(panel->mins[b / 2] + b % 2 * 16, _mm256_mullo_epi16(_mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa), take));
        }
#endif
}

/* The activations of a token, as quantized, into its column of the records. */
static void CALL(arrange)(const smolq_run *run, const smolq_op *op, int32_t row)
{
    enum { T = CALL(TOKENS) };
    const uint8_t *x = smolq_row(run, op->out, row), *d = x + smolq_a8_d(op->n), *sums = x + smolq_a8_sums(op->n, op->group);
    uint8_t *to = smolq__cpu_record(&CALL(layout), run, op->out, row / T) + row % T * 4;
    int32_t b, k, dwords_x = op->group / 4, pairs = op->group / 32;
    for (b = 0; b < op->n / op->group; b++, x += op->group, d += 4, sums += op->group / 8) {
        for (k = 0; k < dwords_x; k++, to += T * 4) {
#if defined(SMOLQ__CPU_AVX512)
            uint32_t q = smolq_u32_at(x + 4 * k) ^ 0x80808080u;
            memcpy(to, &q, 4);
#else
            memcpy(to, x + 4 * k, 4);
#endif
        }
#if defined(SMOLQ__CPU_AVX512)
        if (op->group == 32) {
            float sum = (float)((int16_t)smolq_u16_at(sums) + (int16_t)smolq_u16_at(sums + 2));
            memcpy(to, &sum, 4);
            to += T * 4;
        } else
#endif
            for (k = 0; k < pairs; k++, to += T * 4) memcpy(to, sums + 4 * k, 4);
        memcpy(to, d, 4);
        to += T * 4;
    }
}

#if defined(SMOLQ__CPU_AVX512)
/* n rows of a panel times 13 tokens, x [n][13]. */
INLINE void CALL(panel_dot)(int8_t (*w)[64], int32_t n, const int32_t *x, __m512i start, __m512i *acc)
{
    int32_t k, t;
    UNROLL for (t = 0; t < CALL(TOKENS); t++) acc[t] = start;
    UNROLL for (k = 0; k < n; k++, x += CALL(TOKENS)) {
        __m512i v = _mm512_loadu_si512(w[k]);
        UNROLL for (t = 0; t < CALL(TOKENS); t++) acc[t] = _mm512_dpbusd_epi32(acc[t], _mm512_set1_epi32(x[t]), v);
    }
}

INLINE void CALL(step_256)(CALL(panel) *panel, int32_t n_runs, int mins, const int32_t *x, float (*c)[16])
{
    enum { T = CALL(TOKENS) };
    const int32_t *sums = x + 64 * T;
    const float *dx = (const float *)(const void *)(sums + 8 * T);
    __m512i acc[T], total[T], v;
    lanes d = CALL(load)(panel->d[0]);
    int32_t run, k, t;
    UNROLL for (t = 0; t < T; t++) total[t] = _mm512_setzero_si512();
    for (run = 0; run < n_runs; run++) {
        CALL(panel_dot)(panel->w + run * (64 / n_runs), 64 / n_runs, x + run * (64 / n_runs) * T, _mm512_loadu_si512(panel->start[run]), acc);
        v = _mm512_loadu_si512(panel->scale[run]);
        UNROLL for (t = 0; t < T; t++) total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(acc[t], v));
    }
    UNROLL for (t = 0; t < T; t++) CALL(store)(c[t], CALL(fma)(_mm512_mul_ps(d, CALL(all)(dx[t])), _mm512_cvtepi32_ps(total[t]), CALL(load)(c[t])));
    if (!mins) return;
    d = CALL(load)(panel->dmin[0]);
    UNROLL for (t = 0; t < T; t++) acc[t] = _mm512_setzero_si512();
    for (k = 0; k < 8; k++, sums += T) {
        v = _mm512_loadu_si512(panel->mins[k]);
        UNROLL for (t = 0; t < T; t++) acc[t] = _mm512_dpwssd_epi32(acc[t], v, _mm512_set1_epi32(sums[t]));
    }
    UNROLL for (t = 0; t < T; t++) CALL(store)(c[t], CALL(fma)(_mm512_mul_ps(d, CALL(all)(dx[t])), _mm512_cvtepi32_ps(acc[t]), CALL(load)(c[t])));
}

INLINE void CALL(step_32)(CALL(panel) *panel, int mins, const int32_t *x, float (*c)[16])
{
    enum { T = CALL(TOKENS) };
    lanes y[T];
    int32_t b, t;
    UNROLL for (t = 0; t < T; t++) y[t] = CALL(load)(c[t]);
    for (b = 0; b < panel->n_runs; b++, x += CALL(DWORDS_32) * T) {
        const float *sum = (const float *)(const void *)(x + 8 * T), *dx = sum + T;
        lanes d = CALL(load)(panel->d[b]), m = mins ? CALL(load)(panel->dmin[b]) : d;
        __m512i acc[T];
        CALL(panel_dot)(panel->w + 8 * b, 8, x, _mm512_loadu_si512(panel->start[b]), acc);
        UNROLL for (t = 0; t < T; t++) {
            y[t] = CALL(fma)(_mm512_mul_ps(d, CALL(all)(dx[t])), _mm512_cvtepi32_ps(acc[t]), y[t]);
            if (mins) y[t] = CALL(fma)(_mm512_mul_ps(m, CALL(all)(dx[t])), CALL(all)(sum[t]), y[t]);
        }
    }
    UNROLL for (t = 0; t < T; t++) CALL(store)(c[t], y[t]);
}

/* NVFP4: each half has its scale. */
INLINE void CALL(step_16)(CALL(panel) *panel, const int32_t *x, float (*c)[16])
{
    enum { T = CALL(TOKENS) };
    lanes y[T];
    int32_t g, t;
    UNROLL for (t = 0; t < T; t++) y[t] = CALL(load)(c[t]);
    for (g = 0; g < panel->n_runs; g++) {
        const int32_t *q = x + (g / 2 * CALL(DWORDS_32) + g % 2 * 4) * T;
        const float *dx = (const float *)(const void *)(x + (g / 2 * CALL(DWORDS_32) + 9) * T);
        lanes d = CALL(load)(g % 2 ? panel->dmin[g / 2] : panel->d[g / 2]);
        __m512i acc[T];
        CALL(panel_dot)(panel->w + 4 * g, 4, q, _mm512_loadu_si512(panel->start[g]), acc);
        UNROLL for (t = 0; t < T; t++) y[t] = CALL(fma)(_mm512_mul_ps(d, CALL(all)(dx[t])), _mm512_cvtepi32_ps(acc[t]), y[t]);
    }
    UNROLL for (t = 0; t < T; t++) CALL(store)(c[t], y[t]);
}

INLINE void CALL(panel_step)(CALL(panel) *panel, const smolq__type *type, const int32_t *x, float (*c)[16])
{
    if (CALL(mins_32)(type->id)) CALL(step_32)(panel, 1, x, c);
    else if (CALL(halves_32)(type->id)) CALL(step_16)(panel, x, c);
    else if (type->facts.group == 32) CALL(step_32)(panel, 0, x, c);
    else if (type->id == SMOLQ_TYPE_Q4_K || type->id == SMOLQ_TYPE_Q5_K) CALL(step_256)(panel, 8, 1, x, c);
    else if (type->id == SMOLQ_TYPE_Q2_K) CALL(step_256)(panel, 16, 1, x, c);
    else CALL(step_256)(panel, 16, 0, x, c);
}

#else
/* So many times two products of a code, up to 15, 31 or 63, and an activation fit in 16 bits.  None: the codes are signed, and once is what fits. */
INLINE int32_t CALL(panel_room)(int32_t id)
{
    if (CALL(ANY_BYTE)) return 8;
    switch (id) {
    case SMOLQ_TYPE_Q4_K: case SMOLQ_TYPE_Q4_0: case SMOLQ_TYPE_Q4_1: case SMOLQ_TYPE_Q1_0: case SMOLQ_TYPE_Q2_0: return 8;
    case SMOLQ_TYPE_Q5_K: case SMOLQ_TYPE_Q5_0: case SMOLQ_TYPE_Q5_1: case SMOLQ_TYPE_MXFP4: case SMOLQ_TYPE_NVFP4: case SMOLQ_TYPE_Q2_K: case SMOLQ_TYPE_Q3_K:
    case SMOLQ_TYPE_IQ1_S: case SMOLQ_TYPE_IQ1_M: case SMOLQ_TYPE_TQ1_0: case SMOLQ_TYPE_TQ2_0: return 4;
    case SMOLQ_TYPE_Q6_K: return 2;
    default: return 0;
    }
}

#define IN_ORDER(x) __asm__("" : "+x"(x)) /* or GCC adds pairs of products first, and runs out of registers */

/* acc[t][half] += scale * the products of n rows of a panel and TOKENS tokens, x [n][TOKENS].  Without scale it is 1. */
#if defined(SMOLQ__CPU_VNNI)
INLINE void CALL(panel_dot)(int8_t (*w)[64], int32_t n, const int32_t *x, int32_t room, const int32_t *scale, __m256i (*acc)[2])
{
    enum { T = CALL(TOKENS) };
    __m256i sum[T][2], v[2];
    int32_t k, t, h;
    (void)room;
    UNROLL for (t = 0; t < T; t++) UNROLL for (h = 0; h < 2; h++) sum[t][h] = scale ? _mm256_setzero_si256() : acc[t][h];
    UNROLL for (k = 0; k < n; k++, x += T) {
        UNROLL for (h = 0; h < 2; h++) v[h] = LOAD256(w[k] + 32 * h);
        UNROLL for (t = 0; t < T; t++) {
            __m256i q = _mm256_set1_epi32(x[t]);
            UNROLL for (h = 0; h < 2; h++) sum[t][h] = _mm256_dpbusd_avx_epi32(sum[t][h], v[h], q);
        }
    }
    UNROLL for (h = 0; h < 2; h++) {
        if (scale) v[h] = LOAD256(scale + 8 * h);
        UNROLL for (t = 0; t < T; t++) acc[t][h] = scale ? _mm256_add_epi32(acc[t][h], _mm256_mullo_epi32(sum[t][h], v[h])) : sum[t][h];
    }
}
#else
INLINE void CALL(panel_dot)(int8_t (*w)[64], int32_t n, const int32_t *x, int32_t room, const int32_t *scale, __m256i (*acc)[2])
{
    enum { T = CALL(TOKENS) };
    __m256i sum[T][2], v[2], s[2];
    int32_t k, t, h, first;
    UNROLL for (h = 0; h < 2; h++) {
        s[h] = scale ? LOAD256(scale + 8 * h) : _mm256_set1_epi16(1);
        if (scale) s[h] = _mm256_blend_epi16(s[h], _mm256_slli_epi32(s[h], 16), 0xaa);
    }
    if (!room)
        UNROLL for (h = 0; h < 2; h++)
            UNROLL for (k = 0; k < n; k++) {
                v[0] = LOAD256(w[k] + 32 * h);
                UNROLL for (t = 0; t < T; t++) {
                    acc[t][h] = CALL(dot_words)(acc[t][h], CALL(mul_codes)(v[0], _mm256_set1_epi32(x[k * T + t]), 1), s[h]);
                    IN_ORDER(acc[t][h]);
                }
            }
    else
        UNROLL for (first = 0; first < n; first += room) {
            UNROLL for (k = first; k < first + room; k++) {
                UNROLL for (h = 0; h < 2; h++) v[h] = LOAD256(w[k] + 32 * h);
                UNROLL for (t = 0; t < T; t++) {
                    __m256i q = _mm256_set1_epi32(x[k * T + t]);
                    UNROLL for (h = 0; h < 2; h++) {
                        sum[t][h] = k == first ? _mm256_maddubs_epi16(v[h], q) : _mm256_add_epi16(sum[t][h], _mm256_maddubs_epi16(v[h], q));
                        IN_ORDER(sum[t][h]);
                    }
                }
            }
            UNROLL for (t = 0; t < T; t++)
                UNROLL for (h = 0; h < 2; h++) {
                    acc[t][h] = CALL(dot_words)(acc[t][h], sum[t][h], s[h]);
                    IN_ORDER(acc[t][h]);
                }
        }
}
#endif

/* The float step: c += d * dx * acc. */
INLINE void CALL(panel_add)(const float *d, const float *dx, __m256i (*acc)[2], float (*c)[16])
{
    int32_t t, h;
    UNROLL for (h = 0; h < 2; h++) {
        __m256 dw = _mm256_loadu_ps(d + 8 * h);
        UNROLL for (t = 0; t < CALL(TOKENS); t++)
            _mm256_storeu_ps(c[t] + 8 * h, _mm256_fmadd_ps(_mm256_mul_ps(dw, _mm256_set1_ps(dx[t])), _mm256_cvtepi32_ps(acc[t][h]), _mm256_loadu_ps(c[t] + 8 * h)));
    }
}

INLINE void CALL(panel_mins)(CALL(panel) *panel, const int32_t *sums, __m256i (*acc)[2]) /* of a block of 256 */
{
    enum { T = CALL(TOKENS) };
    int32_t k, t, h;
    UNROLL for (t = 0; t < T; t++) acc[t][0] = acc[t][1] = _mm256_setzero_si256();
    UNROLL for (k = 0; k < 8; k++)
        UNROLL for (t = 0; t < T; t++) {
            __m256i pair = _mm256_set1_epi32(sums[k * T + t]);
            UNROLL for (h = 0; h < 2; h++) {
                acc[t][h] = CALL(dot_words)(acc[t][h], LOAD256(panel->mins[k] + 16 * h), pair);
                IN_ORDER(acc[t][h]);
            }
        }
}

INLINE void CALL(step_256)(CALL(panel) *panel, int32_t n_runs, int32_t room, int mins, const int32_t *x, float (*c)[16])
{
    enum { T = CALL(TOKENS) };
    const int32_t *sums = x + 64 * T;
    const float *dx = (const float *)(const void *)(sums + 8 * T);
    __m256i acc[T][2];
    int32_t run, t;
    if (mins || !room) { UNROLL for (t = 0; t < T; t++) acc[t][0] = acc[t][1] = _mm256_setzero_si256(); }
    else CALL(panel_mins)(panel, sums, acc);
    for (run = 0; run < n_runs; run++) CALL(panel_dot)(panel->w + run * (64 / n_runs), 64 / n_runs, x + run * (64 / n_runs) * T, room, panel->scale[run], acc);
    CALL(panel_add)(panel->d[0], dx, acc, c);
    if (!mins) return;
    CALL(panel_mins)(panel, sums, acc);
    CALL(panel_add)(panel->dmin[0], dx, acc, c);
}

/* Groups of `per` weights, each a float step of its own: blocks of 32, or their halves. */
INLINE void CALL(step_32)(CALL(panel) *panel, int32_t per, int32_t room, int mins, int32_t offset, const int32_t *x, float (*c)[16])
{
    enum { T = CALL(TOKENS) };
    const __m256i take = _mm256_set1_epi32(per == 32 ? (int32_t)((uint32_t)(offset & 0xffff) * 0x10001u) : offset & 0xffff);
    __m256i acc[T][2];
    int32_t g, t;
    for (g = 0; g < panel->n_runs; g++) {
        int32_t b = g * per / 32, second = g * per % 32;
        const int32_t *q = x + (b * CALL(DWORDS_32) + second / 4) * T, *sums = x + (b * CALL(DWORDS_32) + 8) * T;
        const float *dx = (const float *)(const void *)(sums + T);
        UNROLL for (t = 0; t < T; t++) {
            __m256i pair = _mm256_set1_epi32(sums[t]);
            acc[t][0] = acc[t][1] = mins || !room ? _mm256_setzero_si256() : _mm256_madd_epi16(pair, second ? _mm256_slli_epi32(take, 16) : take);
        }
        CALL(panel_dot)(panel->w + g * per / 4, per / 4, q, room, NULL, acc);
        CALL(panel_add)(second ? panel->dmin[b] : panel->d[b], dx, acc, c);
        if (!mins) continue;
        UNROLL for (t = 0; t < T; t++) acc[t][0] = acc[t][1] = _mm256_madd_epi16(_mm256_set1_epi32(sums[t]), _mm256_set1_epi16(1));
        CALL(panel_add)(panel->dmin[b], dx, acc, c);
    }
}

INLINE void CALL(panel_step)(CALL(panel) *panel, const smolq__type *type, const int32_t *x, float (*c)[16])
{
    int32_t room = CALL(panel_room)(type->id), offset = -CALL(panel_offset)(type->id);
    if (type->facts.group == 256) {
        if (panel->n_runs == 8) {
            if (room >= 8) CALL(step_256)(panel, 8, 8, 1, x, c);
            else CALL(step_256)(panel, 8, 4, 1, x, c);
        } else if (CALL(mins_256)(type->id)) CALL(step_256)(panel, 16, 4, 1, x, c);
        else if (room >= 4) CALL(step_256)(panel, 16, 4, 0, x, c);
        else if (room) CALL(step_256)(panel, 16, 2, 0, x, c);
        else CALL(step_256)(panel, 16, 0, 0, x, c);
    } else if (CALL(halves_32)(type->id)) CALL(step_32)(panel, 16, 4, 0, offset, x, c);
    else if (CALL(mins_32)(type->id)) {
        if (room >= 8) CALL(step_32)(panel, 32, 8, 1, offset, x, c);
        else CALL(step_32)(panel, 32, 4, 1, offset, x, c);
    } else if (room >= 8) CALL(step_32)(panel, 32, 8, 0, offset, x, c);
    else if (room) CALL(step_32)(panel, 32, 4, 0, offset, x, c);
    else CALL(step_32)(panel, 32, 0, 0, offset, x, c);
}
#endif

/* Sixteen rows (or the n_rows that are left) for all tokens. */
static void CALL(many)(const smolq_run *run, const smolq_op_part *part, int32_t n_tokens, int32_t row, int32_t n_rows)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    int32_t n_cols = part->w->n_cols, tile, first, t, r;
    size_t block = (size_t)type->facts.block_weights, bytes = (size_t)type->facts.block_bytes, at, record;
    CALL(sixteen) rows;
    CALL(panel) panel;
    float c[CALL(TILE)][16];
    if (!type->ints) {
        CALL(many_floats)(run, part, n_tokens, row, n_rows);
        return;
    }
    record = (size_t)(type->facts.group == 256 ? CALL(layout).record_256 : 8 * CALL(layout).record_32);
    for (r = 0; r < 16; r++) rows.at[r] = (int32_t)((size_t)(r < n_rows ? r : n_rows - 1) * part->w->row_bytes);
    for (tile = 0; tile < n_tokens; tile += CALL(TILE)) {
        int32_t n_tile = n_tokens - tile < CALL(TILE) ? n_tokens - tile : CALL(TILE);
        memset(c, 0, sizeof c);
        for (first = 0, at = 0; first < n_cols; first += 256, at += record) {
            rows.p = part->w->data + (uint64_t)row * part->w->row_bytes + (size_t)first / block * bytes;
            CALL(fetch_ahead)(&rows, part, 16, first);
            CALL(fill_panel)(&panel, &rows, type, n_cols - first < 256 ? n_cols - first : 256);
            for (t = 0; t < n_tile; t += CALL(TOKENS))
                CALL(panel_step)(&panel, type, (const int32_t *)(const void *)(smolq__cpu_record(&CALL(layout), run, part->in, (tile + t) / CALL(TOKENS)) + at), c + t);
        }
        for (t = 0; t < n_tile; t++) {
            float *out = (float *)(void *)smolq_row(run, part->out, tile + t);
            CALL(put_rows)(part, out, row, c[t], n_rows);
        }
    }
}
#else
/* ---- products by tiles, many tokens (AMX) ----
 *
 * A tile product adds 16 tokens times 16 rows over 64 bytes of a row.  Thirty-two rows of 256 weights are unpacked into 16 KB of tiles, which stay in the
 * first-level cache while all tokens pass over them.  Two ways, both exact:
 *
 * Blocks of 256: a weight is an integer of up to 16 bits, scale * level, and goes as two planes of bytes, high * 2^shift + low.  So eight tile products over the whole
 * block leave one float step.  Q4_K and Q5_K split the scale, 8 * high + low: 7 * 31 fits a byte and one 16-bit multiplication does two levels.  The others
 * split the product, shift 8.  The sums for the minimums go as bf16, 64 * h + l, one product.
 *
 * Blocks of 32: levels and activations go as bf16, 32 to a tile.  All are small integers (8 bits, sums below 2^24), so nothing ever rounds, and results are floats
 * already.  A tile product takes 16 cycles whatever its depth, so int8 would not be faster.
 *
 * A result stays in its tile until the tile is needed again, and the float steps of the results before run between the products: a store right behind its product
 * costs 28 cycles, four products later 18 (measured on a Granite Rapids at M = 512, as is the shape of the loops below). */

enum { CALL(AT_ONCE) = 2 };  /* panels */
enum { /* of sixteen tokens: a block of 256 as int8 [4][16][64], bf16 [16][32] from the sums and f32 [16] scales; one of 32 as bf16 [16][32] and scales (zeros after the last) */
    CALL(AT_SUMS) = 4 * 1024, CALL(AT_D_256) = 5 * 1024, CALL(RECORD_256) = CALL(AT_D_256) + 64, CALL(AT_D_32) = 1024, CALL(RECORD_32) = CALL(AT_D_32) + 64
};
static const smolq__cpu_layout CALL(layout) = { 16, CALL(RECORD_256), CALL(RECORD_32) };
enum { CALL(TOKEN_TILES) = 16 }; /* tokens / 16 that pass over the tiles before they are unpacked again */

typedef struct CALL(tiles) {
    uint8_t w[2][8][1024];      /* [16 rows each]: [4 of 64][high, low], or [8 blocks of 32] bf16 */
    uint8_t mins[2][1024];      /* bf16, as the sums */
    float   d[2][8][16], dmin[2][16];
    float   out[16][256];       /* results on their way to the float steps */
    float   acc[CALL(TOKEN_TILES)][2][256];
} CALL(tiles);

#define PUT(tile, row, v) _mm512_storeu_si512((tile) + (row) * 64, v)

/* Byte j of each lane into both of its words, as their low byte (the high one is 0) or their high byte. */
INLINE __m512i CALL(byte_to_words)(__m512i x, int32_t j, int high)
{
    const __m512i lane = _mm512_set4_epi32(0x000c000c, 0x00080008, 0x00040004, 0);
    if (high) return _mm512_shuffle_epi8(x, _mm512_or_si512(DWORDS(0x00800080u + (uint32_t)j * 0x01000100u), _mm512_slli_epi32(lane, 8)));
    return _mm512_shuffle_epi8(x, _mm512_or_si512(DWORDS(0x80008000u + (uint32_t)j * 0x00010001u), lane));
}

/* Small integers in the lanes to bf16 in their low words, the high ones are 0. */
INLINE __m512i CALL(to_bf16)(__m512i x) { return _mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(x)), 16); }

INLINE void CALL(tiles_q45_k)(CALL(tiles) *t, int32_t half, const CALL(sixteen) *rows, int fifth)
{
    const __m512i m6 = DWORDS(0x3f3f3f3f), m4 = DWORDS(0x0f0f0f0f), m3 = DWORDS(0x07070707), m2 = DWORDS(0x03030303), m16 = DWORDS(0x10101010);
    __m512i h[4], sc[2], mn[2], sh[2], sl[2], x[8], high[8];
    int32_t i, k;
    CALL(columns)(rows, 0, h); /* d and dmin, then 12 bytes of 6-bit scales and minimums (see smolq__scales_6_bit) */
    CALL(store)(t->d[half][0], CALL(low_halves)(h[0]));
    CALL(store)(t->dmin[half], CALL(sub)(_mm512_set1_ps(-0.0f), CALL(low_halves)(_mm512_srli_epi32(h[0], 16))));
    sc[0] = _mm512_and_si512(h[1], m6);
    mn[0] = _mm512_and_si512(h[2], m6);
    sc[1] = _mm512_or_si512(_mm512_and_si512(h[3], m4), _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(h[1], 6), m2), 4));
    mn[1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(h[3], 4), m4), _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(h[2], 6), m2), 4));
    UNROLL for (i = 0; i < 8; i++) { /* a minimum serves two runs of 16 */
        __m512i m = CALL(to_bf16)(_mm512_and_si512(_mm512_srli_epi32(mn[i / 4], (unsigned)(8 * (i % 4))), DWORDS(255)));
        m = _mm512_or_si512(m, _mm512_slli_epi32(m, 16));
        PUT(t->mins[half], i, m);
        PUT(t->mins[half], i + 8, m);
    }
    UNROLL for (i = 0; i < 2; i++) {
        sh[i] = _mm512_and_si512(_mm512_srli_epi32(sc[i], 3), m3);
        sl[i] = _mm512_and_si512(sc[i], m3);
    }
    if (fifth) {
        CALL(columns)(rows, 16, high);
        CALL(columns)(rows, 32, high + 4);
    }
    UNROLL for (k = 0; k < 4; k++) { /* 64 weights: run 2k in the low nibbles, 2k + 1 in the high ones */
        uint8_t *hi = t->w[half][2 * k], *lo = t->w[half][2 * k + 1];
        __m512i h0 = CALL(byte_to_words)(sh[k / 2], 2 * k % 4, 0), h1 = CALL(byte_to_words)(sh[k / 2], 2 * k % 4 + 1, 0);
        __m512i l0 = CALL(byte_to_words)(sl[k / 2], 2 * k % 4, 0), l1 = CALL(byte_to_words)(sl[k / 2], 2 * k % 4 + 1, 0);
        CALL(columns)(rows, (fifth ? 48 : 16) + 32 * k, x);
        CALL(columns)(rows, (fifth ? 64 : 32) + 32 * k, x + 4);
        UNROLL for (i = 0; i < 8; i++) {
            __m512i a = _mm512_and_si512(x[i], m4), b = _mm512_and_si512(_mm512_srli_epi32(x[i], 4), m4);
            if (fifth) {
                a = _mm512_or_si512(a, _mm512_and_si512(k < 2 ? _mm512_slli_epi32(high[i], (unsigned)(4 - 2 * k)) : _mm512_srli_epi32(high[i], (unsigned)(2 * k - 4)), m16));
                b = _mm512_or_si512(b, _mm512_and_si512(k < 2 ? _mm512_slli_epi32(high[i], (unsigned)(3 - 2 * k)) : _mm512_srli_epi32(high[i], (unsigned)(2 * k - 3)), m16));
            }
            PUT(hi, i, _mm512_mullo_epi16(a, h0));
            PUT(hi, i + 8, _mm512_mullo_epi16(b, h1));
            PUT(lo, i, _mm512_mullo_epi16(a, l0));
            PUT(lo, i + 8, _mm512_mullo_epi16(b, l1));
        }
    }
}

INLINE void CALL(tiles_q6_k)(CALL(tiles) *t, int32_t half, const CALL(sixteen) *rows)
{
    const __m512i m4 = DWORDS(0x0f0f0f0f), even = DWORDS(0x00ff00ff), m6 = DWORDS(0x003f003f);
    __m512i sc[4], a[4], b[4], h[4];
    int32_t part, g, i;
    CALL(columns)(rows, 192, sc);
    CALL(store)(t->d[half][0], CALL(halves)(rows, 208));
    UNROLL for (part = 0; part < 4; part++) { /* half n of the block, half s of each 32 */
        int32_t n = part >> 1, s = part & 1;
        CALL(columns)(rows, n * 64 + s * 16, a);
        CALL(columns)(rows, n * 64 + 32 + s * 16, b);
        CALL(columns)(rows, 128 + n * 32 + s * 16, h);
        UNROLL for (g = 0; g < 4; g++) { /* weights n * 128 + g * 32 + s * 16 and on: run n * 8 + g * 2 + s */
            __m512i scale = _mm512_srai_epi16(CALL(byte_to_words)(sc[n * 2 + g / 2], g % 2 * 2 + s, 1), 8), offset = _mm512_slli_epi16(scale, 5);
            uint8_t *hi = t->w[half][(n * 2 + g / 2) * 2], *lo = hi + 1024;
            UNROLL for (i = 0; i < 4; i++) {
                __m512i q = g & 1 ? b[i] : a[i], top = g < 2 ? _mm512_slli_epi32(h[i], (unsigned)(4 - 2 * g)) : _mm512_srli_epi32(h[i], (unsigned)(2 * g - 4)), e, o;
                q = BLEND(m4, g < 2 ? q : _mm512_srli_epi32(q, 4), top); /* 6 bits, rubbish above */
                e = _mm512_sub_epi16(_mm512_mullo_epi16(_mm512_and_si512(q, m6), scale), offset);
                o = _mm512_sub_epi16(_mm512_mullo_epi16(_mm512_and_si512(_mm512_srli_epi32(q, 8), m6), scale), offset);
                PUT(hi, g % 2 * 8 + s * 4 + i, BLEND(even, _mm512_srli_epi16(e, 8), o));
                PUT(lo, g % 2 * 8 + s * 4 + i, BLEND(even, e, _mm512_slli_epi16(o, 8)));
            }
        }
    }
}

/* One row's block of 256 as words; id as for block_256. */
INLINE void CALL(words_256)(int32_t id, const smolq__type *type, const uint8_t *p, int16_t *v, int16_t *mins, float *d, float *dmin)
{
    CALL(block) b;
    int32_t j;
    if (CALL(is_short)(id)) CALL(block_256)(id, &b, p, d, dmin);
    else CALL(block_any)(&b, type->id, p, d, dmin);
    UNROLL for (j = 0; j < 8; j++) {
        codes x = CALL(levels)(type->id, &b, j);
        STORE256(v + 32 * j, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(_mm256_castsi256_si128(x)), _mm256_permute2x128_si256(b.scale[j], b.scale[j], 0x00)));
        STORE256(v + 32 * j + 16, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(_mm256_extracti128_si256(x, 1)), _mm256_permute2x128_si256(b.scale[j], b.scale[j], 0x11)));
    }
    if (CALL(mins_256)(type->id)) STORE256(mins, b.mins);
}

/* Any type in blocks of 256, row by row as words. */
INLINE void CALL(tiles_256)(CALL(tiles) *t, int32_t half, const CALL(sixteen) *rows, const smolq__type *type)
{
    int16_t v[256], mins[16];
    uint8_t high[16][256], low[16][256], sums[16][32];
    CALL(sixteen) from;
    __m512i x[4];
    int32_t r, i, k;
    for (r = 0; r < 16; r++) {
        const uint8_t *p = rows->p + rows->at[r];
        if (type->id == SMOLQ_TYPE_Q2_K) CALL(words_256)(SMOLQ_TYPE_Q2_K, type, p, v, mins, &t->d[half][0][r], &t->dmin[half][r]);
        else CALL(words_256)(SMOLQ_TYPE_TQ2_0, type, p, v, mins, &t->d[half][0][r], &t->dmin[half][r]);
        for (i = 0; i < 256; i += 32) {
            __m512i w = _mm512_loadu_si512(v + i);
            STORE256(high[r] + i, _mm512_cvtepi16_epi8(_mm512_srai_epi16(w, 8)));
            STORE256(low[r] + i, _mm512_cvtepi16_epi8(w));
        }
        if (type->id == SMOLQ_TYPE_Q2_K) STORE256(sums[r], _mm512_cvtepi32_epi16(CALL(to_bf16)(_mm512_cvtepi16_epi32(LOAD256(mins)))));
    }
    for (k = 0; k < 2; k++) {
        from.p = k ? low[0] : high[0];
        for (r = 0; r < 16; r++) from.at[r] = r * 256;
        for (i = 0; i < 16; i++) {
            CALL(columns)(&from, i * 16, x);
            for (r = 0; r < 4; r++) PUT(t->w[half][i / 4 * 2 + k], i % 4 * 4 + r, x[r]);
        }
    }
    if (type->id != SMOLQ_TYPE_Q2_K) return;
    from.p = sums[0];
    for (r = 0; r < 16; r++) from.at[r] = r * 32;
    for (i = 0; i < 2; i++) {
        CALL(columns)(&from, i * 16, x);
        for (r = 0; r < 4; r++) {
            PUT(t->mins[half], i * 4 + r, x[r]);
            PUT(t->mins[half], i * 4 + r + 8, x[r]);
        }
    }
}

/* A row of a bf16 tile holds two weights of each of 16 rows.  Of four neighbors 0 and 2 go together, then 1 and 3: as they lie in the words of a dword. */
INLINE void CALL(tile_of_bytes)(uint8_t *tile, int32_t i, __m512i x) /* weights 4i .. 4i+3 */
{
    __m512i a = CALL(to_bf16)(_mm512_srai_epi32(_mm512_slli_epi32(x, 24), 24)), b = CALL(to_bf16)(_mm512_srai_epi32(_mm512_slli_epi32(x, 16), 24));
    __m512i c = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, 8), 24))), d = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(x, 24)));
    PUT(tile, 2 * i, _mm512_or_si512(a, c)); /* c and d end in 16 zeros */
    PUT(tile, 2 * i + 1, _mm512_or_si512(b, d));
}

INLINE void CALL(tile_q8_0)(CALL(tiles) *t, int32_t half, int32_t b, const CALL(sixteen) *rows)
{
    __m512i x[8];
    int32_t i;
    CALL(store)(t->d[half][b], CALL(halves)(rows, 0));
    CALL(columns)(rows, 2, x);
    CALL(columns)(rows, 18, x + 4);
    UNROLL for (i = 0; i < 8; i++) CALL(tile_of_bytes)(t->w[half][b], i, x[i]);
}

/* Q5_0 and Q4_0: a table of 32 words has the bf16 of level - 16 or level - 8. */
INLINE void CALL(tile_q45_0)(CALL(tiles) *t, int32_t half, int32_t b, const CALL(sixteen) *rows, int fifth)
{
    static const uint16_t levels[32] = { /* bf16 of -16 .. 15 */
        0xc180, 0xc170, 0xc160, 0xc150, 0xc140, 0xc130, 0xc120, 0xc110, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
        0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170
    };
    const __m512i table = _mm512_loadu_si512(levels), m4 = DWORDS(0x000f000f), from_8 = DWORDS(0x00080008);
    __m512i x[4], qh;
    uint8_t *tile = t->w[half][b];
    int32_t i, high;
    CALL(store)(t->d[half][b], CALL(d_and_fifths)(rows, fifth, &qh));
    CALL(columns)(rows, fifth ? 6 : 2, x);
    UNROLL for (i = 0; i < 4; i++)
        UNROLL for (high = 0; high < 2; high++) { /* weights e .. e+3 */
            int32_t e = 16 * high + 4 * i, row = 8 * high + 2 * i;
            __m512i q = high ? _mm512_srli_epi32(x[i], 4) : x[i], q1 = _mm512_srli_epi32(x[i], high ? 12 : 8);
            if (fifth) { /* multishift takes 8 bits from anywhere in 64: bit e of a dword to bit 4 of its low word, bit e+2 to bit 4 of its high word */
                uint64_t lo = (uint64_t)((e - 4) & 63) | (uint64_t)((e - 2) & 63) << 16, hi = (uint64_t)((e + 28) & 63) | (uint64_t)((e + 30) & 63) << 16;
                __m512i bits = _mm512_multishift_epi64_epi8(_mm512_set1_epi64((int64_t)(lo | hi << 32)), qh);
                q = BLEND(m4, q, bits);
                q1 = BLEND(m4, q1, _mm512_srli_epi32(bits, 1));
            } else {
                q = _mm512_add_epi16(_mm512_and_si512(q, m4), from_8);
                q1 = _mm512_add_epi16(_mm512_and_si512(q1, m4), from_8);
            }
            PUT(tile, row, _mm512_permutexvar_epi16(q, table));
            PUT(tile, row + 1, _mm512_permutexvar_epi16(q1, table));
        }
}

/* IQ4_NL and MXFP4, whose levels are bytes. */
INLINE void CALL(tile_32)(CALL(tiles) *t, int32_t half, int32_t b, const CALL(sixteen) *rows, int32_t id, int32_t part)
{
    uint8_t levels[16][32];
    CALL(sixteen) from;
    __m512i x[8];
    int32_t r, i;
    float m;
    for (r = 0; r < 16; r++) {
        STORE256(levels[r], CALL(levels_32)(id, rows->p + rows->at[r], part, &t->d[half][b][r], &m));
        from.at[r] = r * 32;
    }
    from.p = levels[0];
    CALL(columns)(&from, 0, x);
    CALL(columns)(&from, 16, x + 4);
    UNROLL for (i = 0; i < 8; i++) CALL(tile_of_bytes)(t->w[half][b], i, x[i]);
}

/* The next blocks of 16 rows, n weights. */
static void CALL(fill_tiles)(CALL(tiles) *t, int32_t half, const CALL(sixteen) *rows, const smolq__type *type, int32_t n)
{
    CALL(sixteen) at = *rows;
    int32_t b, bytes = type->facts.block_bytes, parts = CALL(parts_32)(type->id);
    if (type->facts.group == 256) {
        switch (type->id) {
        case SMOLQ_TYPE_Q4_K: CALL(tiles_q45_k)(t, half, rows, 0); break;
        case SMOLQ_TYPE_Q5_K: CALL(tiles_q45_k)(t, half, rows, 1); break;
        case SMOLQ_TYPE_Q6_K: CALL(tiles_q6_k)(t, half, rows); break;
        default:              CALL(tiles_256)(t, half, rows, type); break;
        }
        return;
    }
    for (b = 0; b < n / 32; b++, at.p += b % parts ? 0 : bytes)
        switch (type->id) {
        case SMOLQ_TYPE_Q4_0: CALL(tile_q45_0)(t, half, b, &at, 0); break;
        case SMOLQ_TYPE_Q5_0: CALL(tile_q45_0)(t, half, b, &at, 1); break;
        case SMOLQ_TYPE_Q8_0: CALL(tile_q8_0)(t, half, b, &at); break;
        default:              CALL(tile_32)(t, half, b, &at, type->id, b % parts); break;
        }
    for (; b % 4; b++) {
        memset(t->w[half][b], 0, sizeof t->w[half][b]);
        memset(t->d[half][b], 0, sizeof t->d[half][b]);
    }
}

/* The activations of a token, as quantized, into its rows of the tiles. */
static void CALL(arrange)(const smolq_run *run, const smolq_op *op, int32_t row)
{
    const uint8_t *x = smolq_row(run, op->out, row);
    const float *d = (const float *)(const void *)(x + smolq_a8_d(op->n));
    uint8_t *to = smolq__cpu_record(&CALL(layout), run, op->out, row / 16);
    int32_t at = row % 16, b, k;
    if (op->group == 256) {
        for (b = 0; b < op->n / 256; b++, to += CALL(RECORD_256)) {
            __m512i sums = _mm512_cvtepi16_epi32(LOAD256(x + smolq_a8_sums(op->n, 256) + 32 * (size_t)b));
            UNROLL for (k = 0; k < 4; k++) _mm512_storeu_si512(to + k * 1024 + at * 64, _mm512_loadu_si512(x + 256 * b + 64 * k));
            STORE256(to + CALL(AT_SUMS) + at * 64, _mm512_cvtepi32_epi16(CALL(to_bf16)(_mm512_andnot_si512(DWORDS(63), sums)))); /* 64 * h */
            STORE256(to + CALL(AT_SUMS) + at * 64 + 32, _mm512_cvtepi32_epi16(CALL(to_bf16)(_mm512_and_si512(sums, DWORDS(63))))); /* l */
            memcpy(to + CALL(AT_D_256) + at * 4, d + b, 4);
        }
        return;
    }
    for (b = 0; b < (op->n / 32 + 3) / 4 * 4; b++, to += CALL(RECORD_32)) {
        const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        float dx = 0;
        if (b < op->n / 32) {
            dx = d[b];
            for (k = 0; k < 2; k++)
                STORE256(to + at * 64 + 32 * k, _mm512_cvtepi32_epi16(CALL(to_bf16)(_mm512_cvtepi8_epi32(_mm_shuffle_epi8(LOAD128(x + 32 * b + 16 * k), order)))));
        } else memset(to + at * 64, 0, 64);
        memcpy(to + CALL(AT_D_32) + at * 4, &dx, 4);
    }
}

/* The result that a tile holds goes out, the tile starts anew. */
#define NEXT(tile, to) SMOLQ__TILE_STORE(tile, to); SMOLQ__TILE_ZERO(tile)

/* Results of 32 tokens times 16 rows in t->out, and what their float steps need. */
typedef struct CALL(unit) {
    const float *d, *dmin, *dx[2], (*min)[256];
    float       *acc[2];
} CALL(unit);

/* Eight rows (tokens) from r on. */
INLINE void CALL(steps_256)(const CALL(tiles) *t, const CALL(unit) *u, int32_t r, int32_t shift, int mins)
{
    lanes d = CALL(load)(u->d), dmin = CALL(load)(u->dmin);
    const float *c = t->out[r / 16 * 2] + r % 16 * 16, *m = u->min[r / 16] + r % 16 * 16, *x = u->dx[r / 16] + r % 16;
    float *to = u->acc[r / 16] + r % 16 * 16;
    int32_t i;
    UNROLL for (i = 0; i < 8; i++) {
        __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(_mm512_loadu_si512(c + i * 16), (unsigned)shift), _mm512_loadu_si512(c + i * 16 + 256));
        lanes dx = CALL(all)(x[i]), a = CALL(fma)(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(sum), CALL(load)(to + i * 16));
        if (mins) a = CALL(fma)(_mm512_mul_ps(dmin, dx), CALL(load)(m + i * 16), a);
        CALL(store)(to + i * 16, a);
    }
}

/* One block of 256 of up to 32 rows times all tokens, in units of 32 tokens times 16 rows: high planes of the two token tiles in tiles 0 and 2, low ones in 1 and 3. */
INLINE void CALL(multiply_256)(CALL(tiles) *t, const uint8_t *x, size_t stride, int32_t n_tiles, int32_t halves, int32_t shift, int mins)
{
    CALL(unit) before;
    int32_t pair, half, parity = 0, pending = 0, i;
    memset(&before, 0, sizeof before);
    for (pair = 0; pair < n_tiles; pair += 2)
        for (half = 0; half < halves; half++, parity ^= 1) {
            const uint8_t *a = x + (size_t)pair * stride, *b = a + stride;
            uint8_t (*w)[1024] = t->w[half];
            if (mins) {
                SMOLQ__TILE_LOAD(6, t->mins[half]);
                SMOLQ__TILE_LOAD(4, a + CALL(AT_SUMS));
                NEXT(0, t->out[0]);
                SMOLQ__TILE_BF16(0, 4, 6);
                SMOLQ__TILE_LOAD(5, b + CALL(AT_SUMS));
                NEXT(1, t->out[1]);
                SMOLQ__TILE_BF16(1, 5, 6);
            } else {
                NEXT(0, t->out[0]);
                NEXT(1, t->out[1]);
            }
            SMOLQ__TILE_LOAD(5, b);
            SMOLQ__TILE_LOAD(6, w[0]);
            NEXT(2, t->out[2]);
            if (shift == 8) SMOLQ__TILE_SS(2, 5, 6);
            else SMOLQ__TILE_SU(2, 5, 6);
            SMOLQ__TILE_LOAD(7, w[1]);
            NEXT(3, t->out[3]);
            SMOLQ__TILE_SU(3, 5, 7);
            SMOLQ__TILE_LOAD(4, a);
            if (mins) { NEXT(0, t->out[4 + 2 * parity]); }
            if (shift == 8) SMOLQ__TILE_SS(0, 4, 6);
            else SMOLQ__TILE_SU(0, 4, 6);
            if (mins) { NEXT(1, t->out[5 + 2 * parity]); }
            SMOLQ__TILE_SU(1, 4, 7);
            if (pending) CALL(steps_256)(t, &before, 0, shift, mins);
            UNROLL for (i = 1; i < 4; i++) {
                SMOLQ__TILE_LOAD(4, a + i * 1024);
                SMOLQ__TILE_LOAD(6, w[2 * i]);
                if (shift == 8) SMOLQ__TILE_SS(0, 4, 6);
                else SMOLQ__TILE_SU(0, 4, 6);
                SMOLQ__TILE_LOAD(7, w[2 * i + 1]);
                SMOLQ__TILE_SU(1, 4, 7);
                SMOLQ__TILE_LOAD(5, b + i * 1024);
                if (shift == 8) SMOLQ__TILE_SS(2, 5, 6);
                else SMOLQ__TILE_SU(2, 5, 6);
                SMOLQ__TILE_SU(3, 5, 7);
                if (pending) CALL(steps_256)(t, &before, 8 * i, shift, mins);
            }
            pending = 1;
            before.d = t->d[half][0];
            before.dmin = t->dmin[half];
            before.dx[0] = (const float *)(const void *)(a + CALL(AT_D_256));
            before.dx[1] = (const float *)(const void *)(b + CALL(AT_D_256));
            before.min = (const float (*)[256])(t->out + 4 + 2 * parity);
            before.acc[0] = t->acc[pair][half];
            before.acc[1] = t->acc[pair + 1][half];
        }
    NEXT(0, t->out[0]);
    NEXT(1, t->out[1]);
    NEXT(2, t->out[2]);
    NEXT(3, t->out[3]);
    for (i = 0; i < 4; i++) CALL(steps_256)(t, &before, 8 * i, shift, mins);
}

/* Four blocks of 32 times 32 rows times 32 tokens, a stage: 16 products.  They come block by block, since tiles are shared, while the float steps want one result over all four
 * blocks, to keep its sums in registers.  One order is the other's transpose.  So a place of t->out that the float steps have just read can take the next
 * product: even stages keep result i of block b in place 4b + i, odd ones in 4i + b. */
INLINE float *CALL(place)(CALL(tiles) *t, int32_t odd, int32_t i) { return t->out[odd ? i % 4 * 4 + i / 4 : i]; }

typedef struct CALL(stage) { /* results on their way: their four blocks and sums */
    const uint8_t *x[2];     /* records of the two token tiles */
    const float   *d;        /* [2][8][16], from the first block on */
    float         *acc[4];   /* token tile, row tile */
} CALL(stage);

INLINE void CALL(stage_32)(CALL(tiles) *t, int32_t odd, const CALL(stage) *now, int32_t first, const CALL(stage) *before)
{
    int32_t g, r, b, i;
    UNROLL for (g = 0; g < 4; g++) {
        float *out[4];
        UNROLL for (i = 0; i < 4; i++) out[i] = g ? CALL(place)(t, odd, 4 * (g - 1) + i) : CALL(place)(t, !odd, 12 + i);
        if (now) {
            SMOLQ__TILE_LOAD(4, now->x[0] + g * CALL(RECORD_32));
            SMOLQ__TILE_LOAD(6, t->w[0][first + g]);
            NEXT(0, out[0]);
            SMOLQ__TILE_BF16(0, 4, 6);
            SMOLQ__TILE_LOAD(7, t->w[1][first + g]);
            NEXT(1, out[1]);
            SMOLQ__TILE_BF16(1, 4, 7);
            SMOLQ__TILE_LOAD(5, now->x[1] + g * CALL(RECORD_32));
            NEXT(2, out[2]);
            SMOLQ__TILE_BF16(2, 5, 6);
            NEXT(3, out[3]);
            SMOLQ__TILE_BF16(3, 5, 7);
        } else if (!g) {
            SMOLQ__TILE_STORE(0, out[0]);
            SMOLQ__TILE_STORE(1, out[1]);
            SMOLQ__TILE_STORE(2, out[2]);
            SMOLQ__TILE_STORE(3, out[3]);
        }
        if (before) {
            lanes v[16];
            UNROLL for (r = 0; r < 16; r++) v[r] = CALL(load)(before->acc[g] + r * 16);
            UNROLL for (b = 0; b < 4; b++) {
                const float *c = CALL(place)(t, odd, 4 * g + b), *dx = (const float *)(const void *)(before->x[g / 2] + b * CALL(RECORD_32) + CALL(AT_D_32));
                lanes d = CALL(load)(before->d + (g % 2 * 8 + b) * 16);
                UNROLL for (r = 0; r < 16; r++) v[r] = CALL(fma)(_mm512_mul_ps(d, CALL(all)(dx[r])), CALL(load)(c + r * 16), v[r]);
            }
            UNROLL for (r = 0; r < 16; r++) CALL(store)(before->acc[g] + r * 16, v[r]);
        }
    }
}
static void CALL(stage_even)(CALL(tiles) *t, const CALL(stage) *now, int32_t first, const CALL(stage) *before) { CALL(stage_32)(t, 0, now, first, before); }
static void CALL(stage_odd)(CALL(tiles) *t, const CALL(stage) *now, int32_t first, const CALL(stage) *before) { CALL(stage_32)(t, 1, now, first, before); }

/* Up to eight blocks of 32 of 32 rows times all tokens. */
static void CALL(multiply_32)(CALL(tiles) *t, const uint8_t *x, size_t stride, int32_t n_tiles, int32_t n_blocks)
{
    CALL(stage) stages[2];
    int32_t pair, b, i, n = 0;
    for (pair = 0; pair < n_tiles; pair += 2)
        for (b = 0; b < n_blocks; b += 4, n++) {
            CALL(stage) *now = &stages[n & 1], *before = &stages[!(n & 1)];
            for (i = 0; i < 2; i++) now->x[i] = x + (size_t)(pair + i) * stride + (size_t)b * CALL(RECORD_32);
            for (i = 0; i < 4; i++) now->acc[i] = t->acc[pair + i / 2][i % 2];
            now->d = t->d[0][b];
            if (n == 0) CALL(stage_32)(t, 0, now, b, NULL);
            else if (n & 1) CALL(stage_odd)(t, now, b, before);
            else CALL(stage_even)(t, now, b, before);
        }
    if (n & 1) CALL(stage_32)(t, 1, NULL, 0, &stages[0]);
    else CALL(stage_32)(t, 0, NULL, 0, &stages[1]);
}

/* Types with minimums in blocks of 32 and NVFP4 aren't worth tiles of their own: a few tokens at a time. */
static int CALL(some_at_a_time)(const smolq_run *run, const smolq_op_part *part, int32_t n_tokens, int32_t row, int32_t n_rows)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    int32_t i;
    if (type->facts.group == 256 || !(CALL(mins_32)(type->id) || CALL(halves_32)(type->id))) return 0;
    for (i = 0; i < n_tokens; i += SMOLQ__CPU_FEW) CALL(few)(run, part, i, n_tokens - i < SMOLQ__CPU_FEW ? n_tokens - i : SMOLQ__CPU_FEW, row, row + n_rows);
    return 1;
}

/* Up to thirty-two rows for all tokens. */
static void CALL(many)(const smolq_run *run, const smolq_op_part *part, int32_t n_tokens, int32_t row, int32_t n_rows)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    uint8_t memory[sizeof(CALL(tiles)) + 64];
    CALL(tiles) *t = (CALL(tiles) *)(void *)(memory + (64 - (uintptr_t)memory % 64)); /* rows of tiles shall not cross lines */
    CALL(sixteen) rows[2];
    int32_t n_cols = part->w->n_cols, all = (n_tokens + 31) / 32 * 2, halves = n_rows > 16 ? 2 : 1, tile, first, half, r, i;
    size_t block = (size_t)type->facts.block_weights, bytes = (size_t)type->facts.block_bytes, stride;
    if (!type->ints) {
        CALL(many_floats)(run, part, n_tokens, row, n_rows);
        return;
    }
    if (CALL(some_at_a_time)(run, part, n_tokens, row, n_rows)) return;
    stride = (size_t)(smolq__cpu_record(&CALL(layout), run, part->in, 1) - smolq__cpu_record(&CALL(layout), run, part->in, 0));
    for (half = 0; half < 2; half++)
        for (r = 0; r < 16; r++) rows[half].at[r] = (int32_t)((size_t)(half * 16 + r < n_rows ? half * 16 + r : n_rows - 1) * part->w->row_bytes);
    for (tile = 0; tile < all; tile += CALL(TOKEN_TILES)) {
        int32_t n_tiles = all - tile < CALL(TOKEN_TILES) ? all - tile : CALL(TOKEN_TILES);
        const uint8_t *x = smolq__cpu_record(&CALL(layout), run, part->in, tile);
        memset(t->acc, 0, (size_t)n_tiles * sizeof t->acc[0]);
        for (first = 0; first < n_cols; first += 256) {
            int32_t length = n_cols - first < 256 ? n_cols - first : 256;
            for (half = 0; half < (type->facts.group == 256 ? halves : 2); half++) {
                rows[half].p = part->w->data + (uint64_t)row * part->w->row_bytes + (size_t)first / block * bytes;
                CALL(fetch_ahead)(&rows[half], part, 32, first);
                CALL(fill_tiles)(t, half, &rows[half], type, length);
            }
            if (type->id == SMOLQ_TYPE_Q4_K || type->id == SMOLQ_TYPE_Q5_K) CALL(multiply_256)(t, x, stride, n_tiles, halves, 3, 1);
            else if (type->id == SMOLQ_TYPE_Q2_K) CALL(multiply_256)(t, x, stride, n_tiles, halves, 8, 1);
            else if (type->facts.group == 256) CALL(multiply_256)(t, x, stride, n_tiles, halves, 8, 0);
            else CALL(multiply_32)(t, x, stride, n_tiles, (length / 32 + 3) / 4 * 4);
            x += type->facts.group == 256 ? CALL(RECORD_256) : 8 * CALL(RECORD_32);
        }
        for (i = tile * 16; i < n_tokens && i < (tile + n_tiles) * 16; i++) {
            float *out = (float *)(void *)smolq_row(run, part->out, i);
            for (half = 0; half < halves; half++) CALL(put_rows)(part, out, row + half * 16, t->acc[i / 16 - tile][half] + i % 16 * 16, n_rows - half * 16);
        }
    }
}
#undef NEXT
#undef PUT
#endif /* AMX */
#endif /* NEON or x86 */

/* ---- the operations ---- */

static void CALL(norm)(const smolq_run *run, const smolq_op *op, int32_t row)
{
    const float *x = (const float *)(const void *)smolq_row(run, op->in, row);
    float *y = (float *)(void *)smolq_row(run, op->out, row);
    int32_t seg, i, n = op->n;
    for (seg = 0; seg < op->n_seg; seg++, x += n, y += n) {
        lanes ss[4] = { CALL(zero)(), CALL(zero)(), CALL(zero)(), CALL(zero)() }, s;
        for (i = 0; i < n; i += 16) {
            lanes v = i + 16 <= n ? CALL(load)(x + i) : CALL(load_some)(x + i, n - i);
            ss[i / 16 & 3] = CALL(fma)(v, v, ss[i / 16 & 3]);
        }
        s = CALL(all)(1.0f / smolq_sqrt(CALL(fold)(CALL(add)(CALL(add)(ss[0], ss[2]), CALL(add)(ss[1], ss[3]))) / (float)n + op->eps));
        for (i = 0; i + 16 <= n; i += 16) {
            lanes v = CALL(mul)(CALL(mul)(CALL(load)(x + i), s), CALL(load)(op->w + i));
            CALL(store)(y + i, op->add ? CALL(add)(CALL(load)(y + i), v) : v);
        }
        if (i < n) {
            int32_t some = n - i;
            lanes v = CALL(mul)(CALL(mul)(CALL(load_some)(x + i, some), s), CALL(load_some)(op->w + i, some));
            if (op->add) v = CALL(add)(CALL(load_some)(y + i, some), v);
            CALL(store_some)(y + i, v, some);
        }
    }
}

/* int8 activations (rule 3), and the same arranged for products over panels. */
static void CALL(quantize)(smolq_run *run, const smolq_op *op, int32_t row, int for_panels)
{
    const float *x = (const float *)(const void *)smolq_row(run, op->in, row);
    uint8_t *out = smolq_row(run, op->out, row);
    int32_t seg, g, i, group = op->group;
    for (seg = 0; seg < op->n_seg; seg++, x += op->n, out += smolq_a8_bytes(op->n, group)) {
        int8_t *q = (int8_t *)out;
        float *d = (float *)(void *)(out + smolq_a8_d(op->n));
        int16_t *sums = (int16_t *)(void *)(out + smolq_a8_sums(op->n, group));
        for (g = 0; g < op->n / group; g++, q += group) {
            lanes most = CALL(zero)(), zeros = CALL(zero)(), id;
            float amax;
            for (i = 0; i < group; i += 16) {
                lanes v = CALL(load)(x + g * group + i);
                most = CALL(max)(most, CALL(abs)(v));
                zeros = CALL(fma)(v, CALL(zero)(), zeros);
            }
            amax = CALL(most)(most);
            if (!CALL(is_number)(zeros)) {
                CALL(flag)(run);
                amax = 0;
            }
            if (amax < 7.888609052210118e-31f) amax = 0;
            d[g] = amax / 127.0f;
            id = CALL(all)(amax > 0 ? 127.0f / amax : 0.0f);
            for (i = 0; i < group; i += 16) {
                if (amax > 0) CALL(put_bytes)(q + i, CALL(mul)(CALL(load)(x + g * group + i), id));
                else memset(q + i, 0, 16);
                *sums++ = CALL(sum_bytes)(q + i);
            }
        }
    }
    if (for_panels) CALL(arrange)(run, op, row);
}

static void CALL(rope)(const smolq_run *run, const smolq_op *op, int32_t row)
{
    float *x = (float *)(void *)smolq_row(run, op->in, row);
    const float *c = (const float *)(const void *)smolq_row(run, op->angles, row), *s = c + op->n_rot / 2;
    int32_t half = op->n_rot / 2, head, i;
    for (head = 0; head < op->n_seg; head++, x += op->n) {
        i = 0;
        if (op->rope == SMOLQ_ROPE_HALVES)
            for (; i + 16 <= half; i += 16) {
                lanes a = CALL(load)(x + i), b = CALL(load)(x + half + i), vc = CALL(load)(c + i), vs = CALL(load)(s + i);
                CALL(store)(x + i, CALL(fma)(a, vc, CALL(sub)(CALL(zero)(), CALL(mul)(b, vs))));
                CALL(store)(x + half + i, CALL(fma)(a, vs, CALL(mul)(b, vc)));
            }
        for (; i < half; i++) {
            int32_t at = op->rope == SMOLQ_ROPE_PAIRS ? 2 * i : i, other = op->rope == SMOLQ_ROPE_PAIRS ? 2 * i + 1 : i + half;
            float a = x[at], b = x[other];
            x[at] = CALL(fma1)(a, c[i], -smolq_mul(b, s[i]));
            x[other] = CALL(fma1)(a, s[i], smolq_mul(b, c[i]));
        }
    }
}

static void CALL(kv_store)(smolq_run *run, const smolq_op *op, int32_t row)
{
    const smolq_kv_layer *kv = &run->kv[row][op->layer];
    uint64_t cell = (uint64_t)(run->position[row] % kv->n_cells);
    int32_t which, head, i;
    for (which = 0; which < 2; which++) {
        const float *x = (const float *)(const void *)smolq_row(run, which ? SMOLQ_BUF_V : SMOLQ_BUF_K, row);
        for (head = 0; head < op->n_head_kv; head++, x += op->n) {
            uint8_t *to = (which ? kv->v : kv->k) + ((uint64_t)head * (uint64_t)kv->n_cells + cell) * kv->head_row_bytes;
            lanes zeros = CALL(zero)(), most = CALL(zero)();
            for (i = 0; i < op->n; i += 16) {
                lanes v = CALL(load)(x + i);
                zeros = CALL(fma)(v, CALL(zero)(), zeros);
                most = CALL(max)(most, CALL(abs)(v));
                if (kv->type == SMOLQ_TYPE_F32) CALL(store)((float *)(void *)to + i, v);
                else CALL(put_half)(to + 2 * i, v);
            }
            if (!CALL(is_number)(zeros) || (kv->type == SMOLQ_TYPE_F16 && CALL(most)(most) >= 65520.0f)) CALL(flag)(run);
        }
    }
}

/* ---- attention (rule 9) ----
 *
 * A unit is a KV head and as many query heads of a few neighboring tokens as share it.  They go over its keys together, block by block: a block's keys and values are
 * made floats once for all of them, sixteen keys or 64 numbers of each value at a time, so that these stay in the first-level cache. */

enum { CALL(QUERIES) = 64, CALL(CHUNK) = 64 };

typedef struct CALL(query) { /* one query head of one token */
    const float *q;
    float       *out;        /* weighted values of the blocks so far, divided at the end */
    float        scale, best, total; /* of the blocks so far */
    int32_t      begin, end;         /* the positions that it sees */
    int32_t      first, last;        /* of these in the block at hand, from its begin on; none: first == last */
} CALL(query);

typedef struct CALL(attending) {
    float          keys[16 * SMOLQ__CPU_HEAD], values[SMOLQ__CPU_KEYS * CALL(CHUNK)], p[CALL(QUERIES)][SMOLQ__CPU_KEYS];
    float          keep[CALL(QUERIES)], take[CALL(QUERIES)]; /* weights of the blocks so far, -1 if there are none, and of this one */
    float          best[CALL(QUERIES)], total[CALL(QUERIES)]; /* of this one */
    CALL(query)    query[CALL(QUERIES)];
    int32_t        n_queries, n, some; /* numbers of a head; some of them */
} CALL(attending);

INLINE void CALL(unpack_cell)(int32_t type, const uint8_t *p, int32_t from, int32_t n, float *to, int32_t step)
{
    int32_t i;
    for (i = 0; i < n; i += 16, to += step) {
        int32_t at = from + i;
        lanes v;
        if (type == SMOLQ_TYPE_F16) v = CALL(half)(p + 2 * at);
        else if (type == SMOLQ_TYPE_F32) v = CALL(load)((const float *)(const void *)p + at);
        else v = CALL(mul)(CALL(all)(CALL(half1)(p + at / 32 * 34)), CALL(bytes)((const int8_t *)p + at / 32 * 34 + 2 + at % 32));
        CALL(store)(to, v);
    }
}
/* n numbers, from `from` on, of the cells of positions [begin, end): to [][n], or [n / 16][16][16] of sixteen keys. */
static void CALL(unpack_cells)(const smolq_kv_layer *kv, const uint8_t *head, int32_t begin, int32_t end, int32_t from, int32_t n, float *to, int32_t keys)
{
    int32_t step = keys ? 256 : 16;
    for (; begin < end; begin++, to += keys ? 16 : n) {
        const uint8_t *p = head + (uint64_t)(begin % kv->n_cells) * kv->head_row_bytes;
        if (kv->type == SMOLQ_TYPE_F16) CALL(unpack_cell)(SMOLQ_TYPE_F16, p, from, n, to, step);
        else if (kv->type == SMOLQ_TYPE_F32) CALL(unpack_cell)(SMOLQ_TYPE_F32, p, from, n, to, step);
        else CALL(unpack_cell)(SMOLQ_TYPE_Q8_0, p, from, n, to, step);
    }
}

/* Scores of a query and sixteen keys. */
INLINE void CALL(scores)(const float *q, const float *keys, int32_t n, float scale, float *s)
{
    int32_t i, k, d;
    lanes x[CALL(FOLDS)];
    for (i = 0; i < 16; i += CALL(FOLDS)) {
        UNROLL for (k = 0; k < CALL(FOLDS); k++) x[k] = CALL(zero)();
        for (d = 0; d < n; d += 16) {
            lanes v = CALL(load)(q + d);
            UNROLL for (k = 0; k < CALL(FOLDS); k++) x[k] = CALL(fma)(v, CALL(load)(keys + d * 16 + (i + k) * 16), x[k]);
        }
        CALL(folds)(x, s + i);
    }
    CALL(store)(s, CALL(mul)(CALL(load)(s), CALL(all)(scale)));
}

/* Adds p[k] * values[k][...] for the keys of the block that `some` queries (one or four with the same keys) have, VECTORS * 16 numbers of each, to what is there. */
INLINE void CALL(weigh)(CALL(attending) *a, int32_t at, int32_t n_queries, int32_t n_vectors, int32_t stride, const float *values, int32_t d)
{
    CALL(query) *query = a->query + at;
    lanes o[4][CALL(VECTORS)];
    int32_t k, i, j;
    UNROLL for (i = 0; i < n_queries; i++)
        UNROLL for (j = 0; j < n_vectors; j++) o[i][j] = CALL(zero)();
    for (k = query->first; k < query->last; k++) {
        lanes p[4];
        UNROLL for (i = 0; i < n_queries; i++) p[i] = CALL(all)(a->p[at + i][k]);
        UNROLL for (j = 0; j < n_vectors; j++) {
            lanes v = CALL(load)(values + k * stride + j * 16);
            UNROLL for (i = 0; i < n_queries; i++) o[i][j] = CALL(fma)(p[i], v, o[i][j]);
        }
    }
    UNROLL for (i = 0; i < n_queries; i++)
        UNROLL for (j = 0; j < n_vectors; j++) {
            float *out = query[i].out + d + j * 16;
            if (a->keep[at + i] < 0) CALL(store)(out, o[i][j]); /* its first block */
            else CALL(store)(out, CALL(fma)(CALL(load)(out), CALL(all)(a->keep[at + i]), CALL(mul)(o[i][j], CALL(all)(a->take[at + i]))));
        }
}
INLINE void CALL(weigh_some)(CALL(attending) *a, int32_t at, int32_t n_queries, int32_t stride, int32_t d)
{
    int32_t j = 0;
    for (; j + CALL(VECTORS) * 16 <= stride; j += CALL(VECTORS) * 16) CALL(weigh)(a, at, n_queries, CALL(VECTORS), stride, a->values + j, d + j);
    for (; j < stride; j += 16) CALL(weigh)(a, at, n_queries, 1, stride, a->values + j, d + j);
}

/* The numerators of a query in this block, their best score and sum. */
static void CALL(numerators)(CALL(attending) *a, int32_t i, float cap)
{
    const CALL(query) *query = &a->query[i];
    float *p = a->p[i];
    lanes most, sum = CALL(zero)(), best;
    int32_t k;
    if (cap != 0)
        for (k = query->first; k < query->last; k++) p[k] = smolq_cap(p[k], cap);
    for (k = 0; k < query->first; k++) p[k] = smolq_from_bits(0xff800000u); /* -infinity: e^that is 0 */
    for (k = query->last; k < SMOLQ__CPU_KEYS; k++) p[k] = smolq_from_bits(0xff800000u);
    most = CALL(load)(p);
    UNROLL for (k = 16; k < SMOLQ__CPU_KEYS; k += 16) most = CALL(max)(most, CALL(load)(p + k));
    a->best[i] = CALL(most)(most);
    best = CALL(all)(a->best[i]);
    UNROLL for (k = 0; k < SMOLQ__CPU_KEYS; k += 16) {
        lanes e = CALL(exp)(CALL(sub)(CALL(load)(p + k), best));
        CALL(store)(p + k, e);
        sum = CALL(add)(sum, e);
    }
    a->total[i] = CALL(fold)(sum);
}

/* Takes the block's numerators into account; its values follow. */
static void CALL(merge)(CALL(attending) *a, int32_t block)
{
    int32_t i;
    for (i = 0; i < a->n_queries; i++) {
        float best = a->query[i].best, new_best = a->best[i] > best ? a->best[i] : best;
        a->keep[i] = best - new_best; /* of the first block, or of none, never used */
        a->take[i] = a->best[i] - new_best;
    }
    for (i = 0; i < a->n_queries; i += 16) {
        CALL(store)(a->keep + i, CALL(exp)(CALL(load)(a->keep + i)));
        CALL(store)(a->take + i, CALL(exp)(CALL(load)(a->take + i)));
    }
    for (i = 0; i < a->n_queries; i++) {
        CALL(query) *query = &a->query[i];
        if (query->first == query->last) continue;
        if (query->begin >= block) {
            a->keep[i] = -1;
            query->total = a->total[i];
            query->best = a->best[i];
        } else {
            query->total = CALL(fma1)(query->total, a->keep[i], smolq_mul(a->total[i], a->take[i]));
            if (a->best[i] > query->best) query->best = a->best[i];
        }
    }
}

/* All of a->query, which share their cells. */
static void CALL(attend)(CALL(attending) *a, const smolq_kv_layer *kv, uint64_t head_at, float cap)
{
    int32_t begin = a->query[0].begin, end = 0, block, i, k, d, n = a->n;
    for (i = 0; i < a->n_queries; i++) {
        if (a->query[i].begin < begin) begin = a->query[i].begin;
        if (a->query[i].end > end) end = a->query[i].end;
    }
    for (block = begin - begin % SMOLQ__CPU_KEYS; block < end; block += SMOLQ__CPU_KEYS) {
        int32_t first = block > begin ? 0 : begin - block, last = end - block < SMOLQ__CPU_KEYS ? end - block : SMOLQ__CPU_KEYS;
        for (i = 0; i < a->n_queries; i++) {
            CALL(query) *query = &a->query[i];
            query->first = query->begin > block ? query->begin - block : 0;
            query->last = query->end - block < SMOLQ__CPU_KEYS ? query->end - block : SMOLQ__CPU_KEYS;
            if (query->first >= query->last) query->first = query->last = 0;
        }
        for (k = first - first % 16; k < last; k += 16) {
            int32_t from = k < first ? first : k, to = k + 16 < last ? k + 16 : last;
            CALL(unpack_cells)(kv, kv->k + head_at, block + from, block + to, 0, n, a->keys + (from - k) * 16, 1);
            for (i = 0; i < a->n_queries; i++)
                if (k < a->query[i].last && k + 16 > a->query[i].first) CALL(scores)(a->query[i].q, a->keys, n, a->query[i].scale, a->p[i] + k);
        }
        for (i = 0; i < a->n_queries; i++)
            if (a->query[i].first < a->query[i].last) CALL(numerators)(a, i, cap);
        CALL(merge)(a, block);
        for (d = 0; d < n; d += CALL(CHUNK)) {
            int32_t some = n - d < CALL(CHUNK) ? n - d : CALL(CHUNK);
            CALL(unpack_cells)(kv, kv->v + head_at, block + first, block + last, d, some, a->values + first * some, 0);
            for (i = 0; i < a->n_queries;) {
                const CALL(query) *query = &a->query[i];
                int32_t alike = 1;
                while (alike < 4 && i + alike < a->n_queries && query[alike].first == query->first && query[alike].last == query->last) alike++;
                if (alike < 4) alike = 1;
                if (query->first < query->last) {
                    if (alike == 4) CALL(weigh_some)(a, i, 4, some, d);
                    else CALL(weigh_some)(a, i, 1, some, d);
                }
                i += alike;
            }
        }
    }
}

/* So many tokens share a unit. */
INLINE int32_t CALL(tokens_of)(const smolq_op *op)
{
    int32_t n = CALL(QUERIES) * op->n_head_kv / op->n_head;
    return n < 1 ? 1 : n > 16 ? 16 : n;
}

/* The query heads of a KV head, for the rows of a unit. */
static void CALL(attention)(const smolq__cpu_job *job, int32_t unit, int32_t head_kv)
{
    const smolq_run *run = job->run;
    const smolq_op *op = job->op;
    int32_t row = unit * CALL(tokens_of)(op), n_rows = job->n_rows - row < CALL(tokens_of)(op) ? job->n_rows - row : CALL(tokens_of)(op);
    uint8_t memory[sizeof(CALL(attending)) + 64];
    CALL(attending) *a = (CALL(attending) *)(void *)(memory + (64 - (uintptr_t)memory % 64));
    int32_t n = op->n, group = op->n_head / op->n_head_kv, all, done = 0, i, d;
    a->n = n;
    for (all = n_rows * group; done < all; done += a->n_queries) { /* as many as fit, of one context */
        const smolq_kv_layer *kv = &run->kv[row + done / group][op->layer];
        for (i = 0; i < CALL(QUERIES) && done + i < all; i++) {
            int32_t at = row + (done + i) / group, head = head_kv * group + (done + i) % group;
            CALL(query) *query = &a->query[i];
            if (&run->kv[at][op->layer] != kv) break;
            query->q = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_Q, at) + (size_t)head * (size_t)n;
            query->out = (float *)(void *)smolq_row(run, SMOLQ_BUF_ATT, at) + (size_t)head * (size_t)n;
            query->scale = op->heated ? smolq_mul(op->scale, *(const float *)(const void *)smolq_row(run, SMOLQ_BUF_HEAT, at)) : op->scale;
            query->end = run->position[at] + 1;
            query->begin = op->window && query->end > op->window ? query->end - op->window : 0;
            query->best = a->best[i] = 0;
        }
        a->n_queries = i;
        CALL(attend)(a, kv, (uint64_t)head_kv * (uint64_t)kv->n_cells * kv->head_row_bytes, op->cap);
        for (i = 0; i < a->n_queries; i++) {
            CALL(query) *query = &a->query[i];
            float divide = 1.0f / query->total;
            if (op->w) {
                float sink = op->w[head_kv * group + (done + i) % group], best = sink > query->best ? sink : query->best, keep = smolq_exp(query->best - best);
                divide = keep / CALL(fma1)(query->total, keep, smolq_exp(sink - best));
            }
            for (d = 0; d < n; d += 16) CALL(store)(query->out + d, CALL(mul)(CALL(load)(query->out + d), CALL(all)(divide)));
        }
    }
}

static void CALL(glu)(const smolq_run *run, const smolq_op *op, int32_t row)
{
    float *g = (float *)(void *)smolq_row(run, SMOLQ_BUF_GATE, row);
    const float *up = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_UP, row);
    int32_t i;
    for (i = 0; i + 16 <= op->n; i += 16) CALL(store)(g + i, CALL(gate)(op->gate, CALL(load)(g + i), CALL(load)(up + i)));
    if (i < op->n) CALL(store_some)(g + i, CALL(gate)(op->gate, CALL(load_some)(g + i, op->n - i), CALL(load_some)(up + i, op->n - i)), op->n - i);
}

/* Rows [begin, end) of a part of the expert that a token has picked for a slot. */
static void CALL(expert_rows)(const smolq_run *run, const smolq_op *op, const smolq_op_part *part, int32_t token, int32_t slot, int32_t begin, int32_t end)
{
    const smolq__type *type = smolq__type_of(part->w->type);
    int32_t expert = ((const int32_t *)(const void *)smolq_row(run, SMOLQ_BUF_PICKS, token))[slot], side = CALL(side_by_side)(type), row, r;
    const uint8_t *x = smolq_row(run, part->in, token), *w[8], *matrix = part->w->data + (uint64_t)expert * part->w->expert_bytes;
    const float *bias = part->bias ? part->bias + (size_t)expert * (size_t)part->w->n_rows : NULL;
    float *out = (float *)(void *)smolq_row(run, part->out, token) + (size_t)slot * (size_t)part->w->n_rows, y[1][8];
    if (op->n_seg > 1) x += (uint64_t)slot * (type->ints ? smolq_a8_bytes(part->w->n_cols, type->facts.group) : (uint64_t)part->w->n_cols * 4);
    for (row = begin; row < end; row += side) {
        for (r = 0; r < side; r++) w[r] = matrix + (uint64_t)(row + r < end ? row + r : end - 1) * part->w->row_bytes;
        CALL(rows_1)(type, w, part->w->n_cols, &x, y);
        for (r = 0; r < side && row + r < end; r++) out[row + r] = bias ? y[0][r] + bias[row + r] : y[0][r];
    }
}

/* What is not worth its own kernel is done by the reference backend, unit by unit. */
typedef struct CALL(count) { uint64_t left; } CALL(count);
static int CALL(count_down)(void *user)
{
    CALL(count) *count = (CALL(count) *)user;
    return count->left-- == 0;
}
static void CALL(by_reference)(const smolq__cpu_job *job, uint64_t begin, uint64_t end)
{
    smolq_run run = *job->run;
    CALL(count) count;
    count.left = end - begin;
    run.end_op = run.op + 1;
    run.unit = begin;
    run.numeric = 0;
    run.pause = CALL(count_down);
    run.user = &count;
    smolq_backend_ref()->run(NULL, &run, NULL);
    if (run.numeric) CALL(flag)(job->run);
}

static int CALL(has_kernel)(const smolq_run *run, const smolq_op *op)
{
    switch (op->kind) {
    case SMOLQ_OP_NORM: case SMOLQ_OP_QUANTIZE: case SMOLQ_OP_MATMUL: case SMOLQ_OP_ROPE: case SMOLQ_OP_GLU: case SMOLQ_OP_MATMUL_EXPERTS: return 1;
    case SMOLQ_OP_KV_STORE:  return op->n % 16 == 0 && run->n_rows > 0 && run->kv[0][op->layer].type != SMOLQ_TYPE_Q8_0;
    case SMOLQ_OP_ATTENTION: return op->n % 16 == 0 && op->n <= SMOLQ__CPU_HEAD;
    default:                 return 0;
    }
}

enum { CALL(PANEL) = 16, CALL(EXPERT_ROWS) = 64 };

/* Units: of MATMUL and MATMUL_EXPERTS so many rows, of ATTENTION some tokens and a KV head, of others a token. */
static uint64_t CALL(units)(const smolq_run *run, const smolq_op *op, int32_t n_rows)
{
    uint64_t n = 0;
    int32_t i;
    if (!CALL(has_kernel)(run, op)) return op->kind == SMOLQ_OP_GATHER ? 1 : op->kind == SMOLQ_OP_ATTENTION ? (uint64_t)n_rows * (uint64_t)op->n_head : (uint64_t)n_rows;
    if (op->kind == SMOLQ_OP_MATMUL) {
        for (i = 0; i < op->n_parts; i++)
            if (!op->part[i].gate) n += (uint64_t)(op->part[i].w->n_rows + CALL(PANEL) - 1) / CALL(PANEL);
        return n_rows ? n : 0;
    }
    if (op->kind == SMOLQ_OP_MATMUL_EXPERTS) {
        for (i = 0; i < op->n_parts; i++) n += (uint64_t)op->part[i].w->n_rows;
        return (uint64_t)n_rows * (uint64_t)run->program->n_expert_used * ((n + CALL(EXPERT_ROWS) - 1) / CALL(EXPERT_ROWS));
    }
    if (op->kind == SMOLQ_OP_ATTENTION) return (uint64_t)((n_rows + CALL(tokens_of)(op) - 1) / CALL(tokens_of)(op)) * (uint64_t)op->n_head_kv;
    return (uint64_t)n_rows;
}

/* Panels [first, last) of a part and of the one that it gates, if any. */
static void CALL(panels)(const smolq__cpu_job *job, const smolq_op_part *part, int32_t n_parts, uint64_t begin, uint64_t end)
{
    int32_t first = (int32_t)begin * CALL(PANEL), last = (int32_t)end * CALL(PANEL) < part->w->n_rows ? (int32_t)end * CALL(PANEL) : part->w->n_rows, at_once = CALL(AT_ONCE) * CALL(PANEL), row, i;
    if (job->n_rows <= SMOLQ__CPU_FEW) {
        for (i = 0; i < n_parts; i++) CALL(few)(job->run, &part[i], 0, job->n_rows, first, last);
        return;
    }
#if defined(SMOLQ__CPU_AMX)
    SMOLQ__TILE_CONFIG(&smolq__cpu_tile_config);
#endif
    for (row = first; row < last; row += at_once)
        for (i = 0; i < n_parts; i++) CALL(many)(job->run, &part[i], job->n_rows, row, last - row < at_once ? last - row : at_once);
#if defined(SMOLQ__CPU_AMX)
    SMOLQ__TILE_RELEASE(); /* or each switch of threads would save 8 KB */
#endif
}

/* Panels [begin, end) over all parts. */
static void CALL(matmul)(const smolq__cpu_job *job, uint64_t begin, uint64_t end)
{
    const smolq_op *op = job->op;
    int32_t i, together;
    for (i = 0; i < op->n_parts && end > 0; i += together) {
        uint64_t panels = (uint64_t)(op->part[i].w->n_rows + CALL(PANEL) - 1) / CALL(PANEL), stop = end < panels ? end : panels;
        together = i + 1 < op->n_parts && op->part[i + 1].gate ? 2 : 1;
        if (begin < stop) CALL(panels)(job, &op->part[i], together, begin, stop);
        begin = begin > panels ? begin - panels : 0;
        end = end > panels ? end - panels : 0;
    }
}

static void CALL(experts)(const smolq__cpu_job *job, uint64_t unit)
{
    const smolq_op *op = job->op;
    int32_t n_used = job->run->program->n_expert_used, pick, begin, end, rows = 0, i;
    uint64_t per_pick;
    for (i = 0; i < op->n_parts; i++) rows += op->part[i].w->n_rows;
    per_pick = (uint64_t)(rows + CALL(EXPERT_ROWS) - 1) / CALL(EXPERT_ROWS);
    pick = (int32_t)(unit / per_pick);
    begin = (int32_t)(unit % per_pick) * CALL(EXPERT_ROWS);
    end = begin + CALL(EXPERT_ROWS) < rows ? begin + CALL(EXPERT_ROWS) : rows;
    for (i = 0; i < op->n_parts; i++) { /* the rows of all parts are numbered through */
        int32_t n = op->part[i].w->n_rows;
        if (begin < n && end > 0) CALL(expert_rows)(job->run, op, &op->part[i], pick / n_used, pick % n_used, begin > 0 ? begin : 0, end < n ? end : n);
        begin -= n;
        end -= n;
    }
}

static void CALL(share)(const smolq__cpu_job *job, int32_t index)
{
    const smolq_op *op = job->op;
    uint64_t n = job->end - job->begin, shares = (uint64_t)job->n_shares;
    uint64_t begin = job->begin + n * (uint64_t)index / shares, end = job->begin + n * ((uint64_t)index + 1) / shares, u;
    smolq__cpu_floats saved;
    if (begin == end) return;
    saved = smolq__cpu_floats_enter();
    if (!CALL(has_kernel)(job->run, op)) CALL(by_reference)(job, begin, end);
    else if (op->kind == SMOLQ_OP_MATMUL) CALL(matmul)(job, begin, end);
    else
        for (u = begin; u < end; u++) {
            int32_t row = (int32_t)u;
            switch (op->kind) {
            case SMOLQ_OP_NORM:      CALL(norm)(job->run, op, row); break;
            case SMOLQ_OP_QUANTIZE:  CALL(quantize)(job->run, op, row, job->n_rows > SMOLQ__CPU_FEW && op->n_seg == 1); break;
            case SMOLQ_OP_ROPE:      CALL(rope)(job->run, op, row); break;
            case SMOLQ_OP_KV_STORE:  CALL(kv_store)(job->run, op, row); break;
            case SMOLQ_OP_ATTENTION: CALL(attention)(job, row / op->n_head_kv, row % op->n_head_kv); break;
            case SMOLQ_OP_GLU:       CALL(glu)(job->run, op, row); break;
            default:                 CALL(experts)(job, u); break;
            }
        }
    smolq__cpu_floats_leave(saved);
}

#undef IN_ORDER
#undef BLEND
#undef DWORDS
#undef dwords
#undef STORE256
#undef BYTES
#undef TWICE
#undef LOAD256
#undef LOAD128
#undef UNROLL_ROWS
#undef UNROLL
#undef CALL
#undef eight
#undef four
#undef int32s
#undef int16s
#undef flips
#undef codes
#undef lanes
#undef INLINE

#if defined(SMOLQ__CPU_TARGET) && defined(__clang__)
#  pragma clang attribute pop
#elif defined(SMOLQ__CPU_TARGET) && defined(__GNUC__)
#  pragma GCC pop_options
#  pragma GCC diagnostic pop
#endif
#undef SMOLQ__CPU_TARGET
#undef SMOLQ__CPU_SUFFIX
#endif
