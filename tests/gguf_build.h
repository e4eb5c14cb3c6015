/* Builds GGUF files in memory, for tests: bytes that a person can follow, right or wrong on purpose.
 *
 *     gguf_build g;
 *     gguf_begin(&g, 3);                                        version
 *     gguf_text(&g, "general.architecture", "llama");
 *     gguf_int(&g, "llama.block_count", GGUF_U32, 2);           any integer type or bool
 *     gguf_float(&g, "x", GGUF_F32, 0.5);
 *     gguf_texts(&g, "tokenizer.ggml.tokens", tokens, n);       an array of strings
 *     gguf_array(&g, "list", GGUF_I32, 2);                      then its elements, raw:
 *     gguf_put(&g.pairs, 1, 4); gguf_put(&g.pairs, 2, 4);
 *     gguf_tensor(&g, "token_embd.weight", 0, 2, ne, data, bytes);
 *     gguf_finish(&g);                                          now g.head.p[0 .. g.head.n) is the file
 *     gguf_free(&g);
 *
 * Lengths, counts and types are written as given and not checked.  Set g.alignment before the first tensor for another than 32 (and write the key
 * general.alignment). */
#ifndef SMOLQ_GGUF_BUILD_H
#define SMOLQ_GGUF_BUILD_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#  define GGUF_FN static __attribute__((unused))
#else
#  define GGUF_FN static
#endif

enum { GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64 };

typedef struct gguf_bytes { unsigned char *p; size_t n, room; } gguf_bytes;
typedef struct gguf_build {
    gguf_bytes pairs, tensors, data; /* the three sections as they grow */
    gguf_bytes head;                 /* the file, once finished */
    uint64_t n_pairs, n_tensors, alignment;
    uint32_t version;
} gguf_build;

GGUF_FN void gguf_put_bytes(gguf_bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->room) {
        b->room = (b->n + n) * 2 + 256;
        b->p = (unsigned char *)realloc(b->p, b->room);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

/* The low n bytes of value, little-endian. */
GGUF_FN void gguf_put(gguf_bytes *b, uint64_t value, int n)
{
    unsigned char bytes[8];
    int i;
    for (i = 0; i < n; i++) bytes[i] = (unsigned char)(value >> (8 * i));
    gguf_put_bytes(b, bytes, (size_t)n);
}

GGUF_FN void gguf_put_float(gguf_bytes *b, double value, int type)
{
    float f = (float)value;
    uint32_t u32;
    uint64_t u64;
    memcpy(&u32, &f, 4);
    memcpy(&u64, &value, 8);
    if (type == GGUF_F32) gguf_put(b, u32, 4);
    else gguf_put(b, u64, 8);
}

GGUF_FN void gguf_put_text(gguf_bytes *b, const char *text, size_t n)
{
    gguf_put(b, n, 8);
    gguf_put_bytes(b, text, n);
}

GGUF_FN int gguf_type_bytes(int type)
{
    static const int bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return bytes[type];
}

GGUF_FN void gguf_begin(gguf_build *g, uint32_t version)
{
    memset(g, 0, sizeof *g);
    g->version = version;
    g->alignment = 32;
}

GGUF_FN void gguf_key(gguf_build *g, const char *key, int type)
{
    gguf_put_text(&g->pairs, key, strlen(key));
    gguf_put(&g->pairs, (uint64_t)type, 4);
    g->n_pairs++;
}
GGUF_FN void gguf_int(gguf_build *g, const char *key, int type, int64_t value)
{
    gguf_key(g, key, type);
    gguf_put(&g->pairs, (uint64_t)value, gguf_type_bytes(type));
}
GGUF_FN void gguf_float(gguf_build *g, const char *key, int type, double value)
{
    gguf_key(g, key, type);
    gguf_put_float(&g->pairs, value, type);
}
GGUF_FN void gguf_text(gguf_build *g, const char *key, const char *text)
{
    gguf_key(g, key, GGUF_STRING);
    gguf_put_text(&g->pairs, text, strlen(text));
}
/* The head of an array; its n elements follow with gguf_put, gguf_put_float, gguf_put_text on &g->pairs. */
GGUF_FN void gguf_array(gguf_build *g, const char *key, int element_type, uint64_t n)
{
    gguf_key(g, key, GGUF_ARRAY);
    gguf_put(&g->pairs, (uint64_t)element_type, 4);
    gguf_put(&g->pairs, n, 8);
}
GGUF_FN void gguf_texts(gguf_build *g, const char *key, const char *const *texts, size_t n)
{
    size_t i;
    gguf_array(g, key, GGUF_STRING, n);
    for (i = 0; i < n; i++) gguf_put_text(&g->pairs, texts[i], strlen(texts[i]));
}
GGUF_FN void gguf_ints(gguf_build *g, const char *key, int type, const int32_t *values, size_t n)
{
    size_t i;
    gguf_array(g, key, type, n);
    for (i = 0; i < n; i++) gguf_put(&g->pairs, (uint64_t)(int64_t)values[i], gguf_type_bytes(type));
}
GGUF_FN void gguf_floats(gguf_build *g, const char *key, int type, const float *values, size_t n)
{
    size_t i;
    gguf_array(g, key, type, n);
    for (i = 0; i < n; i++) gguf_put_float(&g->pairs, values[i], type);
}

/* type: a ggml type id; data may be NULL for zeros. */
GGUF_FN void gguf_tensor(gguf_build *g, const char *name, int type, int n_dims, const uint64_t *ne, const void *data, size_t bytes)
{
    int i;
    size_t k;
    while (g->data.n % g->alignment) gguf_put(&g->data, 0, 1);
    gguf_put_text(&g->tensors, name, strlen(name));
    gguf_put(&g->tensors, (uint64_t)n_dims, 4);
    for (i = 0; i < n_dims; i++) gguf_put(&g->tensors, ne[i], 8);
    gguf_put(&g->tensors, (uint64_t)type, 4);
    gguf_put(&g->tensors, g->data.n, 8);
    if (data) gguf_put_bytes(&g->data, data, bytes);
    else for (k = 0; k < bytes; k++) gguf_put(&g->data, 0, 1);
    g->n_tensors++;
}

GGUF_FN void gguf_finish(gguf_build *g)
{
    gguf_put_bytes(&g->head, "GGUF", 4);
    gguf_put(&g->head, g->version, 4);
    gguf_put(&g->head, g->n_tensors, 8);
    gguf_put(&g->head, g->n_pairs, 8);
    gguf_put_bytes(&g->head, g->pairs.p, g->pairs.n);
    gguf_put_bytes(&g->head, g->tensors.p, g->tensors.n);
    while (g->head.n % g->alignment) gguf_put(&g->head, 0, 1);
    gguf_put_bytes(&g->head, g->data.p, g->data.n);
}

GGUF_FN void gguf_free(gguf_build *g)
{
    free(g->pairs.p);
    free(g->tensors.p);
    free(g->data.p);
    free(g->head.p);
    memset(g, 0, sizeof *g);
}
#endif
