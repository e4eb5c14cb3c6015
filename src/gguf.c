/* ==== gguf.c: the file format =======================================================================================
 * A GGUF file is a header that describes and a body of tensors (specification: ggml docs/gguf.md).  All numbers are little-endian.
 *
 *     "GGUF" | version u32 | tensors u64 | pairs u64 | pair ... | tensor ... | padding | data of the tensors
 *
 *     string  length u64, bytes                             array   element type u32, count u64, elements
 *     pair    key string, type u32, value                   tensor  name string, n_dims u32, ne u64[n_dims], type u32, offset u64
 *
 * The file is hostile until checked, and all of it is checked while it opens: one cursor walks the header, and each of its steps asks for its bytes
 * before it looks at them.  What is kept is small: where in the header each pair and each tensor begins (8 and 24 bytes), and an
 * index by name.  Asking for one walks its record again, which can't fail any more.
 *
 * The header is read where it lies, in the mapping or the caller's memory.  Where there is only reading, the cursor loads the file's
 * beginning into a buffer that doubles when it needs more; offsets, not pointers, go into the tables, as the buffer moves.
 *
 * An SMQ file (smq.c) holds the same header, so it is walked in the same way.  Beside it stands where each pair ends, so that nobody needs to look at the strings of the
 * tokenizer, and where each tensor is. */
#pragma once
#include "quant.c"
#include "smq.c"

/*    NAME    name      bytes of one; 0: it says itself */
#define SMOLQ__GGUF_TYPES(X) \
    X(U8,     "u8",     1) \
    X(I8,     "i8",     1) \
    X(U16,    "u16",    2) \
    X(I16,    "i16",    2) \
    X(U32,    "u32",    4) \
    X(I32,    "i32",    4) \
    X(F32,    "f32",    4) \
    X(BOOL,   "bool",   1) \
    X(STRING, "string", 0) \
    X(ARRAY,  "array",  0) \
    X(U64,    "u64",    8) \
    X(I64,    "i64",    8) \
    X(F64,    "f64",    8)
typedef struct smolq__gguf_type { const char *name; uint32_t bytes; } smolq__gguf_type;
#define SMOLQ__ROW(NAME, name, bytes) { name, bytes },
static const smolq__gguf_type smolq__gguf_types[SMOLQ_GGUF_TYPE_COUNT] = { SMOLQ__GGUF_TYPES(SMOLQ__ROW) };
#undef SMOLQ__ROW

enum { SMOLQ__MAX_KEY = 65535, SMOLQ__MAX_NAME = 64, SMOLQ__MAX_ALIGNMENT = 1 << 20, SMOLQ__MAX_NESTING = 4, SMOLQ__FIRST_READ = 1 << 16 };
#define SMOLQ__LOAD_PIECE ((uint64_t)1 << 24) /* bytes between two calls of the progress hook */

/* One file of a GGUF; most have one. */
typedef struct smolq__part {
    smolq__file  file;
    smolq__smq  *smq;           /* NULL: the file is the GGUF */
    const uint8_t *bytes;       /* the GGUF from its beginning, at least its header */
    uint64_t     gguf_bytes;    /* its size */
    uint8_t     *header;        /* [header_loaded] a copy of that beginning, where it is in no memory */
    uint64_t     header_loaded;
    uint64_t    *pairs;         /* stb_ds [n_pairs + 1] where each key begins; the last: where the tensor records begin */
    smolq__index keys;
    uint64_t     header_bytes;  /* where the last tensor record ends */
    uint64_t     data_start;    /* the same, aligned: tensor offsets count from here */
    uint32_t     version, alignment;
} smolq__part;

typedef struct smolq__tensor_entry {
    uint64_t       record;      /* where in the header of its part it begins */
    uint64_t       at;          /* where in the file of its part its data begins */
    const uint8_t *loaded;      /* its data after smolq__gguf_load_tensors, else NULL */
    uint32_t       part;
} smolq__tensor_entry;

struct smolq_gguf {
    smolq__heap          heap;
    smolq__part        **parts;   /* stb_ds; the metadata is that of the first */
    smolq__tensor_entry *tensors; /* stb_ds, of all parts */
    smolq__index         names;
    smolq_gguf_facts     facts;
};

/* ---- the cursor ---- */

typedef struct smolq__cursor {
    const uint8_t *data;
    uint64_t       at;
    uint64_t       loaded, end;    /* data [loaded]; the file ends at end */
    smolq__part   *part;           /* to load more, or NULL */
    smolq__heap   *heap;
    const char    *what;           /* for messages: "key", "tensor" or "the header" */
    uint64_t       number, count;  /* of it */
    uint64_t       name_at, name_n;
    smolq_result   result;         /* of the step that failed */
    smolq_error   *err;
} smolq__cursor;

static smolq__cursor smolq__cursor_over(const uint8_t *data, uint64_t at, uint64_t end)
{
    smolq__cursor c;
    memset(&c, 0, sizeof c);
    c.data = data;
    c.at = at;
    c.loaded = c.end = end;
    return c;
}

/* Where the cursor is, in words: "key 3 of 24 'general.name'". */
typedef struct { char text[160]; } smolq__place;
static const char *smolq__where(const smolq__cursor *c, smolq__place *buf)
{
    smolq__quoted name;
    if (c->count == 0) snprintf(buf->text, sizeof buf->text, "%s", c->what ? c->what : "a value");
    else if (c->name_n == 0) snprintf(buf->text, sizeof buf->text, "%s %llu of %llu", c->what, (unsigned long long)c->number, (unsigned long long)c->count);
    else snprintf(buf->text, sizeof buf->text, "%s %llu of %llu '%s'", c->what, (unsigned long long)c->number, (unsigned long long)c->count,
                  smolq__quote(&name, c->data + c->name_at, (size_t)c->name_n));
    return buf->text;
}

/* Says why the cursor stops: "WHERE: why". */
static int smolq__stop(smolq__cursor *c, smolq_result code, const char *format, ...) SMOLQ__PRINTF(3, 4);
static int smolq__stop(smolq__cursor *c, smolq_result code, const char *format, ...)
{
    char why[200];
    smolq__place where;
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    c->result = smolq__fail(c->err, code, "%s: %s", smolq__where(c, &where), why);
    return 0;
}

static int smolq__stop_truncated(smolq__cursor *c, uint64_t at, uint64_t n)
{
    smolq__place where;
    c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "truncated: %s needs %llu bytes at offset %llu, the file has %llu", smolq__where(c, &where),
                            (unsigned long long)n, (unsigned long long)at, (unsigned long long)c->end);
    return 0;
}

/* Makes the first n bytes of the file present; n is within it. */
static int smolq__load_header(smolq__cursor *c, uint64_t n)
{
    smolq__part *part = c->part;
    uint64_t room = part->header_loaded ? part->header_loaded : SMOLQ__FIRST_READ / 2;
    uint8_t *bigger;
    do room = room > c->end / 2 ? c->end : room * 2;
    while (room < n);
    bigger = (uint8_t *)smolq__alloc(c->heap, room);
    if (!bigger) {
        c->result = smolq__fail_memory(c->heap, c->err, "the file's header");
        return 0;
    }
    if (part->header_loaded) memcpy(bigger, part->header, (size_t)part->header_loaded);
    c->result = smolq__file_read(&part->file, part->header_loaded, bigger + part->header_loaded, room - part->header_loaded, c->err);
    smolq__free(c->heap, c->result ? bigger : part->header);
    if (c->result) return 0;
    part->header = bigger;
    part->header_loaded = room;
    part->bytes = c->data = bigger;
    c->loaded = room;
    return 1;
}

/* The next n bytes; NULL where the file ends before. */
static const uint8_t *smolq__take(smolq__cursor *c, uint64_t n)
{
    const uint8_t *p;
    if (n > c->end - c->at) {
        smolq__stop_truncated(c, c->at, n);
        return NULL;
    }
    if (n > c->loaded - c->at && !smolq__load_header(c, c->at + n)) return NULL;
    p = c->data + (size_t)c->at;
    c->at += n;
    return p;
}

static int smolq__take_u32(smolq__cursor *c, uint32_t *value)
{
    const uint8_t *p = smolq__take(c, 4);
    if (p) *value = smolq_u32_at(p);
    return p != NULL;
}
static int smolq__take_u64(smolq__cursor *c, uint64_t *value)
{
    const uint8_t *p = smolq__take(c, 8);
    if (p) *value = smolq_u64_at(p);
    return p != NULL;
}
static int smolq__take_string(smolq__cursor *c, smolq__text *text)
{
    uint64_t n;
    if (!smolq__take_u64(c, &n)) return 0;
    text->p = (const char *)smolq__take(c, n);
    text->n = (size_t)n;
    return text->p != NULL;
}

/* A key or a tensor's name, which names the place from now on. */
static int smolq__take_name(smolq__cursor *c, uint64_t longest, smolq__text *name)
{
    uint64_t n;
    if (!smolq__take_u64(c, &n)) return 0;
    if (n == 0 || n > longest)
        return smolq__stop(c, SMOLQ_E_FORMAT, "its name has %llu bytes, expected 1 to %llu", (unsigned long long)n, (unsigned long long)longest);
    name->p = (const char *)smolq__take(c, n);
    name->n = (size_t)n;
    if (!name->p) return 0;
    c->name_at = c->at - n;
    c->name_n = n;
    if (memchr(name->p, 0, name->n)) return smolq__stop(c, SMOLQ_E_FORMAT, "its name has a NUL byte");
    return 1;
}

/* ---- values ---- */

static int smolq__take_value_type(smolq__cursor *c, const char *role, int32_t *type)
{
    uint32_t id;
    if (!smolq__take_u32(c, &id)) return 0;
    if (id >= SMOLQ_GGUF_TYPE_COUNT) return smolq__stop(c, SMOLQ_E_FORMAT, "unknown %s type %lu, expected 0 to 12", role, (unsigned long)id);
    *type = (int32_t)id;
    return 1;
}

static void smolq__value_clear(smolq_value *v, int32_t type)
{
    memset(v, 0, sizeof *v);
    v->type = type;
    v->element_type = -1;
}

/* A number from its bytes; the other forms of it are filled in too, as far as they hold it. */
static void smolq__scalar(smolq_value *v, const uint8_t *p)
{
    uint64_t bits;
    v->data = p;
    v->data_bytes = smolq__gguf_types[v->type].bytes;
    switch (v->type) {
    case SMOLQ_GGUF_U8: case SMOLQ_GGUF_BOOL: v->i = p[0]; break;
    case SMOLQ_GGUF_I8:  v->i = (int8_t)p[0]; break;
    case SMOLQ_GGUF_U16: v->i = smolq_u16_at(p); break;
    case SMOLQ_GGUF_I16: v->i = (int16_t)smolq_u16_at(p); break;
    case SMOLQ_GGUF_U32: v->i = (int64_t)smolq_u32_at(p); break;
    case SMOLQ_GGUF_I32: v->i = (int32_t)smolq_u32_at(p); break;
    case SMOLQ_GGUF_I64: v->i = (int64_t)smolq_u64_at(p); break;
    case SMOLQ_GGUF_F32: v->f = (double)smolq_f32_at(p); return;
    case SMOLQ_GGUF_F64:
        bits = smolq_u64_at(p);
        memcpy(&v->f, &bits, sizeof bits);
        return;
    default: /* U64 */
        v->u = smolq_u64_at(p);
        v->i = v->u > (uint64_t)INT64_MAX ? INT64_MAX : (int64_t)v->u;
        v->f = (double)v->u;
        return;
    }
    v->u = (uint64_t)v->i;
    v->f = (double)v->i;
}

static int smolq__take_scalar(smolq__cursor *c, smolq_value *v)
{
    if (v->type == SMOLQ_GGUF_STRING) {
        smolq__text text;
        if (!smolq__take_string(c, &text)) return 0;
        v->data = (const unsigned char *)text.p;
        v->text = text.p;
        v->bytes = text.n;
        v->data_bytes = text.n;
    } else {
        const uint8_t *p = smolq__take(c, smolq__gguf_types[v->type].bytes);
        if (!p) return 0;
        if (v->type == SMOLQ_GGUF_BOOL && p[0] > 1) return smolq__stop(c, SMOLQ_E_FORMAT, "a bool of %d, expected 0 or 1", p[0]);
        smolq__scalar(v, p);
    }
    return 1;
}

/* Element type and count of an array.  The elements come next; a count that the rest of the file can't hold is refused here. */
static int smolq__take_array_head(smolq__cursor *c, smolq_value *v)
{
    uint64_t least;
    if (!smolq__take_value_type(c, "array element", &v->element_type) || !smolq__take_u64(c, &v->n)) return 0;
    least = v->element_type == SMOLQ_GGUF_STRING ? 8 : v->element_type == SMOLQ_GGUF_ARRAY ? 12 : smolq__gguf_types[v->element_type].bytes;
    if (v->n > (c->end - c->at) / least)
        return smolq__stop(c, SMOLQ_E_FORMAT, "truncated or malformed: an array of %llu %s at offset %llu, the file has %llu bytes", (unsigned long long)v->n,
                           smolq__gguf_types[v->element_type].name, (unsigned long long)c->at, (unsigned long long)c->end);
    v->data = c->data + (size_t)c->at;
    return 1;
}

/* Walks over the elements of an array, arrays of arrays by a stack of what is left in each. */
static int smolq__take_elements(smolq__cursor *c, const smolq_value *array)
{
    struct { int32_t type; uint64_t left; } stack[SMOLQ__MAX_NESTING];
    int depth = 1;
    stack[0].type = array->element_type;
    stack[0].left = array->n;
    while (depth > 0) {
        int32_t type = stack[depth - 1].type;
        if (stack[depth - 1].left == 0) depth--;
        else if (type == SMOLQ_GGUF_STRING) {
            smolq__text text;
            stack[depth - 1].left--;
            if (!smolq__take_string(c, &text)) return 0;
        } else if (type == SMOLQ_GGUF_ARRAY) {
            smolq_value inner;
            stack[depth - 1].left--;
            if (depth == SMOLQ__MAX_NESTING) return smolq__stop(c, SMOLQ_E_FORMAT, "arrays nested deeper than %d", (int)SMOLQ__MAX_NESTING);
            if (!smolq__take_array_head(c, &inner)) return 0;
            stack[depth].type = inner.element_type;
            stack[depth].left = inner.n;
            depth++;
        } else { /* numbers: the head has made sure that count * size is in the file */
            uint64_t i, n = stack[--depth].left;
            const uint8_t *p = smolq__take(c, n * smolq__gguf_types[type].bytes);
            if (!p) return 0;
            for (i = 0; type == SMOLQ_GGUF_BOOL && i < n; i++)
                if (p[i] > 1)
                    return smolq__stop(c, SMOLQ_E_FORMAT, "element %llu of an array of bools is %d, expected 0 or 1", (unsigned long long)i, p[i]);
        }
    }
    return 1;
}

/* What a value is, for messages: "1000 (u32)". */
static const char *smolq__describe(smolq__place *buf, const smolq_value *v)
{
    smolq__quoted quoted;
    const char *type = smolq__gguf_types[v->type].name;
    if (v->type == SMOLQ_GGUF_STRING) snprintf(buf->text, sizeof buf->text, "the string '%s'", smolq__quote(&quoted, v->text, v->bytes));
    else if (v->type == SMOLQ_GGUF_ARRAY)
        snprintf(buf->text, sizeof buf->text, "an array of %llu %s", (unsigned long long)v->n, smolq__gguf_types[v->element_type].name);
    else if (v->type == SMOLQ_GGUF_F32 || v->type == SMOLQ_GGUF_F64) snprintf(buf->text, sizeof buf->text, "%g (%s)", v->f, type);
    else if (v->type == SMOLQ_GGUF_U64) snprintf(buf->text, sizeof buf->text, "%llu (%s)", (unsigned long long)v->u, type);
    else snprintf(buf->text, sizeof buf->text, "%lld (%s)", (long long)v->i, type);
    return buf->text;
}

/* ---- pairs ---- */

static uint64_t smolq__part_n_pairs(const smolq__part *part) { return (uint64_t)stbds_arrlenu(part->pairs) - 1; }

static smolq__text smolq__part_key(const void *table, uint32_t id)
{
    const smolq__part *part = (const smolq__part *)table;
    smolq__cursor c = smolq__cursor_over(part->bytes, part->pairs[id], part->header_bytes);
    smolq__text key;
    memset(&key, 0, sizeof key);
    smolq__take_string(&c, &key);
    return key;
}

/* Pair i, whose bytes were checked when the file opened.  Only the extent of an array need not be walked again: it ends where the next pair begins. */
static void smolq__part_pair(const smolq__part *part, uint64_t i, smolq_pair *pair)
{
    smolq__cursor c = smolq__cursor_over(part->bytes, part->pairs[i], part->pairs[i + 1]);
    smolq__text key;
    int32_t type = 0;
    memset(&key, 0, sizeof key);
    smolq__take_string(&c, &key);
    smolq__take_value_type(&c, "value", &type);
    pair->key = key.p;
    pair->key_bytes = key.n;
    smolq__value_clear(&pair->value, type);
    if (type == SMOLQ_GGUF_ARRAY) {
        smolq__take_array_head(&c, &pair->value);
        pair->value.data_bytes = c.end - c.at;
    } else {
        smolq__take_scalar(&c, &pair->value);
    }
}

static int smolq__part_find(const smolq__part *part, const char *key, smolq_value *value)
{
    uint32_t id = smolq__index_find(&part->keys, key, strlen(key));
    smolq_pair pair;
    if (id == SMOLQ__NONE) return 0;
    smolq__part_pair(part, id, &pair);
    *value = pair.value;
    return 1;
}

/* The typed getters return 1 and the value, 0 where there is no such key, -1 (SMOLQ_E_FORMAT in err) where its value is something else. */
static int smolq__part_int(const smolq__part *part, const char *key, int64_t lo, int64_t hi, int64_t *value, smolq_error *err)
{
    smolq_value v;
    smolq__place found;
    if (!smolq__part_find(part, key, &v)) return 0;
    if (v.type == SMOLQ_GGUF_STRING || v.type == SMOLQ_GGUF_ARRAY || v.type == SMOLQ_GGUF_F32 || v.type == SMOLQ_GGUF_F64 || v.i < lo || v.i > hi ||
        (v.type == SMOLQ_GGUF_U64 && v.u > (uint64_t)INT64_MAX)) {
        smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an integer in %lld..%lld, found %s", key, (long long)lo, (long long)hi,
                    smolq__describe(&found, &v));
        return -1;
    }
    *value = v.i;
    return 1;
}

static int smolq__get_int(const smolq_gguf *g, const char *key, int64_t lo, int64_t hi, int64_t *value, smolq_error *err)
{
    return smolq__part_int(g->parts[0], key, lo, hi, value, err);
}

static int smolq__get_float(const smolq_gguf *g, const char *key, double *value, smolq_error *err)
{
    smolq_value v;
    smolq__place found;
    if (!smolq__part_find(g->parts[0], key, &v)) return 0;
    if (v.type == SMOLQ_GGUF_STRING || v.type == SMOLQ_GGUF_ARRAY || v.type == SMOLQ_GGUF_BOOL || !(v.f - v.f == 0.0)) { /* not of infinity and NaN */
        smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected a finite number, found %s", key, smolq__describe(&found, &v));
        return -1;
    }
    *value = v.f;
    return 1;
}

static int smolq__get_bool(const smolq_gguf *g, const char *key, int *value, smolq_error *err)
{
    int64_t i = 0;
    int found = smolq__part_int(g->parts[0], key, 0, 1, &i, err); /* some writers store bools as integers */
    if (found > 0) *value = (int)i;
    return found;
}

static int smolq__get_text(const smolq_gguf *g, const char *key, smolq__text *value, smolq_error *err)
{
    smolq_value v;
    smolq__place found;
    if (!smolq__part_find(g->parts[0], key, &v)) return 0;
    if (v.type != SMOLQ_GGUF_STRING) {
        smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected a string, found %s", key, smolq__describe(&found, &v));
        return -1;
    }
    value->p = v.text;
    value->n = v.bytes;
    return 1;
}

static int smolq__get_array(const smolq_gguf *g, const char *key, smolq_value *value, smolq_error *err)
{
    smolq_value v;
    smolq__place found;
    if (!smolq__part_find(g->parts[0], key, &v)) return 0;
    if (v.type != SMOLQ_GGUF_ARRAY) {
        smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an array, found %s", key, smolq__describe(&found, &v));
        return -1;
    }
    *value = v;
    return 1;
}

/* ---- tensors ---- */

/* Reads a record; offset stays relative to the part's data. */
static int smolq__take_tensor(smolq__cursor *c, smolq_tensor_info *t)
{
    const smolq_type_facts *facts;
    uint64_t elements = 1;
    smolq__text name;
    uint32_t n_dims, type, i;
    memset(t, 0, sizeof *t);
    if (!smolq__take_name(c, SMOLQ__MAX_NAME, &name) || !smolq__take_u32(c, &n_dims)) return 0;
    if (n_dims > 4) return smolq__stop(c, SMOLQ_E_FORMAT, "%lu dimensions, expected at most 4", (unsigned long)n_dims);
    for (i = 0; i < 4; i++) t->ne[i] = 1;
    for (i = 0; i < n_dims; i++) {
        if (!smolq__take_u64(c, &t->ne[i])) return 0;
        if (t->ne[i] < 1 || t->ne[i] > (uint64_t)INT64_MAX)
            return smolq__stop(c, SMOLQ_E_FORMAT, "dimension %lu is %llu, expected 1 to 2^63-1", (unsigned long)i, (unsigned long long)t->ne[i]);
        if (!smolq__mul(elements, t->ne[i], &elements) || elements > (uint64_t)INT64_MAX)
            return smolq__stop(c, SMOLQ_E_FORMAT, "the product of its dimensions is beyond 2^63-1");
    }
    if (!smolq__take_u32(c, &type) || !smolq__take_u64(c, &t->offset)) return 0;
    facts = smolq_type_info(type <= INT32_MAX ? (int32_t)type : -1);
    if (!facts) return smolq__stop(c, SMOLQ_E_UNSUPPORTED, "unknown type %lu", (unsigned long)type);
    if (t->ne[0] % (uint64_t)facts->block_weights)
        return smolq__stop(c, SMOLQ_E_FORMAT, "rows of %llu are not a multiple of %s's block of %ld", (unsigned long long)t->ne[0], facts->name,
                           (long)facts->block_weights);
    if (!smolq__mul(elements / (uint64_t)facts->block_weights, (uint64_t)facts->block_bytes, &t->bytes))
        return smolq__stop(c, SMOLQ_E_FORMAT, "its size is beyond 2^64");
    t->name = (const char *)c->data + (size_t)c->name_at; /* the buffer may have moved since */
    t->name_bytes = name.n;
    t->type = (int32_t)type;
    t->n_dims = (int32_t)n_dims;
    return 1;
}

static smolq__text smolq__tensor_name(const void *table, uint32_t id)
{
    const smolq_gguf *g = (const smolq_gguf *)table;
    const smolq__part *part = g->parts[g->tensors[id].part];
    smolq__cursor c = smolq__cursor_over(part->bytes, g->tensors[id].record, part->header_bytes);
    smolq__text name;
    memset(&name, 0, sizeof name);
    smolq__take_string(&c, &name);
    return name;
}

/* Tensor i, whose record was checked when the file opened. */
static void smolq__tensor_at(const smolq_gguf *g, uint64_t i, smolq_tensor_info *t)
{
    const smolq__tensor_entry *entry = &g->tensors[i];
    const smolq__part *part = g->parts[entry->part];
    smolq__cursor c = smolq__cursor_over(part->bytes, entry->record, part->header_bytes);
    smolq__take_tensor(&c, t);
    t->part = entry->part;
    t->offset = entry->at;
    t->data = entry->loaded ? entry->loaded : part->file.data ? part->file.data + (size_t)t->offset : NULL;
}

/* Extents in the file, to find overlaps: sorted by where they begin (heap sort: in place, never quadratic). */
typedef struct smolq__extent { uint64_t at, end; uint64_t tensor; } smolq__extent;

static void smolq__sift(smolq__extent *e, uint64_t root, uint64_t n)
{
    smolq__extent moved = e[root];
    uint64_t child;
    for (; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && e[child + 1].at > e[child].at) child++;
        if (e[child].at <= moved.at) break;
        e[root] = e[child];
    }
    e[root] = moved;
}
static void smolq__sort_extents(smolq__extent *e, uint64_t n)
{
    uint64_t i;
    for (i = n / 2; i-- > 0;) smolq__sift(e, i, n);
    for (i = n; i-- > 1;) {
        smolq__extent last = e[i];
        e[i] = e[0];
        e[0] = last;
        smolq__sift(e, 0, i);
    }
}

/* ---- opening ---- */

typedef struct smolq__opening {
    smolq_gguf        *g;
    const char        *path;
    smolq_open_options options;
    smolq_error       *err;
} smolq__opening;

/* What a file that is no GGUF may be:  first bytes, how many, what to say */
#define SMOLQ__NOT_GGUF(X) \
    X("version https://git-lfs", 23, "a git-lfs pointer to the model, not the model; run: git lfs pull") \
    X("<",                        1, "an HTML page or XML; the download may have led to a web page") \
    X("PK\003\004",               4, "a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF") \
    X("\200\002",                 2, "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF") \
    X("\200\004",                 2, "a Python pickle, perhaps a PyTorch checkpoint; convert it to GGUF") \
    X("\211HDF",                  4, "an HDF5 file; convert it to GGUF") \
    X("\037\213",                 2, "gzip-compressed; unpack it first") \
    X("\050\265\057\375",         4, "zstd-compressed; unpack it first") \
    X("7z\274\257",               4, "a 7z archive; unpack it first") \
    X("lmgg",                     4, "a GGML file older than GGUF; convert it") \
    X("tjgg",                     4, "a GGJT file older than GGUF; convert it") \
    X("fmgg",                     4, "a GGMF file older than GGUF; convert it") \
    X("SMQv0001",                 8, "an SMQ file of version 1; convert it with build/smq unpack") \
    X("{",                        1, "JSON text")
typedef struct smolq__magic { const char *bytes; size_t n; const char *what; } smolq__magic;
#define SMOLQ__ROW(bytes, n, what) { bytes, n, what },
static const smolq__magic smolq__magics[] = { SMOLQ__NOT_GGUF(SMOLQ__ROW) };
#undef SMOLQ__ROW

static int smolq__stop_not_gguf(smolq__cursor *c, const uint8_t *p, size_t n)
{
    smolq__quoted quoted;
    size_t i, skip = 0;
    while (skip < n && (p[skip] == ' ' || p[skip] == '\n' || p[skip] == '\r' || p[skip] == '\t')) skip++;
    if (n > 8 && p[8] == '{' && smolq_u64_at(p) < c->end) {
        c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "not a GGUF file: it looks like safetensors; convert it to GGUF");
        return 0;
    }
    for (i = 0; i < sizeof smolq__magics / sizeof *smolq__magics; i++) {
        const smolq__magic *magic = &smolq__magics[i];
        if (n - skip >= magic->n && memcmp(p + skip, magic->bytes, magic->n) == 0) {
            c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "not a GGUF file: it looks like %s", magic->what);
            return 0;
        }
    }
    c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "not a GGUF file: it begins with '%s', expected 'GGUF'", smolq__quote(&quoted, p, n < 8 ? n : 8));
    return 0;
}

/* Magic, version and counts. */
static int smolq__take_preamble(smolq__cursor *c, const smolq_limits *limits, uint32_t *version, uint64_t *n_tensors, uint64_t *n_pairs)
{
    uint64_t most_tensors = limits->n_tensors ? limits->n_tensors : 1u << 20, most_pairs = limits->n_keys ? limits->n_keys : 1u << 20;
    uint64_t shown = c->end < 32 ? c->end : 32;
    const uint8_t *p;
    c->what = "the header";
    if (c->end == 0) {
        c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "the file is empty");
        return 0;
    }
    p = smolq__take(c, shown);
    if (!p) return 0;
    if (memcmp(p, "GGUF", shown < 4 ? (size_t)shown : 4)) return smolq__stop_not_gguf(c, p, (size_t)shown);
    if (c->end < 24) return smolq__stop_truncated(c, 0, 24);
    *version = smolq_u32_at(p + 4);
    *n_tensors = smolq_u64_at(p + 8);
    *n_pairs = smolq_u64_at(p + 16);
    c->at = 24;
    if (*version == 1)
        return smolq__stop(c, SMOLQ_E_UNSUPPORTED, "GGUF version 1, from before August 2023; convert the model anew (this build reads 2 and 3)");
    if (*version && (*version & 0xffff) == 0)
        return smolq__stop(c, SMOLQ_E_UNSUPPORTED, "a big-endian GGUF; this build reads little-endian ones");
    if (*version != 2 && *version != 3)
        return smolq__stop(c, SMOLQ_E_UNSUPPORTED, "unknown GGUF version %lu; this build reads 2 and 3", (unsigned long)*version);
    if (*n_pairs > (c->end - 24) / 13) /* no pair is shorter, no tensor record shorter than 24 */
        return smolq__stop(c, SMOLQ_E_FORMAT, "truncated or malformed: %llu keys, the file has %llu bytes", (unsigned long long)*n_pairs,
                           (unsigned long long)c->end);
    if (*n_tensors > (c->end - 24) / 24)
        return smolq__stop(c, SMOLQ_E_FORMAT, "truncated or malformed: %llu tensors, the file has %llu bytes", (unsigned long long)*n_tensors,
                           (unsigned long long)c->end);
    if (*n_pairs > most_pairs)
        return smolq__stop(c, SMOLQ_E_MEMORY, "%llu keys are more than limits.n_keys allows (%llu)", (unsigned long long)*n_pairs,
                           (unsigned long long)most_pairs);
    if (*n_tensors > most_tensors)
        return smolq__stop(c, SMOLQ_E_MEMORY, "%llu tensors are more than limits.n_tensors allows (%llu)", (unsigned long long)*n_tensors,
                           (unsigned long long)most_tensors);
    return 1;
}

/* The elements of a pair's array.  Where it is known where the pair ends, arrays of strings and of arrays are not walked: who asks for their elements looks where they are. */
static int smolq__take_array(smolq__cursor *c, const smolq_value *array, uint64_t known_end)
{
    uint64_t least = array->element_type == SMOLQ_GGUF_STRING ? 8 : 12;
    if (!known_end || smolq__gguf_types[array->element_type].bytes) return smolq__take_elements(c, array);
    if (known_end < c->at || known_end > c->end || array->n > (known_end - c->at) / least)
        return smolq__stop(c, SMOLQ_E_FORMAT, "the table of pairs says that it ends at %llu", (unsigned long long)known_end);
    c->at = known_end;
    return 1;
}

/* The table of an SMQ file that says where each pair ends; NULL for a GGUF file. */
static int smolq__pair_ends(smolq__cursor *c, const smolq__part *part, uint64_t n, const uint8_t **ends)
{
    const smolq__section *section = part->smq ? &part->smq->section[SMOLQ__SECTION_PAIRS] : NULL;
    *ends = section ? section->p : NULL;
    return !section || section->n == n * 8 || smolq__stop(c, SMOLQ_E_FORMAT, "a table of %llu bytes for %llu pairs", (unsigned long long)section->n, (unsigned long long)n);
}

/* Pair i of the part, from its key to the end of its value; known_end is where that must be, if it is known: 0 if not. */
static int smolq__take_pair(smolq__cursor *c, uint64_t i, uint64_t known_end)
{
    smolq_value value;
    smolq__text key;
    int32_t type = 0;
    c->number = i + 1;
    c->name_n = 0;
    if (!smolq__take_name(c, SMOLQ__MAX_KEY, &key) || !smolq__take_value_type(c, "value", &type)) return 0;
    smolq__value_clear(&value, type);
    if (type == SMOLQ_GGUF_ARRAY) return smolq__take_array_head(c, &value) && smolq__take_array(c, &value, known_end);
    return smolq__take_scalar(c, &value);
}

static int smolq__stop_elsewhere(smolq__cursor *c, uint64_t known_end)
{
    return smolq__stop(c, SMOLQ_E_FORMAT, "it ends at %llu, the table of pairs says %llu", (unsigned long long)c->at, (unsigned long long)known_end);
}

static int smolq__take_pairs(smolq__cursor *c, smolq__part *part, uint64_t n)
{
    const uint8_t *ends;
    uint64_t i;
    if (!smolq__pair_ends(c, part, n, &ends)) return 0;
    c->what = "key";
    c->count = n;
    for (i = 0; i < n; i++) {
        uint64_t known_end = ends ? smolq_u64_at(ends + 8 * i) : 0;
        stbds_arrput(part->pairs, c->at);
        if (!smolq__take_pair(c, i, known_end)) return 0;
        if (ends && known_end != c->at) return smolq__stop_elsewhere(c, known_end);
    }
    stbds_arrput(part->pairs, c->at);
    part->header_bytes = c->at; /* so far: the index looks at the keys below */
    if (!smolq__index_open(&part->keys, c->heap, (uint32_t)n, smolq__part_key, part)) {
        c->result = smolq__fail_memory(c->heap, c->err, "the index of keys");
        return 0;
    }
    for (i = 0; i < n; i++) {
        smolq__text key = smolq__part_key(part, (uint32_t)i);
        c->number = i + 1;
        c->name_at = part->pairs[i] + 8;
        c->name_n = key.n;
        if (smolq__index_add(&part->keys, (uint32_t)i) != SMOLQ__NONE) return smolq__stop(c, SMOLQ_E_FORMAT, "this name is there twice");
    }
    return 1;
}

static int smolq__take_alignment(smolq__cursor *c, smolq__part *part)
{
    int64_t alignment = 32;
    if (smolq__part_int(part, "general.alignment", 1, SMOLQ__MAX_ALIGNMENT, &alignment, c->err) < 0) {
        c->result = SMOLQ_E_FORMAT;
        return 0;
    }
    if (alignment & (alignment - 1)) {
        c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "key 'general.alignment': expected a power of two, found %lld", (long long)alignment);
        return 0;
    }
    part->alignment = (uint32_t)alignment;
    return 1;
}

/* Where the data of tensor i of the part is: in a GGUF file at its offset, which at is; in an SMQ file where its table says. */
static int smolq__place_tensor(smolq__cursor *c, const smolq__part *part, uint64_t i, uint64_t bytes, uint64_t *at)
{
    const uint8_t *record;
    if (!part->smq) return 1;
    record = part->smq->section[SMOLQ__SECTION_TENSORS].p + i * SMOLQ__SMQ_RECORD;
    *at = smolq_u64_at(record);
    if (smolq_u64_at(record + 8) == bytes && *at % SMOLQ__SMQ_ALIGNMENT == 0 && smolq__in_file(&part->file, *at, bytes)) return 1;
    return smolq__stop(c, SMOLQ_E_FORMAT, "%llu bytes at offset %llu are not its %llu, not aligned or not in the file of %llu", (unsigned long long)smolq_u64_at(record + 8),
                       (unsigned long long)*at, (unsigned long long)bytes, (unsigned long long)part->file.size);
}

/* The tensor records of a part, then where their bytes lie: aligned, inside the file, no two over one another. */
static int smolq__take_tensors(smolq__cursor *c, smolq_gguf *g, uint32_t part_id, uint64_t n)
{
    smolq__part *part = g->parts[part_id];
    uint64_t i, before = stbds_arrlenu(g->tensors);
    smolq__extent *extents;
    smolq_tensor_info t, other;
    c->what = "tensor";
    c->count = n;
    for (i = 0; i < n; i++) {
        smolq__tensor_entry entry;
        memset(&entry, 0, sizeof entry);
        entry.record = c->at;
        entry.part = part_id;
        c->number = i + 1;
        c->name_n = 0;
        if (!smolq__take_tensor(c, &t)) return 0;
        stbds_arrput(g->tensors, entry);
    }
    part->header_bytes = c->at;
    if (part->smq && (part->smq->section[SMOLQ__SECTION_TENSORS].n != n * SMOLQ__SMQ_RECORD || c->at != c->end))
        return smolq__stop(c, SMOLQ_E_FORMAT, "a table of %llu bytes for %llu tensors, and metadata of %llu bytes in %llu", (unsigned long long)part->smq->section[SMOLQ__SECTION_TENSORS].n,
                           (unsigned long long)n, (unsigned long long)c->at, (unsigned long long)c->end);
    if (!smolq__align_up(c->at, part->alignment, &part->data_start)) return smolq__stop(c, SMOLQ_E_FORMAT, "the header ends beyond 2^64");
    if (n == 0) return 1;

    extents = (smolq__extent *)smolq__alloc(c->heap, n * sizeof *extents);
    if (!extents) {
        c->result = smolq__fail_memory(c->heap, c->err, "the extents of tensors");
        return 0;
    }
    for (i = 0; i < n; i++) {
        uint64_t at;
        smolq__cursor record = smolq__cursor_over(part->bytes, g->tensors[before + i].record, part->header_bytes);
        smolq__take_tensor(&record, &t);
        c->number = i + 1;
        c->name_at = record.name_at;
        c->name_n = record.name_n;
        if (t.offset & (part->alignment - 1))
            return smolq__stop(c, SMOLQ_E_FORMAT, "offset %llu is not a multiple of the alignment %lu", (unsigned long long)t.offset,
                               (unsigned long)part->alignment);
        if (!smolq__add(part->data_start, t.offset, &at))
            return smolq__stop(c, SMOLQ_E_FORMAT, "offset %llu is beyond 2^64", (unsigned long long)t.offset);
        if (at > part->gguf_bytes || t.bytes > part->gguf_bytes - at) {
            c->end = part->gguf_bytes;
            return smolq__stop_truncated(c, at, t.bytes);
        }
        extents[i].at = g->tensors[before + i].at = at;
        if (!smolq__place_tensor(c, part, i, t.bytes, &g->tensors[before + i].at)) return 0;
        extents[i].end = at + t.bytes;
        extents[i].tensor = before + i;
        g->facts.tensor_bytes += t.bytes;
    }
    smolq__sort_extents(extents, n);
    for (i = 1; i < n; i++) {
        smolq__quoted a, b;
        if (extents[i].at >= extents[i - 1].end) continue;
        smolq__tensor_at(g, extents[i - 1].tensor, &t);
        smolq__tensor_at(g, extents[i].tensor, &other);
        c->result = smolq__fail(c->err, SMOLQ_E_FORMAT, "tensors '%s' and '%s' overlap at offset %llu", smolq__quote(&a, t.name, t.name_bytes),
                                smolq__quote(&b, other.name, other.name_bytes), (unsigned long long)extents[i].at);
        return 0;
    }
    smolq__free(c->heap, extents);
    return 1;
}

/* Finds the GGUF in the file: it is the file, or an SMQ file holds it. */
static smolq_result smolq__part_container(smolq__part *part, smolq__heap *heap, smolq_error *err)
{
    uint8_t magic[SMOLQ__SMQ_MAGIC_BYTES];
    smolq_result result;
    part->bytes = part->file.data;
    part->gguf_bytes = part->file.size;
    if (part->file.size < sizeof magic) return SMOLQ_OK;
    result = smolq__file_read(&part->file, 0, magic, sizeof magic, err);
    if (result || memcmp(magic, SMOLQ__SMQ_MAGIC, sizeof magic)) return result;
    part->smq = (smolq__smq *)smolq__alloc(heap, sizeof *part->smq);
    if (!part->smq) return smolq__fail_memory(heap, err, "a file");
    result = smolq__smq_open(part->smq, heap, &part->file, err);
    part->bytes = part->smq->section[SMOLQ__SECTION_METADATA].p;
    part->gguf_bytes = part->smq->gguf_bytes;
    return result;
}

/* Everything that has a place in an SMQ file, sections of other builds too, in the order of the places. */
static smolq_result smolq__smq_extents(const smolq_gguf *g, smolq__heap *heap, smolq__extent **extents, uint64_t *n, smolq_error *err)
{
    const smolq__smq *smq = g->parts[0]->smq;
    uint64_t i, n_tensors = stbds_arrlenu(g->tensors);
    smolq__extent *e = (smolq__extent *)smolq__alloc(heap, (2 + smq->n_sections + n_tensors) * sizeof *e);
    *extents = e;
    *n = 2 + smq->n_sections + n_tensors;
    if (!e) return smolq__fail_memory(heap, err, "the places in the file");
    e->end = SMOLQ__SMQ_HEADER;
    e++;
    e->at = smq->table;
    e->end = smq->table + smq->n_sections * SMOLQ__SMQ_ENTRY;
    for (i = 0; i < smq->n_sections; i++) {
        e++;
        e->at = smq->all[i].at;
        e->end = smq->all[i].at + smq->all[i].n;
    }
    for (i = 0; i < n_tensors; i++) {
        smolq_tensor_info t;
        smolq__tensor_at(g, i, &t);
        e++;
        e->at = t.offset;
        e->end = t.offset + t.bytes;
    }
    smolq__sort_extents(*extents, *n);
    return SMOLQ_OK;
}

/* Nothing in an SMQ file lies over anything: what is read of it is no more than the file. */
static smolq_result smolq__smq_places(const smolq_gguf *g, smolq__heap *heap, smolq_error *err)
{
    smolq__extent *extents;
    uint64_t i, n;
    smolq_result result = smolq__smq_extents(g, heap, &extents, &n, err);
    for (i = 1; i < n && !result; i++)
        if (extents[i].at < extents[i - 1].end) result = smolq__fail(err, SMOLQ_E_FORMAT, "the SMQ file has two things at offset %llu", (unsigned long long)extents[i].at);
    smolq__free(heap, extents);
    return result;
}

/* Opens part number `id` and walks its header. */
static smolq_result smolq__part_open(smolq__opening *o, uint32_t id, const char *path, const smolq_source *source)
{
    smolq_gguf *g = o->g;
    uint64_t n_tensors = 0, n_pairs = 0;
    smolq__cursor c;
    smolq_result result;
    smolq__part *part = (smolq__part *)smolq__alloc(&g->heap, sizeof *part);
    if (!part) return smolq__fail_memory(&g->heap, o->err, "a file");
    stbds_arrput(g->parts, part);
    result = smolq__file_open(&part->file, &g->heap, path, source, o->options.no_map != 0, o->err);
    if (!result) result = smolq__part_container(part, &g->heap, o->err);
    if (result) return result;

    c = smolq__cursor_over(part->bytes, 0, part->smq ? part->smq->section[SMOLQ__SECTION_METADATA].n : part->file.size);
    c.part = part;
    c.heap = &g->heap;
    c.err = o->err;
    if (!part->bytes) c.loaded = 0;
    if (!smolq__take_preamble(&c, &o->options.limits, &part->version, &n_tensors, &n_pairs) || !smolq__take_pairs(&c, part, n_pairs) ||
        !smolq__take_alignment(&c, part) || !smolq__take_tensors(&c, g, id, n_tensors))
        return c.result;
    if (part->smq && id == 0) result = smolq__smq_places(g, &g->heap, o->err);
    if (result) return result;
    g->facts.file_bytes += part->file.size;
    g->facts.header_bytes += part->header_bytes;
    g->facts.mapped_bytes += part->file.mapped ? part->file.size : 0;
    return SMOLQ_OK;
}

/* ---- split files: NAME-00001-of-00003.gguf ---- */

/* Where the number of a part stands in such a name, or NULL. */
static const char *smolq__split_digits(const char *path, int64_t *number, int64_t *count)
{
    static const char form[] = "-ddddd-of-ddddd.gguf";
    size_t n = strlen(path), i;
    const char *p;
    if (n < sizeof form - 1) return NULL;
    p = path + n - (sizeof form - 1);
    *number = *count = 0;
    for (i = 0; i < sizeof form - 1; i++) {
        int64_t *value = i < 6 ? number : count;
        if (form[i] != 'd' ? p[i] != form[i] : p[i] < '0' || p[i] > '9') return NULL;
        if (form[i] == 'd') *value = *value * 10 + (p[i] - '0');
    }
    return p + 1;
}

/* The path of part `number` (from 1), allocated; digits point into path. */
static char *smolq__split_path(smolq__heap *heap, const char *path, const char *digits, unsigned number)
{
    char text[8];
    char *other = (char *)smolq__alloc(heap, strlen(path) + 1);
    if (!other) return NULL;
    strcpy(other, path);
    snprintf(text, sizeof text, "%05u", number % 100000);
    memcpy(other + (digits - path), text, 5);
    return other;
}

/* Which of how many the part says it is; 0 of 1 where it says nothing. */
static smolq_result smolq__split_keys(const smolq__part *part, int64_t *no, int64_t *count, smolq_error *err)
{
    int has_no, has_count;
    *no = 0;
    *count = 1;
    has_count = smolq__part_int(part, "split.count", 0, 65535, count, err);
    if (has_count < 0) return SMOLQ_E_FORMAT;
    has_no = smolq__part_int(part, "split.no", 0, 65535, no, err);
    if (has_no < 0) return SMOLQ_E_FORMAT;
    if (*count == 0) *count = 1;
    if (*count > 1 && !has_no) return smolq__fail(err, SMOLQ_E_MISSING, "missing key 'split.no' (split.count is %lld)", (long long)*count);
    return SMOLQ_OK;
}

/* How many parts the first one asks for, and whether they can be had. */
static smolq_result smolq__split_plan(smolq__opening *o, const char **digits, uint32_t *n_parts)
{
    int64_t no, count, name_number = 1, name_count = 1, most = o->options.limits.n_parts ? o->options.limits.n_parts : 1000;
    smolq__quoted quoted;
    smolq_result result = smolq__split_keys(o->g->parts[0], &no, &count, o->err);
    if (result) return result;
    if (o->g->parts[0]->smq && count > 1) return smolq__fail(o->err, SMOLQ_E_UNSUPPORTED, "an SMQ file holds a whole GGUF file, this one is the first of %lld parts", (long long)count);
    *digits = o->path ? smolq__split_digits(o->path, &name_number, &name_count) : NULL;
    if (no != 0 && *digits) {
        const char *first = smolq__split_path(&o->g->heap, o->path, *digits, 1);
        if (!first) return smolq__fail_memory(&o->g->heap, o->err, "a path");
        return smolq__fail(o->err, SMOLQ_E_ARGUMENT, "this is part %lld of %lld; open the first, '%s'", (long long)no + 1, (long long)count,
                           smolq__quote_path(&quoted, first));
    }
    if (no != 0)
        return smolq__fail(o->err, SMOLQ_E_ARGUMENT, "this is part %lld of %lld; the first must come first", (long long)no + 1, (long long)count);
    if (!o->path && count != (int64_t)o->options.n_sources)
        return smolq__fail(o->err, SMOLQ_E_ARGUMENT, "%lu sources given, the file has %lld parts", (unsigned long)o->options.n_sources, (long long)count);
    if (count > most)
        return smolq__fail(o->err, SMOLQ_E_MEMORY, "%lld parts are more than limits.n_parts allows (%lld)", (long long)count, (long long)most);
    if (o->path && count > 1 && (!*digits || name_number != 1 || name_count != count))
        return smolq__fail(o->err, SMOLQ_E_ARGUMENT, "'%s' is the first of %lld parts, its name must end with -00001-of-%05lld.gguf; rename the parts "
                           "or give them as sources", smolq__quote_path(&quoted, o->path), (long long)count, (long long)count);
    *n_parts = (uint32_t)count;
    return SMOLQ_OK;
}

static smolq_result smolq__split_part(smolq__opening *o, uint32_t id, const char *digits, uint32_t n_parts)
{
    const char *path = NULL;
    int64_t no, count;
    smolq_error inner;
    smolq_result result;
    if (o->path) {
        path = smolq__split_path(&o->g->heap, o->path, digits, id + 1);
        if (!path) return smolq__fail_memory(&o->g->heap, o->err, "a path");
    }
    result = smolq__part_open(o, id, path, o->path ? NULL : &o->options.sources[id]);
    if (!result && o->g->parts[id]->smq) result = smolq__fail(o->err, SMOLQ_E_UNSUPPORTED, "it is an SMQ file, which holds a whole GGUF file and no part");
    if (!result) result = smolq__split_keys(o->g->parts[id], &no, &count, o->err);
    if (!result && (no != (int64_t)id || count != (int64_t)n_parts))
        result = smolq__fail(o->err, SMOLQ_E_FORMAT, "expected part %lu of %lu, found part %lld of %lld", (unsigned long)id + 1, (unsigned long)n_parts,
                             (long long)no + 1, (long long)count);
    if (result && o->err) {
        inner = *o->err;
        smolq__fail(o->err, result, "part %lu: %.230s", (unsigned long)id + 1, inner.text);
    }
    return result;
}

static smolq_result smolq__index_tensors(smolq__opening *o)
{
    smolq_gguf *g = o->g;
    uint64_t i, n = stbds_arrlenu(g->tensors), most = o->options.limits.n_tensors ? o->options.limits.n_tensors : 1u << 20;
    if (n > most)
        return smolq__fail(o->err, SMOLQ_E_MEMORY, "%llu tensors are more than limits.n_tensors allows (%llu)", (unsigned long long)n, (unsigned long long)most);
    if (!smolq__index_open(&g->names, &g->heap, (uint32_t)n, smolq__tensor_name, g))
        return smolq__fail_memory(&g->heap, o->err, "the index of tensors");
    for (i = 0; i < n; i++) {
        if (smolq__index_add(&g->names, (uint32_t)i) != SMOLQ__NONE) {
            smolq__quoted quoted;
            smolq__text name = smolq__tensor_name(g, (uint32_t)i);
            return smolq__fail(o->err, SMOLQ_E_FORMAT, "tensor '%s' is there twice", smolq__quote(&quoted, name.p, name.n));
        }
    }
    return SMOLQ_OK;
}

/* The story: the first part, as many more as it asks for, the index over all. */
static smolq_result smolq__gguf_load(void *arg)
{
    smolq__opening *o = (smolq__opening *)arg;
    smolq_gguf *g = o->g;
    const char *digits = NULL;
    uint32_t id, n_parts = 1;
    int64_t n_tensors = 0;
    int has_total;
    smolq_result result = smolq__part_open(o, 0, o->path, o->path ? NULL : &o->options.sources[0]);
    if (!result) result = smolq__split_plan(o, &digits, &n_parts);
    for (id = 1; !result && id < n_parts; id++) result = smolq__split_part(o, id, digits, n_parts);
    if (!result) result = smolq__index_tensors(o);
    if (result) return result;

    g->facts.version = g->parts[0]->version;
    g->facts.alignment = g->parts[0]->alignment;
    g->facts.n_parts = n_parts;
    g->facts.n_pairs = smolq__part_n_pairs(g->parts[0]);
    g->facts.n_tensors = stbds_arrlenu(g->tensors);
    has_total = smolq__get_int(g, "split.tensors.count", 0, INT32_MAX, &n_tensors, o->err);
    if (has_total < 0) return SMOLQ_E_FORMAT;
    if (has_total && n_parts > 1 && (uint64_t)n_tensors != g->facts.n_tensors)
        return smolq__fail(o->err, SMOLQ_E_FORMAT, "split.tensors.count is %lld, the %lu parts have %llu tensors", (long long)n_tensors,
                           (unsigned long)n_parts, (unsigned long long)g->facts.n_tensors);
    return SMOLQ_OK;
}

SMOLQ_API void smolq_gguf_close(smolq_gguf *gguf)
{
    size_t i;
    if (!gguf) return;
    for (i = 0; i < stbds_arrlenu(gguf->parts); i++) smolq__file_close(&gguf->parts[i]->file);
    smolq__heap_close(&gguf->heap);
}

SMOLQ_API smolq_result smolq_gguf_open(const char *path, const smolq_open_options *options, smolq_gguf **gguf, smolq_error *err)
{
    smolq__opening o;
    smolq__heap heap;
    smolq_result result;
    smolq__options(&o.options, sizeof o.options, options, (uint32_t)sizeof o.options);
    if (!gguf) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_gguf_open: gguf is NULL");
    if (!path == !o.options.n_sources || (o.options.n_sources && !o.options.sources))
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "expected either a path or options->sources with n_sources of them");
    smolq__heap_init(&heap, &o.options.allocator, o.options.limits.memory);
    o.g = (smolq_gguf *)smolq__alloc(&heap, sizeof *o.g);
    if (!o.g) return smolq__fail_memory(&heap, err, "a GGUF");
    o.g->heap = heap;
    o.path = path;
    o.err = err;
    result = smolq__guarded(&o.g->heap, smolq__gguf_load, &o, err);
    if (result) {
        smolq_gguf_close(o.g);
        return result;
    }
    if (o.options.log) {
        char text[160];
        const smolq_gguf_facts *f = &o.g->facts;
        snprintf(text, sizeof text, "GGUF version %lu: %llu keys, %llu tensors, %llu bytes in %lu file%s", (unsigned long)f->version,
                 (unsigned long long)f->n_pairs, (unsigned long long)f->n_tensors, (unsigned long long)f->file_bytes, (unsigned long)f->n_parts,
                 f->n_parts == 1 ? "" : "s");
        (o.options.log)(o.options.user, SMOLQ_LOG_INFO, text);
    }
    *gguf = o.g;
    return SMOLQ_OK;
}

/* ---- what only an SMQ file has ---- */

static const smolq__smq *smolq__gguf_smq(const smolq_gguf *gguf) { return gguf->parts[0]->smq; }

/* A section, or NULL. */
static const smolq__section *smolq__gguf_section(const smolq_gguf *gguf, int32_t kind)
{
    const smolq__smq *smq = smolq__gguf_smq(gguf);
    return smq && smq->section[kind].n ? &smq->section[kind] : NULL;
}

/* What the data of a tensor should have. */
static uint64_t smolq__tensor_checksum(const smolq_gguf *gguf, uint64_t tensor)
{
    return smolq_u64_at(gguf->parts[0]->smq->section[SMOLQ__SECTION_TENSORS].p + tensor * SMOLQ__SMQ_RECORD + 16);
}

static smolq_result smolq__check_data(const smolq_gguf *gguf, uint64_t i, uint64_t sum, smolq_error *err)
{
    uint64_t expected = smolq__tensor_checksum(gguf, i);
    char what[120];
    smolq__quoted quoted;
    smolq__text name;
    if (sum == expected) return SMOLQ_OK;
    name = smolq__tensor_name(gguf, (uint32_t)i);
    snprintf(what, sizeof what, "tensor '%s'", smolq__quote(&quoted, name.p, name.n));
    return smolq__smq_damaged(err, what, sum, expected);
}

/* ---- reading tensors ---- */

/* Reads the tensors of all parts that are not in memory already into one allocation, each at a multiple of 64 bytes. */
static smolq_result smolq__gguf_load_tensors(smolq_gguf *gguf, const smolq_open_options *options, smolq_error *err)
{
    uint64_t i, n = gguf->facts.n_tensors, total = 0, done = 0;
    smolq_open_options o;
    smolq_tensor_info t;
    uint8_t *memory, *at;
    smolq_result result = SMOLQ_OK;
    smolq__options(&o, sizeof o, options, (uint32_t)sizeof o);
    for (i = 0; i < n; i++) {
        uint64_t padded;
        smolq__tensor_at(gguf, i, &t);
        if (t.data) continue;
        if (!smolq__align_up(t.bytes, 64, &padded) || !smolq__add(total, padded, &total))
            return smolq__fail(err, SMOLQ_E_MEMORY, "the tensors are more than 2^64 bytes");
    }
    if (total == 0) return SMOLQ_OK;
    memory = (uint8_t *)smolq__alloc(&gguf->heap, total > UINT64_MAX - 64 ? UINT64_MAX : total + 64);
    if (!memory) return smolq__fail_memory(&gguf->heap, err, "the tensors");
    at = memory + (64 - ((uintptr_t)memory & 63));
    for (i = 0; i < n && !result; i++) {
        uint64_t from = 0;
        smolq__tensor_at(gguf, i, &t);
        if (t.data) continue;
        while (from < t.bytes && !result) {
            uint64_t piece = t.bytes - from < SMOLQ__LOAD_PIECE ? t.bytes - from : SMOLQ__LOAD_PIECE;
            result = smolq__file_read(&gguf->parts[t.part]->file, t.offset + from, at + from, piece, err);
            from += piece;
            done += piece;
            if (!result && o.progress && o.progress(o.user, (float)((double)done / (double)total)))
                result = smolq__fail(err, SMOLQ_E_CANCELLED, "the progress hook stopped the loading of tensors at %llu of %llu bytes",
                                     (unsigned long long)done, (unsigned long long)total);
        }
        if (!result && o.verify != SMOLQ_VERIFY_ASKED && smolq__gguf_smq(gguf)) result = smolq__check_data(gguf, i, smolq__checksum_of(at, t.bytes), err);
        gguf->tensors[i].loaded = at;
        at += (size_t)((t.bytes + 63) & ~(uint64_t)63);
    }
    if (result) {
        for (i = 0; i < n; i++) gguf->tensors[i].loaded = NULL;
        smolq__free(&gguf->heap, memory);
    }
    return result;
}

/* ---- asking ---- */

SMOLQ_API const smolq_gguf_facts *smolq_gguf_info(const smolq_gguf *gguf) { return &gguf->facts; }

SMOLQ_API smolq_result smolq_gguf_pair(const smolq_gguf *gguf, uint64_t index, smolq_pair *pair, smolq_error *err)
{
    if (index >= gguf->facts.n_pairs)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "pair %llu of %llu", (unsigned long long)index, (unsigned long long)gguf->facts.n_pairs);
    smolq__part_pair(gguf->parts[0], index, pair);
    return SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_gguf_find(const smolq_gguf *gguf, const char *key, smolq_value *value, smolq_error *err)
{
    smolq__quoted quoted;
    if (smolq__part_find(gguf->parts[0], key, value)) return SMOLQ_OK;
    return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s'", smolq__quote(&quoted, key, strlen(key)));
}

SMOLQ_API smolq_result smolq_gguf_element(const smolq_value *array, uint64_t i, uint64_t *cursor, smolq_value *element, smolq_error *err)
{
    smolq__cursor c;
    smolq_value found;
    if (array->type != SMOLQ_GGUF_ARRAY || array->element_type < 0 || array->element_type >= SMOLQ_GGUF_TYPE_COUNT)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_gguf_element: not an array");
    if (i >= array->n) return smolq__fail(err, SMOLQ_E_ARGUMENT, "element %llu of %llu", (unsigned long long)i, (unsigned long long)array->n);
    smolq__value_clear(&found, array->element_type);
    if (smolq__gguf_types[found.type].bytes) {
        smolq__scalar(&found, array->data + (size_t)i * smolq__gguf_types[found.type].bytes);
        *element = found;
        return SMOLQ_OK;
    }
    if (!cursor || *cursor > array->data_bytes) return smolq__fail(err, SMOLQ_E_ARGUMENT, "elements of varying size need a cursor that began at 0");
    c = smolq__cursor_over(array->data, *cursor, array->data_bytes);
    c.err = err;
    if (found.type == SMOLQ_GGUF_STRING) {
        if (!smolq__take_scalar(&c, &found)) return c.result;
    } else {
        uint64_t begin;
        if (!smolq__take_array_head(&c, &found)) return c.result;
        begin = c.at;
        if (!smolq__take_elements(&c, &found)) return c.result;
        found.data_bytes = c.at - begin;
    }
    *cursor = c.at;
    *element = found;
    return SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_gguf_tensor(const smolq_gguf *gguf, uint64_t index, smolq_tensor_info *tensor, smolq_error *err)
{
    if (index >= gguf->facts.n_tensors)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor %llu of %llu", (unsigned long long)index, (unsigned long long)gguf->facts.n_tensors);
    smolq__tensor_at(gguf, index, tensor);
    return SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_gguf_find_tensor(const smolq_gguf *gguf, const char *name, smolq_tensor_info *tensor, smolq_error *err)
{
    uint32_t id = smolq__index_find(&gguf->names, name, strlen(name));
    smolq__quoted quoted;
    if (id == SMOLQ__NONE) return smolq__fail(err, SMOLQ_E_MISSING, "missing tensor '%s'", smolq__quote(&quoted, name, strlen(name)));
    smolq__tensor_at(gguf, id, tensor);
    return SMOLQ_OK;
}

/* Copies bytes of a tensor from wherever they are. */
SMOLQ_API smolq_result smolq_gguf_read(const smolq_gguf *gguf, const smolq_tensor_info *tensor, uint64_t offset, void *dst, size_t bytes, smolq_error *err)
{
    uint64_t at;
    if (tensor->part >= stbds_arrlenu(gguf->parts)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_gguf_read: not a tensor of this GGUF");
    if (offset > tensor->bytes || bytes > tensor->bytes - offset || !smolq__add(tensor->offset, offset, &at)) {
        smolq__quoted quoted;
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s': %llu bytes at %llu are beyond its %llu", smolq__quote(&quoted, tensor->name, tensor->name_bytes),
                           (unsigned long long)bytes, (unsigned long long)offset, (unsigned long long)tensor->bytes);
    }
    return smolq__file_read(&gguf->parts[tensor->part]->file, at, dst, bytes, err);
}
