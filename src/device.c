/* ==== device.c: backends at work, and the self-test =================================================================
 * A device holds what a backend needs to compute.  Before the first model uses one, a self-test computes a product of every tensor
 * type and compares the bits with a constant: a compiler that contracts, vectorizes or rounds otherwise than docs/arithmetic.md
 * asks is found here, and not by a user whose replay differs.  Such a build works, and says exact=no. */
#pragma once
#include "ref.c"

struct smolq_device {
    smolq__heap          heap;
    const smolq_backend *backend;
    void                *state;
    char                 report[128];
};

static smolq_result smolq__check_contract(const smolq_backend *backend, smolq_error *err)
{
    if (backend->version != SMOLQ_CONTRACT || backend->sizes != SMOLQ_CONTRACT_SIZES)
        return smolq__fail(err, SMOLQ_E_VERSION, "backend '%s' was compiled for contract %06x/%08x, smolq.h has %06x/%08x; take both from one release",
                           backend->name, (unsigned)backend->version, (unsigned)backend->sizes, (unsigned)SMOLQ_CONTRACT, (unsigned)SMOLQ_CONTRACT_SIZES);
    return SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_device_open(const smolq_backend *backend, const smolq_device_options *options, smolq_device **device, smolq_error *err)
{
    smolq_device_options mine;
    smolq__heap heap;
    smolq_device *opened;
    smolq_result result;
    if (!device) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_device_open: device is NULL");
    if (!backend) backend = smolq_backend_ref();
    smolq__options(&mine, sizeof mine, options, sizeof mine);
    result = smolq__check_contract(backend, err);
    if (result) return result;
    smolq__heap_init(&heap, &mine.allocator, 0);
    opened = (smolq_device *)smolq__alloc(&heap, sizeof *opened);
    if (!opened) return smolq__fail_memory(&heap, err, "the device");
    opened->heap = heap;
    opened->backend = backend;
    result = backend->open(&mine, &opened->state, opened->report, sizeof opened->report, err);
    if (result) {
        smolq__heap_close(&opened->heap);
        return result;
    }
    *device = opened;
    return SMOLQ_OK;
}

SMOLQ_API void smolq_device_close(smolq_device *device)
{
    if (!device) return;
    device->backend->close(device->state);
    smolq__heap_close(&device->heap);
}

SMOLQ_API const char *smolq_device_report(const smolq_device *device) { return device ? device->report : ""; }

/* ---- self-test ---- */

#define SMOLQ__SELF_TEST_HASH 0xc98f6278403e0a7eu

static uint64_t smolq__fnv(uint64_t hash, float x)
{
    uint32_t u = smolq_bits(x);
    int32_t i;
    for (i = 0; i < 4; i++, u >>= 8) hash = (hash ^ (u & 0xff)) * 0x100000001b3u;
    return hash;
}

#define SMOLQ__SELF_TEST_TYPE(id, NAME, name, weights, group, block) id,
static uint64_t smolq__self_test_hash(void)
{
    static const int32_t types[] = { SMOLQ_TYPES(SMOLQ__SELF_TEST_TYPE) };
    enum { N = 512 };
    float x[N], sine_cosine[2], y;
    uint8_t w[N * 4], a8[2 * N];
    const uint8_t *input;
    uint64_t hash = 0xcbf29ce484222325u;
    uint32_t random = 1;
    double sine, cosine;
    size_t t;
    int32_t i;
    for (i = 0; i < N; i++) {
        random = random * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(random >> 8) * 1.1920929e-7f - 1.0f;
    }
    for (t = 0; t < SMOLQ__COUNT(types); t++) {
        const smolq__type *type = smolq__type_of(types[t]);
        for (i = 0; i < (int32_t)sizeof w; i++) {
            random = random * 1664525u + 1013904223u;
            w[i] = (uint8_t)((random >> 24) & 0xbb); /* no float that these bytes can spell is NaN, infinite or huge */
        }
        if (type->ints) smolq__quantize_row(x, a8, N, type->facts.group);
        input = type->ints ? a8 : (const uint8_t *)x;
        if (type->ints) smolq__dot_quantized(type, w, N, &input, 1, &y);
        else smolq__dot_float_rows(type, w, N, &input, 1, &y);
        hash = smolq__fnv(hash, y);
    }
    for (i = 0; i < N; i++) hash = smolq__fnv(hash, smolq_silu(x[i] * 8.0f));
    for (i = 1; i < 65536; i *= 3) {
        smolq__sincos64((double)i * 0.7, &sine, &cosine);
        sine_cosine[0] = (float)sine;
        sine_cosine[1] = (float)cosine;
        hash = smolq__fnv(smolq__fnv(hash, sine_cosine[0]), sine_cosine[1]);
    }
    return smolq__fnv(hash, (float)smolq__exp64(smolq__log64(5e6) * -0.37));
}
#undef SMOLQ__SELF_TEST_TYPE

static int smolq__self_test(void) { return smolq__self_test_hash() == SMOLQ__SELF_TEST_HASH; }
