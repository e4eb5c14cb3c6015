/* ==== program.c: the forward pass as a list of operations ===========================================================
 * One function below tells the whole story of a transformer, layer by layer; run once when a model opens, it writes the list that backends walk for
 * every batch, prefill and decode alike.  A new family is a row in arch.c; a new idea is a column there and a branch here. */
#pragma once
#include "rope.c"

typedef struct smolq__builder {
    const smolq__arch *arch;
    smolq_op          *ops;
    int32_t            n_ops, capacity;
    smolq_program     *program;
    int32_t            layer;     /* being written; -1 outside */
    int32_t            selected;  /* after the last layer's attention only rows that want logits go on */
} smolq__builder;

enum { SMOLQ__OPS_PER_LAYER = 32 }; /* more than the story below writes */

static smolq_op *smolq__op(smolq__builder *b, int32_t kind)
{
    smolq_op *op = &b->ops[b->n_ops++];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    op->layer = b->layer;
    op->selected = b->selected;
    op->in = op->out = SMOLQ_BUF_NONE;
    return op;
}

/* A buffer's row must hold this much. */
static void smolq__reserve_row(smolq__builder *b, int32_t buffer, uint64_t bytes)
{
    bytes = (bytes + 63) & ~(uint64_t)63;
    if (b->program->row_bytes[buffer] < bytes) b->program->row_bytes[buffer] = bytes;
}
static void smolq__reserve_floats(smolq__builder *b, int32_t buffer, int64_t n) { smolq__reserve_row(b, buffer, (uint64_t)n * 4); }

static const float *smolq__vector(const smolq_tensor *tensor) { return (const float *)(const void *)tensor->data; }

static void smolq__norm(smolq__builder *b, int32_t in, int32_t out, int32_t add, const smolq_tensor *w, int32_t n, int32_t n_seg)
{
    smolq_op *op = smolq__op(b, SMOLQ_OP_NORM);
    op->in = in;
    op->out = out;
    op->add = add;
    op->n = n;
    op->n_seg = n_seg;
    op->w = smolq__vector(w);
    op->eps = (float)b->arch->hp.eps;
    smolq__reserve_floats(b, out, (int64_t)n * n_seg);
}

/* What a product with tensors of these types reads: `in` itself, or int8 copies of it that this writes first, once for all who share a group. */
typedef struct smolq__product {
    const smolq_tensor *w, *bias;
    int32_t out;
    float   add; /* this and gate as in smolq_op_part */
    int32_t gate;
} smolq__product;

static smolq__product smolq__of(const smolq_tensor *w, const smolq_tensor *bias, int32_t out, float add)
{
    smolq__product product;
    product.w = w;
    product.bias = bias;
    product.out = out;
    product.add = add;
    product.gate = SMOLQ_GATE_NONE;
    return product;
}

static void smolq__multiply(smolq__builder *b, int32_t kind, int32_t in, int32_t n_seg, const smolq__product *products, int32_t n)
{
    static const int32_t quantized[] = { SMOLQ_BUF_A256, SMOLQ_BUF_A32 }, groups[] = { 256, 32 };
    int32_t n_cols = products[0].w->n_cols, g, i;
    smolq_op *op;
    for (g = 0; g < 2; g++)
        for (i = 0; i < n; i++)
            if (smolq__type_of(products[i].w->type)->facts.group == groups[g]) {
                op = smolq__op(b, SMOLQ_OP_QUANTIZE);
                op->in = in;
                op->out = quantized[g];
                op->n = n_cols;
                op->n_seg = n_seg;
                op->group = groups[g];
                smolq__reserve_row(b, quantized[g], smolq_a8_bytes(n_cols, groups[g]) * (uint64_t)n_seg);
                break;
            }
    op = smolq__op(b, kind);
    op->n_parts = n;
    op->n_seg = n_seg;
    for (i = 0; i < n; i++) {
        int32_t group = smolq__type_of(products[i].w->type)->facts.group;
        op->part[i].w = products[i].w;
        op->part[i].bias = products[i].bias && smolq__present(products[i].bias) ? smolq__vector(products[i].bias) : NULL;
        op->part[i].in = group == 256 ? SMOLQ_BUF_A256 : group == 32 ? SMOLQ_BUF_A32 : in;
        op->part[i].out = products[i].out;
        op->part[i].add = products[i].add;
        op->part[i].gate = products[i].gate;
        if (products[i].out != SMOLQ_BUF_LOGITS)
            smolq__reserve_floats(b, products[i].out, (int64_t)products[i].w->n_rows * (kind == SMOLQ_OP_MATMUL_EXPERTS ? b->arch->hp.n_expert_used : 1));
    }
}

static void smolq__rotate(smolq__builder *b, int32_t buffer, int32_t n_head, int32_t angles)
{
    smolq_op *op = smolq__op(b, SMOLQ_OP_ROPE);
    op->in = op->out = buffer;
    op->n = b->arch->hp.head_dim;
    op->n_seg = n_head;
    op->n_rot = b->arch->hp.n_rot;
    op->rope = b->arch->family->rope;
    op->angles = angles;
}

static smolq_op *smolq__step(smolq__builder *b, int32_t kind, int32_t in, int32_t out)
{
    smolq_op *op = smolq__op(b, kind);
    op->in = in;
    op->out = out;
    return op;
}

static float smolq__root(double x) { return (float)smolq__exp64(0.5 * smolq__log64(x)); }

static float smolq__attention_scale(const smolq__arch *arch)
{
    const smolq__hparams *hp = &arch->hp;
    if (hp->attn_scale > 0) return (float)hp->attn_scale;
    return (float)smolq__exp64(-0.5 * smolq__log64(hp->n_layer == arch->family->odd ? (double)(hp->n_embd / arch->layers[0].n_head) : (double)hp->head_dim));
}

/* What every branch of a layer adds to the residual stream is scaled by this. */
static float smolq__branch_scale(const smolq__builder *b) { return b->arch->hp.residual_scale > 0 ? (float)b->arch->hp.residual_scale : 1.0f; }

/* The product that ends a branch: into the residual stream, or by way of a norm of its own. */
static void smolq__close_branch(smolq__builder *b, int32_t in, const smolq_tensor *w, const smolq_tensor *bias, const smolq_tensor *post_norm, int post)
{
    smolq__product product = smolq__of(w, bias, post ? SMOLQ_BUF_NORMED : SMOLQ_BUF_RESIDUAL, post ? 0 : smolq__branch_scale(b));
    smolq__multiply(b, SMOLQ_OP_MATMUL, in, 1, &product, 1);
    if (post) smolq__norm(b, SMOLQ_BUF_NORMED, SMOLQ_BUF_RESIDUAL, 1, post_norm, b->arch->hp.n_embd, 1);
}

/* The input of a branch: the residual stream, normed first or not. */
static int32_t smolq__open_branch(smolq__builder *b, const smolq_tensor *norm)
{
    if (!norm) return SMOLQ_BUF_RESIDUAL;
    smolq__norm(b, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED, 0, norm, b->arch->hp.n_embd, 1);
    return SMOLQ_BUF_NORMED;
}

static int smolq__posts(const smolq__family *family) { return family->norms == SMOLQ__NORMS_POST || family->norms == SMOLQ__NORMS_BOTH; }

static void smolq__attention(smolq__builder *b, const smolq__layer *layer)
{
    const smolq__hparams *hp = &b->arch->hp;
    const smolq__family *family = b->arch->family;
    const smolq_tensor *t = layer->tensor;
    int rotated = !hp->no_rope && (family->nope == 0 || (b->layer + 1) % family->nope != 0);
    int32_t whole = family->qk == SMOLQ__QK_WHOLE, in = smolq__open_branch(b, family->norms == SMOLQ__NORMS_POST ? NULL : &t[SMOLQ__T_ATTN_NORM]);
    smolq__product qkv[3];
    smolq_op *op;

    qkv[0] = smolq__of(&t[SMOLQ__T_ATTN_Q], &t[SMOLQ__T_ATTN_Q_BIAS], SMOLQ_BUF_Q, 0);
    qkv[1] = smolq__of(&t[SMOLQ__T_ATTN_K], &t[SMOLQ__T_ATTN_K_BIAS], SMOLQ_BUF_K, 0);
    qkv[2] = smolq__of(&t[SMOLQ__T_ATTN_V], &t[SMOLQ__T_ATTN_V_BIAS], SMOLQ_BUF_V, 0);
    smolq__multiply(b, SMOLQ_OP_MATMUL, in, 1, qkv, 3);
    if (family->qk != SMOLQ__QK_NONE) {
        smolq__norm(b, SMOLQ_BUF_Q, SMOLQ_BUF_Q, 0, &t[SMOLQ__T_ATTN_Q_NORM], whole ? layer->n_head * hp->head_dim : hp->head_dim, whole ? 1 : layer->n_head);
        smolq__norm(b, SMOLQ_BUF_K, SMOLQ_BUF_K, 0, &t[SMOLQ__T_ATTN_K_NORM], whole ? layer->n_head_kv * hp->head_dim : hp->head_dim, whole ? 1 : layer->n_head_kv);
    }
    if (rotated) {
        int32_t angles = layer->window ? SMOLQ_BUF_ROPE_LOCAL : SMOLQ_BUF_ROPE;
        smolq__rotate(b, SMOLQ_BUF_Q, layer->n_head, angles);
        smolq__rotate(b, SMOLQ_BUF_K, layer->n_head_kv, angles);
        smolq__reserve_floats(b, angles, hp->n_rot);
    }
    op = smolq__step(b, SMOLQ_OP_KV_STORE, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
    op->n = hp->head_dim;
    op->n_head_kv = layer->n_head_kv;
    op = smolq__step(b, SMOLQ_OP_ATTENTION, SMOLQ_BUF_Q, SMOLQ_BUF_ATT);
    op->n = hp->head_dim;
    op->n_head = layer->n_head;
    op->n_head_kv = layer->n_head_kv;
    op->scale = smolq__attention_scale(b->arch);
    op->cap = (float)hp->attn_cap;
    op->window = layer->window;
    op->w = smolq__vector(&t[SMOLQ__T_ATTN_SINKS]);
    op->heated = hp->temperature > 0;
    if (op->heated) smolq__reserve_floats(b, SMOLQ_BUF_HEAT, 1);
    smolq__reserve_floats(b, SMOLQ_BUF_ATT, (int64_t)layer->n_head * hp->head_dim);

    if (b->layer == hp->n_layer - 1) {
        smolq__step(b, SMOLQ_OP_GATHER, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_RESIDUAL)->n = hp->n_embd;
        smolq__step(b, SMOLQ_OP_GATHER, SMOLQ_BUF_ATT, SMOLQ_BUF_ATT)->n = layer->n_head * hp->head_dim;
        b->selected = 1;
    }
    smolq__close_branch(b, SMOLQ_BUF_ATT, &t[SMOLQ__T_ATTN_OUTPUT], &t[SMOLQ__T_ATTN_OUT_BIAS], &t[SMOLQ__T_ATTN_POST_NORM],
                        smolq__posts(family));
}

static void smolq__feed_forward(smolq__builder *b, const smolq__layer *layer, int32_t in)
{
    const smolq_tensor *t = layer->tensor;
    smolq__product gate_up[2];
    gate_up[0] = smolq__of(&t[SMOLQ__T_FFN_GATE], &t[SMOLQ__T_FFN_GATE_BIAS], SMOLQ_BUF_GATE, 0);
    gate_up[1] = smolq__of(&t[SMOLQ__T_FFN_UP], &t[SMOLQ__T_FFN_UP_BIAS], SMOLQ_BUF_GATE, 0);
    gate_up[1].gate = b->arch->family->gate;
    smolq__multiply(b, SMOLQ_OP_MATMUL, in, 1, gate_up, 2);
    smolq__close_branch(b, SMOLQ_BUF_GATE, &t[SMOLQ__T_FFN_DOWN], &t[SMOLQ__T_FFN_DOWN_BIAS], &t[SMOLQ__T_FFN_POST_NORM], smolq__posts(b->arch->family));
}

/* A shared expert: a feed-forward of its own, weighted by the sigmoid of one logit. */
static void smolq__shared_expert(smolq__builder *b, const smolq__layer *layer, int32_t in)
{
    const smolq_tensor *t = layer->tensor;
    smolq__product product, first[3];
    smolq_op *op;
    first[0] = smolq__of(&t[SMOLQ__T_SHARED_ROUTER], NULL, SMOLQ_BUF_SHARED, 0);
    first[1] = smolq__of(&t[SMOLQ__T_SHARED_GATE], NULL, SMOLQ_BUF_GATE, 0);
    first[2] = smolq__of(&t[SMOLQ__T_SHARED_UP], NULL, SMOLQ_BUF_GATE, 0);
    first[2].gate = b->arch->family->gate;
    smolq__multiply(b, SMOLQ_OP_MATMUL, in, 1, first, 3);
    product = smolq__of(&t[SMOLQ__T_SHARED_DOWN], NULL, SMOLQ_BUF_DOWN, 0);
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_GATE, 1, &product, 1);
    op = smolq__step(b, SMOLQ_OP_ADD_SHARED, SMOLQ_BUF_DOWN, SMOLQ_BUF_RESIDUAL);
    op->n = b->arch->hp.n_embd;
    op->scale = smolq__branch_scale(b);
}

static void smolq__experts(smolq__builder *b, const smolq__layer *layer, int32_t in)
{
    const smolq__hparams *hp = &b->arch->hp;
    const smolq__family *family = b->arch->family;
    const smolq_tensor *t = layer->tensor;
    smolq__product product, gate_up[2];
    smolq_op *op;
    product = smolq__of(&t[SMOLQ__T_ROUTER], &t[SMOLQ__T_ROUTER_BIAS], SMOLQ_BUF_ROUTER, 0);
    smolq__multiply(b, SMOLQ_OP_MATMUL, in, 1, &product, 1);
    op = smolq__step(b, SMOLQ_OP_ROUTE, SMOLQ_BUF_ROUTER, SMOLQ_BUF_PICKS);
    op->router = family->router;
    op->renormalize = family->norm;
    op->scale = hp->expert_scale > 0 ? (float)hp->expert_scale : 1.0f;
    smolq__reserve_row(b, SMOLQ_BUF_PICKS, (uint64_t)hp->n_expert_used * 8);
    gate_up[0] = smolq__of(&t[SMOLQ__T_GATE_EXPERTS], &t[SMOLQ__T_GATE_EXPERTS_BIAS], SMOLQ_BUF_GATE, 0);
    gate_up[1] = smolq__of(&t[SMOLQ__T_UP_EXPERTS], &t[SMOLQ__T_UP_EXPERTS_BIAS], SMOLQ_BUF_UP, 0);
    smolq__multiply(b, SMOLQ_OP_MATMUL_EXPERTS, in, 1, gate_up, 2);
    op = smolq__step(b, SMOLQ_OP_GLU, SMOLQ_BUF_UP, SMOLQ_BUF_GATE);
    op->n = hp->n_ff_expert * hp->n_expert_used;
    op->gate = family->gate;
    product = smolq__of(&t[SMOLQ__T_DOWN_EXPERTS], &t[SMOLQ__T_DOWN_EXPERTS_BIAS], SMOLQ_BUF_DOWN, 0);
    smolq__multiply(b, SMOLQ_OP_MATMUL_EXPERTS, SMOLQ_BUF_GATE, hp->n_expert_used, &product, 1);
    op = smolq__step(b, SMOLQ_OP_COMBINE, SMOLQ_BUF_DOWN, SMOLQ_BUF_RESIDUAL);
    op->n = hp->n_embd;
    op->scale = smolq__branch_scale(b);
    if (family->share) smolq__shared_expert(b, layer, in);
}

/* The norm before the feed-forward, if there is one. */
static const smolq_tensor *smolq__ffn_norm(const smolq__family *family, const smolq__layer *layer)
{
    if (family->norms == SMOLQ__NORMS_POST) return NULL;
    return &layer->tensor[family->norms == SMOLQ__NORMS_LATE ? SMOLQ__T_ATTN_POST_NORM : SMOLQ__T_FFN_NORM];
}

/* The story: embed, then in every layer attend and feed forward, both added to the residual stream, then norm and multiply by the output matrix. */
static void smolq__write_program(smolq__builder *b)
{
    const smolq__arch *arch = b->arch;
    const smolq__hparams *hp = &arch->hp;
    const smolq_tensor *global = arch->global.tensor;
    smolq__product logits;
    smolq_op *op;

    b->layer = -1;
    op = smolq__step(b, SMOLQ_OP_EMBED, SMOLQ_BUF_NONE, SMOLQ_BUF_RESIDUAL);
    op->table = &global[SMOLQ__T_TOKEN_EMBD];
    op->scale = arch->family->root ? smolq__root(hp->n_embd) : hp->embedding_scale > 0 ? (float)hp->embedding_scale : 1.0f;
    smolq__reserve_floats(b, SMOLQ_BUF_RESIDUAL, hp->n_embd);
    for (b->layer = 0; b->layer < hp->n_layer; b->layer++) {
        const smolq__layer *layer = &arch->layers[b->layer];
        int32_t in;
        smolq__attention(b, layer);
        in = smolq__open_branch(b, smolq__ffn_norm(arch->family, layer));
        if (smolq__has_experts(arch)) smolq__experts(b, layer, in);
        else smolq__feed_forward(b, layer, in);
    }
    b->layer = -1;
    smolq__norm(b, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED, 0, &global[SMOLQ__T_OUTPUT_NORM], hp->n_embd, 1);
    logits = smolq__of(&global[smolq__present(&global[SMOLQ__T_OUTPUT]) ? SMOLQ__T_OUTPUT : SMOLQ__T_TOKEN_EMBD], NULL, SMOLQ_BUF_LOGITS, 0);
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NORMED, 1, &logits, 1);
    if (hp->logit_cap > 0 || hp->logit_scale > 0) {
        op = smolq__step(b, SMOLQ_OP_CAP, SMOLQ_BUF_LOGITS, SMOLQ_BUF_LOGITS);
        op->n = hp->n_vocab;
        op->scale = hp->logit_scale > 0 ? (float)(1 / hp->logit_scale) : 1.0f;
        op->cap = (float)hp->logit_cap;
    }
}

/* The list of a checked model, on the heap; 0 when memory is out. */
static int smolq__program_open(smolq_program *program, smolq__heap *heap, const smolq__arch *arch)
{
    smolq__builder builder;
    memset(&builder, 0, sizeof builder);
    memset(program, 0, sizeof *program);
    builder.arch = arch;
    builder.program = program;
    builder.capacity = (arch->hp.n_layer + 1) * SMOLQ__OPS_PER_LAYER;
    builder.ops = (smolq_op *)smolq__alloc(heap, (uint64_t)builder.capacity * sizeof *builder.ops);
    if (!builder.ops) return 0;
    program->n_layer = arch->hp.n_layer;
    program->n_embd = arch->hp.n_embd;
    program->head_dim = arch->hp.head_dim;
    program->n_rot = arch->hp.n_rot;
    program->n_vocab = arch->hp.n_vocab;
    program->n_expert = arch->hp.n_expert;
    program->n_expert_used = arch->hp.n_expert_used;
    smolq__write_program(&builder);
    program->ops = builder.ops;
    program->n_ops = builder.n_ops;
    return 1;
}
