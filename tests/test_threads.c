/* One model, many threads: each context computes what it computes alone, and opening, tokenizing and closing meet nobody else's state.
 * tests/test_compile.sh runs this program under ThreadSanitizer too. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "test.h"
#include <pthread.h>

enum { N_THREADS = 8, N_STEPS = 8 };
static const char model_path[] = "examples/models/smolq-tales.Q4_K_M.gguf";
static const char prompt[] = "Once upon a time, there was a little";

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *p = (const unsigned char *)bytes;
    size_t i;
    for (i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

/* A prompt (each seed cuts it elsewhere), then tokens drawn with that seed; the hash is over all ids and the logits they were drawn from. */
static uint64_t converse(smolq_model *model, uint64_t seed, smolq_error *err)
{
    smolq_context_options options;
    smolq_sampler_options sampling;
    smolq_context *context = NULL;
    smolq_sampler *sampler = NULL;
    const smolq_vocab *vocab = smolq_model_vocab(model);
    int32_t ids[64], n_vocab = smolq_vocab_size(vocab), step;
    uint64_t hash = 0xcbf29ce484222325u;
    size_t n = 0;
    memset(&options, 0, sizeof options);
    memset(&sampling, 0, sizeof sampling);
    options.n_ctx = 64;
    options.n_batch = 4;
    sampling.seed = seed;
    if (!smolq_context_open(model, &options, &context, err) && !smolq_sampler_open(n_vocab, &sampling, &sampler, err) &&
        !smolq_tokenize(vocab, prompt, sizeof prompt - 1 - 2 * (size_t)seed, SMOLQ_ADD_BOS, ids, 64, &n, err))
        for (step = 0; step <= N_STEPS; step++) {
            smolq_eval_item item;
            memset(&item, 0, sizeof item);
            item.context = context;
            item.tokens = ids;
            item.n_tokens = (int32_t)n;
            if (smolq_eval(&item, 1, NULL, err)) break;
            hash = hash_bytes(hash, smolq_context_logits(context), (size_t)n_vocab * sizeof(float));
            if (smolq_sample(sampler, smolq_context_logits(context), n_vocab, ids, err)) break;
            smolq_sampler_accept(sampler, ids[0]);
            hash = hash_bytes(hash, ids, sizeof ids[0]);
            n = 1;
        }
    else
        step = 0;
    smolq_sampler_close(sampler);
    smolq_context_close(context);
    return step == N_STEPS + 1 ? hash : 0;
}

typedef struct job {
    pthread_t    thread;
    smolq_model *model;
    uint64_t     seed, hash;
    smolq_error  err;
    int          failed;
} job;

static void *converse_thread(void *arg)
{
    job *j = (job *)arg;
    j->hash = converse(j->model, j->seed, &j->err);
    return NULL;
}

/* Runs body(&jobs[i]) in N_THREADS threads at once; 0 if one can't be started. */
static int run_threads(job *jobs, void *(*body)(void *))
{
    int i, n = 0;
    while (n < N_THREADS && pthread_create(&jobs[n].thread, NULL, body, &jobs[n]) == 0) n++;
    for (i = 0; i < n; i++) pthread_join(jobs[i].thread, NULL);
    return n == N_THREADS;
}

static void eight_contexts(void)
{
    static job jobs[N_THREADS];
    smolq_error err;
    smolq_model *model;
    int i;
    REQUIRE(smolq_open(model_path, NULL, &model, &err) == SMOLQ_OK, "%s", err.text);
    memset(jobs, 0, sizeof jobs);
    for (i = 0; i < N_THREADS; i++) {
        jobs[i].model = model;
        jobs[i].seed = (uint64_t)(i / 2); /* pairs of threads say the same */
    }
    CHECK(run_threads(jobs, converse_thread), "no eight threads");
    for (i = 0; i < N_THREADS; i++) {
        uint64_t alone = i % 2 ? jobs[i - 1].hash : converse(model, jobs[i].seed, &err);
        CHECK(jobs[i].hash != 0, "thread %d: %s", i, jobs[i].err.text);
        CHECK(jobs[i].hash == alone, "thread %d: hash %016llx, alone %016llx", i, (unsigned long long)jobs[i].hash, (unsigned long long)alone);
        CHECK(i < 2 || jobs[i].hash != jobs[i - 2].hash, "seeds %d and %d gave the same text", i / 2, i / 2 - 1);
    }
    smolq_close(model);
}

/* Every thread opens the file in its own way, a broken one among them (that load leaves early), and tokenizes with a shared vocabulary. */
static void *open_thread(void *arg)
{
    static const char not_gguf[] = "<!DOCTYPE html><html>";
    job *j = (job *)arg;
    const smolq_vocab *shared = smolq_model_vocab(j->model);
    int32_t ids[64], again[64];
    size_t n = 0, n_again = 0;
    char text[256];
    int round;
    j->failed = 1;
    for (round = 0; round < 2; round++) {
        smolq_open_options options, broken;
        smolq_source source;
        smolq_vocab *vocab = NULL;
        smolq_info info;
        memset(&options, 0, sizeof options);
        memset(&broken, 0, sizeof broken);
        memset(&source, 0, sizeof source);
        memset(&info, 0, sizeof info);
        options.no_map = (uint32_t)((j->seed + (uint64_t)round) % 2);
        source.data = not_gguf;
        source.size = sizeof not_gguf;
        broken.sources = &source;
        broken.n_sources = 1;
        if (smolq_vocab_open(NULL, &broken, &vocab, &j->err) == SMOLQ_OK) return NULL;
        options.limits.memory = 4096; /* memory ends in the middle of the tables */
        if (smolq_vocab_open(model_path, &options, &vocab, &j->err) != SMOLQ_E_MEMORY) return NULL;
        options.limits.memory = 0;
        if (smolq_probe(model_path, &options, &info, &j->err) || !info.runnable) return NULL;
        if (smolq_vocab_open(model_path, &options, &vocab, &j->err)) return NULL;
        if (smolq_tokenize(shared, prompt, sizeof prompt - 1, 0, ids, 64, &n, &j->err) || smolq_tokenize(vocab, prompt, sizeof prompt - 1, 0, again, 64, &n_again, &j->err) ||
            n != n_again || memcmp(ids, again, n * sizeof *ids) != 0 || smolq_detokenize(vocab, ids, n, 0, text, sizeof text, &n, &j->err) || n != sizeof prompt - 1 ||
            memcmp(text, prompt, n) != 0) {
            smolq_vocab_close(vocab);
            return NULL;
        }
        smolq_vocab_close(vocab);
    }
    j->failed = 0;
    return NULL;
}

static void eight_loads(void)
{
    static job jobs[N_THREADS];
    smolq_error err;
    smolq_model *model;
    int i;
    REQUIRE(smolq_open(model_path, NULL, &model, &err) == SMOLQ_OK, "%s", err.text);
    memset(jobs, 0, sizeof jobs);
    for (i = 0; i < N_THREADS; i++) {
        jobs[i].model = model;
        jobs[i].seed = (uint64_t)i;
    }
    CHECK(run_threads(jobs, open_thread), "no eight threads");
    for (i = 0; i < N_THREADS; i++) CHECK(!jobs[i].failed, "thread %d: %s", i, jobs[i].err.text);
    smolq_close(model);
}

/* Models opened, used and closed while others are. */
static void *whole_thread(void *arg)
{
    job *j = (job *)arg;
    smolq_model *model;
    smolq_open_options options;
    memset(&options, 0, sizeof options);
    options.no_map = (uint32_t)(j->seed % 2);
    if (smolq_open(model_path, &options, &model, &j->err)) return NULL;
    j->hash = converse(model, 7, &j->err);
    smolq_close(model);
    return NULL;
}

static void eight_models(void)
{
    static job jobs[N_THREADS];
    int i;
    memset(jobs, 0, sizeof jobs);
    for (i = 0; i < N_THREADS; i++) jobs[i].seed = (uint64_t)i;
    CHECK(run_threads(jobs, whole_thread), "no eight threads");
    for (i = 0; i < N_THREADS; i++) {
        CHECK(jobs[i].hash != 0, "thread %d: %s", i, jobs[i].err.text);
        CHECK(jobs[i].hash == jobs[0].hash, "thread %d: hash %016llx, thread 0 %016llx", i, (unsigned long long)jobs[i].hash, (unsigned long long)jobs[0].hash);
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "eight contexts of one model in eight threads say what each says alone", eight_contexts },
        { "eight threads open, refuse, probe and tokenize at once", eight_loads },
        { "eight threads with a model each agree", eight_models },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
