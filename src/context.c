/* ==== context.c: KV caches, plans, evaluation =======================================================================
 * A context is one block of memory: itself, its KV cache, the activations of a batch, logits.  The layout below is computed once; smolq_plan reports it and
 * smolq_context_open allocates it, so the plan is exact, and evaluation has nothing to allocate.
 *
 * An evaluation walks its items' tokens in batches of n_batch rows.  A row's result depends on its token, its position and the cache of its
 * context only, so the cut into batches can't be seen in the logits.  Lengths move at the very end: whatever fails before leaves every context as it was.
 *
 * Layers with a window keep a ring of cells: the window and a batch.  What has left the ring can't be gone back to; after a truncation that needs it (or a
 * failed evaluation that went on too far) the next evaluation first feeds the kept tokens again, which gives the same bits. */
#pragma once
#include "model.c"

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
    smolq_run       run;            /* of an evaluation whose first item this context is: */
    int32_t        *token, *position, *out_row; /* [n_batch] */
    const smolq_kv_layer **row_kv;  /* [n_batch] */
    float         **row_logits;     /* [n_batch] */
};

enum { SMOLQ__DEFAULT_CTX = 4096, SMOLQ__DEFAULT_BATCH = 128, SMOLQ__MAX_BATCH = 4096 };

/* ---- plan ---- */

/* Where each piece of a context begins, in bytes from a 64-byte aligned base. */
typedef struct smolq__layout {
    int32_t  n_ctx, n_batch, kv_type;
    int32_t  window, ring;
    uint64_t context, ids, kv, token, position, out_row, row_kv, row_logits, buffer[SMOLQ_BUF_COUNT], scratch, logits, cache, end;
    uint64_t head_row_bytes;
} smolq__layout;

static int32_t smolq__layer_cells(const smolq__layout *layout, const smolq__layer *layer) { return layer->window ? layout->ring : layout->n_ctx; }

/* Appends n * size bytes at the next multiple of 64; 0 on overflow. */
static int smolq__reserve_at(smolq__layout *layout, uint64_t *at, uint64_t n, uint64_t size)
{
    uint64_t bytes;
    *at = layout->end;
    return smolq__mul(n, size, &bytes) && smolq__add(layout->end, bytes, &layout->end) && smolq__align_up(layout->end, 64, &layout->end);
}

static smolq_result smolq__context_layout(const smolq__arch *arch, const smolq_program *program, const smolq_device *device, const smolq_context_options *options,
                                           smolq__layout *layout, smolq_error *err)
{
    static const int32_t types[] = { SMOLQ_TYPE_F16, SMOLQ_TYPE_F16, SMOLQ_TYPE_F32, SMOLQ_TYPE_Q8_0 };
    const smolq_type_facts *kv;
    uint64_t n_batch, n_ctx, cells = 0, ignored;
    int32_t i;
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

    fits = smolq__reserve_at(layout, &layout->context, 1, sizeof(smolq_context)) && smolq__reserve_at(layout, &layout->ids, n_ctx, 4) &&
           smolq__reserve_at(layout, &layout->kv, (uint64_t)arch->hp.n_layer, sizeof(smolq_kv_layer)) && smolq__reserve_at(layout, &layout->token, n_batch, 4) &&
           smolq__reserve_at(layout, &layout->position, n_batch, 4) && smolq__reserve_at(layout, &layout->out_row, n_batch, 4) &&
           smolq__reserve_at(layout, &layout->row_kv, n_batch, sizeof(void *)) && smolq__reserve_at(layout, &layout->row_logits, n_batch, sizeof(void *));
    for (i = 0; i < SMOLQ_BUF_COUNT && fits; i++) fits = smolq__reserve_at(layout, &layout->buffer[i], n_batch, program->row_bytes[i]);
    fits = fits && smolq__reserve_at(layout, &layout->scratch, 1, device && device->backend->scratch ? device->backend->scratch(device->state, program, layout->n_batch) : 0);
    fits = fits && smolq__reserve_at(layout, &layout->logits, (uint64_t)arch->hp.n_vocab, 4);
    for (i = 0; i < arch->hp.n_layer && fits; i++) { /* keys and values, each [n_head_kv][cells][head_dim] */
        uint64_t of_layer;
        fits = smolq__mul(2 * (uint64_t)arch->layers[i].n_head_kv, (uint64_t)smolq__layer_cells(layout, &arch->layers[i]), &of_layer) && smolq__add(cells, of_layer, &cells);
    }
    fits = fits && smolq__reserve_at(layout, &layout->cache, cells, layout->head_row_bytes) && smolq__add(layout->end, 64, &layout->end) && smolq__fits_size(layout->end) &&
           smolq__add(layout->end, sizeof(smolq__block), &ignored);
    if (!fits) return smolq__fail(err, SMOLQ_E_MEMORY, "a context of %d tokens does not fit in this machine's address space; ask for a smaller n_ctx", (int)layout->n_ctx);
    return SMOLQ_OK;
}

static void smolq__layout_report(const smolq__layout *layout, smolq_memory *memory)
{
    memset(memory, 0, sizeof *memory);
    memory->size = sizeof *memory;
    memory->n_ctx = layout->n_ctx;
    memory->n_batch = layout->n_batch;
    memory->logits_bytes = layout->cache - layout->logits;
    memory->scratch_bytes = layout->logits - layout->buffer[0];
    memory->kv_bytes = layout->end - 64 - layout->cache;
    memory->host_bytes = layout->end + sizeof(smolq__block);
}

SMOLQ_API smolq_result smolq_plan(const smolq_model *model, const smolq_context_options *options, smolq_memory *memory, smolq_error *err)
{
    smolq_context_options mine;
    smolq__layout layout;
    smolq_result result;
    if (!model || !memory) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_plan: model or memory is NULL");
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    result = smolq__context_layout(&model->arch, &model->program, model->device, &mine, &layout, err);
    if (result) return result;
    smolq__layout_report(&layout, memory);
    return SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_probe(const char *path, const smolq_open_options *options, smolq_info *info, smolq_error *err)
{
    smolq_open_options mine;
    smolq_context_options defaults;
    smolq__heap heap;
    smolq__arch arch;
    smolq_program program;
    smolq__layout layout;
    smolq_info found;
    smolq_error why;
    smolq_gguf *gguf;
    smolq_result result;
    if (!info) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_probe: info is NULL");
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    memset(&defaults, 0, sizeof defaults);
    result = smolq_gguf_open(path, &mine, &gguf, err);
    if (result) return result;
    smolq__heap_init(&heap, &mine.allocator, mine.limits.memory);
    smolq__info_file(&found, gguf);
    why.text[0] = 0;
    result = smolq__arch_load(&arch, &heap, gguf, &mine.limits, &why);
    smolq__info_arch(&found, gguf, &arch);
    if (result == SMOLQ_OK && !smolq__program_open(&program, &heap, &arch)) result = smolq__fail_memory(&heap, &why, "the program");
    if (result == SMOLQ_OK) result = smolq__context_layout(&arch, &program, mine.device, &defaults, &layout, &why);
    if (result == SMOLQ_OK) {
        found.runnable = 1;
        found.context_bytes = layout.end + sizeof(smolq__block);
    }
    memcpy(found.reason, why.text, sizeof found.reason);
    smolq__heap_close(&heap);
    smolq_gguf_close(gguf);
    if (result == SMOLQ_E_MEMORY) return smolq__fail(err, result, "%s", why.text);
    if (info->size && info->size < sizeof found) {
        found.size = info->size;
        memcpy(info, &found, info->size);
    } else {
        *info = found;
    }
    return SMOLQ_OK;
}

/* ---- open ---- */

SMOLQ_API smolq_result smolq_context_open(smolq_model *model, const smolq_context_options *options, smolq_context **context, smolq_error *err)
{
    smolq_context_options mine;
    smolq__layout layout;
    smolq__heap heap;
    smolq_context *opened;
    smolq_result result;
    uint8_t *base, *cache;
    int32_t i;
    if (!model || !context) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_context_open: model or context is NULL");
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    result = smolq__context_layout(&model->arch, &model->program, model->device, &mine, &layout, err);
    if (result) return result;
    smolq__heap_init(&heap, mine.allocator.alloc ? &mine.allocator : &model->heap.allocator, mine.max_bytes);
    base = (uint8_t *)smolq__alloc_raw(&heap, layout.end);
    if (!base) return smolq__fail_memory(&heap, err, "the context (a smaller n_ctx or n_batch or another kv_type needs less)");
    base += (64 - (uintptr_t)base % 64) % 64;
    memset(base, 0, (size_t)layout.buffer[0]); /* not the buffers and the cache: every byte of them is written before it is read */
    opened = (smolq_context *)(void *)(base + layout.context);
    opened->heap = heap;
    opened->model = model;
    opened->n_ctx = layout.n_ctx;
    opened->n_batch = layout.n_batch;
    opened->kv_type = layout.kv_type;
    opened->window = layout.window;
    opened->ring = layout.ring;
    opened->ropes[0] = &model->ropes[layout.n_ctx > model->arch.hp.n_ctx_orig ? SMOLQ__ROPE_LONG_CONTEXT : SMOLQ__ROPE_SHORT_CONTEXT];
    opened->ropes[1] = &model->ropes[SMOLQ__ROPE_LOCAL];
    opened->ids = (int32_t *)(void *)(base + layout.ids);
    opened->kv = (smolq_kv_layer *)(void *)(base + layout.kv);
    opened->logits = (float *)(void *)(base + layout.logits);
    opened->token = (int32_t *)(void *)(base + layout.token);
    opened->position = (int32_t *)(void *)(base + layout.position);
    opened->out_row = (int32_t *)(void *)(base + layout.out_row);
    opened->row_kv = (const smolq_kv_layer **)(void *)(base + layout.row_kv);
    opened->row_logits = (float **)(void *)(base + layout.row_logits);
    for (i = 0; i < SMOLQ_BUF_COUNT; i++) opened->run.buffer[i] = base + layout.buffer[i];
    opened->run.scratch = base + layout.scratch;
    cache = base + layout.cache;
    for (i = 0; i < model->arch.hp.n_layer; i++) {
        smolq_kv_layer *kv = &opened->kv[i];
        uint64_t bytes;
        kv->n_cells = smolq__layer_cells(&layout, &model->arch.layers[i]);
        bytes = (uint64_t)model->arch.layers[i].n_head_kv * (uint64_t)kv->n_cells * layout.head_row_bytes;
        kv->k = cache;
        kv->v = cache + bytes;
        kv->type = layout.kv_type;
        kv->head_row_bytes = layout.head_row_bytes;
        cache += 2 * bytes;
    }
    *context = opened;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_context_close(smolq_context *context)
{
    if (context) smolq__heap_close(&context->heap);
}

SMOLQ_API int32_t smolq_context_length(const smolq_context *context) { return context->length; }
SMOLQ_API int32_t smolq_context_capacity(const smolq_context *context) { return context->n_ctx; }
SMOLQ_API const float *smolq_context_logits(const smolq_context *context) { return context->has_logits ? context->logits : NULL; }

/* ---- the conversation: truncate, reuse, fork ---- */

static smolq_result smolq__check_idle(const smolq_context *context, smolq_error *err)
{
    if (!context) return smolq__fail(err, SMOLQ_E_ARGUMENT, "the context is NULL");
    if (context->busy) return smolq__fail(err, SMOLQ_E_BUSY, "the context is part of an evaluation that has not ended");
    return SMOLQ_OK;
}

/* Positions [0, upto) stand in the cache now: what is so many cells behind has left the rings. */
static void smolq__context_wrote(smolq_context *context, int32_t upto)
{
    if (context->window && upto - context->ring > context->lost) context->lost = upto - context->ring;
}

/* After length has changed, or an evaluation failed: from where on must tokens be fed again? */
static void smolq__context_settle(smolq_context *context)
{
    if (context->ready > context->length) context->ready = context->length;
    if (context->lost > 0 && context->lost > context->ready + 1 - context->window) context->ready = context->lost = 0;
}

SMOLQ_API smolq_result smolq_context_truncate(smolq_context *context, int32_t length, smolq_error *err)
{
    smolq_result result = smolq__check_idle(context, err);
    if (result) return result;
    if (length < 0 || length > context->length)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_context_truncate to %d tokens, expected 0..%d", (int)length, (int)context->length);
    if (length < context->length) context->has_logits = 0;
    context->length = length;
    smolq__context_settle(context);
    return SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_context_reuse(smolq_context *context, const int32_t *ids, size_t n_ids, size_t *n_kept, smolq_error *err)
{
    smolq_result result = smolq__check_idle(context, err);
    size_t kept = 0;
    if (result) return result;
    if (!n_kept || (!ids && n_ids)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_context_reuse: ids or n_kept is NULL");
    while (kept + 1 < n_ids && kept < (size_t)context->length && context->ids[kept] == ids[kept]) kept++;
    result = smolq_context_truncate(context, (int32_t)kept, err);
    if (result == SMOLQ_OK) *n_kept = kept;
    return result;
}

/* Copies positions [begin, end) of a layer; rings of different sizes put them into different cells. */
static void smolq__fork_layer(const smolq_kv_layer *to, const smolq_kv_layer *from, int32_t n_head_kv, int32_t begin, int32_t end)
{
    int32_t head, p, n;
    for (head = 0; head < n_head_kv; head++)
        for (p = begin; p < end; p += n) { /* runs that end in neither ring */
            int32_t cell_to = p % to->n_cells, cell_from = p % from->n_cells;
            uint64_t at_to = ((uint64_t)head * (uint64_t)to->n_cells + (uint64_t)cell_to) * to->head_row_bytes;
            uint64_t at_from = ((uint64_t)head * (uint64_t)from->n_cells + (uint64_t)cell_from) * from->head_row_bytes;
            n = end - p;
            if (n > to->n_cells - cell_to) n = to->n_cells - cell_to;
            if (n > from->n_cells - cell_from) n = from->n_cells - cell_from;
            memcpy(to->k + at_to, from->k + at_from, (size_t)n * (size_t)to->head_row_bytes);
            memcpy(to->v + at_to, from->v + at_from, (size_t)n * (size_t)to->head_row_bytes);
        }
}

SMOLQ_API smolq_result smolq_context_fork(smolq_context *to, const smolq_context *from, smolq_error *err)
{
    smolq_result result = smolq__check_idle(to, err);
    int32_t i;
    if (result == SMOLQ_OK) result = smolq__check_idle(from, err);
    if (result) return result;
    if (to == from) return SMOLQ_OK;
    if (to->model != from->model || to->kv_type != from->kv_type || to->ropes[0] != from->ropes[0])
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_context_fork: the contexts are of different models, KV types or rotations (a length beyond the original one has its own)");
    if (to->n_ctx < from->length)
        return smolq__fail(err, SMOLQ_E_CONTEXT_FULL, "smolq_context_fork: %d tokens into a context of %d", (int)from->length, (int)to->n_ctx);
    for (i = 0; i < to->model->arch.hp.n_layer; i++)
        smolq__fork_layer(&to->kv[i], &from->kv[i], to->model->arch.layers[i].n_head_kv, to->model->arch.layers[i].window ? from->lost : 0, from->ready);
    memcpy(to->ids, from->ids, (size_t)from->length * sizeof *to->ids);
    if (from->has_logits) memcpy(to->logits, from->logits, (size_t)to->model->arch.hp.n_vocab * sizeof *to->logits);
    to->length = from->length;
    to->ready = from->ready;
    to->lost = from->lost;
    smolq__context_wrote(to, to->ready);
    smolq__context_settle(to);
    to->has_logits = from->has_logits;
    return SMOLQ_OK;
}

/* ---- evaluation ---- */

static smolq_result smolq__check_item(const smolq_eval_item *items, int32_t i, smolq_error *err)
{
    const smolq_eval_item *item = &items[i];
    const smolq_context *context = item->context;
    int32_t j, n_vocab;
    smolq_result result = smolq__check_idle(context, err);
    if (result) return result;
    if (context->model != items[0].context->model) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: a context of another model than item 0", (int)i);
    if (item->n_tokens < 1 || !item->tokens) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: %d tokens, expected 1 or more", (int)i, (int)item->n_tokens);
    if (item->want < SMOLQ_LOGITS_LAST || item->want > SMOLQ_LOGITS_ALL) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: want is %d, expected SMOLQ_LOGITS_...", (int)i, (int)item->want);
    if (item->want == SMOLQ_LOGITS_ALL && !item->logits) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: SMOLQ_LOGITS_ALL needs a buffer", (int)i);
    if (item->n_tokens > context->n_ctx - context->length)
        return smolq__fail(err, SMOLQ_E_CONTEXT_FULL, "item %d: %d tokens, room for %d (%d of %d are used)", (int)i, (int)item->n_tokens, (int)(context->n_ctx - context->length),
                           (int)context->length, (int)context->n_ctx);
    n_vocab = context->model->arch.hp.n_vocab;
    for (j = 0; j < item->n_tokens; j++)
        if (item->tokens[j] < 0 || item->tokens[j] >= n_vocab)
            return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: token %d is id %d, expected 0..%d", (int)i, (int)j, (int)item->tokens[j], (int)n_vocab - 1);
    for (j = 0; j < i; j++)
        if (items[j].context == context) return smolq__fail(err, SMOLQ_E_ARGUMENT, "items %d and %d are of the same context", (int)j, (int)i);
    return SMOLQ_OK;
}

/* Index of the first token to feed: below 0 for those that the context holds without their cells. */
static int32_t smolq__first_token(const smolq_eval_item *item) { return item->context->ready - item->context->length; }

/* One row of the batch: a token of an item, or (index < 0) one that its context holds and must be fed again. */
static void smolq__add_row(smolq_run *run, smolq_context *first, const smolq_eval_item *item, int32_t index)
{
    smolq_context *context = item->context;
    const smolq_model *model = first->model;
    int32_t row = run->n_rows++, position = context->length + index, table;
    size_t n_vocab = (size_t)model->arch.hp.n_vocab;
    first->token[row] = index < 0 ? context->ids[position] : item->tokens[index];
    first->position[row] = position;
    first->row_kv[row] = context->kv;
    for (table = 0; table < 2; table++)
        if (model->program.row_bytes[SMOLQ_BUF_ROPE + table]) smolq__rope_row(context->ropes[table], position, (float *)(void *)smolq_row(run, SMOLQ_BUF_ROPE + table, row));
    if (model->program.row_bytes[SMOLQ_BUF_HEAT]) *(float *)(void *)smolq_row(run, SMOLQ_BUF_HEAT, row) = smolq__heat(&model->arch.hp, position);
    smolq__context_wrote(context, position + 1);
    if (index >= 0 && (item->want == SMOLQ_LOGITS_ALL || (item->want == SMOLQ_LOGITS_LAST && index == item->n_tokens - 1))) {
        first->out_row[run->n_out] = row;
        first->row_logits[run->n_out++] = item->want == SMOLQ_LOGITS_ALL ? item->logits + (size_t)index * n_vocab : item->logits ? item->logits : context->logits;
    }
}

/* Fills the run with the next tokens of the items, as many as every context's rings have room for. */
static void smolq__next_batch(smolq_evaluation *e)
{
    smolq_context *first = e->items[0].context;
    smolq_run *run = &first->run;
    int32_t most = first->n_batch, i;
    for (i = 1; i < e->n_items; i++)
        if (e->items[i].context->n_batch < most) most = e->items[i].context->n_batch;
    run->program = &first->model->program;
    run->end_op = (uint32_t)first->model->program.n_ops;
    run->n_rows = run->n_out = 0;
    run->op = 0;
    run->unit = 0;
    run->numeric = 0;
    run->token = first->token;
    run->position = first->position;
    run->kv = (const smolq_kv_layer *const *)first->row_kv;
    run->out_row = first->out_row;
    run->logits = first->row_logits;
    while (run->n_rows < most && e->item < e->n_items) {
        smolq__add_row(run, first, &e->items[e->item], e->token++);
        if (e->token == e->items[e->item].n_tokens && ++e->item < e->n_items) e->token = smolq__first_token(&e->items[e->item]);
    }
}

/* Ends the evaluation: the contexts are free again, and if it succeeded, longer. */
static void smolq__eval_end(smolq_evaluation *e, int success)
{
    int32_t i;
    const smolq_device *device = e->items[0].context->model->device;
    for (i = 0; i < e->n_items; i++) {
        const smolq_eval_item *item = &e->items[i];
        smolq_context *context = item->context;
        context->busy = 0;
        if (!success) {
            smolq__context_settle(context);
            continue;
        }
        memcpy(context->ids + context->length, item->tokens, (size_t)item->n_tokens * sizeof *item->tokens);
        context->length += item->n_tokens;
        context->ready = context->length;
        context->has_logits = item->want == SMOLQ_LOGITS_LAST && !item->logits;
    }
    if (device->backend->release) device->backend->release(device->state);
    e->active = 0;
}

SMOLQ_API smolq_result smolq_eval_begin(smolq_evaluation *e, const smolq_eval_item *items, int32_t n_items, const smolq_eval_options *options, smolq_error *err)
{
    smolq_evaluation begun;
    smolq_result result;
    const smolq_device *device;
    SMOLQ__FP_STATE saved;
    int32_t i;
    memset(&begun, 0, sizeof begun);
    smolq__options(&begun.options, sizeof begun.options, options, sizeof begun.options);
    if (!e || !items || n_items < 1) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_eval: no items");
    for (i = 0; i < n_items; i++) {
        result = smolq__check_item(items, i, err);
        if (result) return result;
    }
    device = items[0].context->model->device;
    if (device->backend->acquire) {
        result = device->backend->acquire(device->state, (int32_t)begun.options.no_wait, err);
        if (result) return result;
    }
    begun.items = items;
    begun.n_items = n_items;
    begun.active = 1;
    for (i = 0; i < n_items; i++) {
        items[i].context->busy = 1;
        items[i].context->has_logits = 0;
    }
    *e = begun;
    e->token = smolq__first_token(&items[0]);
    saved = smolq__fp_enter(); /* the batch brings its rotations */
    smolq__next_batch(e);
    smolq__fp_leave(saved);
    return SMOLQ_OK;
}

/* What a backend asks between pieces of work. */
typedef struct smolq__pause {
    const smolq_eval_options *options;
    int64_t deadline; /* 0: none */
    int32_t cancelled;
} smolq__pause;

static int smolq__should_pause(void *user)
{
    smolq__pause *pause = (smolq__pause *)user;
    if (pause->options->cancel && pause->options->cancel(pause->options->user)) pause->cancelled = 1;
    return pause->cancelled || (pause->deadline && smolq__now_us() >= pause->deadline);
}

static int smolq__finite_logits(const smolq_run *run)
{
    int32_t i, j;
    for (i = 0; i < run->n_out; i++)
        for (j = 0; j < run->program->n_vocab; j++)
            if (!smolq_is_finite(run->logits[i][j])) return 0;
    return 1;
}

static smolq_result smolq__eval_work(smolq_evaluation *e, smolq__pause *pause, smolq_error *err)
{
    smolq_run *run = &e->items[0].context->run;
    const smolq_device *device = e->items[0].context->model->device;
    run->pause = pause->options->cancel || pause->deadline ? smolq__should_pause : NULL;
    run->user = pause;
    for (;;) {
        smolq_result result = device->backend->run(device->state, run, err);
        if (result) return result;
        if (pause->cancelled) return smolq__fail(err, SMOLQ_E_CANCELLED, "the evaluation was cancelled; its contexts are as before");
        if (run->op < run->end_op) return SMOLQ_MORE;
        if (run->numeric || !smolq__finite_logits(run))
            return smolq__fail(err, SMOLQ_E_NUMERIC, "NaN or infinity in the activations or logits: the weights of the model are damaged or overflow");
        if (e->item == e->n_items) return SMOLQ_OK;
        smolq__next_batch(e);
    }
}

SMOLQ_API smolq_result smolq_eval_step(smolq_evaluation *e, int64_t budget_us, smolq_error *err)
{
    smolq__pause pause;
    smolq_result result;
    if (!e || !e->active) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_eval_step: no evaluation was begun, or it has ended");
    pause.options = &e->options;
    pause.deadline = budget_us > 0 ? smolq__now_us() + budget_us : 0;
    pause.cancelled = 0;
    {
        SMOLQ__FP_STATE saved = smolq__fp_enter();
        result = smolq__eval_work(e, &pause, err);
        smolq__fp_leave(saved);
    }
    if (result != SMOLQ_MORE) smolq__eval_end(e, result == SMOLQ_OK);
    return result;
}

SMOLQ_API void smolq_eval_cancel(smolq_evaluation *e)
{
    if (e && e->active) smolq__eval_end(e, 0);
}

SMOLQ_API smolq_result smolq_eval(const smolq_eval_item *items, int32_t n_items, const smolq_eval_options *options, smolq_error *err)
{
    smolq_evaluation e;
    smolq_result result = smolq_eval_begin(&e, items, n_items, options, err);
    return result ? result : smolq_eval_step(&e, 0, err);
}
