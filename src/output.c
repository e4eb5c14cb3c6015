/* ==== output.c: files that appear whole or not at all ===============================================================
 * What is written goes to a temporary file in the folder of the target; only when all of it is on the disk does it take the target's name, in one
 * step.  Whatever happens before, a full disk or the end of the process, the target is as it was.
 *
 * On Linux the temporary file has no name, where the file system knows such files: nothing is left of it when the process dies.  To take the name of
 * an existing file it needs one for a moment, as it does elsewhere from the beginning: the target's with ".part" behind it.  A killed process
 * may leave that, and the next one to write there makes it anew. */
#pragma once
#include "file.c"

typedef struct smolq__output {
    smolq__heap *heap;
    char        *path, *part;  /* the target, the temporary name */
    int          named;        /* the temporary file has its name */
    int          opened;
#ifdef _WIN32
    WCHAR       *wide_path, *wide_part;
    HANDLE       handle;
#else
    int          fd;
#endif
} smolq__output;

static smolq_result smolq__output_names(smolq__output *out, smolq__heap *heap, const char *path, smolq_error *err)
{
    size_t n = strlen(path);
    memset(out, 0, sizeof *out);
    out->heap = heap;
    out->path = (char *)smolq__alloc(heap, n + 1);
    out->part = (char *)smolq__alloc(heap, n + sizeof ".part");
    if (!out->path || !out->part) return smolq__fail_memory(heap, err, "a path");
    memcpy(out->path, path, n);
    memcpy(out->part, path, n);
    memcpy(out->part + n, ".part", sizeof ".part");
    return SMOLQ_OK;
}

#ifdef _WIN32

static smolq_result smolq__output_open(smolq__output *out, smolq__heap *heap, const char *path, smolq_error *err)
{
    smolq_result result = smolq__output_names(out, heap, path, err);
    if (!result) result = smolq__widen(heap, "write", out->path, &out->wide_path, err);
    if (!result) result = smolq__widen(heap, "write", out->part, &out->wide_part, err);
    if (result) return result;
    if (smolq__is_folder(out->wide_path)) return smolq__fail_file(err, "write", path, "it is a directory");
    out->handle = CreateFileW(out->wide_part, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (out->handle == INVALID_HANDLE_VALUE) return smolq__fail_windows(err, "write", out->part);
    out->opened = out->named = 1;
    return SMOLQ_OK;
}

static smolq_result smolq__output_write(smolq__output *out, const void *bytes, uint64_t n, smolq_error *err)
{
    const uint8_t *from = (const uint8_t *)bytes;
    while (n > 0) {
        DWORD piece = n < (1u << 26) ? (DWORD)n : 1u << 26, done = 0;
        if (!WriteFile(out->handle, from, piece, &done, NULL) || done == 0) return smolq__fail_windows(err, "write", out->path);
        from += done;
        n -= done;
    }
    return SMOLQ_OK;
}

/* Where the next bytes go, counted from the beginning. */
static smolq_result smolq__output_seek(smolq__output *out, uint64_t at, smolq_error *err)
{
    LARGE_INTEGER to;
    to.QuadPart = (LONGLONG)at;
    return SetFilePointerEx(out->handle, to, NULL, FILE_BEGIN) ? SMOLQ_OK : smolq__fail_windows(err, "write", out->path);
}

static void smolq__output_discard(smolq__output *out)
{
    if (out->opened) CloseHandle(out->handle);
    if (out->named) DeleteFileW(out->wide_part);
    out->opened = out->named = 0;
}

static smolq_result smolq__output_finish(smolq__output *out, smolq_error *err)
{
    int flushed = FlushFileBuffers(out->handle) != 0;
    if (flushed) {
        CloseHandle(out->handle);
        out->opened = 0;
        if (MoveFileExW(out->wide_part, out->wide_path, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)) return SMOLQ_OK;
    }
    smolq__fail_windows(err, flushed ? "replace" : "write", out->path);
    smolq__output_discard(out);
    return SMOLQ_E_IO;
}

#else

#if defined(__linux__) && (defined(O_TMPFILE) || defined(__O_TMPFILE))
#  define SMOLQ__NAMELESS
#  ifdef O_TMPFILE /* not shown under -std=c99, as the names below */
#    define SMOLQ__TMPFILE O_TMPFILE
#  else
#    define SMOLQ__TMPFILE __O_TMPFILE
#  endif
#  ifndef __cplusplus
extern int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags);
#  endif
enum { SMOLQ__HERE = -100, SMOLQ__FOLLOW = 0x400 }; /* AT_FDCWD, AT_SYMLINK_FOLLOW */
typedef struct { char text[40]; } smolq__fd_path;
static const char *smolq__path_of_fd(smolq__fd_path *buf, int fd)
{
    snprintf(buf->text, sizeof buf->text, "/proc/self/fd/%d", fd);
    return buf->text;
}
#endif

/* The folder of a path, with its last slash cut off; path is changed for the while between this and putting the byte back. */
static int smolq__open_folder(char *path, int flags)
{
    char *slash = strrchr(path, '/'), kept;
    int fd;
    if (!slash) return open(".", flags, 0666);
    if (slash == path) return open("/", flags, 0666);
    kept = *slash;
    *slash = 0;
    fd = open(path, flags, 0666);
    *slash = kept;
    return fd;
}

static smolq_result smolq__output_open(smolq__output *out, smolq__heap *heap, const char *path, smolq_error *err)
{
    struct stat facts;
    smolq_result result = smolq__output_names(out, heap, path, err);
    if (result) return result;
    if (stat(path, &facts) == 0 && !S_ISREG(facts.st_mode))
        return smolq__fail_file(err, "write", path, S_ISDIR(facts.st_mode) ? "it is a directory" : "it is not a regular file");
#ifdef SMOLQ__NAMELESS
    out->fd = smolq__open_folder(out->path, SMOLQ__TMPFILE | O_WRONLY);
    if (out->fd >= 0) {
        smolq__fd_path buf; /* naming it later goes by way of /proc */
        if (stat(smolq__path_of_fd(&buf, out->fd), &facts) == 0) {
            out->opened = 1;
            return SMOLQ_OK;
        }
        close(out->fd);
    }
#endif
    remove(out->part); /* what a killed process has left, and not what a link of that name points at */
    out->fd = open(out->part, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (out->fd < 0) return smolq__fail_file(err, "write", out->part, strerror(errno));
    out->opened = out->named = 1;
    return SMOLQ_OK;
}

static smolq_result smolq__output_write(smolq__output *out, const void *bytes, uint64_t n, smolq_error *err)
{
    const uint8_t *from = (const uint8_t *)bytes;
    while (n > 0) {
        int64_t done = (int64_t)write(out->fd, from, n < (1u << 26) ? (size_t)n : (size_t)1 << 26);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return smolq__fail_file(err, "write", out->path, done < 0 ? strerror(errno) : "the system takes no more");
        from += done;
        n -= (uint64_t)done;
    }
    return SMOLQ_OK;
}

/* Where the next bytes go, counted from the beginning. */
static smolq_result smolq__output_seek(smolq__output *out, uint64_t at, smolq_error *err)
{
    return lseek(out->fd, (off_t)at, SEEK_SET) == (off_t)at ? SMOLQ_OK : smolq__fail_file(err, "write", out->path, strerror(errno));
}

static void smolq__output_discard(smolq__output *out)
{
    if (out->opened) close(out->fd);
    if (out->named) remove(out->part);
    out->opened = out->named = 0;
}

/* Gives the temporary file the target's name. */
static int smolq__output_name(smolq__output *out)
{
#ifdef SMOLQ__NAMELESS
    if (!out->named) {
        smolq__fd_path buf;
        const char *fd = smolq__path_of_fd(&buf, out->fd);
        if (linkat(SMOLQ__HERE, fd, SMOLQ__HERE, out->path, SMOLQ__FOLLOW) == 0) return 1;
        if (errno != EEXIST) return 0;
        remove(out->part);
        if (linkat(SMOLQ__HERE, fd, SMOLQ__HERE, out->part, SMOLQ__FOLLOW)) return 0;
        out->named = 1;
    }
#endif
    return rename(out->part, out->path) == 0;
}

static smolq_result smolq__output_finish(smolq__output *out, smolq_error *err)
{
    int folder;
    if (fsync(out->fd) || !smolq__output_name(out)) {
        smolq__fail_file(err, "write", out->path, strerror(errno));
        smolq__output_discard(out);
        return SMOLQ_E_IO;
    }
    out->named = 0;
    smolq__output_discard(out);
    folder = smolq__open_folder(out->path, O_RDONLY); /* the name is on the disk when its folder is */
    if (folder >= 0) {
        (void)fsync(folder);
        close(folder);
    }
    return SMOLQ_OK;
}

#endif
