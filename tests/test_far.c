/* Devices with memory of their own, with tests/far.h in the place of a GPU: all layers there or the first ones on the host, in every manner of test_bits.c,
 * the logits have the reference backend's bits; plans and loads are exact to the byte; what does not fit is an error or stays on the host; and whatever
 * call of the device fails, contexts are as before and nothing leaks. */
#define main bits_main /* its manners and its helpers are ours */
#include "test_bits.c"
#undef main
#include "far.h"
#include "drawn.h"

/* ---- helpers ---- */

/* A file in memory, or with file NULL the one at path; what its models allocate on the host is counted. */
typedef struct place {
    const unsigned char *file;
    size_t               bytes;
    const char          *path;
    counter              c;
    smolq_open_options   options;
    smolq_source         source;
    smolq_allocator      allocator;
} place;

static void far_reset(void)
{
    far_insist(!far.n_open && !far.n_loads && !far.n_blocks && !far.used && !far.n_taken && !far.n_near_taken, "a test before this one has left something behind");
    memset(&far, 0, sizeof far);
}

static void place_init(place *p, const unsigned char *file, size_t bytes, const char *path, int32_t host_layers)
{
    memset(p, 0, sizeof *p);
    p->path = path;
    p->source = model_source(file, bytes);
    p->allocator.alloc = counted_alloc;
    p->allocator.release = counted_release;
    p->allocator.user = &p->c;
    p->options.sources = &p->source;
    p->options.n_sources = path ? 0 : 1;
    p->options.allocator = p->allocator;
    p->options.backend = far_backend();
    p->options.host_backend = near_backend();
    p->options.host_layers = host_layers;
}

static smolq_model *place_open(place *p, smolq_error *err)
{
    smolq_model *model = NULL;
    err->text[0] = 0;
    smolq_open(p->path, &p->options, &model, err);
    return model;
}

/* Nothing is left on either side. */
static void expect_nothing(const place *p, const char *what)
{
    CHECK(far.used == 0 && far.n_blocks == 0 && far.n_loads == 0 && far.n_open == 0, "%s: %llu bytes, %d blocks, %d models, %d devices are left on the device", what,
          (unsigned long long)far.used, far.n_blocks, far.n_loads, far.n_open);
    CHECK(far.n_taken == 0 && far.n_near_taken == 0, "%s: a device is still taken", what);
    CHECK(p->c.live == 0, "%s: %d bytes are left on the host", what, (int)p->c.live);
}

/* ---- the same bits ---- */

/* All or `take` manners at every number of host layers against the reference backend. */
static void every_split(const char *name, const unsigned char *file, size_t bytes, const char *path, int kv_type, const int32_t *ids, int n, int take)
{
    smolq_error err;
    smolq_open_options plain;
    smolq_source source = model_source(file, bytes);
    smolq_model *model = NULL;
    uint64_t expected;
    int32_t host, n_layer;
    memset(&plain, 0, sizeof plain);
    plain.sources = &source;
    plain.n_sources = path ? 0 : 1;
    REQUIRE(smolq_open(path, &plain, &model, &err) == SMOLQ_OK, "%s: %s", name, err.text);
    n_layer = smolq_model_info(model)->n_layer;
    if (kv_type == SMOLQ_KV_Q8_0 && smolq_model_info(model)->head_dim % 32) kv_type = SMOLQ_KV_F32;
    CHECK(smolq_model_info(model)->host_layers == n_layer && smolq_model_info(model)->device_bytes == 0, "%s: the reference backend has a device", name);
    expected = one_hash(name, model, kv_type, ids, n, 0, 0);
    smolq_close(model);
    for (host = -1; host <= n_layer; host++) {
        char label[96];
        place p;
        if (host == 0) continue; /* as -1 */
        far_reset();
        snprintf(label, sizeof label, "%s, %d layers on the host", name, (int)(host < 0 ? 0 : host));
        place_init(&p, file, bytes, path, host);
        model = place_open(&p, &err);
        CHECK(model != NULL, "%s: %s", label, err.text);
        if (model) {
            const smolq_info *info = smolq_model_info(model);
            uint64_t hash = one_hash(label, model, kv_type, ids, n, (int)(rotation() % N_MANNERS) + host, take);
            char words[64];
            snprintf(words, sizeof words, "device: %d of %d layers, ", (int)(n_layer - (host < 0 ? 0 : host)), (int)n_layer);
            CHECK(hash == expected, "%s: hash %016llx, the reference backend's %016llx", label, (unsigned long long)hash, (unsigned long long)expected);
            CHECK(info->exact && info->host_layers == (host < 0 ? 0 : host) && info->device_bytes == far.used && far.used > 0, "%s: exact %d, %d host layers, %llu bytes of %llu", label,
                  (int)info->exact, (int)info->host_layers, (unsigned long long)info->device_bytes, (unsigned long long)far.used);
            CHECK(strstr(smolq_model_report(model), words) != NULL, "%s: the report says %s", label, smolq_model_report(model));
        }
        smolq_close(model);
        expect_nothing(&p, label);
    }
}

static void written_models(void)
{
    static const model_spec specs[] = {
        { .family = "llama", .n_embd = 48, .n_head = 2, .n_head_kv = 1, .n_ff = 50, .n_layer = 3 },
        { .family = "qwen3", .type = 2, .head_dim = 32, .n_layer = 2, .untied = 1 },
        { .family = "gpt-oss", .untied = 1, .n_layer = 3 },                                                          /* experts with biases, sinks, windows */
        { .family = "gemma3", .n_layer = 3, .head_dim = 32, .extra = { { "attention.sliding_window", 'u', 9 } } }, /* rings, two rotations */
        { .family = "mistral3", .n_layer = 2, .head_dim = 32 },                                                      /* attention temperature */
        { .family = "qwen2moe", .n_layer = 2, .type = 8 },                                                           /* a shared expert */
        { .family = "phi3", .n_layer = 2, .type = 1 },                                                               /* fused tensors */
        { .family = "granite", .n_layer = 2, .biases = 2 },
        { .family = "olmo2", .type = 12, .n_embd = 256, .n_ff = 256, .n_layer = 2 },
    };
    size_t i, bytes;
    for (i = 0; i < sizeof specs / sizeof *specs; i++) {
        int32_t ids[70];
        unsigned char *file = model_build(&specs[i], &bytes);
        model_ids(ids, 70, 61, i);
        every_split(specs[i].family, file, bytes, NULL, 1 + (int)((rotation() + i) % 3), ids, 70, is_long() ? N_MANNERS : i < 4 ? 6 : 2);
        free(file);
    }
}

static void written_types(void)
{
    int i;
    for (i = 0; i < BUILD_N_TYPES; i++) {
        model_spec spec = { .family = i % 2 ? "llama" : "qwen3", .n_embd = 256, .n_ff = 256, .n_layer = 1 };
        int32_t ids[12];
        size_t bytes;
        unsigned char *file;
        spec.type = build_types[i].id;
        file = model_build(&spec, &bytes);
        model_ids(ids, 12, 61, (uint64_t)i);
        every_split(build_types[i].name, file, bytes, NULL, SMOLQ_KV_F16, ids, 12, 0);
        free(file);
    }
}

static void bundled(void)
{
    int32_t ids[24];
    model_ids(ids, 24, 4080, 1);
    every_split("smolq-tales", NULL, 0, "examples/models/smolq-tales.Q4_K_M.gguf", SMOLQ_KV_F16, ids, 24, is_long() ? N_MANNERS : 0);
}

/* ---- devices ---- */

static void self_test(void)
{
    smolq_device *device = NULL;
    smolq_error err;
    uint64_t most = 4 << 20;
    far_reset();
    far.limit = most;
    REQUIRE(smolq_device_open(far_backend(), NULL, &device, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(device->exact && far.n_allocs == 1 && far.n_blocks == 0 && far.n_loads == 0 && far.used == 0, "exact %d, %d blocks and %d models are left", (int)device->exact, far.n_blocks, far.n_loads);
    smolq_device_close(device);
    far.canonical_off = 1;
    REQUIRE(smolq_device_open(far_backend(), NULL, &device, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(!device->exact, "a device that computes otherwise says it is exact");
    smolq_device_close(device);
    far.canonical_off = 0;
    far.limit = 1;
    REQUIRE(smolq_device_open(far_backend(), NULL, &device, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(!device->exact && far.used == 0, "a device without memory for the self-test says it is exact");
    smolq_device_close(device);
    CHECK(far.n_open == 0 && far.n_taken == 0, "a device is left open or taken");
}

/* Two models on one device: one closes while the other goes on; and an evaluation that finds the device taken gives the host back. */
static void shared_device(void)
{
    static const model_spec spec = { .family = "llama", .n_head = 2, .n_layer = 2 };
    static const int32_t ids[] = { 5, 6, 7, 8 };
    smolq_device *device = NULL;
    smolq_model *model[2] = { NULL, NULL };
    smolq_context *context[2] = { NULL, NULL };
    smolq_error err;
    smolq_eval_options no_wait;
    smolq_result result;
    float logits[2][61];
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    smolq_eval_item item;
    place p;
    int i;
    far_reset();
    err.text[0] = 0;
    memset(&no_wait, 0, sizeof no_wait);
    no_wait.no_wait = 1;
    if (smolq_device_open(far_backend(), NULL, &device, &err)) CHECK(0, "%s", err.text);
    for (i = 0; i < 2; i++) {
        place_init(&p, file, bytes, NULL, i ? 1 : -1);
        p.options.allocator.alloc = NULL;
        p.options.device = device;
        model[i] = place_open(&p, &err);
        CHECK(model[i] && smolq_context_open(model[i], NULL, &context[i], &err) == SMOLQ_OK, "%s", err.text);
    }
    for (i = 0; i < 2; i++) {
        item = plain_item(context[i], ids, 4);
        item.logits = logits[i];
        far.busy = 1;
        result = smolq_eval(&item, 1, &no_wait, &err);
        CHECK(result == SMOLQ_E_BUSY && far.n_near_taken == 0 && far.n_taken == 0, "a device in use gives %s; host taken %d times", smolq_result_name(result), far.n_near_taken);
        far.busy = 0;
        result = smolq_eval(&item, 1, &no_wait, &err);
        CHECK(result == SMOLQ_OK, "%s", err.text);
        smolq_context_close(context[i]);
        smolq_close(model[i]);
    }
    CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0, "two models of one file differ");
    smolq_device_close(device);
    expect_nothing(&p, "two models");
    free(file);
}

/* A step does some work however long the device takes to begin: else slices shorter than that would never come to an end. */
static void slow_device(void)
{
    static const model_spec spec = { .family = "llama", .n_layer = 2, .n_head = 2, .n_embd = 16, .n_ff = 16 };
    static const int32_t ids[] = { 5, 6, 7, 8 };
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    smolq_context *context = NULL;
    smolq_evaluation e;
    smolq_eval_item item;
    smolq_result result = SMOLQ_MORE;
    smolq_model *model;
    smolq_error err;
    place p;
    int steps = 0;
    far_reset();
    memset(&e, 0, sizeof e);
    far.slow_us = 20;
    place_init(&p, file, bytes, NULL, 1);
    model = place_open(&p, &err);
    CHECK(model && smolq_context_open(model, NULL, &context, &err) == SMOLQ_OK, "%s", err.text);
    if (context) {
        item = plain_item(context, ids, 4);
        CHECK(smolq_eval_begin(&e, &item, 1, NULL, &err) == SMOLQ_OK, "%s", err.text);
        while (result == SMOLQ_MORE && steps++ < 5000) result = smolq_eval_step(&e, 1, &err);
        CHECK(result == SMOLQ_OK && steps > 50, "after %d steps of a microsecond: %s", steps, smolq_result_name(result));
        smolq_eval_cancel(&e);
    }
    smolq_context_close(context);
    smolq_close(model);
    expect_nothing(&p, "a slow device");
    free(file);
}

/* ---- memory ---- */

/* What the plan says is what is allocated, on both sides, at every split; evaluation allocates nothing on either. */
static void exact_plans(void)
{
    static const model_spec specs[] = { { .family = "gpt-oss", .n_layer = 3, .untied = 1 }, { .family = "llama", .n_layer = 2, .tokenizer = 1 } };
    static const int32_t n_ctx[] = { 0, 1, 100 }, n_batch[] = { 0, 1, 33 };
    size_t i, bytes;
    int32_t host, a, b;
    for (i = 0; i < sizeof specs / sizeof *specs; i++)
        for (host = -1; host <= specs[i].n_layer; host++) {
            unsigned char *file = model_build(&specs[i], &bytes);
            smolq_model *model;
            smolq_error err;
            smolq_info info;
            place p;
            far_reset();
            place_init(&p, file, bytes, NULL, host);
            model = place_open(&p, &err);
            CHECK(model != NULL, "%s: %s", specs[i].family, err.text);
            for (a = 0; model && a < 3; a++)
                for (b = 0; b < 3; b++) {
                    smolq_context_options options;
                    smolq_context *context = NULL;
                    smolq_memory plan;
                    uint64_t before = far.used;
                    size_t host_before = p.c.live;
                    int n_allocs;
                    size_t calls;
                    static const int32_t ids[] = { 9, 8, 7, 6 };
                    smolq_eval_item item;
                    memset(&options, 0, sizeof options);
                    memset(&plan, 0, sizeof plan);
                    options.n_ctx = n_ctx[a];
                    options.n_batch = n_batch[b];
                    CHECK(smolq_plan(model, &options, &plan, &err) == SMOLQ_OK && far.used == before, "plan: %s", err.text);
                    options.max_bytes = plan.host_bytes + plan.device_bytes - 1;
                    CHECK(smolq_context_open(model, &options, &context, &err) == SMOLQ_E_MEMORY && !context && far.used == before, "max_bytes one below the plan does not refuse");
                    options.max_bytes++;
                    CHECK(smolq_context_open(model, &options, &context, &err) == SMOLQ_OK, "open: %s", err.text);
                    if (!context) continue;
                    CHECK(plan.device_bytes == far.used - before && plan.host_bytes == p.c.live - host_before, "%s, %d host layers, n_ctx %d, n_batch %d: planned %llu and %llu bytes, allocated %llu and %llu",
                          specs[i].family, (int)host, (int)n_ctx[a], (int)n_batch[b], (unsigned long long)plan.device_bytes, (unsigned long long)plan.host_bytes,
                          (unsigned long long)(far.used - before), (unsigned long long)(p.c.live - host_before));
                    CHECK(plan.kv_bytes + plan.scratch_bytes + plan.logits_bytes <= plan.host_bytes + plan.device_bytes, "the parts of the plan are more than the whole");
                    n_allocs = far.n_allocs;
                    calls = p.c.calls;
                    item = plain_item(context, ids, n_ctx[a] == 1 ? 1 : 4);
                    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK && far.n_allocs == n_allocs && p.c.calls == calls, "an evaluation allocates: %s", err.text);
                    smolq_context_close(context);
                    CHECK(far.used == before && p.c.live == host_before, "closing leaves something");
                }
            if (model) { /* a judgement without loading says the same */
                smolq_open_options judge = p.options;
                smolq_memory plan;
                memset(&info, 0, sizeof info);
                memset(&plan, 0, sizeof plan);
                judge.device = model->device;
                judge.host_backend = NULL;
                CHECK(smolq_plan(model, NULL, &plan, &err) == SMOLQ_OK && smolq_probe(NULL, &judge, &info, &err) == SMOLQ_OK && info.runnable, "probe: %s%s", err.text, info.reason);
                CHECK(info.device_bytes == smolq_model_info(model)->device_bytes && info.host_layers == smolq_model_info(model)->host_layers, "probe: %d host layers, %llu bytes",
                      (int)info.host_layers, (unsigned long long)info.device_bytes);
                if (host <= 0) CHECK(info.context_bytes == plan.host_bytes + plan.device_bytes, "probe: a context of %llu bytes", (unsigned long long)info.context_bytes);
            }
            smolq_close(model);
            expect_nothing(&p, specs[i].family);
            free(file);
        }
}

/* The device gets smaller: layer after layer stays on the host, to the byte as the weights and a default context say, until nothing fits. */
static void too_little_memory(void)
{
    static const model_spec spec = { .family = "qwen3", .n_layer = 4, .head_dim = 32 };
    uint64_t needed[5], context_bytes = 0;
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    smolq_model *model;
    smolq_context *context = NULL, *second = NULL;
    smolq_memory plan;
    smolq_error err;
    smolq_info info;
    place p;
    int32_t host;
    far_reset();
    for (host = 0; host <= 4; host++) {
        place_init(&p, file, bytes, NULL, host ? host : -1);
        model = place_open(&p, &err);
        REQUIRE(model && smolq_plan(model, NULL, &plan, &err) == SMOLQ_OK, "%s", err.text);
        needed[host] = smolq_model_info(model)->device_bytes + plan.device_bytes;
        if (host == 0) context_bytes = plan.device_bytes;
        CHECK(host == 0 || needed[host] < needed[host - 1], "%d layers on the host need %llu bytes", (int)host, (unsigned long long)needed[host]);
        smolq_close(model);
    }
    for (host = 0; host <= 4; host++) {
        far.limit = needed[host];
        place_init(&p, file, bytes, NULL, 0);
        model = place_open(&p, &err);
        CHECK(model && smolq_model_info(model)->host_layers == host, "%llu bytes free: %s, %d layers on the host, expected %d", (unsigned long long)far.limit, err.text,
              model ? (int)smolq_model_info(model)->host_layers : -1, (int)host);
        if (model) {
            CHECK(smolq_context_open(model, NULL, &context, &err) == SMOLQ_OK && far.used == far.limit, "the context that was planned for: %s", err.text);
            CHECK(smolq_context_open(model, NULL, &second, &err) == SMOLQ_E_MEMORY && !second && strstr(err.text, "device memory") && strstr(err.text, "n_ctx"), "a second context: %s", err.text);
            CHECK(far.used == far.limit, "a context that does not open leaves something");
            smolq_context_close(context);
        }
        smolq_close(model);
        expect_nothing(&p, "as much as needed");
        place_init(&p, file, bytes, NULL, host ? host : -1); /* one byte less than what was asked for */
        far.limit = needed[host] - 1;
        model = place_open(&p, &err);
        CHECK(!model && err.code == SMOLQ_E_MEMORY && strstr(err.text, "device memory") && strstr(err.text, host < 4 ? "host_layers" : "free some"), "one byte less: %s", err.text);
        expect_nothing(&p, "a byte less");
    }
    far.limit = needed[4] - 1; /* whatever stays on the host */
    place_init(&p, file, bytes, NULL, 0);
    CHECK(!place_open(&p, &err) && err.code == SMOLQ_E_MEMORY, "nothing fits: %s", err.text);
    expect_nothing(&p, "nothing fits");
    far.limit = needed[0] + 100; /* all would fit, but more is reserved */
    p.options.device_reserve = context_bytes + 101;
    model = place_open(&p, &err);
    CHECK(model && smolq_model_info(model)->host_layers > 0 && far.limit - far.used >= p.options.device_reserve, "device_reserve: %s", err.text);
    if (model) {
        smolq_open_options judge = p.options;
        judge.device = model->device;
        judge.host_layers = -1;
        memset(&info, 0, sizeof info);
        CHECK(smolq_probe(NULL, &judge, &info, &err) == SMOLQ_OK && !info.runnable && strstr(info.reason, "device memory"), "a probe on a full device: %s", info.reason);
    }
    smolq_close(model);
    expect_nothing(&p, "device_reserve");
    far.limit = 0;
    p.options.device_reserve = UINT64_MAX;
    CHECK(!place_open(&p, &err) && err.code == SMOLQ_E_MEMORY, "2^64 - 1 reserved bytes: %s", err.text);
    expect_nothing(&p, "too much reserved");
    free(file);
}

static void wrong_options(void)
{
    static const model_spec spec = { .family = "llama", .n_layer = 2 };
    static const int32_t wrong[] = { -2, 3, INT32_MAX, INT32_MIN };
    size_t bytes, i;
    unsigned char *file = model_build(&spec, &bytes);
    smolq_model *model;
    smolq_error err;
    place p;
    far_reset();
    for (i = 0; i < 4; i++) {
        place_init(&p, file, bytes, NULL, wrong[i]);
        CHECK(!place_open(&p, &err) && err.code == SMOLQ_E_ARGUMENT && strstr(err.text, "host_layers"), "host_layers %d: %s", (int)wrong[i], err.text);
        expect_nothing(&p, "a wrong host_layers");
    }
    place_init(&p, file, bytes, NULL, 1);
    p.options.host_backend = far_backend();
    CHECK(!place_open(&p, &err) && err.code == SMOLQ_E_ARGUMENT && strstr(err.text, "host_backend"), "a host with memory of its own: %s", err.text);
    expect_nothing(&p, "a wrong host");
    place_init(&p, file, bytes, NULL, 1); /* a backend on the host has all layers, whatever is asked */
    p.options.backend = near_backend();
    model = place_open(&p, &err);
    CHECK(model && smolq_model_info(model)->host_layers == 2 && smolq_model_info(model)->device_bytes == 0 && !strstr(smolq_model_report(model), "device:"), "a host alone: %s", err.text);
    smolq_close(model);
    expect_nothing(&p, "a host alone");
    free(file);
}

typedef struct watch { int calls, stop_at; float last; int falls; } watch;
static int watch_progress(void *user, float done)
{
    watch *w = (watch *)user;
    if (done < w->last) w->falls++;
    w->last = done;
    return ++w->calls == w->stop_at;
}

static void progress_and_cancel(void)
{
    static const model_spec spec = { .family = "llama", .n_layer = 2 };
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    smolq_model *model;
    smolq_error err;
    watch all = { 0, 0, 0, 0 };
    place p;
    int i;
    far_reset();
    place_init(&p, file, bytes, NULL, 1);
    p.options.progress = watch_progress;
    p.options.user = &all;
    model = place_open(&p, &err);
    CHECK(model && all.calls > 5 && all.last == 1 && !all.falls, "%d reports, the last %g; %s", all.calls, all.last, err.text);
    smolq_close(model);
    for (i = 1; i <= all.calls; i++) {
        watch w = { 0, 0, 0, 0 };
        w.stop_at = i;
        p.options.user = &w;
        CHECK(!place_open(&p, &err) && err.code == SMOLQ_E_CANCELLED, "report %d: %s", i, err.text);
        expect_nothing(&p, "cancelled");
    }
    free(file);
}

/* ---- numbers that are none, on either side of the border ---- */

static void not_numbers(void)
{
    static const struct { const char *tensor; size_t at; } damage[] = { { "token_embd.weight", 9 * 64 * 4 }, { "blk.0.attn_k.weight", 8 }, { "blk.1.ffn_down.weight", 0 }, { "blk.2.attn_v.weight", 4 }, { "output.weight", 40 } };
    static const model_spec spec = { .family = "llama", .n_layer = 3, .untied = 1 };
    static const unsigned char nan32[4] = { 0, 0, 0xc0, 0x7f };
    static const int32_t ids[] = { 5, 9, 7 };
    const size_t n_damages = sizeof damage / sizeof *damage;
    size_t i;
    int32_t host, drawn = -5;
    for (i = 0; i < 3 * n_damages - 1; i++) /* with logits; with a token drawn from them; then without, where the last one is not seen and the device may have nothing to do */
        for (host = -1; host <= 3; host++) {
            const char *name = damage[i % n_damages].tensor;
            size_t bytes;
            unsigned char *file = model_build(&spec, &bytes);
            smolq_tensor_info tensor;
            smolq_context *context = NULL;
            smolq_model *model;
            smolq_eval_item item;
            smolq_gguf *gguf;
            smolq_error err;
            place p;
            far_reset();
            place_init(&p, file, bytes, NULL, host);
            REQUIRE(smolq_gguf_open(NULL, &p.options, &gguf, &err) == SMOLQ_OK && smolq_gguf_find_tensor(gguf, name, &tensor, &err) == SMOLQ_OK, "%s", err.text);
            memcpy(file + (tensor.data - file) + damage[i % n_damages].at, nan32, 4);
            smolq_gguf_close(gguf);
            model = place_open(&p, &err);
            CHECK(model && smolq_context_open(model, NULL, &context, &err) == SMOLQ_OK, "%s", err.text);
            if (context) {
                item = plain_item(context, ids, 3);
                item.want = i < n_damages ? SMOLQ_LOGITS_LAST : i < 2 * n_damages ? SMOLQ_LOGITS_SAMPLE : SMOLQ_LOGITS_NONE;
                item.id = &drawn;
                CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_NUMERIC && drawn == -5 && smolq_context_length(context) == 0, "%s, %d host layers: %s", name, (int)host, err.text);
            }
            smolq_context_close(context);
            smolq_close(model);
            expect_nothing(&p, name);
            free(file);
        }
}

/* ---- tokens drawn where the logits are ---- */

static void drawn_there(void)
{
    static const model_spec spec = { .family = "llama", .n_layer = 2 };
    smolq_error err;
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    place p;
    smolq_model *ref, *model;
    int32_t host;
    smolq_eval_options hooked;
    int asked = 0;
    memset(&hooked, 0, sizeof hooked);
    hooked.cancel = drawn_often;
    hooked.user = &asked;
    for (host = -1; host <= 2; host++) { /* 0: no device, the reference backend against itself */
        far_reset();
        place_init(&p, file, bytes, NULL, host);
        model = NULL;
        if (!host) p.options.backend = NULL;
        model = place_open(&p, &err);
        p.options.backend = NULL;
        ref = place_open(&p, &err);
        REQUIRE(ref && model, "%s", err.text);
        drawn_tokens(host ? "the far device" : "the reference backend", ref, model, 60, 1, 0, NULL);
        drawn_in_turn("in turn", ref, model, 100);
        drawn_tokens("several at once", ref, model, 10, DRAWN_CHAINS, 0, &hooked);
        drawn_tokens("in small batches", ref, model, 10, 5, 4, NULL);
        CHECK(host ? far.n_answers > 60 * 8 : far.n_answers == 0, "%ld rows of logits stayed where they are", far.n_answers);
        smolq_close(model);
        smolq_close(ref);
        expect_nothing(&p, "drawing tokens");
    }
    free(file);
}

/* The second of two can't be drawn: nobody sees the first one's token, and both contexts are as before. */
static void not_drawn(void)
{
    static const model_spec spec = { .family = "llama", .n_layer = 2 };
    static const int32_t ids[] = { 5, 9, 7 };
    smolq_logit_bias bans[61];
    smolq_sampler_step steps[2];
    smolq_sampler_options options;
    smolq_sampler *s = NULL;
    smolq_eval_item items[2];
    smolq_error err;
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    int32_t host, i, drawn[2] = { -5, -6 };
    memset(steps, 0, sizeof steps);
    memset(&options, 0, sizeof options);
    for (i = 0; i < 61; i++) {
        bans[i].id = i;
        bans[i].bias = -INFINITY;
    }
    steps[0].kind = SMOLQ_SAMPLE_TOP_K;
    steps[0].n = 5;
    steps[1].kind = SMOLQ_SAMPLE_LOGIT_BIAS;
    steps[1].n = 61;
    steps[1].data = bans;
    options.steps = steps;
    options.n_steps = 2;
    if (smolq_sampler_open(61, &options, &s, &err)) CHECK(0, "%s", err.text);
    for (host = -1; host <= 1; host++) {
        smolq_context *context[2] = { NULL, NULL };
        smolq_model *model;
        place p;
        far_reset();
        place_init(&p, file, bytes, NULL, host);
        if (!host) p.options.backend = NULL;
        model = place_open(&p, &err);
        for (i = 0; i < 2; i++) {
            CHECK(model && smolq_context_open(model, NULL, &context[i], &err) == SMOLQ_OK, "%s", err.text);
            items[i] = plain_item(context[i], ids, 3);
            items[i].want = SMOLQ_LOGITS_SAMPLE;
            items[i].id = &drawn[i];
        }
        items[1].sampler = s;
        CHECK(smolq_eval(items, 2, NULL, &err) == SMOLQ_E_NUMERIC && strstr(err.text, "left no token"), "%s", err.text);
        CHECK(drawn[0] == -5 && drawn[1] == -6 && smolq_context_length(context[0]) == 0 && smolq_context_length(context[1]) == 0, "a token or a context has changed");
        for (i = 0; i < 2; i++) smolq_context_close(context[i]);
        smolq_close(model);
        expect_nothing(&p, "a token that can't be drawn");
    }
    smolq_sampler_close(s);
    free(file);
}

/* ---- every call fails in turn ---- */

enum { LONG = 30, MORE = 5 };

/* Evaluates n tokens; one that fails must leave the context as it was, and is tried again. */
static int eval_twice(smolq_context *context, const int32_t *ids, int n, float *logits, const char *what)
{
    smolq_eval_item item = plain_item(context, ids, n);
    int32_t length = smolq_context_length(context);
    smolq_error err;
    item.logits = logits;
    err.code = 0;
    if (smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK) return 1;
    CHECK(err.code == SMOLQ_E_DEVICE && smolq_context_length(context) == length, "call %ld, %s: %s", far.fail_at, what, err.text);
    return smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK;
}

/* A model, two contexts, a fork, and the logits of three evaluations into out; what fails is tried once more. */
static int a_life(place *p, float *out)
{
    static const int32_t ids[LONG + MORE] = { 5, 9, 20, 33, 4, 58, 41, 17, 8, 30, 12, 45, 21, 6, 60, 37, 19, 50, 11, 28, 7, 44, 31, 15, 52, 24, 10, 39, 48, 27, 13, 22, 55, 18, 36 };
    smolq_context_options options;
    smolq_context *a = NULL, *b = NULL;
    smolq_error err;
    smolq_model *model = place_open(p, &err);
    int done = 0;
    memset(&options, 0, sizeof options);
    options.n_ctx = 2 * LONG;
    options.n_batch = 7;
    if (!model) {
        CHECK(far.used == 0 && far.n_open == 0 && p->c.live == 0, "call %ld: a model that did not open leaves something", far.fail_at);
        model = place_open(p, &err);
    }
    if (!model) return 0;
    if (smolq_context_open(model, &options, &a, &err)) {
        CHECK(!a && far.n_blocks == 0, "call %ld: a context that did not open leaves something", far.fail_at);
        if (smolq_context_open(model, &options, &a, &err)) goto failed;
    }
    options.n_batch = 4; /* rings of another size */
    if (smolq_context_open(model, &options, &b, &err) && smolq_context_open(model, &options, &b, &err)) goto failed;
    if (!eval_twice(a, ids, LONG, out, "a long prompt") || !eval_twice(b, ids, MORE, out + 61, "a short prompt")) goto failed;
    if (smolq_context_fork(b, a, &err)) { /* b goes on as if nothing had been: the same token twice, then back */
        CHECK(err.code == SMOLQ_E_DEVICE && smolq_context_length(b) == MORE, "call %ld, fork: %s", far.fail_at, err.text);
        if (!eval_twice(b, ids + MORE, 1, out + 122, "after a fork that failed")) goto failed;
        if (smolq_context_truncate(b, MORE, &err) || smolq_context_fork(b, a, &err)) goto failed;
    } else {
        smolq_context *c = NULL;
        if (smolq_context_open(model, &options, &c, &err) && smolq_context_open(model, &options, &c, &err)) goto failed;
        if (!eval_twice(c, ids, MORE + 1, out + 122, "a context beside it")) CHECK(0, "call %ld: %s", far.fail_at, err.text);
        smolq_context_close(c);
    }
    if (!eval_twice(b, ids + LONG, MORE, out + 183, "the fork")) goto failed;
    if (smolq_context_truncate(a, LONG / 3, &err)) goto failed; /* has left the rings: it is fed again */
    done = eval_twice(a, ids + LONG / 3, 3, out + 244, "after a truncation");
failed:
    CHECK(done, "call %ld: %s", far.fail_at, err.text);
    smolq_context_close(a);
    smolq_context_close(b);
    smolq_close(model);
    return done;
}

static void failing_calls(void)
{
    static const model_spec spec = { .family = "gemma3", .n_layer = 3, .head_dim = 16, .extra = { { "attention.sliding_window", 'u', 5 } } };
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    float expected[5 * 61], out[5 * 61];
    int32_t host;
    long n_failed = 0;
    for (host = -1; host <= 3; host++) {
        place p;
        long call, last;
        if (host == 0) continue;
        far_reset();
        place_init(&p, file, bytes, NULL, host);
        p.options.backend = NULL; /* what the reference backend says */
        if (host < 0) CHECK(a_life(&p, expected), "the reference backend");
        place_init(&p, file, bytes, NULL, host);
        CHECK(a_life(&p, out) && memcmp(out, expected, sizeof out) == 0, "%d host layers: other logits", (int)host);
        last = far.n_calls;
        for (call = 1; call <= last; call += is_long() || call < 40 ? 1 : 1 + (long)(rotation() % 3)) {
            far_reset();
            far.fail_at = call;
            place_init(&p, file, bytes, NULL, host);
            memset(out, 0, sizeof out);
            CHECK(a_life(&p, out) && memcmp(out, expected, sizeof out) == 0, "%d host layers, call %ld fails: other logits", (int)host, call);
            expect_nothing(&p, "a failing call");
            n_failed++;
        }
    }
    printf("# %ld calls failed\n", n_failed);
    free(file);
}

static long host_allocs, host_fails_at;
static void *alloc_but_one(void *user, size_t bytes) { return ++host_allocs == host_fails_at ? NULL : counted_alloc(user, bytes); }

/* The host runs out of memory while a model or a context opens: an error, or a device whose self-test had no room; nothing is left on either side. */
static void failing_allocations(void)
{
    static const model_spec spec = { .family = "llama", .n_layer = 2, .tokenizer = 1 };
    size_t bytes;
    unsigned char *file = model_build(&spec, &bytes);
    long all = 1;
    far_reset();
    for (host_fails_at = 0; host_fails_at <= all; host_fails_at++) {
        smolq_context *context = NULL;
        smolq_model *model;
        smolq_error err;
        place p;
        place_init(&p, file, bytes, NULL, 1);
        p.options.allocator.alloc = alloc_but_one;
        host_allocs = 0;
        err.code = 0;
        model = place_open(&p, &err);
        if (model) smolq_context_open(model, NULL, &context, &err);
        CHECK(context || (host_fails_at && err.code == SMOLQ_E_MEMORY), "allocation %ld: %s", host_fails_at, err.text);
        if (host_fails_at == 0) all = host_allocs;
        smolq_context_close(context);
        smolq_close(model);
        expect_nothing(&p, "a failing allocation");
    }
    CHECK(all > 10, "%ld allocations", all);
    free(file);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "models written here have the reference's hash at every split", written_models },
        { "each type has the reference's hash", written_types },
        { "the bundled model has the reference's hash at every split", bundled },
        { "the self-test of a device with its own memory", self_test },
        { "two models share a device", shared_device },
        { "slices shorter than the device takes to begin come to an end", slow_device },
        { "plans and loads are exact on both sides", exact_plans },
        { "layers stay on the host where memory is short, and errors say what is missing", too_little_memory },
        { "options that can't be are refused", wrong_options },
        { "the load reports its progress and can be cancelled", progress_and_cancel },
        { "NaN in weights is found on either side", not_numbers },
        { "tokens drawn where the logits are", drawn_there },
        { "a token that can't be drawn", not_drawn },
        { "every call of the device fails in turn", failing_calls },
        { "every allocation of the host fails in turn", failing_allocations },
    };
    printf("     SMOLQ_SEED=%llu\n", (unsigned long long)rotation());
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
