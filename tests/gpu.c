/* What smolq_cuda.cu promises on a real GPU beside its bits: the same hash run after run, plans that hold, errors where memory ends, models and threads side by side.
 * tests/gpu.sh builds it with nvcc's object of smolq_cuda.cu, and without a GPU (--dry) with the shim's:
 *
 *     cc -O2 -I. -c tests/gpu.c -o gpu.o && nvcc gpu.o smolq_cuda.cu -I. -O2 -o gpu -lpthread && ./gpu
 *
 * SMOLQ_GPU_RUNS says how often the first test runs (100). */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "test.h"
#include "model_build.h"
#include "forward.h"
#include <pthread.h>
#ifdef TEST_CUDA_SHIM
#  include "cuda_shim.h"
#endif

#ifdef TEST_CUDA_SHIM
enum { N_PROMPT = 10, N_TEXT = 4, N_ROUNDS = 1, GRAIN = 0 }; /* it is slow */
#else
enum { N_PROMPT = 40, N_TEXT = 12, N_ROUNDS = 3, GRAIN = 2 << 20 }; /* the pieces in which memory is handed out */
#endif
enum { N_CTX = 64, MIB = 1 << 20 };
static const char bundled[] = "examples/models/smolq-tales.Q4_K_M.gguf";

static smolq_device *device;

/* The bundled model, or with a source that one, on a device, NULL the reference backend's. */
static smolq_model *open_model(smolq_device *on, const smolq_source *source, smolq_error *err)
{
    smolq_open_options options;
    smolq_model *model = NULL;
    memset(&options, 0, sizeof options);
    options.device = on;
    options.host_layers = -1;
    options.sources = source;
    options.n_sources = source ? 1 : 0;
    smolq_open(source ? NULL : bundled, &options, &model, err);
    return model;
}

static smolq_context *open_context(smolq_model *model, int32_t n_ctx, int32_t n_batch, smolq_error *err)
{
    smolq_context_options options;
    smolq_context *context = NULL;
    memset(&options, 0, sizeof options);
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    smolq_context_open(model, &options, &context, err);
    return context;
}

/* Of a conversation from its beginning; 0 with the reason in err. */
static uint64_t hash_in(smolq_context *context, int32_t n_vocab, smolq_error *err)
{
    return smolq_context_truncate(context, 0, err) ? 0 : hash_forward(context, n_vocab, N_PROMPT, N_TEXT, NULL, err);
}

static uint64_t hash_of(smolq_device *on, const smolq_source *source, smolq_error *err)
{
    smolq_model *model = open_model(on, source, err);
    smolq_context *context = model ? open_context(model, N_CTX, 0, err) : NULL;
    uint64_t hash = context ? hash_in(context, smolq_model_info(model)->n_vocab, err) : 0;
    smolq_context_close(context);
    smolq_close(model);
    return hash;
}

/* A shape of batch that comes again becomes a graph, and a graph is sent to the device when it runs first: afterwards CUDA has all that it takes. */
static uint64_t warm_up(smolq_context *context, int32_t n_vocab, smolq_error *err)
{
    uint64_t hash = hash_in(context, n_vocab, err);
    int i;
    for (i = 0; i < 2 && hash; i++) hash = hash_in(context, n_vocab, err);
    return hash;
}

static int64_t available(void) { return (int64_t)device->backend->memory->available(device->state); }

/* ---- the tests ---- */

static void runs(void)
{
    static const int32_t batches[] = { 0, 1, 7, 33 };
    const char *asked = getenv("SMOLQ_GPU_RUNS");
    smolq_error err = { 0, "" };
    uint64_t expected = hash_of(NULL, NULL, &err), hash;
    smolq_model *model = open_model(device, NULL, &err);
    int i, n = asked ? atoi(asked) : 100;
    REQUIRE(expected && model, "%s", err.text);
    CHECK(smolq_model_info(model)->exact, "the device does not have the reference backend's bits");
    for (i = 0; i < n; i++) {
        smolq_context *context = open_context(model, N_CTX, batches[i % 4], &err);
        hash = context ? hash_in(context, smolq_model_info(model)->n_vocab, &err) : 0;
        CHECK(hash == expected, "run %d, batch %d: hash %016llx, expected %016llx %s", i, (int)batches[i % 4], (unsigned long long)hash, (unsigned long long)expected, hash ? "" : err.text);
        smolq_context_close(context);
    }
    smolq_close(model);
}

/* What is free says it only to such a piece. */
static void plans(void)
{
    smolq_error err = { 0, "" };
    smolq_context_options options;
    smolq_memory plan;
    smolq_model *model;
    smolq_context *context;
    int64_t before, loaded, opened;
    int32_t n_vocab;
    memset(&options, 0, sizeof options);
    memset(&plan, 0, sizeof plan);
    options.n_ctx = 512;
    REQUIRE(hash_of(device, NULL, &err), "%s", err.text); /* CUDA has its kernels */
    before = available();
    model = open_model(device, NULL, &err);
    loaded = available();
    REQUIRE(model, "%s", err.text);
    n_vocab = smolq_model_info(model)->n_vocab;
    CHECK(before - loaded <= (int64_t)smolq_model_info(model)->device_bytes + GRAIN, "the model takes %lld bytes, %llu told", (long long)(before - loaded),
          (unsigned long long)smolq_model_info(model)->device_bytes);
    CHECK(smolq_plan(model, &options, &plan, &err) == SMOLQ_OK, "%s", err.text);
    context = open_context(model, 512, 0, &err);
    opened = available();
    REQUIRE(context, "%s", err.text);
    CHECK(loaded - opened <= (int64_t)plan.device_bytes + GRAIN, "the context takes %lld bytes, %llu planned", (long long)(loaded - opened), (unsigned long long)plan.device_bytes);
    CHECK(warm_up(context, n_vocab, &err), "%s", err.text);
    opened = available();
    CHECK(hash_in(context, n_vocab, &err), "%s", err.text);
    CHECK(available() == opened, "evaluation takes %lld bytes", (long long)(opened - available()));
    smolq_context_close(context);
    smolq_close(model);
}

/* Others hold all memory but some: what does not fit is refused, what is there goes on, and when they let go all is as before. */
static void short_of_memory(void)
{
    const smolq_backend_memory *memory = device->backend->memory;
    smolq_error err = { 0, "" };
    smolq_model *model = open_model(device, NULL, &err), *other;
    smolq_context *context = model ? open_context(model, N_CTX, 0, &err) : NULL, *second;
    uint8_t *held[64], *p = NULL;
    uint64_t expected, size;
    int32_t n_vocab;
    int n = 0;
    REQUIRE(context, "%s", err.text);
    n_vocab = smolq_model_info(model)->n_vocab;
    expected = warm_up(context, n_vocab, &err);
    REQUIRE(expected, "%s", err.text);
    for (size = (uint64_t)available(); size >= MIB; size /= 2)
        while (n < 64 && memory->alloc(device->state, size, &held[n], &err) == SMOLQ_OK) n++;
    CHECK(memory->alloc(device->state, (uint64_t)1 << 44, &p, &err) == SMOLQ_E_MEMORY, "16 TiB: %d, %s", (int)err.code, err.text);
    second = open_context(model, 65536, 0, &err);
    CHECK(!second && err.code == SMOLQ_E_MEMORY, "a context without room: %d, %s", (int)err.code, err.text);
    other = open_model(device, NULL, &err);
    CHECK(!other && err.code == SMOLQ_E_MEMORY, "a model without room: %d, %s", (int)err.code, err.text);
    CHECK(hash_in(context, n_vocab, &err) == expected, "the context that was there has other bits %s", err.text);
    while (n > 0) memory->free(device->state, held[--n]);
    smolq_context_close(second);
    smolq_close(other);
    second = open_context(model, N_CTX, 0, &err);
    CHECK(second && hash_in(second, n_vocab, &err) == expected, "afterwards: %s", err.text);
    smolq_context_close(second);
    smolq_context_close(context);
    smolq_close(model);
}

/* Two devices on one GPU, a model each, two contexts each, in turn. */
static void models_in_turn(void)
{
    static const model_spec spec = { .family = "qwen3", .type = 12, .n_embd = 256, .n_ff = 256, .n_layer = 2 };
    smolq_error err = { 0, "" };
    smolq_device *second = NULL;
    smolq_model *model[2];
    smolq_context *context[4];
    smolq_source source;
    uint64_t expected[2];
    unsigned char *file;
    size_t bytes;
    int i, round;
    file = model_build(&spec, &bytes);
    source = model_source(file, bytes);
    expected[0] = hash_of(NULL, NULL, &err);
    expected[1] = hash_of(NULL, &source, &err);
    REQUIRE(smolq_device_open(smolq_backend_cuda(), NULL, &second, &err) == SMOLQ_OK, "%s", err.text);
    model[0] = open_model(device, NULL, &err);
    model[1] = open_model(second, &source, &err);
    REQUIRE(model[0] && model[1], "%s", err.text);
    for (i = 0; i < 4; i++) REQUIRE((context[i] = open_context(model[i % 2], N_CTX, 0, &err)) != NULL, "%s", err.text);
    for (round = 0; round < N_ROUNDS; round++)
        for (i = 0; i < 4; i++)
            CHECK(hash_in(context[i], smolq_model_info(model[i % 2])->n_vocab, &err) == expected[i % 2], "round %d, context %d has other bits %s", round, i, err.text);
    for (i = 0; i < 4; i++) smolq_context_close(context[i]);
    for (i = 0; i < 2; i++) smolq_close(model[i]);
    smolq_device_close(second);
    free(file);
}

typedef struct talker {
    pthread_t      thread;
    smolq_context *context;
    int32_t        n_vocab;
    uint64_t       hash[N_ROUNDS];
    smolq_error    err;
} talker;

static void *talk(void *arg)
{
    talker *t = (talker *)arg;
    int i;
    for (i = 0; i < N_ROUNDS; i++) t->hash[i] = hash_in(t->context, t->n_vocab, &t->err);
    return NULL;
}

static void threads(void)
{
    enum { N = 4 };
    smolq_error err = { 0, "" };
    uint64_t expected = hash_of(NULL, NULL, &err);
    smolq_model *model = open_model(device, NULL, &err);
    talker talkers[N];
    int i, k;
    REQUIRE(expected && model, "%s", err.text);
    memset(talkers, 0, sizeof talkers);
    for (i = 0; i < N; i++) {
        talkers[i].n_vocab = smolq_model_info(model)->n_vocab;
        REQUIRE((talkers[i].context = open_context(model, N_CTX, 0, &err)) != NULL, "%s", err.text);
    }
    for (i = 0; i < N; i++) REQUIRE(pthread_create(&talkers[i].thread, NULL, talk, &talkers[i]) == 0, "no thread");
    for (i = 0; i < N; i++) pthread_join(talkers[i].thread, NULL);
    for (i = 0; i < N; i++) {
        for (k = 0; k < N_ROUNDS; k++) CHECK(talkers[i].hash[k] == expected, "thread %d, round %d has other bits %s", i, k, talkers[i].err.text);
        smolq_context_close(talkers[i].context);
    }
    smolq_close(model);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "one hash, run after run",             runs },
        { "plans hold, evaluation takes no memory", plans },
        { "all memory is taken",                 short_of_memory },
        { "two models on two devices in turn",   models_in_turn },
        { "four threads on one device",          threads },
    };
    smolq_error err = { 0, "" };
    int failed;
#ifdef TEST_CUDA_SHIM
    cuda_shim_memory(64 * MIB);
#endif
    if (smolq_device_open(smolq_backend_cuda(), NULL, &device, &err)) {
        printf("FAIL the device opens: %s\n", err.text);
        return 1;
    }
    printf("%s\n", smolq_device_report(device));
    failed = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    smolq_device_close(device);
    return failed;
}
