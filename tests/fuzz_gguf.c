/* clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -I. tests/fuzz_gguf.c -o fuzz_gguf -lm
 *
 * The input is a GGUF file; what follows the last tensor is allowed to be anything, so the last byte holds options.  The file goes through
 * every door: open, probe, vocabulary, model; if that opens, a context of 8 tokens, two of them evaluated, and a short text. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "fuzz.h"
#include "fuzz_doors.h"

enum { BY_READ = 1, SMALL_MEMORY = 2, FAIL_ONE = 4, SMALL_LIMITS = 8 /* the upper four bits: the type of the KV cache, or how much memory, or which call fails */ };
enum { MEMORY = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int flags = size ? data[size - 1] : 0, number = flags >> 4;
    smolq_open_options with;
    file f;
    f.p = data;
    f.n = size;
    memset(&with, 0, sizeof with);
    if (flags & SMALL_LIMITS) {
        with.limits.n_keys = 20;
        with.limits.n_tensors = 15;
        with.limits.n_layer = 2;
        with.limits.n_vocab = 50;
    }
    through_doors(&f, &with, flags & BY_READ, flags & SMALL_MEMORY ? (size_t)1000 << number : MEMORY, flags & FAIL_ONE ? number + 1 : 0, number, NULL);
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
