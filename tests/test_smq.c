/* Tests of SMQ files: what comes out is what went in, whatever is damaged is found, and nothing in such a file breaks who opens it. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic ignored "-Wunused-function"
#elif defined(__clang__)
#  pragma clang diagnostic ignored "-Wunused-function"
#endif
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "test.h"
#include "scratch.h"
#include "model_build.h"
#include "gguf_build.h"
#include "forward.h"
#include "smq_sign.h"
#include "far.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

typedef struct bytes { uint8_t *p; size_t n; } bytes;
static bytes read_file(const char *path)
{
    bytes b = { NULL, 0 };
    FILE *f = fopen(path, "rb");
    long n = 0;
    if (!f || fseek(f, 0, SEEK_END) || (n = ftell(f)) < 0 || fseek(f, 0, SEEK_SET)) return b;
    b.p = (uint8_t *)malloc((size_t)n + 1);
    b.n = fread(b.p, 1, (size_t)n, f);
    fclose(f);
    return b;
}

/* ---- files in memory, in all the ways ---- */

static int read_bytes(void *user, uint64_t offset, void *dst, size_t n)
{
    const bytes *b = (const bytes *)user;
    if (offset > b->n || n > b->n - offset) abort();
    memcpy(dst, b->p + offset, n);
    return 0;
}
enum { AS_MEMORY, AS_READS };
static smolq_open_options from(const bytes *b, int how, smolq_source *source)
{
    smolq_open_options o;
    memset(&o, 0, sizeof o);
    memset(source, 0, sizeof *source);
    source->size = b->n;
    if (how == AS_READS) source->read = read_bytes;
    else source->data = b->p;
    source->user = (void *)b;
    o.size = sizeof o;
    o.n_sources = 1;
    o.sources = source;
    return o;
}
static smolq_gguf *open_bytes(const bytes *b, int how, smolq_error *err)
{
    smolq_source source;
    smolq_open_options o = from(b, how, &source);
    smolq_gguf *g = NULL;
    smolq_gguf_open(NULL, &o, &g, err);
    return g;
}

/* What one of the two writes, in memory; n 0 and the reason. */
typedef smolq_result (*writes)(const smolq_gguf *gguf, const char *path, const smolq_smq_options *options, smolq_error *err);
static bytes written(writes write, const bytes *from_file, int how, smolq_error *err)
{
    bytes file = { NULL, 0 };
    char *path = path_of("written");
    smolq_gguf *g = open_bytes(from_file, how, err);
    if (!g) return file;
    if (!write(g, path, NULL, err)) file = read_file(path);
    smolq_gguf_close(g);
    remove(path);
    return file;
}
static bytes packed(const bytes *gguf, int how, smolq_error *err) { return written(smolq_smq_pack, gguf, how, err); }
static bytes unpacked(const bytes *smq, int how, smolq_error *err) { return written(smolq_smq_unpack, smq, how, err); }

/* Hash of a forward pass on the reference backend, 0 with the reason. */
static uint64_t hash_of(const char *path, smolq_open_options *o, smolq_error *err)
{
    smolq_model *model = NULL;
    smolq_context_options c;
    smolq_context *context = NULL;
    uint64_t hash = 0;
    if (smolq_open(path, o, &model, err)) return 0;
    memset(&c, 0, sizeof c);
    c.n_ctx = 16;
    if (!smolq_context_open(model, &c, &context, err)) hash = hash_forward(context, smolq_model_info(model)->n_vocab, 6, 2, NULL, err);
    smolq_context_close(context);
    smolq_close(model);
    return hash;
}
static uint64_t hash_bytes(const bytes *b, int how, smolq_error *err)
{
    smolq_source source;
    smolq_open_options o = from(b, how, &source);
    return hash_of(NULL, &o, err);
}

/* ---- round trips ---- */

/* GGUF to SMQ and back gives the same bytes, whether files are in memory or read; the SMQ file is whole. */
static void round_trip(const char *name, const bytes *gguf)
{
    smolq_error err;
    bytes smq, again, back;
    smolq_gguf *g;
    strcpy(err.text, "");
    smq = packed(gguf, AS_MEMORY, &err);
    REQUIRE(smq.n > 0, "%s: %s", name, err.text);
    again = packed(gguf, AS_READS, &err);
    CHECK(again.n == smq.n && memcmp(again.p, smq.p, smq.n) == 0, "%s: another file when it is read: %s", name, err.text);
    back = unpacked(&smq, AS_MEMORY, &err);
    CHECK(back.n == gguf->n && memcmp(back.p, gguf->p, gguf->n) == 0, "%s: other bytes come back: %s", name, err.text);
    free(back.p);
    back = unpacked(&smq, AS_READS, &err);
    CHECK(back.n == gguf->n && memcmp(back.p, gguf->p, gguf->n) == 0, "%s: other bytes come back when it is read: %s", name, err.text);
    g = open_bytes(&smq, AS_MEMORY, &err);
    CHECK(g && smolq_smq_verify(g, NULL, &err) == SMOLQ_OK, "%s: %s", name, err.text);
    smolq_gguf_close(g);
    free(back.p);
    free(again.p);
    free(smq.p);
}

/* Files with one thing that packing might lose. */
static void odd_files_come_back(void)
{
    static const struct { const char *name; int version, alignment, n_tensors, lead, tail, mark, spm; } rows[] = {
        /*  name                                    version align tensors lead  tail mark spm */
        { "no tensors",                                  3,   32,    0,    0,     0,  0, 0 },
        { "nothing",                                     3,   32,   -1,    0,     0,  0, 0 },
        { "GGUF 2",                                      2,   32,    3,    0,     0,  0, 0 },
        { "an alignment of 1",                           3,    1,    3,    0,     0,  0, 0 },
        { "an alignment of 8",                           3,    8,    3,    0,     0,  0, 0 },
        { "an alignment of 16384",                       3, 16384,   3,    0,     0,  0, 0 },
        { "marked padding",                              3,   64,    3,    0,     0,  1, 0 },
        { "zeros before the first tensor",               3,   32,    3, 8192,     0,  0, 0 },
        { "a tail of zeros",                             3,   32,    3,    0,   100,  0, 0 },
        { "a long tail of zeros",                        3,   32,    3,    0, 70000,  0, 0 },
        { "a long tail that is marked",                  3,   32,    3,    0, 70000,  1, 0 },
        { "a tail behind no tensors",                    3,   32,    0,    0,  5000,  1, 0 },
        { "SentencePiece",                               3,   32,    3,    0,     0,  0, 1 },
        { "SentencePiece without scores",                3,   32,    3,    0,     0,  0, 2 },
        { "a tokenizer that nobody knows",               3,   32,    3,    0,     0,  0, 3 },
        { "a tokenizer without tokens",                  3,   32,    3,    0,     0,  0, 4 },
    };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        gguf_build g;
        bytes b;
        int k, t, spm = rows[i].spm;
        gguf_begin(&g, (uint32_t)rows[i].version);
        g.alignment = (uint64_t)rows[i].alignment;
        if (rows[i].n_tensors >= 0) {
            if (g.alignment != 32) gguf_int(&g, "general.alignment", GGUF_U32, g.alignment);
            gguf_text(&g, "general.name", "odd");
            gguf_array(&g, "nested", GGUF_ARRAY, 2);
            for (k = 0; k < 2; k++) {
                gguf_put(&g.pairs, GGUF_STRING, 4);
                gguf_put(&g.pairs, 1, 8);
                gguf_put_text(&g.pairs, "in", 2);
            }
            gguf_array(&g, "truths", GGUF_BOOL, 3);
            gguf_put(&g.pairs, 0x010001, 3);
        }
        if (spm) {
            gguf_text(&g, "tokenizer.ggml.model", spm == 3 ? "abacus" : "llama");
            if (spm != 4) gguf_array(&g, "tokenizer.ggml.tokens", GGUF_STRING, 40);
            for (k = 0; k < 40 && spm != 4; k++) {
                char text[16];
                snprintf(text, sizeof text, k < 4 ? "" : k % 7 ? "t%d" : "same", k);
                gguf_put_text(&g.pairs, text, strlen(text));
            }
            if (spm == 1) {
                gguf_array(&g, "tokenizer.ggml.scores", GGUF_F32, 40);
                for (k = 0; k < 40; k++) gguf_put_float(&g.pairs, -k, GGUF_F32);
            }
        }
        for (t = 0; t < rows[i].n_tensors; t++) {
            uint64_t ne[1] = { (uint64_t)(t == 1 ? 20001 : 37 + t) };
            float *values = (float *)malloc((size_t)ne[0] * 4);
            char name[32];
            for (k = 0; k < (int)ne[0]; k++) values[k] = (float)(k + t);
            if (t == 0 && rows[i].lead) {
                gguf_bytes zeros = { (unsigned char *)calloc(1, (size_t)rows[i].lead), (size_t)rows[i].lead, 0 };
                gguf_put_bytes(&g.data, zeros.p, zeros.n);
                free(zeros.p);
            }
            snprintf(name, sizeof name, "tensor.%d", t);
            gguf_tensor(&g, name, 0, 1, ne, values, (size_t)ne[0] * 4);
            free(values);
        }
        gguf_finish(&g);
        b.n = g.head.n + (size_t)rows[i].tail;
        b.p = (uint8_t *)calloc(1, b.n + 1);
        memcpy(b.p, g.head.p, g.head.n);
        if (rows[i].mark && rows[i].tail) b.p[b.n - 1] = 7;
        if (rows[i].mark && rows[i].n_tensors > 0) { /* in the padding before the second tensor */
            smolq_error err;
            smolq_gguf *open = open_bytes(&b, AS_MEMORY, &err);
            smolq_tensor_info info;
            if (open && !smolq_gguf_tensor(open, 0, &info, &err)) b.p[info.offset + info.bytes] = 9;
            smolq_gguf_close(open);
        }
        round_trip(rows[i].name, &b);
        free(b.p);
        gguf_free(&g);
    }
    CHECK(files_there() == 0, "%d files are left", files_there());
}

static void every_family_comes_back_and_computes_the_same(void)
{
    static const model_spec specs[] = {
        { .family = "llama", .type = 12, .n_embd = 256, .n_ff = 256, .tokenizer = 1 }, { .family = "gemma3", .tokenizer = 1 }, { .family = "qwen3moe", .n_expert = 4, .n_expert_used = 2 },
        { .family = "phi3", .alignment = 64 }, { .family = "smollm3", .type = 8, .tokenizer = 1, .untied = 1 },
    };
    size_t i;
    for (i = 0; i < sizeof specs / sizeof *specs; i++) {
        bytes gguf, smq, odd;
        smolq_error err;
        uint64_t hash;
        strcpy(err.text, "");
        gguf.p = model_build(&specs[i], &gguf.n);
        round_trip(specs[i].family, &gguf);
        hash = hash_bytes(&gguf, AS_MEMORY, &err);
        REQUIRE(hash != 0, "%s: %s", specs[i].family, err.text);
        smq = packed(&gguf, AS_MEMORY, &err);
        CHECK(hash_bytes(&smq, AS_MEMORY, &err) == hash, "%s: other logits: %s", specs[i].family, err.text);
        CHECK(hash_bytes(&smq, AS_READS, &err) == hash, "%s: other logits when it is read: %s", specs[i].family, err.text);
        odd.p = (uint8_t *)malloc(smq.n + 1) + 1;
        odd.n = smq.n;
        memcpy(odd.p, smq.p, smq.n);
        CHECK(hash_bytes(&odd, AS_MEMORY, &err) == hash, "%s: other logits at an odd address: %s", specs[i].family, err.text);
        free(odd.p - 1);
        free(smq.p);
        free(gguf.p);
    }
}

static void golden_in(const char *token_file, int *n)
{
    const char *root = shared_path(token_file);
    struct dirent *entry;
    char path[2048], where[1024];
    DIR *files;
    if (!root) return;
    snprintf(where, sizeof where, "%.*s", (int)(strrchr(root, '/') - root), root);
    files = opendir(where);
    while (files && (entry = readdir(files))) {
        size_t length = strlen(entry->d_name);
        smolq_open_options o;
        smolq_error err;
        bytes gguf, back;
        char *smq = path_of("golden.smq"), *again = path_of("golden.gguf");
        smolq_gguf *g = NULL;
        uint64_t hash;
        if (length < 5 || strcmp(entry->d_name + length - 5, ".gguf")) continue;
        memset(&o, 0, sizeof o);
        snprintf(path, sizeof path, "%s/%s", where, entry->d_name);
        REQUIRE(!smolq_gguf_open(path, NULL, &g, &err) && !smolq_smq_pack(g, smq, NULL, &err), "%s: %s", entry->d_name, err.text);
        smolq_gguf_close(g);
        REQUIRE(!smolq_gguf_open(smq, NULL, &g, &err) && !smolq_smq_unpack(g, again, NULL, &err), "%s: %s", entry->d_name, err.text);
        smolq_gguf_close(g);
        gguf = read_file(path);
        back = read_file(again);
        CHECK(gguf.n == back.n && memcmp(gguf.p, back.p, gguf.n) == 0, "%s: other bytes", entry->d_name);
        hash = hash_of(path, &o, &err);
        CHECK(hash && hash_of(smq, &o, &err) == hash, "%s: other logits: %s", entry->d_name, err.text);
        free(gguf.p);
        free(back.p);
        remove(smq);
        remove(again);
        ++*n;
    }
    if (files) closedir(files);
}
static void golden_models_come_back_and_compute_the_same(void)
{
    int n = 0;
    if (!shared_path("golden/logits/tokens.txt")) SKIP("no golden data");
    golden_in("golden/logits/tokens.txt", &n);
    golden_in("golden/logits2/tokens.txt", &n);
    CHECK(n > 20, "%d files", n);
}

/* ---- the tokenizer ---- */

/* Two vocabularies say the same of every token and cut a text alike. */
static void same_vocab(const char *name, const smolq_vocab *a, const smolq_vocab *b)
{
    static const char text[] = "Once upon a time, 12345 <|im_start|>caf\303\251 \360\237\230\200\n\n  \tdon't</s> \377\200 the end of<0x0A>";
    smolq_vocab_facts fa = *smolq_vocab_info(a), fb = *smolq_vocab_info(b);
    int32_t id, x[200], y[200];
    size_t n, m, flags;
    smolq_error err;
    REQUIRE(smolq_vocab_size(a) == smolq_vocab_size(b), "%s: %d tokens, %d", name, (int)smolq_vocab_size(a), (int)smolq_vocab_size(b));
    fa.chat_template = fb.chat_template = NULL; /* in two mappings */
    CHECK(memcmp(&fa, &fb, sizeof fa) == 0, "%s: other facts", name);
    for (id = 0; id < smolq_vocab_size(a); id++) {
        smolq_token s, t;
        smolq_token_info(a, id, &s, NULL);
        smolq_token_info(b, id, &t, NULL);
        REQUIRE(s.bytes == t.bytes && memcmp(s.text, t.text, s.bytes) == 0 && s.type == t.type && s.score == t.score && smolq_token_is_eog(a, id) == smolq_token_is_eog(b, id) &&
                    smolq_token_find(a, s.text, s.bytes) == smolq_token_find(b, s.text, s.bytes), "%s: token %d differs", name, (int)id);
    }
    for (flags = 0; flags < 8; flags++) {
        REQUIRE(!smolq_tokenize(a, text, sizeof text - 1, (int32_t)flags, x, 200, &n, &err) && !smolq_tokenize(b, text, sizeof text - 1, (int32_t)flags, y, 200, &m, &err), "%s: %s", name, err.text);
        CHECK(n == m && memcmp(x, y, n * sizeof *x) == 0, "%s: other tokens with flags %d", name, (int)flags);
    }
}

static void tokenizers_are_the_same(void)
{
    static const char *const files[] = {
        "examples/models/smolq-tales.Q4_K_M.gguf", "vocab/ggml-vocab-smollm3.gguf", "vocab/ggml-vocab-phi-3.gguf", "vocab/ggml-vocab-llama-bpe.gguf", "vocab/ggml-vocab-deepseek-llm.gguf",
        "vocab/ggml-vocab-starcoder.gguf", "vocab/ggml-vocab-gpt-2.gguf", "vocab/ggml-vocab-falcon.gguf", "vocab/ggml-vocab-llama-spm.gguf", "vocab/ggml-vocab-qwen2.gguf",
    };
    size_t i;
    for (i = 0; i < sizeof files / sizeof *files; i++) {
        const char *path = i ? shared_path(files[i]) : files[i];
        char *smq = path_of("vocab.smq");
        smolq_gguf *g = NULL;
        smolq_vocab *a = NULL, *b = NULL;
        smolq_smq_facts facts;
        smolq_error err;
        bytes before, after;
        if (!path) continue;
        REQUIRE(!smolq_gguf_open(path, NULL, &g, &err) && !smolq_smq_pack(g, smq, NULL, &err), "%s: %s", path, err.text);
        before = read_file(smq);
        REQUIRE(!smolq_smq_pack(g, smq, NULL, &err), "%s: %s", path, err.text);
        after = read_file(smq);
        smolq_gguf_close(g);
        CHECK(before.n == after.n && memcmp(before.p, after.p, before.n) == 0, "%s: packed twice, it is not the same", path);
        REQUIRE(!smolq_vocab_open(path, NULL, &a, &err) && !smolq_vocab_open(smq, NULL, &b, &err), "%s: %s", path, err.text);
        memset(&facts, 0, sizeof facts);
        CHECK(!smolq_smq_info(b->gguf, &facts, &err) && facts.has_tables && facts.vocab_bytes > 1000 && facts.gguf_bytes == smolq_gguf_info(a->gguf)->file_bytes, "%s: %s", path, err.text);
        CHECK((const uint8_t *)b->spans > b->gguf->parts[0]->file.data && (const uint8_t *)b->spans < b->gguf->parts[0]->file.data + before.n && b->heap.used < a->heap.used / 4 + 20000, "%s: tables of %d bytes, %d", path, (int)b->heap.used, (int)a->heap.used);
        same_vocab(path, a, b);
        smolq_vocab_close(a);
        smolq_vocab_close(b);
        free(before.p);
        free(after.p);
        remove(smq);
    }
}

/* ---- damage ---- */

/* A small model with a tokenizer, as SMQ. */
static bytes small_smq(void)
{
    model_spec spec = { .family = "llama", .n_layer = 1, .n_embd = 32, .n_head = 2, .n_head_kv = 1, .n_ff = 32, .tokenizer = 1 };
    bytes gguf, smq;
    smolq_error err;
    gguf.p = model_build(&spec, &gguf.n);
    gguf.p = (uint8_t *)realloc(gguf.p, gguf.n + 300); /* a tail, so that it has gaps */
    memset(gguf.p + gguf.n, 5, 300);
    gguf.n += 300;
    smq = packed(&gguf, AS_MEMORY, &err);
    free(gguf.p);
    return smq;
}

/* All that can be done with a file, however it goes. */
static void use(const bytes *b, int how)
{
    smolq_error err;
    smolq_source source;
    smolq_open_options o = from(b, how, &source);
    smolq_model *model = NULL;
    smolq_gguf *g = open_bytes(b, how, &err);
    uint64_t i, cursor, j;
    if (!g) return;
    for (i = 0; i < smolq_gguf_info(g)->n_pairs; i++) {
        smolq_pair pair;
        smolq_value v;
        smolq_gguf_pair(g, i, &pair, NULL);
        for (cursor = 0, j = 0; pair.value.type == SMOLQ_GGUF_ARRAY && j < pair.value.n && j < 300; j++)
            if (smolq_gguf_element(&pair.value, j, &cursor, &v, NULL)) break;
    }
    smolq_smq_verify(g, NULL, &err);
    if (smolq_smq_info(g, &(smolq_smq_facts){ 0 }, &err) == SMOLQ_OK && smolq_smq_unpack(g, path_of("use.gguf"), NULL, &err) == SMOLQ_OK) remove(path_of("use.gguf"));
    smolq_gguf_close(g);
    o.limits.memory = 64 << 20;
    if (smolq_open(NULL, &o, &model, &err)) return;
    if (smolq_model_vocab(model)) {
        const smolq_vocab *v = smolq_model_vocab(model);
        int32_t ids[256], id;
        char text[4096];
        size_t n = 0, m;
        if (!smolq_tokenize(v, "the then <|im_end|> there\n", 26, 7, ids, 256, &n, &err)) smolq_detokenize(v, ids, n, SMOLQ_SHOW_SPECIAL, text, sizeof text, &m, &err);
        for (id = 0; id < smolq_vocab_size(v); id++) {
            smolq_token token;
            smolq_token_info(v, id, &token, NULL);
            smolq_token_find(v, token.text, token.bytes);
        }
    }
    {
        smolq_context_options c;
        smolq_context *context = NULL;
        memset(&c, 0, sizeof c);
        c.n_ctx = 8;
        c.max_bytes = 16 << 20;
        if (!smolq_context_open(model, &c, &context, &err)) hash_forward(context, smolq_model_info(model)->n_vocab, 2, 1, NULL, &err);
        smolq_context_close(context);
    }
    smolq_close(model);
}

static void every_truncation_is_an_error(void)
{
    bytes smq = small_smq(), cut;
    smolq_error err;
    REQUIRE(smq.n > 0, "no file");
    for (cut.n = 0; cut.n < smq.n; cut.n++) {
        smolq_gguf *g;
        cut.p = (uint8_t *)malloc(cut.n + 1); /* where a sanitizer sees its end */
        memcpy(cut.p, smq.p, cut.n);
        strcpy(err.text, "");
        g = open_bytes(&cut, AS_MEMORY, &err);
        if (g || strlen(err.text) < 10) test_fail(__FILE__, __LINE__, "%d of %d bytes: opened, or no reason: %s", (int)cut.n, (int)smq.n, err.text);
        smolq_gguf_close(g);
        if (cut.n > 8 && cut.n % 17 == 0) { /* the header says that this is all */
            smq_sign(cut.p, cut.n);
            use(&cut, AS_MEMORY);
        }
        free(cut.p);
    }
    free(smq.p);
}

/* 10,000 files with some bytes changed: opening or verify says so. */
static void damage_is_found(void)
{
    bytes smq = small_smq(), bad;
    uint64_t rng = 1, i, opened = 0;
    smolq_error err;
    REQUIRE(smq.n > 0, "no file");
    bad.n = smq.n;
    bad.p = (uint8_t *)malloc(bad.n);
    for (i = 0; i < 10000; i++) {
        int changes = 1 + (int)(build_random(&rng) % 4), k;
        smolq_gguf *g;
        memcpy(bad.p, smq.p, bad.n);
        for (k = 0; k < changes; k++) bad.p[build_random(&rng) % (i % 2 ? bad.n : 512)] ^= (uint8_t)(1 + build_random(&rng) % 255);
        if (memcmp(bad.p, smq.p, bad.n) == 0) continue;
        g = open_bytes(&bad, (int)(i % 7 == 0), &err);
        opened += g != NULL;
        if (g && smolq_smq_verify(g, NULL, &err) == SMOLQ_OK) test_fail(__FILE__, __LINE__, "damage %d is not found", (int)i);
        smolq_gguf_close(g);
    }
    CHECK(opened > 1000, "%d were opened", (int)opened);
    free(bad.p);
    free(smq.p);
}

/* 10,000 more with checksums that are right again: who made them knew how.  They may even work; they must not break anything. */
static void hostile_files_break_nothing(void)
{
    bytes smq = small_smq(), bad;
    uint64_t rng = 2, i;
    REQUIRE(smq.n > 0, "no file");
    for (i = 0; i < 10000; i++) {
        int changes = 1 + (int)(build_random(&rng) % 3), k;
        bad.n = smq.n;
        bad.p = (uint8_t *)malloc(bad.n);
        memcpy(bad.p, smq.p, bad.n);
        for (k = 0; k < changes; k++) {
            static const uint64_t numbers[] = { 0, 1, 7, 8, 63, 64, 4096, 65535, 0x7fffffff, 0x80000000u, 0xffffffffu, 0x100000000u, 0x7fffffffffffffffu, 0xffffffffffffffffu };
            uint64_t at = smq_interesting(bad.p, bad.n, build_random(&rng)), number = numbers[build_random(&rng) % (sizeof numbers / sizeof *numbers)];
            int width = 1 << build_random(&rng) % 4, j;
            if (build_random(&rng) % 3 == 0) number = smolq_u64_at(bad.p + at) + build_random(&rng) % 17 - 8;
            for (j = 0; j < width; j++) bad.p[at + (uint64_t)j] = (uint8_t)(number >> 8 * j);
        }
        smq_sign(bad.p, bad.n);
        use(&bad, (int)(i % 5 == 0));
        free(bad.p);
    }
    CHECK(files_there() == 0, "%d files are left", files_there());
    free(smq.p);
}

/* One field of the file set, signed again: what opening says, or NULL for nothing. */
static void expect(const bytes *smq, uint64_t at, int width, uint64_t value, const char *said, const char *what)
{
    bytes b;
    smolq_error err;
    smolq_vocab *v = NULL;
    smolq_source source;
    smolq_open_options o;
    int i;
    b.n = smq->n;
    b.p = (uint8_t *)malloc(b.n);
    memcpy(b.p, smq->p, b.n);
    for (i = 0; i < width; i++) b.p[at + (uint64_t)i] = (uint8_t)(value >> 8 * i);
    smq_sign(b.p, b.n);
    o = from(&b, AS_MEMORY, &source);
    strcpy(err.text, "");
    if (smolq_vocab_open(NULL, &o, &v, &err)) CHECK(said && strstr(err.text, said), "%s: %s", what, err.text);
    else CHECK(!said, "%s: opened", what);
    smolq_vocab_close(v);
    free(b.p);
}

static void every_field_is_checked(void)
{
    bytes smq = small_smq();
    uint64_t vocab, pairs, tensors, slots;
    REQUIRE(smq.n > 0, "no file");
    vocab = smq_section(smq.p, SMOLQ__SECTION_VOCAB);
    pairs = smq_section(smq.p, SMOLQ__SECTION_PAIRS);
    tensors = smq_section(smq.p, SMOLQ__SECTION_TENSORS);
    REQUIRE(vocab && pairs && tensors, "sections at %d, %d, %d", (int)vocab, (int)pairs, (int)tensors);
    expect(&smq, 8, 2, 2, NULL, "what is there");
    expect(&smq, 8, 2, 3, "SMQ version 3", "a version to come");
    expect(&smq, 10, 2, 9, NULL, "a minor version to come");
    expect(&smq, 16, 8, 4, "features 4", "a feature that must be understood");
    expect(&smq, 24, 8, 4, NULL, "a feature that may be ignored");
    expect(&smq, 12, 4, 64, "header of 64", "a shorter header");
    expect(&smq, 64, 4, 65, "65 sections", "many sections");
    expect(&smq, 68, 4, 40, "of 40", "longer entries");
    expect(&smq, 56, 8, UINT64_MAX, "not in the file", "a table beyond the end");
    expect(&smq, 40, 8, 100, "needs", "a GGUF file that ends before its tensors");
    expect(&smq, SMOLQ__SMQ_HEADER, 4, 77, "no metadata", "a section of another kind");
    expect(&smq, SMOLQ__SMQ_HEADER, 4, SMOLQ__SECTION_PAIRS, "twice", "a section twice");
    expect(&smq, SMOLQ__SMQ_HEADER + 8, 8, 3, "not aligned", "a section at an odd place");
    expect(&smq, SMOLQ__SMQ_HEADER + 16, 8, UINT64_MAX, "not in the file", "a section beyond the end");
    expect(&smq, pairs, 8, 25, "table of pairs says 25", "a pair that ends elsewhere");
    expect(&smq, tensors, 8, smq.n, "not aligned or not in the file", "a tensor beyond the end");
    expect(&smq, tensors, 8, 65, "not aligned", "a tensor at an odd place");
    expect(&smq, tensors + 8, 8, 1, "are not its", "a tensor of another size");
    expect(&smq, vocab, 4, 2, NULL, "tables of a version to come");
    expect(&smq, vocab + 4, 4, 3, "head does not go", "another number of tokens");
    expect(&smq, vocab + 8, 4, 1 << 30, "head does not go", "many merges");
    expect(&smq, vocab + 12, 4, 1, "head does not go", "scores with byte-level BPE");
    expect(&smq, vocab + 16, 4, 24, "head does not go", "slots that are no power of two");
    expect(&smq, vocab + 16, 4, 32, "size is not", "fewer slots");
    expect(&smq, vocab + 32, 4, 1000000, "head does not go", "an end of turn that is no token");
    expect(&smq, vocab + 36, 4, 1000000, "head does not go", "an end of message that is no token");
    expect(&smq, tensors + 24, 8, smolq_u64_at(smq.p + tensors), "two things", "two tensors in one place");
    expect(&smq, tensors, 8, pairs, "two things", "a tensor over a section");
    expect(&smq, smq_entry(smq.p, SMOLQ__SECTION_METADATA) + 16, 8, smolq_u64_at(smq.p + smq_entry(smq.p, SMOLQ__SECTION_METADATA) + 16) + 1, "metadata of", "a byte more of metadata");
    expect(&smq, vocab + 64, 4, 9, "texts are not", "a text elsewhere");
    expect(&smq, vocab + 68, 4, 1 << 21, "texts are not", "a long text");
    expect(&smq, vocab + smq_table(smq.p + vocab, 1), 1, 7, "unknown kind", "a token of an unknown type");
    expect(&smq, vocab + smq_table(smq.p + vocab, 1), 1, 128, "unknown kind", "a token with an unknown mark");
    slots = vocab + smq_table(smq.p + vocab, 3);
    expect(&smq, slots + 4, 4, 100000, "index has a token", "a token that is not there");
    expect(&smq, vocab + smq_table(smq.p + vocab, 4), 4, 100000, "merge has a token", "a merge of nothing");
    expect(&smq, vocab + smq_table(smq.p + vocab, 5) + 4, 4, 100000, "pairs have a merge", "a pair of nothing");
    { /* every slot full: a look-up would never end */
        bytes full = { (uint8_t *)malloc(smq.n), smq.n };
        uint64_t i, n = smolq_u32_at(smq.p + vocab + 16);
        memcpy(full.p, smq.p, smq.n);
        for (i = 0; i < n; i++) memset(full.p + slots + 8 * i + 4, 0, 4);
        expect(&full, 8, 2, 2, "too full", "a full index");
        free(full.p);
    }
    free(smq.p);
}

/* What only verify finds: said, signed, and what it is about. */
static void expect_verify(const bytes *smq, uint64_t at, int width, uint64_t value, const char *said)
{
    bytes b;
    smolq_error err;
    smolq_gguf *g;
    smolq_result result;
    int i;
    b.n = smq->n;
    b.p = (uint8_t *)malloc(b.n);
    memcpy(b.p, smq->p, b.n);
    for (i = 0; i < width; i++) b.p[at + (uint64_t)i] = (uint8_t)(value >> 8 * i);
    smq_sign(b.p, b.n);
    g = open_bytes(&b, AS_MEMORY, &err);
    REQUIRE(g, "%s: does not open: %s", said, err.text);
    strcpy(err.text, "");
    result = smolq_smq_verify(g, NULL, &err);
    CHECK(result == SMOLQ_E_FORMAT && strstr(err.text, said), "%s: %d, %s", said, (int)result, err.text);
    CHECK(smolq_smq_unpack(g, path_of("x.gguf"), NULL, &err) == SMOLQ_E_FORMAT && files_there() == 0, "%s: unpacked, or %d files", said, files_there());
    smolq_gguf_close(g);
    free(b.p);
}

static void verify_finds_what_opening_does_not_look_for(void)
{
    bytes smq = small_smq(), more;
    uint64_t gaps, metadata, at, n, entry;
    smolq_error err;
    smolq_gguf *g;
    REQUIRE(smq.n > 0, "no file");
    gaps = smq_section(smq.p, SMOLQ__SECTION_GAPS);
    metadata = smq_section(smq.p, SMOLQ__SECTION_METADATA);
    REQUIRE(gaps && metadata && smolq_u64_at(smq.p + gaps) == 1, "sections at %d, %d", (int)gaps, (int)metadata);
    expect_verify(&smq, 48, 8, 1, "the GGUF file in it");
    expect_verify(&smq, 40, 8, smolq_u64_at(smq.p + 40) + 1, "not those of its tensors");
    expect_verify(&smq, 40, 8, smolq_u64_at(smq.p + 40) + 9000, "lacks");
    expect_verify(&smq, gaps, 8, 0, "not those of its tensors");
    expect_verify(&smq, gaps, 8, (uint64_t)1 << 60, "the gaps of the SMQ file");
    expect_verify(&smq, gaps + 8, 8, 1, "not those of its tensors");
    n = smolq_u64_at(smq.p + gaps + 16); /* a longer run, and a GGUF file that has it */
    more.n = smq.n;
    more.p = (uint8_t *)malloc(more.n);
    memcpy(more.p, smq.p, more.n);
    smolq__put_u64(more.p + gaps + 16, n + 100);
    expect_verify(&more, 40, 8, smolq_u64_at(smq.p + 40) + 100, "end within");
    free(more.p);
    /* the length of the first token, where no tables of the vocabulary say otherwise: the walk over the tokens ends elsewhere than the table of pairs says */
    more.n = smq.n;
    more.p = (uint8_t *)malloc(more.n);
    memcpy(more.p, smq.p, more.n);
    more.p[smq_entry(more.p, SMOLQ__SECTION_VOCAB)] = 78;
    for (at = metadata; memcmp(smq.p + at, "tokenizer.ggml.tokens", 21); at++) {}
    expect_verify(&more, at + 21 + 4 + 4 + 8, 1, smq.p[at + 21 + 16] + 1u, "key ");
    free(more.p);
    /* a byte behind everything */
    more.n = smq.n + 3;
    more.p = (uint8_t *)calloc(1, more.n);
    memcpy(more.p, smq.p, smq.n);
    more.p[more.n - 1] = 1;
    smq_sign(more.p, more.n);
    g = open_bytes(&more, AS_MEMORY, &err);
    CHECK(g && smolq_smq_verify(g, NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, "belong to nothing"), "%s", err.text);
    smolq_gguf_close(g);
    free(more.p);
    /* a section of another build: whole, then damaged */
    entry = smq_entry(smq.p, SMOLQ__SECTION_VOCAB);
    at = smq_section(smq.p, SMOLQ__SECTION_VOCAB);
    smq.p[entry] = 77;
    smq_sign(smq.p, smq.n);
    g = open_bytes(&smq, AS_MEMORY, &err);
    CHECK(g && smolq_smq_verify(g, NULL, &err) == SMOLQ_OK, "a section of another build: %s", err.text);
    smolq_gguf_close(g);
    smq.p[at + 1000] ^= 4;
    g = open_bytes(&smq, AS_MEMORY, &err);
    CHECK(g && smolq_smq_verify(g, NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, "section 77"), "a section of another build: %s", err.text);
    smolq_gguf_close(g);
    free(smq.p);
}

/* A vocabulary of its own as SMQ: byte-level BPE or SentencePiece, with these tokens, the last n_control of them control tokens. */
static bytes vocab_smq(int spm, int n_tokens, int n_control, void (*text_of)(int i, char *text, size_t *n), smolq_error *err)
{
    gguf_build g;
    bytes gguf, smq;
    int i;
    gguf_begin(&g, 3);
    gguf_text(&g, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
    gguf_text(&g, "tokenizer.ggml.pre", "gpt-2");
    gguf_array(&g, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)n_tokens);
    for (i = 0; i < n_tokens; i++) gguf_put(&g.pairs, i >= n_tokens - n_control ? 3 : 1, 4);
    if (spm) {
        gguf_array(&g, "tokenizer.ggml.scores", GGUF_F32, (uint64_t)n_tokens);
        for (i = 0; i < n_tokens; i++) gguf_put_float(&g.pairs, -i, GGUF_F32);
    } else {
        gguf_array(&g, "tokenizer.ggml.merges", GGUF_STRING, 0);
    }
    gguf_array(&g, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)n_tokens);
    for (i = 0; i < n_tokens; i++) {
        char text[32];
        size_t n;
        text_of(i, text, &n);
        gguf_put_text(&g.pairs, text, n);
    }
    gguf_finish(&g);
    gguf.p = g.head.p;
    gguf.n = g.head.n;
    smq = packed(&gguf, AS_MEMORY, err);
    gguf_free(&g);
    return smq;
}

static void three_alike(int i, char *text, size_t *n) { *n = (size_t)snprintf(text, 32, i < 297 ? "t%d" : "<|same|>", i); }
static void numbered(int i, char *text, size_t *n) { *n = (size_t)snprintf(text, 32, "token %d", i); }

/* Control tokens with one text and nothing that marks the later ones: the text is still found, as the first of them, and nothing beyond is read. */
static void special_tokens_of_one_text_are_one(void)
{
    smolq_error err;
    bytes smq = vocab_smq(0, 300, 3, three_alike, &err);
    uint64_t kinds;
    smolq_source source;
    smolq_open_options o;
    smolq_vocab *v = NULL;
    int32_t ids[8];
    size_t n;
    int i, how;
    REQUIRE(smq.n, "%s", err.text);
    kinds = smq_section(smq.p, SMOLQ__SECTION_VOCAB) + smq_table(smq.p + smq_section(smq.p, SMOLQ__SECTION_VOCAB), 1);
    CHECK(smq.p[kinds + 299] == (SMOLQ_TOKEN_CONTROL | SMOLQ__KIND_COPY), "kind %d", smq.p[kinds + 299]);
    for (i = 297; i < 300; i++) smq.p[kinds + (uint64_t)i] = SMOLQ_TOKEN_CONTROL;
    smq_sign(smq.p, smq.n);
    for (how = AS_MEMORY; how <= AS_READS; how++) {
        o = from(&smq, how, &source);
        REQUIRE(!smolq_vocab_open(NULL, &o, &v, &err), "%s", err.text);
        CHECK(!smolq_tokenize(v, "<|same|>", 8, SMOLQ_PARSE_SPECIAL, ids, 8, &n, &err) && n == 1 && ids[0] == 297, "%d ids, the first %d: %s", (int)n, (int)ids[0], err.text);
        smolq_vocab_close(v);
    }
    free(smq.p);
}

static void slots_and_scores_are_checked(void)
{
    smolq_error err;
    bytes smq = vocab_smq(1, 2000, 0, numbered, &err), full;
    uint64_t vocab, slots, i;
    REQUIRE(smq.n, "%s", err.text);
    vocab = smq_section(smq.p, SMOLQ__SECTION_VOCAB);
    slots = vocab + smq_table(smq.p + vocab, 3);
    REQUIRE(smolq_u32_at(smq.p + vocab + 16) == 4096, "%d slots", (int)smolq_u32_at(smq.p + vocab + 16));
    expect(&smq, vocab + smq_table(smq.p + vocab, 2) + 40, 4, 0x7fc00000, "score is NaN", "a score that is NaN");
    expect(&smq, vocab + 12, 4, 3, "head does not go", "an unknown flag");
    full.n = smq.n;
    full.p = (uint8_t *)malloc(full.n);
    memcpy(full.p, smq.p, full.n);
    for (i = 1000; i < 2025; i++) memset(full.p + slots + 8 * i + 4, 0, 4);
    expect(&full, 8, 2, 2, "too full", "a run of 1025");
    memcpy(full.p, smq.p, full.n);
    for (i = 0; i < 1030; i++) memset(full.p + slots + 8 * ((3500 + i) % 4096) + 4, 0, 4);
    expect(&full, 8, 2, 2, "too full", "a run around the end");
    free(full.p);
    free(smq.p);
}

/* Eight bytes each, of one hash under a seed that the file names: the hash, turned around. */
static uint64_t aimed_seed = 0x1234567;
static uint64_t inverse_of(uint64_t k)
{
    uint64_t x = k;
    int i;
    for (i = 0; i < 6; i++) x *= 2 - k * x;
    return x;
}
static void aimed(int i, char *text, size_t *n)
{
    const uint64_t k = 0xd6e8feb86659fd93u;
    uint64_t h = ((uint64_t)0xabcdef01 << 32 | (uint32_t)(i + 1)) * inverse_of(k);
    h = (h ^ h >> 32) * inverse_of(k);
    smolq__put_u64((uint8_t *)text, h ^ aimed_seed ^ 8 * 0x9e3779b97f4a7c15u);
    *n = 8;
}

/* Who chooses the seed could make all tokens share a slot, and whoever makes the tables anew wait for long. */
static void a_seed_that_was_aimed_costs_no_time(void)
{
    smolq_error err;
    bytes smq = vocab_smq(0, 60000, 0, aimed, &err);
    {
        char a[8], b[8];
        size_t n;
        smolq__text x, y;
        aimed(3, a, &n);
        aimed(50000, b, &n);
        x.p = a, y.p = b, x.n = y.n = 8;
        REQUIRE(smolq__hash(aimed_seed, x) == smolq__hash(aimed_seed, y), "they have two hashes");
    }
    {
        uint64_t vocab = smq.n ? smq_section(smq.p, SMOLQ__SECTION_VOCAB) : 0, slots;
        smolq_gguf *g;
        REQUIRE(vocab, "%s", err.text);
        slots = vocab + smq_table(smq.p + vocab, 3);
        memset(smq.p + slots, 0xff, (size_t)smolq_u32_at(smq.p + vocab + 16) * 8); /* an empty index passes every check */
        smolq__put_u64(smq.p + vocab + 24, aimed_seed);
        smq_sign(smq.p, smq.n);
        g = open_bytes(&smq, AS_MEMORY, &err);
        REQUIRE(g, "%s", err.text);
        CHECK(smolq_smq_verify(g, NULL, &err) != SMOLQ_OK && strstr(err.text, "in a row"), "%s", err.text);
        smolq_gguf_close(g);
        smolq__put_u64(smq.p + vocab + 24, 0);
        smq_sign(smq.p, smq.n);
        g = open_bytes(&smq, AS_MEMORY, &err);
        CHECK(g && smolq_smq_verify(g, NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, "seed is 0"), "%s", err.text);
        smolq_gguf_close(g);
    }
    free(smq.p);
}

/* A part of a split file in a container: refused, whichever it is. */
static void parts_are_no_smq_files(void)
{
    gguf_build b[2];
    bytes gguf[2], smq[2];
    smolq_source sources[2];
    smolq_open_options o;
    smolq_error err;
    smolq_gguf *g = NULL;
    uint64_t ne[1] = { 4 };
    float values[4] = { 1, 2, 3, 4 };
    int k;
    for (k = 0; k < 2; k++) {
        uint64_t at;
        gguf_begin(&b[k], 3);
        gguf_int(&b[k], "split.no", GGUF_U16, 0);
        gguf_int(&b[k], "split.count", GGUF_U16, 1);
        gguf_tensor(&b[k], k ? "b" : "a", 0, 1, ne, values, sizeof values);
        gguf_finish(&b[k]);
        gguf[k].p = b[k].head.p;
        gguf[k].n = b[k].head.n;
        smq[k] = packed(&gguf[k], AS_MEMORY, &err);
        REQUIRE(smq[k].n, "%s", err.text);
        for (at = 0; memcmp(smq[k].p + at, "split.no", 8); at++) {}
        smq[k].p[at + 12] = (uint8_t)k;
        for (at = 0; memcmp(smq[k].p + at, "split.count", 11); at++) {}
        smq[k].p[at + 15] = 2;
        smq_sign(smq[k].p, smq[k].n);
        for (at = 0; memcmp(gguf[k].p + at, "split.no", 8); at++) {}
        gguf[k].p[at + 12] = (uint8_t)k;
        for (at = 0; memcmp(gguf[k].p + at, "split.count", 11); at++) {}
        gguf[k].p[at + 15] = 2;
    }
    memset(&o, 0, sizeof o);
    o.n_sources = 2;
    o.sources = sources;
    for (k = 0; k < 4; k++) {
        memset(sources, 0, sizeof sources);
        sources[0].data = k & 1 ? smq[0].p : gguf[0].p;
        sources[0].size = k & 1 ? smq[0].n : gguf[0].n;
        sources[1].data = k & 2 ? smq[1].p : gguf[1].p;
        sources[1].size = k & 2 ? smq[1].n : gguf[1].n;
        if (k == 0) CHECK(!smolq_gguf_open(NULL, &o, &g, &err) && smolq_gguf_info(g)->n_tensors == 2, "two GGUF files: %s", err.text);
        else CHECK(smolq_gguf_open(NULL, &o, &g, &err) == SMOLQ_E_UNSUPPORTED && strstr(err.text, "SMQ"), "parts %d: %s", k, err.text);
        if (k == 0) smolq_gguf_close(g);
    }
    for (k = 0; k < 2; k++) {
        free(smq[k].p);
        gguf_free(&b[k]);
    }
}

static int finite_progress(void *user, float done)
{
    if (!(done >= 0 && done <= 1)) ++*(int *)user;
    return 0;
}

static void tensors_begin_pages_and_progress_is_a_number(void)
{
    const char *path = "examples/models/smolq-tales.Q4_K_M.gguf";
    char *smq = path_of("pages.smq");
    smolq_smq_options options;
    smolq_gguf *g = NULL;
    smolq_error err;
    gguf_build none;
    bytes b, empty;
    uint64_t i, pages = 0;
    int wrong = 0;
    memset(&options, 0, sizeof options);
    options.progress = finite_progress;
    options.user = &wrong;
    REQUIRE(!smolq_gguf_open(path, NULL, &g, &err) && !smolq_smq_pack(g, smq, &options, &err), "%s", err.text);
    smolq_gguf_close(g);
    REQUIRE(!smolq_gguf_open(smq, NULL, &g, &err), "%s", err.text);
    for (i = 0; i < smolq_gguf_info(g)->n_tensors; i++) {
        smolq_tensor_info t;
        smolq_gguf_tensor(g, i, &t, NULL);
        pages += t.bytes >= 65536;
        CHECK(t.offset % (t.bytes >= 65536 ? 4096 : 64) == 0, "a tensor of %d bytes at %d", (int)t.bytes, (int)t.offset);
    }
    CHECK(pages > 8 && !smolq_smq_verify(g, &options, &err) && !wrong, "%d pages, %d wrong numbers: %s", (int)pages, wrong, err.text);
    smolq_gguf_close(g);
    remove(smq);
    gguf_begin(&none, 3);
    gguf_text(&none, "general.name", "nothing");
    gguf_finish(&none);
    b.p = none.head.p;
    b.n = none.head.n;
    empty = packed(&b, AS_MEMORY, &err);
    g = open_bytes(&empty, AS_MEMORY, &err);
    CHECK(g && !smolq_smq_verify(g, &options, &err) && !wrong, "without tensors: %d wrong numbers, %s", wrong, err.text);
    smolq_gguf_close(g);
    free(empty.p);
    gguf_free(&none);
}

/* Tables that are in order but say something else than the metadata work, and verify tells. */
static void verify_compares_the_tables_with_the_metadata(void)
{
    bytes smq = small_smq();
    uint64_t vocab = smq.n ? smq_section(smq.p, SMOLQ__SECTION_VOCAB) : 0;
    smolq_error err;
    smolq_gguf *g;
    REQUIRE(vocab, "no file");
    smq.p[vocab + smq_table(smq.p + vocab, 1) + 100] = SMOLQ_TOKEN_CONTROL;
    smq_sign(smq.p, smq.n);
    g = open_bytes(&smq, AS_MEMORY, &err);
    REQUIRE(g, "%s", err.text);
    CHECK(smolq_smq_verify(g, NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, "not that of its metadata"), "%s", err.text);
    smolq_gguf_close(g);
    free(smq.p);
}

/* Tables of another version are left alone, and the vocabulary is as from the GGUF. */
static void other_versions_of_tables_are_made_anew(void)
{
    bytes smq = small_smq(), other;
    smolq_source sa, sb;
    smolq_open_options a, b;
    smolq_vocab *va = NULL, *vb = NULL;
    smolq_smq_facts facts;
    smolq_error err;
    REQUIRE(smq.n > 0, "no file");
    other.n = smq.n;
    other.p = (uint8_t *)malloc(smq.n);
    memcpy(other.p, smq.p, smq.n);
    other.p[smq_section(smq.p, SMOLQ__SECTION_VOCAB)] = 99;
    smq_sign(other.p, other.n);
    a = from(&smq, AS_MEMORY, &sa);
    b = from(&other, AS_MEMORY, &sb);
    REQUIRE(!smolq_vocab_open(NULL, &a, &va, &err) && !smolq_vocab_open(NULL, &b, &vb, &err), "%s", err.text);
    memset(&facts, 0, sizeof facts);
    CHECK(!smolq_smq_info(vb->gguf, &facts, &err) && !facts.has_tables && facts.vocab_bytes, "%s", err.text);
    same_vocab("another version", va, vb);
    smolq_vocab_close(va);
    smolq_vocab_close(vb);
    free(other.p);
    free(smq.p);
}

/* ---- when tensors are verified ---- */

/* A byte of the data of a tensor changed. */
static void break_tensor(bytes *smq, const char *name)
{
    smolq_error err;
    smolq_gguf *g = open_bytes(smq, AS_MEMORY, &err);
    smolq_tensor_info t;
    if (g && !smolq_gguf_find_tensor(g, name, &t, &err)) smq->p[t.offset + t.bytes / 2] ^= 1;
    smolq_gguf_close(g);
}

static int stop_after(void *user) { return --*(int *)user < 0; }

static void tensors_are_verified_when_asked_lazily_or_at_open(void)
{
    static const char name[] = "blk.0.ffn_up.weight";
    bytes smq = small_smq(), bad;
    smolq_source source, bad_source;
    smolq_open_options o, bo;
    smolq_model *model = NULL;
    smolq_context_options c;
    smolq_context *context = NULL, *other = NULL;
    smolq_error err;
    smolq_eval_item item;
    smolq_evaluation e;
    smolq_tensor_info t;
    int32_t id = 5;
    uint64_t hash, sum, i;
    int steps = 0, calls = 3;
    smolq_eval_options stopping;
    smolq_device_options d;
    smolq_device *device = NULL;
    REQUIRE(smq.n > 0, "no file");
    bad.n = smq.n;
    bad.p = (uint8_t *)malloc(smq.n);
    memcpy(bad.p, smq.p, smq.n);
    break_tensor(&bad, name);
    memset(&c, 0, sizeof c);
    c.n_ctx = 8;
    o = from(&smq, AS_MEMORY, &source);
    bo = from(&bad, AS_MEMORY, &bad_source);
    hash = hash_of(NULL, &o, &err);
    CHECK(hash && hash_of(NULL, &bo, &err), "asked: %s", err.text);
    { /* on demand */
        smolq_gguf *g = open_bytes(&bad, AS_MEMORY, &err);
        for (i = 0; i < smolq_gguf_info(g)->n_tensors; i++) {
            smolq_gguf_tensor(g, i, &t, NULL);
            if (t.name_bytes == strlen(name) && memcmp(t.name, name, t.name_bytes) == 0) CHECK(smolq_smq_verify_tensor(g, i, &err) == SMOLQ_E_FORMAT && strstr(err.text, name), "%s", err.text);
            else CHECK(smolq_smq_verify_tensor(g, i, &err) == SMOLQ_OK && !smolq_smq_checksum(g, i, &sum, &err) && sum == smolq__checksum_of(t.data, t.bytes), "%s", err.text);
        }
        CHECK(smolq_smq_verify_tensor(g, i, &err) == SMOLQ_E_ARGUMENT && smolq_smq_checksum(g, i, &sum, &err) == SMOLQ_E_ARGUMENT, "a tensor beyond the last: %s", err.text);
        CHECK(smolq_smq_verify(g, NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, name), "%s", err.text);
        CHECK(smolq_smq_unpack(g, path_of("bad.gguf"), NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, name) && files_there() == 0, "%s, %d files", err.text, files_there());
        smolq_gguf_close(g);
    }
    o.verify = bo.verify = SMOLQ_VERIFY_OPEN;
    CHECK(smolq_open(NULL, &bo, &model, &err) == SMOLQ_E_FORMAT && strstr(err.text, name), "at open: %s", err.text);
    CHECK(hash_of(NULL, &o, &err) == hash, "at open: %s", err.text);
    o.verify = bo.verify = SMOLQ_VERIFY_LAZY;
    CHECK(hash_of(NULL, &o, &err) == hash, "lazily: %s", err.text);
    bad_source.data = NULL;
    bad_source.read = read_bytes;
    CHECK(smolq_open(NULL, &bo, &model, &err) == SMOLQ_E_FORMAT && strstr(err.text, name), "lazily, by reading: %s", err.text);
    bad_source.data = bad.p;
    far.limit = 0;
    memset(&d, 0, sizeof d);
    REQUIRE(!smolq_device_open(far_backend(), &d, &device, &err), "%s", err.text);
    bo.device = device;
    CHECK(smolq_open(NULL, &bo, &model, &err) == SMOLQ_E_FORMAT && strstr(err.text, name), "lazily, on a device with memory of its own: %s", err.text);
    bo.device = NULL;
    smolq_device_close(device);
    o.verify = 3;
    CHECK(smolq_open(NULL, &o, &model, &err) == SMOLQ_E_ARGUMENT, "a way that there is not: %s", err.text);
    o.verify = SMOLQ_VERIFY_LAZY;

    REQUIRE(!smolq_open(NULL, &bo, &model, &err) && !smolq_context_open(model, &c, &context, &err), "%s", err.text);
    memset(&item, 0, sizeof item);
    item.context = context;
    item.tokens = &id;
    item.n_tokens = 1;
    for (i = 0; i < 2; i++) CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_FORMAT && strstr(err.text, name) && smolq_context_length(context) == 0, "the first evaluation: %s", err.text);
    smolq_context_close(context);
    smolq_close(model);

    model = NULL; /* a whole file, in slices, given up, and by two contexts */
    REQUIRE(!smolq_open(NULL, &o, &model, &err) && !smolq_context_open(model, &c, &context, &err) && !smolq_context_open(model, &c, &other, &err), "%s", err.text);
    item.context = context;
    memset(&stopping, 0, sizeof stopping);
    stopping.cancel = stop_after;
    stopping.user = &calls;
    CHECK(smolq_eval(&item, 1, &stopping, &err) == SMOLQ_E_CANCELLED && smolq__shared_get(&model->unverified), "cancelled: %s", err.text);
    REQUIRE(!smolq_eval_begin(&e, &item, 1, NULL, &err), "%s", err.text);
    for (i = SMOLQ_MORE; i == SMOLQ_MORE; steps++) i = (uint64_t)smolq_eval_step(&e, 1, &err);
    CHECK(i == SMOLQ_OK && steps > 10 && smolq_context_length(context) == 1 && !smolq__shared_get(&model->unverified), "%d steps: %s", steps, err.text);
    item.context = other;
    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK && memcmp(smolq_context_logits(context), smolq_context_logits(other), (size_t)smolq_model_info(model)->n_vocab * 4) == 0, "%s", err.text);
    smolq_context_close(context);
    smolq_context_close(other);
    smolq_close(model);
    free(bad.p);
    free(smq.p);
}

/* ---- writing ---- */

static int stop_at_half(void *user, float done)
{
    ++*(int *)user;
    return done > 0.5f;
}

static void what_cannot_be_packed_is_refused(void)
{
    model_spec spec = { .family = "llama", .n_layer = 1 };
    bytes gguf, smq;
    smolq_smq_options options;
    smolq_smq_facts facts;
    smolq_error err;
    smolq_gguf *g, *s;
    gguf_build split;
    smolq_source sources[2];
    smolq_open_options o;
    int calls = 0, k;
    gguf.p = model_build(&spec, &gguf.n);
    smq = packed(&gguf, AS_MEMORY, &err);
    REQUIRE(smq.n, "%s", err.text);
    g = open_bytes(&gguf, AS_MEMORY, &err);
    s = open_bytes(&smq, AS_MEMORY, &err);
    REQUIRE(g && s, "%s", err.text);
    memset(&facts, 0, sizeof facts);
    memset(&options, 0, sizeof options);
    CHECK(smolq_smq_pack(s, path_of("x"), NULL, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "already"), "SMQ of SMQ: %s", err.text);
    CHECK(smolq_smq_unpack(g, path_of("x"), NULL, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "checksums"), "GGUF of GGUF: %s", err.text);
    CHECK(smolq_smq_verify(g, NULL, &err) == SMOLQ_E_ARGUMENT && smolq_smq_verify_tensor(g, 0, &err) == SMOLQ_E_ARGUMENT && smolq_smq_info(g, &facts, &err) == SMOLQ_E_ARGUMENT, "a GGUF file: %s", err.text);
    CHECK(smolq_smq_pack(NULL, "x", NULL, &err) == SMOLQ_E_ARGUMENT && smolq_smq_pack(g, NULL, NULL, &err) == SMOLQ_E_ARGUMENT && smolq_smq_unpack(s, NULL, NULL, &err) == SMOLQ_E_ARGUMENT, "NULL: %s", err.text);
    CHECK(smolq_smq_pack(g, path_of("none/x.smq"), NULL, &err) == SMOLQ_E_IO && smolq_smq_unpack(s, folder, NULL, &err) == SMOLQ_E_IO, "%s", err.text);
    options.progress = stop_at_half;
    options.user = &calls;
    CHECK(smolq_smq_pack(g, path_of("x"), &options, &err) == SMOLQ_E_CANCELLED && calls > 1, "%s", err.text);
    CHECK(smolq_smq_unpack(s, path_of("x"), &options, &err) == SMOLQ_E_CANCELLED, "%s", err.text);
    CHECK(smolq_smq_verify(s, &options, &err) == SMOLQ_E_CANCELLED, "%s", err.text);
    CHECK(files_there() == 0, "%d files are left", files_there());
    smolq_gguf_close(g);
    smolq_gguf_close(s);
    memset(&o, 0, sizeof o);
    memset(sources, 0, sizeof sources);
    o.n_sources = 2;
    o.sources = sources;
    for (k = 0; k < 2; k++) {
        gguf_begin(&split, 3);
        gguf_int(&split, "split.no", GGUF_U16, (uint64_t)k);
        gguf_int(&split, "split.count", GGUF_U16, 2);
        gguf_finish(&split);
        sources[k].size = split.head.n;
        sources[k].data = memcpy(malloc(split.head.n), split.head.p, split.head.n);
        gguf_free(&split);
    }
    g = NULL;
    REQUIRE(!smolq_gguf_open(NULL, &o, &g, &err), "%s", err.text);
    CHECK(smolq_smq_pack(g, path_of("x"), NULL, &err) == SMOLQ_E_UNSUPPORTED && strstr(err.text, "merge"), "parts: %s", err.text);
    smolq_gguf_close(g);
    for (k = 0; k < 2; k++) free((void *)sources[k].data);
    free(smq.p);
    free(gguf.p);
}

/* Every allocation of packing, opening, verifying and unpacking fails once. */
static void allocations_fail_in_turn(void)
{
    model_spec spec = { .family = "llama", .n_layer = 1, .tokenizer = 1 };
    smolq_smq_options options;
    smolq_source source, smq_source;
    smolq_open_options o, so;
    smolq_error err;
    bytes gguf, smq;
    int what, n, done;
    gguf.p = model_build(&spec, &gguf.n);
    smq = packed(&gguf, AS_MEMORY, &err);
    REQUIRE(smq.n, "%s", err.text);
    memset(&options, 0, sizeof options);
    options.allocator.alloc = failing_alloc;
    options.allocator.release = failing_release;
    o = from(&gguf, AS_READS, &source);
    so = from(&smq, AS_READS, &smq_source);
    o.allocator = so.allocator = options.allocator;
    for (what = 0; what < 4; what++)
        for (n = 0, done = 0; n < 300 && !done; n++) {
            smolq_gguf *g = NULL;
            smolq_vocab *v = NULL;
            smolq_result result;
            allocations_left = what == 3 ? n : 1 << 20;
            if (what == 3) result = smolq_vocab_open(NULL, &so, &v, &err);
            else if (!(result = smolq_gguf_open(NULL, what ? &so : &o, &g, &err))) {
                allocations_left = n;
                result = what == 0 ? smolq_smq_pack(g, path_of("x"), &options, &err) : what == 1 ? smolq_smq_unpack(g, path_of("x"), &options, &err) : smolq_smq_verify(g, &options, &err);
            }
            done = !result;
            CHECK(done || (result == SMOLQ_E_MEMORY && files_there() == 0 && !v), "%d, allocation %d: %s, %d files", what, n, err.text, files_there());
            allocations_left = 0;
            smolq_gguf_close(g);
            smolq_vocab_close(v);
            remove(path_of("x"));
            if (n == 299) CHECK(done, "%d: never enough", what);
        }
    free(smq.p);
    free(gguf.p);
}

/* A process that packs ends at a random moment: the target is the old file or the new one, whole, and nothing lies beside it. */
static void a_killed_packer_leaves_the_old_file_or_the_new(void)
{
    enum { MOMENTS = 200 };
    model_spec spec = { .family = "llama", .n_layer = 1, .tokenizer = 1 }, second = { .family = "llama", .n_layer = 2, .tokenizer = 1 };
    bytes a, b;
    char *path = path_of("killed.smq"), *part = path_of("killed.smq.part");
    smolq_gguf *ga, *gb;
    smolq_error err;
    int i, replaced = 0;
    a.p = model_build(&spec, &a.n);
    b.p = model_build(&second, &b.n);
    ga = open_bytes(&a, AS_MEMORY, &err);
    gb = open_bytes(&b, AS_MEMORY, &err);
    REQUIRE(ga && gb && !smolq_smq_pack(ga, path, NULL, &err), "%s", err.text);
    for (i = 0; i < MOMENTS; i++) {
        struct timespec wait = { 0, (i * 7919 % MOMENTS) * 20000 };
        smolq_gguf *g = NULL;
        uint64_t n = 0;
        pid_t child = fork();
        if (child == 0)
            for (;;)
                if (smolq_smq_pack(gb, path, NULL, NULL)) _exit(1);
        REQUIRE(child > 0, "no fork");
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        REQUIRE(!smolq_gguf_open(path, NULL, &g, &err) && !smolq_smq_verify(g, NULL, &err), "moment %d: %s", i, err.text);
        n = smolq_gguf_info(g)->n_tensors;
        smolq_gguf_close(g);
        REQUIRE(n == smolq_gguf_info(ga)->n_tensors || n == smolq_gguf_info(gb)->n_tensors, "moment %d: %d tensors", i, (int)n);
        replaced += n == smolq_gguf_info(gb)->n_tensors;
        remove(part);
        REQUIRE(files_there() == 1, "moment %d: %d files", i, files_there());
        if (i % 2) REQUIRE(!smolq_smq_pack(ga, path, NULL, &err), "%s", err.text);
    }
    CHECK(replaced > 0, "no packer came to its end");
    remove(path);
    smolq_gguf_close(ga);
    smolq_gguf_close(gb);
    free(a.p);
    free(b.p);
}

static void a_full_disk_leaves_the_old_file(void)
{
    model_spec spec = { .family = "llama", .n_layer = 1, .tokenizer = 1 };
    struct rlimit old, limit;
    char *path = path_of("full.smq"), *back = path_of("full.gguf");
    bytes gguf, before, after;
    smolq_gguf *g, *s = NULL;
    smolq_error err;
    uint64_t at;
    gguf.p = model_build(&spec, &gguf.n);
    g = open_bytes(&gguf, AS_MEMORY, &err);
    REQUIRE(g && !smolq_smq_pack(g, path, NULL, &err) && !smolq_gguf_open(path, NULL, &s, &err) && !smolq_smq_unpack(s, back, NULL, &err), "%s", err.text);
    before = read_file(path);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (at = 0; at < gguf.n; at += 3777) {
        limit = old;
        limit.rlim_cur = at;
        setrlimit(RLIMIT_FSIZE, &limit);
        CHECK(smolq_smq_pack(g, path, NULL, &err) == SMOLQ_E_IO && strstr(err.text, "full.smq"), "at %d bytes: %s", (int)at, err.text);
        CHECK(smolq_smq_unpack(s, back, NULL, &err) == SMOLQ_E_IO && strstr(err.text, "full.gguf"), "at %d bytes: %s", (int)at, err.text);
        setrlimit(RLIMIT_FSIZE, &old);
        after = read_file(path);
        CHECK(after.n == before.n && memcmp(after.p, before.p, after.n) == 0 && files_there() == 2, "at %d bytes: the old file is gone, or there are others", (int)at);
        free(after.p);
    }
    after = read_file(back);
    CHECK(after.n == gguf.n && memcmp(after.p, gguf.p, gguf.n) == 0, "the GGUF file is another");
    free(after.p);
    smolq_gguf_close(g);
    smolq_gguf_close(s);
    remove(path);
    remove(back);
    free(before.p);
    free(gguf.p);
}

/* From the specification's own program, xxhsum -H64; and the same in pieces. */
static void checksums_are_xxh64(void)
{
    static const struct { const char *text; uint64_t sum; } rows[] = {
        { "", 0xef46db3751d8e999u }, { "a", 0xd24ec4f1a98c6e5bu }, { "abc", 0x44bc2cf5ad770999u },
        { "The quick brown fox jumps over the lazy dog", 0x0b242d361fda71bcu }, { "0123456789abcdef0123456789abcdef", 0x642a94958e71e6c5u },
    };
    uint8_t data[1000];
    size_t i, n, cut;
    uint64_t rng = 3;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(smolq__checksum_of(rows[i].text, strlen(rows[i].text)) == rows[i].sum, "'%s': %016llx", rows[i].text, (unsigned long long)smolq__checksum_of(rows[i].text, strlen(rows[i].text)));
    for (i = 0; i < sizeof data; i++) data[i] = (uint8_t)build_random(&rng);
    for (n = 0; n < 200; n++)
        for (cut = 0; cut <= n; cut++) {
            smolq__checksum c;
            smolq__checksum_begin(&c);
            smolq__checksum_add(&c, data, cut);
            smolq__checksum_add(&c, data + cut, n - cut);
            CHECK(smolq__checksum_end(&c) == smolq__checksum_of(data, n), "%d + %d bytes", (int)cut, (int)(n - cut));
        }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "checksums are XXH64", checksums_are_xxh64 },
        { "odd files come back", odd_files_come_back },
        { "every family comes back and computes the same", every_family_comes_back_and_computes_the_same },
        { "golden models come back and compute the same", golden_models_come_back_and_compute_the_same },
        { "tokenizers are the same", tokenizers_are_the_same },
        { "every truncation is an error", every_truncation_is_an_error },
        { "10,000 damaged files are found out", damage_is_found },
        { "10,000 hostile files break nothing", hostile_files_break_nothing },
        { "every field is checked", every_field_is_checked },
        { "verify finds what opening does not look for", verify_finds_what_opening_does_not_look_for },
        { "special tokens of one text are one", special_tokens_of_one_text_are_one },
        { "slots and scores are checked", slots_and_scores_are_checked },
        { "a seed that was aimed costs no time", a_seed_that_was_aimed_costs_no_time },
        { "parts are no SMQ files", parts_are_no_smq_files },
        { "tensors begin pages, and progress is a number", tensors_begin_pages_and_progress_is_a_number },
        { "verify compares the tables with the metadata", verify_compares_the_tables_with_the_metadata },
        { "other versions of tables are made anew", other_versions_of_tables_are_made_anew },
        { "tensors are verified when asked, lazily or at open", tensors_are_verified_when_asked_lazily_or_at_open },
        { "what cannot be packed is refused", what_cannot_be_packed_is_refused },
        { "allocations fail in turn", allocations_fail_in_turn },
        { "a killed packer leaves the old file or the new", a_killed_packer_leaves_the_old_file_or_the_new },
        { "a full disk leaves the old file", a_full_disk_leaves_the_old_file },
    };
    int status;
    if (!open_folder("smq")) return 1;
    status = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    close_folder();
    return status;
}
