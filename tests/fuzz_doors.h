/* The doors that a model file goes through in the fuzz targets: listed, its text cut into tokens, a context of 8 tokens evaluated.  Included behind smolq.h and fuzz.h. */
#ifndef SMOLQ_FUZZ_DOORS_H
#define SMOLQ_FUZZ_DOORS_H

/* A source that is read. */
typedef struct file { const uint8_t *p; size_t n; } file;
static int file_read(void *user, uint64_t offset, void *dst, size_t n)
{
    const file *f = (const file *)user;
    MUST(offset <= f->n && n <= f->n - offset);
    memcpy(dst, f->p + offset, n);
    return 0;
}

/* Everything that the file says of itself.  lazy: elements of arrays were not checked when it opened. */
static void walk(const smolq_gguf *gguf, int lazy)
{
    const smolq_gguf_facts *facts = smolq_gguf_info(gguf);
    uint64_t i, j, cursor;
    for (i = 0; i < facts->n_pairs; i++) {
        smolq_pair pair;
        smolq_value element;
        MUST(smolq_gguf_pair(gguf, i, &pair, NULL) == SMOLQ_OK);
        if (pair.value.type != SMOLQ_GGUF_ARRAY) continue;
        for (cursor = 0, j = 0; j < pair.value.n && j < 1000; j++) {
            smolq_result result = smolq_gguf_element(&pair.value, j, &cursor, &element, NULL);
            MUST(result == SMOLQ_OK || lazy);
            if (result) break;
        }
    }
    for (i = 0; i < facts->n_tensors; i++) {
        smolq_tensor_info tensor;
        uint8_t bytes[16];
        float values[256];
        size_t n;
        MUST(smolq_gguf_tensor(gguf, i, &tensor, NULL) == SMOLQ_OK);
        n = tensor.bytes < 16 ? (size_t)tensor.bytes : 16;
        MUST(smolq_gguf_read(gguf, &tensor, tensor.bytes - n, bytes, n, NULL) == SMOLQ_OK);
        n = (size_t)smolq_type_info(tensor.type)->block_weights;
        if (tensor.data && tensor.bytes && n <= 256) smolq_unpack(tensor.type, tensor.data, values, n, NULL);
    }
}

static void use_vocab(const smolq_vocab *vocab)
{
    static const char text[] = "the end of\tthe <|im_start|>story\n\n\303\251 1234\377";
    smolq_message message = { "user", text, sizeof text - 1 };
    int32_t ids[256];
    char out[1024];
    size_t n, bytes, flags;
    smolq_error err;
    for (flags = 0; flags < 8; flags++) {
        smolq_result result = smolq_tokenize(vocab, text, sizeof text - 1, (int32_t)flags, ids, 256, &n, &err);
        if (result) { must_refuse(result, &err); continue; }
        result = smolq_detokenize(vocab, ids, n, SMOLQ_SHOW_SPECIAL, out, sizeof out, &bytes, &err);
        if (result) must_refuse(result, &err);
    }
    if (smolq_chat_tokenize(vocab, &message, 1, NULL, ids, 256, &n, &err)) must_refuse(err.code, &err);
}

static void use_model(smolq_model *model, const smolq_open_options *options, int kv)
{
    smolq_context_options c;
    smolq_context *context = NULL;
    smolq_error err;
    smolq_result result;
    int32_t n_vocab = smolq_model_info(model)->n_vocab, ids[2], i, j;
    memset(&c, 0, sizeof c);
    c.size = sizeof c;
    c.n_ctx = 8;
    c.n_batch = 1 + (kv >> 2);
    c.kv_type = kv & 3;
    c.allocator = options->allocator;
    c.max_bytes = 16 << 20;
    if (smolq_model_vocab(model)) use_vocab(smolq_model_vocab(model));
    result = smolq_context_open(model, &c, &context, &err);
    if (result) { must_refuse(result, &err); return; }
    ids[0] = n_vocab - 1;
    ids[1] = 0;
    for (i = 0; i < 2; i++) {
        smolq_eval_item item = { NULL, NULL, 2, SMOLQ_LOGITS_LAST, NULL, NULL, NULL };
        item.context = context;
        item.tokens = ids;
        result = smolq_eval(&item, 1, NULL, &err);
        MUST(smolq_context_length(context) == (result ? 0 : 2 * i + 2) || (result && i == 1));
        if (result) { must_refuse(result, &err); break; }
        for (j = 0; j < n_vocab; j++) MUST(smolq_is_finite(smolq_context_logits(context)[j]));
    }
    smolq_context_close(context);
}

/* The file through every door: gguf, probe, vocabulary, model; whatever opens is used, and closed again nothing is left.
 *     with     limits and verify of the options
 *     fail_at  the allocation that fails, 0: none;   number  of the KV cache, see use_model
 *     also     what else is done with a gguf whose elements of arrays are checked late; NULL for a file of which all is checked when it opens */
static void through_doors(const file *f, const smolq_open_options *with, int by_read, size_t memory, long fail_at, int number, void (*also)(const smolq_gguf *gguf))
{
    int door;
    for (door = 0; door < 4; door++) {
        fuzz_meter meter;
        smolq_open_options o = *with;
        smolq_device_options device;
        smolq_source source;
        smolq_gguf *gguf = NULL;
        smolq_vocab *vocab = NULL;
        smolq_model *model = NULL;
        smolq_info info;
        smolq_error err;
        smolq_result result;
        memset(&device, 0, sizeof device);
        memset(&source, 0, sizeof source);
        memset(&info, 0, sizeof info);
        source.size = f->n;
        if (by_read) source.read = file_read;
        else source.data = f->p;
        source.user = (void *)f;
        o.size = sizeof o;
        o.n_sources = 1;
        o.sources = &source;
        o.allocator = fuzz_allocator(&meter, memory);
        o.device_options = &device;
        device.size = sizeof device;
        meter.fail_at = fail_at;
        switch (door) {
        case 0:  result = smolq_gguf_open(NULL, &o, &gguf, &err); break;
        case 1:  result = smolq_probe(NULL, &o, &info, &err); break;
        case 2:  result = smolq_vocab_open(NULL, &o, &vocab, &err); break;
        default: result = smolq_open(NULL, &o, &model, &err); break;
        }
        if (result) {
            must_refuse(result, &err);
            MUST(!gguf && !vocab && !model && meter.now == 0);
            MUST(meter.peak <= 4 * f->n + (16u << 20));
        }
        if (gguf) {
            size_t held = meter.now;
            walk(gguf, also != NULL);
            if (also) also(gguf);
            MUST(meter.now == held);
        }
        if (vocab) use_vocab(vocab);
        if (model) use_model(model, &o, number);
        smolq_gguf_close(gguf);
        smolq_vocab_close(vocab);
        smolq_close(model);
        MUST(meter.now == 0);
    }
}

#endif
