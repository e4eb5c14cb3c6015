/* ==== rope.c: rotations ============================================================================================
 * RoPE turns each pair of a head's numbers by the angle position * frequency (Su et al. 2021).  The frequencies of a model are fixed when it opens; the cosines and
 * sines of a batch's positions are computed here, once for all layers and heads, and handed to the backend as a buffer, so that every
 * backend rotates by the same bits.
 *
 * No libm: its last bits differ between systems.  Here are exp, log, sin and cos in double out of + - * / alone, each operation rounded on its own (smolq_mul64), good to
 * about 1e-15 and then rounded to f32. */
#pragma once
#include "arch.c"

static double smolq__from_bits64(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }

/* Nearest whole number for |x| < 2^51. */
static double smolq__round64(double x)
{
    double shifted = x + 6755399441055744.0; /* 1.5 * 2^52 */
    SMOLQ_KEEP(shifted);
    return shifted - 6755399441055744.0;
}

static double smolq__floor64(double x)
{
    double nearest = smolq__round64(x);
    return nearest > x ? nearest - 1 : nearest;
}

/* c[0] + x * (c[1] + x * (...)) */
static double smolq__polynomial(const double *c, int32_t n, double x)
{
    double y = c[n - 1];
    int32_t i;
    for (i = n - 2; i >= 0; i--) y = smolq_mul64(y, x) + c[i];
    return y;
}

/* Natural logarithm of a positive normal number: x = 2^e * m with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m-1)/(m+1)). */
static double smolq__log64(double x)
{
    static const double c[] = { 1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21 };
    uint64_t u;
    double m, s, e;
    memcpy(&u, &x, 8);
    e = (double)((int32_t)(u >> 52) - 1023);
    m = smolq__from_bits64((u & 0xfffffffffffffu) | 0x3ff0000000000000u);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e += 1;
    }
    s = (m - 1) / (m + 1);
    return smolq_mul64(e, 0.6931471805599453) + smolq_mul64(2 * s, smolq__polynomial(c, 11, smolq_mul64(s, s)));
}

/* e^x for |x| < 700: x = n ln2 + r, e^r by its Taylor series. */
static double smolq__exp64(double x)
{
    static const double c[] = { 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800,
                                1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0 };
    double n = smolq__round64(smolq_mul64(x, 1.4426950408889634)), r;
    r = x - smolq_mul64(n, 6.93147180369123816490e-01); /* ln2 in two parts, the first with 33 bits: its product is exact */
    r = r - smolq_mul64(n, 1.90821492927058770002e-10);
    return smolq_mul64(smolq__polynomial(c, 14, r), smolq__from_bits64((uint64_t)(int64_t)(n + 1023) << 52));
}

/* Sine and cosine, good to 1e-9 up to 2^30: x = n pi/2 + r with pi/2 in three parts (33 bits each), then Taylor series on |r| <= pi/4.  From 2^50 on, where only
 * a damaged file leads (frequencies divided by zero), they are NaN, and the evaluation ends with SMOLQ_E_NUMERIC. */
static void smolq__sincos64(double x, double *sine, double *cosine)
{
    static const double s[] = { 1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0 };
    static const double c[] = { 1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200.0, 1.0 / 20922789888000.0 };
    double n = smolq__round64(smolq_mul64(x, 0.6366197723675814)), r, rr, sr, cr;
    r = x - smolq_mul64(n, 1.57079632673412561417e+00);
    r = r - smolq_mul64(n, 6.07710050630396597660e-11);
    r = r - smolq_mul64(n, 2.02226624879595063154e-21);
    if (!(x > -1125899906842624.0 && x < 1125899906842624.0)) {
        *sine = *cosine = smolq__from_bits64(0x7ff8000000000000u);
        return;
    }
    rr = smolq_mul64(r, r);
    sr = smolq_mul64(r, smolq__polynomial(s, 8, rr));
    cr = smolq__polynomial(c, 9, rr);
    switch ((uint32_t)(int64_t)n & 3) {
    case 0:  *sine = sr;  *cosine = cr;  break;
    case 1:  *sine = cr;  *cosine = -sr; break;
    case 2:  *sine = -sr; *cosine = -cr; break;
    default: *sine = -cr; *cosine = sr;  break;
    }
}

typedef struct smolq__rope {
    int32_t n_half;     /* pairs: n_rot / 2 */
    double *frequency;  /* [n_half] radians per position */
    double  magnitude;  /* of the rotated pair: 1, or what YaRN asks for */
} smolq__rope;

/* Rotations that a model may need: of contexts up to the original length and of longer ones (they differ where the file has factors for both), and of
 * layers with a window. */
enum { SMOLQ__ROPE_SHORT_CONTEXT, SMOLQ__ROPE_LONG_CONTEXT, SMOLQ__ROPE_LOCAL, SMOLQ__ROPE_COUNT };

/* The pair whose wave turns `turns` times within the original context (Peng et al. 2023, YaRN, eq. 17 and the text below it). */
static double smolq__yarn_pair(const smolq__hparams *hp, double base, double turns)
{
    return hp->n_rot * (smolq__log64((double)hp->n_ctx_orig / (turns * 6.283185307179586)) / (2 * smolq__log64(base)));
}

static double smolq__clamp01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

/* YaRN's attention factor: grows with the logarithm of the stretch, or not (with the log multiplier 1), as the file says. */
static double smolq__yarn_magnitude(const smolq__hparams *hp)
{
    double growth = hp->rope_factor > 1 ? smolq_mul64(0.1, smolq__log64(hp->rope_factor)) : 0;
    return hp->yarn_log_multiplier > 0 ? (1 + growth) / (1 + smolq_mul64(hp->yarn_log_multiplier, growth)) : 1 + growth;
}

/* theta_i = base^(-2i / n_rot), divided by the file's own factors if it has them (Llama 3, Phi-3), then stretched: by 1 / factor for all pairs (linear), or (YaRN) for
 * the slow pairs, with a ramp from those that turn beta_fast times in the original context to those that turn beta_slow times.  plain: none of it. */
static int smolq__rope_set(smolq__rope *rope, smolq__heap *heap, const smolq__hparams *hp, double base, const uint8_t *factors, int plain)
{
    double stretch = plain ? 1 : 1 / hp->rope_factor, low = 0, high = 0, ramp_share = hp->yarn_ext_factor > 0 ? hp->yarn_ext_factor : 1;
    int yarn = hp->yarn && !plain;
    int32_t i;
    rope->n_half = hp->n_rot / 2;
    rope->magnitude = hp->rope_attn_factor > 0 && !plain ? hp->rope_attn_factor : 1;
    rope->frequency = (double *)smolq__alloc(heap, (uint64_t)rope->n_half * sizeof *rope->frequency);
    if (!rope->frequency) return 0;
    if (yarn) {
        low = smolq__yarn_pair(hp, base, hp->yarn_beta_fast > 0 ? hp->yarn_beta_fast : 32);
        high = smolq__yarn_pair(hp, base, hp->yarn_beta_slow > 0 ? hp->yarn_beta_slow : 1);
        low = smolq__floor64(low) < 0 ? 0 : smolq__floor64(low);
        high = -smolq__floor64(-high) > hp->n_rot - 1 ? hp->n_rot - 1 : -smolq__floor64(-high);
        rope->magnitude *= smolq__yarn_magnitude(hp);
    } else if (hp->yarn_attn_factor > 0 && !plain) {
        rope->magnitude *= hp->yarn_attn_factor;
    }
    for (i = 0; i < rope->n_half; i++) {
        double frequency = smolq__exp64(smolq_mul64(-2.0 * i / hp->n_rot, smolq__log64(base)));
        double keep = 0; /* share of the unstretched frequency */
        if (factors) frequency /= (double)smolq_f32_at(factors + 4 * (size_t)i);
        if (yarn) keep = smolq_mul64(1 - smolq__clamp01((i - low) / (high - low > 0.001 ? high - low : 0.001)), ramp_share);
        rope->frequency[i] = smolq_mul64(smolq_mul64(frequency, stretch), 1 - keep) + smolq_mul64(frequency, keep);
    }
    return 1;
}

/* All rotations of a model; 0 when memory is out. */
static int smolq__rope_open(smolq__rope *ropes, smolq__heap *heap, const smolq__arch *arch)
{
    const smolq__hparams *hp = &arch->hp;
    const smolq_tensor *t = arch->global.tensor;
    const uint8_t *all = t[SMOLQ__T_ROPE_FREQS].data;
    const uint8_t *of_long = t[SMOLQ__T_ROPE_LONG].data ? t[SMOLQ__T_ROPE_LONG].data : all, *of_short = t[SMOLQ__T_ROPE_SHORT].data ? t[SMOLQ__T_ROPE_SHORT].data : all;
    int plain = arch->family->local == SMOLQ__LOCAL_PLAIN;
    return smolq__rope_set(&ropes[SMOLQ__ROPE_SHORT_CONTEXT], heap, hp, hp->freq_base, of_short, 0) &&
           smolq__rope_set(&ropes[SMOLQ__ROPE_LONG_CONTEXT], heap, hp, hp->freq_base, of_long, 0) &&
           smolq__rope_set(&ropes[SMOLQ__ROPE_LOCAL], heap, hp, hp->freq_base_local, plain ? NULL : all, plain);
}

/* Attention temperature by position (Llama 4, Ministral 3): 1 + t log(floor(position / original context) + 1). */
static float smolq__heat(const smolq__hparams *hp, int32_t position)
{
    return (float)(1 + smolq_mul64(hp->temperature, smolq__log64((double)(position / hp->n_ctx_orig) + 1)));
}

/* One row of the ROPE buffer: cos [n_half], sin [n_half] of a position. */
static void smolq__rope_row(const smolq__rope *rope, int32_t position, float *row)
{
    int32_t i;
    for (i = 0; i < rope->n_half; i++) {
        double sine, cosine;
        smolq__sincos64(smolq_mul64((double)position, rope->frequency[i]), &sine, &cosine);
        row[i] = (float)smolq_mul64(cosine, rope->magnitude);
        row[rope->n_half + i] = (float)smolq_mul64(sine, rope->magnitude);
    }
}
