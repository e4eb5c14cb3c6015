/* smolq_cpu.c has the bits of the reference backend, on every instruction set of this machine.
 *
 * Each operation alone, as a program of one step through both backends: every tensor type, odd shapes, all regions that it could touch compared byte for byte.
 * All of these regions, weights, activations, cache and scratch, end at a page that can't be read, so a kernel that reads one byte too far dies here.
 * Then whole forwards: golden files, where they are, and models written here, by threads, batches and KV types, to one hash each.
 * Then what the device promises beside the bits: threads of ours or the host's, waiting, slices, the float settings of the host, nothing left behind.
 *
 * SMOLQ_LONG=1 takes the full products, of the golden models' whole forwards too; else models take their combinations in rotation by SMOLQ_SEED or the day; the seed is printed.
 * tests/test_cpu_tsan.sh runs the tests with "threads" in their names under ThreadSanitizer, tests/test_cpu_tiles.c those of products without AMX;
 * tests/test_cpu_arm.sh and tests/test_cpu_windows.sh run them in emulators. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#ifndef TEST_CPU_LINKED /* it is compiled beside */
#  include "../smolq_cpu.c"
#endif
#include "test.h"
#include "model_build.h"
#include <dirent.h>
#include <pthread.h>
#include <time.h>
#if defined(__x86_64__) || defined(_M_X64)
#  include <immintrin.h>
#endif
#ifdef _WIN32
#  include <windows.h>
#else
#  include <sys/mman.h>
#  include "far.h"
#endif

static int is_long(void) { return getenv("SMOLQ_LONG") != NULL; }
static uint64_t rotation(void)
{
    const char *seed = getenv("SMOLQ_SEED");
    return seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) / 86400;
}

/* ---- the devices: every instruction set that is here, with one, two and three threads ---- */

typedef struct cpu { const char *isa; int32_t n_threads; smolq_device *device; } cpu;
static cpu cpus[12];
static int n_cpus;

static smolq_device *open_device(const char *isa, int32_t n_threads, smolq_error *err)
{
    smolq_device_options options;
    smolq_device *device = NULL;
    memset(&options, 0, sizeof options);
    options.isa = isa;
    options.n_threads = n_threads;
    smolq_device_open(smolq_backend_cpu(), &options, &device, err);
    return device;
}

#ifndef TEST_CPU_CYCLES
#  define TEST_CPU_CYCLES (is_long() ? 10000 : 1000) /* devices opened and closed; each looks at its bits first, which takes a sanitizer long */
#endif
#ifndef TEST_CPU_ISAS
#  define TEST_CPU_ISAS "avx2", "avxvnni", "avx512", "amx", "neon-base", "neon-dotprod", "neon-i8mm" /* tests/test_cpu_tiles.c takes one */
#endif
static void open_cpus(void)
{
    static const char *const isas[] = { TEST_CPU_ISAS };
    smolq_error err;
    size_t i;
    for (i = 0; i < sizeof isas / sizeof *isas; i++) {
        smolq_device *device = open_device(isas[i], 1, &err);
        char begin[32];
        int32_t n;
        if (!device) continue; /* the first test says why */
        snprintf(begin, sizeof begin, "cpu: %s,", isas[i]);
        if (strncmp(smolq_device_report(device), begin, strlen(begin)) == 0)
            for (n = 1; n <= 3; n++) {
                cpus[n_cpus].isa = isas[i];
                cpus[n_cpus].n_threads = n;
                cpus[n_cpus++].device = open_device(isas[i], n, &err);
            }
        else
            printf("%s is not on this machine: it is not tested\n", isas[i]);
        smolq_device_close(device);
    }
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

/* Runs the bed on the reference backend, then on every instruction set, on one to three threads in turn, half of them with pauses; frees it. */
static void run_bed(bed *b, const char *format, ...)
{
    char name[160];
    int32_t numeric;
    int i, c;
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
    for (c = 0; c < n_cpus; c++) {
        const smolq_backend *backend = smolq_backend_cpu();
        void *state = cpus[c].device->state;
        size_t scratch_bytes, map_bytes, at;
        int pauses = (int)(n_beds >> 1 & 1), rounds = 0;
        if (cpus[c].n_threads != (int32_t)(n_beds % 3) + 1) continue;
        scratch_bytes = ((size_t)backend->scratch(state, &b->program, b->run.n_rows) + 63) & ~(size_t)63;
        restore(b);
        b->run.scratch = map_guarded(scratch_bytes, &map_bytes);
        b->run.pause = pauses ? every_other : NULL;
        b->run.user = &b->turn;
        while (b->run.op < b->run.end_op && rounds++ < 100000) {
            smolq_result result = backend->run(state, &b->run, NULL);
            CHECK(result == SMOLQ_OK, "%s: %s gives %s", name, cpus[c].isa, smolq_result_name(result));
            if (result) break;
        }
        unmap_guarded(b->run.scratch, scratch_bytes, map_bytes);
        b->run.pause = NULL;
        CHECK(b->run.op == b->run.end_op, "%s: %s does not end", name, cpus[c].isa);
        CHECK(!b->run.numeric == !numeric, "%s: %s flags %d, expected %d", name, cpus[c].isa, (int)b->run.numeric, (int)numeric);
        for (i = 0; i < b->n_regions && !numeric; i++) {
            region *r = &b->region[i];
            if (!r->before || memcmp(r->p, r->expected, r->bytes) == 0) continue;
            for (at = 0; r->p[at] == r->expected[at]; at++) {}
            CHECK(0, "%s: %s, %d threads: byte %d of region %d (%d bytes) is %02x, expected %02x (SMOLQ_SEED=%llu)", name, cpus[c].isa, (int)cpus[c].n_threads, (int)at, i, (int)r->bytes, r->p[at],
                  r->expected[at], (unsigned long long)rotation());
        }
    }
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
            w[i] = add_tensor(b, type, n_cols, 1 + (int32_t)(build_random(&b->rng) % 40), 1);
            groups |= group_of(type);
            add_float_buffer(b, outs[i], w[i]->n_rows);
        }
        add_float_buffer(b, SMOLQ_BUF_NORMED, n_cols);
        b->run.n_out = (n_tokens + 1) / 2;
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
        { 1024, 9, 1,  0,  70,   66,  2, 0, 0, 0 }, {  64, 16, 1,  0, 700,  640, 33, 0, 0, 0 },
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
        run_bed(b, "attention case %d, cache in %s", i, build_type_of(kv_types[type])->name);
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

/* ---- whole forwards ---- */

enum { N_PROMPT = 70, N_MORE = 3 }; /* over a block of 64 keys, then three tokens alone */

static uint64_t fnv1a(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *p = (const unsigned char *)bytes;
    for (; n; n--) hash = (hash ^ *p++) * 0x100000001b3u;
    return hash;
}

/* A model on a device, NULL the reference backend's; path NULL: the file in memory. */
static smolq_model *open_on(smolq_device *device, const char *path, const smolq_source *source, smolq_error *err)
{
    smolq_open_options options;
    smolq_model *model = NULL;
    memset(&options, 0, sizeof options);
    options.device = device;
    options.sources = source;
    options.n_sources = source ? 1 : 0;
    smolq_open(path, &options, &model, err);
    return model;
}

static smolq_context *open_context(smolq_model *model, int32_t kv_type, int32_t n_batch, smolq_error *err)
{
    smolq_context_options options;
    smolq_context *context = NULL;
    memset(&options, 0, sizeof options);
    options.n_ctx = N_PROMPT + N_MORE + 5;
    options.n_batch = n_batch;
    options.kv_type = kv_type;
    smolq_context_open(model, &options, &context, err);
    return context;
}

/* Hash of the logits of all positions; 0 with the reason in err. */
static uint64_t hash_in(smolq_context *context, int32_t n_vocab, int n_prompt, const smolq_eval_options *options, smolq_error *err)
{
    int32_t ids[N_PROMPT + N_MORE];
    float *logits = (float *)malloc((size_t)n_vocab * N_PROMPT * sizeof *logits);
    uint64_t hash = 0xcbf29ce484222325u;
    int at, n;
    if (!logits) abort();
    model_ids(ids, N_PROMPT + N_MORE, n_vocab, 7);
    for (at = 0; at < n_prompt + N_MORE && hash; at += n) {
        smolq_eval_item item = { context, ids + at, n = at ? 1 : n_prompt, SMOLQ_LOGITS_ALL, logits };
        if (smolq_eval(&item, 1, options, err)) hash = 0;
        else hash = fnv1a(hash, logits, (size_t)n * (size_t)n_vocab * sizeof *logits);
    }
    free(logits);
    return hash;
}

static uint64_t hash_of(smolq_model *model, int32_t kv_type, int32_t n_batch, int n_prompt, smolq_error *err)
{
    smolq_context *context = open_context(model, kv_type, n_batch, err);
    uint64_t hash = context ? hash_in(context, smolq_model_info(model)->n_vocab, n_prompt, NULL, err) : 0;
    smolq_context_close(context);
    return hash;
}

/* One model on all devices: every thread count, batch and KV type if `all`, or of the nine combinations of a type of cache two for each instruction set. */
static void whole(const char *name, const char *path, const smolq_source *source, uint64_t turn, int all)
{
    static const int32_t batches[] = { 7, 512, 1 };
    int32_t kv, most = all ? 3 : 1;
    smolq_error err = { 0, "" };
    smolq_model *ref = open_on(NULL, path, source, &err);
    uint64_t expected[3];
    int c, k, i;
    REQUIRE(ref != NULL, "%s: %s", name, err.text);
    for (k = 0; k < most; k++) {
        kv = (int32_t)((turn + (uint64_t)k) % 3) + 1;
        if (kv == SMOLQ_KV_Q8_0 && smolq_model_info(ref)->head_dim % 32) kv = SMOLQ_KV_F32;
        expected[k] = hash_of(ref, kv, 0, N_PROMPT, &err);
        CHECK(expected[k] != 0, "%s: %s", name, err.text);
    }
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, path, source, &err);
        CHECK(model != NULL, "%s on %s: %s", name, cpus[c].isa, err.text);
        for (k = 0; k < most && model; k++)
            EACH_OF(i, batches) {
                uint64_t hash;
                if (!all && (turn + (uint64_t)cpus[c].n_threads + (uint64_t)i) % 4 != 0) continue;
                kv = (int32_t)((turn + (uint64_t)k) % 3) + 1;
                if (kv == SMOLQ_KV_Q8_0 && smolq_model_info(ref)->head_dim % 32) kv = SMOLQ_KV_F32;
                hash = hash_of(model, kv, batches[i], N_PROMPT, &err);
                CHECK(hash == expected[k], "%s on %s, %d threads, batch %d, KV type %d: hash %016llx, expected %016llx %s", name, cpus[c].isa, (int)cpus[c].n_threads, (int)batches[i], (int)kv,
                      (unsigned long long)hash, (unsigned long long)expected[k], hash ? "" : err.text);
            }
        smolq_close(model);
    }
    smolq_close(ref);
}

static void golden_folder(const char *tokens) /* with the models beside this file; skipped where it is not */
{
    const char *root = shared_path(tokens);
    char folder[1024], path[2048];
    uint64_t turn = rotation();
    struct dirent *entry;
    DIR *files;
    if (!root) SKIP("no shared data");
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(root, '/') - root), root);
    files = opendir(folder);
    REQUIRE(files != NULL, "%s can't be listed", folder);
    while ((entry = readdir(files)) != NULL) {
        size_t n = strlen(entry->d_name);
        if (n < 5 || strcmp(entry->d_name + n - 5, ".gguf") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        whole(entry->d_name, path, NULL, fnv1a(turn, entry->d_name, n), is_long());
    }
    closedir(files);
}
static void golden_models(void)
{
    golden_folder("golden/logits/tokens.txt");
    golden_folder("golden/logits2/tokens.txt");
}

static void own_models(void)
{
    static const model_spec specs[] = {
        { .family = "llama", .n_embd = 256, .n_ff = 256 },       { .family = "llama", .n_embd = 256, .n_ff = 512, .n_expert = 5, .n_head_kv = 1 },
        { .family = "smollm3", .n_embd = 256, .n_ff = 256, .untied = 1 }, { .family = "qwen2", .n_embd = 256, .n_ff = 768, .n_head_kv = 4 },
        { .family = "qwen2moe", .n_embd = 256, .n_ff = 256, .extra = { { "expert_shared_feed_forward_length", 'u', 256, NULL, { 0 }, 0 } } },
        { .family = "qwen3", .n_embd = 256, .n_ff = 256, .head_dim = 128 }, { .family = "qwen3moe", .n_embd = 256, .n_ff = 256 },
        { .family = "gemma2", .n_embd = 256, .n_ff = 256 },      { .family = "gemma3", .n_embd = 256, .n_ff = 256 },
        { .family = "phi3", .n_embd = 256, .n_ff = 256 },        { .family = "olmo2", .n_embd = 256, .n_ff = 256 },
        { .family = "granite", .n_embd = 256, .n_ff = 256 },     { .family = "gpt-oss", .n_embd = 256, .n_ff = 256, .n_head = 8, .n_head_kv = 1, .head_dim = 32 },
        { .family = "mistral3", .n_embd = 256, .n_ff = 256 },
    };
    int t, s;
    EACH_OF(s, specs) for (t = 0; t < BUILD_N_TYPES; t++) { /* every family with every type; without SMOLQ_LONG with two of them, each type with one family at least */
        model_spec spec = specs[s];
        unsigned char *file;
        smolq_source source;
        char name[64];
        size_t bytes;
        if (!is_long() && (t + (int)(rotation() % 14)) % 14 != s) continue;
        spec.type = build_types[t].id;
        spec.n_layer = 2;
        spec.seed = (uint64_t)t;
        file = model_build(&spec, &bytes);
        source = model_source(file, bytes);
        snprintf(name, sizeof name, "%s in %s", spec.family, build_types[t].name);
        whole(name, NULL, &source, rotation() + (uint64_t)(s + t), 0);
        free(file);
    }
}

/* ---- the device beside the bits: a small model and what it says on the reference backend ---- */

typedef struct fixture {
    unsigned char *file;
    smolq_source   source;
    uint64_t       expected;
    smolq_error    err;
} fixture;

enum { FEW = 20 }; /* tokens of a prompt here */

static int set_up(fixture *f)
{
    static const model_spec spec = { .family = "qwen3", .type = 12, .n_embd = 256, .n_ff = 256, .n_layer = 2 };
    smolq_model *model;
    size_t bytes;
    memset(f, 0, sizeof *f);
    f->file = model_build(&spec, &bytes);
    f->source = model_source(f->file, bytes);
    model = open_on(NULL, NULL, &f->source, &f->err);
    f->expected = model ? hash_of(model, 0, 0, FEW, &f->err) : 0;
    smolq_close(model);
    return f->expected != 0;
}

static void options_of_a_device(void)
{
    static const int32_t wrong[] = { -1, 257, INT32_MAX };
    static const char *const caps[] = { "amx", "neon", "neon-i8mm" };
    const int is_neon = strncmp(cpus[0].isa, "neon", 4) == 0;
    smolq_device *device;
    smolq_error err = { 0, "" };
    int i;
    for (i = 0; i < n_cpus; i++) CHECK(cpus[i].device->exact, "%s finds other bits than the reference when it is opened", cpus[i].isa);
    device = open_device("sse9", 1, &err);
    CHECK(!device && err.code == SMOLQ_E_ARGUMENT && strstr(err.text, "sse9"), "isa sse9: %d, %s", (int)err.code, err.text);
    EACH_OF(i, wrong) {
        err.code = 0;
        device = open_device(NULL, wrong[i], &err);
        CHECK(!device && err.code == SMOLQ_E_ARGUMENT && strstr(err.text, "n_threads"), "%d threads: %d, %s", (int)wrong[i], (int)err.code, err.text);
    }
    device = open_device("ref", 2, &err);
    REQUIRE(device != NULL, "%s", err.text);
    CHECK(strcmp(smolq_device_report(device), "cpu: ref, 1 thread") == 0, "%s", smolq_device_report(device));
    smolq_device_close(device);
    EACH_OF(i, caps) { /* a cap, and not a wish: any machine takes it */
        device = open_device(caps[i], 3, &err);
        REQUIRE(device != NULL, "%s", err.text);
        CHECK(strstr(smolq_device_report(device), is_neon == (i > 0) ? ", 3 threads" : ": ref, 1 thread"), "%s gives %s", caps[i], smolq_device_report(device));
        smolq_device_close(device);
    }
    device = open_device(NULL, 3, &err);
    REQUIRE(device != NULL, "%s", err.text);
    CHECK(strncmp(smolq_device_report(device), "cpu: ref", 8) != 0, "%s, but %s is here", smolq_device_report(device), cpus[0].isa);
    if (is_neon) { /* "neon" takes all that there is of it */
        smolq_device *neon = open_device("neon", 3, &err);
        REQUIRE(neon != NULL, "%s", err.text);
        CHECK(strcmp(smolq_device_report(neon), smolq_device_report(device)) == 0, "%s, but %s", smolq_device_report(neon), smolq_device_report(device));
        smolq_device_close(neon);
    }
    smolq_device_close(device);
}

static void the_reference_through_the_device(void)
{
    fixture f;
    smolq_device *device;
    smolq_model *model;
    REQUIRE(set_up(&f), "%s", f.err.text);
    device = open_device("ref", 1, &f.err);
    model = open_on(device, NULL, &f.source, &f.err);
    REQUIRE(model != NULL, "%s", f.err.text);
    CHECK(hash_of(model, 0, 0, FEW, &f.err) == f.expected, "isa ref gives other bits %s", f.err.text);
    smolq_close(model);
    smolq_device_close(device);
    free(f.file);
}

#ifdef _WIN32
static void beside_another_device(void) { SKIP("tests/far.h needs mmap"); }
#else
/* The first layers here, the rest on a device with memory of its own. */
static void beside_another_device(void)
{
    fixture f;
    int32_t host;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (host = 1; host <= 2; host++) {
        smolq_device_options device;
        smolq_open_options options;
        smolq_model *model = NULL;
        memset(&device, 0, sizeof device);
        memset(&options, 0, sizeof options);
        device.n_threads = 2;
        options.backend = far_backend();
        options.host_backend = smolq_backend_cpu();
        options.host_layers = host;
        options.device_options = &device;
        options.sources = &f.source;
        options.n_sources = 1;
        smolq_open(NULL, &options, &model, &f.err);
        CHECK(model && smolq_model_info(model)->exact, "%s", f.err.text);
        CHECK(model && hash_of(model, 0, 7, FEW, &f.err) == f.expected, "%d layers on the host give other bits %s", (int)host, f.err.text);
        smolq_close(model);
        CHECK(far.used == 0 && far.n_open == 0 && far.n_taken == 0, "%d layers on the host: something is left on the device", (int)host);
    }
    free(f.file);
}
#endif

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__) /* mxcsr */
static const unsigned settings[] = { 0x9fc0, 0x3f80, 0x5f80, 0xff80 | 0x40, 0x1fbf }; /* FTZ and DAZ, down, up, to zero with both, all flags */
enum { CONTROL = 0xffc0 };
static unsigned get_floats(void) { return _mm_getcsr(); }
static void set_floats(unsigned x) { _mm_setcsr(x); }
#else /* fpcr */
static const unsigned settings[] = { 1 << 24, 2 << 22, 1 << 22, 3 << 22 | 1 << 24, 1 << 25, 1 << 26 }; /* FZ, down, up, to zero with FZ, default NaN, the other half-precision format */
enum { CONTROL = 31 << 22 };
static unsigned get_floats(void)
{
    uint64_t x;
    __asm__ volatile("mrs %0, fpcr" : "=r"(x));
    return (unsigned)x;
}
static void set_floats(unsigned x) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)x)); }
#endif

/* The host flushes denormals, rounds another way, has flags raised: no bit changes, and it finds its settings again. */
static void float_settings(void)
{
    fixture f;
    int i, c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    EACH_OF(i, settings) for (c = 0; c < n_cpus; c++) {
        unsigned saved = get_floats(), found;
        smolq_device *device;
        smolq_model *model;
        uint64_t hash;
        set_floats(settings[i]);
        device = open_device(cpus[c].isa, cpus[c].n_threads, &f.err); /* its threads inherit them */
        model = open_on(device, NULL, &f.source, &f.err);
        hash = model ? hash_of(model, 0, 0, FEW, &f.err) : 0;
        smolq_close(model);
        smolq_device_close(device);
        found = get_floats();
        set_floats(saved);
        CHECK(hash == f.expected, "settings %04x on %s, %d threads: hash %016llx, expected %016llx", settings[i], cpus[c].isa, (int)cpus[c].n_threads, (unsigned long long)hash,
              (unsigned long long)f.expected);
        CHECK((found & CONTROL) == (settings[i] & CONTROL), "settings were %04x and are %04x", settings[i], found);
    }
    free(f.file);
}
#else
static void float_settings(void) { SKIP("only for x86 and ARM"); }
#endif

/* Two job systems of hosts: a loop that begins at the end, and a thread for each task. */
typedef struct host_task { void (*task)(void *arg, int32_t index); void *arg; int32_t index; pthread_t thread; } host_task;
static void serial_for(void *user, void (*task)(void *arg, int32_t index), void *arg, int32_t count)
{
    (*(int *)user)++;
    while (count-- > 0) task(arg, count);
}
static void *run_host_task(void *arg)
{
    host_task *t = (host_task *)arg;
    t->task(t->arg, t->index);
    return NULL;
}
static void threads_for(void *user, void (*task)(void *arg, int32_t index), void *arg, int32_t count)
{
    host_task tasks[8];
    int32_t i;
    (*(int *)user)++;
    if (count > 8) abort();
    for (i = 0; i < count; i++) {
        tasks[i].task = task;
        tasks[i].arg = arg;
        tasks[i].index = i;
        if (pthread_create(&tasks[i].thread, NULL, run_host_task, &tasks[i])) abort();
    }
    for (i = 0; i < count; i++) pthread_join(tasks[i].thread, NULL);
}

static void threads_of_the_host(void)
{
    static const smolq_parallel_for_fn hooks[] = { serial_for, threads_for };
    fixture f;
    int h, n;
    REQUIRE(set_up(&f), "%s", f.err.text);
    EACH_OF(h, hooks) for (n = 1; n <= 5; n += 2) {
        smolq_device_options options;
        smolq_device *device = NULL;
        smolq_model *model;
        int calls = 0;
        memset(&options, 0, sizeof options);
        options.n_threads = n;
        options.parallel_for = hooks[h];
        options.parallel_user = &calls;
        REQUIRE(smolq_device_open(smolq_backend_cpu(), &options, &device, &f.err) == SMOLQ_OK, "%s", f.err.text);
        model = open_on(device, NULL, &f.source, &f.err);
        REQUIRE(model != NULL, "%s", f.err.text);
        CHECK(hash_of(model, 0, h ? 512 : 7, FEW, &f.err) == f.expected, "hook %d, %d threads: other bits %s", h, n, f.err.text);
        CHECK((calls > 0) == (n > 1), "hook %d, %d threads: called %d times", h, n, calls);
        smolq_close(model);
        smolq_device_close(device);
    }
    free(f.file);
}

/* What a thread of the test evaluates while others do. */
typedef struct visitor {
    smolq_model  *model;
    uint32_t      no_wait;
    smolq_result  result;
    uint64_t      hash;
    smolq_error   err;
    pthread_t     thread;
} visitor;

static void *visit(void *arg)
{
    visitor *v = (visitor *)arg;
    smolq_eval_options options;
    smolq_context *context = open_context(v->model, 0, 0, &v->err);
    memset(&options, 0, sizeof options);
    options.no_wait = v->no_wait;
    v->hash = context ? hash_in(context, smolq_model_info(v->model)->n_vocab, FEW, &options, &v->err) : 0;
    v->result = v->hash ? SMOLQ_OK : v->err.code;
    smolq_context_close(context);
    return NULL;
}

/* An evaluation in slices holds the device: one that does not wait is told so, one that waits comes after it; with one thread nothing is held. */
static void threads_that_wait(void)
{
    fixture f;
    int c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        smolq_context *context = model ? open_context(model, 0, 0, &f.err) : NULL;
        int32_t ids[FEW];
        smolq_eval_item item = { context, ids, FEW, SMOLQ_LOGITS_NONE, NULL };
        smolq_evaluation evaluation;
        visitor busy, waiting;
        memset(&busy, 0, sizeof busy);
        memset(&waiting, 0, sizeof waiting);
        busy.model = waiting.model = model;
        busy.no_wait = 1;
        REQUIRE(context != NULL, "%s", f.err.text);
        model_ids(ids, FEW, smolq_model_info(model)->n_vocab, 3);
        REQUIRE(smolq_eval_begin(&evaluation, &item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        if (pthread_create(&busy.thread, NULL, visit, &busy)) abort();
        pthread_join(busy.thread, NULL);
        CHECK(busy.result == (cpus[c].n_threads > 1 ? SMOLQ_E_BUSY : SMOLQ_OK), "%s, %d threads: no_wait gives %s", cpus[c].isa, (int)cpus[c].n_threads, smolq_result_name(busy.result));
        if (pthread_create(&waiting.thread, NULL, visit, &waiting)) abort();
        while (smolq_eval_step(&evaluation, 1, &f.err) == SMOLQ_MORE) {}
        pthread_join(waiting.thread, NULL);
        CHECK(waiting.hash == f.expected, "%s, %d threads: the one that waited got other bits %s", cpus[c].isa, (int)cpus[c].n_threads, waiting.err.text);
        smolq_context_close(context);
        smolq_close(model);
    }
    free(f.file);
}

static void threads_that_share_a_device(void)
{
    enum { N = 4 };
    fixture f;
    int c, i;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        visitor v[N];
        REQUIRE(model != NULL, "%s", f.err.text);
        memset(v, 0, sizeof v);
        for (i = 0; i < N; i++) {
            v[i].model = model;
            if (pthread_create(&v[i].thread, NULL, visit, &v[i])) abort();
        }
        for (i = 0; i < N; i++) {
            pthread_join(v[i].thread, NULL);
            CHECK(v[i].hash == f.expected, "%s, %d threads, visitor %d: other bits %s", cpus[c].isa, (int)cpus[c].n_threads, i, v[i].err.text);
        }
        smolq_close(model);
    }
    free(f.file);
}

static int after_some(void *user) { return (*(int *)user)-- <= 0; }

/* Slices of a microsecond, then evaluations cancelled at every tenth question, then the whole again. */
static void slices_and_cancelling_with_threads(void)
{
    fixture f;
    int c;
    REQUIRE(set_up(&f), "%s", f.err.text);
    for (c = 0; c < n_cpus; c++) {
        smolq_model *model = open_on(cpus[c].device, NULL, &f.source, &f.err);
        smolq_context *context = model ? open_context(model, 0, 0, &f.err) : NULL;
        int32_t ids[N_PROMPT + N_MORE], n_vocab, left, n_steps = 0, k = 0, n_cancelled = 0;
        smolq_eval_item item = { context, ids, FEW, SMOLQ_LOGITS_ALL, NULL };
        smolq_evaluation evaluation;
        smolq_eval_options options;
        smolq_result result;
        float *whole_logits, *sliced;
        REQUIRE(context != NULL, "%s", f.err.text);
        n_vocab = smolq_model_info(model)->n_vocab;
        whole_logits = (float *)calloc((size_t)n_vocab * FEW, sizeof(float));
        sliced = (float *)calloc((size_t)n_vocab * FEW, sizeof(float));
        if (!whole_logits || !sliced) abort();
        model_ids(ids, N_PROMPT + N_MORE, n_vocab, 7);
        item.logits = whole_logits;
        CHECK(smolq_eval(&item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        smolq_context_truncate(context, 0, NULL);
        item.logits = sliced;
        CHECK(smolq_eval_begin(&evaluation, &item, 1, NULL, &f.err) == SMOLQ_OK, "%s", f.err.text);
        while ((result = smolq_eval_step(&evaluation, 1, &f.err)) == SMOLQ_MORE) n_steps++;
        CHECK(result == SMOLQ_OK && n_steps > 5, "%d steps, then %s", (int)n_steps, smolq_result_name(result));
        CHECK(memcmp(sliced, whole_logits, (size_t)n_vocab * FEW * sizeof(float)) == 0, "%s, %d threads: slices change bits", cpus[c].isa, (int)cpus[c].n_threads);
        smolq_context_truncate(context, 0, NULL);
        memset(&options, 0, sizeof options);
        options.cancel = after_some;
        options.user = &left;
        do {
            left = 10 * k++;
            result = smolq_eval(&item, 1, &options, &f.err);
            n_cancelled += result == SMOLQ_E_CANCELLED;
            CHECK(result == SMOLQ_E_CANCELLED || result == SMOLQ_OK, "%s", f.err.text);
            CHECK(smolq_context_length(context) == (result ? 0 : FEW), "cancelled with %d tokens", (int)smolq_context_length(context));
        } while (result == SMOLQ_E_CANCELLED && k < 10000);
        CHECK(n_cancelled > 1, "cancelled %d times", (int)n_cancelled);
        smolq_context_truncate(context, 0, NULL);
        CHECK(hash_in(context, n_vocab, FEW, NULL, &f.err) == f.expected, "%s, %d threads: other bits after cancelling %s", cpus[c].isa, (int)cpus[c].n_threads, f.err.text);
        free(whole_logits);
        free(sliced);
        smolq_context_close(context);
        smolq_close(model);
    }
    free(f.file);
}

/* ---- nothing is left behind ---- */

typedef struct ledger { int64_t blocks, bytes; int left; } ledger; /* left: allocations that succeed */
static void *count_alloc(void *user, size_t bytes)
{
    ledger *l = (ledger *)user;
    if (l->left-- <= 0) return NULL;
    l->blocks++;
    l->bytes += (int64_t)bytes;
    return malloc(bytes);
}
static void count_release(void *user, void *memory, size_t bytes)
{
    ledger *l = (ledger *)user;
    if (!memory) return;
    l->blocks--;
    l->bytes -= (int64_t)bytes;
    free(memory);
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;
    if (!tasks) return 0;
    while (readdir(tasks)) n++;
    closedir(tasks);
    return n;
}

static void opening_and_closing_threads(void)
{
    int cycles = TEST_CPU_CYCLES, i, threads = count_threads(), failures = 0;
    ledger l = { 0, 0, 0 };
    smolq_device_options options;
    smolq_device *device;
    smolq_error err = { 0, "" };
    fixture f;
    REQUIRE(set_up(&f), "%s", f.err.text);
    memset(&options, 0, sizeof options);
    options.allocator.alloc = count_alloc;
    options.allocator.release = count_release;
    options.allocator.user = &l;
    for (i = 0; i < cycles; i++) {
        options.n_threads = 1 + i % 4;
        l.left = i % 10 ? 1000000 : i / 10 % 4; /* now and then memory is out */
        device = NULL;
        if (smolq_device_open(smolq_backend_cpu(), &options, &device, &err)) {
            CHECK(err.code == SMOLQ_E_MEMORY && !device, "%s", err.text);
            failures++;
        }
        if (device && i % 100 == 50) {
            smolq_model *model = open_on(device, NULL, &f.source, &err);
            CHECK(model && hash_of(model, 0, 0, FEW, &err) == f.expected, "cycle %d: other bits %s", i, err.text);
            smolq_close(model);
        }
        smolq_device_close(device);
        CHECK(l.blocks == 0 && l.bytes == 0, "cycle %d leaves %lld blocks, %lld bytes", i, (long long)l.blocks, (long long)l.bytes);
    }
    CHECK(failures > 0, "memory was never out");
    CHECK(count_threads() == threads, "%d threads, %d before", count_threads(), threads);
    free(f.file);
}

/* After work the pool sleeps: a device that waits costs no time. */
static void idle_threads_cost_nothing(void)
{
    fixture f;
    smolq_device *device;
    smolq_model *model;
    struct timespec nap = { 0, 20000000 };
    clock_t before;
    double spent;
#ifdef _WIN32
    SKIP("clock() tells the time of day here");
#endif
    REQUIRE(set_up(&f), "%s", f.err.text);
    device = open_device(NULL, 3, &f.err);
    model = open_on(device, NULL, &f.source, &f.err);
    REQUIRE(model != NULL, "%s", f.err.text);
    CHECK(hash_of(model, 0, 0, FEW, &f.err) == f.expected, "other bits %s", f.err.text);
    nanosleep(&nap, NULL); /* they spin for tens of microseconds, even where they share a core */
    before = clock();
    nap.tv_nsec = 100000000;
    nanosleep(&nap, NULL);
    spent = (double)(clock() - before) / CLOCKS_PER_SEC;
    CHECK(spent < 0.02, "%.1f ms of work in 100 ms of rest", spent * 1e3);
    smolq_close(model);
    smolq_device_close(device);
    free(f.file);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "isa and threads are checked and reported", options_of_a_device },
        { "products: every type, shape and number of tokens", products },
        { "products: the largest numbers", products_of_extremes },
        { "products: parts of three types", products_of_parts },
        { "products: gated parts", products_gated },
        { "products: experts", products_of_experts },
        { "norm", norms },
        { "quantize", quantizing },
        { "rope", rotations },
        { "kv store", storing },
        { "attention", attentions },
        { "attention: scores below -3e38", least_scores },
        { "glu", gates },
        { "embedding, router, experts' sum, cap", the_rest },
        { "isa ref is the reference", the_reference_through_the_device },
        { "the first layers of a model on another device, with threads", beside_another_device },
        { "float settings of the host", float_settings },
        { "threads of the host", threads_of_the_host },
        { "threads that wait for a device", threads_that_wait },
        { "threads that share a device", threads_that_share_a_device },
        { "slices and cancelling, with threads", slices_and_cancelling_with_threads },
        { "opening and closing leaves no threads and no memory", opening_and_closing_threads },
        { "idle threads cost nothing", idle_threads_cost_nothing },
        { "whole forwards of models written here", own_models },
        { "whole forwards of the golden models", golden_models },
    };
    int failed, i;
    printf("seed %llu\n", (unsigned long long)rotation());
    open_cpus();
    if (n_cpus == 0) {
        printf("skip smolq_cpu.c: none of its instruction sets is here\n");
        return 0;
    }
    failed = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    for (i = 0; i < n_cpus; i++) smolq_device_close(cpus[i].device);
    return failed;
}
