/* smq: GGUF files as SMQ files, which open in milliseconds and have checksums; and back.
 *
 *     cc -O2 -I. -DSMQ_WITH_JANSSON examples/smq.c -o build/smq -lm -ljansson
 *     build/smq pack model.gguf model.smq
 *     build/smq unpack model.smq model.gguf       the GGUF file that was packed, byte for byte
 *     build/smq verify model.smq                  every checksum, and the tables of the tokenizer against the metadata
 *     build/smq verify model.smq --tensors        the tensors alone, twice: pages of the file come in at the first time
 *     build/smq info model.smq --tensors
 *
 * info and unpack read SMQ files of version 1 too (SMQv0001, of the SmallMind project), with their values as they are: see smq_v1.h.  Without jansson
 * (Debian: libjansson-dev) and -DSMQ_WITH_JANSSON all but those are as they should be. */
#define SMOLQ_IMPLEMENTATION
#include "smolq.h"
#include "common.h"
#include "output.h"
#include "smq_v1.h"

static double begun_ms;
static int show(void *note, float part)
{
    static int shown = -1;
    if ((int)(part * 200) == shown && part < 1) return 0;
    shown = (int)(part * 200);
    show_progress(part, 0, begun_ms, (const char *)note);
    return 0;
}

static smolq_gguf *open_file(const char *path)
{
    smolq_gguf *g;
    smolq_error err;
    check(smolq_gguf_open(path, NULL, &g, &err), &err);
    return g;
}

static smolq_smq_options with_progress(const char *note)
{
    smolq_smq_options options = { 0 };
    options.progress = show;
    options.user = (void *)note;
    begun_ms = now_ms();
    return options;
}

static void pack(const char *in, const char *path)
{
    smolq_gguf *g = open_file(in);
    smolq_smq_options options = with_progress(file_name(path));
    smolq_error err;
    check(smolq_smq_pack(g, path, &options, &err), &err);
    smolq_gguf_close(g);
    g = open_file(path);
    printf("%s: %llu tensors, %llu bytes\n", path, (unsigned long long)smolq_gguf_info(g)->n_tensors, (unsigned long long)smolq_gguf_info(g)->file_bytes);
    smolq_gguf_close(g);
}

static void unpack(const char *in, const char *path)
{
    smolq_gguf *g;
    smolq_smq_options options = with_progress(file_name(path));
    smolq_smq_facts facts = { 0 };
    smolq_error err;
    if (is_v1(in)) {
        unpack_v1(in, path);
        return;
    }
    g = open_file(in);
    check(smolq_smq_unpack(g, path, &options, &err), &err);
    check(smolq_smq_info(g, &facts, &err), &err);
    printf("%s: %llu bytes, XXH64 %016llx\n", path, (unsigned long long)facts.gguf_bytes, (unsigned long long)facts.gguf_checksum);
    smolq_gguf_close(g);
}

static void verify(const char *in)
{
    smolq_gguf *g = open_file(in);
    smolq_smq_options options = with_progress(file_name(in));
    smolq_error err;
    check(smolq_smq_verify(g, &options, &err), &err);
    printf("%s: whole, %llu tensors, %.1f GB/s\n", in, (unsigned long long)smolq_gguf_info(g)->n_tensors, (double)smolq_gguf_info(g)->file_bytes / 1e6 / (now_ms() - begun_ms));
    smolq_gguf_close(g);
}

/* Says how fast checksums are: of a mapping's fresh pages, and of memory. */
static void verify_tensors(const char *in)
{
    smolq_gguf *g = open_file(in);
    uint64_t i, n = smolq_gguf_info(g)->n_tensors;
    double rate[2];
    int turn;
    for (turn = 0; turn < 2; turn++) {
        begun_ms = now_ms();
        for (i = 0; i < n; i++) {
            smolq_error err;
            check(smolq_smq_verify_tensor(g, i, &err), &err);
        }
        rate[turn] = (double)smolq_gguf_info(g)->tensor_bytes / 1e6 / (now_ms() - begun_ms);
    }
    printf("%s: %llu whole tensors, %.1f GB/s, again %.1f GB/s\n", in, (unsigned long long)n, rate[0], rate[1]);
    smolq_gguf_close(g);
}

static void list_tensors(const smolq_gguf *g)
{
    uint64_t i, sum;
    int d;
    for (i = 0; i < smolq_gguf_info(g)->n_tensors; i++) {
        smolq_tensor_info t;
        smolq_error err;
        check(smolq_gguf_tensor(g, i, &t, &err), &err);
        check(smolq_smq_checksum(g, i, &sum, &err), &err);
        printf("%016llx %12llu %11llu  %-7s ", (unsigned long long)sum, (unsigned long long)t.offset, (unsigned long long)t.bytes, smolq_type_info(t.type)->name);
        show_text(t.name, t.name_bytes, t.name_bytes);
        for (d = 0; d < t.n_dims; d++) printf("%s%llu", d ? " x " : "  ", (unsigned long long)t.ne[d]);
        putchar('\n');
    }
}

static void info(const char *in, int tensors)
{
    smolq_gguf *g;
    const smolq_gguf_facts *f;
    smolq_smq_facts facts = { 0 };
    smolq_error err;
    amount a, b;
    if (is_v1(in)) {
        info_v1(in, tensors);
        return;
    }
    g = open_file(in);
    f = smolq_gguf_info(g);
    check(smolq_smq_info(g, &facts, &err), &err);
    printf("container   SMQ %u.%u, %s\n", (unsigned)facts.major, (unsigned)facts.minor, in_mib(&a, f->file_bytes));
    printf("holds       GGUF %u of %s, %llu keys, %llu tensors, XXH64 %016llx\n", (unsigned)f->version, in_mib(&a, facts.gguf_bytes), (unsigned long long)f->n_pairs,
           (unsigned long long)f->n_tensors, (unsigned long long)facts.gguf_checksum);
    printf("metadata    %s\n", in_mib(&a, facts.metadata_bytes));
    printf("vocabulary  %s\n", !facts.vocab_bytes ? "none" : facts.has_tables ? in_mib(&b, facts.vocab_bytes) : "of another version, made anew when the file opens");
    if (facts.gap_bytes) printf("gaps        %s that no tensor has\n", in_mib(&a, facts.gap_bytes));
    if (tensors) list_tensors(g);
    smolq_gguf_close(g);
}

int main(int argc, char **argv)
{
    const char *what = NULL, *file = NULL, *second = NULL;
    int tensors = 0, n_operands;
    const option options[] = {
        { "WHAT",      NULL, 's', &what,    "pack IN.gguf OUT.smq, unpack IN.smq OUT.gguf, verify FILE, info FILE" },
        { "FILE",      NULL, 's', &file,    "" },
        { "...",       NULL, 's', &second,  "" },
        { "--tensors", NULL, 'b', &tensors, "info: lists them: checksum, place, bytes, type, name, shape; verify: looks at them alone, twice" },
        { NULL, NULL, 0, NULL, NULL }
    };
    parse_options(argc, argv, "GGUF files as SMQ files, which open in milliseconds and have checksums; and back", options);
    n_operands = !what ? 0 : !file ? 1 : !second ? 2 : 3;
    if (n_operands == 3 && strcmp(what, "pack") == 0) pack(file, second);
    else if (n_operands == 3 && strcmp(what, "unpack") == 0) unpack(file, second);
    else if (n_operands == 2 && strcmp(what, "verify") == 0 && tensors) verify_tensors(file);
    else if (n_operands == 2 && strcmp(what, "verify") == 0) verify(file);
    else if (n_operands == 2 && strcmp(what, "info") == 0) info(file, tensors);
    else die("expected pack IN OUT, unpack IN OUT, verify FILE or info FILE");
    return finish();
}
