/* clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -I. tests/fuzz_vocab.c -o fuzz_vocab -lm
 *
 * The tables of a tokenizer, written compactly, so that every mutation is a vocabulary that gets past the container:
 *
 *     what     byte  kind of vocabulary and which keys are there (KIND_ below)
 *     flags    byte  of smolq_tokenize; bit 3: the work memory is small
 *     pre      byte  which pre-tokenizer
 *     special  4 bytes  bos, eos, unk, eot: token number, 255: no key
 *     tokens   each: n and type in a byte (5 and 3 bits), score byte (signed), n bytes of text; n 31 with type 7 ends the list
 *     merges   each: two bytes, numbers of tokens; 255 255 ends the list
 *     text     the rest */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "fuzz.h"
#include "gguf_build.h"

enum { KIND_BPE = 1, KIND_TYPES = 2, KIND_SCORES = 4, KIND_MERGES = 8, KIND_BYTES = 16 /* 256 byte tokens first */, KIND_SPACE = 32 /* add_space_prefix and adds */,
       KIND_TRIM = 64, KIND_PHI3 = 128 };

typedef struct taker { const uint8_t *p, *end; } taker;
static int take(taker *t) { return t->p < t->end ? *t->p++ : 255; }

typedef struct token { const uint8_t *p; size_t n; int32_t type; float score; uint8_t spelled[8]; } token;
enum { MAX_TOKENS = 512, MAX_MERGES = 512 };

static token    tokens[MAX_TOKENS];
static size_t   n_tokens;
static uint16_t merges[MAX_MERGES][2];
static size_t   n_merges;

static void byte_tokens(int bpe)
{
    int b;
    for (b = 0; b < 256; b++) {
        token *t = &tokens[n_tokens++];
        memset(t, 0, sizeof *t);
        if (bpe) t->n = smolq__put_byte_char((uint32_t)b, t->spelled);
        else t->n = (size_t)snprintf((char *)t->spelled, sizeof t->spelled, "<0x%02X>", (unsigned)b);
        t->type = bpe ? SMOLQ_TOKEN_NORMAL : SMOLQ_TOKEN_BYTE;
    }
}

static const uint8_t *text_of(const token *t) { return t->p ? t->p : t->spelled; }

static void read_tables(taker *t, int what)
{
    n_tokens = n_merges = 0;
    if (what & KIND_BYTES) byte_tokens(what & KIND_BPE);
    while (n_tokens < MAX_TOKENS && t->p < t->end) {
        int head = take(t);
        token *k = &tokens[n_tokens];
        if (head == 255) break;
        memset(k, 0, sizeof *k);
        k->type = head >> 5;
        k->score = (float)(int8_t)take(t);
        k->n = (size_t)(head & 31);
        if (k->n > (size_t)(t->end - t->p)) k->n = (size_t)(t->end - t->p);
        k->p = t->p;
        t->p += k->n;
        n_tokens++;
    }
    while (n_merges < MAX_MERGES && t->p < t->end && n_tokens) {
        int a = take(t), b = take(t);
        if (a == 255 && b == 255) break;
        merges[n_merges][0] = (uint16_t)((size_t)a < n_tokens ? (size_t)a : (size_t)a % n_tokens);
        merges[n_merges++][1] = (uint16_t)((size_t)b + (what & KIND_BYTES && b >= 128 ? 128 : 0)) % (uint16_t)n_tokens; /* so that tokens after the 256 bytes are reached */
    }
}

static void write_gguf(gguf_build *g, int what, int pre, const int *special)
{
    static const char *const keys[4] = { "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eot_token_id" };
    size_t i;
    gguf_begin(g, 3);
    gguf_text(g, "general.name", what & KIND_PHI3 ? "a phi-3 model" : "fuzz");
    gguf_text(g, "tokenizer.ggml.model", what & KIND_BPE ? "gpt2" : "llama");
    gguf_text(g, "tokenizer.ggml.pre", smolq__pretoks[(size_t)pre % SMOLQ__COUNT(smolq__pretoks)].name);
    gguf_text(g, "tokenizer.chat_template", "<|im_start|>");
    gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, n_tokens);
    for (i = 0; i < n_tokens; i++) gguf_put_text(&g->pairs, (const char *)text_of(&tokens[i]), tokens[i].n);
    if (what & KIND_TYPES) {
        gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, n_tokens);
        for (i = 0; i < n_tokens; i++) gguf_put(&g->pairs, (uint64_t)tokens[i].type, 4);
    }
    if (what & KIND_SCORES) {
        gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, n_tokens);
        for (i = 0; i < n_tokens; i++) gguf_put_float(&g->pairs, tokens[i].score == -128 ? -1e30 : tokens[i].score == 127 ? (double)INFINITY : tokens[i].score, GGUF_F32);
    }
    if (what & (KIND_MERGES | KIND_BPE)) {
        gguf_array(g, "tokenizer.ggml.merges", GGUF_STRING, n_merges);
        for (i = 0; i < n_merges; i++) {
            const token *a = &tokens[merges[i][0]], *b = &tokens[merges[i][1]];
            gguf_put(&g->pairs, a->n + b->n + 1, 8);
            gguf_put_bytes(&g->pairs, text_of(a), a->n);
            gguf_put(&g->pairs, ' ', 1);
            gguf_put_bytes(&g->pairs, text_of(b), b->n);
        }
    }
    for (i = 0; i < 4; i++)
        if (special[i] != 255) gguf_int(g, keys[i], GGUF_U32, special[i]);
    if (what & KIND_SPACE) {
        gguf_int(g, "tokenizer.ggml.add_bos_token", GGUF_BOOL, 1);
        gguf_int(g, "tokenizer.ggml.add_eos_token", GGUF_BOOL, 1);
        gguf_int(g, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 1);
    }
    if (what & KIND_TRIM) gguf_int(g, "tokenizer.ggml.remove_extra_whitespaces", GGUF_BOOL, 1);
    gguf_finish(g);
}

static void use(const smolq_vocab *v, const char *text, size_t n, int flags, int unlimited, int spells_all, int trims)
{
    static const char *const stops[] = { "ab", "\n" };
    size_t capacity = n * 4 + 64, n_ids = 0, again = 0, bytes = 0, i, room = (size_t)smolq_vocab_info(v)->max_token_bytes * 3 + 264, got;
    int32_t *ids = (int32_t *)malloc(capacity * sizeof *ids), id;
    smolq_message message;
    smolq_stream s;
    smolq_error err;
    char *out = (char *)malloc(room), *back;
    smolq_result result = smolq_tokenize(v, text, n, flags & 7, ids, capacity, &n_ids, &err);
    MUST(ids && out);
    if (result) {
        must_refuse(result, &err);
        MUST(!unlimited && result == SMOLQ_E_MEMORY);
    } else {
        MUST(n_ids <= capacity);
        for (i = 0; i < n_ids; i++) MUST(ids[i] >= 0 && ids[i] < smolq_vocab_size(v));
        result = smolq_tokenize(v, text, n, flags & 7, NULL, 0, &again, &err);
        MUST(result == SMOLQ_E_MEMORY || (again == n_ids && result == (n_ids ? SMOLQ_E_BUFFER : SMOLQ_OK)));
        result = smolq_detokenize(v, ids, n_ids, SMOLQ_SHOW_SPECIAL, NULL, 0, &bytes, &err);
        MUST(result == (bytes ? SMOLQ_E_BUFFER : SMOLQ_OK));
        back = (char *)malloc(bytes + 1);
        MUST(back && smolq_detokenize(v, ids, n_ids, SMOLQ_SHOW_SPECIAL, back, bytes, &again, &err) == SMOLQ_OK && again == bytes);
        if (spells_all && !trims && !(flags & (SMOLQ_ADD_BOS | SMOLQ_PARSE_SPECIAL))) MUST(bytes == n && memcmp(back, text, n) == 0);
        free(back);
        MUST(smolq_stream_open(&s, v, stops, flags & 8 ? 2 : 0, SMOLQ_SHOW_SPECIAL, &err) == SMOLQ_OK);
        for (i = 0; i < n_ids; i++) MUST(smolq_stream_push(&s, ids[i], out, room, &got, &err) >= 0 && got <= room);
        MUST(smolq_stream_finish(&s, out, room, &got, &err) >= 0);
    }
    for (id = 0; id < smolq_vocab_size(v); id++) {
        smolq_token token;
        int32_t found;
        MUST(smolq_token_info(v, id, &token, &err) == SMOLQ_OK);
        found = smolq_token_find(v, token.text, token.bytes);
        MUST(token.bytes == 0 || (found >= 0 && found <= id));
        smolq_token_is_eog(v, id);
    }
    message.role = "user";
    message.text = text;
    message.bytes = n;
    if (smolq_chat_tokenize(v, &message, 1, NULL, NULL, 0, &n_ids, &err)) must_refuse(err.code, &err);
    free(out);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taker t;
    int what, flags, pre, special[4], i, spells_all;
    fuzz_meter meter;
    gguf_build g;
    smolq_open_options o;
    smolq_source source;
    smolq_vocab *v = NULL;
    smolq_error err;
    smolq_result result;
    t.p = data;
    t.end = data + size;
    what = take(&t);
    flags = take(&t);
    pre = take(&t);
    for (i = 0; i < 4; i++) special[i] = take(&t);
    read_tables(&t, what);
    write_gguf(&g, what, pre, special);
    memset(&o, 0, sizeof o);
    memset(&source, 0, sizeof source);
    source.data = g.head.p;
    source.size = g.head.n;
    o.size = sizeof o;
    o.n_sources = 1;
    o.sources = &source;
    o.allocator = fuzz_allocator(&meter, 64 << 20);
    result = smolq_vocab_open(NULL, &o, &v, &err);
    if (result) {
        must_refuse(result, &err);
        MUST(!v && meter.now == 0 && meter.peak <= 4 * g.head.n + (16u << 20));
    } else {
        size_t held = meter.now, n = (size_t)(t.end - t.p);
        char *text = (char *)malloc(n ? n : 1);
        MUST(text);
        memcpy(text, t.p, n);
        if (flags & 8) meter.most = meter.now + 8000;
        /* byte-level BPE with all bytes as tokens that may come out of text loses nothing */
        spells_all = (what & KIND_BPE) != 0;
        for (i = 0; i < 256 && spells_all; i++)
            spells_all = v->byte_ids[i] != SMOLQ__NONE && smolq__kind_type(v, v->byte_ids[i]) == SMOLQ_TOKEN_NORMAL;
        for (i = 0; i < v->n_vocab && spells_all; i++) /* a token of the user that holds anything but itself in the byte alphabet */
            spells_all = smolq__kind_type(v, (uint32_t)i) != SMOLQ_TOKEN_BYTE && !(v->kinds[i] & SMOLQ__KIND_RSTRIP);
        use(v, text, n, flags, !(flags & 8), spells_all, what & KIND_TRIM);
        MUST(meter.now == held);
        free(text);
        smolq_vocab_close(v);
        MUST(meter.now == 0);
    }
    gguf_free(&g);
    return 0;
}
