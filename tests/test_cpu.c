/* smolq_cpu.c has the bits of the reference backend, on every instruction set of this machine.
 *
 * Each operation alone, as a program of one step through both backends: tests/bed.h.
 * Then whole forwards: golden files, where they are, and models written here, by threads, batches and KV types, to one hash each.
 * Then what the device promises beside the bits: threads of ours or the host's, waiting, slices, the float settings of the host, nothing left behind.
 *
 * SMOLQ_LONG=1 takes the full products, of the golden models' whole forwards too; else models take their combinations in rotation by SMOLQ_SEED or the day; the seed is printed.
 * tests/test_cpu_tsan.sh runs the tests with "threads" in their names under ThreadSanitizer, tests/test_cpu_tiles.c those of products without AMX;
 * tests/test_cpu_arm.sh and tests/test_cpu_windows.sh run them in emulators. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#ifndef TEST_CPU_LINKED /* it is compiled beside */
#  include "../smolq_cpu.c"
#endif
#include "bed.h"
#include "whole.h"
#include "drawn.h"
#include <pthread.h>
#if defined(__x86_64__) || defined(_M_X64)
#  include <immintrin.h>
#endif
#ifndef _WIN32
#  include "far.h"
#endif

/* ---- the devices: every instruction set that is here, with one, two and three threads ---- */

typedef struct cpu { const char *isa; int32_t n_threads; smolq_device *device; } cpu;
static cpu cpus[12];
static int n_cpus;

static smolq_device *open_device(const char *isa, int32_t n_threads, smolq_error *err)
{
    smolq_device_options options;
    smolq_device *device = NULL;
    memset(&options, 0, sizeof options);
    options.isa = isa;
    options.n_threads = n_threads;
    smolq_device_open(smolq_backend_cpu(), &options, &device, err);
    return device;
}

#ifndef TEST_CPU_CYCLES
#  define TEST_CPU_CYCLES (is_long() ? 10000 : 1000) /* devices opened and closed; each looks at its bits first, which takes a sanitizer long */
#endif
#ifndef TEST_CPU_ISAS
#  define TEST_CPU_ISAS "avx2", "avxvnni", "avx512", "amx", "neon-base", "neon-dotprod", "neon-i8mm" /* tests/test_cpu_tiles.c takes one */
#endif
static void open_cpus(void)
{
    static const char *const isas[] = { TEST_CPU_ISAS };
    smolq_error err;
    size_t i;
    for (i = 0; i < sizeof isas / sizeof *isas; i++) {
        smolq_device *device = open_device(isas[i], 1, &err);
        char begin[32];
        int32_t n;
        if (!device) continue; /* the first test says why */
        snprintf(begin, sizeof begin, "cpu: %s,", isas[i]);
        if (strncmp(smolq_device_report(device), begin, strlen(begin)) == 0)
            for (n = 1; n <= 3; n++) {
                cpus[n_cpus].isa = isas[i];
                cpus[n_cpus].n_threads = n;
                cpus[n_cpus++].device = open_device(isas[i], n, &err);
            }
        else
            printf("%s is not on this machine: it is not tested\n", isas[i]);
        smolq_device_close(device);
    }
}

/* ---- each operation, on every instruction set, on one to three threads in turn, half of them with pauses ---- */

static void run_on_devices(bed *b, const char *name, int32_t numeric)
{
    int i, c;
    for (c = 0; c < n_cpus; c++) {
        const smolq_backend *backend = smolq_backend_cpu();
        void *state = cpus[c].device->state;
        size_t scratch_bytes, map_bytes, at;
        int pauses = (int)(n_beds >> 1 & 1), rounds = 0;
        if (cpus[c].n_threads != (int32_t)(n_beds % 3) + 1) continue;
        scratch_bytes = ((size_t)backend->scratch(state, &b->program, b->run.n_rows) + 63) & ~(size_t)63;
        restore(b);
        b->run.scratch = map_guarded(scratch_bytes, &map_bytes);
        b->run.pause = pauses ? every_other : NULL;
        b->run.user = &b->turn;
        while (b->run.op < b->run.end_op && rounds++ < 100000) {
            smolq_result result = backend->run(state, &b->run, NULL);
            CHECK(result == SMOLQ_OK, "%s: %s gives %s", name, cpus[c].isa, smolq_result_name(result));
            if (result) break;
        }
        unmap_guarded(b->run.scratch, scratch_bytes, map_bytes);
        b->run.pause = NULL;
        CHECK(b->run.op == b->run.end_op, "%s: %s does not end", name, cpus[c].isa);
        CHECK(!b->run.numeric == !numeric, "%s: %s flags %d, expected %d", name, cpus[c].isa, (int)b->run.numeric, (int)numeric);
        for (i = 0; i < b->n_regions && !numeric; i++) {
            region *r = &b->region[i];
            if (!r->before || memcmp(r->p, r->expected, r->bytes) == 0) continue;
            for (at = 0; r->p[at] == r->expected[at]; at++) {}
            CHECK(0, "%s: %s, %d threads: byte %d of region %d (%d bytes) is %02x, expected %02x (SMOLQ_SEED=%llu)", name, cpus[c].isa, (int)cpus[c].n_threads, (int)at, i, (int)r->bytes, r->p[at],
                  r->expected[at], (unsigned long long)rotation());
        }
    }
}

/* ---- whole forwards: tests/whole.h ---- */

/* One model on all devices: every thread count, batch and KV type if `all`, or of the nine combinations of a type of cache two for each instruction set. */
static void whole(const char *name, const char *path, const smolq_source *source, uint64_t turn, int all)
{
    static const int32_t batches[] = { 7, 512, 1 };
    int32_t kv, most = all ? 3 : 1;
    smolq_error err = { 0, "" };
    smolq_model *ref = open_on(NULL, path, source, &err);
    uint64_t expected[3];
    int c, k, i;
    REQUIRE(ref != NULL, "%s: %s", name, err.text);
    for (k = 0; k < most; k++) {
        kv = (int32_t)((turn + (uint64_t)k) % 3) + 1;
        if (kv == SMOLQ_KV_Q8_0 && smolq_model_info(ref)->head_dim % 32) kv = SMOLQ_KV_F32;
        expected[k] = hash_of(ref, kv, 0, N_PROMPT, &err);
        CHECK(expected[k] != 0, "%s: %s", name, err.text);
    }
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, path, source, &err);
        CHECK(model != NULL, "%s on %s: %s", name, cpus[c].isa, err.text);
        for (k = 0; k < most && model; k++)
            EACH_OF(i, batches) {
                uint64_t hash;
                if (!all && (turn + (uint64_t)cpus[c].n_threads + (uint64_t)i) % 4 != 0) continue;
                kv = (int32_t)((turn + (uint64_t)k) % 3) + 1;
                if (kv == SMOLQ_KV_Q8_0 && smolq_model_info(ref)->head_dim % 32) kv = SMOLQ_KV_F32;
                hash = hash_of(model, kv, batches[i], N_PROMPT, &err);
                CHECK(hash == expected[k], "%s on %s, %d threads, batch %d, KV type %d: hash %016llx, expected %016llx %s", name, cpus[c].isa, (int)cpus[c].n_threads, (int)batches[i], (int)kv,
                      (unsigned long long)hash, (unsigned long long)expected[k], hash ? "" : err.text);
            }
        smolq_close(model);
    }
    smolq_close(ref);
}

/* ---- the device beside the bits ---- */

static void options_of_a_device(void)
{
    static const int32_t wrong[] = { -1, 257, INT32_MAX };
    static const char *const caps[] = { "amx", "neon", "neon-i8mm" };
    const int is_neon = strncmp(cpus[0].isa, "neon", 4) == 0;
    smolq_device *device;
    smolq_error err = { 0, "" };
    int i;
    for (i = 0; i < n_cpus; i++) CHECK(cpus[i].device->exact, "%s finds other bits than the reference when it is opened", cpus[i].isa);
    device = open_device("sse9", 1, &err);
    CHECK(!device && err.code == SMOLQ_E_ARGUMENT && strstr(err.text, "sse9"), "isa sse9: %d, %s", (int)err.code, err.text);
    EACH_OF(i, wrong) {
        err.code = 0;
        device = open_device(NULL, wrong[i], &err);
        CHECK(!device && err.code == SMOLQ_E_ARGUMENT && strstr(err.text, "n_threads"), "%d threads: %d, %s", (int)wrong[i], (int)err.code, err.text);
    }
    device = open_device("ref", 2, &err);
    REQUIRE(device != NULL, "%s", err.text);
    CHECK(strcmp(smolq_device_report(device), "cpu: ref, 1 thread") == 0, "%s", smolq_device_report(device));
    smolq_device_close(device);
    EACH_OF(i, caps) { /* a cap, and not a wish: any machine takes it */
        device = open_device(caps[i], 3, &err);
        REQUIRE(device != NULL, "%s", err.text);
        CHECK(strstr(smolq_device_report(device), is_neon == (i > 0) ? ", 3 threads" : ": ref, 1 thread"), "%s gives %s", caps[i], smolq_device_report(device));
        smolq_device_close(device);
    }
    device = open_device(NULL, 3, &err);
    REQUIRE(device != NULL, "%s", err.text);
    CHECK(strncmp(smolq_device_report(device), "cpu: ref", 8) != 0, "%s, but %s is here", smolq_device_report(device), cpus[0].isa);
    if (is_neon) { /* "neon" takes all that there is of it */
        smolq_device *neon = open_device("neon", 3, &err);
        REQUIRE(neon != NULL, "%s", err.text);
        CHECK(strcmp(smolq_device_report(neon), smolq_device_report(device)) == 0, "%s, but %s", smolq_device_report(neon), smolq_device_report(device));
        smolq_device_close(neon);
    }
    smolq_device_close(device);
}

static void the_reference_through_the_device(void)
{
    fixture f;
    smolq_device *device;
    smolq_model *model;
    REQUIRE(set_up(&f), "%s", f.err.text);
    device = open_device("ref", 1, &f.err);
    model = open_on(device, NULL, &f.source, &f.err);
    REQUIRE(model != NULL, "%s", f.err.text);
    CHECK(hash_of(model, 0, 0, FEW, &f.err) == f.expected, "isa ref gives other bits %s", f.err.text);
    smolq_close(model);
    smolq_device_close(device);
    free(f.file);
}

#ifdef _WIN32
static void beside_another_device(void) { SKIP("tests/far.h needs mmap"); }
#else
/* The first layers here, the rest on a device with memory of its own. */
static void beside_another_device(void)
{
    fixture f;
    int32_t host;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (host = 1; host <= 2; host++) {
        smolq_device_options device;
        smolq_open_options options;
        smolq_model *model = NULL;
        memset(&device, 0, sizeof device);
        memset(&options, 0, sizeof options);
        device.n_threads = 2;
        options.backend = far_backend();
        options.host_backend = smolq_backend_cpu();
        options.host_layers = host;
        options.device_options = &device;
        options.sources = &f.source;
        options.n_sources = 1;
        smolq_open(NULL, &options, &model, &f.err);
        CHECK(model && smolq_model_info(model)->exact, "%s", f.err.text);
        CHECK(model && hash_of(model, 0, 7, FEW, &f.err) == f.expected, "%d layers on the host give other bits %s", (int)host, f.err.text);
        smolq_close(model);
        CHECK(far.used == 0 && far.n_open == 0 && far.n_taken == 0, "%d layers on the host: something is left on the device", (int)host);
    }
    free(f.file);
}
#endif

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__) /* mxcsr */
static const unsigned settings[] = { 0x9fc0, 0x3f80, 0x5f80, 0xff80 | 0x40, 0x1fbf }; /* FTZ and DAZ, down, up, to zero with both, all flags */
enum { CONTROL = 0xffc0 };
static unsigned get_floats(void) { return _mm_getcsr(); }
static void set_floats(unsigned x) { _mm_setcsr(x); }
#else /* fpcr */
static const unsigned settings[] = { 1 << 24, 2 << 22, 1 << 22, 3 << 22 | 1 << 24, 1 << 25, 1 << 26 }; /* FZ, down, up, to zero with FZ, default NaN, the other half-precision format */
enum { CONTROL = 31 << 22 };
static unsigned get_floats(void)
{
    uint64_t x;
    __asm__ volatile("mrs %0, fpcr" : "=r"(x));
    return (unsigned)x;
}
static void set_floats(unsigned x) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)x)); }
#endif

/* The host flushes denormals, rounds another way, has flags raised: no bit changes, and it finds its settings again. */
static void float_settings(void)
{
    fixture f;
    int i, c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    EACH_OF(i, settings) for (c = 0; c < n_cpus; c++) {
        unsigned saved = get_floats(), found;
        smolq_device *device;
        smolq_model *model;
        uint64_t hash;
        set_floats(settings[i]);
        device = open_device(cpus[c].isa, cpus[c].n_threads, &f.err); /* its threads inherit them */
        model = open_on(device, NULL, &f.source, &f.err);
        hash = model ? hash_of(model, 0, 0, FEW, &f.err) : 0;
        smolq_close(model);
        smolq_device_close(device);
        found = get_floats();
        set_floats(saved);
        CHECK(hash == f.expected, "settings %04x on %s, %d threads: hash %016llx, expected %016llx", settings[i], cpus[c].isa, (int)cpus[c].n_threads, (unsigned long long)hash,
              (unsigned long long)f.expected);
        CHECK((found & CONTROL) == (settings[i] & CONTROL), "settings were %04x and are %04x", settings[i], found);
    }
    free(f.file);
}
#else
static void float_settings(void) { SKIP("only for x86 and ARM"); }
#endif

/* Two job systems of hosts: a loop that begins at the end, and a thread for each task. */
typedef struct host_task { void (*task)(void *arg, int32_t index); void *arg; int32_t index; pthread_t thread; } host_task;
static void serial_for(void *user, void (*task)(void *arg, int32_t index), void *arg, int32_t count)
{
    (*(int *)user)++;
    while (count-- > 0) task(arg, count);
}
static void *run_host_task(void *arg)
{
    host_task *t = (host_task *)arg;
    t->task(t->arg, t->index);
    return NULL;
}
static void threads_for(void *user, void (*task)(void *arg, int32_t index), void *arg, int32_t count)
{
    host_task tasks[8];
    int32_t i;
    (*(int *)user)++;
    if (count > 8) abort();
    for (i = 0; i < count; i++) {
        tasks[i].task = task;
        tasks[i].arg = arg;
        tasks[i].index = i;
        if (pthread_create(&tasks[i].thread, NULL, run_host_task, &tasks[i])) abort();
    }
    for (i = 0; i < count; i++) pthread_join(tasks[i].thread, NULL);
}

static void threads_of_the_host(void)
{
    static const smolq_parallel_for_fn hooks[] = { serial_for, threads_for };
    fixture f;
    int h, n;
    REQUIRE(set_up(&f), "%s", f.err.text);
    EACH_OF(h, hooks) for (n = 1; n <= 5; n += 2) {
        smolq_device_options options;
        smolq_device *device = NULL;
        smolq_model *model;
        int calls = 0;
        memset(&options, 0, sizeof options);
        options.n_threads = n;
        options.parallel_for = hooks[h];
        options.parallel_user = &calls;
        REQUIRE(smolq_device_open(smolq_backend_cpu(), &options, &device, &f.err) == SMOLQ_OK, "%s", f.err.text);
        model = open_on(device, NULL, &f.source, &f.err);
        REQUIRE(model != NULL, "%s", f.err.text);
        CHECK(hash_of(model, 0, h ? 512 : 7, FEW, &f.err) == f.expected, "hook %d, %d threads: other bits %s", h, n, f.err.text);
        CHECK((calls > 0) == (n > 1), "hook %d, %d threads: called %d times", h, n, calls);
        smolq_close(model);
        smolq_device_close(device);
    }
    free(f.file);
}

/* What a thread of the test evaluates while others do. */
typedef struct visitor {
    smolq_model  *model;
    uint32_t      no_wait;
    smolq_result  result;
    uint64_t      hash;
    smolq_error   err;
    pthread_t     thread;
} visitor;

static void *visit(void *arg)
{
    visitor *v = (visitor *)arg;
    smolq_eval_options options;
    smolq_context *context = open_context(v->model, 0, 0, &v->err);
    memset(&options, 0, sizeof options);
    options.no_wait = v->no_wait;
    v->hash = context ? hash_in(context, smolq_model_info(v->model)->n_vocab, FEW, &options, &v->err) : 0;
    v->result = v->hash ? SMOLQ_OK : v->err.code;
    smolq_context_close(context);
    return NULL;
}

/* An evaluation in slices holds the device: one that does not wait is told so, one that waits comes after it; with one thread nothing is held. */
static void threads_that_wait(void)
{
    fixture f;
    int c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        smolq_context *context = model ? open_context(model, 0, 0, &f.err) : NULL;
        int32_t ids[FEW];
        smolq_eval_item item = { context, ids, FEW, SMOLQ_LOGITS_NONE, NULL, NULL, NULL };
        smolq_evaluation evaluation;
        visitor busy, waiting;
        memset(&busy, 0, sizeof busy);
        memset(&waiting, 0, sizeof waiting);
        busy.model = waiting.model = model;
        busy.no_wait = 1;
        REQUIRE(context != NULL, "%s", f.err.text);
        model_ids(ids, FEW, smolq_model_info(model)->n_vocab, 3);
        REQUIRE(smolq_eval_begin(&evaluation, &item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        if (pthread_create(&busy.thread, NULL, visit, &busy)) abort();
        pthread_join(busy.thread, NULL);
        CHECK(busy.result == (cpus[c].n_threads > 1 ? SMOLQ_E_BUSY : SMOLQ_OK), "%s, %d threads: no_wait gives %s", cpus[c].isa, (int)cpus[c].n_threads, smolq_result_name(busy.result));
        if (pthread_create(&waiting.thread, NULL, visit, &waiting)) abort();
        while (smolq_eval_step(&evaluation, 1, &f.err) == SMOLQ_MORE) {}
        pthread_join(waiting.thread, NULL);
        CHECK(waiting.hash == f.expected, "%s, %d threads: the one that waited got other bits %s", cpus[c].isa, (int)cpus[c].n_threads, waiting.err.text);
        smolq_context_close(context);
        smolq_close(model);
    }
    free(f.file);
}

static void threads_that_share_a_device(void)
{
    enum { N = 4 };
    fixture f;
    int c, i;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        visitor v[N];
        REQUIRE(model != NULL, "%s", f.err.text);
        memset(v, 0, sizeof v);
        for (i = 0; i < N; i++) {
            v[i].model = model;
            if (pthread_create(&v[i].thread, NULL, visit, &v[i])) abort();
        }
        for (i = 0; i < N; i++) {
            pthread_join(v[i].thread, NULL);
            CHECK(v[i].hash == f.expected, "%s, %d threads, visitor %d: other bits %s", cpus[c].isa, (int)cpus[c].n_threads, i, v[i].err.text);
        }
        smolq_close(model);
    }
    free(f.file);
}

static int after_some(void *user) { return (*(int *)user)-- <= 0; }

/* Slices of a microsecond, then evaluations cancelled at every tenth question, then the whole again. */
static void slices_and_cancelling_with_threads(void)
{
    fixture f;
    int c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        smolq_context *context = model ? open_context(model, 0, 0, &f.err) : NULL;
        int32_t ids[N_PROMPT + N_MORE], n_vocab, left, n_steps = 0, k = 0, n_cancelled = 0;
        smolq_eval_item item = { context, ids, FEW, SMOLQ_LOGITS_ALL, NULL, NULL, NULL };
        smolq_evaluation evaluation;
        smolq_eval_options options;
        smolq_result result;
        float *whole_logits, *sliced;
        REQUIRE(context != NULL, "%s", f.err.text);
        n_vocab = smolq_model_info(model)->n_vocab;
        whole_logits = (float *)calloc((size_t)n_vocab * FEW, sizeof(float));
        sliced = (float *)calloc((size_t)n_vocab * FEW, sizeof(float));
        if (!whole_logits || !sliced) abort();
        model_ids(ids, N_PROMPT + N_MORE, n_vocab, 7);
        item.logits = whole_logits;
        CHECK(smolq_eval(&item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        smolq_context_truncate(context, 0, NULL);
        item.logits = sliced;
        CHECK(smolq_eval_begin(&evaluation, &item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        while ((result = smolq_eval_step(&evaluation, 1, &f.err)) == SMOLQ_MORE) n_steps++;
        CHECK(result == SMOLQ_OK && n_steps > 5, "%d steps, then %s", (int)n_steps, smolq_result_name(result));
        CHECK(memcmp(sliced, whole_logits, (size_t)n_vocab * FEW * sizeof(float)) == 0, "%s, %d threads: slices change bits", cpus[c].isa, (int)cpus[c].n_threads);
        smolq_context_truncate(context, 0, NULL);
        memset(&options, 0, sizeof options);
        options.cancel = after_some;
        options.user = &left;
        do {
            left = 10 * k++;
            result = smolq_eval(&item, 1, &options, &f.err);
            n_cancelled += result == SMOLQ_E_CANCELLED;
            CHECK(result == SMOLQ_E_CANCELLED || result == SMOLQ_OK, "%s", f.err.text);
            CHECK(smolq_context_length(context) == (result ? 0 : FEW), "cancelled with %d tokens", (int)smolq_context_length(context));
        } while (result == SMOLQ_E_CANCELLED && k < 10000);
        CHECK(n_cancelled > 1, "cancelled %d times", (int)n_cancelled);
        smolq_context_truncate(context, 0, NULL);
        CHECK(hash_in(context, n_vocab, FEW, NULL, &f.err) == f.expected, "%s, %d threads: other bits after cancelling %s", cpus[c].isa, (int)cpus[c].n_threads, f.err.text);
        free(whole_logits);
        free(sliced);
        smolq_context_close(context);
        smolq_close(model);
    }
    free(f.file);
}

/* Tokens that an evaluation draws itself. */
static void drawn_with_threads(void)
{
    fixture f;
    smolq_model *ref;
    int c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    ref = open_on(NULL, NULL, &f.source, &f.err);
    REQUIRE(ref != NULL, "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model;
        if ((uint64_t)c % 3 != rotation() % 3 && !is_long()) continue;
        model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        REQUIRE(model != NULL, "%s", f.err.text);
        drawn_tokens(cpus[c].isa, ref, model, 12, 1, 0, NULL);
        drawn_in_turn(cpus[c].isa, ref, model, 40);
        drawn_tokens(cpus[c].isa, ref, model, 6, DRAWN_CHAINS, 5, NULL);
        smolq_close(model);
    }
    smolq_close(ref);
    free(f.file);
}

/* ---- nothing is left behind ---- */

typedef struct ledger { int64_t blocks, bytes; int left; } ledger; /* left: allocations that succeed */
static void *count_alloc(void *user, size_t bytes)
{
    ledger *l = (ledger *)user;
    if (l->left-- <= 0) return NULL;
    l->blocks++;
    l->bytes += (int64_t)bytes;
    return malloc(bytes);
}
static void count_release(void *user, void *memory, size_t bytes)
{
    ledger *l = (ledger *)user;
    if (!memory) return;
    l->blocks--;
    l->bytes -= (int64_t)bytes;
    free(memory);
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;
    if (!tasks) return 0;
    while (readdir(tasks)) n++;
    closedir(tasks);
    return n;
}

static void opening_and_closing_threads(void)
{
    int cycles = TEST_CPU_CYCLES, i, threads = count_threads(), failures = 0;
    ledger l = { 0, 0, 0 };
    smolq_device_options options;
    smolq_device *device;
    smolq_error err = { 0, "" };
    fixture f;
    REQUIRE(set_up(&f), "%s", f.err.text);
    memset(&options, 0, sizeof options);
    options.allocator.alloc = count_alloc;
    options.allocator.release = count_release;
    options.allocator.user = &l;
    for (i = 0; i < cycles; i++) {
        options.n_threads = 1 + i % 4;
        l.left = i % 10 ? 1000000 : i / 10 % 4; /* now and then memory is out */
        device = NULL;
        if (smolq_device_open(smolq_backend_cpu(), &options, &device, &err)) {
            CHECK(err.code == SMOLQ_E_MEMORY && !device, "%s", err.text);
            failures++;
        }
        if (device && i % 100 == 50) {
            smolq_model *model = open_on(device, NULL, &f.source, &err);
            CHECK(model && hash_of(model, 0, 0, FEW, &err) == f.expected, "cycle %d: other bits %s", i, err.text);
            smolq_close(model);
        }
        smolq_device_close(device);
        CHECK(l.blocks == 0 && l.bytes == 0, "cycle %d leaves %lld blocks, %lld bytes", i, (long long)l.blocks, (long long)l.bytes);
    }
    CHECK(failures > 0, "memory was never out");
    CHECK(count_threads() == threads, "%d threads, %d before", count_threads(), threads);
    free(f.file);
}

/* After work the pool sleeps: a device that waits costs no time. */
static void idle_threads_cost_nothing(void)
{
    fixture f;
    smolq_device *device;
    smolq_model *model;
    struct timespec nap = { 0, 20000000 };
    clock_t before;
    double spent;
#ifdef _WIN32
    SKIP("clock() tells the time of day here");
#endif
    REQUIRE(set_up(&f), "%s", f.err.text);
    device = open_device(NULL, 3, &f.err);
    model = open_on(device, NULL, &f.source, &f.err);
    REQUIRE(model != NULL, "%s", f.err.text);
    CHECK(hash_of(model, 0, 0, FEW, &f.err) == f.expected, "other bits %s", f.err.text);
    nanosleep(&nap, NULL); /* they spin for tens of microseconds, even where they share a core */
    before = clock();
    nap.tv_nsec = 100000000;
    nanosleep(&nap, NULL);
    spent = (double)(clock() - before) / CLOCKS_PER_SEC;
    CHECK(spent < 0.02, "%.1f ms of work in 100 ms of rest", spent * 1e3);
    smolq_close(model);
    smolq_device_close(device);
    free(f.file);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "isa and threads are checked and reported", options_of_a_device },
        { "products: every type, shape and number of tokens", products },
        { "products: the largest numbers", products_of_extremes },
        { "products: parts of three types", products_of_parts },
        { "products: gated parts", products_gated },
        { "products: experts", products_of_experts },
        { "norm", norms },
        { "quantize", quantizing },
        { "rope", rotations },
        { "kv store", storing },
        { "attention", attentions },
        { "attention: scores below -3e38", least_scores },
        { "operations in a row", operations_in_a_row },
        { "glu", gates },
        { "embedding, router, experts' sum, cap", the_rest },
        { "isa ref is the reference", the_reference_through_the_device },
        { "the first layers of a model on another device, with threads", beside_another_device },
        { "float settings of the host", float_settings },
        { "threads of the host", threads_of_the_host },
        { "threads that wait for a device", threads_that_wait },
        { "threads that share a device", threads_that_share_a_device },
        { "slices and cancelling, with threads", slices_and_cancelling_with_threads },
        { "tokens that an evaluation draws, with threads", drawn_with_threads },
        { "opening and closing leaves no threads and no memory", opening_and_closing_threads },
        { "idle threads cost nothing", idle_threads_cost_nothing },
        { "whole forwards of models written here", own_models },
        { "whole forwards of the golden models", golden_models },
    };
    int failed, i;
    printf("seed %llu\n", (unsigned long long)rotation());
    open_cpus();
    if (n_cpus == 0) {
        printf("skip smolq_cpu.c: none of its instruction sets is here\n");
        return 0;
    }
    failed = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    for (i = 0; i < n_cpus; i++) smolq_device_close(cpus[i].device);
    return failed;
}
