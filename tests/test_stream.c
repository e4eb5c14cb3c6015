/* Tests of stream.c over a vocabulary of given byte strings: the parts of the tokenizer that a stream asks are stood in for here. */
#include "test.h"
#include "../src/stream.c"

typedef struct piece { const char *bytes; size_t n; } piece;
struct smolq_vocab { const piece *pieces; int32_t n; };

SMOLQ_API smolq_result smolq_detokenize(const smolq_vocab *vocab, const int32_t *ids, size_t n_ids, int32_t flags, char *text, size_t capacity, size_t *n_bytes, smolq_error *err)
{
    const piece *p;
    (void)n_ids;
    if (ids[0] < 0 || ids[0] >= vocab->n) return smolq__fail(err, SMOLQ_E_ARGUMENT, "id %d", (int)ids[0]);
    p = &vocab->pieces[ids[0]];
    *n_bytes = p->n;
    if (p->n && p->bytes[0] == '\x01') *n_bytes = flags & SMOLQ_SHOW_SPECIAL ? p->n : 0; /* stands for a control token */
    if (*n_bytes > capacity) return smolq__fail(err, SMOLQ_E_BUFFER, "too small");
    if (*n_bytes) memcpy(text, p->bytes, *n_bytes);
    return SMOLQ_OK;
}

/* Cuts text at every '|' into tokens, pushes them with exactly the capacity that is needed and joins what comes out, a '|' between pushes;
 * "#" in the answer marks SMOLQ_STOP. */
static const char *streamed(const char *text, size_t bytes, const char *const *stops, int32_t n_stops)
{
    static char out[65536];
    static piece pieces[4096];
    smolq_vocab vocab;
    smolq_stream s;
    smolq_error err;
    size_t used = 0, n, i, from = 0;
    int32_t id;
    vocab.pieces = pieces;
    vocab.n = 0;
    for (i = 0; i <= bytes; i++)
        if (i == bytes || text[i] == '|') {
            pieces[vocab.n].bytes = text + from;
            pieces[vocab.n++].n = i - from;
            from = i + 1;
        }
    if (smolq_stream_open(&s, &vocab, stops, n_stops, 0, &err)) return "open failed";
    for (id = 0; id < vocab.n; id++) {
        size_t room = pieces[id].n * 3 + s.n_held + 3;
        char *exact = (char *)malloc(room);
        smolq_result result = smolq_stream_push(&s, id, exact, room, &n, &err);
        memcpy(out + used, exact, n);
        free(exact);
        used += n;
        if (result == SMOLQ_STOP) {
            out[used++] = '#';
            break;
        }
        if (result != SMOLQ_OK || n > room || s.n_held > 257) return "a push failed";
        out[used++] = '|';
    }
    if (smolq_stream_finish(&s, out + used, sizeof out - used, &n, &err)) return "finish failed";
    out[used + n] = 0;
    return out;
}

static void text_goes_out_as_soon_as_it_is_certain(void)
{
    static const struct { const char *in, *want; int32_t n; const char *stops[3]; } rows[] = {
        { "Hel|lo| wor|ld", "Hel|lo| wor|ld|", 0, { 0 } },
        { "\xe2\x82|\xac!", "|\xe2\x82\xac!|", 0, { 0 } },
        { "a\xf0|\x9f|\x98|\x80z", "a|||\xf0\x9f\x98\x80z|", 0, { 0 } },
        { "one\nU|ser|: hi", "one||#", 1, { "\nUser:" } },
        { "one\nU|s|ed", "one||\nUsed|", 1, { "\nUser:" } },
        { "one\nUs", "one|\nUs", 1, { "\nUser:" } },                       /* finish shows what was held */
        { "aaaa|ab", "aa|a#", 1, { "aab" } },
        { "aa|ac", "|aaac|", 1, { "aab" } },
        { "xabc", "x#", 2, { "bc", "abc" } },                               /* both end here: the longer one */
        { "xabc", "x#", 2, { "abc", "bc" } },
        { "xabc", "x#", 2, { "abc", "ab" } },                               /* the one that ends first */
        { "stop", "#", 1, { "stop" } },
        { "|st||op", "|||#", 1, { "stop" } },                               /* empty tokens */
        { "na\xc3|\xafve \xe2\x82|\xac.", "na|#", 1, { "\xc3\xafve" } },
        { "\xe2\x82|\xac\xe2\x82|\xad|", "||\xe2\x82\xac\xe2\x82\xad||", 1, { "\xe2\x82\xac\xe2\x82\xac" } },
        { "ababab|abac", "ab|ab#", 1, { "ababac" } },
    };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *got = streamed(rows[i].in, strlen(rows[i].in), rows[i].stops, rows[i].n);
        CHECK(strcmp(got, rows[i].want) == 0, "row %d gives '%s', expected '%s'", (int)i, got, rows[i].want);
    }
}

/* Unicode 15, section 3.9: table 3-8 and the examples of the text. */
static void invalid_bytes_become_one_replacement_for_each_maximal_subpart(void)
{
#define R "\xef\xbf\xbd"
    static const struct { const char *in, *want; } rows[] = {
        { "\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "a" R R R "b" R "c" R R "d" },
        { "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "A" },
        { "\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "A" },
        { "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "A" R R "B" },
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "A" },
        { "\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80" },
        { "x\xf0\x9f\x98", "x" R },
        { "\xc3", R },
    };
    size_t i, k;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        char cut[64], whole[256];
        const char *got = streamed(rows[i].in, strlen(rows[i].in), NULL, 0);
        size_t n = 0, w = 0;
        for (k = 0; got[k]; k++) if (got[k] != '|') whole[w++] = got[k];
        whole[w] = 0;
        CHECK(strcmp(whole, rows[i].want) == 0, "row %d in one token gives '%s'", (int)i, whole);
        for (k = 0; rows[i].in[k]; k++) { /* a byte a token */
            if (k) cut[n++] = '|';
            cut[n++] = rows[i].in[k];
        }
        got = streamed(cut, n, NULL, 0);
        for (w = 0, k = 0; got[k]; k++) if (got[k] != '|') whole[w++] = got[k];
        whole[w] = 0;
        CHECK(strcmp(whole, rows[i].want) == 0, "row %d byte by byte gives '%s'", (int)i, whole);
    }
}

/* What a stream gives for random bytes over a small alphabet must be: the text up to the first stop string, replaced as a whole. */
static void any_cut_into_tokens_gives_the_same_text(void)
{
    static const char alphabet[] = "aab\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    static const char *const stops[] = { "aba", "\xc3\xa9" "a", "b\xe2\x82\xac", "aabaab" };
    uint32_t noise = 7;
    int round;
    for (round = 0; round < 20000; round++) {
        char text[64], cut[128], whole[256], other[256];
        size_t n = 0, n_cut = 0, i, w;
        const char *got;
        int turn;
        while (n < 40) {
            noise = noise * 1664525u + 1013904223u;
            text[n++] = alphabet[(noise >> 16) % (sizeof alphabet - 1)];
        }
        for (i = 0; i < n; i++) {
            noise = noise * 1664525u + 1013904223u;
            if (noise >> 30 == 0) cut[n_cut++] = '|';
            cut[n_cut++] = text[i];
        }
        for (turn = 0; turn < 2; turn++) {
            got = turn ? streamed(cut, n_cut, stops, 4) : streamed(text, n, stops, 4);
            for (w = 0, i = 0; got[i]; i++) if (got[i] != '|') (turn ? other : whole)[w++] = got[i];
            (turn ? other : whole)[w] = 0;
        }
        CHECK(strcmp(whole, other) == 0, "round %d: '%s' in one token, '%s' in several", round, whole, other);
        for (i = 0; i < 4; i++) CHECK(strstr(whole, stops[i]) == NULL || strchr(whole, '#') == NULL, "round %d: '%s' holds a stop string", round, whole);
    }
}

static void a_stopped_stream_stays_stopped(void)
{
    static const piece pieces[] = { { "abEND", 5 }, { "more", 4 }, { "\x01<end>", 6 }, { "\0x\0", 3 } };
    static const char *const stops[] = { "x", "END" };
    smolq_vocab vocab = { pieces, 4 };
    smolq_stream s;
    char text[64];
    size_t n = 9;
    CHECK(smolq_stream_open(&s, &vocab, stops, 2, 0, NULL) == SMOLQ_OK, "open");
    CHECK(smolq_stream_push(&s, 0, text, sizeof text, &n, NULL) == SMOLQ_STOP && n == 2 && s.stopped == 2, "n %d, stopped %d", (int)n, (int)s.stopped);
    CHECK(smolq_stream_push(&s, 1, text, sizeof text, &n, NULL) == SMOLQ_STOP && n == 0, "again");
    CHECK(smolq_stream_finish(&s, NULL, 0, &n, NULL) == SMOLQ_OK && n == 0, "finish has nothing more");
    smolq_stream_open(&s, &vocab, stops, 2, 0, NULL);
    CHECK(smolq_stream_push(&s, 3, text, sizeof text, &n, NULL) == SMOLQ_STOP && n == 1 && text[0] == 0, "a NUL is a byte like any other");
    smolq_stream_open(&s, &vocab, NULL, 0, SMOLQ_SHOW_SPECIAL, NULL);
    CHECK(smolq_stream_push(&s, 2, text, sizeof text, &n, NULL) == SMOLQ_OK && n == 6, "control token shown: %d bytes", (int)n);
    smolq_stream_open(&s, &vocab, NULL, 0, 0, NULL);
    CHECK(smolq_stream_push(&s, 2, text, sizeof text, &n, NULL) == SMOLQ_OK && n == 0, "control token hidden: %d bytes", (int)n);
}

static void a_small_buffer_consumes_nothing(void)
{
    static const piece pieces[] = { { "a\xc3", 2 }, { "\xa9", 1 } };
    smolq_vocab vocab = { pieces, 2 };
    smolq_stream s;
    smolq_error err;
    char text[16];
    size_t n = 0;
    smolq_stream_open(&s, &vocab, NULL, 0, 0, NULL);
    CHECK(smolq_stream_push(&s, 0, text, 8, &n, &err) == SMOLQ_E_BUFFER && n == 9, "needs %d", (int)n);
    CHECK(smolq_stream_push(&s, 0, text, 9, &n, &err) == SMOLQ_OK && n == 1 && text[0] == 'a', "pushed: %d", (int)n);
    CHECK(smolq_stream_push(&s, 1, text, 2, &n, &err) == SMOLQ_E_BUFFER && s.n_held == 1, "small again");
    CHECK(smolq_stream_finish(&s, text, 2, &n, &err) == SMOLQ_E_BUFFER && n == 4 && s.n_held == 1, "finish");
    CHECK(smolq_stream_push(&s, 7, text, 16, &n, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "7"), "id outside: %s", err.text);
    CHECK(smolq_stream_push(&s, 1, text, 16, &n, &err) == SMOLQ_OK && n == 2 && memcmp(text, "\xc3\xa9", 2) == 0, "the character is whole");
}

static void bad_stop_strings_are_refused(void)
{
    static const char *empty[] = { "ok", "" }, *null[] = { NULL }, *broken[] = { "\xff" }, *cut[] = { "a\xe2\x82" };
    static char long_stop[257];
    const char *too_long[1];
    smolq_vocab vocab = { NULL, 0 };
    smolq_stream s;
    smolq_error err;
    memset(long_stop, 'a', 256);
    too_long[0] = long_stop;
    CHECK(smolq_stream_open(&s, &vocab, empty, 2, 0, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "stop string 1"), "empty");
    CHECK(smolq_stream_open(&s, &vocab, null, 1, 0, &err) == SMOLQ_E_ARGUMENT, "NULL");
    CHECK(smolq_stream_open(&s, &vocab, broken, 1, 0, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "\\xff"), "not UTF-8: %s", err.text);
    CHECK(smolq_stream_open(&s, &vocab, cut, 1, 0, &err) == SMOLQ_E_ARGUMENT, "cut");
    CHECK(smolq_stream_open(&s, &vocab, too_long, 1, 0, &err) == SMOLQ_E_ARGUMENT, "256 bytes");
    CHECK(smolq_stream_open(&s, &vocab, NULL, 1, 0, &err) == SMOLQ_E_ARGUMENT, "no list");
    CHECK(smolq_stream_open(&s, &vocab, empty, -1, 0, &err) == SMOLQ_E_ARGUMENT, "negative");
    CHECK(smolq_stream_open(&s, NULL, NULL, 0, 0, &err) == SMOLQ_E_ARGUMENT, "no vocabulary");
    CHECK(smolq_stream_open(&s, &vocab, NULL, 0, SMOLQ_ADD_BOS, &err) == SMOLQ_E_ARGUMENT, "flags");
    long_stop[255] = 0;
    CHECK(smolq_stream_open(&s, &vocab, too_long, 1, 0, &err) == SMOLQ_OK, "255 bytes");
}

/* The worst for the comparison: a text that nearly is the stop string, over and over. */
static void a_long_token_takes_linear_time(void)
{
    enum { BYTES = 1 << 20 };
    static char stop[256], *text, *out;
    const char *stops[1];
    piece long_piece;
    smolq_vocab vocab;
    smolq_stream s;
    size_t n;
    memset(stop, 'a', 254);
    stop[254] = 'b';
    stops[0] = stop;
    text = (char *)malloc(BYTES);
    out = (char *)malloc(BYTES * 3 + 264);
    memset(text, 'a', BYTES);
    for (n = 250; n < BYTES / 2; n += 250) text[n] = 'c';
    long_piece.bytes = text;
    long_piece.n = BYTES;
    vocab.pieces = &long_piece;
    vocab.n = 1;
    smolq_stream_open(&s, &vocab, stops, 1, 0, NULL);
    CHECK(smolq_stream_push(&s, 0, out, BYTES * 3 + 264, &n, NULL) == SMOLQ_OK && n == BYTES - 254 && memcmp(out, text, n) == 0, "n %d", (int)n);
    free(text);
    free(out);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "stream: text goes out as soon as it is certain", text_goes_out_as_soon_as_it_is_certain },
        { "stream: invalid bytes become one replacement for each maximal subpart", invalid_bytes_become_one_replacement_for_each_maximal_subpart },
        { "stream: any cut into tokens gives the same text", any_cut_into_tokens_gives_the_same_text },
        { "stream: a stopped stream stays stopped", a_stopped_stream_stays_stopped },
        { "stream: a small buffer consumes nothing", a_small_buffer_consumes_nothing },
        { "stream: bad stop strings are refused", bad_stop_strings_are_refused },
        { "stream: a long token takes linear time", a_long_token_takes_linear_time },
    };
    return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
}
