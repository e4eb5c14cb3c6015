/* ==== checksum.c: XXH64 =============================================================================================
 * The checksum of SMQ files: 64 bits, against damage and not against forgery.  Four lanes take eight bytes each in turn, so that their multiplications
 * overlap; then the lanes become one number, which takes the rest.  Algorithm and constants: Yann Collet's xxHash, doc/xxhash_spec.md; the seed is 0, so that
 * `xxhsum -H64` says the same. */
#pragma once
#include "base.c"

#define SMOLQ__XXH_1 0x9e3779b185ebca87u
#define SMOLQ__XXH_2 0xc2b2ae3d27d4eb4fu
#define SMOLQ__XXH_3 0x165667b19e3779f9u
#define SMOLQ__XXH_4 0x85ebca77c2b2ae63u
#define SMOLQ__XXH_5 0x27d4eb2f165667c5u

typedef struct smolq__checksum {
    uint64_t lane[4];
    uint64_t n;        /* bytes so far */
    uint8_t  rest[32]; /* the last n mod 32 of them */
} smolq__checksum;

static uint64_t smolq__rotl(uint64_t x, int by) { return x << by | x >> (64 - by); }
static uint64_t smolq__checksum_round(uint64_t lane, uint64_t word) { return smolq__rotl(lane + word * SMOLQ__XXH_2, 31) * SMOLQ__XXH_1; }

static void smolq__checksum_begin(smolq__checksum *c)
{
    memset(c, 0, sizeof *c);
    c->lane[0] = SMOLQ__XXH_1 + SMOLQ__XXH_2;
    c->lane[1] = SMOLQ__XXH_2;
    c->lane[3] = 0 - SMOLQ__XXH_1;
}

/* Stripes of 32 bytes. */
static void smolq__checksum_stripes(smolq__checksum *c, const uint8_t *p, uint64_t n)
{
    uint64_t a = c->lane[0], b = c->lane[1], d = c->lane[2], e = c->lane[3];
    for (; n > 0; n--, p += 32) {
        a = smolq__checksum_round(a, smolq_u64_at(p));
        b = smolq__checksum_round(b, smolq_u64_at(p + 8));
        d = smolq__checksum_round(d, smolq_u64_at(p + 16));
        e = smolq__checksum_round(e, smolq_u64_at(p + 24));
    }
    c->lane[0] = a;
    c->lane[1] = b;
    c->lane[2] = d;
    c->lane[3] = e;
}

static void smolq__checksum_add(smolq__checksum *c, const void *bytes, uint64_t n)
{
    const uint8_t *p = (const uint8_t *)bytes;
    uint64_t held = c->n % 32, take;
    c->n += n;
    if (held) {
        take = n < 32 - held ? n : 32 - held;
        memcpy(c->rest + held, p, (size_t)take);
        if (held + take < 32) return;
        smolq__checksum_stripes(c, c->rest, 1);
        p += take;
        n -= take;
    }
    smolq__checksum_stripes(c, p, n / 32);
    if (n % 32) memcpy(c->rest, p + (n - n % 32), (size_t)(n % 32));
}

static uint64_t smolq__checksum_end(const smolq__checksum *c)
{
    const uint8_t *p = c->rest, *end = p + c->n % 32;
    uint64_t h = SMOLQ__XXH_5;
    int i;
    if (c->n >= 32) {
        h = smolq__rotl(c->lane[0], 1) + smolq__rotl(c->lane[1], 7) + smolq__rotl(c->lane[2], 12) + smolq__rotl(c->lane[3], 18);
        for (i = 0; i < 4; i++) h = (h ^ smolq__checksum_round(0, c->lane[i])) * SMOLQ__XXH_1 + SMOLQ__XXH_4;
    }
    h += c->n;
    for (; end - p >= 8; p += 8) h = smolq__rotl(h ^ smolq__checksum_round(0, smolq_u64_at(p)), 27) * SMOLQ__XXH_1 + SMOLQ__XXH_4;
    if (end - p >= 4) {
        h = smolq__rotl(h ^ (uint64_t)smolq_u32_at(p) * SMOLQ__XXH_1, 23) * SMOLQ__XXH_2 + SMOLQ__XXH_3;
        p += 4;
    }
    for (; p < end; p++) h = smolq__rotl(h ^ *p * SMOLQ__XXH_5, 11) * SMOLQ__XXH_1;
    h = (h ^ h >> 33) * SMOLQ__XXH_2;
    h = (h ^ h >> 29) * SMOLQ__XXH_3;
    return h ^ h >> 32;
}

static uint64_t smolq__checksum_of(const void *bytes, uint64_t n)
{
    smolq__checksum c;
    smolq__checksum_begin(&c);
    smolq__checksum_add(&c, bytes, n);
    return smolq__checksum_end(&c);
}
