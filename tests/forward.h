/* The logits of a conversation as one number, for tests that compare backends, devices and runs.  Included behind smolq.h and model_build.h. */
#ifndef SMOLQ_TEST_FORWARD_H
#define SMOLQ_TEST_FORWARD_H

/* FNV-1a, 64 bits */
static uint64_t fnv1a(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *p = (const unsigned char *)bytes;
    for (; n; n--) hash = (hash ^ *p++) * 0x100000001b3u;
    return hash;
}

/* Hash of the logits of all positions of a prompt and of n_more tokens after it, one at a time; 0 with the reason in err. */
static uint64_t hash_forward(smolq_context *context, int32_t n_vocab, int n_prompt, int n_more, const smolq_eval_options *options, smolq_error *err)
{
    int32_t *ids = (int32_t *)malloc((size_t)(n_prompt + n_more) * sizeof *ids);
    float *logits = (float *)malloc((size_t)n_vocab * (size_t)n_prompt * sizeof *logits);
    uint64_t hash = 0xcbf29ce484222325u;
    int at, n;
    if (!ids || !logits) abort();
    model_ids(ids, n_prompt + n_more, n_vocab, 7);
    for (at = 0; at < n_prompt + n_more && hash; at += n) {
        smolq_eval_item item = { context, ids + at, n = at ? 1 : n_prompt, SMOLQ_LOGITS_ALL, logits, NULL, NULL };
        if (smolq_eval(&item, 1, options, err)) hash = 0;
        else hash = fnv1a(hash, logits, (size_t)n * (size_t)n_vocab * sizeof *logits);
    }
    free(logits);
    free(ids);
    return hash;
}
#endif
