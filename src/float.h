/* ==== float.h: canonical scalar arithmetic ==========================================================================
 * The one definition of every float step that decides a bit of the logits (docs/arithmetic.md).  All backends use these
 * functions, or vector code that does the same operations in the same order.
 *
 * Three things would spoil it.  A compiler may contract a*b + c into one rounding: so every product that feeds a sum is either
 * smolq_fma (one rounding, wanted) or smolq_mul (two roundings, kept apart by an asm barrier).  A libm may round as it likes: so exp is
 * our own.  A host program may have changed rounding or flush-to-zero: so evaluation sets both and restores them (base.c). */
#pragma once
#include "api.h"
#include <math.h>
#include <string.h>

/* What other macros of a compiler don't tell, the self-test of device.c finds. */
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__) || defined(_M_FP_FAST)
#  define SMOLQ_CANONICAL 0
#elif defined(__FINITE_MATH_ONLY__)
#  define SMOLQ_CANONICAL !__FINITE_MATH_ONLY__
#else
#  define SMOLQ_CANONICAL 1
#endif
#if !SMOLQ_CANONICAL && !defined(SMOLQ_ALLOW_FAST_MATH)
#  error "smolq.h: -ffast-math and its kin change the arithmetic: compile the file that has SMOLQ_IMPLEMENTATION (and smolq_cpu.c) without, or define SMOLQ_ALLOW_FAST_MATH and lose the canonical bits"
#endif

#ifdef __CUDACC__
#  define SMOLQ_INLINE static __host__ __device__ inline
#else
#  if defined(_MSC_VER) && !defined(__clang__)
#    pragma fp_contract(off)
#  endif
#  if defined(__GNUC__)
#    define SMOLQ_INLINE static __attribute__((unused)) inline
#  else
#    define SMOLQ_INLINE static inline
#  endif
#endif

/* Bits of a float and back. */
SMOLQ_INLINE uint32_t smolq_bits(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
SMOLQ_INLINE float smolq_from_bits(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

/* Keeps the compiler from fusing the operation that made x with one that uses it; costs nothing. */
#if defined(__CUDA_ARCH__)
#  define SMOLQ_KEEP(x) ((void)0)
#elif defined(__GNUC__) && defined(__SSE2__)
#  define SMOLQ_KEEP(x) __asm__("" : "+x"(x))
#elif defined(__GNUC__) && defined(__aarch64__)
#  define SMOLQ_KEEP(x) __asm__("" : "+w"(x))
#elif defined(__GNUC__)
#  define SMOLQ_KEEP(x) __asm__("" : "+m"(x))
#else
#  define SMOLQ_KEEP(x) ((void)0) /* MSVC: fp_contract(off) above */
#endif

/* a * b rounded on its own, in f32 and in f64. */
SMOLQ_INLINE float smolq_mul(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return __fmul_rn(a, b);
#else
    float p = a * b;
    SMOLQ_KEEP(p);
    return p;
#endif
}
SMOLQ_INLINE double smolq_mul64(double a, double b)
{
#if defined(__CUDA_ARCH__)
    return __dmul_rn(a, b);
#else
    double p = a * b;
    SMOLQ_KEEP(p);
    return p;
#endif
}

/* a * b + c with one rounding.  Where the processor has no such instruction: the product of two floats is exact in double, so
 * only the sum can round twice, and that matters only when the double lies exactly between two floats (or below their normal range);
 * then the sum's own rounding error says to which side it belongs (round to odd, Boldo and Melquiond 2008). */
SMOLQ_INLINE float smolq_fma(float a, float b, float c)
{
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#elif defined(__GNUC__) && (defined(__FMA__) || defined(__aarch64__))
    return __builtin_fmaf(a, b, c);
#else
    double p = (double)a * (double)b, s, back, lost;
    uint64_t u;
    SMOLQ_KEEP(p);
    s = p + (double)c;
    memcpy(&u, &s, 8);
    if ((u & 0x1fffffffu) != 0x10000000u && ((u >> 52) & 0x7ff) > 1023 - 126)
        return (float)s;
    if (((u >> 52) & 0x7ff) == 0x7ff)
        return (float)s;
    back = s - p;
    lost = (p - (s - back)) + ((double)c - back);
    if (lost != 0 && (u & 1) == 0) {
        u = ((lost > 0) == (s > 0)) ? u + 1 : u - 1;
        memcpy(&s, &u, 8);
    }
    return (float)s;
#endif
}

/* Nearest integer, ties to even, for |x| < 2^22: the sum with 1.5 * 2^23 leaves no room for a fraction. */
SMOLQ_INLINE int32_t smolq_rne(float x)
{
    float shifted = x + 12582912.0f;
    SMOLQ_KEEP(shifted);
    return (int32_t)smolq_bits(shifted) - 0x4b400000;
}

SMOLQ_INLINE int smolq_is_finite(float x) { return (smolq_bits(x) & 0x7f800000u) != 0x7f800000u; }

/* IEEE half: 1 sign, 5 exponent, 10 fraction bits.  Exact; NaN stays NaN. */
SMOLQ_INLINE float smolq_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return smolq_from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    if (magnitude >= 0x0400u) return smolq_from_bits(sign | ((magnitude << 13) + (112u << 23)));
    return smolq_from_bits(sign | smolq_bits((float)magnitude * smolq_from_bits((127u - 24u) << 23))); /* subnormal: units of 2^-24 */
}

/* Ties to even; above 65519.99 infinity. */
SMOLQ_INLINE uint16_t smolq_f32_to_f16(float x)
{
    uint32_t u = smolq_bits(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: let a float sum with ulp 2^-24 round */
        float shifted = smolq_from_bits(magnitude) + 0.5f;
        SMOLQ_KEEP(shifted);
        return (uint16_t)(sign | (smolq_bits(shifted) - 0x3f000000u));
    }
    magnitude += 0xfffu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | ((magnitude >> 13) - (112u << 10)));
}

/* bfloat16 is the upper half of a float. */
SMOLQ_INLINE float smolq_bf16_to_f32(uint16_t h) { return smolq_from_bits((uint32_t)h << 16); }

/* Ties to even; NaN stays NaN. */
SMOLQ_INLINE uint16_t smolq_f32_to_bf16(float x)
{
    uint32_t u = smolq_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* Half of an OCP MX scale e8m0: 2^(e-128), half because MXFP4 weights are doubled.  e 0 and 1 give subnormals; e 255 is NaN by the standard
 * and 2^127 here, as in ggml. */
SMOLQ_INLINE float smolq_e8m0_half(uint8_t e) { return smolq_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

/* Unsigned e4m3: 4 exponent bits (bias 7), 3 fraction bits; the top bit means nothing.  0x7f is NaN by the standard and 0 here, as in ggml. */
SMOLQ_INLINE float smolq_ue4m3_to_f32(uint8_t b)
{
    uint32_t exponent = (b >> 3) & 15u, fraction = b & 7u;
    if (b == 0x7f) return 0.0f;
    if (exponent == 0) return (float)fraction * smolq_from_bits((127u - 9u) << 23);
    return smolq_from_bits(((exponent + 120u) << 23) | (fraction << 20));
}

/* Little-endian reads at any address. */
SMOLQ_INLINE uint16_t smolq_u16_at(const uint8_t *p) { return (uint16_t)(p[0] | (p[1] << 8)); }
SMOLQ_INLINE uint32_t smolq_u32_at(const uint8_t *p) { return (uint32_t)p[0] | ((uint32_t)p[1] << 8) | ((uint32_t)p[2] << 16) | ((uint32_t)p[3] << 24); }
SMOLQ_INLINE uint64_t smolq_u64_at(const uint8_t *p) { return (uint64_t)smolq_u32_at(p) | ((uint64_t)smolq_u32_at(p + 4) << 32); }
SMOLQ_INLINE float smolq_f16_at(const uint8_t *p) { return smolq_f16_to_f32(smolq_u16_at(p)); }
SMOLQ_INLINE float smolq_bf16_at(const uint8_t *p) { return smolq_bf16_to_f32(smolq_u16_at(p)); }
SMOLQ_INLINE float smolq_f32_at(const uint8_t *p) { return smolq_from_bits(smolq_u32_at(p)); }

/* e^x for x <= 88: x = n ln2 + r with |r| <= ln2/2, e^r by the polynomial of degree 6 whose largest relative error is least (3.2e-9; a
 * Taylor series would err by 1.7e-7), 2^n into the exponent.  All in all within 1e-7.  Below -87.3 the result is +0, so that no subnormal
 * ever appears. */
SMOLQ_INLINE float smolq_exp(float x)
{
    float r, p;
    int32_t n;
    if (!(x >= -87.3f)) return x != x ? x : 0.0f;
    if (x > 88.0f) x = 88.0f;
    n = smolq_rne(smolq_mul(x, 1.44269504f));
    r = smolq_fma((float)n, -0.693359375f, x);      /* ln2 in two parts; the product with the first is exact */
    r = smolq_fma((float)n, 2.12194440e-4f, r);
    p = 1.38211693e-3f;
    p = smolq_fma(p, r, 8.36866535e-3f);
    p = smolq_fma(p, r, 4.16682586e-2f);
    p = smolq_fma(p, r, 1.66665211e-1f);
    p = smolq_fma(p, r, 0.49999994f);
    p = smolq_fma(p, r, 1.0f);
    p = smolq_fma(p, r, 1.0f);
    return smolq_from_bits(smolq_bits(p) + ((uint32_t)n << 23));
}

SMOLQ_INLINE float smolq_silu(float x) { return x / (1.0f + smolq_exp(-x)); }

/* GELU in its tanh form (Hendrycks and Gimpel 2016): x * (1 + tanh u) / 2 = x / (1 + e^-2u), u = sqrt(2 / pi) * (x + 0.044715 x^3). */
SMOLQ_INLINE float smolq_gelu(float x)
{
    float u = smolq_mul(smolq_mul(0.797884561f, x), smolq_fma(smolq_mul(0.044715f, x), x, 1.0f));
    return x / (1.0f + smolq_exp(smolq_mul(-2.0f, u)));
}

/* tanh: its Taylor series to x^9 below 1/4 (relative error 2e-9), where the quotient would lose digits; then (1 - e^-2|x|) / (1 + e^-2|x|). */
SMOLQ_INLINE float smolq_tanh(float x)
{
    float a = smolq_from_bits(smolq_bits(x) & 0x7fffffffu), t;
    if (a < 0.25f) {
        float z = smolq_mul(x, x), p = 62.0f / 2835.0f;
        p = smolq_fma(p, z, -17.0f / 315.0f);
        p = smolq_fma(p, z, 2.0f / 15.0f);
        p = smolq_fma(p, z, -1.0f / 3.0f);
        return smolq_fma(smolq_mul(p, z), x, x);
    }
    t = smolq_exp(smolq_mul(-2.0f, a));
    t = (1.0f - t) / (1.0f + t);
    return smolq_bits(x) >> 31 ? -t : t;
}

/* Soft cap (Gemma 2): smoothly within -cap..cap; cap 0: none. */
SMOLQ_INLINE float smolq_cap(float x, float cap) { return cap > 0 ? smolq_mul(cap, smolq_tanh(x / cap)) : x; }

/* IEEE square root: correctly rounded everywhere, unlike the approximations that vector units offer. */
SMOLQ_INLINE float smolq_sqrt(float x)
{
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(x);
#else
    return sqrtf(x);
#endif
}

/* Sums of a dot product live in 16 lanes, element i in lane i mod 16; this adds the lanes up: 8, 4, 2, 1 apart.  64 lanes for norms. */
SMOLQ_INLINE float smolq_fold(float *lane, int32_t n_lanes)
{
    int32_t half, i;
    for (half = n_lanes / 2; half > 0; half /= 2)
        for (i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}
