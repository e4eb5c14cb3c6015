/* Tests of pack.c: the bits of each type against levels.h, the errors of its search against the golden blocks, and what it refuses. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic ignored "-Wunused-function" /* base.c serves other parts too */
#elif defined(__clang__)
#  pragma clang diagnostic ignored "-Wunused-function"
#endif
#include "../src/gguf.c"
#include "../src/pack.c"
#include "test.h"
#include <math.h>

enum { N_PACKED = sizeof smolq__packings / sizeof *smolq__packings, N_BOOKS = sizeof smolq__books / sizeof *smolq__books, N_SEARCHED = N_PACKED + N_BOOKS, ROW = 1024 };
static int32_t searched(size_t t) { return t < N_PACKED ? smolq__packings[t].id : smolq__books[t - N_PACKED].id; }

static uint32_t random_state = 1;
static uint32_t random_bits(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}
static float gaussian(void) /* nearly: a sum of six */
{
    float sum = -3;
    int i;
    for (i = 0; i < 6; i++) sum += (float)random_bits() / 16777216.0f;
    return sum;
}

/* sum importance (x - y)^2, y what a row of blocks unpacks to. */
static double error_of(int32_t type, const void *blocks, const float *x, const float *importance, size_t n)
{
    float y[ROW];
    double sum = 0;
    smolq_error err;
    size_t i;
    if (smolq_unpack(type, blocks, y, n, &err)) return -1;
    for (i = 0; i < n; i++) sum += (importance ? (double)importance[i] : 1.0) * ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

static void levels_come_back_from_their_bits(void)
{
    size_t t;
    int round, i;
    for (t = 0; t < N_PACKED; t++) {
        const smolq__packing *p = &smolq__packings[t];
        const smolq__type *type = smolq__type_of(p->id);
        int32_t n = type->facts.block_weights;
        for (round = 0; round < 50; round++) {
            smolq__levels l, back;
            uint8_t block[256];
            memset(&l, 0, sizeof l);
            memset(&back, 0, sizeof back);
            memset(block, 0x55, sizeof block);
            l.d[0] = p->search == smolq__search_power ? smolq_e8m0_half((uint8_t)(random_bits() % 255)) : (float)smolq__as_f16((double)gaussian());
            l.dmin = (float)smolq__as_f16((double)gaussian());
            for (i = 0; i < n; i++) l.q[i] = p->ladder.values ? p->ladder.values[random_bits() % 16] : (int8_t)(p->ladder.lo + (int32_t)(random_bits() % (uint32_t)(p->ladder.hi - p->ladder.lo + 1)));
            for (i = 0; i < p->n_runs; i++) {
                l.scale[i] = (int8_t)(p->scale_lo + (int32_t)(random_bits() % (uint32_t)(p->scale_hi - p->scale_lo + 1)));
                l.least[i] = (uint8_t)(random_bits() % (uint32_t)(p->least_hi + 1));
            }
            p->bits(&l, block);
            type->levels(block, &back);
            REQUIRE(memcmp(l.q, back.q, (size_t)n) == 0, "%s: the levels", type->facts.name);
            REQUIRE(l.d[0] == back.d[0], "%s: d is %g, it was %g", type->facts.name, (double)back.d[0], (double)l.d[0]);
            REQUIRE(p->n_runs == 1 || memcmp(l.scale, back.scale, (size_t)p->n_runs) == 0, "%s: the scales", type->facts.name);
            REQUIRE(p->least_hi == 0 || memcmp(l.least, back.least, (size_t)p->n_runs) == 0, "%s: the minimums", type->facts.name);
            REQUIRE(!back.has_least || l.dmin == back.dmin, "%s: dmin", type->facts.name);
            REQUIRE(block[type->facts.block_bytes] == 0x55, "%s: bytes beyond the block", type->facts.name);
        }
    }
}

/* The same of types with codebooks: what a choice says is what is unpacked. */
static void choices_come_back_from_their_bits(void)
{
    size_t t;
    int round, i, j;
    for (t = 0; t < N_BOOKS; t++) {
        const smolq__book *b = &smolq__books[t];
        const smolq__type *type = smolq__type_of(b->id);
        int is_iq1 = smolq__has_shift(b), n_runs = 256 / b->run;
        for (round = 0; round < 50; round++) {
            smolq__book_choice c;
            smolq__levels back;
            uint8_t block[256];
            memset(&c, 0, sizeof c);
            memset(&back, 0, sizeof back);
            memset(block, 0x55, sizeof block);
            c.d = (float)smolq__as_f16((double)gaussian());
            for (i = 0; i < n_runs; i++) c.s[i] = (uint8_t)(random_bits() % (uint32_t)(b->top + 1));
            for (i = 0; i < 256 / b->length; i++) c.entry[i] = (uint16_t)(random_bits() % (uint32_t)b->n_entries);
            for (i = 0; i < 32; i++) {
                c.signs[i] = (uint8_t)(is_iq1 ? random_bits() & 1 : random_bits() & 255);
                if (b->signs == SMOLQ__EVEN_SIGNS) c.signs[i] = (uint8_t)smolq_even_signs(c.signs[i]);
                if (b->signs == SMOLQ__SHIFT_OF_RUN) c.signs[i] = c.signs[i / 4 * 4];
            }
            b->bits(&c, block);
            type->levels(block, &back);
            REQUIRE(back.d[0] == c.d * (float)b->unit && back.n_runs == n_runs, "%s: d is %g, it was %g", type->facts.name, (double)back.d[0], (double)c.d);
            for (i = 0; i < n_runs; i++) REQUIRE(back.scale[i] == 2 * c.s[i] + 1, "%s: scale %d", type->facts.name, i);
            for (i = 0; i < 256; i++) {
                int32_t v = b->values[b->entries[c.entry[i / b->length]] >> i % b->length * b->code_bits & ((1 << b->code_bits) - 1)];
                j = is_iq1 ? v + (c.signs[i / 8] ? -1 : 1) : c.signs[i / 8] >> i % 8 & 1 ? -v : v;
                REQUIRE(back.q[i] == j, "%s: weight %d is %d, it was %d", type->facts.name, i, back.q[i], j);
            }
            REQUIRE(block[type->facts.block_bytes] == 0x55, "%s: bytes beyond the block", type->facts.name);
        }
    }
}

/* Error by row over that of the golden blocks: the geometric mean at most 1.005, each at most 1.05 (of squared errors here, which asks for more). */
static void errors_are_no_larger_than_those_of_the_golden_blocks(void)
{
    static const int32_t floats[] = { SMOLQ_TYPE_F16, SMOLQ_TYPE_BF16 };
    size_t t, files = 0;
    for (t = 0; t < N_SEARCHED + 2; t++) {
        int32_t id = t < N_SEARCHED ? searched(t) : floats[t - N_SEARCHED];
        const smolq_type_facts *facts = smolq_type_info(id);
        const char *k = strstr(facts->name, "_k"), *path;
        size_t row_bytes = (size_t)(ROW / facts->block_weights * facts->block_bytes), row, n = 0, i;
        smolq_tensor_info golden, source;
        smolq_gguf *file = NULL;
        smolq_error err;
        double sum_of_logs = 0, largest = 0;
        char name[64];
        snprintf(name, sizeof name, "golden/dequant/%.*s%s.gguf", (int)(k ? k - facts->name : 16), facts->name, k ? "_K" : "");
        if (!(path = shared_path(name))) continue;
        files++;
        REQUIRE(!smolq_gguf_open(path, NULL, &file, &err), "%s", err.text);
        REQUIRE(!smolq_gguf_find_tensor(file, "blocks", &golden, &err) && !smolq_gguf_find_tensor(file, "source", &source, &err), "%s", err.text);
        for (row = 0; row < 16; row++) {
            uint8_t blocks[ROW * 4];
            float x[ROW];
            double ours, theirs;
            for (i = 0; i < ROW; i++) x[i] = smolq_f32_at(source.data + (row * ROW + i) * 4);
            CHECK(!smolq_pack(id, x, NULL, blocks, ROW, &err), "%s: %s", facts->name, err.text);
            ours = error_of(id, blocks, x, NULL, ROW);
            theirs = error_of(id, golden.data + row * row_bytes, x, NULL, ROW);
            if (theirs > 0 && ours > 0) {
                sum_of_logs += log(ours / theirs);
                if (ours > largest * theirs) largest = ours / theirs;
                n++;
            }
            CHECK(ours <= theirs * 1.05, "%s, row %d: squared error %g, of the golden blocks %g", facts->name, (int)row, ours, theirs);
        }
        printf("     %-8s root mean square over that of the golden blocks: %.3f, at most %.3f\n", facts->name, n ? exp(sum_of_logs / (double)n / 2) : 0, sqrt(largest));
        CHECK(n > 0 && sum_of_logs / (double)n <= log(1.005), "%s: mean ratio of squared errors %.4f", facts->name, exp(sum_of_logs / (double)n));
        smolq_gguf_close(file);
    }
    if (!files) SKIP("no ../shared/data/golden/dequant");
    CHECK(files == N_SEARCHED + 2, "%d files of %d", (int)files, (int)N_SEARCHED + 2);
}

static void importance_lowers_the_error_that_it_weighs(void)
{
    static float x[ROW], importance[ROW];
    static uint8_t with[ROW * 4], without[ROW * 4];
    size_t t, i;
    smolq_error err;
    for (i = 0; i < ROW; i++) {
        x[i] = gaussian() * 0.02f;
        importance[i] = (float)exp((double)gaussian() * 2);
    }
    for (t = 0; t < N_SEARCHED; t++) {
        int32_t id = searched(t);
        double a, b;
        REQUIRE(!smolq_pack(id, x, importance, with, ROW, &err) && !smolq_pack(id, x, NULL, without, ROW, &err), "%s", err.text);
        a = error_of(id, with, x, importance, ROW);
        b = error_of(id, without, x, importance, ROW);
        CHECK(a < b, "%s: %g with importance, %g without", smolq_type_info(id)->name, a, b);
    }
    for (i = 0; i < ROW; i++) importance[i] = 3.5f; /* the same everywhere: it does not matter */
    for (t = 0; t < N_SEARCHED; t++) {
        int32_t id = searched(t);
        double a, b;
        smolq_pack(id, x, importance, with, ROW, &err);
        smolq_pack(id, x, NULL, without, ROW, &err);
        a = error_of(id, with, x, NULL, ROW);
        b = error_of(id, without, x, NULL, ROW);
        CHECK(a <= b * 1.001 && b <= a * 1.001, "%s: %g with equal importance, %g without", smolq_type_info(id)->name, a, b);
    }
}

/* Rows that trip a careless search: whatever they are, the blocks unpack to finite weights that are no worse than zeros. */
static void odd_rows_are_packed_too(void)
{
    static float x[ROW];
    static uint8_t blocks[ROW * 4];
    static const char *const names[] = { "zeros", "one value", "tiny", "below f16", "subnormal", "one outlier", "positive", "negative", "two values", "large", "-0" };
    size_t kind, t, i;
    for (kind = 0; kind < sizeof names / sizeof *names; kind++) {
        double squares = 0;
        for (i = 0; i < ROW; i++) {
            float g = gaussian();
            x[i] = kind == 0 ? 0 : kind == 1 ? -0.37f : kind == 2 ? g * 1e-6f : kind == 3 ? g * 1e-9f : kind == 4 ? g * 1e-40f : kind == 5 ? (i % 100 ? g * 1e-3f : 8) :
                   kind == 6 ? g * g : kind == 7 ? -1 - g * g : kind == 8 ? (g > 0 ? 1.0f : -1.0f) : kind == 9 ? g * 3e4f : -0.0f;
            squares += (double)x[i] * (double)x[i];
        }
        for (t = 0; t < N_SEARCHED; t++) {
            int32_t id = searched(t);
            double e;
            smolq_error err;
            CHECK(!smolq_pack(id, x, NULL, blocks, ROW, &err), "%s: %s", names[kind], err.text);
            e = error_of(id, blocks, x, NULL, ROW);
            CHECK(e >= 0 && e <= squares * (1 + 1e-6), "%s, %s: squared error %g, of zeros %g", smolq_type_info(id)->name, names[kind], e, squares);
        }
    }
}

static void what_cannot_be_packed_is_refused(void)
{
    static float x[ROW], importance[ROW];
    static uint8_t blocks[ROW * 4];
    size_t i;
    smolq_error err;
    for (i = 0; i < ROW; i++) importance[i] = 1;
    memset(blocks, 0x55, sizeof blocks);
    x[700] = (float)NAN;
    CHECK(smolq_pack(SMOLQ_TYPE_Q4_K, x, NULL, blocks, ROW, &err) == SMOLQ_E_NUMERIC && strstr(err.text, "700"), "%s", err.text);
    x[700] = (float)INFINITY;
    CHECK(smolq_pack(SMOLQ_TYPE_Q8_0, x, NULL, blocks, ROW, &err) == SMOLQ_E_NUMERIC, "%s", err.text);
    x[700] = 0;
    importance[3] = -1;
    CHECK(smolq_pack(SMOLQ_TYPE_Q4_K, x, importance, blocks, ROW, &err) == SMOLQ_E_NUMERIC && strstr(err.text, "importance"), "%s", err.text);
    CHECK(smolq_pack(SMOLQ_TYPE_Q4_K, x, NULL, blocks, 255, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "multiple of 256"), "%s", err.text);
    CHECK(smolq_pack(SMOLQ_TYPE_NVFP4, x, NULL, blocks, ROW, &err) == SMOLQ_E_UNSUPPORTED && strstr(err.text, "nvfp4"), "%s", err.text);
    CHECK(smolq_pack(SMOLQ_TYPE_Q4_K, NULL, NULL, blocks, ROW, &err) == SMOLQ_E_ARGUMENT, "%s", err.text);
    CHECK(smolq_pack(99, x, NULL, blocks, ROW, NULL) == SMOLQ_E_ARGUMENT, "type 99");
    for (i = 0; i < sizeof blocks; i++) REQUIRE(blocks[i] == 0x55, "byte %d was written", (int)i);
    CHECK(smolq_pack(SMOLQ_TYPE_Q4_K, NULL, NULL, NULL, 0, &err) == SMOLQ_OK, "%s", err.text);
}

static void bf16_rounds_to_the_nearest_even(void)
{
    static const struct { uint32_t from; uint16_t to; } rows[] = {
        { 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 }, { 0x3f818000, 0x3f82 }, { 0x3f808001, 0x3f81 }, { 0x7f7fffff, 0x7f80 }, { 0x7f800001, 0x7fc0 }, { 0x80000001, 0x8000 },
    };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(smolq_f32_to_bf16(smolq_from_bits(rows[i].from)) == rows[i].to, "%08x gives %04x", (unsigned)rows[i].from, smolq_f32_to_bf16(smolq_from_bits(rows[i].from)));
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "levels come back from their bits", levels_come_back_from_their_bits },
        { "choices come back from their bits", choices_come_back_from_their_bits },
        { "errors are no larger than those of the golden blocks", errors_are_no_larger_than_those_of_the_golden_blocks },
        { "importance lowers the error that it weighs", importance_lowers_the_error_that_it_weighs },
        { "odd rows are packed too", odd_rows_are_packed_too },
        { "what cannot be packed is refused", what_cannot_be_packed_is_refused },
        { "bf16 rounds to the nearest even", bf16_rounds_to_the_nearest_even },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
