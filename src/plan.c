/* ==== plan.c: who computes which layers, and where a context's memory is ============================================
 * A model's program runs in one stage, or in two: the first layers on the host, the rest on a device with memory of its own, when all of them don't
 * fit there or the caller says so.  What goes from one stage to the next is the residual stream, one row per token.
 *
 * A context is one block of host memory (itself, activations, logits, KV cache), and a second one in the device's memory for the stage that computes there.
 * The layout below is computed once; smolq_plan reports it and smolq_context_open allocates it, so the plan is exact, and evaluation has nothing to allocate. */
#pragma once
#include "device.c"
#include "smq_verify.c"

/* ---- stages ---- */

enum { SMOLQ__MAX_STAGES = 2 };

/* A part of the program, and the device that runs it. */
typedef struct smolq__stage {
    smolq_device *device;  /* borrowed from the model; NULL where none is open yet */
    uint32_t      first_op, end_op;
    void         *loaded;  /* the weights in the device's own memory; owned by the model */
} smolq__stage;

typedef struct smolq__stages {
    smolq__stage at[SMOLQ__MAX_STAGES];
    int32_t      n;
    int32_t      host_layers; /* the first layers, in the host's memory */
} smolq__stages;

static int32_t smolq__stage_of_layer(const smolq__stages *stages, int32_t layer) { return layer < stages->host_layers ? 0 : stages->n - 1; }

/* Where the device goes on when the host computes the embedding and the first n layers. */
static uint32_t smolq__split_op(const smolq_program *program, int32_t n)
{
    uint32_t op = 1;
    if (n == 0) return 0;
    while (program->ops[op].layer >= 0 && program->ops[op].layer < n) op++;
    return op;
}

static void smolq__set_stages(smolq__stages *stages, const smolq_program *program, smolq_device *device, int32_t host_layers)
{
    uint32_t split = smolq__memory_of(device) ? smolq__split_op(program, host_layers) : 0;
    smolq__stage *last;
    memset(stages, 0, sizeof *stages);
    stages->host_layers = host_layers;
    stages->n = split ? 2 : 1;
    stages->at[0].end_op = split;
    last = &stages->at[stages->n - 1];
    last->device = device;
    last->first_op = split;
    last->end_op = (uint32_t)program->n_ops;
}

/* ---- the layout of a context ---- */

struct smolq_context {
    smolq__heap     heap;
    smolq_model    *model;
    int32_t         n_ctx, n_batch, kv_type;
    int32_t         length, busy, has_logits;
    int32_t         window;         /* the widest of any layer; 0: all layers keep all cells */
    int32_t         ring;           /* cells of a layer with a window */
    int32_t         ready;          /* tokens whose keys and values are there; the rest up to length is fed again */
    int32_t         lost;           /* positions below this have left a ring */
    const smolq__rope *ropes[2];    /* of other layers, of layers with a window */
    int32_t        *ids;            /* [n_ctx] tokens in the cache */
    smolq_kv_layer *kv;             /* [n_layer] */
    float          *logits;         /* [n_vocab] */
    smolq_top       top;            /* of SMOLQ_LOGITS_SAMPLE: what was asked about its logits, */
    int32_t         drawn;          /* and the token */
    smolq__verifying verifying;     /* how far this context has come in it: SMOLQ_VERIFY_LAZY */
    uint8_t        *device_block;   /* NULL if no stage computes in memory of its own */
    smolq_run       run[SMOLQ__MAX_STAGES]; /* of an evaluation whose first item this context is: */
    int32_t         stage;          /* where its batch is */
    int32_t        *token, *position, *out_row; /* [n_batch] */
    const smolq_kv_layer **row_kv;  /* [n_batch] */
    float         **row_logits;     /* [n_batch] */
    smolq_top     **row_top;        /* [n_batch] */
};

enum { SMOLQ__DEFAULT_CTX = 4096, SMOLQ__DEFAULT_BATCH = 128, SMOLQ__MAX_BATCH = 4096 };
enum { SMOLQ__ON_HOST, SMOLQ__ON_DEVICE };

/* Where each piece of a context begins, in bytes from a 64-byte aligned base, of its block on the host or of the one on the device. */
typedef struct smolq__layout {
    int32_t  n_ctx, n_batch, kv_type;
    int32_t  window, ring;
    uint64_t context, ids, kv, token, position, out_row, row_kv, row_logits, row_top, rows, logits; /* on the host; activations begin at rows */
    struct { uint64_t buffer[SMOLQ_BUF_COUNT], scratch, cache; } stage[SMOLQ__MAX_STAGES];
    uint64_t end[2];                             /* SMOLQ__ON_HOST, SMOLQ__ON_DEVICE */
    uint64_t kv_bytes, scratch_bytes, logits_bytes, head_row_bytes;
} smolq__layout;

static int32_t smolq__layer_cells(const smolq__layout *layout, const smolq__layer *layer) { return layer->window ? layout->ring : layout->n_ctx; }

static int32_t smolq__side(const smolq__stages *stages, int32_t stage) { return smolq__memory_of(stages->at[stage].device) ? SMOLQ__ON_DEVICE : SMOLQ__ON_HOST; }

/* Appends n * size bytes at the next multiple of 64 on one side; 0 on overflow. */
static int smolq__reserve_at(smolq__layout *layout, int32_t side, uint64_t *at, uint64_t n, uint64_t size)
{
    uint64_t bytes, *end = &layout->end[side];
    *at = *end;
    return smolq__mul(n, size, &bytes) && smolq__add(*end, bytes, end) && smolq__align_up(*end, 64, end);
}

/* The activations and the scratch of a stage.  The buffers that smolq.h fills are on the host, the same for all stages. */
static int smolq__reserve_rows(smolq__layout *layout, const smolq_program *program, const smolq__stages *stages, int32_t s)
{
    const smolq_device *device = stages->at[s].device;
    int32_t side = smolq__side(stages, s), i, fits = 1;
    for (i = 0; i < SMOLQ_BUF_COUNT && fits; i++) {
        int32_t is_host = smolq_is_host_buffer(i);
        if (is_host && s > 0) layout->stage[s].buffer[i] = layout->stage[0].buffer[i];
        else fits = smolq__reserve_at(layout, is_host ? SMOLQ__ON_HOST : side, &layout->stage[s].buffer[i], (uint64_t)layout->n_batch, program->row_bytes[i]);
    }
    return fits && smolq__reserve_at(layout, side, &layout->stage[s].scratch, 1, device && device->backend->scratch ? device->backend->scratch(device->state, program, layout->n_batch) : 0);
}

/* The keys and values of a stage's layers, each [n_head_kv][cells][head_dim]. */
static int smolq__reserve_cache(smolq__layout *layout, const smolq__arch *arch, const smolq__stages *stages, int32_t s)
{
    uint64_t cells = 0, of_layer;
    int32_t i;
    for (i = 0; i < arch->hp.n_layer; i++)
        if (smolq__stage_of_layer(stages, i) == s &&
            (!smolq__mul(2 * (uint64_t)arch->layers[i].n_head_kv, (uint64_t)smolq__layer_cells(layout, &arch->layers[i]), &of_layer) || !smolq__add(cells, of_layer, &cells)))
            return 0;
    return smolq__reserve_at(layout, smolq__side(stages, s), &layout->stage[s].cache, cells, layout->head_row_bytes);
}

/* What was appended since both sides together had `before` bytes. */
static uint64_t smolq__laid_since(const smolq__layout *layout, uint64_t before) { return layout->end[SMOLQ__ON_HOST] + layout->end[SMOLQ__ON_DEVICE] - before; }

static smolq_result smolq__context_layout(const smolq__arch *arch, const smolq_program *program, const smolq__stages *stages, const smolq_context_options *options,
                                           smolq__layout *layout, smolq_error *err)
{
    static const int32_t types[] = { SMOLQ_TYPE_F16, SMOLQ_TYPE_F16, SMOLQ_TYPE_F32, SMOLQ_TYPE_Q8_0 };
    const smolq_type_facts *kv;
    uint64_t n_batch, n_ctx, before, ignored, *host_end = &layout->end[SMOLQ__ON_HOST];
    int32_t s;
    int fits;
    memset(layout, 0, sizeof *layout);
    if (options->n_ctx < 0 || options->n_ctx > 1 << 30) return smolq__fail(err, SMOLQ_E_ARGUMENT, "n_ctx is %d, expected 0..%d", (int)options->n_ctx, 1 << 30);
    if (options->n_batch < 0 || options->n_batch > SMOLQ__MAX_BATCH)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "n_batch is %d, expected 0..%d", (int)options->n_batch, (int)SMOLQ__MAX_BATCH);
    if (options->kv_type < 0 || options->kv_type > SMOLQ_KV_Q8_0)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "kv_type is %d, expected one of SMOLQ_KV_F16, SMOLQ_KV_F32, SMOLQ_KV_Q8_0", (int)options->kv_type);
    layout->n_ctx = options->n_ctx ? options->n_ctx : arch->hp.n_ctx_train < SMOLQ__DEFAULT_CTX ? arch->hp.n_ctx_train : SMOLQ__DEFAULT_CTX;
    layout->n_batch = options->n_batch ? options->n_batch : SMOLQ__DEFAULT_BATCH;
    if (layout->n_batch > layout->n_ctx) layout->n_batch = layout->n_ctx;
    layout->kv_type = types[options->kv_type];
    kv = smolq_type_info(layout->kv_type);
    if (arch->hp.head_dim % kv->block_weights)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "a KV cache in %s needs heads of a multiple of %d, this model's are %d; take f16 or f32", kv->name, (int)kv->block_weights, (int)arch->hp.head_dim);
    layout->head_row_bytes = (uint64_t)(arch->hp.head_dim / kv->block_weights) * (uint64_t)kv->block_bytes;
    n_ctx = (uint64_t)layout->n_ctx;
    n_batch = (uint64_t)layout->n_batch;
    layout->window = arch->hp.window;
    layout->ring = (int64_t)layout->window + layout->n_batch - 1 < layout->n_ctx ? layout->window + layout->n_batch - 1 : layout->n_ctx;

    fits = smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->context, 1, sizeof(smolq_context)) && smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->ids, n_ctx, 4) &&
           smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->kv, (uint64_t)arch->hp.n_layer, sizeof(smolq_kv_layer)) &&
           smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->token, n_batch, 4) && smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->position, n_batch, 4) &&
           smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->out_row, n_batch, 4) && smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->row_kv, n_batch, sizeof(void *)) &&
           smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->row_logits, n_batch, sizeof(void *)) && smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->row_top, n_batch, sizeof(void *));
    layout->rows = before = *host_end;
    for (s = 0; s < stages->n && fits; s++) fits = smolq__reserve_rows(layout, program, stages, s);
    layout->scratch_bytes = smolq__laid_since(layout, before);
    fits = fits && smolq__reserve_at(layout, SMOLQ__ON_HOST, &layout->logits, (uint64_t)arch->hp.n_vocab, 4);
    layout->logits_bytes = smolq__laid_since(layout, before) - layout->scratch_bytes;
    before = smolq__laid_since(layout, 0);
    for (s = 0; s < stages->n && fits; s++) fits = smolq__reserve_cache(layout, arch, stages, s);
    layout->kv_bytes = smolq__laid_since(layout, before);
    fits = fits && smolq__add(*host_end, 64, host_end) && smolq__fits_size(*host_end) && smolq__fits_size(layout->end[SMOLQ__ON_DEVICE]) && smolq__add(*host_end, sizeof(smolq__block), &ignored);
    if (!fits) return smolq__fail(err, SMOLQ_E_MEMORY, "a context of %d tokens does not fit in this machine's address space; ask for a smaller n_ctx", (int)layout->n_ctx);
    return SMOLQ_OK;
}

/* All that a context takes on the host. */
static uint64_t smolq__host_bytes(const smolq__layout *layout) { return layout->end[SMOLQ__ON_HOST] + sizeof(smolq__block); }

/* ---- what fits on the device ---- */

/* Decides which layers the device computes.  One without memory of its own computes all, in the host's; else its free bytes, or the caller, decide. */
static smolq_result smolq__place_layers(const smolq__arch *arch, const smolq_program *program, smolq_device *device, const smolq_open_options *options, smolq__stages *stages, smolq_error *err)
{
    const smolq_backend_memory *memory = smolq__memory_of(device);
    int32_t n_layer = arch->hp.n_layer, n = options->host_layers > 0 ? options->host_layers : 0;
    smolq_context_options defaults;
    uint64_t needed = 0, available;
    memset(&defaults, 0, sizeof defaults);
    smolq__set_stages(stages, program, device, n_layer);
    if (!memory) return SMOLQ_OK;
    if (options->host_layers < -1 || n > n_layer)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "host_layers is %d, expected -1..%d", (int)options->host_layers, (int)n_layer);
    available = memory->available(device->state);
    for (; n <= n_layer; n++) {
        smolq__layout layout;
        smolq_result result;
        smolq__set_stages(stages, program, device, n);
        result = smolq__context_layout(arch, program, stages, &defaults, &layout, err);
        if (result) return result;
        needed = memory->load_bytes(device->state, program, (int32_t)stages->at[stages->n - 1].first_op);
        if (smolq__add(needed, options->device_reserve ? options->device_reserve : layout.end[SMOLQ__ON_DEVICE], &needed) && needed <= available) return SMOLQ_OK;
        if (options->host_layers) break;
    }
    return smolq__fail(err, SMOLQ_E_MEMORY, "%llu bytes of device memory are needed with %d of %d layers on the host, contexts included, %llu are free; %s", (unsigned long long)needed,
                       (int)stages->host_layers, (int)n_layer, (unsigned long long)available,
                       stages->host_layers < n_layer ? "leave more host_layers, or a smaller device_reserve" : "free some, ask for a smaller device_reserve, or open the model on the host alone");
}
