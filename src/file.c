/* ==== file.c: mapping, memory, the caller's IO ======================================================================
 * A file is its size and one way to its bytes: a read-only mapping or the caller's memory (data is set), or reading (the caller's read
 * function, or the system's with no_map).  Opening touches no byte of the file: pages come in when somebody looks at them.
 *
 * pread is not declared under -std=c99, so reading is lseek and read under a small lock: a GGUF may be read from several threads. */
#pragma once
#include "base.c"
#include <errno.h>
#ifndef _WIN32
#  include <fcntl.h>
#  include <sched.h>
#  include <sys/mman.h>
#  include <sys/stat.h>
#  include <sys/types.h>
#  include <unistd.h>
#endif

typedef struct smolq__file {
    const uint8_t *data;   /* [size] mapped or borrowed; NULL: only smolq__file_read works */
    uint64_t       size;
    smolq_source   source; /* the caller's, borrowed */
    int            mapped; /* data is a mapping of ours */
    int            opened; /* fd or handle is ours to close */
#ifdef _WIN32
    HANDLE         handle;
#else
    int            fd;
    int            busy;   /* the lock of fd's position */
#endif
} smolq__file;

/* A path in a message, as the caller wrote it but for control bytes; of a long one the end, which tells more than the beginning. */
static const char *smolq__quote_path(smolq__quoted *buf, const char *path)
{
    size_t n = strlen(path), shown = sizeof buf->text - 4, used = 0;
    if (n > shown) {
        path += n - shown;
        while ((*path & 0xc0) == 0x80) path++; /* not from within a UTF-8 character */
        while (used < 3) buf->text[used++] = '.';
    }
    for (; *path; path++) buf->text[used++] = (unsigned char)*path < 0x20 || *path == 0x7f ? '?' : *path;
    buf->text[used] = 0;
    return buf->text;
}

static smolq_result smolq__fail_file(smolq_error *err, const char *verb, const char *path, const char *why)
{
    smolq__quoted quoted;
    return smolq__fail(err, SMOLQ_E_IO, "can't %s '%s': %s", verb, smolq__quote_path(&quoted, path), why);
}

#ifdef _WIN32

static smolq_result smolq__fail_windows(smolq_error *err, const char *verb, const char *path)
{
    char text[160];
    smolq__quoted quoted;
    DWORD code = GetLastError();
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK;
    DWORD n = FormatMessageA(flags, NULL, code, 0, text, sizeof text, NULL);
    while (n > 0 && text[n - 1] == ' ') n--;
    if (n == 0) n = (DWORD)snprintf(text, sizeof text, "error %lu", (unsigned long)code);
    return smolq__fail_file(err, verb, path, smolq__quote(&quoted, text, n));
}

/* The path as Windows takes it, on the heap. */
static smolq_result smolq__widen(smolq__heap *heap, const char *verb, const char *path, WCHAR **wide, smolq_error *err)
{
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    if (n <= 0) return smolq__fail_file(err, verb, path, "the path is not UTF-8");
    *wide = (WCHAR *)smolq__alloc(heap, (uint64_t)n * sizeof **wide);
    if (!*wide) return smolq__fail_memory(heap, err, "a path");
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, *wide, n);
    return SMOLQ_OK;
}

static int smolq__is_folder(const WCHAR *wide)
{
    DWORD attributes = GetFileAttributesW(wide);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY);
}

/* Opens the file for reading; *handle is set on success. */
static smolq_result smolq__open_wide(smolq__heap *heap, const char *path, HANDLE *handle, smolq_error *err)
{
    WCHAR *wide;
    smolq_result result = smolq__widen(heap, "open", path, &wide, err);
    if (result) return result;
    *handle = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (*handle == INVALID_HANDLE_VALUE) {
        result = smolq__fail_windows(err, "open", path);
        if (smolq__is_folder(wide)) smolq__fail_file(err, "open", path, "it is a directory");
    }
    smolq__free(heap, wide);
    return result;
}

static void smolq__file_close(smolq__file *file)
{
    if (file->mapped) UnmapViewOfFile(file->data);
    if (file->opened) CloseHandle(file->handle);
    memset(file, 0, sizeof *file);
}

static smolq_result smolq__file_map(smolq__file *file, const char *path, smolq_error *err)
{
    HANDLE mapping = CreateFileMappingW(file->handle, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!mapping) return smolq__fail_windows(err, "map", path);
    file->data = (const uint8_t *)MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    file->mapped = file->data != NULL;
    if (!file->mapped) smolq__fail_windows(err, "map", path);
    CloseHandle(mapping); /* the view keeps the file open */
    return file->mapped ? SMOLQ_OK : SMOLQ_E_IO;
}

static smolq_result smolq__file_open_path(smolq__file *file, smolq__heap *heap, const char *path, smolq_error *err)
{
    LARGE_INTEGER size;
    smolq_result result = smolq__open_wide(heap, path, &file->handle, err);
    if (result) return result;
    file->opened = 1;
    if (!GetFileSizeEx(file->handle, &size)) return smolq__fail_windows(err, "ask the size of", path);
    file->size = (uint64_t)size.QuadPart;
    return SMOLQ_OK;
}

/* Reads up to `bytes` at offset; returns how many, 0 at the end, -1 for an error with *why set. */
static int64_t smolq__file_read_some(const smolq__file *file, uint64_t offset, void *dst, size_t bytes, const char **why)
{
    OVERLAPPED at;
    DWORD got = 0;
    memset(&at, 0, sizeof at);
    at.Offset = (DWORD)(offset & 0xffffffffu);
    at.OffsetHigh = (DWORD)(offset >> 32);
    if (ReadFile(file->handle, dst, (DWORD)bytes, &got, &at) || GetLastError() == ERROR_HANDLE_EOF) return (int64_t)got;
    *why = "the system can't read the file";
    return -1;
}

#else

static void smolq__file_close(smolq__file *file)
{
    if (file->mapped) munmap((void *)file->data, (size_t)file->size);
    if (file->opened) close(file->fd);
    memset(file, 0, sizeof *file);
}

static smolq_result smolq__file_map(smolq__file *file, const char *path, smolq_error *err)
{
    void *data = mmap(NULL, (size_t)file->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (data == MAP_FAILED) return smolq__fail_file(err, "map", path, strerror(errno));
    file->data = (const uint8_t *)data;
    file->mapped = 1;
    return SMOLQ_OK;
}

static smolq_result smolq__file_open_path(smolq__file *file, smolq__heap *heap, const char *path, smolq_error *err)
{
    static const char too_big[] = "it is too big for this build's off_t; compile with -D_FILE_OFFSET_BITS=64, or give the file as a source with read";
    struct stat facts;
    int flags = O_RDONLY | O_NONBLOCK; /* a pipe without a writer must not block */
#ifdef O_CLOEXEC
    flags |= O_CLOEXEC;
#endif
    (void)heap;
    do file->fd = open(path, flags);
    while (file->fd < 0 && errno == EINTR);
    if (file->fd < 0) return smolq__fail_file(err, "open", path, errno == EOVERFLOW ? too_big : strerror(errno));
    file->opened = 1;
    if (fstat(file->fd, &facts)) return smolq__fail_file(err, "ask the size of", path, errno == EOVERFLOW ? too_big : strerror(errno));
    if (S_ISDIR(facts.st_mode)) return smolq__fail_file(err, "open", path, "it is a directory");
    if (!S_ISREG(facts.st_mode)) return smolq__fail_file(err, "open", path, "it is not a regular file");
    file->size = (uint64_t)facts.st_size;
    return SMOLQ_OK;
}

/* Reads up to `bytes` at offset; returns how many, 0 at the end, -1 for an error with *why set. */
static int64_t smolq__file_read_some(const smolq__file *file, uint64_t offset, void *dst, size_t bytes, const char **why)
{
    int64_t got;
#if defined(__GNUC__)
    int *busy = (int *)&file->busy;
    while (__sync_lock_test_and_set(busy, 1)) sched_yield();
#endif
    do got = lseek(file->fd, (off_t)offset, SEEK_SET) < 0 ? -1 : (int64_t)read(file->fd, dst, bytes);
    while (got < 0 && errno == EINTR);
    if (got < 0) *why = strerror(errno);
#if defined(__GNUC__)
    __sync_lock_release(busy);
#endif
    return got;
}

#endif

/* Opens path, or with path NULL the source.  heap is for what the system wants while opening. */
static smolq_result smolq__file_open(smolq__file *file, smolq__heap *heap, const char *path, const smolq_source *source, int no_map, smolq_error *err)
{
    smolq_result result;
    memset(file, 0, sizeof *file);
    if (!path) {
        if (source->size && !source->data && !source->read)
            return smolq__fail(err, SMOLQ_E_ARGUMENT, "a source has neither data nor read");
        file->source = *source;
        file->data = (const uint8_t *)source->data;
        file->size = source->size;
        return SMOLQ_OK;
    }
    result = smolq__file_open_path(file, heap, path, err);
    if (!result && !no_map && file->size) {
        if (smolq__fits_size(file->size)) result = smolq__file_map(file, path, err);
        else result = smolq__fail_file(err, "map", path, "it is bigger than the address space of this 32-bit build; give the file as a source with read");
    }
#ifndef _WIN32
    if (!result && file->mapped) { /* the mapping stays; Windows keeps the handle, as it keeps others from writing */
        close(file->fd);
        file->opened = 0;
    }
#endif
    if (result) smolq__file_close(file);
    return result;
}

/* Fills dst with exactly `bytes` bytes from offset. */
static smolq_result smolq__file_read(const smolq__file *file, uint64_t offset, void *dst, uint64_t bytes, smolq_error *err)
{
    uint8_t *to = (uint8_t *)dst;
    uint64_t left = bytes;
    if (offset > file->size || bytes > file->size - offset)
        return smolq__fail(err, SMOLQ_E_ARGUMENT, "%llu bytes at offset %llu are beyond the file's %llu", (unsigned long long)bytes, (unsigned long long)offset,
                           (unsigned long long)file->size);
    if (file->data) {
        if (bytes) memcpy(dst, file->data + (size_t)offset, (size_t)bytes);
        return SMOLQ_OK;
    }
    while (left > 0) {
        const char *why = "the caller's read function failed";
        size_t piece = left < (1u << 20) ? (size_t)left : (size_t)1 << 20;
        int64_t got;
        if (file->opened) got = smolq__file_read_some(file, offset, to, piece, &why);
        else got = file->source.read(file->source.user, offset, to, piece) ? -1 : (int64_t)piece;
        if (got == 0) why = "the file has become shorter";
        if (got <= 0)
            return smolq__fail(err, SMOLQ_E_IO, "can't read %llu bytes at offset %llu: %s", (unsigned long long)left, (unsigned long long)offset, why);
        to += got;
        offset += (uint64_t)got;
        left -= (uint64_t)got;
    }
    return SMOLQ_OK;
}
