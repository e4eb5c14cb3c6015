/* ==== backend.h: the contract with backends =========================================================================
 * A backend executes a program: a short list of operations over named buffers, built once per model by program.c from the row of its
 * family.  It knows tensors and shapes, and nothing of GGUF, tokenizers or families.
 *
 * One run takes a batch of rows (tokens, perhaps of several contexts) through the list.  Each row's result depends on that row and on the
 * KV cache alone, so batches, threads and time slices can't change it.  smolq.h fills in batch and buffers, the backend walks. */
#pragma once
#include "formats.h"
#include "float.h"

/* A weight tensor, where the file mapping put it.  Rows are ne[1] runs of ne[0] weights; experts are ne[2] such matrices. */
typedef struct smolq_tensor {
    const uint8_t *data;
    int32_t        type;         /* SMOLQ_TYPE_... */
    int32_t        n_cols;       /* ne[0] */
    int32_t        n_rows;       /* ne[1] */
    int32_t        n_experts;    /* ne[2], 1 for plain matrices */
    uint64_t       row_bytes;
    uint64_t       expert_bytes; /* row_bytes * n_rows */
} smolq_tensor;

/* Named buffers, one row per token of the batch.   name      what a row holds */
#define SMOLQ_BUFFERS(X) \
    X(RESIDUAL) /* the residual stream         f32 [n_embd]                                     */ \
    X(NORMED) /* normed, input of products     f32 [n_embd]                                     */ \
    X(Q)      /* queries                       f32 [n_head][head_dim]                           */ \
    X(K)      /* keys of this batch            f32 [n_head_kv][head_dim]                        */ \
    X(V)      /* values of this batch          f32 [n_head_kv][head_dim]                        */ \
    X(ATT)    /* attention output              f32 [n_head][head_dim]                           */ \
    X(GATE)   /* feed-forward gate, then gated up f32 [n_expert_used or 1][n_ff]                */ \
    X(UP)     /* up of the chosen experts      f32 [n_expert_used][n_ff]                        */ \
    X(DOWN)   /* outputs of the chosen experts f32 [n_expert_used][n_embd]                      */ \
    X(ROUTER) /* router logits                 f32 [n_expert]                                   */ \
    X(PICKS)  /* chosen experts                int32 [n_expert_used], f32 weight [n_expert_used]*/ \
    X(A256)   /* int8 activations, groups of 256 (layout: smolq_a8)                             */ \
    X(A32)    /* int8 activations, groups of 32                                                 */ \
    X(SHARED) /* logit of the shared expert    f32 [1]                                          */ \
    X(ROPE)   /* rotations of the position     f32 cos [n_rot / 2], sin [n_rot / 2]             */ \
    X(ROPE_LOCAL) /* the same for layers with a window                                          */ \
    X(HEAT)   /* attention temperature         f32 [1]                                          */ \
    X(LOGITS) /* f32 [n_vocab], in the caller's memory: smolq_run.logits                        */
#define SMOLQ__BUFFER_ENUM(name) SMOLQ_BUF_##name,
enum { SMOLQ_BUFFERS(SMOLQ__BUFFER_ENUM) SMOLQ_BUF_COUNT, SMOLQ_BUF_NONE = -1 };
#undef SMOLQ__BUFFER_ENUM

/* Operations.           name            reads -> writes (per row), by the fields of smolq_op */
#define SMOLQ_OPS(X) \
    X(EMBED)          /* token id -> out: its row of table, unpacked, times scale                                      */ \
    X(NORM)           /* in -> out: n_seg segments of n, each RMS-normed with eps and multiplied by w [n] (+ out)      */ \
    X(QUANTIZE)       /* in -> out: n floats as int8 in groups of `group`; for experts n_seg rows of n                 */ \
    X(MATMUL)         /* part[i].in -> part[i].out: w * in (+ bias); or added to out, or gated by it (smolq_op_part)   */ \
    X(ROPE)           /* in (Q or K), in place: rotates the first n_rot of each of n_seg heads of n; by the buffer angles */ \
    X(KV_STORE)       /* K, V -> the cache of the layer, converted to its type                                         */ \
    X(ATTENTION)      /* Q, cache -> ATT; scale, cap, window, sinks w [n_head], and HEAT if `heated`                    */ \
    X(GATHER)         /* in, in place: keeps the rows that want logits, in order                                       */ \
    X(GLU)            /* GATE, UP -> GATE: activation(gate) * up, n values; of experts                                 */ \
    X(ROUTE)          /* ROUTER -> PICKS: the best n_expert_used and their weights                                     */ \
    X(MATMUL_EXPERTS) /* part[i].in -> part[i].out: for each pick s: expert w * in (shared, or row s if n_seg > 1)     */ \
    X(COMBINE)        /* DOWN, PICKS -> out: adds the weighted sum of the experts' outputs, times scale                */ \
    X(ADD_SHARED)     /* DOWN, SHARED -> out: adds the shared expert's output times sigmoid(SHARED), times scale       */ \
    X(CAP)            /* in (LOGITS), in place: n values times scale, then under the soft cap                          */
#define SMOLQ__OP_ENUM(name) SMOLQ_OP_##name,
enum { SMOLQ_OPS(SMOLQ__OP_ENUM) SMOLQ_OP_COUNT };
#undef SMOLQ__OP_ENUM

enum { SMOLQ_ROPE_PAIRS, SMOLQ_ROPE_HALVES };             /* rotates (2i, 2i+1), or (i, i + n_rot/2) */
enum { SMOLQ_GATE_NONE, SMOLQ_GATE_SILU, SMOLQ_GATE_GELU, SMOLQ_GATE_OAI }; /* docs/arithmetic.md, 6 */
enum { SMOLQ_ROUTER_ALL, SMOLQ_ROUTER_CHOSEN };           /* softmax before or after the choice */

typedef struct smolq_op_part {
    const smolq_tensor *w;
    const float        *bias;  /* [n_rows], of experts [n_experts][n_rows], in the mapping; or NULL */
    int32_t             in, out;
    float               add;   /* 0: out = product, else out += add * product */
    int32_t             gate;  /* SMOLQ_GATE_..., of MATMUL: out = activation(out) * product.  The part before made out, from as many rows; both go row by row */
} smolq_op_part;

typedef struct smolq_op {
    int32_t kind;        /* SMOLQ_OP_... */
    int32_t layer;       /* -1 outside layers */
    int32_t selected;    /* nonzero: only the rows that want logits (they are the first n_out rows after GATHER) */
    int32_t in, out;     /* SMOLQ_BUF_... */
    int32_t n, n_seg;    /* see the list */
    int32_t add;         /* NORM: out += */
    int32_t group;       /* QUANTIZE */
    int32_t n_rot, rope, angles; /* ROPE: SMOLQ_ROPE_..., and the buffer with the rotations */
    int32_t n_head, n_head_kv;   /* KV_STORE, ATTENTION */
    int32_t window;      /* ATTENTION: keys that a query sees, its own included; 0: all */
    int32_t heated;      /* ATTENTION: scale times the row's HEAT */
    int32_t gate;        /* GLU: SMOLQ_GATE_... */
    int32_t router;      /* ROUTE: SMOLQ_ROUTER_... */
    int32_t renormalize; /* ROUTE: weights of the chosen sum to 1 */
    int32_t n_parts;     /* MATMUL: products that share a barrier */
    float   eps;         /* NORM */
    float   scale;       /* see the list; ROUTE: of the weights */
    float   cap;         /* ATTENTION, CAP: cap * tanh(x / cap); 0: none */
    const float *w;      /* NORM: weight [n]; ATTENTION: sinks [n_head] or NULL */
    const smolq_tensor *table; /* EMBED */
    smolq_op_part part[3];
} smolq_op;

typedef struct smolq_program {
    const smolq_op *ops;
    int32_t  n_ops;
    int32_t  n_layer, n_embd, head_dim, n_rot, n_vocab, n_expert, n_expert_used;
    uint64_t row_bytes[SMOLQ_BUF_COUNT]; /* a multiple of 64; 0 for a buffer that the program doesn't use */
} smolq_program;

/* One layer of one context's cache: [n_head_kv][n_cells][head_dim] in the cache's type; position p stands in cell p mod n_cells. */
typedef struct smolq_kv_layer {
    uint8_t *k, *v;
    int32_t  n_cells;
    int32_t  type;           /* SMOLQ_TYPE_F32, F16 or Q8_0 */
    uint64_t head_row_bytes; /* bytes of one [head_dim] */
} smolq_kv_layer;

/* What may be asked about a row of logits in their place: the k best, best first, of equals the lower id.  A row is ranked by logit / divide, one division in f32. */
enum { SMOLQ_TOP_MOST = 256 };
typedef struct smolq_top {
    int32_t k;                     /* 1..SMOLQ_TOP_MOST, at most n_vocab */
    float   divide;                /* above 0; or 0: the logits as they are */
    int32_t n;                     /* 0 before the run.  k after it: they are found, and logits are not written; still 0: logits are */
    int32_t id[SMOLQ_TOP_MOST];
    float   logit[SMOLQ_TOP_MOST]; /* divided; -0 may be 0 */
} smolq_top;

/* A batch on its way through the program. */
typedef struct smolq_run {
    const smolq_program *program;
    int32_t              n_rows, n_out;
    const int32_t       *token;      /* [n_rows] */
    const int32_t       *position;   /* [n_rows] */
    const smolq_kv_layer *const *kv; /* [n_rows]: the cache of the row's context, [n_layer] */
    const int32_t       *out_row;    /* [n_out]: rows that want logits, ascending */
    float *const        *logits;     /* [n_out] */
    smolq_top *const    *top;        /* [n_out], or NULL: what is asked about each row, or NULL.  A backend may answer when it ends the program, if k quotients are finite and none is
                                      * +infinity; then it sets numeric for a row with NaN or infinity.  One whose logits are in the host's memory has nothing to gain */
    uint8_t             *buffer[SMOLQ_BUF_COUNT]; /* in the device's memory if it has its own (smolq_backend_memory), but for smolq_is_host_buffer */
    uint32_t             op;         /* the next piece of work: pieces of an op are numbered by the backend */
    uint64_t             unit;
    uint32_t             end_op;     /* work ends before this one: n_ops, or where another device goes on */
    uint8_t             *scratch;    /* what the backend asked for, 64-byte aligned, in the device's memory */
    void                *loaded;     /* what load() made of the weights */
    int32_t              numeric;    /* set when a group of activations holds NaN or infinity */
    int                (*pause)(void *user); /* asked between pieces of at most some ten microseconds; nonzero: return */
    void                *user;
} smolq_run;

SMOLQ_INLINE uint8_t *smolq_row(const smolq_run *run, int32_t buffer, int32_t row)
{
    if (buffer == SMOLQ_BUF_LOGITS) return (uint8_t *)run->logits[row];
    return run->buffer[buffer] + (uint64_t)row * run->program->row_bytes[buffer];
}

/* int8 activations of n floats in groups of G: q [n] int8, then d [n / G] f32, then sums [n / 16] int16, each part padded to 16 bytes.
 * x = d[i / G] * q[i]; sums[j] adds q[16j .. 16j+15] (for types with minimums). */
SMOLQ_INLINE uint64_t smolq_a8_pad(uint64_t n) { return (n + 15) & ~(uint64_t)15; }
SMOLQ_INLINE uint64_t smolq_a8_d(int32_t n) { return smolq_a8_pad((uint64_t)n); }
SMOLQ_INLINE uint64_t smolq_a8_sums(int32_t n, int32_t group) { return smolq_a8_d(n) + smolq_a8_pad((uint64_t)(n / group) * 4); }
SMOLQ_INLINE uint64_t smolq_a8_bytes(int32_t n, int32_t group) { return smolq_a8_sums(n, group) + smolq_a8_pad((uint64_t)(n / 16) * 2); }

/* Buffers that smolq.h fills before a run, and the logits: in the host's memory on every device. */
SMOLQ_INLINE int32_t smolq_is_host_buffer(int32_t buffer)
{
    return buffer == SMOLQ_BUF_ROPE || buffer == SMOLQ_BUF_ROPE_LOCAL || buffer == SMOLQ_BUF_HEAT || buffer == SMOLQ_BUF_LOGITS;
}

/* What a backend adds whose device has memory of its own.  Then weights are copied there when a model opens, and activations, KV cache and scratch of a context live
 * there; token, position, kv, out_row, logits and top of a run, and the buffers above, stay in the host's memory.  A run that has returned has finished on the device.
 * All of it may be called while another thread computes on the device. */
typedef struct smolq_backend_memory {
    /* Bytes of device memory, to the byte, that load takes for the operations [first_op, n_ops). */
    uint64_t     (*load_bytes)(void *state, const smolq_program *program, int32_t first_op);
    /* Copies their weights, biases and norms to the device, in what layout it likes.  One smolq_tensor that several operations name is one tensor; several may share
     * bytes.  progress gets the fraction done, nonzero from it gives up with SMOLQ_E_CANCELLED; may be NULL. */
    smolq_result (*load)(void *state, const smolq_program *program, int32_t first_op, smolq_progress_fn progress, void *user, void **loaded, smolq_error *err);
    void         (*unload)(void *state, void *loaded);
    uint64_t     (*available)(void *state);                                              /* bytes of device memory that are free now */
    smolq_result (*alloc)(void *state, uint64_t bytes, uint8_t **p, smolq_error *err);   /* aligned to 256; not cleared */
    void         (*free)(void *state, uint8_t *p);
    smolq_result (*copy)(void *state, uint8_t *to, const uint8_t *from, uint64_t bytes, smolq_error *err); /* between any two memories, 0 bytes too; done when it returns */
} smolq_backend_memory;

/* The functions of a backend.  A companion file fills one in; version and sizes let smolq.h refuse one of another release. */
struct smolq_backend {
    uint32_t    version;  /* SMOLQ_CONTRACT */
    uint32_t    sizes;    /* SMOLQ_CONTRACT_SIZES */
    int32_t     canonical;/* SMOLQ_CANONICAL of its compilation */
    const char *name;
    /* Opens a device: *state is the backend's own, report (at least 128 bytes) gets a line for people. */
    smolq_result (*open)(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err);
    void         (*close)(void *state);
    /* Takes the device for one evaluation, or with no_wait returns SMOLQ_E_BUSY; both NULL if any number may run at once. */
    smolq_result (*acquire)(void *state, int32_t no_wait, smolq_error *err);
    void         (*release)(void *state);
    /* Bytes of scratch that a context with n_batch rows holds for it; NULL: none. */
    uint64_t     (*scratch)(void *state, const smolq_program *program, int32_t n_batch);
    /* Works from run->op, run->unit until run->op == end_op or pause() says so, and leaves op and unit where to go on. */
    smolq_result (*run)(void *state, smolq_run *run, smolq_error *err);
    const smolq_backend_memory *memory; /* NULL: the device computes in the host's memory */
};
#define SMOLQ_CONTRACT ((uint32_t)(SMOLQ_VERSION_MAJOR << 16 | SMOLQ_VERSION_MINOR << 8 | SMOLQ_VERSION_PATCH))
#define SMOLQ_CONTRACT_SIZES ((uint32_t)(sizeof(smolq_op) | sizeof(smolq_run) << 10 | sizeof(smolq_tensor) << 20))
