/* What the example programs that write GGUF files share: one file on its way out, which an error of the program takes back.  Include it after common.h. */
#ifndef SMOLQ_EXAMPLES_OUTPUT_H
#define SMOLQ_EXAMPLES_OUTPUT_H

static smolq_gguf_writer *out;
static inline void discard_output(void) { smolq_gguf_discard(out); }

static inline void begin_output(const char *path)
{
    static int watched;
    smolq_error err;
    check(smolq_gguf_create(path, NULL, &out, &err), &err);
    if (!watched++) atexit(discard_output);
}

static inline void put_value(const char *key, const smolq_value *value)
{
    smolq_error err;
    check(smolq_gguf_put(out, key, value, &err), &err);
}

static inline void put_int(const char *key, int32_t type, int64_t i)
{
    smolq_value v = { 0 };
    v.type = type;
    v.i = i;
    put_value(key, &v);
}

static inline void put_text(const char *key, const char *text)
{
    smolq_value v = { 0 };
    v.type = SMOLQ_GGUF_STRING;
    v.text = text;
    v.bytes = strlen(text);
    put_value(key, &v);
}

/* All pairs of a file but those that `skips` says. */
static inline void put_pairs_of(const smolq_gguf *from, int (*skips)(const char *key, const void *user), const void *user)
{
    uint64_t i;
    for (i = 0; i < smolq_gguf_info(from)->n_pairs; i++) {
        smolq_pair pair;
        smolq_error err;
        char *key;
        check(smolq_gguf_pair(from, i, &pair, &err), &err);
        key = (char *)need(pair.key_bytes + 1, 1);
        memcpy(key, pair.key, pair.key_bytes);
        if (strlen(key) != pair.key_bytes) die("key %llu of the file has a NUL in it", (unsigned long long)i);
        if (!skips || !skips(key, user)) put_value(key, &pair.value);
        free(key);
    }
}

/* What belongs to the parts of a file, and not to the whole. */
static inline int is_split_key(const char *key, const void *user)
{
    (void)user;
    return strncmp(key, "split.", 6) == 0;
}

static inline void end_output(void)
{
    smolq_error err;
    smolq_result result = smolq_gguf_finish(out, &err);
    out = NULL;
    check(result, &err);
}

/* The last part of a path. */
static inline const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

#endif
