/* clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -I. tests/fuzz_eval.c -o fuzz_eval -lm
 *
 * A small model with random weights, in which the input overwrites numbers: of keys, of weights, of scales.  If it opens, a few tokens are evaluated one by one
 * and again as one batch, which must give the same bits, and a sampler with steps from the input picks a token.
 *
 *     family, type, kv, tokens   a byte each
 *     steps                      a byte with their number (at most 4), then each: kind, n, a, b, c (1 + 1 + 3 * 4 bytes)
 *     patches                    the rest, each 2 + 4 bytes: where (top bit: a key; else a weight), what */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "fuzz.h"
#include "model_build.h"

static const char *const families[] = { "llama", "smollm3", "qwen2", "qwen3", "qwen3moe" };
enum { N_FAMILIES = sizeof families / sizeof *families };

typedef struct prepared { unsigned char *file; size_t n, data_at; } prepared;

static const prepared *prepare(int family, int type) /* each built once */
{
    static prepared all[N_FAMILIES][BUILD_N_TYPES];
    prepared *p = &all[family][type];
    int variant = (family + type) % 4;
    if (!p->file) {
        model_spec spec;
        smolq_open_options o;
        smolq_source source;
        smolq_gguf *gguf = NULL;
        memset(&spec, 0, sizeof spec);
        spec.family = families[family];
        spec.type = build_types[type].id;
        spec.n_layer = 1;
        spec.n_embd = build_types[type].weights > 64 ? 256 : 64;
        spec.n_ff = build_types[type].weights > 64 ? 256 : 64;
        spec.n_vocab = 17;
        spec.head_dim = variant & 1 ? 64 : 32;
        spec.n_head = spec.n_embd / spec.head_dim;
        spec.n_head_kv = 1;
        spec.rope_freqs = variant == 1;
        spec.scaling = variant == 2 ? "linear" : variant == 3 ? "yarn" : NULL;
        spec.factor = 4;
        spec.original_ctx = variant == 3 ? 64 : 0;
        spec.untied = variant & 1;
        p->file = model_build(&spec, &p->n);
        memset(&o, 0, sizeof o);
        source = model_source(p->file, p->n);
        o.size = sizeof o;
        o.n_sources = 1;
        o.sources = &source;
        MUST(smolq_gguf_open(NULL, &o, &gguf, NULL) == SMOLQ_OK);
        p->data_at = (size_t)smolq_gguf_info(gguf)->header_bytes;
        smolq_gguf_close(gguf);
    }
    return p;
}

typedef struct taker { const uint8_t *p, *end; } taker;
static unsigned take(taker *t) { return t->p < t->end ? *t->p++ : 0; }
static uint32_t take_u32(taker *t)
{
    uint32_t u = take(t);
    u |= (uint32_t)take(t) << 8;
    u |= (uint32_t)take(t) << 16;
    return u | (uint32_t)take(t) << 24;
}
static float take_float(taker *t) { return smolq_from_bits(take_u32(t)); }

/* Overwrites the value of number `where` among the keys of 4 bytes or more that are no strings and no arrays. */
static void patch_key(unsigned char *file, const smolq_gguf *gguf, uint32_t where, uint32_t what)
{
    uint64_t i, n = smolq_gguf_info(gguf)->n_pairs;
    smolq_pair pair;
    for (i = 0; i < n; i++) {
        MUST(smolq_gguf_pair(gguf, (where + i) % n, &pair, NULL) == SMOLQ_OK);
        if (pair.value.type == SMOLQ_GGUF_U32 || pair.value.type == SMOLQ_GGUF_F32) break;
    }
    if (i < n) memcpy(file + (pair.value.data - file), &what, 4);
}

static smolq_result eval(smolq_context *context, const int32_t *ids, int32_t n, smolq_error *err)
{
    smolq_eval_item item;
    memset(&item, 0, sizeof item);
    item.context = context;
    item.tokens = ids;
    item.n_tokens = n;
    return smolq_eval(&item, 1, NULL, err);
}

static void pick(const float *logits, int32_t n_vocab, const smolq_sampler_step *steps, uint32_t n_steps)
{
    smolq_sampler_options o;
    smolq_sampler *sampler = NULL;
    smolq_error err;
    smolq_result result;
    int32_t id = -1, i;
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    o.steps = steps;
    o.n_steps = n_steps;
    o.seed = 7;
    result = smolq_sampler_open(n_vocab, n_steps ? &o : NULL, &sampler, &err);
    if (result) { must_refuse(result, &err); return; }
    for (i = 0; i < 6; i++) {
        result = smolq_sample(sampler, logits, n_vocab, &id, &err);
        if (result) must_refuse(result, &err);
        else MUST(id >= 0 && id < n_vocab);
        smolq_sampler_accept(sampler, i & 1 ? 3 : id);
    }
    smolq_sampler_close(sampler);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taker t;
    int family, type, kv, n_tokens, i;
    const prepared *p;
    unsigned char *file;
    uint32_t n_steps, s;
    smolq_sampler_step steps[4];
    fuzz_meter meter;
    smolq_open_options o;
    smolq_source source;
    smolq_gguf *gguf = NULL;
    smolq_model *model = NULL;
    smolq_context_options c;
    smolq_context *one = NULL, *batch = NULL;
    smolq_error err;
    smolq_result result;
    int32_t ids[16], n_vocab;
    t.p = data;
    t.end = data + size;
    family = (int)take(&t);
    type = (int)(take(&t) % BUILD_N_TYPES);
    family %= N_FAMILIES;
    kv = (int)take(&t);
    n_tokens = 1 + (int)(take(&t) % 3);
    n_steps = take(&t) % 5;
    memset(steps, 0, sizeof steps);
    for (s = 0; s < n_steps; s++) {
        steps[s].kind = (int32_t)(take(&t) % (SMOLQ_SAMPLE_COUNT + 1));
        steps[s].n = (int8_t)take(&t);
        steps[s].a = take_float(&t);
        steps[s].b = take_float(&t);
        steps[s].c = take_float(&t);
    }
    p = prepare(family, type);
    file = (unsigned char *)malloc(p->n);
    MUST(file);
    memcpy(file, p->file, p->n);
    memset(&o, 0, sizeof o);
    source = model_source(file, p->n);
    o.size = sizeof o;
    o.n_sources = 1;
    o.sources = &source;
    o.allocator = fuzz_allocator(&meter, 64 << 20);
    MUST(smolq_gguf_open(NULL, &o, &gguf, &err) == SMOLQ_OK);
    while (t.p < t.end) {
        uint32_t where = take(&t), what;
        where |= take(&t) << 8;
        what = take_u32(&t);
        if (where & 0x8000u) patch_key(file, gguf, where & 0x7fffu, what);
        else memcpy(file + p->data_at + (size_t)where * 7 % (p->n - p->data_at - 4), &what, 4);
    }
    smolq_gguf_close(gguf);
    result = smolq_open(NULL, &o, &model, &err);
    if (result) must_refuse(result, &err);
    if (model) {
        n_vocab = smolq_model_info(model)->n_vocab;
        memset(&c, 0, sizeof c);
        c.size = sizeof c;
        c.n_ctx = 16;
        c.n_batch = 1 + (kv >> 2 & 3);
        c.kv_type = kv & 3;
        c.max_bytes = 16 << 20;
        for (i = 0; i < n_tokens; i++) ids[i] = (i * 5 + kv) % n_vocab;
        result = smolq_context_open(model, &c, &one, &err);
        if (!result) result = smolq_context_open(model, &c, &batch, &err);
        for (i = 0; i < n_tokens && !result; i++) {
            result = eval(one, ids + i, 1, &err);
            MUST(result == SMOLQ_OK || result == SMOLQ_E_NUMERIC);
            MUST(smolq_context_length(one) == i + (result == SMOLQ_OK));
        }
        if (result) must_refuse(result, &err);
        else {
            MUST(eval(batch, ids, n_tokens, &err) == SMOLQ_OK);
            for (i = 0; i < n_vocab; i++) MUST(smolq_is_finite(smolq_context_logits(one)[i]));
            MUST(memcmp(smolq_context_logits(one), smolq_context_logits(batch), (size_t)n_vocab * 4) == 0);
            pick(smolq_context_logits(one), n_vocab, steps, n_steps);
        }
        smolq_context_close(one);
        smolq_context_close(batch);
        smolq_close(model);
    }
    MUST(meter.now == 0);
    free(file);
    return 0;
}
