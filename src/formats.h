/* ==== formats.h: the blocks of every tensor type ====================================================================
 * A tensor's rows are runs of blocks, and a block is a few scales and packed weights.  These structs are how the blocks lie in
 * a GGUF file, byte for byte, little-endian (layouts and names: ggml, ggml-common.h, MIT).  Every field is bytes, so a block
 * may stand at any address and on a machine of any byte order; docs/formats.md draws each one and gives its formula.
 *
 * d is the scale of a block and m or dmin that of its minimum, both f16 unless said otherwise; qs holds the low bits of the
 * weights, qh their high bits. */
#pragma once
#include "api.h"

typedef struct { uint8_t f[4]; } smolq_block_f32;
typedef struct { uint8_t f[2]; } smolq_block_f16;
typedef struct { uint8_t f[2]; } smolq_block_bf16;

typedef struct { uint8_t d[2], qs[16]; }              smolq_block_q4_0;
typedef struct { uint8_t d[2], m[2], qs[16]; }        smolq_block_q4_1;
typedef struct { uint8_t d[2], qh[4], qs[16]; }       smolq_block_q5_0;
typedef struct { uint8_t d[2], m[2], qh[4], qs[16]; } smolq_block_q5_1;
typedef struct { uint8_t d[2], qs[32]; }              smolq_block_q8_0; /* qs: int8 */

typedef struct { uint8_t scales[16], qs[64], d[2], dmin[2]; }             smolq_block_q2_k;
typedef struct { uint8_t hmask[32], qs[64], scales[12], d[2]; }           smolq_block_q3_k;
typedef struct { uint8_t d[2], dmin[2], scales[12], qs[128]; }            smolq_block_q4_k;
typedef struct { uint8_t d[2], dmin[2], scales[12], qh[32], qs[128]; }    smolq_block_q5_k;
typedef struct { uint8_t ql[128], qh[64], scales[16], d[2]; }             smolq_block_q6_k; /* scales: int8 */

typedef struct { uint8_t d[2], qs[64]; }                                  smolq_block_iq2_xxs;
typedef struct { uint8_t d[2], qs[64], scales[8]; }                       smolq_block_iq2_xs;
typedef struct { uint8_t d[2], qs[32], signs[32], qh[8], scales[8]; }     smolq_block_iq2_s;
typedef struct { uint8_t d[2], qs[64], signs[32]; }                       smolq_block_iq3_xxs; /* signs: with the scales, 4 bytes per 32 */
typedef struct { uint8_t d[2], qs[64], qh[8], signs[32], scales[4]; }     smolq_block_iq3_s;
typedef struct { uint8_t d[2], qs[32], qh[16]; }                          smolq_block_iq1_s;
typedef struct { uint8_t qs[32], qh[16], scales[8]; }                     smolq_block_iq1_m; /* d: the high nibbles of scales */
typedef struct { uint8_t d[2], qs[16]; }                                  smolq_block_iq4_nl;
typedef struct { uint8_t d[2], scales_h[2], scales_l[4], qs[128]; }       smolq_block_iq4_xs;

typedef struct { uint8_t qs[48], qh[4], d[2]; } smolq_block_tq1_0;
typedef struct { uint8_t qs[64], d[2]; }        smolq_block_tq2_0;
typedef struct { uint8_t e, qs[16]; }           smolq_block_mxfp4; /* e: e8m0 scale */
typedef struct { uint8_t d[4], qs[32]; }        smolq_block_nvfp4; /* d: unsigned e4m3 scale of each 16 */
typedef struct { uint8_t d[2], qs[16]; }        smolq_block_q1_0;
typedef struct { uint8_t d[2], qs[16]; }        smolq_block_q2_0;
