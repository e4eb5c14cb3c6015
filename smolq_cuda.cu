/* smolq_cuda.cu: the CUDA backend of smolq, for NVIDIA GPUs since 2018 (sm_75), with the bits of the reference backend.
 *
 *     nvcc -O2 app.c smolq_cpu.c smolq_cuda.cu         and pass smolq_backend_cuda() in smolq_open_options.backend
 *
 * It needs the CUDA runtime and nothing else.
 *
 * WHERE EACH BYTE LIVES.
 *     weights       in one piece of device memory for each model, still quantized.  A row of the file is a run of blocks, and a block a struct of scales and packed weights at
 *                   odd addresses; here a row is a few planes: one field of all its blocks, then the next field, each plane padded to 16 bytes.  So weights are read 16 bytes
 *                   at a time, no bit is lost, and one function arranges all 28 types by a table of their fields (smolq__cuda_layouts).
 *     activations, KV cache, scratch    in device memory that smolq.h holds for a context, in the layouts of smolq.h.
 *     a batch       tokens, positions, cache descriptors, rotations and zeroed counters come from the host at each run, in one copy, to the front of the context's scratch (smolq__cuda_batch);
 *                   behind them is a flag that kernels raise where a number is NaN or infinite, and room for logits on their way to the host.
 *
 * WHAT A DECODE STEP LAUNCHES, in order, for each layer of a dense model:
 *     norm_quantize          the residual stream, normed, as int8
 *     matvec                 queries, keys and values, one launch for each type among their matrices
 *     rope_store             both rotated, keys and values into the cache
 *     attention              or attention_tile and attention_merge, when there is more than a tile of keys; its output as int8 too
 *     matvec                 into the residual stream
 *     norm_quantize, matvec  gate and up, one gated by the other
 *     quantize, matvec       down, into the residual stream
 * and in the end norm_quantize and matvec for the logits, and best_logits where a token shall be drawn: only its candidates come to the host then.  Other families have steps of their
 * own between; what is not fused goes by a kernel for each operation of the program.  More tokens take matmul for matvec.  A shape of batch that comes a second time is captured as a CUDA
 * graph, and replayed from then on.  On sm_90 and later each kernel begins while the one before it ends (smolq__cuda_begin), and products fetch weights meanwhile.
 *
 * HOW A PRODUCT IS COMPUTED.  Everything is made of chunks, 32 weights of a row that lie side by side: a format (smolq__cuda_format_...) loads a chunk from the planes and takes it
 * apart into 32 small integers, in eight registers, and its integer scales.
 *     one token     (and few, of small matrices) a warp has four rows, a lane a chunk of each: products of four bytes, added up over the lanes of a group of 256 weights, exact in any
 *                   order.  The float steps, which have an order (docs/arithmetic.md, rule 4), are written down in shared memory as pairs of factors, and then one lane for each row
 *                   walks along them.
 *     more tokens   64 rows and 8 or 64 tokens meet in shared memory and tensor cores multiply bytes.  What scale * q needs beyond eight bits is a second plane of bytes: v = 64 high + low.
 *                   A thread holds the accumulators of its results, so the float steps have their order here too.
 *
 * Tests compile this file as plain C++ and run its kernels on the CPU (tests/cuda_shim.h): so kernels are launched, and shared memory, wide loads and tensor cores named, through the
 * words of the first section. */
#ifndef SMOLQ__CUDA_ONCE
#define SMOLQ__CUDA_ONCE

#ifndef SMOLQ_BACKEND
#  define SMOLQ_BACKEND
#endif
#include "smolq.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
#endif

/* ======== words that tests/cuda_shim.h has too ======== */
#ifndef SMOLQ_CUDA_SHIM
#  include <cuda_runtime.h>

#  define SMOLQ__CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) ((kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), cudaGetLastError())
#  define SMOLQ__CUDA_SHARED(type, name, count) __shared__ type name[count]
#  define SMOLQ__CUDA_UNROLL _Pragma("unroll")
#  define SMOLQ__CUDA_CALLED static __device__ __noinline__

/* A launch that need not wait until the kernel before it in the stream has ended (programmatic dependent launch, sm_90): the kernel's blocks begin where that one leaves room, and wait in
 * smolq__cuda_begin.  Only behind a kernel, and only of code compiled for sm_90 or later, which does wait.  Before CUDA 12.3 a graph could not hold such launches. */
#  if CUDART_VERSION >= 12030
template <class... PARAMETERS, class... ARGUMENTS>
static cudaError_t smolq__cuda_launch_dependent(void (*kernel)(PARAMETERS...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, const ARGUMENTS &...arguments)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}
#    define SMOLQ__CUDA_LAUNCH_DEPENDENT smolq__cuda_launch_dependent
#  else
#    define SMOLQ__CUDA_LAUNCH_DEPENDENT SMOLQ__CUDA_LAUNCH
#  endif

/* Each thread of each kernel calls it once, and before that neither reads what another kernel writes nor writes anything: it waits until the kernel before has ended and all that it wrote can be
 * seen.  That one had waited for the one before it, and so on, so all have ended.  First it lets the next kernel begin, at once: nothing is lost by that, since the next one waits for the end of
 * this kernel and not for this word, and its blocks get only the room that is left when all of this one's are running. */
static __device__ __forceinline__ void smolq__cuda_begin(void)
{
#  if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#  endif
}

/* Asks for what lies there, into the L2 cache: weights, before the wait. */
static __device__ __forceinline__ void smolq__cuda_prefetch(const void *p)
{
#  if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("prefetch.global.L2 [%0];" : : "l"(p));
#  else
    (void)p;
#  endif
}

/* Sixteen bytes of weights, at a multiple of 16.  Not of what another kernel writes: compilers may move this load before smolq__cuda_begin. */
static __device__ __forceinline__ uint4 smolq__cuda_load16(const void *p) { return __ldg((const uint4 *)p); }

/* c[4] += a[4] * b[2], a warp together: 16 rows of 32 bytes times 32 rows of 8, in the lane map of PTX's m16n8k32.  sm_75 does it in four quarters. */
static __device__ __forceinline__ void smolq__cuda_mma_s8(int c[4], const unsigned a[4], const unsigned b[2])
{
#  if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#  else
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 2; k++)
            asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                : "+r"(c[2 * half]), "+r"(c[2 * half + 1]) : "r"(a[half + 2 * k]), "r"(b[k]));
#  endif
}

/* The same with 16 bytes: a[0] rows 0-7, a[1] rows 8-15. */
static __device__ __forceinline__ void smolq__cuda_mma_s8_k16(int c[4], const unsigned a[2], const unsigned b[1])
{
#  if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#  else
    for (int half = 0; half < 2; half++)
        asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};" : "+r"(c[2 * half]), "+r"(c[2 * half + 1]) : "r"(a[half]), "r"(b[0]));
#  endif
}
#else
#  define SMOLQ__CUDA_UNROLL /* compilers of the host know best */
#  define SMOLQ__CUDA_CALLED static
#endif

/* ======== weights in device memory ======== */

/* A matrix (or one for each expert).  Row r of expert e begins at data + e * expert_bytes + r * row_bytes, and plane i of it at[i] bytes on. */
enum { SMOLQ__CUDA_PLANES = 5 };
typedef struct smolq__cuda_matrix {
    const uint8_t *data;
    uint64_t row_bytes, expert_bytes;
    int32_t  type, n_cols, n_rows;
    uint32_t at[SMOLQ__CUDA_PLANES];
} smolq__cuda_matrix;

/* The fields of each type's block, which become planes. */
typedef struct smolq__cuda_layout {
    int32_t type, block_bytes;
    struct { int32_t at, bytes; } field[SMOLQ__CUDA_PLANES];
} smolq__cuda_layout;

#define SMOLQ__CUDA_FIELD(block, name) { (int32_t)offsetof(smolq_block_##block, name), (int32_t)sizeof(((smolq_block_##block *)0)->name) }
#define SMOLQ__CUDA_1(NAME, block, a)             { SMOLQ_TYPE_##NAME, (int32_t)sizeof(smolq_block_##block), { SMOLQ__CUDA_FIELD(block, a) } },
#define SMOLQ__CUDA_2(NAME, block, a, b)          { SMOLQ_TYPE_##NAME, (int32_t)sizeof(smolq_block_##block), { SMOLQ__CUDA_FIELD(block, a), SMOLQ__CUDA_FIELD(block, b) } },
#define SMOLQ__CUDA_3(NAME, block, a, b, c) \
    { SMOLQ_TYPE_##NAME, (int32_t)sizeof(smolq_block_##block), { SMOLQ__CUDA_FIELD(block, a), SMOLQ__CUDA_FIELD(block, b), SMOLQ__CUDA_FIELD(block, c) } },
#define SMOLQ__CUDA_4(NAME, block, a, b, c, d) \
    { SMOLQ_TYPE_##NAME, (int32_t)sizeof(smolq_block_##block), { SMOLQ__CUDA_FIELD(block, a), SMOLQ__CUDA_FIELD(block, b), SMOLQ__CUDA_FIELD(block, c), SMOLQ__CUDA_FIELD(block, d) } },
#define SMOLQ__CUDA_5(NAME, block, a, b, c, d, e) \
    { SMOLQ_TYPE_##NAME, (int32_t)sizeof(smolq_block_##block), \
      { SMOLQ__CUDA_FIELD(block, a), SMOLQ__CUDA_FIELD(block, b), SMOLQ__CUDA_FIELD(block, c), SMOLQ__CUDA_FIELD(block, d), SMOLQ__CUDA_FIELD(block, e) } },
static const smolq__cuda_layout smolq__cuda_layouts[] = { /* in the order in which the formats below number their planes */
    SMOLQ__CUDA_1(F32, f32, f)
    SMOLQ__CUDA_1(F16, f16, f)
    SMOLQ__CUDA_1(BF16, bf16, f)
    SMOLQ__CUDA_2(Q4_0, q4_0, qs, d)
    SMOLQ__CUDA_3(Q4_1, q4_1, qs, d, m)
    SMOLQ__CUDA_3(Q5_0, q5_0, qs, d, qh)
    SMOLQ__CUDA_4(Q5_1, q5_1, qs, d, qh, m)
    SMOLQ__CUDA_2(Q8_0, q8_0, qs, d)
    SMOLQ__CUDA_4(Q2_K, q2_k, qs, d, dmin, scales)
    SMOLQ__CUDA_4(Q3_K, q3_k, qs, d, hmask, scales)
    SMOLQ__CUDA_4(Q4_K, q4_k, qs, d, dmin, scales)
    SMOLQ__CUDA_5(Q5_K, q5_k, qs, d, dmin, scales, qh)
    SMOLQ__CUDA_4(Q6_K, q6_k, ql, d, qh, scales)
    SMOLQ__CUDA_2(IQ2_XXS, iq2_xxs, qs, d)
    SMOLQ__CUDA_3(IQ2_XS, iq2_xs, qs, d, scales)
    SMOLQ__CUDA_5(IQ2_S, iq2_s, qs, d, signs, qh, scales)
    SMOLQ__CUDA_3(IQ3_XXS, iq3_xxs, qs, d, signs)
    SMOLQ__CUDA_5(IQ3_S, iq3_s, qs, d, signs, qh, scales)
    SMOLQ__CUDA_3(IQ1_S, iq1_s, qs, d, qh)
    SMOLQ__CUDA_3(IQ1_M, iq1_m, qs, qh, scales)
    SMOLQ__CUDA_2(IQ4_NL, iq4_nl, qs, d)
    SMOLQ__CUDA_4(IQ4_XS, iq4_xs, qs, d, scales_h, scales_l)
    SMOLQ__CUDA_3(TQ1_0, tq1_0, qs, d, qh)
    SMOLQ__CUDA_2(TQ2_0, tq2_0, qs, d)
    SMOLQ__CUDA_2(MXFP4, mxfp4, qs, e)
    SMOLQ__CUDA_2(NVFP4, nvfp4, qs, d)
    SMOLQ__CUDA_2(Q1_0, q1_0, qs, d)
    SMOLQ__CUDA_2(Q2_0, q2_0, qs, d)
};
#undef SMOLQ__CUDA_FIELD
#undef SMOLQ__CUDA_1
#undef SMOLQ__CUDA_2
#undef SMOLQ__CUDA_3
#undef SMOLQ__CUDA_4
#undef SMOLQ__CUDA_5

static const smolq__cuda_layout *smolq__cuda_layout_of(int32_t type)
{
    const smolq__cuda_layout *layout = smolq__cuda_layouts;
    while (layout->type != type) layout++;
    return layout;
}

static uint64_t smolq__cuda_align(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

/* A tensor's matrix, without its place. */
static smolq__cuda_matrix smolq__cuda_matrix_of(const smolq_tensor *t)
{
    const smolq__cuda_layout *layout = smolq__cuda_layout_of(t->type);
    uint64_t n_blocks = t->row_bytes / (uint64_t)layout->block_bytes, at = 0;
    smolq__cuda_matrix m;
    int32_t i;
    memset(&m, 0, sizeof m);
    for (i = 0; i < SMOLQ__CUDA_PLANES; i++) {
        m.at[i] = (uint32_t)at;
        at += smolq__cuda_align(n_blocks * (uint64_t)layout->field[i].bytes, 16);
    }
    m.type = t->type;
    m.n_cols = t->n_cols;
    m.n_rows = t->n_rows;
    m.row_bytes = at;
    m.expert_bytes = at * (uint64_t)t->n_rows;
    return m;
}

/* One row, from blocks to planes; the padding is zero. */
static void smolq__cuda_arrange(const smolq__cuda_matrix *m, const uint8_t *row, uint64_t row_bytes, uint8_t *planes)
{
    const smolq__cuda_layout *layout = smolq__cuda_layout_of(m->type);
    size_t size = (size_t)layout->block_bytes, n_blocks = (size_t)row_bytes / size, i, b, k;
    memset(planes, 0, (size_t)m->row_bytes);
    for (i = 0; i < SMOLQ__CUDA_PLANES; i++) {
        const uint8_t *from = row + layout->field[i].at;
        uint8_t *to = planes + m->at[i];
        size_t n = (size_t)layout->field[i].bytes;
        if (n == size) memcpy(to, row, (size_t)row_bytes);
        else if (n == 2)
            for (b = 0; b < n_blocks; b++, from += size, to += 2) {
                to[0] = from[0];
                to[1] = from[1];
            }
        else if (n == 16)
            for (b = 0; b < n_blocks; b++, from += size, to += 16) memcpy(to, from, 16);
        else
            for (b = 0; b < n_blocks; b++, from += size, to += n)
                for (k = 0; k < n; k++) to[k] = from[k];
    }
}

/* ======== formats: chunks of 32 weights ======== */

/* Weight i is scale[i / 16] * q[i] times a float, plus least[i / 16] times another.  Byte i % 4 of q[i / 4] is weight i. */
typedef struct smolq__cuda_chunk {
    uint32_t q[8];
    int32_t  scale[2], least[2]; /* scale is 1 where a float step covers fewer than 256 weights; least is there where the format has one */
} smolq__cuda_chunk;

/* A row in device memory, and where its planes are. */
typedef struct smolq__cuda_row {
    const uint8_t  *p;
    const uint32_t *at;
} smolq__cuda_row;

#define SMOLQ__CUDA_INLINE static __device__ __forceinline__

SMOLQ__CUDA_INLINE const uint8_t *smolq__cuda_plane(smolq__cuda_row w, int32_t plane, int32_t at) { return w.p + w.at[plane] + at; }
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_u16(smolq__cuda_row w, int32_t plane, int32_t i) { return ((const uint16_t *)(const void *)(w.p + w.at[plane]))[i]; }
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_u32(smolq__cuda_row w, int32_t plane, int32_t i) { return ((const uint32_t *)(const void *)(w.p + w.at[plane]))[i]; }
SMOLQ__CUDA_INLINE float smolq__cuda_f16(smolq__cuda_row w, int32_t plane, int32_t i) { return smolq_f16_to_f32((uint16_t)smolq__cuda_u16(w, plane, i)); }

/* Sixteen bytes. */
SMOLQ__CUDA_INLINE void smolq__cuda_words(const uint8_t *p, uint32_t *q)
{
    uint4 v = smolq__cuda_load16(p);
    q[0] = v.x;
    q[1] = v.y;
    q[2] = v.z;
    q[3] = v.w;
}
SMOLQ__CUDA_INLINE void smolq__cuda_words8(const uint8_t *p, uint32_t *q)
{
    smolq__cuda_words(p, q);
    smolq__cuda_words(p + 16, q + 4);
}
/* 32 bytes that a kernel before this one has written. */
SMOLQ__CUDA_INLINE void smolq__cuda_written8(const uint8_t *p, uint32_t *q)
{
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 2; i++) {
        uint4 v = ((const uint4 *)(const void *)p)[i];
        q[4 * i] = v.x;
        q[4 * i + 1] = v.y;
        q[4 * i + 2] = v.z;
        q[4 * i + 3] = v.w;
    }
}

/* Four bytes at once: x - n where x and n are below 128, */
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_less(uint32_t x, uint32_t n) { return ((x | 0x80808080u) - n * 0x01010101u) ^ 0x80808080u; }
/* -x where the mask is 0xff (it is 0 elsewhere), */
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_negate(uint32_t x, uint32_t mask)
{
    x ^= mask;
    return ((x & 0x7f7f7f7fu) + (mask & 0x01010101u)) ^ (x & 0x80808080u);
}
/* the four lowest bits of x, one in each byte, and the four lowest pairs of bits. */
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_bits(uint32_t x) { return ((x & 15u) * 0x00204081u) & 0x01010101u; }
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_pairs(uint32_t x) { return (x & 3u) | (x & 0xcu) << 6 | (x & 0x30u) << 12 | (x & 0xc0u) << 18; }

/* Sixteen bytes of nibbles: the low ones are the first half. */
SMOLQ__CUDA_INLINE void smolq__cuda_nibbles(const uint8_t *p, uint32_t *q)
{
    uint32_t x[4];
    smolq__cuda_words(p, x);
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = x[i] & 0x0f0f0f0fu;
        q[4 + i] = x[i] >> 4 & 0x0f0f0f0fu;
    }
}
/* One bit of 32 goes to bit `to` of each weight. */
SMOLQ__CUDA_INLINE void smolq__cuda_add_bits(uint32_t bits, int to, uint32_t *q)
{
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 8; i++) q[i] |= smolq__cuda_bits(bits >> 4 * i) << to;
}
SMOLQ__CUDA_INLINE void smolq__cuda_less_all(uint32_t *q, uint32_t n)
{
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 8; i++) q[i] = smolq__cuda_less(q[i], n);
}

/* Eight nibbles of x are numbers in a table of sixteen bytes: the low nibbles' go to low, the high ones' to high.  A byte permutation looks up eight values by three bits, the fourth chooses
 * between two of them. */
SMOLQ__CUDA_INLINE void smolq__cuda_look_up(uint32_t x, uint32_t t0, uint32_t t1, uint32_t t2, uint32_t t3, uint32_t *low, uint32_t *high)
{
    uint32_t found[2];
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 2; i++) {
        uint32_t s = x >> 16 * i & 0xffffu;
        found[i] = __byte_perm(__byte_perm(t0, t1, s & 0x7777u), __byte_perm(t2, t3, s & 0x7777u), 0x3210u | (s & 0x8888u) >> 1);
    }
    *low = __byte_perm(found[0], found[1], 0x6420u);
    *high = __byte_perm(found[0], found[1], 0x7531u);
}
/* Sixteen bytes: the codes of 16 weights in the low nibbles, of the next 16 in the high ones. */
SMOLQ__CUDA_INLINE void smolq__cuda_look_up_32(const uint8_t *p, uint32_t t0, uint32_t t1, uint32_t t2, uint32_t t3, uint32_t *q)
{
    uint32_t x[4];
    smolq__cuda_words(p, x);
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 4; i++) smolq__cuda_look_up(x[i], t0, t1, t2, t3, &q[i], &q[4 + i]);
}
#define SMOLQ__CUDA_IQ4 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u /* smolq_iq4_values, smolq_fp4_values as words */
#define SMOLQ__CUDA_FP4 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu

/* Four weights of a codebook: 2-bit codes of IQ2 and IQ1, 3-bit codes of IQ3, from the bytes t0, t1. */
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_codes2(uint32_t e, uint32_t t0) { return __byte_perm(t0, 0, (e & 3u) | (e & 0xcu) << 2 | (e & 0x30u) << 4 | (e & 0xc0u) << 6); }
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_codes3(uint32_t e, uint32_t t0, uint32_t t1) { return __byte_perm(t0, t1, (e & 7u) | (e & 0x38u) << 1 | (e & 0x1c0u) << 2 | (e & 0xe00u) << 3); }
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_signed(uint32_t q, uint32_t signs) { return smolq__cuda_negate(q, smolq__cuda_bits(signs) * 255u); }
/* Eight weights of an IQ2 entry, of an IQ1 entry. */
SMOLQ__CUDA_INLINE void smolq__cuda_expand_iq2(uint32_t entry, uint32_t signs, uint32_t *q)
{
    q[0] = smolq__cuda_signed(smolq__cuda_codes2(entry, 0x002b1908u), signs);
    q[1] = smolq__cuda_signed(smolq__cuda_codes2(entry >> 8, 0x002b1908u), signs >> 4);
}
SMOLQ__CUDA_INLINE void smolq__cuda_expand_iq1(uint32_t entry, uint32_t is_less, uint32_t *q)
{
    uint32_t table = is_less ? 0x0f07fff7u : 0x110901f9u; /* 8 * (code - 1) - 1 or + 1 */
    q[0] = smolq__cuda_codes2(entry, table);
    q[1] = smolq__cuda_codes2(entry >> 8, table);
}

/* Digit after digit of bytes in base three, as smolq__trits: four bytes in two registers of 16-bit halves; power is 3^digit. */
SMOLQ__CUDA_INLINE uint32_t smolq__cuda_trits(uint32_t x, uint32_t power)
{
    uint32_t even = ((x & 0x00ff00ffu) * power & 0x00ff00ffu) * 3 >> 8 & 0x00030003u;
    uint32_t odd = ((x >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu) * 3 >> 8 & 0x00030003u;
    return smolq__cuda_less(even | odd << 8, 1);
}

/* What a format tells its kernels: weights for each float step, whether there are minimums, whether scale * q fits a byte.  Each has
 *   chunk(w, c, k)   chunk c of a row
 *   d(w, s)          the scale of float step s
 *   dmin(w, s)       and that of its minimums
 * The numbers in their bodies are planes, by the table above; docs/formats.md draws the blocks, src/levels.h has the same in plain C. */
template <int STEP_, int HAS_LEAST_, int IS_BYTE_> struct smolq__cuda_format {
    enum { STEP = STEP_, HAS_LEAST = HAS_LEAST_, IS_BYTE = IS_BYTE_ };
    static __device__ __forceinline__ float d(smolq__cuda_row w, int32_t s) { return smolq__cuda_f16(w, 1, s); }
    static __device__ __forceinline__ float dmin(smolq__cuda_row, int32_t) { return 0; }
};
#define SMOLQ__CUDA_CHUNK static __device__ __forceinline__ void chunk(smolq__cuda_row w, int32_t c, smolq__cuda_chunk &k)
#define SMOLQ__CUDA_D     static __device__ __forceinline__ float d(smolq__cuda_row w, int32_t s)
#define SMOLQ__CUDA_DMIN  static __device__ __forceinline__ float dmin(smolq__cuda_row w, int32_t s)

/* ---- blocks of 32 to 128 ---- */

SMOLQ__CUDA_INLINE void smolq__cuda_unscaled(smolq__cuda_chunk &k) { k.scale[0] = k.scale[1] = k.least[0] = k.least[1] = 1; }

struct smolq__cuda_format_Q4_0 : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_nibbles(smolq__cuda_plane(w, 0, c * 16), k.q);
        smolq__cuda_less_all(k.q, 8);
    }
};
struct smolq__cuda_format_Q4_1 : smolq__cuda_format<32, 1, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_nibbles(smolq__cuda_plane(w, 0, c * 16), k.q);
    }
    SMOLQ__CUDA_DMIN { return smolq__cuda_f16(w, 2, s); }
};
struct smolq__cuda_format_Q5_0 : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_nibbles(smolq__cuda_plane(w, 0, c * 16), k.q);
        smolq__cuda_add_bits(smolq__cuda_u32(w, 2, c), 4, k.q);
        smolq__cuda_less_all(k.q, 16);
    }
};
struct smolq__cuda_format_Q5_1 : smolq__cuda_format<32, 1, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_nibbles(smolq__cuda_plane(w, 0, c * 16), k.q);
        smolq__cuda_add_bits(smolq__cuda_u32(w, 2, c), 4, k.q);
    }
    SMOLQ__CUDA_DMIN { return smolq__cuda_f16(w, 3, s); }
};
struct smolq__cuda_format_Q8_0 : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_words8(smolq__cuda_plane(w, 0, c * 32), k.q);
    }
};
struct smolq__cuda_format_IQ4_NL : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_look_up_32(smolq__cuda_plane(w, 0, c * 16), SMOLQ__CUDA_IQ4, k.q);
    }
};
struct smolq__cuda_format_MXFP4 : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_look_up_32(smolq__cuda_plane(w, 0, c * 16), SMOLQ__CUDA_FP4, k.q);
    }
    SMOLQ__CUDA_D { return smolq_e8m0_half(*smolq__cuda_plane(w, 1, s)); }
};
struct smolq__cuda_format_NVFP4 : smolq__cuda_format<16, 0, 1> { /* eight bytes are 16 weights */
    SMOLQ__CUDA_CHUNK
    {
        uint32_t x[4];
        smolq__cuda_unscaled(k);
        smolq__cuda_words(smolq__cuda_plane(w, 0, c * 16), x);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 4; i++) smolq__cuda_look_up(x[i], SMOLQ__CUDA_FP4, &k.q[i / 2 * 4 + i % 2], &k.q[i / 2 * 4 + i % 2 + 2]);
    }
    SMOLQ__CUDA_D { return smolq_ue4m3_to_f32(*smolq__cuda_plane(w, 1, s)) * 0.5f; }
};
struct smolq__cuda_format_Q1_0 : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t x = smolq__cuda_u32(w, 0, c);
        smolq__cuda_unscaled(k);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++) k.q[i] = ~(smolq__cuda_bits(x >> 4 * i) * 0xfeu);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s / 4); }
};
struct smolq__cuda_format_Q2_0 : smolq__cuda_format<32, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++) k.q[i] = smolq__cuda_less(smolq__cuda_pairs(smolq__cuda_u32(w, 0, 2 * c + i / 4) >> i % 4 * 8), 1);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s / 2); }
};

/* ---- blocks of 256: chunk c is run c % 8 of block c / 8 ---- */

/* Pairs of bits: 32 bytes are four chunks. */
SMOLQ__CUDA_INLINE void smolq__cuda_pairs_of(smolq__cuda_row w, int32_t c, uint32_t *q)
{
    smolq__cuda_words8(smolq__cuda_plane(w, 0, c / 8 * 64 + c % 8 / 4 * 32), q);
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 8; i++) q[i] = q[i] >> c % 4 * 2 & 0x03030303u;
}
/* Nibbles: 32 bytes are two chunks. */
SMOLQ__CUDA_INLINE void smolq__cuda_nibbles_of(smolq__cuda_row w, int32_t c, uint32_t *q)
{
    smolq__cuda_words8(smolq__cuda_plane(w, 0, c / 2 * 32), q);
    SMOLQ__CUDA_UNROLL
    for (int i = 0; i < 8; i++) q[i] = q[i] >> c % 2 * 4 & 0x0f0f0f0fu;
}
/* smolq__scales_6_bit. */
SMOLQ__CUDA_INLINE void smolq__cuda_scales_6_bit(const uint8_t *s, int32_t j, smolq__cuda_chunk &k)
{
    if (j < 4) {
        k.scale[0] = s[j] & 63;
        k.least[0] = s[j + 4] & 63;
    } else {
        k.scale[0] = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        k.least[0] = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
    k.scale[1] = k.scale[0];
    k.least[1] = k.least[0];
}
/* 4-bit scales s of two runs that mean 2s + 1. */
SMOLQ__CUDA_INLINE void smolq__cuda_odd_scales(uint32_t byte, smolq__cuda_chunk &k)
{
    k.scale[0] = (int32_t)((byte & 15u) * 2 + 1);
    k.scale[1] = (int32_t)((byte >> 4) * 2 + 1);
}

struct smolq__cuda_format_TQ1_0 : smolq__cuda_format<256, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        int32_t b = c / 8, j = c % 8;
        uint32_t power = 1, x[8];
        smolq__cuda_unscaled(k);
        if (j < 5) { /* digit j of 32 bytes */
            smolq__cuda_words8(smolq__cuda_plane(w, 0, b * 48), x);
            for (int i = 0; i < j; i++) power *= 3;
            SMOLQ__CUDA_UNROLL
            for (int i = 0; i < 8; i++) k.q[i] = smolq__cuda_trits(x[i], power);
        } else { /* two digits of 16 bytes; the last chunk has one, and four digits of four bytes */
            uint32_t last = smolq__cuda_u32(w, 2, b);
            smolq__cuda_words(smolq__cuda_plane(w, 0, b * 48 + 32), x);
            for (int i = 5; i < j; i++) power *= 9;
            SMOLQ__CUDA_UNROLL
            for (int i = 0; i < 4; i++) {
                k.q[i] = smolq__cuda_trits(x[i], power);
                k.q[4 + i] = j < 7 ? smolq__cuda_trits(x[i], power * 3) : smolq__cuda_trits(last, i == 0 ? 1 : i == 1 ? 3 : i == 2 ? 9 : 27);
            }
        }
    }
};
struct smolq__cuda_format_TQ2_0 : smolq__cuda_format<256, 0, 1> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_unscaled(k);
        smolq__cuda_pairs_of(w, c, k.q);
        smolq__cuda_less_all(k.q, 1);
    }
};
struct smolq__cuda_format_Q2_K : smolq__cuda_format<256, 1, 0> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t s = smolq__cuda_u16(w, 3, c);
        smolq__cuda_pairs_of(w, c, k.q);
        k.scale[0] = (int32_t)(s & 15u);
        k.least[0] = (int32_t)(s >> 4 & 15u);
        k.scale[1] = (int32_t)(s >> 8 & 15u);
        k.least[1] = (int32_t)(s >> 12);
    }
    SMOLQ__CUDA_DMIN { return -smolq__cuda_f16(w, 2, s); }
};
struct smolq__cuda_format_Q3_K : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        const uint8_t *s = smolq__cuda_plane(w, 3, c / 8 * 12);
        int32_t j = c % 8;
        uint32_t high[8];
        smolq__cuda_pairs_of(w, c, k.q);
        smolq__cuda_words8(smolq__cuda_plane(w, 2, c / 8 * 32), high);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++) k.q[i] = smolq__cuda_less(k.q[i] | (high[i] >> j & 0x01010101u) << 2, 4);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 2; i++) { /* nibble r of the first eight bytes, pair r / 4 of byte 8 + r % 4 */
            int32_t r = 2 * j + i;
            k.scale[i] = ((s[r % 8] >> r / 8 * 4 & 15) | (s[8 + r % 4] >> r / 4 * 2 & 3) << 4) - 32;
        }
    }
};
struct smolq__cuda_format_Q4_K : smolq__cuda_format<256, 1, 0> {
    SMOLQ__CUDA_CHUNK
    {
        smolq__cuda_nibbles_of(w, c, k.q);
        smolq__cuda_scales_6_bit(smolq__cuda_plane(w, 3, c / 8 * 12), c % 8, k);
    }
    SMOLQ__CUDA_DMIN { return -smolq__cuda_f16(w, 2, s); }
};
struct smolq__cuda_format_Q5_K : smolq__cuda_format<256, 1, 0> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t high[8];
        smolq__cuda_nibbles_of(w, c, k.q);
        smolq__cuda_words8(smolq__cuda_plane(w, 4, c / 8 * 32), high);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++) k.q[i] |= (high[i] >> c % 8 & 0x01010101u) << 4;
        smolq__cuda_scales_6_bit(smolq__cuda_plane(w, 3, c / 8 * 12), c % 8, k);
    }
    SMOLQ__CUDA_DMIN { return -smolq__cuda_f16(w, 2, s); }
};
struct smolq__cuda_format_Q6_K : smolq__cuda_format<256, 0, 0> { /* half a block: 64 bytes of low nibbles, 32 of pairs */
    SMOLQ__CUDA_CHUNK
    {
        uint32_t high[8], s = smolq__cuda_u16(w, 3, c);
        smolq__cuda_words8(smolq__cuda_plane(w, 0, c / 4 * 64 + c % 2 * 32), k.q);
        smolq__cuda_words8(smolq__cuda_plane(w, 2, c / 4 * 32), high);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++) k.q[i] = smolq__cuda_less((k.q[i] >> c % 4 / 2 * 4 & 0x0f0f0f0fu) | (high[i] >> c % 4 * 2 & 0x03030303u) << 4, 32);
        k.scale[0] = (int8_t)s;
        k.scale[1] = (int8_t)(s >> 8);
    }
};
struct smolq__cuda_format_IQ4_XS : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        int32_t b = c / 8, r = c % 8;
        smolq__cuda_look_up_32(smolq__cuda_plane(w, 0, c * 16), SMOLQ__CUDA_IQ4, k.q);
        k.scale[0] = k.scale[1] = (int32_t)((smolq__cuda_u32(w, 3, b) >> r * 4 & 15u) | (smolq__cuda_u16(w, 2, b) >> r * 2 & 3u) << 4) - 32;
    }
};
struct smolq__cuda_format_IQ2_XXS : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t index = smolq__cuda_u32(w, 0, 2 * c), word = smolq__cuda_u32(w, 0, 2 * c + 1);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 4; i++) smolq__cuda_expand_iq2(smolq_grid_iq2_xxs[index >> 8 * i & 255u], smolq_even_signs(word >> i * 7), k.q + 2 * i);
        k.scale[0] = k.scale[1] = (int32_t)((word >> 28) * 2 + 1);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s) * 0.125f; }
};
struct smolq__cuda_format_IQ2_XS : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 4; i++) {
            uint32_t word = smolq__cuda_u16(w, 0, 4 * c + i);
            smolq__cuda_expand_iq2(smolq_grid_iq2_xs[word & 511u], smolq_even_signs(word >> 9), k.q + 2 * i);
        }
        smolq__cuda_odd_scales(*smolq__cuda_plane(w, 2, c), k);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s) * 0.125f; }
};
struct smolq__cuda_format_IQ2_S : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t index = smolq__cuda_u32(w, 0, c), signs = smolq__cuda_u32(w, 2, c), high = *smolq__cuda_plane(w, 3, c);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 4; i++) smolq__cuda_expand_iq2(smolq_grid_iq2_s[(index >> 8 * i & 255u) | (high >> 2 * i & 3u) << 8], signs >> 8 * i, k.q + 2 * i);
        smolq__cuda_odd_scales(*smolq__cuda_plane(w, 4, c), k);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s) * 0.125f; }
};
struct smolq__cuda_format_IQ3_XXS : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        const uint8_t *index = smolq__cuda_plane(w, 0, c * 8);
        uint32_t word = smolq__cuda_u32(w, 2, c);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++)
            k.q[i] = smolq__cuda_signed(smolq__cuda_codes3(smolq_grid_iq3_xxs[index[i]], 0x1c140c04u, 0x3e342c24u), smolq_even_signs(word >> i / 2 * 7) >> i % 2 * 4);
        k.scale[0] = k.scale[1] = (int32_t)((word >> 28) * 2 + 1);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s) * 0.25f; }
};
struct smolq__cuda_format_IQ3_S : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        const uint8_t *index = smolq__cuda_plane(w, 0, c * 8);
        uint32_t signs = smolq__cuda_u32(w, 2, c), high = *smolq__cuda_plane(w, 3, c);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 8; i++)
            k.q[i] = smolq__cuda_signed(smolq__cuda_codes3(smolq_grid_iq3_s[index[i] | (high >> i & 1u) << 8], 0x07050301u, 0x0f0d0b09u), signs >> 4 * i);
        k.scale[0] = k.scale[1] = (*smolq__cuda_plane(w, 4, c / 2) >> c % 2 * 4 & 15) * 2 + 1;
    }
};
struct smolq__cuda_format_IQ1_S : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t index = smolq__cuda_u32(w, 0, c), word = smolq__cuda_u16(w, 2, c);
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 4; i++) smolq__cuda_expand_iq1(smolq_grid_iq1[(index >> 8 * i & 255u) | (word >> 3 * i & 7u) << 8], word & 0x8000u, k.q + 2 * i);
        k.scale[0] = k.scale[1] = (int32_t)((word >> 12 & 7u) * 2 + 1);
    }
    SMOLQ__CUDA_D { return smolq__cuda_f16(w, 1, s) * 0.125f; }
};
struct smolq__cuda_format_IQ1_M : smolq__cuda_format<256, 0, 0> {
    SMOLQ__CUDA_CHUNK
    {
        uint32_t index = smolq__cuda_u32(w, 0, c), word = smolq__cuda_u16(w, 1, c), scales = smolq__cuda_u16(w, 2, c / 2) >> c % 2 * 6;
        SMOLQ__CUDA_UNROLL
        for (int i = 0; i < 4; i++) smolq__cuda_expand_iq1(smolq_grid_iq1[(index >> 8 * i & 255u) | (word >> 4 * i & 7u) << 8], word >> 4 * i & 8u, k.q + 2 * i);
        k.scale[0] = (int32_t)((scales & 7u) * 2 + 1);
        k.scale[1] = (int32_t)((scales >> 3 & 7u) * 2 + 1);
    }
    SMOLQ__CUDA_D /* the high nibbles of four words */
    {
        uint32_t low = smolq__cuda_u32(w, 2, 2 * s), high = smolq__cuda_u32(w, 2, 2 * s + 1);
        return smolq_f16_to_f32((uint16_t)((low >> 12 & 15u) | (low >> 28) << 4 | (high >> 12 & 15u) << 8 | (high >> 28) << 12)) * 0.125f;
    }
};
#undef SMOLQ__CUDA_CHUNK
#undef SMOLQ__CUDA_D
#undef SMOLQ__CUDA_DMIN

/* ======== kernels: products ======== */

/* Over a warp, or over aligned groups of eight or sixteen lanes; every lane gets the result.  A fold (docs/arithmetic.md) adds what stands 8, 4, 2, 1 lanes apart. */
SMOLQ__CUDA_INLINE int32_t smolq__cuda_sum8(int32_t x)
{
    x += __shfl_xor_sync(~0u, x, 1);
    x += __shfl_xor_sync(~0u, x, 2);
    return x + __shfl_xor_sync(~0u, x, 4);
}
SMOLQ__CUDA_INLINE float smolq__cuda_fold16(float x)
{
    x += __shfl_xor_sync(~0u, x, 8);
    x += __shfl_xor_sync(~0u, x, 4);
    x += __shfl_xor_sync(~0u, x, 2);
    return x + __shfl_xor_sync(~0u, x, 1);
}
SMOLQ__CUDA_INLINE float smolq__cuda_max32(float x)
{
    for (int32_t apart = 16; apart; apart /= 2) {
        float other = __shfl_xor_sync(~0u, x, apart);
        x = other > x ? other : x;
    }
    return x;
}

/* Rule 6: activation(gate) * up.  Called, since it is long and matmul has it at 32 places. */
SMOLQ__CUDA_CALLED float smolq__cuda_gated(int32_t kind, float gate, float up)
{
    if (kind == SMOLQ_GATE_SILU) return smolq_mul(smolq_silu(gate), up);
    if (kind == SMOLQ_GATE_GELU) return smolq_mul(smolq_gelu(gate), up);
    gate = gate > 7.0f ? 7.0f : gate;
    up = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
    return smolq_mul(gate / (1.0f + smolq_exp(smolq_mul(-1.702f, gate))), up + 1.0f);
}

/* Another matrix of the same type and width for the same x, whose blocks come after those of the first. */
typedef struct smolq__cuda_sibling {
    const uint8_t *w;
    const float   *bias;
    uint8_t       *y;
    int32_t        n_rows;
    uint32_t       first_block; /* of the grid; above all of it: there is no such sibling */
} smolq__cuda_sibling;

/* A part of a product: y[token][row] = w[row] * x[token], for all tokens; or for each token and slot with the expert that was picked for it. */
typedef struct smolq__cuda_product {
    smolq__cuda_matrix w;
    const uint8_t *x;
    uint8_t       *y;
    const float   *bias;
    const uint8_t *picks;    /* NULL: no experts */
    uint64_t       x_stride, y_stride, picks_stride; /* bytes from token to token */
    uint64_t       x_slot;   /* and from slot to slot; 0: they share a row */
    uint32_t       at_d, at_sums;                    /* of int8 activations */
    int32_t        n_tokens, n_used;
    float          add;      /* as in smolq_op_part */
    int32_t        gate;
    const uint8_t *up;       /* NULL, or a second matrix like w, whose products the results gate (as the next part does) */
    const float   *up_bias;
    int32_t        up_gate;
    smolq__cuda_sibling sibling[2]; /* of a matvec of one token */
} smolq__cuda_product;

/* Where the activations, the weights and the results of one token, or of one token and slot, are. */
typedef struct smolq__cuda_place {
    const uint8_t *w, *x;
    float         *y;
    const float   *bias;
    int32_t        n_rows;
} smolq__cuda_place;

SMOLQ__CUDA_INLINE smolq__cuda_place smolq__cuda_place_of(const smolq__cuda_product &p, int32_t token)
{
    smolq__cuda_place at;
    int32_t slot = 0, expert = 0;
    if (p.picks) {
        slot = token % p.n_used;
        token /= p.n_used;
        expert = ((const int32_t *)(const void *)(p.picks + (uint64_t)token * p.picks_stride))[slot];
    }
    at.w = p.w.data + (uint64_t)expert * p.w.expert_bytes;
    at.x = p.x + (uint64_t)token * p.x_stride + (uint64_t)slot * p.x_slot;
    at.y = (float *)(void *)(p.y + (uint64_t)token * p.y_stride) + (size_t)slot * (size_t)p.w.n_rows;
    at.bias = p.bias ? p.bias + (size_t)expert * (size_t)p.w.n_rows : NULL;
    at.n_rows = p.w.n_rows;
    return at;
}

SMOLQ__CUDA_INLINE void smolq__cuda_finish(const smolq__cuda_product &p, const smolq__cuda_place &at, int32_t row, float y)
{
    if (at.bias) y = y + at.bias[row];
    at.y[row] = p.gate ? smolq__cuda_gated(p.gate, at.y[row], y) : p.add != 0 ? smolq_fma(p.add, y, at.y[row]) : y;
}

/* Asks for the beginning of a row, a thread for the 64 bytes from `at` on: what a product can do while the kernel before it still runs. */
SMOLQ__CUDA_INLINE void smolq__cuda_ask_ahead(const smolq__cuda_product &p, const uint8_t *w, int32_t row, int32_t n_rows, int32_t at)
{
    if (row < n_rows && (uint64_t)at < p.w.row_bytes) smolq__cuda_prefetch(w + (uint64_t)row * p.w.row_bytes + at);
}

enum { SMOLQ__CUDA_WARPS = 4, SMOLQ__CUDA_ROWS = 4, SMOLQ__CUDA_RECORDS = 32 };

/* One token (or each of a few experts' slots) times a quantized matrix; or times a few matrices, siblings in one grid.
 * Block: 4 warps; warp: ROWS rows, or with a second matrix half as many of both, in turn; lane: every 32nd chunk of each.  Shared memory: for each row of a warp the factors of up to 32 float
 * steps, 8 bytes each (and as much again for minimums); records of different rows begin in different banks.  Reads the matrix once, 16 bytes at a time, and x once for each warp, from the
 * L1 cache.  Four rows have four times the bytes on their way and share the walk along the records; one row makes four times the blocks, which small matrices need. */
template <class FORMAT, int ROWS> static __global__ void __launch_bounds__(128, ROWS == 1 ? 8 : 6) smolq__cuda_matvec(smolq__cuda_product p)
{
    enum { WHOLE = FORMAT::STEP == 256, SPAN = WHOLE ? SMOLQ__CUDA_RECORDS * 8 : 32, /* chunks between two walks along the records */
           PAIRS = FORMAT::STEP == 16 || FORMAT::HAS_LEAST ? 2 : 1,                  /* float steps of a record: of a group and its minimums, or of two groups */
           STRIDE = SMOLQ__CUDA_RECORDS * PAIRS + 1 };
    SMOLQ__CUDA_SHARED(float2, record, SMOLQ__CUDA_WARPS * ROWS * STRIDE);
    int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32, n_chunks = p.w.n_cols / 32, of_row = p.up ? 2 : 1; /* results of this warp that are one in the end */
    int32_t first_row = (int32_t)blockIdx.x, asked = lane * ROWS / 32; /* of the rows */
    if (p.picks) smolq__cuda_begin(); /* the kernel before says which weights */
    smolq__cuda_place place = smolq__cuda_place_of(p, (int32_t)blockIdx.y);
    const float *dx = (const float *)(const void *)(place.x + p.at_d);
    const uint32_t *sums = (const uint32_t *)(const void *)(place.x + p.at_sums);
    float2 *mine = record + warp * ROWS * STRIDE;
    float acc = 0; /* lane r: of row first_row + r / of_row */
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < 2; i++)
        if (blockIdx.x >= p.sibling[i].first_block) {
            first_row = (int32_t)(blockIdx.x - p.sibling[i].first_block);
            place.w = p.sibling[i].w;
            place.y = (float *)(void *)p.sibling[i].y;
            place.bias = p.sibling[i].bias;
            place.n_rows = p.sibling[i].n_rows;
        }
    first_row = (first_row * SMOLQ__CUDA_WARPS + warp) * (ROWS / of_row);
    if (!p.picks) {
        smolq__cuda_ask_ahead(p, asked % of_row ? p.up : place.w, first_row + asked / of_row, place.n_rows, lane % (32 / ROWS) * 64);
        smolq__cuda_begin();
    }
    if (first_row >= place.n_rows) return; /* the whole warp */

    for (int32_t first = 0; first < n_chunks; first += SPAN) {
        int32_t end = n_chunks - first < SPAN ? n_chunks : first + SPAN;
        for (int32_t base = first; base < end; base += 32) {
            int32_t is_there = base + lane < end, c = is_there ? base + lane : end - 1; /* lanes behind the end compute for nobody */
            uint32_t x[8], sum = 0;
            float d = dx[WHOLE ? c / 8 : c];
            smolq__cuda_written8(place.x + (size_t)c * 32, x);
            if (FORMAT::HAS_LEAST) sum = sums[c];
            SMOLQ__CUDA_UNROLL
            for (int32_t r = 0; r < ROWS; r++) {
                int32_t row = first_row + r / of_row < place.n_rows ? first_row + r / of_row : place.n_rows - 1, isum[2] = { 0, 0 }, msum = 0;
                smolq__cuda_row w = { (r % of_row ? p.up : place.w) + (uint64_t)row * p.w.row_bytes, p.w.at };
                smolq__cuda_chunk k;
                FORMAT::chunk(w, c, k);
                SMOLQ__CUDA_UNROLL
                for (int32_t i = 0; i < 8; i++) isum[i / 4] = __dp4a((int)k.q[i], (int)x[i], isum[i / 4]);
                if (FORMAT::HAS_LEAST) msum = k.least[0] * (int16_t)sum + k.least[1] * (int16_t)(sum >> 16);
                if (WHOLE) {
                    int32_t total = smolq__cuda_sum8(k.scale[0] * isum[0] + k.scale[1] * isum[1]);
                    if (FORMAT::HAS_LEAST) msum = smolq__cuda_sum8(msum);
                    if (lane % 8 == 0 && is_there) {
                        float2 *to = mine + r * STRIDE + (c - first) / 8 * PAIRS;
                        to[0] = make_float2(smolq_mul(FORMAT::d(w, c / 8), d), (float)total);
                        if (FORMAT::HAS_LEAST) to[1] = make_float2(smolq_mul(FORMAT::dmin(w, c / 8), d), (float)msum);
                    }
                } else if (is_there) {
                    float2 *to = mine + r * STRIDE + (c - first) * PAIRS;
                    if (FORMAT::STEP == 16) {
                        to[0] = make_float2(smolq_mul(FORMAT::d(w, 2 * c), d), (float)isum[0]);
                        to[1] = make_float2(smolq_mul(FORMAT::d(w, 2 * c + 1), d), (float)isum[1]);
                    } else {
                        to[0] = make_float2(smolq_mul(FORMAT::d(w, c), d), (float)(isum[0] + isum[1]));
                        if (FORMAT::HAS_LEAST) to[1] = make_float2(smolq_mul(FORMAT::dmin(w, c), d), (float)msum);
                    }
                }
            }
        }
        __syncwarp(); /* the records are written */
        if (lane < ROWS) {
            const float2 *from = mine + lane * STRIDE;
            int32_t n = (end - first) / (WHOLE ? 8 : 1) * PAIRS;
            for (int32_t i = 0; i < n; i++) acc = smolq_fma(from[i].x, from[i].y, acc);
        }
        __syncwarp(); /* and read */
    }
    if (p.up) {
        float up = __shfl_down_sync(~0u, acc, 1);
        int32_t row = first_row + lane / 2;
        if (lane >= ROWS || lane % 2 || row >= place.n_rows) return;
        if (place.bias) acc = acc + place.bias[row];
        if (p.up_bias) up = up + p.up_bias[row];
        place.y[row] = smolq__cuda_gated(p.up_gate, acc, up);
    } else if (lane < ROWS && first_row + lane < place.n_rows) {
        smolq__cuda_finish(p, place, first_row + lane, acc);
    }
}

/* Four integers scale * q, |v| <= 4096, as 64 * high + low, |high| <= 64, -32 <= low < 32.  Two at a time in halves of a register, moved up by 4096 + 32 so that nothing is negative. */
SMOLQ__CUDA_INLINE void smolq__cuda_split(uint32_t q, int32_t scale, uint32_t *low, uint32_t *high)
{
    uint32_t moved = q ^ 0x80808080u, rest = 0x10201020u - (uint32_t)scale * 0x00800080u;
    uint32_t even = (moved & 0x00ff00ffu) * (uint32_t)scale + rest, odd = (moved >> 8 & 0x00ff00ffu) * (uint32_t)scale + rest;
    *low = (((even & 0x003f003fu) | (odd & 0x003f003fu) << 8) + 0x60606060u) ^ 0x80808080u;               /* - 32 */
    *high = (((even >> 6 & 0x00ff00ffu) | (odd >> 6 & 0x00ff00ffu) << 8) + 0x40404040u) ^ 0x80808080u;    /* - 64 */
}

/* The same for one number. */
SMOLQ__CUDA_INLINE int32_t smolq__cuda_low(int32_t x) { return ((x + 32) & 63) - 32; }
SMOLQ__CUDA_INLINE int32_t smolq__cuda_high(int32_t x) { return (x + 32) >> 6; }

enum { SMOLQ__CUDA_TILE_ROWS = 64, SMOLQ__CUDA_TILE_CHUNKS = 4, SMOLQ__CUDA_TILE_STRIDE = 36 /* words: 32, and 4 so that eight rows lie in different banks */ };

/* Several tokens times a quantized matrix, on tensor cores.
 * Block: 64 rows, 8 * N_TILES tokens, 4 warps; warp: 16 rows and all tokens; thread: rows g and g + 8 of these (g = lane / 4) and of each tile of eight tokens numbers 2t and 2t + 1 (t = lane % 4).
 * Shared memory, for 128 columns at a time: the weights as bytes (two planes where scale * q needs them), the activations, the scales of both, minimums and sums.  Barriers: one when it is
 * filled, one when it is used up.  Reads the matrix once for every block of tokens and the activations once for every 64 rows, from the L2 cache. */
template <class FORMAT, int N_TILES> static __global__ void __launch_bounds__(128) smolq__cuda_matmul(smolq__cuda_product p)
{
    enum { WHOLE = FORMAT::STEP == 256, TWO_PLANES = WHOLE && !FORMAT::IS_BYTE, TOKENS = 8 * N_TILES, ROWS = SMOLQ__CUDA_TILE_ROWS, CHUNKS = SMOLQ__CUDA_TILE_CHUNKS, STRIDE = SMOLQ__CUDA_TILE_STRIDE,
           STEPS = FORMAT::STEP == 16 ? 2 * CHUNKS : CHUNKS, /* float steps in the tile; with blocks of 256 there is one in every second tile */
           LEAST = FORMAT::HAS_LEAST };
    SMOLQ__CUDA_SHARED(uint32_t, low, ROWS * STRIDE);
    SMOLQ__CUDA_SHARED(uint32_t, high, TWO_PLANES ? ROWS * STRIDE : 1);
    SMOLQ__CUDA_SHARED(uint32_t, xs, TOKENS * STRIDE);
    SMOLQ__CUDA_SHARED(float, wd, ROWS * (STEPS + 1));
    SMOLQ__CUDA_SHARED(float, wm, LEAST ? ROWS * (STEPS + 1) : 1);
    SMOLQ__CUDA_SHARED(float, xd, TOKENS * (CHUNKS + 1));
    SMOLQ__CUDA_SHARED(float, xsum, LEAST && !WHOLE ? TOKENS * (CHUNKS + 1) : 1);  /* sums of 32, */
    SMOLQ__CUDA_SHARED(uint32_t, least, LEAST && WHOLE ? ROWS * 5 : 1);            /* or for a block of 256: sixteen minimums, */
    SMOLQ__CUDA_SHARED(uint32_t, xsums, LEAST && WHOLE ? 2 * TOKENS * 5 : 1);      /* and sixteen sums of 16 as 64 * high + low, all as bytes */
    int32_t thread = (int32_t)threadIdx.x, lane = thread % 32, g = lane / 4, t = lane % 4, warp_row = thread / 32 * 16;
    int32_t first_row = (int32_t)blockIdx.x * ROWS, first_token = (int32_t)blockIdx.y * TOKENS, n_chunks = p.w.n_cols / 32;
    float acc[N_TILES][4];
    int c_low[N_TILES][4], c_high[TWO_PLANES ? N_TILES : 1][4];
    smolq__cuda_ask_ahead(p, p.w.data, first_row + thread / 2, p.w.n_rows, thread % 2 * 64);
    smolq__cuda_begin();
    SMOLQ__CUDA_UNROLL
    for (int32_t n = 0; n < N_TILES; n++)
        SMOLQ__CUDA_UNROLL
        for (int32_t e = 0; e < 4; e++) {
            acc[n][e] = 0;
            c_low[n][e] = 0;
            if (TWO_PLANES) c_high[TWO_PLANES ? n : 0][e] = 0;
        }

    for (int32_t first = 0; first < n_chunks; first += CHUNKS) {
        int32_t n_here = n_chunks - first < CHUNKS ? n_chunks - first : CHUNKS, in_block = first % 8; /* 0 or 4 */
        for (int32_t i = thread; i < ROWS * CHUNKS; i += 128) {
            int32_t r = i / CHUNKS, j = i % CHUNKS, row = first_row + r < p.w.n_rows ? first_row + r : p.w.n_rows - 1, c = first + j;
            smolq__cuda_row w = { p.w.data + (uint64_t)row * p.w.row_bytes, p.w.at };
            smolq__cuda_chunk k;
            if (j >= n_here) continue;
            FORMAT::chunk(w, c, k);
            SMOLQ__CUDA_UNROLL
            for (int32_t word = 0; word < 8; word++) {
                uint32_t at = (uint32_t)(r * STRIDE + j * 8 + word);
                if (TWO_PLANES) smolq__cuda_split(k.q[word], k.scale[word / 4], &low[at], &high[at]);
                else low[at] = k.q[word];
            }
            if (WHOLE) {
                if (j == 0) wd[r] = FORMAT::d(w, c / 8);
                if (LEAST && j == 0) wm[r] = FORMAT::dmin(w, c / 8);
                if (LEAST) ((uint16_t *)(void *)least)[r * 10 + in_block + j] = (uint16_t)(k.least[0] | k.least[1] << 8);
            } else {
                wd[r * (STEPS + 1) + j * (STEPS / CHUNKS)] = FORMAT::d(w, c * (STEPS / CHUNKS));
                if (STEPS > CHUNKS) wd[r * (STEPS + 1) + 2 * j + 1] = FORMAT::d(w, 2 * c + 1);
                if (LEAST) wm[r * (STEPS + 1) + j] = FORMAT::dmin(w, c);
            }
        }
        for (int32_t i = thread; i < TOKENS * CHUNKS; i += 128) {
            int32_t token = i / CHUNKS, j = i % CHUNKS, c = first + j;
            const uint8_t *x = p.x + (uint64_t)(first_token + token < p.n_tokens ? first_token + token : p.n_tokens - 1) * p.x_stride;
            uint32_t words[8];
            if (j >= n_here) continue;
            smolq__cuda_written8(x + (size_t)c * 32, words);
            SMOLQ__CUDA_UNROLL
            for (int32_t word = 0; word < 8; word++) xs[token * STRIDE + j * 8 + word] = words[word];
            if (!WHOLE) xd[token * (CHUNKS + 1) + j] = ((const float *)(const void *)(x + p.at_d))[c];
            else if (j == 0) xd[token] = ((const float *)(const void *)(x + p.at_d))[c / 8];
            if (LEAST) {
                uint32_t sum = ((const uint32_t *)(const void *)(x + p.at_sums))[c];
                int32_t a = (int16_t)sum, b = (int16_t)(sum >> 16);
                if (!WHOLE) xsum[token * (CHUNKS + 1) + j] = (float)(a + b);
                else {
                    ((uint16_t *)(void *)xsums)[token * 10 + in_block + j] = (uint16_t)((smolq__cuda_low(a) & 255) | (smolq__cuda_low(b) & 255) << 8);
                    ((uint16_t *)(void *)xsums)[(TOKENS + token) * 10 + in_block + j] = (uint16_t)((smolq__cuda_high(a) & 255) | (smolq__cuda_high(b) & 255) << 8);
                }
            }
        }
        __syncthreads(); /* filled */
        for (int32_t j = 0; j < n_here; j++) {
            const uint32_t *a_at = low + (warp_row + g) * STRIDE + j * 8 + t;
            unsigned a[4] = { a_at[0], a_at[8 * STRIDE], a_at[4], a_at[8 * STRIDE + 4] }, a_high[4] = { 0, 0, 0, 0 };
            float d[2][2] = { { 0, 0 }, { 0, 0 } }, m[2] = { 0, 0 };
            if (TWO_PLANES) {
                a_at = high + (warp_row + g) * STRIDE + j * 8 + t;
                a_high[0] = a_at[0];
                a_high[1] = a_at[8 * STRIDE];
                a_high[2] = a_at[4];
                a_high[3] = a_at[8 * STRIDE + 4];
            }
            if (!WHOLE) {
                SMOLQ__CUDA_UNROLL
                for (int32_t h = 0; h < 2; h++) {
                    const float *of_row = wd + (warp_row + g + 8 * h) * (STEPS + 1) + j * (STEPS / CHUNKS);
                    d[h][0] = of_row[0];
                    if (STEPS > CHUNKS) d[h][1] = of_row[1];
                    if (LEAST) m[h] = wm[(warp_row + g + 8 * h) * (STEPS + 1) + j];
                }
            }
            SMOLQ__CUDA_UNROLL
            for (int32_t n = 0; n < N_TILES; n++) {
                const uint32_t *b_at = xs + (8 * n + g) * STRIDE + j * 8 + t;
                unsigned b[2] = { b_at[0], b_at[4] };
                if (WHOLE) {
                    smolq__cuda_mma_s8(c_low[n], a, b);
                    if (TWO_PLANES) smolq__cuda_mma_s8(c_high[TWO_PLANES ? n : 0], a_high, b);
                } else {
                    SMOLQ__CUDA_UNROLL
                    for (int32_t s = 0; s < STEPS / CHUNKS; s++) {
                        int sum[4] = { 0, 0, 0, 0 };
                        if (STEPS > CHUNKS) smolq__cuda_mma_s8_k16(sum, a + 2 * s, b + s);
                        else smolq__cuda_mma_s8(sum, a, b);
                        SMOLQ__CUDA_UNROLL
                        for (int32_t e = 0; e < 4; e++) {
                            int32_t token = 8 * n + 2 * t + e % 2;
                            float dx = xd[token * (CHUNKS + 1) + j];
                            acc[n][e] = smolq_fma(smolq_mul(d[e / 2][s], dx), (float)sum[e], acc[n][e]);
                            if (LEAST) acc[n][e] = smolq_fma(smolq_mul(m[e / 2], dx), xsum[token * (CHUNKS + 1) + j], acc[n][e]);
                        }
                    }
                }
            }
        }
        if (WHOLE && in_block) { /* the end of a block of 256 */
            unsigned a[2] = { 0, 0 };
            if (LEAST) {
                a[0] = least[(warp_row + g) * 5 + t];
                a[1] = least[(warp_row + g + 8) * 5 + t];
            }
            SMOLQ__CUDA_UNROLL
            for (int32_t n = 0; n < N_TILES; n++) {
                int m_low[4] = { 0, 0, 0, 0 }, m_high[4] = { 0, 0, 0, 0 };
                if (LEAST) {
                    smolq__cuda_mma_s8_k16(m_low, a, xsums + (8 * n + g) * 5 + t);
                    smolq__cuda_mma_s8_k16(m_high, a, xsums + (TOKENS + 8 * n + g) * 5 + t);
                }
                SMOLQ__CUDA_UNROLL
                for (int32_t e = 0; e < 4; e++) {
                    int32_t row = warp_row + g + e / 2 * 8;
                    float dx = xd[8 * n + 2 * t + e % 2];
                    int32_t isum = TWO_PLANES ? c_low[n][e] + c_high[TWO_PLANES ? n : 0][e] * 64 : c_low[n][e];
                    acc[n][e] = smolq_fma(smolq_mul(wd[row], dx), (float)isum, acc[n][e]);
                    if (LEAST) acc[n][e] = smolq_fma(smolq_mul(wm[row], dx), (float)(m_low[e] + m_high[e] * 64), acc[n][e]);
                    c_low[n][e] = 0;
                    if (TWO_PLANES) c_high[TWO_PLANES ? n : 0][e] = 0;
                }
            }
        }
        __syncthreads(); /* used up */
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t n = 0; n < N_TILES; n++)
        SMOLQ__CUDA_UNROLL
        for (int32_t e = 0; e < 4; e++) {
            int32_t row = first_row + warp_row + g + e / 2 * 8, token = first_token + 8 * n + 2 * t + e % 2;
            smolq__cuda_place place = { NULL, NULL, (float *)(void *)(p.y + (uint64_t)token * p.y_stride), p.bias, p.w.n_rows };
            if (row < p.w.n_rows && token < p.n_tokens) smolq__cuda_finish(p, place, row, acc[n][e]);
        }
}

/* A weight of a float type. */
struct smolq__cuda_float_F32  { static __device__ __forceinline__ float at(const uint8_t *row, int32_t i) { return ((const float *)(const void *)row)[i]; } };
struct smolq__cuda_float_F16  { static __device__ __forceinline__ float at(const uint8_t *row, int32_t i) { return smolq_f16_to_f32(((const uint16_t *)(const void *)row)[i]); } };
struct smolq__cuda_float_BF16 { static __device__ __forceinline__ float at(const uint8_t *row, int32_t i) { return smolq_bf16_to_f32(((const uint16_t *)(const void *)row)[i]); } };

/* Floats times a matrix of floats (rule 5).  Block: 8 half warps; half warp: ROWS rows and TOKENS tokens, its thread j the lane j of each of their sums.
 * Reads the matrix once for TOKENS tokens. */
template <class FLOAT, int ROWS, int TOKENS> static __global__ void __launch_bounds__(128) smolq__cuda_matmul_float(smolq__cuda_product p)
{
    int32_t j = (int32_t)threadIdx.x % 16, first_row = ((int32_t)blockIdx.x * 8 + (int32_t)threadIdx.x / 16) * ROWS, first_token = (int32_t)blockIdx.y * TOKENS, n = p.w.n_cols;
    int32_t n_places = p.picks ? p.n_tokens * p.n_used : p.n_tokens;
    smolq__cuda_place place[TOKENS];
    const uint8_t *w[ROWS];
    float lane[ROWS][TOKENS];
    if (!p.picks) smolq__cuda_ask_ahead(p, p.w.data, first_row + j % ROWS, p.w.n_rows, j / ROWS * 64);
    smolq__cuda_begin();
    SMOLQ__CUDA_UNROLL
    for (int32_t k = 0; k < TOKENS; k++) {
        place[k] = smolq__cuda_place_of(p, first_token + k < n_places ? first_token + k : n_places - 1);
        SMOLQ__CUDA_UNROLL
        for (int32_t r = 0; r < ROWS; r++) lane[r][k] = 0;
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t r = 0; r < ROWS; r++) w[r] = place[0].w + (uint64_t)(first_row + r < p.w.n_rows ? first_row + r : p.w.n_rows - 1) * p.w.row_bytes;
    for (int32_t i = j; i < n; i += 16) {
        float x[TOKENS];
        SMOLQ__CUDA_UNROLL
        for (int32_t k = 0; k < TOKENS; k++) x[k] = ((const float *)(const void *)place[k].x)[i];
        SMOLQ__CUDA_UNROLL
        for (int32_t r = 0; r < ROWS; r++) {
            float weight = FLOAT::at(w[r], i);
            SMOLQ__CUDA_UNROLL
            for (int32_t k = 0; k < TOKENS; k++) lane[r][k] = smolq_fma(weight, x[k], lane[r][k]);
        }
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t r = 0; r < ROWS; r++)
        SMOLQ__CUDA_UNROLL
        for (int32_t k = 0; k < TOKENS; k++) {
            float y = smolq__cuda_fold16(lane[r][k]);
            if (j == 0 && first_row + r < p.w.n_rows && first_token + k < n_places) smolq__cuda_finish(p, place[k], first_row + r, y);
        }
}

/* ======== kernels: everything else ======== */

/* What a batch brings, in device memory. */
typedef struct smolq__cuda_batch {
    int32_t              *numeric;                     /* kernels set it where they meet NaN or infinity */
    const int32_t        *token, *position, *out_row;
    const int32_t        *context;                     /* [n_rows]: number of the row's context, */
    const smolq_kv_layer *kv;                          /* [contexts][n_layer] and their caches */
    int32_t               n_layer;
} smolq__cuda_batch;

/* One operation that is not a product; fields as in smolq_op, buffers by row 0 and bytes from row to row. */
typedef struct smolq__cuda_step {
    smolq__cuda_batch batch;
    uint8_t     *in, *out;       /* ROPE: in; KV_STORE: keys in out */
    const uint8_t *other;        /* ROPE: rotations; ATTENTION: heat; GLU: up; COMBINE: picks; ADD_SHARED: logits */
    uint8_t     *value;          /* KV_STORE */
    uint8_t     *a256, *a32;     /* NORM, ATTENTION with quantizing, or NULL */
    uint32_t    *arrived;        /* ATTENTION with a256: [n_rows][groups] heads that are there, 0 between launches */
    uint64_t     in_stride, out_stride, other_stride, value_stride, a256_stride, a32_stride;
    const float *w;
    float       *parts;          /* ATTENTION by tiles: room for n_tiles tiles of each row and head; this launch's first is first_tile */
    int32_t      n_tiles, first_tile, is_last;
    int32_t      n_rows, n, n_seg, add, n_rot, rope, n_head, n_head_kv, window, heated, gate, router, renormalize, layer, n_expert, n_used;
    float        eps, scale, cap;
} smolq__cuda_step;

SMOLQ__CUDA_INLINE float *smolq__cuda_in(const smolq__cuda_step &s, int32_t row) { return (float *)(void *)(s.in + (uint64_t)row * s.in_stride); }
SMOLQ__CUDA_INLINE float *smolq__cuda_out(const smolq__cuda_step &s, int32_t row) { return (float *)(void *)(s.out + (uint64_t)row * s.out_stride); }
SMOLQ__CUDA_INLINE const float *smolq__cuda_other(const smolq__cuda_step &s, int32_t row) { return (const float *)(const void *)(s.other + (uint64_t)row * s.other_stride); }
SMOLQ__CUDA_INLINE const float *smolq__cuda_value(const smolq__cuda_step &s, int32_t row) { return (const float *)(const void *)(s.value + (uint64_t)row * s.value_stride); }
SMOLQ__CUDA_INLINE const smolq_kv_layer &smolq__cuda_cache(const smolq__cuda_step &s, int32_t row) { return s.batch.kv[(size_t)s.batch.context[row] * (size_t)s.batch.n_layer + (size_t)s.layer]; }

typedef struct smolq__cuda_embedding {
    smolq__cuda_matrix w;
    const int32_t *token;
    uint8_t       *out;
    uint64_t       out_stride;
    float          scale;
} smolq__cuda_embedding;

/* Grid: columns, tokens; thread: a chunk of a quantized row, unpacked as smolq__multiply_out does. */
template <class FORMAT> static __global__ void __launch_bounds__(128) smolq__cuda_embed(smolq__cuda_embedding e)
{
    smolq__cuda_begin();
    int32_t c = (int32_t)(blockIdx.x * 128 + threadIdx.x), token = (int32_t)blockIdx.y;
    smolq__cuda_row w = { e.w.data + (uint64_t)e.token[token] * e.w.row_bytes, e.w.at };
    float *out = (float *)(void *)(e.out + (uint64_t)token * e.out_stride) + (size_t)c * 32;
    smolq__cuda_chunk k;
    if (c >= e.w.n_cols / 32) return;
    FORMAT::chunk(w, c, k);
    for (int32_t i = 0; i < 32; i++) {
        int32_t step = FORMAT::STEP == 256 ? c / 8 : FORMAT::STEP == 16 ? 2 * c + i / 16 : c;
        float x = smolq_mul(smolq_mul(FORMAT::d(w, step), (float)k.scale[i / 16]), (float)(int8_t)(k.q[i / 4] >> i % 4 * 8));
        if (FORMAT::HAS_LEAST) x = x + smolq_mul(FORMAT::dmin(w, step), (float)k.least[i / 16]); /* both exact until here */
        out[i] = e.scale != 1.0f ? smolq_mul(x, e.scale) : x;
    }
}
template <class FLOAT> static __global__ void __launch_bounds__(128) smolq__cuda_embed_float(smolq__cuda_embedding e)
{
    smolq__cuda_begin();
    int32_t i = (int32_t)(blockIdx.x * 128 + threadIdx.x), token = (int32_t)blockIdx.y;
    float x;
    if (i >= e.w.n_cols) return;
    x = FLOAT::at(e.w.data + (uint64_t)e.token[token] * e.w.row_bytes, i);
    ((float *)(void *)(e.out + (uint64_t)token * e.out_stride))[i] = e.scale != 1.0f ? smolq_mul(x, e.scale) : x;
}

/* Rule 2, of segment blockIdx.x of row blockIdx.y.  The first 64 threads are the lanes of the sum of squares, then all multiply. */
SMOLQ__CUDA_INLINE void smolq__cuda_norm_segment(const smolq__cuda_step &s)
{
    SMOLQ__CUDA_SHARED(float, lane, 64);
    int32_t i = (int32_t)threadIdx.x;
    const float *x = smolq__cuda_in(s, (int32_t)blockIdx.y) + (size_t)blockIdx.x * (size_t)s.n;
    float *y = smolq__cuda_out(s, (int32_t)blockIdx.y) + (size_t)blockIdx.x * (size_t)s.n, factor;
    if (i < 64) {
        float sum = 0;
        for (int32_t k = i; k < s.n; k += 64) sum = smolq_fma(x[k], x[k], sum);
        lane[i] = sum;
    }
    __syncthreads(); /* the lanes are there */
    if (i < 32) {
        float sum = lane[i] + lane[i + 32];
        sum += __shfl_xor_sync(~0u, sum, 16);
        sum = smolq__cuda_fold16(sum);
        if (i == 0) lane[0] = 1.0f / smolq_sqrt(sum / (float)s.n + s.eps);
    }
    __syncthreads(); /* and their factor */
    factor = lane[0];
    for (; i < s.n; i += (int32_t)blockDim.x) {
        float normed = smolq_mul(smolq_mul(x[i], factor), s.w[i]);
        y[i] = s.add ? y[i] + normed : normed;
    }
}

/* Grid: segments, rows. */
static __global__ void __launch_bounds__(256) smolq__cuda_norm(smolq__cuda_step s)
{
    smolq__cuda_begin();
    smolq__cuda_norm_segment(s);
}

/* Rule 3, one group of a row of n numbers, by a warp; a lane has GROUP / 32 numbers side by side. */
template <int GROUP> SMOLQ__CUDA_INLINE void smolq__cuda_quantize_group(const float *x, uint8_t *out, int32_t n, int32_t group, int32_t *numeric)
{
    enum { MINE = GROUP / 32, LANES = 16 / MINE }; /* lanes that share a sum */
    int32_t lane = (int32_t)threadIdx.x % 32, first = group * GROUP + lane * MINE, sum = 0, finite = 1;
    float v[MINE], amax = 0, id;
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < MINE; i++) {
        float a;
        v[i] = x[first + i];
        a = smolq_from_bits(smolq_bits(v[i]) & 0x7fffffffu);
        if (!smolq_is_finite(v[i])) finite = 0;
        if (a > amax) amax = a;
    }
    amax = smolq__cuda_max32(amax);
    if (!__all_sync(~0u, finite)) {
        if (lane == 0) *numeric = 1;
        finite = 0;
    }
    if (!finite || amax < 7.888609052210118e-31f) amax = 0; /* 2^-100 */
    id = amax > 0 ? 127.0f / amax : 0.0f;
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < MINE; i++) {
        int32_t q = finite ? smolq_rne(smolq_mul(v[i], id)) : 0;
        q = q > 127 ? 127 : q < -127 ? -127 : q;
        ((int8_t *)out)[first + i] = (int8_t)q;
        sum += q;
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t apart = LANES / 2; apart; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart);
    if (lane == 0) ((float *)(void *)(out + smolq_a8_d(n)))[group] = amax / 127.0f;
    if (lane % LANES == 0) ((int16_t *)(void *)(out + smolq_a8_sums(n, GROUP)))[group * (GROUP / 16) + lane / LANES] = (int16_t)sum;
}

/* Grid: groups of all segments, rows; a warp has a group. */
template <int GROUP> static __global__ void __launch_bounds__(128) smolq__cuda_quantize(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t per_segment = s.n / GROUP, group = (int32_t)(blockIdx.x * 4 + threadIdx.x / 32), row = (int32_t)blockIdx.y, segment = group / per_segment;
    if (segment >= s.n_seg) return; /* the whole warp */
    smolq__cuda_quantize_group<GROUP>(smolq__cuda_in(s, row) + (size_t)segment * (size_t)s.n, s.out + (uint64_t)row * s.out_stride + (uint64_t)segment * smolq_a8_bytes(s.n, GROUP), s.n,
                                      group % per_segment, s.batch.numeric);
}

/* A norm and the quantizing of its result, in groups of 256, of 32 or both.  Grid: 1, rows; 8 warps take the groups in turn. */
static __global__ void __launch_bounds__(256) smolq__cuda_norm_quantize(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t row = (int32_t)blockIdx.y, warp = (int32_t)threadIdx.x / 32;
    const float *y = smolq__cuda_out(s, row);
    smolq__cuda_norm_segment(s);
    __syncthreads(); /* the row is written */
    if (s.a256)
        for (int32_t group = warp; group < s.n / 256; group += 8) smolq__cuda_quantize_group<256>(y, s.a256 + (uint64_t)row * s.a256_stride, s.n, group, s.batch.numeric);
    if (s.a32)
        for (int32_t group = warp; group < s.n / 32; group += 8) smolq__cuda_quantize_group<32>(y, s.a32 + (uint64_t)row * s.a32_stride, s.n, group, s.batch.numeric);
}

/* Rule 7, pair i of a head. */
SMOLQ__CUDA_INLINE void smolq__cuda_rotate(const smolq__cuda_step &s, float *x, int32_t row, int32_t i)
{
    int32_t half = s.n_rot / 2, at = s.rope == SMOLQ_ROPE_PAIRS ? 2 * i : i, apart = s.rope == SMOLQ_ROPE_PAIRS ? 1 : half;
    float cosine = smolq__cuda_other(s, row)[i], sine = smolq__cuda_other(s, row)[half + i], a = x[at], b = x[at + apart];
    x[at] = smolq_fma(a, cosine, -smolq_mul(b, sine));
    x[at + apart] = smolq_fma(a, sine, smolq_mul(b, cosine));
}

/* Grid: pairs of all heads, rows. */
static __global__ void __launch_bounds__(128) smolq__cuda_rope(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t pair = (int32_t)(blockIdx.x * 128 + threadIdx.x), row = (int32_t)blockIdx.y, half = s.n_rot / 2, head = pair / half;
    if (head < s.n_seg) smolq__cuda_rotate(s, smolq__cuda_in(s, row) + (size_t)head * (size_t)s.n, row, pair % half);
}

/* Rule 8: one head's numbers into a cell, by one warp. */
SMOLQ__CUDA_INLINE int smolq__cuda_write_cell(int32_t type, const float *x, uint8_t *cell, int32_t n, int32_t lane)
{
    int finite = 1;
    for (int32_t i = lane; i < n; i += 32) {
        if (type == SMOLQ_TYPE_Q8_0) { /* n is a multiple of 32 */
            float amax = smolq__cuda_max32(smolq_from_bits(smolq_bits(x[i]) & 0x7fffffffu)), id;
            uint8_t *block = cell + i / 32 * 34;
            uint16_t d;
            int32_t q;
            finite &= smolq_is_finite(x[i]);
            if (amax < 7.888609052210118e-31f) amax = 0;
            id = amax > 0 ? 127.0f / amax : 0.0f;
            d = smolq_f32_to_f16(amax / 127.0f);
            finite &= (d & 0x7c00) != 0x7c00;
            q = smolq_is_finite(x[i]) ? smolq_rne(smolq_mul(x[i], id)) : 0;
            if (lane == 0) *(uint16_t *)(void *)block = d;
            block[2 + lane] = (uint8_t)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
        } else if (type == SMOLQ_TYPE_F16) {
            uint16_t h = smolq_f32_to_f16(x[i]);
            finite &= (h & 0x7c00) != 0x7c00;
            ((uint16_t *)(void *)cell)[i] = h;
        } else {
            finite &= smolq_is_finite(x[i]);
            ((float *)(void *)cell)[i] = x[i];
        }
    }
    return finite;
}

SMOLQ__CUDA_INLINE void smolq__cuda_store_head(const smolq__cuda_step &s, const float *x, int32_t head, int32_t row, int is_value)
{
    const smolq_kv_layer &kv = smolq__cuda_cache(s, row);
    uint64_t at = ((uint64_t)head * (uint64_t)kv.n_cells + (uint64_t)(s.batch.position[row] % kv.n_cells)) * kv.head_row_bytes;
    if (!smolq__cuda_write_cell(kv.type, x, (is_value ? kv.v : kv.k) + at, s.n, (int32_t)threadIdx.x % 32)) *s.batch.numeric = 1;
}

/* Grid: KV heads, rows; the first warp stores the key, the second the value. */
static __global__ void __launch_bounds__(64) smolq__cuda_kv_store(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t head = (int32_t)blockIdx.x, row = (int32_t)blockIdx.y, is_value = (int32_t)threadIdx.x / 32;
    smolq__cuda_store_head(s, (is_value ? smolq__cuda_value(s, row) : smolq__cuda_out(s, row)) + (size_t)head * (size_t)s.n, head, row, is_value);
}

/* Rotates queries and keys and stores keys and values, in one.  Grid: heads of Q, K and V, rows. */
static __global__ void __launch_bounds__(64) smolq__cuda_rope_store(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t head = (int32_t)blockIdx.x, row = (int32_t)blockIdx.y, is_query = head < s.n_head, is_value = head >= s.n_head + s.n_head_kv;
    float *x = is_query ? smolq__cuda_in(s, row) : smolq__cuda_out(s, row);
    if (!is_query) head = (head - s.n_head) % s.n_head_kv;
    x += (size_t)head * (size_t)s.n;
    if (!is_value)
        for (int32_t i = (int32_t)threadIdx.x; i < s.n_rot / 2; i += 64) smolq__cuda_rotate(s, x, row, i);
    __syncthreads(); /* the head is rotated */
    if (!is_query && threadIdx.x < 32) smolq__cuda_store_head(s, is_value ? smolq__cuda_value(s, row) + (size_t)head * (size_t)s.n : x, head, row, is_value);
}

/* Number i of a cell. */
template <int TYPE> SMOLQ__CUDA_INLINE float smolq__cuda_cell_at(const uint8_t *cell, int32_t i)
{
    if (TYPE == SMOLQ_TYPE_F16) return smolq_f16_to_f32(((const uint16_t *)(const void *)cell)[i]);
    if (TYPE == SMOLQ_TYPE_F32) return ((const float *)(const void *)cell)[i];
    cell += i / 32 * 34;
    return smolq_mul(smolq_f16_to_f32(*(const uint16_t *)(const void *)cell), (float)(int8_t)cell[2 + i % 32]);
}

/* Numbers i .. i + 15 of a cell; 16 bytes at a time where the cell begins at a multiple of 16, as those of f16 and f32 do unless a head is odd. */
template <int TYPE> SMOLQ__CUDA_INLINE void smolq__cuda_cell_16(const uint8_t *cell, int32_t i, float v[16])
{
    if (TYPE == SMOLQ_TYPE_F16 && (uintptr_t)cell % 16 == 0) {
        uint32_t x[8];
        smolq__cuda_written8(cell + i * 2, x);
        SMOLQ__CUDA_UNROLL
        for (int32_t j = 0; j < 16; j++) v[j] = smolq_f16_to_f32((uint16_t)(x[j / 2] >> j % 2 * 16));
    } else if (TYPE == SMOLQ_TYPE_F32 && (uintptr_t)cell % 16 == 0) {
        uint32_t x[16];
        smolq__cuda_written8(cell + i * 4, x);
        smolq__cuda_written8(cell + i * 4 + 32, x + 8);
        SMOLQ__CUDA_UNROLL
        for (int32_t j = 0; j < 16; j++) v[j] = smolq_from_bits(x[j]);
    } else {
        SMOLQ__CUDA_UNROLL
        for (int32_t j = 0; j < 16; j++) v[j] = smolq__cuda_cell_at<TYPE>(cell, i + j);
    }
}

enum { SMOLQ__CUDA_KEYS = 64, SMOLQ__CUDA_BLOCKS = 4, SMOLQ__CUDA_TILE_KEYS = 256, SMOLQ__CUDA_HEAD = 1024 };

/* Where an attention works. */
typedef struct smolq__cuda_attending {
    float *q, *p;        /* shared, [head_dim] the query; [4][64] scores, then numerators */
    float *o;            /* [4][head_dim] outputs of the four blocks, */
    float *best, *total; /* [4] and what they are merged by */
} smolq__cuda_attending;

/* What it attends to. */
typedef struct smolq__cuda_attended {
    const smolq_kv_layer *kv;
    uint64_t head_at;
    float    scale;
    int32_t  begin, end; /* positions */
} smolq__cuda_attended;

SMOLQ__CUDA_INLINE smolq__cuda_attended smolq__cuda_attended_by(const smolq__cuda_step &s, int32_t head, int32_t row)
{
    smolq__cuda_attended to;
    to.kv = &smolq__cuda_cache(s, row);
    to.head_at = (uint64_t)(head / (s.n_head / s.n_head_kv)) * (uint64_t)to.kv->n_cells * to.kv->head_row_bytes;
    to.scale = s.heated ? smolq_mul(s.scale, *smolq__cuda_other(s, row)) : s.scale;
    to.end = s.batch.position[row] + 1;
    to.begin = s.window && to.end > s.window ? to.end - s.window : 0;
    return to;
}

/* Keys base .. base + 255, four blocks of rule 9: thread k has key k, then warp b the softmax of block b, then each thread an element of a block's output. */
template <int TYPE> SMOLQ__CUDA_INLINE void smolq__cuda_attend_in(const smolq__cuda_step &s, const smolq__cuda_attended &to, const smolq__cuda_attending &a, int32_t base)
{
    const smolq_kv_layer &kv = *to.kv;
    uint64_t head_at = to.head_at;
    int32_t begin = to.begin, end = to.end;
    int32_t thread = (int32_t)threadIdx.x, position = base + thread, lane = thread % 32, block = thread / 32;
    if (position >= begin && position < end) {
        const uint8_t *cell = kv.k + head_at + (uint64_t)(position % kv.n_cells) * kv.head_row_bytes;
        float sum[16];
        int32_t i = 0, j;
        SMOLQ__CUDA_UNROLL
        for (j = 0; j < 16; j++) sum[j] = 0;
        for (; i + 16 <= s.n; i += 16) {
            float key[16];
            smolq__cuda_cell_16<TYPE>(cell, i, key);
            SMOLQ__CUDA_UNROLL
            for (j = 0; j < 16; j++) sum[j] = smolq_fma(a.q[i + j], key[j], sum[j]);
        }
        SMOLQ__CUDA_UNROLL
        for (j = 0; j < 16; j++)
            if (i + j < s.n) sum[j] = smolq_fma(a.q[i + j], smolq__cuda_cell_at<TYPE>(cell, i + j), sum[j]);
        SMOLQ__CUDA_UNROLL
        for (j = 0; j < 8; j++) sum[j] += sum[j + 8];
        SMOLQ__CUDA_UNROLL
        for (j = 0; j < 4; j++) sum[j] += sum[j + 4];
        sum[0] += sum[2];
        sum[1] += sum[3];
        a.p[thread] = smolq_cap(smolq_mul(sum[0] + sum[1], to.scale), s.cap);
    }
    __syncthreads(); /* scores are there */
    if (block < SMOLQ__CUDA_BLOCKS && base + block * SMOLQ__CUDA_KEYS < end) {
        float best = smolq_from_bits(0xff800000u), sum; /* -infinity */
        for (int32_t k = block * SMOLQ__CUDA_KEYS + lane; k < (block + 1) * SMOLQ__CUDA_KEYS; k += 32)
            if (base + k >= begin && base + k < end && a.p[k] > best) best = a.p[k];
        best = smolq__cuda_max32(best);
        for (int32_t k = block * SMOLQ__CUDA_KEYS + lane; k < (block + 1) * SMOLQ__CUDA_KEYS; k += 32)
            a.p[k] = base + k >= begin && base + k < end ? smolq_exp(a.p[k] - best) : 0; /* a zero more changes no sum of lanes */
        __syncwarp(); /* all of the block's numerators */
        sum = a.p[block * SMOLQ__CUDA_KEYS + lane % 16];
        for (int32_t k = 16; k < SMOLQ__CUDA_KEYS; k += 16) sum += a.p[block * SMOLQ__CUDA_KEYS + k + lane % 16];
        sum = smolq__cuda_fold16(sum);
        if (lane == 0) {
            a.best[block] = best;
            a.total[block] = sum;
        }
    }
    __syncthreads(); /* numerators are there */
    for (int32_t i = thread; i < SMOLQ__CUDA_BLOCKS * s.n; i += 256) {
        int32_t b = i / s.n, d = i % s.n, at = base + b * SMOLQ__CUDA_KEYS, first = at < begin ? begin - at : 0, last = end - at < SMOLQ__CUDA_KEYS ? end - at : SMOLQ__CUDA_KEYS;
        int32_t cell = (at + first) % kv.n_cells;
        float sum = 0;
        for (int32_t k = first; k < last; k++) {
            sum = smolq_fma(a.p[b * SMOLQ__CUDA_KEYS + k], smolq__cuda_cell_at<TYPE>(kv.v + head_at + (uint64_t)cell * kv.head_row_bytes, d), sum);
            if (++cell == kv.n_cells) cell = 0;
        }
        a.o[i] = sum;
    }
    __syncthreads(); /* outputs are there */
}

SMOLQ__CUDA_INLINE void smolq__cuda_attend(const smolq__cuda_step &s, const smolq__cuda_attended &to, const smolq__cuda_attending &a, int32_t base)
{
    if (to.kv->type == SMOLQ_TYPE_F16) smolq__cuda_attend_in<SMOLQ_TYPE_F16>(s, to, a, base);
    else if (to.kv->type == SMOLQ_TYPE_F32) smolq__cuda_attend_in<SMOLQ_TYPE_F32>(s, to, a, base);
    else smolq__cuda_attend_in<SMOLQ_TYPE_Q8_0>(s, to, a, base);
}

/* Blocks that are merged from left to right: thread d has the elements d, d + 256, ... of their output. */
typedef struct smolq__cuda_merging {
    float o[SMOLQ__CUDA_HEAD / 256], best, total;
} smolq__cuda_merging;

/* One block more; the first is taken as it is. */
SMOLQ__CUDA_INLINE void smolq__cuda_merge(smolq__cuda_merging &m, int is_first, const float *o, float best, float total, int32_t n)
{
    float new_best = best > m.best ? best : m.best, keep = smolq_exp(m.best - new_best), take = smolq_exp(best - new_best);
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_HEAD / 256; i++) {
        int32_t d = (int32_t)threadIdx.x + 256 * i;
        if (d < n) m.o[i] = is_first ? o[d] : smolq_fma(m.o[i], keep, smolq_mul(o[d], take));
    }
    m.total = is_first ? total : smolq_fma(m.total, keep, smolq_mul(total, take));
    m.best = is_first ? best : new_best;
}

/* The sink, and the end. */
SMOLQ__CUDA_INLINE void smolq__cuda_merged(const smolq__cuda_step &s, const smolq__cuda_merging &m, int32_t head, float *out)
{
    float factor;
    if (s.w) {
        float best = s.w[head] > m.best ? s.w[head] : m.best, keep = smolq_exp(m.best - best);
        factor = keep / smolq_fma(m.total, keep, smolq_exp(s.w[head] - best));
    } else {
        factor = 1.0f / m.total;
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_HEAD / 256; i++) {
        int32_t d = (int32_t)threadIdx.x + 256 * i;
        if (d < s.n) out[d] = smolq_mul(m.o[i], factor);
    }
}

/* Heads of a row as int8, by all of the block that has just written this one: its groups of 32, and its groups of 256.  Where several heads are in a group of 256 their blocks count, and the last
 * one quantizes what all have written. */
SMOLQ__CUDA_INLINE void smolq__cuda_quantize_head(const smolq__cuda_step &s, int32_t head, int32_t row)
{
    SMOLQ__CUDA_SHARED(int32_t, is_last, 1);
    int32_t warp = (int32_t)threadIdx.x / 32, n = s.n * s.n_head, first = head * s.n / 256;
    const float *x = smolq__cuda_out(s, row);
    if (s.a256 && s.n < 256) __threadfence(); /* each thread's numbers, before the count */
    __syncthreads(); /* the head is written */
    if (s.a32)
        for (int32_t group = head * s.n / 32 + warp; group < (head + 1) * s.n / 32; group += 8) smolq__cuda_quantize_group<32>(x, s.a32 + (uint64_t)row * s.a32_stride, n, group, s.batch.numeric);
    if (!s.a256) return;
    if (s.n < 256) {
        if (threadIdx.x == 0) {
            uint32_t *arrived = s.arrived + row * (n / 256) + first;
            is_last[0] = (int32_t)atomicAdd(arrived, 1u) + 1 == 256 / s.n;
            if (is_last[0]) *arrived = 0;
        }
        __syncthreads(); /* known to all */
        if (!is_last[0]) return;
        __threadfence(); /* the other heads' numbers, behind the count */
    }
    for (int32_t group = first + warp; group == first || group < (head + 1) * s.n / 256; group += 8)
        smolq__cuda_quantize_group<256>(x, s.a256 + (uint64_t)row * s.a256_stride, n, group, s.batch.numeric);
}

SMOLQ__CUDA_INLINE int32_t smolq__cuda_first_key(const smolq__cuda_attended &to) { return to.begin - to.begin % SMOLQ__CUDA_KEYS; }

/* Rule 9, for many rows.  Grid: heads, rows; the block walks over the keys 256 at a time and merges the outputs of their four blocks.
 * Each query head reads its keys and values by itself; heads that share them find them in the L2 cache. */
static __global__ void __launch_bounds__(256, 3) smolq__cuda_attention(smolq__cuda_step s)
{
    smolq__cuda_begin();
    SMOLQ__CUDA_SHARED(float, q, SMOLQ__CUDA_HEAD);
    SMOLQ__CUDA_SHARED(float, o, SMOLQ__CUDA_BLOCKS * SMOLQ__CUDA_HEAD);
    SMOLQ__CUDA_SHARED(float, p, SMOLQ__CUDA_TILE_KEYS);
    SMOLQ__CUDA_SHARED(float, best_total, 2 * SMOLQ__CUDA_BLOCKS);
    smolq__cuda_attending a = { q, p, o, best_total, best_total + SMOLQ__CUDA_BLOCKS };
    int32_t head = (int32_t)blockIdx.x, row = (int32_t)blockIdx.y, first;
    smolq__cuda_attended to = smolq__cuda_attended_by(s, head, row);
    const float *query = smolq__cuda_in(s, row) + (size_t)head * (size_t)s.n;
    smolq__cuda_merging m;
    for (int32_t i = (int32_t)threadIdx.x; i < s.n; i += 256) q[i] = query[i];
    m.best = m.total = 0;
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_HEAD / 256; i++) m.o[i] = 0;
    __syncthreads(); /* the query is there */
    first = smolq__cuda_first_key(to);
    for (int32_t base = first; base < to.end; base += SMOLQ__CUDA_TILE_KEYS) {
        smolq__cuda_attend(s, to, a, base);
        for (int32_t b = 0; b < SMOLQ__CUDA_BLOCKS && base + b * SMOLQ__CUDA_KEYS < to.end; b++)
            smolq__cuda_merge(m, base == first && b == 0, o + b * s.n, a.best[b], a.total[b], s.n);
    }
    smolq__cuda_merged(s, m, head, smolq__cuda_out(s, row) + (size_t)head * (size_t)s.n);
    if (s.a256 || s.a32) smolq__cuda_quantize_head(s, head, row);
}

/* The same for few rows, whose heads alone don't fill the GPU: as many blocks as there are tiles of 256 keys, each leaves the outputs of four blocks in the scratch; then they are merged.
 * A tile there: outputs [4][head_dim], best [4], total [4]; of each row and head `tiles` of them, then best and total of what was merged before. */
SMOLQ_INLINE size_t smolq__cuda_tile_floats(int32_t head_dim) { return (size_t)SMOLQ__CUDA_BLOCKS * (size_t)(head_dim + 2); }
SMOLQ__CUDA_INLINE float *smolq__cuda_tiles(const smolq__cuda_step &s, int32_t head, int32_t row)
{
    return s.parts + ((size_t)row * (size_t)s.n_head + (size_t)head) * ((size_t)s.n_tiles * smolq__cuda_tile_floats(s.n) + 2);
}

/* Grid: heads, rows, tiles; first_tile is the first of this launch. */
static __global__ void __launch_bounds__(256, 3) smolq__cuda_attention_tile(smolq__cuda_step s)
{
    smolq__cuda_begin();
    SMOLQ__CUDA_SHARED(float, q, SMOLQ__CUDA_HEAD);
    SMOLQ__CUDA_SHARED(float, p, SMOLQ__CUDA_TILE_KEYS);
    int32_t head = (int32_t)blockIdx.x, row = (int32_t)blockIdx.y;
    smolq__cuda_attended to = smolq__cuda_attended_by(s, head, row);
    int32_t base = smolq__cuda_first_key(to) + (s.first_tile + (int32_t)blockIdx.z) * SMOLQ__CUDA_TILE_KEYS;
    const float *query = smolq__cuda_in(s, row) + (size_t)head * (size_t)s.n;
    float *o = smolq__cuda_tiles(s, head, row) + (size_t)blockIdx.z * smolq__cuda_tile_floats(s.n);
    smolq__cuda_attending a = { q, p, o, o + SMOLQ__CUDA_BLOCKS * s.n, o + SMOLQ__CUDA_BLOCKS * (s.n + 1) };
    if (base >= to.end) return; /* the whole block */
    for (int32_t i = (int32_t)threadIdx.x; i < s.n; i += 256) q[i] = query[i];
    __syncthreads(); /* the query is there */
    smolq__cuda_attend(s, to, a, base);
}

/* Grid: heads, rows.  Between two launches the output stands where it will be in the end. */
static __global__ void __launch_bounds__(256) smolq__cuda_attention_merge(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t head = (int32_t)blockIdx.x, row = (int32_t)blockIdx.y, n_blocks;
    smolq__cuda_attended to = smolq__cuda_attended_by(s, head, row);
    int32_t base = smolq__cuda_first_key(to) + s.first_tile * SMOLQ__CUDA_TILE_KEYS;
    float *out = smolq__cuda_out(s, row) + (size_t)head * (size_t)s.n, *tiles = smolq__cuda_tiles(s, head, row), *state = tiles + (size_t)s.n_tiles * smolq__cuda_tile_floats(s.n);
    smolq__cuda_merging m;
    m.best = s.first_tile ? state[0] : 0;
    m.total = s.first_tile ? state[1] : 0;
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_HEAD / 256; i++) {
        int32_t d = (int32_t)threadIdx.x + 256 * i;
        m.o[i] = s.first_tile && d < s.n ? out[d] : 0;
    }
    __syncthreads(); /* all have read the state */
    n_blocks = base >= to.end ? 0 : (to.end - base + SMOLQ__CUDA_KEYS - 1) / SMOLQ__CUDA_KEYS;
    if (n_blocks > s.n_tiles * SMOLQ__CUDA_BLOCKS) n_blocks = s.n_tiles * SMOLQ__CUDA_BLOCKS;
    for (int32_t i = 0; i < n_blocks; i++) {
        int32_t b = i % SMOLQ__CUDA_BLOCKS;
        const float *tile = tiles + (size_t)(i / SMOLQ__CUDA_BLOCKS) * smolq__cuda_tile_floats(s.n), *best = tile + SMOLQ__CUDA_BLOCKS * s.n;
        smolq__cuda_merge(m, s.first_tile == 0 && i == 0, tile + b * s.n, best[b], best[SMOLQ__CUDA_BLOCKS + b], s.n);
    }
    if (s.is_last) {
        smolq__cuda_merged(s, m, head, out);
        if (s.a256 || s.a32) smolq__cuda_quantize_head(s, head, row);
        return;
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_HEAD / 256; i++) {
        int32_t d = (int32_t)threadIdx.x + 256 * i;
        if (d < s.n) out[d] = m.o[i];
    }
    if (threadIdx.x == 0) {
        state[0] = m.best;
        state[1] = m.total;
    }
}

/* Thread: one number of all rows; rows move forward only, in this order. */
static __global__ void __launch_bounds__(128) smolq__cuda_gather(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t i = (int32_t)(blockIdx.x * 128 + threadIdx.x);
    if (i >= s.n) return;
    for (int32_t row = 0; row < s.n_rows; row++)
        if (s.batch.out_row[row] != row) smolq__cuda_in(s, row)[i] = smolq__cuda_in(s, s.batch.out_row[row])[i];
}

/* The next four: grid: numbers, rows. */
static __global__ void __launch_bounds__(128) smolq__cuda_glu(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t i = (int32_t)(blockIdx.x * 128 + threadIdx.x), row = (int32_t)blockIdx.y;
    float *gate = smolq__cuda_out(s, row);
    if (i < s.n) gate[i] = smolq__cuda_gated(s.gate, gate[i], smolq__cuda_other(s, row)[i]);
}

static __global__ void __launch_bounds__(128) smolq__cuda_combine(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t i = (int32_t)(blockIdx.x * 128 + threadIdx.x), row = (int32_t)blockIdx.y;
    const float *down = smolq__cuda_in(s, row), *weights = smolq__cuda_other(s, row) + s.n_used;
    float *x = smolq__cuda_out(s, row), sum = 0;
    if (i >= s.n) return;
    for (int32_t slot = 0; slot < s.n_used; slot++) sum = smolq_fma(weights[slot], down[(size_t)slot * (size_t)s.n + (size_t)i], sum);
    x[i] = smolq_fma(s.scale, sum, x[i]);
}

static __global__ void __launch_bounds__(128) smolq__cuda_add_shared(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t i = (int32_t)(blockIdx.x * 128 + threadIdx.x), row = (int32_t)blockIdx.y;
    float *x = smolq__cuda_out(s, row), weight = 1.0f / (1.0f + smolq_exp(-*smolq__cuda_other(s, row)));
    if (i < s.n) x[i] = smolq_fma(s.scale, smolq_mul(weight, smolq__cuda_in(s, row)[i]), x[i]);
}

static __global__ void __launch_bounds__(128) smolq__cuda_cap_logits(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t i = (int32_t)(blockIdx.x * 128 + threadIdx.x);
    float *x = smolq__cuda_in(s, (int32_t)blockIdx.y);
    if (i < s.n) x[i] = smolq_cap(smolq_mul(x[i], s.scale), s.cap);
}

/* Softmax of a few numbers by one thread. */
SMOLQ__CUDA_INLINE void smolq__cuda_softmax_few(float *p, int32_t n)
{
    float best = p[0], lane[16], total;
    for (int32_t i = 0; i < 16; i++) lane[i] = 0;
    for (int32_t i = 0; i < n; i++) best = p[i] > best ? p[i] : best;
    for (int32_t i = 0; i < n; i++) {
        p[i] = smolq_exp(p[i] - best);
        lane[i & 15] += p[i];
    }
    total = smolq_fold(lane, 16);
    for (int32_t i = 0; i < n; i++) p[i] /= total;
}

/* Rule 10.  A warp has a row; it leaves the router's logits as the reference does. */
static __global__ void __launch_bounds__(32) smolq__cuda_route(smolq__cuda_step s)
{
    smolq__cuda_begin();
    int32_t lane = (int32_t)threadIdx.x, row = (int32_t)blockIdx.x, n = s.n_expert, finite = 1;
    float *p = smolq__cuda_in(s, row), *weights, total = 0;
    int32_t *picks = (int32_t *)(void *)smolq__cuda_out(s, row);
    weights = (float *)(void *)(picks + s.n_used);
    for (int32_t i = lane; i < n; i += 32) finite &= smolq_is_finite(p[i]);
    if (!__all_sync(~0u, finite) && lane == 0) *s.batch.numeric = 1;
    if (s.router == SMOLQ_ROUTER_ALL) {
        float best = smolq_from_bits(0xff800000u);
        for (int32_t i = lane; i < n; i += 32) best = p[i] > best ? p[i] : best;
        best = smolq__cuda_max32(best);
        if (lane < 16)
            for (int32_t i = lane; i < n; i += 16) {
                p[i] = smolq_exp(p[i] - best);
                total += p[i];
            }
        total = __shfl_sync(~0u, smolq__cuda_fold16(total), 0);
        __syncwarp(); /* p is written */
        for (int32_t i = lane; i < n; i += 32) p[i] /= total;
        __syncwarp(); /* and again */
    }
    for (int32_t slot = 0; slot < s.n_used; slot++) {
        int32_t pick = lane < n ? lane : 0;
        float best = p[pick];
        for (int32_t i = lane + 32; i < n; i += 32)
            if (p[i] > best) {
                pick = i;
                best = p[i];
            }
        for (int32_t apart = 16; apart; apart /= 2) { /* of equals the lower number; lane 0 always has one that exists */
            float other_best = __shfl_xor_sync(~0u, best, apart);
            int32_t other = __shfl_xor_sync(~0u, pick, apart);
            if (other_best > best || (other_best == best && other < pick)) {
                pick = other;
                best = other_best;
            }
        }
        if (lane == 0) {
            picks[slot] = pick;
            weights[slot] = best;
            p[pick] = -3.40282347e38f;
        }
        __syncwarp(); /* the pick is out of the way */
    }
    if (lane) return;
    if (s.router == SMOLQ_ROUTER_CHOSEN) smolq__cuda_softmax_few(weights, s.n_used);
    if (s.renormalize) {
        total = 0;
        for (int32_t slot = 0; slot < s.n_used; slot++) total += weights[slot];
        total = total > 6.103515625e-5f ? total : 6.103515625e-5f;
        for (int32_t slot = 0; slot < s.n_used; slot++) weights[slot] /= total;
    }
    for (int32_t slot = 0; slot < s.n_used; slot++) weights[slot] = smolq_mul(weights[slot], s.scale);
}

/* ======== the best logits ======== */

/* The k best of a row, best first, of equals the lower id (smolq_top): what a sampler's first steps keep.  A candidate is a key of 64 bits, its quotient above and its id below, so that the
 * greater is the better and no two are equal; 0 is none.  A block has 8192 of them, sixteen in each thread's registers, and finds the least one that is in, bit by bit from above, by counting
 * how many are not below.  What it leaves is sorted, and the next launch has that of 32 blocks in each of its own: two launches for 262144 logits, which are read once.  What limits it is a
 * barrier for each bit, until a number of bits tells k apart. */
enum { SMOLQ__CUDA_TOP_THREADS = 512, SMOLQ__CUDA_TOP_KEYS = 16, SMOLQ__CUDA_TOP_SPAN = SMOLQ__CUDA_TOP_THREADS * SMOLQ__CUDA_TOP_KEYS };

/* Of a smolq_top what the device must know. */
typedef struct smolq__cuda_ask { int32_t k; float divide; } smolq__cuda_ask; /* k 0: nothing is asked about this row */

typedef struct smolq__cuda_tops {
    const smolq__cuda_ask *ask;    /* [rows] */
    const float    *logits;        /* [rows][n], or NULL: */
    const uint64_t *from;          /* [rows][n] keys */
    uint64_t       *to;            /* [rows][blocks][SMOLQ_TOP_MOST], those that there are and then zeros */
    int32_t        *numeric, n;
} smolq__cuda_tops;

SMOLQ__CUDA_INLINE uint64_t smolq__cuda_key(float logit, smolq__cuda_ask ask, int32_t id)
{
    float quotient = (ask.divide != 0 ? logit / ask.divide : logit) + 0.0f; /* -0 becomes 0, its equal */
    uint32_t u = smolq_bits(quotient);
    if (!(quotient >= -3.40282347e38f)) return 0; /* NaN too */
    u ^= u >> 31 ? ~0u : 0x80000000u;
    return (uint64_t)u << 32 | ~(uint32_t)id;
}

/* How many of the block's keys are not below `least`.  Each call has a counter of its own, which begins as 0. */
SMOLQ__CUDA_INLINE int32_t smolq__cuda_count(const uint64_t *key, uint64_t least, int32_t *counter)
{
    int32_t n = 0;
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_TOP_KEYS; i++) n += key[i] >= least;
    for (int32_t apart = 16; apart; apart /= 2) n += __shfl_xor_sync(~0u, n, apart);
    if (threadIdx.x % 32 == 0) atomicAdd(counter, n);
    __syncthreads(); /* all have counted */
    return *counter;
}

static __global__ void __launch_bounds__(SMOLQ__CUDA_TOP_THREADS) smolq__cuda_best_logits(smolq__cuda_tops s)
{
    SMOLQ__CUDA_SHARED(uint64_t, best, SMOLQ_TOP_MOST);
    SMOLQ__CUDA_SHARED(int32_t, counter, 66); /* for each bit, for all that are candidates, and for those that are in */
    uint64_t key[SMOLQ__CUDA_TOP_KEYS], row = blockIdx.y, least = 1;
    int32_t thread = (int32_t)threadIdx.x, first = (int32_t)blockIdx.x * SMOLQ__CUDA_TOP_SPAN + thread, finite = 1, n;
    smolq__cuda_ask ask;
    smolq__cuda_begin();
    ask = s.ask[row];
    if (ask.k == 0) return;
    if (thread < 66) counter[thread] = 0;
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_TOP_KEYS; i++) {
        int32_t at = first + i * SMOLQ__CUDA_TOP_THREADS;
        key[i] = 0;
        if (at >= s.n) continue;
        if (s.logits) {
            float logit = s.logits[row * (uint64_t)s.n + (uint64_t)at];
            finite &= smolq_is_finite(logit);
            key[i] = smolq__cuda_key(logit, ask, at);
        } else {
            key[i] = s.from[row * (uint64_t)s.n + (uint64_t)at];
        }
    }
    if (!finite) *s.numeric = 1;
    __syncthreads(); /* the counters are 0 */
    if (smolq__cuda_count(key, 1, &counter[64]) > ask.k) {
        least = 0;
        n = 0;
        for (int32_t bit = 63; bit >= 0 && n != ask.k; bit--) {
            uint64_t higher = least | (uint64_t)1 << bit;
            n = smolq__cuda_count(key, higher, &counter[bit]);
            if (n >= ask.k) least = higher;
        }
    }
    SMOLQ__CUDA_UNROLL
    for (int32_t i = 0; i < SMOLQ__CUDA_TOP_KEYS; i++)
        if (key[i] >= least) best[atomicAdd(&counter[65], 1)] = key[i];
    __syncthreads(); /* the best are there, in any order */
    n = counter[65];
    if (thread < SMOLQ_TOP_MOST) {
        uint64_t *to = s.to + (row * gridDim.x + blockIdx.x) * SMOLQ_TOP_MOST, mine = thread < n ? best[thread] : 0;
        int32_t rank = thread < n ? 0 : thread;
        for (int32_t i = 0; i < n && mine; i++) rank += best[i] > mine;
        to[rank] = mine;
    }
}

/* ======== the device ======== */

enum { SMOLQ__CUDA_STAGE = 4 << 20,   /* bytes of pinned memory for what a batch brings; loading takes two more pieces of this size for a while */
       SMOLQ__CUDA_PARTS = 2 << 20,   /* of scratch, for attention in tiles */
       SMOLQ__CUDA_LOGIT_ROWS = 32,   /* rows of logits that have room on the device at once */
       SMOLQ__CUDA_GRAPHS = 16 };

/* What a captured batch depends on: all else is read from device memory when it is replayed. */
typedef struct smolq__cuda_shape {
    const smolq_program *program;
    const void *loaded;
    uint8_t    *buffer[SMOLQ_BUF_COUNT], *scratch;
    int32_t     n_rows, n_out, tiles, asks;
    uint32_t    op, end_op;
} smolq__cuda_shape;

typedef struct smolq__cuda_graph {
    smolq__cuda_shape shape;   /* program NULL: free */
    cudaGraphExec_t   exec;    /* NULL: seen once */
    uint64_t          used;    /* when */
} smolq__cuda_graph;

typedef struct smolq__cuda_device {
    smolq_allocator   allocator;
    int32_t           ordinal, n_sms;
    cudaStream_t      stream, copies; /* evaluation; loads and copies of other threads */
    cudaEvent_t       piece[2];       /* of evaluation with pauses: at most two pieces are on their way */
    uint8_t          *stage;          /* pinned */
    smolq__cuda_graph graph[SMOLQ__CUDA_GRAPHS];
    uint64_t          n_runs;
    int32_t           taken, lost, can_depend; /* launches may be dependent */
#ifdef _WIN32
    SRWLOCK            lock;
    CONDITION_VARIABLE released;
#else
    pthread_mutex_t lock;
    pthread_cond_t  released;
#endif
} smolq__cuda_device;

#ifdef _WIN32
static void smolq__cuda_lock(smolq__cuda_device *d) { AcquireSRWLockExclusive(&d->lock); }
static void smolq__cuda_unlock(smolq__cuda_device *d) { ReleaseSRWLockExclusive(&d->lock); }
#else
static void smolq__cuda_lock(smolq__cuda_device *d) { pthread_mutex_lock(&d->lock); }
static void smolq__cuda_unlock(smolq__cuda_device *d) { pthread_mutex_unlock(&d->lock); }
#endif

static void *smolq__cuda_take(smolq__cuda_device *d, size_t bytes)
{
    return d->allocator.alloc ? d->allocator.alloc(d->allocator.user, bytes) : malloc(bytes);
}
static void smolq__cuda_give(smolq__cuda_device *d, void *p, size_t bytes)
{
    if (!p) return;
    if (!d->allocator.alloc) free(p);
    else if (d->allocator.release) d->allocator.release(d->allocator.user, p, bytes);
}

/* ---- errors ---- */

static smolq_result smolq__cuda_fail(smolq_error *err, smolq_result code, const char *format, const char *detail)
{
    if (err) {
        err->code = code;
        snprintf(err->text, sizeof err->text, format, detail);
    }
    return code;
}

static smolq_result smolq__cuda_is_lost(smolq_error *err) { return smolq__cuda_fail(err, SMOLQ_E_DEVICE, "the GPU has failed before and does not answer any more%s", ""); }

/* A call that failed, as it stands in the source.  If the device does not answer afterwards it is lost, and with it all that is there. */
static smolq_result smolq__cuda_failed(smolq__cuda_device *d, smolq_error *err, cudaError_t error, const char *call)
{
    char text[200];
    cudaError_t now;
    snprintf(text, sizeof text, "%.*s: %s", (int)strcspn(call, "("), call, cudaGetErrorString(error));
    cudaGetLastError();
    if (error == cudaErrorMemoryAllocation) return smolq__cuda_fail(err, SMOLQ_E_MEMORY, "%s", text);
    now = d->stream ? cudaStreamQuery(d->stream) : cudaSuccess;
    if (now != cudaSuccess && now != cudaErrorNotReady) {
        cudaGetLastError();
        smolq__cuda_lock(d);
        d->lost = 1;
        smolq__cuda_unlock(d);
    }
    return smolq__cuda_fail(err, SMOLQ_E_DEVICE, "%s", text);
}
#define SMOLQ__CUDA_TRY(d, err, call) \
    do { \
        cudaError_t smolq__cuda_error = (call); \
        if (smolq__cuda_error != cudaSuccess) return smolq__cuda_failed(d, err, smolq__cuda_error, #call); \
    } while (0)

/* The device becomes the calling thread's, for the length of a call; the host may use others. */
static smolq_result smolq__cuda_enter(smolq__cuda_device *d, int *saved, smolq_error *err)
{
    int32_t lost;
    smolq__cuda_lock(d);
    lost = d->lost;
    smolq__cuda_unlock(d);
    if (lost) return smolq__cuda_is_lost(err);
    SMOLQ__CUDA_TRY(d, err, cudaGetDevice(saved));
    if (*saved != d->ordinal) SMOLQ__CUDA_TRY(d, err, cudaSetDevice(d->ordinal));
    return SMOLQ_OK;
}
static void smolq__cuda_leave(const smolq__cuda_device *d, int saved)
{
    if (saved != d->ordinal) cudaSetDevice(saved);
}

/* ---- open and close ---- */

static void smolq__cuda_drop_graph(smolq__cuda_graph *graph)
{
    if (graph->exec) cudaGraphExecDestroy(graph->exec);
    memset(graph, 0, sizeof *graph);
}

static void smolq__cuda_close(void *state)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    int saved = d->ordinal, i;
    cudaGetDevice(&saved);
    if (saved != d->ordinal) cudaSetDevice(d->ordinal);
    for (i = 0; i < SMOLQ__CUDA_GRAPHS; i++) smolq__cuda_drop_graph(&d->graph[i]);
    for (i = 0; i < 2; i++)
        if (d->piece[i]) cudaEventDestroy(d->piece[i]);
    if (d->stage) cudaFreeHost(d->stage);
    if (d->copies) cudaStreamDestroy(d->copies);
    if (d->stream) cudaStreamDestroy(d->stream);
    cudaGetLastError();
    smolq__cuda_leave(d, saved);
#ifndef _WIN32
    pthread_cond_destroy(&d->released);
    pthread_mutex_destroy(&d->lock);
#endif
    smolq__cuda_give(d, d, sizeof *d);
}

static smolq_result smolq__cuda_start(smolq__cuda_device *d, smolq_error *err)
{
    struct cudaFuncAttributes compiled;
    int i, driver = 0;
    SMOLQ__CUDA_TRY(d, err, cudaDriverGetVersion(&driver));
    SMOLQ__CUDA_TRY(d, err, cudaFuncGetAttributes(&compiled, smolq__cuda_norm)); /* an sm_90 may run what was compiled for older ones, whose smolq__cuda_begin doesn't wait */
    d->can_depend = driver >= 12030 && compiled.ptxVersion >= 90;
    SMOLQ__CUDA_TRY(d, err, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    SMOLQ__CUDA_TRY(d, err, cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking));
    for (i = 0; i < 2; i++) SMOLQ__CUDA_TRY(d, err, cudaEventCreateWithFlags(&d->piece[i], cudaEventDisableTiming));
    SMOLQ__CUDA_TRY(d, err, cudaMallocHost((void **)&d->stage, SMOLQ__CUDA_STAGE));
    return SMOLQ_OK;
}

/* Is there a driver, a GPU of that number, and is it one of ours? */
static smolq_result smolq__cuda_find(int32_t ordinal, cudaDeviceProp *facts, smolq_error *err)
{
    char text[128];
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess || n == 0) {
        cudaGetLastError();
        return smolq__cuda_fail(err, SMOLQ_E_DEVICE, "no GPU that CUDA can use: %s", error == cudaSuccess ? "there is none" : cudaGetErrorString(error));
    }
    if (ordinal < 0 || ordinal >= n) {
        snprintf(text, sizeof text, "ordinal is %d, expected 0..%d", (int)ordinal, n - 1);
        return smolq__cuda_fail(err, SMOLQ_E_ARGUMENT, "%s", text);
    }
    error = cudaGetDeviceProperties(facts, ordinal);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return smolq__cuda_fail(err, SMOLQ_E_DEVICE, "cudaGetDeviceProperties: %s", cudaGetErrorString(error));
    }
    if (facts->major * 10 + facts->minor < 75) {
        snprintf(text, sizeof text, "%.80s is sm_%d%d, expected sm_75 or later", facts->name, facts->major, facts->minor);
        return smolq__cuda_fail(err, SMOLQ_E_UNSUPPORTED, "%s", text);
    }
    return SMOLQ_OK;
}

static smolq_result smolq__cuda_open(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err)
{
    cudaDeviceProp facts;
    smolq__cuda_device *d;
    smolq_result result = smolq__cuda_find(options->ordinal, &facts, err);
    int saved;
    if (result) return result;
    d = (smolq__cuda_device *)(options->allocator.alloc ? options->allocator.alloc(options->allocator.user, sizeof *d) : malloc(sizeof *d));
    if (!d) return smolq__cuda_fail(err, SMOLQ_E_MEMORY, "out of memory for the CUDA device%s", "");
    memset(d, 0, sizeof *d);
    d->allocator = options->allocator;
    d->ordinal = options->ordinal;
    d->n_sms = facts.multiProcessorCount;
#ifdef _WIN32
    InitializeSRWLock(&d->lock);
    InitializeConditionVariable(&d->released);
#else
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->released, NULL);
#endif
    result = smolq__cuda_enter(d, &saved, err);
    if (result == SMOLQ_OK) {
        result = smolq__cuda_start(d, err);
        smolq__cuda_leave(d, saved);
    }
    if (result) {
        smolq__cuda_close(d);
        return result;
    }
    snprintf(report, report_bytes, "cuda: %.60s, sm_%d%d, %d SMs, %d GiB", facts.name, facts.major, facts.minor, facts.multiProcessorCount,
             (int)(((uint64_t)facts.totalGlobalMem + (1u << 29)) >> 30));
    *state = d;
    return SMOLQ_OK;
}

static smolq_result smolq__cuda_acquire(void *state, int32_t no_wait, smolq_error *err)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    smolq_result result = SMOLQ_OK;
    smolq__cuda_lock(d);
    while (d->taken && !no_wait)
#ifdef _WIN32
        SleepConditionVariableSRW(&d->released, &d->lock, INFINITE, 0);
#else
        pthread_cond_wait(&d->released, &d->lock);
#endif
    if (d->lost) result = smolq__cuda_is_lost(err);
    else if (d->taken) result = smolq__cuda_fail(err, SMOLQ_E_BUSY, "the GPU is in use by another evaluation%s", "");
    else d->taken = 1;
    smolq__cuda_unlock(d);
    return result;
}

static void smolq__cuda_release(void *state)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    smolq__cuda_lock(d);
    d->taken = 0;
    smolq__cuda_unlock(d);
#ifdef _WIN32
    WakeConditionVariable(&d->released);
#else
    pthread_cond_signal(&d->released);
#endif
}

/* ======== loading ======== */

/* A tensor or a vector of floats, and its place in the model's memory. */
typedef struct smolq__cuda_item {
    const smolq_tensor *tensor;  /* NULL: floats */
    const uint8_t      *data;
    uint64_t            bytes, at;
} smolq__cuda_item;

/* What operation first_op + i reads. */
typedef struct smolq__cuda_op {
    smolq__cuda_matrix part[3], table;
    const float       *bias[3], *w;
} smolq__cuda_op;

typedef struct smolq__cuda_loaded {
    uint8_t        *memory;   /* on the device; NULL: the operations read nothing */
    int32_t         first_op;
    size_t          bytes;    /* of this */
    smolq__cuda_op *ops;      /* [n_ops - first_op] */
} smolq__cuda_loaded;

typedef struct smolq__cuda_items {
    smolq__cuda_item *item;   /* [capacity]; NULL: out of memory */
    size_t            n, capacity;
    uint64_t          bytes;
} smolq__cuda_items;

static uint64_t smolq__cuda_tensor_bytes(const smolq_tensor *t) { return smolq__cuda_matrix_of(t).expert_bytes * (uint64_t)t->n_experts; }

/* The item of these bytes: a matrix that two operations read (tied embeddings) is there once. */
static const smolq__cuda_item *smolq__cuda_item_of(smolq__cuda_items *items, const smolq_tensor *tensor, const void *data, uint64_t bytes)
{
    size_t i;
    smolq__cuda_item *item = items->item;
    if (tensor) bytes = smolq__cuda_tensor_bytes(tensor);
    for (i = 0; i < items->n; i++, item++)
        if (item->data == (const uint8_t *)data && !item->tensor == !tensor && item->bytes == bytes && (!tensor || item->tensor->type == tensor->type)) return item;
    item->tensor = tensor;
    item->data = (const uint8_t *)data;
    item->bytes = bytes;
    item->at = items->bytes;
    items->n++;
    items->bytes += smolq__cuda_align(bytes, 256);
    return item;
}

static void smolq__cuda_place_matrix(smolq__cuda_items *items, const smolq_tensor *tensor, const uint8_t *memory, smolq__cuda_matrix *matrix)
{
    if (!tensor) return;
    *matrix = smolq__cuda_matrix_of(tensor);
    matrix->data = memory + smolq__cuda_item_of(items, tensor, tensor->data, 0)->at;
}
static void smolq__cuda_place_floats(smolq__cuda_items *items, const float *data, uint64_t n, const uint8_t *memory, const float **floats)
{
    if (data) *floats = (const float *)(const void *)(memory + smolq__cuda_item_of(items, NULL, data, n * 4)->at);
}

/* Everything that an operation reads, in a place of its own. */
static void smolq__cuda_place_op(smolq__cuda_items *items, const smolq_op *op, const uint8_t *memory, smolq__cuda_op *placed)
{
    int32_t i;
    memset(placed, 0, sizeof *placed);
    smolq__cuda_place_matrix(items, op->table, memory, &placed->table);
    for (i = 0; i < op->n_parts; i++) {
        const smolq_tensor *w = op->part[i].w;
        smolq__cuda_place_matrix(items, w, memory, &placed->part[i]);
        smolq__cuda_place_floats(items, op->part[i].bias, (uint64_t)w->n_rows * (uint64_t)w->n_experts, memory, &placed->bias[i]);
    }
    smolq__cuda_place_floats(items, op->w, (uint64_t)(op->kind == SMOLQ_OP_ATTENTION ? op->n_head : op->n), memory, &placed->w);
}

static smolq__cuda_items smolq__cuda_list(smolq__cuda_device *d, const smolq_program *program, int32_t first_op)
{
    smolq__cuda_items items;
    smolq__cuda_op placed;
    int32_t i;
    memset(&items, 0, sizeof items);
    items.capacity = (size_t)(program->n_ops - first_op) * 8 + 1; /* an operation reads three matrices, three biases, and a vector or a table */
    items.item = (smolq__cuda_item *)smolq__cuda_take(d, items.capacity * sizeof *items.item);
    for (i = first_op; i < program->n_ops && items.item; i++) smolq__cuda_place_op(&items, &program->ops[i], NULL, &placed);
    return items;
}

static uint64_t smolq__cuda_load_bytes(void *state, const smolq_program *program, int32_t first_op)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    smolq__cuda_items items = smolq__cuda_list(d, program, first_op);
    smolq__cuda_give(d, items.item, items.capacity * sizeof *items.item);
    return items.item ? items.bytes : UINT64_MAX;
}

/* Two pieces of pinned memory in turn: one is filled while the other is on its way. */
typedef struct smolq__cuda_upload {
    uint8_t    *piece[2];
    cudaEvent_t sent[2];
    size_t      bytes;      /* of each */
    int         turn;
    uint64_t    done, total;
    smolq_progress_fn progress;
    void       *user;
} smolq__cuda_upload;

static smolq_result smolq__cuda_send(smolq__cuda_device *d, smolq__cuda_upload *u, uint8_t *to, size_t bytes, smolq_error *err)
{
    SMOLQ__CUDA_TRY(d, err, cudaMemcpyAsync(to, u->piece[u->turn], bytes, cudaMemcpyHostToDevice, d->copies));
    SMOLQ__CUDA_TRY(d, err, cudaEventRecord(u->sent[u->turn], d->copies));
    u->turn ^= 1;
    u->done += bytes;
    if (u->progress && u->progress(u->user, (float)((double)u->done / (double)u->total))) return smolq__cuda_fail(err, SMOLQ_E_CANCELLED, "loading was cancelled%s", "");
    SMOLQ__CUDA_TRY(d, err, cudaEventSynchronize(u->sent[u->turn])); /* the piece that is filled next; not recorded yet: it is free */
    return SMOLQ_OK;
}

static smolq_result smolq__cuda_send_item(smolq__cuda_device *d, smolq__cuda_upload *u, const smolq__cuda_item *item, uint8_t *to, smolq_error *err)
{
    const smolq_tensor *t = item->tensor;
    smolq__cuda_matrix m;
    uint64_t row, n_rows, row_bytes, n, i;
    smolq_result result = SMOLQ_OK;
    memset(&m, 0, sizeof m);
    if (t) m = smolq__cuda_matrix_of(t);
    row_bytes = t ? m.row_bytes : 4;
    n_rows = item->bytes / row_bytes;
    for (row = 0; row < n_rows && result == SMOLQ_OK; row += n) {
        uint8_t *piece = u->piece[u->turn];
        n = u->bytes / row_bytes < n_rows - row ? u->bytes / row_bytes : n_rows - row;
        for (i = 0; i < n && t; i++) smolq__cuda_arrange(&m, item->data + (row + i) * t->row_bytes, t->row_bytes, piece + i * row_bytes);
        if (!t) memcpy(piece, item->data + row * 4, (size_t)(n * 4));
        result = smolq__cuda_send(d, u, to + row * row_bytes, (size_t)(n * row_bytes), err);
    }
    return result;
}

static smolq_result smolq__cuda_upload_items(smolq__cuda_device *d, smolq__cuda_upload *u, const smolq__cuda_items *items, uint8_t *memory, smolq_error *err)
{
    size_t i;
    smolq_result result = SMOLQ_OK;
    u->bytes = SMOLQ__CUDA_STAGE;
    for (i = 0; i < items->n; i++) { /* a row must fit */
        u->total += items->item[i].bytes;
        if (items->item[i].tensor && smolq__cuda_matrix_of(items->item[i].tensor).row_bytes > u->bytes) u->bytes = (size_t)smolq__cuda_matrix_of(items->item[i].tensor).row_bytes;
    }
    for (i = 0; i < 2; i++) {
        SMOLQ__CUDA_TRY(d, err, cudaMallocHost((void **)&u->piece[i], u->bytes));
        SMOLQ__CUDA_TRY(d, err, cudaEventCreateWithFlags(&u->sent[i], cudaEventDisableTiming));
    }
    for (i = 0; i < items->n && result == SMOLQ_OK; i++) result = smolq__cuda_send_item(d, u, &items->item[i], memory + items->item[i].at, err);
    if (result == SMOLQ_OK) SMOLQ__CUDA_TRY(d, err, cudaStreamSynchronize(d->copies));
    return result;
}

static void smolq__cuda_unload(void *state, void *loaded)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    smolq__cuda_loaded *l = (smolq__cuda_loaded *)loaded;
    int saved, is_here, i;
    if (!l) return;
    is_here = smolq__cuda_enter(d, &saved, NULL) == SMOLQ_OK;
    smolq__cuda_lock(d);
    for (i = 0; i < SMOLQ__CUDA_GRAPHS; i++)
        if (d->graph[i].shape.loaded == l) smolq__cuda_drop_graph(&d->graph[i]);
    smolq__cuda_unlock(d);
    if (l->memory) cudaFree(l->memory);
    if (is_here) smolq__cuda_leave(d, saved);
    smolq__cuda_give(d, l, l->bytes);
}

static smolq_result smolq__cuda_load_items(smolq__cuda_device *d, smolq__cuda_loaded *l, const smolq_program *program, smolq__cuda_items *items, smolq_progress_fn progress, void *user,
                                           smolq_error *err)
{
    smolq__cuda_upload upload;
    smolq_result result = SMOLQ_OK;
    int32_t i;
    if (items->bytes) SMOLQ__CUDA_TRY(d, err, cudaMalloc((void **)&l->memory, (size_t)items->bytes));
    for (i = l->first_op; i < program->n_ops; i++) smolq__cuda_place_op(items, &program->ops[i], l->memory, &l->ops[i - l->first_op]);
    memset(&upload, 0, sizeof upload);
    upload.progress = progress;
    upload.user = user;
    if (items->n) result = smolq__cuda_upload_items(d, &upload, items, l->memory, err);
    if (result) cudaStreamSynchronize(d->copies); /* nothing reads the pieces any more */
    for (i = 0; i < 2; i++) {
        if (upload.sent[i]) cudaEventDestroy(upload.sent[i]);
        if (upload.piece[i]) cudaFreeHost(upload.piece[i]);
    }
    return result;
}

static smolq_result smolq__cuda_load(void *state, const smolq_program *program, int32_t first_op, smolq_progress_fn progress, void *user, void **loaded, smolq_error *err)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    size_t bytes = sizeof(smolq__cuda_loaded) + (size_t)(program->n_ops - first_op) * sizeof(smolq__cuda_op);
    smolq__cuda_loaded *l = (smolq__cuda_loaded *)smolq__cuda_take(d, bytes);
    smolq__cuda_items items = smolq__cuda_list(d, program, first_op);
    smolq_result result = l && items.item ? SMOLQ_OK : smolq__cuda_fail(err, SMOLQ_E_MEMORY, "out of memory for the list of weights%s", "");
    int saved;
    if (result == SMOLQ_OK) {
        memset(l, 0, bytes);
        l->first_op = first_op;
        l->bytes = bytes;
        l->ops = (smolq__cuda_op *)(void *)(l + 1);
        result = smolq__cuda_enter(d, &saved, err);
        if (result == SMOLQ_OK) {
            result = smolq__cuda_load_items(d, l, program, &items, progress, user, err);
            smolq__cuda_leave(d, saved);
        }
        if (result) {
            smolq__cuda_unload(d, l);
            l = NULL;
        }
    }
    smolq__cuda_give(d, items.item, items.capacity * sizeof *items.item);
    if (result) {
        smolq__cuda_give(d, l, bytes);
        return result;
    }
    *loaded = l;
    return SMOLQ_OK;
}

/* ---- other memory ---- */

static uint64_t smolq__cuda_available(void *state)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    size_t available = 0, total = 0;
    int saved;
    if (smolq__cuda_enter(d, &saved, NULL)) return 0;
    if (cudaMemGetInfo(&available, &total) != cudaSuccess) {
        cudaGetLastError();
        available = 0;
    }
    smolq__cuda_leave(d, saved);
    return available;
}

static smolq_result smolq__cuda_malloc(smolq__cuda_device *d, uint64_t bytes, uint8_t **p, smolq_error *err)
{
    SMOLQ__CUDA_TRY(d, err, cudaMalloc((void **)p, (size_t)bytes));
    return SMOLQ_OK;
}
static smolq_result smolq__cuda_alloc(void *state, uint64_t bytes, uint8_t **p, smolq_error *err)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    int saved;
    smolq_result result = smolq__cuda_enter(d, &saved, err);
    if (result) return result;
    result = smolq__cuda_malloc(d, bytes ? bytes : 1, p, err);
    smolq__cuda_leave(d, saved);
    return result;
}

static void smolq__cuda_free(void *state, uint8_t *p)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    int saved, is_here = smolq__cuda_enter(d, &saved, NULL) == SMOLQ_OK;
    if (p) cudaFree(p);
    if (is_here) smolq__cuda_leave(d, saved);
}

static smolq_result smolq__cuda_move(smolq__cuda_device *d, uint8_t *to, const uint8_t *from, uint64_t bytes, smolq_error *err)
{
    SMOLQ__CUDA_TRY(d, err, cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDefault, d->copies));
    SMOLQ__CUDA_TRY(d, err, cudaStreamSynchronize(d->copies));
    return SMOLQ_OK;
}
static smolq_result smolq__cuda_copy(void *state, uint8_t *to, const uint8_t *from, uint64_t bytes, smolq_error *err)
{
    smolq__cuda_device *d = (smolq__cuda_device *)state;
    int saved;
    smolq_result result = smolq__cuda_enter(d, &saved, err);
    if (result) return result;
    if (bytes) result = smolq__cuda_move(d, to, from, bytes, err);
    smolq__cuda_leave(d, saved);
    return result;
}

/* ======== evaluation ======== */

/* What stands where in the scratch of a batch of n rows, in bytes.  All up to `caches` is sent for every run, and of the caches as many as there are contexts. */
typedef struct smolq__cuda_room {
    uint64_t numeric, token, position, out_row, context, asks, arrived, buffer[SMOLQ_BUF_COUNT] /* of those that the host fills */, caches, parts, logits, keys[2], best, end;
} smolq__cuda_room;

static uint64_t smolq__cuda_reserve(uint64_t *end, uint64_t bytes)
{
    uint64_t at = *end;
    *end = smolq__cuda_align(at + bytes, 256);
    return at;
}

/* Keys that a launch leaves of n candidates of a row. */
static uint64_t smolq__cuda_keys_of(uint64_t n) { return (n + SMOLQ__CUDA_TOP_SPAN - 1) / SMOLQ__CUDA_TOP_SPAN * SMOLQ_TOP_MOST; }

/* Groups of 256 in the attention's output for few rows. */
enum { SMOLQ__CUDA_FEW = 8 };
static uint64_t smolq__cuda_n_arrived(const smolq_program *program, uint64_t n_rows)
{
    return (n_rows < (uint64_t)SMOLQ__CUDA_FEW ? n_rows : (uint64_t)SMOLQ__CUDA_FEW) * (program->row_bytes[SMOLQ_BUF_ATT] / 1024);
}

static smolq__cuda_room smolq__cuda_room_for(const smolq_program *program, int32_t n_rows)
{
    smolq__cuda_room room;
    uint64_t n = (uint64_t)n_rows, n_logits = n < SMOLQ__CUDA_LOGIT_ROWS ? n : (uint64_t)SMOLQ__CUDA_LOGIT_ROWS, n_keys = (uint64_t)program->n_vocab, end = 0;
    int32_t i;
    memset(&room, 0, sizeof room);
    room.numeric = smolq__cuda_reserve(&end, 4);
    room.token = smolq__cuda_reserve(&end, n * 4);
    room.position = smolq__cuda_reserve(&end, n * 4);
    room.out_row = smolq__cuda_reserve(&end, n * 4);
    room.context = smolq__cuda_reserve(&end, n * 4);
    room.asks = smolq__cuda_reserve(&end, n * sizeof(smolq__cuda_ask));
    room.arrived = smolq__cuda_reserve(&end, smolq__cuda_n_arrived(program, n) * 4);
    for (i = 0; i < SMOLQ_BUF_LOGITS; i++)
        if (smolq_is_host_buffer(i)) room.buffer[i] = smolq__cuda_reserve(&end, n * program->row_bytes[i]);
    room.caches = smolq__cuda_reserve(&end, n * (uint64_t)program->n_layer * sizeof(smolq_kv_layer));
    room.parts = smolq__cuda_reserve(&end, SMOLQ__CUDA_PARTS);
    room.logits = smolq__cuda_reserve(&end, n_logits * (uint64_t)program->n_vocab * 4);
    for (i = 0; i < 2; i++) { /* launches after the second write where one has read before; the last one writes to best */
        n_keys = smolq__cuda_keys_of(n_keys);
        room.keys[i] = smolq__cuda_reserve(&end, n_keys > SMOLQ_TOP_MOST ? n_logits * n_keys * 8 : 0);
    }
    room.best = smolq__cuda_reserve(&end, n_logits * SMOLQ_TOP_MOST * 8);
    room.end = end;
    return room;
}

static uint64_t smolq__cuda_scratch(void *state, const smolq_program *program, int32_t n_batch)
{
    (void)state;
    return smolq__cuda_room_for(program, n_batch).end;
}

/* A batch on its way over the list. */
typedef struct smolq__cuda_walk {
    smolq__cuda_device *d;
    smolq_run          *run;
    smolq__cuda_room    room;
    smolq__cuda_batch   batch;
    int32_t             first_row; /* of the rows that want logits, in the operations that write them */
    int32_t             n_logits;  /* and how many of them; elsewhere 0 */
    int32_t             tiles;     /* of keys */
    int32_t             asks;      /* is anything asked about the logits? */
    int32_t             n_tops;    /* rows from first_top on whose best are on their way to the stage */
    int32_t             first_top;
    int32_t             after_kernel; /* a kernel of this run is the latest in the stream */
    smolq_error        *err;
} smolq__cuda_walk;

/* ---- what a batch brings ---- */

typedef struct smolq__cuda_image { /* of the front of the scratch, on its way through pinned memory */
    uint64_t sent, at;             /* bytes that are there, or wait in the stage */
} smolq__cuda_image;

static smolq_result smolq__cuda_flush(smolq__cuda_walk *k, smolq__cuda_image *image)
{
    SMOLQ__CUDA_TRY(k->d, k->err, cudaMemcpyAsync(k->run->scratch + image->sent, k->d->stage, (size_t)(image->at - image->sent), cudaMemcpyHostToDevice, k->d->stream));
    image->sent = image->at;
    return SMOLQ_OK;
}

/* Appends bytes that shall stand at `at`. */
static smolq_result smolq__cuda_put(smolq__cuda_walk *k, smolq__cuda_image *image, uint64_t at, const void *bytes, uint64_t n)
{
    const uint8_t *from = (const uint8_t *)bytes;
    if (at > image->at) image->at = at;
    while (n) {
        uint64_t filled = image->at - image->sent, room = filled < SMOLQ__CUDA_STAGE ? SMOLQ__CUDA_STAGE - filled : 0, some = n < room ? n : room;
        if (some) memcpy(k->d->stage + filled, from, (size_t)some);
        image->at += some;
        from += some;
        n -= some;
        if (n) {
            smolq_result result = smolq__cuda_flush(k, image);
            if (result) return result;
            SMOLQ__CUDA_TRY(k->d, k->err, cudaStreamSynchronize(k->d->stream)); /* the stage is free again */
        }
    }
    return SMOLQ_OK;
}

/* The number of a row's context among the different ones before it. */
static int32_t smolq__cuda_context_of(const smolq_run *run, int32_t row, const int32_t *before, int32_t *n)
{
    int32_t i;
    for (i = row - 1; i >= 0; i--) /* most rows have that of the row before */
        if (run->kv[i] == run->kv[row]) return before[i];
    return (*n)++;
}

static smolq_result smolq__cuda_bring(smolq__cuda_walk *k)
{
    const smolq_run *run = k->run;
    uint64_t rows = (uint64_t)run->n_rows, group;
    int32_t none = 0, n_contexts = 0, i, number[64], *numbers = rows <= 64 ? number : (int32_t *)smolq__cuda_take(k->d, (size_t)rows * 4);
    smolq__cuda_image image = { 0, 0 };
    smolq_result result = numbers ? smolq__cuda_put(k, &image, k->room.numeric, &none, 4) : smolq__cuda_fail(k->err, SMOLQ_E_MEMORY, "out of memory for a batch%s", "");
    if (result == SMOLQ_OK && run->token) result = smolq__cuda_put(k, &image, k->room.token, run->token, rows * 4);
    if (result == SMOLQ_OK) result = smolq__cuda_put(k, &image, k->room.position, run->position, rows * 4);
    if (result == SMOLQ_OK && run->n_out) result = smolq__cuda_put(k, &image, k->room.out_row, run->out_row, (uint64_t)run->n_out * 4);
    for (i = 0; i < run->n_rows && numbers; i++) numbers[i] = smolq__cuda_context_of(run, i, numbers, &n_contexts);
    if (result == SMOLQ_OK) result = smolq__cuda_put(k, &image, k->room.context, numbers, rows * 4);
    for (i = 0; i < run->n_out && k->asks && result == SMOLQ_OK; i++) {
        smolq__cuda_ask ask = { run->top[i] ? run->top[i]->k : 0, run->top[i] ? run->top[i]->divide : 0 };
        result = smolq__cuda_put(k, &image, k->room.asks + (uint64_t)i * sizeof ask, &ask, sizeof ask);
    }
    for (group = 0; group < smolq__cuda_n_arrived(run->program, rows) && result == SMOLQ_OK; group++) result = smolq__cuda_put(k, &image, k->room.arrived + group * 4, &none, 4);
    for (i = 0; i < SMOLQ_BUF_LOGITS && result == SMOLQ_OK; i++)
        if (smolq_is_host_buffer(i) && run->program->row_bytes[i]) result = smolq__cuda_put(k, &image, k->room.buffer[i], run->buffer[i], rows * run->program->row_bytes[i]);
    for (i = 0, n_contexts = 0; i < run->n_rows && result == SMOLQ_OK; i++)
        if (numbers[i] == n_contexts) {
            uint64_t bytes = (uint64_t)run->program->n_layer * sizeof **run->kv;
            result = smolq__cuda_put(k, &image, k->room.caches + (uint64_t)n_contexts++ * bytes, run->kv[i], bytes);
        }
    if (rows > 64) smolq__cuda_give(k->d, numbers, (size_t)rows * 4);
    return result ? result : smolq__cuda_flush(k, &image);
}

/* ---- launches ---- */

typedef struct smolq__cuda_view { uint8_t *p; uint64_t stride; } smolq__cuda_view; /* a buffer: row 0, bytes from row to row */

static smolq__cuda_view smolq__cuda_view_of(const smolq__cuda_walk *k, int32_t buffer)
{
    smolq__cuda_view view;
    view.stride = buffer == SMOLQ_BUF_LOGITS ? (uint64_t)k->run->program->n_vocab * 4 : k->run->program->row_bytes[buffer];
    if (buffer == SMOLQ_BUF_LOGITS) view.p = k->run->scratch + k->room.logits;
    else if (smolq_is_host_buffer(buffer)) view.p = k->run->scratch + k->room.buffer[buffer];
    else view.p = k->run->buffer[buffer] + (uint64_t)k->first_row * view.stride;
    return view;
}

static int32_t smolq__cuda_rows_of(const smolq__cuda_walk *k, const smolq_op *op) { return k->n_logits ? k->n_logits : op->selected ? k->run->n_out : k->run->n_rows; }
static unsigned smolq__cuda_blocks(int64_t n, int64_t per_block) { return (unsigned)((n + per_block - 1) / per_block); }

template <class ARGUMENTS>
static smolq_result smolq__cuda_launch(smolq__cuda_walk *k, void (*kernel)(ARGUMENTS), const char *name, unsigned x, unsigned y, unsigned threads, const ARGUMENTS &arguments, unsigned z = 1)
{
    cudaError_t error;
    if (x == 0 || y == 0) return SMOLQ_OK;
    if (k->d->can_depend && k->after_kernel) error = SMOLQ__CUDA_LAUNCH_DEPENDENT(kernel, dim3(x, y, z), dim3(threads), 0, k->d->stream, arguments);
    else error = SMOLQ__CUDA_LAUNCH(kernel, dim3(x, y, z), dim3(threads), 0, k->d->stream, arguments);
    k->after_kernel = 1;
    return error == cudaSuccess ? SMOLQ_OK : smolq__cuda_failed(k->d, k->err, error, name);
}

/* ---- products ---- */

/* Blocks of a matvec, with the siblings' behind. */
static unsigned smolq__cuda_line_up(smolq__cuda_product &p, int32_t rows_of_block)
{
    unsigned n = smolq__cuda_blocks(p.w.n_rows, rows_of_block);
    int32_t i;
    for (i = 0; i < 2; i++) {
        p.sibling[i].first_block = p.sibling[i].w ? n : UINT32_MAX;
        if (p.sibling[i].w) n += smolq__cuda_blocks(p.sibling[i].n_rows, rows_of_block);
    }
    return n;
}

/* A launch for each type: quantized types by FORMAT's kernels, floats by FLOAT's. */
template <class FORMAT> static smolq_result smolq__cuda_multiply_quantized(smolq__cuda_walk *k, smolq__cuda_product &p)
{
    int32_t places = p.picks ? p.n_tokens * p.n_used : p.n_tokens;
    int32_t by_64_rows = (int32_t)smolq__cuda_blocks(p.w.n_rows, SMOLQ__CUDA_TILE_ROWS);
    if (p.picks || places == 1 || (places <= SMOLQ__CUDA_FEW && by_64_rows < k->d->n_sms)) { /* a matrix too small to fill the GPU by 64 rows: each token reads it, from the L2 cache */
        unsigned blocks = smolq__cuda_line_up(p, SMOLQ__CUDA_WARPS * SMOLQ__CUDA_ROWS / (p.up ? 2 : 1));
        if (!p.up && blocks * (unsigned)places < 2 * (unsigned)k->d->n_sms)
            return smolq__cuda_launch(k, smolq__cuda_matvec<FORMAT, 1>, "matvec of a row", smolq__cuda_line_up(p, SMOLQ__CUDA_WARPS), (unsigned)places, 128, p);
        return smolq__cuda_launch(k, smolq__cuda_matvec<FORMAT, SMOLQ__CUDA_ROWS>, "matvec", blocks, (unsigned)places, 128, p);
    }
    if (places <= SMOLQ__CUDA_FEW) return smolq__cuda_launch(k, smolq__cuda_matmul<FORMAT, 1>, "matmul of few", (unsigned)by_64_rows, 1, 128, p);
    return smolq__cuda_launch(k, smolq__cuda_matmul<FORMAT, 8>, "matmul", (unsigned)by_64_rows, smolq__cuda_blocks(places, 64), 128, p);
}
template <class FLOAT> static smolq_result smolq__cuda_multiply_floats(smolq__cuda_walk *k, smolq__cuda_product &p)
{
    int32_t places = p.picks ? p.n_tokens * p.n_used : p.n_tokens;
    if (p.picks || places == 1) return smolq__cuda_launch(k, smolq__cuda_matmul_float<FLOAT, 2, 1>, "matvec of floats", smolq__cuda_blocks(p.w.n_rows, 16), (unsigned)places, 128, p);
    return smolq__cuda_launch(k, smolq__cuda_matmul_float<FLOAT, 2, 4>, "matmul of floats", smolq__cuda_blocks(p.w.n_rows, 16), smolq__cuda_blocks(places, 4), 128, p);
}

#define SMOLQ__CUDA_MULTIPLY_256(NAME) smolq__cuda_multiply_quantized<smolq__cuda_format_##NAME>(k, p)
#define SMOLQ__CUDA_MULTIPLY_32(NAME)  smolq__cuda_multiply_quantized<smolq__cuda_format_##NAME>(k, p)
#define SMOLQ__CUDA_MULTIPLY_0(NAME)   smolq__cuda_multiply_floats<smolq__cuda_float_##NAME>(k, p)
#define SMOLQ__CUDA_MULTIPLY(id, NAME, name, weights, group, block) case id: return SMOLQ__CUDA_MULTIPLY_##group(NAME);
static smolq_result smolq__cuda_multiply(smolq__cuda_walk *k, smolq__cuda_product &p)
{
    switch (p.w.type) {
        SMOLQ_TYPES(SMOLQ__CUDA_MULTIPLY)
    default: return smolq__cuda_fail(k->err, SMOLQ_E_UNSUPPORTED, "a tensor type that smolq_cuda.cu does not know%s", "");
    }
}

#define SMOLQ__CUDA_EMBED_256(NAME) smolq__cuda_launch(k, smolq__cuda_embed<smolq__cuda_format_##NAME>, "embed", smolq__cuda_blocks(e.w.n_cols, 32 * 128), (unsigned)n_rows, 128, e)
#define SMOLQ__CUDA_EMBED_32(NAME)  SMOLQ__CUDA_EMBED_256(NAME)
#define SMOLQ__CUDA_EMBED_0(NAME)   smolq__cuda_launch(k, smolq__cuda_embed_float<smolq__cuda_float_##NAME>, "embed", smolq__cuda_blocks(e.w.n_cols, 128), (unsigned)n_rows, 128, e)
#define SMOLQ__CUDA_EMBED(id, NAME, name, weights, group, block) case id: return SMOLQ__CUDA_EMBED_##group(NAME);
static smolq_result smolq__cuda_embed_rows(smolq__cuda_walk *k, const smolq__cuda_embedding &e, int32_t n_rows)
{
    switch (e.w.type) {
        SMOLQ_TYPES(SMOLQ__CUDA_EMBED)
    default: return smolq__cuda_fail(k->err, SMOLQ_E_UNSUPPORTED, "a tensor type that smolq_cuda.cu does not know%s", "");
    }
}
#undef SMOLQ__CUDA_MULTIPLY_256
#undef SMOLQ__CUDA_MULTIPLY_32
#undef SMOLQ__CUDA_MULTIPLY_0
#undef SMOLQ__CUDA_MULTIPLY
#undef SMOLQ__CUDA_EMBED_256
#undef SMOLQ__CUDA_EMBED_32
#undef SMOLQ__CUDA_EMBED_0
#undef SMOLQ__CUDA_EMBED

/* May part i share a launch with part `with` as its sibling?  For one token, where nothing else happens to the results. */
static int smolq__cuda_is_sibling(const smolq__cuda_walk *k, const smolq_op *op, int32_t i, int32_t with)
{
    const smolq_op_part *a = &op->part[with], *b = &op->part[i];
    return op->kind == SMOLQ_OP_MATMUL && i < op->n_parts && smolq__cuda_rows_of(k, op) == 1 && a->in == b->in && a->w->type == b->w->type && !a->gate && !b->gate && a->add == 0 && b->add == 0 &&
           (i + 1 == op->n_parts || !op->part[i + 1].gate) && (b->in == SMOLQ_BUF_A256 || b->in == SMOLQ_BUF_A32);
}

/* May one launch compute part i and part i + 1, which gates it?  For one token, and matrices that are alike. */
static int smolq__cuda_is_pair(const smolq__cuda_walk *k, const smolq_op *op, int32_t i)
{
    const smolq_op_part *a = &op->part[i], *b = a + 1;
    return op->kind == SMOLQ_OP_MATMUL && i + 1 < op->n_parts && smolq__cuda_rows_of(k, op) == 1 && b->gate && !a->gate && a->add == 0 && a->in == b->in && a->out == b->out &&
           a->w->type == b->w->type && a->w->n_rows == b->w->n_rows && (b->in == SMOLQ_BUF_A256 || b->in == SMOLQ_BUF_A32);
}

/* Part i, and the next ones that share its launch: how many is added to it. */
static smolq_result smolq__cuda_run_part(smolq__cuda_walk *k, const smolq_op *op, const smolq__cuda_op *placed, int32_t *number)
{
    int32_t i = (*number)++, n;
    const smolq_op_part *part = &op->part[i];
    smolq__cuda_view in = smolq__cuda_view_of(k, part->in), out = smolq__cuda_view_of(k, part->out);
    int32_t group = part->in == SMOLQ_BUF_A256 ? 256 : part->in == SMOLQ_BUF_A32 ? 32 : 0, is_experts = op->kind == SMOLQ_OP_MATMUL_EXPERTS;
    smolq__cuda_product p;
    memset(&p, 0, sizeof p);
    p.w = placed->part[i];
    p.x = in.p;
    p.x_stride = in.stride;
    p.y = out.p;
    p.y_stride = out.stride;
    p.bias = placed->bias[i];
    p.n_tokens = smolq__cuda_rows_of(k, op);
    p.add = part->add;
    p.gate = part->gate;
    if (group) {
        p.at_d = (uint32_t)smolq_a8_d(p.w.n_cols);
        p.at_sums = (uint32_t)smolq_a8_sums(p.w.n_cols, group);
    }
    if (is_experts) {
        smolq__cuda_view picks = smolq__cuda_view_of(k, SMOLQ_BUF_PICKS);
        p.picks = picks.p;
        p.picks_stride = picks.stride;
        p.n_used = k->run->program->n_expert_used;
        if (op->n_seg > 1) p.x_slot = group ? smolq_a8_bytes(p.w.n_cols, group) : (uint64_t)p.w.n_cols * 4;
    }
    if (smolq__cuda_is_pair(k, op, i)) {
        p.up = placed->part[i + 1].data;
        p.up_bias = placed->bias[i + 1];
        p.up_gate = part[1].gate;
        *number += 1;
    }
    for (n = 0; !p.up && n < 2 && smolq__cuda_is_sibling(k, op, *number, i); n++, *number += 1) {
        smolq__cuda_sibling *sibling = &p.sibling[n];
        sibling->w = placed->part[*number].data;
        sibling->bias = placed->bias[*number];
        sibling->y = smolq__cuda_view_of(k, op->part[*number].out).p;
        sibling->n_rows = placed->part[*number].n_rows;
    }
    return p.n_tokens ? smolq__cuda_multiply(k, p) : SMOLQ_OK;
}

/* ---- attention ---- */

/* Tiles of 256 keys that any row of the batch sees, rounded up to a power of two, so that a conversation needs few graphs. */
static int32_t smolq__cuda_tiles_of(const smolq_run *run)
{
    int32_t i, most = 0, tiles = 1;
    for (i = 0; i < run->n_rows; i++) most = run->position[i] > most ? run->position[i] : most;
    while (tiles * SMOLQ__CUDA_TILE_KEYS <= most) tiles *= 2;
    return tiles;
}

/* In tiles, if there are several and rows and heads don't fill the GPU by themselves; in several launches where the scratch has no room for all. */
static smolq_result smolq__cuda_run_attention(smolq__cuda_walk *k, smolq__cuda_step &s)
{
    int32_t tiles = s.window && s.window / SMOLQ__CUDA_TILE_KEYS + 2 < k->tiles ? s.window / SMOLQ__CUDA_TILE_KEYS + 2 : k->tiles; /* a window may begin and end inside one */
    size_t heads = (size_t)s.n_rows * (size_t)s.n_head, room;
    smolq_result result = SMOLQ_OK;
    if (tiles == 1 || heads == 0 || heads >= 2 * (size_t)k->d->n_sms) return smolq__cuda_launch(k, smolq__cuda_attention, "attention", (unsigned)s.n_head, (unsigned)s.n_rows, 256, s);
    room = (SMOLQ__CUDA_PARTS / 4 / heads - 2) / smolq__cuda_tile_floats(s.n);
    if (room < 4) return smolq__cuda_launch(k, smolq__cuda_attention, "attention", (unsigned)s.n_head, (unsigned)s.n_rows, 256, s);
    s.parts = (float *)(void *)(k->run->scratch + k->room.parts);
    s.n_tiles = (size_t)tiles < room ? tiles : (int32_t)room;
    for (s.first_tile = 0; s.first_tile < tiles && result == SMOLQ_OK; s.first_tile += s.n_tiles) {
        s.is_last = s.first_tile + s.n_tiles >= tiles;
        result = smolq__cuda_launch(k, smolq__cuda_attention_tile, "attention of a tile", (unsigned)s.n_head, (unsigned)s.n_rows, 256, s, (unsigned)s.n_tiles);
        if (result == SMOLQ_OK) result = smolq__cuda_launch(k, smolq__cuda_attention_merge, "merge", (unsigned)s.n_head, (unsigned)s.n_rows, 256, s);
    }
    return result;
}

/* ---- one operation ---- */

static void smolq__cuda_see(const smolq__cuda_walk *k, int32_t buffer, uint8_t **p, uint64_t *stride)
{
    smolq__cuda_view view;
    if (buffer == SMOLQ_BUF_NONE) return;
    view = smolq__cuda_view_of(k, buffer);
    *p = view.p;
    *stride = view.stride;
}

static smolq__cuda_step smolq__cuda_step_of(const smolq__cuda_walk *k, const smolq_op *op, const smolq__cuda_op *placed)
{
    int32_t in = op->in, out = op->out, other = SMOLQ_BUF_NONE;
    uint8_t *p = NULL;
    smolq__cuda_step s;
    switch (op->kind) {
    case SMOLQ_OP_ROPE:       other = op->angles; break;
    case SMOLQ_OP_KV_STORE:   out = SMOLQ_BUF_K; break;
    case SMOLQ_OP_ATTENTION:  in = SMOLQ_BUF_Q; out = SMOLQ_BUF_ATT; other = op->heated ? SMOLQ_BUF_HEAT : SMOLQ_BUF_NONE; break;
    case SMOLQ_OP_GLU:        out = SMOLQ_BUF_GATE; other = SMOLQ_BUF_UP; break;
    case SMOLQ_OP_ROUTE:      in = SMOLQ_BUF_ROUTER; out = SMOLQ_BUF_PICKS; break;
    case SMOLQ_OP_COMBINE:    in = SMOLQ_BUF_DOWN; other = SMOLQ_BUF_PICKS; break;
    case SMOLQ_OP_ADD_SHARED: in = SMOLQ_BUF_DOWN; other = SMOLQ_BUF_SHARED; break;
    default: break;
    }
    memset(&s, 0, sizeof s);
    s.batch = k->batch;
    smolq__cuda_see(k, in, &s.in, &s.in_stride);
    smolq__cuda_see(k, out, &s.out, &s.out_stride);
    smolq__cuda_see(k, other, &p, &s.other_stride);
    s.other = p;
    if (op->kind == SMOLQ_OP_KV_STORE) smolq__cuda_see(k, SMOLQ_BUF_V, &s.value, &s.value_stride);
    s.w = placed->w;
    s.n_rows = smolq__cuda_rows_of(k, op);
    s.n = op->n;
    s.n_seg = op->n_seg;
    s.add = op->add;
    s.n_rot = op->n_rot;
    s.rope = op->rope;
    s.n_head = op->n_head;
    s.n_head_kv = op->n_head_kv;
    s.window = op->window;
    s.heated = op->heated;
    s.gate = op->gate;
    s.router = op->router;
    s.renormalize = op->renormalize;
    s.layer = op->layer;
    s.n_expert = k->run->program->n_expert;
    s.n_used = k->run->program->n_expert_used;
    s.eps = op->eps;
    s.scale = op->scale;
    s.cap = op->cap;
    return s;
}

static smolq_result smolq__cuda_run_op(smolq__cuda_walk *k, int32_t number)
{
    const smolq__cuda_loaded *l = (const smolq__cuda_loaded *)k->run->loaded;
    const smolq_op *op = &k->run->program->ops[number];
    const smolq__cuda_op *placed = &l->ops[number - l->first_op];
    unsigned rows = (unsigned)smolq__cuda_rows_of(k, op);
    smolq_result result = SMOLQ_OK;
    smolq__cuda_step s;
    int32_t i;
    if (op->kind == SMOLQ_OP_MATMUL || op->kind == SMOLQ_OP_MATMUL_EXPERTS) { /* in order: a part may gate the one before it */
        for (i = 0; i < op->n_parts && result == SMOLQ_OK;) result = smolq__cuda_run_part(k, op, placed, &i);
        return result;
    }
    if (op->kind == SMOLQ_OP_EMBED) {
        smolq__cuda_embedding e;
        e.w = placed->table;
        e.token = k->batch.token;
        e.scale = op->scale;
        smolq__cuda_see(k, op->out, &e.out, &e.out_stride);
        return smolq__cuda_embed_rows(k, e, (int32_t)rows);
    }
    s = smolq__cuda_step_of(k, op, placed);
    switch (op->kind) {
    case SMOLQ_OP_NORM:       return smolq__cuda_launch(k, smolq__cuda_norm, "norm", (unsigned)s.n_seg, rows, s.n > 256 ? 256 : 64, s);
    case SMOLQ_OP_QUANTIZE:   return smolq__cuda_launch(k, op->group == 256 ? smolq__cuda_quantize<256> : smolq__cuda_quantize<32>, "quantize", smolq__cuda_blocks((int64_t)s.n / op->group * s.n_seg, 4),
                                                        rows, 128, s);
    case SMOLQ_OP_ROPE:       return smolq__cuda_launch(k, smolq__cuda_rope, "rope", smolq__cuda_blocks((int64_t)s.n_rot / 2 * s.n_seg, 128), rows, 128, s);
    case SMOLQ_OP_KV_STORE:   return smolq__cuda_launch(k, smolq__cuda_kv_store, "kv_store", (unsigned)s.n_head_kv, rows, 64, s);
    case SMOLQ_OP_ATTENTION:  return smolq__cuda_run_attention(k, s);
    case SMOLQ_OP_GATHER:
        s.n_rows = k->run->n_out;
        if (k->run->n_out == k->run->n_rows) return SMOLQ_OK; /* all of them, where they are */
        return smolq__cuda_launch(k, smolq__cuda_gather, "gather", smolq__cuda_blocks(s.n, 128), (unsigned)(s.n_rows > 0), 128, s);
    case SMOLQ_OP_GLU:        return smolq__cuda_launch(k, smolq__cuda_glu, "glu", smolq__cuda_blocks(s.n, 128), rows, 128, s);
    case SMOLQ_OP_ROUTE:      return smolq__cuda_launch(k, smolq__cuda_route, "route", rows, 1, 32, s);
    case SMOLQ_OP_COMBINE:    return smolq__cuda_launch(k, smolq__cuda_combine, "combine", smolq__cuda_blocks(s.n, 128), rows, 128, s);
    case SMOLQ_OP_ADD_SHARED: return smolq__cuda_launch(k, smolq__cuda_add_shared, "add_shared", smolq__cuda_blocks(s.n, 128), rows, 128, s);
    default:                  return smolq__cuda_launch(k, smolq__cuda_cap_logits, "cap", smolq__cuda_blocks(s.n, 128), rows, 128, s);
    }
}

/* ---- several operations in one launch: each returns how many it has launched, 0 if they are not of its kind ---- */

/* The one or two quantizations of a whole row of n numbers in buffer `in`, behind the operation: how many, and their results in s. */
static int32_t smolq__cuda_quantized_behind(const smolq__cuda_walk *k, const smolq_op *op, int32_t n_ops, int32_t in, int32_t n, smolq__cuda_step *s)
{
    int32_t i = 1;
    for (; i < n_ops && i < 3; i++) {
        const smolq_op *next = op + i;
        if (next->kind != SMOLQ_OP_QUANTIZE || next->in != in || next->n != n || next->n_seg != 1 || next->selected != op->selected) break;
        if (next->group == 256) smolq__cuda_see(k, next->out, &s->a256, &s->a256_stride);
        else smolq__cuda_see(k, next->out, &s->a32, &s->a32_stride);
    }
    return i - 1;
}

/* A norm of whole rows and the quantizations of its result. */
static int32_t smolq__cuda_run_norm_quantize(smolq__cuda_walk *k, int32_t number, int32_t n_ops, smolq_result *result)
{
    const smolq__cuda_loaded *l = (const smolq__cuda_loaded *)k->run->loaded;
    const smolq_op *op = &k->run->program->ops[number];
    smolq__cuda_step s;
    int32_t n;
    if (op->kind != SMOLQ_OP_NORM || op->n_seg != 1) return 0;
    s = smolq__cuda_step_of(k, op, &l->ops[number - l->first_op]);
    n = smolq__cuda_quantized_behind(k, op, n_ops, op->out, op->n, &s);
    if (n == 0) return 0;
    *result = smolq__cuda_launch(k, smolq__cuda_norm_quantize, "norm and quantize", 1, (unsigned)s.n_rows, 256, s);
    return n + 1;
}

/* An attention of few rows and the quantizations of its result.  Whole groups must fit into heads, or whole heads into groups. */
static int32_t smolq__cuda_run_attention_quantize(smolq__cuda_walk *k, int32_t number, int32_t n_ops, smolq_result *result)
{
    const smolq__cuda_loaded *l = (const smolq__cuda_loaded *)k->run->loaded;
    const smolq_op *op = &k->run->program->ops[number];
    smolq__cuda_step s;
    int32_t n;
    if (op->kind != SMOLQ_OP_ATTENTION) return 0;
    s = smolq__cuda_step_of(k, op, &l->ops[number - l->first_op]);
    n = smolq__cuda_quantized_behind(k, op, n_ops, SMOLQ_BUF_ATT, s.n * s.n_head, &s);
    if (n == 0 || s.n_rows > SMOLQ__CUDA_FEW || (s.a32 && s.n % 32) || (s.a256 && s.n % 256 && 256 % s.n)) return 0;
    s.arrived = (uint32_t *)(void *)(k->run->scratch + k->room.arrived);
    *result = smolq__cuda_run_attention(k, s);
    return n + 1;
}

/* The rotations of queries and keys, and the storing of keys and values. */
static int32_t smolq__cuda_run_rope_store(smolq__cuda_walk *k, int32_t number, int32_t n_ops, smolq_result *result)
{
    const smolq_op *q = &k->run->program->ops[number], *keys = q + 1, *store = q + 2;
    smolq__cuda_step s;
    smolq__cuda_op none;
    if (n_ops < 3 || q->kind != SMOLQ_OP_ROPE || keys->kind != SMOLQ_OP_ROPE || store->kind != SMOLQ_OP_KV_STORE || q->in != SMOLQ_BUF_Q || keys->in != SMOLQ_BUF_K || q->n != keys->n ||
        q->n_rot != keys->n_rot || q->rope != keys->rope || q->angles != keys->angles || store->n != q->n || keys->n_seg != store->n_head_kv)
        return 0;
    memset(&none, 0, sizeof none);
    s = smolq__cuda_step_of(k, q, &none);
    s.n_head = q->n_seg;
    s.n_head_kv = keys->n_seg;
    s.layer = store->layer;
    smolq__cuda_see(k, SMOLQ_BUF_K, &s.out, &s.out_stride);
    smolq__cuda_see(k, SMOLQ_BUF_V, &s.value, &s.value_stride);
    *result = smolq__cuda_launch(k, smolq__cuda_rope_store, "rope and kv_store", (unsigned)(s.n_head + 2 * s.n_head_kv), (unsigned)s.n_rows, 64, s);
    return 3;
}

static smolq_result smolq__cuda_run_ops(smolq__cuda_walk *k, uint32_t op, uint32_t end)
{
    smolq_result result = SMOLQ_OK;
    while (op < end && result == SMOLQ_OK) {
        int32_t n = smolq__cuda_run_norm_quantize(k, (int32_t)op, (int32_t)(end - op), &result);
        if (!n) n = smolq__cuda_run_attention_quantize(k, (int32_t)op, (int32_t)(end - op), &result);
        if (!n) n = smolq__cuda_run_rope_store(k, (int32_t)op, (int32_t)(end - op), &result);
        if (!n) {
            result = smolq__cuda_run_op(k, (int32_t)op);
            n = 1;
        }
        op += (uint32_t)n;
    }
    return result;
}

/* ---- logits: the operations that write them come last, and go by rows that have room on the device ---- */

static int smolq__cuda_touches_logits(const smolq_op *op)
{
    int32_t i;
    for (i = 0; i < op->n_parts; i++)
        if (op->part[i].out == SMOLQ_BUF_LOGITS) return 1;
    return op->n_parts == 0 && op->in == SMOLQ_BUF_LOGITS;
}

static uint32_t smolq__cuda_first_of_logits(const smolq_run *run)
{
    uint32_t op = run->op;
    while (op < run->end_op && !smolq__cuda_touches_logits(&run->program->ops[op])) op++;
    return op;
}

/* A row of logits to the host. */
static smolq_result smolq__cuda_fetch_logits(smolq__cuda_walk *k, int32_t row, int32_t place)
{
    size_t bytes = (size_t)k->run->program->n_vocab * 4;
    k->after_kernel = 0;
    SMOLQ__CUDA_TRY(k->d, k->err, cudaMemcpyAsync(k->run->logits[row], k->run->scratch + k->room.logits + (size_t)place * bytes, bytes, cudaMemcpyDeviceToHost, k->d->stream));
    return SMOLQ_OK;
}

/* Launches what is asked about the rows that are there. */
static smolq_result smolq__cuda_run_tops(smolq__cuda_walk *k)
{
    uint8_t *scratch = k->run->scratch;
    smolq_result result = SMOLQ_OK;
    smolq__cuda_tops s;
    int turn = 0;
    if (!k->asks) return SMOLQ_OK;
    memset(&s, 0, sizeof s);
    s.ask = (const smolq__cuda_ask *)(const void *)(scratch + k->room.asks) + k->first_row;
    s.logits = (const float *)(const void *)(scratch + k->room.logits);
    s.n = k->run->program->n_vocab;
    s.numeric = k->batch.numeric;
    while (s.to != (uint64_t *)(void *)(scratch + k->room.best) && result == SMOLQ_OK) {
        unsigned blocks = smolq__cuda_blocks(s.n, SMOLQ__CUDA_TOP_SPAN);
        s.to = (uint64_t *)(void *)(scratch + (blocks == 1 ? k->room.best : k->room.keys[turn]));
        result = smolq__cuda_launch(k, smolq__cuda_best_logits, "best logits", blocks, (unsigned)k->n_logits, SMOLQ__CUDA_TOP_THREADS, s);
        s.logits = NULL;
        s.from = s.to;
        s.n = (int32_t)smolq__cuda_keys_of((uint64_t)s.n);
        turn ^= 1;
    }
    return result;
}

enum { SMOLQ__CUDA_STAGED_TOPS = 256 }; /* where they are in the stage, behind the flag */

static smolq_result smolq__cuda_fetch_tops(smolq__cuda_walk *k)
{
    if (!k->asks) return SMOLQ_OK;
    k->after_kernel = 0;
    SMOLQ__CUDA_TRY(k->d, k->err, cudaMemcpyAsync(k->d->stage + SMOLQ__CUDA_STAGED_TOPS, k->run->scratch + k->room.best, (size_t)k->n_logits * SMOLQ_TOP_MOST * 8, cudaMemcpyDeviceToHost, k->d->stream));
    k->first_top = k->first_row;
    k->n_tops = k->n_logits;
    return SMOLQ_OK;
}

/* The answers, which have come.  A row with fewer than k numbers, or an infinite one, goes to the host whole. */
static smolq_result smolq__cuda_read_tops(smolq__cuda_walk *k)
{
    smolq_result result = SMOLQ_OK;
    int32_t i, n, n_whole = 0;
    for (i = 0; i < k->n_tops && result == SMOLQ_OK; i++) {
        smolq_top *top = k->run->top[k->first_top + i];
        const uint64_t *key = (const uint64_t *)(const void *)(k->d->stage + SMOLQ__CUDA_STAGED_TOPS) + (size_t)i * SMOLQ_TOP_MOST;
        for (n = 0; top && n < top->k && key[n]; n++) {
            uint32_t u = (uint32_t)(key[n] >> 32);
            top->id[n] = (int32_t)~(uint32_t)key[n];
            top->logit[n] = smolq_from_bits(u >> 31 ? u ^ 0x80000000u : ~u);
        }
        if (!top) continue;
        if (n == top->k && smolq_is_finite(top->logit[0])) {
            top->n = n;
        } else {
            result = smolq__cuda_fetch_logits(k, k->first_top + i, i);
            n_whole++;
        }
    }
    if (n_whole && result == SMOLQ_OK) SMOLQ__CUDA_TRY(k->d, k->err, cudaStreamSynchronize(k->d->stream));
    k->n_tops = 0;
    return result;
}

/* Between host and device, rows first_row .. first_row + n_logits; to the host those about which nothing is asked. */
static smolq_result smolq__cuda_copy_logits(smolq__cuda_walk *k, int to_host)
{
    size_t bytes = (size_t)k->run->program->n_vocab * 4;
    int32_t i;
    smolq_result result = SMOLQ_OK;
    k->after_kernel = 0;
    for (i = 0; i < k->n_logits && result == SMOLQ_OK; i++) {
        uint8_t *here = k->run->scratch + k->room.logits + (size_t)i * bytes;
        int32_t row = k->first_row + i;
        if (!to_host) SMOLQ__CUDA_TRY(k->d, k->err, cudaMemcpyAsync(here, k->run->logits[row], bytes, cudaMemcpyHostToDevice, k->d->stream));
        else if (!k->asks || !k->run->top[row]) result = smolq__cuda_fetch_logits(k, row, i);
    }
    return result;
}

/* launch 0: they are on the device already. */
static smolq_result smolq__cuda_run_logits(smolq__cuda_walk *k, uint32_t op, int launch)
{
    smolq_result result = SMOLQ_OK;
    int32_t n_out = k->run->n_out;
    if (op == k->run->end_op) return SMOLQ_OK;
    for (k->first_row = 0; k->first_row < n_out && result == SMOLQ_OK; k->first_row += k->n_logits) {
        k->n_logits = n_out - k->first_row < SMOLQ__CUDA_LOGIT_ROWS ? n_out - k->first_row : SMOLQ__CUDA_LOGIT_ROWS;
        if (k->n_tops) { /* before other logits come where those of the rows before are */
            SMOLQ__CUDA_TRY(k->d, k->err, cudaStreamSynchronize(k->d->stream));
            result = smolq__cuda_read_tops(k);
        }
        if (launch && result == SMOLQ_OK && k->run->program->ops[op].kind == SMOLQ_OP_CAP) result = smolq__cuda_copy_logits(k, 0); /* another device has made them */
        if (launch && result == SMOLQ_OK) result = smolq__cuda_run_ops(k, op, k->run->end_op);
        if (launch && result == SMOLQ_OK) result = smolq__cuda_run_tops(k);
        if (result == SMOLQ_OK) result = smolq__cuda_copy_logits(k, 1);
        if (result == SMOLQ_OK) result = smolq__cuda_fetch_tops(k);
    }
    k->first_row = k->n_logits = 0;
    return result;
}

/* ---- graphs ---- */

/* The graph of this shape: one that is there, or room for one.  Called between acquire and release; unload may drop others meanwhile. */
static smolq__cuda_graph *smolq__cuda_graph_of(const smolq__cuda_walk *k)
{
    smolq__cuda_device *d = k->d;
    const smolq_run *run = k->run;
    smolq__cuda_graph *oldest = d->graph;
    smolq__cuda_shape shape;
    int i;
    memset(&shape, 0, sizeof shape); /* padding is compared too */
    shape.program = run->program;
    shape.loaded = run->loaded;
    memcpy(shape.buffer, run->buffer, sizeof shape.buffer);
    shape.scratch = run->scratch;
    shape.n_rows = run->n_rows;
    shape.n_out = run->n_out;
    shape.tiles = k->tiles;
    shape.asks = k->asks;
    shape.op = run->op;
    shape.end_op = run->end_op;
    d->n_runs++;
    for (i = 0; i < SMOLQ__CUDA_GRAPHS; i++) {
        smolq__cuda_graph *graph = &d->graph[i];
        if (memcmp(&graph->shape, &shape, sizeof shape) == 0) {
            graph->used = d->n_runs;
            return graph;
        }
        if (graph->used < oldest->used) oldest = graph;
    }
    smolq__cuda_drop_graph(oldest);
    memcpy(&oldest->shape, &shape, sizeof shape);
    return oldest; /* used stays 0: seen for the first time */
}

/* Records what the ranges launch; without a graph when that fails. */
static void smolq__cuda_capture(smolq__cuda_walk *k, smolq__cuda_graph *graph, uint32_t logits)
{
    smolq_error *err = k->err;
    cudaGraph_t recorded = NULL;
    smolq_result result;
    k->err = NULL;
    k->after_kernel = 0; /* in the graph, */
    if (cudaStreamBeginCapture(k->d->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
        result = smolq__cuda_run_ops(k, k->run->op, logits);
        k->n_logits = k->run->n_out;
        if (result == SMOLQ_OK && k->n_logits) result = smolq__cuda_run_ops(k, logits, k->run->end_op);
        if (result == SMOLQ_OK && k->n_logits) result = smolq__cuda_run_tops(k);
        k->n_logits = 0;
        if (cudaStreamEndCapture(k->d->stream, &recorded) != cudaSuccess) recorded = NULL;
        if (recorded && (result != SMOLQ_OK || cudaGraphInstantiate(&graph->exec, recorded, 0) != cudaSuccess)) graph->exec = NULL;
        if (recorded) cudaGraphDestroy(recorded);
    }
    cudaGetLastError();
    k->after_kernel = 0; /* and in the stream */
    k->err = err;
}

/* A whole batch without a pause: directly the first time, as a graph from the second. */
static smolq_result smolq__cuda_run_whole(smolq__cuda_walk *k)
{
    smolq_run *run = k->run;
    uint32_t logits = smolq__cuda_first_of_logits(run);
    smolq__cuda_graph *graph = NULL;
    smolq_result result;
    if (run->n_out <= SMOLQ__CUDA_LOGIT_ROWS && !(logits < run->end_op && run->program->ops[logits].kind == SMOLQ_OP_CAP)) {
        smolq__cuda_lock(k->d);
        graph = smolq__cuda_graph_of(k);
        smolq__cuda_unlock(k->d);
        if (graph->used && !graph->exec) smolq__cuda_capture(k, graph, logits);
        graph->used = k->d->n_runs;
    }
    if (graph && graph->exec) SMOLQ__CUDA_TRY(k->d, k->err, cudaGraphLaunch(graph->exec, k->d->stream));
    else {
        result = smolq__cuda_run_ops(k, run->op, logits);
        if (result) return result;
    }
    result = smolq__cuda_run_logits(k, logits, !(graph && graph->exec));
    if (result == SMOLQ_OK) run->op = run->end_op;
    return result;
}

/* ---- with pauses: layer by layer, at most two of them on their way ---- */

static smolq_result smolq__cuda_run_pieces(smolq__cuda_walk *k)
{
    smolq_run *run = k->run;
    uint32_t logits = smolq__cuda_first_of_logits(run), end, n = 0;
    smolq_result result;
    for (; run->op < run->end_op && !run->pause(run->user); n++) {
        for (end = run->op + 1; end < logits && run->program->ops[end].layer == run->program->ops[run->op].layer;) end++;
        if (run->op == logits) {
            end = run->end_op;
            result = smolq__cuda_run_logits(k, logits, 1);
        } else {
            result = smolq__cuda_run_ops(k, run->op, end);
        }
        if (result) return result;
        run->op = end;
        k->after_kernel = 0;
        SMOLQ__CUDA_TRY(k->d, k->err, cudaEventRecord(k->d->piece[n % 2], k->d->stream));
        if (n) SMOLQ__CUDA_TRY(k->d, k->err, cudaEventSynchronize(k->d->piece[(n - 1) % 2]));
    }
    return SMOLQ_OK;
}

/* ---- a run ---- */

static smolq_result smolq__cuda_work(smolq__cuda_walk *k)
{
    smolq_run *run = k->run;
    smolq_result result = smolq__cuda_bring(k);
    if (result == SMOLQ_OK) result = run->pause ? smolq__cuda_run_pieces(k) : smolq__cuda_run_whole(k);
    if (result) return result;
    SMOLQ__CUDA_TRY(k->d, k->err, cudaMemcpyAsync(k->d->stage, run->scratch + k->room.numeric, 4, cudaMemcpyDeviceToHost, k->d->stream));
    SMOLQ__CUDA_TRY(k->d, k->err, cudaStreamSynchronize(k->d->stream));
    if (*(const int32_t *)(const void *)k->d->stage) run->numeric = 1;
    return smolq__cuda_read_tops(k);
}

/* Only when the logits are done. */
static int32_t smolq__cuda_asks(const smolq_run *run)
{
    int32_t i, n = 0;
    for (i = 0; i < run->n_out && run->top && run->end_op == (uint32_t)run->program->n_ops; i++) n += run->top[i] != NULL;
    return n > 0;
}

static smolq_result smolq__cuda_run(void *state, smolq_run *run, smolq_error *err)
{
    smolq__cuda_walk k;
    smolq_result result;
    int saved;
    memset(&k, 0, sizeof k);
    k.d = (smolq__cuda_device *)state;
    k.run = run;
    k.err = err;
    k.room = smolq__cuda_room_for(run->program, run->n_rows);
    k.tiles = smolq__cuda_tiles_of(run);
    k.asks = smolq__cuda_asks(run);
    k.batch.numeric = (int32_t *)(void *)(run->scratch + k.room.numeric);
    k.batch.token = (const int32_t *)(const void *)(run->scratch + k.room.token);
    k.batch.position = (const int32_t *)(const void *)(run->scratch + k.room.position);
    k.batch.out_row = (const int32_t *)(const void *)(run->scratch + k.room.out_row);
    k.batch.context = (const int32_t *)(const void *)(run->scratch + k.room.context);
    k.batch.kv = (const smolq_kv_layer *)(const void *)(run->scratch + k.room.caches);
    k.batch.n_layer = run->program->n_layer;
    result = smolq__cuda_enter(k.d, &saved, err);
    if (result) return result;
    result = smolq__cuda_work(&k);
    if (result) cudaStreamSynchronize(k.d->stream); /* nothing goes on behind the caller's back */
    smolq__cuda_leave(k.d, saved);
    return result;
}

static const smolq_backend_memory smolq__cuda_memory = {
    smolq__cuda_load_bytes, smolq__cuda_load, smolq__cuda_unload, smolq__cuda_available, smolq__cuda_alloc, smolq__cuda_free, smolq__cuda_copy
};
static const smolq_backend smolq__cuda_backend = {
    SMOLQ_CONTRACT, SMOLQ_CONTRACT_SIZES, SMOLQ_CANONICAL, "cuda", smolq__cuda_open, smolq__cuda_close, smolq__cuda_acquire, smolq__cuda_release, smolq__cuda_scratch, smolq__cuda_run,
    &smolq__cuda_memory
};
SMOLQ_API const smolq_backend *smolq_backend_cuda(void) { return &smolq__cuda_backend; }

#endif /* SMOLQ__CUDA_ONCE */
