/* ==== smq_write.c: SMQ files out, and back to GGUF ==================================================================
 * Packing copies the tensors of a GGUF file in the order in which they lie there, each to a fresh 64 bytes or page, and puts what opening needs before them.  What the
 * front says of the data is known when the data has gone by: the front is written last, over the zeros that kept its place.
 *
 * Unpacking needs what lies between the tensors.  That is padding, less than a page of zeros; whatever else there is stands in the section GAPS.  Verifying
 * a file is unpacking it to nowhere, and what smq_verify.c has beside that. */
#pragma once
#include "output.c"
#include "smq_verify.c"

enum { SMOLQ__PAGE_WORTHY = 1 << 16 }; /* bytes of a tensor that begins a page */

/* ---- what goes into a file, and into checksums on its way ---- */

typedef struct smolq__copier {
    smolq__heap      heap;
    smolq__output    output;
    smolq__reader    reader;
    smolq__checksum  out, in;      /* of what is written and of what is read, since each was begun */
    uint64_t         at;           /* in the output */
    uint64_t         done, total;  /* of the progress, in bytes */
    int              to_nowhere;   /* what would be written is only counted in */
    smolq_smq_options options;
    smolq_error     *err;
} smolq__copier;

static smolq_result smolq__copier_put(smolq__copier *c, const void *p, uint64_t n)
{
    smolq__checksum_add(&c->out, p, n);
    c->at += n;
    return c->to_nowhere ? SMOLQ_OK : smolq__output_write(&c->output, p, n, c->err);
}

static smolq_result smolq__copier_zeros(smolq__copier *c, uint64_t n)
{
    static const uint8_t zeros[SMOLQ__SMQ_PAGE] = { 0 };
    smolq_result result = SMOLQ_OK;
    uint64_t piece;
    for (; n > 0 && !result; n -= piece) {
        piece = n < sizeof zeros ? n : sizeof zeros;
        result = smolq__copier_put(c, zeros, piece);
    }
    return result;
}

static smolq_result smolq__copier_progress(smolq__copier *c, uint64_t n)
{
    c->done += n;
    if (!c->options.progress || !c->options.progress(c->options.user, (float)((double)c->done / (double)(c->total ? c->total : 1)))) return SMOLQ_OK;
    return smolq__fail(c->err, SMOLQ_E_CANCELLED, "the progress hook stopped at %llu of %llu bytes", (unsigned long long)c->done, (unsigned long long)c->total);
}

enum { SMOLQ__COPY = 1, SMOLQ__COUNT_IN = 2 };

/* Bytes [at, at + n) of the input: into the output, into the checksum of what is read, or both. */
static smolq_result smolq__copier_take(smolq__copier *c, uint64_t at, uint64_t n, int how)
{
    smolq_result result = SMOLQ_OK;
    uint64_t piece;
    for (; n > 0 && !result; at += piece, n -= piece) {
        const uint8_t *p;
        piece = n < SMOLQ__COPY_PIECE ? n : SMOLQ__COPY_PIECE;
        result = smolq__reader_take(&c->reader, at, piece, &p, c->err);
        if (result) return result;
        if (how & SMOLQ__COUNT_IN) smolq__checksum_add(&c->in, p, piece);
        if (how & SMOLQ__COPY) result = smolq__copier_put(c, p, piece);
        if (!result) result = smolq__copier_progress(c, how & SMOLQ__COUNT_IN ? piece : 0);
    }
    return result;
}

/* Where the tensors lie in the GGUF file, in that order; NULL: no memory. */
static smolq__extent *smolq__gguf_extents(const smolq_gguf *gguf, smolq__heap *heap)
{
    const smolq__part *part = gguf->parts[0];
    uint64_t i, n = gguf->facts.n_tensors;
    smolq__extent *extents = (smolq__extent *)smolq__alloc(heap, n * sizeof *extents);
    for (i = 0; i < n && extents; i++) {
        smolq__cursor c = smolq__cursor_over(part->bytes, gguf->tensors[i].record, part->header_bytes);
        smolq_tensor_info t;
        smolq__take_tensor(&c, &t);
        extents[i].at = part->data_start + t.offset;
        extents[i].end = extents[i].at + t.bytes;
        extents[i].tensor = i;
    }
    if (extents) smolq__sort_extents(extents, n);
    return extents;
}

/* ---- pack ---- */

typedef struct smolq__gap { uint64_t at, n; } smolq__gap;

typedef struct smolq__smq_packing {
    smolq__copier  c;
    const smolq_gguf *gguf;
    smolq__extent *extents;   /* [n_tensors] */
    smolq__gap    *gaps;      /* [n_gaps] those that are kept */
    uint64_t       n_gaps;
    uint8_t       *pairs, *tensors, *vocab; /* contents of sections */
    uint64_t       vocab_bytes;
    smolq__smq     smq;       /* what the front will say */
} smolq__smq_packing;

static smolq_result smolq__smq_pack_gap(smolq__smq_packing *p, uint64_t at, uint64_t end)
{
    const uint8_t *bytes;
    smolq_result result;
    if (at == end) return SMOLQ_OK;
    if (end - at < SMOLQ__SMQ_PAGE) {
        result = smolq__reader_take(&p->c.reader, at, end - at, &bytes, p->c.err);
        if (result || smolq__all_zero(bytes, end - at)) return result;
    }
    p->gaps[p->n_gaps].at = at;
    p->gaps[p->n_gaps++].n = end - at;
    return SMOLQ_OK;
}

/* What is between the header, the tensors and the end of the file, as far as it must be kept. */
static smolq_result smolq__smq_pack_gaps(smolq__smq_packing *p)
{
    const smolq__part *part = p->gguf->parts[0];
    uint64_t i, n = p->gguf->facts.n_tensors, at = part->header_bytes;
    smolq_result result = SMOLQ_OK;
    p->gaps = (smolq__gap *)smolq__alloc(&p->c.heap, (n + 1) * sizeof *p->gaps);
    if (!p->gaps) return smolq__fail_memory(&p->c.heap, p->c.err, "the gaps");
    for (i = 0; i < n && !result; i++) {
        result = smolq__smq_pack_gap(p, at, p->extents[i].at);
        at = p->extents[i].end;
    }
    return result ? result : smolq__smq_pack_gap(p, at, part->file.size);
}

/* The vocabulary, if the file has one that this build can make. */
static smolq_result smolq__smq_pack_vocab(smolq__smq_packing *p)
{
    const smolq__part *part = p->gguf->parts[0];
    smolq__heap *heap = &p->c.heap;
    smolq_vocab *vocab = NULL;
    smolq_value tokens;
    smolq_error why;
    smolq_result result = smolq__vocab_load(heap, p->gguf, NULL, smolq__checksum_of(part->bytes, part->header_bytes) | 1, &vocab, &why);
    if (result == SMOLQ_E_MEMORY) return smolq__fail(p->c.err, result, "%s", why.text);
    if (result || !smolq__part_find(part, SMOLQ__KEY("tokens"), &tokens)) return SMOLQ_OK;
    p->vocab = smolq__write_tables(vocab, heap, &p->vocab_bytes);
    if (!p->vocab) return smolq__fail_memory(heap, p->c.err, "the vocabulary");
    if (smolq__use_tables(vocab, &tokens, p->vocab, p->vocab_bytes)) p->vocab_bytes = 0; /* slots that happen to be too full: opening makes its own */
    return SMOLQ_OK;
}

static smolq_result smolq__smq_pack_tables(smolq__smq_packing *p)
{
    const smolq__part *part = p->gguf->parts[0];
    smolq__heap *heap = &p->c.heap;
    uint64_t i, n_pairs = p->gguf->facts.n_pairs;
    p->extents = smolq__gguf_extents(p->gguf, heap);
    p->pairs = (uint8_t *)smolq__alloc(heap, n_pairs * 8);
    p->tensors = (uint8_t *)smolq__alloc(heap, p->gguf->facts.n_tensors * SMOLQ__SMQ_RECORD);
    if (!p->extents || !p->pairs || !p->tensors) return smolq__fail_memory(heap, p->c.err, "the tables");
    for (i = 0; i < n_pairs; i++) smolq__put_u64(p->pairs + 8 * i, part->pairs[i + 1]);
    return SMOLQ_OK;
}

/* Sizes and places of the front. */
static void smolq__smq_pack_layout(smolq__smq_packing *p)
{
    uint64_t n[SMOLQ__SECTION_COUNT], at, i;
    memset(n, 0, sizeof n);
    n[SMOLQ__SECTION_METADATA] = p->gguf->parts[0]->header_bytes;
    n[SMOLQ__SECTION_PAIRS] = p->gguf->facts.n_pairs * 8;
    n[SMOLQ__SECTION_TENSORS] = p->gguf->facts.n_tensors * SMOLQ__SMQ_RECORD;
    n[SMOLQ__SECTION_VOCAB] = p->vocab_bytes;
    for (i = 0; i < p->n_gaps; i++) n[SMOLQ__SECTION_GAPS] += SMOLQ__SMQ_GAP + p->gaps[i].n;
    if (p->n_gaps) n[SMOLQ__SECTION_GAPS] += 8;
    p->smq.table = SMOLQ__SMQ_HEADER;
    for (i = 1; i < SMOLQ__SECTION_COUNT; i++) p->smq.n_sections += n[i] > 0;
    at = p->smq.table + p->smq.n_sections * SMOLQ__SMQ_ENTRY;
    for (i = 1; i < SMOLQ__SECTION_COUNT; i++) {
        if (n[i] == 0) continue;
        at = (at + SMOLQ__SMQ_PAGE - 1) & ~(uint64_t)(SMOLQ__SMQ_PAGE - 1);
        p->smq.section[i].at = at;
        p->smq.section[i].n = n[i];
        at += n[i];
    }
}

/* A section that is in memory, at its place. */
static smolq_result smolq__smq_pack_section(smolq__smq_packing *p, int kind, const uint8_t *bytes)
{
    smolq__section *section = &p->smq.section[kind];
    smolq_result result;
    if (section->n == 0) return SMOLQ_OK;
    result = smolq__copier_zeros(&p->c, section->at - p->c.at);
    smolq__checksum_begin(&p->c.out);
    if (!result) result = smolq__copier_put(&p->c, bytes, section->n);
    section->checksum = smolq__checksum_end(&p->c.out);
    return result;
}

/* n u64 | offset, bytes of each | the bytes of all */
static smolq_result smolq__smq_pack_gap_section(smolq__smq_packing *p)
{
    smolq__section *section = &p->smq.section[SMOLQ__SECTION_GAPS];
    uint8_t record[SMOLQ__SMQ_GAP];
    smolq_result result;
    uint64_t i;
    if (section->n == 0) return SMOLQ_OK;
    result = smolq__copier_zeros(&p->c, section->at - p->c.at);
    smolq__checksum_begin(&p->c.out);
    smolq__put_u64(record, p->n_gaps);
    if (!result) result = smolq__copier_put(&p->c, record, 8);
    for (i = 0; i < p->n_gaps && !result; i++) {
        smolq__put_u64(smolq__put_u64(record, p->gaps[i].at), p->gaps[i].n);
        result = smolq__copier_put(&p->c, record, sizeof record);
    }
    for (i = 0; i < p->n_gaps && !result; i++) result = smolq__copier_take(&p->c, p->gaps[i].at, p->gaps[i].n, SMOLQ__COPY);
    section->checksum = smolq__checksum_end(&p->c.out);
    return result;
}

/* The data of all tensors; what lies between them goes into the checksum of the whole. */
static smolq_result smolq__smq_pack_data(smolq__smq_packing *p)
{
    const smolq__part *part = p->gguf->parts[0];
    uint64_t i, at = part->header_bytes;
    smolq_result result = smolq__copier_take(&p->c, 0, at, SMOLQ__COUNT_IN);
    for (i = 0; i < p->gguf->facts.n_tensors && !result; i++) {
        const smolq__extent *e = &p->extents[i];
        uint64_t n = e->end - e->at, alignment = n >= SMOLQ__PAGE_WORTHY ? (uint64_t)SMOLQ__SMQ_PAGE : (uint64_t)SMOLQ__SMQ_ALIGNMENT;
        uint8_t *record = p->tensors + e->tensor * SMOLQ__SMQ_RECORD;
        result = smolq__copier_take(&p->c, at, e->at - at, SMOLQ__COUNT_IN);
        if (!result) result = smolq__copier_zeros(&p->c, (alignment - p->c.at % alignment) % alignment);
        record = smolq__put_u64(smolq__put_u64(record, p->c.at), n);
        smolq__checksum_begin(&p->c.out);
        if (!result) result = smolq__copier_take(&p->c, e->at, n, SMOLQ__COPY | SMOLQ__COUNT_IN);
        smolq__put_u64(record, smolq__checksum_end(&p->c.out));
        at = e->end;
    }
    return result ? result : smolq__copier_take(&p->c, at, part->file.size - at, SMOLQ__COUNT_IN);
}

/* Header and table of sections, as bytes. */
static uint64_t smolq__smq_pack_front(smolq__smq_packing *p, uint8_t *front)
{
    smolq__smq *smq = &p->smq;
    uint8_t *entry = front + smq->table;
    uint64_t i;
    for (i = 1; i < SMOLQ__SECTION_COUNT; i++) {
        const smolq__section *section = &smq->section[i];
        if (section->n == 0) continue;
        entry = smolq__put_u64(smolq__put_u64(smolq__put_u64(smolq__put_u64(entry, i), section->at), section->n), section->checksum);
    }
    smq->major = SMOLQ__SMQ_MAJOR;
    smq->minor = SMOLQ__SMQ_MINOR;
    smq->header_bytes = SMOLQ__SMQ_HEADER;
    smq->entry_bytes = SMOLQ__SMQ_ENTRY;
    smq->file_bytes = p->c.at;
    smq->gguf_bytes = p->gguf->parts[0]->file.size;
    smq->gguf_checksum = smolq__checksum_end(&p->c.in);
    smq->table_checksum = smolq__checksum_of(front + smq->table, smq->n_sections * SMOLQ__SMQ_ENTRY);
    memcpy(front, SMOLQ__SMQ_MAGIC, SMOLQ__SMQ_MAGIC_BYTES);
#define SMOLQ__FIELD(name, offset, bits) smolq__put_u##bits(front + offset, (uint##bits##_t)smq->name);
    SMOLQ__SMQ_FIELDS(SMOLQ__FIELD)
    smq->checksum = smolq__checksum_of(front, SMOLQ__SMQ_HEADER - 8);
    SMOLQ__SMQ_FIELDS(SMOLQ__FIELD)
#undef SMOLQ__FIELD
    return smq->table + smq->n_sections * SMOLQ__SMQ_ENTRY;
}

/* What is known last, over the zeros at its places. */
static smolq_result smolq__smq_pack_late(smolq__smq_packing *p)
{
    uint8_t front[SMOLQ__SMQ_HEADER + SMOLQ__SECTION_COUNT * SMOLQ__SMQ_ENTRY];
    smolq__section *tensors = &p->smq.section[SMOLQ__SECTION_TENSORS];
    smolq_result result = SMOLQ_OK;
    uint64_t n;
    memset(front, 0, sizeof front);
    tensors->checksum = smolq__checksum_of(p->tensors, tensors->n);
    n = smolq__smq_pack_front(p, front);
    if (tensors->n) {
        result = smolq__output_seek(&p->c.output, tensors->at, p->c.err);
        if (!result) result = smolq__output_write(&p->c.output, p->tensors, tensors->n, p->c.err);
    }
    if (!result) result = smolq__output_seek(&p->c.output, 0, p->c.err);
    return result ? result : smolq__output_write(&p->c.output, front, n, p->c.err);
}

static smolq_result smolq__smq_pack_all(smolq__smq_packing *p, const char *path)
{
    const smolq__part *part = p->gguf->parts[0];
    smolq__copier *c = &p->c;
    smolq_result result = smolq__reader_open(&c->reader, &c->heap, &part->file, c->err);
    if (!result) result = smolq__smq_pack_tables(p);
    if (!result) result = smolq__smq_pack_gaps(p);
    if (!result) result = smolq__smq_pack_vocab(p);
    if (result) return result;
    smolq__smq_pack_layout(p);
    c->total = part->file.size;
    smolq__checksum_begin(&c->in);
    result = smolq__output_open(&c->output, &c->heap, path, c->err);
    if (!result) result = smolq__smq_pack_section(p, SMOLQ__SECTION_METADATA, part->bytes);
    if (!result) result = smolq__smq_pack_section(p, SMOLQ__SECTION_PAIRS, p->pairs);
    if (!result) result = smolq__smq_pack_section(p, SMOLQ__SECTION_TENSORS, p->tensors); /* zeros so far */
    if (!result) result = smolq__smq_pack_gap_section(p);
    if (!result) result = smolq__smq_pack_section(p, SMOLQ__SECTION_VOCAB, p->vocab);
    if (!result) result = smolq__smq_pack_data(p);
    if (!result) result = smolq__smq_pack_late(p);
    return result ? result : smolq__output_finish(&c->output, c->err);
}

static void smolq__copier_init(smolq__copier *c, const smolq_smq_options *options, smolq_error *err)
{
    memset(c, 0, sizeof *c);
    smolq__options(&c->options, sizeof c->options, options, (uint32_t)sizeof c->options);
    smolq__heap_init(&c->heap, &c->options.allocator, 0);
    c->err = err;
}

SMOLQ_API smolq_result smolq_smq_pack(const smolq_gguf *gguf, const char *path, const smolq_smq_options *options, smolq_error *err)
{
    smolq__smq_packing p;
    smolq_result result;
    if (!gguf || !path) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_smq_pack: %s is NULL", gguf ? "path" : "gguf");
    if (smolq__gguf_smq(gguf)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "this is an SMQ file already");
    if (gguf->facts.n_parts > 1) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "an SMQ file holds one GGUF file, this has %u parts; merge them first", (unsigned)gguf->facts.n_parts);
    memset(&p, 0, sizeof p);
    p.gguf = gguf;
    smolq__copier_init(&p.c, options, err);
    result = smolq__smq_pack_all(&p, path);
    if (result) smolq__output_discard(&p.c.output);
    smolq__heap_close(&p.c.heap);
    return result;
}

/* ---- unpack ---- */

typedef struct smolq__smq_unpacking {
    smolq__copier  c;
    const smolq_gguf *gguf;
    const uint8_t *gap, *gaps_end, *bytes, *bytes_end; /* records and bytes of the section GAPS that are still to come */
} smolq__smq_unpacking;

/* The records of the gaps, if there are any. */
static smolq_result smolq__smq_unpack_begin(smolq__smq_unpacking *u)
{
    const smolq__section *found = smolq__gguf_section(u->gguf, SMOLQ__SECTION_GAPS);
    smolq__section loaded, *section = &loaded;
    smolq_result result;
    uint64_t n;
    if (!found) return SMOLQ_OK;
    loaded = *found;
    result = smolq__smq_load(section, &u->c.heap, &u->gguf->parts[0]->file, "the gaps", u->c.err);
    if (result) return result;
    n = section->n < 8 ? UINT64_MAX : smolq_u64_at(section->p);
    if (n > (section->n - 8) / SMOLQ__SMQ_GAP) return smolq__fail(u->c.err, SMOLQ_E_FORMAT, "the gaps of the SMQ file: %llu in %llu bytes", (unsigned long long)n, (unsigned long long)section->n);
    u->gap = section->p + 8;
    u->bytes = u->gaps_end = u->gap + n * SMOLQ__SMQ_GAP;
    u->bytes_end = section->p + section->n;
    return SMOLQ_OK;
}

/* What lies in the GGUF file from at to end. */
static smolq_result smolq__smq_unpack_gap(smolq__smq_unpacking *u, uint64_t at, uint64_t end)
{
    uint64_t n = end - at, piece;
    smolq_result result = SMOLQ_OK;
    if (u->gap < u->gaps_end && smolq_u64_at(u->gap) == at && smolq_u64_at(u->gap + 8) == n) {
        if (n > (uint64_t)(u->bytes_end - u->bytes)) return smolq__fail(u->c.err, SMOLQ_E_FORMAT, "the gaps of the SMQ file end within %llu bytes at %llu", (unsigned long long)n, (unsigned long long)at);
        u->gap += SMOLQ__SMQ_GAP;
        for (; n > 0 && !result; n -= piece, u->bytes += piece) {
            piece = n < SMOLQ__COPY_PIECE ? n : SMOLQ__COPY_PIECE;
            result = smolq__copier_put(&u->c, u->bytes, piece);
        }
        return result;
    }
    if (n >= SMOLQ__SMQ_PAGE) return smolq__fail(u->c.err, SMOLQ_E_FORMAT, "the SMQ file lacks %llu bytes of the GGUF file at %llu", (unsigned long long)n, (unsigned long long)at);
    return smolq__copier_zeros(&u->c, n);
}

static smolq_result smolq__smq_unpack_tensor(smolq__smq_unpacking *u, uint64_t tensor)
{
    smolq_tensor_info t;
    smolq_result result;
    smolq__tensor_at(u->gguf, tensor, &t);
    smolq__checksum_begin(&u->c.in);
    result = smolq__copier_take(&u->c, t.offset, t.bytes, SMOLQ__COPY | SMOLQ__COUNT_IN);
    return result ? result : smolq__check_data(u->gguf, tensor, smolq__checksum_end(&u->c.in), u->c.err);
}

/* path NULL: to nowhere. */
static smolq_result smolq__smq_unpack_all(smolq__smq_unpacking *u, const char *path)
{
    const smolq__part *part = u->gguf->parts[0];
    smolq__copier *c = &u->c;
    uint64_t i, at = part->header_bytes, sum;
    smolq__extent *extents = smolq__gguf_extents(u->gguf, &c->heap);
    smolq_result result = extents ? smolq__reader_open(&c->reader, &c->heap, &part->file, c->err) : smolq__fail_memory(&c->heap, c->err, "the tables");
    if (!result) result = smolq__smq_unpack_begin(u);
    if (!result) result = smolq__verify_pairs(u->gguf, c->err);
    if (!result && path) result = smolq__output_open(&c->output, &c->heap, path, c->err);
    if (result) return result;
    c->total = u->gguf->facts.tensor_bytes;
    smolq__checksum_begin(&c->out);
    result = smolq__copier_put(c, part->bytes, at);
    for (i = 0; i < u->gguf->facts.n_tensors && !result; i++) {
        result = smolq__smq_unpack_gap(u, at, extents[i].at);
        if (!result) result = smolq__smq_unpack_tensor(u, extents[i].tensor);
        at = extents[i].end;
    }
    if (!result) result = smolq__smq_unpack_gap(u, at, part->gguf_bytes);
    if (!result && (u->gap < u->gaps_end || u->bytes < u->bytes_end)) result = smolq__fail(c->err, SMOLQ_E_FORMAT, "the gaps of the SMQ file are not those of its tensors");
    sum = smolq__checksum_end(&c->out);
    if (!result && sum != part->smq->gguf_checksum) result = smolq__smq_damaged(c->err, "the GGUF file in it", sum, part->smq->gguf_checksum);
    return result || !path ? result : smolq__output_finish(&c->output, c->err);
}

SMOLQ_API smolq_result smolq_smq_verify(const smolq_gguf *gguf, const smolq_smq_options *options, smolq_error *err)
{
    smolq__smq_unpacking u;
    smolq_result result = smolq__need_smq(gguf, err);
    if (result) return result;
    memset(&u, 0, sizeof u);
    u.gguf = gguf;
    smolq__copier_init(&u.c, options, err);
    u.c.to_nowhere = 1;
    result = smolq__verify_between(gguf, &u.c.heap, err);
    if (!result) result = smolq__verify_sections(gguf, &u.c.heap, err);
    if (!result) result = smolq__verify_vocab(gguf, &u.c.heap, err);
    if (!result) result = smolq__smq_unpack_all(&u, NULL);
    smolq__heap_close(&u.c.heap);
    return result;
}

SMOLQ_API smolq_result smolq_smq_unpack(const smolq_gguf *gguf, const char *path, const smolq_smq_options *options, smolq_error *err)
{
    smolq__smq_unpacking u;
    smolq_result result = smolq__need_smq(gguf, err);
    if (result) return result;
    if (!path) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_smq_unpack: path is NULL");
    memset(&u, 0, sizeof u);
    u.gguf = gguf;
    smolq__copier_init(&u.c, options, err);
    result = smolq__smq_unpack_all(&u, path);
    if (result) smolq__output_discard(&u.c.output);
    smolq__heap_close(&u.c.heap);
    return result;
}
