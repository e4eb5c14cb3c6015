/* ==== sample.c: logits to a token ===================================================================================
 * A sampler is a chain of steps over one array of candidates {id, logit, p}, planned for the whole vocabulary when it opens, then one
 * draw.  Two rules hold between steps: every candidate's logit is finite (what a step sends to minus infinity leaves the array), and
 * the first n_sorted candidates are the best ones, best first; ties go to the smaller id.  A step that needs order asks for as many
 * sorted candidates as it looks at, so nobody sorts 152 000 logits to keep forty.
 *
 * The same draw comes from every machine: exp is smolq_exp, sums run in 16 lanes or in order, the logarithm is our own, and the draw
 * itself is in integers.  Its random number is Philox-4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
 *
 *     key      seed, low and high word
 *     counter  position low, position high, which draw of this position (0 the token, i + 1 the step i of the chain), 0
 *
 * so it depends on the seed and the position alone, not on how often anyone called smolq_sample.  What a chain remembers is the accepted
 * tokens (penalties, DRY) and mirostat's mu.  smolq_sample changes neither; smolq_sampler_accept does, and mu moves only when the token
 * accepted is the one drawn at this position.  To replay from a point: reset to its position and accept the tokens that the chain
 * shall see; with mirostat, start at the beginning, as mu carries the surprise of every draw.
 *
 * Where the steps come from: top-p, Holtzman and others 2019, arXiv:1904.09751; locally typical, Meister and others 2022, arXiv:2202.00666;
 * min-p, Nguyen and others 2024, arXiv:2407.01082; repetition penalty, Keskar and others 2019 (CTRL), arXiv:1909.05858; mirostat, Basu and
 * others 2021, arXiv:2007.14966; DRY, p-e-w, text-generation-webui pull request 5677; XTC, the same, 6335. */
#pragma once
#include "base.c"

#define SMOLQ__FLOAT_MAX 3.40282347e38f
#define SMOLQ__MOST_TOKENS (1 << 24) /* so that token counts are exact in a float and 2^36 per candidate is a sum below 2^60 */

typedef struct smolq__candidate {
    int32_t id;
    float   logit;
    float   p; /* meaning belongs to the step that fills it */
} smolq__candidate;

struct smolq_sampler {
    smolq__heap         heap;        /* holds this struct too */
    int32_t             n_vocab, n_steps;
    smolq_sampler_step *steps;       /* data: our copies */
    uint64_t            seed, position;
    smolq__candidate   *c;           /* [n_vocab], the first n in use */
    int32_t             n, n_sorted;
    int32_t            *history;     /* ring of the last [n_ring] accepted tokens, -1 for an id outside the vocabulary */
    uint32_t            n_ring, n_history;
    float              *mark;        /* [n_vocab] scratch by token id, all zero between steps */
    int32_t            *repeat;      /* [longest last n of a DRY step] scratch */
    float               mu;          /* mirostat: the surprise allowed now */
    int32_t             drawn;       /* mirostat: token drawn at this position, or -1 */
    float               surprise;    /* and its surprise in bits */
};

/* ---- random numbers ---- */

static void smolq__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3], k0 = key[0], k1 = key[1];
    int round;
    for (round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xd2511f53u * x0, b = (uint64_t)0xcd9e8d57u * x2;
        x0 = (uint32_t)(b >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)b;
        x2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

static uint64_t smolq__random(uint64_t seed, uint64_t position, uint32_t which)
{
    uint32_t counter[4], key[2], out[4];
    counter[0] = (uint32_t)position;
    counter[1] = (uint32_t)(position >> 32);
    counter[2] = which;
    counter[3] = 0;
    key[0] = (uint32_t)seed;
    key[1] = (uint32_t)(seed >> 32);
    smolq__philox(counter, key, out);
    return (uint64_t)out[1] << 32 | out[0];
}

/* floor(a * b / 2^64): a random 64-bit number a becomes one of 0..b-1. */
static uint64_t smolq__mul_high(uint64_t a, uint64_t b)
{
    uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffffu);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

/* ---- canonical logarithm and power ---- */

/* ln x of a positive normal float: x = m * 2^e with m between sqrt(1/2) and sqrt(2), ln m = 2 artanh((m-1)/(m+1)) as a series in double. */
static float smolq__ln(float x)
{
    uint32_t u = smolq_bits(x), shift = u - 0x3f3504f3u; /* sqrt(1/2) */
    int32_t e = (int32_t)(shift >> 23), i;
    double m, t, square, sum = 0;
    if (e >= 256) e -= 512; /* the shift of a number below sqrt(1/2) has wrapped */
    m = smolq_from_bits(u - ((uint32_t)e << 23));
    t = (m - 1.0) / (m + 1.0);
    square = smolq_mul64(t, t);
    for (i = 21; i >= 1; i -= 2) sum = smolq_mul64(sum, square) + 1.0 / i; /* |t| <= 0.172: the next term is below 1e-18 */
    return (float)(smolq_mul64(sum, 2 * t) + smolq_mul64(e, 0.69314718055994530942));
}

static float smolq__power(float base, int32_t n) /* base >= 1 */
{
    float p = 1.0f;
    for (; n > 0; n >>= 1) {
        if (n & 1) p = smolq_mul(p, base);
        base = smolq_mul(base, base);
    }
    return p;
}

/* ---- candidates ---- */

static int smolq__better(const smolq__candidate *a, const smolq__candidate *b) { return a->logit > b->logit || (a->logit == b->logit && a->id < b->id); }

static void smolq__swap(smolq__candidate *a, smolq__candidate *b)
{
    smolq__candidate t = *a;
    *a = *b;
    *b = t;
}

/* Restores the heap a[0..n) below i: every parent is worse than its children, so that the worst stands at a[0]. */
static void smolq__sift_candidates(smolq__candidate *a, int32_t i, int32_t n)
{
    int32_t child;
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && smolq__better(&a[child], &a[child + 1])) child++;
        if (!smolq__better(&a[i], &a[child])) return;
        smolq__swap(&a[i], &a[child]);
        i = child;
    }
}

/* Brings the k best of a[0..n) to the front, best first: a heap of k meets the others, then is taken apart.  The rest stays, in some order. */
static void smolq__select(smolq__candidate *a, int32_t n, int32_t k)
{
    int32_t i;
    for (i = k / 2 - 1; i >= 0; i--) smolq__sift_candidates(a, i, k);
    for (i = k; i < n; i++)
        if (smolq__better(&a[i], &a[0])) {
            smolq__swap(&a[i], &a[0]);
            smolq__sift_candidates(a, 0, k);
        }
    for (i = k - 1; i > 0; i--) {
        smolq__swap(&a[0], &a[i]);
        smolq__sift_candidates(a, 0, i);
    }
}

static void smolq__sort(smolq_sampler *s, int32_t k)
{
    if (k > s->n) k = s->n;
    if (k <= s->n_sorted) return;
    smolq__select(s->c + s->n_sorted, s->n - s->n_sorted, k - s->n_sorted);
    s->n_sorted = k;
}

/* The candidate of rank i; sorts four times as many as before when i is beyond what is sorted. */
static smolq__candidate *smolq__ranked(smolq_sampler *s, int32_t i)
{
    if (i >= s->n_sorted) smolq__sort(s, i < 64 ? 256 : i <= s->n / 4 ? i * 4 : s->n);
    return &s->c[i];
}

static float smolq__best(smolq_sampler *s)
{
    smolq__sort(s, 1);
    return s->c[0].logit;
}

static void smolq__cut(smolq_sampler *s, int32_t from, int32_t to) /* keeps c[from..to) of a sorted array */
{
    if (from > 0) memmove(s->c, s->c + from, (size_t)(to - from) * sizeof *s->c);
    s->n_sorted = (s->n_sorted < to ? s->n_sorted : to) - from;
    s->n = to - from;
}

/* Candidate i gets a new logit and place s->n, or leaves.  For loops that run over the whole array with s->n starting at 0. */
static void smolq__set_logit(smolq_sampler *s, int32_t i, float logit)
{
    if (!(logit >= -SMOLQ__FLOAT_MAX)) return; /* NaN too */
    s->c[s->n] = s->c[i];
    s->c[s->n++].logit = logit <= SMOLQ__FLOAT_MAX ? logit : SMOLQ__FLOAT_MAX;
}

/* Fills p and returns the sum that it was divided by: p = e^(logit - best) / sum. */
static float smolq__softmax(smolq_sampler *s)
{
    float lane[16], best = smolq__best(s), sum;
    int32_t i;
    memset(lane, 0, sizeof lane);
    for (i = 0; i < s->n; i++) lane[i & 15] += s->c[i].p = smolq_exp(s->c[i].logit - best);
    sum = smolq_fold(lane, 16);
    for (i = 0; i < s->n; i++) s->c[i].p /= sum;
    return sum;
}

/* The i-th last accepted token, 0 the last. */
static int32_t smolq__past(const smolq_sampler *s, uint32_t i) { return s->history[(s->position - 1 - i) % s->n_ring]; }

static uint32_t smolq__past_count(const smolq_sampler *s, int32_t last_n)
{
    return s->n_history < (uint32_t)last_n ? s->n_history : (uint32_t)last_n;
}

/* ---- steps ---- */

/* Logits are divided as they are, since penalties behind this step look at their sign.  A temperature so low that the best overflows keeps
 * the best, as zero does. */
static void smolq__temperature(smolq_sampler *s, float temperature)
{
    int32_t i, n = s->n;
    float best = smolq__best(s);
    if (!(temperature > 0) || !smolq_is_finite(best / temperature)) {
        smolq__cut(s, 0, 1);
        return;
    }
    s->n = 0;
    for (i = 0; i < n; i++) smolq__set_logit(s, i, s->c[i].logit / temperature);
    s->n_sorted = 0; /* different logits may have equal quotients, which go by id */
}

static void smolq__top_k(smolq_sampler *s, int32_t k)
{
    if (k == 0 || k > s->n) return;
    smolq__sort(s, k);
    smolq__cut(s, 0, k);
}

static void smolq__top_p(smolq_sampler *s, float p, int32_t least)
{
    double sum = 0;
    int32_t i = 0;
    if (p >= 1) return;
    smolq__softmax(s);
    while (i < s->n) {
        sum += smolq__ranked(s, i++)->p;
        if (sum >= p && i >= least) break;
    }
    smolq__cut(s, 0, i);
}

static void smolq__min_p(smolq_sampler *s, float p, int32_t least)
{
    int32_t i, n = s->n, n_sorted;
    float lowest;
    if (p < 1.17549435e-38f) return; /* the least normal float */
    lowest = smolq__best(s) + smolq__ln(p);
    smolq__sort(s, least);
    n_sorted = s->n_sorted;
    s->n = 0;
    for (i = 0; i < n; i++) {
        if (i == n_sorted) s->n_sorted = s->n;
        if (i < least || s->c[i].logit >= lowest) s->c[s->n++] = s->c[i];
    }
    if (n_sorted == n) s->n_sorted = s->n;
}

/* Of a sorted array the locally typical tokens are a run: those whose surprise -ln p lies nearest the entropy.  It grows from there to
 * both sides until it holds the mass.  At equal distance the more probable token comes first. */
static void smolq__typical(smolq_sampler *s, float p, int32_t least)
{
    float lane[16], best = smolq__best(s), ln_sum, entropy;
    double sum = 0;
    int32_t i, from = 0, to;
    if (p >= 1) return;
    ln_sum = smolq__ln(smolq__softmax(s));
    memset(lane, 0, sizeof lane);
    for (i = 0; i < s->n; i++)
        if (s->c[i].p > 0) lane[i & 15] = smolq_fma(s->c[i].p, ln_sum - (s->c[i].logit - best), lane[i & 15]);
    entropy = smolq_fold(lane, 16);
#define SMOLQ__SURPRISE(i) (ln_sum - (smolq__ranked(s, i)->logit - best))
    while (from < s->n && SMOLQ__SURPRISE(from) < entropy) from++;
    to = from;
    while (to - from < s->n && !(sum >= p && to > from && to - from >= least)) {
        if (to == s->n || (from > 0 && entropy - SMOLQ__SURPRISE(from - 1) <= SMOLQ__SURPRISE(to) - entropy)) sum += s->c[--from].p;
        else sum += smolq__ranked(s, to++)->p;
    }
#undef SMOLQ__SURPRISE
    smolq__cut(s, from, to);
}

/* A negative logit is multiplied by the repetition penalty, so that it falls as well; CTRL's own formula would raise it. */
static void smolq__penalties(smolq_sampler *s, const smolq_sampler_step *step)
{
    uint32_t k, last = smolq__past_count(s, step->n);
    int32_t i, n = s->n, id;
    float repeat = step->a > 0 ? step->a : 1.0f;
    if (last == 0) return;
    for (k = 0; k < last; k++)
        if ((id = smolq__past(s, k)) >= 0) s->mark[id] += 1.0f;
    s->n = 0;
    for (i = 0; i < n; i++) {
        float logit = s->c[i].logit, count = s->mark[s->c[i].id];
        if (count > 0) logit = (logit > 0 ? logit / repeat : smolq_mul(logit, repeat)) - (smolq_mul(count, step->b) + step->c);
        smolq__set_logit(s, i, logit);
    }
    for (k = 0; k < last; k++)
        if ((id = smolq__past(s, k)) >= 0) s->mark[id] = 0;
    s->n_sorted = 0;
}

static int smolq__is_breaker(const smolq_sampler_step *step, int32_t id)
{
    const uint32_t *bits = (const uint32_t *)step->data;
    return id < 0 || (bits && (bits[id >> 5] >> (id & 31) & 1));
}

/* If the last r tokens stood earlier in the text, the token that followed them there would make r + 1.  It is penalized by
 * a * base^(r - allowed) for the greatest such r.  Read backwards, r is how far the text agrees with itself shifted by k: the Z-array of
 * the reversed text, found in linear time (Gusfield 1997).  Breakers, such as a newline or a quote, end the comparison. */
static void smolq__dry(smolq_sampler *s, const smolq_sampler_step *step)
{
    int32_t allowed = (int32_t)step->c, last = (int32_t)smolq__past_count(s, step->n), limit = 0, left = 0, right = 0, k, i, n = s->n;
    int32_t *z = s->repeat;
#define SMOLQ__PAST(i) smolq__past(s, (uint32_t)(i))
    if (step->a == 0 || last <= allowed) return;
    while (limit < last && !smolq__is_breaker(step, SMOLQ__PAST(limit))) limit++;
    if (limit < allowed) return;
    for (k = 1; k < last; k++) { /* text[left..right) agrees with its beginning */
        int32_t r = k < right ? z[k - left] : 0;
        if (r > right - k) r = right - k;
        if (r < 0) r = 0;
        if (k + r >= right) {
            while (k + r < last && SMOLQ__PAST(r) == SMOLQ__PAST(k + r)) r++;
            left = k;
            right = k + r;
        }
        z[k] = r;
    }
    for (k = 1; k < last; k++) {
        int32_t r = z[k] < limit ? z[k] : limit, next = SMOLQ__PAST(k - 1);
        if (r >= allowed && !smolq__is_breaker(step, next) && (float)(r + 1) > s->mark[next]) s->mark[next] = (float)(r + 1);
    }
    s->n = 0;
    for (i = 0; i < n; i++) {
        float logit = s->c[i].logit, r = s->mark[s->c[i].id] - 1.0f, penalty;
        if (r >= 0) {
            penalty = smolq_mul(step->a, smolq__power(step->b, (int32_t)r - allowed));
            logit -= penalty < 1e30f ? penalty : 1e30f; /* enough for last place, and still a number */
        }
        smolq__set_logit(s, i, logit);
    }
    for (k = 1; k < last; k++)
        if ((i = SMOLQ__PAST(k - 1)) >= 0) s->mark[i] = 0;
#undef SMOLQ__PAST
    s->n_sorted = 0;
}

/* Excludes the obvious: of the tokens with p >= threshold only the last stays. */
static void smolq__xtc(smolq_sampler *s, const smolq_sampler_step *step, uint32_t which)
{
    float chance = (float)(smolq__random(s->seed, s->position, which) >> 40) * (1.0f / 16777216.0f); /* in [0, 1) */
    int32_t n = 0;
    if (chance >= step->a || step->b > 0.5f || s->n < 2) return;
    smolq__softmax(s);
    while (n < s->n && smolq__ranked(s, n)->p >= step->b) n++;
    if (n > 1 && s->n - (n - 1) >= step->n) smolq__cut(s, n - 1, s->n);
}

static void smolq__mirostat(smolq_sampler *s)
{
    float best = smolq__best(s), lowest = best + smolq__ln(smolq__softmax(s)) - smolq_mul(s->mu, 0.693147181f); /* surprise <= mu bits */
    int32_t i, n = s->n;
    s->n = 1;
    for (i = 1; i < n; i++)
        if (s->c[i].logit >= lowest) s->c[s->n++] = s->c[i];
    s->n_sorted = 1;
}

/* Entries for the same token add up; minus infinity bans it. */
static void smolq__logit_bias(smolq_sampler *s, const smolq_sampler_step *step)
{
    const smolq_logit_bias *bias = (const smolq_logit_bias *)step->data;
    int32_t i, n = s->n;
    for (i = 0; i < step->n; i++) s->mark[bias[i].id] += bias[i].bias;
    s->n = 0;
    for (i = 0; i < n; i++) smolq__set_logit(s, i, s->c[i].logit + s->mark[s->c[i].id]);
    for (i = 0; i < step->n; i++) s->mark[bias[i].id] = 0;
    s->n_sorted = 0;
}

static void smolq__sampler_step(smolq_sampler *s, int32_t i)
{
    const smolq_sampler_step *step = &s->steps[i];
    switch (step->kind) {
        case SMOLQ_SAMPLE_GREEDY:      smolq__top_k(s, 1); break;
        case SMOLQ_SAMPLE_TEMPERATURE: smolq__temperature(s, step->a); break;
        case SMOLQ_SAMPLE_TOP_K:       smolq__top_k(s, step->n); break;
        case SMOLQ_SAMPLE_TOP_P:       smolq__top_p(s, step->a, step->n); break;
        case SMOLQ_SAMPLE_MIN_P:       smolq__min_p(s, step->a, step->n); break;
        case SMOLQ_SAMPLE_TYPICAL:     smolq__typical(s, step->a, step->n); break;
        case SMOLQ_SAMPLE_PENALTIES:   smolq__penalties(s, step); break;
        case SMOLQ_SAMPLE_DRY:         smolq__dry(s, step); break;
        case SMOLQ_SAMPLE_XTC:         smolq__xtc(s, step, (uint32_t)i + 1); break;
        case SMOLQ_SAMPLE_MIROSTAT2:   smolq__mirostat(s); break;
        default:                       smolq__logit_bias(s, step); break;
    }
}

/* One candidate, with probability as its weight e^(logit - best) in units of 2^-36: integers, so that the sum has no order. */
static int32_t smolq__draw(smolq_sampler *s)
{
    float best = smolq__best(s);
    uint64_t total = 0, target;
    int32_t i;
    for (i = 0; i < s->n; i++) {
        s->c[i].p = smolq_exp(s->c[i].logit - best) * 68719476736.0f;
        total += (uint64_t)s->c[i].p;
    }
    target = smolq__mul_high(smolq__random(s->seed, s->position, 0), total);
    for (i = 0; target >= (uint64_t)s->c[i].p; i++) target -= (uint64_t)s->c[i].p;
    return i;
}

/* ---- the sampler ---- */

/* kind          a: least  greatest          b: least  greatest          c: least  greatest          n greatest */
#define SMOLQ__STEP_RANGES(X) \
    X(GREEDY,      0, 0,                                  0, 0,     0, 0,          0) \
    X(TEMPERATURE, -SMOLQ__FLOAT_MAX, SMOLQ__FLOAT_MAX,   0, 0,     0, 0,          0) \
    X(TOP_K,       0, 0,                                  0, 0,     0, 0,          INT32_MAX) \
    X(TOP_P,       0, 1,                                  0, 0,     0, 0,          INT32_MAX) \
    X(MIN_P,       0, 1,                                  0, 0,     0, 0,          INT32_MAX) \
    X(TYPICAL,     0, 1,                                  0, 0,     0, 0,          INT32_MAX) \
    X(PENALTIES,   0, 1e6f,                          -1e6f, 1e6f,  -1e6f, 1e6f,    SMOLQ__MOST_TOKENS) \
    X(DRY,         0, 1e6f,                               1, 1e6f,  0, 1e6f,       SMOLQ__MOST_TOKENS) \
    X(XTC,         0, 1,                                  0, 1,     0, 0,          INT32_MAX) \
    X(MIROSTAT2,   0, 1e6f,                               0, 1e6f,  0, 0,          0) \
    X(LOGIT_BIAS,  0, 0,                                  0, 0,     0, 0,          INT32_MAX)

typedef struct smolq__step_range { const char *name; float low[3], high[3]; int32_t n; } smolq__step_range;
#define SMOLQ__STEP_RANGE(kind, a0, a1, b0, b1, c0, c1, n) { #kind, { a0, b0, c0 }, { a1, b1, c1 }, n },
static const smolq__step_range smolq__step_ranges[] = { SMOLQ__STEP_RANGES(SMOLQ__STEP_RANGE) };
#undef SMOLQ__STEP_RANGE

static smolq_result smolq__check_step(const smolq_sampler_step *step, uint32_t i, uint32_t n_steps, int32_t n_vocab, smolq_error *err)
{
    const smolq__step_range *range;
    const smolq_logit_bias *bias = (const smolq_logit_bias *)step->data;
    const int32_t *breaker = (const int32_t *)step->data;
    float value[3];
    size_t k;
    if (step->kind < 0 || step->kind >= SMOLQ_SAMPLE_COUNT)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u: kind %d is unknown, expected 0..%d", (unsigned)i, (int)step->kind, SMOLQ_SAMPLE_COUNT - 1);
    range = &smolq__step_ranges[step->kind];
    value[0] = step->a;
    value[1] = step->b;
    value[2] = step->c;
    for (k = 0; k < 3; k++) /* a field that the step doesn't use has the range 0..0 and is not looked at */
        if (range->low[k] < range->high[k] && !(value[k] >= range->low[k] && value[k] <= range->high[k]))
            return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): %c is %g, expected %g..%g", (unsigned)i, range->name, "abc"[k], (double)value[k],
                               (double)range->low[k], (double)range->high[k]);
    if (range->n > 0 && (step->n < 0 || step->n > range->n))
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): n is %d, expected 0..%d", (unsigned)i, range->name, (int)step->n, (int)range->n);
    if (step->kind == SMOLQ_SAMPLE_MIROSTAT2 && i + 1 != n_steps)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): it draws, so it must be the last of the %u steps", (unsigned)i, range->name, (unsigned)n_steps);
    if (step->kind == SMOLQ_SAMPLE_LOGIT_BIAS) {
        if (step->n > 0 && !bias) return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): data is NULL, expected %d entries", (unsigned)i, range->name, (int)step->n);
        for (k = 0; k < (size_t)step->n; k++)
            if (bias[k].id < 0 || bias[k].id >= n_vocab || !(bias[k].bias <= SMOLQ__FLOAT_MAX))
                return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): entry %llu adds %g to token %d, expected a finite number or -inf and a token 0..%d", (unsigned)i,
                                   range->name, (unsigned long long)k, (double)bias[k].bias, (int)bias[k].id, (int)n_vocab - 1);
    }
    if (step->kind == SMOLQ_SAMPLE_DRY) {
        if (step->n_data > 0 && !breaker) return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): data is NULL, expected %llu breakers", (unsigned)i, range->name, (unsigned long long)step->n_data);
        for (k = 0; k < step->n_data; k++)
            if (breaker[k] < 0 || breaker[k] >= n_vocab)
                return smolq__fail(err, SMOLQ_E_ARGUMENT, "sampler step %u (%s): breaker %llu is token %d, expected 0..%d", (unsigned)i, range->name, (unsigned long long)k,
                                   (int)breaker[k], (int)n_vocab - 1);
    }
    return SMOLQ_OK;
}

/* The step's data as our own: biases as they are, breakers as one bit per token. */
static int smolq__copy_step(smolq__heap *heap, smolq_sampler_step *step, int32_t n_vocab)
{
    size_t k;
    if (step->kind == SMOLQ_SAMPLE_LOGIT_BIAS && step->n > 0) {
        void *copy = smolq__alloc(heap, (uint64_t)step->n * sizeof(smolq_logit_bias));
        if (!copy) return 0;
        memcpy(copy, step->data, (size_t)step->n * sizeof(smolq_logit_bias));
        step->data = copy;
    } else if (step->kind == SMOLQ_SAMPLE_DRY && step->n_data > 0) {
        const int32_t *breaker = (const int32_t *)step->data;
        uint32_t *bits = (uint32_t *)smolq__alloc(heap, ((uint64_t)n_vocab + 31) / 32 * 4);
        if (!bits) return 0;
        for (k = 0; k < step->n_data; k++) bits[breaker[k] >> 5] |= (uint32_t)1 << (breaker[k] & 31);
        step->data = bits;
    } else {
        step->data = NULL;
    }
    return 1;
}

static int smolq__sampler_plan(smolq_sampler *s, smolq__heap *heap, const smolq_sampler_step *steps)
{
    int32_t i, marks = 0, ring = 0, repeat = 0;
    s->steps = (smolq_sampler_step *)smolq__alloc(heap, (uint64_t)s->n_steps * sizeof *s->steps);
    if (!s->steps) return 0;
    for (i = 0; i < s->n_steps; i++) {
        int32_t kind = steps[i].kind, remembers = kind == SMOLQ_SAMPLE_PENALTIES || kind == SMOLQ_SAMPLE_DRY;
        s->steps[i] = steps[i];
        if (!smolq__copy_step(heap, &s->steps[i], s->n_vocab)) return 0;
        marks |= remembers || kind == SMOLQ_SAMPLE_LOGIT_BIAS;
        if (remembers && steps[i].n > ring) ring = steps[i].n;
        if (kind == SMOLQ_SAMPLE_DRY && steps[i].n > repeat) repeat = steps[i].n;
    }
    s->n_ring = (uint32_t)ring;
    s->c = (smolq__candidate *)smolq__alloc(heap, (uint64_t)s->n_vocab * sizeof *s->c);
    s->mark = marks ? (float *)smolq__alloc(heap, (uint64_t)s->n_vocab * sizeof *s->mark) : NULL;
    s->history = ring ? (int32_t *)smolq__alloc(heap, (uint64_t)s->n_ring * sizeof *s->history) : NULL;
    s->repeat = repeat ? (int32_t *)smolq__alloc(heap, (uint64_t)repeat * sizeof *s->repeat) : NULL;
    return s->c && (s->mark || !marks) && (s->history || !ring) && (s->repeat || !repeat);
}

SMOLQ_API smolq_result smolq_sampler_open(int32_t n_vocab, const smolq_sampler_options *options, smolq_sampler **sampler, smolq_error *err)
{
    static const smolq_sampler_step usual[] = {
        { SMOLQ_SAMPLE_TEMPERATURE, 0, 0.7f, 0, 0, NULL, 0 },
        { SMOLQ_SAMPLE_TOP_K, 40, 0, 0, 0, NULL, 0 },
        { SMOLQ_SAMPLE_TOP_P, 0, 0.95f, 0, 0, NULL, 0 },
        { SMOLQ_SAMPLE_MIN_P, 0, 0.05f, 0, 0, NULL, 0 },
    };
    smolq_sampler_options o;
    smolq_sampler *s;
    smolq__heap heap;
    uint32_t i;
    smolq__options(&o, sizeof o, options, (uint32_t)sizeof o);
    if (!sampler) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_sampler_open: sampler is NULL");
    if (n_vocab < 1 || n_vocab > SMOLQ__MOST_TOKENS)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_sampler_open: n_vocab is %d, expected 1..%d", (int)n_vocab, SMOLQ__MOST_TOKENS);
    if ((!o.steps && o.n_steps) || o.n_steps > 1000)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_sampler_open: %u steps%s, expected at most 1000", (unsigned)o.n_steps, o.steps ? "" : " at NULL");
    if (!o.steps) {
        o.steps = usual;
        o.n_steps = sizeof usual / sizeof *usual;
    }
    for (i = 0; i < o.n_steps; i++) {
        smolq_result result = smolq__check_step(&o.steps[i], i, o.n_steps, n_vocab, err);
        if (result != SMOLQ_OK) return result;
    }
    smolq__heap_init(&heap, &o.allocator, 0);
    s = (smolq_sampler *)smolq__alloc(&heap, sizeof *s);
    if (s) {
        s->n_vocab = n_vocab;
        s->n_steps = (int32_t)o.n_steps;
    }
    if (!s || !smolq__sampler_plan(s, &heap, o.steps)) {
        smolq__fail_memory(&heap, err, "the sampler");
        smolq__heap_close(&heap);
        return SMOLQ_E_MEMORY;
    }
    s->heap = heap;
    smolq_sampler_reset(s, o.seed, 0);
    *sampler = s;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_sampler_close(smolq_sampler *sampler)
{
    if (sampler) smolq__heap_close(&sampler->heap);
}

SMOLQ_API void smolq_sampler_reset(smolq_sampler *sampler, uint64_t seed, uint64_t position)
{
    const smolq_sampler_step *last = sampler->n_steps ? &sampler->steps[sampler->n_steps - 1] : NULL;
    sampler->seed = seed;
    sampler->position = position;
    sampler->n_history = 0;
    sampler->drawn = -1;
    sampler->mu = last && last->kind == SMOLQ_SAMPLE_MIROSTAT2 ? 2 * last->a : 0; /* as in the paper */
}

SMOLQ_API void smolq_sampler_accept(smolq_sampler *sampler, int32_t id)
{
    if (sampler->n_ring) {
        sampler->history[sampler->position % sampler->n_ring] = id >= 0 && id < sampler->n_vocab ? id : -1;
        if (sampler->n_history < sampler->n_ring) sampler->n_history++;
    }
    if (id >= 0 && id == sampler->drawn) {
        const smolq_sampler_step *mirostat = &sampler->steps[sampler->n_steps - 1];
        sampler->mu -= smolq_mul(mirostat->b, sampler->surprise - mirostat->a);
    }
    sampler->drawn = -1;
    sampler->position++;
}

static smolq_result smolq__no_candidate(smolq_error *err, int32_t n_vocab)
{
    return smolq__fail(err, SMOLQ_E_NUMERIC, "none of the %d logits is a finite number", (int)n_vocab);
}

/* Sixteen logits at a time, in four chains of comparisons, and only where one of them is the best so far, which. */
static smolq_result smolq__greedy(const float *logits, int32_t n_vocab, int32_t *id, smolq_error *err)
{
    const float none = smolq_from_bits(0xff800000u); /* -infinity; and no comparison with NaN holds */
    float best = none;
    int32_t i, k, end, at = -1, finite;
    for (i = 0; i < n_vocab; i = end) {
        float a = none, b = none, c = none, d = none;
        end = n_vocab - i < 16 ? n_vocab : i + 16;
        for (k = i; k + 4 <= end; k += 4) {
            a = logits[k] > a ? logits[k] : a;
            b = logits[k + 1] > b ? logits[k + 1] : b;
            c = logits[k + 2] > c ? logits[k + 2] : c;
            d = logits[k + 3] > d ? logits[k + 3] : d;
        }
        for (; k < end; k++) a = logits[k] > a ? logits[k] : a;
        if (!(a > best || b > best || c > best || d > best)) continue;
        for (k = i; k < end; k++)
            if (logits[k] > best) {
                best = logits[k];
                at = k;
            }
    }
    finite = at >= 0 && smolq_is_finite(best);
    for (i = 0; i < n_vocab && at >= 0 && !finite; i++) finite = smolq_is_finite(logits[i]); /* the best is +infinity: a finite one beside it will do */
    if (!finite) return smolq__no_candidate(err, n_vocab);
    *id = at;
    return SMOLQ_OK;
}

/* The candidates go through the chain from its step `first` on, and one of them is drawn. */
static smolq_result smolq__sample_from(smolq_sampler *s, int32_t first, int32_t *id, smolq_error *err)
{
    int32_t i, at;
    for (i = first; i < s->n_steps; i++) {
        smolq__sampler_step(s, i);
        if (s->n == 0) return smolq__fail(err, SMOLQ_E_NUMERIC, "sampler step %d (%s) left no token", (int)i, smolq__step_ranges[s->steps[i].kind].name);
    }
    at = smolq__draw(s);
    *id = s->c[at].id;
    s->drawn = -1;
    if (s->n_steps && s->steps[s->n_steps - 1].kind == SMOLQ_SAMPLE_MIROSTAT2) {
        float best = s->c[0].logit, logit = s->c[at].logit;
        s->drawn = s->c[at].id;
        s->surprise = (smolq__ln(smolq__softmax(s)) - (logit - best)) / 0.693147181f;
    }
    return SMOLQ_OK;
}

static smolq_result smolq__sample(smolq_sampler *s, const float *logits, int32_t *id, smolq_error *err)
{
    int32_t i, finite = 0;
    s->n = s->n_sorted = 0;
    for (i = 0; i < s->n_vocab; i++) {
        finite |= smolq_is_finite(logits[i]);
        s->c[i].id = i;
        smolq__set_logit(s, i, logits[i]); /* +infinity becomes the greatest number */
    }
    if (!finite) return smolq__no_candidate(err, s->n_vocab);
    return smolq__sample_from(s, 0, id, err);
}

/* ---- logits that stay on a device: it finds the k best in the place of the first steps ---- */

/* How many of the first steps keep the k best of all logits, divided by a temperature or not, and do no more.  0: the chain begins otherwise.
 * A greater k than there are tokens keeps them in their own order, which is another sum, so it is not among these. */
static int32_t smolq__top_steps(const smolq_sampler *s, float *divide, int32_t *k)
{
    const smolq_sampler_step *step = s->steps;
    int32_t i = 0;
    *divide = 0;
    if (i < s->n_steps && step->kind == SMOLQ_SAMPLE_TEMPERATURE && step->a > 0) {
        *divide = step->a;
        step = &s->steps[++i];
    }
    if (i == s->n_steps) return 0;
    if (step->kind == SMOLQ_SAMPLE_TOP_K) *k = step->n;
    else *k = step->kind == SMOLQ_SAMPLE_GREEDY || (step->kind == SMOLQ_SAMPLE_TEMPERATURE && !(step->a > 0));
    return *k >= 1 && *k <= SMOLQ_TOP_MOST && *k <= s->n_vocab ? i + 1 : 0;
}

/* What to ask about the logits from which this sampler, or NULL, will draw; 0: it must see them all. */
static int smolq__ask_top(const smolq_sampler *s, smolq_top *top)
{
    top->n = 0;
    top->k = 1;
    top->divide = 0;
    return !s || smolq__top_steps(s, &top->divide, &top->k);
}

/* Draws from what came of it: the k best, or the logits. */
static smolq_result smolq__sample_top(smolq_sampler *s, const smolq_top *top, const float *logits, int32_t n_vocab, int32_t *id, smolq_error *err)
{
    float divide;
    int32_t i, k;
    if (top->n == 0) return smolq_sample(s, logits, n_vocab, id, err);
    if (!s) {
        *id = top->id[0];
        return SMOLQ_OK;
    }
    s->n = s->n_sorted = top->n;
    for (i = 0; i < top->n; i++) {
        s->c[i].id = top->id[i];
        s->c[i].logit = top->logit[i];
    }
    return smolq__sample_from(s, smolq__top_steps(s, &divide, &k), id, err);
}

SMOLQ_API smolq_result smolq_sample(smolq_sampler *sampler, const float *logits, int32_t n_vocab, int32_t *id, smolq_error *err)
{
    smolq_result result;
    if (!logits || !id) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_sample: logits or id is NULL");
    if (n_vocab < 1 || (sampler && n_vocab != sampler->n_vocab))
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_sample: n_vocab is %d, expected %d", (int)n_vocab, sampler ? (int)sampler->n_vocab : 1);
    if (!sampler) return smolq__greedy(logits, n_vocab, id, err);
    {
        SMOLQ__FP_STATE saved = smolq__fp_enter();
        result = smolq__sample(sampler, logits, id, err);
        smolq__fp_leave(saved);
    }
    return result;
}
