/* ==== tokenizer.c: text to tokens and back ===========================================================================
 * Two kinds of vocabulary, one algorithm.  Text begins as a chain of small symbols; again and again the best pair of neighbours becomes one
 * symbol, until no pair fits:
 *
 *     SentencePiece ("llama")   symbols are characters, a pair fits if its text is a token, the best has the highest score
 *     byte-level BPE ("gpt2")   symbols are bytes, a pair fits if it is in the list of merges, the best stands first there;
 *                               the text is cut into pieces first (pretok.c), and each piece is a chain of its own
 *
 * Candidates wait in a heap, ordered by rank and then position.  A merge makes at most two new ones and leaves old ones that no longer fit:
 * they are told by their length when they come up.  So n symbols cost O(n log n), whatever the text.
 *
 * Before that, special tokens are cut out of the text: those of type USER always, control tokens when asked.  At each place the longest wins.
 * A control token never comes out of merging: text that merely looks like one stays text.
 *
 * All strings stay in the file's mapping.  For SmolLM3 (128256 tokens, 280147 merges) the tables here are 11 MB. */
#pragma once
#include "gguf.c"
#include "pretok.c"

/* A token's type in the low bits, and what else is known about it. */
enum { SMOLQ__KIND_TYPE = 7, SMOLQ__KIND_EOG = 8, SMOLQ__KIND_RSTRIP = 16, SMOLQ__KIND_COPY = 32 }; /* COPY: a token before it has the same text */

typedef struct smolq__merge { uint32_t left, right, merged; } smolq__merge; /* token ids; the place in the list is the rank */

struct smolq_vocab {
    smolq__heap       heap;       /* of a vocabulary that smolq_vocab_open made; a model's has its tables on the model's heap */
    smolq_gguf       *gguf;       /* owned by such a vocabulary, else NULL */
    smolq_allocator   allocator;  /* for the work memory of smolq_tokenize */
    smolq_vocab_facts facts;
    int32_t           n_vocab, byte_level;
    int32_t           trims;      /* remove_extra_whitespaces */
    const smolq__pretok *pre;     /* NULL for SentencePiece */
    smolq__text      *texts;      /* [n_vocab] as in the file */
    uint8_t          *kinds;      /* [n_vocab] */
    float            *scores;     /* [n_vocab] or NULL */
    smolq__index      index;      /* text to id; of equal texts the first */
    uint32_t          byte_ids[256]; /* token of a single byte, SMOLQ__NONE where there is none */
    smolq__merge     *merges;     /* [n_merges] */
    smolq__slot      *merge_slots;
    uint32_t          n_merges, merge_mask;
    uint64_t          merge_seed;
    uint32_t         *specials;   /* ids of special tokens, sorted by text */
    uint32_t          special_first[257]; /* where those that begin with a byte start */
};

static int32_t smolq__kind_type(const smolq_vocab *v, uint32_t id) { return v->kinds[id] & SMOLQ__KIND_TYPE; }
static smolq__text smolq__vocab_text(const void *table, uint32_t id) { return ((const smolq_vocab *)table)->texts[id]; }

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

/* tokens: texts and index */
static smolq_result smolq__load_tokens(smolq_vocab *v, smolq__heap *heap, const smolq_gguf *gguf, const smolq_open_options *options, smolq_error *err)
{
    const char *key = SMOLQ__KEY("tokens");
    uint64_t limit = options->limits.n_vocab ? options->limits.n_vocab : 1u << 24, at = 0;
    smolq_value array;
    smolq__place found;
    int32_t first, n, i;
    uint32_t hash[SMOLQ__AT_A_TIME];
    int has = smolq__get_array(gguf, key, &array, err);
    if (has < 0) return SMOLQ_E_FORMAT;
    if (!has) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s' (required by every tokenizer)", key);
    if (array.element_type != SMOLQ_GGUF_STRING || array.n == 0)
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': expected an array of strings, found %s", key, smolq__describe(&found, &array));
    if (array.n > limit || array.n > INT32_MAX)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s': %llu tokens, at most %llu are allowed (limits.n_vocab)", key, (unsigned long long)array.n, (unsigned long long)limit);
    v->n_vocab = (int32_t)array.n;
    v->texts = (smolq__text *)smolq__alloc(heap, array.n * sizeof *v->texts);
    v->kinds = (uint8_t *)smolq__alloc(heap, array.n);
    if (!v->texts || !v->kinds || !smolq__index_open(&v->index, heap, (uint32_t)array.n, smolq__vocab_text, v)) return smolq__fail_memory(heap, err, "the vocabulary");
    for (first = 0; first < v->n_vocab; first += n) { /* so many at a time, whose slots are on their way together */
        n = v->n_vocab - first < SMOLQ__AT_A_TIME ? v->n_vocab - first : (int32_t)SMOLQ__AT_A_TIME;
        for (i = 0; i < n; i++) {
            smolq__text *text = &v->texts[first + i];
            if (!smolq__next_text(&array, &at, text)) return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': the array ends in token %d of %d", key, (int)(first + i), (int)v->n_vocab);
            if (text->n > SMOLQ__TOKEN_BYTES_MAX)
                return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s': token %d has %llu bytes, expected at most %d", key, (int)(first + i), (unsigned long long)text->n,
                                   (int)SMOLQ__TOKEN_BYTES_MAX);
            if ((int32_t)text->n > v->facts.max_token_bytes) v->facts.max_token_bytes = (int32_t)text->n;
            hash[i] = smolq__hash(v->index.seed, *text);
            SMOLQ__FETCH(&v->index.slots[hash[i] & v->index.mask]);
        }
        for (i = 0; i < n; i++) {
            v->kinds[first + i] = SMOLQ_TOKEN_NORMAL;
            if (v->texts[first + i].n && smolq__index_add_hashed(&v->index, (uint32_t)(first + i), hash[i]) != SMOLQ__NONE) v->kinds[first + i] |= SMOLQ__KIND_COPY;
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

/* The slot of a pair, or the empty one where it would go. */
static smolq__slot *smolq__merge_slot(const smolq_vocab *v, uint32_t left, uint32_t right, uint32_t hash)
{
    uint32_t i = hash & v->merge_mask;
    for (;; i = (i + 1) & v->merge_mask) {
        smolq__slot *slot = &v->merge_slots[i];
        if (slot->id == SMOLQ__NONE || (slot->hash == hash && v->merges[slot->id].left == left && v->merges[slot->id].right == right)) return slot;
    }
}

/* Whether id is what the index has for this text. */
static int smolq__is_text(const smolq_vocab *v, uint32_t id, const uint8_t *p, size_t n)
{
    return v->texts[id].n == n && memcmp(v->texts[id].p, p, n) == 0 && !(v->kinds[id] & SMOLQ__KIND_COPY);
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
    if (is_placed) SMOLQ__FETCH(v->texts[id].p);
    else SMOLQ__FETCH(&v->texts[id]);
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
    m->left = smolq__index_slot(&v->index, p->left, p->hash_left)->id;
    m->right = smolq__index_slot(&v->index, p->right, p->hash_right)->id;
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
    smolq__text x = v->texts[a], y = v->texts[b];
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
    return (type == SMOLQ_TOKEN_CONTROL || type == SMOLQ_TOKEN_USER || type == SMOLQ_TOKEN_UNKNOWN) && v->texts[id].n > 0 && v->texts[id].n <= SMOLQ__SPECIAL_BYTES_MAX && !(v->kinds[id] & SMOLQ__KIND_COPY);
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
    for (i = 0, b = 0; b < 257; b++) {
        while (i < n && (uint8_t)v->texts[v->specials[i]].p[0] < b) i++;
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
        if (smolq__is_special(v, id) && !smolq__text_is(v->texts[id], "<unk>") && !smolq__text_is(v->texts[id], "<s>") && !smolq__text_is(v->texts[id], "<|endoftext|>"))
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

/* Builds a vocabulary on a heap; on failure the caller closes the heap.  The file must stay open. */
static smolq_result smolq__vocab_load(smolq__heap *heap, const smolq_gguf *gguf, const smolq_open_options *options, smolq_vocab **vocab, smolq_error *err)
{
    smolq_open_options o;
    smolq_vocab *v = (smolq_vocab *)smolq__alloc(heap, sizeof *v);
    smolq_result result;
    int typed = 0;
    smolq__options(&o, sizeof o, options, (uint32_t)sizeof o);
    if (!v) return smolq__fail_memory(heap, err, "the vocabulary");
    v->allocator = heap->allocator;
    result = smolq__load_model_name(v, gguf, &o, err);
    if (!result) result = smolq__load_tokens(v, heap, gguf, &o, err);
    if (!result) result = smolq__load_kinds(v, heap, gguf, &o, &typed, err);
    if (!result) result = smolq__load_facts(v, gguf, &o, err);
    if (result) return result;
    smolq__load_ends(v, typed);
    smolq__load_bytes(v);
    if (v->byte_level) result = smolq__load_merges(v, heap, gguf, err);
    if (!result) result = smolq__load_phi3(v, gguf, err);
    if (!result) result = smolq__load_specials(v, heap, err);
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
    result = smolq__vocab_load(&heap, gguf, options, &v, err);
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
    token->text = vocab->texts[id].p;
    token->bytes = vocab->texts[id].n;
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

/* ---- tokens to text ---- */

/* Appends n bytes at dst + used if there is a dst. */
static size_t smolq__append_bytes(char *dst, size_t used, const void *bytes, size_t n)
{
    if (dst && n) memcpy(dst + used, bytes, n);
    return used + n;
}

static int smolq__hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* Writes the bytes that a token stands for (dst NULL: only counts them), at most max_token_bytes. */
static size_t smolq__token_text(const smolq_vocab *v, int32_t id, int32_t flags, char *dst)
{
    smolq__text text = v->texts[id];
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    int32_t type = smolq__kind_type(v, (uint32_t)id);
    size_t n = 0;
    smolq__char c;
    if (type == SMOLQ_TOKEN_CONTROL || type == SMOLQ_TOKEN_UNKNOWN || type == SMOLQ_TOKEN_UNUSED) return flags & SMOLQ_SHOW_SPECIAL ? smolq__append_bytes(dst, 0, p, text.n) : 0;
    if (type == SMOLQ_TOKEN_USER) return smolq__append_bytes(dst, 0, p, text.n);
    if (type == SMOLQ_TOKEN_BYTE && text.n == 6 && memcmp(p, "<0x", 3) == 0 && p[5] == '>' && smolq__hex_digit(text.p[3]) >= 0 && smolq__hex_digit(text.p[4]) >= 0) {
        uint8_t octet = (uint8_t)(smolq__hex_digit(text.p[3]) * 16 + smolq__hex_digit(text.p[4]));
        return smolq__append_bytes(dst, 0, &octet, 1);
    }
    for (c = smolq__char_at(p, end); c.n; p += c.n, c = smolq__char_at(p, end)) {
        uint32_t b = v->byte_level ? (c.n > 1 || c.c < 0x80 ? smolq__char_to_byte(c.c) : 256) : c.c == 0x2581 ? ' ' : 256; /* U+2581: SentencePiece's space */
        uint8_t octet = (uint8_t)b;
        n = b < 256 ? smolq__append_bytes(dst, n, &octet, 1) : smolq__append_bytes(dst, n, p, c.n);
    }
    return n;
}

SMOLQ_API smolq_result smolq_detokenize(const smolq_vocab *vocab, const int32_t *ids, size_t n_ids, int32_t flags, char *text, size_t capacity, size_t *n_bytes, smolq_error *err)
{
    size_t i, n = 0;
    if (!n_bytes || (n_ids && !ids) || (capacity && !text)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_detokenize: a pointer is NULL");
    for (i = 0; i < n_ids; i++) {
        smolq_result result = smolq__check_id(vocab, ids[i], err);
        if (result) return result;
        n += smolq__token_text(vocab, ids[i], flags, NULL);
    }
    *n_bytes = n;
    if (n > capacity) return smolq__fail(err, SMOLQ_E_BUFFER, "the text has %llu bytes, the buffer %llu", (unsigned long long)n, (unsigned long long)capacity);
    for (n = 0, i = 0; n < *n_bytes; i++) n += smolq__token_text(vocab, ids[i], flags, text + n);
    return SMOLQ_OK;
}

/* ---- text to tokens ---- */

typedef struct smolq__symbol { uint32_t id, at, n, prev, next; } smolq__symbol; /* id or NONE; at: its text; n: length of the token's text, 0 once merged away */
typedef struct smolq__pair { uint32_t rank, left, merged; } smolq__pair;

/* All that one call of smolq_tokenize allocates, on a heap of its own. */
typedef struct smolq__work {
    const smolq_vocab *vocab;
    smolq__heap        heap;
    int32_t           *ids;
    uint64_t           n_ids, max_ids;
    smolq__symbol     *symbols;   /* [max_symbols] */
    smolq__pair       *pairs;     /* [2 * max_symbols], a binary heap */
    uint64_t           max_symbols;
    uint32_t           n_pairs;
    const uint8_t     *text;      /* what symbols point into */
    uint8_t           *spelled;   /* [max_token_bytes] a piece in the byte alphabet */
} smolq__work;

static int smolq__emit(smolq__work *w, uint32_t id)
{
    if (w->n_ids == w->max_ids) {
        uint64_t more = w->max_ids ? w->max_ids * 2 : 64;
        int32_t *ids = (int32_t *)smolq__alloc(&w->heap, more * sizeof *ids);
        if (!ids) return 0;
        if (w->n_ids) memcpy(ids, w->ids, (size_t)w->n_ids * sizeof *ids);
        smolq__free(&w->heap, w->ids);
        w->ids = ids;
        w->max_ids = more;
    }
    w->ids[w->n_ids++] = (int32_t)id;
    return 1;
}

/* Room for n symbols.  Of pairs there are never more than 2n: n - 1 at first, and each of at most n - 1 merges takes one and adds two. */
static int smolq__grow_work(smolq__work *w, uint64_t n)
{
    if (n <= w->max_symbols) return 1;
    smolq__free(&w->heap, w->symbols);
    smolq__free(&w->heap, w->pairs);
    w->symbols = NULL;
    w->pairs = NULL;
    w->max_symbols = 0;
    if (n < 256) n = 256;
    w->symbols = (smolq__symbol *)smolq__alloc(&w->heap, n * sizeof *w->symbols);
    w->pairs = w->symbols ? (smolq__pair *)smolq__alloc(&w->heap, 2 * n * sizeof *w->pairs) : NULL;
    if (w->pairs) w->max_symbols = n;
    return w->pairs != NULL;
}

static int smolq__pair_before(smolq__pair a, smolq__pair b) { return a.rank != b.rank ? a.rank < b.rank : a.left < b.left; }

static void smolq__push_pair(smolq__work *w, smolq__pair pair)
{
    uint32_t i = w->n_pairs++, parent;
    for (; i > 0 && smolq__pair_before(pair, w->pairs[parent = (i - 1) / 2]); i = parent) w->pairs[i] = w->pairs[parent];
    w->pairs[i] = pair;
}

static smolq__pair smolq__pop_pair(smolq__work *w)
{
    smolq__pair best = w->pairs[0], last = w->pairs[--w->n_pairs];
    uint32_t i = 0, child;
    for (; (child = 2 * i + 1) < w->n_pairs; i = child) {
        if (child + 1 < w->n_pairs && smolq__pair_before(w->pairs[child + 1], w->pairs[child])) child++;
        if (!smolq__pair_before(w->pairs[child], last)) break;
        w->pairs[i] = w->pairs[child];
    }
    w->pairs[i] = last;
    return best;
}

/* A token that text may become: no control token, and no "<0x0A>" that somebody typed. */
static uint32_t smolq__find_plain(const smolq_vocab *v, const uint8_t *p, size_t n)
{
    uint32_t id = n > (size_t)v->facts.max_token_bytes ? SMOLQ__NONE : smolq__index_find(&v->index, (const char *)p, n);
    int32_t type = id == SMOLQ__NONE ? SMOLQ_TOKEN_CONTROL : smolq__kind_type(v, id);
    return type == SMOLQ_TOKEN_CONTROL || type == SMOLQ_TOKEN_UNKNOWN || type == SMOLQ_TOKEN_BYTE ? SMOLQ__NONE : id;
}

/* A float as an integer in the reverse order: the highest score is the lowest rank. */
static uint32_t smolq__score_rank(float score)
{
    uint32_t u = smolq_bits(score);
    return u & 0x80000000u ? u : ~(u | 0x80000000u);
}

/* If a symbol and the one after it fit, they become a candidate. */
static void smolq__try_pair(smolq__work *w, uint32_t left)
{
    const smolq_vocab *v = w->vocab;
    const smolq__symbol *a = &w->symbols[left], *b;
    smolq__pair pair;
    if (a->next == SMOLQ__NONE) return;
    b = &w->symbols[a->next];
    pair.left = left;
    if (v->byte_level) {
        if (a->id == SMOLQ__NONE || b->id == SMOLQ__NONE) return;
        pair.rank = smolq__merge_slot(v, a->id, b->id, smolq__merge_hash(v, a->id, b->id))->id;
        if (pair.rank == SMOLQ__NONE) return;
        pair.merged = v->merges[pair.rank].merged;
    } else {
        pair.merged = smolq__find_plain(v, w->text + a->at, (size_t)a->n + b->n);
        if (pair.merged == SMOLQ__NONE) return;
        pair.rank = smolq__score_rank(v->scores ? v->scores[pair.merged] : 0.0f);
    }
    smolq__push_pair(w, pair);
}

/* Merges the chain of n symbols as far as it goes and emits it.  What is no token falls back to its bytes, a byte without a token to the unknown token, and
 * where there is none it is dropped. */
static int smolq__merge_chain(smolq__work *w, uint32_t n)
{
    const smolq_vocab *v = w->vocab;
    smolq__symbol *s = w->symbols;
    uint32_t i, k;
    w->n_pairs = 0;
    for (i = 0; i < n; i++) {
        s[i].prev = i ? i - 1 : SMOLQ__NONE;
        s[i].next = i + 1 < n ? i + 1 : SMOLQ__NONE;
    }
    for (i = 0; i < n; i++) smolq__try_pair(w, i);
    while (w->n_pairs) {
        smolq__pair pair = smolq__pop_pair(w);
        smolq__symbol *a = &s[pair.left], *b = a->n && a->next != SMOLQ__NONE ? &s[a->next] : NULL;
        if (!b || a->n + b->n != v->texts[pair.merged].n) continue; /* one of the two has changed: symbols only grow */
        a->id = pair.merged;
        a->n += b->n;
        b->n = 0;
        a->next = b->next;
        if (b->next != SMOLQ__NONE) s[b->next].prev = pair.left;
        if (a->prev != SMOLQ__NONE) smolq__try_pair(w, a->prev);
        smolq__try_pair(w, pair.left);
    }
    for (i = 0; n && i != SMOLQ__NONE; i = s[i].next) {
        if (s[i].id != SMOLQ__NONE) {
            if (!smolq__emit(w, s[i].id)) return 0;
            continue;
        }
        for (k = 0; k < s[i].n; k++) {
            uint32_t id = v->byte_ids[w->text[s[i].at + k]];
            if (id == SMOLQ__NONE) id = (uint32_t)v->facts.unk; /* -1 is NONE */
            if (id != SMOLQ__NONE && !smolq__emit(w, id)) return 0;
        }
    }
    return 1;
}

/* One piece of text for byte-level BPE. */
static int smolq__encode_piece(smolq__work *w, const uint8_t *p, uint32_t n)
{
    const smolq_vocab *v = w->vocab;
    uint32_t i, id;
    if (v->pre->whole && n <= (uint32_t)v->facts.max_token_bytes) {
        size_t used = 0;
        for (i = 0; i < n && used + 2 <= (size_t)v->facts.max_token_bytes + 1; i++) used += smolq__put_byte_char(p[i], w->spelled + used);
        id = i == n ? smolq__find_plain(v, w->spelled, used) : SMOLQ__NONE;
        if (id != SMOLQ__NONE) return smolq__emit(w, id);
    }
    if (!smolq__grow_work(w, n)) return 0;
    w->text = p;
    for (i = 0; i < n; i++) {
        w->symbols[i].id = v->byte_ids[p[i]];
        w->symbols[i].at = i;
        w->symbols[i].n = w->symbols[i].id == SMOLQ__NONE ? 1 : (uint32_t)v->texts[w->symbols[i].id].n;
    }
    return smolq__merge_chain(w, n);
}

static smolq_result smolq__encode_bytes(smolq__work *w, const uint8_t *p, size_t n, smolq_error *err)
{
    smolq__pieces pieces;
    smolq__text piece;
    smolq__pieces_open(&pieces, &smolq__recipes[w->vocab->pre->recipe], p, n);
    while (smolq__pieces_next(&pieces, &piece))
        if (!smolq__encode_piece(w, (const uint8_t *)piece.p, (uint32_t)piece.n)) return smolq__fail_memory(&w->heap, err, "the tokens of the text");
    return SMOLQ_OK;
}

/* A stretch of text for SentencePiece: spaces become U+2581, with one more in front if prefix; then its characters are one chain. */
static smolq_result smolq__encode_characters(smolq__work *w, const uint8_t *p, size_t n, int prefix, smolq_error *err)
{
    static const uint8_t space[3] = { 0xe2, 0x96, 0x81 };
    const smolq_vocab *v = w->vocab;
    uint64_t length = n + (prefix ? 3 : 0), used = 0;
    uint32_t n_symbols = 0;
    uint8_t *text;
    smolq__char c;
    size_t i;
    int ok;
    for (i = 0; i < n; i++) length += p[i] == ' ' ? 2 : 0;
    if (length > INT32_MAX) return smolq__fail(err, SMOLQ_E_ARGUMENT, "the text is too long: %llu bytes with its spaces written out", (unsigned long long)length);
    text = (uint8_t *)smolq__alloc(&w->heap, length);
    if (!text) return smolq__fail_memory(&w->heap, err, "the tokens of the text");
    if (prefix) used = smolq__append_bytes((char *)text, 0, space, 3);
    for (i = 0; i < n; i++) {
        if (p[i] != ' ') text[used++] = p[i];
        else if (!v->trims || (used > (prefix ? 3u : 0u) && i + 1 < n && p[i + 1] != ' ')) used = smolq__append_bytes((char *)text, (size_t)used, space, 3); /* trims: one space between words, none outside */
    }
    ok = smolq__grow_work(w, used);
    w->text = text;
    for (i = 0; ok && i < used; i += c.n) {
        smolq__symbol *s = &w->symbols[n_symbols++];
        c = smolq__char_at(text + i, text + used);
        s->id = smolq__find_plain(v, text + i, c.n);
        s->at = (uint32_t)i;
        s->n = c.n;
    }
    ok = ok && smolq__merge_chain(w, n_symbols);
    smolq__free(&w->heap, text);
    return ok ? SMOLQ_OK : smolq__fail_memory(&w->heap, err, "the tokens of the text");
}

/* The longest special token at p: its length, or 0.  The sorted list is narrowed byte by byte; in what is left, a token that ends here stands first. */
static size_t smolq__special_at(const smolq_vocab *v, const uint8_t *p, const uint8_t *end, int parse, uint32_t *id)
{
    uint32_t lo = v->special_first[p[0]], hi = v->special_first[p[0] + 1];
    size_t depth = 1, found = 0;
    while (lo < hi) {
        uint32_t a, b;
        if (v->texts[v->specials[lo]].n == depth) {
            if (parse || smolq__kind_type(v, v->specials[lo]) == SMOLQ_TOKEN_USER) {
                found = depth;
                *id = v->specials[lo];
            }
            lo++;
        }
        if (p + depth == end) break;
        for (a = lo, b = hi; a < b;) { /* first that has at least this byte */
            uint32_t mid = a + (b - a) / 2;
            if ((uint8_t)v->texts[v->specials[mid]].p[depth] < p[depth]) a = mid + 1;
            else b = mid;
        }
        lo = a;
        for (b = hi; a < b;) { /* first that has more */
            uint32_t mid = a + (b - a) / 2;
            if ((uint8_t)v->texts[v->specials[mid]].p[depth] <= p[depth]) a = mid + 1;
            else b = mid;
        }
        hi = a;
        depth++;
    }
    return found;
}

static smolq_result smolq__tokenize(smolq__work *w, const uint8_t *p, const uint8_t *end, int32_t flags, smolq_error *err)
{
    const smolq_vocab *v = w->vocab;
    const smolq_vocab_facts *f = &v->facts;
    int prefix = f->adds_space && !(flags & SMOLQ_NO_PREFIX), ok = 1;
    if (v->byte_level) ok = (w->spelled = (uint8_t *)smolq__alloc(&w->heap, (uint64_t)f->max_token_bytes + 2)) != NULL;
    if (ok && (flags & SMOLQ_ADD_BOS) && f->adds_bos && f->bos >= 0) ok = smolq__emit(w, (uint32_t)f->bos);
    while (ok && p < end) {
        const uint8_t *q = p;
        uint32_t id = 0;
        size_t n = 0;
        while (q < end && (n = smolq__special_at(v, q, end, (flags & SMOLQ_PARSE_SPECIAL) != 0, &id)) == 0) q++;
        if (q > p) {
            smolq_result result = v->byte_level ? smolq__encode_bytes(w, p, (size_t)(q - p), err) : smolq__encode_characters(w, p, (size_t)(q - p), prefix, err);
            if (result) return result;
        }
        p = q + n;
        if (n == 0) break;
        ok = smolq__emit(w, id);
        prefix = f->adds_space;
        if (v->kinds[id] & SMOLQ__KIND_RSTRIP)
            while (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r'))) p++;
    }
    if (ok && (flags & SMOLQ_ADD_BOS) && f->adds_eos && f->eos >= 0) ok = smolq__emit(w, (uint32_t)f->eos);
    return ok ? SMOLQ_OK : smolq__fail_memory(&w->heap, err, "the tokens of the text");
}

SMOLQ_API smolq_result smolq_tokenize(const smolq_vocab *vocab, const char *text, size_t bytes, int32_t flags, int32_t *ids, size_t capacity, size_t *n_ids, smolq_error *err)
{
    static const uint8_t nothing[1] = { 0 };
    const uint8_t *p = bytes ? (const uint8_t *)text : nothing;
    smolq__work work;
    smolq_result result;
    if (!n_ids || (bytes && !text) || (capacity && !ids)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_tokenize: a pointer is NULL");
    if (bytes > INT32_MAX) return smolq__fail(err, SMOLQ_E_ARGUMENT, "the text has %llu bytes, expected at most %ld", (unsigned long long)bytes, (long)INT32_MAX);
    memset(&work, 0, sizeof work);
    work.vocab = vocab;
    smolq__heap_init(&work.heap, &vocab->allocator, 0);
    result = smolq__tokenize(&work, p, p + bytes, flags, err);
    if (!result) {
        *n_ids = (size_t)work.n_ids;
        if (work.n_ids > capacity) result = smolq__fail(err, SMOLQ_E_BUFFER, "the text has %llu tokens, the buffer room for %llu", (unsigned long long)work.n_ids, (unsigned long long)capacity);
        else if (work.n_ids) memcpy(ids, work.ids, (size_t)work.n_ids * sizeof *ids);
    }
    smolq__heap_close(&work.heap);
    return result;
}
