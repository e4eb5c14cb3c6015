/* companion.c: a backend in a file of its own, as smolq_cpu.c and smolq_cuda.cu are, written against the contract alone (zones A and B of smolq.h).
 *
 * It walks the program one operation at a time and lets the reference backend compute each, so it gives the same bits.  It stands in a
 * translation unit of its own or in a unity build, before or after the implementation. */
#ifndef SMOLQ__COMPANION
#define SMOLQ__COMPANION
#ifndef SMOLQ_BACKEND
#define SMOLQ_BACKEND
#endif
#include "smolq.h"
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif
SMOLQ_API const smolq_backend *smolq_backend_companion(void);
#ifdef __cplusplus
}
#endif

typedef struct smolq__companion_state {
    const smolq_backend *ref;
    void                *ref_state;
    int                  taken;
} smolq__companion_state;

static smolq_result smolq__companion_open(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err)
{
    smolq__companion_state *mine = (smolq__companion_state *)calloc(1, sizeof *mine);
    smolq_result result;
    if (!mine) return SMOLQ_E_MEMORY;
    mine->ref = smolq_backend_ref();
    result = mine->ref->open(options, &mine->ref_state, report, report_bytes, err);
    if (result) {
        free(mine);
        return result;
    }
    snprintf(report, report_bytes, "companion: one operation at a time");
    *state = mine;
    return SMOLQ_OK;
}

static void smolq__companion_close(void *state)
{
    smolq__companion_state *mine = (smolq__companion_state *)state;
    mine->ref->close(mine->ref_state);
    free(mine);
}

static smolq_result smolq__companion_acquire(void *state, int32_t no_wait, smolq_error *err)
{
    smolq__companion_state *mine = (smolq__companion_state *)state;
    (void)no_wait;
    (void)err;
    if (mine->taken) return SMOLQ_E_BUSY;
    mine->taken = 1;
    return SMOLQ_OK;
}

static void smolq__companion_release(void *state) { ((smolq__companion_state *)state)->taken = 0; }

/* Every context brings this much for the backend's own use; here the rows' operations are noted in it. */
static uint64_t smolq__companion_scratch(void *state, const smolq_program *program, int32_t n_batch)
{
    (void)state;
    (void)program;
    return (uint64_t)n_batch * sizeof(uint32_t);
}

/* The reference backend is told to end after the next operation.  One that is not through with it was told to pause. */
static smolq_result smolq__companion_run(void *state, smolq_run *run, smolq_error *err)
{
    smolq__companion_state *mine = (smolq__companion_state *)state;
    const uint32_t end = run->end_op;
    smolq_result result = SMOLQ_OK;
    if (!mine->taken) return SMOLQ_E_DEVICE;
    while (result == SMOLQ_OK && run->op < end) {
        uint32_t before = run->op, *note = (uint32_t *)(void *)run->scratch;
        int32_t row;
        if ((uintptr_t)note % 64 != 0) return SMOLQ_E_DEVICE;
        for (row = 0; row < run->n_rows; row++) note[row] = before;
        run->end_op = run->op + 1;
        result = mine->ref->run(mine->ref_state, run, err);
        run->end_op = end;
        if (run->op == before) break;
    }
    return result;
}

SMOLQ_API const smolq_backend *smolq_backend_companion(void)
{
    static const smolq_backend backend = {
        SMOLQ_CONTRACT, SMOLQ_CONTRACT_SIZES, SMOLQ_CANONICAL, "companion", smolq__companion_open, smolq__companion_close,
        smolq__companion_acquire, smolq__companion_release, smolq__companion_scratch, smolq__companion_run, NULL
    };
    return &backend;
}
#endif
