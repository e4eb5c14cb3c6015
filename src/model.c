/* ==== model.c: opening a model ======================================================================================
 * Map the file, find the family, read the keys, bind the tensors, open the tokenizer, write the program.  Everything that can be wrong is
 * found here, so that evaluation has nothing left to discover. */
#pragma once
#include "device.c"
#include "tokenizer.c"

struct smolq_model {
    smolq__heap   heap;
    smolq_gguf   *gguf;
    smolq_vocab  *vocab;     /* on the heap; NULL if the file has none */
    smolq_device *device;
    int32_t       owns_device;
    smolq__arch   arch;
    smolq__rope   ropes[SMOLQ__ROPE_COUNT];
    smolq_program program;
    smolq_info    info;
    char          report[256];
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

/* ---- open ---- */

static smolq_result smolq__model_load(smolq_model *model, const char *path, const smolq_open_options *options, smolq_error *err)
{
    smolq_error no_vocab;
    smolq_result result = smolq_gguf_open(path, options, &model->gguf, err);
    smolq_device_options device;
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
    result = smolq__vocab_load(&model->heap, model->gguf, options, &model->vocab, &no_vocab);
    if (result && result != SMOLQ_E_MISSING) return smolq__fail(err, result, "%s", no_vocab.text);
    n_tokens = model->vocab ? smolq_vocab_size(model->vocab) : 0;
    if (n_tokens > model->arch.hp.n_vocab)
        return smolq__fail(err, SMOLQ_E_SHAPE, "the vocabulary has %lld tokens, token_embd.weight rows for %d", (long long)n_tokens, (int)model->arch.hp.n_vocab);
    if (!smolq__rope_open(model->ropes, &model->heap, &model->arch) || !smolq__program_open(&model->program, &model->heap, &model->arch))
        return smolq__fail_memory(&model->heap, err, "the program");
    if (options->device) {
        model->device = options->device;
        return SMOLQ_OK;
    }
    smolq__options(&device, sizeof device, options->device_options, (uint32_t)sizeof device);
    device.size = sizeof device;
    if (!device.allocator.alloc) device.allocator = options->allocator;
    result = smolq_device_open(options->backend, &device, &model->device, err);
    model->owns_device = result == SMOLQ_OK;
    return result;
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
    opened->info.exact = exact && opened->device->exact;
    opened->info.table_bytes = opened->heap.used + opened->gguf->heap.used;
    opened->info.open_ms = (double)(smolq__now_us() - begin) / 1000;
    snprintf(opened->report, sizeof opened->report, "loaded %u/%u tensors: %u quantized, %u float; %.2f %s mapped, %llu B dequantized; %s; exact=%s; %.0f ms",
             (unsigned)opened->info.n_tensors_used, (unsigned)opened->info.n_tensors, (unsigned)opened->info.n_tensors_quantized, (unsigned)opened->info.n_tensors_float,
             (double)opened->info.mapped_bytes / (opened->info.mapped_bytes >> 30 ? 1 << 30 : 1 << 20), opened->info.mapped_bytes >> 30 ? "GiB" : "MiB", (unsigned long long)opened->info.dequantized_bytes, smolq_device_report(opened->device),
             opened->info.exact ? "yes" : "no", opened->info.open_ms);
    if (mine.log) (mine.log)(mine.user, SMOLQ_LOG_INFO, opened->report);
    *model = opened;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_close(smolq_model *model)
{
    if (!model) return;
    if (model->owns_device) smolq_device_close(model->device);
    smolq_gguf_close(model->gguf);
    smolq__heap_close(&model->heap);
}

SMOLQ_API const smolq_info  *smolq_model_info(const smolq_model *model) { return &model->info; }
SMOLQ_API const char        *smolq_model_report(const smolq_model *model) { return model->report; }
SMOLQ_API const smolq_gguf  *smolq_model_gguf(const smolq_model *model) { return model->gguf; }
SMOLQ_API const smolq_vocab *smolq_model_vocab(const smolq_model *model) { return model->vocab; }
