/* gguf: cuts GGUF files up and puts them together, changes their metadata, compares them.
 *
 *     cc -O2 -I. examples/gguf.c -o build/gguf -lm
 *     build/gguf split model.gguf part --max 2G            part-00001-of-00003.gguf ...
 *     build/gguf merge part-00001-of-00003.gguf model.gguf
 *     build/gguf set model.gguf general.name "A better name"
 *     build/gguf set model.gguf tokenizer.ggml.eos_token_id 7 --type u32
 *     build/gguf rm model.gguf tokenizer.chat_template
 *     build/gguf diff a.gguf b.gguf
 *
 * set and rm write the file anew, or with -o another one; tensors keep their bytes.  A key that is there keeps its type unless --type says another: u8 i8 u16 i16
 * u32 i32 u64 i64 f32 f64 bool string, or one of these with [] for an array, whose elements stand between commas (a backslash before a comma that is
 * none); a value that begins with - stands after --.  diff says what differs, one line each, and ends with status 1 if anything does. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"
#include "output.h"

enum { PIECE = 1 << 24 };

static const char *const type_names[SMOLQ_GGUF_TYPE_COUNT] = { "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64" };

/* ---- reading ---- */

static smolq_gguf *open_file(const char *path)
{
    smolq_gguf *g;
    smolq_error err;
    check(smolq_gguf_open(path, NULL, &g, &err), &err);
    return g;
}

static smolq_pair pair_at(const smolq_gguf *g, uint64_t i)
{
    smolq_pair pair;
    smolq_error err;
    check(smolq_gguf_pair(g, i, &pair, &err), &err);
    return pair;
}

static smolq_tensor_info tensor_at(const smolq_gguf *g, uint64_t i)
{
    smolq_tensor_info t;
    smolq_error err;
    check(smolq_gguf_tensor(g, i, &t, &err), &err);
    return t;
}

/* A name of the file as a C string, which the caller frees. */
static char *name_of(const char *name, size_t n)
{
    char *copy = (char *)need(n + 1, 1);
    memcpy(copy, name, n);
    return copy;
}

/* ---- writing ---- */

static int is_key(const char *key, const void *other) { return strcmp(key, (const char *)other) == 0; }

/* Tensors [from, to) and their bytes, which are mapped. */
static void put_tensors(const smolq_gguf *g, uint64_t from, uint64_t to)
{
    smolq_error err;
    uint64_t i, at;
    for (i = from; i < to; i++) {
        smolq_tensor_info t = tensor_at(g, i);
        check(smolq_gguf_add(out, &t, &err), &err);
    }
    for (i = from; i < to; i++) {
        smolq_tensor_info t = tensor_at(g, i);
        for (at = 0; at < t.bytes; at += PIECE) check(smolq_gguf_write(out, t.data + at, t.bytes - at < PIECE ? t.bytes - at : PIECE, &err), &err);
    }
}

/* ---- split, merge ---- */

static uint64_t parse_size(const char *text)
{
    char *unit;
    double n = strtod(text, &unit), times = 1;
    if (*unit && strchr("kK", *unit)) times = 1e3, unit++;
    else if (*unit && strchr("mM", *unit)) times = 1e6, unit++;
    else if (*unit && strchr("gG", *unit)) times = 1e9, unit++;
    if (unit == text || *unit || !(n * times >= 1) || n * times > 1e18) die("--max %s: expected a size such as 500M or 2G", text);
    return (uint64_t)(n * times);
}

/* Parts of at most so many bytes of tensors, or so many tensors, at least one each; the first has the metadata. */
static void split(const char *in, const char *prefix, const char *max, int most)
{
    smolq_gguf *g = open_file(in);
    uint64_t n = smolq_gguf_info(g)->n_tensors, limit = max ? parse_size(max) : UINT64_MAX, i, bytes, *first = (uint64_t *)need((size_t)n + 2, sizeof *first);
    int n_parts = 0, part;
    char *path = (char *)need(strlen(prefix) + 64, 1);
    if (!max && !most) die("split: how? --max BYTES or --tensors N");
    for (i = 0, bytes = 0; i < n; i++) {
        uint64_t more = tensor_at(g, i).bytes;
        if (i == 0 || bytes + more > limit || (most && i - first[n_parts - 1] == (uint64_t)most)) {
            first[n_parts++] = i;
            bytes = 0;
        }
        bytes += more;
    }
    if (n_parts == 0) n_parts = 1;
    if (n_parts > 65535) die("split: %d parts, at most 65535 can be", n_parts);
    first[n_parts] = n;
    for (part = 0; part < n_parts; part++) {
        snprintf(path, strlen(prefix) + 64, "%s-%05d-of-%05d.gguf", prefix, part + 1, n_parts);
        begin_output(path);
        if (part == 0) put_pairs_of(g, is_split_key, NULL);
        else if (smolq_gguf_info(g)->alignment != 32) put_int("general.alignment", SMOLQ_GGUF_U32, smolq_gguf_info(g)->alignment);
        put_int("split.no", SMOLQ_GGUF_U16, part);
        put_int("split.count", SMOLQ_GGUF_U16, n_parts);
        put_int("split.tensors.count", SMOLQ_GGUF_I32, (int64_t)n);
        put_tensors(g, first[part], first[part + 1]);
        end_output();
        printf("%s: %llu tensors\n", path, (unsigned long long)(first[part + 1] - first[part]));
    }
    free(path);
    free(first);
    smolq_gguf_close(g);
}

static void merge(const char *in, const char *path)
{
    smolq_gguf *g = open_file(in);
    begin_output(path);
    put_pairs_of(g, is_split_key, NULL);
    put_tensors(g, 0, smolq_gguf_info(g)->n_tensors);
    end_output();
    printf("%s: %llu tensors of %u part%s\n", path, (unsigned long long)smolq_gguf_info(g)->n_tensors, (unsigned)smolq_gguf_info(g)->n_parts,
           smolq_gguf_info(g)->n_parts == 1 ? "" : "s");
    smolq_gguf_close(g);
}

/* ---- set, rm ---- */

static const struct { int64_t least, most; } ranges[SMOLQ_GGUF_TYPE_COUNT] = { /* of the types that smolq_value has in i */
    { 0, UINT8_MAX }, { INT8_MIN, INT8_MAX }, { 0, UINT16_MAX }, { INT16_MIN, INT16_MAX }, { 0, UINT32_MAX }, { INT32_MIN, INT32_MAX }, { 0, 0 },
    { 0, 1 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { INT64_MIN, INT64_MAX }, { 0, 0 },
};

/* A number, a truth or a string; die()s when it is not of the type. */
static smolq_value parse_scalar(int32_t type, const char *text)
{
    smolq_value v = { 0 };
    char *after = NULL;
    v.type = type;
    errno = 0;
    if (type == SMOLQ_GGUF_STRING) {
        v.text = text;
        v.bytes = strlen(text);
        return v;
    }
    if (type == SMOLQ_GGUF_BOOL) {
        v.i = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
        if (!v.i && strcmp(text, "false") && strcmp(text, "0")) die("%s is neither true nor false", text);
        return v;
    }
    if (type == SMOLQ_GGUF_F32 || type == SMOLQ_GGUF_F64) v.f = strtod(text, &after);
    else if (type == SMOLQ_GGUF_U64) v.u = strtoull(text, &after, 0);
    else v.i = strtoll(text, &after, 0);
    if (after == text || *after || errno || (type == SMOLQ_GGUF_U64 && strchr(text, '-')) || v.i < ranges[type].least || v.i > ranges[type].most)
        die("%s is no %s", text, type_names[type]);
    return v;
}

/* Elements between commas, as the bytes of an array; the caller frees data. */
static smolq_value parse_array(int32_t type, const char *text)
{
    static const int sizes[SMOLQ_GGUF_TYPE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    size_t n = strlen(text), used = 0, length;
    unsigned char *data = (unsigned char *)need(n * 9 + 16, 1); /* no element has more than eight bytes before its text */
    char *element = (char *)need(n + 1, 1);
    smolq_value array = { 0 };
    int i;
    for (length = 0; n > 0; text++) {
        if (*text == '\\' && text[1] == ',') element[length++] = *++text;
        else if (*text && *text != ',') element[length++] = *text;
        else {
            smolq_value v;
            uint64_t bits;
            element[length] = 0;
            v = parse_scalar(type, element);
            bits = type == SMOLQ_GGUF_STRING ? length : type == SMOLQ_GGUF_U64 ? v.u : (uint64_t)v.i;
            if (type == SMOLQ_GGUF_F64) memcpy(&bits, &v.f, 8);
            if (type == SMOLQ_GGUF_F32) {
                float f = (float)v.f;
                uint32_t u;
                memcpy(&u, &f, 4);
                bits = u;
            }
            for (i = 0; i < (sizes[type] ? sizes[type] : 8); i++) data[used++] = (unsigned char)(bits >> i * 8);
            if (type == SMOLQ_GGUF_STRING) {
                memcpy(data + used, element, length);
                used += length;
            }
            array.n++;
            length = 0;
            if (!*text) break;
        }
    }
    free(element);
    array.type = SMOLQ_GGUF_ARRAY;
    array.element_type = type;
    array.data = data;
    array.data_bytes = used;
    return array;
}

static void set(const char *in, const char *key, const char *text, const char *type_name, const char *path)
{
    smolq_gguf *g = open_file(in);
    smolq_value v;
    int32_t type = -1;
    int is_array = 0, known = !smolq_gguf_find(g, key, &v, NULL), i;
    if (is_split_key(key, NULL)) die("set: %s belongs to the parts of a file; split and merge write it", key);
    if (type_name) {
        size_t n = strlen(type_name);
        is_array = n > 2 && strcmp(type_name + n - 2, "[]") == 0;
        for (i = 0; i < SMOLQ_GGUF_TYPE_COUNT; i++)
            if (i != SMOLQ_GGUF_ARRAY && strlen(type_names[i]) == n - (is_array ? 2 : 0) && strncmp(type_names[i], type_name, n - (is_array ? 2 : 0)) == 0) type = i;
        if (type < 0) die("--type %s: expected u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 bool string, or one with []", type_name);
    } else if (known) {
        is_array = v.type == SMOLQ_GGUF_ARRAY;
        type = is_array ? v.element_type : v.type;
        if (type == SMOLQ_GGUF_ARRAY) die("set: %s is an array of arrays", key);
    } else die("set: %s is not in the file: of what --type is it?", key);
    v = is_array ? parse_array(type, text) : parse_scalar(type, text);
    begin_output(path ? path : in);
    put_pairs_of(g, NULL, NULL);
    put_value(key, &v);
    put_tensors(g, 0, smolq_gguf_info(g)->n_tensors);
    end_output();
    if (is_array) free((void *)v.data);
    smolq_gguf_close(g);
}

static void rm(const char *in, const char *key, const char *path)
{
    smolq_gguf *g = open_file(in);
    smolq_value v;
    smolq_error err;
    check(smolq_gguf_find(g, key, &v, &err), &err);
    begin_output(path ? path : in);
    put_pairs_of(g, is_key, key);
    put_tensors(g, 0, smolq_gguf_info(g)->n_tensors);
    end_output();
    smolq_gguf_close(g);
}

/* ---- diff ---- */

static int same_value(const smolq_value *a, const smolq_value *b)
{
    if (a->type != b->type) return 0;
    if (a->type == SMOLQ_GGUF_ARRAY && (a->element_type != b->element_type || a->n != b->n)) return 0;
    return a->data_bytes == b->data_bytes && memcmp(a->data, b->data, (size_t)a->data_bytes) == 0;
}

/* What only one of them has is said by the side that has it: `sign` is - or +. */
static int diff_pairs(const smolq_gguf *a, const smolq_gguf *b, char sign)
{
    uint64_t i;
    int differences = 0;
    for (i = 0; i < smolq_gguf_info(a)->n_pairs; i++) {
        smolq_pair pair = pair_at(a, i);
        smolq_value other;
        char *key = name_of(pair.key, pair.key_bytes);
        if (smolq_gguf_find(b, key, &other, NULL)) printf("%c key %s\n", sign, key), differences++;
        else if (sign == '-' && !same_value(&pair.value, &other)) printf("! key %s\n", key), differences++;
        free(key);
    }
    return differences;
}

static int diff_tensors(const smolq_gguf *a, const smolq_gguf *b, char sign)
{
    uint64_t i, k;
    int differences = 0;
    for (i = 0; i < smolq_gguf_info(a)->n_tensors; i++) {
        smolq_tensor_info x = tensor_at(a, i), y;
        char *name = name_of(x.name, x.name_bytes);
        const smolq_type_facts *of_x = smolq_type_info(x.type), *of_y;
        if (smolq_gguf_find_tensor(b, name, &y, NULL)) printf("%c tensor %s\n", sign, name), differences++;
        else if (sign == '-') {
            of_y = smolq_type_info(y.type);
            if (memcmp(x.ne, y.ne, sizeof x.ne)) printf("! tensor %s: another shape\n", name), differences++;
            else if (x.type != y.type) printf("! tensor %s: %s, %s\n", name, of_x ? of_x->name : "?", of_y ? of_y->name : "?"), differences++;
            else if (memcmp(x.data, y.data, (size_t)x.bytes)) {
                for (k = 0; x.data[k] == y.data[k]; k++) {}
                printf("! tensor %s: byte %llu of %llu\n", name, (unsigned long long)k, (unsigned long long)x.bytes), differences++;
            }
        }
        free(name);
    }
    return differences;
}

static int diff(const char *path_a, const char *path_b)
{
    smolq_gguf *a = open_file(path_a), *b = open_file(path_b);
    int differences = diff_pairs(a, b, '-') + diff_pairs(b, a, '+') + diff_tensors(a, b, '-') + diff_tensors(b, a, '+');
    smolq_gguf_close(a);
    smolq_gguf_close(b);
    return differences;
}

int main(int argc, char **argv)
{
    const char *what = NULL, *file = NULL, *second = NULL, *third = NULL, *max = NULL, *type = NULL, *path = NULL;
    int most = 0, status = 0, n_operands;
    const option options[] = {
        { "WHAT",      NULL,    's', &what,   "split IN PREFIX, merge IN OUT, set FILE KEY VALUE, rm FILE KEY, diff A B" },
        { "FILE",      NULL,    's', &file,   "" },
        { "...",       NULL,    's', &second, "" },
        { "...",       NULL,    's', &third,  "" },
        { "--max",     "BYTES", 's', &max,    "split: at most so many bytes of tensors in a part; 500M, 2G" },
        { "--tensors", "N",     'i', &most,   "split: at most so many tensors in a part" },
        { "--type",    "TYPE",  's', &type,   "set: type of the value" },
        { "-o",        "OUT",   's', &path,   "set, rm: write this file instead" },
        { NULL, NULL, 0, NULL, NULL }
    };
    parse_options(argc, argv, "cuts GGUF files up and puts them together, changes their metadata, compares them", options);
    n_operands = !what ? 0 : !file ? 1 : !second ? 2 : !third ? 3 : 4;
    if (n_operands == 3 && strcmp(what, "split") == 0) split(file, second, max, most);
    else if (n_operands == 3 && strcmp(what, "merge") == 0) merge(file, second);
    else if (n_operands == 4 && strcmp(what, "set") == 0) set(file, second, third, type, path);
    else if (n_operands == 3 && strcmp(what, "rm") == 0) rm(file, second, path);
    else if (n_operands == 3 && strcmp(what, "diff") == 0) status = diff(file, second) != 0;
    else die("expected split IN PREFIX, merge IN OUT, set FILE KEY VALUE, rm FILE KEY or diff A B");
    finish();
    return status;
}
