/* To be preloaded: writes down, in the words of strace, what a program does to the files of one folder, and what it
 * says on its standard output. RECORD_FOLDER and RECORD_SAID are the paths, RECORD_LOG is where it is written down. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static int is_said(const char *path) {
    const char *said = getenv("RECORD_SAID");
    return said && strcmp(path, said) == 0;
}

static int is_watched(const char *path) {
    const char *folder = getenv("RECORD_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    return length && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_BYTES - 1);
    path[length < 0 ? 0 : length] = '\0';
    return length > 0;
}

static char *in_hex(char *to, const void *from, size_t size) {
    for (size_t i = 0; i < size; i++)
        to += sprintf(to, "\\x%02x", ((const unsigned char *) from)[i]);
    return to;
}

/* One line in one write: threads do not mix. */
static void note(const char *call, const char *path, const void *data, size_t size, long long number, long result) {
    static int log = -1;
    if (log < 0)
        log = (int) syscall(SYS_openat, AT_FDCWD, getenv("RECORD_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char *line = malloc(4 * (strlen(path) + size) + 256), *end = line;
    end += sprintf(end, "%d %s(%s", (int) getpid(), call, strcmp(call, "openat") ? "3<" : "AT_FDCWD<>, \"");
    end = in_hex(end, path, strlen(path));
    end += sprintf(end, "%s", strcmp(call, "openat") ? ">" : "\", O_CREAT");
    if (data) {
        end += sprintf(end, ", \"");
        end = in_hex(end, data, size);
        end += sprintf(end, "\"");
    }
    end += sprintf(end, ", %lld) = %ld\n", number, result);
    if (syscall(SYS_write, log, line, end - line) != end - line)
        abort();
    free(line);
}

static void note_file(const char *call, int file, const void *data, size_t size, long long number, long result) {
    char path[PATH_BYTES];
    if (result >= 0 && path_of(file, path) && is_watched(path))
        note(call, path, data, size, number, result);
}

ssize_t write(int file, const void *data, size_t size) {
    char path[PATH_BYTES];
    /* Before it is said: what is promised then must have been kept. */
    if (path_of(file, path) && is_said(path))
        note("write", path, data, size, 0, (long) size);
    return REAL(write)(file, data, size);
}

#define PWRITE(name, offset_type)                                               \
    ssize_t name(int file, const void *data, size_t size, offset_type offset) { \
        ssize_t done = REAL(name)(file, data, size, offset);                    \
        note_file("pwrite64", file, data, done < 0 ? 0 : done, offset, done);   \
        return done;                                                            \
    }
#define FTRUNCATE(name, offset_type)                      \
    int name(int file, offset_type size) {                \
        int done = REAL(name)(file, size);                \
        note_file("ftruncate", file, NULL, 0, size, done); \
        return done;                                      \
    }
#define SYNC(name)                                 \
    int name(int file) {                           \
        int done = REAL(name)(file);               \
        note_file(#name, file, NULL, 0, 0, done);  \
        return done;                               \
    }
#define OPEN(name)                                                   \
    int name(const char *path, int flags, ...) {                     \
        va_list more;                                                \
        va_start(more, flags);                                       \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;    \
        va_end(more);                                                \
        int file = REAL(name)(path, flags, mode);                    \
        if (file >= 0 && flags & O_CREAT && is_watched(path))        \
            note("openat", path, NULL, 0, 0, file);                  \
        return file;                                                 \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)
SYNC(fsync)
SYNC(fdatasync)
OPEN(open)
OPEN(open64)

int unlink(const char *path) {
    int done = REAL(unlink)(path);
    if (done == 0 && is_watched(path))
        note("unlink", path, NULL, 0, 0, done);
    return done;
}
