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
 *     mistral3   as llama; attention is hotter from one original context to the next (temperature_scale); YaRN
 *     granite    as llama; scales of embeddings, branches, attention and logits; rope.scaling.finetuned = false: no RoPE
 *     qwen2      RoPE turns the halves (i, i + n/2); q, k and v have biases
 *     qwen2moe   as qwen2 with experts whose weights are not made to sum to 1, and one that all share, weighted by the sigmoid of its own logit
 *     qwen3      as qwen2 without biases; q and k of each head are RMS-normed before RoPE; head_dim is a key of its own
 *     qwen3moe   as qwen3 with experts
 *     gemma2     halves; norms before and after each branch; embeddings times sqrt(n_embd); GELU; soft caps; windows in layers 0, 2, 4...
 *     gemma3     as gemma2 without caps; qk-norm per head; windows in all but layers 5, 11, 17...; there the RoPE base is 10000, never stretched
 *     phi3       halves, perhaps of the first n_rot numbers only; q, k, v in one tensor, gate and up in another; two sets of frequency divisors
 *     olmo2      halves; norms after each branch only, qk-norm over all heads at once; OLMo 3: windows but in layers 3, 7, 11..., there plain RoPE
 *     gpt-oss    halves, YaRN; biases everywhere; windows in layers 0, 2, 4...; a sink per head; experts chosen by their logits, softmax of the chosen;
 *                post_attention_norm is the norm before the feed-forward; the activation is clamped
 * Biases, an untied output, fused tensors and per-layer arrays are used wherever the file has them.
 *
 * Which experts are best is decided in double precision, ties to the smaller index: where two experts are closer than f32 can tell, another pass may
 * rightly choose otherwise. */
#ifndef SMOLQ_NAIVE_H
#define SMOLQ_NAIVE_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a GGUF file ---- */

typedef struct naive_pair { const unsigned char *key; uint64_t key_bytes; uint32_t type; const unsigned char *value; } naive_pair;
typedef struct naive_tensor { char name[64]; uint64_t ne[4]; double *w; const unsigned char *data; } naive_tensor; /* w: all values, ne[0] contiguous; NULL for other types */
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

/* An idea that a test switches off here, to see that it would notice if smolq did not have it. */
static const char *naive_off;
static int naive_has(const char *idea) { return !naive_off || strcmp(naive_off, idea) != 0; }

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

static double naive_value(const unsigned char *p, uint32_t type) /* no key here is ever negative */
{
    uint64_t bits = naive_take(&p, naive_value_bytes[type]);
    double d;
    if (type == 6) return naive_f32((uint32_t)bits);
    if (type != 12) return (double)bits;
    memcpy(&d, &bits, 8);
    return d;
}

/* A key that has one number, or one for each layer. */
static double naive_of_layer(const naive_file *f, const char *key, int layer, double otherwise)
{
    const naive_pair *pair = naive_own(f, key);
    const unsigned char *p;
    uint32_t type;
    if (!pair || pair->type == 8) return otherwise;
    if (pair->type != 9) return naive_value(pair->value, pair->type);
    p = pair->value;
    type = (uint32_t)naive_take(&p, 4);
    return naive_value(p + 8 + layer * naive_value_bytes[type], type);
}
static double naive_number(const naive_file *f, const char *key, double otherwise) { return naive_of_layer(f, key, 0, otherwise); }

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
        t->data = base + offset[i];
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
 * dimensions at the ends of the ramp, 1 + 0.1 ln(factor) as length, less where there is a log multiplier). */
static void naive_angles(const naive_file *f, int n_rot, int position, int n_ctx, int local, double *c, double *s)
{
    const naive_pair *kind = naive_own(f, "rope.scaling.type");
    int plain = local && naive_has("plain local rotation") && (strcmp(f->family, "gemma3") == 0 || strcmp(f->family, "olmo2") == 0), i;
    double trained = naive_number(f, "rope.scaling.original_context_length", naive_number(f, "context_length", 0));
    const naive_tensor *divisors = naive_tensor_of(f, -1, "rope_freqs.weight");
    double base = naive_number(f, "rope.freq_base", 10000);
    double factor = naive_number(f, "rope.scaling.factor", naive_number(f, "rope.scale_linear", 1));
    double length = naive_number(f, "rope.scaling.attn_factor", 1), growth;
    double pi = 3.14159265358979323846, low = 0, high = 0, share = naive_number(f, "rope.scaling.yarn_ext_factor", 1);
    int yarn = naive_text_is(kind, "yarn") && !plain;
    if (!divisors) divisors = naive_tensor_of(f, -1, n_ctx > trained ? "rope_factors_long.weight" : "rope_factors_short.weight");
    if (!naive_has("frequency divisors")) divisors = NULL;
    if (local && naive_has("local base")) base = naive_number(f, "rope.freq_base_swa", strcmp(f->family, "gemma3") == 0 ? 10000 : base);
    if (factor == 0 || naive_text_is(kind, "none") || plain) factor = 1;
    if (plain) {
        length = 1;
        divisors = NULL;
    }
    if (yarn) { /* the dimension whose wave turns beta times within the trained context */
        low = floor(n_rot * log(trained / (naive_number(f, "rope.scaling.yarn_beta_fast", 32) * 2 * pi)) / (2 * log(base)));
        high = ceil(n_rot * log(trained / (naive_number(f, "rope.scaling.yarn_beta_slow", 1) * 2 * pi)) / (2 * log(base)));
        if (low < 0) low = 0;
        if (high > n_rot - 1) high = n_rot - 1;
        growth = factor > 1 && naive_has("yarn length") ? 0.1 * log(factor) : 0;
        length *= (1 + growth) / (1 + growth * (naive_has("log multiplier") ? naive_number(f, "rope.scaling.yarn_log_multiplier", 0) : 0));
    } else if (!plain) {
        length *= naive_number(f, "rope.scaling.yarn_attn_factor", 1);
    }
    for (i = 0; i < n_rot / 2; i++) {
        double angle = position * pow(base, -2.0 * i / n_rot) / (divisors && (uint64_t)i < divisors->ne[0] ? divisors->w[i] : 1);
        if (yarn) {
            double ramp = (i - low) / (high - low > 0.001 ? high - low : 0.001); /* 0: turn as trained, 1: slower by factor */
            ramp = !naive_has("yarn ramp") || ramp > 1 ? 1 : ramp < 0 ? 0 : ramp;
            ramp = 1 - share * (1 - ramp);
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

static int naive_gelu_by_table; /* set by a test: GELU as llama.cpp on a CPU has it, looked up in a table of f16 for an argument rounded to f16 */

static double naive_to_f16(double x) /* to nearest, ties to even; within f16's range */
{
    int exponent;
    frexp(x, &exponent);
    exponent = exponent - 11 < -24 ? -24 : exponent - 11;
    return ldexp(nearbyint(ldexp(x, -exponent)), exponent);
}

static double naive_gelu(double x) /* tanh form */
{
    double at = naive_gelu_by_table && fabs(x) < 10 ? naive_to_f16(x) : x;
    double y = 0.5 * at * (1 + tanh(sqrt(2 / 3.14159265358979323846) * at * (1 + 0.044715 * at * at)));
    return naive_gelu_by_table && fabs(x) < 10 ? naive_to_f16(y) : y;
}

static double naive_gate(const naive_file *f, double gate, double up)
{
    if (strncmp(f->family, "gemma", 5) == 0 && naive_has("GELU")) return naive_gelu(gate) * up;
    if (strcmp(f->family, "gpt-oss") != 0 || !naive_has("gpt-oss's gate")) return gate / (1 + exp(-gate)) * up;
    if (naive_has("clamp")) {
        gate = gate > 7 ? 7 : gate;
        up = up > 7 ? 7 : up < -7 ? -7 : up;
    }
    return gate / (1 + exp(-1.702 * gate)) * (up + 1);
}

/* A feed-forward, dense or one expert of several: down(act(gate(x), up(x))), x and y [n_embd], ff [2 * n_ff].
 * The rows of gate and up may lie in one tensor, the gate's first. */
typedef struct naive_ff { const naive_tensor *gate, *up, *down, *gate_bias, *up_bias, *down_bias; } naive_ff;

static void naive_feed_forward(const naive_file *f, double *y, const double *x, const naive_ff *w, int expert, int n_embd, int n_ff, double *ff)
{
    uint64_t e = (uint64_t)expert, rows = (uint64_t)n_ff, fused = !w->gate;
    int i;
    naive_matvec(ff, fused ? w->up : w->gate, w->gate_bias, e * rows * (fused + 1), n_ff, x, n_embd);
    naive_matvec(ff + n_ff, w->up, w->up_bias, e * rows * (fused + 1) + fused * rows, n_ff, x, n_embd);
    for (i = 0; i < n_ff; i++) ff[i] = naive_gate(f, ff[i], ff[n_ff + i]);
    naive_matvec(y, w->down, w->down_bias, e * (uint64_t)n_embd, n_embd, ff, n_ff);
}

/* What the router of a layer and its chosen experts make of x; all [n_embd] but router [n_expert], ff. */
static void naive_experts(const naive_file *f, int il, double *y, const double *x, const naive_ff *w, int n_embd, int n_ff, double *one, double *router, double *ff)
{
    const naive_tensor *inp = naive_tensor_of(f, il, "ffn_gate_inp.weight"), *shared = naive_tensor_of(f, il, "ffn_gate_inp_shexp.weight");
    int n_expert = (int)naive_number(f, "expert_count", 0), n_used = (int)naive_number(f, "expert_used_count", 0), chosen[64], i, k;
    int oss = strcmp(f->family, "gpt-oss") == 0, softmax_of_chosen = oss && naive_has("softmax of the chosen"); /* of all, then scaled to sum to 1, is the same */
    int as_they_are = oss || (strcmp(f->family, "qwen2moe") == 0 && naive_has("weights as they are")) || !naive_has("weights that sum to 1");
    double weight[64], sum = 0, scale = naive_number(f, "expert_weights_scale", 0);
    naive_matvec(router, inp, naive_has("router bias") ? naive_tensor_of(f, il, "ffn_gate_inp.bias") : NULL, 0, n_expert, x, n_embd);
    if (!softmax_of_chosen) naive_softmax(router, n_expert);
    for (k = 0; k < n_used && k < 64; k++) {
        int best = 0;
        for (i = 1; i < n_expert; i++) if (router[i] > router[best]) best = i;
        chosen[k] = best;
        weight[k] = router[best];
        sum += router[best];
        router[best] = -HUGE_VAL;
    }
    if (softmax_of_chosen) naive_softmax(weight, n_used);
    for (i = 0; i < n_embd; i++) y[i] = 0;
    for (k = 0; k < n_used && k < 64; k++) {
        naive_feed_forward(f, one, x, w, chosen[k], n_embd, n_ff, ff);
        for (i = 0; i < n_embd; i++) y[i] += one[i] * weight[k] / (as_they_are ? 1 : sum) * (scale > 0 ? scale : 1);
    }
    if (shared && naive_has("shared expert")) {
        naive_ff of_all;
        double logit;
        memset(&of_all, 0, sizeof of_all);
        of_all.gate = naive_tensor_of(f, il, "ffn_gate_shexp.weight");
        of_all.up = naive_tensor_of(f, il, "ffn_up_shexp.weight");
        of_all.down = naive_tensor_of(f, il, "ffn_down_shexp.weight");
        naive_matvec(&logit, shared, NULL, 0, 1, x, n_embd);
        naive_feed_forward(f, one, x, &of_all, 0, n_embd, (int)of_all.up->ne[1], ff);
        for (i = 0; i < n_embd; i++) y[i] += naive_has("shared expert's gate") ? one[i] / (1 + exp(-logit)) : one[i];
    }
}

/* Keys that a query of a layer sees, its own included; 0: all. */
static int naive_window(const naive_file *f, int il)
{
    static const struct { const char *family; int period; } periods[] = { { "gemma2", 2 }, { "gemma3", 6 }, { "olmo2", 4 }, { "gpt-oss", 2 } };
    const naive_pair *pattern = naive_own(f, "attention.sliding_window_pattern");
    int window = naive_has("window") ? (int)naive_number(f, "attention.sliding_window", 0) : 0, i, period;
    for (i = 0; i < 4; i++)
        if (strcmp(f->family, periods[i].family) == 0) {
            if (pattern && pattern->type == 9) return naive_of_layer(f, "attention.sliding_window_pattern", il, 0) != 0 ? window : 0;
            period = (int)naive_number(f, "attention.sliding_window_pattern", periods[i].period);
            return il % period < period - 1 ? window : 0;
        }
    return 0;
}

static double naive_cap(double x, double cap) { return cap > 0 ? cap * tanh(x / cap) : x; }

/* q and k: each head's numbers by one vector, or all heads' by a longer one */
static void naive_qk_norm(double *x, const naive_tensor *w, int n_head, int head_dim, double eps)
{
    int n = w ? (int)w->ne[0] : 0, i;
    for (i = 0; w && i < n_head * head_dim; i += n) naive_rms_norm(x + i, x + i, w, n, eps);
}

/* ---- the model ---- */

static int naive_n_ctx;           /* set by a test: size of the context, for files with long and short RoPE factors; 0: the number of tokens */

/* One position through one layer: x [n_embd] changes; k and v [n][n_kv] are this layer's, filled up to pos here. */
static const char *naive_layer(const naive_file *f, int il, int pos, int n, double *x, double *k, double *v)
{
    int n_embd = (int)naive_number(f, "embedding_length", 0), n_layer = (int)naive_number(f, "block_count", 0);
    int n_head = (int)naive_of_layer(f, "attention.head_count", il, 1), n_head_kv = (int)naive_of_layer(f, "attention.head_count_kv", il, n_head);
    int n_head_0 = (int)naive_of_layer(f, "attention.head_count", 0, 1);
    int head_dim = (int)naive_number(f, "attention.key_length", n_embd / n_head_0), n_rot = naive_has("partial rotation") ? (int)naive_number(f, "rope.dimension_count", head_dim) : head_dim;
    int n_expert = (int)naive_number(f, "expert_count", 0), n_ff = (int)naive_of_layer(f, "feed_forward_length", il, 0);
    int n_q = n_head * head_dim, n_kv = n_head_kv * head_dim, window = naive_window(f, il), first = window && pos >= window ? pos - window + 1 : 0, i, j, d;
    int gemma = strncmp(f->family, "gemma", 5) == 0, after = gemma || strcmp(f->family, "olmo2") == 0;
    int halves = gemma || strncmp(f->family, "qwen", 4) == 0 || strcmp(f->family, "phi3") == 0 || strcmp(f->family, "olmo2") == 0 || strcmp(f->family, "gpt-oss") == 0;
    int turns = (strcmp(f->family, "smollm3") != 0 || (il + 1) % 4 != 0 || !naive_has("layers without rotation")) &&
                (strcmp(f->family, "granite") != 0 || naive_number(f, "rope.scaling.finetuned", 1) != 0);
    int odd = naive_has("odd scale") && ((strcmp(f->family, "gemma2") == 0 && n_layer == 46) || (strcmp(f->family, "gemma3") == 0 && n_layer == 62));
    double eps = naive_number(f, "attention.layer_norm_rms_epsilon", 0), scale = naive_has("attention scale") ? naive_number(f, "attention.scale", 0) : 0;
    double cap = naive_has("attention cap") ? naive_number(f, "attn_logit_softcapping", 0) : 0, branch = naive_has("residual scale") ? naive_number(f, "residual_scale", 1) : 1;
    double heat = naive_has("temperature") ? naive_number(f, "attention.temperature_scale", 0) : 0;
    const naive_tensor *attn_norm = naive_tensor_of(f, il, "attn_norm.weight"), *ffn_norm = naive_tensor_of(f, il, "ffn_norm.weight");
    const naive_tensor *attn_post = naive_tensor_of(f, il, "post_attention_norm.weight"), *ffn_post = naive_tensor_of(f, il, "post_ffw_norm.weight");
    const naive_tensor *wqkv = naive_tensor_of(f, il, "attn_qkv.weight"), *bqkv = naive_tensor_of(f, il, "attn_qkv.bias");
    const naive_tensor *wq = wqkv ? wqkv : naive_tensor_of(f, il, "attn_q.weight"), *bq = wqkv ? bqkv : naive_tensor_of(f, il, "attn_q.bias");
    const naive_tensor *wk = wqkv ? wqkv : naive_tensor_of(f, il, "attn_k.weight"), *bk = wqkv ? bqkv : naive_tensor_of(f, il, "attn_k.bias");
    const naive_tensor *wv = wqkv ? wqkv : naive_tensor_of(f, il, "attn_v.weight"), *bv = wqkv ? bqkv : naive_tensor_of(f, il, "attn_v.bias");
    const naive_tensor *wo = naive_tensor_of(f, il, "attn_output.weight"), *bo = naive_tensor_of(f, il, "attn_output.bias"), *sinks = naive_tensor_of(f, il, "attn_sinks.weight");
    double *h, *y, *one, *q, *o, *ff, *score, *c, *s, *router, *ki = k + (size_t)pos * (size_t)n_kv, *vi = v + (size_t)pos * (size_t)n_kv;
    const char *suffix = n_expert ? "_exps" : "";
    char name[32];
    naive_ff w;

#define NAIVE_FF(what, kind) (snprintf(name, sizeof name, "ffn_%s%s.%s", what, suffix, kind), naive_tensor_of(f, il, name))
    w.gate = NAIVE_FF("gate", "weight");
    w.up = NAIVE_FF("up", "weight");
    w.down = NAIVE_FF("down", "weight");
    w.gate_bias = NAIVE_FF("gate", "bias");
    w.up_bias = NAIVE_FF("up", "bias");
    w.down_bias = NAIVE_FF("down", "bias");
    if (!w.up && n_expert) w.up = NAIVE_FF("gate_up", "weight");
#undef NAIVE_FF
    if (strcmp(f->family, "gpt-oss") == 0) ffn_norm = attn_post;
    if (!naive_has("sinks")) sinks = NULL;
    if (!naive_has("biases of attention")) bq = bk = bv = bo = NULL;
    if (!naive_has("biases of the feed-forward")) w.gate_bias = w.up_bias = w.down_bias = NULL;
    if (!naive_has("norms before")) attn_norm = ffn_norm = NULL;
    if (n_expert) n_ff = (int)naive_number(f, "expert_feed_forward_length", n_ff);
    if (!wq || !wk || !wv || !wo || !w.up || !w.down || (n_expert && !naive_tensor_of(f, il, "ffn_gate_inp.weight"))) return "a layer lacks a tensor in F32, F16 or BF16";
    if ((w.up->ne[1] > (uint64_t)n_ff) == (w.gate != NULL)) return "gate and up are neither one tensor nor two";
    j = (int)naive_number(f, "expert_shared_feed_forward_length", 0) > n_ff ? (int)naive_number(f, "expert_shared_feed_forward_length", 0) : n_ff;
    h = (double *)malloc(sizeof(double) * (size_t)(3 * n_embd + 2 * n_q + 2 * j + n + 1 + 2 * n_rot + n_expert));
    y = h + n_embd;
    one = y + n_embd;
    q = one + n_embd;
    o = q + n_q;
    ff = o + n_q;
    score = ff + 2 * j;
    c = score + n + 1;
    s = c + n_rot;
    router = s + n_rot;

    /* attention: what the heads of this position ask, and what they offer to later ones */
    memcpy(h, x, sizeof(double) * (size_t)n_embd);
    if (attn_norm) naive_rms_norm(h, x, attn_norm, n_embd, eps);
    naive_matvec(q, wq, bq, 0, n_q, h, n_embd);
    naive_matvec(ki, wk, bk, wqkv ? (uint64_t)n_q : 0, n_kv, h, n_embd);
    naive_matvec(vi, wv, bv, wqkv ? (uint64_t)(n_q + n_kv) : 0, n_kv, h, n_embd);
    if (naive_has("qk-norm")) {
        naive_qk_norm(q, naive_tensor_of(f, il, "attn_q_norm.weight"), n_head, head_dim, eps);
        naive_qk_norm(ki, naive_tensor_of(f, il, "attn_k_norm.weight"), n_head_kv, head_dim, eps);
    }
    naive_angles(f, n_rot, pos, naive_n_ctx ? naive_n_ctx : n, window > 0, c, s);
    for (j = 0; turns && j < n_head; j++) naive_rope(q + j * head_dim, n_rot, halves, c, s);
    for (j = 0; turns && j < n_head_kv; j++) naive_rope(ki + j * head_dim, n_rot, halves, c, s);
    if (scale == 0) scale = 1 / sqrt(odd ? n_embd / n_head_0 : head_dim);
    if (heat > 0) scale *= 1 + heat * log(floor(pos / naive_number(f, "rope.scaling.original_context_length", 1)) + 1);
    for (j = 0; j < n_head; j++) {
        int group = j / (n_head / n_head_kv) * head_dim, n_keys = pos + 1 - first; /* several query heads share one of keys and values */
        for (i = 0; i < n_keys; i++) {
            const double *key = k + (size_t)(first + i) * (size_t)n_kv + group;
            double sum = 0;
            for (d = 0; d < head_dim; d++) sum += q[j * head_dim + d] * key[d];
            score[i] = naive_cap(sum * scale, cap);
        }
        if (sinks) score[n_keys] = sinks->w[j];
        naive_softmax(score, n_keys + (sinks != NULL));
        for (d = 0; d < head_dim; d++) {
            double sum = 0;
            for (i = 0; i < n_keys; i++) sum += score[i] * v[(size_t)(first + i) * (size_t)n_kv + (size_t)(group + d)];
            o[j * head_dim + d] = sum;
        }
    }
    naive_matvec(h, wo, bo, 0, n_embd, o, n_q);
    if (after && naive_has("norms after")) naive_rms_norm(h, h, attn_post, n_embd, eps);
    for (i = 0; i < n_embd; i++) x[i] += branch * h[i];

    /* feed-forward */
    memcpy(h, x, sizeof(double) * (size_t)n_embd);
    if (ffn_norm) naive_rms_norm(h, x, ffn_norm, n_embd, eps);
    if (n_expert) naive_experts(f, il, y, h, &w, n_embd, n_ff, one, router, ff);
    else naive_feed_forward(f, y, h, &w, 0, n_embd, n_ff, ff);
    if (after && naive_has("norms after")) naive_rms_norm(y, y, ffn_post, n_embd, eps);
    for (i = 0; i < n_embd; i++) x[i] += branch * y[i];
    free(h);
    return NULL;
}

/* logits [n][n_vocab] for a GGUF file in memory */
static const char *naive_logits_memory(const void *data, size_t bytes, const int32_t *ids, int n, double *logits)
{
    naive_file file;
    const naive_file *f = &file;
    const naive_tensor *embd, *out, *out_norm;
    const char *why;
    double *x, *h, *kv, eps, scale, logit_scale, cap;
    int n_layer, n_embd, n_kv = 0, n_vocab, pos, il, i;
    size_t of_layer;
    memset(&file, 0, sizeof file);
    why = naive_parse(&file, (const unsigned char *)data, bytes);
    if (why) {
        naive_close(&file);
        return why;
    }
    n_layer = (int)naive_number(f, "block_count", 0);
    n_embd = (int)naive_number(f, "embedding_length", 0);
    eps = naive_number(f, "attention.layer_norm_rms_epsilon", 0);
    scale = !naive_has("embedding scale") ? 1 : strncmp(f->family, "gemma", 5) == 0 ? sqrt(n_embd) : naive_number(f, "embedding_scale", 1);
    logit_scale = naive_has("logit scale") ? naive_number(f, "logit_scale", 1) : 1;
    cap = naive_has("logit cap") ? naive_number(f, "final_logit_softcapping", 0) : 0;
    for (il = 0; il < n_layer; il++) {
        int n_head = (int)naive_of_layer(f, "attention.head_count", il, 1), n_head_kv = (int)naive_of_layer(f, "attention.head_count_kv", il, n_head);
        int head_dim = (int)naive_number(f, "attention.key_length", n_embd / (int)naive_of_layer(f, "attention.head_count", 0, 1));
        if (n_head_kv * head_dim > n_kv) n_kv = n_head_kv * head_dim;
    }
    embd = naive_tensor_of(f, -1, "token_embd.weight");
    out = naive_tensor_of(f, -1, "output.weight");
    out_norm = naive_tensor_of(f, -1, "output_norm.weight");
    if (!embd || !out_norm) {
        naive_close(&file);
        return "no token_embd or output_norm in F32, F16 or BF16";
    }
    if (!out) out = embd;
    n_vocab = (int)embd->ne[1];
    of_layer = (size_t)n * (size_t)n_kv;
    x = (double *)malloc(sizeof(double) * (size_t)(2 * n_embd));
    h = x + n_embd;
    kv = (double *)malloc(sizeof(double) * (size_t)n_layer * of_layer * 2); /* [n_layer][2][n][n_kv] */
    for (pos = 0; pos < n && !why; pos++) {
        double *row = logits + (size_t)pos * (size_t)n_vocab;
        if (ids[pos] < 0 || ids[pos] >= n_vocab) {
            why = "a token id outside the vocabulary";
            break;
        }
        for (i = 0; i < n_embd; i++) x[i] = scale * embd->w[(size_t)ids[pos] * (size_t)n_embd + (size_t)i];
        for (il = 0; il < n_layer && !why; il++) why = naive_layer(f, il, pos, n, x, kv + (size_t)il * 2 * of_layer, kv + ((size_t)il * 2 + 1) * of_layer);
        naive_rms_norm(h, x, out_norm, n_embd, eps);
        naive_matvec(row, out, naive_tensor_of(f, -1, "output.bias"), 0, n_vocab, h, n_embd);
        for (i = 0; i < n_vocab; i++) row[i] = naive_cap(row[i] / logit_scale, cap);
    }
    free(x);
    free(kv);
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
