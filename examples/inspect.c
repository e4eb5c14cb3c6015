/* inspect: what is in a GGUF file, a model or not.
 *
 *     cc -O2 -I. examples/inspect.c -o build/inspect -lm
 *     build/inspect examples/models/smolq-tales.Q4_K_M.gguf
 *     build/inspect examples/models/smolq-tales.Q4_K_M.gguf --tensor output_norm.weight
 *
 * At a glance: family, layers, heads, memory, whether this build can run it, and a census of the tensor types; then all metadata and tensors.
 * The file may be anyone's: whatever it says is escaped before it is printed.  --json prints the same as one JSON object: bytes that are not
 * UTF-8 become U+FFFD there, numbers that are not finite become null, and of an array stand its length and its first elements. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"

enum { SHOWN = 16 }; /* elements of an array */

static const char *const value_types[SMOLQ_GGUF_TYPE_COUNT] = { "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                                 "bool", "string", "array", "u64", "i64", "f64" };

/* ---- JSON: `sep` is what stands before the next value ---- */

static const char *sep = "";

static void json_text(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i, length;
    printf("%s\"", sep);
    for (i = 0; i < n; i += length ? length : 1) {
        length = utf8_length(p + i, n - i);
        if (length == 0) printf("\\ufffd");
        else if (p[i] == '"' || p[i] == '\\') printf("\\%c", p[i]);
        else if (p[i] < 0x20 || p[i] == 0x7f) printf("\\u%04x", p[i]);
        else fwrite(p + i, 1, length, stdout);
    }
    putchar('"');
    sep = ", ";
}
static void json_open(char bracket)  { printf("%s%c", sep, bracket); sep = ""; }
static void json_close(char bracket) { putchar(bracket); sep = ", "; }
static void json_key(const char *key, size_t n) { json_text(key, n); sep = ": "; }
static void json_word(const char *word) { printf("%s%s", sep, word); sep = ", "; }
static void json_number(uint64_t n)     { printf("%s%llu", sep, (unsigned long long)n); sep = ", "; }

/* As few digits as read back as the same f32 or f64. */
static const char *decimal(char *text, size_t size, double value, int32_t type)
{
    int digits;
    if (!isfinite(value)) return isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    for (digits = 6; digits <= 17; digits++) {
        double back;
        snprintf(text, size, "%.*g", digits, value);
        back = strtod(text, NULL);
        if (type == SMOLQ_GGUF_F32 ? (float)back == (float)value : back == value) break;
    }
    return text;
}
static void json_float(double value)
{
    char text[40];
    json_word(isfinite(value) ? decimal(text, sizeof text, value, SMOLQ_GGUF_F64) : "null");
}

#define KEY_TEXT(key, text)     do { json_key(key, strlen(key)); json_text(text, strlen(text)); } while (0)
#define KEY_NUMBER(key, number) do { json_key(key, strlen(key)); json_number((uint64_t)(number)); } while (0)
#define KEY_FLOAT(key, number)  do { json_key(key, strlen(key)); json_float(number); } while (0)

/* ---- metadata ---- */

/* A value on one line; arrays hold arrays to a small depth. */
static void print_value(const smolq_value *v, int json, int depth)
{
    char text[40];
    uint64_t i, cursor = 0;
    if (v->type == SMOLQ_GGUF_STRING) {
        if (json) json_text(v->text, v->bytes);
        else show_text(v->text, v->bytes, depth ? 24 : 96);
    } else if (v->type == SMOLQ_GGUF_ARRAY) {
        const char *of = v->element_type >= 0 && v->element_type < SMOLQ_GGUF_TYPE_COUNT ? value_types[v->element_type] : "?";
        uint64_t shown = depth > 4 ? 0 : v->n < (json ? SHOWN : 5) ? v->n : (json ? SHOWN : 5);
        if (json) {
            json_open('{');
            KEY_TEXT("array", of);
            KEY_NUMBER("n", v->n);
            json_key("first", 5);
            json_open('[');
        } else printf("[%llu %s] ", (unsigned long long)v->n, of);
        for (i = 0; i < shown; i++) {
            smolq_value element;
            if (smolq_gguf_element(v, i, &cursor, &element, NULL)) break;
            if (!json && i) printf(", ");
            print_value(&element, json, depth + 1);
        }
        if (json) {
            json_close(']');
            json_close('}');
        } else if (shown < v->n) printf(", ...");
    } else {
        if (v->type == SMOLQ_GGUF_BOOL) snprintf(text, sizeof text, "%s", v->i ? "true" : "false");
        else if (v->type == SMOLQ_GGUF_U64) snprintf(text, sizeof text, "%llu", (unsigned long long)v->u);
        else if (v->type == SMOLQ_GGUF_F32 || v->type == SMOLQ_GGUF_F64) {
            const char *number = decimal(text, sizeof text, v->f, v->type);
            if (number != text) snprintf(text, sizeof text, "%s", json ? "null" : number);
        } else snprintf(text, sizeof text, "%lld", (long long)v->i);
        if (json) json_word(text);
        else printf("%s", text);
    }
}

/* ---- tensors ---- */

static const char *type_name(int32_t type, char *buf, size_t size)
{
    const smolq_type_facts *facts = smolq_type_info(type);
    if (facts) return facts->name;
    snprintf(buf, size, "type %d", (int)type);
    return buf;
}

static uint64_t n_weights(const smolq_tensor_info *t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }

static void print_tensor(const smolq_tensor_info *t, int json)
{
    char buf[24], shape[96];
    int i, n = 0;
    for (i = 0; i < t->n_dims; i++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%llu", i == 0 ? "" : json ? ", " : " x ", (unsigned long long)t->ne[i]);
    if (t->n_dims == 0) snprintf(shape, sizeof shape, json ? "" : "scalar");
    if (json) {
        json_key("name", 4);
        json_text(t->name, t->name_bytes);
        KEY_TEXT("type", type_name(t->type, buf, sizeof buf));
        json_key("shape", 5);
        printf("%s[%s]", sep, shape);
        sep = ", ";
        KEY_NUMBER("bytes", t->bytes);
        KEY_NUMBER("offset", t->offset);
        KEY_NUMBER("part", t->part);
    } else {
        printf("  %-8s %-24s %12llu  ", type_name(t->type, buf, sizeof buf), shape, (unsigned long long)t->bytes);
        show_text(t->name, t->name_bytes, 64);
        putchar('\n');
    }
}

typedef struct census { int32_t type; uint64_t tensors, weights, bytes; } census;

/* Counts the tensors of each type, those with most bytes first; returns how many types there are, at most `most`. */
static size_t take_census(const smolq_gguf *gguf, census *table, size_t most)
{
    size_t n = 0, j;
    uint64_t i;
    for (i = 0; i < smolq_gguf_info(gguf)->n_tensors; i++) {
        smolq_tensor_info t;
        smolq_error err;
        check(smolq_gguf_tensor(gguf, i, &t, &err), &err);
        for (j = 0; j < n && table[j].type != t.type; j++) {}
        if (j == most) continue;
        if (j == n) table[n++].type = t.type;
        table[j].tensors++;
        table[j].weights += n_weights(&t);
        table[j].bytes += t.bytes;
        for (; j > 0 && table[j].bytes > table[j - 1].bytes; j--) {
            census up = table[j];
            table[j] = table[j - 1];
            table[j - 1] = up;
        }
    }
    return n;
}

static double bits_per_weight(uint64_t bytes, uint64_t weights) { return weights ? (double)bytes * 8 / (double)weights : 0; }

/* ---- one tensor: its numbers ---- */

typedef struct statistics { double least, most, sum, squares; uint64_t n, zeros, odd; float first[8]; } statistics;

/* Unpacks the tensor piece by piece, into the statistics and, if there is one, into the file. */
static void read_tensor(const smolq_gguf *gguf, const smolq_tensor_info *t, statistics *s, FILE *out, const char *path)
{
    enum { PIECE = 1 << 16 }; /* weights: a multiple of every block */
    const smolq_type_facts *facts = smolq_type_info(t->type);
    uint64_t per_block = (uint64_t)facts->block_weights, block = (uint64_t)facts->block_bytes, done = 0, all = n_weights(t), i;
    unsigned char *blocks = (unsigned char *)need(PIECE, 8), *bytes = (unsigned char *)need(PIECE, 4);
    float *values = (float *)need(PIECE, sizeof *values);
    smolq_error err;
    while (done < all) {
        uint64_t n = all - done < PIECE ? all - done : PIECE;
        check(smolq_gguf_read(gguf, t, done / per_block * block, blocks, (size_t)(n / per_block * block), &err), &err);
        check(smolq_unpack(t->type, blocks, values, (size_t)n, &err), &err);
        for (i = 0; i < n; i++) {
            double v = values[i];
            if (done + i < 8) s->first[done + i] = values[i];
            if (!isfinite(v)) {
                s->odd++;
                continue;
            }
            if (s->n == 0 || v < s->least) s->least = v;
            if (s->n == 0 || v > s->most) s->most = v;
            s->sum += v;
            s->squares += v * v;
            s->zeros += v == 0;
            s->n++;
        }
        float_bytes(values, (size_t)n, bytes);
        if (out && fwrite(bytes, 4, (size_t)n, out) != n) {
            if (out != stdout) remove(path);
            die("can't write %s: %s", path, strerror(errno));
        }
        done += n;
    }
    free(values);
    free(bytes);
    free(blocks);
}

static void show_tensor(const smolq_gguf *gguf, const char *name, const char *dump, int json)
{
    smolq_tensor_info t;
    smolq_error err;
    statistics s = { 0 };
    double mean, rms;
    int to_stdout = dump && strcmp(dump, "-") == 0, i;
    FILE *out = NULL;
    check(smolq_gguf_find_tensor(gguf, name, &t, &err), &err);
    check(smolq_unpack(t.type, "", NULL, 0, &err), &err); /* can this type be unpacked at all? */
    if (dump) out = to_stdout ? stdout : fopen(dump, "wb");
    if (dump && !out) die("can't write %s: %s", dump, strerror(errno));
    if (out) binary(out);
    read_tensor(gguf, &t, &s, out, to_stdout ? "the output" : dump);
    if (to_stdout) return;
    if (out && fclose(out)) die("can't write %s: %s", dump, strerror(errno));
    mean = s.n ? s.sum / (double)s.n : 0;
    rms = s.n ? sqrt(s.squares / (double)s.n) : 0;
    if (json) {
        json_open('{');
        print_tensor(&t, 1);
        KEY_FLOAT("least", s.least);
        KEY_FLOAT("most", s.most);
        KEY_FLOAT("mean", mean);
        KEY_FLOAT("rms", rms);
        KEY_NUMBER("zeros", s.zeros);
        KEY_NUMBER("not_finite", s.odd);
        json_key("first", 5);
        json_open('[');
        for (i = 0; i < 8 && (uint64_t)i < s.n + s.odd; i++) json_float(s.first[i]);
        json_close(']');
        json_close('}');
        putchar('\n');
    } else {
        char text[40];
        print_tensor(&t, 0);
        printf("  from %g to %g, mean %g, root mean square %g; ", s.least, s.most, mean, rms);
        printf("%llu zeros, %llu not finite\n  ", (unsigned long long)s.zeros, (unsigned long long)s.odd);
        for (i = 0; i < 8 && (uint64_t)i < s.n + s.odd; i++) printf(" %s", decimal(text, sizeof text, s.first[i], SMOLQ_GGUF_F32));
        printf("%s\n", s.n + s.odd > 8 ? " ..." : "");
    }
}

/* ---- the whole file ---- */

/* n_ctx of a context with default options, which is what smolq_probe reckons with */
static int default_context(const smolq_info *info) { return info->n_ctx_train > 0 && info->n_ctx_train < 4096 ? info->n_ctx_train : 4096; }

/* Value of a key that holds text, empty if there is none. */
static smolq_value text_of(const smolq_gguf *gguf, const char *key)
{
    smolq_value value;
    if (smolq_gguf_find(gguf, key, &value, NULL) || value.type != SMOLQ_GGUF_STRING) {
        memset(&value, 0, sizeof value);
        value.text = "";
    }
    return value;
}

static void show_glance(const char *path, const smolq_gguf *gguf, const smolq_info *info, const census *types, size_t n_types)
{
    const smolq_gguf_facts *facts = smolq_gguf_info(gguf);
    smolq_value model = text_of(gguf, "tokenizer.ggml.model"), pre = text_of(gguf, "tokenizer.ggml.pre"), tokens;
    uint64_t weights = 0;
    char buf[24];
    amount a, b;
    size_t i;
    for (i = 0; i < n_types; i++) weights += types[i].weights;
    printf("%s\n  ", path);
    if (*info->name) show_text(info->name, strlen(info->name), 64);
    if (*info->family) {
        printf(*info->name ? ", family " : "family ");
        show_text(info->family, strlen(info->family), 32);
    }
    if (*info->name || *info->family) printf(": ");
    printf("%.2f million parameters in %llu tensors, ", (double)weights / 1e6, (unsigned long long)facts->n_tensors);
    printf("%s (%.2f bits per weight)\n", in_mib(&a, facts->tensor_bytes), bits_per_weight(facts->tensor_bytes, weights));
    if (info->n_layer) {
        printf("  %d layers, width %d, %d heads of %d, %d KV heads, ", info->n_layer, info->n_embd, info->n_head, info->head_dim, info->n_head_kv);
        printf("feed-forward %d, context %d", info->n_ff, info->n_ctx_train);
        printf(info->n_expert ? ", %d experts (%d at a time)\n" : "\n", info->n_expert, info->n_expert_used);
    }
    if (model.bytes && !smolq_gguf_find(gguf, "tokenizer.ggml.tokens", &tokens, NULL)) {
        printf("  tokenizer ");
        show_text(model.text, model.bytes, 32);
        printf(pre.bytes ? " / " : "");
        show_text(pre.text, pre.bytes, 32);
        printf(", %llu tokens\n", (unsigned long long)tokens.n);
    }
    if (info->context_bytes) {
        printf("  memory: %s mapped from the file, ", in_mib(&a, facts->file_bytes));
        printf("%s for a context of %d\n", in_mib(&b, info->context_bytes), default_context(info));
    }
    if (info->runnable) printf("  this build can run it\n");
    else {
        printf("  this build can't run it: ");
        show_text(info->reason, strlen(info->reason), 256);
        putchar('\n');
    }
    printf("  GGUF version %u, %u part%s, ", (unsigned)facts->version, (unsigned)facts->n_parts, facts->n_parts == 1 ? "" : "s");
    printf("alignment %u, %s\n\n", (unsigned)facts->alignment, in_mib(&a, facts->file_bytes));
    printf("  type     tensors       weights         bytes  share  bits/weight\n");
    for (i = 0; i < n_types; i++) {
        const census *c = &types[i];
        printf("  %-8s %7llu ", type_name(c->type, buf, sizeof buf), (unsigned long long)c->tensors);
        printf("%13llu %13llu ", (unsigned long long)c->weights, (unsigned long long)c->bytes);
        printf("%4.0f %% %12.4f\n", (double)c->bytes * 100 / (double)(facts->tensor_bytes ? facts->tensor_bytes : 1), bits_per_weight(c->bytes, c->weights));
    }
}

static void show_glance_json(const char *path, const smolq_gguf *gguf, const smolq_info *info, const census *types, size_t n_types)
{
    const smolq_gguf_facts *facts = smolq_gguf_info(gguf);
    smolq_value model = text_of(gguf, "tokenizer.ggml.model"), pre = text_of(gguf, "tokenizer.ggml.pre"), tokens;
    uint64_t weights = 0;
    char buf[24];
    size_t i;
    for (i = 0; i < n_types; i++) weights += types[i].weights;
    KEY_TEXT("file", path);
    KEY_TEXT("format", "gguf");
    KEY_NUMBER("version", facts->version);
    KEY_NUMBER("alignment", facts->alignment);
    KEY_NUMBER("parts", facts->n_parts);
    KEY_NUMBER("file_bytes", facts->file_bytes);
    KEY_NUMBER("header_bytes", facts->header_bytes);
    KEY_NUMBER("tensor_bytes", facts->tensor_bytes);
    KEY_NUMBER("n_tensors", facts->n_tensors);
    KEY_NUMBER("n_parameters", weights);
    KEY_FLOAT("bits_per_weight", bits_per_weight(facts->tensor_bytes, weights));
    KEY_TEXT("name", info->name);
    KEY_TEXT("family", info->family);
    KEY_NUMBER("n_layer", info->n_layer);
    KEY_NUMBER("n_embd", info->n_embd);
    KEY_NUMBER("n_head", info->n_head);
    KEY_NUMBER("n_head_kv", info->n_head_kv);
    KEY_NUMBER("head_dim", info->head_dim);
    KEY_NUMBER("n_ff", info->n_ff);
    KEY_NUMBER("n_expert", info->n_expert);
    KEY_NUMBER("n_expert_used", info->n_expert_used);
    KEY_NUMBER("n_ctx_train", info->n_ctx_train);
    KEY_NUMBER("context_tokens", info->context_bytes ? default_context(info) : 0);
    KEY_NUMBER("context_bytes", info->context_bytes);
    json_key("runnable", 8);
    json_word(info->runnable ? "true" : "false");
    KEY_TEXT("reason", info->reason);
    json_key("tokenizer", 9);
    json_open('{');
    json_key("model", 5);
    json_text(model.text, model.bytes);
    json_key("pre", 3);
    json_text(pre.text, pre.bytes);
    KEY_NUMBER("n_tokens", smolq_gguf_find(gguf, "tokenizer.ggml.tokens", &tokens, NULL) ? 0 : tokens.n);
    json_close('}');
    json_key("types", 5);
    json_open('{');
    for (i = 0; i < n_types; i++) {
        const char *name = type_name(types[i].type, buf, sizeof buf);
        json_key(name, strlen(name));
        json_open('{');
        KEY_NUMBER("tensors", types[i].tensors);
        KEY_NUMBER("weights", types[i].weights);
        KEY_NUMBER("bytes", types[i].bytes);
        KEY_FLOAT("bits_per_weight", bits_per_weight(types[i].bytes, types[i].weights));
        json_close('}');
    }
    json_close('}');
}

static void show_file(const char *path, const smolq_gguf *gguf, int json)
{
    const smolq_gguf_facts *facts = smolq_gguf_info(gguf);
    census types[64] = { { 0, 0, 0, 0 } };
    size_t n_types = take_census(gguf, types, 64);
    smolq_info info = { 0 };
    smolq_error err = { 0, "" };
    uint64_t i;
    if (smolq_probe(path, NULL, &info, &err)) snprintf(info.reason, sizeof info.reason, "%s", err.text);
    if (json) {
        json_open('{');
        show_glance_json(path, gguf, &info, types, n_types);
        json_key("metadata", 8);
        json_open('{');
    } else {
        show_glance(path, gguf, &info, types, n_types);
        printf("\n  metadata: %llu pairs\n", (unsigned long long)facts->n_pairs);
    }
    for (i = 0; i < facts->n_pairs; i++) {
        smolq_pair pair;
        check(smolq_gguf_pair(gguf, i, &pair, &err), &err);
        if (json) {
            json_key(pair.key, pair.key_bytes);
            print_value(&pair.value, 1, 0);
        } else {
            printf("  %-6s ", value_types[pair.value.type]);
            show_text(pair.key, pair.key_bytes, 96);
            printf(" = ");
            print_value(&pair.value, 0, 0);
            putchar('\n');
        }
    }
    if (json) {
        json_close('}');
        json_key("tensors", 7);
        json_open('[');
    } else printf("\n  tensors: %llu\n  type     shape                           bytes  name\n", (unsigned long long)facts->n_tensors);
    for (i = 0; i < facts->n_tensors; i++) {
        smolq_tensor_info tensor;
        check(smolq_gguf_tensor(gguf, i, &tensor, &err), &err);
        if (json) json_open('{');
        print_tensor(&tensor, json);
        if (json) json_close('}');
    }
    if (json) {
        json_close(']');
        json_close('}');
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    const char *path = NULL, *tensor = NULL, *dump = NULL;
    int json = 0;
    const option options[] = {
        { "FILE",     NULL,   's', &path,   "a GGUF file; of a split one the first part" },
        { "--json",   NULL,   'b', &json,   "print a JSON object" },
        { "--tensor", "NAME", 's', &tensor, "show this tensor" },
        { "--dump",   "OUT",  's', &dump,   "write its values to this file, or to standard output (-): raw little-endian f32" },
        { NULL, NULL, 0, NULL, NULL }
    };
    smolq_gguf *gguf;
    smolq_error err;
    parse_options(argc, argv, "what is in a GGUF file", options);
    if (!path) die("no file: say which; --help lists the options");
    if (dump && !tensor) die("--dump needs --tensor NAME");
    check(smolq_gguf_open(path, NULL, &gguf, &err), &err);
    if (tensor) show_tensor(gguf, tensor, dump, json);
    else show_file(path, gguf, json);
    smolq_gguf_close(gguf);
    return finish();
}
