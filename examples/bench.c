/* bench: how fast a model opens, reads a prompt and writes, and how near that is to the speed of memory.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/bench.c smolq_cpu.c -o build/bench -lm -lpthread
 *     build/bench -m examples/models/smolq-tales.Q4_K_M.gguf -p 128 -n 32
 *
 *     open_ms         smolq_open, everything checked and ready
 *     first_token_ms  from nothing to the first token after a prompt of one token: open, context, one evaluation
 *     prefill_tps     tokens of the prompt per second, in one evaluation
 *     decode_tps      tokens per second after it, one at a time; the median of up to eight rounds
 *     decode_gbps     decode_tps times the bytes of weights that a token reads
 *     control_gbps    the same bytes read from the same mapping by a loop that only adds them up, with as many threads, in the fastest of eight manners; a pass
 *                     after every round of decoding, so that both see the same neighbours; the median
 *     peak_rss_bytes  most memory that was ever resident, the mapped file included
 *     kv_bytes        KV cache for prompt and text
 *
 * --types instead takes no model and shows the speed of products with each tensor type: see bench_types.h.
 *
 * -t takes a list: a row per thread count, and with --json an object per line.  The row adds the multiply-adds of the prompt's products, two
 * operations each, and what part of the control decoding reaches.  A model that fits into the caches says little about memory. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"
#ifndef _WIN32
#  include <pthread.h>
#endif

enum { ROUNDS = 8 };

typedef struct measure {
    double   open_ms, first_token_ms, prefill_tps, prefill_gops, decode_tps, decode_gbps, control_gbps;
    uint64_t peak_rss_bytes, kv_bytes;
    char     isa[64];
    int      n_threads;
} measure;

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
enum { LINE = 64, LINES = 4, MANNERS = 8 };
static uint64_t read_plainly(const unsigned char *data, uint64_t bytes, int manner)
{
    uint64_t streams = (uint64_t)1 << manner / 2, apart = bytes / (streams * LINES * LINE) * (LINES * LINE), at, sum[LINES] = { 0 }, word, s;
    int i;
    for (at = 0; at < apart; at += LINES * LINE)
        for (s = 0; s < streams; s++) {
            const unsigned char *p = data + s * apart + at;
            for (i = 0; i < LINES; i++) {
#if defined(__GNUC__)
                if (manner % 2) __builtin_prefetch(p + i * LINE + 1024);
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

/* Passes over the weights per second. */
static double control(const weights *w, int n_threads, int manner)
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

/* Evaluates tokens and returns the likeliest one after them. */
static int32_t evaluate(smolq_context *context, const int32_t *ids, int n)
{
    int32_t id = 0;
    smolq_eval_item item = { context, ids, n, SMOLQ_LOGITS_SAMPLE, NULL, NULL, &id };
    smolq_error err;
    check(smolq_eval(&item, 1, NULL, &err), &err);
    return id;
}

#include "bench_types.h"

static measure run(engine *e, int n_prompt, int n_text)
{
    measure m = { 0 };
    smolq_memory memory = { 0 };
    smolq_context_options context_of = context_options(e, n_prompt + n_text, 0);
    smolq_context *context;
    smolq_model *model;
    smolq_error err;
    const char *report;
    double decodes[ROUNDS], controls[ROUNDS], fastest = 0;
    int manner, best_manner = 0;
    weights w;
    int32_t *ids = (int32_t *)need((size_t)n_prompt, sizeof *ids), id;
    int n_vocab, n_rounds = n_text < ROUNDS ? n_text : ROUNDS, round, i;
    double start = now_ms();

    say("opening");
    model = open_model(e);
    m.open_ms = now_ms() - start;
    context = open_context(model, &context_of);
    n_vocab = smolq_model_info(model)->n_vocab;
    evaluate(context, ids, 1);
    m.first_token_ms = now_ms() - start;

    say("prefill");
    for (i = 0; i < n_prompt; i++) ids[i] = (int32_t)((uint32_t)i * 7919u % (uint32_t)n_vocab); /* any tokens cost the same */
    check(smolq_context_truncate(context, 0, &err), &err);
    start = now_ms();
    id = evaluate(context, ids, n_prompt);
    m.prefill_tps = n_prompt * 1e3 / (now_ms() - start);

    say("decode");
    report = smolq_device_report(e->device); /* "ref: plain C, ...", "cpu: avx2, 2 threads" */
    m.n_threads = 1;
    if (strncmp(report, "ref", 3) == 0) strcpy(m.isa, "ref");
    else sscanf(report, "%*[^:]: %63[^,\"\\], %d", m.isa, &m.n_threads);
    w = weights_of(model);
    m.prefill_gops = m.prefill_tps * w.n_products * 2e-9;
    for (manner = 0; manner < MANNERS; manner++) { /* which manner of reading this machine likes best for these bytes */
        double speed = control(&w, m.n_threads, manner);
        if (speed > fastest) {
            fastest = speed;
            best_manner = manner;
        }
    }
    for (round = 0; round < n_rounds; round++) {
        int begin = n_text * round / n_rounds, end = n_text * (round + 1) / n_rounds;
        start = now_ms();
        for (i = begin; i < end; i++) id = evaluate(context, &id, 1);
        decodes[round] = (end - begin) * 1e3 / (now_ms() - start);
        controls[round] = control(&w, m.n_threads, best_manner);
    }
    m.decode_tps = median(decodes, n_rounds);
    m.decode_gbps = m.decode_tps * (double)w.bytes / 1e9;
    m.control_gbps = median(controls, n_rounds) * (double)w.bytes / 1e9;
    check(smolq_plan(model, &context_of, &memory, &err), &err);
    m.kv_bytes = memory.kv_bytes;
    m.peak_rss_bytes = peak_rss_bytes();
    say("");
    free(w.spans);
    free(ids);
    smolq_context_close(context);
    smolq_close(model);
    smolq_device_close(e->device);
    return m;
}

int main(int argc, char **argv)
{
    engine e = { 0 };
    const char *threads = "0";
    char *end;
    int n_prompt = 512, n_text = 64, json = 0, by_type = 0, n_rows = 0;
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t",     "1,2", 's', &threads,  "threads, a list (physical cores)" },
        { "-p",     "N",   'i', &n_prompt, "tokens of the prompt (512)" },
        { "-n",     "N",   'i', &n_text,   "tokens to write (64)" },
        { "--json", NULL,  'b', &json,     "print a JSON object" },
        { "--types", NULL, 'b', &by_type,  "no model: products with each tensor type" },
        { NULL, NULL, 0, NULL, NULL }
    };

    parse_options(argc, argv, "speed and memory of a model", options);
    if (n_prompt < 1 || n_text < 1) die("-p and -n: expected 1 token or more");
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
        m = run(&e, n_prompt, n_text);
        if (json) {
            printf("{\"open_ms\": %.3f, \"first_token_ms\": %.3f, \"prefill_tps\": %.3f, \"decode_tps\": %.3f, ", m.open_ms, m.first_token_ms,
                   m.prefill_tps, m.decode_tps);
            printf("\"decode_gbps\": %.4f, \"control_gbps\": %.4f, ", m.decode_gbps, m.control_gbps);
            printf("\"peak_rss_bytes\": %llu, \"kv_bytes\": %llu, ", (unsigned long long)m.peak_rss_bytes, (unsigned long long)m.kv_bytes);
            printf("\"backend\": \"%s\", \"isa\": \"%s\", \"threads\": %d}\n", backend, m.isa, m.n_threads);
        } else {
            amount a, b;
            if (n_rows++ == 0) {
                printf("                  |     ms until      |      prefill        | decode |         GB/s             |\n"
                       "backend isa     -t|    open    token|   tok/s       Gop/s |  tok/s |  decode  control  reached|peak resident     KV cache\n");
            }
            printf("%-7s %-7s %2d|%8.1f %8.1f |%8.1f %11.1f |%7.1f |", backend, m.isa, m.n_threads, m.open_ms, m.first_token_ms, m.prefill_tps, m.prefill_gops, m.decode_tps);
            printf("%8.2f %8.2f %6.0f %% |", m.decode_gbps, m.control_gbps, 100 * m.decode_gbps / m.control_gbps);
            printf("%13s %12s\n", in_mib(&a, m.peak_rss_bytes), in_mib(&b, m.kv_bytes));
        }
        if (!*end) return finish();
        fflush(stdout);
    }
}
