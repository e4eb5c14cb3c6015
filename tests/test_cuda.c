/* smolq_cuda.cu has the bits of the reference backend, and keeps the promises of a device: on the shim of tests/cuda_shim.h, so without a GPU.
 *
 * Each operation alone, as a program of one step through both backends: tests/bed.h.  Blocks and threads run forward, in reverse and in random order in turn, half of the beds with pauses; some
 * run three times, so that a graph is captured and replayed.
 *
 * SMOLQ_LONG=1 takes the full products; SMOLQ_SEED or the day chooses random numbers. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "bed.h"
#include "cuda_shim.h"

static smolq_device *device;

/* ---- each operation ---- */

static void run_on_devices(bed *b, const char *name, int32_t numeric)
{
    static const char *const orders[] = { "forward", "reverse", "random" };
    const smolq_backend *backend = smolq_backend_cuda();
    const smolq_backend_memory *memory = backend->memory;
    void *state = device->state, *loaded = NULL;
    smolq_error err = { 0, "" };
    smolq_kv_layer layer = b->layer;
    const smolq_kv_layer *kv[N_ROWS];
    smolq_run run;
    uint8_t *there[N_REGIONS]; /* on the device; NULL: the host's */
    uint64_t before = cuda_shim_bytes(), planned = memory->load_bytes(state, &b->program, 0);
    int order = (int)(n_beds % 3), pauses = (int)(n_beds >> 1 & 1), times = n_beds % 8 == 1 ? 3 : 1, i, round, turns = 0;
    size_t at;
    REQUIRE(memory->load(state, &b->program, 0, NULL, NULL, &loaded, &err) == SMOLQ_OK, "%s: %s", name, err.text);
    CHECK(cuda_shim_bytes() - before == planned, "%s: %llu bytes loaded, %llu planned", name, (unsigned long long)(cuda_shim_bytes() - before), (unsigned long long)planned);
    run = b->run;
    run.loaded = loaded;
    run.kv = kv;
    for (i = 0; i < run.n_rows; i++) kv[i] = &layer;
    for (i = 0; i < b->n_regions; i++) {
        uint8_t **pointer = b->layer.k == b->region[i].p ? &layer.k : b->layer.v == b->region[i].p ? &layer.v : NULL;
        int32_t k;
        for (k = 0; k < SMOLQ_BUF_COUNT; k++)
            if (b->run.buffer[k] == b->region[i].p && !smolq_is_host_buffer(k)) pointer = &run.buffer[k];
        there[i] = NULL;
        if (!pointer) continue;
        REQUIRE(memory->alloc(state, b->region[i].bytes, &there[i], &err) == SMOLQ_OK, "%s: %s", name, err.text);
        *pointer = there[i];
    }
    REQUIRE(memory->alloc(state, backend->scratch(state, &b->program, run.n_rows), &run.scratch, &err) == SMOLQ_OK, "%s: %s", name, err.text);
    cuda_shim_order(order == 0 ? CUDA_SHIM_FORWARD : order == 1 ? CUDA_SHIM_REVERSE : CUDA_SHIM_RANDOM, n_beds);
    run.pause = pauses ? every_other : NULL;
    run.user = &b->turn;
    for (round = 0; round < times; round++) {
        restore(b);
        for (i = 0; i < b->n_regions; i++)
            if (there[i]) CHECK(memory->copy(state, there[i], b->region[i].p, b->region[i].bytes, &err) == SMOLQ_OK, "%s: %s", name, err.text);
        run.op = 0;
        run.unit = 0;
        run.numeric = 0;
        while (run.op < run.end_op && turns++ < 1000) {
            smolq_result result = backend->run(state, &run, &err);
            CHECK(result == SMOLQ_OK, "%s: %s", name, err.text);
            if (result) break;
        }
        CHECK(run.op == run.end_op, "%s: it does not end", name);
        CHECK(!run.numeric == !numeric, "%s: flags %d, expected %d", name, (int)run.numeric, (int)numeric);
        for (i = 0; i < b->n_regions && !numeric; i++) {
            region *r = &b->region[i];
            if (there[i]) CHECK(memory->copy(state, r->p, there[i], r->bytes, &err) == SMOLQ_OK, "%s: %s", name, err.text);
            if (!r->before || memcmp(r->p, r->expected, r->bytes) == 0) continue;
            for (at = 0; r->p[at] == r->expected[at]; at++) {}
            CHECK(0, "%s: %s, run %d: byte %d of region %d (%d bytes) is %02x, expected %02x (SMOLQ_SEED=%llu)", name, orders[order], round, (int)at, i, (int)r->bytes, r->p[at], r->expected[at],
                  (unsigned long long)rotation());
        }
    }
    memory->free(state, run.scratch);
    for (i = 0; i < b->n_regions; i++)
        if (there[i]) memory->free(state, there[i]);
    memory->unload(state, loaded);
    CHECK(cuda_shim_bytes() == before, "%s: %llu bytes of device memory are left behind", name, (unsigned long long)(cuda_shim_bytes() - before));
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "products of every type, odd shapes, one to 512 tokens", products },
        { "products of the largest activations and codes",          products_of_extremes },
        { "products that share an input",                           products_of_parts },
        { "gated products",                                         products_gated },
        { "products of experts",                                    products_of_experts },
        { "norms",                                                  norms },
        { "activations as int8",                                    quantizing },
        { "rotations",                                              rotations },
        { "cells of the cache",                                     storing },
        { "attention",                                              attentions },
        { "attention with the least scores",                        least_scores },
        { "gates",                                                  gates },
        { "embedding, experts' sums, gather, caps",                 the_rest },
    };
    smolq_error err = { 0, "" };
    int failed;
    cuda_shim_reset();
    if (smolq_device_open(smolq_backend_cuda(), NULL, &device, &err)) {
        printf("FAIL the device opens: %s\n", err.text);
        return 1;
    }
    printf("%s\n", smolq_device_report(device));
    failed = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    smolq_device_close(device);
    return failed;
}
