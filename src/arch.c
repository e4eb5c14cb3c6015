/* ==== arch.c: families, metadata keys and tensor names, as tables ===================================================
 * A family of models is a row.  Its keys and tensors are rows too: reading a model is walking three tables, checking everything
 * against its row, and stopping at the first thing that is wrong.  Facts: public model files and llama.cpp (MIT). */
#pragma once
#include "gguf.c"
#include "quant.c"

/* ---- families ---- */

/* rope     how a rotated pair lies in a head; not in the file (for PAIRS the converter permuted Q and K)
 * nope     every nope-th layer has no rotation; 0: all have
 * norms    PRE before attention and before the feed-forward, POST after each (before the sum), BOTH; LATE: PRE, the second one being named post_attention_norm
 * qk       RMS-norm of Q and K before the rotation: NONE, each HEAD, or the WHOLE projection
 * window   layer l attends to a window only where l mod window < window - 1, unless the file says otherwise; 0: the file's window is not used
 * width    of the window where the file has no key for it; 0: then there is none; -1: the key is required
 * local    rotation in layers with a window: SAME as the others, or PLAIN (no scaling)
 * base     RoPE base of such layers where the file has none; 0: that of the others
 * gate     activation of the feed-forward: SILU, GELU (tanh form), OAI (clamped, gpt-oss)
 * router   softmax over ALL experts, then the choice; or over the CHOSEN ones
 * odd      a model of that many layers scales q.k by 1/sqrt(n_embd / n_head), not 1/sqrt(head_dim); not in the file
 * and, 1 for yes:
 * bias     biases of Q, K and V are required (any family may have biases)
 * moe      the feed-forward must be experts (in others it is where the file says so)
 * norm     weights of the chosen experts are scaled to sum to 1
 * share    a shared expert with a gate of its own
 * sinks    a logit per head that joins the softmax's denominator only
 * root     embeddings are multiplied by sqrt(n_embd)
 * caps     the soft caps of attention and logits are required
 * lscale   logit_scale is required
 * switch   rope.scaling.finetuned = false switches the rotation off
 *
 *    name        rope    nope norms qk     window width local  base   gate  router  odd  bias moe norm share sinks root caps lscale switch    who */
#define SMOLQ__FAMILIES(X) \
    X("llama",    PAIRS,  0,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   0,     0) /* Llama 1-3, Mistral, Mixtral, TinyLlama, SmolLM2 */ \
    X("smollm3",  PAIRS,  4,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   0,     0) /* SmolLM3 */ \
    X("mistral3", PAIRS,  0,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   0,     0) /* Ministral 3 */ \
    X("granite",  PAIRS,  0,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   1,     1) /* Granite 3 */ \
    X("qwen2",    HALVES, 0,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   1,   0,  1,   0,    0,    0,   0,   0,     0) /* Qwen2, Qwen2.5, R1 distills */ \
    X("qwen2moe", HALVES, 0,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   1,   1,  0,   1,    0,    0,   0,   0,     0) /* Qwen1.5-MoE, Qwen2-57B-A14B */ \
    X("qwen3",    HALVES, 0,   PRE,  HEAD,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   0,     0) /* Qwen3 */ \
    X("qwen3moe", HALVES, 0,   PRE,  HEAD,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   1,  1,   0,    0,    0,   0,   0,     0) /* Qwen3-30B-A3B */ \
    X("gemma2",   HALVES, 0,   BOTH, NONE,  2,     4096, SAME,  0,     GELU, ALL,    46,  0,   0,  1,   0,    0,    1,   1,   0,     0) /* Gemma 2 */ \
    X("gemma3",   HALVES, 0,   BOTH, HEAD,  6,     0,    PLAIN, 10000, GELU, ALL,    62,  0,   0,  1,   0,    0,    1,   0,   0,     0) /* Gemma 3, text */ \
    X("phi3",     HALVES, 0,   PRE,  NONE,  0,     0,    SAME,  0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   0,     0) /* Phi-3, Phi-3.5, Phi-4 */ \
    X("olmo2",    HALVES, 0,   POST, WHOLE, 4,     0,    PLAIN, 0,     SILU, ALL,    0,   0,   0,  1,   0,    0,    0,   0,   0,     0) /* OLMo 2, OLMo 3 */ \
    X("gpt-oss",  HALVES, 0,   LATE, NONE,  2,     -1,   SAME,  0,     OAI,  CHOSEN, 0,   1,   1,  0,   0,    1,    0,   0,   0,     0) /* gpt-oss */

enum { SMOLQ__NORMS_PRE, SMOLQ__NORMS_POST, SMOLQ__NORMS_BOTH, SMOLQ__NORMS_LATE };
enum { SMOLQ__QK_NONE, SMOLQ__QK_HEAD, SMOLQ__QK_WHOLE };
enum { SMOLQ__LOCAL_SAME, SMOLQ__LOCAL_PLAIN };

typedef struct smolq__family {
    const char *name;
    int32_t     rope, nope, norms, qk, window, width, local;
    double      base;
    int32_t     gate, router, odd, bias, moe, norm, share, sinks, root, caps, lscale, rope_switch;
} smolq__family;

#define SMOLQ__FAMILY_ROW(name, rope, nope, norms, qk, window, width, local, base, gate, router, odd, bias, moe, norm, share, sinks, root, caps, lscale, rope_switch) \
    { name, SMOLQ_ROPE_##rope, nope, SMOLQ__NORMS_##norms, SMOLQ__QK_##qk, window, width, SMOLQ__LOCAL_##local, base, SMOLQ_GATE_##gate, SMOLQ_ROUTER_##router, \
      odd, bias, moe, norm, share, sinks, root, caps, lscale, rope_switch },
static const smolq__family smolq__families[] = { SMOLQ__FAMILIES(SMOLQ__FAMILY_ROW) };
#undef SMOLQ__FAMILY_ROW

/* ---- tensors ---- */

/* kind: MATRIX of any type; VECTOR and BIAS f32, BIAS named .bias
 * when: YES; NO (used if there); or needed where the family has that property or the model has experts or none
 *
 *    slot              name                   of     kind    ne0        ne1        ne2        when */
#define SMOLQ__TENSORS(X) \
    X(TOKEN_EMBD,       "token_embd",          MODEL, MATRIX, EMBD,      VOCAB,     ONE,       YES)       \
    X(OUTPUT_NORM,      "output_norm",         MODEL, VECTOR, EMBD,      ONE,       ONE,       YES)       \
    X(OUTPUT,           "output",              MODEL, MATRIX, EMBD,      VOCAB,     ONE,       NO)        /* absent: tied to token_embd */ \
    X(ROPE_FREQS,       "rope_freqs",          MODEL, VECTOR, ROT_HALF,  ONE,       ONE,       NO)        /* divide the frequencies */ \
    X(ROPE_LONG,        "rope_factors_long",   MODEL, VECTOR, ROT_HALF,  ONE,       ONE,       NO)        /* the same, for contexts beyond the original length */ \
    X(ROPE_SHORT,       "rope_factors_short",  MODEL, VECTOR, ROT_HALF,  ONE,       ONE,       NO)        /* and for others */ \
    X(ATTN_NORM,        "attn_norm",           LAYER, VECTOR, EMBD,      ONE,       ONE,       PRE_NORM)  \
    X(ATTN_Q,           "attn_q",              LAYER, MATRIX, EMBD,      Q,         ONE,       YES)       \
    X(ATTN_K,           "attn_k",              LAYER, MATRIX, EMBD,      KV,        ONE,       YES)       \
    X(ATTN_V,           "attn_v",              LAYER, MATRIX, EMBD,      KV,        ONE,       YES)       \
    X(ATTN_OUTPUT,      "attn_output",         LAYER, MATRIX, Q,         EMBD,      ONE,       YES)       \
    X(ATTN_Q_BIAS,      "attn_q",              LAYER, BIAS,   Q,         ONE,       ONE,       QKV_BIAS)  \
    X(ATTN_K_BIAS,      "attn_k",              LAYER, BIAS,   KV,        ONE,       ONE,       QKV_BIAS)  \
    X(ATTN_V_BIAS,      "attn_v",              LAYER, BIAS,   KV,        ONE,       ONE,       QKV_BIAS)  \
    X(ATTN_OUT_BIAS,    "attn_output",         LAYER, BIAS,   EMBD,      ONE,       ONE,       NO)        \
    X(ATTN_Q_NORM,      "attn_q_norm",         LAYER, VECTOR, Q_NORM,    ONE,       ONE,       QK_NORM)   \
    X(ATTN_K_NORM,      "attn_k_norm",         LAYER, VECTOR, K_NORM,    ONE,       ONE,       QK_NORM)   \
    X(ATTN_SINKS,       "attn_sinks",          LAYER, VECTOR, HEADS,     ONE,       ONE,       SINKS)     \
    X(ATTN_POST_NORM,   "post_attention_norm", LAYER, VECTOR, EMBD,      ONE,       ONE,       POST_NORM) \
    X(FFN_NORM,         "ffn_norm",            LAYER, VECTOR, EMBD,      ONE,       ONE,       FFN_NORM)  \
    X(FFN_GATE,         "ffn_gate",            LAYER, MATRIX, EMBD,      FF,        ONE,       DENSE)     \
    X(FFN_UP,           "ffn_up",              LAYER, MATRIX, EMBD,      FF,        ONE,       DENSE)     \
    X(FFN_DOWN,         "ffn_down",            LAYER, MATRIX, FF,        EMBD,      ONE,       DENSE)     \
    X(FFN_GATE_BIAS,    "ffn_gate",            LAYER, BIAS,   FF,        ONE,       ONE,       NO)        \
    X(FFN_UP_BIAS,      "ffn_up",              LAYER, BIAS,   FF,        ONE,       ONE,       NO)        \
    X(FFN_DOWN_BIAS,    "ffn_down",            LAYER, BIAS,   EMBD,      ONE,       ONE,       NO)        \
    X(FFN_POST_NORM,    "post_ffw_norm",       LAYER, VECTOR, EMBD,      ONE,       ONE,       FFN_POST)  \
    X(ROUTER,           "ffn_gate_inp",        LAYER, MATRIX, EMBD,      EXPERT,    ONE,       EXPERTS)   \
    X(ROUTER_BIAS,      "ffn_gate_inp",        LAYER, BIAS,   EXPERT,    ONE,       ONE,       NO)        \
    X(GATE_EXPERTS,     "ffn_gate_exps",       LAYER, MATRIX, EMBD,      FF_EXPERT, EXPERT,    EXPERTS)   \
    X(UP_EXPERTS,       "ffn_up_exps",         LAYER, MATRIX, EMBD,      FF_EXPERT, EXPERT,    EXPERTS)   \
    X(DOWN_EXPERTS,     "ffn_down_exps",       LAYER, MATRIX, FF_EXPERT, EMBD,      EXPERT,    EXPERTS)   \
    X(GATE_EXPERTS_BIAS,"ffn_gate_exps",       LAYER, BIAS,   FF_EXPERT, EXPERT,    ONE,       NO)        \
    X(UP_EXPERTS_BIAS,  "ffn_up_exps",         LAYER, BIAS,   FF_EXPERT, EXPERT,    ONE,       NO)        \
    X(DOWN_EXPERTS_BIAS,"ffn_down_exps",       LAYER, BIAS,   EMBD,      EXPERT,    ONE,       NO)        \
    X(SHARED_ROUTER,    "ffn_gate_inp_shexp",  LAYER, MATRIX, EMBD,      ONE,       ONE,       SHARED)    \
    X(SHARED_GATE,      "ffn_gate_shexp",      LAYER, MATRIX, EMBD,      FF_SHARED, ONE,       SHARED)    \
    X(SHARED_UP,        "ffn_up_shexp",        LAYER, MATRIX, EMBD,      FF_SHARED, ONE,       SHARED)    \
    X(SHARED_DOWN,      "ffn_down_shexp",      LAYER, MATRIX, FF_SHARED, EMBD,      ONE,       SHARED)

enum { SMOLQ__OF_MODEL, SMOLQ__OF_LAYER };
enum { SMOLQ__IS_MATRIX, SMOLQ__IS_VECTOR, SMOLQ__IS_BIAS };
enum { SMOLQ__WHEN_NO, SMOLQ__WHEN_YES, SMOLQ__WHEN_PRE_NORM, SMOLQ__WHEN_FFN_NORM, SMOLQ__WHEN_POST_NORM, SMOLQ__WHEN_FFN_POST, SMOLQ__WHEN_QK_NORM, SMOLQ__WHEN_QKV_BIAS,
       SMOLQ__WHEN_SINKS, SMOLQ__WHEN_DENSE, SMOLQ__WHEN_EXPERTS, SMOLQ__WHEN_SHARED, SMOLQ__WHEN_CAPS, SMOLQ__WHEN_LSCALE };
enum { SMOLQ__DIM_ONE, SMOLQ__DIM_EMBD, SMOLQ__DIM_VOCAB, SMOLQ__DIM_Q, SMOLQ__DIM_KV, SMOLQ__DIM_HEADS, SMOLQ__DIM_Q_NORM, SMOLQ__DIM_K_NORM, SMOLQ__DIM_ROT_HALF, SMOLQ__DIM_FF,
       SMOLQ__DIM_EXPERT, SMOLQ__DIM_FF_EXPERT, SMOLQ__DIM_FF_SHARED };

#define SMOLQ__SLOT_ENUM(slot, name, of, kind, ne0, ne1, ne2, when) SMOLQ__T_##slot,
enum { SMOLQ__TENSORS(SMOLQ__SLOT_ENUM) SMOLQ__T_COUNT, SMOLQ__T_NONE = -1 };
#undef SMOLQ__SLOT_ENUM

typedef struct smolq__tensor_row {
    const char *name;
    int32_t     of, kind, dim[3], when;
} smolq__tensor_row;
#define SMOLQ__TENSOR_ROW(slot, name, of, kind, ne0, ne1, ne2, when) \
    { name, SMOLQ__OF_##of, SMOLQ__IS_##kind, { SMOLQ__DIM_##ne0, SMOLQ__DIM_##ne1, SMOLQ__DIM_##ne2 }, SMOLQ__WHEN_##when },
static const smolq__tensor_row smolq__tensor_rows[] = { SMOLQ__TENSORS(SMOLQ__TENSOR_ROW) };
#undef SMOLQ__TENSOR_ROW

/* Tensors that hold the rows of two or three slots one after another, in place of them; any family may have them.
 *
 *    name                suffix     slots */
#define SMOLQ__FUSED(X) \
    X("attn_qkv",         "weight",  ATTN_Q,       ATTN_K,      ATTN_V)      \
    X("attn_qkv",         "bias",    ATTN_Q_BIAS,  ATTN_K_BIAS, ATTN_V_BIAS) \
    X("ffn_up",           "weight",  FFN_GATE,     FFN_UP,      NONE)        /* Phi-3: the gate's rows first, and no ffn_gate */ \
    X("ffn_gate_up_exps", "weight",  GATE_EXPERTS, UP_EXPERTS,  NONE)
typedef struct smolq__fused_row { const char *name, *suffix; int32_t slot[3]; } smolq__fused_row;
#define SMOLQ__FUSED_ROW(name, suffix, a, b, c) { name, suffix, { SMOLQ__T_##a, SMOLQ__T_##b, SMOLQ__T_##c } },
static const smolq__fused_row smolq__fused_rows[] = { SMOLQ__FUSED(SMOLQ__FUSED_ROW) };
#undef SMOLQ__FUSED_ROW

/* ---- what the tables fill in ---- */

typedef struct smolq__layer {
    int32_t      n_head, n_head_kv, n_ff;
    int32_t      window;                 /* keys that a query sees, its own included; 0: all */
    smolq_tensor tensor[SMOLQ__T_COUNT]; /* zeros: absent */
} smolq__layer;

typedef struct smolq__hparams {
    int32_t n_ctx_train, n_embd, n_layer, n_vocab, head_dim, value_dim, n_rot;
    int32_t n_expert, n_expert_used, n_ff_expert, n_ff_shared, expert_gating;
    int32_t n_ctx_orig, window;
    double  eps, attn_scale, expert_scale, attn_cap, logit_cap, logit_scale, residual_scale, embedding_scale, temperature;
    double  freq_base, freq_base_local, rope_factor, rope_factor_old, rope_attn_factor, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow, yarn_log_multiplier;
    int32_t yarn;       /* rope.scaling.type is yarn */
    int32_t no_rope;    /* the file switches rotations off */
} smolq__hparams;

typedef struct smolq__arch {
    const smolq__family *family;
    smolq__hparams       hp;
    smolq__layer        *layers;  /* [n_layer] */
    smolq__layer         global;  /* tensors of the model as a whole */
    uint32_t             n_bound, n_quantized, n_keys_used;
} smolq__arch;

/* ---- metadata keys, read in this order; an absent optional one leaves 0 ---- */

/*    field                key after "FAMILY."                      kind      when     least  most */
#define SMOLQ__KEYS(X) \
    X(n_layer,             "block_count",                           INT,      YES,     1,     512)      \
    X(n_ctx_train,         "context_length",                        INT,      YES,     1,     1 << 30)  \
    X(n_embd,              "embedding_length",                      INT,      YES,     1,     1 << 20)  \
    X(n_vocab,             "vocab_size",                            INT,      NO,      1,     1 << 24)  \
    X(n_expert,            "expert_count",                          INT,      NO,      0,     1 << 14)  \
    X(n_expert_used,       "expert_used_count",                     INT,      EXPERTS, 0,     1 << 14)  \
    X(n_ff_expert,         "expert_feed_forward_length",            INT,      NO,      0,     1 << 24)  \
    X(n_ff_shared,         "expert_shared_feed_forward_length",     INT,      NO,      0,     1 << 24)  \
    X(expert_gating,       "expert_gating_func",                    INT,      NO,      0,     3)        /* 1: softmax, 3: softmax of the chosen */ \
    X(expert_scale,        "expert_weights_scale",                  SCALE,    NO,      0,     0)        \
    X(n_head,              "attention.head_count",                  LAYERS,   YES,     1,     1 << 16)  \
    X(n_head_kv,           "attention.head_count_kv",               LAYERS,   NO,      1,     1 << 16)  \
    X(n_ff,                "feed_forward_length",                   LAYERS,   DENSE,   0,     1 << 24)  \
    X(head_dim,            "attention.key_length",                  INT,      NO,      2,     1024)     \
    X(value_dim,           "attention.value_length",                INT,      NO,      2,     1024)     \
    X(eps,                 "attention.layer_norm_rms_epsilon",      POSITIVE, YES,     0,     0)        \
    X(attn_scale,          "attention.scale",                       SCALE,    NO,      0,     0)        \
    X(window,              "attention.sliding_window",              INT,      NO,      1,     1 << 30)  \
    X(temperature,         "attention.temperature_scale",           SCALE,    NO,      0,     0)        \
    X(attn_cap,            "attn_logit_softcapping",                POSITIVE, CAPS,    0,     0)        \
    X(logit_cap,           "final_logit_softcapping",               POSITIVE, CAPS,    0,     0)        \
    X(logit_scale,         "logit_scale",                           POSITIVE, LSCALE,  0,     0)        \
    X(residual_scale,      "residual_scale",                        POSITIVE, NO,      0,     0)        \
    X(embedding_scale,     "embedding_scale",                       POSITIVE, NO,      0,     0)        \
    X(n_rot,               "rope.dimension_count",                  INT,      NO,      2,     1024)     \
    X(freq_base,           "rope.freq_base",                        POSITIVE, NO,      0,     0)        \
    X(freq_base_local,     "rope.freq_base_swa",                    POSITIVE, NO,      0,     0)        \
    X(rope_factor,         "rope.scaling.factor",                   SCALE,    NO,      0,     0)        \
    X(rope_factor_old,     "rope.scale_linear",                     SCALE,    NO,      0,     0)        \
    X(rope_attn_factor,    "rope.scaling.attn_factor",              POSITIVE, NO,      0,     0)        \
    X(n_ctx_orig,          "rope.scaling.original_context_length",  INT,      NO,      1,     1 << 30)  \
    X(yarn_ext_factor,     "rope.scaling.yarn_ext_factor",          SCALE,    NO,      0,     0)        \
    X(yarn_attn_factor,    "rope.scaling.yarn_attn_factor",         POSITIVE, NO,      0,     0)        \
    X(yarn_beta_fast,      "rope.scaling.yarn_beta_fast",           POSITIVE, NO,      0,     0)        \
    X(yarn_beta_slow,      "rope.scaling.yarn_beta_slow",           POSITIVE, NO,      0,     0)        \
    X(yarn_log_multiplier, "rope.scaling.yarn_log_multiplier",      SCALE,    NO,      0,     0)

/* INT a whole number in least..most; LAYERS the same, one for all layers or an array of one each; POSITIVE and SCALE a finite number, above 0 or not
 * below 0 (0: not given) */
enum { SMOLQ__KEY_INT, SMOLQ__KEY_LAYERS, SMOLQ__KEY_POSITIVE, SMOLQ__KEY_SCALE };

typedef struct smolq__key_row {
    const char *key;
    int32_t     kind, when;
    int64_t     least, most;
    size_t      offset; /* in smolq__hparams, or in smolq__layer */
} smolq__key_row;
#define SMOLQ__OFFSET_INT(field)      offsetof(smolq__hparams, field)
#define SMOLQ__OFFSET_POSITIVE(field) offsetof(smolq__hparams, field)
#define SMOLQ__OFFSET_SCALE(field)    offsetof(smolq__hparams, field)
#define SMOLQ__OFFSET_LAYERS(field)   offsetof(smolq__layer, field)
#define SMOLQ__KEY_ROW(field, key, kind, when, least, most) { key, SMOLQ__KEY_##kind, SMOLQ__WHEN_##when, least, most, SMOLQ__OFFSET_##kind(field) },
static const smolq__key_row smolq__key_rows[] = { SMOLQ__KEYS(SMOLQ__KEY_ROW) };
#undef SMOLQ__KEY_ROW

#define SMOLQ__COUNT(table) (sizeof(table) / sizeof *(table))

/* ---- walking the tables ---- */

static int smolq__present(const smolq_tensor *tensor) { return tensor->n_rows > 0; } /* data may still be NULL: not loaded */
static int smolq__has_experts(const smolq__arch *arch) { return arch->hp.n_expert > 0; }

static int smolq__needed(const smolq__arch *arch, int32_t when)
{
    const smolq__family *family = arch->family;
    switch (when) {
    case SMOLQ__WHEN_YES:       return 1;
    case SMOLQ__WHEN_PRE_NORM:  return family->norms != SMOLQ__NORMS_POST;
    case SMOLQ__WHEN_FFN_NORM:  return family->norms == SMOLQ__NORMS_PRE || family->norms == SMOLQ__NORMS_BOTH;
    case SMOLQ__WHEN_POST_NORM: return family->norms != SMOLQ__NORMS_PRE;
    case SMOLQ__WHEN_FFN_POST:  return family->norms == SMOLQ__NORMS_POST || family->norms == SMOLQ__NORMS_BOTH;
    case SMOLQ__WHEN_QK_NORM:   return family->qk != SMOLQ__QK_NONE;
    case SMOLQ__WHEN_QKV_BIAS:  return family->bias;
    case SMOLQ__WHEN_SINKS:     return family->sinks;
    case SMOLQ__WHEN_DENSE:     return !smolq__has_experts(arch);
    case SMOLQ__WHEN_EXPERTS:   return smolq__has_experts(arch);
    case SMOLQ__WHEN_SHARED:    return family->share;
    case SMOLQ__WHEN_CAPS:      return family->caps;
    case SMOLQ__WHEN_LSCALE:    return family->lscale;
    default:                    return 0;
    }
}

static void smolq__set_layers(smolq__arch *arch, const smolq__key_row *row, int32_t from, int32_t to, int64_t value)
{
    int32_t i;
    for (i = from; i < to; i++) {
        int32_t number = (int32_t)value;
        memcpy((char *)&arch->layers[i] + row->offset, &number, sizeof number);
    }
}

/* An array that shall hold a whole number or a bool for each layer. */
static smolq_result smolq__check_per_layer(const smolq_value *array, const char *key, int32_t n_layer, smolq_error *err)
{
    int32_t type = array->element_type;
    if (type == SMOLQ_GGUF_STRING || type == SMOLQ_GGUF_ARRAY || type == SMOLQ_GGUF_F32 || type == SMOLQ_GGUF_F64)
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s' is an array that does not hold whole numbers", key);
    if (array->n != (uint64_t)n_layer)
        return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s' has %llu entries, expected one for each of the %d layers", key, (unsigned long long)array->n, (int)n_layer);
    return SMOLQ_OK;
}

/* A key of kind LAYERS: a number for all layers, or an array with one for each. */
static smolq_result smolq__read_layers(smolq__arch *arch, const smolq_gguf *gguf, const smolq__key_row *row, const char *key, int *found, smolq_error *err)
{
    smolq_value value, element;
    uint64_t cursor = 0;
    int64_t number;
    int32_t i, n_layer = arch->hp.n_layer;
    if (smolq_gguf_find(gguf, key, &value, NULL) == SMOLQ_OK && value.type == SMOLQ_GGUF_ARRAY) {
        if (smolq__check_per_layer(&value, key, n_layer, err)) return SMOLQ_E_FORMAT;
        for (i = 0; i < n_layer; i++) {
            if (smolq_gguf_element(&value, (uint64_t)i, &cursor, &element, err)) return SMOLQ_E_FORMAT;
            if (element.i < row->least || element.i > row->most)
                return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s', layer %d: %lld, expected %lld..%lld", key, (int)i, (long long)element.i, (long long)row->least, (long long)row->most);
            smolq__set_layers(arch, row, i, i + 1, element.i);
        }
        *found = 1;
        return SMOLQ_OK;
    }
    *found = smolq__get_int(gguf, key, row->least, row->most, &number, err);
    if (*found < 0) return SMOLQ_E_FORMAT;
    if (*found) smolq__set_layers(arch, row, 0, n_layer, number);
    return SMOLQ_OK;
}

static smolq_result smolq__read_keys(smolq__arch *arch, smolq__heap *heap, const smolq_gguf *gguf, const smolq_limits *limits, smolq_error *err)
{
    size_t r;
    for (r = 0; r < SMOLQ__COUNT(smolq__key_rows); r++) {
        const smolq__key_row *row = &smolq__key_rows[r];
        char key[128];
        int found = 0;
        snprintf(key, sizeof key, "%s.%s", arch->family->name, row->key);
        if (row->kind == SMOLQ__KEY_INT) {
            int64_t number = 0, most = row->most;
            if (row->offset == offsetof(smolq__hparams, n_layer) && limits->n_layer) most = limits->n_layer;
            found = smolq__get_int(gguf, key, row->least, most, &number, err);
            if (found < 0) return SMOLQ_E_FORMAT;
            if (found) *(int32_t *)(void *)((char *)&arch->hp + row->offset) = (int32_t)number;
        } else if (row->kind == SMOLQ__KEY_LAYERS) {
            smolq_result result = smolq__read_layers(arch, gguf, row, key, &found, err);
            if (result) return result;
        } else {
            double number = 0;
            found = smolq__get_float(gguf, key, &number, err);
            if (found < 0) return SMOLQ_E_FORMAT;
            if (found && (number < 0 || (row->kind == SMOLQ__KEY_POSITIVE && !((float)number > 0)) || number > 1e30))
                return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s' is %g, expected a number %s 0", key, number, row->kind == SMOLQ__KEY_POSITIVE ? "above" : "not below");
            if (found) *(double *)(void *)((char *)&arch->hp + row->offset) = number;
        }
        if (!found && smolq__needed(arch, row->when))
            return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s' (required by %s)", key, arch->family->name);
        arch->n_keys_used += (uint32_t)found;
        if (row->offset == offsetof(smolq__hparams, n_layer) && row->kind == SMOLQ__KEY_INT) {
            arch->layers = (smolq__layer *)smolq__alloc(heap, (uint64_t)arch->hp.n_layer * sizeof *arch->layers);
            if (!arch->layers) return smolq__fail_memory(heap, err, "the layers");
        }
    }
    return SMOLQ_OK;
}

/* Which layers have the window: by the family's period, or by the file's: a period, or one yes or no for each layer. */
static smolq_result smolq__read_windows(smolq__arch *arch, const smolq_gguf *gguf, smolq_error *err)
{
    int64_t period = arch->family->window;
    smolq_value pattern, element;
    uint64_t cursor = 0;
    char key[128];
    int32_t i;
    if (period > 0 && arch->hp.window == 0) {
        if (arch->family->width < 0) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s.attention.sliding_window' (required by %s)", arch->family->name, arch->family->name);
        arch->hp.window = arch->family->width;
    }
    if (period == 0) arch->hp.window = 0;
    if (arch->hp.window == 0) return SMOLQ_OK;
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", arch->family->name);
    if (smolq_gguf_find(gguf, key, &pattern, NULL) == SMOLQ_OK && pattern.type == SMOLQ_GGUF_ARRAY) {
        if (smolq__check_per_layer(&pattern, key, arch->hp.n_layer, err)) return SMOLQ_E_FORMAT;
        for (i = 0; i < arch->hp.n_layer; i++) {
            if (smolq_gguf_element(&pattern, (uint64_t)i, &cursor, &element, err)) return SMOLQ_E_FORMAT;
            if (element.i < 0 || element.i > 1) return smolq__fail(err, SMOLQ_E_FORMAT, "key '%s', layer %d: %lld, expected 0 or 1", key, (int)i, (long long)element.i);
            arch->layers[i].window = element.i ? arch->hp.window : 0;
        }
        arch->n_keys_used++;
        return SMOLQ_OK;
    }
    i = smolq__get_int(gguf, key, 1, 1 << 20, &period, err);
    if (i < 0) return SMOLQ_E_FORMAT;
    arch->n_keys_used += (uint32_t)i;
    for (i = 0; i < arch->hp.n_layer; i++) arch->layers[i].window = i % period < period - 1 ? arch->hp.window : 0;
    return SMOLQ_OK;
}

/* Defaults that depend on other keys, and the checks that need two of them. */
static smolq_result smolq__check_keys(smolq__arch *arch, const smolq_gguf *gguf, smolq_error *err)
{
    smolq__hparams *hp = &arch->hp;
    const char *family = arch->family->name;
    smolq_tensor_info embd;
    smolq__text scaling;
    char key[128];
    int32_t i;
    int found;

    if (hp->n_vocab == 0) {
        if (smolq_gguf_find_tensor(gguf, "token_embd.weight", &embd, NULL))
            return smolq__fail(err, SMOLQ_E_MISSING, "missing tensor 'token_embd.weight' (required by %s)", family);
        if (embd.ne[1] < 1 || embd.ne[1] > 1 << 24)
            return smolq__fail(err, SMOLQ_E_SHAPE, "token_embd.weight has %llu rows, expected 1..%d", (unsigned long long)embd.ne[1], 1 << 24);
        hp->n_vocab = (int32_t)embd.ne[1];
    }
    for (i = 0; i < hp->n_layer; i++) {
        smolq__layer *layer = &arch->layers[i];
        if (layer->n_head_kv == 0) layer->n_head_kv = layer->n_head;
        if (layer->n_head_kv > layer->n_head || layer->n_head % layer->n_head_kv)
            return smolq__fail(err, SMOLQ_E_FORMAT, "%s.attention.head_count_kv is %d in layer %d, expected a divisor of head_count %d", family, (int)layer->n_head_kv, (int)i, (int)layer->n_head);
        if (!smolq__has_experts(arch) && layer->n_ff < 1)
            return smolq__fail(err, SMOLQ_E_FORMAT, "%s.feed_forward_length is 0 in layer %d, expected 1 or more", family, (int)i);
    }
    if (hp->head_dim == 0) {
        if (hp->n_embd % arch->layers[0].n_head)
            return smolq__fail(err, SMOLQ_E_FORMAT, "%s.embedding_length %d is no multiple of head_count %d, and there is no key_length", family, (int)hp->n_embd, (int)arch->layers[0].n_head);
        hp->head_dim = hp->n_embd / arch->layers[0].n_head;
    }
    if (hp->value_dim == 0) hp->value_dim = hp->head_dim;
    if (hp->n_rot == 0) hp->n_rot = hp->head_dim;
    if (hp->head_dim > 1024 || hp->head_dim % 2)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s: the head size is %d, expected an even number up to 1024", family, (int)hp->head_dim);
    if (hp->value_dim != hp->head_dim)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s.attention.value_length is %d, key_length %d; they must be equal", family, (int)hp->value_dim, (int)hp->head_dim);
    if (hp->n_rot % 2 || hp->n_rot > hp->head_dim)
        return smolq__fail(err, SMOLQ_E_FORMAT, "%s.rope.dimension_count is %d, expected an even number up to the head size %d", family, (int)hp->n_rot, (int)hp->head_dim);

    if (arch->family->moe && !smolq__has_experts(arch)) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s.expert_count' (required by %s)", family, family);
    if (smolq__has_experts(arch)) {
        if (arch->family->norms == SMOLQ__NORMS_POST || arch->family->norms == SMOLQ__NORMS_BOTH)
            return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s.expert_count is %d; experts before a norm of their output are not known to this build", family, (int)hp->n_expert);
        if (hp->n_expert_used < 1 || hp->n_expert_used > hp->n_expert)
            return smolq__fail(err, SMOLQ_E_FORMAT, "%s.expert_used_count is %d, expected 1..expert_count %d", family, (int)hp->n_expert_used, (int)hp->n_expert);
        if (hp->n_ff_expert == 0) hp->n_ff_expert = arch->layers[0].n_ff;
        if (hp->n_ff_expert == 0) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s.expert_feed_forward_length' (required by %s with experts)", family, family);
    }

    if (arch->family->share && hp->n_ff_shared == 0) hp->n_ff_shared = arch->layers[0].n_ff;
    if (arch->family->share && hp->n_ff_shared == 0) return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s.expert_shared_feed_forward_length' (required by %s)", family, family);
    if (hp->expert_gating == 2 || (hp->expert_gating == 3) != (smolq__has_experts(arch) && hp->expert_gating && arch->family->router == SMOLQ_ROUTER_CHOSEN))
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s.expert_gating_func is %d, expected %d", family, (int)hp->expert_gating, arch->family->router == SMOLQ_ROUTER_CHOSEN ? 3 : 1);

    if (arch->family->rope_switch) {
        int finetuned = 1;
        snprintf(key, sizeof key, "%s.rope.scaling.finetuned", family);
        found = smolq__get_bool(gguf, key, &finetuned, err);
        if (found < 0) return SMOLQ_E_FORMAT;
        arch->n_keys_used += (uint32_t)found;
        hp->no_rope = !finetuned;
    }
    snprintf(key, sizeof key, "%s.rope.scaling.type", family);
    found = smolq__get_text(gguf, key, &scaling, err);
    if (found < 0) return SMOLQ_E_FORMAT;
    arch->n_keys_used += (uint32_t)found;
    if (hp->rope_factor == 0) hp->rope_factor = hp->rope_factor_old;
    if (hp->rope_factor == 0) hp->rope_factor = 1;
    if (found && smolq__text_is(scaling, "none")) hp->rope_factor = 1;
    else if (found && smolq__text_is(scaling, "yarn")) hp->yarn = 1;
    else if (found && !smolq__text_is(scaling, "linear") && !smolq__text_is(scaling, "longrope")) {
        smolq__quoted quoted;
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "key '%s' is '%s', expected none, linear, yarn or longrope", key, smolq__quote(&quoted, scaling.p, scaling.n));
    }
    if (hp->freq_base == 0) hp->freq_base = 10000;
    if (hp->freq_base <= 1) return smolq__fail(err, SMOLQ_E_FORMAT, "%s.rope.freq_base is %g, expected more than 1", family, hp->freq_base);
    if (hp->freq_base_local == 0) hp->freq_base_local = arch->family->base > 0 ? arch->family->base : hp->freq_base;
    if (hp->freq_base_local <= 1) return smolq__fail(err, SMOLQ_E_FORMAT, "%s.rope.freq_base_swa is %g, expected more than 1", family, hp->freq_base_local);
    if (hp->temperature > 0 && hp->n_ctx_orig == 0)
        return smolq__fail(err, SMOLQ_E_MISSING, "missing key '%s.rope.scaling.original_context_length' (required by attention.temperature_scale)", family);
    if (hp->n_ctx_orig == 0) hp->n_ctx_orig = hp->n_ctx_train;
    return smolq__read_windows(arch, gguf, err);
}

static uint64_t smolq__dim(const smolq__arch *arch, const smolq__layer *layer, int32_t dim)
{
    switch (dim) {
    case SMOLQ__DIM_EMBD:      return (uint64_t)arch->hp.n_embd;
    case SMOLQ__DIM_VOCAB:     return (uint64_t)arch->hp.n_vocab;
    case SMOLQ__DIM_Q:         return (uint64_t)layer->n_head * (uint64_t)arch->hp.head_dim;
    case SMOLQ__DIM_KV:        return (uint64_t)layer->n_head_kv * (uint64_t)arch->hp.head_dim;
    case SMOLQ__DIM_HEADS:     return (uint64_t)layer->n_head;
    case SMOLQ__DIM_Q_NORM:    return (uint64_t)arch->hp.head_dim * (arch->family->qk == SMOLQ__QK_WHOLE ? (uint64_t)layer->n_head : 1);
    case SMOLQ__DIM_K_NORM:    return (uint64_t)arch->hp.head_dim * (arch->family->qk == SMOLQ__QK_WHOLE ? (uint64_t)layer->n_head_kv : 1);
    case SMOLQ__DIM_ROT_HALF:  return (uint64_t)arch->hp.n_rot / 2;
    case SMOLQ__DIM_FF:        return (uint64_t)layer->n_ff;
    case SMOLQ__DIM_EXPERT:    return (uint64_t)arch->hp.n_expert;
    case SMOLQ__DIM_FF_EXPERT: return (uint64_t)arch->hp.n_ff_expert;
    case SMOLQ__DIM_FF_SHARED: return (uint64_t)arch->hp.n_ff_shared;
    default:                   return 1;
    }
}

/* "2048x4096", in GGUF's order, without trailing ones. */
typedef struct { char text[90]; } smolq__shape;
static const char *smolq__shape_text(smolq__shape *buf, const uint64_t *ne, int32_t n_dims)
{
    int32_t i;
    size_t used = 0;
    while (n_dims > 1 && ne[n_dims - 1] == 1) n_dims--;
    for (i = 0; i < n_dims; i++)
        used += (size_t)snprintf(buf->text + used, sizeof buf->text - used, i ? "x%llu" : "%llu", (unsigned long long)ne[i]);
    return buf->text;
}

/* "blk.3.attn_q.weight"; il < 0: "output.weight" */
typedef struct { char text[64]; } smolq__name;
static const char *smolq__tensor_name_of(smolq__name *buf, int32_t il, const char *name, const char *suffix)
{
    if (il < 0) snprintf(buf->text, sizeof buf->text, "%s.%s", name, suffix);
    else snprintf(buf->text, sizeof buf->text, "blk.%d.%s.%s", (int)il, name, suffix);
    return buf->text;
}

/* Type and shape against what is wanted: [4]. */
static smolq_result smolq__check_tensor(const smolq_tensor_info *info, const char *name, const uint64_t *want, int32_t kind, smolq_error *err)
{
    const smolq_type_facts *facts = smolq_type_info(info->type);
    smolq__shape found, expected;
    if (memcmp(info->ne, want, 4 * sizeof *want)) {
        int transposed = info->ne[0] == want[1] && info->ne[1] == want[0] && info->ne[2] == want[2] && info->ne[3] == want[3];
        return smolq__fail(err, SMOLQ_E_SHAPE, "%s: %s, expected %s%s", name, smolq__shape_text(&found, info->ne, 4), smolq__shape_text(&expected, want, 4),
                           transposed ? " (transposed)" : "");
    }
    if (kind != SMOLQ__IS_MATRIX && info->type != SMOLQ_TYPE_F32)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s: type %s, expected f32", name, facts ? facts->name : "?");
    if (!smolq__type_of(info->type) || !smolq__type_of(info->type)->unpack)
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s: type %s can't be multiplied by", name, facts ? facts->name : "?");
    return SMOLQ_OK;
}

/* Rows [first, first + n) of a matrix or of each expert's, or numbers of a vector, where they lie in the file.  (Of a vector only data counts.) */
static smolq_result smolq__view(smolq_tensor *tensor, smolq__heap *heap, const smolq_tensor_info *info, int32_t kind, uint64_t first, uint64_t n, smolq_error *err)
{
    tensor->row_bytes = kind == SMOLQ__IS_MATRIX ? info->bytes / (info->ne[1] * info->ne[2]) : 4;
    tensor->expert_bytes = tensor->row_bytes * info->ne[1];
    tensor->data = info->data ? info->data + (size_t)(first * tensor->row_bytes) : NULL;
    tensor->type = info->type;
    tensor->n_cols = (int32_t)info->ne[0];
    tensor->n_rows = (int32_t)n;
    tensor->n_experts = (int32_t)info->ne[2];
    if (kind != SMOLQ__IS_MATRIX && tensor->data && (uintptr_t)tensor->data % 4) { /* a file of odd alignment: vectors are read as floats */
        uint64_t bytes = n * 4 * info->ne[1];
        uint8_t *copy = (uint8_t *)smolq__alloc(heap, bytes);
        if (!copy) return smolq__fail_memory(heap, err, "an unaligned vector");
        memcpy(copy, tensor->data, (size_t)bytes);
        tensor->data = copy;
    }
    return SMOLQ_OK;
}

static void smolq__count_bound(smolq__arch *arch, int32_t type)
{
    arch->n_bound++;
    arch->n_quantized += type != SMOLQ_TYPE_F32 && type != SMOLQ_TYPE_F16 && type != SMOLQ_TYPE_BF16;
}

/* A fused tensor, if it is there in place of its slots' own. */
static smolq_result smolq__bind_fused(smolq__arch *arch, smolq__heap *heap, const smolq_gguf *gguf, smolq__layer *layer, int32_t il, const smolq__fused_row *fused, smolq_error *err)
{
    const smolq__tensor_row *first = &smolq__tensor_rows[fused->slot[0]];
    int32_t axis = first->kind == SMOLQ__IS_MATRIX ? 1 : 0, i;
    smolq_tensor_info info;
    smolq__name name, own;
    uint64_t want[4], rows[3] = { 0, 0, 0 }, at = 0;
    smolq_result result;
    if (first->of == SMOLQ__OF_LAYER && !smolq_gguf_find_tensor(gguf, smolq__tensor_name_of(&name, il, "ffn_gate_up_exps", "bias"), &info, NULL))
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "%s: a bias of fused experts is not known to this build", name.text);
    if (!smolq_gguf_find_tensor(gguf, smolq__tensor_name_of(&own, il, first->name, fused->suffix), &info, NULL)) return SMOLQ_OK;
    if (smolq_gguf_find_tensor(gguf, smolq__tensor_name_of(&name, il, fused->name, fused->suffix), &info, NULL)) return SMOLQ_OK;
    for (i = 0; i < 3; i++) want[i] = smolq__dim(arch, layer, first->dim[i]);
    want[3] = 1;
    want[axis] = 0;
    for (i = 0; i < 3 && fused->slot[i] != SMOLQ__T_NONE; i++) want[axis] += rows[i] = smolq__dim(arch, layer, smolq__tensor_rows[fused->slot[i]].dim[axis]);
    result = smolq__check_tensor(&info, name.text, want, first->kind, err);
    for (i = 0; i < 3 && fused->slot[i] != SMOLQ__T_NONE && result == SMOLQ_OK; at += rows[i++])
        result = smolq__view(&layer->tensor[fused->slot[i]], heap, &info, first->kind, at, rows[i], err);
    if (result == SMOLQ_OK) smolq__count_bound(arch, info.type);
    return result;
}

static smolq_result smolq__bind(smolq__arch *arch, smolq__heap *heap, const smolq_gguf *gguf, smolq__layer *layer, int32_t il, int32_t slot, smolq_error *err)
{
    const smolq__tensor_row *row = &smolq__tensor_rows[slot];
    smolq_tensor_info info;
    smolq_result result;
    smolq__shape expected;
    smolq__name name;
    uint64_t want[4];
    int32_t i;
    if (smolq__present(&layer->tensor[slot])) return SMOLQ_OK; /* part of a fused one */
    smolq__tensor_name_of(&name, il, row->name, row->kind == SMOLQ__IS_BIAS ? "bias" : "weight");
    for (i = 0; i < 3; i++) want[i] = smolq__dim(arch, layer, row->dim[i]);
    want[3] = 1;
    if (smolq_gguf_find_tensor(gguf, name.text, &info, NULL)) {
        if (!smolq__needed(arch, row->when)) return SMOLQ_OK;
        return smolq__fail(err, SMOLQ_E_MISSING, "missing tensor '%s' (%s, required by %s)", name.text, smolq__shape_text(&expected, want, 4), arch->family->name);
    }
    result = smolq__check_tensor(&info, name.text, want, row->kind, err);
    if (result == SMOLQ_OK) result = smolq__view(&layer->tensor[slot], heap, &info, row->kind, 0, row->kind == SMOLQ__IS_MATRIX ? info.ne[1] : info.ne[0], err);
    if (result == SMOLQ_OK) smolq__count_bound(arch, info.type);
    return result;
}

/* Finds the family, reads its keys, binds its tensors.  With IO sources tensor data is NULL until smolq__gguf_load_tensors. */
static smolq_result smolq__arch_load(smolq__arch *arch, smolq__heap *heap, const smolq_gguf *gguf, const smolq_limits *limits, smolq_error *err)
{
    smolq__text family;
    smolq_result result;
    smolq__quoted quoted;
    size_t f;
    int32_t il, slot;
    int found = smolq__get_text(gguf, "general.architecture", &family, err);
    memset(arch, 0, sizeof *arch);
    if (found < 0) return SMOLQ_E_FORMAT;
    if (!found) return smolq__fail(err, SMOLQ_E_MISSING, "missing key 'general.architecture': the file does not say what model it is");
    for (f = 0; f < SMOLQ__COUNT(smolq__families); f++)
        if (smolq__text_is(family, smolq__families[f].name)) arch->family = &smolq__families[f];
    if (!arch->family) {
        char known[160];
        size_t used = 0;
        for (f = 0; f < SMOLQ__COUNT(smolq__families) && used < sizeof known; f++)
            used += (size_t)snprintf(known + used, sizeof known - used, f ? ", %s" : "%s", smolq__families[f].name);
        return smolq__fail(err, SMOLQ_E_UNSUPPORTED, "unknown family '%s' (general.architecture); this build knows %s", smolq__quote(&quoted, family.p, family.n), known);
    }
    arch->n_keys_used = 1;
    result = smolq__read_keys(arch, heap, gguf, limits, err);
    if (result == SMOLQ_OK) result = smolq__check_keys(arch, gguf, err);
    for (slot = 0; slot < SMOLQ__T_COUNT && result == SMOLQ_OK; slot++)
        if (smolq__tensor_rows[slot].of == SMOLQ__OF_MODEL) result = smolq__bind(arch, heap, gguf, &arch->global, -1, slot, err);
    for (il = 0; il < arch->hp.n_layer && result == SMOLQ_OK; il++) {
        for (f = 0; f < SMOLQ__COUNT(smolq__fused_rows) && result == SMOLQ_OK; f++) result = smolq__bind_fused(arch, heap, gguf, &arch->layers[il], il, &smolq__fused_rows[f], err);
        for (slot = 0; slot < SMOLQ__T_COUNT && result == SMOLQ_OK; slot++)
            if (smolq__tensor_rows[slot].of == SMOLQ__OF_LAYER) result = smolq__bind(arch, heap, gguf, &arch->layers[il], il, slot, err);
    }
    return result;
}
