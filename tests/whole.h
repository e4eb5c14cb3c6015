/* Whole forwards: golden files, where they are, and models written here, every family and every type, to one hash of all logits each.
 *
 * Included behind tests/bed.h; who includes it defines whole, which compares the hashes of one model on its devices with that of the reference backend. */
#ifndef SMOLQ_TEST_WHOLE_H
#define SMOLQ_TEST_WHOLE_H
#include "bed.h"
#include "forward.h"
#include <dirent.h>

enum { N_PROMPT = 70, N_MORE = 3 }; /* over a block of 64 keys, then three tokens alone */

/* A model on a device, NULL the reference backend's; path NULL: the file in memory. */
static smolq_model *open_on(smolq_device *device, const char *path, const smolq_source *source, smolq_error *err)
{
    smolq_open_options options;
    smolq_model *model = NULL;
    memset(&options, 0, sizeof options);
    options.device = device;
    options.sources = source;
    options.n_sources = source ? 1 : 0;
    smolq_open(path, &options, &model, err);
    return model;
}

static smolq_context *open_context(smolq_model *model, int32_t kv_type, int32_t n_batch, smolq_error *err)
{
    smolq_context_options options;
    smolq_context *context = NULL;
    memset(&options, 0, sizeof options);
    options.n_ctx = N_PROMPT + N_MORE + 5;
    options.n_batch = n_batch;
    options.kv_type = kv_type;
    smolq_context_open(model, &options, &context, err);
    return context;
}

static uint64_t hash_in(smolq_context *context, int32_t n_vocab, int n_prompt, const smolq_eval_options *options, smolq_error *err)
{
    return hash_forward(context, n_vocab, n_prompt, N_MORE, options, err);
}

static uint64_t hash_of(smolq_model *model, int32_t kv_type, int32_t n_batch, int n_prompt, smolq_error *err)
{
    smolq_context *context = open_context(model, kv_type, n_batch, err);
    uint64_t hash = context ? hash_in(context, smolq_model_info(model)->n_vocab, n_prompt, NULL, err) : 0;
    smolq_context_close(context);
    return hash;
}

/* One model, at path or in memory, on all devices, in all combinations or in some that turn chooses. */
static void whole(const char *name, const char *path, const smolq_source *source, uint64_t turn, int all);

static void golden_folder(const char *tokens) /* with the models beside this file; skipped where it is not */
{
    const char *root = shared_path(tokens);
    char folder[1024], path[2048];
    uint64_t turn = rotation();
    struct dirent *entry;
    DIR *files;
    if (!root) SKIP("no shared data");
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(root, '/') - root), root);
    files = opendir(folder);
    REQUIRE(files != NULL, "%s can't be listed", folder);
    while ((entry = readdir(files)) != NULL) {
        size_t n = strlen(entry->d_name);
        if (n < 5 || strcmp(entry->d_name + n - 5, ".gguf") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        whole(entry->d_name, path, NULL, fnv1a(turn, entry->d_name, n), is_long());
    }
    closedir(files);
}
static void golden_models(void)
{
    golden_folder("golden/logits/tokens.txt");
    golden_folder("golden/logits2/tokens.txt");
}

static void own_models(void)
{
    static const model_spec specs[] = {
        { .family = "llama", .n_embd = 256, .n_ff = 256 },       { .family = "llama", .n_embd = 256, .n_ff = 512, .n_expert = 5, .n_head_kv = 1 },
        { .family = "smollm3", .n_embd = 256, .n_ff = 256, .untied = 1 }, { .family = "qwen2", .n_embd = 256, .n_ff = 768, .n_head_kv = 4 },
        { .family = "qwen2moe", .n_embd = 256, .n_ff = 256, .extra = { { "expert_shared_feed_forward_length", 'u', 256, NULL, { 0 }, 0 } } },
        { .family = "qwen3", .n_embd = 256, .n_ff = 256, .head_dim = 128 }, { .family = "qwen3moe", .n_embd = 256, .n_ff = 256 },
        { .family = "gemma2", .n_embd = 256, .n_ff = 256 },      { .family = "gemma3", .n_embd = 256, .n_ff = 256 },
        { .family = "phi3", .n_embd = 256, .n_ff = 256 },        { .family = "olmo2", .n_embd = 256, .n_ff = 256 },
        { .family = "granite", .n_embd = 256, .n_ff = 256 },     { .family = "gpt-oss", .n_embd = 256, .n_ff = 256, .n_head = 8, .n_head_kv = 1, .head_dim = 32 },
        { .family = "mistral3", .n_embd = 256, .n_ff = 256 },
    };
    int t, s;
    EACH_OF(s, specs) for (t = 0; t < BUILD_N_TYPES; t++) { /* every family with every type; without SMOLQ_LONG with two of them, each type with one family at least */
        model_spec spec = specs[s];
        unsigned char *file;
        smolq_source source;
        char name[64];
        size_t bytes;
        if (!is_long() && (t + (int)(rotation() % 14)) % 14 != s) continue;
        spec.type = build_types[t].id;
        spec.n_layer = 2;
        spec.seed = (uint64_t)t;
        file = model_build(&spec, &bytes);
        source = model_source(file, bytes);
        snprintf(name, sizeof name, "%s in %s", spec.family, build_types[t].name);
        whole(name, NULL, &source, rotation() + (uint64_t)(s + t), 0);
        free(file);
    }
}

/* ---- a small model, and what it says on the reference backend ---- */

typedef struct fixture {
    unsigned char *file;
    smolq_source   source;
    uint64_t       expected;
    smolq_error    err;
} fixture;

enum { FEW = 20 }; /* tokens of a prompt here */

static int set_up(fixture *f)
{
    static const model_spec spec = { .family = "qwen3", .type = 12, .n_embd = 256, .n_ff = 256, .n_layer = 2 };
    smolq_model *model;
    size_t bytes;
    memset(f, 0, sizeof *f);
    f->file = model_build(&spec, &bytes);
    f->source = model_source(f->file, bytes);
    model = open_on(NULL, NULL, &f->source, &f->err);
    f->expected = model ? hash_of(model, 0, 0, FEW, &f->err) : 0;
    smolq_close(model);
    return f->expected != 0;
}
#endif
