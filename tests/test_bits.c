/* The same bits: however an evaluation is cut up, shared, interrupted or repeated, the logits of every position have one hash.  And what stands beside
 * that promise: evaluation allocates nothing, the plan is exact, and an error leaves every context as it was.
 *
 * make test-long (SMOLQ_LONG=1) crosses every model with every manner and every type of KV cache.  Otherwise the models written here take all manners,
 * and the many others a few each, in rotation by SMOLQ_SEED or the day; the seed is printed. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "test.h"
#include "naive.h"
#include "model_build.h"
#include <time.h>

static int is_long(void) { return getenv("SMOLQ_LONG") != NULL; }
static uint64_t rotation(void)
{
    const char *seed = getenv("SMOLQ_SEED");
    return seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) / 86400;
}

static uint64_t fnv1a(const void *bytes, size_t n)
{
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    for (; n; n--) hash = (hash ^ *p++) * 0x100000001b3u;
    return hash;
}

/* ---- what is evaluated, and how ---- */

typedef struct subject {
    smolq_model   *model;
    int32_t        n_vocab, kv_type;
    const int32_t *ids;       /* [n] */
    int            n;
    float         *out;       /* [n][n_vocab]: a manner fills it */
    uint64_t       rng;
    smolq_error    err;
} subject;

#define TRY(call) do { if ((call) != SMOLQ_OK) goto failed; } while (0)
#define EXPECT(condition) do { if (!(condition)) { snprintf(s->err.text, sizeof s->err.text, "line %d: not so: %s", __LINE__, #condition); goto failed; } } while (0)

static int32_t random_below(subject *s, int32_t n) { return (int32_t)(build_random(&s->rng) % (uint64_t)n); }

static smolq_result open_context(subject *s, int32_t n_ctx, int32_t n_batch, smolq_context **context)
{
    smolq_context_options options;
    memset(&options, 0, sizeof options);
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    options.kv_type = s->kv_type;
    return smolq_context_open(s->model, &options, context, &s->err);
}

static smolq_eval_item item_of(subject *s, smolq_context *context, int at, int n, int want) /* ids[at .. at + n - 1], all logits to their place in out */
{
    smolq_eval_item item;
    item.context = context;
    item.tokens = s->ids + at;
    item.n_tokens = n;
    item.want = want;
    item.logits = want == SMOLQ_LOGITS_ALL ? s->out + (size_t)at * (size_t)s->n_vocab : NULL;
    return item;
}

static smolq_result eval_all(subject *s, smolq_context *context, int at, int n)
{
    smolq_eval_item item = item_of(s, context, at, n, SMOLQ_LOGITS_ALL);
    return smolq_eval(&item, 1, NULL, &s->err);
}

static smolq_result eval_junk(subject *s, smolq_context *context, int n, int not_first) /* random tokens; the first is not not_first */
{
    int32_t junk[64];
    smolq_eval_item item = { context, junk, n, SMOLQ_LOGITS_NONE, NULL, NULL, NULL };
    int i;
    for (i = 0; i < n; i++) junk[i] = random_below(s, s->n_vocab);
    if (junk[0] == not_first) junk[0] = (junk[0] + 1) % s->n_vocab;
    return smolq_eval(&item, 1, NULL, &s->err);
}

static int in_one_call(subject *s)
{
    smolq_context *context = NULL;
    int done = 0;
    TRY(open_context(s, s->n, 0, &context));
    TRY(eval_all(s, context, 0, s->n));
    EXPECT(smolq_context_length(context) == s->n);
    done = 1;
failed:
    smolq_context_close(context);
    return done;
}

static int in_batches_of(subject *s, int n_batch, int n_ctx)
{
    smolq_context *context = NULL;
    int done = 0;
    TRY(open_context(s, n_ctx, n_batch, &context));
    TRY(eval_all(s, context, 0, s->n));
    done = 1;
failed:
    smolq_context_close(context);
    return done;
}
static int in_batches_of_1(subject *s) { return in_batches_of(s, 1, s->n); }
static int in_batches_of_2(subject *s) { return in_batches_of(s, 2, s->n + 1); }
static int in_batches_of_7(subject *s) { return in_batches_of(s, 7, 2 * s->n); }
static int in_a_large_context(subject *s) { return in_batches_of(s, 300, 1000); }

static int token_by_token(subject *s)
{
    smolq_context *context = NULL;
    int done = 0, i;
    TRY(open_context(s, s->n, 0, &context));
    for (i = 0; i < s->n; i++) {
        smolq_eval_item item = item_of(s, context, i, 1, SMOLQ_LOGITS_LAST); /* kept in the context */
        TRY(smolq_eval(&item, 1, NULL, &s->err));
        EXPECT(smolq_context_logits(context) != NULL);
        memcpy(s->out + (size_t)i * (size_t)s->n_vocab, smolq_context_logits(context), sizeof(float) * (size_t)s->n_vocab);
    }
    done = 1;
failed:
    smolq_context_close(context);
    return done;
}

static int in_random_pieces(subject *s)
{
    smolq_context *context = NULL;
    int done = 0, at, n;
    TRY(open_context(s, s->n, 1 + random_below(s, 9), &context));
    for (at = 0; at < s->n; at += n) {
        n = 1 + random_below(s, 20);
        if (n > s->n - at) n = s->n - at;
        TRY(eval_all(s, context, at, n));
    }
    done = 1;
failed:
    smolq_context_close(context);
    return done;
}

static int after_a_reused_prefix(subject *s)
{
    smolq_context *context = NULL;
    int done = 0, half = 1 + random_below(s, s->n - 2);
    size_t kept = 0;
    TRY(open_context(s, s->n + 8, 0, &context));
    TRY(eval_all(s, context, 0, half));
    TRY(eval_junk(s, context, 5, s->ids[half]));
    TRY(smolq_context_reuse(context, s->ids, (size_t)s->n, &kept, &s->err));
    EXPECT((int)kept == half && smolq_context_length(context) == half);
    TRY(eval_all(s, context, half, s->n - half));
    TRY(smolq_context_reuse(context, s->ids, (size_t)s->n, &kept, &s->err)); /* all of it is there: one token is left to evaluate */
    EXPECT((int)kept == s->n - 1);
    TRY(eval_all(s, context, s->n - 1, 1));
    done = 1;
failed:
    smolq_context_close(context);
    return done;
}

static int after_a_truncation(subject *s)
{
    smolq_context *context = NULL;
    int done = 0, half = 1 + random_below(s, s->n - 2);
    smolq_eval_item item;
    TRY(open_context(s, s->n + 70, 0, &context));
    TRY(eval_junk(s, context, 60, -1));
    TRY(smolq_context_truncate(context, 0, &s->err));
    item = item_of(s, context, 0, half, SMOLQ_LOGITS_LAST);
    TRY(smolq_eval(&item, 1, NULL, &s->err));
    EXPECT(smolq_context_logits(context) != NULL);
    TRY(smolq_context_truncate(context, half / 2, &s->err));
    EXPECT(smolq_context_logits(context) == NULL && smolq_context_length(context) == half / 2);
    TRY(eval_junk(s, context, 9, -1));
    TRY(smolq_context_truncate(context, half / 2, &s->err));
    TRY(eval_all(s, context, half / 2, s->n - half / 2));
    TRY(smolq_context_truncate(context, 0, &s->err));
    if (half / 2) TRY(eval_all(s, context, 0, half / 2));
    done = 1;
failed:
    smolq_context_close(context);
    return done;
}

static int in_a_fork(subject *s)
{
    smolq_context *a = NULL, *b = NULL;
    int done = 0, half = 1 + random_below(s, s->n - 2);
    smolq_eval_item item;
    TRY(open_context(s, s->n + 20, 0, &a));
    TRY(open_context(s, s->n, 5, &b)); /* cells and batches of another size */
    TRY(eval_junk(s, b, 3, -1));
    TRY(eval_all(s, a, 0, half));
    TRY(smolq_context_fork(b, a, &s->err));
    EXPECT(smolq_context_length(b) == half);
    TRY(eval_junk(s, a, 7, -1)); /* the original goes its own way */
    TRY(eval_all(s, b, half, s->n - half));
    TRY(smolq_context_truncate(a, 0, &s->err));
    item = item_of(s, a, 0, half, SMOLQ_LOGITS_LAST);
    TRY(smolq_eval(&item, 1, NULL, &s->err));
    TRY(smolq_context_fork(b, a, &s->err));
    EXPECT(memcmp(smolq_context_logits(b), s->out + (size_t)(half - 1) * (size_t)s->n_vocab, sizeof(float) * (size_t)s->n_vocab) == 0);
    done = 1;
failed:
    smolq_context_close(a);
    smolq_context_close(b);
    return done;
}

static int among_other_contexts(subject *s)
{
    smolq_context *c[3] = { NULL, NULL, NULL };
    int32_t junk[30];
    float *last = (float *)malloc(sizeof(float) * (size_t)s->n_vocab);
    smolq_eval_item items[3];
    int done = 0, i, half = 1 + random_below(s, s->n - 2);
    size_t row = sizeof(float) * (size_t)s->n_vocab;
    for (i = 0; i < 30; i++) junk[i] = random_below(s, s->n_vocab);
    for (i = 0; i < 3; i++) TRY(open_context(s, s->n + 30, i == 0 ? 5 : 0, &c[i])); /* batches of five rows, across the borders of items */
    TRY(eval_all(s, c[2], 0, half));
    items[0] = item_of(s, c[0], 0, s->n, SMOLQ_LOGITS_LAST);
    items[0].logits = last;
    items[1].context = c[1];
    items[1].tokens = junk;
    items[1].n_tokens = 30;
    items[1].want = SMOLQ_LOGITS_LAST;
    items[1].logits = NULL;
    items[2] = item_of(s, c[2], half, s->n - half, SMOLQ_LOGITS_ALL);
    TRY(smolq_eval(items, 3, NULL, &s->err));
    EXPECT(memcmp(last, s->out + (size_t)(s->n - 1) * (size_t)s->n_vocab, row) == 0);
    EXPECT(smolq_context_length(c[0]) == s->n && smolq_context_length(c[1]) == 30 && smolq_context_length(c[2]) == s->n);
    EXPECT(smolq_context_logits(c[0]) == NULL && smolq_context_logits(c[1]) != NULL);
    memcpy(last, smolq_context_logits(c[1]), row); /* the neighbour's own logits are those of a lonely context */
    TRY(smolq_context_truncate(c[1], 0, &s->err));
    TRY(smolq_eval(&items[1], 1, NULL, &s->err));
    EXPECT(memcmp(last, smolq_context_logits(c[1]), row) == 0);
    done = 1;
failed:
    for (i = 0; i < 3; i++) smolq_context_close(c[i]);
    free(last);
    return done;
}

static int in_time_slices(subject *s)
{
    smolq_context *context = NULL, *other = NULL;
    smolq_evaluation e;
    smolq_eval_item item, second;
    smolq_result result;
    int done = 0, steps = 0;
    memset(&e, 0, sizeof e);
    TRY(open_context(s, s->n + 8, 0, &context));
    TRY(open_context(s, 8, 0, &other));
    item = item_of(s, context, 0, s->n, SMOLQ_LOGITS_ALL);
    second = item_of(s, context, 0, 1, SMOLQ_LOGITS_NONE);
    TRY(smolq_eval_begin(&e, &item, 1, NULL, &s->err));
    while ((result = smolq_eval_step(&e, 1, &s->err)) == SMOLQ_MORE) {
        steps++;
        EXPECT(smolq_context_length(context) == 0);
        if (steps == 2) { /* the context is taken; another one is free */
            EXPECT(smolq_eval(&second, 1, NULL, NULL) == SMOLQ_E_BUSY && smolq_context_truncate(context, 0, NULL) == SMOLQ_E_BUSY);
            TRY(eval_junk(s, other, 4, -1));
        }
    }
    TRY(result);
    EXPECT(steps > 2 && smolq_context_length(context) == s->n);
    done = 1;
failed:
    smolq_eval_cancel(&e);
    smolq_context_close(context);
    smolq_context_close(other);
    return done;
}

static int cancel_after(void *user) { return --*(int *)user <= 0; }

static int cancelled_and_retried(subject *s)
{
    smolq_context *context = NULL;
    smolq_evaluation e;
    smolq_eval_item item;
    smolq_eval_options options;
    smolq_result result = SMOLQ_E_CANCELLED;
    int done = 0, half = 1 + random_below(s, s->n - 2), limit, left, i;
    memset(&e, 0, sizeof e);
    memset(&options, 0, sizeof options);
    options.cancel = cancel_after;
    options.user = &left;
    TRY(open_context(s, s->n, 3, &context));
    TRY(eval_all(s, context, 0, half));
    item = item_of(s, context, half, s->n - half, SMOLQ_LOGITS_ALL);
    for (limit = 1; result == SMOLQ_E_CANCELLED; limit = limit * 3 + 1) { /* later and later, until it comes to its end */
        left = limit;
        result = smolq_eval(&item, 1, &options, &s->err);
        if (limit == 1) EXPECT(result == SMOLQ_E_CANCELLED && s->err.code == SMOLQ_E_CANCELLED);
        EXPECT(smolq_context_length(context) == (result == SMOLQ_OK ? s->n : half));
    }
    TRY(result);
    TRY(smolq_context_truncate(context, half, &s->err)); /* given up between steps */
    TRY(smolq_eval_begin(&e, &item, 1, NULL, &s->err));
    for (i = 0; i < 3; i++) EXPECT(smolq_eval_step(&e, 1, &s->err) == SMOLQ_MORE);
    smolq_eval_cancel(&e);
    EXPECT(smolq_context_length(context) == half);
    memset(item.logits, 0xff, sizeof(float) * (size_t)(s->n - half) * (size_t)s->n_vocab);
    TRY(eval_all(s, context, half, s->n - half));
    done = 1;
failed:
    smolq_eval_cancel(&e);
    smolq_context_close(context);
    return done;
}

typedef struct manner { const char *name; int (*run)(subject *s); } manner;
static const manner manners[] = { /* compared with in_one_call */
    { "token by token", token_by_token },        { "in batches of 1", in_batches_of_1 },           { "in batches of 2", in_batches_of_2 },
    { "in batches of 7", in_batches_of_7 },      { "in a large context", in_a_large_context },     { "in random pieces", in_random_pieces },
    { "after a reused prefix", after_a_reused_prefix }, { "after a truncation", after_a_truncation }, { "in a fork", in_a_fork },
    { "among other contexts", among_other_contexts },   { "in time slices", in_time_slices },      { "cancelled and retried", cancelled_and_retried }
};
enum { N_MANNERS = sizeof manners / sizeof *manners };
static const char *const kv_names[4] = { "default", "f16", "f32", "q8_0" };

/* Runs `take` of the manners, beginning at `first`, and returns the hash they share; a failure is reported under the name. */
static uint64_t one_hash(const char *name, smolq_model *model, int kv_type, const int32_t *ids, int n, int first, int take)
{
    subject s;
    size_t bytes;
    uint64_t expected, hash;
    int i;
    memset(&s, 0, sizeof s);
    s.model = model;
    s.n_vocab = smolq_model_info(model)->n_vocab;
    s.kv_type = kv_type;
    s.ids = ids;
    s.n = n;
    s.rng = rotation() + (uint64_t)first;
    bytes = sizeof(float) * (size_t)n * (size_t)s.n_vocab;
    s.out = (float *)malloc(bytes);
    memset(s.out, 0xff, bytes);
    if (!in_one_call(&s)) {
        if (s.err.code == SMOLQ_E_UNSUPPORTED && kv_type == SMOLQ_KV_Q8_0 && smolq_model_info(model)->head_dim % 32) { /* as it says */
            free(s.out);
            return 0;
        }
        CHECK(0, "%s, KV %s, in one call: %s", name, kv_names[kv_type], s.err.text);
        free(s.out);
        return 0;
    }
    expected = fnv1a(s.out, bytes);
    for (i = 0; i < take; i++) {
        const manner *m = &manners[(first + i) % N_MANNERS];
        memset(s.out, 0xff, bytes);
        s.err.text[0] = 0;
        if (!m->run(&s)) {
            CHECK(0, "%s, KV %s, %s: %s", name, kv_names[kv_type], m->name, s.err.text);
            continue;
        }
        hash = fnv1a(s.out, bytes);
        CHECK(hash == expected, "%s, KV %s, %s: hash %016llx, in one call %016llx", name, kv_names[kv_type], m->name, (unsigned long long)hash, (unsigned long long)expected);
    }
    free(s.out);
    return expected;
}

static smolq_model *open_memory(const unsigned char *file, size_t bytes, const smolq_allocator *allocator, smolq_error *err)
{
    smolq_source source = model_source(file, bytes);
    smolq_open_options options;
    smolq_model *model = NULL;
    memset(&options, 0, sizeof options);
    options.sources = &source;
    options.n_sources = 1;
    if (allocator) options.allocator = *allocator;
    err->text[0] = 0;
    smolq_open(NULL, &options, &model, err);
    return model;
}

/* ---- models written here ---- */

static void own_models(void)
{
    static const model_spec specs[] = {
        { .family = "llama", .n_embd = 48, .n_head = 2, .n_head_kv = 1, .n_ff = 50 },                            /* F32, head_dim 24 */
        { .family = "llama", .type = 1, .rope_freqs = 1, .biases = 2, .untied = 1, .n_head = 2, .n_head_kv = 1 }, /* F16 */
        { .family = "smollm3", .type = 30, .n_head = 2 },                                                         /* BF16 */
        { .family = "qwen2", .type = 8, .n_head = 2 },                                                           /* Q8_0 */
        { .family = "qwen3", .type = 2, .head_dim = 40 },                                                        /* Q4_0 */
        { .family = "qwen3moe", .type = 6, .head_dim = 32, .n_layer = 2 },                                       /* Q5_0 */
        { .family = "llama", .type = 12, .n_expert = 4, .n_embd = 256, .n_ff = 256, .n_layer = 2 },              /* Q4_K */
        { .family = "llama", .type = 1, .scaling = "yarn", .factor = 4, .original_ctx = 64, .n_head_kv = 4, .head_dim = 32 },
    };
    static const uint64_t hashes[][3] = { /* with the cache in f16, f32, q8_0: the same on every machine.  They move only with docs/arithmetic.md */
        { 0xa7346ec2b42d63b3, 0xcb31ffce251114a2, 0 },
        { 0xe6e7be6ab81f918a, 0x4a2c7dd8b3346e5a, 0x44911959aed2e671 },
        { 0xe6962c5251e5a04a, 0xced32fb08c741a4c, 0x6b6767bf62613513 },
        { 0x33c95fbec28fb98f, 0xd91da66c6052e68e, 0xb02a1e1b3997f02f },
        { 0x72635613d5c57d4b, 0x4cd22d88f24b521f, 0 },
        { 0x37da1a2af3cbec9b, 0x23a1826a96e55f1e, 0x70c8fd76eaf1a505 },
        { 0x64326f880ccd5aad, 0xd7f333b9f1e5e944, 0x4551eee4ecb2d14b },
        { 0xa8474d151b7179df, 0xd7c43597bef33938, 0x154ceefb992eb06e },
    };
    size_t i;
    int kv;
    for (i = 0; i < sizeof specs / sizeof *specs; i++)
        for (kv = SMOLQ_KV_F16; kv <= SMOLQ_KV_Q8_0; kv++) {
            int32_t ids[150];
            size_t bytes;
            char name[64];
            uint64_t hash;
            smolq_error err;
            int n = (kv + (int)i) % 3 == 0 ? 150 : 70; /* attention goes block by block of 64 positions */
            unsigned char *file = model_build(&specs[i], &bytes);
            smolq_model *model = open_memory(file, bytes, NULL, &err);
            CHECK(model != NULL, "%s: %s", specs[i].family, err.text);
            snprintf(name, sizeof name, "%s %s", specs[i].family, build_type_of(specs[i].type)->name);
            model_ids(ids, n, 61, i);
            hash = model ? one_hash(name, model, kv, ids, n, 0, N_MANNERS) : 0;
            if (getenv("SMOLQ_VERBOSE")) printf("     0x%016llx %s, KV %s\n", (unsigned long long)hash, name, kv_names[kv]);
            CHECK(hash == hashes[i][kv - 1], "%s, KV %s: hash %016llx, on other machines %016llx", name, kv_names[kv], (unsigned long long)hash, (unsigned long long)hashes[i][kv - 1]);
            smolq_close(model);
            free(file);
        }
}

/* Each quantized type in a small model: all its codes occur. */
static void own_types(void)
{
    int i, kv, take = is_long() ? N_MANNERS : 2;
    for (i = 0; i < BUILD_N_QUANTIZED; i++) {
        model_spec spec = { .family = i % 2 ? "llama" : "qwen3", .n_embd = 256, .n_ff = 256, .n_layer = 1 };
        int32_t ids[80];
        size_t bytes;
        smolq_error err;
        unsigned char *file;
        smolq_model *model;
        spec.type = build_types[i].id;
        spec.seed = (uint64_t)i;
        file = model_build(&spec, &bytes);
        model = open_memory(file, bytes, NULL, &err);
        model_ids(ids, 80, 61, (uint64_t)i);
        CHECK(model != NULL, "%s: %s", build_types[i].name, err.text);
        for (kv = SMOLQ_KV_F16; model && kv <= SMOLQ_KV_Q8_0; kv++)
            one_hash(build_types[i].name, model, kv, ids, is_long() ? 80 : 24, (int)((rotation() + (uint64_t)(i * 3 + kv) * 5) % N_MANNERS), take);
        smolq_close(model);
        free(file);
    }
}

/* ---- files ---- */

static void one_file(const char *path, const char *name, const int32_t *ids, int n, int turn)
{
    smolq_error err;
    smolq_model *model = NULL;
    int kv, all = is_long();
    smolq_open(path, NULL, &model, &err);
    CHECK(model != NULL, "%s: %s", name, err.text);
    for (kv = SMOLQ_KV_F16; model && kv <= SMOLQ_KV_Q8_0; kv++)
        if (all || (int)((rotation() + (uint64_t)turn) % 3) + 1 == kv) one_hash(name, model, kv, ids, n, (int)((rotation() + (uint64_t)turn) % N_MANNERS), all ? N_MANNERS : 2);
    smolq_close(model);
}

static void golden_files(void)
{
    const char *list = shared_path("golden/logits/peer.tsv"), *tokens = shared_path("golden/logits/tokens.txt");
    char line[256], name[96], path[128];
    int32_t ids[96];
    FILE *file;
    int n = 0, turn = 0;
    if (!list || !tokens) SKIP("no golden data");
    file = fopen(tokens, "r");
    while (n < 96 && fscanf(file, "%d", &ids[n]) == 1) n++;
    fclose(file);
    file = fopen(list, "r");
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%95s", name) != 1 || !strstr(name, ".gguf")) continue;
        snprintf(path, sizeof path, "golden/logits/%s", name);
        if (shared_path(path)) one_file(shared_path(path), name, ids, is_long() ? n : 30, turn++);
    }
    fclose(file);
    CHECK(turn >= 28, "%d golden files", turn);
}

static void bundled_model(void)
{
    const char *path = "examples/models/smolq-tales.Q4_K_M.gguf";
    FILE *file = fopen(path, "rb");
    int32_t ids[100];
    REQUIRE(file, "%s is not there", path);
    fclose(file);
    model_ids(ids, 100, 4080, 1);
    one_file(path, "smolq-tales", ids, is_long() ? 100 : 70, 0);
}

/* ---- memory ---- */

typedef struct counter { size_t calls, live; } counter;
static void *counted_alloc(void *user, size_t bytes)
{
    counter *c = (counter *)user;
    c->calls++;
    c->live += bytes;
    return malloc(bytes);
}
static void counted_release(void *user, void *memory, size_t bytes)
{
    counter *c = (counter *)user;
    c->calls++;
    c->live -= bytes;
    free(memory);
}

static void plans_are_exact(void)
{
    static const model_spec specs[] = { { .family = "llama", .tokenizer = 1 }, { .family = "qwen3moe", .type = 8, .head_dim = 32 }, { .family = "smollm3", .type = 12, .n_embd = 256, .n_ff = 256 } };
    static const int32_t n_ctx[] = { 0, 1, 7, 100, 3000 }, n_batch[] = { 0, 1, 33, 512 };
    size_t i, bytes;
    int a, b, kv;
    for (i = 0; i < sizeof specs / sizeof *specs; i++) {
        counter c = { 0, 0 };
        smolq_allocator allocator = { counted_alloc, counted_release, NULL };
        smolq_error err;
        unsigned char *file = model_build(&specs[i], &bytes);
        smolq_model *model;
        allocator.user = &c;
        model = open_memory(file, bytes, &allocator, &err);
        CHECK(model != NULL, "%s: %s", specs[i].family, err.text);
        for (a = 0; model && a < 5; a++)
            for (b = 0; b < 4; b++)
                for (kv = SMOLQ_KV_DEFAULT; kv <= SMOLQ_KV_Q8_0; kv++) {
                    smolq_context_options options;
                    smolq_memory plan;
                    smolq_context *context = NULL;
                    smolq_result result;
                    size_t before = c.live, calls = c.calls;
                    memset(&options, 0, sizeof options);
                    memset(&plan, 0, sizeof plan);
                    options.n_ctx = n_ctx[a];
                    options.n_batch = n_batch[b];
                    options.kv_type = kv;
                    result = smolq_plan(model, &options, &plan, &err);
                    if (result == SMOLQ_E_UNSUPPORTED && kv == SMOLQ_KV_Q8_0 && smolq_model_info(model)->head_dim % 32) {
                        CHECK(smolq_context_open(model, &options, &context, &err) == SMOLQ_E_UNSUPPORTED && !context, "a context opens without a plan");
                        continue;
                    }
                    CHECK(result == SMOLQ_OK && c.calls == calls, "plan: %s, %d allocations", err.text, (int)(c.calls - calls));
                    CHECK(plan.n_ctx == (n_ctx[a] ? n_ctx[a] : 512), "n_ctx is %d", plan.n_ctx);
                    result = smolq_context_open(model, &options, &context, &err);
                    CHECK(result == SMOLQ_OK, "open: %s", err.text);
                    CHECK(c.live - before == plan.host_bytes, "%s, n_ctx %d, n_batch %d, KV %s: %llu bytes planned, %llu allocated", specs[i].family, n_ctx[a], n_batch[b],
                          kv_names[kv], (unsigned long long)plan.host_bytes, (unsigned long long)(c.live - before));
                    CHECK(plan.kv_bytes + plan.scratch_bytes + plan.logits_bytes <= plan.host_bytes, "the parts of the plan are more than the whole");
                    smolq_context_close(context);
                    CHECK(c.live == before, "closing leaves %d bytes", (int)(c.live - before));
                    options.max_bytes = plan.host_bytes;
                    context = NULL;
                    CHECK(smolq_context_open(model, &options, &context, &err) == SMOLQ_OK, "with max_bytes as planned: %s", err.text);
                    smolq_context_close(context);
                    options.max_bytes = plan.host_bytes - 1;
                    context = NULL;
                    CHECK(smolq_context_open(model, &options, &context, &err) == SMOLQ_E_MEMORY && !context, "max_bytes one below the plan does not refuse");
                }
        smolq_close(model);
        CHECK(c.live == 0, "%s: %d bytes are left", specs[i].family, (int)c.live);
        free(file);
    }
}

static void evaluation_allocates_nothing(void)
{
    static const model_spec specs[] = { { .family = "smollm3", .type = 12, .n_embd = 256, .n_ff = 256 }, { .family = "qwen3moe", .type = 8, .head_dim = 32 }, { .family = "llama", .type = 1, .rope_freqs = 1 } };
    size_t i, bytes;
    for (i = 0; i < sizeof specs / sizeof *specs; i++) {
        counter c = { 0, 0 };
        smolq_allocator allocator = { counted_alloc, counted_release, NULL };
        smolq_error err;
        smolq_context *a = NULL, *b = NULL;
        smolq_eval_item items[2];
        smolq_evaluation e;
        int32_t ids[70];
        size_t calls, kept;
        unsigned char *file = model_build(&specs[i], &bytes);
        smolq_model *model;
        float *all = (float *)malloc(sizeof(float) * 70 * 61);
        allocator.user = &c;
        model = open_memory(file, bytes, &allocator, &err);
        if (!model || smolq_context_open(model, NULL, &a, &err) != SMOLQ_OK || smolq_context_open(model, NULL, &b, &err) != SMOLQ_OK) CHECK(0, "%s", err.text);
        else {
            model_ids(ids, 70, 61, i);
            memset(items, 0, sizeof items);
            memset(&e, 0, sizeof e);
            items[0].context = a;
            items[0].tokens = items[1].tokens = ids;
            items[0].n_tokens = items[1].n_tokens = 70;
            items[0].want = SMOLQ_LOGITS_ALL;
            items[0].logits = all;
            items[1].context = b;
            calls = c.calls;
            CHECK(smolq_eval(items, 2, NULL, &err) == SMOLQ_OK, "%s", err.text);
            CHECK(smolq_context_truncate(a, 3, &err) == SMOLQ_OK && smolq_context_reuse(b, ids, 20, &kept, &err) == SMOLQ_OK && smolq_context_fork(a, b, &err) == SMOLQ_OK, "%s", err.text);
            items[0].n_tokens = items[1].n_tokens = 2;
            CHECK(smolq_eval_begin(&e, items, 2, NULL, &err) == SMOLQ_OK, "%s", err.text);
            while (smolq_eval_step(&e, 1, &err) == SMOLQ_MORE) { }
            CHECK(smolq_context_length(b) == 21 && c.calls == calls, "%d calls of the allocator during evaluations", (int)(c.calls - calls));
        }
        smolq_context_close(a);
        smolq_context_close(b);
        smolq_close(model);
        CHECK(c.live == 0, "%d bytes are left", (int)c.live);
        free(all);
        free(file);
    }
}

/* ---- errors leave contexts as they were ---- */

typedef struct pair_of_contexts { unsigned char *file; smolq_model *model; smolq_context *a, *b; smolq_error err; } pair_of_contexts;

static int pair_open(pair_of_contexts *p, const model_spec *spec, int32_t n_ctx)
{
    smolq_context_options options;
    size_t bytes;
    memset(p, 0, sizeof *p);
    memset(&options, 0, sizeof options);
    options.n_ctx = n_ctx;
    p->file = model_build(spec, &bytes);
    p->model = open_memory(p->file, bytes, NULL, &p->err);
    return p->model && smolq_context_open(p->model, &options, &p->a, &p->err) == SMOLQ_OK && smolq_context_open(p->model, &options, &p->b, &p->err) == SMOLQ_OK;
}
static void pair_close(pair_of_contexts *p)
{
    smolq_context_close(p->a);
    smolq_context_close(p->b);
    smolq_close(p->model);
    free(p->file);
}

static smolq_eval_item plain_item(smolq_context *context, const int32_t *ids, int n)
{
    smolq_eval_item item = { context, ids, n, SMOLQ_LOGITS_LAST, NULL, NULL, NULL };
    return item;
}

/* Evaluates items that must fail, then checks that neither context's length or logits have changed. */
static void expect_error(pair_of_contexts *p, const smolq_eval_item *items, int n, smolq_result expected, const char *what)
{
    float kept[61];
    const float *logits = smolq_context_logits(p->a);
    int32_t length_a = smolq_context_length(p->a), length_b = smolq_context_length(p->b);
    smolq_evaluation e;
    smolq_result result;
    if (logits) memcpy(kept, logits, sizeof kept);
    p->err.text[0] = 0;
    p->err.code = 0;
    result = smolq_eval(items, n, NULL, &p->err);
    CHECK(result == expected, "%s: %s, expected %s", what, smolq_result_name(result), smolq_result_name(expected));
    CHECK(p->err.code == expected && p->err.text[0], "%s: the error says \"%s\" (%d)", what, p->err.text, p->err.code);
    CHECK(smolq_eval(items, n, NULL, NULL) == expected, "%s: without a smolq_error", what);
    memset(&e, 0, sizeof e);
    CHECK(smolq_eval_begin(&e, items, n, NULL, NULL) == expected, "%s: smolq_eval_begin", what);
    smolq_eval_cancel(&e);
    CHECK(smolq_context_length(p->a) == length_a && smolq_context_length(p->b) == length_b, "%s: a context's length has changed", what);
    CHECK(smolq_context_logits(p->a) == logits && (!logits || memcmp(kept, logits, sizeof kept) == 0), "%s: the logits have changed", what);
}

static void wrong_arguments(void)
{
    static const model_spec spec = { .family = "smollm3" };
    static const int32_t good[] = { 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21 }, negative[] = { 5, -1 }, large[] = { 5, 61 }, huge[] = { INT32_MAX };
    pair_of_contexts p, other;
    smolq_eval_item items[2];
    int32_t drawn = -5;
    float logits[61], again[61];
    smolq_result result;
    if (!pair_open(&p, &spec, 16) || !pair_open(&other, &spec, 16)) {
        CHECK(0, "%s", p.err.text);
        return;
    }
    items[0] = plain_item(p.a, good, 10);
    result = smolq_eval(items, 1, NULL, &p.err);
    CHECK(result == SMOLQ_OK, "%s", p.err.text);

    items[0] = plain_item(p.a, good, 7);
    expect_error(&p, items, 1, SMOLQ_E_CONTEXT_FULL, "7 tokens where 6 fit");
    items[0] = plain_item(p.b, good, 3);
    items[1] = plain_item(p.a, good, 7);
    expect_error(&p, items, 2, SMOLQ_E_CONTEXT_FULL, "the second of two contexts is full");
    items[0] = plain_item(p.b, good, 17);
    expect_error(&p, items, 1, SMOLQ_E_CONTEXT_FULL, "17 tokens in a context of 16");
    items[0] = plain_item(p.a, good, INT32_MAX);
    expect_error(&p, items, 1, SMOLQ_E_CONTEXT_FULL, "2^31 - 1 tokens");
    items[0] = plain_item(p.a, negative, 2);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "token -1");
    items[0] = plain_item(p.a, large, 2);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "token n_vocab");
    items[0] = plain_item(p.a, huge, 1);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "token 2^31 - 1");
    items[0] = plain_item(p.b, good, 2);
    items[1] = plain_item(p.a, large, 2);
    expect_error(&p, items, 2, SMOLQ_E_ARGUMENT, "a wrong token in the second item");
    items[0] = plain_item(p.a, good, 0);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "no tokens");
    items[0] = plain_item(p.a, good, -3);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "-3 tokens");
    items[0] = plain_item(p.a, NULL, 1);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "tokens NULL");
    items[0] = plain_item(NULL, good, 1);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "context NULL");
    items[0] = items[1] = plain_item(p.a, good, 1);
    expect_error(&p, items, 2, SMOLQ_E_ARGUMENT, "one context twice");
    items[0] = plain_item(p.a, good, 1);
    items[1] = plain_item(other.a, good, 1);
    expect_error(&p, items, 2, SMOLQ_E_ARGUMENT, "contexts of two models");
    items[0].want = 4;
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "want 4");
    items[0].want = SMOLQ_LOGITS_SAMPLE;
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "a token and nowhere to write it");
    items[0].id = &drawn;
    if (smolq_sampler_open(60, NULL, &items[0].sampler, &p.err)) CHECK(0, "%s", p.err.text);
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "a sampler for 60 tokens of 61");
    smolq_sampler_close(items[0].sampler);
    CHECK(drawn == -5, "*id has changed");
    items[0] = plain_item(p.a, good, 1);
    items[0].want = SMOLQ_LOGITS_ALL;
    expect_error(&p, items, 1, SMOLQ_E_ARGUMENT, "all logits and no buffer");
    expect_error(&p, items, 0, SMOLQ_E_ARGUMENT, "no items");
    expect_error(&p, NULL, 1, SMOLQ_E_ARGUMENT, "items NULL");

    CHECK(smolq_context_truncate(p.a, 11, NULL) == SMOLQ_E_ARGUMENT && smolq_context_truncate(p.a, -1, NULL) == SMOLQ_E_ARGUMENT && smolq_context_length(p.a) == 10, "truncate beyond the length");
    CHECK(smolq_context_fork(other.a, p.a, NULL) == SMOLQ_E_ARGUMENT && smolq_context_length(other.a) == 0, "fork into another model");
    CHECK(smolq_context_logits(p.a) != NULL, "the logits are gone");

    items[0] = plain_item(p.a, good, 6); /* after all this, the context goes on as if nothing had been */
    items[0].logits = logits;
    CHECK(smolq_eval(items, 1, NULL, &p.err) == SMOLQ_OK && smolq_context_length(p.a) == 16, "%s", p.err.text);
    items[0] = plain_item(other.b, good, 10);
    CHECK(smolq_eval(items, 1, NULL, &p.err) == SMOLQ_OK, "%s", p.err.text);
    items[0] = plain_item(other.b, good, 6);
    items[0].logits = again;
    CHECK(smolq_eval(items, 1, NULL, &p.err) == SMOLQ_OK && memcmp(logits, again, sizeof logits) == 0, "errors have changed the logits");
    pair_close(&p);
    pair_close(&other);
}

static void wrong_contexts(void)
{
    static const model_spec spec = { .family = "llama", .n_head = 2 };
    static const int32_t ids[] = { 5, 6, 7, 8, 9 };
    pair_of_contexts p;
    smolq_context_options options;
    smolq_context *small = NULL, *f32 = NULL, *none = NULL;
    smolq_eval_item item;
    if (!pair_open(&p, &spec, 16)) {
        CHECK(0, "%s", p.err.text);
        return;
    }
    item = plain_item(p.a, ids, 5);
    CHECK(smolq_eval(&item, 1, NULL, &p.err) == SMOLQ_OK, "%s", p.err.text);
    memset(&options, 0, sizeof options);
    options.n_ctx = 4;
    CHECK(smolq_context_open(p.model, &options, &small, &p.err) == SMOLQ_OK, "%s", p.err.text);
    CHECK(smolq_context_fork(small, p.a, &p.err) < 0 && smolq_context_length(small) == 0, "5 tokens forked into a context of 4");
    options.kv_type = SMOLQ_KV_F32;
    options.n_ctx = 16;
    CHECK(smolq_context_open(p.model, &options, &f32, &p.err) == SMOLQ_OK, "%s", p.err.text);
    CHECK(smolq_context_fork(f32, p.a, &p.err) == SMOLQ_E_ARGUMENT && smolq_context_length(f32) == 0, "forked into another KV type");
    options.kv_type = 4;
    CHECK(smolq_context_open(p.model, &options, &none, &p.err) == SMOLQ_E_ARGUMENT && !none, "kv_type 4");
    options.kv_type = 0;
    options.n_ctx = -1;
    CHECK(smolq_context_open(p.model, &options, &none, &p.err) == SMOLQ_E_ARGUMENT && !none, "n_ctx -1");
    options.n_ctx = INT32_MAX;
    options.max_bytes = 1 << 20;
    CHECK(smolq_context_open(p.model, &options, &none, &p.err) < 0 && !none, "n_ctx 2^31 - 1 in a megabyte");
    options.n_ctx = 8;
    options.n_batch = -1;
    CHECK(smolq_context_open(p.model, &options, &none, &p.err) == SMOLQ_E_ARGUMENT && !none, "n_batch -1");
    smolq_context_close(small);
    smolq_context_close(f32);
    pair_close(&p);
}

/* ---- weights that are no numbers ---- */

/* A model of the spec with `bytes` written into a tensor at an offset; good ids are evaluated, then bad and two more in one call, which must fail and change
 * nothing.  With SMOLQ_LOGITS_NONE too, where no logits are looked at: else the cache would carry what is no number into every later call. */
static void expect_numeric(const model_spec *spec, const char *tensor, size_t at, const void *bytes, size_t n, const int32_t *good, int n_good, int32_t bad, int want)
{
    pair_of_contexts p, clean;
    smolq_tensor_info info;
    smolq_eval_item item;
    smolq_result result;
    float logits[61], expected[61];
    int32_t damaged[3] = { 0, 10, 11 };
    damaged[0] = bad;
    if (!pair_open(&p, spec, 16) || !pair_open(&clean, spec, 16) || smolq_gguf_find_tensor(smolq_model_gguf(p.model), tensor, &info, &p.err) != SMOLQ_OK) {
        CHECK(0, "%s: %s", tensor, p.err.text);
        return;
    }
    memcpy(p.file + (info.data - p.file) + at, bytes, n); /* the model reads its weights where the file lies */
    if (n_good) {
        item = plain_item(p.a, good, n_good);
        result = smolq_eval(&item, 1, NULL, &p.err);
        CHECK(result == SMOLQ_OK, "%s: the tokens without damage: %s", tensor, p.err.text);
    }
    item = plain_item(p.a, damaged, 3);
    item.want = want;
    result = smolq_eval(&item, 1, NULL, &p.err);
    CHECK(result == SMOLQ_E_NUMERIC, "%s %s, want %d: %s, expected SMOLQ_E_NUMERIC", build_type_of(spec->type)->name, tensor, want, smolq_result_name(result));
    CHECK(smolq_context_length(p.a) == n_good, "%s: the context holds %d tokens, expected %d", tensor, smolq_context_length(p.a), n_good);
    if (n_good) {
        item = plain_item(p.a, good, 1);
        item.logits = logits;
        result = smolq_eval(&item, 1, NULL, &p.err);
        CHECK(result == SMOLQ_OK, "%s: afterwards: %s", tensor, p.err.text);
        item = plain_item(clean.a, good, n_good);
        CHECK(smolq_eval(&item, 1, NULL, &p.err) == SMOLQ_OK, "%s", p.err.text);
        item = plain_item(clean.a, good, 1);
        item.logits = expected;
        CHECK(smolq_eval(&item, 1, NULL, &p.err) == SMOLQ_OK && memcmp(logits, expected, sizeof logits) == 0, "%s: the logits afterwards are others", tensor);
    }
    pair_close(&p);
    pair_close(&clean);
}

static void not_a_number(void)
{
    static const unsigned char nan32[4] = { 0, 0, 0xc0, 0x7f }, inf32[4] = { 0, 0, 0x80, 0x7f }, nan16[2] = { 0, 0x7e }, inf16[2] = { 0, 0x7c };
    static const int32_t good[] = { 5, 6, 7 };
    static const model_spec f32 = { .family = "llama", .untied = 1 }, f16 = { .family = "qwen3", .type = 1, .untied = 1 }, q8 = { .family = "smollm3", .type = 8, .untied = 1 };
    static const model_spec q4k = { .family = "llama", .type = 12, .n_embd = 256, .n_ff = 256, .n_layer = 2, .untied = 1 };
    int want;
    for (want = SMOLQ_LOGITS_LAST; want <= SMOLQ_LOGITS_NONE; want++) {
        expect_numeric(&f32, "token_embd.weight", 9 * 64 * 4 + 20, nan32, 4, good, 3, 9, want); /* a number of token 9's row */
        expect_numeric(&f32, "token_embd.weight", 9 * 64 * 4, inf32, 4, good, 3, 9, want);
        expect_numeric(&f16, "token_embd.weight", 9 * 64 * 2 + 8, nan16, 2, good, 3, 9, want);
        expect_numeric(&q8, "token_embd.weight", 9 * 2 * 34, nan16, 2, good, 3, 9, want); /* the scale of its first block */
        expect_numeric(&q4k, "token_embd.weight", 9 * 144, inf16, 2, good, 3, 9, want);
        expect_numeric(&f32, "blk.1.attn_norm.weight", 12, nan32, 4, NULL, 0, 5, want);
        expect_numeric(&f16, "blk.2.ffn_down.weight", 100, inf16, 2, NULL, 0, 5, want);
        expect_numeric(&q8, "blk.0.attn_v.weight", 34, nan16, 2, NULL, 0, 5, want);
        expect_numeric(&q4k, "blk.0.ffn_up.weight", 144 * 7, nan16, 2, NULL, 0, 5, want);
        expect_numeric(&q4k, "blk.1.attn_k.weight", 144 * 3 + 2, inf16, 2, NULL, 0, 5, want); /* a minimum */
    }
    expect_numeric(&q4k, "blk.1.ffn_down.weight", 144 * 7, nan16, 2, NULL, 0, 5, SMOLQ_LOGITS_LAST); /* from here on nothing reaches the cache */
    expect_numeric(&f32, "output_norm.weight", 0, inf32, 4, NULL, 0, 5, SMOLQ_LOGITS_LAST);
    expect_numeric(&f16, "output.weight", 64 * 2 * 60, nan16, 2, NULL, 0, 5, SMOLQ_LOGITS_LAST);
    expect_numeric(&q8, "output.weight", 34 * 2 * 60, inf16, 2, NULL, 0, 5, SMOLQ_LOGITS_LAST);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "models written here have one hash in every manner", own_models },
        { "each quantized type has one hash", own_types },
        { "golden files have one hash", golden_files },
        { "the bundled model has one hash", bundled_model },
        { "plans are exact", plans_are_exact },
        { "evaluation allocates nothing", evaluation_allocates_nothing },
        { "wrong arguments are errors and leave contexts as they were", wrong_arguments },
        { "contexts that can't be are refused", wrong_contexts },
        { "NaN and infinity in weights are errors and leave contexts as they were", not_a_number },
    };
    printf("     %s; SMOLQ_SEED=%llu\n", is_long() ? "all manners for all models" : "sampled: other types and files take 2 of 12 manners, files one of three KV types", (unsigned long long)rotation());
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
