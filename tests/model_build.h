/* Small models with random weights, written by the tests themselves: all families, any tensor type, odd shapes, no file needed.
 *
 *     model_spec spec = { .family = "qwen3" };        // zero fields take the defaults of model_build
 *     size_t bytes;
 *     unsigned char *file = model_build(&spec, &bytes);   // a GGUF file in memory; free() it
 *     smolq_source source = model_source(file, bytes);    // where smolq.h is included
 *
 * Any key of the family can be given, changed or left out by `extra`; the weights stay as they are:
 *     model_spec spec = { .family = "gemma2", .extra = { { "attention.sliding_window", 'u', 20 }, { "final_logit_softcapping" } } };
 *
 * The weights depend on seed, family and shapes alone.  Matrices are scaled so that activations keep their size, queries and keys are larger, so that
 * attention looks at few positions and a wrong rotation shows.  Quantized blocks are random bytes with scales in range: every code of a type occurs. */
#ifndef SMOLQ_MODEL_BUILD_H
#define SMOLQ_MODEL_BUILD_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct build_extra {
    const char    *key;         /* after "FAMILY."; NULL ends the list */
    char           kind;        /* u u32, i i32, f f32, t text, b bool, U array of u32, B of bools, F of f32; 0: the key is left out */
    double         value;
    const char    *text;
    int            list[8], n;  /* elements of an array, repeated up to n_layer; n < 0: exactly -n elements */
} build_extra;

typedef struct model_spec {
    const char *family;         /* general.architecture, also the prefix of the keys */
    uint64_t    seed;
    int         type;           /* of the matrices, a ggml type id [0: F32] */
    int         embd_type;      /* of token_embd and output, where it differs: id + 1 [0: type] */
    int         n_layer;        /* [4] */
    int         n_embd;         /* [64] */
    int         n_head;         /* [4] */
    int         n_head_kv;      /* [2] */
    int         head_dim;       /* [0: n_embd / n_head, and no key] */
    int         n_ff;           /* [96] of each expert, where there are experts */
    int         n_vocab;        /* [262 with a tokenizer, else 61] */
    int         n_ctx_train;    /* [512] */
    int         n_expert, n_expert_used;
    int         untied;         /* has output.weight */
    int         biases;         /* of q, k, v: 1; also of attn_output and the feed-forward: 2 (qwen2 has 1 by itself) */
    int         rope_freqs;     /* rope_freqs.weight of n_rot / 2 */
    const char *scaling;        /* rope.scaling.type */
    double      factor;         /* rope.scaling.factor */
    int         original_ctx;   /* rope.scaling.original_context_length */
    double      rope_base;      /* [10000] */
    int         tokenizer;      /* a byte-level BPE vocabulary: 4 control tokens, 256 bytes, "th" and "the" */
    int         alignment;      /* [32, and no key] */
    int         n_rot;          /* rotated numbers of a head [all] */
    int         fused;          /* attn_qkv, ffn_up with the gate's rows, ffn_gate_up_exps (phi3 has the first two by itself); without experts, the same weights */
    int         long_short;     /* rope_factors_long and rope_factors_short (phi3 has them by itself) */
    int         keep_shapes;    /* extra does not change the shapes of tensors: a file whose keys and tensors differ */
    build_extra extra[12];
} model_spec;

/* ---- random numbers: splitmix64 ---- */

static uint64_t build_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static double build_uniform(uint64_t *state) { return (double)(build_random(state) >> 11) / 4503599627370496.0 - 1; } /* -1 .. 1 */

/* ---- bytes ---- */

typedef struct build_bytes { unsigned char *p; size_t n, capacity; } build_bytes;

static void build_put(build_bytes *b, const void *bytes, size_t n)
{
    if (b->n + n > b->capacity) {
        b->capacity = (b->n + n) * 2;
        b->p = (unsigned char *)realloc(b->p, b->capacity);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, bytes, n);
    b->n += n;
}
static void build_int(build_bytes *b, uint64_t value, int bytes)
{
    unsigned char le[8];
    int i;
    for (i = 0; i < 8; i++) le[i] = (unsigned char)(value >> 8 * i);
    build_put(b, le, (size_t)bytes);
}
static void build_text(build_bytes *b, const char *text)
{
    build_int(b, strlen(text), 8);
    build_put(b, text, strlen(text));
}
static void build_pad(build_bytes *b, size_t alignment) { while (b->n % alignment) build_int(b, 0, 1); }

/* ---- a GGUF file in three pieces: metadata, tensor table, tensor data ---- */

typedef struct build_file {
    build_bytes pairs, table, data;
    uint64_t    n_pairs, n_tensors;
    size_t      alignment;
} build_file;

static void build_key(build_file *f, const char *prefix, const char *key, uint32_t type) /* the value follows in f->pairs */
{
    char full[160];
    snprintf(full, sizeof full, "%s%s%s", prefix, *prefix ? "." : "", key);
    build_text(&f->pairs, full);
    build_int(&f->pairs, type, 4);
    f->n_pairs++;
}
static void build_key_u32(build_file *f, const char *prefix, const char *key, int value)
{
    build_key(f, prefix, key, 4);
    build_int(&f->pairs, (uint64_t)value, 4);
}
static void build_key_f32(build_file *f, const char *prefix, const char *key, double value)
{
    float f32 = (float)value;
    uint32_t bits;
    memcpy(&bits, &f32, 4);
    build_key(f, prefix, key, 6);
    build_int(&f->pairs, bits, 4);
}
static void build_key_text(build_file *f, const char *prefix, const char *key, const char *value)
{
    build_key(f, prefix, key, 8);
    build_text(&f->pairs, value);
}
static const build_extra *build_extra_of(const model_spec *s, const char *key)
{
    const build_extra *e;
    for (e = s->extra; e->key; e++) if (strcmp(e->key, key) == 0) return e;
    return NULL;
}
static void build_own_u32(build_file *f, const model_spec *s, const char *key, int value) { if (!build_extra_of(s, key)) build_key_u32(f, s->family, key, value); }
static void build_own_f32(build_file *f, const model_spec *s, const char *key, double value) { if (!build_extra_of(s, key)) build_key_f32(f, s->family, key, value); }

/* The number of a layer: what extra says (one for all, or an array's), or else. */
static int build_of_layer(const model_spec *s, const char *key, int il, int otherwise)
{
    const build_extra *e = build_extra_of(s, key);
    if (!e || e->kind == 0 || s->keep_shapes) return otherwise;
    return e->n == 0 ? (int)e->value : e->list[il % (e->n < 0 ? -e->n : e->n)];
}

static void build_key_array(build_file *f, const char *key, uint32_t type, int n) /* the elements follow in f->pairs */
{
    build_key(f, "", key, 9);
    build_int(&f->pairs, type, 4);
    build_int(&f->pairs, (uint64_t)n, 8);
}

static void build_extras(build_file *f, const model_spec *s)
{
    const build_extra *e;
    int i;
    for (e = s->extra; e->key; e++) {
        if (e->kind == 'u') build_key_u32(f, s->family, e->key, (int)e->value);
        if (e->kind == 'f') build_key_f32(f, s->family, e->key, e->value);
        if (e->kind == 't') build_key_text(f, s->family, e->key, e->text);
        if (e->kind == 'i') {
            build_key(f, s->family, e->key, 5);
            build_int(&f->pairs, (uint64_t)(int64_t)e->value, 4);
        }
        if (e->kind == 'b') {
            build_key(f, s->family, e->key, 7);
            build_int(&f->pairs, (uint64_t)e->value, 1);
        }
        if (e->kind == 'U' || e->kind == 'B' || e->kind == 'F') {
            char full[128];
            int n = e->n < 0 ? -e->n : s->n_layer;
            snprintf(full, sizeof full, "%s.%s", s->family, e->key);
            build_key_array(f, full, e->kind == 'U' ? 4 : e->kind == 'B' ? 7 : 6, n);
            for (i = 0; i < n; i++) {
                float number = (float)e->list[i % (e->n < 0 ? -e->n : e->n)];
                uint32_t bits;
                memcpy(&bits, &number, 4);
                build_int(&f->pairs, e->kind == 'F' ? bits : (uint64_t)number, e->kind == 'B' ? 1 : 4);
            }
        }
    }
}

static unsigned char *build_finish(build_file *f, size_t *bytes)
{
    build_bytes out = { 0 };
    build_put(&out, "GGUF", 4);
    build_int(&out, 3, 4);
    build_int(&out, f->n_tensors, 8);
    build_int(&out, f->n_pairs, 8);
    build_put(&out, f->pairs.p, f->pairs.n);
    build_put(&out, f->table.p, f->table.n);
    build_pad(&out, f->alignment);
    build_put(&out, f->data.p, f->data.n);
    free(f->pairs.p);
    free(f->table.p);
    free(f->data.p);
    *bytes = out.n;
    return out.p;
}

/* ---- tensor types ---- */

/*  id  name      weights, bytes of a block, byte of its f16 scale, byte of its f16 minimum (-1: none), size of a typical code, minimum / scale */
#define BUILD_TYPES(X) \
    X( 2, "q4_0",     32,  18,   0, -1,    4.6,  0) \
    X( 3, "q4_1",     32,  20,   0,  2,    4.6, -7.5) \
    X( 6, "q5_0",     32,  22,   0, -1,    9.2,  0) \
    X( 7, "q5_1",     32,  24,   0,  2,    9.2, -15.5) \
    X( 8, "q8_0",     32,  34,   0, -1,   74,    0) \
    X(10, "q2_k",    256,  84,  80, 82,   14,    1.5) \
    X(11, "q3_k",    256, 110, 108, -1,   42,    0) \
    X(12, "q4_k",    256, 144,   0,  2,  250,    7.5) \
    X(13, "q5_k",    256, 176,   0,  2,  500,   15.5) \
    X(14, "q6_k",    256, 210, 208, -1, 1370,    0) \
    X(16, "iq2_xxs", 256,  66,   0, -1,   50,    0) \
    X(17, "iq2_xs",  256,  74,   0, -1,   50,    0) \
    X(18, "iq3_xxs", 256,  98,   0, -1,  140,    0) \
    X(19, "iq1_s",   256,  50,   0, -1,    8,    0) \
    X(20, "iq4_nl",   32,  18,   0, -1,   65,    0) \
    X(21, "iq3_s",   256, 110,   0, -1,  147,    0) \
    X(22, "iq2_s",   256,  82,   0, -1,   50,    0) \
    X(23, "iq4_xs",  256, 136,   0, -1, 1200,    0) \
    X(29, "iq1_m",   256,  56,  -1, -1,    8,    0) /* the scale is in the high nibbles of the last 8 bytes */ \
    X(34, "tq1_0",   256,  54,  52, -1,    0.8,  0) \
    X(35, "tq2_0",   256,  66,  64, -1,    1.2,  0) \
    X(39, "mxfp4",    32,  17,  -1, -1,    3.4,  0) /* byte 0 is a power of two */ \
    X(40, "nvfp4",    64,  36,  -1, -1,    3.4,  0) /* bytes 0 to 3 are scales of 4 exponent and 3 fraction bits */ \
    X(41, "q1_0",    128,  18,   0, -1,    1,    0) \
    X(42, "q2_0",     64,  18,   0, -1,    1.2,  0)

typedef struct build_type { int id; const char *name; int weights, bytes, d_at, m_at; double code, m_per_d; } build_type;
#define BUILD_TYPE_ROW(id, name, weights, bytes, d_at, m_at, code, m_per_d) { id, name, weights, bytes, d_at, m_at, code, m_per_d },
static const build_type build_types[] = { /* the quantized types, then the float types, whose weights are rounded one by one */
    BUILD_TYPES(BUILD_TYPE_ROW)
    { 0, "f32", 1, 4, -1, -1, 1, 0 }, { 1, "f16", 1, 2, -1, -1, 1, 0 }, { 30, "bf16", 1, 2, -1, -1, 1, 0 }
};
enum { BUILD_N_TYPES = sizeof build_types / sizeof *build_types, BUILD_N_QUANTIZED = BUILD_N_TYPES - 3 };

static const build_type *build_type_of(int id)
{
    int i;
    for (i = 0; i < BUILD_N_TYPES; i++) if (build_types[i].id == id) return &build_types[i];
    abort();
}

static uint32_t build_f32_bits(float f) { uint32_t bits; memcpy(&bits, &f, 4); return bits; }
static uint32_t build_f16_bits(float f) /* towards zero: any rounding makes a fine random weight */
{
    uint32_t bits = build_f32_bits(f), sign = bits >> 16 & 0x8000;
    int exponent = (int)(bits >> 23 & 255) - 112;
    if (exponent <= 0) return sign | (uint32_t)(fabs(f) * 16777216.0); /* subnormal: units of 2^-24 */
    if (exponent >= 31) return sign | 0x7bff;
    return sign | (uint32_t)exponent << 10 | (bits >> 13 & 1023);
}

/* The entry of a tensor, whose weights follow in f->data. */
static void build_entry(build_file *f, const char *name, int type, int n_dims, int ne0, int ne1, int ne2)
{
    int ne[3], k;
    ne[0] = ne0;
    ne[1] = ne1;
    ne[2] = ne2;
    if (ne0 % build_type_of(type)->weights) abort();
    build_pad(&f->data, f->alignment);
    build_text(&f->table, name);
    build_int(&f->table, (uint64_t)n_dims, 4);
    for (k = 0; k < n_dims; k++) build_int(&f->table, (uint64_t)ne[k], 8);
    build_int(&f->table, (uint64_t)type, 4);
    build_int(&f->table, f->data.n, 8);
    f->n_tensors++;
}

/* Random weights of the given size (root of the mean square) around `middle`. */
static void build_weights(build_file *f, int type, uint64_t n_weights, double size, double middle, uint64_t *rng)
{
    const build_type *t = build_type_of(type);
    uint64_t i, n = n_weights / (uint64_t)t->weights;
    int k;
    for (i = 0; i < n; i++) {
        unsigned char block[256];
        volatile double part = build_uniform(rng); /* volatile: no fused product and sum, so the same weights on every machine */
        uint32_t d;
        part *= 0.3;
        part = (1 + part) * (size / t->code);
        d = build_f16_bits((float)part);
        if (t->weights == 1) {
            uint32_t bits;
            part = build_uniform(rng);
            part *= 1.7320508 * size;
            bits = build_f32_bits((float)(middle + part));
            float rounded;
            memcpy(&rounded, &bits, 4);
            build_int(&f->data, type == 0 ? bits : type == 30 ? bits >> 16 : build_f16_bits(rounded), t->bytes);
            continue;
        }
        for (k = 0; k < t->bytes; k++) block[k] = (unsigned char)(build_random(rng) >> 24);
        if (t->d_at >= 0) {
            block[t->d_at] = (unsigned char)d;
            block[t->d_at + 1] = (unsigned char)(d >> 8);
        }
        if (t->m_at >= 0) {
            uint32_t m = build_f16_bits((float)(size / t->code * t->m_per_d));
            block[t->m_at] = (unsigned char)m;
            block[t->m_at + 1] = (unsigned char)(m >> 8);
        }
        if (type == 29) for (k = 0; k < 4; k++) block[49 + 2 * k] = (unsigned char)((block[49 + 2 * k] & 15) | (d >> 4 * k & 15) << 4);
        if (type == 39) { /* value = 2^(byte - 127) * code */
            int exponent;
            frexp(size / t->code, &exponent);
            block[0] = (unsigned char)(126 + exponent + (block[0] & 1));
        }
        if (type == 40) for (k = 0; k < 4; k++) block[k] = (unsigned char)(8 + (block[k] & 7));               /* 2^-6 .. 2^-5 */
        build_put(&f->data, block, (size_t)t->bytes);
    }
}

static void build_tensor(build_file *f, const char *name, int type, int n_dims, int ne0, int ne1, int ne2, double size, double middle, uint64_t *rng)
{
    build_entry(f, name, type, n_dims, ne0, ne1, ne2);
    build_weights(f, type, (uint64_t)ne0 * (uint64_t)ne1 * (uint64_t)ne2, size, middle, rng);
}

/* ---- a vocabulary: the bytes as GPT-2 writes them, two merges, four control tokens ---- */

enum { BUILD_BOS = 0, BUILD_EOS = 1, BUILD_FIRST_BYTE = 4, BUILD_N_TOKENS = 262 };

static void build_vocab(build_file *f, int n_vocab)
{
    static const char *const control[4] = { "<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>" };
    int i, next = 256;
    build_key_text(f, "", "tokenizer.ggml.model", "gpt2");
    build_key_text(f, "", "tokenizer.ggml.pre", "gpt-2");
    build_key_array(f, "tokenizer.ggml.tokens", 8, n_vocab);
    for (i = 0; i < n_vocab; i++) {
        char text[32];
        if (i < BUILD_FIRST_BYTE) {
            snprintf(text, sizeof text, "%s", control[i]);
        } else if (i < BUILD_FIRST_BYTE + 256) { /* printable bytes of Latin-1 stand for themselves, the others for 256, 257, ... */
            int byte = i - BUILD_FIRST_BYTE;
            int code = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174 ? byte : next++;
            if (code < 128) snprintf(text, sizeof text, "%c", code);
            else snprintf(text, sizeof text, "%c%c", (char)(0xc0 | code >> 6), (char)(0x80 | (code & 63)));
        } else if (i < BUILD_N_TOKENS) {
            snprintf(text, sizeof text, "%s", i == BUILD_N_TOKENS - 2 ? "th" : "the");
        } else {
            snprintf(text, sizeof text, "<unused%d>", i);
        }
        build_text(&f->pairs, text);
    }
    build_key_array(f, "tokenizer.ggml.token_type", 5, n_vocab);
    for (i = 0; i < n_vocab; i++) build_int(&f->pairs, i < BUILD_FIRST_BYTE ? 3 : i < BUILD_N_TOKENS ? 1 : 5, 4);
    build_key_array(f, "tokenizer.ggml.merges", 8, 2);
    build_text(&f->pairs, "t h");
    build_text(&f->pairs, "th e");
    build_key_u32(f, "", "tokenizer.ggml.bos_token_id", BUILD_BOS);
    build_key_u32(f, "", "tokenizer.ggml.eos_token_id", BUILD_EOS);
    build_key(f, "", "tokenizer.ggml.add_bos_token", 7);
    build_int(&f->pairs, 1, 1);
}

/* ---- the model ---- */

static int build_is(const model_spec *s, const char *family) { return strcmp(s->family, family) == 0; }

/* Keys of a family's own ideas; sizes at which each idea shows within a hundred tokens. */
static void build_family_keys(build_file *f, const model_spec *s)
{
    int gemma2 = build_is(s, "gemma2"), gemma3 = build_is(s, "gemma3");
    if (gemma2 || gemma3 || build_is(s, "gpt-oss")) build_own_u32(f, s, "attention.sliding_window", 13);
    if (gemma2) {
        build_own_f32(f, s, "attn_logit_softcapping", 3);
        build_own_f32(f, s, "final_logit_softcapping", 2);
    }
    if (build_is(s, "granite")) {
        build_own_f32(f, s, "logit_scale", 0.6);
        build_own_f32(f, s, "residual_scale", 0.7);
        build_own_f32(f, s, "embedding_scale", 3);
        build_own_f32(f, s, "attention.scale", 0.4);
    }
    if (build_is(s, "mistral3")) build_own_f32(f, s, "attention.temperature_scale", 0.3);
    if (build_is(s, "qwen2moe")) build_own_u32(f, s, "expert_shared_feed_forward_length", 64);
    if (build_is(s, "phi3")) build_own_u32(f, s, "rope.scaling.original_context_length", 64);
}

/* Layers' own heads and feed-forwards come from extra; without, all are alike. */
static void build_layer(build_file *f, const model_spec *s, int il, int head_dim, uint64_t *rng)
{
    static const char *const dense[3] = { "ffn_gate", "ffn_up", "ffn_down" };
    int gemma = strncmp(s->family, "gemma", 5) == 0, olmo2 = build_is(s, "olmo2"), oss = build_is(s, "gpt-oss"), phi3 = build_is(s, "phi3");
    int n_head = build_of_layer(s, "attention.head_count", il, s->n_head), n_q = n_head * head_dim;
    int n_head_kv = build_of_layer(s, "attention.head_count_kv", il, build_extra_of(s, "attention.head_count_kv") && !s->keep_shapes ? n_head : s->n_head_kv), n_kv = n_head_kv * head_dim;
    int n_ff = s->n_expert ? s->n_ff : build_of_layer(s, "feed_forward_length", il, s->n_ff), n_qkv = n_q + 2 * n_kv, i;
    uint64_t rows = (uint64_t)s->n_embd; /* a row of weights is so long */
    double in = 1 / sqrt(s->n_embd);
    char name[64];
#define BUILD_NAME(text) (snprintf(name, sizeof name, "blk.%d.%s", il, text), name)
    if (!olmo2) build_tensor(f, BUILD_NAME("attn_norm.weight"), 0, 1, s->n_embd, 1, 1, 0.2, 1, rng);
    if (s->fused || phi3) {
        build_entry(f, BUILD_NAME("attn_qkv.weight"), s->type, 2, s->n_embd, n_qkv, 1);
        build_weights(f, s->type, rows * (uint64_t)(n_q + n_kv), 1.7 * in, 0, rng);
        build_weights(f, s->type, rows * (uint64_t)n_kv, in, 0, rng);
    } else {
        build_tensor(f, BUILD_NAME("attn_q.weight"), s->type, 2, s->n_embd, n_q, 1, 1.7 * in, 0, rng);
        build_tensor(f, BUILD_NAME("attn_k.weight"), s->type, 2, s->n_embd, n_kv, 1, 1.7 * in, 0, rng);
        build_tensor(f, BUILD_NAME("attn_v.weight"), s->type, 2, s->n_embd, n_kv, 1, in, 0, rng);
    }
    build_tensor(f, BUILD_NAME("attn_output.weight"), s->type, 2, n_q, s->n_embd, 1, 1 / sqrt(n_q), 0, rng);
    if (s->biases && s->fused) build_tensor(f, BUILD_NAME("attn_qkv.bias"), 0, 1, n_qkv, 1, 1, 0.5, 0, rng);
    if (s->biases && !s->fused) {
        build_tensor(f, BUILD_NAME("attn_q.bias"), 0, 1, n_q, 1, 1, 0.5, 0, rng);
        build_tensor(f, BUILD_NAME("attn_k.bias"), 0, 1, n_kv, 1, 1, 0.5, 0, rng);
        build_tensor(f, BUILD_NAME("attn_v.bias"), 0, 1, n_kv, 1, 1, 0.5, 0, rng);
    }
    if (s->biases > 1) build_tensor(f, BUILD_NAME("attn_output.bias"), 0, 1, s->n_embd, 1, 1, 0.2, 0, rng);
    if (strncmp(s->family, "qwen3", 5) == 0 || build_is(s, "gemma3") || olmo2) {
        build_tensor(f, BUILD_NAME("attn_q_norm.weight"), 0, 1, olmo2 ? n_q : head_dim, 1, 1, 0.3, 1.3, rng);
        build_tensor(f, BUILD_NAME("attn_k_norm.weight"), 0, 1, olmo2 ? n_kv : head_dim, 1, 1, 0.3, 1.3, rng);
    }
    if (oss) build_tensor(f, BUILD_NAME("attn_sinks.weight"), 0, 1, n_head, 1, 1, 0.5, 1.5, rng);
    if (gemma || olmo2 || oss) build_tensor(f, BUILD_NAME("post_attention_norm.weight"), 0, 1, s->n_embd, 1, 1, 0.2, 1, rng);
    if (!olmo2 && !oss) build_tensor(f, BUILD_NAME("ffn_norm.weight"), 0, 1, s->n_embd, 1, 1, 0.2, 1, rng);
    if (gemma || olmo2) build_tensor(f, BUILD_NAME("post_ffw_norm.weight"), 0, 1, s->n_embd, 1, 1, 0.2, 1, rng);
    if (s->n_expert) build_tensor(f, BUILD_NAME("ffn_gate_inp.weight"), 0, 2, s->n_embd, s->n_expert, 1, 2 * in, 0, rng);
    if (oss) build_tensor(f, BUILD_NAME("ffn_gate_inp.bias"), 0, 1, s->n_expert, 1, 1, 0.5, 0, rng);
    if (s->n_expert && s->fused) build_tensor(f, BUILD_NAME("ffn_gate_up_exps.weight"), s->type, 3, s->n_embd, 2 * n_ff, s->n_expert, in, 0, rng);
    if (!s->n_expert && (s->fused || phi3)) build_tensor(f, BUILD_NAME("ffn_up.weight"), s->type, 2, s->n_embd, 2 * n_ff, 1, in, 0, rng);
    for (i = s->fused || phi3 ? 2 : 0; i < 3; i++) { /* gate and up: n_embd to n_ff; down: back */
        int from = i == 2 ? n_ff : s->n_embd, to = i == 2 ? s->n_embd : n_ff;
        double size = oss && i < 2 ? 4 / sqrt(from) : 1 / sqrt(from); /* so large that gpt-oss's activation is clamped now and then */
        char text[32];
        snprintf(text, sizeof text, s->n_expert ? "%s_exps.weight" : "%s.weight", dense[i]);
        build_tensor(f, BUILD_NAME(text), s->type, s->n_expert ? 3 : 2, from, to, s->n_expert ? s->n_expert : 1, size, 0, rng);
        snprintf(text, sizeof text, s->n_expert ? "%s_exps.bias" : "%s.bias", dense[i]);
        if (s->biases > 1 && (!s->n_expert || oss)) build_tensor(f, BUILD_NAME(text), 0, s->n_expert ? 2 : 1, to, s->n_expert ? s->n_expert : 1, 1, 0.2, 0, rng);
    }
    if (build_is(s, "qwen2moe")) {
        int n_shared = build_of_layer(s, "expert_shared_feed_forward_length", 0, 64);
        build_tensor(f, BUILD_NAME("ffn_gate_inp_shexp.weight"), 0, 1, s->n_embd, 1, 1, 2 * in, 0, rng);
        build_tensor(f, BUILD_NAME("ffn_gate_shexp.weight"), s->type, 2, s->n_embd, n_shared, 1, in, 0, rng);
        build_tensor(f, BUILD_NAME("ffn_up_shexp.weight"), s->type, 2, s->n_embd, n_shared, 1, in, 0, rng);
        build_tensor(f, BUILD_NAME("ffn_down_shexp.weight"), s->type, 2, n_shared, s->n_embd, 1, 1 / sqrt(n_shared), 0, rng);
    }
#undef BUILD_NAME
}

static unsigned char *model_build(const model_spec *spec, size_t *bytes)
{
    model_spec s = *spec;
    build_file f;
    uint64_t rng = s.seed * 1000003u + 17;
    int qwen = strncmp(s.family, "qwen", 4) == 0, qwen3 = strncmp(s.family, "qwen3", 5) == 0, oss = build_is(&s, "gpt-oss"), head_dim, embd_type, il;
    memset(&f, 0, sizeof f);
    if (!s.n_layer) s.n_layer = 4;
    if (!s.n_embd) s.n_embd = 64;
    if (!s.n_head) s.n_head = 4;
    if (!s.n_head_kv) s.n_head_kv = 2;
    if (!s.n_ff) s.n_ff = 96;
    if (!s.n_vocab) s.n_vocab = s.tokenizer ? BUILD_N_TOKENS : 61;
    if (!s.n_ctx_train) s.n_ctx_train = 512;
    if (!s.scaling && (oss || build_is(&s, "mistral3"))) s.scaling = "yarn";
    if (s.scaling && s.factor == 0) s.factor = 8;
    if (s.scaling && !s.original_ctx && (oss || build_is(&s, "mistral3"))) s.original_ctx = 32;
    if (s.rope_base == 0) s.rope_base = build_is(&s, "gemma3") ? 200 : 10000;
    if ((build_is(&s, "qwen3moe") || build_is(&s, "qwen2moe") || oss) && !s.n_expert) s.n_expert = 6;
    if (s.n_expert && !s.n_expert_used) s.n_expert_used = 2;
    if ((build_is(&s, "qwen2") || build_is(&s, "qwen2moe")) && !s.biases) s.biases = 1;
    if (oss) s.biases = 2;
    head_dim = s.head_dim ? s.head_dim : s.n_embd / s.n_head;
    if (!s.n_rot) s.n_rot = head_dim;
    embd_type = s.embd_type ? s.embd_type - 1 : s.type;
    f.alignment = s.alignment ? (size_t)s.alignment : 32;

    build_key_text(&f, "", "general.architecture", s.family);
    build_key_text(&f, "", "general.name", "random weights of the tests");
    if (s.alignment) build_key_u32(&f, "", "general.alignment", s.alignment);
    build_own_u32(&f, &s, "context_length", s.n_ctx_train);
    build_own_u32(&f, &s, "embedding_length", s.n_embd);
    build_own_u32(&f, &s, "block_count", s.n_layer);
    build_own_u32(&f, &s, "feed_forward_length", s.n_ff);
    build_own_u32(&f, &s, "attention.head_count", s.n_head);
    build_own_u32(&f, &s, "attention.head_count_kv", s.n_head_kv);
    build_own_f32(&f, &s, "attention.layer_norm_rms_epsilon", 1e-5);
    build_own_f32(&f, &s, "rope.freq_base", s.rope_base);
    build_own_u32(&f, &s, "rope.dimension_count", s.n_rot);
    build_own_u32(&f, &s, "vocab_size", s.n_vocab);
    if (s.head_dim || qwen3) {
        build_own_u32(&f, &s, "attention.key_length", head_dim);
        build_own_u32(&f, &s, "attention.value_length", head_dim);
    }
    if (s.scaling) {
        if (!build_extra_of(&s, "rope.scaling.type")) build_key_text(&f, s.family, "rope.scaling.type", s.scaling);
        build_own_f32(&f, &s, "rope.scaling.factor", s.factor);
        if (s.original_ctx) build_own_u32(&f, &s, "rope.scaling.original_context_length", s.original_ctx);
    }
    if (s.n_expert) {
        build_own_u32(&f, &s, "expert_count", s.n_expert);
        build_own_u32(&f, &s, "expert_used_count", s.n_expert_used);
        if (qwen || oss) build_own_u32(&f, &s, "expert_feed_forward_length", s.n_ff);
    }
    build_family_keys(&f, &s);
    build_extras(&f, &s);
    if (s.tokenizer) build_vocab(&f, s.n_vocab);

    build_tensor(&f, "token_embd.weight", embd_type, 2, s.n_embd, s.n_vocab, 1, s.untied ? 1 : 0.3, 0, &rng);
    build_tensor(&f, "output_norm.weight", 0, 1, s.n_embd, 1, 1, 0.2, 1, &rng);
    if (s.untied) build_tensor(&f, "output.weight", embd_type, 2, s.n_embd, s.n_vocab, 1, 2 / sqrt(s.n_embd), 0, &rng);
    if (s.rope_freqs) build_tensor(&f, "rope_freqs.weight", 0, 1, s.n_rot / 2, 1, 1, 1.5, 4, &rng);
    if (s.long_short || build_is(&s, "phi3")) {
        build_tensor(&f, "rope_factors_long.weight", 0, 1, s.n_rot / 2, 1, 1, 1.5, 8, &rng);
        build_tensor(&f, "rope_factors_short.weight", 0, 1, s.n_rot / 2, 1, 1, 0.3, 1.5, &rng);
    }
    for (il = 0; il < s.n_layer; il++) build_layer(&f, &s, il, head_dim, &rng);
    return build_finish(&f, bytes);
}

static void model_ids(int32_t *ids, int n, int n_vocab, uint64_t seed) /* random token ids, never the control tokens */
{
    int i;
    for (i = 0; i < n; i++) ids[i] = (int32_t)(BUILD_FIRST_BYTE + build_random(&seed) % (uint64_t)(n_vocab - BUILD_FIRST_BYTE));
}

#ifdef SMOLQ_H
static smolq_source model_source(const unsigned char *file, size_t bytes)
{
    smolq_source source;
    memset(&source, 0, sizeof source);
    source.data = file;
    source.size = bytes;
    return source;
}
#endif
#endif
