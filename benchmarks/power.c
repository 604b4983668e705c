/* A disk that forgets: what a process has written below POWER_FOLDER is kept in POWER_SHADOW only once it was fsynced.
 *
 * Loaded with LD_PRELOAD. The files themselves are written as always, so the process notices nothing; no fsync reaches
 * the real disk. In the shadow a file is named by inode and birth; `names` tells which names were durable when:
 *   F <path> <key>   a file was synced, which makes its present name durable too, as ext4, xfs and btrfs do
 *   D <path>         a folder was synced: of its files there are those that follow
 *   E <path> <key>
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct range { off_t start, end; struct range *next; };
struct file { char key[64]; struct range *ranges; struct file *next; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;
static const char *folder, *shadow, *base;
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

__attribute__((constructor)) static void begin(void) {
    folder = getenv("POWER_FOLDER");
    shadow = getenv("POWER_SHADOW");
    base = getenv("POWER_BASE");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
}

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    if (n <= 0 || !folder) return 0;
    path[n] = 0;
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int key_of(int at, const char *name, char *key, size_t size) {
    struct statx s;
    if (statx(at, name, *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &s)) return 0;
    snprintf(key, size, "%llu-%lld.%u", (unsigned long long)s.stx_ino, (long long)s.stx_btime.tv_sec, s.stx_btime.tv_nsec);
    return 1;
}

static void dirty(int fd, off_t start, off_t end) {
    char path[4096], key[64];
    if (end <= start || !path_of(fd, path, sizeof path) || !key_of(fd, "", key, sizeof key)) return;
    pthread_mutex_lock(&lock);
    struct file *f = files;
    while (f && strcmp(f->key, key)) f = f->next;
    if (!f) {
        f = calloc(1, sizeof *f);
        strcpy(f->key, key);
        f->next = files;
        files = f;
    }
    if (f->ranges && f->ranges->end == start) f->ranges->end = end;
    else {
        struct range *r = malloc(sizeof *r);
        *r = (struct range){start, end, f->ranges};
        f->ranges = r;
    }
    pthread_mutex_unlock(&lock);
}

static void say(const char *format, ...) {
    char line[8300], path[4096];
    va_list values;
    va_start(values, format);
    int n = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    snprintf(path, sizeof path, "%s/names", shadow);
    int out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out >= 0) { real_write(out, line, n); close(out); }
}

static void copy(int from, int to, off_t start, off_t end) {
    static char buffer[1 << 16];
    while (start < end) {
        ssize_t n = pread(from, buffer, end - start < (off_t)sizeof buffer ? end - start : (off_t)sizeof buffer, start);
        if (n <= 0) return;
        real_pwrite(to, buffer, n, start);
        start += n;
    }
}

static int durable(int fd) {
    char path[4096], key[64], name[8300];
    struct stat status;
    if (!path_of(fd, path, sizeof path) || fstat(fd, &status)) return 0;
    pthread_mutex_lock(&lock);
    if (S_ISDIR(status.st_mode)) {
        say("D %s\n", path);
        DIR *listing = opendir(path);
        for (struct dirent *e; listing && (e = readdir(listing));) {
            snprintf(name, sizeof name, "%s/%s", path, e->d_name);
            if (e->d_type == DT_REG && key_of(AT_FDCWD, name, key, sizeof key)) say("E %s %s\n", name, key);
        }
        if (listing) closedir(listing);
    } else if (key_of(fd, "", key, sizeof key)) {
        /* Closing any descriptor of a database gives up all its locks of this process: it is read by the one there is. */
        int writes_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        int from = writes_only ? open(name, O_RDONLY | O_CLOEXEC) : fd;
        snprintf(name, sizeof name, "%s/%s", shadow, key);
        int to = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        flock(to, LOCK_EX);  /* other processes sync the same file; its size must be that of now */
        fstat(fd, &status);
        struct stat so_far;
        if (!fstat(to, &so_far) && !so_far.st_size) {  /* what the file was when the power came */
            snprintf(name, sizeof name, "%s/%s", base, key);
            int before = open(name, O_RDONLY | O_CLOEXEC);
            struct stat old;
            if (before >= 0 && !fstat(before, &old)) copy(before, to, 0, old.st_size);
            if (before >= 0) close(before);
        }
        struct file *f = files;
        while (f && strcmp(f->key, key)) f = f->next;
        for (struct range *r = f ? f->ranges : NULL, *next; r; r = next) {
            next = r->next;
            copy(from, to, r->start, r->end);
            free(r);
        }
        if (f) f->ranges = NULL;
        if (ftruncate(to, status.st_size)) perror("power");
        if (from != fd) close(from);
        close(to);
        say("F %s %s\n", path, key);
    }
    pthread_mutex_unlock(&lock);
    return 1;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return durable(fd) ? 0 : real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return durable(fd) ? 0 : real(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    int appends = fd > 2 && fcntl(fd, F_GETFL) & O_APPEND;
    off_t start = fd > 2 ? lseek(fd, 0, appends ? SEEK_END : SEEK_CUR) : -1;
    ssize_t n = real_write(fd, data, size);
    if (start >= 0 && n > 0) dirty(fd, start, start + n);
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    off_t start = fd > 2 ? lseek(fd, 0, SEEK_CUR) : -1;
    ssize_t n = real(fd, parts, count);
    if (start >= 0 && n > 0) dirty(fd, start, start + n);
    return n;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t start) {
    ssize_t n = real_pwrite(fd, data, size, start);
    if (n > 0) dirty(fd, start, start + n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t start) { return pwrite64(fd, data, size, start); }

ssize_t sendfile64(int to, int from, off_t *start, size_t size) {
    static ssize_t (*real)(int, int, off_t *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "sendfile64");
    off_t at = lseek(to, 0, SEEK_CUR);
    ssize_t n = real(to, from, start, size);
    if (at >= 0 && n > 0) dirty(to, at, at + n);
    return n;
}

ssize_t sendfile(int to, int from, off_t *start, size_t size) { return sendfile64(to, from, start, size); }

ssize_t copy_file_range(int from, off_t *start, int to, off_t *at, size_t size, unsigned flags) {
    static ssize_t (*real)(int, off_t *, int, off_t *, size_t, unsigned);
    if (!real) real = dlsym(RTLD_NEXT, "copy_file_range");
    off_t begun = at ? *at : lseek(to, 0, SEEK_CUR);
    ssize_t n = real(from, start, to, at, size, flags);
    if (n > 0) dirty(to, begun, begun + n);
    return n;
}
