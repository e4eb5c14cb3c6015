/* ==== smq_verify.c: is an SMQ file whole? ===========================================================================
 * Opening has checked everything before the data (smq.c), and that nothing lies over anything.  Here come the data of the tensors, one by one or in steps before the first
 * evaluation, and for who wants to know all of it: sections that opening leaves alone, zeros between, the pairs of the metadata one by one, and whether the tables of the
 * vocabulary say what the metadata say. */
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
        if (result >= 0 && options->progress && options->progress(options->user, (float)((double)all / (double)(gguf->facts.tensor_bytes ? gguf->facts.tensor_bytes : 1))))
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

/* What lies between the things in the file: opening has seen that they don't lie over one another. */
static smolq_result smolq__verify_between(const smolq_gguf *gguf, smolq__heap *heap, smolq_error *err)
{
    const smolq__file *file = &gguf->parts[0]->file;
    smolq__extent *extents;
    smolq__reader reader;
    uint64_t i, n, at = 0;
    smolq_result result = smolq__smq_extents(gguf, heap, &extents, &n, err);
    if (!result) result = smolq__reader_open(&reader, heap, file, err);
    for (i = 0; i < n && !result; i++) {
        result = smolq__verify_zeros(&reader, at, extents[i].at, err);
        at = extents[i].end;
    }
    return result ? result : smolq__verify_zeros(&reader, at, file->size, err);
}

/* Sections of other builds: those that this one knows are looked at when they are loaded. */
static smolq_result smolq__verify_sections(const smolq_gguf *gguf, smolq__heap *heap, smolq_error *err)
{
    const smolq__part *part = gguf->parts[0];
    smolq_result result = SMOLQ_OK;
    uint64_t i;
    for (i = 0; i < part->smq->n_sections && !result; i++) {
        smolq__section section = part->smq->all[i];
        smolq__reader reader;
        smolq__checksum sum;
        uint64_t piece;
        char what[40];
        if (smolq__is_known(&section)) continue;
        smolq__checksum_begin(&sum);
        result = smolq__reader_open(&reader, heap, &part->file, err);
        for (; section.n > 0 && !result; section.at += piece, section.n -= piece) {
            piece = section.n < SMOLQ__COPY_PIECE ? section.n : SMOLQ__COPY_PIECE;
            result = smolq__reader_take(&reader, section.at, piece, &section.p, err);
            if (!result) smolq__checksum_add(&sum, section.p, piece);
        }
        snprintf(what, sizeof what, "section %u", (unsigned)section.kind);
        if (!result && smolq__checksum_end(&sum) != section.checksum) result = smolq__smq_damaged(err, what, smolq__checksum_end(&sum), section.checksum);
    }
    return result;
}

/* Each pair of the metadata, walked to its end without the table that says where that is. */
static smolq_result smolq__verify_pairs(const smolq_gguf *gguf, smolq_error *err)
{
    const smolq__part *part = gguf->parts[0];
    smolq__cursor c = smolq__cursor_over(part->bytes, 0, part->header_bytes);
    uint64_t i;
    c.err = err;
    c.what = "key";
    c.count = gguf->facts.n_pairs;
    for (i = 0; i < c.count && !c.result; i++) {
        c.at = part->pairs[i];
        if (smolq__take_pair(&c, i, 0) && c.at != part->pairs[i + 1]) smolq__stop_elsewhere(&c, part->pairs[i + 1]);
    }
    return c.result;
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

SMOLQ_API smolq_result smolq_smq_info(const smolq_gguf *gguf, smolq_smq_facts *facts, smolq_error *err)
{
    const smolq__smq *smq;
    smolq_smq_facts f;
    smolq_result result = smolq__need_smq(gguf, err);
    if (result) return result;
    smq = smolq__gguf_smq(gguf);
    memset(&f, 0, sizeof f);
    f.size = facts->size && facts->size < sizeof f ? facts->size : (uint32_t)sizeof f;
    f.major = (uint32_t)smq->major;
    f.minor = (uint32_t)smq->minor;
    f.may_ignore = smq->may;
    f.gguf_bytes = smq->gguf_bytes;
    f.gguf_checksum = smq->gguf_checksum;
    f.metadata_bytes = smq->section[SMOLQ__SECTION_METADATA].n;
    f.vocab_bytes = smq->section[SMOLQ__SECTION_VOCAB].n;
    f.gap_bytes = smq->section[SMOLQ__SECTION_GAPS].n;
    f.has_tables = (uint32_t)smolq__has_tables(smolq__gguf_section(gguf, SMOLQ__SECTION_VOCAB));
    memcpy(facts, &f, f.size);
    return SMOLQ_OK;
}
