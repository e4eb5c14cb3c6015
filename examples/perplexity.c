/* perplexity: how well a model predicts a text.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/perplexity.c smolq_cpu.c -o build/perplexity -lm -lpthread
 *     build/perplexity -m examples/models/smolq-tales.Q4_K_M.gguf -f README.md -c 512
 *
 * The text is cut into pieces of CTX tokens, each read in an empty context.  A piece begins with the model's BOS token where the file asks for
 * one, so that every token of the text is predicted; without one the first of each piece is not.  Perplexity is exp of the mean of -ln p over
 * the predicted tokens; bits per byte is the same sum in bits over the bytes that those tokens stand for, which compares models of different
 * vocabularies.  "Later halves" counts the later half of each full piece alone, where the model has something to go by: the habit of
 * llama-perplexity.
 *
 * --kl REFERENCE reads the text with a second model too, such as the one that this was quantized from, and says how far the predictions are from its:
 * the Kullback-Leibler divergence sum p ln(p / q) of each prediction, p the reference's, and how often both hold the same token for the likeliest. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

enum { BATCH = 64 };

typedef struct score { double nll; size_t n; } score; /* sum of -ln p over n tokens */

static double perplexity(score s) { return s.n ? exp(s.nll / (double)s.n) : 0; }

static size_t likeliest(const float *logits, size_t n_vocab)
{
    size_t i, best = 0;
    for (i = 1; i < n_vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* ln of the sum of e^logit: a logit less this is ln p */
static double log_of_sum(const float *logits, size_t n_vocab)
{
    double sum = 0, most = (double)logits[likeliest(logits, n_vocab)];
    size_t i;
    for (i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - most);
    return most + log(sum);
}

/* ---- a model that reads the text ---- */

typedef struct reader {
    engine         e;
    smolq_model   *model;
    smolq_context *context;
    float         *logits; /* [BATCH][n_vocab] */
    size_t         n_vocab;
} reader;

static void open_reader(reader *r, int n_ctx)
{
    r->model = open_model(&r->e);
    const smolq_context_options options = context_options(&r->e, n_ctx, BATCH);
    r->context = open_context(r->model, &options);
    r->n_vocab = (size_t)smolq_model_info(r->model)->n_vocab;
    r->logits = (float *)need(BATCH * r->n_vocab, sizeof *r->logits);
}

static void close_reader(reader *r)
{
    free(r->logits);
    smolq_context_close(r->context);
    smolq_close(r->model);
    smolq_device_close(r->e.device);
}

static void read_batch(reader *r, const int32_t *ids, int32_t n)
{
    smolq_eval_item item = { r->context, ids, n, SMOLQ_LOGITS_ALL, r->logits, NULL, NULL };
    smolq_error err;
    check(smolq_eval(&item, 1, NULL, &err), &err);
}

/* ---- the distance from a reference ---- */

typedef struct distance {
    score  reference;
    float *kl; /* [n] of each prediction, n so far with room for all */
    size_t n, agree;
} distance;

static void add_distance(distance *d, const float *p, const float *q, size_t n_vocab, int32_t id)
{
    double of_p = log_of_sum(p, n_vocab), of_q = log_of_sum(q, n_vocab), kl = 0;
    size_t i;
    for (i = 0; i < n_vocab; i++) kl += exp((double)p[i] - of_p) * (((double)p[i] - of_p) - ((double)q[i] - of_q));
    d->kl[d->n++] = (float)kl;
    d->agree += likeliest(p, n_vocab) == likeliest(q, n_vocab);
    d->reference.nll += of_p - (double)p[id];
    d->reference.n++;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_distance(distance *d, score all)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < d->n; i++) sum += (double)d->kl[i];
    qsort(d->kl, d->n, sizeof *d->kl, by_size);
    printf("reference     %.4f, ratio %.5f\n", perplexity(d->reference), perplexity(all) / perplexity(d->reference));
    printf("KL            %.6f mean, %.6f at 99.9 %%, %.6f most\n", sum / (double)d->n, (double)d->kl[(d->n - 1) * 999 / 1000], (double)d->kl[d->n - 1]);
    printf("same top      %.3f %%\n", 100.0 * (double)d->agree / (double)d->n);
}

static void show_score(size_t done, size_t all, double since_ms, score s)
{
    char note[40];
    snprintf(note, sizeof note, "perplexity %.2f", perplexity(s));
    show_progress(all ? (double)done / (double)all : 1, 0, since_ms, note);
}

int main(int argc, char **argv)
{
    reader r = { 0 }, reference = { 0 };
    const char *path = NULL, *reference_path = NULL;
    int n_ctx = 512;
    const option options[] = {
        ENGINE_OPTIONS(r.e),
        { "-t", "N",    'i', &r.e.n_threads, "threads of the cpu backend (physical cores)" },
        { "-f", "TEXT", 's', &path,          "the text, a file" },
        { "-c", "CTX",  'i', &n_ctx,         "tokens that are read in one context (512)" },
        { "--kl", "REFERENCE", 's', &reference_path, "GGUF file of a model to compare with, of the same vocabulary" },
        { NULL, NULL, 0, NULL, NULL }
    };
    score all = { 0, 0 }, later = { 0, 0 };
    distance from = { { 0, 0 }, NULL, 0, 0 };
    smolq_error err;
    size_t bytes, n, done, piece, i, j, n_bytes, n_scored_bytes = 0, n_pieces = 0;
    int32_t *ids, *in;
    double start;
    char *text;
    FILE *file;

    parse_options(argc, argv, "perplexity and bits per byte of a text", options);
    if (!path) die("no text: say -f TEXT");
    if (n_ctx < 2) die("-c %d: expected 2 or more tokens", n_ctx);
    if (!(file = fopen(path, "rb"))) die("can't read %s: %s", path, strerror(errno));
    text = read_all(file, path, &bytes);
    fclose(file);

    open_reader(&r, n_ctx);
    const smolq_vocab *vocab = vocab_of(r.model);
    const smolq_vocab_facts *facts = smolq_vocab_info(vocab);
    size_t bos = facts->adds_bos && facts->bos >= 0;
    ids = tokenize(vocab, text, bytes, 0, &n);
    in = (int32_t *)need((size_t)n_ctx, sizeof *in);
    if (reference_path) {
        int32_t *same;
        size_t n_same;
        reference.e = r.e;
        reference.e.model = reference_path;
        open_reader(&reference, n_ctx);
        same = tokenize(vocab_of(reference.model), text, bytes, 0, &n_same);
        if (reference.n_vocab != r.n_vocab || n_same != n || memcmp(same, ids, n * sizeof *ids)) die("--kl: %s has another vocabulary", reference_path);
        free(same);
        from.kl = (float *)need(n, sizeof *from.kl);
    }
    start = now_ms();
    for (done = 0; n - done >= 2 - bos; done += piece) {
        piece = n - done < (size_t)n_ctx - bos ? n - done : (size_t)n_ctx - bos;
        if (bos) in[0] = facts->bos;
        memcpy(in + bos, ids + done, piece * sizeof *ids);
        check(smolq_context_truncate(r.context, 0, &err), &err);
        if (reference_path) check(smolq_context_truncate(reference.context, 0, &err), &err);
        for (i = 0; i < piece + bos; i += BATCH) {
            size_t n_batch = piece + bos - i < BATCH ? piece + bos - i : BATCH;
            read_batch(&r, in + i, (int32_t)n_batch);
            if (reference_path) read_batch(&reference, in + i, (int32_t)n_batch);
            for (j = i; j < i + n_batch && j + 1 < piece + bos; j++) { /* position j predicts token j + 1 */
                const float *logits = r.logits + (j - i) * r.n_vocab;
                double nll = log_of_sum(logits, r.n_vocab) - (double)logits[in[j + 1]];
                all.nll += nll;
                all.n++;
                if (piece + bos == (size_t)n_ctx && j >= (size_t)n_ctx / 2) {
                    later.nll += nll;
                    later.n++;
                }
                if (reference_path) add_distance(&from, reference.logits + (j - i) * r.n_vocab, logits, r.n_vocab, in[j + 1]);
            }
            show_score(done + i, n, start, all);
        }
        n_bytes = 0; /* SMOLQ_E_BUFFER still tells how many */
        smolq_detokenize(vocab, ids + done + (1 - bos), piece - (1 - bos), SMOLQ_SHOW_SPECIAL | SMOLQ_NO_PREFIX, NULL, 0, &n_bytes, NULL);
        n_scored_bytes += n_bytes;
        n_pieces++;
    }
    show_score(n, n, start, all);
    if (all.n == 0) die("%s: too short to predict anything", path);
    printf("perplexity    %.4f over %zu tokens, %zu pieces of %d\n", perplexity(all), all.n, n_pieces, n_ctx);
    if (later.n) printf("later halves  %.4f over %zu tokens\n", perplexity(later), later.n);
    printf("bits per byte %.4f over %zu bytes\n", all.nll / 0.69314718055994530942 / (double)n_scored_bytes, n_scored_bytes);
    if (reference_path) {
        print_distance(&from, all);
        close_reader(&reference);
    }

    free(from.kl);
    free(in);
    free(ids);
    free(text);
    close_reader(&r);
    return finish();
}
