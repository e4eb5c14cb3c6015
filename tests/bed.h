/* A bed for one operation, or a few: the same small program through the reference backend and a device, every region of memory that it could touch compared byte for byte.
 *
 * All of these regions, weights, activations, cache and scratch, end at a page that can't be read, so a kernel on the host that reads one byte too far dies.
 * Below the bed are the operations: each alone, every tensor type, odd shapes.  tests/test_cpu.c and tests/test_cuda.c run them on their devices.
 *
 * Included behind smolq.h with its implementation; who includes it defines run_on_devices. */
#ifndef SMOLQ_TEST_BED_H
#define SMOLQ_TEST_BED_H
#include "test.h"
#include "model_build.h"
#include <time.h>
#ifdef _WIN32
#  include <windows.h>
#else
#  include <sys/mman.h>
#endif

static int is_long(void) { return getenv("SMOLQ_LONG") != NULL; }
static uint64_t rotation(void)
{
    const char *seed = getenv("SMOLQ_SEED");
    return seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) / 86400;
}

/* ---- one operation: a bed of regions for it, run by both backends ---- */

typedef struct region {
    uint8_t *p;
    size_t   bytes, map_bytes;
    uint8_t *before, *expected; /* NULL: only read */
} region;

enum { N_REGIONS = 40, N_ROWS = 512, N_OPS = 4 };
typedef struct bed {
    smolq_op       op[N_OPS];
    smolq_program  program;
    smolq_run      run;
    smolq_tensor   tensor[3];
    smolq_kv_layer layer;
    const smolq_kv_layer *kv[N_ROWS];
    int32_t        token[N_ROWS], position[N_ROWS], out_row[N_ROWS];
    float         *logits[N_ROWS];
    region         region[N_REGIONS];
    int            n_regions, n_tensors, turn;
    uint64_t       rng;
} bed;

static uint64_t n_beds;

static bed *new_bed(int32_t n_rows)
{
    bed *b = (bed *)calloc(1, sizeof *b);
    int32_t i;
    if (!b) abort();
    b->rng = rotation() + n_beds++;
    b->program.ops = b->op;
    b->program.n_layer = 1;
    b->run.program = &b->program;
    b->run.n_rows = n_rows;
    b->run.token = b->token;
    b->run.position = b->position;
    b->run.kv = b->kv;
    b->run.out_row = b->out_row;
    b->run.logits = b->logits;
    for (i = 0; i < n_rows; i++) {
        b->kv[i] = &b->layer;
        b->position[i] = i;
    }
    return b;
}

/* The size rounds up to pages, the memory ends where they do, and a page without rights follows. */
enum { PAGE = 1 << 16 }; /* the largest there is */
static uint8_t *map_guarded(size_t bytes, size_t *map_bytes)
{
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
#ifdef _WIN32
    DWORD rights;
    uint8_t *map = (uint8_t *)VirtualAlloc(NULL, pages + PAGE, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (!map || !VirtualProtect(map + pages, PAGE, PAGE_NOACCESS, &rights)) abort();
#else
    uint8_t *map = (uint8_t *)mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + pages, PAGE, PROT_NONE)) abort();
#endif
    *map_bytes = pages + PAGE;
    return map + pages - bytes;
}
static void unmap_guarded(uint8_t *p, size_t bytes, size_t map_bytes)
{
    p += bytes + PAGE - map_bytes;
#ifdef _WIN32
    VirtualFree(p, 0, MEM_RELEASE);
#else
    munmap(p, map_bytes);
#endif
}

static uint8_t *add_region(bed *b, size_t bytes, int is_read_only)
{
    region *r = &b->region[b->n_regions++];
    if (b->n_regions > N_REGIONS) abort();
    r->bytes = bytes;
    r->p = map_guarded(bytes, &r->map_bytes);
    if (!is_read_only) {
        r->before = (uint8_t *)malloc(bytes + 1);
        r->expected = (uint8_t *)malloc(bytes + 1);
        if (!r->before || !r->expected) abort();
    }
    return r->p;
}

/* Random weights of a type; in a model they lie in the file, so nobody writes there. */
static const uint8_t *add_weights(bed *b, int type, uint64_t n, double size, double middle)
{
    build_file f;
    uint8_t *p;
    memset(&f, 0, sizeof f);
    build_weights(&f, type, n, size, middle, &b->rng);
    p = add_region(b, f.data.n, 1);
    memcpy(p, f.data.p, f.data.n);
    free(f.data.p);
    return p;
}
static const float *add_floats(bed *b, int32_t n, double size, double middle) { return (const float *)(const void *)add_weights(b, SMOLQ_TYPE_F32, (uint64_t)n, size, middle); }

static const smolq_tensor *add_tensor(bed *b, int type, int32_t n_cols, int32_t n_rows, int32_t n_experts)
{
    smolq_tensor *t = &b->tensor[b->n_tensors++];
    const build_type *facts = build_type_of(type);
    t->type = type;
    t->n_cols = n_cols;
    t->n_rows = n_rows;
    t->n_experts = n_experts;
    t->row_bytes = (uint64_t)(n_cols / facts->weights * facts->bytes);
    t->expert_bytes = t->row_bytes * (uint64_t)n_rows;
    t->data = add_weights(b, type, (uint64_t)n_cols * (uint64_t)n_rows * (uint64_t)n_experts, 0.2, 0);
    return t;
}

static void fill(bed *b, uint8_t *to, size_t n, double size)
{
    size_t i;
    for (i = 0; i < n; i++) {
        float x = (float)(build_uniform(&b->rng) * size);
        memcpy(to + 4 * i, &x, 4);
    }
}

/* A buffer of the run with `bytes` in each row, full of random floats. */
static float *add_buffer(bed *b, int32_t buffer, uint64_t bytes, double size)
{
    b->program.row_bytes[buffer] = (bytes + 63) & ~(uint64_t)63;
    b->run.buffer[buffer] = add_region(b, (size_t)b->program.row_bytes[buffer] * (size_t)b->run.n_rows, 0);
    fill(b, b->run.buffer[buffer], (size_t)b->program.row_bytes[buffer] / 4 * (size_t)b->run.n_rows, size);
    return (float *)(void *)b->run.buffer[buffer];
}
static void add_float_buffer(bed *b, int32_t buffer, int32_t n) { add_buffer(b, buffer, (uint64_t)n * 4, 2); }

static smolq_op *add_op(bed *b, int32_t kind, int32_t in, int32_t out)
{
    smolq_op *op = &b->op[b->program.n_ops++];
    b->run.end_op = (uint32_t)b->program.n_ops;
    op->kind = kind;
    op->in = in;
    op->out = out;
    return op;
}

static void add_quantize(bed *b, int32_t in, int32_t n, int32_t n_seg, int32_t group)
{
    int32_t out = group == 256 ? SMOLQ_BUF_A256 : SMOLQ_BUF_A32;
    smolq_op *op = add_op(b, SMOLQ_OP_QUANTIZE, in, out);
    op->n = n;
    op->n_seg = n_seg;
    op->group = group;
    add_buffer(b, out, smolq_a8_bytes(n, group) * (uint64_t)n_seg, 1);
}

/* A part of the product that is being written, with what quantizes its input before it. */
static int32_t group_of(int type) { return smolq__type_of(type)->facts.group; }
static void add_part(smolq_op *op, const smolq_tensor *w, const float *bias, int32_t in, int32_t out, float add)
{
    smolq_op_part *part = &op->part[op->n_parts++];
    part->w = w;
    part->bias = bias;
    part->in = group_of(w->type) == 256 ? SMOLQ_BUF_A256 : group_of(w->type) == 32 ? SMOLQ_BUF_A32 : in;
    part->out = out;
    part->add = add;
}

static int every_other(void *user) { return (*(int *)user)++ & 1; }

static void restore(bed *b)
{
    int i;
    for (i = 0; i < b->n_regions; i++)
        if (b->region[i].before) memcpy(b->region[i].p, b->region[i].before, b->region[i].bytes);
    b->run.op = 0;
    b->run.unit = 0;
    b->run.numeric = 0;
}

/* Runs the bed on the device or devices of the test that includes this, and checks that all regions become as expected (and that, where numeric is set, the run says so). */
static void run_on_devices(bed *b, const char *name, int32_t numeric);

/* Runs the bed on the reference backend, then there; frees it. */
static void run_bed(bed *b, const char *format, ...)
{
    char name[160];
    int32_t numeric;
    int i;
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    for (i = 0; i < b->n_regions; i++)
        if (b->region[i].before) memcpy(b->region[i].before, b->region[i].p, b->region[i].bytes);
    smolq_backend_ref()->run(NULL, &b->run, NULL);
    numeric = b->run.numeric;
    for (i = 0; i < b->n_regions; i++)
        if (b->region[i].before) memcpy(b->region[i].expected, b->region[i].p, b->region[i].bytes);
    run_on_devices(b, name, numeric);
    for (i = 0; i < b->n_regions; i++) {
        unmap_guarded(b->region[i].p, b->region[i].bytes, b->region[i].map_bytes);
        free(b->region[i].before);
        free(b->region[i].expected);
    }
    free(b);
}

/* ---- products ---- */

static const int32_t row_counts[] = { 1, 3, 17, 64 }, token_counts[] = { 1, 2, 7, 8, 9, 33, 512 };
#define EACH_OF(i, list) for (i = 0; i < (int)(sizeof(list) / sizeof *(list)); i++)

static void one_product(int type, int32_t n_cols, int32_t n_rows, int32_t n_tokens)
{
    bed *b = new_bed(n_tokens);
    const float *bias = n_beds / 2 % 2 ? add_floats(b, n_rows, 0.5, 0) : NULL;
    float add = n_beds % 2 ? 0.7f : 0;
    const smolq_tensor *w = add_tensor(b, type, n_cols, n_rows, 1);
    add_float_buffer(b, SMOLQ_BUF_NORMED, n_cols);
    add_float_buffer(b, SMOLQ_BUF_Q, n_rows);
    if (group_of(type)) add_quantize(b, SMOLQ_BUF_NORMED, n_cols, 1, group_of(type));
    add_part(add_op(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE), w, bias, SMOLQ_BUF_NORMED, SMOLQ_BUF_Q, add);
    run_bed(b, "%s, %d x %d times %d tokens%s%s", build_type_of(type)->name, (int)n_cols, (int)n_rows, (int)n_tokens, bias ? ", bias" : "", add != 0 ? ", add" : "");
}

static void products(void)
{
    int t, r, x;
    for (t = 0; t < BUILD_N_TYPES; t++) {
        const build_type *type = &build_types[t];
        int32_t one = type->weights == 1 ? 7 : type->weights, many = type->weights == 1 ? 333 : type->weights == 256 ? 768 : type->weights * 11;
        EACH_OF(r, row_counts) EACH_OF(x, token_counts) {
            if (token_counts[x] == 512 && row_counts[r] != 17 && !is_long()) continue;
            one_product(type->id, one, row_counts[r], token_counts[x]);
            one_product(type->id, many, row_counts[r], token_counts[x]);
        }
        one_product(type->id, type->weights == 1 ? 2048 : type->weights == 256 ? 4352 : type->weights * 40, 21, 5);
    }
}

/* Activations as large as they get, all of a token of one sign, and all codes alike: where sums are kept in 16 bits, this is what must fit. */
static void products_of_extremes(void)
{
    static const uint8_t bytes[] = { 0, 127, 128, 255 };
    static const int32_t counts[] = { 2, 13 };
    int t, i, x, k, row;
    for (t = 0; t < BUILD_N_TYPES; t++) {
        const build_type *type = &build_types[t];
        int32_t n_cols = type->weights * (type->weights == 256 ? 2 : 11), kept = type->id == 39 ? 1 : type->id == 40 ? 4 : 0; /* bytes of scales in MXFP4, NVFP4; in IQ1_M bits of the last 8 */
        if (group_of(type->id)) EACH_OF(i, bytes) EACH_OF(x, counts) {
            bed *b = new_bed(counts[x]);
            const smolq_tensor *w = add_tensor(b, type->id, n_cols, 17, 1);
            uint8_t *p = (uint8_t *)(uintptr_t)w->data;
            float *in;
            for (row = 0; row < 17 * (n_cols / type->weights); row++, p += type->bytes)
                for (k = kept; k < type->bytes - (type->id == 29 ? 8 : 0); k++)
                    if ((type->d_at < 0 || k / 2 != type->d_at / 2) && (type->m_at < 0 || k / 2 != type->m_at / 2)) p[k] = bytes[i];
            add_float_buffer(b, SMOLQ_BUF_NORMED, n_cols);
            for (row = 0; row < counts[x]; row++)
                for (in = (float *)(void *)smolq_row(&b->run, SMOLQ_BUF_NORMED, row), k = 0; k < n_cols; k++) in[k] = row % 2 ? -2.0f : 2.0f;
            add_float_buffer(b, SMOLQ_BUF_Q, 17);
            add_quantize(b, SMOLQ_BUF_NORMED, n_cols, 1, group_of(type->id));
            add_part(add_op(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE), w, NULL, SMOLQ_BUF_NORMED, SMOLQ_BUF_Q, 0);
            run_bed(b, "%s of bytes %d, times %d tokens", type->name, (int)bytes[i], (int)counts[x]);
        }
    }
}

/* Parts of three types and sizes in one operation, logits for some rows among them. */
static void products_of_parts(void)
{
    int round, i, t;
    for (round = 0; round < 60; round++) {
        int32_t n_tokens = token_counts[round % 6], n_cols = round % 2 ? 256 : 512;
        bed *b = new_bed(n_tokens);
        static const int32_t outs[] = { SMOLQ_BUF_Q, SMOLQ_BUF_K, SMOLQ_BUF_V };
        smolq_op *op;
        const smolq_tensor *w[3];
        int groups = 0;
        for (i = 0; i < 3; i++) {
            int type = build_types[build_random(&b->rng) % BUILD_N_TYPES].id;
            if (i && round / 6 % 2) type = w[0]->type; /* all of one type */
            w[i] = add_tensor(b, type, n_cols, 1 + (int32_t)(build_random(&b->rng) % 40), 1);
            groups |= group_of(type);
            add_float_buffer(b, outs[i], w[i]->n_rows);
        }
        add_float_buffer(b, SMOLQ_BUF_NORMED, n_cols);
        b->run.n_out = (n_tokens + 1) / 2;
        b->program.n_vocab = w[2]->n_rows;
        for (t = 0; t < b->run.n_out; t++) b->logits[t] = (float *)(void *)add_region(b, (size_t)w[2]->n_rows * 4, 0);
        for (i = 32; i <= 256; i *= 8)
            if (groups & i) {
                add_quantize(b, SMOLQ_BUF_NORMED, n_cols, 1, i);
                b->op[b->program.n_ops - 1].selected = round % 3 == 0;
            }
        op = add_op(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
        op->selected = round % 3 == 0;
        for (i = 0; i < 3; i++) add_part(op, w[i], NULL, SMOLQ_BUF_NORMED, op->selected && i == 2 ? SMOLQ_BUF_LOGITS : outs[i], 0);
        run_bed(b, "parts of %s, %s and %s, %d columns, %d tokens", build_type_of(w[0]->type)->name, build_type_of(w[1]->type)->name, build_type_of(w[2]->type)->name, (int)n_cols,
                (int)n_tokens);
    }
}

/* A part that gates the one before it, in front of another part or behind one. */
static void products_gated(void)
{
    int round, i;
    for (round = 0; round < 72; round++) {
        int32_t n_tokens = token_counts[round % 6], n_cols = round % 2 ? 256 : 512, n_rows = 1 + round % 5 * 17, other = round / 2 % 3, kind = SMOLQ_GATE_SILU + round % 3;
        bed *b = new_bed(n_tokens);
        const smolq_tensor *w[3];
        smolq_op *op;
        int groups = 0;
        for (i = 0; i < 3; i++) {
            int type = build_types[build_random(&b->rng) % BUILD_N_TYPES].id;
            if (i == 1 && round % 8 < 4) type = w[0]->type; /* both of one type */
            w[i] = add_tensor(b, type, n_cols, i < 2 ? n_rows : 5, 1);
            groups |= group_of(type);
        }
        add_float_buffer(b, SMOLQ_BUF_GATE, n_rows);
        add_float_buffer(b, SMOLQ_BUF_K, 5);
        add_float_buffer(b, SMOLQ_BUF_NORMED, n_cols);
        for (i = 32; i <= 256; i *= 8)
            if (groups & i) add_quantize(b, SMOLQ_BUF_NORMED, n_cols, 1, i);
        op = add_op(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
        if (other == 1) add_part(op, w[2], NULL, SMOLQ_BUF_NORMED, SMOLQ_BUF_K, 0);
        for (i = 0; i < 2; i++) add_part(op, w[i], round % 4 ? NULL : add_floats(b, n_rows, 0.5, 0), SMOLQ_BUF_NORMED, SMOLQ_BUF_GATE, 0);
        op->part[op->n_parts - 1].gate = kind;
        if (other == 2) add_part(op, w[2], NULL, SMOLQ_BUF_NORMED, SMOLQ_BUF_K, 0);
        run_bed(b, "%d rows of %s gated by %s, gate %d, %d columns, %d tokens", (int)n_rows, build_type_of(w[1]->type)->name, build_type_of(w[0]->type)->name, (int)kind, (int)n_cols,
                (int)n_tokens);
    }
}

static void products_of_experts(void)
{
    enum { N_EXPERTS = 5, N_USED = 2 };
    int t, round;
    for (t = 0; t < BUILD_N_TYPES; t++)
        for (round = 0; round < 6; round++) {
            int down = round % 2, type = build_types[t].id; /* gate and up read one row of activations, down has one for each pick */
            int32_t n_tokens = token_counts[round], n_cols = build_types[t].weights == 1 ? 37 : build_types[t].weights * (1 + round % 3), n_rows = row_counts[round % 4] * 2, *picks, i, s;
            bed *b = new_bed(n_tokens);
            const smolq_tensor *w = add_tensor(b, type, n_cols, n_rows, N_EXPERTS), *w2 = down ? NULL : add_tensor(b, type, n_cols, n_rows + 3, N_EXPERTS);
            const float *bias = round % 3 ? NULL : add_floats(b, n_rows * N_EXPERTS, 0.5, 0);
            smolq_op *op;
            b->program.n_expert = N_EXPERTS;
            b->program.n_expert_used = N_USED;
            add_float_buffer(b, SMOLQ_BUF_NORMED, n_cols * N_USED);
            add_float_buffer(b, SMOLQ_BUF_GATE, n_rows * N_USED);
            add_float_buffer(b, SMOLQ_BUF_UP, (n_rows + 3) * N_USED);
            add_buffer(b, SMOLQ_BUF_PICKS, N_USED * 8, 1);
            for (i = 0; i < n_tokens; i++) {
                picks = (int32_t *)(void *)smolq_row(&b->run, SMOLQ_BUF_PICKS, i);
                for (s = 0; s < N_USED; s++) picks[s] = (int32_t)(build_random(&b->rng) % N_EXPERTS);
            }
            if (group_of(type)) add_quantize(b, SMOLQ_BUF_NORMED, n_cols, down ? N_USED : 1, group_of(type));
            op = add_op(b, SMOLQ_OP_MATMUL_EXPERTS, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
            op->n_seg = down ? N_USED : 1;
            add_part(op, w, bias, SMOLQ_BUF_NORMED, SMOLQ_BUF_GATE, 0);
            if (w2) add_part(op, w2, NULL, SMOLQ_BUF_NORMED, SMOLQ_BUF_UP, 0);
            run_bed(b, "experts of %s, %d x %d times %d tokens%s", build_type_of(type)->name, (int)n_cols, (int)n_rows, (int)n_tokens, down ? ", a row for each" : "");
        }
}

/* ---- the other operations ---- */

static void norms(void)
{
    static const int32_t sizes[] = { 1, 5, 16, 33, 63, 64, 65, 100, 128, 1000 };
    int i, variant;
    EACH_OF(i, sizes) for (variant = 0; variant < 8; variant++) {
        bed *b = new_bed(1 + variant * 2);
        int32_t n = sizes[i], out = variant & 1 ? SMOLQ_BUF_NORMED : SMOLQ_BUF_RESIDUAL; /* or in place */
        smolq_op *op = add_op(b, SMOLQ_OP_NORM, SMOLQ_BUF_RESIDUAL, out);
        op->n = n;
        op->n_seg = variant & 2 ? 3 : 1;
        op->add = variant >> 2;
        op->eps = variant & 1 ? 1e-5f : 1e-6f;
        op->w = add_floats(b, n, 0.3, 1);
        add_buffer(b, SMOLQ_BUF_RESIDUAL, (uint64_t)(n * op->n_seg) * 4, i % 3 ? 2 : 1e15);
        if (variant & 1) add_float_buffer(b, out, n * op->n_seg);
        run_bed(b, "norm of %d segments of %d%s", (int)op->n_seg, (int)n, op->add ? ", added" : "");
    }
}

/* Ordinary rows, halves that round to even, zeros, numbers near the ends of the range, and those that are none. */
static void quantizing(void)
{
    static const char *const kinds[] = { "ordinary", "halves", "zeros", "tiny", "least", "huge", "NaN", "infinity", "-infinity" };
    static const float specials[] = { 0, 0, 0, 1e-31f, 1.4e-45f, 3.4e38f, NAN, INFINITY, -INFINITY };
    int kind, group, variant, i;
    for (group = 32; group <= 256; group *= 8)
        EACH_OF(kind, kinds) for (variant = 0; variant < 4; variant++) {
            int32_t n_rows = variant & 1 ? 9 : 1, n = group * (variant + 1), n_seg = variant == 3 ? 3 : 1;
            bed *b = new_bed(n_rows);
            float *x = add_buffer(b, SMOLQ_BUF_NORMED, (uint64_t)(n * n_seg) * 4, kind > 2 && kind < 5 ? 1e-30 : 3);
            int32_t floats = (int32_t)b->program.row_bytes[SMOLQ_BUF_NORMED] / 4, last = (n_rows - 1) * floats + n * n_seg - group; /* a special group, the last one */
            for (i = 0; i < group; i++) {
                if (kind == 1) x[last + i] = (float)((int32_t)(build_random(&b->rng) % 253) - 126) + 0.5f;
                else if (kind > 1 && kind < 6) x[last + i] = i % 3 ? specials[kind] : -specials[kind];
            }
            if (kind == 1) x[last] = 127;
            if (kind > 5) x[last + (int32_t)(build_random(&b->rng) % (uint64_t)group)] = specials[kind];
            add_quantize(b, SMOLQ_BUF_NORMED, n, n_seg, group);
            run_bed(b, "groups of %d, %s, %d rows of %d", group, kinds[kind], (int)n_rows, (int)n);
        }
}

static void rotations(void)
{
    static const int32_t heads[][2] = { { 2, 2 }, { 6, 4 }, { 32, 32 }, { 64, 64 }, { 64, 24 }, { 80, 80 }, { 80, 20 }, { 96, 72 }, { 128, 128 } }; /* size, rotated */
    int i, kind;
    EACH_OF(i, heads) for (kind = SMOLQ_ROPE_PAIRS; kind <= SMOLQ_ROPE_HALVES; kind++) {
        bed *b = new_bed(i % 2 ? 5 : 1);
        smolq_op *op = add_op(b, SMOLQ_OP_ROPE, SMOLQ_BUF_Q, SMOLQ_BUF_Q);
        op->n = heads[i][0];
        op->n_rot = heads[i][1];
        op->n_seg = 3;
        op->rope = kind;
        op->angles = i % 3 ? SMOLQ_BUF_ROPE : SMOLQ_BUF_ROPE_LOCAL;
        add_float_buffer(b, SMOLQ_BUF_Q, op->n * op->n_seg);
        add_buffer(b, op->angles, (uint64_t)op->n_rot * 4, 1);
        run_bed(b, "rotation of %d of %d, %s", (int)op->n_rot, (int)op->n, kind == SMOLQ_ROPE_PAIRS ? "pairs" : "halves");
    }
}

/* A layer's cache, both halves full of random cells. */
static void add_cache(bed *b, int32_t type, int32_t n_head_kv, int32_t n_cells, int32_t head_dim)
{
    const build_type *facts = build_type_of(type);
    int half;
    b->layer.type = type;
    b->layer.n_cells = n_cells;
    b->layer.head_row_bytes = (uint64_t)(head_dim / facts->weights * facts->bytes);
    for (half = 0; half < 2; half++) {
        size_t bytes = (size_t)b->layer.head_row_bytes * (size_t)n_head_kv * (size_t)n_cells;
        uint8_t *p = add_region(b, bytes, 0);
        build_file f;
        memset(&f, 0, sizeof f);
        build_weights(&f, type, (uint64_t)head_dim * (uint64_t)n_head_kv * (uint64_t)n_cells, 1, 0, &b->rng);
        memcpy(p, f.data.p, bytes);
        free(f.data.p);
        if (half) b->layer.v = p;
        else b->layer.k = p;
    }
}

static const int32_t kv_types[] = { SMOLQ_TYPE_F32, SMOLQ_TYPE_F16, SMOLQ_TYPE_Q8_0 };

static void storing(void)
{
    static const int32_t sizes[] = { 16, 24, 32, 64, 80, 96, 128 };
    static const float specials[] = { 1, 65519.99f, 65520.0f, -65520.0f, 1e-8f, 1e30f, NAN, INFINITY }; /* what f16 rounds to infinity, and what it does not */
    int i, type, special;
    EACH_OF(type, kv_types) EACH_OF(i, sizes) EACH_OF(special, specials) {
        bed *b;
        smolq_op *op;
        float *k, *v;
        int32_t r;
        if (sizes[i] % build_type_of(kv_types[type])->weights) continue;
        b = new_bed(special % 2 ? 6 : 1);
        op = add_op(b, SMOLQ_OP_KV_STORE, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
        op->n = sizes[i];
        op->n_head_kv = 3;
        for (r = 0; r < b->run.n_rows; r++) b->position[r] = 5 + r; /* over the end of the ring */
        add_cache(b, kv_types[type], op->n_head_kv, 7, op->n);
        k = add_buffer(b, SMOLQ_BUF_K, (uint64_t)(op->n * op->n_head_kv) * 4, 3);
        v = add_buffer(b, SMOLQ_BUF_V, (uint64_t)(op->n * op->n_head_kv) * 4, 3);
        (special & 1 ? k : v)[op->n * op->n_head_kv - 1] = specials[special];
        run_bed(b, "a cell of %d in %s, %g among the numbers", (int)op->n, build_type_of(kv_types[type])->name, (double)specials[special]);
    }
}

static void attentions(void)
{
    /* head_dim, heads, KV heads, window, cells, first position, rows, cap, sinks, heat */
    static const int32_t cases[][10] = {
        {  64, 4, 4,   0,  32,    0, 17, 0, 0, 0 }, {  64, 6, 2,   0, 300,  200,  9, 0, 0, 0 }, { 128, 8, 2,   0,  64,   63,  1, 0, 0, 0 }, { 128, 8, 2,   0, 130,   64, 66, 0, 0, 0 },
        {  32, 8, 1,   0, 200,  127,  3, 3, 0, 0 }, {  96, 9, 1,   0, 150,  128,  5, 0, 1, 0 }, {  80, 3, 1,   0, 150,   60, 10, 0, 0, 1 }, {  16, 2, 1,   0, 100,   90,  8, 2, 1, 1 },
        {  64, 4, 1,  13,  40,  500,  7, 0, 0, 0 }, {  64, 4, 2, 100, 128, 1000, 20, 0, 1, 0 }, {  64, 4, 2,   1,  16,   10,  6, 0, 0, 0 }, { 256, 4, 2,  64, 130,   10, 40, 3, 0, 0 },
        {  64, 4, 2,  70, 133,  126,  4, 0, 0, 0 }, {  24, 3, 3,   0,  80,   70,  5, 0, 0, 0 }, {  20, 4, 2,   0,  80,   30,  5, 2, 1, 0 }, { 512, 2, 1,   0,  70,   66,  2, 0, 0, 0 },
        { 1024, 9, 1,  0,  70,   66,  2, 0, 0, 0 }, {  64, 16, 1,  0, 700,  640, 33, 0, 0, 0 }, { 64, 4, 2, 0, 1500, 1400, 2, 3, 1, 1 }, { 96, 3, 1, 700, 720, 2000, 1, 0, 0, 0 },
        { 128, 8, 2,   0, 1900, 1850, 16, 0, 1, 0 },
    };
    int i, type;
    EACH_OF(i, cases) EACH_OF(type, kv_types) {
        const int32_t *c = cases[i];
        bed *b;
        smolq_op *op;
        int32_t r;
        if (c[0] % build_type_of(kv_types[type])->weights) continue;
        b = new_bed(c[6]);
        op = add_op(b, SMOLQ_OP_ATTENTION, SMOLQ_BUF_Q, SMOLQ_BUF_ATT);
        op->n = c[0];
        op->n_head = c[1];
        op->n_head_kv = c[2];
        op->window = c[3];
        op->scale = 0.4f;
        op->cap = (float)c[7];
        op->w = c[8] ? add_floats(b, op->n_head, 2, 1) : NULL;
        op->heated = c[9];
        for (r = 0; r < c[6]; r++) b->position[r] = c[5] + r;
        add_cache(b, kv_types[type], op->n_head_kv, c[4], op->n);
        add_float_buffer(b, SMOLQ_BUF_Q, op->n * op->n_head);
        add_float_buffer(b, SMOLQ_BUF_ATT, op->n * op->n_head);
        if (op->heated) add_float_buffer(b, SMOLQ_BUF_HEAT, 1);
        if (type && c[0] * c[1] % 256 == 0) add_quantize(b, SMOLQ_BUF_ATT, c[0] * c[1], 1, 256); /* which a backend may do on the way */
        if (type != 1 && c[0] * c[1] % 32 == 0) add_quantize(b, SMOLQ_BUF_ATT, c[0] * c[1], 1, 32);
        run_bed(b, "attention case %d, cache in %s", i, build_type_of(kv_types[type])->name);
    }
}

/* Operations that follow each other in programs, which a backend may compute in one: a norm and its quantizing, two rotations and the storing. */
static void operations_in_a_row(void)
{
    int round;
    for (round = 0; round < 24; round++) {
        int32_t n = round % 3 == 0 ? 256 : 1280, groups = round % 3, part;
        bed *b = new_bed(round % 2 ? 1 : 6);
        smolq_op *op = add_op(b, SMOLQ_OP_NORM, SMOLQ_BUF_RESIDUAL, round % 4 < 2 ? SMOLQ_BUF_NORMED : SMOLQ_BUF_RESIDUAL);
        int32_t out = op->out;
        op->n = n;
        op->n_seg = 1;
        op->add = round / 4 % 2;
        op->eps = 1e-5f;
        op->w = add_floats(b, n, 0.3, 1);
        add_float_buffer(b, SMOLQ_BUF_RESIDUAL, n);
        if (out == SMOLQ_BUF_NORMED) add_float_buffer(b, out, n);
        if (groups != 1) add_quantize(b, out, n, 1, 256);
        if (groups != 0) add_quantize(b, out, n, 1, 32);
        run_bed(b, "norm of %d and quantizing, round %d", (int)n, round);

        b = new_bed(round % 2 ? 1 : 5);
        add_float_buffer(b, SMOLQ_BUF_Q, 64 * 6);
        add_float_buffer(b, SMOLQ_BUF_K, 64 * 2);
        add_float_buffer(b, SMOLQ_BUF_V, 64 * 2);
        for (part = 0; part < 2; part++) {
            op = add_op(b, SMOLQ_OP_ROPE, part ? SMOLQ_BUF_K : SMOLQ_BUF_Q, part ? SMOLQ_BUF_K : SMOLQ_BUF_Q);
            op->n = 64;
            op->n_rot = round % 4 ? 64 : 24;
            op->n_seg = part ? 2 : 6;
            op->rope = round / 2 % 2 ? SMOLQ_ROPE_PAIRS : SMOLQ_ROPE_HALVES;
            op->angles = SMOLQ_BUF_ROPE;
        }
        add_buffer(b, SMOLQ_BUF_ROPE, 64 * 4, 1);
        op = add_op(b, SMOLQ_OP_KV_STORE, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
        op->n = 64;
        op->n_head_kv = 2;
        add_cache(b, kv_types[round % 3], 2, 9, 64);
        run_bed(b, "rotations and storing, round %d", round);
    }
}

/* Scores below -3e38, as damaged weights make them: what stands for a key that is not there must be less. */
static void least_scores(void)
{
    bed *b = new_bed(1);
    smolq_op *op = add_op(b, SMOLQ_OP_ATTENTION, SMOLQ_BUF_Q, SMOLQ_BUF_ATT);
    float *q;
    int i;
    op->n = 16;
    op->n_head = op->n_head_kv = 1;
    op->scale = 1;
    add_cache(b, SMOLQ_TYPE_F32, 1, 4, 16);
    q = add_buffer(b, SMOLQ_BUF_Q, 64, 1);
    add_float_buffer(b, SMOLQ_BUF_ATT, 16);
    for (i = 0; i < 16; i++) {
        float k = -2e18f;
        q[i] = 1e19f;
        memcpy(b->layer.k + 4 * i, &k, 4);
    }
    run_bed(b, "attention to a key with the score -3.2e38");
}

static void gates(void)
{
    static const int32_t sizes[] = { 1, 15, 16, 17, 48, 100, 1001 };
    static const float specials[] = { 0, -0.0f, 7, -7, 7.0000005f, 87.3f, -87.3f, -87.30001f, 88, 88.1f, -100, 1e30f, -1e30f, 1e-40f, 51.3f, -51.3f };
    int i, gate, s;
    EACH_OF(i, sizes) for (gate = SMOLQ_GATE_SILU; gate <= SMOLQ_GATE_OAI; gate++) {
        bed *b = new_bed(i % 2 ? 6 : 2);
        smolq_op *op = add_op(b, SMOLQ_OP_GLU, SMOLQ_BUF_UP, SMOLQ_BUF_GATE);
        float *g = add_buffer(b, SMOLQ_BUF_GATE, (uint64_t)sizes[i] * 4, 20);
        add_buffer(b, SMOLQ_BUF_UP, (uint64_t)sizes[i] * 4, 20);
        op->n = sizes[i];
        op->gate = gate;
        EACH_OF(s, specials) if (s < sizes[i]) g[s] = specials[s];
        run_bed(b, "gate %d of %d numbers", gate, (int)sizes[i]);
    }
}

/* The steps that are not worth a kernel, or not yet. */
static void the_rest(void)
{
    int t, round;
    for (t = 0; t < BUILD_N_TYPES; t++) {
        bed *b = new_bed(9);
        int32_t n = build_types[t].weights == 1 ? 35 : build_types[t].weights * 2, r;
        smolq_op *op = add_op(b, SMOLQ_OP_EMBED, SMOLQ_BUF_NONE, SMOLQ_BUF_RESIDUAL);
        op->table = add_tensor(b, build_types[t].id, n, 11, 1);
        op->scale = t % 2 ? 1.0f : 1.7f;
        for (r = 0; r < 9; r++) b->token[r] = (r * 7 + 3) % 11;
        add_float_buffer(b, SMOLQ_BUF_RESIDUAL, n);
        run_bed(b, "embedding in %s", build_types[t].name);
    }
    for (round = 0; round < 8; round++) {
        bed *b = new_bed(round % 2 ? 1 : 9);
        smolq_op *op = add_op(b, SMOLQ_OP_ROUTE, SMOLQ_BUF_ROUTER, SMOLQ_BUF_PICKS);
        int32_t r, n = 33;
        b->program.n_expert = 19;
        b->program.n_expert_used = 4;
        op->router = round % 4 / 2;
        op->renormalize = round / 4;
        op->scale = 1.5f;
        add_float_buffer(b, SMOLQ_BUF_ROUTER, 19);
        add_buffer(b, SMOLQ_BUF_PICKS, 32, 1);
        op = add_op(b, SMOLQ_OP_COMBINE, SMOLQ_BUF_DOWN, SMOLQ_BUF_RESIDUAL);
        op->n = n;
        op->scale = 0.7f;
        op = add_op(b, SMOLQ_OP_ADD_SHARED, SMOLQ_BUF_DOWN, SMOLQ_BUF_RESIDUAL);
        op->n = n;
        op->scale = 0.7f;
        add_float_buffer(b, SMOLQ_BUF_DOWN, n * 4);
        add_float_buffer(b, SMOLQ_BUF_SHARED, 1);
        add_float_buffer(b, SMOLQ_BUF_RESIDUAL, n);
        op = add_op(b, SMOLQ_OP_GATHER, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_RESIDUAL);
        op->n = n;
        b->run.n_out = b->run.n_rows / 2;
        for (r = 0; r < b->run.n_out; r++) b->out_row[r] = 2 * r + 1;
        run_bed(b, "route, combine, shared expert, gather");
        b = new_bed(5);
        op = add_op(b, SMOLQ_OP_CAP, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_RESIDUAL);
        op->n = n + round;
        op->scale = 1.3f;
        op->cap = round % 2 ? 3.0f : 0;
        add_float_buffer(b, SMOLQ_BUF_RESIDUAL, op->n);
        run_bed(b, "a cap of %g", (double)op->cap);
    }
}
#endif
