/* ==== stream.c: tokens to text as they come =========================================================================
 * A token's bytes may end inside a character, and a stop string may begin in one token and end in another.  So a stream holds back the
 * shortest end of the text that could still matter: the longest suffix that begins a stop string, or an unfinished character.  All else is
 * certain and goes out.
 *
 *     text so far   The answer is 42.\nUs             stops  "\nUser:"
 *                                    |held|
 *
 * Stop strings are valid UTF-8 and are compared with the tokens' bytes, before anything is replaced: they begin at the first byte of a
 * character, so what is held begins there too, and what goes out is whole characters.  Bytes that are no UTF-8 become U+FFFD, one for each
 * maximal subpart (Unicode 15, section 3.9, practice and table 3-7): f0 9f 41 is U+FFFD and A.
 *
 * At most 254 bytes are held.  What is held begins later with every failed comparison, never earlier, so a pushed byte costs a few comparisons
 * with each stop string.  A stream goes on with a text: the space that SentencePiece writes before a word stays, the first word's too. */
#pragma once
#include "base.c"

/* Bytes of the character at p, of at most n bytes: *good says whether it is one.  0: the text ends inside it. */
static uint32_t smolq__character(const uint8_t *p, uint32_t n, int *good)
{
    uint32_t want = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0, i;
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80; /* second byte: no overlong forms, */
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf; /* no surrogates, nothing above U+10FFFF */
    *good = 0;
    if (want == 0) return 1;
    for (i = 1; i < want; i++) {
        if (i == n) return 0;
        if (p[i] < low || p[i] > high) return i;
        low = 0x80;
        high = 0xbf;
    }
    *good = 1;
    return want;
}

/* Writes held[0..n) as whole characters and returns where the text ends now; what follows moves to the front. */
static char *smolq__stream_release(smolq_stream *s, uint32_t n, char *out)
{
    uint32_t at = 0;
    while (at < n) {
        int good;
        uint32_t bytes = smolq__character((const uint8_t *)s->held + at, n - at, &good);
        if (bytes == 0) bytes = n - at;
        memcpy(out, good ? s->held + at : "\xef\xbf\xbd", good ? bytes : 3);
        out += good ? bytes : 3;
        at += bytes;
    }
    s->n_held -= n;
    memmove(s->held, s->held + n, s->n_held);
    return out;
}

/* Where the end of held begins that could become a stop string or a character. */
static uint32_t smolq__stream_hold(const smolq_stream *s)
{
    uint32_t from, n = s->n_held, character = n, back;
    int32_t i;
    int good;
    for (back = 1; back <= 3 && back <= n; back++)
        if (smolq__character((const uint8_t *)s->held + n - back, back, &good) == 0) character = n - back;
    for (from = 0; from < character; from++)
        for (i = 0; i < s->n_stops; i++)
            if (strlen(s->stops[i]) > n - from && memcmp(s->stops[i], s->held + from, n - from) == 0) return from;
    return character;
}

/* The stop string that held ends with, +1; the longest if there are several; 0 if there is none. */
static int32_t smolq__stream_stopped(const smolq_stream *s, uint32_t *bytes)
{
    int32_t i, found = 0;
    *bytes = 0;
    for (i = 0; i < s->n_stops; i++) {
        uint32_t n = (uint32_t)strlen(s->stops[i]);
        if (n > *bytes && n <= s->n_held && memcmp(s->held + s->n_held - n, s->stops[i], n) == 0) {
            *bytes = n;
            found = i + 1;
        }
    }
    return found;
}

SMOLQ_API smolq_result smolq_stream_open(smolq_stream *stream, const smolq_vocab *vocab, const char *const *stops, int32_t n_stops, int32_t flags, smolq_error *err)
{
    int32_t i;
    if (!stream || !vocab || n_stops < 0 || (n_stops > 0 && !stops)) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_stream_open: stream, vocab or stops is NULL, or n_stops (%d) is negative", (int)n_stops);
    if (flags & ~SMOLQ_SHOW_SPECIAL) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_stream_open: flags is %d, expected 0 or SMOLQ_SHOW_SPECIAL", (int)flags);
    for (i = 0; i < n_stops; i++) {
        size_t n = stops[i] ? strlen(stops[i]) : 0, at;
        smolq__quoted quoted;
        if (n < 1 || n > 255) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_stream_open: stop string %d has %llu bytes, expected 1..255", (int)i, (unsigned long long)n);
        for (at = 0; at < n;) {
            int good;
            at += smolq__character((const uint8_t *)stops[i] + at, (uint32_t)(n - at), &good);
            if (!good) return smolq__fail(err, SMOLQ_E_ARGUMENT, "smolq_stream_open: stop string %d is not UTF-8: '%s'", (int)i, smolq__quote(&quoted, stops[i], n));
        }
    }
    memset(stream, 0, sizeof *stream);
    stream->vocab = vocab;
    stream->stops = stops;
    stream->n_stops = n_stops;
    stream->flags = flags;
    return SMOLQ_OK;
}

/* The token's bytes go to the end of the caller's buffer, the text grows from its beginning.  A byte read makes at most three bytes of text
 * beyond what was held, so with room for 3 * bytes + held + 3 the text never reaches a byte that is still to be read. */
SMOLQ_API smolq_result smolq_stream_push(smolq_stream *stream, int32_t id, char *text, size_t capacity, size_t *n_bytes, smolq_error *err)
{
    size_t bytes = 0, needed, i;
    smolq_result result;
    smolq_error found;
    char *out = text;
    const char *in;
    int32_t flags = stream->flags | SMOLQ_NO_PREFIX;
    if (stream->stopped) {
        *n_bytes = 0;
        return SMOLQ_STOP;
    }
    result = smolq_detokenize(stream->vocab, &id, 1, flags, NULL, 0, &bytes, &found);
    if (result != SMOLQ_OK && result != SMOLQ_E_BUFFER) {
        if (err) *err = found;
        return result;
    }
    needed = bytes * 3 + stream->n_held + 3;
    if (capacity < needed || !text) {
        *n_bytes = needed;
        return smolq__fail(err, SMOLQ_E_BUFFER, "smolq_stream_push: text has room for %llu bytes, token %d can need %llu", (unsigned long long)capacity, (int)id, (unsigned long long)needed);
    }
    in = text + capacity - bytes;
    result = smolq_detokenize(stream->vocab, &id, 1, flags, text + capacity - bytes, bytes, &bytes, err);
    if (result != SMOLQ_OK) return result;
    for (i = 0; i < bytes; i++) {
        uint32_t stop_bytes;
        stream->held[stream->n_held++] = in[i];
        stream->stopped = smolq__stream_stopped(stream, &stop_bytes);
        if (stream->stopped) {
            out = smolq__stream_release(stream, stream->n_held - stop_bytes, out);
            stream->n_held = 0;
            break;
        }
        out = smolq__stream_release(stream, smolq__stream_hold(stream), out);
    }
    *n_bytes = (size_t)(out - text);
    return stream->stopped ? SMOLQ_STOP : SMOLQ_OK;
}

SMOLQ_API smolq_result smolq_stream_finish(smolq_stream *stream, char *text, size_t capacity, size_t *n_bytes, smolq_error *err)
{
    size_t needed = stream->n_held ? (size_t)stream->n_held + 3 : 0; /* an unfinished character of one byte becomes three */
    if (capacity < needed || (needed && !text)) {
        *n_bytes = needed;
        return smolq__fail(err, SMOLQ_E_BUFFER, "smolq_stream_finish: text has room for %llu bytes, %llu can be needed", (unsigned long long)capacity, (unsigned long long)needed);
    }
    *n_bytes = needed ? (size_t)(smolq__stream_release(stream, stream->n_held, text) - text) : 0;
    return SMOLQ_OK;
}
