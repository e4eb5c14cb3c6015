/* ==== vocab.c: the tables of a tokenizer ============================================================================
 * The texts of all tokens, which of them a text is, what each is good for, and for byte-level BPE which pairs merge: from the metadata of a file, or ready to
 * use from an SMQ file, where the tables stand as they are here.
 *
 * All strings stay in the file's mapping.  For SmolLM3 (128256 tokens, 280147 merges) the tables are 10 MB. */
#pragma once
#include "gguf.c"
#include "pretok.c"

/* A token's type in the low bits, and what else is known about it. */
enum { SMOLQ__KIND_TYPE = 7, SMOLQ__KIND_EOG = 8, SMOLQ__KIND_RSTRIP = 16, SMOLQ__KIND_COPY = 32 }; /* COPY: a token before it has the same text */

typedef struct smolq__span { uint32_t at, n; } smolq__span; /* bytes of a text */
typedef struct smolq__merge { uint32_t left, right, merged; } smolq__merge; /* token ids; the place in the list is the rank */

struct smolq_vocab {
    smolq__heap       heap;       /* of a vocabulary that smolq_vocab_open made; a model's has its tables on the model's heap */
    smolq_gguf       *gguf;       /* owned by such a vocabulary, else NULL */
    smolq_allocator   allocator;  /* for the work memory of smolq_tokenize */
    smolq_vocab_facts facts;
    int32_t           n_vocab, byte_level;
    int32_t           trims;      /* remove_extra_whitespaces */
    const smolq__pretok *pre;     /* NULL for SentencePiece */
    const uint8_t    *bytes;      /* of the array of tokens in the file */
    smolq__span      *spans;      /* [n_vocab] where in them each text stands; from here to merge_slots: once open never written, as a mapping may hold them */
    uint8_t          *kinds;      /* [n_vocab] */
    float            *scores;     /* [n_vocab] or NULL */
    smolq__index      index;      /* text to id; of equal texts the first */
    uint32_t          byte_ids[256]; /* token of a single byte, SMOLQ__NONE where there is none */
    smolq__merge     *merges;     /* [n_merges] */
    smolq__slot      *merge_slots; /* [merge_mask + 1] pair to rank */
    uint32_t          n_merges, merge_mask;
    uint64_t          merge_seed;
    uint32_t         *specials;   /* ids of special tokens, sorted by text */
    uint32_t          special_first[257]; /* where those that begin with a byte start */
};

static int32_t smolq__kind_type(const smolq_vocab *v, uint32_t id) { return v->kinds[id] & SMOLQ__KIND_TYPE; }

/* A token's text, as it stands in the file. */
static smolq__text smolq__text_of(const smolq_vocab *v, uint32_t id)
{
    smolq__text text;
    text.p = (const char *)v->bytes + v->spans[id].at;
    text.n = v->spans[id].n;
    return text;
}
static smolq__text smolq__index_text(const void *table, uint32_t id) { return smolq__text_of((const smolq_vocab *)table, id); }

/* ---- the byte alphabet of GPT-2 ----
 * Each byte has a visible character: ! to ~, the Latin-1 letters and signs stand for themselves, the other 68 are moved up to U+0100..U+0143. */

static uint32_t smolq__byte_to_char(uint32_t b) { return b < 0x21 ? 0x100 + b : b >= 0x7f && b <= 0xa0 ? 0x121 + (b - 0x7f) : b == 0xad ? 0x143 : b; }

/* The byte that a character stands for, or 256. */
static uint32_t smolq__char_to_byte(uint32_t c)
{
    if (c >= 0x100) return c <= 0x120 ? c - 0x100 : c <= 0x142 ? c - 0x121 + 0x7f : c == 0x143 ? 0xad : 256;
    return smolq__byte_to_char(c) == c ? c : 256;
}

/* Writes the character of a byte: 1 or 2 bytes of UTF-8. */
static size_t smolq__put_byte_char(uint32_t b, uint8_t *dst)
{
    uint32_t c = smolq__byte_to_char(b);
    if (c < 0x80) {
        dst[0] = (uint8_t)c;
        return 1;
    }
    dst[0] = (uint8_t)(0xc0 | c >> 6);
    dst[1] = (uint8_t)(0x80 | (c & 0x3f));
    return 2;
}

/* ---- loading ---- */

#define SMOLQ__KEY(name) "tokenizer.ggml." name
enum { SMOLQ__LONGEST_RUN = 1024 }; /* of full slots, where a file chooses the seed: what it could aim at ends there */
enum { SMOLQ__TOKEN_BYTES_MAX = 1 << 20, SMOLQ__SPECIAL_BYTES_MAX = 255, SMOLQ__AT_A_TIME = 32 };

static void smolq__warn(const smolq_open_options *options, const char *text)
{
    if (options->log) (options->log)(options->user, SMOLQ_LOG_WARNING, text);
}

/* The next string of an array of strings; 0 behind the last. */
static int smolq__next_text(const smolq_value *array, uint64_t *at, smolq__text *text)
{
    uint64_t n;
    if (array->data_bytes - *at < 8) return 0;
    n = smolq_u64_at(array->data + *at);
    if (n > array->data_bytes - *at - 8) return 0;
    text->p = (const char *)array->data + *at + 8;
    text->n = (size_t)n;
    *at += 8 + n;
    return 1;
}

/* An array that goes with the tokens: found, numbers, at least one for each token. */
static int smolq__get_numbers(const smolq_gguf *gguf, const char *key, int32_t n_vocab, smolq_value *array, smolq_error *err)
{
    smolq__place found;
    int has = smolq__get_array(gguf, key, array, err);
    if (has <= 0) return has;
    if (array->element_type == SMOLQ_GGUF_STRING || array->element_type == SMOLQ_GGUF_ARRAY || array->element_type == SMOLQ_GGUF_BOOL || array->n < (uint64_t)n_vocab) {
        smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an array of %d numbers, one for each token, found %s", key, (int)n_vocab, smolq__describe(&found, array));
        return -1;
    }
    return 1;
}

/* The array of tokens: found, strings, not too many; sets n_vocab and bytes. */
static smolq_result smolq__find_tokens(smolq_vocab *v, const smolq_gguf *gguf, const smolq_open_options *options, smolq_value *array, smolq_error *err)
{
    const char *key = SMOLQ__KEY("tokens");
    uint64_t limit = options->limits.n_vocab ? options->limits.n_vocab : 1u << 24;
    smolq__place found;
    int has = smolq__get_array(gguf, key, array, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (!has) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s' (required by every tokenizer)", key);
    if (array->element_type != SMOLQ_GGUF_STRING || array->n == 0)
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an array of strings, found %s", key, smolq__describe(&found, array));
    if (array->n > limit || array->n > INT32_MAX)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': %llu tokens, at most %llu are allowed (limits.n_vocab)", key, (unsigned long long)array->n, (unsigned long long)limit);
    if (array->data_bytes > UINT32_MAX)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': %llu bytes of text, at most 2^32-1 are allowed", key, (unsigned long long)array->data_bytes);
    v->n_vocab = (int32_t)array->n;
    v->bytes = array->data;
    return SMOLQ_OK;
}

/* tokens: texts and index; seed 0: one of this process */
static smolq_result smolq__load_tokens(smolq_vocab *v, smolq__heap *heap, const smolq_gguf *gguf, const smolq_open_options *options, uint64_t seed, smolq_error *err)
{
    const char *key = SMOLQ__KEY("tokens");
    uint64_t at = 0;
    smolq_value array;
    int32_t first, n, i;
    uint32_t hash[SMOLQ__AT_A_TIME];
    smolq_result result = smolq__find_tokens(v, gguf, options, &array, err);
    if (result) return result;
    v->spans = (smolq__span *)smolq__alloc(heap, array.n * sizeof *v->spans);
    v->kinds = (uint8_t *)smolq__alloc(heap, array.n);
    if (!v->spans || !v->kinds || !smolq__index_open(&v->index, heap, (uint32_t)array.n, smolq__index_text, v)) return smolq__fail_memory(heap, err, "the vocabulary");
    if (seed) {
        v->index.seed = seed;
        v->index.limit = SMOLQ__LONGEST_RUN;
    }
    for (first = 0; first < v->n_vocab; first += n) { /* so many at a time, whose slots are on their way together */
        n = v->n_vocab - first < SMOLQ__AT_A_TIME ? v->n_vocab - first : (int32_t)SMOLQ__AT_A_TIME;
        for (i = 0; i < n; i++) {
            smolq__text text;
            if (!smolq__next_text(&array, &at, &text)) return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': the array ends in token %d of %d", key, (int)(first + i), (int)v->n_vocab);
            if (text.n > SMOLQ__TOKEN_BYTES_MAX)
                return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': token %d has %llu bytes, expected at most %d", key, (int)(first + i), (unsigned long long)text.n,
                                   (int)SMOLQ__TOKEN_BYTES_MAX);
            v->spans[first + i].at = (uint32_t)(at - text.n);
            v->spans[first + i].n = (uint32_t)text.n;
            if ((int32_t)text.n > v->facts.max_token_bytes) v->facts.max_token_bytes = (int32_t)text.n;
            hash[i] = smolq__hash(v->index.seed, text);
            SMOLQ__FETCH(&v->index.slots[hash[i] & v->index.mask]);
        }
        for (i = 0; i < n; i++) {
            uint32_t had = v->spans[first + i].n ? smolq__index_add_hashed(&v->index, (uint32_t)(first + i), hash[i]) : SMOLQ__NONE;
            if (had == SMOLQ__FULL) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': more than %d tokens in a row of the index", key, (int)SMOLQ__LONGEST_RUN);
            v->kinds[first + i] = SMOLQ_TOKEN_NORMAL;
            if (had != SMOLQ__NONE) v->kinds[first + i] |= SMOLQ__KIND_COPY;
        }
    }
    return SMOLQ_OK;
}

/* token_type and scores */
static smolq_result smolq__load_kinds(smolq_vocab *v, smolq__heap *heap, const smolq_gguf *gguf, const smolq_open_options *options, int *typed, smolq_error *err)
{
    smolq_value array, number;
    smolq__place found;
    uint64_t cursor = 0;
    int32_t i;
    *typed = smolq__get_numbers(gguf, SMOLQ__KEY("token_type"), v->n_vocab, &array, err);
    if (*typed < 0) return SMOLQ_E_FORMAT;
    if (*typed && (array.element_type == SMOLQ_GGUF_F32 || array.element_type == SMOLQ_GGUF_F64))
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an array of integers, found %s", SMOLQ__KEY("token_type"), smolq__describe(&found, &array));
    for (i = 0; *typed && i < v->n_vocab; i++) {
        smolq_result result = smolq_gguf_element(&array, (uint64_t)i, &cursor, &number, err);
        if (result) return result;
        if (number.i > SMOLQ_TOKEN_NORMAL && number.i <= SMOLQ_TOKEN_BYTE) /* any other number is a normal token */
            v->kinds[i] = (uint8_t)((v->kinds[i] & ~SMOLQ__KIND_TYPE) | (int)number.i);
    }
    if (v->byte_level) return SMOLQ_OK; /* scores are not used */
    i = smolq__get_numbers(gguf, SMOLQ__KEY("scores"), v->n_vocab, &array, err);
    if (i < 0) return SMOLQ_E_FORMAT;
    if (!i) {
        smolq__warn(options, "missing key 'tokenizer.ggml.scores': pairs are merged from left to right");
        return SMOLQ_OK;
    }
    v->scores = (float *)smolq__alloc(heap, (uint64_t)v->n_vocab * sizeof *v->scores);
    if (!v->scores) return smolq__fail_memory(heap, err, "the vocabulary");
    for (cursor = 0, i = 0; i < v->n_vocab; i++) {
        smolq_result result = smolq_gguf_element(&array, (uint64_t)i, &cursor, &number, err);
        if (result) return result;
        if (number.f != number.f) return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': element %d is NaN, expected a number", SMOLQ__KEY("scores"), (int)i);
        v->scores[i] = number.f == 0 ? 0.0f : (float)number.f; /* -0 ranks as 0 */
    }
    return SMOLQ_OK;
}

static uint32_t smolq__merge_hash(const smolq_vocab *v, uint32_t left, uint32_t right)
{
    uint64_t h = (v->merge_seed ^ ((uint64_t)left << 32 | right)) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    return (uint32_t)(h >> 32);
}

/* The slot of a pair, or the empty one where it would go; NULL when the index's limit is reached. */
static smolq__slot *smolq__merge_slot(const smolq_vocab *v, uint32_t left, uint32_t right, uint32_t hash)
{
    uint32_t i = hash & v->merge_mask, to_go;
    for (to_go = v->index.limit; to_go > 0; to_go--, i = (i + 1) & v->merge_mask) {
        smolq__slot *slot = &v->merge_slots[i];
        if (slot->id == SMOLQ__NONE || (slot->hash == hash && v->merges[slot->id].left == left && v->merges[slot->id].right == right)) return slot;
    }
    return NULL;
}

/* The rank of a pair, or SMOLQ__NONE. */
static uint32_t smolq__merge_rank(const smolq_vocab *v, uint32_t left, uint32_t right)
{
    const smolq__slot *slot = smolq__merge_slot(v, left, right, smolq__merge_hash(v, left, right));
    return slot ? slot->id : SMOLQ__NONE;
}

/* Whether id is what the index has for this text. */
static int smolq__is_text(const smolq_vocab *v, uint32_t id, const uint8_t *p, size_t n)
{
    return v->spans[id].n == n && memcmp(v->bytes + v->spans[id].at, p, n) == 0 && !(v->kinds[id] & SMOLQ__KIND_COPY);
}

/* A line of the merges on its way: first only text, then ids. */
typedef struct smolq__pending {
    smolq__text   left, right;
    uint32_t      hash_left, hash_right, hash;
    smolq__merge  merge;
    int           usable;
} smolq__pending;

static smolq_result smolq__take_merge(const smolq_vocab *v, const smolq_value *array, uint64_t i, uint64_t *at, smolq__pending *p, smolq_error *err)
{
    const char *key = SMOLQ__KEY("merges");
    smolq__text text;
    if (!smolq__next_text(array, at, &text)) return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': the array ends in merge %llu of %llu", key, (unsigned long long)i, (unsigned long long)array->n);
    p->left.p = text.p;
    p->right.p = text.n < 3 ? NULL : (const char *)memchr(text.p + 1, ' ', text.n - 2);
    if (!p->right.p) {
        smolq__quoted quoted;
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': merge %llu is '%s', expected two parts and a space between them", key, (unsigned long long)i, smolq__quote(&quoted, text.p, text.n));
    }
    p->left.n = (size_t)(p->right.p++ - p->left.p);
    p->right.n = text.n - p->left.n - 1;
    p->hash_left = smolq__hash(v->index.seed, p->left);
    p->hash_right = smolq__hash(v->index.seed, p->right);
    SMOLQ__FETCH(&v->index.slots[p->hash_left & v->index.mask]);
    SMOLQ__FETCH(&v->index.slots[p->hash_right & v->index.mask]);
    return SMOLQ_OK;
}

/* Asks for what the look-up of a hash will look at next: the place of the text, or when that is there the text. */
static void smolq__fetch_text(const smolq_vocab *v, uint32_t hash, int is_placed)
{
    uint32_t id = v->index.slots[hash & v->index.mask].id;
    if (id == SMOLQ__NONE) return;
    if (is_placed) SMOLQ__FETCH(v->bytes + v->spans[id].at);
    else SMOLQ__FETCH(&v->spans[id]);
}

/* The ids of both parts and of what they become.  A merge whose parts or result are no tokens can't be used and is left out. */
static void smolq__find_merge(const smolq_vocab *v, uint8_t *both, uint32_t *before, smolq__pending *p)
{
    smolq__merge *m = &p->merge;
    size_t n = p->left.n + p->right.n;
    p->usable = 0;
    if (n > (size_t)v->facts.max_token_bytes) return;
    memcpy(both, p->left.p, p->left.n);
    memcpy(both + p->left.n, p->right.p, p->right.n);
    m->merged = *before; /* files often list all pairs that make a token, then those of the next: so try these two before the look-up */
    if (!smolq__is_text(v, m->merged, both, n)) m->merged = *before + 1 < (uint32_t)v->n_vocab ? *before + 1 : 0;
    if (!smolq__is_text(v, m->merged, both, n)) m->merged = smolq__index_find(&v->index, (const char *)both, n);
    if (m->merged == SMOLQ__NONE) return;
    *before = m->merged;
    m->left = smolq__index_find_hashed(&v->index, p->left, p->hash_left);
    m->right = smolq__index_find_hashed(&v->index, p->right, p->hash_right);
    if (m->left == SMOLQ__NONE || m->right == SMOLQ__NONE || smolq__kind_type(v, m->merged) == SMOLQ_TOKEN_CONTROL) return;
    p->hash = smolq__merge_hash(v, m->left, m->right);
    SMOLQ__FETCH(&v->merge_slots[p->hash & v->merge_mask]);
    p->usable = 1;
}

/* merges: "left right" in the order of rank.  Look-ups wait for memory, so that the steps are taken for some merges together: while one waits, the others'
 * memory is on its way. */
static smolq_result smolq__load_merges(smolq_vocab *v, smolq__heap *heap, const smolq_gguf *gguf, smolq_error *err)
{
    const char *key = SMOLQ__KEY("merges");
    smolq__pending pending[SMOLQ__AT_A_TIME];
    smolq_value array;
    smolq__place found;
    uint64_t at = 0, first, n, i, n_slots = 16;
    uint32_t before = 0;
    uint8_t *both;
    int has = smolq__get_array(gguf, key, &array, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (!has) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s' (required by tokenizer.ggml.model gpt2)", key);
    if (array.element_type != SMOLQ_GGUF_STRING && array.n > 0)
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an array of strings, found %s", key, smolq__describe(&found, &array));
    if (array.n > 1u << 28) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': %llu merges, at most %u are allowed", key, (unsigned long long)array.n, 1u << 28);
    while (n_slots * 3 / 4 < array.n) n_slots *= 2;
    v->merges = (smolq__merge *)smolq__alloc(heap, array.n * sizeof *v->merges);
    v->merge_slots = (smolq__slot *)smolq__alloc(heap, n_slots * sizeof *v->merge_slots);
    both = (uint8_t *)smolq__alloc(heap, (uint64_t)v->facts.max_token_bytes);
    if (!v->merges || !v->merge_slots || !both) return smolq__fail_memory(heap, err, "the merges");
    memset(v->merge_slots, 0xff, (size_t)n_slots * sizeof *v->merge_slots);
    v->merge_mask = (uint32_t)(n_slots - 1);
    v->merge_seed = v->index.seed;
    for (first = 0; first < array.n; first += n) {
        n = array.n - first < SMOLQ__AT_A_TIME ? array.n - first : (uint64_t)SMOLQ__AT_A_TIME;
        for (i = 0; i < n; i++) {
            smolq_result result = smolq__take_merge(v, &array, first + i, &at, &pending[i], err);
            if (result) return result;
        }
        for (i = 0; i < 2 * n; i++) {
            smolq__fetch_text(v, pending[i % n].hash_left, i >= n);
            smolq__fetch_text(v, pending[i % n].hash_right, i >= n);
        }
        for (i = 0; i < n; i++) smolq__find_merge(v, both, &before, &pending[i]);
        for (i = 0; i < n; i++) {
            smolq__slot *slot;
            if (!pending[i].usable) continue;
            slot = smolq__merge_slot(v, pending[i].merge.left, pending[i].merge.right, pending[i].hash);
            if (!slot) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': more than %d merges in a row of their slots", key, (int)SMOLQ__LONGEST_RUN);
            if (slot->id != SMOLQ__NONE) continue; /* listed before, with a better rank */
            slot->hash = pending[i].hash;
            slot->id = v->n_merges;
            v->merges[v->n_merges++] = pending[i].merge;
        }
    }
    smolq__free(heap, both);
    return SMOLQ_OK;
}

/* The token of each byte: its character of the alphabet, or "<0xHH>" (SentencePiece), or the byte itself. */
static void smolq__load_bytes(smolq_vocab *v)
{
    uint32_t b;
    for (b = 0; b < 256; b++) {
        char text[8];
        if (v->byte_level) v->byte_ids[b] = smolq__index_find(&v->index, text, smolq__put_byte_char(b, (uint8_t *)text));
        else {
            snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
            v->byte_ids[b] = smolq__index_find(&v->index, text, 6);
            text[0] = (char)(uint8_t)b;
            if (v->byte_ids[b] == SMOLQ__NONE) v->byte_ids[b] = smolq__index_find(&v->index, text, 1);
        }
    }
}

/*    field  key                     what an id outside the vocabulary is: 1 an error, 0 ignored with a warning (padding is often written so) */
#define SMOLQ__SPECIAL_KEYS(X) \
    X(bos, "bos_token_id",       1) \
    X(eos, "eos_token_id",       1) \
    X(eot, "eot_token_id",       1) \
    X(eom, "eom_token_id",       1) \
    X(unk, "unknown_token_id",   1) \
    X(sep, "seperator_token_id", 1) \
    X(pad, "padding_token_id",   0)

/* A token id under a key; -1, 2^32-1 and an absent key with no default in range mean none. */
static smolq_result smolq__load_special(smolq_vocab *v, const smolq_gguf *gguf, const smolq_open_options *options, const char *key, int strict, int32_t *id, smolq_error *err)
{
    int64_t found = -1;
    int has = smolq__get_int(gguf, key, INT32_MIN, UINT32_MAX, &found, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (!has) {
        if (*id >= v->n_vocab) *id = -1;
    } else if (found == -1 || found == UINT32_MAX) {
        *id = -1;
    } else if (found >= 0 && found < v->n_vocab) {
        *id = (int32_t)found;
    } else if (strict) {
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': token %lld, expected one below %d", key, (long long)found, (int)v->n_vocab);
    } else {
        char text[128];
        snprintf(text, sizeof text, "key '%s': token %lld is not below %d and is ignored", key, (long long)found, (int)v->n_vocab);
        smolq__warn(options, text);
        *id = -1;
    }
    return SMOLQ_OK;
}

/* Tokens that end a generation in the common chat formats and, last, in code completion.  eot: may be the end of turn where the file names none; the first
 * in this order that the vocabulary has. */
#define SMOLQ__DEEPSEEK_END "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"
/*    text                  eot */
#define SMOLQ__ENDS(X) \
    X("<|eot_id|>",          1) X("<|im_end|>",      1) X("<|end|>",         1) X("<end_of_turn>", 1) X("<|endoftext|>", 1) \
    X("<|end_of_text|>",     1) X("<EOT>",           1) X("_<EOT>",          1) X("[EOT]",         1) X(SMOLQ__DEEPSEEK_END, 1) \
    X("<end_of_utterance>",  1) X("<|eom_id|>",      0) X("<|return|>",      0) X("<|call|>",      0) X("<|calls|>",     0) \
    X("<|flush|>",           0) X("</s>",            0) X("[EOS]",           0) X("<eos>",         0) X("<turn|>",       0) \
    X("<|tool_response>",    0) X("[e~[",            0) X("<|fim_pad|>",     0) X("<fim-pad>",     0) X("<fim_pad>",     0) \
    X("<|fim_repo|>",        0) X("<|repo_name|>",   0) X("<fim-repo>",      0) X("<reponame>",    0) X("<|file_sep|>",  0)

/* The id of a text if it ends a generation, or SMOLQ__NONE. */
static uint32_t smolq__find_end(const smolq_vocab *v, const char *text)
{
    uint32_t id = smolq__index_find(&v->index, text, strlen(text));
    return id != SMOLQ__NONE && (v->kinds[id] & SMOLQ__KIND_EOG) ? id : SMOLQ__NONE;
}

/* typed: the file has token types.  Then only a control or user token ends a generation, and a user token that does is a control token: else text from
 * users could end a turn. */
static void smolq__load_ends(smolq_vocab *v, int typed)
{
    static const struct { const char *text; int32_t eot; } ends[] = {
#define SMOLQ__END_ROW(text, eot) { text, eot },
        SMOLQ__ENDS(SMOLQ__END_ROW)
#undef SMOLQ__END_ROW
    };
    const size_t n = sizeof ends / sizeof *ends;
    uint32_t id, end;
    size_t i;
    for (i = 0; i < n; i++) {
        id = smolq__index_find(&v->index, ends[i].text, strlen(ends[i].text));
        if (id == SMOLQ__NONE) continue;
        if (!typed || smolq__kind_type(v, id) == SMOLQ_TOKEN_CONTROL || smolq__kind_type(v, id) == SMOLQ_TOKEN_USER) v->kinds[id] = SMOLQ_TOKEN_CONTROL | SMOLQ__KIND_EOG;
    }
    /* In gpt-oss (return, call) and Solar (flush, calls) <|end|> parts messages of one turn; beside <|tool_response> </s> is an ordinary token. */
    end = smolq__find_end(v, "<|end|>");
    if (end != SMOLQ__NONE && ((smolq__find_end(v, "<|return|>") != SMOLQ__NONE && smolq__find_end(v, "<|call|>") != SMOLQ__NONE) ||
                               (smolq__find_end(v, "<|flush|>") != SMOLQ__NONE && smolq__find_end(v, "<|calls|>") != SMOLQ__NONE)))
        v->kinds[end] = SMOLQ_TOKEN_CONTROL;
    end = smolq__find_end(v, "</s>");
    if (end != SMOLQ__NONE && smolq__find_end(v, "<|tool_response>") != SMOLQ__NONE) v->kinds[end] = SMOLQ_TOKEN_CONTROL;
    for (i = 0; i < n && v->facts.eot < 0; i++) {
        id = ends[i].eot ? smolq__find_end(v, ends[i].text) : SMOLQ__NONE;
        if (id != SMOLQ__NONE) v->facts.eot = (int32_t)id;
    }
    id = smolq__find_end(v, "<|eom_id|>");
    if (v->facts.eom < 0 && id != SMOLQ__NONE) v->facts.eom = (int32_t)id;
    if (v->facts.eos >= 0) v->kinds[v->facts.eos] |= SMOLQ__KIND_EOG;
    if (v->facts.eot >= 0) v->kinds[v->facts.eot] |= SMOLQ__KIND_EOG;
    if (v->facts.eom >= 0) v->kinds[v->facts.eom] |= SMOLQ__KIND_EOG;
}

/* Order of special tokens: by bytes, a shorter one before those that begin with it. */
static int smolq__special_before(const smolq_vocab *v, uint32_t a, uint32_t b)
{
    smolq__text x = smolq__text_of(v, a), y = smolq__text_of(v, b);
    int order = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return order != 0 ? order < 0 : x.n < y.n;
}

static void smolq__special_sift(smolq_vocab *v, uint32_t root, uint32_t n)
{
    uint32_t *heap = v->specials, id = heap[root], child;
    for (; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && smolq__special_before(v, heap[child], heap[child + 1])) child++;
        if (!smolq__special_before(v, id, heap[child])) break;
        heap[root] = heap[child];
    }
    heap[root] = id;
}

static int smolq__is_special(const smolq_vocab *v, uint32_t id)
{
    int32_t type = smolq__kind_type(v, id);
    return (type == SMOLQ_TOKEN_CONTROL || type == SMOLQ_TOKEN_USER || type == SMOLQ_TOKEN_UNKNOWN) && v->spans[id].n > 0 && v->spans[id].n <= SMOLQ__SPECIAL_BYTES_MAX && !(v->kinds[id] & SMOLQ__KIND_COPY);
}

/* The sorted list of what is looked for in text.  Longer tokens than 255 bytes are not: that bounds the work at each place. */
static smolq_result smolq__load_specials(smolq_vocab *v, smolq__heap *heap, smolq_error *err)
{
    uint32_t id, n = 0, i, b;
    for (id = 0; id < (uint32_t)v->n_vocab; id++) n += (uint32_t)smolq__is_special(v, id);
    v->specials = (uint32_t *)smolq__alloc(heap, (uint64_t)n * sizeof *v->specials);
    if (!v->specials) return smolq__fail_memory(heap, err, "the vocabulary");
    for (id = 0, n = 0; id < (uint32_t)v->n_vocab; id++)
        if (smolq__is_special(v, id)) v->specials[n++] = id;
    for (i = n / 2; i-- > 0;) smolq__special_sift(v, i, n);
    for (i = n; i > 1; i--) {
        id = v->specials[0];
        v->specials[0] = v->specials[i - 1];
        v->specials[i - 1] = id;
        smolq__special_sift(v, 0, i - 1);
    }
    for (i = 0, b = 0; i < n; i++) { /* two with one text, which only the tables of an SMQ file can say, are one: looking for them relies on that */
        smolq__text text = smolq__text_of(v, v->specials[i]), before = smolq__text_of(v, v->specials[b > 0 ? b - 1 : 0]);
        if (b > 0 && text.n == before.n && memcmp(text.p, before.p, text.n) == 0) {
            if (v->specials[i] < v->specials[b - 1]) v->specials[b - 1] = v->specials[i];
        } else {
            v->specials[b++] = v->specials[i];
        }
    }
    n = b;
    for (i = 0, b = 0; b < 257; b++) {
        while (i < n && (uint8_t)smolq__text_of(v, v->specials[i]).p[0] < b) i++;
        v->special_first[b] = i;
    }
    return SMOLQ_OK;
}

/* Phi-3's special tokens swallow the spaces after them; no key says so, only the model's name. */
static smolq_result smolq__load_phi3(smolq_vocab *v, const smolq_gguf *gguf, smolq_error *err)
{
    smolq__text name;
    size_t i, k;
    uint32_t id;
    int has = smolq__get_text(gguf, "general.name", &name, err), is_phi3 = 0;
    if (has <= 0) return has < 0 ? SMOLQ_E_FORMAT : SMOLQ_OK;
    for (i = 0; i + 4 <= name.n; i++)
        for (k = 0; k < 2; k++) {
            const char *mark = k ? "phi-3" : "phi3";
            size_t j = 0;
            while (mark[j] && i + j < name.n && ((uint8_t)name.p[i + j] | 0x20) == (mark[j] | 0x20)) j++;
            is_phi3 |= mark[j] == 0;
        }
    if (!is_phi3) return SMOLQ_OK;
    for (id = 0; id < (uint32_t)v->n_vocab; id++)
        if (smolq__is_special(v, id) && !smolq__text_is(smolq__text_of(v, id), "<unk>") && !smolq__text_is(smolq__text_of(v, id), "<s>") && !smolq__text_is(smolq__text_of(v, id), "<|endoftext|>"))
            v->kinds[id] |= SMOLQ__KIND_RSTRIP;
    return SMOLQ_OK;
}

/* tokenizer.ggml.model and .pre */
static smolq_result smolq__load_model_name(smolq_vocab *v, const smolq_gguf *gguf, const smolq_open_options *options, smolq_error *err)
{
    smolq__text model, pre;
    smolq__quoted quoted;
    int has = smolq__get_text(gguf, SMOLQ__KEY("model"), &model, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (!has) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s': the file has no tokenizer", SMOLQ__KEY("model"));
    v->byte_level = smolq__text_is(model, "gpt2");
    if (!v->byte_level && !smolq__text_is(model, "llama"))
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': '%s' is not supported, expected 'llama' or 'gpt2'", SMOLQ__KEY("model"), smolq__quote(&quoted, model.p, model.n));
    v->facts.model = v->byte_level ? "gpt2" : "llama";
    v->facts.pre = "default";
    if (!v->byte_level) return SMOLQ_OK;
    has = smolq__get_text(gguf, SMOLQ__KEY("pre"), &pre, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (!has) {
        smolq__warn(options, "missing key 'tokenizer.ggml.pre': text is split as 'default', which may not be what the model was trained with");
        pre.p = "default";
        pre.n = 7;
    }
    v->pre = smolq__pretok_find(pre);
    if (!v->pre) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': the pre-tokenizer '%s' is not known to this build", SMOLQ__KEY("pre"), smolq__quote(&quoted, pre.p, pre.n));
    v->facts.pre = v->pre->name;
    return SMOLQ_OK;
}

static smolq_result smolq__load_facts(smolq_vocab *v, const smolq_gguf *gguf, const smolq_open_options *options, smolq_error *err)
{
    smolq_vocab_facts *f = &v->facts;
    smolq__text chat;
    smolq_result result;
    int has;
    f->bos = f->eos = f->eot = f->eom = f->unk = f->sep = f->pad = -1;
    if (!v->byte_level) { /* SentencePiece's own order, for files that don't say */
        f->unk = 0;
        f->bos = 1;
        f->eos = 2;
    }
#define SMOLQ__LOAD_SPECIAL(field, key, strict) \
    result = smolq__load_special(v, gguf, options, SMOLQ__KEY(key), strict, &f->field, err); \
    if (result) return result;
    SMOLQ__SPECIAL_KEYS(SMOLQ__LOAD_SPECIAL)
#undef SMOLQ__LOAD_SPECIAL
    f->adds_bos = v->byte_level ? v->pre->bos : 1;
    f->adds_space = !v->byte_level;
    if (smolq__get_bool(gguf, SMOLQ__KEY("add_bos_token"), &f->adds_bos, err) < 0) return SMOLQ_E_FORMAT;
    if (smolq__get_bool(gguf, SMOLQ__KEY("add_eos_token"), &f->adds_eos, err) < 0) return SMOLQ_E_FORMAT;
    if (smolq__get_bool(gguf, SMOLQ__KEY("add_space_prefix"), &f->adds_space, err) < 0) return SMOLQ_E_FORMAT;
    if (smolq__get_bool(gguf, SMOLQ__KEY("remove_extra_whitespaces"), &v->trims, err) < 0) return SMOLQ_E_FORMAT;
    if (v->byte_level) f->adds_space = 0;
    has = smolq__get_text(gguf, "tokenizer.chat_template", &chat, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (has) {
        f->chat_template = chat.p;
        f->chat_template_bytes = chat.n;
    }
    return SMOLQ_OK;
}

/* ---- tables ready to use ----
 * The section VOCAB of an SMQ file (docs/smq.md) has the large tables as they are here: a head of numbers, then each table at the next multiple of 64.  What is cheap to
 * make is not in it: the special tokens, the bytes, the facts.
 *
 * The tables are checked for what the code here relies on: every text within the array, every id within its table, runs of full slots that end soon.  That they say the
 * same as the metadata only smolq_smq_verify finds out. */

enum { SMOLQ__TABLES_VERSION = 1, SMOLQ__TABLES_HEAD = 64, SMOLQ__TABLES_SCORES = 1 };

/*    field      offset bits, of the head */
#define SMOLQ__TABLES_FIELDS(X) \
    X(version,   0, 32) \
    X(n_vocab,   4, 32) \
    X(n_merges,  8, 32) \
    X(flags,    12, 32) /* SMOLQ__TABLES_SCORES */ \
    X(n_slots,  16, 32) /* of the index: a power of two */ \
    X(n_pairs,  20, 32) /* slots of the merges: a power of two, or 0 */ \
    X(seed,     24, 64) /* of both */ \
    X(eot,      32, 32) /* what the texts of tokens say, where the metadata may not: 2^32-1 is none */ \
    X(eom,      36, 32)
typedef struct smolq__tables {
#define SMOLQ__FIELD(name, offset, bits) uint64_t name;
    SMOLQ__TABLES_FIELDS(SMOLQ__FIELD)
#undef SMOLQ__FIELD
    uint64_t spans, kinds, scores, slots, merges, merge_slots, end; /* where each begins in the section */
} smolq__tables;

static int smolq__is_power(uint64_t n) { return n > 0 && (n & (n - 1)) == 0; }

static void smolq__tables_layout(smolq__tables *t)
{
    uint64_t at = SMOLQ__TABLES_HEAD;
#define SMOLQ__TABLE(name, bytes) \
    t->name = at; \
    at = (at + (bytes) + 63) & ~(uint64_t)63;
    SMOLQ__TABLE(spans, t->n_vocab * sizeof(smolq__span))
    SMOLQ__TABLE(kinds, t->n_vocab)
    SMOLQ__TABLE(scores, t->flags & SMOLQ__TABLES_SCORES ? t->n_vocab * sizeof(float) : 0)
    SMOLQ__TABLE(slots, t->n_slots * sizeof(smolq__slot))
    SMOLQ__TABLE(merges, t->n_merges * sizeof(smolq__merge))
    SMOLQ__TABLE(merge_slots, t->n_pairs * sizeof(smolq__slot))
#undef SMOLQ__TABLE
    t->end = at;
}

/* Every text as the array has it: its length, its bytes, then the next.  The longest of them, or -1. */
static int32_t smolq__check_spans(const smolq__span *spans, uint64_t n, uint64_t data_bytes)
{
    uint64_t at = 8, i;
    uint32_t longest = 0, wrong = 0;
    for (i = 0; i < n; i++) {
        wrong |= (uint32_t)(spans[i].at != at) | (uint32_t)(spans[i].n > SMOLQ__TOKEN_BYTES_MAX);
        if (spans[i].n > longest) longest = spans[i].n;
        at += 8 + (uint64_t)spans[i].n;
    }
    return wrong || at - 8 != data_bytes ? -1 : (int32_t)longest;
}

/* Ids below n, and no run of full slots (around the end, too) that a look-up would follow for long. */
static int smolq__check_slots(const smolq__slot *slots, uint64_t n_slots, uint64_t n)
{
    uint32_t run = 0, longest = 0, wrong = 0;
    uint64_t i;
    for (i = 0; i < n_slots + SMOLQ__LONGEST_RUN; i++) {
        uint32_t id = slots[i & (n_slots - 1)].id, full = (uint32_t)(id != SMOLQ__NONE);
        wrong |= full & (uint32_t)(id >= n);
        run = (run + 1) & (0 - full);
        if (run > longest) longest = run;
    }
    return !wrong && longest < n_slots && longest <= SMOLQ__LONGEST_RUN;
}

static int smolq__check_merges(const smolq__merge *merges, uint64_t n, uint64_t n_vocab)
{
    uint32_t wrong = 0;
    uint64_t i;
    for (i = 0; i < n; i++) wrong |= (uint32_t)(merges[i].left >= n_vocab) | (uint32_t)(merges[i].right >= n_vocab) | (uint32_t)(merges[i].merged >= n_vocab);
    return !wrong;
}

static int smolq__check_kinds(const uint8_t *kinds, uint64_t n)
{
    const uint8_t known = SMOLQ__KIND_TYPE | SMOLQ__KIND_EOG | SMOLQ__KIND_RSTRIP | SMOLQ__KIND_COPY;
    uint32_t wrong = 0;
    uint64_t i;
    for (i = 0; i < n; i++) wrong |= (uint32_t)((kinds[i] & SMOLQ__KIND_TYPE) < SMOLQ_TOKEN_NORMAL) | (uint32_t)((kinds[i] & SMOLQ__KIND_TYPE) > SMOLQ_TOKEN_BYTE) | (uint32_t)((kinds[i] & ~known) != 0);
    return !wrong;
}

static int smolq__check_scores(const float *scores, uint64_t n)
{
    uint64_t i;
    for (i = 0; i < n; i++)
        if (scores[i] != scores[i]) return 0;
    return 1;
}

/* Points the vocabulary at the tables of a section.  What is wrong with them, or NULL. */
static const char *smolq__use_tables(smolq_vocab *v, const smolq_value *tokens, const uint8_t *p, uint64_t n)
{
    smolq__tables t;
#define SMOLQ__FIELD(name, offset, bits) t.name = smolq_u##bits##_at(p + offset);
    SMOLQ__TABLES_FIELDS(SMOLQ__FIELD)
#undef SMOLQ__FIELD
    if (t.n_vocab != tokens->n || t.n_slots < 16 || !smolq__is_power(t.n_slots) || (v->byte_level ? !smolq__is_power(t.n_pairs) : t.n_pairs > 0) ||
        t.n_merges > t.n_pairs || t.flags & ~(uint64_t)SMOLQ__TABLES_SCORES || (v->byte_level && t.flags) || (t.eot != SMOLQ__NONE && t.eot >= t.n_vocab) ||
        (t.eom != SMOLQ__NONE && t.eom >= t.n_vocab))
        return "its head does not go with the metadata";
    smolq__tables_layout(&t);
    if (t.end != n) return "its size is not that of its tables";
    v->spans = (smolq__span *)(void *)(p + t.spans);
    v->kinds = (uint8_t *)(p + t.kinds);
    v->scores = t.flags & SMOLQ__TABLES_SCORES ? (float *)(void *)(p + t.scores) : NULL;
    v->index.slots = (smolq__slot *)(void *)(p + t.slots);
    v->index.mask = (uint32_t)t.n_slots - 1;
    v->index.seed = v->merge_seed = t.seed;
    v->index.limit = SMOLQ__LONGEST_RUN + 1;
    v->index.text_of = smolq__index_text;
    v->index.table = v;
    v->n_merges = (uint32_t)t.n_merges;
    v->merges = (smolq__merge *)(void *)(p + t.merges);
    v->merge_slots = (smolq__slot *)(void *)(p + t.merge_slots);
    v->merge_mask = v->byte_level ? (uint32_t)t.n_pairs - 1 : 0;
    v->facts.eot = (int32_t)t.eot;
    v->facts.eom = (int32_t)t.eom;
    v->facts.max_token_bytes = smolq__check_spans(v->spans, t.n_vocab, tokens->data_bytes);
    if (v->facts.max_token_bytes < 0) return "its texts are not those of the metadata";
    if (!smolq__check_kinds(v->kinds, t.n_vocab)) return "a token is of an unknown kind";
    if (v->scores && !smolq__check_scores(v->scores, t.n_vocab)) return "a score is NaN";
    if (!smolq__check_slots(v->index.slots, t.n_slots, t.n_vocab)) return "its index has a token that is not there, or is too full";
    if (!smolq__check_merges(v->merges, t.n_merges, t.n_vocab)) return "a merge has a token that is not there";
    if (v->byte_level && !smolq__check_slots(v->merge_slots, t.n_pairs, t.n_merges)) return "its pairs have a merge that is not there, or are too many";
    return NULL;
}

/* The section for this vocabulary, on the heap; NULL: no memory. */
static uint8_t *smolq__write_tables(const smolq_vocab *v, smolq__heap *heap, uint64_t *n)
{
    smolq__tables t;
    uint8_t *p;
    memset(&t, 0, sizeof t);
    t.version = SMOLQ__TABLES_VERSION;
    t.n_vocab = (uint64_t)v->n_vocab;
    t.n_merges = v->n_merges;
    t.flags = v->scores ? SMOLQ__TABLES_SCORES : 0;
    t.n_slots = (uint64_t)v->index.mask + 1;
    t.n_pairs = v->byte_level ? (uint64_t)v->merge_mask + 1 : 0;
    t.seed = v->index.seed;
    t.eot = (uint32_t)v->facts.eot;
    t.eom = (uint32_t)v->facts.eom;
    smolq__tables_layout(&t);
    p = (uint8_t *)smolq__alloc(heap, t.end);
    if (!p) return NULL;
#define SMOLQ__FIELD(name, offset, bits) smolq__put_u##bits(p + offset, (uint##bits##_t)t.name);
    SMOLQ__TABLES_FIELDS(SMOLQ__FIELD)
#undef SMOLQ__FIELD
    smolq__put_bytes(p + t.spans, v->spans, t.n_vocab * sizeof *v->spans);
    smolq__put_bytes(p + t.kinds, v->kinds, t.n_vocab);
    if (v->scores) smolq__put_bytes(p + t.scores, v->scores, t.n_vocab * sizeof *v->scores);
    smolq__put_bytes(p + t.slots, v->index.slots, t.n_slots * sizeof *v->index.slots);
    smolq__put_bytes(p + t.merges, v->merges, t.n_merges * sizeof *v->merges);
    smolq__put_bytes(p + t.merge_slots, v->merge_slots, t.n_pairs * sizeof *v->merge_slots);
    *n = t.end;
    return p;
}

/* Whether the tables of an SMQ file can be used where they are: a section of this version, on a little-endian machine. */
static int smolq__has_tables(const smolq__section *section)
{
    const uint32_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 1 && section && section->n >= SMOLQ__TABLES_HEAD && smolq_u32_at(section->p) == SMOLQ__TABLES_VERSION;
}

/* ---- open ---- */

/* From the metadata alone; seed 0: one of this process. */
static smolq_result smolq__build_tables(smolq_vocab *v, smolq__heap *heap, const smolq_gguf *gguf, const smolq_open_options *options, uint64_t seed, smolq_error *err)
{
    int typed = 0;
    smolq_result result = smolq__load_tokens(v, heap, gguf, options, seed, err);
    if (!result) result = smolq__load_kinds(v, heap, gguf, options, &typed, err);
    if (!result) result = smolq__load_facts(v, gguf, options, err);
    if (result) return result;
    smolq__load_ends(v, typed);
    if (v->byte_level) result = smolq__load_merges(v, heap, gguf, err);
    if (!result) result = smolq__load_phi3(v, gguf, err);
    return result;
}

static smolq_result smolq__take_tables(smolq_vocab *v, const smolq_gguf *gguf, const smolq_open_options *options, const smolq__section *section, smolq_error *err)
{
    smolq_value tokens;
    const char *why;
    int32_t eot, eom;
    smolq_result result = smolq__find_tokens(v, gguf, options, &tokens, err);
    if (result) return result;
    why = smolq__use_tables(v, &tokens, section->p, section->n);
    if (why) return smolq__fail(err, SMOLQ_E_FORMAT, "the vocabulary of the SMQ file: %s", why);
    eot = v->facts.eot;
    eom = v->facts.eom;
    result = smolq__load_facts(v, gguf, options, err);
    v->facts.eot = eot;
    v->facts.eom = eom;
    return result;
}

/* Opens a vocabulary on a heap; on failure the caller closes the heap.  The file must stay open.  seed: of tables that are made; other than 0, they are made in any case. */
static smolq_result smolq__vocab_load(smolq__heap *heap, const smolq_gguf *gguf, const smolq_open_options *options, uint64_t seed, smolq_vocab **vocab, smolq_error *err)
{
    const smolq__section *section = smolq__gguf_section(gguf, SMOLQ__SECTION_VOCAB);
    smolq_open_options o;
    smolq_vocab *v = (smolq_vocab *)smolq__alloc(heap, sizeof *v);
    smolq_result result;
    smolq__options(&o, sizeof o, options, (uint32_t)sizeof o);
    if (!v) return smolq__fail_memory(heap, err, "the vocabulary");
    v->allocator = heap->allocator;
    result = smolq__load_model_name(v, gguf, &o, err);
    if (result) return result;
    if (!seed && smolq__has_tables(section)) result = smolq__take_tables(v, gguf, &o, section, err);
    else result = smolq__build_tables(v, heap, gguf, &o, seed, err);
    if (result) return result;
    smolq__load_bytes(v);
    result = smolq__load_specials(v, heap, err);
    if (!result) *vocab = v;
    return result;
}

SMOLQ_API smolq_result smolq_vocab_open(const char *path, const smolq_open_options *options, smolq_vocab **vocab, smolq_error *err)
{
    smolq_open_options o;
    smolq_gguf *gguf = NULL;
    smolq_vocab *v = NULL;
    smolq__heap heap;
    smolq_result result;
    if (!vocab) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_vocab_open: vocab is NULL");
    result = smolq_gguf_open(path, options, &gguf, err);
    if (result) return result;
    smolq__options(&o, sizeof o, options, (uint32_t)sizeof o);
    smolq__heap_init(&heap, &o.allocator, o.limits.memory);
    result = smolq__vocab_load(&heap, gguf, options, 0, &v, err);
    if (result) {
        smolq__heap_close(&heap);
        smolq_gguf_close(gguf);
        return result;
    }
    v->heap = heap;
    v->gguf = gguf;
    *vocab = v;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_vocab_close(smolq_vocab *vocab)
{
    smolq_gguf *gguf;
    if (!vocab) return;
    gguf = vocab->gguf;
    smolq__heap_close(&vocab->heap);
    smolq_gguf_close(gguf);
}

/* ---- asking ---- */

SMOLQ_API int32_t smolq_vocab_size(const smolq_vocab *vocab) { return vocab->n_vocab; }
SMOLQ_API const smolq_vocab_facts *smolq_vocab_info(const smolq_vocab *vocab) { return &vocab->facts; }

static smolq_result smolq__check_id(const smolq_vocab *vocab, int32_t id, smolq_error *err)
{
    if (id >= 0 && id < vocab->n_vocab) return SMOLQ_OK;
    return smolq__fail(err, SMOLQ_E_ARGUMENT, "token %ld is outside the vocabulary of %ld", (long)id, (long)vocab->n_vocab);
}

SMOLQ_API smolq_result smolq_token_info(const smolq_vocab *vocab, int32_t id, smolq_token *token, smolq_error *err)
{
    smolq_result result = smolq__check_id(vocab, id, err);
    if (result) return result;
    token->text = smolq__text_of(vocab, (uint32_t)id).p;
    token->bytes = vocab->spans[id].n;
    token->score = vocab->scores ? vocab->scores[id] : 0.0f;
    token->type = smolq__kind_type(vocab, (uint32_t)id);
    return SMOLQ_OK;
}

SMOLQ_API int32_t smolq_token_find(const smolq_vocab *vocab, const char *text, size_t bytes)
{
    uint32_t id = bytes ? smolq__index_find(&vocab->index, text, bytes) : SMOLQ__NONE;
    return id == SMOLQ__NONE ? -1 : (int32_t)id;
}

SMOLQ_API int32_t smolq_token_is_eog(const smolq_vocab *vocab, int32_t id)
{
    return id >= 0 && id < vocab->n_vocab && (vocab->kinds[id] & SMOLQ__KIND_EOG) != 0;
}
