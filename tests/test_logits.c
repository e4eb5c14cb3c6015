/* The logits are right: against golden logits and llama.cpp's own distance from them, against the greedy texts of trained models, and against the
 * naive float64 pass on every family. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "test.h"
#include "naive.h"
#include "model_build.h"
#define GOLDEN "golden/logits"
#include "golden.h"

/* ---- golden logits ---- */

static void naive_agrees_with_golden(void)
{
    static double golden[N_GOLDEN * GOLDEN_VOCAB], own[N_GOLDEN * GOLDEN_VOCAB];
    peer rows[64];
    int32_t ids[N_GOLDEN];
    int n = peers(rows, 64), i;
    if (!n) SKIP("no golden data");
    REQUIRE(golden_ids(ids), "tokens.txt");
    for (i = 0; i < n; i++) {
        const char *why;
        double error;
        if (!rows[i].is_float) continue;
        REQUIRE(golden_path(rows[i].name) && golden_logits(rows[i].name, golden), "%s: no logits", rows[i].name);
        why = naive_logits(golden_path(rows[i].name), ids, N_GOLDEN, own);
        REQUIRE(!why, "%s: %s", rows[i].name, why);
        error = distance64(own, golden, N_GOLDEN * GOLDEN_VOCAB);
        CHECK(error < 5e-6, "%s: the naive pass is %g away", rows[i].name, error);
    }
}

static void float_files_with_f32_cache(void)
{
    peer rows[64];
    int n = peers(rows, 64), i;
    if (!n) SKIP("no golden data");
    for (i = 0; i < n; i++) {
        smolq_error err;
        double error = 0, kl = 0;
        if (!rows[i].is_float) continue;
        REQUIRE(judge_golden(rows[i].name, SMOLQ_KV_F32, &error, &kl, &err), "%s: %s", rows[i].name, err.text);
        CHECK(error < 2e-5, "%s: relative error %g, allowed 2e-5", rows[i].name, error);
    }
}

static void float_files_with_default_cache(void)
{
    peer rows[64];
    int n = peers(rows, 64), i;
    if (!n) SKIP("no golden data");
    for (i = 0; i < n; i++) {
        smolq_error err;
        double error = 0, kl = 0;
        if (!rows[i].is_float || rows[i].experts) continue;
        REQUIRE(judge_golden(rows[i].name, SMOLQ_KV_DEFAULT, &error, &kl, &err), "%s: %s", rows[i].name, err.text);
        CHECK(error <= rows[i].error, "%s: relative error %g, llama.cpp's is %g", rows[i].name, error, rows[i].error);
        CHECK(kl <= rows[i].kl || kl < 5e-5, "%s: mean KL %g, llama.cpp's is %g", rows[i].name, kl, rows[i].kl);
    }
}

/* Whole files on quantized weights scatter: one rounding that falls the other way moves these random models' logits by 0.4 to 4 %.  So each is held
 * to llama.cpp's own distance with some room, and all of them together with very little. */
static void quantized_dense_files(void)
{
    peer rows[64];
    double log_ratios = 0;
    int n = peers(rows, 64), i, counted = 0, verbose = getenv("SMOLQ_VERBOSE") != NULL;
    if (!n) SKIP("no golden data");
    for (i = 0; i < n; i++) {
        smolq_error err;
        double error = 0, kl = 0;
        if (rows[i].is_float || rows[i].experts) continue;
        REQUIRE(judge_golden(rows[i].name, SMOLQ_KV_DEFAULT, &error, &kl, &err), "%s: %s", rows[i].name, err.text);
        if (verbose) printf("     %-28s error %.6f, ratio %.3f; KL %.3e, ratio %.3f\n", rows[i].name, error, error / rows[i].error, kl, kl / rows[i].kl);
        CHECK(error <= 1.15 * rows[i].error, "%s: relative error %g, llama.cpp's is %g", rows[i].name, error, rows[i].error);
        CHECK(kl <= 4 * rows[i].kl || kl < 5e-5, "%s: mean KL %g, llama.cpp's is %g", rows[i].name, kl, rows[i].kl);
        log_ratios += log(error / rows[i].error);
        counted++;
    }
    if (verbose) printf("     geometric mean of the error ratios of %d files: %.4f\n", counted, exp(log_ratios / counted));
    CHECK(exp(log_ratios / counted) <= 1.04, "geometric mean of the error ratios %g, allowed 1.04", exp(log_ratios / counted));
}

static void expert_files(void)
{
    peer rows[64];
    int n = peers(rows, 64), i, verbose = getenv("SMOLQ_VERBOSE") != NULL;
    if (!n) SKIP("no golden data");
    for (i = 0; i < n; i++) {
        smolq_error err;
        double error = 0, kl = 0;
        if (!rows[i].experts) continue;
        REQUIRE(judge_golden(rows[i].name, SMOLQ_KV_DEFAULT, &error, &kl, &err), "%s: %s", rows[i].name, err.text);
        if (verbose) printf("     %-28s error %.6f, ratio %.3f\n", rows[i].name, error, error / rows[i].error);
        CHECK(error <= 3 * rows[i].error, "%s: relative error %g, llama.cpp's is %g", rows[i].name, error, rows[i].error);
    }
}

/* ---- SmolLM3's layers without RoPE ---- */

/* A copy of a smollm3 file that calls itself llama: the same tensors, computed with RoPE in every layer. */
static unsigned char *as_llama(const unsigned char *data, size_t bytes, size_t *n_out)
{
    build_bytes out = { 0 };
    naive_file file;
    const unsigned char *p = data + 24, *base, *table;
    uint64_t i;
    memset(&file, 0, sizeof file);
    if (naive_parse(&file, data, bytes)) return NULL;
    build_put(&out, data, 24);
    for (i = 0; i < file.n_pairs; i++) {
        const naive_pair *pair = &file.pairs[i];
        const unsigned char *end = naive_skip(pair->value, pair->type);
        int own = pair->key_bytes > 8 && memcmp(pair->key, "smollm3.", 8) == 0;
        build_int(&out, pair->key_bytes - (own ? 2 : 0), 8);
        if (own) build_put(&out, "llama", 5);
        build_put(&out, pair->key + (own ? 7 : 0), (size_t)pair->key_bytes - (own ? 7 : 0));
        build_int(&out, pair->type, 4);
        if (naive_text_is(pair, "smollm3")) build_text(&out, "llama");
        else build_put(&out, pair->value, (size_t)(end - pair->value));
        p = end;
    }
    table = p;
    for (i = 0; i < file.n_tensors; i++) {
        uint64_t n = naive_take(&p, 8);
        p += n;
        n = naive_take(&p, 4);
        p += 8 * n + 12;
    }
    base = data + (size_t)(p - data + 31) / 32 * 32;
    build_put(&out, table, (size_t)(p - table));
    build_pad(&out, 32);
    build_put(&out, base, bytes - (size_t)(base - data));
    naive_close(&file);
    *n_out = out.n;
    return out.p;
}

static void without_nope_smollm3_fails(void)
{
    static double naive[64 * 61], golden[N_GOLDEN * GOLDEN_VOCAB];
    model_spec spec = { .family = "smollm3" };
    const char *path = shared_path("golden/logits/smollm3.f16.gguf"), *why;
    int32_t ids[N_GOLDEN];
    size_t bytes, n_llama = 0;
    unsigned char *file = model_build(&spec, &bytes), *llama = as_llama(file, bytes, &n_llama);
    smolq_source source = model_source(llama, n_llama);
    smolq_error err;
    float *logits;
    int n_vocab = 0;
    model_ids(ids, 64, 61, 1);
    why = naive_logits_memory(file, bytes, ids, 64, naive);
    free(file);
    logits = logits_of(NULL, &source, SMOLQ_KV_F32, 64, ids, 64, &n_vocab, &err);
    free(llama);
    REQUIRE(!why && logits && n_vocab == 61, "%s", why ? why : err.text);
    CHECK(distance(logits, naive, 64 * 61) > 1e-2, "RoPE in every layer changes the logits by %g only: the test is blind", distance(logits, naive, 64 * 61));
    free(logits);
    if (!path) return;
    file = naive_slurp(path, &bytes);
    llama = as_llama(file, bytes, &n_llama);
    free(file);
    source = model_source(llama, n_llama);
    REQUIRE(golden_ids(ids) && golden_logits("smollm3.f16.gguf", golden), "the golden data is incomplete");
    logits = logits_of(NULL, &source, SMOLQ_KV_F32, N_GOLDEN, ids, N_GOLDEN, &n_vocab, &err);
    free(llama);
    REQUIRE(logits && n_vocab == GOLDEN_VOCAB, "%s", err.text);
    CHECK(distance(logits, golden, N_GOLDEN * GOLDEN_VOCAB) > 1e-2, "golden smollm3 with RoPE in every layer is as near as %g", distance(logits, golden, N_GOLDEN * GOLDEN_VOCAB));
    free(logits);
}

/* ---- the naive pass on every family, with models written here ---- */

static void naive_agrees_on_every_family(void)
{
    static const int types[3] = { 0, 1, 30 }; /* F32, F16, BF16 */
    static const model_spec specs[] = {
        { .family = "llama" },
        { .family = "llama", .untied = 1, .n_embd = 48, .n_head = 2, .n_head_kv = 1, .n_ff = 100, .n_vocab = 67 }, /* head_dim 24 */
        { .family = "llama", .n_head = 8, .n_head_kv = 8, .n_ff = 33, .n_layer = 2 },                               /* no GQA, head_dim 8 */
        { .family = "llama", .head_dim = 40, .n_head = 3, .n_head_kv = 1, .n_embd = 56 },                           /* heads wider than the embedding */
        { .family = "llama", .rope_freqs = 1, .rope_base = 500000 },                                                /* Llama 3 */
        { .family = "llama", .scaling = "linear", .factor = 4 },
        { .family = "llama", .scaling = "yarn", .factor = 4, .original_ctx = 64, .n_ctx_train = 256 },
        { .family = "llama", .scaling = "yarn", .factor = 8, .head_dim = 64, .original_ctx = 1024, .rope_base = 100000 },
        { .family = "llama", .scaling = "none", .factor = 4 },
        { .family = "llama", .biases = 2, .untied = 1 },
        { .family = "llama", .n_expert = 4, .n_expert_used = 2, .n_ff = 72 },                                       /* Mixtral */
        { .family = "smollm3", .n_layer = 5 },
        { .family = "smollm3", .n_layer = 9, .n_embd = 32, .untied = 1 },
        { .family = "qwen2" },
        { .family = "qwen2", .untied = 1, .n_embd = 96, .n_head = 4, .n_head_kv = 1, .n_ff = 77 },                  /* head_dim 24 */
        { .family = "qwen3", .head_dim = 40 },
        { .family = "qwen3", .untied = 1, .n_embd = 48, .n_head = 4, .n_head_kv = 4, .head_dim = 32, .alignment = 64 },
        { .family = "qwen3moe" },
        { .family = "qwen3moe", .n_expert = 9, .n_expert_used = 4, .n_ff = 20, .head_dim = 24, .untied = 1 },
    };
    static double naive[150 * 262];
    size_t i;
    int t;
    for (i = 0; i < sizeof specs / sizeof *specs; i++)
        for (t = 0; t < 3; t++) {
            model_spec spec = specs[i];
            int32_t ids[150];
            smolq_error err;
            smolq_source source;
            unsigned char *file;
            size_t bytes;
            const char *why;
            float *logits;
            int n = i % 3 == 1 ? 150 : 70, n_vocab = 0; /* attention goes block by block of 64 positions: more than one */
            double error;
            spec.type = types[t];
            spec.seed = i * 3 + (size_t)t;
            spec.tokenizer = i % 4 == 0;
            file = model_build(&spec, &bytes);
            source = model_source(file, bytes);
            model_ids(ids, n, spec.n_vocab ? spec.n_vocab : 61, i);
            err.text[0] = 0;
            why = naive_logits_memory(file, bytes, ids, n, naive);
            logits = logits_of(NULL, &source, SMOLQ_KV_F32, n, ids, n, &n_vocab, &err);
            free(file);
            REQUIRE(!why && logits, "%s number %d: %s", spec.family, (int)i, why ? why : err.text);
            error = distance(logits, naive, (size_t)(n * n_vocab));
            free(logits);
            CHECK(error <= 1e-5, "%s number %d in %s: relative error %g, allowed 1e-5", spec.family, (int)i, build_type_of(types[t])->name, error);
            if (getenv("SMOLQ_VERBOSE")) printf("     %-9s %2d %-5s %.2e\n", spec.family, (int)i, build_type_of(types[t])->name, error);
        }
}

/* ---- trained models: a scanner for the few JSON files beside them ---- */

static const char *json_after(const char *p, const char *key) /* behind the next "key": or NULL */
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    p = p ? strstr(p, quoted) : NULL;
    return p ? p + strlen(quoted) : NULL;
}

static int json_ints(const char *p, int32_t *ids, int capacity) /* an array of integers */
{
    int n = 0;
    p = p ? strchr(p, '[') : NULL;
    if (!p) return 0;
    for (p++; n < capacity; n++) {
        char *end;
        long value = strtol(p, &end, 10);
        if (end == p) break;
        ids[n] = (int32_t)value;
        p = end + strspn(end, ", \n");
    }
    return n;
}

static size_t json_text(const char *p, char *text, size_t capacity) /* a string, unescaped; returns its length */
{
    size_t n = 0;
    p = p ? strchr(p, '"') : NULL;
    if (!p) return 0;
    for (p++; *p && *p != '"' && n + 4 < capacity; p++) {
        if (*p != '\\') text[n++] = *p;
        else if (*++p == 'n') text[n++] = '\n';
        else if (*p == 't') text[n++] = '\t';
        else if (*p == 'u') {
            char hex[5] = { p[1], p[2], p[3], p[4], 0 };
            unsigned code = (unsigned)strtoul(hex, NULL, 16);
            p += 4;
            if (code < 0x80) text[n++] = (char)code;
            else if (code < 0x800) {
                text[n++] = (char)(0xc0 | code >> 6);
                text[n++] = (char)(0x80 | (code & 63));
            } else {
                text[n++] = (char)(0xe0 | code >> 12);
                text[n++] = (char)(0x80 | (code >> 6 & 63));
                text[n++] = (char)(0x80 | (code & 63));
            }
        } else text[n++] = *p;
    }
    text[n] = 0;
    return n;
}

typedef struct trained { smolq_model *model; smolq_context *context; smolq_error err; } trained;

static int trained_open(trained *t, const char *path, int kv_type)
{
    smolq_context_options options;
    memset(t, 0, sizeof *t);
    memset(&options, 0, sizeof options);
    options.kv_type = kv_type;
    options.n_ctx = 512;
    return smolq_open(path, NULL, &t->model, &t->err) == SMOLQ_OK && smolq_context_open(t->model, &options, &t->context, &t->err) == SMOLQ_OK;
}
static void trained_close(trained *t)
{
    smolq_context_close(t->context);
    smolq_close(t->model);
}

static int greedy(trained *t, const int32_t *prompt, int n_prompt, int32_t *ids, int n) /* 1, or 0 with t->err */
{
    int n_vocab = smolq_model_info(t->model)->n_vocab, i;
    smolq_eval_item item;
    memset(&item, 0, sizeof item);
    item.context = t->context;
    item.tokens = prompt;
    item.n_tokens = n_prompt;
    if (smolq_context_truncate(t->context, 0, &t->err) != SMOLQ_OK) return 0;
    for (i = 0; i < n; i++) {
        if (smolq_eval(&item, 1, NULL, &t->err) != SMOLQ_OK) return 0;
        if (smolq_sample(NULL, smolq_context_logits(t->context), n_vocab, &ids[i], &t->err) != SMOLQ_OK) return 0;
        item.tokens = &ids[i];
        item.n_tokens = 1;
    }
    return 1;
}

/* Every case of a JSON file: "prompt" tokenizes to "prompt_ids", and "greedy_ids" follow, where the best two logits are never nearer than 0.002. */
static void greedy_texts(const char *json_name, const char *model_name, const char *margin_key)
{
    const char *json_path = shared_path(json_name), *model_path = shared_path(model_name), *p, *next;
    char text[4096];
    int32_t prompt[256], want[512], got[512], ids[256];
    trained t;
    size_t bytes = 0, n_text, n_ids = 0;
    int n_prompt, n, i, cases = 0;
    char *json;
    if (!json_path || !model_path) SKIP("no trained models");
    json = (char *)naive_slurp(json_path, &bytes);
    if (!trained_open(&t, model_path, SMOLQ_KV_F32)) {
        test_fail(__FILE__, __LINE__, "%s: %s", model_name, t.err.text);
        trained_close(&t);
        free(json);
        return;
    }
    for (p = json_after(json, "prompt"); p; p = next) {
        const char *margin = json_after(p, margin_key);
        next = json_after(p, "prompt");
        n_text = json_text(p, text, sizeof text);
        n_prompt = json_ints(json_after(p, "prompt_ids"), prompt, 256);
        n = json_ints(json_after(p, "greedy_ids"), want, 512);
        cases++;
        CHECK(n_prompt > 0 && n >= 64 && margin, "%s: case %d is incomplete", json_name, cases);
        if (smolq_tokenize(smolq_model_vocab(t.model), text, n_text, SMOLQ_ADD_BOS, ids, 256, &n_ids, &t.err) != SMOLQ_OK) {
            CHECK(0, "%s: \"%s\": %s", model_name, text, t.err.text);
            continue;
        }
        CHECK((int)n_ids == n_prompt && memcmp(ids, prompt, sizeof(int32_t) * (size_t)n_prompt) == 0, "%s: \"%s\" tokenizes to other ids", model_name, text);
        if (!margin || strtod(margin, NULL) <= 0.002) continue;
        if (!greedy(&t, prompt, n_prompt, got, n)) CHECK(0, "%s: \"%s\": %s", model_name, text, t.err.text);
        else for (i = 0; i < n; i++)
            if (got[i] != want[i]) {
                CHECK(0, "%s: \"%s\": token %d is %d, expected %d", model_name, text, i, got[i], want[i]);
                break;
            }
    }
    CHECK(cases >= 3, "%s: %d cases found", json_name, cases);
    trained_close(&t);
    free(json);
}

static void stories260k(void)  { greedy_texts("models/stories260K.greedy.json", "models/stories260K.gguf", "smallest_margin"); }
static void tinystories(void)  { greedy_texts("models/TinyStories-656K.greedy.json", "models/TinyStories-656K.gguf", "smallest_margin"); }
static void tales_greedy(void) { greedy_texts("models/smolq-tales.golden.json", "models/smolq-tales.f16.gguf", "smallest_top2_gap"); }

/* Negative log-likelihood of ids 1.. given those before, in nats, or a negative number with t->err. */
static double passage_nll(trained *t, const int32_t *ids, int n)
{
    enum { CHUNK = 64 };
    int n_vocab = smolq_model_info(t->model)->n_vocab, at, i, k;
    float *logits = (float *)malloc(sizeof(float) * CHUNK * (size_t)n_vocab);
    double *row = (double *)malloc(sizeof(double) * (size_t)n_vocab), sum = 0;
    for (at = 0; at < n - 1; at += CHUNK) {
        smolq_eval_item item;
        memset(&item, 0, sizeof item);
        item.context = t->context;
        item.tokens = ids + at;
        item.n_tokens = n - 1 - at < CHUNK ? n - 1 - at : CHUNK;
        item.want = SMOLQ_LOGITS_ALL;
        item.logits = logits;
        if (smolq_eval(&item, 1, NULL, &t->err) != SMOLQ_OK) {
            sum = -1;
            break;
        }
        for (i = 0; i < item.n_tokens; i++) {
            for (k = 0; k < n_vocab; k++) row[k] = logits[(size_t)i * (size_t)n_vocab + (size_t)k];
            sum += log_sum_exp(row, n_vocab) - row[ids[at + i + 1]];
        }
    }
    free(row);
    free(logits);
    return sum;
}

/* The golden number is of F32 weights.  Those of the Q4_K_M file, unpacked, give 2110.0066 (the naive pass), llama.cpp 2110.478 with a cache in f32; int8
 * activations scatter around that by a nat or two with every change of rounding, so the default cache is held to the file's own number. */
static void tales_passage(void)
{
    const char *json_path = shared_path("models/smolq-tales.golden.json"), *p;
    const char *model_path[3] = { shared_path("models/smolq-tales.f16.gguf"), "examples/models/smolq-tales.Q4_K_M.gguf", NULL };
    static const int kv_type[3] = { SMOLQ_KV_F32, SMOLQ_KV_F32, SMOLQ_KV_DEFAULT };
    static const double allowed[3] = { 0.01, 4, 4 };
    int32_t ids[512], own[600];
    char text[4096];
    size_t bytes = 0, n_text, n_own = 0;
    double want, got;
    char *json;
    int n, i;
    FILE *bundled = fopen(model_path[1], "rb");
    if (bundled) fclose(bundled);
    else model_path[1] = shared_path("models/smolq-tales.Q4_K_M.gguf");
    if (!json_path || !model_path[0] || !model_path[1]) SKIP("no golden numbers of smolq-tales");
    json = (char *)naive_slurp(json_path, &bytes);
    p = json_after(json, "passage");
    n_text = json_text(json_after(p, "text"), text, sizeof text);
    n = json_ints(json_after(p, "ids"), ids, 512);
    p = json_after(p, "nll_sum");
    want = p ? strtod(p, NULL) : 0;
    free(json);
    REQUIRE(n == 512 && want > 0, "the passage has %d ids and an nll of %g", n, want);
    model_path[2] = model_path[1];
    for (i = 0; i < 3; i++) {
        trained t;
        int open = trained_open(&t, model_path[i], kv_type[i]);
        if (i == 2) want = 2110.0066;
        got = open ? passage_nll(&t, ids, n) : -1;
        CHECK(got >= 0, "%s: %s", model_path[i], t.err.text);
        CHECK(fabs(got - want) <= allowed[i], "%s: nll %.4f, expected %.4f within %g", model_path[i], got, want, allowed[i]);
        if (getenv("SMOLQ_VERBOSE")) printf("     %s: nll %.4f, golden %.4f\n", model_path[i], got, want);
        if (open) {
            CHECK(smolq_tokenize(smolq_model_vocab(t.model), text, n_text, SMOLQ_ADD_BOS, own, 600, &n_own, &t.err) == SMOLQ_OK, "%s", t.err.text);
            CHECK(n_own >= 512 && memcmp(own, ids, sizeof ids) == 0, "%s: the passage tokenizes to other ids", model_path[i]);
        }
        trained_close(&t);
    }
}

/* Without golden data: the bundled model, given the text that its F16 file writes, agrees with almost every word of it. */
static void bundled_story(void)
{
    static const int32_t prompt[5] = { 4080, 704, 549, 258, 482 }; /* "Once upon a time", then as in smolq-tales.golden.json: */
    static const int32_t story[64] = { 44, 429, 297, 258, 428, 586, 1002, 702, 46, 403, 901, 273, 546, 1204, 301, 261, 893, 46, 896, 433, 44, 339, 548, 258, 594, 44, 1125, 1216, 301, 261, 1352, 46,
                                       403, 675, 273, 546, 338, 311, 44, 386, 311, 297, 494, 1330, 46, 880, 44, 339, 1045, 273, 727, 258, 1757, 2207, 382, 1735, 339, 297, 1707, 44, 339, 548, 258, 594 };
    static const char text[] = ", there was a little girl named Lily. She loved to play outside in the sun. One day, she saw a big, red ball in the sky. She wanted to play with it, but it was "
                               "too high. So, she decided to take a step forward.\nAs she was walking, she saw a big";
    int32_t ids[69], own[80], best;
    char written[512];
    size_t n = 0;
    int i, k, agree = 0, n_vocab = 0;
    smolq_error err;
    trained t;
    float *logits;
    memcpy(ids, prompt, sizeof prompt);
    memcpy(ids + 5, story, sizeof story);
    logits = logits_of("examples/models/smolq-tales.Q4_K_M.gguf", NULL, SMOLQ_KV_DEFAULT, 69, ids, 69, &n_vocab, &err);
    REQUIRE(logits, "%s", err.text);
    for (i = 0; i < 64; i++) {
        const float *row = logits + (size_t)(i + 4) * (size_t)n_vocab;
        for (best = 0, k = 1; k < n_vocab; k++) if (row[k] > row[best]) best = k;
        agree += best == story[i];
    }
    free(logits);
    CHECK(agree >= 56, "only %d of 64 tokens agree", agree);
    if (trained_open(&t, "examples/models/smolq-tales.Q4_K_M.gguf", SMOLQ_KV_DEFAULT)) {
        const smolq_vocab *vocab = smolq_model_vocab(t.model);
        CHECK(smolq_tokenize(vocab, "Once upon a time", 16, SMOLQ_ADD_BOS, own, 80, &n, &err) == SMOLQ_OK && n == 5 && memcmp(own, prompt, sizeof prompt) == 0, "the prompt has other ids");
        CHECK(smolq_detokenize(vocab, story, 64, 0, written, sizeof written, &n, &err) == SMOLQ_OK && n == strlen(text) && memcmp(written, text, n) == 0, "the story reads \"%.*s\"", (int)n, written);
    }
    trained_close(&t);
}

/* ---- one product on quantized weights ---- */

/* The only place where the judge can be sharp on quantized weights, as no later rounding can fall the other way: three rows of random numbers become int8
 * (these must be the very integers of docs/arithmetic.md, rule 2), and their products with 24 rows of random blocks are those of float64 on the same integers. */
static void one_product(void)
{
    enum { N = 512, ROWS = 24, TOKENS = 3 };
    int i, r, t, k;
    for (i = 0; i < BUILD_N_QUANTIZED; i++) {
        static float x[TOKENS][N], y[TOKENS][ROWS], w[ROWS][N];
        static uint64_t a8[TOKENS][256];
        const smolq_type_facts *facts = smolq_type_info(build_types[i].id);
        uint64_t rng = (uint64_t)i + 1;
        build_file f;
        smolq_tensor tensor;
        smolq_op ops[2];
        smolq_program program;
        smolq_run run;
        smolq_error err;
        double difference = 0, size = 0;
        int buffer = facts->group == 256 ? SMOLQ_BUF_A256 : SMOLQ_BUF_A32;
        memset(&f, 0, sizeof f);
        memset(&tensor, 0, sizeof tensor);
        memset(ops, 0, sizeof ops);
        memset(&program, 0, sizeof program);
        memset(&run, 0, sizeof run);
        f.alignment = 32;
        build_tensor(&f, "w", build_types[i].id, 2, N, ROWS, 1, 0.05, 0, &rng);
        for (t = 0; t < TOKENS; t++) for (k = 0; k < N; k++) x[t][k] = (float)(build_uniform(&rng) * (k / 32 % 5 == t ? 30 : 1)); /* groups of other sizes */
        for (k = 64; k < 96; k++) x[0][k] = 0;
        tensor.data = f.data.p;
        tensor.type = build_types[i].id;
        tensor.n_cols = N;
        tensor.n_rows = ROWS;
        tensor.n_experts = 1;
        tensor.row_bytes = (uint64_t)(N / facts->block_weights) * (uint64_t)facts->block_bytes;
        tensor.expert_bytes = tensor.row_bytes * ROWS;
        ops[0].kind = SMOLQ_OP_QUANTIZE;
        ops[0].in = SMOLQ_BUF_NORMED;
        ops[0].out = ops[1].part[0].in = buffer;
        ops[0].n = N;
        ops[0].n_seg = ops[1].n_seg = 1;
        ops[0].group = facts->group;
        ops[1].kind = SMOLQ_OP_MATMUL;
        ops[1].n_parts = 1;
        ops[1].part[0].w = &tensor;
        ops[1].part[0].out = SMOLQ_BUF_Q;
        program.ops = ops;
        program.n_ops = 2;
        program.row_bytes[SMOLQ_BUF_NORMED] = sizeof x[0];
        program.row_bytes[SMOLQ_BUF_Q] = sizeof y[0];
        program.row_bytes[buffer] = sizeof a8[0];
        run.program = &program;
        run.end_op = 2;
        run.n_rows = TOKENS;
        run.buffer[SMOLQ_BUF_NORMED] = (uint8_t *)x;
        run.buffer[SMOLQ_BUF_Q] = (uint8_t *)y;
        run.buffer[buffer] = (uint8_t *)a8;
        CHECK(smolq_a8_bytes(N, facts->group) <= sizeof a8[0] && smolq_backend_ref()->run(NULL, &run, &err) == SMOLQ_OK && !run.numeric, "%s: the run", facts->name);
        CHECK(smolq_unpack(build_types[i].id, f.data.p, w[0], ROWS * N, &err) == SMOLQ_OK, "%s: %s", facts->name, err.text);
        for (t = 0; t < TOKENS; t++) {
            const int8_t *q = (const int8_t *)a8[t];
            const float *d = (const float *)(const void *)((const uint8_t *)a8[t] + smolq_a8_d(N));
            for (k = 0; k < N; k++) {
                const float *group = x[t] + k / facts->group * facts->group;
                float largest = 0;
                int g;
                for (g = 0; g < facts->group; g++) if (fabsf(group[g]) > largest) largest = fabsf(group[g]);
                CHECK(d[k / facts->group] == largest / 127.0f, "%s: scale %d of row %d is %g", facts->name, k / facts->group, t, d[k / facts->group]);
                CHECK(q[k] == (largest > 0 ? (int)nearbyintf(x[t][k] * (127.0f / largest)) : 0), "%s: int8 %d of row %d is %d", facts->name, k, t, q[k]);
            }
            for (r = 0; r < ROWS; r++) {
                double sum = 0;
                for (k = 0; k < N; k++) sum += (double)w[r][k] * q[k] * d[k / facts->group];
                difference += (y[t][r] - sum) * (y[t][r] - sum);
                size += sum * sum;
            }
        }
        free(f.table.p);
        free(f.data.p);
        CHECK(sqrt(difference / size) < 1e-6, "%s: a product is %g away from float64, allowed 1e-6", facts->name, sqrt(difference / size));
        if (getenv("SMOLQ_VERBOSE")) printf("     %-8s %.2e\n", facts->name, sqrt(difference / size));
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "the naive pass agrees with the golden logits", naive_agrees_with_golden },
        { "every family on float weights is within 1e-5 of the naive pass", naive_agrees_on_every_family },
        { "golden float files are within 1e-5 of the naive pass", naive_agrees_on_golden_files },
        { "one product on quantized weights is that of float64 on the same integers", one_product },
        { "golden float files, f32 cache: within 2e-5", float_files_with_f32_cache },
        { "golden float files, default cache: no farther than llama.cpp", float_files_with_default_cache },
        { "golden quantized files: no farther than llama.cpp", quantized_dense_files },
        { "golden expert files: at most 3 times as far as llama.cpp", expert_files },
        { "smollm3 with RoPE in every layer is seen to be wrong", without_nope_smollm3_fails },
        { "stories260K writes the expected text", stories260k },
        { "TinyStories-656K writes the expected text", tinystories },
        { "smolq-tales writes the expected text", tales_greedy },
        { "the bundled model agrees with its story", bundled_story },
        { "smolq-tales finds the passage as likely as expected", tales_passage },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
