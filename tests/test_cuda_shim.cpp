/* The CUDA shim itself: what smolq_cuda.cu's tests rest on.  Alone: g++ -std=gnu++17 -O2 -I. tests/test_cuda_shim.cpp -lpthread
 *
 * Kernels that do wrong things run in a child, which must die with the right words. */
#define SMOLQ_CUDA_SHIM
#include "tests/cuda_shim.h"
#include "test.h"
#include <sys/wait.h>
#include <unistd.h>

static const unsigned FULL = 0xffffffffu;
static const int MODES[] = { CUDA_SHIM_FORWARD, CUDA_SHIM_REVERSE, CUDA_SHIM_RANDOM, CUDA_SHIM_RANDOM };

/* Device memory of a test, filled from the host and read back on the legacy stream. */
template <class T> struct device {
    T *p;
    size_t n;
    explicit device(size_t count) : p(nullptr), n(count) { cudaMalloc(&p, n * sizeof(T)); }
    explicit device(const std::vector<T> &v) : device(v.size()) { cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice); }
    device(const device &) = delete;
    ~device() { cudaFree(p); }
    std::vector<T> get() const
    {
        std::vector<T> v(n);
        cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost);
        return v;
    }
};

static uint32_t noise(uint32_t i) { return (i * 2654435761u) ^ (i * 40503u >> 3); }

/* Runs it in a child.  Whether that was ended by abort, or by a sanitizer, after words on stderr with one of the two texts. */
static int dies_with(void (*run)(void), const char *text, const char *or_text)
{
    char said[8192];
    size_t n = 0;
    ssize_t got;
    int ends[2], status;
    pid_t child;
    if (pipe(ends)) return 0;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        run();
        _exit(0);
    }
    close(ends[1]);
    while (n < sizeof said - 1 && (got = read(ends[0], said + n, sizeof said - 1 - n)) > 0) n += (size_t)got;
    said[n] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    if (strstr(said, text) || (or_text && strstr(said, or_text))) return 1;
    fprintf(stderr, "%s", said);
    return 0;
}

/* ---- blocks ---- */

static __global__ void indices_kernel(uint32_t *seen)
{
    uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    uint32_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    uint32_t before = thread * 1000 + block;
    __syncthreads(); /* a fiber that comes back has its own index again */
    thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    if (before == thread * 1000 + block) atomicAdd(&seen[block * (blockDim.x * blockDim.y * blockDim.z) + thread], 1u);
}

static void each_thread_of_each_block_runs_once(void)
{
    dim3 grid(3, 2, 2), block(5, 3, 4);
    cuda_shim_reset();
    for (int mode : MODES) {
        device<uint32_t> seen(12 * 60);
        cuda_shim_order(mode, 5);
        cudaMemset(seen.p, 0, seen.n * 4);
        cudaError_t e = SMOLQ__CUDA_LAUNCH(indices_kernel, grid, block, 0, 0, seen.p);
        CHECK(e == cudaSuccess, "%s", cudaGetErrorString(e));
        for (uint32_t count : seen.get()) CHECK(count == 1, "mode %d: a thread ran %u times", mode, count);
    }
}

static __global__ void sum_kernel(const int *x, int *y, int n)
{
    SMOLQ__CUDA_SHARED(int, part, 32);
    SMOLQ__CUDA_DYNAMIC(int, own);
    int sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) sum += x[(int)blockIdx.x * n + i];
    own[threadIdx.x] = sum;
    __syncthreads();
    sum = own[blockDim.x - 1 - threadIdx.x];
    for (int m = 16; m > 0; m /= 2) sum += __shfl_xor_sync(FULL, sum, m);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
        for (unsigned m = 16; m > 0; m /= 2) sum += __shfl_down_sync(FULL, sum, m);
        if (threadIdx.x == 0) y[blockIdx.x] = sum;
    }
}

static void sums_of_rows_are_right_in_any_order(void)
{
    cuda_shim_reset();
    for (int threads : { 32, 64, 256, 1024 })
        for (int mode : MODES) {
            int rows = 7, n = 1000;
            std::vector<int> x((size_t)(rows * n));
            for (size_t i = 0; i < x.size(); i++) x[i] = (int)(noise((uint32_t)i) % 2001) - 1000;
            cuda_shim_order(mode, (uint64_t)threads);
            device<int> in(x), out((size_t)rows);
            SMOLQ__CUDA_LAUNCH(sum_kernel, rows, threads, sizeof(int) * (size_t)threads, 0, in.p, out.p, n);
            std::vector<int> y = out.get();
            for (int r = 0; r < rows; r++) {
                int want = 0;
                for (int i = 0; i < n; i++) want += x[(size_t)(r * n + i)];
                CHECK(y[(size_t)r] == want, "%d threads, mode %d, row %d: %d, expected %d", threads, mode, r, y[(size_t)r], want);
            }
        }
}

static __global__ void neighbor_kernel(int *y, int with_barrier)
{
    SMOLQ__CUDA_SHARED(int, box, 64);
    box[threadIdx.x] = (int)threadIdx.x;
    if (with_barrier) __syncthreads();
    y[threadIdx.x] = box[(threadIdx.x + 1) % 64];
}

static void a_missing_barrier_changes_the_results(void)
{
    cuda_shim_reset();
    for (int with_barrier = 0; with_barrier < 2; with_barrier++) {
        std::vector<int> first, poisoned;
        int differ = 0;
        for (int mode : MODES) {
            device<int> out(64);
            cuda_shim_order(mode, 1);
            SMOLQ__CUDA_LAUNCH(neighbor_kernel, 1, 64, 0, 0, out.p, with_barrier);
            if (first.empty()) first = out.get();
            else differ += out.get() != first;
            if (!with_barrier) CHECK(out.get() != first || first[0] == (int)0xa5a5a5a5, "not poison but %08x", (unsigned)first[0]);
        }
        CHECK(differ == (with_barrier ? 0 : 3), "barrier %d: %d orders differ from the first", with_barrier, differ);
    }
}

/* Behind a barrier the order begins anew. */
static __global__ void order_kernel(int *next, int *order)
{
    __syncthreads();
    order[atomicAdd(next, 1)] = (int)(blockIdx.x * blockDim.x + threadIdx.x);
}

static void blocks_and_threads_run_in_the_order_asked_for(void)
{
    static const int shapes[][2] = { { 96, 1 }, { 1, 96 }, { 4, 24 } }; /* blocks, threads */
    cuda_shim_reset();
    for (auto &shape : shapes) {
        std::vector<int> orders[4];
        for (int i = 0; i < 4; i++) {
            device<int> next(1), order(96);
            cuda_shim_order(MODES[i], (uint64_t)i);
            cudaMemset(next.p, 0, 4);
            SMOLQ__CUDA_LAUNCH(order_kernel, shape[0], shape[1], 0, 0, next.p, order.p);
            orders[i] = order.get();
        }
        for (int i = 0; i < 96; i++) CHECK(orders[0][(size_t)i] == i && orders[1][(size_t)i] == 95 - i, "%d blocks, place %d", shape[0], i);
        CHECK(orders[2] != orders[0] && orders[2] != orders[1] && orders[2] != orders[3], "%d blocks: random order is not random", shape[0]);
        for (int i = 2; i < 4; i++) {
            std::sort(orders[i].begin(), orders[i].end());
            CHECK(orders[i] == orders[0], "%d blocks: random order left some out", shape[0]);
        }
    }
}

static __device__ void large_array(int *y) /* of 49152 bytes, which is all that is allowed; the caller has one too */
{
    SMOLQ__CUDA_SHARED(int, large, 12288);
    y[0] = large[0];
}

static __device__ void half_array(int *y)
{
    SMOLQ__CUDA_SHARED(int, half, 6144);
    y[0] = half[0];
}

/* Half of a warp at one place, half at another: each branch is what a test wants to go wrong. */
static __global__ void wrong_kernel(int how, int *y)
{
    SMOLQ__CUDA_SHARED(int, box, 10);
    SMOLQ__CUDA_DYNAMIC(int, dynamic);
    int *p = how & 1 ? dynamic : box, first = threadIdx.x == 0;
    switch (how) {
    case 0: if (!first) __syncthreads(); break;
    case 1: if (first) __syncthreads(); else __syncwarp(); break;
    case 2:
        if (first) __syncthreads();
        else if (threadIdx.x < 32)
            __syncthreads();
        break;
    case 3: y[0] = __shfl_xor_sync(0xffffu, 1, 1); break;
    case 4: if (!first) __syncwarp(); break;
    case 5:
        if (first) y[0] = __shfl_sync(FULL, 1, 0);
        else
            y[1] = __shfl_sync(FULL, 1, 0);
        break;
    case 6: case 7: if (first) p[10] = 1; break;
    case 8: case 9: if (first) p[-1] = 1; break;
    case 10: y[0] = (int)smolq__cuda_load16((char *)y + 4).x; break;
    case 11: smolq__cuda_cp_async16(y, y); break;
    case 12: smolq__cuda_cp_async16((char *)box + 8, y); break;
    case 13: large_array(y); break;
    case 14: half_array(y); break;
    }
}

static int wrong_how, wrong_threads;
static void run_wrong(void)
{
    device<int> y(16);
    SMOLQ__CUDA_LAUNCH(wrong_kernel, 1, wrong_threads, wrong_how == 14 ? 30000 : 10 * sizeof(int), 0, wrong_how, y.p);
    cudaDeviceSynchronize();
}

static void kernels_that_do_wrong_are_stopped(void)
{
    static const struct { int how, threads; const char *name, *text, *or_text; } rows[] = {
        { 0, 64, "some exited", "63 of 64 threads wait in __syncthreads", NULL },
        { 1, 32, "some in a warp, some in the block", "31 of the 32 lanes of warp 0 wait in __syncwarp", NULL },
        { 2, 64, "two barriers", "others wait in __syncthreads", NULL },
        { 3, 32, "half a mask", "with mask 0000ffff", NULL },
        { 4, 32, "a lane exited", "31 of the 32 lanes of warp 0 wait in __syncwarp", NULL },
        { 5, 32, "two shuffles", "lanes of its warp wait in __shfl_sync", NULL },
        { 4, 40, "part of a warp", "in a warp of 8 threads", "31 of the 32 lanes" },
        { 6, 32, "behind a static array", "red zone of shared memory", "use-after-poison" },
        { 7, 32, "behind the dynamic array", "red zone of shared memory", "use-after-poison" },
        { 8, 32, "before a static array", "red zone of shared memory", "use-after-poison" },
        { 9, 32, "before the dynamic array", "red zone of shared memory", "use-after-poison" },
        { 10, 32, "load of 16 bytes at 4", "no multiple of 16", NULL },
        { 11, 32, "cp.async to global memory", "not in shared memory", NULL },
        { 12, 32, "cp.async to 8", "not both multiples of 16", NULL },
        { 13, 32, "too many static arrays", "bytes of static shared memory, CUDA has 49152", NULL },
        { 14, 32, "too much shared memory in all", "24624 + 30000 bytes of shared memory, allowed are 49152", NULL },
    };
    cuda_shim_reset();
    for (const auto &row : rows)
        for (int mode = CUDA_SHIM_FORWARD; mode <= CUDA_SHIM_REVERSE; mode++) {
            cuda_shim_order(mode, 0);
            wrong_how = row.how;
            wrong_threads = row.threads;
            CHECK(dies_with(run_wrong, row.text, row.or_text), "%s, mode %d", row.name, mode);
        }
    wrong_how = 99;
    CHECK(!dies_with(run_wrong, "", NULL), "a kernel that does nothing wrong");
}

static __global__ void fresh_kernel(uint32_t *y)
{
    SMOLQ__CUDA_SHARED(uint32_t, box, 32);
    SMOLQ__CUDA_SHARED(unsigned char, odd, 7);
    SMOLQ__CUDA_DYNAMIC(uint32_t, dynamic);
    y[blockIdx.x * 32 + threadIdx.x] = (box[threadIdx.x] == 0xa5a5a5a5u) + (dynamic[threadIdx.x] == 0xa5a5a5a5u) + (odd[threadIdx.x % 7] == 0xa5) +
        ((uintptr_t)box % 16 == 0 && (uintptr_t)dynamic % 16 == 0);
    __syncthreads();
    box[threadIdx.x] = dynamic[threadIdx.x] = odd[threadIdx.x % 7] = 0;
}

static void shared_memory_is_poison_when_a_block_begins(void)
{
    device<uint32_t> y(96);
    cuda_shim_reset();
    SMOLQ__CUDA_LAUNCH(fresh_kernel, 3, 32, 128, 0, y.p);
    for (uint32_t v : y.get()) CHECK(v == 4, "%u of 4", v);
}

static __global__ void small_kernel(int *y, int add) { y[threadIdx.x] += add; }

static void many_small_kernels(void)
{
    int n = 20000;
    device<int> y(256);
    cuda_shim_reset();
    cudaMemset(y.p, 0, 1024);
    for (int i = 0; i < n; i++) SMOLQ__CUDA_LAUNCH(small_kernel, 1, 256, 0, 0, y.p, i & 3);
    for (int v : y.get()) CHECK(v == n / 4 * 6, "%d", v);
    CHECK(cuda_shim_kernels() == (uint64_t)n, "%d kernels", (int)cuda_shim_kernels());
}

static __global__ void divide_kernel(float *y) { y[threadIdx.x] = y[threadIdx.x] / 3.0f; }

static void the_hosts_floating_point_modes_do_not_matter(void)
{
    device<float> y(std::vector<float>{ 1.0f, 2.0f, 2e-38f, 1e-44f }); /* the last two quotients are subnormal */
    std::fenv_t env;
    cuda_shim_reset();
    std::fegetenv(&env);
    std::fesetround(FE_UPWARD);
#ifdef __SSE2__
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); /* flush subnormals to zero, read them as zero */
#endif
    SMOLQ__CUDA_LAUNCH(divide_kernel, 1, 4, 0, 0, y.p);
    cudaDeviceSynchronize();
    CHECK(std::fegetround() == FE_UPWARD, "the host's rounding was lost");
    std::fesetenv(&env);
    std::vector<float> got = y.get();
    volatile float x[4] = { 1.0f, 2.0f, 2e-38f, 1e-44f };
    for (size_t i = 0; i < 4; i++) CHECK(got[i] == x[i] / 3.0f && got[i] > 0, "%a / 3 = %a", (double)x[i], (double)got[i]);
}

/* ---- built-ins ---- */

static __global__ void shuffle_kernel(int *bad)
{
    int lane = (int)threadIdx.x % 32, v = 100 * (int)(threadIdx.x / 32) + lane, base = v - lane;
    int64_t wide = (int64_t)v << 33;
    bad[threadIdx.x] = 0;
    for (int m = 1; m < 32; m++) {
        bad[threadIdx.x] += __shfl_xor_sync(FULL, v, m) != base + (lane ^ m);
        bad[threadIdx.x] += __shfl_sync(FULL, wide, m) != (int64_t)(base + m) << 33;
        bad[threadIdx.x] += __shfl_sync(FULL, (float)v, lane + m) != (float)(base + (lane + m) % 32);
        bad[threadIdx.x] += __shfl_down_sync(FULL, v, (unsigned)m) != (lane + m < 32 ? v + m : v);
        bad[threadIdx.x] += __shfl_up_sync(FULL, v, (unsigned)m) != (lane >= m ? v - m : v);
        bad[threadIdx.x] += __ballot_sync(FULL, lane < m) != (1u << m) - 1;
        bad[threadIdx.x] += __any_sync(FULL, lane == m) != 1 || __any_sync(FULL, lane > 40) != 0;
        bad[threadIdx.x] += __all_sync(FULL, lane != m) != 0 || __all_sync(FULL, lane < 32) != 1;
    }
}

static void shuffles_and_votes(void)
{
    cuda_shim_reset();
    for (int mode : MODES) {
        device<int> bad(96);
        cuda_shim_order(mode, 3);
        SMOLQ__CUDA_LAUNCH(shuffle_kernel, 1, 96, 0, 0, bad.p);
        for (int b : bad.get()) CHECK(b == 0, "mode %d: %d wrong", mode, b);
    }
}

static void integer_and_float_intrinsics(void)
{
    volatile float big = 16777216.0f, one = 1.0f, third = 1.0f / 3.0f;
    int old = 5;
    unsigned uold = 5;
    CHECK(__dp4a((int)0x80ff017f, (int)0x80027f7f, 3) == 16384 - 2 + 127 + 16129 + 3, "signed dp4a");
    CHECK(__dp4a(0x80ff017fu, 0x80027f7fu, 3u) == 16384u + 510 + 127 + 16129 + 3, "unsigned dp4a");
    CHECK(__byte_perm(0x33221100u, 0x77665544u, 0x7250u) == 0x77225500u, "byte_perm");
    CHECK(__byte_perm(0x33221100u, 0x77665544u, 0xffffba98u) == 0x33221100u, "byte_perm, a selector's fourth bits mean nothing");
    CHECK(__vsub4(0x00100580u, 0x0120047fu) == 0xfff00101u, "vsub4");
    CHECK(__vcmpeq4(0x01020304u, 0x01000305u) == 0xff00ff00u, "vcmpeq4");
    CHECK(__popc(0xf0f0u) == 8 && __clz(1) == 31 && __clz(0) == 32 && __clz(-1) == 0 && __ffs(8) == 4 && __ffs(0) == 0, "popc, clz, ffs");
    CHECK(__float2int_rn(0.5f) == 0 && __float2int_rn(1.5f) == 2 && __float2int_rn(-2.5f) == -2, "float2int_rn");
    CHECK(__float2int_rn(3e9f) == INT32_MAX && __float2int_rn(-3e9f) == INT32_MIN && __float2int_rn(NAN) == 0, "float2int_rn at its limits");
    CHECK(__fadd_rn(__fmul_rn(third, 3.0f), -one) == 0.0f && __fmaf_rn(third, 3.0f, -one) != 0.0f, "one rounding or two");
    CHECK(__fadd_rn(big, one) == big && __fdiv_rn(one, 3.0f) == third && __fsqrt_rn(2.25f) == 1.5f && __int2float_rn(16777217) == big, "float operations");
    CHECK(__float_as_uint(1.0f) == 0x3f800000u && __uint_as_float(0x40000000u) == 2.0f && __int_as_float(__float_as_int(-7.5f)) == -7.5f, "bits");
    CHECK(atomicAdd(&old, 3) == 5 && old == 8 && atomicOr(&old, 3) == 8 && old == 11 && atomicMax(&old, 7) == 11 && atomicMax(&old, 20) == 11 && old == 20, "atomics");
    CHECK(atomicAdd(&uold, 0xfffffffeu) == 5 && uold == 3 && atomicOr(&uold, 4u) == 3 && uold == 7, "unsigned atomics");
    CHECK(sizeof(int2) == 8 && sizeof(int4) == 16 && alignof(uint4) == 16 && alignof(float2) == 8 && make_float4(1, 2, 3, 4).w == 4.0f, "vectors");
}

/* Steps: 0 right after the issue, 1 after a wait that may leave the latest group, 2 after the last wait. */
static __global__ void copy_kernel(const uint4 *x, unsigned *y)
{
    SMOLQ__CUDA_SHARED(uint4, box, 64);
    unsigned t = threadIdx.x;
    box[t] = box[t + 32] = make_uint4(0, 0, 0, 0);
    smolq__cuda_cp_async16(&box[t], &x[t]);
    smolq__cuda_cp_async_commit();
    smolq__cuda_cp_async16(&box[t + 32], &x[t + 32]);
    smolq__cuda_cp_async_commit();
    y[t] = box[t].x;
    y[t + 32] = box[t + 32].w;
    smolq__cuda_cp_async_wait<1>();
    y[t + 64] = box[t].x;
    y[t + 96] = box[t + 32].w;
    smolq__cuda_cp_async_wait<0>();
    y[t + 128] = box[t].x;
    y[t + 160] = box[t + 32].w;
}

static void asynchronous_copies_come_at_the_wait(void)
{
    std::vector<uint4> x(64);
    cuda_shim_reset();
    for (unsigned i = 0; i < 64; i++) x[i] = make_uint4(i, 0, 0, 1000 + i);
    device<uint4> in(x);
    device<unsigned> out(192);
    SMOLQ__CUDA_LAUNCH(copy_kernel, 1, 32, 0, 0, in.p, out.p);
    std::vector<unsigned> y = out.get();
    for (unsigned t = 0; t < 32; t++) {
        CHECK(y[t] == 0xa5a5a5a5u && y[t + 32] == 0xa5a5a5a5u, "lane %u: %08x %08x before the wait", t, y[t], y[t + 32]);
        CHECK(y[t + 64] == t && y[t + 96] == 0xa5a5a5a5u, "lane %u: %08x %08x after the first wait", t, y[t + 64], y[t + 96]);
        CHECK(y[t + 128] == t && y[t + 160] == 1032 + t, "lane %u: %08x %08x after the last wait", t, y[t + 128], y[t + 160]);
    }
}

/* a is rows x depth, b depth x 8 stored by columns, c rows x 8: the fragments by the map in the PTX ISA's words, element by element. */
static __global__ void mma_kernel(const int8_t *a, const int8_t *b, int *c, int rows, int depth)
{
    int lane = (int)threadIdx.x, group = lane >> 2, t = lane & 3;
    unsigned fa[4] = { 0, 0, 0, 0 }, fb[2] = { 0, 0 };
    int fc[4];
    for (int i = 0; i < 16; i++) { /* a_i */
        int row = rows == 8 || i % 8 < 4 ? group : group + 8, k = t * 4 + (i & 3) + (i < 8 ? 0 : 16);
        if (i < rows * depth / 32) fa[i / 4] |= (unsigned)(uint8_t)a[row * depth + k] << 8 * (i % 4);
    }
    for (int i = 0; i < depth / 4; i++) { /* b_i */
        int k = t * 4 + (i & 3) + (i < 4 ? 0 : 16);
        fb[i / 4] |= (unsigned)(uint8_t)b[group * depth + k] << 8 * (i % 4);
    }
    for (int i = 0; i < rows / 4; i++) fc[i] = c[(i < 2 ? group : group + 8) * 8 + t * 2 + (i & 1)];
    if (rows == 8) smolq__cuda_mma_s8_m8(fc, fa[0], fb[0]);
    else if (depth == 16) smolq__cuda_mma_s8_k16(fc, fa, fb);
    else
        smolq__cuda_mma_s8(fc, fa, fb);
    for (int i = 0; i < rows / 4; i++) c[(i < 2 ? group : group + 8) * 8 + t * 2 + (i & 1)] = fc[i];
}

static void mma_is_the_matrix_product(void)
{
    static const int shapes[][2] = { { 8, 16 }, { 16, 16 }, { 16, 32 } };
    cuda_shim_reset();
    for (auto &shape : shapes)
        for (int mode : MODES) {
            int rows = shape[0], depth = shape[1], i, j, k;
            std::vector<int8_t> a((size_t)(rows * depth)), b((size_t)(8 * depth));
            std::vector<int> c((size_t)(rows * 8)), want;
            for (size_t n = 0; n < a.size(); n++) a[n] = (int8_t)(noise((uint32_t)n + 1) >> 7);
            for (size_t n = 0; n < b.size(); n++) b[n] = (int8_t)(noise((uint32_t)n + 7777) >> 5);
            for (size_t n = 0; n < c.size(); n++) c[n] = (int)noise((uint32_t)n) / 2;
            a[1] = b[1] = -128;
            want = c;
            for (i = 0; i < rows; i++)
                for (j = 0; j < 8; j++)
                    for (k = 0; k < depth; k++) want[(size_t)(i * 8 + j)] += a[(size_t)(i * depth + k)] * b[(size_t)(j * depth + k)];
            cuda_shim_order(mode, 9);
            device<int8_t> da(a), db(b);
            device<int> dc(c);
            SMOLQ__CUDA_LAUNCH(mma_kernel, 1, 32, 0, 0, da.p, db.p, dc.p, rows, depth);
            CHECK(dc.get() == want, "m%dn8k%d, mode %d", rows, depth, mode);
        }
}

/* ---- the runtime ---- */

static cudaStream_t new_stream(void)
{
    cudaStream_t s = NULL;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    return s;
}

/* A kernel that is launched dependent. */
static __global__ void next_kernel(int how, int *y)
{
    if (how == 5) return;
    if (how == 1) __syncthreads();
    if (how == 2) __syncwarp();
    if (how != 3 || threadIdx.x) smolq__cuda_begin();
    if (how == 4 && threadIdx.x == 31) smolq__cuda_begin();
    __syncthreads();
    y[threadIdx.x]++;
}

static int next_how;
static void run_next(void)
{
    cudaStream_t stream = next_how == 7 ? new_stream() : 0;
    cudaGraph_t graph = NULL;
    device<int> y(64);
    cudaDeviceSynchronize();
    if (next_how == 8) cuda_shim_dependent(1);
    if (next_how == 7) cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    else
        SMOLQ__CUDA_LAUNCH(next_kernel, 1, 64, 0, stream, next_how == 8 ? 3 : 0, y.p);
    if (next_how == 6) cudaMemset(y.p, 0, 256);
    SMOLQ__CUDA_LAUNCH_DEPENDENT(next_kernel, 1, 64, 0, stream, next_how, y.p);
    if (next_how == 7) cudaStreamEndCapture(stream, &graph);
    cudaDeviceSynchronize();
}

static void dependent_kernels_wait(void)
{
    static const struct { int how; const char *name, *text; } rows[] = {
        { 1, "a barrier comes first", "__syncthreads before smolq__cuda_begin" },
        { 2, "an operation of the warp comes first", "__syncwarp before smolq__cuda_begin" },
        { 3, "a thread forgets", "thread (0, 0, 0): __syncthreads before smolq__cuda_begin" },
        { 4, "a thread waits twice", "calls smolq__cuda_begin twice" },
        { 5, "nobody waits", "ends before smolq__cuda_begin" },
        { 6, "behind a copy", "a dependent launch where no kernel goes before" },
        { 7, "the first of a graph", "a dependent launch in a graph, where no kernel goes before" },
        { 8, "all kernels count as dependent", "__syncthreads before smolq__cuda_begin" },
    };
    device<int> y(64);
    cuda_shim_reset();
    for (const auto &row : rows)
        for (int mode = CUDA_SHIM_FORWARD; mode <= CUDA_SHIM_REVERSE; mode++) {
            cuda_shim_order(mode, 0);
            next_how = row.how;
            CHECK(dies_with(run_next, row.text, NULL), "%s, mode %d", row.name, mode);
        }
    next_how = 0;
    CHECK(!dies_with(run_next, "", NULL), "one that waits");
    cudaMemset(y.p, 0, 256);
    SMOLQ__CUDA_LAUNCH(next_kernel, 1, 64, 0, 0, 3, y.p); /* nobody must wait in a usual launch */
    CHECK(SMOLQ__CUDA_LAUNCH_DEPENDENT(next_kernel, 1, 64, 0, 0, 0, y.p) == cudaSuccess, "a dependent launch");
    for (int v : y.get()) CHECK(v == 2, "%d kernels ran", v);
    cuda_shim_sm(89, 4);
    CHECK(SMOLQ__CUDA_LAUNCH_DEPENDENT(next_kernel, 1, 64, 0, 0, 0, y.p) == cudaErrorNotSupported, "on sm_89");
    CHECK(cudaGetLastError() == cudaErrorNotSupported, "the last error");
    cuda_shim_reset();
}

static void streams_run_when_they_must(void)
{
    cudaStream_t a, b;
    cudaEvent_t event = NULL, never = NULL;
    int host[4] = { 1, 2, 3, 4 }, back[4] = { 0, 0, 0, 0 };
    cuda_shim_reset();
    a = new_stream();
    b = new_stream();
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&never, cudaEventDisableTiming);
    {
        device<int> x(4);
        CHECK(x.get()[0] == (int)0xa5a5a5a5, "fresh memory is not poison");
        cudaMemcpyAsync(x.p, host, 16, cudaMemcpyHostToDevice, a);
        SMOLQ__CUDA_LAUNCH(small_kernel, 1, 4, 0, a, x.p, 10);
        cudaMemcpyAsync(back, x.p, 16, cudaMemcpyDeviceToHost, a);
        CHECK(back[0] == (int)0xa5a5a5a5 && cuda_shim_kernels() == 0, "ran before it had to");
        CHECK(cudaStreamQuery(b) == cudaSuccess && cudaStreamQuery(a) == cudaErrorNotReady, "queries");
        cudaStreamSynchronize(b);
        CHECK(back[0] == (int)0xa5a5a5a5, "another stream's synchronize ran it");
        cudaStreamSynchronize(a);
        CHECK(back[0] == 11 && back[3] == 14, "%d %d", back[0], back[3]);
        CHECK(cudaStreamQuery(a) == cudaSuccess, "query when done");

        host[0] = 100; /* without a wait b reads what was there, with one what a writes */
        for (int wait = 0; wait < 2; wait++) {
            cudaMemcpyAsync(x.p, host, 16, cudaMemcpyHostToDevice, a);
            cudaEventRecord(event, a);
            CHECK(cudaEventQuery(never) == cudaSuccess, "an event that was never recorded");
            if (wait) cudaStreamWaitEvent(b, event, 0);
            cudaMemcpyAsync(back, x.p, 16, cudaMemcpyDeviceToHost, b);
            cudaStreamSynchronize(b);
            CHECK(back[0] == (wait ? 100 : 11), "wait %d: %d", wait, back[0]);
            if (!wait) CHECK(cudaEventQuery(event) == cudaErrorNotReady && cudaEventQuery(event) == cudaSuccess, "event queries");
            cudaEventSynchronize(event);
            cudaMemset(x.p, 0, 16);
            cudaDeviceSynchronize();
            host[0] += 0;
            back[0] = 11;
            cudaMemcpy(x.p, back, 16, cudaMemcpyHostToDevice);
        }

        /* The legacy stream does not wait for streams that are not blocking, nor they for it. */
        cudaMemset(x.p, 0, 16);
        cudaMemcpyAsync(back, x.p, 16, cudaMemcpyDeviceToHost, a);
        cudaStreamSynchronize(a);
        CHECK(back[0] == 11, "%d: a waited for the legacy stream", back[0]);
        cudaMemcpyAsync(x.p, host, 16, cudaMemcpyHostToDevice, a);
        cudaMemcpy(back, x.p, 16, cudaMemcpyDeviceToHost);
        CHECK(back[0] == 0, "%d: the legacy stream waited for a", back[0]);
        cudaDeviceSynchronize();
        CHECK(x.get()[0] == 100, "%d", x.get()[0]);
    }
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaEventDestroy(event);
    cudaEventDestroy(never);
    CHECK(cuda_shim_objects() == 0 && cuda_shim_bytes() == 0, "%d objects, %d bytes left", cuda_shim_objects(), (int)cuda_shim_bytes());
    CHECK(cudaStreamSynchronize(a) == cudaErrorInvalidResourceHandle, "a stream after its end");
}

static __global__ void append_kernel(int *list, int v) { list[1 + list[0]++] = v; }

/* 1, then 2 on this stream and 3 on the other, then 4. */
static cudaError_t capture_diamond(cudaStream_t a, cudaStream_t b, int *list, int join, cudaGraph_t *graph)
{
    cudaEvent_t fork = NULL, joined = NULL;
    cudaError_t e;
    cudaEventCreateWithFlags(&fork, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&joined, cudaEventDisableTiming);
    cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
    SMOLQ__CUDA_LAUNCH(append_kernel, 1, 1, 0, a, list, 1);
    cudaEventRecord(fork, a);
    cudaStreamWaitEvent(b, fork, 0);
    SMOLQ__CUDA_LAUNCH(append_kernel, 1, 1, 0, a, list, 2);
    SMOLQ__CUDA_LAUNCH(append_kernel, 1, 1, 0, b, list, 3);
    cudaEventRecord(joined, b);
    if (join) cudaStreamWaitEvent(a, joined, 0);
    SMOLQ__CUDA_LAUNCH(append_kernel, 1, 1, 0, a, list, 4);
    e = cudaStreamEndCapture(a, graph);
    cudaEventDestroy(fork);
    cudaEventDestroy(joined);
    return e;
}

static void graphs_are_captured_and_replayed(void)
{
    cudaStream_t a, b;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cuda_shim_reset();
    a = new_stream();
    b = new_stream();
    {
        device<int> list(20);
        std::vector<int> got;
        cudaMemset(list.p, 0, 80);
        CHECK(capture_diamond(a, b, list.p, 1, &graph) == cudaSuccess, "capture");
        cudaDeviceSynchronize();
        CHECK(cuda_shim_kernels() == 0, "ran while it was captured");
        CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess, "instantiate");
        cudaGraphDestroy(graph);
        for (int mode = CUDA_SHIM_FORWARD; mode <= CUDA_SHIM_REVERSE; mode++) {
            cuda_shim_order(mode, 0);
            cudaMemset(list.p, 0, 80);
            cudaDeviceSynchronize();
            cudaGraphLaunch(exec, a);
            cudaGraphLaunch(exec, a);
            CHECK(list.get()[0] == 0, "a launched graph ran at once");
            cudaStreamSynchronize(a);
            got = list.get();
            got.resize(9);
            CHECK(got == (mode ? std::vector<int>{ 8, 1, 3, 2, 4, 1, 3, 2, 4 } : std::vector<int>{ 8, 1, 2, 3, 4, 1, 2, 3, 4 }),
                  "mode %d: %d %d %d %d", mode, got[1], got[2], got[3], got[4]);
        }
        int back[2] = { 1, 2 }; /* a graph's destination on the host is poison until the graph has run */
        cudaGraphExec_t copy = NULL;
        cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
        cudaMemcpyAsync(back, list.p, 8, cudaMemcpyDeviceToHost, a);
        cudaStreamEndCapture(a, &graph);
        cudaGraphInstantiate(&copy, graph, 0);
        CHECK(back[0] == 1, "written while captured");
        cudaGraphLaunch(copy, a);
        CHECK(back[0] == (int)0xa5a5a5a5, "%d before the synchronize", back[0]);
        cudaStreamSynchronize(a);
        CHECK(back[0] == 8, "%d after it", back[0]);
        cudaGraphExecDestroy(copy);
        cudaGraphDestroy(graph);

        cudaGraphLaunch(exec, a);
        cudaGraphExecDestroy(exec); /* runs to its end all the same */
        cudaStreamSynchronize(a);
        CHECK(list.get()[0] == 12, "%d", list.get()[0]);

        CHECK(capture_diamond(a, b, list.p, 0, &graph) == cudaErrorStreamCaptureUnjoined && !graph, "a branch that was not joined");
        cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
        CHECK(cudaStreamSynchronize(a) == cudaErrorStreamCaptureUnsupported, "synchronize while capturing");
        CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated && !graph, "a spoiled capture");
        cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
        int *p = NULL;
        CHECK(cudaMalloc(&p, 4) == cudaErrorStreamCaptureUnsupported, "allocation while capturing");
        CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated, "a capture spoiled by an allocation");
        CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureUnmatched, "an end without a beginning");
        cudaError_t elsewhere = cudaSuccess;
        cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
        std::thread([&] { elsewhere = cudaStreamEndCapture(a, &graph); }).join();
        CHECK(elsewhere == cudaErrorStreamCaptureWrongThread, "%s: an end in another thread", cudaGetErrorName(elsewhere));
        CHECK(cudaStreamEndCapture(a, &graph) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess, "an empty graph");
        CHECK(SMOLQ__CUDA_LAUNCH(append_kernel, 1, 1, 0, a, list.p, 4) == cudaSuccess && cudaStreamSynchronize(a) == cudaSuccess, "the stream afterwards");
    }
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    CHECK(cuda_shim_objects() == 0, "%d objects left", cuda_shim_objects());
}

/* What a backend does in its life; the first error, with everything released. */
static cudaError_t small_life(void)
{
    int *x = NULL, *pinned = NULL, n = 0;
    cudaStream_t s = NULL;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaError_t e = cudaGetDeviceCount(&n), last;
    if (!e) e = cudaSetDevice(0);
    if (!e) e = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    if (!e) e = cudaMalloc(&x, 1024);
    if (!e) e = cudaMallocHost(&pinned, 1024);
    if (!e) e = cudaMemsetAsync(x, 0, 1024, s);
    if (!e) e = cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    if (!e) {
        e = SMOLQ__CUDA_LAUNCH(small_kernel, 1, 256, 0, s, x, 7);
        last = cudaStreamEndCapture(s, &graph);
        if (!e) e = last;
    }
    if (!e) e = cudaGraphInstantiate(&exec, graph, 0);
    if (!e) e = cudaGraphLaunch(exec, s);
    if (!e) e = cudaMemcpyAsync(pinned, x, 1024, cudaMemcpyDeviceToHost, s);
    if (!e) e = cudaStreamSynchronize(s);
    if (!e && pinned[255] != 7) e = cudaErrorLaunchFailure;
    if (exec) { last = cudaGraphExecDestroy(exec); e = e ? e : last; }
    if (graph) { last = cudaGraphDestroy(graph); e = e ? e : last; }
    last = cudaFreeHost(pinned);
    e = e ? e : last;
    last = cudaFree(x);
    e = e ? e : last;
    if (s) { last = cudaStreamDestroy(s); e = e ? e : last; }
    return e;
}

static void any_call_can_fail(void)
{
    int calls;
    cuda_shim_reset();
    CHECK(small_life() == cudaSuccess, "without failures");
    calls = (int)cuda_shim_calls();
    CHECK(calls == 18, "%d calls", calls);
    for (int lose = 0; lose < 2; lose++)
        for (int i = 1; i <= calls; i++) {
            cudaError_t want = lose ? cudaErrorLaunchFailure : cudaErrorUnknown, e;
            cuda_shim_reset();
            if (lose) cuda_shim_lose(i);
            else
                cuda_shim_fail(i);
            e = small_life();
            CHECK(e == want, "call %d failed, and the life ended with %s", i, cudaGetErrorName(e));
            CHECK(cudaGetLastError() == want && cudaGetLastError() == (lose ? want : cudaSuccess), "the last error, call %d", i);
            CHECK(cuda_shim_bytes() == 0 && cuda_shim_pinned() == 0 && cuda_shim_objects() == 0, "call %d failed, and something is left", i);
        }
    cuda_shim_reset();
    CHECK(small_life() == cudaSuccess, "after the failures");
}

static void memory_is_counted_and_limited(void)
{
    size_t available = 0, total = 0;
    char *p = NULL, *q = NULL;
    cuda_shim_reset();
    cuda_shim_memory(1000);
    CHECK(cudaMalloc(&p, 600) == cudaSuccess && (uintptr_t)p % 256 == 0, "the first");
    CHECK(cudaMalloc(&q, 401) == cudaErrorMemoryAllocation && !q, "too much");
    CHECK(cudaMalloc(&q, 400) == cudaSuccess, "the rest");
    cudaMemGetInfo(&available, &total);
    CHECK(cuda_shim_bytes() == 1000 && available == 0 && total == 1000, "%d bytes held", (int)cuda_shim_bytes());
    CHECK(cudaFree(p + 1) == cudaErrorInvalidValue, "not the beginning of a block");
    CHECK(cudaMemset(p + 590, 0, 10) == cudaSuccess && cudaMemset(p + 590, 0, 11) == cudaErrorInvalidValue, "past the end of a block");
    CHECK(cudaMemcpy(p, q, 400, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "device memory given as the host's");
    CHECK(cudaFree(p) == cudaSuccess && cudaFree(q) == cudaSuccess && cudaFree(NULL) == cudaSuccess, "free");
    CHECK(cudaFree(p) == cudaErrorInvalidValue, "freed twice");
    CHECK(cuda_shim_bytes() == 0 && cuda_shim_peak() == 1000, "%d bytes, %d at most", (int)cuda_shim_bytes(), (int)cuda_shim_peak());
    cuda_shim_devices(2); /* each has its own */
    CHECK(cudaMalloc(&p, 800) == cudaSuccess && cudaSetDevice(1) == cudaSuccess && cudaMalloc(&q, 800) == cudaSuccess, "on two devices");
    cudaFree(p);
    cudaFree(q);
    cuda_shim_reset();
}

static __global__ void overrun_kernel(char *p) { p[100] = 1; }
static void run_overrun(void)
{
    device<char> x(100);
    SMOLQ__CUDA_LAUNCH(overrun_kernel, 1, 1, 0, 0, x.p);
    cudaDeviceSynchronize();
}

static void overruns_of_device_memory_are_seen(void)
{
    cuda_shim_reset();
    CHECK(dies_with(run_overrun, "a block of 100 bytes was overrun", "heap-buffer-overflow"), "not seen");
}

static void machines_without_a_device_or_a_driver(void)
{
    cudaDeviceProp prop;
    int n = 7, version = 7, *p = NULL;
    cuda_shim_reset();
    cuda_shim_devices(0);
    CHECK(cudaGetDeviceCount(&n) == cudaErrorNoDevice && n == 0, "no device");
    cuda_shim_devices(-1);
    CHECK(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && n == 0 && cudaMalloc(&p, 4) == cudaErrorInsufficientDriver, "no driver");
    CHECK(cudaDriverGetVersion(&version) == cudaSuccess && version == 0, "version %d", version);
    cuda_shim_devices(-2);
    CHECK(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && cudaDriverGetVersion(&version) == cudaSuccess && version == 11080, "old driver");
    cuda_shim_devices(2);
    cuda_shim_sm(75, 40);
    CHECK(cudaGetDeviceCount(&n) == cudaSuccess && n == 2 && cudaSetDevice(2) == cudaErrorInvalidDevice, "two devices");
    CHECK(cudaGetDeviceProperties(&prop, 1) == cudaSuccess && prop.major == 7 && prop.minor == 5 && prop.multiProcessorCount == 40, "properties");
    CHECK(cudaDeviceGetAttribute(&n, cudaDevAttrMaxSharedMemoryPerBlockOptin, 1) == cudaSuccess && n == 65536, "attribute");
    cuda_shim_reset();
}

static void launches_are_checked(void)
{
    device<int> y(1024);
    cudaStream_t other;
    cuda_shim_reset();
    cuda_shim_devices(2);
    cudaSetDevice(1);
    other = new_stream();
    cudaSetDevice(0);
    CHECK(SMOLQ__CUDA_LAUNCH(small_kernel, 1, 1025, 0, 0, y.p, 1) == cudaErrorInvalidConfiguration, "1025 threads");
    CHECK(SMOLQ__CUDA_LAUNCH(small_kernel, 0, 32, 0, 0, y.p, 1) == cudaErrorInvalidConfiguration, "no blocks");
    CHECK(SMOLQ__CUDA_LAUNCH(small_kernel, dim3(1, 65536), 32, 0, 0, y.p, 1) == cudaErrorInvalidConfiguration, "65536 blocks in y");
    CHECK(SMOLQ__CUDA_LAUNCH(small_kernel, 1, 32, 0, other, y.p, 1) == cudaErrorInvalidResourceHandle, "another device's stream");
    CHECK(SMOLQ__CUDA_LAUNCH(small_kernel, 1, 32, 50000, 0, y.p, 1) == cudaErrorInvalidValue, "shared memory");
    CHECK(cudaFuncSetAttribute(small_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 300000) == cudaErrorInvalidValue, "too much shared memory");
    CHECK(cudaFuncSetAttribute(small_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 60000) == cudaSuccess, "attribute");
    CHECK(SMOLQ__CUDA_LAUNCH(small_kernel, 1, 1024, 50000, 0, y.p, 1) == cudaSuccess, "shared memory allowed");
    CHECK(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess, "the last error");
    cudaDeviceSynchronize();
    cudaStreamDestroy(other);
    cuda_shim_reset();
}

static void several_host_threads(void)
{
    std::vector<std::thread> hosts;
    int wrong[4] = { 0, 0, 0, 0 };
    cuda_shim_reset();
    for (int h = 0; h < 4; h++)
        hosts.emplace_back([h, &wrong] {
            cudaStream_t s = new_stream();
            for (int i = 0; i < 200; i++) {
                std::vector<int> x(2000, h * 1000 + i);
                device<int> in(x), out(2);
                int y[2];
                SMOLQ__CUDA_LAUNCH(sum_kernel, 2, 64, 256, s, in.p, out.p, 1000);
                cudaMemcpyAsync(y, out.p, 8, cudaMemcpyDeviceToHost, s);
                cudaStreamSynchronize(s);
                wrong[h] += y[0] != 1000 * (h * 1000 + i) || y[1] != y[0];
            }
            cudaStreamDestroy(s);
        });
    for (std::thread &host : hosts) host.join();
    for (int h = 0; h < 4; h++) CHECK(wrong[h] == 0, "thread %d: %d wrong", h, wrong[h]);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "each thread of each block runs once", each_thread_of_each_block_runs_once },
        { "sums of rows are right in any order", sums_of_rows_are_right_in_any_order },
        { "a missing barrier changes the results", a_missing_barrier_changes_the_results },
        { "blocks and threads run in the order asked for", blocks_and_threads_run_in_the_order_asked_for },
        { "kernels that do wrong are stopped", kernels_that_do_wrong_are_stopped },
        { "shared memory is poison when a block begins", shared_memory_is_poison_when_a_block_begins },
        { "many small kernels", many_small_kernels },
        { "the host's floating-point modes do not matter", the_hosts_floating_point_modes_do_not_matter },
        { "shuffles and votes", shuffles_and_votes },
        { "integer and float intrinsics", integer_and_float_intrinsics },
        { "asynchronous copies come at the wait", asynchronous_copies_come_at_the_wait },
        { "mma is the matrix product", mma_is_the_matrix_product },
        { "dependent kernels wait", dependent_kernels_wait },
        { "streams run when they must", streams_run_when_they_must },
        { "graphs are captured and replayed", graphs_are_captured_and_replayed },
        { "any call can fail", any_call_can_fail },
        { "memory is counted and limited", memory_is_counted_and_limited },
        { "overruns of device memory are seen", overruns_of_device_memory_are_seen },
        { "machines without a device or a driver", machines_without_a_device_or_a_driver },
        { "launches are checked", launches_are_checked },
        { "several host threads", several_host_threads },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
