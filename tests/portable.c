/* portable.c: the program that test_compile.sh takes to every compiler and machine.
 *
 *     portable MODEL...
 *
 * For each model it prints a hash (of all logits of a short prompt and four greedy tokens, and of blocks packed from some of them), whether the
 * self-test found the canonical arithmetic, and the path.  These lines are the same everywhere.  A vocabulary gives the prompt, a model without one gets small ids.
 *
 * With -DLINKED the implementation is another object's, and -DMAIN=name gives main another name, for two of them in one program.  With -DCOMPANION
 * (or -DCOMPANION_LINKED) the backend of tests/companion.c computes too: it must give the same bits, and be refused under the number of another release.
 * -DWITH_CPU asks the same bits of smolq_backend_cpu(). */
#if !defined(LINKED)
#define SMOLQ_IMPLEMENTATION
#elif defined(COMPANION_LINKED)
#define SMOLQ_BACKEND
#endif
#include "smolq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(COMPANION)
#include "companion.c"
#elif defined(COMPANION_LINKED)
#define COMPANION
#ifdef __cplusplus
extern "C"
#endif
const smolq_backend *smolq_backend_companion(void);
#endif
#ifndef MAIN
#define MAIN main
#endif

static uint64_t hash_of_floats(uint64_t hash, const float *x, size_t n)
{
    size_t i;
    int b;
    for (i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        for (b = 0; b < 4; b++, u >>= 8) hash = (hash ^ (u & 0xff)) * 0x100000001b3u;
    }
    return hash;
}

/* The first 256 values in all types that smolq packs, with importance and without. */
static uint64_t hash_of_blocks(uint64_t hash, const float *x)
{
    unsigned char blocks[1024];
    float importance[256];
    int32_t type;
    size_t i, with;
    for (i = 0; i < 256; i++) importance[i] = 1 + (float)(i * 37 % 101);
    for (type = 0; type < SMOLQ_TYPE_COUNT; type++)
        for (with = 0; with < 2; with++) {
            memset(blocks, 0, sizeof blocks);
            if (smolq_pack(type, x, with ? importance : NULL, blocks, 256, NULL)) continue;
            for (i = 0; i < sizeof blocks; i++) hash = (hash ^ blocks[i]) * 0x100000001b3u;
        }
    return hash;
}

/* The hash, or 0 with the reason in err. */
static uint64_t run_model(const char *path, const smolq_backend *backend, int *exact, smolq_error *err)
{
    static const char prompt[] = "Once upon a time, there was";
    int32_t ids[32] = { 1, 5, 2, 8, 3, 13, 4, 21 }, round, n_vocab;
    uint64_t hash = 0xcbf29ce484222325u;
    size_t n = 8;
    smolq_open_options options;
    smolq_context_options context_options;
    smolq_model *model = NULL;
    smolq_context *context = NULL;
    float *logits = NULL;
    int good = 0;
    memset(&options, 0, sizeof options);
    memset(&context_options, 0, sizeof context_options);
    options.backend = backend;
    context_options.n_ctx = 64;
    if (smolq_open(path, &options, &model, err)) return 0;
    n_vocab = smolq_model_info(model)->n_vocab;
    *exact = smolq_model_info(model)->exact;
    logits = (float *)malloc((size_t)n_vocab * 32 * sizeof *logits);
    if (logits && !smolq_context_open(model, &context_options, &context, err) &&
        (!smolq_model_vocab(model) || !smolq_tokenize(smolq_model_vocab(model), prompt, sizeof prompt - 1, SMOLQ_ADD_BOS, ids, 32, &n, err)))
        for (round = 0; round < 5; round++) {
            smolq_eval_item item;
            memset(&item, 0, sizeof item);
            item.context = context;
            item.tokens = ids;
            item.n_tokens = (int32_t)n;
            item.want = SMOLQ_LOGITS_ALL;
            item.logits = logits;
            if (smolq_eval(&item, 1, NULL, err)) break;
            hash = hash_of_floats(hash, logits, n * (size_t)n_vocab);
            if (round == 0) hash = hash_of_blocks(hash, logits);
            if (smolq_sample(NULL, logits + (n - 1) * (size_t)n_vocab, n_vocab, &ids[0], err)) break;
            n = 1;
            good = round == 4;
        }
    free(logits);
    smolq_context_close(context);
    smolq_close(model);
    return good ? hash : 0;
}

int MAIN(int argc, char **argv);
int MAIN(int argc, char **argv)
{
    smolq_error err;
    int i, exact = 0;
    memset(&err, 0, sizeof err);
    for (i = 1; i < argc; i++) {
        uint64_t hash = run_model(argv[i], smolq_backend_ref(), &exact, &err);
        if (!hash) {
            printf("%s: %s\n", argv[i], err.text);
            return 1;
        }
#ifdef COMPANION
        if (run_model(argv[i], smolq_backend_companion(), &exact, &err) != hash) {
            printf("%s: the companion gives other bits: %s\n", argv[i], err.text);
            return 1;
        }
#endif
#ifdef WITH_CPU
        if (run_model(argv[i], smolq_backend_cpu(), &exact, &err) != hash) {
            printf("%s: smolq_cpu.c gives other bits: %s\n", argv[i], err.text);
            return 1;
        }
#endif
        printf("%08lx%08lx exact=%s %s\n", (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffffu), exact ? "yes" : "no", argv[i]);
    }
#ifdef COMPANION
    {
        smolq_backend other = *smolq_backend_companion();
        smolq_device *device = NULL;
        char number[16];
        other.version++;
        snprintf(number, sizeof number, "%06lx", (unsigned long)other.version);
        if (smolq_device_open(&other, NULL, &device, &err) != SMOLQ_E_VERSION || device) return printf("a backend of another release was taken\n"), 1;
        if (!strstr(err.text, number)) return printf("no %s in: %s\n", number, err.text), 1;
        snprintf(number, sizeof number, "%06lx", (unsigned long)SMOLQ_CONTRACT);
        if (!strstr(err.text, number)) return printf("no %s in: %s\n", number, err.text), 1;
        other = *smolq_backend_companion();
        other.sizes ^= 8;
        if (smolq_device_open(&other, NULL, &device, &err) != SMOLQ_E_VERSION) return printf("a backend with other structs was taken\n"), 1;
    }
#endif
    return 0;
}
