/* bench: how fast a model opens, reads a prompt and writes, and how near that is to the speed of memory.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/bench.c smolq_cpu.c -o build/bench -lm -lpthread
 *     build/bench -m examples/models/smolq-tales.Q4_K_M.gguf -p 128 -n 32
 *
 *     nvcc -O2 -I. -DSMOLQ_WITH_CPU -DSMOLQ_WITH_CUDA examples/bench.c examples/bench_cuda.cu smolq_cpu.c smolq_cuda.cu -o build/bench -lm -lpthread     and --backend cuda
 *
 *     open_ms         the device and smolq_open, everything checked and ready
 *     first_token_ms  from nothing to the first token after a prompt of one token: open, context, one evaluation
 *     prefill_tps     tokens of the prompt per second, in one evaluation; on a GPU the median of five, after one that is not counted, in which CUDA loads its kernels
 *     decode_tps      tokens per second, one at a time in each of -b contexts, -d tokens long at the beginning (as long as the prompt); the median of up to eight rounds
 *     decode_gbps     evaluations per second times the bytes of weights that a token reads
 *     kv_gbps         decode_tps times the bytes of the KV cache that a token reads: all of what is filled halfway
 *     control_gbps    the same bytes of weights read from the same mapping by a loop that only adds them up, with as many threads, in the fastest of twelve manners; a pass
 *                     after every round of decoding, so that both see the same neighbours; the median.  On a GPU as many bytes of its memory: examples/bench_cuda.cu.
 *                     0 where nothing is measured: layers on both sides, no room
 *     upload_gbps     weights copied to the device, between the first and the last piece; 0 where nothing is
 *     peak_rss_bytes  most memory that was ever resident, the mapped file included
 *     kv_bytes        KV cache of a context for prompt and text
 *     device_bytes    of the GPU's memory: weights and contexts
 *
 * --types instead takes no model and shows the speed of products with each tensor type: see bench_types.h.
 *
 * -t takes a list: a row per thread count, and with --json an object per line.  The row adds the multiply-adds of the prompt's products, two
 * operations each, and what part of the control decoding reaches, weights and KV cache together.  A model that fits into the caches says little about memory. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"
#ifndef _WIN32
#  include <pthread.h>
#endif

enum { ROUNDS = 8 };

typedef struct measure {
    double   open_ms, first_token_ms, prefill_tps, prefill_gops, decode_tps, decode_gbps, kv_gbps, control_gbps, upload_gbps;
    uint64_t peak_rss_bytes, kv_bytes, device_bytes;
    char     isa[64];
    int      n_threads;
} measure;

typedef struct task { int n_prompt, n_text, depth, n_contexts, n_batch; } task; /* what to measure */

static int is_named(const smolq_tensor_info *t, const char *part)
{
    size_t n = strlen(part), i;
    for (i = 0; i + n <= t->name_bytes; i++) {
        if (memcmp(t->name + i, part, n) == 0) return 1;
    }
    return 0;
}

/* Bytes of this tensor that one token reads: all of a matrix, one row of the embedding unless it is the output too, the chosen experts. */
static uint64_t bytes_per_token(const smolq_gguf *gguf, const smolq_info *info, const smolq_tensor_info *t)
{
    smolq_tensor_info output;
    int tied = smolq_gguf_find_tensor(gguf, "output.weight", &output, NULL) != SMOLQ_OK;
    if (is_named(t, "token_embd.weight") && !tied) return t->bytes / t->ne[1];
    if (is_named(t, "_exps.") && info->n_expert > 0) return t->bytes / (uint64_t)info->n_expert * (uint64_t)info->n_expert_used;
    return t->bytes;
}

/* Reads bytes from several places at once, four cache lines from each, perhaps asking ahead.  A word of a line is enough: memory delivers lines. */
enum { LINE = 64, LINES = 4, MANNERS = 12 }; /* 1, 2, 4 or 8 places; nothing, 1 KB or 2 KB ahead, that into the second-level cache */
static uint64_t read_plainly(const unsigned char *data, uint64_t bytes, int manner)
{
    uint64_t streams = (uint64_t)1 << manner / 3, apart = bytes / (streams * LINES * LINE) * (LINES * LINE), at, sum[LINES] = { 0 }, word, s;
    int i;
    for (at = 0; at < apart; at += LINES * LINE)
        for (s = 0; s < streams; s++) {
            const unsigned char *p = data + s * apart + at;
            for (i = 0; i < LINES; i++) {
#if defined(__GNUC__)
                if (manner % 3 == 1) __builtin_prefetch(p + i * LINE + 1024);
                if (manner % 3 == 2) __builtin_prefetch(p + i * LINE + 2048, 0, 2);
#endif
                memcpy(&word, p + i * LINE, sizeof word);
                sum[i] += word;
            }
        }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

/* What a token reads, in the places where the model has it. */
typedef struct span { const unsigned char *data; uint64_t bytes; } span;
typedef struct weights {
    span    *spans;
    size_t   n;
    uint64_t bytes;   /* of all spans */
    double   n_products; /* multiply-adds of a token in a prompt: all matrices but the output */
} weights;

static int by_place(const void *a, const void *b)
{
    const unsigned char *p = ((const span *)a)->data, *q = ((const span *)b)->data;
    return p < q ? -1 : p > q;
}

static weights weights_of(const smolq_model *model)
{
    const smolq_gguf *gguf = smolq_model_gguf(model);
    const smolq_info *info = smolq_model_info(model);
    uint64_t n = smolq_gguf_info(gguf)->n_tensors, i;
    weights w = { 0 };
    w.spans = (span *)need((size_t)n, sizeof *w.spans);
    for (i = 0; i < n; i++) {
        smolq_tensor_info t;
        double part;
        if (smolq_gguf_tensor(gguf, i, &t, NULL) || !t.data) continue;
        w.spans[w.n].data = (const unsigned char *)t.data;
        w.spans[w.n].bytes = bytes_per_token(gguf, info, &t);
        part = (double)w.spans[w.n].bytes / (double)t.bytes;
        if (t.n_dims > 1 && is_named(&t, "blk.")) w.n_products += part * (double)(t.ne[0] * t.ne[1] * t.ne[2]);
        w.bytes += w.spans[w.n++].bytes;
    }
    qsort(w.spans, w.n, sizeof *w.spans, by_place);
    for (i = 1, n = 1; i < w.n; i++) { /* neighbors are read as one: the longer, the faster */
        span *last = &w.spans[n - 1];
        if (w.spans[i].data - (last->data + last->bytes) < 4096) last->bytes = (uint64_t)(w.spans[i].data - last->data) + w.spans[i].bytes;
        else w.spans[n++] = w.spans[i];
    }
    w.n = (size_t)n;
    return w;
}

/* The control: the same bytes, each thread its share of every span. */
typedef struct reader {
    const weights *w;
    uint64_t       index, n, sum;
    int            manner;
#ifdef _WIN32
    HANDLE         thread;
#else
    pthread_t      thread;
#endif
} reader;

static void read_share(reader *r)
{
    size_t i;
    for (i = 0; i < r->w->n; i++) {
        uint64_t begin = r->w->spans[i].bytes * r->index / r->n, end = r->w->spans[i].bytes * (r->index + 1) / r->n;
        r->sum ^= read_plainly(r->w->spans[i].data + begin, end - begin, r->manner);
    }
}
#ifdef _WIN32
static DWORD WINAPI reader_thread(void *arg) { read_share((reader *)arg); return 0; }
static void start(reader *r) { if (!(r->thread = CreateThread(NULL, 0, reader_thread, r, 0, NULL))) die("can't start a thread"); }
static void join(reader *r) { WaitForSingleObject(r->thread, INFINITE); CloseHandle(r->thread); }
#else
static void *reader_thread(void *arg) { read_share((reader *)arg); return NULL; }
static void start(reader *r) { if (pthread_create(&r->thread, NULL, reader_thread, r)) die("can't start a thread"); }
static void join(reader *r) { pthread_join(r->thread, NULL); }
#endif

#ifdef SMOLQ_WITH_CUDA /* examples/bench_cuda.cu */
void *bench_cuda_open(uint64_t bytes);
int   bench_cuda_manners(void);
int   bench_cuda_read(void *reader, int manner, int passes);
void  bench_cuda_close(void *reader);
#else
static void *bench_cuda_open(uint64_t bytes) { (void)bytes; return NULL; }
static int   bench_cuda_manners(void) { return 0; }
static int   bench_cuda_read(void *reader, int manner, int passes) { (void)reader; (void)manner; (void)passes; return 1; }
static void  bench_cuda_close(void *reader) { (void)reader; }
#endif

/* Passes over the weights per second. */
static double control_of_host(const weights *w, int n_threads, int manner)
{
    static volatile uint64_t sink; /* or the compiler reads nothing */
    reader readers[256] = { 0 };
    double begun = now_ms();
    int i;
    for (i = 0; i < n_threads; i++) {
        readers[i].w = w;
        readers[i].index = (uint64_t)i;
        readers[i].n = (uint64_t)n_threads;
        readers[i].manner = manner;
        if (i > 0) start(&readers[i]);
    }
    read_share(&readers[0]);
    for (i = 1; i < n_threads; i++) join(&readers[i]);
    begun = now_ms() - begun;
    for (i = 0; i < n_threads; i++) sink ^= readers[i].sum;
    (void)sink;
    return 1e3 / begun;
}

/* Who reads plainly, and in which manner. */
typedef struct control {
    const weights *w;
    void          *on_device; /* NULL: threads of the host */
    int            n_threads; /* 0, and no device: nobody */
    int            manner;
} control;

static double control_in(const control *c, int manner)
{
    enum { PASSES = 8 }; /* a launch takes as long as a small part of one */
    double begun = now_ms();
    if (!c->on_device) return control_of_host(c->w, c->n_threads, manner);
    if (bench_cuda_read(c->on_device, manner, PASSES)) die("the control failed on the GPU");
    return PASSES * 1e3 / (now_ms() - begun);
}

static control control_open(const weights *w, int n_threads, void *on_device)
{
    control c = { w, on_device, n_threads, 0 };
    double fastest = 0;
    int manner, n = on_device ? bench_cuda_manners() : n_threads ? MANNERS : 0;
    if (on_device) control_in(&c, 0); /* CUDA loads the kernels */
    for (manner = 0; manner < n; manner++) { /* which manner of reading this machine likes best for these bytes */
        double speed = control_in(&c, manner);
        if (speed > fastest) {
            fastest = speed;
            c.manner = manner;
        }
    }
    return c;
}

static int rising(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }
static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, rising);
    return (x[(n - 1) / 2] + x[n / 2]) / 2;
}

static void say(const char *what)
{
    if (isatty(fileno(stderr))) fprintf(stderr, "\r\033[K%s", what);
}

/* Evaluates tokens and draws the likeliest one after them. */
static void evaluate(smolq_context *context, const int32_t *ids, int n)
{
    int32_t id;
    smolq_eval_item item = { context, ids, n, SMOLQ_LOGITS_SAMPLE, NULL, NULL, &id };
    smolq_error err;
    check(smolq_eval(&item, 1, NULL, &err), &err);
}

/* When the first and the last piece of the weights had been copied to the device. */
typedef struct upload { double first_ms, last_ms; float first, last; } upload;
static int note_upload(void *user, float done)
{
    upload *u = (upload *)user;
    u->last_ms = now_ms();
    u->last = done;
    if (u->first_ms == 0) {
        u->first_ms = u->last_ms;
        u->first = done;
    }
    return 0;
}

#include "bench_types.h"

/* Prompt tokens per second, the context left with the prompt. */
static double prefill(smolq_context *context, const int32_t *ids, int n, int n_rounds)
{
    double rounds[ROUNDS], start;
    smolq_error err;
    int round;
    for (round = 0; round < n_rounds; round++) {
        check(smolq_context_truncate(context, 0, &err), &err);
        start = now_ms();
        evaluate(context, ids, n);
        rounds[round] = n * 1e3 / (now_ms() - start);
    }
    return n_rounds > 1 ? median(rounds + 1, n_rounds - 1) : rounds[0];
}

/* The context holds `depth` tokens, of which n_prompt are there. */
static void deepen(smolq_context *context, const int32_t *ids, int n_prompt, int depth)
{
    smolq_error err;
    if (depth > n_prompt) evaluate(context, ids + n_prompt, depth - n_prompt);
    if (depth < n_prompt) check(smolq_context_truncate(context, depth, &err), &err);
}

static void decode(measure *m, const control *c, const smolq_eval_item *items, const task *t)
{
    double decodes[ROUNDS], controls[ROUNDS] = { 0 };
    int n_rounds = t->n_text < ROUNDS ? t->n_text : ROUNDS, round, i;
    smolq_error err;
    for (round = 0; round < n_rounds; round++) {
        int begin = t->n_text * round / n_rounds, end = t->n_text * (round + 1) / n_rounds;
        double start = now_ms();
        for (i = begin; i < end; i++) check(smolq_eval(items, t->n_contexts, NULL, &err), &err);
        decodes[round] = (end - begin) * 1e3 / (now_ms() - start);
        if (c->on_device || c->n_threads) controls[round] = control_in(c, c->manner);
    }
    m->decode_tps = median(decodes, n_rounds);
    m->decode_gbps = m->decode_tps * (double)c->w->bytes / 1e9;
    m->control_gbps = median(controls, n_rounds) * (double)c->w->bytes / 1e9;
    m->decode_tps *= t->n_contexts;
}

static measure run(engine *e, const task *t)
{
    measure m = { 0 };
    smolq_memory memory = { 0 };
    int n_ids = t->n_prompt > t->depth ? t->n_prompt : t->depth, n_ctx = n_ids + t->n_text, n_vocab, i;
    smolq_context_options context_of = context_options(e, n_ctx, t->n_batch);
    smolq_eval_item *items = (smolq_eval_item *)need((size_t)t->n_contexts, sizeof *items);
    int32_t *ids = (int32_t *)need((size_t)n_ids, sizeof *ids), *next = (int32_t *)need((size_t)t->n_contexts, sizeof *next);
    upload u = { 0 };
    control c;
    const smolq_info *info;
    smolq_context *context;
    smolq_model *model;
    smolq_error err;
    const char *report;
    void *on_device = NULL;
    weights w;
    double start = now_ms();

    say("opening");
    e->progress = note_upload;
    e->progress_user = &u;
    model = open_model(e);
    m.open_ms = now_ms() - start;
    context = open_context(model, &context_of);
    info = smolq_model_info(model);
    n_vocab = info->n_vocab;
    evaluate(context, ids, 1);
    m.first_token_ms = now_ms() - start;
    if (u.last > u.first) m.upload_gbps = (u.last - u.first) * (double)info->device_bytes * 1e-6 / (u.last_ms - u.first_ms);

    say("prefill");
    for (i = 0; i < n_ids; i++) ids[i] = (int32_t)((uint32_t)i * 7919u % (uint32_t)n_vocab); /* any tokens cost the same */
    m.prefill_tps = prefill(context, ids, t->n_prompt, info->device_bytes ? 6 : 1);
    deepen(context, ids, t->n_prompt, t->depth);

    say("decode");
    report = smolq_device_report(e->device); /* "ref: plain C, ...", "cpu: avx2, 2 threads", "cuda: NVIDIA H100, sm_90, 132 SMs, ..." */
    m.n_threads = 1;
    if (strncmp(report, "ref", 3) == 0) strcpy(m.isa, "ref");
    else if (info->device_bytes) sscanf(report, "%*[^,], %63[^,\"\\]", m.isa);
    else sscanf(report, "%*[^:]: %63[^,\"\\], %d", m.isa, &m.n_threads);
    w = weights_of(model);
    m.prefill_gops = m.prefill_tps * w.n_products * 2e-9;
    for (i = 0; i < t->n_contexts; i++) {
        smolq_eval_item item = { i ? open_context(model, &context_of) : context, &next[i], 1, SMOLQ_LOGITS_SAMPLE, NULL, NULL, &next[i] };
        items[i] = item;
        next[i] = ids[i % n_ids];
        if (i) check(smolq_context_fork(item.context, context, &err), &err);
    }
    if (info->device_bytes && info->host_layers == 0) on_device = bench_cuda_open(w.bytes);
    c = control_open(&w, info->device_bytes ? 0 : m.n_threads, on_device);
    decode(&m, &c, items, t);
    check(smolq_plan(model, &context_of, &memory, &err), &err);
    m.kv_bytes = memory.kv_bytes;
    m.kv_gbps = m.decode_tps * (double)memory.kv_bytes * (t->depth + t->n_text / 2) / n_ctx / 1e9;
    m.device_bytes = info->device_bytes + memory.device_bytes * (uint64_t)t->n_contexts;
    m.peak_rss_bytes = peak_rss_bytes();
    say("");
    if (on_device) bench_cuda_close(on_device);
    for (i = 0; i < t->n_contexts; i++) smolq_context_close(items[i].context);
    smolq_close(model);
    smolq_device_close(e->device);
    free(w.spans);
    free(items);
    free(next);
    free(ids);
    return m;
}

int main(int argc, char **argv)
{
    engine e = { 0 };
    const char *threads = "0";
    char *end;
    task t = { 512, 64, -1, 1, 0 };
    int json = 0, by_type = 0, n_rows = 0;
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t",     "1,2", 's', &threads,  "threads, a list (physical cores)" },
        { "-p",     "N",   'i', &t.n_prompt, "tokens of the prompt (512)" },
        { "-n",     "N",   'i', &t.n_text, "tokens to write (64)" },
        { "-d",     "N",   'i', &t.depth,  "tokens in the context where writing begins (as many as the prompt has)" },
        { "-b",     "N",   'i', &t.n_contexts, "contexts that write, a token of each in one evaluation (1)" },
        { "--batch", "N",  'i', &t.n_batch, "tokens that pass through the layers at once (128)" },
        { "--json", NULL,  'b', &json,     "print a JSON object" },
        { "--types", NULL, 'b', &by_type,  "no model: products with each tensor type" },
        { NULL, NULL, 0, NULL, NULL }
    };

    parse_options(argc, argv, "speed and memory of a model", options);
    if (t.n_prompt < 1 || t.n_text < 1) die("-p and -n: expected 1 token or more");
    if (t.n_contexts < 1) die("-b: expected 1 context or more");
    if (t.depth < 0) t.depth = t.n_prompt;
    if (t.depth == 0) t.depth = 1; /* there are no logits before a token */
    for (;; threads = end + 1) {
        const char *backend = e.backend ? e.backend : find_backend(NULL) == smolq_backend_ref() ? "ref" : "cpu";
        long n = strtol(threads, &end, 10);
        measure m;
        if (end == threads || (*end && *end != ',') || n < 0 || n > 256) die("-t %s: expected thread counts such as 1,2", threads);
        e.n_threads = (int)n;
        if (by_type) {
            bench_types(find_backend(e.backend), e.isa, e.n_threads, json);
            if (!*end) return finish();
            continue;
        }
        m = run(&e, &t);
        if (json) {
            printf("{\"open_ms\": %.3f, \"first_token_ms\": %.3f, \"prefill_tps\": %.3f, \"decode_tps\": %.3f, ", m.open_ms, m.first_token_ms,
                   m.prefill_tps, m.decode_tps);
            printf("\"decode_gbps\": %.4f, \"control_gbps\": %.4f, ", m.decode_gbps, m.control_gbps);
            printf("\"kv_gbps\": %.4f, \"upload_gbps\": %.4f, \"depth\": %d, \"contexts\": %d, ", m.kv_gbps, m.upload_gbps, t.depth, t.n_contexts);
            printf("\"peak_rss_bytes\": %llu, \"kv_bytes\": %llu, \"device_bytes\": %llu, ", (unsigned long long)m.peak_rss_bytes, (unsigned long long)m.kv_bytes,
                   (unsigned long long)m.device_bytes);
            printf("\"backend\": \"%s\", \"isa\": \"%s\", \"threads\": %d}\n", backend, m.isa, m.n_threads);
        } else {
            amount a, b, d;
            char reached[16] = "-";
            if (n_rows++ == 0) {
                printf("                  |     ms until      |      prefill        |       decode        |               GB/s               |\n"
                       "backend isa     -t|    open    token|   tok/s       Gop/s |    at   x     tok/s |weights     KV  control  reached|peak resident     KV cache       device\n");
            }
            if (m.control_gbps > 0) snprintf(reached, sizeof reached, "%.0f %%", 100 * (m.decode_gbps + m.kv_gbps) / m.control_gbps);
            printf("%-7s %-7s %2d|%8.1f %8.1f |%8.1f %11.1f |%6d %3d %9.1f |", backend, m.isa, m.n_threads, m.open_ms, m.first_token_ms, m.prefill_tps, m.prefill_gops, t.depth, t.n_contexts,
                   m.decode_tps);
            printf("%7.2f %6.2f %8.2f %8s |", m.decode_gbps, m.kv_gbps, m.control_gbps, reached);
            printf("%13s %12s %12s\n", in_mib(&a, m.peak_rss_bytes), in_mib(&b, m.kv_bytes), in_mib(&d, m.device_bytes));
        }
        if (!*end) return finish();
        fflush(stdout);
    }
}
