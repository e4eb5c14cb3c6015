/* quantize: a GGUF file with other tensor types.
 *
 *     cc -O2 -I. examples/quantize.c -o build/quantize -lm -lpthread
 *     build/quantize model-f16.gguf model-q4.gguf Q4_K_M --dry-run
 *
 * TYPE is a tensor type (Q6_K), a mix (Q4_K_M: mixes.h has them all) or COPY, which changes nothing but what --tensor names.  Any well-formed
 * GGUF will do, of a known family or not, in one file or in parts.  What is quantized already stays as it is, unless --requantize or a
 * --tensor rule names it.  OUT appears when it is complete; it may be IN.
 *
 * --tensor PATTERN=TYPE may stand more than once, the first that fits decides.  In a pattern * is any text and ? any character; one without them
 * fits every name that it is part of; norms must be named in full.  --imatrix takes the mean squared activations of each column from a GGUF that
 * imatrix (or llama-imatrix) has written. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"
#include "output.h"
#include "mixes.h"
#include <ctype.h>
#include <pthread.h>

enum { PIECE = 32 << 20, MAX_THREADS = 256 }; /* bytes of floats that are in work at once */

typedef struct job {         /* what happens to a tensor */
    smolq_tensor_info t;     /* as it is in IN */
    char    name[128];
    int32_t type;            /* as it will be */
    uint64_t bytes;
} job;

/* ---- names ---- */

static int same_name(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) a++, b++;
    return tolower((unsigned char)*a) == tolower((unsigned char)*b);
}

static int32_t type_by_name(const char *name)
{
    int32_t type;
    for (type = 0; type < SMOLQ_TYPE_COUNT; type++)
        if (smolq_type_info(type) && same_name(smolq_type_info(type)->name, name)) return type;
    return -1;
}

/* A type that smolq can write. */
static int32_t wanted_type(const char *name, const char *where)
{
    int32_t type = type_by_name(name);
    smolq_error err;
    if (type < 0) die("%s: %s is not a tensor type", where, name);
    check(smolq_pack(type, NULL, NULL, NULL, 0, &err), &err);
    return type;
}

static int glob(const char *pattern, const char *name)
{
    if (*pattern == '*') return glob(pattern + 1, name) || (*name && glob(pattern, name + 1));
    if (!*pattern || !*name) return *pattern == *name;
    return (*pattern == '?' || *pattern == *name) && glob(pattern + 1, name + 1);
}

/* The type that a --tensor rule gives a tensor, or -1.  Norms and other vectors must be named in full. */
static int32_t type_by_rule(const list *rules, const char *name, int is_matrix)
{
    char pattern[256];
    int i;
    for (i = 0; i < rules->n; i++) {
        const char *equals = strrchr(rules->at[i], '=');
        size_t n = equals ? (size_t)(equals - rules->at[i]) : 0;
        if (n == 0 || n >= sizeof pattern) die("--tensor %s: expected PATTERN=TYPE", rules->at[i]);
        memcpy(pattern, rules->at[i], n);
        pattern[n] = 0;
        if (!is_matrix && strcmp(pattern, name)) continue;
        if (strpbrk(pattern, "*?") ? glob(pattern, name) : strstr(name, pattern) != NULL) return wanted_type(equals + 1, "--tensor");
    }
    return -1;
}

/* ---- what becomes of each tensor ---- */

static int is_float(int32_t type) { return type == SMOLQ_TYPE_F32 || type == SMOLQ_TYPE_F16 || type == SMOLQ_TYPE_BF16; }

static int is_matrix(const job *j) { return j->t.ne[1] * j->t.ne[2] * j->t.ne[3] > 1; }

static int may_be_quantized(const job *j)
{
    size_t n = strlen(j->name), i;
    if (!is_matrix(j) || n < 6 || strcmp(j->name + n - 6, "weight")) return 0;
    for (i = 0; i < sizeof never_quantized / sizeof *never_quantized; i++)
        if (strstr(j->name, never_quantized[i])) return 0;
    return 1;
}

/* A number of the family's: "attention.head_count" of smollm3; 0 if it is not there, the largest of an array. */
static int32_t family_number(const smolq_gguf *in, const char *key)
{
    smolq_value family, v, element;
    char name[256];
    int64_t most = 0;
    uint64_t i;
    if (smolq_gguf_find(in, "general.architecture", &family, NULL) || family.type != SMOLQ_GGUF_STRING || family.bytes > 64) return 0;
    snprintf(name, sizeof name, "%.*s.%s", (int)family.bytes, family.text, key);
    if (smolq_gguf_find(in, name, &v, NULL)) return 0;
    if (v.type != SMOLQ_GGUF_ARRAY) most = v.i;
    for (i = 0; v.type == SMOLQ_GGUF_ARRAY && v.element_type != SMOLQ_GGUF_STRING && v.element_type != SMOLQ_GGUF_ARRAY && i < v.n; i++)
        if (!smolq_gguf_element(&v, i, NULL, &element, NULL) && element.i > most) most = element.i;
    return most > 0 && most < INT32_MAX ? (int32_t)most : 0;
}

/* The place of a tensor among those that end as it does, by the number of their block: which of the layers with an attn_v this one is. */
static int32_t place_of(const job *jobs, uint64_t n, const job *j)
{
    const char *kind = strchr(j->name, '.'), *other;
    int32_t place = 0;
    int block, of_other;
    uint64_t i;
    if (sscanf(j->name, "blk.%d.", &block) != 1 || !kind || !(kind = strchr(kind + 1, '.'))) return 0;
    for (i = 0; i < n; i++)
        if (sscanf(jobs[i].name, "blk.%d.", &of_other) == 1 && of_other < block && (other = strchr(jobs[i].name + 4, '.')) && strcmp(other, kind) == 0) place++;
    return place;
}

typedef struct choices {
    const mix  *mix;         /* NULL: COPY */
    list        rules;
    const char *output;      /* type of the output */
    int         requantize;
} choices;

static void choose(const choices *c, const smolq_gguf *in, int has_importance, job *jobs, uint64_t n)
{
    mix_model model = { 0 };
    uint64_t i;
    model.n_layer = family_number(in, "block_count");
    model.n_head = family_number(in, "attention.head_count");
    model.n_head_kv = family_number(in, "attention.head_count_kv");
    model.n_expert = family_number(in, "expert_count");
    model.is_tied = 1;
    model.has_importance = has_importance;
    for (i = 0; i < n; i++) {
        if (strcmp(jobs[i].name, "output.weight") == 0) model.is_tied = 0;
        if (strstr(jobs[i].name, "attn_v.weight") || strstr(jobs[i].name, "attn_qkv.weight") || strstr(jobs[i].name, "attn_kv_b.weight")) model.n_values++;
    }
    for (i = 0; i < n; i++) {
        job *j = &jobs[i];
        const smolq_type_facts *facts = smolq_type_info(j->t.type);
        int known = facts && facts->block_bytes && !smolq_unpack(j->t.type, NULL, NULL, 0, NULL);
        int is_output = strcmp(j->name, "output.weight") == 0 || (model.is_tied && strcmp(j->name, "token_embd.weight") == 0);
        int32_t ruled = type_by_rule(&c->rules, j->name, is_matrix(j));
        j->type = j->t.type;
        j->bytes = j->t.bytes;
        if (ruled >= 0) {
            if (!known) die("--tensor: %s is of type %d, which has no weights to quantize", j->name, (int)j->t.type);
            if (!fits(&j->t, ruled))
                die("--tensor: %s has rows of %llu weights, %s needs a multiple of %d", j->name, (unsigned long long)j->t.ne[0], smolq_type_info(ruled)->name, (int)smolq_type_info(ruled)->block_weights);
            j->type = ruled;
        } else if (known && c->mix && may_be_quantized(j) && (is_float(j->t.type) || c->requantize)) {
            j->type = is_output && c->output ? fallback(&j->t, wanted_type(c->output, "--keep-output")) : mix_choice(c->mix, &model, &j->t, j->name, place_of(jobs, n, j));
        }
        if (j->type != j->t.type) {
            facts = smolq_type_info(j->type);
            j->bytes = j->t.ne[0] / (uint64_t)facts->block_weights * (uint64_t)facts->block_bytes * j->t.ne[1] * j->t.ne[2] * j->t.ne[3];
        }
    }
}

static void print_census(const job *jobs, uint64_t n, uint64_t header_bytes)
{
    uint64_t i, before = header_bytes, after = header_bytes;
    int32_t type;
    amount a, b;
    for (type = 0; type < SMOLQ_TYPE_COUNT; type++) {
        uint64_t count = 0, bytes = 0;
        for (i = 0; i < n; i++)
            if (jobs[i].type == type) {
                count++;
                bytes += jobs[i].bytes;
            }
        if (count) printf("  %-8s %5llu tensors %12s\n", smolq_type_info(type) ? smolq_type_info(type)->name : "?", (unsigned long long)count, in_mib(&a, bytes));
    }
    for (i = 0; i < n; i++) {
        before += jobs[i].t.bytes;
        after += jobs[i].bytes;
    }
    printf("%s, before %s\n", in_mib(&a, after), in_mib(&b, before));
}

/* ---- importance ---- */

/* What counts for the columns of a tensor: [n_matrices][n] means, or NULL. */
static float *load_importance(const smolq_gguf *imatrix, const job *j, uint64_t *n_matrices)
{
    smolq_tensor_info sums, counts;
    smolq_error err;
    char name[160];
    float *of_sums, *of_counts;
    uint64_t i, k, n = j->t.ne[0];
    snprintf(name, sizeof name, "%s.in_sum2", j->name);
    if (smolq_gguf_find_tensor(imatrix, name, &sums, NULL)) return NULL;
    snprintf(name, sizeof name, "%s.counts", j->name);
    check(smolq_gguf_find_tensor(imatrix, name, &counts, &err), &err);
    *n_matrices = sums.ne[1];
    if (sums.type != SMOLQ_TYPE_F32 || counts.type != SMOLQ_TYPE_F32 || sums.ne[0] != n || counts.bytes != sums.ne[1] * 4 || sums.ne[2] * sums.ne[3] != 1
        || (sums.ne[1] != 1 && sums.ne[1] != j->t.ne[2]))
        die("--imatrix: %s.in_sum2 is %llu x %llu, expected %llu x %llu, with as many counts", j->name, (unsigned long long)sums.ne[0], (unsigned long long)sums.ne[1],
            (unsigned long long)n, (unsigned long long)j->t.ne[2]);
    of_sums = (float *)need((size_t)(n * sums.ne[1]), sizeof *of_sums);
    of_counts = (float *)need((size_t)sums.ne[1], sizeof *of_counts);
    check(smolq_gguf_read(imatrix, &sums, 0, of_sums, (size_t)sums.bytes, &err), &err);
    check(smolq_gguf_read(imatrix, &counts, 0, of_counts, (size_t)counts.bytes, &err), &err);
    for (k = 0; k < sums.ne[1]; k++)
        for (i = 0; i < n; i++) of_sums[k * n + i] = of_counts[k] > 0 ? of_sums[k * n + i] / of_counts[k] : 1.0f; /* an expert that was never asked */
    free(of_counts);
    return of_sums;
}

/* ---- the work: rows, by as many threads as there are ---- */

typedef struct work {
    const job *j;
    const unsigned char *from;
    unsigned char *to;
    const float   *importance; /* [n_matrices][ne[0]] or NULL */
    uint64_t       n_matrices, first_row, n_rows, next_row;
    pthread_mutex_t lock;
    smolq_result   result;
    smolq_error    err;
} work;

static void *pack_rows(void *arg)
{
    work *w = (work *)arg;
    const smolq_type_facts *from = smolq_type_info(w->j->t.type), *to = smolq_type_info(w->j->type);
    size_t n = (size_t)w->j->t.ne[0], from_bytes = n / (size_t)from->block_weights * (size_t)from->block_bytes, to_bytes = n / (size_t)to->block_weights * (size_t)to->block_bytes;
    float *row = (float *)need(n, sizeof *row);
    for (;;) {
        smolq_error err;
        smolq_result result;
        const float *importance = w->importance;
        uint64_t r;
        pthread_mutex_lock(&w->lock);
        r = w->result ? w->n_rows : w->next_row++;
        pthread_mutex_unlock(&w->lock);
        if (r >= w->n_rows) break;
        if (importance && w->n_matrices > 1) importance += (w->first_row + r) / w->j->t.ne[1] * n;
        result = smolq_unpack(w->j->t.type, w->from + r * from_bytes, row, n, &err);
        if (!result) result = smolq_pack(w->j->type, row, importance, w->to + r * to_bytes, n, &err);
        if (result) {
            char text[sizeof err.text + 160];
            snprintf(text, sizeof text, "%s, row %llu: %s", w->j->name, (unsigned long long)(w->first_row + r), err.text);
            text[sizeof err.text - 1] = 0;
            pthread_mutex_lock(&w->lock);
            w->result = result;
            memcpy(w->err.text, text, sizeof err.text);
            pthread_mutex_unlock(&w->lock);
        }
    }
    free(row);
    return NULL;
}

static void pack_piece(work *w, int n_threads)
{
    pthread_t threads[MAX_THREADS];
    int i, n = 0;
    w->next_row = 0;
    for (i = 1; i < n_threads; i++)
        if (pthread_create(&threads[n], NULL, pack_rows, w) == 0) n++;
    pack_rows(w);
    for (i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

/* ---- the story ---- */

static void put_metadata(const smolq_gguf *in, const mix *m, int any_packed, const char *imatrix)
{
    put_pairs_of(in, is_split_key, NULL);
    if (m) put_int("general.file_type", SMOLQ_GGUF_U32, m->file_type);
    if (any_packed) put_int("general.quantization_version", SMOLQ_GGUF_U32, 2);
    if (imatrix) put_text("quantize.imatrix.file", file_name(imatrix));
}

/* Copies or packs a tensor.  1; 0 if it is not in the imatrix; -1 with the reason in *err. */
static int put_tensor(const smolq_gguf *in, const job *j, const smolq_gguf *imatrix, int n_threads, smolq_error *err)
{
    uint64_t n_rows = j->t.ne[1] * j->t.ne[2] * j->t.ne[3], row, at;
    int copied = j->type == j->t.type;
    uint64_t from_bytes = n_rows ? j->t.bytes / n_rows : 0, to_bytes = n_rows ? j->bytes / n_rows : 0, rows = PIECE / (j->t.ne[0] * 4 + 1) + 1;
    unsigned char *from, *to;
    work w;
    if (copied) {
        from = (unsigned char *)need(PIECE, 1);
        for (at = 0; at < j->t.bytes; at += PIECE) {
            size_t piece = j->t.bytes - at < PIECE ? (size_t)(j->t.bytes - at) : PIECE;
            if (smolq_gguf_read(in, &j->t, at, from, piece, err) || smolq_gguf_write(out, from, piece, err)) break;
        }
        free(from);
        return at < j->t.bytes ? -1 : 1;
    }
    memset(&w, 0, sizeof w);
    w.j = j;
    w.importance = imatrix ? load_importance(imatrix, j, &w.n_matrices) : NULL;
    pthread_mutex_init(&w.lock, NULL);
    w.from = from = (unsigned char *)need((size_t)rows, (size_t)from_bytes);
    w.to = to = (unsigned char *)need((size_t)rows, (size_t)to_bytes);
    for (row = 0; row < n_rows; row += rows) {
        w.first_row = row;
        w.n_rows = n_rows - row < rows ? n_rows - row : rows;
        w.result = smolq_gguf_read(in, &j->t, row * from_bytes, from, (size_t)(w.n_rows * from_bytes), &w.err);
        if (!w.result) pack_piece(&w, n_threads);
        if (!w.result) w.result = smolq_gguf_write(out, to, w.n_rows * to_bytes, &w.err);
        if (w.result) break;
    }
    *err = w.err;
    pthread_mutex_destroy(&w.lock);
    free(from);
    free(to);
    free((void *)w.importance);
    return w.result ? -1 : !imatrix || w.importance != NULL;
}

int main(int argc, char **argv)
{
    const char *in_path = NULL, *out_path = NULL, *what = NULL, *imatrix_path = NULL;
    int dry_run = 0, n_threads = 0;
    choices c = { 0 };
    const option options[] = {
        { "IN",            NULL,           's', &in_path,      "the file, GGUF" },
        { "OUT",           NULL,           's', &out_path,     "the file to write" },
        { "TYPE",          NULL,           's', &what,         "a type (Q8_0), a mix (Q4_K_M) or COPY" },
        { "--tensor",      "PATTERN=TYPE", 'l', &c.rules,      "another type for tensors whose names fit; may be repeated" },
        { "--keep-output", "TYPE",         's', &c.output,     "type of the output matrix (or of the embedding that serves as one)" },
        { "--imatrix",     "FILE",         's', &imatrix_path, "what each column counts, from imatrix" },
        { "--requantize",  NULL,           'b', &c.requantize, "quantize also what is quantized already" },
        { "--dry-run",     NULL,           'b', &dry_run,      "only say what would be done" },
        { "-t",            "N",            'i', &n_threads,    "threads (processors)" },
        { NULL, NULL, 0, NULL, NULL }
    };
    smolq_open_options open_options = { 0 };
    smolq_gguf *in, *imatrix = NULL;
    smolq_error err;
    uint64_t i, n, all = 0, done = 0, n_without = 0;
    double start = now_ms();
    job *jobs;
    size_t k;
    int any_packed = 0, result = 0;

    parse_options(argc, argv, "a GGUF file with other tensor types", options);
    if (!what) die("expected IN OUT TYPE; --help explains");
    for (k = 0; k < sizeof mixes / sizeof *mixes && !c.mix; k++)
        if (same_name(mixes[k].name, what)) c.mix = &mixes[k];
    if (!c.mix && !same_name(what, "COPY")) {
        int32_t type = wanted_type(what, "TYPE");
        die("TYPE: no mix is called %s", smolq_type_info(type)->name);
    }
    if (n_threads == 0) {
#ifdef _SC_NPROCESSORS_ONLN
        n_threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
#else
        n_threads = 2;
#endif
    }
    if (n_threads < 1) n_threads = 1;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;

    open_options.no_map = 1; /* what was read must not stay resident */
    check(smolq_gguf_open(in_path, &open_options, &in, &err), &err);
    if (imatrix_path) check(smolq_gguf_open(imatrix_path, NULL, &imatrix, &err), &err);
    n = smolq_gguf_info(in)->n_tensors;
    jobs = (job *)need((size_t)n, sizeof *jobs);
    for (i = 0; i < n; i++) {
        check(smolq_gguf_tensor(in, i, &jobs[i].t, &err), &err);
        snprintf(jobs[i].name, sizeof jobs[i].name, "%.*s", (int)jobs[i].t.name_bytes, jobs[i].t.name);
    }
    choose(&c, in, imatrix != NULL, jobs, n);
    for (i = 0; i < n; i++) {
        any_packed |= jobs[i].type != jobs[i].t.type;
        all += jobs[i].t.bytes;
        if (dry_run) printf("%-40s %8s -> %s\n", jobs[i].name, smolq_type_info(jobs[i].t.type) ? smolq_type_info(jobs[i].t.type)->name : "?",
                            smolq_type_info(jobs[i].type) ? smolq_type_info(jobs[i].type)->name : "?");
    }
    if (dry_run) {
        print_census(jobs, n, smolq_gguf_info(in)->header_bytes);
        return finish();
    }

    begin_output(out_path);
    put_metadata(in, c.mix, any_packed, imatrix_path);
    for (i = 0; i < n; i++) {
        smolq_tensor_info t = jobs[i].t;
        t.type = jobs[i].type;
        check(smolq_gguf_add(out, &t, &err), &err);
    }
    for (i = 0; i < n && result >= 0; i++) {
        show_progress(all ? (double)done / (double)all : 0, 0, start, jobs[i].name);
        result = put_tensor(in, &jobs[i], imatrix, n_threads, &err);
        n_without += result == 0;
        done += jobs[i].t.bytes;
    }
    show_progress(1, 0, start, "");
    if (result < 0) die("%s", err.text);
    end_output();
    if (n_without) fprintf(stderr, "%llu tensors are not in %s: all their columns count the same\n", (unsigned long long)n_without, imatrix_path);
    print_census(jobs, n, smolq_gguf_info(in)->header_bytes);
    printf("%.1f s\n", (now_ms() - start) / 1000);
    smolq_gguf_close(in);
    smolq_gguf_close(imatrix);
    free(jobs);
    return finish();
}
