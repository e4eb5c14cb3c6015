/* SMQ files of version 1, SMQv0001, as the public project SmallMind (MIT) writes them: read, listed, converted to GGUF.  Include it after output.h.
 *
 *     "SMQv0001" | version u32 = 1 | header bytes u32 = 32 | tensors u32 | JSON bytes u32 | u64 0
 *     JSON | directory, 156 bytes a tensor | data, anywhere                                          all little-endian
 *
 *     name [64], padded with NUL | type u32 | rank i32 | dims i32 [8], the last contiguous | block u32 | data: offset u64, bytes u64 | scales: offset u64, bytes u64 | 16 unused
 *
 *     F32   1    floats
 *     Q8_0 10    int8 for each weight, then an f32 scale for each `block` of them, counted through the whole tensor: weight = q * scale
 *     Q4_0 11    the same with nibbles, two's complement, the first in the low half
 *
 * Every value stays what it is.  GGUF's Q8_0 and Q4_0 have f16 scales for 32 weights: a tensor becomes one of these where all its scales are f16 numbers and no group of
 * 32 has two of them, else F32 (build/quantize makes it small again).  The JSON is one object; what is in it become pairs of metadata. */
#ifndef SMOLQ_EXAMPLES_SMQ_V1_H
#define SMOLQ_EXAMPLES_SMQ_V1_H
#ifdef SMQ_WITH_JANSSON
#  include <jansson.h>
#endif

enum { V1_MOST_TENSORS = 20000, V1_MOST_JSON = 10 << 20, V1_MOST_KEYS = 10000 }; /* more than any model has */
enum { V1_HEADER = 32, V1_ENTRY = 156, V1_NAME = 64, V1_F32 = 1, V1_Q8_0 = 10, V1_Q4_0 = 11, V1_PIECE = 1 << 16 /* weights at once, a multiple of 64 */ };

typedef struct v1_tensor {
    char     name[V1_NAME + 1];
    uint32_t type, block;
    int      n_dims;
    uint64_t ne[4];               /* the first is contiguous, as in GGUF */
    uint64_t n;                   /* weights */
    uint64_t data, scales, data_bytes, scale_bytes; /* where they are */
} v1_tensor;

typedef struct v1_file {
    FILE      *file;
    const char *path;
    uint64_t   bytes;
    uint32_t   n_tensors, json_bytes;
    char      *json;
    v1_tensor *tensors;
} v1_file;

static uint32_t v1_u32(const unsigned char *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
static uint64_t v1_u64(const unsigned char *p) { return v1_u32(p) | (uint64_t)v1_u32(p + 4) << 32; }
static float v1_f32(const unsigned char *p)
{
    uint32_t u = v1_u32(p);
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static int v1_seek(FILE *file, int64_t at, int whence)
{
#ifdef _WIN32
    return _fseeki64(file, at, whence);
#else
    return fseeko(file, (off_t)at, whence);
#endif
}

static void v1_read(const v1_file *f, uint64_t at, void *to, uint64_t n)
{
    if (at > f->bytes || n > f->bytes - at) die("%s: truncated: %llu bytes at offset %llu, the file has %llu", f->path, (unsigned long long)n, (unsigned long long)at, (unsigned long long)f->bytes);
    if (v1_seek(f->file, (int64_t)at, SEEK_SET) || fread(to, 1, (size_t)n, f->file) != n) die("can't read %s: %s", f->path, strerror(errno));
}

static int is_v1(const char *path)
{
    FILE *file = fopen(path, "rb");
    char magic[8];
    int is = file && fread(magic, 1, 8, file) == 8 && memcmp(magic, "SMQv0001", 8) == 0;
    if (file) fclose(file);
    return is;
}

static const char *v1_type_name(uint32_t type) { return type == V1_F32 ? "f32" : type == V1_Q8_0 ? "q8_0" : "q4_0"; }
static uint64_t v1_data_bytes(const v1_tensor *t, uint64_t n) { return t->type == V1_F32 ? n * 4 : t->type == V1_Q8_0 ? n : (n + 1) / 2; }

/* An entry of the directory; die()s where it is not as the format says. */
static void v1_take_entry(const v1_file *f, v1_tensor *t, const unsigned char *p)
{
    int32_t rank = (int32_t)v1_u32(p + 68), i, first = 0;
    uint64_t data_bytes = v1_u64(p + 116), scale_bytes = v1_u64(p + 132), n_scales;
    memcpy(t->name, p, V1_NAME);
    for (i = 0; t->name[i]; i++)
        if ((unsigned char)t->name[i] < 0x20 || t->name[i] == 0x7f) die("%s: a tensor whose name has control characters", f->path);
    t->data_bytes = data_bytes;
    t->scale_bytes = scale_bytes;
    t->type = v1_u32(p + 64);
    t->block = v1_u32(p + 104);
    t->data = v1_u64(p + 108);
    t->scales = v1_u64(p + 124);
    if (!t->name[0]) die("%s: a tensor without a name", f->path);
    if (t->type != V1_F32 && t->type != V1_Q8_0 && t->type != V1_Q4_0) die("%s: tensor %s is of type %u, expected 1 (f32), 10 (q8_0) or 11 (q4_0)", f->path, t->name, (unsigned)t->type);
    if (rank < 0 || rank > 8) die("%s: tensor %s has %d dimensions, expected 0 to 8", f->path, t->name, (int)rank);
    for (t->n = 1, i = 0; i < rank; i++) {
        uint32_t dim = v1_u32(p + 72 + 4 * i);
        if (dim < 1 || dim > INT32_MAX || t->n > ((uint64_t)1 << 40) / dim) die("%s: tensor %s: dimension %d is %d, or the product of them beyond 2^40", f->path, t->name, (int)i, (int)dim);
        t->n *= dim;
    }
    while (rank - first > 1 && v1_u32(p + 72 + 4 * first) == 1) first++; /* outermost dimensions of 1 are none */
    if (rank - first > 4) die("%s: tensor %s has %d dimensions above 1, GGUF at most 4", f->path, t->name, (int)(rank - first));
    t->n_dims = rank ? rank - first : 1;
    for (i = 0; i < 4; i++) t->ne[i] = i < t->n_dims && rank ? v1_u32(p + 72 + 4 * (rank - 1 - i)) : 1;
    if (t->type != V1_F32 && t->block == 0) die("%s: tensor %s has blocks of 0 weights", f->path, t->name);
    n_scales = t->type == V1_F32 ? 0 : (t->n + t->block - 1) / t->block;
    if (data_bytes != v1_data_bytes(t, t->n) || scale_bytes != n_scales * 4)
        die("%s: tensor %s has %llu bytes of data and %llu of scales, expected %llu and %llu", f->path, t->name, (unsigned long long)data_bytes, (unsigned long long)scale_bytes,
            (unsigned long long)v1_data_bytes(t, t->n), (unsigned long long)n_scales * 4);
    if (t->data > f->bytes || data_bytes > f->bytes - t->data || (n_scales && (t->scales > f->bytes || scale_bytes > f->bytes - t->scales)))
        die("%s: truncated: tensor %s is not in the file of %llu bytes", f->path, t->name, (unsigned long long)f->bytes);
}

/* Data and scales of all tensors, each in a place of its own. */
typedef struct v1_place { uint64_t at, end; } v1_place;
static int v1_before(const void *a, const void *b)
{
    const v1_place *x = (const v1_place *)a, *y = (const v1_place *)b;
    return x->at != y->at ? x->at < y->at ? -1 : 1 : x->end < y->end ? -1 : x->end > y->end;
}
static void v1_check_places(const v1_file *f)
{
    v1_place *places = (v1_place *)need(2 * (size_t)f->n_tensors + 1, sizeof *places);
    size_t n = 0, i;
    for (i = 0; i < f->n_tensors; i++) {
        const v1_tensor *t = &f->tensors[i];
        places[n].at = t->data;
        places[n++].end = t->data + t->data_bytes;
        if (t->scale_bytes == 0) continue;
        places[n].at = t->scales;
        places[n++].end = t->scales + t->scale_bytes;
    }
    qsort(places, n, sizeof *places, v1_before);
    for (i = 1; i < n; i++)
        if (places[i].at < places[i - 1].end) die("%s: two tensors have the bytes at offset %llu", f->path, (unsigned long long)places[i].at);
    free(places);
}

static v1_file v1_open(const char *path)
{
    v1_file f = { 0 };
    unsigned char head[V1_HEADER], entry[V1_ENTRY];
    int64_t bytes;
    uint32_t i;
    f.path = path;
    f.file = fopen(path, "rb");
    if (!f.file || v1_seek(f.file, 0, SEEK_END)) die("can't open %s: %s", path, strerror(errno));
#ifdef _WIN32
    bytes = _ftelli64(f.file);
#else
    bytes = (int64_t)ftello(f.file);
#endif
    f.bytes = (uint64_t)bytes;
    v1_read(&f, 0, head, sizeof head);
    f.n_tensors = v1_u32(head + 16);
    f.json_bytes = v1_u32(head + 20);
    if (v1_u32(head + 8) != 1 || v1_u32(head + 12) != V1_HEADER) die("%s: version %u with a header of %u bytes, expected 1 with 32", path, (unsigned)v1_u32(head + 8), (unsigned)v1_u32(head + 12));
    if (f.json_bytes > f.bytes || f.n_tensors > f.bytes / V1_ENTRY) die("%s: truncated: %u tensors and %u bytes of JSON, the file has %llu", path, (unsigned)f.n_tensors, (unsigned)f.json_bytes, (unsigned long long)f.bytes);
    if (f.n_tensors > V1_MOST_TENSORS || f.json_bytes > V1_MOST_JSON)
        die("%s: %u tensors and %u bytes of JSON, at most %d and %d are taken", path, (unsigned)f.n_tensors, (unsigned)f.json_bytes, (int)V1_MOST_TENSORS, (int)V1_MOST_JSON);
    f.json = (char *)need((size_t)f.json_bytes + 1, 1);
    v1_read(&f, V1_HEADER, f.json, f.json_bytes);
    f.tensors = (v1_tensor *)need(f.n_tensors, sizeof *f.tensors);
    for (i = 0; i < f.n_tensors; i++) {
        v1_read(&f, V1_HEADER + (uint64_t)f.json_bytes + (uint64_t)i * V1_ENTRY, entry, sizeof entry);
        v1_take_entry(&f, &f.tensors[i], entry);
    }
    v1_check_places(&f);
    return f;
}

static void v1_close(v1_file *f)
{
    fclose(f->file);
    free(f->json);
    free(f->tensors);
}

static void info_v1(const char *path, int tensors)
{
    v1_file f = v1_open(path);
    amount a;
    uint32_t i;
    int d;
    printf("container   SMQv0001, %s, %u tensors\n", in_mib(&a, f.bytes), (unsigned)f.n_tensors);
    if (f.json_bytes) {
        printf("metadata    ");
        show_text(f.json, f.json_bytes, 4000);
        putchar('\n');
    }
    for (i = 0; i < f.n_tensors && tensors; i++) {
        const v1_tensor *t = &f.tensors[i];
        printf("%12llu %11llu  %-7s %s", (unsigned long long)t->data, (unsigned long long)v1_data_bytes(t, t->n), v1_type_name(t->type), t->name);
        for (d = 0; d < t->n_dims; d++) printf("%s%llu", d ? " x " : "  ", (unsigned long long)t->ne[d]);
        if (t->type != V1_F32) printf("  blocks of %u", (unsigned)t->block);
        putchar('\n');
    }
    v1_close(&f);
}

/* ---- conversion ---- */

/* Scales of the blocks that weights [at, at + n) lie in, and the weights' bytes. */
static void v1_piece(const v1_file *f, const v1_tensor *t, uint64_t at, uint64_t n, unsigned char *data, unsigned char *scales)
{
    uint64_t first = t->type == V1_F32 ? 0 : at / t->block;
    v1_read(f, t->data + v1_data_bytes(t, at), data, v1_data_bytes(t, n));
    if (t->type != V1_F32) v1_read(f, t->scales + first * 4, scales, ((at + n - 1) / t->block - first + 1) * 4);
}

static int v1_quant(const v1_tensor *t, const unsigned char *data, uint64_t i)
{
    int q = t->type == V1_Q8_0 ? data[i] : data[i / 2] >> (i & 1) * 4 & 15, half = t->type == V1_Q8_0 ? 128 : 8;
    return q < half ? q : q - 2 * half;
}

/* Whether GGUF's blocks of 32 with f16 scales say the same. */
static int v1_fits_blocks(const v1_file *f, const v1_tensor *t)
{
    unsigned char *scales;
    uint64_t i, n, at, n_scales;
    int fits = t->type != V1_F32 && t->ne[0] % 32 == 0 && t->block % 32 == 0;
    if (!fits) return 0;
    scales = (unsigned char *)need(V1_PIECE, 4);
    n_scales = (t->n + t->block - 1) / t->block;
    for (at = 0; at < n_scales && fits; at += n) {
        n = n_scales - at < V1_PIECE ? n_scales - at : V1_PIECE;
        v1_read(f, t->scales + at * 4, scales, n * 4);
        for (i = 0; i < n && fits; i++) {
            unsigned char half[2];
            float scale = v1_f32(scales + i * 4), back;
            fits = !smolq_pack(SMOLQ_TYPE_F16, &scale, NULL, half, 1, NULL) && !smolq_unpack(SMOLQ_TYPE_F16, half, &back, 1, NULL) && memcmp(&scale, &back, 4) == 0;
        }
    }
    free(scales);
    return fits;
}

/* Weights [at, at + n), n a multiple of 32, as blocks of GGUF; returns their bytes. */
static size_t v1_put_blocks(const v1_tensor *t, uint64_t at, uint64_t n, const unsigned char *data, const unsigned char *scales, unsigned char *out)
{
    unsigned char *p = out;
    uint64_t b;
    int i;
    for (b = 0; b < n; b += 32) {
        float scale = v1_f32(scales + ((at + b) / t->block - at / t->block) * 4);
        smolq_pack(SMOLQ_TYPE_F16, &scale, NULL, p, 1, NULL);
        p += 2;
        if (t->type == V1_Q8_0) {
            for (i = 0; i < 32; i++) *p++ = data[b + (uint64_t)i];
        } else {
            for (i = 0; i < 16; i++) *p++ = (unsigned char)((v1_quant(t, data, b + (uint64_t)i) + 8) | (v1_quant(t, data, b + 16 + (uint64_t)i) + 8) << 4);
        }
    }
    return (size_t)(p - out);
}

static size_t v1_put_floats(const v1_tensor *t, uint64_t at, uint64_t n, const unsigned char *data, const unsigned char *scales, unsigned char *out)
{
    uint64_t i;
    if (t->type == V1_F32) memcpy(out, data, (size_t)n * 4);
    else
        for (i = 0; i < n; i++) {
            float value = (float)v1_quant(t, data, i) * v1_f32(scales + ((at + i) / t->block - at / t->block) * 4);
            float_bytes(&value, 1, out + i * 4);
        }
    return (size_t)n * 4;
}

static void v1_put_data(const v1_file *f, const v1_tensor *t, int blocks)
{
    unsigned char *data = (unsigned char *)need(V1_PIECE, 4), *scales = (unsigned char *)need(V1_PIECE + 1, 4), *bytes = (unsigned char *)need(V1_PIECE, 4);
    uint64_t at, n;
    for (at = 0; at < t->n; at += n) {
        smolq_error err;
        size_t used;
        n = t->n - at < V1_PIECE ? t->n - at : V1_PIECE;
        v1_piece(f, t, at, n, data, scales);
        used = blocks ? v1_put_blocks(t, at, n, data, scales, bytes) : v1_put_floats(t, at, n, data, scales, bytes);
        check(smolq_gguf_write(out, bytes, used, &err), &err);
    }
    free(data);
    free(scales);
    free(bytes);
}

#ifdef SMQ_WITH_JANSSON
/* Text as text, whole numbers as i64, others as f64, true and false; what has parts itself stays JSON, as text; null says nothing. */
static void v1_put_json(const v1_file *f)
{
    json_error_t why;
    const char *key;
    json_t *value, *object = f->json_bytes ? json_loadb(f->json, f->json_bytes, JSON_REJECT_DUPLICATES, &why) : json_object();
    if (!object) die("%s: the metadata are no JSON: %s", f->path, why.text);
    if (!json_is_object(object)) die("%s: the metadata are JSON, but no object", f->path);
    if (json_object_size(object) > V1_MOST_KEYS) die("%s: %zu keys in the JSON, at most %d are taken", f->path, json_object_size(object), (int)V1_MOST_KEYS);
    json_object_foreach(object, key, value) {
        smolq_value v = { 0 };
        char *text = NULL;
        if (json_is_null(value) || is_split_key(key, NULL)) continue; /* a GGUF file with these would be a part */
        v.type = json_is_boolean(value) ? SMOLQ_GGUF_BOOL : json_is_integer(value) ? SMOLQ_GGUF_I64 : json_is_real(value) ? SMOLQ_GGUF_F64 : SMOLQ_GGUF_STRING;
        v.i = json_is_integer(value) ? (int64_t)json_integer_value(value) : json_is_true(value);
        v.f = json_is_real(value) ? json_real_value(value) : 0;
        if (v.type == SMOLQ_GGUF_STRING) {
            text = json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT);
            v.text = text ? text : json_string_value(value);
            v.bytes = text ? strlen(text) : json_string_length(value);
        }
        put_value(key, &v);
        free(text);
    }
    json_decref(object);
}
#else
static void v1_put_json(const v1_file *f) { die("%s is an SMQ file of version 1; to convert it this program must be compiled with jansson (Debian: libjansson-dev) and -DSMQ_WITH_JANSSON", f->path); }
#endif

static void unpack_v1(const char *in, const char *path)
{
    v1_file f = v1_open(in);
    int *blocks = (int *)need(f.n_tensors, sizeof *blocks), n_blocks = 0;
    uint32_t i;
    begin_output(path);
    v1_put_json(&f);
    for (i = 0; i < f.n_tensors; i++) {
        const v1_tensor *t = &f.tensors[i];
        smolq_tensor_info info;
        smolq_error err;
        memset(&info, 0, sizeof info);
        blocks[i] = v1_fits_blocks(&f, t);
        n_blocks += blocks[i];
        info.name = t->name;
        info.name_bytes = strlen(t->name);
        info.type = !blocks[i] ? SMOLQ_TYPE_F32 : t->type == V1_Q8_0 ? SMOLQ_TYPE_Q8_0 : SMOLQ_TYPE_Q4_0;
        info.n_dims = t->n_dims;
        memcpy(info.ne, t->ne, sizeof info.ne);
        check(smolq_gguf_add(out, &info, &err), &err);
    }
    for (i = 0; i < f.n_tensors; i++) v1_put_data(&f, &f.tensors[i], blocks[i]);
    end_output();
    printf("%s: %u tensors, %d of them in blocks\n", path, (unsigned)f.n_tensors, n_blocks);
    free(blocks);
    v1_close(&f);
}

#endif
