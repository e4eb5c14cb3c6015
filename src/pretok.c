/* ==== pretok.c: cutting text into pieces =============================================================================
 * Byte-level BPE never merges across the borders of pieces, and where the borders are is part of what a model was trained with.  The training
 * code states it as regular expressions; here each kind of expression is a small scanner over characters, so that time is linear and the
 * stack flat whatever the text.
 *
 * A scanner looks at the start of a span and answers with a length: positive, a piece of so many bytes begins here; negative, no piece
 * begins in the next so many bytes.  What lies between pieces is a piece too.  A pre-tokenizer is up to six scanners in stages, each cutting
 * the pieces of the one before; lookahead ends with the span.  A stage that is nothing but one scanner for all text is the common case.
 *
 *     name  --SMOLQ__PRETOKENIZERS-->  recipe, flags  --SMOLQ__RECIPES-->  stages, parameters
 *
 * The expressions are those of the models' tokenizer.json; llama.cpp (src/llama-vocab.cpp) was read for which name means which. */
#pragma once
#include "unicode.c"

#define SMOLQ__STAGES 6
typedef struct smolq__recipe smolq__recipe;
typedef ptrdiff_t (*smolq__scanner)(const smolq__recipe *recipe, const uint8_t *p, const uint8_t *end);
struct smolq__recipe {
    uint32_t       digits;                /* most digits in a piece; 0: no limit */
    uint32_t       letters;               /* classes that make words */
    const char    *set;                   /* punctuation: characters that count as such; words: what may trail a run of symbols */
    smolq__scanner stage[SMOLQ__STAGES];  /* up to the first NULL */
};

/* ---- what scanners are made of: each takes a start and returns an end, the start itself if nothing fits ---- */

static const uint8_t *smolq__skip(const uint8_t *p, const uint8_t *end, uint32_t classes, uint32_t most) /* most 0: no limit */
{
    smolq__char c = smolq__char_at(p, end);
    for (; c.is & classes; c = smolq__char_at(p, end)) {
        p += c.n;
        if (--most == 0) break;
    }
    return p;
}

/* ASCII characters of set; strchr would find the NUL that ends it. */
static int smolq__in_set(const char *set, uint32_t c) { return c > 0 && c < 0x80 && strchr(set, (int)c) != NULL; }
static const uint8_t *smolq__skip_set(const uint8_t *p, const uint8_t *end, const char *set)
{
    while (p < end && smolq__in_set(set, *p)) p++;
    return p;
}

/* 's 't 're 've 'm 'll 'd; fold: in either case. */
static const uint8_t *smolq__skip_contraction(const uint8_t *p, const uint8_t *end, int fold)
{
    uint32_t a, b, bit = fold ? 0x20 : 0;
    if (end - p < 2 || p[0] != '\'') return p;
    a = p[1] | bit;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    b = end - p < 3 ? 0 : p[2] | bit;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? p + 3 : p;
}

/* \s*[\r\n]+ (with lines) | \s+(?!\S) | \s+ : up to the last line end; else all but the last space when something follows; else all. */
static const uint8_t *smolq__skip_spaces(const uint8_t *p, const uint8_t *end, int lines)
{
    const uint8_t *at = p, *last = p, *line = p;
    smolq__char c = smolq__char_at(p, end);
    for (; c.is & SMOLQ__SPACE; c = smolq__char_at(at, end)) {
        last = at;
        at += c.n;
        if (c.c == '\r' || c.c == '\n') line = at;
    }
    if (lines && line > p) return line;
    return at < end && last > p ? last : at;
}

/* [^\r\n\p{L}\p{N}]? before a word */
static int smolq__leads_word(smolq__char c) { return c.n && c.c != '\r' && c.c != '\n' && !(c.is & (SMOLQ__LETTER | SMOLQ__N)); }

/* ---- scanners for all text ---- */

/* GPT-2:  's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static ptrdiff_t smolq__scan_gpt2(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = smolq__skip_contraction(p, end, 0);
    smolq__char c;
    (void)r;
    if (q > p) return q - p;
    q = p + (*p == ' ');
    c = smolq__char_at(q, end);
    if (c.is & SMOLQ__LETTER) return smolq__skip(q, end, SMOLQ__LETTER, 0) - p;
    if (c.is & SMOLQ__N) return smolq__skip(q, end, SMOLQ__N, 0) - p;
    if (c.n && c.is != SMOLQ__SPACE) return smolq__skip(q, end, ~(uint32_t)(SMOLQ__SPACE | SMOLQ__LETTER | SMOLQ__N), 0) - p;
    return smolq__skip_spaces(p, end, 0) - p;
}

/* The end that Llama 3's and GPT-4o's expressions share:  \p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[set]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static ptrdiff_t smolq__scan_rest(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *symbols, *q = smolq__skip(p, end, SMOLQ__N, r->digits);
    if (q > p) return q - p;
    symbols = p + (*p == ' ');
    q = smolq__skip(symbols, end, ~(uint32_t)(SMOLQ__SPACE | SMOLQ__LETTER | SMOLQ__N | r->letters), 0);
    if (q > symbols) return smolq__skip_set(q, end, r->set) - p;
    return smolq__skip_spaces(p, end, 1) - p;
}

/* Llama 3:  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[letters]+|...
 * Seed-Coder's ` ?[^\s\p{L}\p{N}\r\n]+` says nothing new, as \s holds the line ends: it is this with an empty set. */
static ptrdiff_t smolq__scan_llama3(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = smolq__skip_contraction(p, end, 1);
    smolq__char c = smolq__char_at(p, end);
    if (q > p) return q - p;
    q = smolq__leads_word(c) && (smolq__char_at(p + c.n, end).is & r->letters) ? p + c.n : p;
    q = smolq__skip(q, end, r->letters, 0);
    return q > p ? q - p : smolq__scan_rest(r, p, end);
}

/* [upper]*[lower]+ from p, where \p{Lm} \p{Lo} \p{M} belong to both.  A matcher takes all that may be upper, then as much lower as follows; if none
 * follows, it gives back characters until the last taken is lower.  *caps: the end of what may be upper.  Returns p for no match. */
static const uint8_t *smolq__skip_cased(const uint8_t *p, const uint8_t *end, const uint8_t **caps)
{
    const uint32_t both = SMOLQ__LM | SMOLQ__LO | SMOLQ__M, upper = SMOLQ__LU | SMOLQ__LT | both, lower = SMOLQ__LL | both;
    const uint8_t *match = p;
    smolq__char c = smolq__char_at(p, end);
    for (; c.is & upper; c = smolq__char_at(p, end)) {
        p += c.n;
        if (c.is & lower) match = p;
    }
    *caps = p;
    return c.is & lower ? smolq__skip(p, end, lower, 0) : match;
}

/* o200k's words:  [^\r\n\p{L}\p{N}]?[upper]*[lower]+|[^\r\n\p{L}\p{N}]?[upper]+[lower]*
 * A mark may be the character before a word or its first: so each form is tried after it, then from it. */
static const uint8_t *smolq__skip_word(const uint8_t *p, const uint8_t *end)
{
    smolq__char c = smolq__char_at(p, end);
    const uint8_t *word = p + (smolq__leads_word(c) ? c.n : 0), *caps_after, *caps_here, *q;
    q = smolq__skip_cased(word, end, &caps_after);
    if (q > word) return q;
    q = smolq__skip_cased(p, end, &caps_here);
    if (q > p) return q;
    return caps_after > word ? caps_after : caps_here;
}

static ptrdiff_t smolq__scan_tekken(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = smolq__skip_word(p, end);
    return q > p ? q - p : smolq__scan_rest(r, p, end);
}

/* GPT-4o: a contraction stays with its word:  ...(?i:'s|'t|'re|'ve|'m|'ll|'d)? */
static ptrdiff_t smolq__scan_gpt4o(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = smolq__skip_word(p, end);
    return q > p ? smolq__skip_contraction(q, end, 1) - p : smolq__scan_rest(r, p, end);
}

/* ---- scanners for some of the text ---- */

static ptrdiff_t smolq__scan_numbers(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) /* \p{N}{1,digits} */
{
    const uint8_t *q = smolq__skip(p, end, SMOLQ__N, r->digits);
    return q > p ? q - p : -(ptrdiff_t)smolq__char_at(p, end).n;
}

static ptrdiff_t smolq__scan_three_digits(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) /* [0-9][0-9][0-9] */
{
    ptrdiff_t i;
    (void)r;
    for (i = 0; i < 3; i++)
        if (p + i == end || p[i] < '0' || p[i] > '9') return -(p + i < end ? i + 1 : i);
    return 3;
}

static ptrdiff_t smolq__scan_line_end(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) /* [\r\n] */
{
    (void)r;
    (void)end;
    return *p == '\r' || *p == '\n' ? 1 : -1;
}

static ptrdiff_t smolq__scan_punctuation(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) /* [\p{P}set]+ */
{
    const uint8_t *q = p;
    smolq__char c = smolq__char_at(q, end);
    for (; (c.is & SMOLQ__P) || smolq__in_set(r->set, c.c); c = smolq__char_at(q, end)) q += c.n;
    return q > p ? q - p : -(ptrdiff_t)c.n;
}

static ptrdiff_t smolq__scan_trailing_spaces(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) /* \s+$ */
{
    const uint8_t *q = smolq__skip(p, end, SMOLQ__SPACE, 0);
    (void)r;
    if (q == p) return -(ptrdiff_t)smolq__char_at(p, end).n;
    return q == end ? q - p : p - q;
}

/* \s?[...]+ where the set is a function */
static ptrdiff_t smolq__scan_after_space(const uint8_t *p, const uint8_t *end, int (*fits)(smolq__char c))
{
    smolq__char first = smolq__char_at(p, end), c = first;
    const uint8_t *q = p;
    if (first.is & SMOLQ__SPACE) c = smolq__char_at(q += first.n, end);
    if (!fits(c)) return -(ptrdiff_t)first.n;
    for (; fits(c); c = smolq__char_at(q, end)) q += c.n;
    return q - p;
}

static int smolq__is_letter(smolq__char c) { return (c.is & SMOLQ__LETTER) != 0; }
static int smolq__is_punctuation(smolq__char c) { return (c.is & SMOLQ__P) != 0; }

/* Code point ranges, in pairs. */
static int smolq__in_ranges(uint32_t c, const uint32_t *ranges, size_t n)
{
    size_t i;
    for (i = 0; i < n; i += 2)
        if (c >= ranges[i] && c <= ranges[i + 1]) return 1;
    return 0;
}

/* DeepSeek LLM lists the letters of scripts with case, as of its day: the later and the less usual blocks are not among them. */
static int smolq__is_listed_letter(smolq__char c)
{
    static const uint32_t missing[] = { 0x560, 0x588, 0x10c7, 0x10ff, 0x1c80, 0x1c88, 0x2d00, 0x2d2d, 0xa790, 0xa7fa, 0xab30, 0xab68, 0x10570, 0x105bc, 0x16e40, 0x16e7f, 0x1d400, 0x1df2a };
    return (c.is & SMOLQ__CASED) && (c.c < 0x560 || !smolq__in_ranges(c.c, missing, sizeof missing / sizeof *missing));
}

/* [!-/:-~ and full-width forms and quotes]: as written, so with the ASCII letters from : to ~ */
static int smolq__is_listed_punctuation(smolq__char c)
{
    static const uint32_t listed[] = { '!', '/', ':', '~', 0xff01, 0xff0f, 0xff1a, 0xff5e, 0x2018, 0x201f, 0x3001, 0x3002 };
    return smolq__in_ranges(c.c, listed, sizeof listed / sizeof *listed);
}

/* Scripts of East Asia, DeepSeek's two ideas of them.  Spaces in the range, such as U+3000, are not matched. */
static ptrdiff_t smolq__scan_cjk(const uint8_t *p, const uint8_t *end, const uint32_t *ranges, size_t n)
{
    const uint8_t *q = p;
    smolq__char c = smolq__char_at(p, end);
    for (; c.n && c.is != SMOLQ__SPACE && smolq__in_ranges(c.c, ranges, n); c = smolq__char_at(q, end)) q += c.n;
    return q > p ? q - p : -(ptrdiff_t)c.n;
}
static ptrdiff_t smolq__scan_cjk_wide(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    static const uint32_t ranges[] = { 0x800, 0x9fa5, 0xac00, 0xd7ff };
    (void)r;
    return smolq__scan_cjk(p, end, ranges, 4);
}
static ptrdiff_t smolq__scan_cjk_narrow(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    static const uint32_t ranges[] = { 0x4e00, 0x9fa5, 0x3040, 0x30ff };
    (void)r;
    return smolq__scan_cjk(p, end, ranges, 4);
}

static ptrdiff_t smolq__scan_listed_letters(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) { (void)r; return smolq__scan_after_space(p, end, smolq__is_listed_letter); }
static ptrdiff_t smolq__scan_listed_signs(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) { (void)r; return smolq__scan_after_space(p, end, smolq__is_listed_punctuation); }
static ptrdiff_t smolq__scan_letters(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) { (void)r; return smolq__scan_after_space(p, end, smolq__is_letter); }
static ptrdiff_t smolq__scan_signs(const smolq__recipe *r, const uint8_t *p, const uint8_t *end) { (void)r; return smolq__scan_after_space(p, end, smolq__is_punctuation); }

/* DeepSeek V3:  [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static ptrdiff_t smolq__scan_deepseek3(const smolq__recipe *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q, *symbols;
    smolq__char c = smolq__char_at(p, end);
    if (c.c < 0x80 && (c.is & (SMOLQ__P | SMOLQ__S))) {
        for (q = p + 1; q < end && ((*q | 0x20) >= 'a' && (*q | 0x20) <= 'z'); q++) {}
        if (q > p + 1) return q - p;
    }
    q = c.c != '\r' && c.c != '\n' && !(c.is & (SMOLQ__LETTER | SMOLQ__P | SMOLQ__S)) && (smolq__char_at(p + c.n, end).is & r->letters) ? p + c.n : p;
    q = smolq__skip(q, end, r->letters, 0);
    if (q > p) return q - p;
    symbols = p + (*p == ' ');
    q = smolq__skip(symbols, end, SMOLQ__P | SMOLQ__S, 0);
    if (q > symbols) return smolq__skip_set(q, end, r->set) - p;
    q = smolq__skip_spaces(p, end, 1);
    return q > p ? q - p : -(ptrdiff_t)c.n;
}

/* ---- the tables ---- */

#define SMOLQ__WORD_MARKS (SMOLQ__LETTER | SMOLQ__M)
/*    recipe       digits  letters             set           stages */
#define SMOLQ__RECIPES(X) \
    X(DEFAULT,        0,   SMOLQ__LETTER,     "$+<=>^~|",    smolq__scan_punctuation, smolq__scan_gpt2, smolq__scan_numbers, smolq__scan_three_digits, NULL, NULL) \
    X(FALCON,         0,   SMOLQ__LETTER,     "$+<=>^~|`",   smolq__scan_punctuation, smolq__scan_gpt2, smolq__scan_three_digits, NULL, NULL, NULL) \
    X(GPT2,           0,   SMOLQ__LETTER,     "",            smolq__scan_gpt2, NULL, NULL, NULL, NULL, NULL) \
    X(STARCODER,      1,   SMOLQ__LETTER,     "",            smolq__scan_numbers, smolq__scan_gpt2, NULL, NULL, NULL, NULL) \
    X(LLAMA3,         3,   SMOLQ__LETTER,     "\r\n",        smolq__scan_llama3, NULL, NULL, NULL, NULL, NULL) \
    X(QWEN2,          1,   SMOLQ__LETTER,     "\r\n",        smolq__scan_llama3, NULL, NULL, NULL, NULL, NULL) \
    X(QWEN35,         1,   SMOLQ__WORD_MARKS, "\r\n",        smolq__scan_llama3, NULL, NULL, NULL, NULL, NULL) \
    X(SEED_CODER,     1,   SMOLQ__LETTER,     "",            smolq__scan_llama3, NULL, NULL, NULL, NULL, NULL) \
    X(MINICPM5,       3,   SMOLQ__LETTER,     "\r\n",        smolq__scan_numbers, smolq__scan_llama3, NULL, NULL, NULL, NULL) \
    X(GPT4O,          3,   SMOLQ__LETTER,     "\r\n/",       smolq__scan_gpt4o, NULL, NULL, NULL, NULL, NULL) \
    X(TEKKEN,         1,   SMOLQ__LETTER,     "\r\n/",       smolq__scan_tekken, NULL, NULL, NULL, NULL, NULL) \
    X(DEEPSEEK_LLM,   0,   SMOLQ__LETTER,     "",            smolq__scan_line_end, smolq__scan_listed_letters, smolq__scan_listed_signs, smolq__scan_trailing_spaces, smolq__scan_cjk_wide, smolq__scan_numbers) \
    X(DEEPSEEK_CODER, 1,   SMOLQ__LETTER,     "",            smolq__scan_line_end, smolq__scan_letters, smolq__scan_signs, smolq__scan_cjk_wide, smolq__scan_numbers, NULL) \
    X(DEEPSEEK3,      3,   SMOLQ__WORD_MARKS, "\r\n",        smolq__scan_numbers, smolq__scan_cjk_narrow, smolq__scan_deepseek3, NULL, NULL, NULL)

#define SMOLQ__RECIPE_ENUM(name, ...) SMOLQ__RECIPE_##name,
enum { SMOLQ__RECIPES(SMOLQ__RECIPE_ENUM) SMOLQ__RECIPE_COUNT };
#undef SMOLQ__RECIPE_ENUM
#define SMOLQ__RECIPE_ROW(name, digits, letters, set, s1, s2, s3, s4, s5, s6) { digits, letters, set, { s1, s2, s3, s4, s5, s6 } },
static const smolq__recipe smolq__recipes[SMOLQ__RECIPE_COUNT] = { SMOLQ__RECIPES(SMOLQ__RECIPE_ROW) };
#undef SMOLQ__RECIPE_ROW

/* A name in tokenizer.ggml.pre.  whole: a piece that is a token is that token, whatever the merges say.  bos: the default of add_bos_token. */
typedef struct smolq__pretok { const char *name; int32_t recipe, whole, bos; } smolq__pretok;
/*    name                recipe          whole  bos */
#define SMOLQ__PRETOKENIZERS(X) \
    X("default",          DEFAULT,          0,    0) \
    X("gpt-2",            GPT2,             0,    0) \
    X("gpt-neox",         GPT2,             0,    0) \
    X("phi-2",            GPT2,             0,    0) \
    X("mpt",              GPT2,             0,    0) \
    X("olmo",             GPT2,             0,    0) \
    X("jais",             GPT2,             0,    0) \
    X("gigachat",         GPT2,             0,    0) \
    X("a.x-4.0",          GPT2,             0,    0) \
    X("mellum",           GPT2,             0,    0) \
    X("exaone4",          GPT2,             0,    0) \
    X("trillion",         GPT2,             0,    0) \
    X("granite-docling",  GPT2,             0,    0) \
    X("starcoder",        STARCODER,        0,    0) \
    X("refact",           STARCODER,        0,    0) \
    X("command-r",        STARCODER,        0,    0) \
    X("smollm",           STARCODER,        0,    0) \
    X("codeshell",        STARCODER,        0,    0) \
    X("exaone",           STARCODER,        0,    0) \
    X("minerva-7b",       STARCODER,        0,    0) \
    X("mellum2",          STARCODER,        0,    0) \
    X("falcon",           FALCON,           0,    0) \
    X("llama-bpe",        LLAMA3,           1,    1) \
    X("llama3",           LLAMA3,           1,    1) \
    X("llama-v3",         LLAMA3,           1,    1) \
    X("falcon3",          LLAMA3,           1,    1) \
    X("falcon-h1",        LLAMA3,           1,    1) \
    X("pixtral",          LLAMA3,           1,    1) \
    X("midm-2.0",         LLAMA3,           1,    1) \
    X("lfm2",             LLAMA3,           1,    1) \
    X("minicpm5",         MINICPM5,           1,    0) \
    X("smaug-bpe",        LLAMA3,           0,    0) \
    X("dbrx",             LLAMA3,           0,    0) \
    X("chatglm-bpe",      LLAMA3,           0,    0) \
    X("glm4",             LLAMA3,           0,    0) \
    X("qwen2",            QWEN2,            0,    0) \
    X("deepseek-r1-qwen", QWEN2,            0,    0) \
    X("kormo",            QWEN2,            0,    0) \
    X("megrez",           QWEN2,            0,    0) \
    X("stablelm2",        QWEN2,            0,    0) \
    X("hunyuan",          QWEN2,            0,    0) \
    X("solar-open",       QWEN2,            0,    0) \
    X("grok-2",           QWEN2,            0,    0) \
    X("bailingmoe",       QWEN2,            0,    0) \
    X("bailingmoe2",      QWEN2,            0,    0) \
    X("llada-moe",        QWEN2,            0,    0) \
    X("qwen35",           QWEN35,           0,    0) \
    X("seed-coder",       SEED_CODER,       0,    0) \
    X("gpt-4o",           GPT4O,            0,    0) \
    X("llama4",           GPT4O,            0,    0) \
    X("kanana2",          GPT4O,            0,    0) \
    X("talkie",           GPT4O,            0,    0) \
    X("minimax-m2",       GPT4O,            0,    0) \
    X("tekken",           TEKKEN,           1,    1) \
    X("deepseek-llm",     DEEPSEEK_LLM,     0,    0) \
    X("deepseek-coder",   DEEPSEEK_CODER,   0,    0) \
    X("deepseek-v3",      DEEPSEEK3,        0,    0) \
    X("hunyuan-dense",    DEEPSEEK3,        0,    0) \
    X("joyai-llm",        DEEPSEEK3,        0,    0)

#define SMOLQ__PRETOK_ROW(name, recipe, whole, bos) { name, SMOLQ__RECIPE_##recipe, whole, bos },
static const smolq__pretok smolq__pretoks[] = { SMOLQ__PRETOKENIZERS(SMOLQ__PRETOK_ROW) };
#undef SMOLQ__PRETOK_ROW

static const smolq__pretok *smolq__pretok_find(smolq__text name)
{
    size_t i;
    for (i = 0; i < sizeof smolq__pretoks / sizeof *smolq__pretoks; i++)
        if (smolq__text_is(name, smolq__pretoks[i].name)) return &smolq__pretoks[i];
    return NULL;
}

/* ---- the walk ---- */

/* Where each stage stands: it has the bytes from at to end still to cut, and has found that a piece begins at next. */
typedef struct smolq__pieces {
    const smolq__recipe *recipe;
    int32_t n_stages;
    struct { const uint8_t *at, *next, *end; ptrdiff_t found; } span[SMOLQ__STAGES];
} smolq__pieces;

static void smolq__pieces_open(smolq__pieces *pieces, const smolq__recipe *recipe, const uint8_t *p, size_t n)
{
    memset(pieces, 0, sizeof *pieces);
    pieces->recipe = recipe;
    while (pieces->n_stages < SMOLQ__STAGES && recipe->stage[pieces->n_stages]) pieces->n_stages++;
    pieces->span[0].at = pieces->span[0].next = p;
    pieces->span[0].end = p + n;
}

/* Cuts one piece from the span of a stage that has bytes left. */
static smolq__text smolq__pieces_cut(smolq__pieces *pieces, int32_t stage)
{
    const uint8_t *at = pieces->span[stage].at, *next = pieces->span[stage].next, *end = pieces->span[stage].end;
    ptrdiff_t n = pieces->span[stage].found;
    smolq__text piece;
    for (; n <= 0 && next < end; next += n > 0 ? 0 : -n) n = pieces->recipe->stage[stage](pieces->recipe, next, end);
    piece.p = (const char *)at;
    piece.n = (size_t)(next > at ? next - at : n); /* what lies before a piece, or the piece */
    pieces->span[stage].at = at + piece.n;
    pieces->span[stage].found = next > at ? n : 0;
    pieces->span[stage].next = next > at ? next : pieces->span[stage].at;
    return piece;
}

/* The next piece of all stages; 0 at the end. */
static int smolq__pieces_next(smolq__pieces *pieces, smolq__text *piece)
{
    int32_t stage = pieces->n_stages - 1;
    while (stage >= 0 && pieces->span[stage].at == pieces->span[stage].end) stage--;
    if (stage < 0) return 0;
    for (;; stage++) {
        *piece = smolq__pieces_cut(pieces, stage);
        if (stage + 1 == pieces->n_stages) return 1;
        pieces->span[stage + 1].at = pieces->span[stage + 1].next = (const uint8_t *)piece->p;
        pieces->span[stage + 1].end = (const uint8_t *)piece->p + piece->n;
        pieces->span[stage + 1].found = 0;
    }
}
