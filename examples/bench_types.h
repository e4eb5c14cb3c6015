/* bench --types: products with each of the tensor types, without a model.
 *
 *     1 token   2048 x 2048 matrices of 2^27 weights in all, more than caches hold, each read once: what writing a text does
 *     cached    256 rows of one of them, again and again: instructions alone
 *     64 tokens four matrices times 64 tokens: what reading a prompt does
 *
 * in 1e9 weights per second (times tokens), and as a part of Q4_K's, which is measured anew beside each type, as neighbors come and go.  Each number is the
 * median of some rounds.  Weights are random bits with sane scales.  This talks to a backend directly, by the contract of zone B in smolq.h: a program of one
 * quantization of the activations and some products. */

enum { TYPES_N = 2048, TYPES_CACHED = 256, TYPES_MATRICES = 32, TYPES_TOKENS = 64, TYPES_ROUNDS = 7 };
enum { TYPES_FROM_MEMORY, TYPES_FROM_CACHE, TYPES_PROMPT, TYPES_KINDS };

typedef struct types_bed { /* a program for one type and kind, ready to run */
    smolq_op      op[1 + TYPES_MATRICES];
    smolq_tensor  tensor[TYPES_MATRICES];
    smolq_program program;
    smolq_run     run;
    void         *memory[4];
    double        n_weights; /* of a pass, times tokens */
} types_bed;

static uint64_t types_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Random blocks, each again until its weights are neither NaN nor far from one: then a few megabytes of them again and again. */
static void types_fill(int type, unsigned char *to, size_t bytes)
{
    const smolq_type_facts *facts = smolq_type_info(type);
    size_t block = (size_t)facts->block_bytes, some = (size_t)1 << 16, i;
    uint64_t random = 1;
    float values[256], most;
    int k;
    for (i = 0; i < some; i++) {
        do {
            for (k = 0; k < (int)block; k++) to[i * block + (size_t)k] = (unsigned char)types_random(&random);
            check(smolq_unpack(type, to + i * block, values, (size_t)facts->block_weights, NULL), NULL);
            for (k = 0, most = 0; k < facts->block_weights; k++) most = values[k] != values[k] ? 1e9f : values[k] > most ? values[k] : -values[k] > most ? -values[k] : most;
        } while (most > 1e4f || most < 1e-4f);
    }
    for (i = some * block; i < bytes; i++) to[i] = to[i - some * block];
}

static void *types_memory(types_bed *bed, int which, uint64_t bytes)
{
    unsigned char *p = (unsigned char *)need((size_t)bytes + 64, 1);
    bed->memory[which] = p;
    return p + (64 - (uintptr_t)p % 64);
}

static types_bed *types_prepare(const smolq_backend *backend, void *state, int type, const unsigned char *weights, int kind)
{
    types_bed *bed = (types_bed *)need(1, sizeof *bed);
    const smolq_type_facts *facts = smolq_type_info(type);
    int n_tokens = kind == TYPES_PROMPT ? TYPES_TOKENS : 1, n_rows = kind == TYPES_FROM_CACHE ? TYPES_CACHED : TYPES_N, n = kind == TYPES_PROMPT ? 4 : TYPES_MATRICES, i;
    int in = facts->group == 256 ? SMOLQ_BUF_A256 : facts->group == 32 ? SMOLQ_BUF_A32 : SMOLQ_BUF_NORMED;
    float *x;
    bed->program.ops = bed->op;
    bed->program.n_ops = 1 + n;
    bed->program.row_bytes[SMOLQ_BUF_NORMED] = bed->program.row_bytes[SMOLQ_BUF_Q] = TYPES_N * 4;
    bed->program.row_bytes[SMOLQ_BUF_A256] = bed->program.row_bytes[SMOLQ_BUF_A32] = (smolq_a8_bytes(TYPES_N, 32) + 63) & ~(uint64_t)63;
    bed->run.program = &bed->program;
    bed->run.end_op = (uint32_t)bed->program.n_ops;
    bed->run.n_rows = n_tokens;
    bed->run.buffer[SMOLQ_BUF_NORMED] = (uint8_t *)types_memory(bed, 0, (uint64_t)n_tokens * TYPES_N * 4);
    bed->run.buffer[SMOLQ_BUF_Q] = (uint8_t *)types_memory(bed, 1, (uint64_t)n_tokens * TYPES_N * 4);
    bed->run.buffer[SMOLQ_BUF_A256] = bed->run.buffer[SMOLQ_BUF_A32] = (uint8_t *)types_memory(bed, 2, (uint64_t)n_tokens * bed->program.row_bytes[SMOLQ_BUF_A32]);
    bed->run.scratch = (uint8_t *)types_memory(bed, 3, backend->scratch ? backend->scratch(state, &bed->program, n_tokens) : 0);
    x = (float *)(void *)bed->run.buffer[SMOLQ_BUF_NORMED];
    for (i = 0; i < n_tokens * TYPES_N; i++) x[i] = (float)(i * 7919 % 2001 - 1000) * 1e-3f;
    bed->op[0].kind = SMOLQ_OP_QUANTIZE;
    bed->op[0].in = SMOLQ_BUF_NORMED;
    bed->op[0].out = facts->group ? in : SMOLQ_BUF_A32;
    bed->op[0].group = facts->group ? facts->group : 32;
    bed->op[0].n = TYPES_N;
    bed->op[0].n_seg = 1;
    for (i = 0; i < n; i++) {
        smolq_tensor *w = &bed->tensor[i];
        smolq_op *op = &bed->op[1 + i];
        w->type = type;
        w->n_cols = TYPES_N;
        w->n_rows = n_rows;
        w->n_experts = 1;
        w->row_bytes = (uint64_t)(TYPES_N / facts->block_weights) * (uint64_t)facts->block_bytes;
        w->expert_bytes = w->row_bytes * (uint64_t)n_rows;
        w->data = weights + (kind == TYPES_FROM_CACHE ? 0 : (uint64_t)i * w->expert_bytes);
        op->kind = SMOLQ_OP_MATMUL;
        op->in = op->out = SMOLQ_BUF_NONE;
        op->n_parts = 1;
        op->part[0].w = w;
        op->part[0].in = in;
        op->part[0].out = SMOLQ_BUF_Q;
    }
    bed->n_weights = (double)n * n_rows * TYPES_N * n_tokens;
    return bed;
}

/* Runs the program from operation `op` on; 1e9 weights per second. */
static double types_pass(const smolq_backend *backend, void *state, types_bed *bed, uint32_t op)
{
    double begun = now_ms();
    smolq_error err;
    bed->run.op = op;
    bed->run.unit = 0;
    while (bed->run.op < bed->run.end_op) check(backend->run(state, &bed->run, &err), &err);
    return bed->n_weights / (now_ms() - begun) * 1e-6;
}

static void types_free(types_bed *bed)
{
    int i;
    for (i = 0; i < 4; i++) free(bed->memory[i]);
    free(bed);
}

static void bench_types(const smolq_backend *backend, const char *isa, int n_threads, int json)
{
    static const int types[] = {
#define TYPES_ID(id, NAME, name, weights, group, block) id,
        SMOLQ_TYPES(TYPES_ID)
#undef TYPES_ID
    };
    const size_t n_weights = (size_t)TYPES_N * TYPES_N * TYPES_MATRICES;
    smolq_device_options options = { 0 };
    unsigned char *data[2];
    char report[256] = "ref";
    void *state = NULL;
    smolq_error err;
    size_t t;
    int i, kind, round;
    options.isa = isa;
    options.n_threads = n_threads;
    if (backend->open) check(backend->open(&options, &state, report, sizeof report, &err), &err);
    data[1] = (unsigned char *)need(n_weights / 256 * sizeof(smolq_block_q4_k), 1);
    types_fill(SMOLQ_TYPE_Q4_K, data[1], n_weights / 256 * sizeof(smolq_block_q4_k));
    if (!json) printf("%s\n         |   1 token  of Q4_K |    cached  of Q4_K | 64 tokens  of Q4_K\n", report);
    for (t = 0; t < sizeof types / sizeof *types; t++) {
        const smolq_type_facts *facts = smolq_type_info(types[t]);
        size_t bytes = n_weights / (size_t)facts->block_weights * (size_t)facts->block_bytes;
        double rate[TYPES_KINDS], part[TYPES_KINDS];
        data[0] = (unsigned char *)need(bytes, 1);
        types_fill(types[t], data[0], bytes);
        for (kind = 0; kind < TYPES_KINDS; kind++) {
            types_bed *beds[2];
            double rates[TYPES_ROUNDS], parts[TYPES_ROUNDS];
            for (i = 0; i < 2; i++) {
                beds[i] = types_prepare(backend, state, i ? SMOLQ_TYPE_Q4_K : types[t], data[i], kind);
                types_pass(backend, state, beds[i], 0);
            }
            for (round = 0; round < TYPES_ROUNDS; round++) {
                rates[round] = types_pass(backend, state, beds[0], 1);
                parts[round] = rates[round] / types_pass(backend, state, beds[1], 1);
            }
            rate[kind] = median(rates, TYPES_ROUNDS);
            part[kind] = median(parts, TYPES_ROUNDS);
            for (i = 0; i < 2; i++) types_free(beds[i]);
        }
        if (json) {
            printf("{\"type\": \"%s\", \"report\": \"%s\", \"token_1\": %.4f, \"token_1_part\": %.4f, \"cached\": %.4f, \"cached_part\": %.4f, ", facts->name, report, rate[0], part[0],
                   rate[1], part[1]);
            printf("\"tokens_64\": %.4f, \"tokens_64_part\": %.4f}\n", rate[2], part[2]);
        } else
            printf("%-9s|%10.2f %8.2f |%10.2f %8.2f |%10.2f %8.2f\n", facts->name, rate[0], part[0], rate[1], part[1], rate[2], part[2]);
        fflush(stdout);
        free(data[0]);
    }
    free(data[1]);
    if (backend->close) backend->close(state);
}
