/* clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -I. tests/fuzz_smq.c -o fuzz_smq -lm
 *
 * The input is a list of changes to an SMQ file that is packed here, so that every mutation gets past the container, as its checksums are made right again:
 *
 *     flags    byte  SIGNED and so on below; the upper four bits: how much memory, or which call fails
 *     base     byte  which file
 *     changes  each 14 bytes: where (0 the header, 1 to 5 that section, 6 the table, 7 anywhere), offset [4], width [1], value [8]
 *
 * The file goes through every door: open, verify, unpack, vocabulary, model; if that opens, a context of 8 tokens and a short text. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "fuzz.h"
#include "fuzz_doors.h"
#include "gguf_build.h"
#include "model_build.h"
#include "smq_sign.h"
#include <unistd.h>

enum { SIGNED = 1, BY_READ = 2, SMALL_MEMORY = 4, FAIL_ONE = 8 };
enum { N_BASES = 4, MEMORY = 64 << 20, CHANGE = 14 };

typedef struct base { uint8_t *p; size_t n; } base;
static base bases[N_BASES];
static char path[64];

static void pack(base *b, const uint8_t *gguf, size_t n)
{
    smolq_source source;
    smolq_open_options o;
    smolq_gguf *g = NULL;
    FILE *f;
    memset(&o, 0, sizeof o);
    memset(&source, 0, sizeof source);
    source.data = gguf;
    source.size = n;
    o.n_sources = 1;
    o.sources = &source;
    MUST(smolq_gguf_open(NULL, &o, &g, NULL) == SMOLQ_OK && smolq_smq_pack(g, path, NULL, NULL) == SMOLQ_OK);
    smolq_gguf_close(g);
    f = fopen(path, "rb");
    MUST(f && fseek(f, 0, SEEK_END) == 0);
    b->n = (size_t)ftell(f);
    b->p = (uint8_t *)malloc(b->n);
    MUST(b->p && fseek(f, 0, SEEK_SET) == 0 && fread(b->p, 1, b->n, f) == b->n);
    fclose(f);
    remove(path);
}

static model_spec tiny(const char *family)
{
    model_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.family = family;
    spec.n_layer = 1;
    spec.n_embd = spec.n_ff = 32;
    spec.n_head = 2;
    spec.n_head_kv = 1;
    return spec;
}

/* Byte-level BPE with merges of all letters and some control tokens of one text. */
static void make_merges(base *b)
{
    gguf_build g;
    char text[32];
    int i;
    gguf_begin(&g, 3);
    gguf_text(&g, "tokenizer.ggml.model", "gpt2");
    gguf_text(&g, "tokenizer.ggml.pre", "gpt-2");
    gguf_array(&g, "tokenizer.ggml.tokens", GGUF_STRING, 26 + 52 + 4);
    for (i = 0; i < 82; i++) {
        if (i < 26) snprintf(text, sizeof text, "%c", 'a' + i);
        else if (i < 52) snprintf(text, sizeof text, "%c%c", 'a' + i % 26, 'a' + i * 7 % 26);
        else if (i < 78) snprintf(text, sizeof text, "%c%ce", 'a' + i % 26, 'a' + (i - 26) * 7 % 26);
        else snprintf(text, sizeof text, "%s", i < 81 ? "<|im_start|>" : "<|im_");
        gguf_put_text(&g.pairs, text, strlen(text));
    }
    gguf_array(&g, "tokenizer.ggml.token_type", GGUF_I32, 82);
    for (i = 0; i < 82; i++) gguf_put(&g.pairs, i < 78 ? 1 : 3, 4);
    gguf_array(&g, "tokenizer.ggml.merges", GGUF_STRING, 52);
    for (i = 26; i < 78; i++) {
        if (i < 52) snprintf(text, sizeof text, "%c %c", 'a' + i % 26, 'a' + i * 7 % 26);
        else snprintf(text, sizeof text, "%c%c e", 'a' + i % 26, 'a' + (i - 26) * 7 % 26);
        gguf_put_text(&g.pairs, text, strlen(text));
    }
    gguf_finish(&g);
    pack(b, g.head.p, g.head.n);
    gguf_free(&g);
}

/* A model with byte-level BPE and a marked tail; SentencePiece with scores and no tensors; a model of experts without a tokenizer; and the one above. */
static void make_bases(void)
{
    model_spec bpe, moe;
    gguf_build spm;
    size_t n;
    uint8_t *gguf;
    int i;
    snprintf(path, sizeof path, "/tmp/fuzz-smq-%d", (int)getpid());
    bpe = tiny("llama");
    bpe.tokenizer = 1;
    gguf = (uint8_t *)model_build(&bpe, &n);
    gguf = (uint8_t *)realloc(gguf, n + 300);
    MUST(gguf);
    memset(gguf + n, 5, 300);
    pack(&bases[0], gguf, n + 300);
    free(gguf);
    gguf_begin(&spm, 3);
    gguf_text(&spm, "tokenizer.ggml.model", "llama");
    gguf_array(&spm, "tokenizer.ggml.tokens", GGUF_STRING, 40);
    for (i = 0; i < 40; i++) {
        char text[16];
        snprintf(text, sizeof text, i == 7 ? "the" : "t%d", i);
        gguf_put_text(&spm.pairs, text, strlen(text));
    }
    gguf_array(&spm, "tokenizer.ggml.scores", GGUF_F32, 40);
    for (i = 0; i < 40; i++) gguf_put_float(&spm.pairs, -i, GGUF_F32);
    gguf_finish(&spm);
    pack(&bases[1], spm.head.p, spm.head.n);
    gguf_free(&spm);
    moe = tiny("qwen3moe");
    moe.n_expert = 3;
    moe.n_expert_used = 2;
    gguf = (uint8_t *)model_build(&moe, &n);
    pack(&bases[2], gguf, n);
    free(gguf);
    make_merges(&bases[3]);
}

static void change(uint8_t *p, size_t n, const uint8_t *c)
{
    uint64_t table = smolq_u64_at(p + 56), from = 0, length = SMOLQ__SMQ_HEADER, at, value = smolq_u64_at(c + 6);
    int where = c[0] & 7, width = 1 << (c[5] & 3), i;
    if (where == 6) {
        from = table;
        length = (uint64_t)smolq_u32_at(p + 64) * SMOLQ__SMQ_ENTRY;
    } else if (where == 7) {
        length = n;
    } else if (where && table <= n && smolq_u32_at(p + 64) <= (n - table) / SMOLQ__SMQ_ENTRY) {
        from = smq_section(p, (uint32_t)where);
        length = n - (from < n ? from : 0);
    }
    at = from + smolq_u32_at(c + 1) % (length ? length : 1);
    for (i = 0; i < width; i++)
        if (at + (uint64_t)i < n) p[at + (uint64_t)i] = (uint8_t)(value >> 8 * i);
}

static void verify_and_unpack(const smolq_gguf *gguf)
{
    smolq_error err;
    smolq_result result = smolq_smq_verify(gguf, NULL, &err);
    if (result) must_refuse(result, &err);
    result = smolq_smq_unpack(gguf, path, NULL, &err);
    if (result) must_refuse(result, &err);
    else remove(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int flags = size ? data[0] : 0, number = flags >> 4;
    smolq_open_options with;
    const base *b;
    uint8_t *bytes;
    file f;
    size_t i;
    if (!bases[0].p) make_bases();
    b = &bases[(size > 1 ? data[1] : 0) % N_BASES];
    bytes = (uint8_t *)malloc(b->n);
    MUST(bytes);
    memcpy(bytes, b->p, b->n);
    for (i = 2; i + CHANGE <= size; i += CHANGE) change(bytes, b->n, data + i);
    if (flags & SIGNED) smq_sign(bytes, b->n);
    f.p = bytes;
    f.n = b->n;
    memset(&with, 0, sizeof with);
    with.verify = number % 3;
    through_doors(&f, &with, flags & BY_READ, flags & SMALL_MEMORY ? (size_t)1000 << number : MEMORY, flags & FAIL_ONE ? number + 1 : 0, number, verify_and_unpack);
    free(bytes);
    return 0;
}
