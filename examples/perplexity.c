/* perplexity: how well a model predicts a text.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/perplexity.c smolq_cpu.c -o build/perplexity -lm -lpthread
 *     build/perplexity -m examples/models/smolq-tales.Q4_K_M.gguf -f README.md -c 512
 *
 * The text is cut into pieces of CTX tokens, each read in an empty context.  A piece begins with the model's BOS token where the file asks for
 * one, so that every token of the text is predicted; without one the first of each piece is not.  Perplexity is exp of the mean of -ln p over
 * the predicted tokens; bits per byte is the same sum in bits over the bytes that those tokens stand for, which compares models of different
 * vocabularies.  "Later halves" counts the later half of each full piece alone, where the model has something to go by: the habit of
 * llama-perplexity. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

enum { BATCH = 64 };

typedef struct score { double nll; size_t n; } score; /* sum of -ln p over n tokens */

static double perplexity(score s) { return s.n ? exp(s.nll / (double)s.n) : 0; }

/* -ln of the probability that softmax(logits) gives to id, in double */
static double surprise(const float *logits, size_t n_vocab, int32_t id)
{
    double sum = 0;
    float most = logits[0];
    size_t i;
    for (i = 1; i < n_vocab; i++) most = logits[i] > most ? logits[i] : most;
    for (i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - most);
    return log(sum) - ((double)logits[id] - most);
}

static void show_progress(size_t done, size_t all, double since_ms, score s)
{
    static const char bar[] = "########################################";
    int left = done ? (int)((now_ms() - since_ms) / 1000 / (double)done * (double)(all - done)) : 0;
    if (!isatty(fileno(stderr))) return;
    fprintf(stderr, "\r[%-40.*s] %3d %%  ", (int)(done * 40 / all), bar, (int)(done * 100 / all));
    fprintf(stderr, "perplexity %.2f  %d:%02d left ", perplexity(s), left / 60, left % 60);
    if (done == all) fputs("\r\033[K", stderr);
    fflush(stderr);
}

int main(int argc, char **argv)
{
    engine e = { 0 };
    const char *path = NULL;
    int n_ctx = 512;
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t", "N",    'i', &e.n_threads, "threads of the cpu backend (physical cores)" },
        { "-f", "TEXT", 's', &path,        "the text, a file" },
        { "-c", "CTX",  'i', &n_ctx,       "tokens that are read in one context (512)" },
        { NULL, NULL, 0, NULL, NULL }
    };
    score all = { 0, 0 }, later = { 0, 0 };
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

    smolq_model *model = open_model(&e);
    const smolq_vocab *vocab = vocab_of(model);
    const smolq_vocab_facts *facts = smolq_vocab_info(vocab);
    const smolq_context_options context_of = context_options(&e, n_ctx, BATCH);
    smolq_context *context = open_context(model, &context_of);
    size_t bos = facts->adds_bos && facts->bos >= 0, n_vocab = (size_t)smolq_model_info(model)->n_vocab;
    float *logits = (float *)need(BATCH * n_vocab, sizeof *logits);

    ids = tokenize(vocab, text, bytes, 0, &n);
    in = (int32_t *)need((size_t)n_ctx, sizeof *in);
    start = now_ms();
    for (done = 0; n - done >= 2 - bos; done += piece) {
        piece = n - done < (size_t)n_ctx - bos ? n - done : (size_t)n_ctx - bos;
        if (bos) in[0] = facts->bos;
        memcpy(in + bos, ids + done, piece * sizeof *ids);
        check(smolq_context_truncate(context, 0, &err), &err);
        for (i = 0; i < piece + bos; i += BATCH) {
            smolq_eval_item item = { context, in + i, BATCH, SMOLQ_LOGITS_ALL, logits, NULL, NULL };
            if (piece + bos - i < BATCH) item.n_tokens = (int32_t)(piece + bos - i);
            check(smolq_eval(&item, 1, NULL, &err), &err);
            for (j = i; j < i + (size_t)item.n_tokens && j + 1 < piece + bos; j++) { /* position j predicts token j + 1 */
                double nll = surprise(logits + (j - i) * n_vocab, n_vocab, in[j + 1]);
                all.nll += nll;
                all.n++;
                if (piece + bos == (size_t)n_ctx && j >= (size_t)n_ctx / 2) {
                    later.nll += nll;
                    later.n++;
                }
            }
            show_progress(done + i, n, start, all);
        }
        n_bytes = 0; /* SMOLQ_E_BUFFER still tells how many */
        smolq_detokenize(vocab, ids + done + (1 - bos), piece - (1 - bos), SMOLQ_SHOW_SPECIAL | SMOLQ_NO_PREFIX, NULL, 0, &n_bytes, NULL);
        n_scored_bytes += n_bytes;
        n_pieces++;
    }
    show_progress(n, n ? n : 1, start, all);
    if (all.n == 0) die("%s: too short to predict anything", path);
    printf("perplexity    %.4f over %zu tokens, %zu pieces of %d\n", perplexity(all), all.n, n_pieces, n_ctx);
    if (later.n) printf("later halves  %.4f over %zu tokens\n", perplexity(later), later.n);
    printf("bits per byte %.4f over %zu bytes\n", all.nll / 0.69314718055994530942 / (double)n_scored_bytes, n_scored_bytes);

    free(in);
    free(ids);
    free(logits);
    free(text);
    smolq_context_close(context);
    smolq_close(model);
    smolq_device_close(e.device);
    return finish();
}
