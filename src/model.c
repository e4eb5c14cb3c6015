/* ==== model.c: opening a model ======================================================================================
 * Map the file, find the family, read the keys, bind the tensors, open the tokenizer, write the program, copy the weights to a device with memory of
 * its own.  Everything that can be wrong is found here, so that evaluation has nothing left to discover. */
#pragma once
#include "plan.c"
#include "tokenizer.c"

struct smolq_model {
    smolq__heap   heap;
    smolq_gguf   *gguf;
    smolq_vocab  *vocab;     /* on the heap; NULL if the file has none */
    smolq_device *device;
    int32_t       owns_device;
    int32_t       unverified; /* no evaluation has compared the tensors with their checksums yet, and the first one shall; by smolq__shared_get and _set */
    smolq_device *host;      /* owned: of the layers that device has no room for; else NULL */
    smolq__stages stages;
    smolq__arch   arch;
    smolq__rope   ropes[SMOLQ__ROPE_COUNT];
    smolq_program program;
    smolq_info    info;
    char          report[384];
};

/* "q4_k 70 %, q6_k 30 %": the types that hold most bytes. */
static void smolq__census(const smolq_gguf *gguf, smolq_info *info)
{
    uint64_t bytes[64], i, n = smolq_gguf_info(gguf)->n_tensors;
    size_t used = 0;
    int32_t shown;
    memset(bytes, 0, sizeof bytes);
    for (i = 0; i < n; i++) {
        smolq_tensor_info tensor;
        if (smolq_gguf_tensor(gguf, i, &tensor, NULL)) continue;
        info->n_parameters += tensor.ne[0] * tensor.ne[1] * tensor.ne[2] * tensor.ne[3];
        if (tensor.type >= 0 && tensor.type < 64) bytes[tensor.type] += tensor.bytes;
    }
    for (shown = 0; shown < 3; shown++) {
        int32_t t, most = 0;
        double percent;
        for (t = 1; t < 64; t++)
            if (bytes[t] > bytes[most]) most = t;
        if (bytes[most] == 0 || used + 24 > sizeof info->types) break;
        percent = 100.0 * (double)bytes[most] / (double)smolq_gguf_info(gguf)->tensor_bytes;
        if (shown && percent < 1) break;
        used += (size_t)snprintf(info->types + used, sizeof info->types - used, "%s%s %.0f %%", shown ? ", " : "", smolq_type_info(most)->name, percent);
        bytes[most] = 0;
    }
}

static void smolq__copy_text(char *out, size_t capacity, const smolq_gguf *gguf, const char *key)
{
    smolq__text text;
    smolq__quoted quoted;
    if (smolq__get_text(gguf, key, &text, NULL) == 1) snprintf(out, capacity, "%s", smolq__quote(&quoted, text.p, text.n));
}

/* What can be said of any GGUF, then what the family's tables found. */
static void smolq__info_file(smolq_info *info, const smolq_gguf *gguf)
{
    const smolq_gguf_facts *facts = smolq_gguf_info(gguf);
    memset(info, 0, sizeof *info);
    info->size = sizeof *info;
    smolq__copy_text(info->family, sizeof info->family, gguf, "general.architecture");
    smolq__copy_text(info->name, sizeof info->name, gguf, "general.name");
    info->n_tensors = (uint32_t)facts->n_tensors;
    info->file_bytes = facts->file_bytes;
    info->tensor_bytes = facts->tensor_bytes;
    info->mapped_bytes = facts->mapped_bytes;
    smolq__census(gguf, info);
}

static void smolq__info_arch(smolq_info *info, const smolq_gguf *gguf, const smolq__arch *arch)
{
    const smolq__hparams *hp = &arch->hp;
    uint64_t i, n_keys = 0;
    info->n_layer = hp->n_layer;
    info->n_embd = hp->n_embd;
    info->head_dim = hp->head_dim;
    info->n_vocab = hp->n_vocab;
    info->n_expert = hp->n_expert;
    info->n_expert_used = hp->n_expert_used;
    info->n_ctx_train = hp->n_ctx_train;
    if (arch->layers) {
        info->n_head = arch->layers[0].n_head;
        info->n_head_kv = arch->layers[0].n_head_kv;
        info->n_ff = smolq__has_experts(arch) ? hp->n_ff_expert : arch->layers[0].n_ff;
    }
    info->n_tensors_used = arch->n_bound;
    info->n_tensors_quantized = arch->n_quantized;
    info->n_tensors_float = arch->n_bound - arch->n_quantized;
    info->n_tensors_unused = info->n_tensors > arch->n_bound ? info->n_tensors - arch->n_bound : 0;
    for (i = 0; i < smolq_gguf_info(gguf)->n_pairs; i++) { /* general.* and tokenizer.* speak to people and to the tokenizer */
        smolq_pair pair;
        if (smolq_gguf_pair(gguf, i, &pair, NULL) == SMOLQ_OK && !(pair.key_bytes > 8 && memcmp(pair.key, "general.", 8) == 0) &&
            !(pair.key_bytes > 10 && memcmp(pair.key, "tokenizer.", 10) == 0))
            n_keys++;
    }
    info->n_keys_unused = n_keys + 1 > arch->n_keys_used ? (uint32_t)(n_keys + 1 - arch->n_keys_used) : 0; /* general.architecture is used */
}

/* What is in a device's own memory. */
static void smolq__info_stages(smolq_info *info, const smolq__stages *stages, const smolq_program *program)
{
    const smolq__stage *last = &stages->at[stages->n - 1];
    const smolq_backend_memory *memory = smolq__memory_of(last->device);
    info->host_layers = stages->host_layers;
    info->device_bytes = memory ? memory->load_bytes(last->device->state, program, (int32_t)last->first_op) : 0;
}

/* ---- open ---- */

/* A device of its own for the model, or for its first layers. */
static smolq_result smolq__open_own_device(const smolq_backend *backend, const smolq_open_options *options, smolq_device **device, smolq_error *err)
{
    smolq_device_options mine;
    smolq__options(&mine, sizeof mine, options->device_options, (uint32_t)sizeof mine);
    mine.size = sizeof mine;
    if (!mine.allocator.alloc) mine.allocator = options->allocator;
    return smolq_device_open(backend, &mine, device, err);
}

/* Compares the tensors with their checksums, if that is wanted and has not been done as they were read; or leaves it to the first evaluation. */
static smolq_result smolq__model_verify(smolq_model *model, const smolq_open_options *options, smolq_error *err)
{
    smolq_smq_options mine;
    if (!smolq__gguf_smq(model->gguf) || options->verify == SMOLQ_VERIFY_ASKED || !model->gguf->parts[0]->file.data) return SMOLQ_OK;
    if (options->verify == SMOLQ_VERIFY_LAZY && !smolq__memory_of(model->device)) {
        model->unverified = 1;
        return SMOLQ_OK;
    }
    memset(&mine, 0, sizeof mine);
    mine.allocator = options->allocator;
    mine.progress = options->progress;
    mine.user = options->user;
    return smolq__verify_tensors(model->gguf, 0, model->gguf->facts.n_tensors, &mine, err);
}

/* Decides who computes what, and brings the weights there. */
static smolq_result smolq__model_place(smolq_model *model, const smolq_open_options *options, smolq_error *err)
{
    smolq__stage *last;
    const smolq_backend_memory *memory = smolq__memory_of(model->device);
    smolq_result result = smolq__place_layers(&model->arch, &model->program, model->device, options, &model->stages, err);
    if (result || !memory) return result;
    last = &model->stages.at[model->stages.n - 1];
    if (model->stages.n > 1) {
        result = smolq__open_own_device(options->host_backend, options, &model->host, err);
        if (result) return result;
        if (smolq__memory_of(model->host)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "host_backend '%s' does not compute in the host's memory", model->host->backend->name);
        model->stages.at[0].device = model->host;
    }
    return memory->load(last->device->state, &model->program, (int32_t)last->first_op, options->progress, options->user, &last->loaded, err);
}

static smolq_result smolq__model_load(smolq_model *model, const char *path, const smolq_open_options *options, smolq_error *err)
{
    smolq_error no_vocab;
    smolq_result result = smolq_gguf_open(path, options, &model->gguf, err);
    int64_t n_tokens;
    if (result) return result;
    result = smolq__arch_load(&model->arch, &model->heap, model->gguf, &options->limits, err);
    if (result) return result;
    if (!model->arch.global.tensor[SMOLQ__T_TOKEN_EMBD].data) { /* IO that can't map: checked first, read then, bound again to where the tensors now are */
        result = smolq__gguf_load_tensors(model->gguf, options, err);
        smolq__free(&model->heap, model->arch.layers);
        if (result == SMOLQ_OK) result = smolq__arch_load(&model->arch, &model->heap, model->gguf, &options->limits, err);
        if (result) return result;
    }
    result = smolq__vocab_load(&model->heap, model->gguf, options, 0, &model->vocab, &no_vocab);
    if (result && result != SMOLQ_E_MISSING) return smolq__fail(err, result, "%s", no_vocab.text);
    n_tokens = model->vocab ? smolq_vocab_size(model->vocab) : 0;
    if (n_tokens > model->arch.hp.n_vocab)
        return smolq__fail(err, SMOLQ_E_SHAPE, "the vocabulary has %lld tokens, token_embd.weight rows for %d", (long long)n_tokens, (int)model->arch.hp.n_vocab);
    if (!smolq__rope_open(model->ropes, &model->heap, &model->arch) || !smolq__program_open(&model->program, &model->heap, &model->arch))
        return smolq__fail_memory(&model->heap, err, "the program");
    model->device = options->device;
    if (!model->device) {
        result = smolq__open_own_device(options->backend, options, &model->device, err);
        if (result) return result;
        model->owns_device = 1;
    }
    result = smolq__model_verify(model, options, err);
    return result ? result : smolq__model_place(model, options, err);
}

/* "loaded 326/326 tensors: 253 quantized, 73 float; 1.78 GiB mapped, 0 B dequantized; cpu: avx2, 2 threads; exact=yes; 41 ms" */
static void smolq__write_report(smolq_model *model)
{
    const smolq_info *info = &model->info;
    char device[64] = "";
    double mapped = (double)info->mapped_bytes / (info->mapped_bytes >> 30 ? 1 << 30 : 1 << 20);
    if (smolq__memory_of(model->device))
        snprintf(device, sizeof device, "device: %d of %d layers, %.2f GiB; ", (int)(info->n_layer - info->host_layers), (int)info->n_layer, (double)info->device_bytes / (1 << 30));
    snprintf(model->report, sizeof model->report, "loaded %u/%u tensors: %u quantized, %u float; %.2f %s mapped, %llu B dequantized; %s; %sexact=%s; %.0f ms",
             (unsigned)info->n_tensors_used, (unsigned)info->n_tensors, (unsigned)info->n_tensors_quantized, (unsigned)info->n_tensors_float, mapped,
             info->mapped_bytes >> 30 ? "GiB" : "MiB", (unsigned long long)info->dequantized_bytes, smolq_device_report(model->device), device, info->exact ? "yes" : "no", info->open_ms);
}

SMOLQ_API smolq_result smolq_open(const char *path, const smolq_open_options *options, smolq_model **model, smolq_error *err)
{
    smolq_open_options mine;
    smolq__heap heap;
    smolq_model *opened;
    smolq_result result;
    SMOLQ__FP_STATE saved;
    int32_t exact;
    int64_t begin = smolq__now_us();
    if (!model) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_open: model is NULL");
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    if (mine.verify < SMOLQ_VERIFY_ASKED || mine.verify > SMOLQ_VERIFY_OPEN) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_open: verify is %d, expected SMOLQ_VERIFY_...", (int)mine.verify);
    smolq__heap_init(&heap, &mine.allocator, mine.limits.memory);
    opened = (smolq_model *)smolq__alloc(&heap, sizeof *opened);
    if (!opened) return smolq__fail_memory(&heap, err, "the model");
    opened->heap = heap;
    saved = smolq__fp_enter();
    result = smolq__model_load(opened, path, &mine, err);
    exact = result ? 0 : smolq__self_test();
    smolq__fp_leave(saved);
    if (result) {
        smolq_close(opened);
        return result;
    }
    smolq__info_file(&opened->info, opened->gguf);
    smolq__info_arch(&opened->info, opened->gguf, &opened->arch);
    opened->info.runnable = 1;
    smolq__info_stages(&opened->info, &opened->stages, &opened->program);
    opened->info.exact = exact && opened->device->exact && (!opened->host || opened->host->exact);
    opened->info.table_bytes = opened->heap.used + opened->gguf->heap.used;
    opened->info.open_ms = (double)(smolq__now_us() - begin) / 1000;
    smolq__write_report(opened);
    if (mine.log) (mine.log)(mine.user, SMOLQ_LOG_INFO, opened->report);
    *model = opened;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_close(smolq_model *model)
{
    const smolq__stage *last;
    if (!model) return;
    last = &model->stages.at[model->stages.n > 1];
    if (last->loaded) smolq__memory_of(last->device)->unload(last->device->state, last->loaded);
    smolq_device_close(model->host);
    if (model->owns_device) smolq_device_close(model->device);
    smolq_gguf_close(model->gguf);
    smolq__heap_close(&model->heap);
}

SMOLQ_API const smolq_info  *smolq_model_info(const smolq_model *model) { return &model->info; }
SMOLQ_API const char        *smolq_model_report(const smolq_model *model) { return model->report; }
SMOLQ_API const smolq_gguf  *smolq_model_gguf(const smolq_model *model) { return model->gguf; }
SMOLQ_API const smolq_vocab *smolq_model_vocab(const smolq_model *model) { return model->vocab; }
