/* A device with memory of its own, for machines without one: the reference backend behind a wall.
 *
 *     options.backend = far_backend();     far.limit = 1 << 20;     far.fail_at = far.n_calls + 3;
 *
 * Its memory is ours, but it goes by addresses of pages that nobody can touch, so whoever uses one of them directly crashes; load, run and copy translate.
 * Weights are copied when a model opens, and the operations before the first one it has loaded are made unusable.  It counts bytes, calls and what is open,
 * can be short of memory, and can fail any one call, after it has done the half or all of the work.  Broken promises of the caller end the program.
 *
 * near_backend() is the reference backend with a scratch and with acquire and release: for the layers that stay on the host.
 * Include it after smolq.h with SMOLQ_BACKEND or SMOLQ_IMPLEMENTATION. */
#ifndef SMOLQ_FAR_H
#define SMOLQ_FAR_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct far_block {
    struct far_block *next;
    uint8_t          *wall, *real; /* the address that the caller knows, and the bytes behind it */
    uint64_t          bytes;
} far_block;

static struct far_world {
    uint64_t   limit, used;        /* bytes; limit 0: as much as there is */
    long       n_calls, fail_at;   /* of all functions that can fail; the number of the call that does */
    smolq_result fail_with;        /* 0: SMOLQ_E_DEVICE */
    int        n_open, n_loads, n_blocks, n_allocs; /* open devices, loaded models, blocks now; blocks ever */
    int        n_taken, n_near_taken, busy;         /* evaluations at work; busy: acquire refuses who does not wait */
    int        canonical_off;      /* computes a little wrong: the self-test must see it */
    int        slow_us;            /* a run takes so long to begin */
    long       n_answers;          /* rows of logits that stayed */
    far_block *blocks;
} far;

static void far_insist(int promise, const char *what)
{
    if (promise) return;
    fprintf(stderr, "far: %s\n", what);
    abort();
}

static int far_fails(void) { return ++far.n_calls == far.fail_at; }
static smolq_result far_error(smolq_error *err, const char *what)
{
    smolq_result code = far.fail_with ? far.fail_with : SMOLQ_E_DEVICE;
    if (err) {
        err->code = code;
        snprintf(err->text, sizeof err->text, "far: %s was told to fail", what);
    }
    return code;
}

static far_block *far_block_of(const uint8_t *p)
{
    far_block *b = far.blocks;
    while (b && !(p >= b->wall && p < b->wall + b->bytes)) b = b->next;
    return b;
}
/* The bytes behind an address of the device. */
static uint8_t *far_real(const uint8_t *p, uint64_t bytes)
{
    far_block *b = far_block_of(p);
    far_insist(b != NULL, "an address of the host where one of the device is expected");
    far_insist(bytes <= b->bytes - (uint64_t)(p - b->wall), "bytes beyond the end of a block");
    return b->real + (p - b->wall);
}
static uint8_t *far_any(const uint8_t *p, uint64_t bytes) { return far_block_of(p) ? far_real(p, bytes) : (uint8_t *)(uintptr_t)p; }

/* ---- memory ---- */

static uint64_t far_available(void *state)
{
    (void)state;
    if (far_fails()) return 0;
    return far.limit == 0 ? (uint64_t)1 << 40 : far.limit > far.used ? far.limit - far.used : 0;
}
static smolq_result far_take(uint64_t bytes, smolq_error *err)
{
    if (far.limit && (far.used > far.limit || bytes > far.limit - far.used)) {
        if (err) {
            err->code = SMOLQ_E_MEMORY;
            snprintf(err->text, sizeof err->text, "far: out of memory");
        }
        return SMOLQ_E_MEMORY;
    }
    far.used += bytes;
    return SMOLQ_OK;
}

static smolq_result far_alloc(void *state, uint64_t bytes, uint8_t **p, smolq_error *err)
{
    far_block *b;
    void *wall;
    (void)state;
    if (far_fails()) return far_error(err, "alloc");
    if (far_take(bytes, err)) return SMOLQ_E_MEMORY;
    b = (far_block *)malloc(sizeof *b);
    wall = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    far_insist(b && wall != MAP_FAILED && bytes, "no memory for a block");
    b->wall = (uint8_t *)wall;
    b->bytes = bytes;
    far_insist(posix_memalign((void **)&b->real, 256, (size_t)bytes) == 0, "no memory for a block");
    memset(b->real, 0xff, (size_t)bytes); /* NaN in every float type */
    b->next = far.blocks;
    far.blocks = b;
    far.n_blocks++;
    far.n_allocs++;
    *p = b->wall;
    return SMOLQ_OK;
}
static void far_free(void *state, uint8_t *p)
{
    far_block **at = &far.blocks, *b;
    (void)state;
    while (*at && (*at)->wall != p) at = &(*at)->next;
    b = *at;
    far_insist(b != NULL, "free of what is no block");
    *at = b->next;
    far.used -= b->bytes;
    far.n_blocks--;
    munmap(b->wall, (size_t)b->bytes);
    free(b->real);
    free(b);
}
static smolq_result far_copy(void *state, uint8_t *to, const uint8_t *from, uint64_t bytes, smolq_error *err)
{
    int fails = far_fails();
    (void)state;
    if (bytes) memcpy(far_any(to, bytes), far_any(from, bytes), (size_t)(fails ? (bytes + 1) / 2 : bytes));
    return fails ? far_error(err, "copy") : SMOLQ_OK;
}

/* ---- weights ---- */

/* What the operations from first_op on read, each once: tensors by their struct, vectors by their first number. */
typedef struct far_piece { const void *key, *data; uint64_t bytes; uint8_t *copy; smolq_tensor tensor; } far_piece;
typedef struct far_loaded {
    far_piece    *piece;
    int           n_pieces;
    uint64_t      bytes;
    smolq_program program;
    smolq_op     *op;      /* [n_ops] */
    uint32_t      first_op;
} far_loaded;

static far_piece *far_find(far_loaded *l, const void *key)
{
    int i;
    for (i = 0; i < l->n_pieces && l->piece[i].key != key; i++) {}
    return i < l->n_pieces ? &l->piece[i] : NULL;
}
static void far_list(far_loaded *l, const void *key, const void *data, uint64_t bytes)
{
    far_piece *piece;
    if (!key || far_find(l, key)) return;
    piece = &l->piece[l->n_pieces++];
    memset(piece, 0, sizeof *piece);
    piece->key = key;
    piece->data = data;
    piece->bytes = bytes;
    l->bytes += bytes;
}
static void far_list_tensor(far_loaded *l, const smolq_tensor *w)
{
    if (!w) return;
    far_list(l, w, w->data, w->expert_bytes * (uint64_t)w->n_experts);
    far_find(l, w)->tensor = *w;
}
static void far_list_all(far_loaded *l, const smolq_program *program, int32_t first_op)
{
    int32_t i, k;
    memset(l, 0, sizeof *l);
    l->first_op = (uint32_t)first_op;
    l->piece = (far_piece *)calloc((size_t)program->n_ops * 8, sizeof *l->piece);
    far_insist(l->piece != NULL, "no memory");
    for (i = first_op; i < program->n_ops; i++) {
        const smolq_op *op = &program->ops[i];
        far_list_tensor(l, op->table);
        far_list(l, op->w, op->w, 4 * (uint64_t)(op->kind == SMOLQ_OP_NORM ? op->n : op->n_head));
        for (k = 0; k < op->n_parts; k++) {
            far_list_tensor(l, op->part[k].w);
            far_list(l, op->part[k].bias, op->part[k].bias, 4 * (uint64_t)op->part[k].w->n_rows * (uint64_t)op->part[k].w->n_experts);
        }
    }
}
static uint64_t far_load_bytes(void *state, const smolq_program *program, int32_t first_op)
{
    far_loaded l;
    (void)state;
    far_list_all(&l, program, first_op);
    free(l.piece);
    return l.bytes;
}

static void far_drop(far_loaded *l)
{
    int i;
    for (i = 0; i < l->n_pieces; i++) free(l->piece[i].copy);
    far.used -= l->bytes;
    free(l->piece);
    free(l->op);
    free(l);
}
static void far_unload(void *state, void *loaded)
{
    (void)state;
    far_insist(loaded != NULL, "unload of nothing");
    far_drop((far_loaded *)loaded);
    far.n_loads--;
}

/* The program with our copies in it. */
static void far_translate(far_loaded *l, const smolq_program *program)
{
    int32_t i, k;
    l->program = *program;
    l->op = (smolq_op *)malloc((size_t)program->n_ops * sizeof *l->op);
    far_insist(l->op != NULL, "no memory");
    memcpy(l->op, program->ops, (size_t)program->n_ops * sizeof *l->op);
    memset(l->op, 0xff, l->first_op * sizeof *l->op);
    l->program.ops = l->op;
    for (i = (int32_t)l->first_op; i < program->n_ops; i++) {
        smolq_op *op = &l->op[i];
        if (op->table) op->table = &far_find(l, op->table)->tensor;
        if (op->w) op->w = (const float *)(const void *)far_find(l, op->w)->copy;
        for (k = 0; k < op->n_parts; k++) {
            op->part[k].w = &far_find(l, op->part[k].w)->tensor;
            if (op->part[k].bias) op->part[k].bias = (const float *)(const void *)far_find(l, op->part[k].bias)->copy;
        }
    }
}

static smolq_result far_load(void *state, const smolq_program *program, int32_t first_op, smolq_progress_fn progress, void *user, void **loaded, smolq_error *err)
{
    far_loaded *l;
    int fails = far_fails(), i;
    (void)state;
    l = (far_loaded *)malloc(sizeof *l);
    far_insist(l != NULL, "no memory");
    far_list_all(l, program, first_op);
    if (far_take(l->bytes, err)) {
        l->bytes = 0;
        far_drop(l);
        return SMOLQ_E_MEMORY;
    }
    for (i = 0; i < l->n_pieces; i++) {
        far_piece *piece = &l->piece[i];
        smolq_result result = SMOLQ_OK;
        piece->copy = (uint8_t *)malloc((size_t)piece->bytes);
        far_insist(piece->copy != NULL, "no memory");
        memcpy(piece->copy, piece->data, (size_t)piece->bytes);
        piece->tensor.data = piece->copy;
        if (fails && i == l->n_pieces / 2) result = far_error(err, "load");
        else if (progress && progress(user, (float)(i + 1) / (float)l->n_pieces)) {
            result = SMOLQ_E_CANCELLED;
            if (err) {
                err->code = result;
                snprintf(err->text, sizeof err->text, "far: the progress hook stopped the load");
            }
        }
        if (result) {
            far_drop(l);
            return result;
        }
    }
    far_translate(l, program);
    far.n_loads++;
    *loaded = l;
    return SMOLQ_OK;
}

/* ---- runs ---- */

static uint64_t far_scratch(void *state, const smolq_program *program, int32_t n_batch)
{
    (void)state;
    return (uint64_t)n_batch * (uint64_t)program->n_embd + 4;
}

/* Of numbers x[n] / divide (x as it is where divide is 0) the k best, of equals the first; how many there are that are not -infinity or NaN. */
static int32_t far_best(const float *x, int32_t n, const smolq_top *top, int32_t *id, float *best)
{
    int32_t n_found = 0, i, at;
    for (i = 0; i < n; i++) {
        float y = top->divide != 0 ? x[i] / top->divide : x[i];
        if (!(y >= -3.40282347e38f)) continue;
        for (at = n_found; at > 0 && y > best[at - 1]; at--) {
            if (at == top->k) continue;
            best[at] = best[at - 1];
            id[at] = id[at - 1];
        }
        if (at == top->k) continue;
        best[at] = y;
        id[at] = i;
        if (n_found < top->k) n_found++;
    }
    return n_found;
}

/* Answers what is asked about the logits, and spoils those that the caller must not read. */
static void far_answer(smolq_run *run)
{
    int32_t n_vocab = run->program->n_vocab, row, i;
    for (row = 0; row < run->n_out; row++) {
        smolq_top *top = run->top ? run->top[row] : NULL;
        if (!top) continue;
        far_insist(top->n == 0 && top->k >= 1 && top->k <= SMOLQ_TOP_MOST && top->k <= n_vocab && top->divide >= 0, "a question that nobody may ask");
        for (i = 0; i < n_vocab; i++)
            if (!smolq_is_finite(run->logits[row][i])) run->numeric = 1;
        if (far_best(run->logits[row], n_vocab, top, top->id, top->logit) < top->k || !smolq_is_finite(top->logit[0])) continue;
        top->n = top->k;
        far.n_answers++;
        memset(run->logits[row], 0xff, (size_t)n_vocab * sizeof *run->logits[row]);
    }
}

static smolq_result far_run(void *state, smolq_run *run, smolq_error *err)
{
    const far_loaded *l = (const far_loaded *)run->loaded;
    int32_t n_layer = run->program->n_layer, first_layer, i, row;
    uint64_t scratch_bytes = far_scratch(state, run->program, run->n_rows);
    smolq_kv_layer *cache;
    const smolq_kv_layer **row_kv;
    smolq_run mine = *run;
    smolq_result result;
    int fails = far_fails();
    far_insist(far.n_taken > 0, "a run on a device that nobody has taken");
    far_insist(l && run->op >= l->first_op && run->end_op <= (uint32_t)run->program->n_ops, "operations that were not loaded");
    far_insist((uintptr_t)run->scratch % 64 == 0, "a scratch that is not aligned");
    memset(far_real(run->scratch, scratch_bytes), 0x5a, (size_t)scratch_bytes);
    mine.program = &l->program;
    for (i = 0; i < SMOLQ_BUF_COUNT; i++) {
        uint64_t bytes = run->program->row_bytes[i] * (uint64_t)run->n_rows;
        if (!bytes) mine.buffer[i] = NULL;
        else if (smolq_is_host_buffer(i)) far_insist(!far_block_of(run->buffer[i]), "a buffer of the host in the device's memory");
        else mine.buffer[i] = far_real(run->buffer[i], bytes);
    }
    first_layer = l->op[l->first_op].kind == SMOLQ_OP_EMBED ? 0 : l->op[l->first_op].layer < 0 ? n_layer : l->op[l->first_op].layer;
    cache = (smolq_kv_layer *)calloc((size_t)run->n_rows * (size_t)n_layer + 1, sizeof *cache);
    row_kv = (const smolq_kv_layer **)calloc((size_t)run->n_rows + 1, sizeof *row_kv);
    far_insist(cache && row_kv, "no memory");
    for (row = 0; row < run->n_rows; row++) {
        smolq_kv_layer *kv = cache + (size_t)row * (size_t)n_layer;
        row_kv[row] = kv;
        for (i = 0; i < n_layer; i++) {
            kv[i] = run->kv[row][i];
            if (i < first_layer) kv[i].k = kv[i].v = NULL;
            else {
                kv[i].k = far_real(kv[i].k, (uint64_t)kv[i].n_cells * kv[i].head_row_bytes);
                kv[i].v = far_real(kv[i].v, (uint64_t)kv[i].n_cells * kv[i].head_row_bytes);
            }
        }
    }
    mine.kv = row_kv;
    mine.scratch = NULL;
    if (far.slow_us) usleep((useconds_t)far.slow_us);
    result = smolq_backend_ref()->run(NULL, &mine, err);
    if (far.canonical_off) ((float *)(void *)mine.buffer[SMOLQ_BUF_ATT])[1] *= 1.0000002f;
    free(cache);
    free(row_kv);
    if (fails) return far_error(err, "run");
    run->op = mine.op;
    run->unit = mine.unit;
    run->numeric = mine.numeric;
    if (run->op == (uint32_t)run->program->n_ops) far_answer(run);
    return result;
}

static smolq_result far_open(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err)
{
    (void)options;
    if (far_fails()) return far_error(err, "open");
    *state = &far;
    far.n_open++;
    snprintf(report, report_bytes, "far: memory of its own");
    return SMOLQ_OK;
}
static void far_close(void *state)
{
    (void)state;
    far.n_open--;
}
static smolq_result far_acquire(void *state, int32_t no_wait, smolq_error *err)
{
    (void)state;
    if (far_fails()) return far_error(err, "acquire");
    if (far.busy && no_wait) {
        if (err) {
            err->code = SMOLQ_E_BUSY;
            snprintf(err->text, sizeof err->text, "far: busy");
        }
        return SMOLQ_E_BUSY;
    }
    far.n_taken++;
    return SMOLQ_OK;
}
static void far_release(void *state)
{
    (void)state;
    far_insist(far.n_taken-- > 0, "release of a device that nobody has taken");
}

static const smolq_backend *far_backend(void)
{
    static const smolq_backend_memory memory = { far_load_bytes, far_load, far_unload, far_available, far_alloc, far_free, far_copy };
    static const smolq_backend backend = {
        SMOLQ_CONTRACT, SMOLQ_CONTRACT_SIZES, SMOLQ_CANONICAL, "far", far_open, far_close, far_acquire, far_release, far_scratch, far_run, &memory
    };
    return &backend;
}

/* ---- the host beside it ---- */

static smolq_result near_open(const smolq_device_options *options, void **state, char *report, size_t report_bytes, smolq_error *err)
{
    smolq_result result = far_open(options, state, report, report_bytes, err);
    if (result == SMOLQ_OK) snprintf(report, report_bytes, "near: memory of the host");
    return result;
}
static smolq_result near_acquire(void *state, int32_t no_wait, smolq_error *err)
{
    (void)state;
    (void)no_wait;
    if (far_fails()) return far_error(err, "acquire");
    far.n_near_taken++;
    return SMOLQ_OK;
}
static void near_release(void *state)
{
    (void)state;
    far_insist(far.n_near_taken-- > 0, "release of a host that nobody has taken");
}
static smolq_result near_run(void *state, smolq_run *run, smolq_error *err)
{
    uint64_t scratch_bytes = far_scratch(state, run->program, run->n_rows);
    far_insist(far.n_near_taken > 0, "a run on a host that nobody has taken");
    far_insist(!far_block_of(run->scratch) && (uintptr_t)run->scratch % 64 == 0 && !run->loaded, "a run of the host with the device's memory");
    memset(run->scratch, 0x5a, (size_t)scratch_bytes);
    if (far_fails()) return far_error(err, "run");
    return smolq_backend_ref()->run(NULL, run, err);
}

static const smolq_backend *near_backend(void)
{
    static const smolq_backend backend = {
        SMOLQ_CONTRACT, SMOLQ_CONTRACT_SIZES, SMOLQ_CANONICAL, "near", near_open, far_close, near_acquire, near_release, far_scratch, near_run, NULL
    };
    return &backend;
}
#endif
