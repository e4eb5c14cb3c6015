/* The judge of the forward pass: the same transformer written again in float64, as plainly as possible.
 *
 * It shares no code with smolq: it has its own reader of GGUF files (trusted ones: those that the tests write, and golden data) and takes only
 * tensors of F32, F16 and BF16.  One token after the other goes through all layers; every product is a plain loop over doubles, so its rounding
 * errors are a billionth of those of f32, and whatever smolq's logits differ by is smolq's.
 *
 *     const char *why = naive_logits("model.gguf", ids, n, logits);     // logits [n][n_vocab]; NULL, or a sentence that says what is wrong
 *
 * What a family is made of (read in llama.cpp, src/models/NAME.cpp, and checked against the golden logits):
 *     llama      RoPE turns adjacent pairs; rope_freqs.weight divides the frequencies (Llama 3); experts as in Mixtral
 *     smollm3    as llama, and layers 3, 7, 11... have no RoPE
 *     qwen2      RoPE turns the halves (i, i + n/2); q, k and v have biases
 *     qwen3      as qwen2 without biases; q and k of each head are RMS-normed before RoPE; head_dim is a key of its own
 *     qwen3moe   as qwen3 with experts
 * Biases, an untied output and fused attn_qkv are used wherever the file has them.
 *
 * The router takes the softmax over all experts, the best n_expert_used of them, and divides by their sum.  Which are best is decided in double
 * precision, ties to the smaller index: where two experts are closer than f32 can tell, another pass may rightly choose otherwise. */
#ifndef SMOLQ_NAIVE_H
#define SMOLQ_NAIVE_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a GGUF file ---- */

typedef struct naive_pair { const unsigned char *key; uint64_t key_bytes; uint32_t type; const unsigned char *value; } naive_pair;
typedef struct naive_tensor { char name[64]; uint64_t ne[4]; double *w; } naive_tensor; /* w: all values, ne[0] contiguous; NULL for other types */
typedef struct naive_file {
    const unsigned char *end;
    naive_pair   *pairs;
    naive_tensor *tensors;
    uint64_t      n_pairs, n_tensors;
    char          family[32];
} naive_file;

static uint64_t naive_take(const unsigned char **p, int bytes) /* a little-endian number; p moves on */
{
    uint64_t value = 0;
    int i;
    for (i = 0; i < bytes; i++) value |= (uint64_t)*(*p)++ << 8 * i;
    return value;
}

static double naive_f32(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
static double naive_f16(uint32_t bits) /* sign 1, exponent 5 (bias 15), fraction 10 */
{
    int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
    double value = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -value : value;
}

static const int naive_value_bytes[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 }; /* by GGUF value type; 8 is a string, 9 an array */

static const unsigned char *naive_skip(const unsigned char *p, uint32_t type) /* past a value */
{
    if (type == 8) {
        uint64_t n = naive_take(&p, 8);
        return p + n;
    }
    if (type == 9) { /* arrays of arrays don't occur in the files this reads */
        uint32_t of = (uint32_t)naive_take(&p, 4);
        uint64_t n = naive_take(&p, 8);
        for (; n; n--) p = naive_skip(p, of);
        return p;
    }
    return p + naive_value_bytes[type];
}

static const naive_pair *naive_find(const naive_file *f, const char *key)
{
    uint64_t i;
    for (i = 0; i < f->n_pairs; i++)
        if (f->pairs[i].key_bytes == strlen(key) && memcmp(f->pairs[i].key, key, strlen(key)) == 0) return &f->pairs[i];
    return NULL;
}

static const naive_pair *naive_own(const naive_file *f, const char *key) /* "rope.freq_base" is "llama.rope.freq_base" in a llama */
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", f->family, key);
    return naive_find(f, full);
}

static double naive_number(const naive_file *f, const char *key, double otherwise)
{
    const naive_pair *pair = naive_own(f, key);
    const unsigned char *p;
    uint64_t bits;
    double d;
    if (!pair || pair->type == 8 || pair->type == 9) return otherwise;
    p = pair->value;
    bits = naive_take(&p, naive_value_bytes[pair->type]);
    if (pair->type == 6) return naive_f32((uint32_t)bits);
    if (pair->type != 12) return (double)bits; /* no key here is ever negative */
    memcpy(&d, &bits, 8);
    return d;
}

static int naive_text_is(const naive_pair *pair, const char *text)
{
    const unsigned char *p;
    if (!pair || pair->type != 8) return 0;
    p = pair->value;
    return naive_take(&p, 8) == strlen(text) && memcmp(p, text, strlen(text)) == 0;
}

static const char *naive_parse(naive_file *f, const unsigned char *data, size_t bytes)
{
    const unsigned char *p = data + 8, *base;
    const naive_pair *pair;
    uint64_t i, k, alignment = 32, *offset;
    uint32_t *type;
    if (bytes < 24 || memcmp(data, "GGUF", 4) != 0) return "not a GGUF file";
    f->end = data + bytes;
    f->n_tensors = naive_take(&p, 8);
    f->n_pairs = naive_take(&p, 8);
    f->pairs = (naive_pair *)calloc((size_t)f->n_pairs + 1, sizeof *f->pairs);
    f->tensors = (naive_tensor *)calloc((size_t)f->n_tensors + 1, sizeof *f->tensors);
    offset = (uint64_t *)calloc((size_t)f->n_tensors + 1, sizeof *offset);
    type = (uint32_t *)calloc((size_t)f->n_tensors + 1, sizeof *type);
    for (i = 0; i < f->n_pairs; i++) {
        naive_pair *one = &f->pairs[i];
        one->key_bytes = naive_take(&p, 8);
        one->key = p;
        p += one->key_bytes;
        one->type = (uint32_t)naive_take(&p, 4);
        one->value = p;
        p = naive_skip(p, one->type);
    }
    for (i = 0; i < f->n_tensors; i++) {
        naive_tensor *t = &f->tensors[i];
        uint64_t n = naive_take(&p, 8), n_dims;
        memcpy(t->name, p, n < 63 ? (size_t)n : 63);
        p += n;
        n_dims = naive_take(&p, 4);
        for (k = 0; k < 4; k++) t->ne[k] = k < n_dims ? naive_take(&p, 8) : 1;
        type[i] = (uint32_t)naive_take(&p, 4);
        offset[i] = naive_take(&p, 8);
    }
    pair = naive_find(f, "general.alignment");
    if (pair) {
        base = pair->value;
        alignment = naive_take(&base, 4);
    }
    base = data + ((uint64_t)(p - data) + alignment - 1) / alignment * alignment;
    for (i = 0; i < f->n_tensors; i++) {
        naive_tensor *t = &f->tensors[i];
        uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        int size = type[i] == 0 ? 4 : 2;
        if (type[i] != 0 && type[i] != 1 && type[i] != 30) continue; /* F32, F16, BF16 */
        p = base + offset[i];
        if (p > f->end || n > (uint64_t)(f->end - p) / (uint64_t)size) break;
        t->w = (double *)malloc((size_t)n * sizeof(double));
        for (k = 0; k < n; k++) {
            uint32_t bits = (uint32_t)naive_take(&p, size);
            t->w[k] = type[i] == 0 ? naive_f32(bits) : type[i] == 1 ? naive_f16(bits) : naive_f32(bits << 16);
        }
    }
    free(offset);
    free(type);
    if (i < f->n_tensors) return "a tensor passes the end of the file";
    pair = naive_find(f, "general.architecture");
    if (!pair || pair->type != 8) return "no general.architecture";
    p = pair->value;
    i = naive_take(&p, 8);
    if (i >= sizeof f->family) return "a family with a long name";
    memcpy(f->family, p, (size_t)i);
    return NULL;
}

static void naive_close(naive_file *f)
{
    uint64_t i;
    for (i = 0; i < f->n_tensors && f->tensors; i++) free(f->tensors[i].w);
    free(f->tensors);
    free(f->pairs);
}

static const naive_tensor *naive_tensor_of(const naive_file *f, int layer, const char *name) /* layer -1: a tensor of the whole model */
{
    char full[64];
    uint64_t i;
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    else snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    for (i = 0; i < f->n_tensors; i++)
        if (strcmp(f->tensors[i].name, full) == 0) return f->tensors[i].w ? &f->tensors[i] : NULL;
    return NULL;
}

/* ---- the pieces of a transformer ---- */

/* y[r] = row r of w times x: n_out rows of n_in, from row `first`; plus the bias of those rows, if there is one */
static void naive_matvec(double *y, const naive_tensor *w, const naive_tensor *bias, uint64_t first, int n_out, const double *x, int n_in)
{
    int r, i;
    for (r = 0; r < n_out; r++) {
        const double *row = w->w + (first + (uint64_t)r) * (uint64_t)n_in;
        double sum = 0;
        for (i = 0; i < n_in; i++) sum += row[i] * x[i];
        y[r] = sum + (bias ? bias->w[first + (uint64_t)r] : 0);
    }
}

static void naive_rms_norm(double *y, const double *x, const naive_tensor *w, int n, double eps)
{
    double squares = 0, scale;
    int i;
    for (i = 0; i < n; i++) squares += x[i] * x[i];
    scale = 1 / sqrt(squares / n + eps);
    for (i = 0; i < n; i++) y[i] = x[i] * scale * w->w[i];
}

static void naive_softmax(double *x, int n)
{
    double best = x[0], sum = 0;
    int i;
    for (i = 1; i < n; i++) if (x[i] > best) best = x[i];
    for (i = 0; i < n; i++) sum += x[i] = exp(x[i] - best);
    for (i = 0; i < n; i++) x[i] /= sum;
}

/* Cosine and sine of each pair's angle at a position.  Plain: position * base^(-2i/n).  Linear scaling divides all positions by `factor`; YaRN divides
 * only the slow frequencies, ramps between, and lengthens q and k a little (Peng 2023; ggml's rope_yarn for the details: whole numbers of
 * dimensions at the ends of the ramp, 1 + 0.1 ln(factor) as length). */
static void naive_angles(const naive_file *f, int n_rot, int position, double *c, double *s)
{
    const naive_tensor *divisors = naive_tensor_of(f, -1, "rope_freqs.weight");
    const naive_pair *kind = naive_own(f, "rope.scaling.type");
    double base = naive_number(f, "rope.freq_base", 10000);
    double factor = naive_number(f, "rope.scaling.factor", naive_number(f, "rope.scale_linear", 1));
    double length = naive_number(f, "rope.scaling.attn_factor", 1);
    double trained = naive_number(f, "rope.scaling.original_context_length", naive_number(f, "context_length", 0));
    double pi = 3.14159265358979323846, low = 0, high = 0;
    int yarn = naive_text_is(kind, "yarn"), i;
    if (factor == 0 || naive_text_is(kind, "none")) factor = 1;
    if (yarn) { /* the dimension whose wave turns beta times within the trained context */
        low = floor(n_rot * log(trained / (naive_number(f, "rope.scaling.yarn_beta_fast", 32) * 2 * pi)) / (2 * log(base)));
        high = ceil(n_rot * log(trained / (naive_number(f, "rope.scaling.yarn_beta_slow", 1) * 2 * pi)) / (2 * log(base)));
        if (low < 0) low = 0;
        if (high > n_rot - 1) high = n_rot - 1;
        if (factor > 1) length *= 1 + 0.1 * log(factor);
    }
    for (i = 0; i < n_rot / 2; i++) {
        double angle = position * pow(base, -2.0 * i / n_rot) / (divisors ? divisors->w[i] : 1);
        if (yarn) {
            double ramp = (i - low) / (high - low > 0.001 ? high - low : 0.001); /* 0: turn as trained, 1: slower by factor */
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            angle = angle / factor * ramp + angle * (1 - ramp);
        } else {
            angle /= factor;
        }
        c[i] = cos(angle) * length;
        s[i] = sin(angle) * length;
    }
}

static void naive_rope(double *x, int n_rot, int halves, const double *c, const double *s)
{
    int i;
    for (i = 0; i < n_rot / 2; i++) {
        double *a = halves ? x + i : x + 2 * i, *b = halves ? x + i + n_rot / 2 : x + 2 * i + 1;
        double a0 = *a, b0 = *b;
        *a = a0 * c[i] - b0 * s[i];
        *b = a0 * s[i] + b0 * c[i];
    }
}

/* x [n_in] -> y [n_out]: down(silu(gate(x)) * up(x)), of one expert of several or of the one feed-forward; ff: space for 2 * n_ff */
static void naive_swiglu(double *y, const double *x, const naive_tensor *const w[3], const naive_tensor *const bias[3], int expert, int n_embd, int n_ff, double *ff)
{
    int i;
    naive_matvec(ff, w[0], bias[0], (uint64_t)expert * (uint64_t)n_ff, n_ff, x, n_embd);
    naive_matvec(ff + n_ff, w[1], bias[1], (uint64_t)expert * (uint64_t)n_ff, n_ff, x, n_embd);
    for (i = 0; i < n_ff; i++) ff[i] = ff[i] / (1 + exp(-ff[i])) * ff[n_ff + i];
    naive_matvec(y, w[2], bias[2], (uint64_t)expert * (uint64_t)n_embd, n_embd, ff, n_ff);
}

/* ---- the model ---- */

static int naive_rope_everywhere; /* set by a test to see that it would notice: smollm3 as if it were a llama */

/* logits [n][n_vocab] for a GGUF file in memory */
static const char *naive_logits_memory(const void *data, size_t bytes, const int32_t *ids, int n, double *logits)
{
    naive_file file;
    const naive_file *f = &file;
    const naive_tensor *embd, *out, *out_norm;
    const char *why;
    double *x, *h, *q, *k, *v, *o, *y, *ff, *score, *c, *s, *router, eps, scale;
    int n_layer, n_embd, n_head, n_head_kv, head_dim, n_rot, n_ff, n_vocab, n_expert, n_used, n_kv, halves, smollm3, pos, il, i, j, d, used;
    memset(&file, 0, sizeof file);
    why = naive_parse(&file, (const unsigned char *)data, bytes);
    if (why) {
        naive_close(&file);
        return why;
    }
    smollm3 = strcmp(f->family, "smollm3") == 0;
    halves = strncmp(f->family, "qwen", 4) == 0;
    n_layer = (int)naive_number(f, "block_count", 0);
    n_embd = (int)naive_number(f, "embedding_length", 0);
    n_head = (int)naive_number(f, "attention.head_count", 1);
    n_head_kv = (int)naive_number(f, "attention.head_count_kv", n_head);
    head_dim = (int)naive_number(f, "attention.key_length", n_embd / n_head);
    n_rot = (int)naive_number(f, "rope.dimension_count", head_dim);
    n_expert = (int)naive_number(f, "expert_count", 0);
    n_used = (int)naive_number(f, "expert_used_count", 0);
    n_ff = (int)naive_number(f, "feed_forward_length", 0);
    if (n_expert) n_ff = (int)naive_number(f, "expert_feed_forward_length", n_ff);
    eps = naive_number(f, "attention.layer_norm_rms_epsilon", 0);
    scale = naive_number(f, "attention.scale", 0);
    if (scale == 0) scale = 1 / sqrt(head_dim);
    n_kv = n_head_kv * head_dim;
    embd = naive_tensor_of(f, -1, "token_embd.weight");
    out = naive_tensor_of(f, -1, "output.weight");
    out_norm = naive_tensor_of(f, -1, "output_norm.weight");
    if (!embd || !out_norm) {
        naive_close(&file);
        return "no token_embd or output_norm in F32, F16 or BF16";
    }
    if (!out) out = embd;
    n_vocab = (int)embd->ne[1];

    x = (double *)malloc(sizeof(double) * (size_t)(6 * n_embd + n_head * head_dim * 2 + 2 * n_ff + n + 2 * n_rot + n_expert + 64));
    h = x + n_embd;
    y = h + n_embd;
    q = y + n_embd;
    o = q + n_head * head_dim;
    ff = o + n_head * head_dim;
    score = ff + 2 * n_ff;
    c = score + n;
    s = c + n_rot;
    router = s + n_rot;
    k = (double *)malloc(sizeof(double) * (size_t)n_layer * (size_t)n * (size_t)n_kv); /* [n_layer][n][n_kv] */
    v = (double *)malloc(sizeof(double) * (size_t)n_layer * (size_t)n * (size_t)n_kv);

    for (pos = 0; pos < n && !why; pos++) {
        if (ids[pos] < 0 || ids[pos] >= n_vocab) {
            why = "a token id outside the vocabulary";
            break;
        }
        memcpy(x, embd->w + (size_t)ids[pos] * (size_t)n_embd, sizeof(double) * (size_t)n_embd);
        naive_angles(f, n_rot, pos, c, s);
        for (il = 0; il < n_layer; il++) {
            const naive_tensor *attn_norm = naive_tensor_of(f, il, "attn_norm.weight"), *ffn_norm = naive_tensor_of(f, il, "ffn_norm.weight");
            const naive_tensor *wqkv = naive_tensor_of(f, il, "attn_qkv.weight"), *bqkv = naive_tensor_of(f, il, "attn_qkv.bias");
            const naive_tensor *wq = wqkv ? wqkv : naive_tensor_of(f, il, "attn_q.weight"), *bq = wqkv ? bqkv : naive_tensor_of(f, il, "attn_q.bias");
            const naive_tensor *wk = wqkv ? wqkv : naive_tensor_of(f, il, "attn_k.weight"), *bk = wqkv ? bqkv : naive_tensor_of(f, il, "attn_k.bias");
            const naive_tensor *wv = wqkv ? wqkv : naive_tensor_of(f, il, "attn_v.weight"), *bv = wqkv ? bqkv : naive_tensor_of(f, il, "attn_v.bias");
            const naive_tensor *wo = naive_tensor_of(f, il, "attn_output.weight"), *bo = naive_tensor_of(f, il, "attn_output.bias");
            const naive_tensor *q_norm = naive_tensor_of(f, il, "attn_q_norm.weight"), *k_norm = naive_tensor_of(f, il, "attn_k_norm.weight");
            const naive_tensor *gate_inp = naive_tensor_of(f, il, "ffn_gate_inp.weight"), *w[3], *bias[3];
            double *ki = k + ((size_t)il * (size_t)n + (size_t)pos) * (size_t)n_kv, *vi = v + ((size_t)il * (size_t)n + (size_t)pos) * (size_t)n_kv;
            int turns = !smollm3 || (il + 1) % 4 != 0 || naive_rope_everywhere;
            for (i = 0; i < 3; i++) {
                static const char *const dense[3] = { "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight" };
                static const char *const experts[3] = { "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight" };
                static const char *const biases[3] = { "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias" };
                w[i] = naive_tensor_of(f, il, n_expert ? experts[i] : dense[i]);
                bias[i] = n_expert ? NULL : naive_tensor_of(f, il, biases[i]);
            }
            if (!attn_norm || !ffn_norm || !wq || !wk || !wv || !wo || !w[0] || !w[1] || !w[2] || (n_expert && !gate_inp)) {
                why = "a layer lacks a tensor in F32, F16 or BF16";
                break;
            }

            /* attention: what the heads of this position ask, and what they offer to later ones */
            naive_rms_norm(h, x, attn_norm, n_embd, eps);
            naive_matvec(q, wq, bq, 0, n_head * head_dim, h, n_embd);
            naive_matvec(ki, wk, bk, wqkv ? (uint64_t)(n_head * head_dim) : 0, n_kv, h, n_embd);
            naive_matvec(vi, wv, bv, wqkv ? (uint64_t)(n_head * head_dim + n_kv) : 0, n_kv, h, n_embd);
            for (j = 0; j < n_head; j++) {
                if (q_norm) naive_rms_norm(q + j * head_dim, q + j * head_dim, q_norm, head_dim, eps);
                if (turns) naive_rope(q + j * head_dim, n_rot, halves, c, s);
            }
            for (j = 0; j < n_head_kv; j++) {
                if (k_norm) naive_rms_norm(ki + j * head_dim, ki + j * head_dim, k_norm, head_dim, eps);
                if (turns) naive_rope(ki + j * head_dim, n_rot, halves, c, s);
            }
            for (j = 0; j < n_head; j++) {
                size_t group = (size_t)(j / (n_head / n_head_kv) * head_dim); /* several query heads share one of keys and values */
                const double *kj = k + (size_t)il * (size_t)n * (size_t)n_kv + group, *vj = v + (size_t)il * (size_t)n * (size_t)n_kv + group;
                for (i = 0; i <= pos; i++) {
                    double sum = 0;
                    for (d = 0; d < head_dim; d++) sum += q[j * head_dim + d] * kj[(size_t)i * (size_t)n_kv + (size_t)d];
                    score[i] = sum * scale;
                }
                naive_softmax(score, pos + 1);
                for (d = 0; d < head_dim; d++) {
                    double sum = 0;
                    for (i = 0; i <= pos; i++) sum += score[i] * vj[(size_t)i * (size_t)n_kv + (size_t)d];
                    o[j * head_dim + d] = sum;
                }
            }
            naive_matvec(h, wo, bo, 0, n_embd, o, n_head * head_dim);
            for (i = 0; i < n_embd; i++) x[i] += h[i];

            /* feed-forward, or the best experts weighted by the router */
            naive_rms_norm(h, x, ffn_norm, n_embd, eps);
            if (!n_expert) {
                naive_swiglu(y, h, w, bias, 0, n_embd, n_ff, ff);
                for (i = 0; i < n_embd; i++) x[i] += y[i];
            } else {
                double sum = 0, taken[64];
                int chosen[64];
                naive_matvec(router, gate_inp, NULL, 0, n_expert, h, n_embd);
                naive_softmax(router, n_expert);
                for (used = 0; used < n_used && used < 64; used++) {
                    int best = 0;
                    for (i = 1; i < n_expert; i++) if (router[i] > router[best]) best = i;
                    chosen[used] = best;
                    sum += taken[used] = router[best];
                    router[best] = -1;
                }
                while (used--) {
                    naive_swiglu(y, h, w, bias, chosen[used], n_embd, n_ff, ff);
                    for (i = 0; i < n_embd; i++) x[i] += y[i] * (taken[used] / sum);
                }
            }
        }
        naive_rms_norm(h, x, out_norm, n_embd, eps);
        naive_matvec(logits + (size_t)pos * (size_t)n_vocab, out, naive_tensor_of(f, -1, "output.bias"), 0, n_vocab, h, n_embd);
    }
    free(x);
    free(k);
    free(v);
    naive_close(&file);
    return why;
}

static unsigned char *naive_slurp(const char *path, size_t *bytes) /* a whole file, NULL if it can't be read; the caller frees it */
{
    FILE *file = fopen(path, "rb");
    unsigned char *data = NULL;
    long size;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    if (size >= 0) data = (unsigned char *)malloc((size_t)size + 1);
    if (data && fread(data, 1, (size_t)size, file) != (size_t)size) {
        free(data);
        data = NULL;
    }
    fclose(file);
    if (data) {
        data[size] = 0;
        *bytes = (size_t)size;
    }
    return data;
}

#if defined(__GNUC__)
__attribute__((unused))
#endif
static const char *naive_logits(const char *path, const int32_t *ids, int n, double *logits)
{
    size_t bytes = 0;
    unsigned char *data = naive_slurp(path, &bytes);
    const char *why = data ? naive_logits_memory(data, bytes, ids, n, logits) : "the file can't be read";
    free(data);
    return why;
}
#endif
