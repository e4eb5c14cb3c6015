/* clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -I. tests/fuzz_text.c -o fuzz_text -lm
 *
 * The input: which vocabulary, flags, then a text.  The vocabularies: the bundled model's, SentencePiece, and byte-level BPE with every
 * pre-tokenizer that the library knows.  Every text must come back from its tokens. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "fuzz.h"
#include "make_malformed.h"

#define BUNDLED "examples/models/smolq-tales.Q4_K_M.gguf"
enum { N_PRE = sizeof smolq__pretoks / sizeof *smolq__pretoks, N_VOCABS = 2 + N_PRE };

static smolq_vocab *open_vocab(int which) /* each once, for good */
{
    static smolq_vocab *vocabs[N_VOCABS];
    static bytes files[N_VOCABS];
    smolq_error err;
    if (!vocabs[which] && which == 0) {
        if (smolq_vocab_open(BUNDLED, NULL, &vocabs[0], &err)) fprintf(stderr, "%s\n", err.text);
    } else if (!vocabs[which]) {
        gg_file *f = (gg_file *)calloc(1, sizeof *f);
        model_options options = { GG_LLAMA, 0, 0, 1 };
        smolq_open_options o;
        smolq_source source;
        MUST(f);
        options.bpe = which > 1;
        gg_valid(f, &options);
        if (which > 1) gg_set_string(f, "tokenizer.ggml.pre", smolq__pretoks[which - 2].name);
        gg_write(f, &files[which]);
        gg_free(f);
        free(f);
        memset(&o, 0, sizeof o);
        memset(&source, 0, sizeof source);
        source.data = files[which].p;
        source.size = files[which].n;
        o.size = sizeof o;
        o.n_sources = 1;
        o.sources = &source;
        MUST(smolq_vocab_open(NULL, &o, &vocabs[which], &err) == SMOLQ_OK);
    }
    MUST(vocabs[which]);
    return vocabs[which];
}

static int is_utf8(const char *text, size_t n)
{
    size_t i;
    int good = 1;
    for (i = 0; i < n && good; i += smolq__character((const uint8_t *)text + i, (uint32_t)(n - i), &good)) {}
    return good;
}

/* What the tokens of a text spell: the text itself; SentencePiece has one space more in front, and takes its own sign for a space. */
static size_t expected(const smolq_vocab *v, const char *text, size_t n, int prefix, char *out)
{
    size_t i, used = 0;
    if (v->byte_level) {
        memcpy(out, text, n);
        return n;
    }
    if (prefix && n) out[used++] = ' ';
    for (i = 0; i < n;) {
        int sign = n - i >= 3 && memcmp(text + i, "\342\226\201", 3) == 0;
        out[used++] = sign ? ' ' : text[i];
        i += sign ? 3 : 1;
    }
    return used;
}

/* Token by token through a stream: whole characters, and the same text where that is UTF-8. */
static void stream(const smolq_vocab *v, const int32_t *ids, size_t n, const char *text, size_t bytes, const char *const *stops, int32_t n_stops)
{
    size_t i, used = 0, got, room = (size_t)smolq_vocab_info(v)->max_token_bytes * 3 + 264;
    char *out = (char *)malloc(bytes * 3 + room);
    smolq_stream s;
    smolq_result result = SMOLQ_OK;
    MUST(out && smolq_stream_open(&s, v, stops, n_stops, SMOLQ_SHOW_SPECIAL, NULL) == SMOLQ_OK);
    for (i = 0; i < n && result == SMOLQ_OK; i++) {
        result = smolq_stream_push(&s, ids[i], out + used, room, &got, NULL);
        MUST(result == SMOLQ_OK || result == SMOLQ_STOP);
        used += got;
        MUST(used <= bytes * 3);
        if (used) MUST(is_utf8(out, used));
    }
    if (result == SMOLQ_OK) {
        MUST(smolq_stream_finish(&s, out + used, room, &got, NULL) == SMOLQ_OK);
        used += got;
    }
    MUST(is_utf8(out, used));
    if (n_stops == 0 && is_utf8(text, bytes)) MUST(used == bytes && memcmp(out, text, bytes) == 0);
    free(out);
}

static int32_t n_controls(const smolq_vocab *v, const int32_t *ids, size_t n)
{
    int32_t count = 0;
    size_t i;
    for (i = 0; i < n; i++) count += smolq__kind_type(v, (uint32_t)ids[i]) == SMOLQ_TOKEN_CONTROL;
    return count;
}

/* A user's text brings no control token into a chat, whatever it spells. */
static void chat(const smolq_vocab *v, const char *text, size_t n)
{
    static const char *const formats[] = { NULL, "chatml", "llama3", "mistral", "zephyr", "phi3", "gemma" };
    int32_t *ids = (int32_t *)malloc((n * 4 + 256) * sizeof *ids), controls;
    smolq_message message;
    smolq_chat_options o;
    size_t n_ids, i;
    MUST(ids);
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    message.role = "user";
    for (i = 0; i < sizeof formats / sizeof *formats; i++) {
        o.format = formats[i];
        message.text = "a";
        message.bytes = 1;
        if (smolq_chat_tokenize(v, &message, 1, &o, ids, 256, &n_ids, NULL)) continue;
        controls = n_controls(v, ids, n_ids);
        message.text = text;
        message.bytes = n;
        MUST(smolq_chat_tokenize(v, &message, 1, &o, ids, n * 4 + 256, &n_ids, NULL) == SMOLQ_OK);
        MUST(n_controls(v, ids, n_ids) == controls);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const stops[] = { "the", "\303\251", "\n\n", "aab" };
    const smolq_vocab *v;
    const smolq_vocab_facts *f;
    const char *text;
    int32_t flags, *ids;
    size_t n, capacity, n_ids = 0, again = 0, bytes = 0, n_wanted, first = 0, i;
    char *back, *wanted;
    smolq_error err;
    if (size < 2) return 0;
    v = open_vocab(data[0] % N_VOCABS);
    f = smolq_vocab_info(v);
    flags = data[1] & 7;
    n = size - 2;
    capacity = n * 4 + 16;
    text = (const char *)malloc(n ? n : 1); /* its own block: AddressSanitizer sees the byte before and the byte after */
    ids = (int32_t *)malloc(capacity * sizeof *ids);
    MUST(text && ids);
    memcpy((char *)text, data + 2, n);

    MUST(smolq_tokenize(v, text, n, flags, ids, capacity, &n_ids, &err) == SMOLQ_OK);
    MUST(smolq_tokenize(v, text, n, flags, NULL, 0, &again, &err) == (n_ids ? SMOLQ_E_BUFFER : SMOLQ_OK) && again == n_ids);
    for (i = 0; i < n_ids; i++) MUST(ids[i] >= 0 && ids[i] < smolq_vocab_size(v));
    if (flags & SMOLQ_ADD_BOS) {
        if (f->adds_bos) MUST(n_ids > 0 && ids[first++] == f->bos);
        if (f->adds_eos) MUST(n_ids > first && ids[--n_ids] == f->eos);
    }
    if (!(flags & SMOLQ_PARSE_SPECIAL)) MUST(n_controls(v, ids + first, n_ids - first) == 0);
    MUST(smolq_detokenize(v, ids + first, n_ids - first, SMOLQ_SHOW_SPECIAL, NULL, 0, &bytes, &err) == (bytes ? SMOLQ_E_BUFFER : SMOLQ_OK));
    back = (char *)malloc(bytes + 1);
    wanted = (char *)malloc(n + 2);
    MUST(back && wanted);
    MUST(smolq_detokenize(v, ids + first, n_ids - first, SMOLQ_SHOW_SPECIAL, back, bytes, &bytes, &err) == SMOLQ_OK);
    n_wanted = expected(v, text, n, f->adds_space && !(flags & SMOLQ_NO_PREFIX), wanted);
    if (v->byte_level || !(flags & SMOLQ_PARSE_SPECIAL)) /* between special tokens SentencePiece puts more spaces */
        MUST(bytes == n_wanted && memcmp(back, wanted, bytes) == 0);
    stream(v, ids + first, n_ids - first, back, bytes, data[1] & 8 ? stops : NULL, data[1] & 8 ? 4 : 0);
    if (data[1] & 16) chat(v, text, n);
    if (data[1] & 32) { /* the bytes as ids */
        for (i = 0; i < n; i++) ids[i] = (int32_t)(data[2 + i] * 31 + i) % smolq_vocab_size(v);
        free(back);
        bytes = 0;
        MUST(smolq_detokenize(v, ids, n, SMOLQ_SHOW_SPECIAL, NULL, 0, &bytes, &err) == (bytes ? SMOLQ_E_BUFFER : SMOLQ_OK));
        back = (char *)malloc(bytes + 1);
        MUST(back && smolq_detokenize(v, ids, n, SMOLQ_SHOW_SPECIAL, back, bytes, &bytes, &err) == SMOLQ_OK);
        stream(v, ids, n, back, bytes, stops, data[1] & 8 ? 4 : 0);
    }
    free((char *)text);
    free(ids);
    free(back);
    free(wanted);
    return 0;
}
