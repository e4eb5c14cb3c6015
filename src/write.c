/* ==== write.c: GGUF files out =======================================================================================
 * The header of a GGUF file has everything but the data of its tensors, so it is gathered first, as the bytes that it will be: pairs and tensor
 * records, in the order of their calls.  The first data puts it into the file, and from there on all is streamed.  The file appears under its name when it is
 * finished (output.c). */
#pragma once
#include "gguf.c"
#include "output.c"

/* A pair or a tensor's record, as it will stand in the header. */
typedef struct smolq__record {
    uint8_t *p;         /* [n] */
    uint64_t n;
    uint64_t at, bytes; /* of a tensor: its place in the data, counted from the beginning of that */
} smolq__record;

typedef struct smolq__records { smolq__record *p; uint64_t n, room; } smolq__records;

struct smolq_gguf_writer {
    smolq__heap    heap;
    smolq__output  output;
    smolq__records pairs, tensors;
    uint64_t       alignment;
    uint64_t       data_bytes;  /* of the tensors so far, with the padding between them */
    uint64_t       n_written;   /* of these */
    uint64_t       next;        /* the tensor that n_written lies in, or ends */
    int            begun;       /* the header is in the file */
};

/* The n bytes of a new record, with its room in the table; NULL: no memory. */
static uint8_t *smolq__new_record(smolq__heap *heap, smolq__records *table, uint64_t n)
{
    uint8_t *p;
    if (table->n == table->room) {
        uint64_t room = table->room ? table->room * 2 : 64;
        smolq__record *bigger = (smolq__record *)smolq__alloc(heap, room * sizeof *bigger);
        if (!bigger) return NULL;
        if (table->n) memcpy(bigger, table->p, (size_t)table->n * sizeof *bigger);
        smolq__free(heap, table->p);
        table->p = bigger;
        table->room = room;
    }
    p = (uint8_t *)smolq__alloc_raw(heap, n);
    if (!p) return NULL;
    table->p[table->n].p = p;
    table->p[table->n].n = n;
    return p;
}

/* The record that begins with this name, by looking at all: files have hundreds. */
static smolq__record *smolq__find_record(const smolq__records *table, const char *name, uint64_t n)
{
    uint64_t i;
    for (i = 0; i < table->n; i++)
        if (smolq_u64_at(table->p[i].p) == n && memcmp(table->p[i].p + 8, name, (size_t)n) == 0) return &table->p[i];
    return NULL;
}

SMOLQ_API smolq_result smolq_gguf_create(const char *path, const smolq_allocator *allocator, smolq_gguf_writer **writer, smolq_error *err)
{
    smolq__heap heap;
    smolq_gguf_writer *w;
    smolq_result result;
    if (!path || !writer) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_gguf_create: %s is NULL", path ? "writer" : "path");
    smolq__heap_init(&heap, allocator, 0);
    w = (smolq_gguf_writer *)smolq__alloc(&heap, sizeof *w);
    if (!w) return smolq__fail_memory(&heap, err, "a writer");
    w->heap = heap;
    w->alignment = 32;
    result = smolq__output_open(&w->output, &w->heap, path, err);
    if (result) smolq_gguf_discard(w);
    else *writer = w;
    return result;
}

SMOLQ_API void smolq_gguf_discard(smolq_gguf_writer *writer)
{
    if (!writer) return;
    smolq__output_discard(&writer->output);
    smolq__heap_close(&writer->heap);
}

/* ---- pairs ---- */

/* The bytes that a value takes after its type, or UINT64_MAX with *err set. */
static uint64_t smolq__value_bytes(const smolq_value *v, const char *key, smolq_error *err)
{
    smolq__quoted quoted;
    const char *name = smolq__quote(&quoted, key, strlen(key)), *why = NULL;
    uint64_t bytes = 0;
    int64_t largest;
    switch (v->type) {
    case SMOLQ_GGUF_U8: case SMOLQ_GGUF_U16: case SMOLQ_GGUF_U32: case SMOLQ_GGUF_I8: case SMOLQ_GGUF_I16: case SMOLQ_GGUF_I32: case SMOLQ_GGUF_BOOL:
        bytes = smolq__gguf_types[v->type].bytes;
        largest = v->type == SMOLQ_GGUF_BOOL ? 1 : (int64_t)(((uint64_t)1 << bytes * 8) - 1);
        if (v->type == SMOLQ_GGUF_I8 || v->type == SMOLQ_GGUF_I16 || v->type == SMOLQ_GGUF_I32) {
            largest >>= 1;
            if (v->i < -largest - 1 || v->i > largest) why = "its value is beyond its type";
        } else if (v->i < 0 || v->i > largest) why = "its value is beyond its type";
        break;
    case SMOLQ_GGUF_F32: case SMOLQ_GGUF_F64: case SMOLQ_GGUF_U64: case SMOLQ_GGUF_I64:
        bytes = smolq__gguf_types[v->type].bytes;
        break;
    case SMOLQ_GGUF_STRING:
        bytes = 8 + (uint64_t)v->bytes;
        if (v->bytes && !v->text) why = "its text is NULL";
        break;
    case SMOLQ_GGUF_ARRAY: {
        smolq__cursor c = smolq__cursor_over(v->data, 0, v->data_bytes);
        uint64_t size = v->element_type >= 0 && v->element_type < SMOLQ_GGUF_TYPE_COUNT ? smolq__gguf_types[v->element_type].bytes : UINT64_MAX;
        if (size == UINT64_MAX || (v->data_bytes && !v->data) || v->n > v->data_bytes / (size ? size : 1) || !smolq__take_elements(&c, v) || c.at != v->data_bytes)
            why = "its bytes are not those of its elements";
        bytes = 12 + v->data_bytes;
        break;
    }
    default: why = "its type is unknown";
    }
    if (!why) return bytes;
    smolq__fail(err, SMOLQ_E_ARGUMENT, "key '%s': %s", name, why);
    return UINT64_MAX;
}

static void smolq__put_value(uint8_t *p, const smolq_value *v)
{
    uint32_t i, n = smolq__gguf_types[v->type].bytes;
    uint64_t u = 0;
    switch (v->type) {
    case SMOLQ_GGUF_STRING: smolq__put_bytes(smolq__put_u64(p, v->bytes), v->text, v->bytes); return;
    case SMOLQ_GGUF_ARRAY:  smolq__put_bytes(smolq__put_u64(smolq__put_u32(p, (uint32_t)v->element_type), v->n), v->data, v->data_bytes); return;
    case SMOLQ_GGUF_F32:    u = smolq_bits((float)v->f); break;
    case SMOLQ_GGUF_F64:    memcpy(&u, &v->f, 8); break;
    case SMOLQ_GGUF_U64:    u = v->u; break;
    default:                u = (uint64_t)v->i;
    }
    for (i = 0; i < n; i++) p[i] = (uint8_t)(u >> i * 8);
}

SMOLQ_API smolq_result smolq_gguf_put(smolq_gguf_writer *w, const char *key, const smolq_value *value, smolq_error *err)
{
    smolq__quoted quoted;
    smolq__record *old;
    uint64_t n = strlen(key), bytes = smolq__value_bytes(value, key, err);
    int is_alignment = strcmp(key, "general.alignment") == 0;
    uint8_t *p;
    if (bytes == UINT64_MAX) return SMOLQ_E_ARGUMENT;
    if (w->begun) return smolq__fail(err, SMOLQ_E_ARGUMENT, "key '%s' comes after the data of tensors", smolq__quote(&quoted, key, (size_t)n));
    if (n == 0 || n > SMOLQ__MAX_KEY) return smolq__fail(err, SMOLQ_E_ARGUMENT, "a key of %llu bytes, expected 1 to %d", (unsigned long long)n, SMOLQ__MAX_KEY);
    if (is_alignment && w->tensors.n) return smolq__fail(err, SMOLQ_E_ARGUMENT, "general.alignment comes after a tensor");
    if (is_alignment && (value->type != SMOLQ_GGUF_U32 || value->i < 8 || value->i > SMOLQ__MAX_ALIGNMENT || (value->i & (value->i - 1))))
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "general.alignment is a u32, a power of two from 8 to %d", SMOLQ__MAX_ALIGNMENT);
    p = smolq__new_record(&w->heap, &w->pairs, 8 + n + 4 + bytes);
    if (!p) return smolq__fail_memory(&w->heap, err, "the metadata");
    smolq__put_value(smolq__put_u32(smolq__put_bytes(smolq__put_u64(p, n), key, n), (uint32_t)value->type), value);
    if (is_alignment) w->alignment = (uint64_t)value->i;
    old = smolq__find_record(&w->pairs, key, n);
    if (old) {
        smolq__free(&w->heap, old->p);
        *old = w->pairs.p[w->pairs.n];
    } else {
        w->pairs.n++;
    }
    return SMOLQ_OK;
}

/* ---- tensors ---- */

SMOLQ_API smolq_result smolq_gguf_add(smolq_gguf_writer *w, const smolq_tensor_info *tensor, smolq_error *err)
{
    smolq__quoted quoted;
    const char *name = smolq__quote(&quoted, tensor->name, tensor->name_bytes);
    const smolq_type_facts *facts = smolq_type_info(tensor->type);
    uint64_t n = 1, bytes, at, end;
    int32_t i;
    uint8_t *p;
    if (w->begun) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' comes after the data of tensors", name);
    if (tensor->name_bytes == 0 || tensor->name_bytes > SMOLQ__MAX_NAME)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' has a name of %llu bytes, expected 1 to %d", name, (unsigned long long)tensor->name_bytes, SMOLQ__MAX_NAME);
    if (!facts) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' is of the unknown type %d", name, (int)tensor->type);
    if (tensor->n_dims < 1 || tensor->n_dims > 4) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' has %d dimensions, expected 1 to 4", name, (int)tensor->n_dims);
    for (i = 0; i < tensor->n_dims; i++)
        if (!smolq__mul(n, tensor->ne[i], &n)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' has more than 2^64 elements", name);
    if (tensor->ne[0] % (uint64_t)facts->block_weights)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' has rows of %llu, type %s needs a multiple of %d", name, (unsigned long long)tensor->ne[0], facts->name,
                           (int)facts->block_weights);
    if (!smolq__mul(n / (uint64_t)facts->block_weights, (uint64_t)facts->block_bytes, &bytes))
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' has more than 2^64 bytes", name);
    if (!smolq__align_up(w->data_bytes, w->alignment, &at) || !smolq__add(at, bytes, &end))
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' ends beyond 2^64 bytes", name);
    if (smolq__find_record(&w->tensors, tensor->name, tensor->name_bytes)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' is there already", name);
    p = smolq__new_record(&w->heap, &w->tensors, 8 + (uint64_t)tensor->name_bytes + 4 + 8 * (uint64_t)tensor->n_dims + 4 + 8);
    if (!p) return smolq__fail_memory(&w->heap, err, "the tensor records");
    p = smolq__put_u32(smolq__put_bytes(smolq__put_u64(p, tensor->name_bytes), tensor->name, tensor->name_bytes), (uint32_t)tensor->n_dims);
    for (i = 0; i < tensor->n_dims; i++) p = smolq__put_u64(p, tensor->ne[i]);
    smolq__put_u64(smolq__put_u32(p, (uint32_t)tensor->type), at);
    w->tensors.p[w->tensors.n].at = at;
    w->tensors.p[w->tensors.n].bytes = bytes;
    w->tensors.n++;
    w->data_bytes = end;
    return SMOLQ_OK;
}

static smolq_result smolq__write_padding(smolq_gguf_writer *w, uint64_t n, smolq_error *err)
{
    static const uint8_t zeros[4096] = { 0 };
    smolq_result result = SMOLQ_OK;
    while (n > 0 && !result) {
        uint64_t piece = n < sizeof zeros ? n : sizeof zeros;
        result = smolq__output_write(&w->output, zeros, piece, err);
        n -= piece;
    }
    return result;
}

static smolq_result smolq__write_header(smolq_gguf_writer *w, smolq_error *err)
{
    const smolq__records *tables[2] = { &w->pairs, &w->tensors };
    uint64_t total = 24, padded, i;
    uint8_t *header, *p;
    smolq_result result;
    int t;
    for (t = 0; t < 2; t++)
        for (i = 0; i < tables[t]->n; i++) total += tables[t]->p[i].n;
    if (!smolq__align_up(total, w->alignment, &padded)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "a header of 2^64 bytes");
    header = (uint8_t *)smolq__alloc(&w->heap, padded);
    if (!header) return smolq__fail_memory(&w->heap, err, "the header");
    p = smolq__put_u64(smolq__put_u64(smolq__put_u32(smolq__put_bytes(header, "GGUF", 4), 3), w->tensors.n), w->pairs.n);
    for (t = 0; t < 2; t++)
        for (i = 0; i < tables[t]->n; i++) p = smolq__put_bytes(p, tables[t]->p[i].p, tables[t]->p[i].n);
    result = smolq__output_write(&w->output, header, padded, err);
    smolq__free(&w->heap, header);
    w->begun = 1;
    return result;
}

SMOLQ_API smolq_result smolq_gguf_write(smolq_gguf_writer *w, const void *data, uint64_t bytes, smolq_error *err)
{
    const uint8_t *from = (const uint8_t *)data;
    smolq_result result = w->begun ? SMOLQ_OK : smolq__write_header(w, err);
    while (!result && bytes > 0) {
        const smolq__record *t;
        uint64_t piece;
        if (w->next == w->tensors.n) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_gguf_write: %llu bytes beyond the last tensor", (unsigned long long)bytes);
        t = &w->tensors.p[w->next];
        if (w->n_written < t->at) {
            result = smolq__write_padding(w, t->at - w->n_written, err);
            w->n_written = t->at;
            continue;
        }
        piece = t->at + t->bytes - w->n_written;
        if (piece > bytes) piece = bytes;
        result = smolq__output_write(&w->output, from, piece, err);
        w->n_written += piece;
        from += piece;
        bytes -= piece;
        if (w->n_written == t->at + t->bytes) w->next++;
    }
    return result;
}

SMOLQ_API smolq_result smolq_gguf_finish(smolq_gguf_writer *w, smolq_error *err)
{
    smolq_result result = w->begun ? SMOLQ_OK : smolq__write_header(w, err);
    while (w->next < w->tensors.n && w->tensors.p[w->next].bytes == 0) w->next++;
    if (!result && w->next < w->tensors.n) {
        const smolq__record *t = &w->tensors.p[w->next];
        smolq__quoted quoted;
        result = smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor '%s' has got %llu of its %llu bytes", smolq__quote(&quoted, (const char *)t->p + 8, (size_t)smolq_u64_at(t->p)),
                             (unsigned long long)(w->n_written > t->at ? w->n_written - t->at : 0), (unsigned long long)t->bytes);
    }
    if (!result) result = smolq__write_padding(w, (w->alignment - w->data_bytes % w->alignment) % w->alignment, err); /* as the common tools do */
    if (!result) result = smolq__output_finish(&w->output, err);
    smolq_gguf_discard(w);
    return result;
}
