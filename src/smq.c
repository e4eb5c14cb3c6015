/* ==== smq.c: the container SMQ, as it is read =======================================================================
 * An SMQ file holds a GGUF file in an order that can be used where it is mapped, and checksums of all of it (docs/smq.md is its specification):
 *
 *     header [128] | table of sections | section ... | data of the tensors          all little-endian; what lies between is zero
 *
 * Here the header, the table and each section are checked: that they are in the file, and whole.  gguf.c reads the metadata and binds the tensors as it does for a GGUF
 * file, vocab.c takes the tables of the tokenizer, smq_verify.c checks tensors, and smq_write.c makes such files and turns them back. */
#pragma once
#include "checksum.c"
#include "file.c"

#define SMOLQ__SMQ_MAGIC "SMQ2\r\n\032\n"
enum { SMOLQ__SMQ_MAGIC_BYTES = 8, SMOLQ__SMQ_MAJOR = 2, SMOLQ__SMQ_MINOR = 0, SMOLQ__SMQ_HEADER = 128, SMOLQ__SMQ_ENTRY = 32, SMOLQ__SMQ_MAX_SECTIONS = 64,
       SMOLQ__SMQ_ALIGNMENT = 64, SMOLQ__SMQ_PAGE = 4096, SMOLQ__SMQ_RECORD = 24 /* of a tensor: offset, bytes, checksum */, SMOLQ__SMQ_GAP = 16 /* offset, bytes */ };

/*    kind NAME      what, for messages */
#define SMOLQ__SECTIONS(X) \
    X(1, METADATA,  "the metadata")         /* the GGUF header, as it is */ \
    X(2, PAIRS,     "the table of pairs")   /* u64 for each pair: where in the metadata it ends */ \
    X(3, TENSORS,   "the table of tensors") /* a record for each, in the order of the metadata */ \
    X(4, GAPS,      "the gaps")             /* bytes between the tensors of the GGUF file that are not a few zeros */ \
    X(5, VOCAB,     "the vocabulary")       /* vocab.c */
#define SMOLQ__SECTION_ENUM(kind, NAME, what) SMOLQ__SECTION_##NAME = kind,
enum { SMOLQ__SECTIONS(SMOLQ__SECTION_ENUM) SMOLQ__SECTION_COUNT = 6 };
#undef SMOLQ__SECTION_ENUM

/*    field         offset  bits: of the header */
#define SMOLQ__SMQ_FIELDS(X) \
    X(major,           8, 16) \
    X(minor,          10, 16) \
    X(header_bytes,   12, 32) \
    X(must,           16, 64) /* features that a reader must know, a bit for each: none so far */ \
    X(may,            24, 64) /* features that it may ignore: none so far */ \
    X(file_bytes,     32, 64) \
    X(gguf_bytes,     40, 64) /* of the GGUF file */ \
    X(gguf_checksum,  48, 64) \
    X(table,          56, 64) /* where the table of sections begins */ \
    X(n_sections,     64, 32) \
    X(entry_bytes,    68, 32) \
    X(table_checksum, 72, 64) \
    X(checksum,      120, 64) /* of the header up to here */

typedef struct smolq__section {
    uint32_t       kind;
    uint64_t       at, n, checksum; /* n 0 where the file has none */
    const uint8_t *p;               /* [n] in the mapping or on the heap, a multiple of 8; NULL: not loaded yet */
} smolq__section;

typedef struct smolq__smq {
#define SMOLQ__FIELD(name, offset, bits) uint64_t name;
    SMOLQ__SMQ_FIELDS(SMOLQ__FIELD)
#undef SMOLQ__FIELD
    smolq__section all[SMOLQ__SMQ_MAX_SECTIONS];  /* [n_sections] as in the table, those of other builds too */
    smolq__section section[SMOLQ__SECTION_COUNT]; /* by their kinds those that this build knows */
} smolq__smq;

static smolq_result smolq__smq_damaged(smolq_error *err, const char *what, uint64_t found, uint64_t expected)
{
    return smolq__fail(err, SMOLQ_E_FORMAT, "the SMQ file is damaged: %s has the checksum %016llx, expected %016llx", what, (unsigned long long)found, (unsigned long long)expected);
}

/* The header: its own checksum first, so that what comes after is what was written. */
static smolq_result smolq__smq_header(smolq__smq *smq, const smolq__file *file, smolq_error *err)
{
    uint8_t p[SMOLQ__SMQ_HEADER];
    uint64_t sum;
    smolq_result result;
    if (file->size < sizeof p)
        return smolq__fail(err, SMOLQ_E_FORMAT, "truncated: the header of an SMQ file needs %d bytes, the file has %llu", (int)sizeof p, (unsigned long long)file->size);
    result = smolq__file_read(file, 0, p, sizeof p, err);
    if (result) return result;
#define SMOLQ__FIELD(name, offset, bits) smq->name = smolq_u##bits##_at(p + offset);
    SMOLQ__SMQ_FIELDS(SMOLQ__FIELD)
#undef SMOLQ__FIELD
    if (smq->major != SMOLQ__SMQ_MAJOR) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "SMQ version %u; this build reads 2", (unsigned)smq->major);
    sum = smolq__checksum_of(p, sizeof p - 8);
    if (sum != smq->checksum) return smolq__smq_damaged(err, "its header", sum, smq->checksum);
    if (smq->must)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "SMQ version 2.%u with the features %llx, which this build does not know", (unsigned)smq->minor, (unsigned long long)smq->must);
    if (smq->header_bytes != SMOLQ__SMQ_HEADER || smq->entry_bytes != SMOLQ__SMQ_ENTRY || smq->n_sections > SMOLQ__SMQ_MAX_SECTIONS)
        return smolq__fail(err, SMOLQ_E_FORMAT, "an SMQ header of %u bytes with %u sections of %u, expected %d, at most %d of %d", (unsigned)smq->header_bytes, (unsigned)smq->n_sections,
                           (unsigned)smq->entry_bytes, (int)SMOLQ__SMQ_HEADER, (int)SMOLQ__SMQ_MAX_SECTIONS, (int)SMOLQ__SMQ_ENTRY);
    if (smq->file_bytes != file->size)
        return smolq__fail(err, SMOLQ_E_FORMAT, "%s: the SMQ file has %llu bytes, its header says %llu", file->size < smq->file_bytes ? "truncated" : "malformed", (unsigned long long)file->size,
                           (unsigned long long)smq->file_bytes);
    return SMOLQ_OK;
}

static int smolq__in_file(const smolq__file *file, uint64_t at, uint64_t n) { return at <= file->size && n <= file->size - at; }

static int smolq__is_known(const smolq__section *section) { return section->kind > 0 && section->kind < SMOLQ__SECTION_COUNT; }

/* Entry i of the table. */
static smolq_result smolq__smq_entry(smolq__smq *smq, uint64_t i, const smolq__file *file, const uint8_t *p, smolq_error *err)
{
    smolq__section *section = &smq->all[i];
    section->kind = smolq_u32_at(p);
    section->at = smolq_u64_at(p + 8);
    section->n = smolq_u64_at(p + 16);
    section->checksum = smolq_u64_at(p + 24);
    if (section->n == 0 || section->at % SMOLQ__SMQ_ALIGNMENT || !smolq__in_file(file, section->at, section->n))
        return smolq__fail(err, SMOLQ_E_FORMAT, "section %u: %llu bytes at offset %llu are none, not aligned or not in the file of %llu", (unsigned)section->kind, (unsigned long long)section->n,
                           (unsigned long long)section->at, (unsigned long long)file->size);
    if (!smolq__is_known(section)) return SMOLQ_OK;
    if (smq->section[section->kind].n) return smolq__fail(err, SMOLQ_E_FORMAT, "section %u is there twice", (unsigned)section->kind);
    smq->section[section->kind] = *section;
    return SMOLQ_OK;
}

static smolq_result smolq__smq_table(smolq__smq *smq, const smolq__file *file, smolq_error *err)
{
    uint8_t entries[SMOLQ__SMQ_MAX_SECTIONS * SMOLQ__SMQ_ENTRY];
    uint64_t i, n = smq->n_sections * SMOLQ__SMQ_ENTRY, sum;
    smolq_result result;
    if (!smolq__in_file(file, smq->table, n))
        return smolq__fail(err, SMOLQ_E_FORMAT, "the table of sections at offset %llu is not in the file of %llu bytes", (unsigned long long)smq->table, (unsigned long long)file->size);
    result = smolq__file_read(file, smq->table, entries, n, err);
    if (result) return result;
    sum = smolq__checksum_of(entries, n);
    if (sum != smq->table_checksum) return smolq__smq_damaged(err, "its table of sections", sum, smq->table_checksum);
    for (i = 0; i < smq->n_sections && !result; i++) result = smolq__smq_entry(smq, i, file, entries + i * SMOLQ__SMQ_ENTRY, err);
    return result;
}

/* The bytes of a section, where they lie if they can be used there. */
static smolq_result smolq__smq_load(smolq__section *section, smolq__heap *heap, const smolq__file *file, const char *what, smolq_error *err)
{
    uint64_t sum;
    if (section->n == 0) return SMOLQ_OK;
    if (file->data && ((uintptr_t)file->data + (uintptr_t)section->at) % 8 == 0) section->p = file->data + (size_t)section->at;
    else {
        uint8_t *copy = (uint8_t *)smolq__alloc_raw(heap, section->n);
        smolq_result result;
        if (!copy) return smolq__fail_memory(heap, err, what);
        result = smolq__file_read(file, section->at, copy, section->n, err);
        if (result) return result;
        section->p = copy;
    }
    sum = smolq__checksum_of(section->p, section->n);
    return sum == section->checksum ? SMOLQ_OK : smolq__smq_damaged(err, what, sum, section->checksum);
}

/* Reads a file that begins with the magic; what it allocates is on the heap, which the caller closes. */
static smolq_result smolq__smq_open(smolq__smq *smq, smolq__heap *heap, const smolq__file *file, smolq_error *err)
{
    smolq_result result = smolq__smq_header(smq, file, err);
    if (!result) result = smolq__smq_table(smq, file, err);
    if (!result && smq->section[SMOLQ__SECTION_METADATA].n == 0) result = smolq__fail(err, SMOLQ_E_FORMAT, "the SMQ file has no metadata");
#define SMOLQ__SECTION_LOAD(kind, NAME, what) \
    if (!result && kind != SMOLQ__SECTION_GAPS) result = smolq__smq_load(&smq->section[kind], heap, file, what, err); /* the gaps are for unpacking */
    SMOLQ__SECTIONS(SMOLQ__SECTION_LOAD)
#undef SMOLQ__SECTION_LOAD
    return result;
}
