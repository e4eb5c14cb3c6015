/* Tests of quant.c, grids.h and float.h: every tensor type against golden data and against docs/formats.md, and the scalar arithmetic
 * against wider arithmetic. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic ignored "-Wunused-function" /* base.c serves other parts too */
#elif defined(__clang__)
#  pragma clang diagnostic ignored "-Wunused-function"
#endif
#include "../src/quant.c"
#include "test.h"
#include <math.h>

/*      id, weights and bytes of a block as published (the GGUF specification), to hold the table against */
static const struct { int32_t id; const char *name; int32_t weights, bytes; } published[] = {
    {  0, "f32", 1, 4 },       {  1, "f16", 1, 2 },       { 30, "bf16", 1, 2 },      {  2, "q4_0", 32, 18 },   {  3, "q4_1", 32, 20 },
    {  6, "q5_0", 32, 22 },    {  7, "q5_1", 32, 24 },    {  8, "q8_0", 32, 34 },    { 10, "q2_k", 256, 84 },  { 11, "q3_k", 256, 110 },
    { 12, "q4_k", 256, 144 },  { 13, "q5_k", 256, 176 },  { 14, "q6_k", 256, 210 },  { 16, "iq2_xxs", 256, 66 }, { 17, "iq2_xs", 256, 74 },
    { 18, "iq3_xxs", 256, 98 }, { 19, "iq1_s", 256, 50 }, { 20, "iq4_nl", 32, 18 },  { 21, "iq3_s", 256, 110 }, { 22, "iq2_s", 256, 82 },
    { 23, "iq4_xs", 256, 136 }, { 29, "iq1_m", 256, 56 }, { 34, "tq1_0", 256, 54 },  { 35, "tq2_0", 256, 66 }, { 39, "mxfp4", 32, 17 },
    { 40, "nvfp4", 64, 36 },   { 41, "q1_0", 128, 18 },   { 42, "q2_0", 64, 18 },
    { 24, "i8", 1, 1 },        { 25, "i16", 1, 2 },       { 26, "i32", 1, 4 },       { 27, "i64", 1, 8 },      { 28, "f64", 1, 8 },
};
enum { N_PUBLISHED = sizeof published / sizeof *published, N_UNPACKED = N_PUBLISHED - 5 };

static uint64_t fnv1a(const void *bytes, size_t n)
{
    const uint8_t *p = (const uint8_t *)bytes;
    uint64_t h = 0xcbf29ce484222325u;
    while (n--) h = (h ^ *p++) * 0x100000001b3u;
    return h;
}

static uint64_t random_state;
static uint32_t random32(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long n;
    if (!f) return NULL;
    if (!fseek(f, 0, SEEK_END) && (n = ftell(f)) >= 0 && !fseek(f, 0, SEEK_SET)) {
        data = (uint8_t *)calloc(1, (size_t)n + 1);
        if (data && fread(data, 1, (size_t)n, f) != (size_t)n) { free(data); data = NULL; }
        *size = (size_t)n;
    }
    fclose(f);
    return data;
}

/* ---- golden data ---- */

/* As much of a GGUF reader as the golden files need: pairs of type u32 or string, then tensors; finds `blocks` and `values`. */
typedef struct golden { uint8_t *file; const uint8_t *blocks, *values; size_t n; } golden;

static int golden_open(golden *g, const char *name)
{
    char path[128];
    const char *found, *k = strstr(name, "_k"); /* q4_k is q4_K there */
    size_t size = 0, at = 24, i, n_tensors, n_pairs, length, offset[3] = { 0, 0, 0 };
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "golden/dequant/%.*s%s.gguf", (int)(k ? k - name : 16), name, k ? "_K" : "");
    found = shared_path(path);
    if (!found || !(g->file = read_file(found, &size)) || size < 320) return 0;
    n_tensors = (size_t)smolq_u64_at(g->file + 8);
    n_pairs = (size_t)smolq_u64_at(g->file + 16);
    for (i = 0; i < n_pairs; i++) {
        at += 8 + (size_t)smolq_u64_at(g->file + at);
        at += smolq_u32_at(g->file + at) == 8 ? 12 + (size_t)smolq_u64_at(g->file + at + 4) : 8;
    }
    g->n = 16 * 1024;
    for (i = 0; i < n_tensors && i < 3; i++) {
        length = (size_t)smolq_u64_at(g->file + at);
        at += 8 + length + 4 + 2 * 8 + 4;
        offset[i] = (size_t)smolq_u64_at(g->file + at);
        at += 8;
    }
    at = (at + 31) / 32 * 32;
    g->blocks = g->file + at + offset[0];
    g->values = g->file + at + offset[1];
    return (size_t)(g->values - g->file) + g->n * 4 <= size;
}

static void golden_blocks_unpack_bit_for_bit(void)
{
    size_t t, i, files = 0;
    float *values = (float *)malloc(16 * 1024 * sizeof(float));
    for (t = 0; t < N_UNPACKED; t++) {
        golden g;
        smolq_error err;
        if (golden_open(&g, published[t].name)) {
            files++;
            memset(values, 0x55, g.n * 4);
            CHECK(!smolq_unpack(published[t].id, g.blocks, values, g.n, &err), "%s: %s", published[t].name, err.text);
            for (i = 0; i < g.n && smolq_bits(values[i]) == smolq_u32_at(g.values + i * 4); i++) {}
            CHECK(i == g.n, "%s: weight %d of row %d is %.9g, expected %.9g", published[t].name, (int)(i % 1024), (int)(i / 1024), (double)values[i],
                  (double)smolq_f32_at(g.values + i * 4));
        }
        free(g.file);
    }
    free(values);
    if (!files) SKIP("no ../shared/data/golden/dequant");
    REQUIRE(files == N_UNPACKED, "%d files of %d", (int)files, (int)N_UNPACKED);
}

/* What the integer form says a weight is, in f64, where nothing rounds: 11 + 16 bits, and a sum of f16 exponents at most 45 apart. */
static double from_ints(const smolq__ints *ints, int32_t weights, int32_t i)
{
    double value = (double)ints->d[i / (weights / ints->n_groups)] * ints->v[i];
    if (ints->n_mins) value += (double)ints->dmin * ints->mins[i / (weights / ints->n_mins)];
    return value;
}

static void check_ints(const smolq__type *type, const uint8_t *block, const float *values)
{
    smolq__ints ints;
    int32_t n = type->facts.block_weights, i;
    memset(&ints, 0x55, sizeof ints);
    type->ints(block, &ints);
    REQUIRE(ints.n_groups >= 1 && ints.n_groups <= 8 && n % ints.n_groups == 0, "%s: %d groups", type->facts.name, ints.n_groups);
    REQUIRE(ints.n_mins >= 0 && ints.n_mins <= 16, "%s: %d minimums", type->facts.name, ints.n_mins);
    for (i = 0; i < n; i++) {
        CHECK(ints.v[i] >= -8192 && ints.v[i] <= 8192, "%s: v[%d] is %d", type->facts.name, i, ints.v[i]);
        CHECK((float)from_ints(&ints, n, i) == values[i], "%s: weight %d is %.9g by its integers, %.9g unpacked", type->facts.name, i,
              from_ints(&ints, n, i), (double)values[i]);
    }
}

static void the_integer_form_says_the_same_as_unpacking(void)
{
    size_t t, files = 0;
    for (t = 3; t < N_UNPACKED; t++) {
        golden g;
        const smolq__type *type = smolq__type_of(published[t].id);
        REQUIRE(type && type->ints, "%s has no integer form", published[t].name);
        if (golden_open(&g, published[t].name)) {
            size_t b, n = g.n / (size_t)published[t].weights;
            float values[256];
            files++;
            for (b = 0; b < n; b++) {
                type->unpack(g.blocks + b * (size_t)published[t].bytes, values);
                check_ints(type, g.blocks + b * (size_t)published[t].bytes, values);
            }
        }
        free(g.file);
    }
    if (!files) SKIP("no ../shared/data/golden/dequant");
}

/* Random bits, with exponents of the scales kept finite by trying again: the integer form must agree, and no index may leave its table
 * (the sanitizer build sees that, on the blocks with infinite scales too). */
static void any_bits_are_a_block(void)
{
    size_t t;
    int trial, i, finite;
    random_state = 1;
    for (t = 3; t < N_UNPACKED; t++) {
        const smolq__type *type = smolq__type_of(published[t].id);
        for (trial = 0; trial < 300; trial++) {
            uint8_t block[256];
            float values[256];
            for (i = 0; i < published[t].bytes; i++) block[i] = (uint8_t)(trial == 0 ? 0xff : trial == 1 ? 0 : random32());
            type->unpack(block, values);
            for (finite = 1, i = 0; i < published[t].weights; i++) finite &= smolq_is_finite(values[i]);
            if (finite) check_ints(type, block, values);
            else {
                smolq__ints ints;
                type->ints(block, &ints);
            }
        }
    }
}

/* ---- the table and the public functions ---- */

static void the_table_has_the_published_sizes(void)
{
    size_t t;
    int32_t id, known = 0;
    for (t = 0; t < N_PUBLISHED; t++) {
        const smolq_type_facts *facts = smolq_type_info(published[t].id);
        REQUIRE(facts, "%s is unknown", published[t].name);
        CHECK(!strcmp(facts->name, published[t].name), "type %d is %s, expected %s", published[t].id, facts->name, published[t].name);
        CHECK(facts->block_weights == published[t].weights && facts->block_bytes == published[t].bytes, "%s: %d weights in %d bytes, expected %d in %d",
              facts->name, facts->block_weights, facts->block_bytes, published[t].weights, published[t].bytes);
        CHECK(smolq__type_of(published[t].id)->id == published[t].id, "row of %s", facts->name);
        CHECK(facts->group == (facts->block_weights == 1 ? 0 : facts->block_weights == 256 ? 256 : 32), "%s: group %d", facts->name, facts->group);
    }
    for (id = -3; id < 600; id++) known += smolq_type_info(id) != NULL;
    CHECK(known == N_PUBLISHED, "%d ids are known, expected %d", known, (int)N_PUBLISHED);
}

static void unpack_refuses_what_it_cannot_do(void)
{
    static const struct { int32_t type; size_t n; smolq_result result; const char *says; } cases[] = {
        { SMOLQ_TYPE_Q4_0, 31, SMOLQ_E_ARGUMENT, "31 weights of type q4_0, expected a multiple of 32" },
        { SMOLQ_TYPE_Q6_K, 128, SMOLQ_E_ARGUMENT, "multiple of 256" },
        { 4, 32, SMOLQ_E_ARGUMENT, "4 is not" },
        { -1, 32, SMOLQ_E_ARGUMENT, "-1 is not" },
        { 43, 32, SMOLQ_E_ARGUMENT, "43 is not" },
        { 26, 32, SMOLQ_E_UNSUPPORTED, "i32" },
    };
    uint8_t block[256] = { 0 };
    float values[256];
    smolq_error err;
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        smolq_result result;
        values[0] = 7;
        result = smolq_unpack(cases[i].type, block, values, cases[i].n, &err);
        CHECK(result == cases[i].result && err.code == result, "type %d gives %s", cases[i].type, smolq_result_name(result));
        CHECK(strstr(err.text, cases[i].says), "type %d says \"%s\"", cases[i].type, err.text);
        CHECK(values[0] == 7, "type %d: the output was touched", cases[i].type);
        CHECK(smolq_unpack(cases[i].type, block, values, cases[i].n, NULL) == cases[i].result, "type %d without an error", cases[i].type);
    }
    CHECK(smolq_unpack(SMOLQ_TYPE_F32, NULL, values, 1, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "blocks is NULL"), "%s", err.text);
    CHECK(smolq_unpack(SMOLQ_TYPE_F32, block, NULL, 1, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "values is NULL"), "%s", err.text);
    CHECK(!smolq_unpack(SMOLQ_TYPE_Q4_K, NULL, NULL, 0, &err), "no weights are fine");
}

/* ---- docs/formats.md ----
 * A section of a type is  ## NAME,  a line  id I, N weights in B bytes,  a fenced block "hex" with whole blocks and one "values" with what they
 * unpack to: all of them, or the first ones and "...", and then the hash of all. */

static const char *next_line(const char **at, char *line, size_t size)
{
    const char *end = strchr(*at, '\n');
    size_t n = end ? (size_t)(end - *at) : strlen(*at);
    if (!**at) return NULL;
    if (n >= size) n = size - 1;
    memcpy(line, *at, n);
    line[n] = 0;
    *at = end ? end + 1 : *at + strlen(*at);
    return line;
}

static void the_blocks_of_the_document_unpack_to_its_values(void)
{
    char line[1024], name[32] = "";
    uint8_t bytes[512];
    float values[256];
    size_t size, n_bytes = 0, n_listed = 0, n_done = 0, n_values = 0;
    const smolq__type *type = NULL;
    int fence = 0, seen[64] = { 0 }; /* fence: 0 none, 1 hex, 2 values, 3 another */
    char *text = (char *)read_file("docs/formats.md", &size);
    const char *at = text;
    REQUIRE(text, "docs/formats.md can't be read");
    while (next_line(&at, line, sizeof line)) {
        const char *p = line;
        if (!strncmp(line, "```", 3)) {
            fence = fence ? 0 : !strcmp(line, "```hex") ? 1 : !strcmp(line, "```values") ? 2 : 3;
            if (fence == 1) n_bytes = 0;
            if (fence == 2) {
                n_listed = 0;
                CHECK(type && n_bytes && n_bytes % (size_t)type->facts.block_bytes == 0, "%s: %d bytes in hex", name, (int)n_bytes);
                if (test_failed) break;
                n_values = n_bytes / (size_t)type->facts.block_bytes * (size_t)type->facts.block_weights;
                CHECK(n_values <= 256 && !smolq_unpack(type->id, bytes, values, n_values, NULL), "%s: %d weights", name, (int)n_values);
                if (test_failed) break;
            }
        } else if (fence == 1) {
            unsigned byte;
            for (; sscanf(p, " %2x", &byte) == 1 && n_bytes < sizeof bytes; bytes[n_bytes++] = (uint8_t)byte) p += *p == ' ' ? 3 : 2;
        } else if (fence == 2) {
            char *end;
            unsigned long long hash;
            if (sscanf(line, "fnv-1a %llx", &hash) == 1) {
                uint8_t raw[sizeof values];
                size_t i, j;
                for (i = 0; i < n_values; i++)
                    for (j = 0; j < 4; j++) raw[i * 4 + j] = (uint8_t)(smolq_bits(values[i]) >> j * 8);
                CHECK(fnv1a(raw, n_values * 4) == hash, "%s: the hash is %016llx, the document says %016llx", name,
                      (unsigned long long)fnv1a(raw, n_values * 4), hash);
                CHECK(n_listed >= 16 || n_listed == n_values, "%s: %d values listed", name, (int)n_listed);
                seen[type->id]++;
                n_done++;
            } else if (strcmp(line, "...")) {
                for (;; p = end) {
                    float value = strtof(p, &end);
                    if (end == p) break;
                    CHECK(n_listed < n_values && smolq_bits(value) == smolq_bits(values[n_listed]), "%s: weight %d is %.9g, the document says %.9g",
                          name, (int)n_listed, n_listed < n_values ? (double)values[n_listed] : 0.0, (double)value);
                    n_listed++;
                    if (test_failed) break;
                }
            }
        } else if (!fence) {
            int id, weights, block_bytes;
            if (sscanf(line, "## %31s", name) == 1) type = NULL;
            else if (sscanf(line, "id %d, %d weight%*[s ]in %d bytes", &id, &weights, &block_bytes) == 3) {
                size_t i;
                char lower[32];
                for (i = 0; i < sizeof lower; i++) lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
                type = smolq__type_of(id);
                CHECK(type && type->unpack && !strcmp(lower, type->facts.name), "%s has not the id %d", name, id);
                if (test_failed) break;
                CHECK(weights == type->facts.block_weights && block_bytes == type->facts.block_bytes, "%s: %d weights in %d bytes, expected %d in %d",
                      name, weights, block_bytes, type->facts.block_weights, type->facts.block_bytes);
            }
        }
    }
    free(text);
    REQUIRE(!test_failed, "see above");
    for (size = 0; size < N_UNPACKED; size++)
        CHECK(seen[published[size].id] == 1, "%s is drawn %d times", published[size].name, seen[published[size].id]);
    CHECK(n_done == N_UNPACKED, "%d types, expected %d", (int)n_done, (int)N_UNPACKED);
}

/* ---- float.h ---- */

/* The value of a half by its definition. */
static double half_value(uint32_t h)
{
    int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
    double value = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                 : exponent       ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -value : value;
}

static void f16_converts_both_ways(void)
{
    uint32_t h;
    long trial;
    for (h = 0; h < 65536; h++) {
        double expected = half_value(h);
        float value = smolq_f16_to_f32((uint16_t)h);
        if (expected != expected) {
            CHECK(value != value && (smolq_f32_to_f16(value) & 0x7c00) == 0x7c00 && (smolq_f32_to_f16(value) & 0x3ff), "%04x is no NaN", h);
            continue;
        }
        CHECK((double)value == expected && !signbit(value) == !(h & 0x8000), "%04x is %.9g, expected %.9g", h, (double)value, expected);
        CHECK(smolq_f32_to_f16(value) == h, "%04x comes back as %04x", h, smolq_f32_to_f16(value));
        if ((h & 0x7fff) < 0x7bff) { /* between h and the next: the tie goes to the even one, its neighbours to the nearer one */
            float next = smolq_f16_to_f32((uint16_t)(h + 1)), tie = (float)(((double)value + (double)next) / 2);
            uint32_t even = h & 1 ? h + 1 : h;
            CHECK(smolq_f32_to_f16(tie) == even, "the tie after %04x goes to %04x", h, smolq_f32_to_f16(tie));
            CHECK(smolq_f32_to_f16(smolq_from_bits(smolq_bits(tie) - 1)) == h, "just below the tie after %04x", h);
            CHECK(smolq_f32_to_f16(smolq_from_bits(smolq_bits(tie) + 1)) == h + 1, "just above the tie after %04x", h);
        }
    }
    CHECK(smolq_f32_to_f16(65519.996f) == 0x7bff && smolq_f32_to_f16(65520.0f) == 0x7c00 && smolq_f32_to_f16(-1e30f) == 0xfc00, "overflow");
    CHECK(smolq_f32_to_f16(ldexpf(1, -25)) == 0 && smolq_f32_to_f16(ldexpf(1.5f, -25)) == 1 && smolq_f32_to_f16(1e-40f) == 0, "underflow");
    random_state = 2;
    for (trial = 0; trial < 1000000; trial++) { /* nearest: no other half is closer */
        float x = smolq_from_bits(random32());
        double error, other;
        h = smolq_f32_to_f16(x);
        if (x != x || fabsf(x) >= 65504.0f) continue;
        error = fabs(half_value(h) - (double)x);
        other = fabs(half_value(h + 1) - (double)x);
        CHECK(error < other || (error == other && h % 2 == 0), "%.9g goes to %04x", (double)x, h);
        if (h & 0x7fff) other = fabs(half_value(h - 1) - (double)x);
        CHECK(error < other || (error == other && h % 2 == 0), "%.9g goes to %04x", (double)x, h);
    }
}

static void small_floats_convert(void)
{
    uint32_t i;
    for (i = 0; i < 65536; i++) CHECK(smolq_bits(smolq_bf16_to_f32((uint16_t)i)) == i << 16, "bf16 %04x", i);
    for (i = 0; i < 256; i++) {
        double s = i == 0x7f ? 0 : (i >> 3 & 15) ? ldexp(8 + (i & 7), (int)(i >> 3 & 15) - 10) : ldexp(i & 7, -9);
        CHECK((double)smolq_e8m0_half((uint8_t)i) == ldexp(1, (int)i - 128), "e8m0 %02x", i);
        CHECK((double)smolq_ue4m3_to_f32((uint8_t)i) == s, "e4m3 %02x is %g, expected %g", i, (double)smolq_ue4m3_to_f32((uint8_t)i), s);
    }
    for (i = 0; i < 128; i++) {
        uint32_t signs = smolq_even_signs(i), ones = 0, j;
        for (j = 0; j < 8; j++) ones += signs >> j & 1;
        CHECK((signs & 127) == i && ones % 2 == 0 && signs < 256, "signs %02x become %02x", i, signs);
        CHECK(smolq_even_signs(i | 0xffffff80u) == signs, "signs %02x: bits above the seventh count", i);
    }
}

/* fma by integers: product and addend as 62-bit significands; of the smaller one, what is shifted out is kept as one sticky bit. */
static float exact_fma(float a, float b, float c)
{
    int ea, eb, ec, sp, sc, e, shift, bits;
    uint64_t ma, mb, mc, p, sum, rest;
    uint32_t ua = smolq_bits(a), ub = smolq_bits(b), uc = smolq_bits(c);
    int s;
    if (!smolq_is_finite(a) || !smolq_is_finite(b) || !smolq_is_finite(c)) return (float)((double)a * (double)b + (double)c);
    ea = (int)(ua >> 23 & 255); ma = (ua & 0x7fffff) | (ea ? 0x800000 : 0); ea = (ea ? ea : 1) - 150;
    eb = (int)(ub >> 23 & 255); mb = (ub & 0x7fffff) | (eb ? 0x800000 : 0); eb = (eb ? eb : 1) - 150;
    ec = (int)(uc >> 23 & 255); mc = (uc & 0x7fffff) | (ec ? 0x800000 : 0); ec = (ec ? ec : 1) - 150;
    sp = (int)((ua ^ ub) >> 31); sc = (int)(uc >> 31);
    p = ma * mb; e = ea + eb;
    if (p == 0 || mc == 0) {
        if (p == 0 && mc == 0) return smolq_from_bits(sp && sc ? 0x80000000u : 0);
        if (p == 0) return c;
        s = sp; sum = p;
    } else {
        while (p < (uint64_t)1 << 61) { p <<= 1; e--; }    /* both to bit 61, so that a difference keeps room below */
        while (mc < (uint64_t)1 << 61) { mc <<= 1; ec--; }
        if (e < ec || (e == ec && p < mc)) { uint64_t m = p; int x = e; p = mc; mc = m; e = ec; ec = x; x = sp; sp = sc; sc = x; }
        shift = e - ec;
        rest = shift >= 64 ? mc : shift ? mc << (64 - shift) : 0;
        mc = shift >= 64 ? 0 : mc >> shift;
        s = sp;
        /* What was shifted out makes the sum odd.  It can be nonzero only if the shift is 14 or more (products have 48 bits), so no cancellation
         * brings that bit up to where rounding is decided. */
        if (sp == sc) sum = (p + mc) | (rest != 0);
        else sum = rest ? (p - mc - 1) | 1 : p - mc;
        if (sum == 0) return 0.0f;
    }
    for (bits = 0; bits < 64 && sum >> bits; bits++) {}
    shift = bits - 24;                          /* keep 24 bits, fewer below the normal range */
    if (e + shift < -149) shift = -149 - e;
    if (shift > 0) {
        uint64_t kept = shift >= 64 ? 0 : sum >> shift, lost = shift >= 64 ? sum : sum & (((uint64_t)1 << shift) - 1);
        uint64_t half = shift > 64 ? 0 : (uint64_t)1 << (shift - 1);
        if (shift > 64) kept = 0;
        else if (lost > half || (lost == half && (kept & 1))) kept++;
        return (float)ldexp(s ? -(double)kept : (double)kept, e + shift);
    }
    return (float)ldexp(s ? -(double)sum : (double)sum, e);
}

static void check_fma(float a, float b, float c)
{
    float got = smolq_fma(a, b, c), expected = exact_fma(a, b, c);
    CHECK((got != got && expected != expected) || smolq_bits(got) == smolq_bits(expected), "fma(%a, %a, %a) is %a, expected %a", (double)a,
          (double)b, (double)c, (double)got, (double)expected);
}

static float random_float(int low, int high) /* exponents low..high */
{
    float significand = (float)((random32() >> 8) | 0x800000) * (random32() & 1 ? 1.0f : -1.0f);
    return ldexpf(significand, low + (int)(random32() % (uint32_t)(high - low + 1)) - 23);
}

static void fma_rounds_once(void)
{
    static const float odd[] = { 0.0f, -0.0f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN, 3.4028235e38f, -3.4028235e38f,
                                 1.1754944e-38f, 1e-45f, -1e-45f, 1.1754942e-38f, 2.0f, 0.5f };
    enum { N = sizeof odd / sizeof *odd };
    long trial;
    int i, j, k;
    for (i = 0; i < N; i++)
        for (j = 0; j < N; j++)
            for (k = 0; k < N; k++) check_fma(odd[i], odd[j], odd[k]);
    random_state = 3;
    for (trial = 0; trial < 1500000; trial++) {
        float a = random_float(-20, 20), b = random_float(-20, 20), c;
        check_fma(a, b, random_float(-60, 60));
        check_fma(smolq_from_bits(random32()), smolq_from_bits(random32()), smolq_from_bits(random32()));
        check_fma(a, ldexpf(b, -60), random_float(-149, -70));                    /* subnormal results */
        check_fma(ldexpf(a, -50), ldexpf(b, -85), random_float(-149, -110));
        c = ldexpf(1, (int)(random32() % 40));                                    /* a * b half an ulp of c, and a hair off it */
        check_fma(c, ldexpf(1, -24), random_float(0, 0) * c);
        k = 1 + (int)(random32() % 4);                                            /* so little off it that a double does not see it */
        check_fma(c * (1 + ldexpf((float)k, -23)), ldexpf(1 - ldexpf((float)k, -23), -24), random_float(0, 0) * c);
        check_fma(c * (1 + ldexpf(1, -12)), ldexpf(1 - ldexpf(1, -12) + ldexpf(1, -24), -24), random_float(0, 0) * c);
        check_fma(ldexpf(1 + ldexpf((float)k, -23), -70), ldexpf(1 - ldexpf((float)k, -23), -80), random_float(-149, -127));
        check_fma(ldexpf(1 + ldexpf(1, -12), -70), ldexpf(1 - ldexpf(1, -12) + ldexpf(1, -24), -80), random_float(-149, -127));
        check_fma(a, b, -a * b);                                                  /* cancellation leaves the error of the product */
        check_fma(ldexpf((float)(random32() % 4096 * 2 + 1), -75), ldexpf((float)(random32() % 4096 * 2 + 1), -75),
                  ldexpf((float)(random32() % 64), -149));                        /* halves of the least subnormal */
        check_fma(ldexpf(a, 70), ldexpf(b, 57), random_float(100, 127));          /* overflow */
    }
}

static void products_are_not_contracted(void)
{
    volatile float a = 1.0f + ldexpf(1, -12), rounded_a = 1.0f + ldexpf(1, -11); /* a * a is rounded_a + 2^-24, a tie that goes to rounded_a */
    volatile double b = 1.0 + ldexp(1, -27), rounded_b = 1.0 + ldexp(1, -26);
    CHECK(smolq_mul(a, a) - rounded_a == 0.0f, "smolq_mul feeds a sum unrounded");
    CHECK(smolq_fma(a, a, -rounded_a) == ldexpf(1, -24), "smolq_fma rounds twice");
    CHECK(smolq_mul64(b, b) - rounded_b == 0.0, "smolq_mul64 feeds a sum unrounded");
}

static void exp_is_close_and_ends_cleanly(void)
{
    double worst = 0, at = 0;
    uint64_t hash = 0xcbf29ce484222325u;
    uint32_t u;
    int pass;
    for (pass = 0; pass < 2; pass++) /* every 97th float from 2^-30 to 88, then from -2^-30 to -87.3 */
        for (u = 0x30800000u; u <= (pass ? 0x42ae999au : 0x42b00000u); u += 97) {
            float x = smolq_from_bits(u | (pass ? 0x80000000u : 0));
            double expected = (double)expl((long double)x), error = fabs((double)smolq_exp(x) - expected) / expected;
            if (error > worst) { worst = error; at = (double)x; }
            hash = (hash ^ smolq_bits(smolq_exp(x))) * 0x100000001b3u;
        }
    CHECK(worst <= 1e-7, "the relative error is %.3g at %.9g", worst, at);
    CHECK(hash == 0x963dba1c841e5aceu, "some result has other bits than canonical arithmetic: hash %016llx", (unsigned long long)hash);
    CHECK(smolq_exp(0.0f) == 1.0f && smolq_exp(-0.0f) == 1.0f && smolq_exp(1e-30f) == 1.0f, "exp(0) is %.9g", (double)smolq_exp(0.0f));
    CHECK(smolq_exp(-87.3f) >= 1.1754944e-38f, "exp(-87.3) is subnormal");
    CHECK(smolq_bits(smolq_exp(-87.31f)) == 0 && smolq_bits(smolq_exp(-1e30f)) == 0 && smolq_bits(smolq_exp(-INFINITY)) == 0, "far below");
    CHECK(smolq_exp(88.0f) == smolq_exp(1000.0f) && smolq_exp(INFINITY) == smolq_exp(88.0f) && smolq_is_finite(smolq_exp(INFINITY)), "far above");
    CHECK(smolq_exp(NAN) != smolq_exp(NAN), "exp(NaN) is a number");
    CHECK(smolq_silu(0.0f) == 0.0f && fabsf(smolq_silu(1.0f) - 0.731058579f) < 1e-7f, "silu near zero");
    CHECK(fabsf(smolq_silu(-100.0f)) < 1e-30f && smolq_silu(100.0f) == 100.0f, "silu far out");
}

static void rne_rounds_ties_to_even(void)
{
    long i;
    for (i = -70000; i <= 70000; i++) {
        CHECK(smolq_rne((float)i) == i, "%ld", i);
        CHECK(smolq_rne((float)i + 0.5f) == (i % 2 == 0 ? i : i + 1), "%ld and a half is %d", i, smolq_rne((float)i + 0.5f));
        CHECK(smolq_rne((float)i + 0.25f) == i && smolq_rne((float)i + 0.75f) == i + 1, "quarters of %ld", i);
    }
    CHECK(smolq_rne(4194303.0f) == 4194303 && smolq_rne(-4194303.0f) == -4194303 && smolq_rne(-0.0f) == 0 && smolq_rne(0.49999997f) == 0, "ends");
}

static void fold_adds_lanes_in_halves(void)
{
    float lane[16], expected;
    int i;
    for (i = 0; i < 16; i++) lane[i] = ldexpf(1.0f + (float)i, i * 2);
    expected = lane[0];
    {
        float a[8], b[4], c[2];
        for (i = 0; i < 8; i++) a[i] = lane[i] + lane[i + 8];
        for (i = 0; i < 4; i++) b[i] = a[i] + a[i + 4];
        for (i = 0; i < 2; i++) c[i] = b[i] + b[i + 2];
        expected = c[0] + c[1];
    }
    CHECK(smolq_fold(lane, 16) == expected, "another order");
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "quant: the table has the published sizes", the_table_has_the_published_sizes },
        { "quant: golden blocks unpack bit for bit", golden_blocks_unpack_bit_for_bit },
        { "quant: the integer form says the same as unpacking", the_integer_form_says_the_same_as_unpacking },
        { "quant: any bits are a block", any_bits_are_a_block },
        { "quant: unpack refuses what it cannot do", unpack_refuses_what_it_cannot_do },
        { "quant: the blocks of docs/formats.md unpack to its values", the_blocks_of_the_document_unpack_to_its_values },
        { "float: f16 converts both ways", f16_converts_both_ways },
        { "float: small floats and signs convert", small_floats_convert },
        { "float: fma rounds once", fma_rounds_once },
        { "float: products are not contracted", products_are_not_contracted },
        { "float: exp is close and ends cleanly", exp_is_close_and_ends_cleanly },
        { "float: rne rounds ties to even", rne_rounds_ties_to_even },
        { "float: fold adds lanes in halves", fold_adds_lanes_in_halves },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
