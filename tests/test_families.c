/* The families of the second wave are right, idea by idea: against golden logits, against the naive float64 pass on models written here, and against
 * the same pass with an idea switched off, which must be seen to be wrong.  Layers with a window give one hash in every manner, with the memory that the
 * plan says.  Malformed values of the families' keys are refused by name.  docs/families.md is made from the rows:
 *
 *     build/tests/test_families --table      prints its table */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "test.h"
#include "naive.h"
#include "model_build.h"
#define GOLDEN "golden/logits2"
#include "golden.h"

enum { MOST_IDS = 200, MOST_VOCAB = 320 };

/* ---- golden logits ---- */

/* The golden logits of gemma2 and gemma3 are not sharp: the program that made them looks GELU up in a table of f16 (ggml's GGML_GELU_FP16), with
 * argument and value rounded to 11 bits.  The naive pass with that table shows it: from about 3e-4 away it comes within 2e-4 of golden (what is left are
 * arguments that round the other way), while smolq is within 1e-5 of the naive pass with GELU itself.  So these two files are held to llama.cpp's own
 * distance here, and to 1e-5 of the naive pass below, like all others. */
static void float_files_with_f32_cache(void)
{
    peer rows[64];
    int n = peers(rows, 64), i, counted = 0;
    if (!n) SKIP("no golden data");
    for (i = 0; i < n; i++) {
        smolq_error err;
        double error = 0, kl = 0, allowed = rows[i].gelu ? rows[i].error : 2e-5;
        if (!rows[i].is_float) continue;
        REQUIRE(judge_golden(rows[i].name, SMOLQ_KV_F32, &error, &kl, &err), "%s: %s", rows[i].name, err.text);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-24s %.2e\n", rows[i].name, error);
        CHECK(error < allowed, "%s: relative error %g, allowed %g", rows[i].name, error, allowed);
        counted++;
    }
    CHECK(counted == 8, "%d files", counted);
}

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
        double error, with_table, allowed = rows[i].gelu ? 5e-4 : 5e-6;
        if (!rows[i].is_float) continue;
        REQUIRE(golden_path(rows[i].name) && golden_logits(rows[i].name, golden), "%s: no logits", rows[i].name);
        why = naive_logits(golden_path(rows[i].name), ids, N_GOLDEN, own);
        REQUIRE(!why, "%s: %s", rows[i].name, why);
        error = distance64(own, golden, N_GOLDEN * GOLDEN_VOCAB);
        CHECK(error < allowed, "%s: the naive pass is %g away", rows[i].name, error);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-24s %.2e\n", rows[i].name, error);
        if (!rows[i].gelu) continue;
        naive_gelu_by_table = 1;
        naive_logits(golden_path(rows[i].name), ids, N_GOLDEN, own);
        naive_gelu_by_table = 0;
        with_table = distance64(own, golden, N_GOLDEN * GOLDEN_VOCAB);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-24s %.2e with a table for GELU\n", rows[i].name, with_table);
        CHECK(with_table < 2e-4 && with_table < 0.5 * error, "%s: the naive pass with GELU from a table is %g away, without %g", rows[i].name, with_table, error);
    }
}

/* With the default cache: files on quantized weights scatter (tests/test_logits.c), so each is held to llama.cpp's own distance with some room, and
 * all together with little. */
static void default_cache(void)
{
    peer rows[64];
    double log_ratios = 0;
    int n = peers(rows, 64), i, counted = 0, verbose = getenv("SMOLQ_VERBOSE") != NULL;
    if (!n) SKIP("no golden data");
    for (i = 0; i < n; i++) {
        smolq_error err;
        double error = 0, kl = 0, ratio, allowed = rows[i].experts ? 3 : rows[i].is_float ? 1 : 1.15;
        REQUIRE(judge_golden(rows[i].name, SMOLQ_KV_DEFAULT, &error, &kl, &err), "%s: %s", rows[i].name, err.text);
        ratio = error / rows[i].error;
        if (verbose) printf("     %-24s error %.6f, ratio %.3f; KL %.3e, ratio %.3f\n", rows[i].name, error, ratio, kl, kl / rows[i].kl);
        CHECK(ratio <= allowed, "%s: relative error %g, llama.cpp's is %g", rows[i].name, error, rows[i].error);
        CHECK(kl <= 4 * rows[i].kl || kl < 5e-5 || rows[i].experts, "%s: mean KL %g, llama.cpp's is %g", rows[i].name, kl, rows[i].kl);
        if (rows[i].is_float || rows[i].experts) continue;
        log_ratios += log(ratio);
        counted++;
    }
    if (verbose) printf("     geometric mean of the error ratios of %d files: %.4f\n", counted, exp(log_ratios / counted));
    CHECK(exp(log_ratios / counted) <= 1.04, "geometric mean of the error ratios %g, allowed 1.04", exp(log_ratios / counted));
}

/* ---- models written here ---- */

#define KEY(name, number)  { .key = name, .kind = 'f', .value = number }
#define INT(name, number)  { .key = name, .kind = 'u', .value = number }
#define YES(name, number)  { .key = name, .kind = 'b', .value = number }
#define TEXT(name, string) { .key = name, .kind = 't', .text = string }
#define WITHOUT(name)      { .key = name }
#define PER_LAYER(name, ...) { .key = name, .kind = 'U', .list = { __VA_ARGS__ }, .n = (int)(sizeof(int[]){ __VA_ARGS__ } / sizeof(int)) }
#define EACH(name, ...)      { .key = name, .kind = 'B', .list = { __VA_ARGS__ }, .n = (int)(sizeof(int[]){ __VA_ARGS__ } / sizeof(int)) }
#define PATTERN "attention.sliding_window_pattern"

/* The model with one key changed or added. */
static model_spec changed(const model_spec *spec, const build_extra *change)
{
    model_spec with = *spec;
    build_extra *e = with.extra;
    while (e->key && strcmp(e->key, change->key) != 0) e++;
    if (change->key) *e = *change;
    return with;
}

static int vocab_of(const model_spec *spec) { return spec->n_vocab ? spec->n_vocab : spec->tokenizer ? BUILD_N_TOKENS : 61; }

/* Both passes on a model: their distance, or -1 with the reason.  naive [n][n_vocab] stays for the caller, and *logits if it asks. */
static double passes(const unsigned char *file, size_t bytes, int n_ctx, const int32_t *ids, int n, double *naive, float **logits, smolq_error *err)
{
    smolq_source source = model_source(file, bytes);
    int n_vocab = 0;
    const char *why;
    double error;
    float *own;
    naive_n_ctx = n_ctx;
    why = naive ? naive_logits_memory(file, bytes, ids, n, naive) : NULL;
    naive_n_ctx = 0;
    if (why) snprintf(err->text, sizeof err->text, "%s", why);
    if (why) return -1;
    own = logits_of(NULL, &source, SMOLQ_KV_F32, n_ctx, ids, n, &n_vocab, err);
    if (!own) return -1;
    error = naive ? distance(own, naive, (size_t)n * (size_t)n_vocab) : 0;
    if (logits) *logits = own;
    else free(own);
    return error;
}

static const model_spec specs[] = {
    { .family = "gemma2" },
    { .family = "gemma2", .n_embd = 48, .n_head = 3, .n_head_kv = 1, .head_dim = 20, .n_ff = 77, .extra = { INT("attention.sliding_window", 1) } },
    { .family = "gemma2", .n_layer = 46, .n_embd = 24, .n_head = 2, .head_dim = 32, .n_ff = 20 },                     /* the 27B's scale */
    { .family = "gemma2", .extra = { WITHOUT("attention.sliding_window"), EACH(PATTERN, 1, 0) } },
    { .family = "gemma3", .n_layer = 7, .head_dim = 24 },
    { .family = "gemma3", .n_layer = 12, .n_embd = 32, .untied = 1, .scaling = "linear", .factor = 8 },               /* 4B: the global layers are stretched */
    { .family = "gemma3", .n_layer = 62, .n_embd = 24, .n_head = 2, .head_dim = 16, .n_ff = 20 },
    { .family = "gemma3", .n_layer = 5, .extra = { EACH(PATTERN, 0, 1, 1, 0, 1), KEY("rope.freq_base_swa", 50), KEY("final_logit_softcapping", 1.5) } },
    { .family = "gemma3", .extra = { WITHOUT("attention.sliding_window") } },
    { .family = "phi3", .untied = 1 },
    { .family = "phi3", .head_dim = 32, .n_rot = 24, .n_head_kv = 1, .n_ff = 51, .extra = { KEY("rope.scaling.attn_factor", 1.3), TEXT("rope.scaling.type", "longrope") } }, /* Phi-4-mini */
    { .family = "phi3", .extra = { INT("attention.sliding_window", 7) } },                                            /* not used, as in llama.cpp */
    { .family = "olmo2", .untied = 1 },
    { .family = "olmo2", .n_embd = 60, .n_head = 5, .n_head_kv = 5, .n_ff = 33 },
    { .family = "olmo2", .n_layer = 8, .scaling = "yarn", .factor = 8, .original_ctx = 32, .extra = { INT("attention.sliding_window", 9) } }, /* OLMo 3 */
    { .family = "olmo2", .scaling = "linear", .factor = 4, .extra = { INT("attention.sliding_window", 9), INT(PATTERN, 2), KEY("rope.freq_base_swa", 77) } },
    { .family = "granite" },
    { .family = "granite", .n_embd = 40, .n_head = 5, .n_head_kv = 1, .biases = 2, .extra = { YES("rope.scaling.finetuned", 1) } },
    { .family = "granite", .extra = { YES("rope.scaling.finetuned", 0) } },
    { .family = "granite", .extra = { WITHOUT("residual_scale"), WITHOUT("embedding_scale"), WITHOUT("attention.scale") } },
    { .family = "granite", .n_expert = 5, .n_expert_used = 3, .n_ff = 24 },
    { .family = "qwen2moe", .untied = 1 },
    { .family = "qwen2moe", .n_expert = 7, .n_expert_used = 4, .n_ff = 24, .extra = { INT("expert_shared_feed_forward_length", 40), KEY("expert_weights_scale", 1.7) } },
    { .family = "qwen2moe", .extra = { KEY("residual_scale", 0.6) } },
    { .family = "gpt-oss", .untied = 1 },
    { .family = "gpt-oss", .n_embd = 48, .n_head = 6, .n_head_kv = 2, .head_dim = 16, .n_expert = 9, .n_expert_used = 3, .n_ff = 20, .scaling = "none", .extra = { INT("expert_gating_func", 3) } },
    { .family = "gpt-oss", .extra = { KEY("rope.freq_base_swa", 100), INT(PATTERN, 3), KEY("rope.scaling.yarn_beta_fast", 4), KEY("rope.scaling.yarn_beta_slow", 0.5) } },
    { .family = "mistral3" },
    { .family = "mistral3", .head_dim = 32, .extra = { KEY("rope.scaling.yarn_log_multiplier", 1), KEY("rope.scaling.yarn_beta_fast", 8), KEY("rope.scaling.yarn_beta_slow", 2) } },
    { .family = "mistral3", .head_dim = 32, .extra = { KEY("rope.scaling.yarn_log_multiplier", 0.4), KEY("rope.scaling.yarn_ext_factor", 0.6), WITHOUT("attention.temperature_scale") } },
    { .family = "mistral3", .n_expert = 4, .n_ff = 40, .scaling = "linear", .factor = 2 },
    { .family = "llama", .fused = 1, .biases = 1 },
    { .family = "llama", .fused = 1, .n_expert = 5, .n_ff = 40 },
    { .family = "llama", .n_rot = 8, .scaling = "yarn", .factor = 8, .original_ctx = 32, .extra = { KEY("rope.scaling.yarn_attn_factor", 1.5) } },
    { .family = "llama", .extra = { KEY("attention.scale", 0.2), KEY("rope.scaling.yarn_attn_factor", 1.2), KEY("rope.scale_linear", 3) } },
    { .family = "llama", .long_short = 1, .original_ctx = 100, .scaling = "longrope", .factor = 1 },
    { .family = "llama", .head_dim = 16, .n_layer = 5, .extra = { PER_LAYER("attention.head_count", 4, 2, 6), PER_LAYER("attention.head_count_kv", 2, 1, 3), PER_LAYER("feed_forward_length", 96, 32, 51) } },
    { .family = "gemma3", .head_dim = 16, .n_layer = 7, .extra = { PER_LAYER("attention.head_count", 4, 2), PER_LAYER("attention.head_count_kv", 4, 1), PER_LAYER("feed_forward_length", 33, 64) } },
    { .family = "olmo2", .head_dim = 12, .extra = { PER_LAYER("attention.head_count", 2, 4), WITHOUT("attention.head_count_kv") } },
    { .family = "qwen3moe", .fused = 1, .n_ff = 36, .head_dim = 16 },
    { .family = "gemma2", .fused = 1 },
    { .family = "olmo2", .fused = 1 },
};

static void naive_agrees_on_every_spec(void)
{
    static const int types[3] = { 0, 1, 30 }; /* F32, F16, BF16 */
    static double naive[MOST_IDS * MOST_VOCAB];
    size_t i;
    for (i = 0; i < sizeof specs / sizeof *specs; i++) {
        model_spec spec = specs[i];
        int32_t ids[MOST_IDS];
        smolq_error err;
        unsigned char *file;
        size_t bytes;
        int n = spec.n_layer > 20 ? 40 : i % 3 == 1 ? 150 : 80; /* attention goes block by block of 64 positions: more than one */
        double error;
        spec.type = types[i % 3];
        spec.seed = i;
        spec.tokenizer = i % 4 == 0;
        file = model_build(&spec, &bytes);
        model_ids(ids, n, vocab_of(&spec), i);
        err.text[0] = 0;
        error = passes(file, bytes, n, ids, n, naive, NULL, &err);
        free(file);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-9s %2d %-5s %.2e\n", spec.family, (int)i, build_type_of(spec.type)->name, error);
        CHECK(error >= 0, "%s number %d: %s", spec.family, (int)i, err.text);
        CHECK(error <= 1e-5, "%s number %d in %s: relative error %g, allowed 1e-5", spec.family, (int)i, build_type_of(spec.type)->name, error);
    }
}

/* ---- each idea, switched off in the naive pass, is missed ---- */

typedef struct idea { const char *name; model_spec spec; } idea;
static const idea ideas[] = {
    { "embedding scale", { .family = "gemma2" } },
    { "GELU", { .family = "gemma2" } },
    { "attention cap", { .family = "gemma2" } },
    { "logit cap", { .family = "gemma2" } },
    { "window", { .family = "gemma2" } },
    { "norms before", { .family = "gemma2" } },
    { "norms after", { .family = "gemma2" } },
    { "odd scale", { .family = "gemma2", .n_layer = 46, .n_embd = 24, .n_head = 2, .head_dim = 32, .n_ff = 20 } },
    { "window", { .family = "gemma3", .n_layer = 6 } },
    { "qk-norm", { .family = "gemma3" } },
    { "local base", { .family = "gemma3", .n_layer = 6 } },
    { "plain local rotation", { .family = "gemma3", .n_layer = 6, .scaling = "linear", .factor = 8 } },
    { "odd scale", { .family = "gemma3", .n_layer = 62, .n_embd = 24, .n_head = 2, .head_dim = 16, .n_ff = 20 } },
    { "partial rotation", { .family = "phi3", .head_dim = 32, .n_rot = 16, .extra = { KEY("rope.scaling.attn_factor", 1) } } },
    { "frequency divisors", { .family = "phi3" } },
    { "qk-norm", { .family = "olmo2" } },
    { "norms after", { .family = "olmo2" } },
    { "window", { .family = "olmo2", .extra = { INT("attention.sliding_window", 9) } } },
    { "plain local rotation", { .family = "olmo2", .scaling = "yarn", .factor = 8, .original_ctx = 32, .extra = { INT("attention.sliding_window", 9) } } },
    { "embedding scale", { .family = "granite" } },
    { "residual scale", { .family = "granite" } },
    { "attention scale", { .family = "granite" } },
    { "logit scale", { .family = "granite" } },
    { "shared expert", { .family = "qwen2moe" } },
    { "shared expert's gate", { .family = "qwen2moe" } },
    { "weights as they are", { .family = "qwen2moe" } },
    { "weights that sum to 1", { .family = "qwen3moe", .head_dim = 16 } },
    { "sinks", { .family = "gpt-oss" } },
    { "window", { .family = "gpt-oss" } },
    { "clamp", { .family = "gpt-oss" } },
    { "gpt-oss's gate", { .family = "gpt-oss" } },
    { "softmax of the chosen", { .family = "gpt-oss" } },
    { "router bias", { .family = "gpt-oss" } },
    { "biases of attention", { .family = "gpt-oss" } },
    { "biases of the feed-forward", { .family = "gpt-oss" } },
    { "yarn ramp", { .family = "gpt-oss" } },
    { "yarn length", { .family = "gpt-oss" } },
    { "temperature", { .family = "mistral3" } },
    { "yarn ramp", { .family = "mistral3" } },
    { "log multiplier", { .family = "mistral3", .extra = { KEY("rope.scaling.yarn_log_multiplier", 1) } } },
    { "layers without rotation", { .family = "smollm3" } },
};

static void each_idea_is_missed(void)
{
    enum { N = 90 };
    static double naive[N * MOST_VOCAB];
    static int32_t ids[N];
    size_t i;
    for (i = 0; i < sizeof ideas / sizeof *ideas; i++) {
        const idea *row = &ideas[i];
        int n = row->spec.n_layer > 20 ? 40 : N;
        size_t bytes;
        unsigned char *file = model_build(&row->spec, &bytes);
        smolq_error err;
        double with, without;
        model_ids(ids, n, 61, i);
        with = passes(file, bytes, n, ids, n, naive, NULL, &err);
        naive_off = row->name;
        without = with < 0 ? -1 : passes(file, bytes, n, ids, n, naive, NULL, &err);
        naive_off = NULL;
        free(file);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-9s %-28s %.2e, without it %.2e\n", row->spec.family, row->name, with, without);
        CHECK(with >= 0, "%s: %s", row->spec.family, err.text);
        CHECK(with <= 1e-5 && without > 1e-2, "%s, %s: %g away from the naive pass, and %g from one without it", row->spec.family, row->name, with, without);
    }
}

/* ---- each key is read: the model with another value is another model, and the right one ---- */

typedef struct change { model_spec spec; build_extra key; } change;
static const change changes[] = {
    { { .family = "gemma2" }, WITHOUT("attention.sliding_window") },
    { { .family = "gemma2" }, INT("attention.sliding_window", 20) },
    { { .family = "gemma2" }, INT("attention.sliding_window_pattern", 3) },
    { { .family = "gemma2" }, EACH("attention.sliding_window_pattern", 0, 1) },
    { { .family = "gemma2" }, KEY("attn_logit_softcapping", 6) },
    { { .family = "gemma2" }, KEY("final_logit_softcapping", 4) },
    { { .family = "gemma2" }, KEY("rope.freq_base_swa", 200) },
    { { .family = "gemma3", .n_layer = 6 }, KEY("rope.freq_base_swa", 200) },
    { { .family = "gemma3", .n_layer = 6 }, KEY("rope.freq_base", 90) },
    { { .family = "gemma3", .n_layer = 6 }, KEY("rope.scaling.factor", 8) },
    { { .family = "gemma3", .n_layer = 6 }, KEY("rope.scale_linear", 8) },
    { { .family = "gemma3" }, KEY("final_logit_softcapping", 1) },
    { { .family = "gemma3" }, KEY("attention.layer_norm_rms_epsilon", 0.1) },
    { { .family = "phi3", .head_dim = 32 }, INT("rope.scaling.original_context_length", 100) },
    { { .family = "phi3" }, KEY("rope.scaling.attn_factor", 1.4) },
    { { .family = "olmo2" }, INT("attention.sliding_window", 9) },
    { { .family = "olmo2", .scaling = "yarn", .factor = 8, .original_ctx = 32 }, INT("attention.sliding_window", 9) },
    { { .family = "granite" }, KEY("logit_scale", 0.9) },
    { { .family = "granite" }, KEY("residual_scale", 0.4) },
    { { .family = "granite" }, WITHOUT("residual_scale") },
    { { .family = "granite" }, KEY("embedding_scale", 0.5) },
    { { .family = "granite" }, WITHOUT("embedding_scale") },
    { { .family = "granite" }, KEY("attention.scale", 0.1) },
    { { .family = "granite" }, YES("rope.scaling.finetuned", 0) },
    { { .family = "qwen2moe" }, KEY("expert_weights_scale", 2) },
    { { .family = "qwen2moe" }, INT("expert_used_count", 3) },
    { { .family = "gpt-oss" }, INT("attention.sliding_window", 40) },
    { { .family = "gpt-oss" }, EACH("attention.sliding_window_pattern", 1, 1, 0) },
    { { .family = "gpt-oss" }, KEY("rope.freq_base_swa", 50) },
    { { .family = "gpt-oss" }, KEY("rope.scaling.factor", 2) },
    { { .family = "gpt-oss" }, INT("rope.scaling.original_context_length", 400) },
    { { .family = "gpt-oss" }, KEY("rope.scaling.attn_factor", 0.6) },
    { { .family = "gpt-oss" }, TEXT("rope.scaling.type", "linear") },
    { { .family = "gpt-oss" }, TEXT("rope.scaling.type", "none") },
    { { .family = "mistral3" }, WITHOUT("attention.temperature_scale") },
    { { .family = "mistral3" }, KEY("attention.temperature_scale", 0.9) },
    { { .family = "mistral3", .head_dim = 32 }, KEY("rope.scaling.yarn_beta_fast", 1.2) },
    { { .family = "mistral3", .head_dim = 32 }, KEY("rope.scaling.yarn_beta_slow", 0.2) },
    { { .family = "mistral3" }, KEY("rope.scaling.yarn_log_multiplier", 1) },
    { { .family = "mistral3" }, KEY("rope.scaling.yarn_ext_factor", 0.5) },
    { { .family = "llama" }, KEY("attention.scale", 0.5) },
    { { .family = "llama" }, KEY("rope.scaling.yarn_attn_factor", 1.5) },
};

static void each_key_is_read(void)
{
    enum { N = 90 };
    static double naive[N * MOST_VOCAB], other[N * MOST_VOCAB];
    static int32_t ids[N];
    size_t i;
    for (i = 0; i < sizeof changes / sizeof *changes; i++) {
        const change *row = &changes[i];
        model_spec spec = changed(&row->spec, &row->key);
        size_t bytes, bytes_other;
        unsigned char *file = model_build(&row->spec, &bytes), *file_other = model_build(&spec, &bytes_other);
        smolq_error err;
        double error, far_off;
        model_ids(ids, N, 61, i);
        err.text[0] = 0;
        naive_logits_memory(file, bytes, ids, N, naive);
        error = passes(file_other, bytes_other, N, ids, N, other, NULL, &err);
        far_off = distance64(other, naive, N * 61);
        free(file);
        free(file_other);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-9s %-40s %.2e, changed by %.2e\n", row->spec.family, row->key.key, error, far_off);
        CHECK(error >= 0 && error <= 1e-5, "%s with another %s: %g away from the naive pass; %s", row->spec.family, row->key.key, error, err.text);
        CHECK(far_off > 1e-2, "%s with another %s changes by %g only", row->spec.family, row->key.key, far_off);
    }
}

/* Sinks of -1e9 take no part: what is left is the pass without them. */
static void sinks_that_vanish(void)
{
    enum { N = 60 };
    static double naive[N * MOST_VOCAB];
    static const model_spec spec = { .family = "gpt-oss" };
    int32_t ids[N];
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    naive_file parsed;
    smolq_error err;
    double error;
    uint64_t i;
    memset(&parsed, 0, sizeof parsed);
    REQUIRE(!naive_parse(&parsed, file, bytes), "parse");
    for (i = 0; i < parsed.n_tensors; i++)
        if (strstr(parsed.tensors[i].name, "attn_sinks")) {
            float value = -1e9f;
            uint64_t k;
            for (k = 0; k < parsed.tensors[i].ne[0]; k++) memcpy(file + (parsed.tensors[i].data - file) + 4 * k, &value, 4);
        }
    naive_close(&parsed);
    model_ids(ids, N, 61, 1);
    naive_off = "sinks";
    error = passes(file, bytes, N, ids, N, naive, NULL, &err);
    naive_off = NULL;
    free(file);
    CHECK(error >= 0 && error <= 1e-5, "relative error %g", error);
}

/* The factors of the RoPE follow the context, not the text: two contexts, one at the original length and one beyond. */
static void long_and_short_factors(void)
{
    enum { N = 60, ORIGINAL = 64 };
    static double naive[2][N * MOST_VOCAB];
    static const model_spec families[2] = { { .family = "phi3" }, { .family = "llama", .long_short = 1, .original_ctx = ORIGINAL, .scaling = "longrope", .factor = 1 } };
    int32_t ids[N];
    int i, c;
    for (i = 0; i < 2; i++) {
        size_t bytes;
        unsigned char *file = model_build(&families[i], &bytes);
        smolq_error err;
        model_ids(ids, N, 61, 5);
        for (c = 0; c < 2; c++) {
            double error = passes(file, bytes, ORIGINAL + c, ids, N, naive[c], NULL, &err);
            CHECK(error >= 0 && error <= 1e-5, "%s in a context of %d: relative error %g, allowed 1e-5", families[i].family, ORIGINAL + c, error);
        }
        CHECK(distance64(naive[1], naive[0], N * 61) > 1e-2, "%s: both contexts have the same factors", families[i].family);
        free(file);
    }
}

/* A fused tensor is the same numbers in another place. */
static void fused_is_the_same(void)
{
    enum { N = 30 };
    static const model_spec families[] = { { .family = "llama", .type = 1 }, { .family = "smollm3" }, { .family = "gemma3", .n_layer = 6 }, { .family = "olmo2" },
                                           { .family = "granite", .type = 30 }, { .family = "qwen3", .head_dim = 16 } };
    int32_t ids[N];
    size_t i;
    model_ids(ids, N, 61, 6);
    for (i = 0; i < sizeof families / sizeof *families; i++) {
        model_spec spec = families[i];
        float *logits[2] = { NULL, NULL };
        smolq_error err;
        for (spec.fused = 0; spec.fused < 2; spec.fused++) {
            size_t bytes;
            unsigned char *file = model_build(&spec, &bytes);
            CHECK(passes(file, bytes, N, ids, N, NULL, &logits[spec.fused], &err) == 0, "%s: %s", spec.family, err.text);
            free(file);
        }
        CHECK(logits[0] && logits[1] && memcmp(logits[0], logits[1], sizeof(float) * N * 61) == 0, "%s: fused tensors change the logits", spec.family);
        free(logits[0]);
        free(logits[1]);
    }
}

/* ---- windows ---- */

enum { W_IDS = 120, W_VOCAB = 61, W_CONTEXTS = 4 };

typedef struct windowed {
    smolq_model *model;
    unsigned char *file;
    int kv_type;
    smolq_error err;
} windowed;

static int windowed_open(windowed *w, const model_spec *spec, int kv_type)
{
    smolq_open_options options;
    smolq_source source;
    size_t bytes;
    memset(w, 0, sizeof *w);
    memset(&options, 0, sizeof options);
    w->kv_type = kv_type;
    w->file = model_build(spec, &bytes);
    source = model_source(w->file, bytes);
    options.sources = &source;
    options.n_sources = 1;
    return smolq_open(NULL, &options, &w->model, &w->err) == SMOLQ_OK;
}
static void windowed_close(windowed *w)
{
    smolq_close(w->model);
    free(w->file);
}
static smolq_context *windowed_context(windowed *w, int n_ctx, int n_batch)
{
    smolq_context_options options;
    smolq_context *context = NULL;
    memset(&options, 0, sizeof options);
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    options.kv_type = w->kv_type;
    if (smolq_context_open(w->model, &options, &context, &w->err)) return NULL;
    return context;
}

/* A conversation that went through anything: its context, and the tokens that it should hold. */
typedef struct talk { smolq_context *context; int32_t ids[W_IDS]; int n; } talk;

/* Logits of all positions of a text, each computed alone in a context whose rings hold everything: the judge.  [n][W_VOCAB] */
static int in_one_batch(windowed *w, const int32_t *ids, int n, float *logits)
{
    smolq_context *context = windowed_context(w, n, n);
    smolq_eval_item item = { context, ids, n, SMOLQ_LOGITS_ALL, logits, NULL, NULL };
    int done = context && smolq_eval(&item, 1, NULL, &w->err) == SMOLQ_OK;
    smolq_context_close(context);
    return done;
}

static int append(windowed *w, talk *t, const int32_t *ids, int n) /* and judge the logits of every new position */
{
    static float got[W_IDS * W_VOCAB], want[W_IDS * W_VOCAB];
    smolq_eval_item item = { t->context, ids, n, SMOLQ_LOGITS_ALL, got, NULL, NULL };
    if (smolq_eval(&item, 1, NULL, &w->err)) return 0;
    memcpy(t->ids + t->n, ids, sizeof *ids * (size_t)n);
    t->n += n;
    if (!in_one_batch(w, t->ids, t->n, want)) return 0;
    snprintf(w->err.text, sizeof w->err.text, "other logits at a length of %d after %d more", t->n, n);
    return smolq_context_length(t->context) == t->n && memcmp(got, want + (size_t)(t->n - n) * W_VOCAB, sizeof(float) * (size_t)n * W_VOCAB) == 0;
}

static const model_spec windowed_specs[] = {
    { .family = "gpt-oss", .n_layer = 2, .n_embd = 32, .n_ff = 20, .extra = { INT("attention.sliding_window", 5) } },
    { .family = "gemma3", .n_layer = 4, .n_embd = 32, .n_ff = 24, .head_dim = 32, .extra = { INT("attention.sliding_window", 9), EACH(PATTERN, 1, 0, 1, 1) } },
    { .family = "gemma2", .n_layer = 3, .n_embd = 32, .n_ff = 24, .head_dim = 32, .extra = { INT("attention.sliding_window", 1) } },
    { .family = "olmo2", .n_layer = 4, .n_embd = 32, .n_ff = 24, .head_dim = 32, .scaling = "yarn", .factor = 4, .original_ctx = 32, .extra = { INT("attention.sliding_window", 70) } },
    { .family = "gemma2", .n_layer = 2, .n_embd = 32, .n_ff = 24, .head_dim = 32, .extra = { INT(PATTERN, 1) } },              /* no layer has a window after all */
    { .family = "gemma2", .n_layer = 2, .n_embd = 32, .n_ff = 24, .head_dim = 32, .extra = { EACH(PATTERN, 1, 1), INT("attention.sliding_window", 3) } }, /* all have */
};
enum { N_WINDOWED = sizeof windowed_specs / sizeof *windowed_specs };

/* A layer with a window has cells for the window and a batch, all others for the whole context. */
static void windows_take_less_memory(void)
{
    static const struct { int kv_type, bytes_of_32; } kvs[3] = { { SMOLQ_KV_F16, 64 }, { SMOLQ_KV_F32, 128 }, { SMOLQ_KV_Q8_0, 34 } };
    static const int sizes[][2] = { { 4000, 0 }, { 4000, 1 }, { 4000, 512 }, { 100, 7 }, { 8, 8 }, { 1, 1 } };
    int i, k, s, il;
    for (i = 0; i < N_WINDOWED; i++)
        for (k = 0; k < 3; k++) {
            model_spec spec = windowed_specs[i];
            windowed w;
            naive_file parsed;
            spec.head_dim = 32;
            memset(&parsed, 0, sizeof parsed);
            REQUIRE(windowed_open(&w, &spec, kvs[k].kv_type), "%s: %s", spec.family, w.err.text);
            naive_parse(&parsed, w.file, 1 << 30);
            for (s = 0; s < 6; s++) {
                int n_ctx = sizes[s][0], n_batch = sizes[s][1] ? sizes[s][1] : 128 < n_ctx ? 128 : n_ctx;
                uint64_t want = 0;
                smolq_memory memory;
                smolq_context_options options;
                smolq_context *context = NULL;
                for (il = 0; il < spec.n_layer; il++) {
                    int window = naive_window(&parsed, il), cells = window && window + n_batch - 1 < n_ctx ? window + n_batch - 1 : n_ctx;
                    want += (uint64_t)(2 * 2 * cells * kvs[k].bytes_of_32); /* keys and values, of two heads */
                }
                memset(&options, 0, sizeof options);
                options.n_ctx = n_ctx;
                options.n_batch = sizes[s][1];
                options.kv_type = kvs[k].kv_type;
                CHECK(smolq_plan(w.model, &options, &memory, &w.err) == SMOLQ_OK && memory.kv_bytes == (want + 63) / 64 * 64, "%s, n_ctx %d, n_batch %d: kv_bytes %llu, expected %llu",
                      spec.family, n_ctx, n_batch, (unsigned long long)memory.kv_bytes, (unsigned long long)want);
                options.max_bytes = memory.host_bytes;
                CHECK(smolq_context_open(w.model, &options, &context, &w.err) == SMOLQ_OK, "the plan is too small: %s", w.err.text);
                smolq_context_close(context);
            }
            naive_close(&parsed);
            windowed_close(&w);
        }
}

/* Whole texts: in batches of any size, token by token. */
static void windows_in_any_batches(void)
{
    static const int batches[] = { 1, 2, 7, 16, 63, 64, 65, W_IDS };
    static float want[W_IDS * W_VOCAB], got[W_IDS * W_VOCAB];
    int32_t ids[W_IDS];
    int i, b, at;
    model_ids(ids, W_IDS, W_VOCAB, 3);
    for (i = 0; i < N_WINDOWED; i++) {
        windowed w;
        REQUIRE(windowed_open(&w, &windowed_specs[i], i % 3 + 1 == 3 && windowed_specs[i].head_dim != 32 ? 1 : i % 3 + 1), "%s", w.err.text);
        REQUIRE(in_one_batch(&w, ids, W_IDS, want), "%s", w.err.text);
        for (b = 0; b < 8; b++) {
            int step = b % 2 ? 1 : W_IDS; /* in one call, or token by token */
            smolq_context *context = windowed_context(&w, W_IDS + 9 * b, batches[b]);
            REQUIRE(context, "%s", w.err.text);
            memset(got, 0, sizeof got);
            for (at = 0; at < W_IDS; at += step) {
                smolq_eval_item item = { context, ids + at, step, SMOLQ_LOGITS_ALL, got + (size_t)at * W_VOCAB, NULL, NULL };
                CHECK(smolq_eval(&item, 1, NULL, &w.err) == SMOLQ_OK, "%s", w.err.text);
            }
            CHECK(memcmp(got, want, sizeof got) == 0, "%s number %d: other logits in batches of %d", windowed_specs[i].family, i, batches[b]);
            smolq_context_close(context);
        }
        windowed_close(&w);
    }
}

static int cancel_after(void *user) { return --*(int *)user < 0; }

/* Back to before the ring, by every way there is; then on, and the logits are those of a fresh context. */
static void windows_and_going_back(void)
{
    static const int lengths[] = { 119, 90, 60, 21, 7, 4, 1, 0 };
    int32_t ids[W_IDS];
    int i, b, back;
    model_ids(ids, W_IDS, W_VOCAB, 4);
    for (i = 0; i < N_WINDOWED; i++) {
        windowed w;
        REQUIRE(windowed_open(&w, &windowed_specs[i], SMOLQ_KV_F16), "%s", w.err.text);
        for (b = 0; b < 8; b++) {
            talk t = { 0 }, other = { 0 }, narrow = { 0 };
            int n_batch = b % 2 ? 3 : 8, left, kept;
            size_t n_kept = 0;
            int32_t edited[W_IDS];
            smolq_eval_item item;
            t.context = windowed_context(&w, W_IDS, n_batch);
            other.context = windowed_context(&w, W_IDS + 7, n_batch + 4);
            narrow.context = windowed_context(&w, W_IDS + 1, 1);
            REQUIRE(t.context && other.context && narrow.context, "%s", w.err.text);
            CHECK(append(&w, &t, ids, W_IDS), "%s number %d: %s", windowed_specs[i].family, i, w.err.text);
            back = lengths[b];

            /* a fork into a ring with less room, and from there back */
            CHECK(smolq_context_fork(narrow.context, t.context, &w.err) == SMOLQ_OK, "%s", w.err.text);
            memcpy(narrow.ids, t.ids, sizeof t.ids);
            narrow.n = back > 2 ? W_IDS - 1 - b : back;
            CHECK(smolq_context_truncate(narrow.context, narrow.n, &w.err) == SMOLQ_OK, "%s", w.err.text);
            CHECK(append(&w, &narrow, ids + 2, 1), "%s number %d, a narrow fork back to %d: %s", windowed_specs[i].family, i, narrow.n, w.err.text);

            /* truncate; a fork of what now may lack its cells; on in both */
            CHECK(smolq_context_truncate(t.context, back, &w.err) == SMOLQ_OK && smolq_context_length(t.context) == back, "%s", w.err.text);
            t.n = back;
            CHECK(smolq_context_fork(other.context, t.context, &w.err) == SMOLQ_OK && smolq_context_length(other.context) == back, "%s", w.err.text);
            memcpy(other.ids, t.ids, sizeof t.ids);
            other.n = t.n;
            CHECK(append(&w, &other, ids + 5, 1), "%s number %d, a fork after going back to %d: %s", windowed_specs[i].family, i, back, w.err.text);
            CHECK(append(&w, &t, ids + 3, back < 110 ? 10 : 1), "%s number %d, back to %d: %s", windowed_specs[i].family, i, back, w.err.text);

            /* an edited text: the common prefix stays */
            memcpy(edited, t.ids, sizeof edited);
            kept = t.n / 2;
            edited[kept] = edited[kept] == 9 ? 8 : 9;
            CHECK(smolq_context_reuse(t.context, edited, (size_t)t.n, &n_kept, &w.err) == SMOLQ_OK && (int)n_kept == kept, "%s: %d kept, expected %d", w.err.text, (int)n_kept, kept);
            left = t.n - kept;
            t.n = kept;
            CHECK(append(&w, &t, edited + kept, left), "%s number %d, an edit at %d: %s", windowed_specs[i].family, i, kept, w.err.text);

            /* cancelled at many places, each time as if nothing had been; then it goes on */
            CHECK(smolq_context_truncate(t.context, t.n < 20 ? t.n : 20, &w.err) == SMOLQ_OK, "%s", w.err.text);
            t.n = smolq_context_length(t.context);
            for (left = 0; left < 40000; left = 3 * left + 50) {
                int polls = left, before = t.n;
                smolq_eval_options options;
                smolq_result result;
                memset(&options, 0, sizeof options);
                options.cancel = cancel_after;
                options.user = &polls;
                item.context = t.context;
                item.tokens = ids;
                item.n_tokens = 60;
                item.want = SMOLQ_LOGITS_NONE;
                item.logits = NULL;
                result = smolq_eval(&item, 1, &options, &w.err);
                CHECK(result == SMOLQ_E_CANCELLED || result == SMOLQ_OK, "%s", w.err.text);
                if (result == SMOLQ_OK) smolq_context_truncate(t.context, before, &w.err);
                CHECK(smolq_context_length(t.context) == before, "a cancelled evaluation left %d tokens, %d were there", smolq_context_length(t.context), before);
            }
            CHECK(append(&w, &t, ids + 11, 5), "%s number %d, after cancelled evaluations: %s", windowed_specs[i].family, i, w.err.text);
            smolq_context_close(t.context);
            smolq_context_close(other.context);
            smolq_context_close(narrow.context);
        }
        windowed_close(&w);
    }
}

/* An evaluation that fails after its rings have gone round: the embedding of one token is NaN. */
static void windows_and_failures(void)
{
    int i;
    for (i = 0; i < N_WINDOWED; i++) {
        int32_t ids[W_IDS];
        windowed w;
        talk t = { 0 };
        smolq_eval_item item;
        naive_file parsed;
        model_ids(ids, W_IDS, W_VOCAB - 1, 8); /* the last token is never among them */
        memset(&parsed, 0, sizeof parsed);
        REQUIRE(windowed_open(&w, &windowed_specs[i], SMOLQ_KV_F32), "%s", w.err.text);
        naive_parse(&parsed, w.file, 1 << 30);
        memset(w.file + (naive_tensor_of(&parsed, -1, "token_embd.weight")->data - w.file) + 4 * 32 * (W_VOCAB - 1), 0xff, 4);
        naive_close(&parsed);
        t.context = windowed_context(&w, W_IDS, 4);
        REQUIRE(t.context, "%s", w.err.text);
        /* the output is tied to the embedding, so logits have one NaN: only cells are judged, by what follows from them */
        item.context = t.context;
        item.want = SMOLQ_LOGITS_NONE;
        item.logits = NULL;
        item.tokens = ids;
        item.n_tokens = 30;
        CHECK(smolq_eval(&item, 1, NULL, &w.err) == SMOLQ_OK, "%s", w.err.text);
        ids[89] = W_VOCAB - 1;
        item.tokens = ids + 30;
        item.n_tokens = 60;
        CHECK(smolq_eval(&item, 1, NULL, &w.err) == SMOLQ_E_NUMERIC && smolq_context_length(t.context) == 30, "%s number %d: NaN was not seen: %s", windowed_specs[i].family, i, w.err.text);
        CHECK(smolq_eval(&item, 1, NULL, &w.err) == SMOLQ_E_NUMERIC && smolq_context_length(t.context) == 30, "%s number %d: NaN was not seen again: %s", windowed_specs[i].family, i, w.err.text);
        item.n_tokens = 59;
        CHECK(smolq_eval(&item, 1, NULL, &w.err) == SMOLQ_OK && smolq_context_length(t.context) == 89, "%s number %d: NaN stayed in a ring: %s", windowed_specs[i].family, i, w.err.text);
        smolq_context_close(t.context);
        windowed_close(&w);
    }
}

/* Contexts with rings of different sizes in one call, some of which must be fed again. */
static void windows_among_others(void)
{
    static const int batches[W_CONTEXTS] = { 2, 16, 5, 1 };
    static float want[W_IDS * W_VOCAB];
    int32_t ids[W_IDS];
    int i, c, round;
    model_ids(ids, W_IDS, W_VOCAB, 9);
    for (i = 0; i < N_WINDOWED; i++) {
        windowed w;
        talk t[W_CONTEXTS];
        static float got[W_CONTEXTS][W_VOCAB];
        memset(t, 0, sizeof t);
        REQUIRE(windowed_open(&w, &windowed_specs[i], SMOLQ_KV_F32), "%s", w.err.text);
        for (c = 0; c < W_CONTEXTS; c++) REQUIRE((t[c].context = windowed_context(&w, W_IDS, batches[c])) != NULL, "%s", w.err.text);
        for (round = 0; round < 6; round++) {
            smolq_eval_item items[W_CONTEXTS];
            smolq_evaluation e;
            smolq_result result;
            for (c = 0; c < W_CONTEXTS; c++) {
                int n = (round * 7 + c * 11) % 19 + 1;
                if (round == 3 && c % 2) smolq_context_truncate(t[c].context, t[c].n = t[c].n / 3, &w.err);
                items[c].context = t[c].context;
                items[c].tokens = ids + c + round;
                items[c].n_tokens = n;
                items[c].want = SMOLQ_LOGITS_LAST;
                items[c].logits = got[c];
                memcpy(t[c].ids + t[c].n, items[c].tokens, sizeof *ids * (size_t)n);
                t[c].n += n;
            }
            result = smolq_eval_begin(&e, items, W_CONTEXTS, NULL, &w.err);
            while (result == SMOLQ_OK && (result = smolq_eval_step(&e, round % 2 ? 20 : 0, &w.err)) == SMOLQ_MORE) result = SMOLQ_OK;
            REQUIRE(result == SMOLQ_OK, "%s number %d: %s", windowed_specs[i].family, i, w.err.text);
            for (c = 0; c < W_CONTEXTS; c++) {
                REQUIRE(in_one_batch(&w, t[c].ids, t[c].n, want), "%s", w.err.text);
                CHECK(memcmp(got[c], want + (size_t)(t[c].n - 1) * W_VOCAB, sizeof got[c]) == 0, "%s number %d: other logits in context %d of a call, round %d", windowed_specs[i].family, i, c, round);
            }
        }
        for (c = 0; c < W_CONTEXTS; c++) smolq_context_close(t[c].context);
        windowed_close(&w);
    }
}

/* A random life of contexts: append, truncate, fork, cancel; every new logit is judged. */
static void windows_at_random(void)
{
    int i, c, step, steps = getenv("SMOLQ_LONG") ? 2000 : 60;
    for (i = 0; i < N_WINDOWED; i++) {
        static const int batches[W_CONTEXTS] = { 3, 1, 8, 30 };
        uint64_t rng = (uint64_t)i + 77;
        windowed w;
        talk t[W_CONTEXTS];
        memset(t, 0, sizeof t);
        REQUIRE(windowed_open(&w, &windowed_specs[i], SMOLQ_KV_F16), "%s", w.err.text);
        for (c = 0; c < W_CONTEXTS; c++) REQUIRE((t[c].context = windowed_context(&w, W_IDS - 11 * c, batches[c])) != NULL, "%s", w.err.text);
        for (step = 0; step < steps; step++) {
            int what = (int)(build_random(&rng) % 8), room, n, to = (int)(build_random(&rng) % W_CONTEXTS);
            talk *at = &t[build_random(&rng) % W_CONTEXTS];
            int32_t ids[W_IDS];
            room = smolq_context_capacity(at->context) - at->n;
            n = (int)(build_random(&rng) % (what < 2 ? 60 : 6)) + 1;
            if (n > room) what = 7;
            model_ids(ids, n, W_VOCAB, build_random(&rng));
            if (what < 5) {
                CHECK(append(&w, at, ids, n), "%s number %d, step %d: %s", windowed_specs[i].family, i, step, w.err.text);
            } else if (what == 5 && &t[to] != at && smolq_context_capacity(t[to].context) >= at->n) {
                smolq_context *context = t[to].context;
                CHECK(smolq_context_fork(context, at->context, &w.err) == SMOLQ_OK, "%s", w.err.text);
                t[to] = *at;
                t[to].context = context;
            } else if (what == 6) {
                int polls = (int)(build_random(&rng) % 3000);
                smolq_eval_options options = { 0, 0, cancel_after, &polls };
                smolq_eval_item item = { at->context, ids, n, SMOLQ_LOGITS_NONE, NULL, NULL, NULL };
                if (smolq_eval(&item, 1, &options, &w.err) == SMOLQ_OK) {
                    memcpy(at->ids + at->n, ids, sizeof *ids * (size_t)n);
                    at->n += n;
                }
            } else if (what == 7) {
                at->n -= (int)(build_random(&rng) % (uint64_t)(at->n + 1)) / (build_random(&rng) % 2 ? 8 : 1);
                CHECK(smolq_context_truncate(at->context, at->n, &w.err) == SMOLQ_OK, "%s", w.err.text);
            }
            CHECK(smolq_context_length(at->context) == at->n, "step %d: a length of %d, expected %d", step, smolq_context_length(at->context), at->n);
        }
        for (c = 0; c < W_CONTEXTS; c++) smolq_context_close(t[c].context);
        windowed_close(&w);
    }
}

/* A window never changes the bits of a text that fits into it: a wider one gives the same. */
static void wide_windows_are_none(void)
{
    enum { N = 40 };
    static const model_spec families[] = { { .family = "gemma2" }, { .family = "gpt-oss" } };
    int32_t ids[N];
    size_t i;
    model_ids(ids, N, 61, 2);
    for (i = 0; i < 2; i++) {
        static const build_extra widths[2] = { INT("attention.sliding_window", N), INT("attention.sliding_window", 50 * N) };
        float *logits[2] = { NULL, NULL };
        int k;
        for (k = 0; k < 2; k++) {
            model_spec spec = changed(&families[i], &widths[k]);
            size_t bytes;
            smolq_error err;
            unsigned char *file = model_build(&spec, &bytes);
            CHECK(passes(file, bytes, N, ids, N, NULL, &logits[k], &err) == 0, "%s", err.text);
            free(file);
        }
        CHECK(logits[0] && logits[1] && memcmp(logits[0], logits[1], sizeof(float) * N * 61) == 0, "%s: a window of the text's length and a wider one differ", families[i].family);
        free(logits[0]);
        free(logits[1]);
    }
}

/* ---- malformed keys ---- */

typedef struct malformed { const char *family; build_extra key; int result; const char *says; } malformed;
static const malformed malformeds[] = {
    { "gemma2", INT("attention.sliding_window", 0), SMOLQ_E_FORMAT, "attention.sliding_window" },
    { "gpt-oss", WITHOUT("attention.sliding_window"), SMOLQ_E_MISSING, "attention.sliding_window" },
    { "gemma3", KEY("attention.sliding_window", 7.5), SMOLQ_E_FORMAT, "attention.sliding_window" },
    { "gpt-oss", TEXT("attention.sliding_window", "wide"), SMOLQ_E_FORMAT, "attention.sliding_window" },
    { "olmo2", { .key = "attention.sliding_window", .kind = 'i', .value = -4 }, SMOLQ_E_FORMAT, "attention.sliding_window" },
    { "gemma2", INT(PATTERN, 0), SMOLQ_E_FORMAT, PATTERN },
    { "gemma2", TEXT(PATTERN, "LG"), SMOLQ_E_FORMAT, PATTERN },
    { "gemma2", { .key = PATTERN, .kind = 'B', .list = { 1, 0, 1 }, .n = -3 }, SMOLQ_E_FORMAT, PATTERN },
    { "gemma3", { .key = PATTERN, .kind = 'B', .list = { 1, 0, 1, 1, 1 }, .n = -5 }, SMOLQ_E_FORMAT, PATTERN },
    { "gpt-oss", PER_LAYER(PATTERN, 0, 2), SMOLQ_E_FORMAT, PATTERN },
    { "gpt-oss", { .key = PATTERN, .kind = 'F', .list = { 0, 1 }, .n = 2 }, SMOLQ_E_FORMAT, PATTERN },
    { "gemma2", KEY("attn_logit_softcapping", NAN), SMOLQ_E_FORMAT, "attn_logit_softcapping" },
    { "gemma2", KEY("attn_logit_softcapping", 0), SMOLQ_E_FORMAT, "attn_logit_softcapping" },
    { "gemma2", KEY("attn_logit_softcapping", -50), SMOLQ_E_FORMAT, "attn_logit_softcapping" },
    { "gemma2", KEY("attn_logit_softcapping", INFINITY), SMOLQ_E_FORMAT, "attn_logit_softcapping" },
    { "gemma2", TEXT("attn_logit_softcapping", "50"), SMOLQ_E_FORMAT, "attn_logit_softcapping" },
    { "gemma2", WITHOUT("attn_logit_softcapping"), SMOLQ_E_MISSING, "attn_logit_softcapping" },
    { "gemma2", KEY("final_logit_softcapping", NAN), SMOLQ_E_FORMAT, "final_logit_softcapping" },
    { "gemma2", KEY("final_logit_softcapping", 0), SMOLQ_E_FORMAT, "final_logit_softcapping" },
    { "gemma2", KEY("final_logit_softcapping", -1), SMOLQ_E_FORMAT, "final_logit_softcapping" },
    { "gemma2", WITHOUT("final_logit_softcapping"), SMOLQ_E_MISSING, "final_logit_softcapping" },
    { "gemma3", KEY("rope.freq_base_swa", 1), SMOLQ_E_FORMAT, "rope.freq_base_swa" },
    { "gemma3", KEY("rope.freq_base_swa", 0), SMOLQ_E_FORMAT, "rope.freq_base_swa" },
    { "gemma3", KEY("rope.freq_base_swa", NAN), SMOLQ_E_FORMAT, "rope.freq_base_swa" },
    { "gemma3", KEY("rope.freq_base_swa", -10000), SMOLQ_E_FORMAT, "rope.freq_base_swa" },
    { "granite", KEY("logit_scale", 0), SMOLQ_E_FORMAT, "logit_scale" },
    { "granite", KEY("logit_scale", NAN), SMOLQ_E_FORMAT, "logit_scale" },
    { "granite", KEY("logit_scale", -8), SMOLQ_E_FORMAT, "logit_scale" },
    { "granite", WITHOUT("logit_scale"), SMOLQ_E_MISSING, "logit_scale" },
    { "granite", KEY("residual_scale", NAN), SMOLQ_E_FORMAT, "residual_scale" },
    { "granite", KEY("residual_scale", -1), SMOLQ_E_FORMAT, "residual_scale" },
    { "granite", KEY("embedding_scale", INFINITY), SMOLQ_E_FORMAT, "embedding_scale" },
    { "granite", KEY("embedding_scale", -12), SMOLQ_E_FORMAT, "embedding_scale" },
    { "granite", KEY("attention.scale", NAN), SMOLQ_E_FORMAT, "attention.scale" },
    { "granite", KEY("attention.scale", -0.1), SMOLQ_E_FORMAT, "attention.scale" },
    { "granite", TEXT("rope.scaling.finetuned", "yes"), SMOLQ_E_FORMAT, "rope.scaling.finetuned" },
    { "mistral3", KEY("attention.temperature_scale", NAN), SMOLQ_E_FORMAT, "attention.temperature_scale" },
    { "mistral3", KEY("attention.temperature_scale", -0.1), SMOLQ_E_FORMAT, "attention.temperature_scale" },
    { "mistral3", WITHOUT("rope.scaling.original_context_length"), SMOLQ_E_MISSING, "rope.scaling.original_context_length" },
    { "mistral3", INT("rope.scaling.original_context_length", 0), SMOLQ_E_FORMAT, "rope.scaling.original_context_length" },
    { "mistral3", KEY("rope.scaling.yarn_beta_fast", 0), SMOLQ_E_FORMAT, "rope.scaling.yarn_beta_fast" },
    { "mistral3", KEY("rope.scaling.yarn_beta_slow", NAN), SMOLQ_E_FORMAT, "rope.scaling.yarn_beta_slow" },
    { "mistral3", KEY("rope.scaling.yarn_log_multiplier", -1), SMOLQ_E_FORMAT, "rope.scaling.yarn_log_multiplier" },
    { "mistral3", KEY("rope.scaling.yarn_ext_factor", NAN), SMOLQ_E_FORMAT, "rope.scaling.yarn_ext_factor" },
    { "mistral3", KEY("rope.scaling.yarn_attn_factor", 0), SMOLQ_E_FORMAT, "rope.scaling.yarn_attn_factor" },
    { "mistral3", KEY("rope.scaling.factor", -2), SMOLQ_E_FORMAT, "rope.scaling.factor" },
    { "mistral3", TEXT("rope.scaling.type", "spiral"), SMOLQ_E_UNSUPPORTED, "rope.scaling.type" },
    { "phi3", KEY("rope.scaling.attn_factor", 0), SMOLQ_E_FORMAT, "rope.scaling.attn_factor" },
    { "phi3", INT("rope.dimension_count", 18), SMOLQ_E_FORMAT, "rope.dimension_count" },
    { "phi3", INT("rope.dimension_count", 7), SMOLQ_E_FORMAT, "rope.dimension_count" },
    { "phi3", INT("rope.dimension_count", 8), SMOLQ_E_SHAPE, "rope_factors_long.weight" },
    { "qwen2moe", INT("expert_used_count", 7), SMOLQ_E_FORMAT, "expert_used_count" },
    { "qwen2moe", INT("expert_used_count", 0), SMOLQ_E_FORMAT, "expert_used_count" },
    { "qwen2moe", WITHOUT("expert_used_count"), SMOLQ_E_MISSING, "expert_used_count" },
    { "qwen2moe", WITHOUT("expert_count"), SMOLQ_E_MISSING, "expert_count" },
    { "qwen2moe", INT("expert_shared_feed_forward_length", 65), SMOLQ_E_SHAPE, "ffn_gate_shexp.weight" },
    { "qwen2moe", KEY("expert_weights_scale", NAN), SMOLQ_E_FORMAT, "expert_weights_scale" },
    { "qwen2moe", KEY("expert_weights_scale", -1), SMOLQ_E_FORMAT, "expert_weights_scale" },
    { "qwen2moe", INT("expert_gating_func", 2), SMOLQ_E_UNSUPPORTED, "expert_gating_func" },
    { "qwen2moe", INT("expert_gating_func", 3), SMOLQ_E_UNSUPPORTED, "expert_gating_func" },
    { "gpt-oss", INT("expert_gating_func", 1), SMOLQ_E_UNSUPPORTED, "expert_gating_func" },
    { "gpt-oss", INT("expert_gating_func", 9), SMOLQ_E_FORMAT, "expert_gating_func" },
    { "gpt-oss", INT("expert_used_count", 7), SMOLQ_E_FORMAT, "expert_used_count" },
    { "gpt-oss", INT("expert_feed_forward_length", 97), SMOLQ_E_SHAPE, "_exps.weight" },
    { "llama", { .key = "attention.head_count", .kind = 'U', .list = { 4, 4, 4 }, .n = -3 }, SMOLQ_E_FORMAT, "attention.head_count" },
    { "llama", { .key = "attention.head_count_kv", .kind = 'U', .list = { 2, 2, 2, 2, 2 }, .n = -5 }, SMOLQ_E_FORMAT, "attention.head_count_kv" },
    { "llama", { .key = "feed_forward_length", .kind = 'F', .list = { 96 }, .n = 1 }, SMOLQ_E_FORMAT, "feed_forward_length" },
    { "llama", PER_LAYER("attention.head_count", 4, 0), SMOLQ_E_FORMAT, "attention.head_count" },
    { "llama", PER_LAYER("attention.head_count_kv", 2, 3), SMOLQ_E_FORMAT, "attention.head_count_kv" },
    { "llama", PER_LAYER("attention.head_count_kv", 2, 8), SMOLQ_E_FORMAT, "attention.head_count_kv" },
    { "llama", PER_LAYER("feed_forward_length", 96, 0), SMOLQ_E_FORMAT, "feed_forward_length" },
    { "gemma3", KEY("rope.freq_base", 1), SMOLQ_E_FORMAT, "rope.freq_base" },
};

/* Only the key is wrong: the tensors are those of the family's defaults, and with its usual value the file opens. */
static void malformed_keys(void)
{
    size_t i;
    for (i = 0; i < sizeof malformeds / sizeof *malformeds; i++) {
        const malformed *row = &malformeds[i];
        int bad;
        for (bad = 0; bad < 2; bad++) {
            static const build_extra none;
            model_spec plain = { .family = row->family, .keep_shapes = 1 }, spec = changed(&plain, bad ? &row->key : &none);
            smolq_error err;
            smolq_info info;
            smolq_open_options options;
            smolq_source source;
            smolq_model *model = NULL;
            smolq_result result;
            size_t bytes;
            unsigned char *file = model_build(&spec, &bytes);
            memset(&options, 0, sizeof options);
            source = model_source(file, bytes);
            options.sources = &source;
            options.n_sources = 1;
            err.text[0] = 0;
            info.size = sizeof info;
            result = smolq_open(NULL, &options, &model, &err);
            if (bad) {
                CHECK(result == row->result && strstr(err.text, row->says), "%s, row %d (%s): %s, '%s'; expected %s and the name %s", row->family, (int)i, row->key.key,
                      smolq_result_name(result), err.text, smolq_result_name(row->result), row->says);
                CHECK(smolq_probe(NULL, &options, &info, &err) == SMOLQ_OK && !info.runnable && strstr(info.reason, row->says), "%s, row %d (%s): probe says '%s'", row->family, (int)i,
                      row->key.key, info.reason);
            } else {
                CHECK(result == SMOLQ_OK, "%s as it is: %s", row->family, err.text);
            }
            smolq_close(model);
            free(file);
        }
    }
}

/* ---- docs/families.md ---- */

/*    family      models                                               golden files that prove it          what its files bring, which needs no column */
static const struct { const char *family, *models, *golden, *files; } documented[] = {
    { "llama",    "Llama 1 to 3, Mistral, Mixtral, TinyLlama, SmolLM2", "logits/llama-spm logits/llama3",   "rope_freqs (Llama 3), experts (Mixtral)" },
    { "smollm3",  "SmolLM3",                                            "logits/smollm3",                   "" },
    { "mistral3", "Ministral 3",                                        "logits2/mistral3",                 "attention temperature, YaRN" },
    { "granite",  "Granite 3",                                          "logits2/granite",                  "scales of embeddings, branches, attention" },
    { "qwen2",    "Qwen2, Qwen2.5, R1 distills",                        "logits/qwen2 logits/qwen2-odd",    "" },
    { "qwen2moe", "Qwen1.5-MoE, Qwen2-57B-A14B",                        "logits2/qwen2moe",                 "" },
    { "qwen3",    "Qwen3",                                              "logits/qwen3",                     "heads wider than n_embd / n_head" },
    { "qwen3moe", "Qwen3-30B-A3B",                                      "logits/qwen3moe",                  "heads wider than n_embd / n_head" },
    { "gemma2",   "Gemma 2",                                            "logits2/gemma2",                   "" },
    { "gemma3",   "Gemma 3 (text)",                                     "logits2/gemma3",                   "linear scaling (4B and larger)" },
    { "phi3",     "Phi-3, Phi-3.5, Phi-4",                              "logits2/phi3",                     "fused tensors, long and short RoPE factors, partial rotation (Phi-4-mini)" },
    { "olmo2",    "OLMo 2, OLMo 3",                                     "logits2/olmo2",                    "window and YaRN (OLMo 3)" },
    { "gpt-oss",  "gpt-oss",                                            "logits2/gpt-oss",                  "YaRN, biases everywhere, MXFP4" },
};
enum { N_FAMILIES = sizeof smolq__families / sizeof *smolq__families, N_DOCUMENTED = sizeof documented / sizeof *documented };

/* What each column says of a row, and how it is called; columns that are as in llama's row are left out. */
typedef struct described { char columns[256], words[512]; } described;

static void describe(described *d, const char *column, const char *words)
{
    size_t n = strlen(d->columns), m = strlen(d->words);
    snprintf(d->columns + n, sizeof d->columns - n, "%s%s", n ? ", " : "", column);
    snprintf(d->words + m, sizeof d->words - m, "%s%s", m ? "; " : "", words);
}
static void describe_number(described *d, const char *column, int number, const char *words)
{
    char both[64], text[128];
    snprintf(both, sizeof both, "%s %d", column, number);
    snprintf(text, sizeof text, words, number);
    if (number) describe(d, both, text);
}

static void describe_family(described *d, const smolq__family *f)
{
    memset(d, 0, sizeof *d);
    if (f->rope == SMOLQ_ROPE_HALVES) describe(d, "rope HALVES", "rotates halves");
    describe_number(d, "nope", f->nope, "no rotation in every %dth layer");
    if (f->norms == SMOLQ__NORMS_POST) describe(d, "norms POST", "norms after each branch only");
    if (f->norms == SMOLQ__NORMS_BOTH) describe(d, "norms BOTH", "norms before and after each branch");
    if (f->norms == SMOLQ__NORMS_LATE) describe(d, "norms LATE", "the feed-forward's norm is named post_attention_norm");
    if (f->qk == SMOLQ__QK_HEAD) describe(d, "qk HEAD", "norm of each head of Q and K");
    if (f->qk == SMOLQ__QK_WHOLE) describe(d, "qk WHOLE", "norm of Q and K over all heads");
    describe_number(d, "window", f->window, "windows by a period of %d");
    if (f->width > 0) describe_number(d, "width", f->width, "%d wide by default");
    if (f->width < 0) describe(d, "width -1", "whose width the file must say");
    if (f->local == SMOLQ__LOCAL_PLAIN) describe(d, "local PLAIN", "rotation never stretched in layers with a window");
    describe_number(d, "base", (int)f->base, "its base there is %d");
    if (f->gate == SMOLQ_GATE_GELU) describe(d, "gate GELU", "GELU");
    if (f->gate == SMOLQ_GATE_OAI) describe(d, "gate OAI", "clamped gate");
    if (f->router == SMOLQ_ROUTER_CHOSEN) describe(d, "router CHOSEN", "softmax of the chosen experts");
    describe_number(d, "odd", f->odd, "another attention scale with %d layers");
    if (f->bias) describe(d, "bias", "biases of Q, K and V");
    if (f->moe) describe(d, "moe", "always experts");
    if (!f->norm) describe(d, "norm 0", f->router == SMOLQ_ROUTER_CHOSEN ? "its weights as they are" : "experts' weights not scaled to sum to 1");
    if (f->share) describe(d, "share", "a shared expert");
    if (f->sinks) describe(d, "sinks", "attention sinks");
    if (f->root) describe(d, "root", "embeddings times sqrt(n_embd)");
    if (f->caps) describe(d, "caps", "soft caps");
    if (f->lscale) describe(d, "lscale", "logits divided by logit_scale");
    if (f->rope_switch) describe(d, "switch", "a key can switch the rotation off");
}

static size_t families_table(char *text, size_t capacity)
{
    size_t f, k, n = 0;
    n += (size_t)snprintf(text + n, capacity - n, "| family | models | special in its row | columns | its files bring | golden files |\n|---|---|---|---|---|---|\n");
    for (f = 0; f < N_FAMILIES; f++) {
        described d;
        const char *models = "?", *golden = "?", *files = "?";
        describe_family(&d, &smolq__families[f]);
        for (k = 0; k < N_DOCUMENTED; k++)
            if (strcmp(documented[k].family, smolq__families[f].name) == 0) {
                models = documented[k].models;
                golden = documented[k].golden;
                files = documented[k].files;
            }
        n += (size_t)snprintf(text + n, capacity - n, "| %s | %s | %s | %s | %s | %s |\n", smolq__families[f].name, models, d.words, d.columns, files, golden);
    }
    return n;
}

static void the_table_is_current(void)
{
    static char table[16384];
    size_t bytes = 0, k, n = families_table(table, sizeof table);
    char *doc = (char *)naive_slurp("docs/families.md", &bytes), *readme = (char *)naive_slurp("README.md", &bytes), *p;
    REQUIRE(doc && readme, "docs/families.md or README.md is missing");
    CHECK(N_DOCUMENTED == N_FAMILIES, "%d families are documented, the table of src/arch.c has %d", (int)N_DOCUMENTED, (int)N_FAMILIES);
    p = strstr(doc, "| family |");
    CHECK(p && strncmp(p, table, n) == 0 && p[n] != '|', "docs/families.md does not have the table that build/tests/test_families --table prints");
    p = strstr(readme, "**Families**");
    for (k = 0; k < N_FAMILIES; k++) CHECK(p && strstr(p, smolq__families[k].name), "README.md does not name %s", smolq__families[k].name);
    CHECK(strstr(readme, "docs/families.md"), "README.md does not link docs/families.md");
    for (k = 0; k < N_DOCUMENTED && shared_path("golden/logits/tokens.txt"); k++) { /* each golden file is there */
        char names[128], *name;
        snprintf(names, sizeof names, "%s", documented[k].golden);
        for (name = strtok(names, " "); name; name = strtok(NULL, " ")) {
            char path[128];
            snprintf(path, sizeof path, "golden/%s.f16.gguf", name);
            CHECK(shared_path(path), "%s is not among the golden data", path);
        }
    }
    free(doc);
    free(readme);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "the naive pass agrees with the golden logits of the second wave", naive_agrees_with_golden },
        { "golden float files of the second wave are within 1e-5 of the naive pass", naive_agrees_on_golden_files },
        { "golden float files of the second wave, f32 cache: within 2e-5", float_files_with_f32_cache },
        { "golden files of the second wave, default cache: no farther than llama.cpp", default_cache },
        { "the second wave on float weights is within 1e-5 of the naive pass", naive_agrees_on_every_spec },
        { "each idea of a family is missed when it is switched off", each_idea_is_missed },
        { "each key of a family is read", each_key_is_read },
        { "sinks that vanish are none", sinks_that_vanish },
        { "long and short RoPE factors follow the context's size", long_and_short_factors },
        { "fused tensors give the same bits", fused_is_the_same },
        { "a window as long as the text gives the same bits as a wider one", wide_windows_are_none },
        { "windows take the memory of their cells", windows_take_less_memory },
        { "windows give one hash in any batches", windows_in_any_batches },
        { "windows give one hash after going back, in forks and after cancelled evaluations", windows_and_going_back },
        { "windows forget failed evaluations", windows_and_failures },
        { "windows give one hash among other contexts and in time slices", windows_among_others },
        { "windows give one hash in a random life", windows_at_random },
        { "malformed keys of the second wave are refused by name", malformed_keys },
        { "docs/families.md is made from the rows", the_table_is_current },
    };
    if (argc > 1 && strcmp(argv[1], "--table") == 0) {
        static char table[16384];
        families_table(table, sizeof table);
        fputs(table, stdout);
        return 0;
    }
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
