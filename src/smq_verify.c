/* ==== smq_verify.c: is an SMQ file whole? ===========================================================================
 * Opening has checked everything before the data (smq.c).  Here come the data of the tensors, one by one or in steps before the first evaluation, and for who wants to
 * know all of it: that nothing lies over anything, that what lies between is zero, and that the tables of the vocabulary say what the metadata say. */
#pragma once
#include "vocab.c"

#define SMOLQ__COPY_PIECE ((uint64_t)1 << 18) /* bytes; some microseconds of checksum */

/* Bytes of a file that are used once: where they lie, or through a buffer [SMOLQ__COPY_PIECE]. */
typedef struct smolq__reader { const smolq__file *file; uint8_t *buffer; } smolq__reader;

static smolq_result smolq__reader_open(smolq__reader *r, smolq__heap *heap, const smolq__file *file, smolq_error *err)
{
    r->file = file;
    r->buffer = file->data ? NULL : (uint8_t *)smolq__alloc_raw(heap, SMOLQ__COPY_PIECE);
    return file->data || r->buffer ? SMOLQ_OK : smolq__fail_memory(heap, err, "a buffer");
}

static smolq_result smolq__reader_take(smolq__reader *r, uint64_t at, uint64_t n, const uint8_t **p, smolq_error *err) /* n: at most SMOLQ__COPY_PIECE */
{
    *p = r->file->data ? r->file->data + (size_t)at : r->buffer;
    return r->file->data ? SMOLQ_OK : smolq__file_read(r->file, at, r->buffer, n, err);
}

static int smolq__all_zero(const uint8_t *p, uint64_t n)
{
    uint8_t any = 0;
    uint64_t i;
    for (i = 0; i < n; i++) any |= p[i];
    return any == 0;
}

/* ---- tensors ---- */

static smolq_result smolq__need_smq(const smolq_gguf *gguf, smolq_error *err)
{
    if (!gguf) return smolq__fail(err, SMOLQ_E_ARGUMENT, "gguf is NULL");
    return smolq__gguf_smq(gguf) ? SMOLQ_OK : smolq__fail(err, SMOLQ_E_ARGUMENT, "a GGUF file has no checksums; this is for SMQ files");
}

SMOLQ_API smolq_result smolq_smq_checksum(const smolq_gguf *gguf, uint64_t tensor, uint64_t *checksum, smolq_error *err)
{
    smolq_result result = smolq__need_smq(gguf, err);
    if (result) return result;
    if (tensor >= gguf->facts.n_tensors) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor %llu of %llu", (unsigned long long)tensor, (unsigned long long)gguf->facts.n_tensors);
    *checksum = smolq__tensor_checksum(gguf, tensor);
    return SMOLQ_OK;
}

/* A walk over tensors that can be left and taken up again. */
typedef struct smolq__verifying {
    uint64_t        tensor, at; /* the next byte to look at */
    smolq__checksum sum;        /* of those of this tensor so far */
} smolq__verifying;

/* The next piece; SMOLQ_MORE while there is more before tensor `end`.  After an error the walk begins again where this tensor begins. */
static smolq_result smolq__verify_step(const smolq_gguf *gguf, smolq__reader *reader, smolq__verifying *v, uint64_t end, uint64_t *done, smolq_error *err)
{
    const uint8_t *p;
    smolq_tensor_info t;
    smolq_result result;
    if (v->tensor >= end) return SMOLQ_OK;
    smolq__tensor_at(gguf, v->tensor, &t);
    if (v->at == 0) smolq__checksum_begin(&v->sum);
    *done = t.bytes - v->at < SMOLQ__COPY_PIECE ? t.bytes - v->at : SMOLQ__COPY_PIECE;
    result = smolq__reader_take(reader, t.offset + v->at, *done, &p, err);
    if (!result) {
        smolq__checksum_add(&v->sum, p, *done);
        v->at += *done;
        if (v->at < t.bytes) return SMOLQ_MORE;
        result = smolq__check_data(gguf, v->tensor, smolq__checksum_end(&v->sum), err);
    }
    v->at = 0;
    if (result) return result;
    return ++v->tensor < end ? SMOLQ_MORE : SMOLQ_OK;
}

/* Tensors [first, end). */
static smolq_result smolq__verify_tensors(const smolq_gguf *gguf, uint64_t first, uint64_t end, const smolq_smq_options *options, smolq_error *err)
{
    smolq__reader reader;
    smolq__verifying v;
    smolq__heap heap;
    smolq_result result;
    uint64_t done = 0, all = 0;
    memset(&v, 0, sizeof v);
    v.tensor = first;
    smolq__heap_init(&heap, &options->allocator, 0);
    result = smolq__reader_open(&reader, &heap, &gguf->parts[0]->file, err);
    if (!result) result = SMOLQ_MORE;
    while (result == SMOLQ_MORE) {
        result = smolq__verify_step(gguf, &reader, &v, end, &done, err);
        all += done;
        if (result >= 0 && options->progress && options->progress(options->user, (float)((double)all / (double)gguf->facts.tensor_bytes)))
            result = smolq__fail(err, SMOLQ_E_CANCELLED, "the progress hook stopped at %llu of %llu bytes", (unsigned long long)all, (unsigned long long)gguf->facts.tensor_bytes);
    }
    smolq__heap_close(&heap);
    return result;
}

SMOLQ_API smolq_result smolq_smq_verify_tensor(const smolq_gguf *gguf, uint64_t tensor, smolq_error *err)
{
    smolq_smq_options none;
    smolq_result result = smolq__need_smq(gguf, err);
    memset(&none, 0, sizeof none);
    if (result) return result;
    if (tensor >= gguf->facts.n_tensors) return smolq__fail(err, SMOLQ_E_ARGUMENT, "tensor %llu of %llu", (unsigned long long)tensor, (unsigned long long)gguf->facts.n_tensors);
    return smolq__verify_tensors(gguf, tensor, tensor + 1, &none, err);
}

/* ---- the rest ---- */

/* Everything that has a place in the file, sections of other builds too, in the order of the places; NULL: no memory. */
static smolq_result smolq__smq_extents(const smolq_gguf *gguf, smolq__heap *heap, smolq__extent **extents, uint64_t *n, smolq_error *err)
{
    const smolq__part *part = gguf->parts[0];
    const smolq__smq *smq = part->smq;
    uint64_t i, n_tensors = gguf->facts.n_tensors;
    smolq__extent *e = (smolq__extent *)smolq__alloc(heap, (2 + smq->n_sections + n_tensors) * sizeof *e);
    *extents = e;
    *n = 2 + smq->n_sections + n_tensors;
    if (!e) return smolq__fail_memory(heap, err, "the places in the file");
    e->end = SMOLQ__SMQ_HEADER;
    e++;
    e->at = smq->table;
    e->end = smq->table + smq->n_sections * SMOLQ__SMQ_ENTRY;
    for (i = 0; i < smq->n_sections; i++) {
        uint8_t entry[SMOLQ__SMQ_ENTRY];
        smolq_result result = smolq__file_read(&part->file, smq->table + i * SMOLQ__SMQ_ENTRY, entry, sizeof entry, err);
        if (result) return result;
        e++;
        e->at = smolq_u64_at(entry + 8);
        if (!smolq__in_file(&part->file, e->at, smolq_u64_at(entry + 16))) return smolq__fail(err, SMOLQ_E_FORMAT, "section %u is not in the SMQ file", (unsigned)smolq_u32_at(entry));
        e->end = e->at + smolq_u64_at(entry + 16);
    }
    for (i = 0; i < n_tensors; i++) {
        smolq_tensor_info t;
        smolq__tensor_at(gguf, i, &t);
        e++;
        e->at = t.offset;
        e->end = t.offset + t.bytes;
    }
    smolq__sort_extents(*extents, *n);
    return SMOLQ_OK;
}

static smolq_result smolq__verify_zeros(smolq__reader *reader, uint64_t at, uint64_t end, smolq_error *err)
{
    const uint8_t *p;
    uint64_t piece;
    for (; at < end; at += piece) {
        smolq_result result;
        piece = end - at < SMOLQ__COPY_PIECE ? end - at : SMOLQ__COPY_PIECE;
        result = smolq__reader_take(reader, at, piece, &p, err);
        if (result) return result;
        if (!smolq__all_zero(p, piece)) return smolq__fail(err, SMOLQ_E_FORMAT, "the SMQ file is damaged: bytes from %llu to %llu, which belong to nothing, are not zero", (unsigned long long)at, (unsigned long long)end);
    }
    return SMOLQ_OK;
}

static smolq_result smolq__verify_places(const smolq_gguf *gguf, smolq__heap *heap, smolq_error *err)
{
    const smolq__file *file = &gguf->parts[0]->file;
    smolq__extent *extents;
    smolq__reader reader;
    uint64_t i, n, at = 0;
    smolq_result result = smolq__smq_extents(gguf, heap, &extents, &n, err);
    if (!result) result = smolq__reader_open(&reader, heap, file, err);
    for (i = 0; i < n && !result; i++) {
        if (extents[i].at < at) return smolq__fail(err, SMOLQ_E_FORMAT, "the SMQ file has two things at offset %llu", (unsigned long long)extents[i].at);
        result = smolq__verify_zeros(&reader, at, extents[i].at, err);
        at = extents[i].end;
    }
    return result ? result : smolq__verify_zeros(&reader, at, file->size, err);
}

/* The same tables, made from the metadata. */
static smolq_result smolq__verify_vocab(const smolq_gguf *gguf, smolq__heap *heap, smolq_error *err)
{
    const smolq__section *section = smolq__gguf_section(gguf, SMOLQ__SECTION_VOCAB);
    smolq_vocab *stored, *made;
    uint8_t *tables;
    uint64_t n;
    smolq_result result;
    if (!smolq__has_tables(section)) return SMOLQ_OK;
    result = smolq__vocab_load(heap, gguf, NULL, 0, &stored, err);
    if (!result && stored->index.seed == 0) result = smolq__fail(err, SMOLQ_E_FORMAT, "the vocabulary of the SMQ file: its seed is 0");
    if (!result) result = smolq__vocab_load(heap, gguf, NULL, stored->index.seed, &made, err);
    if (result) return result;
    tables = smolq__write_tables(made, heap, &n);
    if (!tables) return smolq__fail_memory(heap, err, "the vocabulary");
    if (n == section->n && memcmp(tables, section->p, (size_t)n) == 0) return SMOLQ_OK;
    return smolq__fail(err, SMOLQ_E_FORMAT, "the vocabulary of the SMQ file is not that of its metadata");
}

SMOLQ_API smolq_result smolq_smq_verify(const smolq_gguf *gguf, const smolq_smq_options *options, smolq_error *err)
{
    smolq_smq_options mine;
    smolq__heap heap;
    smolq_result result = smolq__need_smq(gguf, err);
    if (result) return result;
    smolq__options(&mine, sizeof mine, options, (uint32_t)sizeof mine);
    smolq__heap_init(&heap, &mine.allocator, 0);
    result = smolq__verify_places(gguf, &heap, err);
    if (!result) result = smolq__verify_vocab(gguf, &heap, err);
    smolq__heap_close(&heap);
    return result ? result : smolq__verify_tensors(gguf, 0, gguf->facts.n_tensors, &mine, err);
}

SMOLQ_API smolq_result smolq_smq_info(const smolq_gguf *gguf, smolq_smq_facts *facts, smolq_error *err)
{
    const smolq__smq *smq;
    smolq_smq_facts f;
    smolq_result result = smolq__need_smq(gguf, err);
    if (result) return result;
    smq = smolq__gguf_smq(gguf);
    memset(&f, 0, sizeof f);
    f.size = sizeof f;
    f.major = (uint32_t)smq->major;
    f.minor = (uint32_t)smq->minor;
    f.may_ignore = smq->may;
    f.gguf_bytes = smq->gguf_bytes;
    f.gguf_checksum = smq->gguf_checksum;
    f.metadata_bytes = smq->section[SMOLQ__SECTION_METADATA].n;
    f.vocab_bytes = smq->section[SMOLQ__SECTION_VOCAB].n;
    f.gap_bytes = smq->section[SMOLQ__SECTION_GAPS].n;
    f.has_tables = (uint32_t)smolq__has_tables(smolq__gguf_section(gguf, SMOLQ__SECTION_VOCAB));
    memcpy(facts, &f, facts->size && facts->size < sizeof f ? facts->size : sizeof f);
    return SMOLQ_OK;
}
