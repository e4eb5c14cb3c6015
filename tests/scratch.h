/* A folder of its own for a test program, and an allocator that runs out.  Included behind test.h; the program begins with open_folder and ends with close_folder. */
#ifndef SMOLQ_TEST_SCRATCH_H
#define SMOLQ_TEST_SCRATCH_H
#ifndef _WIN32
#  include <dirent.h>
#  include <unistd.h>
#endif

static char folder[256]; /* of this run, empty between tests */
static char *path_of(const char *name)
{
    static char path[4][512];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static int files_there(void) /* in the folder */
{
    int n = 0;
#ifndef _WIN32
    DIR *d = opendir(folder);
    struct dirent *e;
    while (d && (e = readdir(d))) n += e->d_name[0] != '.';
    if (d) closedir(d);
#endif
    return n;
}

static int open_folder(const char *program)
{
#ifdef _WIN32
    (void)program;
    snprintf(folder, sizeof folder, ".");
    return 1;
#else
    snprintf(folder, sizeof folder, "/tmp/smolq-%s-XXXXXX", program);
    return mkdtemp(folder) != NULL;
#endif
}
static void close_folder(void)
{
#ifndef _WIN32
    rmdir(folder);
#endif
}

static int allocations_left;
static void *failing_alloc(void *user, size_t bytes)
{
    (void)user;
    return allocations_left-- > 0 ? malloc(bytes) : NULL;
}
static void failing_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(memory);
}
#endif
