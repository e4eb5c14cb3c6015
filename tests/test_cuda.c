/* smolq_cuda.cu has the bits of the reference backend, and keeps the promises of a device: on the shim of tests/cuda_shim.h, so without a GPU.  Or with one, where the tests that need a hand on
 * the machine are skipped:
 *
 *     nvcc -O2 -I. -c smolq_cuda.cu -o cuda.o && cc -O2 -I. -DTEST_CUDA_GPU -c tests/test_cuda.c -o test.o && nvcc test.o cuda.o -o test_cuda && ./test_cuda
 *
 * Each operation alone, as a program of one step through both backends: tests/bed.h.  Blocks and threads run forward, in reverse and in random order in turn, half of the beds with pauses; some
 * run three times, so that a graph is captured and replayed.  Then whole forwards (tests/whole.h), and what a device promises beside the bits: exact plans, errors for all that can fail.
 *
 * SMOLQ_LONG=1 takes the full products; SMOLQ_SEED or the day chooses random numbers. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "bed.h"
#include "whole.h"
#include "drawn.h"
#include <sys/wait.h>
#include <unistd.h>
#ifdef TEST_CUDA_GPU /* the machine is as it is */
#  define NEEDS_SHIM SKIP("it needs the shim")
enum { CUDA_SHIM_FORWARD, CUDA_SHIM_REVERSE, CUDA_SHIM_RANDOM };
static void cuda_shim_reset(void) {}
static void cuda_shim_order(int mode, uint64_t seed) { (void)mode; (void)seed; }
static void cuda_shim_devices(int n) { (void)n; }
static void cuda_shim_sm(int sm, int multiprocessors) { (void)sm; (void)multiprocessors; }
static void cuda_shim_memory(uint64_t bytes) { (void)bytes; }
static void cuda_shim_dependent(int all) { (void)all; }
static void cuda_shim_fail(int n) { (void)n; }
static void cuda_shim_lose(int n) { (void)n; }
static uint64_t cuda_shim_bytes(void) { return 0; }
static uint64_t cuda_shim_peak(void) { return 0; }
static uint64_t cuda_shim_pinned(void) { return 0; }
static uint64_t cuda_shim_calls(void) { return 0; }
static int cuda_shim_objects(void) { return 0; }
#else
#  define NEEDS_SHIM ((void)0)
#  include "cuda_shim.h"
#endif

static smolq_device *devices[2], *device; /* of one multiprocessor and of many: launches differ; the one that is in use */
static void choose_device(uint64_t turn) { device = devices[turn & 1]; }

/* ---- each operation ---- */

static void run_on_devices(bed *b, const char *name, int32_t numeric)
{
    static const char *const orders[] = { "forward", "reverse", "random" };
    const smolq_backend *backend = smolq_backend_cuda();
    const smolq_backend_memory *memory = backend->memory;
    void *state, *loaded = NULL;
    smolq_error err = { 0, "" };
    smolq_kv_layer layer = b->layer;
    const smolq_kv_layer *kv[N_ROWS];
    smolq_run run;
    uint8_t *there[N_REGIONS]; /* on the device; NULL: the host's */
    uint64_t before = cuda_shim_bytes(), planned;
    int order = (int)(n_beds % 3), pauses = (int)(n_beds >> 1 & 1), times = n_beds % 8 == 1 ? 3 : 1, i, round, turns = 0;
    size_t at;
    choose_device(n_beds / 3);
    state = device->state;
    planned = memory->load_bytes(state, &b->program, 0);
    REQUIRE(memory->load(state, &b->program, 0, NULL, NULL, &loaded, &err) == SMOLQ_OK, "%s: %s", name, err.text);
#ifdef TEST_CUDA_GPU
    planned = 0;
#endif
    CHECK(cuda_shim_bytes() - before == planned, "%s: %llu bytes loaded, %llu planned", name, (unsigned long long)(cuda_shim_bytes() - before), (unsigned long long)planned);
    run = b->run;
    run.loaded = loaded;
    run.kv = kv;
    for (i = 0; i < run.n_rows; i++) kv[i] = &layer;
    for (i = 0; i < b->n_regions; i++) {
        uint8_t **pointer = b->layer.k == b->region[i].p ? &layer.k : b->layer.v == b->region[i].p ? &layer.v : NULL;
        int32_t k;
        for (k = 0; k < SMOLQ_BUF_COUNT; k++)
            if (b->run.buffer[k] == b->region[i].p && !smolq_is_host_buffer(k)) pointer = &run.buffer[k];
        there[i] = NULL;
        if (!pointer) continue;
        REQUIRE(memory->alloc(state, b->region[i].bytes, &there[i], &err) == SMOLQ_OK, "%s: %s", name, err.text);
        *pointer = there[i];
    }
    REQUIRE(memory->alloc(state, backend->scratch(state, &b->program, run.n_rows), &run.scratch, &err) == SMOLQ_OK, "%s: %s", name, err.text);
    cuda_shim_order(order == 0 ? CUDA_SHIM_FORWARD : order == 1 ? CUDA_SHIM_REVERSE : CUDA_SHIM_RANDOM, n_beds);
    cuda_shim_dependent(1); /* though a bed has few kernels, and the first is launched as usual */
    run.pause = pauses ? every_other : NULL;
    run.user = &b->turn;
    for (round = 0; round < times; round++) {
        restore(b);
        for (i = 0; i < b->n_regions; i++)
            if (there[i]) CHECK(memory->copy(state, there[i], b->region[i].p, b->region[i].bytes, &err) == SMOLQ_OK, "%s: %s", name, err.text);
        run.op = 0;
        run.unit = 0;
        run.numeric = 0;
        while (run.op < run.end_op && turns++ < 1000) {
            smolq_result result = backend->run(state, &run, &err);
            CHECK(result == SMOLQ_OK, "%s: %s", name, err.text);
            if (result) break;
        }
        CHECK(run.op == run.end_op, "%s: it does not end", name);
        CHECK(!run.numeric == !numeric, "%s: flags %d, expected %d", name, (int)run.numeric, (int)numeric);
        for (i = 0; i < b->n_regions && !numeric; i++) {
            region *r = &b->region[i];
            if (there[i]) CHECK(memory->copy(state, r->p, there[i], r->bytes, &err) == SMOLQ_OK, "%s: %s", name, err.text);
            if (!r->before || memcmp(r->p, r->expected, r->bytes) == 0) continue;
            for (at = 0; r->p[at] == r->expected[at]; at++) {}
            CHECK(0, "%s: %s, run %d: byte %d of region %d (%d bytes) is %02x, expected %02x (SMOLQ_SEED=%llu)", name, orders[order], round, (int)at, i, (int)r->bytes, r->p[at], r->expected[at],
                  (unsigned long long)rotation());
        }
    }
    memory->free(state, run.scratch);
    for (i = 0; i < b->n_regions; i++)
        if (there[i]) memory->free(state, there[i]);
    memory->unload(state, loaded);
    CHECK(cuda_shim_bytes() == before, "%s: %llu bytes of device memory are left behind", name, (unsigned long long)(cuda_shim_bytes() - before));
}

/* ---- whole forwards: tests/whole.h ---- */

static void whole(const char *name, const char *path, const smolq_source *source, uint64_t turn, int all)
{
    static const int32_t batches[] = { 7, 512, 1 };
    smolq_error err = { 0, "" };
    smolq_model *ref, *model;
    int32_t kv = (int32_t)(turn / 27 % 3) + 1;
    uint64_t expected, hash;
    int i;
    if (!is_long() && turn % 3 != 0) return; /* a third of them, another one each day */
    ref = open_on(NULL, path, source, &err);
    model = open_on(devices[turn / 2 & 1], path, source, &err);
    REQUIRE(ref && model, "%s: %s", name, err.text);
    CHECK(smolq_model_info(model)->exact, "%s: exact=no", name);
    if (kv == SMOLQ_KV_Q8_0 && smolq_model_info(ref)->head_dim % 32) kv = SMOLQ_KV_F32;
    expected = hash_of(ref, kv, 0, N_PROMPT, &err);
    CHECK(expected != 0, "%s: %s", name, err.text);
    EACH_OF(i, batches) {
        if (!all && (turn / 3 + (uint64_t)i) % 3 != 0) continue;
        cuda_shim_order((int)(turn / 9 % 3), turn);
        hash = hash_of(model, kv, batches[i], N_PROMPT, &err);
        CHECK(hash == expected, "%s, batch %d, KV type %d: hash %016llx, expected %016llx %s", name, (int)batches[i], (int)kv, (unsigned long long)hash, (unsigned long long)expected,
              hash ? "" : err.text);
    }
    smolq_close(model);
    smolq_close(ref);
}

/* ---- the best logits ---- */

enum { TOP_ROWS = 70 }; /* more than have room at once */

/* Rows of logits, some asked about and some not, against what a sampler on the host keeps of each by a temperature and top-k. */
static void best_of(int32_t n_vocab, int32_t n_rows, uint64_t seed)
{
    static smolq_top top[TOP_ROWS];
    const smolq_backend *backend = smolq_backend_cuda();
    static const float temperatures[] = { 0, 0.7f, 1.7f, 3.3f, 1e-38f, 3e38f };
    uint64_t rng = seed * 977 + (uint64_t)n_vocab;
    float *logits[TOP_ROWS], *given = (float *)malloc((size_t)n_vocab * (size_t)n_rows * sizeof *given);
    smolq_top *asked[TOP_ROWS];
    int32_t zeros[TOP_ROWS] = { 0 }, row, i, numeric = 0;
    smolq_kv_layer none = { NULL, NULL, 1, SMOLQ_TYPE_F32, 4 };
    const smolq_kv_layer *kv[TOP_ROWS];
    smolq_error err = { 0, "" };
    smolq_program program;
    smolq_op op;
    smolq_run run;
    void *loaded = NULL;
    memset(&op, 0, sizeof op);
    memset(&program, 0, sizeof program);
    memset(&run, 0, sizeof run);
    op.kind = SMOLQ_OP_CAP;
    op.layer = -1;
    op.selected = 1;
    op.in = op.out = SMOLQ_BUF_LOGITS;
    op.n = n_vocab;
    op.scale = 1;
    program.ops = &op;
    program.n_ops = 1;
    program.n_layer = 1;
    program.n_vocab = n_vocab;
    run.program = &program;
    run.n_rows = run.n_out = n_rows;
    run.token = run.position = run.out_row = zeros;
    run.kv = kv;
    run.logits = logits;
    run.top = asked;
    run.end_op = 1;
    if (!given) abort();
    for (row = 0; row < n_rows; row++) {
        int kind = (int)(build_random(&rng) % 6), thin = (int)(build_random(&rng) % 4);
        logits[row] = (float *)malloc((size_t)n_vocab * sizeof(float));
        if (!logits[row]) abort();
        kv[row] = &none;
        for (i = 0; i < n_vocab; i++) {
            float x = (float)(12 * build_uniform(&rng));
            if (kind == 1) x = floorf(x);                                                               /* many ties */
            if (kind == 2) x = smolq_from_bits(0x41780000u + (uint32_t)(build_random(&rng) % 300));     /* neighbors, whose quotients are often equal */
            if (kind == 3) x = smolq_from_bits((uint32_t)(build_random(&rng) % 5) | (uint32_t)(i & 1) << 31); /* zeros of both signs, and the least numbers */
            if (thin == 1 && build_random(&rng) % 8) x = build_random(&rng) % 2 ? NAN : -INFINITY;
            if (thin == 2 && build_random(&rng) % 300 == 0) x = INFINITY;
            logits[row][i] = x;
        }
        memcpy(given + (size_t)row * (size_t)n_vocab, logits[row], (size_t)n_vocab * sizeof(float));
        asked[row] = build_random(&rng) % 5 ? &top[row] : NULL;
        top[row].n = 0;
        top[row].k = 1 + (int32_t)(build_random(&rng) % (uint64_t)(n_vocab < SMOLQ_TOP_MOST ? n_vocab : SMOLQ_TOP_MOST));
        if (build_random(&rng) % 4 == 0) top[row].k = n_vocab < SMOLQ_TOP_MOST ? n_vocab : SMOLQ_TOP_MOST;
        top[row].divide = temperatures[build_random(&rng) % 6];
        for (i = 0; i < n_vocab && asked[row]; i++) numeric |= !smolq_is_finite(logits[row][i]);
    }
    REQUIRE(backend->memory->load(device->state, &program, 0, NULL, NULL, &loaded, &err) == SMOLQ_OK, "%s", err.text);
    run.loaded = loaded;
    REQUIRE(backend->memory->alloc(device->state, backend->scratch(device->state, &program, n_rows), &run.scratch, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(backend->run(device->state, &run, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(!run.numeric == !numeric, "%d logits: numeric is %d, expected %d", (int)n_vocab, (int)run.numeric, (int)numeric);
    for (row = 0; row < n_rows; row++) {
        smolq_sampler_step steps[2];
        smolq_sampler_options options;
        smolq_sampler *s = NULL;
        const float *before = given + (size_t)row * (size_t)n_vocab;
        int32_t id, n_candidates = 0, overflows = 0;
        for (i = 0; i < n_vocab; i++) {
            float x = top[row].divide != 0 ? before[i] / top[row].divide : before[i];
            n_candidates += x >= -3.40282347e38f;
            overflows |= x > 3.40282347e38f;
        }
        if (!asked[row] || n_candidates < top[row].k || overflows) { /* the logits themselves */
            CHECK(memcmp(before, logits[row], (size_t)n_vocab * sizeof(float)) == 0 && (!asked[row] || top[row].n == 0), "row %d of %d logits is not as it was; %d answers", (int)row, (int)n_vocab, (int)top[row].n);
        } else {
            memset(steps, 0, sizeof steps);
            steps[0].kind = top[row].divide != 0 ? SMOLQ_SAMPLE_TEMPERATURE : SMOLQ_SAMPLE_TOP_K;
            steps[0].a = top[row].divide;
            steps[1].kind = SMOLQ_SAMPLE_TOP_K;
            steps[1].n = top[row].k;
            memset(&options, 0, sizeof options);
            options.steps = steps;
            options.n_steps = 2;
            REQUIRE(smolq_sampler_open(n_vocab, &options, &s, &err) == SMOLQ_OK && smolq_sample(s, before, n_vocab, &id, &err) == SMOLQ_OK, "%s", err.text);
            CHECK(top[row].n == top[row].k && s->n == top[row].k, "row %d of %d logits: %d answers, expected %d", (int)row, (int)n_vocab, (int)top[row].n, (int)s->n);
            for (i = 0; i < s->n && i < top[row].n; i++)
                CHECK(s->c[i].id == top[row].id[i] && s->c[i].logit == top[row].logit[i], "row %d of %d logits: number %d of %d is %d, expected %d (SMOLQ_SEED=%llu)", (int)row, (int)n_vocab, (int)i,
                      (int)s->n, (int)top[row].id[i], (int)s->c[i].id, (unsigned long long)rotation());
            smolq_sampler_close(s);
        }
        free(logits[row]);
    }
    backend->memory->free(device->state, run.scratch);
    backend->memory->unload(device->state, loaded);
    free(given);
}

static void best_logits(void)
{
    static const int32_t sizes[] = { 1, 2, 61, 256, 257, 1000, 8191, 8192, 8193, 20000 };
    int i, order;
    for (order = 0; order < 3; order++) {
        cuda_shim_order(order, rotation());
        EACH_OF(i, sizes) best_of(sizes[i], i % 3 + 1, rotation() + (uint64_t)order);
    }
    best_of(300, TOP_ROWS, rotation());
    best_of(263000, 2, rotation()); /* three launches */
}

static void drawn_there(void)
{
    fixture f;
    smolq_model *ref, *model;
    smolq_eval_options hooked;
    int asked = 0;
    memset(&hooked, 0, sizeof hooked);
    hooked.cancel = drawn_often;
    hooked.user = &asked;
    REQUIRE(set_up(&f), "%s", f.err.text);
    ref = open_on(NULL, NULL, &f.source, &f.err);
    model = open_on(device, NULL, &f.source, &f.err);
    REQUIRE(ref && model, "%s", f.err.text);
    cuda_shim_order(CUDA_SHIM_RANDOM, rotation());
    drawn_tokens("alone", ref, model, is_long() ? 60 : 6, 1, 0, NULL);
    drawn_in_turn("in turn", ref, model, is_long() ? 100 : 40);
    drawn_tokens("several at once", ref, model, 4, DRAWN_CHAINS, 0, NULL);
    drawn_tokens("in pieces and small batches", ref, model, 2, 5, 4, &hooked);
    smolq_close(model);
    smolq_close(ref);
    free(f.file);
}

/* ---- the device beside the bits ---- */

static smolq_device *open_device(int32_t ordinal, smolq_error *err)
{
    smolq_device_options options;
    smolq_device *opened = NULL;
    memset(&options, 0, sizeof options);
    options.ordinal = ordinal;
    smolq_device_open(smolq_backend_cuda(), &options, &opened, err);
    return opened;
}

static void machines_without(void)
{
    static const struct { int devices, sm; int32_t ordinal; int code; const char *says; } cases[] = {
        { -1, 90, 0, SMOLQ_E_DEVICE, "no GPU" },    { -2, 90, 0, SMOLQ_E_DEVICE, "driver" },          { 0, 90, 0, SMOLQ_E_DEVICE, "no GPU" }, { 2, 90, 2, SMOLQ_E_ARGUMENT, "0..1" },
        { 1, 90, -1, SMOLQ_E_ARGUMENT, "ordinal" }, { 1, 70, 0, SMOLQ_E_UNSUPPORTED, "sm_75 or later" },
    };
    int i;
    NEEDS_SHIM;
    EACH_OF(i, cases) {
        smolq_error err = { 0, "" };
        smolq_device *opened;
        cuda_shim_devices(cases[i].devices);
        cuda_shim_sm(cases[i].sm, 4);
        opened = open_device(cases[i].ordinal, &err);
        CHECK(!opened && err.code == cases[i].code && strstr(err.text, cases[i].says), "case %d: %d, %s", i, (int)err.code, err.text);
        smolq_device_close(opened);
    }
    cuda_shim_reset();
}

/* What is told before is what is taken, and evaluation takes nothing. */
static void plans(void)
{
    fixture f;
    smolq_memory plan;
    smolq_model *model;
    smolq_context *context;
    uint64_t before = cuda_shim_bytes(), loaded;
    NEEDS_SHIM;
    REQUIRE(set_up(&f), "%s", f.err.text);
    model = open_on(device, NULL, &f.source, &f.err);
    REQUIRE(model != NULL, "%s", f.err.text);
    loaded = cuda_shim_bytes();
    CHECK(loaded - before == smolq_model_info(model)->device_bytes, "%llu bytes of weights, %llu told", (unsigned long long)(loaded - before), (unsigned long long)smolq_model_info(model)->device_bytes);
    context = open_context(model, 0, 0, &f.err);
    REQUIRE(context != NULL, "%s", f.err.text);
    {
        smolq_context_options options;
        memset(&options, 0, sizeof options);
        options.n_ctx = N_PROMPT + N_MORE + 5;
        CHECK(smolq_plan(model, &options, &plan, &f.err) == SMOLQ_OK && plan.device_bytes == cuda_shim_bytes() - loaded, "a context of %llu bytes, %llu planned",
              (unsigned long long)(cuda_shim_bytes() - loaded), (unsigned long long)plan.device_bytes);
    }
    cuda_shim_reset();
    loaded = cuda_shim_bytes();
    CHECK(hash_in(context, smolq_model_info(model)->n_vocab, FEW, NULL, &f.err) == f.expected, "other bits %s", f.err.text);
    CHECK(cuda_shim_peak() <= loaded, "evaluation takes %llu bytes", (unsigned long long)(cuda_shim_peak() - loaded));
    smolq_context_close(context);
    smolq_close(model);
    CHECK(cuda_shim_bytes() == before, "%llu bytes are left", (unsigned long long)(cuda_shim_bytes() - before));
    free(f.file);
}

/* Too little memory for the weights, for a context: an error, and what is there goes on. */
static void short_of_memory(void)
{
    fixture f;
    smolq_open_options options;
    smolq_model *model, *other = NULL;
    smolq_context *context, *second;
    NEEDS_SHIM;
    REQUIRE(set_up(&f), "%s", f.err.text);
    model = open_on(device, NULL, &f.source, &f.err);
    context = model ? open_context(model, 0, 0, &f.err) : NULL;
    REQUIRE(context != NULL, "%s", f.err.text);
    cuda_shim_memory(cuda_shim_bytes() + 1000);
    second = open_context(model, 0, 0, &f.err);
    CHECK(!second && f.err.code == SMOLQ_E_MEMORY, "a second context: %d, %s", (int)f.err.code, f.err.text);
    memset(&options, 0, sizeof options);
    options.device = device;
    options.sources = &f.source;
    options.n_sources = 1;
    options.host_layers = -1;
    smolq_open(NULL, &options, &other, &f.err);
    CHECK(!other && f.err.code == SMOLQ_E_MEMORY, "a second model: %d, %s", (int)f.err.code, f.err.text);
    CHECK(hash_in(context, smolq_model_info(model)->n_vocab, FEW, NULL, &f.err) == f.expected, "the first context has other bits %s", f.err.text);
    cuda_shim_reset();
    smolq_context_close(context);
    smolq_close(model);
    free(f.file);
}

/* The likeliest token after a prompt; -1 with the reason in err. */
static int32_t likeliest(smolq_model *model, smolq_error *err)
{
    int32_t ids[FEW], id = -1;
    smolq_context *context = open_context(model, 0, 0, err);
    smolq_eval_item item = { context, ids, FEW, SMOLQ_LOGITS_SAMPLE, NULL, NULL, &id };
    model_ids(ids, FEW, smolq_model_info(model)->n_vocab, 7);
    if (context && smolq_eval(&item, 1, NULL, err)) CHECK(id == -1 && smolq_context_length(context) == 0, "a token or a context has changed");
    smolq_context_close(context);
    return id;
}

/* Open, evaluate, close, and any one call of the runtime fails: an error or the right bits, nothing left, and the next try works. */
static void calls_that_fail(void)
{
    fixture f;
    uint64_t bytes = cuda_shim_bytes(), pinned = cuda_shim_pinned(), calls, n, step;
    int objects = cuda_shim_objects(), errors = 0;
    int32_t expected = -1;
    NEEDS_SHIM;
    REQUIRE(set_up(&f), "%s", f.err.text);
    cuda_shim_reset();
    for (n = 0, calls = 0, step = 1; n <= calls; n += step) { /* n 0: none fails */
        smolq_error err = { 0, "" };
        smolq_device *opened;
        smolq_model *model = NULL;
        uint64_t hash = 0;
        cuda_shim_reset();
        cuda_shim_fail((int)n);
        opened = open_device(0, &err);
        if (opened) model = open_on(opened, NULL, &f.source, &err);
        if (model) hash = hash_of(model, 0, 0, FEW, &err);
        if (hash) {
            int32_t id = likeliest(model, &err);
            if (n == 0) expected = id;
            if (id != expected) {
                CHECK(id == -1, "call %d fails: token %d, expected %d", (int)n, (int)id, (int)expected);
                hash = 0;
            }
        }
        smolq_close(model);
        smolq_device_close(opened);
        if (calls == 0) {
            calls = cuda_shim_calls();
            if (!is_long()) step = calls / 60 + 1, n = (uint64_t)rotation() % step; /* these calls today, others tomorrow */
        }
        CHECK(hash == f.expected || (hash == 0 && (err.code == SMOLQ_E_DEVICE || strstr(err.text, "0 are free"))) /* the question for free memory failed */, "call %d fails: hash %016llx, %d, %s", (int)n, (unsigned long long)hash, (int)err.code, err.text);
        CHECK(cuda_shim_bytes() == bytes && cuda_shim_pinned() == pinned && cuda_shim_objects() == objects, "call %d fails: %d bytes, %d pinned, %d objects are left", (int)n,
              (int)(cuda_shim_bytes() - bytes), (int)(cuda_shim_pinned() - pinned), cuda_shim_objects() - objects);
        errors += hash == 0;
    }
    cuda_shim_reset();
    CHECK(errors > 20, "only %d errors", errors);
    free(f.file);
}

/* The GPU falls off the bus in the middle of it all: errors from then on, and closing is quiet. */
static void lose_a_device(const fixture *f, int n)
{
    static float logits[1024]; /* stays: the shim may still copy there */
    int32_t ids[FEW];
    smolq_eval_item item = { NULL, ids, FEW, SMOLQ_LOGITS_LAST, logits, NULL, NULL };
    smolq_error err = { 0, "" };
    smolq_device *opened = open_device(0, &err);
    smolq_model *model = opened ? open_on(opened, NULL, &f->source, &err) : NULL;
    smolq_context *context = model ? open_context(model, 0, 0, &err) : NULL;
    REQUIRE(context != NULL, "%s", err.text);
    REQUIRE(smolq_model_info(model)->n_vocab <= 1024, "%d logits", (int)smolq_model_info(model)->n_vocab);
    model_ids(ids, FEW, smolq_model_info(model)->n_vocab, 7);
    item.context = context;
    cuda_shim_lose(n);
    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_DEVICE, "call %d: %d, %s", n, (int)err.code, err.text);
    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_DEVICE && strstr(err.text, "failed before"), "after call %d: %d, %s", n, (int)err.code, err.text);
    CHECK(!open_on(opened, NULL, &f->source, &err) && err.code < 0, "a model opens on a lost device");
    smolq_context_close(context);
    smolq_close(model);
    smolq_device_close(opened);
}

/* Each time in a process of its own: what waited on a lost GPU waits in the shim for ever. */
static void a_device_that_is_lost(void)
{
    fixture f;
    int n, status;
    NEEDS_SHIM;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (n = 1; n < 40; n += 3) {
        pid_t child;
        fflush(stdout);
        child = fork();
        if (child == 0) {
            lose_a_device(&f, n);
            if (test_failed) printf("%s\n", test_why);
            fflush(stdout);
            _exit(test_failed != 0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "lost at call %d: status %x", n, (unsigned)status);
    }
    free(f.file);
}

/* Two devices, two models, two contexts each, token by token in turn: each has its own bits, and its own graphs. */
static void several_at_once(void)
{
    fixture f;
    smolq_device *opened[2] = { NULL, NULL };
    smolq_model *model[2];
    smolq_context *context[4];
    float *logits;
    int32_t ids[24], n_vocab;
    int i, at;
    NEEDS_SHIM;
    REQUIRE(set_up(&f), "%s", f.err.text);
    cuda_shim_devices(2);
    for (i = 0; i < 2; i++) {
        opened[i] = open_device(i, &f.err);
        model[i] = opened[i] ? open_on(opened[i], NULL, &f.source, &f.err) : NULL;
        REQUIRE(model[i] != NULL, "%s", f.err.text);
    }
    n_vocab = smolq_model_info(model[0])->n_vocab;
    logits = (float *)malloc((size_t)n_vocab * 4 * sizeof *logits);
    if (!logits) abort();
    for (i = 0; i < 4; i++) context[i] = open_context(model[i / 2], i % 2 ? SMOLQ_KV_Q8_0 : SMOLQ_KV_F16, 0, &f.err);
    model_ids(ids, 24, n_vocab, 3);
    for (at = 0; at < 24; at++) {
        for (i = 0; i < 4; i++) {
            smolq_eval_item item = { context[i], ids + at, 1, SMOLQ_LOGITS_LAST, logits + (size_t)i * (size_t)n_vocab, NULL, NULL };
            CHECK(smolq_eval(&item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        }
        for (i = 0; i < 2; i++)
            CHECK(memcmp(logits + (size_t)i * (size_t)n_vocab, logits + (size_t)(i + 2) * (size_t)n_vocab, (size_t)n_vocab * 4) == 0, "token %d: context %d differs on the second device", at, i);
    }
    for (i = 0; i < 4; i++) smolq_context_close(context[i]);
    for (i = 0; i < 2; i++) CHECK(hash_of(model[i], 0, 0, FEW, &f.err) == f.expected, "device %d has other bits %s", i, f.err.text);
    for (i = 0; i < 2; i++) {
        smolq_close(model[i]);
        smolq_device_close(opened[i]);
    }
    cuda_shim_devices(1);
    free(logits);
    free(f.file);
}

/* Token by token behind 256 keys, where attention goes in tiles, and over 512, where the graph of before has too few of them. */
static void a_long_conversation(void)
{
    static const model_spec spec = { .family = "gpt-oss", .type = 8, .n_embd = 64, .n_ff = 64, .n_layer = 2, .n_head = 4, .n_head_kv = 1, .head_dim = 32, .n_ctx_train = 1024 };
    smolq_source source;
    smolq_error err = { 0, "" };
    uint64_t hash[3];
    int32_t ids[530], n_vocab;
    unsigned char *file;
    float *logits;
    size_t bytes;
    int d, at, n;
    file = model_build(&spec, &bytes);
    source = model_source(file, bytes);
    for (d = 0; d < 3; d++) {
        smolq_model *model = open_on(d ? devices[d - 1] : NULL, NULL, &source, &err);
        smolq_context_options options;
        smolq_context *context = NULL;
        memset(&options, 0, sizeof options);
        options.n_ctx = 530;
        if (model) smolq_context_open(model, &options, &context, &err);
        REQUIRE(context != NULL, "%s", err.text);
        n_vocab = smolq_model_info(model)->n_vocab;
        logits = (float *)malloc((size_t)n_vocab * sizeof *logits);
        if (!logits) abort();
        model_ids(ids, 530, n_vocab, 11);
        hash[d] = 0xcbf29ce484222325u;
        for (at = 0; at < 530; at += n) {
            smolq_eval_item item = { context, ids + at, n = at == 0 ? 260 : at == 266 ? 240 : 1, SMOLQ_LOGITS_LAST, logits, NULL, NULL };
            CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK, "%s", err.text);
            hash[d] = fnv1a(hash[d], logits, (size_t)n_vocab * sizeof *logits);
        }
        CHECK(hash[d] == hash[0], "device %d: hash %016llx, expected %016llx", d - 1, (unsigned long long)hash[d], (unsigned long long)hash[0]);
        smolq_context_close(context);
        smolq_close(model);
        free(logits);
    }
    free(file);
}

/* Contexts of three KV types in one batch. */
static void contexts_in_one_batch(void)
{
    fixture f;
    int32_t ids[12], n_vocab;
    float *logits[2];
    int d, i;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (d = 0; d < 2; d++) {
        smolq_model *model = open_on(d ? device : NULL, NULL, &f.source, &f.err);
        smolq_eval_item items[3];
        smolq_context *context[3];
        REQUIRE(model != NULL, "%s", f.err.text);
        n_vocab = smolq_model_info(model)->n_vocab;
        model_ids(ids, 12, n_vocab, 5);
        logits[d] = (float *)malloc((size_t)n_vocab * 3 * sizeof *logits[d]);
        if (!logits[d]) abort();
        for (i = 0; i < 3; i++) {
            smolq_eval_item item = { context[i] = open_context(model, i + 1, 0, &f.err), ids, 4 * i + 3, SMOLQ_LOGITS_LAST, logits[d] + (size_t)i * (size_t)n_vocab, NULL, NULL };
            items[i] = item;
        }
        CHECK(smolq_eval(items, 3, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        for (i = 0; i < 3; i++) {
            items[i].n_tokens = 1;
            smolq_context_truncate(context[i], 2, NULL);
        }
        CHECK(smolq_eval(items, 3, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        for (i = 0; i < 3; i++) smolq_context_close(context[i]);
        smolq_close(model);
    }
    CHECK(memcmp(logits[0], logits[1], (size_t)n_vocab * 12) == 0, "logits differ");
    free(logits[0]);
    free(logits[1]);
    free(f.file);
}

/* A batch in slices, and one that is cancelled in the middle. */
static int cancel_later(void *user) { return ++*(int *)user > 3; }
static void slices(void)
{
    fixture f;
    smolq_model *model;
    smolq_context *context;
    int32_t ids[FEW];
    smolq_evaluation e;
    smolq_eval_options options;
    smolq_result result;
    float *logits[2];
    int round, steps = 0, asked = 0;
    REQUIRE(set_up(&f), "%s", f.err.text);
    model = open_on(device, NULL, &f.source, &f.err);
    context = model ? open_context(model, 0, 0, &f.err) : NULL;
    REQUIRE(context != NULL, "%s", f.err.text);
    model_ids(ids, FEW, smolq_model_info(model)->n_vocab, 9);
    for (round = 0; round < 2; round++) {
        smolq_eval_item item = { context, ids, FEW, SMOLQ_LOGITS_LAST, NULL, NULL, NULL };
        item.logits = logits[round] = (float *)calloc((size_t)smolq_model_info(model)->n_vocab, sizeof *logits[round]);
        if (!item.logits) abort();
        memset(&e, 0, sizeof e);
        result = smolq_eval_begin(&e, &item, 1, NULL, &f.err);
        CHECK(result == SMOLQ_OK, "%s", f.err.text);
        while ((result = smolq_eval_step(&e, round ? 1 : 0, &f.err)) == SMOLQ_MORE && steps++ < 100) {}
        CHECK(result == SMOLQ_OK, "%s", f.err.text);
        smolq_context_truncate(context, 0, NULL);
    }
    CHECK(memcmp(logits[0], logits[1], (size_t)smolq_model_info(model)->n_vocab * 4) == 0, "slices give other bits");
    memset(&options, 0, sizeof options);
    options.cancel = cancel_later;
    options.user = &asked;
    CHECK(hash_in(context, smolq_model_info(model)->n_vocab, FEW, &options, &f.err) == 0 && f.err.code == SMOLQ_E_CANCELLED, "%d, %s", (int)f.err.code, f.err.text);
    CHECK(hash_in(context, smolq_model_info(model)->n_vocab, FEW, NULL, &f.err) == f.expected, "other bits after it was cancelled %s", f.err.text);
    smolq_context_close(context);
    smolq_close(model);
    free(logits[0]);
    free(logits[1]);
    free(f.file);
}

/* A load that is given up; an evaluation while the device is taken. */
static int give_up(void *user, float done)
{
    (void)user;
    return done > 0.3f;
}
static void refusals(void)
{
    fixture f;
    smolq_open_options options;
    smolq_model *model = NULL;
    uint64_t before = cuda_shim_bytes(), pinned = cuda_shim_pinned();
    smolq_eval_options no_wait;
    smolq_context *context;
    REQUIRE(set_up(&f), "%s", f.err.text);
    memset(&options, 0, sizeof options);
    options.device = device;
    options.sources = &f.source;
    options.n_sources = 1;
    options.progress = give_up;
    smolq_open(NULL, &options, &model, &f.err);
    CHECK(!model && f.err.code == SMOLQ_E_CANCELLED, "%d, %s", (int)f.err.code, f.err.text);
    CHECK(cuda_shim_bytes() == before && cuda_shim_pinned() == pinned, "%d bytes, %d pinned are left", (int)(cuda_shim_bytes() - before), (int)(cuda_shim_pinned() - pinned));
    model = open_on(device, NULL, &f.source, &f.err);
    context = model ? open_context(model, 0, 0, &f.err) : NULL;
    REQUIRE(context != NULL, "%s", f.err.text);
    memset(&no_wait, 0, sizeof no_wait);
    no_wait.no_wait = 1;
    smolq_backend_cuda()->acquire(device->state, 0, NULL);
    CHECK(hash_in(context, smolq_model_info(model)->n_vocab, FEW, &no_wait, &f.err) == 0 && f.err.code == SMOLQ_E_BUSY, "%d, %s", (int)f.err.code, f.err.text);
    smolq_backend_cuda()->release(device->state);
    CHECK(hash_in(context, smolq_model_info(model)->n_vocab, FEW, &no_wait, &f.err) == f.expected, "%s", f.err.text);
    smolq_context_close(context);
    smolq_close(model);
    free(f.file);
}

/* The first layers on the host. */
static void layers_on_the_host(void)
{
    fixture f;
    int32_t host;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (host = 1; host <= 2; host++) {
        smolq_open_options options;
        smolq_model *model = NULL;
        memset(&options, 0, sizeof options);
        options.device = device;
        options.host_layers = host;
        options.sources = &f.source;
        options.n_sources = 1;
        smolq_open(NULL, &options, &model, &f.err);
        CHECK(model && hash_of(model, 0, 7, FEW, &f.err) == f.expected, "%d layers on the host: %s", (int)host, f.err.text);
        smolq_close(model);
    }
    free(f.file);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "products of every type, odd shapes, one to 512 tokens", products },
        { "products of the largest activations and codes",          products_of_extremes },
        { "products that share an input",                           products_of_parts },
        { "gated products",                                         products_gated },
        { "products of experts",                                    products_of_experts },
        { "norms",                                                  norms },
        { "activations as int8",                                    quantizing },
        { "rotations",                                              rotations },
        { "cells of the cache",                                     storing },
        { "attention",                                              attentions },
        { "attention with the least scores",                        least_scores },
        { "operations in a row",                                    operations_in_a_row },
        { "gates",                                                  gates },
        { "embedding, experts' sums, gather, caps",                 the_rest },
        { "golden files",                                           golden_models },
        { "models of every family and type",                        own_models },
        { "the best logits, found on the device",                   best_logits },
        { "tokens drawn where the logits are",                      drawn_there },
        { "machines without a driver, a GPU, one of ours",          machines_without },
        { "plans are exact, evaluation takes no memory",            plans },
        { "too little memory",                                      short_of_memory },
        { "any call of the runtime fails",                          calls_that_fail },
        { "a device that is lost",                                  a_device_that_is_lost },
        { "two devices, models and contexts in turn",               several_at_once },
        { "a long conversation",                                    a_long_conversation },
        { "contexts of three KV types in one batch",                contexts_in_one_batch },
        { "slices and cancelling",                                  slices },
        { "a load given up, a device in use",                       refusals },
        { "the first layers on the host",                           layers_on_the_host },
    };
    smolq_error err = { 0, "" };
    int failed, i;
    for (i = 0; i < 2; i++) {
        cuda_shim_sm(90, i ? 132 : 1);
        if (smolq_device_open(smolq_backend_cuda(), NULL, &devices[i], &err)) {
            printf("FAIL the device opens: %s\n", err.text);
            return 1;
        }
        printf("%s\n", smolq_device_report(devices[i]));
    }
    choose_device(rotation());
    failed = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    for (i = 0; i < 2; i++) smolq_device_close(devices[i]);
    return failed;
}
