/* ==== context.c: KV caches, evaluation ==============================================================================
 * A context's memory is one block, and one more where a device has memory of its own: plan.c.
 *
 * An evaluation walks its items' tokens in batches of n_batch rows.  A row's result depends on its token, its position and the cache of its
 * context only, so the cut into batches can't be seen in the logits.  A batch goes through the stages of the model, on one device after the other.
 * Lengths move at the very end: whatever fails before leaves every context as it was.
 *
 * Layers with a window keep a ring of cells: the window and a batch.  What has left the ring can't be gone back to; after a truncation that needs it (or a
 * failed evaluation that went on too far) the next evaluation first feeds the kept tokens again, which gives the same bits. */
#pragma once
#include "model.c"
#include "sample.c"

/* ---- plan ---- */

static void smolq__layout_report(const smolq__layout *layout, smolq_memory *memory)
{
    memset(memory, 0, sizeof *memory);
    memory->size = sizeof *memory;
    memory->n_ctx = layout->n_ctx;
    memory->n_batch = layout->n_batch;
    memory->logits_bytes = layout->logits_bytes;
    memory->scratch_bytes = layout->scratch_bytes;
    memory->kv_bytes = layout->kv_bytes;
    memory->host_bytes = smolq__host_bytes(layout);
    memory->device_bytes = layout->end[SMOLQ__ON_DEVICE];
}

SMOLQ_API smolq_result smolq_plan(const smolq_model *model, const smolq_context_options *options, smolq_memory *memory, smolq_error *err)
{
    smolq_context_options mine;
    smolq__layout layout;
    smolq_result result;
    if (!model || !memory) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_plan: model or memory is NULL");
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    result = smolq__context_layout(&model->arch, &model->program, &model->stages, &mine, &layout, err);
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
    smolq__stages stages;
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
    if (result == SMOLQ_OK && smolq__place_layers(&arch, &program, mine.device, &mine, &stages, &why) == SMOLQ_OK) {
        result = smolq__context_layout(&arch, &program, &stages, &defaults, &layout, &why);
        found.runnable = result == SMOLQ_OK;
        found.context_bytes = result ? 0 : smolq__host_bytes(&layout) + layout.end[SMOLQ__ON_DEVICE];
        smolq__info_stages(&found, &stages, &program);
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

/* The context's block in the device's own memory; none where no stage needs one. */
static smolq_result smolq__context_device_block(const smolq_model *model, const smolq__layout *layout, uint8_t **block, smolq_error *err)
{
    const smolq_backend_memory *memory = smolq__memory_of(model->device);
    uint64_t bytes = layout->end[SMOLQ__ON_DEVICE];
    smolq_result result;
    if (!memory) return SMOLQ_OK;
    result = memory->alloc(model->device->state, bytes, block, err);
    if (result == SMOLQ_E_MEMORY)
        return smolq__fail(err, result, "the context needs %llu bytes of device memory, %llu are free; a smaller n_ctx or n_batch or another kv_type needs less, and so do more host_layers of the model",
                           (unsigned long long)bytes, (unsigned long long)memory->available(model->device->state));
    return result;
}

/* What an evaluation hands to each stage, but for the batch itself. */
static void smolq__context_runs(smolq_context *context, const smolq__layout *layout, uint8_t *const *base)
{
    const smolq_model *model = context->model;
    int32_t s, i;
    for (s = 0; s < model->stages.n; s++) {
        smolq_run *run = &context->run[s];
        int32_t side = smolq__side(&model->stages, s);
        run->program = &model->program;
        run->token = context->token;
        run->position = context->position;
        run->kv = (const smolq_kv_layer *const *)context->row_kv;
        run->out_row = context->out_row;
        run->logits = context->row_logits;
        run->top = context->row_top;
        for (i = 0; i < SMOLQ_BUF_COUNT; i++) run->buffer[i] = base[smolq_is_host_buffer(i) ? SMOLQ__ON_HOST : side] + layout->stage[s].buffer[i];
        run->scratch = base[side] + layout->stage[s].scratch;
        run->loaded = model->stages.at[s].loaded;
    }
}

/* Keys and values of each layer, where its stage computes. */
static void smolq__context_cache(smolq_context *context, const smolq__layout *layout, uint8_t *const *base)
{
    const smolq_model *model = context->model;
    uint64_t at[SMOLQ__MAX_STAGES];
    int32_t s, i;
    for (s = 0; s < SMOLQ__MAX_STAGES; s++) at[s] = layout->stage[s].cache;
    for (i = 0; i < model->arch.hp.n_layer; i++) {
        smolq_kv_layer *kv = &context->kv[i];
        uint64_t bytes;
        s = smolq__stage_of_layer(&model->stages, i);
        kv->n_cells = smolq__layer_cells(layout, &model->arch.layers[i]);
        bytes = (uint64_t)model->arch.layers[i].n_head_kv * (uint64_t)kv->n_cells * layout->head_row_bytes;
        kv->k = base[smolq__side(&model->stages, s)] + at[s];
        kv->v = kv->k + bytes;
        kv->type = layout->kv_type;
        kv->head_row_bytes = layout->head_row_bytes;
        at[s] += 2 * bytes;
    }
}

SMOLQ_API smolq_result smolq_context_open(smolq_model *model, const smolq_context_options *options, smolq_context **context, smolq_error *err)
{
    smolq_context_options mine;
    smolq__layout layout;
    smolq__heap heap;
    smolq_context *opened;
    smolq_result result;
    uint8_t *host, *base[2] = { NULL, NULL }; /* SMOLQ__ON_HOST, SMOLQ__ON_DEVICE */
    if (!model || !context) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_context_open: model or context is NULL");
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    result = smolq__context_layout(&model->arch, &model->program, &model->stages, &mine, &layout, err);
    if (result) return result;
    smolq__heap_init(&heap, mine.allocator.alloc ? &mine.allocator : &model->heap.allocator, mine.max_bytes);
    heap.used = layout.end[SMOLQ__ON_DEVICE]; /* counts against max_bytes */
    host = (uint8_t *)smolq__alloc_raw(&heap, layout.end[SMOLQ__ON_HOST]);
    if (!host) return smolq__fail_memory(&heap, err, "the context (a smaller n_ctx or n_batch or another kv_type needs less)");
    result = smolq__context_device_block(model, &layout, &base[SMOLQ__ON_DEVICE], err);
    if (result) {
        smolq__heap_close(&heap);
        return result;
    }
    host += (64 - (uintptr_t)host % 64) % 64;
    base[SMOLQ__ON_HOST] = host;
    memset(host, 0, (size_t)layout.rows); /* not the activations and the cache: every byte of them is written before it is read */
    opened = (smolq_context *)(void *)(host + layout.context);
    opened->heap = heap;
    opened->model = model;
    opened->n_ctx = layout.n_ctx;
    opened->n_batch = layout.n_batch;
    opened->kv_type = layout.kv_type;
    opened->window = layout.window;
    opened->ring = layout.ring;
    opened->ropes[0] = &model->ropes[layout.n_ctx > model->arch.hp.n_ctx_orig ? SMOLQ__ROPE_LONG_CONTEXT : SMOLQ__ROPE_SHORT_CONTEXT];
    opened->ropes[1] = &model->ropes[SMOLQ__ROPE_LOCAL];
    opened->ids = (int32_t *)(void *)(host + layout.ids);
    opened->kv = (smolq_kv_layer *)(void *)(host + layout.kv);
    opened->logits = (float *)(void *)(host + layout.logits);
    opened->device_block = base[SMOLQ__ON_DEVICE];
    opened->token = (int32_t *)(void *)(host + layout.token);
    opened->position = (int32_t *)(void *)(host + layout.position);
    opened->out_row = (int32_t *)(void *)(host + layout.out_row);
    opened->row_kv = (const smolq_kv_layer **)(void *)(host + layout.row_kv);
    opened->row_logits = (float **)(void *)(host + layout.row_logits);
    opened->row_top = (smolq_top **)(void *)(host + layout.row_top);
    smolq__context_runs(opened, &layout, base);
    smolq__context_cache(opened, &layout, base);
    *context = opened;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_context_close(smolq_context *context)
{
    if (!context) return;
    if (context->device_block) smolq__memory_of(context->model->device)->free(context->model->device->state, context->device_block);
    smolq__heap_close(&context->heap);
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
static smolq_result smolq__fork_layer(const smolq_device *device, const smolq_kv_layer *to, const smolq_kv_layer *from, int32_t n_head_kv, int32_t begin, int32_t end, smolq_error *err)
{
    smolq_result result = SMOLQ_OK;
    int32_t head, p, n;
    for (head = 0; head < n_head_kv; head++)
        for (p = begin; p < end && result == SMOLQ_OK; p += n) { /* runs that end in neither ring */
            int32_t cell_to = p % to->n_cells, cell_from = p % from->n_cells;
            uint64_t at_to = ((uint64_t)head * (uint64_t)to->n_cells + (uint64_t)cell_to) * to->head_row_bytes;
            uint64_t at_from = ((uint64_t)head * (uint64_t)from->n_cells + (uint64_t)cell_from) * from->head_row_bytes;
            n = end - p;
            if (n > to->n_cells - cell_to) n = to->n_cells - cell_to;
            if (n > from->n_cells - cell_from) n = from->n_cells - cell_from;
            result = smolq__device_copy(device, to->k + at_to, from->k + at_from, (uint64_t)n * to->head_row_bytes, err);
            if (result == SMOLQ_OK) result = smolq__device_copy(device, to->v + at_to, from->v + at_from, (uint64_t)n * to->head_row_bytes, err);
        }
    return result;
}

SMOLQ_API smolq_result smolq_context_fork(smolq_context *to, const smolq_context *from, smolq_error *err)
{
    smolq_result result = smolq__check_idle(to, err);
    const smolq_model *model;
    int32_t i;
    if (result == SMOLQ_OK) result = smolq__check_idle(from, err);
    if (result) return result;
    if (to == from) return SMOLQ_OK;
    if (to->model != from->model || to->kv_type != from->kv_type || to->ropes[0] != from->ropes[0])
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_context_fork: the contexts are of different models, KV types or rotations (a length beyond the original one has its own)");
    if (to->n_ctx < from->length)
        return smolq__fail(err, SMOLQ_E_CONTEXT_FULL, "smolq_context_fork: %d tokens into a context of %d", (int)from->length, (int)to->n_ctx);
    model = to->model;
    for (i = 0; i < model->arch.hp.n_layer && result == SMOLQ_OK; i++) {
        const smolq__layer *layer = &model->arch.layers[i];
        const smolq_device *device = model->stages.at[smolq__stage_of_layer(&model->stages, i)].device;
        result = smolq__fork_layer(device, &to->kv[i], &from->kv[i], layer->n_head_kv, layer->window ? from->lost : 0, from->ready, err);
    }
    if (result) { /* the device failed: what `to` held is fed again from its tokens */
        to->ready = to->lost = 0;
        return result;
    }
    memcpy(to->ids, from->ids, (size_t)from->length * sizeof *to->ids);
    if (from->has_logits) memcpy(to->logits, from->logits, (size_t)model->arch.hp.n_vocab * sizeof *to->logits);
    to->length = from->length;
    to->ready = from->ready;
    to->lost = from->lost;
    smolq__context_wrote(to, to->ready);
    smolq__context_settle(to);
    to->has_logits = from->has_logits;
    return SMOLQ_OK;
}

/* ---- evaluation ---- */

static smolq_result smolq__check_sample(const smolq_eval_item *item, int32_t i, smolq_error *err)
{
    int32_t n_vocab = item->context->model->arch.hp.n_vocab;
    if (!item->id) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: SMOLQ_LOGITS_SAMPLE needs an id to write", (int)i);
    if (item->sampler && item->sampler->n_vocab != n_vocab)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: a sampler for %d tokens, expected %d", (int)i, (int)item->sampler->n_vocab, (int)n_vocab);
    return SMOLQ_OK;
}

static smolq_result smolq__check_item(const smolq_eval_item *items, int32_t i, smolq_error *err)
{
    const smolq_eval_item *item = &items[i];
    const smolq_context *context = item->context;
    int32_t j, n_vocab;
    smolq_result result = smolq__check_idle(context, err);
    if (result) return result;
    if (context->model != items[0].context->model) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: a context of another model than item 0", (int)i);
    if (item->n_tokens < 1 || !item->tokens) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: %d tokens, expected 1 or more", (int)i, (int)item->n_tokens);
    if (item->want < SMOLQ_LOGITS_LAST || item->want > SMOLQ_LOGITS_SAMPLE) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: want is %d, expected SMOLQ_LOGITS_...", (int)i, (int)item->want);
    if (item->want == SMOLQ_LOGITS_ALL && !item->logits) return smolq__fail(err, SMOLQ_E_ARGUMENT, "item %d: SMOLQ_LOGITS_ALL needs a buffer", (int)i);
    if (item->want == SMOLQ_LOGITS_SAMPLE && (result = smolq__check_sample(item, i, err)) != SMOLQ_OK) return result;
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
    if (index >= 0 && (item->want == SMOLQ_LOGITS_ALL || (item->want != SMOLQ_LOGITS_NONE && index == item->n_tokens - 1))) {
        float *logits = item->logits && item->want != SMOLQ_LOGITS_SAMPLE ? item->logits : context->logits;
        first->out_row[run->n_out] = row;
        first->row_top[run->n_out] = item->want == SMOLQ_LOGITS_SAMPLE && smolq__ask_top(item->sampler, &context->top) ? &context->top : NULL;
        first->row_logits[run->n_out++] = item->want == SMOLQ_LOGITS_ALL ? logits + (size_t)index * n_vocab : logits;
    }
}

/* The batch begins at the beginning of a stage. */
static smolq_run *smolq__enter_stage(smolq_context *first, int32_t s)
{
    const smolq__stage *stage = &first->model->stages.at[s];
    smolq_run *run = &first->run[s];
    first->stage = s;
    run->op = stage->first_op;
    run->end_op = stage->end_op;
    run->unit = 0;
    run->numeric = 0;
    return run;
}

/* Fills the run with the next tokens of the items, as many as every context's rings have room for. */
static void smolq__next_batch(smolq_evaluation *e)
{
    smolq_context *first = e->items[0].context;
    smolq_run *run = smolq__enter_stage(first, 0);
    int32_t most = first->n_batch, i;
    for (i = 1; i < e->n_items; i++)
        if (e->items[i].context->n_batch < most) most = e->items[i].context->n_batch;
    run->n_rows = run->n_out = 0;
    while (run->n_rows < most && e->item < e->n_items) {
        smolq__add_row(run, first, &e->items[e->item], e->token++);
        if (e->token == e->items[e->item].n_tokens && ++e->item < e->n_items) e->token = smolq__first_token(&e->items[e->item]);
    }
}

/* The batch goes on in the next stage: its device gets the residual stream, of the rows that are left. */
static smolq_result smolq__hand_over(smolq_context *first, smolq_error *err)
{
    const smolq_run *from = &first->run[first->stage];
    smolq_run *to = smolq__enter_stage(first, first->stage + 1);
    int32_t n = to->program->ops[to->op].selected ? from->n_out : from->n_rows;
    to->n_rows = from->n_rows;
    to->n_out = from->n_out;
    return smolq__device_copy(first->model->stages.at[first->stage].device, to->buffer[SMOLQ_BUF_RESIDUAL], from->buffer[SMOLQ_BUF_RESIDUAL],
                              (uint64_t)n * to->program->row_bytes[SMOLQ_BUF_RESIDUAL], err);
}

/* Gives the devices of the first n stages back. */
static void smolq__release_devices(const smolq__stages *stages, int32_t n)
{
    while (n-- > 0) {
        const smolq_device *device = stages->at[n].device;
        if (device->backend->release) device->backend->release(device->state);
    }
}

/* Takes the devices of all stages for an evaluation, or none. */
static smolq_result smolq__acquire_devices(const smolq__stages *stages, int32_t no_wait, smolq_error *err)
{
    int32_t i;
    for (i = 0; i < stages->n; i++) {
        const smolq_device *device = stages->at[i].device;
        smolq_result result = device->backend->acquire ? device->backend->acquire(device->state, no_wait, err) : SMOLQ_OK;
        if (result) {
            smolq__release_devices(stages, i);
            return result;
        }
    }
    return SMOLQ_OK;
}

/* Ends the evaluation: the contexts are free again, and if it succeeded, longer. */
static void smolq__eval_end(smolq_evaluation *e, int success)
{
    const smolq__stages *stages = &e->items[0].context->model->stages;
    int32_t i;
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
    for (i = 0; i < e->n_items && success; i++) /* now that no token is read any more */
        if (e->items[i].want == SMOLQ_LOGITS_SAMPLE) *e->items[i].id = e->items[i].context->drawn;
    smolq__release_devices(stages, stages->n);
    e->active = 0;
}

SMOLQ_API smolq_result smolq_eval_begin(smolq_evaluation *e, const smolq_eval_item *items, int32_t n_items, const smolq_eval_options *options, smolq_error *err)
{
    smolq_evaluation begun;
    smolq_result result;
    SMOLQ__FP_STATE saved;
    int32_t i;
    memset(&begun, 0, sizeof begun);
    smolq__options(&begun.options, sizeof begun.options, options, sizeof begun.options);
    if (!e || !items || n_items < 1) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_eval: no items");
    for (i = 0; i < n_items; i++) {
        result = smolq__check_item(items, i, err);
        if (result) return result;
    }
    result = smolq__acquire_devices(&items[0].context->model->stages, (int32_t)begun.options.no_wait, err);
    if (result) return result;
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
    int32_t asked;    /* in this step: the first piece of work is always done, or a step that begins slowly would never get anywhere */
} smolq__pause;

static int smolq__should_pause(void *user)
{
    smolq__pause *pause = (smolq__pause *)user;
    if (pause->options->cancel && pause->options->cancel(pause->options->user)) pause->cancelled = 1;
    return pause->cancelled || (pause->deadline && pause->asked++ > 0 && smolq__now_us() >= pause->deadline);
}

/* Those that stayed on the device it has looked at. */
static int smolq__finite_logits(const smolq_run *run)
{
    int32_t i, j;
    for (i = 0; i < run->n_out; i++)
        for (j = 0; j < run->program->n_vocab && !(run->top[i] && run->top[i]->n); j++)
            if (!smolq_is_finite(run->logits[i][j])) return 0;
    return 1;
}

/* Every item that asks for a token gets one, but doesn't see it yet. */
static smolq_result smolq__draw_tokens(const smolq_evaluation *e, smolq_error *err)
{
    smolq_result result = SMOLQ_OK;
    int32_t i;
    for (i = 0; i < e->n_items && result == SMOLQ_OK; i++) {
        const smolq_eval_item *item = &e->items[i];
        smolq_context *context = item->context;
        if (item->want == SMOLQ_LOGITS_SAMPLE) result = smolq__sample_top(item->sampler, &context->top, context->logits, context->model->arch.hp.n_vocab, &context->drawn, err);
    }
    return result;
}

static smolq_result smolq__fail_cancelled(smolq_error *err) { return smolq__fail(err, SMOLQ_E_CANCELLED, "the evaluation was cancelled; its contexts are as before"); }

/* SMOLQ_VERIFY_LAZY: compares the tensors with their checksums.  Contexts that begin at once each do so. */
static smolq_result smolq__eval_verify(smolq_context *first, smolq__pause *pause, smolq_error *err)
{
    const smolq_gguf *gguf = first->model->gguf;
    smolq__reader reader = { NULL, NULL };
    uint64_t done;
    reader.file = &gguf->parts[0]->file;
    while (smolq__shared_get(&first->model->unverified)) {
        smolq_result result = smolq__verify_step(gguf, &reader, &first->verifying, gguf->facts.n_tensors, &done, err);
        if (result < 0) return result;
        if (result == SMOLQ_OK) smolq__shared_set(&first->model->unverified, 0);
        else if (smolq__should_pause(pause)) return pause->cancelled ? smolq__fail_cancelled(err) : (smolq_result)SMOLQ_MORE;
    }
    return SMOLQ_OK;
}

static smolq_result smolq__eval_work(smolq_evaluation *e, smolq__pause *pause, smolq_error *err)
{
    smolq_context *first = e->items[0].context;
    const smolq__stages *stages = &first->model->stages;
    smolq_result verified = smolq__eval_verify(first, pause, err);
    if (verified) return verified;
    for (;;) {
        smolq_run *run = &first->run[first->stage];
        const smolq_device *device = stages->at[first->stage].device;
        int last = first->stage == stages->n - 1;
        smolq_result result;
        run->pause = pause->options->cancel || pause->deadline ? smolq__should_pause : NULL;
        run->user = pause;
        result = device->backend->run(device->state, run, err);
        if (result) return result;
        if (pause->cancelled) return smolq__fail_cancelled(err);
        if (run->op < run->end_op) return SMOLQ_MORE;
        if (run->numeric || (last && !smolq__finite_logits(run)))
            return smolq__fail(err, SMOLQ_E_NUMERIC, "NaN or infinity in the activations or logits: the weights of the model are damaged or overflow");
        if (!last) {
            result = smolq__hand_over(first, err);
            if (result) return result;
        } else if (e->item == e->n_items) {
            return smolq__draw_tokens(e, err);
        } else {
            smolq__next_batch(e);
        }
    }
}

SMOLQ_API smolq_result smolq_eval_step(smolq_evaluation *e, int64_t budget_us, smolq_error *err)
{
    smolq__pause pause;
    smolq_result result;
    if (!e || !e->active) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_eval_step: no evaluation was begun, or it has ended");
    pause.options = &e->options;
    pause.deadline = budget_us > 0 ? smolq__now_us() + budget_us : 0;
    pause.cancelled = pause.asked = 0;
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
