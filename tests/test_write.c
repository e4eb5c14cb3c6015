/* Tests of output.c and write.c: what is written reads back, and the target is whole at every moment. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic ignored "-Wunused-function" /* base.c serves other parts too */
#elif defined(__clang__)
#  pragma clang diagnostic ignored "-Wunused-function"
#endif
#include "../src/write.c"
#include "test.h"
#include "scratch.h"
#ifndef _WIN32
#  include <signal.h>
#  include <sys/resource.h>
#  include <sys/wait.h>
#  include <time.h>
#endif

static smolq_value number(int32_t type, int64_t i)
{
    smolq_value v;
    memset(&v, 0, sizeof v);
    v.type = type;
    v.i = i;
    v.u = (uint64_t)i;
    v.f = (double)i / 4;
    return v;
}
static smolq_value text(const char *s)
{
    smolq_value v = number(SMOLQ_GGUF_STRING, 0);
    v.text = s;
    v.bytes = strlen(s);
    return v;
}
static smolq_tensor_info tensor(const char *name, int32_t type, uint64_t ne0, uint64_t ne1)
{
    smolq_tensor_info t;
    memset(&t, 0, sizeof t);
    t.name = name;
    t.name_bytes = strlen(name);
    t.type = type;
    t.n_dims = 2;
    t.ne[0] = ne0;
    t.ne[1] = ne1;
    t.ne[2] = t.ne[3] = 1;
    return t;
}

/* A file with one tensor of n_rows * 64 floats, each `mark`. */
static smolq_result write_small(const char *path, uint64_t n_rows, float mark, smolq_error *err)
{
    smolq_gguf_writer *w = NULL;
    smolq_value v = text("nobody");
    smolq_tensor_info t = tensor("a.weight", SMOLQ_TYPE_F32, 64, n_rows);
    float row[64];
    uint64_t i;
    smolq_result result = smolq_gguf_create(path, NULL, &w, err);
    if (result) return result;
    for (i = 0; i < 64; i++) row[i] = mark;
    result = smolq_gguf_put(w, "general.architecture", &v, err);
    if (!result) result = smolq_gguf_add(w, &t, err);
    for (i = 0; i < n_rows && !result; i++) result = smolq_gguf_write(w, row, sizeof row, err);
    if (!result) return smolq_gguf_finish(w, err);
    smolq_gguf_discard(w);
    return result;
}

/* The mark of such a file, -1 if it is not one. */
static float mark_of(const char *path, uint64_t n_rows)
{
    smolq_gguf *g = NULL;
    smolq_tensor_info t;
    float mark = -1;
    uint64_t i;
    if (smolq_gguf_open(path, NULL, &g, NULL)) return -1;
    if (!smolq_gguf_find_tensor(g, "a.weight", &t, NULL) && t.bytes == n_rows * 256) {
        mark = smolq_f32_at(t.data);
        for (i = 0; i < t.bytes; i += 4)
            if (smolq_f32_at(t.data + i) != mark) mark = -1;
    }
    smolq_gguf_close(g);
    return mark;
}

static void all_values_come_back(void)
{
    static const uint8_t strings[] = { 1, 0, 0, 0, 0, 0, 0, 0, 'a', 2, 0, 0, 0, 0, 0, 0, 0, 'b', 'c' }, numbers[] = { 1, 2, 3, 4, 5, 6 };
    static const uint8_t data[50] = { 9, 8, 7 };
    static const struct { int32_t type; int64_t i; } rows[] = {
        { SMOLQ_GGUF_U8, 255 }, { SMOLQ_GGUF_I8, -128 }, { SMOLQ_GGUF_U16, 65535 }, { SMOLQ_GGUF_I16, -32768 }, { SMOLQ_GGUF_U32, 0xffffffff }, { SMOLQ_GGUF_I32, -2147483647 - 1 },
        { SMOLQ_GGUF_BOOL, 1 }, { SMOLQ_GGUF_I64, INT64_MIN }, { SMOLQ_GGUF_U64, -1 }, { SMOLQ_GGUF_F32, 7 }, { SMOLQ_GGUF_F64, -9 },
    };
    const size_t n = sizeof rows / sizeof *rows;
    smolq_gguf_writer *w = NULL;
    smolq_gguf *g = NULL;
    smolq_error err;
    smolq_value v;
    smolq_pair pair;
    smolq_tensor_info t;
    char key[32], *path = path_of("values.gguf");
    uint64_t cursor = 0;
    size_t i;
    REQUIRE(!smolq_gguf_create(path, NULL, &w, &err), "%s", err.text);
    for (i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key.%d", (int)i);
        v = number(rows[i].type, rows[i].i);
        REQUIRE(!smolq_gguf_put(w, key, &v, &err), "%s", err.text);
    }
    v = number(SMOLQ_GGUF_ARRAY, 0);
    v.element_type = SMOLQ_GGUF_STRING;
    v.n = 2;
    v.data = strings;
    v.data_bytes = sizeof strings;
    REQUIRE(!smolq_gguf_put(w, "strings", &v, &err), "%s", err.text);
    v.element_type = SMOLQ_GGUF_U16;
    v.n = 3;
    v.data = numbers;
    v.data_bytes = sizeof numbers;
    REQUIRE(!smolq_gguf_put(w, "numbers", &v, &err), "%s", err.text);
    v = number(SMOLQ_GGUF_U32, 128);
    REQUIRE(!smolq_gguf_put(w, "general.alignment", &v, &err), "%s", err.text);
    v = text("changed where it stands, and longer");
    REQUIRE(!smolq_gguf_put(w, "key.2", &v, &err), "%s", err.text);
    t = tensor("one", 25, 5, 1); /* i16 */
    REQUIRE(!smolq_gguf_add(w, &t, &err), "%s", err.text);
    t = tensor("two", SMOLQ_TYPE_Q8_0, 32, 1);
    REQUIRE(!smolq_gguf_add(w, &t, &err), "%s", err.text);
    REQUIRE(!smolq_gguf_write(w, data, 3, &err) && !smolq_gguf_write(w, data + 3, 41, &err), "%s", err.text);
    REQUIRE(!smolq_gguf_finish(w, &err), "%s", err.text);

    REQUIRE(!smolq_gguf_open(path, NULL, &g, &err), "%s", err.text);
    CHECK(smolq_gguf_info(g)->n_pairs == n + 3 && smolq_gguf_info(g)->n_tensors == 2 && smolq_gguf_info(g)->alignment == 128, "%d pairs", (int)smolq_gguf_info(g)->n_pairs);
    for (i = 0; i < n; i++) {
        smolq_gguf_pair(g, i, &pair, NULL);
        if (i == 2) CHECK(pair.value.type == SMOLQ_GGUF_STRING && pair.value.bytes == 35, "key.2 has %d bytes", (int)pair.value.bytes);
        else if (rows[i].type == SMOLQ_GGUF_U64) CHECK(pair.value.u == UINT64_MAX, "u64");
        else if (rows[i].type == SMOLQ_GGUF_F32 || rows[i].type == SMOLQ_GGUF_F64) CHECK(pair.value.f == (double)rows[i].i / 4, "%g", pair.value.f);
        else CHECK(pair.value.type == rows[i].type && pair.value.i == rows[i].i, "key.%d is %lld", (int)i, (long long)pair.value.i);
    }
    CHECK(!smolq_gguf_find(g, "strings", &v, &err) && v.n == 2 && !smolq_gguf_element(&v, 0, &cursor, &v, &err) && v.bytes == 1 && v.text[0] == 'a', "strings");
    CHECK(!smolq_gguf_find(g, "numbers", &v, &err) && v.n == 3 && !smolq_gguf_element(&v, 2, NULL, &v, &err) && v.i == 0x0605, "numbers");
    CHECK(!smolq_gguf_find_tensor(g, "two", &t, &err) && t.bytes == 34 && t.offset % 128 == 0, "two");
    smolq_gguf_close(g);
    remove(path);
}

static void what_cannot_be_written_is_refused(void)
{
    smolq_gguf_writer *w = NULL;
    smolq_error err;
    smolq_value v;
    smolq_tensor_info t;
    char byte = 0;
    CHECK(smolq_gguf_create(path_of("none/file.gguf"), NULL, &w, &err) == SMOLQ_E_IO && !w, "a folder that is not there");
    CHECK(smolq_gguf_create(folder, NULL, &w, &err) == SMOLQ_E_IO && !w, "a folder");
    REQUIRE(!smolq_gguf_create(path_of("bad.gguf"), NULL, &w, &err), "%s", err.text);
    v = number(SMOLQ_GGUF_U8, 256);
    CHECK(smolq_gguf_put(w, "k", &v, &err) == SMOLQ_E_ARGUMENT, "256 as u8");
    v = number(SMOLQ_GGUF_I16, 32768);
    CHECK(smolq_gguf_put(w, "k", &v, &err) == SMOLQ_E_ARGUMENT, "32768 as i16");
    v = number(77, 0);
    CHECK(smolq_gguf_put(w, "k", &v, &err) == SMOLQ_E_ARGUMENT, "a value of type 77");
    v = number(SMOLQ_GGUF_U32, 24);
    CHECK(smolq_gguf_put(w, "general.alignment", &v, &err) == SMOLQ_E_ARGUMENT, "an alignment of 24");
    v = number(SMOLQ_GGUF_ARRAY, 0);
    v.element_type = SMOLQ_GGUF_U32;
    v.n = (uint64_t)1 << 62;
    v.data = (const unsigned char *)&byte;
    v.data_bytes = 1;
    CHECK(smolq_gguf_put(w, "k", &v, &err) == SMOLQ_E_ARGUMENT, "an array of 2^62 numbers in a byte");
    t = tensor("strange", 99, 33, 2);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "type 99"), "%s", err.text);
    t = tensor("rows of 33", SMOLQ_TYPE_Q4_0, 33, 2);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "multiple of 32"), "%s", err.text);
    t = tensor("huge", SMOLQ_TYPE_F32, (uint64_t)1 << 40, (uint64_t)1 << 40);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_E_ARGUMENT, "2^80 weights");
    t = tensor("a name that is longer than the sixty-four bytes that a tensor's name may have", SMOLQ_TYPE_F32, 1, 1);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_E_ARGUMENT, "a long name");
    t = tensor("one", SMOLQ_TYPE_F32, 2, 1);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "already"), "%s", err.text);
    CHECK(smolq_gguf_write(w, "12345678", 8, &err) == SMOLQ_OK, "%s", err.text);
    CHECK(smolq_gguf_write(w, "9", 1, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "beyond"), "%s", err.text);
    CHECK(smolq_gguf_add(w, &t, &err) == SMOLQ_E_ARGUMENT, "a tensor after data");
    smolq_gguf_discard(w);
    REQUIRE(!smolq_gguf_create(path_of("bad.gguf"), NULL, &w, &err), "%s", err.text);
    CHECK(!smolq_gguf_add(w, &t, &err) && !smolq_gguf_write(w, "1234", 4, &err), "%s", err.text);
    CHECK(smolq_gguf_finish(w, &err) == SMOLQ_E_ARGUMENT && strstr(err.text, "4 of its 8 bytes"), "%s", err.text);
    CHECK(files_there() == 0, "%d files are left", files_there());
}

static void allocations_fail_in_turn_and_leave_no_file(void)
{
    smolq_allocator allocator;
    char *path = path_of("memory.gguf");
    int n, done = 0;
    memset(&allocator, 0, sizeof allocator);
    allocator.alloc = failing_alloc;
    allocator.release = failing_release;
    for (n = 0; n < 100 && !done; n++) {
        smolq_gguf_writer *w = NULL;
        smolq_value v = text("something");
        smolq_tensor_info t = tensor("one", SMOLQ_TYPE_F32, 2, 1);
        smolq_error err;
        smolq_result result;
        allocations_left = n;
        result = smolq_gguf_create(path, &allocator, &w, &err);
        if (!result) {
            if (!(result = smolq_gguf_put(w, "key", &v, &err)) && !(result = smolq_gguf_put(w, "key", &v, &err)) && !(result = smolq_gguf_add(w, &t, &err))) result = smolq_gguf_write(w, "12345678", 8, &err);
            if (result) smolq_gguf_discard(w);
            else result = smolq_gguf_finish(w, &err);
        }
        done = !result;
        CHECK(done || (result == SMOLQ_E_MEMORY && files_there() == 0), "allocation %d: %s, %d files", n, err.text, files_there());
    }
    CHECK(done && n > 8, "%d allocations", n);
    remove(path);
}

static void a_file_is_replaced_at_once(void)
{
    smolq_gguf_writer *w = NULL;
    smolq_error err;
    char *path = path_of("new.gguf");
    REQUIRE(!write_small(path, 10, 1, &err), "%s", err.text);
    CHECK(mark_of(path, 10) == 1, "the first");
    REQUIRE(!smolq_gguf_create(path, NULL, &w, &err), "%s", err.text);
    CHECK(mark_of(path, 10) == 1, "while another is being written");
    smolq_gguf_discard(w);
    CHECK(mark_of(path, 10) == 1, "after that was given up");
    REQUIRE(!write_small(path, 20, 2, &err), "%s", err.text);
    CHECK(mark_of(path, 20) == 2, "the second");
    remove(path);
    CHECK(files_there() == 0, "%d files are left", files_there());
}

/* A process that writes ends at a random moment: the target is the old file or the new one, and nothing lies beside it. */
static void a_killed_writer_leaves_the_old_file_or_the_new(void)
{
#ifdef _WIN32
    SKIP("needs fork and kill");
#else
    enum { ROWS = 2000, MOMENTS = 200 };
    char *path = path_of("killed.gguf"), *part = path_of("killed.gguf.part");
    smolq_error err;
    int i, replaced = 0;
    REQUIRE(!write_small(path, ROWS, 1, &err), "%s", err.text);
    for (i = 0; i < MOMENTS; i++) {
        struct timespec wait = { 0, (i * 7919 % MOMENTS) * 40000 };
        float mark;
        pid_t child = fork();
        if (child == 0) {
            for (;;)
                if (write_small(path, ROWS, 2, NULL)) _exit(1);
        }
        REQUIRE(child > 0, "no fork");
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        mark = mark_of(path, ROWS);
        REQUIRE(mark == 1 || mark == 2, "moment %d: the file is broken", i);
        replaced += mark == 2;
        remove(part); /* the one moment between two names, and systems without nameless files */
        REQUIRE(files_there() == 1, "moment %d: %d files", i, files_there());
        if (mark == 2 && i % 2) REQUIRE(!write_small(path, ROWS, 1, &err), "%s", err.text);
    }
    CHECK(replaced > 0, "no writer came to its end");
    remove(path);
#endif
}

/* As on a full disk, the system takes no more at some point. */
static void a_full_disk_leaves_the_old_file(void)
{
#ifdef _WIN32
    SKIP("needs a limit of file sizes");
#else
    struct rlimit old, limit;
    char *path = path_of("full.gguf");
    smolq_error err;
    uint64_t bytes;
    REQUIRE(!write_small(path, 100, 1, &err), "%s", err.text);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (bytes = 0; bytes < 25000; bytes += 1237) {
        limit = old;
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        memset(&err, 0, sizeof err);
        CHECK(write_small(path, 100, 2, &err) == SMOLQ_E_IO && strstr(err.text, "full.gguf"), "at %d bytes: %s", (int)bytes, err.text);
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK(mark_of(path, 100) == 1 && files_there() == 1, "at %d bytes: the old file is gone, or there are others", (int)bytes);
    }
    remove(path);
#endif
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        { "all values come back", all_values_come_back },
        { "what cannot be written is refused", what_cannot_be_written_is_refused },
        { "allocations fail in turn and leave no file", allocations_fail_in_turn_and_leave_no_file },
        { "a file is replaced at once", a_file_is_replaced_at_once },
        { "a killed writer leaves the old file or the new", a_killed_writer_leaves_the_old_file_or_the_new },
        { "a full disk leaves the old file", a_full_disk_leaves_the_old_file },
    };
    int status;
    if (!open_folder("write")) return 1;
    status = run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
    close_folder();
    return status;
}
