/* hello: the smallest program that writes text with a model.
 *
 *     cc -O2 -I. examples/hello.c -o build/hello -lm
 *     build/hello examples/models/smolq-tales.Q4_K_M.gguf "Once upon a time"
 *
 * It opens a model and a context, turns the prompt into tokens, and then asks again and again for the likeliest next token. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include <stdio.h>
#include <string.h>

static smolq_error err; /* every call leaves its sentence here when it fails */

static int say(smolq_context *context, const smolq_vocab *vocab, const char *prompt)
{
    int32_t ids[512], id;
    char text[1024];
    size_t n;
    int i;

    if (smolq_tokenize(vocab, prompt, strlen(prompt), SMOLQ_ADD_BOS, ids, 512, &n, &err)) return 1;
    printf("%s", prompt);
    for (i = 0; i < 100; i++) {
        smolq_eval_item item = { context, ids, (int32_t)n, SMOLQ_LOGITS_SAMPLE, NULL, NULL, &id };
        if (smolq_eval(&item, 1, NULL, &err)) return 1;
        if (smolq_token_is_eog(vocab, id)) break;
        if (smolq_detokenize(vocab, &id, 1, 0, text, sizeof text, &n, &err)) return 1;
        fwrite(text, 1, n, stdout);
        fflush(stdout);
        ids[0] = id; /* what was said is what comes next */
        n = 1;
    }
    putchar('\n');
    return 0;
}

int main(int argc, char **argv)
{
    smolq_model *model = NULL;
    smolq_context *context = NULL;
    int failed;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) return printf("%s [MODEL [PROMPT]]: writes a hundred tokens\n", argv[0]) < 0;
    failed = smolq_open(argc > 1 ? argv[1] : "examples/models/smolq-tales.Q4_K_M.gguf", NULL, &model, &err) ||
             smolq_context_open(model, NULL, &context, &err) ||
             say(context, smolq_model_vocab(model), argc > 2 ? argv[2] : "Once upon a time");
    if (failed) fprintf(stderr, "hello: %s\n", err.text);
    smolq_context_close(context);
    smolq_close(model);
    return failed;
}
