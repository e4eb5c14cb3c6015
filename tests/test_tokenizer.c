/* Tokenizers: pre-tokenizers against an independent implementation, both kinds of vocabulary on files built here, hostile tables, time on hostile text,
 * and the golden ids of nine real vocabularies (../shared/data, skipped where it is absent). */
#include "../src/tokenizer.c"
#include "gguf_build.h"
#include "splits.h"
#include "test.h"
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- files built here ---- */

static gguf_build file;
static smolq_source source;
static smolq_open_options options;
static smolq_error error;
static char warning[256];

static void keep_warning(void *user, int32_t level, const char *text)
{
    (void)user;
    if (level == SMOLQ_LOG_WARNING) snprintf(warning, sizeof warning, "%s", text);
}

/* Opens what was built and frees the builder with the test's next gguf_begin; NULL and `error` on failure. */
static smolq_vocab *open_built(void)
{
    smolq_vocab *vocab = NULL;
    warning[0] = error.text[0] = 0;
    error.code = 0;
    gguf_finish(&file);
    memset(&source, 0, sizeof source);
    source.data = file.head.p;
    source.size = file.head.n;
    memset(&options, 0, sizeof options);
    options.sources = &source;
    options.n_sources = 1;
    options.log = keep_warning;
    smolq_vocab_open(NULL, &options, &vocab, &error);
    return vocab;
}

static void begin(const char *model)
{
    gguf_free(&file);
    gguf_begin(&file, 3);
    gguf_text(&file, "tokenizer.ggml.model", model);
}

/* 0 <unk>, 1 <s>, 2 </s>, 3.. the bytes, 259.. words */
enum { SPACE = 259, A, B, AB, SPACE_A, BA, SPM_TOKENS };
static void put_spm(void)
{
    static const char *const words[] = { "\xe2\x96\x81", "a", "b", "ab", "\xe2\x96\x81" "a", "ba" };
    static const float word_scores[] = { -9, -9, -9, 0.25f, -2, 0.5f };
    const char *texts[SPM_TOKENS] = { "<unk>", "<s>", "</s>" };
    static char bytes[256][8];
    int32_t types[SPM_TOKENS] = { 2, 3, 3 };
    float scores[SPM_TOKENS] = { 0 };
    int i;
    for (i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", i);
        texts[3 + i] = bytes[i];
        types[3 + i] = 6;
    }
    for (i = SPACE; i < SPM_TOKENS; i++) {
        texts[i] = words[i - SPACE];
        scores[i] = word_scores[i - SPACE];
        types[i] = 1;
    }
    gguf_texts(&file, "tokenizer.ggml.tokens", texts, SPM_TOKENS);
    gguf_floats(&file, "tokenizer.ggml.scores", GGUF_F32, scores, SPM_TOKENS);
    gguf_ints(&file, "tokenizer.ggml.token_type", GGUF_I32, types, SPM_TOKENS);
}

/* The characters that stand for bytes, made as GPT-2's bytes_to_unicode makes them. */
static const char *byte_texts[256];
static void make_byte_texts(void)
{
    static char texts[256][4];
    int b, moved = 0;
    for (b = 0; b < 256; b++) {
        int c = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae ? b : 256 + moved++;
        if (c < 128) snprintf(texts[b], 4, "%c", c);
        else snprintf(texts[b], 4, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
        byte_texts[b] = texts[b];
    }
}

/* 0..255 the bytes, then words */
enum { HE = 256, LL, LLO, HELLO, SPACE_W, END, TOOL, TOOL_X, HER, QQ, BPE_TOKENS };
static const char *const bpe_merges[] = { "h e", "l l", "ll o", "he llo", "\xc4\xa0 w", "h e", "q q", "x yz" };
static void put_bpe_tokens(void)
{
    static const char *const words[] = { "he", "ll", "llo", "hello", "\xc4\xa0w", "<|im_end|>", "<tool>", "<tool>x", "her", "qq" };
    const char *texts[BPE_TOKENS];
    int32_t types[BPE_TOKENS];
    int i;
    make_byte_texts();
    for (i = 0; i < BPE_TOKENS; i++) {
        texts[i] = i < 256 ? byte_texts[i] : words[i - 256];
        types[i] = i == END || i == QQ ? 3 : i == TOOL || i == TOOL_X ? 4 : 1;
    }
    gguf_texts(&file, "tokenizer.ggml.tokens", texts, BPE_TOKENS);
    gguf_ints(&file, "tokenizer.ggml.token_type", GGUF_I32, types, BPE_TOKENS);
}
static void put_bpe(const char *pre)
{
    if (pre) gguf_text(&file, "tokenizer.ggml.pre", pre);
    put_bpe_tokens();
    gguf_texts(&file, "tokenizer.ggml.merges", bpe_merges, COUNT(bpe_merges));
}

/* Ids of a text as "1 2 3". */
static const char *ids_of(const smolq_vocab *vocab, const char *text, size_t n, int32_t flags)
{
    static char out[2048];
    int32_t ids[256];
    size_t n_ids = 0, i, used = 0;
    smolq_result result = smolq_tokenize(vocab, text, n, flags, ids, COUNT(ids), &n_ids, &error);
    out[0] = 0;
    if (result) snprintf(out, sizeof out, "%s", error.text);
    else
        for (i = 0; i < n_ids; i++) used += (size_t)snprintf(out + used, sizeof out - used, i ? " %d" : "%d", (int)ids[i]);
    return out;
}
#define CHECK_IDS(vocab, text, flags, ...) \
    do { \
        static const int32_t want_[] = { __VA_ARGS__ }; \
        char want_text[512]; \
        size_t i_, u_ = 0; \
        want_text[0] = 0; \
        for (i_ = 0; i_ < COUNT(want_); i_++) u_ += (size_t)snprintf(want_text + u_, sizeof want_text - u_, i_ ? " %d" : "%d", (int)want_[i_]); \
        CHECK(strcmp(ids_of(vocab, text, sizeof text - 1, flags), want_text) == 0, "'%s': %s, expected %s", text, ids_of(vocab, text, sizeof text - 1, flags), want_text); \
    } while (0)

static int detokenizes(const smolq_vocab *vocab, const int32_t *ids, size_t n_ids, int32_t flags, const char *want)
{
    char text[256];
    size_t n = 0;
    return smolq_detokenize(vocab, ids, n_ids, flags, text, sizeof text, &n, &error) == 0 && n == strlen(want) && memcmp(text, want, n) == 0;
}

/* ---- tests ---- */

static void pretokenizers(void)
{
    size_t i;
    for (i = 0; i < COUNT(splits); i++) {
        smolq__text name, piece;
        const smolq__pretok *pre;
        smolq__pieces pieces;
        char got[512] = "";
        size_t used = 0, n = 0;
        name.p = splits[i].pre;
        name.n = strlen(name.p);
        pre = smolq__pretok_find(name);
        REQUIRE(pre, "%s is not in the table", splits[i].pre);
        smolq__pieces_open(&pieces, &smolq__recipes[pre->recipe], (const uint8_t *)splits[i].text, (size_t)splits[i].bytes);
        while (smolq__pieces_next(&pieces, &piece)) {
            CHECK(piece.p == splits[i].text + n && piece.n > 0, "%s: pieces don't follow each other", splits[i].pre);
            used += (size_t)snprintf(got + used, sizeof got - used, n ? " %d" : "%d", (int)piece.n);
            n += piece.n;
        }
        CHECK(n == (size_t)splits[i].bytes && strcmp(got, splits[i].lengths) == 0, "%s '%s': %s, expected %s", splits[i].pre, splits[i].text, got, splits[i].lengths);
    }
}

static void characters(void)
{
    static const struct { const char *bytes; uint32_t c, n; } cases[] = {
        { "a", 'a', 1 }, { "\xc3\xa9", 0xe9, 2 }, { "\xe4\xb8\xad", 0x4e2d, 3 }, { "\xf0\x9f\x98\x80", 0x1f600, 4 }, { "\xf4\x8f\xbf\xbf", 0x10ffff, 4 },
        { "\x80", 0xfffd, 1 }, { "\xc3", 0xfffd, 1 }, { "\xc0\xaf", 0xfffd, 1 }, { "\xe0\x80\xaf", 0xfffd, 1 }, { "\xed\xa0\x80", 0xfffd, 1 }, { "\xf4\x90\x80\x80", 0xfffd, 1 },
        { "\xe4\xb8" "a", 0xfffd, 1 }, { "\xff", 0xfffd, 1 }, { "\xf0\x9f\x98", 0xfffd, 1 } };
    static const struct { uint32_t c, is; } classes[] = {
        { 'A', SMOLQ__LU }, { 'z', SMOLQ__LL }, { 0x1c5, SMOLQ__LT }, { 0x2b0, SMOLQ__LM }, { 0x4e00, SMOLQ__LO }, { 0xac00, SMOLQ__LO }, { 0x301, SMOLQ__M }, { '7', SMOLQ__N }, { 0xbd, SMOLQ__N },
        { 0x2167, SMOLQ__N }, { '!', SMOLQ__P }, { '$', SMOLQ__S }, { 0x1f600, SMOLQ__S }, { ' ', SMOLQ__SPACE }, { 0x85, SMOLQ__SPACE }, { 0x3000, SMOLQ__SPACE }, { 0, SMOLQ__OTHER },
        { 0x200d, SMOLQ__OTHER }, { 0xe000, SMOLQ__OTHER }, { 0xe0100, SMOLQ__M }, { 0x2ebf0, SMOLQ__LO }, { 0x323af, SMOLQ__LO }, { 0x323b0, SMOLQ__OTHER }, { 0xffffffffu, SMOLQ__OTHER } };
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        smolq__char c = smolq__char_at((const uint8_t *)cases[i].bytes, (const uint8_t *)cases[i].bytes + strlen(cases[i].bytes));
        CHECK(c.c == cases[i].c && c.n == cases[i].n, "case %d: U+%04X of %d bytes", (int)i, (unsigned)c.c, (int)c.n);
    }
    for (i = 0; i < COUNT(classes); i++) CHECK(smolq__class(classes[i].c) == classes[i].is, "U+%04X is %u", (unsigned)classes[i].c, (unsigned)smolq__class(classes[i].c));
}

static void sentencepiece(void)
{
    smolq_vocab *v;
    const smolq_vocab_facts *f;
    static const int32_t text[] = { SPACE_A, B, 1, SPACE, 3 + 0xc3, 3 + 0xa9, 0 };
    begin("llama");
    put_spm();
    v = open_built();
    REQUIRE(v, "%s", error.text);
    f = smolq_vocab_info(v);
    CHECK(f->bos == 1 && f->eos == 2 && f->unk == 0 && f->eot == -1 && f->adds_bos && !f->adds_eos && f->adds_space && f->max_token_bytes == 6, "facts");
    CHECK(strcmp(f->model, "llama") == 0 && strcmp(f->pre, "default") == 0 && smolq_vocab_size(v) == SPM_TOKENS, "names");
    CHECK_IDS(v, "ab", 0, SPACE, AB);
    CHECK_IDS(v, "ab", SMOLQ_NO_PREFIX, AB);
    CHECK_IDS(v, "aba", SMOLQ_NO_PREFIX, A, BA);       /* ba scores best */
    CHECK_IDS(v, "aab", 0, SPACE_A, AB);
    CHECK_IDS(v, " a", SMOLQ_NO_PREFIX, SPACE_A);
    CHECK_IDS(v, "\xc3\xa9", 0, SPACE, 3 + 0xc3, 3 + 0xa9); /* no token: its bytes */
    CHECK_IDS(v, "\xc3" "a\xff", SMOLQ_NO_PREFIX, 3 + 0xc3, A, 3 + 0xff);
    CHECK_IDS(v, "a", SMOLQ_ADD_BOS, 1, SPACE_A);
    CHECK_IDS(v, "</s>", SMOLQ_NO_PREFIX, 3 + '<', 3 + '/', 3 + 's', 3 + '>');
    CHECK_IDS(v, "a</s>a", SMOLQ_PARSE_SPECIAL, SPACE_A, 2, SPACE_A);
    CHECK_IDS(v, "</s>a", SMOLQ_PARSE_SPECIAL | SMOLQ_NO_PREFIX, 2, SPACE_A);
    CHECK_IDS(v, "<0x41>", SMOLQ_NO_PREFIX, 3 + '<', 3 + '0', 3 + 'x', 3 + '4', 3 + '1', 3 + '>');
    CHECK(strcmp(ids_of(v, "", 0, 0), "") == 0 && strcmp(ids_of(v, NULL, 0, SMOLQ_ADD_BOS), "1") == 0, "empty text");
    CHECK(detokenizes(v, text, COUNT(text), 0, " ab \xc3\xa9"), "text hides control tokens");
    CHECK(detokenizes(v, text, COUNT(text), SMOLQ_SHOW_SPECIAL, " ab<s> \xc3\xa9<unk>"), "text shows control tokens");
    smolq_vocab_close(v);

    begin("llama");
    put_spm();
    gguf_int(&file, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
    gguf_int(&file, "tokenizer.ggml.add_bos_token", GGUF_BOOL, 0);
    gguf_int(&file, "tokenizer.ggml.add_eos_token", GGUF_BOOL, 1);
    gguf_int(&file, "tokenizer.ggml.remove_extra_whitespaces", GGUF_BOOL, 1);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK_IDS(v, "a", SMOLQ_ADD_BOS, A, 2);
    CHECK_IDS(v, "  b   a ", 0, B, SPACE_A);
    smolq_vocab_close(v);
}

static void byte_level(void)
{
    smolq_vocab *v;
    char all[256];
    int32_t ids[256];
    size_t n, i;
    begin("gpt2");
    put_bpe("gpt-2");
    gguf_int(&file, "tokenizer.ggml.eos_token_id", GGUF_U32, END);
    gguf_int(&file, "tokenizer.ggml.bos_token_id", GGUF_U32, 4294967295);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK(v->n_merges == 5, "%u merges: doubles, those with unknown parts and those that make a control token are left out", v->n_merges);
    CHECK_IDS(v, "hello w", 0, HELLO, SPACE_W);
    CHECK_IDS(v, "hellx", 0, HE, LL, 'x');
    CHECK_IDS(v, "llll", 0, LL, LL);
    CHECK_IDS(v, "lll", 0, LL, 'l');             /* the left of two equals first */
    CHECK_IDS(v, "her", 0, HE, 'r');             /* no merge makes it */
    CHECK_IDS(v, "qq", 0, 'q', 'q');             /* a merge makes no control token */
    CHECK_IDS(v, "a", SMOLQ_ADD_BOS, 'a');       /* no bos */
    CHECK_IDS(v, "\xff\xc3", 0, 0xff, 0xc3);     /* raw bytes, valid or not */
    CHECK_IDS(v, "<|im_end|>", 0, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>');
    CHECK_IDS(v, "a<|im_end|>he", SMOLQ_PARSE_SPECIAL, 'a', END, HE);
    CHECK_IDS(v, "<tool>he<tool>x<tool", 0, TOOL, HE, TOOL_X, '<', 't', 'o', 'o', 'l'); /* user tokens always, the longest */
    CHECK(smolq_token_find(v, "hello", 5) == HELLO && smolq_token_find(v, "nope", 4) == -1 && smolq_token_find(v, "", 0) == -1, "find");
    for (i = 0; i < 256; i++) all[i] = (char)i;
    CHECK(smolq_tokenize(v, all, 256, 0, ids, 256, &n, &error) == 0 && n == 256, "all bytes");
    CHECK(smolq_detokenize(v, ids, n, 0, all, 256, &n, &error) == 0 && n == 256, "and back");
    for (i = 0; i < 256; i++) CHECK((uint8_t)all[i] == i, "byte %d", (int)i);
    smolq_vocab_close(v);

    begin("gpt2");
    put_bpe("llama-bpe");
    gguf_int(&file, "tokenizer.ggml.bos_token_id", GGUF_I32, 5);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK_IDS(v, "her", SMOLQ_ADD_BOS, 5, HER); /* a whole piece needs no merges; the family adds bos */
    smolq_vocab_close(v);

    begin("gpt2");
    put_bpe(NULL);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK(strstr(warning, "tokenizer.ggml.pre") && strcmp(smolq_vocab_info(v)->pre, "default") == 0, "warning: '%s'", warning);
    smolq_vocab_close(v);
}

static void ends_of_generation(void)
{
    static const char *const texts[] = { "a", "<|end|>", "<|return|>", "<|call|>", "<|im_end|>", "</s>", "<|eom_id|>", "b" };
    static const int32_t types[] = { 1, 3, 3, 3, 4, 1, 3, 1 };
    static const char *const merges[] = { "a b" };
    smolq_vocab *v;
    begin("gpt2");
    gguf_text(&file, "tokenizer.ggml.pre", "gpt-4o");
    gguf_texts(&file, "tokenizer.ggml.tokens", texts, COUNT(texts));
    gguf_ints(&file, "tokenizer.ggml.token_type", GGUF_I32, types, COUNT(types));
    gguf_texts(&file, "tokenizer.ggml.merges", merges, 1);
    gguf_int(&file, "tokenizer.ggml.eos_token_id", GGUF_U32, 7);
    gguf_int(&file, "tokenizer.ggml.padding_token_id", GGUF_U32, 99);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK(!smolq_token_is_eog(v, 0) && !smolq_token_is_eog(v, -1) && !smolq_token_is_eog(v, 8), "others");
    CHECK(!smolq_token_is_eog(v, 1), "<|end|> beside <|return|> and <|call|> ends a message only");
    CHECK(smolq_token_is_eog(v, 2) && smolq_token_is_eog(v, 3) && smolq_token_is_eog(v, 4) && smolq_token_is_eog(v, 6), "formats");
    CHECK(!smolq_token_is_eog(v, 5), "a normal token </s>");
    CHECK(smolq_token_is_eog(v, 7), "eos itself");
    CHECK(smolq_vocab_info(v)->eot == 4 && smolq_vocab_info(v)->eom == 6, "eot %d eom %d", (int)smolq_vocab_info(v)->eot, (int)smolq_vocab_info(v)->eom);
    CHECK(smolq_vocab_info(v)->pad == -1 && strstr(warning, "padding_token_id"), "pad %d, warning '%s'", (int)smolq_vocab_info(v)->pad, warning);
    CHECK(strcmp(ids_of(v, "<|im_end|>", 10, 0), "") == 0, "user text can't end a turn, though the file calls the token a user token");
    smolq_vocab_close(v);
}

static void phi3_strips(void)
{
    static const char *const texts[] = { "<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "<|end|>" };
    static const int32_t types[] = { 2, 3, 4, 1, 1, 3 };
    static const float scores[6] = { 0 };
    smolq_vocab *v;
    begin("llama");
    gguf_text(&file, "general.name", "My PHI-3 mini");
    gguf_texts(&file, "tokenizer.ggml.tokens", texts, 6);
    gguf_ints(&file, "tokenizer.ggml.token_type", GGUF_I32, types, 6);
    gguf_floats(&file, "tokenizer.ggml.scores", GGUF_F32, scores, 6);
    gguf_int(&file, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK_IDS(v, "<|end|> \n\ta", SMOLQ_PARSE_SPECIAL, 5, 4);
    CHECK_IDS(v, "<s> a", SMOLQ_PARSE_SPECIAL, 1, 3, 4);
    smolq_vocab_close(v);
}

static void buffers(void)
{
    smolq_vocab *v;
    int32_t ids[3] = { -7, -7, -7 }, bad[1] = { BPE_TOKENS };
    char text[4] = "###";
    size_t n = 99;
    begin("gpt2");
    put_bpe("gpt-2");
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK(smolq_tokenize(v, "abcd", 4, 0, ids, 3, &n, &error) == SMOLQ_E_BUFFER && n == 4 && ids[0] == -7, "too small: %s", error.text);
    CHECK(smolq_tokenize(v, "abcd", 4, 0, NULL, 0, &n, NULL) == SMOLQ_E_BUFFER && n == 4, "only counting");
    CHECK(smolq_tokenize(v, "abc", 3, 0, ids, 3, &n, NULL) == SMOLQ_OK && n == 3 && ids[2] == 'c', "exactly");
    CHECK(smolq_tokenize(v, NULL, 3, 0, ids, 3, &n, NULL) == SMOLQ_E_ARGUMENT, "no text");
    CHECK(smolq_detokenize(v, ids, 3, 0, text, 2, &n, NULL) == SMOLQ_E_BUFFER && n == 3 && text[0] == '#', "text too small");
    CHECK(smolq_detokenize(v, bad, 1, 0, text, 3, &n, &error) == SMOLQ_E_ARGUMENT && strstr(error.text, "266"), "bad id: %s", error.text);
    if (sizeof(size_t) > 4) CHECK(smolq_tokenize(v, "x", (size_t)INT32_MAX + 1, 0, ids, 3, &n, NULL) == SMOLQ_E_ARGUMENT, "2^31 bytes");
    smolq_vocab_close(v);
}

/* One defect each: what the file is, the code and a word of the sentence. */
static const char *const three[] = { "a", "b", "ab" };
static void no_model(void) { gguf_free(&file); gguf_begin(&file, 3); }
static void bert(void) { begin("bert"); }
static void unknown_pre(void) { begin("gpt2"); put_bpe("gpt-5o"); }
static void no_tokens(void) { begin("llama"); }
static void tokens_are_ints(void) { static const int32_t x[] = { 1 }; begin("llama"); gguf_ints(&file, "tokenizer.ggml.tokens", GGUF_I32, x, 1); }
static void tokens_empty(void) { begin("llama"); gguf_texts(&file, "tokenizer.ggml.tokens", three, 0); }
static void tokens_text(void) { begin("llama"); gguf_text(&file, "tokenizer.ggml.tokens", "a"); }
static void scores_short(void) { static const float x[] = { 1, 2 }; begin("llama"); gguf_texts(&file, "tokenizer.ggml.tokens", three, 3); gguf_floats(&file, "tokenizer.ggml.scores", GGUF_F32, x, 2); }
static void scores_nan(void) { static const float x[] = { 1, 0, 3 }; begin("llama"); gguf_texts(&file, "tokenizer.ggml.tokens", three, 3); gguf_array(&file, "tokenizer.ggml.scores", GGUF_F32, 3); gguf_put_float(&file.pairs, x[0], GGUF_F32); gguf_put(&file.pairs, 0x7fc00000, 4); gguf_put_float(&file.pairs, x[2], GGUF_F32); }
static void scores_text(void) { begin("llama"); gguf_texts(&file, "tokenizer.ggml.tokens", three, 3); gguf_texts(&file, "tokenizer.ggml.scores", three, 3); }
static void types_short(void) { static const int32_t x[] = { 1 }; begin("llama"); gguf_texts(&file, "tokenizer.ggml.tokens", three, 3); gguf_ints(&file, "tokenizer.ggml.token_type", GGUF_I32, x, 1); }
static void types_float(void) { static const float x[] = { 1, 1, 1 }; begin("llama"); gguf_texts(&file, "tokenizer.ggml.tokens", three, 3); gguf_floats(&file, "tokenizer.ggml.token_type", GGUF_F32, x, 3); }
static void no_merges(void) { begin("gpt2"); gguf_text(&file, "tokenizer.ggml.pre", "gpt-2"); put_bpe_tokens(); }
static void merge_of_one(void) { static const char *const m[] = { "a b", "ab" }; no_merges(); gguf_texts(&file, "tokenizer.ggml.merges", m, 2); }
static void merge_no_right(void) { static const char *const m[] = { "ab " }; no_merges(); gguf_texts(&file, "tokenizer.ggml.merges", m, 1); }
static void merge_empty(void) { static const char *const m[] = { "" }; no_merges(); gguf_texts(&file, "tokenizer.ggml.merges", m, 1); }
static void merges_ints(void) { static const int32_t x[] = { 1 }; no_merges(); gguf_ints(&file, "tokenizer.ggml.merges", GGUF_U8, x, 1); }
static void bos_outside(void) { begin("gpt2"); put_bpe("gpt-2"); gguf_int(&file, "tokenizer.ggml.bos_token_id", GGUF_U32, BPE_TOKENS); }
static void eos_negative(void) { begin("gpt2"); put_bpe("gpt-2"); gguf_int(&file, "tokenizer.ggml.eos_token_id", GGUF_I32, -2); }
static void eos_text(void) { begin("gpt2"); put_bpe("gpt-2"); gguf_text(&file, "tokenizer.ggml.eos_token_id", "2"); }

static void malformed(void)
{
    static const struct { void (*build)(void); smolq_result code; const char *word; } cases[] = {
        { no_model, SMOLQ_E_MISSING, "tokenizer.ggml.model" }, { bert, SMOLQ_E_UNSUPPORTED, "'bert'" }, { unknown_pre, SMOLQ_E_UNSUPPORTED, "gpt-5o" }, { no_tokens, SMOLQ_E_MISSING, "tokenizer.ggml.tokens" },
        { tokens_are_ints, SMOLQ_E_FORMAT, "strings" }, { tokens_empty, SMOLQ_E_FORMAT, "tokens" }, { tokens_text, SMOLQ_E_FORMAT, "array" }, { scores_short, SMOLQ_E_FORMAT, "scores" },
        { scores_nan, SMOLQ_E_FORMAT, "element 1 is NaN" }, { scores_text, SMOLQ_E_FORMAT, "scores" }, { types_short, SMOLQ_E_FORMAT, "token_type" }, { types_float, SMOLQ_E_FORMAT, "integers" },
        { no_merges, SMOLQ_E_MISSING, "merges" }, { merge_of_one, SMOLQ_E_FORMAT, "merge 1 is 'ab'" }, { merge_no_right, SMOLQ_E_FORMAT, "two parts" }, { merge_empty, SMOLQ_E_FORMAT, "two parts" },
        { merges_ints, SMOLQ_E_FORMAT, "merges" }, { bos_outside, SMOLQ_E_FORMAT, "bos_token_id" }, { eos_negative, SMOLQ_E_FORMAT, "eos_token_id" }, { eos_text, SMOLQ_E_FORMAT, "eos_token_id" } };
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        smolq_vocab *v;
        cases[i].build();
        v = open_built();
        CHECK(!v && error.code == cases[i].code && strstr(error.text, cases[i].word), "case %d (%s): code %d, '%s'", (int)i, cases[i].word, (int)error.code, error.text);
        smolq_vocab_close(v);
    }
}

/* Doubles, empty and broken texts load; the first of equal texts is the one. */
static void odd_tokens(void)
{
    static const char *const texts[] = { "a", "", "a", "\xff\xfe", "ab", "b", "ab" };
    static const char *const merges[] = { "a b" };
    static const int32_t all[] = { 0, 1, 2, 3, 4 };
    smolq_vocab *v;
    begin("gpt2");
    gguf_text(&file, "tokenizer.ggml.pre", "gpt-2");
    gguf_texts(&file, "tokenizer.ggml.tokens", texts, COUNT(texts));
    gguf_texts(&file, "tokenizer.ggml.merges", merges, 1);
    v = open_built();
    REQUIRE(v, "%s", error.text);
    CHECK_IDS(v, "abaxb", 0, 4, 0, 5); /* x has no token and there is no unknown token */
    CHECK(detokenizes(v, all, COUNT(all), 0, "aa\xff\xfe" "ab"), "texts");
    smolq_vocab_close(v);
}

/* ---- memory ---- */

static int64_t allocs_left;
static long live;
static void *counted_alloc(void *user, size_t bytes)
{
    (void)user;
    if (allocs_left-- == 0) return NULL;
    live++;
    return malloc(bytes);
}
static void counted_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    live--;
    free(memory);
}

static void allocation_failures(void)
{
    int kind, done = 0;
    for (kind = 0; kind < 2; kind++) {
        int64_t k;
        begin(kind ? "llama" : "gpt2");
        if (kind) put_spm();
        else put_bpe("llama-bpe");
        smolq_vocab_close(open_built());
        options.allocator.alloc = counted_alloc;
        options.allocator.release = counted_release;
        for (k = 0, done = 0; !done && k < 100; k++) {
            smolq_vocab *v = NULL;
            int32_t ids[301];
            char text[300];
            size_t n = 0;
            smolq_result result;
            memset(text, 'l', sizeof text);
            allocs_left = k;
            result = smolq_vocab_open(NULL, &options, &v, &error);
            if (!result) {
                result = smolq_tokenize(v, text, sizeof text, 0, ids, 301, &n, &error);
                done = result == 0;
            }
            CHECK(result == 0 || result == SMOLQ_E_MEMORY, "failing allocation %d: %d %s", (int)k, (int)result, error.text);
            smolq_vocab_close(v);
            CHECK(live == 0, "failing allocation %d: %ld pieces leaked", (int)k, live);
        }
        CHECK(done && k > 5, "no end after %d allocations", (int)k);
    }
}

/* ---- time: the promise is a second for 1 MB on an ordinary machine; five here, as sanitizers and busy machines are slow ---- */

/* Tokenizes `room` bytes of one unit. */
static void repeat(const smolq_vocab *v, const char *what, const char *unit, size_t unit_bytes, size_t room)
{
    size_t n = room / unit_bytes * unit_bytes, i, n_ids = 0;
    char *text = (char *)malloc(n);
    int32_t *ids = (int32_t *)malloc((3 * n + 3) * sizeof *ids);
    clock_t start = clock();
    double seconds;
    if (!text || !ids) abort();
    for (i = 0; i < n; i++) text[i] = unit[i % unit_bytes];
    CHECK(smolq_tokenize(v, text, n, SMOLQ_PARSE_SPECIAL, ids, 3 * n + 3, &n_ids, &error) == SMOLQ_OK, "%s: %s", what, error.text);
    seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < (room > 1 << 17 ? 5.0 : 1.0), "%s: %.1f s for %d bytes", what, seconds, (int)n);
    free(text);
    free(ids);
}

static void repetitive_text(void)
{
    static const struct { const char *what, *unit; size_t bytes; } units[] = {
        { "one letter", "a", 1 }, { "spaces", " ", 1 }, { "U+0000", "\0", 1 }, { "combining marks", "\xcc\x81", 2 }, { "line ends", "\n", 1 }, { "digits", "1", 1 }, { "apostrophes", "'", 1 },
        { "broken UTF-8", "\xe4", 1 }, { "capitals after a letter without case", "\xe4\xb8\xad" "A", 4 }, { "space and tab", " \t", 2 }, { "half a special token", "<", 1 } };
    static const char *const pres[] = { "llama-bpe", "default", "falcon", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "starcoder", "qwen35" };
    size_t p, i;
    for (p = 0; p <= COUNT(pres); p++) { /* the last round is SentencePiece */
        const char *texts[256 + 64 + 3];
        const char *merges[64];
        char merge_texts[64][96], special[2][256];
        static float scores[256 + 64 + 3];
        int32_t types[256 + 64 + 3];
        int n_tokens = 256, n_merges = 0, letter, power, b;
        static char words[64][64];
        smolq_vocab *v;
        make_byte_texts();
        for (b = 0; b < 256; b++) texts[b] = byte_texts[b];
        for (letter = 0; letter < 3; letter++) { /* runs of 2, 4, .. 32 of a, of the space, of one byte of a mark */
            const char *one = p == COUNT(pres) && letter == 1 ? "\xe2\x96\x81" : byte_texts[letter == 0 ? 'a' : letter == 1 ? ' ' : 0xcc];
            for (power = 1; power <= 4; power++) {
                char half[64] = "";
                int k;
                for (k = 0; k < 1 << (power - 1); k++) strcat(half, one);
                snprintf(words[n_merges], sizeof words[0], "%s%s", half, half);
                snprintf(merge_texts[n_merges], sizeof merge_texts[0], "%s %s", half, half);
                merges[n_merges] = merge_texts[n_merges];
                texts[n_tokens++] = words[n_merges++];
            }
        }
        for (b = 0; b < 2; b++) { /* special tokens that fit for long and then don't */
            memset(special[b], '<', 255);
            special[b][255] = 0;
            special[b][254 - b] = '!';
            texts[n_tokens++] = special[b];
        }
        for (b = 0; b < n_tokens; b++) {
            types[b] = b >= n_tokens - 2 ? 3 : 1;
            scores[b] = -(float)b;
        }
        begin(p == COUNT(pres) ? "llama" : "gpt2");
        if (p < COUNT(pres)) gguf_text(&file, "tokenizer.ggml.pre", pres[p]);
        gguf_texts(&file, "tokenizer.ggml.tokens", texts, (size_t)n_tokens);
        gguf_ints(&file, "tokenizer.ggml.token_type", GGUF_I32, types, (size_t)n_tokens);
        gguf_floats(&file, "tokenizer.ggml.scores", GGUF_F32, scores, (size_t)n_tokens);
        gguf_texts(&file, "tokenizer.ggml.merges", merges, (size_t)n_merges);
        v = open_built();
        REQUIRE(v, "%s", error.text);
        for (i = 0; i < COUNT(units); i++) repeat(v, units[i].what, units[i].unit, units[i].bytes, p == COUNT(pres) || p == 0 ? 1 << 20 : 1 << 17);
        smolq_vocab_close(v);
    }
}

/* ---- golden data ---- */

static char *read_file(const char *path, size_t *n)
{
    FILE *f = path ? fopen(path, "rb") : NULL;
    char *text = NULL;
    long size;
    if (!f) return NULL;
    if (fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0 && (text = (char *)malloc((size_t)size + 1)) != NULL) {
        *n = fread(text, 1, (size_t)size, f);
        text[*n] = 0;
    }
    fclose(f);
    return text;
}

/* Checks the ids of a text against decimal numbers in *want up to `stop`, which *want is left behind. */
static void check_ids(const smolq_vocab *v, const char *name, const char *text, size_t n, int32_t flags, const char **want, char stop)
{
    int32_t *ids = (int32_t *)malloc((3 * n + 8) * sizeof *ids);
    size_t n_ids = 0, i = 0;
    const char *p = *want;
    if (!ids) abort();
    CHECK(smolq_tokenize(v, text, n, flags, ids, 3 * n + 8, &n_ids, &error) == SMOLQ_OK, "%s: %s", name, error.text);
    for (;; i++) {
        char *end;
        long id;
        while (*p && *p != stop && (*p < '0' || *p > '9')) p++;
        if (*p == stop || !*p) break;
        id = strtol(p, &end, 10);
        p = end;
        CHECK(i >= n_ids || ids[i] == id, "%s: token %d is %d, expected %ld", name, (int)i, (int)ids[i], id);
    }
    CHECK(i == n_ids, "%s: %d tokens, expected %d", name, (int)n_ids, (int)i);
    if (v->byte_level) {
        char *back = (char *)malloc(n + 1);
        size_t bytes = 0;
        if (!back) abort();
        CHECK(smolq_detokenize(v, ids, n_ids, SMOLQ_SHOW_SPECIAL, back, n, &bytes, &error) == SMOLQ_OK && bytes == n && memcmp(back, text, n) == 0, "%s: the text does not come back", name);
        free(back);
    }
    free(ids);
    *want = p + (*p != 0);
}

static const char *const golden_vocabs[] = { "deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "smollm3", "starcoder" };
static const char *const golden_texts[] = { "emoji_symbols.txt", "llama3_1_prompt_format.md", "udhr/arb.txt", "udhr/ben.txt", "udhr/cmn_hans.txt", "udhr/deu_1901.txt", "udhr/ell_monotonic.txt", "udhr/eng.txt",
    "udhr/fra.txt", "udhr/heb.txt", "udhr/hin.txt", "udhr/jpn.txt", "udhr/khm.txt", "udhr/kor.txt", "udhr/rus.txt", "udhr/spa.txt", "udhr/tha.txt", "udhr/tur.txt", "udhr/vie.txt" };

static smolq_vocab *open_golden(const char *name)
{
    char path[256];
    const char *full;
    smolq_vocab *v = NULL;
    snprintf(path, sizeof path, "vocab/ggml-vocab-%s.gguf", name);
    full = shared_path(path);
    if (full) CHECK(smolq_vocab_open(full, NULL, &v, &error) == SMOLQ_OK, "%s: %s", name, error.text);
    return v;
}

static void golden_files(void)
{
    size_t i, k, n_files = 0;
    int special;
    for (i = 0; i < COUNT(golden_vocabs); i++) {
        smolq_vocab *v = open_golden(golden_vocabs[i]);
        if (!v) SKIP("no ../shared/data/vocab");
        for (k = 0; k < 2 * COUNT(golden_texts); k++) {
            const char *name = golden_texts[k / 2], *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name, *at;
            char path[256], label[256];
            char *text, *want;
            size_t n, n_want;
            special = (int)(k & 1);
            snprintf(label, sizeof label, "golden/tokens/%s/%s%s.ids", golden_vocabs[i], base, special ? ".special" : "");
            want = read_file(shared_path(label), &n_want);
            if (!want) continue;
            snprintf(path, sizeof path, "text/%s", name);
            text = read_file(shared_path(path), &n);
            REQUIRE(text, "%s is missing", path);
            at = want;
            check_ids(v, label, text, n, special ? SMOLQ_PARSE_SPECIAL : 0, &at, '\1');
            n_files++;
            free(text);
            free(want);
        }
        smolq_vocab_close(v);
    }
    CHECK(n_files == 174, "%d files compared, expected 174", (int)n_files);
}

/* vocab/NAME.gguf.inp: texts with a line __ggml_vocab_test__ between; .out: a line of ids for each */
static void golden_cases(void)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    size_t i, n_cases = 0;
    for (i = 0; i < COUNT(golden_vocabs); i++) {
        char path[256], label[300];
        char *texts, *want;
        const char *at, *p;
        size_t n, n_want;
        smolq_vocab *v = open_golden(golden_vocabs[i]);
        if (!v) SKIP("no ../shared/data/vocab");
        snprintf(path, sizeof path, "vocab/ggml-vocab-%s.gguf.inp", golden_vocabs[i]);
        texts = read_file(shared_path(path), &n);
        snprintf(path, sizeof path, "vocab/ggml-vocab-%s.gguf.out", golden_vocabs[i]);
        want = read_file(shared_path(path), &n_want);
        at = want;
        for (p = texts; p && want && *at; n_cases++) {
            const char *end = strstr(p, mark);
            snprintf(label, sizeof label, "%s case at byte %d", golden_vocabs[i], (int)(p - texts));
            if (!end) break; /* the last text ends in a mark */
            check_ids(v, label, p, (size_t)(end - p), 0, &at, '\n');
            p = end + sizeof mark - 1;
        }
        free(texts);
        free(want);
        smolq_vocab_close(v);
    }
    CHECK(n_cases >= 8 * 40, "%d cases", (int)n_cases);
}

/* OpenAI's own cases for the GPT-2 vocabulary: EncodingName, Sample, Encoded */
static void openai_cases(void)
{
    static const char head[] = "EncodingName: r50k_base\nSample: ", middle[] = "\nEncoded: ";
    smolq_vocab *v = open_golden("gpt-2");
    size_t n, n_cases = 0;
    char *all = read_file(shared_path("tokvec/openai_TestPlans.txt"), &n);
    const char *p = all;
    if (!v || !all) SKIP("no ../shared/data/tokvec");
    while ((p = strstr(p, head)) != NULL) {
        const char *text = p + sizeof head - 1, *end = strstr(text, middle), *want;
        char label[64];
        REQUIRE(end, "a case without ids");
        want = end + sizeof middle - 1;
        snprintf(label, sizeof label, "r50k_base case %d", (int)++n_cases);
        check_ids(v, label, text, (size_t)(end - text), 0, &want, ']');
        p = want;
    }
    CHECK(n_cases > 10, "%d cases", (int)n_cases);
    free(all);
    smolq_vocab_close(v);
}

/* Tables of SmolLM3's size. */
static void table_memory(void)
{
    smolq_vocab *v = open_golden("smollm3");
    if (!v) SKIP("no ../shared/data/vocab");
    CHECK(v->heap.used < 12000000, "%d bytes", (int)v->heap.used);
    CHECK(v->n_merges == 280147, "%u merges", v->n_merges);
    smolq_vocab_close(v);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "code points are decoded and classed", characters },
        { "pre-tokenizers cut as their expressions say", pretokenizers },
        { "SentencePiece: scores, byte fallback, prefix, flags", sentencepiece },
        { "byte-level BPE: merges, whole pieces, special tokens", byte_level },
        { "tokens that end a generation", ends_of_generation },
        { "Phi-3's special tokens swallow spaces", phi3_strips },
        { "buffers that are too small, ids that are out of range", buffers },
        { "malformed vocabularies are refused by name", malformed },
        { "odd tokens load", odd_tokens },
        { "every allocation failing in turn", allocation_failures },
        { "a megabyte of one thing takes no time", repetitive_text },
        { "golden ids of whole files", golden_files },
        { "golden ids of short cases", golden_cases },
        { "OpenAI's cases for GPT-2", openai_cases },
        { "SmolLM3's tables fit in 12 MB", table_memory } };
    int failed = run_tests(argc, argv, tests, COUNT(tests));
    gguf_free(&file);
    return failed;
}
