/* Malformed GGUF files, hundreds of them, one defect each, all made in memory from one small valid model.
 *
 *     size_t      malformed_count(void);
 *     const char *malformed_name(size_t i);              // "key llama.block_count: u32 0"; in a static buffer, until the next call
 *     int         malformed_expect(size_t i);            // what must happen, see below
 *     void        malformed_build(size_t i, bytes *out); // the file; bytes_free(out) afterwards
 *     void        valid_model_build(const model_options *options, bytes *out);
 *
 *     MALFORMED_GGUF    smolq_gguf_open must refuse it (and so everything else)
 *     MALFORMED_MODEL   a well-formed GGUF; smolq_open must refuse it
 *     MALFORMED_MAYBE   a well-formed GGUF; smolq_open and evaluation may refuse it or succeed, cleanly
 *     MALFORMED_FINE    odd, but correct: smolq_open must succeed
 *
 * A case is a row of one of the tables below: single defects of the container, then products of (metadata key) x (bad value) and (tensor) x (bad shape).
 * The checks that they aim at are those of a reader that trusts nothing: counts, offsets, types, products, duplicates, overlaps, hyperparameters that
 * contradict one another or the tensors, and tokenizer tables that do not fit. */
#ifndef SMOLQ_MAKE_MALFORMED_H
#define SMOLQ_MAKE_MALFORMED_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#  define GG_UNUSED __attribute__((unused))
#else
#  define GG_UNUSED
#endif

/* ---- bytes, little-endian ---- */

typedef struct bytes { unsigned char *p; size_t n, room; } bytes;

static GG_UNUSED void bytes_free(bytes *b) { free(b->p); memset(b, 0, sizeof *b); }
static GG_UNUSED void put(bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->room) {
        b->room = (b->n + n) * 2 + 64;
        b->p = (unsigned char *)realloc(b->p, b->room);
        if (!b->p) exit(3);
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static GG_UNUSED void put_int(bytes *b, uint64_t value, size_t size) /* the low `size` bytes */
{
    unsigned char raw[8];
    size_t i;
    for (i = 0; i < 8; i++) raw[i] = (unsigned char)(value >> (8 * i));
    put(b, raw, size);
}
static GG_UNUSED void put_string(bytes *b, const char *text)
{
    put_int(b, strlen(text), 8);
    put(b, text, strlen(text));
}
static GG_UNUSED void put_f32(bytes *b, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    put_int(b, bits, 4);
}
static GG_UNUSED void patch(bytes *b, size_t at, uint64_t value, size_t size)
{
    size_t i;
    for (i = 0; i < size; i++) b->p[at + i] = (unsigned char)(value >> (8 * i));
}

/* ---- a GGUF file as lists, so that defects can be made before it is written and after ---- */

enum { GG_U8, GG_I8, GG_U16, GG_I16, GG_U32, GG_I32, GG_F32, GG_BOOL, GG_STRING, GG_ARRAY, GG_U64, GG_I64, GG_F64 };
enum { GG_PAIRS = 64, GG_TENSORS = 96 };

typedef struct gg_pair { char key[80]; uint32_t type; bytes value; size_t at; /* of the record in the file */ } gg_pair;
typedef struct gg_tensor {
    char name[80];
    uint32_t n_dims, type;
    uint64_t ne[4], offset;
    bytes data;
    size_t at;       /* of the record in the file */
    size_t type_at;  /* of its type field */
} gg_tensor;

typedef struct gg_file {
    uint32_t version, alignment;
    gg_pair pairs[GG_PAIRS];
    gg_tensor tensors[GG_TENSORS];
    size_t n_pairs, n_tensors;
    int same_offsets; /* keep the tensors' offset fields as they are */
} gg_file;

static void gg_free(gg_file *f)
{
    size_t i;
    for (i = 0; i < f->n_pairs; i++) bytes_free(&f->pairs[i].value);
    for (i = 0; i < f->n_tensors; i++) bytes_free(&f->tensors[i].data);
}

static size_t gg_find(const gg_file *f, const char *key)
{
    size_t i;
    for (i = 0; i < f->n_pairs; i++) if (!strcmp(f->pairs[i].key, key)) return i;
    return f->n_pairs;
}
static size_t gg_find_tensor(const gg_file *f, const char *name)
{
    size_t i;
    for (i = 0; i < f->n_tensors; i++) if (!strcmp(f->tensors[i].name, name)) return i;
    return f->n_tensors;
}

/* The value of a new pair, or of one that is there, emptied. */
static bytes *gg_set(gg_file *f, const char *key, uint32_t type)
{
    size_t i = gg_find(f, key);
    if (i == f->n_pairs) {
        if (f->n_pairs == GG_PAIRS) exit(3);
        memset(&f->pairs[i], 0, sizeof f->pairs[i]);
        snprintf(f->pairs[i].key, sizeof f->pairs[i].key, "%s", key);
        f->n_pairs++;
    }
    f->pairs[i].type = type;
    f->pairs[i].value.n = 0;
    return &f->pairs[i].value;
}
static void gg_set_u32(gg_file *f, const char *key, uint64_t value) { put_int(gg_set(f, key, GG_U32), value, 4); }
static void gg_set_f32(gg_file *f, const char *key, float value) { put_f32(gg_set(f, key, GG_F32), value); }
static void gg_set_string(gg_file *f, const char *key, const char *text) { put_string(gg_set(f, key, GG_STRING), text); }
static bytes *gg_set_array(gg_file *f, const char *key, uint32_t element_type, uint64_t n) /* elements are for the caller to put */
{
    bytes *b = gg_set(f, key, GG_ARRAY);
    put_int(b, element_type, 4);
    put_int(b, n, 8);
    return b;
}
static void gg_remove(gg_file *f, const char *key)
{
    size_t i = gg_find(f, key);
    if (i == f->n_pairs) exit(3);
    bytes_free(&f->pairs[i].value);
    memmove(&f->pairs[i], &f->pairs[i + 1], (f->n_pairs - i - 1) * sizeof f->pairs[0]);
    f->n_pairs--;
}
static gg_tensor *gg_add_tensor(gg_file *f, const char *name, uint32_t n_dims, uint64_t a, uint64_t b, uint64_t c)
{
    gg_tensor *t = &f->tensors[f->n_tensors++];
    if (f->n_tensors > GG_TENSORS) exit(3);
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->n_dims = n_dims;
    t->ne[0] = a;
    t->ne[1] = b;
    t->ne[2] = c;
    t->ne[3] = 1;
    return t;
}
static void gg_remove_tensor(gg_file *f, size_t i)
{
    bytes_free(&f->tensors[i].data);
    memmove(&f->tensors[i], &f->tensors[i + 1], (f->n_tensors - i - 1) * sizeof f->tensors[0]);
    f->n_tensors--;
}

static void gg_write(gg_file *f, bytes *out)
{
    uint64_t offset = 0;
    size_t i, j, start, align = f->alignment;
    put(out, "GGUF", 4);
    put_int(out, f->version, 4);
    put_int(out, f->n_tensors, 8);
    put_int(out, f->n_pairs, 8);
    for (i = 0; i < f->n_pairs; i++) {
        gg_pair *p = &f->pairs[i];
        p->at = out->n;
        put_string(out, p->key);
        put_int(out, p->type, 4);
        put(out, p->value.p, p->value.n);
    }
    for (i = 0; i < f->n_tensors; i++) {
        gg_tensor *t = &f->tensors[i];
        if (!f->same_offsets) t->offset = offset;
        t->at = out->n;
        put_string(out, t->name);
        put_int(out, t->n_dims, 4);
        for (j = 0; j < t->n_dims; j++) put_int(out, t->ne[j], 8);
        t->type_at = out->n;
        put_int(out, t->type, 4);
        put_int(out, t->offset, 8);
        offset += (t->data.n + align - 1) / align * align;
    }
    while (out->n % align) put(out, "", 1);
    start = out->n;
    for (i = 0; i < f->n_tensors; i++) {
        put(out, f->tensors[i].data.p, f->tensors[i].data.n);
        while ((out->n - start) % align) put(out, "", 1);
    }
}

/* ---- the valid model ---- */

enum { GG_LLAMA, GG_SMOLLM3, GG_QWEN2, GG_QWEN3, GG_QWEN3MOE, GG_FAMILIES };
static const char *const gg_families[GG_FAMILIES] = { "llama", "smollm3", "qwen2", "qwen3", "qwen3moe" };

typedef struct model_options {
    int family;     /* GG_LLAMA ... */
    int type;       /* of the matrices: 0 f32, 1 f16, 8 q8_0 */
    int bpe;        /* byte-level BPE instead of SentencePiece */
    int no_weights; /* a vocabulary alone */
} model_options;

enum { GG_EMBD = 32, GG_LAYERS = 2, GG_HEADS = 4, GG_HEADS_KV = 2, GG_FF = 64, GG_EXPERTS = 4, GG_FF_EXPERT = 32, GG_CTX = 64 };

static uint32_t gg_random(uint32_t *state) { return (*state = *state * 1664525u + 1013904223u) >> 8; }

/* Multiples of 1/1024 in -1/8..1/8, which f16 holds exactly. */
static uint32_t gg_half(int k)
{
    uint32_t sign = k < 0 ? 0x8000u : 0, m = (uint32_t)(k < 0 ? -k : k), e = 5;
    if (m == 0) return sign;
    m <<= 10;
    while (m >= 2048) { m >>= 1; e++; }
    return sign | e << 10 | (m & 1023);
}
static void gg_fill(gg_tensor *t, uint32_t type, uint32_t *seed)
{
    uint64_t i, n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    t->type = type;
    t->data.n = 0;
    for (i = 0; i < n; i++) {
        int k = (int)(gg_random(seed) % 255) - 127;
        if (type == 0) put_f32(&t->data, (float)k / 1024.0f);
        else if (type == 1) put_int(&t->data, gg_half(k), 2);
        else {
            if (i % 32 == 0) put_int(&t->data, 0x1400, 2); /* 2^-10 */
            put_int(&t->data, (uint64_t)k, 1);
        }
    }
}
static void gg_matrix(gg_file *f, const char *name, uint64_t cols, uint64_t rows, uint64_t experts, uint32_t type, uint32_t *seed)
{
    gg_fill(gg_add_tensor(f, name, experts > 1 ? 3 : 2, cols, rows, experts), type, seed);
}
static void gg_vector(gg_file *f, const char *name, uint64_t n, float value)
{
    gg_tensor *t = gg_add_tensor(f, name, 1, n, 1, 1);
    uint64_t i;
    for (i = 0; i < n; i++) put_f32(&t->data, value);
}

static size_t gg_utf8(char *to, unsigned code) /* up to U+FFFF */
{
    if (code < 0x80) { to[0] = (char)code; return 1; }
    if (code < 0x800) { to[0] = (char)(0xc0 | code >> 6); to[1] = (char)(0x80 | (code & 63)); return 2; }
    to[0] = (char)(0xe0 | code >> 12);
    to[1] = (char)(0x80 | (code >> 6 & 63));
    to[2] = (char)(0x80 | (code & 63));
    return 3;
}
static unsigned gg_byte_letter(unsigned b) /* byte b in the alphabet of byte-level BPE */
{
    unsigned i, n = 0;
    if ((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174) return b;
    for (i = 0; i < b; i++) n += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
    return 256 + n;
}

static const char *const gg_spm_pieces[] = { "\342\226\201", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z", "th", "he", "\342\226\201th", "\342\226\201the", "in", "er", "an", "re", "on", "at", "nd", "\342\226\201a", "\342\226\201and", "\342\226\201in" };
/* left and right of each merge; \304\240 is the space of the byte alphabet */
static const char *const gg_merges[][2] = { { "t", "h" }, { "h", "e" }, { "\304\240", "t" }, { "\304\240t", "he" }, { "i", "n" }, { "e", "r" }, { "a", "n" }, { "r", "e" },
    { "o", "n" }, { "a", "t" }, { "n", "d" }, { "\304\240", "a" }, { "\304\240a", "nd" }, { "in", "g" }, { "o", "u" }, { "e", "s" }, { "e", "d" }, { "o", "r" }, { "i", "t" } };
static const char *const gg_controls[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };
#define GG_COUNT(table) (sizeof(table) / sizeof *(table))
enum { GG_SPM_VOCAB = 3 + 256 + 41, GG_BPE_VOCAB = 256 + 19 + 3 };

static void gg_spm(gg_file *f)
{
    bytes *tokens = gg_set_array(f, "tokenizer.ggml.tokens", GG_STRING, GG_SPM_VOCAB), *b;
    size_t i;
    put_string(tokens, "<unk>");
    put_string(tokens, "<s>");
    put_string(tokens, "</s>");
    for (i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)i);
        put_string(tokens, text);
    }
    for (i = 0; i < GG_COUNT(gg_spm_pieces); i++) put_string(tokens, gg_spm_pieces[i]);
    b = gg_set_array(f, "tokenizer.ggml.scores", GG_F32, GG_SPM_VOCAB);
    for (i = 0; i < GG_SPM_VOCAB; i++) put_f32(b, i < 259 ? 0.0f : -(float)(GG_SPM_VOCAB - i));
    b = gg_set_array(f, "tokenizer.ggml.token_type", GG_I32, GG_SPM_VOCAB);
    for (i = 0; i < GG_SPM_VOCAB; i++) put_int(b, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1, 4);
    gg_set_string(f, "tokenizer.ggml.model", "llama");
    gg_set_u32(f, "tokenizer.ggml.bos_token_id", 1);
    gg_set_u32(f, "tokenizer.ggml.eos_token_id", 2);
    gg_set_u32(f, "tokenizer.ggml.unknown_token_id", 0);
    gg_set_u32(f, "tokenizer.ggml.padding_token_id", 2);
}
static void gg_bpe(gg_file *f)
{
    bytes *tokens = gg_set_array(f, "tokenizer.ggml.tokens", GG_STRING, GG_BPE_VOCAB), *b;
    size_t i;
    for (i = 0; i < 256; i++) {
        char text[4];
        size_t n = gg_utf8(text, gg_byte_letter((unsigned)i));
        put_int(tokens, n, 8);
        put(tokens, text, n);
    }
    for (i = 0; i < GG_COUNT(gg_merges); i++) {
        char text[16];
        snprintf(text, sizeof text, "%s%s", gg_merges[i][0], gg_merges[i][1]);
        put_string(tokens, text);
    }
    for (i = 0; i < 3; i++) put_string(tokens, gg_controls[i]);
    b = gg_set_array(f, "tokenizer.ggml.token_type", GG_I32, GG_BPE_VOCAB);
    for (i = 0; i < GG_BPE_VOCAB; i++) put_int(b, i < GG_BPE_VOCAB - 3 ? 1 : 3, 4);
    b = gg_set_array(f, "tokenizer.ggml.merges", GG_STRING, GG_COUNT(gg_merges));
    for (i = 0; i < GG_COUNT(gg_merges); i++) {
        char text[16];
        snprintf(text, sizeof text, "%s %s", gg_merges[i][0], gg_merges[i][1]);
        put_string(b, text);
    }
    gg_set_string(f, "tokenizer.ggml.model", "gpt2");
    gg_set_string(f, "tokenizer.ggml.pre", "gpt-2");
    gg_set_u32(f, "tokenizer.ggml.bos_token_id", GG_BPE_VOCAB - 3);
    gg_set_u32(f, "tokenizer.ggml.eos_token_id", GG_BPE_VOCAB - 1);
    gg_set_u32(f, "tokenizer.ggml.padding_token_id", GG_BPE_VOCAB - 3);
}

static void gg_valid(gg_file *f, const model_options *o)
{
    const char *family = gg_families[o->family];
    int qwen3 = o->family == GG_QWEN3 || o->family == GG_QWEN3MOE, moe = o->family == GG_QWEN3MOE, il;
    uint64_t head_dim = qwen3 ? 16 : GG_EMBD / GG_HEADS, q = GG_HEADS * head_dim, kv = GG_HEADS_KV * head_dim, n_vocab = o->bpe ? GG_BPE_VOCAB : GG_SPM_VOCAB;
    uint32_t seed = 1, type = (uint32_t)o->type;
    char name[80];
    memset(f, 0, sizeof *f);
    f->version = 3;
    f->alignment = 32;
#define GG_KEY(suffix) (snprintf(name, sizeof name, "%s." suffix, family), name)
    gg_set_string(f, "general.architecture", family);
    gg_set_string(f, "general.name", "malformed");
    gg_set_u32(f, "general.alignment", 32);
    gg_set_u32(f, "general.file_type", 0);
    gg_set_u32(f, GG_KEY("block_count"), GG_LAYERS);
    gg_set_u32(f, GG_KEY("context_length"), GG_CTX);
    gg_set_u32(f, GG_KEY("embedding_length"), GG_EMBD);
    gg_set_u32(f, GG_KEY("feed_forward_length"), GG_FF);
    gg_set_u32(f, GG_KEY("attention.head_count"), GG_HEADS);
    gg_set_u32(f, GG_KEY("attention.head_count_kv"), GG_HEADS_KV);
    gg_set_f32(f, GG_KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    gg_set_f32(f, GG_KEY("rope.freq_base"), 10000.0f);
    gg_set_u32(f, GG_KEY("rope.dimension_count"), head_dim);
    gg_set_u32(f, GG_KEY("vocab_size"), n_vocab);
    if (qwen3) {
        gg_set_u32(f, GG_KEY("attention.key_length"), head_dim);
        gg_set_u32(f, GG_KEY("attention.value_length"), head_dim);
    }
    if (moe) {
        gg_set_u32(f, GG_KEY("expert_count"), GG_EXPERTS);
        gg_set_u32(f, GG_KEY("expert_used_count"), 2);
        gg_set_u32(f, GG_KEY("expert_feed_forward_length"), GG_FF_EXPERT);
    }
    if (o->bpe) gg_bpe(f);
    else gg_spm(f);
    put_int(gg_set(f, "tokenizer.ggml.add_bos_token", GG_BOOL), 1, 1);
    gg_set_string(f, "tokenizer.chat_template", "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}");
    if (o->no_weights) return;

    gg_matrix(f, "token_embd.weight", GG_EMBD, n_vocab, 1, type, &seed);
    gg_vector(f, "output_norm.weight", GG_EMBD, 1.0f);
    if (o->family != GG_SMOLLM3) gg_matrix(f, "output.weight", GG_EMBD, n_vocab, 1, type, &seed);
    for (il = 0; il < GG_LAYERS; il++) {
#define GG_BLK(suffix) (snprintf(name, sizeof name, "blk.%d." suffix, il), name)
        gg_vector(f, GG_BLK("attn_norm.weight"), GG_EMBD, 1.0f);
        gg_matrix(f, GG_BLK("attn_q.weight"), GG_EMBD, q, 1, type, &seed);
        gg_matrix(f, GG_BLK("attn_k.weight"), GG_EMBD, kv, 1, type, &seed);
        gg_matrix(f, GG_BLK("attn_v.weight"), GG_EMBD, kv, 1, type, &seed);
        gg_matrix(f, GG_BLK("attn_output.weight"), q, GG_EMBD, 1, type, &seed);
        if (o->family == GG_QWEN2) {
            gg_vector(f, GG_BLK("attn_q.bias"), q, 0.125f);
            gg_vector(f, GG_BLK("attn_k.bias"), kv, 0.125f);
            gg_vector(f, GG_BLK("attn_v.bias"), kv, 0.125f);
        }
        if (qwen3) {
            gg_vector(f, GG_BLK("attn_q_norm.weight"), head_dim, 1.0f);
            gg_vector(f, GG_BLK("attn_k_norm.weight"), head_dim, 1.0f);
        }
        gg_vector(f, GG_BLK("ffn_norm.weight"), GG_EMBD, 1.0f);
        if (moe) {
            gg_matrix(f, GG_BLK("ffn_gate_inp.weight"), GG_EMBD, GG_EXPERTS, 1, 0, &seed);
            gg_matrix(f, GG_BLK("ffn_gate_exps.weight"), GG_EMBD, GG_FF_EXPERT, GG_EXPERTS, type, &seed);
            gg_matrix(f, GG_BLK("ffn_up_exps.weight"), GG_EMBD, GG_FF_EXPERT, GG_EXPERTS, type, &seed);
            gg_matrix(f, GG_BLK("ffn_down_exps.weight"), GG_FF_EXPERT, GG_EMBD, GG_EXPERTS, type, &seed);
        } else {
            gg_matrix(f, GG_BLK("ffn_gate.weight"), GG_EMBD, GG_FF, 1, type, &seed);
            gg_matrix(f, GG_BLK("ffn_up.weight"), GG_EMBD, GG_FF, 1, type, &seed);
            gg_matrix(f, GG_BLK("ffn_down.weight"), GG_FF, GG_EMBD, 1, type, &seed);
        }
    }
}

static GG_UNUSED void valid_model_build(const model_options *options, bytes *out)
{
    gg_file *f = (gg_file *)malloc(sizeof *f);
    if (!f) exit(3);
    gg_valid(f, options);
    gg_write(f, out);
    gg_free(f);
    free(f);
}

/* ---- defects ---- */

enum { MALFORMED_GGUF, MALFORMED_MODEL, MALFORMED_MAYBE, MALFORMED_FINE };

typedef struct gg_case {
    char          name[160];
    int           expect;
    gg_file      *file;  /* NULL: only name and expect are asked for */
    bytes        *out;
} gg_case;

/* Single defects.
 *   op      BEFORE the file is written (text names a key or a tensor) or AFTER (fields are patched where they stand)
 *   number  the bad value; of ALL-ONES the field gets as many bytes as it has
 *
 *    op             text                          number              expect  name */
#define GG_BIG 0xffffffffffffffffu
#define GG_SINGLES(X) \
    X(MAGIC,         "",                           0x46554747,         GGUF,  "the magic is GGUF of another byte order") \
    X(MAGIC,         "",                           0,                  GGUF,  "the magic is zero") \
    X(MAGIC,         "",                           0x6c6d6767,         GGUF,  "the magic is that of GGML") \
    X(VERSION,       "",                           0,                  GGUF,  "version 0") \
    X(VERSION,       "",                           1,                  GGUF,  "version 1") \
    X(VERSION,       "",                           2,                  FINE,  "version 2 has the same layout") \
    X(VERSION,       "",                           4,                  GGUF,  "version 4") \
    X(VERSION,       "",                           0x03000000,         GGUF,  "version 3 big-endian") \
    X(VERSION,       "",                           0x02000000,         GGUF,  "version 2 big-endian") \
    X(VERSION,       "",                           0x00010000,         GGUF,  "version 65536") \
    X(VERSION,       "",                           GG_BIG,             GGUF,  "version 2^32-1") \
    X(N_TENSORS,     "",                           GG_BIG,             GGUF,  "2^64-1 tensors") \
    X(N_TENSORS,     "",                           0x100000000u,       GGUF,  "2^32 tensors") \
    X(N_TENSORS,     "",                           0x0aaaaaaaaaaaaaabu, GGUF, "tensors x 24 wraps") \
    X(N_TENSORS,     "",                           1000,               GGUF,  "more tensors than there are") \
    X(N_TENSORS,     "",                           0,                  MODEL, "0 tensors") \
    X(N_PAIRS,       "",                           GG_BIG,             GGUF,  "2^64-1 keys") \
    X(N_PAIRS,       "",                           0x100000000u,       GGUF,  "2^32 keys") \
    X(N_PAIRS,       "",                           0x13b13b13b13b13b2u, GGUF, "keys x 13 wraps") \
    X(N_PAIRS,       "",                           1000,               GGUF,  "more keys than there are") \
    X(N_PAIRS,       "",                           1,                  GGUF,  "fewer keys than there are") \
    X(N_PAIRS,       "",                           0,                  GGUF,  "0 keys") \
    X(KEY_BYTES,     "general.name",               0,                  GGUF,  "a key of 0 bytes") \
    X(KEY_BYTES,     "general.name",               GG_BIG,             GGUF,  "a key of 2^64-1 bytes") \
    X(KEY_BYTES,     "general.name",               0x7fffffffffffffffu, GGUF, "a key of 2^63-1 bytes") \
    X(KEY_BYTES,     "general.name",               65536,              GGUF,  "a key of 65536 bytes") \
    X(KEY_BYTES,     "general.name",               11,                 GGUF,  "a key that is one byte shorter than said") \
    X(KEY_BYTE,      "general.name",               0,                  GGUF,  "a NUL in a key") \
    X(KEY_BYTE,      "general.name",               0xff,               FINE,  "a key that is not UTF-8") \
    X(VALUE_TYPE,    "general.name",               13,                 GGUF,  "a value of type 13") \
    X(VALUE_TYPE,    "general.name",               GG_BIG,             GGUF,  "a value of type 2^32-1") \
    X(VALUE_TYPE,    "general.name",               0x80000008u,        GGUF,  "a value of type 2^31+8") \
    X(VALUE_TYPE,    "general.name",               9,                  GGUF,  "a string that calls itself an array") \
    X(VALUE_TYPE,    "general.file_type",          8,                  GGUF,  "a number that calls itself a string") \
    X(VALUE_TYPE,    "general.file_type",          9,                  GGUF,  "a number that calls itself an array") \
    X(VALUE_TYPE,    "tokenizer.ggml.tokens",      8,                  GGUF,  "an array that calls itself a string") \
    X(TEXT_BYTES,    "general.architecture",       GG_BIG,             GGUF,  "a string of 2^64-1 bytes") \
    X(TEXT_BYTES,    "general.architecture",       0xfffffffffffffff8u, GGUF, "a string of 2^64-8 bytes") \
    X(TEXT_BYTES,    "general.architecture",       0x8000000000000000u, GGUF, "a string of 2^63 bytes") \
    X(TEXT_BYTES,    "general.architecture",       0xffffffffu,        GGUF,  "a string of 2^32-1 bytes") \
    X(TEXT_BYTES,    "general.architecture",       6,                  GGUF,  "a string longer than itself") \
    X(TEXT_BYTES,    "general.architecture",       0,                  GGUF,  "a string shorter than itself") \
    X(ARRAY_TYPE,    "tokenizer.ggml.tokens",      13,                 GGUF,  "an array of type 13") \
    X(ARRAY_TYPE,    "tokenizer.ggml.tokens",      GG_BIG,             GGUF,  "an array of type 2^32-1") \
    X(ARRAY_TYPE,    "tokenizer.ggml.tokens",      9,                  GGUF,  "an array of strings that calls itself one of arrays") \
    X(ARRAY_TYPE,    "tokenizer.ggml.tokens",      12,                 GGUF,  "an array of strings that calls itself one of f64") \
    X(ARRAY_TYPE,    "tokenizer.ggml.scores",      8,                  GGUF,  "an array of f32 that calls itself one of strings") \
    X(ARRAY_TYPE,    "tokenizer.ggml.token_type",  10,                 GGUF,  "an array of i32 that calls itself one of u64") \
    X(ARRAY_TYPE,    "tokenizer.ggml.token_type",  7,                  GGUF,  "an array of i32 that calls itself one of bools") \
    X(ARRAY_N,       "tokenizer.ggml.tokens",      GG_BIG,             GGUF,  "2^64-1 strings") \
    X(ARRAY_N,       "tokenizer.ggml.tokens",      0x2000000000000000u, GGUF, "2^61 strings: times 8 wraps") \
    X(ARRAY_N,       "tokenizer.ggml.tokens",      0x100000000u,       GGUF,  "2^32 strings") \
    X(ARRAY_N,       "tokenizer.ggml.tokens",      301,                GGUF,  "one string more than there are") \
    X(ARRAY_N,       "tokenizer.ggml.tokens",      299,                GGUF,  "one string less than there are") \
    X(ARRAY_N,       "tokenizer.ggml.tokens",      0,                  GGUF,  "0 strings where there are some") \
    X(ARRAY_N,       "tokenizer.ggml.scores",      0x4000000000000000u, GGUF, "2^62 floats: times 4 wraps to 0") \
    X(ARRAY_N,       "tokenizer.ggml.scores",      0x400000000000012cu, GGUF, "2^62+300 floats: times 4 wraps to the right size") \
    X(ARRAY_N,       "tokenizer.ggml.scores",      GG_BIG,             GGUF,  "2^64-1 floats") \
    X(ARRAY_N,       "tokenizer.ggml.scores",      299,                GGUF,  "one float less than there are") \
    X(ELEMENT_BYTES, "tokenizer.ggml.tokens",      GG_BIG,             GGUF,  "an element of 2^64-1 bytes") \
    X(ELEMENT_BYTES, "tokenizer.ggml.tokens",      0x7fffffffu,        GGUF,  "an element of 2^31-1 bytes") \
    X(ELEMENT_BYTES, "tokenizer.ggml.tokens",      0,                  GGUF,  "an element shorter than itself") \
    X(BOOL,          "tokenizer.ggml.add_bos_token", 2,                GGUF,  "a bool of 2") \
    X(BOOL,          "tokenizer.ggml.add_bos_token", 255,              GGUF,  "a bool of 255") \
    X(BOOL_ARRAY,    "general.bools",              2,                  GGUF,  "an array of bools with a 2") \
    X(BOOL_ARRAY,    "general.bools",              1,                  FINE,  "an array of bools") \
    X(NESTED,        "general.nested",             1,                  FINE,  "arrays nested 2 deep") \
    X(NESTED,        "general.nested",             3,                  FINE,  "arrays nested 4 deep") \
    X(NESTED,        "general.nested",             4,                  GGUF,  "arrays nested 5 deep") \
    X(NESTED,        "general.nested",             100000,             GGUF,  "arrays nested 100001 deep") \
    X(NESTED_MANY,   "general.nested",             20000,              FINE,  "20000 empty arrays in an array") \
    X(NESTED_TYPE,   "general.nested",             13,                 GGUF,  "an empty array of type 13 in an array") \
    X(EMPTY_ARRAY,   "general.empty",              8,                  FINE,  "an empty array of strings") \
    X(EMPTY_ARRAY,   "general.empty",              9,                  FINE,  "an empty array of arrays") \
    X(EMPTY_ARRAY,   "general.empty",              13,                 GGUF,  "an empty array of type 13") \
    X(DUPLICATE_KEY, "general.name",               0,                  GGUF,  "a key twice") \
    X(DUPLICATE_KEY, "llama.block_count",          0,                  GGUF,  "block_count twice") \
    X(DUPLICATE_KEY, "general.alignment",          0,                  GGUF,  "alignment twice") \
    X(UNKNOWN_KEY,   "x",                          0,                  FINE,  "a key of 1 byte that nobody knows") \
    X(REMOVE_KEY,    "general.architecture",       0,                  MODEL, "no general.architecture") \
    X(REMOVE_KEY,    "general.name",               0,                  FINE,  "no general.name") \
    X(REMOVE_KEY,    "general.alignment",          0,                  FINE,  "no general.alignment: 32") \
    X(STRING_KEY,    "general.architecture",       0,                  MODEL, "an empty architecture") \
    X(STRING_KEY,    "general.architecture",       1,                  MODEL, "an unknown architecture") \
    X(STRING_KEY,    "general.architecture",       2,                  MODEL, "a long architecture with control bytes and percent signs") \
    X(STRING_KEY,    "general.name",               2,                  FINE,  "a long name with control bytes and percent signs") \
    X(SET_U32,       "general.architecture",       7,                  MODEL, "the architecture is a number") \
    X(SET_U32,       "general.alignment",          0,                  GGUF,  "alignment 0") \
    X(SET_U32,       "general.alignment",          3,                  GGUF,  "alignment 3") \
    X(SET_U32,       "general.alignment",          33,                 GGUF,  "alignment 33") \
    X(SET_U32,       "general.alignment",          2097152,            GGUF,  "alignment 2^21") \
    X(SET_U32,       "general.alignment",          0x80000000u,        GGUF,  "alignment 2^31") \
    X(SET_U32,       "general.alignment",          GG_BIG,             GGUF,  "alignment 2^32-1") \
    X(SET_U32,       "general.alignment",          1048576,            GGUF,  "alignment 2^20, which the file does not keep") \
    X(SET_U64,       "general.alignment",          0x8000000000000020u, GGUF, "alignment 2^63+32") \
    X(SET_U64,       "general.alignment",          32,                 FINE,  "alignment as u64") \
    X(STRING_KEY,    "general.alignment",          1,                  GGUF,  "alignment is a string") \
    X(FLOAT_KEY,     "general.alignment",          0,                  GGUF,  "alignment is a float") \
    X(ALIGNED,       "",                           1,                  FINE,  "alignment 1") \
    X(ALIGNED,       "",                           8,                  FINE,  "alignment 8") \
    X(ALIGNED,       "",                           4096,               FINE,  "alignment 4096") \
    X(T_NAME_BYTES,  "output_norm.weight",         0,                  GGUF,  "a tensor's name of 0 bytes") \
    X(T_NAME_BYTES,  "output_norm.weight",         65,                 GGUF,  "a tensor's name of 65 bytes") \
    X(T_NAME_BYTES,  "output_norm.weight",         GG_BIG,             GGUF,  "a tensor's name of 2^64-1 bytes") \
    X(T_NAME_BYTES,  "output_norm.weight",         17,                 GGUF,  "a tensor's name shorter than itself") \
    X(T_NAME_BYTE,   "output_norm.weight",         0,                  GGUF,  "a NUL in a tensor's name") \
    X(T_NAME_BYTE,   "output_norm.weight",         0xff,               MODEL, "a tensor's name that is not UTF-8, so one is missing") \
    X(T_N_DIMS,      "blk.0.attn_q.weight",        5,                  GGUF,  "5 dimensions") \
    X(T_N_DIMS,      "blk.0.attn_q.weight",        GG_BIG,             GGUF,  "2^32-1 dimensions") \
    X(T_N_DIMS,      "blk.0.attn_q.weight",        0,                  GGUF,  "0 dimensions where there are two") \
    X(T_N_DIMS,      "blk.0.attn_q.weight",        1,                  GGUF,  "1 dimension where there are two") \
    X(T_N_DIMS,      "blk.0.attn_q.weight",        3,                  GGUF,  "3 dimensions where there are two") \
    X(T_NE0,         "blk.0.attn_q.weight",        0,                  GGUF,  "ne0 is 0") \
    X(T_NE0,         "blk.0.attn_q.weight",        GG_BIG,             GGUF,  "ne0 is 2^64-1") \
    X(T_NE0,         "blk.0.attn_q.weight",        0x8000000000000000u, GGUF, "ne0 is 2^63") \
    X(T_NE0,         "blk.0.attn_q.weight",        0x7fffffffffffffe0u, GGUF, "ne0 is 2^63-32") \
    X(T_NE0,         "blk.0.attn_q.weight",        0x0800000000000000u, GGUF, "ne0 is 2^59: times ne1 wraps") \
    X(T_NE0,         "blk.0.attn_q.weight",        0x2000000000000000u, GGUF, "ne0 is 2^61: times ne1 wraps to 0") \
    X(T_NE1,         "blk.0.attn_q.weight",        0,                  GGUF,  "ne1 is 0") \
    X(T_NE1,         "blk.0.attn_q.weight",        GG_BIG,             GGUF,  "ne1 is 2^64-1") \
    X(T_NE1,         "blk.0.attn_q.weight",        0x0800000000000001u, GGUF, "ne1 is 2^59+1: times ne0 wraps to the right size") \
    X(T_NE1,         "blk.0.attn_q.weight",        0x0100000000000000u, GGUF, "ne1 is 2^56: bytes wrap") \
    X(T_NE1,         "blk.1.ffn_down.weight",      33,                 GGUF,  "the last tensor has one row more than the file") \
    X(T_TYPE,        "blk.0.attn_q.weight",        4,                  GGUF,  "type 4, removed long ago") \
    X(T_TYPE,        "blk.0.attn_q.weight",        31,                 GGUF,  "type 31, removed") \
    X(T_TYPE,        "blk.0.attn_q.weight",        43,                 GGUF,  "type 43") \
    X(T_TYPE,        "blk.0.attn_q.weight",        137,                GGUF,  "type 137, of another program") \
    X(T_TYPE,        "blk.0.attn_q.weight",        0x7fffffffu,        GGUF,  "type 2^31-1") \
    X(T_TYPE,        "blk.0.attn_q.weight",        0x80000000u,        GGUF,  "type 2^31") \
    X(T_TYPE,        "blk.0.attn_q.weight",        GG_BIG,             GGUF,  "type 2^32-1") \
    X(T_TYPE,        "blk.0.attn_q.weight",        12,                 GGUF,  "rows of 32 in blocks of 256") \
    X(T_TYPE,        "blk.0.attn_q.weight",        28,                 GGUF,  "f64, which reaches into the next tensor") \
    X(T_TYPE,        "blk.0.attn_q.weight",        26,                 MODEL, "a matrix of i32") \
    X(T_TYPE,        "blk.0.attn_q.weight",        24,                 MODEL, "a matrix of i8") \
    X(T_TYPE,        "blk.0.attn_q.weight",        1,                  MAYBE, "f32 weights that call themselves f16") \
    X(T_TYPE,        "blk.0.attn_q.weight",        2,                  MAYBE, "f32 weights that call themselves q4_0") \
    X(T_TYPE,        "blk.0.attn_q.weight",        8,                  MAYBE, "f32 weights that call themselves q8_0") \
    X(T_TYPE,        "blk.0.attn_q.weight",        30,                 MAYBE, "f32 weights that call themselves bf16") \
    X(T_TYPE,        "blk.0.attn_q.weight",        39,                 MAYBE, "f32 weights that call themselves mxfp4") \
    X(T_TYPE,        "token_embd.weight",          20,                 MAYBE, "f32 embeddings that call themselves iq4_nl") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        1,                  GGUF,  "an offset that is not aligned") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        GG_BIG,             GGUF,  "offset 2^64-1") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        0xffffffffffffffe0u, GGUF, "offset 2^64-32: the end wraps") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        0x8000000000000000u, GGUF, "offset 2^63") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        0x40000000u,        GGUF,  "an offset beyond the file") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        0,                  GGUF,  "two tensors at offset 0") \
    X(T_OFFSET,      "blk.0.attn_q.weight",        32,                 GGUF,  "a tensor inside another") \
    X(T_DUPLICATE,   "blk.0.attn_q.weight",        0,                  GGUF,  "a tensor twice") \
    X(T_REVERSED,    "",                           0,                  FINE,  "data in the reverse order of the directory") \
    X(T_HOLES,       "",                           0,                  FINE,  "holes between tensors") \
    X(T_EXTRA,       "blk.2.attn_q.weight",        0,                  MAYBE, "a tensor of a layer that is not there") \
    X(T_EXTRA,       "blk.00.attn_q.weight",       0,                  MAYBE, "a tensor of layer 00") \
    X(T_EXTRA,       "blk.-1.attn_q.weight",       0,                  MAYBE, "a tensor of layer -1") \
    X(T_EXTRA,       "blk.99999999999999999999.x", 0,                  MAYBE, "a tensor of layer 10^20-1") \
    X(T_EXTRA,       "unheard.of",                 0,                  FINE,  "a tensor that nobody knows") \
    X(T_EXTRA,       "attn_q.bias%s%n",            0,                  FINE,  "a tensor named like a format string") \
    X(CUT,           "",                           0,                  GGUF,  "an empty file") \
    X(CUT,           "",                           1,                  GGUF,  "1 byte") \
    X(CUT,           "",                           4,                  GGUF,  "the magic alone") \
    X(CUT,           "",                           23,                 GGUF,  "23 bytes") \
    X(CUT,           "",                           24,                 GGUF,  "24 bytes") \
    X(CUT,           "",                           1000,               GGUF,  "cut in the metadata") \
    X(CUT_END,       "",                           1,                  GGUF,  "the last byte is missing") \
    X(CUT_END,       "",                           5000,               GGUF,  "the last 5000 bytes are missing") \
    X(TRAILING,      "",                           1000,               FINE,  "1000 bytes after the end") \
    X(TEXT,          "<!DOCTYPE html><html><body>404 not found</body></html>", 0, GGUF, "an HTML page") \
    X(TEXT,          "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 0, GGUF, "a git-lfs pointer") \
    X(TEXT,          "PK\003\004xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0, GGUF, "a zip archive") \
    X(TEXT,          "{\"model_type\": \"llama\"}",                    0, GGUF, "JSON") \
    X(SPLIT,         "",                           2,                  GGUF,  "the first of 2 parts, alone") \
    X(SPLIT,         "",                           65535,              GGUF,  "the first of 65535 parts, alone") \
    X(SPLIT,         "",                           1,                  FINE,  "the first of 1 part") \
    X(SPLIT_NO,      "",                           1,                  GGUF,  "the second of 2 parts, alone") \
    X(SET_U32,       "split.count",                GG_BIG,             GGUF,  "2^32-1 parts") \
    X(STRING_KEY,    "split.count",                1,                  GGUF,  "split.count is a string") \
    X(NAN_WEIGHTS,   "token_embd.weight",          0x7fc00000u,        MAYBE, "NaN embeddings") \
    X(NAN_WEIGHTS,   "output.weight",              0x7fc00000u,        MAYBE, "NaN output") \
    X(NAN_WEIGHTS,   "blk.0.attn_norm.weight",     0x7f800000u,        MAYBE, "infinite norm weights") \
    X(NAN_WEIGHTS,   "blk.1.attn_k.weight",        0xff800000u,        MAYBE, "minus infinity in attn_k") \
    X(NAN_WEIGHTS,   "blk.1.ffn_down.weight",      0x7f7fffffu,        MAYBE, "the largest float in ffn_down") \
    X(NAN_WEIGHTS,   "output_norm.weight",         1,                  MAYBE, "subnormal norm weights") \
    X(LAYER_ARRAY,   "llama.attention.head_count", 4,                  FINE,  "heads as an array, one for each layer") \
    X(LAYER_ARRAY,   "llama.attention.head_count", 0,                  MODEL, "heads as an array of zeros") \
    X(LAYER_ARRAY,   "llama.attention.head_count_kv", 3,               MODEL, "KV heads as an array of 3, with 4 heads") \
    X(LAYER_ARRAY,   "llama.feed_forward_length",  GG_FF,              FINE,  "feed-forward lengths as an array") \
    X(LAYER_ARRAY,   "llama.feed_forward_length",  GG_BIG,             MODEL, "feed-forward lengths of 2^32-1") \
    X(SET_U32,       "llama.block_count",          3,                  MODEL, "one layer more than there are") \
    X(SET_U32,       "llama.block_count",          1,                  MAYBE, "one layer less than there are") \
    X(SET_U32,       "llama.attention.head_count", 3,                  MODEL, "3 heads, which 32 is no multiple of") \
    X(SET_U32,       "llama.attention.head_count", 8,                  MODEL, "8 heads: attn_k does not fit") \
    X(SET_U32,       "llama.attention.head_count", 32,                 MODEL, "32 heads of size 1") \
    X(SET_U32,       "llama.attention.head_count_kv", 3,               MODEL, "3 KV heads for 4 heads") \
    X(SET_U32,       "llama.attention.head_count_kv", 8,               MODEL, "more KV heads than heads") \
    X(SET_U32,       "llama.attention.head_count_kv", 4,               MODEL, "KV heads that attn_k does not have") \
    X(SET_U32,       "llama.rope.dimension_count", 7,                  MODEL, "an odd rotation") \
    X(SET_U32,       "llama.rope.dimension_count", 10,                 MODEL, "a rotation wider than a head") \
    X(SET_U32,       "llama.rope.dimension_count", 6,                  FINE,  "a rotation of a part of a head") \
    X(SET_U32,       "llama.attention.key_length", 16,                 MODEL, "a key_length that attn_q does not have") \
    X(SET_U32,       "llama.attention.value_length", 16,               MODEL, "a value_length that differs from key_length") \
    X(SET_U32,       "llama.vocab_size",           301,                MODEL, "a vocabulary with one more than the embedding") \
    X(SET_U32,       "llama.vocab_size",           299,                MODEL, "a vocabulary with one less than the embedding") \
    X(SET_U32,       "llama.expert_count",         4,                  MODEL, "experts that have no tensors") \
    X(SET_U32,       "llama.expert_used_count",    2,                  MAYBE, "experts used of none") \
    X(STRING_KEY,    "llama.rope.scaling.type",    1,                  MODEL, "an unknown rope scaling") \
    X(SET_U32,       "llama.rope.scaling.type",    1,                  MODEL, "rope scaling is a number") \
    X(ROPE_FREQS,    "rope_freqs.weight",          4,                  FINE,  "rope_freqs of the right length") \
    X(ROPE_FREQS,    "rope_freqs.weight",          8,                  MODEL, "rope_freqs of the wrong length") \
    X(ROPE_ZERO,     "rope_freqs.weight",          0,                  MAYBE, "rope_freqs of zeros, which are divided by") \
    X(STRING_KEY,    "tokenizer.ggml.model",       1,                  MODEL, "an unknown tokenizer") \
    X(STRING_KEY,    "tokenizer.ggml.model",       0,                  MODEL, "an empty tokenizer name") \
    X(SET_U32,       "tokenizer.ggml.model",       0,                  MODEL, "the tokenizer's name is a number") \
    X(STRING_KEY,    "tokenizer.ggml.tokens",      1,                  MODEL, "tokens is a string") \
    X(TOKENS_N,      "tokenizer.ggml.tokens",      299,                MAYBE, "fewer tokens than the embedding has rows") \
    X(TOKENS_N,      "tokenizer.ggml.tokens",      301,                MODEL, "more tokens than the embedding has rows") \
    X(TOKENS_N,      "tokenizer.ggml.tokens",      0,                  MODEL, "no tokens") \
    X(TOKENS_N,      "tokenizer.ggml.tokens",      1,                  MAYBE, "one token") \
    X(TOKENS_SAME,   "tokenizer.ggml.tokens",      0,                  MAYBE, "all tokens are empty") \
    X(TOKENS_SAME,   "tokenizer.ggml.tokens",      1,                  MAYBE, "all tokens are the same") \
    X(TOKENS_SAME,   "tokenizer.ggml.tokens",      2,                  MAYBE, "all tokens are invalid UTF-8") \
    X(TOKENS_SAME,   "tokenizer.ggml.tokens",      3,                  MAYBE, "all tokens are a NUL") \
    X(ARRAY_OF,      "tokenizer.ggml.tokens",      GG_U32,             MODEL, "tokens are numbers") \
    X(ARRAY_OF,      "tokenizer.ggml.tokens",      GG_ARRAY,           MODEL, "tokens are empty arrays") \
    X(ARRAY_OF,      "tokenizer.ggml.scores",      GG_STRING,          MODEL, "scores are strings") \
    X(ARRAY_OF,      "tokenizer.ggml.scores",      GG_ARRAY,           MODEL, "scores are empty arrays") \
    X(ARRAY_OF,      "tokenizer.ggml.scores",      GG_F64,             MAYBE, "scores are f64") \
    X(ARRAY_OF,      "tokenizer.ggml.scores",      GG_BOOL,            MAYBE, "scores are bools") \
    X(ARRAY_OF,      "tokenizer.ggml.token_type",  GG_STRING,          MODEL, "token types are strings") \
    X(ARRAY_OF,      "tokenizer.ggml.token_type",  GG_U8,              MAYBE, "token types are bytes of 0") \
    X(ARRAY_OF,      "tokenizer.ggml.token_type",  GG_F32,             MAYBE, "token types are floats") \
    X(SHORTER,       "tokenizer.ggml.scores",      1,                  MODEL, "one score missing") \
    X(SHORTER,       "tokenizer.ggml.scores",      300,                MODEL, "no scores in the array") \
    X(SHORTER,       "tokenizer.ggml.token_type",  1,                  MODEL, "one token type missing") \
    X(REMOVE_KEY,    "tokenizer.ggml.scores",      0,                  MAYBE, "no scores") \
    X(REMOVE_KEY,    "tokenizer.ggml.token_type",  0,                  MAYBE, "no token types") \
    X(REMOVE_KEY,    "tokenizer.ggml.tokens",      0,                  MAYBE, "no tokens at all") \
    X(REMOVE_KEY,    "tokenizer.ggml.model",       0,                  MAYBE, "no tokenizer.ggml.model") \
    X(FILL_ARRAY,    "tokenizer.ggml.scores",      0x7fc00000u,        MAYBE, "scores are NaN") \
    X(FILL_ARRAY,    "tokenizer.ggml.scores",      0x7f800000u,        MAYBE, "scores are infinite") \
    X(FILL_ARRAY,    "tokenizer.ggml.token_type",  7,                  MAYBE, "token types of 7") \
    X(FILL_ARRAY,    "tokenizer.ggml.token_type",  6,                  MAYBE, "all tokens are bytes") \
    X(FILL_ARRAY,    "tokenizer.ggml.token_type",  3,                  MAYBE, "all tokens are control tokens") \
    X(FILL_ARRAY,    "tokenizer.ggml.token_type",  4,                  MAYBE, "all tokens are the user's") \
    X(FILL_ARRAY,    "tokenizer.ggml.token_type",  0x80000000u,        MAYBE, "token types of -2^31") \
    X(STRING_KEY,    "tokenizer.chat_template",    0,                  FINE,  "an empty chat template") \
    X(STRING_KEY,    "tokenizer.chat_template",    2,                  FINE,  "a chat template of nonsense") \
    X(SET_U32,       "tokenizer.chat_template",    0,                  MAYBE, "the chat template is a number") \
    X(STRING_KEY,    "tokenizer.ggml.add_bos_token", 1,                MAYBE, "add_bos_token is a string") \
    X(SET_U32,       "tokenizer.ggml.add_bos_token", 2,                MAYBE, "add_bos_token is 2") \
    X(BPE_MERGES,    "no space between",           1,                  MAYBE, "a merge without a space") \
    X(BPE_MERGES,    " ",                          1,                  MAYBE, "a merge of two empty parts") \
    X(BPE_MERGES,    "",                           1,                  MAYBE, "an empty merge") \
    X(BPE_MERGES,    "a ",                         1,                  MAYBE, "a merge with an empty right part") \
    X(BPE_MERGES,    "qqqq zzzz",                  1,                  MAYBE, "a merge of unknown parts") \
    X(BPE_MERGES,    "q z",                        1,                  MAYBE, "a merge whose result is unknown") \
    X(BPE_MERGES,    "t h",                        50,                 MAYBE, "the same merge 50 times") \
    X(BPE_MERGES,    "\377 \376",                  1,                  MAYBE, "a merge of invalid UTF-8") \
    X(BPE_MERGES,    "t h",                        0,                  MAYBE, "no merges in the array") \
    X(BPE_REMOVE,    "tokenizer.ggml.merges",      0,                  MAYBE, "no merges") \
    X(BPE_REMOVE,    "tokenizer.ggml.pre",         0,                  MAYBE, "no pre-tokenizer") \
    X(BPE_REMOVE,    "tokenizer.ggml.token_type",  0,                  MAYBE, "BPE without token types") \
    X(BPE_STRING,    "tokenizer.ggml.pre",         1,                  MODEL, "an unknown pre-tokenizer") \
    X(BPE_STRING,    "tokenizer.ggml.merges",      1,                  MODEL, "merges is a string") \
    X(BPE_ARRAY_OF,  "tokenizer.ggml.merges",      GG_U32,             MODEL, "merges are numbers") \
    X(BPE_ARRAY_OF,  "tokenizer.ggml.merges",      GG_ARRAY,           MODEL, "merges are empty arrays") \
    X(BPE_SHORTER,   "tokenizer.ggml.token_type",  1,                  MODEL, "BPE with one token type missing") \
    X(BPE_SAME,      "tokenizer.ggml.tokens",      0,                  MAYBE, "BPE, all tokens are empty") \
    X(BPE_SAME,      "tokenizer.ggml.tokens",      2,                  MAYBE, "BPE, all tokens are invalid UTF-8") \
    X(MOE_U32,       "qwen3moe.expert_used_count", 5,                  MODEL, "5 experts used of 4") \
    X(MOE_U32,       "qwen3moe.expert_used_count", 0,                  MODEL, "0 experts used") \
    X(MOE_U32,       "qwen3moe.expert_used_count", 4,                  FINE,  "all experts used") \
    X(MOE_U32,       "qwen3moe.expert_count",      0,                  MODEL, "0 experts") \
    X(MOE_U32,       "qwen3moe.expert_count",      3,                  MODEL, "an expert less than the tensors have") \
    X(MOE_U32,       "qwen3moe.expert_count",      GG_BIG,             MODEL, "2^32-1 experts") \
    X(MOE_U32,       "qwen3moe.expert_feed_forward_length", 64,        MODEL, "experts that are wider than their tensors") \
    X(MOE_U32,       "qwen3moe.attention.key_length", 15,              MODEL, "an odd head size") \
    X(MOE_U32,       "qwen3moe.attention.key_length", 0,               MODEL, "a head size of 0") \
    X(MOE_U32,       "qwen3moe.attention.value_length", 8,             MODEL, "values narrower than keys") \
    X(MOE_REMOVE,    "qwen3moe.expert_count",      0,                  MODEL, "no expert_count") \
    X(MOE_REMOVE,    "qwen3moe.expert_used_count", 0,                  MODEL, "no expert_used_count") \
    X(MOE_NAN,       "blk.0.ffn_gate_inp.weight",  0x7fc00000u,        MAYBE, "a router of NaN") \
    X(MOE_NAN,       "blk.0.ffn_gate_inp.weight",  0x7f800000u,        MAYBE, "a router of infinities") \
    X(MOE_NAN,       "blk.0.ffn_gate_inp.weight",  0,                  FINE,  "a router of zeros: all experts tie")

#define GG_OPS(X) \
    X(MAGIC) X(VERSION) X(N_TENSORS) X(N_PAIRS) X(KEY_BYTES) X(KEY_BYTE) X(VALUE_TYPE) X(TEXT_BYTES) X(ARRAY_TYPE) X(ARRAY_N) X(ELEMENT_BYTES) X(BOOL) X(BOOL_ARRAY) X(NESTED) \
    X(NESTED_MANY) X(NESTED_TYPE) X(EMPTY_ARRAY) X(DUPLICATE_KEY) X(UNKNOWN_KEY) X(REMOVE_KEY) X(STRING_KEY) X(SET_U32) X(SET_U64) X(FLOAT_KEY) X(ALIGNED) X(T_NAME_BYTES) X(T_NAME_BYTE) \
    X(T_N_DIMS) X(T_NE0) X(T_NE1) X(T_TYPE) X(T_OFFSET) X(T_DUPLICATE) X(T_REVERSED) X(T_HOLES) X(T_EXTRA) X(CUT) X(CUT_END) X(TRAILING) X(TEXT) X(SPLIT) X(SPLIT_NO) X(NAN_WEIGHTS) \
    X(LAYER_ARRAY) X(ROPE_FREQS) X(ROPE_ZERO) X(TOKENS_N) X(TOKENS_SAME) X(ARRAY_OF) X(SHORTER) X(FILL_ARRAY) X(BPE_MERGES) X(BPE_REMOVE) X(BPE_STRING) X(BPE_ARRAY_OF) X(BPE_SHORTER) \
    X(BPE_SAME) X(MOE_U32) X(MOE_REMOVE) X(MOE_NAN)
#define GG_OP_ENUM(op) GG_OP_##op,
enum { GG_OPS(GG_OP_ENUM) GG_OP_COUNT };
#undef GG_OP_ENUM

typedef struct gg_single { int op; const char *text; uint64_t number; int expect; const char *name; } gg_single;
#define GG_SINGLE_ROW(op, text, number, expect, name) { GG_OP_##op, text, number, MALFORMED_##expect, name },
static const gg_single gg_singles[] = { GG_SINGLES(GG_SINGLE_ROW) };
#undef GG_SINGLE_ROW

static void gg_repeat_string(bytes *b, int kind)
{
    static const char nonsense[] = "%s%n\033[2J{%{{{{ \"'\\ a string that is longer than every buffer that a message has room for, or so one may hope: "
                                   "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789";
    put_string(b, kind == 0 ? "" : kind == 1 ? "unheard-of" : nonsense);
}

/* What a tokenizer's array is filled with: [n] strings. */
static void gg_same_tokens(gg_file *f, const char *key, uint64_t kind, uint64_t n)
{
    bytes *b = gg_set_array(f, key, GG_STRING, n);
    for (; n > 0; n--) {
        size_t length = kind == 0 ? 0 : kind == 1 ? 4 : 1;
        put_int(b, length, 8);
        put(b, kind == 1 ? "same" : kind == 2 ? "\377" : "", length);
    }
}

/* An array of [n] zeros, empty strings or empty arrays. */
static void gg_zero_array(gg_file *f, const char *key, uint64_t element_type, uint64_t n)
{
    static const size_t sizes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8 };
    bytes *b = gg_set_array(f, key, (uint32_t)element_type, n);
    for (; n > 0; n--) {
        put_int(b, 0, sizes[element_type] > 8 ? 4 : sizes[element_type]);
        if (sizes[element_type] > 8) put_int(b, 0, 8);
    }
}

static void gg_shorten(gg_file *f, const char *key, uint64_t by) /* an array of 4-byte elements loses its last ones */
{
    bytes *b = &f->pairs[gg_find(f, key)].value;
    uint64_t n = (b->n - 12) / 4 - by;
    patch(b, 4, n, 8);
    b->n = 12 + (size_t)n * 4;
}

/* Makes the defect before the file is written. */
static void gg_before(gg_file *f, const gg_single *d)
{
    size_t i, t = gg_find_tensor(f, d->text);
    uint64_t n, offset = 0;
    uint32_t seed = 7;
    bytes *b;
    switch (d->op) {
    case GG_OP_REMOVE_KEY: case GG_OP_BPE_REMOVE: case GG_OP_MOE_REMOVE: gg_remove(f, d->text); break;
    case GG_OP_STRING_KEY: case GG_OP_BPE_STRING: gg_repeat_string(gg_set(f, d->text, GG_STRING), (int)d->number); break;
    case GG_OP_SET_U32: case GG_OP_MOE_U32: gg_set_u32(f, d->text, d->number); break;
    case GG_OP_UNKNOWN_KEY: gg_set_u32(f, d->text, d->number); break;
    case GG_OP_SET_U64: put_int(gg_set(f, d->text, GG_U64), d->number, 8); break;
    case GG_OP_FLOAT_KEY: gg_set_f32(f, d->text, 32.0f); break;
    case GG_OP_BOOL: put_int(gg_set(f, d->text, GG_BOOL), d->number, 1); break;
    case GG_OP_BOOL_ARRAY:
        b = gg_set_array(f, d->text, GG_BOOL, 3);
        put_int(b, 1 | d->number << 16, 3);
        break;
    case GG_OP_NESTED: /* [[[...[u8]...]]], number arrays in the first */
        b = gg_set(f, d->text, GG_ARRAY);
        for (n = 0; n < d->number; n++) {
            put_int(b, GG_ARRAY, 4);
            put_int(b, 1, 8);
        }
        put_int(b, GG_U8, 4);
        put_int(b, 1, 8);
        put_int(b, 5, 1);
        break;
    case GG_OP_NESTED_MANY: gg_zero_array(f, d->text, GG_ARRAY, d->number); break;
    case GG_OP_NESTED_TYPE:
        b = gg_set_array(f, d->text, GG_ARRAY, 1);
        put_int(b, d->number, 4);
        put_int(b, 0, 8);
        break;
    case GG_OP_EMPTY_ARRAY: gg_set_array(f, d->text, (uint32_t)d->number, 0); break;
    case GG_OP_DUPLICATE_KEY:
        i = gg_find(f, d->text);
        gg_set(f, "duplicate", f->pairs[i].type);
        put(&f->pairs[f->n_pairs - 1].value, f->pairs[i].value.p, f->pairs[i].value.n);
        snprintf(f->pairs[f->n_pairs - 1].key, sizeof f->pairs[0].key, "%s", d->text);
        break;
    case GG_OP_ALIGNED:
        f->alignment = (uint32_t)d->number;
        gg_set_u32(f, "general.alignment", d->number);
        break;
    case GG_OP_T_DUPLICATE: gg_matrix(f, d->text, GG_EMBD, GG_EMBD, 1, 0, &seed); break;
    case GG_OP_T_EXTRA: gg_matrix(f, d->text, GG_EMBD, GG_EMBD, 1, 0, &seed); break;
    case GG_OP_T_REVERSED: case GG_OP_T_HOLES:
        f->same_offsets = 1;
        for (i = 0; i < f->n_tensors; i++) {
            size_t k = d->op == GG_OP_T_HOLES ? i : f->n_tensors - 1 - i;
            f->tensors[k].offset = offset;
            offset += (f->tensors[k].data.n + 31) / 32 * 32 + (d->op == GG_OP_T_HOLES ? 32 : 0);
        }
        gg_matrix(f, "padding", GG_EMBD, 1024, 1, 0, &seed); /* so that the file is long enough */
        f->tensors[f->n_tensors - 1].offset = offset;
        for (i = 0; i < 1024; i++) put(&f->tensors[f->n_tensors - 1].data, "", 1);
        break;
    case GG_OP_SPLIT: case GG_OP_SPLIT_NO:
        put_int(gg_set(f, "split.no", GG_U16), d->op == GG_OP_SPLIT_NO ? d->number : 0, 2);
        put_int(gg_set(f, "split.count", GG_U16), d->op == GG_OP_SPLIT_NO ? 2 : d->number, 2);
        put_int(gg_set(f, "split.tensors.count", GG_I32), f->n_tensors, 4);
        break;
    case GG_OP_NAN_WEIGHTS: case GG_OP_MOE_NAN:
        for (i = 0; i + 4 <= f->tensors[t].data.n; i += 4) patch(&f->tensors[t].data, i, d->number, 4);
        break;
    case GG_OP_LAYER_ARRAY:
        b = gg_set_array(f, d->text, GG_U32, GG_LAYERS);
        for (i = 0; i < GG_LAYERS; i++) put_int(b, d->number, 4);
        break;
    case GG_OP_ROPE_FREQS: gg_vector(f, d->text, d->number, 1.0f); break;
    case GG_OP_ROPE_ZERO: gg_vector(f, d->text, 4, 0.0f); break;
    case GG_OP_TOKENS_N: /* scores and types follow, so that the tokens alone are wrong */
        gg_same_tokens(f, d->text, 1, d->number);
        gg_zero_array(f, "tokenizer.ggml.scores", GG_F32, d->number);
        gg_zero_array(f, "tokenizer.ggml.token_type", GG_I32, d->number);
        break;
    case GG_OP_TOKENS_SAME: gg_same_tokens(f, d->text, d->number, GG_SPM_VOCAB); break;
    case GG_OP_BPE_SAME: gg_same_tokens(f, d->text, d->number, GG_BPE_VOCAB); break;
    case GG_OP_ARRAY_OF: case GG_OP_BPE_ARRAY_OF: gg_zero_array(f, d->text, d->number, d->op == GG_OP_ARRAY_OF ? GG_SPM_VOCAB : 19); break;
    case GG_OP_SHORTER: case GG_OP_BPE_SHORTER: gg_shorten(f, d->text, d->number); break;
    case GG_OP_FILL_ARRAY:
        b = &f->pairs[gg_find(f, d->text)].value;
        for (i = 12; i < b->n; i += 4) patch(b, i, d->number, 4);
        break;
    case GG_OP_BPE_MERGES:
        b = gg_set_array(f, "tokenizer.ggml.merges", GG_STRING, d->number);
        for (n = 0; n < d->number; n++) put_string(b, d->text);
        break;
    default: break;
    }
}

/* Makes the defect in the written file. */
static void gg_after(const gg_file *f, const gg_single *d, bytes *out)
{
    size_t k = gg_find(f, d->text), t = gg_find_tensor(f, d->text);
    size_t key = k < f->n_pairs ? f->pairs[k].at : 0, value_type = key + 8 + strlen(d->text), value = value_type + 4;
    size_t name = t < f->n_tensors ? f->tensors[t].at : 0, dims = name + 8 + strlen(d->text), type = t < f->n_tensors ? f->tensors[t].type_at : 0;
    size_t i;
    switch (d->op) {
    case GG_OP_MAGIC: patch(out, 0, d->number == 0x46554747 ? 0x47475546 : d->number, 4); break;
    case GG_OP_VERSION: patch(out, 4, d->number, 4); break;
    case GG_OP_N_TENSORS: patch(out, 8, d->number, 8); break;
    case GG_OP_N_PAIRS: patch(out, 16, d->number, 8); break;
    case GG_OP_KEY_BYTES: patch(out, key, d->number, 8); break;
    case GG_OP_KEY_BYTE: patch(out, key + 9, d->number, 1); break;
    case GG_OP_VALUE_TYPE: patch(out, value_type, d->number, 4); break;
    case GG_OP_TEXT_BYTES: patch(out, value, d->number, 8); break;
    case GG_OP_ARRAY_TYPE: patch(out, value, d->number, 4); break;
    case GG_OP_ARRAY_N: patch(out, value + 4, d->number, 8); break;
    case GG_OP_ELEMENT_BYTES: patch(out, value + 12, d->number, 8); break;
    case GG_OP_T_NAME_BYTES: patch(out, name, d->number, 8); break;
    case GG_OP_T_NAME_BYTE: patch(out, name + 9, d->number, 1); break;
    case GG_OP_T_N_DIMS: patch(out, dims, d->number, 4); break;
    case GG_OP_T_NE0: patch(out, dims + 4, d->number, 8); break;
    case GG_OP_T_NE1: patch(out, dims + 12, d->number, 8); break;
    case GG_OP_T_TYPE: patch(out, type, d->number, 4); break;
    case GG_OP_T_OFFSET: patch(out, type + 4, d->number == 1 ? f->tensors[t].offset + 1 : d->number, 8); break;
    case GG_OP_CUT: out->n = (size_t)d->number; break;
    case GG_OP_CUT_END: out->n -= (size_t)d->number; break;
    case GG_OP_TRAILING: for (i = 0; i < (size_t)d->number; i++) put(out, "x", 1); break;
    case GG_OP_TEXT: out->n = 0; put(out, d->text, strlen(d->text)); break;
    default: break;
    }
}

static void gg_run_single(size_t i, gg_case *c)
{
    const gg_single *d = &gg_singles[i];
    model_options options = { GG_LLAMA, 0, 0, 0 };
    snprintf(c->name, sizeof c->name, "%s", d->name);
    c->expect = d->expect;
    if (!c->file) return;
    options.bpe = d->op >= GG_OP_BPE_MERGES && d->op <= GG_OP_BPE_SAME;
    if (d->op >= GG_OP_MOE_U32 && d->op <= GG_OP_MOE_NAN) options.family = GG_QWEN3MOE;
    gg_valid(c->file, &options);
    gg_before(c->file, d);
    gg_write(c->file, c->out);
    gg_after(c->file, d, c->out);
}

/* ---- every key x every bad value ---- */

/* bad value:  type,    number (floats: bits),     name */
#define GG_BAD_VALUES(X) \
    X(GG_U32,    0,                       "missing") /* the first removes the key */ \
    X(GG_STRING, 1,                       "a string") \
    X(GG_ARRAY,  3,                       "an array of 3 u32") \
    X(GG_ARRAY,  0,                       "an empty array of u32") \
    X(GG_BOOL,   1,                       "true") \
    X(GG_F32,    0x40200000u,             "f32 2.5") \
    X(GG_F32,    0x7fc00000u,             "f32 NaN") \
    X(GG_F32,    0x7f800000u,             "f32 infinity") \
    X(GG_F32,    0xbf800000u,             "f32 -1") \
    X(GG_F32,    0,                       "f32 0") \
    X(GG_F64,    0x7e37e43c8800759cu,     "f64 1e300") \
    X(GG_U32,    0,                       "u32 0") \
    X(GG_I32,    0xffffffffu,             "i32 -1") \
    X(GG_U32,    1000000000u,             "u32 10^9") \
    X(GG_U64,    0x100000000u,            "u64 2^32") \
    X(GG_U64,    0xffffffffffffffffu,     "u64 2^64-1")
typedef struct gg_bad { uint32_t type; uint64_t number; const char *name; } gg_bad;
#define GG_BAD_ROW(type, number, name) { type, number, name },
static const gg_bad gg_bads[] = { GG_BAD_VALUES(GG_BAD_ROW) };
#undef GG_BAD_ROW

/* R the model must be refused, g the GGUF already, ? it may load, F it must load: in the order of the bad values
 *
 *    key                                        missing .. u64 2^64-1 */
#define GG_BAD_KEYS(X) \
    X("llama.block_count",                       "RRRR?RRRRRRRRRRR") \
    X("llama.context_length",                    "RRRR?RRRRRRRR?RR") \
    X("llama.embedding_length",                  "RRRRRRRRRRRRRRRR") \
    X("llama.feed_forward_length",               "RRRRRRRRRRRRRRRR") \
    X("llama.attention.head_count",              "RRRRRRRRRRRRRRRR") \
    X("llama.attention.head_count_kv",           "RRRRRRRRRRRRRRRR") \
    X("llama.attention.layer_norm_rms_epsilon",  "RRRR??RRRRRRR???") \
    X("llama.rope.freq_base",                    "FRRR??RRRRRRR???") \
    X("llama.rope.dimension_count",              "FRRR?RRRRRR?RRRR") \
    X("llama.vocab_size",                        "FRRR?RRRRRR?RRRR") \
    X("llama.rope.scaling.factor",               "FRRR??RRR???R???") \
    X("llama.attention.scale",                   "FRRR??RRR???R???") \
    X("general.file_type",                       "F???????????????") \
    X("tokenizer.ggml.bos_token_id",             "F???????????????") \
    X("tokenizer.ggml.eos_token_id",             "F???????????????") \
    X("tokenizer.ggml.unknown_token_id",         "F???????????????") \
    X("tokenizer.ggml.padding_token_id",         "F???????????????") \
    X("split.count",                             "Fggg?gggggg?gggg")
typedef struct gg_bad_key { const char *key, *expect; } gg_bad_key;
#define GG_BAD_KEY_ROW(key, expect) { key, expect },
static const gg_bad_key gg_bad_keys[] = { GG_BAD_KEYS(GG_BAD_KEY_ROW) };
#undef GG_BAD_KEY_ROW

static int gg_letter(char c) { return c == 'R' ? MALFORMED_MODEL : c == 'g' ? MALFORMED_GGUF : c == 'F' ? MALFORMED_FINE : MALFORMED_MAYBE; }

static void gg_run_key(size_t i, gg_case *c)
{
    const gg_bad_key *k = &gg_bad_keys[i / GG_COUNT(gg_bads)];
    const gg_bad *bad = &gg_bads[i % GG_COUNT(gg_bads)];
    model_options options = { GG_LLAMA, 0, 0, 0 };
    snprintf(c->name, sizeof c->name, "key %s: %s", k->key, bad->name);
    c->expect = gg_letter(k->expect[i % GG_COUNT(gg_bads)]);
    if (!c->file) return;
    gg_valid(c->file, &options);
    if (i % GG_COUNT(gg_bads) == 0) {
        if (gg_find(c->file, k->key) < c->file->n_pairs) gg_remove(c->file, k->key);
    } else if (bad->type == GG_STRING) {
        gg_set_string(c->file, k->key, "text");
    } else if (bad->type == GG_ARRAY) {
        gg_zero_array(c->file, k->key, GG_U32, bad->number);
    } else {
        put_int(gg_set(c->file, k->key, bad->type), bad->number, bad->type == GG_BOOL ? 1 : bad->type == GG_U64 || bad->type == GG_F64 ? 8 : 4);
    }
    gg_write(c->file, c->out);
}

/* ---- every tensor x every bad shape ---- */

enum { GG_T_MISSING, GG_T_TRANSPOSED, GG_T_WIDER, GG_T_NARROWER, GG_T_ROW_MORE, GG_T_FLAT, GG_T_EXTRA_DIM, GG_T_TRAILING_ONES, GG_T_INTEGERS, GG_T_RENAMED, GG_T_VARIANTS };
static const char *const gg_variants[GG_T_VARIANTS] = { "missing", "transposed", "rows 32 wider", "rows a half as wide", "one row more", "flat", "a third dimension of 2",
                                                        "trailing dimensions of 1", "of i32", "named in capitals" };

/*    family    tensor */
#define GG_BAD_TENSORS(X) \
    X(LLAMA,    "token_embd.weight") \
    X(LLAMA,    "output_norm.weight") \
    X(LLAMA,    "output.weight") \
    X(LLAMA,    "blk.0.attn_norm.weight") \
    X(LLAMA,    "blk.0.attn_q.weight") \
    X(LLAMA,    "blk.0.attn_k.weight") \
    X(LLAMA,    "blk.1.attn_v.weight") \
    X(LLAMA,    "blk.1.attn_output.weight") \
    X(LLAMA,    "blk.1.ffn_norm.weight") \
    X(LLAMA,    "blk.0.ffn_gate.weight") \
    X(LLAMA,    "blk.1.ffn_up.weight") \
    X(LLAMA,    "blk.1.ffn_down.weight") \
    X(SMOLLM3,  "token_embd.weight") \
    X(QWEN2,    "blk.0.attn_q.bias") \
    X(QWEN2,    "blk.0.attn_k.bias") \
    X(QWEN2,    "blk.1.attn_v.bias") \
    X(QWEN3,    "blk.0.attn_q_norm.weight") \
    X(QWEN3,    "blk.1.attn_k_norm.weight") \
    X(QWEN3MOE, "blk.0.ffn_gate_inp.weight") \
    X(QWEN3MOE, "blk.0.ffn_gate_exps.weight") \
    X(QWEN3MOE, "blk.1.ffn_up_exps.weight") \
    X(QWEN3MOE, "blk.1.ffn_down_exps.weight")
typedef struct gg_bad_tensor { int family; const char *name; } gg_bad_tensor;
#define GG_BAD_TENSOR_ROW(family, name) { GG_##family, name },
static const gg_bad_tensor gg_bad_tensors[] = { GG_BAD_TENSORS(GG_BAD_TENSOR_ROW) };
#undef GG_BAD_TENSOR_ROW

static void gg_run_tensor(size_t i, gg_case *c)
{
    const gg_bad_tensor *bad = &gg_bad_tensors[i / GG_T_VARIANTS];
    int variant = (int)(i % GG_T_VARIANTS), square, vector, optional = !strcmp(bad->name, "output.weight");
    model_options options = { GG_LLAMA, 0, 0, 0 };
    gg_tensor *t;
    uint32_t seed = 5;
    uint64_t a;
    size_t k;
    vector = strstr(bad->name, "norm") || strstr(bad->name, "bias");
    square = !strcmp(bad->name, "blk.0.attn_q.weight") || strstr(bad->name, "attn_output") || strstr(bad->name, "_exps"); /* here, ne0 = ne1 */
    snprintf(c->name, sizeof c->name, "%s %s: %s", gg_families[bad->family], bad->name, gg_variants[variant]);
    c->expect = MALFORMED_MODEL;
    if ((variant == GG_T_MISSING || variant == GG_T_RENAMED) && optional) c->expect = MALFORMED_FINE; /* tied */
    if (variant == GG_T_TRAILING_ONES) c->expect = MALFORMED_FINE;
    if (variant == GG_T_TRANSPOSED && (square || vector)) c->expect = vector ? MALFORMED_MODEL : MALFORMED_FINE;
    if (variant == GG_T_FLAT && vector) c->expect = MALFORMED_FINE;
    if (!c->file) return;
    options.family = bad->family;
    options.bpe = bad->family >= GG_QWEN2;
    gg_valid(c->file, &options);
    k = gg_find_tensor(c->file, bad->name);
    if (k == c->file->n_tensors) exit(3);
    t = &c->file->tensors[k];
    a = t->ne[0];
    switch (variant) {
    case GG_T_MISSING: gg_remove_tensor(c->file, k); t = NULL; break;
    case GG_T_TRANSPOSED: t->ne[0] = t->ne[1]; t->ne[1] = a; if (t->n_dims == 1) t->n_dims = 2; break;
    case GG_T_WIDER: t->ne[0] += 32; break;
    case GG_T_NARROWER: t->ne[0] /= 2; break;
    case GG_T_ROW_MORE: t->ne[1]++; if (t->n_dims == 1) t->n_dims = 2; break;
    case GG_T_FLAT: t->ne[0] *= t->ne[1] * t->ne[2]; t->ne[1] = t->ne[2] = 1; t->n_dims = 1; break;
    case GG_T_EXTRA_DIM: if (t->n_dims < 3) { t->ne[2] = 2; t->n_dims = 3; } else { t->ne[3] = 2; t->n_dims = 4; } break;
    case GG_T_TRAILING_ONES: t->n_dims = 4; break;
    case GG_T_RENAMED: for (k = 0; t->name[k]; k++) if (t->name[k] >= 'a' && t->name[k] <= 'z') t->name[k] = (char)(t->name[k] - 32); break;
    default: break;
    }
    if (t) gg_fill(t, 0, &seed);
    if (t && variant == GG_T_INTEGERS) t->type = 26;
    gg_write(c->file, c->out);
}

/* ---- the interface ---- */

static GG_UNUSED size_t malformed_count(void) { return GG_COUNT(gg_singles) + GG_COUNT(gg_bad_keys) * GG_COUNT(gg_bads) + GG_COUNT(gg_bad_tensors) * GG_T_VARIANTS; }

static void gg_run(size_t i, gg_case *c)
{
    if (i < GG_COUNT(gg_singles)) { gg_run_single(i, c); return; }
    i -= GG_COUNT(gg_singles);
    if (i < GG_COUNT(gg_bad_keys) * GG_COUNT(gg_bads)) { gg_run_key(i, c); return; }
    gg_run_tensor(i - GG_COUNT(gg_bad_keys) * GG_COUNT(gg_bads), c);
}

static GG_UNUSED const char *malformed_name(size_t i)
{
    static gg_case c;
    memset(&c, 0, sizeof c);
    gg_run(i, &c);
    return c.name;
}
static GG_UNUSED int malformed_expect(size_t i)
{
    gg_case c;
    memset(&c, 0, sizeof c);
    gg_run(i, &c);
    return c.expect;
}
static GG_UNUSED void malformed_build(size_t i, bytes *out)
{
    gg_case c;
    memset(&c, 0, sizeof c);
    memset(out, 0, sizeof *out);
    c.out = out;
    c.file = (gg_file *)calloc(1, sizeof *c.file);
    if (!c.file) exit(3);
    gg_run(i, &c);
    gg_free(c.file);
    free(c.file);
}
#endif
