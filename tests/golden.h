/* Golden logits of small models in every family and type, with llama.cpp's own distance from them (peer.tsv), and how far smolq is.  The program that includes this
 * defines GOLDEN, the folder in the shared data; without that folder there are no peers, and its tests say that they are skipped.  Needs smolq.h, test.h and naive.h. */
#ifndef SMOLQ_GOLDEN_H
#define SMOLQ_GOLDEN_H
#include <math.h>

enum { N_GOLDEN = 96, GOLDEN_VOCAB = 320 };

/* All logits of ids in one call: [n][n_vocab], or NULL with the reason in *err. */
static float *logits_of(const char *path, const smolq_source *source, int kv_type, int n_ctx, const int32_t *ids, int n, int *n_vocab, smolq_error *err)
{
    smolq_open_options options;
    smolq_context_options context_options;
    smolq_model *model = NULL;
    smolq_context *context = NULL;
    smolq_eval_item item;
    float *logits = NULL;
    memset(&options, 0, sizeof options);
    memset(&context_options, 0, sizeof context_options);
    memset(&item, 0, sizeof item);
    options.sources = source;
    options.n_sources = source ? 1 : 0;
    context_options.kv_type = kv_type;
    context_options.n_ctx = n_ctx;
    if (smolq_open(path, &options, &model, err) == SMOLQ_OK && smolq_context_open(model, &context_options, &context, err) == SMOLQ_OK) {
        *n_vocab = smolq_model_info(model)->n_vocab;
        logits = (float *)malloc(sizeof(float) * (size_t)n * (size_t)*n_vocab);
        item.context = context;
        item.tokens = ids;
        item.n_tokens = n;
        item.want = SMOLQ_LOGITS_ALL;
        item.logits = logits;
        if (smolq_eval(&item, 1, NULL, err) != SMOLQ_OK) {
            free(logits);
            logits = NULL;
        }
    }
    smolq_context_close(context);
    smolq_close(model);
    return logits;
}

static double distance64(const double *a, const double *b, size_t n) /* ||a - b|| / ||b|| */
{
    double difference = 0, size = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(difference / size);
}
static double distance(const float *a, const double *b, size_t n)
{
    double *wide = (double *)malloc(n * sizeof *wide), result;
    size_t i;
    if (!wide) abort();
    for (i = 0; i < n; i++) wide[i] = a[i];
    result = distance64(wide, b, n);
    free(wide);
    return result;
}

static double log_sum_exp(const double *x, int n)
{
    double best = x[0], sum = 0;
    int i;
    for (i = 1; i < n; i++) if (x[i] > best) best = x[i];
    for (i = 0; i < n; i++) sum += exp(x[i] - best);
    return best + log(sum);
}

/* Mean over the rows of sum p log(p / q), p from the golden logits b and q from a. */
static double mean_kl(const float *a, const double *b, int rows, int n_vocab)
{
    double sum = 0, *q = (double *)malloc(sizeof(double) * (size_t)n_vocab);
    int row, i;
    for (row = 0; row < rows; row++, a += n_vocab, b += n_vocab) {
        double za, zb = log_sum_exp(b, n_vocab);
        for (i = 0; i < n_vocab; i++) q[i] = a[i];
        za = log_sum_exp(q, n_vocab);
        for (i = 0; i < n_vocab; i++) sum += exp(b[i] - zb) * ((b[i] - zb) - (q[i] - za));
    }
    free(q);
    return sum / rows;
}

static int golden_ids(int32_t *ids)
{
    const char *path = shared_path(GOLDEN "/tokens.txt");
    FILE *file = path ? fopen(path, "r") : NULL;
    int n = 0;
    if (!file) return 0;
    while (n < N_GOLDEN && fscanf(file, "%d", &ids[n]) == 1) n++;
    fclose(file);
    return n == N_GOLDEN;
}

static const char *golden_path(const char *name) /* of NAME.gguf */
{
    char path[256];
    snprintf(path, sizeof path, GOLDEN "/%.63s", name);
    return shared_path(path);
}

static int golden_logits(const char *name, double *logits) /* of NAME.gguf */
{
    char path[256];
    const char *found;
    unsigned char *data;
    size_t bytes = 0, i;
    snprintf(path, sizeof path, GOLDEN "/%.*s.logits.f32", (int)(strlen(name) - 5), name);
    found = shared_path(path);
    data = found ? naive_slurp(found, &bytes) : NULL;
    if (data && bytes == sizeof(float) * N_GOLDEN * GOLDEN_VOCAB)
        for (i = 0; i < N_GOLDEN * GOLDEN_VOCAB; i++) {
            float f;
            memcpy(&f, data + 4 * i, 4);
            logits[i] = f;
        }
    else bytes = 0;
    free(data);
    return bytes != 0;
}

typedef struct peer { char name[64]; double error, kl; int experts, is_f16, is_float, gelu; } peer; /* a row of peer.tsv: llama.cpp on the same file */

static int peers(peer *rows, int capacity)
{
    const char *path = shared_path(GOLDEN "/peer.tsv");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    int n = 0;
    if (!file) return 0;
    while (n < capacity && fgets(line, sizeof line, file)) {
        peer *p = &rows[n];
        if (sscanf(line, "%63s %lf %lf", p->name, &p->error, &p->kl) != 3) continue; /* the heading */
        p->experts = strstr(p->name, "moe") != NULL || strstr(p->name, "gpt-oss") != NULL;
        p->is_f16 = strstr(p->name, ".f16.") != NULL;
        p->is_float = p->is_f16 || strstr(p->name, ".BF16.") != NULL;
        p->gelu = strncmp(p->name, "gemma", 5) == 0;
        n++;
    }
    fclose(file);
    return n;
}

/* The golden file through smolq: relative error and KL against the golden logits. */
static int judge_golden(const char *name, int kv_type, double *error, double *kl, smolq_error *err)
{
    static double golden[N_GOLDEN * GOLDEN_VOCAB];
    int32_t ids[N_GOLDEN];
    int n_vocab = 0;
    float *logits;
    snprintf(err->text, sizeof err->text, "the golden data is incomplete");
    if (!golden_path(name) || !golden_ids(ids) || !golden_logits(name, golden)) return 0;
    logits = logits_of(golden_path(name), NULL, kv_type, N_GOLDEN, ids, N_GOLDEN, &n_vocab, err);
    if (!logits) return 0;
    *error = n_vocab == GOLDEN_VOCAB ? distance(logits, golden, N_GOLDEN * GOLDEN_VOCAB) : 1e9;
    *kl = n_vocab == GOLDEN_VOCAB ? mean_kl(logits, golden, N_GOLDEN, GOLDEN_VOCAB) : 1e9;
    free(logits);
    return 1;
}

/* Each golden F16 and BF16 file again: here the judge has float64's sharpness, not that of the f32 program that made the golden logits. */
static void naive_agrees_on_golden_files(void)
{
    static double naive[N_GOLDEN * GOLDEN_VOCAB];
    peer rows[64];
    int32_t ids[N_GOLDEN];
    int n = peers(rows, 64), i, n_vocab = 0;
    if (!n) SKIP("no golden data");
    REQUIRE(golden_ids(ids), "tokens.txt");
    for (i = 0; i < n; i++) {
        const char *why;
        smolq_error err;
        float *logits;
        double error;
        if (!rows[i].is_float) continue;
        why = golden_path(rows[i].name) ? naive_logits(golden_path(rows[i].name), ids, N_GOLDEN, naive) : "missing";
        REQUIRE(!why, "%s: %s", rows[i].name, why);
        logits = logits_of(golden_path(rows[i].name), NULL, SMOLQ_KV_F32, N_GOLDEN, ids, N_GOLDEN, &n_vocab, &err);
        REQUIRE(logits && n_vocab == GOLDEN_VOCAB, "%s: %s", rows[i].name, err.text);
        error = distance(logits, naive, N_GOLDEN * GOLDEN_VOCAB);
        free(logits);
        if (getenv("SMOLQ_VERBOSE")) printf("     %-24s %.2e\n", rows[i].name, error);
        CHECK(error <= 1e-5, "%s: relative error %g, allowed 1e-5", rows[i].name, error);
    }
}
#endif
