/* imatrix: which columns of each matrix matter, for quantize --imatrix.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/imatrix.c smolq_cpu.c -o build/imatrix -lm -lpthread
 *     build/imatrix -m model-f16.gguf -f text.txt -o model.imatrix.gguf
 *
 * The model reads a text in chunks of CTX tokens, and for each column of each matrix the squares of what it is multiplied by are added up: their
 * mean is what the square of an error in that column counts.  FILE is the common form (a GGUF with NAME.in_sum2 and NAME.counts of each tensor), written anew
 * every --save chunks.  --resume goes on where a FILE ends that was made of the same text and CTX.
 *
 * It shows what a backend is: this one hands every operation to another one, and looks at what goes into the products. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"
#include "output.h"

enum { BATCH = 64 };

/* ---- what is gathered ---- */

typedef struct tally {    /* of one tensor */
    const smolq_tensor *w;
    char      name[128];
    double   *sums;       /* [n_experts][n_cols] */
    uint64_t *counts;     /* [n_experts] rows that went into them */
} tally;

static struct collector {
    const smolq_backend *inner;
    const smolq_gguf    *file;        /* NULL: not yet, it is the self-test of the device that computes */
    tally   *tallies;
    size_t   n, room;
    int      with_output;
    int32_t  source[SMOLQ_BUF_COUNT]; /* of int8 buffers: the floats that they were made from */
} collector;

static tally *tally_of(const smolq_tensor *w)
{
    smolq_tensor_info t;
    tally *found;
    uint64_t i;
    for (i = 0; i < collector.n; i++)
        if (collector.tallies[i].w == w) return &collector.tallies[i];
    if (collector.n == collector.room) {
        collector.room = collector.room ? collector.room * 2 : 256;
        collector.tallies = (tally *)realloc(collector.tallies, collector.room * sizeof *collector.tallies);
        if (!collector.tallies) die("out of memory");
    }
    found = &collector.tallies[collector.n++];
    memset(found, 0, sizeof *found);
    found->w = w;
    for (i = 0; i < smolq_gguf_info(collector.file)->n_tensors && !*found->name; i++) {
        smolq_gguf_tensor(collector.file, i, &t, NULL);
        if (t.data == w->data) snprintf(found->name, sizeof found->name, "%.*s", (int)t.name_bytes, t.name);
    }
    found->sums = (double *)need((size_t)w->n_experts * (size_t)w->n_cols, sizeof *found->sums);
    found->counts = (uint64_t *)need((size_t)w->n_experts, sizeof *found->counts);
    return found;
}

static void add_row(tally *t, int32_t expert, const float *x)
{
    double *sums = t->sums + (size_t)expert * (size_t)t->w->n_cols;
    int32_t i;
    for (i = 0; i < t->w->n_cols; i++) sums[i] += (double)x[i] * (double)x[i];
    t->counts[expert]++;
}

/* What the products of an operation are about to read. */
static void listen_to(const smolq_run *run, const smolq_op *op)
{
    int32_t n_rows = op->selected ? run->n_out : run->n_rows, i, row, s;
    if (op->layer < 0 && !collector.with_output) return;
    for (i = 0; i < op->n_parts; i++) {
        const smolq_op_part *part = &op->part[i];
        int32_t in = part->in == SMOLQ_BUF_A256 || part->in == SMOLQ_BUF_A32 ? collector.source[part->in] : part->in;
        tally *t = tally_of(part->w);
        for (row = 0; row < n_rows; row++) {
            const float *x = (const float *)(const void *)smolq_row(run, in, row);
            const int32_t *picks = (const int32_t *)(const void *)smolq_row(run, SMOLQ_BUF_PICKS, row);
            if (op->kind == SMOLQ_OP_MATMUL) add_row(t, 0, x);
            else
                for (s = 0; s < run->program->n_expert_used; s++) add_row(t, picks[s], op->n_seg > 1 ? x + (size_t)s * (size_t)part->w->n_cols : x);
        }
    }
}

/* One operation at a time: the one before it has written all that it reads. */
static smolq_result listening_run(void *state, smolq_run *run, smolq_error *err)
{
    uint32_t end = run->end_op;
    smolq_result result = SMOLQ_OK;
    while (!result && run->op < end) {
        const smolq_op *op = &run->program->ops[run->op];
        uint32_t before = run->op;
        if (op->kind == SMOLQ_OP_QUANTIZE) collector.source[op->out] = op->in;
        if (collector.file && run->unit == 0 && (op->kind == SMOLQ_OP_MATMUL || op->kind == SMOLQ_OP_MATMUL_EXPERTS)) listen_to(run, op);
        run->end_op = before + 1;
        result = collector.inner->run(state, run, err);
        if (run->op == before) break; /* it pauses */
    }
    run->end_op = end;
    return result;
}

/* FILE has floats: so that a run that goes on from it ends as one that was never interrupted, sums are floats after every chunk. */
static void end_chunk(void)
{
    size_t i, k;
    for (i = 0; i < collector.n; i++) {
        const tally *t = &collector.tallies[i];
        for (k = 0; k < (size_t)t->w->n_experts * (size_t)t->w->n_cols; k++) t->sums[k] = (double)(float)t->sums[k];
    }
}

/* ---- files ---- */

static void add_floats(const tally *t, const char *suffix, uint64_t n)
{
    smolq_tensor_info info = { 0 };
    smolq_error err;
    char name[160];
    snprintf(name, sizeof name, "%s.%s", t->name, suffix);
    info.name = name;
    info.name_bytes = strlen(name);
    info.type = SMOLQ_TYPE_F32;
    info.n_dims = 2;
    info.ne[0] = n;
    info.ne[1] = (uint64_t)t->w->n_experts;
    check(smolq_gguf_add(out, &info, &err), &err);
}

static void save(const char *path, const char *text, size_t n_chunks, int n_ctx)
{
    smolq_value v = { 0 };
    smolq_error err;
    unsigned char dataset[8 + 256] = { 0 };
    size_t n_text, i, k;
    text = file_name(text);
    n_text = strlen(text) < 255 ? strlen(text) : 255;
    dataset[0] = (unsigned char)n_text;
    memcpy(dataset + 8, text, n_text);
    begin_output(path);
    put_text("general.type", "imatrix");
    v.type = SMOLQ_GGUF_ARRAY;
    v.element_type = SMOLQ_GGUF_STRING;
    v.n = 1;
    v.data = dataset;
    v.data_bytes = 8 + n_text;
    put_value("imatrix.datasets", &v);
    put_int("imatrix.chunk_count", SMOLQ_GGUF_U32, (int64_t)n_chunks);
    put_int("imatrix.chunk_size", SMOLQ_GGUF_U32, n_ctx);
    for (i = 0; i < collector.n; i++) {
        add_floats(&collector.tallies[i], "in_sum2", (uint64_t)collector.tallies[i].w->n_cols);
        add_floats(&collector.tallies[i], "counts", 1);
    }
    for (i = 0; i < collector.n; i++) {
        const tally *t = &collector.tallies[i];
        size_t n_sums = (size_t)t->w->n_cols * (size_t)t->w->n_experts, n_counts = (size_t)t->w->n_experts;
        float *values = (float *)need(n_sums + n_counts, sizeof *values);
        unsigned char *bytes = (unsigned char *)need(n_sums + n_counts, 4);
        for (k = 0; k < n_sums; k++) values[k] = (float)t->sums[k];
        for (k = 0; k < n_counts; k++) values[n_sums + k] = (float)t->counts[k];
        float_bytes(values, n_sums + n_counts, bytes);
        check(smolq_gguf_write(out, bytes, (n_sums + n_counts) * 4, &err), &err);
        free(values);
        free(bytes);
    }
    end_output();
}

/* Adds what a file has to the tallies, which one chunk has made; returns its number of chunks. */
static size_t resume(const char *path, const char *text, int n_ctx)
{
    smolq_gguf *g;
    smolq_value v, dataset;
    smolq_error err;
    uint64_t cursor = 0;
    size_t n_chunks, i, k;
    text = file_name(text);
    check(smolq_gguf_open(path, NULL, &g, &err), &err);
    check(smolq_gguf_find(g, "imatrix.chunk_size", &v, &err), &err);
    if (v.i != n_ctx) die("--resume: %s has chunks of %lld tokens, expected %d", path, (long long)v.i, n_ctx);
    check(smolq_gguf_find(g, "imatrix.datasets", &v, &err), &err);
    check(smolq_gguf_element(&v, v.n - 1, &cursor, &dataset, &err), &err);
    if (v.n != 1 || dataset.bytes != strlen(text) || memcmp(dataset.text, text, dataset.bytes)) die("--resume: %s was not made of %s", path, text);
    check(smolq_gguf_find(g, "imatrix.chunk_count", &v, &err), &err);
    if (v.i < 1) die("--resume: %s has no chunk yet", path);
    n_chunks = (size_t)v.i;
    for (i = 0; i < collector.n; i++) {
        tally *t = &collector.tallies[i];
        size_t n_experts = (size_t)t->w->n_experts, n = n_experts * (size_t)t->w->n_cols;
        smolq_tensor_info sums, counts;
        char name[160];
        snprintf(name, sizeof name, "%s.in_sum2", t->name);
        check(smolq_gguf_find_tensor(g, name, &sums, &err), &err);
        snprintf(name, sizeof name, "%s.counts", t->name);
        check(smolq_gguf_find_tensor(g, name, &counts, &err), &err);
        if (sums.type != SMOLQ_TYPE_F32 || counts.type != SMOLQ_TYPE_F32 || sums.bytes != n * 4 || counts.bytes != n_experts * 4) die("--resume: %s has another shape in %s", t->name, path);
        for (k = 0; k < n + n_experts; k++) {
            float value;
            if (smolq_unpack(SMOLQ_TYPE_F32, k < n ? sums.data + k * 4 : counts.data + (k - n) * 4, &value, 1, &err)) die("%s", err.text);
            if (!(value >= 0 && isfinite(value))) die("--resume: %s holds %g for %s", path, (double)value, t->name);
            if (k >= n && value >= 16777216.0f * 256) die("--resume: %s counts %g rows for %s", path, (double)value, t->name);
            if (k < n) t->sums[k] += (double)value;
            else t->counts[k - n] += (uint64_t)value;
        }
    }
    smolq_gguf_close(g);
    return n_chunks;
}

static void show_chunks(size_t done, size_t all, double since_ms, size_t from)
{
    char note[64];
    snprintf(note, sizeof note, "%zu of %zu chunks", done, all);
    show_progress((double)done / (double)all, (double)from / (double)all, since_ms, note);
}

int main(int argc, char **argv)
{
    engine e = { 0 };
    const char *text_path = NULL, *out_path = NULL;
    int n_ctx = 512, every = 10, resumes = 0, most = 0;
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t",       "N",    'i', &e.n_threads, "threads of the cpu backend (physical cores)" },
        { "-f",       "TEXT", 's', &text_path,   "the text, a file" },
        { "-o",       "FILE", 's', &out_path,    "the file to write, GGUF" },
        { "-c",       "CTX",  'i', &n_ctx,       "tokens of a chunk (512)" },
        { "--chunks", "N",    'i', &most,        "read no more chunks than this (0: all)" },
        { "--output", NULL,   'b', &collector.with_output, "the output matrix too, which gains little by it" },
        { "--save",   "N",    'i', &every,       "write FILE every N chunks (10; 0: at the end)" },
        { "--resume", NULL,   'b', &resumes,     "go on where FILE ends" },
        { NULL, NULL, 0, NULL, NULL }
    };
    smolq_error err;
    smolq_backend listening;
    smolq_device_options device_options = { 0 };
    smolq_open_options open_options = { 0 };
    smolq_model *model;
    size_t bytes, n, n_chunks, done, from = 0;
    double start = now_ms();
    char *text;
    FILE *file;

    parse_options(argc, argv, "which columns of each matrix matter, for quantize", options);
    if (!text_path || !out_path) die("expected -f TEXT and -o FILE");
    if (n_ctx < 2) die("-c %d: expected 2 or more tokens", n_ctx);
    if (!e.model) die("no model: say -m MODEL");
    if (!(file = fopen(text_path, "rb"))) die("can't read %s: %s", text_path, strerror(errno));
    text = read_all(file, text_path, &bytes);
    fclose(file);

    collector.inner = find_backend(e.backend);
    if (collector.inner->memory) die("--backend %s: activations must be in the host's memory", collector.inner->name);
    listening = *collector.inner;
    listening.run = listening_run;
    device_options.n_threads = e.n_threads;
    device_options.isa = e.isa;
    check(smolq_device_open(&listening, &device_options, &e.device, &err), &err);
    open_options.device = e.device;
    check(smolq_open(e.model, &open_options, &model, &err), &err);
    collector.file = smolq_model_gguf(model);

    const smolq_vocab *vocab = vocab_of(model);
    const smolq_vocab_facts *facts = smolq_vocab_info(vocab);
    const smolq_context_options context_of = context_options(&e, n_ctx, BATCH);
    smolq_context *context = open_context(model, &context_of);
    size_t bos = facts->adds_bos && facts->bos >= 0, fresh = (size_t)n_ctx - bos, i;
    int32_t *ids = tokenize(vocab, text, bytes, 0, &n), *in = (int32_t *)need((size_t)n_ctx, sizeof *in);
    float *logits = (float *)need(BATCH * (size_t)smolq_model_info(model)->n_vocab, sizeof *logits);
    n_chunks = n / fresh;
    if (most && (size_t)most < n_chunks) n_chunks = (size_t)most;
    if (n_chunks == 0) die("%s: %zu tokens, expected at least one chunk of %zu", text_path, n, fresh);

    for (done = 0; done < n_chunks; done++) {
        in[0] = facts->bos;
        memcpy(in + bos, ids + done * fresh, fresh * sizeof *ids);
        check(smolq_context_truncate(context, 0, &err), &err);
        for (i = 0; i < (size_t)n_ctx; i += BATCH) { /* tokens whose logits nobody wants don't pass the last layer */
            smolq_eval_item item = { context, in + i, n_ctx - (int)i < BATCH ? n_ctx - (int)i : BATCH, SMOLQ_LOGITS_ALL, logits, NULL, NULL };
            check(smolq_eval(&item, 1, NULL, &err), &err);
        }
        if (resumes && done == 0) { /* the tensors are known now; what they have heard is the file's first chunk already */
            for (i = 0; i < collector.n; i++) {
                tally *t = &collector.tallies[i];
                memset(t->sums, 0, (size_t)t->w->n_experts * (size_t)t->w->n_cols * sizeof *t->sums);
                memset(t->counts, 0, (size_t)t->w->n_experts * sizeof *t->counts);
            }
            from = resume(out_path, text_path, n_ctx);
            done = from - 1;
        }
        end_chunk();
        show_chunks(done + 1, n_chunks > done ? n_chunks : done + 1, start, from);
        if (every && (done + 1) % (size_t)every == 0 && done + 1 < n_chunks) save(out_path, text_path, done + 1, n_ctx);
    }
    save(out_path, text_path, done, n_ctx);
    printf("%zu tensors, %zu chunks of %d tokens, %.1f s\n", collector.n, done, n_ctx, (now_ms() - start) / 1000);

    for (i = 0; i < collector.n; i++) {
        free(collector.tallies[i].sums);
        free(collector.tallies[i].counts);
    }
    free(collector.tallies);
    free(logits);
    free(in);
    free(ids);
    free(text);
    smolq_context_close(context);
    smolq_close(model);
    smolq_device_close(e.device);
    return finish();
}
