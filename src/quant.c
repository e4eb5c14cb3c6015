/* ==== quant.c: tensor types for the caller ==========================================================================
 * What levels.h knows of the types, behind checked functions of the API. */
#pragma once
#include "base.c"
#include "levels.h"

SMOLQ_API const smolq_type_facts *smolq_type_info(int32_t type)
{
    const smolq__type *t = smolq__type_of(type);
    return t ? &t->facts : NULL;
}

SMOLQ_API smolq_result smolq_unpack(int32_t type, const void *blocks, float *values, size_t n, smolq_error *err)
{
    const smolq__type *t = smolq__type_of(type);
    SMOLQ__FP_STATE saved;
    if (!t) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_unpack: %d is not the id of a tensor type", (int)type);
    if (!t->unpack) return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "smolq_unpack: %s tensors hold no weights to unpack", t->facts.name);
    if (n % (size_t)t->facts.block_weights)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_unpack: %llu weights of type %s, expected a multiple of %d",
                           (unsigned long long)n, t->facts.name, (int)t->facts.block_weights);
    if (n && (!blocks || !values)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_unpack: %s is NULL", blocks ? "values" : "blocks");
    saved = smolq__fp_enter();
    smolq__unpack_row(t, (const uint8_t *)blocks, values, (int64_t)n);
    smolq__fp_leave(saved);
    return SMOLQ_OK;
}
