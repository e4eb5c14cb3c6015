/* What somebody does who makes hostile SMQ files: the checksums are right again.  Included behind smolq.h with its implementation. */
#ifndef SMOLQ_TEST_SMQ_SIGN_H
#define SMOLQ_TEST_SMQ_SIGN_H

/* Checksums of sections, tensors, table and header, as far as what they speak of is in the file; its size. */
static void smq_sign(uint8_t *p, size_t n)
{
    uint64_t table, n_sections, i;
    if (n < SMOLQ__SMQ_HEADER) return;
    smolq__put_u64(p + 32, n);
    table = smolq_u64_at(p + 56);
    n_sections = smolq_u32_at(p + 64);
    if (table <= n && n_sections <= (n - table) / SMOLQ__SMQ_ENTRY) {
        for (i = 0; i < n_sections; i++) {
            uint8_t *entry = p + table + i * SMOLQ__SMQ_ENTRY;
            uint64_t at = smolq_u64_at(entry + 8), bytes = smolq_u64_at(entry + 16), k;
            if (at > n || bytes > n - at) continue;
            for (k = 0; smolq_u32_at(entry) == SMOLQ__SECTION_TENSORS && k < bytes / SMOLQ__SMQ_RECORD; k++) {
                uint8_t *record = p + at + k * SMOLQ__SMQ_RECORD;
                uint64_t data = smolq_u64_at(record), data_bytes = smolq_u64_at(record + 8);
                if (data <= n && data_bytes <= n - data) smolq__put_u64(record + 16, smolq__checksum_of(p + data, data_bytes));
            }
            smolq__put_u64(entry + 24, smolq__checksum_of(p + at, bytes));
        }
        smolq__put_u64(p + 72, smolq__checksum_of(p + table, n_sections * SMOLQ__SMQ_ENTRY));
    }
    smolq__put_u64(p + 120, smolq__checksum_of(p, SMOLQ__SMQ_HEADER - 8));
}

/* Where the entry of a section stands; 0 if there is none. */
static uint64_t smq_entry(const uint8_t *p, uint32_t kind)
{
    uint64_t table = smolq_u64_at(p + 56), i;
    for (i = 0; i < smolq_u32_at(p + 64); i++)
        if (smolq_u32_at(p + table + i * SMOLQ__SMQ_ENTRY) == kind) return table + i * SMOLQ__SMQ_ENTRY;
    return 0;
}

/* Where a section begins; 0 if there is none. */
static uint64_t smq_section(const uint8_t *p, uint32_t kind)
{
    uint64_t entry = smq_entry(p, kind);
    return entry ? smolq_u64_at(p + entry + 8) : 0;
}

/* Where in the section VOCAB a table begins: spans, kinds, scores, slots, merges, slots of merges. */
static uint64_t smq_table(const uint8_t *vocab, int which)
{
    uint64_t n = smolq_u32_at(vocab + 4), at = SMOLQ__TABLES_HEAD;
    uint64_t bytes[6];
    int i;
    bytes[0] = n * 8;
    bytes[1] = n;
    bytes[2] = smolq_u32_at(vocab + 12) & 1 ? n * 4 : 0;
    bytes[3] = (uint64_t)smolq_u32_at(vocab + 16) * 8;
    bytes[4] = (uint64_t)smolq_u32_at(vocab + 8) * 12;
    bytes[5] = (uint64_t)smolq_u32_at(vocab + 20) * 8;
    for (i = 0; i < which; i++) at = (at + bytes[i] + 63) & ~(uint64_t)63;
    return at;
}

/* A place to change something, eight bytes of it in the file: the header, the table, or somewhere in a section, most of all where it begins. */
static uint64_t smq_interesting(const uint8_t *p, size_t n, uint64_t random)
{
    uint64_t which = random % 8, at, length, table = smolq_u64_at(p + 56), entry = table + (random >> 8) % (smolq_u32_at(p + 64) ? smolq_u32_at(p + 64) : 1) * SMOLQ__SMQ_ENTRY;
    if (which == 0) at = 8 + (random >> 16) % 112;
    else if (which == 1) at = table + (random >> 16) % ((uint64_t)smolq_u32_at(p + 64) * SMOLQ__SMQ_ENTRY + 1);
    else if (table > n || entry + SMOLQ__SMQ_ENTRY > n) at = (random >> 16) % n;
    else {
        length = smolq_u64_at(p + entry + 16);
        at = smolq_u64_at(p + entry + 8) + (random >> 16) % ((which < 4 && length > 128 ? 128 : length) + 1);
    }
    return at < n - 8 ? at : (random >> 16) % (n - 8);
}
#endif
