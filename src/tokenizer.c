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
 * A control token never comes out of merging: text that merely looks like one stays text. */
#pragma once
#include "vocab.c"

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
    smolq__text text = smolq__text_of(v, (uint32_t)id);
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
        pair.rank = smolq__merge_rank(v, a->id, b->id);
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
        if (!b || a->n + b->n != v->spans[pair.merged].n) continue; /* one of the two has changed: symbols only grow */
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
        w->symbols[i].n = w->symbols[i].id == SMOLQ__NONE ? 1 : (uint32_t)v->spans[w->symbols[i].id].n;
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
        if (v->spans[v->specials[lo]].n == depth) {
            if (parse || smolq__kind_type(v, v->specials[lo]) == SMOLQ_TOKEN_USER) {
                found = depth;
                *id = v->specials[lo];
            }
            lo++;
        }
        if (p + depth == end) break;
        for (a = lo, b = hi; a < b;) { /* first that has at least this byte */
            uint32_t mid = a + (b - a) / 2;
            if ((uint8_t)smolq__text_of(v, v->specials[mid]).p[depth] < p[depth]) a = mid + 1;
            else b = mid;
        }
        lo = a;
        for (b = hi; a < b;) { /* first that has more */
            uint32_t mid = a + (b - a) / 2;
            if ((uint8_t)smolq__text_of(v, v->specials[mid]).p[depth] <= p[depth]) a = mid + 1;
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
