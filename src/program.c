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

enum { SMOLQ__OPS_PER_LAYER = 24 }; /* more than the story below writes */

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

static void smolq__norm(smolq__builder *b, int32_t in, int32_t out, const smolq_tensor *w, int32_t n, int32_t n_seg)
{
    smolq_op *op = smolq__op(b, SMOLQ_OP_NORM);
    op->in = in;
    op->out = out;
    op->n = n;
    op->n_seg = n_seg;
    op->w = smolq__vector(w);
    op->eps = (float)b->arch->hp.eps;
    smolq__reserve_floats(b, out, (int64_t)n * n_seg);
}

/* What a product with tensors of these types reads: `in` itself, or int8 copies of it that this writes first, once for all who share a group. */
typedef struct smolq__product { const smolq_tensor *w; const smolq_tensor *bias; int32_t out, add; } smolq__product;

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
        if (products[i].out != SMOLQ_BUF_LOGITS)
            smolq__reserve_floats(b, products[i].out, (int64_t)products[i].w->n_rows * (kind == SMOLQ_OP_MATMUL_EXPERTS ? b->arch->hp.n_expert_used : 1));
    }
}

static void smolq__rotate(smolq__builder *b, int32_t buffer, int32_t n_head)
{
    smolq_op *op = smolq__op(b, SMOLQ_OP_ROPE);
    op->in = op->out = buffer;
    op->n = b->arch->hp.head_dim;
    op->n_seg = n_head;
    op->n_rot = b->arch->hp.n_rot;
    op->rope = b->arch->family->rope;
}

static smolq_op *smolq__step(smolq__builder *b, int32_t kind, int32_t in, int32_t out)
{
    smolq_op *op = smolq__op(b, kind);
    op->in = in;
    op->out = out;
    return op;
}

static void smolq__attention(smolq__builder *b, const smolq__layer *layer)
{
    const smolq__hparams *hp = &b->arch->hp;
    const smolq__family *family = b->arch->family;
    const smolq_tensor *t = layer->tensor;
    int rotated = family->nope == 0 || (b->layer + 1) % family->nope != 0;
    smolq__product qkv[3], output[1];
    smolq_op *op;

    smolq__norm(b, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED, &t[SMOLQ__T_ATTN_NORM], hp->n_embd, 1);
    qkv[0].w = &t[SMOLQ__T_ATTN_Q]; qkv[0].bias = &t[SMOLQ__T_ATTN_Q_BIAS]; qkv[0].out = SMOLQ_BUF_Q; qkv[0].add = 0;
    qkv[1].w = &t[SMOLQ__T_ATTN_K]; qkv[1].bias = &t[SMOLQ__T_ATTN_K_BIAS]; qkv[1].out = SMOLQ_BUF_K; qkv[1].add = 0;
    qkv[2].w = &t[SMOLQ__T_ATTN_V]; qkv[2].bias = &t[SMOLQ__T_ATTN_V_BIAS]; qkv[2].out = SMOLQ_BUF_V; qkv[2].add = 0;
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NORMED, 1, qkv, 3);
    if (family->qk_norm) {
        smolq__norm(b, SMOLQ_BUF_Q, SMOLQ_BUF_Q, &t[SMOLQ__T_ATTN_Q_NORM], hp->head_dim, layer->n_head);
        smolq__norm(b, SMOLQ_BUF_K, SMOLQ_BUF_K, &t[SMOLQ__T_ATTN_K_NORM], hp->head_dim, layer->n_head_kv);
    }
    if (rotated) {
        smolq__rotate(b, SMOLQ_BUF_Q, layer->n_head);
        smolq__rotate(b, SMOLQ_BUF_K, layer->n_head_kv);
    }
    op = smolq__step(b, SMOLQ_OP_KV_STORE, SMOLQ_BUF_NONE, SMOLQ_BUF_NONE);
    op->n = hp->head_dim;
    op->n_head_kv = layer->n_head_kv;
    op = smolq__step(b, SMOLQ_OP_ATTENTION, SMOLQ_BUF_Q, SMOLQ_BUF_ATT);
    op->n = hp->head_dim;
    op->n_head = layer->n_head;
    op->n_head_kv = layer->n_head_kv;
    op->scale = hp->attn_scale > 0 ? (float)hp->attn_scale : (float)smolq__exp64(-0.5 * smolq__log64((double)hp->head_dim));
    smolq__reserve_floats(b, SMOLQ_BUF_ATT, (int64_t)layer->n_head * hp->head_dim);

    if (b->layer == hp->n_layer - 1) {
        smolq__step(b, SMOLQ_OP_GATHER, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_RESIDUAL)->n = hp->n_embd;
        smolq__step(b, SMOLQ_OP_GATHER, SMOLQ_BUF_ATT, SMOLQ_BUF_ATT)->n = layer->n_head * hp->head_dim;
        b->selected = 1;
    }
    output[0].w = &t[SMOLQ__T_ATTN_OUTPUT]; output[0].bias = &t[SMOLQ__T_ATTN_OUT_BIAS]; output[0].out = SMOLQ_BUF_RESIDUAL; output[0].add = 1;
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_ATT, 1, output, 1);
}

static void smolq__feed_forward(smolq__builder *b, const smolq__layer *layer)
{
    const smolq_tensor *t = layer->tensor;
    smolq__product in[2], out[1];
    smolq__norm(b, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED, &t[SMOLQ__T_FFN_NORM], b->arch->hp.n_embd, 1);
    in[0].w = &t[SMOLQ__T_FFN_GATE]; in[0].bias = &t[SMOLQ__T_FFN_GATE_BIAS]; in[0].out = SMOLQ_BUF_GATE; in[0].add = 0;
    in[1].w = &t[SMOLQ__T_FFN_UP];   in[1].bias = &t[SMOLQ__T_FFN_UP_BIAS];   in[1].out = SMOLQ_BUF_UP;   in[1].add = 0;
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NORMED, 1, in, 2);
    smolq__step(b, SMOLQ_OP_GLU, SMOLQ_BUF_UP, SMOLQ_BUF_GATE)->n = layer->n_ff;
    out[0].w = &t[SMOLQ__T_FFN_DOWN]; out[0].bias = &t[SMOLQ__T_FFN_DOWN_BIAS]; out[0].out = SMOLQ_BUF_RESIDUAL; out[0].add = 1;
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_GATE, 1, out, 1);
}

static void smolq__experts(smolq__builder *b, const smolq__layer *layer)
{
    const smolq__hparams *hp = &b->arch->hp;
    const smolq_tensor *t = layer->tensor;
    smolq__product router[1], in[2], out[1];
    smolq_op *op;
    smolq__norm(b, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED, &t[SMOLQ__T_FFN_NORM], hp->n_embd, 1);
    router[0].w = &t[SMOLQ__T_ROUTER]; router[0].bias = NULL; router[0].out = SMOLQ_BUF_ROUTER; router[0].add = 0;
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NORMED, 1, router, 1);
    op = smolq__step(b, SMOLQ_OP_ROUTE, SMOLQ_BUF_ROUTER, SMOLQ_BUF_PICKS);
    op->renormalize = b->arch->family->renorm;
    op->scale = hp->expert_scale > 0 ? (float)hp->expert_scale : 1.0f;
    smolq__reserve_row(b, SMOLQ_BUF_PICKS, (uint64_t)hp->n_expert_used * 8);
    in[0].w = &t[SMOLQ__T_GATE_EXPERTS]; in[0].bias = NULL; in[0].out = SMOLQ_BUF_GATE; in[0].add = 0;
    in[1].w = &t[SMOLQ__T_UP_EXPERTS];   in[1].bias = NULL; in[1].out = SMOLQ_BUF_UP;   in[1].add = 0;
    smolq__multiply(b, SMOLQ_OP_MATMUL_EXPERTS, SMOLQ_BUF_NORMED, 1, in, 2);
    smolq__step(b, SMOLQ_OP_GLU, SMOLQ_BUF_UP, SMOLQ_BUF_GATE)->n = hp->n_ff_expert * hp->n_expert_used;
    out[0].w = &t[SMOLQ__T_DOWN_EXPERTS]; out[0].bias = NULL; out[0].out = SMOLQ_BUF_DOWN; out[0].add = 0;
    smolq__multiply(b, SMOLQ_OP_MATMUL_EXPERTS, SMOLQ_BUF_GATE, hp->n_expert_used, out, 1);
    smolq__step(b, SMOLQ_OP_COMBINE, SMOLQ_BUF_DOWN, SMOLQ_BUF_RESIDUAL)->n = hp->n_embd;
}

/* The story: embed, then in every layer attend and feed forward, both added to the residual stream, then norm and multiply by the output matrix. */
static void smolq__write_program(smolq__builder *b)
{
    const smolq__arch *arch = b->arch;
    const smolq_tensor *global = arch->global.tensor;
    smolq__product logits[1];

    b->layer = -1;
    smolq__step(b, SMOLQ_OP_EMBED, SMOLQ_BUF_NONE, SMOLQ_BUF_RESIDUAL)->table = &global[SMOLQ__T_TOKEN_EMBD];
    smolq__reserve_floats(b, SMOLQ_BUF_RESIDUAL, arch->hp.n_embd);
    smolq__reserve_floats(b, SMOLQ_BUF_ROPE, arch->hp.n_rot);
    for (b->layer = 0; b->layer < arch->hp.n_layer; b->layer++) {
        smolq__attention(b, &arch->layers[b->layer]);
        if (smolq__has_experts(arch)) smolq__experts(b, &arch->layers[b->layer]);
        else smolq__feed_forward(b, &arch->layers[b->layer]);
    }
    b->layer = -1;
    smolq__norm(b, SMOLQ_BUF_RESIDUAL, SMOLQ_BUF_NORMED, &global[SMOLQ__T_OUTPUT_NORM], arch->hp.n_embd, 1);
    logits[0].w = smolq__present(&global[SMOLQ__T_OUTPUT]) ? &global[SMOLQ__T_OUTPUT] : &global[SMOLQ__T_TOKEN_EMBD];
    logits[0].bias = NULL;
    logits[0].out = SMOLQ_BUF_LOGITS;
    logits[0].add = 0;
    smolq__multiply(b, SMOLQ_OP_MATMUL, SMOLQ_BUF_NORMED, 1, logits, 1);
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
