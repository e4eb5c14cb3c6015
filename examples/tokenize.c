/* tokenize: text to token ids, or ids back to text.
 *
 *     cc -O2 -I. examples/tokenize.c -o build/tokenize -lm
 *     printf 'Once upon a time' | build/tokenize -m examples/models/smolq-tales.Q4_K_M.gguf
 *     echo 549 258 482 | build/tokenize -m examples/models/smolq-tales.Q4_K_M.gguf --decode
 *
 * Every byte of standard input is text, a last newline too.  Any GGUF with a vocabulary will do: weights and family are not looked at. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

static void print_ids(const smolq_vocab *vocab, const char *text, size_t bytes, int32_t flags)
{
    size_t n, i;
    int32_t *ids = tokenize(vocab, text, bytes, flags, &n);
    for (i = 0; i < n; i++) printf("%s%d", i ? " " : "", (int)ids[i]);
    putchar('\n');
    free(ids);
}

static void print_text(const smolq_vocab *vocab, const char *line, int32_t flags)
{
    smolq_error err;
    size_t n, bytes;
    int32_t *ids = parse_ids(line, &n);
    smolq_result result = smolq_detokenize(vocab, ids, n, flags, NULL, 0, &bytes, &err); /* how long? */
    char *text;
    if (result != SMOLQ_E_BUFFER) check(result, &err);
    text = (char *)need(bytes, 1);
    check(smolq_detokenize(vocab, ids, n, flags, text, bytes, &bytes, &err), &err);
    fwrite(text, 1, bytes, stdout);
    free(text);
    free(ids);
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    int bos = 0, special = 0, decode = 0;
    const option options[] = {
        { "-m",        "MODEL", 's', &path,    "GGUF file with a vocabulary" },
        { "--bos",     NULL,    'b', &bos,     "put the begin and end tokens where the file asks for them" },
        { "--special", NULL,    'b', &special, "read control tokens such as <|im_end|> as tokens; with --decode: show them" },
        { "--decode",  NULL,    'b', &decode,  "ids to text" },
        { NULL, NULL, 0, NULL, NULL }
    };
    smolq_vocab *vocab;
    smolq_error err;
    size_t bytes;
    char *text;

    parse_options(argc, argv, "standard input to token ids on one line, or back", options);
    if (!path) die("no model: say -m MODEL");
    check(smolq_vocab_open(path, NULL, &vocab, &err), &err);
    binary(stdin);
    binary(stdout);
    text = read_all(stdin, "standard input", &bytes);
    if (decode) print_text(vocab, text, special ? SMOLQ_SHOW_SPECIAL : 0);
    else print_ids(vocab, text, bytes, (bos ? SMOLQ_ADD_BOS : 0) | (special ? SMOLQ_PARSE_SPECIAL : 0));
    free(text);
    smolq_vocab_close(vocab);
    return finish();
}
