/* ==== device.c: backends at work, and the self-tests ================================================================
 * A device holds what a backend needs to compute.  When a model is opened, a self-test computes a product of every tensor type and compares
 * the bits with a constant; and a device, when it is opened, compares its own with those of the reference backend.  So a compiler that
 * contracts, vectorizes or rounds otherwise than docs/arithmetic.md asks is found here, and not by a user whose replay differs.  Such a
 * build works, and says exact=no. */
#pragma once
#include "ref.c"

struct smolq_device {
    smolq__heap          heap;
    const smolq_backend *backend;
    void                *state;
    int32_t              exact; /* it has the reference backend's bits */
    char                 report[128];
};

/* ---- memory where a device computes: its own, or the host's ---- */

static const smolq_backend_memory *smolq__memory_of(const smolq_device *device) { return device ? device->backend->memory : NULL; }

static smolq_result smolq__device_copy(const smolq_device *device, uint8_t *to, const uint8_t *from, uint64_t bytes, smolq_error *err)
{
    const smolq_backend_memory *memory = smolq__memory_of(device);
    if (memory) return memory->copy(device->state, to, from, bytes, err);
    memcpy(to, from, (size_t)bytes);
    return SMOLQ_OK;
}

static uint8_t *smolq__device_alloc(smolq_device *device, uint64_t bytes) /* on its heap where it has none of its own; NULL when memory is out */
{
    const smolq_backend_memory *memory = smolq__memory_of(device);
    uint8_t *p = NULL;
    if (!memory) return (uint8_t *)smolq__alloc(&device->heap, bytes);
    return memory->alloc(device->state, bytes, &p, NULL) == SMOLQ_OK ? p : NULL;
}

static void smolq__device_free(smolq_device *device, uint8_t *p)
{
    const smolq_backend_memory *memory = smolq__memory_of(device);
    if (!memory) smolq__free(&device->heap, p);
    else if (p) memory->free(device->state, p);
}

static smolq_result smolq__check_contract(const smolq_backend *backend, smolq_error *err)
{
    if (backend->version != SMOLQ_CONTRACT || backend->sizes != SMOLQ_CONTRACT_SIZES)
        return smolq__fail(err, SMOLQ_E_VERSION, "backend '%s' was compiled for contract %06x/%08x, smolq.h has %06x/%08x; take both from one release",
                           backend->name, (unsigned)backend->version, (unsigned)backend->sizes, (unsigned)SMOLQ_CONTRACT, (unsigned)SMOLQ_CONTRACT_SIZES);
    return SMOLQ_OK;
}

/* ---- the self-test of the arithmetic ---- */

#define SMOLQ__SELF_TEST_HASH 0xc98f6278403e0a7eu

static uint64_t smolq__fnv(uint64_t hash, float x)
{
    uint32_t u = smolq_bits(x);
    int32_t i;
    for (i = 0; i < 4; i++, u >>= 8) hash = (hash ^ (u & 0xff)) * 0x100000001b3u;
    return hash;
}

#define SMOLQ__SELF_TEST_TYPE(id, NAME, name, weights, group, block) id,
static uint64_t smolq__self_test_hash(void)
{
    static const int32_t types[] = { SMOLQ_TYPES(SMOLQ__SELF_TEST_TYPE) };
    enum { N = 512 };
    float x[N], sine_cosine[2], y;
    uint8_t w[N * 4], a8[2 * N];
    const uint8_t *input;
    uint64_t hash = 0xcbf29ce484222325u;
    uint32_t random = 1;
    double sine, cosine;
    size_t t;
    int32_t i;
    for (i = 0; i < N; i++) {
        random = random * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(random >> 8) * 1.1920929e-7f - 1.0f;
    }
    for (t = 0; t < SMOLQ__COUNT(types); t++) {
        const smolq__type *type = smolq__type_of(types[t]);
        for (i = 0; i < (int32_t)sizeof w; i++) {
            random = random * 1664525u + 1013904223u;
            w[i] = (uint8_t)((random >> 24) & 0xbb); /* no float that these bytes can spell is NaN, infinite or huge */
        }
        if (type->ints) smolq__quantize_row(x, a8, N, type->facts.group);
        input = type->ints ? a8 : (const uint8_t *)x;
        if (type->ints) smolq__dot_quantized(type, w, N, &input, 1, &y);
        else smolq__dot_float_rows(type, w, N, &input, 1, &y);
        hash = smolq__fnv(hash, y);
    }
    for (i = 0; i < N; i++) hash = smolq__fnv(hash, smolq_silu(x[i] * 8.0f));
    for (i = 1; i < 65536; i *= 3) {
        smolq__sincos64((double)i * 0.7, &sine, &cosine);
        sine_cosine[0] = (float)sine;
        sine_cosine[1] = (float)cosine;
        hash = smolq__fnv(smolq__fnv(hash, sine_cosine[0]), sine_cosine[1]);
    }
    return smolq__fnv(hash, (float)smolq__exp64(smolq__log64(5e6) * -0.37));
}
#undef SMOLQ__SELF_TEST_TYPE

static int smolq__self_test(void) { return SMOLQ_CANONICAL && smolq__self_test_hash() == SMOLQ__SELF_TEST_HASH; }

/* ---- the self-test of a device ---- */

enum { SMOLQ__PROOF_COLS = 256, SMOLQ__PROOF_ROWS = 16, SMOLQ__PROOF_TOKENS = 9, SMOLQ__PROOF_OPS = 48 };

/* A program with a product of every type, a gated one, norm, quantization and attention, and what it reads.  Its rows, and behind them its cache, stand elsewhere. */
typedef struct smolq__proof {
    smolq_op        op[SMOLQ__PROOF_OPS];
    smolq_tensor    tensor[SMOLQ__N_TYPES];
    smolq_program   program;
    smolq_run       run;
    smolq_kv_layer  kv;
    const smolq_kv_layer *row_kv[SMOLQ__PROOF_TOKENS];
    int32_t         position[SMOLQ__PROOF_TOKENS];
    uint8_t         weights[SMOLQ__PROOF_ROWS * SMOLQ__PROOF_COLS * 4];
} smolq__proof;

static smolq_op *smolq__proof_op(smolq__proof *p, int32_t kind, int32_t in, int32_t out)
{
    smolq_op *op = &p->op[p->program.n_ops++];
    op->kind = kind;
    op->in = in;
    op->out = out;
    return op;
}

static void smolq__proof_part(smolq__proof *p, smolq_op *op, int32_t type, int32_t out, float add, int32_t gate)
{
    smolq_op_part *part = &op->part[op->n_parts++];
    const smolq_type_facts *facts = &smolq__type_of(type)->facts;
    smolq_tensor *w = p->tensor;
    while (w->data && w->type != type) w++;
    w->data = p->weights;
    w->type = type;
    w->n_cols = SMOLQ__PROOF_COLS;
    w->n_rows = SMOLQ__PROOF_ROWS;
    w->n_experts = 1;
    w->row_bytes = (uint64_t)(SMOLQ__PROOF_COLS / facts->block_weights * facts->block_bytes);
    w->expert_bytes = w->row_bytes * SMOLQ__PROOF_ROWS;
    part->w = w;
    part->in = facts->group == 256 ? SMOLQ_BUF_A256 : facts->group == 32 ? SMOLQ_BUF_A32 : SMOLQ_BUF_NORMED;
    part->out = out;
    part->add = add;
    part->gate = gate;
}

#define SMOLQ__PROOF_TYPE(id, NAME, name, weights, group, block) id,
static void smolq__proof_program(smolq__proof *p)
{
    static const int32_t types[] = { SMOLQ_TYPES(SMOLQ__PROOF_TYPE) };
    uint64_t *row_bytes = p->program.row_bytes;
    uint32_t random = 2;
    smolq_op *op;
    size_t i;
    for (i = 0; i < sizeof p->weights; i++) {
        random = random * 1664525u + 1013904223u;
        p->weights[i] = (uint8_t)((random >> 24) & 0xbb); /* as above */
    }
    row_bytes[SMOLQ_BUF_RESIDUAL] = row_bytes[SMOLQ_BUF_NORMED] = SMOLQ__PROOF_COLS * 4;
    row_bytes[SMOLQ_BUF_A256] = row_bytes[SMOLQ_BUF_A32] = (smolq_a8_bytes(SMOLQ__PROOF_COLS, 32) + 63) & ~(uint64_t)63;
    row_bytes[SMOLQ_BUF_Q] = row_bytes[SMOLQ_BUF_K] = row_bytes[SMOLQ_BUF_V] = row_bytes[SMOLQ_BUF_ATT] = row_bytes[SMOLQ_BUF_GATE] = SMOLQ__PROOF_ROWS * 4;
    p->program.ops = p->op;
    p->program.n_layer = 1;
    p->program.n_embd = SMOLQ__PROOF_COLS;
    p->program.head_dim = SMOLQ__PROOF_ROWS;

    op = smolq__proof_op(p, SMOLQ_OP_NORM, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED);
    op->n = SMOLQ__PROOF_COLS;
    op->n_seg = 1;
    op->eps = 1e-5f;
    op->w = (const float *)(const void *)p->weights;
    for (i = 0; i < 2; i++) {
        op = smolq__proof_op(p, SMOLQ_OP_QUANTIZE, SMOLQ_BUF_RESIDUAL, i ? SMOLQ_BUF_A32 : SMOLQ_BUF_A256);
        op->n = SMOLQ__PROOF_COLS;
        op->n_seg = 1;
        op->group = i ? 32 : 256;
    }
    for (i = 0; i < SMOLQ__COUNT(types); i++) {
        op = smolq__proof_op(p, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
        smolq__proof_part(p, op, types[i], SMOLQ_BUF_Q, i ? 0.75f : 0, SMOLQ_GATE_NONE);
    }
    op = smolq__proof_op(p, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
    smolq__proof_part(p, op, SMOLQ_TYPE_F16, SMOLQ_BUF_GATE, 0, SMOLQ_GATE_NONE);
    smolq__proof_part(p, op, SMOLQ_TYPE_Q4_K, SMOLQ_BUF_GATE, 0, SMOLQ_GATE_SILU);
    op = smolq__proof_op(p, SMOLQ_OP_MATMUL, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
    smolq__proof_part(p, op, SMOLQ_TYPE_F32, SMOLQ_BUF_K, 0, SMOLQ_GATE_NONE);
    smolq__proof_part(p, op, SMOLQ_TYPE_BF16, SMOLQ_BUF_V, 0, SMOLQ_GATE_NONE);
    for (i = 0; i < 2; i++) {
        op = smolq__proof_op(p, i ? SMOLQ_OP_ATTENTION : SMOLQ_OP_KV_STORE, SMOLQ_BUF_Q, SMOLQ_BUF_ATT);
        op->n = SMOLQ__PROOF_ROWS;
        op->n_head = op->n_head_kv = 1;
        op->scale = 0.001f;
    }
}
#undef SMOLQ__PROOF_TYPE

/* The rows and the cache of all tokens. */
static uint64_t smolq__proof_bytes(const smolq__proof *p)
{
    uint64_t bytes = 2 * SMOLQ__PROOF_TOKENS * SMOLQ__PROOF_ROWS * 4;
    int32_t i;
    for (i = 0; i < SMOLQ_BUF_COUNT; i++) bytes += p->program.row_bytes[i] * SMOLQ__PROOF_TOKENS;
    return bytes;
}

/* Runs n tokens through the program, rows and cache at base. */
static smolq_result smolq__proof_run(smolq__proof *p, const smolq_backend *backend, void *state, int32_t n, uint8_t *base, uint8_t *scratch, void *loaded)
{
    smolq_run *run = &p->run;
    int32_t i;
    memset(run, 0, sizeof *run);
    run->program = &p->program;
    run->end_op = (uint32_t)p->program.n_ops;
    run->n_rows = n;
    run->position = p->position;
    run->kv = p->row_kv;
    run->scratch = scratch;
    run->loaded = loaded;
    for (i = 0; i < SMOLQ_BUF_COUNT; base += p->program.row_bytes[i++] * SMOLQ__PROOF_TOKENS) run->buffer[i] = base;
    p->kv.n_cells = SMOLQ__PROOF_TOKENS;
    p->kv.type = SMOLQ_TYPE_F32;
    p->kv.head_row_bytes = SMOLQ__PROOF_ROWS * 4;
    p->kv.k = base;
    p->kv.v = base + SMOLQ__PROOF_TOKENS * SMOLQ__PROOF_ROWS * 4;
    for (i = 0; i < n; i++) {
        p->row_kv[i] = &p->kv;
        p->position[i] = i;
    }
    return backend->run(state, run, NULL);
}

/* Is what the program leaves behind the same?  Rows that only lead there are the device's own business: it may fuse operations. */
static int smolq__proof_agrees(const smolq__proof *p, const uint8_t *mine, const uint8_t *theirs, int32_t n)
{
    int32_t i;
    for (i = 0; i < SMOLQ_BUF_COUNT; i++) {
        uint64_t row_bytes = p->program.row_bytes[i];
        int judged = i == SMOLQ_BUF_Q || i == SMOLQ_BUF_ATT || i == SMOLQ_BUF_GATE;
        if (judged && memcmp(mine, theirs, (size_t)row_bytes * (size_t)n) != 0) return 0;
        mine += row_bytes * SMOLQ__PROOF_TOKENS;
        theirs += row_bytes * SMOLQ__PROOF_TOKENS;
    }
    for (i = 0; i < 2; i++) /* keys, values */
        if (memcmp(mine + i * SMOLQ__PROOF_TOKENS * SMOLQ__PROOF_ROWS * 4, theirs + i * SMOLQ__PROOF_TOKENS * SMOLQ__PROOF_ROWS * 4, (size_t)n * SMOLQ__PROOF_ROWS * 4) != 0) return 0;
    return 1;
}

/* One token alone, then several: backends have ways of their own for both.  Device and reference begin with the same bytes, each where it computes. */
static int smolq__same_bits(smolq_device *device)
{
    const smolq_backend *backend = device->backend;
    const smolq_backend_memory *memory = smolq__memory_of(device);
    smolq__proof *p = (smolq__proof *)smolq__alloc(&device->heap, sizeof *p);
    uint8_t *mine = NULL, *theirs, *block = NULL, *base = NULL; /* base: where the device computes; theirs: what it has computed, on the host */
    void *loaded = NULL;
    uint64_t bytes;
    int32_t same, i, n;
    if (!p) return 0;
    smolq__proof_program(p);
    bytes = smolq__proof_bytes(p);
    mine = (uint8_t *)smolq__alloc(&device->heap, 2 * bytes);
    theirs = mine ? mine + bytes : NULL;
    block = smolq__device_alloc(device, bytes + (backend->scratch ? backend->scratch(device->state, &p->program, SMOLQ__PROOF_TOKENS) : 0) + 64);
    same = backend->canonical && mine && block && (!memory || memory->load(device->state, &p->program, 0, NULL, NULL, &loaded, NULL) == SMOLQ_OK) &&
           (!backend->acquire || backend->acquire(device->state, 0, NULL) == SMOLQ_OK);
    if (same) {
        base = block + (64 - (uintptr_t)block % 64) % 64;
        for (i = 0; i < SMOLQ__PROOF_TOKENS * SMOLQ__PROOF_COLS; i++) ((float *)(void *)mine)[i] = (float)(i * 37 % 251 - 125) * 0.01f; /* RESIDUAL, the first */
        for (n = 1; same && n <= SMOLQ__PROOF_TOKENS; n += SMOLQ__PROOF_TOKENS - 1)
            same = smolq__device_copy(device, base, mine, bytes, NULL) == SMOLQ_OK && smolq__proof_run(p, backend, device->state, n, base, base + bytes, loaded) == SMOLQ_OK &&
                   smolq__device_copy(device, theirs, base, bytes, NULL) == SMOLQ_OK && smolq__proof_run(p, smolq_backend_ref(), NULL, n, mine, NULL, NULL) == SMOLQ_OK &&
                   smolq__proof_agrees(p, mine, theirs, n);
        if (backend->release) backend->release(device->state);
    }
    if (loaded) memory->unload(device->state, loaded);
    smolq__device_free(device, block);
    smolq__free(&device->heap, mine);
    smolq__free(&device->heap, p);
    return same;
}

/* ---- devices ---- */

SMOLQ_API smolq_result smolq_device_open(const smolq_backend *backend, const smolq_device_options *options, smolq_device **device, smolq_error *err)
{
    smolq_device_options mine;
    smolq__heap heap;
    smolq_device *opened;
    smolq_result result;
    if (!device) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_device_open: device is NULL");
    if (!backend) backend = smolq_backend_ref();
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    result = smolq__check_contract(backend, err);
    if (result) return result;
    smolq__heap_init(&heap, &mine.allocator, 0);
    opened = (smolq_device *)smolq__alloc(&heap, sizeof *opened);
    if (!opened) return smolq__fail_memory(&heap, err, "the device");
    opened->heap = heap;
    opened->backend = backend;
    result = backend->open(&mine, &opened->state, opened->report, sizeof opened->report, err);
    if (result) {
        smolq__heap_close(&opened->heap);
        return result;
    }
    opened->exact = backend == smolq_backend_ref() || smolq__same_bits(opened);
    *device = opened;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_device_close(smolq_device *device)
{
    if (!device) return;
    device->backend->close(device->state);
    smolq__heap_close(&device->heap);
}

SMOLQ_API const char *smolq_device_report(const smolq_device *device) { return device ? device->report : ""; }
