/* Hostile input: files, texts and calls that are wrong, and a machine that runs out of memory or can't read.  Whatever happens, the answer is an error code
 * with a sentence or a working object, and not one byte is leaked.
 *
 * make asan runs the same program under AddressSanitizer and UBSan.  SMOLQ_LONG=1 flips every bit of both headers instead of a sample; SMOLQ_SEED=n takes
 * another sample. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "make_malformed.h"
#include "model_build.h"
#include "test.h"
#include <limits.h>
#include <time.h>

#define BUNDLED "examples/models/smolq-tales.Q4_K_M.gguf"
#if defined(__SANITIZE_ADDRESS__)
enum { SLOWER = 20 };
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
enum { SLOWER = 20 };
#  else
enum { SLOWER = 1 };
#  endif
#else
enum { SLOWER = 1 };
#endif

static double cpu_ms(void) { return (double)clock() * 1000.0 / CLOCKS_PER_SEC; }
static int    is_long(void) { return getenv("SMOLQ_LONG") != NULL; }

/* ---- an allocator that counts, and fails when told to ---- */

typedef struct meter {
    size_t now, peak;   /* bytes */
    long   n_live, n_calls;
    long   fail_at;     /* the call that fails, from 1; 0: none */
    int    fail_after;  /* all later ones too */
    int    failed;
} meter;

static void *meter_alloc(void *user, size_t n)
{
    meter *m = (meter *)user;
    void *p = NULL;
    m->n_calls++;
    if (m->fail_at && (m->n_calls == m->fail_at || (m->fail_after && m->n_calls > m->fail_at))) m->failed = 1;
    else p = malloc(n);
    if (!p) return NULL;
    m->n_live++;
    m->now += n;
    if (m->now > m->peak) m->peak = m->now;
    return p;
}
static void meter_release(void *user, void *p, size_t n)
{
    meter *m = (meter *)user;
    m->n_live--;
    m->now -= n;
    free(p);
}

/* ---- a file in memory, or read through a function that fails when told to ---- */

typedef struct reader { const unsigned char *p; size_t n; long n_reads, fail_at; int beyond; } reader;

static int reader_read(void *user, uint64_t offset, void *dst, size_t n)
{
    reader *r = (reader *)user;
    if (offset > r->n || n > r->n - offset) { r->beyond = 1; return 1; }
    if (++r->n_reads == r->fail_at) return 1;
    memcpy(dst, r->p + offset, n);
    return 0;
}

/* Options over one source with one meter.  The struct holds itself together: don't copy it. */
typedef struct setting {
    meter                m;
    reader               r;
    smolq_source         source;
    smolq_device_options device;
    smolq_open_options   open;
    smolq_context_options context;
} setting;

static void set_up(setting *s, const void *p, size_t n, int io)
{
    memset(s, 0, sizeof *s);
    s->r.p = (const unsigned char *)p;
    s->r.n = n;
    s->source.size = n;
    if (io) {
        s->source.read = reader_read;
        s->source.user = &s->r;
    } else {
        s->source.data = p;
    }
    s->device.size = sizeof s->device;
    s->device.allocator.alloc = meter_alloc;
    s->device.allocator.release = meter_release;
    s->device.allocator.user = &s->m;
    s->open.size = sizeof s->open;
    s->open.n_sources = 1;
    s->open.sources = &s->source;
    s->open.allocator = s->device.allocator;
    s->open.device_options = &s->device;
    s->context.size = sizeof s->context;
    s->context.n_ctx = 8;
    s->context.n_batch = 2;
}

/* A refusal is an error code, the same in err, and a sentence of printable characters. */
static int is_refusal(smolq_result result, const smolq_error *err)
{
    size_t i, n = strlen(err->text);
    if (result >= 0 || err->code != result || n < 10 || n >= sizeof err->text) return 0;
    for (i = 0; i < n; i++) if ((unsigned char)err->text[i] < 32 || err->text[i] == 127) return 0;
    return strcmp(smolq_result_name(result), "unknown") != 0;
}

static void poison(smolq_error *err) { memset(err, 0x55, sizeof *err); }

static const char short_text[] = "the end of\tthe <|im_start|>story \303\251\377";

/* Two tokens one by one, then a text, then a chat.  Everything may be refused, nothing may go wrong. */
static void use_context(smolq_model *model, setting *s, const char *what)
{
    smolq_context *context = (smolq_context *)s;
    smolq_error err;
    int32_t ids[2] = { 0, 0 }, i, j, n_vocab = smolq_model_info(model)->n_vocab;
    smolq_result result;
    poison(&err);
    ids[1] = n_vocab - 1;
    result = smolq_context_open(model, &s->context, &context, &err);
    if (result) {
        CHECK(is_refusal(result, &err) && context == (smolq_context *)s, "%s: context: %d", what, (int)result);
        return;
    }
    for (i = 0; i < 2; i++) {
        smolq_eval_item item;
        const float *logits;
        memset(&item, 0, sizeof item);
        item.context = context;
        item.tokens = &ids[i];
        item.n_tokens = 1;
        poison(&err);
        result = smolq_eval(&item, 1, NULL, &err);
        logits = smolq_context_logits(context);
        if (result) {
            CHECK(result == SMOLQ_E_NUMERIC && is_refusal(result, &err), "%s: eval: %d %.100s", what, (int)result, err.text);
            CHECK(smolq_context_length(context) == i && !logits, "%s: a failed evaluation changed the context", what);
            break;
        }
        CHECK(smolq_context_length(context) == i + 1 && logits, "%s: %d tokens after %d", what, (int)smolq_context_length(context), (int)i + 1);
        for (j = 0; logits && j < n_vocab; j++) CHECK(smolq_is_finite(logits[j]), "%s: logit %d is not finite", what, (int)j);
    }
    smolq_context_close(context);
}

static void use_vocab(const smolq_vocab *vocab, const char *text, size_t bytes, const char *what)
{
    int32_t flags, n_vocab = smolq_vocab_size(vocab), *ids = (int32_t *)malloc((bytes * 4 + 64) * 4);
    smolq_message message;
    smolq_error err;
    if (!ids) abort();
    for (flags = 0; flags < 8; flags++) {
        size_t n = 99, again = 98, i, n_bytes = 0, length = 0;
        smolq_result result = smolq_tokenize(vocab, text, bytes, flags, ids, bytes * 4 + 64, &n, &err);
        CHECK(result == SMOLQ_OK, "%s: tokenize: %s", what, err.text);
        if (result) break;
        for (i = 0; i < n; i++) CHECK(ids[i] >= 0 && ids[i] < n_vocab, "%s: id %d", what, (int)ids[i]);
        result = smolq_tokenize(vocab, text, bytes, flags, NULL, 0, &again, &err);
        CHECK(again == n && result == (n ? SMOLQ_E_BUFFER : SMOLQ_OK), "%s: %d ids, then %d", what, (int)n, (int)again);
        result = smolq_detokenize(vocab, ids, n, SMOLQ_SHOW_SPECIAL, NULL, 0, &n_bytes, &err);
        CHECK(result == (n_bytes ? SMOLQ_E_BUFFER : SMOLQ_OK), "%s: detokenize: %d", what, (int)result);
        for (i = 0; i < n; i++) {
            smolq_token token;
            CHECK(smolq_token_info(vocab, ids[i], &token, &err) == SMOLQ_OK, "%s: token_info", what);
        }
        if (n_bytes < 1 << 20) {
            char *back = (char *)malloc(n_bytes + 1);
            if (!back) abort();
            CHECK(smolq_detokenize(vocab, ids, n, SMOLQ_SHOW_SPECIAL, back, n_bytes, &length, &err) == SMOLQ_OK && length == n_bytes, "%s: detokenize", what);
            free(back);
        }
    }
    free(ids);
    message.role = "user";
    message.text = text;
    message.bytes = bytes;
    {
        size_t n = 0;
        smolq_result result;
        poison(&err);
        result = smolq_chat_tokenize(vocab, &message, 1, NULL, NULL, 0, &n, &err);
        CHECK(result == SMOLQ_OK || is_refusal(result, &err), "%s: chat: %d", what, (int)result);
    }
}

/* ---- one file through every door ---- */

enum { DOOR_GGUF, DOOR_PROBE, DOOR_VOCAB, DOOR_MODEL, DOORS };
static const char *const door_names[DOORS] = { "gguf_open", "probe", "vocab_open", "open" };

typedef struct verdict { smolq_result result[DOORS]; int runnable; char text[256]; } verdict;

static double slowest_refusal; /* CPU ms */
static char   slowest_name[200];
static size_t largest_refusal; /* bytes */

static void try_file(const void *p, size_t n, int io, const char *name, verdict *v)
{
    int door;
    memset(v, 0, sizeof *v);
    for (door = 0; door < DOORS; door++) {
        setting s;
        smolq_error err;
        smolq_gguf *gguf = NULL;
        smolq_vocab *vocab = NULL;
        smolq_model *model = NULL;
        smolq_info info;
        smolq_result result = 0;
        double begin, took;
        char what[256];
        snprintf(what, sizeof what, "%s, %s%s", name, door_names[door], io ? " by read" : "");
        set_up(&s, p, n, io);
        poison(&err);
        memset(&info, 0, sizeof info);
        begin = cpu_ms();
        switch (door) {
        case DOOR_GGUF:  result = smolq_gguf_open(NULL, &s.open, &gguf, &err); break;
        case DOOR_PROBE: result = smolq_probe(NULL, &s.open, &info, &err); break;
        case DOOR_VOCAB: result = smolq_vocab_open(NULL, &s.open, &vocab, &err); break;
        default:         result = smolq_open(NULL, &s.open, &model, &err); break;
        }
        took = cpu_ms() - begin;
        v->result[door] = result;
        if (result) {
            CHECK(is_refusal(result, &err), "%s: %d without a sentence", what, (int)result);
            CHECK(!gguf && !vocab && !model, "%s: an error and an object", what);
            CHECK(s.m.now == 0 && s.m.n_live == 0, "%s: %ld bytes leak after: %.100s", what, (long)s.m.now, err.text);
            CHECK(s.m.peak <= 4 * n + (16u << 20), "%s: %ld bytes before a refusal, the file has %ld", what, (long)s.m.peak, (long)n);
            if (took > slowest_refusal) {
                slowest_refusal = took;
                snprintf(slowest_name, sizeof slowest_name, "%.190s", what);
            }
            if (s.m.peak > largest_refusal) largest_refusal = s.m.peak;
            memcpy(v->text, err.text, sizeof v->text);
        }
        if (door == DOOR_PROBE && !result) {
            v->runnable = info.runnable;
            CHECK(info.runnable || info.reason[0], "%s: not runnable without a reason", what);
        }
        if (vocab) use_vocab(vocab, short_text, sizeof short_text - 1, what);
        if (model) {
            use_context(model, &s, what);
            if (smolq_model_vocab(model)) use_vocab(smolq_model_vocab(model), short_text, sizeof short_text - 1, what);
        }
        smolq_close(model);
        smolq_vocab_close(vocab);
        smolq_gguf_close(gguf);
        CHECK(s.m.now == 0 && s.m.n_live == 0, "%s: %ld bytes leak", what, (long)s.m.now);
        CHECK(!s.r.beyond, "%s: a read beyond the end", what);
    }
}

static void *exact_copy(const void *p, size_t n) /* so that AddressSanitizer sees the first byte beyond */
{
    void *copy = malloc(n ? n : 1);
    if (!copy) abort();
    if (n) memcpy(copy, p, n);
    return copy;
}

static void malformed_files(void)
{
    size_t i, refused = 0, n = malformed_count();
    slowest_refusal = 0;
    for (i = 0; i < n; i++) {
        int expect = malformed_expect(i), io;
        char name[160];
        bytes file;
        void *copy;
        snprintf(name, sizeof name, "%s", malformed_name(i));
        malformed_build(i, &file);
        copy = exact_copy(file.p, file.n);
        for (io = 0; io < 2; io++) {
            verdict v;
            try_file(copy, file.n, io, name, &v);
            if (expect == MALFORMED_GGUF)
                CHECK(v.result[0] && v.result[1] && v.result[2] && v.result[3], "%s: gguf_open %d, probe %d, vocab_open %d, open %d", name,
                      (int)v.result[0], (int)v.result[1], (int)v.result[2], (int)v.result[3]);
            else CHECK(!v.result[DOOR_GGUF] && !v.result[DOOR_PROBE], "%s: a well-formed GGUF, but %s", name, v.text);
            if (expect == MALFORMED_MODEL) CHECK(v.result[DOOR_MODEL], "%s: smolq_open succeeds", name);
            if (expect == MALFORMED_FINE) CHECK(!v.result[DOOR_MODEL], "%s: %s", name, v.text);
            if (!v.result[DOOR_MODEL]) CHECK(v.runnable, "%s: opens, but the probe says no", name);
            refused += v.result[DOOR_MODEL] != 0;
        }
        free(copy);
        bytes_free(&file);
    }
    CHECK(slowest_refusal < 1000, "%.1f ms to refuse %s", slowest_refusal, slowest_name);
    printf("# %d files, %d refusals; the slowest took %.1f ms (%s), the largest %.1f MB\n", (int)n, (int)refused, slowest_refusal, slowest_name,
           (double)largest_refusal / 1e6);
}

/* ---- truncation, flipped bits ---- */

static void small_model(int which, bytes *file) /* 0: llama with SentencePiece; 1: qwen2 with byte-level BPE */
{
    model_options options = { GG_LLAMA, 0, 0, 0 };
    memset(file, 0, sizeof *file);
    if (which) {
        options.family = GG_QWEN2;
        options.bpe = 1;
        options.type = 8;
    }
    valid_model_build(&options, file);
}

static size_t header_bytes(const bytes *file)
{
    setting s;
    smolq_gguf *gguf = NULL;
    size_t n;
    set_up(&s, file->p, file->n, 0);
    if (smolq_gguf_open(NULL, &s.open, &gguf, NULL)) return 0;
    n = (size_t)smolq_gguf_info(gguf)->header_bytes;
    smolq_gguf_close(gguf);
    return n;
}

static void truncations(void)
{
    int which, io;
    for (which = 0; which < 2; which++) {
        bytes file;
        size_t cut, header;
        small_model(which, &file);
        header = header_bytes(&file);
        REQUIRE(header > 1000, "no header");
        for (cut = 0; cut < file.n; cut += cut < header + 32 ? 1 : cut + 997 < file.n ? 997 : file.n - cut > 1 ? file.n - cut - 1 : 1) {
            unsigned char *copy = (unsigned char *)exact_copy(file.p, cut);
            for (io = 0; io < 2; io++) {
                setting s;
                smolq_error err;
                smolq_model *model = NULL;
                smolq_result result;
                set_up(&s, copy, cut, io);
                poison(&err);
                result = smolq_open(NULL, &s.open, &model, &err);
                CHECK(is_refusal(result, &err) && !model && s.m.now == 0, "%d of %d bytes: %d %.100s", (int)cut, (int)file.n, (int)result, err.text);
                CHECK(!s.r.beyond, "%d of %d bytes: a read beyond the end", (int)cut, (int)file.n);
                smolq_close(model);
            }
            free(copy);
        }
        bytes_free(&file);
    }
}

/* Two tokens if it opens, and a text now and then; without the checks of try_file, for speed. */
static int try_flipped(const void *p, size_t n, size_t bit)
{
    setting s;
    smolq_error err;
    smolq_model *model = NULL;
    smolq_result result;
    char what[64];
    snprintf(what, sizeof what, "bit %d", (int)bit);
    set_up(&s, p, n, 0);
    poison(&err);
    result = smolq_open(NULL, &s.open, &model, &err);
    if (result) {
        CHECK(is_refusal(result, &err) && !model, "%s: %d", what, (int)result);
    } else {
        use_context(model, &s, what);
        if (smolq_model_vocab(model)) {
            int32_t ids[128];
            size_t n_ids;
            result = smolq_tokenize(smolq_model_vocab(model), short_text, sizeof short_text - 1, (int32_t)(bit & 7), ids, 128, &n_ids, &err);
            CHECK(result == SMOLQ_OK, "%s: %s", what, err.text);
        }
        smolq_close(model);
        result = SMOLQ_OK;
    }
    CHECK(s.m.now == 0 && s.m.n_live == 0, "%s: %ld bytes leak", what, (long)s.m.now);
    CHECK(s.m.peak < 64u << 20, "%s: %ld bytes", what, (long)s.m.peak);
    return result == SMOLQ_OK;
}

static void flipped_bits(void)
{
    const char *given = getenv("SMOLQ_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 1, state = seed;
    int which, n_tried[2] = { 0, 0 }, n_opened[2] = { 0, 0 };
    for (which = 0; which < 2; which++) {
        bytes file;
        size_t n_bits, i;
        unsigned char *p;
        double begin = cpu_ms();
        small_model(which, &file);
        p = (unsigned char *)exact_copy(file.p, file.n);
        n_bits = header_bytes(&file) * 8;
        CHECK(try_flipped(p, file.n, 0), "the model itself does not open");
        for (i = 0; i < n_bits && (is_long() || cpu_ms() - begin < 4000); i++) {
            size_t bit = is_long() ? i : (size_t)(build_random(&state) % n_bits);
            p[bit / 8] ^= (unsigned char)(1 << bit % 8);
            n_opened[which] += try_flipped(p, file.n, bit);
            n_tried[which]++;
            p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        free(p);
        bytes_free(&file);
    }
    printf("# %d + %d bits flipped (seed %llu), %d + %d files opened\n", n_tried[0], n_tried[1], (unsigned long long)seed, n_opened[0], n_opened[1]);
}

/* ---- every allocation and every read fails in turn ---- */

enum { OP_GGUF, OP_PROBE, OP_VOCAB, OP_MODEL, OP_CONTEXT, OP_TOKENIZE, OP_CHAT, OP_SAMPLER, OPS };
static const char *const op_names[OPS] = { "gguf_open", "probe", "vocab_open", "open", "context_open", "tokenize", "chat_tokenize", "sampler_open" };

/* What an operation needs that is opened before; all on the meter of the setting. */
typedef struct stage { setting s; smolq_model *model; const char *path, *text; size_t bytes; } stage;

enum { FROM_MEMORY, FROM_READ, FROM_PATH, FROM_MAPPING, FROM_COUNT };
#define SCRATCH "build/test_hostile.gguf"

static int open_stage(stage *st, const bytes *file, int from)
{
    FILE *out;
    memset(st, 0, sizeof *st);
    set_up(&st->s, file->p, file->n, from == FROM_READ);
    if (from < FROM_PATH) return 1;
    st->path = SCRATCH;
    st->s.open.n_sources = 0;
    st->s.open.no_map = from == FROM_PATH;
    out = fopen(SCRATCH, "wb");
    if (!out) return 0;
    return (fwrite(file->p, 1, file->n, out) == file->n) & (fclose(out) == 0);
}

static smolq_result perform(stage *st, int op, smolq_error *err)
{
    smolq_gguf *gguf = NULL;
    smolq_vocab *vocab = NULL;
    smolq_model *model = NULL;
    smolq_context *context = NULL;
    smolq_sampler *sampler = NULL;
    smolq_sampler_options options;
    smolq_sampler_step steps[3];
    smolq_logit_bias bias = { 1, 2.0f };
    int32_t breaker = 5;
    smolq_message message;
    smolq_info info;
    smolq_result result;
    size_t n = 0;
    memset(&info, 0, sizeof info);
    memset(&options, 0, sizeof options);
    memset(steps, 0, sizeof steps);
    message.role = "user";
    message.text = st->text;
    message.bytes = st->bytes;
    switch (op) {
    case OP_GGUF:     result = smolq_gguf_open(st->path, &st->s.open, &gguf, err); break;
    case OP_PROBE:    result = smolq_probe(st->path, &st->s.open, &info, err); break;
    case OP_VOCAB:    result = smolq_vocab_open(st->path, &st->s.open, &vocab, err); break;
    case OP_MODEL:    result = smolq_open(st->path, &st->s.open, &model, err); break;
    case OP_CONTEXT:  result = smolq_context_open(st->model, &st->s.context, &context, err); break;
    case OP_TOKENIZE: result = smolq_tokenize(smolq_model_vocab(st->model), st->text, st->bytes, SMOLQ_ADD_BOS | SMOLQ_PARSE_SPECIAL, NULL, 0, &n, err); break;
    case OP_CHAT:     result = smolq_chat_tokenize(smolq_model_vocab(st->model), &message, 1, NULL, NULL, 0, &n, err); break;
    default:
        steps[0].kind = SMOLQ_SAMPLE_LOGIT_BIAS;
        steps[0].n = 1;
        steps[0].data = &bias;
        steps[1].kind = SMOLQ_SAMPLE_DRY;
        steps[1].a = 0.8f;
        steps[1].b = 1.75f;
        steps[1].c = 2;
        steps[1].n = 64;
        steps[1].data = &breaker;
        steps[1].n_data = 1;
        steps[2].kind = SMOLQ_SAMPLE_TEMPERATURE;
        steps[2].a = 0.7f;
        options.size = sizeof options;
        options.n_steps = 3;
        options.steps = steps;
        options.allocator = st->s.open.allocator;
        result = smolq_sampler_open(100, &options, &sampler, err);
        break;
    }
    if (result == SMOLQ_E_BUFFER) result = SMOLQ_OK; /* the count was asked for */
    if (result) CHECK(!gguf && !vocab && !model && !context && !sampler && n == 0 && info.size == 0, "%s: an error, and outputs have changed", op_names[op]);
    smolq_gguf_close(gguf);
    smolq_vocab_close(vocab);
    smolq_close(model);
    smolq_context_close(context);
    smolq_sampler_close(sampler);
    return result;
}

static void failing_allocations(void)
{
    char *text = (char *)malloc(3000);
    int which, from, op, all, n_failed = 0;
    size_t i;
    if (!text) abort();
    for (i = 0; i < 3000; i++) text[i] = "the and in\303\251 <|im_start|>\n"[i % 25];
    for (which = 0; which < 2; which++)
        for (from = FROM_MEMORY; from < FROM_COUNT; from++)
            for (op = 0; op < OPS; op++)
                for (all = 0; all < 2; all++) {
                    stage st;
                    smolq_error err;
                    bytes file;
                    long n, base_live;
                    size_t base_now;
                    smolq_result result;
                    small_model(which, &file);
                    REQUIRE(open_stage(&st, &file, from), "can't write %s", SCRATCH);
                    st.text = text;
                    st.bytes = 3000;
                    REQUIRE(smolq_open(st.path, &st.s.open, &st.model, &err) == SMOLQ_OK, "%s", err.text);
                    base_live = st.s.m.n_live;
                    base_now = st.s.m.now;
                    for (n = 1; n < 1000; n++) {
                        st.s.m.n_calls = 0;
                        st.s.m.failed = 0;
                        st.s.m.fail_at = n;
                        st.s.m.fail_after = all;
                        poison(&err);
                        result = perform(&st, op, &err);
                        CHECK(st.s.m.n_live == base_live && st.s.m.now == base_now, "%s, allocation %ld%s: %ld bytes leak", op_names[op], n, all ? " and later" : "",
                              (long)(st.s.m.now - base_now));
                        if (!st.s.m.failed) break;
                        n_failed++;
                        CHECK(result == SMOLQ_E_MEMORY && is_refusal(result, &err), "%s, allocation %ld%s: %d", op_names[op], n, all ? " and later" : "", (int)result);
                    }
                    CHECK(result == SMOLQ_OK && n > 1 && n < 1000, "%s: %d after %ld failures", op_names[op], (int)result, n - 1);
                    st.s.m.fail_at = 0;
                    CHECK(perform(&st, op, &err) == SMOLQ_OK, "%s afterwards: %s", op_names[op], err.text);
                    smolq_close(st.model);
                    CHECK(st.s.m.now == 0, "%s: %ld bytes leak", op_names[op], (long)st.s.m.now);
                    bytes_free(&file);
                }
    free(text);
    remove(SCRATCH);
    printf("# %d allocations failed\n", n_failed);
}

/* A model's own device allocates where the model does. */
static void device_allocates_there(void)
{
    bytes file;
    long n_calls[2];
    int i;
    small_model(0, &file);
    for (i = 0; i < 2; i++) {
        setting s;
        smolq_model *model = NULL;
        smolq_error err;
        set_up(&s, file.p, file.n, 0);
        if (i) s.open.device_options = NULL;
        REQUIRE(smolq_open(NULL, &s.open, &model, &err) == SMOLQ_OK, "%s", err.text);
        n_calls[i] = s.m.n_calls;
        smolq_close(model);
        CHECK(s.m.now == 0, "leak");
    }
    CHECK(n_calls[0] == n_calls[1], "%ld allocations by the allocator of the device's options, %ld by the model's", n_calls[0], n_calls[1]);
    bytes_free(&file);
}

/* limits.memory at every value from nothing to enough, in steps. */
static void memory_limits(void)
{
    int which, op;
    for (which = 0; which < 2; which++)
        for (op = OP_GGUF; op <= OP_MODEL; op++) {
            stage st;
            bytes file;
            uint64_t limit;
            smolq_result result = SMOLQ_E_MEMORY;
            small_model(which, &file);
            open_stage(&st, &file, FROM_READ);
            for (limit = 1; limit < 1u << 22 && result; limit += 1 + limit / 64) {
                smolq_error err;
                st.s.open.limits.memory = limit;
                st.s.m.peak = 0;
                poison(&err);
                result = perform(&st, op, &err);
                CHECK(result == SMOLQ_OK || (result == SMOLQ_E_MEMORY && is_refusal(result, &err) && strstr(err.text, "limit")),
                      "%s: %d with %d bytes: %.100s", op_names[op], (int)result, (int)limit, err.text);
                CHECK(st.s.m.peak <= 2 * limit + 4096, "%s: %ld bytes with a limit of %ld", op_names[op], (long)st.s.m.peak, (long)limit); /* of each of its objects */
                CHECK(st.s.m.now == 0, "%s: %ld bytes leak", op_names[op], (long)st.s.m.now);
            }
            CHECK(result == SMOLQ_OK, "%s never works", op_names[op]);
            bytes_free(&file);
        }
}

static void failing_reads(void)
{
    int which, op, n_failed = 0;
    for (which = 0; which < 2; which++)
        for (op = OP_GGUF; op <= OP_MODEL; op++) {
            stage st;
            bytes file;
            long n;
            smolq_result result = SMOLQ_OK;
            smolq_error err;
            small_model(which, &file);
            open_stage(&st, &file, FROM_READ);
            for (n = 1; n < 1000; n++) {
                st.s.r.n_reads = 0;
                st.s.r.fail_at = n;
                poison(&err);
                result = perform(&st, op, &err);
                CHECK(st.s.m.now == 0, "%s, read %ld: %ld bytes leak", op_names[op], n, (long)st.s.m.now);
                if (st.s.r.n_reads < n) break;
                n_failed++;
                CHECK(result == SMOLQ_E_IO && is_refusal(result, &err), "%s, read %ld: %d", op_names[op], n, (int)result);
            }
            CHECK(result == SMOLQ_OK && n > 1 && n < 1000, "%s: %d after %ld failures", op_names[op], (int)result, n - 1);
            bytes_free(&file);
        }
    printf("# %d reads failed\n", n_failed);
}

/* ---- numbers that are none ---- */

static smolq_result eval_one(smolq_context *context, int32_t id, smolq_error *err)
{
    smolq_eval_item item;
    memset(&item, 0, sizeof item);
    item.context = context;
    item.tokens = &id;
    item.n_tokens = 1;
    return smolq_eval(&item, 1, NULL, err);
}

/* NaN, NaN, infinity and minus infinity, the largest and its negative, large, subnormal, minus zero; in f32 and in f16 */
static const uint32_t bad_floats[] = { 0x7fc00000u, 0xffc00001u, 0x7f800000u, 0xff800000u, 0x7f7fffffu, 0xff7fffffu, 0x7e000000u, 1, 0x80000000u };
static const uint32_t bad_halves[] = { 0x7e00u, 0xfe01u, 0x7c00u, 0xfc00u, 0x7bffu, 0xfbffu, 0x7800u, 1, 0x8000u };

/* Every tensor in turn: all of it, then one element. */
static void bad_weights(void)
{
    static const model_options models[] = { { GG_LLAMA, 0, 0, 0 }, { GG_LLAMA, 1, 0, 0 }, { GG_QWEN3, 8, 1, 0 }, { GG_QWEN3MOE, 0, 1, 0 }, { GG_QWEN3MOE, 8, 1, 0 },
                                            { GG_QWEN2, 0, 1, 0 } };
    size_t m, t, b, i;
    int one, n_tried = 0, n_numeric = 0;
    gg_file *f = (gg_file *)calloc(1, sizeof *f);
    if (!f) abort();
    for (m = 0; m < sizeof models / sizeof *models; m++) {
        gg_valid(f, &models[m]);
        for (t = 0; t < f->n_tensors; t++)
            for (b = 0; b < sizeof bad_floats / sizeof *bad_floats; b++)
                for (one = 0; one < 2; one++) {
                    gg_tensor *tensor = &f->tensors[t];
                    void *kept = exact_copy(tensor->data.p, tensor->data.n);
                    uint32_t bad = bad_floats[b], half = bad_halves[b];
                    int f32 = strstr(tensor->name, "norm") || strstr(tensor->name, "bias") || strstr(tensor->name, "gate_inp"), type = f32 ? 0 : models[m].type;
                    size_t step = type == 0 ? 4 : type == 1 ? 2 : 34;
                    bytes file;
                    setting s;
                    smolq_model *model = NULL;
                    char what[160];
                    memset(&file, 0, sizeof file);
                    for (i = one ? tensor->data.n / step / 2 * step : 0; i < tensor->data.n; i = one ? tensor->data.n : i + step)
                        patch(&tensor->data, i, type == 0 ? bad : half, type == 0 ? 4 : 2);
                    gg_write(f, &file);
                    memcpy(tensor->data.p, kept, tensor->data.n);
                    snprintf(what, sizeof what, "%s type %d, %s: %08x%s", gg_families[models[m].family], models[m].type, tensor->name, (unsigned)bad, one ? " once" : "");
                    set_up(&s, file.p, file.n, 0);
                    s.context.kv_type = (int32_t)(b % 3) + SMOLQ_KV_F16;
                    CHECK(smolq_open(NULL, &s.open, &model, NULL) == SMOLQ_OK, "%s: does not open", what);
                    if (model) {
                        smolq_context *context = NULL;
                        smolq_error err;
                        int32_t n_vocab = smolq_model_info(model)->n_vocab, k, j;
                        if (smolq_model_info(model)->head_dim % 32 && s.context.kv_type == SMOLQ_KV_Q8_0) s.context.kv_type = SMOLQ_KV_F32;
                        CHECK(smolq_context_open(model, &s.context, &context, &err) == SMOLQ_OK, "%s: %s", what, err.text);
                        for (k = 0; context && k < 2; k++) {
                            int32_t before = smolq_context_length(context), id = k ? n_vocab / 2 : 3, picked = -1;
                            smolq_result result = eval_one(context, id, &err);
                            n_tried++;
                            n_numeric += result == SMOLQ_E_NUMERIC;
                            CHECK(result == SMOLQ_OK || result == SMOLQ_E_NUMERIC, "%s: %s", what, err.text);
                            CHECK(smolq_context_length(context) == before + (result == SMOLQ_OK), "%s: the length is %d", what, (int)smolq_context_length(context));
                            if (result) continue;
                            for (j = 0; j < n_vocab; j++) CHECK(smolq_is_finite(smolq_context_logits(context)[j]), "%s: logit %d is not finite", what, (int)j);
                            CHECK(smolq_sample(NULL, smolq_context_logits(context), n_vocab, &picked, &err) == SMOLQ_OK, "%s: %s", what, err.text);
                            CHECK(picked >= 0 && picked < n_vocab, "%s: picked %d", what, (int)picked);
                        }
                        smolq_context_close(context);
                    }
                    smolq_close(model);
                    CHECK(s.m.now == 0, "%s: leak", what);
                    bytes_free(&file);
                    free(kept);
                }
        gg_free(f);
        memset(f, 0, sizeof *f);
    }
    free(f);
    printf("# %d evaluations with bad weights, %d of them refused\n", n_tried, n_numeric);
}

/* Every quantized type: blocks of all ones, all zeros, random bytes with every scale bad. */
static void bad_blocks(void)
{
    int t, kind, n_tried = 0;
    for (t = 0; t < BUILD_N_QUANTIZED; t++)
        for (kind = 0; kind < 6; kind++) {
            static const unsigned fills[6] = { 0xff, 0x00, 0x7f, 0xfe, 0x80, 0x7c };
            model_spec spec;
            unsigned char *file;
            size_t n, i;
            setting s;
            smolq_model *model = NULL;
            smolq_tensor_info tensor;
            smolq_error err;
            char what[64];
            memset(&spec, 0, sizeof spec);
            spec.family = "llama";
            spec.type = build_types[t].id;
            spec.n_embd = 256;
            spec.n_ff = 256;
            spec.n_layer = 1;
            file = model_build(&spec, &n);
            snprintf(what, sizeof what, "%s filled with %02x", build_types[t].name, fills[kind]);
            set_up(&s, file, n, 0);
            CHECK(smolq_open(NULL, &s.open, &model, &err) == SMOLQ_OK, "%s: %s", what, err.text);
            if (model) {
                CHECK(smolq_gguf_find_tensor(smolq_model_gguf(model), kind % 2 ? "blk.0.attn_v.weight" : "token_embd.weight", &tensor, &err) == SMOLQ_OK, "%s", err.text);
                for (i = 0; i < (size_t)tensor.bytes; i++) file[(size_t)tensor.offset + i] = (unsigned char)fills[kind];
                use_context(model, &s, what);
                n_tried++;
            }
            smolq_close(model);
            CHECK(s.m.now == 0, "%s: leak", what);
            free(file);
        }
    CHECK(n_tried == BUILD_N_QUANTIZED * 6, "%d models", n_tried);
}

/* One bad embedding among good ones: the call fails, the context is as before, and goes on with the same bits as if nothing had been. */
static void context_survives(void)
{
    bytes file;
    setting s;
    gg_file *f = (gg_file *)calloc(1, sizeof *f);
    model_options options = { GG_LLAMA, 0, 0, 0 };
    smolq_model *model = NULL;
    smolq_context *a = NULL, *b = NULL;
    smolq_eval_item item;
    smolq_error err;
    int32_t good[3] = { 1, 260, 261 }, mixed[4] = { 260, 270, 261, 262 };
    size_t t, i;
    if (!f) abort();
    memset(&file, 0, sizeof file);
    gg_valid(f, &options);
    t = gg_find_tensor(f, "token_embd.weight");
    for (i = 0; i < GG_EMBD; i++) patch(&f->tensors[t].data, (270 * GG_EMBD + i) * 4, 0x7fc00000u, 4); /* token 270 */
    gg_write(f, &file);
    gg_free(f);
    free(f);
    set_up(&s, file.p, file.n, 0);
    REQUIRE(smolq_open(NULL, &s.open, &model, &err) == SMOLQ_OK, "%s", err.text);
    REQUIRE(smolq_context_open(model, &s.context, &a, &err) == SMOLQ_OK && smolq_context_open(model, &s.context, &b, &err) == SMOLQ_OK, "%s", err.text);
    for (i = 0; i < 3; i++) REQUIRE(eval_one(b, good[i], &err) == SMOLQ_OK, "%s", err.text);
    REQUIRE(eval_one(a, good[0], &err) == SMOLQ_OK, "%s", err.text);
    memset(&item, 0, sizeof item);
    item.context = a;
    item.tokens = mixed;
    item.n_tokens = 4;
    for (item.want = SMOLQ_LOGITS_LAST; item.want <= SMOLQ_LOGITS_NONE; item.want++) {
        smolq_result result = smolq_eval(&item, 1, NULL, &err);
        CHECK(result == SMOLQ_E_NUMERIC || item.want == SMOLQ_LOGITS_NONE, "a NaN embedding gives %d", (int)result);
        if (result == SMOLQ_OK) REQUIRE(smolq_context_truncate(a, 1, &err) == SMOLQ_OK, "%s", err.text);
        CHECK(smolq_context_length(a) == 1, "the length is %d", (int)smolq_context_length(a));
    }
    for (i = 1; i < 3; i++) REQUIRE(eval_one(a, good[i], &err) == SMOLQ_OK, "%s", err.text);
    CHECK(memcmp(smolq_context_logits(a), smolq_context_logits(b), (size_t)smolq_model_info(model)->n_vocab * 4) == 0, "other logits after a failed evaluation");
    smolq_context_close(a);
    smolq_context_close(b);
    smolq_close(model);
    bytes_free(&file);
}

/* ---- calls that make no sense ---- */

#define REFUSED(call) do { smolq_result got_ = (poison(&err), call); CHECK(is_refusal(got_, &err), "%s gives %d", #call, (int)got_); } while (0)

static void misuse(void)
{
    bytes file;
    setting s;
    smolq_model *model = NULL;
    smolq_context *context = NULL;
    smolq_sampler *sampler = NULL;
    smolq_gguf *gguf = NULL;
    smolq_vocab *vocab = NULL;
    const smolq_vocab *v;
    smolq_error err;
    smolq_eval_item item;
    smolq_evaluation e;
    smolq_memory memory;
    smolq_token token;
    smolq_pair pair;
    smolq_value value, element;
    smolq_tensor_info tensor;
    smolq_stream stream;
    smolq_open_options bad;
    smolq_context_options c;
    smolq_sampler_options so;
    smolq_sampler_step step;
    smolq_message message;
    smolq_chat_options chat;
    int32_t ids[16] = { 0 }, n_vocab;
    uint64_t cursor = 0;
    size_t n = 77;
    char text[64];
    float logits[4] = { 0, 1, 2, 3 };
    small_model(0, &file);
    set_up(&s, file.p, file.n, 0);

    REFUSED(smolq_open(NULL, NULL, &model, &err));
    REFUSED(smolq_open(NULL, &s.open, NULL, &err));
    REFUSED(smolq_open("x.gguf", &s.open, &model, &err)); /* a path and sources */
    REFUSED(smolq_open("/nowhere/x.gguf", NULL, &model, &err));
    REFUSED(smolq_open("", NULL, &model, &err));
    REFUSED(smolq_open(".", NULL, &model, &err)); /* a directory */
    REFUSED(smolq_gguf_open(NULL, &s.open, NULL, &err));
    REFUSED(smolq_vocab_open(NULL, &s.open, NULL, &err));
    REFUSED(smolq_probe(NULL, &s.open, NULL, &err));
    bad = s.open;
    bad.sources = NULL;
    REFUSED(smolq_open(NULL, &bad, &model, &err));
    bad.n_sources = 0;
    REFUSED(smolq_gguf_open(NULL, &bad, &gguf, &err));
    CHECK(smolq_open(NULL, NULL, &model, NULL) < 0 && smolq_open("/nowhere", NULL, &model, NULL) < 0, "err may be NULL");
    smolq_close(NULL);
    smolq_vocab_close(NULL);
    smolq_gguf_close(NULL);
    smolq_context_close(NULL);
    smolq_sampler_close(NULL);
    smolq_device_close(NULL);

    REQUIRE(smolq_open(NULL, &s.open, &model, &err) == SMOLQ_OK, "%s", err.text);
    REQUIRE(smolq_gguf_open(NULL, &s.open, &gguf, &err) == SMOLQ_OK, "%s", err.text);
    REQUIRE(smolq_vocab_open(NULL, &s.open, &vocab, &err) == SMOLQ_OK, "%s", err.text);
    v = smolq_model_vocab(model);
    n_vocab = smolq_vocab_size(v);

    memset(&c, 0, sizeof c);
    REFUSED(smolq_context_open(NULL, &s.context, &context, &err));
    REFUSED(smolq_context_open(model, &s.context, NULL, &err));
    REFUSED(smolq_plan(NULL, NULL, &memory, &err));
    REFUSED(smolq_plan(model, NULL, NULL, &err));
    c.size = sizeof c;
#define CONTEXT_WITH(field, number) do { \
        c.field = number; \
        REFUSED(smolq_context_open(model, &c, &context, &err)); \
        REFUSED(smolq_plan(model, &c, &memory, &err)); \
        c.field = 0; \
    } while (0)
    CONTEXT_WITH(n_ctx, -1);
    CONTEXT_WITH(n_ctx, INT_MAX);
    CONTEXT_WITH(n_ctx, INT_MIN);
    CONTEXT_WITH(n_batch, -1);
    CONTEXT_WITH(n_batch, INT_MAX);
    CONTEXT_WITH(kv_type, -1);
    CONTEXT_WITH(kv_type, 4);
    CONTEXT_WITH(kv_type, INT_MIN);
    c.max_bytes = 100;
    REFUSED(smolq_context_open(model, &c, &context, &err));
    REQUIRE(smolq_context_open(model, &s.context, &context, &err) == SMOLQ_OK, "%s", err.text);

    memset(&item, 0, sizeof item);
    REFUSED(smolq_eval(NULL, 1, NULL, &err));
    REFUSED(smolq_eval(&item, 0, NULL, &err));
    REFUSED(smolq_eval(&item, -1, NULL, &err));
    REFUSED(smolq_eval(&item, 1, NULL, &err)); /* no context */
    item.context = context;
    REFUSED(smolq_eval(&item, 1, NULL, &err)); /* no tokens */
    item.tokens = ids;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    item.n_tokens = -1;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    item.n_tokens = 9;
    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_CONTEXT_FULL && smolq_context_length(context) == 0, "nine tokens in a context of eight");
    item.n_tokens = INT_MAX;
    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_CONTEXT_FULL, "2^31-1 tokens in a context of eight");
    item.n_tokens = 1;
    item.want = 4;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    item.want = -1;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    item.want = SMOLQ_LOGITS_ALL;
    REFUSED(smolq_eval(&item, 1, NULL, &err)); /* no buffer */
    item.want = SMOLQ_LOGITS_SAMPLE;
    REFUSED(smolq_eval(&item, 1, NULL, &err)); /* no id */
    item.want = SMOLQ_LOGITS_LAST;
    ids[0] = -1;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    ids[0] = n_vocab;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    ids[0] = INT_MIN;
    REFUSED(smolq_eval(&item, 1, NULL, &err));
    ids[0] = 5;
    {
        smolq_eval_item twice[2];
        twice[0] = twice[1] = item;
        REFUSED(smolq_eval(twice, 2, NULL, &err)); /* one context twice */
    }
    memset(&e, 0, sizeof e);
    REFUSED(smolq_eval_step(&e, 0, &err));
    REFUSED(smolq_eval_step(NULL, 0, &err));
    REFUSED(smolq_eval_begin(NULL, &item, 1, NULL, &err));
    smolq_eval_cancel(NULL);
    smolq_eval_cancel(&e);
    CHECK(smolq_eval_begin(&e, &item, 1, NULL, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_E_BUSY && smolq_context_truncate(context, 0, &err) == SMOLQ_E_BUSY &&
          smolq_context_reuse(context, ids, 1, &n, &err) == SMOLQ_E_BUSY, "a context in an evaluation is not busy");
    smolq_eval_cancel(&e);
    CHECK(smolq_context_length(context) == 0 && smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK, "after a cancelled evaluation");
    REFUSED(smolq_eval_step(&e, 0, &err));
    REFUSED(smolq_context_truncate(NULL, 0, &err));
    REFUSED(smolq_context_truncate(context, -1, &err));
    REFUSED(smolq_context_truncate(context, 2, &err));
    REFUSED(smolq_context_reuse(context, NULL, 2, &n, &err));
    REFUSED(smolq_context_reuse(context, ids, 2, NULL, &err));
    REFUSED(smolq_context_reuse(NULL, ids, 2, &n, &err));
    REFUSED(smolq_context_fork(NULL, context, &err));
    REFUSED(smolq_context_fork(context, NULL, &err));
    CHECK(smolq_context_fork(context, context, &err) == SMOLQ_OK && smolq_context_length(context) == 1, "a fork to itself");

    n = 77;
    REFUSED(smolq_tokenize(v, "a", 1, 0, ids, 16, NULL, &err));
    REFUSED(smolq_tokenize(v, NULL, 1, 0, ids, 16, &n, &err));
    REFUSED(smolq_tokenize(v, "a", 1, 0, NULL, 16, &n, &err));
    REFUSED(smolq_tokenize(v, "a", (size_t)INT_MAX + 1, 0, ids, 16, &n, &err));
    REFUSED(smolq_detokenize(v, ids, 1, 0, text, sizeof text, NULL, &err));
    REFUSED(smolq_detokenize(v, NULL, 1, 0, text, sizeof text, &n, &err));
    REFUSED(smolq_detokenize(v, ids, 1, 0, NULL, 10, &n, &err));
    ids[0] = -1;
    REFUSED(smolq_detokenize(v, ids, 1, 0, text, sizeof text, &n, &err));
    ids[0] = n_vocab;
    REFUSED(smolq_detokenize(v, ids, 1, 0, text, sizeof text, &n, &err));
    REFUSED(smolq_token_info(v, -1, &token, &err));
    REFUSED(smolq_token_info(v, n_vocab, &token, &err));
    CHECK(n == 77, "a refused call wrote %d", (int)n);
    CHECK(smolq_tokenize(v, NULL, 0, 0, NULL, 0, &n, &err) == SMOLQ_OK && n == 0, "an empty text has %d tokens", (int)n);
    CHECK(smolq_detokenize(v, NULL, 0, 0, NULL, 0, &n, &err) == SMOLQ_OK && n == 0, "no tokens have %d bytes", (int)n);
    CHECK(smolq_token_find(v, "", 0) == -1 && smolq_token_find(v, NULL, 0) == -1 && !smolq_token_is_eog(v, -1) && !smolq_token_is_eog(v, n_vocab), "ids outside");

    REFUSED(smolq_stream_open(NULL, v, NULL, 0, 0, &err));
    REFUSED(smolq_stream_open(&stream, NULL, NULL, 0, 0, &err));
    REFUSED(smolq_stream_open(&stream, v, NULL, 1, 0, &err));
    REFUSED(smolq_stream_open(&stream, v, NULL, -1, 0, &err));
    REFUSED(smolq_stream_open(&stream, v, NULL, 0, 4, &err));
    CHECK(smolq_stream_open(&stream, v, NULL, 0, 0, &err) == SMOLQ_OK, "%s", err.text);
    REFUSED(smolq_stream_push(&stream, -1, text, sizeof text, &n, &err));
    REFUSED(smolq_stream_push(&stream, n_vocab, text, sizeof text, &n, &err));
    REFUSED(smolq_stream_push(&stream, 260, NULL, 0, &n, &err));

    memset(&message, 0, sizeof message);
    memset(&chat, 0, sizeof chat);
    chat.size = sizeof chat;
    chat.format = "unheard-of";
    message.role = "user";
    message.text = "a";
    message.bytes = 1;
    REFUSED(smolq_chat_tokenize(v, &message, 1, NULL, ids, 16, NULL, &err));
    REFUSED(smolq_chat_tokenize(v, NULL, 1, NULL, ids, 16, &n, &err));
    REFUSED(smolq_chat_tokenize(v, &message, 1, &chat, ids, 16, &n, &err));
    message.text = NULL;
    REFUSED(smolq_chat_tokenize(v, &message, 1, NULL, ids, 16, &n, &err));
    message.text = "a";
    message.role = NULL;
    REFUSED(smolq_chat_tokenize(v, &message, 1, NULL, ids, 16, &n, &err));
    message.role = "\033[2J";
    REFUSED(smolq_chat_tokenize(v, &message, 1, NULL, ids, 16, &n, &err));

    memset(&so, 0, sizeof so);
    memset(&step, 0, sizeof step);
    so.size = sizeof so;
    so.n_steps = 1;
    so.steps = &step;
    REFUSED(smolq_sampler_open(4, NULL, NULL, &err));
    REFUSED(smolq_sampler_open(0, NULL, &sampler, &err));
    REFUSED(smolq_sampler_open(-1, NULL, &sampler, &err));
    step.kind = -1;
    REFUSED(smolq_sampler_open(4, &so, &sampler, &err));
    step.kind = SMOLQ_SAMPLE_COUNT;
    REFUSED(smolq_sampler_open(4, &so, &sampler, &err));
    step.kind = SMOLQ_SAMPLE_LOGIT_BIAS;
    step.n = 1;
    REFUSED(smolq_sampler_open(4, &so, &sampler, &err)); /* no entries */
    CHECK(smolq_sampler_open(4, NULL, &sampler, &err) == SMOLQ_OK, "%s", err.text);
    REFUSED(smolq_sample(sampler, NULL, 4, ids, &err));
    REFUSED(smolq_sample(sampler, logits, 4, NULL, &err));
    REFUSED(smolq_sample(sampler, logits, 3, ids, &err)); /* another vocabulary */
    REFUSED(smolq_sample(NULL, logits, 0, ids, &err));
    smolq_sampler_accept(sampler, -1);
    smolq_sampler_accept(sampler, 4);
    smolq_sampler_accept(sampler, INT_MAX);
    CHECK(smolq_sample(sampler, logits, 4, ids, &err) == SMOLQ_OK && ids[0] >= 0 && ids[0] < 4, "%s", err.text);

    REFUSED(smolq_gguf_pair(gguf, smolq_gguf_info(gguf)->n_pairs, &pair, &err));
    REFUSED(smolq_gguf_pair(gguf, UINT64_MAX, &pair, &err));
    REFUSED(smolq_gguf_tensor(gguf, smolq_gguf_info(gguf)->n_tensors, &tensor, &err));
    REFUSED(smolq_gguf_find(gguf, "nothing", &value, &err));
    REFUSED(smolq_gguf_find(gguf, "", &value, &err));
    REFUSED(smolq_gguf_find_tensor(gguf, "nothing", &tensor, &err));
    CHECK(smolq_gguf_find(gguf, "general.name", &value, &err) == SMOLQ_OK, "%s", err.text);
    REFUSED(smolq_gguf_element(&value, 0, &cursor, &element, &err)); /* no array */
    CHECK(smolq_gguf_find(gguf, "tokenizer.ggml.tokens", &value, &err) == SMOLQ_OK, "%s", err.text);
    REFUSED(smolq_gguf_element(&value, 0, NULL, &element, &err));
    REFUSED(smolq_gguf_element(&value, value.n, &cursor, &element, &err));
    cursor = value.data_bytes;
    REFUSED(smolq_gguf_element(&value, 0, &cursor, &element, &err));
    cursor = UINT64_MAX;
    REFUSED(smolq_gguf_element(&value, 0, &cursor, &element, &err));
    CHECK(smolq_gguf_tensor(gguf, 0, &tensor, &err) == SMOLQ_OK, "%s", err.text);
    REFUSED(smolq_gguf_read(gguf, &tensor, tensor.bytes, text, 1, &err));
    REFUSED(smolq_gguf_read(gguf, &tensor, UINT64_MAX, text, 1, &err));
    REFUSED(smolq_gguf_read(gguf, &tensor, 1, text, (size_t)-1, &err));
    tensor.part = 1;
    REFUSED(smolq_gguf_read(gguf, &tensor, 0, text, 1, &err));
    REFUSED(smolq_unpack(SMOLQ_TYPE_Q8_0, text, logits, 3, &err)); /* not a multiple of the block */
    REFUSED(smolq_unpack(-1, text, logits, 4, &err));
    REFUSED(smolq_unpack(4, text, logits, 4, &err));
    REFUSED(smolq_unpack(INT_MAX, text, logits, 4, &err));
    CHECK(!smolq_type_info(-1) && !smolq_type_info(4) && !smolq_type_info(INT_MAX) && !smolq_type_info(INT_MIN), "types that are none");
    REFUSED(smolq_device_open(NULL, NULL, NULL, &err));
    CHECK(!strcmp(smolq_result_name(-99), "unknown") && !strcmp(smolq_result_name(INT_MIN), "unknown"), "names of no results");

    smolq_sampler_close(sampler);
    smolq_context_close(context);
    smolq_vocab_close(vocab);
    smolq_gguf_close(gguf);
    smolq_close(model);
    CHECK(s.m.now == 0, "%ld bytes leak", (long)s.m.now);
    bytes_free(&file);
}

/* options.size: 0 means the whole struct, a larger one of a newer caller is cut, a smaller one of an older caller reads as zeros beyond. */
static void option_sizes(void)
{
    static const size_t open_sizes[] = { 0, offsetof(smolq_open_options, device), offsetof(smolq_open_options, backend), offsetof(smolq_open_options, device_options),
        offsetof(smolq_open_options, allocator), offsetof(smolq_open_options, limits), offsetof(smolq_open_options, log), offsetof(smolq_open_options, progress),
        offsetof(smolq_open_options, user), sizeof(smolq_open_options), sizeof(smolq_open_options) + 64 };
    struct { smolq_open_options open; unsigned char future[64]; } theirs;
    struct { smolq_context_options context; unsigned char future[64]; } wanted;
    bytes file;
    setting s;
    smolq_model *model = NULL;
    smolq_context *context = NULL;
    smolq_error err;
    smolq_info info;
    uint32_t size;
    size_t i;
    small_model(1, &file);
    set_up(&s, file.p, file.n, 0);
    for (i = 0; i < sizeof open_sizes / sizeof *open_sizes; i++) {
        void *exact;
        memset(&theirs, 0xff, sizeof theirs); /* what must not be looked at */
        theirs.open = s.open;
        theirs.open.size = (uint32_t)open_sizes[i];
        if (open_sizes[i]) memset((char *)&theirs + open_sizes[i], 0xff, sizeof theirs - open_sizes[i]);
        exact = exact_copy(&theirs, open_sizes[i] ? open_sizes[i] : sizeof(smolq_open_options));
        CHECK(smolq_open(NULL, (const smolq_open_options *)exact, &model, &err) == SMOLQ_OK, "size %d: %s", (int)open_sizes[i], err.text);
        smolq_close(model);
        model = NULL;
        free(exact);
    }
    REQUIRE(smolq_open(NULL, &s.open, &model, &err) == SMOLQ_OK, "%s", err.text);
    for (i = 0; i < 2; i++) {
        memset(&wanted, 0xff, sizeof wanted);
        if (i) wanted.context = s.context;
        wanted.context.size = i ? (uint32_t)sizeof wanted : 8; /* size and n_ctx */
        wanted.context.n_ctx = 8;
        CHECK(smolq_context_open(model, &wanted.context, &context, &err) == SMOLQ_OK && smolq_context_capacity(context) == 8, "size %d: %s", (int)wanted.context.size, err.text);
        smolq_context_close(context);
        context = NULL;
    }
    smolq_close(model);
    for (size = 0; size <= sizeof info; size += 4) { /* an older caller's info ends earlier */
        void *exact = exact_copy(&info, size ? size : sizeof info);
        memcpy(exact, &size, sizeof size);
        CHECK(smolq_probe(NULL, &s.open, (smolq_info *)exact, &err) == SMOLQ_OK, "size %d: %s", (int)size, err.text);
        free(exact);
    }
    CHECK(s.m.now == 0, "%ld bytes leak", (long)s.m.now);
    bytes_free(&file);
}

/* ---- much of it ---- */

static void timed_open(const char *what, const bytes *file, double most_ms)
{
    setting s;
    smolq_gguf *gguf = NULL;
    smolq_error err;
    int io;
    for (io = 0; io < 2; io++) {
        double begin;
        set_up(&s, file->p, file->n, io);
        begin = cpu_ms();
        REQUIRE(smolq_gguf_open(NULL, &s.open, &gguf, &err) == SMOLQ_OK, "%s: %s", what, err.text);
        begin = cpu_ms() - begin;
        CHECK(begin < most_ms * SLOWER, "%s: %.0f ms", what, begin);
        printf("# %s%s: %.1f ms, %.1f MB allocated for %.1f MB\n", what, io ? " by read" : "", begin, (double)s.m.peak / 1e6, (double)file->n / 1e6);
        smolq_gguf_close(gguf);
        CHECK(s.m.now == 0, "%s: leak", what);
    }
}

static void many_keys(void)
{
    bytes f;
    int i, twice;
    for (twice = 0; twice < 2; twice++) {
        memset(&f, 0, sizeof f);
        put(&f, "GGUF", 4);
        put_int(&f, 3, 4);
        put_int(&f, 0, 8);
        put_int(&f, 65536, 8);
        for (i = 0; i < 65536; i++) {
            char key[32];
            snprintf(key, sizeof key, "key.%d", twice && i == 65535 ? 0 : i);
            put_string(&f, key);
            put_int(&f, GG_U8, 4);
            put_int(&f, 1, 1);
        }
        if (!twice) timed_open("65536 keys", &f, 1000);
        else {
            verdict v;
            slowest_refusal = 0;
            try_file(f.p, f.n, 0, "65536 keys, the last is the first", &v);
            CHECK(v.result[DOOR_GGUF] == SMOLQ_E_FORMAT && slowest_refusal < 1000 * SLOWER, "%d after %.0f ms", (int)v.result[DOOR_GGUF], slowest_refusal);
        }
        bytes_free(&f);
    }
}

static void many_tensors(void)
{
    bytes f;
    int i, kind;
    for (kind = 0; kind < 3; kind++) { /* in order, in reverse order, all at the same place */
        memset(&f, 0, sizeof f);
        put(&f, "GGUF", 4);
        put_int(&f, 3, 4);
        put_int(&f, 16384, 8);
        put_int(&f, 0, 8);
        for (i = 0; i < 16384; i++) {
            char name[32];
            snprintf(name, sizeof name, "t.%d", i);
            put_string(&f, name);
            put_int(&f, 1, 4);
            put_int(&f, 8, 8);
            put_int(&f, 0, 4);
            put_int(&f, (uint64_t)(kind == 0 ? i : kind == 1 ? 16383 - i : 0) * 32, 8);
        }
        for (i = 0; i < 16384 * 32 + 32; i++) put(&f, "", 1);
        if (kind < 2) timed_open(kind ? "16384 tensors in reverse" : "16384 tensors", &f, 1000);
        else {
            verdict v;
            slowest_refusal = 0;
            try_file(f.p, f.n, 0, "16384 tensors at one place", &v);
            CHECK(v.result[DOOR_GGUF] == SMOLQ_E_FORMAT && slowest_refusal < 1000 * SLOWER, "%d after %.0f ms", (int)v.result[DOOR_GGUF], slowest_refusal);
        }
        bytes_free(&f);
    }
}

/*    name                    unit of the text, repeated to 1 MB */
#define TEXTS(X) \
    X("one letter",           "a") \
    X("spaces",               " ") \
    X("newlines",             "\n") \
    X("NULs",                 "\0") \
    X("combining marks",      "\314\201") \
    X("digits",               "7") \
    X("apostrophes",          "'") \
    X("continuation bytes",   "\200") \
    X("broken characters",    "\360\237\230") \
    X("emoji",                "\360\237\230\200") \
    X("th",                   "th") \
    X("words",                "the and ") \
    X("special tokens",       "<|im_start|>") \
    X("almost special",       "<|im_star") \
    X("letters and marks",    "a\314\201") \
    X("space and newline",    " \n")
typedef struct text_row { const char *name, *unit; size_t n; } text_row;
#define TEXT_ROW(name, unit) { name, unit, sizeof(unit) - 1 },
static const text_row texts[] = { TEXTS(TEXT_ROW) };

static void long_texts(void)
{
    enum { N = 1000000 };
    char *text = (char *)malloc(N);
    size_t i, k, model;
    double slowest = 0;
    char slowest_text[80] = "";
    if (!text) abort();
    for (model = 0; model < 3; model++) {
        setting s;
        bytes file;
        smolq_vocab *vocab = NULL;
        smolq_error err;
        smolq_result result;
        memset(&file, 0, sizeof file);
        if (model < 2) small_model((int)model, &file);
        set_up(&s, file.p, file.n, 0);
        if (model == 2) s.open.n_sources = 0;
        result = smolq_vocab_open(model == 2 ? BUNDLED : NULL, &s.open, &vocab, &err);
        CHECK(result == SMOLQ_OK, "%s", err.text);
        for (i = 0; !result && i < sizeof texts / sizeof *texts; i++) {
            double begin;
            size_t n;
            for (k = 0; k < N; k++) text[k] = texts[i].unit[k % texts[i].n];
            s.m.peak = 0;
            begin = cpu_ms();
            CHECK(smolq_tokenize(vocab, text, N, SMOLQ_PARSE_SPECIAL, NULL, 0, &n, &err) == SMOLQ_E_BUFFER && n > 0, "%s: no ids", texts[i].name);
            begin = cpu_ms() - begin;
            CHECK(begin < 1000 * SLOWER, "1 MB of %s, vocabulary %d: %.0f ms", texts[i].name, (int)model, begin);
            CHECK(s.m.peak < 256u << 20, "1 MB of %s: %ld bytes", texts[i].name, (long)s.m.peak);
            if (begin > slowest) {
                slowest = begin;
                snprintf(slowest_text, sizeof slowest_text, "%s, vocabulary %d", texts[i].name, (int)model);
            }
        }
        smolq_vocab_close(vocab);
        CHECK(s.m.now == 0, "leak");
        bytes_free(&file);
    }
    free(text);
    printf("# 1 MB of text: at most %.0f ms (%s)\n", slowest, slowest_text);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "every malformed file is refused or loads, as it should", malformed_files },
        { "every truncation of two small models is refused", truncations },
        { "files with a flipped bit in the header are refused or run", flipped_bits },
        { "every allocation fails in turn", failing_allocations },
        { "a model's own device allocates where the model does", device_allocates_there },
        { "every memory limit is kept", memory_limits },
        { "every read fails in turn", failing_reads },
        { "NaN, infinite and huge weights give finite logits or an error", bad_weights },
        { "blocks of every type filled with one byte give finite logits or an error", bad_blocks },
        { "a context survives a failed evaluation with its bits", context_survives },
        { "calls that make no sense are refused", misuse },
        { "option structs of other sizes are read as far as they go", option_sizes },
        { "65536 keys open in linear time", many_keys },
        { "16384 tensors open in linear time, and never over one another", many_tensors },
        { "1 MB of anything is tokenized in a second", long_texts },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
