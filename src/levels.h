/* ==== levels.h: unpacking blocks ====================================================================================
 * All quantized types are one thing packed in 25 ways: small integers q, an integer scale (and for some a minimum) for each run
 * of them, and one float or a few:
 *
 *     weight i, in run r, in group g  =  d[g] * scale[r] * q[i]  +  dmin * least[r]
 *
 * So a type is one short function here that takes a block's bits apart into "levels", and two loops do the rest for all types:
 * smolq__multiply_out gives floats, smolq__integers the exact integers scale * q that products in canonical arithmetic are made of.
 * docs/formats.md draws the blocks; the layouts are ggml's (ggml-common.h, ggml-quants.c, MIT).
 *
 * Why plain float products are safe here: d has 11 significant bits, so d * scale is exact, and so is d * scale * q wherever a minimum
 * is added to it (at most 22 bits).  Each weight is rounded once, at its last operation, and a contracted multiply-add gives the same bits.
 *
 * A block may hold any bits: all that is read from it is masked to the size of the table that it indexes. */
#pragma once
#include "formats.h"
#include "float.h"
#include "grids.h"

typedef struct smolq__levels {
    int8_t  q[256];
    int32_t n_runs;    /* the block's weights fall into that many equal runs */
    int8_t  scale[16]; /* [n_runs] */
    int32_t has_least;
    uint8_t least[16]; /* [n_runs], if has_least */
    float   dmin;      /* signed: K-quants subtract their minimums, Q4_1 and Q5_1 add them */
    int32_t n_groups;  /* and into that many equal groups, each a whole number of runs */
    float   d[4];      /* [n_groups] */
} smolq__levels;

/* ---- scales ---- */

/* One d and n_runs scales, which the caller fills in. */
SMOLQ_INLINE void smolq__scaled(smolq__levels *l, float d, int32_t n_runs)
{
    l->n_runs = n_runs;
    l->has_least = 0;
    l->n_groups = 1;
    l->d[0] = d;
}

/* No integer scales: d alone, in n_groups groups (with activations in groups of 32, every 32 weights are a float step of their own). */
SMOLQ_INLINE void smolq__unscaled(smolq__levels *l, float d, int32_t n_groups)
{
    int32_t g;
    smolq__scaled(l, d, n_groups);
    l->n_groups = n_groups;
    for (g = 0; g < n_groups; g++) {
        l->d[g] = d;
        l->scale[g] = 1;
    }
}

SMOLQ_INLINE void smolq__with_least(smolq__levels *l, float dmin)
{
    l->has_least = 1;
    l->dmin = dmin;
}

/* Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minimums in 12 bytes.  The first four of each are the low six bits of bytes 0-3 and 4-7;
 * of the last four, bytes 8-11 hold the low nibbles and the top two bits of bytes 0-7 the rest. */
SMOLQ_INLINE void smolq__scales_6_bit(const uint8_t *s, smolq__levels *l)
{
    int32_t j;
    for (j = 0; j < 4; j++) {
        l->scale[j] = (int8_t)(s[j] & 63);
        l->least[j] = s[j + 4] & 63;
        l->scale[j + 4] = (int8_t)((s[j + 8] & 15) | (s[j] >> 6) << 4);
        l->least[j + 4] = (uint8_t)((s[j + 8] >> 4) | (s[j + 4] >> 6) << 4);
    }
}

/* IQ2 and IQ3: 4-bit scales s, low nibble first, that mean 2s + 1. */
SMOLQ_INLINE void smolq__odd_scales(const uint8_t *nibbles, smolq__levels *l)
{
    int32_t r;
    for (r = 0; r < l->n_runs; r++) l->scale[r] = (int8_t)((nibbles[r / 2] >> r % 2 * 4 & 15) * 2 + 1);
}

/* ---- bits ---- */

/* n bytes hold 2n nibbles: the low ones are the first half of the weights, the high ones the second. */
SMOLQ_INLINE void smolq__nibbles(const uint8_t *qs, int32_t n, int8_t *q)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        q[i] = (int8_t)(qs[i] & 15);
        q[n + i] = (int8_t)(qs[i] >> 4);
    }
}

/* 64 bytes hold 256 pairs of bits: 32 bytes are 128 weights, bits 0-1 the first 32 of them, bits 2-3 the next. */
SMOLQ_INLINE void smolq__pairs(const uint8_t *qs, int8_t *q)
{
    int32_t half, j, i;
    for (half = 0; half < 2; half++)
        for (j = 0; j < 4; j++)
            for (i = 0; i < 32; i++) q[half * 128 + j * 32 + i] = (int8_t)(qs[half * 32 + i] >> j * 2 & 3);
}

/* Adds 16 to n weights whose bit is set, the lowest bit of the first byte first. */
SMOLQ_INLINE void smolq__fifth_bits(const uint8_t *bits, int32_t n, int8_t *q)
{
    int32_t i;
    for (i = 0; i < n; i++) q[i] = (int8_t)(q[i] | (bits[i / 8] >> i % 8 & 1) << 4);
}

/* Base three, five digits or fewer to a byte: the byte is their fraction in units of 1/256, rounded up, so that the next digit (the weight
 * plus one) is what a multiplication by 3 carries out.  Digit by digit over all bytes. */
SMOLQ_INLINE void smolq__trits(const uint8_t *bytes, int32_t n_bytes, int32_t n_digits, int8_t *q)
{
    static const uint8_t power[5] = { 1, 3, 9, 27, 81 };
    int32_t digit, i;
    for (digit = 0; digit < n_digits; digit++)
        for (i = 0; i < n_bytes; i++) q[digit * n_bytes + i] = (int8_t)(((bytes[i] * power[digit] & 255) * 3 >> 8) - 1);
}

SMOLQ_INLINE void smolq__add_to_all(int8_t *q, int32_t n, int32_t add)
{
    int32_t i;
    for (i = 0; i < n; i++) q[i] = (int8_t)(q[i] + add);
}

SMOLQ_INLINE void smolq__look_up(const int8_t *values, int8_t *q, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) q[i] = values[q[i] & 15];
}

/* ---- blocks of 32 to 128: one float for 16 or 32 weights ---- */

SMOLQ_INLINE void smolq__levels_Q4_0(const smolq_block_q4_0 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__nibbles(b->qs, 16, l->q);
    smolq__add_to_all(l->q, 32, -8);
}

SMOLQ_INLINE void smolq__levels_Q4_1(const smolq_block_q4_1 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__with_least(l, smolq_f16_at(b->m));
    l->least[0] = 1;
    smolq__nibbles(b->qs, 16, l->q);
}

SMOLQ_INLINE void smolq__levels_Q5_0(const smolq_block_q5_0 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__nibbles(b->qs, 16, l->q);
    smolq__fifth_bits(b->qh, 32, l->q);
    smolq__add_to_all(l->q, 32, -16);
}

SMOLQ_INLINE void smolq__levels_Q5_1(const smolq_block_q5_1 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__with_least(l, smolq_f16_at(b->m));
    l->least[0] = 1;
    smolq__nibbles(b->qs, 16, l->q);
    smolq__fifth_bits(b->qh, 32, l->q);
}

SMOLQ_INLINE void smolq__levels_Q8_0(const smolq_block_q8_0 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    memcpy(l->q, b->qs, 32);
}

SMOLQ_INLINE void smolq__levels_IQ4_NL(const smolq_block_iq4_nl *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__nibbles(b->qs, 16, l->q);
    smolq__look_up(smolq_iq4_values, l->q, 32);
}

SMOLQ_INLINE void smolq__levels_MXFP4(const smolq_block_mxfp4 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_e8m0_half(b->e), 1);
    smolq__nibbles(b->qs, 16, l->q);
    smolq__look_up(smolq_fp4_values, l->q, 32);
}

SMOLQ_INLINE void smolq__levels_NVFP4(const smolq_block_nvfp4 *b, smolq__levels *l)
{
    int32_t g;
    smolq__unscaled(l, 0, 4);
    for (g = 0; g < 4; g++) {
        l->d[g] = smolq_ue4m3_to_f32(b->d[g]) * 0.5f;
        smolq__nibbles(b->qs + g * 8, 8, l->q + g * 16);
    }
    smolq__look_up(smolq_fp4_values, l->q, 64);
}

SMOLQ_INLINE void smolq__levels_Q1_0(const smolq_block_q1_0 *b, smolq__levels *l)
{
    int32_t i;
    smolq__unscaled(l, smolq_f16_at(b->d), 4);
    for (i = 0; i < 128; i++) l->q[i] = (int8_t)((b->qs[i / 8] >> i % 8 & 1) * 2 - 1);
}

SMOLQ_INLINE void smolq__levels_Q2_0(const smolq_block_q2_0 *b, smolq__levels *l)
{
    int32_t i;
    smolq__unscaled(l, smolq_f16_at(b->d), 2);
    for (i = 0; i < 64; i++) l->q[i] = (int8_t)((b->qs[i / 4] >> i % 4 * 2 & 3) - 1);
}

/* ---- ternary: blocks of 256 with d alone ---- */

SMOLQ_INLINE void smolq__levels_TQ1_0(const smolq_block_tq1_0 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__trits(b->qs, 32, 5, l->q);
    smolq__trits(b->qs + 32, 16, 5, l->q + 160);
    smolq__trits(b->qh, 4, 4, l->q + 240);
}

SMOLQ_INLINE void smolq__levels_TQ2_0(const smolq_block_tq2_0 *b, smolq__levels *l)
{
    smolq__unscaled(l, smolq_f16_at(b->d), 1);
    smolq__pairs(b->qs, l->q);
    smolq__add_to_all(l->q, 256, -1);
}

/* ---- K-quants: blocks of 256 in runs of 16 or 32 with integer scales ---- */

SMOLQ_INLINE void smolq__levels_Q2_K(const smolq_block_q2_k *b, smolq__levels *l)
{
    int32_t r;
    smolq__scaled(l, smolq_f16_at(b->d), 16);
    smolq__with_least(l, -smolq_f16_at(b->dmin));
    for (r = 0; r < 16; r++) {
        l->scale[r] = (int8_t)(b->scales[r] & 15);
        l->least[r] = b->scales[r] >> 4;
    }
    smolq__pairs(b->qs, l->q);
}

/* A level is a pair of bits, less 4 where its bit of hmask is clear.  Sixteen 6-bit scales, less 32: the nibbles of bytes 0-7 are their
 * low bits (low nibbles first), the pairs of bytes 8-11 the high ones. */
SMOLQ_INLINE void smolq__levels_Q3_K(const smolq_block_q3_k *b, smolq__levels *l)
{
    int32_t i, r;
    smolq__scaled(l, smolq_f16_at(b->d), 16);
    smolq__nibbles(b->scales, 8, l->scale);
    for (r = 0; r < 16; r++) l->scale[r] = (int8_t)((l->scale[r] | (b->scales[8 + r % 4] >> r / 4 * 2 & 3) << 4) - 32);
    smolq__pairs(b->qs, l->q);
    for (i = 0; i < 256; i++) l->q[i] = (int8_t)(l->q[i] + (b->hmask[i % 32] >> i / 32 & 1) * 4 - 4);
}

SMOLQ_INLINE void smolq__levels_Q4_K(const smolq_block_q4_k *b, smolq__levels *l)
{
    int32_t j;
    smolq__scaled(l, smolq_f16_at(b->d), 8);
    smolq__with_least(l, -smolq_f16_at(b->dmin));
    smolq__scales_6_bit(b->scales, l);
    for (j = 0; j < 4; j++) smolq__nibbles(b->qs + j * 32, 32, l->q + j * 64);
}

SMOLQ_INLINE void smolq__levels_Q5_K(const smolq_block_q5_k *b, smolq__levels *l)
{
    int32_t i, j;
    smolq__scaled(l, smolq_f16_at(b->d), 8);
    smolq__with_least(l, -smolq_f16_at(b->dmin));
    smolq__scales_6_bit(b->scales, l);
    for (j = 0; j < 4; j++) smolq__nibbles(b->qs + j * 32, 32, l->q + j * 64);
    for (i = 0; i < 256; i++) l->q[i] = (int8_t)(l->q[i] | (b->qh[i % 32] >> i / 32 & 1) << 4);
}

SMOLQ_INLINE void smolq__levels_Q6_K(const smolq_block_q6_k *b, smolq__levels *l)
{
    int8_t high[256];
    int32_t i;
    smolq__scaled(l, smolq_f16_at(b->d), 16);
    memcpy(l->scale, b->scales, 16);
    smolq__nibbles(b->ql, 64, l->q);
    smolq__nibbles(b->ql + 64, 64, l->q + 128);
    smolq__pairs(b->qh, high);
    for (i = 0; i < 256; i++) l->q[i] = (int8_t)((l->q[i] | high[i] << 4) - 32);
}

/* ---- IQ: blocks of 256 whose levels come from codebooks, eight (IQ3: four) at a time ---- */

SMOLQ_INLINE void smolq__levels_IQ4_XS(const smolq_block_iq4_xs *b, smolq__levels *l)
{
    int32_t r;
    smolq__scaled(l, smolq_f16_at(b->d), 8);
    for (r = 0; r < 8; r++) {
        l->scale[r] = (int8_t)(((b->scales_l[r / 2] >> r % 2 * 4 & 15) | (b->scales_h[r / 4] >> r % 4 * 2 & 3) << 4) - 32);
        smolq__nibbles(b->qs + r * 16, 16, l->q + r * 32);
    }
    smolq__look_up(smolq_iq4_values, l->q, 256);
}

/* Eight bytes for 32 weights: four indices, then a word of four times seven signs and a 4-bit scale. */
SMOLQ_INLINE void smolq__levels_IQ2_XXS(const smolq_block_iq2_xxs *b, smolq__levels *l)
{
    int32_t r, j;
    smolq__scaled(l, smolq_f16_at(b->d) * 0.125f, 8);
    for (r = 0; r < 8; r++) {
        const uint8_t *index = b->qs + r * 8;
        uint32_t word = smolq_u32_at(index + 4);
        l->scale[r] = (int8_t)((word >> 28) * 2 + 1);
        for (j = 0; j < 4; j++) smolq_expand_iq2(smolq_grid_iq2_xxs[index[j]], smolq_even_signs(word >> j * 7), l->q + r * 32 + j * 8);
    }
}

/* Sixteen bits for eight weights: nine of an index, seven signs. */
SMOLQ_INLINE void smolq__levels_IQ2_XS(const smolq_block_iq2_xs *b, smolq__levels *l)
{
    int32_t k;
    smolq__scaled(l, smolq_f16_at(b->d) * 0.125f, 16);
    smolq__odd_scales(b->scales, l);
    for (k = 0; k < 32; k++) {
        uint32_t word = smolq_u16_at(b->qs + k * 2);
        smolq_expand_iq2(smolq_grid_iq2_xs[word & 511u], smolq_even_signs(word >> 9), l->q + k * 8);
    }
}

SMOLQ_INLINE void smolq__levels_IQ2_S(const smolq_block_iq2_s *b, smolq__levels *l)
{
    int32_t k;
    smolq__scaled(l, smolq_f16_at(b->d) * 0.125f, 16);
    smolq__odd_scales(b->scales, l);
    for (k = 0; k < 32; k++) {
        int32_t index = b->qs[k] | (b->qh[k / 4] >> k % 4 * 2 & 3) << 8;
        smolq_expand_iq2(smolq_grid_iq2_s[index], b->signs[k], l->q + k * 8);
    }
}

/* Eight indices for 32 weights; their signs and scale are packed as in IQ2_XXS. */
SMOLQ_INLINE void smolq__levels_IQ3_XXS(const smolq_block_iq3_xxs *b, smolq__levels *l)
{
    int32_t r, j;
    smolq__scaled(l, smolq_f16_at(b->d) * 0.25f, 8);
    for (r = 0; r < 8; r++) {
        uint32_t word = smolq_u32_at(b->signs + r * 4);
        l->scale[r] = (int8_t)((word >> 28) * 2 + 1);
        for (j = 0; j < 8; j++) {
            uint32_t signs = smolq_even_signs(word >> j / 2 * 7) >> j % 2 * 4;
            smolq_expand_iq3_xxs(smolq_grid_iq3_xxs[b->qs[r * 8 + j]], signs, l->q + r * 32 + j * 4);
        }
    }
}

SMOLQ_INLINE void smolq__levels_IQ3_S(const smolq_block_iq3_s *b, smolq__levels *l)
{
    int32_t k;
    smolq__scaled(l, smolq_f16_at(b->d), 8);
    smolq__odd_scales(b->scales, l);
    for (k = 0; k < 64; k++) {
        int32_t index = b->qs[k] | (b->qh[k / 8] >> k % 8 & 1) << 8;
        smolq_expand_iq3_s(smolq_grid_iq3_s[index], (uint32_t)b->signs[k / 2] >> k % 2 * 4, l->q + k * 4);
    }
}

/* A word of qh for 32 weights: four times three high bits of an index, a 3-bit scale s that means 2s + 1, and the sign of the shift. */
SMOLQ_INLINE void smolq__levels_IQ1_S(const smolq_block_iq1_s *b, smolq__levels *l)
{
    int32_t r, j;
    smolq__scaled(l, smolq_f16_at(b->d) * 0.125f, 8);
    for (r = 0; r < 8; r++) {
        uint32_t word = smolq_u16_at(b->qh + r * 2);
        l->scale[r] = (int8_t)((word >> 12 & 7u) * 2 + 1);
        for (j = 0; j < 4; j++)
            smolq_expand_iq1(smolq_grid_iq1[b->qs[r * 4 + j] | (word >> j * 3 & 7u) << 8], word & 0x8000u ? -1 : 1, l->q + r * 32 + j * 8);
    }
}

/* A nibble of qh for eight weights: three high bits of an index and the sign of the shift.  A word of scales for 64: four 3-bit scales, and
 * four bits of d, lowest first. */
SMOLQ_INLINE void smolq__levels_IQ1_M(const smolq_block_iq1_m *b, smolq__levels *l)
{
    uint32_t d = 0;
    int32_t r, k;
    for (r = 0; r < 16; r++) l->scale[r] = (int8_t)((smolq_u16_at(b->scales + r / 4 * 2) >> r % 4 * 3 & 7) * 2 + 1);
    for (r = 0; r < 4; r++) d |= (uint32_t)(b->scales[r * 2 + 1] >> 4) << r * 4;
    smolq__scaled(l, smolq_f16_to_f32((uint16_t)d) * 0.125f, 16);
    for (k = 0; k < 32; k++) {
        uint32_t nibble = (uint32_t)b->qh[k / 2] >> k % 2 * 4;
        smolq_expand_iq1(smolq_grid_iq1[b->qs[k] | (nibble & 7u) << 8], nibble & 8u ? -1 : 1, l->q + k * 8);
    }
}

/* ---- what all types share ---- */

SMOLQ_INLINE void smolq__multiply_out(const smolq__levels *l, int32_t n, float *values)
{
    int32_t length = n / l->n_runs, r, i;
    for (r = 0; r < l->n_runs; r++) {
        const int8_t *q = l->q + r * length;
        float scale = l->d[r * l->n_groups / l->n_runs] * (float)l->scale[r];
        if (l->has_least) {
            float least = l->dmin * (float)l->least[r];
            for (i = 0; i < length; i++) values[i] = scale * (float)q[i] + least;
        } else {
            for (i = 0; i < length; i++) values[i] = scale * (float)q[i];
        }
        values += length;
    }
}

/* A block for products with int8 activations x = dx * a: the sum over a group of v * a is exact in int32, and then
 *     acc = fma(d[g] * dx, (float)sum, acc)                                          for each group, ascending
 *     acc = fma(dmin * dx, (float)(sum over runs of mins[r] * sum of a), acc)        once, if n_mins */
typedef struct smolq__ints {
    int16_t v[256];   /* scale * q, |v| <= 4096 */
    int32_t n_groups; /* each covers block_weights / n_groups weights */
    float   d[8];
    int32_t n_mins;   /* 0, or the number of equal runs with a minimum each */
    float   dmin;
    int16_t mins[16];
} smolq__ints;

SMOLQ_INLINE void smolq__integers(const smolq__levels *l, int32_t n, smolq__ints *ints)
{
    int32_t length = n / l->n_runs, r, i;
    ints->n_groups = l->n_groups;
    memcpy(ints->d, l->d, sizeof l->d);
    ints->n_mins = l->has_least ? l->n_runs : 0;
    ints->dmin = l->has_least ? l->dmin : 0;
    for (r = 0; r < l->n_runs; r++) {
        const int8_t *q = l->q + r * length;
        int16_t *v = ints->v + r * length;
        for (i = 0; i < length; i++) v[i] = (int16_t)(l->scale[r] * q[i]);
    }
    for (r = 0; r < ints->n_mins; r++) ints->mins[r] = l->least[r];
}

/* ---- the table ---- */

typedef struct smolq__type {
    int32_t id;
    smolq_type_facts facts;
    void (*levels)(const uint8_t *block, smolq__levels *l);  /* NULL as ints */
    void (*unpack)(const uint8_t *block, float *values);     /* NULL for integers and f64 */
    void (*ints)(const uint8_t *block, smolq__ints *ints);   /* NULL for these and f32, f16, bf16 */
} smolq__type;

/* By the group of the type (a column of SMOLQ_TYPES) its functions are made from its levels, or it is a float. */
#define SMOLQ__FUNCTIONS_256(NAME, weights, block) \
    SMOLQ_INLINE void smolq__take_##NAME(const uint8_t *bytes, smolq__levels *l) { smolq__levels_##NAME((const block *)bytes, l); } \
    SMOLQ_INLINE void smolq__unpack_##NAME(const uint8_t *bytes, float *values) \
    { \
        smolq__levels l; \
        smolq__levels_##NAME((const block *)bytes, &l); \
        smolq__multiply_out(&l, weights, values); \
    } \
    SMOLQ_INLINE void smolq__ints_##NAME(const uint8_t *bytes, smolq__ints *ints) \
    { \
        smolq__levels l; \
        smolq__levels_##NAME((const block *)bytes, &l); \
        smolq__integers(&l, weights, ints); \
    }
#define SMOLQ__FUNCTIONS_32(NAME, weights, block) SMOLQ__FUNCTIONS_256(NAME, weights, block)
#define SMOLQ__FUNCTIONS_0(NAME, weights, block)
#define SMOLQ__FUNCTIONS(id, NAME, name, weights, group, block) SMOLQ__FUNCTIONS_##group(NAME, weights, block)
SMOLQ_TYPES(SMOLQ__FUNCTIONS)

SMOLQ_INLINE void smolq__unpack_F32(const uint8_t *bytes, float *values) { values[0] = smolq_f32_at(bytes); }
SMOLQ_INLINE void smolq__unpack_F16(const uint8_t *bytes, float *values) { values[0] = smolq_f16_at(bytes); }
SMOLQ_INLINE void smolq__unpack_BF16(const uint8_t *bytes, float *values) { values[0] = smolq_bf16_at(bytes); }

/* Blocks stand at any address and back to back: their structs must have no alignment and no padding. */
#define SMOLQ__PACKED(id, NAME, name, weights, group, block) \
    typedef struct { uint8_t before; block b; } smolq__placed_##NAME; \
    typedef char smolq__packed_##NAME[sizeof(smolq__placed_##NAME) == sizeof(block) + 1 ? 1 : -1];
SMOLQ_TYPES(SMOLQ__PACKED)

/* Types that models carry but never multiply by.  id  NAME name  bytes */
#define SMOLQ__INTEGER_TYPES(X) \
    X(24, I8,  "i8",  1) \
    X(25, I16, "i16", 2) \
    X(26, I32, "i32", 4) \
    X(27, I64, "i64", 8) \
    X(28, F64, "f64", 8)

#define SMOLQ__LEVELS_256(NAME) smolq__take_##NAME
#define SMOLQ__LEVELS_32(NAME)  smolq__take_##NAME
#define SMOLQ__LEVELS_0(NAME)   NULL
#define SMOLQ__INTS_256(NAME) smolq__ints_##NAME
#define SMOLQ__INTS_32(NAME)  smolq__ints_##NAME
#define SMOLQ__INTS_0(NAME)   NULL
#define SMOLQ__ROW(id, NAME, name, weights, group, block) \
    { id, { name, weights, (int32_t)sizeof(block), group }, SMOLQ__LEVELS_##group(NAME), smolq__unpack_##NAME, SMOLQ__INTS_##group(NAME) },
#define SMOLQ__INTEGER_ROW(id, NAME, name, bytes) { id, { name, 1, bytes, 0 }, NULL, NULL, NULL },
static const smolq__type smolq__types[] = { SMOLQ_TYPES(SMOLQ__ROW) SMOLQ__INTEGER_TYPES(SMOLQ__INTEGER_ROW) };

#define SMOLQ__AT(id, NAME, name, weights, group, block) SMOLQ__AT_##NAME,
#define SMOLQ__INTEGER_AT(id, NAME, name, bytes)         SMOLQ__AT_##NAME,
enum { SMOLQ_TYPES(SMOLQ__AT) SMOLQ__INTEGER_TYPES(SMOLQ__INTEGER_AT) SMOLQ__N_TYPES };

#define SMOLQ__CASE(id, NAME, name, weights, group, block) case id: return &smolq__types[SMOLQ__AT_##NAME];
#define SMOLQ__INTEGER_CASE(id, NAME, name, bytes)         case id: return &smolq__types[SMOLQ__AT_##NAME];
SMOLQ_INLINE const smolq__type *smolq__type_of(int32_t type)
{
    switch (type) { SMOLQ_TYPES(SMOLQ__CASE) SMOLQ__INTEGER_TYPES(SMOLQ__INTEGER_CASE) default: return NULL; }
}

#undef SMOLQ__FUNCTIONS_256
#undef SMOLQ__FUNCTIONS_32
#undef SMOLQ__FUNCTIONS_0
#undef SMOLQ__FUNCTIONS
#undef SMOLQ__PACKED
#undef SMOLQ__LEVELS_256
#undef SMOLQ__LEVELS_32
#undef SMOLQ__LEVELS_0
#undef SMOLQ__INTS_256
#undef SMOLQ__INTS_32
#undef SMOLQ__INTS_0
#undef SMOLQ__ROW
#undef SMOLQ__INTEGER_ROW
#undef SMOLQ__AT
#undef SMOLQ__INTEGER_AT
#undef SMOLQ__CASE
#undef SMOLQ__INTEGER_CASE

/* n weights, a multiple of the block's, of a type that can be unpacked. */
SMOLQ_INLINE void smolq__unpack_row(const smolq__type *type, const uint8_t *row, float *values, int64_t n)
{
    int64_t i;
    switch (type->id) {
    case SMOLQ_TYPE_F32:  for (i = 0; i < n; i++) values[i] = smolq_f32_at(row + i * 4);  return;
    case SMOLQ_TYPE_F16:  for (i = 0; i < n; i++) values[i] = smolq_f16_at(row + i * 2);  return;
    case SMOLQ_TYPE_BF16: for (i = 0; i < n; i++) values[i] = smolq_bf16_at(row + i * 2); return;
    default: break;
    }
    for (i = 0; i < n; i += type->facts.block_weights, row += type->facts.block_bytes) type->unpack(row, values + i);
}
