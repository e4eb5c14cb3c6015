/* ==== pack.c: floats to blocks ======================================================================================
 * The way back from levels.h.  A block is found in two steps: a search decides on the levels q, the integer scales and the floats d and dmin;
 * then one short function for each type puts them into bits.
 *
 * What is searched for is the least of  E = sum w (x - d scale q - dmin least)^2, w the importance of a column (its mean squared activation: then E is
 * what the rounding does to the products with it), 1 if nobody knows.  For given levels the best d and dmin are those of least squares; for given
 * d and dmin the best levels are the nearest.  So the search tries a row of sensible scales and improves on the best in turn.  K-quants
 * then choose each run's integers again, by the E that they give in truth, and d and dmin anew for all runs.  What is compared is always
 * what can be stored: a scale that the type keeps as f16 is rounded before it is tried.
 *
 * The blocks are the same on every machine and for any number of threads: a product of two floats, or of a float and a level, is exact in double, so
 * a contracted multiply-add gives the same bits; other products are kept apart by smolq_mul64. */
#pragma once
#include "codebook.c"

/* What a level may be: the integers lo to hi, or the 16 values of a table from lo to hi. */
typedef struct smolq__ladder {
    int32_t lo, hi;
    const int8_t *values; /* [16] or NULL */
    double  first, last;  /* the largest weight of a run is tried at so many levels, fractions too, */
    int32_t n_tries;      /* at even distances */
    int32_t mirrored;     /* and at as many of the other sign: lo is not -hi */
} smolq__ladder;

/* n weights that share a scale. */
typedef struct smolq__weights {
    int32_t n;
    const float  *x;
    const double *w, *wx;     /* w NULL: all 1, and wx is x; else wx is w * x rounded to float */
    const int8_t *rung;       /* of a ladder with values: the nearest to lo + (k + 1/2) / 2 */
    double sum_w, sum_x, sum_xx;
} smolq__weights;

/* A choice of levels, and the sums that all errors are made of. */
typedef struct smolq__fit {
    double q1, qq, xq;  /* sums of w q, w q q, w x q */
    double d, m;        /* a weight is d q + m */
    double error;
    float  q[256];      /* integers; floats, for processors with vectors */
} smolq__fit;

static void smolq__keep_fit(const smolq__weights *r, const smolq__fit *f, smolq__fit *best)
{
    memcpy(best, f, offsetof(smolq__fit, q) + (size_t)r->n * sizeof *f->q);
}

/* ---- sums: in four lanes, for the sake of vectors; their order is part of the result ---- */

static double smolq__fold64(const double lane[4]) { return (lane[0] + lane[1]) + (lane[2] + lane[3]); }

static void smolq__sum_weights(smolq__weights *r)
{
    double w[4] = { 0, 0, 0, 0 }, x[4] = { 0, 0, 0, 0 }, xx[4] = { 0, 0, 0, 0 };
    int32_t i, j;
    for (i = 0; i < r->n; i += 4)
        for (j = 0; j < 4; j++) {
            w[j] += r->w ? r->w[i + j] : 1.0;
            x[j] += r->wx[i + j];
            xx[j] += r->wx[i + j] * (double)r->x[i + j];
        }
    r->sum_w = smolq__fold64(w);
    r->sum_x = smolq__fold64(x);
    r->sum_xx = smolq__fold64(xx);
}

SMOLQ_INLINE void smolq__sum_levels(const smolq__weights *r, int32_t n, smolq__fit *f)
{
    double xq[4] = { 0, 0, 0, 0 };
    int32_t i, j;
    for (i = 0; i < n; i += 4)
        for (j = 0; j < 4; j++) xq[j] += r->wx[i + j] * (double)f->q[i + j];
    f->xq = smolq__fold64(xq);
    if (r->w) {
        double q1[4] = { 0, 0, 0, 0 }, qq[4] = { 0, 0, 0, 0 };
        for (i = 0; i < n; i += 4)
            for (j = 0; j < 4; j++) {
                q1[j] += r->w[i + j] * (double)f->q[i + j];
                qq[j] += r->w[i + j] * (double)(f->q[i + j] * f->q[i + j]);
            }
        f->q1 = smolq__fold64(q1);
        f->qq = smolq__fold64(qq);
    } else { /* integers below 2^24: exact in float */
        float q1[4] = { 0, 0, 0, 0 }, qq[4] = { 0, 0, 0, 0 };
        for (i = 0; i < n; i += 4)
            for (j = 0; j < 4; j++) {
                q1[j] += f->q[i + j];
                qq[j] += f->q[i + j] * f->q[i + j];
            }
        f->q1 = (double)(q1[0] + q1[1] + q1[2] + q1[3]);
        f->qq = (double)(qq[0] + qq[1] + qq[2] + qq[3]);
    }
}

/* sum w (x - d q - m)^2, multiplied out. */
static double smolq__error_of(const smolq__weights *r, const smolq__fit *f)
{
    double of_d = smolq_mul64(f->d, smolq_mul64(f->d, f->qq) - 2 * f->xq);
    double of_m = smolq_mul64(f->m, smolq_mul64(f->m, r->sum_w) - 2 * r->sum_x);
    double error = (r->sum_xx + of_d) + (of_m + 2 * smolq_mul64(smolq_mul64(f->d, f->m), f->q1));
    return error > 0 ? error : 0; /* what rounding has left of nothing */
}

/* ---- the nearest levels for a given scale ---- */

static void smolq__choose_rungs(const smolq__ladder *l, int8_t rung[512])
{
    int32_t i, k;
    for (k = 0; k < (l->hi - l->lo) * 2 + 1; k++) {
        int32_t at = l->lo * 4 + k * 2 + 1, best = 0;
        for (i = 1; i < 16; i++)
            if (abs(l->values[i] * 4 - at) < abs(l->values[best] * 4 - at)) best = i;
        rung[k] = l->values[best];
    }
}

/* NaN, of nothing divided by almost nothing, becomes lo.  What is rounded is never a product as such: nothing there to contract. */
SMOLQ_INLINE void smolq__to_levels(const smolq__weights *r, int32_t n, const smolq__ladder *l, smolq__fit *f)
{
    float m = (float)f->m, inverse = f->d != 0 ? (float)(1.0 / f->d) : 0.0f, lo = (float)l->lo, hi = (float)l->hi, t[256];
    const float *x = r->x;
    int32_t i;
    for (i = 0; i < n; i++) {
        float y = (x[i] - m) * inverse;
        y = y > lo ? y : lo;
        t[i] = y < hi ? y : hi;
    }
    if (l->values)
        for (i = 0; i < n; i++) f->q[i] = (float)r->rung[(int32_t)((t[i] - lo) * 2)];
    else
        for (i = 0; i < n; i++) f->q[i] = (t[i] + 12582912.0f) - 12582912.0f; /* smolq_rne */
    smolq__sum_levels(r, n, f);
}

/* f->q for f->d and f->m, its sums and its error.  The lengths are constants to the loops. */
static void smolq__nearest(const smolq__weights *r, const smolq__ladder *l, smolq__fit *f)
{
    if (r->n == 16) smolq__to_levels(r, 16, l, f);
    else if (r->n == 32) smolq__to_levels(r, 32, l, f);
    else smolq__to_levels(r, 256, l, f);
    f->error = smolq__error_of(r, f);
}

/* ---- one scale ---- */

/* Any float: an integer scale follows.  f16: it is stored. */
static double smolq__as_real(double d) { return d; }
typedef double (*smolq__rounding)(double d);

static void smolq__try_scale(const smolq__weights *r, const smolq__ladder *l, double d, smolq__fit *best)
{
    smolq__fit f;
    f.d = d;
    f.m = 0;
    smolq__nearest(r, l, &f);
    if (f.error < best->error) smolq__keep_fit(r, &f, best);
}

/* Least squares and nearest levels in turn, as long as it helps. */
static void smolq__improve_scale(const smolq__weights *r, const smolq__ladder *l, smolq__rounding stored, smolq__fit *best)
{
    int32_t turn;
    for (turn = 0; turn < 4; turn++) {
        double before = best->error;
        if (best->qq > 0) smolq__try_scale(r, l, stored(best->xq / best->qq), best);
        if (!(best->error < before)) break;
    }
}

static void smolq__fit_scale(const smolq__weights *r, const smolq__ladder *l, smolq__rounding stored, smolq__fit *best)
{
    float largest = 0;
    int32_t i, k;
    for (i = 0; i < r->n; i++)
        if (smolq_bits(r->x[i]) << 1 > smolq_bits(largest) << 1) largest = r->x[i];
    best->d = best->m = 0;
    smolq__nearest(r, l, best);
    for (k = 0; k < l->n_tries; k++) {
        double level = l->first + (l->last - l->first) * k / (l->n_tries > 1 ? l->n_tries - 1 : 1);
        smolq__try_scale(r, l, stored((double)largest / level), best);
        if (l->mirrored) smolq__try_scale(r, l, stored(-(double)largest / level), best);
    }
    smolq__improve_scale(r, l, stored, best);
}

/* ---- a scale and a minimum ---- */

/* The best d and m for the levels that f has; m on one side of zero, if side is not 0. */
static void smolq__solve_pair(const smolq__weights *r, double side, smolq__fit *f)
{
    double determinant = smolq_mul64(r->sum_w, f->qq) - smolq_mul64(f->q1, f->q1);
    if (determinant > 0) {
        f->d = (smolq_mul64(r->sum_w, f->xq) - smolq_mul64(r->sum_x, f->q1)) / determinant;
        f->m = (smolq_mul64(f->qq, r->sum_x) - smolq_mul64(f->q1, f->xq)) / determinant;
    } else {
        f->d = 0;
        f->m = r->sum_w > 0 ? r->sum_x / r->sum_w : 0;
    }
    if (f->m * side > 0) {
        f->m = 0;
        f->d = f->qq > 0 ? f->xq / f->qq : 0;
    }
}

/* side: the sign that m must not have, 0 if it may have any.  Levels are 0 to hi. */
static void smolq__fit_pair(const smolq__weights *r, const smolq__ladder *l, double side, smolq__rounding stored, smolq__fit *best)
{
    double lo = (double)r->x[0], hi = lo;
    smolq__fit f;
    int32_t i, k;
    for (i = 1; i < r->n; i++) {
        lo = (double)r->x[i] < lo ? (double)r->x[i] : lo;
        hi = (double)r->x[i] > hi ? (double)r->x[i] : hi;
    }
    if (lo * side > 0) lo = 0;
    best->d = 0;
    best->m = stored(lo);
    smolq__nearest(r, l, best);
    for (k = 0; k < l->n_tries; k++) {
        double level = l->first + (l->last - l->first) * k / (l->n_tries > 1 ? l->n_tries - 1 : 1);
        f.d = (hi - lo) / level;
        f.m = lo;
        smolq__nearest(r, l, &f);
        smolq__solve_pair(r, side, &f);
        f.d = stored(f.d);
        f.m = stored(f.m);
        f.error = smolq__error_of(r, &f);
        if (f.error < best->error) smolq__keep_fit(r, &f, best);
    }
    for (k = 0; k < 4; k++) {
        f.d = best->d;
        f.m = best->m;
        smolq__nearest(r, l, &f);
        if (f.error < best->error) smolq__keep_fit(r, &f, best);
        smolq__solve_pair(r, side, &f);
        f.d = stored(f.d);
        f.m = stored(f.m);
        f.error = smolq__error_of(r, &f);
        if (!(f.error < best->error)) break;
        smolq__keep_fit(r, &f, best);
    }
}

/* ---- blocks: what each kind of type searches for ---- */

typedef struct smolq__packing smolq__packing;
typedef void (*smolq__search)(const smolq__packing *packing, const smolq__weights *runs, smolq__levels *l);

/* A type to pack into: how its levels are searched for, and how they become bits. */
struct smolq__packing {
    int32_t id, n_runs;
    smolq__ladder ladder;
    int32_t scale_lo, scale_hi, least_hi; /* of the integers of each run */
    smolq__search search;
    void (*bits)(const smolq__levels *l, uint8_t *block);
};

static int32_t smolq__whole(double x, int32_t lo, int32_t hi)
{
    return x > lo ? x < hi ? smolq_rne((float)x) : hi : lo;
}

static void smolq__take_levels(const float *levels, int32_t n, int8_t *q)
{
    int32_t i;
    for (i = 0; i < n; i++) q[i] = (int8_t)levels[i];
}

/* One float. */
static void smolq__search_scale(const smolq__packing *t, const smolq__weights *runs, smolq__levels *l)
{
    smolq__fit f;
    smolq__fit_scale(runs, &t->ladder, smolq__as_f16, &f);
    l->d[0] = (float)f.d;
    smolq__take_levels(f.q, runs->n, l->q);
}

/* One power of two.  The largest level of MXFP4, 12, is 2^3.6: the exponents around that are tried. */
static void smolq__search_power(const smolq__packing *t, const smolq__weights *runs, smolq__levels *l)
{
    smolq__fit best;
    int32_t exponent = 0, i, e;
    for (i = 0; i < runs->n; i++) {
        e = (int32_t)(smolq_bits(runs->x[i]) >> 23 & 255u);
        if (e > exponent) exponent = e;
    }
    best.d = best.m = 0;
    smolq__nearest(runs, &t->ladder, &best);
    best.d = (double)smolq_e8m0_half(0);
    for (e = exponent - 4; e <= exponent; e++)
        if (e >= 0 && e < 255) smolq__try_scale(runs, &t->ladder, (double)smolq_e8m0_half((uint8_t)e), &best);
    l->d[0] = (float)best.d;
    smolq__take_levels(best.q, runs->n, l->q);
}

/* Two floats. */
static void smolq__search_pair(const smolq__packing *t, const smolq__weights *runs, smolq__levels *l)
{
    smolq__fit f;
    smolq__fit_pair(runs, &t->ladder, 0, smolq__as_f16, &f);
    smolq__nearest(runs, &t->ladder, &f);
    l->d[0] = (float)f.d;
    l->dmin = (float)f.m;
    smolq__take_levels(f.q, runs->n, l->q);
}

/* One float and an integer scale for each run. */
static void smolq__search_scales(const smolq__packing *t, const smolq__weights *runs, smolq__levels *l)
{
    double wanted[16], d = 0, least = -1;
    smolq__fit f, best;
    int32_t r, s, turn, scale[16];
    int8_t q[256];
    for (r = 0; r < t->n_runs; r++) {
        smolq__fit_scale(&runs[r], &t->ladder, smolq__as_real, &f);
        wanted[r] = f.d;
        if ((f.d < 0 ? -f.d : f.d) > (d < 0 ? -d : d)) d = f.d;
    }
    d /= t->scale_lo;
    for (turn = 0; turn < 3; turn++) {
        double total = 0, xa = 0, aa = 0;
        d = smolq__as_f16(d);
        for (r = 0; r < t->n_runs; r++) {
            int32_t about = d != 0 ? smolq__whole(wanted[r] / d, t->scale_lo, t->scale_hi) : 0;
            best.error = -1;
            for (s = about - 1; s <= about + 1; s++) {
                if (s < t->scale_lo || s > t->scale_hi) continue;
                f.d = d * s;
                f.m = 0;
                smolq__nearest(&runs[r], &t->ladder, &f);
                if (best.error >= 0 && !(f.error < best.error)) continue;
                smolq__keep_fit(&runs[r], &f, &best);
                scale[r] = s;
            }
            smolq__take_levels(best.q, runs->n, q + r * runs->n);
            total += best.error;
            xa += smolq_mul64(scale[r], best.xq);
            aa += smolq_mul64(scale[r] * scale[r], best.qq);
        }
        if (least >= 0 && !(total < least)) break;
        least = total;
        l->d[0] = (float)d;
        for (r = 0; r < t->n_runs; r++) l->scale[r] = (int8_t)scale[r];
        memcpy(l->q, q, sizeof q);
        if (!(aa > 0)) break;
        d = xa / aa;
    }
}

/* The integers s and m for which d s q + dmin m comes closest to a run: those about what was wanted, and the best m for the levels that follow. */
static void smolq__choose_pair(const smolq__packing *t, const smolq__weights *run, const smolq__fit *wanted, double d, double dmin, smolq__fit *best, int32_t *scale, int32_t *least)
{
    int32_t about = d != 0 ? smolq__whole(wanted->d / d, 0, t->scale_hi) : 0, s, m, turn, before;
    smolq__fit f;
    best->error = -1;
    for (s = about - 1; s <= about + 1; s++) {
        if (s < 0 || s > t->scale_hi) continue;
        m = dmin != 0 ? smolq__whole(wanted->m / dmin, 0, t->least_hi) : 0;
        for (turn = 0; turn < 3; turn++) {
            f.d = d * s;
            f.m = dmin * m;
            smolq__nearest(run, &t->ladder, &f);
            if (best->error < 0 || f.error < best->error) {
                smolq__keep_fit(run, &f, best);
                *scale = s;
                *least = m;
            }
            if (dmin == 0 || !(run->sum_w > 0)) break;
            before = m;
            m = smolq__whole((run->sum_x - smolq_mul64(f.d, f.q1)) / run->sum_w / dmin, 0, t->least_hi);
            if (m == before) break;
        }
    }
}

/* Two floats, an integer scale and an integer minimum for each run.  Minimums lie on one side of zero: below, unless no run goes there. */
static void smolq__search_pairs(const smolq__packing *t, const smolq__weights *runs, smolq__levels *l)
{
    smolq__fit wanted[16], best;
    double side = -1, d = 0, dmin = 0, found = -1;
    int32_t r, i, turn, scale[16], least[16];
    int8_t q[256];
    for (i = 0; i < t->n_runs * runs->n && side < 0; i++)
        if (runs->x[i] < 0) side = 1;
    for (r = 0; r < t->n_runs; r++) {
        smolq__fit_pair(&runs[r], &t->ladder, side, smolq__as_real, &wanted[r]);
        if (wanted[r].d > d) d = wanted[r].d;
        if (wanted[r].m * side < dmin * side) dmin = wanted[r].m;
    }
    d /= t->scale_hi;
    dmin /= t->least_hi;
    for (turn = 0; turn < 3; turn++) {
        double total = 0, aa = 0, ab = 0, bb = 0, xa = 0, xb = 0, determinant;
        d = smolq__as_f16(d);
        dmin = smolq__as_f16(dmin);
        for (r = 0; r < t->n_runs; r++) {
            smolq__choose_pair(t, &runs[r], &wanted[r], d, dmin, &best, &scale[r], &least[r]);
            smolq__take_levels(best.q, runs->n, q + r * runs->n);
            total += best.error;
            aa += smolq_mul64(scale[r] * scale[r], best.qq);
            ab += smolq_mul64(scale[r] * least[r], best.q1);
            bb += smolq_mul64(least[r] * least[r], runs[r].sum_w);
            xa += smolq_mul64(scale[r], best.xq);
            xb += smolq_mul64(least[r], runs[r].sum_x);
        }
        if (found >= 0 && !(total < found)) break;
        found = total;
        l->d[0] = (float)d;
        l->dmin = (float)dmin;
        for (r = 0; r < t->n_runs; r++) {
            l->scale[r] = (int8_t)scale[r];
            l->least[r] = (uint8_t)least[r];
        }
        memcpy(l->q, q, sizeof q);
        determinant = smolq_mul64(aa, bb) - smolq_mul64(ab, ab);
        if (determinant > 0) {
            d = (smolq_mul64(bb, xa) - smolq_mul64(ab, xb)) / determinant;
            dmin = (smolq_mul64(aa, xb) - smolq_mul64(ab, xa)) / determinant;
        } else if (aa > 0) {
            d = xa / aa;
        } else break;
    }
}

/* ---- bits: each the reverse of its function in levels.h ---- */

static void smolq__put_f16(uint8_t *p, float x) { smolq__put_u16(p, smolq_f32_to_f16(x)); }

/* The low nibbles of n bytes are the first half of the levels, the high ones the second; add makes them unsigned. */
static void smolq__put_nibbles(const int8_t *q, int32_t n, int32_t add, uint8_t *qs)
{
    int32_t i;
    for (i = 0; i < n; i++) qs[i] = (uint8_t)(((q[i] + add) & 15) | ((q[n + i] + add) & 15) << 4);
}

/* The bits of 256 levels from the one at `shift` on, two of each, as smolq__pairs has them. */
static void smolq__put_pairs(const int8_t *q, int32_t add, int32_t shift, uint8_t *qs)
{
    int32_t half, i, j;
    for (half = 0; half < 2; half++)
        for (i = 0; i < 32; i++) {
            qs[half * 32 + i] = 0;
            for (j = 0; j < 4; j++) qs[half * 32 + i] |= (uint8_t)(((q[half * 128 + j * 32 + i] + add) >> shift & 3) << j * 2);
        }
}

/* The number of the entry with this value. */
static int32_t smolq__entry(const int8_t *values, int8_t value)
{
    int32_t i = 0;
    while (i < 15 && values[i] != value) i++;
    return i;
}
static void smolq__put_entries(const int8_t *values, const int8_t *q, int32_t n, uint8_t *qs)
{
    int32_t i;
    for (i = 0; i < n; i++) qs[i] = (uint8_t)(smolq__entry(values, q[i]) | smolq__entry(values, q[n + i]) << 4);
}

static void smolq__put_fifth_bits(const int8_t *q, int32_t add, uint8_t *bits)
{
    int32_t i;
    memset(bits, 0, 4);
    for (i = 0; i < 32; i++) bits[i / 8] |= (uint8_t)(((q[i] + add) >> 4 & 1) << i % 8);
}

static void smolq__put_scales_6_bit(const smolq__levels *l, uint8_t *s)
{
    int32_t j;
    for (j = 0; j < 4; j++) {
        s[j] = (uint8_t)(l->scale[j] | (l->scale[j + 4] >> 4) << 6);
        s[j + 4] = (uint8_t)(l->least[j] | (l->least[j + 4] >> 4) << 6);
        s[j + 8] = (uint8_t)((l->scale[j + 4] & 15) | (l->least[j + 4] & 15) << 4);
    }
}

/* Base three: see smolq__trits.  The fraction of five digits (of four too: the fifth is 0), rounded up. */
static void smolq__put_trits(const int8_t *q, int32_t n_bytes, int32_t n_digits, uint8_t *bytes)
{
    int32_t i, digit, number;
    for (i = 0; i < n_bytes; i++) {
        number = 0;
        for (digit = 0; digit < 5; digit++) number = number * 3 + (digit < n_digits ? q[digit * n_bytes + i] + 1 : 0);
        bytes[i] = (uint8_t)((number * 256 + 242) / 243);
    }
}

static void smolq__bits_Q4_0(const smolq__levels *l, smolq_block_q4_0 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_nibbles(l->q, 16, 8, b->qs);
}
static void smolq__bits_Q4_1(const smolq__levels *l, smolq_block_q4_1 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_f16(b->m, l->dmin);
    smolq__put_nibbles(l->q, 16, 0, b->qs);
}
static void smolq__bits_Q5_0(const smolq__levels *l, smolq_block_q5_0 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_nibbles(l->q, 16, 16, b->qs);
    smolq__put_fifth_bits(l->q, 16, b->qh);
}
static void smolq__bits_Q5_1(const smolq__levels *l, smolq_block_q5_1 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_f16(b->m, l->dmin);
    smolq__put_nibbles(l->q, 16, 0, b->qs);
    smolq__put_fifth_bits(l->q, 0, b->qh);
}
static void smolq__bits_Q8_0(const smolq__levels *l, smolq_block_q8_0 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    memcpy(b->qs, l->q, 32);
}
static void smolq__bits_Q2_K(const smolq__levels *l, smolq_block_q2_k *b)
{
    int32_t r;
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_f16(b->dmin, -l->dmin);
    for (r = 0; r < 16; r++) b->scales[r] = (uint8_t)(l->scale[r] | l->least[r] << 4);
    smolq__put_pairs(l->q, 0, 0, b->qs);
}
static void smolq__bits_Q3_K(const smolq__levels *l, smolq_block_q3_k *b)
{
    int32_t i, r;
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_pairs(l->q, 4, 0, b->qs);
    smolq__put_nibbles(l->scale, 8, 32, b->scales);
    memset(b->scales + 8, 0, 4);
    for (r = 0; r < 16; r++) b->scales[8 + r % 4] |= (uint8_t)((l->scale[r] + 32) >> 4 << r / 4 * 2);
    memset(b->hmask, 0, 32);
    for (i = 0; i < 256; i++) b->hmask[i % 32] |= (uint8_t)((l->q[i] >= 0) << i / 32);
}
static void smolq__bits_Q4_K(const smolq__levels *l, smolq_block_q4_k *b)
{
    int32_t j;
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_f16(b->dmin, -l->dmin);
    smolq__put_scales_6_bit(l, b->scales);
    for (j = 0; j < 4; j++) smolq__put_nibbles(l->q + j * 64, 32, 0, b->qs + j * 32);
}
static void smolq__bits_Q5_K(const smolq__levels *l, smolq_block_q5_k *b)
{
    int32_t i, j;
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_f16(b->dmin, -l->dmin);
    smolq__put_scales_6_bit(l, b->scales);
    for (j = 0; j < 4; j++) smolq__put_nibbles(l->q + j * 64, 32, 0, b->qs + j * 32);
    memset(b->qh, 0, 32);
    for (i = 0; i < 256; i++) b->qh[i % 32] |= (uint8_t)((l->q[i] >> 4) << i / 32);
}
static void smolq__bits_Q6_K(const smolq__levels *l, smolq_block_q6_k *b)
{
    smolq__put_f16(b->d, l->d[0]);
    memcpy(b->scales, l->scale, 16);
    smolq__put_nibbles(l->q, 64, 32, b->ql);
    smolq__put_nibbles(l->q + 128, 64, 32, b->ql + 64);
    smolq__put_pairs(l->q, 32, 4, b->qh);
}
static void smolq__bits_IQ4_NL(const smolq__levels *l, smolq_block_iq4_nl *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_entries(smolq_iq4_values, l->q, 16, b->qs);
}
static void smolq__bits_IQ4_XS(const smolq__levels *l, smolq_block_iq4_xs *b)
{
    int32_t r;
    smolq__put_f16(b->d, l->d[0]);
    memset(b->scales_l, 0, 4);
    memset(b->scales_h, 0, 2);
    for (r = 0; r < 8; r++) {
        b->scales_l[r / 2] |= (uint8_t)(((l->scale[r] + 32) & 15) << r % 2 * 4);
        b->scales_h[r / 4] |= (uint8_t)((l->scale[r] + 32) >> 4 << r % 4 * 2);
        smolq__put_entries(smolq_iq4_values, l->q + r * 32, 16, b->qs + r * 16);
    }
}
static void smolq__bits_MXFP4(const smolq__levels *l, smolq_block_mxfp4 *b)
{
    uint32_t u = smolq_bits(l->d[0]);
    b->e = (uint8_t)(u >> 23 ? (u >> 23) + 1 : u >> 22); /* smolq_e8m0_half the other way round */
    smolq__put_entries(smolq_fp4_values, l->q, 16, b->qs);
}
static void smolq__bits_TQ1_0(const smolq__levels *l, smolq_block_tq1_0 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_trits(l->q, 32, 5, b->qs);
    smolq__put_trits(l->q + 160, 16, 5, b->qs + 32);
    smolq__put_trits(l->q + 240, 4, 4, b->qh);
}
static void smolq__bits_TQ2_0(const smolq__levels *l, smolq_block_tq2_0 *b)
{
    smolq__put_f16(b->d, l->d[0]);
    smolq__put_pairs(l->q, 1, 0, b->qs);
}

/* ---- the table ---- */

/*    NAME    block               runs  lo    hi   values             tries: from, to, how many, mirrored   scales      least  search
 * How many: by row over the golden blocks' errors Q4_K has 0.960 with 15 tries, 0.961 with 9, 0.964 with 7, 0.971 with 5 (tests/test_pack.c). */
#define SMOLQ__PACKINGS(X) \
    X(Q4_0,   smolq_block_q4_0,    1,   -8,    7,  NULL,               6.4,   8.6,  12, 1,    0,   0,   0,   scale)  \
    X(Q4_1,   smolq_block_q4_1,    1,    0,   15,  NULL,              12.5,  16,    15, 0,    0,   0,   0,   pair)   \
    X(Q5_0,   smolq_block_q5_0,    1,  -16,   15,  NULL,              14.4,  16.6,  12, 1,    0,   0,   0,   scale)  \
    X(Q5_1,   smolq_block_q5_1,    1,    0,   31,  NULL,              28.5,  32,    15, 0,    0,   0,   0,   pair)   \
    X(Q8_0,   smolq_block_q8_0,    1, -127,  127,  NULL,             126,   127.5,   4, 0,    0,   0,   0,   scale)  \
    X(Q2_K,   smolq_block_q2_k,   16,    0,    3,  NULL,               1.6,   3.6,  16, 0,    0,  15,  15,   pairs)  \
    X(Q3_K,   smolq_block_q3_k,   16,   -4,    3,  NULL,               2.6,   4.6,  12, 1,  -32,  31,   0,   scales) \
    X(Q4_K,   smolq_block_q4_k,    8,    0,   15,  NULL,              12.5,  16,    15, 0,    0,  63,  63,   pairs)  \
    X(Q5_K,   smolq_block_q5_k,    8,    0,   31,  NULL,              28.5,  32,    15, 0,    0,  63,  63,   pairs)  \
    X(Q6_K,   smolq_block_q6_k,   16,  -32,   31,  NULL,              30.4,  32.6,   8, 1, -128, 127,   0,   scales) \
    X(IQ4_NL, smolq_block_iq4_nl,  1, -127,  113,  smolq_iq4_values,  95,   140,    16, 1,    0,   0,   0,   scale)  \
    X(IQ4_XS, smolq_block_iq4_xs,  8, -127,  113,  smolq_iq4_values,  95,   140,    16, 1,  -32,  31,   0,   scales) \
    X(MXFP4,  smolq_block_mxfp4,   1,  -12,   12,  smolq_fp4_values,  12,    12,     1, 0,    0,   0,   0,   power)  \
    X(TQ1_0,  smolq_block_tq1_0,   1,   -1,    1,  NULL,               1,     5,    17, 0,    0,   0,   0,   scale)  \
    X(TQ2_0,  smolq_block_tq2_0,   1,   -1,    1,  NULL,               1,     5,    17, 0,    0,   0,   0,   scale)

#define SMOLQ__BITS(NAME, block, runs, lo, hi, values, first, last, tries, mirrored, scale_lo, scale_hi, least_hi, search) \
    static void smolq__put_##NAME(const smolq__levels *l, uint8_t *bytes) { smolq__bits_##NAME(l, (block *)bytes); }
SMOLQ__PACKINGS(SMOLQ__BITS)
#undef SMOLQ__BITS

#define SMOLQ__PACKING(NAME, block, runs, lo, hi, values, first, last, tries, mirrored, scale_lo, scale_hi, least_hi, search) \
    { SMOLQ_TYPE_##NAME, runs, { lo, hi, values, first, last, tries, mirrored }, scale_lo, scale_hi, least_hi, smolq__search_##search, smolq__put_##NAME },
static const smolq__packing smolq__packings[] = { SMOLQ__PACKINGS(SMOLQ__PACKING) };
#undef SMOLQ__PACKING

static const smolq__packing *smolq__packing_of(int32_t type)
{
    size_t i;
    for (i = 0; i < sizeof smolq__packings / sizeof *smolq__packings; i++)
        if (smolq__packings[i].id == type) return &smolq__packings[i];
    return NULL;
}

/* A block by one of the two searches.  A column that was never active in the text that importance comes from may be in another: none counts less than a ten-thousandth of the mean. */
static void smolq__pack_block(const smolq__packing *t, const smolq__book_order *book, int32_t n, const float *x, const float *importance, const int8_t *rung, uint8_t *block)
{
    smolq__weights runs[16];
    smolq__levels l;
    double w[256], wx[256];
    float least;
    double sum = 0;
    int32_t i;
    memset(&l, 0, sizeof l);
    for (i = 0; importance && i < n; i++) sum += (double)importance[i];
    least = (float)(sum / n / 10000);
    if (!(least > 0)) importance = NULL; /* none anywhere: all the same */
    for (i = 0; i < n; i++) {
        w[i] = !importance ? 1 : importance[i] > least ? (double)importance[i] : (double)least;
        wx[i] = (double)smolq_mul((float)w[i], x[i]);
    }
    if (book) {
        smolq__pack_codebook(book, x, importance ? w : NULL, wx, block);
        return;
    }
    for (i = 0; i < t->n_runs; i++) {
        int32_t length = n / t->n_runs, at = i * length;
        runs[i].n = length;
        runs[i].x = x + at;
        runs[i].w = importance ? w + at : NULL;
        runs[i].wx = wx + at;
        runs[i].rung = rung;
        smolq__sum_weights(&runs[i]);
    }
    t->search(t, runs, &l);
    t->bits(&l, block);
}

SMOLQ_API smolq_result smolq_pack(int32_t type, const float *values, const float *importance, void *blocks, size_t n, smolq_error *err)
{
    const smolq__type *t = smolq__type_of(type);
    const smolq__packing *packing = smolq__packing_of(type);
    const smolq__book *book = smolq__book_of(type);
    int searches = packing || book;
    smolq__book_order order;
    const char *name = t ? t->facts.name : "";
    uint8_t *out = (uint8_t *)blocks;
    int8_t rung[512];
    SMOLQ__FP_STATE saved;
    size_t i, step;
    if (!t) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_pack: %d is not the id of a tensor type", (int)type);
    if (!searches && type != SMOLQ_TYPE_F32 && type != SMOLQ_TYPE_F16 && type != SMOLQ_TYPE_BF16)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "smolq_pack: smolq does not make %s tensors", name);
    step = (size_t)t->facts.block_weights;
    if (n % step) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_pack: %llu weights for type %s, expected a multiple of %d", (unsigned long long)n, name, (int)step);
    if (n && (!blocks || !values)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_pack: %s is NULL", blocks ? "values" : "blocks");
    for (i = 0; i < n; i++) {
        if (searches && !smolq_is_finite(values[i])) return smolq__fail(err, SMOLQ_E_NUMERIC, "smolq_pack: weight %llu is not finite", (unsigned long long)i);
        if (importance && !(smolq_is_finite(importance[i]) && importance[i] >= 0))
            return smolq__fail(err, SMOLQ_E_NUMERIC, "smolq_pack: the importance of weight %llu is %g, expected a finite number from 0 on", (unsigned long long)i, (double)importance[i]);
    }
    saved = smolq__fp_enter();
    if (book) smolq__order_book(book, &order);
    if (packing && packing->ladder.values) smolq__choose_rungs(&packing->ladder, rung);
    for (i = 0; i < n; i += step, out += t->facts.block_bytes)
        if (searches) {
            smolq__pack_block(packing, book ? &order : NULL, (int32_t)step, values + i, importance ? importance + i : NULL, rung, out);
        } else if (type == SMOLQ_TYPE_F32) {
            uint32_t u = smolq_bits(values[i]);
            smolq__put_u16(out, (uint16_t)u);
            smolq__put_u16(out + 2, (uint16_t)(u >> 16));
        } else {
            smolq__put_u16(out, type == SMOLQ_TYPE_F16 ? smolq_f32_to_f16(values[i]) : smolq_f32_to_bf16(values[i]));
        }
    smolq__fp_leave(saved);
    return SMOLQ_OK;
}
