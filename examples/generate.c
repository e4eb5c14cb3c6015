/* generate: continues a prompt, or answers it with --chat.
 *
 *     cc -O2 -I. -DSMOLQ_WITH_CPU examples/generate.c smolq_cpu.c -o build/generate -lm -lpthread
 *     build/generate -p "Once upon a time" --seed 7 --stats
 *     build/generate -m model.gguf --chat -p "Why is the sky blue?"
 *
 * Text comes as it is made, in whole characters.  The same command gives the same text on every machine: the draw depends on the logits, the
 * seed and the position alone.  Without -m it runs the small model that is bundled with smolq. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

/* Where the bundled model is: what the compiler was told, here, or beside the folder of this program. */
static const char *bundled_model(void)
{
    static const char name[] = "examples/models/smolq-tales.Q4_K_M.gguf";
    static char path[4096];
    const char *slash = strrchr(program, '/');
    int folder = slash ? (int)(slash - program) : 0;
    FILE *file;
#ifdef SMOLQ_DEMO_MODEL
    return SMOLQ_DEMO_MODEL;
#endif
    snprintf(path, sizeof path, "%.*s%s../%s", folder, program, slash ? "/" : "", name);
    file = fopen(name, "rb");
    if (file) fclose(file);
    return file ? name : path;
}

static int32_t *chat_tokens(const smolq_vocab *vocab, const char *system, const char *prompt, size_t *n)
{
    smolq_message messages[2];
    smolq_error err;
    int32_t *ids;
    size_t n_messages = 0;
    smolq_result result;
    if (system) {
        smolq_message message = { "system", system, strlen(system) };
        messages[n_messages++] = message;
    }
    messages[n_messages].role = "user";
    messages[n_messages].text = prompt;
    messages[n_messages++].bytes = strlen(prompt);
    result = smolq_chat_tokenize(vocab, messages, n_messages, NULL, NULL, 0, n, &err); /* how many? */
    if (result != SMOLQ_E_BUFFER) check(result, &err);
    ids = (int32_t *)need(*n, sizeof *ids);
    check(smolq_chat_tokenize(vocab, messages, n_messages, NULL, ids, *n, n, &err), &err);
    return ids;
}

int main(int argc, char **argv)
{
    engine e = { 0 };
    const char *prompt = "Once upon a time", *system = NULL, *ended = "-n tokens made";
    float temperature = 0.7f, top_p = 0.95f, min_p = 0.05f;
    int n_ctx = 0, n_max = 256, top_k = 40, chat = 0, echo = 0, stats = 0, n_made = 0, n_evals = 0;
    uint64_t seed = 0;
    list stops = { 0 };
    const option options[] = {
        ENGINE_OPTIONS(e),
        { "-t",       "THREADS", 'i', &e.n_threads, "threads of the cpu backend (physical cores)" },
        { "-p",       "PROMPT",  's', &prompt,      "the text to go on from (\"Once upon a time\")" },
        { "-n",       "N",       'n', &n_max,       "at most so many tokens (256); -1: until the context is full" },
        { "-c",       "CTX",     'i', &n_ctx,       "tokens of context (the model's, at most 4096)" },
        { "--temp",   "T",       'f', &temperature, "temperature (0.7); 0 always takes the likeliest token" },
        { "--top-k",  "K",       'i', &top_k,       "draw among the K likeliest tokens (40); 0: among all" },
        { "--top-p",  "P",       'f', &top_p,       "draw among the likeliest tokens that make up P (0.95)" },
        { "--min-p",  "P",       'f', &min_p,       "leave out tokens less likely than P times the likeliest (0.05)" },
        { "--seed",   "S",       'u', &seed,        "another seed, another text (0)" },
        { "--chat",   NULL,      'b', &chat,        "wrap the prompt in the model's chat format" },
        { "--system", "S",       's', &system,      "system message, with --chat" },
        { "--stop",   "S",       'l', &stops,       "end where this text would begin; may be repeated" },
        { "--echo",   NULL,      'b', &echo,        "print the prompt before what follows it" },
        { "--stats",  NULL,      'b', &stats,       "print speed and memory on stderr" },
        { NULL, NULL, 0, NULL, NULL }
    };
    smolq_sampler_options sampling = { 0 };
    smolq_sampler *sampler = NULL;
    smolq_error err;
    smolq_stream stream;
    smolq_result result = SMOLQ_OK;
    int32_t *ids, id;
    size_t n_prompt = 0, n_text, room;
    double start, prompt_ms = 0, all_ms;
    char *text;

    parse_options(argc, argv, "continues a prompt; without -m with the bundled model", options);
    if (system && !chat) die("--system needs --chat");
    if (!e.model) e.model = bundled_model();
    smolq_model *model = open_model(&e);
    const smolq_vocab *vocab = vocab_of(model);
    const smolq_context_options context_of = context_options(&e, n_ctx, 0);
    smolq_context *context = open_context(model, &context_of);

    /*                                     kind                      n      a            b  c  data  n_data */
    const smolq_sampler_step steps[] = { { SMOLQ_SAMPLE_TEMPERATURE, 0,     temperature, 0, 0, NULL, 0 },
                                         { SMOLQ_SAMPLE_TOP_K,       top_k, 0,           0, 0, NULL, 0 },
                                         { SMOLQ_SAMPLE_TOP_P,       0,     top_p,       0, 0, NULL, 0 },
                                         { SMOLQ_SAMPLE_MIN_P,       0,     min_p,       0, 0, NULL, 0 } };
    sampling.steps = steps;
    sampling.n_steps = 4;
    sampling.seed = seed;
    if (temperature > 0) check(smolq_sampler_open(smolq_vocab_size(vocab), &sampling, &sampler, &err), &err);

    if (chat) ids = chat_tokens(vocab, system, prompt, &n_prompt);
    else ids = tokenize(vocab, prompt, strlen(prompt), SMOLQ_ADD_BOS, &n_prompt);
    if (n_prompt == 0) die("the prompt is empty and this model has no token to begin with: say -p PROMPT");
    if (n_prompt > INT32_MAX) die("the prompt has too many tokens");

    check(smolq_stream_open(&stream, vocab, stops.at, stops.n, 0, &err), &err);
    room = (size_t)smolq_vocab_info(vocab)->max_token_bytes * 3 + 264;
    text = (char *)need(room, 1);
    if (echo && !chat) printf("%s", prompt);

    start = now_ms();
    while (n_made != n_max) {
        smolq_eval_item item = { context, n_evals ? &id : ids, n_evals ? 1 : (int32_t)n_prompt, SMOLQ_LOGITS_SAMPLE, NULL, sampler, &id };
        if (n_evals && smolq_context_length(context) == smolq_context_capacity(context)) {
            ended = "the context is full";
            break;
        }
        check(smolq_eval(&item, 1, NULL, &err), &err);
        if (n_evals++ == 0) prompt_ms = now_ms() - start;
        if (sampler) smolq_sampler_accept(sampler, id);
        if (smolq_token_is_eog(vocab, id)) {
            ended = "end of text";
            break;
        }
        n_made++;
        result = smolq_stream_push(&stream, id, text, room, &n_text, &err);
        check(result, &err);
        fwrite(text, 1, n_text, stdout);
        fflush(stdout);
        if (result == SMOLQ_STOP) {
            ended = "stop string";
            break;
        }
    }
    all_ms = now_ms() - start;
    if (result != SMOLQ_STOP) {
        check(smolq_stream_finish(&stream, text, room, &n_text, &err), &err);
        fwrite(text, 1, n_text, stdout);
    }
    putchar('\n');
    finish();

    if (stats) {
        const smolq_info *info = smolq_model_info(model);
        smolq_memory memory = { 0 };
        amount a, b, c, d;
        check(smolq_plan(model, &context_of, &memory, &err), &err);
        fprintf(stderr, "\n%s\n", smolq_model_report(model));
        fprintf(stderr, "prompt: %zu tokens in %.0f ms\n", n_prompt, prompt_ms);
        if (n_evals > 1) fprintf(stderr, "speed:  %.1f tokens per second", (n_evals - 1) * 1e3 / (all_ms - prompt_ms));
        if (n_evals > 1) fprintf(stderr, " (%d tokens: %s)\n", n_made, ended);
        fprintf(stderr, "memory: %s file, %s tables, ", in_mib(&a, info->file_bytes), in_mib(&b, info->table_bytes));
        fprintf(stderr, "%s context; at most %s resident\n", in_mib(&c, memory.host_bytes + memory.device_bytes), in_mib(&d, peak_rss_bytes()));
    }
    free(text);
    free(ids);
    smolq_sampler_close(sampler);
    smolq_context_close(context);
    smolq_close(model);
    smolq_device_close(e.device);
    return 0;
}
