/* clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -I. tests/fuzz_gguf.c -o fuzz_gguf -lm
 *
 * The input is a GGUF file; what follows the last tensor is allowed to be anything, so the last byte holds options.  The file goes through
 * every door: open, probe, vocabulary, model; if that opens, a context of 8 tokens, two of them evaluated, and a short text. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "fuzz.h"

enum { BY_READ = 1, SMALL_MEMORY = 2, FAIL_ONE = 4, SMALL_LIMITS = 8 /* the upper four bits: the type of the KV cache, or how much memory, or which call fails */ };
enum { MEMORY = 64 << 20 };

typedef struct file { const uint8_t *p; size_t n; } file;
static int file_read(void *user, uint64_t offset, void *dst, size_t n)
{
    const file *f = (const file *)user;
    MUST(offset <= f->n && n <= f->n - offset);
    memcpy(dst, f->p + offset, n);
    return 0;
}

static void walk(const smolq_gguf *gguf)
{
    const smolq_gguf_facts *facts = smolq_gguf_info(gguf);
    uint64_t i, j, cursor;
    for (i = 0; i < facts->n_pairs; i++) {
        smolq_pair pair;
        smolq_value element;
        MUST(smolq_gguf_pair(gguf, i, &pair, NULL) == SMOLQ_OK);
        if (pair.value.type != SMOLQ_GGUF_ARRAY) continue;
        for (cursor = 0, j = 0; j < pair.value.n && j < 1000; j++) MUST(smolq_gguf_element(&pair.value, j, &cursor, &element, NULL) == SMOLQ_OK);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int flags = size ? data[size - 1] : 0, number = flags >> 4, door;
    file f;
    f.p = data;
    f.n = size;
    for (door = 0; door < 4; door++) {
        fuzz_meter meter;
        smolq_open_options o;
        smolq_device_options device;
        smolq_source source;
        smolq_gguf *gguf = NULL;
        smolq_vocab *vocab = NULL;
        smolq_model *model = NULL;
        smolq_info info;
        smolq_error err;
        smolq_result result = SMOLQ_OK;
        memset(&o, 0, sizeof o);
        memset(&device, 0, sizeof device);
        memset(&source, 0, sizeof source);
        memset(&info, 0, sizeof info);
        source.size = size;
        if (flags & BY_READ) source.read = file_read;
        else source.data = data;
        source.user = &f;
        o.size = sizeof o;
        o.n_sources = 1;
        o.sources = &source;
        o.allocator = fuzz_allocator(&meter, flags & SMALL_MEMORY ? (size_t)1000 << number : MEMORY);
        o.device_options = &device;
        device.size = sizeof device;
        if (flags & FAIL_ONE) meter.fail_at = number + 1;
        if (flags & SMALL_LIMITS) {
            o.limits.n_keys = 20;
            o.limits.n_tensors = 15;
            o.limits.n_layer = 2;
            o.limits.n_vocab = 50;
        }
        switch (door) {
        case 0:  result = smolq_gguf_open(NULL, &o, &gguf, &err); break;
        case 1:  result = smolq_probe(NULL, &o, &info, &err); break;
        case 2:  result = smolq_vocab_open(NULL, &o, &vocab, &err); break;
        default: result = smolq_open(NULL, &o, &model, &err); break;
        }
        if (result) {
            must_refuse(result, &err);
            MUST(!gguf && !vocab && !model && meter.now == 0);
            MUST(meter.peak <= 4 * size + (16u << 20));
        }
        if (gguf) walk(gguf);
        if (vocab) use_vocab(vocab);
        if (model) use_model(model, &o, number);
        smolq_gguf_close(gguf);
        smolq_vocab_close(vocab);
        smolq_close(model);
        MUST(meter.now == 0);
    }
    return 0;
}

#ifndef FUZZ_REPLAY
/* Half of the mutations know the format: they put a telling number where a count, a length, a dimension or a value may stand. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    static const uint64_t numbers[] = { 0, 1, 2, 3, 4, 7, 8, 9, 10, 12, 13, 16, 24, 31, 32, 33, 64, 65, 127, 128, 255, 256, 512, 1024, 65535, 65536,
                                        0x7fffffff, 0x80000000u, 0xffffffffu, 0x100000000u, 0x7fffffffffffffffu, 0x8000000000000000u,
                                        0xffffffffffffffffu, 0x3f800000, 0x7f800000, 0x7fc00000, 0xff800000u, 0x7f7fffff, 0x7149f2ca };
    uint64_t random = seed * 0x9e3779b97f4a7c15u + 1, at, number;
    int bytes, i;
    random ^= random >> 29;
    random *= 0xbf58476d1ce4e5b9u;
    random ^= random >> 32;
    if (random & 1 || size < 16) return LLVMFuzzerMutate(data, size, most);
    at = (random >> 8) % (size - 8);
    bytes = 1 << (random >> 2 & 3);
    number = numbers[(random >> 40) % (sizeof numbers / sizeof *numbers)];
    if (random & 2) { /* a small step from what is there */
        for (number = 0, i = 0; i < bytes; i++) number |= (uint64_t)data[at + (uint64_t)i] << 8 * i;
        number += (random >> 48 & 15) - 8;
    }
    for (i = 0; i < bytes; i++) data[at + (uint64_t)i] = (uint8_t)(number >> 8 * i);
    return size;
}
#endif
