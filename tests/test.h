/* The test harness: a test is a function with a sentence for a name, a program is a table of them.
 *
 *     static void adds_two_numbers(void) { CHECK(1 + 1 == 2, "got %d", 1 + 1); }
 *     int main(int argc, char **argv)
 *     {
 *         static const test tests[] = { { "one and one are two", adds_two_numbers } };
 *         return run_tests(argc, argv, tests, sizeof tests / sizeof *tests);
 *     }
 *
 * Each test prints one line, "ok NAME", "FAIL NAME: why" or "skip NAME: why"; tests/run.sh counts the lines of all programs.  An argument runs only
 * the tests whose names contain it, with a minus before it only the others.  Our own few lines and no library, as the same programs run for aarch64 and Windows, where Debian has none. */
#ifndef SMOLQ_TEST_H
#define SMOLQ_TEST_H
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test { const char *name; void (*run)(void); } test;

static char test_why[512];  /* first failure of the running test, or the reason to skip it */
static int  test_failed, test_skipped;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), unused))
#endif
static void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    int n;
    if (test_failed++) return;
    n = snprintf(test_why, sizeof test_why, "%s:%d: ", file, line);
    va_start(args, format);
    vsnprintf(test_why + n, sizeof test_why - (size_t)n, format, args);
    va_end(args);
}

/* CHECK goes on after a failure, REQUIRE leaves the test function. */
#define CHECK(condition, ...)   do { if (!(condition)) test_fail(__FILE__, __LINE__, __VA_ARGS__); } while (0)
#define REQUIRE(condition, ...) do { if (!(condition)) { test_fail(__FILE__, __LINE__, __VA_ARGS__); return; } } while (0)
#define SKIP(reason)            do { test_skipped = 1; snprintf(test_why, sizeof test_why, "%s", reason); return; } while (0)

/* $SMOLQ_SHARED or ../shared/data from the root of the repository; NULL where there is none, as in a user's clone.  The golden data lives there. */
#if defined(__GNUC__)
__attribute__((unused))
#endif
static const char *shared_path(const char *name)
{
    static char path[4][1024];
    static int turn;
    const char *root = getenv("SMOLQ_SHARED");
    char *p = path[turn++ & 3];
    FILE *f;
    snprintf(p, sizeof path[0], "%s/%s", root ? root : "../shared/data", name);
    f = fopen(p, "rb");
    if (!f) return NULL;
    fclose(f);
    return p;
}

static int run_tests(int argc, char **argv, const test *tests, size_t n)
{
    size_t i;
    int failed = 0;
    for (i = 0; i < n; i++) {
        if (argc > 1 && (argv[1][0] == '-' ? strstr(tests[i].name, argv[1] + 1) != NULL : strstr(tests[i].name, argv[1]) == NULL)) continue;
        test_failed = test_skipped = 0;
        tests[i].run();
        if (test_failed) printf("FAIL %s: %s%s\n", tests[i].name, test_why, test_failed > 1 ? " (and more)" : "");
        else if (test_skipped) printf("skip %s: %s\n", tests[i].name, test_why);
        else printf("ok   %s\n", tests[i].name);
        fflush(stdout);
        failed |= test_failed != 0;
    }
    return failed;
}
#endif
