/* logits: what the model thinks at every position, as raw numbers or as a hash of them.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/logits.c smolq_cpu.c -o build/logits -lm -lpthread
 *     build/logits -m examples/models/smolq-tales.Q4_K_M.gguf --tokens "4080 704 549 258 482" --hash
 *
 * The output is f32, little-endian, [n_tokens][n_vocab].  The hash is FNV-1a (64 bits) over those bytes: it is the same for every backend,
 * thread count and batch size, which is how smolq is checked. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

static uint64_t fnv1a(uint64_t hash, const unsigned char *bytes, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

int main(int argc, char **argv)
{
    engine e = { 0 };
    const char *tokens = NULL, *path = NULL;
    int batch = 64, hash = 0;
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t",       "N",     'i', &e.n_threads, "threads of the cpu backend (physical cores)" },
        { "--tokens", "IDS",   's', &tokens,      "token ids, such as \"1 2 3\"" },
        { "--batch",  "N",     'i', &batch,       "tokens to evaluate at once (64)" },
        { "-o",       "OUT",   's', &path,        "write to this file instead of standard output" },
        { "--hash",   NULL,    'b', &hash,        "print 16 hex digits instead" },
        { NULL, NULL, 0, NULL, NULL }
    };
    uint64_t digest = 0xcbf29ce484222325u;
    smolq_context_options context_of;
    smolq_context *context;
    smolq_model *model;
    smolq_error err;
    unsigned char *bytes;
    int32_t *ids;
    float *logits;
    size_t n, i, n_now, n_vocab;
    FILE *out = stdout;

    parse_options(argc, argv, "the logits of every position", options);
    if (!tokens) die("no tokens: say --tokens \"1 2 3\"");
    if (batch < 1) die("--batch 0: expected 1 or more tokens");
    if (hash && path) die("-o and --hash exclude each other");
    if (!hash && !path && isatty(fileno(stdout))) die("raw numbers are not for a terminal: say -o OUT or --hash");
    ids = parse_ids(tokens, &n);
    if (n < 1 || n > INT32_MAX) die("--tokens: expected one id or more");
    if ((size_t)batch > n) batch = (int)n;
    model = open_model(&e);
    context_of = context_options(&e, (int)n, batch);
    context = open_context(model, &context_of);
    n_vocab = (size_t)smolq_model_info(model)->n_vocab;
    logits = (float *)need((size_t)batch * n_vocab, sizeof *logits);
    bytes = (unsigned char *)need((size_t)batch * n_vocab, sizeof *logits);
    if (path && !(out = fopen(path, "wb"))) die("can't write %s: %s", path, strerror(errno));
    binary(out);

    for (i = 0; i < n; i += n_now) {
        smolq_eval_item item = { context, ids + i, batch, SMOLQ_LOGITS_ALL, logits, NULL, NULL };
        n_now = n - i < (size_t)batch ? n - i : (size_t)batch;
        item.n_tokens = (int32_t)n_now;
        check(smolq_eval(&item, 1, NULL, &err), &err);
        float_bytes(logits, n_now * n_vocab, bytes);
        if (hash) digest = fnv1a(digest, bytes, n_now * n_vocab * 4);
        else if (fwrite(bytes, 4 * n_vocab, n_now, out) != n_now) die("can't write %s: %s", path ? path : "the output", strerror(errno));
    }
    if (hash) printf("%016llx\n", (unsigned long long)digest);
    if (path && fclose(out)) die("can't write %s: %s", path, strerror(errno));

    free(bytes);
    free(logits);
    free(ids);
    smolq_context_close(context);
    smolq_close(model);
    smolq_device_close(e.device);
    return finish();
}
