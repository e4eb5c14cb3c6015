/* ==== codebook.c: floats to blocks of codebooks =====================================================================
 * IQ1, IQ2 and IQ3 store the number of an entry of a codebook for every eight (IQ3: four) weights.  With a scale a and an entry of values v, signs given,
 *
 *     error = sum w (|x| - a v)^2 = sum w x^2 - a (2 c - a n),      c = sum w |x| v,  n = sum w v^2
 *
 * so that to a search over scales an entry is a line, 2 c - a n, and only entries on the upper hull of the lines can be the best at any scale: some ten of 256 to 2048.
 * Without importance entries sorted by n are the same for all weights, and the hull grows in one pass over them.  Then any scale can be judged by
 * looking at few lines: runs choose their scales and a block its d by what can be stored, not by a guess.  c and n of an entry are sums of two halves, and there are no more
 * than 81 different halves.
 *
 * With importance every entry has an n of its own for each eight weights.  Then of entries with the same values in any order only the one that is best at a likely scale
 * becomes a line, and when the scale is known all entries are tried with it.
 *
 * Where only an even number of minuses can be stored and x has an odd one, the sign changes that costs least: 2 w |x| v of one weight.  IQ1 has no signs, but
 * its values are moved by an eighth, up or down: both are tried.
 *
 * The same bits everywhere, as in pack.c: products are of two floats or of a float and a small integer, exact in double, or by smolq_mul64. */
#pragma once
#include "base.c"
#include "levels.h"

enum { SMOLQ__MAX_LINES = 24, SMOLQ__MAX_CLASSES = 576, SMOLQ__MOST_ENTRIES = 2048 };
enum { SMOLQ__SIGNS, SMOLQ__EVEN_SIGNS, SMOLQ__SHIFT_OF_RUN, SMOLQ__SHIFT_OF_ENTRY };

/* What the bits of a block say. */
typedef struct smolq__book_choice {
    float    d;
    uint8_t  s[16];     /* of each run: its scale is 2 s + 1 */
    uint16_t entry[64];
    uint8_t  signs[32]; /* of each eight weights, bit j: weight j is negative; of IQ1 bit 0: moved down */
} smolq__book_choice;

typedef struct smolq__book {
    int32_t id;
    const uint16_t *entries;
    int32_t n_entries, length;    /* weights of an entry */
    int32_t code_bits, n_codes;
    int8_t  values[8];            /* of each code */
    uint8_t classes[8];           /* what a code adds to the class of its entry */
    int32_t signs;                /* SMOLQ__SIGNS and so on */
    int32_t run, top;             /* weights that share a scale; the largest s */
    double  unit;                 /* weight = d unit (2 s + 1) value */
    void  (*bits)(const smolq__book_choice *c, uint8_t *block);
} smolq__book;

/* The hull for one entry's weights, n ascending: line i is the best from scale below[i] to below[i - 1]. */
typedef struct smolq__lines {
    int32_t  n_lines;
    float    below[SMOLQ__MAX_LINES];   /* -1 from the last line on */
    float    c[SMOLQ__MAX_LINES], n[SMOLQ__MAX_LINES];
    uint16_t at[SMOLQ__MAX_LINES];      /* of the entry in smolq__book_order */
} smolq__lines;

/* The entries of a book by classes of the same values in any order, these by n: made once for a row. */
typedef struct smolq__book_order {
    const smolq__book *book;
    int32_t  n_classes;
    int32_t  first[SMOLQ__MAX_CLASSES + 1];       /* where each class begins */
    uint16_t entry[SMOLQ__MOST_ENTRIES];
    uint8_t  half[2][SMOLQ__MOST_ENTRIES];        /* the two halves of each, as numbers whose digits are codes, the first the lowest */
} smolq__book_order;

/* Sums over each half that there may be. */
typedef struct smolq__half {
    double c[81], n[81];
    double third[81]; /* of signs: the least w |x| v; of IQ1: sum w v */
} smolq__half;

typedef struct smolq__book_work {
    const smolq__book *book;
    const smolq__book_order *order;
    const float  *x;        /* [256] */
    const double *w, *wx;   /* [256] or w NULL: all 1, and wx is x */
    smolq__half half[2];
    smolq__lines lines[64][2]; /* of each entry; and with a changed sign, or moved down */
    uint32_t odd;           /* eights with an odd number of minuses, where that matters: bit k */
    double   wanted[16];    /* the best scale of each run */
} smolq__book_work;

static int32_t smolq__has_shift(const smolq__book *b) { return b->signs == SMOLQ__SHIFT_OF_RUN || b->signs == SMOLQ__SHIFT_OF_ENTRY; }

static int32_t smolq__code_of(const smolq__book *b, int32_t entry, int32_t j) { return b->entries[entry] >> j * b->code_bits & ((1 << b->code_bits) - 1); }

/* ---- the order of a book ---- */

static void smolq__order_book(const smolq__book *b, smolq__book_order *order)
{
    int32_t count[SMOLQ__MAX_CLASSES], n[SMOLQ__MAX_CLASSES], rank[SMOLQ__MAX_CLASSES], class_of[SMOLQ__MOST_ENTRIES], n_found = 0, e, j, i, at = 0;
    memset(count, 0, sizeof count);
    order->book = b;
    for (e = 0; e < b->n_entries; e++) {
        int32_t sum = 0;
        class_of[e] = 0;
        for (j = 0; j < b->length; j++) {
            int32_t code = smolq__code_of(b, e, j);
            class_of[e] += b->classes[code];
            sum += b->values[code] * b->values[code];
        }
        n[class_of[e]] = sum;
        if (count[class_of[e]]++) continue;
        for (i = n_found++; i > 0 && n[rank[i - 1]] > sum; i--) rank[i] = rank[i - 1];
        rank[i] = class_of[e];
    }
    order->n_classes = n_found;
    for (i = 0; i < n_found; i++) { /* count becomes where the next entry of the class goes */
        order->first[i] = at;
        at += count[rank[i]];
        count[rank[i]] = order->first[i];
    }
    order->first[n_found] = at;
    for (e = 0; e < b->n_entries; e++) {
        at = count[class_of[e]]++;
        order->entry[at] = (uint16_t)e;
        for (i = 0; i < 2; i++) {
            order->half[i][at] = 0;
            for (j = b->length / 2; j-- > 0;) order->half[i][at] = (uint8_t)(order->half[i][at] * b->n_codes + smolq__code_of(b, e, i * b->length / 2 + j));
        }
    }
}

/* ---- the lines of an entry ---- */

/* One weight after the other, each code of it on top of all halves so far. */
static void smolq__fill_half(smolq__book_work *k, int32_t at, smolq__half *half)
{
    const smolq__book *b = k->book;
    int32_t n = 1, j, code, t;
    int shift = smolq__has_shift(b);
    half->c[0] = half->n[0] = 0;
    half->third[0] = shift ? 0 : 1e300;
    for (j = 0; j < b->length / 2; j++, n *= b->n_codes) {
        double w = k->w ? k->w[at + j] : 1.0, wx = k->wx[at + j];
        if (!shift && wx < 0) wx = -wx;
        for (code = b->n_codes; code-- > 0;) {
            int32_t v = b->values[code], to = code * n;
            double c = wx * v, more = w * (v * v), third = w * v;
            for (t = 0; t < n; t++) {
                half->c[to + t] = half->c[t] + c;
                half->n[to + t] = half->n[t] + more;
                half->third[to + t] = shift ? half->third[t] + third : c < half->third[t] ? c : half->third[t];
            }
        }
    }
}

/* c and n of an entry; c with the sign changed that costs least. */
SMOLQ_INLINE double smolq__plain_c(const smolq__book_work *k, int32_t at) { return k->half[0].c[k->order->half[0][at]] + k->half[1].c[k->order->half[1][at]]; }
SMOLQ_INLINE double smolq__changed_c(const smolq__book_work *k, int32_t at)
{
    double low = k->half[0].third[k->order->half[0][at]], high = k->half[1].third[k->order->half[1][at]];
    return smolq__plain_c(k, at) - 2 * (low < high ? low : high);
}
SMOLQ_INLINE double smolq__entry_c(const smolq__book_work *k, int32_t at, int changed) { return changed ? smolq__changed_c(k, at) : smolq__plain_c(k, at); }
SMOLQ_INLINE double smolq__entry_n(const smolq__book_work *k, int32_t at) { return k->half[0].n[k->order->half[0][at]] + k->half[1].n[k->order->half[1][at]]; }

/* Sums over the weights of an entry that moving its values needs; move 1 or -1, and 0: they are not moved. */
typedef struct smolq__move { int32_t by; double w, wx; } smolq__move;

SMOLQ_INLINE double smolq__moved_n(const smolq__book_work *k, int32_t at, const smolq__move *move)
{
    if (!move->by) return smolq__entry_n(k, at);
    return smolq__entry_n(k, at) + (2 * move->by * (k->half[0].third[k->order->half[0][at]] + k->half[1].third[k->order->half[1][at]]) + move->w);
}

/* Appends a line behind those with smaller n, if it is on the hull; those that it takes off it go. */
SMOLQ_INLINE void smolq__add_line(smolq__lines *l, double exact_c, double exact_n, int32_t at)
{
    float c = (float)exact_c, n = (float)exact_n, below;
    int32_t i = l->n_lines - 1;
    while (i >= 0 && c >= l->c[i] && n <= l->n[i]) i--;
    if (i >= 0 && c <= l->c[i]) return;
    for (; i >= 0; i--) { /* the scale below which the new line is better than this one; it must be smaller than where this one begins */
        below = 2 * (c - l->c[i]) / (n - l->n[i]);
        if (i > 0 && below >= l->below[i - 1]) continue;
        l->below[i] = below;
        break;
    }
    if (++i == SMOLQ__MAX_LINES) i--;
    l->n_lines = i + 1;
    l->c[i] = c;
    l->n[i] = n;
    l->at[i] = (uint16_t)at;
}

static void smolq__end_lines(smolq__lines *l)
{
    int32_t i;
    for (i = l->n_lines - 1; i < SMOLQ__MAX_LINES; i++) l->below[i] = -1;
}

/* Without importance and moving: entries come with n ascending, and only those matter whose c is larger than all before.  They are few, so that the loop that finds them
 * runs straight through. */
static void smolq__lines_in_order(const smolq__book_work *k, int changed, smolq__lines *l)
{
    int32_t n = k->book->n_entries, at, i, n_records = 0;
    uint16_t record[SMOLQ__MOST_ENTRIES];
    double most = -1, c;
    for (at = 0; at < n && !changed; at++) {
        c = smolq__plain_c(k, at);
        if (c <= most) continue;
        most = c;
        record[n_records++] = (uint16_t)at;
    }
    for (at = 0; at < n && changed; at++) {
        c = smolq__changed_c(k, at);
        if (c <= most) continue;
        most = c;
        record[n_records++] = (uint16_t)at;
    }
    l->n_lines = 0;
    for (i = 0; i < n_records; i++) smolq__add_line(l, smolq__entry_c(k, record[i], changed), smolq__entry_n(k, record[i]), record[i]);
    smolq__end_lines(l);
}

/* The entry from first to end - 1 with the most c - n about: its value, then, where it stands. */
SMOLQ_INLINE int32_t smolq__best_of_class(const smolq__book_work *k, int32_t first, int32_t end, int changed, int weighted, double about)
{
    double most = -1e300, v;
    int32_t at;
    for (at = first; at < end; at++) {
        v = smolq__entry_c(k, at, changed);
        if (weighted) v -= smolq_mul64(about, smolq__entry_n(k, at));
        most = v > most ? v : most;
    }
    for (at = first; at < end; at++) {
        v = smolq__entry_c(k, at, changed);
        if (weighted) v -= smolq_mul64(about, smolq__entry_n(k, at));
        if (v == most) return at;
    }
    return first;
}

/* The best of each class, about being half of a likely scale. */
static void smolq__best_of_classes(const smolq__book_work *k, int changed, double about, int32_t best[SMOLQ__MAX_CLASSES])
{
    const int32_t *first = k->order->first;
    int32_t i;
    for (i = 0; i < k->order->n_classes; i++)
        best[i] = !k->w ? smolq__best_of_class(k, first[i], first[i + 1], 0, 0, 0) : changed ? smolq__best_of_class(k, first[i], first[i + 1], 1, 1, about)
                                                                                  : smolq__best_of_class(k, first[i], first[i + 1], 0, 1, about);
}

/* These entries as lines, sorted by n. */
static void smolq__lines_of_classes(const smolq__book_work *k, const int32_t best[SMOLQ__MAX_CLASSES], int changed, const smolq__move *move, smolq__lines *l)
{
    struct { double c, n; int32_t at; } found[SMOLQ__MAX_CLASSES], one;
    int32_t i, j;
    for (i = 0; i < k->order->n_classes; i++) {
        one.at = best[i];
        one.c = smolq__entry_c(k, one.at, changed) + move->by * move->wx;
        one.n = smolq__moved_n(k, one.at, move);
        for (j = i; j > 0 && found[j - 1].n > one.n; j--) found[j] = found[j - 1];
        found[j] = one;
    }
    l->n_lines = 0;
    for (i = 0; i < k->order->n_classes; i++) smolq__add_line(l, found[i].c, found[i].n, found[i].at);
    smolq__end_lines(l);
}

/* One line, of the entry that is best at scale a. */
static void smolq__line_at(const smolq__book_work *k, int changed, const smolq__move *move, double a, smolq__lines *l)
{
    int32_t n = k->book->n_entries, at, best = 0;
    double most = -1e300;
    for (at = 0; at < n; at++) {
        double v = 2 * smolq__entry_c(k, at, changed) - smolq_mul64(a, smolq__moved_n(k, at, move));
        if (v <= most) continue;
        most = v;
        best = at;
    }
    l->n_lines = 0;
    smolq__add_line(l, smolq__entry_c(k, best, changed) + move->by * move->wx, smolq__moved_n(k, best, move), best);
    smolq__end_lines(l);
}

/* The lines of entry number i: for any scale, one of about `a` most of all; or exactly for a. */
static void smolq__lines_of(smolq__book_work *k, int32_t i, double a, int exactly)
{
    const smolq__book *b = k->book;
    int32_t best[SMOLQ__MAX_CLASSES], at = i * b->length, version, j;
    int is_odd = k->odd >> at / 8 & 1, shift = smolq__has_shift(b), has_classes = !exactly && (k->w || shift), has_best = 0;
    smolq__move move;
    smolq__fill_half(k, at, &k->half[0]);
    smolq__fill_half(k, at + b->length / 2, &k->half[1]);
    move.by = 0;
    move.w = move.wx = 0;
    for (j = at; shift && j < at + b->length; j++) {
        move.w += k->w ? k->w[j] : 1.0;
        move.wx += k->wx[j];
    }
    for (version = 0; version < 2; version++) {
        int changed = version && !shift;
        if (shift) move.by = version ? -1 : 1;
        else if (version ? !is_odd : is_odd && b->length == 8) continue;
        if (has_classes && (changed || !has_best)) smolq__best_of_classes(k, changed, a / 2, best);
        has_best = !changed;
        if (exactly) smolq__line_at(k, changed, &move, a, &k->lines[i][version]);
        else if (has_classes) smolq__lines_of_classes(k, best, changed, &move, &k->lines[i][version]);
        else smolq__lines_in_order(k, changed, &k->lines[i][version]);
    }
}

/* ---- a run at a scale ---- */

/* The best line at a; *value gets 2 c - a n.  a is a float: the product is exact. */
SMOLQ_INLINE int32_t smolq__best_line(const smolq__lines *l, float a, double *value)
{
    int32_t best = 0, i;
    for (i = 0; i < SMOLQ__MAX_LINES; i++) best += a < l->below[i];
    *value = 2 * (double)l->c[best] - (double)a * (double)l->n[best];
    return best;
}

/* Which lines a run takes, and their sums. */
typedef struct smolq__book_run {
    int32_t line[8], version[8]; /* which of the two kinds, and which of its lines */
    double  gain, c, n;       /* the error is sum w x^2 - gain */
} smolq__book_run;

static void smolq__judge_run(const smolq__book_work *k, int32_t r, float a, smolq__book_run *run)
{
    const smolq__book *b = k->book;
    int32_t n_entries = b->run / b->length, first = r * n_entries, i, both;
    double total[2] = { 0, 0 }, value[8][2];
    const smolq__lines *lines;
    int32_t line[8][2];
    run->gain = run->c = run->n = 0;
    for (i = 0; i < n_entries; i++) {
        int is_odd = k->odd >> (first + i) * b->length / 8 & 1;
        int has[2];
        has[0] = !is_odd || b->length < 8;
        has[1] = is_odd || smolq__has_shift(b);
        for (both = 0; both < 2; both++) {
            value[i][both] = -1e300;
            line[i][both] = 0;
            if (has[both]) line[i][both] = smolq__best_line(&k->lines[first + i][both], a, &value[i][both]);
            total[both] += value[i][both];
        }
        run->version[i] = value[i][1] > value[i][0];
        if (is_odd && b->length < 8 && i % 2) /* one of the two entries of these eight changes a sign */
            run->version[i] = !(run->version[i - 1] = value[i - 1][1] + value[i][0] > value[i - 1][0] + value[i][1]);
    }
    for (i = 0; i < n_entries; i++) {
        if (b->signs == SMOLQ__SHIFT_OF_RUN) run->version[i] = total[1] > total[0];
        lines = &k->lines[first + i][run->version[i]];
        run->line[i] = line[i][run->version[i]];
        run->gain += value[i][run->version[i]];
        run->c += (double)lines->c[run->line[i]];
        run->n += (double)lines->n[run->line[i]];
    }
    run->gain = smolq_mul64((double)a, run->gain);
}

/* The scale that suits a run best, if it could be any: a row of them, then least squares and the best lines in turn. */
static double smolq__wanted_scale(const smolq__book_work *k, int32_t r)
{
    const smolq__book *b = k->book;
    double best = 0, gain = 0, largest = 0, step = 0;
    smolq__book_run run;
    int32_t i;
    for (i = r * b->run; i < (r + 1) * b->run; i++) {
        double x = (double)(k->x[i] < 0 ? -k->x[i] : k->x[i]);
        if (x > largest) largest = x;
    }
    step = largest / b->values[b->n_codes - 1];
    for (i = 0; i < 11; i++) {
        double a = step * (0.25 + i * 0.125);
        smolq__judge_run(k, r, (float)a, &run);
        if (run.gain <= gain) continue;
        gain = run.gain;
        best = a;
    }
    for (i = 0; i < 3 && best > 0; i++) {
        smolq__judge_run(k, r, (float)best, &run);
        if (!(run.c > 0 && run.n > 0)) break;
        best = run.c / run.n;
    }
    return best;
}

/* ---- a block ---- */

static double smolq__as_f16(double d)
{
    float x = (float)d;
    return (double)smolq_f16_to_f32(smolq_f32_to_f16(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x));
}

/* Every run takes the best s there is with d; the gain of all.  *better gets the d of least squares for the same lines. */
static double smolq__judge_scale(const smolq__book_work *k, double d, uint8_t *s, double *better)
{
    const smolq__book *b = k->book;
    double gain = 0, xa = 0, aa = 0;
    int32_t r;
    for (r = 0; r < 256 / b->run; r++) {
        double about = d > 0 ? (k->wanted[r] / (d * b->unit) - 1) / 2 : 0;
        int32_t from = about > 0 ? about < b->top ? (int32_t)about : b->top : 0, i;
        smolq__book_run best, run;
        best.gain = -1e300;
        best.c = best.n = 0;
        for (i = from; i < from + 2 && i <= b->top; i++) {
            smolq__judge_run(k, r, (float)(d * b->unit * (2 * i + 1)), &run);
            if (run.gain <= best.gain) continue;
            best = run;
            s[r] = (uint8_t)i;
        }
        gain += best.gain;
        xa += smolq_mul64((2 * s[r] + 1) * b->unit, best.c);
        aa += smolq_mul64((2 * s[r] + 1) * b->unit * (2 * s[r] + 1) * b->unit, best.n);
    }
    *better = aa > 0 ? xa / aa : 0;
    return gain;
}

/* The d that serves all runs best. */
static void smolq__choose_scale(const smolq__book_work *k, smolq__book_choice *choice)
{
    const smolq__book *b = k->book;
    double largest = 0, gain = 0 /* of zeros */, better, next = 0;
    uint8_t s[16];
    int32_t r, i;
    for (r = 0; r < 256 / b->run; r++)
        if (k->wanted[r] > largest) largest = k->wanted[r];
    for (i = 0; i < 11; i++) {
        double d = smolq__as_f16(i < 8 ? largest / (b->unit * (2 * b->top + 1)) * (0.8125 + i * 0.0625) : next), found;
        if (!(d > 0)) break;
        found = smolq__judge_scale(k, d, s, &better);
        if (found <= gain) {
            if (i < 8) continue;
            break;
        }
        gain = found;
        next = better;
        choice->d = (float)d;
        memcpy(choice->s, s, sizeof s);
    }
}

/* The sign of the weight that costs least to change, of those of an entry. */
static uint32_t smolq__cheapest_sign(const smolq__book_work *k, int32_t i, int32_t entry)
{
    const smolq__book *b = k->book;
    double least = 1e300;
    int32_t j, at = 0;
    for (j = 0; j < b->length; j++) {
        double wx = k->wx[i * b->length + j], cost = (wx > 0 ? wx : -wx) * b->values[smolq__code_of(b, entry, j)];
        if (cost >= least) continue;
        least = cost;
        at = j;
    }
    return 1u << (i * b->length + at) % 8;
}

static void smolq__choose_entries(const smolq__book_work *k, smolq__book_choice *choice)
{
    const smolq__book *b = k->book;
    int32_t n = b->run / b->length, r, i, j;
    for (i = 0; i < 256 && !smolq__has_shift(b); i++) choice->signs[i / 8] |= (uint8_t)((k->x[i] < 0) << i % 8);
    for (r = 0; r < 256 / b->run; r++) {
        smolq__book_run run;
        smolq__judge_run(k, r, (float)((double)choice->d * b->unit * (2 * choice->s[r] + 1)), &run);
        for (j = 0; j < n; j++) {
            i = r * n + j;
            choice->entry[i] = k->order->entry[k->lines[i][run.version[j]].at[run.line[j]]];
            if (run.version[j]) choice->signs[i * b->length / 8] ^= (uint8_t)(smolq__has_shift(b) ? 1u : smolq__cheapest_sign(k, i, choice->entry[i]));
        }
    }
}

/* Which eights have an odd number of minuses. */
static uint32_t smolq__odd_eights(const smolq__book_work *k)
{
    uint32_t odd = 0;
    int32_t i;
    for (i = 0; i < 256 && k->book->signs == SMOLQ__EVEN_SIGNS; i++) odd ^= (uint32_t)(k->x[i] < 0) << i / 8;
    return odd;
}

/* Where importance let only some entries become lines: all are tried at the scales that were chosen, and d is that of least squares for them, if it is better. */
static void smolq__refine_choice(smolq__book_work *k, smolq__book_choice *choice)
{
    const smolq__book *b = k->book;
    int32_t n = b->run / b->length, r, i;
    double gain[2] = { 0, 0 }, xa = 0, aa = 0, d = (double)choice->d;
    smolq__book_run run;
    for (r = 0; r < 256 / b->run; r++) {
        double step = b->unit * (2 * choice->s[r] + 1);
        for (i = r * n; i < (r + 1) * n; i++) smolq__lines_of(k, i, d * step, 1);
        smolq__judge_run(k, r, (float)(d * step), &run);
        gain[0] += run.gain;
        xa += smolq_mul64(step, run.c);
        aa += smolq_mul64(step * step, run.n);
    }
    d = aa > 0 ? smolq__as_f16(xa / aa) : 0;
    for (r = 0; r < 256 / b->run && d > 0; r++) {
        smolq__judge_run(k, r, (float)(d * b->unit * (2 * choice->s[r] + 1)), &run);
        gain[1] += run.gain;
    }
    if (gain[1] > gain[0]) choice->d = (float)d;
}

/* x, w and wx as in smolq__weights, 256 of each. */
static void smolq__pack_codebook(const smolq__book_order *order, const float *x, const double *w, const double *wx, uint8_t *block)
{
    const smolq__book *b = order->book;
    smolq__book_work k;
    smolq__book_choice choice;
    int32_t n = b->run / b->length, r, i;
    memset(&choice, 0, sizeof choice);
    k.book = b;
    k.order = order;
    k.x = x;
    k.w = w;
    k.wx = wx;
    k.odd = smolq__odd_eights(&k);
    for (r = 0; r < 256 / b->run; r++) {
        double about = 0;
        for (i = r * b->run; i < (r + 1) * b->run; i++) about += (double)(x[i] < 0 ? -x[i] : x[i]) * 2 / (b->run * b->values[b->n_codes - 1]);
        for (i = r * n; i < (r + 1) * n; i++) smolq__lines_of(&k, i, about, 0);
        k.wanted[r] = smolq__wanted_scale(&k, r);
    }
    smolq__choose_scale(&k, &choice);
    if (choice.d != 0 && w) smolq__refine_choice(&k, &choice);
    if (choice.d != 0) smolq__choose_entries(&k, &choice);
    b->bits(&choice, block);
}

/* ---- bits: each the reverse of its function in levels.h ---- */

static void smolq__put_book_nibbles(const uint8_t *s, int32_t n, uint8_t *nibbles)
{
    int32_t i;
    for (i = 0; i < n; i++) nibbles[i] = (uint8_t)(s[2 * i] | s[2 * i + 1] << 4);
}

/* Four times seven signs and a scale. */
static void smolq__put_signs_and_scale(const smolq__book_choice *c, int32_t r, uint8_t *word)
{
    uint32_t u = (uint32_t)c->s[r] << 28;
    int32_t j;
    for (j = 0; j < 4; j++) u |= (c->signs[r * 4 + j] & 127u) << j * 7;
    smolq__put_u32(word, u);
}

static void smolq__book_bits_IQ2_XXS(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq2_xxs *b = (smolq_block_iq2_xxs *)block;
    int32_t r, j;
    smolq__put_u16(b->d, smolq_f32_to_f16(c->d));
    for (r = 0; r < 8; r++) {
        for (j = 0; j < 4; j++) b->qs[r * 8 + j] = (uint8_t)c->entry[r * 4 + j];
        smolq__put_signs_and_scale(c, r, b->qs + r * 8 + 4);
    }
}
static void smolq__book_bits_IQ2_XS(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq2_xs *b = (smolq_block_iq2_xs *)block;
    int32_t k;
    smolq__put_u16(b->d, smolq_f32_to_f16(c->d));
    for (k = 0; k < 32; k++) smolq__put_u16(b->qs + k * 2, (uint16_t)(c->entry[k] | (c->signs[k] & 127) << 9));
    smolq__put_book_nibbles(c->s, 8, b->scales);
}
static void smolq__book_bits_IQ2_S(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq2_s *b = (smolq_block_iq2_s *)block;
    int32_t k;
    smolq__put_u16(b->d, smolq_f32_to_f16(c->d));
    memset(b->qh, 0, sizeof b->qh);
    for (k = 0; k < 32; k++) {
        b->qs[k] = (uint8_t)(c->entry[k] & 255);
        b->qh[k / 4] |= (uint8_t)(c->entry[k] >> 8 << k % 4 * 2);
        b->signs[k] = c->signs[k];
    }
    smolq__put_book_nibbles(c->s, 8, b->scales);
}
static void smolq__book_bits_IQ3_XXS(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq3_xxs *b = (smolq_block_iq3_xxs *)block;
    int32_t r, k;
    smolq__put_u16(b->d, smolq_f32_to_f16(c->d));
    for (k = 0; k < 64; k++) b->qs[k] = (uint8_t)c->entry[k];
    for (r = 0; r < 8; r++) smolq__put_signs_and_scale(c, r, b->signs + r * 4);
}
static void smolq__book_bits_IQ3_S(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq3_s *b = (smolq_block_iq3_s *)block;
    int32_t k;
    smolq__put_u16(b->d, smolq_f32_to_f16(c->d));
    memset(b->qh, 0, sizeof b->qh);
    for (k = 0; k < 64; k++) {
        b->qs[k] = (uint8_t)(c->entry[k] & 255);
        b->qh[k / 8] |= (uint8_t)(c->entry[k] >> 8 << k % 8);
    }
    memcpy(b->signs, c->signs, 32);
    smolq__put_book_nibbles(c->s, 4, b->scales);
}
static void smolq__book_bits_IQ1_S(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq1_s *b = (smolq_block_iq1_s *)block;
    int32_t r, j;
    smolq__put_u16(b->d, smolq_f32_to_f16(c->d));
    for (r = 0; r < 8; r++) {
        uint32_t word = (uint32_t)c->s[r] << 12 | (c->signs[r * 4] & 1u) << 15;
        for (j = 0; j < 4; j++) {
            b->qs[r * 4 + j] = (uint8_t)(c->entry[r * 4 + j] & 255);
            word |= (uint32_t)(c->entry[r * 4 + j] >> 8) << j * 3;
        }
        smolq__put_u16(b->qh + r * 2, (uint16_t)word);
    }
}
static void smolq__book_bits_IQ1_M(const smolq__book_choice *c, uint8_t *block)
{
    smolq_block_iq1_m *b = (smolq_block_iq1_m *)block;
    uint32_t d = smolq_f32_to_f16(c->d);
    int32_t r, j, k;
    for (r = 0; r < 4; r++) {
        uint32_t word = (d >> r * 4 & 15u) << 12;
        for (j = 0; j < 4; j++) word |= (uint32_t)c->s[r * 4 + j] << j * 3;
        smolq__put_u16(b->scales + r * 2, (uint16_t)word);
    }
    memset(b->qh, 0, sizeof b->qh);
    for (k = 0; k < 32; k++) {
        b->qs[k] = (uint8_t)(c->entry[k] & 255);
        b->qh[k / 2] |= (uint8_t)((uint32_t)(c->entry[k] >> 8 | (c->signs[k] & 1) << 3) << k % 2 * 4);
    }
}

/* ---- the table ---- */

#define SMOLQ__VALUES_IQ2     { 8, 25, 43, 0, 0, 0, 0, 0 }
#define SMOLQ__VALUES_IQ3_XXS { 4, 12, 20, 28, 36, 44, 52, 62 }
#define SMOLQ__VALUES_IQ3_S   { 1, 3, 5, 7, 9, 11, 13, 15 }
#define SMOLQ__VALUES_IQ1     { -8, 0, 8, 0, 0, 0, 0, 0 }
#define SMOLQ__CLASSES_IQ2    { 0, 1, 9, 0, 0, 0, 0, 0 }       /* how many of each value */
#define SMOLQ__CLASSES_IQ3    { 0, 1, 3, 6, 10, 15, 21, 28 + 113 } /* the square of an odd number, less 1, by 8; 62 is another */
#define SMOLQ__CLASSES_IQ1    { 1, 0, 9, 0, 0, 0, 0, 0 }
/*    NAME     entries             length code: bits, how many  values and classes        signs            run top  unit */
#define SMOLQ__BOOKS(X) \
    X(IQ2_XXS, smolq_grid_iq2_xxs, 8,     2, 3, IQ2,     IQ2, SMOLQ__EVEN_SIGNS,     32, 15, 0.125) \
    X(IQ2_XS,  smolq_grid_iq2_xs,  8,     2, 3, IQ2,     IQ2, SMOLQ__EVEN_SIGNS,     16, 15, 0.125) \
    X(IQ2_S,   smolq_grid_iq2_s,   8,     2, 3, IQ2,     IQ2, SMOLQ__SIGNS,          16, 15, 0.125) \
    X(IQ3_XXS, smolq_grid_iq3_xxs, 4,     3, 8, IQ3_XXS, IQ3, SMOLQ__EVEN_SIGNS,     32, 15, 0.25)  \
    X(IQ3_S,   smolq_grid_iq3_s,   4,     3, 8, IQ3_S,   IQ3, SMOLQ__SIGNS,          32, 15, 1)     \
    X(IQ1_S,   smolq_grid_iq1,     8,     2, 3, IQ1,     IQ1, SMOLQ__SHIFT_OF_RUN,   32,  7, 0.125) \
    X(IQ1_M,   smolq_grid_iq1,     8,     2, 3, IQ1,     IQ1, SMOLQ__SHIFT_OF_ENTRY, 16,  7, 0.125)
#define SMOLQ__BOOK(NAME, entries, length, bits, codes, values, classes, signs, run, top, unit) \
    { SMOLQ_TYPE_##NAME, entries, (int32_t)(sizeof entries / sizeof *entries), length, bits, codes, SMOLQ__VALUES_##values, SMOLQ__CLASSES_##classes, signs, run, top, unit, \
      smolq__book_bits_##NAME },
static const smolq__book smolq__books[] = { SMOLQ__BOOKS(SMOLQ__BOOK) };
#undef SMOLQ__BOOK

static const smolq__book *smolq__book_of(int32_t type)
{
    size_t i;
    for (i = 0; i < sizeof smolq__books / sizeof *smolq__books; i++)
        if (smolq__books[i].id == type) return &smolq__books[i];
    return NULL;
}
