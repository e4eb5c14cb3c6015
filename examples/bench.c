/* bench: how fast a model opens, reads a prompt and writes, and how near that is to the speed of memory.
 *
 *     cc -O2 -I. examples/bench.c -o build/bench -lm
 *     build/bench -m examples/models/smolq-tales.Q4_K_M.gguf -p 128 -n 32
 *
 *     open_ms         smolq_open, everything checked and ready
 *     first_token_ms  from nothing to the first token after a prompt of one token: open, context, one evaluation
 *     prefill_tps     tokens of the prompt per second, in one evaluation
 *     decode_tps      tokens per second after it, one at a time
 *     decode_gbps     decode_tps times the bytes of weights that a token reads
 *     control_gbps    the same bytes read from the same mapping by a loop that only adds them up, one thread, eight streams
 *     peak_rss_bytes  most memory that was ever resident, the mapped file included
 *     kv_bytes        KV cache for prompt and text
 *
 * -t takes a list: a row per thread count, and with --json an object per line. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

typedef struct measure {
    double   open_ms, first_token_ms, prefill_tps, decode_tps, decode_gbps, control_gbps;
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

/* Sums 8-byte words from eight places at once, as memory likes best. */
static uint64_t read_plainly(const unsigned char *data, uint64_t bytes)
{
    uint64_t sum[8] = { 0 }, words = bytes / 64, i, w;
    int s;
    for (i = 0; i < words; i++) {
        for (s = 0; s < 8; s++) {
            memcpy(&w, data + ((uint64_t)s * words + i) * 8, 8);
            sum[s] += w;
        }
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

/* Best GB/s of several passes over what a token reads, half a second of them; *bytes gets how much that is. */
static double control(const smolq_model *model, uint64_t *bytes)
{
    const smolq_gguf *gguf = smolq_model_gguf(model);
    uint64_t n = smolq_gguf_info(gguf)->n_tensors, i;
    volatile uint64_t sink = 0;
    double best = 0, begun = now_ms();
    do {
        double start = now_ms(), speed;
        uint64_t plain = 0;
        *bytes = 0;
        for (i = 0; i < n; i++) {
            smolq_tensor_info tensor;
            uint64_t part;
            if (smolq_gguf_tensor(gguf, i, &tensor, NULL) || !tensor.data) continue;
            part = bytes_per_token(gguf, smolq_model_info(model), &tensor);
            sink ^= read_plainly(tensor.data, part);
            *bytes += part;
            plain += part / 64 * 64;
        }
        speed = (double)plain / (now_ms() - start) / 1e6;
        if (speed > best) best = speed;
    } while (now_ms() - begun < 500);
    (void)sink;
    return best;
}

static void say(const char *what)
{
    if (isatty(fileno(stderr))) fprintf(stderr, "\r\033[K%s", what);
}

static void evaluate(smolq_context *context, const int32_t *ids, int n)
{
    smolq_eval_item item = { context, ids, n, SMOLQ_LOGITS_LAST, NULL };
    smolq_error err;
    check(smolq_eval(&item, 1, NULL, &err), &err);
}

static measure run(engine *e, int n_prompt, int n_text)
{
    measure m = { 0 };
    smolq_memory memory = { 0 };
    smolq_context_options context_of = context_options(e, n_prompt + n_text, 0);
    smolq_context *context;
    smolq_model *model;
    smolq_error err;
    const char *report;
    uint64_t read_bytes;
    int32_t *ids = (int32_t *)need((size_t)n_prompt, sizeof *ids), id;
    int n_vocab, i;
    double start = now_ms();

    say("opening");
    model = open_model(e);
    m.open_ms = now_ms() - start;
    context = open_context(model, &context_of);
    n_vocab = smolq_model_info(model)->n_vocab;
    evaluate(context, ids, 1);
    check(smolq_sample(NULL, smolq_context_logits(context), n_vocab, &id, &err), &err);
    m.first_token_ms = now_ms() - start;

    say("prefill");
    for (i = 0; i < n_prompt; i++) ids[i] = (int32_t)((uint32_t)i * 7919u % (uint32_t)n_vocab); /* any tokens cost the same */
    check(smolq_context_truncate(context, 0, &err), &err);
    start = now_ms();
    evaluate(context, ids, n_prompt);
    m.prefill_tps = n_prompt * 1e3 / (now_ms() - start);

    say("decode");
    start = now_ms();
    for (i = 0; i < n_text; i++) {
        check(smolq_sample(NULL, smolq_context_logits(context), n_vocab, &id, &err), &err);
        evaluate(context, &id, 1);
    }
    m.decode_tps = n_text * 1e3 / (now_ms() - start);

    say("control");
    m.control_gbps = control(model, &read_bytes);
    m.decode_gbps = m.decode_tps * (double)read_bytes / 1e9;
    check(smolq_plan(model, &context_of, &memory, &err), &err);
    m.kv_bytes = memory.kv_bytes;
    m.peak_rss_bytes = peak_rss_bytes();
    report = smolq_device_report(e->device); /* "ref: plain C, ...", "cpu: avx2, ..." */
    if (strncmp(report, "ref", 3) == 0) strcpy(m.isa, "ref");
    else sscanf(report, "%*[^:]: %63[^,\"\\]", m.isa);
    m.n_threads = strcmp(m.isa, "ref") == 0 ? 1 : e->n_threads;
    say("");
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
    int n_prompt = 512, n_text = 64, json = 0, n_rows = 0;
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t",     "1,2", 's', &threads,  "threads, a list (physical cores)" },
        { "-p",     "N",   'i', &n_prompt, "tokens of the prompt (512)" },
        { "-n",     "N",   'i', &n_text,   "tokens to write (64)" },
        { "--json", NULL,  'b', &json,     "print a JSON object" },
        { NULL, NULL, 0, NULL, NULL }
    };

    parse_options(argc, argv, "speed and memory of a model", options);
    if (n_prompt < 1 || n_text < 1) die("-p and -n: expected 1 token or more");
    for (;; threads = end + 1) {
        const char *backend = e.backend ? e.backend : find_backend(NULL) == smolq_backend_ref() ? "ref" : "cpu";
        long n = strtol(threads, &end, 10);
        measure m;
        if (end == threads || (*end && *end != ',') || n < 0 || n > 4096) die("-t %s: expected thread counts such as 1,2", threads);
        e.n_threads = (int)n;
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
                printf("                  |     ms until      | tokens per second |       GB/s        |\n"
                       "backend isa     -t|    open    token|  prefill   decode |  decode   control |peak resident     KV cache\n");
            }
            printf("%-7s %-7s %2d|%8.1f %8.1f |%9.1f %8.1f |%8.2f %9.2f |", backend, m.isa, m.n_threads, m.open_ms, m.first_token_ms,
                   m.prefill_tps, m.decode_tps, m.decode_gbps, m.control_gbps);
            printf("%13s %12s\n", in_mib(&a, m.peak_rss_bytes), in_mib(&b, m.kv_bytes));
        }
        if (!*end) return finish();
        fflush(stdout);
    }
}
