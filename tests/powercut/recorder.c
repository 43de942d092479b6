/* Preloaded into a process: records what it does to the files under RECORDER_PREFIX, in order, and can
 * let the n-th sync or write fail. Everything but the recording itself goes on to the kernel.
 *
 * A record is {char op; uint8 file; uint16 0; uint32 length; int64 offset} and `length` bytes:
 *   O open (the path)   W write   T truncate to offset   S synced   F a sync that failed
 *   D a directory was synced   U unlinked (the path)   M a mark (offset) set by the process
 * The -shm file is no part of the disk's state, SQLite rebuilds it; .lock holds nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 4096
#define DIRECTORY 255

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char file_of[FDS]; /* 0: not ours */
static char *names[DIRECTORY];
static int count, out = -1, fail_after, fail_errno;
static char fail_op;
static const char *prefix;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    prefix = getenv("RECORDER_PREFIX");
    if (getenv("RECORDER_OUT")) out = real_open(getenv("RECORDER_OUT"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (!prefix || out < 0) abort();
}

static void record(char op, unsigned char file, int64_t offset, const void *data, uint32_t length) {
    struct { char op; uint8_t file; uint16_t zero; uint32_t length; int64_t offset; } head =
        {op, file, 0, length, offset};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    if (writev(out, parts, length ? 2 : 1) != (ssize_t)(sizeof head + length)) abort();
}

static int ends(const char *path, const char *end) {
    size_t a = strlen(path), b = strlen(end);
    return a >= b && !strcmp(path + a - b, end);
}

static int ours(const char *path) {
    return !strncmp(path, prefix, strlen(prefix)) && !ends(path, "-shm") && !ends(path, ".lock");
}

static int number(const char *path) {
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], path)) return i + 1;
    names[count] = strdup(path);
    return ++count;
}

static int opened(int fd, const char *path, int flags) {
    struct stat is;
    if (fd < 0 || fd >= FDS || !ours(path)) return fd;
    pthread_mutex_lock(&lock);
    if (!fstat(fd, &is) && S_ISDIR(is.st_mode)) {
        file_of[fd] = DIRECTORY;
    } else if ((flags & O_ACCMODE) != O_RDONLY) {
        file_of[fd] = number(path);
        record('O', file_of[fd], 0, path, strlen(path));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

/* Under the lock: is it this call that fails? */
static int fails(char op) {
    if (fail_op != op || --fail_after) return 0;
    fail_op = 0;
    errno = fail_errno;
    return 1;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return opened(real_open(path, flags, mode), path, flags); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < FDS) file_of[fd] = 0;
    return real_close(fd);
}

static ssize_t written(int fd, const void *data, size_t length, off64_t offset, int positioned) {
    if (fd < 0 || fd >= FDS || !file_of[fd])
        return positioned ? real_pwrite(fd, data, length, offset) : real_write(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    if (!fails('W')) {
        if (!positioned) offset = lseek64(fd, 0, SEEK_CUR);
        done = positioned ? real_pwrite(fd, data, length, offset) : real_write(fd, data, length);
        if (done > 0) record('W', file_of[fd], offset, data, done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) { return written(fd, data, length, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return written(fd, data, length, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return written(fd, data, length, at, 1); }

static int truncated(int fd, off64_t length) {
    if (fd < 0 || fd >= FDS || !file_of[fd]) return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, length);
    if (!result) record('T', file_of[fd], length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

static int synced(int fd, int (*real)(int)) {
    if (fd < 0 || fd >= FDS || !file_of[fd]) return real(fd);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (file_of[fd] == DIRECTORY) {
        result = real(fd);
        record('D', DIRECTORY, 0, NULL, 0);
    } else if (fails('S')) {
        record('F', file_of[fd], 0, NULL, 0);
        errno = fail_errno;
    } else if (!(result = real(fd))) {
        record('S', file_of[fd], 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int unlink(const char *path) {
    int result = real_unlink(path);
    if (!result && ours(path)) {
        pthread_mutex_lock(&lock);
        record('U', 0, 0, path, strlen(path));
        pthread_mutex_unlock(&lock);
    }
    return result;
}

/* For the process itself, through ctypes. */
void recorder_mark(int64_t value) {
    pthread_mutex_lock(&lock);
    record('M', 0, value, NULL, 0);
    pthread_mutex_unlock(&lock);
}

void recorder_fail(char op, int after, int error) {
    pthread_mutex_lock(&lock);
    fail_op = op;
    fail_after = after;
    fail_errno = error;
    pthread_mutex_unlock(&lock);
}
