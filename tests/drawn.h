/* Tokens that SMOLQ_LOGITS_SAMPLE draws are those of smolq_eval and smolq_sample on another model, with all kinds of chains, alone and several contexts at once.
 *
 * Included behind smolq.h with its implementation and tests/test.h. */
#ifndef SMOLQ_TEST_DRAWN_H
#define SMOLQ_TEST_DRAWN_H
#include "test.h"

enum { DRAWN_CHAINS = 14, DRAWN_PROMPT = 9 };

/* Chain i, for n_vocab tokens; the last is no sampler at all.  Penalties before top-k, or no top-k, need all logits; the least temperatures overflow, the greatest make ties. */
static smolq_sampler *drawn_chain(int i, int32_t n_vocab)
{
#define DRAWN_STEP(kind, n, a, b, c) { SMOLQ_SAMPLE_##kind, n, a, b, c, NULL, 0 }
    static const struct { uint32_t n; smolq_sampler_step step[4]; } chains[DRAWN_CHAINS - 1] = {
        { 4, { DRAWN_STEP(TEMPERATURE, 0, 0.7f, 0, 0), DRAWN_STEP(TOP_K, 40, 0, 0, 0), DRAWN_STEP(TOP_P, 0, 0.95f, 0, 0), DRAWN_STEP(MIN_P, 0, 0.05f, 0, 0) } },
        { 3, { DRAWN_STEP(TOP_K, 5, 0, 0, 0), DRAWN_STEP(TEMPERATURE, 0, 1.3f, 0, 0), DRAWN_STEP(PENALTIES, 30, 1.4f, 0.2f, 0.3f) } },
        { 2, { DRAWN_STEP(GREEDY, 0, 0, 0, 0), DRAWN_STEP(TOP_P, 0, 0.5f, 0, 0) } },
        { 2, { DRAWN_STEP(TEMPERATURE, 0, 0, 0, 0), DRAWN_STEP(TOP_K, 3, 0, 0, 0) } },
        { 2, { DRAWN_STEP(TEMPERATURE, 0, 3.3f, 0, 0), DRAWN_STEP(GREEDY, 0, 0, 0, 0) } },
        { 4, { DRAWN_STEP(TEMPERATURE, 0, 2, 0, 0), DRAWN_STEP(TOP_K, 50, 0, 0, 0), DRAWN_STEP(TYPICAL, 0, 0.8f, 0, 0), DRAWN_STEP(XTC, 1, 0.5f, 0.02f, 0) } },
        { 3, { DRAWN_STEP(TEMPERATURE, 0, 1.1f, 0, 0), DRAWN_STEP(TOP_K, 30, 0, 0, 0), DRAWN_STEP(MIROSTAT2, 0, 3, 0.3f, 0) } },
        { 3, { DRAWN_STEP(TOP_K, 20, 0, 0, 0), DRAWN_STEP(DRY, 40, 2, 1.75f, 1), DRAWN_STEP(TOP_P, 2, 0.9f, 0, 0) } },
        { 3, { DRAWN_STEP(PENALTIES, 20, 1.2f, 0, 0), DRAWN_STEP(TEMPERATURE, 0, 0.9f, 0, 0), DRAWN_STEP(TOP_K, 10, 0, 0, 0) } },
        { 2, { DRAWN_STEP(TEMPERATURE, 0, 1, 0, 0), DRAWN_STEP(TOP_P, 0, 0.8f, 0, 0) } },
        { 2, { DRAWN_STEP(TEMPERATURE, 0, 1e-38f, 0, 0), DRAWN_STEP(TOP_K, 7, 0, 0, 0) } },
        { 2, { DRAWN_STEP(TEMPERATURE, 0, 3e38f, 0, 0), DRAWN_STEP(TOP_K, 12, 0, 0, 0) } },
        { 2, { DRAWN_STEP(TOP_K, 1000000, 0, 0, 0), DRAWN_STEP(MIN_P, 0, 0.1f, 0, 0) } },
    };
#undef DRAWN_STEP
    smolq_sampler_options options;
    smolq_sampler *s = NULL;
    if (i == DRAWN_CHAINS - 1) return NULL;
    memset(&options, 0, sizeof options);
    options.steps = chains[i].step;
    options.n_steps = chains[i].n;
    options.seed = (uint64_t)i + 11;
    if (smolq_sampler_open(n_vocab, &options, &s, NULL)) abort();
    return s;
}

static int drawn_often(void *user) { return ++*(int *)user < 0; } /* a cancel hook that never does, so that work comes in pieces */

static smolq_context *drawn_context(smolq_model *model, int32_t n_ctx, int32_t n_batch)
{
    smolq_context_options options;
    smolq_context *context = NULL;
    memset(&options, 0, sizeof options);
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    smolq_context_open(model, &options, &context, NULL);
    return context;
}

/* A conversation each: n tokens behind a prompt by chain i, the logits taken to smolq_sample. */
static void drawn_expected(smolq_model *model, int i, int32_t *out, int n)
{
    int32_t n_vocab = smolq_model_info(model)->n_vocab, ids[DRAWN_PROMPT];
    smolq_context *context = drawn_context(model, DRAWN_PROMPT + n, 0);
    smolq_sampler *s = drawn_chain(i, n_vocab);
    int k, done = context != NULL;
    for (k = 0; k < DRAWN_PROMPT; k++) ids[k] = (int32_t)((i * 31 + k * 7) % n_vocab);
    for (k = 0; k < n && done; k++) {
        smolq_eval_item item = { context, k ? &out[k - 1] : ids, k ? 1 : DRAWN_PROMPT, SMOLQ_LOGITS_LAST, NULL, NULL, NULL };
        done = smolq_eval(&item, 1, NULL, NULL) == SMOLQ_OK && smolq_sample(s, smolq_context_logits(context), n_vocab, &out[k], NULL) == SMOLQ_OK;
        if (s) smolq_sampler_accept(s, out[k]);
    }
    CHECK(done, "chain %d: token %d is not drawn", i, k - 1);
    smolq_sampler_close(s);
    smolq_context_close(context);
}

/* All conversations of a model at once (`together` of them in one call), against those of another one; n tokens each. */
static void drawn_tokens(const char *name, smolq_model *ref, smolq_model *model, int n, int together, int32_t n_batch, const smolq_eval_options *options)
{
    int32_t n_vocab = smolq_model_info(model)->n_vocab, prompt[DRAWN_CHAINS][DRAWN_PROMPT], id[DRAWN_CHAINS], *expected = (int32_t *)calloc(DRAWN_CHAINS * (size_t)n, sizeof *expected);
    smolq_context *context[DRAWN_CHAINS];
    smolq_sampler *s[DRAWN_CHAINS];
    smolq_error err = { 0, "" };
    int i, k, first;
    if (!expected) abort();
    for (i = 0; i < DRAWN_CHAINS; i++) {
        drawn_expected(ref, i, expected + i * n, n);
        context[i] = drawn_context(model, DRAWN_PROMPT + n, n_batch);
        s[i] = drawn_chain(i, n_vocab);
        if (!context[i]) abort();
        for (k = 0; k < DRAWN_PROMPT; k++) prompt[i][k] = (int32_t)((i * 31 + k * 7) % n_vocab);
    }
    for (k = 0; k < n; k++)
        for (first = 0; first < DRAWN_CHAINS; first += together) {
            smolq_eval_item items[DRAWN_CHAINS];
            int n_items = DRAWN_CHAINS - first < together ? DRAWN_CHAINS - first : together;
            for (i = 0; i < n_items; i++) {
                smolq_eval_item item = { context[first + i], k ? &id[first + i] : prompt[first + i], k ? 1 : DRAWN_PROMPT, SMOLQ_LOGITS_SAMPLE, NULL, s[first + i], &id[first + i] };
                items[i] = item;
            }
            CHECK(smolq_eval(items, n_items, options, &err) == SMOLQ_OK, "%s: %s", name, err.text);
            for (i = first; i < first + n_items; i++) {
                CHECK(id[i] == expected[i * n + k], "%s, chain %d, %d at once: token %d is %d, expected %d", name, i, together, k, (int)id[i], (int)expected[i * n + k]);
                CHECK(smolq_context_length(context[i]) == DRAWN_PROMPT + k && !smolq_context_logits(context[i]), "%s: the context has logits or another length", name);
                if (s[i]) smolq_sampler_accept(s[i], id[i]);
            }
        }
    for (i = 0; i < DRAWN_CHAINS; i++) {
        smolq_sampler_close(s[i]);
        smolq_context_close(context[i]);
    }
    free(expected);
}

/* One conversation, every token by another chain, and on the second model sometimes from logits that have come to the caller: what was captured for one way must not serve the other. */
static void drawn_in_turn(const char *name, smolq_model *ref, smolq_model *model, int n)
{
    int32_t n_vocab = smolq_model_info(model)->n_vocab, out[2][100], id;
    int m, k, i;
    if (n > 100) abort();
    for (m = 0; m < 2; m++) {
        smolq_context *context = drawn_context(m ? model : ref, n, 0);
        smolq_sampler *s[DRAWN_CHAINS];
        smolq_error err = { 0, "" };
        if (!context) abort();
        for (i = 0; i < DRAWN_CHAINS; i++) s[i] = drawn_chain(i, n_vocab);
        for (k = 0, id = 5; k < n; k++) {
            int chain = k * 5 % DRAWN_CHAINS, stays = m && k / 2 % 3;
            smolq_eval_item item = { context, &id, 1, stays ? SMOLQ_LOGITS_SAMPLE : SMOLQ_LOGITS_LAST, NULL, s[chain], &id };
            CHECK(smolq_eval(&item, 1, NULL, &err) == SMOLQ_OK, "%s: %s", name, err.text);
            if (!stays) CHECK(smolq_sample(s[chain], smolq_context_logits(context), n_vocab, &id, &err) == SMOLQ_OK, "%s: %s", name, err.text);
            for (i = 0; i < DRAWN_CHAINS; i++)
                if (s[i]) smolq_sampler_accept(s[i], id);
            out[m][k] = id;
            CHECK(out[m][k] == out[0][k], "%s, chains in turn: token %d is %d, expected %d", name, k, (int)id, (int)out[0][k]);
        }
        for (i = 0; i < DRAWN_CHAINS; i++) smolq_sampler_close(s[i]);
        smolq_context_close(context);
    }
}
#endif
