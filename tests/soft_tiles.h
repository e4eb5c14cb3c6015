/* soft_tiles.h: the tile instructions of smolq_cpu.c in plain C, so that its amx row can be tested on machines with AVX-512 and VBMI but without AMX.
 *
 *     cc -include tests/soft_tiles.h ... smolq_cpu.c
 *
 * One set of tiles per thread.  What a row or column beyond the configuration would do isn't modelled: all tiles have 16 rows of 64 bytes. */
#pragma once
#include <stdint.h>
#include <string.h>

static __thread uint8_t soft_tile[8][16][64];
static __thread int soft_tiles_on; /* using a tile before the configuration must show */

static inline void soft_tile_config(const uint8_t *p)
{
    int i;
    soft_tiles_on = p[0] == 1;
    for (i = 0; i < 8; i++)
        if (p[16 + 2 * i] != 64 || p[48 + i] != 16) soft_tiles_on = 0;
    memset(soft_tile, 0, sizeof soft_tile);
}
static inline void soft_tile_check(void)
{
    if (!soft_tiles_on) __builtin_trap();
}
static inline void soft_tile_load(int t, const void *p)
{
    soft_tile_check();
    memcpy(soft_tile[t], p, sizeof soft_tile[t]);
}
static inline void soft_tile_store(int t, void *p)
{
    soft_tile_check();
    memcpy(p, soft_tile[t], sizeof soft_tile[t]);
}

/* Row m of a, column n of b: 16 groups of four bytes (or two bf16) of K. */
static inline void soft_tile_bytes(int c, int a, int b, int b_is_signed)
{
    int m, n, k, i;
    soft_tile_check();
    for (m = 0; m < 16; m++)
        for (n = 0; n < 16; n++) {
            int32_t sum;
            memcpy(&sum, soft_tile[c][m] + 4 * n, 4);
            for (k = 0; k < 16; k++)
                for (i = 0; i < 4; i++) {
                    int32_t w = soft_tile[b][k][4 * n + i];
                    sum += (int8_t)soft_tile[a][m][4 * k + i] * (b_is_signed && w > 127 ? w - 256 : w);
                }
            memcpy(soft_tile[c][m] + 4 * n, &sum, 4);
        }
}
static inline float soft_tile_bf16(const uint8_t *p)
{
    uint32_t u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline void soft_tile_floats(int c, int a, int b)
{
    int m, n, k, i;
    soft_tile_check();
    for (m = 0; m < 16; m++)
        for (n = 0; n < 16; n++) {
            float sum;
            memcpy(&sum, soft_tile[c][m] + 4 * n, 4);
            for (k = 0; k < 16; k++)
                for (i = 0; i < 2; i++) sum += soft_tile_bf16(soft_tile[a][m] + 4 * k + 2 * i) * soft_tile_bf16(soft_tile[b][k] + 4 * n + 2 * i);
            memcpy(soft_tile[c][m] + 4 * n, &sum, 4);
        }
}

#define SMOLQ__TILE_CONFIG(p)     soft_tile_config((const uint8_t *)(const void *)(p))
#define SMOLQ__TILE_RELEASE()     (void)(soft_tiles_on = 0)
#define SMOLQ__TILE_ZERO(t)       (soft_tile_check(), (void)memset(soft_tile[t], 0, sizeof soft_tile[t]))
#define SMOLQ__TILE_LOAD(t, p)    soft_tile_load(t, p)
#define SMOLQ__TILE_STORE(t, p)   soft_tile_store(t, p)
#define SMOLQ__TILE_SS(c, a, b)   soft_tile_bytes(c, a, b, 1)
#define SMOLQ__TILE_SU(c, a, b)   soft_tile_bytes(c, a, b, 0)
#define SMOLQ__TILE_BF16(c, a, b) soft_tile_floats(c, a, b)
#define SMOLQ__TILE_BITS 0 /* no request to the system */
