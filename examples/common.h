/* What the example programs share: a table of options, errors that end the program, opening a model on the chosen backend, a clock.
 * Include it after smolq.h. */
#ifndef SMOLQ_EXAMPLES_COMMON_H
#define SMOLQ_EXAMPLES_COMMON_H
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _WIN32
#  include <fcntl.h>
#  include <io.h>
#  include <windows.h>
#  define isatty _isatty
#  define fileno _fileno
#else
#  include <sys/resource.h>
#  include <unistd.h>
#endif

/* ---- errors: one sentence on stderr, exit status 1 ---- */

static const char *program = "smolq"; /* argv[0], for messages and to find the bundled model */

static inline void die(const char *format, ...)
{
    const char *slash = strrchr(program, '/');
    va_list args;
    fflush(stdout);
    fprintf(stderr, "%s: ", slash ? slash + 1 : program);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static inline void check(smolq_result result, const smolq_error *err)
{
    if (result < 0) die("%s", err->text);
}

static inline void *need(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("out of memory: %zu x %zu bytes", count, size);
    return memory;
}

/* Output that did not reach the disk is an error too. */
static inline int finish(void)
{
    if (fflush(stdout) || ferror(stdout)) die("can't write the output: %s", strerror(errno));
    return 0;
}

/* ---- options: a table, one row each, ended by a row without a name; after -- there are only operands ---- */

typedef struct option {
    const char *name;  /* "-n" or "--json"; a name without a dash is an operand */
    const char *value; /* what its value is called in the help; NULL: a switch */
    char        kind;  /* 'b' switch, 'i' int from 0, 'n' int from -1, 'u' uint64_t, 'f' float, 's' string, 'l' list of strings */
    void       *out;   /* int, uint64_t, float, const char * or list */
    const char *help;
} option;

typedef struct list { int n; const char *at[32]; } list; /* of an option that may be repeated */

static inline void print_help(const char *about, const option *options)
{
    const option *o;
    printf("%s: %s\n\n", program, about);
    for (o = options; o->name; o++) printf("  %-13s %-8s %s\n", o->name, o->value ? o->value : "", o->help);
    printf("  %-13s %-8s %s\n", "--help", "", "print this");
    exit(finish());
}

static inline void set_option(const option *o, const char *text)
{
    char *end = NULL;
    errno = 0;
    if (o->kind == 's') {
        *(const char **)o->out = text;
    } else if (o->kind == 'l') {
        list *l = (list *)o->out;
        if (l->n == (int)(sizeof l->at / sizeof *l->at)) die("%s: at most %d of them", o->name, l->n);
        l->at[l->n++] = text;
    } else if (o->kind == 'f') {
        float value = strtof(text, &end);
        if (end == text || *end || !isfinite(value)) die("%s %s: expected a number", o->name, text);
        *(float *)o->out = value;
    } else if (o->kind == 'u') {
        *(uint64_t *)o->out = strtoull(text, &end, 10);
        if (end == text || *end || errno || *text == '-') die("%s %s: expected a whole number, 0 or more", o->name, text);
    } else {
        long long value = strtoll(text, &end, 10), least = o->kind == 'n' ? -1 : 0;
        if (end == text || *end || errno || value < least || value > INT32_MAX)
            die("%s %s: expected a whole number from %lld to %d", o->name, text, least, INT32_MAX);
        *(int *)o->out = (int)value;
    }
}

static inline void parse_options(int argc, char **argv, const char *about, const option *options)
{
    const option *o;
    int i, only_operands = 0;
    program = argv[0];
    for (i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) print_help(about, options);
    }
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0 && !only_operands) {
            only_operands = 1;
            continue;
        }
        for (o = options; o->name; o++) {
            int is_operand = *o->name != '-' && (*argv[i] != '-' || only_operands) && !*(const char **)o->out;
            if (is_operand || (!only_operands && strcmp(o->name, argv[i]) == 0)) break;
        }
        if (!o->name) die(*argv[i] == '-' ? "unknown option %s; --help lists them" : "what is %s? --help lists what is understood", argv[i]);
        if (o->kind == 'b') *(int *)o->out = 1;
        else if (*o->name != '-') set_option(o, argv[i]);
        else if (i + 1 == argc) die("%s: %s is missing", o->name, o->value);
        else set_option(o, argv[++i]);
    }
}

/* ---- the model and what computes ---- */

typedef struct engine { /* options that the programs which run a model have in common */
    const char   *model, *backend, *isa, *kv;
    int           n_threads, host_layers;
    smolq_progress_fn progress; /* of copying weights to a device; NULL: nobody asks */
    void         *progress_user;
    smolq_device *device;
} engine;

/*    name         value      kind  where              help */
#define ENGINE_OPTIONS(e) \
    { "-m",        "MODEL",   's', &(e).model,     "GGUF file of the model" }, \
    { "--backend", "B",       's', &(e).backend,   "ref, cpu or cuda: what computes" }, \
    { "--host-layers", "N",   'n', &(e).host_layers, "with cuda: layers that the cpu or ref backend computes (0: as many as the GPU has no room for; -1: none)" }, \
    { "--isa",     "I",       's', &(e).isa,       "ref, avx2, avxvnni, avx512, amx or neon: the most that the cpu backend may use" }, \
    { "--kv",      "TYPE",    's', &(e).kv,        "f32, f16 or q8_0: type of the KV cache (f16)" }

#ifdef SMOLQ_WITH_CPU
#  define BACKEND_CPU  smolq_backend_cpu()
#else
#  define BACKEND_CPU  NULL
#endif
#ifdef SMOLQ_WITH_CUDA
#  define BACKEND_CUDA smolq_backend_cuda()
#else
#  define BACKEND_CUDA NULL
#endif

/* The backend called name; NULL: the cpu backend where it is linked, else the reference. */
static inline const smolq_backend *find_backend(const char *name)
{
    const smolq_backend *cpu = BACKEND_CPU, *cuda = BACKEND_CUDA;
    if (!name) return cpu ? cpu : smolq_backend_ref();
    if (strcmp(name, "ref") == 0) return smolq_backend_ref();
    if (strcmp(name, "cpu") == 0) {
        if (!cpu) die("backend cpu is not linked: compile with -DSMOLQ_WITH_CPU and smolq_cpu.c");
        return cpu;
    }
    if (strcmp(name, "cuda") == 0) {
        if (!cuda) die("backend cuda is not linked: compile with -DSMOLQ_WITH_CUDA and smolq_cuda.cu");
        return cuda;
    }
    die("unknown backend %s; there are ref, cpu and cuda", name);
    return NULL;
}

static inline smolq_model *open_model(engine *e)
{
    smolq_device_options device_options = { 0 };
    smolq_open_options options = { 0 };
    smolq_model *model;
    smolq_error err;
    if (!e->model) die("no model: say -m MODEL");
    device_options.n_threads = e->n_threads;
    device_options.isa = e->isa;
    check(smolq_device_open(find_backend(e->backend), &device_options, &e->device, &err), &err);
    options.device = e->device;
    options.device_options = &device_options;
    options.progress = e->progress;
    options.user = e->progress_user;
    options.host_layers = e->host_layers;
    options.host_backend = BACKEND_CPU;
    check(smolq_open(e->model, &options, &model, &err), &err);
    return model;
}

static inline const smolq_vocab *vocab_of(const smolq_model *model)
{
    const smolq_vocab *vocab = smolq_model_vocab(model);
    if (!vocab) die("the file has no tokenizer");
    return vocab;
}

static inline smolq_context_options context_options(const engine *e, int n_ctx, int n_batch)
{
    static const char *const names[] = { "f32", "f16", "q8_0" };
    static const int types[] = { SMOLQ_KV_F32, SMOLQ_KV_F16, SMOLQ_KV_Q8_0 };
    smolq_context_options options = { 0 };
    size_t i;
    for (i = 0; e->kv && i < 3 && strcmp(e->kv, names[i]); i++) {}
    if (i == 3) die("unknown KV type %s; there are f32, f16 and q8_0", e->kv);
    options.n_ctx = n_ctx;
    options.n_batch = n_batch;
    options.kv_type = e->kv ? types[i] : SMOLQ_KV_DEFAULT;
    return options;
}

static inline smolq_context *open_context(smolq_model *model, const smolq_context_options *options)
{
    smolq_context *context;
    smolq_error err;
    check(smolq_context_open(model, options, &context, &err), &err);
    return context;
}

/* ---- text and numbers in and out ---- */

static inline int32_t *tokenize(const smolq_vocab *vocab, const char *text, size_t bytes, int32_t flags, size_t *n)
{
    smolq_error err;
    int32_t *ids;
    smolq_result result = smolq_tokenize(vocab, text, bytes, flags, NULL, 0, n, &err); /* how many? */
    if (result != SMOLQ_E_BUFFER) check(result, &err);
    ids = (int32_t *)need(*n, sizeof *ids);
    check(smolq_tokenize(vocab, text, bytes, flags, ids, *n, n, &err), &err);
    return ids;
}

static inline char *read_all(FILE *file, const char *name, size_t *bytes)
{
    size_t room = 1 << 16, got;
    char *text = (char *)need(room, 1), *more;
    *bytes = 0;
    while ((got = fread(text + *bytes, 1, room - *bytes, file)) > 0) {
        *bytes += got;
        if (*bytes < room) continue;
        more = (char *)realloc(text, room *= 2);
        if (!more) die("out of memory: %s is larger than %zu bytes", name, room / 2);
        text = more;
    }
    if (ferror(file)) die("can't read %s: %s", name, strerror(errno));
    return text;
}

/* "1 2 3", also with commas and newlines */
static inline int32_t *parse_ids(const char *text, size_t *n)
{
    int32_t *ids = (int32_t *)need(strlen(text) / 2 + 1, sizeof *ids);
    char *end;
    for (*n = 0; *(text += strspn(text, " \t\r\n,")); text = end) {
        long id = strtol(text, &end, 10);
        if (end == text || (*end && !strchr(" \t\r\n,", *end)) || id < 0 || id > INT32_MAX)
            die("%.20s: expected token ids, numbers from 0", text);
        ids[(*n)++] = (int32_t)id;
    }
    return ids;
}

/* f32, little-endian on any machine; `bytes` has room for n * 4. */
static inline void float_bytes(const float *values, size_t n, unsigned char *bytes)
{
    size_t i;
    for (i = 0; i < n; i++, bytes += 4) {
        uint32_t u;
        memcpy(&u, values + i, 4);
        bytes[0] = (unsigned char)u;
        bytes[1] = (unsigned char)(u >> 8);
        bytes[2] = (unsigned char)(u >> 16);
        bytes[3] = (unsigned char)(u >> 24);
    }
}

static inline void binary(FILE *file) /* Windows would change line ends */
{
#ifdef _WIN32
    _setmode(fileno(file), _O_BINARY);
#else
    (void)file;
#endif
}

/* ---- text from a file, which may hold anything ---- */

/* Length of the UTF-8 character at p, 0 if there is none (Unicode 15, table 3-7). */
static inline size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t length = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0, i;
    if (length > n) return 0;
    for (i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90)) return 0; /* overlong */
    if ((p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0; /* surrogates, beyond U+10FFFF */
    return length;
}

/* For a terminal: control bytes and invalid ones as \xHH, no more than `most` bytes. */
static inline void show_text(const char *text, size_t n, size_t most)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i, length;
    for (i = 0; i < n && i < most; i += length ? length : 1) {
        length = utf8_length(p + i, n - i);
        if (p[i] == '\n') printf("\\n");
        else if (length == 0 || p[i] < 0x20 || p[i] == 0x7f || (p[i] == 0xc2 && p[i + 1] < 0xa0)) {
            printf("\\x%02x", p[i]);
            length = 1;
        } else fwrite(p + i, 1, length, stdout);
    }
    if (i < n) printf("... (%zu bytes)", n);
}

/* ---- time and memory ---- */

static inline double now_ms(void)
{
#ifdef _WIN32
    LARGE_INTEGER now, per_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&per_second);
    return (double)now.QuadPart * 1e3 / (double)per_second.QuadPart;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
#endif
}

/* Most memory that was ever resident, mapped pages of the model included; 0 where the system does not say. */
static inline uint64_t peak_rss_bytes(void)
{
#if defined(_WIN32)
    return 0;
#else
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#  if defined(__APPLE__)
    return (uint64_t)usage.ru_maxrss;
#  else
    return (uint64_t)usage.ru_maxrss * 1024;
#  endif
#endif
}

/* A bar on a terminal with what is to be said beside it, and the time left: part of the work, 0 to 1, is done, `from` of it before since_ms. */
static inline void show_progress(double part, double from, double since_ms, const char *note)
{
    static const char bar[] = "########################################";
    int left = part > from ? (int)((now_ms() - since_ms) / 1000 / (part - from) * (1 - part)) : 0;
    if (!isatty(fileno(stderr))) return;
    fprintf(stderr, "\r[%-40.*s] %3d %%  %-40.40s  %d:%02d left ", (int)(part * 40), bar, (int)(part * 100), note, left / 60, left % 60);
    if (part >= 1) fputs("\r\033[K", stderr);
    fflush(stderr);
}

typedef struct { char text[24]; } amount;
static inline const char *in_mib(amount *a, uint64_t bytes)
{
    if (bytes >= (uint64_t)1 << 30) snprintf(a->text, sizeof a->text, "%.2f GiB", (double)bytes / 1073741824.0);
    else snprintf(a->text, sizeof a->text, "%.2f MiB", (double)bytes / 1048576.0);
    return a->text;
}

#endif
