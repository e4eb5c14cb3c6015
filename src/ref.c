/* ==== ref.c: the reference backend ==================================================================================
 * The plainest execution of a program: one function per operation, scalar, in the canonical order of docs/arithmetic.md, on the caller's
 * thread.  It is slow, and the judge of all other backends: their logits must have its bits.
 *
 * An operation is cut into units (a row of a matrix, a head, a token), so that an evaluation can stop after any of them. */
#pragma once
#include "program.c"

/* ---- products ---- */

enum { SMOLQ__TILE = 64 }; /* tokens that share one unpacked block */

/* Sixteen products, exact. */
static int32_t smolq__dot16(const int16_t *v, const int8_t *q)
{
    int32_t sum = 0, i;
    for (i = 0; i < 16; i++) sum += v[i] * q[i];
    return sum;
}

/* One block of weights times the activations of one token, added to acc (rules 3 and 4): integers exactly, then for each group
 * acc = fma(d * dx, isum, acc), then the minimums. */
static float smolq__dot_block(const smolq__ints *w, int32_t n_weights, const int8_t *q, const float *dx, const int16_t *sums, int32_t group, float acc)
{
    int32_t per_group = n_weights / w->n_groups, g, i;
    for (g = 0; g < w->n_groups; g++) {
        int32_t isum = 0, first = g * per_group;
        for (i = first; i < first + per_group; i += 16) isum += smolq__dot16(w->v + i, q + i);
        acc = smolq_fma(w->d[g] * dx[first / group], (float)isum, acc);
    }
    if (w->n_mins > 0) {
        int32_t per_min = n_weights / w->n_mins / 16, msum = 0, j;
        for (j = 0; j < w->n_mins; j++)
            for (i = 0; i < per_min; i++) msum += w->mins[j] * sums[j * per_min + i];
        acc = smolq_fma(w->dmin * dx[0], (float)msum, acc);
    }
    return acc;
}

/* Row of a quantized tensor times up to SMOLQ__TILE rows of int8 activations: y[t]. */
static void smolq__dot_quantized(const smolq__type *type, const uint8_t *row, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float *y)
{
    int32_t group = type->facts.group, weights = type->facts.block_weights, b, t;
    uint64_t at_d = smolq_a8_d(n_cols), at_sums = smolq_a8_sums(n_cols, group);
    smolq__ints ints;
    for (t = 0; t < n_x; t++) y[t] = 0;
    for (b = 0; b < n_cols / weights; b++) {
        int32_t first = b * weights;
        type->ints(row + (size_t)b * (size_t)type->facts.block_bytes, &ints);
        for (t = 0; t < n_x; t++)
            y[t] = smolq__dot_block(&ints, weights, (const int8_t *)x[t] + first, (const float *)(const void *)(x[t] + at_d) + first / group,
                                    (const int16_t *)(const void *)(x[t] + at_sums) + first / 16, group, y[t]);
    }
}

/* Dot product of floats (rule 5): 16 lanes, element i in lane i mod 16, folded 8, 4, 2, 1. */
static float smolq__dot_floats(const float *a, const float *b, int32_t n)
{
    float lane[16] = { 0 };
    int32_t i, j;
    for (i = 0; i + 16 <= n; i += 16)
        for (j = 0; j < 16; j++) lane[j] = smolq_fma(a[i + j], b[i + j], lane[j]);
    for (j = 0; i + j < n; j++) lane[j] = smolq_fma(a[i + j], b[i + j], lane[j]);
    return smolq_fold(lane, 16);
}

/* Row of a float tensor times rows of floats; unpacked in pieces of 256, so that lanes go on through the whole row. */
static void smolq__dot_float_rows(const smolq__type *type, const uint8_t *row, int32_t n_cols, const uint8_t *const *x, int32_t n_x, float *y)
{
    float lanes[SMOLQ__TILE][16], w[256];
    int32_t first, i, t, n;
    memset(lanes, 0, sizeof lanes);
    for (first = 0; first < n_cols; first += 256) {
        n = n_cols - first < 256 ? n_cols - first : 256;
        smolq__unpack_row(type, row + (size_t)first * (size_t)type->facts.block_bytes, w, n);
        for (t = 0; t < n_x; t++) {
            const float *xt = (const float *)(const void *)x[t] + first;
            for (i = 0; i < n; i++) lanes[t][i & 15] = smolq_fma(w[i], xt[i], lanes[t][i & 15]);
        }
    }
    for (t = 0; t < n_x; t++) y[t] = smolq_fold(lanes[t], 16);
}

static void smolq__dot_rows(const smolq_tensor *w, const uint8_t *row, const uint8_t *const *x, int32_t n_x, float *y)
{
    const smolq__type *type = smolq__type_of(w->type);
    if (type->ints) smolq__dot_quantized(type, row, w->n_cols, x, n_x, y);
    else smolq__dot_float_rows(type, row, w->n_cols, x, n_x, y);
}

/* Rule 6: activation(gate) * up. */
static float smolq__gated(int32_t kind, float gate, float up)
{
    if (kind == SMOLQ_GATE_SILU) return smolq_mul(smolq_silu(gate), up);
    if (kind == SMOLQ_GATE_GELU) return smolq_mul(smolq_gelu(gate), up);
    gate = gate > 7.0f ? 7.0f : gate; /* OAI: gate up to 7, up within -7..7; gate * sigmoid(1.702 gate) * (up + 1) */
    up = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
    return smolq_mul(gate / (1.0f + smolq_exp(smolq_mul(-1.702f, gate))), up + 1.0f);
}

/* Unit: one row of one part's matrix, for all tokens. */
static void smolq__ref_matmul(smolq_run *run, const smolq_op *op, int32_t n_rows, uint64_t unit)
{
    const smolq_op_part *part = op->part;
    const uint8_t *x[SMOLQ__TILE];
    float y[SMOLQ__TILE];
    int32_t row = (int32_t)unit, first, t, n;
    for (; row >= part->w->n_rows; part++) row -= part->w->n_rows;
    for (first = 0; first < n_rows; first += n) {
        n = n_rows - first < SMOLQ__TILE ? n_rows - first : SMOLQ__TILE;
        for (t = 0; t < n; t++) x[t] = smolq_row(run, part->in, first + t);
        smolq__dot_rows(part->w, part->w->data + (uint64_t)row * part->w->row_bytes, x, n, y);
        for (t = 0; t < n; t++) {
            float *out = (float *)(void *)smolq_row(run, part->out, first + t) + row;
            if (part->bias) y[t] += part->bias[row];
            *out = part->gate ? smolq__gated(part->gate, *out, y[t]) : part->add != 0 ? smolq_fma(part->add, y[t], *out) : y[t];
        }
    }
}

/* Unit: one row of one part's matrix of one chosen expert, for one token. */
static void smolq__ref_matmul_experts(smolq_run *run, const smolq_op *op, uint64_t unit, uint64_t units_per_pick)
{
    const smolq_op_part *part = op->part;
    int32_t n_used = run->program->n_expert_used, pick = (int32_t)(unit / units_per_pick), token = pick / n_used, slot = pick % n_used;
    int32_t row = (int32_t)(unit % units_per_pick), expert;
    const uint8_t *x;
    float *out;
    for (; row >= part->w->n_rows; part++) row -= part->w->n_rows;
    expert = ((const int32_t *)(const void *)smolq_row(run, SMOLQ_BUF_PICKS, token))[slot];
    x = smolq_row(run, part->in, token);
    if (op->n_seg > 1) {
        const smolq__type *type = smolq__type_of(part->w->type);
        x += (uint64_t)slot * (type->ints ? smolq_a8_bytes(part->w->n_cols, type->facts.group) : (uint64_t)part->w->n_cols * 4);
    }
    out = (float *)(void *)smolq_row(run, part->out, token) + (size_t)slot * (size_t)part->w->n_rows + row;
    smolq__dot_rows(part->w, part->w->data + (uint64_t)expert * part->w->expert_bytes + (uint64_t)row * part->w->row_bytes, &x, 1, out);
    if (part->bias) *out += part->bias[(size_t)expert * (size_t)part->w->n_rows + (size_t)row];
}

/* ---- the other operations; unit: one token ---- */

static void smolq__ref_embed(smolq_run *run, const smolq_op *op, int32_t row)
{
    const smolq_tensor *w = op->table;
    float *x = (float *)(void *)smolq_row(run, op->out, row);
    int32_t i;
    smolq__unpack_row(smolq__type_of(w->type), w->data + (uint64_t)run->token[row] * w->row_bytes, x, w->n_cols);
    if (op->scale != 1.0f)
        for (i = 0; i < w->n_cols; i++) x[i] = smolq_mul(x[i], op->scale);
}

/* RMSNorm (Zhang and Sennrich 2019; rule 6): 64 lanes for the sum of squares, s = 1 / sqrt(ss / n + eps), y = (x * s) * w. */
static void smolq__ref_norm(smolq_run *run, const smolq_op *op, int32_t row)
{
    const float *x = (const float *)(const void *)smolq_row(run, op->in, row);
    float *y = (float *)(void *)smolq_row(run, op->out, row);
    int32_t seg, i;
    for (seg = 0; seg < op->n_seg; seg++, x += op->n, y += op->n) {
        float lane[64] = { 0 }, s;
        for (i = 0; i < op->n; i++) lane[i & 63] = smolq_fma(x[i], x[i], lane[i & 63]);
        s = 1.0f / smolq_sqrt(smolq_fold(lane, 64) / (float)op->n + op->eps);
        for (i = 0; i < op->n; i++) {
            float normed = smolq_mul(smolq_mul(x[i], s), op->w[i]);
            y[i] = op->add ? y[i] + normed : normed;
        }
    }
}

/* int8 activations (rule 2): per group d = amax / 127, q = nearest(x * (127 / amax)). */
static int smolq__quantize_row(const float *x, uint8_t *out, int32_t n, int32_t group)
{
    int8_t *q = (int8_t *)out;
    float *d = (float *)(void *)(out + smolq_a8_d(n));
    int16_t *sums = (int16_t *)(void *)(out + smolq_a8_sums(n, group));
    int32_t g, i, finite = 1;
    for (g = 0; g < n / group; g++, x += group, q += group) {
        float amax = 0, id;
        for (i = 0; i < group; i++) {
            float a = smolq_from_bits(smolq_bits(x[i]) & 0x7fffffffu);
            if (!smolq_is_finite(x[i])) finite = 0;
            if (a > amax) amax = a;
        }
        if (!finite || amax < 7.888609052210118e-31f) amax = 0; /* 2^-100: 127 / amax would overflow */
        d[g] = amax / 127.0f;
        id = amax > 0 ? 127.0f / amax : 0.0f;
        for (i = 0; i < group; i++) {
            int32_t r = finite ? smolq_rne(smolq_mul(x[i], id)) : 0;
            q[i] = (int8_t)(r > 127 ? 127 : r < -127 ? -127 : r);
        }
        for (i = 0; i < group / 16; i++) {
            int32_t sum = 0, j;
            for (j = 0; j < 16; j++) sum += q[16 * i + j];
            *sums++ = (int16_t)sum;
        }
    }
    return finite;
}

static void smolq__ref_quantize(smolq_run *run, const smolq_op *op, int32_t row)
{
    const float *x = (const float *)(const void *)smolq_row(run, op->in, row);
    uint8_t *out = smolq_row(run, op->out, row);
    int32_t seg;
    for (seg = 0; seg < op->n_seg; seg++, x += op->n, out += smolq_a8_bytes(op->n, op->group))
        if (!smolq__quantize_row(x, out, op->n, op->group)) run->numeric = 1;
}

/* RoPE (rule 8): (a, b) -> (a c - b s, a s + b c), one rounding for the first product and the sum, one for the other product. */
static void smolq__ref_rope(smolq_run *run, const smolq_op *op, int32_t row)
{
    float *x = (float *)(void *)smolq_row(run, op->in, row);
    const float *c = (const float *)(const void *)smolq_row(run, op->angles, row), *s = c + op->n_rot / 2;
    int32_t half = op->n_rot / 2, head, i;
    int32_t step = op->rope == SMOLQ_ROPE_PAIRS ? 2 : 1, apart = op->rope == SMOLQ_ROPE_PAIRS ? 1 : half;
    for (head = 0; head < op->n_seg; head++, x += op->n)
        for (i = 0; i < half; i++) {
            float a = x[i * step], b = x[i * step + apart];
            x[i * step] = smolq_fma(a, c[i], -smolq_mul(b, s[i]));
            x[i * step + apart] = smolq_fma(a, s[i], smolq_mul(b, c[i]));
        }
}

/* ---- KV cache and attention ---- */

/* Writes the n numbers of a head into a cell; 0 if one is, or becomes in f16, NaN or infinite: the cache must not carry that into later evaluations. */
static int smolq__kv_write(int32_t type, const float *x, uint8_t *cell, int32_t n)
{
    int32_t i, g;
    int finite = 1;
    for (i = 0; i < n; i++) finite &= smolq_is_finite(x[i]);
    if (type == SMOLQ_TYPE_F32) memcpy(cell, x, (size_t)n * 4);
    else if (type == SMOLQ_TYPE_F16) {
        for (i = 0; i < n; i++) {
            uint16_t h = smolq_f32_to_f16(x[i]);
            finite &= (h & 0x7c00) != 0x7c00;
            cell[2 * i] = (uint8_t)h;
            cell[2 * i + 1] = (uint8_t)(h >> 8);
        }
    } else if (finite) { /* q8_0: as the activations of rule 3 in groups of 32, the scale rounded to f16 */
        for (g = 0; g < n / 32; g++, x += 32, cell += 34) {
            float amax = 0, id;
            uint16_t d;
            for (i = 0; i < 32; i++) {
                float a = smolq_from_bits(smolq_bits(x[i]) & 0x7fffffffu);
                if (a > amax) amax = a;
            }
            if (amax < 7.888609052210118e-31f) amax = 0;
            id = amax > 0 ? 127.0f / amax : 0.0f;
            d = smolq_f32_to_f16(amax / 127.0f);
            finite &= (d & 0x7c00) != 0x7c00;
            cell[0] = (uint8_t)d;
            cell[1] = (uint8_t)(d >> 8);
            for (i = 0; i < 32; i++) {
                int32_t q = smolq_rne(smolq_mul(x[i], id));
                cell[2 + i] = (uint8_t)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
            }
        }
    }
    return finite;
}

static void smolq__ref_kv_store(smolq_run *run, const smolq_op *op, int32_t row)
{
    const smolq_kv_layer *kv = &run->kv[row][op->layer];
    const float *k = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_K, row), *v = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_V, row);
    uint64_t cell = (uint64_t)(run->position[row] % kv->n_cells);
    int32_t head;
    for (head = 0; head < op->n_head_kv; head++, k += op->n, v += op->n) {
        uint64_t at = ((uint64_t)head * (uint64_t)kv->n_cells + cell) * kv->head_row_bytes;
        if (!smolq__kv_write(kv->type, k, kv->k + at, op->n) || !smolq__kv_write(kv->type, v, kv->v + at, op->n)) run->numeric = 1;
    }
}

enum { SMOLQ__KEYS_PER_BLOCK = 64, SMOLQ__MAX_HEAD = 1024 };

static const uint8_t *smolq__kv_cell(const smolq_kv_layer *kv, const uint8_t *head, int32_t position) { return head + (uint64_t)(position % kv->n_cells) * kv->head_row_bytes; }

/* Attention of one head of one token (rule 9): keys in blocks of 64 absolute positions, each with its own maximum, sum and output, merged left to right
 * (online softmax, Milakov and Gimelshein 2018); a window begins inside a block; a sink (Xiao et al. 2023) comes last and has no value. */
static void smolq__ref_attention(smolq_run *run, const smolq_op *op, int32_t row, int32_t head)
{
    const smolq_kv_layer *kv = &run->kv[row][op->layer];
    const smolq__type *type = smolq__type_of(kv->type);
    const float *q = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_Q, row) + (size_t)head * (size_t)op->n;
    float *out = (float *)(void *)smolq_row(run, SMOLQ_BUF_ATT, row) + (size_t)head * (size_t)op->n;
    uint64_t head_at = (uint64_t)(head / (op->n_head / op->n_head_kv)) * (uint64_t)kv->n_cells * kv->head_row_bytes;
    float scale = op->heated ? smolq_mul(op->scale, *(const float *)(const void *)smolq_row(run, SMOLQ_BUF_HEAT, row)) : op->scale;
    int32_t end = run->position[row] + 1, begin = op->window && end > op->window ? end - op->window : 0, block, first, last, k, d;
    float best = 0, total = 0, p[SMOLQ__KEYS_PER_BLOCK], o[SMOLQ__MAX_HEAD], x[SMOLQ__MAX_HEAD];

    for (block = begin - begin % SMOLQ__KEYS_PER_BLOCK; block < end; block += SMOLQ__KEYS_PER_BLOCK) {
        float block_best, lane[16] = { 0 }, block_total;
        first = block > begin ? 0 : begin - block;
        last = end - block < SMOLQ__KEYS_PER_BLOCK ? end - block : SMOLQ__KEYS_PER_BLOCK;
        for (k = first; k < last; k++) {
            smolq__unpack_row(type, smolq__kv_cell(kv, kv->k + head_at, block + k), x, op->n);
            p[k] = smolq_cap(smolq_mul(smolq__dot_floats(q, x, op->n), scale), op->cap);
        }
        block_best = p[first];
        for (k = first; k < last; k++) block_best = p[k] > block_best ? p[k] : block_best;
        for (k = first; k < last; k++) {
            p[k] = smolq_exp(p[k] - block_best);
            lane[k & 15] += p[k];
        }
        block_total = smolq_fold(lane, 16);
        for (d = 0; d < op->n; d++) o[d] = 0;
        for (k = first; k < last; k++) {
            smolq__unpack_row(type, smolq__kv_cell(kv, kv->v + head_at, block + k), x, op->n);
            for (d = 0; d < op->n; d++) o[d] = smolq_fma(p[k], x[d], o[d]);
        }
        if (block <= begin) {
            best = block_best;
            total = block_total;
            for (d = 0; d < op->n; d++) out[d] = o[d];
        } else {
            float new_best = block_best > best ? block_best : best, keep = smolq_exp(best - new_best), take = smolq_exp(block_best - new_best);
            total = smolq_fma(total, keep, smolq_mul(block_total, take));
            for (d = 0; d < op->n; d++) out[d] = smolq_fma(out[d], keep, smolq_mul(o[d], take));
            best = new_best;
        }
    }
    if (op->w) {
        float new_best = op->w[head] > best ? op->w[head] : best, keep = smolq_exp(best - new_best);
        total = smolq_fma(total, keep, smolq_exp(op->w[head] - new_best));
        total = keep / total;
    } else {
        total = 1.0f / total;
    }
    for (d = 0; d < op->n; d++) out[d] = smolq_mul(out[d], total);
}

/* ---- rows that want logits, feed-forward, experts ---- */

static void smolq__ref_gather(smolq_run *run, const smolq_op *op)
{
    int32_t i;
    for (i = 0; i < run->n_out; i++)
        if (run->out_row[i] != i) memcpy(smolq_row(run, op->in, i), smolq_row(run, op->in, run->out_row[i]), (size_t)op->n * 4);
}

static void smolq__ref_glu(smolq_run *run, const smolq_op *op, int32_t row)
{
    float *gate = (float *)(void *)smolq_row(run, SMOLQ_BUF_GATE, row);
    const float *up = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_UP, row);
    int32_t i;
    for (i = 0; i < op->n; i++) gate[i] = smolq__gated(op->gate, gate[i], up[i]);
}

/* p = softmax of n numbers in place: the best first subtracted, the sum in 16 lanes. */
static void smolq__softmax_row(float *p, int32_t n)
{
    float best = p[0], lane[16] = { 0 }, total;
    int32_t i;
    for (i = 0; i < n; i++) best = p[i] > best ? p[i] : best;
    for (i = 0; i < n; i++) {
        p[i] = smolq_exp(p[i] - best);
        lane[i & 15] += p[i];
    }
    total = smolq_fold(lane, 16);
    for (i = 0; i < n; i++) p[i] /= total;
}

/* The best n_expert_used of the router's logits in falling order (ties: the lower number), with softmax before the choice or over the chosen. */
static void smolq__ref_route(smolq_run *run, const smolq_op *op, int32_t row)
{
    float *p = (float *)(void *)smolq_row(run, SMOLQ_BUF_ROUTER, row), total = 0;
    int32_t *picks = (int32_t *)(void *)smolq_row(run, SMOLQ_BUF_PICKS, row), n = run->program->n_expert, n_used = run->program->n_expert_used, s, i;
    float *weights = (float *)(void *)(picks + n_used);
    for (i = 0; i < n; i++)
        if (!smolq_is_finite(p[i])) run->numeric = 1;
    if (op->router == SMOLQ_ROUTER_ALL) smolq__softmax_row(p, n);
    for (s = 0; s < n_used; s++) {
        int32_t pick = 0;
        for (i = 1; i < n; i++)
            if (p[i] > p[pick]) pick = i;
        picks[s] = pick;
        weights[s] = p[pick];
        p[pick] = -3.40282347e38f;
    }
    if (op->router == SMOLQ_ROUTER_CHOSEN) smolq__softmax_row(weights, n_used);
    if (op->renormalize) {
        for (s = 0; s < n_used; s++) total += weights[s];
        total = total > 6.103515625e-5f ? total : 6.103515625e-5f;
        for (s = 0; s < n_used; s++) weights[s] /= total;
    }
    for (s = 0; s < n_used; s++) weights[s] = smolq_mul(weights[s], op->scale);
}

static void smolq__ref_combine(smolq_run *run, const smolq_op *op, int32_t row)
{
    const float *down = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_DOWN, row);
    const float *weights = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_PICKS, row) + run->program->n_expert_used;
    float *x = (float *)(void *)smolq_row(run, op->out, row);
    int32_t i, s;
    for (i = 0; i < op->n; i++) {
        float sum = 0;
        for (s = 0; s < run->program->n_expert_used; s++) sum = smolq_fma(weights[s], down[(size_t)s * (size_t)op->n + (size_t)i], sum);
        x[i] = smolq_fma(op->scale, sum, x[i]);
    }
}

static void smolq__ref_add_shared(smolq_run *run, const smolq_op *op, int32_t row)
{
    const float *down = (const float *)(const void *)smolq_row(run, SMOLQ_BUF_DOWN, row);
    float weight = 1.0f / (1.0f + smolq_exp(-*(const float *)(const void *)smolq_row(run, SMOLQ_BUF_SHARED, row)));
    float *x = (float *)(void *)smolq_row(run, op->out, row);
    int32_t i;
    for (i = 0; i < op->n; i++) x[i] = smolq_fma(op->scale, smolq_mul(weight, down[i]), x[i]);
}

static void smolq__ref_cap(smolq_run *run, const smolq_op *op, int32_t row)
{
    float *x = (float *)(void *)smolq_row(run, op->in, row);
    int32_t i;
    for (i = 0; i < op->n; i++) x[i] = smolq_cap(smolq_mul(x[i], op->scale), op->cap);
}

/* ---- walking the program ---- */

static uint64_t smolq__ref_units(const smolq_run *run, const smolq_op *op, uint64_t n_rows, uint64_t *matrix_rows)
{
    int32_t i;
    *matrix_rows = 0;
    for (i = 0; i < op->n_parts; i++) *matrix_rows += (uint64_t)op->part[i].w->n_rows;
    switch (op->kind) {
    case SMOLQ_OP_MATMUL:         return n_rows ? *matrix_rows : 0;
    case SMOLQ_OP_MATMUL_EXPERTS: return n_rows * (uint64_t)run->program->n_expert_used * *matrix_rows;
    case SMOLQ_OP_ATTENTION:      return n_rows * (uint64_t)op->n_head;
    case SMOLQ_OP_GATHER:         return 1;
    default:                      return n_rows;
    }
}

static smolq_result smolq__ref_run(void *state, smolq_run *run, smolq_error *err)
{
    (void)state;
    (void)err;
    for (; run->op < run->end_op; run->op++, run->unit = 0) {
        const smolq_op *op = &run->program->ops[run->op];
        int32_t n_rows = op->selected ? run->n_out : run->n_rows;
        uint64_t matrix_rows, n_units = smolq__ref_units(run, op, (uint64_t)n_rows, &matrix_rows);
        for (; run->unit < n_units; run->unit++) {
            int32_t row = (int32_t)run->unit;
            if (run->pause && run->pause(run->user)) return SMOLQ_OK;
            switch (op->kind) {
            case SMOLQ_OP_EMBED:          smolq__ref_embed(run, op, row);      break;
            case SMOLQ_OP_NORM:           smolq__ref_norm(run, op, row);       break;
            case SMOLQ_OP_QUANTIZE:       smolq__ref_quantize(run, op, row);   break;
            case SMOLQ_OP_MATMUL:         smolq__ref_matmul(run, op, n_rows, run->unit); break;
            case SMOLQ_OP_ROPE:           smolq__ref_rope(run, op, row);       break;
            case SMOLQ_OP_KV_STORE:       smolq__ref_kv_store(run, op, row);   break;
            case SMOLQ_OP_ATTENTION:      smolq__ref_attention(run, op, row / op->n_head, row % op->n_head); break;
            case SMOLQ_OP_GATHER:         smolq__ref_gather(run, op);          break;
            case SMOLQ_OP_GLU:            smolq__ref_glu(run, op, row);        break;
            case SMOLQ_OP_ROUTE:          smolq__ref_route(run, op, row);      break;
            case SMOLQ_OP_MATMUL_EXPERTS: smolq__ref_matmul_experts(run, op, run->unit, matrix_rows); break;
            case SMOLQ_OP_COMBINE:        smolq__ref_combine(run, op, row);    break;
            case SMOLQ_OP_ADD_SHARED:     smolq__ref_add_shared(run, op, row); break;
            default:                      smolq__ref_cap(run, op, row);        break;
            }
        }
    }
    return SMOLQ_OK;
}

static smolq_result smolq__ref_open(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err)
{
    (void)options;
    (void)err;
    *state = NULL;
    snprintf(report, report_bytes, "ref: plain C on the caller's thread");
    return SMOLQ_OK;
}
static void smolq__ref_close(void *state) { (void)state; }

static const smolq_backend smolq__ref_backend = {
    SMOLQ_CONTRACT, SMOLQ_CONTRACT_SIZES, SMOLQ_CANONICAL, "ref", smolq__ref_open, smolq__ref_close, NULL, NULL, NULL, smolq__ref_run, NULL
};
SMOLQ_API const smolq_backend *smolq_backend_ref(void) { return &smolq__ref_backend; }
