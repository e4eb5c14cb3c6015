/* Mixes: which type each tensor of a model gets under a name such as Q4_K_M.  The names, their numbers in general.file_type and the choices are
 * those of the common tools (facts: llama.cpp, llama-quant.cpp, MIT), so that files of a name are alike wherever they were made. */
#ifndef SMOLQ_EXAMPLES_MIXES_H
#define SMOLQ_EXAMPLES_MIXES_H

typedef struct mix { const char *name; int32_t type, file_type; } mix;

/* A type alone is a mix too: most tensors have it, and the output what its quality asks for. */
static const mix mixes[] = {
    { "F32",    SMOLQ_TYPE_F32,    0 },  { "F16",    SMOLQ_TYPE_F16,    1 },  { "BF16",   SMOLQ_TYPE_BF16,  32 },
    { "Q4_0",   SMOLQ_TYPE_Q4_0,   2 },  { "Q4_1",   SMOLQ_TYPE_Q4_1,   3 },  { "Q5_0",   SMOLQ_TYPE_Q5_0,   8 },
    { "Q5_1",   SMOLQ_TYPE_Q5_1,   9 },  { "Q8_0",   SMOLQ_TYPE_Q8_0,   7 },
    { "Q2_K",   SMOLQ_TYPE_Q2_K,  10 },  { "Q2_K_S", SMOLQ_TYPE_Q2_K,  21 },
    { "Q3_K_S", SMOLQ_TYPE_Q3_K,  11 },  { "Q3_K_M", SMOLQ_TYPE_Q3_K,  12 },  { "Q3_K_L", SMOLQ_TYPE_Q3_K,  13 },
    { "Q4_K_S", SMOLQ_TYPE_Q4_K,  14 },  { "Q4_K_M", SMOLQ_TYPE_Q4_K,  15 },
    { "Q5_K_S", SMOLQ_TYPE_Q5_K,  16 },  { "Q5_K_M", SMOLQ_TYPE_Q5_K,  17 },  { "Q6_K",   SMOLQ_TYPE_Q6_K,  18 },
    { "Q3_K",   SMOLQ_TYPE_Q3_K,  12 },  { "Q4_K",   SMOLQ_TYPE_Q4_K,  15 },  { "Q5_K",   SMOLQ_TYPE_Q5_K,  17 }, /* the M ones, as elsewhere */
    { "IQ4_NL", SMOLQ_TYPE_IQ4_NL, 25 }, { "IQ4_XS", SMOLQ_TYPE_IQ4_XS, 30 },
    { "TQ1_0",  SMOLQ_TYPE_TQ1_0, 36 },  { "TQ2_0",  SMOLQ_TYPE_TQ2_0, 37 },
    { "IQ1_S",  SMOLQ_TYPE_IQ1_S,   24 }, { "IQ1_M",  SMOLQ_TYPE_IQ1_M,   31 }, { "IQ2_XXS", SMOLQ_TYPE_IQ2_XXS, 19 },
    { "IQ2_XS", SMOLQ_TYPE_IQ2_XS,  20 }, { "IQ2_S",  SMOLQ_TYPE_IQ2_XS,  28 }, { "IQ2_M",   SMOLQ_TYPE_IQ2_S,   29 }, /* of IQ2_S most is IQ2_XS: as elsewhere */
    { "IQ3_XXS", SMOLQ_TYPE_IQ3_XXS, 23 }, { "IQ3_XS", SMOLQ_TYPE_IQ3_S,  22 }, { "IQ3_S",   SMOLQ_TYPE_IQ3_S,   26 },
    { "IQ3_M",  SMOLQ_TYPE_IQ3_S,   27 },
    { "MXFP4",  SMOLQ_TYPE_MXFP4, 38 },  { "MXFP4_MOE", SMOLQ_TYPE_MXFP4, 38 },
};

/* What is true of a tensor and its model. */
enum {
    ALWAYS     = 0,
    FIRST_2    = 1,   /* it is of one of the first layers: 2, 4, an eighth or a sixteenth of them */
    FIRST_4    = 2,
    FIRST_8TH  = 4,
    FIRST_16TH = 8,
    MORE_BITS  = 16,  /* of the first or the last eighth, or of every third between */
    SHARED_V   = 32,  /* four or more heads share a head of keys and values */
    EXPERTS_8  = 64,
    IMPORTANCE = 128,
    NO_IMPORTANCE = 256,
    LAYERS_80  = 512,
    ONE_EXPERT = 1024, /* not EXPERTS_8 */
    EXPERTS_3D = 2048, /* the tensor holds the matrices of experts */
    EXPERTS_4  = 4096, /* four or more */
    MIDDLE     = 8192  /* of no layer of the first or last eighth */
};

/* File types as a set. */
#define FILE_TYPE(n) ((uint64_t)1 << (n))
#define ANY_FILE ((uint64_t)-1)
#define LOW_1 (FILE_TYPE(19) | FILE_TYPE(20) | FILE_TYPE(24) | FILE_TYPE(31)) /* IQ2_XXS, IQ2_XS, IQ1_S, IQ1_M */
#define LOW_2 (FILE_TYPE(28) | FILE_TYPE(29))                                 /* IQ2_S, IQ2_M */
#define LOW_3 (FILE_TYPE(22) | FILE_TYPE(23) | FILE_TYPE(26) | FILE_TYPE(27)) /* IQ3_XS, IQ3_XXS, IQ3_S, IQ3_M */

/* The first rule that fits decides.  A type of -1 fits all. */
static const struct mix_rule { uint64_t files; int32_t of_type; const char *name; int when; int32_t type; } mix_rules[] = {
    { FILE_TYPE(38),                 -1,                "",            EXPERTS_3D,               SMOLQ_TYPE_MXFP4 },
    { FILE_TYPE(38),                 -1,                "",            ALWAYS,                   SMOLQ_TYPE_Q8_0 },

    { LOW_1 | LOW_2,                 -1,                "attn_v.",     SHARED_V,                 SMOLQ_TYPE_Q4_K },
    { LOW_1 | LOW_2,                 -1,                "attn_v.",     EXPERTS_4,                SMOLQ_TYPE_Q4_K },
    { LOW_1,                         -1,                "attn_v.",     ALWAYS,                   SMOLQ_TYPE_Q2_K },
    { LOW_2,                         -1,                "attn_v.",     ALWAYS,                   SMOLQ_TYPE_IQ3_S },
    { LOW_1 | LOW_2,                 -1,                "attn_k.",     EXPERTS_8,                SMOLQ_TYPE_Q4_K },
    { LOW_1,                         -1,                "ffn_down",    FIRST_8TH,                SMOLQ_TYPE_Q2_K },
    { LOW_2,                         -1,                "ffn_down",    FIRST_8TH,                SMOLQ_TYPE_IQ3_S },
    { LOW_1 | LOW_2,                 -1,                "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(24) | FILE_TYPE(31), -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_IQ2_XXS },
    { LOW_2,                         -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_IQ3_S },

    { ANY_FILE,                      -1,                "attn_v.",     EXPERTS_8,                SMOLQ_TYPE_Q8_0 },
    { ANY_FILE,                      -1,                "attn_k.",     EXPERTS_8,                SMOLQ_TYPE_Q8_0 },
    { LOW_3,                         -1,                "attn_v.",     SHARED_V | LAYERS_80,     SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(27),                 -1,                "attn_v.",     LAYERS_80,                SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(27),                 -1,                "attn_v.",     ALWAYS,                   SMOLQ_TYPE_Q4_K },
    { LOW_3,                         -1,                "attn_v.",     SHARED_V,                 SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(23),                 -1,                "attn_v.",     NO_IMPORTANCE,            SMOLQ_TYPE_IQ3_S },
    { FILE_TYPE(22),                 -1,                "attn_k.",     ALWAYS,                   SMOLQ_TYPE_IQ3_XXS },
    { FILE_TYPE(22),                 -1,                "attn_q.",     ALWAYS,                   SMOLQ_TYPE_IQ3_XXS },
    { FILE_TYPE(23),                 -1,                "attn_k.",     ALWAYS,                   SMOLQ_TYPE_IQ2_S },
    { FILE_TYPE(23),                 -1,                "attn_q.",     ALWAYS,                   SMOLQ_TYPE_IQ2_S },
    { ANY_FILE,                      SMOLQ_TYPE_Q2_K,   "attn_v.",     SHARED_V | LAYERS_80,     SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_Q2_K,   "attn_v.",     SHARED_V,                 SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(10),                 -1,                "attn_v.",     ALWAYS,                   SMOLQ_TYPE_Q3_K },
    { FILE_TYPE(12),                 -1,                "attn_v.",     FIRST_2,                  SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(12),                 -1,                "attn_v.",     LAYERS_80,                SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(12),                 -1,                "attn_v.",     ALWAYS,                   SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(13),                 -1,                "attn_v.",     ALWAYS,                   SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_IQ4_NL, "attn_v.",     SHARED_V,                 SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_IQ4_XS, "attn_v.",     SHARED_V,                 SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(15),                 -1,                "attn_v.",     MORE_BITS,                SMOLQ_TYPE_Q6_K },
    { FILE_TYPE(17),                 -1,                "attn_v.",     MORE_BITS,                SMOLQ_TYPE_Q6_K },
    { FILE_TYPE(14),                 -1,                "attn_v.",     FIRST_4,                  SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_Q3_K,   "attn_v.",     LAYERS_80,                SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_Q4_K,   "attn_v.",     LAYERS_80,                SMOLQ_TYPE_Q5_K },

    { FILE_TYPE(23),                 -1,                "ffn_down",    FIRST_8TH | NO_IMPORTANCE, SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(23),                 -1,                "ffn_down",    NO_IMPORTANCE,            SMOLQ_TYPE_Q3_K },
    { FILE_TYPE(27),                 -1,                "ffn_down",    FIRST_8TH,                SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(27),                 -1,                "ffn_down",    EXPERTS_8 | MORE_BITS,    SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(22),                 -1,                "ffn_gate",    MIDDLE,                   SMOLQ_TYPE_IQ3_XXS },
    { FILE_TYPE(22),                 -1,                "ffn_up",      MIDDLE,                   SMOLQ_TYPE_IQ3_XXS },
    { FILE_TYPE(10),                 -1,                "ffn_down",    ALWAYS,                   SMOLQ_TYPE_Q3_K },
    { FILE_TYPE(21),                 -1,                "ffn_down",    FIRST_8TH,                SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(12),                 -1,                "ffn_down",    FIRST_16TH,               SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(12),                 -1,                "ffn_down",    ALWAYS,                   SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(13),                 -1,                "ffn_down",    ALWAYS,                   SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(15),                 -1,                "ffn_down",    MORE_BITS,                SMOLQ_TYPE_Q6_K },
    { FILE_TYPE(17),                 -1,                "ffn_down",    MORE_BITS,                SMOLQ_TYPE_Q6_K },
    { FILE_TYPE(14),                 -1,                "ffn_down",    FIRST_8TH,                SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_IQ4_NL, "ffn_down",    FIRST_8TH | NO_IMPORTANCE, SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_IQ4_XS, "ffn_down",    FIRST_8TH | NO_IMPORTANCE, SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_Q4_0,   "ffn_down",    FIRST_8TH | IMPORTANCE,   SMOLQ_TYPE_Q4_1 },
    { ANY_FILE,                      SMOLQ_TYPE_Q5_0,   "ffn_down",    FIRST_8TH | IMPORTANCE,   SMOLQ_TYPE_Q5_1 },

    { FILE_TYPE(10),                 -1,                "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(11),                 -1,                "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(12),                 -1,                "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_Q4_K,   "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_IQ4_NL, "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { ANY_FILE,                      SMOLQ_TYPE_IQ4_XS, "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { LOW_3,                         -1,                "attn_output.", EXPERTS_8,                SMOLQ_TYPE_Q5_K },
    { FILE_TYPE(23),                 -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_IQ3_S },
    { FILE_TYPE(27),                 -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(10),                 -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_Q3_K },
    { FILE_TYPE(12),                 -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_Q4_K },
    { FILE_TYPE(13),                 -1,                "attn_output.", ONE_EXPERT,               SMOLQ_TYPE_Q5_K },
};

/* What stays as it is: norms and vectors by their shape, these by their names. */
static const char *const never_quantized[] = {
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj", "position_embd", "token_types.weight", "ssm_conv1d",
    "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight",
    "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight", "sam.pos_embd", "sam.neck.",
    "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
};

/* Rows that the blocks of a type do not divide get another. */
static const struct { int32_t type, instead; } fallbacks[] = {
    { SMOLQ_TYPE_IQ1_S, SMOLQ_TYPE_IQ4_NL },   { SMOLQ_TYPE_IQ1_M, SMOLQ_TYPE_IQ4_NL },   { SMOLQ_TYPE_IQ2_XXS, SMOLQ_TYPE_IQ4_NL },
    { SMOLQ_TYPE_IQ2_XS, SMOLQ_TYPE_IQ4_NL },  { SMOLQ_TYPE_IQ2_S, SMOLQ_TYPE_IQ4_NL },   { SMOLQ_TYPE_IQ3_XXS, SMOLQ_TYPE_IQ4_NL },
    { SMOLQ_TYPE_IQ3_S, SMOLQ_TYPE_IQ4_NL },
    { SMOLQ_TYPE_IQ4_XS, SMOLQ_TYPE_IQ4_NL }, { SMOLQ_TYPE_Q2_K, SMOLQ_TYPE_Q4_0 },  { SMOLQ_TYPE_Q3_K, SMOLQ_TYPE_Q4_0 },
    { SMOLQ_TYPE_TQ1_0, SMOLQ_TYPE_Q4_0 },    { SMOLQ_TYPE_TQ2_0, SMOLQ_TYPE_Q4_0 }, { SMOLQ_TYPE_Q4_K, SMOLQ_TYPE_Q5_0 },
    { SMOLQ_TYPE_Q5_K, SMOLQ_TYPE_Q5_1 },     { SMOLQ_TYPE_Q6_K, SMOLQ_TYPE_Q8_0 },
};

typedef struct mix_model { /* what the choices depend on, of the whole model */
    int32_t n_layer, n_head, n_head_kv, n_expert, n_values; /* n_values: layers that have an attn_v, attn_qkv or attn_kv_b */
    int     is_tied, has_importance;
} mix_model;

static inline int fits(const smolq_tensor_info *t, int32_t type)
{
    return t->ne[0] % (uint64_t)smolq_type_info(type)->block_weights == 0;
}

static inline int32_t fallback(const smolq_tensor_info *t, int32_t type)
{
    size_t i;
    if (fits(t, type)) return type;
    for (i = 0; i < sizeof fallbacks / sizeof *fallbacks; i++)
        if (fallbacks[i].type == type && fits(t, fallbacks[i].instead)) return fallbacks[i].instead;
    return SMOLQ_TYPE_F16;
}

/* The type of a tensor, if it is to be quantized at all.  layer: the tensor's among those of its kind, counted from 0. */
static inline int32_t mix_choice(const mix *m, const mix_model *model, const smolq_tensor_info *t, const char *name, int32_t layer)
{
    int is_values = strstr(name, "attn_v.weight") || strstr(name, "attn_qkv.weight") || strstr(name, "attn_kv_b.weight");
    int32_t n = is_values ? model->n_values : model->n_layer;
    int truth = (layer < 2 ? FIRST_2 : 0) | (layer < 4 ? FIRST_4 : 0) | (layer < n / 8 ? FIRST_8TH : 0) | (layer < n / 16 ? FIRST_16TH : 0)
              | (layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2 ? MORE_BITS : 0)
              | (model->n_head_kv > 0 && model->n_head / model->n_head_kv >= 4 ? SHARED_V : 0) | (model->n_expert == 8 ? EXPERTS_8 : ONE_EXPERT)
              | (model->n_expert >= 4 ? EXPERTS_4 : 0) | (layer >= n / 8 && layer < 7 * n / 8 ? MIDDLE : 0)
              | (model->has_importance ? IMPORTANCE : NO_IMPORTANCE) | (model->n_layer == 80 ? LAYERS_80 : 0) | (t->n_dims > 2 && t->ne[2] > 1 ? EXPERTS_3D : 0);
    uint64_t file = FILE_TYPE(m->file_type);
    size_t i;
    if (smolq_type_info(m->type)->block_weights == 1) return m->type;
    if (strcmp(name, "output.weight") == 0 || (model->is_tied && strcmp(name, "token_embd.weight") == 0)) {
        if (m->file_type == 38 || m->type == SMOLQ_TYPE_Q8_0 || !fits(t, m->type)) return SMOLQ_TYPE_Q8_0;
        return fallback(t, file & (LOW_1 | LOW_2 | FILE_TYPE(23)) ? SMOLQ_TYPE_Q5_K : SMOLQ_TYPE_Q6_K);
    }
    if (strcmp(name, "token_embd.weight") == 0 && m->file_type != 38) {
        if (file & LOW_1) return fallback(t, SMOLQ_TYPE_Q2_K);
        if (file & (LOW_2 | FILE_TYPE(23))) return fallback(t, SMOLQ_TYPE_IQ3_S);
        return fallback(t, m->type == SMOLQ_TYPE_TQ1_0 || m->type == SMOLQ_TYPE_TQ2_0 ? SMOLQ_TYPE_Q4_K : m->type);
    }
    for (i = 0; i < sizeof mix_rules / sizeof *mix_rules; i++) {
        const struct mix_rule *r = &mix_rules[i];
        int named = strcmp(r->name, "attn_v.") == 0 ? is_values : strstr(name, r->name) != NULL;
        if ((r->files & file) && (r->of_type < 0 || r->of_type == m->type) && named && (truth & r->when) == r->when) return fallback(t, r->type);
    }
    return fallback(t, m->type);
}

#endif
