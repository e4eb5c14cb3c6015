/* What the fuzz targets share: checks that end the program, an allocator that counts and can run out, and, with -DFUZZ_REPLAY, a main that replays the files
 * named on the command line, for compilers without libFuzzer. */
#ifndef SMOLQ_FUZZ_H
#define SMOLQ_FUZZ_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(condition) do { if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); abort(); } } while (0)

typedef struct fuzz_meter { size_t now, peak, most; long n_calls, fail_at; } fuzz_meter; /* most: bytes it has; fail_at: the call that gets nothing, 0: none */

static void *fuzz_alloc(void *user, size_t n)
{
    fuzz_meter *m = (fuzz_meter *)user;
    void *p = ++m->n_calls == m->fail_at || n > m->most - m->now ? NULL : malloc(n);
    if (!p) return NULL;
    m->now += n;
    if (m->now > m->peak) m->peak = m->now;
    return p;
}
static void fuzz_release(void *user, void *p, size_t n)
{
    ((fuzz_meter *)user)->now -= n;
    free(p);
}
static smolq_allocator fuzz_allocator(fuzz_meter *m, size_t most)
{
    smolq_allocator a;
    memset(m, 0, sizeof *m);
    m->most = most;
    a.alloc = fuzz_alloc;
    a.release = fuzz_release;
    a.user = m;
    return a;
}

/* An error says its code and a sentence without control bytes. */
static void must_refuse(smolq_result result, const smolq_error *err)
{
    const char *p = err->text;
    MUST(result < 0 && err->code == result && strlen(p) >= 10);
    for (; *p; p++) MUST((unsigned char)*p >= 32 && *p != 127);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef FUZZ_REPLAY
int main(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        uint8_t *data = NULL;
        long n;
        if (!f || fseek(f, 0, SEEK_END) || (n = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) || !(data = (uint8_t *)malloc(n ? (size_t)n : 1)) ||
            fread(data, 1, (size_t)n, f) != (size_t)n) {
            fprintf(stderr, "can't read %s\n", argv[i]);
            return 2;
        }
        fclose(f);
        LLVMFuzzerTestOneInput(data, (size_t)n);
        free(data);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}
#else
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most); /* of libFuzzer, for our own mutators */
#endif
#endif
