/* peak: what cores can multiply at most, to hold prefill and attention of docs/performance.md against.
 *
 *     cc -O2 tools/peak.c -o build/peak -lpthread && build/peak
 *
 * Twelve independent registers, more than latency times the units that exist, are multiplied and added in a loop without memory: floats by
 * vfmadd (512 bits, else 256), bytes by vpdpbusd where there is AVX-512 VNNI.  Multiply-adds per second, in 1e9, of one thread and of all. */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { REGISTERS = 12, ROUNDS = 40000000, MAX_THREADS = 256 };
#define EACH _Pragma("GCC unroll 12") for (i = 0; i < REGISTERS; i++)
#define KEEP(x) __asm__ volatile("" : "+v"(x)) /* neither dropped nor merged */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

__attribute__((target("avx512f"))) static void floats_512(void)
{
    __m512 x[REGISTERS], y = _mm512_set1_ps(0.999f), z = _mm512_set1_ps(0.5f);
    long n;
    int i;
    EACH x[i] = _mm512_set1_ps((float)i);
    for (n = 0; n < ROUNDS; n++) {
        EACH x[i] = _mm512_fmadd_ps(x[i], y, z);
        EACH KEEP(x[i]);
    }
}
__attribute__((target("avx2,fma"))) static void floats_256(void)
{
    __m256 x[REGISTERS], y = _mm256_set1_ps(0.999f), z = _mm256_set1_ps(0.5f);
    long n;
    int i;
    EACH x[i] = _mm256_set1_ps((float)i);
    for (n = 0; n < ROUNDS; n++) {
        EACH x[i] = _mm256_fmadd_ps(x[i], y, z);
        EACH KEEP(x[i]);
    }
}
__attribute__((target("avx512f,avx512vnni"))) static void bytes_512(void)
{
    __m512i x[REGISTERS], y = _mm512_set1_epi8(3);
    long n;
    int i;
    EACH x[i] = _mm512_setzero_si512();
    for (n = 0; n < ROUNDS; n++) {
        EACH x[i] = _mm512_dpbusd_epi32(x[i], y, y);
        EACH KEEP(x[i]);
    }
}

static void (*loop)(void);
static void *thread(void *arg)
{
    loop();
    return arg;
}

static double rate(void (*of)(void), int n_threads, double per_register)
{
    pthread_t threads[MAX_THREADS];
    double start = seconds();
    int i;
    loop = of;
    for (i = 0; i < n_threads; i++) pthread_create(&threads[i], NULL, thread, NULL);
    for (i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    return (double)n_threads * ROUNDS * REGISTERS * per_register / (seconds() - start) / 1e9;
}

int main(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int counts[2] = { 1, online < 1 ? 1 : online > MAX_THREADS ? MAX_THREADS : (int)online }, i;
    int wide = __builtin_cpu_supports("avx512f"), bytes = wide && __builtin_cpu_supports("avx512vnni");
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return printf("no AVX2\n"), 1;
    for (i = 0; i < 2; i++) {
        printf("%3d thread%s floats %.0f", counts[i], counts[i] == 1 ? ": " : "s:", rate(wide ? floats_512 : floats_256, counts[i], wide ? 16 : 8));
        if (bytes) printf(", bytes %.0f", rate(bytes_512, counts[i], 64));
        printf("\n");
    }
    return 0;
}
