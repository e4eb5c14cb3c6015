/* smolq: quantized language models inside your C or C++ program, in one header.
 *
 *     1. In one source file:   #define SMOLQ_IMPLEMENTATION
 *                              #include "smolq.h"
 *     2. Anywhere else:        #include "smolq.h"          then:   cc -O2 app.c -lm
 *
 * From a GGUF file to text (examples/hello.c is this program, with every error checked):
 *
 *     smolq_model *model;  smolq_context *chat;  smolq_error err;
 *     int32_t ids[256], id;  char text[256];  size_t n;
 *
 *     if (smolq_open("model.gguf", NULL, &model, &err)) { puts(err.text); return 1; }
 *     smolq_context_open(model, NULL, &chat, &err);
 *     const smolq_vocab *vocab = smolq_model_vocab(model);
 *     smolq_tokenize(vocab, "Once upon a time", 16, SMOLQ_ADD_BOS, ids, 256, &n, &err);
 *     for (;;) {
 *         smolq_eval_item item = { chat, ids, (int32_t)n, SMOLQ_LOGITS_SAMPLE, NULL, NULL, &id };
 *         if (smolq_eval(&item, 1, NULL, &err)) break;               // the context is full, for example
 *         if (smolq_token_is_eog(vocab, id)) break;
 *         smolq_detokenize(vocab, &id, 1, 0, text, sizeof text, &n, &err);
 *         fwrite(text, 1, n, stdout);
 *         ids[0] = id; n = 1;
 *     }
 *     smolq_context_close(chat);  smolq_close(model);
 *
 * WHAT IT DOES NOT DO
 *     Training, fine-tuning, image or audio input.  Downloading models.  Printing, aborting, reading environment
 *     variables, starting threads that nobody asked for, keeping global state.  Repacking or dequantizing weights:
 *     they are read where the file mapping put them.
 *
 * CONTENTS
 *     CONFIGURATION            macros that change how smolq compiles
 *     VERSION AND ERRORS
 *     HOOKS                    allocator, log, progress, your own files
 *     DEVICES                  which backend computes
 *     MODELS                   open, probe, ask
 *     VOCABULARY               text to tokens and back
 *     CHAT                     a conversation in the model's own format
 *     CONTEXTS                 a KV cache: plan, open, truncate, fork, reuse
 *     EVALUATION               prefill, decode, batches, time slices
 *     SAMPLING                 logits to a token
 *     GGUF                     any GGUF file, a model or not
 *     SMQ                      smolq's own container: opens in milliseconds, checksums
 *     TENSOR TYPES             unpack blocks, pack them
 *
 * RULES THAT HOLD EVERYWHERE
 *     - A function that can fail returns a smolq_result: SMOLQ_OK is 0, an error is negative.  Its last argument takes
 *       the sentence that goes with it and may be NULL.  On failure, outputs are untouched and nothing leaks.
 *     - Option structs begin with `size`: leave the struct zeroed and every field means its default.
 *     - Text is UTF-8 given by pointer and length; a NUL is a byte like any other, except in paths.
 *     - A model, a vocabulary and a GGUF are immutable once open: any number of threads may use one at the same time.
 *       A context, a sampler, a stream and an evaluation belong to one thread at a time.
 *     - Files, prompts and chat messages may come from anyone: hostile bytes give an error, never undefined behaviour.
 *       (A file that changes while it is mapped is the exception: set no_map for files that others can write.)
 *     - The same logits, bit for bit, from every backend, thread count and batch split: docs/arithmetic.md.
 *
 * Licence: MIT, see LICENSE.  The tensor formats are those of ggml (MIT), the file format is its GGUF. */
#ifndef SMOLQ_H
#define SMOLQ_H

#include <stddef.h>
#include <stdint.h>

/* ==== CONFIGURATION =================================================================================================
 *
 *  macro                   default   effect                                                            defined where
 *  SMOLQ_IMPLEMENTATION    off       compile the library here                                          one source file
 *  SMOLQ_BACKEND           off       show the contract with backends too                               backend files
 *  SMOLQ_STATIC            off       all functions are static: private to the implementing file        that file
 *  SMOLQ_PREFIX            off       prefix of all linker names: two versions in one process           everywhere
 *  SMOLQ_DLL_EXPORT        off       dllexport / visible                                               building a DLL
 *  SMOLQ_DLL_IMPORT        off       dllimport                                                         using the DLL
 *  SMOLQ_ALLOW_FAST_MATH   off       -ffast-math is no error: other bits than everywhere, exact=no     with those flags
 *  SMOLQ_CPU_NO_AVX512     off       leave its kernels out: a third of the time to compile             smolq_cpu.c       */

#define SMOLQ_VERSION_MAJOR 0
#define SMOLQ_VERSION_MINOR 1
#define SMOLQ_VERSION_PATCH 0
#define SMOLQ_VERSION_TEXT  "0.1.0"

#if defined(SMOLQ_STATIC)
#  if defined(__GNUC__)
#    define SMOLQ_API static __attribute__((unused))
#  else
#    define SMOLQ_API static
#  endif
#elif defined(SMOLQ_DLL_EXPORT) && defined(_WIN32)
#  define SMOLQ_API extern __declspec(dllexport)
#elif defined(SMOLQ_DLL_IMPORT) && defined(_WIN32)
#  define SMOLQ_API extern __declspec(dllimport)
#elif defined(SMOLQ_DLL_EXPORT) && defined(__GNUC__)
#  define SMOLQ_API extern __attribute__((visibility("default")))
#else
#  define SMOLQ_API extern
#endif

#ifdef SMOLQ_PREFIX
#  define SMOLQ__JOIN2(a, b) a##b
#  define SMOLQ__JOIN(a, b)  SMOLQ__JOIN2(a, b)
#  define SMOLQ__NAME(name)  SMOLQ__JOIN(SMOLQ_PREFIX, name)
#  define smolq_version           SMOLQ__NAME(smolq_version)
#  define smolq_result_name       SMOLQ__NAME(smolq_result_name)
#  define smolq_backend_ref       SMOLQ__NAME(smolq_backend_ref)
#  define smolq_backend_cpu       SMOLQ__NAME(smolq_backend_cpu)
#  define smolq_backend_cuda      SMOLQ__NAME(smolq_backend_cuda)
#  define smolq_device_open       SMOLQ__NAME(smolq_device_open)
#  define smolq_device_close      SMOLQ__NAME(smolq_device_close)
#  define smolq_device_report     SMOLQ__NAME(smolq_device_report)
#  define smolq_open              SMOLQ__NAME(smolq_open)
#  define smolq_close             SMOLQ__NAME(smolq_close)
#  define smolq_probe             SMOLQ__NAME(smolq_probe)
#  define smolq_model_info        SMOLQ__NAME(smolq_model_info)
#  define smolq_model_report      SMOLQ__NAME(smolq_model_report)
#  define smolq_model_gguf        SMOLQ__NAME(smolq_model_gguf)
#  define smolq_model_vocab       SMOLQ__NAME(smolq_model_vocab)
#  define smolq_vocab_open        SMOLQ__NAME(smolq_vocab_open)
#  define smolq_vocab_close       SMOLQ__NAME(smolq_vocab_close)
#  define smolq_vocab_size        SMOLQ__NAME(smolq_vocab_size)
#  define smolq_vocab_info        SMOLQ__NAME(smolq_vocab_info)
#  define smolq_tokenize          SMOLQ__NAME(smolq_tokenize)
#  define smolq_detokenize        SMOLQ__NAME(smolq_detokenize)
#  define smolq_token_info        SMOLQ__NAME(smolq_token_info)
#  define smolq_token_find        SMOLQ__NAME(smolq_token_find)
#  define smolq_token_is_eog      SMOLQ__NAME(smolq_token_is_eog)
#  define smolq_stream_open       SMOLQ__NAME(smolq_stream_open)
#  define smolq_stream_push       SMOLQ__NAME(smolq_stream_push)
#  define smolq_stream_finish     SMOLQ__NAME(smolq_stream_finish)
#  define smolq_chat_format       SMOLQ__NAME(smolq_chat_format)
#  define smolq_chat_tokenize     SMOLQ__NAME(smolq_chat_tokenize)
#  define smolq_plan              SMOLQ__NAME(smolq_plan)
#  define smolq_context_open      SMOLQ__NAME(smolq_context_open)
#  define smolq_context_close     SMOLQ__NAME(smolq_context_close)
#  define smolq_context_length    SMOLQ__NAME(smolq_context_length)
#  define smolq_context_capacity  SMOLQ__NAME(smolq_context_capacity)
#  define smolq_context_logits    SMOLQ__NAME(smolq_context_logits)
#  define smolq_context_truncate  SMOLQ__NAME(smolq_context_truncate)
#  define smolq_context_reuse     SMOLQ__NAME(smolq_context_reuse)
#  define smolq_context_fork      SMOLQ__NAME(smolq_context_fork)
#  define smolq_eval              SMOLQ__NAME(smolq_eval)
#  define smolq_eval_begin        SMOLQ__NAME(smolq_eval_begin)
#  define smolq_eval_step         SMOLQ__NAME(smolq_eval_step)
#  define smolq_eval_cancel       SMOLQ__NAME(smolq_eval_cancel)
#  define smolq_sampler_open      SMOLQ__NAME(smolq_sampler_open)
#  define smolq_sampler_close     SMOLQ__NAME(smolq_sampler_close)
#  define smolq_sampler_reset     SMOLQ__NAME(smolq_sampler_reset)
#  define smolq_sampler_accept    SMOLQ__NAME(smolq_sampler_accept)
#  define smolq_sample            SMOLQ__NAME(smolq_sample)
#  define smolq_gguf_open         SMOLQ__NAME(smolq_gguf_open)
#  define smolq_gguf_close        SMOLQ__NAME(smolq_gguf_close)
#  define smolq_gguf_info         SMOLQ__NAME(smolq_gguf_info)
#  define smolq_gguf_pair         SMOLQ__NAME(smolq_gguf_pair)
#  define smolq_gguf_find         SMOLQ__NAME(smolq_gguf_find)
#  define smolq_gguf_element      SMOLQ__NAME(smolq_gguf_element)
#  define smolq_gguf_tensor       SMOLQ__NAME(smolq_gguf_tensor)
#  define smolq_gguf_find_tensor  SMOLQ__NAME(smolq_gguf_find_tensor)
#  define smolq_gguf_read         SMOLQ__NAME(smolq_gguf_read)
#  define smolq_gguf_create       SMOLQ__NAME(smolq_gguf_create)
#  define smolq_gguf_put          SMOLQ__NAME(smolq_gguf_put)
#  define smolq_gguf_add          SMOLQ__NAME(smolq_gguf_add)
#  define smolq_gguf_write        SMOLQ__NAME(smolq_gguf_write)
#  define smolq_gguf_finish       SMOLQ__NAME(smolq_gguf_finish)
#  define smolq_gguf_discard      SMOLQ__NAME(smolq_gguf_discard)
#  define smolq_smq_pack          SMOLQ__NAME(smolq_smq_pack)
#  define smolq_smq_unpack        SMOLQ__NAME(smolq_smq_unpack)
#  define smolq_smq_verify        SMOLQ__NAME(smolq_smq_verify)
#  define smolq_smq_verify_tensor SMOLQ__NAME(smolq_smq_verify_tensor)
#  define smolq_smq_info          SMOLQ__NAME(smolq_smq_info)
#  define smolq_smq_checksum      SMOLQ__NAME(smolq_smq_checksum)
#  define smolq_type_info         SMOLQ__NAME(smolq_type_info)
#  define smolq_unpack            SMOLQ__NAME(smolq_unpack)
#  define smolq_pack              SMOLQ__NAME(smolq_pack)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== VERSION AND ERRORS ============================================================================================ */

/* name, value, when */
#define SMOLQ_RESULTS(X) \
    X(OK,              0, "success") \
    X(MORE,            1, "not an error: the time budget is spent, call smolq_eval_step again") \
    X(STOP,            2, "not an error: a stop string was found") \
    X(E_ARGUMENT,     -1, "an argument is out of range") \
    X(E_MEMORY,       -2, "the allocator returned NULL or a limit would be passed") \
    X(E_IO,           -3, "a file can't be opened, read or mapped") \
    X(E_FORMAT,       -4, "the file is malformed") \
    X(E_UNSUPPORTED,  -5, "well-formed, but not something this build can run") \
    X(E_MISSING,      -6, "a required key or tensor is missing") \
    X(E_SHAPE,        -7, "a tensor has another shape or type than the model's keys ask for") \
    X(E_BUFFER,       -8, "the caller's buffer is too small; the needed size is reported") \
    X(E_CONTEXT_FULL, -9, "the tokens don't fit in the context; nothing was evaluated") \
    X(E_BUSY,        -10, "the context or device is in use by another evaluation") \
    X(E_CANCELLED,   -11, "the cancel or progress hook asked to stop") \
    X(E_NUMERIC,     -12, "NaN or infinity in weights, activations or logits") \
    X(E_DEVICE,      -13, "the backend failed") \
    X(E_VERSION,     -14, "a companion file is of another version than smolq.h")

#define SMOLQ__RESULT_ENUM(name, value, when) SMOLQ_##name = value,
enum { SMOLQ_RESULTS(SMOLQ__RESULT_ENUM) SMOLQ__RESULT_LAST = 127 };
#undef SMOLQ__RESULT_ENUM
typedef int32_t smolq_result;

/* What went wrong, where, what was expected and what was found: one sentence, UTF-8, NUL-terminated, control bytes escaped. */
typedef struct smolq_error {
    int32_t code;      /* the smolq_result that the call returned */
    char    text[256];
} smolq_error;

SMOLQ_API const char *smolq_version(void);                    /* "0.1.0", of the compiled implementation */
SMOLQ_API const char *smolq_result_name(smolq_result result); /* "SMOLQ_E_IO"; "unknown" for other numbers */

/* ==== HOOKS =========================================================================================================
 * All optional: a zeroed struct or a NULL function means the default. */

/* Memory.  alloc returns at least 16-byte aligned memory or NULL; release takes what alloc returned and the same size.
 * Both may be called from any thread that calls smolq.  Default: malloc and free. */
typedef struct smolq_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void  (*release)(void *user, void *memory, size_t bytes);
    void  *user;
} smolq_allocator;

enum { SMOLQ_LOG_INFO = 0, SMOLQ_LOG_WARNING = 1 };
typedef void (*smolq_log_fn)(void *user, int32_t level, const char *text); /* default: silence */
typedef int  (*smolq_progress_fn)(void *user, float done);                 /* 0..1; return nonzero to cancel */
typedef int  (*smolq_cancel_fn)(void *user);                               /* return nonzero to stop */

/* The host's job system: call task(arg, i) once for every i in 0..count-1, in any order, on any threads; return when all are done. */
typedef void (*smolq_parallel_for_fn)(void *user, void (*task)(void *arg, int32_t index), void *arg, int32_t count);

/* One file (or one part of a split file) that is not a path: bytes in memory, or read through the caller's IO.
 * Memory is borrowed until the object that was opened from it is closed; any alignment works.  read fills dst with exactly `bytes` bytes from
 * `offset` and returns 0, or returns nonzero for an error. */
typedef struct smolq_source {
    const void *data;  /* [size] bytes, or NULL to use read */
    uint64_t    size;
    int       (*read)(void *user, uint64_t offset, void *dst, size_t bytes);
    void       *user;
} smolq_source;

/* ==== DEVICES =======================================================================================================
 * A device is a backend at work: a thread pool, or a GPU.  Nothing here is needed for the reference backend: smolq_open
 * opens a device for its model when options.backend or nothing is given.  Several models may share a device.
 * To a device with memory of its own the weights are copied when a model opens, and contexts keep their KV cache there.  What does not fit stays with the
 * first layers on the host: see host_layers of smolq_open_options. */

typedef struct smolq_backend smolq_backend; /* a table of functions; SMOLQ_BACKEND shows what is in it */
typedef struct smolq_device  smolq_device;

SMOLQ_API const smolq_backend *smolq_backend_ref(void);  /* plain C, always there, the judge of the others */
#ifndef SMOLQ_STATIC /* then a companion is included in the same file and declares its own */
SMOLQ_API const smolq_backend *smolq_backend_cpu(void);  /* in smolq_cpu.c */
SMOLQ_API const smolq_backend *smolq_backend_cuda(void); /* in smolq_cuda.cu */
#endif

typedef struct smolq_device_options {
    uint32_t              size;
    int32_t               n_threads;    /* 0: physical cores (backends with threads); 1: the caller's thread alone */
    const char           *isa;          /* cap on the instruction set: "ref", "avx2", "avxvnni", "avx512", "amx", "neon" (or less of it: "neon-base", "neon-dotprod", "neon-i8mm"); NULL: the best */
    int32_t               ordinal;      /* which GPU */
    smolq_parallel_for_fn parallel_for; /* instead of threads of our own */
    void                 *parallel_user;
    smolq_allocator       allocator;
} smolq_device_options;

SMOLQ_API smolq_result smolq_device_open(const smolq_backend *backend, const smolq_device_options *options, smolq_device **device, smolq_error *err);
SMOLQ_API void         smolq_device_close(smolq_device *device); /* after the models that use it; NULL is fine */
SMOLQ_API const char  *smolq_device_report(const smolq_device *device); /* "ref: plain C, caller's thread"; lives as long as the device */

/* ==== MODELS ======================================================================================================== */

typedef struct smolq_gguf    smolq_gguf;
typedef struct smolq_vocab   smolq_vocab;
typedef struct smolq_model   smolq_model;
typedef struct smolq_context smolq_context;

/* What a file may ask for.  0 means the default in brackets. */
typedef struct smolq_limits {
    uint64_t memory;   /* bytes that one object may allocate [none beyond the allocator's] */
    uint32_t n_keys;   /* metadata pairs [2^20] */
    uint32_t n_tensors;/* [2^20] */
    uint32_t n_layer;  /* [512] */
    uint32_t n_vocab;  /* [2^24] */
    uint32_t n_parts;  /* files of a split model [1000] */
} smolq_limits;

/* When the tensors of an SMQ file are compared with their checksums.  Everything else in it is when it opens. */
enum {
    SMOLQ_VERIFY_ASKED = 0, /* when you ask: smolq_smq_verify, smolq_smq_verify_tensor */
    SMOLQ_VERIFY_LAZY  = 1, /* by the first evaluation, which fails with SMOLQ_E_FORMAT; by smolq_open where it reads the tensors anyway (no_map, a device with memory of its own) */
    SMOLQ_VERIFY_OPEN  = 2  /* by smolq_open */
};

/* Options of smolq_open, smolq_probe, smolq_vocab_open and smolq_gguf_open. */
typedef struct smolq_open_options {
    uint32_t             size;
    uint32_t             n_sources;    /* with path NULL: how many sources, the parts of a split file in their order */
    const smolq_source  *sources;
    uint32_t             no_map;       /* nonzero: read the tensors into memory instead of mapping the file */
    int32_t              verify;       /* SMOLQ_VERIFY_...: when the checksums of an SMQ file's tensors are looked at */
    smolq_device        *device;       /* compute here, shared; or NULL: */
    const smolq_backend *backend;      /* open a device of this backend for this model alone; NULL: the reference backend */
    const smolq_device_options *device_options; /* for that device, and for the one of host_backend */
    smolq_allocator      allocator;
    smolq_limits         limits;
    smolq_log_fn         log;
    smolq_progress_fn    progress;     /* of reading the tensors with no_map, then of copying them to a device with memory of its own: each from 0 to 1 */
    void                *user;         /* for log and progress */
    int32_t              host_layers;  /* layers that stay on the host when the device has memory of its own.  0: none if all fits, else as many as must;
                                        * n: exactly the first n; -1: none, and an error if all does not fit */
    uint32_t             reserved_2;
    const smolq_backend *host_backend; /* computes them, on a device opened with device_options; NULL: the reference backend */
    uint64_t             device_reserve; /* bytes of device memory to leave for contexts; 0: one with default options */
} smolq_open_options;

/* Opens a model, from a GGUF or an SMQ file: maps the file (all parts of a split one, given the first), checks every key and tensor it will use, and
 * opens the tokenizer.  path is UTF-8; NULL with options->sources.  The caller closes *model after its contexts. */
SMOLQ_API smolq_result smolq_open(const char *path, const smolq_open_options *options, smolq_model **model, smolq_error *err);
SMOLQ_API void         smolq_close(smolq_model *model); /* NULL is fine */

typedef struct smolq_info {
    uint32_t    size;
    char        family[32];        /* general.architecture */
    char        name[64];          /* general.name, cut to fit; may be empty */
    char        types[64];         /* the tensor types that hold most bytes: "q4_k 70 %, q6_k 30 %" */
    uint64_t    n_parameters;
    int32_t     n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff; /* of layer 0 where layers differ */
    int32_t     n_vocab;
    int32_t     n_expert, n_expert_used;  /* 0 without experts */
    int32_t     n_ctx_train;              /* the file's context length */
    uint32_t    n_tensors;                /* in the file */
    uint32_t    n_tensors_used, n_tensors_quantized, n_tensors_float; /* bound by the family */
    uint32_t    n_keys_unused, n_tensors_unused;
    uint64_t    file_bytes;               /* all parts */
    uint64_t    tensor_bytes;
    uint64_t    mapped_bytes;             /* 0 with no_map and for memory sources */
    uint64_t    table_bytes;              /* allocated by the open model: directory, tokenizer, program (and tensors with no_map) */
    uint64_t    dequantized_bytes;        /* always 0 on the CPU: weights stay quantized */
    double      open_ms;
    int32_t     exact;                /* nonzero: the self-test gave the canonical bits; 0: compiled for a machine that rounds otherwise */
    int32_t     runnable;                 /* smolq_probe: nonzero if smolq_open would succeed */
    char        reason[256];              /* smolq_probe: why not */
    uint64_t    context_bytes;            /* smolq_probe: memory of a context with default options, of the host and the device together */
    uint64_t    device_bytes;             /* of the weights in a device's own memory; 0 where it computes in the host's */
    int32_t     host_layers;              /* layers in the host's memory: all, where the device has none of its own */
    int32_t     reserved;
} smolq_info;

/* Judges a file without loading it: no tokenizer tables are built, no tensor is read.  Set info->size (or 0) before the call.
 * A well-formed GGUF that can't be run is a success with runnable 0 and the reason; a malformed one is an error, and so is one of a version or
 * with a tensor type that this build does not know. */
SMOLQ_API smolq_result smolq_probe(const char *path, const smolq_open_options *options, smolq_info *info, smolq_error *err);

SMOLQ_API const smolq_info  *smolq_model_info(const smolq_model *model);   /* lives as long as the model */
SMOLQ_API const char        *smolq_model_report(const smolq_model *model); /* "loaded 326/326 tensors: 253 quantized, 73 f32; ..." */
SMOLQ_API const smolq_gguf  *smolq_model_gguf(const smolq_model *model);   /* the file underneath, borrowed */
SMOLQ_API const smolq_vocab *smolq_model_vocab(const smolq_model *model);  /* borrowed; NULL if the file has none */

/* ==== VOCABULARY ==================================================================================================== */

/* Opens the tokenizer of any GGUF that has tokenizer.* keys; weights and a known family are not needed. */
SMOLQ_API smolq_result smolq_vocab_open(const char *path, const smolq_open_options *options, smolq_vocab **vocab, smolq_error *err);
SMOLQ_API void         smolq_vocab_close(smolq_vocab *vocab); /* not for a model's vocabulary; NULL is fine */
SMOLQ_API int32_t      smolq_vocab_size(const smolq_vocab *vocab);

typedef struct smolq_vocab_facts {
    const char *model;       /* "llama" (SentencePiece), "gpt2" (byte-level BPE) */
    const char *pre;         /* name of the pre-tokenizer, "default" where the file has none */
    int32_t     bos, eos, eot, eom, unk, sep, pad; /* token ids, -1 where there is none */
    int32_t     adds_bos, adds_eos, adds_space;    /* what the file asks for */
    int32_t     max_token_bytes;                   /* longest text of a token, in bytes */
    const char *chat_template;                     /* tokenizer.chat_template, NOT NUL-terminated; NULL if absent */
    size_t      chat_template_bytes;
} smolq_vocab_facts;
SMOLQ_API const smolq_vocab_facts *smolq_vocab_info(const smolq_vocab *vocab);

enum { /* flags of smolq_tokenize and smolq_detokenize */
    SMOLQ_ADD_BOS       = 1,  /* put BOS first and EOS last if the file asks for them (add_bos_token, add_eos_token) */
    SMOLQ_PARSE_SPECIAL = 2,  /* text such as <|im_start|> becomes the control token; never for text from users */
    SMOLQ_NO_PREFIX     = 4,  /* no SentencePiece space prefix: the text continues something */
    SMOLQ_SHOW_SPECIAL  = 8   /* detokenize: control tokens as their text; else they are left out */
};

/* Text to ids.  *n_ids gets the number of ids, also when they don't fit in [capacity] (then SMOLQ_E_BUFFER, and ids is
 * untouched); ids may be NULL with capacity 0.  Invalid UTF-8 is tokenized byte by byte.  Time O(n log n). */
SMOLQ_API smolq_result smolq_tokenize(const smolq_vocab *vocab, const char *text, size_t bytes, int32_t flags,
                                      int32_t *ids, size_t capacity, size_t *n_ids, smolq_error *err);

/* Ids to text, not NUL-terminated.  *n_bytes gets the length, also with SMOLQ_E_BUFFER.  The bytes are those of the tokens: a text
 * cut inside a character is possible; smolq_stream_push never does that.  SMOLQ_E_ARGUMENT names an id outside the vocabulary. */
SMOLQ_API smolq_result smolq_detokenize(const smolq_vocab *vocab, const int32_t *ids, size_t n_ids, int32_t flags,
                                        char *text, size_t capacity, size_t *n_bytes, smolq_error *err);

enum { /* tokenizer.ggml.token_type */
    SMOLQ_TOKEN_NORMAL = 1, SMOLQ_TOKEN_UNKNOWN = 2, SMOLQ_TOKEN_CONTROL = 3, SMOLQ_TOKEN_USER = 4, SMOLQ_TOKEN_UNUSED = 5, SMOLQ_TOKEN_BYTE = 6
};
typedef struct smolq_token {
    const char *text;   /* as in the file (byte-level BPE: in its byte alphabet), NOT NUL-terminated, borrowed */
    size_t      bytes;
    float       score;  /* 0 where the file has none */
    int32_t     type;   /* SMOLQ_TOKEN_... */
} smolq_token;
SMOLQ_API smolq_result smolq_token_info(const smolq_vocab *vocab, int32_t id, smolq_token *token, smolq_error *err);
SMOLQ_API int32_t      smolq_token_find(const smolq_vocab *vocab, const char *text, size_t bytes); /* id of the token with this text in the file, or -1 */

/* Nonzero if the token ends a generation: eos, eot, eom, or what common chat formats end with (<|im_end|>, <|eot_id|>, <end_of_turn>...). */
SMOLQ_API int32_t smolq_token_is_eog(const smolq_vocab *vocab, int32_t id);

/* A stream turns tokens into text as they come: whole UTF-8 characters only (invalid bytes become U+FFFD), and stops at stop
 * strings even when they begin in one token and end in another.  Zero it, open it; it owns no memory. */
typedef struct smolq_stream {
    const smolq_vocab *vocab;
    const char *const *stops;   /* [n_stops] NUL-terminated, 1..255 bytes each; borrowed */
    int32_t            n_stops;
    int32_t            flags;   /* SMOLQ_SHOW_SPECIAL */
    int32_t            stopped; /* index of the stop string that was found + 1, or 0 */
    uint32_t           n_held;  /* private: bytes that can't be shown yet */
    char               held[264];
} smolq_stream;
SMOLQ_API smolq_result smolq_stream_open(smolq_stream *stream, const smolq_vocab *vocab, const char *const *stops, int32_t n_stops, int32_t flags, smolq_error *err);

/* Appends a token.  text gets the bytes that are certain now; capacity vocab max_token_bytes * 3 + 264 always suffices.
 * Returns SMOLQ_STOP (text ends where the stop string began) when a stop string is complete; later calls return it again. */
SMOLQ_API smolq_result smolq_stream_push(smolq_stream *stream, int32_t id, char *text, size_t capacity, size_t *n_bytes, smolq_error *err);
SMOLQ_API smolq_result smolq_stream_finish(smolq_stream *stream, char *text, size_t capacity, size_t *n_bytes, smolq_error *err); /* what was held back */

/* ==== CHAT ==========================================================================================================
 * Wraps messages in the model's own format, found by its marks in tokenizer.chat_template among: chatml (Qwen), smollm3,
 * llama3, mistral, zephyr, phi3, phi4, gemma, granite, gpt-oss, olmo2.  The text of a message is tokenized as text: control tokens in it are not parsed. */

typedef struct smolq_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *text;
    size_t      bytes;
} smolq_message;

typedef struct smolq_chat_options {
    uint32_t    size;
    uint32_t    no_reply;    /* nonzero: don't open the assistant's turn at the end */
    uint32_t    think;       /* nonzero: ask a model that can for its thinking form; 0: the form without */
    uint32_t    continued;   /* nonzero: messages go on after earlier turns: no BOS, no default system turn */
    const char *format;      /* name of a format instead of the model's own; NULL: by the template's marks */
} smolq_chat_options;

SMOLQ_API const char  *smolq_chat_format(const smolq_vocab *vocab); /* name of the format, or NULL if it is not known */
SMOLQ_API smolq_result smolq_chat_tokenize(const smolq_vocab *vocab, const smolq_message *messages, size_t n_messages, const smolq_chat_options *options,
                                           int32_t *ids, size_t capacity, size_t *n_ids, smolq_error *err); /* sizes as in smolq_tokenize */

/* ==== CONTEXTS ======================================================================================================
 * A context is one conversation: a KV cache, its length, and buffers.  All its memory is allocated when it opens. */

typedef struct smolq_context_options {
    uint32_t        size;
    int32_t         n_ctx;      /* tokens; 0: the smaller of the file's and 4096 */
    int32_t         n_batch;    /* tokens that pass through the layers at once; 0: 128.  Never changes results */
    int32_t         kv_type;    /* SMOLQ_KV_F16, SMOLQ_KV_F32 or SMOLQ_KV_Q8_0; 0: f16 */
    smolq_allocator allocator;  /* default: the model's */
    uint64_t        max_bytes;  /* refuse to open beyond this, host and device together; 0: no limit */
} smolq_context_options;
#define SMOLQ_KV_DEFAULT 0
#define SMOLQ_KV_F16     1
#define SMOLQ_KV_F32     2
#define SMOLQ_KV_Q8_0    3

/* The exact bytes that a context will allocate, before it does. */
typedef struct smolq_memory {
    uint32_t size;
    int32_t  n_ctx, n_batch;  /* after defaults */
    uint64_t kv_bytes;
    uint64_t scratch_bytes;   /* activations of n_batch tokens */
    uint64_t logits_bytes;
    uint64_t host_bytes;      /* all that the context allocates on the host */
    uint64_t device_bytes;    /* all that it allocates in a device's own memory; kv_bytes and scratch_bytes are of both */
} smolq_memory;

SMOLQ_API smolq_result smolq_plan(const smolq_model *model, const smolq_context_options *options, smolq_memory *memory, smolq_error *err);
SMOLQ_API smolq_result smolq_context_open(smolq_model *model, const smolq_context_options *options, smolq_context **context, smolq_error *err);
SMOLQ_API void         smolq_context_close(smolq_context *context); /* NULL is fine */
SMOLQ_API int32_t      smolq_context_length(const smolq_context *context);   /* tokens in the cache */
SMOLQ_API int32_t      smolq_context_capacity(const smolq_context *context); /* n_ctx */

/* [n_vocab] f32, natural-log scale, after the last token evaluated with SMOLQ_LOGITS_LAST and no buffer of the caller; NULL before
 * that and after a truncation.  Valid until the next evaluation of the context. */
SMOLQ_API const float *smolq_context_logits(const smolq_context *context);

/* Forgets all but the first `length` tokens. */
SMOLQ_API smolq_result smolq_context_truncate(smolq_context *context, int32_t length, smolq_error *err);

/* Keeps the longest common prefix of what the context holds and ids, forgets the rest and returns its length in *n_kept:
 * evaluate ids + *n_kept next, and the logits are those of a fresh context, bit for bit.  At least one id is left to evaluate. */
SMOLQ_API smolq_result smolq_context_reuse(smolq_context *context, const int32_t *ids, size_t n_ids, size_t *n_kept, smolq_error *err);

/* Copies the conversation of `from` into `to`: contexts of one model, same kv_type, to large enough. */
SMOLQ_API smolq_result smolq_context_fork(smolq_context *to, const smolq_context *from, smolq_error *err);

/* ==== EVALUATION ==================================================================================================== */

enum { SMOLQ_LOGITS_LAST = 0, SMOLQ_LOGITS_NONE = 1, SMOLQ_LOGITS_ALL = 2, SMOLQ_LOGITS_SAMPLE = 3 };
typedef struct smolq_sampler smolq_sampler; /* SAMPLING, below */

/* Append tokens to a context.  logits: the caller's [1][n_vocab] (LAST) or [n_tokens][n_vocab] (ALL), or NULL: LAST keeps them in
 * the context.  SAMPLE gives no logits but *id, the token that smolq_sample draws from those after the last token, with the same errors.
 * On a GPU the logits then stay where they are, if the sampler begins with top-k (k <= 256), a temperature before it or not, or is greedy. */
typedef struct smolq_eval_item {
    smolq_context *context;
    const int32_t *tokens;
    int32_t        n_tokens; /* 1 or more */
    int32_t        want;     /* SMOLQ_LOGITS_... */
    float         *logits;
    smolq_sampler *sampler;  /* SAMPLE: borrowed; NULL: greedy.  It does not accept the token */
    int32_t       *id;       /* SAMPLE: written when all has succeeded; may be where the token stood that was evaluated */
} smolq_eval_item;

typedef struct smolq_eval_options {
    uint32_t        size;
    uint32_t        no_wait; /* nonzero: SMOLQ_E_BUSY instead of waiting for a device in use */
    smolq_cancel_fn cancel;  /* asked between pieces of work, in prefill too */
    void           *user;
} smolq_eval_options;

/* Evaluates items of one model (several contexts, each once): every weight is read once for all their tokens.  Prefill and decode
 * are the same call.  On any error all contexts are as before.  Allocates nothing. */
SMOLQ_API smolq_result smolq_eval(const smolq_eval_item *items, int32_t n_items, const smolq_eval_options *options, smolq_error *err);

/* The same in slices: begin once, then step until it returns SMOLQ_OK.  Each step works for about budget_us microseconds
 * (0: to the end) and returns SMOLQ_MORE while there is more.  Slices don't change a bit.  items, tokens, logits, samplers and ids stay
 * borrowed until then.  smolq_eval_cancel gives up and leaves the contexts as they were; after an error there is nothing to cancel. */
typedef struct smolq_evaluation {
    const smolq_eval_item *items;
    int32_t            n_items;
    smolq_eval_options options;
    int32_t            active;      /* private from here */
    int32_t            item, token; /* the first token that is not in the current batch */
} smolq_evaluation;
SMOLQ_API smolq_result smolq_eval_begin(smolq_evaluation *e, const smolq_eval_item *items, int32_t n_items, const smolq_eval_options *options, smolq_error *err);
SMOLQ_API smolq_result smolq_eval_step(smolq_evaluation *e, int64_t budget_us, smolq_error *err);
SMOLQ_API void         smolq_eval_cancel(smolq_evaluation *e);

/* ==== SAMPLING ======================================================================================================
 * A sampler is an explicit chain of steps over the candidates, then one draw.  The draw depends on the seed and the position (how many
 * tokens were accepted) alone: the same on every machine, and replayable from any point. */

/* kind              a               b              c             n                what it does (source) */
#define SMOLQ_SAMPLER_STEPS(X) \
    X(GREEDY)      /*                                                              keep the best logit */ \
    X(TEMPERATURE) /* temperature                                                  logits / a; a <= 0 keeps the best */ \
    X(TOP_K)       /*                                             k                keep the k best */ \
    X(TOP_P)       /* p                                           least            smallest set of mass >= p (Holtzman 2019) */ \
    X(MIN_P)       /* p                                           least            keep those of at least p times the best's probability */ \
    X(TYPICAL)     /* p                                           least            locally typical (Meister 2022) */ \
    X(PENALTIES)   /* repeat          frequency      presence     last n           of the last n accepted tokens; repeat 1 or 0 is none */ \
    X(DRY)         /* multiplier      base           allowed      last n           penalize repeated sequences longer than allowed */ \
    X(XTC)         /* probability     threshold                   least            drop all but the least of the tokens above threshold */ \
    X(MIROSTAT2)   /* tau             eta                                          keep surprise near tau (Basu 2021); draws */ \
    X(LOGIT_BIAS)  /*                                             entries          add bias[i].bias to token bias[i].id */
#define SMOLQ__STEP_ENUM(name) SMOLQ_SAMPLE_##name,
enum { SMOLQ_SAMPLER_STEPS(SMOLQ__STEP_ENUM) SMOLQ_SAMPLE_COUNT };
#undef SMOLQ__STEP_ENUM

typedef struct smolq_logit_bias { int32_t id; float bias; } smolq_logit_bias;

typedef struct smolq_sampler_step {
    int32_t kind;  /* SMOLQ_SAMPLE_... */
    int32_t n;
    float   a, b, c;
    const void *data; /* LOGIT_BIAS: smolq_logit_bias[n], copied; DRY: int32_t ids of sequence breakers, [n_data], copied */
    size_t  n_data;
} smolq_sampler_step;

typedef struct smolq_sampler_options {
    uint32_t                  size;
    uint32_t                  n_steps;
    const smolq_sampler_step *steps;  /* copied; NULL: temperature 0.7, top-k 40, top-p 0.95, min-p 0.05 */
    uint64_t                  seed;
    smolq_allocator           allocator;
} smolq_sampler_options;

SMOLQ_API smolq_result smolq_sampler_open(int32_t n_vocab, const smolq_sampler_options *options, smolq_sampler **sampler, smolq_error *err);
SMOLQ_API void         smolq_sampler_close(smolq_sampler *sampler); /* NULL is fine */

/* Forgets the history and starts at the given seed and position. */
SMOLQ_API void         smolq_sampler_reset(smolq_sampler *sampler, uint64_t seed, uint64_t position);

/* Tells the sampler that a token was appended: prompt tokens too, if penalties shall see them.  Each advances the position. */
SMOLQ_API void         smolq_sampler_accept(smolq_sampler *sampler, int32_t id);

/* Draws a token from [n_vocab] logits, which are not changed.  sampler NULL: greedy, needs no state; ties go to the smaller id.
 * It does not accept the token: call smolq_sampler_accept.  SMOLQ_E_NUMERIC when no logit is finite; NaN counts as -infinity. */
SMOLQ_API smolq_result smolq_sample(smolq_sampler *sampler, const float *logits, int32_t n_vocab, int32_t *id, smolq_error *err);

/* That is the API for running models.  What follows reads GGUF files as such; stop here if text is all you came for. */

/* ==== GGUF ========================================================================================================== */

enum { /* value types, as in the GGUF specification (ggml docs/gguf.md) */
    SMOLQ_GGUF_U8 = 0, SMOLQ_GGUF_I8, SMOLQ_GGUF_U16, SMOLQ_GGUF_I16, SMOLQ_GGUF_U32, SMOLQ_GGUF_I32, SMOLQ_GGUF_F32, SMOLQ_GGUF_BOOL,
    SMOLQ_GGUF_STRING, SMOLQ_GGUF_ARRAY, SMOLQ_GGUF_U64, SMOLQ_GGUF_I64, SMOLQ_GGUF_F64, SMOLQ_GGUF_TYPE_COUNT
};

/* A value: integers are in i (u64 above 2^63-1: in u), floats in f, bool in i, strings in text and bytes, arrays in n and element_type. */
typedef struct smolq_value {
    int32_t     type;          /* SMOLQ_GGUF_... */
    int32_t     element_type;  /* of an array */
    uint64_t    n;             /* elements of an array */
    const unsigned char *data; /* raw little-endian bytes of the value (of an array: of its first element), borrowed */
    uint64_t    data_bytes;    /* how many (of an array: of all its elements) */
    int64_t     i;
    uint64_t    u;
    double      f;
    const char *text;          /* not NUL-terminated, borrowed */
    size_t      bytes;
} smolq_value;

typedef struct smolq_pair {
    const char *key;           /* not NUL-terminated, borrowed */
    size_t      key_bytes;
    smolq_value value;
} smolq_pair;

typedef struct smolq_tensor_info {
    const char *name;          /* not NUL-terminated, borrowed */
    size_t      name_bytes;
    int32_t     type;          /* SMOLQ_TYPE_... or another ggml type id */
    int32_t     n_dims;
    uint64_t    ne[4];         /* elements per dimension, ne[0] contiguous; 1 beyond n_dims */
    uint64_t    offset;        /* from the start of its part's file */
    uint64_t    bytes;
    uint32_t    part;          /* which file of a split */
    const unsigned char *data; /* [bytes] in the mapping or in memory, borrowed; NULL with IO sources: use smolq_gguf_read */
} smolq_tensor_info;

typedef struct smolq_gguf_facts {
    uint32_t version, alignment, n_parts;
    uint64_t n_pairs, n_tensors;  /* n_tensors of all parts */
    uint64_t file_bytes, header_bytes, tensor_bytes, mapped_bytes;
} smolq_gguf_facts;

/* Opens any well-formed GGUF, a model or not, or the one in an SMQ file.  Every table is checked; after that nothing here can fail on the file, but for elements of
 * arrays of strings and of arrays in an SMQ file, which are not looked at before somebody asks for them. */
SMOLQ_API smolq_result smolq_gguf_open(const char *path, const smolq_open_options *options, smolq_gguf **gguf, smolq_error *err);
SMOLQ_API void         smolq_gguf_close(smolq_gguf *gguf);
SMOLQ_API const smolq_gguf_facts *smolq_gguf_info(const smolq_gguf *gguf);
SMOLQ_API smolq_result smolq_gguf_pair(const smolq_gguf *gguf, uint64_t index, smolq_pair *pair, smolq_error *err);  /* in the order of the file */
SMOLQ_API smolq_result smolq_gguf_find(const smolq_gguf *gguf, const char *key, smolq_value *value, smolq_error *err); /* SMOLQ_E_MISSING */
/* Element i of an array value: O(1) for numbers; for strings and nested arrays pass *cursor = 0 first and read them in order. */
SMOLQ_API smolq_result smolq_gguf_element(const smolq_value *array, uint64_t i, uint64_t *cursor, smolq_value *element, smolq_error *err);
SMOLQ_API smolq_result smolq_gguf_tensor(const smolq_gguf *gguf, uint64_t index, smolq_tensor_info *tensor, smolq_error *err);
SMOLQ_API smolq_result smolq_gguf_find_tensor(const smolq_gguf *gguf, const char *name, smolq_tensor_info *tensor, smolq_error *err);
SMOLQ_API smolq_result smolq_gguf_read(const smolq_gguf *gguf, const smolq_tensor_info *tensor, uint64_t offset, void *dst, size_t bytes, smolq_error *err);

/* A GGUF file is written in one go: pairs, then the tensors that there will be, then their data, in the same order.  The file appears under its
 * name when it is finished, complete; until then, and on every failure, what was there before stays whole.  Memory: the header's size.
 * On an error of create nothing is open; after any other error only finish or discard make sense.  A writer belongs to one thread at a time. */
typedef struct smolq_gguf_writer smolq_gguf_writer;
SMOLQ_API smolq_result smolq_gguf_create(const char *path, const smolq_allocator *allocator, smolq_gguf_writer **writer, smolq_error *err); /* allocator NULL: malloc */

/* Adds a pair, or changes it where it stands.  key: NUL-terminated; value: as smolq_gguf_pair gives it; else type and i, u (u64), f, text and bytes, or of an array
 * element_type, n, data and data_bytes.  Everything is copied.  general.alignment is obeyed and comes before all tensors. */
SMOLQ_API smolq_result smolq_gguf_put(smolq_gguf_writer *writer, const char *key, const smolq_value *value, smolq_error *err);

/* Adds a tensor by its name, type, n_dims and ne. */
SMOLQ_API smolq_result smolq_gguf_add(smolq_gguf_writer *writer, const smolq_tensor_info *tensor, smolq_error *err);

/* The next bytes of the tensors' data, in pieces of any size; padding comes by itself. */
SMOLQ_API smolq_result smolq_gguf_write(smolq_gguf_writer *writer, const void *data, uint64_t bytes, smolq_error *err);

/* Both close the writer in any case. */
SMOLQ_API smolq_result smolq_gguf_finish(smolq_gguf_writer *writer, smolq_error *err);
SMOLQ_API void         smolq_gguf_discard(smolq_gguf_writer *writer); /* NULL is fine */

/* ==== SMQ ===========================================================================================================
 * An SMQ file is a GGUF file made ready to use: tensors on pages of their own, the tables of the tokenizer as they are in memory, checksums of everything
 * (docs/smq.md).  A model opens from it in milliseconds, and damage is found.  The GGUF file comes out of it again, byte for byte.  All that opens GGUF files opens
 * SMQ files; a smolq_gguf that has been opened from one is what `smq` stands for here. */

typedef struct smolq_smq_options {
    uint32_t          size;
    uint32_t          reserved;
    smolq_allocator   allocator;
    smolq_progress_fn progress;  /* of the bytes of the tensors */
    void             *user;
} smolq_smq_options;

/* Writes the file that gguf was opened from as SMQ, respectively the GGUF file back.  The file appears under its name when it is complete; until then, and on every
 * failure, what was there before stays whole.  Memory: the tables of the tokenizer.  SMOLQ_E_UNSUPPORTED for a GGUF of several parts; unpacking compares all
 * checksums on its way. */
SMOLQ_API smolq_result smolq_smq_pack(const smolq_gguf *gguf, const char *path, const smolq_smq_options *options, smolq_error *err);
SMOLQ_API smolq_result smolq_smq_unpack(const smolq_gguf *smq, const char *path, const smolq_smq_options *options, smolq_error *err);

/* Compares a tensor with its checksum; or everything: all that unpacking compares, the bytes between, and the tables of the tokenizer with the metadata.
 * SMOLQ_E_FORMAT names what is damaged.  Any number of threads may do so. */
SMOLQ_API smolq_result smolq_smq_verify_tensor(const smolq_gguf *smq, uint64_t tensor, smolq_error *err);
SMOLQ_API smolq_result smolq_smq_verify(const smolq_gguf *smq, const smolq_smq_options *options, smolq_error *err);

typedef struct smolq_smq_facts {
    uint32_t size;             /* set it (or 0) before the call */
    uint32_t major, minor;     /* version of the format */
    uint32_t has_tables;       /* nonzero: this build uses the tables of the tokenizer as they stand in the file */
    uint64_t may_ignore;       /* features of the file, a bit for each, that a reader may ignore */
    uint64_t gguf_bytes;       /* the GGUF file's size and checksum (XXH64, seed 0) */
    uint64_t gguf_checksum;
    uint64_t metadata_bytes, vocab_bytes, gap_bytes; /* of these sections; 0 for one that is not there */
} smolq_smq_facts;
SMOLQ_API smolq_result smolq_smq_info(const smolq_gguf *smq, smolq_smq_facts *facts, smolq_error *err); /* SMOLQ_E_ARGUMENT for a GGUF file */
SMOLQ_API smolq_result smolq_smq_checksum(const smolq_gguf *smq, uint64_t tensor, uint64_t *checksum, smolq_error *err); /* as the file says: XXH64, seed 0 */

/* ==== TENSOR TYPES ================================================================================================== */

/*    id  NAME     name       weights  group  block struct (its sizeof is the byte size; see the contract, formats.h)
 *    group: how many activations share one int8 scale in a product with this type (docs/arithmetic.md); 0: products in f32 */
#define SMOLQ_TYPES(X) \
    X( 0, F32,     "f32",       1,   0, smolq_block_f32) \
    X( 1, F16,     "f16",       1,   0, smolq_block_f16) \
    X( 2, Q4_0,    "q4_0",     32,  32, smolq_block_q4_0) \
    X( 3, Q4_1,    "q4_1",     32,  32, smolq_block_q4_1) \
    X( 6, Q5_0,    "q5_0",     32,  32, smolq_block_q5_0) \
    X( 7, Q5_1,    "q5_1",     32,  32, smolq_block_q5_1) \
    X( 8, Q8_0,    "q8_0",     32,  32, smolq_block_q8_0) \
    X(10, Q2_K,    "q2_k",    256, 256, smolq_block_q2_k) \
    X(11, Q3_K,    "q3_k",    256, 256, smolq_block_q3_k) \
    X(12, Q4_K,    "q4_k",    256, 256, smolq_block_q4_k) \
    X(13, Q5_K,    "q5_k",    256, 256, smolq_block_q5_k) \
    X(14, Q6_K,    "q6_k",    256, 256, smolq_block_q6_k) \
    X(16, IQ2_XXS, "iq2_xxs", 256, 256, smolq_block_iq2_xxs) \
    X(17, IQ2_XS,  "iq2_xs",  256, 256, smolq_block_iq2_xs) \
    X(18, IQ3_XXS, "iq3_xxs", 256, 256, smolq_block_iq3_xxs) \
    X(19, IQ1_S,   "iq1_s",   256, 256, smolq_block_iq1_s) \
    X(20, IQ4_NL,  "iq4_nl",   32,  32, smolq_block_iq4_nl) \
    X(21, IQ3_S,   "iq3_s",   256, 256, smolq_block_iq3_s) \
    X(22, IQ2_S,   "iq2_s",   256, 256, smolq_block_iq2_s) \
    X(23, IQ4_XS,  "iq4_xs",  256, 256, smolq_block_iq4_xs) \
    X(29, IQ1_M,   "iq1_m",   256, 256, smolq_block_iq1_m) \
    X(30, BF16,    "bf16",      1,   0, smolq_block_bf16) \
    X(34, TQ1_0,   "tq1_0",   256, 256, smolq_block_tq1_0) \
    X(35, TQ2_0,   "tq2_0",   256, 256, smolq_block_tq2_0) \
    X(39, MXFP4,   "mxfp4",    32,  32, smolq_block_mxfp4) \
    X(40, NVFP4,   "nvfp4",    64,  32, smolq_block_nvfp4) \
    X(41, Q1_0,    "q1_0",    128,  32, smolq_block_q1_0) \
    X(42, Q2_0,    "q2_0",     64,  32, smolq_block_q2_0)
#define SMOLQ__TYPE_ENUM(id, NAME, name, weights, group, block) SMOLQ_TYPE_##NAME = id,
enum { SMOLQ_TYPES(SMOLQ__TYPE_ENUM) SMOLQ_TYPE_COUNT = 43 };
#undef SMOLQ__TYPE_ENUM

typedef struct smolq_type_facts {
    const char *name;            /* "q4_k" */
    int32_t     block_weights;   /* weights per block */
    int32_t     block_bytes;
    int32_t     group;           /* activations per int8 scale, 0 for float types */
} smolq_type_facts;

/* Facts of a tensor type, NULL for an id that is not in the table.  Integer and f64 tensors, which models carry but never multiply by,
 * have names and sizes too (i8, i16, i32, i64, f64). */
SMOLQ_API const smolq_type_facts *smolq_type_info(int32_t type);

/* Unpacks n weights (a multiple of block_weights) from blocks to f32. */
SMOLQ_API smolq_result smolq_unpack(int32_t type, const void *blocks, float *values, size_t n, smolq_error *err);

/* Packs n weights of one row (a multiple of block_weights) into n / block_weights blocks: a search for the least squared error.
 *     importance   [n] or NULL: what the square of an error at each weight counts, 0 or more; the mean squared activation of its column, for example
 * The same blocks on every machine; any number of threads may pack at once, with 100 KB of stack for IQ1, IQ2 and IQ3.  SMOLQ_E_UNSUPPORTED for NVFP4, Q1_0 and Q2_0; SMOLQ_E_NUMERIC for a weight that is not finite.  blocks then keep what they held. */
SMOLQ_API smolq_result smolq_pack(int32_t type, const float *values, const float *importance, void *blocks, size_t n, smolq_error *err);

#ifdef __cplusplus
}
#endif

/* ==== END OF THE API ================================================================================================
 * Stop reading if that is all you came for.  Below: the contract with backends, then the implementation. */
#endif /* SMOLQ_H */
