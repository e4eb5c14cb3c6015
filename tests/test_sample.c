/* Tests of sample.c: small distributions worked out by hand, every step against a naive version in double, draws against chi-square. */
#include "test.h"
#include "../src/sample.c"
#include <math.h>

/* An allocator that counts, and fails from its `fail`-th allocation on. */
typedef struct counter { int calls, live, fail; } counter;
static void *counted_alloc(void *user, size_t bytes)
{
    counter *c = (counter *)user;
    if (++c->calls == c->fail) return NULL;
    c->live++;
    return malloc(bytes);
}
static void counted_release(void *user, void *memory, size_t bytes)
{
    (void)bytes;
    ((counter *)user)->live--;
    free(memory);
}
static counter count;

static smolq_sampler_step step_of(int32_t kind, int32_t n, double a, double b, double c)
{
    smolq_sampler_step s;
    memset(&s, 0, sizeof s);
    s.kind = kind;
    s.n = n;
    s.a = (float)a;
    s.b = (float)b;
    s.c = (float)c;
    return s;
}

static smolq_sampler *open_chain(int32_t n_vocab, const smolq_sampler_step *steps, uint32_t n_steps, uint64_t seed)
{
    smolq_sampler_options o;
    smolq_sampler *s = NULL;
    smolq_error err;
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    o.steps = steps;
    o.n_steps = n_steps;
    o.seed = seed;
    o.allocator.alloc = counted_alloc;
    o.allocator.release = counted_release;
    o.allocator.user = &count;
    if (smolq_sampler_open(n_vocab, &o, &s, &err)) printf("%s\n", err.text);
    return s;
}

/* Which tokens a chain leaves, as text "3 1 7": best first unless by_id. */
static const char *kept(const float *logits, int32_t n, const smolq_sampler_step *steps, uint32_t n_steps)
{
    static char text[4096];
    smolq_sampler *s = open_chain(n, steps, n_steps, 1);
    int32_t id, i;
    size_t used = 0;
    text[0] = 0;
    if (!s) return "no sampler";
    if (smolq_sample(s, logits, n, &id, NULL) == SMOLQ_OK) {
        s->n_sorted = 0;
        smolq__sort(s, s->n);
        for (i = 0; i < s->n && used < sizeof text - 16; i++) used += (size_t)sprintf(text + used, "%s%d", i ? " " : "", (int)s->c[i].id);
    }
    smolq_sampler_close(s);
    return text;
}
static const char *kept1(const float *logits, int32_t n, smolq_sampler_step step) { return kept(logits, n, &step, 1); }

/* ---- random numbers ---- */

/* kat_vectors of Random123 1.14, philox4x32 10: counter, key, result */
static void philox_gives_the_published_vectors(void)
{
    static const uint32_t rows[3][10] = {
        { 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
        { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
        { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 },
    };
    uint32_t out[4];
    int i;
    for (i = 0; i < 3; i++) {
        smolq__philox(rows[i], rows[i] + 4, out);
        CHECK(memcmp(out, rows[i] + 6, 16) == 0, "vector %d: %08x %08x %08x %08x", i, out[0], out[1], out[2], out[3]);
    }
}

static void seed_position_and_draw_enter_the_random_number(void)
{
    uint32_t counter[4] = { 0x55667788u, 0x11223344u, 3, 0 }, key[2] = { 0xddeeff00u, 0x99aabbccu }, out[4];
    smolq__philox(counter, key, out);
    CHECK(smolq__random(0x99aabbccddeeff00u, 0x1122334455667788u, 3) == ((uint64_t)out[1] << 32 | out[0]), "other word order");
    CHECK(smolq__mul_high(UINT64_MAX, UINT64_MAX) == UINT64_MAX - 1, "high half of the square of 2^64-1");
    CHECK(smolq__mul_high(UINT64_C(0x123456789abcdef0), UINT64_C(0x0fedcba987654321)) == UINT64_C(0x0121fa00ad77d742), "high half, computed with Python");
}

static void the_logarithm_is_exact_to_a_float(void)
{
    uint32_t i;
    double worst = 0;
    for (i = 0; i < 200000; i++) {
        float x = smolq_from_bits(0x00800000u + i * 10600u);
        double exact = log((double)x), error = fabs(smolq__ln(x) - exact) / (fabs(exact) + 1e-30);
        if (exact == 0 || !smolq_is_finite(x)) continue;
        if (error > worst) worst = error;
    }
    CHECK(worst < 6.1e-8, "relative error %g", worst);
    CHECK(smolq__ln(1.0f) == 0.0f, "ln 1 is %g", (double)smolq__ln(1.0f));
    CHECK(smolq__power(1.75f, 5) == 1.75f * 1.75f * 1.75f * 1.75f * 1.75f && smolq__power(3, 0) == 1, "powers");
}

/* ---- by hand ---- */

/* probabilities 0.1 0.4 0.05 0.25 0.2, shifted by 3 */
static const float five[] = { -2.302585f + 3, -0.916291f + 3, -2.995732f + 3, -1.386294f + 3, -1.609438f + 3 };

static void steps_keep_what_the_hand_computes(void)
{
    static const struct { const char *want; int32_t kind, n; double a, b; } rows[] = {
        { "1", SMOLQ_SAMPLE_GREEDY, 0, 0, 0 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_TEMPERATURE, 0, 1, 0 },
        { "1", SMOLQ_SAMPLE_TEMPERATURE, 0, 0, 0 },
        { "1", SMOLQ_SAMPLE_TEMPERATURE, 0, -1, 0 },
        { "1", SMOLQ_SAMPLE_TEMPERATURE, 0, 1e-39, 0 },
        { "1 3", SMOLQ_SAMPLE_TOP_K, 2, 0, 0 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_TOP_K, 0, 0, 0 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_TOP_K, 2147483647, 0, 0 },
        { "1 3", SMOLQ_SAMPLE_TOP_P, 0, 0.6, 0 },
        { "1 3 4", SMOLQ_SAMPLE_TOP_P, 0, 0.7, 0 },
        { "1", SMOLQ_SAMPLE_TOP_P, 0, 0, 0 },
        { "1 3 4", SMOLQ_SAMPLE_TOP_P, 3, 0.1, 0 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_TOP_P, 0, 1, 0 },
        { "1 3 4", SMOLQ_SAMPLE_MIN_P, 0, 0.45, 0 },
        { "1", SMOLQ_SAMPLE_MIN_P, 0, 0.7, 0 },
        { "1 3 4 0", SMOLQ_SAMPLE_MIN_P, 4, 0.7, 0 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_MIN_P, 0, 0, 0 },
        /* entropy 1.415; surprises 2.303 0.916 2.996 1.386 1.609: nearest is 3, then 4, then 1, then 0 */
        { "3", SMOLQ_SAMPLE_TYPICAL, 0, 0.2, 0 },
        { "3 4", SMOLQ_SAMPLE_TYPICAL, 0, 0.4, 0 },
        { "1 3 4", SMOLQ_SAMPLE_TYPICAL, 0, 0.5, 0 },
        { "1 3 4 0", SMOLQ_SAMPLE_TYPICAL, 0, 0.9, 0 },
        { "3 4", SMOLQ_SAMPLE_TYPICAL, 2, 0, 0 },
        { "4 0 2", SMOLQ_SAMPLE_XTC, 0, 1, 0.15 },
        { "3 4 0 2", SMOLQ_SAMPLE_XTC, 0, 1, 0.22 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_XTC, 0, 1, 0.3 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_XTC, 0, 0, 0.15 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_XTC, 4, 1, 0.15 },
        { "1 3 4 0 2", SMOLQ_SAMPLE_XTC, 0, 1, 0.51 },
    };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *got = kept1(five, 5, step_of(rows[i].kind, rows[i].n, rows[i].a, rows[i].b, 0));
        CHECK(strcmp(got, rows[i].want) == 0, "%s n %d a %g b %g keeps [%s], expected [%s]", smolq__step_ranges[rows[i].kind].name, (int)rows[i].n, rows[i].a, rows[i].b, got, rows[i].want);
    }
}

static float logit_of(const smolq_sampler *s, int32_t id)
{
    int32_t i;
    for (i = 0; i < s->n; i++)
        if (s->c[i].id == id) return s->c[i].logit;
    return -1e9f;
}

static void penalties_count_the_last_tokens(void)
{
    static const float logits[] = { 2, -2, 4, 1, 0 };
    smolq_sampler_step step = step_of(SMOLQ_SAMPLE_PENALTIES, 4, 2, 0.25, 0.5);
    smolq_sampler *s = open_chain(5, &step, 1, 1);
    int32_t id, i;
    static const int32_t history[] = { 3, 0, 1, 0, -7 }; /* 3 is older than the last four; -7 is no token but has its place */
    REQUIRE(s, "open");
    for (i = 0; i < 5; i++) smolq_sampler_accept(s, history[i]);
    REQUIRE(smolq_sample(s, logits, 5, &id, NULL) == SMOLQ_OK, "sample");
    CHECK(logit_of(s, 0) == 2 / 2.0f - 2 * 0.25f - 0.5f, "token 0: %g", (double)logit_of(s, 0));
    CHECK(logit_of(s, 1) == -2 * 2.0f - 0.25f - 0.5f, "token 1: %g", (double)logit_of(s, 1));
    CHECK(logit_of(s, 2) == 4 && logit_of(s, 3) == 1 && logit_of(s, 4) == 0, "unpenalized tokens moved");
    for (i = 0; i < 5; i++) CHECK(s->mark[i] == 0, "mark %d is left at %g", (int)i, (double)s->mark[i]);
    smolq_sampler_reset(s, 1, 0);
    smolq_sample(s, logits, 5, &id, NULL);
    CHECK(logit_of(s, 0) == 2, "reset kept history");
    smolq_sampler_close(s);
}

/* The example that llama.cpp gives: a b c c b c y a b c; then c would make 4, y 3, b 2 in a row. */
static void dry_penalizes_what_would_go_on_repeating(void)
{
    static const int32_t history[] = { 0, 1, 2, 2, 1, 2, 3, 0, 1, 2 };
    static const float logits[5] = { 0, 0, 0, 0, 0 };
    static const struct { double allowed; int32_t last, breaker; float want[5]; } rows[] = {
        { 2, 100, -1, { 0, 0, -1.5f * 2, 0 - 1.5f, 0 } },         /* c: r 3, y: r 2, b: r 1 is allowed */
        { 1, 100, -1, { 0, -1.5f, -1.5f * 4, -1.5f * 2, 0 } },
        { 2, 100, 1, { 0, 0, 0, 0, 0 } },                          /* b breaks: only "c" can be compared */
        { 1, 100, 1, { 0, 0, -1.5f, -1.5f, 0 } },                  /* r is cut to 1; b itself is not penalized */
        { 2, 6, -1, { 0, 0, 0, -1.5f, 0 } },                       /* of b c y a b c: y has r 2 */
        { 2, 0, -1, { 0, 0, 0, 0, 0 } },
    };
    size_t k;
    for (k = 0; k < sizeof rows / sizeof *rows; k++) {
        smolq_sampler_step step = step_of(SMOLQ_SAMPLE_DRY, rows[k].last, 1.5, 2, rows[k].allowed);
        smolq_sampler *s;
        int32_t id, i;
        step.data = &rows[k].breaker;
        step.n_data = rows[k].breaker >= 0;
        s = open_chain(5, &step, 1, 1);
        REQUIRE(s, "open");
        for (i = 0; i < 10; i++) smolq_sampler_accept(s, history[i]);
        smolq_sample(s, logits, 5, &id, NULL);
        for (i = 0; i < 5; i++) CHECK(logit_of(s, i) == rows[k].want[i], "row %d token %d: %g, expected %g", (int)k, (int)i, (double)logit_of(s, i), (double)rows[k].want[i]);
        for (i = 0; i < 5; i++) CHECK(s->mark[i] == 0, "mark %d is left", (int)i);
        smolq_sampler_close(s);
    }
}

static void biases_add_up_and_ban(void)
{
    static const float logits[] = { 1, 2, 3 };
    smolq_logit_bias bias[] = { { 0, 1.5f }, { 2, -INFINITY }, { 0, 1.0f } };
    smolq_sampler_step step = step_of(SMOLQ_SAMPLE_LOGIT_BIAS, 3, 0, 0, 0);
    smolq_sampler *s;
    smolq_error err;
    int32_t id = 7;
    step.data = bias;
    CHECK(strcmp(kept1(logits, 3, step), "0 1") == 0, "keeps [%s]", kept1(logits, 3, step));
    s = open_chain(3, &step, 1, 1);
    bias[0].bias = bias[2].bias = 0; /* the sampler has its own copy */
    smolq_sample(s, logits, 3, &id, NULL);
    CHECK(logit_of(s, 0) == 3.5f, "token 0: %g", (double)logit_of(s, 0));
    smolq_sampler_close(s);
    bias[0].bias = bias[2].bias = -INFINITY;
    bias[2].id = 1;
    s = open_chain(3, &step, 1, 1);
    id = 7;
    CHECK(smolq_sample(s, logits, 3, &id, &err) == SMOLQ_E_NUMERIC && id == 7, "all banned");
    CHECK(strstr(err.text, "LOGIT_BIAS"), "says %s", err.text);
    smolq_sampler_close(s);
}

/* ---- against a naive version in double ---- */

static uint32_t noise_state;
static double noise(void) /* xorshift */
{
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 17;
    noise_state ^= noise_state << 5;
    return noise_state / 4294967296.0;
}

enum { N = 1000 };
typedef struct naive { int id; double logit, p, key; } naive;
static naive list[N];
static int n_list;

static int by_logit(const void *a, const void *b)
{
    const naive *x = (const naive *)a, *y = (const naive *)b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id - y->id;
}
static int by_key(const void *a, const void *b)
{
    const naive *x = (const naive *)a, *y = (const naive *)b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : by_logit(a, b);
}
static void naive_softmax(void)
{
    double sum = 0;
    int i;
    qsort(list, (size_t)n_list, sizeof *list, by_logit);
    for (i = 0; i < n_list; i++) sum += list[i].p = exp(list[i].logit - list[0].logit);
    for (i = 0; i < n_list; i++) list[i].p /= sum;
}
static void naive_step(const smolq_sampler_step *s)
{
    double sum = 0, entropy = 0;
    int i, n = 0;
    naive_softmax();
    switch (s->kind) {
        case SMOLQ_SAMPLE_GREEDY: n_list = 1; break;
        case SMOLQ_SAMPLE_TEMPERATURE: for (i = 0; i < n_list; i++) list[i].logit /= s->a; break;
        case SMOLQ_SAMPLE_TOP_K: if (s->n > 0 && s->n < n_list) n_list = s->n; break;
        case SMOLQ_SAMPLE_TOP_P:
            while (n < n_list && s->a < 1 && (sum < s->a || n < s->n)) sum += list[n++].p;
            if (s->a < 1) n_list = n;
            break;
        case SMOLQ_SAMPLE_MIN_P:
            while (n < n_list && (list[n].p >= s->a * list[0].p || n < s->n)) n++;
            n_list = n;
            break;
        case SMOLQ_SAMPLE_TYPICAL:
            for (i = 0; i < n_list; i++) entropy -= list[i].p * log(list[i].p);
            for (i = 0; i < n_list; i++) list[i].key = fabs(-log(list[i].p) - entropy);
            qsort(list, (size_t)n_list, sizeof *list, by_key);
            while (n < n_list && (sum < s->a || n < s->n)) sum += list[n++].p;
            n_list = n;
            break;
        default: /* XTC that always acts */
            while (n < n_list && list[n].p >= s->b) n++;
            if (n > 1 && n_list - (n - 1) >= s->n) {
                memmove(list, list + n - 1, (size_t)(n_list - n + 1) * sizeof *list);
                n_list -= n - 1;
            }
            break;
    }
}

static void random_chains_keep_what_the_naive_version_keeps(void)
{
    static float logits[N];
    int round, i, j, checked = 0;
    noise_state = 12345;
    for (round = 0; round < 3000; round++) {
        smolq_sampler_step chain[4];
        int n_steps = 1 + round % 4;
        double width = 0.5 + 12 * noise();
        smolq_sampler *s;
        int32_t id;
        for (i = 0; i < N; i++) logits[i] = (float)(width * (noise() + noise() + noise() - 1.5));
        if (round % 7 == 0) for (i = 0; i < N; i++) logits[i] = floorf(logits[i]); /* many ties */
        for (i = 0; i < n_steps; i++) {
            static const int32_t kinds[] = { SMOLQ_SAMPLE_TEMPERATURE, SMOLQ_SAMPLE_TOP_K, SMOLQ_SAMPLE_TOP_P, SMOLQ_SAMPLE_MIN_P, SMOLQ_SAMPLE_TYPICAL, SMOLQ_SAMPLE_XTC, SMOLQ_SAMPLE_GREEDY };
            int32_t kind = kinds[(int)(noise() * 6.2)];
            if (round % 7 == 0 && (kind == SMOLQ_SAMPLE_TYPICAL || kind == SMOLQ_SAMPLE_TOP_P || kind == SMOLQ_SAMPLE_TEMPERATURE)) kind = SMOLQ_SAMPLE_TOP_K; /* ties at a border of mass are decided by rounding */
            double a = 0.01 + 0.98 * noise(), b = 0.3 * noise();
            chain[i] = step_of(kind, i, kind == SMOLQ_SAMPLE_TEMPERATURE ? 0.4 + a : a, b, 0);
            if (kind == SMOLQ_SAMPLE_TOP_K) chain[i].n = 1 + (int32_t)(noise() * noise() * 1100);
            if (kind == SMOLQ_SAMPLE_XTC) chain[i].a = 1;
        }
        n_list = N;
        for (i = 0; i < N; i++) list[i].id = i, list[i].logit = logits[i];
        for (i = 0; i < n_steps; i++) naive_step(&chain[i]);
        naive_softmax();
        s = open_chain(N, chain, (uint32_t)n_steps, 5);
        REQUIRE(s && smolq_sample(s, logits, N, &id, NULL) == SMOLQ_OK, "round %d", round);
        smolq__softmax(s);
        s->n_sorted = 0;
        smolq__sort(s, N);
        if (abs(s->n - n_list) <= 1 && s->n != n_list && n_list > 60) { smolq_sampler_close(s); continue; } /* a border of mass within rounding */
        CHECK(s->n == n_list, "round %d keeps %d, expected %d (last step %s)", round, (int)s->n, n_list, smolq__step_ranges[chain[n_steps - 1].kind].name);
        for (j = 0; j < n_list && j < s->n; j++) {
            CHECK(s->c[j].id == list[j].id, "round %d rank %d: token %d, expected %d", round, j, (int)s->c[j].id, list[j].id);
            CHECK(fabs(s->c[j].p - list[j].p) <= (1e-5 + 3e-7 * fabs(list[j].logit)) * list[j].p + 1e-9, "round %d rank %d: p %g, expected %g", round, j, (double)s->c[j].p, list[j].p);
        }
        checked++;
        smolq_sampler_close(s);
    }
    CHECK(checked > 2900, "only %d of 3000 rounds were sharp", checked);
}

static void penalties_and_dry_agree_with_the_naive_version(void)
{
    enum { V = 20 };
    float logits[V];
    int round, i, j;
    noise_state = 99;
    for (round = 0; round < 2000; round++) {
        int32_t history[200], id, n_history = (int32_t)(noise() * 200), last = (int32_t)(noise() * 150), allowed = (int32_t)(noise() * 4), breaker = (int32_t)(noise() * V);
        int alphabet = 1 + (int)(noise() * noise() * V), n_last = last < n_history ? last : n_history;
        double want[V];
        smolq_sampler_step chain[2];
        smolq_sampler *s;
        chain[0] = step_of(SMOLQ_SAMPLE_PENALTIES, last, 1.3, 0.1, 0.2);
        chain[1] = step_of(SMOLQ_SAMPLE_DRY, last, 0.8, 1.25, allowed);
        chain[1].data = &breaker;
        chain[1].n_data = round & 1;
        s = open_chain(V, chain, 2, 1);
        REQUIRE(s, "open");
        for (i = 0; i < n_history; i++) smolq_sampler_accept(s, history[i] = (int32_t)(noise() * alphabet));
        for (i = 0; i < V; i++) {
            int seen = 0, longest = -1, stop = 0;
            want[i] = logits[i] = (float)(8 * noise() - 4);
            for (j = 0; j < n_last; j++) seen += history[n_history - 1 - j] == i;
            if (seen) want[i] = (want[i] > 0 ? want[i] / 1.3f : want[i] * 1.3f) - seen * (double)0.1f - 0.2f;
            while (stop < n_last && !((round & 1) && history[n_history - 1 - stop] == breaker)) stop++;
            for (j = 1; j < n_last; j++) { /* token i stood after the text that ends j back */
                int r = 0;
                if (history[n_history - j] != i || ((round & 1) && i == breaker)) continue;
                while (r < stop && j + r < n_last && history[n_history - 1 - r] == history[n_history - 1 - j - r]) r++;
                if (r > longest) longest = r;
            }
            if (longest >= allowed && n_last > allowed) want[i] -= (double)0.8f * pow(1.25, longest - allowed) < 1e30 ? (double)0.8f * pow(1.25, longest - allowed) : 1e30;
        }
        REQUIRE(smolq_sample(s, logits, V, &id, NULL) == SMOLQ_OK, "sample");
        for (i = 0; i < V; i++)
            CHECK(fabs(logit_of(s, i) - want[i]) <= 1e-5 * fabs(want[i]) + 1e-5, "round %d token %d: %.9g, expected %.9g (allowed %d, last %d)", round, i, (double)logit_of(s, i), want[i], (int)allowed, n_last);
        smolq_sampler_close(s);
    }
}

/* ---- draws ---- */

static void draws_follow_the_probabilities(void)
{
    static const double p[] = { 0.1, 0.4, 0.05, 0.25, 0.2 };
    smolq_sampler *s = open_chain(5, (const smolq_sampler_step *)p, 0, 42); /* an empty chain */
    int seen[5] = { 0 }, i, total = 100000;
    double chi = 0;
    int32_t id;
    REQUIRE(s, "open");
    for (i = 0; i < total; i++) {
        smolq_sample(s, five, 5, &id, NULL);
        seen[id]++;
        smolq_sampler_accept(s, id);
    }
    for (i = 0; i < 5; i++) chi += (seen[i] - p[i] * total) * (seen[i] - p[i] * total) / (p[i] * total);
    CHECK(chi < 18.5, "chi-square %g: above 18.47 once in a thousand", chi); /* 4 degrees of freedom */
    smolq_sampler_close(s);
}

static void xtc_acts_as_often_as_asked(void)
{
    smolq_sampler_step step = step_of(SMOLQ_SAMPLE_XTC, 0, 0.3, 0.15, 0);
    smolq_sampler *s = open_chain(5, &step, 1, 7);
    int acted = 0, i;
    int32_t id;
    for (i = 0; i < 20000; i++) {
        smolq_sample(s, five, 5, &id, NULL);
        acted += s->n == 3;
        smolq_sampler_accept(s, id);
    }
    CHECK(abs(acted - 6000) < 200, "%d of 20000, expected 6000 with a deviation of 65", acted);
    smolq_sampler_close(s);
}

static void a_draw_depends_on_seed_and_position_alone(void)
{
    static float logits[N];
    smolq_sampler *a, *b;
    int32_t ids[50], id, other, again, i, same = 0;
    noise_state = 4;
    for (i = 0; i < N; i++) logits[i] = (float)(6 * noise());
    a = open_chain(N, NULL, 0, 11);
    b = open_chain(N, NULL, 0, 12);
    REQUIRE(a && b, "open");
    for (i = 0; i < 50; i++) {
        smolq_sample(a, logits, N, &ids[i], NULL);
        smolq_sample(a, logits, N, &again, NULL);
        CHECK(again == ids[i], "position %d drawn twice: %d and %d", (int)i, (int)ids[i], (int)again);
        smolq_sample(b, logits, N, &other, NULL);
        same += other == ids[i];
        smolq_sampler_accept(a, ids[i]);
        smolq_sampler_accept(b, 0);
    }
    CHECK(same < 25, "seeds 11 and 12 agree at %d of 50 positions", (int)same);
    for (i = 49; i >= 0; i--) {
        smolq_sampler_reset(b, 11, (uint64_t)i);
        smolq_sample(b, logits, N, &id, NULL);
        CHECK(id == ids[i], "replayed position %d: %d, expected %d", (int)i, (int)id, (int)ids[i]);
    }
    smolq_sampler_reset(b, 11, (uint64_t)1 << 40);
    CHECK(smolq_sample(b, logits, N, &id, NULL) == SMOLQ_OK, "a far position");
    smolq_sampler_close(a);
    smolq_sampler_close(b);
}

/* These are the bits of every machine: noise, exp, sums, draws.  A change here breaks replays. */
static void draws_are_the_same_on_every_machine(void)
{
    static float logits[N];
    static const int32_t want[8] = { 273, 459, 529, 472, 780, 399, 211, 405 };
    smolq_sampler *s = open_chain(N, NULL, 0, 2026);
    int32_t id, i;
    noise_state = 77;
    for (i = 0; i < N; i++) logits[i] = (float)(noise_state = noise_state * 1664525u + 1013904223u) * (1.0f / 268435456.0f);
    for (i = 0; i < 8; i++) {
        smolq_sample(s, logits, N, &id, NULL);
        CHECK(id == want[i], "draw %d: %d, expected %d", (int)i, (int)id, (int)want[i]);
        smolq_sampler_accept(s, id);
    }
    smolq_sampler_close(s);
}

static void mirostat_keeps_the_surprise_near_tau(void)
{
    static float logits[N];
    smolq_sampler_step step = step_of(SMOLQ_SAMPLE_MIROSTAT2, 0, 4, 0.1, 0);
    smolq_sampler *s = open_chain(N, &step, 1, 3);
    double sum = 0;
    float mu[20], before;
    int32_t ids[20], id, i;
    REQUIRE(s, "open");
    for (i = 0; i < N; i++) logits[i] = -1.1f * logf((float)(i + 1)); /* Zipf */
    CHECK(s->mu == 8, "mu begins at %g", (double)s->mu);
    for (i = 0; i < 2000; i++) {
        smolq_sample(s, logits, N, &id, NULL);
        if (i < 20) mu[i] = s->mu, ids[i] = id;
        if (i >= 200) sum += s->surprise;
        smolq_sampler_accept(s, id);
    }
    CHECK(fabs(sum / 1800 - 4) < 0.05, "mean surprise %g, expected 4", sum / 1800);
    smolq_sampler_reset(s, 3, 0);
    for (i = 0; i < 20; i++) { /* an exact replay, whatever else was asked in between */
        smolq_sample(s, logits, N, &id, NULL);
        smolq_sample(s, logits, N, &id, NULL);
        CHECK(id == ids[i] && s->mu == mu[i], "replay at %d", (int)i);
        smolq_sampler_accept(s, id);
    }
    before = s->mu;
    smolq_sampler_accept(s, 1);
    CHECK(s->mu == before, "a token that was not drawn moved mu");
    smolq_sampler_close(s);
}

/* ---- edges ---- */

static void greedy_without_a_sampler(void)
{
    static const float ties[] = { 1, 3, 3, 2 }, bad[] = { NAN, -INFINITY, NAN }, mixed[] = { NAN, -INFINITY, -5, NAN }, infinite[] = { 1, INFINITY, 2 };
    smolq_error err;
    int32_t id = 9, before = count.calls;
    CHECK(smolq_sample(NULL, ties, 4, &id, &err) == SMOLQ_OK && id == 1, "ties: %d", (int)id);
    CHECK(smolq_sample(NULL, mixed, 4, &id, &err) == SMOLQ_OK && id == 2, "one number: %d", (int)id);
    CHECK(smolq_sample(NULL, infinite, 3, &id, &err) == SMOLQ_OK && id == 1, "infinity: %d", (int)id);
    id = 9;
    CHECK(smolq_sample(NULL, bad, 3, &id, &err) == SMOLQ_E_NUMERIC && id == 9, "no number: %d", (int)id);
    CHECK(smolq_sample(NULL, ties, 0, &id, &err) == SMOLQ_E_ARGUMENT, "no logits");
    CHECK(smolq_sample(NULL, NULL, 4, &id, &err) == SMOLQ_E_ARGUMENT, "NULL");
    CHECK(count.calls == before, "it allocated");
}

static void hostile_logits_are_no_trouble(void)
{
    static const float values[] = { NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 0, -0.0f, 1e-45f, 1, -1 };
    smolq_sampler_step all[8];
    smolq_sampler *s;
    float logits[6];
    int32_t id, i, round;
    all[0] = step_of(SMOLQ_SAMPLE_PENALTIES, 8, 0.001, -1e6, 1e6);
    all[1] = step_of(SMOLQ_SAMPLE_DRY, 8, 1e6, 1e6, 0);
    all[2] = step_of(SMOLQ_SAMPLE_TEMPERATURE, 0, 1e-3, 0, 0);
    all[3] = step_of(SMOLQ_SAMPLE_TYPICAL, 2, 0.9, 0, 0);
    all[4] = step_of(SMOLQ_SAMPLE_XTC, 1, 0.5, 0, 0);
    all[5] = step_of(SMOLQ_SAMPLE_TOP_P, 1, 0.9, 0, 0);
    all[6] = step_of(SMOLQ_SAMPLE_MIN_P, 1, 0.1, 0, 0);
    all[7] = step_of(SMOLQ_SAMPLE_MIROSTAT2, 0, 0, 1e6, 0);
    s = open_chain(6, all, 8, 1);
    REQUIRE(s, "open");
    noise_state = 5;
    for (round = 0; round < 20000; round++) {
        smolq_result result;
        int finite = 0;
        for (i = 0; i < 6; i++) {
            logits[i] = values[(int)(noise() * 10)];
            finite |= smolq_is_finite(logits[i]);
        }
        id = -1;
        result = smolq_sample(s, logits, 6, &id, NULL);
        CHECK(finite || result == SMOLQ_E_NUMERIC, "round %d: no finite logit, result %d", (int)round, (int)result);
        CHECK(result == SMOLQ_E_NUMERIC || (result == SMOLQ_OK && id >= 0 && id < 6 && logits[id] > -INFINITY), "round %d: result %d, token %d", (int)round, (int)result, (int)id);
        CHECK(!finite || result == SMOLQ_OK, "round %d: refused", (int)round);
        smolq_sampler_accept(s, round % 9 == 0 ? 1 << 30 : id);
    }
    smolq_sampler_close(s);
}

static void a_vocabulary_of_one_token_works(void)
{
    float logit = -3;
    int32_t id = 5;
    smolq_sampler *s = open_chain(1, NULL, 0, 1);
    CHECK(s && smolq_sample(s, &logit, 1, &id, NULL) == SMOLQ_OK && id == 0, "token %d", (int)id);
    CHECK(smolq_sample(s, &logit, 2, &id, NULL) == SMOLQ_E_ARGUMENT, "another n_vocab");
    logit = NAN;
    CHECK(smolq_sample(s, &logit, 1, &id, NULL) == SMOLQ_E_NUMERIC, "NaN alone");
    smolq_sampler_close(s);
    smolq_sampler_close(NULL);
}

static void bad_options_are_named(void)
{
    static const smolq_logit_bias far_bias = { 5, 1 }, nan_bias = { 0, NAN };
    static const int32_t far_breaker = -1;
    struct { smolq_sampler_step step; const char *says; } rows[17];
    smolq_sampler_options o;
    smolq_error err;
    int i, n = 0;
    memset(rows, 0, sizeof rows);
    rows[n].step = step_of(99, 0, 0, 0, 0); rows[n++].says = "kind 99";
    rows[n].step = step_of(-1, 0, 0, 0, 0); rows[n++].says = "kind -1";
    rows[n].step = step_of(SMOLQ_SAMPLE_TEMPERATURE, 0, NAN, 0, 0); rows[n++].says = "TEMPERATURE";
    rows[n].step = step_of(SMOLQ_SAMPLE_TEMPERATURE, 0, INFINITY, 0, 0); rows[n++].says = "TEMPERATURE";
    rows[n].step = step_of(SMOLQ_SAMPLE_TOP_K, -1, 0, 0, 0); rows[n++].says = "n is -1";
    rows[n].step = step_of(SMOLQ_SAMPLE_TOP_P, 0, 95, 0, 0); rows[n++].says = "a is 95, expected 0..1";
    rows[n].step = step_of(SMOLQ_SAMPLE_MIN_P, -5, 0.5, 0, 0); rows[n++].says = "n is -5";
    rows[n].step = step_of(SMOLQ_SAMPLE_TYPICAL, 0, NAN, 0, 0); rows[n++].says = "TYPICAL";
    rows[n].step = step_of(SMOLQ_SAMPLE_PENALTIES, 1 << 30, 1, 0, 0); rows[n++].says = "PENALTIES";
    rows[n].step = step_of(SMOLQ_SAMPLE_PENALTIES, 8, 1, 0, NAN); rows[n++].says = "c is";
    rows[n].step = step_of(SMOLQ_SAMPLE_DRY, 8, 1, 0.5, 0); rows[n++].says = "b is 0.5";
    rows[n].step = step_of(SMOLQ_SAMPLE_DRY, 8, 1, 2, 0); rows[n].step.data = &far_breaker; rows[n].step.n_data = 1; rows[n++].says = "breaker 0 is token -1";
    rows[n].step = step_of(SMOLQ_SAMPLE_XTC, 0, 1, 2, 0); rows[n++].says = "XTC";
    rows[n].step = step_of(SMOLQ_SAMPLE_MIROSTAT2, 0, NAN, 0, 0); rows[n++].says = "MIROSTAT2";
    rows[n].step = step_of(SMOLQ_SAMPLE_LOGIT_BIAS, 1, 0, 0, 0); rows[n++].says = "data is NULL";
    rows[n].step = step_of(SMOLQ_SAMPLE_LOGIT_BIAS, 1, 0, 0, 0); rows[n].step.data = &far_bias; rows[n++].says = "token 5";
    rows[n].step = step_of(SMOLQ_SAMPLE_LOGIT_BIAS, 1, 0, 0, 0); rows[n].step.data = &nan_bias; rows[n++].says = "entry 0 adds";
    for (i = 0; i < n; i++) {
        smolq_sampler *s = (smolq_sampler *)&o; /* any value: must stay */
        memset(&o, 0, sizeof o);
        o.steps = &rows[i].step;
        o.n_steps = 1;
        CHECK(smolq_sampler_open(5, &o, &s, &err) == SMOLQ_E_ARGUMENT && s == (smolq_sampler *)&o, "row %d (%s) was accepted", i, rows[i].says);
        CHECK(strstr(err.text, rows[i].says), "row %d: '%s' does not say '%s'", i, err.text, rows[i].says);
    }
    {
        smolq_sampler_step two[2];
        smolq_sampler *s = NULL;
        two[0] = step_of(SMOLQ_SAMPLE_MIROSTAT2, 0, 5, 0.1, 0);
        two[1] = step_of(SMOLQ_SAMPLE_GREEDY, 0, 0, 0, 0);
        memset(&o, 0, sizeof o);
        o.steps = two;
        o.n_steps = 2;
        CHECK(smolq_sampler_open(5, &o, &s, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "last"), "mirostat before the end");
        o.steps = NULL;
        CHECK(smolq_sampler_open(5, &o, &s, &err) == SMOLQ_E_ARGUMENT, "steps at NULL");
        CHECK(smolq_sampler_open(0, NULL, &s, &err) == SMOLQ_E_ARGUMENT, "no vocabulary");
        CHECK(smolq_sampler_open(1 << 30, NULL, &s, NULL) == SMOLQ_E_ARGUMENT, "a vocabulary of 2^30");
    }
}

static void sampling_allocates_nothing_and_failures_leak_nothing(void)
{
    static float logits[N];
    static const smolq_logit_bias bias = { 3, 1 };
    static const int32_t breaker = 2;
    smolq_sampler_step all[4];
    int32_t id, i, calls, fail;
    smolq_sampler *s;
    all[0] = step_of(SMOLQ_SAMPLE_LOGIT_BIAS, 1, 0, 0, 0);
    all[0].data = &bias;
    all[1] = step_of(SMOLQ_SAMPLE_DRY, 64, 0.8, 1.75, 2);
    all[1].data = &breaker;
    all[1].n_data = 1;
    all[2] = step_of(SMOLQ_SAMPLE_PENALTIES, 64, 1.1, 0, 0);
    all[3] = step_of(SMOLQ_SAMPLE_TOP_P, 0, 0.9, 0, 0);
    memset(&count, 0, sizeof count);
    s = open_chain(N, all, 4, 1);
    calls = count.calls;
    for (i = 0; i < 200; i++) {
        smolq_sample(s, logits, N, &id, NULL);
        smolq_sampler_accept(s, id);
    }
    CHECK(count.calls == calls, "%d allocations while sampling", count.calls - calls);
    smolq_sampler_close(s);
    CHECK(count.live == 0, "%d pieces left", count.live);
    for (fail = 1; fail <= calls; fail++) {
        smolq_sampler_options o;
        smolq_error err;
        memset(&o, 0, sizeof o);
        memset(&count, 0, sizeof count);
        count.fail = fail;
        o.steps = all;
        o.n_steps = 4;
        o.allocator.alloc = counted_alloc;
        o.allocator.release = counted_release;
        o.allocator.user = &count;
        s = NULL;
        CHECK(smolq_sampler_open(N, &o, &s, &err) == SMOLQ_E_MEMORY && !s && count.live == 0, "allocation %d of %d failing: %d pieces left", (int)fail, (int)calls, count.live);
    }
    memset(&count, 0, sizeof count);
}

/* ---- a device that finds the k best ---- */

/* What it answers: all quotients that are numbers, sorted; nothing where there are fewer than k, or an infinite one. */
static void answer(smolq_top *top, const float *logits)
{
    int32_t i;
    n_list = 0;
    for (i = 0; i < N; i++) {
        float quotient = top->divide != 0 ? logits[i] / top->divide : logits[i];
        if (!(quotient >= -SMOLQ__FLOAT_MAX)) continue;
        list[n_list].id = i;
        list[n_list++].logit = quotient;
    }
    qsort(list, (size_t)n_list, sizeof *list, by_logit);
    if (n_list < top->k || !(list[0].logit <= SMOLQ__FLOAT_MAX)) return;
    top->n = top->k;
    for (i = 0; i < top->n; i++) {
        top->id[i] = list[i].id;
        top->logit[i] = (float)list[i].logit;
    }
}

/* Logits with ties, NaN and infinities go the whole chain, or stay on a device that answers: the candidates at the end and the draw have the same bits. */
static void what_a_device_finds_gives_the_same_draw(void)
{
    static const smolq_logit_bias bias[] = { { 3, 2 }, { 500, -1 } };
    static float logits[N];
    static smolq_top top;
    int round, i, asked = 0, answered = 0;
    noise_state = 777;
    for (round = 0; round < 4000; round++) {
        static const float temperatures[] = { 0.7f, 3.3f, 1.7f, 0, -1, 1e-38f, 2e38f, 1 };
        smolq_sampler_step chain[5];
        uint32_t n_steps = 0, rest = (uint32_t)(noise() * 4);
        smolq_sampler *s[2];
        int32_t id[2] = { -1, -1 };
        for (i = 0; i < N; i++) logits[i] = (float)(10 * (noise() + noise() + noise() - 1.5));
        if (round % 3 == 0) for (i = 0; i < N; i++) logits[i] = floorf(logits[i] * 2);
        if (round % 3 == 1) for (i = 0; i < N; i++) logits[i] = smolq_from_bits((round % 2 ? 0x41200000u : 0x41780000u) + (uint32_t)(noise() * 200)); /* neighbors, whose quotients are often equal */
        if (round % 5 == 0) for (i = 0; i < N; i++) if (noise() < (round % 2 ? 0.99 : 0.3)) logits[i] = noise() < 0.5 ? -INFINITY : NAN;
        if (round % 11 == 0) logits[(int)(noise() * N)] = INFINITY;
        if (noise() < 0.7) chain[n_steps++] = step_of(SMOLQ_SAMPLE_TEMPERATURE, 0, temperatures[(int)(noise() * 8)], 0, 0);
        if (noise() < 0.9) chain[n_steps++] = noise() < 0.1 ? step_of(SMOLQ_SAMPLE_GREEDY, 0, 0, 0, 0) : step_of(SMOLQ_SAMPLE_TOP_K, (int32_t)(noise() * (noise() < 0.1 ? 1100 : 300)), 0, 0, 0);
        for (; rest > 0 && n_steps < 4; rest--) {
            chain[n_steps] = step_of((int32_t)(noise() * SMOLQ_SAMPLE_COUNT), 0, 0.1 + 0.8 * noise(), 0, 0);
            if (chain[n_steps].kind == SMOLQ_SAMPLE_MIROSTAT2) chain[n_steps].kind = SMOLQ_SAMPLE_TOP_P;
            if (chain[n_steps].kind == SMOLQ_SAMPLE_TOP_K) chain[n_steps].n = 10;
            if (chain[n_steps].kind == SMOLQ_SAMPLE_XTC) chain[n_steps].b = 0.05f;
            if (chain[n_steps].kind == SMOLQ_SAMPLE_PENALTIES || chain[n_steps].kind == SMOLQ_SAMPLE_DRY) chain[n_steps].n = 20, chain[n_steps].a = chain[n_steps].b = 1.5f;
            if (chain[n_steps].kind == SMOLQ_SAMPLE_LOGIT_BIAS) chain[n_steps].n = 2, chain[n_steps].data = bias;
            n_steps++;
        }
        if (noise() < 0.2) chain[n_steps++] = step_of(SMOLQ_SAMPLE_MIROSTAT2, 0, 3, 0.2, 0);
        for (i = 0; i < 2; i++) {
            int k;
            smolq_error err = { 0, "" };
            smolq_result result;
            s[i] = open_chain(N, chain, n_steps, (uint64_t)round);
            REQUIRE(s[i] != NULL, "round %d", round);
            for (k = 0; k < 30; k++) smolq_sampler_accept(s[i], k * k % 7 * 40 % N);
            if (i == 0) result = smolq_sample(s[i], logits, N, &id[i], &err);
            else {
                if (smolq__ask_top(s[i], &top)) {
                    asked++;
                    answer(&top, logits);
                    answered += top.n > 0;
                }
                result = smolq__sample_top(s[i], &top, logits, N, &id[i], &err);
            }
            CHECK(result == SMOLQ_OK || result == SMOLQ_E_NUMERIC, "round %d: %s", round, err.text);
        }
        CHECK(id[0] == id[1] && s[0]->n == s[1]->n && s[0]->drawn == s[1]->drawn && memcmp(&s[0]->surprise, &s[1]->surprise, sizeof(float)) == 0,
              "round %d, first step %s: token %d of %d candidates, expected %d of %d", round, n_steps ? smolq__step_ranges[chain[0].kind].name : "-", (int)id[1], (int)s[1]->n, (int)id[0], (int)s[0]->n);
        for (i = 0; i < s[0]->n && i < s[1]->n; i++)
            CHECK(s[0]->c[i].id == s[1]->c[i].id && s[0]->c[i].logit == s[1]->c[i].logit && s[0]->c[i].p == s[1]->c[i].p, "round %d, candidate %d: token %d, expected %d", round, i,
                  (int)s[1]->c[i].id, (int)s[0]->c[i].id);
        for (i = 0; i < 2; i++) smolq_sampler_close(s[i]);
    }
    CHECK(asked > 2000 && answered > 1500, "of 4000 rounds %d asked, %d answered", asked, answered);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "sample: Philox gives the published vectors", philox_gives_the_published_vectors },
        { "sample: seed, position and draw enter the random number", seed_position_and_draw_enter_the_random_number },
        { "sample: the logarithm is exact to a float", the_logarithm_is_exact_to_a_float },
        { "sample: steps keep what the hand computes", steps_keep_what_the_hand_computes },
        { "sample: penalties count the last tokens", penalties_count_the_last_tokens },
        { "sample: DRY penalizes what would go on repeating", dry_penalizes_what_would_go_on_repeating },
        { "sample: biases add up and ban", biases_add_up_and_ban },
        { "sample: random chains keep what a naive version keeps", random_chains_keep_what_the_naive_version_keeps },
        { "sample: penalties and DRY agree with a naive version", penalties_and_dry_agree_with_the_naive_version },
        { "sample: draws follow the probabilities", draws_follow_the_probabilities },
        { "sample: XTC acts as often as asked", xtc_acts_as_often_as_asked },
        { "sample: a draw depends on seed and position alone", a_draw_depends_on_seed_and_position_alone },
        { "sample: draws are the same on every machine", draws_are_the_same_on_every_machine },
        { "sample: mirostat keeps the surprise near tau", mirostat_keeps_the_surprise_near_tau },
        { "sample: greedy without a sampler", greedy_without_a_sampler },
        { "sample: hostile logits are no trouble", hostile_logits_are_no_trouble },
        { "sample: what a device finds gives the same draw", what_a_device_finds_gives_the_same_draw },
        { "sample: a vocabulary of one token works", a_vocabulary_of_one_token_works },
        { "sample: bad options are named", bad_options_are_named },
        { "sample: sampling allocates nothing, failures leak nothing", sampling_allocates_nothing_and_failures_leak_nothing },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
