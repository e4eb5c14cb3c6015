/* The control of bench on a GPU: how fast device memory is read by a kernel that does nothing else.
 *
 * Each thread reads 16 bytes at a time, several of them before it adds them up, far apart from each other.  How many at once, and how many blocks, is what manners differ in; bench takes
 * the fastest.  tests/cuda_shim.h can run it on the CPU. */
#include <stddef.h>
#include <stdint.h>
#ifndef SMOLQ_CUDA_SHIM
#  include <cuda_runtime.h>
#  define BENCH_LAUNCH(kernel, grid, block, ...) (kernel)<<<(grid), (block)>>>(__VA_ARGS__)
#else
#  define BENCH_LAUNCH(kernel, grid, block, ...) SMOLQ__CUDA_LAUNCH(kernel, grid, block, 0, nullptr, __VA_ARGS__)
#endif

extern "C" {
void *bench_cuda_open(uint64_t bytes);                  /* as many bytes of device memory, or less of it read again and again; NULL: there is no room or no GPU */
int   bench_cuda_manners(void);
int   bench_cuda_read(void *reader, int manner, int passes); /* reads the bytes so many times; 0 when it has, else CUDA's error */
void  bench_cuda_close(void *reader);
}

enum { THREADS = 256, DEPTHS = 3, CROWDS = 4 }; /* 4, 8 or 16 loads in flight a thread; 1, 2, 4 or 8 blocks a multiprocessor */

typedef struct reader {
    uint4   *data;
    unsigned *sink;
    uint64_t n, room; /* units of 16 bytes: to read, and there */
    int      n_sms;
} reader;

template <int DEPTH> static __global__ void read_plainly(const uint4 *data, uint64_t n, unsigned *sink)
{
    uint64_t step = (uint64_t)gridDim.x * THREADS, at = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    unsigned sum = 0;
    for (; at + (DEPTH - 1) * step < n; at += DEPTH * step) {
        uint4 x[DEPTH];
        for (int i = 0; i < DEPTH; i++) x[i] = __ldg(data + at + i * step);
        for (int i = 0; i < DEPTH; i++) sum += x[i].x ^ x[i].y ^ x[i].z ^ x[i].w;
    }
    for (; at < n; at += step) sum += __ldg(data + at).x;
    if (sum == 0x9e3779b9u) *sink = sum; /* or the compiler reads nothing */
}

void *bench_cuda_open(uint64_t bytes)
{
    reader *r = new reader();
    const uint64_t least = (uint64_t)256 << 20; /* more than caches hold */
    cudaDeviceProp facts;
    r->n = r->room = bytes / 16;
    if (r->n == 0 || cudaGetDeviceProperties(&facts, 0) != cudaSuccess || cudaMalloc((void **)&r->sink, sizeof *r->sink) != cudaSuccess) {
        bench_cuda_close(r);
        return nullptr;
    }
    r->n_sms = facts.multiProcessorCount;
    while (cudaMalloc((void **)&r->data, (size_t)r->room * 16) != cudaSuccess) {
        cudaGetLastError();
        r->data = nullptr;
        r->room /= 2;
        if (r->room * 16 < least) {
            bench_cuda_close(r);
            return nullptr;
        }
    }
    cudaMemset(r->data, 1, (size_t)r->room * 16);
    return r;
}

int bench_cuda_manners(void) { return DEPTHS * CROWDS; }

int bench_cuda_read(void *opened, int manner, int passes)
{
    const reader *r = (const reader *)opened;
    unsigned grid = (unsigned)(r->n_sms << manner % CROWDS);
    for (; passes > 0; passes--) {
        for (uint64_t left = r->n; left > 0;) {
            uint64_t n = left < r->room ? left : r->room;
            switch (manner / CROWDS) {
            case 0: BENCH_LAUNCH(read_plainly<4>, grid, THREADS, r->data, n, r->sink); break;
            case 1: BENCH_LAUNCH(read_plainly<8>, grid, THREADS, r->data, n, r->sink); break;
            default: BENCH_LAUNCH(read_plainly<16>, grid, THREADS, r->data, n, r->sink); break;
            }
            left -= n;
        }
    }
    cudaError_t error = cudaGetLastError();
    return (int)(error != cudaSuccess ? error : cudaDeviceSynchronize());
}

void bench_cuda_close(void *opened)
{
    reader *r = (reader *)opened;
    if (r->data) cudaFree(r->data);
    if (r->sink) cudaFree(r->sink);
    delete r;
}
