/* Files and the GGUF format: everything that can be read is read back, everything that can be wrong or fail is made wrong or made to fail. */
#include "../src/gguf.c"
#include "make_malformed.h"
#include "test.h"
#include <time.h>

/* ---- an allocator that counts and fails on request ---- */

typedef struct counter { size_t live, live_bytes, peak, calls, fail_from, fail_to; } counter; /* calls fail_from..fail_to fail, counted from 1 */

static void *count_alloc(void *user, size_t n)
{
    counter *c = (counter *)user;
    void *memory;
    c->calls++;
    if (c->calls >= c->fail_from && c->calls <= c->fail_to) return NULL;
    memory = malloc(n);
    c->live++;
    c->live_bytes += n;
    if (c->live_bytes > c->peak) c->peak = c->live_bytes;
    return memory;
}
static void count_release(void *user, void *memory, size_t n)
{
    counter *c = (counter *)user;
    c->live--;
    c->live_bytes -= n;
    free(memory);
}
static void count_with(smolq_open_options *o, counter *c)
{
    memset(c, 0, sizeof *c);
    o->allocator.alloc = count_alloc;
    o->allocator.release = count_release;
    o->allocator.user = c;
}

/* ---- sources ---- */

typedef struct reader { const unsigned char *p; size_t n, reads, fail_at; } reader; /* read number fail_at fails, counted from 1 */

static int reader_read(void *user, uint64_t offset, void *dst, size_t n)
{
    reader *r = (reader *)user;
    if (++r->reads == r->fail_at) return 1;
    if (offset > r->n || n > r->n - offset) return 1;
    memcpy(dst, r->p + offset, n);
    return 0;
}
static smolq_source memory_source(const bytes *b)
{
    smolq_source s;
    memset(&s, 0, sizeof s);
    s.data = b->p ? (const void *)b->p : (const void *)"";
    s.size = b->n;
    return s;
}
static smolq_source reader_source(reader *r, const bytes *b)
{
    smolq_source s;
    memset(r, 0, sizeof *r);
    memset(&s, 0, sizeof s);
    r->p = b->p;
    r->n = b->n;
    s.read = reader_read;
    s.user = r;
    s.size = b->n;
    return s;
}
static smolq_result open_sources(smolq_source *sources, uint32_t n, smolq_open_options *o, smolq_gguf **g, smolq_error *e)
{
    o->sources = sources;
    o->n_sources = n;
    return smolq_gguf_open(NULL, o, g, e);
}
static smolq_result open_bytes(const bytes *b, smolq_gguf **g, smolq_error *e)
{
    smolq_open_options o;
    smolq_source s = memory_source(b);
    memset(&o, 0, sizeof o);
    return open_sources(&s, 1, &o, g, e);
}

static void model(bytes *b)
{
    model_options options = { GG_SMOLLM3, 8, 0, 0 };
    memset(b, 0, sizeof *b);
    valid_model_build(&options, b);
}

/* A file with one pair of every type, two levels of arrays, and two tensors. */
static gg_file small;
static void small_file(bytes *b, uint32_t alignment)
{
    gg_file *f = &small;
    bytes *v;
    uint32_t seed = 3;
    double d = -2.5e-300;
    uint64_t bits;
    gg_free(f);
    memset(f, 0, sizeof *f);
    memset(b, 0, sizeof *b);
    f->version = 3;
    f->alignment = alignment;
    memcpy(&bits, &d, 8);
    gg_set_u32(f, "general.alignment", alignment);
    put_int(gg_set(f, "u8", GG_U8), 200, 1);
    put_int(gg_set(f, "i8", GG_I8), (uint64_t)-100, 1);
    put_int(gg_set(f, "u16", GG_U16), 60000, 2);
    put_int(gg_set(f, "i16", GG_I16), (uint64_t)-30000, 2);
    put_int(gg_set(f, "u32", GG_U32), 4000000000u, 4);
    put_int(gg_set(f, "i32", GG_I32), (uint64_t)-2000000000, 4);
    put_f32(gg_set(f, "f32", GG_F32), 1.5f);
    put_int(gg_set(f, "bool", GG_BOOL), 1, 1);
    gg_set_string(f, "string", "smolq");
    put_int(gg_set(f, "u64", GG_U64), UINT64_MAX, 8);
    put_int(gg_set(f, "i64", GG_I64), (uint64_t)INT64_MIN, 8);
    put_int(gg_set(f, "f64", GG_F64), bits, 8);
    v = gg_set_array(f, "numbers", GG_I16, 3);
    put_int(v, 1, 2);
    put_int(v, (uint64_t)-2, 2);
    put_int(v, 3, 2);
    v = gg_set_array(f, "strings", GG_STRING, 3);
    put_string(v, "one");
    put_string(v, "");
    put_string(v, "three");
    v = gg_set_array(f, "nested", GG_ARRAY, 2); /* [["a", "bc"], [7, 8, 9]] */
    put_int(v, GG_STRING, 4);
    put_int(v, 2, 8);
    put_string(v, "a");
    put_string(v, "bc");
    put_int(v, GG_U8, 4);
    put_int(v, 3, 8);
    put_int(v, 0x090807, 3);
    gg_set_array(f, "empty", GG_STRING, 0);
    gg_matrix(f, "first", 4, 3, 1, 0, &seed);
    gg_matrix(f, "second.weight", 64, 2, 1, 8, &seed);
    gg_write(f, b);
}

/* ---- tests ---- */

static void reads_all_types(void)
{
    static const struct { const char *key; int type; int64_t i; uint64_t u; double f; } rows[] = {
        { "u8", SMOLQ_GGUF_U8, 200, 200, 200 },          { "i8", SMOLQ_GGUF_I8, -100, (uint64_t)-100, -100 },
        { "u16", SMOLQ_GGUF_U16, 60000, 60000, 60000 },  { "i16", SMOLQ_GGUF_I16, -30000, (uint64_t)-30000, -30000 },
        { "u32", SMOLQ_GGUF_U32, 4000000000, 4000000000u, 4e9 }, { "i32", SMOLQ_GGUF_I32, -2000000000, (uint64_t)-2000000000, -2e9 },
        { "bool", SMOLQ_GGUF_BOOL, 1, 1, 1 },            { "u64", SMOLQ_GGUF_U64, INT64_MAX, UINT64_MAX, 18446744073709551615.0 },
        { "i64", SMOLQ_GGUF_I64, INT64_MIN, (uint64_t)INT64_MIN, -9223372036854775808.0 },
        { "f32", SMOLQ_GGUF_F32, 0, 0, 1.5 },            { "f64", SMOLQ_GGUF_F64, 0, 0, -2.5e-300 } };
    smolq_gguf *g;
    smolq_error e;
    smolq_value v, x;
    smolq_pair pair;
    bytes b;
    uint64_t at = 0, inner = 0;
    size_t i;
    small_file(&b, 32);
    REQUIRE(open_bytes(&b, &g, &e) == SMOLQ_OK, "%s", e.text);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        REQUIRE(smolq_gguf_find(g, rows[i].key, &v, &e) == SMOLQ_OK, "%s", e.text);
        CHECK(v.type == rows[i].type && v.i == rows[i].i && v.u == rows[i].u && v.f == rows[i].f, "%s: type %d i %lld f %g", rows[i].key, v.type, (long long)v.i, v.f);
    }
    smolq_gguf_find(g, "string", &v, NULL);
    CHECK(v.type == SMOLQ_GGUF_STRING && v.bytes == 5 && !memcmp(v.text, "smolq", 5), "string");
    smolq_gguf_find(g, "numbers", &v, NULL);
    CHECK(v.type == SMOLQ_GGUF_ARRAY && v.element_type == SMOLQ_GGUF_I16 && v.n == 3 && v.data_bytes == 6, "numbers");
    CHECK(smolq_gguf_element(&v, 1, NULL, &x, &e) == SMOLQ_OK && x.i == -2, "element 1: %lld", (long long)x.i);
    CHECK(smolq_gguf_element(&v, 3, NULL, &x, &e) == SMOLQ_E_ARGUMENT && !strcmp(e.text, "element 3 of 3"), "%s", e.text);
    smolq_gguf_find(g, "strings", &v, NULL);
    CHECK(v.data_bytes == 8 * 3 + 8, "strings are %d bytes", (int)v.data_bytes);
    CHECK(smolq_gguf_element(&v, 0, NULL, &x, &e) == SMOLQ_E_ARGUMENT, "a string element without a cursor");
    for (i = 0; i < 3; i++) {
        static const char *const want[] = { "one", "", "three" };
        CHECK(smolq_gguf_element(&v, i, &at, &x, &e) == SMOLQ_OK && x.bytes == strlen(want[i]) && !memcmp(x.text, want[i], x.bytes), "string %d", (int)i);
    }
    CHECK(at == v.data_bytes, "the cursor ends at %d", (int)at);
    CHECK(smolq_gguf_element(&v, 0, &at, &x, &e) == SMOLQ_E_FORMAT, "a cursor at the end gives nothing");
    at = 0;
    smolq_gguf_find(g, "nested", &v, NULL);
    REQUIRE(smolq_gguf_element(&v, 0, &at, &x, &e) == SMOLQ_OK && x.type == SMOLQ_GGUF_ARRAY && x.n == 2 && x.data_bytes == 19, "inner array of %d bytes", (int)x.data_bytes);
    CHECK(smolq_gguf_element(&x, 0, &inner, &x, &e) == SMOLQ_OK && x.bytes == 1 && x.text[0] == 'a', "inner string");
    REQUIRE(smolq_gguf_element(&v, 1, &at, &x, &e) == SMOLQ_OK && x.element_type == SMOLQ_GGUF_U8, "second inner array");
    CHECK(smolq_gguf_element(&x, 2, NULL, &x, &e) == SMOLQ_OK && x.i == 9, "inner number");
    smolq_gguf_find(g, "empty", &v, NULL);
    CHECK(v.n == 0 && v.data_bytes == 0, "empty");
    CHECK(smolq_gguf_pair(g, 9, &pair, &e) == SMOLQ_OK && pair.key_bytes == 6 && !memcmp(pair.key, "string", 6), "pair 9");
    CHECK(smolq_gguf_pair(g, 17, &pair, &e) == SMOLQ_E_ARGUMENT && !strcmp(e.text, "pair 17 of 17"), "%s", e.text);
    CHECK(smolq_gguf_find(g, "nothing", &v, &e) == SMOLQ_E_MISSING && !strcmp(e.text, "missing key 'nothing'"), "%s", e.text);
    smolq_gguf_close(g);
    bytes_free(&b);
}

static void getters_convert_and_refuse(void)
{
    smolq_gguf *g;
    smolq_error e;
    smolq_value v;
    smolq__text text;
    bytes b;
    int64_t i = -7;
    double d = -7;
    int flag = -7;
    small_file(&b, 32);
    REQUIRE(open_bytes(&b, &g, &e) == SMOLQ_OK, "%s", e.text);
    CHECK(smolq__get_int(g, "absent", 0, 9, &i, &e) == 0 && i == -7, "absent");
    CHECK(smolq__get_int(g, "u8", 0, 255, &i, &e) == 1 && i == 200, "u8");
    CHECK(smolq__get_int(g, "i64", INT64_MIN, 0, &i, &e) == 1 && i == INT64_MIN, "i64");
    i = -7;
    CHECK(smolq__get_int(g, "u8", 0, 199, &i, &e) == -1 && i == -7 && !strcmp(e.text, "key 'u8': expected an integer in 0..199, found 200 (u8)"), "%s", e.text);
    CHECK(smolq__get_int(g, "u64", 0, INT64_MAX, &i, &e) == -1 && strstr(e.text, "18446744073709551615 (u64)"), "%s", e.text);
    CHECK(smolq__get_int(g, "f32", 0, 9, &i, &e) == -1 && strstr(e.text, "found 1.5 (f32)"), "%s", e.text);
    CHECK(smolq__get_int(g, "string", 0, 9, &i, &e) == -1 && strstr(e.text, "found the string 'smolq'"), "%s", e.text);
    CHECK(smolq__get_int(g, "numbers", 0, 9, &i, &e) == -1 && strstr(e.text, "found an array of 3 i16"), "%s", e.text);
    CHECK(smolq__get_float(g, "f64", &d, &e) == 1 && d == -2.5e-300, "%g", d);
    CHECK(smolq__get_float(g, "i8", &d, &e) == 1 && d == -100, "%g", d);
    CHECK(smolq__get_float(g, "bool", &d, &e) == -1 && d == -100, "a bool is no number");
    CHECK(smolq__get_bool(g, "bool", &flag, &e) == 1 && flag == 1, "bool");
    CHECK(smolq__get_bool(g, "u8", &flag, &e) == -1 && flag == 1, "200 is no bool");
    CHECK(smolq__get_text(g, "string", &text, &e) == 1 && smolq__text_is(text, "smolq"), "text");
    CHECK(smolq__get_text(g, "u8", &text, &e) == -1 && !strcmp(e.text, "key 'u8': expected a string, found 200 (u8)"), "%s", e.text);
    CHECK(smolq__get_array(g, "nested", &v, &e) == 1 && v.n == 2, "array");
    CHECK(smolq__get_array(g, "u8", &v, &e) == -1 && v.n == 2 && !strcmp(e.text, "key 'u8': expected an array, found 200 (u8)"), "%s", e.text);
    CHECK(smolq__get_array(g, "absent", &v, NULL) == 0, "absent");
    smolq_gguf_close(g);
    bytes_free(&b);
}

static void tensors_lie_where_they_are_said_to_lie(void)
{
    static const uint32_t alignments[] = { 1, 8, 32, 64, 4096 };
    size_t k, version;
    for (k = 0; k < sizeof alignments / sizeof *alignments; k++) {
        for (version = 2; version <= 3; version++) {
            smolq_gguf *g;
            smolq_error e;
            smolq_tensor_info t;
            unsigned char piece[5];
            bytes b;
            small_file(&b, alignments[k]);
            patch(&b, 4, version, 4);
            REQUIRE(open_bytes(&b, &g, &e) == SMOLQ_OK, "%s", e.text);
            CHECK(smolq_gguf_info(g)->alignment == alignments[k] && smolq_gguf_info(g)->version == version, "alignment %u", (unsigned)smolq_gguf_info(g)->alignment);
            REQUIRE(smolq_gguf_find_tensor(g, "second.weight", &t, &e) == SMOLQ_OK, "%s", e.text);
            CHECK(t.type == SMOLQ_TYPE_Q8_0 && t.n_dims == 2 && t.ne[0] == 64 && t.ne[1] == 2 && t.ne[2] == 1 && t.ne[3] == 1 && t.bytes == 4 * 34, "second.weight");
            CHECK(t.offset % alignments[k] == 0 && t.data == b.p + t.offset && !memcmp(t.data, small.tensors[1].data.p, (size_t)t.bytes), "its data");
            CHECK(smolq_gguf_read(g, &t, 131, piece, 5, &e) == SMOLQ_OK && !memcmp(piece, t.data + 131, 5), "its last 5 bytes");
            CHECK(smolq_gguf_read(g, &t, 132, piece, 5, &e) == SMOLQ_E_ARGUMENT && !strcmp(e.text, "tensor 'second.weight': 5 bytes at 132 are beyond its 136"), "%s", e.text);
            CHECK(smolq_gguf_find_tensor(g, "third", &t, &e) == SMOLQ_E_MISSING && !strcmp(e.text, "missing tensor 'third'"), "%s", e.text);
            CHECK(smolq_gguf_tensor(g, 2, &t, &e) == SMOLQ_E_ARGUMENT && !strcmp(e.text, "tensor 2 of 2"), "%s", e.text);
            CHECK(smolq_gguf_info(g)->tensor_bytes == 48 + 136 && smolq_gguf_info(g)->n_parts == 1, "facts");
            smolq_gguf_close(g);
            bytes_free(&b);
                }
    }
}

static void any_address_works_for_memory(void)
{
    bytes b;
    int shift;
    small_file(&b, 1);
    for (shift = 0; shift < 8; shift++) {
        unsigned char *moved = (unsigned char *)malloc(b.n + 8);
        bytes at;
        smolq_gguf *g;
        smolq_error e;
        memcpy(moved + shift, b.p, b.n);
        memset(&at, 0, sizeof at);
        at.p = moved + shift;
        at.n = b.n;
        REQUIRE(open_bytes(&at, &g, &e) == SMOLQ_OK, "%s", e.text);
        smolq_gguf_close(g);
        free(moved);
    }
    bytes_free(&b);
}

/* ---- messages ---- */

static void say(const void *data, size_t n, const char *want)
{
    smolq_gguf *g = NULL;
    smolq_error e;
    smolq_source s;
    smolq_open_options o;
    memset(&o, 0, sizeof o);
    memset(&s, 0, sizeof s);
    s.data = data;
    s.size = n;
    CHECK(open_sources(&s, 1, &o, &g, &e) < 0 && !strcmp(e.text, want) && !g, "'%s', expected '%s'", e.text, want);
}

static void says_what_is_wrong(void)
{
    static const unsigned char safetensors[16] = { 8, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' ', ' ', ' ', ' ', ' ', ' ' };
    static const unsigned char other[24] = { 'R', 'I', 'F', 'F', 0, 1, 2, 3 };
    bytes b;
    say("", 0, "the file is empty");
    say("GGUF\3", 5, "truncated: the header needs 24 bytes at offset 0, the file has 5");
    say("\n <html>", 8, "not a GGUF file: it looks like an HTML page or XML; the download may have led to a web page");
    say("version https://git-lfs.github.com/spec/v1", 42, "not a GGUF file: it looks like a git-lfs pointer to the model, not the model; run: git lfs pull");
    say("PK\3\4....", 8, "not a GGUF file: it looks like a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF");
    say(safetensors, 16, "not a GGUF file: it looks like safetensors; convert it to GGUF");
    say(other, 24, "not a GGUF file: it begins with 'RIFF\\x00\\x01\\x02\\x03', expected 'GGUF'");
    small_file(&b, 32);
    patch(&b, 4, 1, 4);
    say(b.p, b.n, "the header: GGUF version 1, from before August 2023; convert the model anew (this build reads 2 and 3)");
    patch(&b, 4, 0x03000000, 4);
    say(b.p, b.n, "the header: a big-endian GGUF; this build reads little-endian ones");
    patch(&b, 4, 9, 4);
    say(b.p, b.n, "the header: unknown GGUF version 9; this build reads 2 and 3");
    patch(&b, 4, 3, 4);
    say(b.p, small.pairs[9].at + 22, "the header: truncated or malformed: 17 keys, the file has 217 bytes");
    say(b.p, small.pairs[14].at + 50, "key 15 of 17 'strings': truncated or malformed: an array of 3 string at offset 363, the file has 382 bytes");
    say(b.p, small.pairs[15].at + 25, "truncated: key 16 of 17 'nested' needs 8 bytes at offset 417, the file has 420");
    say(b.p, b.n - 32, "truncated: tensor 2 of 2 'second.weight' needs 136 bytes at offset 672, the file has 800");
    patch(&b, small.pairs[9].at + 18, UINT64_MAX, 8);
    say(b.p, b.n, "truncated: key 10 of 17 'string' needs 18446744073709551615 bytes at offset 221, the file has 832");
    patch(&b, small.pairs[9].at + 18, 5, 8);
    patch(&b, small.tensors[0].type_at, 31, 4);
    say(b.p, b.n, "tensor 1 of 2 'first': unknown type 31");
    patch(&b, small.tensors[0].type_at, 2, 4);
    say(b.p, b.n, "tensor 1 of 2 'first': rows of 4 are not a multiple of q4_0's block of 32");
    patch(&b, small.tensors[0].type_at, 0, 4);
    patch(&b, small.tensors[1].type_at + 4, 32, 8);
    say(b.p, b.n, "tensors 'first' and 'second.weight' overlap at offset 640");
    patch(&b, small.tensors[1].type_at + 4, 33, 8);
    say(b.p, b.n, "tensor 2 of 2 'second.weight': offset 33 is not a multiple of the alignment 32");
    bytes_free(&b);
}

static void refuses_what_is_malformed(void)
{
    size_t i, n = malformed_count();
    for (i = 0; i < n; i++) {
        smolq_gguf *g = NULL;
        smolq_error e;
        smolq_open_options o;
        smolq_source s;
        counter c;
        bytes b;
        clock_t begin;
        smolq_result result;
        malformed_build(i, &b);
        memset(&o, 0, sizeof o);
        count_with(&o, &c);
        s = memory_source(&b);
        begin = clock();
        result = open_sources(&s, 1, &o, &g, &e);
        CHECK((result < 0) == (malformed_expect(i) == MALFORMED_GGUF), "%s: %s", malformed_name(i), result ? e.text : "opened");
        CHECK(result == 0 || (e.code == result && e.text[0]), "%s: code %d", malformed_name(i), (int)e.code);
        CHECK((double)(clock() - begin) / CLOCKS_PER_SEC < 0.1, "%s: took %ld us", malformed_name(i), (long)(clock() - begin));
        CHECK(c.peak <= 4 * b.n + (16u << 20), "%s: %lu bytes", malformed_name(i), (unsigned long)c.peak);
        smolq_gguf_close(g);
        CHECK(c.live == 0, "%s: leaks", malformed_name(i));
        bytes_free(&b);
    }
}

static void survives_every_truncation(void)
{
    size_t n;
    bytes b, cut;
    small_file(&b, 32);
    for (n = 0; n < b.n; n++) {
        smolq_gguf *g = NULL;
        smolq_error e;
        smolq_open_options o;
        smolq_source s;
        reader r;
        memset(&cut, 0, sizeof cut);
        put(&cut, b.p, n); /* its own allocation, so that a sanitizer sees a read beyond it */
        if (n + 24 < b.n) CHECK(open_bytes(&cut, &g, &e) < 0, "%d of %d bytes opened", (int)n, (int)b.n); /* 24: padding of the last tensor */
        else open_bytes(&cut, &g, &e);
        smolq_gguf_close(g);
        g = NULL;
        memset(&o, 0, sizeof o);
        s = reader_source(&r, &cut);
        if (n + 24 < b.n) CHECK(open_sources(&s, 1, &o, &g, &e) < 0, "%d of %d bytes opened by reading", (int)n, (int)b.n);
        smolq_gguf_close(g);
        bytes_free(&cut);
    }
    bytes_free(&b);
}

static void survives_every_flipped_bit(void)
{
    smolq_error e;
    size_t bit, opened = 0;
    bytes b;
    small_file(&b, 8);
    for (bit = 0; bit < b.n * 8; bit++) {
        smolq_gguf *g = NULL;
        b.p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (open_bytes(&b, &g, &e) == SMOLQ_OK) {
            smolq_tensor_info t;
            smolq_pair pair;
            uint64_t i, sum = 0;
            opened++;
            for (i = 0; smolq_gguf_pair(g, i, &pair, NULL) == SMOLQ_OK; i++) sum += pair.key_bytes ? (uint64_t)pair.key[pair.key_bytes - 1] : 0;
            for (i = 0; smolq_gguf_tensor(g, i, &t, NULL) == SMOLQ_OK; i++) sum += t.data[t.bytes - 1];
            CHECK(sum != 1, "never");
        }
        smolq_gguf_close(g);
        b.p[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    CHECK(opened > 0 && opened < b.n * 8, "%d of %d opened", (int)opened, (int)b.n * 8);
    bytes_free(&b);
}

/* ---- reading instead of mapping ---- */

static int stop_at_half(void *user, float done) { *(float *)user = done; return done > 0.5f; }

static void reading_gives_the_same_tensors(void)
{
    smolq_gguf *g, *h;
    smolq_error e;
    smolq_open_options o;
    smolq_source s;
    reader r;
    bytes b;
    uint64_t i;
    float done = -1;
    counter c;
    size_t live;
    model(&b);
    REQUIRE(open_bytes(&b, &g, &e) == SMOLQ_OK, "%s", e.text);
    memset(&o, 0, sizeof o);
    count_with(&o, &c);
    s = reader_source(&r, &b);
    REQUIRE(open_sources(&s, 1, &o, &h, &e) == SMOLQ_OK, "%s", e.text);
    live = c.live_bytes;
    o.progress = stop_at_half;
    o.user = &done;
    CHECK(smolq__gguf_load_tensors(h, &o, &e) == SMOLQ_E_CANCELLED && done > 0.5f && c.live_bytes == live, "%s", e.text);
    o.progress = NULL;
    for (i = 0; i < smolq_gguf_info(g)->n_tensors; i++) {
        smolq_tensor_info t, u;
        unsigned char first[4];
        smolq_gguf_tensor(g, i, &t, NULL);
        smolq_gguf_tensor(h, i, &u, NULL);
        CHECK(!u.data && u.bytes == t.bytes && u.offset == t.offset, "tensor %d", (int)i);
        CHECK(smolq_gguf_read(h, &u, 0, first, 4, &e) == SMOLQ_OK && !memcmp(first, t.data, 4), "read %d", (int)i);
    }
    REQUIRE(smolq__gguf_load_tensors(h, &o, &e) == SMOLQ_OK, "%s", e.text);
    for (i = 0; i < smolq_gguf_info(g)->n_tensors; i++) {
        smolq_tensor_info t, u;
        smolq_gguf_tensor(g, i, &t, NULL);
        smolq_gguf_tensor(h, i, &u, NULL);
        REQUIRE(u.data && (uintptr_t)u.data % 64 == 0 && !memcmp(t.data, u.data, (size_t)t.bytes), "tensor %d", (int)i);
    }
    smolq_gguf_close(g);
    smolq_gguf_close(h);
    CHECK(c.live == 0, "leaks");
    bytes_free(&b);
}

static void headers_longer_than_the_first_read(void)
{
    gg_file *f = &small;
    smolq_gguf *g;
    smolq_error e;
    smolq_open_options o;
    smolq_source s;
    smolq_value v, x;
    smolq_tensor_info t;
    reader r;
    bytes b, *tokens;
    uint64_t i, n_reads, cursor = 0;
    uint32_t seed = 1;
    gg_free(f);
    memset(f, 0, sizeof *f);
    memset(&b, 0, sizeof b);
    f->version = 3;
    f->alignment = 32;
    tokens = gg_set_array(f, "tokens", GG_STRING, 50000);
    for (i = 0; i < 50000; i++) {
        char text[16];
        snprintf(text, sizeof text, "token %d", (int)i);
        put_string(tokens, text);
    }
    gg_set_u32(f, "last", 77);
    gg_matrix(f, "big", 1024, 1024, 1, 0, &seed);
    gg_write(f, &b);
    memset(&o, 0, sizeof o);
    s = reader_source(&r, &b);
    REQUIRE(open_sources(&s, 1, &o, &g, &e) == SMOLQ_OK, "%s", e.text);
    n_reads = r.reads;
    CHECK(n_reads <= 8 && g->parts[0]->header_loaded < b.n / 2, "%d reads of %d bytes", (int)n_reads, (int)g->parts[0]->header_loaded);
    REQUIRE(smolq_gguf_find(g, "tokens", &v, &e) == SMOLQ_OK && v.n == 50000, "tokens");
    for (i = 0; i < 50000; i++) smolq_gguf_element(&v, i, &cursor, &x, NULL);
    CHECK(x.bytes == 11 && !memcmp(x.text, "token 49999", 11), "the last token");
    REQUIRE(smolq__gguf_load_tensors(g, &o, &e) == SMOLQ_OK && smolq_gguf_find_tensor(g, "big", &t, &e) == SMOLQ_OK, "%s", e.text);
    CHECK(t.bytes == 4u << 20 && !memcmp(t.data, f->tensors[0].data.p, 4u << 20), "a tensor that is read in pieces");
    smolq_gguf_close(g);
    for (i = 1; i <= n_reads; i++) {
        reader failing;
        g = NULL;
        s = reader_source(&failing, &b);
        failing.fail_at = (size_t)i;
        CHECK(open_sources(&s, 1, &o, &g, &e) == SMOLQ_E_IO && strstr(e.text, "the caller's read function failed") && !g, "read %d: %s", (int)i, e.text);
    }
    bytes_free(&b);
}

static void every_read_fails_in_turn(void)
{
    size_t k, ok = 0;
    bytes b;
    model(&b);
    for (k = 1; !ok; k++) {
        smolq_gguf *g = NULL;
        smolq_error e;
        smolq_open_options o;
        smolq_source s;
        reader r;
        counter c;
        smolq_result result;
        REQUIRE(k < 200, "never succeeds");
        memset(&o, 0, sizeof o);
        count_with(&o, &c);
        s = reader_source(&r, &b);
        r.fail_at = k;
        result = open_sources(&s, 1, &o, &g, &e);
        if (!result) result = smolq__gguf_load_tensors(g, &o, &e);
        ok = r.reads < k;
        CHECK(ok ? result == SMOLQ_OK : result == SMOLQ_E_IO, "read %d: %d %s", (int)k, (int)result, e.text);
        if (g && !ok) CHECK(smolq__gguf_load_tensors(g, &o, &e) == SMOLQ_OK, "works afterwards: %s", e.text);
        smolq_gguf_close(g);
        CHECK(c.live == 0, "read %d: leaks", (int)k);
    }
    CHECK(k > 10, "only %d reads", (int)k);
    bytes_free(&b);
}

static void every_allocation_fails_in_turn(void)
{
    size_t k, mode, ok;
    bytes b;
    model(&b);
    for (mode = 0; mode < 2; mode++) { /* 0: one alone, 1: from one on */
        for (k = 1, ok = 0; !ok; k++) {
            smolq_gguf *g = NULL;
            smolq_error e;
            smolq_open_options o;
            smolq_source s;
            reader r;
            counter c;
            smolq_result result;
            REQUIRE(k < 200, "never succeeds");
            memset(&o, 0, sizeof o);
            count_with(&o, &c);
            c.fail_from = k;
            c.fail_to = mode ? (size_t)-1 : k;
            s = reader_source(&r, &b);
            result = open_sources(&s, 1, &o, &g, &e);
            if (!result) result = smolq__gguf_load_tensors(g, &o, &e);
            ok = c.calls < k;
            CHECK(ok ? result == SMOLQ_OK : result == SMOLQ_E_MEMORY && strstr(e.text, "out of memory"), "allocation %d: %d %s", (int)k, (int)result, e.text);
            smolq_gguf_close(g);
            CHECK(c.live == 0 && smolq__loading == NULL, "allocation %d: leaks", (int)k);
        }
        CHECK(k > 6, "only %d allocations", (int)k);
    }
    bytes_free(&b);
}

static void limits_are_kept(void)
{
    smolq_gguf *g;
    smolq_error e;
    smolq_open_options o;
    smolq_source s;
    bytes b;
    small_file(&b, 32);
    s = memory_source(&b);
    memset(&o, 0, sizeof o);
    o.limits.n_keys = 16;
    CHECK(open_sources(&s, 1, &o, &g, &e) == SMOLQ_E_MEMORY && !strcmp(e.text, "the header: 17 keys are more than limits.n_keys allows (16)"), "%s", e.text);
    o.limits.n_keys = 17;
    o.limits.n_tensors = 1;
    CHECK(open_sources(&s, 1, &o, &g, &e) == SMOLQ_E_MEMORY && !strcmp(e.text, "the header: 2 tensors are more than limits.n_tensors allows (1)"), "%s", e.text);
    o.limits.n_tensors = 2;
    o.limits.memory = 600;
    CHECK(open_sources(&s, 1, &o, &g, &e) == SMOLQ_E_MEMORY && strstr(e.text, "of the allowed 600 in use"), "%s", e.text);
    o.limits.memory = 1 << 16;
    REQUIRE(open_sources(&s, 1, &o, &g, &e) == SMOLQ_OK, "%s", e.text);
    CHECK(g->heap.used <= 1 << 16, "%d bytes", (int)g->heap.used);
    smolq_gguf_close(g);
    CHECK(smolq_gguf_open(NULL, NULL, &g, &e) == SMOLQ_E_ARGUMENT && smolq_gguf_open("x", &o, &g, &e) == SMOLQ_E_ARGUMENT, "neither and both of path and sources");
    bytes_free(&b);
}

/* 65536 keys and 16384 tensors, the last of them wrong: refused in linear time and little memory. */
static void many_keys_and_tensors_are_quick(void)
{
    smolq_gguf *g = NULL;
    smolq_error e;
    smolq_open_options o;
    smolq_source s;
    counter c;
    bytes b;
    clock_t begin;
    uint64_t i;
    memset(&b, 0, sizeof b);
    put(&b, "GGUF\3\0\0\0", 8);
    put_int(&b, 16384, 8);
    put_int(&b, 65536, 8);
    for (i = 0; i < 65536; i++) {
        put_int(&b, 4, 8);
        put_int(&b, i | 0x01010101u << 2, 4);
        b.p[b.n - 1] = 'k';
        b.p[b.n - 2] = 'k';
        if (!b.p[b.n - 3]) b.p[b.n - 2] = 'l', b.p[b.n - 3] = 'x';
        if (!b.p[b.n - 4]) b.p[b.n - 1] = 'm', b.p[b.n - 4] = 'y';
        put_int(&b, GG_U8, 4);
        put_int(&b, 1, 1);
    }
    for (i = 0; i < 16384; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%05d", i == 16383 ? 0 : (int)i); /* the last is there twice */
        put_string(&b, name);
        put_int(&b, 1, 4);
        put_int(&b, 1, 8);
        put_int(&b, 0, 4);
        put_int(&b, (16383 - i) * 32, 8);
    }
    for (i = 0; i < 16384 * 4 + 8; i++) put_int(&b, 0, 8);
    memset(&o, 0, sizeof o);
    count_with(&o, &c);
    s = memory_source(&b);
    begin = clock();
    CHECK(open_sources(&s, 1, &o, &g, &e) == SMOLQ_E_FORMAT && strstr(e.text, "is there twice"), "%s", e.text);
    CHECK((double)(clock() - begin) / CLOCKS_PER_SEC < 1.0, "took %ld us", (long)(clock() - begin));
    CHECK(c.peak <= 4 * b.n + (16u << 20), "%lu bytes for a file of %lu", (unsigned long)c.peak, (unsigned long)b.n);
    bytes_free(&b);
}

/* ---- paths and split files ---- */

static char folder[256];
static const char *in_folder(const char *name)
{
    static char path[2][512];
    static int turn;
    char *p = path[turn++ & 1];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}
static void save(const char *name, const bytes *b)
{
    FILE *f = fopen(in_folder(name), "wb");
    if (!f) return;
    if (b->n) fwrite(b->p, 1, b->n, f);
    fclose(f);
}
static void make_folder(void)
{
    const char *temp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s", temp ? temp : getenv("TEMP") ? getenv("TEMP") : "/tmp");
}

static void paths_that_cannot_be_opened(void)
{
    smolq_gguf *g = NULL;
    smolq_error e;
    char deep[160];
    bytes b;
    make_folder();
    CHECK(smolq_gguf_open("no/such/file.gguf", NULL, &g, &e) == SMOLQ_E_IO && !strncmp(e.text, "can't open 'no/such/file.gguf': ", 32), "%s", e.text);
#ifndef _WIN32
    CHECK(!strcmp(e.text, "can't open 'no/such/file.gguf': No such file or directory"), "%s", e.text);
#endif
    memset(deep, 'd', sizeof deep);
    memcpy(deep + 42, "\xc3\xa4\\", 3); /* a letter of two bytes and a backslash */
    strcpy(deep + 130, "\t/\xc3\xa4.gguf");
    CHECK(smolq_gguf_open(deep, NULL, &g, &e) == SMOLQ_E_IO && !strncmp(e.text, "can't open '...\\dddd", 20) && strstr(e.text, "ddd?/\xc3\xa4.gguf': "), "%s", e.text);
    CHECK(smolq_gguf_open(folder, NULL, &g, &e) == SMOLQ_E_IO && strstr(e.text, "it is a directory"), "%s", e.text);
    memset(&b, 0, sizeof b);
    put(&b, "", 0);
    save("smolq-test-empty.gguf", &b);
    CHECK(smolq_gguf_open(in_folder("smolq-test-empty.gguf"), NULL, &g, &e) == SMOLQ_E_FORMAT && !strcmp(e.text, "the file is empty"), "%s", e.text);
    remove(in_folder("smolq-test-empty.gguf"));
    CHECK(!g, "outputs are untouched");
}

static void mapped_and_read_files_agree(void)
{
    smolq_gguf *g, *h;
    smolq_error e;
    smolq_open_options o;
    smolq_tensor_info t, u;
    const char *path;
    bytes b;
    uint64_t i;
    make_folder();
    model(&b);
    save("smolq-test.gguf", &b);
    path = in_folder("smolq-test.gguf");
    REQUIRE(smolq_gguf_open(path, NULL, &g, &e) == SMOLQ_OK, "%s", e.text);
    CHECK(smolq_gguf_info(g)->mapped_bytes == b.n, "mapped");
    memset(&o, 0, sizeof o);
    o.no_map = 1;
    REQUIRE(smolq_gguf_open(path, &o, &h, &e) == SMOLQ_OK, "%s", e.text);
    CHECK(smolq_gguf_info(h)->mapped_bytes == 0 && !h->parts[0]->file.data, "not mapped");
    REQUIRE(smolq__gguf_load_tensors(h, &o, &e) == SMOLQ_OK, "%s", e.text);
    for (i = 0; i < smolq_gguf_info(g)->n_tensors; i++) {
        smolq_gguf_tensor(g, i, &t, NULL);
        smolq_gguf_tensor(h, i, &u, NULL);
        CHECK(!memcmp(t.data, u.data, (size_t)t.bytes) && !memcmp(t.data, b.p + t.offset, (size_t)t.bytes), "tensor %d", (int)i);
    }
    smolq_gguf_close(g);
    smolq_gguf_close(h);
    remove(path);
    bytes_free(&b);
}

/* Part `no` of 3 with one tensor, 4 x (no + 1). */
static void part(bytes *b, int no, int count, int total, int tensor)
{
    gg_file *f = &small;
    char name[16];
    uint32_t seed = 1 + (uint32_t)no;
    gg_free(f);
    memset(f, 0, sizeof *f);
    memset(b, 0, sizeof *b);
    f->version = 3;
    f->alignment = 32;
    if (no == 0) gg_set_string(f, "general.name", "split");
    put_int(gg_set(f, "split.no", GG_U16), (uint64_t)no, 2);
    put_int(gg_set(f, "split.count", GG_U16), (uint64_t)count, 2);
    put_int(gg_set(f, "split.tensors.count", GG_I32), (uint64_t)total, 4);
    snprintf(name, sizeof name, "t%d", tensor);
    gg_matrix(f, name, 4, (uint64_t)no + 1, 1, 0, &seed);
    gg_write(f, b);
}

static void split_files_are_one(void)
{
    static const char *const names[3] = { "smolq-split-00001-of-00003.gguf", "smolq-split-00002-of-00003.gguf", "smolq-split-00003-of-00003.gguf" };
    smolq_gguf *g = NULL;
    smolq_error e;
    smolq_open_options o;
    smolq_source s[3], swapped;
    smolq_tensor_info t;
    smolq_value v;
    bytes b[3], x;
    char want[256];
    int i, way;
    make_folder();
    for (i = 0; i < 3; i++) {
        part(&b[i], i, 3, 3, i);
        save(names[i], &b[i]);
        s[i] = memory_source(&b[i]);
    }
    for (way = 0; way < 3; way++) {
        memset(&o, 0, sizeof o);
        o.no_map = way == 1;
        if (way < 2) REQUIRE(smolq_gguf_open(in_folder(names[0]), &o, &g, &e) == SMOLQ_OK, "%s", e.text);
        else REQUIRE(open_sources(s, 3, &o, &g, &e) == SMOLQ_OK, "%s", e.text);
        REQUIRE(smolq__gguf_load_tensors(g, &o, &e) == SMOLQ_OK, "%s", e.text);
        CHECK(smolq_gguf_info(g)->n_parts == 3 && smolq_gguf_info(g)->n_tensors == 3 && smolq_gguf_info(g)->file_bytes == b[0].n + b[1].n + b[2].n, "facts");
        CHECK(smolq_gguf_find(g, "general.name", &v, &e) == SMOLQ_OK, "%s", e.text);
        REQUIRE(smolq_gguf_find_tensor(g, "t2", &t, &e) == SMOLQ_OK, "%s", e.text);
        CHECK(t.part == 2 && t.ne[1] == 3 && !memcmp(t.data, b[2].p + t.offset, 48), "t2");
        smolq_gguf_close(g);
    }
    g = NULL;
    CHECK(smolq_gguf_open(in_folder(names[1]), NULL, &g, &e) == SMOLQ_E_ARGUMENT && strstr(e.text, "this is part 2 of 3; open the first, '") &&
          strstr(e.text, "smolq-split-00001-of-00003.gguf'"), "%s", e.text);
    memset(&o, 0, sizeof o);
    CHECK(open_sources(s, 2, &o, &g, &e) == SMOLQ_E_ARGUMENT && !strcmp(e.text, "2 sources given, the file has 3 parts"), "%s", e.text);
    swapped = s[1];
    s[1] = s[2];
    CHECK(open_sources(s, 3, &o, &g, &e) == SMOLQ_E_FORMAT && !strcmp(e.text, "part 2: expected part 2 of 3, found part 3 of 3"), "%s", e.text);
    part(&x, 1, 3, 3, 0);
    s[1] = memory_source(&x);
    CHECK(open_sources(s, 3, &o, &g, &e) == SMOLQ_E_FORMAT && !strcmp(e.text, "tensor 't0' is there twice"), "%s", e.text);
    x.n -= 20;
    s[1] = memory_source(&x);
    CHECK(open_sources(s, 3, &o, &g, &e) == SMOLQ_E_FORMAT && !strncmp(e.text, "part 2: truncated", 17), "%s", e.text);
    bytes_free(&x);
    s[1] = swapped;
    part(&x, 0, 3, 4, 0);
    s[0] = memory_source(&x);
    CHECK(open_sources(s, 3, &o, &g, &e) == SMOLQ_E_FORMAT && !strcmp(e.text, "split.tensors.count is 4, the 3 parts have 3 tensors"), "%s", e.text);
    bytes_free(&x);
    o.limits.n_parts = 2;
    s[0] = memory_source(&b[0]);
    CHECK(open_sources(s, 3, &o, &g, &e) == SMOLQ_E_MEMORY && !strcmp(e.text, "3 parts are more than limits.n_parts allows (2)"), "%s", e.text);
    save("smolq-renamed.gguf", &b[0]);
    CHECK(smolq_gguf_open(in_folder("smolq-renamed.gguf"), NULL, &g, &e) == SMOLQ_E_ARGUMENT && strstr(e.text, "must end with -00001-of-00003.gguf"), "%s", e.text);
    remove(in_folder("smolq-renamed.gguf"));
    remove(in_folder(names[2]));
    snprintf(want, sizeof want, "part 3: can't open '%s': ", in_folder(names[2]));
    CHECK(smolq_gguf_open(in_folder(names[0]), NULL, &g, &e) == SMOLQ_E_IO && !strncmp(e.text, want, strlen(want)), "%s", e.text);
    CHECK(!g, "outputs are untouched");
    for (i = 0; i < 3; i++) {
        remove(in_folder(names[i]));
        bytes_free(&b[i]);
    }
}

static void keep_line(void *user, int32_t level, const char *text) { if (level == SMOLQ_LOG_INFO) snprintf((char *)user, 160, "%s", text); }

static void one_line_is_logged(void)
{
    smolq_gguf *g;
    smolq_error e;
    smolq_open_options o;
    smolq_source s;
    char line[160] = "";
    bytes b;
    small_file(&b, 32);
    s = memory_source(&b);
    memset(&o, 0, sizeof o);
    o.log = keep_line;
    o.user = line;
    REQUIRE(open_sources(&s, 1, &o, &g, &e) == SMOLQ_OK, "%s", e.text);
    CHECK(!strcmp(line, "GGUF version 3: 17 keys, 2 tensors, 832 bytes in 1 file"), "%s", line);
    smolq_gguf_close(g);
    bytes_free(&b);
}

static void real_files_open(void)
{
    static const struct { const char *path; uint64_t pairs, tensors; } rows[] = {
        { "models/smolq-tales.Q4_K_M.gguf", 24, 74 }, { "models/stories260K.gguf", 23, 47 }, { "vocab/ggml-vocab-llama-bpe.gguf", 18, 0 } };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *path = shared_path(rows[i].path);
        smolq_gguf *g;
        smolq_error e;
        if (!path) SKIP("../shared/data is not here");
        REQUIRE(smolq_gguf_open(path, NULL, &g, &e) == SMOLQ_OK, "%s", e.text);
        CHECK(smolq_gguf_info(g)->n_pairs == rows[i].pairs && smolq_gguf_info(g)->n_tensors == rows[i].tensors, "%s", path);
        smolq_gguf_close(g);
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "gguf: all value types, nested arrays and cursors read back", reads_all_types },
        { "gguf: typed getters convert and refuse", getters_convert_and_refuse },
        { "gguf: tensors at alignments 1 to 4096, versions 2 and 3", tensors_lie_where_they_are_said_to_lie },
        { "gguf: memory at any address", any_address_works_for_memory },
        { "gguf: messages say what is wrong", says_what_is_wrong },
        { "gguf: malformed files are refused, in time and memory, others open", refuses_what_is_malformed },
        { "gguf: every truncation", survives_every_truncation },
        { "gguf: every flipped bit", survives_every_flipped_bit },
        { "gguf: reading gives the same tensors, progress cancels", reading_gives_the_same_tensors },
        { "gguf: headers longer than the first read", headers_longer_than_the_first_read },
        { "gguf: every read fails in turn", every_read_fails_in_turn },
        { "gguf: every allocation fails in turn", every_allocation_fails_in_turn },
        { "gguf: limits are kept", limits_are_kept },
        { "gguf: 65536 keys and 16384 tensors are quick", many_keys_and_tensors_are_quick },
        { "gguf: paths that can't be opened", paths_that_cannot_be_opened },
        { "gguf: a mapped and a read file agree", mapped_and_read_files_agree },
        { "gguf: split files are one", split_files_are_one },
        { "gguf: one line is logged", one_line_is_logged },
        { "gguf: real files open", real_files_open },
    };
    int failed = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    gg_free(&small);
    return failed;
}
